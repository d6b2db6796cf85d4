"""Checks and conversions of arrays."""

from __future__ import annotations

from contextlib import suppress
from struct import pack
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


PLAIN_TYPES = {float, int, bool, str, list, tuple}  # lists with only these types are passed to NumPy without checks


def as_real_array(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as an array of booleans, integers or floats.

    Parameters
    ----------
    name : str
        Name of the argument, for messages.
    value : array_like
        Array, list, frame, table or tensor.

    Raises
    ------
    ValueError
        The rows have different lengths, or an element is masked or missing.
    TypeError
        An element is not a real number.
    """
    if type(value) is np.ndarray and value.dtype.kind in "biuf":
        return value
    if type(value) in (list, tuple) and set(map(type, value)) <= PLAIN_TYPES:
        with suppress(ValueError):  # convert_to_real raises a ValueError with a better message
            array = np.asarray(value)
            if array.dtype.kind in "biuf":
                return array
    from nnc._utils.containers import convert_to_real

    return convert_to_real(name, value)


def as_matrix(array: NDArray[Any], n: int) -> NDArray[Any]:
    """Convert a vector to a matrix: a row if n, the expected number of rows, is 1, otherwise a column.

    Matrices are returned unchanged.
    """
    if array.ndim != 1:
        return array
    return array[None] if n == 1 and len(array) > 1 else array[:, None]


def as_contiguous(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the array C-contiguous, aligned and in this dtype.

    Numbers that are too large for the dtype become infinite without a warning, because the checks that follow reject
    infinite numbers.
    """
    if type(array) is np.ndarray and array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    with np.errstate(over="ignore"):
        return np.require(array, dtype, ["C", "ALIGNED"])


def as_finite_array(name: str, value: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return `value` as an array of this shape and dtype; raise ValueError unless all its numbers are finite."""
    array = as_real_array(name, value)
    if array.shape == shape:
        array = as_contiguous(array, dtype).reshape(shape)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
    return array


def as_weights(name: str, value: ArrayLike, n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return sample weights as an array (n,); raise ValueError if one is negative or not finite, or if all are 0."""
    weights = as_finite_array(name, value, (n,), dtype)
    if weights.min() < 0 or not weights.any():
        found = f"got the smallest {weights.min():g} and the largest {weights.max():g}"
        raise ValueError(f"{name} must be 0 or more, and not zero for all rows, {found}")
    return weights


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise ValueError or TypeError unless `out` is a writable, C-contiguous array of this shape and dtype."""
    if isinstance(out, np.ndarray) and out.shape == shape and out.dtype == dtype:
        flags = out.flags
        if flags.c_contiguous and flags.aligned and flags.writeable:
            return
        got = "an array that is not contiguous" if flags.writeable else "a read-only array"
    else:
        got = f"shape {out.shape} and dtype {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
    error = ValueError if isinstance(out, np.ndarray) else TypeError
    raise error(f"out must be a C-contiguous, writable array of shape {shape} and dtype {dtype}, got {got}")


def not_finite_error(
    name: str,
    rows: NDArray[Any],
    position: int,
    row_numbers: NDArray[Any] | None = None,
    shape: tuple[int, ...] = (),
) -> ValueError:
    """Return the ValueError for an element that is not finite.

    Parameters
    ----------
    name : str
        Name of the argument.
    rows : array (n, n_in)
        Array that contains the element.
    position : int
        Index of the element in the flattened rows.
    row_numbers : int array (n,), optional
        Numbers of the rows for the message. Default: 0 to n - 1.
    shape : tuple of int, optional
        Shape of a row, if rows are images or sequences.
    """
    row, column = divmod(position, rows.shape[1])
    number = row if row_numbers is None else row_numbers[row]
    location = f"row {number}, column {column}"
    if len(shape) == 3:
        y, x, channel = np.unravel_index(column, shape)
        location = f"row {y}, column {x}, channel {channel} of image {number}"
    elif len(shape) == 2:
        step, feature = divmod(column, shape[1])
        location = f"step {step}, feature {feature} of sequence {number}"
    return ValueError(f"{name} must be finite in {rows.dtype}, got {rows[row, column]} in {location}")


def describe_shape(shape: tuple[int, ...]) -> str:
    """Return a shape as text for messages: "2 columns (shape (3, 2))" for a matrix, otherwise "shape (3,)"."""
    if len(shape) == 2:
        return f"{pluralize(shape[1], 'column')} (shape {shape})"
    return f"shape {shape}"


def aligned_zeros(n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return n zeros that start at a cache line of 64 bytes, as the kernels require."""
    buffer = np.zeros(n * dtype.itemsize + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + n * dtype.itemsize].view(dtype)


def constant_array(value: float, n: int) -> NDArray[np.float64]:
    """Return a read-only array that repeats one number n times and stores it once."""
    return np.ndarray(n, np.float64, pack("d", value), 0, (0,))


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Make an array read-only, and return it."""
    array.flags.writeable = False
    return array


def to_lists(array: NDArray[Any]) -> Any:
    """Return an array as nested lists of floats; float32 is rounded to 9 digits, which identify each number."""
    if array.dtype == np.float64:
        return array.tolist()
    if array.ndim == 2:
        return [to_lists(row) for row in array]
    from nnc._utils.fields import MAX_FINITE

    largest = MAX_FINITE["float32"]  # rounding to 9 digits could exceed the largest float32
    return [max(-largest, min(largest, float(f"{x:.9g}"))) for x in array.tolist()]
