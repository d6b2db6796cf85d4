"""The table of works: what every peer is asked to do, on which data, from which start.

Everything is made from fixed seeds, so each peer's process makes the same data and the same initial weights
for itself. What a peer hands back (weights, or predictions) is judged here, by one formula for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np


class Dense(NamedTuple):
    """In the table just a number."""

    n: int

    def __str__(self):
        return str(self.n)

    def shape(self, below):
        return (self.n,)

    def matrix(self, below):
        """The shape of W for such rows from below."""
        return prod(below), self.n


class Conv(NamedTuple):
    """A convolution of stride 1, whose images keep their size where it is `same`; else windows stay within them."""

    filters: int
    size: int
    same: bool = False

    def __str__(self):
        return f"{self.filters}c{self.size}"

    def shape(self, below):
        height, width = (n if self.same else n - self.size + 1 for n in below[:2])
        return height, width, self.filters

    def matrix(self, below):
        return self.size**2 * below[2], self.filters


class MaxPool(NamedTuple):
    """The largest number of windows that lie side by side."""

    size: int

    def __str__(self):
        return f"p{self.size}"

    def shape(self, below):
        return below[0] // self.size, below[1] // self.size, below[2]


class Placed(NamedTuple):
    """A layer, and the shapes of a row that it gets and gives: (n,), or (height, width, channels)."""

    layer: Dense | Conv | MaxPool
    below: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def multiply_adds(self) -> int:
        """Of a row, forward."""
        return prod(self.out[:-1]) * prod(self.layer.matrix(self.below))


@dataclass(frozen=True)
class Work:
    """One row of the table.

    Attributes
    ----------
    layers : tuple
        Inputs, hidden layers, outputs: numbers; or the shape of an image, convolutions, pools and numbers.
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
    calls : bool
        Each step is a call from Python, on rows as NumPy has them: `epochs` of them, on one thread.
    goals : dict of str to float
        How many times faster than a peer nnc means to be.
    goals_alone : dict of str to float
        The same with one thread each.
    shares : tuple of float
        Of the processor's multiply-add peak, what nnc means to reach on one thread and on all.
    """

    key: str
    layers: tuple
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
    calls: bool = False
    goals: dict[str, float] = field(default_factory=dict)
    goals_alone: dict[str, float] = field(default_factory=dict)
    shares: tuple[float, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether all steps are one fit, which has a share of the peak."""
        return self.training and not self.calls

    @property
    def images(self) -> bool:
        """Whether a row is an image."""
        return not isinstance(self.layers[0], int)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row."""
        return self.layers[0] if self.images else self.layers[:1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, hidden layers, outputs of a work whose layers are all dense."""
        assert not self.images
        return self.layers

    @property
    def stack(self) -> list[Placed]:
        """All layers but the input."""
        below, stack = self.shape, []
        for layer in self.layers[1:]:
            layer = Dense(layer) if isinstance(layer, int) else layer
            stack.append(Placed(layer, below, layer.shape(below)))
            below = stack[-1].out
        return stack

    @property
    def computing(self) -> list[Placed]:
        """Those with weights."""
        return [placed for placed in self.stack if not isinstance(placed.layer, MaxPool)]

    @property
    def multiply_adds(self) -> int:
        """That the mathematics needs of a row in training: of each layer forward, for the gradient by its weights, and
        for that by its inputs, which the first one does without."""
        first, *others = (placed.multiply_adds for placed in self.computing)
        return 2 * first + 3 * sum(others)

    @property
    def name(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{self.key} {'-'.join([shape, *(str(placed.layer) for placed in self.stack)])}"

    @property
    def title(self) -> str:
        what = f"{self.name} {self.hidden}, {self.output}, {self.dtype}"
        if not self.training:
            return f"{what}: {self.epochs} times predict of one row"
        if self.calls:
            rows = "one row" if self.rows == 1 else f"{self.rows} rows"
            return f"{what}: {self.loss}, {self.optimizer}, {self.epochs} steps on {rows}, each a call"
        rows = "full batch" if self.batch is None else f"batch {self.batch}"
        bias = "" if self.bias else ", no bias"
        return f"{what}{bias}: {self.loss}, {self.optimizer}, {self.rows} rows, {rows}, {self.epochs} epochs"

    @property
    def steps(self) -> int:
        """Updates (or calls) in one run: the times of the table are for one of them."""
        return self.epochs * -(-self.rows // (self.batch or self.rows))

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """X (rows, *shape) and y: labels (rows,) for cross-entropy, else targets (rows, n_out)."""
        if self.key == "A":
            X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], self.dtype)
            return X, np.array([[0], [1], [1], [0]], self.dtype)
        rng = np.random.default_rng(20)
        n_in, n_out = prod(self.shape), self.layers[-1]
        X = rng.standard_normal((self.rows, n_in))
        scores = X @ rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)
        scores += 0.3 * rng.standard_normal(scores.shape)  # so that the loss ends well above 0
        y = scores.argmax(axis=1) if self.loss == "cross_entropy" else np.tanh(scores).astype(self.dtype)
        if self.images:  # something that a window can see
            X += 0.3 * np.repeat(rng.standard_normal((n_out, n_in // 7)), 7, axis=1)[y]
        X *= min(1.0, 8.0 / np.sqrt(n_in))  # many inputs: rows about as long as MNIST's, fit for the same lr
        return X.astype(self.dtype).reshape(self.rows, *self.shape), y

    @property
    def X(self) -> np.ndarray:
        return self.data[0]

    @property
    def y(self) -> np.ndarray:
        return self.data[1]

    @property
    def Y(self) -> np.ndarray:
        """The targets as a table (rows, n_out): labels become one-hot."""
        return np.eye(self.layers[-1], dtype=self.dtype)[self.y] if self.y.ndim == 1 else self.y

    @cached_property
    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The start, the same for every peer: W (n_in, n_out) and b (n_out,) of each layer. To be copied. The rows of a
        convolution's W are row, column and channel of its window, the columns its filters."""
        rng = np.random.default_rng(1)
        layers = []
        for placed in self.computing:
            n_in, n_out = shape = placed.layer.matrix(placed.below)
            W = rng.random(shape) if self.key == "A" else rng.standard_normal(shape) * np.sqrt(2 / n_in)
            layers.append((W.astype(self.dtype), np.zeros(n_out, self.dtype)))
        return layers

    def judge(self, result) -> float:
        """The loss over all rows of what a run handed back: trained weights, or the predictions for row 0."""
        if not self.training:
            return self._loss(np.asarray(result, float).reshape(1, -1), self.y[:1])
        some = max(1, 2_000_000 // max(prod(placed.out) for placed in self.stack))  # rows at a time
        outputs = [self._outputs(self.X[i : i + some].astype(float), result) for i in range(0, self.rows, some)]
        return self._loss(np.concatenate(outputs), self.y)

    def _outputs(self, A: np.ndarray, weights) -> np.ndarray:
        """The network by its definition, or the logits where the loss takes those."""
        parts = iter(weights)
        for number, (layer, _, out) in enumerate(self.stack, start=1):
            if isinstance(layer, MaxPool):
                A = pooled(A, layer.size, out)
                continue
            W, b = next(parts)
            W = np.asarray(W, float)
            A = convolved(A, layer, W, out) if isinstance(layer, Conv) else A.reshape(len(A), -1) @ W
            if b is not None:
                A += np.asarray(b, float)
            if number < len(self.stack):
                A = _ACTIVATIONS[self.hidden](A)
            elif self.output != "softmax":  # the loss takes the logits
                A = _ACTIVATIONS[self.output](A)
        return A

    def _loss(self, P: np.ndarray, y: np.ndarray) -> float:
        if self.loss == "cross_entropy":
            P = P - P.max(axis=1, keepdims=True)
            return float(np.mean(np.log(np.exp(P).sum(axis=1)) - P[np.arange(len(y)), y]))
        squares = (P - y) ** 2
        return float(squares.sum() if self.loss == "sse" else squares.mean())


def convolved(A: np.ndarray, layer: Conv, W: np.ndarray, out: tuple[int, ...]) -> np.ndarray:
    """The sum over the window's rows and columns."""
    height, width, filters = out
    if layer.same:
        before, after = (layer.size - 1) // 2, layer.size // 2
        A = np.pad(A, ((0, 0), (before, after), (before, after), (0, 0)))
    Z = np.zeros((len(A) * height * width, filters))
    for place, tap in enumerate(W.reshape(layer.size**2, -1, filters)):
        y, x = divmod(place, layer.size)
        Z += A[:, y : y + height, x : x + width].reshape(len(Z), -1) @ tap
    return Z.reshape(-1, *out)


def pooled(A: np.ndarray, size: int, out: tuple[int, ...]) -> np.ndarray:
    height, width, channels = out
    windows = A[:, : height * size, : width * size].reshape(-1, height, size, width, size, channels)
    return windows.max(axis=(2, 4))


_ACTIVATIONS = {
    "sigmoid": lambda Z: 1 / (1 + np.exp(-Z)),
    "tanh": np.tanh,
    "relu": lambda Z: np.maximum(Z, 0),
    "identity": lambda Z: Z,
}

_MNIST = (784, 128, 10)
_CLASSES = ("relu", "softmax", "cross_entropy")
_LENET = ((28, 28, 1), Conv(6, 5), MaxPool(2), Conv(16, 5), MaxPool(2), 120, 84, 10)
_WIDE = ((28, 28, 1), Conv(32, 3, same=True), Conv(32, 3, same=True), MaxPool(2), 128, 10)
_FOUR = (4, 16, 3)
_FEW = {"goals": {"torch": 5.5, "jax": 6}, "goals_alone": {"torch": 4.2, "jax": 6}, "shares": (0.8, 0.75)}
_MORE = {"goals": {"torch": 4.4, "jax": 6}, "goals_alone": {"torch": 3.3, "jax": 6}, "shares": (0.8, 0.75)}

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
        Work("H", _FOUR, "relu", "identity", "mse", 10_000, rows=1, training=False,
             goals={"numpy": 2, "torch": 6, "sklearn": 40}),
        Work("L32", _LENET, *_CLASSES, 1, rows=4096, batch=32, lr=0.05, **_FEW),
        Work("L32-adam", _LENET, *_CLASSES, 1, rows=4096, batch=32, optimizer="adam", lr=0.001, **_FEW),
        Work("L128", _LENET, *_CLASSES, 2, rows=4096, batch=128, lr=0.1, **_MORE),
        Work("L128-adam", _LENET, *_CLASSES, 2, rows=4096, batch=128, optimizer="adam", lr=0.001, **_MORE),
        Work("K32", _WIDE, *_CLASSES, 1, rows=1024, batch=32, lr=0.02,
             goals={"torch": 1.25}, goals_alone={"torch": 1.25}, shares=(0.8, 0.8)),
        *(
            Work(f"S{rows}{wide}{adam}", sizes, "tanh", "identity", "mse", 2000, rows=rows, calls=True,
                 optimizer=optimizer, lr=lr, goals={"torch": 70, "jax": 10} if rows == 1 and not wide else {})
            for rows in (1, 32)
            for wide, sizes in (("", _FOUR), ("-wide", (64, 64, 10)))
            for adam, optimizer, lr in (("", "sgd", 0.01), ("-adam", "adam", 0.001))
        ),
    )
}  # fmt: skip
