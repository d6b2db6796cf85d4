"""The network: forward pass, backward pass, update of the weights and training loop."""

from __future__ import annotations

import math
import os
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from nnc import _serialization
from nnc._inspection.text import network_text
from nnc._utils import disk
from nnc.layers import Dropout
from nnc.layers.stack import build_stack, layers_from_document
from nnc.reference.build import build_layers
from nnc.reference.checks import (
    check_length,
    check_supported,
    checked_rows,
    first_steps,
    is_list_of_sequences,
    positive,
    step_counts,
    whole_number,
)
from nnc.reference.images import chunks
from nnc.reference.layers import ACTIVATIONS, Dense
from nnc.reference.norm import BatchNorm
from nnc.reference.random import Stream, mix
from nnc.reference.recurrent import GRU
from nnc.reference.slopes import checked_slopes, slope_gradients

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from nnc.layers import base
    from nnc.layers.stack import Stack
    from nnc.reference.layers import Gradient, Layer, Rows


def squared_error(P: Rows, y: Rows) -> float:
    """Return the sum of (p - y)^2 for predictions p and targets y, over all rows and outputs."""
    return sum((p - t) * (p - t) for rows in zip(P, y) for p, t in zip(*rows))


def cross_entropy(P: Rows, y: Rows) -> float:
    """Return the sum of -y log(p) for probabilities p and targets y, over all rows and outputs."""
    terms = [(p, t) for rows in zip(P, y) for p, t in zip(*rows) if t]
    return sum(-t * math.log(p) if p > 0 else math.inf for p, t in terms)


def cross_entropy_derivative(p: float, t: float) -> float:
    """Return the derivative of -t log(p) with respect to p."""
    if t == 0:
        return 0.0
    return -t / p if p > 0 else -math.inf


class Loss(NamedTuple):
    """Loss L = scale * sum of terms over all rows and outputs. Each step of a sequence that has outputs is a row.

    `total` returns the sum of the terms for predictions and targets, and `derivative` the derivative of a term with
    respect to the prediction p. `scale` is a function of the numbers of rows and outputs.
    """

    total: Callable[[Rows, Rows], float]
    derivative: Callable[[float, float], float]
    scale: Callable[[int, int], float]


LOSSES: dict[str, Loss] = {
    "sse": Loss(squared_error, lambda p, t: 2 * (p - t), lambda rows, outputs: 1.0),
    "half_sse": Loss(squared_error, lambda p, t: 2 * (p - t), lambda rows, outputs: 0.5),
    "mse": Loss(squared_error, lambda p, t: 2 * (p - t), lambda rows, outputs: 1 / (rows * outputs)),
    "cross_entropy": Loss(cross_entropy, cross_entropy_derivative, lambda rows, outputs: 1 / rows),
}


def bias_rows(layer: Dense) -> list[list[float]]:
    """Return the biases of a layer as a list of rows: none, one, or the two rows of a GRU."""
    if isinstance(layer, GRU):
        return [*(layer.b or [])]
    return [layer.b] if layer.b else []


def checked_biases(layer: Dense, b: Any) -> Any:
    """Return new biases of a layer as lists of float; raise TypeError or ValueError if they do not fit the layer."""
    if isinstance(layer, GRU):
        return checked_rows("biases", b, (layer.n_out,), 2)
    return checked_rows("biases", [b], (layer.n_out,))[0]


def descended(values: Any, gradient: Any, lr: float) -> Any:
    """Return values - lr * gradient for the numbers of a list, or of a list of lists."""
    if not isinstance(values, list):
        return values - lr * gradient
    return [descended(value, d, lr) for value, d in zip(values, gradient)]


def added(values: Any, others: Any) -> Any:
    """Return the sums of the corresponding numbers of two nested lists or tuples; None stays None."""
    if values is None:
        return None
    return [added(*pair) for pair in zip(values, others)] if isinstance(values, (list, tuple)) else values + others


def by_length(rows: Rows) -> list[list[int]]:
    """Return lists of the indices of rows of equal length."""
    groups: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(len(row), []).append(i)
    return list(groups.values())


class History:
    """Result of a fit: the `loss` of each epoch, the number of `epochs` and the time in `seconds`."""

    loss: list[float]
    epochs: int
    seconds: float

    def __init__(self, loss: list[float], seconds: float) -> None:
        self.loss, self.epochs, self.seconds = loss, len(loss), seconds


