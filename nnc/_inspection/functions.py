"""Comparison of derivatives with finite differences only: of a custom loss function, and of fits with `dY`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from nnc._inspection.gradients import (
    MAX_ROUNDING,
    MAX_SAMPLED,
    MAX_STEPS,
    MIN_SCALE,
    TOLERANCE,
    GradientCheck,
    LayerCheck,
    check_gradients,
    check_step_size,
    extrapolated,
)
from nnc.layers.stack import layer_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from nnc._inspection.problem import Array, Problem

    Pair = tuple[NDArray[Any], NDArray[Any] | None]

MIN_OUTPUT_SCALE = 1e-3  # finite differences use the step size eps * max(|output|, this number)
MIN_KINK = 0.01  # smallest relative change of the loss derivative that counts as a kink
ROUNDING_ERRORS = 8  # assumed relative rounding error of a loss value, as a multiple of the float64 epsilon


class LossFunction(Protocol):
    """Interface of a custom loss function; `CustomLoss` in nnc/_model/custom.py implements it."""

    name: str

    def __call__(self, P: NDArray[Any], Y: NDArray[Any], /) -> tuple[float, NDArray[Any]]: ...
    def value(self, P: NDArray[Any], Y: NDArray[Any], /) -> float: ...


@dataclass(frozen=True)
class DifferenceCheck(LayerCheck):
    """Result of `check_gradients` for a layer whose gradients are only compared with finite differences."""

    source: ClassVar[str] = "backpropagation"

    @property
    def values_text(self) -> str:
        """Text with both values of the derivative with the largest error."""
        return f"{self.by_backpropagation:.9g} by {self.source}, {self.by_differences:.9g} by differences"


@dataclass(frozen=True)
class FunctionCheck(DifferenceCheck):
    """Result of `check_gradients` for a custom loss function.

    The derivatives with respect to the network outputs P are checked like the gradients of a layer.
    """

    noun: ClassVar[str] = "outputs"
    source: ClassVar[str] = "the function"


class Slope(NamedTuple):
    """Derivative of the loss with respect to one output, its error bound, and whether the loss has a kink there."""

    value: float
    error: float
    is_kink: bool


def check_network(network: Any, X: Any, y: Any, eps: float | None) -> GradientCheck:
    """Check the gradients of a network and print the result, as `nnc.check_gradients` describes.

    X may be an array or Sequences. A network for any number of steps is bound to the number of steps of X.
    """
    from nnc._drawing.html import print_result

    data, model = network.converter.data(X, y), network.model
    custom = None if model.loss_function is None else model.with_output_gradients(data)[1]
    target = data.target if custom is None else custom.target
    check = check_gradients(network, data.X, target, eps, gradients=network.gradients(X, y), lengths=data.lengths)
    if model.loss_function is not None:
        P, Y = model.engine_outputs(data), data.target
        if model.custom is not None:
            P, Y, _ = model.custom.step_rows(P, Y, data.lengths)
        check = with_function(check, model.loss_function, P, Y, eps)
    print_result(check)
    return check


def with_function(
    check: GradientCheck, function: LossFunction, P: NDArray[Any], Y: NDArray[Any], eps: float | None
) -> GradientCheck:
    """Return the results in `check`, extended by a check of the loss function at the outputs P and targets Y.

    At most `MAX_SAMPLED` of the outputs are compared in float64, and repeated calls compare the same ones. Differences
    are extrapolated as in `check_gradients`. An output is not compared if the extrapolation does not converge or if
    the loss has a kink at this output.
    """
    P = P.astype(np.float64)
    Y = Y.astype(np.float64)
    _, derivative = function(P, Y)
    name = f"Loss function {function.name!r}"
    layer = _compare(FunctionCheck, name, lambda P: function.value(P, Y), P, derivative, eps, np.dtype(np.float64))
    return GradientCheck((*check.layers, layer), check.tolerance)


def check_slope_gradients(
    problem: Problem,
    slopes: NDArray[Any],
    weight: float,
    gradients: Sequence[Pair],
    largest: Sequence[Pair],
    dtype: np.dtype[Any],
    eps: float | None,
) -> GradientCheck:
    """Compare the gradients of a fit with `dY` with finite differences of its loss in float64, and print the result.

    Parameters
    ----------
    problem : Problem
        Parameters, rows and targets.
    slopes : array (n, n_out, n_in)
        Derivatives of the targets; NaN marks a missing derivative.
    weight : float
        Weight of the derivatives.
    gradients : sequence of (dW, db)
        Gradients to check.
    largest : sequence of (dW, db)
        Gradients for targets of 0, whose size determines the allowed rounding errors. With other targets, gradients
        may be small differences of summands of this size.
    dtype : dtype
        Precision in which the gradients were computed.
    eps : float, optional
        Largest step size of the finite differences.
    """
    from nnc._drawing.html import print_result

    if eps is not None:
        check_step_size(eps)
    layers = []
    for k, (pair, size) in enumerate(zip(gradients, largest, strict=True)):
        for name, values, part, zero in zip("Wb", (problem.W[k], problem.b[k]), pair, size, strict=True):
            if values is None or part is None or zero is None:
                continue
            parameters = values.copy()

            def loss(changed: Array, values: Array = values, parameters: Array = parameters) -> float:
                values[...] = changed
                result = _slope_loss(problem, slopes, weight)
                values[...] = parameters
                return result

            rounding = ROUNDING_ERRORS * float(np.finfo(dtype).eps * np.abs(zero).max())
            title = f"{layer_name(k, len(problem.W))}, {name}"
            layers.append(
                _compare(
                    DifferenceCheck,
                    title,
                    loss,
                    np.atleast_2d(parameters),
                    np.atleast_2d(part).astype(np.float64),
                    eps,
                    dtype,
                    rounding,
                    name,
                )
            )
    check = GradientCheck(tuple(layers), TOLERANCE[dtype.name])
    print_result(check)
    return check


def _slope_loss(problem: Problem, slopes: NDArray[Any], weight: float) -> float:
    """Return the loss of outputs and their derivatives with respect to inputs, from the formulas of activations."""
    A = problem.X
    n, n_in = A.shape
    # J[:, :, j] are the derivatives of unit A[:, j] with respect to the inputs.
    J = np.broadcast_to(np.eye(n_in), (n, n_in, n_in))
    for row, connection, W, b in zip(problem.activations, problem.connections, problem.W, problem.b, strict=True):
        Z = connection.multiply(A, W) + (0.0 if b is None else b)
        A = row.compute(Z)
        J = connection.multiply(J, W) * row.compute_derivative(Z, A)[:, None]
    errors = np.nan_to_num(J.transpose(0, 2, 1) - slopes, nan=0.0)
    squares = ((A - problem.y) ** 2).sum() + weight / n_in * (errors * errors).sum()
    return float(problem.loss.squared_error_factor * squares / problem.divisor)


def _compare(
    kind: type[DifferenceCheck],
    name: str,
    function: Callable[[Array], float],
    values: Array,
    derivative: NDArray[Any],
    eps: float | None,
    dtype: np.dtype[Any],
    rounding: float = 0.0,
    symbol: str = "P",
) -> DifferenceCheck:
    """Compare the derivative of a function of `values` with central differences.

    `rounding` is a bound of the rounding errors of the derivative, which was computed in `dtype`. `symbol` is the name
    of the values in the text.
    """
    tolerance = TOLERANCE[dtype.name]
    least = MIN_SCALE[dtype.name] * float(abs(derivative).max())
    indices = np.arange(values.size)
    if values.size > MAX_SAMPLED:
        indices = np.sort(np.random.default_rng(0).choice(indices, MAX_SAMPLED, False))
    worst: tuple[bool, float, int, float] = (False, -1.0, -1, math.nan)
    checked = kinks = 0
    with np.errstate(all="ignore"):
        for index in indices.tolist():
            returned = float(derivative.flat[index])
            slope = _slope(function, values, index, 0.01 if eps is None else float(eps))
            scale = max(abs(returned), abs(slope.value), least)
            kinks += slope.is_kink
            if slope.is_kink or not slope.error + rounding <= MAX_ROUNDING * tolerance * scale:
                continue
            checked += 1
            gap = abs(returned - slope.value)
            wrong = gap > slope.error + rounding + tolerance * scale
            worst = max(worst, (wrong, gap / scale if scale else 0.0, index, slope.value))
    wrong, difference, index, value = worst
    at = "" if index < 0 else f"{symbol}[{', '.join(map(str, divmod(index, values.shape[1])))}]"
    return kind(
        name,
        n_params=values.size,
        checked=checked,
        kinks=kinks,
        uncertain=len(indices) - checked - kinks,
        by_both=checked,
        difference=max(difference, 0.0),
        worst=at,
        by_backpropagation=float(derivative.flat[index]) if at else math.nan,
        by_definition=math.nan,
        by_differences=value,
        wrong=wrong,
    )


def _slope(function: Callable[[Array], float], values: Array, index: int, eps: float) -> Slope:
    """Return the derivative of the function with respect to value number `index`, from central differences."""
    loss, output = function(values), float(values.flat[index])
    h = eps * min(1.0, max(abs(output), MIN_OUTPUT_SCALE))
    best, least = math.nan, math.inf
    coarser: list[float] = []
    jumps: list[float] = []
    for _ in range(MAX_STEPS):
        ends = []
        for shifted in (output + h, output - h):
            other = values.copy()
            other.flat[index] = shifted
            ends.append(function(other))
        high, low = ends
        jumps.append(abs(high - 2 * loss + low) / h)
        rounding = ROUNDING_ERRORS * np.finfo(np.float64).eps * (abs(high) + abs(low)) / (2 * h)
        coarser, slope, error = extrapolated((high - low) / (2 * h), coarser, rounding)
        if error < least:
            best, least = slope, error
        if not math.isfinite(coarser[0]):
            coarser = []
        h /= 4
    # At a smooth point, the difference of the slopes on both sides is proportional to the step size h. At a kink, it
    # does not shrink with h.
    is_kink = jumps[-1] > max(jumps[-2] / 2, MIN_KINK * max(abs(high - loss), abs(loss - low)) / (4 * h))
    return Slope(best, least, is_kink)
