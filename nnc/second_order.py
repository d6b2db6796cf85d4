"""Two optimizers that take all rows at once and learn about the curvature: for small networks, where they need tens of
epochs instead of thousands.

Both work on one float64 vector of parameters and an objective given as functions. An epoch is one iteration. Neither
raises a loss: what they return is the best that they have seen.
"""

from __future__ import annotations

import math
import sys
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._threads import Interrupt, Team
from nnc.checks import count, not_negative, numbers, positive
from nnc.optimizers import LBFGS, LevenbergMarquardt
from nnc.training import Fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from nnc.history import History
    from nnc.network import NeuralNetwork
    from nnc.training import Data, Plan, State

    Vector = NDArray[np.float64]
    Hook = Callable[[int, float, Vector], bool]

__all__ = ["Result", "lbfgs", "levenberg_marquardt"]

MAX_DAMPING = 1e12  # a step so damped is lost in the rounding of the parameters
MIN_DAMPING = 1e-15
SQUARED = ("sse", "half_sse", "mse")


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
    """

    params: NDArray[np.float64]
    losses: list[float]
    reason: str
    damping: float | None = None


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
    keep_going : callable, optional
        keep_going(epoch, loss, params) after each iteration, counted from 1, with what it has reached; False ends.

    Returns
    -------
    Result

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these. What the callables raise passes through, except KeyboardInterrupt, which ends
        early with the best parameters.
    """
    current, epochs = _start(params), count("epochs", epochs)
    damping = positive("damping", damping)
    gradient_tolerance = not_negative("gradient_tolerance", gradient_tolerance)
    step_tolerance = not_negative("step_tolerance", step_tolerance)
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
            while True:
                step = _damped_step(A, g, damping)
                if step is not None:
                    step /= scale
                    trial = current + step
                    loss = float(loss_of(trial))
                    if loss < losses[-1]:
                        break
                damping *= 10
                if damping > MAX_DAMPING:
                    return result("converged")
            tiny = np.linalg.norm(step * scale) <= step_tolerance * np.linalg.norm(current * scale)
            current = trial
            losses.append(loss)
            damping = max(damping / 10, MIN_DAMPING)
            if keep_going is not None and not keep_going(epoch, loss, current):
                return result("callback")
            if tiny:
                return result("converged")
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


class _Stop(Exception):
    """Ends scipy.optimize.minimize from inside, whatever it is doing."""


def lbfgs(
    loss_and_gradient: Callable[[Vector], tuple[float, ArrayLike]],
    params: ArrayLike,
    *,
    epochs: int,
    history_size: int = 10,
    gradient_tolerance: float = 1e-9,
    loss_tolerance: float = 1e-14,
    keep_going: Hook | None = None,
) -> Result:
    """L-BFGS (Liu and Nocedal, 1989), the implementation of scipy.optimize.

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
    gradient_tolerance : float, default 1e-9
        It has converged when no element of the gradient is larger.
    loss_tolerance : float, default 1e-14
        It has converged when an iteration lowers the loss by no more than this share of it; or when the line search
        finds no lower loss at all.
    keep_going : callable, optional
        keep_going(epoch, loss, params) after each iteration, counted from 1, with what it has reached; False ends.

    Returns
    -------
    Result

    Raises
    ------
    ImportError
        scipy is not installed.
    ValueError, TypeError
        An argument is not one of these. What the callables raise passes through, except KeyboardInterrupt, which ends
        early with the best parameters.
    """
    best, epochs = _start(params), count("epochs", epochs)
    options = {
        "maxiter": epochs,
        "maxfun": 2**31 - 1,
        "maxcor": count("history_size", history_size),
        "gtol": not_negative("gradient_tolerance", gradient_tolerance),
        "ftol": not_negative("loss_tolerance", loss_tolerance),
    }
    try:
        optimize: Any = import_module("scipy.optimize")
    except ImportError as error:
        raise ImportError(f'lbfgs needs scipy ({error}); install it with pip install "nnc-cython[lbfgs]"') from error
    losses: list[float] = []
    blocked = False  # since the loss was last lowered, it or its gradient has not been finite

    def objective(x: Vector) -> tuple[float, Vector]:
        nonlocal blocked
        value, derivative = loss_and_gradient(x.copy())
        loss, gradient = float(value), np.asarray(derivative, np.float64)
        finite = np.isfinite(loss) and np.isfinite(gradient).all()
        if not losses:
            losses.append(loss)
            if not finite:
                raise _Stop("diverged")
        elif not finite:
            blocked = True
            # The line search interpolates, so it needs a number: one that is high, but not out of scale.
            return losses[-1] + 10 * abs(losses[-1]) + 1, np.zeros_like(x)
        return loss, gradient

    def iterated(intermediate_result: Any) -> None:
        nonlocal best, blocked
        best = intermediate_result.x.copy()
        losses.append(float(intermediate_result.fun))
        blocked = blocked and not losses[-1] < losses[-2]
        if keep_going is not None and not keep_going(len(losses) - 1, losses[-1], best):
            raise _Stop("callback")

    try:
        status = optimize.minimize(
            objective, best.copy(), method="L-BFGS-B", jac=True, callback=iterated, options=options
        ).status
    except _Stop as stop:
        reason = str(stop)
    except KeyboardInterrupt:
        reason = "interrupt"
    else:
        reason = "epochs" if status == 1 else "diverged" if blocked else "converged"
    return Result(best, losses, reason)


