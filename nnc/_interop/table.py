"""A model of a table as what its writers read: what becomes of each raw column, the networks, and what is made of their
outputs.

What becomes of a column is a few formulas (nnc/_registry/formulas.py) of a number x, which every writer puts into its
language. All of it is computed in float64, as dates ask for, and the networks in float32.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from nnc._utils.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc._interop.program import Program
    from nnc.layers.operations import Operation


class Written(NamedTuple):
    """What becomes of a raw column x.

    Formulas have the operators and choices of nnc/_registry/formulas.py, and `missing(x)`, `floor`, `sqrt`, `sin`,
    `min` and `max`, of two numbers. One may be `sum(...)` as a whole, which adds up what vectors make.

    Attributes
    ----------
    plain : tuple of str
        The formulas of the columns of a network's inputs, in their order; one that has a vector makes as many.
    bins : str, optional
        The same of the piecewise-linear encoding.
    steps : dict of str
        What is computed before, once, by its name; each of them of x and those before it.
    vectors : dict of lists
        Those in the formulas, by their names.
    """

    plain: tuple[str, ...] = ()
    bins: str | None = None
    steps: dict[str, str] = {}  # noqa: RUF012 (nobody changes it)
    vectors: dict[str, Sequence[float]] = {}  # noqa: RUF012

    def within(self, formula: str) -> list[str]:
        """The vectors in a formula."""
        return [name for name in self.vectors if re.search(rf"\b{name}\b", formula)]

    def width(self, formula: str) -> int:
        """How many columns a formula makes."""
        return 1 if formula.startswith("sum(") else self.length(formula)

    def length(self, formula: str) -> int:
        """Of the vectors in a formula; 1 without any."""
        return max((len(self.vectors[name]) for name in self.within(formula)), default=1)


class Raw(NamedTuple):
    """A column of the matrix that a written model takes.

    Attributes
    ----------
    name : str
    what : str
        What its numbers mean, for people.
    levels : tuple of str
        Of text: the number of a cell is its place here, -1 where it is not here.
    written : Written
    """

    name: str
    what: str
    levels: tuple[str, ...]
    written: Written


class Net(NamedTuple):
    """A network."""

    bins: bool  # whether it sees them, behind all plain columns
    operations: tuple[Operation, ...]


class TableProgram(Value):
    """A model of a table for a writer.

    Attributes
    ----------
    whole : Program
        What goes in, what comes out and what it means, and the self-test, without operations.
    columns : tuple of Raw
    networks : tuple of Net
        The mean of what they say is the answer.
    temperature : float, or None
        Of the probabilities of classes, see `with_temperature` in nnc/tabular.
    scale : (factor, shift), or None
        Of numbers: outputs are divided by factors, and then the shifts are added.
    quantiles : tuple of float
        Those of the outputs, which are all targets of the first, then of the next; they are sorted. () where the
        outputs are none.
    middle : int
        Which of the quantiles is the answer.
    bounds : (least, largest), or None
        Of each target.
    """

    whole: Program
    columns: tuple[Raw, ...]
    networks: tuple[Net, ...]
    temperature: float | None
    scale: tuple[list[float], list[float]] | None
    quantiles: tuple[float, ...]
    middle: int
    bounds: tuple[list[float], list[float]] | None

    @property
    def n_targets(self) -> int:
        """Outputs, or those of a quantile."""
        return self.whole.n_out // max(1, len(self.quantiles))

    def described(self) -> list[dict[str, Any]]:
        """The columns for metadata."""
        return [
            {"name": column.name, "what": column.what} | ({"levels": list(column.levels)} if column.levels else {})
            for column in self.columns
        ]
