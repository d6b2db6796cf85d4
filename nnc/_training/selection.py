"""Choice of the number of epochs and the weight decay of an automatic fit, by validation.

Copies of the network are trained on a part of the rows, with each weight decay of WEIGHT_DECAYS, and evaluated on the
other rows. Up to MAX_FOLD_ROWS rows, this is a cross-validation with N_FOLDS folds; with more rows, one fifth of them
is held out. Each copy is trained in cycles, whose learning rates decrease to almost 0, so that it can be evaluated
after each cycle as if the training ended there. Each cycle doubles the number of epochs. The training of a weight decay
ends early if the validation loss rises after two cycles in a row.

Below MIN_SINGLE_ROWS rows, the cross-validation has N_REPEATED_FOLDS folds, and the weight decays are
STRONG_WEIGHT_DECAYS. With at most half as many rows, it is repeated with other folds. AdamW limits the absolute value
of each weight to about the inverse of the weight decay. The path therefore leads from the network without a limit to
small weights and, with the largest one, to a constant prediction. Unlike a penalty in the loss, this limit does not
depend on the scale of the loss.

First all copies are trained for a fraction of the epochs. After each cycle, only the best weight decay, the next larger
one and all smaller ones continue, because networks with large weight decays converge first. If the loss of the best
weight decay has not risen then, its copy for the first fold continues up to all epochs. The constants were chosen on
the TUNING_SETS of benchmarks/default_sets.py, and those for few rows on synthetic sets that docs/lab/training.md
describes.
"""

from __future__ import annotations

from bisect import bisect
from contextlib import nullcontext
from functools import cache
from math import cos, inf, pi
from typing import TYPE_CHECKING

import numpy as np

from nnc._data.fit_rows import apply_class_weight
from nnc._data.folds import Folds
from nnc._data.repeated_rows import describe_copies, find_copies
from nnc._data.splits import random_order, split_groups
from nnc._model.custom import NonFiniteLossError
from nnc._model.data import RowSubset
from nnc._registry import losses
from nnc._registry.optimizers import AdamW
from nnc._team import Interrupt, Team
from nnc._training.dataset import Dataset
from nnc._training.defaults import OPTIMIZER, has_stopping_rule
from nnc._training.divergence import DivergedError
from nnc._training.preparation import build_loop, with_options
from nnc._training.threads import avoid_caller_processor
from nnc._utils import processors
from nnc._utils.random import SPLIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._training.arguments import FitArguments
    from nnc._training.loop import TrainingLoop
    from nnc._training.plan import Plan

MIN_ROWS = 5  # fits on fewer rows select no epochs and no weight decay, because a fold needs at least one row
MIN_CERTAIN_ROWS = 20  # fits on fewer rows issue a warning, because their validation loss is uncertain
MIN_SINGLE_ROWS = 200  # with fewer rows, the cross-validation has more folds and also compares large weight decays
# Number of folds below MIN_SINGLE_ROWS rows, and of splits into these folds with at most half as many rows.
N_REPEATED_FOLDS, MAX_REPEATS = 5, 2
N_FOLDS, MAX_FOLD_ROWS = 3, 1000  # number of folds, and maximum number of rows for a cross-validation
HELD_OUT = 0.2  # fraction of the rows that is held out if there are more than MAX_FOLD_ROWS rows
WEIGHT_DECAYS = (0.0, 0.5)  # candidates of the weight decay; AdamW multiplies them by the learning rate
STRONG_WEIGHT_DECAYS = (*WEIGHT_DECAYS, 2.0, 8.0, 32.0)  # candidates below MIN_SINGLE_ROWS rows
FIRST_STEPS = 100  # number of steps of the first cycle; fits of at most this many steps select no epochs
SHARED_FRACTION = 1 / 8  # train all trials for this fraction of the epochs, then one trial with the best weight decay
MAX_RELATIVE_RISE = 0.03  # the validation loss counts as risen if it exceeds the lowest one by at least this fraction
MAX_RISES = 2  # a training ends after this many consecutive rises of the validation loss


