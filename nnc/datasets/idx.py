"""Reader of the IDX format, in which MNIST and similar data sets are distributed.

A file begins with two zero bytes, a byte for the type of the numbers, a byte for the number of dimensions, and four
bytes for the size of each dimension. The numbers follow. All values are big-endian.
Source: http://yann.lecun.com/exdb/mnist.
"""

from __future__ import annotations

import errno
import math
import os
import sys
from struct import unpack
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils import disk
from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from typing import BinaryIO

    from numpy.typing import NDArray

TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
MAX_DIMENSIONS = 32  # number of dimensions that every version of NumPy supports
MAX_ARRAY_BYTES = 2**32  # maximum bytes of the decompressed numbers, because a small file may decompress to any size


class _InvalidContentError(Exception):
    """Error for a file whose content is not valid IDX; the message states the reason."""


def read_idx(path: str | bytes | os.PathLike[Any]) -> NDArray[Any]:
    """Load the array in an IDX file, the format of MNIST's images and labels.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        Path of the file. Whether it is compressed by gzip is detected from its content.

    Returns
    -------
    ndarray
        Writable array with the shape and the type of the file (uint8, int8, int16, int32, float32 or float64), in
        native byte order.

    Raises
    ------
    OSError
        The file cannot be opened (FileNotFoundError, PermissionError and so on), is not a complete IDX file, or does
        not fit into memory. The message states the reason and the file.
    TypeError
        `path` is not a path.

    Notes
    -----
    At most the bytes announced in the header are read, and at most 4 GiB. Memory is allocated as the content is read.
    So a damaged header, or a small file that decompresses to a very large one, allocates little memory.
    """
    try:
        with disk.open_binary(path, "IDX file") as file:
            return _read_array(_decompress(file) if file.peek(2)[:2] == b"\x1f\x8b" else file)
    except _InvalidContentError as error:
        raise OSError(f"cannot load the IDX file {disk.describe_source(path)}: {error}") from None
    except MemoryError:
        raise OSError(errno.ENOMEM, "cannot load the IDX file: there is not enough memory", os.fsdecode(path)) from None


def _read_array(file: BinaryIO) -> NDArray[Any]:
    dtype, shape = _read_header(file)
    size = math.prod(shape) * dtype.itemsize
    header = f"the header announces {' x '.join(map(str, shape))} numbers of {dtype.name}, {pluralize(size, 'byte')}"
    if size > MAX_ARRAY_BYTES:
        raise _InvalidContentError(
            f"{header}, more than the limit of {MAX_ARRAY_BYTES >> 30} GiB; check that it is the right file"
        )
    content = bytearray()  # the returned array is a view of this memory
    while chunk := _read(file, min(disk.CHUNK_BYTES, size - len(content))):
        content += chunk
    if len(content) < size:
        raise _InvalidContentError(
            f"{header}, but only {len(content)} bytes follow; the file may be truncated, download it again"
        )
    if _read(file, 1):
        raise _InvalidContentError(f"{header}, but more bytes follow; the file is damaged or not an IDX file")
    array: NDArray[Any] = np.ndarray(shape, dtype, content)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_header(file: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Read the header of an IDX file; return the big-endian dtype of the numbers, and the shape."""
    magic = _read(file, 4)
    if len(magic) < 4:
        raise _InvalidContentError(f"the file ends after {pluralize(len(magic), 'byte')}; download it again")
    if magic[:2] != b"\0\0":
        raise _InvalidContentError(f"an IDX file must begin with the bytes 00 00, got {magic.hex(' ')}")
    type_code, n_dimensions = magic[2:]
    if type_code not in TYPES:
        choices = ", ".join(f"{code:02x} ({name})" for code, name in TYPES.items())
        raise _InvalidContentError(f"the third byte, the type of the numbers, must be {choices}, got {type_code:02x}")
    if not 1 <= n_dimensions <= MAX_DIMENSIONS:
        raise _InvalidContentError(
            f"the fourth byte, the number of dimensions, must be from 1 to {MAX_DIMENSIONS}, got {n_dimensions}"
        )
    sizes = _read(file, 4 * n_dimensions)
    if len(sizes) < 4 * n_dimensions:
        raise _InvalidContentError(
            f"the file is truncated: the sizes of its {pluralize(n_dimensions, 'dimension')} are incomplete; "
            "download it again"
        )
    dtype, shape = np.dtype(TYPES[type_code]).newbyteorder(">"), unpack(f">{n_dimensions}I", sizes)
    # NumPy refuses a shape whose nonzero sizes multiply to more than sys.maxsize bytes, even if another size is 0.
    if math.prod(max(1, n) for n in shape) * dtype.itemsize > sys.maxsize:
        raise _InvalidContentError(f"the sizes {' x '.join(map(str, shape))} are too large for an array")
    return dtype, shape


def _decompress(file: BinaryIO) -> BinaryIO:
    from gzip import GzipFile

    return GzipFile(fileobj=file)  # type: ignore[return-value]


def _read(file: BinaryIO, n: int) -> bytes:
    """Return the next n bytes of a file, or fewer at its end."""
    from zlib import error

    try:
        return file.read(n)
    except EOFError:
        raise _InvalidContentError("the gzip stream is truncated; download the file again") from None
    except (error, OSError) as reason:
        if isinstance(reason, OSError) and reason.errno is not None:  # errors of the gzip format have no errno
            raise
        raise _InvalidContentError(f"the gzip stream is damaged ({reason}); download the file again") from None
