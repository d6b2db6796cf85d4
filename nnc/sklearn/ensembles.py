"""Ensembles of networks as scikit-learn estimators."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from nnc._network import NeuralNetwork
from nnc._parallel.ensemble import Ensemble
from nnc._parallel.fit import fit_many
from nnc._registry.optimizers import Optimizer, parse_optimizer
from nnc._utils.checks import store_arguments
from nnc._utils.docstrings import build_docstring
from nnc._utils.fitted import check_fitted
from nnc._utils.refit import all_or_nothing
from nnc._utils.sklearn_private import Interval, StrOptions, checked_sample_weight

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from nnc._data.conformal import ConformalIntervals, ConformalSets
    from nnc._parallel.history import ManyHistory


class _Bagged(BaseEstimator):
    """Base class of EnsembleClassifier and EnsembleRegressor.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(100,)
        Widths of the hidden layers of each network.
    activation : str or list of str, default="relu"
        Activation of the hidden layers, as in nnc.NeuralNetwork.
    n_estimators : int, default=10
        Number of networks. They differ in their initial weights, and in their rows if `bootstrap` is True.
    max_samples : int or float, default=1.0
        Number of training rows of each network (int), or their fraction of all rows (float).
    bootstrap : bool, default=True
        Whether training rows are drawn with replacement.
    solver : str or nnc optimizer, default="adam"
        Optimizer, see the argument `optimizer` of nnc.NeuralNetwork.fit.
    alpha : float, default=0.0001
        Penalty: alpha * sum of W**2 / (2 * number of training rows) is added to the loss.
    batch_size : int or "auto", default="auto"
        Number of rows in a mini-batch. "auto" is the minimum of 200 and the number of training rows.
    learning_rate_init : float, default=0.001
        Learning rate; a `solver` that is an object has its own learning rate.
    max_iter : int, default=200
        Maximum number of epochs.
    early_stopping : bool, default=False
        Whether each network holds out a fraction of its rows, and its training ends if the loss on these rows no longer
        decreases.
    validation_fraction : float, default=0.1
        Fraction of the rows that are held out for early stopping.
    n_iter_no_change : int, default=10
        Number of epochs without improvement after which early stopping ends a training.
    dropout : float, default=0.0
        Fraction of the outputs of each hidden layer that a training step sets to 0.
    random_state : int, RandomState or None, default=None
        Seed of the initial weights and the sampled rows. The result does not depend on n_jobs.
    n_jobs : int, default=None
        Number of networks that are trained at the same time. Default: nnc.get_num_threads().

    Attributes
    ----------
    ensemble_ : nnc.Ensemble
        The fitted ensemble, with `save` and `to_onnx`.
    estimators_ : list of nnc.NeuralNetwork
        Trained networks.
    history_ : nnc.ManyHistory
        Losses of all networks.
    n_iter_ : int
        Largest number of epochs that a network was trained for.
    """

    estimators_: list[NeuralNetwork]
    ensemble_: Ensemble
    history_: ManyHistory
    n_iter_: int
    n_features_in_: int
    max_samples: float

    _parameter_constraints = {  # noqa: RUF012 (scikit-learn requires this name)
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [str, list, tuple],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "max_samples": [Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="right")],
        "bootstrap": ["boolean"],
        "solver": [str, Optimizer],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        n_estimators: int = 10,
        max_samples: float = 1.0,
        bootstrap: bool = True,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        dropout: float = 0.0,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        store_arguments(self, locals())

    def _fit(self, X: Any, y: Any, sample_weight: Any, n_out: int, **arguments: Any) -> Self:
        """Create and train networks with n_out outputs; `arguments` are passed to NeuralNetwork."""
        n, rng = len(X), check_random_state(self.random_state)
        m = self.max_samples if isinstance(self.max_samples, Integral) else max(1, int(self.max_samples * n))
        if m > n:
            raise ValueError(f"max_samples must be at most the number of rows, {n}, got {m}")
        self.estimators_ = self._networks(rng, X.shape[1], n_out, **arguments)
        rows = None
        if self.bootstrap:
            rows = [rng.randint(n, size=m) for _ in self.estimators_]
        elif m < n:
            rows = [rng.permutation(n)[:m] for _ in self.estimators_]
        weights = None if sample_weight is None else checked_sample_weight(sample_weight, X)
        options = {**self._steps(m), "epochs": self.max_iter}
        if self.early_stopping:
            options.update(validation=float(self.validation_fraction), patience=self.n_iter_no_change)
        self.history_ = self._fit_many(self.estimators_, X, y, rows=rows, sample_weight=weights, **options)
        self.n_iter_ = int(self.history_.epochs.max())
        self.ensemble_ = Ensemble(self.estimators_)
        return self

    def _fit_many(self, networks: Any, X: Any, y: Any, **options: Any) -> ManyHistory:
        return fit_many(networks, X, y, n_jobs=self.n_jobs, **options)

    def _networks(self, rng: Any, n_in: int, n_out: int, **arguments: Any) -> list[NeuralNetwork]:
        """Create `n_estimators` untrained networks whose seeds are drawn from `rng`."""
        widths = np.atleast_1d(self.hidden_layer_sizes).tolist()
        activation = list(self.activation) if isinstance(self.activation, tuple) else self.activation
        seeds = rng.randint(2**31 - 1, size=self.n_estimators).tolist()
        sizes = [n_in, *widths, n_out]
        return [
            NeuralNetwork(sizes, activation=activation, seed=seed, scale_X="standardize", **arguments) for seed in seeds
        ]

    def _steps(self, m: int) -> dict[str, Any]:
        """Return the arguments of NeuralNetwork.fit that define a training step for m training rows."""
        steps: dict[str, Any] = {"optimizer": self.solver, "l2": self.alpha / m}
        if parse_optimizer(self.solver).first_order:  # other optimizers use all rows in each step
            steps["batch_size"] = min(200, m) if self.batch_size == "auto" else self.batch_size
            steps["dropout"] = self.dropout
            if isinstance(self.solver, str):
                steps["lr"] = float(self.learning_rate_init)
        return steps

    def _checked(self, X: Any) -> NDArray[Any]:
        check_fitted(self, "ensemble_")
        checked: NDArray[Any] = validate_data(self, X, dtype=np.float64, reset=False)
        return checked


class EnsembleRegressor(MultiOutputMixin, RegressorMixin, _Bagged):  # noqa: D101 (`__doc__` is assigned below)
    __doc__ = build_docstring(
        _Bagged,
        """Ensemble of networks for regression, trained by nnc.fit_many; the prediction is their mean.

        Each network standardizes inputs and targets. The loss is the mean squared error.""",
    )

    _arguments = {"loss": "mse", "scale_y": "standardize"}  # noqa: RUF012 (arguments of NeuralNetwork)

    @all_or_nothing
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the networks on X (n, n_in) and y (n,) or (n, n_out)."""
        self._validate_params()
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2)
        self._single = y.ndim == 1
        Y = y.reshape(len(y), -1)
        return self._fit(X, Y, sample_weight, Y.shape[1], **self._arguments)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the mean prediction of the networks; its shape is (n,) or (n, n_out), like that of y in `fit`."""
        X = self._checked(X)
        return self._like_y(self.ensemble_.predict(X))

    def predict_interval(self, X: Any, level: float = 0.9) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the lower and upper ends of prediction intervals; see nnc.Ensemble.predict_interval."""
        X = self._checked(X)
        low, high = self.ensemble_.predict_interval(X, level)
        return self._like_y(low), self._like_y(high)

    def conformal(self, X: Any, y: Any, level: float = 0.9) -> ConformalIntervals:
        """Return conformal intervals that are calibrated on X and y, which `fit` must not have used."""
        X = self._checked(X)
        return self.ensemble_.conformal(X, np.asarray(y, np.float64), level)  # type: ignore[no-any-return]

    def _like_y(self, P: NDArray[Any]) -> NDArray[Any]:
        return P[:, 0] if self._single else P