class Trial:
    """Training run of a copy of the network, with one weight decay, on a part of the rows.

    Parameters
    ----------
    plan : Plan
        Plan of the network with the arguments of the training, its rows, and validation rows for `evaluate`.
    """

    def __init__(self, plan: Plan) -> None:
        dataset, model = plan.dataset, plan.model.copy()
        assert dataset.validation is not None
        self.validation = dataset.validation
        plan = with_options(plan._replace(model=model, streams=plan.streams.copy(), previous=None))
        # Without a number of epochs, the run allocates memory only for trained epochs.
        options, dataset = plan.options._replace(epochs=None), Dataset(dataset.converter, dataset.rows)
        self.run: TrainingLoop = build_loop(plan._replace(options=options, dataset=dataset))
        self.model: Model = model
        self.weight = self.validation.loss_weight(model.stack.output_shape)

    def evaluate(self, epochs: int, interrupt: Any) -> float:
        """Train until `epochs` epochs are complete, and return the mean validation loss; infinity after divergence."""
        run = self.run
        try:
            while run.epoch < epochs and not interrupt:
                run.advance(run.next_check(epochs))
            loss = self.model.compute_loss(self.validation)
        except (DivergedError, NonFiniteLossError):
            return inf
        is_sum = self.model.loss_function is None and losses.ROWS[self.model.loss].is_sum
        return loss / self.weight if is_sum else loss


class Curve:
    """Validation losses of one weight decay after each cycle.

    Parameters
    ----------
    trials : list of Trial
        Training runs with this weight decay, one for each pair of training and validation rows.
    """

    def __init__(self, trials: list[Trial]) -> None:
        self.trials = trials
        self.losses: list[float] = []  # mean validation loss after each cycle
        self.first_losses: list[float] = []  # validation loss of the first trial after each cycle
        self.rises = 0
        # Estimate of the mean loss of all trials: offset + scale * mean loss of the trials that continue.
        self.offset, self.scale = 0.0, 1.0

    @property
    def best(self) -> int:
        """Index of the cycle with the lowest loss."""
        return int(np.argmin(self.losses))

    @property
    def continues(self) -> bool:
        """Return whether training continues: no trial has diverged, and the loss has not risen in several cycles."""
        return self.rises < MAX_RISES and inf not in self.losses[-1:]

    def observe(self, epochs: int, interrupt: Any) -> None:
        """Train all trials until `epochs` epochs are complete, and append their mean validation loss to `losses`."""
        values = [trial.evaluate(epochs, interrupt) for trial in self.trials]
        mean = self.offset + self.scale * float(np.average(values, weights=[trial.weight for trial in self.trials]))
        lowest = min(self.losses, default=inf)
        self.rises = self.rises + 1 if mean >= lowest + MAX_RELATIVE_RISE * abs(lowest) else 0
        self.losses.append(mean)
        self.first_losses.append(values[0])

    def restrict_to_first(self) -> None:
        """Continue only the first trial, and estimate the mean loss of all trials from its loss.

        A change of the loss of the first trial changes the estimate in proportion to the size of both losses.
        """
        mean, first = self.losses[self.best], self.first_losses[self.best]
        self.scale = abs(mean / first) if first else 1.0
        self.offset = mean - self.scale * first  # 0, except for rounding, unless one of the two losses is negative
        self.trials, self.rises = self.trials[:1], 0


