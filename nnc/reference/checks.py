"""Checks of the arguments of the reference network, such as the lengths of lists and the range of numbers."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any


def check_supported(argument: str, names: Iterable[str], supported: Iterable[str]) -> None:
    """Raise ValueError unless the reference supports all `names`, the values of an argument."""
    for name in names:
        if name not in list(supported):
            raise ValueError(
                f"{argument} must be one of {', '.join(supported)} in the plain-Python reference, got {name!r}; "
                "nnc.NeuralNetwork supports more"
            )


def whole_number(name: str, value: Any, minimum: int) -> int:
    """Return an argument as int; raise TypeError or ValueError if it is no integer from minimum to 2**64 - 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not minimum <= value < 2**64:
        raise ValueError(f"{name} must be at least {minimum} and less than 2**64, got {value}")
    return int(value)


def positive(name: str, value: Any) -> float:
    """Return an argument as float; raise ValueError if it is not finite and positive."""
    if not hasattr(value, "__float__") or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number greater than 0, got {value!r}")
    return float(value)


def check_length(name: str, values: Sequence[Any], expected: int) -> None:
    """Raise ValueError if an argument does not have one item for each layer."""
    if len(values) != expected:
        raise ValueError(f"{name} must have {expected} items, one for each layer, got {len(values)}")


def checked_rows(
    name: str, table: Any, shape: tuple[int, ...], n_rows: int | None = None, steps: list[int] | None = None
) -> list[list[float]]:
    """Return rows of numbers (lists, tuples or an array) as lists of float.

    A flat y becomes a column. Images are flat rows, or nested lists [row][column][channel]; sequences are flat rows, or
    nested lists [step][feature]. If `steps` is given, it contains the number of steps of each sequence.

    Raises
    ------
    TypeError, ValueError
        The argument is not a list of n_rows rows of finite numbers, or a row does not have this shape.
    """
    required = f"{name} must be a list of rows, each a list of numbers"
    try:
        rows = as_list(table)
    except TypeError as error:
        raise TypeError(f"{required}: {error}") from None
    if not rows or len(rows) != (n_rows or len(rows)):
        expected = pluralize(n_rows, "row") if n_rows else "at least 1 row"
        raise ValueError(f"{name} must have {expected}, got {len(rows)}")
    shapes = [shape for _ in rows] if steps is None else [(count, *shape[1:]) for count in steps]
    try:
        if name == "y" and not hasattr(rows[0], "__iter__"):
            rows = [[number] for number in rows]
        if len(shape) > 1:
            rows = [flattened(as_list(row), row_shape) for row, row_shape in zip(rows, shapes)]
        rows = [[float(number) for number in row] for row in rows]
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{required}: {error}") from None
    for r, (row, row_shape) in enumerate(zip(rows, shapes)):
        n_columns = math.prod(row_shape)
        if len(row) != n_columns:
            raise ValueError(f"{name} must have {pluralize(n_columns, 'column')}, got {len(row)} in row {r}")
        for c, number in enumerate(row):
            if not math.isfinite(number):
                raise ValueError(f"{name} must be finite, got {number} in row {r}, column {c}")
    return rows


def is_list_of_sequences(X: Any) -> bool:
    """Return whether X is a list or an array of sequences [step][feature]."""
    rows = as_list(X) if hasattr(X, "__iter__") else []
    return bool(rows) and all(hasattr(row, "__len__") and len(row) > 0 and hasattr(row[0], "__len__") for row in rows)


def step_counts(X: Any, lengths: Any, any_steps: bool, steps: int) -> list[int]:
    """Return the number of steps of each sequence of X, from `lengths` or from the nested lists of X.

    Raises
    ------
    TypeError, ValueError
        X has no sequences, a sequence has more than `steps` steps although `any_steps` is False, or `lengths` does not
        have one number for each sequence, from 1 to the number of its steps.
    """
    try:
        available = [len(row) for row in as_list(X)]
        counts = available if lengths is None else [operator.index(count) for count in as_list(lengths)]
    except TypeError as error:
        raise TypeError(f"X must be a list of sequences [step][feature], lengths a list of integers: {error}") from None
    if len(counts) != len(available):
        raise ValueError(f"lengths must have {len(available)} numbers, one for each row of X, got {len(counts)}")
    for r, (count, longest) in enumerate(zip(counts, available)):
        longest = longest if any_steps else min(longest, steps)
        if not 1 <= count <= longest:
            raise ValueError(f"sequences must have from 1 to {longest} steps, got {count} in row {r}")
    return counts


def first_steps(name: str, table: Any, steps: list[int]) -> list[list[Any]]:
    """Return the first steps[i] items of each row i of a table.

    Raises
    ------
    TypeError, ValueError
        A row is not a list, or there is not one row for each number in `steps`.
    """
    try:
        rows = [as_list(row) for row in as_list(table)]
    except TypeError as error:
        raise TypeError(f"{name} must be a list of sequences, each a list of its steps: {error}") from None
    if len(rows) != len(steps):
        raise ValueError(f"{name} must have {pluralize(len(steps), 'row')}, got {len(rows)}")
    return [row[:count] for row, count in zip(rows, steps)]


def as_list(values: Any) -> list[Any]:
    """Return an array or any other iterable as a list."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


def flattened(values: Any, shape: tuple[int, ...]) -> list[Any]:
    """Return the elements of an image [row][column][channel] or of a sequence [step][feature] as one list.

    A flat list is returned unchanged. The innermost level may be missing if there is one channel or feature.
    """
    if not values or not hasattr(values[0], "__len__"):
        return list(values)
    # Do not show `shape` in the message, because it may be the shape of a part of the image.
    expected = "an image must be flat or have shape (height, width, channels), a sequence (steps, features)"
    if len(values) != shape[0]:
        raise ValueError(f"{expected}, got a list of {len(values)} items instead of {shape[0]}")
    parts = [flattened(part, shape[1:]) for part in values]
    if any(len(part) != math.prod(shape[1:]) for part in parts):
        raise ValueError(f"{expected}, got an item whose shape is not {shape[1:]}")
    return [number for part in parts for number in part]
