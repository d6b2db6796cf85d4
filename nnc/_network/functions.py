"""Functions for networks that are used less often than the methods: gradients and the conversion to Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.sequences import Sequences
from nnc._data.slopes import as_slopes
from nnc._model.data import Data
from nnc._model.slopes import model_with_slopes
from nnc._network import NeuralNetwork
from nnc._registry.capabilities import check
from nnc._utils.checks import check_not_negative

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nnc._inspection.gradients import GradientCheck


def input_gradients(net: NeuralNetwork, X: ArrayLike, y: Any, *, lengths: ArrayLike | None = None) -> NDArray[Any]:
    """Compute the derivatives of the loss with respect to the inputs, d loss / d X.

    BatchNorm layers use their running statistics, as in `NeuralNetwork.evaluate_loss`.

    Parameters
    ----------
    net : NeuralNetwork
    X, y, lengths : arrays
        Rows as in `NeuralNetwork.evaluate_loss`.

    Returns
    -------
    array (n, n_in)
        Derivatives with respect to raw inputs; for images and sequences in the shape of X, with zeros beyond the
        lengths. A list of arrays if X is one.

    Raises
    ------
    ValueError, TypeError
        `net` is not a NeuralNetwork, or X or y does not fit the network.
    """
    check_is_network(net)
    converter, X = net.converter.bind(X, lengths)
    data = converter.data(X, y)
    gradient = np.empty(data.X.shape, net.dtype)
    converter.model.gradient(data, net.model.zeros(), gradient)
    if isinstance(X, Sequences):
        shape = (len(X), *converter.model.input_shape)
        return X.restore(converter.input_gradient(gradient, np.empty(shape)))  # type: ignore[return-value]
    return converter.input_gradient(gradient, X)


def check_gradients(
    net: NeuralNetwork,
    X: ArrayLike,
    y: Any,
    eps: float | None = None,
    *,
    lengths: ArrayLike | None = None,
    dY: ArrayLike | None = None,
    dY_weight: float = 1.0,
) -> GradientCheck:
    """Verify the gradients of backpropagation by other methods, in float64.

    Each gradient is compared with an analytic formula of the derivative, and with central differences of the loss if
    these are accurate enough. The derivative that a custom loss function returns is compared with central differences
    of this function.
    The check detects a relative error of 1e-5 in one gradient, or 1e-2 for a float32 network. It reports gradients
    whose errors could be hidden by rounding or by a kink of an activation (see
    `nnc._inspection.gradients.check_gradients`).

    Parameters
    ----------
    net : NeuralNetwork
    X, y : arrays
        Rows as in `NeuralNetwork.evaluate_loss`.
    eps : float, optional
        Largest step size of the central differences. It is decreased until they are accurate enough. Default: 0.01.
    lengths : int array (n,), optional
        Number of steps of each sequence, as in `NeuralNetwork.evaluate_loss`.
    dY, dY_weight
        Derivatives of the targets, as in `NeuralNetwork.fit`. The gradients of this loss are only compared with central
        differences.

    Returns
    -------
    GradientCheck
        The result, which is also printed, except in notebooks, which show the value of a cell. `ok` is True if no error
        was found and some gradients of each layer could be compared.

    Raises
    ------
    ValueError, TypeError
        `net` is not a NeuralNetwork, or an argument is invalid.
    """
    from nnc._inspection.functions import check_network

    check_is_network(net)
    converter, X = net.converter.bind(X, lengths, trims=True)
    if dY is not None:
        return _check_slope_gradients(net, X, y, dY, check_not_negative("dY_weight", dY_weight), eps)
    return check_network(net._bound_copy(converter), X, y, eps)


def _check_slope_gradients(
    net: NeuralNetwork, X: ArrayLike, y: Any, dY: ArrayLike, weight: float, eps: float | None
) -> GradientCheck:
    """Check the gradients of the loss of `fit(dY=)`."""
    from nnc._inspection.functions import check_slope_gradients
    from nnc._inspection.problem import Problem

    check("check_gradients with dY", net.model)
    model, values = model_with_slopes(net.model, weight), net.converter.data(X, y)
    data = net.converter.with_slopes(values, as_slopes(net.model, dY, values.n))
    assert data.dY is not None
    zeros = Data(data.X, np.zeros_like(data.Y), dY=np.where(np.isnan(data.dY), data.dY, 0))
    gradients, largest = (model.split(model.loss_and_gradient(rows)[1]) for rows in (data, zeros))
    problem = Problem(net, data.X, values.target)
    slopes = data.dY.astype(np.float64).reshape(values.n, net.sizes[-1], -1)
    return check_slope_gradients(problem, slopes, weight, gradients, largest, net.dtype, eps)


def to_keras(net: NeuralNetwork) -> Any:
    """Convert a network to a Sequential model of Keras 3, which returns the outputs of `predict`.

    The model takes raw rows of the network's dtype, with the shape that `predict` expects. Dropout is omitted. With
    JAX, Keras supports float64 only after `jax.config.update("jax_enable_x64", True)`.

    Parameters
    ----------
    net : NeuralNetwork

    Returns
    -------
    keras.Sequential

    Raises
    ------
    ImportError
        Keras is not installed.
    ModelFileError
        A parameter is NaN or infinite.
    TypeError, ValueError
        `net` is not a NeuralNetwork, or Keras does not support a layer.
    """
    from nnc._interop.keras_models import to_keras

    check_is_network(net)
    return to_keras(net._export_document("nnc.to_keras"))


def check_is_network(net: Any) -> None:
    """Raise TypeError if `net` is not a NeuralNetwork."""
    if not isinstance(net, NeuralNetwork):
        raise TypeError(f"net must be a NeuralNetwork, got {type(net).__name__}")