class EnsembleClassifier(ClassifierMixin, _Bagged):  # noqa: D101 (`__doc__` is assigned below)
    __doc__ = build_docstring(
        _Bagged,
        """Ensemble of networks for classification, trained by nnc.fit_many; probabilities are averaged.

        Each network standardizes its inputs. The loss is the cross-entropy.""",
        end="classes_ : array (n_classes,)",
    )

    classes_: NDArray[Any]
    _arguments = {"loss": "cross_entropy"}  # noqa: RUF012 (arguments of NeuralNetwork)

    @all_or_nothing
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the networks on X (n, n_in) and labels y (n,)."""
        self._validate_params()
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must have at least two classes, got one: {self.classes_.tolist()}")
        return self._fit(X, index, sample_weight, len(self.classes_), **self._arguments)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probability of each class (n, n_classes), in the order of `classes_`."""
        X = self._checked(X)
        return self.ensemble_.predict_proba(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of the most probable class of each row, array (n,)."""
        index = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[index]
        return labels

    def conformal(self, X: Any, y: Any, level: float = 0.9) -> ConformalSets:
        """Return conformal sets of classes that are calibrated on X and y, which `fit` must not have used."""
        X = self._checked(X)
        return self.ensemble_.conformal(X, class_indices(y, self.classes_), level)  # type: ignore[no-any-return]


def class_indices(y: Any, classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return the index of each label of y in the sorted classes; raise ValueError for a label that is not a class."""
    labels = np.asarray(y)
    index = np.searchsorted(classes, labels)
    unknown = classes[np.minimum(index, len(classes) - 1)] != labels
    if unknown.any():
        label = labels[unknown].tolist()[0]
        raise ValueError(f"y must contain only classes of y in fit, {classes.tolist()}, got {label!r}")
    return index
