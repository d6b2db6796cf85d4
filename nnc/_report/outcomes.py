"""Statistics of predictions and true values for reports: counts and means, so that a report contains no single row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._data.metrics import METRICS
from nnc._utils import fields
from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CONFUSION_CLASSES = 50  # confusion matrices are computed for at most this number of classes
# Calibration compares at most MAX_GROUPS groups of similar predictions, with at least MIN_GROUP_ROWS rows each.
MAX_GROUPS, MIN_GROUP_ROWS = 10, 20
MIN_CLASS_ROWS = 10  # scores are uncertain if a class has fewer rows than this
N_CELLS = 40  # number of intervals along each axis of the density of true and predicted numbers
MAX_COUNT = 2**53  # largest number of rows that a file may contain; float64 represents it exactly


class ClassScores(NamedTuple):
    """Scores that show whether a high accuracy is due only to a frequent class.

    Attributes
    ----------
    constant_accuracy : float
        Accuracy of always predicting the most frequent class.
    balanced_accuracy : float
        Mean recall of the classes. It is 1 / n_classes if the same class is always predicted, and NaN if all rows have
        the same class.
    auc : float
        Area under the ROC curve, for more than two classes the mean over the classes. It is 0.5 for random scores, and
        NaN if all rows have the same class.
    rarest_rows : int
        Number of rows of the rarest class. If it is small, the other scores are uncertain.
    """

    constant_accuracy: float
    balanced_accuracy: float
    auc: float
    rarest_rows: int

    @classmethod
    def compute(
        cls, P: NDArray[Any], true: NDArray[Any], sample_weight: NDArray[np.float64] | None = None
    ) -> ClassScores:
        """Compute the scores of probabilities P (n, classes) for the class indices `true` (n,)."""
        counts = np.bincount(true, sample_weight)
        return cls(
            float(counts.max() / counts.sum()),
            METRICS["balanced_accuracy"](true, P.argmax(axis=1), sample_weight) if (counts > 0).sum() > 1 else np.nan,
            METRICS["auc"](true, P, sample_weight),
            int(np.bincount(true, minlength=P.shape[1]).min()),
        )

    def describe(self, accuracy: float) -> tuple[str, str]:
        """Return two lines of a report: the scores of the model, and the accuracy of the constant prediction."""
        scores = {"accuracy": accuracy, "balanced accuracy": self.balanced_accuracy, "AUC": self.auc}
        notes = [f"accuracy {self.constant_accuracy:.4g} for always predicting the most frequent class"]
        if accuracy <= self.constant_accuracy:
            notes.append("the model is not more accurate")
        if self.rarest_rows == 0:
            notes.append("none of these rows has the rarest class, so the scores do not apply to it")
        elif self.rarest_rows < MIN_CLASS_ROWS:
            notes.append(f"the rarest class has only {pluralize(self.rarest_rows, 'row')}")
        defined = [f"{name} {score:.4g}" for name, score in scores.items() if not np.isnan(score)]
        return ", ".join(defined), "; ".join(notes)


class ClassOutcomes(NamedTuple):
    """Statistics of predicted classes.

    Attributes
    ----------
    n : int
        Number of rows.
    n_correct : int
        Number of correct predictions.
    class_rows : int array (classes,)
        Number of rows of each true class.
    confusion : int array (classes, classes) or None
        Number of rows for each true class (first index) and predicted class. None for many classes.
    groups : array (groups, 3)
        Calibration: number of rows, mean of the largest probability and fraction of correct predictions of rows with
        similar largest probabilities.
    """

    n: int
    n_correct: int
    class_rows: NDArray[np.int64]
    confusion: NDArray[np.int64] | None
    groups: NDArray[np.float64]

    @classmethod
    def compute(cls, P: NDArray[Any], true: NDArray[Any]) -> ClassOutcomes:
        """Compute the statistics of probabilities P (n, classes) for the class indices `true` (n,)."""
        n_classes, predicted, best = P.shape[1], P.argmax(axis=1), P.max(axis=1).astype(np.float64)
        correct = predicted == true
        confusion = None
        if n_classes <= MAX_CONFUSION_CLASSES:
            pairs = true.astype(np.int64) * n_classes + predicted
            confusion = np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)
        groups = _group_means(best, correct.astype(np.float64))
        return cls(len(true), int(correct.sum()), np.bincount(true, minlength=n_classes), confusion, groups)

    def document(self) -> dict[str, Any]:
        """Return the statistics as a JSON object."""
        confusion = None if self.confusion is None else self.confusion.tolist()
        return {
            "n": self.n,
            "n_correct": self.n_correct,
            "class_rows": self.class_rows.tolist(),
            "confusion": confusion,
            "groups": self.groups.tolist(),
        }

    @classmethod
    def from_document(cls, document: Any, n_classes: int, where: str) -> ClassOutcomes:
        """Create the statistics from a JSON object; raise ValueError that locates the first invalid field."""
        fields.check_keys(document, cls._fields, where)
        n, n_correct = (fields.unsigned(document, key, 0, f"{where}.", bits=53) or 0 for key in ("n", "n_correct"))
        class_rows = _counts([fields.member(document, "class_rows", list, where=f"{where}.")], n_classes, where)[0]
        confusion = fields.member(document, "confusion", list, type(None), where=f"{where}.")
        if confusion is not None:
            confusion = _counts(confusion, n_classes, f"{where}.confusion")
            if len(confusion) != n_classes:
                raise ValueError(f"{where}.confusion has {len(confusion)} rows, expected {n_classes}")
        return cls(n, n_correct, class_rows, confusion, _parse_groups(document, where))


class NumberOutcomes(NamedTuple):
    """Statistics of predicted numbers of one target.

    Attributes
    ----------
    n : int
        Number of rows.
    rmse, mae : float
        Root of the mean squared error, and mean absolute error.
    deviation : float
        Standard deviation of the true values: the root mean squared error of predicting their mean.
    limits : (float, float)
        Smallest and largest value of predictions and true values.
    density : int array (N_CELLS, N_CELLS)
        Number of rows in each cell of a grid: interval of the true value, interval of the prediction.
    groups : array (groups, 3)
        Calibration: number of rows, mean prediction and mean true value of rows with similar predictions.
    """

    n: int
    rmse: float
    mae: float
    deviation: float
    limits: tuple[float, float]
    density: NDArray[np.int64]
    groups: NDArray[np.float64]

    @classmethod
    def compute(cls, predicted: NDArray[np.float64], true: NDArray[np.float64]) -> NumberOutcomes:
        """Compute the statistics of predictions (n,) of a target."""
        values = np.stack([true, predicted])
        low, high = float(values.min()), float(values.max())
        unit = max(abs(low), abs(high)) or 1.0  # divide by the unit, because squares of large numbers would overflow
        scaled_true, scaled = true / unit, predicted / unit
        errors = scaled - scaled_true
        rmse, mae = unit * float(np.sqrt(np.mean(errors**2))), unit * float(np.mean(np.abs(errors)))
        span = (high / unit - low / unit) or 1.0
        cells = np.clip((values / unit - low / unit) / span * N_CELLS, 0, N_CELLS - 1).astype(np.int64)
        density = np.bincount(cells[0] * N_CELLS + cells[1], minlength=N_CELLS**2).reshape(N_CELLS, N_CELLS)
        groups = _group_means(scaled, scaled_true) * [1, unit, unit]
        return cls(len(true), rmse, mae, unit * float(scaled_true.std()), (low, high), density, groups)

    def document(self) -> dict[str, Any]:
        """Return the statistics as a JSON object; "density" contains [row, column, count] of the cells with rows."""
        indices = np.argwhere(self.density)
        cells = np.column_stack([indices, self.density[tuple(indices.T)]])
        rest = {"limits": list(self.limits), "density": cells.tolist(), "groups": self.groups.tolist()}
        return {"n": self.n, "rmse": self.rmse, "mae": self.mae, "deviation": self.deviation, **rest}

    @classmethod
    def from_document(cls, document: Any, where: str) -> NumberOutcomes:
        """Create the statistics from a JSON object; raise ValueError that locates the first invalid field."""
        fields.check_keys(document, cls._fields, where)
        n = fields.unsigned(document, "n", 0, f"{where}.", bits=53) or 0
        rmse, mae, deviation = (fields.number(document[key], f"{where}.{key}") for key in ("rmse", "mae", "deviation"))
        low, high = fields.vector(fields.member(document, "limits", list, where=f"{where}."), 2, f"{where}.limits")
        cells = _counts(fields.member(document, "density", list, where=f"{where}."), 3, f"{where}.density")
        if low > high or (cells[:, :2] >= N_CELLS).any():
            raise ValueError(
                f"{where}.limits must be increasing, and {where}.density must have indices below {N_CELLS}, got limits "
                f"{low:g} and {high:g}, and the index {cells[:, :2].max(initial=0)}"
            )
        density = np.zeros((N_CELLS, N_CELLS), np.int64)
        density[cells[:, 0], cells[:, 1]] = cells[:, 2]
        return cls(n, rmse, mae, deviation, (low, high), density, _parse_groups(document, where))


def _group_means(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the number of rows, the mean prediction and the mean true value of groups of similar predictions."""
    n_groups = min(MAX_GROUPS, max(1, len(true) // MIN_GROUP_ROWS))
    groups = np.array_split(np.argsort(predicted, kind="stable"), n_groups)
    return np.array([[len(rows), predicted[rows].mean(), true[rows].mean()] for rows in groups])


def _counts(rows: list[Any], n: int, where: str) -> NDArray[np.int64]:
    """Convert lists of n whole numbers from a file to an array; raise ValueError if a number is invalid."""
    numbers = np.array(fields.matrix(rows, n, lambda i: f"{where}[{i}]", "", float(MAX_COUNT)), np.float64)
    counts = numbers.reshape(-1, n)
    if (counts < 0).any() or (counts % 1 != 0).any():
        raise ValueError(f"{where} must contain whole numbers of at least 0")
    return counts.astype(np.int64)


def _parse_groups(document: dict[str, Any], where: str) -> NDArray[np.float64]:
    """Return the array (groups, 3) of the calibration from a JSON object."""
    groups = fields.member(document, "groups", list, where=f"{where}.")
    return np.array(fields.matrix(groups, 3, lambda i: f"{where}.groups[{i}]"), np.float64).reshape(-1, 3)
