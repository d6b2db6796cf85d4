"""Forward pass and loss of a network in float64, computed from the formulas in nnc/_registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from nnc._inspection.connections import Connection, connections, equivalence_labels
from nnc._registry import activations, losses
from nnc._utils.arrays import as_real_array, describe_shape
from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from nnc.layers.base import Shape

    Array = NDArray[np.float64]


class Network(Protocol):
    """Interface of the inspected network, such as `nnc.NeuralNetwork`.

    If the network has an attribute `model`, its layers are those of `model.stack`. Otherwise all layers are dense.
    """

    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def activations(self) -> tuple[str, ...]: ...
    @property
    def loss_name(self) -> str: ...
    @property
    def loss_parameter(self) -> float | None: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def weights(self) -> Iterable[NDArray[Any]]: ...
    @property
    def biases(self) -> Iterable[NDArray[Any] | None]: ...
    def gradients(self, X: ArrayLike, y: ArrayLike) -> list[tuple[NDArray[Any], NDArray[Any] | None]]: ...


class Problem:
    """Copy of a network's parameters and of rows of data in float64, with methods for the forward pass and the loss.

    `lengths` are the numbers of steps of the rows of X, if these are sequences of different lengths.
    """

    def __init__(self, net: Network, X: ArrayLike, y: ArrayLike, lengths: NDArray[Any] | None = None) -> None:
        self.activations, self.loss = [activations.ROWS[name] for name in net.activations], losses.ROWS[net.loss_name]
        parameter = self.loss.default_parameter if net.loss_parameter is None else net.loss_parameter
        self.parameter = float(parameter or 0.0)
        self.W = [np.array(W, np.float64) for W in net.weights]
        biases = [*net.biases] or [None] * len(self.W)
        self.b = [None if b is None else np.array(b, np.float64) for b in biases]
        n_in, n_out = net.sizes[0], net.sizes[-1]
        stack = None if (model := getattr(net, "model", None)) is None else model.stack
        self.has_steps = stack is not None and stack.has_steps
        self.connections = [Connection() for _ in self.W] if stack is None else connections(stack.layers)
        for k, connection in enumerate(self.connections):
            if connection.recurrence is not None:  # treat the outputs of a recurrent layer as net inputs
                self.activations[k] = activations.ROWS["identity"]
        rows = _numbers("X", X)
        if stack is not None and len(stack.input_shape) > 1:
            rows = _flat(rows, stack.input_shape)
        if rows.ndim == 1:
            rows = rows[:, None] if n_in == 1 else rows[None]
        if rows.ndim != 2 or rows.shape[1] != n_in or len(rows) == 0:
            expected = pluralize(n_in, "column")
            raise ValueError(f"X must have {expected} and at least one row, got {describe_shape(np.shape(X))}")
        n = len(rows)
        targets = _numbers("y", y)
        k = n_out  # number of outputs of a step
        if stack is not None:
            targets, k = stack.flatten_outputs(targets), stack.output_shape[-1]
        steps = n_out // k
        if self.loss.target_type == "probabilities" and targets.shape in ((n * steps,), (n, steps), (n, steps, 1)):
            labels = targets.reshape(-1)
            if not np.isin(labels, np.arange(k)).all():
                extremes = f"{labels.min():g} to {labels.max():g}"
                raise ValueError(f"y must contain labels from 0 to {k - 1}, got {extremes}")
            targets = np.eye(k)[labels.astype(np.int64)].reshape(n, n_out)
        elif targets.ndim == 1:
            targets = targets[None] if n == 1 and len(targets) == n_out else targets[:, None]
        if targets.shape != (n, n_out):
            raise ValueError(
                f"y must have shape ({n}, {n_out}), one row for each row of X and one column for each output, "
                f"got shape {np.shape(y)}"
            )
        if self.loss.target_type == "probabilities":
            targets = (1 - self.parameter) * targets + self.parameter / k
        # For sequences, each step is a row of targets, because the last layer has one row of outputs per step.
        self.X, self.y = rows, targets.reshape(-1, k)
        # Mask of the targets: 0 at steps beyond the lengths, which the loss does not contain, otherwise 1.
        self.is_target = np.ones((len(self.y), 1))
        if lengths is not None:
            counts = lengths
            for connection in self.connections:
                counts = connection.set_lengths(counts)
            if len(self.y) > n:
                self.is_target[:, 0] = (np.arange(steps) < lengths[:, None]).ravel()
        self.divisor = self.loss.divisor(float(self.is_target.sum()), k)
        self.labels = equivalence_labels(self.connections, rows, [W.shape[1] for W in self.W])

    def forward(self) -> tuple[list[list[Array]], list[Array], list[Array], list[Array], list[Array]]:
        """Return five lists with one item per layer: pooled images, input rows, inputs, net inputs and outputs.

        The pooled images are the inputs of each pool before the layer, followed by the outputs of the last pool. A
        convolution has an input row for each window of each image. The inputs of a BatchNorm are normalized rows.
        """
        images, rows, A_in, Z, A = [], [], [], [], [self.X]
        for k, row in enumerate(self.activations):
            images.append(self.connections[k].pool_inputs(self.images(A[-1])))
            rows.append(self.connections[k].rows(images[-1][-1]))
            A_in.append(self._inputs(k, rows[-1]))
            Z.append(self._net_inputs(k, A_in[-1]))
            A.append(self.connections[k].mask_outputs(row.compute(Z[-1])))
        return images, rows, A_in, Z, A[1:]

    def images(self, A: Array) -> Array:
        """Reshape layer outputs to one row for each row of X, also if a layer has a row for each window or step."""
        return A.reshape(len(self.X), -1)

    def _inputs(self, k: int, rows: Array) -> Array:
        """Return the inputs of layer k: the given rows, normalized if the layer is a BatchNorm."""
        norm = self.connections[k].norm
        return rows if norm is None else norm.forward(rows)

    def _net_inputs(self, k: int, A_in: Array) -> Array:
        """Return the net inputs of layer k: products of inputs and weights, plus the bias.

        For a recurrent layer, return its outputs.
        """
        b, recurrence = self.b[k], self.connections[k].recurrence
        if recurrence is not None:
            return recurrence.outputs(A_in, self.W[k], b)[0]
        Z = self.connections[k].multiply(A_in, self.W[k])
        return Z if b is None else Z + b

    def terms(self, Z: Array, P: Array) -> Array:
        """Return the contribution of each output to the loss, an array (n, n_out)."""
        return self.is_target * self.loss.compute_terms(self.y, P, Z, self.parameter) / self.divisor

    def loss_derivative(self, P: Array) -> Array:
        """Return the derivatives of the loss with respect to the outputs P, an array (n, n_out)."""
        # No warning: the derivative may be infinite at a probability of 0 or 1.
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.is_target * self.loss.compute_derivative(self.y, P, self.parameter) / self.divisor

    def loss_from(self, l: int, Z: Array) -> tuple[float, list[Array], list[NDArray[Any]]]:
        """Continue the forward pass from the net inputs Z of layer l.

        Return the loss, the net inputs of layer l and of all later layers, and the side of each kink. The side is the
        sign of a net input of relu, the label of the maximum of a pool window (see `equivalence_labels`), or the branch
        of the loss.
        """
        net_inputs, sides, A = [], [], Z
        for k, row in enumerate(self.activations[l:], l):
            if k > l:
                images = self.connections[k].pool_inputs(self.images(A))
                for pool, image, labels in zip(self.connections[k].pools, images, self.labels[k], strict=False):
                    if pool.is_max:
                        sides.append(np.where(pool.winners(image), pool.windows.gather(labels), 0).sum(axis=2))
                rows, recurrence = self.connections[k].rows(images[-1]), self.connections[k].recurrence
                if recurrence is None:
                    Z = self._net_inputs(k, self._inputs(k, rows))
                else:
                    Z, signs = recurrence.outputs(rows, self.W[k], self.b[k])
                    sides += signs
            A = self.connections[k].mask_outputs(row.compute(Z))
            net_inputs.append(Z)
            if row.nonsmooth_at_zero:
                sides.append(self.connections[k].mask_outputs(Z > 0))
        if self.loss.compute_branch is not None:
            sides.append(self.loss.compute_branch(self.y, A, self.parameter))
        return float(self.terms(Z, A).sum()), net_inputs, sides


def _flat(rows: Array, shape: Shape) -> Array:
    """Return images of the shape (height, width, channels) or sequences of the shape (steps, features) as flat rows.

    If there is one channel or feature, the last dimension may be missing.
    """
    shapes = [shape, *([shape[:-1]] if shape[-1] == 1 else [])]
    if rows.shape in shapes:
        rows = rows[None]
    return rows.reshape(len(rows), -1) if rows.shape[1:] in shapes else rows


def _numbers(name: str, value: ArrayLike) -> Array:
    """Return the argument called `name` as a float64 array; raise ValueError if a number is NaN or infinite."""
    array = as_real_array(name, value).astype(np.float64)
    if not np.isfinite(array).all():
        index = np.argwhere(~np.isfinite(array))[0]
        where = ", ".join(f"{word} {i}" for word, i in zip(("row", "column"), index, strict=False))
        raise ValueError(f"{name} must be finite, got {array[tuple(index)]}{where and ' in ' + where}")
    return array
