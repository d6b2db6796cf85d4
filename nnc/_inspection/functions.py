"""Comparison of the derivative that a custom loss function returns with finite differences of its loss."""

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
    extrapolated,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_OUTPUT_SCALE = 1e-3  # finite differences use the step size eps * max(|output|, this number)
MIN_KINK = 0.01  # smallest relative change of the loss derivative that counts as a kink
ROUNDING_ERRORS = 8  # assumed relative rounding error of a loss value, as a multiple of the float64 epsilon


class LossFunction(Protocol):
    """Interface of a custom loss function; `CustomLoss` in nnc/_model/custom.py implements it."""

    name: str

    def __call__(self, P: NDArray[Any], Y: NDArray[Any], /) -> tuple[float, NDArray[Any]]: ...
    def value(self, P: NDArray[Any], Y: NDArray[Any], /) -> float: ...


@dataclass(frozen=True)
class FunctionCheck(LayerCheck):
    """Result of `check_gradients` for a custom loss function.

    The derivatives with respect to the network outputs P are checked like the gradients of a layer.
    """

    noun: ClassVar[str] = "outputs"

    @property
    def values_text(self) -> str:
        """Text for the derivative with the largest error: its values from the loss function and finite differences."""
        return f"{self.by_backpropagation:.9g} by the function, {self.by_differences:.9g} by differences"


class Slope(NamedTuple):
    """Derivative of the loss with respect to one output, its error bound, and whether the loss has a kink there."""

    value: float
    error: float
    is_kink: bool


def check_network(network: Any, X: Any, y: Any, eps: float | None) -> GradientCheck:
    """Check the gradients of a network and print the result, as `nnc.check_gradients` describes.

    If the network accepts any number of steps, it is bound to that of X, an array or Sequences.
    """
    from nnc._drawing.html import print_result

    data, model = network.converter.data(X, y), network.model
    custom = None if model.loss_function is None else model.with_output_gradients(data)[1]
    target = data.target if custom is None else custom.target
    check = check_gradients(network, data.X, target, eps, gradients=network.gradients(X, y), lengths=data.lengths)
    if model.loss_function is not None:
        P, Y = model.engine_outputs(data.X, data.lengths), data.target
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
    tolerance = TOLERANCE["float64"]
    least = MIN_SCALE["float64"] * float(abs(derivative).max())
    indices = np.arange(P.size)
    if P.size > MAX_SAMPLED:
        indices = np.sort(np.random.default_rng(0).choice(indices, MAX_SAMPLED, False))
    worst: tuple[bool, float, int, float] = (False, -1.0, -1, math.nan)
    checked = kinks = 0
    with np.errstate(all="ignore"):
        for index in indices.tolist():
            returned = float(derivative.flat[index])
            slope = _slope(function, P, Y, index, 0.01 if eps is None else float(eps))
            scale = max(abs(returned), abs(slope.value), least)
            kinks += slope.is_kink
            if slope.is_kink or not slope.error <= MAX_ROUNDING * tolerance * scale:
                continue
            checked += 1
            gap = abs(returned - slope.value)
            wrong = gap > slope.error + tolerance * scale
            worst = max(worst, (wrong, gap / scale if scale else 0.0, index, slope.value))
    wrong, difference, index, value = worst
    at = "" if index < 0 else f"P[{', '.join(map(str, divmod(index, P.shape[1])))}]"
    layer = FunctionCheck(
        f"Loss function {function.name!r}",
        n_params=P.size,
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
    return GradientCheck((*check.layers, layer), check.tolerance)


def _slope(function: LossFunction, P: NDArray[Any], Y: NDArray[Any], index: int, eps: float) -> Slope:
    """Return the derivative of the loss with respect to output number `index`, from central differences."""
    loss, output = function.value(P, Y), float(P.flat[index])
    h = eps * min(1.0, max(abs(output), MIN_OUTPUT_SCALE))
    best, least = math.nan, math.inf
    coarser: list[float] = []
    jumps: list[float] = []
    for _ in range(MAX_STEPS):
        ends = []
        for shifted in (output + h, output - h):
            other = P.copy()
            other.flat[index] = shifted
            ends.append(function.value(other, Y))
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
