"""Corrections of the statistical forecasts: a linear map and small networks that learn from windows of all series.

Each of these members maps the inputs of `Windows` to the errors of the statistical forecasts at all horizons. It has no
biases and is an odd function: a mirrored series gets a mirrored forecast, so a trend that all training series have in
common is not learned. Later windows, from which no member has learned, determine the weights of the members. The
weights are 0 if the members increase the error.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._model.cores import load_core
from nnc._network import NeuralNetwork
from nnc._parallel.fit import train_networks
from nnc._parallel.members import Members
from nnc._training.schedules import CosineLR
from nnc.forecast.statistics import is_clearly_lower
from nnc.layers import Dense, Input

if TYPE_CHECKING:
    from nnc.forecast.statistics import Floats
    from nnc.forecast.windows import Windows

N_NETWORKS = 4  # networks with different seeds, whose corrections are averaged
HIDDEN_UNITS, EPOCHS, BATCH_ROWS, LEARNING_RATE, WEIGHT_DECAY = 32, 10, 64, 0.002, 0.05
RIDGE = 0.1  # penalty of the linear map, relative to the mean square of the inputs
ERROR_SCALE = 1.0  # errors above this multiple of `Windows.scale` have less influence on the linear map (asinh)
MAX_ERROR = 20.0  # largest error from which the networks learn, as a multiple of `Windows.scale`
MIN_WINDOWS = 60  # smallest number of windows for training, and for validation; with fewer, there are no corrections
SHARES = 0.0, 0.25, 0.5, 0.75, 1.0  # weights that validation compares, for the linear map and for all networks together
PRIOR_WEIGHT = 0.25  # prior weight of the linear map, and of all networks together; averaged with the validated weight
NAIVE_SHARES = 0.5, 1.0  # weights of the seasonal naive forecast that validation compares with 0
MIN_GAIN = 0.003  # minimum relative change of the validation error for choosing a larger weight, or the weight 0


class Corrections(NamedTuple):
    """Weighted members that correct the statistical forecasts.

    Attributes
    ----------
    networks : Members
        The linear map, followed by the networks; empty if there are no corrections.
    weights : tuple of float
        Weight of each member.
    input_scale : array (width,)
        Divisor of the inputs.
    unit : array (horizon,)
        Factor of the outputs.
    """

    networks: Members
    weights: tuple[float, ...]
    input_scale: Floats
    unit: Floats

    def predict(self, inputs: Floats) -> Floats:
        """Return the corrections (windows, horizon) for inputs (windows, width), in units of `Windows.scale`."""
        total = np.zeros((len(inputs), len(self.unit)))
        if not self.networks or not len(inputs):
            return total
        scaled = (inputs / self.input_scale).astype(np.float32)
        # Members.mean would differ in the last bits: products of weights and outputs have float32, their sum float64.
        for network, weight in zip(self.networks, self.weights, strict=True):
            if weight:
                total += weight * network.predict(scaled)
        return total * self.unit


def no_corrections(width: int, horizon: int) -> Corrections:
    """Return Corrections without members, whose corrections are 0."""
    return Corrections(Members(), (), np.ones(width), np.ones(horizon))


def learn(inputs: Floats, errors: Floats, seed: int, n_jobs: int | None) -> Corrections:
    """Train all members on windows; in the result, the networks together have the same weight as the linear map."""
    scale = np.sqrt(np.mean(inputs**2, axis=0)) + 1e-9
    scaled = inputs / scale
    unit = np.sqrt(np.mean(np.clip(errors, -3, 3) ** 2, axis=0)) + 1e-9
    horizon = errors.shape[1]
    options: dict[str, Any] = {"bias": False, "dtype": "float32", "scale_X": None, "scale_y": None}
    linear = NeuralNetwork([Input(inputs.shape[1]), Dense(horizon, "identity")], seed=seed, **options)
    linear.weights[0][...] = solve_ridge(scaled, np.arcsinh(errors / ERROR_SCALE) * ERROR_SCALE) / unit
    networks = [
        NeuralNetwork(
            [Input(inputs.shape[1]), Dense(HIDDEN_UNITS, "tanh"), Dense(horizon, "identity", init="zeros")],
            loss="mae",
            seed=seed + i,
            **options,
        )
        for i in range(N_NETWORKS)
    ]
    targets = np.clip(errors, -MAX_ERROR, MAX_ERROR) / unit
    fit_options = {
        "epochs": EPOCHS,
        "batch_size": BATCH_ROWS,
        "optimizer": "adamw",
        "weight_decay": WEIGHT_DECAY,
        "lr": CosineLR(LEARNING_RATE),
    }
    train_networks(networks, scaled.astype(np.float32), targets.astype(np.float32), None, fit_options, n_jobs)
    return Corrections(Members((linear, *networks)), (0.5, *[0.5 / N_NETWORKS] * N_NETWORKS), scale, unit)


def solve(A: Floats, b: Floats) -> Floats:
    """Return the solution (k, columns) of A x = b for a positive definite matrix A (k, k), independent of a BLAS."""
    core = load_core(np.dtype(np.float64))
    k, columns = b.shape
    width = -(-k // core.LANES) * core.LANES
    factor, solution = np.zeros((width, width)), np.zeros((columns, width))
    factor[:k, :k], solution[:, :k] = A, b.T
    core.cholesky(factor, k)
    for row in solution:
        core.solve_cholesky(factor, row, k)
    return np.ascontiguousarray(solution[:, :k].T)


def solve_ridge(X: Floats, Y: Floats, penalty: float = RIDGE) -> Floats:
    """Return the coefficients (width, outputs) of a ridge regression without intercept of Y on X.

    The engine computes the products and the factorization, so the result does not depend on a BLAS library.
    """
    width, outputs = X.shape[1], Y.shape[1]
    core = load_core(np.dtype(np.float64))
    columns = -(-(width + outputs) // core.LANES) * core.LANES
    rows, sums = np.zeros((len(X), columns)), np.zeros((columns, columns))
    rows[:, :width], rows[:, width : width + outputs] = X, Y
    core.add_gram(rows, sums)
    sums /= len(X)
    return solve(sums[:width, :width] + penalty * np.eye(width), sums[:width, width : width + outputs])


def choose_naive_share(windows: Windows, errors: Floats) -> float:
    """Return the weight of the seasonal naive forecast in the statistical forecast, chosen on windows.

    A larger weight is chosen only if it clearly reduces the error, so usual series have the weight 0.

    Parameters
    ----------
    windows : Windows
        Windows with the weight 0.
    errors : array (windows, horizon)
        Errors of `Windows.base` for the windows; NaN if missing.
    """
    difference = (windows.naive - windows.base) / windows.scale
    best, best_errors = 0.0, np.minimum(np.abs(errors), MAX_ERROR)
    for share in NAIVE_SHARES:
        found = np.minimum(np.abs(errors - share * difference), MAX_ERROR)
        if is_clearly_lower(found, best_errors, windows.series, windows.origins):
            best, best_errors = share, found
    return best


def choose_weights(corrections: Corrections, inputs: Floats, errors: Floats) -> tuple[float, ...]:
    """Return weights of the members, chosen on windows that are later than all training windows.

    The weights are the means of PRIOR_WEIGHT and of the weights that minimize the mean absolute error. A larger sum of
    weights is chosen only if it reduces the error by MIN_GAIN. If the means increase the error by MIN_GAIN, all weights
    are 0.
    """
    n_networks = len(corrections.networks) - 1
    linear = corrections._replace(weights=(1.0, *[0.0] * n_networks)).predict(inputs)
    networks = corrections._replace(weights=(0.0, *[1 / n_networks] * n_networks)).predict(inputs)

    def remaining_error(pair: tuple[float, float]) -> float:
        remaining = np.minimum(np.abs(errors - pair[0] * linear - pair[1] * networks), MAX_ERROR)
        return float(np.nanmean(remaining))

    plain_error = best_error = remaining_error((0.0, 0.0))
    best = 0.0, 0.0
    for pair in sorted(product(SHARES, SHARES), key=lambda pair: (sum(pair), abs(pair[0] - pair[1]))):
        if 0 < sum(pair) <= 1:
            error = remaining_error(pair)
            if error < best_error * (1 - MIN_GAIN * (sum(pair) > sum(best))):
                best, best_error = pair, error
    shrunken = (best[0] + PRIOR_WEIGHT) / 2, (best[1] + PRIOR_WEIGHT) / 2
    if remaining_error(shrunken) > plain_error * (1 + MIN_GAIN):
        return (0.0,) * (n_networks + 1)
    return (shrunken[0], *[shrunken[1] / n_networks] * n_networks)
