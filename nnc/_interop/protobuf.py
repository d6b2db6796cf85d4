"""Protocol buffers, as far as ONNX needs them: a message is a sequence of fields, each a number and a value.

Encoding: https://protobuf.dev/programming-guides/encoding. The tag of a field is its number times 8 plus the wire type
of its value: 0 a varint (7 bits a byte, the lowest first), 1 eight bytes, 2 a length and that many bytes, 5 four bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_MESSAGES = 10_000  # values of one repeated field of messages
EMPTY = {"int": 0, "float": 0.0, "text": "", "bytes": b"", "message": None}  # value of a single field that is absent
WIRE_TYPES = {"int": (0,), "ints": (0, 2), "float": (5,), "floats": (5, 2), "doubles": (1, 2)}  # of others: (2,)
FIXED = ("floats", "doubles")


def varint(value: int) -> bytes:
    """Encode a whole number; a negative one as its two's complement of 64 bits."""
    value &= 2**64 - 1
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


def message(*fields: tuple[int, Any]) -> bytes:
    """Encode fields: numbers and values, which are int, float (four bytes), str, bytes, or lists of those.

    None is left out.
    """
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


def parse(content: bytes | memoryview, schema: Mapping[int, tuple[str, str]], owner: str) -> dict[str, Any]:
    """Decode a message whose fields are all in the schema.

    Parameters
    ----------
    content : bytes or memoryview
    schema : dict of int to (str, str)
        Name and kind of each field. Kinds of single fields are "int", "float", "text", "bytes" and "message" (its
        bytes, None if it is absent); kinds of repeated ones "ints" (a list), "floats" and "doubles" (their bytes),
        "texts", "strings" (bytes) and "messages". A field of kind "skip" is not returned.
    owner : str
        Name of the message in errors.

    Raises
    ------
    ValueError
        It is no such message, ends within a field, has a field that the schema does not have, or a single one twice.
    """
    content = memoryview(content)
    values: dict[str, Any] = {}
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        value, at = _value(content, at, tag & 7)
        if tag >> 3 not in schema:
            raise ValueError(f"{owner} has the field {tag >> 3}, which is not supported")
        name, kind = schema[tag >> 3]
        if kind == "skip":
            continue
        if tag & 7 not in WIRE_TYPES.get(kind, (2,)):
            raise ValueError(f"{owner} has a {name!r} of another type")
        if kind in EMPTY:
            if name in values:
                raise ValueError(f"{owner} has {name!r} twice")
            values[name] = _single(value, kind)
        else:
            several = values.setdefault(name, [])
            _append(several, value, kind)
            if kind == "messages" and len(several) > MAX_MESSAGES:
                raise ValueError(f"{owner} has more than {MAX_MESSAGES:,} of {name!r}")
    for name, kind in schema.values():
        if kind in EMPTY:
            values.setdefault(name, EMPTY[kind])
        elif kind in FIXED:
            values[name] = b"".join(values.get(name, ()))
        elif kind != "skip":
            values.setdefault(name, [])
    return values


def _value(content: memoryview, at: int, wire_type: int) -> tuple[Any, int]:
    """Return a value, an int or bytes, and where it ends."""
    if wire_type == 0:
        return _varint(content, at)
    if wire_type == 2:
        n, at = _varint(content, at)
    elif wire_type in (1, 5):
        n = 8 if wire_type == 1 else 4
    else:
        raise ValueError("it is no message of protocol buffers")
    if at + n > len(content):
        raise ValueError("it ends within a field; is it whole?")
    return content[at : at + n], at + n


def _single(value: Any, kind: str) -> Any:
    if kind == "int":
        return signed(value)
    if kind == "float":
        return float(struct.unpack("<f", value)[0])
    return str(value, "utf-8") if kind == "text" else bytes(value) if kind == "bytes" else value


def _append(values: list[Any], value: Any, kind: str) -> None:
    if kind == "ints" and not isinstance(value, int):
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            values.append(signed(number))
    elif kind == "ints":
        values.append(signed(value))
    else:
        values.append(str(value, "utf-8") if kind == "texts" else bytes(value) if kind == "strings" else value)


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """Return a whole number, and where it ends."""
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
    """Return a varint as a number of 64 bits with a sign."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
