"""Estimates on held-out rows: score, temperature, calibration error, nonconformity scores and importances.

They are made with the snapshots of snapshots.py, which the rows that they predict have neither trained nor selected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._data.metrics import METRICS
from nnc.tabular.explain import permutation_importances
from nnc.tabular.selection import MAX_COMPARED_ROWS, MAX_ERROR_RATIO, gain_over_one
from nnc.tabular.snapshots import EPSILON, HeldOut, ImportanceData
from nnc.tabular.temperature import expected_calibration_error, fit_temperature, with_temperature

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nnc.tabular.model import TableModel
    from nnc.tabular.selection import Gain
    from nnc.tabular.snapshots import HeldOutNetwork
    from nnc.tabular.training import Member, Rows, Training

MAX_SHUFFLED_ROWS = 1000  # held-out rows that importances are computed with
MAX_SPREAD_ROWS = 500  # rows that the spread of the members is computed with
BLOCK_ROWS = 1 << 12  # rows that are copied and predicted at a time
MAX_PERMUTATIONS, REPEATS = 60, 5  # permuted data sets in all, and for each column
MAX_COLUMNS = 100  # up to which importances take at most a tenth of the time of a fit
# Networks of different folds learn from the held-out rows of one another, so errors in different folds are correlated
# (Bengio and Grandvalet, 2004). On noise columns the ratio of importance and standard error over independent rows has a
# standard deviation of 1.1 to 1.2, which this factor brings below 1.
CORRELATION_FACTOR = 1.25


def blocks(rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Yield the rows in blocks that bound the memory for copies of them."""
    for start in range(0, len(rows), BLOCK_ROWS):
        yield rows[start : start + BLOCK_ROWS]


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
    gain : float
        Expected difference in accuracy between the mean of very many networks and one of them, see `expected_gain`; 0
        for regression.
    """

    rows: NDArray[np.intp]
    answers: NDArray[np.float64]
    networks: NDArray[np.intp]
    gain: float = 0.0


def predict_held_out(model: TableModel, rows: Rows, judges: Sequence[HeldOutNetwork]) -> tuple[Predictions, float]:
    """Return predictions for the rows of all judges, and the temperature that is fitted on all of them.

    The probabilities of a part have the temperature that is fitted on the other parts. The temperature is 1 for
    regression.
    """
    indices, inverse = np.unique(np.concatenate([judge.rows for judge in judges]), return_inverse=True)
    part = np.concatenate([judge.part for judge in judges])
    outputs = np.concatenate(
        [judge.network.predict(rows.inputs(judge.bins)[some]) for judge in judges for some in blocks(judge.rows)]
    ).astype(np.float64)
    temperature, classes = 1.0, model.task.kind == "classes"
    weights = None if rows.weights is None else rows.weights[indices]
    if classes:
        y, row_weights = rows.y[indices][inverse], None if weights is None else weights[inverse]
        temperature = fit_temperature(np.log(np.maximum(outputs, EPSILON)), y, row_weights)
        outputs = _calibrated(outputs, y, row_weights, part)
    else:
        outputs = model.meant(outputs)
    networks = np.bincount(inverse, minlength=len(indices))
    mean = np.zeros((len(indices), model.task.n_network_outputs))
    np.add.at(mean, inverse, outputs / networks[inverse, None])  # a sum of the outputs might overflow
    gain = expected_gain(outputs, inverse, mean, networks, weights) if classes else 0.0
    return Predictions(indices, model.formed(mean), networks, gain), temperature


def expected_gain(
    P: NDArray[np.float64],
    index: NDArray[np.intp],
    mean: NDArray[np.float64],
    networks: NDArray[np.intp],
    weights: NDArray[np.float64] | None,
) -> float:
    """Return the expected difference in accuracy between the mean of very many networks and one of them.

    The mean of k networks is right more often than one of them by c (1 - 1 / k), if the error of the mean is a constant
    plus c / k, as the squared error is (Krogh and Vedelsby, 1995). c is found from the rows that several networks
    predict, without their labels: the mean probability of the class that the mean predicts, less that of the classes
    that the networks predict. The networks have the best epochs on most of these rows, so their labels would favour
    single networks. The estimate is cautious: the mean of two networks is less certain than that of many.

    Parameters
    ----------
    P : array (n, n_classes)
        Calibrated probabilities.
    index : int array (n,)
        The row of `mean` that a row of P belongs to.
    mean : array (m, n_classes)
        Mean probabilities.
    networks : int array (m,)
        Number of networks that predict each row.
    weights : array (m,), optional
        Sample weights.

    Returns
    -------
    float
        c; 0 if no row is predicted by several networks.
    """
    w = np.ones(len(mean)) if weights is None else weights
    one = np.bincount(index, mean[index, P.argmax(axis=1)], len(mean)) / networks
    total = float(w @ (1 - 1 / networks))
    return float(w @ (mean.max(axis=1) - one)) / total if total > 0 else 0.0


def ensemble_accuracy(
    model: TableModel, predictions: Predictions, y: NDArray[Any], weights: NDArray[np.float64] | None
) -> float:
    """Return the accuracy of the mean of all members on new rows.

    A held-out row is predicted by one or two networks, a new row by all members: see `expected_gain`.
    """
    share = float(np.average(1 / predictions.networks, weights=weights))
    gain = predictions.gain * (share - 1 / len(model.members))
    return float(np.clip(model.score(predictions.answers, y, weights) + gain, 0, 1))


def _calibrated(
    P: NDArray[np.float64], y: NDArray[Any], weights: NDArray[np.float64] | None, part: NDArray[np.int8]
) -> NDArray[np.float64]:
    """Return probabilities at temperatures that are fitted on the rows of other parts."""
    calibrated = P.copy()
    for j in np.unique(part):
        own, other = part == j, part != j
        if other.any():
            logits = np.log(np.maximum(P[other], EPSILON))
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
    """Return the variance of the predictions of the members for a new row, (n_targets,), in units of `target_units`.

    Most members have learned from each training row, and they agree more on it than on a new row. So their variance on
    rows that they have learned from is multiplied by `unseen_ratio`. No targets are used.
    """
    some = np.sort(np.random.default_rng([seed, 4]).permutation(len(rows.y))[:MAX_SPREAD_ROWS])
    learned = np.stack([~training.held_out_mask(member.spec.fold)[some] for member in model.members])
    counts = learned.sum(axis=0)
    if counts.max() < 2:
        return np.zeros(model.task.n_out)
    inputs = rows.inputs(rows.bins is not None)[some]
    outputs = np.stack([_middle_output(model, member, inputs) for member in model.members])
    several = counts > 1
    outputs, learned, counts = outputs[:, several], learned[:, several, None], counts[several, None]
    deviations = np.where(learned, outputs - (outputs / counts).sum(axis=0, where=learned), 0)
    variances = (deviations**2 / (counts - 1)).sum(axis=0)
    weights = None if rows.weights is None else rows.weights[some][several]
    spread: NDArray[np.float64] = np.average(variances, axis=0, weights=weights)
    return spread * unseen_ratio(model, inputs, training, some)


def unseen_ratio(
    model: TableModel, inputs: NDArray[np.float32], training: Training, some: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return how many times as much networks disagree on new rows as on rows that they have learned from, (n_targets,).

    It is the ratio of the mean squared differences of two networks, one of each encoding, that hold out the same fold:
    on the rows of this fold and on the other ones. It is 1 or more, and 1 if there are no such pairs.

    Parameters
    ----------
    model : TableModel
    inputs : array (n, width)
        Encoded rows, with bins if the training has tried them.
    training : Training
    some : int array (n,)
        The numbers of these rows.
    """
    totals, counts = np.zeros((2, model.task.n_out)), np.zeros((2, 1))
    members = training.members
    for spec, member in members.items():
        partner = members.get(spec._replace(number=spec.number + 1, bins=True))
        if spec.fold is None or spec.bins or partner is None:
            continue
        squares = (_middle_output(model, member, inputs) - _middle_output(model, partner, inputs)) ** 2
        held = training.held_out_mask(spec.fold)[some]
        for i, part in enumerate((held, ~held)):
            totals[i] += squares[part].sum(axis=0)
            counts[i] += part.sum()
    if not counts.all() or not totals[1].all():
        return np.ones(model.task.n_out)
    new, seen = totals / counts
    ratio: NDArray[np.float64] = np.maximum(1, new / seen)
    return ratio


