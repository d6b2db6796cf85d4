"""Single steps from a loop of the user's, with everything prepared that does not change from one to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from nnc._team import Stepping
from nnc.base.arrays import not_finite
from nnc.base.checks import positive
from nnc.data.derivatives import by_outputs
from nnc.kinds.optimizers import as_optimizer
from nnc.training.divergence import divergence, too_fast
from nnc.training.options import settings
from nnc.training.state import BEGIN_ANEW, TrainingState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from nnc.data.intake import Intake
    from nnc.kinds.optimizers import Optimizer
    from nnc.training.arguments import FitArguments, Rate
    from nnc.training.trainable import Trainable


FIRST_RATE = 0.01  # of plain descent, on a network that has no optimizer yet


class Steps(Stepping):
    """What the steps of one network have in common: the state that they go on with, and the core's run.

    A step is a fit of one epoch on all rows that leaves no history. The network is handed in at each step and not kept,
    so that both end together.

    Parameters
    ----------
    optimizer : str or Optimizer, optional
        Default: the one that the network goes on with, at first plain gradient descent, which leaves no state behind.
    lr : float, Schedule or callable, optional
    options : FitArguments
        Penalties, clipping and dropout, as `stepper` has them.
    """

    __slots__ = ("options", "settings", "shape")

    def __init__(self, optimizer: str | Optimizer | None, lr: Rate | None, options: FitArguments) -> None:
        self.optimizer, self.lr, self.options = optimizer, lr, options
        self.settings: Mapping[str, Any] = {}
        self.shape: tuple[int, bool, bool, bool] | None = None  # of the data that the run is prepared for

    def start(self, network: Trainable) -> TrainingState:
        """The state that the next step goes on with. Changes nothing of the network."""
        model, before, wanted, lr = network.model, network.state, self.optimizer, self.lr
        if before is not None and wanted is not None:
            wanted, lr = _going_on(before.optimizer, wanted, lr)
        elif before is None and wanted is None and lr is None:
            lr = FIRST_RATE
        state = TrainingState.begin(before, model, wanted, lr, 1, network.streams)
        state.by_rule = state.by_rule and self.optimizer is None
        if not hasattr(state.optimizer, "lr"):
            raise ValueError(
                f"optimizer must be one that takes single steps, got {state.optimizer.name!r}, "
                "which needs all rows, again and again"
            )
        self.settings = settings(self.options, model, state)
        return state

    def takes_rate(self, lr: Rate | None) -> bool:
        """Whether a step may have this learning rate instead, and all the rest stays as it is."""
        state, numbers = self.state, isinstance(lr, float) and isinstance(self.lr, float)
        return numbers and state is not None and not state.optimizer.keeps_steps and positive("lr", lr) > 0

    def open(
        self,
        network: Trainable,
        engine: Any,
        X: NDArray[Any],
        Y: NDArray[Any] | None,
        labels: NDArray[np.int32] | None,
        weights: NDArray[Any] | None,
    ) -> None:
        """Prepares the core's run on this engine, for as many rows, of that kind."""
        model, state = network.model, self.state
        assert state is not None
        state.catch_up()
        constants = {**state.optimizer.settings(), **self.settings, **state.counters()}
        n = len(X)
        model.check_rows(n)
        training = model.core.Training(engine, model.theta, X, Y, labels, weights, n, None, state.moments, constants)
        self.training = training
        state.attend(training)
        self.shape = n, Y is None, weights is None, engine is model.engine

    def take_any(
        self,
        network: Trainable,
        X: ArrayLike,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        dP: ArrayLike | None,
        lr: Rate | None,
    ) -> float:
        """What `take` does, whatever has changed, in its turn."""
        model = network.model
        if dP is None:
            engine = model.engine
            intake, rows, Y, labels, weights = self.data(network, X, y, sample_weight)
        else:
            engine, labels, weights = model.linear, None, None
            intake, rows, Y = self.slopes(network, X, y, sample_weight, dP)
        if self.state is None or network.state is not self.kept or model.stack is not self.stack:
            begun = self.start(network)
            self.check(network, rows, Y, "y" if dP is None else "dP")
            self.state, self.training, self.shape = begun, None, None
            if self.optimizer is not None or network.state is not None:  # else plain descent, which leaves none
                network.state = begun
            self.kept, self.stack = network.state, model.stack
        network.intake = intake
        state = self.state
        given, is_custom = Y, model.custom is not None and (dP is None or model.heads is not None)
        if is_custom:  # derivatives by the outputs come in place of what is given
            Y = np.zeros((len(rows), model.sizes[-1]), model.dtype)
        if self.shape != (len(rows), Y is None, weights is None, engine is model.engine):
            self.open(network, engine, rows, Y, labels, weights)
        if lr is None or lr is self.lr:
            lr, rate = self.lr, state.lr if state.schedule is None else state.rates(state.epoch, state.epoch + 1)[0]
        else:
            assert not callable(lr)  # such a rate has a stepper of its own
            rate = float(lr)
        if rate == 0:
            state.refuse_rest("lr", BEGIN_ANEW)
        if is_custom:
            loss, Y = self.differentiate(network, rows, given, Y, rate, of_targets=dP is None)
        with model.still:
            product = self.training.step(rows, Y, labels, weights, rate)
            if product - product != 0:
                self.fail(network, rows, Y, "y" if dP is None else "dP", rate)
            if lr is not self.lr:
                self.lr = state.lr = rate
            loss = loss + self.training.penalty if is_custom else product
            if state.plateau is not None:
                state.plateau.observe(loss)
        if dP is None:
            intake.numbered = intake.loss.of_classes and intake.classes is None
        plain = weights is None and state.schedule is None and not is_custom
        if plain and self.is_repeatable(intake, X, y, labels, dP):
            self.repeats(model, intake, dP is not None)
        return loss  # type: ignore[no-any-return]

    @staticmethod
    def is_repeatable(
        intake: Intake, X: ArrayLike, y: ArrayLike | None, labels: NDArray[np.int32] | None, dP: ArrayLike | None
    ) -> bool:
        """Return whether the core can check and read arrays like these itself."""
        if labels is not None:
            return type(X) is ndarray and bool(intake.is_direct) and intake.classes is None
        return bool(intake.is_unconverted(X, y) if dP is None else intake.is_unconverted(X, dP, of_outputs=True))

    def differentiate(
        self, network: Trainable, X: NDArray[Any], Y: NDArray[Any], P: NDArray[Any], rate: float, of_targets: bool
    ) -> tuple[float, NDArray[Any]]:
        """The loss where it is custom, and its derivative by the engine's outputs in the step to come, for which P has
        the room. Y are targets, or derivatives by what heads make of these outputs."""
        from nnc.model.custom import NoNumberError
        from nnc.training.custom import no_number

        model, state = network.model, self.state
        assert state is not None
        self.training.refresh()
        self.training.outputs(X, P, 1, 0)
        if model.core.scan(P)[0] >= 0:
            self.fail(network, X, Y, "y" if of_targets else "dP", rate)
        if of_targets:
            try:
                assert model.custom is not None
                return model.custom(P, Y)
            except NoNumberError as error:
                cause = too_fast(rate, self.check(network, X, Y, "y"))
                raise no_number(error, state.epoch + 1, state.history, cause) from None
        slope = model.heads.through(P, Y)
        return float((model.heads.outputs(P) * Y).sum()), slope

    @staticmethod
    def data(network: Trainable, X: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None) -> Any:
        """What the engine takes, behind the intake that has learned from it; what most calls bring can go there as it
        is."""
        intake = network.intake
        ready = intake.at_once(X, y, sample_weight) if network.model.custom is None else None
        if ready is not None:
            return intake, *ready
        if y is None:
            raise TypeError("y must be an array of real numbers, got None; or dP takes its place")
        learner = intake.learner()
        return learner, *learner.data(X, y, sample_weight, learn=True)

    @staticmethod
    def slopes(
        network: Trainable, X: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None, dP: ArrayLike | None
    ) -> Any:
        """The intake, which has nothing to learn, X as the engine takes it, and derivatives by its outputs."""
        if y is not None or sample_weight is not None:
            name = "sample_weight" if y is None else "y"
            raise TypeError(f"{name} must be left out where dP is given, in which all is said of the loss")
        if network.model.stack.norms:
            raise ValueError(
                "dP must be left out where the network has BatchNorm: it is the derivative by what predict returns, "
                "with running statistics, and a step takes those of its rows"
            )
        return network.intake, *by_outputs(network.intake, X, dP)

    @staticmethod
    def check(network: Trainable, X: NDArray[Any], Y: NDArray[Any] | None, what: str) -> float:
        """Raises where the weights or what came in is not finite; returns the largest of the inputs. `what` are the
        targets called."""
        network.model.check_parameters()
        if what == "y" and network.model.custom is not None:  # known to be as the loss takes them
            Y = None
        largest = 0.0
        for name, rows in ((what, Y), ("X", X)):
            if rows is not None:
                position, largest = network.model.core.scan(rows)
                if position >= 0:
                    raise not_finite(name, rows, position, shape=network.model.shape if name == "X" else ())
        return largest

    def fail(self, network: Trainable, X: NDArray[Any], Y: NDArray[Any] | None, what: str, rate: float) -> None:
        """Says why a step was none: something is not finite, or the training diverges."""
        state, training = self.state, self.training
        assert state is not None
        state.catch_up()
        self.training = self.shape = state.live = None  # the core's run is over
        cause = too_fast(rate, self.check(network, X, Y, what))
        history = state.history
        history.stop_reason = "diverged"
        raise divergence(network.model, X, training.broken_layer, state.epoch + 1, history, cause)


def _going_on(optimizer: Any, wanted: str | Optimizer | None, lr: Rate | None) -> tuple[Optimizer | None, Any]:
    """The optimizer to begin with, None where the one at hand is wanted, and the learning rate. A checkpoint holds the
    rate of the moment as that of the optimizer, so optimizers that differ in it alone are the same; the rate that an
    object says counts all the same."""
    named: Any = as_optimizer(wanted)
    if type(named) is not type(optimizer) or not hasattr(named, "lr"):
        return named, lr
    if named.with_lr(optimizer.lr) != optimizer:
        return named, lr
    says_lr = not isinstance(wanted, str) and named.lr != optimizer.lr
    return None, named.lr if lr is None and says_lr else lr
