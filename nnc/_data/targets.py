"""Conversion of y to targets or class indices, and checks of y and of row weights for the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry import losses
from nnc._utils.arrays import as_real_array, as_weights
from nnc._utils.checks import check_real, short_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from nnc._model.model import Model
    from nnc._registry.losses import LossRow


def as_label_array(y: Any) -> NDArray[Any]:
    """Convert y to an array with unchanged labels; np.asarray might round integers or convert numbers to text."""
    return y if type(y) is np.ndarray else _objects(y)


def check_row_count(X: NDArray[Any], y: Any) -> NDArray[Any]:
    """Return y as an array with unchanged labels; raise ValueError unless it has one row for each row of X."""
    array = as_label_array(y)
    if X.ndim == 0 or array.ndim == 0 or len(X) != len(array):
        raise ValueError(f"y must have one row for each row of X, got shapes {array.shape} and {X.shape}")
    return array


def first_row(mask: NDArray[np.bool_]) -> int:
    """Return the index of the first row of a mask in which any element is true."""
    return int(mask.reshape(len(mask), -1).any(axis=1).argmax())


def as_labels(y: Any, n: int, steps: int = 1) -> NDArray[Any] | None:
    """Return y as an array (n,) if it has one value for each of the n rows, else None. Bytes and dates become text.

    If `steps` is above 1, y has one value for each step of each row, and the result has the shape (n, steps).
    """
    values = as_label_array(y)
    kind = values.dtype.kind
    if kind in "TO" and values.ndim:  # dtype kinds: T is StringDType of NumPy 2, O is Python objects
        from nnc._utils.containers import convert_labels

        values = convert_labels("y", values)
    elif kind in "fMm" and values.ndim and values.size == n * steps and (is_missing := values != values).any():
        found, row = values[is_missing][0], first_row(is_missing)
        raise ValueError(f"y must have no missing values, got {found} in row {row}; remove the row")
    if values.dtype.kind in "SMm":
        try:
            values = values.astype(str)
        except UnicodeDecodeError as error:
            raise TypeError(f"y must contain text or numbers, got bytes that are not ASCII text: {error}") from None
    shape = (n,) if steps == 1 else (n, steps)
    if values.shape in (shape, (*shape, 1)):
        return values.reshape(shape)
    if values.dtype.kind == "U":
        where = "row" if steps == 1 else "step and row"
        raise ValueError(f"y must have one label for each {where} of X, got shape {values.shape} for {n} rows")
    return None


def _objects(y: Any) -> NDArray[Any]:
    """Convert y to an array; use dtype object if NumPy might round labels of a list or convert them to text."""
    from nnc._utils.containers import as_array

    values = as_array("y", y)
    if type(y) in (list, tuple) and values.size:
        kind = values.dtype.kind
        if kind in "US" or (kind == "f" and values.dtype == np.float64 and abs(values).max() >= 2**53):
            return np.array(y, object)
    return values


CLASS_LOSS = 'for classes pass loss="cross_entropy" to NeuralNetwork, with one output for each class'


def as_targets(y: Any, loss: str) -> NDArray[Any]:
    """Return y as a numeric array; for text raise TypeError, whose message suggests a classification loss."""
    try:
        return as_real_array("y", y)
    except TypeError:
        for index, value in np.ndenumerate(as_label_array(y).astype(object)):
            if index and isinstance(value, (str, bytes)):  # `index` is () if y is a single text
                raise TypeError(
                    f"y must be numbers for the loss {loss!r}, got the text {short_repr(value)} in row {index[0]}; "
                    f"{CLASS_LOSS}; convert digits with astype(float)"
                ) from None
        raise


def shape_hint(values: NDArray[Any], n: int, given: tuple[int, ...], loss: LossRow, model: Model) -> str:
    """Return the remedy at the end of an error message about the shape of y, or "" if none is likely.

    The remedy names the layers for targets at each step or for one target per sequence, or a loss for labels.
    """
    shape, is_column = model.stack.output_shape, values.shape == (n, 1)
    if len(shape) == 2 and (is_column or given[1:] == shape[1:]):
        return "; one target per sequence requires return_sequences=False in the last recurrent layer, or Flatten()"
    if len(shape) == 1 and len(model.input_shape) == 2 and given[1:2] == model.input_shape[:1]:
        return "; targets at every step require return_sequences=True in all recurrent layers, and no Flatten()"
    is_labels = is_column and (values >= 0).all() and (values == np.floor(values)).all()
    return f"; {CLASS_LOSS}" if is_labels and loss.target_type != "probabilities" else ""


def find_classes(values: NDArray[Any], loss: str, n_out: int) -> NDArray[Any] | None:
    """Return the sorted classes of labels, or None if the loss accepts the labels as numbers.

    Such numbers are 0 to n_out - 1 for cross_entropy, 0 to 1 for bce, and -1 and 1 for hinge. Booleans are classes if
    both values occur.
    """
    row = losses.ROWS[loss]
    if not row.is_classification or (row.target_type == "multilabel" and n_out > 1):
        return None
    text = values.dtype.kind == "U"
    if not text and not (values.dtype.kind == "b" and n_out <= 2 and len(np.unique(values)) == 2):
        if values.dtype.kind not in "iufb":
            return None
        if row.target_type == "multilabel" and values.min() >= 0 and values.max() <= 1:
            return None
        if row.target_type == "plus_minus_one" and n_out == 1 and np.isin(values, (-1, 1)).all():
            return None
        if n_out > 1 and values.min() >= 0 and values.max() < n_out and (values == np.floor(values)).all():
            return None
    expected = 2 if n_out == 1 else n_out
    classes = np.unique(values)
    if len(classes) == expected and (text or np.isfinite(classes).all()):
        return classes
    if text:
        raise ValueError(
            f"y must have {expected} classes to fit this network of {n_out} output{'s' * (n_out > 1)}, "
            f"got {len(classes)}: {list_classes(classes)}"
        )
    return None


def classes_from_list(values: list[Any]) -> NDArray[Any]:
    """Return the classes in a document as an array that represents them exactly."""
    if isinstance(values[0], str):
        return np.array(values)
    from nnc._utils.containers import as_exact_array

    classes = as_exact_array(values)
    if classes is None:
        raise ValueError(
            f"classes must be numbers that one dtype represents exactly, got {list_classes(np.array(values, object))}"
        )
    return classes


def stratification_labels(y: NDArray[Any], loss: str, classes: NDArray[Any] | None, steps: int) -> NDArray[Any] | None:
    """Return the labels by which a validation split is stratified; None for regression, or if each step has a label."""
    row = losses.ROWS[loss]
    if not row.is_classification or steps > 1:
        return None
    values = as_labels(y, len(y))
    if values is None:
        return y.argmax(axis=1) if y.ndim == 2 and y.shape[1] and row.target_type != "multilabel" else None
    if values.dtype.kind == "f" and row.target_type == "multilabel" and classes is None:
        return values >= row.threshold if values.min() >= 0 and values.max() <= 1 else values
    return values


def list_classes(classes: NDArray[Any]) -> str:
    """Return the first six classes as text for messages."""
    names = [repr(value) for value in classes[:6].tolist()]
    return ", ".join(names) + (", ..." if len(classes) > 6 else "")


def class_indices(values: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int32]:
    """Return the index of each label in the classes; raise ValueError for other labels."""
    wrong: Any = np.ones(values.shape, bool)
    if (values.dtype.kind == "U") == (classes.dtype.kind == "U"):
        same, changed = (
            (values, False) if values.dtype.kind == "U" else _as_type(as_real_array("y", values), classes.dtype)
        )
        sorter = np.argsort(classes)
        positions = np.searchsorted(classes, same, sorter=sorter)
        index = sorter[np.minimum(positions, len(classes) - 1)]
        wrong = (classes[index] != same) | changed
    if wrong.any():
        raise ValueError(
            f"y must contain only the classes of this network, {list_classes(classes)}, got "
            f"{values[wrong].tolist()[0]!r} in row {first_row(wrong)}"
        )
    return index.astype(np.int32)


def _as_type(values: NDArray[Any], dtype: np.dtype[Any]) -> tuple[NDArray[Any], Any]:
    """Return numbers in another dtype, and a mask of those that the conversion has changed.

    The mask is needed because different large integers may be equal after conversion to float64.
    """
    if values.dtype == dtype:
        return values, False
    with np.errstate(all="ignore"):
        same = values.astype(dtype)
        return same, (same.astype(values.dtype) != values) | ((same < 0) != (values < 0))


def checked_labels(y: NDArray[Any], n_out: int) -> NDArray[np.int32]:
    """Return labels as a new int32 array; raise ValueError unless all are integers from 0 to n_out - 1.

    The array is a copy, because the core uses labels as indices and the caller may change y during the training.
    """
    y = as_real_array("y", y)
    if y.dtype.kind == "f":
        fractions = y != np.floor(y)
        if fractions.any():
            raise ValueError(
                f"y must contain whole numbers as labels, got {y[fractions][0]} in row {first_row(fractions)}"
            )
    outside = (y < 0) | (y >= n_out)
    if outside.any():
        raise ValueError(
            f"y must contain labels from 0 to {n_out - 1} for a network with {n_out} outputs, "
            f"got {y[outside][0]} in row {first_row(outside)}"
        )
    return np.array(y, np.int32)


def plus_minus_one(index: NDArray[np.int32], n_out: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return targets of the hinge loss for class indices: 1 for the class, -1 for the other classes."""
    if n_out == 1:
        return (2 * index[:, None] - 1).astype(dtype)
    Y = np.full((len(index), n_out), -1, dtype)
    Y[np.arange(len(index)), index] = 1
    return Y


