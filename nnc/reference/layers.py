"""Activations, and the forward and backward pass of a dense layer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Row = Sequence[float]
    Rows = Sequence[Row]
    # A gradient is (dL/dW, dL/db). dL/db is a list, for a GRU a list of two lists, or None without biases.
    Gradient = tuple[list[list[float]], Any]


def sigmoid(z: float) -> float:
    """Return 1 / (1 + exp(-z)), in a form in which exp cannot overflow."""
    e = math.exp(-abs(z))
    return 1 / (1 + e) if z >= 0 else e / (1 + e)


# Each activation f, and its derivative df/dz as a function of the net input z and the output a = f(z).
ACTIVATIONS: dict[str, tuple[Callable[[float], float], Callable[[float, float], float]]] = {
    "sigmoid": (sigmoid, lambda z, a: a * (1 - a)),
    "tanh": (math.tanh, lambda z, a: 1 - a * a),
    "relu": (lambda z: z if z > 0 else 0.0, lambda z, a: 1.0 if a > 0 else 0.0),
    "identity": (lambda z: z, lambda z, a: 1.0),
    "sin": (math.sin, lambda z, a: math.cos(z)),
}
NEEDS_NET_INPUT = ("sin",)  # activations whose derivative is not a function of the output only


def softmax(row: Row) -> list[float]:
    """Return exp(z) / (sum of exp(z) over the row) for each z of a row, in a form in which exp cannot overflow."""
    largest = max(row)
    exponentials = [math.exp(z - largest) for z in row]
    total = sum(exponentials)
    return [e / total for e in exponentials]


def transposed(A: Rows) -> Rows:
    """Return the transposed matrix, whose rows are the columns of A."""
    return list(zip(*A))


def product(A: Rows, B: Rows) -> list[list[float]]:
    """Return the matrix product A B: the sum over k of A[i][k] * B[k][j] for each i and j."""
    columns = transposed(B)
    return [[sum(a * b for a, b in zip(row, column)) for column in columns] for row in A]


class Layer(ABC):
    """Base class of layers. Its `backward` is for layers without activation and weights, such as pooling layers."""

    @abstractmethod
    def forward(self, A_in: Rows) -> Rows:
        """Return A_out, the outputs of the layer: one row for each row of the inputs A_in."""

    def forward_batch(self, A_in: Rows) -> Rows:
        """Return A_out, the outputs of the layer, in a training step; batch normalization overrides this method."""
        return self.forward(A_in)

    def backward(self, A_in: Rows, A_out: Rows, dA: Rows) -> tuple[Rows, Gradient | None]:
        """Return delta = dL/dZ of the net inputs Z, and the gradients (dW, db), given dA = dL/dA_out of the outputs.

        The gradients are None if the layer has no parameters.
        """
        return dA, None

    @abstractmethod
    def input_gradient(self, A_in: Rows, delta: Rows) -> Rows:
        """Return dL/dA_in, the derivatives of the loss with respect to the inputs, given delta = dL/dZ."""


class Dense(Layer):
    """Dense layer: each neuron is connected to each input."""

    b: list[float] | None
    activation: str
    n_in: int
    n_out: int

    def __init__(self, W: list[list[float]], b: list[float] | None, activation: str) -> None:
        self.W, self.b, self.activation = W, b, activation
        self.n_in, self.n_out = len(W), len(W[0])

    def forward(self, A_in: Rows) -> Rows:
        """Return the outputs A_out = f(A_in W + b), with the activation f: one row for each row of inputs."""
        f, _ = ACTIVATIONS[self.activation]
        return [[f(z) for z in row] for row in self.net_inputs(A_in)]

    def net_inputs(self, A_in: Rows) -> list[list[float]]:
        """Return the net inputs Z = A_in W + b: one row for each row of inputs."""
        b = self.b or [0.0] * self.n_out
        return [[z + b_j for z, b_j in zip(row, b)] for row in product(A_in, self.W)]

    def backward(self, A_in: Rows, A_out: Rows, dA: Rows) -> tuple[Rows, Gradient]:
        """Return delta = dL/dZ of the net inputs Z, and the gradients (dW, db), given dA = dL/dA_out of the outputs."""
        # Activation: a = f(z), so delta = dL/dz = dL/da * f'(z). Most derivatives follow from a, without z.
        _, derivative = ACTIVATIONS[self.activation]
        Z = self.net_inputs(A_in) if self.activation in NEEDS_NET_INPUT else A_out
        delta = [[d * derivative(z, a) for d, z, a in zip(*rows)] for rows in zip(dA, Z, A_out)]

        # Z = A_in W + b. Each weight is multiplied by its input in each row, so dL/dW = transposed(A_in) delta.
        # A bias is multiplied by 1, so dL/db is the sum of delta over the rows.
        dW = product(transposed(A_in), delta)
        db = [sum(column) for column in transposed(delta)] if self.b else None
        return delta, (dW, db)

    def input_gradient(self, A_in: Rows, delta: Rows) -> Rows:
        """Return dL/dA_in, the derivatives of the loss with respect to the inputs, given delta = dL/dZ."""
        # Each input contributes to all neurons by its weights, so dL/dA_in = delta transposed(W).
        return product(delta, transposed(self.W))


class Softmax(Layer):
    """Softmax after the last dense layer, for each row or for each step of n_out numbers of a sequence."""

    def __init__(self, n_out: int) -> None:
        self.n_out = n_out

    def by_step(self, row: Row) -> list[Row]:
        """Return the parts of a row that have a softmax of their own."""
        return [row[first : first + self.n_out] for first in range(0, len(row), self.n_out)]

    def forward(self, A_in: Rows) -> Rows:
        """Return the outputs A_out = softmax(A_in)."""
        return [[a for step in self.by_step(row) for a in softmax(step)] for row in A_in]

    def backward(self, A_in: Rows, A_out: Rows, dA: Rows) -> tuple[Rows, None]:
        """Return delta = dL/dZ for the inputs Z, given dA = dL/dA_out of the outputs; there are no parameters."""
        # The derivative of output a_k with respect to z_j is a_j * (1 - a_j) for k = j, otherwise -a_k * a_j. So
        # dL/dz_j = a_j * (dL/da_j - the sum over k of a_k * dL/da_k).
        delta: list[list[float]] = []
        for a_row, d_row in zip(A_out, dA):
            delta.append([])
            for a_step, d_step in zip(self.by_step(a_row), self.by_step(d_row)):
                total = sum(a * d for a, d in zip(a_step, d_step))
                delta[-1] += [a * (d - total) for a, d in zip(a_step, d_step)]
        return delta, None

    def input_gradient(self, A_in: Rows, delta: Rows) -> Rows:
        """Return dL/dA_in, the derivatives of the loss with respect to the inputs, given delta = dL/dZ."""
        return delta
