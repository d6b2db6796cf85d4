"""Solvers of MLPClassifier and MLPRegressor: stochastic optimizers, L-BFGS and Levenberg-Marquardt."""

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

from nnc._data.batch import Batch
from nnc._model.model import fill_arrays
from nnc._registry.capabilities import check
from nnc._training.advice import TrainingWarning
from nnc._training.arguments import FitArguments
from nnc._training.callbacks import Record, call_callback, call_method
from nnc._training.dataset import Dataset
from nnc._training.evaluation import Evaluator
from nnc._training.first_order import FirstOrder
from nnc._training.loop import TrainingLoop
from nnc._training.options import TrainingOptions, callbacks_of, dropout_settings
from nnc._training.options import settings as core_settings
from nnc._training.state import TrainingState
from nnc._utils.notices import warn_user
from nnc._utils.sklearn_private import BaseOptimizer, SGDOptimizer, checked_iterations
from nnc.sklearn.runs import DenseRows, RowOrders, ScaledEvaluation, ScikitLearnRules, SparseRows, batches, mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._network import NeuralNetwork
    from nnc._registry.optimizers import Optimizer

BLOCK_BYTES = 1 << 24  # maximum size of the dense blocks of rows to which a sparse X is converted


def train(
    estimator: Any,
    net: NeuralNetwork,
    model: Model,
    optimizer: Optimizer,
    given: Batch,
    incremental: bool,
    validation: Batch | None,
) -> None:
    """Train the network with a stochastic solver, such as Adam.

    `model` is that of the network, or shares its parameters and has a loss that includes derivatives.
    """
    if estimator.early_stopping and validation is None:
        given, validation = split_rows(estimator, given)
    X, n = given.X, len(given.y)
    batch = batch_size(estimator, n)
    data = estimator._data(net, given)
    validation_data = None if validation is None else estimator._data(net, validation)
    estimator._begin_curves(estimator.early_stopping)
    if validation_data is not None and estimator.validation_loss_curve_ is None:
        estimator.validation_loss_curve_ = []
    state = training_state(estimator, net, optimizer, incremental)
    settings = solver_settings(estimator, model, state)
    draw = RowOrders(n, estimator._random_state, model.core) if estimator.shuffle else None
    # The core needs no row order if a batch contains all rows, or if `batches` selects the rows of a sparse X.
    order = draw.order if draw is not None and batch < n and not issparse(X) else None
    bits = None if order is None or draw is None else draw.bits
    if bits is not None and isinstance(estimator.random_state, Integral):
        settings["generator"] = bits  # random_state is an int, so only this fit uses the generator
    else:
        settings["shuffles"] = False  # RowOrders, not the core, shuffles the rows
    options = TrainingOptions(
        1 if incremental else estimator.max_iter,
        settings,
        batch,
        order,
        n_threads=estimator.n_threads,
        max_seconds=estimator.max_seconds,
        callbacks=callbacks_of(estimator.callback),
        network=net,
    )
    rows: DenseRows | SparseRows
    if issparse(X):
        check("a sparse X", schedule=state.schedule)
        rows = SparseRows(partial(batches, data, batch, draw), n, estimator._offsets)
    else:
        rows = DenseRows(data, batch, order, draw, "generator" in settings, estimator._offsets(data.Y))
    run = training_loop(estimator, model, Dataset(net.converter, rows.rows, validation_data), rows, options, state)
    if estimator.early_stopping and not estimator.loss_curve_:
        run.save_best()  # the initial weights are restored if all scores are NaN
    estimator.n_iter_ = 0
    net.state = state
    reason = run.run().stop_reason
    state.clear_history()  # the attributes of the estimator already contain the history
    if run.monitor.params is not None:
        run.params[...] = run.monitor.params
    if not estimator.loss_curve_:  # max_seconds ended the training within the first epoch
        estimator.loss_ = np.nan
    if reason == "interrupt":
        warn_user("Training interrupted by user.", UserWarning)
    if reason == "epochs" and not incremental:
        warn_user(
            f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization hasn't "
            "converged yet.",
            ConvergenceWarning,
        )


def training_loop(
    estimator: Any,
    model: Model,
    dataset: Dataset,
    rows: DenseRows | SparseRows,
    options: TrainingOptions,
    state: TrainingState,
) -> TrainingLoop:
    """Return the training loop of a stochastic solver."""
    validation, evaluation = dataset.validation, None
    if validation is not None:
        outputs = np.empty((validation.n, model.sizes[-1]), model.dtype)
        _, factor, _ = estimator._loss_and_factors()
        offset = mean(estimator._offsets(validation.Y), validation.weights)
        evaluation = ScaledEvaluation(Evaluator(model, dataset, options, outputs), factor, offset)
    # One call of the core trains several epochs, unless an epoch needs more than a check of the patience.
    checks_each_epoch = bool(
        isinstance(rows, SparseRows)
        or not (rows.order is None or rows.core_shuffles)
        or estimator.verbose
        or validation is not None
        or options.callbacks
        or state.plateau
        or (rows.offsets is not None and rows.rows.weights is not None)
        or estimator.learning_rate == "invscaling"
    )
    assert options.epochs is not None
    rules = ScikitLearnRules(estimator, rows, validation, checks_each_epoch, options.epochs)
    minimizer = FirstOrder(model, rows.rows, options, state, rows)
    return TrainingLoop(model, dataset, options, state, minimizer, (), rules, evaluation)


