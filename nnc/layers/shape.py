"""Kinds that do not compute: they say a shape, or something of the layer before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nnc.base.checks import count, fraction
from nnc.base.value import field
from nnc.layers.kind import Kind

if TYPE_CHECKING:
    from nnc.layers.kind import Shape


class Input(Kind):
    """What comes in: rows of `n` numbers. The first of a network's layers; a number there means the same.

    Parameters
    ----------
    n : int
    """

    type: ClassVar[str] = "input"

    n: int = field(check=count)

    def shape(self, below: Shape) -> Shape:
        return (self.n,)


class Dropout(Kind):
    """Each step of training drops a share of the outputs of the layer before, and scales the others up by
    1 / (1 - rate) (Srivastava et al., 2014). `predict` drops nothing.

    Parameters
    ----------
    rate : float
        At least 0 and less than 1.
    """

    type: ClassVar[str] = "dropout"

    rate: float = field(check=fraction)

    def shape(self, below: Shape) -> Shape:
        return below

    @property
    def remark(self) -> str:
        return f"drops {self.rate:g}"