def with_selection(plan: Plan, interrupt: Interrupt | None = None) -> Plan:
    """Return the plan of a fit with automatic settings after a selection of epochs and weight decay by validation.

    Nothing is selected if the caller sets the learning rate, the optimizer or a stopping rule, if the fit continues an
    earlier one, or if there are too few rows or steps. The validation rows decide; without them, training rows are held
    out.

    Parameters
    ----------
    plan : Plan
        Plan with converted rows, and with the largest number of epochs in its arguments. The network does not change.
    interrupt : Interrupt, optional
        Active context of several fits. Default: a context for this selection. If it is interrupted, nothing is
        selected, and the run ends before its first epoch.
    """
    dataset, arguments, state, options = plan.dataset, plan.arguments, plan.state, plan.options
    if not state.is_automatic or arguments.optimizer is None or has_stopping_rule(arguments):
        return plan
    rows, epochs, batch_size = weighted_rows(dataset, arguments), options.epochs, options.batch_size
    assert epochs is not None
    assert batch_size is not None
    steps = -(-rows.n // batch_size)
    if epochs * steps <= FIRST_STEPS:
        return plan
    group = None if rows.n < MIN_ROWS else find_copies(rows.X, rows.target.reshape(rows.n, -1))
    n = rows.n if group is None else len(np.unique(group))
    if dataset.validation is None and group is not None:
        plan = plan._replace(copies=describe_copies(group))
    plan = plan._replace(options=options._replace(is_uncertain=rows.n < MIN_CERTAIN_ROWS, copies=plan.copies))
    if rows.n < MIN_ROWS:
        return plan
    parts, method = validation_parts(plan, Dataset(dataset.converter, rows, dataset.validation), batch_size, group)
    ends = cycle_ends(epochs, steps)
    candidates = STRONG_WEIGHT_DECAYS if n < MIN_SINGLE_ROWS else WEIGHT_DECAYS
    decays = candidates if arguments.weight_decay is None else (None,)
    common = arguments._replace(
        lr=cyclic_rate(arguments.lr.peak, ends),  # type: ignore[union-attr]
        class_weight=None,
        validation=None,
        metrics=(),
        monitor=None,
        restore_best=None,
        callback=None,
        progress=False,
        verbose=0,
    )
    curves = []
    for decay in decays:
        trial_plan = plan._replace(arguments=common._replace(optimizer=build_optimizer(decay)))
        curves.append(Curve([Trial(trial_plan._replace(dataset=part)) for part in parts]))
    runs = [trial.run for curve in curves for trial in curve.trials]
    max_threads = max(run.minimizer.max_threads() for run in runs)
    with (
        Interrupt() if interrupt is None else nullcontext(interrupt) as active,
        processors.active_fits,
        Team(max_threads, avoid_caller_processor) as team,
    ):
        for run in runs:
            run.start(active, team)
        best = train_trials(curves, ends, active)
        curves[best].trials[0].run.minimizer.end()  # keep the thread tuner of the trial with the most epochs
    if active:
        return plan._replace(options=plan.options._replace(is_interrupted=True))
    selected = arguments._replace(epochs=ends[curves[best].best], optimizer=build_optimizer(decays[best]))
    decay_text = "" if decays[best] is None else f" and weight decay {decays[best]:g}"
    selection = f"{selected.epochs} of at most {epochs} epochs{decay_text}, by {method}"
    is_uncertain, refit = plan.options.is_uncertain, dataset.validation is None
    plan = with_options(plan._replace(arguments=selected))
    plan.state.max_epochs = epochs
    if arguments.verbose:
        print(f"nnc has selected {selection}")
    return plan._replace(options=plan.options._replace(selection=selection, refit=refit, is_uncertain=is_uncertain))


def train_trials(curves: list[Curve], ends: list[int], interrupt: Any) -> int:
    """Train all trials up to each epoch in `ends`; return the index of the weight decay with the lowest loss."""
    remaining = list(ends)
    while remaining and (remaining[0] <= SHARED_FRACTION * ends[-1] or remaining[0] == ends[0]):
        end = remaining.pop(0)
        for curve in curves:
            if curve.continues:
                curve.observe(end, interrupt)
        best = min(range(len(curves)), key=lambda i: min(curves[i].losses))
        curves = curves[: best + 2]  # larger weight decays converge first, so they will not become the best ones
    curve = curves[best]
    if curve.continues and len(curve.losses) == len(ends) - len(remaining):
        curve.restrict_to_first()
        while remaining and curve.continues and not interrupt:
            curve.observe(remaining.pop(0), interrupt)
    return best


def build_optimizer(decay: float | None) -> str | AdamW:
    """Return AdamW with this weight decay, or Adam if the weight decay is 0 or None."""
    return AdamW(weight_decay=decay) if decay else OPTIMIZER


def cycle_ends(epochs: int, steps: int) -> list[int]:
    """Return the number of epochs after which each cycle ends, for epochs of `steps` steps."""
    ends, end = set(), max(1.0, FIRST_STEPS / steps)
    while end < 0.99 * epochs:
        ends.add(round(end))
        end *= 2
    return sorted({*ends, epochs})


def cyclic_rate(peak: float, ends: list[int]) -> Callable[[int], float]:
    """Return the learning rate of an epoch: half a cosine wave from almost `peak` to almost 0 in each cycle."""
    starts = [0, *ends[:-1]]

    @cache  # all trials use the same learning rates, so each is computed only once
    def rate(epoch: int) -> float:
        cycle = bisect(starts, epoch) - 1
        start, end = starts[cycle], ends[cycle]
        return peak * (1 + cos(pi * (epoch - start + 0.5) / (end - start))) / 2

    return rate


def weighted_rows(dataset: Dataset, arguments: FitArguments) -> Data:
    """Return the training rows with sample and class weights, without the rows whose weight is zero."""
    rows = dataset.rows
    if arguments.class_weight is not None:
        rows = apply_class_weight(dataset.converter, rows, arguments.class_weight)
    weights = rows.weights
    return rows if weights is None or weights.all() else select_rows(rows, np.flatnonzero(weights))


def validation_parts(
    plan: Plan, dataset: Dataset, batch_size: int, group: NDArray[np.intp] | None
) -> tuple[list[Dataset], str]:
    """Return the training and validation rows of each trial, and the name of the validation method.

    Rows of the same `group`, which are copies, are never on both sides.
    """
    rows, converter = dataset.rows, dataset.converter
    if dataset.validation is not None:
        return [dataset], "the validation rows"
    key, labels = plan.streams.key(SPLIT), classes_of(rows, converter.loss.target_type)
    n = rows.n if group is None else len(np.unique(group))
    if n <= MAX_FOLD_ROWS:
        n_folds, n_repeats = N_FOLDS, 1
        if n < MIN_SINGLE_ROWS:
            n_folds, n_repeats = min(N_REPEATED_FOLDS, n), min(MAX_REPEATS, MIN_SINGLE_ROWS // n)
        pairs = []
        for i in range(n_repeats):
            order = random_order(rows.n, key + i, labels, group)
            positions = Folds.deal(np.arange(rows.n), n_folds, None if group is None else group[order]).pairs()
            pairs += [(order[large], order[small]) for large, small in positions]
        method = f"{n_folds}-fold cross-validation" + (f", {n_repeats} times" if n_repeats > 1 else "")
    else:
        pairs = [split_groups(rows.n, HELD_OUT, key, labels, "size", group)]
        method = f"validation with {HELD_OUT:.0%} of the rows"
    needs_two_rows = plan.model.min_batch_rows > 1
    parts = []
    for large, small in pairs:
        # Omit a row that would be alone in a batch: batch normalization needs two.
        n_left_out = int(needs_two_rows and len(large) % batch_size == 1)
        parts.append(Dataset(converter, select_rows(rows, large[n_left_out:]), select_rows(rows, small)))
    return parts, method


def classes_of(rows: Data, target_type: str) -> NDArray[Any] | None:
    """Return the class of each row for stratified folds; None if the targets are not classes of rows."""
    if rows.labels is not None:
        return rows.labels if len(rows.labels) == rows.n else None
    is_binary = target_type in ("multilabel", "plus_minus_one") and rows.target.shape[1] == 1
    return rows.target[:, 0] if is_binary else None


def select_rows(rows: Data, index: NDArray[Any]) -> Data:
    """Return the rows with these indices, without copying their arrays."""
    return RowSubset(rows.source, index if rows.index is None else rows.index[index])
