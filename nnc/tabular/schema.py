"""From the columns of a table to the numbers that a network takes, as the training rows have said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nnc.tabular.frames import Table


class Made(NamedTuple):
    """A line of `Schema.describe`."""

    column: str
    kind: str  # of nnc.tabular.frames.KINDS
    made: str  # "scaled, 3 % missing", "12 categories", "left out: the same in all rows"


class Schema:
    """What the training rows said of their columns.

    Attributes
    ----------
    names : tuple of str
        The columns of the training table, those that are left out as well.
    named : bool
        Whether these are the user's names.
    """

    names: tuple[str, ...]
    named: bool

    @classmethod
    def learn(cls, table: Table) -> Schema:
        """Of training rows; ValueError where no column is left."""
        raise NotImplementedError

    def encode(self, table: Table, bins: bool = False) -> NDArray[np.float32]:
        """(n, width(bins)), C-contiguous; with `bins` the piecewise-linear encoding of numbers stands behind the plain
        columns, so that encode(table, bins=True)[:, : width()] is encode(table)."""
        raise NotImplementedError

    def width(self, bins: bool = False) -> int:
        raise NotImplementedError

    def groups(self, bins: bool = False) -> tuple[tuple[slice, ...], ...]:
        """For each of `names` the slices of encoded columns that it has become: () where it is left out."""
        raise NotImplementedError

    def unseen(self, table: Table) -> dict[str, dict[str, int]]:
        """By column, the texts that no training row had and how many rows have each; columns without any are not
        there."""
        raise NotImplementedError

    def describe(self) -> list[Made]:
        """What was made of every column, in the order of `names`."""
        raise NotImplementedError

    def document(self) -> dict[str, Any]:
        """As JSON holds it, exactly."""
        raise NotImplementedError

    @classmethod
    def from_document(cls, document: Any, where: str = "schema") -> Schema:
        """What `document` gave; ValueError with place and reason where it is none."""
        raise NotImplementedError
