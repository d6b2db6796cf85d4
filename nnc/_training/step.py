"""Single training steps, for `NeuralNetwork.train_step` and `NeuralNetwork.stepper`.

`GeneralStep` executes any step. `Stepper` (src/bindings/stepper.pxi) is the fast path: it repeats a step with other
data, if nothing else has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from nnc._data.derivatives import check_gradient, engine_output_gradient, flat_gradient
from nnc._data.sequences import Sequences
from nnc._model.data import Data, RunSettings
from nnc._registry.capabilities import check
from nnc._team import Stepper
from nnc._training.divergence import custom_loss_error, divergence_error, likely_cause
from nnc._training.options import check_options, settings
from nnc._training.plan import Plan
from nnc._training.preparation import begun_state
from nnc._training.state import RESTART_HINT
from nnc._training.trainable import adopt_converter, converter_for_targets
from nnc._utils.arrays import not_finite_error
from nnc._utils.checks import check_finite, check_positive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from nnc._data.converter import DataConverter
    from nnc._data.derivatives import GradientsLike
    from nnc._model.model import Model
    from nnc._registry.optimizers import Optimizer
    from nnc._training.arguments import FitArguments, Rate
    from nnc._training.state import TrainingState
    from nnc._training.trainable import Trainable


DEFAULT_RATE = 0.01  # learning rate of plain gradient descent for a network that has no optimizer yet


def new_stepper(
    optimizer: str | Optimizer | None, lr: Rate | None, options: FitArguments, network: Trainable | None = None
) -> Stepper:
    """Return a stepper. If `network` is given, check that it supports the optimizer, learning rate and options."""
    general = GeneralStep(optimizer, lr, options)
    if network is not None:
        general.start(network)
    return Stepper(general, network)


class GeneralStep:
    """General implementation of a training step, for steps that `Stepper` cannot repeat on its fast path.

    A step is a fit of one epoch with all rows, without a history. The network is passed to each step and not stored,
    because the network itself stores a stepper.

    Parameters
    ----------
    optimizer : str or Optimizer, optional
        Default: the optimizer of the network's state, or plain gradient descent, which leaves no state behind.
    lr : float, Schedule or callable, optional
        Learning rate, as in `NeuralNetwork.stepper`.
    options : FitArguments
        Penalties, clipping and dropout, as in `NeuralNetwork.stepper`.

    Attributes
    ----------
    state : TrainingState or None
        Optimizer state that the next step continues from.
    training : Training or None
        Prepared run of the core, which counts the steps.
    """

    __slots__ = (
        "lr",
        "network_state",
        "optimizer",
        "options",
        "resets",
        "settings",
        "shape",
        "stack",
        "state",
        "sum",
        "training",
    )

    def __init__(self, optimizer: str | Optimizer | None, lr: Rate | None, options: FitArguments) -> None:
        self.optimizer: str | Optimizer | None = optimizer
        self.lr: Rate | None = lr
        self.options: FitArguments = options
        self.resets: bool = options.reset_optimizer  # whether the first step starts the optimizer anew
        self.settings: Mapping[str, Any] = {}
        self.state: TrainingState | None = None
        self.training: Any = None
        self.network_state: TrainingState | None = None  # `network.state` after the last step
        self.stack: Any = None  # `model.stack` of the network after the last step
        # `Data.layout` of the data for which `training` is prepared, followed by the engine of `training`.
        self.shape: tuple[int, bool, bool, bool, Any] | None = None
        self.sum: NDArray[Any] | None = None  # sum of the gradients for the next `apply`

    def start(self, network: Trainable) -> TrainingState:
        """Return the state that the next step continues from, without changing the network."""
        optimizer, lr = self.optimizer, self.lr
        if network.state is None and optimizer is None and lr is None:
            lr = DEFAULT_RATE
        arguments = self.options._replace(optimizer=optimizer, lr=lr, epochs=1, reset_optimizer=self.resets)
        plan = Plan.of(network, arguments)
        state = begun_state(plan)
        state.is_automatic = state.is_automatic and self.optimizer is None
        check("a single step", optimizer=state.optimizer)
        check_options(plan.given, plan.model, state)
        self.settings = settings(plan.arguments, plan.model, state)
        return state

    def is_outdated(self, network: Trainable) -> bool:
        """Return whether there was no step yet, or the network's state or layers have changed since the last step."""
        return self.state is None or network.state is not self.network_state or network.model.stack is not self.stack

    def begin(self, network: Trainable, state: TrainingState) -> None:
        """Continue from the given training state.

        The network stores the state too, except for plain gradient descent without a named optimizer.
        """
        self.state, self.training, self.shape, self.resets = state, None, None, False
        if self.optimizer is not None or network.state is not None:
            network.state = state
        self.network_state, self.stack = network.state, network.model.stack

    def next_rate(self, lr: Rate | None) -> tuple[Rate | None, float]:
        """Return the learning rate to store and the learning rate of the next step.

        Parameters
        ----------
        lr : float, Schedule, callable or None
            Learning rate of this call; None keeps the learning rate of earlier calls.
        """
        state = self.state
        assert state is not None
        if lr is not None and lr is not self.lr:
            assert not callable(lr)  # schedules never get here: the caller creates a GeneralStep for each schedule
            rate = float(lr)
        else:
            lr, rate = self.lr, state.next_rate
        if rate == 0:
            state.check_not_over("lr", RESTART_HINT)
        return lr, rate

    def rate(self, network: Trainable) -> float:
        """Return the learning rate of the next step."""
        state = self.start(network) if self.is_outdated(network) else self.state
        assert state is not None
        return float(state.next_rate)

    def change_rate(self, network: Trainable, lr: Rate) -> None:
        """Change the learning rate or the schedule, beginning with the next step."""
        state, before = self.state, self.lr
        if lr is None:
            raise TypeError("lr must be a number, a schedule or a function, got None")
        if self.accepts_rate(lr) and state is not None and state.schedule is None:
            self.lr = state.lr = float(lr)  # type: ignore[arg-type]
            return
        self.lr = float(lr) if isinstance(lr, (int, np.number)) and not isinstance(lr, bool) else lr
        try:
            begun = self.start(network)
            if begun.optimizer.stores_step_sizes and begun.steps > 0:
                raise ValueError(
                    f"lr must not change after the first step of {begun.optimizer.name!r}, which adapts its step "
                    f"sizes itself, got {self.lr!r}; create a new stepper with reset_optimizer=True"
                )
        except BaseException:
            self.lr = before
            raise
        self.state = None  # make the next step continue from `network.state` with the new rate

    def accumulate(self, network: Trainable, gradients: GradientsLike, weight: float) -> None:
        """Add the gradients, multiplied by `weight`, to the sum that the next `apply` uses."""
        flat = flat_gradient(network.model, gradients)
        check_gradient(network.model, flat)
        scaled = flat if weight == 1 else flat.dtype.type(check_finite("weight", weight)) * flat
        self.sum = scaled.copy() if self.sum is None else self.sum + scaled

    def apply(self, network: Trainable, gradients: GradientsLike | None, lr: Rate | None) -> None:
        """Take a step with the sum of the given and the accumulated gradients.

        The caller holds the training lock. If the step raises an error, the accumulated gradients are not deleted.
        """
        model = network.model
        if network.converter.has_automatic_loss:
            raise ValueError('loss must be chosen before a step from gradients, got "auto"; fit the network first')
        if gradients is not None:
            flat = flat_gradient(model, gradients)
            if self.sum is not None:
                flat = self.sum + flat
        elif self.sum is not None:
            flat = self.sum
        else:
            raise TypeError("gradients must be passed if none have been accumulated; compute them with net.gradients")
        is_outdated = self.is_outdated(network)
        state = self.start(network) if is_outdated else self.state
        assert state is not None
        check("a step from gradients", model, schedule=state.schedule)
        if is_outdated:
            model.check_parameters()
            check_gradient(model, flat)
            self.begin(network, state)
        if self.training is None:
            self.prepare(network, model.engine, None)
        lr, rate = self.next_rate(lr)
        with model.snapshot_lock:
            position = self.training.apply(flat, rate)
            if position >= 0:
                check_gradient(model, flat)
            self.sum = None
            if self.training.broken_layer:
                self.fail(model, None, None, "gradients", rate)
            if lr is not self.lr:
                self.lr = state.lr = rate

    def accepts_rate(self, lr: Rate | None) -> bool:
        """Return whether the learning rate can change to `lr` without preparing a new run of the core."""
        state, are_numbers = self.state, isinstance(lr, float) and isinstance(self.lr, float)
        return (
            are_numbers and state is not None and not state.optimizer.stores_step_sizes and check_positive("lr", lr) > 0
        )

    def prepare(self, network: Trainable, engine: Any, data: Data | None) -> None:
        """Create a run of the core for steps on arrays with the shapes of those of `data`, or from gradients (None)."""
        model, state = network.model, self.state
        assert state is not None
        state.sync_counters()
        constants = {**state.optimizer.core_settings(), **self.settings, **state.counters()}
        settings = RunSettings(1 if data is None else data.n, constants, moments=state.moments)
        training = model.core.Training(engine, model.theta, data, settings)
        self.training = training
        state.count_steps_of(training)
        self.shape = *(() if data is None else data.layout), engine

    def step(
        self,
        network: Trainable,
        X: ArrayLike,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        dP: ArrayLike | None,
        lr: Rate | None,
    ) -> tuple[float, DataConverter | None]:
        """Take a step; the caller holds the training lock.

        Returns
        -------
        loss : float
            Loss before the step, or the sum of dP * P if dP is given.
        converter : DataConverter or None
            Conversion of the data if a Stepper can take the next step on its fast path, else None.
        """
        if dP is None:
            converter, data = self.data(network, X, y, sample_weight)
            engine = converter.model.engine  # for sequences, the engine for the number of steps of X
        else:
            converter, data = self.output_gradient(network, X, y, sample_weight, dP)
            engine = converter.model.output_gradient_engine
        model, what, new_state = converter.model, "y" if dP is None else "dP", None
        if self.is_outdated(network):
            new_state = self.start(network)
            self.check(model, data.X, data.Y, what)
        model.check_batch_rows(data.n)
        adopt_converter(network, converter)
        if new_state is not None:
            self.begin(network, new_state)
        state = self.state
        assert state is not None
        given, is_custom = data, (model.custom if dP is None else model.heads) is not None
        if is_custom:  # the core reads derivatives of the loss with respect to the outputs instead of targets
            data = data.with_output_gradient(np.zeros((data.n, model.sizes[-1]), model.dtype))
        if self.shape != (*data.layout, engine):
            self.prepare(network, engine, data)
        lr, rate = self.next_rate(lr)
        if is_custom:
            loss, gradient = self.differentiate(model, given, rate, of_targets=dP is None)
            data = data.with_output_gradient(gradient)
        with model.snapshot_lock:
            product = self.training.step(data, rate)
            if product - product != 0:
                self.fail(model, data.X, data.Y, what, rate)
            if lr is not self.lr:
                self.lr = state.lr = rate
            loss = loss + self.training.penalty if is_custom else product
            if state.plateau is not None:
                state.plateau.observe(loss)
        if dP is None:
            network.converter.labels_are_indices = converter.loss.is_classification and converter.classes is None
        is_plain = sample_weight is None and state.schedule is None and not converter.is_bound
        if is_custom and (model.heads is not None or len(model.stack.output_shape) == 2):
            is_plain = False
        return loss, converter if is_plain and self.is_repeatable(converter, X, y, data.labels, dP) else None

    @staticmethod
    def is_repeatable(
        converter: DataConverter,
        X: ArrayLike,
        y: ArrayLike | None,
        labels: NDArray[np.int32] | None,
        dP: ArrayLike | None,
    ) -> bool:
        """Return whether the core can read X, and y or the loss derivatives dP, without converting them."""
        if labels is not None:
            return type(X) is ndarray and bool(converter.is_direct) and converter.classes is None
        if dP is None:
            return bool(converter.is_unconverted(X, y, of_outputs=converter.model.custom is not None))
        return bool(converter.is_unconverted(X, dP, of_outputs=True))

    def differentiate(self, model: Model, data: Data, rate: float, of_targets: bool) -> tuple[float, NDArray[Any]]:
        """Return a custom loss and its derivative with respect to the outputs of the engine.

        Parameters
        ----------
        model : Model
            Network in training.
        data : Data
            Rows, and their targets or the derivatives with respect to the outputs of the heads.
        rate : float
            Learning rate of the step.
        of_targets : bool
            Whether `data` has targets instead of derivatives.
        """
        X, Y, P = data.X, data.target, np.empty((data.n, model.sizes[-1]), model.dtype)
        self.training.refresh()
        self.training.outputs(data, P, 1, 0)
        if model.core.find_not_finite(P)[0] >= 0:
            self.fail(model, X, Y, "y" if of_targets else "dP", rate)
        if of_targets:
            assert model.custom is not None
            try:
                return model.custom.of_rows(P, data)
            except ValueError as error:
                raise self.custom_error(model, error, X, Y, rate) from None
        assert model.heads is not None
        gradient = model.heads.backpropagate(P, Y)
        return float((model.heads.outputs(P) * Y).sum()), gradient

    def custom_error(self, model: Model, error: ValueError, X: NDArray[Any], Y: NDArray[Any], rate: float) -> Exception:
        """Return the error to raise if a custom loss has failed: DivergedError if its result is not finite."""
        from nnc._model.custom import NonFiniteLossError

        if not isinstance(error, NonFiniteLossError):
            return error
        state = self.state
        assert state is not None
        cause = likely_cause(rate, self.check(model, X, Y, "y"))
        return custom_loss_error(str(error), state.epoch + 1, state.history, cause)

    @staticmethod
    def data(
        network: Trainable, X: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None
    ) -> tuple[DataConverter, Data]:
        """Return the updated converter, and the rows for the engine."""
        converter = converter_for_targets(network.converter, X, y, is_batch=True)
        ready = converter.data_as_is(X, y, sample_weight) if network.model.custom is None else None
        if ready is not None:
            return converter, ready
        if y is None:
            raise TypeError("y must be an array of real numbers, got None; pass either y or dP")
        updated, X = converter.copy_for_fit().bind(X)
        return updated, updated.data(X, y, sample_weight, learn=True)

    @staticmethod
    def output_gradient(
        network: Trainable, X: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None, dP: ArrayLike | None
    ) -> tuple[DataConverter, Data]:
        """Return the converter, and the rows with loss derivatives for the engine's outputs as targets.

        `dP` are the derivatives of the loss with respect to the predictions.
        """
        if y is not None or sample_weight is not None:
            name = "sample_weight" if y is None else "y"
            raise TypeError(f"{name} must be left out if dP is given, because dP replaces the loss")
        check("dP", network.model)
        converter, lengths = network.converter, None
        if type(X) is not ndarray or converter.model.stack.input.any_steps:
            converter, X = converter.bind(X)
        if isinstance(X, Sequences):
            dP, lengths = X.targets(dP, converter.model.stack.output_shape, "dP"), X.core_lengths
        rows, gradient = engine_output_gradient(converter, X, dP)
        return converter, Data(rows, gradient, lengths=lengths)

    @staticmethod
    def check(model: Model, X: NDArray[Any], Y: NDArray[Any] | None, what: str) -> float:
        """Raise ValueError if parameters, inputs or targets are not finite; return the largest absolute input.

        `what` is the name of the argument that contains Y: "y", "dP" (loss derivatives) or "gradients".
        """
        model.check_parameters()
        if what == "y" and model.custom is not None:  # skip the targets of a custom loss, which CustomLoss checks
            Y = None
        largest = 0.0
        for name, rows in ((what, Y), ("X", X)):
            if rows is not None:
                position, largest = model.core.find_not_finite(rows)
                if position >= 0:
                    raise not_finite_error(name, rows, position, shape=model.input_shape if name == "X" else ())
        return largest

    def fail(self, model: Model, X: NDArray[Any] | None, Y: NDArray[Any] | None, what: str, rate: float) -> None:
        """Raise the error of a rejected step: ValueError for data that is not finite, otherwise DivergedError.

        X is None for a step from gradients.
        """
        state, training = self.state, self.training
        assert state is not None
        state.sync_counters()
        self.training = self.shape = state.step_run = None  # discard the failed run
        if X is None:
            cause = f"The learning rate of {rate:g} or the gradients may be too large."
        else:
            cause = likely_cause(rate, self.check(model, X, Y, what))
        history = state.history
        history.stop_reason = "diverged"
        raise divergence_error(model, X, training.broken_layer, state.epoch + 1, history, cause)
