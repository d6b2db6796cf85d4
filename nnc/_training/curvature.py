"""Two optimizers that take all rows at once and learn about the curvature: for small networks, where they need tens of
epochs instead of thousands.

Both work on one float64 vector of parameters and an objective given as functions. An epoch is one iteration. Neither
raises a loss: what they return is the best that they have seen.

Both can go on where they ended, to the bit: what an iteration does, and whether there is one more, follows from the
parameters and what is handed on (the damping; the pairs) alone. So all of these lie on the grid of the dtype in which
they are stored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._utils.arrays import as_real_array
from nnc._utils.checks import check_count, check_not_negative, check_positive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Vector = NDArray[np.float64]
    Pair = tuple[Vector, Vector]
    Hook = Callable[[int, float, Vector, Any], bool]

__all__ = ["Result", "lbfgs", "levenberg_marquardt"]

MAX_DAMPING = 1e12  # a step so damped is lost in the rounding of the parameters
MIN_DAMPING = 1e-15

DECREASE, CURVATURE = 1e-4, 0.9  # c1 and c2 of Wolfe's conditions
MAX_TRIALS = 40  # points of a line search
MIN_COSINE = 1e-10  # of the angle between a step and the change of the gradient, that they say something


class Result(NamedTuple):
    """What an optimizer has reached.

    Attributes
    ----------
    params : float64 array (n,)
        The best parameters.
    losses : list of float
        The loss before the first iteration and after each: one number more than there were iterations. So `losses[:-1]`
        are the losses before each step, as in `History.loss` for the full batch, and `losses[-1]` is the loss at
        `params`.
    reason : str
        "epochs" (all done), "converged" (nothing left to gain), "callback" (`keep_going` said no), "interrupt" (Ctrl-C)
        or "diverged" (the loss or its derivatives are not finite, and there is no way around).
    damping : float or None
        Of Levenberg and Marquardt's method at last, from which it can go on.
    pairs : list of (array (n,), array (n,)) or None
        Steps and changes of the gradient of L-BFGS at last, from which it can go on.
    """

    params: NDArray[np.float64]
    losses: list[float]
    reason: str
    damping: float | None = None
    pairs: list[Pair] | None = None


# ---------------------------------------------------------------------------------------- Levenberg-Marquardt


def levenberg_marquardt(
    residuals_and_jacobian: Callable[[Vector], Iterable[tuple[ArrayLike, ArrayLike]]],
    loss_of: Callable[[Vector], float],
    params: ArrayLike,
    *,
    epochs: int,
    damping: float = 1e-3,
    gradient_tolerance: float = 1e-12,
    step_tolerance: float = 1e-12,
    dtype: DTypeLike = np.float64,
    keep_going: Hook | None = None,
) -> Result:
    """Least squares by the method of Levenberg (1944) and Marquardt (1963).

    With residuals r and their Jacobian J, an iteration solves (J'J + damping D) step = -J'r, where D is the diagonal of
    J'J. A step that lowers the loss is taken, and the damping divided by 10; until there is one, the damping is
    multiplied by 10. So every iteration takes the Jacobian once and lowers the loss.

    Parameters
    ----------
    residuals_and_jacobian : callable
        residuals_and_jacobian(params) gives pairs of some rows of r (rows,) and of J (rows, n), J[i, j] = dr[i] /
        dparams[j], block by block. Only J'J (n, n) and J'r are kept.
    loss_of : callable
        loss_of(params) is the loss: any number that grows with the sum of r**2. Where it is not finite, the step is
        refused.
    params : array (n,)
        Where to start; left as it is.
    epochs : int
        Iterations at most.
    damping : float, default 1e-3
        At first.
    gradient_tolerance : float, default 1e-12
        It has converged when no column of J has a larger cosine of its angle to r.
    step_tolerance : float, default 1e-12
        It has converged when the length of a step, in the units of D, is at most so much of that of params, or when no
        step lowers the loss and the damping exceeds 1e12.
    dtype : dtype, default float64
        All params that it tries are rounded to this one.
    keep_going : callable, optional
        keep_going(epoch, loss, params, damping) after each iteration, counted from 1, with what it has reached; False
        ends.

    Returns
    -------
    Result

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these. What the callables raise passes through, except KeyboardInterrupt, which ends
        early with the best parameters.
    """
    current, epochs = _start(params, dtype), check_count("epochs", epochs)
    damping = check_positive("damping", damping)
    gradient_tolerance = check_not_negative("gradient_tolerance", gradient_tolerance)
    step_tolerance = check_not_negative("step_tolerance", step_tolerance)
    losses: list[float] = []

    def result(reason: str) -> Result:
        return Result(current, losses, reason, damping)

    try:
        losses.append(float(loss_of(current)))
        if not np.isfinite(losses[0]):
            return result("diverged")
        for epoch in range(1, epochs + 1):
            A, g, squares = _normal_equations(residuals_and_jacobian(current), len(current))
            if not (np.isfinite(A).all() and np.isfinite(g).all()):
                return result("diverged")
            # In units of the lengths of J's columns the diagonal is 1. A parameter that hardly matters counts as one
            # that matters a little: otherwise it takes giant steps, and the damping against them stops all others too.
            diagonal = A.diagonal()
            scale = np.sqrt(np.maximum(diagonal, np.finfo(np.float64).eps * diagonal.max()))
            if not g.any() or np.max(np.abs(g) / scale) <= gradient_tolerance * np.sqrt(squares):
                return result("converged")
            A /= scale[:, None] * scale
            g /= scale
            tried = damping  # an iteration that comes to nothing leaves the damping as it is
            while True:
                step = _damped_step(A, g, tried)
                if step is not None:
                    if np.linalg.norm(step) <= step_tolerance * np.linalg.norm(current * scale):
                        return result("converged")
                    trial = _rounded(current + step / scale, dtype)
                    loss = float(loss_of(trial)) if np.isfinite(trial).all() else math.inf
                    if loss < losses[-1]:
                        break
                tried *= 10
                if tried > MAX_DAMPING:
                    return result("converged")
            current = trial
            losses.append(loss)
            damping = max(tried / 10, MIN_DAMPING)
            if keep_going is not None and not keep_going(epoch, loss, current, damping):
                return result("callback")
    except KeyboardInterrupt:
        return result("interrupt")
    return result("epochs")


def _normal_equations(blocks: Iterable[tuple[ArrayLike, ArrayLike]], n: int) -> tuple[Vector, Vector, float]:
    """J'J (n, n), J'r (n,) and r'r, summed over blocks of rows."""
    A, g, squares = np.zeros((n, n)), np.zeros(n), 0.0
    for residuals, jacobian in blocks:
        r, J = np.asarray(residuals, np.float64), np.asarray(jacobian, np.float64)
        if r.ndim != 1 or J.shape != (len(r), n):
            expected = f"a block must have residuals (rows,) and a Jacobian (rows, {n})"
            raise ValueError(f"{expected}, got {r.shape} and {J.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            A += J.T @ J
            g += J.T @ r
            squares += float(r @ r)
    return A, g, squares


def _damped_step(A: Vector, g: Vector, damping: float) -> Vector | None:
    """The solution of (A + damping) step = -g, or None where that matrix is not positive definite."""
    damped = A + damping * np.eye(len(g))
    try:
        np.linalg.cholesky(damped)
        step: NDArray[Any] = np.linalg.solve(damped, -g)
    except np.linalg.LinAlgError:
        return None
    return step


# ----------------------------------------------------------------------------------------------------- L-BFGS


def lbfgs(
    loss_and_gradient: Callable[[Vector], tuple[float, ArrayLike]],
    params: ArrayLike,
    *,
    epochs: int,
    history_size: int = 10,
    pairs: Iterable[tuple[ArrayLike, ArrayLike]] = (),
    gradient_tolerance: float = 1e-9,
    loss_tolerance: float = 1e-14,
    dtype: DTypeLike = np.float64,
    keep_going: Hook | None = None,
) -> Result:
    """L-BFGS (Liu and Nocedal, 1989).

    An iteration multiplies the gradient by an estimate of the inverse Hessian, which the last steps and the changes of
    the gradient in them make up, and searches that direction for a point that meets the strong Wolfe conditions. Where
    it finds none, it forgets the pairs and tries the direction of steepest descent.

    Parameters
    ----------
    loss_and_gradient : callable
        loss_and_gradient(params) gives the loss and its gradient (n,). Where they are not finite, a shorter step is
        tried.
    params : array (n,)
        Where to start; left as it is.
    epochs : int
        Iterations at most; most of them call loss_and_gradient once, some a few times.
    history_size : int, default 10
        From how many steps the curvature is estimated.
    pairs : iterable of (array (n,), array (n,)), optional
        Steps and changes of the gradient to go on from, the latest last: those of the Result before. Where they do not
        fit, they cost time and nothing else.
    gradient_tolerance : float, default 1e-9
        It has converged when no element of the gradient is larger.
    loss_tolerance : float, default 1e-14
        It has converged when no step is found that lowers the loss by more than this share of it.
    dtype : dtype, default float64
        All params that it tries, and the pairs, are rounded to this one.
    keep_going : callable, optional
        keep_going(epoch, loss, params, pairs) after each iteration, counted from 1, with what it has reached; False
        ends. The list of pairs goes on changing.

    Returns
    -------
    Result

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these. What the callables raise passes through, except KeyboardInterrupt, which ends
        early with the best parameters.
    """
    current, epochs = _start(params, dtype), check_count("epochs", epochs)
    history_size = check_count("history_size", history_size)
    gradient_tolerance = check_not_negative("gradient_tolerance", gradient_tolerance)
    loss_tolerance = check_not_negative("loss_tolerance", loss_tolerance)
    known = [(np.asarray(s, np.float64), np.asarray(y, np.float64)) for s, y in pairs]
    known = [pair for pair in known if _is_convex(*pair)][-history_size:]
    losses: list[float] = []
    blocked = False  # since the loss was last lowered, it or its gradient has not been finite

    def result(reason: str) -> Result:
        return Result(current, losses, reason, pairs=known)

    def evaluate(params: Vector) -> tuple[float, Vector]:
        loss, gradient = loss_and_gradient(params)
        return float(loss), np.array(gradient, np.float64)

    def search() -> _Point | None:
        """Along the direction that the pairs suggest; None where nothing worth a step is found."""
        direction = _direction(gradient, known)
        slope = _dot(gradient, direction)
        if not -math.inf < slope < 0:
            return None

        def at(t: float) -> _Point:
            nonlocal blocked
            with np.errstate(over="ignore", invalid="ignore"):
                params = _rounded(current + t * direction, dtype)
            if np.isfinite(params).all():
                loss, gradient = evaluate(params)
                if math.isfinite(loss) and np.isfinite(gradient).all():
                    return _Point(t, params, loss, gradient, _dot(gradient, direction))
            blocked = True
            return _Point(t, params, math.inf, params, math.nan)

        found = _line_search(at, _Point(0.0, current, losses[-1], gradient, slope))
        return found if losses[-1] - found.loss > loss_tolerance * abs(losses[-1]) else None

    try:
        loss, gradient = evaluate(current)
        losses.append(loss)
        if not (math.isfinite(loss) and np.isfinite(gradient).all()):
            return result("diverged")
        for epoch in range(1, epochs + 1):
            if np.abs(gradient).max() <= gradient_tolerance:
                return result("converged")
            blocked = False
            found = search()
            if found is None and known:  # rounding has spoiled them, or they are from elsewhere
                known.clear()
                found = search()
            if found is None:
                return result("diverged" if blocked else "converged")
            with np.errstate(over="ignore"):
                pair = _rounded(found.params - current, dtype), _rounded(found.gradient - gradient, dtype)
            if _is_convex(*pair):
                known.append(pair)
                del known[:-history_size]
            current, gradient = found.params, found.gradient
            losses.append(found.loss)
            if keep_going is not None and not keep_going(epoch, found.loss, current, known):
                return result("callback")
    except KeyboardInterrupt:
        return result("interrupt")
    return result("epochs")


def _dot(a: Vector, b: Vector) -> float:
    """The scalar product; by einsum, since BLAS may add in an order that depends on threads and on where arrays lie."""
    return float(np.einsum("i,i", a, b))


def _is_convex(step: Vector, change: Vector) -> bool:
    """Whether the gradient has grown along the step, by enough to say something about the curvature."""
    return _dot(step, change) > MIN_COSINE * math.sqrt(_dot(step, step) * _dot(change, change)) > 0


def _direction(gradient: Vector, pairs: list[Pair]) -> Vector:
    """The negative gradient times the estimated inverse Hessian (Nocedal and Wright, 2006, algorithm 7.4)."""
    direction: Vector = -gradient
    if not pairs:  # no curvature is known, so no length either: at most 1
        largest = float(np.abs(gradient).max())  # whose square may be out of range
        direction /= max(1.0, largest * math.sqrt(_dot(gradient / largest, gradient / largest)))
        return direction
    factors = []
    with np.errstate(over="ignore", invalid="ignore"):
        for s, y in reversed(pairs):
            curvature = _dot(s, y)
            factor = _dot(s, direction) / curvature
            direction -= factor * y
            factors.append((factor, curvature))
        _, y = pairs[-1]
        direction *= factors[0][1] / _dot(y, y)
        for s, y in pairs:
            factor, curvature = factors.pop()
            direction += (factor - _dot(y, direction) / curvature) * s
    return direction


class _Point(NamedTuple):
    """A point of a line search, `t` times the direction away from where it started."""

    t: float
    params: Vector
    loss: float  # infinite where it or the gradient is not finite
    gradient: Vector
    slope: float  # of the loss along the direction


def _line_search(at: Callable[[float], _Point], start: _Point) -> _Point:
    """A point that meets the strong Wolfe conditions (Nocedal and Wright, 2006, algorithms 3.5 and 3.6 in one). Where
    rounding leaves none to be found, the best that meets the first of them; `start` where there is none either.

    `low` is the best point so far that has lowered the loss enough. From there the loss falls in the direction of
    `high`, where a minimum lies in between; before there is such a bracket, towards larger t.
    """
    low, high = start, None
    t, width = 1.0, math.inf
    for _ in range(MAX_TRIALS):
        trial = at(t)
        if np.array_equal(trial.params, low.params):  # nothing is left between low and high
            break
        if not trial.loss < low.loss or trial.loss > start.loss + DECREASE * t * start.slope:
            high = trial
        elif abs(trial.slope) <= -CURVATURE * start.slope:
            return trial
        else:
            if trial.slope * (math.inf if high is None else high.t - low.t) >= 0:
                high = low
            low = trial
        if high is None:
            t *= 4
            continue
        width, before = abs(high.t - low.t), width
        share = (_cubic_minimum(low, high) - low.t) / (high.t - low.t)
        # The middle where the cubic has no minimum well inside, or where the bracket has hardly become smaller.
        if width > before / 2 or not 0.01 <= share <= 0.99:
            share = 0.5
        t = low.t + share * (high.t - low.t)
    return low


def _cubic_minimum(a: _Point, b: _Point) -> float:
    """Where the cubic with the losses and slopes of both points has its minimum; NaN where it has none."""
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return math.nan
    d2 = math.copysign(math.sqrt(square), b.t - a.t)
    denominator = b.slope - a.slope + 2 * d2
    return b.t - (b.t - a.t) * (b.slope + d2 - d1) / denominator if denominator else math.nan


# ------------------------------------------------------------------------------------------------------- both


def _start(params: ArrayLike, dtype: DTypeLike) -> Vector:
    start = _rounded(np.array(as_real_array("params", params), np.float64), dtype)
    if start.ndim != 1 or len(start) == 0:
        raise ValueError(f"params must be a vector of one number at least, got shape {start.shape}")
    if not np.isfinite(start).all():
        raise ValueError(f"params must be finite, got {start[~np.isfinite(start)][0]}")
    return start


def _rounded(values: Vector, dtype: DTypeLike) -> Vector:
    """The same in float64, on the grid of the dtype; infinite where they are out of its range."""
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(dtype).astype(np.float64)
