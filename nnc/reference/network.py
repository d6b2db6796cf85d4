"""The network: the way forward through its layers, the way back, the update of the weights, the training loop."""

from __future__ import annotations

import math
import os
from time import perf_counter
from typing import TYPE_CHECKING

from nnc import _serialization
from nnc._inspection.text import network_text
from nnc._utils import disk
from nnc.layers import Dropout
from nnc.layers.stack import stack, unstack
from nnc.reference.checks import positive, rows_of, same_length, supported, whole
from nnc.reference.first import first_layers
from nnc.reference.layers import ACTIVATIONS, Dense
from nnc.reference.norm import BatchNorm
from nnc.reference.random import Stream, mix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from nnc.layers import base
    from nnc.layers.stack import Stack
    from nnc.reference.layers import Gradient, Layer, Rows

# Each loss is L = scale * sum of (p - y)^2 over all rows and outputs. The mean divides by their number.
LOSSES: dict[str, Callable[[int], float]] = {
    "sse": lambda number: 1.0,
    "half_sse": lambda number: 0.5,
    "mse": lambda number: 1 / number,
}


def squared_error(P: Rows, y: Rows) -> float:
    """The sum of (p - y)^2 over all rows and outputs."""
    return sum((p - t) * (p - t) for rows in zip(P, y) for p, t in zip(*rows))


class History:
    """What a training did: the `loss` of every epoch, the number of `epochs`, the time in `seconds`."""

    loss: list[float]
    epochs: int
    seconds: float

    def __init__(self, loss: list[float], seconds: float) -> None:
        self.loss, self.epochs, self.seconds = loss, len(loss), seconds


