"""What the estimators need of a network beyond what users need of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.arrays import aligned_zeros, not_finite
from nnc.exchange.scikit_learn import parts_of
from nnc.network import NeuralNetwork

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc.optimizers import Optimizer
    from nnc.training import Data, State


def network_of(mlp: Any, dtype: Any = None) -> NeuralNetwork:
    """A network with the weights of a trained MLP: see `nnc.exchange.scikit_learn.parts_of`."""
    return NeuralNetwork._from_parts(parts_of(mlp, dtype))


def views(net: NeuralNetwork) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Its weights and biases, which change with the network."""
    return list(net._W), list(net._b)


def is_of(net: NeuralNetwork, weights: Any, biases: Any) -> bool:
    """Whether these are the views of its own weights and biases."""
    parts, own = [*weights, *biases], [*net._W, *net._b]
    return len(parts) == len(own) and all(a is b for a, b in zip(parts, own, strict=True))


def packed(net: NeuralNetwork) -> NDArray[Any]:
    """Its parameters in scikit-learn's order: all weights, then all biases."""
    return np.concatenate([part.ravel() for part in (*net._W, *net._b)])


def unpack(net: NeuralNetwork, parameters: NDArray[Any]) -> None:
    """Takes parameters in scikit-learn's order."""
    net._fill([*net._W, *net._b], parameters)


def go_on_from(net: NeuralNetwork, old: NeuralNetwork) -> None:
    """Gives a network what another one goes on from: its random numbers, and its optimizer where that fits."""
    net._seed, net._draws, net._drops = old._seed, old._draws, old._drops
    if old.sizes == net.sizes and old.dtype == net.dtype:
        net._state = old._state


def reseed(net: NeuralNetwork, seed: int) -> None:
    """Where its random numbers begin from here on."""
    net._seed = seed


def dropout_settings(net: NeuralNetwork, dropout: Any) -> dict[str, Any]:
    """What the engine takes where outputs are dropped."""
    return {"dropout": net._checked_dropout(dropout), "drop_key": net._key(2)}


def state_of(net: NeuralNetwork) -> State | None:
    """What its training goes on from; None before it begins."""
    return net._state


def begin(net: NeuralNetwork, optimizer: Optimizer, schedule: Any, epochs: int) -> State:
    """A state for a training that begins."""
    return net._begin(optimizer, schedule, epochs)


def keep(net: NeuralNetwork, state: State) -> None:
    """Takes a state to go on from."""
    net._state = state


def predict(net: NeuralNetwork, rows: NDArray[Any], out: NDArray[Any]) -> None:
    """Writes the outputs of rows of the network's dtype; ValueError where an input is not finite."""
    position = net._engine.predict(net._theta, rows, out)
    if position >= 0:
        raise not_finite("X", rows, position)


def loss_of(net: NeuralNetwork, data: Data) -> float:
    """The loss of all rows."""
    evaluation = net._core.Evaluation(net._engine, net._theta, *data, None, 1)
    evaluation.work(0, sys.maxsize)
    return float(evaluation.loss)


def loss_and_gradient(net: NeuralNetwork, data: Data) -> tuple[float, NDArray[Any]]:
    """The loss of all rows, and its gradient in scikit-learn's order."""
    flat = aligned_zeros(net._engine.size, net.dtype)
    loss = net._engine.gradient(net._theta, *data, flat)
    dW, db = net._views(flat)
    return loss, np.concatenate([part.ravel() for part in (*dW, *db)])
