"""Training with L-BFGS or Levenberg-Marquardt, which use all rows in each iteration."""

from __future__ import annotations

import math
from abc import abstractmethod
from contextlib import nullcontext
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.channels import Channels
from nnc._model.custom import LeastSquares
from nnc._registry import losses
from nnc._registry.optimizers import LBFGS, LevenbergMarquardt
from nnc._team import Interrupt, Team
from nnc._training.curvature import lbfgs, levenberg_marquardt
from nnc._training.divergence import scaling_advice
from nnc._training.loop import TrainingLoop
from nnc._training.threads import ThreadTuner
from nnc._utils import processors
from nnc._utils.arrays import as_contiguous
from nnc._utils.checks import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nnc._model.model import Model
    from nnc._training.curvature import Pair, Vector
    from nnc._training.dataset import Dataset
    from nnc._training.history import History
    from nnc._training.options import TrainingOptions
    from nnc._training.state import TrainingState

MAX_JACOBIAN_NUMBERS = 1_000_000  # maximum number of elements of a block of rows of the Jacobian


class SecondOrderRun(TrainingLoop):
    """Training run with L-BFGS or Levenberg-Marquardt, on one thread. Subclasses define the objective.

    Attributes
    ----------
    completed_epochs : int
        Number of complete epochs, which are iterations of the optimizer.
    stop_reason : str
        Why `check_epoch` ended the run, or "".
    previous_loss : float
        Loss before the current epoch.
    memory : float, list of pairs or None
        Damping of Levenberg-Marquardt, or pairs (step, change of the gradient) of L-BFGS; None before the run.
    initial : array (n,)
        All parameters before the run.
    trainable : slice or bool array (n,)
        Parameters of layers that are not frozen.
    accepted : array or None
        Trainable parameters of the last iteration, which an exception in a trial step restores; None while callbacks
        may change the parameters.
    """

    completed_epochs = 0
    stop_reason = ""
    previous_loss = math.nan
    memory: Any = None
    initial: Vector
    trainable: Any
    accepted: Vector | None = None

    def prepare_iterations(self) -> None:
        """Prepare the run, after the constructor of TrainingLoop."""
        self.is_plain, self.check_interval = False, 1
        self.trainable = slice(None)
        if self.model.frozen:
            layers = self.model.stack.parametric_layers
            parts = [np.full(layer.kind.n_params(layer.input_shape), not layer.kind.frozen) for layer in layers]
            others = len(self.all_params()) - self.model.n_params
            self.trainable = np.concatenate([*parts, np.ones(others, bool)])

    @property
    def epoch(self) -> int:
        return self.completed_epochs

    def run(self, interrupt: Interrupt | None = None) -> History:
        epochs = MAX_COUNT if self.options.epochs is None else self.options.epochs
        context = Interrupt() if interrupt is None else nullcontext(interrupt)
        with context as self.interrupt, processors.active_fits, Team(1) as self.team:
            self.tuner = ThreadTuner([1])
            self.create_training(1)
            try:
                self.initial = self.all_params()
                self.accepted = self.initial[self.trainable]
                self.memory = self.read_pairs() if self.state.damping is None else self.state.damping
                reason = ""
                while not reason:
                    reason = self.minimize(min(epochs, self.next_change()))
                    if reason == "epochs" and self.epoch < epochs:
                        reason = ""
                self.accepted = None
                return self.finish(reason)
            except BaseException as error:
                if self.accepted is not None:
                    self.assign(self.accepted)
                self.fail(error)
                raise

    def minimize(self, goal: int) -> str:
        """Run the optimizer until epoch `goal`, and return why it ended."""
        optimizer, start, first = self.state.optimizer, self.accepted, self.completed_epochs
        assert start is not None
        self.previous_loss = self.loss_before(start)
        settings: dict[str, Any] = {
            "epochs": goal - first,
            "dtype": self.model.dtype,
            "keep_going": lambda epoch, *rest: self.continue_after(first + epoch, *rest),
        }
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
        self.accepted = result.params if result.reason == "epochs" else None
        if result.reason == "diverged":
            self.raise_divergence()
        return self.stop_reason or result.reason

    def continue_after(self, epoch: int, loss: float, params: Vector, memory: float | list[Pair]) -> bool:
        """Record an iteration, and return whether the optimizer continues."""
        records = self.records
        records.plan(self.completed_epochs, epoch)
        with self.model.snapshot_lock:
            records.losses[epoch - 1], self.previous_loss = self.previous_loss, loss
            self.completed_epochs, self.memory = epoch, memory
            self.assign(params)
            records.time_points.append((epoch, perf_counter() - records.start_time))
        self.accepted = None
        self.stop_reason = self.check_epoch()
        self.accepted = params
        return not self.stop_reason

    # ------------------------------------------------------------------------------------------ objective

    def loss_before(self, params: Vector) -> float:
        """Return the loss for the parameters with which the optimizer starts."""
        is_damped = isinstance(self.state.optimizer, LevenbergMarquardt)
        return self.compute_loss(params) if is_damped else self.objective(params)[0]

    @abstractmethod
    def compute_loss(self, params: Vector) -> float:
        """Return the loss for the given values of the trainable parameters; NaN if residuals are not finite."""

    @abstractmethod
    def objective(self, params: Vector) -> tuple[float, Vector]:
        """Return the loss and its gradient with respect to the trainable parameters."""

    @abstractmethod
    def least_squares(self, params: Vector) -> Iterator[tuple[Vector, Vector]]:
        """Yield residuals and their Jacobian with respect to the trainable parameters, for blocks of rows."""

    @abstractmethod
    def transposed_product(self, params: Vector, point: Vector) -> Vector:
        """Return J'r with the Jacobian at `params` and the residuals at `point`."""

    # ------------------------------------------------------------------------------------------ parameters

    def all_params(self) -> Vector:
        """Return all parameters, also those of frozen layers."""
        return self.model.params.astype(np.float64)

    def assign(self, params: Vector) -> None:
        """Set the trainable parameters."""
        self.model.params = self.full_vector(params)

    def full_vector(self, params: Vector, frozen: float | None = None) -> Vector:
        """Return a vector of all parameters, in which the trainable parameters have the values `params`.

        The other parameters have their initial values, or the value `frozen` if it is given.
        """
        if isinstance(self.trainable, slice):
            return params
        vector = self.initial.copy() if frozen is None else np.full(len(self.initial), frozen)
        vector[self.trainable] = params
        return vector

    # ------------------------------------------------------------------------------------------ training state

    def save_progress(self) -> None:
        with self.model.snapshot_lock:
            super().save_progress()
            if self.memory is None:  # no iteration is complete, so there is nothing to save
                return
            if self.state.damping is not None:
                self.state.damping = self.memory
                return
            self.clear_moments()
            half = len(self.state.moments) // 2
            for i, pair in enumerate(self.memory):
                for row, vector in zip((i, half + i), pair, strict=True):
                    self.write_moment(row, self.full_vector(vector, frozen=0.0))

    def read_pairs(self) -> list[Pair]:
        """Return the curvature pairs that `save_progress` has stored. L-BFGS ignores unused pairs, which are zero."""
        n = len(self.state.moments)
        vectors = [self.read_moment(row)[self.trainable] for row in range(n)]
        return list(zip(vectors[: n // 2], vectors[n // 2 :], strict=True))

    def clear_moments(self) -> None:
        """Set all curvature pairs to 0, because L-BFGS may have fewer pairs than before."""
        self.state.moments[...] = 0

    def write_moment(self, row: int, vector: Vector) -> None:
        """Store a vector of all parameters in a row of the training state."""
        self.model.unpack(vector, self.state.moments[row])

    def read_moment(self, row: int) -> Vector:
        """Return a row of the training state as a vector of all parameters."""
        return self.model.pack(self.state.moments[row]).astype(np.float64)


class SecondOrderLoop(SecondOrderRun):
    """Training run of one call of `fit` with L-BFGS or Levenberg-Marquardt.

    Parameters
    ----------
    model, dataset, options, state
        As in `TrainingLoop`.

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

    def __init__(self, model: Model, dataset: Dataset, options: TrainingOptions, state: TrainingState) -> None:
        data, settings = dataset.rows, options.settings
        loss = losses.ROWS[model.loss]
        for name in ("dropout", "clip_norm", "clip_value", "max_norm", "l1"):
            if settings.get(name):
                raise ValueError(
                    f"{name} must be left out for the optimizer {state.optimizer.name!r}, got {settings[name]!r}"
                )
        if options.batch_size is not None and options.batch_size < data.n:
            raise ValueError(
                f"batch_size must be left out for the optimizer {state.optimizer.name!r}, which uses all rows in each "
                f"iteration, got {options.batch_size}"
            )
        if model.stack.has_batch_norm:
            raise ValueError(
                f"optimizer must not be {state.optimizer.name!r} for a network with BatchNorm, whose running "
                "statistics would include rejected steps; use another optimizer"
            )
        if isinstance(state.optimizer, LevenbergMarquardt) and (model.uses_lanes or model.stack.has_steps):
            raise ValueError(
                "optimizer must not be 'levenberg_marquardt' for a network with image inputs, convolutions or layers "
                "that process sequences step by step, because it supports only dense layers; use another optimizer"
            )
        function = None if model.custom is None else model.custom.function
        self.least_squares_loss = function if isinstance(function, LeastSquares) else None
        has_residuals = self.least_squares_loss is not None or bool(loss.squared_error_factor)
        if isinstance(state.optimizer, LevenbergMarquardt) and not has_residuals:
            choices = ", ".join(row.name for row in losses.ROWS.values() if row.squared_error_factor)
            raise ValueError(
                f"loss must be a squared error ({choices}) or nnc.LeastSquares for the optimizer "
                f"'levenberg_marquardt', got {model.loss_function or model.loss!r}"
            )
        for layer in model.stack.parametric_layers:
            if not layer.kind.frozen and (layer.kind.lr_factor, layer.kind.bias_lr_factor) != (1, 1):
                raise ValueError(
                    f"lr_factor and bias_lr_factor of {layer.name} must be 1 for the optimizer "
                    f"{state.optimizer.name!r}, which has no learning rate, "
                    f"got {layer.kind.lr_factor:g} and {layer.kind.bias_lr_factor:g}"
                )
        super().__init__(model, dataset, options, state)
        self.channels = None if model.slope_weight is None else Channels(range(model.sizes[0]))
        self.prepare_iterations()
        self.total_weight, self.l2 = data.total_weight, settings.get("l2", 0.0)
        scale = 1.0
        if loss.squared_error_factor:
            n_residuals = self.total_weight * model.sizes[-1]
            scale = loss.squared_error_factor * n_residuals / loss.divisor(self.total_weight, model.sizes[-1])
        self.root_l2 = math.sqrt(self.l2 / (2 * scale))
        self.penalized = np.concatenate(
            [
                np.full(part.size, (name == "W" and not layer.kind.columnwise) or "biases_too" in settings)
                for layer, *parts in zip(model.stack.parametric_layers, model.W, model.b, strict=True)
                for name, part in zip("Wb", parts, strict=True)
                if part is not None
            ]
        )[self.trainable]

    def divergence_cause(self) -> str:
        return f"Probably {scaling_advice(self.dataset.converter.max_abs_input)}."

    def compute_loss(self, params: Vector) -> float:
        """Return the loss, including the penalty, for the given values of the trainable parameters.

        The result is NaN if the residuals of a custom loss are not finite.
        """
        model, data = self.model, self.data
        self.assign(params)
        if model.custom is None:
            return model.compute_loss(data) + self.penalty(params)
        return model.custom.value_of_rows(model.engine_outputs(data.X), data) + self.penalty(params)

    def penalty(self, params: Vector) -> float:
        """Return the L2 penalty."""
        return 0.5 * self.l2 * float(params[self.penalized] @ params[self.penalized]) if self.l2 else 0.0

    def objective(self, params: Vector) -> tuple[float, Vector]:
        """Return the loss and its gradient, both including the penalty."""
        self.assign(params)
        loss, gradient = self.model.loss_and_gradient(self.data)
        return loss + self.penalty(params), gradient[self.trainable] + self.l2 * self.penalized * params

    def least_squares(self, params: Vector) -> Iterator[tuple[Vector, Vector]]:
        """Yield residuals and their Jacobian with respect to the trainable parameters, for blocks of rows.

        Residuals are divided by the square root of their number, so that the damping does not depend on it.
        """
        model, n_out = self.model, self.model.sizes[-1]
        self.assign(params)
        n_channels = 1 if self.channels is None else self.channels.count
        rows = max(1, MAX_JACOBIAN_NUMBERS // (n_out * n_channels * model.n_params))
        for start in range(0, self.data.n, rows):
            part = slice(start, start + rows)
            P, J = self.outputs_and_jacobian(self.data.X[part])
            r, D = self.residuals(P, part)
            J = J * D[..., None] if D.ndim == 2 else np.einsum("imk,ikp->imp", D, J)
            yield r.ravel(), J.reshape(-1, model.n_params)[:, self.trainable]
        if self.l2:  # represent the penalty by residuals, whose squares add up to its value
            yield self.root_l2 * params[self.penalized], self.root_l2 * np.eye(len(params))[self.penalized]

    def residuals(self, P: NDArray[Any], part: slice = slice(None)) -> tuple[Vector, Vector]:
        """Return the residuals of rows with outputs P, and their derivatives with respect to P.

        The derivatives have the shape (n, m, n_out) for m residuals per row. The shape is (n, 1) if there is one
        residual per output, whose derivative is the same for all outputs of a row.
        """
        assert self.data.Y is not None
        Y = self.data.Y[part]
        if self.channels is not None:
            return self.slope_residuals(P, part)
        if self.least_squares_loss is not None:
            weights = self.data.residual_weights
            R, dR = self.least_squares_loss.residuals(P, Y, None if weights is None else weights[part])
            factor = 1 / math.sqrt(self.data.n * R.shape[1])
            return R * factor, dR * factor
        D = np.full((len(P), 1), 1 / math.sqrt(self.total_weight * P.shape[1]))
        if self.data.weights is not None:
            D *= np.sqrt(self.data.weights[part, None].astype(np.float64))
        return (P - Y) * D, D

    def outputs_and_jacobian(self, X: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return outputs (n, k) and their Jacobian (n, k, n_params); with dY, the derivatives count as outputs."""
        if self.channels is None:
            return self.model.jacobian(X)
        U, J = self.channels.jacobian(self.model, X)
        return U.reshape(len(X), -1), J.reshape(len(X), -1, self.model.n_params)

    def slope_residuals(self, U: NDArray[Any], part: slice) -> tuple[Vector, Vector]:
        """Return the residuals of outputs and derivatives U (n, n_out * (1 + n_in)), and d residuals / d U."""
        model = self.model
        n_out, n_in = model.sizes[-1], model.sizes[0]
        assert model.slope_weight is not None
        assert self.data.Y is not None
        assert self.data.dY is not None
        D = np.full((n_out, 1 + n_in), math.sqrt(model.slope_weight / (n_in * self.total_weight * n_out)))
        D[:, 0] = 1 / math.sqrt(self.total_weight * n_out)
        Y, dY = self.data.Y[part], self.data.dY[part]
        targets = np.concatenate([Y[:, :, None], dY.reshape(-1, n_out, n_in)], axis=2).reshape(len(Y), -1)
        factors = np.where(np.isnan(targets), 0.0, D.ravel())
        if self.data.weights is not None:
            factors *= np.sqrt(self.data.weights[part, None].astype(np.float64))
        return (U - np.nan_to_num(targets, nan=0.0)) * factors, factors

    def transposed_product(self, params: Vector, point: Vector) -> Vector:
        """Return J'r with the Jacobian at `params` and the residuals at `point`, both without frozen parameters.

        All elements are NaN if the outputs at `point` are not finite.
        """
        model = self.model
        model.params = as_contiguous(self.full_vector(point), model.dtype)  # the conversion may overflow in float32
        P = self.outputs()
        if not np.isfinite(P).all():  # do not call the function of a custom loss with infinite or NaN outputs
            return np.full(len(params), np.nan)
        r, D = self.residuals(P)
        self.assign(params)
        if D.ndim == 3:
            D = self.residuals(model.engine_outputs(self.data.X))[1]
        dP = as_contiguous(r * D if D.ndim == 2 else np.einsum("im,imk->ik", r, D), model.dtype)
        if self.channels is None:
            flat = model.zeros()
            model.output_gradient_engine.gradient(model.theta_view, self.data.with_output_gradient(dP), flat)
            gradient = model.pack(flat)
        else:
            gradient = self.channels.gradient(model, self.data.X, dP.reshape(len(dP), model.sizes[-1], -1))
        product: Vector = gradient[self.trainable].astype(np.float64)
        return product + self.root_l2**2 * self.penalized * point if self.l2 else product

    def outputs(self) -> NDArray[Any]:
        """Return the outputs for all rows; with dY, the outputs and their derivatives (n, n_out * (1 + n_in))."""
        if self.channels is None:
            return self.model.engine_outputs(self.data.X)
        return self.channels.compute(self.model, self.data.X).reshape(self.data.n, -1)
