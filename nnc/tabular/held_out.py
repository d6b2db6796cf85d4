"""Estimates on held-out rows: score, temperature, calibration error, nonconformity scores and importances.

All estimates are based on the snapshots of snapshots.py. A snapshot predicts only rows that neither trained nor
selected it.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._data.metrics import METRICS
from nnc._report.outcomes import ClassOutcomes, ClassScores, NumberOutcomes
from nnc.tabular.explain import permutation_importances
from nnc.tabular.selection import MAX_COMPARED_ROWS, MAX_ERROR_RATIO, ensemble_gain
from nnc.tabular.snapshots import EPSILON, ImportanceData
from nnc.tabular.temperature import (
    expected_calibration_error,
    fit_mean_ratio,
    fit_temperature,
    with_temperature,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nnc.tabular.model import TableModel
    from nnc.tabular.selection import Gain
    from nnc.tabular.snapshots import HeldOutNetwork
    from nnc.tabular.training import Member, Rows, Training

MAX_IMPORTANCE_ROWS = 1000  # maximum number of held-out rows from which permutation importances are computed
MAX_SPREAD_ROWS = 500  # maximum number of training rows on which predictions of members are compared
BLOCK_ROWS = 1 << 12  # number of rows that are copied and predicted at a time
MAX_PERMUTATIONS, MAX_REPEATS = 60, 5  # maximum number of permutations for all columns together, and per column
MAX_AUTO_IMPORTANCE_COLUMNS = 100  # `fit` computes importances only for tables with up to this number of columns
# Standard errors of importances are multiplied by this factor, because errors in different folds are correlated: the
# networks of a fold learn from the held-out rows of the other folds (Bengio and Grandvalet, 2004). For columns of
# noise, importance / standard error has a standard deviation of 1.1 to 1.2 without the factor, and below 1 with it.
CORRELATION_FACTOR = 1.25


def row_blocks(rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Yield row indices in blocks of BLOCK_ROWS, so that copies of the rows need little memory."""
    for start in range(0, len(rows), BLOCK_ROWS):
        yield rows[start : start + BLOCK_ROWS]


class HeldOutPredictions(NamedTuple):
    """Predictions for held-out rows; a row is predicted only by networks that it neither trained nor selected.

    Attributes
    ----------
    rows : int array (m,)
        Sorted indices of the held-out rows.
    values : array (m, n_classes), (m, n_targets) or (m, n_quantiles, n_targets)
        Predictions in the form of `TableModel.predict`. Each is the mean of the networks that did not train on the row.
    n_networks : int array (m,)
        Number of networks that predict each row.
    gain : float
        Expected difference in accuracy between the mean of very many networks and a single network, see
        `expected_gain`; 0 for regression.
    """

    rows: NDArray[np.intp]
    values: NDArray[np.float64]
    n_networks: NDArray[np.intp]
    gain: float = 0.0


def predict_held_out(
    model: TableModel, rows: Rows, networks: Sequence[HeldOutNetwork]
) -> tuple[HeldOutPredictions, float, float]:
    """Predict the held-out rows of all networks; return the predictions, the temperature, and its ratio.

    The temperature is fitted on all these rows. The ratio is that of `fit_mean_ratio`, from the rows that two networks
    predict. The rows are divided into parts. The predicted probabilities of a part are calibrated by the temperature
    that is fitted on the other parts. For regression, the temperature and the ratio are 1.
    """
    indices, inverse = np.unique(np.concatenate([network.rows for network in networks]), return_inverse=True)
    part = np.concatenate([network.part for network in networks])
    blocks = [
        network.network.predict(rows.inputs[network.features][block])
        for network in networks
        for block in row_blocks(network.rows)
    ]
    outputs = np.concatenate(blocks).astype(np.float64)
    temperature, ratio, classes = 1.0, 1.0, model.task.kind == "classes"
    weights = None if rows.weights is None else rows.weights[indices]
    if classes:
        y, row_weights = rows.y[indices][inverse], None if weights is None else weights[inverse]
        temperature = fit_temperature(np.log(np.maximum(outputs, EPSILON)), y, row_weights)
        ratio = _fit_ratio(outputs, inverse, y, row_weights)
        outputs = _calibrate_parts(outputs, y, row_weights, part)
    else:
        outputs = model.convert_outputs(outputs)
    n_networks = np.bincount(inverse, minlength=len(indices))
    mean = np.zeros((len(indices), model.task.n_network_outputs))
    np.add.at(mean, inverse, outputs / n_networks[inverse, None])  # divide before summing, as the sum could overflow
    gain = expected_gain(outputs, inverse, mean, n_networks, weights) if classes else 0.0
    return HeldOutPredictions(indices, model.postprocess(mean), n_networks, gain), temperature, ratio


