"""What the estimators need of a network beyond what users need of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.model import fill

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._network import NeuralNetwork


def is_of(model: Model, weights: Any, biases: Any) -> bool:
    """Whether these are the views of its own weights and biases."""
    parts, own = [*weights, *biases], [*model.W, *model.b]
    return len(parts) == len(own) and all(a is b for a, b in zip(parts, own, strict=True))


def packed(model: Model, flat: NDArray[Any] | None = None) -> NDArray[Any]:
    """Its parameters, or what has their layout, in scikit-learn's order: all weights, then all biases."""
    W, b = (model.W, model.b) if flat is None else model.views(flat)
    return np.concatenate([part.ravel() for part in (*W, *b) if part is not None])


def unpack(model: Model, parameters: NDArray[Any]) -> None:
    """Takes parameters in scikit-learn's order."""
    fill([part for part in (*model.W, *model.b) if part is not None], parameters)


def loss_and_gradient(model: Model, data: Data) -> tuple[float, NDArray[Any]]:
    """The loss of all rows, and its gradient in scikit-learn's order."""
    flat = model.zeros()
    return model.gradient(data, flat), packed(model, flat)


def go_on_from(net: NeuralNetwork, old: NeuralNetwork) -> None:
    """Gives a network what another one goes on from: its random numbers, and its optimizer where that fits."""
    net.streams = old.streams
    if old.sizes == net.sizes and old.dtype == net.dtype:
        net.state = old.state
