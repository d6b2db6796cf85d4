"""Base classes of the encodings of columns, checks of their parameters, and encodings that ignore the values."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from nnc._interop.table import ColumnFormulas, RawColumn
from nnc._utils.checks import build_check, check_finite, check_fraction, short_repr
from nnc._utils.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from nnc._tables.cells import Column

    Floats = NDArray[np.float64]
    Out = NDArray[np.float32]

SMALLEST_NORMAL = sys.float_info.min
ValueT = TypeVar("ValueT", bound=Value)


class Encoding(Value, ABC):
    """Base class of encodings, which convert a column to inputs of a network.

    `read_cells` converts all cells of a column to an array. From some of its elements, `write` then computes the plain
    features, and `write_extra` the extra features, which only some networks receive: piecewise-linear features of
    numbers and dates, target statistics, and words of free text. The fields of a subclass are learned from the training
    rows and saved in model files.

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
    def extra_width(self) -> int:
        """Number of extra features, which `write_extra` computes."""
        return 0

    @property
    def accepts_missing(self) -> bool:
        """Return whether training rows had missing values, or the encoding does not use the values."""
        return bool(getattr(self, "missing", True))

    @property
    def n_codes(self) -> int:
        """Number of inputs of exported models that represent the column."""
        return 1

    @property
    def coded_levels(self) -> tuple[str, ...]:
        """Texts that `to_codes` converts to their index; () if the column is not categorical."""
        return ()

    @abstractmethod
    def read_cells(self, column: Column) -> NDArray[Any]:
        """Convert the cells of a column to an array of n rows; raise ValueError for a cell of a wrong kind."""

    @abstractmethod
    def write(self, cells: NDArray[Any], out: Out) -> None:
        """Write the features of `cells` (rows,) into the array `out` (rows, width) of zeros."""

    def write_extra(self, cells: NDArray[Any], out: Out) -> None:
        """Write the extra features of `cells` (rows,) into `out` (rows, extra_width)."""

    def to_codes(self, column: Column) -> Floats:
        """Convert a column to the numbers that exported models read; missing values become NaN.

        The result has the shape (n,), or (n, n_codes) for several inputs.
        """
        return self.read_cells(column).astype(np.float64)

    @abstractmethod
    def formulas(self) -> ColumnFormulas:
        """Return the formulas with which exported models compute features from the first number of `to_codes`."""

    def raw_columns(self, name: str, meaning: str) -> list[RawColumn]:
        """Describe the inputs of exported models, given the name of the column and the meaning of its first number."""
        return [RawColumn(name, meaning, self.coded_levels, self.formulas())]

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


class WithIndicator(Encoding):
    """Base class of encodings with an indicator of missing values.

    The indicator is the last feature that `write` computes. It is 1 for a missing cell and 0 otherwise, and exists only
    if training rows had missing cells.

    Parameters
    ----------
    missing : float
        Fraction of the training rows without a value.
    """

    missing: float = field(check=check_fraction)

    @property
    def width(self) -> int:
        """Number of features that `write` computes: one for the value, and one for the indicator if it exists."""
        return 1 + (self.missing > 0)

    def write_indicator(self, missing: NDArray[np.bool_], out: Out) -> None:
        """Write the indicator of missing values, if it exists, into the last column of `out`."""
        if self.missing:
            out[:, -1] = missing

    def indicator_formulas(self) -> tuple[str, ...]:
        """Return a tuple with the formula of the indicator of missing values, or () if it does not exist."""
        return ("1 if missing(x) else 0",) if self.missing else ()

    def missing_note(self) -> str:
        """Return the suffix of the description, such as ", 3 % missing"; "" if no training row had a missing value."""
        return f", {100 * self.missing:.2g} % missing" if self.missing else ""


class LevelStatistics:
    """Methods of encodings with target statistics of levels, which are categories or distinct numbers.

    Attributes
    ----------
    statistics : tuple of float
        Target statistics of each level, the same number for each level; () for none.
    """

    statistics: tuple[float, ...]

    @property
    @abstractmethod
    def n_levels(self) -> int:
        """Number of levels."""

    @abstractmethod
    def level_indices(self, cells: NDArray[Any]) -> NDArray[Any]:
        """Return the index of the level of each cell, a result of `read_cells`; negative for a cell without level."""

    @property
    def n_statistics(self) -> int:
        """Number of target statistics of each level."""
        return len(self.statistics) // self.n_levels if self.statistics else 0

    def check_statistics(self) -> None:
        """Raise ValueError if the levels have different numbers of statistics."""
        if self.statistics and (not self.n_levels or len(self.statistics) % self.n_levels):
            raise ValueError(
                f"statistics must have as many numbers for each of {self.n_levels} levels, got "
                f"{len(self.statistics)} numbers"
            )

    def write_statistics(self, cells: NDArray[Any], out: Out) -> None:
        """Write the target statistics of `cells` (rows,) into `out` (rows, n_statistics); 0 for cells without level."""
        levels, statistics = self.level_indices(cells), np.reshape(self.statistics, (-1, self.n_statistics))
        out[...] = np.where((levels >= 0)[:, None], statistics[levels], 0)

    def statistics_formulas(self, levels: Sequence[float]) -> tuple[tuple[str, ...], dict[str, Sequence[float]]]:
        """Return the formulas of the target statistics, and their vectors; `levels` are the codes of the levels."""
        n = self.n_statistics
        vectors: dict[str, Sequence[float]] = {f"mean{k}": self.statistics[k::n] for k in range(n)}
        return tuple(f"sum({name} if x == level else 0)" for name in vectors), vectors | (
            {"level": levels} if n else {}
        )


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


class IgnoresValues(Encoding):
    """Base class of encodings that use only whether a cell has a value, not the value.

    Parameters
    ----------
    reason : str
        Reason why the values are not used, for reports.
    """

    reason: str = field(check=plain_text)

    def read_cells(self, column: Column) -> NDArray[Any]:
        """Return the boolean mask (n,) of the missing cells."""
        return column.missing

    def to_codes(self, column: Column) -> Floats:
        """Return an array (n,) with NaN for each missing cell and 0 for each other cell."""
        return np.where(column.missing, np.nan, 0.0)


class LeftOut(IgnoresValues):
    """Encoding without features, for a column that carries no information."""

    type = "left_out"
    code_meaning = "anything: the column is left out"

    @property
    def width(self) -> int:
        """Number of features, which is 0."""
        return 0

    def write(self, cells: NDArray[Any], out: Out) -> None:
        """Write nothing, because the column has no features."""

    def formulas(self) -> ColumnFormulas:
        """Return an empty ColumnFormulas, because the column has no features."""
        return ColumnFormulas()

    def describe(self) -> str:
        """Return a short description of the encoding, for reports."""
        return f"left out: {self.reason}"


class Presence(IgnoresValues):
    """Encoding whose only feature is 1 for a cell with a value and -1 for a missing cell."""

    type = "presence"
    code_meaning = "any number if there is a value"

    def write(self, cells: NDArray[Any], out: Out) -> None:
        """Write 1 for each cell with a value and -1 for each missing cell into `out` (rows, 1)."""
        out[:, 0] = np.where(cells, -1, 1)

    def formulas(self) -> ColumnFormulas:
        """Return the formula of the feature, which is -1 for a missing cell and 1 otherwise."""
        return ColumnFormulas(("-1 if missing(x) else 1",))

    def describe(self) -> str:
        """Return a short description of the encoding, for reports."""
        return f"only whether there is a value: {self.reason}"
