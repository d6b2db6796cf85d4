"""The run of a fit, kept for the next one: where nothing but the data has changed, it begins once more, and what was
checked and laid out for the first is as good for the second."""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from nnc.training.fit import Fit

FIXED = {type(None), bool, int, float, str}  # kinds of arguments that nobody can change meanwhile


class Kept:
    """A run that is over, and the arguments of its fit: those that are not the defaults."""

    def __init__(self, run: Fit, said: Mapping[str, Any]) -> None:
        self.run, self.said, self.form = run, said, run.data.form

    def over(self) -> Self:
        """To be called where the run is over: lets go of its data."""
        state = self.run.state
        self.epoch, self.lr, self.stack = state.epoch, state.lr, self.run.model.stack
        self.run.release()
        return self

    def again(self, network: Any, X: Any, y: Any, said: Mapping[str, Any]) -> Fit | None:
        """The run at its beginning, on other data, with the weights as they are now. None where the arguments are not
        the same, somebody else has trained the network since, or the data has another form: all that it depends on."""
        run = self.run
        state = run.state
        if not (
            said.keys() == self.said.keys()
            and all(map(is_, said.values(), self.said.values()))
            and network.state is state
            and state.live is None
            and state.epoch == self.epoch
            and state.lr == self.lr
            and network.model is run.model
            and network.model.stack is self.stack
            and network.streams is state.streams
        ):
            return None
        intake = network.intake.learner()
        data = intake.data(X, y, learn=True)
        if data.form != self.form:
            return None
        run.begin(intake, data)
        return run


def keep(run: Fit, said: Mapping[str, Any]) -> Kept | None:
    """What is kept of a run that is over. None where it is long, so that what is prepared is nothing beside it and only
    holds memory, or depends on more than data and arguments that stay the same. `said` are those that are not the
    defaults."""
    state = run.state
    if (
        "optimizer" in said  # which begins anew each time
        or not (run.is_short and run.is_plain and state.schedule is None)
        or not FIXED.issuperset(map(type, said.values()))
    ):
        return None
    return Kept(run, said).over()
