"""A network and some rows of data, computed by the definitions of the rows in nnc/_registry, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from nnc._inspection.ways import Way, names, ways
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
    """What is looked into: `nnc.NeuralNetwork`, or anything that offers this of it. Where it has a `model`, too, its
    layers are those of `model.stack`; without, all are dense."""

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
    """A network's parameters and some rows of data, copied in float64, and the loss of both."""

    def __init__(self, net: Network, X: ArrayLike, y: ArrayLike) -> None:
        self.activations, self.loss = [activations.ROWS[name] for name in net.activations], losses.ROWS[net.loss_name]
        given = self.loss.default_parameter if net.loss_parameter is None else net.loss_parameter
        self.parameter = float(given or 0.0)
        self.W = [np.array(W, np.float64) for W in net.weights]
        biases = [*net.biases] or [None] * len(self.W)
        self.b = [None if b is None else np.array(b, np.float64) for b in biases]
        n_in, n_out = net.sizes[0], net.sizes[-1]
        stack = None if (model := getattr(net, "model", None)) is None else model.stack
        self.ways = [Way() for _ in self.W] if stack is None else ways(stack.layers)
        rows = _numbers("X", X)
        if stack is not None and stack.has_image_input:
            rows = _flat(rows, stack.input_shape)
        if rows.ndim == 1:
            rows = rows[:, None] if n_in == 1 else rows[None]
        if rows.ndim != 2 or rows.shape[1] != n_in or len(rows) == 0:
            expected = pluralize(n_in, "column")
            raise ValueError(f"X must have {expected} and at least one row, got {describe_shape(np.shape(X))}")
        n = len(rows)
        targets = _numbers("y", y)
        if self.loss.target_type == "probabilities" and targets.shape in ((n,), (n, 1)):
            labels = targets.reshape(n)
            if not np.isin(labels, np.arange(n_out)).all():
                raise ValueError(f"y must hold labels from 0 to {n_out - 1}, got {labels.min():g} to {labels.max():g}")
            targets = np.eye(n_out)[labels.astype(np.int64)]
        elif targets.ndim == 1:
            targets = targets[None] if n == 1 and len(targets) == n_out else targets[:, None]
        if targets.shape != (n, n_out):
            raise ValueError(
                f"y must have shape ({n}, {n_out}), one row for each row of X and one column for each output, "
                f"got shape {np.shape(y)}"
            )
        if self.loss.target_type == "probabilities":
            targets = (1 - self.parameter) * targets + self.parameter / n_out
        self.X, self.y = rows, targets
        self.divisor = self.loss.divisor(n, n_out)
        self.names = names(self.ways, rows, [W.shape[1] for W in self.W])

    def forward(self) -> tuple[list[list[Array]], list[Array], list[Array], list[Array], list[Array]]:
        """Of every layer what goes into the pools before it and comes out of them, its rows, these as inputs, net
        inputs and outputs. A convolution has a row for each window of each image, and inputs of a BatchNorm are
        normalized rows."""
        images, rows, A_in, Z, A = [], [], [], [], [self.X]
        for k, row in enumerate(self.activations):
            images.append(self.ways[k].pooled(self.images(A[-1])))
            rows.append(self.ways[k].rows(images[-1][-1]))
            A_in.append(self._inputs(k, rows[-1]))
            Z.append(self._net_inputs(k, A_in[-1]))
            A.append(row.compute(Z[-1]))
        return images, rows, A_in, Z, A[1:]

    def images(self, A: Array) -> Array:
        """Outputs of a layer as rows, one for each row of X."""
        return A.reshape(len(self.X), -1)

    def _inputs(self, k: int, rows: Array) -> Array:
        norm = self.ways[k].norm
        return rows if norm is None else norm.forward(rows)

    def _net_inputs(self, k: int, A_in: Array) -> Array:
        b = self.b[k]
        Z = self.ways[k].times(A_in, self.W[k])
        return Z if b is None else Z + b

    def terms(self, Z: Array, P: Array) -> Array:
        return self.loss.compute_terms(self.y, P, Z, self.parameter) / self.divisor

    def slope(self, P: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):  # where p is 0 or 1
            return self.loss.compute_derivative(self.y, P, self.parameter) / self.divisor

    def loss_from(self, l: int, Z: Array) -> tuple[float, list[Array], list[NDArray[Any]]]:
        """The loss if layer l had the net inputs Z, the net inputs from there on, and on which side of each bend all
        numbers then are: of a pool, which of a window is the largest."""
        nets, sides, A = [], [], Z
        for k, row in enumerate(self.activations[l:], l):
            if k > l:
                images = self.ways[k].pooled(self.images(A))
                for pool, image, called in zip(self.ways[k].pools, images, self.names[k], strict=False):
                    if pool.largest:
                        sides.append(np.where(pool.winners(image), pool.windows.seen(called), 0).sum(axis=2))
                Z = self._net_inputs(k, self._inputs(k, self.ways[k].rows(images[-1])))
            A = row.compute(Z)
            nets.append(Z)
            if row.nonsmooth_at_zero:
                sides.append(Z > 0)
        if self.loss.compute_branch is not None:
            sides.append(self.loss.compute_branch(self.y, A, self.parameter))
        return float(self.terms(Z, A).sum()), nets, sides


def _flat(rows: Array, shape: Shape) -> Array:
    """Images (height, width, channels) as rows; those of one channel have no third dimension at times."""
    shapes = [shape, *([shape[:2]] if shape[2] == 1 else [])]
    if rows.shape in shapes:
        rows = rows[None]
    return rows.reshape(len(rows), -1) if rows.shape[1:] in shapes else rows


def _numbers(name: str, value: ArrayLike) -> Array:
    array = as_real_array(name, value).astype(np.float64)
    if not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0]
        where = ", ".join(f"{word} {i}" for word, i in zip(("row", "column"), place, strict=False))
        raise ValueError(f"{name} must be finite, got {array[tuple(place)]}{where and ' in ' + where}")
    return array
