"""Column names of X in the first fit, and their comparison with the columns of later data frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc._utils.checks import short_repr
from nnc._utils.containers import column_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_NAMES_IN_MESSAGE = 5


def names_of(X: Any, ndim: int, n_in: int) -> list[Any] | None:
    """Return the column names of X, or the labels of its elements if X is a single row.

    Return None if X has no names or no name is text.
    """
    # For a network with one input, a vector is a column, so its elements have no column names.
    names = column_names(X, ndim) if ndim == 2 or n_in > 1 else None
    return names if names and any(isinstance(name, str) for name in names) else None


def distinct_names(names: Sequence[Any], n_in: int) -> tuple[str, ...] | None:
    """Return the names as a tuple, or None unless they are n_in different strings."""
    are_distinct = len(set(names)) == len(names) == n_in and all(isinstance(name, str) for name in names)
    return tuple(map(str, names)) if are_distinct else None


def reorder_columns(array: NDArray[Any], names: Sequence[Any], feature_names: tuple[str, ...]) -> NDArray[Any]:
    """Return the columns of an array in the order of the feature names; raise ValueError if the names differ."""
    if tuple(names) == feature_names:
        return array
    missing = [name for name in feature_names if name not in names]
    unknown = [name for name in names if name not in feature_names]
    repeated = [name for name in feature_names if names.count(name) > 1]
    problems = {"without": missing, "with the unknown": unknown, "with more than one": repeated}
    text = " and ".join(f"{problem} {_listed(columns)}" for problem, columns in problems.items() if columns)
    if text:
        raise ValueError(
            f"X must have the columns that the network was trained on ({_listed(feature_names)}), got X {text}; "
            "pass an array without names to skip this check"
        )
    return array[..., [names.index(name) for name in feature_names]]


def _listed(names: Sequence[Any]) -> str:
    """Return the names for a message, at most `MAX_NAMES_IN_MESSAGE` of them."""
    n_more = len(names) - MAX_NAMES_IN_MESSAGE
    return ", ".join(map(short_repr, names[:MAX_NAMES_IN_MESSAGE])) + (f" and {n_more} more" if n_more > 0 else "")
