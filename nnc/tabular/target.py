"""What y is: classes of any labels, or numbers, of one output or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data import targets
from nnc._utils import fields
from nnc._utils.arrays import numbers
from nnc._utils.checks import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Target:
    """What the y of a fit was.

    Attributes
    ----------
    n_outputs : int
        Where it is 1, what is predicted is a vector, whether y was one or a column (n, 1).
    classes : tuple of arrays, or None
        Of each output, sorted as scikit-learn sorts them; None of numbers.
    """

    n_outputs: int
    classes: tuple[NDArray[Any], ...] | None

    def __init__(self, n_outputs: int, classes: Sequence[NDArray[Any]] | None = None) -> None:
        self.n_outputs = n_outputs
        self.classes = None if classes is None else tuple(classes)

    @classmethod
    def of_classes(cls, y: Any, n: int) -> Target:
        """Labels of any kind.

        Parameters
        ----------
        y : array (n,) or (n, outputs)
            Text, numbers, booleans, dates (which become text), or what frames have of these.
        n : int
            The rows of X.

        Returns
        -------
        Target

        Raises
        ------
        ValueError
            There are not n rows, a label is missing, or an output has one class alone.
        TypeError
            Labels are of several kinds.
        """
        columns = _columns(y, n)
        classes = [np.unique(column) for column in columns]
        for j, (column, found) in enumerate(zip(columns, classes, strict=True)):
            if len(found) < 2:
                where = "" if len(columns) == 1 else f" in column {j}"
                raise ValueError(f"y must have two classes or more, got one class{where}: {column.tolist()[0]!r}")
        return cls(len(columns), classes)

    @classmethod
    def of_numbers(cls, y: Any, n: int) -> Target:
        """Numbers (n,) or (n, outputs); ValueError where there are not n rows, or one is missing or infinite."""
        return cls(_numbers(y, n).shape[1])

    def encode(self, y: Any, n: int) -> NDArray[Any]:
        """A y of n rows.

        Returns
        -------
        int32 array (n, n_outputs) of places among the classes, or float64 array of numbers

        Raises
        ------
        ValueError
            A label is none of the classes, a number is missing or infinite, or the shape is another than in the fit.
        """
        found = _numbers(y, n) if self.classes is None else _columns(y, n)
        n_outputs = len(found) if isinstance(found, list) else found.shape[1]
        if n_outputs != self.n_outputs:
            raise ValueError(f"y must have {counted(self.n_outputs, 'output')}, as in the fit, got {n_outputs}")
        if self.classes is None:
            return np.asarray(found)
        return np.stack([targets.encode(*pair) for pair in zip(found, self.classes, strict=True)], axis=1)

    def decode(self, values: NDArray[Any]) -> NDArray[Any]:
        """The labels of places (n, n_outputs), or numbers as they are; (n,) of a single output."""
        if self.classes is not None:
            labels = [classes[column] for classes, column in zip(self.classes, values.T, strict=True)]
            kinds = {column.dtype.kind for column in labels}
            values = np.stack(labels, axis=1, dtype=None if len(kinds) == 1 else object)  # text stays beside numbers
        return values[:, 0] if self.n_outputs == 1 else values

    def document(self) -> dict[str, Any]:
        """As JSON holds it, exactly."""
        classes = None if self.classes is None else [found.tolist() for found in self.classes]
        return {"n_outputs": self.n_outputs, "classes": classes}

    @classmethod
    def from_document(cls, document: Any, where: str = "target") -> Target:
        """What `document` gave; ValueError with place and reason where it is none."""
        fields.exactly(document, ("n_outputs", "classes"), where)
        n_outputs = fields.whole(document["n_outputs"], f"{where}.n_outputs")
        given = fields.member(document, "classes", list, type(None), where=f"{where}.")
        if given is None:
            return cls(n_outputs)
        if len(given) != n_outputs:
            raise ValueError(f"{where}.classes has {len(given)} items, expected {n_outputs} (n_outputs)")
        classes = []
        for j, labels in enumerate(given):
            place = f"{where}.classes[{j}]"
            if type(labels) is not list or len(labels) < 2:
                raise ValueError(f"{place} is {fields.shown(labels)}, expected a list of two labels or more")
            found = targets.classes_of(fields.labels(labels, place))
            if not np.array_equal(found, np.sort(found)):
                raise ValueError(f"{place} is a list that is not sorted, expected a sorted one")
            classes.append(found)
        return cls(n_outputs, classes)


def _columns(y: Any, n: int) -> list[NDArray[Any]]:
    """The labels of each output."""
    values = targets.as_given(y)
    _check_rows(values, n)
    columns = values[:, None].T if values.ndim == 1 else values.T
    found = []
    for column in columns:
        labels = targets.as_labels(column, n)
        if labels is None or labels.dtype.kind not in "Ubiuf":
            raise TypeError(f"y must have labels that are text or numbers, got elements of type {values.dtype}")
        if labels.dtype.kind == "f" and np.isinf(labels).any():
            row = int(np.isinf(labels).argmax())
            raise ValueError(f"y must have finite labels, got {labels[row]} in row {row}")
        found.append(labels)
    return found


def _numbers(y: Any, n: int) -> NDArray[np.float64]:
    values = numbers("y", y)
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
