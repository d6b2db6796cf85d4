"""What may be wrong with a training whose loss is still large, found on some of its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnc._registry import activations, losses

if TYPE_CHECKING:
    from nnc._model.data import Data
    from nnc._training.loop import TrainingLoop

ROWS = 1000  # to look at
SOME = 0.01  # of the targets, and of their spread: less is noise
WRONG = 0.2  # share of the rows


def sample(data: Data) -> Data:
    """Some of the rows that count, from all over the data."""
    if data.weights is None and data.n <= ROWS:
        return data
    counting = np.arange(data.n) if data.weights is None else np.flatnonzero(data.weights)
    return data.rows(counting[:: -(-len(counting) // ROWS)])


def targets_beyond(run: TrainingLoop) -> tuple[float, float] | None:
    """The smallest and the largest target, where a part of them lies out of what the output can give."""
    low, high = activations.ROWS[run.model.activations[-1]].output_range
    if (
        low == -high == -np.inf or losses.ROWS[run.model.loss].output_required
    ):  # whose targets are checked before a training
        return None
    Y = sample(run.data).target
    least, most = float(Y.min()), float(Y.max())
    if low <= least and most <= high:
        return None
    with np.errstate(all="ignore"):
        margin = SOME * (most - least)
        beyond = (low - margin > Y) | (high + margin < Y)
    return (least, most) if beyond.mean() > SOME else None


def stuck_output(run: TrainingLoop) -> float:
    """The share of outputs at an end of their range, where a good part of the rows should be at the other one; else 0.
    Where the slope of the output is no part of the gradient, it learns on."""
    row = activations.ROWS[run.model.activations[-1]]
    if row.saturation_range is None or losses.ROWS[run.model.loss].output_required:
        return 0.0
    low, high = row.saturation_range
    rows = sample(run.data)
    P, Y = run.model.forward(rows.X)[-1], rows.target
    if low < P.min() and P.max() < high:
        return 0.0
    with np.errstate(all="ignore"):
        wrong = low < Y if row.dead_when_saturated else abs(P - Y) > (high - low) / 2
    return float(((low >= P) | (high <= P)).mean()) if wrong.any(axis=1).mean() >= WRONG else 0.0