def expected_gain(
    P: NDArray[np.float64],
    index: NDArray[np.intp],
    mean: NDArray[np.float64],
    n_networks: NDArray[np.intp],
    weights: NDArray[np.float64] | None,
) -> float:
    """Return the expected difference in accuracy between the mean of very many networks and a single network.

    The error of the mean of k networks is assumed to be a constant plus c / k, as is true for the squared error (Krogh
    and Vedelsby, 1995). Then the accuracy of the mean exceeds that of a single network by c (1 - 1 / k). c is estimated
    from rows that several networks predict. For each row, two probabilities in the mean prediction are compared: that
    of the most probable class of the mean, and that of the most probable class of a single network. Labels are not
    used: they would favour single networks, whose epochs these rows have selected. The estimate is conservative,
    because the mean of two networks is less certain than the mean of many.

    Parameters
    ----------
    P : array (n, n_classes)
        Calibrated probabilities; each row is the prediction of one network for one held-out row.
    index : int array (n,)
        For each row of P, the index of the held-out row in `mean`.
    mean : array (m, n_classes)
        Mean probabilities of each held-out row.
    n_networks : int array (m,)
        Number of networks that predict each held-out row.
    weights : array (m,), optional
        Sample weights.

    Returns
    -------
    float
        The difference c in accuracy; 0 if no row is predicted by several networks.
    """
    w = np.ones(len(mean)) if weights is None else weights
    single = np.bincount(index, mean[index, P.argmax(axis=1)], len(mean)) / n_networks
    total = float(w @ (1 - 1 / n_networks))
    return float(w @ (mean.max(axis=1) - single)) / total if total > 0 else 0.0


def ensemble_accuracy(
    model: TableModel, predictions: HeldOutPredictions, y: NDArray[Any], weights: NDArray[np.float64] | None
) -> float:
    """Estimate the accuracy of the mean of all members on new rows.

    The accuracy on held-out rows is too small as an estimate, because only one or two networks predict each held-out
    row. `expected_gain` estimates the difference to the mean of all members.
    """
    inverse_count = float(np.average(1 / predictions.n_networks, weights=weights))
    gain = predictions.gain * (inverse_count - 1 / len(model.members))
    return float(np.clip(model.score(predictions.values, y, weights) + gain, 0, 1))


def _calibrate_parts(
    P: NDArray[np.float64], y: NDArray[Any], weights: NDArray[np.float64] | None, part: NDArray[np.int8]
) -> NDArray[np.float64]:
    """Calibrate probabilities P; the temperature for the rows of each part is fitted on the rows of the other parts."""
    calibrated = P.copy()
    for j in np.unique(part):
        in_part, in_others = part == j, part != j
        if in_others.any():
            logits = np.log(np.maximum(P[in_others], EPSILON))
            temperature = fit_temperature(logits, y[in_others], None if weights is None else weights[in_others])
            calibrated[in_part] = with_temperature(P[in_part], temperature)
    return calibrated


def _fit_ratio(
    P: NDArray[np.float64], index: NDArray[np.intp], y: NDArray[Any], weights: NDArray[np.float64] | None
) -> float:
    """Return the ratio of `fit_mean_ratio` from the rows that exactly two networks predict; 1 if there are none.

    `index` is the index of the held-out row of each row of P, y and weights.
    """
    is_pair = np.bincount(index) == 2
    if not is_pair.any():
        return 1.0
    order = np.argsort(index, kind="stable")
    pairs = order[is_pair[index[order]]].reshape(-1, 2)
    logits = np.log(np.maximum(P[pairs.T], EPSILON))
    return fit_mean_ratio(logits, y[pairs[:, 0]], None if weights is None else weights[pairs[:, 0]])


