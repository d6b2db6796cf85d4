"""Conversion of frames, tensors, tables, masked arrays and lists of objects to arrays without loss of information.

The libraries of these containers are not imported. Containers are recognized by their attributes: `__array__` (frames,
tensors), `__dlpack__` (tensors), `columns` or `column_names` and `dtypes` (frames and tables).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, timedelta
from numbers import Integral, Number
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.checks import short_repr

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIME_DTYPES = ("date", "time", "duration")  # beginnings of the names of dtypes for dates and times in frames
MISSING_TYPES = ("NAType", "NaTType")  # names of the classes of NA and NaT in pandas


def as_array(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as an array of any dtype.

    Raises
    ------
    ValueError
        An element is masked, or the rows of a list have different lengths.
    TypeError
        `value` is not a container.
    """
    cls = type(value)
    if cls is np.ndarray:
        array: NDArray[Any] = value
        return array
    if _has_mask(value):
        return _unmasked(name, value)
    if cls in (list, tuple) and any(map(_has_mask, value)):
        value = [_unmasked(name, row, i) if _has_mask(row) else row for i, row in enumerate(value)]
    try:
        if hasattr(cls, "__dlpack__") and not hasattr(cls, "__array__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
    except MemoryError:
        raise
    except ValueError as error:
        reason = _describe_lengths(name, value) or f": {error}"
        raise ValueError(f"{name} must be an array of numbers with rows of one length{reason}") from None
    except Exception as error:  # libraries define exceptions of their own, such as for a tensor on another device
        raise TypeError(f"{name} must be an array of real numbers, got a {cls.__name__}: {error}") from None
    if array.ndim == 0 and array.dtype.kind == "O":
        raise TypeError(f"{name} must be an array of real numbers, got {_describe_scalar(value)}")
    return array


def _describe_lengths(name: str, value: Any) -> str:
    """Describe the first two rows of a sequence that have different shapes, as the end of a message; "" for others."""
    shapes: list[tuple[int, ...]] = []
    for i, row in enumerate(value if isinstance(value, Sequence) else ()):
        try:
            shapes.append(np.shape(row))
        except ValueError:
            return _describe_lengths(f"{name}[{i}]", row)
        if shapes[i] != shapes[0]:
            first, other = (_describe_size(value[k], shapes[k]) for k in (0, i))
            return f", got {first} in {name}[0] and {other} in {name}[{i}]"
    return ""


def _describe_size(row: Any, shape: tuple[int, ...]) -> str:
    """Return the length or the shape of a row for messages, or the value of a single element."""
    if len(shape) > 1:
        return f"shape {shape}"
    return f"a length of {shape[0]}" if shape else short_repr(row)


def _has_mask(value: Any) -> bool:
    """Return whether the value is a masked array."""
    numpy_ma = sys.modules.get("numpy.ma")  # if numpy.ma is not imported, no masked array exists
    return numpy_ma is not None and isinstance(value, numpy_ma.MaskedArray)


def _unmasked(name: str, value: Any, row: int | None = None) -> NDArray[Any]:
    """Return the data of a masked array; raise ValueError if an element is masked.

    If the array is a row of a list, `row` is its index in the list.
    """
    mask = np.ma.getmaskarray(value)
    if mask.dtype.names is None and mask.any():
        index = [int(i) for i in np.argwhere(mask)[0]]
        index = index if row is None else [row, *index]
        raise ValueError(
            f"{name} must have no masked elements, got one in {_location(index)}; fill it (numpy.ma.filled) or leave "
            "the row out"
        )
    return np.asarray(np.ma.getdata(value))


def _location(index: list[int]) -> str:
    """Return the location of an element for a message, such as "row 2, column 0"."""
    words = [f"{word} {i}" for word, i in zip(("row", "column"), index, strict=False)]
    return ", ".join(words) if len(index) < 3 else f"position {tuple(index)}"


def _describe_scalar(value: Any) -> str:
    """Describe a value that NumPy does not convert to an array, as the end of a message: type and remedy."""
    for method in ("toarray", "collect", "to_numpy"):  # conversion methods of sparse matrices, lazy frames and tables
        if callable(getattr(value, method, None)):
            return f"a {type(value).__name__}; pass the result of its method {method}()"
    if hasattr(value, "__arrow_c_stream__"):
        return f"a {type(value).__name__}; convert it with pandas, polars or pyarrow"
    return f"{value!r}" if value is None else f"a {type(value).__name__}"


# ---------------------------------------------------------------------------- column names of frames and tables


def column_names(value: Any, ndim: int = 2) -> list[Any] | None:
    """Return the column names of a frame or table, or None if it has none.

    With ndim=1 the value is a row of a frame, and its labels are returned.
    """
    cls = type(value)
    if ndim == 1:
        names = getattr(value, "index", None) if hasattr(cls, "index") else None
    else:
        names = next((getattr(value, key) for key in ("column_names", "columns") if hasattr(cls, key)), None)
    if names is None or callable(names):
        return None
    try:
        return list(names)
    except TypeError:
        return None


# ------------------------------------------------------------------------------- conversion of objects to numbers


def is_missing(value: Any) -> bool:
    """Return whether the value is None, NaN, NaT or the NA of pandas."""
    if value is None or type(value).__name__ in MISSING_TYPES:
        return True
    return isinstance(value, (Number, np.datetime64, np.timedelta64)) and bool(value != value)


def is_real_type(cls: type) -> bool:
    """Return whether the instances of a class are real numbers, such as float, bool and Decimal."""
    return issubclass(cls, (Number, np.bool_)) and not issubclass(cls, (complex, np.complexfloating))


def convert_to_real(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as an array of booleans, integers or floats.

    Raises
    ------
    ValueError
        A value is missing or out of range, or the rows have different lengths.
    TypeError
        A value is not a real number. The message has its location, its type and a remedy.
    """
    array = as_array(name, value)
    if array.dtype.kind not in "biuf":
        return _objects_to_floats(name, array, value)
    if array.ndim == 2 and hasattr(type(value), "dtypes"):
        for j, dtype in enumerate(value.dtypes):  # polars converts dates to numbers if other columns are numeric
            if str(dtype).lower().startswith(TIME_DTYPES):
                got = f"dates or times in {_column_label(j, value)}{_remedy(timedelta(0))}"
                raise TypeError(f"{name} must be an array of real numbers, got {got}")
    return array


def _objects_to_floats(name: str, array: NDArray[Any], value: Any) -> NDArray[np.float64]:
    """Convert an array of objects to floats; messages name columns of `value`, the original container."""
    if array.dtype.kind != "O":
        raise TypeError(f"{name} must be an array of real numbers, got {_describe_elements(array, value)}")
    if array.size == 0:
        return array.astype(np.float64)
    columns = array.reshape(len(array), -1).T if array.ndim > 1 else [array]
    for j, column in enumerate(columns):
        values = column.tolist()
        types = set(map(type, values))
        if types == {float} or all(map(is_real_type, types)):
            continue
        row = next(i for i, x in enumerate(values) if not is_real_type(type(x)))
        if is_missing(values[row]):
            location = f"row {row}, {_column_label(j, value)}" if array.ndim > 1 else f"row {row}"
            raise ValueError(
                f"{name} must have no missing values, got {values[row]!r} in {location}; fill it or leave the row out"
            )
        location = f" in row {row}" + (f", {_column_label(j, value)}" if array.ndim > 1 else "")
        got = f"{_describe_value(values[row])}{location}{_remedy(values[row])}"
        raise TypeError(f"{name} must be an array of real numbers, got {got}")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be an array of real numbers in the range of a float: {error}") from None


def _column_label(j: int, value: Any) -> str:
    """Return the index of a column, and in a frame also its name and dtype, for messages."""
    names = column_names(value)
    if names is None or j >= len(names):
        return f"column {j}"
    try:
        return f"column {j} ({names[j]!r}, of type {list(value.dtypes)[j]})"
    except (AttributeError, IndexError, TypeError):
        return f"column {j} ({names[j]!r})"


def _describe_elements(array: NDArray[Any], value: Any) -> str:
    """Describe the elements of an array that is not numeric, as the end of a message: type and remedy."""
    if array.dtype.kind == "c":
        return "complex numbers"
    location = f" in {_column_label(0, value)}" if array.ndim > 1 and column_names(value) else ""
    if array.dtype.names is not None:
        fields = ", ".join(map(str, array.dtype.names))
        return (
            f"a structured array with the fields {fields}; convert them to columns with "
            "numpy.lib.recfunctions.structured_to_unstructured"
        )
    first = array.reshape(-1)[0] if array.size else ""
    return f"elements of type {array.dtype}{location}{_remedy(first)}"


def _describe_value(value: Any) -> str:
    """Return a value and its type for a message, such as "'a' of type str"."""
    return f"{short_repr(value)} of type {type(value).__name__}"


def _remedy(value: Any) -> str:
    """Return the remedy for a value that is not a number, as the end of an error message."""
    if isinstance(value, (str, bytes)):
        return "; convert digits with astype(float), and encode categories as one-hot columns"
    if isinstance(value, (date, timedelta, np.datetime64, np.timedelta64)):
        return "; convert dates and times to numbers, such as days since the first date"
    return "; convert it to a number, or leave the column out"


# ------------------------------------------------------------------------------- conversion of objects to labels


def convert_labels(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return labels in an array of objects or of NumPy's variable-length strings as fixed-length text or exact numbers.

    Other arrays are returned unchanged.

    Raises
    ------
    ValueError
        A label is missing or ends in NUL, or numbers do not fit into one dtype exactly.
    TypeError
        Text and other values are mixed.
    """
    width = array.size // max(1, len(array))
    items = array.reshape(-1).tolist()
    types = set(map(type, items))
    for i, item in enumerate(items):
        if is_missing(item):
            raise ValueError(f"{name} must have no missing values, got {item!r} in row {i // width}; leave the row out")
    if any(issubclass(cls, (str, bytes)) for cls in types):
        _check_text(name, items, width)
    elif all(map(is_real_type, types)):
        exact = as_exact_array(items)
        if exact is None:
            got = f"{min(items)!r} and {max(items)!r}"
            raise ValueError(f"{name} must have labels that fit exactly into int64, uint64 or float64, got {got}")
        return exact.reshape(array.shape)
    # NumPy raises ValueError if sequences have different lengths; the array is then returned unchanged.
    with suppress(ValueError):
        return np.array(array.tolist())
    return array


def _check_text(name: str, items: list[Any], width: int) -> None:
    """Raise TypeError for labels of different types, and ValueError for labels that end in NUL, which NumPy drops."""
    text_type = str if isinstance(items[0], str) else bytes if isinstance(items[0], bytes) else None
    for i, item in enumerate(items):
        if text_type is None or not isinstance(item, text_type):
            other = next(x for x in items if isinstance(x, (str, bytes))) if text_type is None else items[0]
            raise TypeError(
                f"{name} must have labels of one type, got {short_repr(item)} in row {i // width} and "
                f"{short_repr(other)}; convert all to text or all to numbers"
            )
        if item[-1:] in ("\0", b"\0"):  # fixed-length strings of NumPy drop a trailing NUL
            raise ValueError(
                f"{name} must have labels that do not end in a NUL character, got {short_repr(item)} in row "
                f"{i // width}"
            )


def as_exact_array(items: list[Any]) -> NDArray[Any] | None:
    """Return numbers as an array of bool, int64, uint64 or float64, or None if no dtype represents all exactly."""
    types = set(map(type, items))
    if types <= {bool, np.bool_}:
        return np.array(items, bool)
    integer_types = {cls for cls in types if issubclass(cls, (Integral, np.bool_))}
    for dtype in (np.int64, np.uint64) if integer_types == types else (np.float64,):
        with suppress(OverflowError):
            array = np.array([dtype(item) for item in items], dtype)
            if all(a == b for a, b in zip(array.tolist(), items, strict=True) if type(b) in integer_types):
                return array
    return None
