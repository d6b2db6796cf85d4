"""Online learning from a stream of rows, which are dicts, with the interface of river.

    model = OnlineClassifier(classes=["ham", "spam"])
    for x, y in stream:
        prediction = model.predict_one(x)
        model.learn_one(x, y)

The learning rate is constant, so a model follows changes of the data. Inputs and numeric targets are standardized by
the mean and variance of the stream so far (Welford, 1962). Three measures protect a model from a single bad row. A
number far from the mean is clipped, in the row and in the statistics (see `RunningStatistics`). The gradient of a row
is clipped to a norm of 1. A row with an infinite number is rejected.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._network import NeuralNetwork
from nnc._utils.checks import check_count, check_finite, check_not_negative, check_positive, is_bool, short_repr
from nnc._utils.containers import is_missing
from nnc._utils.random import check_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from nnc._registry.choices import HiddenActivationName, LossName

MAX_SCALED = 10.0  # clip standardized inputs and targets to this many standard deviations
# Numbers are clipped to this many standard deviations before they update the statistics. The limit exceeds MAX_SCALED,
# because rare but regular values, in 0.1 % of the rows, must influence the scale.
MAX_UPDATE = 30.0
WARM_UP_ROWS = 10  # clip values around their median in this many rows at the start of a stream
MAX_MAGNITUDE = 1e100  # numbers are clipped to this magnitude, so that their squares do not overflow
CLIP_NORM = 1.0  # gradient clipping: largest Euclidean norm of the gradient of a step


class RunningStatistics:
    """Mean and standard deviation of a stream of numbers, robust against single outliers.

    An update is clipped to MAX_UPDATE standard deviations from the current mean. The first WARM_UP_ROWS numbers are
    stored, and clipped around their median in units of their median absolute deviation. Otherwise a bad number among
    them would determine the scale of all later numbers.
    """

    n: int
    mean: float
    squares: float
    first: list[float] | None

    __slots__ = ("first", "mean", "n", "squares")

    def __init__(self) -> None:
        self.n, self.mean, self.squares, self.first = 0, 0.0, 0.0, []

    def update(self, value: float) -> None:
        """Add a finite number to the statistics."""
        value = _clip(value, 0.0, MAX_MAGNITUDE)
        if self.first is None:
            self._add(_clip(value, self.mean, MAX_UPDATE * self.deviation))
            return
        self.first.append(value)
        median = _median(self.first)
        deviation = _median([abs(number - median) for number in self.first]) or max(1.0, abs(median))
        self.n, self.mean, self.squares = 0, 0.0, 0.0
        for number in self.first:
            self._add(_clip(number, median, MAX_UPDATE * deviation))
        if self.n == WARM_UP_ROWS:
            self.first = None

    def _add(self, value: float) -> None:
        self.n += 1
        change = value - self.mean
        self.mean += change / self.n
        self.squares += change * (value - self.mean)

    @property
    def deviation(self) -> float:
        """Standard deviation of the numbers, or 1 if all numbers are equal."""
        return math.sqrt(self.squares / self.n) if self.squares > 0 else 1.0

    def standardize(self, value: float) -> float:
        """Return (value - mean) / standard deviation, clipped to the range from -MAX_SCALED to MAX_SCALED."""
        return _clip((value - self.mean) / self.deviation, 0.0, MAX_SCALED)


def _clip(value: float, center: float, distance: float) -> float:
    return max(center - distance, min(center + distance, value))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


class _OnlineModel:
    """Base class of the online models: a network that gets a new input for each new feature of the stream."""

    hidden: Sequence[int]
    activation: HiddenActivationName
    optimizer: Any
    lr: float
    l2: float
    seed: int | None

    _loss: LossName
    _extra_arguments: tuple[str, ...] = ()  # names of the additional constructor arguments of the subclass, for repr

    def __init__(
        self,
        hidden: Sequence[int],
        activation: HiddenActivationName,
        optimizer: Any,
        lr: float,
        l2: float,
        seed: int | None,
    ) -> None:
        self.hidden, self.activation, self.optimizer = hidden, activation, optimizer
        self.lr, self.l2, self.seed = lr, l2, seed
        if not isinstance(hidden, (list, tuple)):
            raise TypeError(f"hidden must be the widths of the hidden layers, such as (16,), got {short_repr(hidden)}")
        for width in hidden:
            check_count("hidden", width)
        check_positive("lr", lr)
        check_not_negative("l2", l2)
        self._network_seed = check_seed(seed)
        # Statistics of each feature, in the order of the inputs of the network.
        self._features: dict[Hashable, RunningStatistics] = {}
        self._network: NeuralNetwork | None = None
        self._step: Callable[..., float] | None = None
        self._expand_network(1, 2)  # create a temporary network to validate the other arguments
        self._network = self._step = None

    @property
    def network(self) -> NeuralNetwork | None:
        """Network whose inputs are the standardized `features`; None before the first row is learned."""
        return self._network

    @property
    def features(self) -> tuple[Hashable, ...]:
        """Names of the features seen so far, in the order of the inputs of the network."""
        return tuple(self._features)

    def __repr__(self) -> str:
        names = [*self._extra_arguments, "hidden", "activation", "optimizer", "lr", "l2", "seed"]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_step": None}

    def _expand_network(self, n_in: int, n_out: int) -> None:
        """Replace the network by one with more inputs or outputs that computes the same function.

        The weights of the new inputs and outputs are 0. The state of the optimizer is reset.
        """
        previous, sizes = self._network, [n_in, *self.hidden, n_out]
        net = NeuralNetwork(sizes, activation=self.activation, loss=self._loss, seed=self._network_seed)
        if previous is not None:
            for new, old in zip((*net.weights, *net.biases), (*previous.weights, *previous.biases), strict=True):
                new[...] = 0
                new[tuple(map(slice, old.shape))] = old
        self._network, self._step = net, self._create_stepper(net)

    def _create_stepper(self, net: NeuralNetwork) -> Callable[..., float]:
        return net.stepper(self.optimizer, self.lr, l2=self.l2, clip_norm=CLIP_NORM)

    def _row(self, values: dict[Hashable, float | None], n_in: int) -> NDArray[np.float64]:
        """Return the standardized features as a row of `n_in` inputs; missing features are 0, their mean."""
        row = np.zeros((1, n_in))
        for column, (name, statistics) in zip(range(n_in), self._features.items(), strict=False):
            value = values.get(name)
            if value is not None:
                row[0, column] = statistics.standardize(value)
        return row

    def _learn(self, values: dict[Hashable, float | None], n_out: int, target: NDArray[Any]) -> None:
        """Train one step on a row that `_update` has added to the statistics."""
        net, n_in = self._network, max(1, len(self._features))
        if net is None or net.sizes[0] < n_in or net.sizes[-1] < n_out:
            self._expand_network(n_in, n_out)
        elif self._step is None:  # a model that has been unpickled has no stepper yet
            self._step = self._create_stepper(net)
        assert self._step is not None
        self._step(self._row(values, n_in), target)

    def _update(self, values: dict[Hashable, float | None]) -> None:
        """Add a row to the statistics; new features are sorted, so that the order within the row has no influence."""
        for name in sorted((name for name in values if name not in self._features), key=repr):
            self._features[name] = RunningStatistics()
        for name, value in values.items():
            if value is not None:
                self._features[name].update(value)

    def _outputs(self, x: Mapping[Any, Any]) -> NDArray[Any] | None:
        """Return the outputs for a row, or None if there is no network yet."""
        values = _numbers(x)
        if self._network is None:
            return None
        outputs: NDArray[Any] = self._network.predict(self._row(values, self._network.sizes[0]))[0]
        return outputs


def _numbers(x: Mapping[Any, Any]) -> dict[Hashable, float | None]:
    """Return the features as floats, with None for missing values; raise an error for other values."""
    if not hasattr(x, "items"):
        raise TypeError(f"x must be a dict of features by name, got {short_repr(x)}")
    return {name: None if is_missing(value) else _number(f"x[{name!r}]", value) for name, value in x.items()}


def _number(name: str, value: Any) -> float:
    return float(value) if is_bool(value) else check_finite(name, value)


def _check_label(value: Hashable) -> Hashable:
    """Return a class label, or raise an error if it is missing or not hashable."""
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"y must be a class (a string, a number or a boolean), got {short_repr(value)}") from None
    if is_missing(value):
        raise ValueError(f"y must be a class, got the missing value {value!r}; skip the row")
    return value


class OnlineClassifier(_OnlineModel):
    """Classifier that learns from a stream of rows, one at a time.

    Parameters
    ----------
    classes : iterable, optional
        All classes, at least two: strings, numbers or booleans. Default: each class is added when it first occurs.
    hidden : sequence of int, default (16,)
        Widths of the hidden layers.
    activation : str, default "relu"
        Activation of the hidden layers.
    optimizer : str or object, default "adam"
        First-order optimizer, as in `NeuralNetwork.fit`.
    lr : float, default 0.005
        Constant learning rate.
    l2 : float, default 0
        Penalty: l2 sum W**2 / 2 is added to the loss of each row.
    seed : int, optional
        Seed of the initial weights. Default: a random seed.

    Attributes
    ----------
    network : NeuralNetwork or None
        Network whose inputs are the standardized features; None before the first training step.
    features : tuple
        Names of the features, in the order of the inputs of the network.

    Examples
    --------
    >>> model = OnlineClassifier(classes=["ham", "spam"], seed=0)
    >>> model.learn_one({"length": 120, "links": 7}, "spam")
    >>> model.predict_proba_one({"length": 80, "links": 0})
    """

    classes: tuple[Hashable, ...] | None

    _loss, _extra_arguments = "cross_entropy", ("classes",)

    def __init__(
        self,
        classes: Iterable[Hashable] | None = None,
        hidden: Sequence[int] = (16,),
        activation: HiddenActivationName = "relu",
        optimizer: Any = "adam",
        lr: float = 0.005,
        l2: float = 0.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(hidden, activation, optimizer, lr, l2, seed)
        self.classes = None if classes is None else tuple(map(_check_label, classes))
        # Index of the output for each class.
        self._class_index = {label: i for i, label in enumerate(dict.fromkeys(self.classes or ()))}
        if classes is not None and len(self._class_index) < 2:
            raise ValueError(f"classes must contain at least two classes, got {self.classes!r}")

    def learn_one(self, x: Mapping[Any, Any], y: Hashable) -> None:
        """Train one step on a row.

        Parameters
        ----------
        x : dict
            Features by name: numbers or booleans. A missing feature (not in the dict, None, NaN, NaT or NA) is replaced
            by its mean. A new feature becomes an additional input. A number more than 10 standard deviations from the
            mean counts as 10 standard deviations, and changes the scale only a little.
        y : hashable
            Class of the row.

        Raises
        ------
        ValueError, TypeError
            y is missing (None, NaN, NaT, NA) or is not one of the declared classes, or a feature is infinite or not a
            number. The model does not change.
        """
        y, values = _check_label(y), _numbers(x)  # validate both arguments before the model changes
        if self.classes is not None and y not in self._class_index:
            raise ValueError(f"y must be one of the classes {', '.join(map(repr, self._class_index))}, got {y!r}")
        self._update(values)
        self._class_index.setdefault(y, len(self._class_index))
        if len(self._class_index) > 1:  # with a single class, the model always predicts this class
            self._learn(values, len(self._class_index), np.array([self._class_index[y]]))

    def predict_proba_one(self, x: Mapping[Any, Any]) -> dict[Hashable, float]:
        """Return the probability of each class seen or declared so far.

        Before the first training step, all probabilities are equal.

        Parameters
        ----------
        x : dict
            Features as in `learn_one`.

        Returns
        -------
        dict
            Probabilities by class.
        """
        outputs = self._outputs(x)
        if outputs is None:
            return {label: 1 / len(self._class_index) for label in self._class_index}
        return dict(zip(self._class_index, outputs.tolist(), strict=True))

    def predict_one(self, x: Mapping[Any, Any]) -> Any:
        """Return the most probable class, or None if there is no class yet."""
        probabilities = self.predict_proba_one(x)
        return max(probabilities, key=probabilities.__getitem__) if probabilities else None


class OnlineRegressor(_OnlineModel):
    """Regressor that learns from a stream of rows, one at a time, by the squared error of standardized targets.

    Parameters
    ----------
    hidden, activation, optimizer, lr, l2, seed
        Settings as in `OnlineClassifier`.

    Attributes
    ----------
    network : NeuralNetwork or None
        Network whose output is the standardized target; None before the first row.
    features : tuple
        Names of the features, in the order of the inputs of the network.

    Examples
    --------
    >>> model = OnlineRegressor(seed=0)
    >>> model.learn_one({"hour": 8, "holiday": False}, 231.5)
    >>> model.predict_one({"hour": 9, "holiday": False})
    """

    _loss = "mse"

    def __init__(
        self,
        hidden: Sequence[int] = (16,),
        activation: HiddenActivationName = "relu",
        optimizer: Any = "adam",
        lr: float = 0.005,
        l2: float = 0.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(hidden, activation, optimizer, lr, l2, seed)
        self._target_statistics = RunningStatistics()

    def learn_one(self, x: Mapping[Any, Any], y: float) -> None:
        """Train one step on a row.

        Parameters
        ----------
        x : dict
            Features as in `OnlineClassifier.learn_one`.
        y : float
            Target. As for features, a number more than 10 standard deviations from the mean counts as 10 standard
            deviations.

        Raises
        ------
        ValueError, TypeError
            y is missing, infinite or not a number, or a feature is infinite or not a number. The model does not change.
        """
        target, values = check_finite("y", y), _numbers(x)  # validate both arguments before the model changes
        self._update(values)
        self._target_statistics.update(target)
        self._learn(values, 1, np.array([[self._target_statistics.standardize(target)]]))

    def predict_one(self, x: Mapping[Any, Any]) -> float:
        """Return the predicted target, or 0 before the first row.

        Parameters
        ----------
        x : dict
            Features as in `learn_one`.

        Returns
        -------
        float
        """
        outputs = self._outputs(x)
        if outputs is None:
            return 0.0
        return float(outputs[0]) * self._target_statistics.deviation + self._target_statistics.mean
