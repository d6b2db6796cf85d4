"""The names of columns: what a fit has met is held against what comes later."""

from __future__ import annotations

from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

from nnc._utils.containers import column_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST = 5  # names in a message


def of(X: Any, ndim: int, n_in: int) -> list[Any] | None:
    """The names of the columns of X, or of the elements where it is one row; None where none of them is a name."""
    found = column_names(X, ndim) if ndim == 2 or n_in > 1 else None  # a vector is a column of a network of one input
    return found if found and any(isinstance(name, str) for name in found) else None


def to_remember(found: Sequence[Any], n_in: int) -> tuple[str, ...] | None:
    """The names that a network keeps: those that tell all its columns apart."""
    named = len(set(found)) == len(found) == n_in and all(isinstance(name, str) for name in found)
    return tuple(map(str, found)) if named else None


def in_order(array: NDArray[Any], found: Sequence[Any], known: tuple[str, ...]) -> NDArray[Any]:
    """The columns of an array in the order of the names that are known; ValueError where they are not these names."""
    if tuple(found) == known:
        return array
    missing, unknown = [name for name in known if name not in found], [name for name in found if name not in known]
    twice = [name for name in known if found.count(name) > 1]
    problems = {"without": missing, "with the unknown": unknown, "with more than one": twice}
    text = " and ".join(f"{how} {_listed(names)}" for how, names in problems.items() if names)
    if text:
        raise ValueError(
            f"X must have the columns that the network was trained on, {_listed(known)}, got it {text}; "
            "an array without names is taken as it is"
        )
    return array[..., [found.index(name) for name in known]]


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(map(shown, names[:MOST])) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
