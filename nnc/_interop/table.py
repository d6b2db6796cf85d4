"""Description of a model of a table for its writers: column encodings, networks and processing of outputs.

The encoding of a column is a list of formulas (nnc/_registry/formulas.py) of a number x, which every writer translates
to its language. Encodings are computed in float64, because dates need its precision, and the networks in float32.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from nnc._utils.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc._interop.program import Program
    from nnc.layers.operations import Operation


class ColumnFormulas(NamedTuple):
    """Formulas that encode a raw column x as columns of a network's input.

    Formulas use the operators and conditional expressions of nnc/_registry/formulas.py, `missing(x)`, `floor`, `sqrt`,
    `sin`, and `min` and `max` of two numbers. A formula with a vector is evaluated for each element of the vector. The
    outermost call of a formula may be `sum(...)`, which adds the results for all elements.

    Attributes
    ----------
    plain : tuple of str
        Formulas of the input columns in order. A formula with a vector yields one input column per element.
    bins : str, optional
        Formula of the piecewise-linear encoding.
    variables : dict of str
        Formulas of variables by name. A variable may depend on x and on the variables before it.
    vectors : dict of sequences of float
        Vectors by name.
    """

    plain: tuple[str, ...] = ()
    bins: str | None = None
    variables: dict[str, str] = {}  # noqa: RUF012 (the default is never modified)
    vectors: dict[str, Sequence[float]] = {}  # noqa: RUF012 (the default is never modified)

    def vector_names(self, formula: str) -> list[str]:
        """Return the names of the vectors in a formula."""
        return [name for name in self.vectors if re.search(rf"\b{name}\b", formula)]

    def width(self, formula: str) -> int:
        """Return the number of input columns that a formula yields."""
        return 1 if formula.startswith("sum(") else self.length(formula)

    def length(self, formula: str) -> int:
        """Return the length of the vectors in a formula, 1 if it has none."""
        return max((len(self.vectors[name]) for name in self.vector_names(formula)), default=1)


class RawColumn(NamedTuple):
    """A raw column, which is an input of an exported model.

    Attributes
    ----------
    name : str
    description : str
        Meaning of its numbers for people.
    levels : tuple of str
        Texts of a text column. The number of a cell is the index of its text, and -1 for other texts.
    formulas : ColumnFormulas
    """

    name: str
    description: str
    levels: tuple[str, ...]
    formulas: ColumnFormulas


class TableNetwork(NamedTuple):
    """A network of a model of a table.

    Attributes
    ----------
    uses_bins : bool
        Whether the inputs contain the piecewise-linear encodings, after the plain columns.
    operations : tuple of Operation
    """

    uses_bins: bool
    operations: tuple[Operation, ...]


class TableProgram(Value):
    """A model of a table, as writers read it.

    Attributes
    ----------
    interface : Program
        Inputs, outputs, their meaning and the self-test; it has no operations.
    columns : tuple of RawColumn
    networks : tuple of TableNetwork
        The model predicts the mean of their processed outputs.
    temperature : float, optional
        Temperature that calibrates the probabilities of classes, see `with_temperature` in nnc/tabular.
    target_scaling : (factor, shift), optional
        Two lists with one number per output: a prediction is output / factor + shift.
    quantiles : tuple of float
        Levels of the quantiles that are predicted, () if there are none. Outputs are grouped by quantile, with one
        output per target in each group. Predictions are sorted, so that quantiles do not cross.
    middle_index : int
        Index of the quantile that is the point prediction.
    bounds : (lower, upper), optional
        Two lists with one number per target, to which predictions are clipped.
    """

    interface: Program
    columns: tuple[RawColumn, ...]
    networks: tuple[TableNetwork, ...]
    temperature: float | None
    target_scaling: tuple[list[float], list[float]] | None
    quantiles: tuple[float, ...]
    middle_index: int
    bounds: tuple[list[float], list[float]] | None

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return self.interface.n_out // max(1, len(self.quantiles))

    def column_metadata(self) -> list[dict[str, Any]]:
        """Return the names, descriptions and levels of the columns as plain values for metadata."""
        return [
            {"name": column.name, "what": column.description}
            | ({"levels": list(column.levels)} if column.levels else {})
            for column in self.columns
        ]
