"""Tables: columns with names and kinds, read from data frames, Arrow data, arrays and lists of rows.

    table = read_table(frame)
    table.names, [column.kind for column in table.columns]

narwhals reads frames column by column. Numbers are not copied. Frequent kinds of pandas
columns are read directly, because narwhals takes longer than the prediction of one row.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import suppress
from importlib.util import find_spec
from numbers import Integral
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np

from nnc._tables import cells
from nnc._tables.zones import zone_name
from nnc._utils.checks import pluralize, short_repr
from nnc._utils.containers import as_array, column_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from nnc._tables.cells import Column

    # Parts of a table: column names or None, shape (rows, columns), and for each column the arguments of
    # cells.read_column after `name`.
    TableParts = tuple[Sequence[Any] | None, tuple[int, int], Iterable[tuple[Any, ...]]]


class Table:
    """Table whose columns have equal numbers of rows.

    Parameters
    ----------
    columns : sequence of Column
    named : bool
        Whether the frame or array from which the table was read has column names. Otherwise the names are x0, x1, ...,
        and columns are matched with the training table by position.
    numbered : bool, default False
        Whether the table was read from a frame with the default names 0, 1, ... Such a table is not `named`. If the
        column names of the training table are numbers, columns are matched by number.
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

    def select(self, rows: ArrayLike | slice) -> Table:
        """Return a table with only the selected rows; `rows` is an array of indices, a mask or a slice."""
        return Table([column.select_rows(rows) for column in self.columns], self.named, self.numbered)


def read_table(X: Any, names: Sequence[str] | None = None) -> Table:
    """Convert a data frame, an array or a list of rows to a Table.

    Parameters
    ----------
    X : frame, array or list of rows
        A frame of pandas, polars or pyarrow, or any other frame that narwhals supports or that has the method
        `__arrow_c_stream__`; an array (n, columns), which may contain objects, be structured or be masked; or a list
        of rows. Missing values are None, NaN, NaT, NA, masked cells, blank text, and texts such as "?" and "n/a" in
        columns that are not text. Column names that are not text, such as integers or the tuples of a MultiIndex,
        become text. The default names 0, 1, ... of pandas do not count as names.
    names : sequence of str, optional
        Names of the columns, instead of the names in X.

    Returns
    -------
    Table

    Raises
    ------
    TypeError
        X is not a table, or a cell is not text, a number or a date (the message locates the cell).
    ValueError
        X has no rows, no columns, two columns with the same name, rows of different lengths, an infinite number, or
        values of different kinds in one column, such as numbers and other text, or booleans and other numbers than 0
        and 1.
    """
    container_names, (n, n_columns), columns = _read_frame(X) or _read_array(X)
    if names is not None:
        if isinstance(names, str) or len(names) != n_columns:
            raise ValueError(
                f"names must be {pluralize(n_columns, 'name')}, one for each column, got {short_repr(names)}"
            )
        container_names = list(names)
    if n == 0 or n_columns == 0:
        what = "sample" if n_columns else "feature"
        raise ValueError(f"X has 0 {what}(s) (shape=({n}, {n_columns})) while a minimum of 1 is required.")
    numbered = False
    if container_names is not None:
        numbered = list(map(_integer_name, container_names)) == list(range(len(container_names)))
    user_names = None if container_names is None or numbered else _unique_names(container_names)
    names = user_names or [f"x{j}" for j in range(n_columns)]
    read_columns = [cells.read_column(name, *column) for name, column in zip(names, columns, strict=True)]
    return Table(read_columns, user_names is not None, numbered)


def _integer_name(name: Any) -> int | None:
    """Return the name of a column as an int if it is an integer, otherwise None; True and 1.0 do not count."""
    return int(name) if isinstance(name, Integral) and not isinstance(name, bool) else None