def split_one_hot(Y: NDArray[Any]) -> tuple[NDArray[Any] | None, NDArray[np.int32] | None]:
    """Return None and class indices if all rows of probabilities are one-hot, else the rows and None.

    Y has the shape (n, classes), or (n, steps, classes) if each step of a row has a class. Raise ValueError if
    probabilities do not sum to 1.
    """
    sums = Y.sum(axis=-1, dtype=np.float64)
    wrong = (Y.min(axis=-1) < 0) | (abs(sums - 1) > 1e-5)
    if wrong.any():
        raise ValueError(
            f"y must have rows of probabilities that sum to 1 for the loss 'cross_entropy', got {Y[wrong][0]} in row "
            f"{first_row(wrong)}"
        )
    if (Y.max(axis=-1) == 1).all():
        return None, np.ascontiguousarray(Y.argmax(axis=-1), np.int32)
    return Y, None


def check_range(Y: NDArray[Any], loss: str) -> None:
    """Raise ValueError if a target is outside the range that the loss requires."""
    target_type = losses.ROWS[loss].target_type
    if target_type == "multilabel" and (Y.min() < 0 or Y.max() > 1):
        found = f"values from {Y.min():g} to {Y.max():g}"
        raise ValueError(f"y must lie between 0 and 1 for the loss {loss!r}, got {found}")
    if target_type == "counts" and Y.min() < 0:
        raise ValueError(f"y must be 0 or more for the loss {loss!r}, got {Y.min():g}")
    if target_type == "plus_minus_one" and not (abs(Y) == 1).all():
        raise ValueError(f"y must be -1 or 1 for the loss {loss!r}, got {Y[abs(Y) != 1][0]:g}")


