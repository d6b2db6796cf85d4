"""MLPClassifier of scikit-learn, trained by nnc."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import neural_network
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import column_or_1d

from nnc._registry import losses
from nnc._registry.losses import CrossEntropy
from nnc._utils.arrays import as_contiguous
from nnc._utils.checks import store_arguments
from nnc._utils.docstrings import build_docstring
from nnc._utils.fitted import check_fitted
from nnc._utils.sklearn_private import StrOptions
from nnc.sklearn.estimator import Estimator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._registry.losses import Loss


class MLPClassifier(Estimator, neural_network.MLPClassifier):  # noqa: D101 (`__doc__` is assigned below)
    __doc__ = build_docstring(
        Estimator,
        "scikit-learn's MLPClassifier, trained by nnc.",
        """
        loss : "log_loss", "hinge" or nnc.CrossEntropy(label_smoothing=0.1), default="log_loss"
            With "hinge" the estimator has `decision_function` instead of `predict_proba`.
        class_weight : dict, "balanced" or, for several labels, a list of dicts, default=None
            Factors of the sample weights, by class.""",
        before="dropout",
    )

    _parameter_constraints = {  # noqa: RUF012
        **neural_network.MLPClassifier._parameter_constraints,
        **Estimator._parameter_constraints,
        "loss": [StrOptions({"log_loss", *losses.MARGIN_LOSSES}), CrossEntropy],
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
        store_arguments(self, locals())

    def _kind(self) -> str:
        """Return the type of the labels: "multiclass", "binary" or "multilabel-indicator"."""
        return str(self._label_binarizer.y_type_)

    def _has_margins(self) -> bool:
        """Return whether predictions are margins, as the last fit or, before it, `loss` determines."""
        fitted = vars(self).get("out_activation_")
        return self.loss in losses.MARGIN_LOSSES if fitted is None else fitted == "identity"

    def _output_activation(self) -> str:
        if self.loss in losses.MARGIN_LOSSES:
            return "identity"
        return "softmax" if self._kind() == "multiclass" else "logistic"

    def _loss_and_factors(self) -> tuple[str | Loss, float, float]:
        if self.loss in losses.MARGIN_LOSSES:
            return self.loss, 1, 1
        if self.out_activation_ == "softmax":
            return (self.loss if isinstance(self.loss, CrossEntropy) else "cross_entropy"), 1, 1
        return "bce", self.n_outputs_, self.n_outputs_

    def _weights_of(self, y: NDArray[Any], sample_weight: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight must be a dict for partial_fit, got 'balanced', which needs all rows; use the "
                "weights that sklearn.utils.class_weight.compute_class_weight returns for all of y"
            )
        if self._kind().startswith("multilabel"):
            weights = compute_sample_weight(self.class_weight, y.astype(int))
        else:
            index = y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0].astype(int)
            if isinstance(self.class_weight, str):
                counts = np.bincount(index, sample_weight, len(self.classes_)).astype(np.float64)
                present = counts > 0
                class_weights = np.divide(counts.sum() / present.sum(), counts, out=np.ones(len(counts)), where=present)
            else:
                class_weights = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[index])
            weights = class_weights[index]
        return weights if sample_weight is None else weights * sample_weight

    def _targets(self, y: NDArray[Any], dtype: Any) -> tuple[NDArray[Any] | None, NDArray[np.int32] | None]:
        if self.loss in losses.MARGIN_LOSSES:
            return np.where(y, 1, -1).astype(dtype), None
        if self.out_activation_ == "softmax":
            return None, y.argmax(axis=1).astype(np.int32)
        Y = as_contiguous(y, np.dtype(dtype))
        if isinstance(self.loss, CrossEntropy):  # smooth the labels of two classes
            Y = Y * (1 - self.loss.label_smoothing) + self.loss.label_smoothing / 2
        return Y, None

    def _validation_targets(self, y: NDArray[Any]) -> NDArray[Any]:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        unknown = np.setdiff1d(y if y.ndim == 1 else [], self.classes_)
        if len(unknown):
            raise ValueError(f"y_val must have only classes of y, got {unknown}")
        return self._label_binarizer.transform(y).astype(bool)  # type: ignore[no-any-return]

    def _score_of(self, data: Data, outputs: NDArray[Any]) -> float:
        """Return the accuracy of the outputs of the network on validation rows."""
        if data.labels is not None:
            correct = outputs.argmax(axis=1) == data.labels
        elif self.loss in losses.MARGIN_LOSSES and self._kind() == "multiclass":
            correct = outputs.argmax(axis=1) == np.asarray(data.Y).argmax(axis=1)
        else:
            threshold = losses.ROWS[self._connect().loss_name].threshold
            correct = ((outputs > threshold) == (np.asarray(data.Y) > threshold)).all(axis=1)
        return float(np.average(correct, weights=data.weights))

    def _predict(self, X: Any, check_input: bool = True) -> NDArray[Any]:
        if not self._has_margins() or self._kind() == "multiclass":
            return super()._predict(X, check_input=check_input)  # type: ignore[no-any-return]
        outputs = (self._forward_pass_fast(X, check_input=check_input) > 0).astype(float)
        return self._label_binarizer.inverse_transform(  # type: ignore[no-any-return]
            outputs[:, 0] if self.n_outputs_ == 1 else outputs
        )

    @available_if(lambda self: not self._has_margins())
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_fitted(self, "coefs_")
        return super().predict_proba(X)  # type: ignore[no-any-return]

    @available_if(lambda self: not self._has_margins())
    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return super().predict_log_proba(X)  # type: ignore[no-any-return]

    @available_if(lambda self: self._has_margins())
    def decision_function(self, X: Any) -> NDArray[Any]:
        """Return the outputs of a network with hinge loss; the larger an output, the more likely is its class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        check_fitted(self, "coefs_")
        outputs = self._forward_pass_fast(X)
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs
