"""Training loops of `Problem.fit`, with first-order and with second-order optimizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.data import Data
from nnc._training.dataset import Dataset
from nnc._training.loop import TrainingLoop
from nnc._training.second_order import SecondOrderRun
from nnc._utils import processors
from nnc._utils.checks import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nnc._training.curvature import Vector
    from nnc._training.history import History
    from nnc._training.options import TrainingOptions
    from nnc._training.state import TrainingState

MIN_JACOBIAN_ROWS = 128  # smallest number of Jacobian rows that are computed in one call of the core


class ProblemLoop(TrainingLoop):
    """Training run of one call of `Problem.fit` with an optimizer that has a learning rate. An epoch is one step.

    Parameters
    ----------
    problem : Problem
        Problem to train.
    options, state
        As in `TrainingLoop`.
    resample : dict of str to callable
        Function for each term whose points are replaced.
    validation : dict of str to array
        Points for each term at which the residual is evaluated after each epoch.
    """

    def __init__(
        self,
        problem: Any,
        options: TrainingOptions,
        state: TrainingState,
        resample: Mapping[str, Any],
        validation: Mapping[str, Any],
    ) -> None:
        model = problem.net.model
        row = [np.zeros((1, n), model.dtype) for n in (model.sizes[0], model.sizes[-1])]
        super().__init__(model, Dataset(problem.net.converter, Data(row[0], row[1])), options, state)
        self.problem, self.resample = problem, resample
        self.term_losses = np.empty((0, len(problem.terms)))
        self.validation = [problem.term(name).at(points) for name, points in validation.items()]
        self.settings["batch_size"] = sum(len(term.points) for term in problem.terms)
        self.last_resampled = 0  # epoch of this run after which points were last replaced
        if validation:
            self.is_plain, self.check_interval = False, 1
            self.records.columns["val_loss"] = []

    @property
    def is_short(self) -> bool:
        """Return False, so that short runs handle Ctrl-C too."""
        return False

    def max_threads(self) -> int:
        """Return the largest number of threads that may speed up the run."""
        useful: int = self.model.core.equation_parts(sum(len(term.X) for term in self.problem.terms))
        limit = self.options.n_threads or processors.get_num_threads()
        return max(1, min(useful, limit))

    def create_training(self, threads: int) -> None:
        """Create the run of the core, with memory for `threads` threads."""
        state, problem = self.state, self.problem
        self.n_threads_prepared = threads
        moments = state.moments if len(state.moments) else None
        settings = {**state.optimizer.core_settings(), **self.options.settings, **state.counters()}
        self.training = problem.core_training(moments, settings, threads)
        self.validation_training = None
        if self.validation:
            self.validation_training = problem.core_training(None, {"method": "sgd"}, 1, self.validation)
        state.current = self.current_history

    # ------------------------------------------------------------------------------------------ epochs

    def next_check(self) -> int:
        """Return the epoch at which the core returns to Python."""
        goal = min(super().next_check(), self.next_change())
        return min(goal, self.epoch + 1) if self.problem.has_functions else goal

    def next_change(self) -> int:
        """Return the next epoch of this run after which points are replaced."""
        epoch, first = self.epoch, self.records.earlier_epochs
        every = [getattr(function, "every", 1) for function in self.resample.values()]
        return min((epoch + n - (first + epoch) % n for n in every), default=MAX_COUNT)

    def set_goal(self, goal: int) -> None:
        """Set the epoch at which the core returns to Python, and update the linear approximations of residuals."""
        self.problem.refresh(self.training)
        self.reserve_term_losses(len(self.records.losses))
        self.training.set_term_losses(self.term_losses)
        super().set_goal(goal)

    def reserve_term_losses(self, n: int) -> None:
        """Enlarge the array of the losses of the terms to at least n epochs."""
        rows = len(self.term_losses)
        if n > rows:
            self.term_losses = np.pad(self.term_losses, ((0, max(n, 2 * rows) - rows), (0, 0)))

    def check_epoch(self) -> str:
        """Replace points and call the callbacks; return the reason to stop, or "" to continue."""
        self.replace_points()
        self.update_columns()
        return super().check_epoch()

    def update_columns(self) -> None:
        """Store the mean square of each term in the columns of the records."""
        for i, term in enumerate(self.problem.terms):
            self.records.columns[term.name] = self.term_losses[: self.epoch, i]  # type: ignore[assignment]

    def replace_points(self) -> None:
        """Replace the points of terms that are due for resampling after this epoch."""
        epoch, total = self.epoch, self.records.earlier_epochs + self.epoch
        due = {name: f for name, f in self.resample.items() if epoch and total % getattr(f, "every", 1) == 0}
        if not due or epoch == self.last_resampled:
            return
        self.last_resampled = epoch
        with self.model.snapshot_lock:
            for name, function in due.items():
                points = function(total, lambda points, name=name: self.problem.magnitude(points, name))
                if points is not None:
                    self.problem.term(name).replace_points(points)
            self.problem.set_terms(self.training, self.n_threads_prepared)

    def evaluate(self) -> None:
        """Compute the loss at the validation points, and record it in the column "val_loss"."""
        if self.validation_training is not None:
            self.problem.refresh(self.validation_training, self.validation)
            loss = self.validation_training.loss(np.empty(len(self.validation)))
            self.records.columns["val_loss"].append(loss)

    def history(self, reason: str) -> History:
        """Return the History of the complete epochs."""
        self.update_columns()
        return super().history(reason)

    def divergence_cause(self) -> str:
        """Return a sentence about the most likely cause of a divergence."""
        return (
            "The learning rate may be too large, or a residual is not finite at a point, for example because of a "
            "division by zero or a logarithm."
        )


class SecondOrderProblemLoop(SecondOrderRun, ProblemLoop):
    """Training run of one call of `Problem.fit` with L-BFGS or Levenberg-Marquardt. Coefficients are parameters, too.

    Attributes
    ----------
    evaluated : (array, array) or None
        Parameters of the last evaluation of the loss, and the losses of all terms.
    """

    evaluated: tuple[Vector, Vector] | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.prepare_iterations()

    # ------------------------------------------------------------------------------------------ parameters

    def all_params(self) -> Vector:
        """Return all parameters, and the coefficients."""
        return np.concatenate([self.model.params, self.problem.values], dtype=np.float64)

    def assign(self, params: Vector) -> None:
        """Set the trainable parameters and coefficients."""
        full, n = self.full_vector(params), self.model.n_params
        self.model.params = full[:n]
        self.problem.values[:] = full[n:]

    def clear_moments(self) -> None:
        """Set all curvature pairs to 0, also the parts of the coefficients."""
        super().clear_moments()
        self.problem.moments[...] = 0

    def write_moment(self, row: int, vector: Vector) -> None:
        """Store a vector of all parameters and coefficients in a row of the training state."""
        n = self.model.n_params
        super().write_moment(row, vector[:n])
        self.problem.moments[row, : len(vector) - n] = vector[n:]

    def read_moment(self, row: int) -> Vector:
        """Return a row of the training state as a vector of all parameters and coefficients."""
        own = self.problem.moments[row, : len(self.problem.values)]
        return np.concatenate([super().read_moment(row), own])

    # ------------------------------------------------------------------------------------------ objective

    def loss_before(self, params: Vector) -> float:
        """Return the loss with which the optimizer starts."""
        loss = super().loss_before(params)
        assert self.evaluated is not None
        self.previous_losses = self.evaluated[1]
        return loss

    def compute_loss(self, params: Vector) -> float:
        """Return the loss."""
        self.prepare_terms(params)
        losses = np.empty(len(self.problem.terms))
        loss = float(self.training.loss(losses))
        self.evaluated = params, losses
        return loss

    def objective(self, params: Vector, seeds: Vector | None = None) -> tuple[float, Vector]:
        """Return the loss and its gradient; with `seeds`, J' times the seeds in place of the gradient."""
        self.prepare_terms(params)
        losses, by_coefficients = np.empty(len(self.problem.terms)), np.empty(len(self.problem.values))
        flat = self.model.zeros()
        loss = self.training.loss(losses, flat, by_coefficients, seeds)
        self.evaluated = params, losses
        return loss, np.concatenate([self.model.pack(flat), by_coefficients], dtype=np.float64)[self.trainable]

    def prepare_terms(self, params: Vector) -> None:
        """Set the parameters, and update the linear approximations of residuals."""
        self.assign(params)
        self.problem.refresh(self.training)

    def least_squares(self, params: Vector) -> Iterator[tuple[Vector, Vector]]:
        """Yield the weighted residuals in blocks, each with its Jacobian (residuals, trainable numbers)."""
        self.prepare_terms(params)
        n = len(self.initial)
        for t, term in enumerate(self.problem.terms):
            rows = len(term.program.results) * term.lanes
            step = -(-MIN_JACOBIAN_ROWS // rows)
            for first in range(0, len(term.X), step):
                count = min(step, len(term.X) - first) * rows
                r, J = np.empty(count, self.model.dtype), np.empty((count, n), self.model.dtype)
                self.training.jacobian(t, first, r, J)
                yield r, J[:, self.trainable]

    def transposed_product(self, params: Vector, point: Vector) -> Vector:
        """Return J'r with the Jacobian at `params` and the residuals at `point`."""
        self.prepare_terms(point)
        seeds = [
            self.problem.residuals(self.training, t, term).reshape(len(term.X), -1, term.lanes)
            * np.sqrt(term.point_weights[:, None] * (term.factor / term.divisor))
            for t, term in enumerate(self.problem.terms)
        ]
        return self.objective(params, np.concatenate([rows.ravel() for rows in seeds]).astype(self.model.dtype))[1]

    def continue_after(self, epoch: int, loss: float, params: Vector, memory: Any) -> bool:
        """Record an iteration with the losses of the terms, and return whether the optimizer continues."""
        if self.evaluated is None or not np.array_equal(self.evaluated[0], params):
            self.compute_loss(params)
        assert self.evaluated is not None
        self.reserve_term_losses(epoch)
        self.term_losses[epoch - 1], self.previous_losses = self.previous_losses, self.evaluated[1]
        return super().continue_after(epoch, loss, params, memory)
