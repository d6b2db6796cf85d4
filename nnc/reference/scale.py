"""Layer with a learned factor for each column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc.reference.layers import Dense

if TYPE_CHECKING:
    from nnc.reference.layers import Gradient, Rows


class Scale(Dense):
    """Layer that multiplies each column by a learned factor: a_k = s_k * x_k; s is W, with one row."""

    def __init__(self, columns: int, s: float) -> None:
        super().__init__([[s] * columns], None, "identity")

    def forward(self, A_in: Rows) -> Rows:
        """Return A_out, the outputs of the layer: one row for each row of the inputs A_in."""
        return [[s * x for s, x in zip(self.W[0], row)] for row in A_in]

    def backward(self, A_in: Rows, A_out: Rows, dA: Rows) -> tuple[Rows, Gradient]:
        """Return delta = dA and the gradients: dL/ds for the factors s, and None for biases, given dA = dL/dA_out."""
        # The factor s_k multiplies the input x_k of each row, so dL/ds_k is the sum of delta_k * x_k over the rows.
        ds = [sum(d * x for d, x in zip(*columns)) for columns in zip(zip(*dA), zip(*A_in))]
        return dA, ([ds], None)

    def input_gradient(self, A_in: Rows, delta: Rows) -> Rows:
        """Return dL/dA_in, the derivatives of the loss with respect to the inputs of the layer."""
        # The input x_k contributes only to the output a_k = s_k * x_k, so dL/dx_k = s_k * delta_k.
        return [[d * s for d, s in zip(row, self.W[0])] for row in delta]
