"""scikit-learn's MLPClassifier and MLPRegressor, trained by nnc: change the import, and the rest stays as it is.

    from nnc.sklearn import MLPClassifier, MLPRegressor

They are scikit-learn's own classes (extra `[sklearn]`), with the training and the forward pass replaced: parameters,
checks of what comes in, labels, attributes and methods are theirs. Initial weights and the order of the rows follow the
same draws from `random_state`, the formulas are the same, and so are the weights, to rounding. What nnc has and
scikit-learn has not comes as further parameters.

In scikit-learn's loss and gradient a penalty of alpha / 2 is divided by the rows of a batch, or by the sum of their
weights; the losses of several outputs are added up in the gradient, while the squared error's own value is their mean.
"""

from __future__ import annotations

import warnings
from itertools import pairwise
from math import prod
from multiprocessing import current_process
from numbers import Integral, Real
from threading import current_thread, main_thread
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    import scipy.optimize
    from joblib import cpu_count
    from joblib.parallel import get_active_backend
    from scipy.sparse import issparse
    from scipy.special import xlogy
    from sklearn import neural_network
    from sklearn.base import _fit_context, is_classifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
    from sklearn.neural_network._stochastic_optimizers import BaseOptimizer, SGDOptimizer
    from sklearn.utils import check_random_state
    from sklearn.utils._param_validation import Interval, StrOptions
    from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.optimize import _check_optimize_result
    from sklearn.utils.parallel import _get_threadpool_controller
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(
        f'nnc.sklearn needs scikit-learn 1.7 or later ({error}); install it with pip install "nnc-cython[sklearn]"'
    ) from error

from nnc.advice import TrainingWarning
from nnc.base.arrays import aligned_zeros, cast, not_finite
from nnc.kinds import losses, optimizers
from nnc.kinds.activations import HIDDEN
from nnc.kinds.losses import CrossEntropy, Huber, Quantile, as_loss
from nnc.kinds.optimizers import LBFGS, SGD, Adam, NAdam, Optimizer, as_optimizer
from nnc.metrics import r2
from nnc.network import NeuralNetwork
from nnc.training import BatchFit, Data, Fit, Plan, Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nnc.kinds.losses import Loss
    from nnc.training import State

__all__ = ["MLPClassifier", "MLPRegressor"]

DENSE_BYTES = 1 << 28  # a sparse X that takes no more than this is made dense at once, others batch by batch
BLOCK_BYTES = 1 << 24  # rows of them that are made dense at a time outside of training
SOLVERS = tuple(optimizers.ROWS)
BELOW_ONE = float(np.nextafter(1, 0))


def available_threads() -> int:
    """How many threads a fit may use by itself: as many as there are processors, unless joblib, threadpoolctl or the
    environment variables of BLAS and OpenMP say less. In a worker of joblib's it is one, as the others have work,
    unless joblib itself has set those limits, as it does in the processes of loky."""
    backend, _ = get_active_backend()
    if backend.nesting_level and (current_thread() is not main_thread() or current_process().daemon):
        return 1
    limits = (library.num_threads for library in _get_threadpool_controller().lib_controllers)
    return int(max(1, min(cpu_count(), *(limit for limit in limits if limit))))


def network_of(mlp: Any, dtype: Any = None, cls: type[NeuralNetwork] = NeuralNetwork) -> NeuralNetwork:
    """A network with the weights of a trained MLP.

    Parameters
    ----------
    mlp : MLPClassifier or MLPRegressor
        scikit-learn's or nnc's.
    dtype : optional
        Default: that of the weights.

    Raises
    ------
    TypeError
        It is no MLP.
    NotFittedError
        It has not been trained; a ValueError and an AttributeError.
    """
    if not isinstance(mlp, BaseMultilayerPerceptron):
        raise TypeError(f"mlp must be an MLPClassifier or MLPRegressor, got {type(mlp).__name__}")
    check_is_fitted(mlp, "coefs_")
    coefs = [np.asarray(W) for W in mlp.coefs_]
    if dtype is None:
        dtype = np.float32 if all(W.dtype == np.float32 for W in coefs) else np.float64
    output = _renamed(mlp.out_activation_)
    if isinstance(mlp, _Estimator):
        loss, _, _ = mlp._loss_and_factors()
    else:
        loss = {row.output: row.name for row in losses.ROWS.values() if row.needed}.get(output, "mse")
    net = cls(
        [len(coefs[0]), *(W.shape[1] for W in coefs)],
        activation=_hidden_activations(mlp.activation, len(coefs) - 1),
        output=output,
        loss=loss,
        init="zeros",
        dtype=dtype,
        seed=0,
    )
    net.weights, net.biases = coefs, mlp.intercepts_
    net._classes = _classes_of(mlp, net.sizes[-1])
    return net


def _renamed(activation: str) -> str:
    return "sigmoid" if activation == "logistic" else activation


