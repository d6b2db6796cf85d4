"""What a step of gradient descent does in every layer, by the definitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnc.layers.stack import layer_name

if TYPE_CHECKING:
    from nnc._inspection.norm import Norm
    from nnc._inspection.problem import Array, Problem
    from nnc._inspection.ways import Pool, Windows


@dataclass(frozen=True, eq=False, repr=False)
class PoolStep:
    """What a step does in a pool. Rows are images, flat in the order row, column, channel.

    Attributes
    ----------
    pool : Pool
        Its name, its windows, and whether it takes the largest of each or the mean.
    A_in, A : arrays (n, n_in) and (n, n_out)
        Inputs and outputs.
    dA : array (n, n_out)
        dL/dA.
    """

    pool: Pool
    A_in: Array
    A: Array
    dA: Array


@dataclass(frozen=True, eq=False, repr=False)
class LayerStep:
    """What a step does in one layer. Rows are first, the neurons of the layer last. A convolution has a row for each
    window of each image, in order, whose inputs are the numbers of the window, and its neurons are the filters. A
    BatchNorm has a neuron for each channel, whose only input is the normalized number of that channel, and a row for
    each pixel; a Scale has one for each column.

    Attributes
    ----------
    name, activation : str
    A_in : array (n, n_in)
        Inputs.
    Z, A : arrays (n, n_out)
        Net inputs and outputs.
    dA : array (n, n_out)
        dL/dA: by the loss in the output layer, else the sum over the neurons of the next layer of delta times weight.
    slope : array (n, n_out)
        dA/dZ. For softmax, whose outputs depend on all net inputs, and beside a loss that is computed from the net
        input, delta is not their product.
    delta : array (n, n_out)
        dL/dZ.
    W, dW, new_W : arrays (n_in, n_out)
        The weights before the step, the gradient, the weights after it.
    b, db, new_b : arrays (n_out,) or None
        The same for the biases.
    windows : Windows or None
        Those of a convolution.
    pools : tuple of PoolStep
        What the outputs of the layer below have gone through.
    columnwise : bool
        Whether each neuron sees an input of its own alone: of a BatchNorm, and of a Scale.
    norm : Norm or None
        Of a BatchNorm what normalizes.
    X : array or None
        Of a BatchNorm the rows before that.
    """

    name: str
    activation: str
    A_in: Array
    Z: Array
    A: Array
    dA: Array
    slope: Array
    delta: Array
    W: Array
    dW: Array
    new_W: Array
    b: Array | None
    db: Array | None
    new_b: Array | None
    windows: Windows | None = None
    pools: tuple[PoolStep, ...] = ()
    columnwise: bool = False
    norm: Norm | None = None
    X: Array | None = None

    def inputs_of(self, i: int, j: int) -> Array:
        """What the weight from input i to neuron j is multiplied with, row by row; behind the last is the bias."""
        if i >= len(self.W):
            return np.ones(len(self.Z))
        return self.A_in[:, j if self.columnwise else i]

    def inputs_at(self, row: int, j: int) -> Array:
        """What neuron j sees in a row."""
        return self.A_in[row, j : j + 1] if self.columnwise else self.A_in[row]


def layer_steps(problem: Problem, lr: float) -> tuple[LayerStep, ...]:
    """What a step does in every layer, by the definitions."""
    images, rows, A_in, Z, A = problem.forward()
    dA = problem.slope(A[-1])
    steps: list[LayerStep] = []
    for l in range(len(Z) - 1, -1, -1):
        row = problem.activations[l]
        slope = row.compute_derivative(Z[l], A[l])
        if l == len(Z) - 1 and problem.loss.output_required:
            delta = (A[l] - problem.y) / problem.divisor
        elif not row.elementwise:
            delta = A[l] * (dA - (A[l] * dA).sum(axis=1, keepdims=True))
        else:
            delta = dA * slope
        W, b, way = problem.W[l], problem.b[l], problem.ways[l]
        norm = way.norm
        dW, db = way.summed(A_in[l], delta), None if b is None else delta.sum(axis=0)
        new_b = None if b is None or db is None else b - lr * db
        title = layer_name(l, len(Z))
        pools: list[PoolStep] = []
        d = way.joined(way.back(delta, W) if norm is None else norm.backward(rows[l], W[0], delta))
        for pool, image, pooled in zip(way.pools[::-1], images[l][-2::-1], images[l][:0:-1], strict=True):
            pools.insert(0, PoolStep(pool, image, pooled, d))
            d = pool.backward(image, d)
        step = LayerStep(
            *(title, row.name, A_in[l], Z[l], A[l], dA, slope, delta, W, dW, W - lr * dW, b, db, new_b),
            windows=way.windows,
            pools=tuple(pools),
            columnwise=way.columnwise,
            norm=norm,
            X=None if norm is None else rows[l],
        )
        steps.insert(0, step)
        dA = d.reshape(A[l - 1].shape) if l else d
    return tuple(steps)
