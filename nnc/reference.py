"""The network of the tutorials, in plain Python: slow, obvious, and what the compiled engine is measured by.

Read it from top to bottom: activations, losses, a layer; then the network with its forward pass, its backward
pass (the chain rule), the update and the training loop. Behind it stand the random numbers that it starts
from, the text that `inspect` prints, and the checks of what a user gives.

The names are those of the engine. X holds n rows of inputs, y the n rows of targets, P the predictions. In a
layer, W[i][j] weighs input i for neuron j, b[j] is the bias of neuron j, Z = A_in W + b the net input, and
A_out = f(Z) the output. L is the loss, and dW is short for dL/dW: how much L changes per unit of each weight.
"""
# ruff: noqa: B905 (no zip here meets lists of different lengths: the checks at the end see to that)

from __future__ import annotations

import math
import os
from time import perf_counter
from typing import TYPE_CHECKING

from nnc import files
from nnc.inspection.text import inspect_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    Row = Sequence[float]
    Rows = Sequence[Row]
    Gradients = list[tuple[list[list[float]], list[float] | None]]


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

# Each loss is L = scale * sum of (p - y)^2 over all rows and outputs. The mean divides by their number.
LOSSES: dict[str, Callable[[int], float]] = {
    "sse": lambda number: 1.0,
    "half_sse": lambda number: 0.5,
    "mse": lambda number: 1 / number,
}


def squared_error(P: Rows, y: Rows) -> float:
    """The sum of (p - y)^2 over all rows and outputs."""
    return sum((p - t) * (p - t) for rows in zip(P, y) for p, t in zip(*rows))


def transposed(A: Rows) -> Rows:
    """The columns of A as rows."""
    return list(zip(*A))


def product(A: Rows, B: Rows) -> list[list[float]]:
    """The matrix product A B: sum over k of A[i][k] * B[k][j], for every i and j."""
    columns = transposed(B)
    return [[sum(a * b for a, b in zip(row, column)) for column in columns] for row in A]


class Layer:
    """A dense layer: every neuron sees every input."""

    def __init__(self, W: list[list[float]], b: list[float] | None, activation: str) -> None:
        self.W, self.b, self.activation = W, b, activation
        self.n_in, self.n_out = len(W), len(W[0])

    def forward(self, A_in: Rows) -> Rows:
        """A_out = f(A_in W + b), a row of outputs for every row of inputs."""
        f, _ = ACTIVATIONS[self.activation]
        b = self.b or [0.0] * self.n_out
        return [[f(z + b_j) for z, b_j in zip(row, b)] for row in product(A_in, self.W)]


class History:
    """What a training did: the `loss` of every epoch, the number of `epochs`, the time in `seconds`."""

    def __init__(self, loss: list[float], seconds: float) -> None:
        self.loss, self.epochs, self.seconds = loss, len(loss), seconds


