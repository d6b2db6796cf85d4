"""Selection of members: those whose outputs are plausible, and the best ones for a small file."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc.tabular.recipe import Task
    from nnc.tabular.training import Member, Rows

MAX_OUTPUT_RATIO = 3.0  # largest output for a training row, relative to the median of the members
MAX_COMPARED_ROWS = 1000  # training rows on which single members are compared with all
MAX_ERROR_RATIO = 4.0  # of held-out rows to learned rows, up to which these tell the gain for classes
NOISE_ERRORS = 2.0  # standard errors up to which a difference is noise


class Gain(NamedTuple):
    """Gain of all members over a single one in the score on new rows.

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

    def scaled(self, factor: float) -> Gain:
        """Return the gain on rows where errors are more frequent by this factor."""
        return Gain(self.mean * factor, self.error * factor)


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
        All members where none that has held-out rows would remain.
    """
    if task.loss != "poisson":
        return list(members)
    outputs = (member.network.predict(rows.inputs(member.spec.bins)) for member in members)
    largest = np.stack([output.max(axis=0).astype(np.float64) for output in outputs])
    plausible = (largest <= MAX_OUTPUT_RATIO * np.median(largest, axis=0)).all(axis=1)
    kept = [member for member, keep in zip(members, plausible, strict=True) if keep]
    return kept if any(member.spec.fold is not None for member in kept) else list(members)


def gain_over_one(
    one: NDArray[np.float64],
    every: NDArray[np.float64],
    learned: NDArray[np.bool_],
    weights: NDArray[np.float64] | None,
) -> Gain:
    """Return the gain of the mean of members over a single one, from rows that all of them have learned from.

    Members and mean are compared on equal terms, as no row is held out from one of them only. The difference of squared
    errors is the variance of the members, whatever the targets are (Krogh and Vedelsby, 1995), so for regression it is
    the same on new rows. Wrong classes are rarer on these rows than on new ones, and so are the differences: see
    `Gain.scaled`.

    Parameters
    ----------
    one : array (members, n)
        Errors of each member.
    every : array (n,)
        Errors of the mean of the members that have learned from a row.
    learned : bool array (members, n)
        Which members have learned from a row: two or more for each row.
    weights : array (n,), optional
        Sample weights.
    """
    w = np.ones(len(every)) if weights is None else weights
    w = w / w.sum()
    counts = learned.sum(axis=0)
    differences = np.where(learned, one - every, 0)
    mean = float(w @ (differences.sum(axis=0) / counts))
    squares = np.where(learned, (differences - mean) ** 2, 0).sum(axis=0) / counts
    return Gain(mean, float(np.sqrt(w**2 @ squares)))


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
