"""Networks as safetensors files: arrays as bytes, and all other members of the document as JSON text.

A safetensors file (https://github.com/huggingface/safetensors#format) begins with the length of its header, as 8
bytes in little-endian order. The header is JSON with the dtype, shape and byte range of each tensor; its member
"__metadata__" maps names to strings. The bytes of all tensors follow without gaps.

Each array of the document is a tensor. Its name is the path of the array in the document: "layers.0.W", "layers.0.b",
"training.moments.1". In "__metadata__", "nnc" is the document without arrays as JSON text, and "sha256" is a checksum:
the SHA-256 of this text and of the bytes of all tensors in the order of their names.
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
TYPES = {"F64": "<f8", "F32": "<f4"}  # NumPy dtypes by the names that safetensors uses
MAX_HEADER_BYTES = 100_000_000  # maximum length of a header in the safetensors format


def is_path(target: Any) -> bool:
    """Return whether a target is a path with the suffix ".safetensors"."""
    import os

    return isinstance(target, disk.PATH_TYPES) and os.fsdecode(target).lower().endswith(SUFFIX)


def dumps(document: dict[str, Any]) -> bytes:
    """Return the bytes of a safetensors file for a document whose matrices and vectors are NumPy arrays.

    Raises
    ------
    ModelFileError
        The document is not valid, or the file would exceed the size limit for reading.
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
    header_bytes += b" " * (-len(header_bytes) % 8)  # padding of the header aligns the tensors to 8 bytes
    size = 8 + len(header_bytes) + offset
    if len(header_bytes) > MAX_HEADER_BYTES or size > disk.MAX_FILE_BYTES:
        raise ModelFileError(
            f"cannot save the network: the file would have {size} bytes, expected at most {disk.MAX_FILE_BYTES}"
        )
    arrays = (array.data for array in tensors.values())
    return b"".join([len(header_bytes).to_bytes(8, "little"), header_bytes, *arrays])


def _extract_arrays(part: Any, prefix: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the path and value of each array in a part of a document, and replace the array by None."""
    for key, value in [*(part.items() if type(part) is dict else enumerate(part))]:
        if hasattr(value, "dtype"):
            part[key] = None
            yield f"{prefix}{key}", value
        elif type(value) is dict or (type(value) is list and value and type(value[0]) not in (float, int, str)):
            yield from _extract_arrays(value, f"{prefix}{key}.")


def _insert_array(document: Any, name: str, array: NDArray[Any]) -> None:
    """Replace the null at the path `name` of a document by an array; raise ValueError if there is no null."""
    part = document
    for key in name.split("."):
        index: Any = int(key) if type(part) is list and key.isascii() and key.isdecimal() and len(key) < 10 else key
        if not (index < len(part) if type(index) is int else type(part) is dict and index in part):
            raise ValueError(
                f"the tensor {describe(name)} does not belong to a parameter or training state of the network"
            )
        parent, part = part, part[index]
    if part is not None:
        raise ValueError(f"{describe(name)} is {describe(part)}, expected null because a tensor has the same name")
    parent[index] = array


def _checksum(text: str, tensors: dict[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of the JSON text and of the bytes of the tensors in the order of their names."""
    from hashlib import sha256

    digest = sha256(text.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].data)
    return digest.hexdigest()


def loads(content: bytes, where: str) -> dict[str, Any]:
    """Return the validated document in the content of a safetensors file; its arrays are read-only.

    Raises
    ------
    ModelFileError
        The file is not a valid safetensors file of a network. No other exception is raised for invalid files.
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
    """Return the metadata and the tensors of a safetensors file; raise ValueError if `content` is not valid."""
    import numpy as np

    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, len(content) - 8):
        raise ValueError(
            "the file is not a safetensors file, or is incomplete: its first 8 bytes are not the length of a header"
        )
    try:
        header = json_object(parse(content[8 : 8 + length].decode()), "the header")
    except UnicodeDecodeError as error:
        raise ValueError(f"the header is not UTF-8 text (invalid byte at position {error.start})") from None
    metadata = header.get("__metadata__", {})
    if type(metadata) is dict and "nnc" not in metadata:
        raise ValueError(
            f"{'__metadata__.nnc' if metadata else '__metadata__'} is missing, so the file is not from nnc; load its "
            "tensors into a model of PyTorch or Keras, and pass the model to nnc.from_torch or nnc.from_keras"
        )
    metadata = member(header, "__metadata__", dict)
    data, spans = memoryview(content)[8 + length :], []
    tensors: dict[str, NDArray[Any]] = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            where = f"{describe(name)[1:-1]}."
            type_name, shape, begin, end = _tensor_description(json_object(tensor, where[:-1]), where)
            dtype = np.dtype(TYPES[type_name])
            if not begin <= end <= len(data) or end - begin != prod(shape) * dtype.itemsize:
                size = prod(shape) * dtype.itemsize
                raise ValueError(
                    f"{where}data_offsets are {begin} and {end}, expected a range of {size} bytes in the file for the "
                    f"shape {shape}; the file may be incomplete"
                )
            spans.append((begin, end))
            tensors[name] = np.frombuffer(data[begin:end], dtype).reshape(shape)
    ends = [0, *(end for _, end in sorted(spans))]
    if [begin for begin, _ in sorted(spans)] != ends[:-1] or ends[-1] != len(data):
        raise ValueError("the file has bytes that belong to no tensor, or is incomplete; use another copy of the file")
    return metadata, tensors


def _tensor_description(tensor: dict[str, Any], where: str) -> tuple[str, list[int], int, int]:
    """Return the dtype, the shape, and the start and end offset of a tensor, as described in the header."""
    type_name = fields.choice(tensor, "dtype", tuple(TYPES), where)
    shape, offsets = (member(tensor, key, list, where=where) for key in ("shape", "data_offsets"))
    if len(shape) > 2 or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise ValueError(f"{where}shape is {describe(shape)}, expected at most two whole numbers below 2**31")
    if len(offsets) != 2 or not all(type(n) is int and n >= 0 for n in offsets):
        raise ValueError(f"{where}data_offsets is {describe(offsets)}, expected two whole numbers of at least 0")
    return type_name, shape, offsets[0], offsets[1]


# --------------------------------------------------------------------------------------------- reading and writing


def write(path: Any, document: dict[str, Any]) -> None:
    """Save the document of a network as a safetensors file, atomically as `text.write` does."""
    disk.replace_file(path, dumps(document), "network")


def read(path: Any) -> dict[str, Any]:
    """Return the validated document of the network in a safetensors file; errors are those of `text.read`."""
    where = disk.describe_source(path)
    content = b""
    with model_file_errors(where), suppress(disk.UnexpectedStartError):
        content = disk.read_bytes(path, "network", lambda piece: piece[8:9] == b"{")
    return loads(content, where)
