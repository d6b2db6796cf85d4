"""Description of a table model for writers: column encodings, networks and processing of outputs.

The encoding of a column is a list of formulas (nnc/_registry/formulas.py) of a number x. Every writer translates the
formulas to its target language. Encodings are computed in float64, because dates need this precision, and the networks
in float32.
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

    Formulas use the operators and conditional expressions of nnc/_registry/formulas.py, and the functions `missing`,
    `floor`, `sqrt`, `sin`, and `min` and `max` of two numbers. A formula with a vector is evaluated for each element of
    the vector. The outermost call of a formula may be `sum(...)`, which adds the results for all elements.

    Attributes
    ----------
    plain : tuple of str
        Formulas of the input columns in order. A formula with a vector yields one input column per element.
    extra : tuple of str
        Formulas of the extra features, which only some networks receive, in order.
    variables : dict of str
        Formulas of variables by name. A variable may depend on x and on previous variables.
    vectors : dict of sequences of float
        Vectors that formulas use, by name.
    """

    plain: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    variables: dict[str, str] = {}  # noqa: RUF012 (the default is never modified)
    vectors: dict[str, Sequence[float]] = {}  # noqa: RUF012 (the default is never modified)

    @property
    def blocks(self) -> tuple[tuple[str, ...], ...]:
        """Formulas of the plain and of the extra features."""
        return self.plain, self.extra

    def vector_names(self, formula: str) -> list[str]:
        """Return the names of the vector variables that a formula uses."""
        return [name for name in self.vectors if re.search(rf"\b{name}\b", formula)]

    def width(self, formula: str) -> int:
        """Return how many inputs of the network a formula computes."""
        return 1 if formula.startswith("sum(") else self.length(formula)

    def length(self, formula: str) -> int:
        """Return the length of the vector variables that a formula uses; 1 if the formula uses none."""
        return max((len(self.vectors[name]) for name in self.vector_names(formula)), default=1)


class RawColumn(NamedTuple):
    """Raw column of a table, which is an input of an exported model. A column of free text has several inputs.

    Attributes
    ----------
    name : str
        Name of the column.
    description : str
        Readable description of the numbers in the column.
    levels : tuple of str
        Texts of a text column. The number of a cell is the index of its text in `levels`, or -1 for other texts.
    formulas : ColumnFormulas
        Encoding of the column.
    is_mask : bool
        Whether `levels` are words, and the number of a cell is the sum of 2 ** i for the index i of each word in it.
    """

    name: str
    description: str
    levels: tuple[str, ...]
    formulas: ColumnFormulas
    is_mask: bool = False


class TableNetwork(NamedTuple):
    """Network that is a part of a table model.

    Attributes
    ----------
    n_blocks : int
        Number of blocks of features in its inputs: 1 for the plain features of all columns, 2 if their extra features
        follow.
    operations : tuple of Operation
        Operations of the network in order.
    """

    n_blocks: int
    operations: tuple[Operation, ...]


class TableProgram(Value):
    """Tabular model in the form in which writers export it.

    Attributes
    ----------
    interface : Program
        Description of inputs and outputs, with the self-test. It has no operations.
    columns : tuple of RawColumn
        Raw columns, which are the inputs of the model.
    networks : tuple of TableNetwork
        Networks whose processed outputs are averaged for a prediction.
    temperature : float, optional
        Temperature that calibrates the probabilities of classes, see `with_temperature` in nnc/tabular.
    target_scaling : (factor, shift), optional
        Two lists with one number per output: a prediction is output / factor + shift.
    quantiles : tuple of float
        Levels of the predicted quantiles; () if the model predicts no quantiles. Outputs are grouped by quantile, with
        one output per target in each group. Predictions are sorted, so that quantiles do not cross.
    middle_index : int
        Index of the quantile that is used as point prediction.
    bounds : (lower, upper), optional
        Limits to which predictions are clipped: two lists with one number per target.
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
        """Number of targets that the model predicts."""
        return self.interface.n_out // max(1, len(self.quantiles))

    def column_metadata(self) -> list[dict[str, Any]]:
        """Return the names, descriptions and levels of all columns for the metadata of an exported model."""
        return [
            {"name": column.name, "what": column.description}
            | ({"levels": list(column.levels)} if column.levels else {})
            for column in self.columns
        ]
