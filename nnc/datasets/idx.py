"""Arrays in files of the IDX format, which MNIST and the data sets in its place come in.

Two zero bytes, one for the type, one for the number of dimensions, four for the size of each, then the numbers, all of
them big-endian: http://yann.lecun.com/exdb/mnist.
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
MOST_DIMENSIONS = 32  # what every NumPy can make
LARGEST = 2**32  # bytes of numbers: a small compressed file may hold as many zeros as it likes


class _WrongContentError(Exception):
    """What is read is no IDX file; the message says why."""


def read_idx(path: str | bytes | os.PathLike[Any]) -> NDArray[Any]:
    """Load the array in an IDX file, the format of MNIST's images and labels.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        The file, compressed by gzip or not: its content tells, not its name.

    Returns
    -------
    ndarray
        Of the shape and the type that the file names (uint8, int8, int16, int32, float32 or float64), in this
        machine's byte order, and yours to change.

    Raises
    ------
    OSError
        The system refuses (FileNotFoundError, PermissionError and so on), the file is no whole IDX file, or memory is
        short; the message says what and where.
    TypeError
        `path` is none.

    Notes
    -----
    No more is read than the file's header promises, at most 4 GiB, and memory grows with what has been read: neither a
    header that promises too much nor a small file that unpacks to a very large one takes any.
    """
    if not isinstance(path, disk.PATH):
        raise TypeError(f"path must be a path (str or os.PathLike), got {type(path).__name__}")
    try:
        with disk.opened(path, "IDX file") as file:
            return _array(_unpacked(file) if file.peek(2)[:2] == b"\x1f\x8b" else file)
    except _WrongContentError as error:
        raise OSError(f"cannot load the IDX file {disk.place(path)}: {error}") from None
    except MemoryError:
        raise OSError(errno.ENOMEM, "cannot load the IDX file: there is not enough memory", os.fsdecode(path)) from None


def _array(file: BinaryIO) -> NDArray[Any]:
    dtype, shape = _header(file)
    size = math.prod(shape) * dtype.itemsize
    promise = f"the header promises {' x '.join(map(str, shape))} numbers of {dtype.name}, {pluralize(size, 'byte')}"
    if size > LARGEST:
        raise _WrongContentError(f"{promise}, more than the {LARGEST >> 30} GiB that are read; is it the right file?")
    content = bytearray()  # which the array lies in afterwards
    while piece := _read(file, min(disk.PIECE, size - len(content))):
        content += piece
    if len(content) < size:
        raise _WrongContentError(f"{promise}, and only {len(content)} are there; it may be cut short, get it again")
    if _read(file, 1):
        raise _WrongContentError(f"{promise}, and more are there; the file is damaged, or no IDX file")
    array: NDArray[Any] = np.ndarray(shape, dtype, content)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(file: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The type, as it is in the file, and the shape."""
    magic = _read(file, 4)
    if len(magic) < 4:
        raise _WrongContentError(f"it ends after {pluralize(len(magic), 'byte')}; get it again")
    if magic[:2] != b"\0\0":
        raise _WrongContentError(f"it begins with the bytes {magic.hex(' ')}, an IDX file with 00 00")
    kind, n_dimensions = magic[2:]
    if kind not in TYPES:
        known = ", ".join(f"{code:02x} ({name})" for code, name in TYPES.items())
        raise _WrongContentError(f"its third byte, the type of its numbers, is {kind:02x}, expected one of {known}")
    if not 1 <= n_dimensions <= MOST_DIMENSIONS:
        raise _WrongContentError(
            f"its fourth byte, the number of dimensions, is {n_dimensions}, expected 1 to {MOST_DIMENSIONS}"
        )
    sizes = _read(file, 4 * n_dimensions)
    if len(sizes) < 4 * n_dimensions:
        n_text = pluralize(n_dimensions, "dimension")
        raise _WrongContentError(f"it ends within the sizes of its {n_text}; get it again")
    dtype, shape = np.dtype(TYPES[kind]).newbyteorder(">"), unpack(f">{n_dimensions}I", sizes)
    if math.prod(max(1, n) for n in shape) * dtype.itemsize > sys.maxsize:  # which NumPy refuses for 0 numbers, too
        raise _WrongContentError(f"its sizes, {' x '.join(map(str, shape))}, are more than an array can have")
    return dtype, shape


def _unpacked(file: BinaryIO) -> BinaryIO:
    from gzip import GzipFile

    return GzipFile(fileobj=file)  # type: ignore[return-value]


def _read(file: BinaryIO, n: int) -> bytes:
    """The next n bytes, or what is left."""
    from zlib import error

    try:
        return file.read(n)
    except EOFError:
        raise _WrongContentError("its gzip stream is cut short; get it again") from None
    except (error, OSError) as reason:
        if isinstance(reason, OSError) and reason.errno is not None:  # the system's; gzip's own have none
            raise
        raise _WrongContentError(f"its gzip stream is damaged ({reason}); get it again") from None
