"""Training of MLPClassifier and MLPRegressor with the stopping rules and row orders of scikit-learn."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._training.divergence import NotFiniteError
from nnc._training.sources import Batches
from nnc._utils.sklearn_private import SGDOptimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._team import Interrupt, Team
    from nnc._training.evaluation import Evaluator
    from nnc._training.first_order import FirstOrder
    from nnc._training.minimizer import Run


class ScikitLearnRules:
    """Stopping rules of scikit-learn, which also update the attributes of the estimator after each epoch.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Estimator in training.
    rows : DenseRows or SparseRows
        Training rows.
    validation : Data or None
        Validation rows.
    checks_each_epoch : bool
        Whether each epoch needs a check for another reason than the patience.
    epochs : int
        Number of epochs of the run.
    """

    def __init__(
        self,
        estimator: Any,
        rows: DenseRows | SparseRows,
        validation: Data | None,
        checks_each_epoch: bool,
        epochs: int,
    ) -> None:
        self.estimator, self.rows, self.validation, self.epochs = estimator, rows, validation, epochs
        self.checks_each_epoch = checks_each_epoch
        self.checked_epochs = 0

    def next_check(self, epoch: int) -> int:
        """Return the next epoch after which a stopping rule can end the training."""
        if self.rows.has_nan or self.checks_each_epoch:
            return epoch + 1
        patience = self.estimator.n_iter_no_change - self.estimator._no_improvement_count
        remaining = self.epochs - epoch
        return epoch + (remaining if patience >= remaining else max(1, int(patience) + 1))

    def check(self, run: Run) -> str:
        """Apply the stopping rules to each epoch since the last call; return the reason to stop, or ""."""
        reason = ""
        while not reason and run.epoch > self.checked_epochs:
            self.checked_epochs += 1
            reason = self.after_epoch(run, self.checked_epochs)
        return reason

    def after_epoch(self, run: Run, epoch: int) -> str:
        """Update the attributes of the estimator after an epoch; return the reason to stop, or "" to continue."""
        estimator, state, losses = self.estimator, run.state, run.records.losses
        loss = losses[epoch - 1] = float(losses[epoch - 1]) + self.rows.offset()
        estimator.n_iter_ = epoch
        estimator.loss_ = loss
        estimator.t_ += self.rows.n
        estimator.loss_curve_.append(loss)
        if estimator.verbose:
            print(f"Iteration {epoch}, loss = {loss:.8f}")
        if run.evaluation is not None:
            run.evaluate()
            loss = run.records.columns["val_loss"][-1]
            estimator.validation_loss_curve_.append(loss)
        is_best = self.improve(run) if estimator.early_stopping else _improve_loss(estimator)
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
        if run.run_callbacks(epoch, is_best, is_last=bool(reason) or epoch == self.epochs):
            reason = reason or "callback"
        return reason

    def improve(self, run: Run) -> bool:
        """Compute the validation score of an epoch; if it is the best so far, store the parameters and return True."""
        estimator = self.estimator
        assert run.evaluation is not None
        score = estimator._score_of(self.validation, run.evaluation.outputs)
        estimator.validation_scores_.append(score)
        run.records.columns.setdefault("val_score", []).append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        if not _improves(estimator, score, estimator.best_validation_score_):
            return False
        estimator.best_validation_score_ = score
        run.save_best()
        return True


class ScaledEvaluation:
    """Validation loss in the units of scikit-learn.

    Parameters
    ----------
    evaluator : Evaluator
        Evaluation of the loss of the engine.
    factor, offset : float
        The loss of scikit-learn is the loss of the engine times `factor`, plus `offset`.
    """

    columns = ("val_loss",)

    def __init__(self, evaluator: Evaluator, factor: float, offset: float) -> None:
        self.evaluator, self.factor, self.offset = evaluator, factor, offset

    @property
    def outputs(self) -> Any:
        """Outputs for the validation rows."""
        return self.evaluator.outputs

    def evaluate(self, team: Team, n_threads: int, interrupt: Interrupt | None) -> list[float]:
        """Return the validation loss."""
        return [value * self.factor + self.offset for value in self.evaluator.evaluate(team, n_threads, interrupt)]


class DenseRows:
    """Source of all rows of a dense array; a call of the core trains one or several epochs.

    Like in scikit-learn, a training goes on after a loss that is not finite: all parameters become NaN, and the epochs
    are counted without training steps.

    Parameters
    ----------
    rows : Data
        All rows.
    batch_size : int
        Rows in a batch.
    order : int array (n,) or None
        Buffer with the order of the rows, which `draw` writes.
    draw : callable or None
        Function that writes the row order of the next epoch to `order`, with the random numbers of scikit-learn. None:
        the rows are not shuffled.
    core_shuffles : bool
        Whether the core draws the orders.
    offsets : array (n,) or None
        Loss of scikit-learn minus the loss of the engine for each row.

    Attributes
    ----------
    has_nan : bool
        Whether the training produced NaN or infinite weights.
    nan_epochs : int
        Number of epochs without training steps.
    """

    reads_batches = False
    has_nan = False
    nan_epochs = 0

    def __init__(
        self,
        rows: Data,
        batch_size: int,
        order: NDArray[np.int32] | None,
        draw: RowOrders | None,
        core_shuffles: bool,
        offsets: NDArray[Any] | None,
    ) -> None:
        self.rows, self.n, self.batch_size, self.order, self.draw = rows, rows.n, batch_size, order, draw
        self.core_shuffles, self.offsets = core_shuffles, offsets
        self.steps_per_epoch = -(-rows.n // batch_size)
        self.drawn_epochs = 0

    def count_epochs(self, core_epochs: int) -> int:
        """Return the number of completed epochs, including those without training steps."""
        return core_epochs + self.nan_epochs

    def train(self, minimizer: FirstOrder, goal: int) -> None:
        """Train until the total number of completed epochs is `goal`."""
        if self.has_nan or not self.core_shuffles:
            while self.draw is not None and self.drawn_epochs < goal:
                self.draw()
                self.drawn_epochs += 1
        minimizer.records.losses[minimizer.epoch : goal] = np.nan  # the core replaces NaN in completed epochs
        if not self.has_nan:
            try:
                minimizer.train_epochs(goal)
            except NotFiniteError:
                self.has_nan = True
                minimizer.model.theta[...] = np.nan
        if self.has_nan and minimizer.epoch < goal:
            self.nan_epochs += 1
        if self.core_shuffles:
            self.drawn_epochs = minimizer.epoch

    def offset(self) -> float:
        """Return scikit-learn's loss minus the engine's loss, averaged over all rows.

        Sample weights are normalized in each batch of the last epoch, as in the loss.
        """
        if self.offsets is None or self.rows.weights is None:
            return mean(self.offsets, None)
        n, batch, order = self.n, self.batch_size, self.order
        total = 0.0
        for start in range(0, n, batch):
            rows: Any = slice(start, start + batch) if order is None else order[start : start + batch]
            total += min(batch, n - start) * mean(self.offsets[rows], self.rows.weights[rows])
        return total / n


class SparseRows:
    """Source of the rows of a sparse matrix; each batch of rows is converted to a dense array.

    Parameters
    ----------
    start_epoch : callable
        Function that returns an iterator of the batches (Data) of an epoch.
    n : int
        Number of rows in an epoch.
    offsets_of : callable
        Function that returns scikit-learn's loss minus the engine's loss for each of some targets.

    Attributes
    ----------
    has_nan : bool
        Whether the training produced NaN or infinite weights; see `DenseRows`.
    """

    reads_batches = True
    steps_per_epoch = 1
    has_nan = False

    def __init__(
        self, start_epoch: Callable[[], Iterator[Data]], n: int, offsets_of: Callable[[Any], NDArray[Any] | None]
    ) -> None:
        self.batches, self.n, self.offsets_of = Batches(start_epoch), n, offsets_of
        self.rows = self.batches.first
        self.epochs = 0

    def count_epochs(self, core_epochs: int) -> int:
        """Return the number of complete epochs; in the core, each step is an epoch."""
        return self.epochs

    def train(self, minimizer: FirstOrder, goal: int) -> None:
        """Train one epoch, unless an interrupt or the time limit ends it."""
        total, records = 0.0, minimizer.records
        minimizer.training.refresh()
        for data in self.batches:
            total += self.step(minimizer, data) * data.n
            if minimizer.is_interrupted():
                return
        records.losses[self.epochs] = total / self.n
        self.epochs += 1
        records.add_time(self.epochs, perf_counter())

    def step(self, minimizer: FirstOrder, data: Data) -> float:
        """Take a step, and return the loss of scikit-learn before it; NaN without a step after a divergence."""
        if self.has_nan:
            return np.nan
        minimizer.take_step(data, minimizer.records.rate_of_step(self.epochs))
        try:
            minimizer.check_finite(data)
        except NotFiniteError:
            self.has_nan = True
            minimizer.model.theta[...] = np.nan
        return float(minimizer.step_loss[0]) + mean(self.offsets_of(data.Y), data.weights)

    def offset(self) -> float:
        """Return 0, because the loss of a step already has the units of scikit-learn."""
        return 0.0


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