def _hidden_activations(activation: Any, n_hidden: int) -> list[str]:
    names = [activation] * n_hidden if isinstance(activation, str) else list(activation)
    if len(names) != n_hidden:
        raise ValueError(
            f"activation must be one name or one for each of the {n_hidden} hidden layers, got {activation!r}"
        )
    return [_renamed(name) for name in names]


def _classes_of(mlp: Any, n_out: int) -> NDArray[Any] | None:
    """The classes as a network has them; None where labels are the numbers of the outputs, or of a kind that no file
    can hold."""
    classes = getattr(mlp, "classes_", None)
    if classes is None or mlp._label_binarizer.y_type_.startswith("multilabel"):
        return None
    if classes.dtype.kind == "O" and all(isinstance(name, str) for name in classes):
        classes = classes.astype(str)
    if len(classes) != max(2, n_out) or classes.dtype.kind not in "biufU":
        return None
    plain = classes.dtype.kind in "iu" and (classes == np.arange(len(classes))).all()
    return None if plain else classes


# ------------------------------------------------------------------------------------------ the runs of training


class _Watched(Fit):
    """What is done after an epoch of a stochastic solver: scikit-learn's rules, in its order."""

    def watch_for(self, estimator: Any, rows: int, factor: float) -> None:
        """`factor` is what scikit-learn's loss is larger by than the engine's; the offsets come on top of it."""
        self.estimator, self.n, self.factor = estimator, rows, factor
        self.every = 1
        self.lost = False  # the weights have stopped being finite
        self.calls = [(function, every or 1) for function, every in self.calls]  # after every epoch, however short
        self.val_offset = 0.0
        validation = self.plan.validation
        if validation is not None:
            self.val_offset = _mean(estimator._offsets(validation.Y), validation.weights)
            self.outputs = np.empty((len(validation.X), self.net.sizes[-1]), self.net.dtype)
        if estimator.early_stopping:
            self.columns["val_score"] = []

    def count_threads(self) -> int:
        chosen = super().count_threads()
        return chosen if chosen == 1 or self.plan.n_threads else min(chosen, available_threads())

    def diverged(self) -> None:
        # scikit-learn goes on with weights that are NaN and says so when it is over; so does this, but computes no more
        self.params[...] = np.nan
        self.lost = True

    def look(self) -> str:
        reason = ""
        if self.epoch > self.seen:
            self.seen = self.epoch
            reason = self.after_epoch(self.epoch)
        if self.interrupt:
            return "interrupt"
        return reason or ("max_seconds" if self.is_late() else "")

    def after_epoch(self, epoch: int) -> str:
        estimator, state = self.estimator, self.state
        loss = self.losses[epoch - 1] = float(self.losses[epoch - 1]) + self.offset()
        estimator.n_iter_ = epoch
        estimator.loss_ = loss
        estimator.t_ += self.n
        estimator.loss_curve_.append(loss)
        if estimator.verbose:
            print(f"Iteration {epoch}, loss = {loss:.8f}")
        if self.plan.validation is not None:
            self.evaluate()
            values = self.columns["val_loss"]
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
        if self.calls and self.call_back(epoch, better, last=bool(reason) or epoch == self.plan.epochs):
            reason = reason or "callback"
        return reason

    def offset(self) -> float:
        """What scikit-learn's loss of this epoch has beside the engine's."""
        return 0.0

    def improve(self, estimator: Any) -> bool:
        """Counts epochs without a better validation score, and keeps the weights of the best."""
        score = estimator._score_of(self.plan.validation, self.outputs)
        estimator.validation_scores_.append(score)
        self.columns["val_score"].append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        if score < estimator.best_validation_score_ + estimator.tol:
            estimator._no_improvement_count += 1
        else:
            estimator._no_improvement_count = 0
        if not score > estimator.best_validation_score_:
            return False
        estimator.best_validation_score_ = score
        if self.best_params is None:
            self.best_params = np.empty_like(self.params)
        self.best_params[...] = self.params
        return True


class _DenseRun(_Watched):
    """Rows in an array, which the core goes through by itself.

    Parameters
    ----------
    draw : callable or None
        Draws the order of an epoch from scikit-learn's random numbers; None takes the rows as they lie.
    """

    def __init__(
        self, estimator: Any, factor: float, draw: Any, net: NeuralNetwork, data: Data, plan: Plan, state: State
    ) -> None:
        super().__init__(net, data, plan, state)
        self.watch_for(estimator, len(data.X), factor)
        self.offsets = estimator._offsets(data.Y)
        self.draw = draw
        self.lost_epochs = 0

    @property
    def epoch(self) -> int:
        return super().epoch + self.lost_epochs

    def advance(self, goal: int) -> None:
        if self.draw is not None:
            order = self.draw()
            if self.plan.order is not None:  # else one batch has all rows, and their order does not matter
                self.plan.order[...] = order
        before = self.epoch
        self.losses[before] = np.nan  # until the core knows better
        if not self.lost:
            super().advance(goal)
        if self.lost and self.epoch == before:
            self.lost_epochs += 1

    def offset(self) -> float:
        if self.offsets is None or self.data.weights is None:
            return _mean(self.offsets, None)
        n, batch, order = self.n, self.plan.batch_size, self.plan.order
        total = 0.0
        for start in range(0, n, batch):
            rows: Any = slice(start, start + batch) if order is None else order[start : start + batch]
            total += min(batch, n - start) * _mean(self.offsets[rows], self.data.weights[rows])
        return total / n


