"""DataConverter: conversion between the user's data and the engine's arrays, and its description in model files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc._data import targets
from nnc._data.rows import TargetConversion
from nnc._utils.checks import check_choice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._data.scaling import Scaler


class DataConverter(TargetConversion):
    """Conversion of inputs, targets and outputs for one model."""

    classes: NDArray[Any] | None
    feature_names: tuple[str, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """Return classes, scalings and feature names as a dict; raise ModelFileError before the first training."""
        from nnc._serialization.document import ModelFileError

        if self.has_automatic_loss:
            raise ModelFileError(
                'cannot save the network: its loss is "auto" and not chosen yet; fit the network first'
            )
        pairs = (self.scaler_X, self.scaling_X), (self.scaler_y, self.scaling_y)
        if any(scaler is not None and scaling is None for scaler, scaling in pairs):
            raise ModelFileError("cannot save the network: its scaling is not computed yet; fit the network first")
        return {
            "classes": None if self.classes is None else self.classes.tolist(),
            "scale_X": None if self.scaling_X is None else self.scaling_X.to_dict(),
            "scale_y": None if self.scaling_y is None else self.scaling_y.to_dict(),
            "feature_names": None if self.feature_names is None else list(self.feature_names),
        }

    def restore(self, document: dict[str, Any]) -> None:
        """Set classes, scalings and feature names to those in a document; raise ValueError for invalid members."""
        if document["classes"] is not None:
            self.classes = targets.classes_from_list(document["classes"])
        if document["feature_names"] is not None:
            self.feature_names = tuple(document["feature_names"])
        for name in ("scale_X", "scale_y"):
            if document[name] is not None:
                from nnc._data.scaling import Scaling

                setattr(self, f"scaling_{name[-1]}", Scaling.from_dict(document[name]))


def as_scaler(name: str, value: Any) -> Scaler | None:
    """Return the scaler called `value`; return a scaler object unchanged, and None for None and "auto"."""
    if value is None or (isinstance(value, str) and value == "auto"):
        return None
    from nnc._data.scaling import SCALERS, Scaler

    if isinstance(value, Scaler):
        return value
    return SCALERS[check_choice(name, value, SCALERS, " or an object such as nnc.Standardize()")]()
