"""Examples of each layer class, with an input shape that it accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc.layers import (
    GRU,
    LSTM,
    AvgPool1D,
    AvgPool2D,
    BatchNorm,
    Bidirectional,
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
    SimpleRNN,
)

if TYPE_CHECKING:
    from nnc.layers.base import Layer, Shape

EXAMPLES = [
    (Input(6, 5, 2), ()),
    (Dense(4, "tanh", bias=True), (3,)),
    (Dense(4, "relu", bias=False), (3,)),
    (Conv2D(4, (3, 2), "tanh", bias=True), (6, 5, 2)),
    (Conv2D(3, 3, "sin", stride=(1, 2), padding="same", bias=False), (6, 5, 2)),
    (MaxPool2D(2), (6, 5, 2)),
    (AvgPool2D((3, 2), stride=1), (6, 5, 2)),
    (GlobalAvgPool2D(), (6, 5, 2)),
    (Flatten(), (6, 5, 2)),
    (Dropout(0.25), (6, 5, 2)),
    (BatchNorm("tanh", momentum=0.25), (6, 5, 2)),
    (BatchNorm(eps=0.001), (3,)),
    (Scale(), (3,)),
    (Input(steps=6, features=2), ()),
    (Flatten(), (6, 2)),
    (Conv1D(4, 3, "tanh", padding="causal", dilation=2, bias=True), (6, 2)),
    (Conv1D(4, 3, "relu", stride=2, padding=1, bias=False), (6, 2)),
    (MaxPool1D(2), (6, 2)),
    (AvgPool1D(3, stride=1), (6, 2)),
    (GlobalMaxPool1D(), (6, 2)),
    (GlobalAvgPool1D(), (6, 2)),
    (SimpleRNN(4, "relu", go_backwards=True, bias=True), (6, 5)),
    (GRU(4, return_sequences=True, bias=True), (6, 5)),
    (Bidirectional(LSTM(4, bias=False)), (6, 5)),
]


def layers_with(kind: Layer, input_shape: Shape) -> list[Any]:
    """Return the layers of a network with this layer and two outputs."""
    is_sequence = len(input_shape) == 2
    inputs = Input(steps=input_shape[0], features=input_shape[1]) if is_sequence else Input(*input_shape)
    # BatchNorm cannot follow Input, and other packages read a layer with one factor per column there as a scaling.
    previous_layers = [Dense(3) if len(input_shape) == 1 else Conv2D(2, 1)] if kind.columnwise else []
    return [inputs, *previous_layers, kind, *[Flatten()] * (len(kind.output_shape(input_shape)) == 2), 2]
