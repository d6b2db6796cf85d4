"""Comparison of an imported network with the original model of another package, on random rows."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry import activations

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

N_STEPS = 5  # number of steps of random sequences if a network accepts any number of steps
N_ROWS = 4  # number of random rows on which outputs are compared
TOLERANCES = {"float32": 1e-5, "float64": 1e-10}  # allowed difference of outputs, relative to the largest output


def random_rows(network: Any) -> Array:
    """Draw random rows of raw inputs whose scaled values have a standard normal distribution.

    The random generator has a fixed seed. The global random states of NumPy and of other packages are not used.

    Returns
    -------
    array (N_ROWS, n_in), (N_ROWS, steps, features) or (N_ROWS, height, width, channels)
        Random rows in the dtype of the network.
    """
    shape, n_steps = network.model.input_shape, N_STEPS if network.model.stack.input.any_steps else 1
    X = np.random.default_rng(0).standard_normal((N_ROWS * n_steps, prod(shape)))
    if network.converter.scaling_X is not None:
        X = X / network.converter.scaling_X.factor + network.converter.scaling_X.shift
    return X.reshape(N_ROWS, n_steps * shape[0], *shape[1:]).astype(network.dtype)


def check_outputs(network: Any, X: Array, outputs: Array, added_output: str | None, original: str) -> None:
    """Compare the predictions of an imported network with the outputs of the original model for the same rows.

    If float32 predictions differ too much, they are computed again in float64, so that only the original model has
    rounding errors.

    Parameters
    ----------
    network : NeuralNetwork
        Imported network.
    X : array
        Rows from `random_rows`.
    outputs : array (n_rows, n_out)
        Outputs of the original model for these rows.
    added_output : str, optional
        Output activation of the network that the original model lacks.
    original : str
        Name of the original model in messages.

    Raises
    ------
    ValueError
        The outputs differ by more than the tolerance of the less precise dtype.
    """
    tolerance = max(TOLERANCES[dtype.name] for dtype in (network.dtype, outputs.dtype))
    P = network.predict(X)
    if outputs.shape != P.shape:
        raise ValueError(
            _message(original, f"output shapes differ: {outputs.shape[1:]} in {original}, {P.shape[1:]} in the network")
        )
    if added_output is not None:
        with np.errstate(all="ignore"):
            outputs = activations.ROWS[added_output].compute(outputs)
    finite = np.isfinite(outputs)
    size = float(np.abs(outputs).max(where=finite, initial=0.0))
    if activations.ROWS[network.activations[-1]].probability:
        size = 1.0  # use an absolute tolerance, because relative errors of probabilities near 0 are large
    difference = _difference(P, outputs, finite)
    if not difference <= tolerance * size and network.dtype == np.float32:
        difference = _difference(network.astype(np.float64).predict(X), outputs, finite)
    if not difference <= tolerance * size:
        raise ValueError(
            _message(
                original,
                f"the outputs of the network and of {original} differ by up to {difference:.3g} for {N_ROWS} random "
                f"rows, expected at most {tolerance:g} times {size:.3g}, the size of the outputs",
            )
        )


def _difference(P: Array, outputs: Array, finite: Array) -> float:
    """Return the largest absolute difference of two arrays where `finite` is True.

    Return infinity if the arrays differ elsewhere, where the original output is NaN or infinite.
    """
    if not np.array_equal(P[~finite], outputs[~finite], equal_nan=True):
        return np.inf
    with np.errstate(all="ignore"):
        return float(np.abs(P - outputs).max(where=finite, initial=0.0))


def _message(original: str, problem: str) -> str:
    """Return the error message for a failed comparison of a network with its original model."""
    return (
        f"the network does not compute what {original} computes: {problem}; "
        "please report this with the model, or pass verify=False to skip the comparison"
    )
