"""What `fit` does where its user says nothing of rate and optimizer: how long, in which steps, at which rate, how
scaled. The rule was chosen with benchmarks/defaults.py."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.base.checks import count
from nnc.training.plan import RULES
from nnc.training.schedules import CosineLR, PerStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnc.data.intake import Intake
    from nnc.model.model import Model

OPTIMIZER, RATE = "adam", 0.001  # where it is not known how long; its own
PEAK, FEW_INPUTS = 0.02, 64  # the rate of the first step, where no neuron has more inputs; the last one's is next to 0
STEPS, EPOCHS = 10_000, 20  # at least
FEWEST, MOST = 32, 256  # rows of a step, in between a hundredth of all
ENDS = {*RULES} - {"callback"}  # what ends a training that has no epochs, and was not made to look on alone


def falling(model: Model) -> CosineLR:
    """The rate. A step of Adam changes each weight by as much, and so what a neuron adds up by the more, the more
    inputs it has."""
    most = max(len(W) for W in model.W if W is not None)
    return CosineLR(PEAK * min(1.0, sqrt(FEW_INPUTS / most)))


def batch_of(n: int) -> int:
    """How many of n rows a step takes."""
    batch = min(max(FEWEST, n // 100), MOST)
    while batch < n and n % batch == 1:  # a BatchNorm needs two rows
        batch += 1
    return batch


def chosen(said: Mapping[str, Any], network: Any, intake: Intake, X: Any, n: int, before: Any) -> dict[str, Any]:
    """The arguments of a fit on n rows of X that goes by the rule; `intake` gets the scalings. See `filled`."""
    scale(intake, network._open_scalings(), X, n)
    return filled(said, n, network.model, before)


def filled(said: Mapping[str, Any], n: int, model: Model, before: Any) -> dict[str, Any]:
    """The arguments of a fit that leaves its rate and optimizer out, and what it takes for them.

    Parameters
    ----------
    said : dict
        The arguments, those that are not the defaults.
    n : int
        How many rows there are.
    model : Model
    before : State or None
        What the network could go on from. Where that went by this rule, it does for the epochs that are left of it, as
        from a checkpoint, and where nobody knows how long; else Adam begins anew.
    """
    batch = said.get("batch_size") or batch_of(n)
    filled = {**said, "batch_size": batch}
    goes_on = before is not None and before.by_rule
    if "epochs" not in said and not said.keys().isdisjoint(ENDS):  # nobody knows when: at the optimizer's own rate
        return {**filled, "lr": RATE, **({} if goes_on else {"optimizer": OPTIMIZER})}
    if "epochs" not in said:
        filled["epochs"] = max(EPOCHS, -(-STEPS // -(-n // batch)))
    elif goes_on and isinstance(before.schedule, PerStep):
        left = before.schedule.epochs - before.epoch
        if count("epochs", said["epochs"]) <= left:
            return {**filled, "lr": before.schedule}
    return {**filled, "lr": PerStep(falling(model)), "optimizer": OPTIMIZER}


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
