"""Objective of `Problem.fit`, the observer that replaces its points, and the evaluation at other points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._model.data import RunSettings
from nnc._training.second_order import Variables
from nnc._utils import processors
from nnc._utils.checks import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._team import Interrupt, Team
    from nnc._training.curvature import Vector
    from nnc._training.minimizer import Run
    from nnc._training.records import EpochRecords
    from nnc.pde.terms import Setting, Term

MIN_JACOBIAN_ROWS = 128  # smallest number of Jacobian rows that are computed in one call of the core


class Equations(NamedTuple):
    """Terms of a loss, with the network and the coefficients on which they depend.

    Attributes
    ----------
    model : Model
        Network.
    setting : Setting
        Inputs, coefficients and output transform of the problem.
    terms : sequence of Term
        Terms of the loss.
    coefficients : array (padded,)
        Values of the coefficients, padded to whole vectors.
    """

    model: Model
    setting: Setting
    terms: Sequence[Term]
    coefficients: NDArray[Any]

    @property
    def values(self) -> NDArray[Any]:
        """Values of the coefficients without padding, a view."""
        return self.coefficients[: len(self.setting.coefficients)]


class CoreTerms:
    """Run of the core on the terms of equations.

    Parameters
    ----------
    equations : Equations
        Terms, network and coefficients.
    moments : array (rows, padded), optional
        Moments of the optimizer for the coefficients.
    settings : RunSettings, optional
        Settings of the run. Default: a run that takes no steps.

    Attributes
    ----------
    training : core.EquationTraining
        Run of the core.
    """

    def __init__(
        self, equations: Equations, moments: NDArray[Any] | None = None, settings: RunSettings | None = None
    ) -> None:
        self.equations, model = equations, equations.model
        self.moments = np.zeros((0, len(equations.coefficients)), model.dtype) if moments is None else moments
        settings = RunSettings(1, {"method": "sgd"}) if settings is None else settings
        self.threads = settings.threads
        self.training = model.core.EquationTraining(model.engine, model.theta_view, None, settings)
        self.set_terms()

    def set_terms(self) -> None:
        """Set the terms of the run, or set them again after points were replaced."""
        equations = self.equations
        described = [term.core_term() for term in equations.terms]
        coefficients = equations.coefficients, len(equations.values)
        self.training.set_terms(described, coefficients, self.moments, self.threads)

    def refresh(self) -> None:
        """Linearize those residuals that the caller defines with `derivatives`, at the current parameters."""
        equations, setting = self.equations, self.equations.setting
        for t, term in enumerate(equations.terms):
            if term.definition.derivatives is not None:
                k = setting.n_out * len(term.program.channels)
                out = np.empty((len(term.X), k * term.lanes), equations.model.dtype)
                self.training.values(t, out, True)
                channels = term.from_blocks(out, k).reshape(setting.n_out, -1, len(term.points))
                term.refresh(channels, dict(zip(setting.coefficients, equations.values.tolist(), strict=True)))

    def residuals(self, t: int) -> NDArray[Any]:
        """Return the residuals of term number t as (blocks, n_results * lanes)."""
        term = self.equations.terms[t]
        out = np.empty((len(term.X), len(term.program.results) * term.lanes), self.equations.model.dtype)
        self.training.values(t, out)
        return out

    def losses(self) -> tuple[float, NDArray[np.float64]]:
        """Return the loss, and the mean square of each term."""
        losses = np.empty(len(self.equations.terms))
        return float(self.training.loss(losses)), losses


class EquationObjective:
    """Weighted sum of squares of the residuals of a problem, for first-order and second-order minimizers.

    With a second-order minimizer, the coefficients are variables like the parameters of the network.

    Parameters
    ----------
    equations : Equations
        Terms, network and coefficients.
    moments : array (rows, padded)
        Moments of the optimizer for the coefficients.

    Attributes
    ----------
    n : int
        Number of points.
    core : CoreTerms
        Terms in the run of the core, from the start on.
    training : core.EquationTraining or None
        Run of the core; None before the start.
    term_losses : array (epochs, terms)
        Mean square of each term in each epoch.
    evaluated : (array, array) or None
        Parameters of the last evaluation for a second-order minimizer, and the losses of all terms.
    """

    data = None
    core: CoreTerms
    training: Any = None
    evaluated: tuple[Vector, Vector] | None = None
    divergence_cause = (
        "The learning rate may be too large, or a residual is not finite at a point, for example because of a division "
        "by zero or a logarithm."
    )

    def __init__(self, equations: Equations, moments: NDArray[Any]) -> None:
        self.equations, self.moments = equations, moments
        self.model, self.terms = equations.model, equations.terms
        self.n = sum(len(term.points) for term in self.terms)
        self.variables = Variables(self.model, equations.values, moments)
        self.term_losses = np.empty((0, len(self.terms)))

    # ------------------------------------------------------------------------------------------ first-order minimizers

    def max_threads(self, n_threads: int | None) -> int:
        """Return the largest number of threads that may speed up the run."""
        useful: int = self.model.core.equation_parts(sum(len(term.X) for term in self.terms))
        return max(1, min(useful, n_threads or processors.get_num_threads()))

    def create_training(self, model: Model, data: Data | None, settings: RunSettings) -> Any:
        """Return a run of the core on the terms of the problem."""
        self.core = CoreTerms(self.equations, self.moments, settings)
        self.training = self.core.training
        return self.training

    def before_epochs(self, records: EpochRecords) -> None:
        """Update the linear approximations of residuals, and prepare memory for the losses of the terms."""
        self.core.refresh()
        self.reserve_term_losses(records, len(records.losses))
        self.training.set_term_losses(self.term_losses)

    def reserve_term_losses(self, records: EpochRecords, n: int) -> None:
        """Enlarge the array of the losses of the terms to at least n epochs, and make it columns of the records."""
        rows = len(self.term_losses)
        if n > rows:
            self.term_losses = np.pad(self.term_losses, ((0, max(n, 2 * rows) - rows), (0, 0)))
            for i, term in enumerate(self.terms):
                records.columns[term.name] = self.term_losses[:, i]

    # ------------------------------------------------------------------------------------------ second-order minimizers

    def start(self, records: EpochRecords) -> None:
        """Create the run of the core for evaluations on one thread."""
        self.records = records
        self.core = CoreTerms(self.equations)
        self.training = self.core.training
        self.reserve_term_losses(records, len(records.losses))

    def restart(self, params: Vector) -> None:
        """Store the losses of the terms before the next iteration."""
        self.previous_losses = self.losses_at(params)

    def record(self, epoch: int, params: Vector) -> None:
        """Record the losses of the terms before an accepted iteration."""
        self.reserve_term_losses(self.records, epoch)
        self.term_losses[epoch - 1], self.previous_losses = self.previous_losses, self.losses_at(params)

    def losses_at(self, params: Vector) -> Vector:
        """Return the losses of the terms, without another evaluation if the last one had these parameters."""
        if self.evaluated is None or not np.array_equal(self.evaluated[0], params):
            self.loss(params)
        assert self.evaluated is not None
        return self.evaluated[1]

    def prepare_terms(self, params: Vector) -> None:
        """Set the parameters, and update the linear approximations of residuals."""
        self.variables.assign(params)
        self.core.refresh()

    def loss(self, params: Vector) -> float:
        """Return the loss."""
        self.prepare_terms(params)
        loss, losses = self.core.losses()
        self.evaluated = params, losses
        return loss

    def loss_and_gradient(self, params: Vector, seeds: NDArray[Any] | None = None) -> tuple[float, Vector]:
        """Return the loss and its gradient; with `seeds`, J' times the seeds in place of the gradient."""
        self.prepare_terms(params)
        losses, by_coefficients = np.empty(len(self.terms)), np.empty(len(self.equations.values))
        flat = self.model.zeros()
        loss = self.training.loss(losses, flat, by_coefficients, seeds)
        self.evaluated = params, losses
        gradient = np.concatenate([self.model.pack(flat), by_coefficients], dtype=np.float64)
        return loss, gradient[self.variables.trainable]

    def least_squares(self, params: Vector) -> Iterator[tuple[Vector, Vector]]:
        """Yield the weighted residuals in blocks, each with its Jacobian (residuals, trainable numbers)."""
        self.prepare_terms(params)
        n = len(self.variables)
        for t, term in enumerate(self.terms):
            rows = len(term.program.results) * term.lanes
            step = -(-MIN_JACOBIAN_ROWS // rows)
            for first in range(0, len(term.X), step):
                count = min(step, len(term.X) - first) * rows
                r, J = np.empty(count, self.model.dtype), np.empty((count, n), self.model.dtype)
                self.training.jacobian(t, first, r, J)
                yield r, J[:, self.variables.trainable]

    def transposed_product(self, params: Vector, point: Vector) -> Vector:
        """Return J'r with the Jacobian at `params` and the residuals at `point`."""
        self.prepare_terms(point)
        seeds = [
            self.core.residuals(t).reshape(len(term.X), -1, term.lanes)
            * np.sqrt(term.point_weights[:, None] * (term.factor / term.divisor))
            for t, term in enumerate(self.terms)
        ]
        flat = np.concatenate([rows.ravel() for rows in seeds]).astype(self.model.dtype)
        return self.loss_and_gradient(params, flat)[1]


class PointObserver:
    """Observer that replaces points between epochs, and ends a call of the core where residuals must be linearized.

    Parameters
    ----------
    objective : EquationObjective
        Objective of the run.
    resample : dict of str to callable
        Function for each term whose points are replaced.
    magnitude : callable
        Function (points, name) that returns the absolute residual of a term.
    first : int
        Number of epochs before this run.
    """

    def __init__(
        self,
        objective: EquationObjective,
        resample: Mapping[str, Any],
        magnitude: Callable[[Any, str], NDArray[np.float64]],
        first: int,
    ) -> None:
        self.objective, self.resample, self.magnitude, self.first = objective, resample, magnitude, first
        self.has_functions = any(term.definition.derivatives is not None for term in objective.terms)
        self.last_epoch = 0  # epoch of this run after which points were last replaced

    def next_check(self, epoch: int) -> int:
        """Return the next epoch of this run after which points are replaced, or residuals are linearized."""
        every = [getattr(function, "every", 1) for function in self.resample.values()]
        goal = min((epoch + n - (self.first + epoch) % n for n in every), default=MAX_COUNT)
        return min(goal, epoch + 1) if self.has_functions else goal

    def check(self, run: Run) -> str:
        """Replace the points of terms that are due for resampling after this epoch."""
        epoch, total = run.epoch, self.first + run.epoch
        due = {name: f for name, f in self.resample.items() if epoch and total % getattr(f, "every", 1) == 0}
        if due and epoch != self.last_epoch:
            self.last_epoch = epoch
            terms = {term.name: term for term in self.objective.terms}
            with run.model.snapshot_lock:
                for name, function in due.items():
                    points = function(total, lambda points, name=name: self.magnitude(points, name))
                    if points is not None:
                        terms[name].replace_points(points)
                self.objective.core.set_terms()
            run.minimizer.change_objective()
        return ""


class PointEvaluation:
    """Evaluation of the loss at validation points, for the column "val_loss".

    Parameters
    ----------
    core : CoreTerms
        Terms at these points.
    """

    columns = ("val_loss",)
    outputs = None

    def __init__(self, core: CoreTerms) -> None:
        self.core = core

    def evaluate(self, team: Team, n_threads: int, interrupt: Interrupt | None) -> list[float]:
        """Return the loss at the validation points."""
        self.core.refresh()
        return [self.core.losses()[0]]