class _SparseRun(_Watched, BatchFit):
    """Rows of a sparse matrix, of which one batch at a time is made dense."""

    def __init__(
        self, estimator: Any, factor: float, rows: int, net: NeuralNetwork, passes: Any, plan: Plan, state: State
    ) -> None:
        super().__init__(net, passes, plan, state)
        self.watch_for(estimator, rows, factor)

    def advance(self, goal: int) -> None:
        total = 0.0
        for data in self.batches():
            loss = np.nan if self.lost else self.step(data) + _mean(self.estimator._offsets(data.Y), data.weights)
            total += loss * len(data.X)
            if self.interrupt or self.is_late():
                return
        self.losses[self.complete] = total / self.n
        self.complete += 1
        self.mark(perf_counter())


def _mean(offsets: NDArray[Any] | None, weights: NDArray[Any] | None) -> float:
    return 0.0 if offsets is None else float(np.average(offsets, weights=weights))


def _improve_loss(estimator: Any) -> bool:
    """Counts epochs without a lower loss."""
    loss = estimator.loss_curve_[-1]
    if loss > estimator.best_loss_ - estimator.tol:
        estimator._no_improvement_count += 1
    else:
        estimator._no_improvement_count = 0
    if not loss < estimator.best_loss_:
        return False
    estimator.best_loss_ = loss
    return True


# ------------------------------------------------------------------------------------------ the estimators


