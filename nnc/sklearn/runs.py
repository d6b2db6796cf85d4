"""Training loops of MLPClassifier and MLPRegressor, with the stopping rules and row orders of scikit-learn."""

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


class EstimatorLoop(TrainingLoop):
    """Training loop of a stochastic solver; it applies the stopping rules of scikit-learn."""

    def set_estimator(self, estimator: Any, rows: int, factor: float) -> None:
        """Set the estimator, the number of training rows, and the ratio of scikit-learn's loss to the engine's loss."""
        self.estimator, self.n, self.factor = estimator, rows, factor
        self.is_plain, self.check_interval = False, 1
        self.has_nan = False  # whether the training produced NaN or infinite weights
        self.val_offset = 0.0
        validation, columns = self.dataset.validation, self.records.columns
        if validation is not None:
            self.val_offset = mean(estimator._offsets(validation.Y), validation.weights)
            outputs = np.empty((len(validation.X), self.model.sizes[-1]), self.model.dtype)
            self.evaluator = Evaluator(self.model, self.dataset, self.options, columns, outputs)
        if estimator.early_stopping:
            columns["val_score"] = []

    def raise_divergence(self) -> None:
        """Set all parameters to NaN, because the loss is not finite."""
        # Like scikit-learn, continue with NaN parameters and warn at the end, but compute no further steps.
        self.params[...] = np.nan
        self.has_nan = True

    def check_epoch(self) -> str:
        """Apply the stopping rules to each epoch since the last call; return the reason to stop, or "" to continue."""
        reason = ""
        while not reason and self.epoch > self.checked_epochs:
            self.checked_epochs += 1
            reason = self.after_epoch(self.checked_epochs)
        if self.interrupt:
            return "interrupt"
        return reason or ("max_seconds" if self.is_out_of_time() else "")

    def after_epoch(self, epoch: int) -> str:
        """Update the attributes of the estimator after an epoch; return the reason to stop, or "" to continue."""
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
        is_best = self.improve(estimator) if estimator.early_stopping else _improve_loss(estimator)
        if state.plateau is not None:
            state.plateau.observe(loss)
        optimizer = estimator._optimizer
        optimizer.iteration_ends(estimator.t_)
        reason = ""
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            quantity = "Validation score" if estimator.early_stopping else "Training loss"
            message = (
                f"{quantity} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} "
                "consecutive epochs."
            )
            if optimizer.trigger_stopping(message, estimator.verbose):
                reason = "converged"
            else:
                estimator._no_improvement_count = 0
        if isinstance(optimizer, SGDOptimizer) and optimizer.learning_rate != state.lr:
            # The engine multiplies the moments by the current learning rate. Scale them, so that the product does not
            # change: in scikit-learn, a new learning rate does not change the velocity.
            state.moments *= state.lr / optimizer.learning_rate
            state.lr = optimizer.learning_rate
        if self.run_callbacks(epoch, is_best, is_last=bool(reason) or epoch == self.options.epochs):
            reason = reason or "callback"
        return reason

    def offset(self) -> float:
        """Return scikit-learn's loss of the last epoch minus the engine's loss."""
        return 0.0

    def improve(self, estimator: Any) -> bool:
        """Compute the validation score of an epoch; if it is the best so far, store the parameters and return True."""
        assert self.evaluator is not None
        score = estimator._score_of(self.dataset.validation, self.evaluator.outputs)
        estimator.validation_scores_.append(score)
        self.records.columns["val_score"].append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        if not _improves(estimator, score, estimator.best_validation_score_):
            return False
        estimator.best_validation_score_ = score
        self.monitor.save_params(self.params)
        return True


