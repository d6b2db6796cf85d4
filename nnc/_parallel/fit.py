"""`fit_many`: training of many networks in one call."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._data.automatic_loss import converter_for_loss, loss_for_targets
from nnc._data.splits import as_split
from nnc._network import NeuralNetwork
from nnc._parallel.history import ManyHistory
from nnc._parallel.per_network import PerNetwork
from nnc._parallel.source import SharedValidation, Source
from nnc._parallel.work import Job, Outcome, train
from nnc._registry.capabilities import PAIRS, check_arguments
from nnc._team import Interrupt
from nnc._training.advice import DivergedWarning
from nnc._training.arguments import MANY_OPTIONS, FitArguments
from nnc._training.callbacks import bar_factory
from nnc._utils.checks import check_bool, check_count, pluralize, short_repr
from nnc._utils.containers import as_array
from nnc._utils.processors import get_num_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from nnc._data.converter import DataConverter
    from nnc._training.advice import TrainingWarning
    from nnc.layers.base import Shape


def fit_many(
    networks: Sequence[NeuralNetwork],
    X: ArrayLike,
    y: Any,
    *,
    lengths: ArrayLike | None = None,
    rows: Sequence[ArrayLike | None] | None = None,
    n_jobs: int | None = None,
    executor: Any = None,
    progress: bool = False,
    **fit_options: Any,
) -> ManyHistory:
    """Train many networks on the same data in parallel, each network in one thread.

    Each network gets the same weights, to the last bit, as by its own `fit` on its rows, for any n_jobs. The networks
    with the longest estimated training start first.

    Parameters
    ----------
    networks : sequence of NeuralNetwork
        Different objects, of any architectures that match the data. They are trained in place.
    X, y : arrays
        Data as in `NeuralNetwork.fit`. They are checked and converted once for all networks with the same conversion.
        Classes, and the loss of networks with loss="auto", are determined from all rows.
    lengths : int array (n,), optional
        Number of steps of each sequence, as in `NeuralNetwork.fit`. X and y may be lists of arrays instead.
    rows : sequence of int arrays or masks, optional
        Training rows of each network, None for all rows: folds, or bootstrap samples, which contain rows several times.
        Rows of more than 4 MB are not copied; fewer rows are copied when the training of the network starts, so at
        most `n_jobs` copies exist at the same time.
    n_jobs : int, optional
        Number of networks that are trained at the same time, each by one thread. Default: `nnc.get_num_threads()`.
    executor : object with `submit`, optional
        Executor that trains the networks instead of `n_jobs` threads: an object with the method `submit`,
        such as a ProcessPoolExecutor, the `get_executor()` of a Dask client, or mpi4py's MPIPoolExecutor. Each task
        contains X, y and some networks, uses one thread, and takes up to a second, or longer if X and y are large. The
        trained parameters are copied back into the networks. The last bits may differ if the workers have different
        processors. Ctrl-C cancels the tasks that have not started. On a cluster, `nnc.dask.fit_many` sends X and y
        only once.
    progress : bool, default False
        Whether to show a progress bar that counts networks (extra `[progress]`).
    **fit_options
        Other arguments of `NeuralNetwork.fit`, except n_threads, progress and verbose. A value applies to all
        networks; `nnc.PerNetwork([0.1, 0.01])` has one value for each network. `sample_weight` has one weight for each
        row of X, independent of `rows`; arrays of weights are not copied. Callbacks are called in the thread of their
        network.

    Returns
    -------
    ManyHistory
        Sequence of the History of each network. Ctrl-C ends all trainings; networks whose training had not started are
        unchanged.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid, or the data does not match a network. Nothing is trained then, unless the error concerns
        only the rows of a single network.

    Warns
    -----
    DivergedWarning
        The training of a network diverged. The network has its last finite weights, `diverged` of the history contains
        the error, and the training of the other networks continues.
    TrainingWarning
        A network shows a common mistake. There is one warning for each mistake (a subclass), with the number of
        networks that it concerns. Of trainings shorter than 5 ms only the first ten networks are checked.

    Examples
    --------
    >>> networks = nnc.clones(NeuralNetwork([8, 16, 1], loss="mse"), 20)
    >>> history = nnc.fit_many(networks, X, y, epochs=100, optimizer="adam", lr=nnc.PerNetwork([0.001, 0.01] * 10))
    >>> best = networks[history.loss.argmin()]
    """
    start = perf_counter()
    networks = check_networks("networks", networks)
    outcomes = train_networks(networks, X, y, rows, fit_options, n_jobs, executor, progress, lengths=lengths)
    return build_history(outcomes, perf_counter() - start, stacklevel=3)


def train_networks(
    networks: Sequence[NeuralNetwork],
    X: Any,
    y: Any,
    rows: Any,
    options: Mapping[str, Any],
    n_jobs: Any = None,
    executor: Any = None,
    progress: Any = False,
    seconds: float | None = None,
    lengths: Any = None,
    converters: Sequence[DataConverter] | None = None,
) -> list[Outcome]:
    """Train all networks with the arguments of fit_many, for at most `seconds`; return an `Outcome` for each.

    `converters` are the converters from which the trainings start. By default, they are those of the networks, or new
    ones with a loss for the targets y if the loss is "auto".
    """
    n_threads = get_num_threads() if n_jobs is None else check_count("n_jobs", n_jobs)
    if executor is not None:
        check_executor(executor, n_jobs)
    source = Source(X, y, lengths=lengths)
    jobs = build_jobs(networks, source, rows, options, converters)
    with progress_bar(len(networks), progress) as advance, Interrupt(seconds) as interrupt:
        if executor is None:
            return train(jobs, source, n_threads, interrupt, advance)
        from nnc._parallel.executors import train_on

        return train_on(executor, jobs, source, interrupt, advance)


class NetworkGroup(NamedTuple):
    """Networks that are trained on the same data: arguments of `fit_many`, and its `options` as a mapping."""

    networks: Sequence[NeuralNetwork]
    X: Any
    y: Any
    rows: Any
    options: Mapping[str, Any]


def train_groups(groups: Sequence[NetworkGroup], n_jobs: int | None, seconds: float | None = None) -> list[Outcome]:
    """Train the networks of all groups at the same time, for at most `seconds`.

    The result contains an `Outcome` for each network, in the order of the groups.
    """
    sources = [Source(group.X, group.y) for group in groups]
    jobs = [
        job
        for group, source in zip(groups, sources, strict=True)
        for job in build_jobs(group.networks, source, group.rows, group.options)
    ]
    with Interrupt(seconds) as interrupt:
        return train(jobs, sources[0], n_jobs or get_num_threads(), interrupt)


def converters_for_targets(
    networks: Sequence[NeuralNetwork], X: Any, y: Any, lengths: Any = None
) -> list[DataConverter]:
    """Return the converter of each network, or if its loss is "auto", a new one with a loss for the targets y."""
    losses: dict[tuple[Shape, Shape], str] = {}
    converters = []
    for network in networks:
        converter = network.converter
        if converter.has_automatic_loss:
            shapes = network.model.input_shape, network.model.stack.output_shape
            if shapes not in losses:
                losses[shapes] = loss_for_targets(converter, X, y, lengths)
            converter = converter_for_loss(converter, losses[shapes])
        converters.append(converter)
    return converters


@contextmanager
def progress_bar(total: int, progress: Any, unit: str = "network") -> Iterator[Callable[[int], object]]:
    """Show a progress bar in the `with` block if `progress` is true; yield a function that advances the bar."""
    if not check_bool("progress", progress):
        yield lambda n: None
        return
    bar = bar_factory(total, unit)()
    try:
        yield bar.update
    finally:
        bar.close()


def check_executor(executor: Any, n_jobs: Any) -> None:
    """Raise an error if the executor has no method `submit`, or if `n_jobs` is passed as well."""
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(
            f"executor must have the method submit, like executors of concurrent.futures, got {short_repr(executor)}"
        )
    check_arguments(PAIRS["fit_many"], {"executor": executor, "n_jobs": n_jobs}, {})


def check_networks(name: str, networks: Any) -> list[NeuralNetwork]:
    """Return the networks as a list; raise an error unless they are NeuralNetworks and different objects."""
    try:
        members = list(networks)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of networks, got {short_repr(networks)}") from None
    if not members:
        raise ValueError(f"{name} must contain at least one network, got none")
    seen: dict[int, int] = {}
    for i, network in enumerate(members):
        if not isinstance(network, NeuralNetwork):
            raise TypeError(f"{name} must contain only NeuralNetworks, got {short_repr(network)} in {name}[{i}]")
        if id(network) in seen:
            first = seen[id(network)]
            raise ValueError(f"{name} must be different objects, got the same one in {name}[{first}] and {name}[{i}]")
        seen[id(network)] = i
    return members


def build_jobs(
    networks: Sequence[NeuralNetwork],
    source: Source,
    rows: Any,
    options: Any,
    converters: Sequence[DataConverter] | None = None,
) -> list[Job]:
    """Return a job for each network, from the arguments of `train_networks`."""
    if converters is None:
        converters = converters_for_targets(networks, source.X, source.y, source.lengths)
    validation = options.get("validation")
    if validation is not None and not isinstance(validation, PerNetwork) and as_split(validation) is None:
        source.validation, options = validation, {**options, "validation": SharedValidation.SHARED}
    arguments = split_arguments(options, len(networks))
    n = source.convert(converters[0]).n
    row_indices = _check_rows(rows, len(networks), n)
    jobs = []
    for i, (network, network_arguments) in enumerate(zip(networks, arguments, strict=True)):
        weights, network_arguments = network_arguments.sample_weight, network_arguments._replace(sample_weight=None)
        job = Job(i, network, network_arguments, row_indices[i], weights, converters[i])
        job.convert(source)  # raise an error now if the data does not match the network
        jobs.append(job)
    return jobs


def check_names(names: Iterable[str]) -> None:
    """Raise TypeError if a name is not an argument that `fit_many` passes on to `fit`."""
    for name in names:
        if name not in MANY_OPTIONS:
            from nnc._utils.names import suggest_argument

            hints = {"n_threads": "; use n_jobs, each network has one thread", "verbose": "; use progress=True"}
            hints |= dict.fromkeys(("dY", "dY_weight"), "; call fit for each network")
            hint = hints.get(name) or suggest_argument(name, MANY_OPTIONS)
            raise TypeError(f"fit_many has no argument {name!r}{hint}")


def split_arguments(options: Mapping[str, Any], n: int) -> list[FitArguments]:
    """Return the arguments of `fit` for each of n networks."""
    check_names(options)
    network_values = {name: value for name, value in options.items() if isinstance(value, PerNetwork)}
    for name, values in network_values.items():
        if len(values) != n:
            raise ValueError(
                f"{name} must have one value for each of {pluralize(n, 'network')}, got {len(values)}; "
                "to use one value for all networks, pass it without PerNetwork"
            )
    common = {name: value for name, value in options.items() if name not in network_values}
    common["n_threads"] = 1
    return [FitArguments(**common, **{name: values[i] for name, values in network_values.items()}) for i in range(n)]


def _check_rows(rows: Any, n_networks: int, n: int) -> list[NDArray[np.intp] | None]:
    """Return the row indices of each network from the argument `rows` of fit_many; None means all rows."""
    if rows is None:
        return [None] * n_networks
    try:
        items = list(rows)
    except TypeError:
        raise TypeError(f"rows must be a sequence with one item for each network, got {short_repr(rows)}") from None
    if len(items) != n_networks:
        raise ValueError(f"rows must have one item for each of {pluralize(n_networks, 'network')}, got {len(items)}")
    return [None if item is None else _row_index(f"rows[{i}]", item, n) for i, item in enumerate(items)]


def _row_index(name: str, rows: Any, n: int) -> NDArray[np.intp]:
    """Return row indices from an array of indices, or from a mask with one boolean for each of n rows."""
    array = as_array(name, rows)
    if array.ndim != 1 or array.dtype.kind not in "iub":
        expected = f"row indices (n,) or a mask ({n},)"
        raise ValueError(f"{name} must be {expected}, got {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "b":
        if len(array) != n:
            raise ValueError(f"{name} is a mask and must have one item for each of {n} rows, got {len(array)}")
        array = np.flatnonzero(array)
    if not len(array):
        raise ValueError(f"{name} must select at least one row, got none")
    if array.min() < 0 or array.max() >= n:
        invalid = array[(array < 0) | (array >= n)][0]
        raise ValueError(f"{name} must contain indices from 0 to {n - 1}, got {invalid}")
    return array.astype(np.intp, copy=False)


def build_history(outcomes: Sequence[Outcome], seconds: float, stacklevel: int) -> ManyHistory:
    """Return the histories of all networks, and issue one warning for each kind of problem."""
    diverged = {i: outcome.error for i, outcome in enumerate(outcomes) if outcome.error is not None}
    findings: dict[type[TrainingWarning], list[tuple[int, str]]] = {}
    for i, outcome in enumerate(outcomes):
        for kind, message in outcome.findings:
            findings.setdefault(kind, []).append((i, message))
    if diverged:
        findings[DivergedWarning] = [(i, str(error)) for i, error in diverged.items()]
    for kind, cases in findings.items():
        i, message = cases[0]
        more = f" (and {pluralize(len(cases) - 1, 'other network')})" if len(cases) > 1 else ""
        warnings.warn(f"networks[{i}]{more}: {message}", kind, stacklevel)
    return ManyHistory([outcome.history for outcome in outcomes], diverged, seconds)