class NeuralNetwork:
    """Layers that learn by gradient descent. Arguments and methods are those of the compiled engine.

    Parameters
    ----------
    layers : number of inputs, neurons of each hidden layer, number of outputs; or layers of nnc.layers, Input first
    activation : sigmoid, tanh, relu or identity, one for all hidden layers or one each
    output : activation of the last layer (default: identity for mse, else sigmoid)
    loss : sse, the sum of (p - y)^2; half_sse, half of it; mse, its mean over rows and outputs
    bias : whether neurons have a bias
    init : one of INITIALIZERS (default: he_uniform for relu, else glorot_uniform), or the weights themselves
    dtype : float64
    seed : the same gives the same weights and the same order of rows (default: another one every time)
    """

    loss_name: str
    dtype: str
    stack: Stack
    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    seed: int
    layers: list[Layer]
    computing: list[Dense]
    norms: list[BatchNorm]

    def __init__(
        self,
        layers: Sequence[int | base.Layer],
        *,
        activation: str | Sequence[str] = "sigmoid",
        output: str | None = None,
        loss: str = "sse",
        bias: bool = True,
        init: str | Sequence[Any] | None = None,
        dtype: Any = "float64",
        seed: int | None = None,
    ) -> None:
        self.loss_name, self.dtype = loss, str(dtype)
        supported("loss", [loss], LOSSES)
        supported("dtype", [self.dtype], ["float64"])
        names = [activation] if isinstance(activation, str) else list(activation)
        supported("activation", [*names, *([output] if output else [])], ACTIVATIONS)
        self.stack = stack(layers, activation, output, loss, bool(bias))
        self.sizes, self.activations = self.stack.sizes, self.stack.activations
        self.seed = whole("seed", int.from_bytes(os.urandom(4)) if seed is None else seed, 0)
        self._shuffler = Stream(mix(mix(self.seed) + 1))
        draw = init if init is None or isinstance(init, str) else "zeros"
        self.layers = first_layers(self.stack, draw, self.seed)
        self.computing = [layer for layer in self.layers if isinstance(layer, Dense)]  # those with weights
        self.norms = [layer for layer in self.layers if isinstance(layer, BatchNorm)]
        if draw is not init:
            self.weights = init

    @property
    def weights(self) -> Any:
        """W of every layer that has weights. Assign a list of them to change the network."""
        return tuple(layer.W for layer in self.computing)

    @weights.setter
    def weights(self, values: Any) -> None:
        same_length("weights", values, self.weights)
        checked = [rows_of("weights", W, (layer.n_out,), layer.n_in) for layer, W in zip(self.computing, values)]
        for layer, W in zip(self.computing, checked):
            layer.W = W

    @property
    def bias(self) -> bool:
        """Whether there are biases, in some layers at least."""
        return bool(self.biases)

    @property
    def biases(self) -> Any:
        """b of every layer, none without bias. Assign a list of them to change the network."""
        return tuple(layer.b for layer in self.computing if layer.b)

    @biases.setter
    def biases(self, values: Any) -> None:
        same_length("biases", values, self.biases)
        having = [layer for layer in self.computing if layer.b]
        checked = [rows_of("biases", [b], (layer.n_out,))[0] for layer, b in zip(having, values)]
        for layer, b in zip(having, checked):
            layer.b = b

    def predict(self, X: Any) -> Rows:
        """P, a row of outputs for every row of X. An image is a row of numbers, or lists [row][column][channel]."""
        return self._forward(rows_of("X", X, self.stack.input_shape))[-1]

    def _forward(self, X: Rows, training: bool = False) -> list[Rows]:
        A = [X]  # then the output of every layer in turn, P at last; the backward pass needs them all
        for layer in self.layers:
            A.append(layer.forward_batch(A[-1]) if training else layer.forward(A[-1]))
        return A

    def evaluate_loss(self, X: Any, y: Any) -> float:
        """L = scale * sum of (p - y)^2."""
        X, y = self._data(X, y)
        return self._scale(X) * squared_error(self._forward(X)[-1], y)

    def _scale(self, X: Rows) -> float:
        return LOSSES[self.loss_name](len(X) * self.sizes[-1])

    def gradients(self, X: Any, y: Any) -> list[Gradient]:
        """(dW, db) of every layer that has weights; db is None without bias."""
        return self._backward(*self._data(X, y))[1]

    def _backward(self, X: Rows, y: Rows) -> tuple[float, list[Gradient]]:
        """The sum of (p - y)^2, and the gradients by the chain rule, from the last layer to the first."""
        if len(X) < self.stack.min_batch_rows:
            raise ValueError("a batch must have two rows or more for a BatchNorm: a single number has no variance")
        A = self._forward(X, training=True)
        P = A[-1]

        # L = scale * sum of (p - y)^2, so dL/dp = 2 * scale * (p - y).
        scale = self._scale(X)
        dA: Rows = [[2 * scale * (p - t) for p, t in zip(*rows)] for rows in zip(P, y)]

        gradients: list[Gradient] = []
        for layer, A_in, A_out in reversed(list(zip(self.layers, A, A[1:]))):
            delta, gradient = layer.backward(A_in, A_out, dA)
            if gradient is not None:
                gradients.insert(0, gradient)
            if layer is not self.layers[0]:  # below which there is nothing to learn
                dA = layer.downward(A_in, delta)
        return squared_error(P, y), gradients

    def train_step(self, X: Any, y: Any, lr: float) -> float:
        """One step of gradient descent on all these rows. Returns the loss before it."""
        X, y = self._data(X, y)
        return self._scale(X) * self._step(X, y, positive("lr", lr))

    def _step(self, X: Rows, y: Rows, lr: float) -> float:
        error, gradients = self._backward(X, y)
        for placed, layer, (dW, db) in zip(self.stack.parametric_layers, self.computing, gradients):
            if placed.kind.frozen:
                continue
            # Downhill: W = W - lr * dL/dW, b = b - lr * dL/db. A layer may have rates of its own.
            lr_W = lr * placed.kind.lr_factor
            lr_b = lr_W * placed.kind.bias_lr_factor
            layer.W = [[w - lr_W * d for w, d in zip(*rows)] for rows in zip(layer.W, dW)]
            layer.b = layer.b and db and [b - lr_b * d for b, d in zip(layer.b, db)]
            if isinstance(layer, BatchNorm):
                layer.run_on()
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

        `lr` is the learning rate (default 0.001; the compiled network has a rule for fits that name none).
        Without `batch_size`, all rows are one batch. `shuffle` puts the rows in a new order every epoch. The
        loss of an epoch is that of its batches, each before its step. If a number is no longer finite,
        ArithmeticError is raised and that epoch undone.
        """
        X, y = self._data(X, y)
        epochs, lr = whole("epochs", epochs, 0), positive("lr", 0.001 if lr is None else lr)
        batch_size = len(X) if batch_size is None else whole("batch_size", batch_size, 1)
        supported("optimizer", [optimizer], ["sgd"])
        losses: list[float] = []
        order, start = list(range(len(X))), perf_counter()
        for epoch in range(1, epochs + 1):
            before = [(layer.W, layer.b) for layer in self.computing]
            running = [(norm.running_mean, norm.running_var) for norm in self.norms]
            if shuffle and batch_size < len(X):
                order = list(range(len(X)))
                self._shuffler.shuffle(order)
            error = 0.0
            for first in range(0, len(X), batch_size):
                batch = order[first : first + batch_size]
                error += self._step([X[row] for row in batch], [y[row] for row in batch], lr)
            losses.append(self._scale(X) * error)
            numbers = [w for layer in self.computing for row in [*layer.W, layer.b or []] for w in row]
            if not all(map(math.isfinite, [losses[-1], *numbers])):
                for layer, (W, b) in zip(self.computing, before):
                    layer.W, layer.b = W, b
                for norm, (mean, variance) in zip(self.norms, running):
                    norm.running_mean, norm.running_var = mean, variance
                raise ArithmeticError(f"training diverged in epoch {epoch}; try a smaller lr than {lr}")
        return History(losses, perf_counter() - start)

    def _data(self, X: Any, y: Any) -> tuple[Rows, Rows]:
        X = rows_of("X", X, self.stack.input_shape)
        return X, rows_of("y", y, self.sizes[-1:], len(X))

    def inspect(self, file: Any = None) -> None:
        """Print every layer, neuron, weight and bias."""
        print(network_text(self.stack, [_arrays(layer) for layer in self.computing], (), ()), file=file)

    def save(self, path: Any) -> None:
        """Write the network to a JSON file (a path, or an open text file)."""
        _serialization.write(path, self._document())

    @classmethod
    def load(cls, path: Any) -> NeuralNetwork:
        """Read a network that was saved here or by the engine. ValueError names what is not in this reference.

        Of a checkpoint the network is read, not where its training was.
        """
        return cls._from_document(_serialization.read(path), disk.place(path))

    def to_json(self) -> str:
        """The text that `save` writes."""
        return _serialization.dumps(self._document())

    @classmethod
    def from_json(cls, text: str) -> NeuralNetwork:
        """The network that `to_json` wrote, here or in the engine."""
        return cls._from_document(_serialization.loads(text), "the JSON text")

    def _document(self) -> dict[str, Any]:
        X = _serialization.self_test_row(self.sizes[0])
        P = self.predict([X])[0]
        return {
            "dtype": self.dtype,
            "loss": self.loss_name,
            "seed": self.seed,
            "shuffle_position": self._shuffler.position,
            "layers": self.stack.to_list([_arrays(layer) for layer in self.computing]),
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
        # Files hold the rates of Dropout layers for further training; no prediction depends on them.
        layers = [
            kind for kind in unstack(document["layers"], None, document["learning"]) if not isinstance(kind, Dropout)
        ]
        computing = [layer for layer in document["layers"] if "W" in layer]
        network = cls(
            layers,
            loss=document["loss"],
            init=[layer["W"] for layer in computing],
            dtype=document["dtype"],
            seed=document["seed"],
        )
        for layer, saved in zip(network.computing, computing):
            layer.b = saved["b"]
            if isinstance(layer, BatchNorm):
                layer.running_mean, layer.running_var = saved["running_mean"], saved["running_var"]
        network._shuffler.position = document["shuffle_position"]
        if document["self_test"]:
            _serialization.verify_self_test(document, network.predict([document["self_test"]["X"]])[0], where)
        return network


def _arrays(layer: Dense) -> tuple[Any, ...]:
    """What a file holds of a layer's numbers."""
    running = (layer.running_mean, layer.running_var) if isinstance(layer, BatchNorm) else ()
    return (layer.W, layer.b, *running)
