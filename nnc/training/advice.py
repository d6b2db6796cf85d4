"""Warnings after a training that shows a common mistake: one each, with what to do.

They are classes of their own, so that they can be turned off::

    warnings.simplefilter("ignore", nnc.TrainingWarning)
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from nnc.kinds import activations
from nnc.training.batches import BatchFit
from nnc.training.fit import LARGE_INPUT

if TYPE_CHECKING:
    from nnc.model.model import Model
    from nnc.training.fit import Fit
    from nnc.training.history import History

SATURATED = 0.99  # share of a layer's outputs that are near the ends of their range
RISES = 5  # epochs in a row
ROWS = 1000  # to look at
FEW = 8  # say nothing about a layer


class TrainingWarning(UserWarning):
    """What the warnings of this module have in common."""


class NotConvergedWarning(TrainingWarning):
    """All epochs are done, and the rule that was to end the training has not been met."""


class DeadLayerWarning(TrainingWarning):
    """A relu layer puts out nothing but zeros, so nothing below it learns."""


class SaturatedLayerWarning(TrainingWarning):
    """A hidden layer of sigmoid or tanh is nearly always at an end of its range, where its derivative vanishes."""


class LearningRateWarning(TrainingWarning):
    """The loss has risen for several epochs in a row: the learning rate is too large."""


class UnscaledInputWarning(TrainingWarning):
    """Inputs are so large that training is slow, or diverges."""


def advise(run: Fit, history: History) -> None:
    """Looks at a training that is over, in some microseconds, and warns the caller of `fit`."""
    model, plan, reason = run.model, run.plan, history.stop_reason
    if not history.epochs:
        return
    if reason == "epochs" and (plan.patience is not None or plan.target_loss is not None):
        rule = "patience" if plan.target_loss is None else f"target_loss of {plan.target_loss:g}"
        _warn(
            NotConvergedWarning,
            f"the training ended after {history.epochs} epochs before its {rule} was met: give it more epochs or a "
            "larger learning rate",
        )
    rises, risen_from = run.rises()
    if rises >= RISES and history.loss[-1] > 1.5 * abs(risen_from):
        _warn(
            LearningRateWarning,
            f"the loss has risen in the last {rises} epochs, from {risen_from:.4g} to {history.loss[-1]:.4g}: try a "
            f"learning rate smaller than {history.lr[-1]:g}",
        )
    if run.intake.largest > LARGE_INPUT:
        _warn(
            UnscaledInputWarning,
            f"X reaches up to {run.intake.largest:g}, and networks learn best from inputs around -1 to 1: pass "
            'scale_X="standardize" to NeuralNetwork, or scale X',
        )
    shares = [(l, share) for l, share in enumerate(_idle(run)) if share > SATURATED]
    if not shares:
        return
    rows = [activations.ROWS[name] for name in model.activations]
    dead = [l for l, share in shares if rows[l].dead and share == 1]
    stuck = [l for l, _ in shares if not rows[l].dead]
    if dead:
        _warn(
            DeadLayerWarning,
            f"{_layers(model, dead)} put{'s' * (len(dead) == 1)} out nothing but zeros, so the layers below have "
            "stopped learning: try a smaller learning rate, leaky_relu, or other initial weights (another seed)",
        )
    if stuck:
        least = min(share for l, share in shares if l in stuck)
        _warn(
            SaturatedLayerWarning,
            f"{least:.0%} of the outputs of {_layers(model, stuck)} are at an end of their range, where a layer hardly "
            "learns: scale the inputs, or try a smaller learning rate or smaller initial weights",
        )


def _layers(model: Model, layers: list[int]) -> str:
    names = " and ".join(f"{l + 1} ({model.activations[l]})" for l in layers)
    return f"hidden layer{'s' * (len(layers) > 1)} {names}"


def _idle(run: Fit) -> list[float]:
    """Of each hidden layer the share of outputs whose derivative is nearly zero. The last block is at hand; where
    it looks bad, more rows are asked: it may have been a single one. Where there are none, as a batch is all that is
    held, and the batch is small, nothing can be said."""
    if run.training.epoch:  # else the training went on elsewhere
        shares: list[float] = run.training.idle(run.model.ends)
        if not shares or max(shares) <= SATURATED:
            return shares
    rows = run.data.X[:ROWS]
    if len(rows) < FEW and isinstance(run, BatchFit):
        return []
    outs = run.model.forward(rows)
    shares = [0.0] * len(run.model.ends)
    for l, (ends, out) in enumerate(zip(run.model.ends, outs[:-1], strict=True)):
        if ends is not None:
            low, high = ends
            shares[l] = float(((out <= low) | (out >= high)).mean())
    return shares


def _warn(kind: type[TrainingWarning], message: str) -> None:
    warnings.warn(message, kind, stacklevel=5)
