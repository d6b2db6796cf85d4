"""What a table is: columns with names and kinds, read from frames, Arrow, arrays and lists.

    table = read_table(frame)
    table.names, [column.kind for column in table.columns]

Frames are read by narwhals, which scikit-learn brings, column by column; numbers stay where they are.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from importlib.util import find_spec
from numbers import Integral
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw  # comes with scikit-learn
import numpy as np

from nnc._utils.checks import counted
from nnc._utils.containers import as_array, column_names
from nnc.tabular import cells
from nnc.tabular.zones import zone_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from nnc.tabular.cells import Column

    # names, shape, and of each column the arguments of cells.read that follow the name
    Read = tuple[Sequence[Any] | None, tuple[int, int], Iterable[tuple[Any, ...]]]


class Table:
    """Columns of the same length.

    Parameters
    ----------
    columns : sequence of Column
    named : bool
        Whether the names are the user's; where not, they are x0, x1, ..., and columns are known by their places.
    numbered : bool, default False
        Whether it comes from a frame whose columns have the default names 0, 1, ...: then it is not `named`, and a
        schema whose names are numbers still finds its columns by them.
    """

    columns: tuple[Column, ...]
    named: bool
    numbered: bool
    names: tuple[str, ...]

    def __init__(self, columns: Sequence[Column], named: bool, numbered: bool = False) -> None:
        self.columns, self.named, self.numbered = tuple(columns), named, numbered
        self.names = tuple(column.name for column in columns)

    def __len__(self) -> int:
        return len(self.columns[0].values)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def take(self, rows: ArrayLike | slice) -> Table:
        """The rows of these numbers, or of a mask or slice."""
        return Table([column.take(rows) for column in self.columns], self.named, self.numbered)


def read_table(X: Any, names: Sequence[str] | None = None) -> Table:
    """X as a table.

    Parameters
    ----------
    X : frame, array or list of rows
        A frame of pandas, polars or pyarrow, or what else narwhals knows or has `__arrow_c_stream__`; an array
        (n, columns), also of objects, structured or masked; a list of rows. What is missing is None, NaN, NaT, NA,
        masked, or blank text. Column names that are not text, such as integers or the tuples of a MultiIndex, become
        text; the default names 0, 1, ... of pandas are none.
    names : sequence of str, optional
        What the columns are called, whatever X says.

    Returns
    -------
    Table

    Raises
    ------
    TypeError
        X is no table, or a cell is no text, number or date; the message says which.
    ValueError
        It has no rows or no columns, two columns of one name, rows of several lengths, an infinite number, or numbers
        and text in one column.
    """
    found, (n, n_columns), columns = _of_frame(X) or _of_array(X)
    if names is not None:
        if isinstance(names, str) or len(names) != n_columns:
            raise ValueError(f"names must be {counted(n_columns, 'name')}, one a column, got {shown(names)}")
        found = list(names)
    if n == 0 or n_columns == 0:
        what = "sample" if n_columns else "feature"
        raise ValueError(f"X has 0 {what}(s) (shape=({n}, {n_columns})) while a minimum of 1 is required.")
    numbered = found is not None and list(map(_number, found)) == list(range(len(found)))
    known = None if found is None or numbered else _checked(found)
    called = known or [f"x{j}" for j in range(n_columns)]
    read = [cells.read(name, *column) for name, column in zip(called, columns, strict=True)]
    return Table(read, known is not None, numbered)


def _number(name: Any) -> int | None:
    """Return the name of a column if it is an integer; False and 0.0 are none, though they are equal to 0."""
    return int(name) if isinstance(name, Integral) and not isinstance(name, bool) else None


def _checked(names: Sequence[Any]) -> list[str]:
    """Return the names of columns as text; ValueError if two are the same."""
    known = list(map(str, names))
    if len(set(known)) < len(known):
        raise _same_names(known)
    return known


def _same_names(names: Sequence[str]) -> ValueError:
    twice = [f"{name!r} {times} times" for name, times in Counter(names).items() if times > 1]
    more = f" and {len(twice) - 5} more" if len(twice) > 5 else ""
    return ValueError(f"X must have columns of different names, got {', '.join(twice[:5])}{more}; rename them")


# --------------------------------------------------------------------------------------------- frames


def _of_frame(X: Any) -> Read | None:
    """The columns of a frame; None of anything else."""
    if isinstance(X, (np.ndarray, list, tuple)):
        return None
    try:
        frame = nw.from_native(X, pass_through=True, allow_series=True)
    except nw.exceptions.DuplicateError:
        raise _same_names(list(map(str, column_names(X) or ()))) from None
    if frame is X and not isinstance(X, (nw.DataFrame, nw.LazyFrame, nw.Series)):
        if not hasattr(X, "__arrow_c_stream__"):
            return None
        frame = nw.from_arrow(X, backend=_arrow_backend(X))
    if isinstance(frame, nw.LazyFrame):
        raise TypeError(f"X must be in memory, got a {type(X).__name__}; pass what its collect() or compute() gives")
    if isinstance(frame, nw.Series):
        raise ValueError("X must have two dimensions, got a series; make a frame of it (to_frame)")
    return frame.columns, frame.shape, map(_of_series, frame.iter_columns())


def _arrow_backend(X: Any) -> str:
    for package in ("pyarrow", "polars"):
        if find_spec(package):
            return package
    raise ImportError(f"X is a {type(X).__name__}, which Arrow describes: install pyarrow or polars to read it")


def _of_series(series: Any) -> tuple[Any, ...]:
    dtype = series.dtype
    if isinstance(dtype, (nw.List, nw.Array, nw.Struct)):
        raise TypeError(
            f"X: the argument must be a string, a number or a date in every cell, got column {series.name!r} of type "
            f"{dtype}; make a column of each part of it"
        )
    is_category = isinstance(dtype, (nw.Categorical, nw.Enum))
    if is_category or isinstance(dtype, nw.String):  # to_numpy is slow, and loses what Arrow's categories miss
        order = _order(dtype.categories) if isinstance(dtype, nw.Enum) else ()
        return _objects(series.to_list()), is_category, order
    array = np.asarray(series.to_numpy())
    if dtype.is_integer() and array.dtype.kind == "f" and np.nanmax(np.abs(array), initial=0) > cells.MAX_EXACT:
        array = _objects(series.to_list())  # with missing values, integers have become floats
    zone = dtype.time_zone if isinstance(dtype, nw.Datetime) else None
    return array, False, (), None if zone is None else zone_name(zone)


def _order(categories: Iterable[Any]) -> tuple[str, ...]:
    """Return ordered categories as text, without blank ones, which are missing; none if two have the same text."""
    order = [text for text in map(str, categories) if text.strip()]
    return tuple(order) if len(set(order)) == len(order) else ()


# --------------------------------------------------------------------------------------------- arrays


def _of_array(X: Any) -> Read:
    """The columns of an array, or of a list of rows."""
    if isinstance(X, (list, tuple)) and (columns := _of_rows(X)) is not None:
        return None, (len(X), len(columns)), columns
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise TypeError(f"X must be dense, got the sparse {type(X).__name__}; pass what its toarray() gives")
    if not isinstance(X, (list, tuple)) and not any(hasattr(X, name) for name in ("__array__", "__dlpack__")):
        raise TypeError(f"X must be a frame, an array or a list of rows, got {shown(X)} of type {type(X).__name__}")
    array = _filled(X) if isinstance(X, np.ma.MaskedArray) else as_array("X", X)
    if array.dtype.names is not None and array.ndim == 1:
        names = array.dtype.names
        return names, (len(array), len(names)), ((array[name], False) for name in names)
    if array.ndim != 2:
        raise ValueError(
            f"X must have shape (rows, columns), got shape {array.shape}. Reshape your data: X.reshape(-1, 1) is one "
            "column, X.reshape(1, -1) one row"
        )
    return None, array.shape, ((array[:, j], False) for j in range(array.shape[1]))


def _filled(X: Any) -> NDArray[Any]:
    """A masked array with NaN, NaT or None where it is masked."""
    mask, array = np.ma.getmaskarray(X), np.ma.getdata(X)
    kind = array.dtype.kind
    if array.dtype.names is not None:
        raise TypeError("X must be a structured array without a mask; make a frame of it, with missing values")
    if kind in "iuf":
        return np.where(mask, np.nan, array)
    return np.where(mask, np.array("NaT", array.dtype) if kind in "Mm" else np.array(None), array)


def _of_rows(rows: Any) -> list[tuple[NDArray[Any], bool]] | None:
    """The columns of a list of rows, in which NumPy would make text of the numbers beside it; None where an array of
    them has all that they have."""
    with suppress(ValueError):  # one holds a list, or they are of several lengths
        array = np.asarray(rows)
        if array.dtype.kind in "biuf" or array.ndim != 2:
            return None
    for i, row in enumerate(rows):
        if not hasattr(row, "__len__") or isinstance(row, str):
            raise TypeError(f"X must have rows that are lists of cells, got {shown(row)} in row {i}")
        if len(row) != len(rows[0]):
            raise ValueError(
                f"X must have rows of one length, got {len(rows[0])} cells in row 0 and {len(row)} in row {i}"
            )
    return [(_objects(column), False) for column in zip(*rows, strict=True)]


def _objects(items: Sequence[Any]) -> NDArray[Any]:
    """An array of these objects, whatever they hold."""
    array = np.empty(len(items), object)
    array[:] = items
    return array