class NeuralNetwork:
    """Dense layers that learn by gradient descent. Arguments and methods are those of the compiled engine.

    Parameters
    ----------
    sizes : number of inputs, neurons of each hidden layer, number of outputs
    activation : sigmoid, tanh, relu or identity, one for all hidden layers or one each
    output : activation of the last layer (default: identity for mse, else sigmoid)
    loss : sse, the sum of (p - y)^2; half_sse, half of it; mse, its mean over rows and outputs
    bias : whether neurons have a bias
    init : one of INITIALIZERS (default: he_uniform for relu, else glorot_uniform), or the weights themselves
    dtype : float64
    seed : the same gives the same weights and the same order of rows (default: another one every time)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str | Sequence[str] = "sigmoid",
        output: str | None = None,
        loss: str = "sse",
        bias: bool = True,
        init: str | Sequence[Any] | None = None,
        dtype: Any = "float64",
        seed: int | None = None,
    ) -> None:
        self.sizes = tuple(_whole("a size", size, 1) for size in sizes)
        hidden = len(self.sizes) - 2
        if hidden < 0:
            raise ValueError(f"sizes must name inputs and outputs at least, like [3, 1], got {list(sizes)}")
        names = [activation] * hidden if isinstance(activation, str) else list(activation)
        if len(names) != hidden:
            raise ValueError(f"activation must be one name, or {hidden} for {hidden} hidden layers, got {names}")
        self.activations = (*names, output or ("identity" if loss == "mse" else "sigmoid"))
        self.loss_name, self.bias, self.dtype = loss, bool(bias), str(dtype)
        _supported("loss", [loss], LOSSES)
        _supported("activation", self.activations, ACTIVATIONS)
        _supported("dtype", [self.dtype], ["float64"])
        self.seed = _whole("seed", int.from_bytes(os.urandom(4)) if seed is None else seed, 0)
        self._shuffler = Stream(mix(mix(self.seed) + 1))
        draw = init if init is None or isinstance(init, str) else "zeros"
        self.layers = first_layers(self.sizes, self.activations, self.bias, draw, self.seed)
        if draw is not init:
            self.weights = init

    @property
    def weights(self) -> Any:
        """W of every layer. Assign a list of them to change the network."""
        return tuple(layer.W for layer in self.layers)

    @weights.setter
    def weights(self, values: Any) -> None:
        _same_length("weights", values, self.weights)
        checked = [_rows("weights", W, layer.n_out, layer.n_in) for layer, W in zip(self.layers, values)]
        for layer, W in zip(self.layers, checked):
            layer.W = W

    @property
    def biases(self) -> Any:
        """b of every layer, none without bias. Assign a list of them to change the network."""
        return tuple(layer.b for layer in self.layers if layer.b)

    @biases.setter
    def biases(self, values: Any) -> None:
        _same_length("biases", values, self.biases)
        checked = [_rows("biases", [b], layer.n_out)[0] for layer, b in zip(self.layers, values)]
        for layer, b in zip(self.layers, checked):
            layer.b = b

    def predict(self, X: Any) -> Rows:
        """P, a row of outputs for every row of X."""
        return self._forward(_rows("X", X, self.sizes[0]))[-1]

    def _forward(self, X: Rows) -> list[Rows]:
        A = [X]  # then the output of every layer in turn, P at last; the backward pass needs them all
        for layer in self.layers:
            A.append(layer.forward(A[-1]))
        return A

    def loss(self, X: Any, y: Any) -> float:
        """L = scale * sum of (p - y)^2."""
        X, y = self._data(X, y)
        return self._scale(X) * squared_error(self._forward(X)[-1], y)

    def _scale(self, X: Rows) -> float:
        return LOSSES[self.loss_name](len(X) * self.sizes[-1])

    def gradients(self, X: Any, y: Any) -> Gradients:
        """(dW, db) of every layer; db is None without bias."""
        return self._backward(*self._data(X, y))[1]

    def _backward(self, X: Rows, y: Rows) -> tuple[float, Gradients]:
        """The sum of (p - y)^2, and the gradients by the chain rule, from the last layer to the first."""
        A = self._forward(X)
        P = A[-1]

        # L = scale * sum of (p - y)^2, so dL/dp = 2 * scale * (p - y).
        scale = self._scale(X)
        dA = [[2 * scale * (p - t) for p, t in zip(*rows)] for rows in zip(P, y)]

        gradients: Gradients = []
        for layer, A_in, A_out in reversed(list(zip(self.layers, A, A[1:]))):
            # Through the activation: a = f(z), so dL/dz = dL/da * f'(z), which is called delta.
            _, slope = ACTIVATIONS[layer.activation]
            delta = [[d * slope(a) for d, a in zip(*rows)] for rows in zip(dA, A_out)]

            # Z = A_in W + b. A weight acts through its input in every row, so dL/dW = transposed(A_in) delta;
            # a bias acts through an input of 1, so dL/db = sum over rows of delta.
            dW = product(transposed(A_in), delta)
            db = [sum(column) for column in transposed(delta)] if self.bias else None
            gradients.insert(0, (dW, db))

            # An input acts through its weights to every neuron, so dL/dA_in = delta transposed(W).
            if layer is not self.layers[0]:
                dA = product(delta, transposed(layer.W))
        return squared_error(P, y), gradients

    def train_step(self, X: Any, y: Any, lr: float) -> float:
        """One step of gradient descent on all these rows. Returns the loss before it."""
        X, y = self._data(X, y)
        return self._scale(X) * self._step(X, y, _positive("lr", lr))

    def _step(self, X: Rows, y: Rows, lr: float) -> float:
        error, gradients = self._backward(X, y)
        for layer, (dW, db) in zip(self.layers, gradients):
            # Downhill: W = W - lr * dL/dW, b = b - lr * dL/db.
            layer.W = [[w - lr * d for w, d in zip(*rows)] for rows in zip(layer.W, dW)]
            layer.b = layer.b and db and [b - lr * d for b, d in zip(layer.b, db)]
        return error

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        epochs: int,
        lr: float | None = None,
        optimizer: str = "sgd",
        batch_size: int | None = None,
        shuffle: bool = True,
    ) -> History:
        """Go through all rows `epochs` times, with a step of gradient descent for every `batch_size` of them.

        `lr` is the learning rate (default 0.001). Without `batch_size`, all rows are one batch. `shuffle` puts
        the rows in a new order every epoch. The loss of an epoch is that of its batches, each before its
        step. If a number is no longer finite, ArithmeticError is raised and that epoch undone.
        """
        X, y = self._data(X, y)
        epochs, lr = _whole("epochs", epochs, 0), _positive("lr", 0.001 if lr is None else lr)
        batch_size = len(X) if batch_size is None else _whole("batch_size", batch_size, 1)
        _supported("optimizer", [optimizer], ["sgd"])
        losses: list[float] = []
        order, start = list(range(len(X))), perf_counter()
        for epoch in range(1, epochs + 1):
            before = [(layer.W, layer.b) for layer in self.layers]
            if shuffle and batch_size < len(X):
                order = list(range(len(X)))
                self._shuffler.shuffle(order)
            error = 0.0
            for first in range(0, len(X), batch_size):
                batch = order[first : first + batch_size]
                error += self._step([X[row] for row in batch], [y[row] for row in batch], lr)
            losses.append(self._scale(X) * error)
            numbers = [w for layer in self.layers for row in [*layer.W, layer.b or []] for w in row]
            if not all(map(math.isfinite, [losses[-1], *numbers])):
                for layer, (W, b) in zip(self.layers, before):
                    layer.W, layer.b = W, b
                raise ArithmeticError(f"training diverged in epoch {epoch}; try a smaller lr than {lr}")
        return History(losses, perf_counter() - start)

    def _data(self, X: Any, y: Any) -> tuple[Rows, Rows]:
        X = _rows("X", X, self.sizes[0])
        return X, _rows("y", y, self.sizes[-1], len(X))

    def inspect(self, file: Any = None) -> None:
        """Print every layer, neuron, weight and bias."""
        print(inspect_text([(layer.W, layer.b) for layer in self.layers]), file=file)

    def save(self, path: Any) -> None:
        """Write the network to a JSON file (a path, or an open text file)."""
        files.write(path, self._document())

    @classmethod
    def load(cls, path: Any) -> NeuralNetwork:
        """Read a network that was saved here or by the engine. ValueError names what is not in this reference.

        Of a checkpoint the network is read, not where its training was.
        """
        return cls._from_document(files.read(path), files.place(path))

    def to_json(self) -> str:
        """The text that `save` writes."""
        return files.dumps(self._document())

    @classmethod
    def from_json(cls, text: str) -> NeuralNetwork:
        """The network that `to_json` wrote, here or in the engine."""
        return cls._from_document(files.loads(text), "the JSON text")

    def _document(self) -> dict[str, Any]:
        X = files.self_test_row(self.sizes[0])
        P = self.predict([X])[0]
        return {
            "dtype": self.dtype,
            "loss": self.loss_name,
            "seed": self.seed,
            "shuffle_position": self._shuffler.position,
            "layers": [{"type": "dense", **vars(layer)} for layer in self.layers],
            "self_test": {"X": X, "P": P} if all(map(math.isfinite, P)) else None,
        }

    @classmethod
    def _from_document(cls, document: dict[str, Any], where: str) -> NeuralNetwork:
        for key in ("classes", "scale_X", "scale_y"):
            if document[key] is not None:
                raise ValueError(
                    f"{key} is not in the plain-Python reference, which takes numbers and gives numbers as they are; "
                    "what else there is, the compiled nnc.NeuralNetwork has"
                )
        layers = document["layers"]
        network = cls(
            [layers[0]["n_in"], *(layer["n_out"] for layer in layers)],
            activation=[layer["activation"] for layer in layers[:-1]],
            output=layers[-1]["activation"],
            loss=document["loss"],
            bias=layers[0]["b"] is not None,
            init=[layer["W"] for layer in layers],
            dtype=document["dtype"],
            seed=document["seed"],
        )
        network.biases = [layer["b"] for layer in layers if network.bias]
        network._shuffler.position = document["shuffle_position"]
        if document["self_test"]:
            files.verify_self_test(document, network.predict([document["self_test"]["X"]])[0], where)
        return network


def mix(z: int) -> int:
    """Stir the 64 bits of z (the generator splitmix64)."""
    z %= 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


class Stream:
    """The random numbers of a key: each is its place in the stream, stirred."""

    def __init__(self, key: int) -> None:
        self.key, self.position = key, 0

    def bits(self) -> int:
        """The next 64 bits."""
        self.position += 1
        return mix(self.key + self.position * 0x9E3779B97F4A7C15)

    def uniform(self) -> float:
        """Evenly from [0, 1)."""
        return (self.bits() >> 11) * 2.0**-53

    def normal(self) -> float:
        """From the bell curve of mean 0 and variance 1 (the method of Box and Muller)."""
        radius = math.sqrt(-2 * math.log(1 - self.uniform()))
        return radius * math.cos(2 * math.pi * self.uniform())

    def shuffle(self, order: list[int]) -> None:
        """Put a list in random order (the method of Fisher and Yates)."""
        for i in range(len(order) - 1, 0, -1):
            j = (self.bits() >> 32) * (i + 1) >> 32
            order[i], order[j] = order[j], order[i]


# How a weight is drawn from a stream. Biases start at 0; only uniform draws them too.
INITIALIZERS: dict[str, Callable[[Stream, int, int], float]] = {
    "zeros": lambda stream, n_in, n_out: 0.0,
    "uniform": lambda stream, n_in, n_out: stream.uniform(),
    "glorot_uniform": lambda stream, n_in, n_out: (2 * stream.uniform() - 1) * math.sqrt(6 / (n_in + n_out)),
    "glorot_normal": lambda stream, n_in, n_out: stream.normal() * math.sqrt(2 / (n_in + n_out)),
    "he_uniform": lambda stream, n_in, n_out: (2 * stream.uniform() - 1) * math.sqrt(6 / n_in),
    "he_normal": lambda stream, n_in, n_out: stream.normal() * math.sqrt(2 / n_in),
}


def first_layers(
    sizes: Sequence[int], activations: Sequence[str], bias: bool, init: str | None, seed: int
) -> list[Layer]:
    """Layers with drawn weights, from one stream: layer by layer, W row by row, then b."""
    stream, layers = Stream(mix(seed)), []
    for n_in, n_out, activation in zip(sizes, sizes[1:], activations):
        name = init or ("he_uniform" if activation == "relu" else "glorot_uniform")
        _supported("init", [name], INITIALIZERS)
        W = [[INITIALIZERS[name](stream, n_in, n_out) for _ in range(n_out)] for _ in range(n_in)]
        b = [stream.uniform() if name == "uniform" else 0.0 for _ in range(n_out)] if bias else None
        layers.append(Layer(W, b, activation))
    return layers


def _supported(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in list(known):
            raise ValueError(
                f"{what} {name!r} is not in the plain-Python reference, which has {', '.join(known)}; "
                "what else there is, the compiled nnc.NeuralNetwork has"
            )


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if not least <= value < 2**64:
        raise ValueError(f"{name} must be at least {least} and less than 2**64, got {value}")
    return int(value)


def _positive(name: str, value: Any) -> float:
    if not hasattr(value, "__float__") or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
    return float(value)


def _same_length(name: str, values: Sequence[Any], of: Sequence[Any]) -> None:
    if len(values) != len(of):
        raise ValueError(f"{name} must have {len(of)} items, one per layer, got {len(values)}")


def _rows(name: str, table: Any, n_columns: int, n_rows: int | None = None) -> list[list[float]]:
    """A table of numbers (lists, tuples, arrays) as lists of float, checked. A flat y is a column."""
    try:
        rows = table.tolist() if hasattr(table, "tolist") else list(table)
        if name == "y" and rows and not hasattr(rows[0], "__iter__"):
            rows = [[number] for number in rows]
        rows = [[float(number) for number in row] for row in rows]
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name} must be a list of rows, each a list of numbers: {error}") from None
    if not rows or len(rows) != (n_rows or len(rows)):
        raise ValueError(f"{name} must have {n_rows or 'at least 1'} rows, got {len(rows)}")
    for r, row in enumerate(rows):
        if len(row) != n_columns:
            raise ValueError(f"{name} must have {n_columns} columns, got {len(row)} in row {r}")
        for c, number in enumerate(row):
            if not math.isfinite(number):
                raise ValueError(f"{name} must be finite, got {number} in row {r}, column {c}")
    return rows
