"""Minimizers that use the curvature of the loss: L-BFGS and Levenberg-Marquardt, with all rows in each iteration."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nnc._model.channels import Channels
from nnc._model.custom import LeastSquares
from nnc._registry import losses
from nnc._training.curvature import lbfgs, levenberg_marquardt
from nnc._training.divergence import NotFiniteError, scaling_advice
from nnc._utils.arrays import as_contiguous

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._team import Interrupt, Team
    from nnc._training.curvature import Iterations, Pair, Result, Vector
    from nnc._training.options import TrainingOptions
    from nnc._training.records import EpochRecords
    from nnc._training.state import TrainingState

MAX_JACOBIAN_NUMBERS = 1_000_000  # maximum number of elements of a block of rows of the Jacobian


class SmoothObjective(Protocol):
    """Objective of a second-order minimizer."""

    @property
    def variables(self) -> Variables:
        """Numbers that the minimizer changes."""

    @property
    def data(self) -> Data | None:
        """Rows of the objective, or None."""

    @property
    def n(self) -> int:
        """Number of rows or points."""

    @property
    def training(self) -> Any:
        """Run of the core that the objective uses, or None."""

    @property
    def divergence_cause(self) -> str:
        """Sentence about the most likely cause of a divergence; "" if it is that of a network."""

    def start(self, records: EpochRecords) -> None:
        """Prepare the first evaluation."""

    def loss(self, params: Vector) -> float:
        """Return the loss for the given values of the trainable parameters; NaN if residuals are not finite."""

    def loss_and_gradient(self, params: Vector) -> tuple[float, Vector]:
        """Return the loss and its gradient with respect to the trainable parameters."""

    def least_squares(self, params: Vector) -> Iterator[tuple[Vector, Vector]]:
        """Yield residuals and their Jacobian with respect to the trainable parameters, for blocks of rows."""

    def transposed_product(self, params: Vector, point: Vector) -> Vector:
        """Return J'r with the Jacobian at `params` and the residuals at `point`."""

    def restart(self, params: Vector) -> None:
        """Prepare iterations from these parameters on, whose loss was just computed."""

    def record(self, epoch: int, params: Vector) -> None:
        """Record an accepted iteration with these parameters, besides its loss."""


class Variables:
    """Trainable parameters of a network, and coefficients of equations, as one float64 vector.

    Parameters
    ----------
    model : Model
        Network.
    coefficients : array (k,), optional
        Coefficients, which are assigned in place.
    moments : array (rows, at least k), optional
        Rows of the training state for the coefficients.

    Attributes
    ----------
    initial : array (n + k,)
        All parameters and coefficients at first.
    trainable : slice or bool array (n + k,)
        Parameters of layers that are not frozen, and all coefficients.
    """

    def __init__(
        self, model: Model, coefficients: NDArray[Any] | None = None, moments: NDArray[Any] | None = None
    ) -> None:
        self.model, self.moments = model, moments
        self.coefficients = np.empty(0) if coefficients is None else coefficients
        self.initial = np.concatenate([model.params, self.coefficients], dtype=np.float64)
        self.trainable: Any = slice(None)
        if model.frozen:
            layers = model.stack.parametric_layers
            parts = [np.full(layer.kind.n_params(layer.input_shape), not layer.kind.frozen) for layer in layers]
            self.trainable = np.concatenate([*parts, np.ones(len(self.coefficients), bool)])

    def __len__(self) -> int:
        """Return the number of parameters and coefficients, with those of frozen layers."""
        return len(self.initial)

    def assign(self, params: Vector) -> None:
        """Set the trainable parameters and the coefficients."""
        full, n = self.full_vector(params, self.initial), self.model.n_params
        self.model.params = full[:n]
        self.coefficients[:] = full[n:]

    def full_vector(self, params: Vector, others: Vector) -> Vector:
        """Return a vector of all parameters and coefficients, in which those of frozen layers are from `others`."""
        if isinstance(self.trainable, slice):
            return params
        vector = others.copy()
        vector[self.trainable] = params
        return vector

    def write(self, moments: NDArray[Any], rows: dict[int, Vector]) -> None:
        """Store vectors of trainable parameters in rows of the moments of the training state; clear other rows."""
        n = self.model.n_params
        moments[...] = 0
        if self.moments is not None:
            self.moments[...] = 0
        for row, values in rows.items():
            vector = self.full_vector(values, np.zeros(len(self)))
            self.model.unpack(vector[:n], moments[row])
            if self.moments is not None:
                self.moments[row, : len(vector) - n] = vector[n:]

    def read(self, moments: NDArray[Any], row: int) -> Vector:
        """Return the vector of trainable parameters that `write` has stored in a row."""
        own = self.coefficients[:0] if self.moments is None else self.moments[row, : len(self.coefficients)]
        vector: Vector = np.concatenate([self.model.pack(moments[row]), own], dtype=np.float64)[self.trainable]
        return vector


