"""The network of the tutorials, in plain Python: slow, obvious, and what the compiled engine is measured by.

Read layers.py first, from top to bottom: activations, a layer, its forward pass and its backward pass (the chain
rule). Then network.py: the losses, the way through all layers and back, the update and the training loop. images.py has
the layers of images (a convolution is the dense layer, at every window of an image), norm.py batch normalization,
scale.py a scale of the columns, first.py and random.py the numbers that a network starts from, checks.py the checks of
what a user gives.

The names are those of the engine. X holds n rows of inputs, y the n rows of targets, P the predictions. In a
layer, W[i][j] weighs input i for neuron j, b[j] is the bias of neuron j, Z = A_in W + b the net input, and
A_out = f(Z) the output. L is the loss, and dW is short for dL/dW: how much L changes per unit of each weight.
"""

from nnc._inspection.text import inspect_text, layer_text
from nnc.reference.first import first_layers
from nnc.reference.images import AvgPool2D, Conv2D, Flatten, MaxPool2D
from nnc.reference.layers import ACTIVATIONS, Dense, sigmoid
from nnc.reference.network import LOSSES, History, NeuralNetwork
from nnc.reference.norm import BatchNorm
from nnc.reference.random import INITIALIZERS, Stream, mix
from nnc.reference.scale import Scale

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "LOSSES",
    "AvgPool2D",
    "BatchNorm",
    "Conv2D",
    "Dense",
    "Flatten",
    "History",
    "MaxPool2D",
    "NeuralNetwork",
    "Scale",
    "Stream",
    "first_layers",
    "inspect_text",
    "layer_text",
    "mix",
    "sigmoid",
]
