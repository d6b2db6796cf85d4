"""Training of the members of a table model, and selection of their candidates.

The first members are a cross-validation: each learns from four fifths of the rows and is validated on the other rows.
The validation determines its best epoch, and the best of the candidates, which differ in their inputs or their recipe.
The other members learn from all rows; their number of epochs is the median of these best epochs.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product
from math import isfinite, nan
from statistics import median_high
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._parallel.fit import NetworkGroup, progress_bar, train_groups
from nnc._parallel.per_network import PerNetwork
from nnc._parallel.source import ValidationRows
from nnc._utils.processors import get_num_threads
from nnc.tabular.recipe import (
    CANDIDATES,
    MAX_BEST_EPOCH_FRACTION,
    MIN_CROSS_VALIDATION_ROWS,
    STOP_CHECK_FRACTION,
    batch_and_epochs,
    fit_options,
    fit_target_scaling,
    n_fold_training_rows,
)
from nnc.tabular.snapshots import (
    EPSILON,
    N_PARTS,
    HeldOutNetwork,
    Snapshots,
    lowest_row_errors,
    with_params,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from nnc._data.folds import Folds
    from nnc._network import NeuralNetwork
    from nnc._tables.features import FeatureSet
    from nnc._training.callbacks import Record
    from nnc._training.divergence import DivergedError
    from nnc._training.history import History
    from nnc.tabular.recipe import Candidate, Task

CHECKPOINT_SECONDS = 5.0  # minimum time in seconds between two checkpoints, each of which contains all networks
MIN_ESTIMATE_ROWS, MAX_ESTIMATE_ROWS = 2000, 1 << 18  # minimum and maximum number of held-out rows that are predicted
MAX_ESTIMATE_OUTPUTS = 1 << 20  # maximum number of outputs for held-out rows; at least MIN_ESTIMATE_ROWS rows are used
# The model has members of two candidates if their mean validation errors differ by at most this fraction of the larger
# error. Errors count from the lowest possible error, which is negative for Poisson's loss.
MAX_ERROR_DIFFERENCE = {"classes": 0.1, "numbers": 0.06}
MAX_ROW_INDICES = 1 << 22  # maximum number of row indices in memory, which limits the members trained in one call
MAX_EXTENDED_VALUES = 100_000_000  # maximum number of rows times features for which extra features are used


def total_epochs(rows: int, count: int, kind: str) -> int:
    """Return the maximum total number of epochs of `count` members, for `rows` training rows and `Task.kind`."""
    return count * batch_and_epochs(n_fold_training_rows(rows), kind)[1]


class MemberSpec(NamedTuple):
    """Properties that distinguish the members of an ensemble.

    Attributes
    ----------
    number : int
        Number of the member, from 0, which determines its seed.
    candidate : Candidate
        Inputs and recipe of the member.
    fold : int or None
        Number of the fold that is held out from the training; None if the member learns from all rows.
    """

    number: int
    candidate: Candidate
    fold: int | None


class Member(NamedTuple):
    """Trained member of the ensemble.

    Attributes
    ----------
    spec : MemberSpec
        Number, candidate and held-out fold of the member.
    network : NeuralNetwork
        Trained network of the member.
    error : float
        Validation loss after the best epoch; NaN if there are no held-out rows.
    complete : bool
        Whether the training was completed; False if it was interrupted.
    curve : tuple of float
        Validation loss after each epoch; () if there are no held-out rows.
    params : tuple of arrays
        `Snapshots.params`, the parameters for each part of the held-out rows.
    errors : tuple of float
        `Snapshots.errors`, the errors that selected `params`.
    """

    spec: MemberSpec
    network: NeuralNetwork
    error: float = nan
    complete: bool = True
    curve: tuple[float, ...] = ()
    params: tuple[NDArray[np.float32], ...] = ()
    errors: tuple[float, ...] = ()

    @property
    def features(self) -> FeatureSet:
        """Inputs of the network."""
        return self.spec.candidate.features


class Rows(NamedTuple):
    """Encoded training rows with their targets and weights.

    Attributes
    ----------
    inputs : dict of FeatureSet to float32 array (n, width)
        Encoded rows for each set of features that networks receive, from the smallest to the largest set. Target
        statistics are out-of-fold.
    y : float64 array (n, n_out) or int32 array (n,)
        Targets of regression, or class indices.
    weights : float64 array (n,) or None
        Sample weights.
    """

    inputs: dict[FeatureSet, NDArray[np.float32]]
    y: NDArray[Any]
    weights: NDArray[np.float64] | None


@contextmanager
def with_progress_bar(callback: Callable[[int, Any], Any] | None, bar: bool, epochs: int) -> Iterator[Any]:
    """Yield a callback for the members, which calls `callback` and, if `bar` is True, advances a progress bar."""
    with progress_bar(epochs, bar, "epoch") as advance:
        lock = Lock()

        def advance_and_call(member: int, record: Any) -> Any:
            """Advance the progress bar by the completed and skipped epochs, and call the user's callback."""
            with lock:  # lock, because several training threads may call this function at once
                advance(1 + record.get("skipped_epochs", 0))
            return None if callback is None else callback(member, record)

        yield advance_and_call if bar else callback


