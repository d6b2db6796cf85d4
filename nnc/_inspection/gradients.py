"""Backpropagation held against the definitions, and against difference quotients where these are exact enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from nnc._inspection.problem import Problem
from nnc._inspection.rounding import bounds
from nnc._inspection.steps import layer_steps
from nnc.layers.stack import layer_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from nnc._inspection.problem import Array, Network
    from nnc._inspection.steps import LayerStep

SAMPLE = 1000  # parameters that differences are taken for, at most
TOLERANCE = {"float64": 1e-6, "float32": 1e-3}  # the largest relative difference that check_gradients lets pass
STEPS = 8  # of the differences, each a fourth of the one before
LEAST = {"float64": 1e-6, "float32": 1e-2}  # of the layer's largest gradient: smaller ones count as this
COMPARABLE = 4  # times the tolerance: where rounding may do more, a gradient is not comparable


@dataclass(frozen=True)
class LayerCheck:
    """What `check_gradients` found in one layer.

    Attributes
    ----------
    name : str
    n_params, checked, bends, uncertain : int
        How many parameters there are; how many were compared; how many were not because the loss has a bend (of relu,
        say) there, or so close by that rounding decides on its side; and how many because rounding may hide an error in
        their gradient, of which only gross ones are seen. The last three add up to the first.
    by_both : int
        How many of those compared were held against differences, too.
    difference : float
        The relative difference of the worst one.
    worst : str
        Which parameter has it: "W[2, 0]" or "b[1]"; empty where none was compared.
    by_backpropagation, by_definition, by_differences : float
        Its gradient, in three ways; NaN where none was compared, and by differences where these are not exact enough.
    wrong : bool
        Whether a difference is larger than tolerance and rounding explain.
    """

    what: ClassVar[str] = "parameters"
    name: str
    n_params: int
    checked: int
    bends: int
    uncertain: int
    by_both: int
    difference: float
    worst: str
    by_backpropagation: float
    by_definition: float
    by_differences: float
    wrong: bool

    @property
    def ok(self) -> bool:
        """Whether something was compared, and nothing is wrong."""
        return self.checked > 0 and not self.wrong

    def __str__(self) -> str:
        left_out = [f"{self.bends} more are at a bend"] if self.bends else []
        left_out += [f"rounding may hide errors in {self.uncertain} more"] if self.uncertain else []
        counts = f"{self.name}: {self.checked} of {self.n_params} {self.what}"
        counts += f" ({', '.join(left_out)})" if left_out else ""
        if not self.worst:
            return f"{counts}, nothing to compare"
        verdict = "WRONG" if self.wrong else "ok"
        return f"{counts}, {verdict}: largest relative difference {self.difference:.2g} at {self.worst}, {self.ways}"

    @property
    def ways(self) -> str:
        """The worst gradient as it was found in different ways, in words."""
        ways = f"{self.by_backpropagation:.9g} by backpropagation, {self.by_definition:.9g} by definition"
        return ways if math.isnan(self.by_differences) else f"{ways}, {self.by_differences:.9g} by differences"


@dataclass(frozen=True, repr=False)
class GradientCheck:
    """Backpropagation held against the definitions; `str()` is a line for each layer and one for all.

    Attributes
    ----------
    layers : tuple of LayerCheck
    tolerance : float
        The largest relative difference that passes: 1e-6, for a float32 network 1e-3.
    """

    layers: tuple[LayerCheck, ...]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every layer is right: something of it could be compared, and nothing is wrong."""
        return all(layer.ok for layer in self.layers)

    @property
    def wrong(self) -> bool:
        """Whether any layer is wrong. Neither this nor `ok`: there is a layer of which nothing could be compared."""
        return any(layer.wrong for layer in self.layers)

    @property
    def difference(self) -> float:
        """The largest relative difference of all layers."""
        return max(layer.difference for layer in self.layers)

    @property
    def worst(self) -> LayerCheck:
        """The layer that has it."""
        return max(self.layers, key=lambda layer: (layer.wrong, layer.difference))

    def __str__(self) -> str:
        return "\n".join([*map(str, self.layers), self._verdict()])

    def _verdict(self) -> str:
        if not (self.ok or self.wrong):
            names = ", ".join(layer.name for layer in self.layers if not layer.ok)
            return f"Whether the gradients are right is open: bends and rounding leave nothing to compare in {names}"
        verdict = "WRONG" if self.wrong else "right"
        last = f"largest relative difference {self.difference:.2g}, {self.tolerance:g} allowed, and rounding"
        return f"The gradients are {verdict}: {last}"

    def __repr__(self) -> str:
        layers = f"{len(self.layers)} layer{'s' if len(self.layers) > 1 else ''}"
        return f"<GradientCheck: {layers}. {self._verdict()}; print it>"

    def _repr_html_(self) -> str:
        from nnc._drawing.html import paragraph, table

        head = ("layer", "parameters", "compared", "at a bend", "hidden by rounding", "largest relative difference")
        ways = ("at", "by backpropagation", "by definition", "by differences", "")
        rows = [
            (
                *(layer.name, layer.n_params, layer.checked, layer.bends, layer.uncertain),
                *((f"{layer.difference:.2g}", layer.worst) if layer.worst else ("", "")),
                *(
                    "" if math.isnan(way) else f"{way:.9g}"
                    for way in (layer.by_backpropagation, layer.by_definition, layer.by_differences)
                ),
                "WRONG" if layer.wrong else "ok" if layer.ok else "nothing to compare",
            )
            for layer in self.layers
        ]
        return table((*head, *ways), rows, "Backpropagation held against the definitions") + paragraph(self._verdict())


