"""fit_many: many networks in one call."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from reprlib import repr as shown
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.automatic_loss import choose_loss
from nnc._network import NeuralNetwork
from nnc._parallel.history import ManyHistory
from nnc._parallel.per_network import PerNetwork
from nnc._parallel.source import Held, Source
from nnc._parallel.work import Job, Outcome, train
from nnc._team import Interrupt
from nnc._training.advice import DivergedWarning
from nnc._training.arguments import DEFAULTS, FitArguments
from nnc._training.callbacks import bar_of
from nnc._training.start import is_fraction
from nnc._utils.checks import check_bool, check_count, pluralize
from nnc._utils.containers import as_array
from nnc._utils.processors import get_num_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from nnc._training.advice import TrainingWarning

NOT_HERE = {"n_threads", "progress", "verbose"}  # arguments of `fit` that each network has not for itself


def fit_many(
    networks: Sequence[NeuralNetwork],
    X: ArrayLike,
    y: Any,
    *,
    rows: Sequence[ArrayLike | None] | None = None,
    n_jobs: int | None = None,
    executor: Any = None,
    progress: bool = False,
    **fit_options: Any,
) -> ManyHistory:
    """Trains many networks on the same data, one in each thread, the longest first.

    Each ends with the weights, to the last bit, that its own `fit` on its rows would have given it, whatever n_jobs is.

    Parameters
    ----------
    networks : sequence of NeuralNetwork
        All different objects, of any shapes that fit the data. They are trained in place.
    X, y : arrays
        As in `NeuralNetwork.fit`. They are checked and converted once, and shared by all networks that take them alike.
        The classes of labels, and a loss that is "auto", are found from all rows.
    rows : sequence of int arrays or masks, optional
        The rows that each network learns from, None for all of them: folds, or a bootstrap, in which rows may come
        several times. Where they take more than 4 MB they are read where they lie; fewer are copied when the network's
        turn comes, so `n_jobs` of them at a time.
    n_jobs : int, optional
        How many networks are trained at a time, each by one thread. Default: what `nnc.get_num_threads()` says.
    executor : object with `submit`, optional
        Trains elsewhere, in place of n_jobs: what has `submit` as concurrent.futures has it, a ProcessPoolExecutor, the
        `get_executor()` of a Dask client, mpi4py's MPIPoolExecutor. Tasks of up to a second, longer where X and y are
        large, some for each worker, take X, y and some networks along, each of one thread; what they have learned comes
        back into the networks. Where the machines of workers differ, so may the last bits. Ctrl-C drops the tasks that
        have not begun. On a cluster see nnc.dask.fit_many, which sends X and y once.
    progress : bool, default False
        Shows a progress bar (extra `[progress]`), which counts networks.
    **fit_options
        The other arguments of `NeuralNetwork.fit` except n_threads, progress and verbose. A value applies to all
        networks; `nnc.PerNetwork([0.1, 0.01])` has one value for each network. `sample_weight` has one weight for each
        row of X, whatever `rows` is; arrays of weights are not copied. Callbacks are called in the thread of their
        network.

    Returns
    -------
    ManyHistory
        A sequence of one History for each network. Ctrl-C ends all, each with what it has reached; those whose turn had
        not come are as they were.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these, or the data does not fit a network: nothing has been trained then, unless it is
        what a network finds wrong with its own rows.

    Warns
    -----
    DivergedWarning
        A network came to numbers that are not finite. It has the last finite weights, `diverged` of the history has the
        error, and the others are trained on.
    TrainingWarning
        One of its subclasses for the first network that shows a common mistake, which says of how many it is true. Of
        trainings of some milliseconds the first ten are looked at.

    Examples
    --------
    >>> networks = nnc.clones(NeuralNetwork([8, 16, 1], loss="mse"), 20)
    >>> history = nnc.fit_many(networks, X, y, epochs=100, optimizer="adam", lr=nnc.PerNetwork([0.001, 0.01] * 10))
    >>> best = networks[history.loss.argmin()]
    """
    began = perf_counter()
    networks = checked_networks("networks", networks)
    outcomes = outcomes_of(networks, X, y, rows, fit_options, n_jobs, executor, progress)
    return told(outcomes, perf_counter() - began, stacklevel=3)


def outcomes_of(
    networks: Sequence[NeuralNetwork],
    X: Any,
    y: Any,
    rows: Any,
    options: Mapping[str, Any],
    n_jobs: Any = None,
    executor: Any = None,
    progress: Any = False,
    seconds: float | None = None,
) -> list[Outcome]:
    """Trains all networks, for so many seconds at most; the arguments are those of fit_many."""
    n_threads = get_num_threads() if n_jobs is None else check_count("n_jobs", n_jobs)
    if executor is not None:
        check_executor(executor, n_jobs)
    source = Source(X, y)
    with choosing_losses(networks, y):
        jobs = jobs_of(networks, source, rows, options)
        with shown_progress(len(networks), progress) as done, Interrupt(seconds) as interrupt:
            if executor is None:
                return train(jobs, source, n_threads, interrupt, done)
            from nnc._parallel.executors import train_on

            return train_on(executor, jobs, source, interrupt, done)


@contextmanager
def choosing_losses(networks: Sequence[NeuralNetwork], y: Any) -> Iterator[None]:
    """Choose each loss that is "auto" by y, but restore "auto" if the data is refused before a network has trained."""
    undecided = [network for network in networks if network._has_automatic_loss]
    try:
        choose_losses(undecided, y)
        yield
    except (TypeError, ValueError):
        for network in undecided:
            network._restore_automatic_loss()
        raise


def choose_losses(networks: Sequence[NeuralNetwork], y: Any) -> None:
    """Choose by y the loss of each network whose loss is "auto"."""
    loss_by_width: dict[int, str] = {}
    for network in networks:
        if network._has_automatic_loss:
            n_out = network.sizes[-1]
            if n_out not in loss_by_width:
                loss_by_width[n_out] = choose_loss(y, n_out)
            network._set_loss(loss_by_width[n_out])


@contextmanager
def shown_progress(total: int, progress: Any, unit: str = "network") -> Iterator[Callable[[int], object]]:
    """Yield a function to call with the number of units that are done; show a bar meanwhile if `progress`."""
    if not check_bool("progress", progress):
        yield lambda n: None
        return
    bar = bar_of(total, unit)()
    try:
        yield bar.update
    finally:
        bar.close()


def check_executor(executor: Any, n_jobs: Any) -> None:
    """Raises where it is none, or n_jobs is said beside it."""
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor must have a method submit, as those of concurrent.futures, got {shown(executor)}")
    if n_jobs is not None:
        raise ValueError(
            f"n_jobs is for the threads of this process, and with an executor the workers are its own: got {n_jobs!r}"
        )


def checked_networks(name: str, networks: Any) -> list[NeuralNetwork]:
    """Networks that are all different objects."""
    try:
        found = list(networks)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of networks, got {shown(networks)}") from None
    if not found:
        raise ValueError(f"{name} must hold at least one network, got none")
    seen: dict[int, int] = {}
    for i, network in enumerate(found):
        if not isinstance(network, NeuralNetwork):
            raise TypeError(f"{name} must hold networks, got {shown(network)} in {name}[{i}]")
        if id(network) in seen:
            first = seen[id(network)]
            raise ValueError(f"{name} must be different objects, got the same one in {name}[{first}] and {name}[{i}]")
        seen[id(network)] = i
    return found


def jobs_of(networks: Sequence[NeuralNetwork], source: Source, rows: Any, given: Any) -> list[Job]:
    """Return a job for each network, from the arguments of fit_many."""
    validation = given.get("validation")
    if validation is not None and not isinstance(validation, PerNetwork) and not is_fraction(validation):
        source.validation, given = validation, {**given, "validation": Held.HELD}
    arguments = arguments_of(given, len(networks))
    n = source.taken(networks[0].converter).n
    indices = _each("rows", rows, networks, lambda name, value: index_of(name, value, n))
    jobs = []
    for i, (network, own_arguments) in enumerate(zip(networks, arguments, strict=True)):
        sample_weight, own_arguments.sample_weight = own_arguments.sample_weight, None
        job = Job(i, network, own_arguments, indices[i], sample_weight)
        job.take(source)  # or the data does not fit it
        jobs.append(job)
    return jobs


def check_names(given: Iterable[str]) -> None:
    """Raise where one of these is no argument that `fit_many` hands on to `fit`."""
    known = DEFAULTS.keys() - NOT_HERE
    for name in given:
        if name not in known:
            from nnc._utils.names import suggest_argument

            hints = {"n_threads": "; it is 1 here, see n_jobs", "verbose": "; progress=True shows a bar"}
            hint = hints.get(name) or suggest_argument(name, known)
            raise TypeError(f"fit_many has no argument {name!r}{hint}")


def arguments_of(given: Mapping[str, Any], n: int) -> list[FitArguments]:
    """Return the arguments of `fit` for each of n networks."""
    check_names(given)
    differing = {name: value for name, value in given.items() if isinstance(value, PerNetwork)}
    for name, values in differing.items():
        if len(values) != n:
            raise ValueError(
                f"{name} must have one value for each of {pluralize(n, 'network')}, got {len(values)}; "
                "leave PerNetwork out where the value applies to all networks"
            )
    common = {name: value for name, value in given.items() if name not in differing}
    common["n_threads"] = 1
    return [FitArguments(**common, **{name: values[i] for name, values in differing.items()}) for i in range(n)]


def _each(name: str, values: Any, networks: Sequence[Any], check: Any) -> list[Any]:
    """One value for each network, None where there is none."""
    if values is None:
        return [None] * len(networks)
    try:
        found = list(values)
    except TypeError:
        raise TypeError(f"{name} must be a sequence with one item for each network, got {shown(values)}") from None
    if len(found) != len(networks):
        raise ValueError(
            f"{name} must have one item for each of {pluralize(len(networks), 'network')}, got {len(found)}"
        )
    return [None if value is None else check(f"{name}[{i}]", value) for i, value in enumerate(found)]


def index_of(name: str, rows: Any, n: int) -> NDArray[np.intp]:
    """The numbers of rows that are given by these, or by a mask."""
    array = as_array(name, rows)
    if array.ndim != 1 or array.dtype.kind not in "iub":
        expected = f"be numbers of rows, or a mask of {n}"
        raise ValueError(f"{name} must {expected}, got {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "b":
        if len(array) != n:
            raise ValueError(f"{name} must have one item for each of {n} rows where it is a mask, got {len(array)}")
        array = np.flatnonzero(array)
    if not len(array):
        raise ValueError(f"{name} must name at least one row, got none")
    if array.min() < 0 or array.max() >= n:
        wrong = array[(array < 0) | (array >= n)][0]
        raise ValueError(f"{name} must lie between 0 and {n - 1}, got {wrong}")
    return array.astype(np.intp, copy=False)


def told(outcomes: Sequence[Outcome], seconds: float, stacklevel: int) -> ManyHistory:
    """The history of all, after warnings: one of each kind."""
    diverged = {i: outcome.error for i, outcome in enumerate(outcomes) if outcome.error is not None}
    found: dict[type[TrainingWarning], list[tuple[int, str]]] = {}
    for i, outcome in enumerate(outcomes):
        for kind, message in outcome.findings:
            found.setdefault(kind, []).append((i, message))
    if diverged:
        found[DivergedWarning] = [(i, str(error)) for i, error in diverged.items()]
    for kind, cases in found.items():
        i, message = cases[0]
        more = f" (and so of {pluralize(len(cases) - 1, 'other network')})" if len(cases) > 1 else ""
        warnings.warn(f"networks[{i}]{more}: {message}", kind, stacklevel)
    return ManyHistory([outcome.history for outcome in outcomes], diverged, seconds)
