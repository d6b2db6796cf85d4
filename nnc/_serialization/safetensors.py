"""Networks as safetensors files: arrays as bytes, and all other members of the document as JSON text.

A file in this format (https://github.com/huggingface/safetensors#format) begins with the length of its header, as 8
bytes in little-endian order. The header is JSON with the dtype, shape and byte range of each tensor, and strings by
name under "__metadata__". The bytes of all tensors follow without gaps.

Each array of the document is a tensor. Its name is the path of the array in the document: "layers.0.W", "layers.0.b",
"training.moments.1". `__metadata__` has the document without arrays as "nnc", and a checksum as "sha256": the SHA-256
of this text and of the bytes of all tensors in the order of their names.
"""

from __future__ import annotations

from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any

from nnc._serialization.document import EDIT_REMEDY, ModelFileError, check_network_header, validated_document
from nnc._serialization.text import CHECKSUM_MISMATCH, document_to_save, drop_nulls, model_file_errors, parse
from nnc._utils import disk, fields
from nnc._utils.fields import describe, json_object, member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SUFFIX = ".safetensors"
TYPES = {"F64": "<f8", "F32": "<f4"}  # dtypes of NumPy by their names in the format
MAX_HEADER_BYTES = 100_000_000  # largest header that the format allows


def is_path(target: Any) -> bool:
    """Return whether a target is a path with the suffix of this format."""
    import os

    return isinstance(target, disk.PATH_TYPES) and os.fsdecode(target).lower().endswith(SUFFIX)