@dataclass(eq=False)
class MemberCallback:
    """Callback for the training of a member, which updates its snapshots and may stop the training.

    The learning rate has four cycles, each twice as long as the previous one. The third cycle ends after the fraction
    STOP_CHECK_FRACTION of the epochs. The fourth cycle is skipped if the best epoch so far is in the first
    MAX_BEST_EPOCH_FRACTION of the epochs.

    Parameters
    ----------
    member : int
        Number of the member.
    epochs : int
        Number of epochs of the learning rate schedule.
    last : int or None
        Number of epochs after which the training stops; None if held-out rows determine this number.
    callback : callable or None
        Callback of the user, which is called after each epoch; see `Training`.
    snapshots : Snapshots or None
        Snapshots to update after each epoch; None if there are no held-out rows.
    best : int
        Number of the best epoch so far.
    """

    member: int
    epochs: int
    last: int | None
    callback: Callable[[int, Any], Any] | None
    snapshots: Snapshots | None
    best: int = 0

    def __call__(self, record: Record) -> bool:
        """Update the snapshots after an epoch, call the user's callback, and return whether the training stops."""
        epoch: int = record["epoch"]
        if self.snapshots is not None and isfinite(record["val_loss"]):
            self.snapshots.update(record.outputs)
        if record["best"]:
            self.best = epoch
        if self.last is None:
            is_check = epoch == round(STOP_CHECK_FRACTION * self.epochs)
            stop = is_check and self.best <= MAX_BEST_EPOCH_FRACTION * self.epochs
        else:
            stop = epoch == self.last
        if stop and epoch < self.epochs:
            record["skipped_epochs"] = self.epochs - epoch
        return bool(self.callback is not None and self.callback(self.member, record)) or stop


