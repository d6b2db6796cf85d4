"""Estimates on held-out rows: score, temperature, calibration error, nonconformity scores and importances.

A network of the cross-validation is restored to its best epoch on its held-out rows. Its predictions for these rows are
therefore too good: on pure noise they reach an accuracy of 0.6 with two balanced classes. All estimates are made with
cross-fitted snapshots instead. The held-out rows of a fold are divided into PARTS parts. The predictions for a part
come from the parameters at the epoch that is the best on the other parts, in the encoding that is the better one on the
other parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc.data.metrics import METRICS
from nnc.kinds.losses import ROWS
from nnc.tabular.explain import permutation_importances
from nnc.tabular.recipe import COUNTS, LOSSES
from nnc.tabular.temperature import expected_calibration_error, fit_temperature, with_temperature

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nnc.network import NeuralNetwork
    from nnc.tabular.model import TableModel
    from nnc.tabular.recipe import Task
    from nnc.tabular.training import Rows, Training

PARTS = 5  # of the held-out rows of a fold
MAX_SCORES = 2000  # held-out rows that are evaluated even of models with very many outputs
MAX_SHUFFLED_ROWS = 1000  # held-out rows that importances are computed with
MAX_SPREAD_ROWS = 500  # rows that the spread of the members is computed with
BLOCK_ROWS = 1 << 12  # rows that are copied and predicted at a time
MAX_ROWS, MAX_OUTPUTS = 1 << 18, 1 << 20  # held-out rows, and outputs for them, that are evaluated
MAX_PERMUTATIONS, REPEATS = 60, 5  # permuted data sets in all, and for each column
TINY = 1e-30
OTHERS = 1 - np.eye(PARTS)


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


# ------------------------------------------------------------------------------------------ snapshots


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
    return np.asarray(ROWS[loss].terms(y, P, z, parameter).mean(axis=1))


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


def blocks(rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Yield the rows in blocks that bound the memory for copies of them."""
    for start in range(0, len(rows), BLOCK_ROWS):
        yield rows[start : start + BLOCK_ROWS]


def with_params(network: NeuralNetwork, params: NDArray[np.float32]) -> NeuralNetwork:
    """Return a copy of a network with other parameters."""
    other = network.copy()
    other.state, other.params = None, params
    return other


# ------------------------------------------------------------------------------------------ estimates


class Predictions(NamedTuple):
    """Predictions for held-out rows, by networks that these rows neither trained nor selected.

    Attributes
    ----------
    rows : int array (m,)
        The held-out rows, increasing.
    answers : array (m, n_classes), (m, n_targets) or (m, n_quantiles, n_targets)
        As `TableModel.predict` returns them: the mean over the networks that a row is held out from.
    networks : int array (m,)
        How many these are.
    """

    rows: NDArray[np.intp]
    answers: NDArray[np.float64]
    networks: NDArray[np.intp]


def predict_held_out(model: TableModel, rows: Rows, judges: Sequence[Judge]) -> tuple[Predictions, float]:
    """Return predictions for the rows of all judges, and the temperature that is fitted on all of them.

    The probabilities of a part have the temperature that is fitted on the other parts. The temperature is 1 for
    regression.
    """
    known, places = np.unique(np.concatenate([judge.rows for judge in judges]), return_inverse=True)
    part = np.concatenate([judge.part for judge in judges])
    outputs = np.concatenate(
        [judge.network.predict(rows.inputs(judge.bins)[some]) for judge in judges for some in blocks(judge.rows)]
    ).astype(np.float64)
    temperature = 1.0
    if model.task.kind == "classes":
        y, weights = rows.y[known][places], None if rows.weights is None else rows.weights[known][places]
        temperature = fit_temperature(np.log(np.maximum(outputs, TINY)), y, weights)
        outputs = _calibrated(outputs, y, weights, part)
    else:
        outputs = model.meant(outputs)
    networks = np.bincount(places, minlength=len(known))
    mean = np.zeros((len(known), model.task.outputs))
    np.add.at(mean, places, outputs / networks[places, None])  # a sum of the outputs might overflow
    return Predictions(known, model.formed(mean), networks), temperature


def _calibrated(
    P: NDArray[np.float64], y: NDArray[Any], weights: NDArray[np.float64] | None, part: NDArray[np.int8]
) -> NDArray[np.float64]:
    """Return probabilities at temperatures that are fitted on the rows of other parts."""
    calibrated = P.copy()
    for j in np.unique(part):
        own, other = part == j, part != j
        if other.any():
            logits = np.log(np.maximum(P[other], TINY))
            temperature = fit_temperature(logits, y[other], None if weights is None else weights[other])
            calibrated[own] = with_temperature(P[own], temperature)
    return calibrated


def target_units(model: TableModel) -> NDArray[np.float64]:
    """Return units (n_targets,) in which squares are finite: half of the range of each target, or of its size."""
    assert model.bounds is not None
    low, high = model.bounds / 2
    units: NDArray[np.float64] = np.where(high > low, high - low, np.maximum(np.abs(high), 1))
    return units


