"""Comparison of backpropagation with analytic derivatives, and with finite differences if they are exact enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from nnc._inspection.problem import Problem
from nnc._inspection.rounding import bounds
from nnc._inspection.steps import layer_steps
from nnc._utils.checks import short_repr
from nnc.layers.stack import layer_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from nnc._inspection.problem import Array, Network
    from nnc._inspection.steps import LayerStep

MAX_SAMPLED = 1000  # largest number of parameters whose gradients are compared with finite differences
TOLERANCE = {"float64": 1e-6, "float32": 1e-3}  # allowed relative difference of gradients, by dtype of the network
MAX_STEPS = 8  # largest number of step sizes h that finite differences try, each a fourth of the previous one
# Lower bound of the divisor of relative differences, as a fraction of the largest gradient in the layer.
MIN_SCALE = {"float64": 1e-6, "float32": 1e-2}
MAX_ROUNDING = 4  # skip a gradient whose relative rounding error may exceed this multiple of the tolerance


@dataclass(frozen=True)
class LayerCheck:
    """Result of `check_gradients` for one layer.

    Attributes
    ----------
    name : str
        Name of the layer.
    n_params : int
        Number of parameters: the sum of `checked`, `kinks` and `uncertain`.
    checked : int
        Parameters whose gradients were compared.
    kinks : int
        Parameters that were not compared because the loss is at a kink, such as that of relu at 0, or because rounding
        decides on which side of a kink the loss is.
    uncertain : int
        Parameters with an inconclusive result, because rounding may hide small errors of their gradients. Only large
        errors are detected.
    by_both : int
        Parameters that were also compared with finite differences.
    difference : float
        Largest relative difference of a gradient.
    worst : str
        Parameter with the largest difference, such as "W[2, 0]" or "b[1]"; empty if no parameter was compared.
    by_backpropagation, by_definition, by_differences : float
        Gradient of the parameter `worst` by three methods: backpropagation, formulas and finite differences. NaN if no
        parameter was compared, or if finite differences are not exact enough.
    wrong : bool
        True if a difference exceeds the sum of the tolerance and the bound of the rounding errors.
    """

    noun: ClassVar[str] = "parameters"
    name: str
    n_params: int
    checked: int
    kinks: int
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
        """True if at least one parameter was compared and no gradient is wrong."""
        return self.checked > 0 and not self.wrong

    def __str__(self) -> str:
        excluded = [f"{self.kinks} more are at a kink"] if self.kinks else []
        excluded += [f"rounding may hide errors in {self.uncertain} more"] if self.uncertain else []
        counts = f"{self.name}: {self.checked} of {self.n_params} {self.noun}"
        counts += f" ({', '.join(excluded)})" if excluded else ""
        if not self.worst:
            return f"{counts}, nothing to compare"
        verdict = "WRONG" if self.wrong else "ok"
        difference = f"largest relative difference {self.difference:.2g} at {self.worst}"
        return f"{counts}, {verdict}: {difference}, {self.values_text}"

    @property
    def values_text(self) -> str:
        """Text with the values of the gradient that deviates most, one value for each method."""
        text = f"{self.by_backpropagation:.9g} by backpropagation, {self.by_definition:.9g} by definition"
        return text if math.isnan(self.by_differences) else f"{text}, {self.by_differences:.9g} by differences"


@dataclass(frozen=True, repr=False)
class GradientCheck:
    """Result of `nnc.check_gradients`; `str()` has a line for each layer and a summary.

    Attributes
    ----------
    layers : tuple of LayerCheck
        Results of the layers.
    tolerance : float
        Allowed relative difference: 1e-6, for float32 networks 1e-3.
    """

    layers: tuple[LayerCheck, ...]
    tolerance: float

    @property
    def ok(self) -> bool:
        """True if at least one parameter of each layer was compared and no gradient is wrong."""
        return all(layer.ok for layer in self.layers)

    @property
    def wrong(self) -> bool:
        """True if a gradient is wrong.

        If both `ok` and `wrong` are False, some layer has no parameter that could be compared.
        """
        return any(layer.wrong for layer in self.layers)

    @property
    def difference(self) -> float:
        """Largest relative difference of a gradient in any layer."""
        return max(layer.difference for layer in self.layers)

    @property
    def worst(self) -> LayerCheck:
        """Result of the layer with the largest relative difference; a layer with a wrong gradient has priority."""
        return max(self.layers, key=lambda layer: (layer.wrong, layer.difference))

    def __str__(self) -> str:
        return "\n".join([*map(str, self.layers), self._verdict()])

    def _verdict(self) -> str:
        if not (self.ok or self.wrong):
            names = ", ".join(layer.name for layer in self.layers if not layer.ok)
            return f"The gradients could not be checked: kinks and rounding leave nothing to compare in {names}"
        verdict = "WRONG" if self.wrong else "right"
        last = f"largest relative difference {self.difference:.2g}, {self.tolerance:g} allowed, and rounding"
        return f"The gradients are {verdict}: {last}"

    def __repr__(self) -> str:
        layers = f"{len(self.layers)} layer{'s' if len(self.layers) > 1 else ''}"
        return f"<GradientCheck: {layers}. {self._verdict()}; print it>"

    def _repr_html_(self) -> str:
        from nnc._drawing.html import paragraph, table

        head = ("layer", "parameters", "compared", "at a kink", "hidden by rounding", "largest relative difference")
        methods = ("at", "by backpropagation", "by definition", "by differences", "")
        rows = [
            (
                *(layer.name, layer.n_params, layer.checked, layer.kinks, layer.uncertain),
                *((f"{layer.difference:.2g}", layer.worst) if layer.worst else ("", "")),
                *(
                    "" if math.isnan(value) else f"{value:.9g}"
                    for value in (layer.by_backpropagation, layer.by_definition, layer.by_differences)
                ),
                "WRONG" if layer.wrong else "ok" if layer.ok else "nothing to compare",
            )
            for layer in self.layers
        ]
        title = "Backpropagation compared with analytic derivatives"
        return table((*head, *methods), rows, title) + paragraph(self._verdict())


def check_gradients(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    eps: float | None = None,
    *,
    gradients: Sequence[tuple[NDArray[Any], NDArray[Any] | None]] | None = None,
    lengths: NDArray[Any] | None = None,
) -> GradientCheck:
    """Compare the gradients of backpropagation with analytic derivatives and finite differences, in float64.

    Each gradient is compared with the analytic derivative, computed from the formulas of the activations and the loss.
    Deviations that rounding errors in the network's precision can cause are accepted. The gradients of about 1000
    parameters (in a recurrent layer 1000 / steps), the same ones in every call, are also compared with finite
    differences of the loss L: (L(w + h) - L(w - h)) / (2 h). A few rows are enough.

    Parameters
    ----------
    net : NeuralNetwork
        Network to check; it does not change.
    X, y : arrays
        As for `explain_step`.
    eps : float, optional
        Largest h. It is divided by the largest input of the weight if that exceeds 1, and then up to seven times by 4,
        until the difference is exact enough. Default: 0.01.
    gradients : list of (dW, db), optional
        Gradients to check. Default: net.gradients(X, y).
    lengths : int array (n,), optional
        Number of steps of each row of X, if the rows are sequences of different lengths. Requires `gradients`.

    Returns
    -------
    GradientCheck
        Its attribute `ok` is True if all gradients agree; its text lists the differences.

    Raises
    ------
    ValueError, TypeError
        X or y does not fit the network or holds NaN or infinity, or eps is not a positive finite number.

    Notes
    -----
    Let g be the gradient by backpropagation, d the analytic derivative, and E the bound of the rounding errors of both
    (nnc/_inspection/rounding.py). g is wrong if |g - d| > E + t s. Here t is the relative tolerance: 1e-6, for float32
    1e-3. The scale s is the largest of |g|, |d| and a minimum: 1e-6 of the layer's largest |d|, for float32 1e-2 of it.
    A gradient is compared if E <= 4 t s.

    Therefore each relative error of at least 10 t (1e-5, for float32 1e-2) is found in a compared gradient above the
    minimum. If the correct g is multiplied by 1 + r, then |g - d| >= |r g| - E, which exceeds E + t s if |r g| > 9 t s.
    For smaller gradients the minimum replaces |g|.

    A numerical derivative q is extrapolated from finite differences at several h (Ridders, 1982). Its error Q is four
    times the last change of the extrapolation plus the rounding error of the loss divided by h. The derivative q is
    used if Q <= 4 t s; g is wrong if |g - q| > Q + E + t s. A finite difference is used if no kink lies between w - h
    and w + h and no net input changes by more than 1. After a long training few finite differences qualify, because
    gradients are small and rounding errors of the loss are not.
    """
    if eps is None:
        eps = 1e-2
    check_step_size(eps)
    computed = net.gradients(X, y) if gradients is None else gradients
    problem, dtype = Problem(net, X, y, lengths), np.dtype(net.dtype)
    with np.errstate(all="ignore"):  # no warnings, because numbers that are not finite get infinite error bounds
        layers, rounding = compare(problem, computed, dtype)
        checks = [_check_layer(problem, layer, float(eps), rounding) for layer in layers]
    return GradientCheck(tuple(checks), TOLERANCE[dtype.name])


def check_step_size(eps: Any) -> None:
    """Raise ValueError unless the step size of finite differences is a positive finite number."""
    if isinstance(eps, (bool, str)) or not hasattr(eps, "__float__") or not 0 < eps < math.inf:
        raise ValueError(f"eps must be a positive finite number, got {short_repr(eps)}")


class Compared(NamedTuple):
    """Gradients of one layer by backpropagation and by formulas; the biases follow the weights as the last rows.

    `computed` contains the gradients by backpropagation, `expected` the derivatives by formulas, and `error` a bound of
    the rounding errors of both. Differences are divided by `scale`. The mask `kinks` marks parameters at which the loss
    has a kink, and the mask `compared` marks parameters whose gradients are compared.
    """

    number: int
    step: LayerStep
    tolerance: float
    computed: Array
    expected: Array
    error: Array
    scale: Array
    kinks: NDArray[np.bool_]
    compared: NDArray[np.bool_]


def compare(
    problem: Problem, gradients: Sequence[tuple[NDArray[Any], NDArray[Any] | None]], dtype: np.dtype[Any]
) -> tuple[list[Compared], float]:
    """Return the gradients of each layer with their expected values, and the rounding error of the loss in float64.

    `dtype` is the precision in which `gradients` were computed.
    """
    tolerance = TOLERANCE[dtype.name]
    # Gradients below this size may be inexact because of underflow.
    underflow = 1e8 * float(np.finfo(dtype).tiny) / tolerance
    steps = layer_steps(problem, 1.0)
    exact, rounded = bounds(problem, steps, np.float64), bounds(problem, steps, dtype)
    layers = []
    for l, (step, (dW, db)) in enumerate(zip(steps, gradients, strict=True)):
        computed, expected = _stacked(dW, db), _stacked(step.dW, step.db)
        error, kinks = exact.errors[l] + rounded.errors[l], exact.kinks[l] | rounded.kinks[l]
        largest = float(abs(expected[np.isfinite(expected)]).max(initial=0.0))
        size = np.where(np.isfinite(computed), np.maximum(abs(computed), abs(expected)), abs(expected))
        scale = np.maximum(size, max(MIN_SCALE[dtype.name] * largest, underflow))
        compared = ~kinks & np.isfinite(error) & (error <= MAX_ROUNDING * tolerance * scale)
        layers.append(Compared(l, step, tolerance, computed, expected, error, scale, kinks, compared))
    return layers, exact.loss


def _stacked(W: NDArray[Any], b: NDArray[Any] | None) -> Array:
    """Return W and b of a layer, or their gradients, as a new float64 array; the rows of b follow those of W."""
    return np.array(W if b is None else np.vstack([W, np.atleast_2d(b)]), np.float64)


def _slope(problem: Problem, layer: Compared, i: int, j: int, eps: float, rounding: float) -> tuple[float, float]:
    """Return the derivative of the loss with respect to a weight from finite differences, and a bound of its error.

    The weight connects input i to neuron j; i = n_in stands for the bias. The error is infinite if there are fewer than
    two usable differences. `rounding` is the rounding error of the loss.
    """
    step, recurrence = layer.step, problem.connections[layer.number].recurrence
    inputs = step.inputs_of(i, j) if recurrence is None else step.A_in
    h = eps / max(1.0, float(abs(inputs).max()))

    def evaluate(change: float) -> tuple[float, list[Array], list[NDArray[Any]]]:
        """Return the results of `Problem.loss_from` after the number `change` is added to the weight."""
        if recurrence is None:
            Z = step.Z.copy()
            Z[:, j] += change * inputs
            return problem.loss_from(layer.number, Z)
        parameters = _stacked(step.W, step.b)
        parameters[i, j] += change
        W, b = parameters[: len(step.W)], None if step.b is None else parameters[len(step.W) :]
        Z, signs = recurrence.outputs(step.A_in, W, b)
        loss, net_inputs, sides = problem.loss_from(layer.number, Z)
        return loss, net_inputs, signs + sides

    allowed = MAX_ROUNDING * layer.tolerance * float(layer.scale[i, j])
    best, least = math.nan, math.inf
    coarser: list[float] = []
    _, _, sides = evaluate(0.0)
    for _ in range(MAX_STEPS):
        if 2 * rounding / h > allowed:  # stop: the rounding error is too large for this step h and all smaller ones
            break
        (high, Z_high, sides_high), (low, Z_low, sides_low) = evaluate(h), evaluate(-h)
        close = all((abs(a - b) <= 1).all() for a, b in zip(Z_high, Z_low, strict=True))
        if close and all(((a == b) & (b == c)).all() for a, b, c in zip(sides_high, sides, sides_low, strict=True)):
            coarser, slope, error = extrapolated((high - low) / (2 * h), coarser, 2 * rounding / h)
            if error < least:
                best, least = slope, error
            if least <= allowed:
                break
        h /= 4
    return best, least


def extrapolated(slope: float, coarser: Sequence[float], rounding: float) -> tuple[list[float], float, float]:
    """Extrapolate a slope to the step size h = 0 with Ridders' method (Ridders, 1982).

    `slope` is a central difference, `coarser` the previous row of the extrapolation table, for a step size that is four
    times as large. Return the next row of the table, the best slope in this row, and its error.
    """
    slopes, best, least = [slope], math.nan, math.inf
    for k, old in enumerate(coarser, 1):
        slopes.append(slopes[-1] + (slopes[-1] - old) / (16**k - 1))
        error = 4 * max(abs(slopes[-1] - slopes[-2]), abs(slopes[-1] - old)) + rounding
        if error < least:
            best, least = slopes[-1], error
    return slopes, best, least


def _bias_name(layer: Compared, i: int, j: int) -> str:
    """Return the name of the bias in row i and column j of the arrays of a layer, such as "b[1]" or "b[0, 1]"."""
    first = len(layer.step.W)
    return f"b[{i - first}, {j}]" if len(layer.computed) > first + 1 else f"b[{j}]"


def _check_layer(problem: Problem, layer: Compared, eps: float, rounding: float) -> LayerCheck:
    """Compare the gradients of one layer with formulas and finite differences.

    `rounding` is the rounding error of the loss.
    """
    step, computed, expected, error, scale = layer.step, layer.computed, layer.expected, layer.error, layer.scale
    distance = np.where(np.isfinite(computed - expected), abs(computed - expected), np.inf)
    # `difference` is the relative difference; `beyond` is the part of it that exceeds the rounding errors.
    difference, is_bounded = distance / scale, ~layer.kinks & np.isfinite(error)
    beyond = np.where(is_bounded, distance - np.where(is_bounded, error, 0.0), 0.0) / scale
    recurrence = problem.connections[layer.number].recurrence
    # Compare fewer parameters of a recurrent layer, because a finite difference repeats the pass through all its steps.
    steps = 1 if recurrence is None else len(recurrence.orders[0])
    indices, n_sampled = np.flatnonzero(layer.compared), max(1, MAX_SAMPLED // len(problem.W) // steps)
    if len(indices) > n_sampled:
        indices = np.sort(np.random.default_rng(0).choice(indices, n_sampled, False))
    slopes = {}
    for index in indices.tolist():
        i, j = divmod(index, computed.shape[1])
        slope, slack = _slope(problem, layer, i, j, eps, rounding)
        if slack <= MAX_ROUNDING * layer.tolerance * scale[i, j]:
            slopes[index] = slope
            gap = abs(computed[i, j] - slope)
            beyond[i, j] = max(beyond[i, j], (gap - slack - error[i, j]) / scale[i, j])
            if gap > slack + error[i, j] + layer.tolerance * scale[i, j]:
                difference[i, j] = max(difference[i, j], gap / scale[i, j])
    wrong = beyond > layer.tolerance
    worst = np.where(wrong, beyond, -1.0) if wrong.any() else np.where(layer.compared, difference, -1.0)
    index = int(worst.argmax())
    i, j = divmod(index, computed.shape[1])
    nothing = not (wrong | layer.compared).any()
    return LayerCheck(
        layer_name(layer.number, len(problem.W)),
        n_params=computed.size,
        checked=int(layer.compared.sum()),
        kinks=int(layer.kinks.sum()),
        uncertain=int((~layer.kinks & ~layer.compared).sum()),
        by_both=len(slopes),
        difference=0.0 if nothing else float(difference[i, j]),
        worst="" if nothing else f"W[{i}, {j}]" if i < len(step.W) else _bias_name(layer, i, j),
        by_backpropagation=math.nan if nothing else float(computed[i, j]),
        by_definition=math.nan if nothing else float(expected[i, j]),
        by_differences=slopes.get(index, math.nan),
        wrong=bool(wrong.any()),
    )
