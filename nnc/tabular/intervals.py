"""Prediction intervals of tables: their calibration, and a spread that says where they are wide.

The half-width of an interval is q s(x), where s(x) is the predicted size of the error at x and q is the quantile of
|y - prediction| / s(x) over held-out rows (Lei et al., 2018, section 5.2). The rows that s was fitted on and the rows
that q is computed from are disjoint, so the coverage does not depend on how good s is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._network import NeuralNetwork
from nnc._parallel.fit import outcomes_of
from nnc._parallel.per_network import PerNetwork
from nnc._parallel.source import Apart
from nnc._registry.optimizers import Adam
from nnc._training.schedules import CosineLR
from nnc.layers import Dense, Input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from nnc._data.scaling import Scaling

MIN_ROWS = 120  # held-out rows below which all intervals have one width
MAX_FIT_ROWS = 2000  # held-out rows that a spread is fitted on
MAX_CALIBRATION_ROWS = 2000  # held-out rows that quantiles are computed from
NETWORKS, WIDTH, EPOCHS, BATCH = 4, 32, 30, 32  # of a spread; each network validates on another quarter of the rows
LEARNING_RATE = 0.01
FLOOR = 0.2  # of the mean error: the smallest spread


class Spread(NamedTuple):
    """The predicted size of errors, as the mean of small networks.

    Attributes
    ----------
    networks : tuple of NeuralNetwork
        Their inputs are the encoded columns and the scaled predictions; their outputs are errors divided by `unit`.
    unit : array (n_targets,)
        Mean absolute error of the rows of the fit.
    limits : array (2, n_targets)
        The smallest and the largest mean output; outputs for other rows are clipped to this range.
    """

    networks: tuple[NeuralNetwork, ...]
    unit: NDArray[np.float64]
    limits: NDArray[np.float64]

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the sizes of errors (n, n_targets), above 0, for what `inputs_of` returned."""
        return self.unit * np.clip(mean_output(self.networks, inputs), *self.limits)


def mean_output(networks: Sequence[NeuralNetwork], inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean output of networks for some rows."""
    mean: NDArray[np.float64] = np.mean([network.predict(inputs) for network in networks], axis=0, dtype=np.float64)
    return mean


def inputs_of(encoded: NDArray[np.float32], answers: NDArray[np.float64], scaling: Scaling) -> NDArray[np.float32]:
    """Return the inputs of a spread: encoded columns, and scaled predictions, which asinh compresses."""
    return np.hstack([encoded, np.arcsinh(scaling.apply(answers), dtype=np.float32, casting="same_kind")])


def calibrate(
    errors: NDArray[np.float64],
    inputs: Callable[[NDArray[np.intp]], NDArray[np.float32]] | None,
    weights: NDArray[np.float64] | None,
    seed: int,
) -> tuple[Spread | None, NDArray[np.float64]]:
    """Fit a spread on one half of the held-out rows and compute the scores of the other half.

    Parameters
    ----------
    errors : array (n, n_targets)
        Nonconformity scores of all held-out rows.
    inputs : callable or None
        Returns the inputs of a spread for the held-out rows with these indices. None: no spread is fitted.
    weights : array (n,), optional
        Sample weights, for the fit of the spread. Scores are not weighted: the coverage counts every row once.
    seed : int

    Returns
    -------
    spread : Spread or None
        None without `inputs`, with fewer than MIN_ROWS rows, or where the fit failed.
    scores : array (rows, n_targets)
        Errors divided by the spread, of rows that it was not fitted on; without a spread the errors of any rows.
    """
    n = len(errors)
    order = np.random.default_rng([seed, 3]).permutation(n)
    if inputs is not None and n >= MIN_ROWS:
        fit = order[: min(n // 2, MAX_FIT_ROWS)]
        rest = order[len(fit) :][:MAX_CALIBRATION_ROWS]
        spread = fit_spread(inputs(fit), errors[fit], None if weights is None else weights[fit], seed)
        if spread is not None:
            return spread, errors[rest] / spread.predict(inputs(rest))
    return None, errors[order[:MAX_CALIBRATION_ROWS]]


def fit_spread(
    inputs: NDArray[np.float32], errors: NDArray[np.float64], weights: NDArray[np.float64] | None, seed: int
) -> Spread | None:
    """Fit a spread to the absolute errors of held-out rows.

    Parameters
    ----------
    inputs : array (n, n_in)
        From `inputs_of`.
    errors : array (n, n_targets)
        0 or more.
    weights : array (n,), optional
        Sample weights.
    seed : int

    Returns
    -------
    Spread or None
        None where errors are not finite or the training of all networks diverged.
    """
    largest = errors.max(axis=0)
    if not np.isfinite(largest).all():
        return None
    largest[largest == 0] = 1
    relative = errors / largest  # sums of the errors themselves may overflow
    mean = relative.mean(axis=0)
    mean[mean == 0] = 1
    n_targets = errors.shape[1]
    seeds = np.random.default_rng([seed, 4]).integers(2**31, size=NETWORKS).tolist()
    networks = [
        NeuralNetwork(
            [Input(inputs.shape[1]), WIDTH, Dense(n_targets, init="zeros")],
            activation="silu",
            loss="poisson",
            dtype="float32",
            seed=seed,
        )
        for seed in seeds
    ]
    options: dict[str, Any] = {
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "optimizer": Adam(),
        "lr": CosineLR(LEARNING_RATE),
        "validation": PerNetwork(Apart(np.arange(i, len(inputs), NETWORKS)) for i in range(NETWORKS)),
        "sample_weight": weights,
        "restore_best": True,
    }
    rows = [np.flatnonzero(np.arange(len(inputs)) % NETWORKS != i) for i in range(NETWORKS)]
    outcomes = outcomes_of(networks, inputs, (relative / mean).astype(np.float32), rows, options, 1)
    trained = tuple(net for net, outcome in zip(networks, outcomes, strict=True) if outcome.error is None)
    if not trained:
        return None
    outputs = mean_output(trained, inputs)
    limits = np.maximum(np.stack([outputs.min(axis=0), outputs.max(axis=0)]), FLOOR)
    return Spread(trained, mean * largest, limits)
