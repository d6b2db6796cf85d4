"""Ensembles of networks as estimators on Dask collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from nnc._parallel.ensemble import Ensemble
from nnc._utils.checks import store_arguments
from nnc._utils.docstrings import build_docstring
from nnc.dask.fit import fit_many
from nnc.dask.partitions import fit_partitions, partitions_of
from nnc.sklearn import EnsembleClassifier, EnsembleRegressor
from nnc.sklearn.ensembles import class_indices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._network import NeuralNetwork
    from nnc._parallel.history import ManyHistory


class _OnDask:
    """Base class of both estimators.

    All parameters of the estimator of nnc.sklearn but n_jobs and all of its attributes are there. Below is what it has
    not. X, y and sample_weight are dask arrays, data frames or series, partitions of any sizes, or what the estimator
    takes anyway.

    Parameters
    ----------
    client : distributed.Client, default=None
        Default: the one that was made last.
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
        """Trains the networks on the cluster, each on rows of all partitions, which are put together first: they have
        to fit into the memory of this process and of a worker. Labels are those of all partitions."""
        X, y, sample_weight = dask.compute(X, y, sample_weight)
        return super().fit(X, y, sample_weight)  # type: ignore[misc]

    def partial_fit(
        self: Any, X: Any, y: Any, sample_weight: Any = None, *, passes: int = 1, checkpoint: Any = None
    ) -> Any:
        """Trains all networks, in this process, on one partition after the other, for data that fits no machine: see
        nnc.dask.fit_partitions, whose `passes` and `checkpoint` it takes. Called again it goes on."""
        lengths, found = zip(*dask.compute(*map(dask.delayed(_told_of), partitions_of("y", y))), strict=True)
        begins = not hasattr(self, "estimators_")
        if begins:
            self._validate_params()
            n_out = self._learn_outputs([values for values in found if values is not None])
            rng = check_random_state(self.random_state)
            self.n_features_in_ = X.shape[1]
            self.estimators_ = self._networks(rng, X.shape[1], n_out, **self._arguments)
        steps = self._steps(max(1, sum(lengths)))
        if not begins:
            steps.pop("optimizer")
            steps.pop("lr", None)
        target = self._encoded(y)
        fit_partitions(
            self.estimators_, X, target, sample_weight=sample_weight, passes=passes, checkpoint=checkpoint, **steps
        )
        self.ensemble_ = Ensemble(self.estimators_)
        return self

    def to_local(self: Any) -> Any:
        """The same, trained, as an estimator that needs no cluster."""
        check_is_fitted(self)
        parameters = {name: value for name, value in self.get_params(deep=False).items() if name != "client"}
        local = self._local(**parameters)
        vars(local).update(
            {name: value for name, value in vars(self).items() if name.endswith("_") or name == "_single"}
        )
        return local

    def _by_partition(self: Any, method: str, X: Any, n_out: int | None, dtype: Any) -> Any:
        """What a method of the local estimator answers, as a lazy dask array where X is a collection."""
        local = self.to_local()
        if not dask.is_dask_collection(X):
            return getattr(local, method)(X)
        if not hasattr(X, "map_blocks"):
            X = X.to_dask_array()
        X = X.rechunk({1: -1})
        shape = {"drop_axis": 1} if n_out is None else {"chunks": (X.chunks[0], (n_out,))}
        return X.map_blocks(
            _answer, local, method, n_out, dtype, dtype=dtype, meta=np.empty((0,) * X.ndim, dtype), **shape
        )


def _told_of(part: Any) -> tuple[int, Any]:
    """How many rows a partition of y has, and which values, or where there are several columns the first row."""
    values = np.asarray(part)
    if not len(values):
        return 0, None
    return len(values), np.unique(values) if values.ndim == 1 else values[:1]


def _answer(X: Any, local: Any, method: str, n_out: int | None, dtype: Any) -> NDArray[Any]:
    """What a partition is answered with."""
    if not len(X):
        return np.empty((0,) if n_out is None else (0, n_out), dtype)
    return np.asarray(getattr(local, method)(X), dtype)


class DaskMLPClassifier(_OnDask, EnsembleClassifier):
    __doc__ = build_docstring(_OnDask, "EnsembleClassifier whose networks are trained on a Dask cluster.")
    _local = EnsembleClassifier

    classes_: NDArray[Any]

    def predict(self, X: Any) -> Any:
        """The most probable class of every row; lazy, partition by partition, where X is a dask collection."""
        return self._by_partition("predict", X, None, self.classes_.dtype)

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class; lazy as `predict`."""
        return self._by_partition("predict_proba", X, len(self.classes_), np.dtype(np.float64))

    def _learn_outputs(self, found: list[Any]) -> int:
        self.classes_ = np.unique(np.concatenate(found))
        return len(self.classes_)

    def _encoded(self, y: Any) -> Any:
        if hasattr(y, "map_blocks"):
            return y.map_blocks(class_indices, self.classes_, dtype=np.int64)
        return y.map_partitions(class_indices, self.classes_, meta=np.empty(0, np.int64))


class DaskMLPRegressor(_OnDask, EnsembleRegressor):
    __doc__ = build_docstring(_OnDask, "EnsembleRegressor whose networks are trained on a Dask cluster.")
    _local = EnsembleRegressor

    def predict(self, X: Any) -> Any:
        """The mean of what the networks predict; lazy, partition by partition, where X is a dask collection."""
        n_out = None if self._single else self.estimators_[0].sizes[-1]
        return self._by_partition("predict", X, n_out, np.dtype(np.float64))

    def _learn_outputs(self, found: list[Any]) -> int:
        self._single = found[0].ndim == 1
        return 1 if self._single else int(found[0].shape[1])

    def _encoded(self, y: Any) -> Any:
        return y
