"""Start a fit: arguments, state and rows are all checked before the network changes."""

from __future__ import annotations

from itertools import chain
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.rows import unpack_batch
from nnc._model.data import Data
from nnc._training.advice import advise
from nnc._training.arguments import DEFAULTS, ONLY_FOR_ARRAYS, FitArguments
from nnc._training.batches import BatchLoop, epochs_of
from nnc._training.dataset import Dataset
from nnc._training.loop import TrainingLoop
from nnc._training.options import TrainingOptions, checked_options, left_to_rule
from nnc._training.state import TrainingState
from nnc._utils.checks import check_bool, check_count, check_fraction
from nnc._utils.random import SHUFFLE, SPLIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias, TypeGuard

    from numpy.typing import ArrayLike, NDArray

    from nnc._data.converter import DataConverter
    from nnc._training.history import History
    from nnc._training.trainable import Trainable

    Batches: TypeAlias = Iterable[tuple[ArrayLike, ...]] | Callable[[], Iterable[tuple[ArrayLike, ...]]]

CHUNK_BYTES = 1 << 18  # of inputs that are selected at once for a custom loss: several batches, or one


def fit_arrays(network: Trainable, X: ArrayLike, y: ArrayLike, arguments: FitArguments) -> History:
    """Train a network on arrays, as `NeuralNetwork.fit` does."""
    with network.model.training_lock, network._choosing_loss(y):  # before it is asked what the fit continues
        run = array_loop(network, X, y, arguments)
        begin(network, run)
        history = run.run()
        advise(run, history, stacklevel=5)  # the caller of `fit`
        return history


def begin(network: Trainable, run: TrainingLoop) -> None:
    """Give the network the state of the run and what its rows have taught."""
    with network.model.snapshot_lock:
        network.state, network.streams, network.converter = run.state, run.state.streams, run.dataset.converter