class NeuralNetwork:
    """Network that learns by gradient descent, with the arguments and methods of the compiled network.

    Parameters
    ----------
    layers : sequence of int or layers
        Numbers of inputs, hidden neurons and outputs; or layers of nnc.layers, beginning with Input.
    activation : str or sequence of str, default "sigmoid"
        "sigmoid", "tanh", "relu" or "identity": one for all hidden layers, or one for each.
    output : str, optional
        Activation of the last layer, also "softmax". Default: "identity" for mse, "softmax" for cross_entropy,
        otherwise "sigmoid".
    loss : str, default "sse"
        "sse" is the sum of (p - y)^2, "half_sse" is half of it, "mse" is its mean over rows and outputs.
        "cross_entropy" is the sum of -y log(p), divided by the number of rows; y are one-hot rows or probabilities.
    bias : bool, default True
        Whether neurons have a bias.
    init : str or list of matrices, optional
        One of INITIALIZERS, or the weights. Default: "he_uniform" for relu, otherwise "glorot_uniform".
    dtype : str, default "float64"
        Only "float64".
    seed : int, optional
        Determines weights and order of rows. Default: random.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid, or the reference does not support it.
    """

    loss_name: str
    dtype: str
    stack: Stack
    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    seed: int
    layers: list[Layer]
    parametric_layers: list[Dense]
    norm_layers: list[BatchNorm]
    accepts_lengths: bool  # whether the rows are sequences, whose numbers of steps may differ

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
        check_supported("loss", [loss], LOSSES)
        check_supported("dtype", [self.dtype], ["float64"])
        names = [activation] if isinstance(activation, str) else list(activation)
        check_supported("activation", names, ACTIVATIONS)
        check_supported("output", [output] if output else [], [*ACTIVATIONS, "softmax"])
        self.stack = build_stack(layers, activation, output, loss, bool(bias))
        self.sizes, self.activations = self.stack.sizes, self.stack.activations
        self.seed = whole_number("seed", int.from_bytes(os.urandom(4)) if seed is None else seed, 0)
        self._shuffler = Stream(mix(mix(self.seed) + 1))
        draw = init if init is None or isinstance(init, str) else "zeros"
        self.layers = build_layers(self.stack, draw, self.seed)
        self.parametric_layers = [layer for layer in self.layers if isinstance(layer, Dense)]
        self.norm_layers = [layer for layer in self.layers if isinstance(layer, BatchNorm)]
        if draw is not init:
            self.weights = init
        self.accepts_lengths = len(self.stack.input_shape) == 2

    @property
    def weights(self) -> Any:
        """Matrix W of each parametric layer. Assign a list of matrices to change the network."""
        return tuple(layer.W for layer in self.parametric_layers)

    @weights.setter
    def weights(self, values: Any) -> None:
        check_length("weights", values, len(self.weights))
        layers = self.parametric_layers
        checked = [checked_rows("weights", W, (layer.n_out,), layer.n_in) for layer, W in zip(layers, values)]
        for layer, W in zip(layers, checked):
            layer.W = W

    @property
    def bias(self) -> bool:
        """True if at least one layer has biases."""
        return bool(self.biases)

    @property
    def biases(self) -> Any:
        """Vector b of each layer with biases. Assign a list of vectors to change the network."""
        return tuple(layer.b for layer in self.parametric_layers if layer.b)

    @biases.setter
    def biases(self, values: Any) -> None:
        check_length("biases", values, len(self.biases))
        biased = [layer for layer in self.parametric_layers if layer.b]
        for layer, b in zip(biased, [checked_biases(layer, b) for layer, b in zip(biased, values)]):
            layer.b = b

    def predict(self, X: Any, lengths: Any = None) -> Any:
        """Return P, a row of outputs for each row of X, or a list [step][output] if there are outputs for each step.

        Images are flat rows, or lists [row][column][channel]. Sequences are flat rows, or lists [step][feature], whose
        numbers of steps may differ. Only the first lengths[i] steps of sequence i are processed.
        """
        P = self._outputs(self._rows(X, lengths))
        shape = self.stack.output_shape
        return [chunks(row, shape[-1]) for row in P] if len(shape) == 2 else P

    def _outputs(self, X: Rows) -> Rows:
        """Return the outputs P as one row for each row of X; the outputs of several steps are concatenated."""
        P: list[Any] = [None] * len(X)
        for group in by_length(X):
            for i, outputs in zip(group, self._forward([X[i] for i in group])[-1]):
                P[i] = outputs
        return P

    def _forward(self, X: Rows, training: bool = False) -> list[Rows]:
        """Return the inputs, and the outputs of each layer; the backward pass needs all of them."""
        A = [X]
        for layer in self.layers:
            A.append(layer.forward_batch(A[-1]) if training else layer.forward(A[-1]))
        return A

    def evaluate_loss(self, X: Any, y: Any, lengths: Any = None) -> float:
        """Return the loss of the rows: the sum of its terms times its scale."""
        X, y = self._data(X, y, lengths)
        return self._scale(y) * LOSSES[self.loss_name].total(self._outputs(X), y)

    def _scale(self, y: Rows) -> float:
        """Return the factor by which the sum of the terms of the loss is multiplied."""
        n_out = self.stack.output_shape[-1]
        return LOSSES[self.loss_name].scale(sum(map(len, y)) // n_out, n_out)

    def gradients(
        self, X: Any, y: Any, lengths: Any = None, *, dY: Any = None, dY_weight: float = 1.0
    ) -> list[Gradient]:
        """Return (dW, db) of each parametric layer; db is None without bias. dY and dY_weight are those of `fit`."""
        X, y = self._data(X, y, lengths)
        if dY is None:
            return self._backward(X, y)[1]
        return slope_gradients(self.parametric_layers, X, y, self._slopes(X, dY), dY_weight, self._scale(y))[1]

    def _backward(self, X: Rows, y: Rows) -> tuple[float, list[Gradient]]:
        """Return the sum of the terms of the loss, and the gradients."""
        if len(X) < self.stack.min_batch_rows:
            raise ValueError(f"X must have at least 2 rows in each batch for BatchNorm, got {len(X)}")
        groups, scale = by_length(X), self._scale(y)
        if len(groups) > 1 and self.norm_layers:
            raise ValueError("X must have sequences of equal length in each batch for BatchNorm in plain Python")
        # The loss is a sum over the rows, so its gradient is the sum of the gradients of sequences of equal length.
        parts = [self._backward_group([X[i] for i in group], [y[i] for i in group], scale) for group in groups]
        error, gradients = parts[0]
        for other_error, others in parts[1:]:
            error, gradients = error + other_error, added(gradients, others)
        return error, gradients

    def _backward_group(self, X: Rows, y: Rows, scale: float) -> tuple[float, list[Gradient]]:
        """Return the sum of the loss terms, and the gradients, by the chain rule from the last layer to the first."""
        A = self._forward(X, training=True)
        P, loss = A[-1], LOSSES[self.loss_name]

        # The loss is L = scale * sum of terms, so dL/dp is scale times the derivative of the term of the prediction p.
        dA: Rows = [[scale * loss.derivative(p, t) for p, t in zip(*rows)] for rows in zip(P, y)]

        gradients: list[Gradient] = []
        for layer, A_in, A_out in reversed(list(zip(self.layers, A, A[1:]))):
            delta, gradient = layer.backward(A_in, A_out, dA)
            if gradient is not None:
                gradients.insert(0, gradient)
            if layer is not self.layers[0]:  # the first layer needs no derivative with respect to its inputs X
                dA = layer.input_gradient(A_in, delta)
        return loss.total(P, y), gradients

    def train_step(self, X: Any, y: Any, lr: float, lengths: Any = None) -> float:
        """Take one step of gradient descent on these rows, and return the loss before the step."""
        X, y = self._data(X, y, lengths)
        return self._scale(y) * self._step(X, y, positive("lr", lr))

    def _slopes(self, X: Rows, dY: Any) -> list[list[list[float]]]:
        """Validate the derivatives dY of the targets, and return them as lists."""
        check_supported("loss", [self.loss_name], [name for name in LOSSES if name != "cross_entropy"])
        return checked_slopes(dY, len(X), self.stack.output_shape[-1], len(X[0]), self.layers)

    def _step(self, X: Rows, y: Rows, lr: float, slopes: tuple[Any, float] | None = None) -> float:
        """Take one step of gradient descent, and return the sum of the terms of the loss before the step."""
        if slopes is None:
            error, gradients = self._backward(X, y)
        else:
            error, gradients = slope_gradients(self.parametric_layers, X, y, *slopes, self._scale(y))
        for entry, layer, (dW, db) in zip(self.stack.parametric_layers, self.parametric_layers, gradients):
            if entry.kind.frozen:
                continue
            # Gradient descent: W = W - lr * dL/dW, b = b - lr * dL/db. Layers may have factors of the learning rate.
            lr_W = lr * entry.kind.lr_factor
            lr_b = lr_W * entry.kind.bias_lr_factor
            layer.W = descended(layer.W, dW, lr_W)
            layer.b = layer.b and descended(layer.b, db, lr_b)
            if isinstance(layer, BatchNorm):
                layer.update_running_statistics()
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
        lengths: Any = None,
        dY: Any = None,
        dY_weight: float = 1.0,
    ) -> History:
        """Train by gradient descent, with one step for each batch of rows.

        Parameters
        ----------
        X, y : lists or arrays (n, n_in) and (n, n_out)
            Inputs and targets.
        epochs : int
            Number of passes over all rows.
        lr : float, default 0.001
            Learning rate. The compiled network has another default.
        optimizer : str, default "sgd"
            Only "sgd".
        batch_size : int, optional
            Rows in a batch. Default: all rows.
        shuffle : bool, default True
            Draw a new order of the rows for each epoch.
        lengths : list of int, optional
            Number of steps of each sequence, as in `predict`. With BatchNorm, all sequences of a batch must have the
            same number of steps.
        dY : list (n, n_out, n_in), optional
            Derivatives of the targets with respect to the inputs, with NaN for missing ones. Requires a squared error,
            Dense and Scale layers, and an activation of nnc.reference.slopes.SECOND_DERIVATIVES.
        dY_weight : float, default 1.0
            Weight of the derivatives in the loss, as in `nnc.NeuralNetwork.fit`.

        Returns
        -------
        History
            The loss of an epoch is that of all rows, each predicted before the step of its batch.

        Raises
        ------
        ArithmeticError
            The loss or a weight is not finite. The weights are those before this epoch.
        ValueError, TypeError
            An argument is not as described.
        """
        X, y = self._data(X, y, lengths)
        epochs, lr = whole_number("epochs", epochs, 0), positive("lr", 0.001 if lr is None else lr)
        batch_size = len(X) if batch_size is None else whole_number("batch_size", batch_size, 1)
        check_supported("optimizer", [optimizer], ["sgd"])
        slopes = None if dY is None else self._slopes(X, dY)
        losses: list[float] = []
        order, start = list(range(len(X))), perf_counter()
        for epoch in range(1, epochs + 1):
            before = [(layer.W, layer.b) for layer in self.parametric_layers]
            running = [(norm.running_mean, norm.running_var) for norm in self.norm_layers]
            if shuffle and batch_size < len(X):
                order = list(range(len(X)))
                self._shuffler.shuffle(order)
            error = 0.0
            for first in range(0, len(X), batch_size):
                batch = order[first : first + batch_size]
                extra = None if slopes is None else ([slopes[row] for row in batch], dY_weight)
                error += self._step([X[row] for row in batch], [y[row] for row in batch], lr, extra)
            losses.append(self._scale(y) * error)
            rows = [row for layer in self.parametric_layers for row in [*layer.W, *bias_rows(layer)]]
            numbers = [number for row in rows for number in row]
            if not all(map(math.isfinite, [losses[-1], *numbers])):
                for layer, (W, b) in zip(self.parametric_layers, before):
                    layer.W, layer.b = W, b
                for norm, (mean, variance) in zip(self.norm_layers, running):
                    norm.running_mean, norm.running_var = mean, variance
                raise ArithmeticError(f"training diverged in epoch {epoch}; try a smaller lr than {lr}")
        return History(losses, perf_counter() - start)

    def _data(self, X: Any, y: Any, lengths: Any = None) -> tuple[Rows, Rows]:
        """Validate X and y, and return them as lists of float rows without the steps beyond the lengths."""
        shape = self.stack.output_shape
        X = self._rows(X, lengths)
        if not self.accepts_lengths or len(shape) == 1:
            return X, checked_rows("y", y, shape, len(X))
        steps = [len(row) // self.stack.input_shape[1] for row in X]
        # A layer may change the number of steps only if all sequences have the number of steps of the network.
        if min(steps) == max(steps) == self.stack.input_shape[0]:
            steps = [shape[0]] * len(X)
        if lengths is not None:
            y = first_steps("y", y, steps)
        return X, checked_rows("y", y, shape, len(X), steps)

    def _rows(self, X: Any, lengths: Any) -> Rows:
        """Validate X, and return it as a list of float rows without the steps beyond the lengths."""
        shape, is_nested = self.stack.input_shape, self.accepts_lengths and is_list_of_sequences(X)
        if not is_nested:
            if lengths is not None:
                raise ValueError("lengths must be None unless X is a list of sequences [step][feature]")
            return checked_rows("X", X, shape)
        steps = step_counts(X, lengths, self.stack.input.any_steps, shape[0])
        shortest, longest = min(steps), max(steps) if self.stack.input.any_steps else shape[0]
        if shortest < longest:
            self.stack.check_lengths(shortest, steps.index(shortest), longest)
        return checked_rows("X", first_steps("X", X, steps), shape, steps=steps)

    def inspect(self, file: Any = None) -> None:
        """Print all layers, neurons, weights and biases."""
        print(network_text(self.stack, [_arrays(layer) for layer in self.parametric_layers], (), ()), file=file)

    def save(self, path: Any) -> None:
        """Write the network to a JSON file (a path, or an open text file)."""
        _serialization.write(path, self._document())

    @classmethod
    def load(cls, path: Any) -> NeuralNetwork:
        """Read a network from a file that this class or nnc.NeuralNetwork has saved.

        The training state of a checkpoint is ignored.

        Raises
        ------
        ValueError
            The reference does not support a part of the network.
        OSError
            The file cannot be read.
        """
        return cls._from_document(_serialization.read(path), disk.describe_source(path))

    def to_json(self) -> str:
        """Return the text that `save` writes."""
        return _serialization.dumps(self._document())

    @classmethod
    def from_json(cls, text: str) -> NeuralNetwork:
        """Create the network from a text that `to_json` of this class or of nnc.NeuralNetwork has returned."""
        return cls._from_document(_serialization.loads(text), "the JSON text")

    def _document(self) -> dict[str, Any]:
        X = _serialization.self_test_row(self.sizes[0])
        P = self._forward([X])[-1][0]
        return {
            "dtype": self.dtype,
            "loss": self.loss_name,
            "seed": self.seed,
            "shuffle_position": self._shuffler.position,
            "layers": self.stack.to_list([_arrays(layer) for layer in self.parametric_layers]),
            "self_test": {"X": X, "P": P} if all(map(math.isfinite, P)) else None,
        }

    @classmethod
    def _from_document(cls, document: dict[str, Any], where: str) -> NeuralNetwork:
        for key in ("classes", "scale_X", "scale_y"):
            if document[key] is not None:
                raise ValueError(
                    f"{key} must be null for the plain-Python reference, which supports no scaling and no labels; "
                    "load the file with nnc.load"
                )
        # Omit Dropout layers: predictions do not depend on them, and files contain them only for further training.
        layers = [
            kind
            for kind in layers_from_document(document["layers"], None, document["learning"])
            if not isinstance(kind, Dropout)
        ]
        parametric_layers = [layer for layer in document["layers"] if "W" in layer]
        network = cls(
            layers,
            loss=document["loss"],
            init=[layer["W"] for layer in parametric_layers],
            dtype=document["dtype"],
            seed=document["seed"],
        )
        for layer, saved in zip(network.parametric_layers, parametric_layers):
            layer.b = saved["b"]
            if isinstance(layer, BatchNorm):
                layer.running_mean, layer.running_var = saved["running_mean"], saved["running_var"]
        network._shuffler.position = document["shuffle_position"]
        if document["self_test"]:
            _serialization.verify_self_test(document, network._forward([document["self_test"]["X"]])[-1][0], where)
        return network


def _arrays(layer: Dense) -> tuple[Any, ...]:
    """Return the arrays of a layer that are saved in a file."""
    running = (layer.running_mean, layer.running_var) if isinstance(layer, BatchNorm) else ()
    return (layer.W, layer.b, *running)