def split_rows(estimator: Any, batch: Batch) -> tuple[Batch, Batch]:
    """Split the rows like scikit-learn; return the training rows and the validation rows."""
    y = batch.y
    stratify = y if is_classifier(estimator) and estimator.n_outputs_ == 1 else None
    rows, validation_rows = train_test_split(
        np.arange(len(y)),
        random_state=estimator._random_state,
        test_size=estimator.validation_fraction,
        stratify=stratify,
    )
    if len(validation_rows) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    validation = batch.rows(validation_rows)
    if issparse(validation.X):
        validation = validation._replace(X=validation.X.toarray())
    return batch.rows(rows), validation


def batch_size(estimator: Any, n: int) -> int:
    """Return the number of rows in a mini-batch if there are n training rows; warn if batch_size exceeds n."""
    if estimator.batch_size == "auto":
        return min(200, n)
    if estimator.batch_size > n:
        warn_user("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", UserWarning)
    return int(min(estimator.batch_size, n))


def solver_settings(estimator: Any, model: Model, state: TrainingState) -> dict[str, Any]:
    """Return the settings with which the core computes the updates of scikit-learn."""
    _, loss_factor, delta_factor = estimator._loss_and_factors()
    settings: dict[str, Any] = {
        **core_settings(FitArguments(), model, state),
        "l2": estimator.alpha,
        "mean_penalty": True,
        "by_rows": True,
        "loss_factor": loss_factor,
        "delta_factor": delta_factor,
        "eps_before_bias_correction": estimator.solver == "adam",
    }
    if np.any(estimator.dropout):
        settings |= dropout_settings(estimator.dropout, model, state)
    return settings


def training_state(estimator: Any, net: NeuralNetwork, optimizer: Optimizer, incremental: bool) -> TrainingState:
    """Return a new training state; in partial_fit, continue the state of the previous call if there is one."""
    schedule = estimator.learning_rate if callable(estimator.learning_rate) else None
    previous = vars(estimator).get("_optimizer") if incremental else None
    state = None if previous is None or net.state is None else net.state.successor(net.streams)
    if state is None:
        state = TrainingState.begin(None, net.model, optimizer, schedule, estimator.max_iter, net.streams)
        if previous is not None:
            state.lr = previous.learning_rate
    else:
        state.check_not_over(
            "learning_rate", "pass a schedule with one epoch for each call of partial_fit, or call fit"
        )
    if previous is None and estimator.solver == "sgd" and schedule is None:
        rate, rule = estimator.learning_rate_init, estimator.learning_rate
        estimator._optimizer = SGDOptimizer(
            [], rate, rule, estimator.momentum, estimator.nesterovs_momentum, estimator.power_t
        )
    elif previous is None:
        estimator._optimizer = BaseOptimizer(state.lr)
    return state


# ------------------------------------------------------------------------------------------ second-order solvers


def objective(
    estimator: Any, model: Model, parameters: NDArray[np.float64], data: Data
) -> tuple[float, NDArray[np.float64]]:
    """Return scikit-learn's loss of a model with these parameters, and its gradient; see `set_parameters`."""
    set_parameters(model, parameters)
    _, loss_factor, delta_factor = estimator._loss_and_factors()
    total = float(data.total_weight)
    loss = offset = 0.0
    gradient = np.zeros(len(parameters))
    for part in blocks(data):
        fraction = part.total_weight / total
        part_loss, part_gradient = loss_and_gradient(model, part)
        loss += fraction * part_loss
        offset += fraction * mean(estimator._offsets(part.Y), part.weights)
        gradient += fraction * part_gradient
    gradient *= delta_factor
    n_weights = sum(W.size for W in model.W if W is not None)
    W = parameters[:n_weights]
    gradient[:n_weights] += estimator.alpha / total * W
    return loss_factor * loss + offset + 0.5 * estimator.alpha * float(W @ W) / total, gradient


def minimize(
    estimator: Any, net: NeuralNetwork, model: Model, optimizer: Any, batch: Batch, validation: Batch | None
) -> None:
    """Train the network with SciPy's L-BFGS-B, called with the same options as in scikit-learn."""
    data = estimator._data(net, batch)
    hook = Hook(estimator, net, model, validation)
    try:
        result = scipy.optimize.minimize(
            lambda parameters: objective(estimator, model, parameters, data),
            parameter_vector(model),
            method="L-BFGS-B",
            jac=True,
            callback=hook if hook.is_needed else None,
            options={
                "maxfun": estimator.max_fun,
                "maxiter": estimator.max_iter,
                "gtol": estimator.tol,
                "maxcor": optimizer.history_size,
            },
        )
    finally:
        call_method(hook.calls, "close")
    set_parameters(model, result.x)
    estimator.n_iter_ = result.nit if hook.stopped else checked_iterations("lbfgs", result, estimator.max_iter)
    estimator.loss_ = float(result.fun)