def check_gradients(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    eps: float | None = None,
    *,
    gradients: Sequence[tuple[NDArray[Any], NDArray[Any] | None]] | None = None,
) -> GradientCheck:
    """Compare the gradients of `net.gradients`, by backpropagation, with those of the definitions, in float64.

    Every gradient is held against the derivative of the loss, by the formulas of activations and loss, with a bound of
    what rounding may do in the network's precision. A sample of them, always the same one and about 1000 in the whole
    network, is held against (L(w + h) - L(w - h)) / (2 h) as well, which knows no derivatives. A few rows are enough,
    and quick.

    Parameters
    ----------
    net : NeuralNetwork
    X, y : arrays
        As for `explain_step`.
    eps : float, optional
        The largest h; it is divided by the weight's largest input if that is more than 1, and by 4 until the slope is
        exact enough, seven times at most. Default: 0.01.
    gradients : list of (dW, db), optional
        What is to be checked. Default: net.gradients(X, y), which is the same unless `net` scales X or y by itself.

    Returns
    -------
    GradientCheck
        `ok` says whether they agree, its text where not.

    Raises
    ------
    ValueError, TypeError
        X or y does not fit the network or holds NaN or infinity, or eps is not a positive finite number.

    Notes
    -----
    With g by backpropagation, d by definition and E the bound of the rounding in both (nnc/_inspection/rounding.py), g
    is wrong where |g - d| > E + t s. Here t is the tolerance, and s the largest of |g|, |d| and the least that counts:
    1e-6 of the layer's largest |d|, in float32 1e-2 of it. A gradient counts as compared where E <= 4 t s.

    So every relative error of 10 t (1e-5, in float32 1e-2) in a gradient that is compared and at least the least that
    counts is found: with the right g multiplied by 1 + r, |g - d| is |r g| - E at least, and more than E + t s as soon
    as |r g| > 9 t s, where s is |g| up to a few t. Smaller gradients are held to the error of the least that counts.

    Differences are taken at several h, and the slope q extrapolated (Ridders, 1982). Its error Q is four times what the
    last extrapolation has changed, plus the rounding of the loss over h. It is used where Q <= 4 t s; g is wrong where
    |g - q| > Q + E + t s. A difference counts where no bend is between its ends and no net input moves by more than 1.
    After a long training few are as good as that: gradients have become small, the rounding of the loss has not.
    """
    if eps is None:
        eps = 1e-2
    if isinstance(eps, (bool, str)) or not hasattr(eps, "__float__") or not 0 < eps < math.inf:
        raise ValueError(f"eps must be a positive finite number, got {eps!r}")
    found = net.gradients(X, y) if gradients is None else gradients
    problem, dtype = Problem(net, X, y), np.dtype(net.dtype)
    with np.errstate(all="ignore"):  # what is not finite has an infinite error
        layers, rounding = compare(problem, found, dtype)
        checks = [_check_layer(problem, layer, float(eps), rounding) for layer in layers]
    return GradientCheck(tuple(checks), TOLERANCE[dtype.name])


class Compared(NamedTuple):
    """The gradients of a layer, those of the bias in a last row: by backpropagation, by definition, how far rounding
    may take them apart, what a difference is relative to, which are at a bend, and which are compared."""

    place: int
    step: LayerStep
    tolerance: float
    found: Array
    wanted: Array
    error: Array
    scale: Array
    bends: NDArray[np.bool_]
    compared: NDArray[np.bool_]


def compare(
    problem: Problem, gradients: Sequence[tuple[NDArray[Any], NDArray[Any] | None]], dtype: np.dtype[Any]
) -> tuple[list[Compared], float]:
    """What of the gradients, which are computed in this precision, can be compared, layer by layer; and the rounding
    error of the loss in float64."""
    tolerance = TOLERANCE[dtype.name]
    nothing = 1e8 * float(np.finfo(dtype).tiny) / tolerance  # what is below the range
    steps = layer_steps(problem, 1.0)
    here, there = bounds(problem, steps, np.float64), bounds(problem, steps, dtype)
    layers = []
    for l, (step, (dW, db)) in enumerate(zip(steps, gradients, strict=True)):
        found, wanted = _stacked(dW, db), _stacked(step.dW, step.db)
        error, bends = here.errors[l] + there.errors[l], here.bends[l] | there.bends[l]
        least = max(LEAST[dtype.name] * float(abs(wanted[np.isfinite(wanted)]).max(initial=0.0)), nothing)
        scale = np.maximum(np.where(np.isfinite(found), np.maximum(abs(found), abs(wanted)), abs(wanted)), least)
        compared = ~bends & np.isfinite(error) & (error <= COMPARABLE * tolerance * scale)
        layers.append(Compared(l, step, tolerance, found, wanted, error, scale, bends, compared))
    return layers, here.loss


