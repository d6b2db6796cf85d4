"""Cross-fitted snapshots of the networks of a cross-validation, for estimates on held-out rows.

A network of the cross-validation is restored to the epoch that is best on its held-out rows, so its predictions for
these rows are too good: with two balanced classes of pure noise, their accuracy is 0.6. Therefore the held-out rows of
a fold are divided into N_PARTS parts. A part is predicted by the epoch and the candidate that are best on the other
parts. Only the rule that stops a training early (`MemberCallback` in training.py) uses all held-out rows of a fold; its
effect on the estimates is too small to be detected on noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._registry.losses import ROWS
from nnc.tabular.recipe import ENGINE_LOSSES, POISSON
from nnc.tabular.temperature import temperature_power

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._network import NeuralNetwork
    from nnc._report.outcomes import ClassScores
    from nnc._tables.features import FeatureSet
    from nnc.tabular.recipe import Task

N_PARTS = 10  # number of parts into which the held-out rows of a fold are divided
OTHER_PARTS = 1 - np.eye(N_PARTS)  # row k of this matrix is 0 for part k and 1 for all other parts
EPSILON = 1e-30  # lower limit of divisors, and of probabilities before their logarithm is computed


class HeldOut(NamedTuple):
    """Estimates of the quality of a model, from predictions for rows that neither trained nor selected a network.

    Attributes
    ----------
    n : int
        Number of held-out rows.
    score : float
        Estimated accuracy or R^2 of the model on new rows that are independent of the training rows; the smallest R^2
        if there are several targets. NaN if there are no held-out rows.
    calibration_error : float
        Expected calibration error of the probabilities, each calibrated on other rows; NaN for regression.
    temperature : float
        Temperature that calibrates the mean probabilities of all networks, fitted on all held-out rows; 1 for
        regression.
    scores : array (rows, n_targets)
        Nonconformity scores that calibrate sets and intervals, from held-out rows in random order. If the model has a
        Spread, the scores are divided by the predicted spread. See `TableModel.nonconformity`.
    temperature_ratio : float
        Ratio of the temperatures for two networks and for one, see `fit_mean_ratio`; 1 for regression.
    class_scores : ClassScores or None
        Accuracy of always predicting the most frequent class, and balanced accuracy and area under the ROC curve of
        the predictions for held-out rows. None for regression.
    """

    n: int
    score: float
    calibration_error: float
    temperature: float
    scores: NDArray[np.float64]
    temperature_ratio: float = 1.0
    class_scores: ClassScores | Any = None  # with Any, type checkers accept its attributes without a test for None

    def with_networks(self, count: int, n_networks: int) -> HeldOut:
        """Return a copy with the temperature for `count` networks instead of n_networks."""
        power = temperature_power(count) - temperature_power(n_networks)
        return self._replace(temperature=self.temperature * self.temperature_ratio**power)


class HeldOutNetwork(NamedTuple):
    """Snapshot of a network, and the held-out rows that it predicts.

    Attributes
    ----------
    network : NeuralNetwork
        Copy of a trained network with the parameters of the snapshot.
    features : FeatureSet
        Inputs of the network.
    rows : int array (n,)
        Indices of the rows that the network predicts: they were used neither for its training nor for the choice of its
        epoch and candidate.
    part : int array (n,)
        Number of the part of the fold that contains each of these rows.
    """

    network: NeuralNetwork
    features: FeatureSet
    rows: NDArray[np.intp]
    part: NDArray[np.int8]

    def restrict(self, sample: NDArray[np.intp]) -> HeldOutNetwork:
        """Return a copy that predicts only rows in the sorted array `sample`; its `rows` are positions in `sample`."""
        in_sample = np.isin(self.rows, sample)
        rows = np.searchsorted(sample, self.rows[in_sample])
        return HeldOutNetwork(self.network, self.features, rows, self.part[in_sample])


class ImportanceData(NamedTuple):
    """Data from which permutation importances are computed.

    Attributes
    ----------
    inputs : float32 array (n, width)
        Encoded held-out rows, with the largest set of features that a network receives.
    y : array (n,) or (n, n_targets)
        Targets of these rows.
    weights : array (n,) or None
        Sample weights.
    networks : list of HeldOutNetwork
        Networks that predict these rows; their `rows` are indices into the arrays.
    """

    inputs: NDArray[np.float32]
    y: NDArray[Any]
    weights: NDArray[np.float64] | None
    networks: list[HeldOutNetwork]


def row_errors(task: Task, P: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the error of each row (n,), given the outputs P (n, outputs) of a network and the targets y.

    The error is the training loss of the row, for classes with label smoothing.
    """
    if task.kind == "classes":
        logs = np.log(np.maximum(P, EPSILON))
        mean, smoothing = logs.mean(axis=1, dtype=np.float64), task.label_smoothing
        return np.asarray((smoothing - 1) * logs[np.arange(len(y)), y] - smoothing * mean, np.float64)
    P = P.astype(np.float64)
    loss, parameter, z = ENGINE_LOSSES[task.loss], np.zeros(1), P
    if task.quantiles:
        loss, parameter = "quantile", np.repeat(task.quantiles, task.n_out)
    elif task.loss == POISSON:
        z = np.log(np.maximum(P, EPSILON))
    return np.asarray(ROWS[loss].compute_terms(y, P, z, parameter).mean(axis=1))


