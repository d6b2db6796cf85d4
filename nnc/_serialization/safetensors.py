"""Networks as safetensors files: numbers as bytes, the rest as the JSON text described in document.py.

The format (https://github.com/huggingface/safetensors#format): 8 bytes with the length of the header, the lowest first;
the header, JSON with the type, shape and place of each tensor, and strings by name under "__metadata__"; then the bytes
of all tensors, one after the other, without gaps.

Here a tensor stands for each array of the document and is called by its place there: "layers.0.W", "layers.0.b",
"training.moments.1". `__metadata__` has what is left of the document as "nnc", and as "sha256" the checksum: the
SHA-256 of that text and of the bytes of all tensors, in the order of their names.
"""

from __future__ import annotations

from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any

from nnc._serialization.document import FIX, ModelFileError, checked, recognize
from nnc._serialization.text import DAMAGED, parsed, refusing_content, whole, without_nulls
from nnc._utils import disk, fields
from nnc._utils.fields import member, members_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SUFFIX = ".safetensors"
TYPES = {"F64": "<f8", "F32": "<f4"}
LARGEST_HEADER = 100_000_000  # bytes, as the format has it


def is_path(target: Any) -> bool:
    """Whether a path asks for this format."""
    import os

    return isinstance(target, disk.PATH) and os.fsdecode(target).lower().endswith(SUFFIX)


def dumps(document: dict[str, Any]) -> bytes:
    """The file of a network whose numbers are arrays.

    Raises
    ------
    ModelFileError
        The document is not a whole network with finite numbers, or would be too large to be read again.
    """
    import json

    document = whole(document)
    tensors = {
        name: array.astype(array.dtype.newbyteorder("<"), order="C", copy=False) for name, array in _taken(document)
    }
    text = json.dumps(without_nulls(document))
    metadata = {"nnc": text, "sha256": _checksum(text, tensors)}
    header: dict[str, Any] = {"__metadata__": metadata}
    names = {kind: name for name, kind in TYPES.items()}
    at = 0
    for name, array in tensors.items():
        kind = names[array.dtype.newbyteorder("<").str]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)  # so that numbers are aligned
    if len(head) > LARGEST_HEADER or 8 + len(head) + at > disk.LARGEST:
        raise ModelFileError(
            f"cannot save the network: its file would have {8 + len(head) + at} bytes, expected {disk.LARGEST} at most"
        )
    return b"".join([len(head).to_bytes(8, "little"), head, *(array.data for array in tensors.values())])


def _taken(part: Any, place: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """Every array in a part of a document and the name of its place, in which null is left."""
    for key, value in [*(part.items() if type(part) is dict else enumerate(part))]:
        if hasattr(value, "dtype"):
            part[key] = None
            yield f"{place}{key}", value
        elif type(value) is dict or (type(value) is list and value and type(value[0]) not in (float, int, str)):
            yield from _taken(value, f"{place}{key}.")


def _put(document: Any, name: str, array: NDArray[Any]) -> None:
    """Puts an array to the place that its name says; ValueError where there is none, or something else is there."""
    part, key = document, ""
    *way, last = name.split(".")
    for key in (*way, last):
        at: Any = int(key) if type(part) is list and key.isascii() and key.isdecimal() and len(key) < 10 else key
        if not (at < len(part) if type(at) is int else type(part) is dict and at in part):
            raise ValueError(f"{shown(name)} is no place in the network")
        holder, part = part, part[at]
    if part is not None:
        raise ValueError(f"{shown(name)} is {shown(part)} already, expected null where a tensor stands for it")
    holder[at] = array


def _checksum(text: str, tensors: dict[str, NDArray[Any]]) -> str:
    from hashlib import sha256

    made = sha256(text.encode())
    for name in sorted(tensors):
        made.update(tensors[name].data)
    return made.hexdigest()


def loads(content: bytes, where: str) -> dict[str, Any]:
    """The network that a file holds, completely checked; its numbers are arrays, which are read-only.

    Raises
    ------
    ModelFileError
        The content is anything else. No other exception comes out of a wrong one.
    OSError
        There is not enough memory.
    """
    with refusing_content(where):
        metadata, tensors = _tensors(content)
        text = member(metadata, "nnc", str, where="__metadata__.")
        document = parsed(text)
        recognize(document)
        for name, array in tensors.items():
            _put(document, name, array)
        try:
            network = checked(document)
        except ValueError as error:
            raise ValueError(f"{error}; {FIX}") from None
        if member(metadata, "sha256", str, where="__metadata__.") != _checksum(text, tensors):
            raise ValueError(DAMAGED)
    return network


def _tensors(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The strings and the arrays of a file of this format, whatever they are; ValueError where it is none."""
    import numpy as np

    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(LARGEST_HEADER, len(content) - 8):
        raise ValueError("it is no safetensors file: its first 8 bytes are not the length of a header; is it whole?")
    try:
        header = members_of(parsed(content[8 : 8 + length].decode()), "the header")
    except UnicodeDecodeError as error:
        raise ValueError(f"its header is not text in UTF-8 (byte {error.start} does not fit)") from None
    metadata = member(header, "__metadata__", dict)
    data, spans = memoryview(content)[8 + length :], []
    tensors: dict[str, NDArray[Any]] = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            where = f"{shown(name)[1:-1]}."
            kind, shape, begin, end = _described(members_of(tensor, where[:-1]), where)
            dtype = np.dtype(TYPES[kind])
            if not begin <= end <= len(data) or end - begin != prod(shape) * dtype.itemsize:
                found = f"{where}data_offsets are {begin} and {end}"
                raise ValueError(f"{found}, which its shape or the file does not fit; is it whole?")
            spans.append((begin, end))
            tensors[name] = np.frombuffer(data[begin:end], dtype).reshape(shape)
    ends = [0, *(end for _, end in sorted(spans))]
    if [begin for begin, _ in sorted(spans)] != ends[:-1] or ends[-1] != len(data):
        raise ValueError("its tensors leave gaps between them, or bytes behind them; is it whole?")
    return metadata, tensors


def _described(tensor: dict[str, Any], where: str) -> tuple[str, list[int], int, int]:
    """What a header says of a tensor: type, shape, where it begins and ends."""
    kind = fields.name(tensor, "dtype", tuple(TYPES), where)
    shape, offsets = (member(tensor, key, list, where=where) for key in ("shape", "data_offsets"))
    if len(shape) > 2 or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise ValueError(f"{where}shape is not that of a matrix or a vector")
    if len(offsets) != 2 or not all(type(n) is int and n >= 0 for n in offsets):
        raise ValueError(f"{where}data_offsets is {shown(offsets)}, expected two places")
    return kind, shape, offsets[0], offsets[1]


# --------------------------------------------------------------------------------------------- files


def write(path: Any, document: dict[str, Any]) -> None:
    """Save a network whose numbers are arrays, atomically: see `text.write`."""
    disk.replace(path, dumps(document), "network")


def read(path: Any) -> dict[str, Any]:
    """Load a network, completely checked: see `loads` and `text.read`."""
    where = disk.place(path)
    content = b""
    with refusing_content(where), suppress(disk.WrongBeginningError):
        content = disk.read_bytes(path, "network", lambda piece: piece[8:9] == b"{")
    return loads(content, where)