def member_spread(model: TableModel, rows: Rows, training: Training, seed: int) -> NDArray[np.float64]:
    """Return the variance of the predictions of the members for a row, (n_targets,): the mean over training rows.

    Each row counts with the members that have learned from it, as few members have not. These agree slightly more than
    members would on a new row. Predictions are in units of `target_units`.
    """
    some = np.sort(np.random.default_rng([seed, 4]).permutation(len(rows.y))[:MAX_SPREAD_ROWS])
    learned = np.stack([~training.held(member.spec.fold)[some] for member in model.members])
    counts = learned.sum(axis=0)
    if counts.max() < 2:
        return np.zeros(model.task.n_out)
    inputs = rows.inputs(True in model.encodings)[some]
    outputs = np.stack(
        [model.middle(model.formed(model.output(member, model.seen_by(member, inputs)))) for member in model.members]
    )
    outputs /= target_units(model)
    several = counts > 1
    outputs, learned, counts = outputs[:, several], learned[:, several, None], counts[several, None]
    deviations = np.where(learned, outputs - (outputs / counts).sum(axis=0, where=learned), 0)
    variances = (deviations**2 / (counts - 1)).sum(axis=0)
    weights = None if rows.weights is None else rows.weights[some][several]
    spread: NDArray[np.float64] = np.average(variances, axis=0, weights=weights)
    return spread


def ensemble_r2(
    model: TableModel,
    predictions: Predictions,
    y: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    spread: NDArray[np.float64],
) -> float:
    """Return the R^2 of the mean of all members on new rows, the smallest one of several targets.

    A held-out row is predicted by one or two networks, a new row by all members. The squared error of the mean of M
    members is that of a single member less the variance of the members times 1 - 1 / M (Krogh and Vedelsby, 1995).

    Parameters
    ----------
    model : TableModel
    predictions : Predictions
    y : array (m, n_targets)
        Targets of the held-out rows.
    weights : array (m,), optional
    spread : array (n_targets,)
        Variance of the members, see `member_spread`.
    """
    units, w = target_units(model), np.ones(len(y)) if weights is None else weights
    P, y = model.middle(predictions.answers) / units, y / units
    share = float(np.average(1 / predictions.networks, weights=w))  # of the variance in the error of these networks
    scores = []
    for j, variance in enumerate(spread):
        score = METRICS["r2"](y[:, [j]], P[:, [j]], weights)
        total = float(np.average((y[:, j] - np.average(y[:, j], weights=w)) ** 2, weights=w))
        if total > 0:
            variance = min(variance, (1 - score) * total / share)  # no more than the whole error
            score += variance * (share - 1 / len(model.members)) / total
        scores.append(score)
    return min(scores)


def evaluate(model: TableModel, rows: Rows, training: Training, seed: int) -> tuple[HeldOut, Shuffle] | None:
    """Return the estimates for a model and the data for its importances; None if no rows were held out.

    Parameters
    ----------
    model : TableModel
        With the members that the training has returned.
    rows : Rows
        The training rows.
    training : Training
        It has trained the members.
    seed : int
    """
    judges = training.judges()
    if not judges:
        return None
    predictions, temperature = predict_held_out(model, rows, judges)
    known, classes = predictions.rows, model.task.kind == "classes"
    answers, y, weights = predictions.answers, rows.y[known], None if rows.weights is None else rows.weights[known]
    if classes:
        score = model.score(answers, y, weights)
        calibration_error = expected_calibration_error(answers, y, sample_weight=weights)
    else:
        score = ensemble_r2(model, predictions, y, weights, member_spread(model, rows, training, seed))
        calibration_error = np.nan
    model.held_out = model.held_out._replace(temperature=temperature)
    error = float(np.average(model.row_errors(answers, y), weights=weights))
    model.gain = model.compare_members(rows, training, error, seed)
    scores = model.calibrate(rows, known, answers, y, seed)
    order = np.random.default_rng([seed, 3]).permutation(len(known))
    some = np.sort(known[order[:MAX_SHUFFLED_ROWS]])
    shuffle = Shuffle(
        rows.plain[some],
        rows.bins[some] if rows.bins is not None and any(judge.bins for judge in judges) else None,
        rows.y[some],
        None if rows.weights is None else rows.weights[some],
        [judge.within(some) for judge in judges],
    )
    return HeldOut(len(known), score, calibration_error, temperature, scores), shuffle


def find_importances(model: TableModel, shuffle: Shuffle, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return by how much the score falls if a column is permuted, and the standard errors, (columns,) each.

    The score is the accuracy, or the mean R^2 of the targets.
    """
    inputs = shuffle.plain if shuffle.bins is None else shuffle.bins
    width, n = shuffle.plain.shape[1], len(shuffle.y)
    times = np.bincount(np.concatenate([judge.rows for judge in shuffle.judges]), minlength=n)[:, None]
    if model.task.kind != "classes":
        units = target_units(model)
        y, weights = shuffle.y / units, shuffle.weights
        variance = np.average((y - np.average(y, axis=0, weights=weights)) ** 2, axis=0, weights=weights)
        variance = np.where(variance > 0, variance, 1)

    def losses(X: NDArray[np.float32]) -> NDArray[np.float64]:
        mean = np.zeros((n, model.task.outputs))
        for judge in shuffle.judges:
            some = X[judge.rows] if judge.bins else np.ascontiguousarray(X[judge.rows, :width])
            mean[judge.rows] += model.meant(judge.network.predict(some).astype(np.float64)) / times[judge.rows]
        answers = model.formed(mean)
        if model.task.kind == "classes":
            return np.asarray(answers.argmax(axis=1) != shuffle.y, np.float64)
        squared: NDArray[np.float64] = ((model.middle(answers) / units - y) ** 2 / variance).mean(axis=1)
        return squared

    groups = model.schema.groups(bins=shuffle.bins is not None)
    repeats = max(1, min(REPEATS, MAX_PERMUTATIONS // len(groups)))
    return permutation_importances(losses, inputs, groups, repeats, seed, shuffle.weights)
