"""Checks of outputs and targets after a training that ends with a large loss, on a sample of the training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnc._registry import activations, losses

if TYPE_CHECKING:
    from nnc._model.data import Data
    from nnc._training.loop import TrainingLoop

MAX_SAMPLE_ROWS = 1000  # maximum number of rows that are searched for unreachable targets and saturated outputs
MIN_OUTSIDE_FRACTION = 0.01  # warn if more than this fraction of the targets is outside the output range
RANGE_TOLERANCE = 0.01  # a target may exceed the output range by this fraction of the range of all targets
MIN_WRONG_FRACTION = 0.2  # warn about saturated outputs only if at least this fraction of rows has wrong outputs


def sample_rows(data: Data) -> Data:
    """Return evenly spaced rows with positive weights, at most `MAX_SAMPLE_ROWS` of them."""
    if data.weights is None and data.n <= MAX_SAMPLE_ROWS:
        return data
    weighted = np.arange(data.n) if data.weights is None else np.flatnonzero(data.weights)
    return data.rows(weighted[:: -(-len(weighted) // MAX_SAMPLE_ROWS)])


def unreachable_targets(run: TrainingLoop) -> tuple[float, float] | None:
    """Return the smallest and the largest target if too many targets are outside the output range, else None."""
    low, high = activations.ROWS[run.minimizer.model.activations[-1]].output_range
    # Skip losses that require a certain output activation: their targets were checked before the training.
    if low == -high == -np.inf or losses.ROWS[run.minimizer.model.loss].output_required:
        return None
    Y = sample_rows(run.data).target
    if not ((low > Y) | (high < Y)).any():
        return None
    smallest, largest = float(Y.min()), float(Y.max())
    with np.errstate(all="ignore"):
        margin = RANGE_TOLERANCE * (largest - smallest)
        outside = (low - margin > Y) | (high + margin < Y)
    return (smallest, largest) if outside.mean() > MIN_OUTSIDE_FRACTION else None


def saturated_output_fraction(run: TrainingLoop) -> float:
    """Return the fraction of saturated outputs.

    Return 0 if few rows have a target at the opposite limit of the output range. Return 0 too if the derivative of the
    output activation is not a factor of the gradient, because the layer then learns although it is saturated.
    """
    row = activations.ROWS[run.minimizer.model.activations[-1]]
    if row.saturation_range is None or losses.ROWS[run.minimizer.model.loss].output_required:
        return 0.0
    if run.data.lengths is not None and len(run.minimizer.model.stack.output_shape) == 2:
        return 0.0  # skip padded sequences: outputs after their end are 0 and would count as saturated
    low, high = row.saturation_range
    rows = sample_rows(run.data)
    P, Y = run.minimizer.model.forward(rows)[-1].reshape(rows.n, -1), rows.target
    fraction = np.count_nonzero((low >= P) | (high <= P)) / P.size
    if not fraction:
        return 0.0
    with np.errstate(all="ignore"):
        is_wrong = low < Y if row.dead_when_saturated else abs(P - Y) > (high - low) / 2
    return fraction if is_wrong.any(axis=1).mean() >= MIN_WRONG_FRACTION else 0.0
