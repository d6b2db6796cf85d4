"""Selection of members: removal of members with implausible outputs, and choice of the best members for a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc.tabular.recipe import Task
    from nnc.tabular.training import Member, Rows

MAX_OUTPUT_RATIO = 3.0  # remove members whose largest output exceeds this multiple of the median over all members
MAX_COMPARED_ROWS = 1000  # maximum number of training rows on which members are compared with the ensemble
# The gain in accuracy is not estimated if the error on held-out rows is more than this multiple of the training error.
MAX_ERROR_RATIO = 4.0
MAX_NOISE_STANDARD_ERRORS = 2.0  # a gain is significant only if it exceeds this multiple of its standard error


class Gain(NamedTuple):
    """Score of the mean of all members minus the score of a single member, on new rows.

    Attributes
    ----------
    mean : float
        Difference of the accuracies, or of the values of R^2 averaged over the targets.
    error : float
        Standard error of `mean`, from the differences in each row.
    """

    mean: float
    error: float

    @property
    def is_noise(self) -> bool:
        """Return whether the gain is not significant: `mean` is at most two standard errors above 0."""
        return self.mean <= MAX_NOISE_STANDARD_ERRORS * self.error

    def scaled(self, factor: float) -> Gain:
        """Return a Gain multiplied by `factor`, the ratio of the error on new rows to the error on training rows."""
        return Gain(self.mean * factor, self.error * factor)


def remove_outliers(task: Task, members: Sequence[Member], rows: Rows) -> list[Member]:
    """Remove the members that predict much larger numbers than most members.

    With Poisson's loss, the outputs are exponentials. If a target is heavy-tailed, a member may overfit one extreme row
    and predict very large numbers for similar rows, which distort the mean of all members. Such a member is detected
    on the training rows: its largest output exceeds MAX_OUTPUT_RATIO times the median of the members' largest outputs.

    Parameters
    ----------
    task : Task
        Task of the members; members are removed only for Poisson's loss.
    members : sequence of Member
    rows : Rows
        The training rows.

    Returns
    -------
    list of Member
        Members with plausible outputs, or all members if no member with plausible outputs has held-out rows.
    """
    if task.loss != "poisson":
        return list(members)
    outputs = (member.network.predict(rows.inputs[member.features]) for member in members)
    largest = np.stack([output.max(axis=0).astype(np.float64) for output in outputs])
    is_plausible = (largest <= MAX_OUTPUT_RATIO * np.median(largest, axis=0)).all(axis=1)
    plausible = [member for member, keep in zip(members, is_plausible, strict=True) if keep]
    return plausible if any(member.spec.fold is not None for member in plausible) else list(members)


def ensemble_gain(
    member_errors: NDArray[np.float64],
    ensemble_errors: NDArray[np.float64],
    learned: NDArray[np.bool_],
    weights: NDArray[np.float64] | None,
) -> Gain:
    """Estimate from training rows by how much the mean of members is better than a single member.

    For a fair comparison, only the members that have learned from a row predict this row, both in the mean and as
    single members. In regression, the difference of the squared errors is the variance of the members for any targets
    (Krogh and Vedelsby, 1995), so the estimate is also valid for new rows. In classification, errors and their
    differences are less frequent on training rows than on new rows; see `Gain.scaled`.

    Parameters
    ----------
    member_errors : array (members, n)
        Errors of each member in each row.
    ensemble_errors : array (n,)
        For each row, the error of the mean of the members that have learned from it.
    learned : bool array (members, n)
        Whether each member has learned from each row. At least two members must have learned from each row.
    weights : array (n,), optional
        Sample weights.
    """
    w = np.ones(len(ensemble_errors)) if weights is None else weights
    w = w / w.sum()
    counts = learned.sum(axis=0)
    differences = np.where(learned, member_errors - ensemble_errors, 0)
    mean = float(w @ (differences.sum(axis=0) / counts))
    squares = np.where(learned, (differences - mean) ** 2, 0).sum(axis=0) / counts
    return Gain(mean, float(np.sqrt(w**2 @ squares)))


def best_members(members: Sequence[Member], count: int) -> list[Member]:
    """Return the `count` members with the smallest loss on their held-out rows, in the order of the model.

    Members that learned from all rows have no such loss; they are only chosen if there are too few other members.
    """
    order = sorted(range(len(members)), key=lambda i: min(members[i].curve, default=float("inf")))
    return [members[i] for i in sorted(order[:count])]