def _middle_output(model: TableModel, member: Member, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the predictions of one network (n, n_targets), the median of quantiles, in units of `target_units`."""
    outputs = model.formed(model.output(member, model.seen_by(member, inputs)))
    return model.middle(outputs) / target_units(model)


def ensemble_r2(
    model: TableModel,
    predictions: Predictions,
    y: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    spread: NDArray[np.float64],
) -> float:
    """Return the R^2 of the mean of all members on new rows, the smallest one of several targets.

    A held-out row is predicted by one or two networks, a new row by all members. The squared error of the mean of M
    members is that of a single member less the variance of the members times 1 - 1 / M (Krogh and Vedelsby, 1995). It
    is divided by the unbiased estimate of the variance of the targets.

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
    rows = w.sum() ** 2 / (w**2).sum()  # as many rows of equal weight tell as much (Kish, 1965)
    scores: list[float] = []
    for j, spread_of_target in enumerate(spread):
        error = float(np.average((y[:, j] - P[:, j]) ** 2, weights=w))
        variance = float(np.average((y[:, j] - np.average(y[:, j], weights=w)) ** 2, weights=w))
        if variance > 0 and rows > 1:
            variance *= rows / (rows - 1)  # unbiased: the mean of new rows is not that of these rows
            error -= min(float(spread_of_target), error / share) * (share - 1 / len(model.members))
            scores.append(float(1 - error / variance))
        else:
            scores.append(float(METRICS["r2"](y[:, [j]], P[:, [j]], weights)))
    return min(scores)


def compare_members(model: TableModel, rows: Rows, training: Training, error: float, seed: int) -> Gain | None:
    """Compare single members with all of them on training rows.

    Parameters
    ----------
    model : TableModel
    rows : Rows
        The training rows.
    training : Training
        It knows which rows a member has learned from.
    error : float
        Mean of `TableModel.row_errors` of a single member for held-out rows.
    seed : int

    Returns
    -------
    Gain or None
        None if no row was learned by two members, and for classes if nearly all answers for learned rows are right.
    """
    some = np.random.default_rng([seed, 5]).permutation(len(rows.y))[:MAX_COMPARED_ROWS]
    learned = np.stack([~training.held_out_mask(member.spec.fold)[some] for member in model.members])
    several = learned.sum(axis=0) > 1
    if not several.any():
        return None
    some, learned = some[several], learned[:, several]
    inputs, truth = rows.inputs(True in model.encodings)[some], rows.y[some]
    weights = None if rows.weights is None else rows.weights[some]
    mean, errors = np.zeros((len(some), model.task.n_network_outputs)), []
    for member, own in zip(model.members, learned, strict=True):
        output = model.output(member, model.seen_by(member, inputs))
        errors.append(model.row_errors(model.formed(output), truth))
        mean += output * (own / learned.sum(axis=0))[:, None]
    found = gain_over_one(np.stack(errors), model.row_errors(model.formed(mean), truth), learned, weights)
    if model.task.kind == "numbers":
        return found
    learned_error = float(np.stack(errors)[learned].mean())
    if error > MAX_ERROR_RATIO * learned_error:
        return None
    return found.scaled(max(1.0, error / learned_error) if learned_error > 0 else 1.0)


def evaluate(model: TableModel, rows: Rows, training: Training, seed: int) -> None:
    """Set `held_out` of a model, and `importances` unless there are many columns; nothing if no rows were held out.

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
    judges = training.held_out_networks()
    if not judges:
        return
    predictions, temperature = predict_held_out(model, rows, judges)
    indices, classes = predictions.rows, model.task.kind == "classes"
    answers, y, weights = predictions.answers, rows.y[indices], None if rows.weights is None else rows.weights[indices]
    if classes:
        score = ensemble_accuracy(model, predictions, y, weights)
        calibration_error = expected_calibration_error(answers, y, sample_weight=weights)
    else:
        score = ensemble_r2(model, predictions, y, weights, member_spread(model, rows, training, seed))
        calibration_error = np.nan
    model.held_out = model.held_out._replace(temperature=temperature)
    error = float(np.average(model.row_errors(answers, y), weights=weights))
    model.gain = compare_members(model, rows, training, error, seed)
    scores = model.calibrate(rows, indices, answers, y, seed)
    order = np.random.default_rng([seed, 3]).permutation(len(indices))
    some = np.sort(indices[order[:MAX_SHUFFLED_ROWS]])
    model.held_out = HeldOut(len(indices), score, calibration_error, temperature, scores)
    model.shuffle = ImportanceData(
        rows.plain[some],
        rows.bins[some] if rows.bins is not None and any(judge.bins for judge in judges) else None,
        rows.y[some],
        None if rows.weights is None else rows.weights[some],
        [judge.restrict(some) for judge in judges],
    )
    if len(model.schema.names) <= MAX_COLUMNS:
        find_importances(model)


def find_importances(model: TableModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the importances of a model and their standard errors, (columns,) each; compute them the first time.

    Raises
    ------
    ValueError
        No rows were held out, or the model comes from a file without importances.
    """
    if model.importances is None:
        if model.shuffle is None:
            raise ValueError("no importances can be found: no rows were held out, or the file has none")
        model.importances = _importances(model, model.shuffle, model.facts["seed"])
        model.shuffle = None
    return model.importances


def _importances(
    model: TableModel, shuffle: ImportanceData, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return by how much the score falls if a column is permuted, and the standard errors, (columns,) each.

    The score is the accuracy, or the mean R^2 of the targets.
    """
    inputs = shuffle.plain if shuffle.bins is None else shuffle.bins
    width, n = shuffle.plain.shape[1], len(shuffle.y)
    times = np.bincount(np.concatenate([judge.rows for judge in shuffle.networks]), minlength=n)[:, None]
    if model.task.kind != "classes":
        units = target_units(model)
        y, weights = shuffle.y / units, shuffle.weights
        variance = np.average((y - np.average(y, axis=0, weights=weights)) ** 2, axis=0, weights=weights)
        variance = np.where(variance > 0, variance, 1)

    def losses(X: NDArray[np.float32]) -> NDArray[np.float64]:
        mean = np.zeros((n, model.task.n_network_outputs))
        for judge in shuffle.networks:
            some = X[judge.rows] if judge.bins else np.ascontiguousarray(X[judge.rows, :width])
            mean[judge.rows] += model.meant(judge.network.predict(some).astype(np.float64)) / times[judge.rows]
        answers = model.formed(mean)
        if model.task.kind == "classes":
            return np.asarray(answers.argmax(axis=1) != shuffle.y, np.float64)
        squared: NDArray[np.float64] = ((model.middle(answers) / units - y) ** 2 / variance).mean(axis=1)
        return squared

    groups = model.schema.groups(bins=shuffle.bins is not None)
    repeats = max(1, min(REPEATS, MAX_PERMUTATIONS // len(groups)))
    means, errors = permutation_importances(losses, inputs, groups, repeats, seed, shuffle.weights)
    return means, CORRELATION_FACTOR * errors
