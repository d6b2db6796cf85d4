"""A loss function of the user's held against differences: is the derivative that it returns that of its loss?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from nnc._inspection.gradients import (
    COMPARABLE,
    LEAST,
    SAMPLE,
    STEPS,
    TOLERANCE,
    GradientCheck,
    LayerCheck,
    check_gradients,
    extrapolated,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_OUTPUT = 1e-3  # a difference is so many times eps wide at least, and for larger outputs by as much wider
BENT = 0.01  # of the larger slope: a bend turns by more
ROUNDINGS = 8  # of the loss, that may be in a difference


class LossFunction(Protocol):
    """Interface of a loss that is a user's function, see `CustomLoss` in nnc/_model/custom.py."""

    name: str

    def __call__(self, P: NDArray[Any], Y: NDArray[Any], /) -> tuple[float, NDArray[Any]]: ...
    def value(self, P: NDArray[Any], Y: NDArray[Any], /) -> float: ...


@dataclass(frozen=True)
class FunctionCheck(LayerCheck):
    """What was found of the function, as of a layer whose parameters are the outputs P."""

    what: ClassVar[str] = "outputs"

    @property
    def ways(self) -> str:
        return f"{self.by_backpropagation:.9g} by the function, {self.by_differences:.9g} by differences"


class Slope(NamedTuple):
    """The slope of the loss by an output, how far it may be from the true one, and whether there is a bend."""

    value: float
    error: float
    bend: bool


def check_network(network: Any, X: Any, y: Any, eps: float | None) -> GradientCheck:
    """Check the gradients of a network, see `nnc.check_gradients`."""
    from nnc._drawing.html import print_result

    data, model = network.converter.data(X, y), network.model
    found = None if model.loss_function is None else model.with_output_gradients(data)[1]
    target = data.target if found is None else found.target
    check = check_gradients(network, data.X, target, eps, gradients=network.gradients(X, y))
    if model.loss_function is not None:
        check = with_function(check, model.loss_function, model.engine_outputs(data.X), data.target, eps)
    print_result(check)
    return check


def with_function(
    check: GradientCheck, function: LossFunction, P: NDArray[Any], Y: NDArray[Any], eps: float | None
) -> GradientCheck:
    """The check of a network's layers and that of its loss function, at these outputs and targets, in float64.

    About 1000 of the outputs are looked at, always the same ones. Differences are extrapolated as in `check_gradients`;
    where they do not come to rest, or the slopes on both sides differ, nothing is said.
    """
    P = P.astype(np.float64)
    Y = Y.astype(np.float64)
    _, found = function(P, Y)
    tolerance = TOLERANCE["float64"]
    least = LEAST["float64"] * float(abs(found).max())
    places = np.arange(P.size)
    if P.size > SAMPLE:
        places = np.sort(np.random.default_rng(0).choice(places, SAMPLE, False))
    worst: tuple[bool, float, int, float] = (False, -1.0, -1, math.nan)
    checked = bends = 0
    with np.errstate(all="ignore"):
        for place in places.tolist():
            given = float(found.flat[place])
            slope = _slope(function, P, Y, place, 0.01 if eps is None else float(eps))
            scale = max(abs(given), abs(slope.value), least)
            bends += slope.bend
            if slope.bend or not slope.error <= COMPARABLE * tolerance * scale:
                continue
            checked += 1
            gap = abs(given - slope.value)
            wrong = gap > slope.error + tolerance * scale
            worst = max(worst, (wrong, gap / scale if scale else 0.0, place, slope.value))
    wrong, difference, place, value = worst
    at = "" if place < 0 else f"P[{', '.join(map(str, divmod(place, P.shape[1])))}]"
    layer = FunctionCheck(
        f"Loss function {function.name!r}",
        n_params=P.size,
        checked=checked,
        bends=bends,
        uncertain=len(places) - checked - bends,
        by_both=checked,
        difference=max(difference, 0.0),
        worst=at,
        by_backpropagation=float(found.flat[place]) if at else math.nan,
        by_definition=math.nan,
        by_differences=value,
        wrong=wrong,
    )
    return GradientCheck((*check.layers, layer), check.tolerance)


def _slope(function: LossFunction, P: NDArray[Any], Y: NDArray[Any], place: int, eps: float) -> Slope:
    """By central differences, extrapolated."""
    here, output = function.value(P, Y), float(P.flat[place])
    h = eps * min(1.0, max(abs(output), LEAST_OUTPUT))
    best, least = math.nan, math.inf
    before: list[float] = []
    jumps: list[float] = []
    for _ in range(STEPS):
        ends = []
        for moved in (output + h, output - h):
            other = P.copy()
            other.flat[place] = moved
            ends.append(function.value(other, Y))
        high, low = ends
        jumps.append(abs(high - 2 * here + low) / h)
        rounding = ROUNDINGS * np.finfo(np.float64).eps * (abs(high) + abs(low)) / (2 * h)
        before, slope, error = extrapolated((high - low) / (2 * h), before, rounding)
        if error < least:
            best, least = slope, error
        if not math.isfinite(before[0]):
            before = []
        h /= 4
    # The slopes on both sides come together as h does; in a bend they stay apart.
    apart = jumps[-1] > max(jumps[-2] / 2, BENT * max(abs(high - here), abs(here - low)) / (4 * h))
    return Slope(best, least, apart)
