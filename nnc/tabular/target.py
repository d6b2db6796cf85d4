"""Targets of tables: classes of any labels, or one or several columns of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data import targets
from nnc._utils import fields
from nnc._utils.arrays import as_real_array
from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Target:
    """The kind of targets of a fit.

    Attributes
    ----------
    n_outputs : int
        Columns of numbers; predictions are vectors if it is 1, whether y was one or a column (n, 1). 1 for classes.
    classes : array, or None
        Sorted as scikit-learn sorts them; None for numbers.
    """

    n_outputs: int
    classes: NDArray[Any] | None

    def __init__(self, n_outputs: int, classes: NDArray[Any] | None = None) -> None:
        self.n_outputs, self.classes = n_outputs, classes

    @classmethod
    def of_classes(cls, y: Any, n: int) -> Target:
        """Return the target of labels.

        Parameters
        ----------
        y : array (n,) or (n, 1)
            Text, numbers, booleans, dates (which become text), or what frames have of these.
        n : int
            The rows of X.

        Returns
        -------
        Target

        Raises
        ------
        ValueError
            There are not n rows, several columns or only one class, or a label is missing.
        TypeError
            Labels are of several kinds.
        """
        labels = _labels(y, n)
        classes = np.unique(labels)
        if len(classes) < 2:
            raise ValueError(f"y must have two classes or more, got one class: {labels.tolist()[0]!r}")
        return cls(1, classes)

    @classmethod
    def of_numbers(cls, y: Any, n: int) -> Target:
        """Return the target of numbers (n,) or (n, outputs).

        Raises
        ------
        ValueError
            There are not n rows, or a number is missing or infinite.
        """
        return cls(_numbers(y, n).shape[1])

    def encode(self, y: Any, n: int) -> NDArray[Any]:
        """Encode a y of n rows.

        Returns
        -------
        int32 array (n,) of indices of classes, or float64 array (n, n_outputs)

        Raises
        ------
        ValueError
            A label is none of the classes, a number is missing or infinite, or the shape is another than in the fit.
        """
        if self.classes is not None:
            return targets.class_indices(_labels(y, n), self.classes)
        found = _numbers(y, n)
        if found.shape[1] != self.n_outputs:
            raise ValueError(f"y must have {pluralize(self.n_outputs, 'output')}, as in the fit, got {found.shape[1]}")
        return found

    def decode(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return numbers (n, n_outputs) as y had them: (n,) of a single output."""
        return values[:, 0] if self.n_outputs == 1 else values

    def document(self) -> dict[str, Any]:
        """Return the target as JSON holds it, exactly: the classes are a list in a list."""
        return {"n_outputs": self.n_outputs, "classes": None if self.classes is None else [self.classes.tolist()]}

    @classmethod
    def from_document(cls, document: Any, where: str = "target") -> Target:
        """Return the target of a document; ValueError with location and reason if it is invalid."""
        fields.check_keys(document, ("n_outputs", "classes"), where)
        n_outputs = fields.size(document["n_outputs"], f"{where}.n_outputs")
        given = fields.member(document, "classes", list, type(None), where=f"{where}.")
        if given is None:
            return cls(n_outputs)
        if len(given) != n_outputs or n_outputs != 1:
            raise ValueError(f"{where}.classes has {len(given)} items, expected 1 and n_outputs 1")
        where, labels = f"{where}.classes[0]", given[0]
        if type(labels) is not list or len(labels) < 2:
            raise ValueError(f"{where} is {fields.describe(labels)}, expected a list of two labels or more")
        classes = targets.classes_from_list(fields.labels(labels, where))
        if not np.array_equal(classes, np.sort(classes)):
            raise ValueError(f"{where} is a list that is not sorted, expected a sorted one")
        return cls(n_outputs, classes)


def _labels(y: Any, n: int) -> NDArray[Any]:
    """Return y as labels (n,)."""
    values = targets.as_label_array(y)
    _check_rows(values, n)
    if values.size != n:
        raise ValueError(f"y must be one column of labels, got {values.shape[1]}: fit a model for each")
    labels = targets.as_labels(values.reshape(n), n)
    if labels is None or labels.dtype.kind not in "Ubiuf":
        raise TypeError(f"y must have labels that are text or numbers, got elements of type {values.dtype}")
    if labels.dtype.kind == "f" and np.isinf(labels).any():
        row = int(np.isinf(labels).argmax())
        raise ValueError(f"y must have finite labels, got {labels[row]} in row {row}")
    return labels


def _numbers(y: Any, n: int) -> NDArray[np.float64]:
    values = as_real_array("y", y)
    _check_rows(values, n)
    rows = values.astype(np.float64).reshape(n, -1)
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0].tolist()
        where = f"row {row}" if values.ndim == 1 else f"row {row}, column {column}"
        raise ValueError(f"y must be finite, got {rows[row, column]} in {where}; leave the row out")
    return rows


def _check_rows(values: NDArray[Any], n: int) -> None:
    if values.ndim not in (1, 2) or len(values) != n or values.size == 0:
        raise ValueError(f"y must have one row for each of the {n} rows of X, got shape {values.shape}")