def lowest_row_errors(task: Task, y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the error of a perfect prediction for each row (n,): 0, or for Poisson's loss y - y log(y)."""
    return np.zeros(len(y)) if task.kind == "classes" else row_errors(task, y, y)


class Snapshots:
    """Parameters of a network at its best epoch, which is chosen separately for each part of its held-out rows.

    Parameters
    ----------
    task : Task
    network : NeuralNetwork
        Network that is being trained.
    y : array (n,) or (n, outputs)
        Targets of the held-out rows, with the scaling of the training.
    weights : array (n,), optional
        Sample weights.
    part : int array (n,)
        Number of the part that contains each held-out row, from 0 to N_PARTS - 1; rows with -1 are not used.

    Attributes
    ----------
    params : list of arrays
        For each part, the parameters after the epoch with the smallest error on the other parts; the last one in a tie.
    errors : array (N_PARTS,)
        For each part, this smallest error on the other parts, which is a mean loss.
    totals : array (N_PARTS,)
        For each part, the sum of the sample weights in the other parts; without weights, their number of rows.
    """

    def __init__(
        self,
        task: Task,
        network: NeuralNetwork,
        y: NDArray[Any],
        weights: NDArray[np.float64] | None,
        part: NDArray[np.int8],
    ) -> None:
        used = np.flatnonzero(part >= 0)
        self.rows = slice(None) if len(used) == len(part) else used
        self.task, self.network, self.y, self.part = task, network, y[self.rows], part[self.rows]
        self.weights = None if weights is None else weights[self.rows]
        self.totals = np.maximum(self.sums_of_others(self.weights), EPSILON)  # totals are divisors and must not be 0
        self.params: list[NDArray[np.float32]] = []
        self.errors = np.full(N_PARTS, np.inf)

    def sums_of_others(self, values: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return for each part of the fold the sum of `values` over the rows of all other parts, array (N_PARTS,).

        If `values` is None, return the number of these rows.
        """
        return OTHER_PARTS @ np.bincount(self.part, values, N_PARTS)

    def update(self, P: NDArray[Any]) -> None:
        """Update `errors` and `params` after an epoch; P (n, outputs) contains the outputs for the held-out rows."""
        errors = row_errors(self.task, P[self.rows], self.y)
        errors = self.sums_of_others(errors if self.weights is None else errors * self.weights) / self.totals
        better = ~(errors > self.errors)
        if better.any():
            params = self.network.params
            self.params = [params if better[j] or not self.params else self.params[j] for j in range(N_PARTS)]
            self.errors = np.where(better, errors, self.errors)


def with_params(network: NeuralNetwork, params: NDArray[np.float32]) -> NeuralNetwork:
    """Return a copy of a network with the parameters `params` and without training state."""
    other = network.copy()
    other.state, other.params = None, params
    return other
