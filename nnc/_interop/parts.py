"""Conversion of layers of other packages to `Parts`, the arguments and arrays from which a network is created."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._registry import activations, losses
from nnc._utils.checks import pluralize
from nnc.layers import (
    AvgPool1D,
    AvgPool2D,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    GlobalMaxPool1D,
    Input,
    MaxPool1D,
    MaxPool2D,
    Scale,
)
from nnc.layers.base import ParametricLayer
from nnc.layers.image import Convolution, Pool
from nnc.layers.recurrent import RecurrentLayer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nnc.layers.base import Layer, Shape

    Array = np.ndarray[Any, Any]

# Exceptions that a damaged or unusual layer may raise when it is read or called.
LAYER_ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@contextmanager
def naming_errors(label: str) -> Iterator[None]:
    """Convert an error in the `with` block to a ValueError whose message contains the label of a layer or module."""
    try:
        yield
    except LAYER_ERRORS as error:
        text = str(error)
        raise ValueError(text if label in text else f"{label}: {text}") from None


def require_attributes(layer: Any, required: Mapping[str, Any], label: str, optional: bool = False) -> None:
    """Raise ValueError if an attribute of a layer has a value that nnc does not support.

    Parameters
    ----------
    layer : object
        Layer or module of another package.
    required : dict of str
        Supported value of each attribute. A pair of equal numbers counts as one number.
    label : str
        Name of the layer in messages.
    optional : bool
        Whether the layer may lack the attributes.
    """
    for name, value in required.items():
        actual = getattr(layer, name, value if optional else "no such attribute")
        actual = tuple(actual) if isinstance(actual, list) else actual
        if actual not in (value, (value, value)):
            raise ValueError(f"{label} must have {name}={value!r}, got {actual!r}")


def check_methods(layer: Any, label: str, allowed: Sequence[str] = ()) -> None:
    """Raise ValueError if methods of this layer instance were replaced, except the methods in `allowed`."""
    changed = sorted(key for key in vars(layer) if key not in allowed and callable(getattr(type(layer), key, None)))
    if changed:
        raise ValueError(f"{label} must have the methods of its class, got replaced methods: {', '.join(changed)}")


class Parts(NamedTuple):
    """Arguments and arrays from which a network is created.

    Attributes
    ----------
    arguments : dict
        Arguments of NeuralNetwork.
    weights : list of array
        Weights of each parametric layer.
    biases : list of array or None
        Biases of each parametric layer; None for a layer without biases.
    statistics : list of tuple
        Running mean and running variance of each BatchNorm; () for each other parametric layer.
    classes : array, optional
        Labels of the classes; None if the labels are the indices of the outputs.
    added_output : str, optional
        Output activation that the network has because of its loss, although the original model lacks it.
    scale_X, scale_y : dict, optional
        Scaling of the inputs and of the targets, in the form of a document.
    """

    arguments: dict[str, Any]
    weights: list[Array]
    biases: list[Array | None]
    statistics: list[tuple[Any, ...]]
    classes: Array | None = None
    added_output: str | None = None
    scale_X: dict[str, Any] | None = None
    scale_y: dict[str, Any] | None = None


class Builder:
    """Collector of layers in the order of the forward pass.

    Each method adds one layer, and raises ValueError with the label of the layer if nnc does not support it.

    Parameters
    ----------
    shape : tuple of int
        Shape of one row of inputs: (n,), (steps, features), or (height, width, channels). The number of steps is None
        if sequences may have any number of steps; `shape` then describes one step.

    Attributes
    ----------
    any_steps : bool
        Whether sequences may have any number of steps.
    shape, previous_shape : tuple of int
        Output shape and input shape of the last layer.
    linear_layer : int or None
        Index of the last layer with weights; None if this layer already has an activation.
    last_label : str or None
        Label of the last activation, if nnc supports this activation only at the output.
    row_order : array or None
        Permutation for the rows of the next weight matrix, set after images were flattened with channels first.
    padding : (tuple of int, str) or None
        Zeros around the images or sequences before the next layer, which must be a convolution: those at the beginning
        of each axis, followed by those at the end of each axis; and the label of the layer that adds them.
    reversed : bool
        Whether the original model has the steps of the current sequences in reverse order.
    """

    def __init__(self, shape: Shape) -> None:
        sizes = tuple(None if n is None else int(n) for n in shape)
        is_sequence = len(sizes) == 2
        first = Input(steps=sizes[0], features=sizes[1]) if is_sequence else Input(*sizes)
        self.layers: list[Layer] = [first]
        self.any_steps = first.any_steps
        self.shape = self.previous_shape = self.layers[0].output_shape(())
        self.weights: list[Array] = []
        self.biases: list[Array | None] = []
        self.statistics: list[tuple[Any, ...]] = []
        self.linear_layer: int | None = None
        self.last_label: str | None = None
        self.row_order: Array | None = None
        self.padding: tuple[tuple[int, ...], str] | None = None
        self.reversed = False

    def add(self, layer: Layer, label: str) -> None:
        """Append a layer, and update `shape` to its output shape; the caller adds the weights of the layer."""
        if self.last_label is not None:
            raise ValueError(f"{self.last_label} must be at the end of the model, but {label} follows")
        self.require_unpadded(label)
        is_step_layer = isinstance(layer, (RecurrentLayer, Dense, Dropout))
        if self.any_steps and len(self.shape) == 2 and not is_step_layer:
            raise ValueError(
                f"{label} must be a recurrent layer or a dense layer for each step because the number of steps is "
                f"variable, got {layer!r}"
            )
        if isinstance(layer, (Convolution, Pool)):
            self.require_original_order(label)
        try:
            self.previous_shape, self.shape = self.shape, layer.output_shape(self.shape)
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from None
        self.layers.append(layer)

    def pad(self, zeros: tuple[int, ...], label: str) -> None:
        """Set `padding` for the next convolution."""
        self.require_unpadded(label)
        self.require_original_order(label)
        if len(zeros) != 2 * (len(self.shape) - 1):
            raise ValueError(f"{label} must fit its inputs, got {list(zeros)} zeros for rows of the shape {self.shape}")
        self.padding = (zeros, label) if any(zeros) else None

    def require_unpadded(self, label: str) -> None:
        """Raise ValueError if zeros were added to the inputs of the layer with this label, which is no convolution."""
        if self.padding is not None:
            raise ValueError(f"{self.padding[1]} must come directly before a convolution, but {label} follows")

    def require_original_order(self, label: str) -> None:
        """Raise ValueError if the layer with this label has sequences in reverse order as inputs."""
        if self.reversed:
            raise ValueError(f"{label} must have the steps in the order of the inputs, got the reverse order")

    def _with_zeros(self, padding: Any, label: str) -> Any:
        """Return the padding of a convolution plus the zero padding that a preceding call of `pad` has recorded."""
        if self.padding is None:
            return padding
        (zeros, pad_label), self.padding = self.padding, None
        own = (0,) * len(zeros) if padding in ("valid", 0) else padding
        if not isinstance(own, tuple):
            raise ValueError(f"{label} must have no padding of its own after {pad_label}, got {padding!r}")
        return tuple(a + b for a, b in zip(own, zeros, strict=True))

    def require_vectors(self, label: str, or_sequences: bool = False) -> None:
        """Raise ValueError if the inputs of the layer with this label are images, or sequences that are not allowed."""
        if len(self.shape) > 1 + or_sequences:
            noun = "images" if len(self.shape) == 3 else "sequences"
            raise ValueError(
                f"{label} must have vectors as inputs, got {noun} of the shape {self.shape}; flatten them first"
            )

    def require_weights(self, label: str) -> None:
        """Raise ValueError if there is no layer with weights before the layer with this label, which scales outputs."""
        if not self.weights:
            raise ValueError(
                f"{label} must follow a dense or convolutional layer, got no such layer before it; remove it from the "
                "model, and scale the inputs"
            )

    def dense(self, W: Any, b: Any, label: str) -> None:
        """Add a dense layer with the weights W (n_in, n_out), and with the biases b (n_out,) or None.

        For sequences, the layer is applied to each step.
        """
        W = np.asarray(W)
        if len(self.shape) == 3 and prod(self.shape[:2]) == 1:
            self.flatten(label)
        self.require_vectors(label, or_sequences=True)
        if len(W) != self.shape[-1]:
            raise ValueError(f"{label} must have {self.shape[-1]} inputs to fit the previous layer, got {len(W)}")
        if self.row_order is not None:
            W, self.row_order = W[self.row_order], None
        self.add(Dense(W.shape[1], "identity", bias=b is not None), label)
        self._add_weights(label, W, b)

    def conv(self, kernel: Any, b: Any, stride: Any, pad: Any, label: str) -> None:
        """Add a convolution with a kernel of the shape (height, width, channels, filters).

        `pad` is "same", or the number of zeros on each side of an image: top, left, bottom, right.
        """
        kernel = np.asarray(kernel)
        kh, kw, channels, filters = kernel.shape
        if len(self.shape) != 3 or self.shape[2] != channels:
            raise ValueError(
                f"{label} must have images of {channels} channels as inputs, got inputs of the shape {self.shape}"
            )
        stride, pad = tuple(map(int, stride)), self._with_zeros(pad, label)
        padding: Any = pad if pad == "same" else self._padding(kernel.shape, stride, pad, label)
        self.add(Conv2D(filters, (kh, kw), "identity", stride, padding, bias=b is not None), label)
        self._add_weights(label, kernel.reshape(-1, filters), b)

    def _padding(self, kernel_shape: Shape, stride: Sequence[int], pad: Sequence[int], label: str) -> Any:
        """Return the argument `padding` of Conv2D for `pad`, the zeros at top, left, bottom and right of an image."""
        (kh, kw, _, filters), (top, left, bottom, right) = kernel_shape, map(int, pad)
        if not any(pad):
            return "valid"
        sizes = [
            (n + before + after - k) // s + 1
            for n, k, s, before, after in zip(
                self.shape[:2], (kh, kw), stride, (top, left), (bottom, right), strict=True
            )
        ]
        for padding in ("same", (top, left)):
            with suppress(ValueError):  # ignore the error of Conv2D for padding that is not smaller than the window
                geometry = Conv2D(filters, (kh, kw), stride=stride, padding=padding).window_geometry(self.shape)
                if geometry.pad == (top, left) and list(geometry.output_shape[:2]) == sizes:
                    return padding
        raise ValueError(
            f"{label} must have the padding 'valid' or 'same', or equal padding on opposite sides that is smaller than "
            f"the window, got {list(pad)} zeros on the sides"
        )

    def conv1d(self, kernel: Any, b: Any, stride: int, padding: Any, dilation: int, label: str) -> None:
        """Add a convolution of sequences with a kernel of the shape (size, features, filters).

        `padding` is that of `Conv1D`, or a tuple with the numbers of zeros before and after a sequence.
        """
        kernel = np.asarray(kernel)
        size, features, filters = kernel.shape
        if len(self.shape) != 2 or self.shape[1] != features:
            raise ValueError(
                f"{label} must have sequences of {features} features as inputs, got inputs of the shape {self.shape}"
            )
        with naming_errors(label):
            layer = Conv1D(filters, size, "identity", stride, "valid", dilation, bias=b is not None)
        padding = self._with_zeros(padding, label)
        if isinstance(padding, tuple):
            before, after = padding
            padding = self._sequence_padding(layer, before, after, label)
        self.add(layer.replace(padding=padding), label)
        self._add_weights(label, kernel.reshape(-1, filters), b)

    def _sequence_padding(self, layer: Conv1D, before: int, after: int, label: str) -> Any:
        """Return the padding of a Conv1D with these numbers of zeros before and after a sequence."""
        n = (self.shape[0] + before + after - layer.extent) // layer.stride + 1
        for padding in (before, "same", "causal"):
            with suppress(ValueError):  # ignore the error of Conv1D for padding that is not smaller than the window
                geometry = layer.replace(padding=padding).sequence_geometry(self.shape)
                if (geometry.pad[1], geometry.output_shape[1]) == (before, n):
                    return padding
        raise ValueError(
            f"{label} must have the padding 'valid', 'same' or 'causal', or equal padding on both sides that is "
            f"smaller than the window, got {before} zeros before and {after} after the sequence"
        )

    def recurrent(self, layer: RecurrentLayer, W: Any, U: Any, b: Any, label: str) -> None:
        """Add a recurrent layer with the weights W (features, columns), U (units, columns), and the biases b or None.

        The columns are in the order of nnc. The option `go_backwards` refers to the order in which the original model
        has the steps; if it is set, the original outputs of all steps are in the order of processing.
        """
        if len(self.shape) != 2 or len(W) != self.shape[1]:
            features = pluralize(len(W), "feature")
            raise ValueError(f"{label} must have sequences of {features} as inputs, got rows of the shape {self.shape}")
        backwards = layer.go_backwards != self.reversed
        if layer.bidirectional and backwards:
            raise ValueError(f"{label} must process the steps in the order of the inputs because it is bidirectional")
        self.add(layer.replace(go_backwards=backwards, bias=b is not None), label)
        self._add_weights(label, np.vstack([W, U]), b)
        self.linear_layer, self.reversed = None, backwards and layer.return_sequences

    def last_step(self, label: str, states: bool = False) -> None:
        """Set `return_sequences=False` in the last recurrent layer, because the model uses only one of its outputs.

        Dense layers, which are applied to each step, and dropout may follow this layer. If `states` is true, the model
        uses the states after the step that each direction processes last; otherwise it uses the last step.
        """
        i = len(self.layers) - 1
        while isinstance(self.layers[i], (Dense, Dropout)):
            i -= 1
        layer = self.layers[i]
        if not isinstance(layer, RecurrentLayer) or len(self.shape) != 2:
            raise ValueError(f"{label} must follow a recurrent layer with outputs at each step, got {layer!r}")
        if not states and layer.bidirectional:
            raise ValueError(
                f"{label} must not be the last step of a bidirectional layer, because its second direction has "
                "processed only this step; use the states of both directions"
            )
        if not states and layer.go_backwards != self.reversed:
            raise ValueError(f"{label} must select the last step that the recurrent layer processes, got the first")
        self.layers[i] = layer.replace(return_sequences=False)
        self.shape, self.reversed = self.shape[1:], False

    def _add_weights(self, label: str, W: Array, b: Any, *statistics: Any) -> None:
        """Append the weights, biases and running statistics of the last layer to the lists of this builder."""
        if not all(np.isfinite(part).all() for part in (W, b, *statistics) if part is not None):
            raise ValueError(f"{label} must have finite weights, got NaN or infinity; train the model again")
        self.linear_layer = len(self.layers) - 1
        self.weights.append(W)
        self.biases.append(None if b is None else np.asarray(b))
        self.statistics.append(statistics)

    def pool(self, is_max: bool, size: Any, stride: Any, label: str) -> None:
        """Add a pooling layer without padding: a max-pool if `is_max` is true, else an average pool.

        The size and the stride have two numbers for images, and one number for sequences.
        """
        pools: dict[int, Any] = {1: (AvgPool1D, MaxPool1D), 2: (AvgPool2D, MaxPool2D)}
        sizes: list[Any] = [tuple(map(int, part)) for part in (size, stride)]
        sizes = [part[0] for part in sizes] if len(size) == 1 else sizes
        self.add(pools[len(size)][is_max](*sizes), label)

    def global_pool(self, label: str, is_max: bool = False) -> None:
        """Add a pool over each whole image or sequence; the axes of an image, or of steps, have the size 1 then."""
        if len(self.shape) == 3 and not is_max:
            self.add(GlobalAvgPool2D(), label)
        else:
            self.pool(is_max, self.shape[:-1], self.shape[:-1], label)

    def flatten(self, label: str, channels_first: bool = False) -> None:
        """Add a layer that flattens images and sequences; do nothing for vectors.

        A pool over whole sequences before it becomes a GlobalAvgPool1D or GlobalMaxPool1D.

        If `channels_first` is true, the original model flattens images in the order of channel, height and width, and
        sequences in the order of feature and step. The rows of the next weight matrix are then permuted.
        """
        pool = self.layers[-1]
        if isinstance(pool, (AvgPool1D, MaxPool1D)) and pool.size == self.previous_shape[0]:
            self.layers[-1], self.shape = GlobalMaxPool1D() if pool.is_max else GlobalAvgPool1D(), self.shape[1:]
        elif len(self.shape) > 1:
            order = np.arange(prod(self.shape)).reshape(self.shape)
            if channels_first:
                *sizes, channels = self.shape
                order = np.moveaxis(order.reshape(channels, *sizes), 0, -1)
            if channels_first or self.reversed:
                self.row_order, self.reversed = (order[::-1] if self.reversed else order).ravel(), False
            self.add(Flatten(), label)

    def dropout(self, rate: float, label: str) -> None:
        """Add a Dropout layer; do nothing if the rate is 0."""
        if rate > 0:
            if isinstance(self.layers[-1], (Input, Dropout)):
                raise ValueError(
                    f"{label} must follow a layer with weights or a pooling layer, but follows {self.layers[-1]!r}"
                )
            self.add(Dropout(float(rate)), label)

    def norm(
        self, gamma: Any, beta: Any, mean: Any, variance: Any, eps: float, label: str, momentum: float = 0.1
    ) -> None:
        """Add a batch normalization of each neuron or channel.

        `momentum` is the weight of a new batch in the running mean and variance.
        """
        self.require_weights(label)
        arrays = [np.broadcast_to(part, self.shape[-1:]) for part in (gamma, beta, mean, variance)]
        if self.row_order is not None:
            arrays = [array[self.row_order] for array in arrays]
        self.add(BatchNorm(momentum=float(momentum), eps=float(eps)), label)
        gamma, beta, mean, variance = arrays
        if (variance < 0).any():
            raise ValueError(f"{label} must have running variances of at least 0, got {variance.min():g}")
        self._add_weights(label, gamma[None], beta, mean, variance)

    def column_scale(self, times: Any, label: str) -> None:
        """Add a Scale layer, which multiplies each column by a factor and has no activation."""
        self.add(Scale(), label)
        factors = np.broadcast_to(times, self.shape)
        self._add_weights(label, (factors if self.row_order is None else factors[self.row_order])[None], None)
        self.linear_layer = None

    def scale(self, times: Any, plus: Any, label: str) -> None:
        """Add the scaling x * times + plus of each neuron or channel.

        The scaling is merged into the weights of the last layer if this layer has no activation. Otherwise it becomes a
        batch normalization with mean 0 and variance 1.
        """
        times, plus = np.ravel(times), np.ravel(plus)
        last = len(self.layers) - 1
        if self.linear_layer != last or isinstance(self.layers[last], BatchNorm):
            eps = 1e-5
            gamma = times * np.sqrt(1 + np.asarray(eps, times.dtype))
            self.norm(gamma, plus, np.zeros(1, times.dtype), np.ones(1, times.dtype), eps, label)
        else:
            self._merge_scaling(times, plus)

    def _merge_scaling(self, times: Any, plus: Any) -> None:
        """Change the weights of the last layer so that its output y becomes y * times + plus."""
        W, b, layer = self.weights[-1], self.biases[-1], self.layers[-1]
        assert isinstance(layer, ParametricLayer)
        self.weights[-1] = W * times
        self.biases[-1] = np.broadcast_to((0 if b is None else b * times) + plus, W.shape[1:])
        self.layers[-1] = layer.replace(bias=True)

    def activation(self, name: str, label: str) -> None:
        """Set the activation of the last layer with weights.

        Flatten layers, and max-pools if the activation is monotone, may lie between this layer and the activation.
        """
        self.require_unpadded(label)
        if name == "softmax":
            self.require_vectors(label, or_sequences=True)
        i = len(self.layers) - 1
        while isinstance(pool := self.layers[i], Pool) and pool.is_max and activations.ROWS[name].monotone:
            i -= 1
        if isinstance(self.layers[i], Flatten):
            i -= 1
        layer = self.layers[i]
        if self.linear_layer != i or not isinstance(layer, ParametricLayer):
            raise ValueError(f"{label} must directly follow a layer with weights and without activation, got {layer!r}")
        if name == "softmax" and self.shape[-1] == 1:
            raise ValueError(f"{label} must have two or more inputs, got one input, whose softmax is always 1")
        self.layers[i], self.linear_layer = layer.replace(activation=name), None
        if name not in activations.HIDDEN:
            self.last_label = label

    def _fold_last_norm(self) -> None:
        """Merge a BatchNorm at the end of the model into the dense layer before it, if this layer has no activation.

        The last layer of a network must be dense, so `parts` refuses a BatchNorm that remains at the end. A dense layer
        with the activation f cannot compute f(x W + b) * gamma + beta.
        """
        norm, before = self.layers[-1], self.layers[-2] if len(self.layers) > 1 else None
        if not isinstance(norm, BatchNorm) or not isinstance(before, Dense) or before.activation != "identity":
            return
        del self.layers[-1]
        (gamma, beta), (mean, variance) = (self.weights.pop()[0], self.biases.pop()), self.statistics.pop()
        times = gamma / np.sqrt(variance + np.asarray(norm.eps, variance.dtype))
        self._merge_scaling(times, beta - mean * times)
        self.layers[-1] = before.replace(activation=norm.activation, bias=True)

    def parts(self, loss: Any, classes: Any = None, **scalings: Any) -> Parts:
        """Return the Parts of the network; the default loss is the one that matches the output activation."""
        self._fold_last_norm()
        last = self.layers[-1]
        self.require_unpadded("the end of the model")
        if self.reversed:
            raise ValueError("the outputs at each step must be in the order of the inputs, got the reverse order")
        if not isinstance(last, Dense):
            raise ValueError(f"the last layer of the model must be dense, got {last!r}")
        if loss is None:
            loss = {"softmax": "cross_entropy", "sigmoid": "bce"}.get(str(last.activation), "mse")
        row, added_output = losses.ROWS[losses.parse_loss(loss)[0]], None
        if self.linear_layer is not None and row.output_required:
            # Add the output activation of the loss, which the last layer lacks. Other packages often compute this
            # activation in their loss function, not in the model.
            self.layers[-1], added_output = last.replace(activation=row.output), row.output
        scale_y = scalings.get("scale_y")
        if scale_y is not None and len(self.shape) == 2:  # repeat shift and factor of each output for all steps
            for key in ("shift", "factor"):
                numbers = np.reshape(scale_y[key], (-1, self.shape[1]))
                scale_y[key] = np.broadcast_to(numbers, self.shape).ravel().tolist()
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
    """Return the scaling (x - shift) * factor in the form of a document, with a list of one number per column."""
    shift, factor = (np.asarray(part, np.float64).ravel() for part in (shift, factor))
    if not (np.isfinite(shift).all() and np.isfinite(factor).all() and factor.all()):
        raise ValueError("scaling must have finite numbers and nonzero factors, got NaN, infinity or a factor of 0")
    shift, factor = shift.tolist(), factor.tolist()
    if {*shift} == {0.0} and {*factor} == {1 / 255}:
        return {"type": "pixels", "shift": 0.0, "factor": 1 / 255}
    return {"type": "standardize", "shift": shift, "factor": factor}
