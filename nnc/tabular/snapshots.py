"""Cross-fitted snapshots of the networks of a cross-validation, for estimates on held-out rows.

A network of the cross-validation is restored to its best epoch on its held-out rows, so its predictions for these rows
are too good: on pure noise they reach an accuracy of 0.6 with two balanced classes. Therefore the held-out rows of a
fold are divided into N_PARTS parts. The predictions for a part come from the epoch and the encoding that are best on
the other parts. Only the rule that stops a training early (`MemberCallback` in training.py) uses all held-out rows of a
fold; its effect on the estimates is too small to be detected on noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._registry.losses import ROWS
from nnc.tabular.recipe import ENGINE_LOSSES, POISSON

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._network import NeuralNetwork
    from nnc.tabular.recipe import Task

N_PARTS = 10  # number of parts into which the held-out rows of a fold are divided
OTHER_PARTS = 1 - np.eye(N_PARTS)  # row k of this matrix sums over all parts except part k
EPSILON = 1e-30  # lower bound of divisors, and of probabilities before their logarithm


class HeldOut(NamedTuple):
    """Estimates of the quality of a model, from predictions for rows that neither trained nor selected a network.

    Attributes
    ----------
    n : int
        Number of held-out rows.
    score : float
        Accuracy, or R^2, of the model on new rows; the smallest R^2 of several targets. NaN without held-out rows.
    calibration_error : float
        Expected calibration error of the probabilities, with temperatures fitted on other rows; NaN for regression.
    temperature : float
        Temperature of the probabilities, fitted on all held-out rows; 1 for regression.
    scores : array (rows, n_targets)
        Nonconformity scores of the held-out rows that calibrate sets and intervals, in random order. If the model has a
        spread, they are divided by it. See `TableModel.nonconformity`.
    """

    n: int
    score: float
    calibration_error: float
    temperature: float
    scores: NDArray[np.float64]


class HeldOutNetwork(NamedTuple):
    """Snapshot of a network, and the held-out rows that it predicts.

    Attributes
    ----------
    network : NeuralNetwork
    bins : bool
        Whether the inputs of the network include the piecewise-linear encoding.
    rows : int array (n,)
        Indices of the rows that were held out from training and from the choice of the epoch and encoding.
    part : int array (n,)
        Part of the fold to which each of these rows belongs.
    """

    network: NeuralNetwork
    bins: bool
    rows: NDArray[np.intp]
    part: NDArray[np.int8]

    def restrict(self, sample: NDArray[np.intp]) -> HeldOutNetwork:
        """Select the held-out rows that are in a sorted sample of rows; replace them by indices into the sample."""
        in_sample = np.isin(self.rows, sample)
        rows = np.searchsorted(sample, self.rows[in_sample])
        return HeldOutNetwork(self.network, self.bins, rows, self.part[in_sample])


class ImportanceData(NamedTuple):
    """Data from which permutation importances are computed.

    Attributes
    ----------
    plain : float32 array (n, width)
        Plain features of held-out rows.
    bins : float32 array (n, width with bins) or None
        Plain features and bins; None if no network uses bins.
    y : array (n,) or (n, n_targets)
    weights : array (n,) or None
        Sample weights.
    networks : list of HeldOutNetwork
        Networks whose `rows` are indices into these arrays.
    """

    plain: NDArray[np.float32]
    bins: NDArray[np.float32] | None
    y: NDArray[Any]
    weights: NDArray[np.float64] | None
    networks: list[HeldOutNetwork]


def row_errors(task: Task, P: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the error of each row (n,) for outputs P (n, outputs) of a network and targets y.

    The error is 1 for a wrong class and 0 for the right class. For regression it is the training loss of the row.
    """
    if task.kind == "classes":
        return np.asarray(P.argmax(axis=1) != y, np.float64)
    P = P.astype(np.float64)
    loss, parameter, z = ENGINE_LOSSES[task.loss], np.zeros(1), P
    if task.quantiles:
        loss, parameter = "quantile", np.repeat(task.quantiles, task.n_out)
    elif task.loss == POISSON:
        z = np.log(np.maximum(P, EPSILON))
    return np.asarray(ROWS[loss].compute_terms(y, P, z, parameter).mean(axis=1))


class Snapshots:
    """Parameters of a network at its best epochs, chosen separately for each part of its held-out rows.

    Parameters
    ----------
    task : Task
    network : NeuralNetwork
        Network that is being trained.
    y : array (n,) or (n, outputs)
        Targets of the held-out rows, scaled as for the training.
    weights : array (n,), optional
        Sample weights.
    part : int array (n,)
        Part of each held-out row, from 0 to N_PARTS - 1; rows with -1 are not used.

    Attributes
    ----------
    params : list of arrays
        For each part, the parameters at the (last) epoch with the smallest error on the other parts.
    errors : array (N_PARTS,)
        Smallest error on the other parts, for each part: the fraction of wrong classes, or the mean loss.
    totals : array (N_PARTS,)
        For each part, the sum of the weights of the other parts, or the number of their rows.
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
        self.totals = np.maximum(self.sums_of_others(self.weights), EPSILON)  # avoids division by 0
        self.params: list[NDArray[np.float32]] = []
        self.errors = np.full(N_PARTS, np.inf)

    def sums_of_others(self, values: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return for each part the sum of `values` over the other parts; for None, the number of rows in them."""
        return OTHER_PARTS @ np.bincount(self.part, values, N_PARTS)

    def update(self, P: NDArray[Any]) -> None:
        """Store the parameters after an epoch with outputs P (n, outputs) for the parts where the error is lowest."""
        errors = row_errors(self.task, P[self.rows], self.y)
        errors = self.sums_of_others(errors if self.weights is None else errors * self.weights) / self.totals
        better = ~(errors > self.errors)
        if better.any():
            params = self.network.params
            self.params = [params if better[j] or not self.params else self.params[j] for j in range(N_PARTS)]
            self.errors = np.where(better, errors, self.errors)


def with_params(network: NeuralNetwork, params: NDArray[np.float32]) -> NeuralNetwork:
    """Return a copy of a network that has the parameters `params`."""
    other = network.copy()
    other.state, other.params = None, params
    return other
