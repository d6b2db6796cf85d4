"""Choice of the loss from the targets of the first training, for networks with loss="auto"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from nnc._data import targets
from nnc._data.converter import DataConverter

if TYPE_CHECKING:
    from nnc._data.scaling import Scaler
    from nnc._model.model import Model


class UndecidedConverter(DataConverter):
    """Converter of a network with loss="auto" before its first training; it rejects all data."""

    def __init__(self, model: Model, scaler_X: Scaler | None, scaler_y: Scaler | None) -> None:
        super().__init__(model, scaler_X, scaler_y)
        self.is_direct = False

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise ValueError(
            'the loss of the network is "auto" and not chosen yet; fit the network first, or pass the name of a loss'
        )

    rows = array = data = rows_as_is = data_as_is = _refuse

    def to_dict(self) -> dict[str, Any]:
        """Raise ModelFileError, because a network without a loss cannot be saved."""
        from nnc._serialization.document import ModelFileError

        raise ModelFileError('cannot save the network: its loss is "auto" and not chosen yet; fit the network first')


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
    steps, n_out = output_shape[0] if len(output_shape) == 2 else 1, output_shape[-1]
    labels = targets.as_labels(y, len(values) if values.ndim else 0, steps)
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
