"""Calibration of prediction intervals whose width depends on a predicted spread, the magnitude of the error.

The half-width of an interval is q s(x). s(x) is the predicted magnitude of the error at x, and q is a quantile of
|y - prediction| / s(x) over held-out rows (Lei et al., 2018, section 5.2). s and q are determined from different rows,
so the coverage does not depend on the accuracy of s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._data.folds import Folds, rank_groups
from nnc._network import NeuralNetwork
from nnc._parallel.fit import train_networks
from nnc._parallel.members import Members
from nnc._parallel.per_network import PerNetwork
from nnc._parallel.source import ValidationRows
from nnc._registry.optimizers import Adam
from nnc._training.schedules import CosineLR
from nnc.layers import Dense, Input

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nnc._data.scaling import Scaling

MIN_SPREAD_ROWS = 120  # with fewer held-out rows, all intervals have the same width
MAX_FIT_ROWS = 2000  # maximum number of held-out rows on which the N_NETWORKS networks are trained
MAX_CALIBRATION_ROWS = 2000  # maximum number of nonconformity scores that calibrate intervals
N_NETWORKS = 4  # number of networks that predict error magnitudes; each is validated on a different quarter of the rows
HIDDEN_UNITS, EPOCHS, BATCH_ROWS = 32, 30, 32  # number of hidden units, epochs and rows per mini-batch
LEARNING_RATE = 0.01
MIN_RELATIVE_SPREAD = 0.2  # minimum predicted error magnitude, as a fraction of the mean absolute error


class Spread(NamedTuple):
    """Small networks that predict the magnitude of the error of a table model; their outputs are averaged.

    Attributes
    ----------
    networks : Members
        Networks whose inputs are encoded columns and scaled predictions, and whose outputs are errors divided by
        `unit`.
    unit : array (n_targets,)
        Mean absolute error on the rows from which the networks have learned.
    limits : array (2, n_targets)
        Smallest and largest mean output for these rows, to which mean outputs for other rows are clipped.
    """

    networks: Members
    unit: NDArray[np.float64]
    limits: NDArray[np.float64]

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the predicted magnitude of the errors (n, n_targets) for inputs from `spread_inputs`."""
        outputs = self.networks.mean(lambda network: network.predict(inputs), np.float64)
        return np.asarray(self.unit * np.clip(outputs, *self.limits))


def spread_inputs(
    encoded: NDArray[np.float32], predictions: NDArray[np.float64], scaling: Scaling
) -> NDArray[np.float32]:
    """Return the inputs of the networks of a Spread: the encoded columns, and asinh of the scaled predictions."""
    return np.hstack([encoded, np.arcsinh(scaling.apply(predictions), dtype=np.float32, casting="same_kind")])


def calibrate(
    errors: NDArray[np.float64],
    inputs: Callable[[NDArray[np.intp]], NDArray[np.float32]] | None,
    weights: NDArray[np.float64] | None,
    group: NDArray[np.intp],
    seed: int,
) -> tuple[Spread | None, NDArray[np.float64]]:
    """Fit a Spread on half of the held-out rows, and compute nonconformity scores from the other half.

    Parameters
    ----------
    errors : array (n, n_targets)
        Nonconformity scores of all held-out rows, not divided by a spread.
    inputs : callable or None
        Function that returns the inputs of the networks of a Spread for an array of indices of held-out rows. None: no
        Spread is fitted.
    weights : array (n,), optional
        Sample weights for the fit of the Spread. Scores are not weighted, so the coverage counts each row once.
    group : int array (n,)
        Group of each held-out row; the Spread is not fitted on rows of a group whose scores calibrate it.
    seed : int
        Seed of the random order of the rows and of the networks of the Spread.

    Returns
    -------
    spread : Spread or None
        None if `inputs` is None, if there are fewer than MIN_SPREAD_ROWS groups, or if the fit failed.
    scores : array (rows, n_targets)
        If a Spread was fitted, the errors of the other half of the rows, divided by the predicted spread. Otherwise the
        errors of all rows. At most MAX_CALIBRATION_ROWS rows are used.
    """
    order = np.random.default_rng([seed, 3]).permutation(len(errors))
    rank = rank_groups(group[order])
    n_groups = int(rank.max()) + 1
    if inputs is not None and n_groups >= MIN_SPREAD_ROWS:
        fits = rank < min(n_groups // 2, MAX_FIT_ROWS)
        fit_rows, calibration_rows = order[fits][:MAX_FIT_ROWS], order[~fits][:MAX_CALIBRATION_ROWS]
        folds = Folds.deal(np.arange(len(fit_rows)), N_NETWORKS, group[fit_rows])
        row_weights = None if weights is None else weights[fit_rows]
        spread = fit_spread(inputs(fit_rows), errors[fit_rows], row_weights, folds, seed)
        if spread is not None:
            return spread, errors[calibration_rows] / spread.predict(inputs(calibration_rows))
    return None, errors[order[:MAX_CALIBRATION_ROWS]]


def fit_spread(
    inputs: NDArray[np.float32],
    errors: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    folds: Folds,
    seed: int,
) -> Spread | None:
    """Train networks to predict the absolute errors of held-out rows.

    Parameters
    ----------
    inputs : array (n, n_in)
        Inputs of the networks, from `spread_inputs`.
    errors : array (n, n_targets)
        Absolute errors.
    weights : array (n,), optional
        Sample weights.
    folds : Folds
        N_NETWORKS folds of these rows; each network is validated on one fold.
    seed : int
        Seed of the initial weights and of the order of the rows.

    Returns
    -------
    Spread or None
        None if an error is not finite, or if the training of all networks diverged.
    """
    largest = errors.max(axis=0)
    if not np.isfinite(largest).all():
        return None
    largest[largest == 0] = 1
    relative = errors / largest  # divide each error first, because the sum of errors may overflow
    mean = relative.mean(axis=0)
    mean[mean == 0] = 1
    n_targets = errors.shape[1]
    seeds = np.random.default_rng([seed, 4]).integers(2**31, size=N_NETWORKS).tolist()
    networks = [
        NeuralNetwork(
            [Input(inputs.shape[1]), HIDDEN_UNITS, Dense(n_targets, init="zeros")],
            activation="silu",
            loss="poisson",
            dtype="float32",
            seed=seed,
        )
        for seed in seeds
    ]
    rows, held_out = zip(*folds.pairs(), strict=True)
    options: dict[str, Any] = {
        "epochs": EPOCHS,
        "batch_size": BATCH_ROWS,
        "optimizer": Adam(),
        "lr": CosineLR(LEARNING_RATE),
        "validation": PerNetwork(map(ValidationRows, held_out)),
        "sample_weight": weights,
        "restore_best": True,
    }
    outcomes = train_networks(networks, inputs, (relative / mean).astype(np.float32), rows, options, 1)
    trained = Members(net for net, outcome in zip(networks, outcomes, strict=True) if outcome.error is None)
    if not trained:
        return None
    outputs = trained.mean(lambda network: network.predict(inputs), np.float64)
    limits = np.maximum(np.stack([outputs.min(axis=0), outputs.max(axis=0)]), MIN_RELATIVE_SPREAD)
    return Spread(trained, mean * largest, limits)
