"""Backpropagation held against difference quotients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnc.inspection.problem import Problem
from nnc.layers.stack import layer_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from nnc.inspection.problem import Array, Network

SAMPLE = 2000  # parameters that check_gradients looks at, at most
TOLERANCE = {"float64": 1e-6, "float32": 1e-3}  # the largest relative difference that check_gradients lets pass


@dataclass(frozen=True)
class LayerCheck:
    """What `check_gradients` found in one layer.

    Attributes
    ----------
    name : str
    n_params, checked, bends : int
        How many parameters there are, how many were compared, and how many were not because the loss has a bend
        (of relu, say) so close by that the difference quotient is no slope.
    difference : float
        The relative difference of the worst one.
    worst : str
        Which parameter has it: "W[2, 0]" or "b[1]"; empty where none was compared.
    by_backpropagation, by_differences : float
        Its gradient, both ways.
    ok : bool
        Whether the difference is within the tolerance and what the rounding of the loss explains.
    """

    name: str
    n_params: int
    checked: int
    bends: int
    difference: float
    worst: str
    by_backpropagation: float
    by_differences: float
    ok: bool

    def __str__(self) -> str:
        bends = f" ({self.bends} more are at a bend)" if self.bends else ""
        counts = f"{self.name}: {self.checked} of {self.n_params} parameters{bends}"
        if not self.checked:
            return f"{counts}, nothing to compare"
        return (
            f"{counts}, {'ok' if self.ok else 'WRONG'}: largest relative difference {self.difference:.2g} at "
            f"{self.worst}, {self.by_backpropagation:.9g} by backpropagation, {self.by_differences:.9g} by differences"
        )


@dataclass(frozen=True)
class GradientCheck:
    """Backpropagation held against difference quotients; `str()` is a line for each layer and one for all.

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
        """Whether every layer is right."""
        return all(layer.ok for layer in self.layers)

    @property
    def difference(self) -> float:
        """The largest relative difference of all layers."""
        return max(layer.difference for layer in self.layers)

    @property
    def worst(self) -> LayerCheck:
        """The layer that has it."""
        return max(self.layers, key=lambda layer: (not layer.ok, layer.difference))

    def __str__(self) -> str:
        verdict = "right" if self.ok else "WRONG"
        last = f"largest relative difference {self.difference:.2g}, {self.tolerance:g} allowed, and rounding"
        return "\n".join([*map(str, self.layers), f"The gradients are {verdict}: {last}"])


def check_gradients(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    eps: float | None = None,
    *,
    gradients: Sequence[tuple[NDArray[Any], NDArray[Any] | None]] | None = None,
) -> GradientCheck:
    """Compare the gradients of `net.gradients`, by backpropagation, with (L(w + h) - L(w - h)) / (2 h) in float64.

    The difference of both is relative to the larger one, to a hundredth of the layer's largest gradient at least.
    Of a layer with many parameters a sample is compared, always the same one, about 2000 in the whole network. A few
    rows are enough, and quick.

    Parameters
    ----------
    net : NeuralNetwork
    X, y : arrays
        As for `explain_step`.
    eps : float, optional
        h is this, divided by the weight's largest input if that is more than 1. Default: 1e-5.
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
    """
    if eps is None:
        eps = 1e-5
    if isinstance(eps, (bool, str)) or not hasattr(eps, "__float__") or not 0 < eps < math.inf:
        raise ValueError(f"eps must be a positive finite number, got {eps!r}")
    problem = Problem(net, X, y)
    tolerance = TOLERANCE[np.dtype(net.dtype).name]
    random = np.random.default_rng(0)
    A_in, Z, A = problem.forward()
    rounding = 16 * float(np.finfo(np.float64).eps * abs(problem.terms(Z[-1], A[-1])).sum())
    checks = []
    for l, (dW, db) in enumerate(net.gradients(X, y) if gradients is None else gradients):
        name = layer_name(l, len(Z))
        # The bias is the weight of one more input, which is always 1.
        inputs = A_in[l] if db is None else np.hstack([A_in[l], np.ones((len(problem.X), 1))])
        found = np.asarray(dW if db is None else np.vstack([dW, db[None]]), np.float64)
        share = max(1, SAMPLE // len(Z))
        places = np.arange(found.size) if found.size <= share else np.sort(random.choice(found.size, share, False))
        checks.append(_check_layer(problem, l, name, Z[l], inputs, found, places, eps, tolerance, rounding))
    return GradientCheck(tuple(checks), tolerance)


def _check_layer(
    problem: Problem,
    l: int,
    name: str,
    Z: Array,
    inputs: Array,
    found: Array,
    places: NDArray[np.intp],
    eps: float,
    tolerance: float,
    rounding: float,
) -> LayerCheck:
    """`found` has the gradients by backpropagation, those of the bias in a last row; `rounding` is L's error."""
    least = 0.01 * float(abs(found).max())
    largest_inputs = abs(inputs).max(axis=0)
    compared: list[tuple[float, float, int, float]] = []  # beyond rounding, the difference, which, its slope
    for place in places:
        i, j = divmod(int(place), found.shape[1])
        h = eps / max(1.0, largest_inputs[i])
        losses, sides = [], []
        for change in (h, -h):
            moved = Z.copy()
            moved[:, j] += change * inputs[:, i]
            loss, side = problem.loss_from(l, moved)
            losses.append(loss)
            sides.append(side)
        if any((a != b).any() for a, b in zip(*sides, strict=True)):
            continue
        slope = (losses[0] - losses[1]) / (2 * h)
        scale = max(abs(slope), abs(found[i, j]), least) or 1.0
        apart = abs(slope - found[i, j]) if math.isfinite(slope - found[i, j]) else math.inf
        compared.append((max(0.0, apart - rounding / h) / scale, apart / scale, int(place), slope))
    beyond, difference, place, slope = max(compared, default=(0.0, 0.0, 0, math.nan))
    i, j = divmod(place, found.shape[1])
    worst = f"W[{i}, {j}]" if i < problem.W[l].shape[0] else f"b[{j}]"
    return LayerCheck(
        name,
        found.size,
        len(compared),
        len(places) - len(compared),
        float(difference),
        worst if compared else "",
        float(found[i, j]),
        slope,
        bool(beyond <= tolerance),
    )
