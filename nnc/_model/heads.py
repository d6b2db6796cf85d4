"""Losses and activations of networks with several heads.

The outputs of the engine are the net inputs Z of the heads, and the engine computes the loss directly from Z, which
avoids overflow. This module applies the activations for predictions and for derivatives with respect to predictions. It
also contains a second definition of the loss in NumPy, for gradient checks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry.capabilities import check
from nnc._registry.heads import Heads
from nnc._registry.losses import Quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._registry.heads import Head
    from nnc.layers.stack import Stack


# The engine requires finite targets, so this number represents a missing target.
MISSING = float(np.finfo(np.float32).min)


class HeadsLoss:
    """Loss of several heads as a function of their net inputs, and the activations of the heads.

    Parameters
    ----------
    heads : Heads
        Definition of the heads.
    """

    name = "heads"

    def __init__(self, heads: Heads) -> None:
        self.definition = heads

    def __repr__(self) -> str:
        return repr(self.definition)

    def __str__(self) -> str:
        return str(self.definition)

    def engine_arguments(self) -> dict[str, Any]:
        """Return the arguments of `core.Engine` that describe the heads."""
        heads = [
            (head.row.name, head.parameter, head.activation.name, head.n, head.weight) for head in self.definition.heads
        ]
        return {"heads": heads, "missing": MISSING if self.definition.missing else math.nan}

    def __call__(self, Z: NDArray[Any], Y: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        """Return the loss of the net inputs Z for targets Y (n, n_out), and its derivative with respect to Z."""
        total, dZ = 0.0, np.empty_like(Z)
        for head, columns in zip(self.definition.heads, self.definition.slices, strict=True):
            loss, dZ[:, columns] = _differentiate(head, Z[:, columns], Y[:, columns], self.definition.missing)
            total += head.weight * loss
        return total, dZ

    def value(self, Z: NDArray[Any], Y: NDArray[Any]) -> float:
        """Return only the loss, or NaN if the net inputs Z are not finite."""
        return self(Z, Y)[0] if np.isfinite(Z).all() else math.nan

    def outputs(self, Z: NDArray[Any]) -> NDArray[Any]:
        """Apply the activation of each head to Z in place, and return the outputs of the network."""
        for head, columns in zip(self.definition.heads, self.definition.slices, strict=True):
            if head.activation.name != "identity":
                Z[:, columns] = head.activation.compute(Z[:, columns])
        if self.definition.ordered:
            self._by_head(Z).sort(axis=-2)
        return Z

    def _by_head(self, values: NDArray[Any]) -> NDArray[Any]:
        """Reshape values (..., n_out) to (..., number of heads, outputs per head), for heads of equal size."""
        return values.reshape(*values.shape[:-1], len(self.definition.heads), -1)

    def _order(self, Z: NDArray[Any]) -> NDArray[np.intp]:
        """Return indices (n, n_out) that sort the outputs of each row, so that quantiles increase."""
        P = Z.copy()
        for head, columns in zip(self.definition.heads, self.definition.slices, strict=True):
            P[:, columns] = head.activation.compute(Z[:, columns])
        index = self._by_head(P).argsort(axis=-2, kind="stable")
        width = index.shape[-1]
        order: NDArray[np.intp] = (index * width + np.arange(width)).reshape(Z.shape)
        return order

    def differentiate_predictions(self, Z: NDArray[Any], J: NDArray[Any]) -> NDArray[Any]:
        """Convert derivatives J (n, ..., n_out) of the net inputs Z to derivatives of the predictions."""
        J = self._through(Z, J)
        if not self.definition.ordered:
            return J
        order = self._order(Z).reshape(len(Z), *[1] * (J.ndim - 2), -1)
        return np.take_along_axis(J, order, axis=-1)

    def backpropagate(self, Z: NDArray[Any], D: NDArray[Any]) -> NDArray[Any]:
        """Return the derivatives of a loss with respect to the net inputs Z.

        D (n, n_out) are the derivatives of this loss with respect to the predictions.
        """
        if self.definition.ordered:
            by_outputs = np.empty_like(D)
            np.put_along_axis(by_outputs, self._order(Z), D, axis=-1)
            D = by_outputs
        return self._through(Z, D)

    def _through(self, Z: NDArray[Any], D: NDArray[Any]) -> NDArray[Any]:
        """Multiply derivatives (n, ..., n_out) by the Jacobian of the activations, which is symmetric."""
        D = D.copy()
        for head, columns in zip(self.definition.heads, self.definition.slices, strict=True):
            z = Z[:, columns]
            p = head.activation.compute(z)
            d = D[..., columns]
            shape = (len(Z), *[1] * (D.ndim - 2), head.n)
            if head.activation.elementwise:
                d *= head.activation.compute_derivative(z, p).reshape(shape)
            else:
                p = p.reshape(shape)
                d[...] = p * (d - (p * d).sum(axis=-1, keepdims=True))
        return D


def heads_loss(loss: Heads | Quantile, stack: Stack) -> HeadsLoss:
    """Return the loss for heads or several quantiles; raise ValueError if the output layer does not match."""
    check("a loss with heads or quantiles", stack=stack)
    heads = Heads.of_quantiles(loss, stack.sizes[-1]) if isinstance(loss, Quantile) else loss
    if heads.n_out != stack.sizes[-1]:
        raise ValueError(f"loss must have heads with {stack.sizes[-1]} outputs in total, got {heads.n_out}: {heads}")
    return HeadsLoss(heads)


def _differentiate(head: Head, Z: NDArray[Any], Y: NDArray[Any], missing: bool) -> tuple[float, NDArray[Any]]:
    """Return the unweighted loss of a head, and the weighted derivative with respect to its net inputs Z.

    If `missing` is True, targets equal to MISSING do not contribute.
    """
    row, c, n = head.row, head.parameter, head.n
    present: Any = True
    rows: float = len(Y)
    if missing:
        present = Y != MISSING
        if row.target_type == "probabilities":
            present[...] = present.all(axis=1, keepdims=True)
        rows = np.count_nonzero(present) / n
        Y = np.where(present, Y, 0)
    if row.target_type == "probabilities" and c:
        Y = (1 - c) * Y + c / n  # c is the label smoothing of the cross-entropy
    P = head.activation.compute(Z)
    divisor = row.divisor(rows, n) or 1
    loss = float(row.compute_terms(Y, P, Z, c).sum(dtype=np.float64, where=present)) / divisor
    if row.output_required:
        derivative = P - Y
    elif head.activation.elementwise:
        derivative = row.compute_derivative(Y, P, c) * head.activation.compute_derivative(Z, P)
    else:
        dP = row.compute_derivative(Y, P, c) * present
        derivative, present = P * (dP - (P * dP).sum(axis=1, keepdims=True)), True
    return loss, derivative * (present * (head.weight / divisor))