class _Estimator:
    """What both estimators put in place of scikit-learn's. It comes before scikit-learn's class among the bases."""

    _parameter_constraints = {  # noqa: RUF012 (scikit-learn's name and form)
        "activation": [StrOptions({*HIDDEN, "logistic"}), list, tuple],
        "solver": [StrOptions(set(SOLVERS)), Optimizer],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), callable],
        "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
        "max_seconds": [Interval(Real, 0, None, closed="neither"), None],
        "callback": [callable, list, tuple, None],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    }

    # ------------------------------------------------------------------------------------------ the network

    @property
    def network_(self) -> NeuralNetwork:
        """The network itself: `coefs_` and `intercepts_` are views of its weights and biases."""
        check_is_fitted(self, "coefs_")
        return self._connect()

    def _connect(self: Any) -> NeuralNetwork:
        """The network whose weights are coefs_ and intercepts_, also after others have been assigned."""
        net: NeuralNetwork | None = vars(self).get("_network")
        if net is not None and _are(self.coefs_, net._W) and _are(self.intercepts_, net._b):
            return net
        return self._adopt()  # type: ignore[no-any-return]

    def _adopt(self: Any, dtype: Any = None) -> NeuralNetwork:
        """Makes a network of coefs_ and intercepts_, which become views of its own."""
        net, old = network_of(self, dtype), vars(self).get("_network")
        if old is not None:
            net._seed, net._draws, net._drops = old._seed, old._draws, old._drops
            if old.sizes == net.sizes and old.dtype == net.dtype:
                net._state = old._state
        self._network = net
        self.coefs_, self.intercepts_ = list(net._W), list(net._b)
        return net

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]
        if "coefs_" in state:
            state["_network"] = self._connect()
            del state["coefs_"], state["intercepts_"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        net = state.get("_network")
        if net is not None:
            self.coefs_, self.intercepts_ = list(net._W), list(net._b)

    # ------------------------------------------------------------------------------------------ what is asked for

    def _optimizer_of(self: Any) -> Optimizer:
        solver = self.solver
        if isinstance(solver, Optimizer):
            return solver
        rate = self.learning_rate_init
        if solver == "sgd":
            momentum = min(self.momentum, BELOW_ONE)
            return SGD(rate, momentum, bool(self.nesterovs_momentum and momentum))
        optimizer = as_optimizer(solver)
        if isinstance(optimizer, (Adam, NAdam)):
            betas = min(self.beta_1, BELOW_ONE), min(self.beta_2, BELOW_ONE)
            return optimizer.replace(lr=rate, betas=betas, eps=self.epsilon)
        return optimizer.with_lr(rate) if hasattr(optimizer, "lr") else optimizer

    def _is_stochastic(self) -> bool:
        return hasattr(self._optimizer_of(), "lr")

    def _check_solver(self: Any) -> bool:
        if not self._is_stochastic():
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    def _loss_and_factors(self) -> tuple[str | Loss, float, float]:
        """The engine's loss, and what it and its gradient are multiplied by to be scikit-learn's."""
        raise NotImplementedError

    def _offsets(self, Y: NDArray[Any] | None) -> NDArray[np.float64] | None:
        """What scikit-learn's loss of each row has beside the engine's."""
        return None

    # ------------------------------------------------------------------------------------------ before training

    def _initialize(self: Any, y: NDArray[Any], layer_units: list[int], dtype: Any) -> None:
        self.n_iter_ = 0
        self.t_ = 0
        self.n_outputs_ = y.shape[1]
        self.n_layers_ = len(layer_units)
        self.out_activation_ = self._output_activation()
        self.coefs_, self.intercepts_ = [], []
        for n_in, n_out in pairwise(layer_units):
            W, b = self._init_coef(n_in, n_out, dtype)
            self.coefs_.append(W)
            self.intercepts_.append(b)
        vars(self).pop("_network", None)
        vars(self).pop("_optimizer", None)
        self.validation_loss_curve_ = None
        for name in ("loss_curve_", "validation_scores_", "best_validation_score_", "best_loss_"):
            vars(self).pop(name, None)

    def _begin_curves(self: Any, stops_early: bool) -> None:
        """The attributes that follow the epochs, where an earlier fit has not left them as this one needs them."""
        known = vars(self)
        self.loss_curve_: list[float] = known.get("loss_curve_", [])
        if known.get("best_validation_score_" if stops_early else "best_loss_") is None:
            self._no_improvement_count = 0
            self.validation_scores_: list[float] | None = [] if stops_early else None
            self.best_validation_score_ = -np.inf if stops_early else None
            self.best_loss_ = None if stops_early else np.inf
        self.validation_loss_curve_ = known.get("validation_loss_curve_")

    def _init_coef(self: Any, fan_in: int, fan_out: int, dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        # The weights of an output layer depend on the activation of the layer below, as in scikit-learn.
        names = [self.activation] if isinstance(self.activation, str) else list(self.activation)
        name = _renamed(names[min(len(self.coefs_), len(names) - 1)]) if names else "relu"
        bound = np.sqrt((2.0 if name == "sigmoid" else 6.0) / (fan_in + fan_out))
        W = self._random_state.uniform(-bound, bound, (fan_in, fan_out))
        b = self._random_state.uniform(-bound, bound, fan_out)
        return W.astype(dtype, copy=False), b.astype(dtype, copy=False)

    def _weights_of(self: Any, y: NDArray[Any], sample_weight: Any, incremental: bool) -> Any:
        """How much each row counts."""
        return sample_weight

    def _targets(self: Any, y: NDArray[Any], dtype: Any) -> tuple[NDArray[Any] | None, NDArray[np.int32] | None]:
        """y (n, n_outputs_) as the engine takes it: targets or labels."""
        return cast(y, np.dtype(dtype)), None

    def _data(self: Any, net: NeuralNetwork, X: Any, y: NDArray[Any], weights: Any) -> Data:
        if X.shape[1] != net.sizes[0] or y.shape[1] != net.sizes[-1]:
            raise ValueError(
                f"X and y must have {net.sizes[0]} and {net.sizes[-1]} columns, as when this model was first fitted, "
                f"got {X.shape[1]} and {y.shape[1]}"
            )
        rows = X if issparse(X) else cast(X, net.dtype)
        Y, index = self._targets(y, net.dtype)
        return Data(rows, Y, index, None if weights is None else cast(weights, net.dtype))

    # ------------------------------------------------------------------------------------------ training

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Any:
        """Fit the model to data matrix X and target(s) y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target values: class labels in classification, real numbers in regression.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        X_val, y_val, sample_weight_val : as X, y and sample_weight, default=None
            Rows that are not trained on. Their loss after every iteration is in `validation_loss_curve_`, and with
            `early_stopping` they take the place of a fraction of X.

        Returns
        -------
        self : object
            The trained model.
        """
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together")
        validation = None if X_val is None else (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight=sample_weight, validation=validation)

    def _fit(
        self: Any, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False, validation: Any = None
    ) -> Any:
        hidden = self.hidden_layer_sizes
        hidden = list(hidden) if hasattr(hidden, "__iter__") else [hidden]
        if np.any(np.array(hidden) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        _hidden_activations(self.activation, len(hidden))
        if self.early_stopping and incremental and self._is_stochastic():
            raise ValueError("partial_fit does not support early_stopping=True")
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y = self._validate_input(X, y, incremental, reset=first_pass)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        y = y.reshape(len(y), -1)
        weights = self._weights_of(y, sample_weight, incremental)
        self.n_outputs_ = y.shape[1]
        self._random_state = check_random_state(self.random_state)
        optimizer = self._optimizer_of()
        if first_pass:
            self._initialize(y, [X.shape[1], *hidden, self.n_outputs_], X.dtype)
        # L-BFGS and its like need double precision, which scikit-learn gives them, too
        dtype = None if hasattr(optimizer, "lr") else np.float64
        net = self._connect()
        if dtype not in (None, net.dtype) or not self._fits(net):
            net = self._adopt(dtype)
        if first_pass and np.any(self.dropout):
            net._seed = int(self._random_state.randint(2**31))
        if validation is not None:
            validation = self._validated(*validation)
        if issparse(X):
            X = X.tocsr()
            if prod(X.shape) * net.dtype.itemsize <= DENSE_BYTES:
                X = X.toarray()
        if hasattr(optimizer, "lr"):
            self._train(net, optimizer, X, y, weights, incremental, validation)
        elif np.any(self.dropout):
            raise ValueError(f"dropout is for stochastic solvers, got it with {self.solver!r}")
        elif isinstance(optimizer, LBFGS):
            self._minimize(net, optimizer, X, y, weights, validation)
        else:
            self._least_squares(net, optimizer, X, y, weights, validation)
        if not all(np.isfinite(part).all() for part in (*net._W, *net._b)):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            )
        return self

    def _fits(self: Any, net: NeuralNetwork) -> bool:
        """Whether the network still is what the parameters say, which may have been set anew."""
        loss, _, _ = self._loss_and_factors()
        asked = *_hidden_activations(self.activation, self.n_layers_ - 2), _renamed(self.out_activation_)
        return net.activations == asked and (net.loss_name, net._loss_parameter) == as_loss(loss)

    def _validated(self: Any, X: Any, y: Any, weights: Any) -> tuple[Any, Any, Any]:
        """A user's validation rows, as _validate_input makes those for training."""
        X, y = self._validation_input(X, y)
        if issparse(X):
            X = X.toarray()
        return X, y.reshape(len(y), -1), None if weights is None else _check_sample_weight(weights, X)

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
            X, y, weights = X[rows], y[rows], None if weights is None else weights[rows]
        n = len(y)
        if self.batch_size == "auto":
            batch = min(200, n)
        else:
            if self.batch_size > n:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5
                )
            batch = int(min(self.batch_size, n))
        data = self._data(net, X, y, weights)
        held_data = None if validation is None else self._data(net, *validation)
        self._begin_curves(self.early_stopping)
        if held_data is not None and self.validation_loss_curve_ is None:
            self.validation_loss_curve_ = []
        state = self._state_for(net, optimizer, incremental)
        _, loss_factor, delta_factor = self._loss_and_factors()
        settings = {
            "shuffles": False,  # the order is drawn here
            "l2": self.alpha,
            "mean_penalty": True,
            "by_rows": True,
            "loss_factor": loss_factor,
            "delta_factor": delta_factor,
            "eps_last": self.solver == "adam",
        }
        if np.any(self.dropout):
            settings.update(dropout=net._checked_dropout(self.dropout), drop_key=net._key(2))
        callbacks = self.callback if isinstance(self.callback, (list, tuple)) else [self.callback]
        plan = Plan(
            epochs=1 if incremental else self.max_iter,
            batch_size=batch,
            order=np.arange(n, dtype=np.int32) if self.shuffle and batch < n else None,
            settings=settings,
            n_threads=self.n_threads,
            validation=held_data,
            max_seconds=self.max_seconds,
            callbacks=[function for function in callbacks if function is not None],
        )
        draw = _Orders(n, self._random_state) if self.shuffle else None
        run: Any
        if issparse(X):
            run = _SparseRun(self, loss_factor, n, net, lambda: _batches(data, batch, draw), plan, state)
        else:
            run = _DenseRun(self, loss_factor, draw, net, data, plan, state)
        if self.early_stopping and not self.loss_curve_:
            run.best_params = net._theta.copy()  # where no score is a number
        self.n_iter_ = 0
        net._state = state
        reason = run.run().stop_reason
        state.histories.clear()  # what loss_curve_ and its like tell
        state.remembered = 0
        if run.best_params is not None:
            net._theta[...] = run.best_params
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

    def _state_for(self: Any, net: NeuralNetwork, optimizer: Optimizer, incremental: bool) -> State:
        """What the optimizer goes on from: in partial_fit from where it is, in fit anew."""
        schedule = self.learning_rate if callable(self.learning_rate) else None
        kept = vars(self).get("_optimizer") if incremental else None
        if kept is None or net._state is None:
            state = net._begin(optimizer, schedule, self.max_iter)
            if kept is not None:
                state.lr = kept.learning_rate
        else:
            state = net._state
        if kept is None and self.solver == "sgd" and schedule is None:
            rate, rule = self.learning_rate_init, self.learning_rate
            self._optimizer = SGDOptimizer([], rate, rule, self.momentum, self.nesterovs_momentum, self.power_t)
        elif kept is None:
            self._optimizer = BaseOptimizer(state.lr)
        return state

    # ------------------------------------------------------------------------------------------ all rows at once

    def _blocks(self: Any, data: Data) -> Iterator[Data]:
        """The data as the engine takes it: as it is, or a sparse X some rows at a time."""
        if not issparse(data.X):
            yield data
            return
        rows = max(1, BLOCK_BYTES // (8 * data.X.shape[1]))
        for start in range(0, data.X.shape[0], rows):
            part = data.rows(slice(start, start + rows))
            yield part._replace(X=part.X.toarray())  # type: ignore[attr-defined]

    def _loss_grad_lbfgs(
        self: Any, packed: NDArray[np.float64], X: Any, y: NDArray[Any], sample_weight: Any, *buffers: Any
    ) -> tuple[float, NDArray[np.float64]]:
        """The loss and its gradient, in scikit-learn's order: all weights, then all biases."""
        net = self._connect()
        return self._objective(net, packed, self._data(net, X, y, sample_weight))  # type: ignore[no-any-return]

    def _objective(
        self: Any, net: NeuralNetwork, packed: NDArray[np.float64], data: Data
    ) -> tuple[float, NDArray[np.float64]]:
        net._fill([*net._W, *net._b], packed)
        _, loss_factor, delta_factor = self._loss_and_factors()
        total = float(data.X.shape[0] if data.weights is None else data.weights.sum(dtype=np.float64))
        loss = offset = 0.0
        gradient = np.zeros(len(packed))
        flat = aligned_zeros(net._engine.size, net.dtype)
        dW, db = net._views(flat)
        for part in self._blocks(data):
            share = (len(part.X) if part.weights is None else float(part.weights.sum(dtype=np.float64))) / total
            loss += share * net._engine.gradient(net._theta, *part, flat)
            offset += share * _mean(self._offsets(part.Y), part.weights)
            gradient += share * np.concatenate([piece.ravel() for piece in (*dW, *db)])
        gradient *= delta_factor
        n_weights = sum(W.size for W in net._W)
        W = packed[:n_weights]
        gradient[:n_weights] += self.alpha / total * W
        return loss_factor * loss + offset + 0.5 * self.alpha * float(W @ W) / total, gradient

    def _minimize(
        self: Any, net: NeuralNetwork, optimizer: LBFGS, X: Any, y: NDArray[Any], weights: Any, validation: Any
    ) -> None:
        """L-BFGS-B, called as scikit-learn does."""
        data = self._data(net, X, y, weights)
        hook = _Hook(self, net, validation)
        result = scipy.optimize.minimize(
            lambda packed: self._objective(net, packed, data),
            np.concatenate([part.ravel() for part in (*net._W, *net._b)]),
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
        net._fill([*net._W, *net._b], result.x)
        self.n_iter_ = result.nit if hook.stopped else _check_optimize_result("lbfgs", result, self.max_iter)
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

    # ------------------------------------------------------------------------------------------ predictions

    def _forward_pass_fast(self: Any, X: Any, check_input: bool = True) -> NDArray[Any]:
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        net = self._connect()
        if X.shape[1] != net.sizes[0]:
            raise ValueError(f"X must have {net.sizes[0]} columns, got {X.shape[1]}")
        out = np.empty((X.shape[0], net.sizes[-1]), net.dtype)
        start = 0
        for part in self._blocks(Data(X.tocsr() if issparse(X) else X, None, None)):
            rows = cast(part.X, net.dtype)
            position = net._engine.predict(net._theta, rows, out[start : start + len(rows)])
            if position >= 0:
                raise not_finite("X", rows, position)
            start += len(rows)
        return out


class _Hook:
    """What is done after an iteration of L-BFGS."""

    def __init__(self, estimator: Any, net: NeuralNetwork, validation: Any) -> None:
        self.estimator, self.net = estimator, net
        self.held = None if validation is None else estimator._data(net, *validation)
        if self.held is not None and estimator.validation_loss_curve_ is None:
            estimator.validation_loss_curve_ = []
        callback = estimator.callback
        self.calls = list(callback) if isinstance(callback, (list, tuple)) else [callback] if callback else []
        self.is_needed = bool(validation or self.calls or estimator.max_seconds or estimator.verbose)
        self.began = perf_counter()
        self.epoch = 0
        self.best = np.inf
        self.stopped = False

    def __call__(self, intermediate_result: Any) -> None:
        estimator, net = self.estimator, self.net
        net._fill([*net._W, *net._b], intermediate_result.x)
        self.epoch += 1
        record = Record(epoch=self.epoch, loss=float(intermediate_result.fun))
        if estimator.verbose:
            print(f"Iteration {self.epoch}, loss = {record.loss:.8f}")
        if self.held is not None:
            evaluation = net._core.Evaluation(net._engine, net._theta, *self.held, None, 1)
            evaluation.work(0, 2**62)
            _, factor, _ = estimator._loss_and_factors()
            offset = _mean(estimator._offsets(self.held.Y), self.held.weights)
            record["val_loss"] = float(evaluation.loss) * factor + offset
            estimator.validation_loss_curve_.append(record.val_loss)
        value = record.get("val_loss", record.loss)
        record.update(lr=np.nan, seconds=perf_counter() - self.began, best=value < self.best, network=net)
        self.best = min(self.best, value)
        late = estimator.max_seconds is not None and record.seconds >= estimator.max_seconds
        for call in self.calls:
            late = bool(call(record)) or late
        if late:
            self.stopped = True
            raise StopIteration


class _Orders:
    """The orders of epochs as scikit-learn draws them, each from the one before."""

    def __init__(self, n: int, random: Any) -> None:
        self.order = np.arange(n, dtype=np.int32)
        self.random = random

    def __call__(self) -> NDArray[np.int32]:
        self.order = self.order[self.random.permutation(len(self.order))]
        return self.order


def _batches(data: Data, batch: int, draw: _Orders | None) -> Iterator[Data]:
    """One epoch over the rows of a sparse matrix."""
    n = data.X.shape[0]
    order = np.arange(n) if draw is None else draw()
    for start in range(0, n, batch):
        part = data.rows(order[start : start + batch])
        yield part._replace(X=part.X.toarray())  # type: ignore[attr-defined]


def _are(parts: Any, others: Sequence[Any]) -> bool:
    """Whether these are the same objects."""
    return len(parts) == len(others) and all(a is b for a, b in zip(parts, others, strict=True))


_FURTHER = """
    What scikit-learn has not:

    activation : also "sigmoid" (as "logistic"), "leaky_relu", "softplus", "elu", "gelu", "silu"; or a list of names,
        one for each hidden layer.
    solver : also "adamw", "rmsprop", "adagrad", "nadam", "rprop", which take `learning_rate_init` (and beta_1, beta_2
        and epsilon where they have them), "levenberg_marquardt" for squared errors, or an object such as
        nnc.RMSprop(lr=0.01, momentum=0.9), which brings all of its constants.
    learning_rate : also a schedule such as nnc.CosineLR(0.1), or a function of the epoch, for every stochastic
        solver.{loss}
    dropout : float or list of one for each hidden layer, default=0.0
        The share of a layer's outputs that each training step drops.
    max_seconds : float, default=None
        Ends the training after this time.
    callback : callable or list of them, default=None
        Called after every iteration with a record: `epoch`, `loss`, `val_loss` and `val_score` where there are
        validation rows, `lr`, `seconds`, `best`, `network`. Returns True to end the training.
    n_threads : int, default=None
        Default: as many as pay, and no more than joblib, threadpoolctl and the usual environment variables allow. The
        result is the same for every number.

    Attributes
    ----------
    All of scikit-learn's, and

    network_ : nnc.NeuralNetwork
        The network, whose weights `coefs_` are: `network_.save("model.json")`, `network_.inspect()`.
    validation_loss_curve_ : list or None
        The loss of the validation rows after every iteration, without the penalty; None where there are none.
    """


class MLPClassifier(_Estimator, neural_network.MLPClassifier):
    __doc__ = f"""scikit-learn's MLPClassifier, trained by nnc.

    Parameters
    ----------
    All of scikit-learn's, with the same meanings and defaults: see sklearn.neural_network.MLPClassifier.
{
        _FURTHER.format(
            loss='''
    loss : "log_loss", "hinge" or nnc.CrossEntropy(label_smoothing=0.1), default="log_loss"
        With "hinge" there is `decision_function` in place of `predict_proba`.
    class_weight : dict, "balanced" or, for several labels, a list of dicts, default=None
        Multiplies the weight of each row by that of its class.'''
        )
    }"""

    _parameter_constraints = {  # noqa: RUF012
        **neural_network.MLPClassifier._parameter_constraints,
        **_Estimator._parameter_constraints,
        "loss": [StrOptions({"log_loss", "hinge"}), CrossEntropy],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: Any = "log_loss",
        class_weight: Any = None,
        dropout: Any = 0.0,
        max_seconds: float | None = None,
        callback: Any = None,
        n_threads: int | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
        )
        self.loss = loss
        self.class_weight = class_weight
        self.dropout = dropout
        self.max_seconds = max_seconds
        self.callback = callback
        self.n_threads = n_threads

    def _kind(self) -> str:
        """What the label binarizer calls the labels: "multiclass", "binary", "multilabel-indicator"."""
        return str(self._label_binarizer.y_type_)

    def _output_activation(self) -> str:
        if self.loss == "hinge":
            return "identity"
        return "softmax" if self._kind() == "multiclass" else "logistic"

    def _loss_and_factors(self) -> tuple[str | Loss, float, float]:
        if self.loss == "hinge":
            return "hinge", 1, 1
        if self.out_activation_ == "softmax":
            return (self.loss if isinstance(self.loss, CrossEntropy) else "cross_entropy"), 1, 1
        return "bce", self.n_outputs_, self.n_outputs_

    def _weights_of(self, y: NDArray[Any], sample_weight: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which does not see all rows: use a dict "
                "with the weights that sklearn.utils.class_weight.compute_class_weight gives for all of y"
            )
        if self._kind().startswith("multilabel"):
            weights = compute_sample_weight(self.class_weight, y.astype(int))
        else:
            index = y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0].astype(int)
            if isinstance(self.class_weight, str):
                counts = np.bincount(index, sample_weight, len(self.classes_)).astype(np.float64)
                there = counts > 0
                by_class = np.divide(counts.sum() / there.sum(), counts, out=np.ones(len(counts)), where=there)
            else:
                by_class = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[index])
            weights = by_class[index]
        return weights if sample_weight is None else weights * sample_weight

    def _targets(self, y: NDArray[Any], dtype: Any) -> tuple[NDArray[Any] | None, NDArray[np.int32] | None]:
        if self.loss == "hinge":
            return np.where(y, 1, -1).astype(dtype), None
        if self.out_activation_ == "softmax":
            return None, y.argmax(axis=1).astype(np.int32)
        Y = cast(y, np.dtype(dtype))
        if isinstance(self.loss, CrossEntropy):  # of two classes
            Y = Y * (1 - self.loss.label_smoothing) + self.loss.label_smoothing / 2
        return Y, None

    def _validation_input(self, X: Any, y: Any) -> tuple[Any, NDArray[Any]]:
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=(np.float64, np.float32), reset=False
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        unknown = np.setdiff1d(y if y.ndim == 1 else [], self.classes_)
        if len(unknown):
            raise ValueError(f"y_val has classes that y has not: {unknown}")
        return X, self._label_binarizer.transform(y).astype(bool)

    def _score_of(self, data: Data, outputs: NDArray[Any]) -> float:
        """The accuracy of outputs."""
        if data.labels is not None:
            right = outputs.argmax(axis=1) == data.labels
        elif self.loss == "hinge" and self._kind() == "multiclass":
            right = outputs.argmax(axis=1) == np.asarray(data.Y).argmax(axis=1)
        else:
            level = losses.ROWS[self._connect().loss_name].threshold
            right = ((outputs > level) == (np.asarray(data.Y) > level)).all(axis=1)
        return float(np.average(right, weights=data.weights))

    def _predict(self, X: Any, check_input: bool = True) -> NDArray[Any]:
        if self.loss != "hinge" or self._kind() == "multiclass":
            return super()._predict(X, check_input=check_input)  # type: ignore[no-any-return]
        outputs = (self._forward_pass_fast(X, check_input=check_input) > 0).astype(float)
        return self._label_binarizer.inverse_transform(  # type: ignore[no-any-return]
            outputs[:, 0] if self.n_outputs_ == 1 else outputs
        )

    @available_if(lambda self: self.loss != "hinge")
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probability estimates.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return super().predict_proba(X)  # type: ignore[no-any-return]

    @available_if(lambda self: self.loss != "hinge")
    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """The logarithm of `predict_proba`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return super().predict_log_proba(X)  # type: ignore[no-any-return]

    @available_if(lambda self: self.loss == "hinge")
    def decision_function(self, X: Any) -> NDArray[Any]:
        """The outputs of the network, above 0 for a class that is predicted.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        check_is_fitted(self)
        outputs = self._forward_pass_fast(X)
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs


class MLPRegressor(_Estimator, neural_network.MLPRegressor):
    __doc__ = f"""scikit-learn's MLPRegressor, trained by nnc.

    Parameters
    ----------
    All of scikit-learn's, with the same meanings and defaults: see sklearn.neural_network.MLPRegressor.
{
        _FURTHER.format(
            loss='''
    loss : also "mae", "huber", "log_cosh", "quantile", nnc.Huber(delta) or nnc.Quantile(tau).'''
        )
    }"""

    _parameter_constraints = {  # noqa: RUF012
        **neural_network.MLPRegressor._parameter_constraints,
        **_Estimator._parameter_constraints,
        "loss": [
            StrOptions({"squared_error", "poisson", "mae", "huber", "log_cosh", "quantile"}),
            Huber,
            Quantile,
        ],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        max_seconds: float | None = None,
        callback: Any = None,
        n_threads: int | None = None,
    ) -> None:
        super().__init__(
            loss=loss,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
        )
        self.dropout = dropout
        self.max_seconds = max_seconds
        self.callback = callback
        self.n_threads = n_threads

    def _output_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _loss_and_factors(self) -> tuple[str | Loss, float, float]:
        if self.loss == "squared_error":
            return "mse", 0.5, self.n_outputs_ / 2
        if self.loss == "poisson":
            return "poisson", self.n_outputs_, self.n_outputs_
        return self.loss, 1, 1

    def _offsets(self, Y: NDArray[Any] | None) -> NDArray[np.float64] | None:
        if self.loss != "poisson" or Y is None:  # whose deviance is 0 for a perfect prediction
            return None
        return np.asarray((xlogy(Y, Y) - Y).sum(axis=1, dtype=np.float64))

    def _validation_input(self, X: Any, y: Any) -> tuple[Any, NDArray[Any]]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=True,
            dtype=(np.float64, np.float32),
            reset=False,
        )
        return X, y

    def _score_of(self, data: Data, outputs: NDArray[Any]) -> float:
        """R^2 of outputs, NaN where they are not finite."""
        assert data.Y is not None
        return r2(data.Y, outputs, data.weights) if np.isfinite(outputs).all() else np.nan
