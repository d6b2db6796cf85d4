"""Writer of Sequential models of Keras 3; keras_layers.py is the corresponding reader."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnc._interop.program import Writer, build_program, sequence_window
from nnc.layers import operations as op

try:
    import keras
    from keras import layers
except ImportError as error:
    from nnc._utils.packages import missing_package

    raise missing_package("this function", "Keras 3", error, "keras") from error

RENAMED = {"identity": "linear", "exp": "exponential"}  # activations that have another name in Keras
EPSILON = 1e-3  # epsilon of each BatchNormalization, whose variance is 1 - EPSILON, so that their sum is 1
RECURRENT = {"simple_rnn": layers.SimpleRNN, "gru": layers.GRU, "lstm": layers.LSTM}


@keras.saving.register_keras_serializable("nnc")
class Reverse(layers.Layer):
    """Layer that reverses the steps of sequences with the shape (n, steps, features)."""

    def call(self, inputs: Any) -> Any:
        """Return the sequences with their steps in reverse order."""
        return keras.ops.flip(inputs, axis=1)


class LayerBuilder(Writer):
    """Builder of a list of Keras layers with their weights.

    Exported operations of convolutions and pools treat sequences as images, between two Reshape operations. The layers
    for these operations are one-dimensional, such as Conv1D.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.layers: list[Any] = []
        self.weights: list[list[Any]] = []  # weights of each layer
        self.has_sequences = False  # whether the current operations process sequences, stored as images

    def add(self, layer: Any, *weights: Any) -> None:
        """Append a layer with its weights; omit those that are None."""
        self.layers.append(layer)
        self.weights.append([np.array(part, self.dtype) for part in weights if part is not None])

    def scale(self, operation: op.Scale) -> None:
        """Add the scaling (x - minus) * times + plus: a preprocessing layer, or a BatchNormalization after a layer."""
        minus, times, plus = (np.array(part, np.float64) for part in (operation.minus, operation.times, operation.plus))
        shape = operation.input_shape
        if not self.layers and (times > 0).all() and not plus.any():
            if len(times) == 1 and not minus.any():
                self.add(layers.Rescaling(times.item(), dtype=self.dtype))
                return
            axis = tuple(range(1, 1 + len(shape))) if operation.is_by_element else -1
            sizes = shape[-1:] if axis == -1 else shape
            mean, variance = (np.resize(part, sizes) for part in (minus, times**-2))
            layer = layers.Normalization(axis=axis, mean=mean, variance=variance, dtype=self.dtype)
            self.add(layer)
            return
        if len(minus) not in (1, shape[-1]):
            raise ValueError(f"a scaling of single elements of rows of the shape {shape} is supported only for inputs")
        minus, times, plus = (np.broadcast_to(part, shape[-1:]) for part in (minus, times, plus))
        if self.layers and isinstance(self.layers[-1], layers.Dense):
            # Merge the scaling into the weights of this dense layer, which has no activation.
            self.layers.pop()
            kernel, *bias = self.weights.pop()
            dense = layers.Dense(len(times), dtype=self.dtype)
            self.add(dense, kernel * times, ((bias[0] if bias else 0.0) - minus) * times + plus)
            return
        ones = np.full_like(times, 1 - EPSILON)
        self.add(layers.BatchNormalization(epsilon=EPSILON, dtype=self.dtype), times, plus, minus, ones)

    def mat_mul(self, operation: op.MatMul) -> None:
        """Add a Dense layer without activation."""
        dense = layers.Dense(len(operation.W[0]), use_bias=operation.b is not None, dtype=self.dtype)
        self.add(dense, operation.W, operation.b)

    step_mat_mul = mat_mul

    def recur(self, operation: op.Recur) -> None:
        """Add a recurrent or Bidirectional layer, followed by a Reverse layer if Keras reverses the steps."""
        first = operation.directions[0]
        options: dict[str, Any] = {"return_sequences": operation.sequences, "use_bias": first.b is not None}
        options |= {"go_backwards": first.reverse, "dtype": self.dtype}
        if operation.cell == "simple_rnn":
            options["activation"] = RENAMED.get(operation.activation, operation.activation)
        layer = RECURRENT[operation.cell](first.units, **options)
        if len(operation.directions) == 2:
            layer = layers.Bidirectional(layer, dtype=self.dtype)
        weights: list[Any] = []
        for direction in operation.directions:
            b = direction.b if direction.b is None or operation.cell == "gru" else direction.b[0]
            weights += [direction.W, direction.U, b]
        self.add(layer, *weights)
        if operation.sequences and first.reverse:
            self.add(Reverse(dtype=self.dtype))

    def conv(self, operation: op.Conv) -> None:
        """Add a Conv2D or Conv1D layer, preceded by a layer that pads the images or sequences with zeros."""
        channels, filters = operation.input_shape[2], operation.output_shape[2]
        options = {"use_bias": operation.b is not None, "dtype": self.dtype}
        if self.has_sequences:
            size, stride, dilation, *padding = sequence_window(operation)
            if any(padding):
                self.add(layers.ZeroPadding1D(tuple(padding), dtype=self.dtype))
            conv = layers.Conv1D(filters, size, stride, dilation_rate=dilation, **options)
            self.add(conv, np.reshape(operation.W, (size, channels, filters)), operation.b)
            return
        top, left, bottom, right = operation.pad
        if any(operation.pad):
            self.add(layers.ZeroPadding2D(((top, bottom), (left, right)), dtype=self.dtype))
        conv = layers.Conv2D(filters, operation.window, operation.stride, **options)
        self.add(conv, np.reshape(operation.W, (*operation.window, channels, filters)), operation.b)

    def pool(self, operation: op.MaxPool | op.AvgPool) -> None:
        """Add a pooling layer for images or for sequences."""
        is_max, size, stride = isinstance(operation, op.MaxPool), operation.window, operation.stride
        if self.has_sequences:
            pool = layers.MaxPooling1D if is_max else layers.AveragePooling1D
            self.add(pool(size[1], min(stride[1], operation.input_shape[1]), dtype=self.dtype))
        else:
            pool = layers.MaxPooling2D if is_max else layers.AveragePooling2D
            self.add(pool(size, stride, dtype=self.dtype))

    def flatten(self, operation: op.Flatten) -> None:
        """Add a Flatten layer."""
        self.add(layers.Flatten(dtype=self.dtype))

    def reshape(self, operation: op.Reshape) -> None:
        """Set `has_sequences` for the next operations; add a Flatten layer if the output is a vector."""
        self.has_sequences = len(operation.output_shape) == 3
        if len(operation.output_shape) == 1:
            self.add(layers.Flatten(dtype=self.dtype))

    def activate(self, operation: op.Activate) -> None:
        """Add an activation layer."""
        if operation.name == "leaky_relu":  # pass the slope for negative inputs, whose default in Keras is 0.2
            self.add(layers.LeakyReLU(negative_slope=0.01, dtype=self.dtype))
        else:
            self.add(layers.Activation(RENAMED.get(operation.name, operation.name), dtype=self.dtype))


def to_keras(document: dict[str, Any]) -> Any:
    """Return a Sequential model that computes the network in a validated document."""
    program = build_program(document)
    builder = LayerBuilder(program.dtype)
    for operation in program.operations:
        builder.write(operation)
    model = keras.Sequential([keras.Input(program.shape, dtype=program.dtype), *builder.layers])
    for layer, weights in zip(builder.layers, builder.weights, strict=True):
        if weights:
            layer.set_weights(weights)
    return model
