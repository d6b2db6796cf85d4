"""Base class of MLPClassifier and MLPRegressor: network, training and predictions."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from math import prod
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_regressor
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from nnc._data.batch import Batch
from nnc._interop.scikit_learn import activation_name, hidden_activations, parts_of
from nnc._model.data import Data
from nnc._network import NeuralNetwork
from nnc._registry import optimizers
from nnc._registry.activations import HIDDEN
from nnc._registry.capabilities import PAIRS, check_arguments
from nnc._registry.losses import parse_loss
from nnc._registry.optimizers import SGD, Optimizer, parse_optimizer
from nnc._utils.arrays import as_contiguous
from nnc._utils.fitted import check_fitted
from nnc._utils.random import Streams
from nnc._utils.refit import all_or_nothing
from nnc._utils.sklearn_private import Interval, StrOptions, checked_sample_weight, fit_context
from nnc.sklearn.slopes import with_slopes
from nnc.sklearn.solvers import blocks, least_squares, minimize, objective, train

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._registry.losses import Loss

MAX_DENSE_BYTES = 1 << 28  # convert a sparse X to a dense array only up to this size in bytes
SOLVERS = tuple(optimizers.ROWS)
LARGEST_BELOW_ONE = float(np.nextafter(1, 0))


class Estimator:
    """Base class of MLPClassifier and MLPRegressor; their second base class is the class of scikit-learn.

    Parameters and attributes are those of scikit-learn; nnc adds or extends the following ones.

    Parameters
    ----------
    activation : str or list of str
        Also "sigmoid" (the same as "logistic"), every other activation of nnc for hidden layers, such as "gelu", or a
        list with a name for each hidden layer.
    solver : str or object
        Also "adamw", "rmsprop", "adagrad", "nadam", "rprop",
        which use `learning_rate_init` (and beta_1, beta_2 and epsilon if the solver has such parameters);
        "levenberg_marquardt" for squared errors; or an object such as nnc.RMSprop(lr=0.01, momentum=0.9), which has its
        own parameters.
    learning_rate : str, schedule or callable
        Also a schedule such as nnc.CosineLR(0.1), or a function of the epoch, for every stochastic solver.
    dropout : float or list of float, one for each hidden layer, default=0.0
        Fraction of the outputs of each hidden layer that a training step sets to 0.
    max_seconds : float, default=None
        Training ends after this time in seconds.
    callback : callable or list of callables, default=None
        Called after each iteration with a record of `epoch`, `loss`, `lr`, `seconds`, `best` and `network`. With
        validation rows the record also contains `val_loss` and `val_score`. Training ends if a callback returns True.
    n_threads : int, default=None
        Number of threads. Default: chosen by measurements, within the limits of joblib, threadpoolctl and environment
        variables. The result does not depend on the number of threads.

    Attributes
    ----------
    network_ : nnc.NeuralNetwork
        The trained network. The arrays in `coefs_` are views of its weights.
    validation_loss_curve_ : list or None
        Loss of the validation rows after each iteration, without penalty; None without validation rows.
    """

    coefs_: list[NDArray[Any]]
    intercepts_: list[NDArray[Any] | None]
    n_iter_: int
    t_: int
    loss_: float
    n_outputs_: int
    n_layers_: int
    out_activation_: str
    best_loss_: float | None
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None

    _parameter_constraints = {  # noqa: RUF012 (scikit-learn requires this name)
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
        """The trained network; the arrays in `coefs_` and `intercepts_` are views of its weights and biases."""
        check_fitted(self, "coefs_")
        return self._connect()

    def _connect(self: Any) -> NeuralNetwork:
        """Return the network; create a new one if the user has replaced arrays in coefs_ or intercepts_."""
        net: NeuralNetwork | None = vars(self).get("_network")
        if net is not None:
            assigned, views = [*self.coefs_, *self.intercepts_], [*net.model.W, *net.model.b]
            if len(assigned) == len(views) and all(a is b for a, b in zip(assigned, views, strict=True)):
                return net
        return self._adopt()  # type: ignore[no-any-return]

    def _adopt(self: Any, dtype: Any = None) -> NeuralNetwork:
        """Create a network from coefs_ and intercepts_, and replace their arrays by views of its parameters."""
        net, old = NeuralNetwork._from_parts(parts_of(self, dtype, strict=False)), vars(self).get("_network")
        if old is not None:
            net.streams = old.streams
            if old.sizes == net.sizes and old.dtype == net.dtype:
                net.state = old.state
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

    # ------------------------------------------------------------------------------------------ arguments

    def _optimizer_of(self: Any) -> Optimizer:
        solver = self.solver
        if isinstance(solver, Optimizer):
            return solver
        learning_rate = self.learning_rate_init
        if solver == "sgd":
            momentum = min(self.momentum, LARGEST_BELOW_ONE)
            return SGD(learning_rate, momentum, bool(self.nesterovs_momentum and momentum))
        optimizer = parse_optimizer(solver)
        if "betas" in optimizer._fields:
            betas = min(self.beta_1, LARGEST_BELOW_ONE), min(self.beta_2, LARGEST_BELOW_ONE)
            eps = {"eps": self.epsilon} if "eps" in optimizer._fields else {}
            return optimizer.replace(lr=learning_rate, betas=betas, **eps)
        return optimizer.with_lr(learning_rate) if optimizer.first_order else optimizer

    def _is_stochastic(self) -> bool:
        return self._optimizer_of().first_order

    def _check_solver(self: Any) -> bool:
        if not self._is_stochastic():
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    @abstractmethod
    def _loss_and_factors(self) -> tuple[str | Loss, float, float]:
        """Return the engine's loss, and the factors that convert its value and gradient to those of scikit-learn."""

    def _offsets(self, Y: NDArray[Any] | None) -> NDArray[np.float64] | None:
        """Return scikit-learn's loss of each row minus the engine's loss, or None if both losses are equal."""
        return None

    def _loss_grad_lbfgs(
        self: Any, parameters: NDArray[np.float64], X: Any, y: NDArray[Any], sample_weight: Any, *buffers: Any
    ) -> tuple[float, NDArray[np.float64]]:
        """Return the loss and its gradient; the order of `parameters` is all weights, then all biases."""
        net = self._connect()
        return objective(self, net.model, parameters, self._data(net, Batch(X, y, sample_weight)))

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
        """Create the attributes with losses and scores of each epoch; keep them if this fit continues another."""
        attributes = vars(self)
        for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_"):
            if attributes.get(name) is not None:
                attributes[name] = list(attributes[name])  # copy: the lists of the former fit stay as they are
        self.loss_curve_: list[float] = attributes.get("loss_curve_", [])
        if attributes.get("best_validation_score_" if stops_early else "best_loss_") is None:
            self._no_improvement_count = 0
            self.validation_scores_: list[float] | None = [] if stops_early else None
            self.best_validation_score_ = -np.inf if stops_early else None
            self.best_loss_ = None if stops_early else np.inf
        self.validation_loss_curve_ = attributes.get("validation_loss_curve_")

    def _init_coef(self: Any, fan_in: int, fan_out: int, dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        # As in scikit-learn, the output layer is initialized for the activation of the last hidden layer.
        names = [self.activation] if isinstance(self.activation, str) else list(self.activation)
        name = activation_name(names[min(len(self.coefs_), len(names) - 1)]) if names else "relu"
        bound = np.sqrt((2.0 if name == "sigmoid" else 6.0) / (fan_in + fan_out))
        W = self._random_state.uniform(-bound, bound, (fan_in, fan_out))
        b = self._random_state.uniform(-bound, bound, fan_out)
        return W.astype(dtype, copy=False), b.astype(dtype, copy=False)

    def _weights_of(self: Any, y: NDArray[Any], sample_weight: Any, incremental: bool) -> Any:
        """Return the sample weights, multiplied by class weights if the estimator has any."""
        return sample_weight

    def _columns_of(self, y: NDArray[Any]) -> NDArray[Any]:
        """Convert validated targets to an array with one column for each output of the network."""
        return y.reshape(len(y), -1)

    def _targets(self: Any, y: NDArray[Any], dtype: Any) -> tuple[NDArray[Any] | None, NDArray[np.int32] | None]:
        """Convert y (n, n_outputs_) for the engine: return (targets, None), or (None, class indices) for softmax."""
        return as_contiguous(y, np.dtype(dtype)), None

    def _validation_targets(self, y: NDArray[Any]) -> NDArray[Any]:
        """Validate the targets of validation rows, and convert them like training targets in `_validate_input`."""
        return y

    def _data(self: Any, net: NeuralNetwork, batch: Batch) -> Data:
        X, y, weights = batch.X, batch.y, batch.sample_weight
        if X.shape[1] != net.sizes[0] or y.shape[1] != net.sizes[-1]:
            raise ValueError(
                f"X and y must have {net.sizes[0]} and {net.sizes[-1]} columns, as in the first fit, "
                f"got {X.shape[1]} and {y.shape[1]}"
            )
        rows = X if issparse(X) else as_contiguous(X, net.dtype)
        Y, index = self._targets(y, net.dtype)
        data = Data(rows, Y, index, None if weights is None else as_contiguous(weights, net.dtype))
        return net.converter.with_slopes(data, batch.dY)

    # ------------------------------------------------------------------------------------------ training

    @all_or_nothing
    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        dY: Any = None,
        dY_weight: float = 1.0,
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
            Validation rows. The attribute `validation_loss_curve_` contains their loss after each iteration. With
            `early_stopping`, they are used instead of the fraction `validation_fraction` of X.
        dY : array-like of shape (n_samples, n_outputs, n_features), default=None
            Derivatives of the targets with respect to the features; for one output also (n_samples, n_features). NaN
            marks a missing derivative. Only for MLPRegressor with `loss="squared_error"` and a smooth activation.
        dY_weight : float, default=1.0
            Weight of the derivatives in the loss, as in `NeuralNetwork.fit`.

        Returns
        -------
        self : object
            The trained model.
        """
        given = {
            "X_val": X_val,
            "y_val": y_val,
            "sample_weight_val": sample_weight_val,
            "dY": dY,
            "dY_weight": dY_weight,
        }
        check_arguments(PAIRS["MLPRegressor.fit"], given, {"dY_weight": 1.0})
        validation = None if X_val is None else (X_val, y_val, sample_weight_val)
        slopes = None if dY is None else (dY, dY_weight)
        return self._fit(X, y, sample_weight=sample_weight, validation=validation, slopes=slopes)

    def _fit(
        self: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        incremental: bool = False,
        validation: Any = None,
        slopes: Any = None,
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
            sample_weight = checked_sample_weight(sample_weight, X)
        y = self._columns_of(y)
        weights = self._weights_of(y, sample_weight, incremental)
        self.n_outputs_ = y.shape[1]
        self._random_state = check_random_state(self.random_state)
        optimizer = self._optimizer_of()
        if first_pass:
            self._initialize(y, [X.shape[1], *hidden, self.n_outputs_], X.dtype)
        elif not incremental:  # `warm_start`: train a copy, so that the network does not change if the fit fails
            self._network = self._connect().copy()
            self.coefs_, self.intercepts_ = list(self._network.model.W), list(self._network.model.b)
        # Solvers without a learning rate compute in float64, as in scikit-learn.
        dtype = None if optimizer.first_order else np.float64
        net = self._connect()
        if dtype not in (None, net.dtype) or not self._fits(net):
            net = self._adopt(dtype)
        if first_pass and np.any(self.dropout):
            net.streams = Streams(int(self._random_state.randint(2**31)))
        if validation is not None:
            validation = self._validated(*validation)
        if issparse(X):
            X = X.tocsr()
            if prod(X.shape) * net.dtype.itemsize <= MAX_DENSE_BYTES:
                X = X.toarray()
        batch, model = Batch(X, y, weights), net.model
        if slopes is not None and not optimizer.least_squares:
            model, dY = with_slopes(self, model, X, slopes)
            batch = batch._replace(dY=dY)
        if optimizer.first_order:
            with net.model.training_lock:  # the lock prevents other threads from training this network
                train(self, net, model, optimizer, batch, incremental, validation)
        elif np.any(self.dropout):
            raise ValueError(f"dropout must be 0 with solver {self.solver!r}, got {self.dropout!r}")
        elif optimizer.least_squares:
            least_squares(self, net, optimizer, batch, validation, slopes)
        else:
            minimize(self, net, model, optimizer, batch, validation)
        if not all(np.isfinite(part).all() for part in (*self.coefs_, *self.intercepts_)):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            )
        return self

    def _fits(self: Any, net: NeuralNetwork) -> bool:
        """Return whether the network has the activations and the loss that the estimator's parameters define."""
        loss, _, _ = self._loss_and_factors()
        expected = *hidden_activations(self.activation, self.n_layers_ - 2), activation_name(self.out_activation_)
        return net.activations == expected and (net.loss_name, net.loss_parameter or 0.0) == parse_loss(loss)

    def _validated(self: Any, X: Any, y: Any, weights: Any) -> Batch:
        """Validate and convert the validation rows that the caller passes, like training rows in `_validate_input`."""
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=is_regressor(self),
            dtype=(np.float64, np.float32),
            reset=False,
        )
        y = self._validation_targets(y)
        if issparse(X):
            X = X.toarray()
        return Batch(X, self._columns_of(y), None if weights is None else checked_sample_weight(weights, X))

    # ------------------------------------------------------------------------------------------ predictions

    def predict(self: Any, X: Any) -> NDArray[Any]:
        """Predict labels or numbers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predicted targets, in the form of y in `fit`.
        """
        check_fitted(self, "coefs_")
        return self._predict(X)  # type: ignore[no-any-return]

    def _forward_pass_fast(self: Any, X: Any, check_input: bool = True) -> NDArray[Any]:
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        net = self._connect()
        if X.shape[1] != net.sizes[0]:
            raise ValueError(f"X must have {net.sizes[0]} columns, as in fit, got {X.shape[1]}")
        out = np.empty((X.shape[0], net.sizes[-1]), net.dtype)
        start = 0
        for part in blocks(Data(X.tocsr() if issparse(X) else X)):
            rows = Data(as_contiguous(part.X, net.dtype))
            net.model.predict(rows, out[start : start + rows.n])
            start += rows.n
        return out
