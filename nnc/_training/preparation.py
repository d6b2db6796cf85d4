"""Preparation of a run from arguments and converted rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnc._training.dataset import Dataset
from nnc._training.first_order import FirstOrder
from nnc._training.loop import TrainingLoop
from nnc._training.options import TrainingOptions, checked_options
from nnc._training.state import TrainingState
from nnc._utils.checks import check_count
from nnc._utils.random import SHUFFLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._training.arguments import FitArguments
    from nnc._training.trainable import Trainable

CHUNK_BYTES = 1 << 18  # with a custom loss, read several batches at once, up to this many bytes of inputs


def prepare(
    network: Trainable, arguments: FitArguments, is_automatic: bool, preset: str = "plain"
) -> tuple[TrainingState, TrainingOptions]:
    """Return the state and the options of a run, after checking all arguments that do not depend on the data.

    Parameters
    ----------
    network : NeuralNetwork
        Network to train.
    arguments : FitArguments
        Arguments, including those that `automatic_arguments` has chosen.
    is_automatic : bool
        Whether optimizer and learning rate were chosen automatically.
    preset : "auto" or "plain"
        Whether any setting was chosen automatically.
    """
    optimizer, lr, epochs = arguments.optimizer, arguments.lr, arguments.epochs
    reset = arguments.reset_optimizer
    state = TrainingState.begin(network.state, network.model, optimizer, lr, epochs, network.streams, reset)
    state.is_automatic = is_automatic
    options = checked_options(arguments, network, state)
    if arguments.truncate is not None or check_count("warm_up", arguments.warm_up, minimum=0):
        from nnc._training.truncation import check_truncation

        check_truncation(arguments, network.model, state)
    options.preset = preset
    return state, options


def loop_on(
    network: Trainable, dataset: Dataset, arguments: FitArguments, options: TrainingOptions, state: TrainingState
) -> TrainingLoop:
    """Return the training loop for converted rows."""
    model, converter, rows, validation = network.model, dataset.converter, dataset.rows, dataset.validation
    if arguments.class_weight is not None:
        rows = converter.apply_class_weight(rows, arguments.class_weight)
    n = rows.n
    size = n if options.batch_size is None else min(n, options.batch_size)
    shuffles = arguments.shuffle and arguments.truncate is None and size < n
    is_first_order = state.optimizer.first_order
    # Copy the selected rows, unless the training reads rows by index: shuffled training with a first-order optimizer.
    if rows.index is not None and not (shuffles and is_first_order):
        rows = rows.materialize()
    if validation is not None and model.custom is not None:
        validation = validation.materialize()
    if rows is not dataset.rows or validation is not dataset.validation:
        dataset = Dataset(converter, rows, validation)
    if is_first_order and model.custom is not None:
        from nnc._training.sources import epoch_batches

        state.streams = state.streams.copy()
        chunk = size * max(1, CHUNK_BYTES * n // (size * rows.source.X.nbytes))
        start_epoch = epoch_batches(model, state.streams, rows, chunk, shuffles)
        minimizer, _ = batch_minimizer(model, start_epoch, options, state, size, -(-n // size))
        return TrainingLoop(model, dataset, options, state, minimizer)
    if shuffles:
        options.order = np.arange(n, dtype=np.int32)
        options.settings["key"] = state.streams.key(SHUFFLE)
    if options.target_loss is not None:
        options.settings["target_loss"] = options.target_loss
    if arguments.truncate is not None:
        from nnc._training.truncation import truncated_rows

        short, chunks = truncated_rows(model, rows, options, arguments.truncate, arguments.warm_up)
        return TrainingLoop(model, dataset, options, state, FirstOrder(short, chunks, options, state))
    if is_first_order:
        return TrainingLoop(model, dataset, options, state)
    from nnc._training.second_order import NetworkObjective, SecondOrder, check_second_order

    check_second_order(model, rows, options, state)
    objective = NetworkObjective(model, rows, options.settings.get("l2", 0.0), "biases_too" in options.settings)
    return TrainingLoop(model, dataset, options, state, SecondOrder(model, objective, options, state))


def batch_minimizer(
    model: Model,
    start_epoch: Callable[[], Iterator[Data]],
    options: TrainingOptions,
    state: TrainingState,
    batch_size: int | None,
    n_batches: int | None,
) -> tuple[FirstOrder, Data]:
    """Return a minimizer that reads batches, and the first batch; `BatchSource` describes the arguments."""
    from nnc._training.sources import BatchSource

    custom = None
    if model.custom is not None:
        from nnc._training.custom import CustomObjective

        custom = CustomObjective()
    source = BatchSource(model, start_epoch, batch_size, n_batches, custom)
    minimizer = FirstOrder(source.model_for(source.rows), source.rows, options, state, source, custom)
    return minimizer, source.first


def check_epoch_schedule(state: TrainingState) -> None:
    """Raise ValueError for a PerStep schedule, which needs the number of batches in an epoch."""
    if state.changes_by_step:
        raise ValueError(
            "lr must not be PerStep for fit_batches, which does not count the batches of an epoch in advance; pass a "
            "schedule that counts epochs"
        )
