"""Derivatives with respect to outputs and inputs, converted between the units of the user and those of the engine.

The engine receives (X - shift_X) factor_X and returns Q; `predict` returns P = Q / factor_y + shift_y. The chain rule
gives d/dQ = d/dP / factor_y, and d/dX is the derivative with respect to the engine's inputs times factor_X.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from nnc._data.sequences import Sequences
from nnc._model.channels import compute_derivatives
from nnc._model.data import Data
from nnc._utils.arrays import as_contiguous, as_matrix, as_real_array, not_finite_error
from nnc._utils.checks import short_repr

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from numpy.typing import ArrayLike, NDArray

    from nnc._data.converter import DataConverter
    from nnc._model.model import Model

    Gradients = list[tuple[NDArray[Any], NDArray[Any] | None]]
    GradientsLike: TypeAlias = Sequence[tuple[ArrayLike, ArrayLike | None]] | NDArray[Any]


def engine_output_gradient(converter: DataConverter, X: Any, dP: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return X as rows for the engine, and the derivative dP converted to that of the engine's outputs.

    dP is the derivative with respect to the outputs of `predict`, which are in the units of the targets. Arrays that
    the engine can read directly are returned unchanged, and may contain NaN and infinity.
    """
    model, rows = converter.model, converter.rows_as_is(X)
    n_out = model.sizes[-1]
    if rows is not None and type(dP) is ndarray and dP.dtype is model.dtype and converter.scaler_y is None:
        flags = dP.flags
        if dP.shape == (rows.shape[0], n_out) and flags.c_contiguous and flags.aligned:
            return rows, dP
    rows = converter.checked_inputs(X)
    given = as_real_array("dP", dP)
    values = as_matrix(model.stack.flatten_outputs(given), len(rows))
    if values.shape != (len(rows), n_out):
        expected = (len(rows), *model.stack.output_shape)
        raise ValueError(f"dP must have shape {expected} like the outputs for X, got {given.shape}")
    if converter.scaler_y is not None:
        values = values / converter.target_scaling().factor
    output_gradient = as_contiguous(values, model.dtype)
    check_finite(converter, rows, output_gradient)
    return rows, output_gradient


def check_finite(converter: DataConverter, rows: NDArray[Any], output_gradient: NDArray[Any]) -> None:
    """Raise ValueError if a derivative, an input or a parameter is not finite."""
    model = converter.model
    for name, array, shape in (("dP", output_gradient, ()), ("X", rows, model.input_shape)):
        position, _ = model.core.find_not_finite(array)
        if position >= 0:
            raise not_finite_error(name, array, position, shape=shape)
    model.check_parameters()


def flat_gradient(model: Model, gradients: GradientsLike) -> NDArray[Any]:
    """Return gradients as one vector (n_params,) of the model's dtype, in the order of `params`.

    Parameters
    ----------
    gradients : list of (dW, db), or array (n_params,)
        As `NeuralNetwork.gradients` returns them.

    Raises
    ------
    TypeError, ValueError
        The gradients do not have this form, or are not numbers. NaN and infinity are allowed, see `check_gradient`.
    """
    if isinstance(gradients, ndarray):
        flat = as_real_array("gradients", gradients)
        if flat.shape != (model.n_params,):
            raise ValueError(
                f"gradients must have shape ({model.n_params},) like net.params, or be a list of (dW, db) for each "
                f"layer, got shape {flat.shape}"
            )
        return as_contiguous(flat, model.dtype)
    if not isinstance(gradients, (list, tuple)):
        raise TypeError(
            "gradients must be a list of (dW, db) for each layer, as net.gradients(X, y) returns it, or a vector, "
            f"got {type(gradients).__name__}"
        )
    if len(gradients) != len(model.W):
        raise ValueError(
            f"gradients must have a pair (dW, db) for each of the {len(model.W)} layers with weights, "
            f"got {len(gradients)}; to sum two gradients, add their arrays, because + concatenates lists"
        )
    parts = []
    for number, (pair, W, b) in enumerate(zip(gradients, model.W, model.b, strict=True)):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise TypeError(f"gradients[{number}] must be a pair (dW, db), got {short_repr(pair)}")
        for letter, part, parameter in (("dW", pair[0], W), ("db", pair[1], b)):
            if parameter is None and part is None:
                continue
            if parameter is None or part is None:
                expected = (
                    "None for a layer without biases" if parameter is None else f"an array of shape {parameter.shape}"
                )
                raise TypeError(f"{letter} in gradients[{number}] must be {expected}, got {short_repr(part)}")
            array = as_real_array(f"{letter} in gradients[{number}]", part)
            if array.shape != parameter.shape:
                raise ValueError(
                    f"{letter} in gradients[{number}] must have shape {parameter.shape} like {letter[1]} of the layer, "
                    f"got {array.shape}"
                )
            parts.append(array.ravel())
    return as_contiguous(np.concatenate(parts), model.dtype)


def check_gradient(model: Model, flat: NDArray[Any]) -> None:
    """Raise a ValueError that names layer and index if a number of a gradient vector is not finite."""
    position, _ = model.core.find_not_finite(flat[None])
    if position < 0:
        return
    mask = np.zeros(len(flat), bool)
    mask[position] = True
    for number, (dW, db) in enumerate(model.split(mask)):
        for letter, part in (("dW", dW), ("db", db)):
            if part is not None and part.any():
                index = ", ".join(map(str, np.argwhere(part)[0]))
                raise ValueError(
                    f"gradients must be finite in {flat.dtype}, got {flat[position]} in {letter}[{index}] of "
                    f"gradients[{number}]"
                )


