"""Choice of the loss from the targets of the first training, for networks with loss="auto"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data import targets
from nnc._data.sequences import Sequences
from nnc._model.model import sharing_model

if TYPE_CHECKING:
    from nnc._data.converter import DataConverter


def converter_for_loss(converter: DataConverter, loss: str) -> DataConverter:
    """Return a converter with the same scalings, for a model with the same parameters and another named loss.

    The network does not change before its training begins. All output activations that "auto" can choose have the same
    initialization, so the parameters do not change either.
    """
    model = sharing_model(converter.model)
    model.change_loss(loss)
    return converter.anew(model, has_automatic_loss=False)


def loss_for_targets(converter: DataConverter, X: Any, y: Any, lengths: Any = None, is_batch: bool = False) -> str:
    """Return the name of the loss that "auto" means for the targets y of the rows X."""
    bound_converter, X = converter.bind(X, lengths)
    shape = bound_converter.model.stack.output_shape
    return choose_loss(X.targets(y, shape) if isinstance(X, Sequences) else y, shape, is_batch)


def choose_loss(y: Any, output_shape: tuple[int, ...], is_batch: bool = False) -> str:
    """Return the name of the loss for targets of a network with outputs of this shape.

    Parameters
    ----------
    y : array (n,), (n, k) or (n, steps)
        Targets or labels of n rows, in one or k columns, or of each step of n rows.
    output_shape : tuple of int
        Shape of the outputs for one row: (n_out,) or (steps, n_out).
    is_batch : bool, default False
        Whether y is one of several batches, so that classes may be missing in y.

    Returns
    -------
    str
        - "cross_entropy" for several outputs and one column of text, booleans or integers;
        - "bce" for one output and one column of text, booleans, or integers of two different values (for labels of
          steps, 0 and 1);
        - "mse" for everything else. Floats are never labels, even if they are whole.

    Raises
    ------
    ValueError
        A batch for one output has a single integer value, which may be one of two classes or a number.
    """
    values = targets.as_label_array(y)
    if values.ndim == 0:  # return any loss if y is a single value; the training then raises an error about its shape
        return "mse"
    steps, n_out = output_shape[0] if len(output_shape) == 2 else 1, output_shape[-1]
    labels = targets.as_labels(y, len(values), steps)
    if labels is None or labels.dtype.kind not in "Ubiu":
        return "mse"
    if n_out > 1:
        return "cross_entropy"
    if labels.dtype.kind in "Ub":
        return "bce"
    n_values = len(np.unique(labels))
    if is_batch and n_values == 1:
        raise ValueError(
            "cannot choose the loss automatically: y of the first batch must have at least two different values, got "
            f'only the integer {labels.flat[0]}; name the loss: "bce" for two classes, "mse" for numbers'
        )
    return "bce" if n_values == 2 and (steps == 1 or (labels.min() == 0 and labels.max() == 1)) else "mse"
