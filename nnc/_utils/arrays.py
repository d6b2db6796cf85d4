"""What comes in and what goes out: arrays, checked and converted to what the engine takes."""

from __future__ import annotations

from contextlib import suppress
from struct import pack
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


SIMPLE = {float, int, bool, str, list, tuple}  # what a list holds that needs no closer look


def as_real_array(name: str, value: Any) -> NDArray[Any]:
    """`value` as an array of real numbers: booleans, integers or floats."""
    if type(value) is np.ndarray and value.dtype.kind in "biuf":
        return value
    if type(value) in (list, tuple) and set(map(type, value)) <= SIMPLE:
        with suppress(ValueError):  # told of below
            array = np.asarray(value)
            if array.dtype.kind in "biuf":
                return array
    from nnc._utils.containers import convert_to_real

    return convert_to_real(name, value)


def as_matrix(array: NDArray[Any], n: int) -> NDArray[Any]:
    """A vector as the only one of n rows, or as a column; whatever else as it is."""
    if array.ndim != 1:
        return array
    return array[None] if n == 1 and len(array) > 1 else array[:, None]


def as_contiguous(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """By rows and in this dtype; what is too large for it becomes infinite, without a warning: the checks that follow
    refuse it."""
    if type(array) is np.ndarray and array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    with np.errstate(over="ignore"):
        return np.require(array, dtype, ["C", "ALIGNED"])


def as_finite_array(name: str, value: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    array = as_real_array(name, value)
    if array.shape == shape:
        array = as_contiguous(array, dtype).reshape(shape)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
    return array


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raises where results of this shape and dtype cannot be written into `out` as they come."""
    if isinstance(out, np.ndarray) and out.shape == shape and out.dtype == dtype:
        flags = out.flags
        if flags.c_contiguous and flags.aligned and flags.writeable:
            return
        found = "one that lies otherwise in memory" if flags.writeable else "a read-only one"
    else:
        found = f"shape {out.shape} and dtype {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
    kind = ValueError if isinstance(out, np.ndarray) else TypeError
    raise kind(f"out must be a C-contiguous, writable array of shape {shape} and dtype {dtype}, got {found}")


def not_finite_error(
    name: str,
    rows: NDArray[Any],
    position: int,
    numbers: NDArray[Any] | None = None,
    shape: tuple[int, ...] = (),
) -> ValueError:
    """What to raise for this element; `numbers` are the numbers of the rows, if they are not counted from 0, `shape` is
    that of a row."""
    row, column = divmod(position, rows.shape[1])
    number = row if numbers is None else numbers[row]
    place = f"row {number}, column {column}"
    if len(shape) == 3:
        y, x, channel = np.unravel_index(column, shape)
        place = f"row {y}, column {x}, channel {channel} of image {number}"
    return ValueError(f"{name} must be finite in {rows.dtype}, got {rows[row, column]} in {place}")


def describe_shape(shape: tuple[int, ...]) -> str:
    """What came, for a message about columns."""
    if len(shape) == 2:
        return f"{pluralize(shape[1], 'column')} (shape {shape})"
    return f"shape {shape}"


def aligned_zeros(n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros that begin at a cache line, as the kernels' vectors do."""
    buffer = np.zeros(n * dtype.itemsize + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + n * dtype.itemsize].view(dtype)


def constant_array(value: float, n: int) -> NDArray[np.float64]:
    """n times the same number, read-only, in the memory of one."""
    return np.ndarray(n, np.float64, pack("d", value), 0, (0,))


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def to_lists(array: NDArray[Any]) -> Any:
    """As lists of floats; those of float32 rounded to the 9 digits that tell them apart."""
    if array.dtype == np.float64:
        return array.tolist()
    if array.ndim == 2:
        return [to_lists(row) for row in array]
    from nnc._utils.fields import MAX_FINITE

    largest = MAX_FINITE["float32"]  # which 9 digits round up, out of the range
    return [max(-largest, min(largest, float(f"{x:.9g}"))) for x in array.tolist()]
