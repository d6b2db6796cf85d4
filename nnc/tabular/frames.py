"""What a table is: columns with names and kinds, read from frames, Arrow, arrays and lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

KINDS = ("number", "boolean", "text", "category", "date")


class Column:
    """A column as it was brought, of n rows.

    Attributes
    ----------
    name : str
    kind : str
        One of KINDS. "category" is what its container calls one (pandas' category, polars' Enum), "text" plain strings.
    values : array (n,)
        Of "number" and "boolean": any real dtype, the caller's own array where that is possible, missing ones NaN.
        Of "date": float64, seconds since 1970 (UTC), missing ones NaN. Of "text" and "category": int32, places in
        `levels`, missing ones -1.
    levels : tuple of str
        The different texts, in the order in which rows have them first; () of other kinds.
    """

    name: str
    kind: str
    values: NDArray[Any]
    levels: tuple[str, ...]


class Table:
    """Columns of the same length.

    Attributes
    ----------
    columns : tuple of Column
    named : bool
        Whether the names are the user's; where not, they are x0, x1, ..., and columns are known by their places.
    """

    columns: tuple[Column, ...]
    named: bool

    @property
    def names(self) -> tuple[str, ...]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def take(self, rows: ArrayLike) -> Table:
        """The rows of these numbers."""
        raise NotImplementedError


def read_table(X: Any, names: Sequence[str] | None = None) -> Table:
    """X as a table: a frame of pandas, polars or pyarrow, or what else narwhals knows or has `__arrow_c_stream__`; an
    array (n, columns), also of objects, structured or masked; a list of rows.

    Raises TypeError, ValueError."""
    raise NotImplementedError
