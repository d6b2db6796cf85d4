"""Training loops of `Problem.fit`, with first-order and with second-order optimizers."""

from __future__ import annotations

from contextlib import nullcontext
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.data import Data
from nnc._registry.optimizers import LBFGS, LevenbergMarquardt
from nnc._team import Interrupt, Team
from nnc._training.curvature import lbfgs, levenberg_marquardt
from nnc._training.dataset import Dataset
from nnc._training.divergence import DivergedError
from nnc._training.loop import TrainingLoop
from nnc._training.threads import ThreadTuner
from nnc._utils import processors
from nnc._utils.checks import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from nnc._training.curvature import Vector
    from nnc._training.history import History
    from nnc._training.options import TrainingOptions
    from nnc._training.state import TrainingState
    from nnc.pde.terms import Term

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
        goal, epoch = super().next_check(), self.epoch
        if self.problem.has_functions:
            goal = min(goal, epoch + 1)
        for function in self.resample.values():
            every = getattr(function, "every", 1)
            goal = min(goal, epoch + every - (self.records.earlier_epochs + epoch) % every)
        return goal

    def set_goal(self, goal: int) -> None:
        """Set the epoch at which the core returns to Python, and update the linear approximations of residuals."""
        self.problem.refresh(self.training)
        n = len(self.records.losses)
        if n > len(self.term_losses):
            larger = np.empty((n, self.term_losses.shape[1]))
            larger[: len(self.term_losses)] = self.term_losses
            self.term_losses = larger
        self.training.set_term_losses(self.term_losses)
        super().set_goal(goal)

    def check_epoch(self) -> str:
        """Replace points and call the callbacks; return the reason to stop, or "" to continue."""
        self.replace_points()
        self.update_columns()
        return super().check_epoch()

    def update_columns(self) -> None:
        """Store the mean square of each term in the columns of the records."""
        for i, term in enumerate(self.problem.terms):
            self.records.columns[term.name] = self.term_losses[: self.epoch, i]  # type: ignore[assignment]

    def replace_points(self) -> bool:
        """Replace the points of terms that are due for resampling after this epoch; return whether there were any."""
        epoch, total = self.epoch, self.records.earlier_epochs + self.epoch
        due = {name: f for name, f in self.resample.items() if epoch and total % getattr(f, "every", 1) == 0}
        if not due or epoch == self.last_resampled:
            return False
        self.last_resampled = epoch
        with self.model.snapshot_lock:
            for name, function in due.items():
                points = function(total, lambda points, name=name: self.problem.magnitude(points, name))
                if points is not None:
                    self.problem.term(name).replace_points(points)
            self.problem.set_terms(self.training, self.n_threads_prepared)
        return True

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

    def raise_divergence(self) -> None:
        """Raise DivergedError after the core has computed numbers that are not finite."""
        epoch = self.epoch + 1
        layer = self.model.parametric_number(self.training.broken_layer)
        what = f"would make weights in layer {layer} infinite or NaN" if layer else "has a loss that is not finite"
        raise DivergedError(
            f"the step of epoch {epoch} {what}; the network keeps the last finite weights. {self.divergence_cause()}",
            self.history("diverged"),
            epoch,
            layer or None,
        )

    def divergence_cause(self) -> str:
        """Return a sentence about the most likely cause of a divergence."""
        return (
            "The learning rate may be too large, or a residual is not finite at a point, for example because of a "
            "division by zero or a logarithm."
        )