def target_units(model: TableModel) -> NDArray[np.float64]:
    """Return units (n_targets,) in which squared errors are finite: half the range of each target.

    The unit of a constant target is half of its magnitude, but at least 1.
    """
    assert model.bounds is not None
    low, high = model.bounds / 2
    units: NDArray[np.float64] = np.where(high > low, high - low, np.maximum(np.abs(high), 1))
    return units


def member_spread(model: TableModel, rows: Rows, training: Training, seed: int) -> NDArray[np.float64]:
    """Estimate the variance (n_targets,) of the members' predictions for a new row, in units of `target_units`.

    The variance is computed on training rows, from which most members have learned, so that their predictions differ
    less than for a new row. Therefore it is multiplied by `unseen_ratio`. Targets are not used.
    """
    sample = np.sort(np.random.default_rng([seed, 4]).permutation(len(rows.y))[:MAX_SPREAD_ROWS])
    learned = np.stack([training.folds.learns(member.spec.fold)[sample] for member in model.members])
    counts = learned.sum(axis=0)
    if counts.max() < 2:
        return np.zeros(model.task.n_out)
    inputs = rows.inputs[max(rows.inputs)][sample]
    outputs = np.stack([_point_output(model, member, inputs) for member in model.members])
    several = counts > 1
    outputs, learned, counts = outputs[:, several], learned[:, several, None], counts[several, None]
    deviations = np.where(learned, outputs - (outputs / counts).sum(axis=0, where=learned), 0)
    variances = (deviations**2 / (counts - 1)).sum(axis=0)
    weights = None if rows.weights is None else rows.weights[sample][several]
    spread: NDArray[np.float64] = np.average(variances, axis=0, weights=weights)
    return spread * unseen_ratio(model, inputs, training, sample)