def array_loop(network: Trainable, X: ArrayLike, y: ArrayLike, arguments: FitArguments) -> TrainingLoop:
    """Return the training loop of `fit`. X is converted to an array here, and to rows for the engine in `Dataset`."""
    arguments = with_checked_batches(arguments)
    converter, streams = network.converter.copy_for_fit(), network.streams
    rows = X if isinstance(X, np.memmap) else converter.array(X, learn=True)
    validation = arguments.validation
    if is_fraction(validation):
        share = check_fraction("validation", validation)
        rows, y, weights, held = converter.split(rows, y, arguments.sample_weight, share, streams.key(SPLIT))
        arguments = arguments.replaced(sample_weight=weights, validation=held)
    batch_size, by_rule = arguments.batch_size, left_to_rule(arguments, network.state)
    if by_rule:
        from nnc._training.defaults import chosen

        names_rate = arguments.names_rate
        arguments = chosen(arguments, network, converter, rows, len(converter.rows(rows)), network.state)
        state, options = prepare(network, arguments, not names_rate, "auto")
    else:
        state, options = prepare(network, arguments, False)
    if (
        batch_size is not None
        and hasattr(state.optimizer, "lr")
        and converter.converts_by_batch(rows)
        and batch_size < len(rows)
    ):
        state.streams = streams.copy()  # the first batch draws from them, and may be refused
        passes = _lazy_passes(converter, state, rows, y, arguments, batch_size)
        return _batch_loop(network, converter, state, passes, arguments, options, -(-len(rows) // batch_size))
    return loop_on(network, Dataset.from_arrays(converter, rows, y, arguments), arguments, options, state)


def is_fraction(validation: float | Sequence[ArrayLike] | None) -> TypeGuard[float]:
    """Return whether the argument asks for a fraction of the rows."""
    return isinstance(validation, (float, int, np.floating))


def with_checked_batches(arguments: FitArguments) -> FitArguments:
    """Check shuffle and batch_size; return the arguments with an int of Python for the latter."""
    check_bool("shuffle", arguments.shuffle)
    size = arguments.batch_size
    if size is None or (type(size) is int and size > 0):
        return arguments
    return arguments.replaced(batch_size=check_count("batch_size", size))


def prepare(
    network: Trainable, arguments: FitArguments, by_rule: bool, preset: str = "plain"
) -> tuple[TrainingState, TrainingOptions]:
    """Return the state that a run continues and its options; all arguments are checked that do not need the data.

    Parameters
    ----------
    network : NeuralNetwork
    arguments : FitArguments
        With those that the rule of nnc/_training/defaults.py has filled in.
    by_rule : bool
        Whether the rule has chosen both optimizer and learning rate.
    preset : "auto" or "plain"
        Whether the rule has chosen any setting.
    """
    optimizer, lr, epochs = arguments.optimizer, arguments.lr, arguments.epochs
    reset = arguments.reset_optimizer
    state = TrainingState.begin(network.state, network.model, optimizer, lr, epochs, network.streams, reset)
    state.by_rule = by_rule
    options = checked_options(arguments, network, state)
    options.preset = preset
    return state, options


def loop_on(
    network: Trainable, dataset: Dataset, arguments: FitArguments, options: TrainingOptions, state: TrainingState
) -> TrainingLoop:
    """Return the training loop on rows that have been converted."""
    model, converter, rows, validation = network.model, dataset.converter, dataset.rows, dataset.validation
    if arguments.class_weight is not None:
        rows = converter.apply_class_weight(rows, arguments.class_weight)
    n = rows.n
    size = n if options.batch_size is None else min(n, options.batch_size)
    shuffles, is_first_order = arguments.shuffle and size < n, hasattr(state.optimizer, "lr")
    if rows.index is not None and not (shuffles and is_first_order):  # which read all rows where they are
        rows = rows.materialize()
    if validation is not None and model.custom is not None:
        validation = validation.materialize()
    if rows is not dataset.rows or validation is not dataset.validation:
        dataset = Dataset(converter, rows, validation)
    if is_first_order and model.custom is not None:
        from nnc._training.custom import CustomLossLoop

        state.streams = state.streams.copy()
        chunk = size * max(1, CHUNK_BYTES * n // (size * rows.source.X.nbytes))
        passes = epochs_of(model, state.streams, rows, chunk, shuffles)
        return CustomLossLoop(model, converter, passes, options, state, validation, rows, -(-n // size))
    if shuffles:
        options.order = np.arange(n, dtype=np.int32)
        options.settings["key"] = state.streams.key(SHUFFLE)
    if options.target_loss is not None:
        options.settings["target_loss"] = options.target_loss
    if is_first_order:
        return TrainingLoop(model, dataset, options, state)
    from nnc._training.second_order import SecondOrderLoop

    return SecondOrderLoop(model, dataset, options, state)


def fit_batches(network: Trainable, batches: Batches, given: Mapping[str, Any]) -> History:
    """Train a network on batches, as `NeuralNetwork.fit_batches` does; `given` are the other arguments by name."""
    known = DEFAULTS.keys() - ONLY_FOR_ARRAYS
    unknown = given.keys() - known
    if unknown:
        from nnc._utils.names import suggest_argument

        name = min(unknown)
        raise TypeError(f"fit_batches has no argument {name!r}{suggest_argument(name, known)}")
    arguments = FitArguments(**given)
    passes, y = passes_over(batches, arguments.epochs), None
    if network._has_automatic_loss:
        y, passes = with_first_target(passes)
    with network.model.training_lock, network._choosing_loss(y, is_batch=True):
        run = batch_loop(network, passes, arguments)
        begin(network, run)
        history = run.run()
        advise(run, history, stacklevel=4)  # the caller of `fit_batches`
        return history


def passes_over(batches: Batches, epochs: int | None) -> Callable[[], Iterator[Any]]:
    """Return a function that returns an iterator over the batches for each epoch."""
    if callable(batches):
        return lambda: iter(batches())
    try:
        one_pass = iter(batches) is batches
    except TypeError:
        raise TypeError(f"batches must be an iterable or a function, got {shown(batches)}") from None
    if one_pass and epochs != 1:
        raise ValueError(
            "batches must be a list or a function that returns a new iterator for every epoch if there is more than "
            f"one epoch, got an iterator, which ends with the first, and epochs={epochs}"
        )
    return lambda: iter(batches)


def with_first_target(passes: Callable[[], Iterator[Any]]) -> tuple[Any, Callable[[], Iterator[Any]]]:
    """Return y of the first batch, and a function like `passes` that yields this batch again."""
    iterator = passes()
    first = next(iterator, None)
    if first is None:
        raise ValueError("batches must give at least one batch, got none")
    begun = [chain([first], iterator)]
    return unpack_batch(first)[1], lambda: begun.pop() if begun else passes()


def batch_loop(network: Trainable, batches: Callable[[], Iterator[Any]], arguments: FitArguments) -> BatchLoop:
    """Return the training loop of `fit_batches`."""
    model, converter, epochs = network.model, network.converter.copy_for_fit(), arguments.epochs
    if is_fraction(arguments.validation):
        raise TypeError(f"validation must be (X, y) with batches, got {arguments.validation!r}")
    optimizer, by_rule = arguments.optimizer, left_to_rule(arguments, network.state)
    if by_rule and optimizer is None:  # the part of the rule that does not depend on the number of rows
        from nnc._training.defaults import optimizer_to_begin

        optimizer = optimizer_to_begin(network.state)
    lr, reset = arguments.lr, arguments.reset_optimizer
    state = TrainingState.begin(network.state, model, optimizer, lr, epochs, network.streams, reset)
    state.by_rule = by_rule and not arguments.names_rate
    if not hasattr(state.optimizer, "lr"):
        raise ValueError(f"{state.optimizer.name!r} takes all rows at once, so it does not go with batches")
    options = checked_options(arguments, network, state)
    options.preset = "auto" if by_rule else "plain"

    def passes() -> Iterator[Data]:
        return map(converter.batch, batches())

    return _batch_loop(network, converter, state, passes, arguments, options)


def _batch_loop(
    network: Trainable,
    converter: DataConverter,
    state: TrainingState,
    passes: Callable[[], Iterator[Data]],
    arguments: FitArguments,
    options: TrainingOptions,
    number: int | None = None,
) -> BatchLoop:
    if options.metrics and arguments.validation is None:
        raise ValueError("metrics need validation rows where rows come batch by batch, got validation=None")
    kind = BatchLoop
    if network.model.custom is not None:
        from nnc._training.custom import CustomLossLoop

        kind = CustomLossLoop
    validation = converter.validation(arguments.validation)
    return kind(network.model, converter, passes, options, state, validation, number=number)


def _lazy_passes(
    converter: DataConverter,
    state: TrainingState,
    X: NDArray[Any],
    y: ArrayLike,
    arguments: FitArguments,
    batch_size: int,
) -> Callable[[], Iterator[Data]]:
    """Return the epochs of rows that stay in their file: each batch is read when it is needed."""
    X = converter.rows(X)
    n = len(X)
    converter.fit_input_scaling(X)
    Y, labels = converter.targets(y, n, learn=True)
    weights = arguments.sample_weight
    rows = Data(X, Y, labels, None if weights is None else converter.row_weights("sample_weight", weights, n))
    rows = converter.apply_class_weight(rows, arguments.class_weight)

    def read(rows: Data, numbers: NDArray[Any]) -> Data:
        return rows.with_inputs(converter.checked_inputs(rows.X, learn=True, numbers=numbers))

    return epochs_of(converter.model, state.streams, rows, batch_size, arguments.shuffle, read)
