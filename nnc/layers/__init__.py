"""Layer objects without weights, from which networks are built.

from nnc.layers import Dense, Dropout, Input
net = NeuralNetwork([Input(3), Dense(4, "tanh"), Dropout(0.2), Dense(1)])
net = NeuralNetwork([3, Dense(4, "tanh"), Dropout(0.2), 1])  # the same
net = NeuralNetwork([Input(28, 28, 1), Conv2D(8, 3, "relu"), MaxPool2D(2), Flatten(), 10], loss="cross_entropy")
net = NeuralNetwork([Input(steps=64, features=2), Conv1D(8, 5, "relu"), GlobalAvgPool1D(), 10], loss="cross_entropy")
net = NeuralNetwork([3, Dense(8, "identity"), BatchNorm("relu"), 1])
net = NeuralNetwork([3, Scale(lr_factor=6), 8, 1])
net = NeuralNetwork([Input(steps=64, features=32), GRU(64), 1])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc.layers.dense import Dense
from nnc.layers.shape import Dropout, Input

if TYPE_CHECKING:
    from nnc.layers.base import Layer
    from nnc.layers.image import AvgPool2D, Conv2D, Flatten, GlobalAvgPool2D, MaxPool2D
    from nnc.layers.norm import BatchNorm
    from nnc.layers.recipes import small_images
    from nnc.layers.recurrent import GRU, LSTM, Bidirectional, SimpleRNN
    from nnc.layers.scale import Scale
    from nnc.layers.sequence import AvgPool1D, Conv1D, GlobalAvgPool1D, GlobalMaxPool1D, MaxPool1D

_HOME = {
    **dict.fromkeys(("AvgPool2D", "Conv2D", "Flatten", "GlobalAvgPool2D", "MaxPool2D"), "image"),
    **dict.fromkeys(("AvgPool1D", "Conv1D", "GlobalAvgPool1D", "GlobalMaxPool1D", "MaxPool1D"), "sequence"),
    "BatchNorm": "norm",
    **dict.fromkeys(("Bidirectional", "GRU", "LSTM", "SimpleRNN"), "recurrent"),
    "Scale": "scale",
    "small_images": "recipes",
}  # module in nnc/layers for each class that is imported on first use
__all__ = [
    "GRU", "LSTM", "AvgPool1D", "AvgPool2D", "BatchNorm", "Bidirectional", "Conv1D", "Conv2D", "Dense", "Dropout",
    "Flatten", "GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalMaxPool1D", "Input", "MaxPool1D", "MaxPool2D", "Scale",
    "SimpleRNN", "small_images",
]  # fmt: skip

KINDS = (
    "dense",
    "conv2d",
    "max_pool2d",
    "avg_pool2d",
    "flatten",
    "input",
    "batch_norm",
    "scale",
    "recurrent",
)  # layer types of the engine, in the order of src/layers/layer.pxd
CELLS = ("simple_rnn", "gru", "lstm", "dense")  # cells of recurrent layers, in the order of src/layers/layer.pxd


def layer_classes_by_type() -> dict[str, type[Layer]]:
    """Return the layer classes, keyed by their `type` in model files."""
    from nnc.layers.image import AvgPool2D, Conv2D, Flatten, GlobalAvgPool2D, MaxPool2D
    from nnc.layers.norm import BatchNorm
    from nnc.layers.recurrent import GRU, LSTM, SimpleRNN
    from nnc.layers.scale import Scale
    from nnc.layers.sequence import AvgPool1D, Conv1D, GlobalAvgPool1D, GlobalMaxPool1D, MaxPool1D

    images = (Conv2D, MaxPool2D, AvgPool2D, GlobalAvgPool2D)
    sequences = (Conv1D, MaxPool1D, AvgPool1D, GlobalAvgPool1D, GlobalMaxPool1D, SimpleRNN, GRU, LSTM)
    classes = (Input, Dense, Dropout, *images, Flatten, BatchNorm, Scale, *sequences)
    return {layer_class.type: layer_class for layer_class in classes}


if not TYPE_CHECKING:  # the classes in _HOME are imported on first use, because few networks need them

    def __getattr__(name: str) -> object:
        if name not in __all__:
            from nnc._utils.names import unknown_name_error

            raise unknown_name_error("nnc.layers", name, __all__)
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"nnc.layers.{_HOME[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
