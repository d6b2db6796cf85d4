"""Which members a model keeps: those whose outputs are plausible, and the best ones for a small file."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc.tabular.model import TableModel
    from nnc.tabular.recipe import Task
    from nnc.tabular.training import Member, Rows

MAX_OUTPUT_RATIO = 3.0  # largest output for a training row, relative to the median of the members
MAX_COMPARED_ROWS = 2000  # held-out rows on which one member is compared with all
NOISE_ERRORS = 2.0  # standard errors up to which a difference is noise


class Gain(NamedTuple):
    """How much higher the score of all members is than that of one, on held-out rows.

    The rows are held out from the one member only, so the gain is overestimated rather than underestimated.

    Attributes
    ----------
    mean : float
        Difference of the accuracies, or of the mean R^2 of the targets.
    error : float
        Standard error of the mean of the paired differences.
    """

    mean: float
    error: float

    @property
    def is_noise(self) -> bool:
        """Whether one member is as good as all within the noise."""
        return self.mean <= NOISE_ERRORS * self.error


def without_outliers(task: Task, members: Sequence[Member], rows: Rows) -> list[Member]:
    """Return the members without those that predict far larger numbers than most.

    Outputs under Poisson's loss are exponentials. With a heavy-tailed target a member that learns one extreme row by
    heart predicts huge numbers for the rows around it, and spoils the mean of all members. Such a member shows on the
    training rows: its largest output exceeds MAX_OUTPUT_RATIO times the median of the members' largest outputs.

    Parameters
    ----------
    task : Task
        Members of other losses than Poisson's are all kept.
    members : sequence of Member
    rows : Rows
        The training rows.

    Returns
    -------
    list of Member
        All members where each of them is an outlier for one of several targets.
    """
    if task.loss != "poisson":
        return list(members)
    outputs = (member.network.predict(rows.inputs(member.spec.bins)) for member in members)
    largest = np.stack([output.max(axis=0).astype(np.float64) for output in outputs])
    plausible = (largest <= MAX_OUTPUT_RATIO * np.median(largest, axis=0)).all(axis=1)
    return [member for member, keep in zip(members, plausible, strict=True) if keep] or list(members)


def ensemble_gain(model: TableModel, rows: Rows, index: NDArray[np.intp], answers: NDArray[np.float64]) -> Gain | None:
    """Compare single members with all of them on held-out rows.

    Parameters
    ----------
    model : TableModel
    rows : Rows
        The training rows.
    index : int array (n,)
        The held-out rows among them.
    answers : array (n, ...)
        Answers of one member for each held-out row, which has not learned from it.

    Returns
    -------
    Gain or None
        None for a model of one member, or for fewer than two held-out rows.
    """
    if len(model.members) < 2 or len(index) < 2:
        return None
    some = np.random.default_rng([model.facts["seed"], 5]).permutation(len(index))[:MAX_COMPARED_ROWS]
    inputs = rows.inputs(True in model.encodings)[index[some]]
    truth = rows.y[index[some]]
    weights = np.ones(len(some)) if rows.weights is None else rows.weights[index[some]]
    difference = _row_errors(model, answers[some], truth) - _row_errors(model, model.answer(inputs), truth)
    weights = weights / weights.sum()
    mean = float(weights @ difference)
    return Gain(mean, float(np.sqrt(weights**2 @ (difference - mean) ** 2)))


def _row_errors(model: TableModel, answers: NDArray[np.float64], truth: NDArray[Any]) -> NDArray[np.float64]:
    """Return errors (n,) whose mean is 1 less the score: wrong classes, or squared errors relative to the variance."""
    if model.task.kind == "classes":
        return (answers.argmax(axis=1) != truth).astype(np.float64)
    scale = truth.std(axis=0)
    relative = (model.middle(answers) - truth) / np.where(scale > 0, scale, 1)
    errors: NDArray[np.float64] = (relative**2).mean(axis=1)
    return errors


def with_members(model: TableModel, count: int) -> TableModel:
    """Return a model of the `count` best members on their held-out rows; it shares all else.

    Members that learned from all rows have no score of their own and come after the others.
    """
    if count == len(model.members):
        return model

    def error(member: Member) -> float:
        if not member.curve:
            return np.inf
        return min(member.curve) if model.task.metric is None else -max(member.curve)

    order = sorted(range(len(model.members)), key=lambda i: error(model.members[i]))
    small = copy(model)
    small.members = [model.members[i] for i in sorted(order[:count])]
    small.baseline = model.baseline[: model.schema.width(bins=True in small.encodings)]
    small.shuffle = small.gain = None
    return small
