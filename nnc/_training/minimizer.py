"""Interfaces of the parts of a training run.

A run (`TrainingLoop`) has a minimizer, which trains the network from epoch to epoch, and observers, which are called
between epochs. Minimizers are `FirstOrder` and `SecondOrder`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._team import Interrupt, Team
    from nnc._training.records import EpochRecords
    from nnc._training.state import TrainingState


class Minimizer(Protocol):
    """Optimizer of a run."""

    @property
    def model(self) -> Model:
        """Network in training, with the engine for the current rows."""

    @property
    def data(self) -> Data | None:
        """Training rows in memory: all rows, or one batch. None if the objective has no rows."""

    @property
    def training(self) -> Any:
        """Run of the compiled core; None before `start`, or without such a run."""

    @property
    def batch_size(self) -> int:
        """Number of rows in a step."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of an epoch whose learning rates may differ."""

    @property
    def is_plain(self) -> bool:
        """Return whether one call of `advance` may train several epochs."""

    @property
    def is_short(self) -> bool:
        """Return whether the run takes at most about a millisecond."""

    @property
    def reads_batches(self) -> bool:
        """Return whether `data` is a batch instead of all rows."""

    @property
    def epoch(self) -> int:
        """Number of complete epochs."""

    @property
    def n_threads(self) -> int:
        """Number of threads with which rows are evaluated."""

    @property
    def main_threads(self) -> int:
        """Number of threads that trained on most rows."""

    def max_threads(self) -> int:
        """Return the largest number of threads that may speed up the run."""

    def start(self, records: EpochRecords, interrupt: Interrupt | None, team: Team) -> None:
        """Prepare the run before its first epoch."""

    def advance(self, goal: int) -> str:
        """Train at most until epoch `goal` is complete; return the reason to end the run, or "".

        Raises
        ------
        NotFiniteError
            The loss or a parameter is no longer finite.
        """

    def save_progress(self) -> None:
        """Write counters and moments to the training state."""

    def restore(self) -> None:
        """Undo a trial step after an exception."""

    def change_objective(self) -> None:
        """Forget what was computed with the objective before its points changed."""

    def loss_rises(self) -> tuple[int, float]:
        """Return the number of consecutive epochs in which the loss has risen, and the loss before the rise."""

    def divergence_cause(self, max_abs_input: float) -> str:
        """Return a sentence about the most likely cause of a divergence."""

    def end(self) -> None:
        """Release what later runs can use."""


class Run(Protocol):
    """Run as its observers see it; `TrainingLoop` documents the members."""

    model: Model
    state: TrainingState
    records: EpochRecords
    minimizer: Minimizer
    evaluation: Evaluation | None
    params: NDArray[Any]

    @property
    def epoch(self) -> int:
        """Number of complete epochs of this fit."""

    def evaluate(self) -> None:
        """Compute the validation loss and the metrics, and append them to their columns."""

    def limit(self) -> str:
        """Return which limit ends the run, or ""."""

    def run_callbacks(self, epoch: int, is_best: bool, is_last: bool) -> bool:
        """Call the callbacks that are due; return whether one of them ends the training."""

    def save_best(self) -> None:
        """Copy the parameters, as those of the best epoch."""


class Observer(Protocol):
    """Observer of a run, which is called between epochs."""

    def next_check(self, epoch: int) -> int:
        """Return the epoch after `epoch` at which `check` has to be called."""

    def check(self, run: Run) -> str:
        """Observe the last epoch; return the reason to end the run, or "" to continue."""


class Evaluation(Protocol):
    """Evaluation of a network after each epoch."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the values that `evaluate` returns."""

    @property
    def outputs(self) -> Any:
        """Outputs of the last evaluation for the validation rows, or None."""

    def evaluate(self, team: Team, n_threads: int, interrupt: Interrupt | None) -> Sequence[float]:
        """Return the values of the columns; NaN if Ctrl-C has interrupted the evaluation."""
