"""Start of a fit: arguments, state and rows are checked before the network changes."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.rows import Batch, unpack_batch
from nnc._model.data import Data
from nnc._training.advice import advise
from nnc._training.arguments import DEFAULTS, ONLY_FOR_ARRAYS, FitArguments
from nnc._training.dataset import Dataset
from nnc._training.loop import TrainingLoop
from nnc._training.options import TrainingOptions, uses_automatic_settings
from nnc._training.preparation import batch_minimizer, check_epoch_schedule, loop_on, prepare
from nnc._training.state import TrainingState
from nnc._training.trainable import adopt_converter, bound_network, converter_for_targets
from nnc._utils.checks import check_bool, check_count, check_not_negative, short_repr
from nnc._utils.random import SPLIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from numpy.typing import ArrayLike, NDArray

    from nnc._data.converter import DataConverter
    from nnc._data.splits import LastRows
    from nnc._model.model import Model
    from nnc._training.history import History
    from nnc._training.trainable import Trainable

    Batches: TypeAlias = Iterable[tuple[ArrayLike, ...]] | Callable[[], Iterable[tuple[ArrayLike, ...]]]


def fit_arrays(
    network: Trainable, X: ArrayLike, y: ArrayLike, arguments: FitArguments, lengths: ArrayLike | None = None
) -> History:
    """Train a network on arrays; see `NeuralNetwork.fit`."""
    # the training lock protects the training state
    with network.model.training_lock:
        run = bound_array_loop(network, X, y, arguments, lengths)
        begin(network, run)
        history = run.run()
        advise(run, history, stacklevel=5)  # show the warning at the line that calls `fit`
        return history


def begin(network: Trainable, run: TrainingLoop) -> None:
    """Set the state, the random streams and the data conversion of the network to those of the run."""
    run.options.network = network  # the run may have been prepared for a copy of the network
    with network.model.snapshot_lock:
        network.state, network.streams = run.state, run.state.streams
        adopt_converter(network, run.dataset.converter)


def bound_array_loop(
    network: Trainable, X: ArrayLike, y: ArrayLike, arguments: FitArguments, lengths: ArrayLike | None
) -> TrainingLoop:
    """Return the training loop of `fit`, for the number of steps of the longest sequence of training and validation."""
    converter = converter_for_targets(network.converter, X, y, lengths)
    converter, X = bind_rows(converter, X, lengths, arguments.validation)
    run = array_loop(bound_network(network, converter), X, y, arguments)
    if arguments.progress == "plot" and network.model.input_shape == (2,):
        display: Any = run.options.display
        display.show_rows(X, y)
    return run


def bind_rows(
    converter: DataConverter,
    X: ArrayLike,
    lengths: ArrayLike | None,
    validation: float | str | LastRows | Sequence[ArrayLike] | None,
) -> tuple[DataConverter, Any]:
    """Return the converter for the longest sequence of X and of the validation rows, and X as arrays or Sequences."""
    steps = 0
    if converter.model.stack.input.any_steps and isinstance(validation, (tuple, list)) and len(validation) in (2, 3, 4):
        batch = unpack_batch(validation)
        steps = converter.bind(batch.X, batch.lengths, trims=True)[0].model.input_shape[0]
    return converter.bind(X, lengths, steps, trims=True)


def array_loop(network: Trainable, X: ArrayLike, y: ArrayLike, arguments: FitArguments) -> TrainingLoop:
    """Return the training loop of `fit`.

    X becomes an array here; `Dataset` converts the array to the format of the engine.
    """
    arguments = with_checked_batches(arguments)
    converter, streams = network.converter.copy_for_fit(), network.streams
    rows = X if isinstance(X, np.memmap) else converter.array(X, learn=True)
    if arguments.dY is not None:
        network, arguments = with_derivatives(network, converter, rows, arguments)
    elif check_not_negative("dY_weight", arguments.dY_weight) != 1:
        raise ValueError(f"dY_weight must be left out without dY, got {arguments.dY_weight:g}")
    custom = network.model.custom
    has_weights = arguments.sample_weight is not None and custom is not None and custom.has_residuals
    if has_weights and converter.converts_by_batch(rows):
        raise ValueError("X must not be a memmap of another dtype with weights of nnc.LeastSquares; convert it first")
    if (method := split_method(arguments.validation)) is not None:
        batch = Batch(rows, y, arguments.sample_weight, dY=arguments.dY)
        train, held_out = converter.split(batch, method, streams.key(SPLIT))
        rows, y = train.X, train.y
        arguments = arguments.replaced(sample_weight=train.sample_weight, dY=train.dY, validation=held_out)
    batch_size, is_automatic = arguments.batch_size, uses_automatic_settings(arguments, network.state)
    if is_automatic:
        from nnc._training.defaults import automatic_arguments

        sets_rate = arguments.sets_rate
        arguments = automatic_arguments(arguments, network, converter, rows, len(converter.rows(rows)), network.state)
        state, options = prepare(network, arguments, not sets_rate, "auto")
    else:
        state, options = prepare(network, arguments, False)
    if (
        batch_size is not None
        and arguments.truncate is None
        and state.optimizer.first_order
        and converter.converts_by_batch(rows)
        and batch_size < len(rows)
    ):
        # Copy, because an error in the first batch must not change the network's random streams.
        state.streams = streams.copy()
        start_epoch = _lazy_epochs(converter, state, rows, y, arguments, batch_size)
        return _batch_loop(network, converter, state, start_epoch, arguments, options, -(-len(rows) // batch_size))
    dataset = Dataset.from_arrays(converter, rows, y, arguments)
    if is_automatic:
        from nnc._training.selection import with_selection

        arguments, state, options = with_selection(network, dataset, arguments, state, options)
    return loop_on(network, dataset, arguments, options, state)


def split_method(validation: Any) -> float | LastRows | None:
    """Return the split that `validation` describes; None without validation, or if it is a tuple of arrays."""
    if validation is None:
        return None
    from nnc._data.splits import as_split

    return as_split(validation)


def with_derivatives(
    network: Trainable, converter: DataConverter, rows: NDArray[Any], arguments: FitArguments
) -> tuple[Trainable, FitArguments]:
    """Return a network whose targets include derivatives, and the arguments with a checked array dY."""
    from nnc._data.slopes import as_slopes, check_slopes
    from nnc._model.slopes import model_with_slopes

    model = network.model
    check_slopes(model)
    if model.has_dropout or arguments.dropout != 0:
        raise ValueError("dropout must be left out with dY, because a mask has no derivative; use l2 or weight_decay")
    if converter.converts_by_batch(rows):
        raise ValueError("X must not be a memmap of another dtype with dY; convert it to an array of the dtype first")
    weight = check_not_negative("dY_weight", arguments.dY_weight)
    arguments = arguments.replaced(dY=as_slopes(model, arguments.dY, rows.shape[0]))
    return _with_model(network, model_with_slopes(model, weight)), arguments


def _with_model(network: Trainable, model: Model) -> Trainable:
    """Return a copy of a network that shares everything except the model."""
    bound: Any = object.__new__(type(network))
    vars(bound).update(vars(network), model=model)
    return bound  # type: ignore[no-any-return]


def with_checked_batches(arguments: FitArguments) -> FitArguments:
    """Return the arguments with checked `shuffle` and `batch_size`; `batch_size` becomes a Python int."""
    check_bool("shuffle", arguments.shuffle)
    size = arguments.batch_size
    if size is None or (type(size) is int and size > 0):
        return arguments
    return arguments.replaced(batch_size=check_count("batch_size", size))


def fit_batches(network: Trainable, batches: Batches, settings: Mapping[str, Any]) -> History:
    """Train a network on batches; see `NeuralNetwork.fit_batches`.

    Parameters
    ----------
    network : NeuralNetwork
        Network to train.
    batches : iterable or callable
        Batches of the epochs, as in `NeuralNetwork.fit_batches`.
    settings : dict
        Other arguments of that method, by name.
    """
    choices = DEFAULTS.keys() - ONLY_FOR_ARRAYS
    unknown = settings.keys() - choices
    if unknown:
        from nnc._utils.names import suggest_argument

        name = min(unknown)
        raise TypeError(f"fit_batches has no argument {name!r}{suggest_argument(name, choices)}")
    arguments = FitArguments(**settings)
    start_epoch, first = as_epoch_starter(batches, arguments.epochs), Batch(None, None)
    if network.converter.has_automatic_loss:
        # Reject invalid arguments before the first batch of an iterator is read. Metrics are checked later, because
        # they depend on the loss.
        prepare_batches(network, arguments.replaced(metrics=(), monitor=None))
        given, start_epoch = with_first_batch(start_epoch)
        first = unpack_batch(given)
    with network.model.training_lock:
        converter = converter_for_targets(network.converter, first.X, first.y, first.lengths, is_batch=True)
        run = batch_loop(bound_network(network, converter), start_epoch, arguments)
        begin(network, run)
        history = run.run()
        advise(run, history, stacklevel=4)  # show the warning at the line that calls `fit_batches`
        return history


def as_epoch_starter(batches: Batches, epochs: int | None) -> Callable[[], Iterator[Any]]:
    """Return a function that starts an epoch: it returns an iterator over the batches."""
    if callable(batches):

        def start_epoch() -> Iterator[Any]:
            epoch = batches()
            try:
                return iter(epoch)
            except TypeError:
                raise TypeError(f"batches must return an iterable, got {short_repr(epoch)}") from None

        return start_epoch
    try:
        is_iterator = iter(batches) is batches
    except TypeError:
        raise TypeError(f"batches must be an iterable or a function, got {short_repr(batches)}") from None
    if is_iterator and epochs != 1:
        raise ValueError(
            f"batches must not be an iterator if epochs={epochs}, because an iterator ends after one epoch; pass a "
            "list, or a function that returns a new iterator for each epoch"
        )
    return lambda: iter(batches)


def with_first_batch(start_epoch: Callable[[], Iterator[Any]]) -> tuple[Any, Callable[[], Iterator[Any]]]:
    """Return the first batch, and a new `start_epoch` whose first epoch still includes this batch."""
    iterator = start_epoch()
    first = next(iterator, None)
    if first is None:
        raise ValueError("batches must yield at least one batch, got none")
    first_epoch = [chain([first], iterator)]
    return first, lambda: first_epoch.pop() if first_epoch else start_epoch()


def batch_loop(network: Trainable, batches: Callable[[], Iterator[Any]], arguments: FitArguments) -> TrainingLoop:
    """Return the training loop of `fit_batches`."""
    converter = network.converter.copy_for_fit()
    state, options = prepare_batches(network, arguments)

    def start_epoch() -> Iterator[Data]:
        return map(converter.batch, batches())

    return _batch_loop(network, converter, state, start_epoch, arguments, options)


def prepare_batches(network: Trainable, arguments: FitArguments) -> tuple[TrainingState, TrainingOptions]:
    """Return the state and the options of `fit_batches`, after checking all arguments that need no data."""
    if split_method(arguments.validation) is not None:
        raise TypeError(f"validation must be (X, y) for fit_batches, got {short_repr(arguments.validation)}")
    optimizer, is_automatic = arguments.optimizer, uses_automatic_settings(arguments, network.state)
    # Choose only the optimizer, because other automatic settings depend on the unknown number of rows.
    if is_automatic and optimizer is None:
        from nnc._training.defaults import optimizer_to_begin

        optimizer = optimizer_to_begin(network.state)
    is_rate_automatic = is_automatic and not arguments.sets_rate
    preset = "auto" if is_automatic else "plain"
    state, options = prepare(network, arguments.replaced(optimizer=optimizer), is_rate_automatic, preset)
    if not state.optimizer.first_order:
        raise ValueError(
            f"optimizer must not be {state.optimizer.name!r} for batches, because it uses all rows in each iteration; "
            "use another optimizer, or call fit"
        )
    check_epoch_schedule(state)
    return state, options


def _batch_loop(
    network: Trainable,
    converter: DataConverter,
    state: TrainingState,
    start_epoch: Callable[[], Iterator[Data]],
    arguments: FitArguments,
    options: TrainingOptions,
    n_batches: int | None = None,
) -> TrainingLoop:
    """Return the training loop on batches that are read one after the other."""
    if options.metrics and arguments.validation is None:
        raise ValueError("validation must be (X, y) if metrics are used with batches, got None")
    model, validation = network.model, converter.validation(arguments.validation)
    if n_batches is None:
        check_epoch_schedule(state)
    minimizer, first = batch_minimizer(model, start_epoch, options, state, options.batch_size, n_batches)
    return TrainingLoop(model, Dataset(converter, first, validation), options, state, minimizer)


def _lazy_epochs(
    converter: DataConverter,
    state: TrainingState,
    X: NDArray[Any],
    y: ArrayLike,
    arguments: FitArguments,
    batch_size: int,
) -> Callable[[], Iterator[Data]]:
    """Return a function that starts an epoch: it returns an iterator that reads batches from a memory-mapped file."""
    from nnc._training.sources import epoch_batches

    X = converter.rows(X)
    n = len(X)
    converter.fit_input_scaling(X)
    Y, labels = converter.targets(y, n, learn=True)
    weights = arguments.sample_weight
    rows = Data(X, Y, labels, None if weights is None else converter.row_weights("sample_weight", weights, n))
    rows = converter.apply_class_weight(rows, arguments.class_weight)

    def read_batch(rows: Data, indices: NDArray[Any]) -> Data:
        return rows.replaced(X=converter.checked_inputs(rows.X, learn=True, numbers=indices))

    return epoch_batches(converter.model, state.streams, rows, batch_size, arguments.shuffle, read_batch)
