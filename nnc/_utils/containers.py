"""Frames, tensors, tables, masked arrays, lists of objects: made into arrays with nothing lost on the way.

Nothing of their libraries is imported. They are known by what they offer: `__array__` (frames, tensors), `__dlpack__`
(tensors), `columns` or `column_names` and `dtypes` (frames and tables).
"""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import date, timedelta
from numbers import Integral, Number
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIME_DTYPES = ("date", "time", "duration")  # what the types of dates, times and differences are called
MISSING_TYPES = ("NAType", "NaTType")  # what pandas calls the types of its NA and NaT


def as_array(name: str, value: Any) -> NDArray[Any]:
    """`value` as an array of whatever it holds; ValueError where an element of it is masked, or the rows of a list have
    several lengths, TypeError where it is no container."""
    kind = type(value)
    if kind is np.ndarray:
        array: NDArray[Any] = value
        return array
    if _has_mask(value):
        return _unmasked(name, value)
    if kind in (list, tuple) and any(map(_has_mask, value)):
        value = [_unmasked(name, row, i) if _has_mask(row) else row for i, row in enumerate(value)]
    try:
        if hasattr(kind, "__dlpack__") and not hasattr(kind, "__array__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
    except MemoryError:
        raise
    except ValueError as error:
        raise ValueError(f"{name} must be an array of numbers with rows of one length: {error}") from None
    except Exception as error:  # whatever the container raises: a tensor on another device, or with a gradient
        raise TypeError(f"{name} must be an array of real numbers, got a {kind.__name__}: {error}") from None
    if array.ndim == 0 and array.dtype.kind == "O":
        raise TypeError(f"{name} must be an array of real numbers, got {_what_else(value)}")
    return array


def _has_mask(value: Any) -> bool:
    masked = sys.modules.get("numpy.ma")  # which takes its time to import; without it there are none
    return masked is not None and isinstance(value, masked.MaskedArray)


def _unmasked(name: str, value: Any, row: int | None = None) -> NDArray[Any]:
    """What is under a mask that hides nothing."""
    mask = np.ma.getmaskarray(value)
    if mask.dtype.names is None and mask.any():
        place = [int(i) for i in np.argwhere(mask)[0]]
        place = place if row is None else [row, *place]
        raise ValueError(
            f"{name} must have no masked elements, got one in {_at(place)}; fill it (numpy.ma.filled) or leave the row "
            "out"
        )
    return np.asarray(np.ma.getdata(value))


def _at(place: list[int]) -> str:
    words = [f"{word} {i}" for word, i in zip(("row", "column"), place, strict=False)]
    return ", ".join(words) if len(place) < 3 else f"place {tuple(place)}"


def _what_else(value: Any) -> str:
    """What came that is no array, and what to do about it."""
    for method in ("toarray", "collect", "to_numpy"):  # scipy's sparse matrices, polars' lazy frames, others
        if callable(getattr(value, method, None)):
            return f"a {type(value).__name__}; pass what its {method}() gives"
    if hasattr(value, "__arrow_c_stream__"):
        return f"a {type(value).__name__}; make it an array, by way of pandas, polars or pyarrow"
    return f"{value!r}" if value is None else f"a {type(value).__name__}"


# --------------------------------------------------------------------------------------------- names of columns


def column_names(value: Any, ndim: int = 2) -> list[Any] | None:
    """What a frame or table calls its columns, or, for `ndim` 1, a frame's row its elements; None of anything else."""
    kind = type(value)
    if ndim == 1:
        names = getattr(value, "index", None) if hasattr(kind, "index") else None
    else:
        names = next((getattr(value, key) for key in ("column_names", "columns") if hasattr(kind, key)), None)
    if names is None or callable(names):
        return None
    try:
        return list(names)
    except TypeError:
        return None


# --------------------------------------------------------------------------------------------- objects as numbers


def is_missing(value: Any) -> bool:
    """Whether it is None, NaN, NaT or what pandas calls NA."""
    if value is None or type(value).__name__ in MISSING_TYPES:
        return True
    return isinstance(value, (Number, np.datetime64, np.timedelta64)) and bool(value != value)


def is_real_type(kind: type) -> bool:
    """Whether it is a type of real numbers; Decimal is one, too."""
    return issubclass(kind, (Number, np.bool_)) and not issubclass(kind, (complex, np.complexfloating))


def convert_to_real(name: str, value: Any) -> NDArray[Any]:
    """`value` as an array of booleans, integers or floats; what is no number is refused with its column, the type and
    what to do."""
    array = as_array(name, value)
    if array.dtype.kind not in "biuf":
        return _unboxed(name, array, value)
    if array.ndim == 2 and hasattr(type(value), "dtypes"):
        for j, dtype in enumerate(value.dtypes):  # polars would make numbers of dates that stand beside numbers
            if str(dtype).lower().startswith(TIME_DTYPES):
                what = f"dates or times in {_label(j, value)}{_remedy(timedelta(0))}"
                raise TypeError(f"{name} must be an array of real numbers, got {what}")
    return array


def _unboxed(name: str, array: NDArray[Any], value: Any) -> NDArray[np.float64]:
    """The numbers in an array of objects that was made of `value`."""
    if array.dtype.kind != "O":
        raise TypeError(f"{name} must be an array of real numbers, got {_column(array, value)}")
    if array.size == 0:
        return array.astype(np.float64)
    columns = array.reshape(len(array), -1).T if array.ndim > 1 else [array]
    for j, column in enumerate(columns):
        values = column.tolist()
        kinds = set(map(type, values))
        if kinds == {float} or all(map(is_real_type, kinds)):
            continue
        row = next(i for i, x in enumerate(values) if not is_real_type(type(x)))
        if is_missing(values[row]):
            place = f"row {row}, {_label(j, value)}" if array.ndim > 1 else f"row {row}"
            raise ValueError(
                f"{name} must have no missing values, got {values[row]!r} in {place}; fill it or leave the row out"
            )
        what = f"{_what(values[row])} in row {row}" + (f", {_label(j, value)}" if array.ndim > 1 else "")
        raise TypeError(f"{name} must be an array of real numbers, got {what}{_remedy(values[row])}")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be an array of real numbers in the range of a float: {error}") from None


def _label(j: int, value: Any) -> str:
    """A column as messages call it: its number, and in a frame its name and type."""
    names = column_names(value)
    if names is None or j >= len(names):
        return f"column {j}"
    try:
        return f"column {j} ({names[j]!r}, of type {list(value.dtypes)[j]})"
    except (AttributeError, IndexError, TypeError):
        return f"column {j} ({names[j]!r})"


def _column(array: NDArray[Any], value: Any) -> str:
    """What an array holds, of one type that is no number."""
    if array.dtype.kind == "c":
        return "complex numbers"
    place = f" in {_label(0, value)}" if array.ndim > 1 and column_names(value) else ""
    if array.dtype.names is not None:
        fields = ", ".join(map(str, array.dtype.names))
        return (
            f"a structured array with the fields {fields}; make columns of them "
            "(numpy.lib.recfunctions.structured_to_unstructured)"
        )
    first = array.reshape(-1)[0] if array.size else ""
    return f"elements of type {array.dtype}{place}{_remedy(first)}"


def _what(value: Any) -> str:
    return f"{shown(value)} of type {type(value).__name__}"


def _remedy(value: Any) -> str:
    if isinstance(value, (str, bytes)):
        return "; make numbers of text: astype(float) where it is digits, a column for each category where it is names"
    if isinstance(value, (date, timedelta, np.datetime64, np.timedelta64)):
        return "; make numbers of dates and times, such as days since the first one"
    return "; make numbers of it, or leave it out"


# --------------------------------------------------------------------------------------------- objects as labels


def convert_labels(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """An array of objects, or of NumPy's strings of any length, as text or as numbers that are exact; what is neither
    stays as it is."""
    width = array.size // max(1, len(array))
    items = array.reshape(-1).tolist()
    kinds = set(map(type, items))
    for i, item in enumerate(items):
        if is_missing(item):
            raise ValueError(f"{name} must have no missing values, got {item!r} in row {i // width}; leave the row out")
    if any(issubclass(kind, (str, bytes)) for kind in kinds):
        _check_text(name, items, width)
    elif all(map(is_real_type, kinds)):
        exact = as_exact_array(items)
        if exact is None:
            found = f"{min(items)!r} and {max(items)!r}"
            raise ValueError(f"{name} must have labels that one type of number holds exactly, got {found}")
        return exact.reshape(array.shape)
    with suppress(ValueError):  # it holds sequences, which are no labels
        return np.array(array.tolist())
    return array


def _check_text(name: str, items: list[Any], width: int) -> None:
    """Raises where two labels would become one, or a number text."""
    kind = str if isinstance(items[0], str) else bytes if isinstance(items[0], bytes) else None
    for i, item in enumerate(items):
        if kind is None or not isinstance(item, kind):
            other = next(x for x in items if isinstance(x, (str, bytes))) if kind is None else items[0]
            raise TypeError(
                f"{name} must have labels of one kind, got {shown(item)} in row {i // width} beside {shown(other)}; "
                "make text of all of them, or numbers"
            )
        if item[-1:] in ("\0", b"\0"):  # NumPy's text does not keep it
            raise ValueError(
                f"{name} must have labels that do not end in a NUL character, got {shown(item)} in row {i // width}"
            )


def as_exact_array(items: list[Any]) -> NDArray[Any] | None:
    """Numbers as an array: booleans as bool, whole numbers as int64 or else uint64, all others as float64; None where
    that does not hold all the whole ones exactly."""
    kinds = set(map(type, items))
    if kinds <= {bool, np.bool_}:
        return np.array(items, bool)
    whole = {kind for kind in kinds if issubclass(kind, (Integral, np.bool_))}
    for dtype in (np.int64, np.uint64) if whole == kinds else (np.float64,):
        with suppress(OverflowError):
            array = np.array([dtype(item) for item in items], dtype)
            if all(a == b for a, b in zip(array.tolist(), items, strict=True) if type(b) in whole):
                return array
    return None
