"""Which members a model keeps: those whose outputs are plausible, and the best ones for a small file."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

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


def gain(one: NDArray[np.float64], every: NDArray[np.float64], weights: NDArray[np.float64] | None) -> Gain:
    """Return the gain of all members over one.

    Parameters
    ----------
    one, every : array (n,)
        Errors of one member and of all members for the same rows.
    weights : array (n,), optional
        Sample weights.
    """
    differences = one - every
    w = np.ones(len(one)) if weights is None else weights
    w = w / w.sum()
    mean = float(w @ differences)
    return Gain(mean, float(np.sqrt(w**2 @ (differences - mean) ** 2)))


def best_members(task: Task, members: Sequence[Member], count: int) -> list[Member]:
    """Return the members with the best scores on their held-out rows, in the order of the model.

    Members that learned from all rows have no score of their own and come after the others.
    """

    def error(i: int) -> float:
        curve = members[i].curve
        if not curve:
            return float("inf")
        return min(curve) if task.metric is None else -max(curve)

    order = sorted(range(len(members)), key=error)
    return [members[i] for i in sorted(order[:count])]
