"""Warnings after a training that shows a common mistake: one each, with what to do.

They are classes of their own, so that they can be turned off::

    warnings.simplefilter("ignore", nnc.TrainingWarning)
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from nnc._registry import activations
from nnc._training.batches import BatchLoop
from nnc._training.divergence import LARGE_INPUT, scaler_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from nnc._model.model import Model
    from nnc._training.history import History
    from nnc._training.loop import TrainingLoop
    from nnc._training.options import TrainingOptions

SATURATED = 0.99  # share of a layer's outputs that are near the ends of their range
RISES = 5  # epochs in a row
FEW = 8  # rows say nothing about a layer
FALLING = 0.1  # share of what is monitored: what falls by more within the patience is not at its end
SPENT = 1e-4  # a rate below this share of the schedule's largest one trains hardly anything
MANY = 0.1  # share of the epochs
LARGE_LOSS = 0.01  # share of the first one: where the last is larger, and there were some epochs, it is worth a look
SOME_EPOCHS = 10
MIN_VALIDATION_ROWS = 20  # the loss of fewer rows is too noisy to show overfitting
OVERFIT_VAL_RATIO = 1.5  # last validation loss divided by the lowest one
OVERFIT_LOSS_RATIO = 0.5  # last training loss divided by that of the epoch with the lowest validation loss


class TrainingWarning(UserWarning):
    """What the warnings of this module have in common."""


class NotConvergedWarning(TrainingWarning):
    """All epochs are done, and the loss was to fall further: `target_loss` has not been met, or, with `patience`, what
    is monitored was still falling markedly."""


class DeadLayerWarning(TrainingWarning):
    """A relu layer puts out nothing but zeros, so nothing below it learns."""


class SaturatedLayerWarning(TrainingWarning):
    """A layer of sigmoid or tanh is nearly always at an end of its range, where its derivative vanishes; the output
    layer though many targets are at the other end."""


class DivergedWarning(TrainingWarning):
    """Of many networks that were trained at once, one has come to numbers that are not finite: it has the last finite
    weights, and the others are trained on."""


class EqualNeuronsWarning(TrainingWarning):
    """All neurons of a hidden layer are the same, as with init="zeros", and so are their gradients: they stay it, and
    the layer can do no more than a single neuron."""


class TargetRangeWarning(TrainingWarning):
    """Targets lie where the output layer cannot reach, such as 5 or -1 for a sigmoid."""


class LearningRateWarning(TrainingWarning):
    """The learning rate is too large, as the loss has risen for several epochs in a row; or its schedule has ended, and
    many epochs had a rate of nearly 0."""


class OverfittingWarning(TrainingWarning):
    """The last validation loss is more than 1.5 times the lowest one, while the training loss has fallen below half of
    its value at that epoch. From 20 validation rows on, and not with `restore_best` or `patience`, which keep the best
    weights."""


class UnscaledInputWarning(TrainingWarning):
    """Inputs are so large that training is slow, or diverges."""


def advise(run: TrainingLoop, history: History, stacklevel: int) -> None:
    """Looks at a training that is over, in some microseconds, and warns the caller of `fit`, so many frames up."""
    for kind, message in findings(run, history):
        warnings.warn(message, kind, stacklevel)


def _looks_well(run: TrainingLoop, loss: NDArray[np.float64]) -> bool:
    """Whether there is nothing to find, seen at one glance: nearly always in short runs."""
    model = run.model
    return (
        run.is_plain
        and run.state.schedule is None
        and run.dataset.converter.max_abs_input <= LARGE_INPUT
        and (len(loss) < SOME_EPOCHS or loss.item(-1) <= LARGE_LOSS * loss.item(0))
        and not model.has_image_input
        and run.training.is_healthy(model.saturation_ranges, RISES, SATURATED)
    )


def findings(run: TrainingLoop, history: History) -> Iterable[tuple[type[TrainingWarning], str]]:
    """The mistakes, one by one."""
    loss = history.loss
    return () if not len(loss) or _looks_well(run, loss) else _found(run, history)


def _found(run: TrainingLoop, history: History) -> Iterator[tuple[type[TrainingWarning], str]]:
    """What takes longer, where something looks bad."""
    model, options, loss = run.model, run.options, history.loss
    epochs = len(loss)
    if history.stop_reason == "epochs" and (options.target_loss is not None or options.patience is not None):
        unmet = _unmet(options, history)
        if unmet:
            yield (
                NotConvergedWarning,
                f"the training ended after {epochs} epochs, {unmet}: give it more epochs or a larger learning rate",
            )
    overfitting = _overfitting(run, history)
    if overfitting:
        yield OverfittingWarning, overfitting
    equal = _equal(model)
    if equal:
        yield (
            EqualNeuronsWarning,
            f"all neurons of {_layers(model, equal)} are the same, and stay so, as their gradients are: give them "
            'different initial weights (leave out init="zeros")',
        )
    output_stuck = 0.0
    rises, risen_from = run.rises()
    if rises >= RISES and loss[-1] > 1.5 * abs(risen_from):
        yield (
            LearningRateWarning,
            f"the loss has risen in the last {rises} epochs, from {risen_from:.4g} to {loss[-1]:.4g}: try a "
            f"learning rate smaller than {history.lr[-1]:g}",
        )
    elif run.state.schedule is not None and (spent := _spent(run, history)):
        yield (
            LearningRateWarning,
            f"the learning rate of {run.state.schedule!r} was next to nothing, {history.lr[-1]:g} at last, in {spent} "
            f"of {epochs} epochs: give fit fewer epochs, the schedule more, or lr again",
        )
    elif model.loss_function is None and epochs >= SOME_EPOCHS and not equal and not loss[-1] <= LARGE_LOSS * loss[0]:
        from nnc._training.second_look import stuck_output, targets_beyond

        beyond, scaled = targets_beyond(run), "scaled " if run.dataset.converter.scaler_y is not None else ""
        few = run.data.n < FEW and isinstance(run, BatchLoop)
        output_stuck = 0.0 if beyond or few else stuck_output(run)
        if beyond:
            low, high = activations.ROWS[model.activations[-1]].output_range
            yield (
                TargetRangeWarning,
                f"the {scaled}targets reach from {beyond[0]:g} to {beyond[1]:g}, "
                f"and outputs of {model.activations[-1]} only from {low:g} to {high:g}: scale the targets into that "
                'range, or choose another output, such as output="identity"',
            )
    if run.dataset.converter.max_abs_input > LARGE_INPUT:
        yield (
            UnscaledInputWarning,
            f"X reaches up to {run.dataset.converter.max_abs_input:g}, and networks learn best from inputs around -1 "
            f'to 1: pass scale_X="{scaler_for(run.dataset.converter.max_abs_input)}" to NeuralNetwork, or scale X',
        )
    yield from _about_layers(run, equal, output_stuck)


def _about_layers(
    run: TrainingLoop, equal: list[int], output_stuck: float
) -> Iterator[tuple[type[TrainingWarning], str]]:
    """Find layers that hardly learn.

    Parameters
    ----------
    run : TrainingLoop
    equal : list of int
        Hidden layers to leave out.
    output_stuck : float
        Share of the outputs of the last layer that are at the wrong end of their range.
    """
    model = run.model
    shares = [(l, share) for l, share in enumerate(_idle(run)) if share > SATURATED and l not in equal]
    if output_stuck > SATURATED:
        shares.append((len(model.activations) - 1, output_stuck))
    if not shares:
        return
    rows_of = [activations.ROWS[name] for name in model.activations]
    dead = [l for l, share in shares if rows_of[l].dead_when_saturated and share == 1]
    stuck = [l for l, _ in shares if not rows_of[l].dead_when_saturated]
    if dead:
        yield (
            DeadLayerWarning,
            f"{_layers(model, dead)} put{'s' * (len(dead) == 1)} out nothing but zeros, so the layers below have "
            "stopped learning: try a smaller learning rate, leaky_relu, or other initial weights (another seed)",
        )
    if stuck:
        least = min(share for l, share in shares if l in stuck)
        yield (
            SaturatedLayerWarning,
            f"{least:.0%} of the outputs of {_layers(model, stuck)} are at an end of their range, where a layer hardly "
            "learns: scale the inputs, or try a smaller learning rate or smaller initial weights",
        )


def _layers(model: Model, layers: list[int]) -> str:
    hidden = [l for l in layers if l < len(model.activations) - 1]
    names = " and ".join(f"{l + 1} ({model.activations[l]})" for l in hidden)
    parts = [f"hidden layer{'s' * (len(hidden) > 1)} {names}"] if hidden else []
    if len(hidden) < len(layers):
        parts.append(f"the output layer ({model.activations[-1]})")
    return " and ".join(parts)


def _unmet(options: TrainingOptions, history: History) -> str:
    """What was to end the training and has not, in words; nothing where its end by `epochs` is as good. With patience,
    epochs are an upper limit, and all is well unless what is monitored has got markedly better of late."""
    if options.target_loss is not None:
        return f"before its target_loss of {options.target_loss:g} was met"
    assert options.patience is not None
    late = min(options.patience, history.epochs // 2)
    if not late:
        return ""
    values = -history[options.monitor] if options.larger_is_better else history[options.monitor]
    before, lately = values[:-late].min(), values[-late:].min()
    way = "rising" if options.larger_is_better else "falling"
    return f"while {options.monitor} was still {way}" if before - lately > FALLING * abs(before) else ""


def _overfitting(run: TrainingLoop, history: History) -> str:
    """Return the message of an OverfittingWarning, empty if the validation loss does not show overfitting."""
    loss, val_loss, validation = history.loss, history.val_loss, run.dataset.validation
    if validation is None or val_loss is None or validation.n < MIN_VALIDATION_ROWS or run.options.keeps_best:
        return ""
    best = int(val_loss.argmin())
    lowest, last = float(val_loss[best]), float(val_loss[-1])
    if not (0 < OVERFIT_VAL_RATIO * lowest < last and loss[-1] < OVERFIT_LOSS_RATIO * loss[best]):
        return ""
    if last < np.finfo(run.model.dtype).eps * val_loss[0]:  # a perfect fit: only rounding errors have changed
        return ""
    return (
        f"val_loss has risen from {lowest:.4g} after epoch {best + 1} of {len(loss)} to {last:.4g}, while loss has "
        f"fallen from {loss[best]:.4g} to {loss[-1]:.4g}: the network overfits; pass restore_best=True or patience=20 "
        "to keep the weights of the best epoch, or give it more rows, weight decay, dropout or fewer neurons"
    )


def _equal(model: Model) -> list[int]:
    """The hidden layers whose neurons have the same weights, those that go out included."""
    found = []
    for l, W in enumerate(model.W[:-1]):
        if W.size < 2 or W.item(0) != W.item(1):  # nearly always
            continue
        if W.shape[1] > 1 and not model.stack.parametric_layers[l].kind.columnwise:
            b, out = model.b[l], model.W[l + 1]
            if (W[:, :1] == W).all() and (b is None or (b == b[0]).all()) and (out == out[0]).all():
                found.append(l)
    return found


def _spent(run: TrainingLoop, history: History) -> int:
    """In how many epochs the rate of a schedule was next to nothing; 0 where they are few, or patience has seen to it
    that they are. A plateau may have lowered its rate in this fit, as nothing was to be gained any more."""
    if history.stop_reason == "patience":
        return 0
    peak = getattr(run.state.schedule, "peak", 0.0)
    spent = int((history.lr < SPENT * peak).sum())
    return spent if spent > (history.epochs - 1 if run.state.plateau is not None else MANY * history.epochs) else 0


def _idle(run: TrainingLoop) -> list[float]:
    """Of each hidden layer the share of outputs whose derivative is nearly zero. The last block is at hand; where
    it looks bad, more rows are asked: it may have been a single one. Where there are none, as a batch is all that is
    held, and the batch is small, nothing can be said."""
    if run.training.epoch:  # else the training went on elsewhere
        shares = run.model.saturated_fractions(run.training)
        if not shares or max(shares) <= SATURATED:
            return shares
    from nnc._training.second_look import sample

    rows = sample(run.data).X
    if len(rows) < FEW and isinstance(run, BatchLoop):
        return []
    outs = run.model.forward(rows)
    shares = [0.0] * len(run.model.saturation_ranges)
    for l, (ends, out) in enumerate(zip(run.model.saturation_ranges, outs[:-1], strict=True)):
        if ends is not None:
            low, high = ends
            shares[l] = float(((out <= low) | (out >= high)).mean())
    return shares
