"""Targets of tables: classes, or one or several columns of numbers."""

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
    """Description of the targets of a fit: the classes, or the number of columns with numbers.

    Attributes
    ----------
    n_outputs : int
        Number of columns with numbers; 1 for classes. Predictions for a single column have shape (n,), even if y had
        shape (n, 1).
    classes : array or None
        Sorted labels of the classes; None for regression.
    """

    n_outputs: int
    classes: NDArray[Any] | None

    def __init__(self, n_outputs: int, classes: NDArray[Any] | None = None) -> None:
        self.n_outputs, self.classes = n_outputs, classes

    @classmethod
    def of_classes(cls, y: Any, n: int) -> Target:
        """Create the target for classification from labels.

        Parameters
        ----------
        y : array (n,) or (n, 1)
            Labels: text, numbers, booleans or dates (which become text) in an array, a list or a column of a frame.
        n : int
            Number of rows of X.

        Returns
        -------
        Target

        Raises
        ------
        ValueError
            y does not have n rows, has several columns or only one class, or a label is missing.
        TypeError
            Labels have different kinds, such as text and numbers.
        """
        labels = _labels(y, n)
        classes = np.unique(labels)
        if len(classes) < 2:
            raise ValueError(f"y must have two classes or more, got one class: {labels.tolist()[0]!r}")
        return cls(1, classes)

    @classmethod
    def of_numbers(cls, y: Any, n: int) -> Target:
        """Create the target for regression from numbers (n,) or (n, outputs).

        Raises
        ------
        ValueError
            y does not have n rows, or a number is missing or infinite.
        """
        return cls(_numbers(y, n).shape[1])

    def encode(self, y: Any, n: int) -> NDArray[Any]:
        """Convert y with n rows to class indices (int32, shape (n,)) or to numbers (float64, shape (n, n_outputs)).

        Raises
        ------
        ValueError
            A label is not one of the classes, a number is missing or infinite, or the shape of y is wrong.
        """
        if self.classes is not None:
            return targets.class_indices(_labels(y, n), self.classes)
        values = _numbers(y, n)
        if values.shape[1] != self.n_outputs:
            raise ValueError(f"y must have {pluralize(self.n_outputs, 'column')}, as in fit, got {values.shape[1]}")
        return values

    def decode(self, values: NDArray[Any]) -> NDArray[Any]:
        """Convert numbers (n, n_outputs) to the shape in which they are returned: (n,) if there is one output."""
        return values[:, 0] if self.n_outputs == 1 else values

    def document(self) -> dict[str, Any]:
        """Return the target as a JSON object; "classes" is [labels], or null for regression."""
        return {"n_outputs": self.n_outputs, "classes": None if self.classes is None else [self.classes.tolist()]}

    @classmethod
    def from_document(cls, document: Any, where: str = "target") -> Target:
        """Create the target from a JSON object; raise ValueError that locates the first invalid field."""
        fields.check_keys(document, ("n_outputs", "classes"), where)
        n_outputs = fields.size(document["n_outputs"], f"{where}.n_outputs")
        class_lists = fields.member(document, "classes", list, type(None), where=f"{where}.")
        if class_lists is None:
            return cls(n_outputs)
        if len(class_lists) != n_outputs or n_outputs != 1:
            raise ValueError(
                f"{where}.classes has {len(class_lists)} items and n_outputs is {n_outputs}, expected 1 for both"
            )
        where, labels = f"{where}.classes[0]", class_lists[0]
        if type(labels) is not list or len(labels) < 2:
            raise ValueError(f"{where} is {fields.describe(labels)}, expected a list of two labels or more")
        classes = targets.classes_from_list(fields.labels(labels, where))
        if not np.array_equal(classes, np.sort(classes)):
            raise ValueError(f"{where} is not sorted, expected a sorted list")
        return cls(n_outputs, classes)


def _labels(y: Any, n: int) -> NDArray[Any]:
    """Convert y to an array of labels (n,); raise ValueError or TypeError if y is invalid."""
    values = targets.as_label_array(y)
    _check_rows(values, n)
    if values.size != n:
        raise ValueError(f"y must be one column of labels, got {values.shape[1]} columns; fit a model for each column")
    labels = targets.as_labels(values.reshape(n), n)
    if labels is None or labels.dtype.kind not in "Ubiuf":
        raise TypeError(f"y must have labels that are text or numbers, got elements of type {values.dtype}")
    if labels.dtype.kind == "f" and np.isinf(labels).any():
        row = int(np.isinf(labels).argmax())
        raise ValueError(f"y must have finite labels, got {labels[row]} in row {row}")
    return labels


def _numbers(y: Any, n: int) -> NDArray[np.float64]:
    """Convert y to an array of finite numbers (n, outputs); raise ValueError or TypeError if y is invalid."""
    values = as_real_array("y", y)
    _check_rows(values, n)
    rows = values.astype(np.float64).reshape(n, -1)
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0].tolist()
        location = f"row {row}" if values.ndim == 1 else f"row {row}, column {column}"
        raise ValueError(f"y must be finite, got {rows[row, column]} in {location}; remove the row")
    return rows


def _check_rows(values: NDArray[Any], n: int) -> None:
    """Raise ValueError unless the array `values` (targets) has n rows, as many as X."""
    if values.ndim not in (1, 2) or len(values) != n or values.size == 0:
        raise ValueError(f"y must have one row for each of the {n} rows of X, got shape {values.shape}")
