"""Ensembles of networks as scikit-learn estimators for Dask collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from sklearn.utils import check_random_state

from nnc._parallel.ensemble import Ensemble
from nnc._utils.checks import store_arguments
from nnc._utils.docstrings import build_docstring
from nnc._utils.fitted import check_fitted
from nnc._utils.refit import all_or_nothing
from nnc.dask.fit import fit_many
from nnc.dask.partitions import fit_partitions, partitions_of
from nnc.sklearn import EnsembleClassifier, EnsembleRegressor
from nnc.sklearn.ensembles import class_indices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._network import NeuralNetwork
    from nnc._parallel.history import ManyHistory


class _DaskEstimator:
    """Base class of DaskMLPClassifier and DaskMLPRegressor: constructor, training, and prediction by partitions.

    Parameters and attributes are those of the corresponding estimator of nnc.sklearn, without n_jobs. The class
    adds or extends the following ones. X, y and sample_weight may be dask arrays, data frames or series with partitions
    of any size, or any type that the estimator of nnc.sklearn accepts.

    Parameters
    ----------
    client : distributed.Client, default=None
        Client of the cluster. Default: the client that was created last.
    """

    estimators_: list[NeuralNetwork]
    ensemble_: Ensemble
    n_features_in_: int
    client: Any

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        client: Any = None,
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
    ) -> None:
        store_arguments(self, locals())

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]
        return {**state, "client": None}

    def _fit_many(self, networks: Any, X: Any, y: Any, **options: Any) -> ManyHistory:
        return fit_many(networks, X, y, self.client, **options)

    def fit(self: Any, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train the networks on the cluster; each network may learn from rows of all partitions.

        The partitions are concatenated before the training, so all data must fit into the memory of this process, and
        into the memory of each worker.

        Parameters
        ----------
        X : array or dask collection (n, n_in)
            Inputs.
        y : array or dask collection (n,) or (n, n_out)
            Targets.
        sample_weight : array or dask collection (n,), optional
            Weights of the rows.

        Returns
        -------
        self
        """
        X, y, sample_weight = dask.compute(X, y, sample_weight)
        return super().fit(X, y, sample_weight)  # type: ignore[misc]

    @all_or_nothing
    def partial_fit(
        self: Any, X: Any, y: Any, sample_weight: Any = None, *, passes: int = 1, checkpoint: Any = None
    ) -> Any:
        """Train all networks in this process, on one partition after another; data may be larger than the memory.

        Further calls of `partial_fit` continue the training.

        Parameters
        ----------
        X, y, sample_weight : dask collections
            Training data. All three collections must have the same partitions.
        passes, checkpoint
            Arguments of `nnc.dask.fit_partitions`.

        Returns
        -------
        self
        """
        lengths, values = zip(*dask.compute(*map(dask.delayed(_summarize), partitions_of("y", y))), strict=True)
        is_first = not hasattr(self, "estimators_")
        if is_first:
            self._validate_params()
            n_out = self._learn_outputs([part for part in values if part is not None])
            rng = check_random_state(self.random_state)
            self.n_features_in_ = X.shape[1]
            self.estimators_ = self._networks(rng, X.shape[1], n_out, **self._arguments)
        steps = self._steps(max(1, sum(lengths)))
        if not is_first:
            steps.pop("optimizer")
            steps.pop("lr", None)
        target = self._encode(y)
        fit_partitions(
            self.estimators_, X, target, sample_weight=sample_weight, passes=passes, checkpoint=checkpoint, **steps
        )
        self.ensemble_ = Ensemble(self.estimators_)
        return self

    def to_local(self: Any) -> Any:
        """Convert the trained estimator to an EnsembleClassifier or EnsembleRegressor, which needs no cluster."""
        check_fitted(self, "ensemble_")
        parameters = {name: value for name, value in self.get_params(deep=False).items() if name != "client"}
        local = self._local(**parameters)
        vars(local).update(
            {name: value for name, value in vars(self).items() if name.endswith("_") or name == "_single"}
        )
        return local


def _map_partitions(local: Any, method: str, X: Any, n_out: int | None, dtype: Any) -> Any:
    """Call a method of a local estimator with X, partition by partition and lazily if X is a dask collection."""
    if not dask.is_dask_collection(X):
        return getattr(local, method)(X)
    if not hasattr(X, "map_blocks"):
        X = X.to_dask_array()
    X = X.rechunk({1: -1})
    shape = {"drop_axis": 1} if n_out is None else {"chunks": (X.chunks[0], (n_out,))}
    return X.map_blocks(
        _call_method, local, method, n_out, dtype, dtype=dtype, meta=np.empty((0,) * X.ndim, dtype), **shape
    )


def _summarize(part: Any) -> tuple[int, Any]:
    """Return the number of rows in a partition of y; also its distinct values if y is 1-D, otherwise its first row."""
    values = np.asarray(part)
    if not len(values):
        return 0, None
    return len(values), np.unique(values) if values.ndim == 1 else values[:1]


def _call_method(X: Any, local: Any, method: str, n_out: int | None, dtype: Any) -> NDArray[Any]:
    """Call a method of the estimator `local` with one partition of X, which may be empty."""
    if not len(X):
        return np.empty((0,) if n_out is None else (0, n_out), dtype)
    return np.asarray(getattr(local, method)(X), dtype)


class DaskMLPClassifier(_DaskEstimator, EnsembleClassifier):  # noqa: D101 (`__doc__` is assigned below)
    __doc__ = build_docstring(_DaskEstimator, "EnsembleClassifier whose networks are trained on a Dask cluster.")

    _local = EnsembleClassifier

    classes_: NDArray[Any]

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each row, as a lazy dask array if X is a dask collection."""
        local = self.to_local()
        return _map_partitions(local, "predict", X, None, local.classes_.dtype)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class (n, n_classes), as a lazy dask array if X is a dask collection."""
        local = self.to_local()
        return _map_partitions(local, "predict_proba", X, len(local.classes_), np.dtype(np.float64))

    def _learn_outputs(self, values: list[Any]) -> int:
        """Set `classes_` from the distinct values of all partitions, and return the number of outputs."""
        self.classes_ = np.unique(np.concatenate(values))
        return len(self.classes_)

    def _encode(self, y: Any) -> Any:
        """Convert a dask collection of labels to a dask collection of class indices."""
        if hasattr(y, "map_blocks"):
            return y.map_blocks(class_indices, self.classes_, dtype=np.int64)
        return y.map_partitions(class_indices, self.classes_, meta=np.empty(0, np.int64))


class DaskMLPRegressor(_DaskEstimator, EnsembleRegressor):  # noqa: D101 (`__doc__` is assigned below)
    __doc__ = build_docstring(_DaskEstimator, "EnsembleRegressor whose networks are trained on a Dask cluster.")

    _local = EnsembleRegressor

    def predict(self, X: Any) -> Any:
        """Return the mean prediction of the networks, as a lazy dask array if X is a dask collection."""
        local = self.to_local()
        n_out = None if local._single else local.estimators_[0].sizes[-1]
        return _map_partitions(local, "predict", X, n_out, np.dtype(np.float64))

    def _learn_outputs(self, values: list[Any]) -> int:
        """Return the number of outputs, and store whether y is 1-D.

        The list `values` has for each partition the distinct values of y if y is 1-D, otherwise its first row.
        """
        self._single = values[0].ndim == 1
        return 1 if self._single else int(values[0].shape[1])

    def _encode(self, y: Any) -> Any:
        return y
