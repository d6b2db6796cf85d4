"""Export of the corrections of a forecast model to C and ONNX."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from nnc._interop.forecast import ForecastProgram
from nnc._interop.program import Program, build_members
from nnc._parallel.members import Members
from nnc.forecast.windows import MEMBERS, MIN_RELATIVE_SCALE, MIN_SCALE, SQUASH, lookback, spread_steps

if TYPE_CHECKING:
    from nnc.forecast.model import Prediction
    from nnc.forecast.statistics import Floats
    from nnc.forecast.windows import Windows


def export_inputs(windows: Windows) -> Floats:
    """Return the inputs (series, n_in) of the exported model for windows."""
    # The first inputs of the networks are differences of raw observations, one fewer than the observations.
    width = windows.raw.shape[1] - 1
    return np.concatenate([windows.raw, windows.inputs[:, width:]], axis=1)


def build_forecast_program(prediction: Prediction) -> ForecastProgram:
    """Build the ForecastProgram of the model of a prediction; the first series becomes the self-test."""
    model, windows, corrections = prediction.model, prediction.windows, prediction.model.corrections
    if not any(corrections.weights):
        raise ValueError(
            "the model must have corrections to be exported, got none: its forecasts are statistical only; use predict"
        )
    networks = Members(compress(corrections.networks, corrections.weights))
    operations, title = build_members(networks.export_documents())
    weights = filter(None, corrections.weights)
    X = export_inputs(windows)
    P = windows.base + prediction.corrections * windows.scale
    test = {"X": X[0].tolist(), "P": P[0].tolist()}
    interface = Program("float32", (X.shape[1],), (), (model.horizon,), "regression", 0.0, False, (), test, title, None)
    return ForecastProgram(
        interface,
        lookback(model.season),
        len(MEMBERS),
        spread_steps(model.horizon),
        SQUASH,
        MIN_RELATIVE_SCALE,
        MIN_SCALE,
        list(zip(weights, operations, strict=True)),
        corrections.input_scale.tolist(),
        corrections.unit.tolist(),
    )
