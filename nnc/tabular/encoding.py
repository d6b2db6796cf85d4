"""What every way has in common in which a column becomes numbers, and how what it has learned is checked."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from itertools import pairwise
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from nnc._utils.checks import finite, within
from nnc._utils.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from nnc._interop.table import Written
    from nnc.tabular.cells import Column

    Floats = NDArray[np.float64]
    Out = NDArray[np.float32]

TINY = sys.float_info.min
ValueT = TypeVar("ValueT", bound=Value)


class Encoding(Value, ABC):
    """What is made of a column.

    `taken` finds what the cells of a column stand for, in all rows, and holds what they have themselves where that is
    enough; `write` and `write_bins` make columns of some of these rows.
    """

    type: ClassVar[str]  # in documents
    later: ClassVar[Mapping[str, Any]] = {}  # members that older documents have not, as they were then
    codes: ClassVar[str]  # what `coded` gives, for people

    @property
    def width(self) -> int:
        """How many plain columns it makes."""
        return 1

    @property
    def n_bins(self) -> int:
        """How many columns the piecewise-linear encoding has."""
        return 0

    @abstractmethod
    def taken(self, column: Column) -> NDArray[Any]:
        """The cells (n,); ValueError with the first that is of another kind than the training rows had."""

    @abstractmethod
    def write(self, cells: NDArray[Any], out: Out) -> None:
        """Some of them into (rows, width), which holds zeros."""

    def write_bins(self, cells: NDArray[Any], out: Out) -> None:
        """Some of them into (rows, n_bins)."""

    def coded(self, column: Column) -> Floats:
        """The cells (n,) as models in other formats take them: numbers, seconds, codes; NaN where there is none."""
        return self.taken(column).astype(np.float64)

    @abstractmethod
    def written(self) -> Written:
        """What `write` and `write_bins` make of what `coded` gives, for other formats."""

    @property
    def example(self) -> float:
        """What `coded` gives for some cell of the training rows."""
        return 0.0

    def unseen(self, column: Column) -> dict[str, int]:
        """The texts that no training row had, and how many rows have them."""
        return {}

    @abstractmethod
    def made(self) -> str:
        """What was made of the column, in words."""

    def document(self) -> dict[str, Any]:
        """As JSON holds it, exactly."""
        values = {name: getattr(self, name) for name in self._fields}
        return {"type": self.type} | {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Encoding):
        return value.document()
    return list(value) if isinstance(value, tuple) else value


def from_members(kind: type[ValueT], members: Mapping[str, Any], where: str) -> ValueT:
    """Return an encoding or format with these members; ValueError with location and reason if one is invalid."""
    try:
        return kind(**{name: members[name] for name in kind._fields})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}.{error}") from None


def some_texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(type(text) is str and text.strip() for text in value):
        raise ValueError(f"{name} must be a list of texts, got {shown(value)}")
    if len(set(value)) < len(value):
        raise ValueError(f"{name} must be different texts, got one twice")
    return tuple(value)


def some_numbers(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} must be a list of numbers, got {shown(value)}")
    return tuple(finite(f"{name}[{i}]", number) for i, number in enumerate(value))


def rising(name: str, value: Any) -> tuple[float, ...]:
    numbers = some_numbers(name, value)
    if any(low / 2 >= high / 2 for low, high in pairwise(numbers)):
        raise ValueError(f"{name} must be increasing numbers, got {shown(value)}")
    return numbers


def some_edges(name: str, value: Any) -> tuple[float, ...]:
    if isinstance(value, (list, tuple)) and len(value) in (1, 2):
        raise ValueError(f"{name} must be a list of three numbers or more, or of none, got {shown(value)}")
    return rising(name, value)


def some_knots(name: str, value: Any) -> tuple[float, ...]:
    if isinstance(value, (list, tuple)) and len(value) == 1:
        raise ValueError(f"{name} must be a list of two numbers or more, or of none, got {shown(value)}")
    return rising(name, value)


a_scale = within(lambda x: 2 * TINY <= x <= sys.float_info.max, f"from {2 * TINY} to {sys.float_info.max}")


def a_text(name: str, value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"{name} must be text, got {shown(value)}")
    return value
