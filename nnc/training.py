"""A run of training: from checked arrays through the compiled loop to a History."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._dispatch import cpu_count
from nnc._threads import Interrupt, Team

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLICE_SECONDS = 0.05  # Python gets control back about this often, however long or short an epoch is
METHODS = {
    "sgd": {"lr": 0.01},
    "momentum": {"lr": 0.01, "momentum": 0.9},
    "adam": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
}  # the optimizers, with the defaults of their constants
MOMENTS = {"sgd": 0, "momentum": 1, "adam": 2}


class DivergedError(ArithmeticError):
    """The loss or the weights stopped being finite. The network keeps the last finite weights.

    Attributes
    ----------
    history : History
        The epochs before.
    epoch : int
        The epoch, counted from 1, in which the loss or the weights stopped being finite.
    """

    def __init__(self, message: str, history: History, epoch: int) -> None:
        super().__init__(message)
        self.history = history
        self.epoch = epoch

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.history, self.epoch)


class History:
    """What a call of fit did.

    Attributes
    ----------
    loss : float64 array (epochs,)
        The training loss of every epoch. Each batch is taken before its step: so for the full batch it is the loss
        before the epoch's step; for mini-batches the losses of an epoch's batches are added up (sse, half_sse) or
        averaged over its rows (mse, bce, cross_entropy).
    epochs : int
        Epochs that were completed.
    seconds : float
        Wall time.
    stop_reason : str
        "epochs" (all done), "interrupt" (Ctrl-C) or "diverged" (in a DivergedError's history).
    """

    def __init__(self, loss: NDArray[np.float64], seconds: float, stop_reason: str) -> None:
        self.loss = loss
        self.seconds = seconds
        self.stop_reason = stop_reason

    @property
    def epochs(self) -> int:
        """Epochs that were completed."""
        return len(self.loss)

    def __repr__(self) -> str:
        last = f", loss {self.loss[0]:.6g} -> {self.loss[-1]:.6g}" if self.epochs else ""
        return f"<History: {self.epochs} epochs in {self.seconds:.3g} s{last}, stopped by {self.stop_reason}>"


def automatic_threads(work: float, batches: float) -> int:
    """How many threads pay: `work` is the multiply-adds of a batch, `batches` how many of them the run has.

    Two meetings of the threads cost about a microsecond a batch, and starting them some hundred: below, one thread is
    faster. The constants are measured (docs/design.md).
    """
    if work < 1_500_000 or work * batches < 50_000_000:
        return 1
    return min(cpu_count(), int(work // 750_000))


def train(
    engine: Any,
    core: Any,
    params: NDArray[Any],
    X: NDArray[Any],
    Y: NDArray[Any] | None,
    labels: NDArray[np.int32] | None,
    *,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    key: int,
    draws: int,
    method: str,
    constants: dict[str, float],
    n_threads: int | None,
) -> tuple[History, int]:
    """Trains `params` in place; returns the History and how many numbers of the shuffle stream have been used.

    Raises
    ------
    DivergedError
        The loss or the weights are no longer finite.
    """
    n = len(X)
    order = np.arange(n, dtype=np.int32) if shuffle and batch_size < n else None
    moments = np.zeros((MOMENTS[method], len(params)), params.dtype)
    losses = np.empty(epochs)
    work = 3.0 * len(params) * batch_size
    if n_threads is None:
        n_threads = automatic_threads(work, epochs * n / batch_size)
    start = perf_counter()
    with Interrupt() as interrupt, Team(n_threads) as team:
        run = core.Training(
            engine,
            params,
            X,
            Y,
            labels,
            losses,
            batch_size,
            order,
            key,
            draws,
            method,
            moments,
            **constants,
            threads=team.size,
            seconds=SLICE_SECONDS,
        )
        state = params, moments, order
        blocks = max(1, int(1e6 / (3 * len(params) * run.block)))  # a first guess; then what the clock says
        finite = True
        while not run.done and finite and not interrupt:
            saved = run.position, [None if part is None else part.copy() for part in state]
            began = perf_counter()
            run.resume()
            team.run(run.work, blocks if team.size == 1 else sys.maxsize)
            ratio = SLICE_SECONDS / max(perf_counter() - began, 1e-6)
            blocks = max(1, int(blocks * min(ratio, 8)))
            finite = not run.diverged and bool(np.isfinite(params).all())
        if not finite:
            what, epoch = ("loss", run.epoch) if run.diverged else ("weights", run.epoch + (run.position[1] > 0))
            complete = epoch - 1 if run.diverged or epoch > run.epoch else epoch
            _back_to_finite(run, state, saved, team, complete)
    if not finite:
        raise DivergedError(
            f"the {what} of epoch {epoch} {'is' if what == 'loss' else 'are'} not finite; the network keeps the last "
            f"finite weights. The learning rate of {constants['lr']:g} may be too large, or the inputs or targets need "
            "scaling.",
            History(losses[:complete], perf_counter() - start, "diverged"),
            epoch,
        )
    reason = "epochs" if run.done else "interrupt"
    return History(losses[: run.epoch], perf_counter() - start, reason), run.draws


def _back_to_finite(run: Any, state: tuple[Any, ...], saved: tuple[Any, list[Any]], team: Team, last: int) -> None:
    """Takes a diverged run back to the end of epoch `last`, or of the one before if its weights are not finite either.

    The weights are not copied every epoch, which would cost small networks as much as the training itself. They are
    copied once a slice, and since a run is the same to the last bit each time, it is repeated from there and stopped
    in time.
    """
    position, copies = saved
    for epoch in (last, last - 1, position[0]):
        run.position = position
        for part, copy in zip(state, copies, strict=True):
            if part is not None:
                part[...] = copy
        run.refresh()
        run.epochs = epoch
        while run.epoch < epoch:
            run.resume()
            team.run(run.work, sys.maxsize)
        if np.isfinite(state[0]).all():
            return