class SecondOrderProblemLoop(ProblemLoop):
    """Training run of one call of `Problem.fit` with L-BFGS or Levenberg-Marquardt, on one thread.

    Attributes
    ----------
    memory : float, list of pairs or None
        Damping factor of Levenberg-Marquardt, or the (step, gradient change) pairs of L-BFGS; None before the run.
    trainable : bool array
        Whether each parameter or coefficient is trained; parameters of frozen layers are not.
    evaluated : (array, array) or None
        Parameters of the last evaluation of the loss, and the losses of all terms.
    """

    memory: Any = None
    stop_reason = ""
    completed_epochs = 0
    evaluated: tuple[Vector, Vector] | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.is_plain, self.check_interval = False, 1
        layers = self.model.stack.parametric_layers
        trainable = [np.full(layer.kind.n_params(layer.input_shape), not layer.kind.frozen) for layer in layers]
        self.trainable = np.concatenate([*trainable, np.ones(len(self.problem.setting.coefficients), bool)])
        self.accepted: Vector | None = None

    @property
    def epoch(self) -> int:
        """Number of complete epochs."""
        return self.completed_epochs

    def max_threads(self) -> int:
        """Return 1: second-order methods run on one thread."""
        return 1

    def vector(self) -> Vector:
        """Return the trainable parameters and coefficients."""
        values: Vector = np.concatenate([self.model.params, self.problem.values], dtype=np.float64)[self.trainable]
        return values

    def full_vector(self, params: Vector, frozen: Vector) -> Vector:
        """Return all parameters and coefficients: `params` for the trainable ones, and the others from `frozen`."""
        full = frozen.copy()
        full[self.trainable] = params
        return full

    def assign(self, params: Vector) -> None:
        """Set the trainable parameters and coefficients."""
        full = self.full_vector(params, self.initial)
        n = self.model.n_params
        self.model.params = full[:n]
        self.problem.values[:] = full[n:]

    def run(self, interrupt: Interrupt | None = None) -> History:
        """Train, and return the History."""
        epochs = MAX_COUNT if self.options.epochs is None else self.options.epochs
        context = Interrupt() if interrupt is None else nullcontext(interrupt)
        with context as self.interrupt, processors.active_fits, Team(1) as self.team:
            self.tuner = ThreadTuner([1])
            self.create_training(1)
            try:
                self.initial = np.concatenate([self.model.params, self.problem.values], dtype=np.float64)
                self.accepted = self.vector()
                is_damped = isinstance(self.state.optimizer, LevenbergMarquardt)
                self.memory = self.state.optimizer.damping if is_damped else self.read_pairs()  # type: ignore[attr-defined]
                reason = ""
                while not reason:
                    goal = min(epochs, self.next_check_of_points())
                    reason = self.minimize(goal)
                    if reason == "epochs" and self.epoch < epochs:
                        reason = ""
                return self.finish(reason)
            except BaseException as error:
                if self.accepted is not None:
                    self.assign(self.accepted)
                self.fail(error)
                raise

    def next_check_of_points(self) -> int:
        """Return the epoch of this run after which points are replaced."""
        epoch, first = self.epoch, self.records.earlier_epochs
        every = [getattr(function, "every", 1) for function in self.resample.values()]
        return min((epoch + n - (first + epoch) % n for n in every), default=MAX_COUNT)

    def minimize(self, goal: int) -> str:
        """Run the optimizer up to epoch `goal` of this run, and return the reason for its end."""
        optimizer, start = self.state.optimizer, self.vector()
        first = self.completed_epochs
        settings: dict[str, Any] = {
            "epochs": goal - first,
            "dtype": self.model.dtype,
            "keep_going": lambda epoch, *rest: self.continue_after(first + epoch, *rest),
        }
        self.previous_loss = self.compute_loss(start)
        self.previous_losses = self.evaluated[1]  # type: ignore[index]
        if isinstance(optimizer, LevenbergMarquardt):
            result = levenberg_marquardt(
                self.least_squares,
                self.compute_loss,
                start,
                transposed_product=self.transposed_product,
                damping=self.memory,
                scaling=optimizer.scaling,
                **settings,
            )
        else:
            assert isinstance(optimizer, LBFGS)
            result = lbfgs(self.objective, start, history_size=optimizer.history_size, pairs=self.memory, **settings)
            self.memory = result.pairs
        self.assign(result.params)
        self.accepted = None if result.reason != "epochs" else result.params
        if result.reason == "diverged":
            self.raise_divergence()
        return self.stop_reason or result.reason

    # ------------------------------------------------------------------------------------------ objective

    def compute_loss(self, params: Vector) -> float:
        """Return the loss for the given trainable parameters and coefficients."""
        return self.objective(params, with_gradient=False)[0]

    def objective(self, params: Vector, with_gradient: bool = True, seeds: Any = None) -> tuple[float, Any]:
        """Return the loss and its gradient; with `seeds`, J' times the seeds in place of the gradient."""
        self.assign(params)
        self.problem.refresh(self.training)
        losses = np.empty(len(self.problem.terms))
        if not with_gradient:
            loss = self.training.loss(losses)
            self.evaluated = params, losses
            return loss, None
        flat, by_coefficients = self.model.zeros(), np.empty(len(self.problem.values))
        loss = self.training.loss(losses, flat, by_coefficients, seeds)
        self.evaluated = params, losses
        return loss, np.concatenate([self.model.pack(flat), by_coefficients], dtype=np.float64)[self.trainable]

    def least_squares(self, params: Vector) -> Iterator[tuple[Vector, Vector]]:
        """Yield the weighted residuals in blocks, each with its Jacobian (residuals, trainable numbers)."""
        self.assign(params)
        self.problem.refresh(self.training)
        n = len(self.initial)
        for t, term in enumerate(self.problem.terms):
            rows = len(term.program.results) * term.lanes
            step = -(-MIN_JACOBIAN_ROWS // rows)
            for first in range(0, len(term.X), step):
                count = min(step, len(term.X) - first) * rows
                r, J = np.empty(count, self.model.dtype), np.empty((count, n), self.model.dtype)
                self.training.jacobian(t, first, r, J)
                yield r, J if self.trainable.all() else J[:, self.trainable]

    def transposed_product(self, params: Vector, point: Vector) -> Vector:
        """Return J'r with the Jacobian at `params` and the residuals at `point`."""
        self.assign(point)
        self.problem.refresh(self.training)
        seeds = [
            self.residuals(t, term).reshape(len(term.X), -1, term.lanes)
            * np.sqrt(term.point_weights[:, None] * (term.factor / len(term.points)))
            for t, term in enumerate(self.problem.terms)
        ]
        flat = np.concatenate([rows.ravel() for rows in seeds]).astype(self.model.dtype)
        product: Vector = self.objective(params, seeds=flat)[1]
        return product

    def residuals(self, t: int, term: Term) -> NDArray[Any]:
        """Return the residuals of a term as (blocks, n_results * lanes)."""
        out = np.empty((len(term.X), len(term.program.results) * term.lanes), self.model.dtype)
        self.training.values(t, out)
        return out

    # ------------------------------------------------------------------------------------------ after an iteration

    def continue_after(self, epoch: int, loss: float, params: Vector, memory: Any) -> bool:
        """Record an iteration, and return whether the optimizer continues."""
        records = self.records
        if self.evaluated is None or not np.array_equal(self.evaluated[0], params):
            self.compute_loss(params)
        assert self.evaluated is not None
        records.plan(self.completed_epochs, epoch)
        if epoch > len(self.term_losses):
            larger = np.empty((len(records.losses), self.term_losses.shape[1]))
            larger[: len(self.term_losses)] = self.term_losses
            self.term_losses = larger
        with self.model.snapshot_lock:
            records.losses[epoch - 1], self.previous_loss = self.previous_loss, loss
            self.term_losses[epoch - 1], self.previous_losses = self.previous_losses, self.evaluated[1]
            self.completed_epochs, self.memory = epoch, memory
            self.assign(params)
            records.time_points.append((epoch, perf_counter() - records.start_time))
        self.accepted = None
        self.stop_reason = self.check_epoch()
        self.accepted = params
        return not self.stop_reason

    def save_progress(self) -> None:
        """Update the training state for checkpoints."""
        with self.model.snapshot_lock:
            super().save_progress()
            if self.memory is None:
                return
            if isinstance(self.state.optimizer, LevenbergMarquardt):
                self.state.optimizer = self.state.optimizer.replace(damping=self.memory)
                return
            moments, own = self.state.moments, self.problem.moments
            moments[...], own[...], n = 0, 0, self.model.n_params
            halves = zip(np.split(moments, 2), np.split(own, 2), zip(*self.memory, strict=True), strict=False)
            for rows, own_rows, vectors in halves:
                for row, own_row, vector in zip(rows, own_rows, vectors, strict=False):
                    full = self.full_vector(vector, np.zeros_like(self.initial))
                    self.model.unpack(full[:n], row)
                    own_row[: len(full) - n] = full[n:]

    def read_pairs(self) -> list[tuple[Vector, Vector]]:
        """Return the (step, gradient change) pairs of L-BFGS that `save_progress` has stored."""
        k = len(self.problem.values)
        flat = [
            np.concatenate([self.model.pack(row), own[:k]], dtype=np.float64)[self.trainable]
            for row, own in zip(self.state.moments, self.problem.moments, strict=True)
        ]
        return list(zip(flat[: len(flat) // 2], flat[len(flat) // 2 :], strict=True))
