"""From the arguments of `fit` and `fit_batches` to a run: data, state and plan, all checked before anything changes."""

from __future__ import annotations

from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.base.checks import count, flag, fraction
from nnc.base.random import SHUFFLE, SPLIT
from nnc.model.data import Data
from nnc.training.fit import Fit
from nnc.training.plan import Plan, options
from nnc.training.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nnc.base.random import Streams
    from nnc.data.intake import Intake
    from nnc.model.model import Model
    from nnc.training.batches import BatchFit

OF_ARRAYS = {"batch_size", "shuffle", "sample_weight", "class_weight"}  # arguments of `fit` that `fit_batches` has not


def from_arrays(
    model: Model, intake: Intake, streams: Streams, before: State | None, X: Any, y: Any, given: Mapping[str, Any]
) -> Fit:
    """The run of `fit`.

    Parameters
    ----------
    model : Model
    intake : Intake
        Learns what the first fit finds out.
    streams : Streams
    before : State or None
        Of the fit before.
    X, y : arrays
    given : dict
        All arguments of `fit` by their names; "self" is what records call the network.
    """
    sample_weight, validation, epochs = given["sample_weight"], given["validation"], given["epochs"]
    if isinstance(validation, (float, int, np.floating)):
        share = fraction("validation", validation)
        X, y, sample_weight, validation = intake.split(X, y, sample_weight, share, streams.key(SPLIT))
    batch = None if given["batch_size"] is None else count("batch_size", given["batch_size"])
    shuffles = flag("shuffle", given["shuffle"])
    state = State.begin(before, model, given["optimizer"], given["lr"], epochs, streams)
    plan = options(given, model, state)
    first_order = hasattr(state.optimizer, "lr")
    if batch is not None and first_order and intake.is_lazy(X) and batch < len(X):
        streams = state.streams = streams.copy()  # the first batch draws, and may be refused
        passes = _lazy_passes(intake, streams, X, y, sample_weight, given["class_weight"], batch, shuffles)
        return _on_batches(model, intake, state, passes, validation, plan, given)
    data = intake.weighted(intake.data(X, y, sample_weight, learn=True), given["class_weight"])
    n = len(data.X)
    batch = n if batch is None else min(n, batch)
    order = np.arange(n, dtype=np.int32) if shuffles and batch < n else None
    if order is not None:
        plan["settings"]["key"] = streams.key(SHUFFLE)
    if "target_loss" in plan:
        plan["settings"]["target_loss"] = plan["target_loss"]
    checked = Plan(
        batch_size=batch, order=order, validation=intake.validation(validation), network=given["self"], **plan
    )
    if first_order:
        return Fit(model, intake, data, checked, state)
    from nnc.training.second_order import SecondOrderFit

    return SecondOrderFit(model, intake, data, checked, state)


def options_of_batches(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `fit_batches`, those that are not given being the defaults of `fit`."""
    known = defaults.keys() - OF_ARRAYS
    unknown = given.keys() - known
    if unknown:
        from nnc.base.names import argument_suggestion

        name = min(unknown)
        raise TypeError(f"fit_batches has no argument {name!r}{argument_suggestion(name, known)}")
    return {**defaults, **given}


def from_batches(
    model: Model, intake: Intake, streams: Streams, before: State | None, batches: Any, given: Mapping[str, Any]
) -> BatchFit:
    """The run of `fit_batches`, with the arguments of `from_arrays`."""
    validation, epochs = given["validation"], given["epochs"]
    if isinstance(validation, (float, int, np.floating)):
        raise TypeError(f"validation must be (X, y) with batches, got {validation!r}")
    state = State.begin(before, model, given["optimizer"], given["lr"], epochs, streams)
    if not hasattr(state.optimizer, "lr"):
        raise ValueError(f"{state.optimizer.name!r} takes all rows at once, so it does not go with batches")
    plan = options(given, model, state)
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

    return _on_batches(model, intake, state, passes, validation, plan, given)


def _on_batches(
    model: Model,
    intake: Intake,
    state: State,
    passes: Callable[[], Iterator[Data]],
    validation: Any,
    plan: dict[str, Any],
    given: Mapping[str, Any],
) -> BatchFit:
    from nnc.training.batches import BatchFit

    if plan.get("metrics") and validation is None:
        raise ValueError("metrics need validation rows where rows come batch by batch, got validation=None")
    checked = Plan(validation=intake.validation(validation), network=given["self"], **plan)
    return BatchFit(model, intake, passes, checked, state)


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
    order = np.arange(n, dtype=np.int32)

    def batches() -> Iterator[Data]:
        if shuffles:
            streams.draws = intake.model.core.shuffle(order, streams.key(SHUFFLE), streams.draws)
        for start in range(0, n, batch):
            rows = order[start : start + batch]
            data = rest.rows(rows) if shuffles else rest.rows(slice(start, start + batch))
            yield data.with_inputs(intake.checked_inputs(data.X, learn=True, numbers=rows))

    return batches