class Training:
    """Training of the members of a table model.

    Parameters
    ----------
    task : Task
    rows : Rows
        The training rows.
    folds : Folds
        Fold and part of each training row.
    seed : int
        Seed of all random numbers.
    n_jobs : int or None
        Number of networks that are trained at the same time; None for `nnc.get_num_threads()`.
    seconds : float or None
        Time limit in seconds. After this time, running trainings stop and no further training starts.
    callback : callable or None
        Function that is called after each epoch of a member, in the thread that trains the member. Its arguments are
        the number of the member and the Record of the epoch. The last record of a member that stops early has
        "skipped_epochs", the number of remaining epochs of its schedule.
    save_members : callable or None
        Function that is called with the completely trained members every few seconds, and when the training is
        interrupted.

    Attributes
    ----------
    members : dict of MemberSpec to Member
        Members whose training has ended, completely or not.
    stopped : bool
        Whether Ctrl-C or the time limit ended the training early.
    diverged : DivergedError or None
        Error of the last member whose training diverged; None if no training diverged.
    scaling : Scaling or None
        Scaling of the targets; None for classes.
    y : array
        Targets for the networks: class indices, or numbers that are scaled, and repeated for each quantile.
    deadline : float or None
        Time at which training stops, on the clock of `time.monotonic`.
    last_checkpoint : float
        Time of the last checkpoint, on the clock of `time.monotonic`.
    epochs_override : int or None
        Number of epochs that replaces the number in the recipe if it is not None.
    candidates : list of Candidate
        Candidates whose inputs have been encoded.
    n_compared_folds : int
        Number of first folds each of which is held out from a member of each candidate.
    """

    def __init__(
        self,
        task: Task,
        rows: Rows,
        folds: Folds,
        seed: int,
        n_jobs: int | None,
        seconds: float | None = None,
        callback: Callable[[int, Any], Any] | None = None,
        save_members: Callable[[Sequence[Member]], object] | None = None,
    ) -> None:
        self.task, self.rows, self.folds, self.seed, self.n_jobs = task, rows, folds, seed, n_jobs
        self.callback, self.save_members = callback, save_members
        self.deadline = None if seconds is None else monotonic() + seconds
        self.scaling = fit_target_scaling(task, rows.y)
        self.y = rows.y if self.scaling is None else self.scaling.apply(rows.y, np.float32)
        if task.quantiles:
            self.y = np.tile(self.y, len(task.quantiles))
        self.members: dict[MemberSpec, Member] = {}
        self.diverged: DivergedError | None = None
        self.last_checkpoint = monotonic()
        self.stopped = False
        self.epochs_override: int | None = None
        self.candidates = [candidate for candidate in CANDIDATES if candidate.features in rows.inputs]
        self.n_compared_folds = 0

    # ------------------------------------------------------------------------------------------ the whole ensemble

    def run(self, count: int, done: Iterable[Member] = ()) -> list[Member]:
        """Train `count` members, except those in `done`, and return the members of the model.

        Each fold of the cross-validation is held out from one member; further members are trained on all rows. If there
        are several candidates, each of the first `n_compared_folds` folds is held out from one member of each
        candidate. Their validation losses decide which candidates the other members use.
        """
        self.members = {member.spec: member for member in done}
        # With few different rows, all networks learn from all rows.
        n_folds = self.folds.n_folds if len(self.folds.distinct_rows) >= MIN_CROSS_VALIDATION_ROWS else 0
        if 1 < len(self.candidates) <= count:
            self.n_compared_folds = min(n_folds, max(1, count // 5))
        combinations = product(range(self.n_compared_folds), self.candidates)
        compared = [MemberSpec(i, candidate, fold) for i, (fold, candidate) in enumerate(combinations)]
        self.train(compared)
        selected = self.select_candidates()
        folds = [*range(self.n_compared_folds, n_folds), *[None] * count]
        specs = [
            MemberSpec(i, selected[i % len(selected)], fold)
            for i, fold in zip(range(len(compared), count), folds, strict=False)
        ]
        self.train([spec for spec in specs if spec.fold is not None])
        if self.members or not n_folds:
            self.train([spec for spec in specs if spec.fold is None])
        if not self.members and self.diverged is None and self.deadline is not None and monotonic() > self.deadline:
            # Train one member for one epoch, because the time limit was too short for any epoch.
            self.deadline, self.stopped = None, False
            self.epochs_override, self.save_members = 1, None
            selected = self.candidates[:1]
            self.train([MemberSpec(0, selected[0], 0 if n_folds else None)])
            self.stopped = True
        members = [member for spec, member in sorted(self.members.items()) if spec.candidate in selected]
        complete = [member for member in members if member.complete]
        if not members and self.diverged is not None:
            raise self.diverged
        if not members:
            raise KeyboardInterrupt("fit was interrupted before any network completed its first epoch; call fit again")
        return complete or members

    def discard(self, specs: Iterable[MemberSpec]) -> None:
        """Delete the members `specs`, which the model does not use, so that no estimate on held-out rows uses them."""
        for spec in specs:
            del self.members[spec]

    def select_candidates(self, part: int | None = None) -> list[Candidate]:
        """Return the candidates that the model uses, based on the members that hold out the first `n_compared_folds`.

        Parameters
        ----------
        part : int, optional
            Number of the part of the held-out rows that does not count. Default: all held-out rows count.

        Returns
        -------
        list of Candidate
            The candidate with the smallest error, and those with a similar error. The first candidate if no member held
            out one of these folds.
        """
        errors: dict[Candidate, list[float]] = {}
        for spec, member in self.members.items():
            if spec.fold is not None and spec.fold < self.n_compared_folds:
                error = member.error if part is None else member.errors[part]
                errors.setdefault(spec.candidate, []).append(error - self.lowest_error(spec.fold, part))
        if not errors:
            return self.candidates[:1]
        means = {candidate: float(np.mean(errors[candidate])) for candidate in self.candidates if candidate in errors}
        best = min(means, key=means.__getitem__)
        min_ratio = 1 - MAX_ERROR_DIFFERENCE[self.task.kind]
        return [candidate for candidate in means if candidate == best or not means[best] < min_ratio * means[candidate]]

    def lowest_error(self, fold: int, part: int | None) -> float:
        """Return the error of perfect predictions for the held-out rows of a fold, without the rows of one part."""
        mask = self.folds.holds_out(fold)
        if part is not None:
            mask &= (self.estimate_parts >= 0) & (self.estimate_parts != part)
        weights = np.ones(len(mask)) if self.rows.weights is None else self.rows.weights
        return float(weights[mask] @ self.lowest_row_errors[mask] / max(weights[mask].sum(), EPSILON))

    @cached_property
    def lowest_row_errors(self) -> NDArray[np.float64]:
        """Error of a perfect prediction for each row (n,)."""
        return lowest_row_errors(self.task, self.y)

    def validation_curve(self, history: History) -> tuple[float, ...]:
        """Return the validation loss after each complete epoch; return () if there are no held-out rows."""
        return tuple(filter(isfinite, history["val_loss"].tolist())) if "val_loss" in history else ()

    def best_epoch_count(self, candidate: Candidate) -> int | None:
        """Return the median best epoch of the cross-validation members of a candidate.

        If several epochs of a member have the same loss, the last of them is the best, as with `restore_best="last"`.
        The result is None if there are no held-out rows.
        """
        members = [member for member in self.members.values() if member.spec.candidate == candidate]
        curves = [member.curve[::-1] for member in members if member.curve]
        return median_high([len(curve) - curve.index(min(curve)) for curve in curves]) if curves else None

    # ------------------------------------------------------------------------------------------ groups of members

    def train(self, specs: Sequence[MemberSpec]) -> None:
        """Train the members in `specs` that have not been trained yet."""
        specs = [spec for spec in specs if spec not in self.members]
        size = max(self.n_jobs or get_num_threads(), MAX_ROW_INDICES // len(self.y))
        if self.save_members is not None:
            size = min(size, 2 * (self.n_jobs or 1))
        try:
            for start in range(0, len(specs), max(size, 1)):
                self.train_together(specs[start : start + size])
                if self.stopped or monotonic() - self.last_checkpoint > CHECKPOINT_SECONDS:
                    self.save_complete()
                if self.stopped:
                    return
        except KeyboardInterrupt:  # Ctrl-C was pressed between two calls of `train_groups`
            if not self.members:
                raise
            self.stopped = True
            self.save_complete()
        except BaseException:
            self.save_complete()
            raise

    def save_complete(self) -> None:
        """Pass the members whose training is complete to the function `save_members`."""
        complete = [member for member in self.members.values() if member.complete]
        if self.save_members is not None and complete:
            self.save_members(complete)
            self.last_checkpoint = monotonic()

    def train_together(self, specs: Sequence[MemberSpec]) -> None:
        """Train members at the same time; either all of them or none must have held-out rows."""
        if self.stopped:
            return
        seconds = None if self.deadline is None else self.deadline - monotonic()
        if seconds is not None and seconds <= 0:
            self.stopped = True
            return
        by_candidate = [[spec for spec in specs if spec.candidate == candidate] for candidate in self.candidates]
        groups, snapshots = zip(*map(self.build_group, filter(None, by_candidate)), strict=True)
        outcomes = train_groups(groups, self.n_jobs, seconds)
        networks = [network for group in groups for network in group.networks]
        for spec, net, outcome, shots in zip(chain(*by_candidate), networks, outcomes, chain(*snapshots), strict=True):
            self.stopped = self.stopped or outcome.history.stop_reason == "interrupt"
            if outcome.error is not None:
                self.diverged = outcome.error
            elif outcome.history.epochs:
                complete = outcome.history.stop_reason != "interrupt"
                curve = self.validation_curve(outcome.history)
                cross_fitted = ((), ()) if shots is None else (tuple(shots.params), tuple(shots.errors.tolist()))
                self.members[spec] = Member(spec, net, min(curve, default=nan), complete, curve, *cross_fitted)

    def build_group(self, specs: Sequence[MemberSpec]) -> tuple[NetworkGroup, list[Snapshots | None]]:
        """Return untrained networks of members of the same candidate, with their data, options and snapshots."""
        candidate = specs[0].candidate
        X, y, weights = self.rows.inputs[candidate.features], self.y, self.rows.weights
        networks = [candidate.recipe.build_network(self.task, X.shape[1], self.member_seed(spec)) for spec in specs]
        arguments = fit_options(self.task, n_fold_training_rows(len(y)))
        if self.epochs_override is not None:
            arguments["epochs"] = self.epochs_override
        last = None
        rows, held_out = zip(*(self.folds.rows(spec.fold) for spec in specs), strict=True)
        snapshots = [
            None if spec.fold is None else self.create_snapshots(index, net)
            for spec, index, net in zip(specs, held_out, networks, strict=True)
        ]
        if specs[0].fold is None:
            del arguments["metrics"], arguments["restore_best"]
            last = self.best_epoch_count(candidate) or arguments["epochs"]
        else:
            arguments["validation"] = PerNetwork(map(ValidationRows, held_out))
        arguments["callback"] = PerNetwork(
            MemberCallback(spec.number, arguments["epochs"], last, self.callback, shots)
            for spec, shots in zip(specs, snapshots, strict=True)
        )
        arguments["sample_weight"] = weights
        return NetworkGroup(networks, X, y, rows, arguments), snapshots

    def member_seed(self, spec: MemberSpec) -> int:
        """Return the seed for the initial weights of a member and for the order of its rows."""
        return int(np.random.default_rng([self.seed, 0, spec.number]).integers(2**31))

    @cached_property
    def estimate_parts(self) -> NDArray[np.int8]:
        """Part of its fold that contains each row (n,); -1 for rows that are not predicted, to limit the time."""
        part, n = self.folds.part.copy(), len(self.rows.y)
        # Divide by 2, because up to two networks predict each row.
        limit = MAX_ESTIMATE_OUTPUTS // self.task.n_network_outputs // 2
        limit = max(MIN_ESTIMATE_ROWS, min(MAX_ESTIMATE_ROWS, limit))
        if limit < n:
            part[np.random.default_rng([self.seed, 2]).permutation(n)[limit:]] = -1
        return part

    def create_snapshots(self, rows: NDArray[np.intp], network: NeuralNetwork) -> Snapshots:
        """Create the Snapshots of a network from which the rows with the indices `rows` are held out."""
        weights = None if self.rows.weights is None else self.rows.weights[rows]
        return Snapshots(self.task, network, self.y[rows], weights, self.estimate_parts[rows])

    def held_out_networks(self) -> list[HeldOutNetwork]:
        """Return networks that predict held-out rows; each one predicts rows that neither trained nor selected it."""
        members = [member for _, member in sorted(self.members.items()) if member.params]
        members = [member for member in members if member.complete] or members
        # Dict from (member, id of parameter array), the key of a snapshot, to the parts of the fold that it predicts.
        parts: dict[tuple[MemberSpec, int], list[int]] = {}
        for part in range(N_PARTS):
            selected = self.select_candidates(part)
            for member in members:
                spec = member.spec
                if spec.fold is not None and (spec.fold >= self.n_compared_folds or spec.candidate in selected):
                    parts.setdefault((spec, id(member.params[part])), []).append(part)
        networks = [self.held_out_network(self.members[spec], indices) for (spec, _), indices in parts.items()]
        return [network for network in networks if len(network.rows)]

    def held_out_network(self, member: Member, parts: list[int]) -> HeldOutNetwork:
        """Return a snapshot of `member` for the held-out rows in the given parts (indices) of the member's fold."""
        rows = np.flatnonzero(self.folds.holds_out(member.spec.fold) & np.isin(self.estimate_parts, parts))
        network = with_params(member.network, member.params[parts[0]])
        return HeldOutNetwork(network, member.features, rows, self.estimate_parts[rows])
