"""TableClassifier, which predicts classes from tables."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.class_weight import compute_sample_weight

from nnc._utils.checks import check_bool, check_not_negative, short_repr, store_arguments
from nnc._utils.docstrings import build_docstring
from nnc._utils.sklearn_private import StrOptions
from nnc.tabular.estimator import TableEstimator
from nnc.tabular.recipe import CROSS_ENTROPY, Task, choose_label_smoothing
from nnc.tabular.target import Target, find_quantity, warn_of_quantities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._registry.choices import TablePresetName
    from nnc.tabular.explain import Explanations
    from nnc.tabular.model import TableModel


class TableClassifier(ClassifierMixin, TableEstimator):  # noqa: D101 (`__doc__` is assigned below)
    __doc__ = build_docstring(
        TableEstimator,
        """Classifier of tables with any columns, without required settings: the mean of several small networks.

        Each of the first five networks is validated on rows from which it does not learn. The validation determines the
        number of epochs of the other networks, which learn from all rows.""",
        """
        class_weight : "balanced" or dict, default=None
            Factor of the sample weights for each class, as in scikit-learn; 1 for classes that are not in the dict.
            The model does not learn from rows of a class with weight 0.""",
        before="max_seconds",
        end="""
        classes_ : array (n_classes,)
            Labels of the classes.

        Examples
        --------
        >>> from nnc.tabular import TableClassifier
        >>> model = TableClassifier().fit(frame, labels)
        >>> model.predict_proba(new_frame)
        >>> print(model.report())""",
    )

    _parameter_constraints = {  # noqa: RUF012
        **TableEstimator._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    class_weight: Any
    _kind = "classes"

    def __init__(
        self,
        preset: TablePresetName = "default",
        *,
        members: int | None = None,
        class_weight: Any = None,
        max_seconds: float | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        checkpoint: Any = None,
        callback: Any = None,
        progress: bool = False,
    ) -> None:
        store_arguments(self, locals())

    def _read_target(self, y: Any, n: int) -> Target:
        """Create the Target from the labels y of n rows; raise ValueError or TypeError if y is invalid."""
        target = Target.of_classes(y, n)
        quantity = find_quantity(_classes(target), n)
        if quantity is not None:
            raise ValueError(
                f"Unknown label type: continuous: y has {quantity!r}; use TableRegressor to predict numbers, or rename "
                "the labels if they are classes"
            )
        warn_of_quantities(_classes(target), n)
        if getattr(y, "ndim", 1) == 2:
            message = "A column-vector y was passed when a 1d array was expected; pass y.ravel()"
            warnings.warn(message, DataConversionWarning, stacklevel=3)
        return target

    def _build_task(self, target: Target, y: NDArray[Any], weights: NDArray[np.float64] | None) -> Task:
        """Return the Task of the networks, which is classification with cross-entropy."""
        smoothing = choose_label_smoothing(y, weights)
        return Task(CROSS_ENTROPY, len(_classes(target)), label_smoothing=smoothing)

    def _class_weight(self, target: Target) -> Any:
        """Return the parameter `class_weight`; convert a dict to a list of the weight (or None) of each class."""
        if not isinstance(self.class_weight, dict):
            return self.class_weight
        labels, weights = _classes(target).tolist(), dict.fromkeys(range(len(_classes(target))))
        for label, weight in self.class_weight.items():
            weights[label_index(labels, "class_weight", label)] = check_not_negative(f"class_weight[{label!r}]", weight)
        return list(weights.values())

    def _row_weights(self, y: NDArray[Any], weights: NDArray[np.float64] | None, target: Target) -> Any:
        """Return the product of sample weight and class weight for each row; None if neither is set."""
        weight = self._class_weight(target)
        if weight is None:
            return weights
        if isinstance(weight, list):
            by_class = np.array([1.0 if w is None else w for w in weight])[y]
        else:
            by_class = compute_sample_weight(weight, y)
        return by_class if weights is None else by_class * weights

    @classmethod
    def _model_parameters(cls, model: TableModel) -> dict[str, Any]:
        """Return {"class_weight": value} with the value of this parameter in the fit of a model."""
        weight = model.facts["class_weight"]
        if isinstance(weight, list):
            pairs = zip(_classes(model.target).tolist(), weight, strict=True)
            weight = {label: w for label, w in pairs if w is not None}
        return {"class_weight": weight}

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels of the classes, array (n_classes,)."""
        return _classes(self._model().target)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probabilities of the classes, calibrated on held-out rows.

        The calibration divides the log-probabilities by a temperature (Guo, Pleiss, Sun and Weinberger, 2017).

        Parameters
        ----------
        X : frame or array (n, columns)
            Rows of a table with the columns of the training table.

        Returns
        -------
        float64 array (n, n_classes)
            Probabilities in the order of `classes_`.
        """
        return self._predict(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of the most probable class of each row.

        Parameters
        ----------
        X : frame or array (n, columns)
            Rows of a table with the columns of the training table.

        Returns
        -------
        array (n,)
        """
        labels: NDArray[Any] = self.classes_[self._predict(X).argmax(axis=1)]
        return labels

    def predict_set(self, X: Any, level: float = 0.9, *, allow_empty: bool = False) -> NDArray[np.bool_]:
        """Return sets of classes that contain the true class in a fraction `level` of all rows.

        A set contains all classes whose probability exceeds a threshold. The threshold is calibrated on held-out rows
        (conformal prediction, see nnc._data.conformal).

        Parameters
        ----------
        X : frame or array (n, columns)
            Rows of a table with the columns of the training table.
        level : float, default 0.9
            Coverage, above 0 and below 1.
        allow_empty : bool, default False
            Whether sets may be empty. By default an empty set is replaced by the most probable class, so the coverage
            may exceed `level`.

        Returns
        -------
        bool array (n, n_classes)
            Whether each class is in the set, in the order of `classes_`.

        Raises
        ------
        ValueError
            `level` is not between 0 and 1, or too few rows were held out for it.
        TypeError
            `allow_empty` is not a bool.
        """
        return self._model().classes_within(self._table(X), level, check_bool("allow_empty", allow_empty))

    def explain(self, X: Any, label: Any = None) -> Explanations:
        """Return the contribution of each column to the probability of a class.

        The contributions are integrated gradients (Sundararajan, Taly and Yan, 2017) on the path from the mean of the
        training rows to each row.

        Parameters
        ----------
        X : frame or array (n, columns)
            Rows of a table with the columns of the training table.
        label : optional
            Label of the class. Default: the most probable class of each row.

        Returns
        -------
        Explanations
            `contributions` (n, columns), `baseline` (n,) and `labels` (n,), the explained classes. The sum of the
            contributions of a row and its baseline is the probability.
        """
        table = self._table(X)
        if label is None:
            outputs = self._model().predict(table).argmax(axis=1)
        else:
            outputs = np.full(len(table), label_index(self.classes_.tolist(), "label", label))
        return self._explain_outputs(table, outputs)._replace(labels=self.classes_[outputs])


def _classes(target: Target) -> NDArray[Any]:
    """Return the class labels of a classification target."""
    assert target.classes is not None
    return target.classes


def label_index(labels: list[Any], name: str, label: Any) -> int:
    """Return the index of a label in the list of classes; raise ValueError if the list does not contain the label."""
    if label not in labels:
        raise ValueError(f"{name} must be one of the classes of y, {short_repr(labels)}, got {label!r}")
    return labels.index(label)
