"""Texts of numbers, sums and equations in explanations, and the choice of the items that are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SHOWN = 12  # lists of at most this many neurons, inputs or rows are printed completely
SHORTENED_LENGTH = 3  # number of items that are printed if a list is longer than MAX_SHOWN


def first(n: int, limit: int = MAX_SHOWN) -> range:
    """Return the indices of the items that are printed of n items: all, or the first ones if n exceeds `limit`."""
    return range(n if n <= limit else SHORTENED_LENGTH)


def omitted(n: int, noun: str, indent: str = "  ") -> Iterator[str]:
    """Yield a line that states how many of n items are not printed; yield nothing if all are printed."""
    if n > MAX_SHOWN:
        yield f"{indent}... and {n - SHORTENED_LENGTH} more {noun}s"


def digits(number: float) -> str:
    """Return a number as text for a formula; negative numbers are in parentheses."""
    return f"{number + 0.0:.9g}" if number >= 0 else f"({number:.9g})"  # adding 0.0 turns -0.0 into 0.0


def equal(formula: str, number: float) -> str:
    """Return the text "formula = number", or only the number if the formula consists of this number."""
    return f"{number:.9g}" if formula == digits(number) else f"{formula} = {number:.9g}"


def added(terms: list[str], last: list[str] | None = None, limit: int = MAX_SHOWN, separator: str = " + ") -> str:
    """Return the text of the sum of `terms` and `last`; only the first terms if there are more than `limit`."""
    more = [f"({len(terms) - SHORTENED_LENGTH} more)"] if len(terms) > limit else []
    return separator.join([terms[i] for i in first(len(terms), limit)] + more + (last or []))
