"""The table of works: what every peer is asked to do, on which data, from which start.

Everything is made from fixed seeds, so each peer's process makes the same data and the same initial weights
for itself. What a peer hands back (weights, or predictions) is judged here, by one formula for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Work:
    """One row of the table.

    Attributes
    ----------
    sizes : tuple of int
        Inputs, hidden layers, outputs.
    hidden, output : str
        Activation of the hidden layers and of the last one.
    loss : str
        `sse`, `mse` or `cross_entropy`, defined as in nnc.
    batch : int or None
        Rows a step. None: all of them, no shuffling.
    epochs : int
        Passes over the rows that one run trains; calls of `predict` that one run makes.
    training : bool
        False: predict one row, again and again.
    goals : dict of str to float
        How many times faster than a peer nnc means to be.
    """

    key: str
    sizes: tuple[int, ...]
    hidden: str
    output: str
    loss: str
    epochs: int
    rows: int = 12_000
    batch: int | None = None
    optimizer: str = "sgd"
    lr: float = 0.1
    dtype: str = "float32"
    bias: bool = True
    training: bool = True
    goals: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.key} {'-'.join(map(str, self.sizes))}"

    @property
    def title(self) -> str:
        what = f"{self.name} {self.hidden}, {self.output}, {self.dtype}"
        if not self.training:
            return f"{what}: {self.epochs} times predict of one row"
        rows = "full batch" if self.batch is None else f"batch {self.batch}"
        bias = "" if self.bias else ", no bias"
        return f"{what}{bias}: {self.loss}, {self.optimizer}, {self.rows} rows, {rows}, {self.epochs} epochs"

    @property
    def steps(self) -> int:
        """Updates (or calls) in one run: the times of the table are for one of them."""
        return self.epochs * -(-self.rows // (self.batch or self.rows))

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """X (rows, n_in) and y: labels (rows,) for cross-entropy, else targets (rows, n_out)."""
        if self.key == "A":
            X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], self.dtype)
            return X, np.array([[0], [1], [1], [0]], self.dtype)
        rng = np.random.default_rng(20)
        n_in, n_out = self.sizes[0], self.sizes[-1]
        X = rng.standard_normal((self.rows, n_in))
        scores = X @ rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)
        scores += 0.3 * rng.standard_normal(scores.shape)  # so that the loss ends well above 0
        X *= min(1.0, 8.0 / np.sqrt(n_in))  # many inputs: rows about as long as MNIST's, fit for the same lr
        y = scores.argmax(axis=1) if self.loss == "cross_entropy" else np.tanh(scores).astype(self.dtype)
        return X.astype(self.dtype), y

    @property
    def X(self) -> np.ndarray:
        return self.data[0]

    @property
    def y(self) -> np.ndarray:
        return self.data[1]

    @property
    def Y(self) -> np.ndarray:
        """The targets as a table (rows, n_out): labels become one-hot."""
        return np.eye(self.sizes[-1], dtype=self.dtype)[self.y] if self.y.ndim == 1 else self.y

    @cached_property
    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The start, the same for every peer: W (n_in, n_out) and b (n_out,) of each layer. To be copied."""
        rng = np.random.default_rng(1)
        layers = []
        for n_in, n_out in zip(self.sizes, self.sizes[1:], strict=False):
            shape = n_in, n_out
            W = rng.random(shape) if self.key == "A" else rng.standard_normal(shape) * np.sqrt(2 / n_in)
            layers.append((W.astype(self.dtype), np.zeros(n_out, self.dtype)))
        return layers

    def judge(self, result) -> float:
        """The loss over all rows of what a run handed back: trained weights, or the predictions for row 0."""
        if not self.training:
            return self._loss(np.asarray(result, float).reshape(1, -1), self.y[:1])
        A = self.X.astype(float)
        for number, (W, b) in enumerate(result, start=1):
            A = A @ np.asarray(W, float)
            if b is not None:
                A += np.asarray(b, float)
            if number < len(result):
                A = _ACTIVATIONS[self.hidden](A)
            elif self.output != "softmax":  # the loss takes the logits
                A = _ACTIVATIONS[self.output](A)
        return self._loss(A, self.y)

    def _loss(self, P: np.ndarray, y: np.ndarray) -> float:
        if self.loss == "cross_entropy":
            P = P - P.max(axis=1, keepdims=True)
            return float(np.mean(np.log(np.exp(P).sum(axis=1)) - P[np.arange(len(y)), y]))
        squares = (P - y) ** 2
        return float(squares.sum() if self.loss == "sse" else squares.mean())


_ACTIVATIONS = {
    "sigmoid": lambda Z: 1 / (1 + np.exp(-Z)),
    "tanh": np.tanh,
    "relu": lambda Z: np.maximum(Z, 0),
    "identity": lambda Z: Z,
}

_MNIST = (784, 128, 10)
_CLASSES = ("relu", "softmax", "cross_entropy")

WORKS = {
    work.key: work
    for work in (
        Work("A", (3, 4, 1), "sigmoid", "sigmoid", "sse", 1500, rows=4, lr=1.0, dtype="float64", bias=False,
             goals={"numpy": 110, "torch": 1000, "jax": 4, "genann": 2.3}),
        Work("B", (4, 16, 10), *_CLASSES, 5, batch=32,
             goals={"numpy": 40, "torch": 150, "sklearn": 130, "jax": 20}),
        Work("C", (64, 64, 10), *_CLASSES, 5, batch=32,
             goals={"numpy": 25, "torch": 35, "sklearn": 32, "jax": 6.5, "kann": 9}),
        Work("D", _MNIST, *_CLASSES, 3, batch=32,
             goals={"numpy": 5, "torch": 6.5, "sklearn": 7.5, "jax": 2, "kann": 16}),
        Work("E", _MNIST, *_CLASSES, 3, batch=256, lr=0.5,
             goals={"numpy": 3, "torch": 3, "sklearn": 3, "jax": 1.8}),
        Work("F", (784, 512, 512, 10), *_CLASSES, 2, batch=256, lr=0.2,
             goals={"numpy": 2, "torch": 2.4, "sklearn": 2.2, "jax": 1.15}),
        Work("G", (4, 32, 16, 4), "tanh", "identity", "mse", 20, rows=10_000, optimizer="adam", lr=0.01,
             goals={"numpy": 10, "torch": 5.5, "jax": 2.7}),
        Work("H", (4, 16, 3), "relu", "identity", "mse", 10_000, rows=1, training=False,
             goals={"numpy": 2, "torch": 6, "sklearn": 40}),
    )
}  # fmt: skip
