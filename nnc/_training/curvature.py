"""Levenberg-Marquardt and L-BFGS: optimizers that estimate the curvature of the loss from all rows.

They train small networks in tens of iterations instead of thousands of epochs.

Both minimize an objective, given as functions, over a float64 vector of parameters. An epoch is one iteration. The loss
never increases, so the result has the lowest loss of all iterations.

A run that continues an earlier one has the same result, to the last bit, as one long run: an iteration depends only on
the parameters, and on the damping (Levenberg-Marquardt) or the pairs of steps and gradient changes (L-BFGS). All of
these are rounded to the dtype in which a checkpoint stores them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._model.cores import load_core
from nnc._registry.optimizers import SCALINGS
from nnc._utils.arrays import as_real_array
from nnc._utils.checks import check_choice, check_count, check_not_negative, check_positive
from nnc._utils.memory import check_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Vector = NDArray[np.float64]
    Pair = tuple[Vector, Vector]
    Iterations = Generator["Iteration", None, "Result"]

__all__ = ["Result", "lbfgs", "levenberg_marquardt"]

# Limits of the damping of Levenberg-Marquardt. With a larger damping, steps are lost in the rounding of the parameters.
MAX_DAMPING = 1e12
MIN_DAMPING = 1e-15
DAMPING_INCREASE = 1.5  # factor of the damping after a rejected step
DAMPING_DECREASE = 10.0  # divisor of the damping after an accepted step
MAX_ACCELERATION = 0.75  # maximum ratio of twice the length of the acceleration to the length of the step

DECREASE, CURVATURE = 1e-4, 0.9  # constants c1 and c2 of the Wolfe conditions of a line search
MAX_TRIALS = 40  # maximum number of points that a line search evaluates
MIN_COSINE = 1e-10  # ignore a step if the cosine between it and the change of the gradient is smaller than this


class Result(NamedTuple):
    """Result of an optimizer.

    Attributes
    ----------
    params : float64 array (n,)
        The best parameters.
    losses : list of float
        Loss before the first iteration and after each iteration. `losses[:-1]` are the losses before each step, as in
        `History.loss` for the full batch, and `losses[-1]` is the loss at `params`.
    reason : str
        "epochs" (all iterations are done), "converged", "interrupt" (Ctrl-C) or "diverged" (the loss or its derivatives
        are not finite, for shorter steps too).
    damping : float or None
        Last damping of Levenberg-Marquardt, with which a further call can continue.
    pairs : list of (array (n,), array (n,)) or None
        Last steps and changes of the gradient of L-BFGS, with which a further call can continue.
    """

    params: NDArray[np.float64]
    losses: list[float]
    reason: str
    damping: float | None = None
    pairs: list[Pair] | None = None


class Iteration(NamedTuple):
    """Iteration of an optimizer.

    Attributes
    ----------
    epoch : int
        Number of the iteration, counted from 1.
    loss : float
        Loss after the iteration.
    params : float64 array (n,)
        Parameters after the iteration.
    memory : float or list of pairs
        Damping of Levenberg-Marquardt, or the pairs of L-BFGS, a list that later iterations change.
    """

    epoch: int
    loss: float
    params: NDArray[np.float64]
    memory: Any


# ---------------------------------------------------------------------------------------- Levenberg-Marquardt


def levenberg_marquardt(
    residuals_and_jacobian: Callable[[Vector], Iterable[tuple[NDArray[Any], NDArray[Any]]]],
    loss_of: Callable[[Vector], float],
    params: ArrayLike,
    *,
    transposed_product: Callable[[Vector, Vector], ArrayLike] | None = None,
    epochs: int,
    damping: float = 1e-3,
    scaling: str = "identity",
    gradient_tolerance: float = 1e-12,
    step_tolerance: float = 1e-12,
    dtype: DTypeLike = np.float64,
) -> Iterations:
    """Minimize a sum of squares by the method of Levenberg (1944) and Marquardt (1963), with geodesic acceleration.

    With residuals r and their Jacobian J, an iteration solves (J'J + damping D) step = -J'r, where D is the identity or
    the diagonal of J'J. The damping is multiplied by 1.5 until a step decreases the loss. After that step, it is
    divided by 10. Each iteration computes the Jacobian once and decreases the loss.

    Geodesic acceleration (Transtrum and Sethna, 2012) adds half of the solution a of (J'J + damping D) a = -J'r'' to
    the step, where r'' is the second derivative of the residuals along it. A step with a large a is rejected.

    Parameters
    ----------
    residuals_and_jacobian : callable
        residuals_and_jacobian(params) yields blocks of rows: r (rows,) and J (rows, n), with J[i, j] = dr[i] /
        dparams[j]. Only J'J (n, n) and J'r are stored.
    loss_of : callable
        loss_of(params) returns the loss, an increasing function of the sum of r**2. A step is rejected if the loss is
        not finite.
    params : array (n,)
        Initial parameters, which are not changed.
    transposed_product : callable, optional
        transposed_product(params, point) returns J'r (n,), with the Jacobian J at `params` and the residuals r at
        `point`. Default: no geodesic acceleration.
    epochs : int
        Maximum number of iterations.
    damping : float, default 1e-3
        Initial damping.
    scaling : {"identity", "marquardt"}, default "identity"
        Matrix D: the identity, or the diagonal of J'J.
    gradient_tolerance : float, default 1e-12
        The method has converged if the cosine of the angle between r and each column of J is at most this number.
    step_tolerance : float, default 1e-12
        The method has converged if the length of a step, in the units of D, is at most this fraction of the length of
        params. It has also converged if no step decreases the loss and the damping exceeds 1e12.
    dtype : dtype, default float64
        All parameters are rounded to this dtype.

    Yields
    ------
    Iteration
        Each iteration, which decreases the loss. The generator returns the Result.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid. Exceptions of the callables are not caught, except KeyboardInterrupt, which ends the
        method with the best parameters so far.
    """
    current, epochs = _start(params, dtype), check_count("epochs", epochs)
    damping, scaling = check_positive("damping", damping), check_choice("scaling", scaling, SCALINGS)
    gradient_tolerance = check_not_negative("gradient_tolerance", gradient_tolerance)
    step_tolerance = check_not_negative("step_tolerance", step_tolerance)
    equations = NormalEquations(len(current))
    losses: list[float] = []

    def result(reason: str) -> Result:
        return Result(current, losses, reason, damping)

    def trial_step(damping: float) -> tuple[Vector | None, float]:
        """Return the step for this damping, or None if it must be rejected, and its length before the acceleration."""
        if not equations.factorize(damping):
            return None, math.inf
        step = equations.solve(-equations.gradient)
        length = _length(step, equations.scale)
        if transposed_product is None or not np.isfinite(length):
            return step, length
        # Multiply J' by the difference quotient r'' = 2 (r(params + step) - r - J step), where J'r + J'J step equals
        # -damping D step. With the full step as the distance, the quotient is accurate enough in float32 too.
        probed = np.asarray(transposed_product(current, current + step), np.float64)
        curvature = 2 * (probed + damping * equations.scale**2 * step)
        acceleration = equations.solve(-curvature)
        if not 2 * _length(acceleration, equations.scale) <= MAX_ACCELERATION * length:
            return None, length
        return step + 0.5 * acceleration, length

    try:
        losses.append(float(loss_of(current)))
        if not np.isfinite(losses[0]):
            return result("diverged")
        for epoch in range(1, epochs + 1):
            if not equations.accumulate(residuals_and_jacobian(current), scaling == "marquardt"):
                return result("diverged")
            if equations.cosine <= gradient_tolerance:
                return result("converged")
            trial_damping = damping  # rejected steps change only this copy of the damping
            while True:
                step, length = trial_step(trial_damping)
                if length <= step_tolerance * _length(current, equations.scale):
                    return result("converged")
                if step is not None:
                    trial = _rounded(current + step, dtype)
                    loss = float(loss_of(trial)) if np.isfinite(trial).all() else math.inf
                    if loss < losses[-1]:
                        break
                trial_damping *= DAMPING_INCREASE
                if trial_damping > MAX_DAMPING:
                    return result("converged")
            current = trial
            losses.append(loss)
            damping = max(trial_damping / DAMPING_DECREASE, MIN_DAMPING)
            yield Iteration(epoch, loss, current, damping)
    except KeyboardInterrupt:
        return result("interrupt")
    return result("epochs")


class NormalEquations:
    """Equations (J'J + damping D) x = b of a least-squares problem with residuals r and Jacobian J.

    The sums are computed by the compiled core, so they do not depend on a BLAS library or on threads.

    Parameters
    ----------
    n : int
        Number of parameters.

    Attributes
    ----------
    gradient : array (n,)
        J'r.
    scale : array (n,)
        Square roots of the diagonal of D.
    cosine : float
        Largest cosine of the angle between r and a column of J.
    """

    gradient: Vector
    scale: Vector
    cosine: float

    def __init__(self, n: int) -> None:
        self.n, self.core = n, load_core(np.dtype(np.float64))
        # Number of columns of J and r, padded to whole vector registers.
        self.width = -(-(n + 1) // self.core.LANES) * self.core.LANES
        check_memory(
            2 * self.width**2 * 8,
            f"the Levenberg-Marquardt method with {n} parameters",
            "use the optimizer 'lbfgs', or a network with fewer parameters",
        )
        self.sums = np.empty((self.width, self.width))  # upper triangle: J'J, and J'r and r'r in column n
        self.factor = np.empty_like(self.sums)

    def accumulate(self, blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]], is_scaled: bool) -> bool:
        """Compute J'J and J'r from blocks of rows (r, J), and return whether they are finite.

        D is the diagonal of J'J if `is_scaled`, otherwise the identity.
        """
        n, rows = self.n, np.empty((0, self.width))
        self.sums.fill(0)
        for r, J in blocks:
            if r.ndim != 1 or J.shape != (len(r), n):
                expected = f"residuals_and_jacobian must yield residuals (rows,) and a Jacobian (rows, {n})"
                raise ValueError(f"{expected}, got shapes {r.shape} and {J.shape}")
            if len(rows) != len(r):
                rows = np.zeros((len(r), self.width))
            rows[:, :n], rows[:, n] = J, r
            self.core.add_gram(rows, self.sums)
        self.gradient, diagonal = self.sums[:n, n].copy(), self.sums.diagonal()
        # Check only the diagonal, which is enough: if any product is not finite, a sum of squares is not finite either.
        if not np.isfinite(diagonal).all():
            return False
        # Limit the column lengths from below: otherwise a parameter with little influence would take giant steps, and
        # the damping needed against them would stop all other parameters.
        lengths = np.sqrt(np.maximum(diagonal[:n], np.finfo(np.float64).eps * diagonal[:n].max()))
        self.scale = lengths if is_scaled else np.ones(n)
        length = math.sqrt(diagonal[n])
        self.cosine = float(np.max(np.abs(self.gradient) / lengths)) / length if length and lengths.all() else 0.0
        return True

    def factorize(self, damping: float) -> bool:
        """Factorize J'J + damping D, and return whether it is positive definite."""
        np.copyto(self.factor, self.sums)
        self.factor.ravel()[: self.n * self.width : self.width + 1] += damping * self.scale**2
        return bool(self.core.cholesky(self.factor, self.n))

    def solve(self, b: Vector) -> Vector:
        """Return the solution x of (J'J + damping D) x = b."""
        x = np.zeros(self.width)
        x[: self.n] = b
        self.core.solve_cholesky(self.factor, x, self.n)
        return x[: self.n]


def _length(vector: Vector, scale: Vector) -> float:
    """Return the length of a vector whose elements are multiplied by `scale`."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = vector * scale
        return math.sqrt(_dot(scaled, scaled))


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
) -> Iterations:
    """Minimize a function by L-BFGS (Liu and Nocedal, 1989).

    An iteration estimates the inverse Hessian from the last steps and the changes of the gradient along them, and
    multiplies the gradient by it. A line search in that direction finds a point that satisfies the strong Wolfe
    conditions. If it finds none, the stored steps and changes are deleted, and the direction of steepest descent is
    searched.

    Parameters
    ----------
    loss_and_gradient : callable
        loss_and_gradient(params) returns the loss and its gradient (n,). A shorter step is tried if they are not
        finite.
    params : array (n,)
        Initial parameters, which are not changed.
    epochs : int
        Maximum number of iterations. Most iterations call loss_and_gradient once.
    history_size : int, default 10
        Number of steps from which the curvature is estimated.
    pairs : iterable of (array (n,), array (n,)), optional
        Steps and changes of the gradient of an earlier call, the latest last. Pairs of another function cost some
        time but do no harm.
    gradient_tolerance : float, default 1e-9
        The method has converged if the absolute value of each element of the gradient is at most this number.
    loss_tolerance : float, default 1e-14
        The method has converged if no step decreases the loss by more than this fraction of it.
    dtype : dtype, default float64
        All parameters and the pairs are rounded to this dtype.

    Yields
    ------
    Iteration
        Each iteration, which decreases the loss. The generator returns the Result.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid. Exceptions of the callables are not caught, except KeyboardInterrupt, which ends the
        method with the best parameters so far.
    """
    current, epochs = _start(params, dtype), check_count("epochs", epochs)
    history_size = check_count("history_size", history_size)
    gradient_tolerance = check_not_negative("gradient_tolerance", gradient_tolerance)
    loss_tolerance = check_not_negative("loss_tolerance", loss_tolerance)
    stored = [(np.asarray(s, np.float64), np.asarray(y, np.float64)) for s, y in pairs]
    stored = [pair for pair in stored if _is_convex(*pair)][-history_size:]
    losses: list[float] = []
    is_blocked = False  # whether the loss or the gradient was not finite at a point of the current iteration

    def result(reason: str) -> Result:
        return Result(current, losses, reason, pairs=stored)

    def evaluate(params: Vector) -> tuple[float, Vector]:
        loss, gradient = loss_and_gradient(params)
        return float(loss), np.array(gradient, np.float64)

    def search() -> _Point | None:
        """Search along the direction of L-BFGS; return None if no point decreases the loss enough."""
        direction = _direction(gradient, stored)
        slope = _dot(gradient, direction)
        if not -math.inf < slope < 0:
            return None

        def evaluate_at(t: float) -> _Point:
            nonlocal is_blocked
            with np.errstate(over="ignore", invalid="ignore"):
                params = _rounded(current + t * direction, dtype)
            if np.isfinite(params).all():
                loss, gradient = evaluate(params)
                if math.isfinite(loss) and np.isfinite(gradient).all():
                    return _Point(t, params, loss, gradient, _dot(gradient, direction))
            is_blocked = True
            return _Point(t, params, math.inf, params, math.nan)

        point = _line_search(evaluate_at, _Point(0.0, current, losses[-1], gradient, slope))
        return point if losses[-1] - point.loss > loss_tolerance * abs(losses[-1]) else None

    try:
        loss, gradient = evaluate(current)
        losses.append(loss)
        if not (math.isfinite(loss) and np.isfinite(gradient).all()):
            return result("diverged")
        for epoch in range(1, epochs + 1):
            if np.abs(gradient).max() <= gradient_tolerance:
                return result("converged")
            is_blocked = False
            point = search()
            if point is None and stored:  # the stored curvature pairs may be inaccurate: retry without them
                stored.clear()
                point = search()
            if point is None:
                return result("diverged" if is_blocked else "converged")
            with np.errstate(over="ignore"):
                pair = _rounded(point.params - current, dtype), _rounded(point.gradient - gradient, dtype)
            if _is_convex(*pair):
                stored.append(pair)
                del stored[:-history_size]
            current, gradient = point.params, point.gradient
            losses.append(point.loss)
            yield Iteration(epoch, point.loss, current, stored)
    except KeyboardInterrupt:
        return result("interrupt")
    return result("epochs")


def _dot(a: Vector, b: Vector) -> float:
    """Return the scalar product of two vectors.

    BLAS may sum in an order that depends on threads and on memory addresses; einsum does not.
    """
    return float(np.einsum("i,i", a, b))


def _is_convex(step: Vector, change: Vector) -> bool:
    """Return whether the cosine between step and change of the gradient is large enough to estimate the curvature."""
    return _dot(step, change) > MIN_COSINE * math.sqrt(_dot(step, step) * _dot(change, change)) > 0


def _direction(gradient: Vector, pairs: list[Pair]) -> Vector:
    """Return minus the gradient times the estimated inverse Hessian (Nocedal and Wright, 2006, algorithm 7.4)."""
    direction: Vector = -gradient
    if not pairs:  # without pairs, the curvature is not estimated, so limit the norm of the step to 1
        largest = float(np.abs(gradient).max())  # divide by the largest element before squaring, to avoid overflow
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
    """Point of a line search: the initial parameters plus `t` times the search direction."""

    t: float
    params: Vector
    loss: float  # loss at this point; infinite if the loss or its gradient is not finite
    gradient: Vector
    slope: float  # derivative of the loss with respect to `t`


def _line_search(evaluate_at: Callable[[float], _Point], start: _Point) -> _Point:
    """Return a point that satisfies the strong Wolfe conditions (Nocedal and Wright, 2006, algorithms 3.5 and 3.6).

    If rounding errors prevent that, return the best point with a sufficient decrease, or `start` if there is none.
    """
    # `low` is the best point so far with a sufficient decrease. The loss decreases from `low` towards `high`, and a
    # minimum lies between them. While `high` is None, the loss decreases towards larger t.
    low, high = start, None
    t, width = 1.0, math.inf
    for _ in range(MAX_TRIALS):
        trial = evaluate_at(t)
        if np.array_equal(trial.params, low.params):  # stop: there is no floating-point number between `low` and `high`
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
        width, previous_width = abs(high.t - low.t), width
        fraction = (_cubic_minimum(low, high) - low.t) / (high.t - low.t)
        # Bisect if the minimum of the cubic is not well inside the bracket, or if the bracket has hardly shrunk.
        if width > previous_width / 2 or not 0.01 <= fraction <= 0.99:
            fraction = 0.5
        t = low.t + fraction * (high.t - low.t)
    return low


def _cubic_minimum(a: _Point, b: _Point) -> float:
    """Return the minimizer t of the cubic that has the losses and slopes of both points; NaN if it has no minimum."""
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    discriminant = d1 * d1 - a.slope * b.slope
    if not discriminant >= 0:
        return math.nan
    d2 = math.copysign(math.sqrt(discriminant), b.t - a.t)
    denominator = b.slope - a.slope + 2 * d2
    return b.t - (b.t - a.t) * (b.slope + d2 - d1) / denominator if denominator else math.nan


# ------------------------------------------------------------------------------------------- helpers of both optimizers


def _start(params: ArrayLike, dtype: DTypeLike) -> Vector:
    """Return the initial parameters, rounded to the dtype; raise an error if they are not a finite vector."""
    start = _rounded(np.array(as_real_array("params", params), np.float64), dtype)
    if start.ndim != 1 or len(start) == 0:
        raise ValueError(f"params must be a vector of at least one number, got shape {start.shape}")
    if not np.isfinite(start).all():
        raise ValueError(f"params must be finite, got {start[~np.isfinite(start)][0]}")
    return start


def _rounded(values: Vector, dtype: DTypeLike) -> Vector:
    """Return float64 values rounded to the dtype; values outside its range become infinite."""
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(dtype).astype(np.float64)
