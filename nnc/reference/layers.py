"""The layers: what each makes of its inputs, and how a change of the loss goes back through it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Row = Sequence[float]
    Rows = Sequence[Row]
    Gradient = tuple[list[list[float]], list[float] | None]  # dW, db


def sigmoid(z: float) -> float:
    """1 / (1 + exp(-z)), in a form in which exp cannot overflow."""
    e = math.exp(-abs(z))
    return 1 / (1 + e) if z >= 0 else e / (1 + e)


# Each activation f, and its slope df/dz, which for these four can be told from the output a = f(z) alone.
ACTIVATIONS: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "sigmoid": (sigmoid, lambda a: a * (1 - a)),
    "tanh": (math.tanh, lambda a: 1 - a * a),
    "relu": (lambda z: z if z > 0 else 0.0, lambda a: 1.0 if a > 0 else 0.0),
    "identity": (lambda z: z, lambda a: 1.0),
}


def transposed(A: Rows) -> Rows:
    """The columns of A as rows."""
    return list(zip(*A))


def product(A: Rows, B: Rows) -> list[list[float]]:
    """The matrix product A B: sum over k of A[i][k] * B[k][j], for every i and j."""
    columns = transposed(B)
    return [[sum(a * b for a, b in zip(row, column)) for column in columns] for row in A]


class Layer(ABC):
    """What all layers answer. One without activation and weights, as pools are, answers this to `backward`."""

    @abstractmethod
    def forward(self, A_in: Rows) -> Rows:
        """A_out, a row of outputs for every row of inputs."""

    def forward_batch(self, A_in: Rows) -> Rows:
        """The same in a step of training, which is something else where rows depend on each other."""
        return self.forward(A_in)

    def backward(self, A_in: Rows, A_out: Rows, dA: Rows) -> tuple[Rows, Gradient | None]:
        """delta, which is dL/dZ, and (dW, db), None where there is nothing to learn; dA is dL/dA_out."""
        return dA, None

    @abstractmethod
    def downward(self, A_in: Rows, delta: Rows) -> Rows:
        """dL/dA_in, which is the dA of the layer below."""


class Dense(Layer):
    """A dense layer: every neuron sees every input."""

    b: list[float] | None
    activation: str
    n_in: int
    n_out: int

    def __init__(self, W: list[list[float]], b: list[float] | None, activation: str) -> None:
        self.W, self.b, self.activation = W, b, activation
        self.n_in, self.n_out = len(W), len(W[0])

    def forward(self, A_in: Rows) -> Rows:
        """A_out = f(A_in W + b), a row of outputs for every row of inputs."""
        f, _ = ACTIVATIONS[self.activation]
        b = self.b or [0.0] * self.n_out
        return [[f(z + b_j) for z, b_j in zip(row, b)] for row in product(A_in, self.W)]

    def backward(self, A_in: Rows, A_out: Rows, dA: Rows) -> tuple[Rows, Gradient]:
        """delta, which is dL/dZ, and (dW, db); dA is dL/dA_out."""
        # Through the activation: a = f(z), so dL/dz = dL/da * f'(z), which is called delta.
        _, slope = ACTIVATIONS[self.activation]
        delta = [[d * slope(a) for d, a in zip(*rows)] for rows in zip(dA, A_out)]

        # Z = A_in W + b. A weight acts through its input in every row, so dL/dW = transposed(A_in) delta;
        # a bias acts through an input of 1, so dL/db = sum over rows of delta.
        dW = product(transposed(A_in), delta)
        db = [sum(column) for column in transposed(delta)] if self.b else None
        return delta, (dW, db)

    def downward(self, A_in: Rows, delta: Rows) -> Rows:
        """dL/dA_in, which is the dA of the layer below."""
        # An input acts through its weights to every neuron, so dL/dA_in = delta transposed(W).
        return product(delta, transposed(self.W))
