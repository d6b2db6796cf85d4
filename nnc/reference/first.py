"""From kinds of layers (nnc/layers), which have no weights, to layers with the weights that a network starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc import layers as kinds
from nnc.reference.checks import supported
from nnc.reference.images import AvgPool2D, Conv2D, Flatten, MaxPool2D, windows
from nnc.reference.layers import ACTIVATIONS, Dense
from nnc.reference.norm import BatchNorm
from nnc.reference.random import INITIALIZERS, Stream, mix
from nnc.reference.scale import Scale

if TYPE_CHECKING:
    from nnc.layers import base
    from nnc.layers.stack import PlacedLayer, Stack
    from nnc.reference.layers import Layer

LAYERS = ("Dense", "Conv2D", "MaxPool2D", "AvgPool2D", "GlobalAvgPool2D", "Flatten", "BatchNorm", "Scale")


def first_layers(stack: Stack, init: str | None, seed: int) -> list[Layer]:
    """Layers with drawn weights, from one stream: layer by layer, W row by row, then b."""
    supported("layer", [type(layer.kind).__name__ for layer in stack.layers], LAYERS)
    supported("activation", stack.activations, ACTIVATIONS)
    stream = Stream(mix(seed))
    return [_first_layer(layer, init, stream) for layer in stack.layers]


def _first_layer(layer: PlacedLayer[base.Layer], init: str | None, stream: Stream) -> Layer:
    kind, below, out = layer.kind, layer.input_shape, layer.output_shape
    if isinstance(kind, kinds.Dense):
        return Dense(*_drawn(kind, below, init, stream), str(kind.activation))
    if isinstance(kind, kinds.Conv2D):
        seen = windows(below, out, kind.size, kind.stride, kind.pad(below))
        return Conv2D(*_drawn(kind, below, init, stream), str(kind.activation), seen)
    if isinstance(kind, kinds.BatchNorm):
        supported("layer", ["a frozen BatchNorm"] * kind.frozen, LAYERS)
        return BatchNorm(below[-1], kind.activation, kind.momentum, kind.eps)
    if isinstance(kind, kinds.Scale):
        return Scale(below[0], kind.init)
    if isinstance(kind, kinds.MaxPool2D):
        return MaxPool2D(windows(below, out, kind.size, kind.stride))
    if isinstance(kind, kinds.AvgPool2D):
        return AvgPool2D(windows(below, out, kind.size, kind.stride))
    if isinstance(kind, kinds.GlobalAvgPool2D):  # one window, which is the whole image
        return AvgPool2D(windows(below, out, (below[0], below[1]), (1, 1)))
    return Flatten()


def _drawn(
    kind: kinds.Dense | kinds.Conv2D, below: tuple[int, ...], init: str | None, stream: Stream
) -> tuple[list[list[float]], list[float] | None]:
    """W and b of a layer."""
    name = kind.init or init or ("he_uniform" if kind.activation == "relu" else "glorot_uniform")
    supported("init", [name], INITIALIZERS)
    array = kind.parameter_arrays(below)[0]  # shape, fan-in and fan-out of W
    n_in, n_out = array.shape
    W = [[INITIALIZERS[name](stream, array.fan_in, array.fan_out) for _ in range(n_out)] for _ in range(n_in)]
    b = [stream.uniform() if name == "uniform" else 0.0 for _ in range(n_out)] if kind.bias else None
    return W, b
