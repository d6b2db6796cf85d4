"""What may be wrong with a training whose loss is still large, found on some of its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.kinds import activations, losses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc.model.data import Data
    from nnc.training.fit import Fit
    from nnc.training.history import History

ROWS = 1000  # to look at
SOME = 0.01  # of the targets, and of their spread: less is noise
WRONG = 0.2  # share of the rows
MANY_EPOCHS = 100  # in which a loss should fall
FALLEN = 0.75  # a loss below this share of the first one has fallen
LEARNED = 0.2  # of the variance of the targets: what explains more is no longer at the beginning
STEPS, LENGTHS = 8, (1.0, 0.25, 0.0625)  # of a trial: the first length halves the loss where it is a straight line
LOWER = 0.9  # what they have to lower the loss to
FAR = 3  # times as far as all steps of the training


def sample(data: Data) -> Data:
    """Some of the rows that count, from all over the data."""
    if data.weights is None and data.n <= ROWS:
        return data
    return data.rows(_chosen(data))


def _chosen(data: Data) -> NDArray[np.intp]:
    counting = np.arange(data.n) if data.weights is None else np.flatnonzero(data.weights)
    return counting[:: -(-len(counting) // ROWS)]


def targets_beyond(run: Fit) -> tuple[float, float] | None:
    """The smallest and the largest target, where a part of them lies out of what the output can give."""
    low, high = activations.ROWS[run.model.activations[-1]].bounds
    if low == -high == -np.inf or losses.ROWS[run.model.loss].needed:  # whose targets are checked before a training
        return None
    Y = sample(run.data).target
    least, most = float(Y.min()), float(Y.max())
    if low <= least and most <= high:
        return None
    with np.errstate(all="ignore"):
        margin = SOME * (most - least)
        beyond = (low - margin > Y) | (high + margin < Y)
    return (least, most) if beyond.mean() > SOME else None


def stuck_output(run: Fit) -> float:
    """The share of outputs at an end of their range, where a good part of the rows should be at the other one; else 0.
    Where the slope of the output is no part of the gradient, it learns on."""
    row = activations.ROWS[run.model.activations[-1]]
    if row.ends is None or losses.ROWS[run.model.loss].needed:
        return 0.0
    low, high = row.ends
    rows = sample(run.data)
    P, Y = run.model.forward(rows.X)[-1], rows.target
    if low < P.min() and P.max() < high:
        return 0.0
    with np.errstate(all="ignore"):
        wrong = low < Y if row.dead else abs(P - Y) > (high - low) / 2
    return float(((low >= P) | (high <= P)).mean()) if wrong.any(axis=1).mean() >= WRONG else 0.0


@np.errstate(all="ignore")
def too_slow(run: Fit, history: History) -> float:
    """How many times as far as all of a training some trial steps go that lower its loss markedly; 0 where the loss has
    fallen, or falls ever more slowly, or there are no such steps, or the network has learned before.

    A network that has converged lies at the bottom of a valley, from where long steps lead up. The trial is made on a
    copy of the parameters.
    """
    loss, model, optimizer = history.loss, run.model, run.state.optimizer
    first, middle, last = float(loss[0]), float(loss[len(loss) // 2]), float(loss[-1])
    if history.epochs < MANY_EPOCHS or not 0 < FALLEN * first < last:
        return 0.0
    if middle - last < (first - middle) / 2 - 1e-9 * first:
        return 0.0
    penalized = any(run.plan.settings.get(name) for name in ("l1", "l2", "max_norm", "dropout"))
    if penalized or optimizer.keeps_steps or not hasattr(optimizer, "lr"):
        return 0.0
    settings = optimizer.settings()
    by_gradient = settings["method"] in ("sgd", "momentum")  # else steps have the length of the rate in each parameter
    chosen = _chosen(run.data)
    held = tried = run.data.rows(chosen)
    if len(chosen) < run.data.n:  # or the trial might learn these rows by heart
        tried, held = run.data.rows(chosen[::2]), run.data.rows(chosen[1::2])
    way = run.steps * float(history.lr.mean()) / (1 - settings.get("momentum", 0.0))
    if by_gradient and losses.ROWS[model.loss].adds_up:
        way *= min(run.plan.batch_size, run.data.n) / tried.n
    if _explained(run, held) > LEARNED:
        return 0.0
    params, gradient, unused = run.params.copy(), model.zeros(), model.zeros()
    start = lowest = float(model.engine.gradient(params, *held, unused))
    gone = 0.0
    for _ in range(STEPS):
        here = float(model.engine.gradient(params, *tried, gradient))
        squares = float(gradient @ gradient)
        if not (0 < squares < np.inf and 0 < here < np.inf):
            break
        steps = [length * here / (2 * squares) for length in LENGTHS]
        values = [float(model.engine.gradient(params - step * gradient, *held, unused)) for step in steps]
        best = int(np.argmin(np.nan_to_num(values, nan=np.inf)))
        if not values[best] < lowest:
            break
        lowest, params = values[best], params - steps[best] * gradient
        gone += steps[best] * (1.0 if by_gradient else float(abs(gradient).max()))
        if lowest <= LOWER * start and gone >= FAR * way:
            return float(gone / way) if way else np.inf
    return 0.0


def _explained(run: Fit, rows: Data) -> float:
    """The share of the variance of the targets, one-hot ones of labels, that the outputs explain."""
    P = run.model.forward(rows.X)[-1]
    Y: NDArray[Any] = np.eye(P.shape[1])[rows.labels] if rows.Y is None else rows.Y
    errors, spread = float(((Y - P) ** 2).sum()), float(((Y - Y.mean(axis=0)) ** 2).sum())
    return 1 - errors / spread if spread else 0.0
