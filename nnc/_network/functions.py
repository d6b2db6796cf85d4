"""Functions of a network that are called less often than its methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._network import NeuralNetwork

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nnc._inspection.gradients import GradientCheck


def input_gradients(net: NeuralNetwork, X: ArrayLike, y: Any) -> NDArray[Any]:
    """Compute the derivative of the loss with respect to the inputs, d loss / d X.

    A BatchNorm uses its running statistics, as in `NeuralNetwork.evaluate_loss`.

    Parameters
    ----------
    net : NeuralNetwork
    X : array (n, n_in)
    y : array (n, n_out), or (n,)
        As in `NeuralNetwork.evaluate_loss`.

    Returns
    -------
    array (n, n_in), of images in the shape of X

    Raises
    ------
    ValueError, TypeError
        `net` is not a NeuralNetwork, or X or y does not fit the network.
    """
    checked_network(net)
    data = net.converter.data(X, y)
    by_inputs = np.empty(data.X.shape, net.dtype)
    net.model.gradient(data, net.model.zeros(), by_inputs)
    return net.converter.input_gradient(by_inputs, X)


def check_gradients(net: NeuralNetwork, X: ArrayLike, y: Any, eps: float | None = None) -> GradientCheck:
    """Compare the gradients of backpropagation with definitions and differences, in float64.

    Each gradient is compared with the derivative by the definition, and with central differences of the loss where
    these are exact enough. If the loss is a function, its derivative is compared with differences of it. An error of
    1e-5 in one gradient is found, in a float32 network 1e-2. Where rounding or a bend hides an error, the check says so
    (see `nnc._inspection.gradients.check_gradients`).

    Parameters
    ----------
    net : NeuralNetwork
    X, y : arrays
        As in `NeuralNetwork.evaluate_loss`.
    eps : float, optional
        The largest difference of a parameter; by default 0.01. It is made smaller until the slope is exact enough.

    Returns
    -------
    GradientCheck
        The verdict. It is printed, except in notebooks, which show the value of a cell. `ok` is True if something in
        every layer could be compared and nothing is wrong.

    Raises
    ------
    ValueError, TypeError
        `net` is not a NeuralNetwork, or an argument does not fit.
    """
    from nnc._inspection.functions import check_network

    checked_network(net)
    return check_network(net, X, y, eps)


def checked_network(net: Any) -> None:
    """Raise TypeError unless `net` is a network."""
    if not isinstance(net, NeuralNetwork):
        raise TypeError(f"net must be a NeuralNetwork, got {type(net).__name__}")