def class_weights(index: NDArray[Any], weight: Any, classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return an array (n,) with the weight of the class of each row.

    "balanced" means n / (number of classes * number of rows of the class).
    """
    expected = f"class_weight must be 'balanced' or a dict of weights for the classes {list_classes(classes)}"
    if isinstance(weight, str) and weight == "balanced":
        counts = np.bincount(index, minlength=len(classes))
        by_class: NDArray[np.float64] = len(index) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return np.asarray(by_class[index], np.float64)
    if not hasattr(weight, "items"):
        raise ValueError(f"{expected}, got {short_repr(weight)}")
    table = _by_class(weight, classes, expected)
    return np.asarray(table[index], np.float64)


def _by_class(weight: Mapping[Any, Any], classes: NDArray[Any], expected: str) -> NDArray[np.float64]:
    """Return the weight of each class; classes that are not in `weight` have weight 1."""
    table = np.ones(len(classes))
    index_of_class = {value: index for index, value in enumerate(classes.tolist())}
    for label, value in weight.items():
        if label not in index_of_class:
            raise ValueError(f"{expected}, got a weight for {label!r}")
        table[index_of_class[label]] = check_real(f"class_weight[{label!r}]", value)
    if not ((table >= 0) & (table < np.inf)).all():
        raise ValueError(f"class_weight must have finite weights of at least 0, got {dict(weight)!r}")
    return table


def check_weights(model: Model, name: str, weights: Any, n: int, of_residuals: bool = False) -> NDArray[Any]:
    """Return validated weights of n rows in the model's dtype.

    Custom losses have no row weights. If `of_residuals` is true, nnc.LeastSquares has weights of its residuals.
    """
    from nnc._registry.capabilities import check

    check("sample_weight" if of_residuals else "sample_weight of batches or folds", model)
    array = as_weights(name, weights, n, model.dtype)
    with np.errstate(over="ignore"):
        total, limits = array.sum(dtype=np.float64), np.finfo(array.dtype)
    if not limits.tiny <= total <= limits.max:  # gradients are divided by the sum of the row weights
        raise ValueError(
            f"{name} must have a sum from {limits.tiny:.3g} to {limits.max:.3g}, the range of {array.dtype}, "
            f"got {total:.3g}; only ratios of weights matter, so divide all of them by the largest"
        )
    return array