def _start(params: ArrayLike) -> Vector:
    start = np.array(numbers("params", params), np.float64)
    if start.ndim != 1 or len(start) == 0:
        raise ValueError(f"params must be a vector of one number at least, got shape {start.shape}")
    if not np.isfinite(start).all():
        raise ValueError(f"params must be finite, got {start[~np.isfinite(start)][0]}")
    return start


# ------------------------------------------------------------------------------------------------- for networks


class SecondOrderFit(Fit):
    """One call of `fit` with one of these optimizers."""

    def __init__(self, net: NeuralNetwork, data: Data, plan: Plan, state: State) -> None:
        for name in ("dropout", "clip_norm", "clip_value", "max_norm", "l1"):
            if plan.settings.get(name):
                raise ValueError(f"{name} does not go with the optimizer {state.optimizer.name!r}")
        if plan.batch_size < len(data.X):
            raise ValueError(f"{state.optimizer.name!r} takes all rows at once, got batch_size={plan.batch_size}")
        if isinstance(state.optimizer, LevenbergMarquardt) and net.loss_name not in SQUARED:
            known = ", ".join(SQUARED)
            raise ValueError(f"'levenberg_marquardt' is for squared losses ({known}), got {net.loss_name!r}")
        super().__init__(net, data, plan, state)
        self.every = 1
        self.complete = 0
        self.reason = ""
        self.before = math.nan  # the loss before the epoch
        n_out = net.sizes[-1]
        rows = len(data.X) if data.weights is None else float(data.weights.sum(dtype=np.float64))
        self.scale = {"sse": 1.0, "half_sse": 0.5, "mse": 1 / (rows * n_out)}.get(net.loss_name, 1.0)
        self.l2 = plan.settings.get("l2", 0.0)
        self.penalized = np.concatenate(
            [np.full(part.size, part.ndim == 2 or "biases_too" in plan.settings) for part in net._parts(net._W, net._b)]
        )

    @property
    def epoch(self) -> int:
        return self.complete

    def run(self) -> History:
        net, state = self.net, self.state
        epochs = sys.maxsize if self.plan.epochs is None else self.plan.epochs
        start = net.params.astype(np.float64)
        with Interrupt() as self.interrupt, Team(1) as self.team:
            self.training = self.open()
            self.before = self.loss_of(start)
            try:
                if isinstance(state.optimizer, LevenbergMarquardt):
                    damping = state.optimizer.damping
                    result = levenberg_marquardt(
                        self.least_squares,
                        self.loss_of,
                        start,
                        epochs=epochs,
                        damping=damping,
                        keep_going=self.keep_going,
                    )
                    if result.damping is not None:
                        state.optimizer = LevenbergMarquardt(damping=result.damping)
                else:
                    assert isinstance(state.optimizer, LBFGS)
                    history_size = state.optimizer.history_size
                    result = lbfgs(
                        self.objective, start, epochs=epochs, history_size=history_size, keep_going=self.keep_going
                    )
                net.params = result.params.astype(net.dtype)
            except BaseException:
                self.state.remember(self.history("interrupt"))
                raise
            finally:
                self.close()
        return self.finish(self.reason or result.reason)

    def loss_of(self, params: Vector) -> float:
        with np.errstate(over="ignore"):
            theta = params.astype(self.net.dtype)
        if not np.isfinite(theta).all():
            return math.inf
        self.net.params = theta
        evaluation = self.net._core.Evaluation(self.net._engine, self.params, *self.data, None, 1)
        evaluation.work(0, sys.maxsize)
        return float(evaluation.loss) + self.penalty(params)

    def penalty(self, params: Vector) -> float:
        return 0.5 * self.l2 * float(params[self.penalized] @ params[self.penalized]) if self.l2 else 0.0

    def objective(self, params: Vector) -> tuple[float, Vector]:
        """The loss and its gradient."""
        with np.errstate(over="ignore"):
            theta = params.astype(self.net.dtype)
        if not np.isfinite(theta).all():
            return math.inf, np.zeros_like(params)
        self.net.params = theta
        loss, gradient = self.net._loss_and_gradient(self.data)
        return loss + self.penalty(params), gradient + self.l2 * self.penalized * params

    def least_squares(self, params: Vector) -> Iterator[tuple[Vector, Vector]]:
        """Residuals and their derivatives, some rows at a time."""
        net, (X, Y, _, weights) = self.net, self.data
        assert Y is not None
        net.params = params.astype(net.dtype)
        n_out = Y.shape[1]
        rows = max(1, int(1e6 / (n_out * len(params))))
        for start in range(0, len(X), rows):
            part = slice(start, start + rows)
            P = np.empty((len(X[part]), n_out), net.dtype)
            J = np.empty((len(P), n_out, len(params)), net.dtype)
            net._engine.jacobian(self.params, X[part], P, J)
            r = (P - Y[part]).astype(np.float64)
            J64 = J.astype(np.float64)
            if weights is not None:
                root = np.sqrt(weights[part].astype(np.float64))
                r, J64 = r * root[:, None], J64 * root[:, None, None]
            yield r.ravel(), J64.reshape(-1, len(params))
        if self.l2:  # the penalty as further residuals
            root_l2 = math.sqrt(self.l2 / (2 * self.scale))
            yield root_l2 * params[self.penalized], root_l2 * np.eye(len(params))[self.penalized]

    def keep_going(self, epoch: int, loss: float, params: Vector) -> bool:
        self.look_ahead(self.complete, epoch)
        self.losses[epoch - 1], self.before = self.before, loss
        self.complete = epoch
        self.net.params = params.astype(self.net.dtype)
        self.marks.append((epoch, perf_counter() - self.began))
        self.reason = self.look()
        return not self.reason
