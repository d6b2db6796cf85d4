"""Protocol buffers, as far as ONNX needs them: a message is a sequence of fields, each a number and a value.

Encoding: https://protobuf.dev/programming-guides/encoding. The tag of a field is its number times 8 plus how its value
is written: 0 a varint (7 bits a byte, the lowest first), 1 eight bytes, 2 a length and so many bytes, 5 four bytes.
"""

from __future__ import annotations

import struct
from typing import Any


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
                content = utf8(value) if isinstance(value, str) else value
                made += varint(number << 3 | 2) + varint(len(content)) + content
    return bytes(made)


def utf8(text: str) -> bytes:
    """Return text in UTF-8; ValueError names text with a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"labels and names must be text that UTF-8 can hold, got {text!r}; rename it") from None


def fields(content: bytes) -> dict[int, list[Any]]:
    """The values of a message by the numbers of their fields: int of a varint, bytes of everything else, for only who
    knows the field knows what they are.

    Raises
    ------
    ValueError
        It is no message, or not a whole one.
    """
    made: dict[int, list[Any]] = {}
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        value: Any
        if tag & 7 == 0:
            value, at = _varint(content, at)
        else:
            if tag & 7 == 2:
                n, at = _varint(content, at)
            elif tag & 7 in (1, 5):
                n = 8 if tag & 7 == 1 else 4
            else:
                raise ValueError("it is no message of protocol buffers")
            value, at = content[at : at + n], at + n
        if at > len(content):
            raise ValueError("it ends within a field; is it whole?")
        made.setdefault(tag >> 3, []).append(value)
    return made


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A whole number, and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(content):
            raise ValueError("it ends within a number; is it whole?")
        byte = content[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise ValueError("it has a number of more than 64 bits")


def signed(value: int) -> int:
    """A varint as a number of 64 bits with a sign."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def wholes(values: list[Any]) -> list[int]:
    """Whole numbers with a sign, each a field of its own or all in one."""
    made = []
    for value in values:
        if isinstance(value, int):
            made.append(signed(value))
        else:
            at = 0
            while at < len(value):
                number, at = _varint(value, at)
                made.append(signed(number))
    return made
