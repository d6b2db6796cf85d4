"""Conversion of a network whose loss is chosen by the targets of the first fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from nnc._data import targets
from nnc._data.converter import DataConverter

if TYPE_CHECKING:
    from nnc._data.scaling import Scaler
    from nnc._model.model import Model


class UndecidedConverter(DataConverter):
    """Refuse all data until the first fit has chosen the loss."""

    def __init__(self, model: Model, scaler_X: Scaler | None, scaler_y: Scaler | None) -> None:
        super().__init__(model, scaler_X, scaler_y)
        self.is_direct = False

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise ValueError(
            'the network has loss="auto", which the first fit or train_step chooses; fit it first, or name a loss'
        )

    rows = array = at_once = data = ready = _refuse

    def to_dict(self) -> dict[str, Any]:
        """Raise ModelFileError: files need a loss."""
        from nnc._serialization.document import ModelFileError

        raise ModelFileError(
            'cannot save the network: its loss is "auto", which the first fit chooses; nothing was written'
        )


def loss_for(y: Any, n_out: int) -> str:
    """Return the name of the loss for targets of a network with n_out outputs.

    Returns
    -------
    str
        "cross_entropy" for text or booleans and several outputs, and for whole numbers of as many values as there are
        outputs; "bce" for one output and text, booleans or whole numbers of two values; else "mse". Whole numbers are
        those of an integer type.
    """
    labels = targets.as_labels(y, len(targets.as_given(y)))
    if labels is None or labels.dtype.kind not in "Ubiu":
        return "mse"
    n_values = len(set(labels.tolist()))
    if labels.dtype.kind in "Ub":
        return "bce" if n_out == 1 else "cross_entropy"
    if n_out == 1:
        return "bce" if n_values == 2 else "mse"
    return "cross_entropy" if n_values == n_out else "mse"
