"""Protocol buffers, as far as ONNX needs them: a message is a sequence of fields, each a number and a value.

Encoding: https://protobuf.dev/programming-guides/encoding. The tag of a field is its number times 8 plus how its value
is written: 0 a varint (7 bits a byte, the lowest first), 1 eight bytes, 2 a length and so many bytes, 5 four bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


def varint(value: int) -> bytes:
    """A whole number; a negative one as its two's complement of 64 bits."""
    value &= 2**64 - 1
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


def message(*fields: tuple[int, Any]) -> bytes:
    """A message of these fields: numbers and values, which are int, float (four bytes), str, bytes, or lists of those.
    None is left out."""
    made = bytearray()
    for number, given in fields:
        for value in given if isinstance(given, list) else [] if given is None else [given]:
            if isinstance(value, int):
                made += varint(number << 3) + varint(value)
            elif isinstance(value, float):
                made += varint(number << 3 | 5) + struct.pack("<f", value)
            else:
                content = value.encode() if isinstance(value, str) else value
                made += varint(number << 3 | 2) + varint(len(content)) + content
    return bytes(made)
