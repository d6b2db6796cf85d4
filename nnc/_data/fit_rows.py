"""Rows of a fit: conversion of validation rows, split into training and validation rows, and class weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data import targets
from nnc._data.batch import Batch, unpack_batch
from nnc._data.sequences import Sequences
from nnc._registry.capabilities import check
from nnc._utils.arrays import not_finite_error

if TYPE_CHECKING:
    from nnc._data.converter import DataConverter
    from nnc._data.splits import LastRows
    from nnc._model.data import Data


def convert_validation(converter: DataConverter, validation: Any) -> Data | None:
    """Convert the validation data (X, y, ...) passed to `fit`, see `unpack_batch`; return None for None."""
    if validation is None:
        return None
    is_tuple = isinstance(validation, (tuple, list)) and len(validation) in (2, 3, 4)
    if not is_tuple and not isinstance(validation, Batch):
        raise TypeError(
            "validation must be (X, y), (X, y, sample_weight), (X, y, sample_weight, lengths), 'last', LastRows or "
            f"a fraction, got {type(validation).__name__}"
        )
    try:
        batch = unpack_batch(validation)
        bound, X = converter.bind(batch.X, batch.lengths)
        return bound.with_slopes(bound.data(X, batch.y, batch.sample_weight), batch.dY)
    except (TypeError, ValueError) as error:
        error_class = TypeError if isinstance(error, TypeError) else ValueError
        raise error_class(f"validation: {error}") from None


def split_batch(
    converter: DataConverter, batch: Batch, method: float | LastRows, key: int
) -> tuple[Batch, Batch, str | None]:
    """Return the training rows and the validation rows of a batch, and the text of the warning about copies of rows.

    `method` is a result of `as_split`. `key` determines a random split, which keeps copies in one part.
    """
    from nnc._data.repeated_rows import describe_copies, find_copies
    from nnc._data.splits import LastRows, split_rows

    X, y, weights = batch.X, batch.y, batch.sample_weight
    X = X if isinstance(X, np.memmap) else converter.array(X, learn=True)
    if isinstance(X, Sequences):
        y = X.targets(y, converter.model.stack.output_shape)
    y = targets.check_row_count(X, y)
    classes = targets.stratification_labels(y, converter.model.loss, converter.classes, converter.class_steps)
    inputs = X.array if isinstance(X, Sequences) else X
    # Check before the split, so that errors name the row indices of the caller.
    for name, array, shape in (("X", inputs, converter.model.input_shape), ("y", y, y.shape[1:])):
        if name == "y" and converter.model.heads is not None:  # NaN may mark missing targets of heads
            continue
        if array.dtype.kind == "f" and not isinstance(array, np.memmap) and not np.isfinite(array).all():
            wide = array.reshape(len(array), -1)
            raise not_finite_error(name, wide, int((~np.isfinite(wide)).argmax()), shape=shape)
    group = None if isinstance(method, LastRows) else find_copies(X, y, classes)
    [(train, test)] = split_rows(len(X), method, key, classes, name="validation", group=group)
    if weights is not None:
        weights = targets.check_weights(converter.model, "sample_weight", weights, len(X), of_residuals=True)
    batch = batch._replace(X=X, y=y, sample_weight=weights)
    return batch.rows(train), batch.rows(test), None if group is None else describe_copies(group)


def apply_class_weight(converter: DataConverter, data: Data, class_weight: Any) -> Data:
    """Return the data with the weight of each row multiplied by the weight of its class."""
    if class_weight is None:
        return data
    n_out = converter.model.sizes[-1]
    check("class_weight", converter.model)
    classes = np.arange(max(2, n_out)) if converter.classes is None else converter.classes
    if converter.loss.target_type == "plus_minus_one" and n_out == 1 and converter.classes is None:
        classes = np.array([-1, 1])
    weights, name = targets.class_weights(converter.true_class_index(data), class_weight, classes), "class_weight"
    if data.weights is not None:
        with np.errstate(over="ignore", under="ignore"):
            weights, name = weights * data.weights, "class_weight times sample_weight"
    return data.replaced(weights=targets.check_weights(converter.model, name, weights, len(data.X)))
