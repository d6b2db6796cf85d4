"""TableClassifier."""

from __future__ import annotations

import warnings
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.class_weight import compute_sample_weight

from nnc._utils.checks import check_bool, check_not_negative, store_arguments
from nnc._utils.docstrings import build_docstring
from nnc._utils.sklearn_private import StrOptions
from nnc.tabular.estimator import TableEstimator
from nnc.tabular.recipe import CROSS_ENTROPY, Task
from nnc.tabular.target import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc.tabular.explain import Explanations
    from nnc.tabular.model import TableModel


class TableClassifier(ClassifierMixin, TableEstimator):
    __doc__ = build_docstring(
        TableEstimator,
        """Classifier of tables with any columns, without required settings: the mean of several small networks.

        Each of the first five networks is validated on rows that it does not learn from. They determine the number of
        epochs of the other networks, which learn from all rows.""",
        """
        class_weight : "balanced" or dict, default=None
            Factor of the sample weights for each class, as in scikit-learn; 1 for classes that are not in the dict.
            The model learns nothing from a class of weight 0.""",
        before="max_seconds",
        end="""
        classes_ : array (n_classes,)

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
        preset: str = "default",
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

    def _target(self, y: Any, n: int) -> Target:
        target = Target.of_classes(y, n)
        labels = _labels(target)
        broken = labels[labels % 1 != 0] if labels.dtype.kind == "f" else labels[:0]
        if len(broken):
            raise ValueError(f"Unknown label type: continuous: y has {broken[0]:g}; TableRegressor predicts numbers")
        if getattr(y, "ndim", 1) == 2:
            what = "A column-vector y was passed when a 1d array was expected: y.ravel() is one"
            warnings.warn(what, DataConversionWarning, stacklevel=3)
        return target

    def _task(self, target: Target, y: NDArray[Any], weights: NDArray[np.float64] | None) -> Task:
        return Task(CROSS_ENTROPY, len(_labels(target)))

    def _class_weight(self, target: Target) -> Any:
        if not isinstance(self.class_weight, dict):
            return self.class_weight
        labels, weights = _labels(target).tolist(), dict.fromkeys(range(len(_labels(target))))
        for label, weight in self.class_weight.items():
            weights[place_of(labels, "class_weight", label)] = check_not_negative(f"class_weight[{label!r}]", weight)
        return list(weights.values())

    def _weights(self, y: NDArray[Any], weights: NDArray[np.float64] | None, target: Target) -> Any:
        weight = self._class_weight(target)
        if weight is None:
            return weights
        if isinstance(weight, list):
            by_class = np.array([1.0 if w is None else w for w in weight])[y]
        else:
            by_class = compute_sample_weight(weight, y)
        return by_class if weights is None else by_class * weights

    @classmethod
    def _settings(cls, model: TableModel) -> dict[str, Any]:
        weight = model.facts["class_weight"]
        if isinstance(weight, list):
            pairs = zip(_labels(model.target).tolist(), weight, strict=True)
            weight = {label: w for label, w in pairs if w is not None}
        return {"class_weight": weight}

    @property
    def classes_(self) -> NDArray[Any]:
        return _labels(self._model().target)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class, (n, n_classes) in the order of `classes_`, at the temperature that held-out
        rows ask for (Guo, Pleiss, Sun and Weinberger, 2017)."""
        return self._answer(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each row, (n,)."""
        labels: NDArray[Any] = self.classes_[self._answer(X).argmax(axis=1)]
        return labels

    def predict_set(self, X: Any, level: float = 0.9, *, allow_empty: bool = False) -> NDArray[np.bool_]:
        """Return which classes are in a set that holds the true class in a share of `level` of all rows: all classes
        that are probable enough, by held-out rows (conformal prediction: see nnc._data.conformal).

        Parameters
        ----------
        X : frame or array (n, columns)
        level : float, default 0.9
            Above 0 and below 1.
        allow_empty : bool, default False
            By default the most probable class stands in for an empty set, so the coverage may exceed `level`. True
            leaves sets empty where no class is probable enough.

        Returns
        -------
        bool array (n, n_classes)
            In the order of `classes_`.

        Raises
        ------
        ValueError
            `level` is not between 0 and 1, or too few rows were held out for it.
        TypeError
            `allow_empty` is not a bool.
        """
        return self._model().classes_within(self._table(X), level, check_bool("allow_empty", allow_empty))

    def explain(self, X: Any, label: Any = None) -> Explanations:
        """What each column gives to the probability of a class, for each row: integrated gradients (Sundararajan, Taly
        and Yan, 2017) from the mean row of the training to this one.

        Parameters
        ----------
        X : frame or array (n, columns)
        label : optional
            The class. Default: for each row the most probable one.

        Returns
        -------
        Explanations
            `contributions` (n, columns), which with `baseline` (n,) add up to `predictions` (n,).
        """
        table = self._table(X)
        if label is None:
            outputs = self._model().predict(table).argmax(axis=1)
        else:
            outputs = np.full(len(table), place_of(self.classes_.tolist(), "label", label))
        return self._explained(table, outputs)


def _labels(target: Target) -> NDArray[Any]:
    assert target.classes is not None
    return target.classes


def place_of(labels: list[Any], name: str, label: Any) -> int:
    """Which of the classes a label is; ValueError where it is none."""
    if label not in labels:
        raise ValueError(f"{name} must be of the classes of y, {shown(labels)}, got {label!r}")
    return labels.index(label)
