"""The network of the tutorials, in plain Python: slow, obvious, and what the compiled engine is measured by.

Read layers.py first, from top to bottom: activations, a layer, its forward pass and its backward pass (the chain
rule). Then network.py: the losses, the way through all layers and back, the update and the training loop. random.py has
the random numbers that a network starts from, checks.py the checks of what a user gives.

The names are those of the engine. X holds n rows of inputs, y the n rows of targets, P the predictions. In a
layer, W[i][j] weighs input i for neuron j, b[j] is the bias of neuron j, Z = A_in W + b the net input, and
A_out = f(Z) the output. L is the loss, and dW is short for dL/dW: how much L changes per unit of each weight.
"""

from nnc.inspection.text import inspect_text, layer_text
from nnc.reference.layers import ACTIVATIONS, Dense, sigmoid
from nnc.reference.network import LOSSES, History, NeuralNetwork, first_layers
from nnc.reference.random import INITIALIZERS, Stream, mix

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "LOSSES",
    "Dense",
    "History",
    "NeuralNetwork",
    "Stream",
    "first_layers",
    "inspect_text",
    "layer_text",
    "mix",
    "sigmoid",
]
