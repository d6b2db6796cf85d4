"""What is done while an estimator is trained: scikit-learn's rules after an epoch, and the order of the rows."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._training.batches import BatchLoop
from nnc._training.dataset import Dataset
from nnc._training.evaluation import Evaluator
from nnc._training.loop import TrainingLoop
from nnc._utils.sklearn_private import SGDOptimizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._network import NeuralNetwork
    from nnc._training.options import TrainingOptions
    from nnc._training.state import TrainingState


class _Watched(TrainingLoop):
    """What is done after an epoch of a stochastic solver: scikit-learn's rules, in its order."""

    def watch_for(self, estimator: Any, rows: int, factor: float) -> None:
        """`factor` is what scikit-learn's loss is larger by than the engine's; the offsets come on top of it."""
        self.estimator, self.n, self.factor = estimator, rows, factor
        self.is_plain, self.every = False, 1
        self.lost = False  # the weights have stopped being finite
        self.val_offset = 0.0
        validation, columns = self.dataset.validation, self.records.columns
        if validation is not None:
            self.val_offset = mean(estimator._offsets(validation.Y), validation.weights)
            outputs = np.empty((len(validation.X), self.model.sizes[-1]), self.model.dtype)
            self.evaluator = Evaluator(self.model, self.dataset, self.options, columns, outputs)
        if estimator.early_stopping:
            columns["val_score"] = []

    def diverged(self) -> None:
        # scikit-learn goes on with weights that are NaN and says so when it is over; so does this, but computes no more
        self.params[...] = np.nan
        self.lost = True

    def look(self) -> str:
        reason = ""
        while not reason and self.epoch > self.seen:
            self.seen += 1
            reason = self.after_epoch(self.seen)
        if self.interrupt:
            return "interrupt"
        return reason or ("max_seconds" if self.is_late() else "")

    def after_epoch(self, epoch: int) -> str:
        estimator, state = self.estimator, self.state
        losses = self.records.losses
        loss = losses[epoch - 1] = float(losses[epoch - 1]) + self.offset()
        estimator.n_iter_ = epoch
        estimator.loss_ = loss
        estimator.t_ += self.n
        estimator.loss_curve_.append(loss)
        if estimator.verbose:
            print(f"Iteration {epoch}, loss = {loss:.8f}")
        if self.evaluator is not None:
            self.evaluate()
            values = self.records.columns["val_loss"]
            loss = values[-1] = values[-1] * self.factor + self.val_offset
            estimator.validation_loss_curve_.append(loss)
        better = self.improve(estimator) if estimator.early_stopping else _improve_loss(estimator)
        if state.plateau is not None:
            state.plateau.observe(loss)
        optimizer = estimator._optimizer
        optimizer.iteration_ends(estimator.t_)
        reason = ""
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            what = "Validation score" if estimator.early_stopping else "Training loss"
            message = (
                f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive "
                "epochs."
            )
            if optimizer.trigger_stopping(message, estimator.verbose):
                reason = "converged"
            else:
                estimator._no_improvement_count = 0
        if isinstance(optimizer, SGDOptimizer) and optimizer.learning_rate != state.lr:
            # scikit-learn's velocity has the rate in it, and keeps what it had when the rate changes
            state.moments *= state.lr / optimizer.learning_rate
            state.lr = optimizer.learning_rate
        if self.call_back(epoch, better, last=bool(reason) or epoch == self.options.epochs):
            reason = reason or "callback"
        return reason

    def offset(self) -> float:
        """What scikit-learn's loss of this epoch has beside the engine's."""
        return 0.0

    def improve(self, estimator: Any) -> bool:
        """Counts epochs without a better validation score, and keeps the weights of the best."""
        assert self.evaluator is not None
        score = estimator._score_of(self.dataset.validation, self.evaluator.outputs)
        estimator.validation_scores_.append(score)
        self.records.columns["val_score"].append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        if not _improves(estimator, score, estimator.best_validation_score_):
            return False
        estimator.best_validation_score_ = score
        self.monitor.keep(self.params)
        return True