def dumps(document: dict[str, Any]) -> bytes:
    """Return the content of a file for a document whose numbers are arrays.

    Raises
    ------
    ModelFileError
        The document is not valid, or the file would be too large to be read.
    """
    import json

    document = document_to_save(document)
    tensors = {
        name: array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        for name, array in _extract_arrays(document)
    }
    text = json.dumps(drop_nulls(document))
    metadata = {"nnc": text, "sha256": _checksum(text, tensors)}
    header: dict[str, Any] = {"__metadata__": metadata}
    type_names = {dtype: name for name, dtype in TYPES.items()}
    offset = 0
    for name, array in tensors.items():
        type_name = type_names[array.dtype.newbyteorder("<").str]
        header[name] = {"dtype": type_name, "shape": [*array.shape], "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    header_bytes = json.dumps(header, separators=(",", ":")).encode()
    header_bytes += b" " * (-len(header_bytes) % 8)  # padding aligns the tensors to 8 bytes
    size = 8 + len(header_bytes) + offset
    if len(header_bytes) > MAX_HEADER_BYTES or size > disk.MAX_FILE_BYTES:
        raise ModelFileError(
            f"cannot save the network: its file would have {size} bytes, expected at most {disk.MAX_FILE_BYTES}"
        )
    arrays = (array.data for array in tensors.values())
    return b"".join([len(header_bytes).to_bytes(8, "little"), header_bytes, *arrays])


def _extract_arrays(part: Any, prefix: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the path and value of each array in a part of a document, and replace it by null."""
    for key, value in [*(part.items() if type(part) is dict else enumerate(part))]:
        if hasattr(value, "dtype"):
            part[key] = None
            yield f"{prefix}{key}", value
        elif type(value) is dict or (type(value) is list and value and type(value[0]) not in (float, int, str)):
            yield from _extract_arrays(value, f"{prefix}{key}.")


def _insert_array(document: Any, name: str, array: NDArray[Any]) -> None:
    """Store an array at its path in a document; raise ValueError if the path does not exist or is not null."""
    part = document
    for key in name.split("."):
        index: Any = int(key) if type(part) is list and key.isascii() and key.isdecimal() and len(key) < 10 else key
        if not (index < len(part) if type(index) is int else type(part) is dict and index in part):
            raise ValueError(f"the tensor {describe(name)} does not belong to a member of the network")
        parent, part = part, part[index]
    if part is not None:
        raise ValueError(f"{describe(name)} is {describe(part)}, expected null because there is a tensor of this name")
    parent[index] = array


def _checksum(text: str, tensors: dict[str, NDArray[Any]]) -> str:
    """Return the checksum of a file with this JSON text and these tensors."""
    from hashlib import sha256

    digest = sha256(text.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].data)
    return digest.hexdigest()


def loads(content: bytes, where: str) -> dict[str, Any]:
    """Return the validated document in the content of a file; its numbers are read-only arrays.

    Raises
    ------
    ModelFileError
        The file has other content. No other exception is raised for invalid files.
    OSError
        There is not enough memory.
    """
    with model_file_errors(where):
        metadata, tensors = _tensors(content)
        text = member(metadata, "nnc", str, where="__metadata__.")
        document = parse(text)
        check_network_header(document)
        for name, array in tensors.items():
            _insert_array(document, name, array)
        try:
            network = validated_document(document)
        except ValueError as error:
            raise ValueError(f"{error}; {EDIT_REMEDY}") from None
        if member(metadata, "sha256", str, where="__metadata__.") != _checksum(text, tensors):
            raise ValueError(CHECKSUM_MISMATCH)
    return network


def _tensors(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the metadata and the tensors of a file; raise ValueError if it is not a safetensors file."""
    import numpy as np

    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, len(content) - 8):
        raise ValueError(
            "it is not a safetensors file, or incomplete: its first 8 bytes are not the length of a header"
        )
    try:
        header = json_object(parse(content[8 : 8 + length].decode()), "the header")
    except UnicodeDecodeError as error:
        raise ValueError(f"its header is not UTF-8 text (invalid byte at position {error.start})") from None
    metadata = member(header, "__metadata__", dict)
    data, spans = memoryview(content)[8 + length :], []
    tensors: dict[str, NDArray[Any]] = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            where = f"{describe(name)[1:-1]}."
            type_name, shape, begin, end = _tensor_description(json_object(tensor, where[:-1]), where)
            dtype = np.dtype(TYPES[type_name])
            if not begin <= end <= len(data) or end - begin != prod(shape) * dtype.itemsize:
                offsets = f"{where}data_offsets are {begin} and {end}"
                raise ValueError(f"{offsets}, which does not match its shape, or the file is incomplete")
            spans.append((begin, end))
            tensors[name] = np.frombuffer(data[begin:end], dtype).reshape(shape)
    ends = [0, *(end for _, end in sorted(spans))]
    if [begin for begin, _ in sorted(spans)] != ends[:-1] or ends[-1] != len(data):
        raise ValueError("it has bytes that belong to no tensor, or it is incomplete")
    return metadata, tensors


def _tensor_description(tensor: dict[str, Any], where: str) -> tuple[str, list[int], int, int]:
    """Return the dtype, the shape, and the first and last offset of a tensor in the header."""
    type_name = fields.choice(tensor, "dtype", tuple(TYPES), where)
    shape, offsets = (member(tensor, key, list, where=where) for key in ("shape", "data_offsets"))
    if len(shape) > 2 or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise ValueError(f"{where}shape is {describe(shape)}, expected at most two whole numbers below 2**31")
    if len(offsets) != 2 or not all(type(n) is int and n >= 0 for n in offsets):
        raise ValueError(f"{where}data_offsets is {describe(offsets)}, expected two offsets")
    return type_name, shape, offsets[0], offsets[1]


# --------------------------------------------------------------------------------------------- files


def write(path: Any, document: dict[str, Any]) -> None:
    """Save a network whose numbers are arrays, atomically like `text.write`."""
    disk.replace_file(path, dumps(document), "network")


def read(path: Any) -> dict[str, Any]:
    """Return the validated document of a file, like `loads` and `text.read`."""
    where = disk.describe_source(path)
    content = b""
    with model_file_errors(where), suppress(disk.UnexpectedStartError):
        content = disk.read_bytes(path, "network", lambda piece: piece[8:9] == b"{")
    return loads(content, where)
