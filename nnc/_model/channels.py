"""Values, first and second derivatives of the outputs with respect to the inputs (src/network/taylor.pxd)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._model.model import Model

MAX_GROUP_INPUTS = 8  # second derivatives are computed for pairs of groups of at most this many inputs


class Channels:
    """Value, first derivatives and second derivatives of each output that the engine computes together.

    Parameters
    ----------
    inputs : sequence of int
        Index of the input of each first derivative.
    pairs : sequence of (int, int)
        Second derivatives, each as a pair of positions in `inputs`.
    """

    def __init__(self, inputs: Sequence[int], pairs: Sequence[tuple[int, int]] = ()) -> None:
        self.inputs = np.array(inputs, np.int32)
        self.left, self.right = np.ascontiguousarray(np.reshape(np.array(pairs, np.int32), (-1, 2)).T)

    @property
    def count(self) -> int:
        """Number of channels."""
        return 1 + len(self.inputs) + len(self.left)

    def compute(self, model: Model, rows: Data) -> NDArray[Any]:
        """Return the channels (n, n_out, count) for rows of the model's dtype."""
        out = np.empty((rows.n, model.sizes[-1], self.count), model.dtype)
        model.core.derivatives(model.engine, model.theta_view, rows, self.inputs, self.left, self.right, out)
        return out

    def gradient(self, model: Model, rows: Data, dU: NDArray[Any]) -> NDArray[Any]:
        """Return the gradient (n_params,) of sum(dU * U), where U are the channels (n, n_out, count)."""
        flat = model.zeros()
        model.core.derivatives_vjp(model.engine, model.theta_view, rows, self.inputs, self.left, self.right, dU, flat)
        return model.pack(flat)

    def jacobian(self, model: Model, rows: Data) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the channels, and their derivatives (n, n_out, count, n_params) with respect to the parameters."""
        U = np.empty((rows.n, model.sizes[-1], self.count), model.dtype)
        J = np.empty((*U.shape, model.n_params), model.dtype)
        model.core.derivatives_jacobian(model.engine, model.theta_view, rows, self.inputs, self.left, self.right, U, J)
        return U, J


def compute_derivatives(model: Model, rows: Data, order: int) -> tuple[NDArray[Any], ...]:
    """Return outputs (n, n_out), first derivatives (n, n_out, n_in) and, for order 2, second derivatives."""
    n, n_in, n_out = rows.n, model.sizes[0], model.sizes[-1]
    u, du = np.empty((n, n_out), model.dtype), np.empty((n, n_out, n_in), model.dtype)
    d2u = np.empty((n, n_out, n_in, n_in), model.dtype) if order == 2 else None
    for inputs, pairs in groups(n_in, order):
        U = Channels(inputs, pairs).compute(model, rows)
        u[...], du[..., inputs] = U[..., 0], U[..., 1 : 1 + len(inputs)]
        if d2u is not None:
            left, right = np.array(inputs)[np.array(pairs).T]
            d2u[..., left, right] = d2u[..., right, left] = U[..., 1 + len(inputs) :]
    return (u, du) if d2u is None else (u, du, d2u)


def groups(n_in: int, order: int) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
    """Yield the arguments of small `Channels`, which together contain all derivatives up to `order`."""
    parts = [list(range(i, min(n_in, i + MAX_GROUP_INPUTS))) for i in range(0, n_in, MAX_GROUP_INPUTS)]
    if order == 1:
        yield from ((part, []) for part in parts)
        return
    for first, a in enumerate(parts):
        yield a, [(i, k) for i in range(len(a)) for k in range(i, len(a))]
        for b in parts[first + 1 :]:
            yield a + b, [(i, len(a) + k) for i in range(len(a)) for k in range(len(b))]
