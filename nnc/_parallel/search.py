"""`search`: random search of hyperparameters with successive halving."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._data import splits, targets
from nnc._data.repeated_rows import describe_copies, find_copies
from nnc._data.sequences import Sequences
from nnc._data.splits import LastRows, as_split
from nnc._data.targets import check_weights
from nnc._parallel.fit import check_names, check_networks, converters_for_targets, train_networks
from nnc._parallel.per_network import PerNetwork
from nnc._training.advice import LeakageWarning, LearningRateWarning
from nnc._training.arguments import DEFAULTS, MANY_OPTIONS, FitArguments
from nnc._training.defaults import selects_settings, with_automatic_settings
from nnc._training.options import uses_automatic_settings
from nnc._training.plan import Plan
from nnc._training.schedules import Schedule
from nnc._training.trainable import adopt_converter
from nnc._utils.checks import allow_none, check_bool, check_count, check_positive, short_repr
from nnc._utils.notices import warn_user
from nnc._utils.random import check_seed, mix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from nnc._network import NeuralNetwork


DEFAULT_TEST_FRACTION = 0.1  # default fraction of the rows that are held out for `SearchResult.test_loss`
MAX_LOSS_INCREASE = 0.25  # maximum increase of the loss after training on all rows, relative to the best trial's loss
# Names that the search space must not contain: search sets them, or does not have them.
SET_BY_SEARCH = {"epochs", "validation", "sample_weight", "seed"} | (DEFAULTS.keys() - MANY_OPTIONS)
REDUCTION_FACTOR = 3  # each round divides the number of trials, and multiplies the number of epochs, by this factor


class SearchResult:
    """Result of a search.

    Attributes
    ----------
    table : list of dict
        One row for each trial: "loss" (on the validation rows, mean over folds), "epochs" (maximum number of epochs),
        "seed", and the parameters by name. The trials that were trained longest come first, sorted by their loss.
    best : dict
        Parameters of the best trial, the first row.
    loss : float
        Loss of the best trial. It is the minimum over many trials on the rows that selected the trial, so it
        underestimates the loss on new rows; see `test_loss`.
    test_loss : float or None
        Loss of the best trial on the test rows, which neither trained nor selected a trial; the mean over folds. It is
        an unbiased estimate of the loss on new rows for the networks of the trial. `network` was trained on more rows,
        so it is usually slightly better. None without test rows.
    network : NeuralNetwork
        Network with the best parameters, trained on all rows for the same number of epochs, or for fewer if a fit with
        automatic settings selects fewer. In three cases it is instead the network of the best trial (with folds, that
        of the first fold): Ctrl-C or max_seconds ended the search; `validation` consists of separate rows; or the
        training on all rows gave a worse loss (see Warns of `search`).
    seconds : float
        Wall time of the whole search.
    """

    table: list[dict[str, Any]]
    best: dict[str, Any]
    network: NeuralNetwork
    seconds: float
    test_loss: float | Any  # Any: type checkers require no check for None

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
        """Loss of the best trial on the validation rows by which it was selected."""
        return float(self.table[0]["loss"])

    def __repr__(self) -> str:
        test = "" if self.test_loss is None else f", test loss {self.test_loss:.6g}"
        trials = f"{len(self.table)} trials in {self.seconds:.3g} s"
        return f"<SearchResult: {trials}, loss {self.loss:.6g}{test} with {self.best}>"


class Trial:
    """Hyperparameters drawn from the search space, and one network with these hyperparameters for each fold."""

    def __init__(self, make: Callable[..., NeuralNetwork], seed: int, parameters: dict[str, Any], folds: int) -> None:
        self.seed, self.parameters = seed, parameters
        self.options = {name: value for name, value in parameters.items() if name in DEFAULTS}
        self._make = make
        self.networks = [self.create_network() for _ in range(folds)]
        self.loss, self.epochs = np.inf, 0
        self.batch_sizes: list[int | None] = [None] * folds  # automatic batch size of each network

    def evaluate(self, held_out: HeldOut) -> None:
        """Set `loss` to the mean loss of the networks on the validation rows."""
        self.loss = self.mean_loss(held_out.validation)

    def mean_loss(self, rows: Sequence[tuple[Any, ...]]) -> float:
        """Return the mean loss of the networks, each on its own rows.

        The loss is infinite if a network has not been trained, has diverged, or has outputs that are not finite.
        """
        losses = []
        for network, network_rows in zip(self.networks, rows, strict=True):
            history = network.history
            failed = history is None or history.epochs == 0 or history.stop_reason == "diverged"
            losses.append(np.inf if failed else network.evaluate_loss(*network_rows))
        mean = float(np.mean(losses))
        return mean if mean < np.inf else np.inf  # a mean of NaN becomes infinite, so that trials can be sorted

    def create_network(self) -> NeuralNetwork:
        """Return a new network with the hyperparameters of this trial."""
        arguments = {name: value for name, value in self.parameters.items() if name not in DEFAULTS}
        return check_networks("the result of make", [self._make(seed=self.seed, **arguments)])[0]


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
    lengths: ArrayLike | None = None,
    trials: int = 30,
    seed: int | None = None,
    max_seconds: float | None = None,
    halving: bool = True,
    n_jobs: int | None = None,
    executor: Any = None,
    progress: bool = False,
    **fit_options: Any,
) -> SearchResult:
    """Search for good hyperparameters by random search with successive halving.

    All trials are trained for some epochs, the best third of them for three times as many epochs, and so on (Jamieson
    and Talwalkar, 2016). If a trial sets neither `lr`, `optimizer` nor a stopping rule, `fit` trains new networks in
    each round, and selects the number of epochs and the weight decay within the training rows of the trial.

    Parameters
    ----------
    make : callable
        `make(seed=..., **parameters)` returns a new NeuralNetwork with the parameters of `space` that are not arguments
        of `fit`.
    space : dict
        Values of arguments of `fit` and of `make`, by name. A list contains choices. (low, high), two integers or two
        floats, means a uniform distribution, and (low, high, "log") means floats with a uniform logarithm. An object
        with the method `rvs` is also allowed, such as a distribution of scipy.stats.
    X, y : arrays
        Data as in `NeuralNetwork.fit`.
    epochs : int
        Total number of epochs of the trials that reach the last round. With automatic settings, it is the largest
        number of epochs that `fit` may select.
    validation : fraction, "last", LastRows, (X, y) or (X, y, sample_weight), optional
        Rows whose loss selects the trials: a random fraction of X, the last rows of X, both with the weights of
        `sample_weight` if these are passed, or separate rows. Default: a random fifth of X.
    folds : int, optional
        Number of folds of a cross-validation: each trial has one network for each fold. The folds are random. With
        `validation="last"` or `LastRows` they are consecutive rows at the end of X, and the network of a fold is
        trained on the rows before the fold (rolling origin). Other values of `validation` are not allowed.
    test : fraction, "last", LastRows, (X, y) or (X, y, sample_weight), optional
        Rows for `SearchResult.test_loss`, which neither train nor select a trial: a random fraction of X, 0 for none,
        the last rows, or separate rows. Default: a tenth of X, on which the final network is trained too; none if
        `validation` consists of separate rows. If `validation` is "last" or `LastRows`, a fraction means the last rows.
    lengths : int array (n,), optional
        Number of steps of each sequence, as in `NeuralNetwork.fit`. X and y may be lists of arrays instead.
    trials : int, default 30
        Number of trials.
    seed : int, optional
        Seed of all random numbers. With a seed and without max_seconds, the result is the same to the last bit for any
        n_jobs and executor.
    max_seconds : float, optional
        Time limit of the search. At the limit the search returns the best trial so far, with its network. The final
        training on all rows is not included in the limit.
    halving : bool, default True
        Whether to use successive halving. If False, all trials are trained for all epochs.
    n_jobs, executor, progress
        Arguments of `nnc.fit_many`.
    **fit_options
        Arguments of `fit` that are the same for all trials.

    Returns
    -------
    SearchResult
        Ctrl-C ends the search; the result is then based on the trials so far.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.

    Warns
    -----
    LearningRateWarning
        The network trained on all rows has a much larger loss on the validation rows than the network of the best
        trial, although it was trained on these rows too; the result is then the network of the trial. This happens if
        the learning rate is large until the end, because the best of many trials then has a small loss by chance. A
        decreasing learning rate is a remedy (`lr=nnc.CosineLR(0.1)`). Automatic settings give no such warning.

    Examples
    --------
    >>> def make(seed, width, activation):
    ...     return NeuralNetwork([8, width, 1], activation=activation, loss="mse", seed=seed)
    >>> space = {"width": (4, 64), "activation": ["tanh", "relu"], "lr": (1e-4, 1e-1, "log"), "batch_size": [16, 64]}
    >>> result = nnc.search(make, space, X, y, epochs=81, trials=27, optimizer="adam", seed=0)
    >>> result.network.predict(X)
    """
    start = perf_counter()
    epochs, trials, root = check_count("epochs", epochs), check_count("trials", trials), check_seed(seed)
    folds = 1 if folds is None else check_count("folds", folds, 2)
    split = as_split(validation)
    if folds > 1 and validation is not None and not isinstance(split, LastRows):
        raise ValueError(
            "validation must be None, 'last' or LastRows together with folds, which define the validation rows, "
            f"got {short_repr(validation)}"
        )
    if split is not None:
        validation = split
    limit = allow_none(check_positive)("max_seconds", max_seconds)
    samplers = {name: _build_sampler(name, value) for name, value in _check_space(space, fit_options).items()}
    rng = np.random.default_rng(root)
    table = [
        Trial(make, mix((root + t) % 2**64), {name: sample(rng) for name, sample in samplers.items()}, folds)
        for t in range(trials)
    ]
    converter, rows_X = table[0].networks[0].converter.bind(X, lengths)
    if isinstance(rows_X, Sequences):
        # Convert lists of sequences and of targets, because a split selects rows by arrays of indices.
        X, y = rows_X, rows_X.targets(y, converter.model.stack.output_shape)
    networks = [network for trial in table for network in trial.networks]
    for network, network_converter in zip(networks, converters_for_targets(networks, X, y), strict=True):
        adopt_converter(network, network_converter)
    validation, sample_weight = 0.2 if validation is None else validation, fit_options.get("sample_weight")
    held_out = _split_rows(table[0].networks[0], X, y, sample_weight, validation, folds, test, root)
    active_trials, stopped = table, False
    for last_epoch in _round_ends(epochs, trials) if check_bool("halving", halving) else [epochs]:
        seconds = None if limit is None else max(1e-3, start + limit - perf_counter())
        run_options = {"n_jobs": n_jobs, "executor": executor, "progress": progress, "seconds": seconds}
        stopped = _train(active_trials, last_epoch, epochs, X, y, held_out, fit_options, run_options)
        for trial in active_trials:
            trial.evaluate(held_out)
        if stopped:
            break
        n_kept = -(-len(active_trials) // REDUCTION_FACTOR)
        active_trials = sorted(active_trials, key=lambda trial: trial.loss)[:n_kept]
    # Sort by epochs first: only losses after equal numbers of epochs are comparable.
    table.sort(key=lambda trial: (-trial.epochs, trial.loss))
    best = table[0]
    network = best.networks[0]
    if held_out.is_from_X and not stopped:
        network = _train_on_all_rows(best, X, y, held_out, fit_options, n_jobs)
    rows = [{"loss": trial.loss, "epochs": trial.epochs, "seed": trial.seed, **trial.parameters} for trial in table]
    test_loss = None if held_out.test is None else best.mean_loss([held_out.test] * folds)
    return SearchResult(rows, best.parameters, network, perf_counter() - start, test_loss)


def _check_space(space: Any, fit_options: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(space, Mapping) or not all(isinstance(name, str) for name in space):
        raise TypeError(f"space must be a dict from argument names to values, got {short_repr(space)}")
    for name in space:
        if name in fit_options or name in SET_BY_SEARCH:
            raise ValueError(f"space must not contain {name!r}, which is an argument of search or is set by search")
    return space


def _build_sampler(name: str, value: Any) -> Callable[[np.random.Generator], Any]:
    """Return a function that draws a random value of one parameter of the search space."""
    if hasattr(value, "rvs"):
        return lambda rng: _to_python(value.rvs(random_state=rng))
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
        f"rvs, got {short_repr(value)}"
    )


def _to_python(value: Any) -> Any:
    """Convert a NumPy scalar to a Python number; return any other value unchanged."""
    return value.item() if isinstance(value, np.generic) else value


def _round_ends(epochs: int, trials: int) -> list[int]:
    """Return the number of epochs at the end of each round; the last round has one or few trials."""
    ends = [epochs]
    while trials > 1 and ends[0] >= REDUCTION_FACTOR:
        ends.insert(0, ends[0] // REDUCTION_FACTOR)
        trials = -(-trials // REDUCTION_FACTOR)
    return ends


class HeldOut(NamedTuple):
    """Validation rows, which select the trials, and test rows for the best trial.

    Attributes
    ----------
    X : array
        All rows, without conversion.
    sizes : list of int
        Number of training rows of the network of each fold.
    train : list of int array, or None
        Indices of the training rows of the network of each fold; None for all rows.
    validation : list of (X, y) or (X, y, sample_weight)
        Validation rows of the network of each fold.
    test : (X, y), (X, y, sample_weight) or None
        Test rows.
    is_from_X : bool
        Whether the validation rows belong to X. Then the final network is trained on them too.
    """

    X: NDArray[Any]
    sizes: list[int]
    train: list[NDArray[np.intp]] | None
    validation: list[tuple[Any, ...]]
    test: tuple[Any, ...] | None
    is_from_X: bool


def _split_rows(
    network: NeuralNetwork, X: Any, y: Any, sample_weight: Any, validation: Any, folds: int, test: Any, seed: int
) -> HeldOut:
    """Return the held-out rows: validation and test rows, from a stratified split of X or from the caller."""
    converter, X = network.converter.copy_for_fit().bind(X)
    array = converter.array(X, learn=True)
    rows = array if isinstance(array, Sequences) or converter.is_bound else converter.rows(array)
    n = len(rows)
    is_from_X = folds > 1 or as_split(validation) is not None
    if not is_from_X:
        _check_rows("validation", validation)
    if test is None:
        is_large_enough = 0 < round(DEFAULT_TEST_FRACTION * n) <= n - max(folds, 2)
        test = DEFAULT_TEST_FRACTION if is_from_X and is_large_enough else 0
    test_split = as_split(test)
    if test_split is None:
        _check_rows("test", test)
    elif test_split == 0:
        test = test_split = None
    elif isinstance(validation, LastRows) and not isinstance(test_split, LastRows):
        test_split = LastRows(test_split, validation.gap)
    if not is_from_X and test_split is None:
        return HeldOut(array, [n], None, [tuple(validation)], None if test is None else tuple(test), False)
    columns = [rows, targets.check_row_count(rows, y)]
    if sample_weight is not None:
        columns.append(check_weights(converter.model, "sample_weight", sample_weight, n))
    strata = targets.stratification_labels(columns[1], network.model.loss, converter.classes, converter.class_steps)
    group = find_copies(rows, columns[1], strata)
    if group is not None:
        warn_user(describe_copies(group), LeakageWarning)
    remaining = np.arange(n)
    if test_split is not None:
        [(remaining, test_index)] = splits.split_rows(n, test_split, mix(seed), strata, name="test", group=group)
        test = tuple(column[test_index] for column in columns)
    if is_from_X:
        strata, group = (None if labels is None else labels[remaining] for labels in (strata, group))
        pairs = splits.split_rows(len(remaining), validation, seed, strata, "validation", folds, group)
        train = [remaining[index] for index, _ in pairs]
        validation_rows = [tuple(column[remaining[index]] for column in columns) for _, index in pairs]
    else:
        train, validation_rows = [remaining], [tuple(validation)]
    sizes = [len(index) for index in train]
    return HeldOut(array, sizes, train, validation_rows, None if test is None else tuple(test), is_from_X)


def _check_rows(name: str, value: Any) -> None:
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        raise TypeError(
            f"{name} must be a fraction, 'last', LastRows, (X, y) or (X, y, sample_weight), got {short_repr(value)}"
        )


def _train(
    trials: list[Trial],
    last_epoch: int,
    epochs: int,
    X: Any,
    y: Any,
    held_out: HeldOut,
    fit_options: Mapping[str, Any],
    run_options: dict[str, Any],
) -> bool:
    """Train all trials up to the end of a round; return whether Ctrl-C or the time limit has stopped the training.

    A trial continues its training, unless its fit selects the number of epochs. Such a trial trains new networks in
    each round, because the selection depends on the largest number of epochs. If the training of the new networks is
    stopped, the trial keeps its networks of the previous round.
    """
    check_names(fit_options)
    networks_by_trial: list[list[NeuralNetwork]] = []
    arguments: list[dict[str, Any]] = []
    automatic_networks = []
    for trial in trials:
        trial_options = {**fit_options, **trial.options, "epochs": last_epoch}
        networks_by_trial.append(trial.networks)
        if selects_settings(FitArguments(**trial_options), None):
            if trial.epochs:
                networks_by_trial[-1] = [trial.create_network() for _ in trial.networks]
            arguments += [trial_options] * len(trial.networks)
            continue
        trial_options["epochs"] -= trial.epochs
        if isinstance(trial_options.get("lr"), Schedule):
            # Set the length of a schedule without a length to that of all rounds together, not of the current round.
            trial_options["lr"] = trial_options["lr"].resolved(epochs)
        if trial.epochs:  # later rounds continue the optimizer and the schedule of the first round
            first_round_options = ("optimizer", "lr", "preset", "reset_optimizer")
            trial_options = {name: value for name, value in trial_options.items() if name not in first_round_options}
        for fold, (network, n) in enumerate(zip(trial.networks, held_out.sizes, strict=True)):
            plan = Plan.of(network, FitArguments(**trial_options))
            network_arguments = plan.arguments
            if not trial.epochs and uses_automatic_settings(network_arguments, plan.previous):
                if not network_arguments.sets_rate:
                    automatic_networks.append(network)
                network_arguments = with_automatic_settings(plan._replace(previous=None), held_out.X, n).arguments
                lr = network_arguments.lr
                lr = lr.resolved(epochs) if isinstance(lr, Schedule) else lr
                network_arguments = network_arguments._replace(lr=lr, preset="plain")
                trial.batch_sizes[fold] = network_arguments.batch_size
            elif network_arguments.batch_size is None:
                network_arguments = network_arguments._replace(batch_size=trial.batch_sizes[fold])
            arguments.append(network_arguments.passed())
    names = dict.fromkeys(name for network_options in arguments for name in network_options)
    options = {
        name: PerNetwork(network_options.get(name, DEFAULTS.get(name)) for network_options in arguments)
        for name in names
    }
    rows = None if held_out.train is None else held_out.train * len(trials)
    stopped = _fit_all([*chain(*networks_by_trial)], X, y, rows, options, **run_options)
    for trial, networks in zip(trials, networks_by_trial, strict=True):
        if networks is trial.networks or not any(_stop_reason(network) in ("", "interrupt") for network in networks):
            trial.networks, trial.epochs = networks, last_epoch
    for network in automatic_networks:
        if network.state is not None:
            network.state.is_automatic = True
    return stopped


def _train_on_all_rows(
    best: Trial, X: Any, y: Any, held_out: HeldOut, fit_options: Mapping[str, Any], n_jobs: int | None
) -> NeuralNetwork:
    """Return a new network with the best parameters, trained on all rows.

    Return the network of the best trial instead if Ctrl-C stops the training, or if the loss on the validation rows is
    much larger than it was in the trial. With automatic settings, the losses are not compared, because the learning
    rate decreases to 0.
    """
    network = best.create_network()
    options = {**fit_options, **best.options, "epochs": best.epochs}
    if _fit_all([network], X, y, None, options, n_jobs=n_jobs):
        return best.networks[0]
    if selects_settings(FitArguments(**options), None) and _stop_reason(network) != "diverged":
        return network
    loss = float(np.mean([network.evaluate_loss(*rows) for rows in held_out.validation]))
    if loss - best.loss <= MAX_LOSS_INCREASE * abs(best.loss) or best.loss == np.inf:
        return network
    warnings.warn(
        f"the network that was trained on all rows has the loss {loss:.4g} on the validation rows, but the network of "
        f"the best trial has {best.loss:.4g}; the result is the network of the trial. If the learning rate is large "
        "until the end, the best of many trials has a small loss by chance: use a decreasing learning rate, such as "
        "lr=nnc.CosineLR(0.1), or a smaller one",
        LearningRateWarning,
        stacklevel=3,
    )
    return best.networks[0]


def _stop_reason(network: NeuralNetwork) -> str:
    """Return why the last training of a network has ended; "" if there was none."""
    history = network.history
    return "" if history is None else history.stop_reason


def _fit_all(
    networks: list[NeuralNetwork], X: Any, y: Any, rows: Any, options: Mapping[str, Any], **run_options: Any
) -> bool:
    """Train networks without the warnings of fit_many, and return whether the training was stopped early.

    Most of the warnings would concern trials that are discarded.
    """
    outcomes = train_networks(networks, X, y, rows, options, **run_options)
    return any(outcome.history.stop_reason == "interrupt" for outcome in outcomes)
