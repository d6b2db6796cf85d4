"""A learnable scale of each column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc.reference.layers import Dense

if TYPE_CHECKING:
    from nnc.reference.layers import Gradient, Rows


class Scale(Dense):
    """Every column times a number of its own: a_k = s_k * x_k, where s is W, a single row."""

    def __init__(self, columns: int, s: float) -> None:
        super().__init__([[s] * columns], None, "identity")

    def forward(self, A_in: Rows) -> Rows:
        """A_out, a row of outputs for every row of inputs."""
        return [[s * x for s, x in zip(self.W[0], row)] for row in A_in]

    def backward(self, A_in: Rows, A_out: Rows, dA: Rows) -> tuple[Rows, Gradient]:
        """delta, which is dL/dZ, and (ds, None)."""
        # s_k acts through x_k in every row, so dL/ds_k = sum over rows of delta_k * x_k; the slope of identity is 1.
        ds = [sum(d * x for d, x in zip(*columns)) for columns in zip(zip(*dA), zip(*A_in))]
        return dA, ([ds], None)

    def downward(self, A_in: Rows, delta: Rows) -> Rows:
        """dL/dA_in."""
        # x_k acts through s_k on a_k alone.
        return [[d * s for d, s in zip(row, self.W[0])] for row in delta]
