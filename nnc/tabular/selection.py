"""Which members a model keeps: those whose outputs are plausible, and the best ones for a small file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.tabular.recipe import Task
    from nnc.tabular.training import Member, Rows

MAX_OUTPUT_RATIO = 3.0  # largest output for a training row, relative to the median of the members


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


def best_members(task: Task, members: Sequence[Member], count: int) -> list[Member]:
    """Return the best members on their held-out rows, in the order of the model.

    Members that learned from all rows have no score of their own; they come after all others.

    Parameters
    ----------
    task : Task
    members : sequence of Member
    count : int
        From 1 to the number of members.
    """

    def error(i: int) -> float:
        curve = members[i].curve
        if not curve:
            return np.inf
        return min(curve) if task.metric is None else -max(curve)

    order = sorted(range(len(members)), key=error)
    return [members[i] for i in sorted(order[:count])]