def _unique_names(names: Sequence[Any]) -> list[str]:
    """Convert the names of columns to text; raise ValueError if two texts are equal."""
    texts = list(map(str, names))
    if len(set(texts)) < len(texts):
        raise _duplicate_names_error(texts)
    return texts


def _duplicate_names_error(names: Sequence[str]) -> ValueError:
    """Return the error for columns with equal names."""
    duplicates = [f"{name!r} {times} times" for name, times in Counter(names).items() if times > 1]
    more = f" and {len(duplicates) - 5} more" if len(duplicates) > 5 else ""
    return ValueError(f"X must have columns with different names, got {', '.join(duplicates[:5])}{more}; rename them")


# --------------------------------------------------------------------------------------------- frames


def _read_frame(X: Any) -> TableParts | None:
    """Return names, shape and columns of a frame as TableParts, or None if X is not a frame."""
    if isinstance(X, (np.ndarray, list, tuple)):
        return None
    pandas = sys.modules.get("pandas")
    if pandas is not None and type(X) is pandas.DataFrame and X.columns.is_unique:
        return X.columns.tolist(), X.shape, (_read_pandas_series(series, pandas) for _, series in X.items())
    try:
        frame = nw.from_native(X, pass_through=True, allow_series=True)
    except nw.exceptions.DuplicateError:
        raise _duplicate_names_error(list(map(str, column_names(X) or ()))) from None
    if frame is X and not isinstance(X, (nw.DataFrame, nw.LazyFrame, nw.Series)):
        if not hasattr(X, "__arrow_c_stream__"):
            return None
        frame = nw.from_arrow(X, backend=_arrow_backend(X))
    if isinstance(frame, nw.LazyFrame):
        kind = type(X).__name__
        raise TypeError(f"X must be in memory, got a {kind}; pass the result of collect() or compute()")
    if isinstance(frame, nw.Series):
        raise ValueError("X must have two dimensions, got a series; convert it to a frame with to_frame()")
    return frame.columns, frame.shape, map(_read_series, frame.iter_columns())


def _arrow_backend(X: Any) -> str:
    """Return "pyarrow" or "polars", which read Arrow data; raise ImportError if neither is installed."""
    for package in ("pyarrow", "polars"):
        if find_spec(package):
            return package
    raise ImportError(f"X must be readable, got Arrow data ({type(X).__name__}); install pyarrow or polars to read it")


def _read_pandas_series(series: Any, pandas: Any) -> tuple[Any, ...]:
    """Return the arguments of cells.read_column for a column of a pandas frame; `pandas` is the module."""
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return series.to_numpy(), False
    if isinstance(dtype, pandas.StringDtype):
        return series.to_numpy(object), False
    if isinstance(dtype, pandas.DatetimeTZDtype):
        return series.to_numpy(f"M8[{dtype.unit}]"), False, (), zone_name(str(dtype.tz))
    return _read_series(nw.from_native(series, series_only=True))


def _read_series(series: Any) -> tuple[Any, ...]:
    """Return the arguments of cells.read_column for a column of a frame."""
    dtype = series.dtype
    if isinstance(dtype, (nw.List, nw.Array, nw.Struct)):
        raise TypeError(
            f"X: each cell of this argument must be a string, a number or a date, got column {series.name!r} of type "
            f"{dtype}; split it into several columns"
        )
    is_category = isinstance(dtype, (nw.Categorical, nw.Enum))
    # Use to_list for text and categories: to_numpy is slow, and does not preserve missing Arrow categories.
    if is_category or isinstance(dtype, nw.String):
        order = _category_order(dtype.categories) if isinstance(dtype, nw.Enum) else ()
        return _object_array(series.to_list()), is_category, order
    array = np.asarray(series.to_numpy())
    # Read large integers again by to_list: if values are missing, to_numpy has rounded them to float64.
    was_integer = dtype.is_integer() and array.dtype.kind == "f"
    if was_integer and np.nanmax(np.abs(array), initial=0) > cells.MAX_EXACT_INTEGER:
        array = _object_array(series.to_list())
    zone = dtype.time_zone if isinstance(dtype, nw.Datetime) else None
    return array, False, (), None if zone is None else zone_name(zone)


