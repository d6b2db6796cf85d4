"""Targets of tables: classes, or one or several columns of numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data import targets
from nnc._tables.cells import CellError, read_column
from nnc._tables.format_search import find_format
from nnc._tables.notices import ColumnWarning
from nnc._tables.text_values import NumberFormat, read_format
from nnc._utils import fields
from nnc._utils.arrays import as_real_array
from nnc._utils.checks import pluralize
from nnc._utils.notices import warn_user

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._tables.cells import Column

# Integer targets are classes if they have at most MAX_INTEGER_CLASSES different values, and on average at least
# MIN_ROWS_PER_CLASS rows for each value.
MAX_INTEGER_CLASSES = 30
MIN_ROWS_PER_CLASS = 10
INTEGER_TEXT = re.compile(r"[+-]?\d+", re.ASCII)


class Target:
    """Description of the targets of a fit: the classes, or the number of columns with numbers.

    Attributes
    ----------
    n_outputs : int
        Number of columns with numbers; 1 for classes. Predictions for a single column have shape (n,), even if y had
        shape (n, 1).
    classes : array or None
        Sorted labels of the classes; None for regression.
    format : NumberFormat or None
        Format that reads the targets if they were text in the fit, such as "25.53 €"; None for numbers and classes.
    """

    n_outputs: int
    classes: NDArray[Any] | None
    format: NumberFormat | None

    def __init__(self, n_outputs: int, classes: NDArray[Any] | None = None, format: NumberFormat | None = None) -> None:
        self.n_outputs, self.classes, self.format = n_outputs, classes, format

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
        """Create the target for regression from numbers (n,) or (n, outputs), or from one column of text.

        Text is read like a column of X, if all its cells are numbers in one format, such as "25.53 €".

        Raises
        ------
        ValueError
            y does not have n rows, or a number is missing or infinite.
        TypeError
            y contains other text.
        """
        column = _text_column(y, n)
        if column is not None:
            search = find_format(column)
            if isinstance(search.format, NumberFormat):
                _read_numbers(column, search.format)
                if search.warning:
                    warn_user(search.warning, ColumnWarning)
                return cls(1, format=search.format)
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
        if self.format is not None:
            column = _text_column(y, n)
            if column is not None:
                return _read_numbers(column, self.format)
            if self.format.percent:  # 3 % may be stored as the number 3 or 0.03
                raise ValueError(f"y must be text such as {self.format.example!r}, as in fit, got numbers")
        values = _numbers(y, n)
        if values.shape[1] != self.n_outputs:
            raise ValueError(f"y must have {pluralize(self.n_outputs, 'column')}, as in fit, got {values.shape[1]}")
        return values

    def decode(self, values: NDArray[Any]) -> NDArray[Any]:
        """Convert numbers (n, n_outputs) to the shape in which they are returned: (n,) if there is one output."""
        return values[:, 0] if self.n_outputs == 1 else values

    def document(self) -> dict[str, Any]:
        """Return the target as a JSON object; "classes" is [labels], or null for regression."""
        return {
            "n_outputs": self.n_outputs,
            "classes": None if self.classes is None else [self.classes.tolist()],
            "format": None if self.format is None else self.format.document(),
        }

    @classmethod
    def from_document(cls, document: Any, where: str = "target") -> Target:
        """Create the target from a JSON object; raise ValueError that locates the first invalid field."""
        document = {"format": None, **document}  # files of earlier versions lack this field
        fields.check_keys(document, ("n_outputs", "classes", "format"), where)
        n_outputs = fields.size(document["n_outputs"], f"{where}.n_outputs")
        class_lists = fields.member(document, "classes", list, type(None), where=f"{where}.")
        format = read_format(document["format"], f"{where}.format")
        if class_lists is None and isinstance(format, NumberFormat) and n_outputs == 1:
            return cls(1, format=format)
        if format is not None:
            raise ValueError(
                f"{where}.format is a {format.type} format, expected null, or a number format of one column"
            )
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


def are_classes(n_distinct: int, n_rows: int) -> bool:
    """Return whether whole numbers with `n_distinct` different values in n_rows rows are classes, not quantities."""
    return n_distinct <= max(2, min(MAX_INTEGER_CLASSES, n_rows // MIN_ROWS_PER_CLASS))


def find_quantity(labels: NDArray[Any], n_rows: int) -> Any:
    """Return a label that shows that the distinct labels of n_rows rows are quantities; None if they are classes.

    Fractional numbers are quantities. Texts are quantities if they are numbers in one format, such as "25.53 €", and
    too many for classes. Texts of plain integers are classes.
    """
    if labels.dtype.kind == "f":
        return next(iter(labels[labels % 1 != 0].tolist()), None)
    if labels.dtype.kind != "U" or are_classes(len(labels), n_rows):
        return None
    quantity = next((text for text in labels.tolist() if not INTEGER_TEXT.fullmatch(text)), None)
    if quantity is None or not isinstance(find_format(read_column("y", labels)).format, NumberFormat):
        return None
    return quantity


def warn_of_quantities(labels: NDArray[Any], n_rows: int) -> None:
    """Warn if the distinct labels of n_rows rows are too many for classes and look like numbers, such as "7 kg"."""
    if labels.dtype.kind != "U" or are_classes(len(labels), n_rows):
        return
    lookalike = find_format(read_column("y", labels)).lookalike
    if lookalike:
        warn_user(
            f"y has {len(labels):,} classes that look like numbers or dates, such as {lookalike!r}; if they are "
            "quantities, convert y to numbers for regression",
            ColumnWarning,
        )


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


def _text_column(y: Any, n: int) -> Column | None:
    """Return y as a column if it is a single column of text with n rows, otherwise None."""
    values = targets.as_label_array(y)
    if values.dtype.kind not in "OTU" or values.size != n or values.shape[:1] != (n,):
        return None
    items = values.reshape(n).astype(object)
    return read_column("y", items) if all(isinstance(item, str) for item in items) else None


def _read_numbers(column: Column, format: NumberFormat) -> NDArray[np.float64]:
    """Convert a column of text to numbers (n, 1); raise ValueError for the first cell that is missing or unreadable."""
    try:
        values = format.read(column).values
        is_missing = np.isnan(values)
        if not is_missing.any():
            return values[:, None]
        row = int(is_missing.argmax())
    except CellError as error:
        row = error.row
    text = column.cell(row) if column.values[row] >= 0 else "blank text"
    raise ValueError(f"y must be {format.expected}, got {text} in row {row}; remove the row")


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
