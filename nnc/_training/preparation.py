"""Last steps of the preparation of a run: state, options, minimizer and training loop of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnc._data.fit_rows import apply_class_weight, convert_validation
from nnc._registry.capabilities import check
from nnc._training.dataset import Dataset
from nnc._training.first_order import FirstOrder
from nnc._training.loop import TrainingLoop
from nnc._training.options import checked_options
from nnc._training.state import TrainingState
from nnc._utils.random import SHUFFLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nnc._model.data import Data
    from nnc._training.plan import Plan

CHUNK_BYTES = 1 << 18  # with a custom loss, read several batches at once, up to this many bytes of inputs


def begun_state(plan: Plan) -> TrainingState:
    """Return the state from which a run or a step starts; `TrainingState.begin` describes it."""
    arguments = plan.arguments
    return TrainingState.begin(
        plan.previous,
        plan.model,
        arguments.optimizer,
        arguments.lr,
        arguments.epochs,
        plan.streams,
        arguments.reset_optimizer,
    )


def with_options(plan: Plan) -> Plan:
    """Return the plan with state and options, after checking all arguments that do not depend on the data."""
    arguments, state = plan.arguments, begun_state(plan)
    state.is_automatic = plan.is_automatic and "lr" not in plan.given and "optimizer" not in plan.given
    preset = "auto" if plan.is_automatic else "plain"
    options = checked_options(arguments, plan.given, plan.model, state, plan.network, preset, plan.copies)
    if arguments.truncate is not None and arguments.warm_up >= arguments.truncate:
        raise ValueError(f"warm_up must be less than truncate={arguments.truncate}, got {arguments.warm_up}")
    return plan._replace(state=state, options=options)


def build_loop(plan: Plan) -> TrainingLoop:
    """Return the training loop of a plan with options, and with converted rows or a function that reads batches."""
    plan = with_row_order(plan) if plan.start_epoch is None else with_batches(plan)
    return TrainingLoop(plan.model, plan.dataset, plan.options, plan.state, plan.minimizer)


def with_row_order(plan: Plan) -> Plan:
    """Return the plan with weighted rows in the order of an epoch, and with the minimizer for them."""
    arguments, model, options, state = plan.arguments, plan.model, plan.options, plan.state
    rows, validation = plan.dataset.rows, plan.dataset.validation
    if arguments.class_weight is not None:
        rows = apply_class_weight(plan.converter, rows, arguments.class_weight)
    n = rows.n
    size = n if options.batch_size is None else min(n, options.batch_size)
    shuffles = arguments.shuffle and arguments.truncate is None and size < n
    is_first_order = state.optimizer.first_order
    # Copy the selected rows, unless the training reads rows by index: shuffled training with a first-order optimizer.
    if rows.index is not None and not (shuffles and is_first_order):
        rows = rows.materialize()
    if validation is not None and model.custom is not None:
        validation = validation.materialize()
    if rows is not plan.dataset.rows or validation is not plan.dataset.validation:
        plan = plan._replace(dataset=Dataset(plan.converter, rows, validation))
    if is_first_order and model.custom is not None:
        return with_batches_of_rows(plan, size, shuffles)
    if shuffles:
        order = np.arange(n, dtype=np.int32)
        options = options._replace(order=order, settings={**options.settings, "key": state.streams.key(SHUFFLE)})
        plan = plan._replace(options=options)
    if arguments.truncate is not None:
        from nnc._training.truncation import with_chunks

        return with_chunks(plan, size)
    return plan if is_first_order else with_second_order(plan)


def with_second_order(plan: Plan) -> Plan:
    """Return the plan with a minimizer for L-BFGS or Levenberg-Marquardt."""
    from nnc._training.second_order import NetworkObjective, SecondOrder

    model, rows, options, state = plan.model, plan.dataset.rows, plan.options, plan.state
    check(f"optimizer={state.optimizer.name!r}", model)
    if options.batch_size is not None and options.batch_size < rows.n:
        check("batch_size", optimizer=state.optimizer)
    objective = NetworkObjective(model, rows, options.settings.get("l2", 0.0), "biases_too" in options.settings)
    return plan._replace(minimizer=SecondOrder(model, objective, options, state))


def with_batches_of_rows(plan: Plan, size: int, shuffles: bool) -> Plan:
    """Return the plan for steps of a custom loss, which reads batches of `size` rows from the rows in memory."""
    from nnc._training.sources import epoch_batches

    rows, state = plan.dataset.rows, plan.state
    state.streams = state.streams.copy()
    chunk = size * max(1, CHUNK_BYTES * rows.n // (size * rows.source.X.nbytes))
    start_epoch = epoch_batches(plan.model, state.streams, rows, chunk, shuffles)
    return with_reader(plan, start_epoch, size, -(-rows.n // size))[0]


def with_batches(plan: Plan) -> Plan:
    """Return the plan with a minimizer that reads batches, and with the first batch as its rows."""
    options, validation = plan.options, plan.arguments.validation
    if options.metrics and validation is None:
        raise ValueError("validation must be (X, y) if metrics are used with batches, got None")
    validation_rows = convert_validation(plan.converter, validation)
    assert plan.start_epoch is not None
    plan, first = with_reader(plan, plan.start_epoch, options.batch_size, plan.n_batches)
    return plan._replace(dataset=Dataset(plan.converter, first, validation_rows))


def with_reader(
    plan: Plan, start_epoch: Callable[[], Iterator[Data]], batch_size: int | None, n_batches: int | None
) -> tuple[Plan, Data]:
    """Return the plan with a minimizer that reads batches, and the first batch.

    `BatchSource` describes the arguments.
    """
    from nnc._training.sources import BatchSource

    custom = None
    if plan.model.custom is not None:
        from nnc._training.custom import CustomObjective

        custom = CustomObjective()
    source = BatchSource(plan.model, start_epoch, batch_size, n_batches, custom)
    minimizer = FirstOrder(source.model_for(source.rows), source.rows, plan.options, plan.state, source, custom)
    return plan._replace(minimizer=minimizer), source.first