def unseen_ratio(
    model: TableModel, inputs: NDArray[np.float32], training: Training, sample: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the ratio (n_targets,) of the variance of predictions for new rows to their variance for training rows.

    The ratio is estimated from pairs of networks of two candidates that hold out the same fold. It is the mean squared
    difference of their predictions for this fold, divided by that for the other rows, and at least 1. The ratio is 1 if
    there are no such pairs.

    Parameters
    ----------
    model : TableModel
    inputs : array (n, width)
        Encoded rows, with the largest set of features that the training uses.
    training : Training
    sample : int array (n,)
        Indices of these rows in the training table.
    """
    # Sums over rows of the squared difference between two members' predictions, and numbers of these rows. Index 0 is
    # for held-out rows, index 1 for training rows.
    totals, counts = np.zeros((2, model.task.n_out)), np.zeros((2, 1))
    for first, second in combinations(training.members.values(), 2):
        fold = first.spec.fold
        if fold is None or fold != second.spec.fold:
            continue
        squares = (_point_output(model, first, inputs) - _point_output(model, second, inputs)) ** 2
        for i, mask in enumerate((training.folds.holds_out(fold), training.folds.learns(fold))):
            totals[i] += squares[mask[sample]].sum(axis=0)
            counts[i] += mask[sample].sum()
    if not counts.all() or not totals[1].all():
        return np.ones(model.task.n_out)
    unseen, seen = totals / counts
    ratio: NDArray[np.float64] = np.maximum(1, unseen / seen)
    return ratio


def _point_output(model: TableModel, member: Member, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the predictions (n, n_targets) of one network in units of `target_units`."""
    outputs = model.postprocess(model.member_output(member, model.member_inputs(member, inputs)))
    return model.point_predictions(outputs) / target_units(model)


def ensemble_r2(
    model: TableModel,
    predictions: HeldOutPredictions,
    y: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    spread: NDArray[np.float64],
) -> float:
    """Estimate the R^2 of the mean of all members on new rows; of several targets, return the smallest R^2.

    Only one or two networks predict each held-out row, but all members predict a new row. The squared error of the mean
    of M members is that of a single member minus (1 - 1 / M) times the variance of the members' predictions (Krogh and
    Vedelsby, 1995). R^2 is 1 minus the ratio of this error to the unbiased estimate of the variance of the targets.

    Parameters
    ----------
    model : TableModel
    predictions : HeldOutPredictions
    y : array (m, n_targets)
        Targets of the held-out rows.
    weights : array (m,), optional
        Sample weights.
    spread : array (n_targets,)
        Variance of the members' predictions, see `member_spread`.
    """
    units, w = target_units(model), np.ones(len(y)) if weights is None else weights
    P, y = model.point_predictions(predictions.values) / units, y / units
    # The mean of k networks has 1 / k of the variance of a single network. The squared error contains this variance.
    fraction = float(np.average(1 / predictions.n_networks, weights=w))
    rows = w.sum() ** 2 / (w**2).sum()  # effective sample size (Kish, 1965)
    scores: list[float] = []
    for j, spread_of_target in enumerate(spread):
        error = float(np.average((y[:, j] - P[:, j]) ** 2, weights=w))
        variance = float(np.average((y[:, j] - np.average(y[:, j], weights=w)) ** 2, weights=w))
        if variance > 0 and rows > 1:
            variance *= rows / (rows - 1)  # unbiased estimate of the target's variance
            error -= min(float(spread_of_target), error / fraction) * (fraction - 1 / len(model.members))
            scores.append(float(1 - error / variance))
        else:
            scores.append(float(METRICS["r2"](y[:, [j]], P[:, [j]], weights)))
    return min(scores)


def compare_members(model: TableModel, rows: Rows, training: Training, error: float, seed: int) -> Gain | None:
    """Estimate from training rows by how much the mean of all members is better than a single member.

    Parameters
    ----------
    model : TableModel
    rows : Rows
        The training rows.
    training : Training
        Training of the members, which has the folds.
    error : float
        Mean error of single members on held-out rows, see `TableModel.row_errors`.
    seed : int
        Seed for the random choice of at most MAX_COMPARED_ROWS training rows.

    Returns
    -------
    Gain or None
        None if no two members learned from the same row, or if nearly all training rows are classified correctly.
    """
    sample = np.random.default_rng([seed, 5]).permutation(len(rows.y))[:MAX_COMPARED_ROWS]
    learned = np.stack([training.folds.learns(member.spec.fold)[sample] for member in model.members])
    several = learned.sum(axis=0) > 1
    if not several.any():
        return None
    sample, learned = sample[several], learned[:, several]
    inputs, truth = rows.inputs[model.features][sample], rows.y[sample]
    weights = None if rows.weights is None else rows.weights[sample]
    mean, errors = np.zeros((len(sample), model.task.n_network_outputs)), []
    for member, has_learned in zip(model.members, learned, strict=True):
        output = model.member_output(member, model.member_inputs(member, inputs))
        errors.append(model.row_errors(model.postprocess(output), truth))
        mean += output * (has_learned / learned.sum(axis=0))[:, None]
    gain = ensemble_gain(np.stack(errors), model.row_errors(model.postprocess(mean), truth), learned, weights)
    if model.task.kind == "numbers":
        return gain
    learned_error = float(np.stack(errors)[learned].mean())
    if error > MAX_ERROR_RATIO * learned_error:
        return None
    return gain.scaled(max(1.0, error / learned_error) if learned_error > 0 else 1.0)


def evaluate(model: TableModel, rows: Rows, training: Training, seed: int) -> None:
    """Compute the estimates of a model on held-out rows, and store them in the model.

    The estimates are `held_out`, `gain` and `spread`, and also `importances` unless the table has many columns. If no
    rows were held out, the function does nothing.

    Parameters
    ----------
    model : TableModel
        Model of the trained members.
    rows : Rows
        The training rows.
    training : Training
        Training of the members.
    seed : int
        Seed of the random numbers, such as those that sample rows.
    """
    networks = training.held_out_networks()
    if not networks:
        return
    predictions, temperature, ratio = predict_held_out(model, rows, networks)
    indices, classes = predictions.rows, model.task.kind == "classes"
    values, y, weights = predictions.values, rows.y[indices], None if rows.weights is None else rows.weights[indices]
    if classes:
        score = ensemble_accuracy(model, predictions, y, weights)
        calibration_error = expected_calibration_error(values, y, sample_weight=weights)
    else:
        score = ensemble_r2(model, predictions, y, weights, member_spread(model, rows, training, seed))
        calibration_error = np.nan
    single = model.held_out._replace(temperature=temperature, temperature_ratio=ratio)
    model.held_out = single.with_networks(len(model.members), 1)
    model.outcomes = describe_predictions(model, values, y)
    error = float(np.average(model.row_errors(values, y), weights=weights))
    model.gain = compare_members(model, rows, training, error, seed)
    scores = model.calibrate_conformal(rows, indices, values, y, training.folds.groups_of(indices), seed)
    order = np.random.default_rng([seed, 3]).permutation(len(indices))
    sample = np.sort(indices[order[:MAX_IMPORTANCE_ROWS]])
    model.held_out = model.held_out._replace(
        n=len(indices),
        score=score,
        calibration_error=calibration_error,
        scores=scores,
        class_scores=ClassScores.compute(values, y, weights) if classes else None,
    )
    model.importance_data = ImportanceData(
        rows.inputs[max(network.features for network in networks)][sample],
        rows.y[sample],
        None if rows.weights is None else rows.weights[sample],
        [network.restrict(sample) for network in networks],
    )
    if len(model.schema.names) <= MAX_AUTO_IMPORTANCE_COLUMNS:
        find_importances(model)


def describe_predictions(
    model: TableModel, values: NDArray[np.float64], y: NDArray[Any]
) -> ClassOutcomes | list[NumberOutcomes]:
    """Return the statistics of predictions for held-out rows; each row counts once, whatever its weight."""
    if model.task.kind == "classes":
        return ClassOutcomes.compute(values, y)
    points = model.point_predictions(values)
    return [NumberOutcomes.compute(points[:, j], y[:, j]) for j in range(y.shape[1])]


def find_importances(model: TableModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the importances (columns,) of a model and their standard errors; the first call computes them.

    Raises
    ------
    ValueError
        There are no held-out rows, or the model was loaded from a file without importances.
    """
    if model.importances is None:
        if model.importance_data is None:
            raise ValueError(
                "importances require held-out rows, got none; fit 10 rows or more, and call find_importances() before "
                "save()"
            )
        model.importances = _importances(model, model.importance_data, model.facts["seed"])
        model.importance_data = None
    return model.importances


def _importances(model: TableModel, data: ImportanceData, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the decrease of the score if a column is permuted, and the standard error, two arrays (columns,).

    The score is the accuracy, or the mean R^2 of the targets.
    """
    schema, n = model.schema, len(data.y)
    n_networks = np.bincount(np.concatenate([network.rows for network in data.networks]), minlength=n)[:, None]
    if model.task.kind != "classes":
        units = target_units(model)
        y, weights = data.y / units, data.weights
        variance = np.average((y - np.average(y, axis=0, weights=weights)) ** 2, axis=0, weights=weights)
        variance = np.where(variance > 0, variance, 1)

    def losses(X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the loss (n,) of each row; a row is predicted by the networks that did not train on it."""
        mean = np.zeros((n, model.task.n_network_outputs))
        for network, inputs, rows, _ in data.networks:
            outputs = network.predict(np.ascontiguousarray(X[rows, : schema.width(inputs)]))
            mean[rows] += model.convert_outputs(outputs.astype(np.float64)) / n_networks[rows]
        predictions = model.postprocess(mean)
        if model.task.kind == "classes":
            return np.asarray(predictions.argmax(axis=1) != data.y, np.float64)
        points = model.point_predictions(predictions) / units
        squared: NDArray[np.float64] = ((points - y) ** 2 / variance).mean(axis=1)
        return squared

    groups = schema.groups(max(network.features for network in data.networks))
    repeats = max(1, min(MAX_REPEATS, MAX_PERMUTATIONS // len(groups)))
    means, errors = permutation_importances(losses, data.inputs, groups, repeats, seed, data.weights)
    return means, CORRELATION_FACTOR * errors
