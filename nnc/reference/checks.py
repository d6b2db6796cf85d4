"""Checks of what a user gives: so that in the network itself no lists of different lengths meet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any


def supported(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in list(known):
            raise ValueError(
                f"{what} {name!r} is not in the plain-Python reference, which has {', '.join(known)}; "
                "what else there is, the compiled nnc.NeuralNetwork has"
            )


def whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if not least <= value < 2**64:
        raise ValueError(f"{name} must be at least {least} and less than 2**64, got {value}")
    return int(value)


def positive(name: str, value: Any) -> float:
    if not hasattr(value, "__float__") or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
    return float(value)


def same_length(name: str, values: Sequence[Any], of: Sequence[Any]) -> None:
    if len(values) != len(of):
        raise ValueError(f"{name} must have {len(of)} items, one per layer, got {len(values)}")


def rows_of(name: str, table: Any, shape: tuple[int, ...], n_rows: int | None = None) -> list[list[float]]:
    """A table of numbers (lists, tuples, arrays) as lists of float, checked. A flat y is a column; rows may be images,
    lists [row][column][channel] of this shape."""
    n_columns = math.prod(shape)
    try:
        rows = plain(table)
        if name == "y" and rows and not hasattr(rows[0], "__iter__"):
            rows = [[number] for number in rows]
        if len(shape) == 3:
            rows = [flat(plain(row), shape) for row in rows]
        rows = [[float(number) for number in row] for row in rows]
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name} must be a list of rows, each a list of numbers: {error}") from None
    if not rows or len(rows) != (n_rows or len(rows)):
        raise ValueError(f"{name} must have {n_rows or 'at least 1'} rows, got {len(rows)}")
    for r, row in enumerate(rows):
        if len(row) != n_columns:
            raise ValueError(f"{name} must have {pluralize(n_columns, 'column')}, got {len(row)} in row {r}")
        for c, number in enumerate(row):
            if not math.isfinite(number):
                raise ValueError(f"{name} must be finite, got {number} in row {r}, column {c}")
    return rows


def plain(values: Any) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)


def flat(values: Any, shape: tuple[int, ...]) -> list[Any]:
    """The numbers of an image [row][column][channel] as one list; what is not nested, is one already. A number of an
    image with one channel need not be in a list of its own."""
    if not values or not hasattr(values[0], "__len__"):
        return list(values)
    if len(values) != shape[0]:
        raise ValueError(f"an image must be flat, or nested as its shape is, but one has {len(values)} for {shape[0]}")
    parts = [flat(part, shape[1:]) for part in values]
    if any(len(part) != math.prod(shape[1:]) for part in parts):
        raise ValueError(f"an image must be flat, or nested as its shape is, but parts of one are not {shape[1:]}")
    return [number for part in parts for number in part]