def _category_order(categories: Iterable[Any]) -> tuple[str, ...]:
    """Return the texts of ordered categories, except blank ones; return () if two texts are equal."""
    order = [text for text in map(str, categories) if text.strip()]
    return tuple(order) if len(set(order)) == len(order) else ()


# --------------------------------------------------------------------------------------------- arrays


def _read_array(X: Any) -> TableParts:
    """Return names, shape and columns of an array or of a list of rows as TableParts."""
    if isinstance(X, (list, tuple)) and (columns := _read_rows(X)) is not None:
        return None, (len(X), len(columns)), columns
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise TypeError(f"X must be dense, got the sparse {type(X).__name__}; pass the result of its toarray()")
    if not isinstance(X, (list, tuple)) and not any(hasattr(X, name) for name in ("__array__", "__dlpack__")):
        raise TypeError(
            f"X must be a frame, an array or a list of rows, got {short_repr(X)} of type {type(X).__name__}"
        )
    array = _fill_masked(X) if isinstance(X, np.ma.MaskedArray) else as_array("X", X)
    if array.dtype.names is not None and array.ndim == 1:
        names = array.dtype.names
        return names, (len(array), len(names)), ((array[name], False) for name in names)
    if array.ndim != 2:
        raise ValueError(
            f"X must have shape (rows, columns), got shape {array.shape}. Reshape your data: use X.reshape(-1, 1) for "
            "one column, X.reshape(1, -1) for one row"
        )
    return None, array.shape, ((array[:, j], False) for j in range(array.shape[1]))


def _fill_masked(X: Any) -> NDArray[Any]:
    """Convert a masked array to an array that has NaN, NaT or None in place of the masked cells."""
    mask, array = np.ma.getmaskarray(X), np.ma.getdata(X)
    kind = array.dtype.kind
    if array.dtype.names is not None:
        raise TypeError("X must not be a masked structured array; pass a frame with missing values")
    if kind in "iuf":
        return np.where(mask, np.nan, array)
    return np.where(mask, np.array("NaT", array.dtype) if kind in "Mm" else np.array(None), array)


def _read_rows(rows: Any) -> list[tuple[NDArray[Any], bool]] | None:
    """Return the columns of a list of rows as object arrays, or None if np.asarray converts the rows without loss.

    If a column contains text, np.asarray would also convert the numbers of the other columns to text. If only some
    cells are booleans, it would convert them to numbers.
    """
    with suppress(ValueError):  # ignore the error of NumPy for rows of different lengths or cells that are lists
        array = np.asarray(rows)
        if array.ndim != 2 or array.dtype.kind == "b" or (array.dtype.kind in "iuf" and not _contain_booleans(rows)):
            return None
    for i, row in enumerate(rows):
        if not hasattr(row, "__len__") or isinstance(row, str):
            raise TypeError(f"X must be a list of rows that are lists of cells, got {short_repr(row)} in row {i}")
        if len(row) != len(rows[0]):
            raise ValueError(
                f"X must have rows of equal length, got {len(rows[0])} cells in row 0 and {len(row)} in row {i}"
            )
    return [(_object_array(column), False) for column in zip(*rows, strict=True)]


def _contain_booleans(rows: Iterable[Any]) -> bool:
    """Return whether a list of rows contains a boolean; rows that are arrays are not searched."""
    return any(isinstance(row, (list, tuple)) and not {bool, np.bool_}.isdisjoint(map(type, row)) for row in rows)


def _object_array(items: Sequence[Any]) -> NDArray[Any]:
    """Return a one-dimensional object array of the items, even if they are sequences."""
    array = np.empty(len(items), object)
    array[:] = items
    return array
