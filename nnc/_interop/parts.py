"""From layers of other packages to the parts that a network is put together from."""

from __future__ import annotations

from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._registry import activations, losses
from nnc.layers import AvgPool2D, BatchNorm, Conv2D, Dense, Dropout, Flatten, GlobalAvgPool2D, Input, MaxPool2D, Scale
from nnc.layers.base import ParametricLayer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nnc.layers.base import Layer, Shape

    Array = np.ndarray[Any, Any]

# Reading or calling a damaged or unusual layer may raise these errors.
ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turn an error into a ValueError that names the layer or module."""
    try:
        yield
    except ERRORS as error:
        text = str(error)
        raise ValueError(text if what in text else f"{what}: {text}") from None


def require(layer: Any, required: Mapping[str, Any], what: str, optional: bool = False) -> None:
    """Refuse a layer with an attribute that nnc does not support, or without it unless attributes are `optional`."""
    for name, value in required.items():
        found = getattr(layer, name, value if optional else "no such attribute")
        found = tuple(found) if isinstance(found, list) else found
        if found not in (value, (value, value)):
            raise ValueError(f"{what} must have {name}={value!r}, got {found!r}")


def check_methods(layer: Any, what: str, allowed: Sequence[str] = ()) -> None:
    """Refuse a layer with methods that were replaced from outside."""
    changed = sorted(key for key in vars(layer) if key not in allowed and callable(getattr(type(layer), key, None)))
    if changed:
        raise ValueError(f"{what} must have the methods of its class, got its own {', '.join(changed)}")


class Parts(NamedTuple):
    """What a network is put together from."""

    arguments: dict[str, Any]  # of NeuralNetwork
    weights: list[Array]
    biases: list[Array | None]
    statistics: list[tuple[Any, ...]]  # running mean and variance of a BatchNorm, nothing of other layers
    classes: Array | None = None  # where they are not just the numbers of the outputs
    added_output: str | None = None  # output activation that the loss requires and the model does not have
    scale_X: dict[str, Any] | None = None  # as documents have it
    scale_y: dict[str, Any] | None = None


class Builder:
    """Takes layers one after the other, the lowest first, and refuses what nnc has not, by name.

    Parameters
    ----------
    shape : tuple of int
        Of a row of inputs: (n,), or (height, width, channels).
    """

    def __init__(self, shape: Shape) -> None:
        self.layers: list[Layer] = [Input(*map(int, shape))]
        self.shape = self.layers[0].output_shape(())
        self.weights: list[Array] = []
        self.biases: list[Array | None] = []
        self.statistics: list[tuple[Any, ...]] = []
        self.open: int | None = None  # the layer that an activation would be that of
        self.output_only: str | None = None  # the layer read last that only the end of a network may have
        self.order: Array | None = None  # which row of the next W each input has, where images were flattened otherwise

    def _add(self, kind: Layer, what: str) -> None:
        if self.output_only is not None:
            raise ValueError(f"{self.output_only} must be at the end of the model, got {what} after it")
        try:
            self.shape = kind.output_shape(self.shape)
        except ValueError as error:
            raise ValueError(f"{what} {error}") from None
        self.layers.append(kind)

    def require_vectors(self, what: str) -> None:
        """Raise a ValueError if the rows before `what` are images."""
        if len(self.shape) != 1:
            raise ValueError(f"{what} takes vectors, got images {self.shape}: flatten them before")

    def dense(self, W: Any, b: Any, what: str) -> None:
        """W (n_in, n_out) and b (n_out,) or None."""
        W = np.asarray(W)
        if len(self.shape) == 3 and prod(self.shape[:2]) == 1:
            self.flatten(what)
        self.require_vectors(what)
        if len(W) != self.shape[0]:
            raise ValueError(f"{what} takes {len(W)} numbers, the layer before gives {self.shape[0]}")
        if self.order is not None:
            W, self.order = W[self.order], None
        self._add(Dense(W.shape[1], "identity", bias=b is not None), what)
        self._keep(what, W, b)

    def conv(self, kernel: Any, b: Any, stride: Any, pad: Any, what: str) -> None:
        """kernel (height, width, channels, filters); pad is "same", or rows and columns of zeros (above, left, below,
        right)."""
        kernel = np.asarray(kernel)
        kh, kw, channels, filters = kernel.shape
        if len(self.shape) != 3 or self.shape[2] != channels:
            raise ValueError(f"{what} takes images of {channels} channels, the layer before gives {self.shape}")
        valid, same = (
            Conv2D(filters, (kh, kw), "identity", stride=tuple(map(int, stride)), padding=padding, bias=b is not None)
            for padding in ("valid", "same")
        )
        if pad == "same":
            kind = same
        elif not any(pad):
            kind = valid
        else:
            wanted = [
                (n + before + behind - k) // s + 1
                for n, k, s, before, behind in zip(self.shape[:2], (kh, kw), stride, pad[:2], pad[2:], strict=True)
            ]
            if same.pad(self.shape) != tuple(pad[:2]) or list(same.output_shape(self.shape)[:2]) != wanted:
                raise ValueError(f"{what} has zeros around images {list(pad)}, which is neither none nor 'same'")
            kind = same
        self._add(kind, what)
        self._keep(what, kernel.reshape(-1, filters), b)

    def _keep(self, what: str, W: Array, b: Any, *statistics: Any) -> None:
        if not all(np.isfinite(part).all() for part in (W, b, *statistics) if part is not None):
            raise ValueError(f"{what} must have finite weights, got NaN or infinity")
        self.open = len(self.layers) - 1
        self.weights.append(W)
        self.biases.append(None if b is None else np.asarray(b).reshape(-1))
        self.statistics.append(statistics)

    def pool(self, largest: bool, size: Any, stride: Any, what: str) -> None:
        """A max pool, or one of means, whose windows stay within the image."""
        kind = MaxPool2D if largest else AvgPool2D
        self._add(kind(tuple(map(int, size)), tuple(map(int, stride))), what)

    def global_pool(self, what: str) -> None:
        """The mean of each channel."""
        self._add(GlobalAvgPool2D(), what)

    def flatten(self, what: str, channels_first: bool = False) -> None:
        """An image becomes a vector."""
        if len(self.shape) == 3:
            if channels_first:
                height, width, channels = self.shape
                self.order = np.arange(prod(self.shape)).reshape(channels, height, width).transpose(1, 2, 0).ravel()
            self._add(Flatten(), what)

    def dropout(self, rate: float, what: str) -> None:
        """What training drops; none behind the input, or behind another one."""
        if rate > 0:
            if isinstance(self.layers[-1], (Input, Dropout)):
                raise ValueError(f"{what} stands behind {self.layers[-1]!r}, nnc drops outputs of layers alone")
            self._add(Dropout(float(rate)), what)

    def norm(
        self, gamma: Any, beta: Any, mean: Any, variance: Any, eps: float, what: str, momentum: float = 0.1
    ) -> None:
        """Add a batch normalization of each neuron or channel; `momentum` is the weight of a new batch."""
        given = [np.broadcast_to(part, self.shape[-1:]) for part in (gamma, beta, mean, variance)]
        if self.order is not None:
            given = [part[self.order] for part in given]
        self._add(BatchNorm(momentum=float(momentum), eps=float(eps)), what)
        gamma, beta, mean, variance = given
        if (variance < 0).any():
            raise ValueError(f"{what} must have running variances of at least 0, got {variance.min():g}")
        self._keep(what, gamma[None], beta, mean, variance)

    def columns(self, times: Any, what: str) -> None:
        """A Scale, which has no activation."""
        self._add(Scale(), what)
        given = np.broadcast_to(times, self.shape)
        self._keep(what, (given if self.order is None else given[self.order])[None], None)
        self.open = None

    def scale(self, times: Any, plus: Any, what: str) -> None:
        """x * times + plus, of each neuron or channel: taken into the weights of the layer before where it has no
        activation, else a batch normalization of mean 0 and variance 1."""
        times, plus = np.ravel(times), np.ravel(plus)
        if self.open is None or self.open != len(self.layers) - 1 or isinstance(self.layers[-1], BatchNorm):
            eps = 1e-5
            gamma = times * np.sqrt(1 + np.asarray(eps, times.dtype))
            self.norm(gamma, plus, np.zeros(1, times.dtype), np.ones(1, times.dtype), eps, what)
        else:
            self._take_in(times, plus)

    def _take_in(self, times: Any, plus: Any) -> None:
        W, b, kind = self.weights[-1], self.biases[-1], self.layers[-1]
        assert isinstance(kind, ParametricLayer)
        self.weights[-1] = W * times
        self.biases[-1] = np.broadcast_to((0 if b is None else b * times) + plus, W.shape[1:])
        self.layers[-1] = kind.replace(bias=True)

    def activation(self, name: str, what: str) -> None:
        """Set the activation of the last layer, or of the layer below its max-pools if the activation is monotone."""
        if name == "softmax":
            self.require_vectors(what)
        place = len(self.layers) - 1
        while isinstance(self.layers[place], MaxPool2D) and activations.ROWS[name].monotone:
            place -= 1
        if isinstance(self.layers[place], Flatten):
            place -= 1
        kind = self.layers[place]
        if self.open != place or not isinstance(kind, ParametricLayer):
            raise ValueError(f"{what} must stand behind a layer with weights that has no activation yet")
        if name == "softmax" and self.shape == (1,):
            raise ValueError(f"{what} must have two or more inputs, got 1, whose softmax is always 1")
        self.layers[place], self.open = kind.replace(activation=name), None
        if name not in activations.HIDDEN:
            self.output_only = what

    def _fold_last_norm(self) -> None:
        """Merge a BatchNorm at the end into the dense layer before it, whose output must be linear.

        The last layer of a network is dense, so a BatchNorm cannot stay there. `parts` refuses it if the dense layer
        has an activation, because no dense layer computes f(x W + b) gamma + beta.
        """
        norm, before = self.layers[-1], self.layers[-2] if len(self.layers) > 1 else None
        if not isinstance(norm, BatchNorm) or not isinstance(before, Dense) or before.activation != "identity":
            return
        del self.layers[-1]
        (gamma, beta), (mean, variance) = (self.weights.pop()[0], self.biases.pop()), self.statistics.pop()
        times = gamma / np.sqrt(variance + np.asarray(norm.eps, variance.dtype))
        self._take_in(times, beta - mean * times)
        self.layers[-1] = before.replace(activation=norm.activation, bias=True)

    def parts(self, loss: Any, classes: Any = None, **scalings: Any) -> Parts:
        """What was taken, as a network: by default with the loss that goes with its output."""
        self._fold_last_norm()
        last = self.layers[-1]
        if not isinstance(last, Dense):
            raise ValueError(f"the last layer must be dense, got {last!r}")
        if loss is None:
            loss = {"softmax": "cross_entropy", "sigmoid": "bce"}.get(str(last.activation), "mse")
        row, added_output = losses.ROWS[losses.as_loss(loss)[0]], None
        if self.open is not None and row.output_required:  # losses of other packages take net inputs
            self.layers[-1], added_output = last.replace(activation=row.output), row.output
        single = all(W.dtype == np.float32 for W in self.weights)
        arguments = {
            "layers": self.layers,
            "loss": loss,
            "init": "zeros",
            "dtype": "float32" if single else "float64",
            "seed": 0,
            "scale_X": None,
            "scale_y": None,
            **{name: scale["type"] for name, scale in scalings.items() if scale is not None},
        }
        return Parts(arguments, self.weights, self.biases, self.statistics, classes, added_output, **scalings)


def scaling(shift: Any, factor: Any) -> dict[str, Any]:
    """(x - shift) * factor, a number for each column, as documents have it."""
    shift, factor = (np.asarray(part, np.float64).ravel() for part in (shift, factor))
    if not (np.isfinite(shift).all() and np.isfinite(factor).all() and factor.all()):
        raise ValueError("a scaling must have finite numbers and no factor of 0")
    shift, factor = shift.tolist(), factor.tolist()
    if {*shift} == {0.0} and {*factor} == {1 / 255}:
        return {"type": "pixels", "shift": 0.0, "factor": 1 / 255}
    return {"type": "standardize", "shift": shift, "factor": factor}