class DenseLoop(EstimatorLoop):
    """Training loop on a dense array; a call of the core trains one or several epochs.

    Parameters
    ----------
    draw : callable or None
        Function that writes the row order of the next epoch to `options.order`, with the random numbers of
        scikit-learn. None: the rows are not shuffled.
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
        self.set_estimator(estimator, len(data.X), factor)
        self.offsets = estimator._offsets(data.Y)
        self.draw, self.drawn_epochs = draw, 0
        self.core_shuffles = "generator" in options.settings
        self.nan_epochs = 0
        weighted = self.offsets is not None and data.weights is not None
        # One call of the core trains several epochs, unless an epoch needs more than a check of the patience.
        self.skips_checks = (
            (options.order is None or self.core_shuffles)
            and not (estimator.verbose or validation or options.callbacks or state.plateau or weighted)
            and estimator.learning_rate != "invscaling"
        )

    @property
    def epoch(self) -> int:
        """Number of completed epochs, including those without training steps after the parameters became NaN."""
        return super().epoch + self.nan_epochs

    def next_check(self) -> int:
        """Return the number of the epoch after which the stopping rules are checked next."""
        self.check_interval = self.unchecked_epochs()
        return super().next_check()

    def unchecked_epochs(self) -> int:
        """Return the smallest number of further epochs after which a stopping rule can end the training."""
        if self.has_nan or not self.skips_checks:
            return 1
        patience = self.estimator.n_iter_no_change - self.estimator._no_improvement_count
        assert self.options.epochs is not None
        remaining = self.options.epochs - self.epoch
        return remaining if patience >= remaining else max(1, int(patience) + 1)

    def advance(self, goal: int) -> None:
        """Train until the total number of completed epochs is `goal`."""
        if self.has_nan or not self.core_shuffles:
            while self.draw is not None and self.drawn_epochs < goal:
                self.draw()
                self.drawn_epochs += 1
        self.records.losses[self.epoch : goal] = np.nan  # the core replaces NaN by the losses of completed epochs
        if not self.has_nan:
            super().advance(goal)
        if self.has_nan and self.epoch < goal:
            self.nan_epochs += 1
        if self.core_shuffles:
            self.drawn_epochs = self.epoch

    def offset(self) -> float:
        """Return scikit-learn's loss minus the engine's loss, averaged over all rows.

        Sample weights are normalized in each batch of the last epoch, as in the loss.
        """
        if self.offsets is None or self.data.weights is None:
            return mean(self.offsets, None)
        n, batch, order = self.n, self.batch_size, self.options.order
        total = 0.0
        for start in range(0, n, batch):
            rows: Any = slice(start, start + batch) if order is None else order[start : start + batch]
            total += min(batch, n - start) * mean(self.offsets[rows], self.data.weights[rows])
        return total / n


class SparseLoop(EstimatorLoop, BatchLoop):
    """Training loop on a sparse matrix; each batch of rows is converted to a dense array."""

    def __init__(
        self,
        estimator: Any,
        factor: float,
        rows: int,
        net: NeuralNetwork,
        start_epoch: Any,
        validation: Data | None,
        options: TrainingOptions,
        state: TrainingState,
    ) -> None:
        BatchLoop.__init__(self, net.model, net.converter, start_epoch, options, state, validation)
        self.set_estimator(estimator, rows, factor)

    def advance(self, goal: int) -> None:
        """Train one epoch, unless an interrupt or the time limit ends it; `goal` is not used."""
        total = 0.0
        for data in self.batches():
            loss = np.nan if self.has_nan else self.step(data) + mean(self.estimator._offsets(data.Y), data.weights)
            total += loss * len(data.X)
            if self.interrupt or self.is_out_of_time():
                return
        self.records.losses[self.completed_epochs] = total / self.n
        self.completed_epochs += 1
        self.record_time(perf_counter())


def mean(offsets: NDArray[Any] | None, weights: NDArray[Any] | None) -> float:
    """Return the weighted mean of the differences between scikit-learn's loss and the engine's; 0 for None."""
    return 0.0 if offsets is None else float(np.average(offsets, weights=weights))


def _improve_loss(estimator: Any) -> bool:
    """Count epochs without improvement of the training loss; return whether the last epoch has the lowest loss."""
    loss = estimator.loss_curve_[-1]
    improves = _improves(estimator, -loss, -estimator.best_loss_)
    if improves:
        estimator.best_loss_ = loss
    return improves


def _improves(estimator: Any, score: float, best: float) -> bool:
    """Return whether `score` exceeds `best`, and count consecutive epochs with a score below `best` + tol."""
    estimator._no_improvement_count = estimator._no_improvement_count + 1 if score < best + estimator.tol else 0
    return score > best


class RowOrders:
    """Generator of the row orders of scikit-learn: each epoch permutes the order of the previous epoch.

    The core shuffles with the random numbers of NumPy's bit generator, because a call of NumPy's `permutation` takes as
    long as several training steps of a small network.
    """

    def __init__(self, n: int, random: Any, core: Any) -> None:
        self.order = np.arange(n, dtype=np.int32)
        self.random, self.core = random, core
        # A subclass of RandomState may override its methods, so the core does not use its bit generator.
        self.bits = getattr(random, "_bit_generator", None) if type(random) is np.random.RandomState else None

    def __call__(self) -> NDArray[np.int32]:
        """Return the row order of the next epoch; each call overwrites and returns the same array."""
        if self.bits is None:
            self.order[...] = self.order[self.random.permutation(len(self.order))]
        else:
            self.core.shuffle_by(self.order, self.bits)
        return self.order


def batches(data: Data, batch: int, draw: RowOrders | None) -> Iterator[Data]:
    """Yield the batches of one epoch; each batch of rows of the sparse X is converted to a dense array."""
    n = data.X.shape[0]
    order = np.arange(n) if draw is None else draw()
    for start in range(0, n, batch):
        part = data.rows(order[start : start + batch])
        yield part.replaced(X=part.X.toarray())  # type: ignore[attr-defined]
