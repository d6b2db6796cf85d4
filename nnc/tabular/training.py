"""The members of a table's model: which rows each is held against, on what they are trained, and which are kept.

The first of them are a cross-validation: each learns from four fifths of the rows, and is held against the rest, which
say which encoding is kept and which epoch was the best. The others learn from all rows, for as many epochs.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, nan
from statistics import median_high
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._parallel.fit import outcomes_of, shown_progress
from nnc._parallel.per_network import PerNetwork
from nnc._parallel.source import Apart
from nnc._utils.processors import get_num_threads
from nnc.tabular.recipe import LOOK, PAST, network, options, scaling_of, steps_of
from nnc.tabular.snapshots import PARTS, Judge, Snapshots, with_params

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from nnc._network import NeuralNetwork
    from nnc._training.callbacks import Record
    from nnc._training.divergence import DivergedError
    from nnc._training.history import History
    from nnc.tabular.recipe import Task

FOLDS = 5  # a member of the cross-validation learns from all rows but one of so many parts
PACE = 5.0  # seconds from one checkpoint to the next: all networks are written each time
LEAST_ROWS = 2 * FOLDS  # with fewer none are held out
MIN_JUDGED_ROWS, MAX_JUDGED_ROWS = 2000, 1 << 18  # rows that estimates are made with, of all folds
MAX_JUDGED_OUTPUTS = 1 << 20  # outputs for them
ALIKE = {"classes": 0.25, "numbers": 0.06}  # so much the errors of both encodings may differ for both to be kept
NUMBERED = 1 << 22  # numbers of rows of the members that are trained in one call
MOST_NUMBERS = 100_000_000  # of inputs with bins, in all rows: beyond, the plain encoding has to do


def learned_from(rows: int) -> int:
    """How many of so many rows a member of the cross-validation learns from."""
    return rows if rows < LEAST_ROWS else rows - rows // FOLDS


def epochs_in_all(rows: int, count: int) -> int:
    """Those of so many members, where there are so many rows."""
    return count * steps_of(learned_from(rows))[1]


class Spec(NamedTuple):
    """Which member it is."""

    place: int  # says the seed
    bins: bool  # which encoding it sees
    fold: int | None  # which rows it is held against; None: it learns from all


class Member(NamedTuple):
    """A member that has been trained."""

    spec: Spec
    network: NeuralNetwork
    error: float = nan  # on its held-out rows, see Training.error
    whole: bool = True  # whether its training came to its end
    curve: tuple[float, ...] = ()  # after each epoch: its accuracy on these rows, or its loss
    params: tuple[NDArray[np.float32], ...] = ()  # for each part of these rows, see Snapshots
    errors: tuple[float, ...] = ()  # the same


class Rows(NamedTuple):
    """The training rows."""

    plain: NDArray[np.float32]  # (n, width)
    bins: NDArray[np.float32] | None  # (n, width with bins); None where that is not tried
    y: NDArray[Any]  # (n, n_out), or int32 (n,) of classes
    weights: NDArray[np.float64] | None

    def inputs(self, bins: bool) -> NDArray[np.float32]:
        return self.bins if bins and self.bins is not None else self.plain


@contextmanager
def with_progress_bar(callback: Callable[[int, Any], Any] | None, bar: bool, epochs: int) -> Iterator[Any]:
    """Yield the callback of the members; if `bar`, it also advances a progress bar of `epochs` epochs in total."""
    with shown_progress(epochs, bar, "epoch") as advance:
        lock = Lock()

        def advance_and_call(member: int, record: Any) -> Any:
            with lock:  # members are trained in several threads
                advance(1 + record.get("skipped_epochs", 0))
            return None if callback is None else callback(member, record)

        yield advance_and_call if bar else callback


@dataclass(eq=False)
class Watch:
    """Callback of a member, which ends its training.

    Each cycle of the learning rate is twice as long as the one before. The third cycle ends by LOOK. If it has not
    improved the result on held-out rows, the fourth is skipped.

    Parameters
    ----------
    place : int
        `Spec.place` of the member.
    epochs : int
        Epochs of the learning rate schedule.
    last : int or None
        Last epoch to train; None if held-out rows determine it.
    callback : callable or None
        See Training.
    snapshots : Snapshots or None
        Updated after each epoch.
    """

    place: int
    epochs: int
    last: int | None
    callback: Callable[[int, Any], Any] | None
    snapshots: Snapshots | None
    best: int = 0

    def __call__(self, record: Record) -> bool:
        epoch: int = record["epoch"]
        if self.snapshots is not None and isfinite(record["val_loss"]):
            self.snapshots.update(record.outputs)
        if record["best"]:
            self.best = epoch
        if self.last is None:
            over = epoch == round(LOOK * self.epochs) and self.best <= PAST * self.epochs
        else:
            over = epoch == self.last
        if over and epoch < self.epochs:
            record["skipped_epochs"] = self.epochs - epoch
        return bool(self.callback is not None and self.callback(self.place, record)) or over


class Training:
    """How members are trained.

    Parameters
    ----------
    task : Task
    rows : Rows
    seed : int
    n_jobs : int or None
    seconds : float or None
        After so many no member is begun, and those that are being trained end with what they have reached.
    callback : callable or None
        Called with the member's place and the Record after each epoch, in the thread of the member. The last record
        of a member that stops early has "skipped_epochs", the number of epochs of its schedule that are not trained.
    keep : callable or None
        Called with the members that have come to their end, now and then and where the training is ended.
    """

    def __init__(
        self,
        task: Task,
        rows: Rows,
        seed: int,
        n_jobs: int | None,
        seconds: float | None = None,
        callback: Callable[[int, Any], Any] | None = None,
        keep: Callable[[Sequence[Member]], object] | None = None,
    ) -> None:
        self.task, self.rows, self.seed, self.n_jobs = task, rows, seed, n_jobs
        self.callback, self.keep = callback, keep
        self.end = None if seconds is None else monotonic() + seconds
        self.scaling = scaling_of(task, rows.y)
        self.y = rows.y if self.scaling is None else self.scaling.apply(rows.y, np.float32)
        if task.quantiles:
            self.y = np.tile(self.y, len(task.quantiles))
        self.members: dict[Spec, Member] = {}
        self.diverged: DivergedError | None = None
        self.kept = monotonic()  # the last time
        self.over = False  # before its end: by Ctrl-C, or for the time
        self.epochs: int | None = None  # where it is not the recipe that says it
        self.pairs = 0  # the first folds, in which both encodings are tried

    # ------------------------------------------------------------------------------------------ the whole

    def run(self, count: int, done: Iterable[Member] = ()) -> list[Member]:
        """Trains so many members, without those that are `done`, and returns those that are kept.

        One for each fold is the cross-validation, those behind it learn from all rows. Where there are two encodings,
        it begins with pairs, one of each on the same rows, which say whether the rest have one of them or both.
        """
        self.members = {member.spec: member for member in done}
        folds = FOLDS if len(self.rows.y) >= LEAST_ROWS else 0
        pairs = min(folds, max(1, count // 5)) if self.rows.bins is not None and count > 1 else 0
        self.pairs = pairs
        first = [Spec(2 * fold + bins, bool(bins), fold) for fold in range(pairs) for bins in (0, 1)]
        self.train(first)
        kept = self.better(pairs) if pairs else (False,)
        rest = range(len(first), count)
        specs = [Spec(i, kept[i % len(kept)], i - pairs if i - pairs < folds else None) for i in rest]
        self.train([spec for spec in specs if spec.fold is not None])
        if self.members or not folds:
            self.train([spec for spec in specs if spec.fold is None])
        if not self.members and self.diverged is None and self.end is not None and monotonic() > self.end:
            self.end, self.over = None, False  # the time was too short for an epoch: one gets it
            self.epochs, self.keep = 1, None
            kept = (False,)
            self.train([Spec(0, False, 0 if folds else None)])
            self.over = True
        members = [member for spec, member in sorted(self.members.items()) if spec.bins in kept]
        finished = [member for member in members if member.whole]
        if not members and self.diverged is not None:
            raise self.diverged
        if not members:
            raise KeyboardInterrupt("no network had been trained for an epoch")
        return finished or members

    def discard(self, specs: Iterable[Spec]) -> None:
        """Forget members that are not part of the model, so that they judge no held-out rows."""
        for spec in specs:
            del self.members[spec]

    def better(self, pairs: int, part: int | None = None) -> tuple[bool, ...]:
        """Return the encodings that are kept: (False,), (True,) or both; without the held-out rows of a part."""
        errors = {bins: [] for bins in (False, True)}  # type: dict[bool, list[float]]
        for spec, member in self.members.items():
            if spec.fold is not None and spec.fold < pairs:
                errors[spec.bins].append(member.error if part is None else member.errors[part])
        if not all(errors.values()):
            return (bool(errors[True]),)
        plain, bins = (float(np.mean(errors[encoding])) for encoding in (False, True))
        least = 1 - ALIKE[self.task.kind]
        if bins < least * plain:
            return (True,)
        return (False,) if plain < least * bins else (False, True)

    def error(self, history: History) -> float:
        """Of a member, on its held-out rows: its share of wrong classes, or its loss."""
        if "val_loss" not in history or not history.epochs:
            return nan
        best = (history.best_epoch or history.epochs) - 1
        if self.task.metric is not None:
            return 1 - float(history[f"val_{self.task.metric}"][best])
        return float(history["val_loss"][best])

    def curve(self, history: History) -> tuple[float, ...]:
        """What is told of a member's training: what is not known of an epoch, as Ctrl-C came before it, is left out."""
        name = f"val_{self.task.metric or 'loss'}"
        return tuple(filter(isfinite, history[name].tolist())) if name in history else ()

    def lasting(self, bins: bool) -> int | None:
        """How many epochs were the best in the cross-validation, of an encoding; None where nothing is known. The best
        is the later of equals, as `restore_best="last"` has it."""
        best = min if self.task.metric is None else max
        curves = [member.curve[::-1] for member in self.members.values() if member.spec.bins is bins and member.curve]
        return median_high([len(curve) - curve.index(best(curve)) for curve in curves]) if curves else None

    # ------------------------------------------------------------------------------------------ some of them

    def train(self, specs: Sequence[Spec]) -> None:
        """Trains those that are not there yet."""
        specs = [spec for spec in specs if spec not in self.members]
        size = max(self.n_jobs or get_num_threads(), NUMBERED // len(self.y))
        if self.keep is not None:
            size = min(size, 2 * (self.n_jobs or 1))
        try:
            for start in range(0, len(specs), max(size, 1)):
                for bins in (False, True):
                    self.train_alike([spec for spec in specs[start : start + size] if spec.bins is bins], bins)
                if self.over or monotonic() - self.kept > PACE:
                    self.keep_whole()
                if self.over:
                    return
        except KeyboardInterrupt:  # between two trainings, which take it themselves
            if not self.members:
                raise
            self.over = True
            self.keep_whole()
        except BaseException:
            self.keep_whole()
            raise

    def keep_whole(self) -> None:
        """Writes down those that have come to their end."""
        whole = [member for member in self.members.values() if member.whole]
        if self.keep is not None and whole:
            self.keep(whole)
            self.kept = monotonic()

    def train_alike(self, specs: Sequence[Spec], bins: bool) -> None:
        """Those of one encoding, which are all held against rows, or none of them."""
        if not specs or self.over:
            return
        seconds = None if self.end is None else self.end - monotonic()
        if seconds is not None and seconds <= 0:
            self.over = True
            return
        X, y, weights = self.rows.inputs(bins), self.y, self.rows.weights
        networks = [network(self.task, X.shape[1], self.seed_of(spec)) for spec in specs]
        arguments = options(self.task, learned_from(len(y)))
        if self.epochs is not None:
            arguments["epochs"] = self.epochs
        last = None
        held = [self.held(spec.fold) for spec in specs]
        snapshots = [
            None if spec.fold is None else self.snapshots(spec.fold, net)
            for spec, net in zip(specs, networks, strict=True)
        ]
        if specs[0].fold is None:
            del arguments["metrics"], arguments["monitor"], arguments["restore_best"]
            last = self.lasting(bins) or arguments["epochs"]
        else:
            arguments["validation"] = PerNetwork(Apart(np.flatnonzero(rows)) for rows in held)
        arguments["callback"] = PerNetwork(
            Watch(spec.place, arguments["epochs"], last, self.callback, shots)
            for spec, shots in zip(specs, snapshots, strict=True)
        )
        rows = [np.flatnonzero(~rows) for rows in held]
        arguments["sample_weight"] = weights
        outcomes = outcomes_of(networks, X, y, rows, arguments, self.n_jobs, seconds=seconds)
        for spec, net, outcome, shots in zip(specs, networks, outcomes, snapshots, strict=True):
            self.over = self.over or outcome.history.stop_reason == "interrupt"
            if outcome.error is not None:
                self.diverged = outcome.error
            elif outcome.history.epochs:
                whole = outcome.history.stop_reason != "interrupt"
                error, curve = self.error(outcome.history), self.curve(outcome.history)
                chosen = ((), ()) if shots is None else (tuple(shots.params), tuple(shots.errors.tolist()))
                self.members[spec] = Member(spec, net, error, whole, curve, *chosen)

    def seed_of(self, spec: Spec) -> int:
        """Of a member's weights, and of the order of its rows."""
        return int(np.random.default_rng([self.seed, 0, spec.place]).integers(2**31))

    def held(self, fold: int | None) -> NDArray[np.bool_]:
        """Return which rows are held out in a fold: each row in one of FOLDS, with the same share of every class."""
        held = np.zeros(len(self.rows.y), bool)
        if fold is not None:
            held[self.order[fold::FOLDS]] = True
        return held

    @cached_property
    def order(self) -> NDArray[np.int32]:
        """The rows in random order, for classification class by class."""
        order = np.random.default_rng([self.seed, 1]).permutation(len(self.rows.y)).astype(np.int32)
        return order[np.argsort(self.rows.y[order], kind="stable")] if self.task.kind == "classes" else order

    def parts(self, fold: int) -> NDArray[np.int8]:
        """Return the part of each held-out row of a fold, see Snapshots; -1 for rows that estimates do without."""
        n = len(self.rows.y)
        rows, part = self.order[fold::FOLDS], np.full(n, -1, np.int8)
        part[rows] = np.arange(len(rows)) % PARTS
        most = min(MAX_JUDGED_ROWS, MAX_JUDGED_OUTPUTS // self.task.outputs // 2)  # a row has up to two networks
        most = max(MIN_JUDGED_ROWS, most)
        if most < n:
            part[np.random.default_rng([self.seed, 2]).permutation(n)[most:]] = -1
        return part[np.sort(rows)]

    def snapshots(self, fold: int, network: NeuralNetwork) -> Snapshots:
        """Return the observer of a network whose training begins."""
        held, weights = self.held(fold), self.rows.weights
        return Snapshots(self.task, network, self.y[held], None if weights is None else weights[held], self.parts(fold))

    def judges(self) -> list[Judge]:
        """Return the networks that predict held-out rows, those that are neither trained nor chosen with these rows."""
        members = [member for _, member in sorted(self.members.items()) if member.params]
        members = [member for member in members if member.whole] or members
        parts: dict[tuple[Spec, int], list[int]] = {}  # of a member and its parameters
        for part in range(PARTS):
            kept = self.better(self.pairs, part)
            for spec, *_, params, _ in members:
                if spec.fold is not None and (spec.fold >= self.pairs or spec.bins in kept):
                    parts.setdefault((spec, id(params[part])), []).append(part)
        judges = [self.judge(self.members[spec], chosen) for (spec, _), chosen in parts.items()]
        return [judge for judge in judges if len(judge.rows)]

    def judge(self, member: Member, parts: list[int]) -> Judge:
        """Return the network that predicts some parts of the held-out rows of a member."""
        assert member.spec.fold is not None
        rows, part = np.flatnonzero(self.held(member.spec.fold)), self.parts(member.spec.fold)
        own = np.isin(part, parts)
        network = with_params(member.network, member.params[parts[0]])
        return Judge(network, member.spec.bins, rows[own], part[own])
