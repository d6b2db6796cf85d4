"""Random search over options and widths, with successive halving."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from reprlib import repr as shown
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data import targets
from nnc._data.splits import split
from nnc._parallel.fit import NOT_HERE, check_names, checked_networks, choose_losses, outcomes_of
from nnc._parallel.per_network import PerNetwork
from nnc._training.advice import LearningRateWarning
from nnc._training.arguments import DEFAULTS, FitArguments
from nnc._training.defaults import chosen
from nnc._training.options import left_to_rule
from nnc._training.schedules import Schedule
from nnc._training.start import is_fraction, with_checked_batches
from nnc._utils.checks import allow_none, check_bool, check_count, check_fraction, check_positive
from nnc._utils.random import Stream, check_seed, mix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from nnc._network import NeuralNetwork


TEST = 0.1  # default fraction of the rows that are set aside for the final estimate
WORSE = 0.25  # of the loss of the best trial: so much may be added by training on all rows
REST = 3  # one of so many trials goes on to the next round, which is so many times as long


class SearchResult:
    """Result of a search.

    Attributes
    ----------
    table : list of dict
        A row for each trial, those that were trained longest first, and of these the best: "loss" (of the rows that
        were held out, the mean over folds), "epochs" that it was given, "seed", then the parameters by their names.
    best : dict
        The parameters of the first row.
    loss : float
        Its loss. It is the smallest one of many trials on the rows that select, so it is too low an estimate of the
        loss on new rows: see `test_loss`.
    test_loss : float or None
        The loss of the best trial on the test rows, which neither train nor select a trial; the mean over folds. It
        estimates the loss on new rows without bias for the networks of the trial. `network` has learned from more rows
        than these, so it is usually slightly better. None without test rows.
    network : NeuralNetwork
        Made of them and trained on all rows for as many epochs. Where Ctrl-C or max_seconds has ended the search,
        `validation` has brought other rows, or the training on all rows has come to something worse (see Warns of
        `search`), it is the network of the trial, with folds that of the first one.
    seconds : float
        Wall time of the whole search.
    """

    table: list[dict[str, Any]]
    best: dict[str, Any]
    network: NeuralNetwork
    seconds: float
    test_loss: float | None

    def __init__(
        self,
        table: list[dict[str, Any]],
        best: dict[str, Any],
        network: NeuralNetwork,
        seconds: float,
        test_loss: float | None,
    ) -> None:
        self.table, self.best, self.network, self.seconds = table, best, network, seconds
        self.test_loss = test_loss

    @property
    def loss(self) -> float:
        """The loss of the best trial."""
        return float(self.table[0]["loss"])

    def __repr__(self) -> str:
        test = "" if self.test_loss is None else f", test loss {self.test_loss:.6g}"
        trials = f"{len(self.table)} trials in {self.seconds:.3g} s"
        return f"<SearchResult: {trials}, loss {self.loss:.6g}{test} with {self.best}>"


class Trial:
    """Parameters, and the networks that they are tried with, one for each fold."""

    def __init__(self, make: Callable[..., NeuralNetwork], seed: int, parameters: dict[str, Any], folds: int) -> None:
        self.seed, self.parameters = seed, parameters
        self.options = {name: value for name, value in parameters.items() if name in DEFAULTS}
        self._make = make
        self.networks = [self.network() for _ in range(folds)]
        self.loss, self.epochs = np.inf, 0
        self.batch_sizes: list[int | None] = [None] * folds  # chosen by the automatic rule in the first round

    def judge(self, held: HeldOut) -> None:
        """Set `loss` to the loss on the rows that select."""
        self.loss = self.mean_loss(held.apart)

    def mean_loss(self, apart: Sequence[tuple[Any, ...]]) -> float:
        """Return the mean loss of the networks, each on its rows; infinite if a network had no turn, has diverged, or
        has outputs that are not finite."""
        losses = []
        for network, rows in zip(self.networks, apart, strict=True):
            history = network.history
            failed = history is None or history.stop_reason == "diverged"
            losses.append(np.inf if failed else network.evaluate_loss(*rows))
        mean = float(np.mean(losses))
        return mean if mean < np.inf else np.inf  # NaN is worse than any, too

    def network(self) -> NeuralNetwork:
        """A new one of these parameters."""
        made = {name: value for name, value in self.parameters.items() if name not in DEFAULTS}
        return checked_networks("what make gives", [self._make(seed=self.seed, **made)])[0]


def search(
    make: Callable[..., NeuralNetwork],
    space: Mapping[str, Any],
    X: ArrayLike,
    y: Any,
    *,
    epochs: int,
    validation: Any = None,
    folds: int | None = None,
    test: Any = None,
    trials: int = 30,
    seed: int | None = None,
    max_seconds: float | None = None,
    halving: bool = True,
    n_jobs: int | None = None,
    executor: Any = None,
    progress: bool = False,
    **fit_options: Any,
) -> SearchResult:
    """Looks for good options by random search with successive halving: all trials are trained for some epochs, the best
    third goes on for three times as many, and so on (Jamieson and Talwalkar, 2016).

    Parameters
    ----------
    make : callable
        `make(seed=..., **parameters)` gives a new NeuralNetwork of the parameters of `space` that are no arguments of
        `fit`.
    space : dict
        By name, of arguments of `fit` and of make: a list to choose from; (low, high), two whole numbers or two floats,
        each between them as likely; (low, high, "log") for floats whose logarithm is evenly spread; or what has `rvs`
        as distributions of scipy.stats.
    X, y : arrays
        As in `NeuralNetwork.fit`.
    epochs : int
        Of the trials that get all.
    validation : fraction, (X, y) or (X, y, sample_weight), optional
        What trials are judged by, the loss of these rows: a share of X, by default a fifth, with their weights where
        `sample_weight` is given, or others.
    folds : int, optional
        In place of it: each trial has so many networks, each of which is judged by another part of X.
    test : fraction, (X, y) or (X, y, sample_weight), optional
        Rows for `SearchResult.test_loss`, which neither train nor judge a trial: a fraction of X, 0 for none, or other
        rows. Default: a tenth of X, of which the final network learns too; none if `validation` is other rows.
    trials : int, default 30
    seed : int, optional
        Determines all that is drawn. With it, and without max_seconds, a search gives the same to the last bit,
        whatever n_jobs and executor are.
    max_seconds : float, optional
        Ends the search; the trial that is best by then counts, with its network as it is. Where the search ends before,
        training the best network on all rows comes on top.
    halving : bool, default True
        False gives all trials all epochs.
    n_jobs, executor, progress
        As in `nnc.fit_many`.
    **fit_options
        Further arguments of `fit` that are the same for all.

    Returns
    -------
    SearchResult
        Ctrl-C ends the search with what has been reached.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.

    Warns
    -----
    LearningRateWarning
        The network that was trained on all rows is far worse on those that were held out, though it has learned from
        them, than that of the trial, which is the result then: so trainings come out where the rate is large to the
        end, and the best of many trials was a lucky one. A rate that falls is a remedy (`lr=nnc.CosineLR(0.1)`).

    Examples
    --------
    >>> def make(seed, width, activation):
    ...     return NeuralNetwork([8, width, 1], activation=activation, loss="mse", seed=seed)
    >>> space = {"width": (4, 64), "activation": ["tanh", "relu"], "lr": (1e-4, 1e-1, "log"), "batch_size": [16, 64]}
    >>> result = nnc.search(make, space, X, y, epochs=81, trials=27, optimizer="adam", seed=0)
    >>> result.network.predict(X)
    """
    began = perf_counter()
    epochs, trials, root = check_count("epochs", epochs), check_count("trials", trials), check_seed(seed)
    folds = 1 if folds is None else check_count("folds", folds, 2)
    if folds > 1 and validation is not None:
        raise ValueError("validation and folds both say what trials are judged by: give one of them")
    limit = allow_none(check_positive)("max_seconds", max_seconds)
    draws = {name: _drawer(name, value) for name, value in _checked_space(space, fit_options).items()}
    rng = np.random.default_rng(root)
    table = [
        Trial(make, mix((root + t) % 2**64), {name: draw(rng) for name, draw in draws.items()}, folds)
        for t in range(trials)
    ]
    choose_losses([network for trial in table for network in trial.networks], y)
    validation, counted = 0.2 if validation is None else validation, fit_options.get("sample_weight")
    held = _held_out(table[0].networks[0], X, y, counted, validation, folds, test, root)
    alive, stopped = table, False
    for goal in _rounds(epochs, trials) if check_bool("halving", halving) else [epochs]:
        seconds = None if limit is None else max(1e-3, began + limit - perf_counter())
        elsewhere = {"n_jobs": n_jobs, "executor": executor, "progress": progress, "seconds": seconds}
        stopped = _train(alive, goal, epochs, X, y, held, fit_options, elsewhere)
        for trial in alive:
            trial.judge(held)
        if stopped:
            break
        alive = sorted(alive, key=lambda trial: trial.loss)[: -(-len(alive) // REST)]
    table.sort(key=lambda trial: (-trial.epochs, trial.loss))  # losses after other numbers of epochs say little
    best = table[0]
    network = best.networks[0]
    if held.of_all and not stopped:
        network = best.network()
        options = {**fit_options, **best.options, "epochs": best.epochs}
        _fit_all([network], X, y, None, options, n_jobs=n_jobs)
        loss = float(np.mean([network.evaluate_loss(*apart) for apart in held.apart]))
        if not loss - best.loss <= WORSE * abs(best.loss) and best.loss < np.inf:
            network = best.networks[0]
            warnings.warn(
                f"trained on all rows, the best parameters came to a loss of {loss:.4g} on the rows that were held out "
                f"of the trial, and the trial itself to {best.loss:.4g}: the network is that of the trial. Where the "
                "learning rate is large to the end, the best of many trials is a lucky one: let it fall, as "
                "lr=nnc.CosineLR(0.1) does, or try smaller ones",
                LearningRateWarning,
                stacklevel=2,
            )
    rows = [{"loss": one.loss, "epochs": one.epochs, "seed": one.seed, **one.parameters} for one in table]
    test_loss = None if held.test is None else best.mean_loss([held.test] * folds)
    return SearchResult(rows, best.parameters, network, perf_counter() - began, test_loss)


def _checked_space(space: Any, fit_options: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(space, Mapping) or not all(isinstance(name, str) for name in space):
        raise TypeError(f"space must be a dict of names and what they are drawn from, got {shown(space)}")
    for name in space:
        if name in fit_options or name in NOT_HERE | {"epochs", "validation", "sample_weight", "seed"}:
            raise ValueError(f"space must not have {name!r}, which search is told, or decides, itself")
    return space


def _drawer(name: str, value: Any) -> Callable[[np.random.Generator], Any]:
    """A function that draws a value of a parameter."""
    if hasattr(value, "rvs"):
        return lambda rng: _plain(value.rvs(random_state=rng))
    if isinstance(value, list) and value:
        return lambda rng: value[int(rng.integers(len(value)))]
    if isinstance(value, tuple) and len(value) in (2, 3) and all(isinstance(end, (int, float)) for end in value[:2]):
        low, high = value[:2]
        if low < high and (len(value) == 2 or (value[2] == "log" and low > 0)):
            if len(value) == 3:
                return lambda rng: float(np.exp(rng.uniform(np.log(low), np.log(high))))
            if isinstance(low, int) and isinstance(high, int):
                return lambda rng: int(rng.integers(low, high + 1))
            return lambda rng: float(rng.uniform(low, high))
    raise ValueError(
        f"space[{name!r}] must be a list, (low, high), (low, high, 'log') with 0 < low < high, or a distribution with "
        f"rvs, got {shown(value)}"
    )


def _plain(value: Any) -> Any:
    """A number of NumPy's as one of Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _rounds(epochs: int, trials: int) -> list[int]:
    """The epochs that trials have had at the end of each round, the last of which has one trial or few."""
    rounds = [epochs]
    while trials > 1 and rounds[0] >= REST:
        rounds.insert(0, rounds[0] // REST)
        trials = -(-trials // REST)
    return rounds


class HeldOut:
    """Rows that trials are judged by, and that the best one is tested on.

    Attributes
    ----------
    X : array
        All rows, as they came.
    sizes : list of int
        Number of rows that each network learns from.
    rows : list of int array, or None
        The rows that the network of each fold learns from; None for all rows.
    apart : list of (X, y) or (X, y, sample_weight)
        The rows that it is judged by.
    test : (X, y), (X, y, sample_weight) or None
        The rows that the best trial is tested on.
    of_all : bool
        Whether the rows that judge belong to X: the best network learns from them too.
    """

    def __init__(
        self,
        X: NDArray[Any],
        n: int,
        rows: list[NDArray[np.intp]] | None,
        apart: list[tuple[Any, ...]],
        test: tuple[Any, ...] | None,
        of_all: bool,
    ) -> None:
        self.X, self.rows, self.apart, self.test, self.of_all = X, rows, apart, test, of_all
        self.sizes = [n] if rows is None else [len(each) for each in rows]


def _held_out(
    network: NeuralNetwork, X: Any, y: Any, sample_weight: Any, validation: Any, folds: int, test: Any, seed: int
) -> HeldOut:
    """Return fractions of the rows, or folds, with the same share of every class and the weights of their rows, or
    other rows."""
    converter = network.converter.copy_for_fit()
    array = converter.array(X, learn=True)
    rows = converter.rows(array)
    n = len(rows)
    inner = folds > 1 or is_fraction(validation)
    if not inner:
        _check_rows("validation", validation)
    if test is None:
        enough = 0 < round(TEST * n) <= n - max(folds, 2)
        test = TEST if inner and enough else 0
    if not is_fraction(test):
        _check_rows("test", test)
    elif test == 0:
        test = None
    if not inner and not is_fraction(test):
        return HeldOut(array, n, None, [tuple(validation)], None if test is None else tuple(test), False)
    known = [rows, targets.check_row_count(rows, y)]
    if sample_weight is not None:
        known.append(converter.row_weights("sample_weight", sample_weight, n))
    strata = targets.stratification_labels(known[1], network.model.loss, converter.classes)
    left = np.arange(n)
    if is_fraction(test):
        left, out = split(n, check_fraction("test", test), mix(seed), strata, name="test")
        test = tuple(part[out] for part in known)
    if inner:
        strata = None if strata is None else strata[left]
        parts = [(left[train], left[out]) for train, out in _parts(len(left), validation, folds, seed, strata)]
        apart = [tuple(part[out] for part in known) for _, out in parts]
    else:
        parts, apart = [(left, left[:0])], [tuple(validation)]
    return HeldOut(array, n, [train for train, _ in parts], apart, None if test is None else tuple(test), inner)


def _check_rows(name: str, value: Any) -> None:
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        raise TypeError(f"{name} must be a fraction, (X, y) or (X, y, sample_weight), got {shown(value)}")


def _parts(
    n: int, validation: Any, folds: int, seed: int, strata: NDArray[Any] | None
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return for each fold the rows to learn from and those that judge, of n rows."""
    if folds == 1:
        return [split(n, check_fraction("validation", validation), seed, strata, name="validation")]
    if n < folds:
        raise ValueError(f"folds must be at most the number of rows, {n}, got {folds}")
    classes = np.zeros(n) if strata is None else np.unique(strata, return_inverse=True)[1]
    order = np.lexsort((Stream(mix(seed)).uniform((n,)), classes))  # class by class, shuffled in each
    fold = np.empty(n, np.intp)
    fold[order] = np.arange(n) % folds
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]


def _train(
    trials: list[Trial],
    goal: int,
    epochs: int,
    X: Any,
    y: Any,
    held: HeldOut,
    common: Mapping[str, Any],
    elsewhere: dict[str, Any],
) -> bool:
    """Train all trials up to epoch `goal`; return whether Ctrl-C or the time limit has ended that."""
    check_names(common)
    networks = [network for trial in trials for network in trial.networks]
    arguments: list[dict[str, Any]] = []
    by_rule = []
    for trial in trials:
        shared = {**common, **trial.options, "epochs": goal - trial.epochs}
        if isinstance(shared.get("lr"), Schedule):
            shared["lr"] = shared["lr"].resolved(epochs)  # whatever the round
        if trial.epochs:  # it goes on
            continued = ("optimizer", "lr", "preset", "reset_optimizer")
            shared = {name: value for name, value in shared.items() if name not in continued}
        for fold, (network, n) in enumerate(zip(trial.networks, held.sizes, strict=True)):
            own = with_checked_batches(FitArguments(**shared))
            if not trial.epochs and left_to_rule(own, network.state):  # the next rounds continue its schedule
                if not own.names_rate:
                    by_rule.append(network)
                own = chosen(own, network, network.converter, held.X, n, None)
                if isinstance(own.lr, Schedule):
                    own.lr = own.lr.resolved(epochs)
                own.preset, trial.batch_sizes[fold] = "plain", own.batch_size
            elif own.batch_size is None:
                own.batch_size = trial.batch_sizes[fold]
            arguments.append(own.given())
        trial.epochs = goal
    names = dict.fromkeys(name for given in arguments for name in given)
    options = {name: PerNetwork(given.get(name, DEFAULTS.get(name)) for given in arguments) for name in names}
    rows = None if held.rows is None else held.rows * len(trials)
    stopped = _fit_all(networks, X, y, rows, options, **elsewhere)
    for network in by_rule:
        if network.state is not None:
            network.state.by_rule = True
    return stopped


def _fit_all(
    networks: list[NeuralNetwork], X: Any, y: Any, rows: Any, options: Mapping[str, Any], **elsewhere: Any
) -> bool:
    """fit_many without warnings, which would be of trials that are given up; returns whether it was ended early."""
    outcomes = outcomes_of(networks, X, y, rows, options, **elsewhere)
    return any(outcome.history.stop_reason == "interrupt" for outcome in outcomes)
