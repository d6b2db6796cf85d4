"""Base class of the encodings of columns, and checks of their parameters."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from itertools import pairwise
from reprlib import repr as short_repr
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from nnc._utils.checks import build_check, check_finite
from nnc._utils.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from nnc._interop.table import ColumnFormulas
    from nnc.tabular.cells import Column

    Floats = NDArray[np.float64]
    Out = NDArray[np.float32]

SMALLEST_NORMAL = sys.float_info.min
ValueT = TypeVar("ValueT", bound=Value)


class Encoding(Value, ABC):
    """Base class of encodings, which convert a column to inputs of a network.

    `read_cells` converts all cells of a column to an array. For blocks of its elements, `write` and `write_bins` then
    compute the features. Only some networks use the features of `write_bins`: piecewise-linear features (bins) of
    numbers and dates, and target statistics of categories. The fields of a subclass are learned from the training rows
    and saved in model files.

    Attributes
    ----------
    type : str
        Name of the encoding in model files.
    added_fields : mapping of str to value
        Fields that do not exist in files of earlier versions, with the values that are used for such files.
    code_meaning : str
        Description of the numbers that `to_codes` returns, for the metadata of exported models.
    """

    type: ClassVar[str]
    added_fields: ClassVar[Mapping[str, Any]] = {}
    code_meaning: ClassVar[str]

    @property
    def width(self) -> int:
        """Number of features that `write` computes."""
        return 1

    @property
    def n_bins(self) -> int:
        """Number of additional features, which `write_bins` computes."""
        return 0

    @abstractmethod
    def read_cells(self, column: Column) -> NDArray[Any]:
        """Convert the cells of a column to an array (n,); raise ValueError for a cell of a wrong kind."""

    @abstractmethod
    def write(self, cells: NDArray[Any], out: Out) -> None:
        """Write the features of `cells` (rows,) into the array `out` (rows, width) of zeros."""

    def write_bins(self, cells: NDArray[Any], out: Out) -> None:
        """Write the additional features of `cells` (rows,) into `out` (rows, n_bins)."""

    def to_codes(self, column: Column) -> Floats:
        """Convert a column to the numbers (n,) that exported models read; missing values become NaN."""
        return self.read_cells(column).astype(np.float64)

    @abstractmethod
    def formulas(self) -> ColumnFormulas:
        """Return the formulas with which exported models compute all features from the result of `to_codes`."""

    @property
    def example(self) -> float:
        """Result of `to_codes` for a typical cell of the training rows."""
        return 0.0

    def unseen(self, column: Column) -> dict[str, int]:
        """Return {text: number of rows} for the texts in `column` that did not occur in the training rows."""
        return {}

    @abstractmethod
    def describe(self) -> str:
        """Return a short description of the encoding, for reports."""

    def document(self) -> dict[str, Any]:
        """Return the encoding as a JSON object with exact numbers."""
        values = {name: getattr(self, name) for name in self._fields}
        return {"type": self.type} | {name: _to_json(value) for name, value in values.items()}


def _to_json(value: Any) -> Any:
    """Convert the value of an encoding's field to a JSON object, list, number or string."""
    if isinstance(value, Encoding):
        return value.document()
    return list(value) if isinstance(value, tuple) else value


def from_members(kind: type[ValueT], members: Mapping[str, Any], where: str) -> ValueT:
    """Create an encoding or a text format from the fields of a JSON object; raise ValueError for an invalid field."""
    try:
        return kind(**{name: members[name] for name in kind._fields})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}.{error}") from None


def text_list(name: str, value: Any) -> tuple[str, ...]:
    """Convert a list of distinct texts to a tuple; raise ValueError if `value` is anything else."""
    if not isinstance(value, (list, tuple)) or not all(type(text) is str and text.strip() for text in value):
        raise ValueError(f"{name} must be a list of strings that are not blank, got {short_repr(value)}")
    if len(set(value)) < len(value):
        raise ValueError(f"{name} must be a list of distinct strings, got {short_repr(value)}")
    return tuple(value)


def number_list(name: str, value: Any) -> tuple[float, ...]:
    """Convert a list of finite numbers to a tuple; raise ValueError if `value` is anything else."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} must be a list of numbers, got {short_repr(value)}")
    return tuple(check_finite(f"{name}[{i}]", number) for i, number in enumerate(value))


def increasing_list(name: str, value: Any) -> tuple[float, ...]:
    """Convert a list of strictly increasing numbers to a tuple; raise ValueError if `value` is anything else."""
    numbers = number_list(name, value)
    if any(low / 2 >= high / 2 for low, high in pairwise(numbers)):
        raise ValueError(f"{name} must be increasing numbers, got {short_repr(value)}")
    return numbers


def edge_list(name: str, value: Any) -> tuple[float, ...]:
    """Convert a list of bin edges to a tuple; raise ValueError for one or two edges, or if they do not increase."""
    if isinstance(value, (list, tuple)) and len(value) in (1, 2):
        raise ValueError(f"{name} must be an empty list or have three numbers or more, got {short_repr(value)}")
    return increasing_list(name, value)


def knot_list(name: str, value: Any) -> tuple[float, ...]:
    """Convert a list of interpolation knots to a tuple; raise ValueError for one knot, or if they do not increase."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        raise ValueError(f"{name} must be an empty list or have two numbers or more, got {short_repr(value)}")
    return increasing_list(name, value)


scale_factor = build_check(
    lambda x: 2 * SMALLEST_NORMAL <= x <= sys.float_info.max, f"from {2 * SMALLEST_NORMAL} to {sys.float_info.max}"
)


def plain_text(name: str, value: Any) -> str:
    """Return `value` if it is a str; raise ValueError if it is anything else."""
    if type(value) is not str:
        raise ValueError(f"{name} must be text, got {short_repr(value)}")
    return value
