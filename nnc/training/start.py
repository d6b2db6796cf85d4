"""From the arguments of `fit` and `fit_batches` to a run, from its beginning to its end: data, state and plan are all
checked before anything changes."""

from __future__ import annotations

from math import inf
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.base.checks import MAX_COUNT, count, flag, fraction
from nnc.base.random import SHUFFLE, SPLIT
from nnc.model.data import Data
from nnc.training.advice import advise
from nnc.training.batches import BatchFit, epochs_of
from nnc.training.fit import Fit
from nnc.training.kept import keep
from nnc.training.plan import Plan, left_to_rule, options
from nnc.training.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from nnc.base.random import Streams
    from nnc.data.intake import Intake
    from nnc.model.model import Model
    from nnc.training.history import History

LITTLE = {"epochs", "lr", "optimizer", "n_threads"}  # arguments of most short fits
OF_ARRAYS = {"batch_size", "shuffle", "sample_weight", "class_weight"}  # arguments of `fit` that `fit_batches` has not


def fit(network: Any, X: Any, y: Any, said: Mapping[str, Any]) -> History:
    """What `NeuralNetwork.fit` does with the arguments that are said, those that are not the defaults."""
    stacklevel = 3  # for warnings: the frame of the user, that of this function being the first
    with network.model.turn:  # from where it is asked what to go on from
        kept, network._kept = network._kept, None  # what is raised leaves nothing behind
        goes_on = network.state is not None
        if kept is not None and (run := kept.again(network, X, y, said)) is not None:
            history = complete(network, run, stacklevel + 1)
            network._kept = kept.over()
            return history
        run = at_once(network, X, y, said) or from_arrays(network, X, y, said)
        history = complete(network, run, stacklevel + 1)
        if goes_on:  # as a second fit does: most networks are fitted once, and keeping takes time, too
            network._kept = keep(run, said)
        return history


def complete(network: Any, run: Fit, stacklevel: int) -> History:
    """Runs a fit, in the turn of the network, which keeps what the next one goes on from."""
    begin(network, run)
    history = run.run()
    advise(run, history, stacklevel + 1)
    return history


def begin(network: Any, run: Fit) -> None:
    """The network has from here on what the run learns."""
    with network.model.still:
        network.state, network.streams, network.intake = run.state, run.state.streams, run.intake


def at_once(network: Any, X: Any, y: Any, said: Mapping[str, Any]) -> Fit | None:
    """The run of a fit that says little, by an optimizer that begins here, as most short ones are: with no more done
    than it takes, since a whole fit may be over in some microseconds. None where `from_arrays` has to look at it."""
    model, epochs, lr, threads = network.model, said.get("epochs"), said.get("lr"), said.get("n_threads")
    if not (
        said.keys() <= LITTLE
        and type(epochs) is int
        and 0 < epochs <= MAX_COUNT
        and (type(lr) is float and 0 < lr < inf if lr is not None else "optimizer" in said)
        and (threads is None or (type(threads) is int and threads == 1))
        and (network.state is None or "optimizer" in said)
        and model.plain
    ):
        return None
    state = State.new(model, said.get("optimizer", "sgd"), network.streams)
    if not hasattr(state.optimizer, "lr") or state.optimizer.keeps_steps:
        return None
    if lr is not None:
        state.lr = lr
    intake = network.intake.learner()
    data = intake.data(X, y, learn=True)
    plan = Plan(epochs=epochs, settings={}, batch_size=data.n, n_threads=threads, is_bare=True)
    return Fit(model, intake, data, plan, state)


