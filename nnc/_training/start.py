"""Preparation of a fit: arguments, state and rows are checked before the network changes.

The steps of the preparation are the functions of STEPS, each of which returns a new `Plan`.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.batch import Batch, unpack_batch
from nnc._data.fit_rows import apply_class_weight, split_batch
from nnc._data.targets import check_weights
from nnc._model.data import Data
from nnc._registry.capabilities import check
from nnc._training.advice import advise
from nnc._training.arguments import BATCH_OPTIONS, FitArguments
from nnc._training.dataset import Dataset
from nnc._training.options import uses_automatic_settings
from nnc._training.plan import Plan
from nnc._training.preparation import build_loop, with_options
from nnc._training.trainable import adopt_converter, converter_for_targets
from nnc._utils.checks import short_repr
from nnc._utils.random import SPLIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from numpy.typing import ArrayLike, NDArray

    from nnc._data.converter import DataConverter
    from nnc._data.splits import LastRows
    from nnc._training.history import History
    from nnc._training.loop import TrainingLoop
    from nnc._training.trainable import Trainable

    Batches: TypeAlias = Iterable[tuple[ArrayLike, ...]] | Callable[[], Iterable[tuple[ArrayLike, ...]]]


def fit_arrays(
    network: Trainable, X: ArrayLike, y: ArrayLike, arguments: FitArguments, lengths: ArrayLike | None = None
) -> History:
    """Train a network on arrays; see `NeuralNetwork.fit`."""
    # the training lock protects the training state
    with network.model.training_lock:
        rows = Batch(X, y, arguments.sample_weight, lengths, arguments.dY)
        plan = Plan.of(network, arguments, rows, network.converter.copy_for_fit())
        for step in STEPS:
            plan = step(plan)
        run = build_loop(plan)
        if arguments.progress == "plot" and network.model.input_shape == (2,):
            display: Any = plan.options.display
            display.show_rows(X, y)
        begin(network, run)
        history = run.run()
        advise(run, history, stacklevel=5)  # show the warning at the line that calls `fit`
        return history


def begin(network: Trainable, run: TrainingLoop) -> None:
    """Set the state, the random streams and the data conversion of the network to those of the run."""
    with network.model.snapshot_lock:
        network.state, network.streams = run.state, run.state.streams
        adopt_converter(network, run.dataset.converter)


def with_loss_for_targets(plan: Plan, is_batch: bool = False) -> Plan:
    """Return the plan with a chosen loss if that of the network is "auto"."""
    if not plan.converter.has_automatic_loss:
        return plan
    rows = plan.rows
    return plan.with_converter(converter_for_targets(plan.converter, rows.X, rows.y, rows.lengths, is_batch))


def with_steps(plan: Plan) -> Plan:
    """Return the plan for the number of steps of the longest sequence of the training and validation rows."""
    rows = plan.rows
    if rows.lengths is None and len(plan.model.input_shape) != 2:
        return plan
    converter, X = bind_rows(plan.converter, rows.X, rows.lengths, plan.arguments.validation)
    plan = plan.with_converter(converter)
    return plan if X is rows.X and rows.lengths is None else plan._replace(rows=rows._replace(X=X, lengths=None))


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


def with_array(plan: Plan) -> Plan:
    """Return the plan with X as an array; the converter learns column names."""
    converter, rows, custom = plan.converter, plan.rows, plan.model.custom
    X = rows.X if isinstance(rows.X, np.memmap) else converter.array(rows.X, learn=True)
    has_weights = rows.sample_weight is not None and custom is not None and custom.has_residuals
    if has_weights and converter.converts_by_batch(X):
        check("sample_weight of nnc.LeastSquares", memmap=X)
    return plan if X is rows.X else plan._replace(rows=rows._replace(X=X))


def with_derivatives(plan: Plan) -> Plan:
    """Return the plan for targets with derivatives if `dY` is passed, with checked derivatives."""
    rows, arguments, model = plan.rows, plan.arguments, plan.model
    if rows.dY is None:
        return plan
    from nnc._data.slopes import as_slopes
    from nnc._model.slopes import model_with_slopes

    check("dY", model, memmap=rows.X if plan.converter.converts_by_batch(rows.X) else None)
    rows = rows._replace(dY=as_slopes(model, rows.dY, rows.X.shape[0]))
    return plan._replace(model=model_with_slopes(model, arguments.dY_weight), rows=rows)


def with_split(plan: Plan) -> Plan:
    """Return the plan with training rows and validation rows if `validation` describes a split."""
    if (method := split_method(plan.arguments.validation)) is None:
        return plan
    rows, held_out, copies = split_batch(plan.converter, plan.rows, method, plan.streams.key(SPLIT))
    return plan._replace(rows=rows, copies=copies, arguments=plan.arguments._replace(validation=held_out))


def with_settings(plan: Plan) -> Plan:
    """Return the plan with state and options, and with automatic settings if the caller does not set them."""
    if uses_automatic_settings(plan.arguments, plan.previous):
        from nnc._training.defaults import with_automatic_settings

        plan = with_automatic_settings(plan, plan.rows.X, len(plan.converter.rows(plan.rows.X)))
    return with_options(plan)


def with_dataset(plan: Plan) -> Plan:
    """Return the plan with converted rows, or with a function that reads and converts one batch after the other."""
    arguments, converter, X, size = plan.arguments, plan.converter, plan.rows.X, plan.given.get("batch_size")
    if (
        size is not None
        and arguments.truncate is None
        and plan.state.optimizer.first_order
        and converter.converts_by_batch(X)
        and size < len(X)
    ):
        return with_lazy_epochs(plan, size)
    return plan._replace(dataset=Dataset.from_batch(converter, plan.rows, arguments.validation))


def with_selected_settings(plan: Plan) -> Plan:
    """Return the plan with epochs and weight decay selected by validation, if the settings are automatic."""
    if not plan.is_automatic or plan.start_epoch is not None:
        return plan
    from nnc._training.selection import with_selection

    return with_selection(plan)


# Steps of the preparation of `fit`, in this order.
STEPS = (
    with_loss_for_targets,
    with_steps,
    with_array,
    with_derivatives,
    with_split,
    with_settings,
    with_dataset,
    with_selected_settings,
)


def split_method(validation: Any) -> float | LastRows | None:
    """Return the split that `validation` describes; None without validation, or if it is a tuple of arrays."""
    if validation is None:
        return None
    from nnc._data.splits import as_split

    return as_split(validation)


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
    unknown = settings.keys() - BATCH_OPTIONS
    if unknown:
        from nnc._utils.names import suggest_argument

        name = min(unknown)
        raise TypeError(f"fit_batches has no argument {name!r}{suggest_argument(name, BATCH_OPTIONS)}")
    plan, start_epoch = Plan.of(network, FitArguments(**settings)), as_epoch_starter(batches, settings.get("epochs"))
    if network.converter.has_automatic_loss:
        # Reject invalid arguments before the first batch of an iterator is read. Metrics are checked later, because
        # they depend on the loss.
        with_batch_options(plan._replace(arguments=plan.arguments._replace(metrics=(), monitor=None)))
        first, start_epoch = with_first_batch(start_epoch)
        plan = plan._replace(rows=unpack_batch(first))
    with network.model.training_lock:
        plan = Plan.of(network, plan.arguments, plan.rows, network.converter.copy_for_fit())
        plan = with_batch_options(with_loss_for_targets(plan, is_batch=True))
        converter = plan.converter
        run = build_loop(plan._replace(start_epoch=lambda: map(converter.batch, start_epoch())))
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


def with_batch_options(plan: Plan) -> Plan:
    """Return the plan of `fit_batches` with state and options, after checking all arguments that need no data."""
    arguments, previous = plan.arguments, plan.previous
    if split_method(arguments.validation) is not None:
        raise TypeError(f"validation must be (X, y) for fit_batches, got {short_repr(arguments.validation)}")
    is_automatic = uses_automatic_settings(arguments, previous)
    # Choose only the optimizer, because other automatic settings depend on the unknown number of rows.
    if is_automatic and arguments.optimizer is None:
        from nnc._training.defaults import optimizer_to_begin

        arguments = arguments._replace(optimizer=optimizer_to_begin(previous))
    plan = with_options(plan._replace(arguments=arguments, is_automatic=is_automatic))
    check("fit_batches", optimizer=plan.state.optimizer, schedule=plan.state.schedule)
    return plan


def with_lazy_epochs(plan: Plan, batch_size: int) -> Plan:
    """Return the plan with a function that reads the batches of an epoch from a memory-mapped file."""
    from nnc._training.sources import epoch_batches

    converter, arguments, state, rows = plan.converter, plan.arguments, plan.state, plan.rows
    state.streams = plan.streams.copy()  # an error in the first batch must not change the network's random streams
    X = converter.rows(rows.X)
    n, weights = len(X), rows.sample_weight
    converter.fit_input_scaling(X)
    Y, labels = converter.targets(rows.y, n, learn=True)
    data = Data(X, Y, labels, None if weights is None else check_weights(converter.model, "sample_weight", weights, n))
    data = apply_class_weight(converter, data, arguments.class_weight)

    def read_batch(rows: Data, indices: NDArray[Any]) -> Data:
        return rows.replaced(X=converter.checked_inputs(rows.X, learn=True, numbers=indices))

    start_epoch = epoch_batches(converter.model, state.streams, data, batch_size, arguments.shuffle, read_batch)
    return plan._replace(start_epoch=start_epoch, n_batches=-(-n // batch_size))
