"""Derivatives by the outputs and by the inputs, between the units that users know and those of the engine.

What `predict` returns is P = Q / factor_y + shift_y for outputs Q of the engine, whose inputs are
(X - shift_X) factor_X; so d/dQ = d/dP / factor_y, and d/dX is the derivative by the engine's inputs times factor_X.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from nnc._utils.arrays import as_rows, cast, not_finite, numbers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nnc._data.intake import Intake

    Gradients = list[tuple[NDArray[Any], NDArray[Any] | None]]


def by_outputs(intake: Intake, X: Any, dP: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """X as rows, and the derivative by what `predict` makes of them as one by the engine's outputs. What most calls
    bring can go there as it is, and is not yet known to be finite."""
    model, rows = intake.model, intake.ready(X)
    n_out = model.sizes[-1]
    if rows is not None and type(dP) is ndarray and dP.dtype is model.dtype and intake.scaler_y is None:
        flags = dP.flags
        if dP.shape == (rows.shape[0], n_out) and flags.c_contiguous and flags.aligned:
            return rows, dP
    rows = intake.checked_inputs(X)
    given = numbers("dP", dP)
    values = as_rows(given, len(rows))
    if values.shape != (len(rows), n_out):
        expected = f"({len(rows)}, {n_out}), that of the outputs for X"
        raise ValueError(f"dP must have shape {expected}, got {given.shape}")
    if intake.scaler_y is not None:
        values = values / intake.known_y().factor
    slopes = cast(values, model.dtype)
    check_finite(intake, rows, slopes)
    return rows, slopes


def check_finite(intake: Intake, rows: NDArray[Any], slopes: NDArray[Any]) -> None:
    """Raises where one of the two, or a weight, is not finite."""
    model = intake.model
    for name, array, shape in (("dP", slopes, ()), ("X", rows, model.shape)):
        position, _ = model.core.scan(array)
        if position >= 0:
            raise not_finite(name, array, position, shape=shape)
    model.check_parameters()


def vjp(intake: Intake, X: ArrayLike, dP: ArrayLike) -> tuple[Gradients, NDArray[Any]]:
    """What `NeuralNetwork.vjp` returns."""
    model = intake.model
    given = X if type(X) is ndarray else intake.array(X)
    rows, slopes = by_outputs(intake, given, dP)
    if model.heads is not None:
        slopes = model.heads.through(model.net_outputs(rows), slopes)
    flat, dX = np.empty(model.n_params, model.dtype), np.empty(rows.shape, model.dtype)
    product: float = model.linear.gradients(model.read, rows, slopes, None, None, flat, dX)
    if product - product != 0:
        check_finite(intake, rows, slopes)
    if intake.scaling_X is not None:
        dX = intake.by_inputs(dX, given)
    return model.split(flat), dX if given.shape == dX.shape else dX.reshape(given.shape)


def jacobian(intake: Intake, X: ArrayLike) -> NDArray[Any]:
    """What `NeuralNetwork.jacobian` returns."""
    model, rows, single = intake.model, intake.ready(X), False
    if rows is None:
        array = intake.array(X)
        rows, single = intake.checked_inputs(array), intake.is_single(array)
    J = model.input_jacobian(rows)
    if model.heads is not None:
        by_input = model.heads.of_predictions(model.net_outputs(rows), J.transpose(0, 2, 1))
        J = np.ascontiguousarray(by_input.transpose(0, 2, 1))
    if intake.scaler_y is not None:
        J = (J / intake.known_y().factor[:, None]).astype(model.dtype)
    if intake.scaling_X is not None:
        J = (J * intake.scaling_X.factor).astype(model.dtype)
    if model.images:
        J = J.reshape(*J.shape[:2], *model.shape)
    return J[0] if single else J
