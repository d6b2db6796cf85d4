"""Kinds of layers, as objects without weights: what a network is made of.

from nnc.layers import Dense, Dropout, Input
net = NeuralNetwork([Input(3), Dense(4, "tanh"), Dropout(0.2), Dense(1)])
net = NeuralNetwork([3, Dense(4, "tanh"), Dropout(0.2), 1])  # the same
"""

from nnc.layers.dense import Dense
from nnc.layers.shape import Dropout, Input

__all__ = ["Dense", "Dropout", "Input"]

KINDS = {kind.type: kind for kind in (Dense,)}  # those that files have as layers: all that compute
