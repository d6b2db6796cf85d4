"""Encoder and decoder of protocol buffers, for the features that ONNX uses.

A message is a sequence of fields, each with a number and a value. The tag of a field is its number times 8 plus the
wire type of its value. The wire types are 0 for a varint (7 bits per byte, lowest bits first), 1 for eight bytes, 2 for
a length followed by this many bytes, and 5 for four bytes. Specification of the encoding:
https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_MESSAGES = 10_000  # limit for the number of messages in one repeated field
# Kinds of fields that occur at most once, with the default value for a missing field.
DEFAULTS = {"int": 0, "float": 0.0, "text": "", "message": None}
# Wire types that each kind of field may have. Kinds that are not listed may have only wire type 2.
WIRE_TYPES = {"int": (0,), "ints": (0, 2), "float": (5,), "floats": (5, 2), "doubles": (1, 2)}
FIXED_SIZE_KINDS = ("floats", "doubles")  # kinds of repeated fields whose values are returned as concatenated bytes


def varint(value: int) -> bytes:
    """Encode an integer of at most 64 bits as a varint; negative integers are encoded by their two's complement."""
    value &= 2**64 - 1
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def message(*fields: tuple[int, Any]) -> bytes:
    """Encode a protocol buffer message.

    Parameters
    ----------
    *fields : (int, value)
        Number and value of each field. A value is an int, a float (encoded with four bytes), a str or bytes. A list of
        values is encoded as a repeated field. A field with the value None is omitted.
    """
    encoded = bytearray()
    for number, content in fields:
        for value in content if isinstance(content, list) else [] if content is None else [content]:
            if isinstance(value, int):
                encoded += varint(number << 3) + varint(value)
            elif isinstance(value, float):
                encoded += varint(number << 3 | 5) + struct.pack("<f", value)
            else:
                data = utf8(value) if isinstance(value, str) else value
                encoded += varint(number << 3 | 2) + varint(len(data)) + data
    return bytes(encoded)


def utf8(text: str) -> bytes:
    """Encode a text in UTF-8; raise ValueError if it contains a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"labels and names must be valid Unicode text, got {text!r}; rename this label") from None


def parse(content: bytes | memoryview, schema: Mapping[int, tuple[str, str]], owner: str) -> dict[str, Any]:
    """Decode a protocol buffer message, and return the values of its fields by name.

    Parameters
    ----------
    content : bytes or memoryview
        Encoded message.
    schema : dict of int to (str, str)
        Name and kind of each field by its number. Fields that occur at most once have the kind "int", "float", "text"
        or "message"; the value of a "message" is its bytes, or None if the field is missing. Repeated fields have the
        kind "ints" (a list), "floats" or "doubles" (their bytes), "texts" or "messages". A field of the kind "skip" is
        not returned.
    owner : str
        Name of the message in errors.

    Raises
    ------
    ValueError
        `content` is not a message, ends within a field, has a field that is not in the schema, or repeats a field that
        may occur only once.
    """
    content = memoryview(content)
    values: dict[str, Any] = {}
    offset = 0
    while offset < len(content):
        tag, offset = _varint(content, offset)
        value, offset = _value(content, offset, tag & 7)
        if tag >> 3 not in schema:
            raise ValueError(f"{owner} has a field with the number {tag >> 3}, which is not supported")
        name, kind = schema[tag >> 3]
        if kind == "skip":
            continue
        if tag & 7 not in WIRE_TYPES.get(kind, (2,)):
            raise ValueError(f"{owner} has the field {name!r} with an unexpected type; the file may be damaged")
        if kind in DEFAULTS:
            if name in values:
                raise ValueError(f"{owner} has the field {name!r} twice, expected once")
            values[name] = _single(value, kind)
        else:
            repeated = values.setdefault(name, [])
            _append(repeated, value, kind)
            if kind == "messages" and len(repeated) > MAX_MESSAGES:
                raise ValueError(f"{owner} has too many values of {name!r}, expected at most {MAX_MESSAGES:,}")
    for name, kind in schema.values():
        if kind in DEFAULTS:
            values.setdefault(name, DEFAULTS[kind])
        elif kind in FIXED_SIZE_KINDS:
            values[name] = b"".join(values.get(name, ()))
        elif kind != "skip":
            values.setdefault(name, [])
    return values


def _value(content: memoryview, offset: int, wire_type: int) -> tuple[Any, int]:
    """Decode the field value at an offset, and return the value (int or bytes) and the offset of its end."""
    if wire_type == 0:
        return _varint(content, offset)
    if wire_type == 2:
        n, offset = _varint(content, offset)
    elif wire_type in (1, 5):
        n = 8 if wire_type == 1 else 4
    else:
        raise ValueError("the file is not a protocol buffer message")
    if offset + n > len(content):
        raise ValueError("the file is truncated: it ends in the middle of a field; use another copy")
    return content[offset : offset + n], offset + n


def _single(value: Any, kind: str) -> Any:
    """Convert the value of a field that is not repeated to the Python type for the field kind `kind`."""
    if kind == "int":
        return signed(value)
    if kind == "float":
        return float(struct.unpack("<f", value)[0])
    return str(value, "utf-8") if kind == "text" else value


def _append(values: list[Any], value: Any, kind: str) -> None:
    """Append one value of a repeated field to `values`, or several values that are packed in one record."""
    if kind == "ints" and not isinstance(value, int):
        offset = 0
        while offset < len(value):
            number, offset = _varint(value, offset)
            values.append(signed(number))
    elif kind == "ints":
        values.append(signed(value))
    else:
        values.append(str(value, "utf-8") if kind == "texts" else value)


def _varint(content: memoryview, offset: int) -> tuple[int, int]:
    """Decode the varint at an offset, and return its value and the offset of its end."""
    value = 0
    for shift in range(0, 64, 7):
        if offset >= len(content):
            raise ValueError("the file is truncated: it ends in the middle of a number; use another copy")
        byte = content[offset]
        value |= (byte & 127) << shift
        offset += 1
        if byte < 128:
            return value, offset
    raise ValueError("the file has a number of more than 64 bits, so it is damaged or not a protocol buffer message")


def signed(value: int) -> int:
    """Convert an unsigned integer to the signed integer with the same lowest 64 bits."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
