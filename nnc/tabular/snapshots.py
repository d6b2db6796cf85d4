"""Cross-fitted snapshots of the networks of a cross-validation, which predict held-out rows without having seen them.

A network of the cross-validation is restored to its best epoch on its held-out rows. Its predictions for these rows are
therefore too good: on pure noise they reach an accuracy of 0.6 with two balanced classes. So the held-out rows of a
fold are divided into PARTS parts. The predictions for a part come from the parameters at the epoch that is the best on
the other parts, in the encoding that is the better one on the other parts. Only the rule that ends a training early
(`Watch` in training.py) uses all held-out rows of a fold: its effect on the estimates is too small to be seen on noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._registry.losses import ROWS
from nnc.tabular.recipe import COUNTS, LOSSES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._network import NeuralNetwork
    from nnc.tabular.recipe import Task

PARTS = 10  # of the held-out rows of a fold
OTHERS = 1 - np.eye(PARTS)
TINY = 1e-30


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
        Nonconformity scores of the held-out rows that calibrate sets and intervals, see `TableModel.nonconformity`, in
        random order. With a spread they are divided by it.
    """

    n: int
    score: float
    calibration_error: float
    temperature: float
    scores: NDArray[np.float64]


class Judge(NamedTuple):
    """A snapshot of a network, and the held-out rows that it predicts."""

    network: NeuralNetwork
    bins: bool  # encoding of its inputs
    rows: NDArray[np.intp]  # held out from its training, and from the choice of its epoch and encoding
    part: NDArray[np.int8]  # of these rows

    def within(self, some: NDArray[np.intp]) -> Judge:
        """Return the judge with indices into some rows, increasing, in place of numbers of rows."""
        there = np.isin(self.rows, some)
        return Judge(self.network, self.bins, np.searchsorted(some, self.rows[there]), self.part[there])


class Shuffle(NamedTuple):
    """Data that importances are computed from."""

    plain: NDArray[np.float32]
    bins: NDArray[np.float32] | None
    y: NDArray[Any]
    weights: NDArray[np.float64] | None
    judges: list[Judge]  # whose rows are indices into these arrays


def row_errors(task: Task, P: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the error of each row (n,), of outputs P (n, outputs) of a network and its targets y.

    It is 1 for a wrong class and 0 for the right one, or the loss that a network for numbers is trained with.
    """
    if task.kind == "classes":
        return np.asarray(P.argmax(axis=1) != y, np.float64)
    P = P.astype(np.float64)
    loss, parameter, z = LOSSES[task.loss], np.zeros(1), P
    if task.quantiles:
        loss, parameter = "quantile", np.repeat(task.quantiles, task.n_out)
    elif task.loss == COUNTS:
        z = np.log(np.maximum(P, TINY))
    return np.asarray(ROWS[loss].compute_terms(y, P, z, parameter).mean(axis=1))


class Snapshots:
    """Parameters of a network at the epochs that parts of its held-out rows choose for one another.

    Parameters
    ----------
    task : Task
    network : NeuralNetwork
        It is being trained.
    y : array (n,) or (n, outputs)
        Targets of the held-out rows, as the network is trained on them.
    weights : array (n,), optional
    part : int array (n,)
        The part of each held-out row, from 0 to PARTS - 1; rows with -1 are not used.

    Attributes
    ----------
    params : list of arrays
        For each part the parameters at the epoch with the smallest error on the other parts, the last of equal ones.
    errors : array (PARTS,)
        That error: the share of wrong classes, or the mean loss.
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
        self.totals = np.maximum(self.sums_of_others(self.weights), TINY)  # of no rows every epoch is as good
        self.params: list[NDArray[np.float32]] = []
        self.errors = np.full(PARTS, np.inf)

    def sums_of_others(self, values: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return for each part the sum of the values of the other parts; their number of rows without values."""
        return OTHERS @ np.bincount(self.part, values, PARTS)

    def update(self, P: NDArray[Any]) -> None:
        """Compare the parameters after an epoch, with outputs P (n, outputs), with the best ones before."""
        errors = row_errors(self.task, P[self.rows], self.y)
        errors = self.sums_of_others(errors if self.weights is None else errors * self.weights) / self.totals
        better = ~(errors > self.errors)
        if better.any():
            params = self.network.params
            self.params = [params if better[j] or not self.params else self.params[j] for j in range(PARTS)]
            self.errors = np.where(better, errors, self.errors)


def with_params(network: NeuralNetwork, params: NDArray[np.float32]) -> NeuralNetwork:
    """Return a copy of a network with other parameters."""
    other = network.copy()
    other.state, other.params = None, params
    return other