class DenseRun(_Watched):
    """Rows in an array, which the core goes through by itself.

    Parameters
    ----------
    draw : callable or None
        Draws the order of an epoch from scikit-learn's random numbers, into `options.order` where that matters; None
        keeps the order of the rows.
    """

    def __init__(
        self,
        estimator: Any,
        factor: float,
        draw: Any,
        net: NeuralNetwork,
        data: Data,
        validation: Data | None,
        options: TrainingOptions,
        state: TrainingState,
    ) -> None:
        super().__init__(net.model, Dataset(net.converter, data, validation), options, state)
        self.watch_for(estimator, len(data.X), factor)
        self.offsets = estimator._offsets(data.Y)
        self.draw, self.drawn = draw, 0
        self.core_draws = "generator" in options.settings
        self.lost_epochs = 0
        # Whether nobody wants to see or to change anything before a rule may end it.
        weighted = self.offsets is not None and data.weights is not None
        self.is_unwatched = (
            (options.order is None or self.core_draws)
            and not (estimator.verbose or validation or options.callbacks or state.plateau or weighted)
            and estimator.learning_rate != "invscaling"
        )

    @property
    def epoch(self) -> int:
        return super().epoch + self.lost_epochs

    def goal(self) -> int:
        self.every = self.epochs_alone()
        return super().goal()

    def epochs_alone(self) -> int:
        """How many epochs can go by before a rule can end it, which is looked at after the last of them."""
        if self.lost or not self.is_unwatched:
            return 1
        patience = self.estimator.n_iter_no_change - self.estimator._no_improvement_count
        assert self.options.epochs is not None
        left = self.options.epochs - self.epoch
        return left if patience >= left else max(1, int(patience) + 1)

    def advance(self, goal: int) -> None:
        if self.lost or not self.core_draws:
            while self.draw is not None and self.drawn < goal:
                self.draw()
                self.drawn += 1
        self.records.losses[self.epoch : goal] = np.nan  # until the core knows better
        if not self.lost:
            super().advance(goal)
        if self.lost and self.epoch < goal:
            self.lost_epochs += 1
        if self.core_draws:
            self.drawn = self.epoch

    def offset(self) -> float:
        if self.offsets is None or self.data.weights is None:
            return mean(self.offsets, None)
        n, batch, order = self.n, self.batch_size, self.options.order
        total = 0.0
        for start in range(0, n, batch):
            rows: Any = slice(start, start + batch) if order is None else order[start : start + batch]
            total += min(batch, n - start) * mean(self.offsets[rows], self.data.weights[rows])
        return total / n


class SparseRun(_Watched, BatchLoop):
    """Rows of a sparse matrix, of which one batch at a time is made dense."""

    def __init__(
        self,
        estimator: Any,
        factor: float,
        rows: int,
        net: NeuralNetwork,
        passes: Any,
        validation: Data | None,
        options: TrainingOptions,
        state: TrainingState,
    ) -> None:
        BatchLoop.__init__(self, net.model, net.converter, passes, options, state, validation)
        self.watch_for(estimator, rows, factor)

    def advance(self, goal: int) -> None:
        total = 0.0
        for data in self.batches():
            loss = np.nan if self.lost else self.step(data) + mean(self.estimator._offsets(data.Y), data.weights)
            total += loss * len(data.X)
            if self.interrupt or self.is_late():
                return
        self.records.losses[self.complete] = total / self.n
        self.complete += 1
        self.mark(perf_counter())


def mean(offsets: NDArray[Any] | None, weights: NDArray[Any] | None) -> float:
    return 0.0 if offsets is None else float(np.average(offsets, weights=weights))


def _improve_loss(estimator: Any) -> bool:
    """Count epochs without a lower loss, and remember the lowest one; return whether this is the lowest."""
    loss = estimator.loss_curve_[-1]
    improves = _improves(estimator, -loss, -estimator.best_loss_)
    if improves:
        estimator.best_loss_ = loss
    return improves


def _improves(estimator: Any, score: float, best: float) -> bool:
    """Count epochs whose score does not exceed the best one by `tol`; return whether it exceeds it at all."""
    estimator._no_improvement_count = estimator._no_improvement_count + 1 if score < best + estimator.tol else 0
    return score > best


class Orders:
    """The orders of epochs as scikit-learn draws them, each from the one before: a shuffle of it.

    The core does it, by the numbers that NumPy would take, since a call of NumPy's takes as long as some steps of a
    small network.
    """

    def __init__(self, n: int, random: Any, core: Any) -> None:
        self.order = np.arange(n, dtype=np.int32)
        self.random, self.core = random, core
        # what NumPy lets others draw from; not if somebody has a way of shuffling of his own
        self.bits = getattr(random, "_bit_generator", None) if type(random) is np.random.RandomState else None

    def __call__(self) -> NDArray[np.int32]:
        if self.bits is None:
            self.order[...] = self.order[self.random.permutation(len(self.order))]
        else:
            self.core.shuffle_by(self.order, self.bits)
        return self.order


def batches(data: Data, batch: int, draw: Orders | None) -> Iterator[Data]:
    """One epoch over the rows of a sparse matrix."""
    n = data.X.shape[0]
    order = np.arange(n) if draw is None else draw()
    for start in range(0, n, batch):
        part = data.rows(order[start : start + batch])
        yield part.with_inputs(part.X.toarray())  # type: ignore[attr-defined]
