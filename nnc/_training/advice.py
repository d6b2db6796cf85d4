"""Warnings about common mistakes, which `fit` issues after the training.

Each message names a remedy. Each kind of warning has its own class, which a filter can turn off::

    warnings.simplefilter("ignore", nnc.TrainingWarning)
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from nnc._registry import activations
from nnc._training.divergence import LARGE_INPUT, suggested_scaler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from nnc._model.model import Model
    from nnc._training.history import History
    from nnc._training.loop import TrainingLoop
    from nnc._training.options import TrainingOptions

SATURATED_FRACTION = 0.99  # warn if more than this fraction of a layer's outputs is saturated
MIN_LAYER_ROWS = 8  # warn about the outputs of a layer only if at least this many rows were computed
MIN_CHECKED_EPOCHS = 10  # check the targets only after a fit of at least this many epochs
MIN_RISING_EPOCHS = 5  # warn if the loss has risen in at least this many epochs in a row
MIN_DECREASE = 0.1  # warn if the last `patience` epochs decreased the monitored value by more than this fraction
MIN_RATE_FRACTION = 1e-4  # an epoch is wasted if its learning rate is below this fraction of the peak
MAX_WASTED_FRACTION = 0.1  # warn if tiny learning rates wasted more than this fraction of the epochs
# check the targets only if the ratio of the last to the first training loss exceeds this number
LARGE_LOSS_RATIO = 0.01
# minimum number of validation rows for detecting overfitting; the loss of fewer rows is too noisy
MIN_VALIDATION_ROWS = 20
# A network overfits if the last validation loss exceeds the lowest one by this factor, and if the training loss has
# fallen by more than this fraction since the epoch with the lowest validation loss.
OVERFIT_VAL_RATIO, OVERFIT_LOSS_DECREASE = 1.5, 0.5


class TrainingWarning(UserWarning):
    """Base class of the warnings that `fit` issues after a training."""


class NotConvergedWarning(TrainingWarning):
    """Warning that a training ended before it converged.

    All epochs are done, but the loss has not reached `target_loss`, or the value that `patience` monitors was still
    improving by more than 10 % within the last `patience` epochs. A training without `epochs` has reached its limit.
    """


class DeadLayerWarning(TrainingWarning):
    """Warning that all outputs of a relu layer are zero, so that the layers before it do not learn."""


class SaturatedLayerWarning(TrainingWarning):
    """Warning that nearly all outputs of a sigmoid or tanh layer are near a limit of their range.

    The derivative is almost 0 there, so the layer hardly learns. For the output layer, the warning is issued only if
    many targets are near the opposite limit.
    """


class DivergedWarning(TrainingWarning):
    """Warning that one of the networks in `fit_many` has diverged.

    This network keeps its last finite weights, and the training of the other networks continues.
    """


class EqualNeuronsWarning(TrainingWarning):
    """Warning that all neurons of a hidden layer have the same weights, for example with init="zeros".

    Their gradients are equal too, so the neurons remain equal, and the layer is equivalent to a single neuron.
    """


class TargetRangeWarning(TrainingWarning):
    """Warning that targets are outside the range of the output layer, such as 5 or -1 for a sigmoid."""


class LearningRateWarning(TrainingWarning):
    """Warning that the learning rate is too large or almost 0.

    Either the loss has risen in several epochs in a row, or the schedule gave a learning rate of almost 0 in many
    epochs.
    """


class OverfittingWarning(TrainingWarning):
    """Warning that the validation loss has risen while the training loss has fallen.

    The last validation loss is more than 1.5 times the lowest one, and the training loss has fallen below half of its
    value at that epoch. The warning needs at least 20 validation rows. It is not issued with `restore_best` or
    `patience`, which keep the best weights.
    """


class FewRowsWarning(TrainingWarning):
    """Warning that a fit with automatic settings has fewer than 20 rows, which are too few to validate the settings."""


class LeakageWarning(TrainingWarning):
    """Warning that held-out rows are no test, because of copies of rows, or of a column that contains the target.

    Many rows equal an earlier row in all columns of X and y. Automatic settings, random splits and tables keep copies
    together, so that no row is validated on its copies. Tables also report columns that determine the target.
    """


class UnscaledInputWarning(TrainingWarning):
    """Warning that inputs are so large that the training is slow or diverges."""


def advise(run: TrainingLoop, history: History, stacklevel: int) -> None:
    """Issue a warning for each mistake that the training shows; the caller of `fit` is `stacklevel` frames up."""
    for kind, message in findings(run, history):
        warnings.warn(message, kind, stacklevel)


def _is_unremarkable(run: TrainingLoop, loss: NDArray[np.float64]) -> bool:
    """Return True if a quick check of about a microsecond shows that the training needs no warning."""
    model = run.minimizer.model
    return (
        run.is_plain
        and run.state.schedule is None
        and run.dataset.converter.max_abs_input <= LARGE_INPUT
        and (len(loss) < MIN_CHECKED_EPOCHS or loss.item(-1) <= LARGE_LOSS_RATIO * loss.item(0))
        and not model.uses_lanes
        and model.slope_weight is None
        and run.minimizer.training.is_healthy(model.saturation_ranges, MIN_RISING_EPOCHS, SATURATED_FRACTION)
    )


def findings(run: TrainingLoop, history: History) -> Iterable[tuple[type[TrainingWarning], str]]:
    """Return the class and the message of each warning about a training."""
    loss = history.loss
    return () if not len(loss) or _is_unremarkable(run, loss) else _check(run, history)


def _check(run: TrainingLoop, history: History) -> Iterator[tuple[type[TrainingWarning], str]]:
    """Yield the class and the message of each warning about a training."""
    model, options, loss = run.minimizer.model, run.options, history.loss
    epochs = len(loss)
    has_goal = options.target_loss is not None or options.patience is not None or options.epochs is None
    if history.stop_reason == "epochs" and has_goal:
        unmet = _unmet_goal(options, history)
        if unmet:
            yield (
                NotConvergedWarning,
                f"the training ended after {epochs} epochs, {unmet}; use more epochs or a larger learning rate",
            )
    if options.is_uncertain:
        yield (
            FewRowsWarning,
            f"the automatic settings are uncertain, because the number of rows ({run.data.n}) is too small for their "
            "validation; use at least 20 rows or a linear model, or pass lr and epochs to set them yourself",
        )
    if options.copies is not None:
        yield LeakageWarning, options.copies
    overfitting = _overfitting(run, history)
    if overfitting:
        yield OverfittingWarning, overfitting
    equal = _layers_of_equal_neurons(model)
    if equal:
        yield (
            EqualNeuronsWarning,
            f"all neurons of {_layer_names(model, equal)} have the same weights and the same gradients, so they stay "
            'equal; use different initial weights (leave out init="zeros")',
        )
    saturated_outputs = 0.0
    n_rising, loss_before = run.minimizer.loss_rises()
    if n_rising >= MIN_RISING_EPOCHS and loss[-1] > 1.5 * abs(loss_before):
        yield (
            LearningRateWarning,
            f"the loss has risen in the last {n_rising} epochs, from {loss_before:.4g} to {loss[-1]:.4g}; try a "
            f"learning rate smaller than {history.lr[-1]:g}",
        )
    elif run.state.schedule is not None and (n_wasted := _count_wasted_epochs(run, history)):
        yield (
            LearningRateWarning,
            f"the learning rate of {run.state.schedule!r} was almost 0, at last {history.lr[-1]:g}, in {n_wasted} of "
            f"{epochs} epochs; use fewer epochs, a longer schedule, or pass lr again",
        )
    elif (
        model.loss_function is None
        and epochs >= MIN_CHECKED_EPOCHS
        and not equal
        and not loss[-1] <= LARGE_LOSS_RATIO * loss[0]
    ):
        from nnc._training.output_checks import saturated_output_fraction, unreachable_targets

        limits, scaled = unreachable_targets(run), "scaled " if run.dataset.converter.scaler_y is not None else ""
        if limits:
            low, high = activations.ROWS[model.activations[-1]].output_range
            yield (
                TargetRangeWarning,
                f"the {scaled}targets range from {limits[0]:g} to {limits[1]:g}, "
                f"but outputs of {model.activations[-1]} only from {low:g} to {high:g}; scale the targets into that "
                'range, or choose another output, such as output="identity"',
            )
        elif run.data.n >= MIN_LAYER_ROWS or not run.minimizer.reads_batches:
            saturated_outputs = saturated_output_fraction(run)
    largest = run.dataset.converter.max_abs_input
    if largest > LARGE_INPUT:
        yield (
            UnscaledInputWarning,
            f"X reaches up to {largest:g}, but networks learn best from inputs between about -1 and 1; "
            f'pass scale_X="{suggested_scaler(largest)}" to NeuralNetwork, or scale X',
        )
    yield from _check_layers(run, equal, saturated_outputs)


def _check_layers(
    run: TrainingLoop, equal: list[int], saturated_outputs: float
) -> Iterator[tuple[type[TrainingWarning], str]]:
    """Yield warnings about layers that hardly learn.

    Parameters
    ----------
    run : TrainingLoop
        Completed training.
    equal : list of int
        Hidden layers to skip, counted from 0, because all their neurons are equal.
    saturated_outputs : float
        Fraction of the outputs of the last layer that are saturated although their targets are at the opposite limit.
    """
    model = run.minimizer.model
    fractions = {
        l: fraction
        for l, fraction in enumerate(_saturated_fractions(run))
        if fraction > SATURATED_FRACTION and l not in equal
    }
    if saturated_outputs > SATURATED_FRACTION:
        fractions[len(model.activations) - 1] = saturated_outputs
    if not fractions:
        return
    can_die = [activations.ROWS[name].dead_when_saturated for name in model.activations]
    dead = [l for l, fraction in fractions.items() if can_die[l] and fraction == 1]
    saturated = [l for l in fractions if not can_die[l]]
    if dead:
        yield (
            DeadLayerWarning,
            f"all outputs of {_layer_names(model, dead)} are zero, so the layers below have stopped learning; try a "
            "smaller learning rate, leaky_relu, or other initial weights (another seed)",
        )
    if saturated:
        yield (
            SaturatedLayerWarning,
            f"{min(fractions[l] for l in saturated):.0%} of the outputs of {_layer_names(model, saturated)} are at an "
            "end of their range, where a layer hardly learns; scale the inputs, or try a smaller learning rate or "
            "smaller initial weights",
        )


def _layer_names(model: Model, layers: list[int]) -> str:
    """Return the names of layers as text for messages; `layers` contains the indices of the layers, from 0."""
    hidden = [l for l in layers if l < len(model.activations) - 1]
    names = " and ".join(f"{l + 1} ({model.activations[l]})" for l in hidden)
    parts = [f"hidden layer{'s' * (len(hidden) > 1)} {names}"] if hidden else []
    if len(hidden) < len(layers):
        parts.append(f"the output layer ({model.activations[-1]})")
    return " and ".join(parts)


def _unmet_goal(options: TrainingOptions, history: History) -> str:
    """Return a clause that names the goal of a training that ended before reaching it; "" if the goal was reached.

    The goal is `target_loss`, or with `patience` the end of the improvement of the monitored value.
    """
    if options.target_loss is not None:
        return f"before the loss reached target_loss={options.target_loss:g}"
    if options.epochs is None:
        return "the limit of a fit without epochs"
    assert options.patience is not None
    n_last = min(options.patience, history.epochs // 2)
    if not n_last:
        return ""
    values = -history[options.monitor] if options.larger_is_better else history[options.monitor]
    earlier, last = values[:-n_last].min(), values[-n_last:].min()
    direction = "rising" if options.larger_is_better else "falling"
    is_improving = earlier - last > MIN_DECREASE * abs(earlier)
    return f"while {options.monitor} was still {direction}" if is_improving else ""


def _overfitting(run: TrainingLoop, history: History) -> str:
    """Return the message of an OverfittingWarning, empty if the validation loss does not show overfitting."""
    loss, val_loss, validation = history.loss, history.val_loss, run.dataset.validation
    if validation is None or val_loss is None or validation.n < MIN_VALIDATION_ROWS or run.options.restore_best:
        return ""
    best = int(val_loss.argmin())
    lowest, last = float(val_loss[best]), float(val_loss[-1])
    decrease = OVERFIT_LOSS_DECREASE * abs(loss[best])  # use the absolute value, because some losses may be negative
    if not (0 < OVERFIT_VAL_RATIO * lowest < last and loss[-1] < loss[best] - decrease):
        return ""
    # Do not warn: the increase of the loss is only a rounding error.
    if last < np.finfo(run.model.dtype).eps * val_loss[0]:
        return ""
    return (
        f"val_loss has risen from {lowest:.4g} after epoch {best + 1} of {len(loss)} to {last:.4g}, while loss has "
        f"fallen from {loss[best]:.4g} to {loss[-1]:.4g}: the network overfits; pass restore_best=True or patience=20 "
        "to keep the weights of the best epoch, or use more rows, weight decay, dropout or fewer neurons"
    )


def _layers_of_equal_neurons(model: Model) -> list[int]:
    """Return the hidden layers, counted from 0, whose neurons all have the same incoming and outgoing weights."""
    layers = []
    for l, W in enumerate(model.W[:-1]):
        if W.size < 2 or W.item(0) != W.item(1):  # compare two weights first, because they differ in nearly all layers
            continue
        if W.shape[1] > 1 and not model.stack.parametric_layers[l].kind.columnwise:
            b, out = model.b[l], model.W[l + 1]
            if (W[:, :1] == W).all() and (b is None or (b == b[0]).all()) and (out == out[0]).all():
                layers.append(l)
    return layers


def _count_wasted_epochs(run: TrainingLoop, history: History) -> int:
    """Return the number of epochs in which the learning rate of a schedule was almost 0.

    Return 0 if only few epochs had such a learning rate. Return 0 too if `patience` ended the training or
    ReduceLROnPlateau decreased the learning rate in this fit: in both cases the loss had stopped improving.
    """
    if history.stop_reason == "patience":
        return 0
    peak = getattr(run.state.schedule, "peak", 0.0)
    n_wasted = int((history.lr < MIN_RATE_FRACTION * peak).sum())
    limit = history.epochs - 1 if run.state.plateau is not None else MAX_WASTED_FRACTION * history.epochs
    return n_wasted if n_wasted > limit else 0


def _saturated_fractions(run: TrainingLoop) -> list[float]:
    """Return the fraction of saturated outputs, whose derivative is almost 0, of each hidden layer.

    The core reports the fractions for the last block of rows that it trained. If a fraction is large, all fractions are
    computed again from more rows. The list is empty if only a small batch is in memory.
    """
    model, training = run.minimizer.model, run.minimizer.training
    # A training on derivatives stores no outputs in the layers. There is none in the core if the optimizer runs in
    # Python.
    if training is not None and model.slope_weight is None:
        fractions = model.saturated_fractions(training)
        if not fractions or max(fractions) <= SATURATED_FRACTION or run.data.lengths is not None:
            return fractions
    from nnc._training.output_checks import sample_rows

    rows = sample_rows(run.data)
    if (rows.n < MIN_LAYER_ROWS and run.minimizer.reads_batches) or run.data.lengths is not None:
        return []
    outs = model.forward(rows)
    fractions = [0.0] * len(model.saturation_ranges)
    for l, (limits, out) in enumerate(zip(model.saturation_ranges, outs[:-1], strict=True)):
        if limits is not None:
            low, high = limits
            fractions[l] = float(((out <= low) | (out >= high)).mean())
    return fractions
