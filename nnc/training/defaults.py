"""What `fit` does where its user leaves everything out: how long, in which steps, at which rate, how scaled. The rule
was chosen with benchmarks/defaults.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.training.schedules import CosineLR, PerStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnc.data.intake import Intake

OPTIMIZER = "adam"
RATE = 0.02  # of the first step; the last one's is next to 0
STEPS, EPOCHS = 10_000, 20  # at least
FEWEST, MOST = 32, 256  # rows of a step, in between a hundredth of all


def filled(said: Mapping[str, Any], intake: Intake, n: int) -> dict[str, Any]:
    """The arguments of a fit on n rows that leaves all of this out, and what it takes for them."""
    batch = said.get("batch_size")
    if batch is None:
        batch = min(max(FEWEST, n // 100), MOST)
        while batch < n and n % batch == 1:  # a BatchNorm needs two rows
            batch += 1
    epochs = max(EPOCHS, -(-STEPS // -(-n // batch)))
    falling = CosineLR(RATE)
    by_step = intake.model.custom is None  # whose batches come one by one
    lr = PerStep(falling) if by_step else falling
    return {**said, "batch_size": batch, "epochs": epochs, "optimizer": OPTIMIZER, "lr": lr}


def scale(intake: Intake, open_: frozenset[str], X: Any, n: int) -> None:
    """Chooses the scalings that a fresh network leaves open. Images of whole bytes are pixels, others stay as they are;
    of targets, those are scaled that are numbers of any size."""
    from nnc.data.scaling import Pixels, Standardize

    model, scaler_X, scaler_y = intake.model, intake.scaler_X, intake.scaler_y
    if "scale_X" in open_:
        if len(model.shape) == 1:
            scaler_X = Standardize() if n > 1 else None
        elif getattr(X, "dtype", None) == np.uint8:
            scaler_X = Pixels()
            intake.scaling_X = scaler_X.known("scale_X", model.shape)
    of_numbers = intake.loss.takes == "numbers" and model.activations[-1] == "identity"
    if "scale_y" in open_ and of_numbers and n > 1 and model.custom is None and model.heads is None:
        scaler_y = Standardize()
    intake.scale_by(scaler_X, scaler_y)