def least_squares(
    estimator: Any,
    net: NeuralNetwork,
    optimizer: Optimizer,
    batch: Batch,
    validation: Batch | None,
    slopes: Any,
) -> None:
    """Train the network with the Levenberg-Marquardt method; `slopes` is None or (dY, dY_weight)."""
    X, weights = batch.X.toarray() if issparse(batch.X) else batch.X, batch.sample_weight
    estimator._begin_curves(False)
    total = float(len(X) if weights is None else np.sum(weights))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        history = net.fit(
            X,
            batch.y,
            epochs=estimator.max_iter,
            optimizer=optimizer,
            reset_optimizer=True,
            sample_weight=weights,
            **({} if slopes is None else dict(zip(("dY", "dY_weight"), slopes, strict=True))),
            l2=2 * estimator.alpha / (total * net.sizes[-1]),
            validation=None if validation is None else tuple(part for part in validation if part is not None),
            max_seconds=estimator.max_seconds,
            callback=estimator.callback,
        )
    estimator.n_iter_ = history.epochs
    estimator.t_ += history.epochs * len(X)
    estimator.loss_curve_.extend((history.loss / 2).tolist())
    estimator.loss_ = estimator.loss_curve_[-1] if estimator.loss_curve_ else np.nan
    estimator.best_loss_ = min(estimator.loss_curve_, default=np.inf)
    if history.val_loss is not None:
        estimator.validation_loss_curve_ = [*(estimator.validation_loss_curve_ or []), *(history.val_loss / 2).tolist()]
    if history.stop_reason == "epochs":
        message = f"levenberg_marquardt has not converged after {estimator.max_iter} iterations."
        warn_user(message, ConvergenceWarning)


def blocks(data: Data) -> Iterator[Data]:
    """Yield the data in dense form: unchanged if X is dense, in blocks of rows if X is sparse."""
    if not issparse(data.X):
        yield data
        return
    rows = max(1, BLOCK_BYTES // (8 * data.X.shape[1]))
    for start in range(0, data.X.shape[0], rows):
        part = data.rows(slice(start, start + rows))
        yield part.replaced(X=part.X.toarray())  # type: ignore[attr-defined]


class Hook:
    """Callback that SciPy calls after each iteration of L-BFGS."""

    def __init__(self, estimator: Any, net: NeuralNetwork, model: Model, validation: Any) -> None:
        self.estimator, self.net, self.model = estimator, net, model
        self.validation = None if validation is None else estimator._data(net, validation)
        if self.validation is not None and estimator.validation_loss_curve_ is None:
            estimator.validation_loss_curve_ = []
        self.calls = callbacks_of(estimator.callback)
        call_method(self.calls, "open")
        self.is_needed = bool(validation or self.calls or estimator.max_seconds or estimator.verbose)
        self.start = perf_counter()
        self.epoch = 0
        self.best = np.inf
        self.stopped = False

    def __call__(self, intermediate_result: Any) -> None:
        """Record an iteration and call the user's callbacks; raise StopIteration to end the training."""
        estimator, net = self.estimator, self.net
        set_parameters(self.model, intermediate_result.x)
        self.epoch += 1
        record = Record(epoch=self.epoch, loss=float(intermediate_result.fun))
        if estimator.verbose:
            print(f"Iteration {self.epoch}, loss = {record.loss:.8f}")
        if self.validation is not None:
            _, factor, _ = estimator._loss_and_factors()
            offset = mean(estimator._offsets(self.validation.Y), self.validation.weights)
            record["val_loss"] = self.model.compute_loss(self.validation) * factor + offset
            estimator.validation_loss_curve_.append(record.val_loss)
        value = record.get("val_loss", record.loss)
        record.update(lr=np.nan, seconds=perf_counter() - self.start, best=value < self.best, network=net)
        self.best = min(self.best, value)
        is_over = estimator.max_seconds is not None and record.seconds >= estimator.max_seconds
        for call in self.calls:
            is_over = call_callback(call, record) or is_over
        if is_over:
            self.stopped = True
            raise StopIteration


def parameter_vector(model: Model, vector: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the parameters (or `vector`, with the same layout) in the order of scikit-learn: weights, then biases."""
    W, b = (model.W, model.b) if vector is None else model.views(vector)
    return np.concatenate([part.ravel() for part in (*W, *b) if part is not None])


def set_parameters(model: Model, parameters: NDArray[Any]) -> None:
    """Set the parameters of a model from a vector that contains all weights, then all biases."""
    fill_arrays([part for part in (*model.W, *model.b) if part is not None], parameters)


def loss_and_gradient(model: Model, data: Data) -> tuple[float, NDArray[Any]]:
    """Return the loss of all rows and its gradient, a vector of all weights, then all biases."""
    vector = model.zeros()
    return model.gradient(data, vector), parameter_vector(model, vector)