def vjp(
    converter: DataConverter, X: ArrayLike, dP: ArrayLike, lengths: ArrayLike | None = None
) -> tuple[Gradients, NDArray[Any]]:
    """Compute a vector-Jacobian product, see `NeuralNetwork.vjp`."""
    converter, bound_X = converter.bind(X, lengths, trims=True)
    model, core_lengths = converter.model, None
    given = bound_X if type(bound_X) is ndarray else converter.array(bound_X)
    if isinstance(given, Sequences):
        dP, core_lengths = given.targets(dP, model.stack.output_shape, "dP"), given.core_lengths
    rows, output_gradient = engine_output_gradient(converter, given, dP)
    if model.heads is not None:
        P = model.engine_outputs(Data(rows, lengths=core_lengths))
        output_gradient = model.heads.backpropagate(P, output_gradient)
    flat, dX = np.empty(model.n_params, model.dtype), np.empty(rows.shape, model.dtype)
    product: float = model.output_gradient_engine.gradients(
        model.theta_view, Data(rows, output_gradient, lengths=core_lengths), flat, dX
    )
    if product - product != 0:
        check_finite(converter, rows, output_gradient)
    if isinstance(given, Sequences):
        dX = converter.input_gradient(dX, np.empty((len(given), *model.input_shape)))
        steps = dX.shape[1] if lengths is None else np.shape(X)[1]  # the converter has cut steps beyond all lengths
        padded = np.pad(dX, ((0, 0), (0, steps - dX.shape[1]), (0, 0)))
        return model.split(flat), given.restore(padded)  # type: ignore[return-value]
    if converter.scaling_X is not None:
        dX = converter.input_gradient(dX, given)
    return model.split(flat), dX if given.shape == dX.shape else dX.reshape(given.shape)


def jacobian(converter: DataConverter, X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[Any]:
    """Compute the derivatives of the outputs with respect to the inputs, see `NeuralNetwork.jacobian`."""
    converter, X = converter.bind(X, lengths)
    if isinstance(X, Sequences):
        return _sequence_jacobian(converter, X)  # type: ignore[no-any-return]
    model, rows, is_single = converter.model, converter.rows_as_is(X), False
    if rows is None:
        array = converter.array(X)
        rows, is_single = converter.checked_inputs(array), converter.is_single(array)
    data = Data(rows)
    J = model.input_jacobian(data)
    if model.heads is not None:
        by_input = model.heads.differentiate_predictions(model.engine_outputs(data), J.transpose(0, 2, 1))
        J = np.ascontiguousarray(by_input.transpose(0, 2, 1))
    if converter.scaler_y is not None:
        J = (J / converter.target_scaling().factor[:, None]).astype(model.dtype)
    if converter.scaling_X is not None:
        J = (J * converter.scaling_X.factor).astype(model.dtype)
    if len(model.input_shape) > 1:
        J = J.reshape(len(J), *model.stack.output_shape, *model.input_shape)
    return J[0] if is_single else J


def derivatives(converter: DataConverter, X: ArrayLike, order: int) -> tuple[NDArray[Any], ...]:
    """Compute outputs and their derivatives with respect to the inputs, see `NeuralNetwork.derivatives`."""
    if isinstance(order, bool) or order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {short_repr(order)}")
    model = converter.model
    from nnc._registry.capabilities import check

    check("derivatives", model)
    array = converter.array(X)
    rows, is_single = converter.checked_inputs(array), converter.is_single(array)
    parts = list(compute_derivatives(model, Data(rows), int(order)))
    if converter.scaler_y is not None:
        scaling = converter.target_scaling()
        parts[0] = scaling.undo(parts[0])
        for number in range(1, len(parts)):
            parts[number] /= scaling.factor.reshape(-1, *[1] * number)
    if converter.scaling_X is not None:
        factor = converter.scaling_X.factor
        for number in range(1, len(parts)):
            parts[number] *= factor if number == 1 else factor * factor[:, None]
    results = (np.ascontiguousarray(part, model.dtype) for part in parts)
    return tuple(part[0] if is_single else part for part in results)


def parameter_jacobian(converter: DataConverter, X: ArrayLike) -> NDArray[Any]:
    """Compute the derivatives of the outputs with respect to the parameters, see `NeuralNetwork.parameter_jacobian`."""
    model = converter.model
    from nnc._registry.capabilities import check

    check("parameter_jacobian", model)
    array = converter.array(X)
    rows, is_single = converter.checked_inputs(array), converter.is_single(array)
    P, J = model.jacobian(Data(rows))
    if model.heads is not None:
        J = model.heads.differentiate_predictions(P, J.transpose(0, 2, 1)).transpose(0, 2, 1)
    if converter.scaler_y is not None:
        J = J / converter.target_scaling().factor[:, None]
    J = np.ascontiguousarray(J, model.dtype)
    return J[0] if is_single else J


def _sequence_jacobian(converter: DataConverter, X: Sequences) -> Any:
    """Return the Jacobian of sequences of different lengths; sequences of the same length are computed together."""
    stack, longest = converter.model.stack, X.shape[1]
    has_steps = len(stack.output_shape) == 2
    J = np.zeros((len(X), *stack.output_shape, *converter.model.input_shape), converter.model.dtype)
    for length in np.unique(X.lengths).tolist():
        rows = np.flatnonzero(X.lengths == length)
        part = jacobian(converter if length == longest else converter.at(length), X.array[rows, :length])
        if has_steps:
            J[rows, :length, :, :length] = part
        else:
            J[rows, :, :length] = part
    if not X.is_list:
        return J
    return [j[:n, :, :n] if has_steps else j[:, :n] for j, n in zip(J, X.lengths.tolist(), strict=True)]
