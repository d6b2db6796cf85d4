"""All quantities of a gradient descent step in each layer, computed with the textbook formulas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._inspection.unrolled import unroll
from nnc.layers.stack import layer_name

if TYPE_CHECKING:
    from nnc._inspection.connections import Pool, Windows
    from nnc._inspection.norm import Norm
    from nnc._inspection.problem import Array, Problem
    from nnc._inspection.recurrent import Recurrence


@dataclass(frozen=True, eq=False, repr=False)
class PoolStep:
    """Quantities of a gradient descent step in a pool; each row of an array is a flattened image.

    The elements of an image are in the order row, column, channel.

    Attributes
    ----------
    pool : Pool
        The pool, with its name, its windows and its kind.
    A_in, A : arrays (n, n_in) and (n, n_out)
        Inputs and outputs of the pool.
    dA : array (n, n_out)
        Derivatives dL/dA of the loss with respect to the outputs.
    """

    pool: Pool
    A_in: Array
    A: Array
    dA: Array


@dataclass(frozen=True, eq=False, repr=False)
class LayerStep:
    """Quantities of a gradient descent step in one layer; rows along the first axis, neurons along the last one.

    A convolution has a row for each window of each image, whose inputs are the elements of the window; its neurons are
    the filters. BatchNorm has a row for each pixel and a neuron for each channel, whose only input is the normalized
    number of that channel. Scale has a neuron for each column. A recurrent layer has a row for each sequence; its
    outputs are also its net inputs, and its activation is the identity.

    Attributes
    ----------
    name, activation : str
        Name of the layer, and name of its activation.
    A_in : array (n, n_in)
        Inputs.
    Z, A : arrays (n, n_out)
        Net inputs and outputs.
    dA : array (n, n_out)
        Derivatives dL/dA of the loss with respect to the outputs. In a hidden layer, dA is the sum of delta * weight
        over the neurons of the next layer.
    derivative : array (n, n_out)
        Derivatives dA/dZ of the activation. delta is dA * derivative, except for softmax and for losses that are
        computed from the net input.
    delta : array (n, n_out)
        Derivatives dL/dZ of the loss with respect to the net inputs.
    W, dW, new_W : arrays (n_in, n_out)
        Weights before the step, their gradient, and weights after the step.
    b, db, new_b : arrays (n_out,) or None
        Biases before the step, their gradient, and biases after the step.
    windows : Windows or None
        Windows of a convolution.
    pools : tuple of PoolStep
        Pools between the previous layer and this one.
    columnwise : bool
        True if neuron j is connected to input j only, as in BatchNorm and Scale.
    norm : Norm or None
        Normalization of a BatchNorm.
    X : array or None
        Rows before the normalization of a BatchNorm.
    recurrence : Recurrence or None
        Computation of all steps of a recurrent layer.
    """

    name: str
    activation: str
    A_in: Array
    Z: Array
    A: Array
    dA: Array
    derivative: Array
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
    recurrence: Recurrence | None = None

    @cached_property
    def unrolled(self) -> list[list[dict[str, Any]]]:
        """Values of all gates and states of a recurrent layer, for each direction and step."""
        assert self.recurrence is not None
        return unroll(self.recurrence, self.A_in, self.W, self.b, self.delta)

    def inputs_of(self, i: int, j: int) -> Array:
        """Return an array (n,): the factor of the weight from input i to neuron j in each row.

        The index i = n_in stands for the bias, whose factor is 1.
        """
        if i >= len(self.W):
            return np.ones(len(self.Z))
        return self.A_in[:, j if self.columnwise else i]

    def inputs_at(self, row: int, j: int) -> Array:
        """Return the inputs of neuron j for one row."""
        return self.A_in[row, j : j + 1] if self.columnwise else self.A_in[row]


def layer_steps(problem: Problem, lr: float) -> tuple[LayerStep, ...]:
    """Return the quantities of a gradient descent step in each layer, computed with the textbook formulas."""
    images, rows, A_in, Z, A = problem.forward()
    dA = problem.loss_derivative(A[-1])
    steps: list[LayerStep] = []
    for l in range(len(Z) - 1, -1, -1):
        row = problem.activations[l]
        derivative = row.compute_derivative(Z[l], A[l])
        if l == len(Z) - 1 and problem.loss.output_required:
            delta = problem.is_target * (A[l] - problem.y) / problem.divisor
        elif not row.elementwise:
            delta = A[l] * (dA - (A[l] * dA).sum(axis=1, keepdims=True))
        else:
            delta = dA * derivative
        W, b, connection = problem.W[l], problem.b[l], problem.connections[l]
        norm = connection.norm
        recurrence = connection.recurrence
        if recurrence is None:
            dW, db = connection.weight_sums(A_in[l], delta), None if b is None else delta.sum(axis=0)
        else:
            dW, db, dX = recurrence.gradients(A_in[l], W, b, delta)
        new_b = None if b is None or db is None else b - lr * db
        title = layer_name(l, len(Z))
        pools: list[PoolStep] = []
        if recurrence is not None:
            dA_rows = dX
        elif norm is not None:
            dA_rows = norm.backward(rows[l], W[0], delta)
        else:
            dA_rows = connection.multiply_transposed(delta, W)
        d = connection.sum_rows(dA_rows)
        for pool, image, pooled in zip(connection.pools[::-1], images[l][-2::-1], images[l][:0:-1], strict=True):
            pools.insert(0, PoolStep(pool, image, pooled, d))
            d = pool.backward(image, d)
        step = LayerStep(
            *(title, row.name, A_in[l], Z[l], A[l], dA, derivative, delta, W, dW, W - lr * dW, b, db, new_b),
            windows=connection.windows,
            pools=tuple(pools),
            columnwise=connection.columnwise,
            norm=norm,
            X=None if norm is None else rows[l],
            recurrence=recurrence,
        )
        steps.insert(0, step)
        dA = problem.connections[l - 1].mask_outputs(d.reshape(A[l - 1].shape)) if l else d
    return tuple(steps)
