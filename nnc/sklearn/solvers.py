"""Solvers: the training of both estimators, as scikit-learn does it."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Integral
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.optimize
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from nnc._model.model import fill_arrays
from nnc._training.advice import TrainingWarning
from nnc._training.arguments import FitArguments
from nnc._training.callbacks import Record, asked, tell
from nnc._training.options import TrainingOptions, callbacks_of, dropout_settings
from nnc._training.options import settings as core_settings
from nnc._training.state import TrainingState
from nnc._utils.sklearn_private import BaseOptimizer, SGDOptimizer, checked_iterations
from nnc.sklearn.runs import DenseRun, Orders, SparseRun, batches, mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._network import NeuralNetwork
    from nnc._registry.optimizers import LBFGS, Optimizer

BLOCK_BYTES = 1 << 24  # rows of a sparse X that are made dense at a time outside of training


class Solvers:
    """Stochastic solvers, L-BFGS and Levenberg-Marquardt; a base of Estimator."""

    n_iter_: int
    loss_: float
    best_loss_: float | None
    validation_loss_curve_: list[float] | None

    def _train(
        self: Any,
        net: NeuralNetwork,
        optimizer: Optimizer,
        X: Any,
        y: NDArray[Any],
        weights: Any,
        incremental: bool,
        validation: Any,
    ) -> None:
        """A stochastic solver."""
        if self.early_stopping and validation is None:
            X, y, weights, validation = self._split(X, y, weights)
        n = len(y)
        batch = self._rows_in_batch(n)
        data = self._data(net, X, y, weights)
        held_data = None if validation is None else self._data(net, *validation)
        self._begin_curves(self.early_stopping)
        if held_data is not None and self.validation_loss_curve_ is None:
            self.validation_loss_curve_ = []
        state = self._state_for(net, optimizer, incremental)
        _, loss_factor, _ = self._loss_and_factors()
        settings = self._settings(net, state)
        draw = Orders(n, self._random_state, net.model.core) if self.shuffle else None
        # a single batch has all rows in any order, and those of a sparse matrix come in theirs
        order = draw.order if draw is not None and batch < n and not issparse(X) else None
        if order is not None and draw is not None and draw.bits is not None and isinstance(self.random_state, Integral):
            settings["generator"] = draw.bits  # which nobody else has, so that nobody has to wait for it
        else:
            settings["shuffles"] = False  # the order is drawn here, if at all
        options = TrainingOptions(1 if incremental else self.max_iter, settings)
        options.batch_size, options.order = batch, order
        options.n_threads, options.max_seconds = self.n_threads, self.max_seconds
        options.network, options.callbacks = net, callbacks_of(self.callback)
        run: Any
        if issparse(X):
            passes = partial(batches, data, batch, draw)
            run = SparseRun(self, loss_factor, n, net, passes, held_data, options, state)
        else:
            run = DenseRun(self, loss_factor, draw, net, data, held_data, options, state)
        if self.early_stopping and not self.loss_curve_:
            run.monitor.keep(run.params)  # where no score is a number
        self.n_iter_ = 0
        net.state = state
        reason = run.run().stop_reason
        state.forget()  # what loss_curve_ and its like tell
        if run.monitor.params is not None:
            run.params[...] = run.monitor.params
        if not self.loss_curve_:  # max_seconds was too short for one epoch
            self.loss_ = np.nan
        if reason == "interrupt":
            warnings.warn("Training interrupted by user.", stacklevel=5)
        if reason == "epochs" and not incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _split(self: Any, X: Any, y: NDArray[Any], weights: Any) -> tuple[Any, NDArray[Any], Any, Any]:
        """Return the rows to train on and, for early stopping, those of scikit-learn's validation set."""
        stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
        rows, held = train_test_split(
            np.arange(len(y)),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=stratify,
        )
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        X_val = X[held].toarray() if issparse(X) else X[held]
        validation = X_val, y[held], None if weights is None else weights[held]
        return X[rows], y[rows], None if weights is None else weights[rows], validation

    def _rows_in_batch(self: Any, n: int) -> int:
        """Return the number of rows of a batch, of n rows."""
        if self.batch_size == "auto":
            return min(200, n)
        if self.batch_size > n:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=6
            )
        return int(min(self.batch_size, n))

    def _settings(self: Any, net: NeuralNetwork, state: TrainingState) -> dict[str, Any]:
        """Return the settings of the core by which it computes as scikit-learn does."""
        _, loss_factor, delta_factor = self._loss_and_factors()
        settings: dict[str, Any] = {
            **core_settings(FitArguments(), net.model, state),  # of layers that learn otherwise
            "l2": self.alpha,
            "mean_penalty": True,
            "by_rows": True,
            "loss_factor": loss_factor,
            "delta_factor": delta_factor,
            "eps_last": self.solver == "adam",
        }
        if np.any(self.dropout):
            settings |= dropout_settings(self.dropout, net.model, state)
        return settings

    def _state_for(self: Any, net: NeuralNetwork, optimizer: Optimizer, incremental: bool) -> TrainingState:
        """What the optimizer goes on from: in partial_fit from where it is, in fit anew."""
        schedule = self.learning_rate if callable(self.learning_rate) else None
        kept = vars(self).get("_optimizer") if incremental else None
        state = None if kept is None or net.state is None else net.state.successor(net.streams)
        if state is None:
            state = TrainingState.begin(None, net.model, optimizer, schedule, self.max_iter, net.streams)
            if kept is not None:
                state.lr = kept.learning_rate
        else:
            state.refuse_rest(
                "learning_rate", "give the schedule as many epochs as there will be calls of partial_fit, or call fit"
            )
        if kept is None and self.solver == "sgd" and schedule is None:
            rate, rule = self.learning_rate_init, self.learning_rate
            self._optimizer = SGDOptimizer([], rate, rule, self.momentum, self.nesterovs_momentum, self.power_t)
        elif kept is None:
            self._optimizer = BaseOptimizer(state.lr)
        return state

    # ------------------------------------------------------------------------------------------ all rows at once

    def _loss_grad_lbfgs(
        self: Any, packed: NDArray[np.float64], X: Any, y: NDArray[Any], sample_weight: Any, *buffers: Any
    ) -> tuple[float, NDArray[np.float64]]:
        """The loss and its gradient, in scikit-learn's order: all weights, then all biases."""
        net = self._connect()
        return self._objective(net, packed, self._data(net, X, y, sample_weight))  # type: ignore[no-any-return]

    def _objective(
        self: Any, net: NeuralNetwork, packed: NDArray[np.float64], data: Data
    ) -> tuple[float, NDArray[np.float64]]:
        unpack(net.model, packed)
        _, loss_factor, delta_factor = self._loss_and_factors()
        total = float(data.total_weight)
        loss = offset = 0.0
        gradient = np.zeros(len(packed))
        for part in self._blocks(data):
            share = part.total_weight / total
            part_loss, part_gradient = loss_and_gradient(net.model, part)
            loss += share * part_loss
            offset += share * mean(self._offsets(part.Y), part.weights)
            gradient += share * part_gradient
        gradient *= delta_factor
        n_weights = sum(W.size for W in net.weights)
        W = packed[:n_weights]
        gradient[:n_weights] += self.alpha / total * W
        return loss_factor * loss + offset + 0.5 * self.alpha * float(W @ W) / total, gradient

    def _minimize(
        self: Any, net: NeuralNetwork, optimizer: LBFGS, X: Any, y: NDArray[Any], weights: Any, validation: Any
    ) -> None:
        """L-BFGS-B, called as scikit-learn does."""
        data = self._data(net, X, y, weights)
        hook = Hook(self, net, validation)
        try:
            result = scipy.optimize.minimize(
                lambda packed: self._objective(net, packed, data),
                packed_parameters(net.model),
                method="L-BFGS-B",
                jac=True,
                callback=hook if hook.is_needed else None,
                options={
                    "maxfun": self.max_fun,
                    "maxiter": self.max_iter,
                    "gtol": self.tol,
                    "maxcor": optimizer.history_size,
                },
            )
        finally:
            tell(hook.calls, "close")
        unpack(net.model, result.x)
        self.n_iter_ = result.nit if hook.stopped else checked_iterations("lbfgs", result, self.max_iter)
        self.loss_ = float(result.fun)

    def _least_squares(
        self: Any, net: NeuralNetwork, optimizer: Optimizer, X: Any, y: NDArray[Any], weights: Any, validation: Any
    ) -> None:
        """Levenberg and Marquardt's method."""
        X = X.toarray() if issparse(X) else X
        self._begin_curves(False)
        total = float(len(X) if weights is None else np.sum(weights))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)
            history = net.fit(
                X,
                y,
                epochs=self.max_iter,
                optimizer=optimizer,
                reset_optimizer=True,
                sample_weight=weights,
                l2=2 * self.alpha / (total * net.sizes[-1]),
                validation=None if validation is None else tuple(part for part in validation if part is not None),
                max_seconds=self.max_seconds,
                callback=self.callback,
            )
        self.n_iter_ = history.epochs
        self.t_ += history.epochs * len(X)
        self.loss_curve_.extend((history.loss / 2).tolist())
        self.loss_ = self.loss_curve_[-1] if self.loss_curve_ else np.nan
        self.best_loss_ = min(self.loss_curve_, default=np.inf)
        if history.val_loss is not None:
            self.validation_loss_curve_ = [*(self.validation_loss_curve_ or []), *(history.val_loss / 2).tolist()]
        if history.stop_reason == "epochs":
            message = f"levenberg_marquardt has not converged after {self.max_iter} iterations."
            warnings.warn(message, ConvergenceWarning, stacklevel=5)

    def _blocks(self: Any, data: Data) -> Iterator[Data]:
        """The data as the engine takes it: as it is, or a sparse X some rows at a time."""
        if not issparse(data.X):
            yield data
            return
        rows = max(1, BLOCK_BYTES // (8 * data.X.shape[1]))
        for start in range(0, data.X.shape[0], rows):
            part = data.rows(slice(start, start + rows))
            yield part.with_inputs(part.X.toarray())  # type: ignore[attr-defined]


class Hook:
    """Callback that scipy calls after each iteration of L-BFGS."""

    def __init__(self, estimator: Any, net: NeuralNetwork, validation: Any) -> None:
        self.estimator, self.net = estimator, net
        self.validation = None if validation is None else estimator._data(net, *validation)
        if self.validation is not None and estimator.validation_loss_curve_ is None:
            estimator.validation_loss_curve_ = []
        self.calls = callbacks_of(estimator.callback)
        tell(self.calls, "open")
        self.is_needed = bool(validation or self.calls or estimator.max_seconds or estimator.verbose)
        self.began = perf_counter()
        self.epoch = 0
        self.best = np.inf
        self.stopped = False

    def __call__(self, intermediate_result: Any) -> None:
        estimator, net = self.estimator, self.net
        unpack(net.model, intermediate_result.x)
        self.epoch += 1
        record = Record(epoch=self.epoch, loss=float(intermediate_result.fun))
        if estimator.verbose:
            print(f"Iteration {self.epoch}, loss = {record.loss:.8f}")
        if self.validation is not None:
            _, factor, _ = estimator._loss_and_factors()
            offset = mean(estimator._offsets(self.validation.Y), self.validation.weights)
            record["val_loss"] = net.model.compute_loss(self.validation) * factor + offset
            estimator.validation_loss_curve_.append(record.val_loss)
        value = record.get("val_loss", record.loss)
        record.update(lr=np.nan, seconds=perf_counter() - self.began, best=value < self.best, network=net)
        self.best = min(self.best, value)
        late = estimator.max_seconds is not None and record.seconds >= estimator.max_seconds
        for call in self.calls:
            late = asked(call, record) or late
        if late:
            self.stopped = True
            raise StopIteration


def packed_parameters(model: Model, flat: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the parameters, or an array of their layout, in scikit-learn's order: all weights, then all biases."""
    W, b = (model.W, model.b) if flat is None else model.views(flat)
    return np.concatenate([part.ravel() for part in (*W, *b) if part is not None])


def unpack(model: Model, parameters: NDArray[Any]) -> None:
    """Set the parameters, given in scikit-learn's order."""
    fill_arrays([part for part in (*model.W, *model.b) if part is not None], parameters)


def loss_and_gradient(model: Model, data: Data) -> tuple[float, NDArray[Any]]:
    """Return the loss of all rows, and its gradient in scikit-learn's order."""
    flat = model.zeros()
    return model.gradient(data, flat), packed_parameters(model, flat)
