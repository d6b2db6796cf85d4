"""Creation of layers with initial weights from the layers of nnc/layers, which have no weights."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

from nnc import layers as kinds
from nnc.layers import image
from nnc.layers.recurrent import RecurrentLayer
from nnc.reference.checks import check_supported
from nnc.reference.images import AvgPool2D, Conv2D, Flatten, MaxPool2D, windows
from nnc.reference.layers import ACTIVATIONS, Dense, Softmax
from nnc.reference.norm import BatchNorm
from nnc.reference.random import INITIALIZERS, Stream, draw_bias, first_siren_weight, mix, orthonormal_rows
from nnc.reference.recurrent import GRU, LSTM, SimpleRNN, side_by_side
from nnc.reference.scale import Scale
from nnc.reference.sequences import AvgPool1D, Conv1D, MaxPool1D, StepDense, sequence_windows

if TYPE_CHECKING:
    from typing import Any

    from nnc.layers import base
    from nnc.layers.stack import PlacedLayer, Stack
    from nnc.reference.images import Window
    from nnc.reference.layers import Layer

LAYERS = (
    *("Dense", "Conv2D", "MaxPool2D", "AvgPool2D", "GlobalAvgPool2D", "Flatten", "BatchNorm", "Scale"),
    *("Conv1D", "MaxPool1D", "AvgPool1D", "GlobalAvgPool1D", "GlobalMaxPool1D", "SimpleRNN", "GRU", "LSTM"),
)


def build_layers(stack: Stack, init: str | None, seed: int) -> list[Layer]:
    """Return layers with random weights; one random number stream fills W row by row, then b, layer by layer."""
    check_supported("layer", [type(layer.kind).__name__ for layer in stack.layers], LAYERS)
    *hidden, output = stack.activations
    check_supported("activation", hidden, ACTIVATIONS)
    check_supported("activation", [output], [*ACTIVATIONS, "softmax"])
    stream = Stream(mix(seed))
    layers = [_build_layer(layer, init, stream) for layer in stack.layers]
    return [*layers, Softmax(stack.output_shape[-1])] if output == "softmax" else layers


def _build_layer(layer: PlacedLayer[base.Layer], init: str | None, stream: Stream) -> Layer:
    """Return one layer with random weights."""
    kind, input_shape = layer.kind, layer.input_shape
    if isinstance(kind, RecurrentLayer):
        check_supported("layer", ["a recurrent layer with dropout"] * bool(kind.dropout), LAYERS)
        W, b = _random_recurrent_parameters(kind, input_shape, init, stream)
        layer_class = GRU if isinstance(kind, kinds.GRU) else LSTM if isinstance(kind, kinds.LSTM) else SimpleRNN
        backwards = [False, True] if kind.bidirectional else [kind.go_backwards]
        return layer_class(W, b, str(kind.activation), kind.units, backwards, kind.return_sequences)
    if isinstance(kind, kinds.Dense):
        parameters = _random_parameters(kind, input_shape, init, stream)
        activation = "identity" if kind.activation == "softmax" else str(kind.activation)
        return (StepDense if len(input_shape) == 2 else Dense)(*parameters, activation)
    if isinstance(kind, (kinds.Conv1D, kinds.Conv2D)):
        convolution = Conv1D if isinstance(kind, kinds.Conv1D) else Conv2D
        parameters = _random_parameters(kind, input_shape, init, stream)
        return convolution(*parameters, str(kind.activation), partial(_windows, kind, input_shape))
    if isinstance(kind, kinds.BatchNorm):
        check_supported("layer", ["a frozen BatchNorm"] * kind.frozen, LAYERS)
        return BatchNorm(input_shape[-1], kind.activation, kind.momentum, kind.eps)
    if isinstance(kind, kinds.Scale):
        return Scale(input_shape[0], kind.init)
    if isinstance(kind, image.Pool):
        max_pool, avg_pool = (MaxPool2D, AvgPool2D) if len(input_shape) == 3 else (MaxPool1D, AvgPool1D)
        return (max_pool if kind.is_max else avg_pool)(partial(_windows, kind, input_shape))
    return Flatten()


@lru_cache(maxsize=100)  # keep the windows of 100 combinations of layer, input shape and length of rows
def _windows(kind: base.Layer, input_shape: tuple[int, ...], size: int) -> list[Window]:
    """Return the windows of a convolution or a pool in rows of `size` numbers.

    A sequence may have fewer steps than `input_shape`.
    """
    shape = input_shape
    if len(shape) == 2:
        input_shape = size // shape[1], shape[1]
    if isinstance(kind, kinds.Conv1D):
        n = kind.output_shape(shape)[0] if shape == input_shape else kind.output_steps(input_shape[0])
        zeros = kind.zeros_before(input_shape[0], n)
        return sequence_windows(input_shape, n, kind.size, kind.stride, kind.dilation, zeros)
    assert isinstance(kind, (image.Convolution, image.Pool))
    geometry = kind.window_geometry(input_shape)  # a sequence is an image of one row
    return windows(geometry.input_shape, geometry.output_shape, geometry.size, geometry.stride, geometry.pad)


def _initializer(kind: base.ParametricLayer, init: str | None) -> str:
    """Return the name of the weight initialization of a layer."""
    by_activation = {"relu": "he_uniform", "sin": "siren"}.get(str(kind.activation), "glorot_uniform")
    name = str(kind.init or init or by_activation)
    check_supported("init", [name], INITIALIZERS)
    return name


def _random_parameters(
    kind: kinds.Dense | kinds.Conv1D | kinds.Conv2D, input_shape: tuple[int, ...], init: str | None, stream: Stream
) -> tuple[list[list[float]], list[float] | None]:
    """Return random weights W and biases b of a layer."""
    name = _initializer(kind, init)
    array = kind.parameter_arrays(input_shape)[0]  # description of W: shape, fan-in and fan-out
    n_in, n_out = array.shape
    draw = INITIALIZERS[name]
    if name == "siren" and stream.position == 0:  # the first layer draws the first random numbers of the stream
        draw = first_siren_weight
    W = [[draw(stream, array.fan_in, array.fan_out) for _ in range(n_out)] for _ in range(n_in)]
    b = [draw_bias(name, stream) for _ in range(n_out)] if kind.bias else None
    return W, b


def _random_recurrent_parameters(
    kind: RecurrentLayer, input_shape: tuple[int, ...], init: str | None, stream: Stream
) -> tuple[list[list[float]], Any]:
    """Return weights W and biases b of a recurrent layer.

    For each direction, W has random rows for the features, then orthonormal rows U for the units. The biases of
    the forget gate of an LSTM are 1, the others 0.
    """
    name = _initializer(kind, init)
    features, units, columns = input_shape[1], kind.units, kind.n_gates * kind.units
    parts = []
    for _ in range(kind.directions):
        W = [[INITIALIZERS[name](stream, features, columns) for _ in range(columns)] for _ in range(features)]
        U = [[0.0 if name == "zeros" else stream.normal() for _ in range(columns)] for _ in range(units)]
        parts.append(W + (U if name == "zeros" else orthonormal_rows(U)))
    b: Any = [float(gate == "f") for _ in parts for gate in kind.gate_names for _ in range(units)]
    b = [b, [0.0] * len(b)] if kind.n_bias_rows == 2 else b
    return side_by_side(*parts), b if kind.bias else None