def _stacked(dW: NDArray[Any], db: NDArray[Any] | None) -> Array:
    return np.asarray(dW if db is None else np.vstack([dW, db[None]]), np.float64)


def _slope(problem: Problem, layer: Compared, i: int, j: int, eps: float, rounding: float) -> tuple[float, float]:
    """The slope of the loss by the weight from input i to neuron j, or the bias where there is no such input, by
    differences, and its error: infinite where there are no two differences to extrapolate from."""
    Z, inputs = layer.step.Z, layer.step.inputs_of(i, j)
    h = eps / max(1.0, float(abs(inputs).max()))
    enough = COMPARABLE * layer.tolerance * float(layer.scale[i, j])
    best, least = math.nan, math.inf
    before: list[float] = []
    _, _, here = problem.loss_from(layer.place, Z)
    for _ in range(STEPS):
        if 2 * rounding / h > enough:  # with a smaller h it is only more
            break
        moved = [Z.copy(), Z.copy()]
        moved[0][:, j] += h * inputs
        moved[1][:, j] -= h * inputs
        (high, Z_high, above), (low, Z_low, below) = (problem.loss_from(layer.place, Z) for Z in moved)
        close = all((abs(a - b) <= 1).all() for a, b in zip(Z_high, Z_low, strict=True))
        if close and all(((a == b) & (b == c)).all() for a, b, c in zip(above, here, below, strict=True)):
            before, slope, error = extrapolated((high - low) / (2 * h), before, 2 * rounding / h)
            if error < least:
                best, least = slope, error
            if least <= enough:
                break
        h /= 4
    return best, least


def extrapolated(slope: float, before: Sequence[float], rounding: float) -> tuple[list[float], float, float]:
    """What follows from a slope by central differences and from those of four times the distance (Ridders, 1982): all
    slopes, the next `before`, and the best of the extrapolated ones, with its error."""
    slopes, best, least = [slope], math.nan, math.inf
    for k, coarser in enumerate(before, 1):
        slopes.append(slopes[-1] + (slopes[-1] - coarser) / (16**k - 1))
        error = 4 * max(abs(slopes[-1] - slopes[-2]), abs(slopes[-1] - coarser)) + rounding
        if error < least:
            best, least = slopes[-1], error
    return slopes, best, least


def _check_layer(problem: Problem, layer: Compared, eps: float, rounding: float) -> LayerCheck:
    """The verdict on a layer; `rounding` is the error of the loss."""
    step, found, wanted, error, scale = layer.step, layer.found, layer.wanted, layer.error, layer.scale
    apart = np.where(np.isfinite(found - wanted), abs(found - wanted), np.inf)
    # In units of the scale: the difference, and what of it is beyond rounding, by definition and then by differences.
    difference, sure = apart / scale, ~layer.bends & np.isfinite(error)
    beyond = np.where(sure, apart - np.where(sure, error, 0.0), 0.0) / scale
    places, share = np.flatnonzero(layer.compared), max(1, SAMPLE // len(problem.W))
    if len(places) > share:
        places = np.sort(np.random.default_rng(0).choice(places, share, False))
    slopes = {}
    for place in places.tolist():
        i, j = divmod(place, found.shape[1])
        slope, slack = _slope(problem, layer, i, j, eps, rounding)
        if slack <= COMPARABLE * layer.tolerance * scale[i, j]:
            slopes[place] = slope
            gap = abs(found[i, j] - slope)
            beyond[i, j] = max(beyond[i, j], (gap - slack - error[i, j]) / scale[i, j])
            if gap > slack + error[i, j] + layer.tolerance * scale[i, j]:
                difference[i, j] = max(difference[i, j], gap / scale[i, j])
    wrong = beyond > layer.tolerance
    worst = np.where(wrong, beyond, -1.0) if wrong.any() else np.where(layer.compared, difference, -1.0)
    place = int(worst.argmax())
    i, j = divmod(place, found.shape[1])
    nothing = not (wrong | layer.compared).any()
    return LayerCheck(
        layer_name(layer.place, len(problem.W)),
        n_params=found.size,
        checked=int(layer.compared.sum()),
        bends=int(layer.bends.sum()),
        uncertain=int((~layer.bends & ~layer.compared).sum()),
        by_both=len(slopes),
        difference=0.0 if nothing else float(difference[i, j]),
        worst="" if nothing else f"W[{i}, {j}]" if i < len(step.W) else f"b[{j}]",
        by_backpropagation=math.nan if nothing else float(found[i, j]),
        by_definition=math.nan if nothing else float(wanted[i, j]),
        by_differences=slopes.get(place, math.nan),
        wrong=bool(wrong.any()),
    )