class SecondOrder:
    """Minimizer of a run with L-BFGS or Levenberg-Marquardt, on one thread. An epoch is one iteration.

    Parameters
    ----------
    model : Model
        Network to train.
    objective : SmoothObjective
        Loss, gradient and residuals.
    options, state
        As in `TrainingLoop`.

    Attributes
    ----------
    epoch : int
        Number of complete epochs.
    iterations : generator or None
        Optimizer; None before the first iteration and after the objective has changed.
    previous_loss : float
        Loss before the next iteration.
    memory : float, list of pairs or None
        Damping of Levenberg-Marquardt, or pairs (step, change of the gradient) of L-BFGS; None before the run.
    accepted : array
        Trainable parameters after the last iteration.
    is_trying : bool
        Whether the network may have the parameters of a trial step.
    """

    is_plain = is_short = reads_batches = False
    steps_per_epoch = n_threads = main_threads = 1
    epoch = 0
    iterations: Iterations | None = None
    previous_loss = math.nan
    memory: Any = None
    accepted: Vector
    is_trying = False
    records: EpochRecords

    def __init__(
        self, model: Model, objective: SmoothObjective, options: TrainingOptions, state: TrainingState
    ) -> None:
        model.check_parameters()
        self.model, self.objective, self.options, self.state = model, objective, options, state
        self.data, self.batch_size = objective.data, objective.n

    @property
    def training(self) -> Any:
        """Run of the core that the objective uses, or None."""
        return self.objective.training

    def max_threads(self) -> int:
        """Return 1, because iterations use one thread."""
        return 1

    def start(self, records: EpochRecords, interrupt: Interrupt | None, team: Team) -> None:
        """Prepare the first iteration."""
        self.records, variables = records, self.objective.variables
        self.objective.start(records)
        self.accepted = variables.initial[variables.trainable]

    def advance(self, goal: int) -> str:
        """Take one iteration; return the reason to end the run, or ""."""
        self.is_trying = True
        if self.iterations is None:
            self.iterations = self.begin()
        try:
            _, loss, params, memory = next(self.iterations)
        except StopIteration as end:
            return self.finish(end.value)
        records, epoch = self.records, self.epoch + 1
        self.objective.record(epoch, params)
        with self.model.snapshot_lock:
            records.losses[epoch - 1], self.previous_loss = self.previous_loss, loss
            self.epoch, self.memory, self.accepted = epoch, memory, params
            self.objective.variables.assign(params)
            records.add_time(epoch, perf_counter())
        self.is_trying = False
        return ""

    def begin(self) -> Iterations:
        """Return the iterations of the optimizer from the current parameters on."""
        objective, state, start = self.objective, self.state, self.accepted
        optimizer: Any = state.optimizer
        if self.memory is None:
            self.memory = self.read_pairs() if state.damping is None else state.damping
        self.previous_loss = objective.loss(start) if optimizer.least_squares else objective.loss_and_gradient(start)[0]
        objective.restart(start)
        epochs = self.options.max_epochs - self.epoch
        if optimizer.least_squares:
            return levenberg_marquardt(
                objective.least_squares,
                objective.loss,
                start,
                transposed_product=objective.transposed_product,
                epochs=epochs,
                damping=self.memory,
                scaling=optimizer.scaling,
                dtype=self.model.dtype,
            )
        return lbfgs(
            objective.loss_and_gradient,
            start,
            epochs=epochs,
            history_size=optimizer.history_size,
            pairs=self.memory,
            dtype=self.model.dtype,
        )

    def finish(self, result: Result) -> str:
        """Assign the parameters of an optimizer that has ended, and return its reason."""
        self.objective.variables.assign(result.params)
        if result.pairs is not None:
            self.memory = result.pairs
        self.is_trying = False
        if result.reason == "diverged":
            raise NotFiniteError(None if self.data is None else self.data.X)
        return result.reason

    def restore(self) -> None:
        """Assign the parameters of the last iteration after an exception in a trial step."""
        if self.is_trying:
            self.objective.variables.assign(self.accepted)

    def change_objective(self) -> None:
        """Start the optimizer anew, with its damping or its pairs."""
        self.iterations = None

    def end(self) -> None:
        """Do nothing, because later runs use nothing of this one."""

    def loss_rises(self) -> tuple[int, float]:
        """Return (0, loss), because the loss never rises."""
        return 0, self.previous_loss

    def divergence_cause(self, max_abs_input: float) -> str:
        """Return a sentence about the most likely cause of a divergence."""
        return self.objective.divergence_cause or f"Probably {scaling_advice(max_abs_input)}."

    def save_progress(self) -> None:
        """Store the damping or the curvature pairs in the training state."""
        if self.memory is None:  # an error occurred before the first iteration, so there is nothing to save
            return
        if self.state.damping is not None:
            self.state.damping = self.memory
            return
        moments = self.state.moments
        vectors = {i + k * (len(moments) // 2): pair[k] for i, pair in enumerate(self.memory) for k in (0, 1)}
        self.objective.variables.write(moments, vectors)

    def read_pairs(self) -> list[Pair]:
        """Return the curvature pairs that `save_progress` has stored. L-BFGS ignores unused pairs, which are zero."""
        moments = self.state.moments
        vectors = [self.objective.variables.read(moments, row) for row in range(len(moments))]
        return list(zip(vectors[: len(vectors) // 2], vectors[len(vectors) // 2 :], strict=True))


class NetworkObjective:
    """Loss of a network on all rows, for a second-order minimizer.

    Parameters
    ----------
    model : Model
        Network to train.
    data : Data
        Training rows.
    l2 : float
        L2 penalty.
    penalizes_biases : bool
        Whether the penalty includes the biases.

    Attributes
    ----------
    total_weight : float
        Sum of the sample weights.
    root_l2 : float
        Factor of the parameters in the residuals that represent the L2 penalty for Levenberg-Marquardt.
    channels : Channels or None
        Outputs and first derivatives, if the targets include derivatives.
    least_squares_loss : LeastSquares or None
        The custom loss, if it has residuals.
    penalized : bool array
        Trainable parameters to which `l2` applies.
    """

    training = None
    divergence_cause = ""

    def __init__(self, model: Model, data: Data, l2: float, penalizes_biases: bool) -> None:
        self.model, self.data, self.n, self.l2, self.variables = model, data, data.n, l2, Variables(model)
        function, loss = None if model.custom is None else model.custom.function, losses.ROWS[model.loss]
        self.least_squares_loss = function if isinstance(function, LeastSquares) else None
        self.channels = None if model.slope_weight is None else Channels(range(model.sizes[0]))
        self.total_weight = data.total_weight
        scale = 1.0
        if loss.squared_error_factor:
            n_residuals = self.total_weight * model.sizes[-1]
            scale = loss.squared_error_factor * n_residuals / loss.divisor(self.total_weight, model.sizes[-1])
        self.root_l2 = math.sqrt(l2 / (2 * scale))
        self.penalized = np.concatenate(
            [
                np.full(part.size, (name == "W" and not layer.kind.columnwise) or penalizes_biases)
                for layer, *parts in zip(model.stack.parametric_layers, model.W, model.b, strict=True)
                for name, part in zip("Wb", parts, strict=True)
                if part is not None
            ]
        )[self.variables.trainable]

    def start(self, records: EpochRecords) -> None:
        """Do nothing, because the constructor has prepared everything."""

    def restart(self, params: Vector) -> None:
        """Do nothing, because iterations depend only on the parameters."""

    def record(self, epoch: int, params: Vector) -> None:
        """Do nothing, because there is only one loss."""

    def loss(self, params: Vector) -> float:
        """Return the loss, including the penalty, for the given values of the trainable parameters.

        The result is NaN if the residuals of a custom loss are not finite.
        """
        model, data = self.model, self.data
        self.variables.assign(params)
        if model.custom is None:
            return model.compute_loss(data) + self.penalty(params)
        return model.custom.value_of_rows(model.engine_outputs(data), data) + self.penalty(params)

    def penalty(self, params: Vector) -> float:
        """Return the L2 penalty."""
        return 0.5 * self.l2 * float(params[self.penalized] @ params[self.penalized]) if self.l2 else 0.0

    def loss_and_gradient(self, params: Vector) -> tuple[float, Vector]:
        """Return the loss and its gradient, both including the penalty."""
        self.variables.assign(params)
        loss, gradient = self.model.loss_and_gradient(self.data)
        return loss + self.penalty(params), gradient[self.variables.trainable] + self.l2 * self.penalized * params

    def least_squares(self, params: Vector) -> Iterator[tuple[Vector, Vector]]:
        """Yield residuals and their Jacobian with respect to the trainable parameters, for blocks of rows.

        Residuals are divided by the square root of their number, so that the damping does not depend on it.
        """
        model, n_out = self.model, self.model.sizes[-1]
        self.variables.assign(params)
        n_channels = 1 if self.channels is None else self.channels.count
        count = max(1, MAX_JACOBIAN_NUMBERS // (n_out * n_channels * model.n_params))
        for start in range(0, self.data.n, count):
            rows = self.data.rows(slice(start, start + count))
            P, J = self.outputs_and_jacobian(rows)
            r, D = self.residuals(P, rows)
            J = J * D[..., None] if D.ndim == 2 else np.einsum("imk,ikp->imp", D, J)
            yield r.ravel(), J.reshape(-1, model.n_params)[:, self.variables.trainable]
        if self.l2:  # represent the penalty by residuals, whose squares add up to its value
            yield self.root_l2 * params[self.penalized], self.root_l2 * np.eye(len(params))[self.penalized]

    def residuals(self, P: NDArray[Any], rows: Data) -> tuple[Vector, Vector]:
        """Return the residuals of rows with outputs P, and their derivatives with respect to P.

        The derivatives have the shape (n, m, n_out) for m residuals per row. The shape is (n, 1) if there is one
        residual per output, whose derivative is the same for all outputs of a row.
        """
        if self.channels is not None:
            return self.slope_residuals(P, rows)
        assert rows.Y is not None
        if self.least_squares_loss is not None:
            R, dR = self.least_squares_loss.residuals(P, rows.Y, rows.residual_weights)
            factor = 1 / math.sqrt(self.data.n * R.shape[1])
            return R * factor, dR * factor
        D = np.full((len(P), 1), 1 / math.sqrt(self.total_weight * P.shape[1]))
        if rows.weights is not None:
            D *= np.sqrt(rows.weights[:, None].astype(np.float64))
        return (P - rows.Y) * D, D

    def outputs_and_jacobian(self, rows: Data) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return outputs (n, k) and their Jacobian (n, k, n_params); with dY, the derivatives count as outputs."""
        if self.channels is None:
            return self.model.jacobian(rows)
        U, J = self.channels.jacobian(self.model, rows)
        return U.reshape(rows.n, -1), J.reshape(rows.n, -1, self.model.n_params)

    def slope_residuals(self, U: NDArray[Any], rows: Data) -> tuple[Vector, Vector]:
        """Return the residuals of outputs and derivatives U (n, n_out * (1 + n_in)), and d residuals / d U."""
        model = self.model
        n_out, n_in = model.sizes[-1], model.sizes[0]
        assert model.slope_weight is not None
        assert rows.Y is not None
        assert rows.dY is not None
        D = np.full((n_out, 1 + n_in), math.sqrt(model.slope_weight / (n_in * self.total_weight * n_out)))
        D[:, 0] = 1 / math.sqrt(self.total_weight * n_out)
        targets = np.concatenate([rows.Y[:, :, None], rows.dY.reshape(-1, n_out, n_in)], axis=2).reshape(rows.n, -1)
        factors = np.where(np.isnan(targets), 0.0, D.ravel())
        if rows.weights is not None:
            factors *= np.sqrt(rows.weights[:, None].astype(np.float64))
        return (U - np.nan_to_num(targets, nan=0.0)) * factors, factors

    def transposed_product(self, params: Vector, point: Vector) -> Vector:
        """Return J'r with the Jacobian at `params` and the residuals at `point`, both without frozen parameters.

        All elements are NaN if the outputs at `point` are not finite.
        """
        model = self.model
        full = self.variables.full_vector(point, self.variables.initial)
        model.params = as_contiguous(full, model.dtype)  # the conversion may overflow in float32
        P = self.outputs()
        if not np.isfinite(P).all():  # do not call the function of a custom loss with infinite or NaN outputs
            return np.full(len(params), np.nan)
        r, D = self.residuals(P, self.data)
        self.variables.assign(params)
        if D.ndim == 3:
            D = self.residuals(model.engine_outputs(self.data), self.data)[1]
        dP = as_contiguous(r * D if D.ndim == 2 else np.einsum("im,imk->ik", r, D), model.dtype)
        if self.channels is None:
            flat = model.zeros()
            model.output_gradient_engine.gradient(model.theta_view, self.data.with_output_gradient(dP), flat)
            gradient = model.pack(flat)
        else:
            gradient = self.channels.gradient(model, self.data, dP.reshape(len(dP), model.sizes[-1], -1))
        product: Vector = gradient[self.variables.trainable].astype(np.float64)
        return product + self.root_l2**2 * self.penalized * point if self.l2 else product

    def outputs(self) -> NDArray[Any]:
        """Return the outputs for all rows; with dY, the outputs and their derivatives (n, n_out * (1 + n_in))."""
        if self.channels is None:
            return self.model.engine_outputs(self.data)
        return self.channels.compute(self.model, self.data).reshape(self.data.n, -1)
