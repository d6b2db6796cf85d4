"""Selection of members: removal of members with implausible outputs, and choice of the best ones for a small file."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc.tabular.recipe import Task
    from nnc.tabular.training import Member, Rows

MAX_OUTPUT_RATIO = 3.0  # maximum of a member's largest output, relative to the median of all members
MAX_COMPARED_ROWS = 1000  # maximum number of training rows on which members are compared
# The gain in accuracy is not estimated if (error on held-out rows / error on training rows) is larger.
MAX_ERROR_RATIO = 4.0
NOISE_ERRORS = 2.0  # differences of up to this number of standard errors count as noise


class Gain(NamedTuple):
    """Score of the mean of all members minus the score of a single member, on new rows.

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
        """Return whether the gain of all members over a single one is within the noise."""
        return self.mean <= NOISE_ERRORS * self.error

    def scaled(self, factor: float) -> Gain:
        """Return the gain for rows on which errors are more frequent by `factor`, with its standard error."""
        return Gain(self.mean * factor, self.error * factor)


def remove_outliers(task: Task, members: Sequence[Member], rows: Rows) -> list[Member]:
    """Remove the members that predict much larger numbers than most members.

    With Poisson's loss the outputs are exponentials. If a target is heavy-tailed, a member that overfits one extreme
    row predicts very large numbers for similar rows, which distort the mean of all members. Such a member is detected
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
    outputs = (member.network.predict(rows.inputs(member.spec.bins)) for member in members)
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
    """Return the gain of the mean of members over a single member, estimated on training rows.

    For each row, only members that have learned from it are used, both for the mean and as single members, so the
    comparison is fair. The difference of squared errors is the variance of the members for any targets (Krogh and
    Vedelsby, 1995). Therefore the gain in regression is the same on new rows. In classification, errors and their
    differences are rarer on training rows than on new rows; see `Gain.scaled`.

    Parameters
    ----------
    member_errors : array (members, n)
        Errors of each member.
    ensemble_errors : array (n,)
        Errors of the mean of the members that have learned from a row.
    learned : bool array (members, n)
        Whether a member has learned from a row; two or more members have learned from each row.
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


def best_members(task: Task, members: Sequence[Member], count: int) -> list[Member]:
    """Return the members with the best scores on their held-out rows, in the order of the model.

    Members that learned from all rows have no held-out score and are chosen last.
    """

    def error(i: int) -> float:
        """Return the validation error of member i at its best epoch, or infinity without validation."""
        curve = members[i].curve
        if not curve:
            return float("inf")
        return min(curve) if task.metric is None else -max(curve)

    order = sorted(range(len(members)), key=error)
    return [members[i] for i in sorted(order[:count])]
