"""What the classifier and the regressor have in common: their network, its training, its predictions."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from itertools import pairwise
from math import prod
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.optimize
from scipy.sparse import issparse
from sklearn.base import _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network._stochastic_optimizers import BaseOptimizer, SGDOptimizer
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from nnc.base.arrays import cast
from nnc.base.random import Streams
from nnc.exchange.scikit_learn import hidden_activations, parts_of, renamed
from nnc.kinds import optimizers
from nnc.kinds.activations import HIDDEN
from nnc.kinds.losses import as_loss
from nnc.kinds.optimizers import LBFGS, SGD, Adam, NAdam, Optimizer, as_optimizer
from nnc.model.data import Data
from nnc.network import NeuralNetwork
from nnc.sklearn import inside
from nnc.sklearn.runs import DenseRun, Hook, Orders, SparseRun, batches, mean
from nnc.training.advice import TrainingWarning
from nnc.training.callbacks import tell
from nnc.training.plan import Plan, callbacks_of, dropout_settings
from nnc.training.plan import settings as told_settings
from nnc.training.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nnc.kinds.losses import Loss

DENSE_BYTES = 1 << 28  # a sparse X that takes no more than this is made dense at once, others batch by batch
BLOCK_BYTES = 1 << 24  # rows of them that are made dense at a time outside of training
SOLVERS = tuple(optimizers.ROWS)
BELOW_ONE = float(np.nextafter(1, 0))


class Estimator:
    """What both estimators put in place of scikit-learn's. It comes before scikit-learn's class among the bases."""

    coefs_: list[NDArray[Any]]
    intercepts_: list[NDArray[Any] | None]
    n_iter_: int
    t_: int
    n_outputs_: int
    n_layers_: int
    out_activation_: str
    loss_: float
    best_loss_: float | None
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None

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
        if net is not None and inside.is_of(net.model, self.coefs_, self.intercepts_):
            return net
        return self._adopt()  # type: ignore[no-any-return]

    def _adopt(self: Any, dtype: Any = None) -> NeuralNetwork:
        """Makes a network of coefs_ and intercepts_, which become views of its own."""
        net, old = NeuralNetwork._from_parts(parts_of(self, dtype, strict=False)), vars(self).get("_network")
        if old is not None:
            inside.go_on_from(net, old)
        self._network = net
        self.coefs_, self.intercepts_ = list(net.model.W), list(net.model.b)
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
            self.coefs_, self.intercepts_ = list(net.model.W), list(net.model.b)

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

    @abstractmethod
    def _loss_and_factors(self) -> tuple[str | Loss, float, float]:
        """The engine's loss, and what it and its gradient are multiplied by to be scikit-learn's."""

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
        name = renamed(names[min(len(self.coefs_), len(names) - 1)]) if names else "relu"
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
        hidden_activations(self.activation, len(hidden))
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
            net.streams = Streams(int(self._random_state.randint(2**31)))
        if validation is not None:
            validation = self._validated(*validation)
        if issparse(X):
            X = X.tocsr()
            if prod(X.shape) * net.dtype.itemsize <= DENSE_BYTES:
                X = X.toarray()
        if hasattr(optimizer, "lr"):
            with net.model.turn:  # or a step that is taken meanwhile would be lost
                self._train(net, optimizer, X, y, weights, incremental, validation)
        elif np.any(self.dropout):
            raise ValueError(f"dropout is for stochastic solvers, got it with {self.solver!r}")
        elif isinstance(optimizer, LBFGS):
            self._minimize(net, optimizer, X, y, weights, validation)
        else:
            self._least_squares(net, optimizer, X, y, weights, validation)
        if not all(np.isfinite(part).all() for part in (*self.coefs_, *self.intercepts_)):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            )
        return self

    def _fits(self: Any, net: NeuralNetwork) -> bool:
        """Whether the network still is what the parameters say, which may have been set anew."""
        loss, _, _ = self._loss_and_factors()
        asked = *hidden_activations(self.activation, self.n_layers_ - 2), renamed(self.out_activation_)
        return net.activations == asked and (net.loss_name, net.loss_parameter or 0.0) == as_loss(loss)

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
            **told_settings({}, net.model, state),  # of layers that learn otherwise
            "l2": self.alpha,
            "mean_penalty": True,
            "by_rows": True,
            "loss_factor": loss_factor,
            "delta_factor": delta_factor,
            "eps_last": self.solver == "adam",
        }
        if np.any(self.dropout):
            settings |= dropout_settings(self.dropout, net.model, state)
        draw = Orders(n, self._random_state, net.model.core) if self.shuffle else None
        # a single batch has all rows in any order, and those of a sparse matrix come in theirs
        order = draw.order if draw is not None and batch < n and not issparse(X) else None
        if order is not None and draw is not None and draw.bits is not None and isinstance(self.random_state, Integral):
            settings["generator"] = draw.bits  # which nobody else has, so that nobody has to wait for it
        else:
            settings["shuffles"] = False  # the order is drawn here, if at all
        plan = Plan(
            epochs=1 if incremental else self.max_iter,
            batch_size=batch,
            order=order,
            settings=settings,
            n_threads=self.n_threads,
            validation=held_data,
            max_seconds=self.max_seconds,
            network=net,
            callbacks=callbacks_of(self.callback),
        )
        run: Any
        if issparse(X):
            run = SparseRun(self, loss_factor, n, net, lambda: batches(data, batch, draw), plan, state)
        else:
            run = DenseRun(self, loss_factor, draw, net, data, plan, state)
        if self.early_stopping and not self.loss_curve_:
            run.best_params = run.params.copy()  # where no score is a number
        self.n_iter_ = 0
        net.state = state
        reason = run.run().stop_reason
        state.forget()  # what loss_curve_ and its like tell
        if run.best_params is not None:
            run.params[...] = run.best_params
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
        state = None if kept is None or net.state is None else net.state.successor(net.streams)
        if state is None:
            state = State.begin(None, net.model, optimizer, schedule, self.max_iter, net.streams)
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

    def _blocks(self: Any, data: Data) -> Iterator[Data]:
        """The data as the engine takes it: as it is, or a sparse X some rows at a time."""
        if not issparse(data.X):
            yield data
            return
        rows = max(1, BLOCK_BYTES // (8 * data.X.shape[1]))
        for start in range(0, data.X.shape[0], rows):
            part = data.rows(slice(start, start + rows))
            yield part.with_inputs(part.X.toarray())  # type: ignore[attr-defined]

    def _loss_grad_lbfgs(
        self: Any, packed: NDArray[np.float64], X: Any, y: NDArray[Any], sample_weight: Any, *buffers: Any
    ) -> tuple[float, NDArray[np.float64]]:
        """The loss and its gradient, in scikit-learn's order: all weights, then all biases."""
        net = self._connect()
        return self._objective(net, packed, self._data(net, X, y, sample_weight))  # type: ignore[no-any-return]

    def _objective(
        self: Any, net: NeuralNetwork, packed: NDArray[np.float64], data: Data
    ) -> tuple[float, NDArray[np.float64]]:
        inside.unpack(net.model, packed)
        _, loss_factor, delta_factor = self._loss_and_factors()
        total = float(data.weight)
        loss = offset = 0.0
        gradient = np.zeros(len(packed))
        for part in self._blocks(data):
            share = part.weight / total
            part_loss, part_gradient = inside.loss_and_gradient(net.model, part)
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
                inside.packed(net.model),
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
        inside.unpack(net.model, result.x)
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
            net.model.predict(rows, out[start : start + len(rows)])
            start += len(rows)
        return out
