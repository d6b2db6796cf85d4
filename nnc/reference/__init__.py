"""The network of the tutorials in plain Python: a slow and readable reference for the compiled engine.

Read layers.py first: activations, a dense layer, its forward pass and its backward pass by the chain rule. Then read
network.py: losses, the forward and backward pass through all layers, the update and the training loop.

- images.py: layers for images; a convolution is a dense layer that is applied to every window of an image
- sequences.py: convolutions and pools of sequences
- recurrent.py: recurrent layers, with backpropagation through time
- norm.py, scale.py: batch normalization, and a learned factor for each column
- build.py, random.py: weight initialization and random numbers
- checks.py: checks of arguments

Names are those of the engine. X has n rows of inputs, y has n rows of targets and P has n rows of predictions. In a
layer, W[i][j] is the weight of input i for neuron j, b[j] is the bias of neuron j, Z = A_in W + b is the net input and
A_out = f(Z) is the output. L is the loss. dW is dL/dW, the derivative of L with respect to each weight.
"""

from nnc._inspection.text import inspect_text, layer_text
from nnc.reference.build import build_layers
from nnc.reference.images import AvgPool2D, Conv2D, Flatten, MaxPool2D
from nnc.reference.layers import ACTIVATIONS, Dense, sigmoid
from nnc.reference.network import LOSSES, History, NeuralNetwork
from nnc.reference.norm import BatchNorm
from nnc.reference.random import INITIALIZERS, Stream, mix
from nnc.reference.recurrent import GRU, LSTM, SimpleRNN
from nnc.reference.scale import Scale
from nnc.reference.sequences import AvgPool1D, Conv1D, MaxPool1D

__all__ = [
    "ACTIVATIONS",
    "GRU",
    "INITIALIZERS",
    "LOSSES",
    "LSTM",
    "AvgPool1D",
    "AvgPool2D",
    "BatchNorm",
    "Conv1D",
    "Conv2D",
    "Dense",
    "Flatten",
    "History",
    "MaxPool1D",
    "MaxPool2D",
    "NeuralNetwork",
    "Scale",
    "SimpleRNN",
    "Stream",
    "build_layers",
    "inspect_text",
    "layer_text",
    "mix",
    "sigmoid",
]