def from_arrays(network: Any, X: Any, y: Any, said: Mapping[str, Any]) -> Fit:
    """The run of `fit` with the arguments that are said, those that are not the defaults."""
    said = checked(said)
    model, intake, streams = network.model, network.intake.learner(), network.streams
    sample_weight, validation = said.get("sample_weight"), said.get("validation")
    if validation is not None and is_share(validation):
        share = fraction("validation", validation)
        X, y, sample_weight, validation = intake.split(X, y, sample_weight, share, streams.key(SPLIT))
    batch, by_rule = said.get("batch_size"), left_to_rule(said, network.state)
    if by_rule:
        from nnc.training.defaults import chosen

        X = X if isinstance(X, np.memmap) else intake.array(X, learn=True)
        said = chosen(said, network, intake, X, len(intake.rows(X)), network.state)
    state, plan = prepare(network, said, by_rule)
    if batch is not None and hasattr(state.optimizer, "lr") and intake.is_lazy(X) and batch < len(X):
        streams = state.streams = streams.copy()  # the first batch draws, and may be refused
        shuffles = said.get("shuffle", True)
        passes = _lazy_passes(intake, streams, X, y, sample_weight, said.get("class_weight"), batch, shuffles)
        return _on_batches(model, intake, state, passes, validation, plan, -(-len(X) // batch))
    data = intake.data(X, y, sample_weight, learn=True)
    held = None if validation is None else intake.validation(validation)
    return on_data(model, intake, data, held, said, state, plan)


def is_share(validation: Any) -> bool:
    """Whether `fit`'s argument asks for a share of the rows."""
    return isinstance(validation, (float, int, np.floating))


def checked(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a fit, with what is said of the rows of a step checked, and their number one of Python's."""
    if "shuffle" in said:
        flag("shuffle", said["shuffle"])
    batch = said.get("batch_size")
    if batch is None or (type(batch) is int and batch > 0):
        return said
    return {**said, "batch_size": count("batch_size", batch)}


def prepare(network: Any, said: Mapping[str, Any], by_rule: bool) -> tuple[State, dict[str, Any]]:
    """What a run goes on from, and what it does, as far as no data is needed for that: all arguments are checked.
    `by_rule` is whether some of them were not the user's."""
    optimizer, lr, epochs = said.get("optimizer"), said.get("lr"), said.get("epochs")
    state = State.begin(network.state, network.model, optimizer, lr, epochs, network.streams)
    state.by_rule = by_rule
    return state, options(said, network, state)


def on_data(
    model: Model,
    intake: Intake,
    data: Data,
    validation: Data | None,
    said: Mapping[str, Any],
    state: State,
    plan: dict[str, Any],
) -> Fit:
    """The run of what `prepare` has made on rows that have been taken in."""
    if "class_weight" in said:
        data = intake.weighted(data, said["class_weight"])
    n, batch = data.n, said.get("batch_size")
    plan["batch_size"] = batch = n if batch is None else min(n, batch)
    shuffles, first_order = said.get("shuffle", True) and batch < n, hasattr(state.optimizer, "lr")
    if data.index is not None and not (shuffles and first_order):  # which take all rows as they lie
        data = data.copied()
    if validation is not None:
        plan["validation"] = validation if model.custom is None else validation.copied()
    if first_order and model.custom is not None:
        from nnc.training.custom import CustomFit

        streams = state.streams = state.streams.copy()
        passes = epochs_of(model, streams, data, batch, shuffles)
        run = CustomFit(model, intake, passes, Plan(**plan), state, -(-n // batch))
        run.whole = data
        return run
    if shuffles:
        plan["order"] = np.arange(n, dtype=np.int32)
        plan["settings"]["key"] = state.streams.key(SHUFFLE)
    if "target_loss" in plan:
        plan["settings"]["target_loss"] = plan["target_loss"]
    if first_order:
        return Fit(model, intake, data, Plan(**plan), state)
    from nnc.training.second_order import SecondOrderFit

    return SecondOrderFit(model, intake, data, Plan(**plan), state)


def fit_batches(
    network: Any, batches: Any, given: Mapping[str, Any], defaults: Mapping[str, Any], stacklevel: int
) -> History:
    """What `NeuralNetwork.fit_batches` does.

    Parameters
    ----------
    network : NeuralNetwork
    batches : iterable or callable
    given : dict
        The options, epochs among them.
    defaults : dict
        Of all arguments of `fit` behind the data.
    stacklevel : int
        As for `fit`.
    """
    known = defaults.keys() - OF_ARRAYS
    unknown = given.keys() - known
    if unknown:
        from nnc.base.names import argument_suggestion

        name = min(unknown)
        raise TypeError(f"fit_batches has no argument {name!r}{argument_suggestion(name, known)}")
    said = {name: value for name, value in given.items() if value is not defaults[name]}
    with network.model.turn:
        return complete(network, from_batches(network, batches, said), stacklevel + 1)


def from_batches(network: Any, batches: Any, said: Mapping[str, Any]) -> BatchFit:
    """The run of `fit_batches`, as `from_arrays` makes that of `fit`."""
    model, intake, streams = network.model, network.intake.learner(), network.streams
    validation, epochs = said.get("validation"), said.get("epochs")
    if is_share(validation):
        raise TypeError(f"validation must be (X, y) with batches, got {validation!r}")
    optimizer, by_rule = said.get("optimizer"), left_to_rule(said, network.state)
    if by_rule and network.state is None:  # as far as it needs no number of rows
        from nnc.training.defaults import OPTIMIZER as optimizer
    state = State.begin(network.state, model, optimizer, said.get("lr"), epochs, streams)
    state.by_rule = by_rule
    if not hasattr(state.optimizer, "lr"):
        raise ValueError(f"{state.optimizer.name!r} takes all rows at once, so it does not go with batches")
    plan = options(said, network, state)
    if not callable(batches):
        try:
            one_pass = iter(batches) is batches
        except TypeError:
            raise TypeError(f"batches must be an iterable or a function, got {shown(batches)}") from None
        if one_pass and epochs != 1:
            raise ValueError(
                "batches must be a list or a function that gives a new iterator for every epoch where there is "
                f"more than one epoch, got an iterator, which ends with the first, and epochs={epochs}"
            )

    def passes() -> Iterator[Data]:
        return map(intake.batch, batches() if callable(batches) else batches)

    return _on_batches(model, intake, state, passes, validation, plan)


def _on_batches(
    model: Model,
    intake: Intake,
    state: State,
    passes: Callable[[], Iterator[Data]],
    validation: Any,
    plan: dict[str, Any],
    number: int | None = None,
) -> BatchFit:
    if plan.get("metrics") and validation is None:
        raise ValueError("metrics need validation rows where rows come batch by batch, got validation=None")
    kind: type[BatchFit] = BatchFit
    if model.custom is not None:
        from nnc.training.custom import CustomFit as kind
    return kind(model, intake, passes, Plan(validation=intake.validation(validation), **plan), state, number)


def _lazy_passes(
    intake: Intake,
    streams: Streams,
    X: Any,
    y: Any,
    sample_weight: Any,
    class_weight: Any,
    batch: int,
    shuffles: bool,
) -> Callable[[], Iterator[Data]]:
    """Epochs over rows that stay where they are, each batch read when its turn comes."""
    X = intake.rows(X)
    n = len(X)
    intake.learn_scaling(X)
    Y, labels = intake.targets(y, n, learn=True)
    weights = None if sample_weight is None else intake.row_weights("sample_weight", sample_weight, n)
    rest = intake.weighted(Data(X, Y, labels, weights), class_weight)

    def read(rows: Data, numbers: NDArray[Any]) -> Data:
        return rows.with_inputs(intake.checked_inputs(rows.X, learn=True, numbers=numbers))

    return epochs_of(intake.model, streams, rest, batch, shuffles, read)
