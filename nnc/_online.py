"""Learning from a stream, row by row, where rows are dicts: `learn_one`, `predict_one` and `predict_proba_one`, as
river has them.

    model = OnlineClassifier(classes=["ham", "spam"])
    for x, y in stream:
        guess = model.predict_one(x)
        model.learn_one(x, y)

The learning rate is constant, so that a model follows data that change. Inputs, and targets that are numbers, are
standardized by their mean and variance so far (Welford, 1962). One bad row does not spoil a model: a number far from
those before it is clipped, in the row and in the statistics (see `Running`), the gradient of a row is clipped to a norm
of 1, and a row with a number that is not finite is refused.
"""

from __future__ import annotations

import math
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._network import NeuralNetwork
from nnc._utils.checks import check_count, check_finite, check_not_negative, check_positive, is_bool
from nnc._utils.containers import is_missing
from nnc._utils.random import checked_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

LIMIT = 10.0  # standard deviations from the mean that a scaled number has at most
UPDATE_LIMIT = 30.0  # the same for the statistics, where rare but regular events (0.1 % of the rows) have to count
WARM_UP_ROWS = 10  # numbers that are stored, so that a bad one among them does not set the scale
MAX_MAGNITUDE = 1e100  # larger numbers count as this one, whose square is a float
CLIP_NORM = 1.0  # of the gradient of a row


class Running:
    """Mean and standard deviation of a stream of numbers, robust against single outliers.

    An update is clipped to UPDATE_LIMIT standard deviations around the mean so far. The first WARM_UP_ROWS numbers are
    stored and clipped around their median instead, by their median absolute deviation, because a bad number among them
    would set the scale of all that follow.
    """

    n: int
    mean: float
    squares: float
    first: list[float] | None

    __slots__ = ("first", "mean", "n", "squares")

    def __init__(self) -> None:
        self.n, self.mean, self.squares, self.first = 0, 0.0, 0.0, []

    def update(self, value: float) -> None:
        """Include one more finite number."""
        value = _clip(value, 0.0, MAX_MAGNITUDE)
        if self.first is None:
            self._add(_clip(value, self.mean, UPDATE_LIMIT * self.deviation))
            return
        self.first.append(value)
        middle = _median(self.first)
        spread = _median([abs(number - middle) for number in self.first]) or max(1.0, abs(middle))
        self.n, self.mean, self.squares = 0, 0.0, 0.0
        for number in self.first:
            self._add(_clip(number, middle, UPDATE_LIMIT * spread))
        if self.n == WARM_UP_ROWS:
            self.first = None

    def _add(self, value: float) -> None:
        self.n += 1
        change = value - self.mean
        self.mean += change / self.n
        self.squares += change * (value - self.mean)

    @property
    def deviation(self) -> float:
        """The standard deviation, 1 if all numbers are the same."""
        return math.sqrt(self.squares / self.n) if self.squares > 0 else 1.0

    def scaled(self, value: float) -> float:
        """Return the number in standard deviations from the mean, clipped to LIMIT."""
        return _clip((value - self.mean) / self.deviation, 0.0, LIMIT)


def _clip(value: float, center: float, distance: float) -> float:
    return max(center - distance, min(center + distance, value))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


class _Online:
    """What both have: the network, which gets an input for each feature as it comes up."""

    hidden: Sequence[int]
    activation: str
    optimizer: Any
    lr: float
    l2: float
    seed: int | None

    _loss: str
    _said: tuple[str, ...] = ()  # arguments beside those that both have

    def __init__(
        self, hidden: Sequence[int], activation: str, optimizer: Any, lr: float, l2: float, seed: int | None
    ) -> None:
        self.hidden, self.activation, self.optimizer = hidden, activation, optimizer
        self.lr, self.l2, self.seed = lr, l2, seed
        if not isinstance(hidden, (list, tuple)):
            raise TypeError(f"hidden must be the widths of the hidden layers, such as (16,), got {hidden!r}")
        for width in hidden:
            check_count("hidden", width)
        check_positive("lr", lr)
        check_not_negative("l2", l2)
        self._drawn = checked_seed(seed)
        self._features: dict[Hashable, Running] = {}  # in the order of the inputs
        self._network: NeuralNetwork | None = None
        self._step: Callable[..., float] | None = None
        self._connect(1, 2)  # what is wrong with the rest is said here
        self._network = self._step = None

    @property
    def network(self) -> NeuralNetwork | None:
        """What has been learned so far, of the scaled features in the order of `features`; None before that."""
        return self._network

    @property
    def features(self) -> tuple[Hashable, ...]:
        """The names of the features that came so far, in the order of the network's inputs."""
        return tuple(self._features)

    def __repr__(self) -> str:
        names = [*self._said, "hidden", "activation", "optimizer", "lr", "l2", "seed"]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_step": None}

    def _connect(self, n_in: int, n_out: int) -> None:
        """Makes a network of so many inputs and outputs that says what the one before has said: what comes in anew has
        no weight yet. The optimizer begins anew."""
        before = self._network
        net = NeuralNetwork([n_in, *self.hidden, n_out], activation=self.activation, loss=self._loss, seed=self._drawn)
        if before is not None:
            for new, old in zip((*net.weights, *net.biases), (*before.weights, *before.biases), strict=True):
                new[...] = 0
                new[tuple(map(slice, old.shape))] = old
        self._network, self._step = net, self._stepper(net)

    def _stepper(self, net: NeuralNetwork) -> Callable[..., float]:
        return net.stepper(self.optimizer, self.lr, l2=self.l2, clip_norm=CLIP_NORM)

    def _row(self, values: dict[Hashable, float | None], n_in: int) -> NDArray[np.float64]:
        """Return the features as a row of `n_in` inputs; a missing one is at its mean."""
        row = np.zeros((1, n_in))
        for column, (name, running) in zip(range(n_in), self._features.items(), strict=False):
            value = values.get(name)
            if value is not None:
                row[0, column] = running.scaled(value)
        return row

    def _learn(self, values: dict[Hashable, float | None], n_out: int, target: NDArray[Any]) -> None:
        """Take a training step on one row, after `_update`."""
        net, n_in = self._network, max(1, len(self._features))
        if net is None or net.sizes[0] < n_in or net.sizes[-1] < n_out:
            self._connect(n_in, n_out)
        elif self._step is None:  # after pickle
            self._step = self._stepper(net)
        assert self._step is not None
        self._step(self._row(values, n_in), target)

    def _update(self, values: dict[Hashable, float | None]) -> None:
        """Include a row in the statistics; new features get an order that does not depend on the order of the row."""
        for name in sorted((name for name in values if name not in self._features), key=repr):
            self._features[name] = Running()
        for name, value in values.items():
            if value is not None:
                self._features[name].update(value)

    def _outputs(self, x: Mapping[Hashable, Any]) -> NDArray[Any] | None:
        """Return the outputs for a row, None before anything was learned."""
        values = _numbers(x)
        if self._network is None:
            return None
        outputs: NDArray[Any] = self._network.predict(self._row(values, self._network.sizes[0]))[0]
        return outputs


def _numbers(x: Mapping[Hashable, Any]) -> dict[Hashable, float | None]:
    """Return the features as finite numbers, None for missing ones."""
    if not hasattr(x, "items"):
        raise TypeError(f"x must be a dict of features by name, got {shown(x)}")
    return {name: None if is_missing(value) else _number(f"x[{name!r}]", value) for name, value in x.items()}


def _number(name: str, value: Any) -> float:
    return float(value) if is_bool(value) else check_finite(name, value)


def _label(value: Hashable) -> Hashable:
    """Return the class, unless it is missing or not hashable."""
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"y must be a class: a string, a number or a boolean, got {shown(value)}") from None
    if is_missing(value):
        raise ValueError(f"y must be a class, got the missing value {value!r}; leave the row out")
    return value


class OnlineClassifier(_Online):
    """Learns classes from a stream.

    Parameters
    ----------
    classes : iterable, optional
        All that may come, two at least: strings, numbers, booleans. Default: those that come, each from then on.
    hidden : sequence of int, default (16,)
        Widths of the hidden layers.
    activation : str, default "relu"
    optimizer : str or object, default "adam"
        A first-order one, as in `NeuralNetwork.fit`.
    lr : float, default 0.005
        Learning rate, which does not decay.
    l2 : float, default 0
        Penalty: l2 sum W**2 / 2 is added to the loss of each row.
    seed : int, optional
        Of the first weights. Default: a random one.

    Attributes
    ----------
    network : NeuralNetwork or None
    features : tuple
        What stands for the network's inputs, which are standardized.

    Examples
    --------
    >>> model = OnlineClassifier(classes=["ham", "spam"], seed=0)
    >>> model.learn_one({"length": 120, "links": 7}, "spam")
    >>> model.predict_proba_one({"length": 80, "links": 0})
    """

    classes: tuple[Hashable, ...] | None

    _loss, _said = "cross_entropy", ("classes",)

    def __init__(
        self,
        classes: Iterable[Hashable] | None = None,
        hidden: Sequence[int] = (16,),
        activation: str = "relu",
        optimizer: Any = "adam",
        lr: float = 0.005,
        l2: float = 0.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(hidden, activation, optimizer, lr, l2, seed)
        self.classes = None if classes is None else tuple(map(_label, classes))
        self._places = {label: place for place, label in enumerate(dict.fromkeys(self.classes or ()))}  # at the output
        if classes is not None and len(self._places) < 2:
            raise ValueError(f"classes must be two or more, got {self.classes!r}")

    def learn_one(self, x: Mapping[Hashable, Any], y: Hashable) -> None:
        """Learns from one row.

        Parameters
        ----------
        x : dict
            Features by name: numbers or booleans. One that is missing (not in the dict, None, NaN, NaT or NA) counts as
            average; a new one is learned from here on. A number more than 10 standard deviations from the mean so far
            counts as 10, and changes the scale only a little.
        y : hashable
            The class.

        Raises
        ------
        ValueError, TypeError
            y is missing (None, NaN, NaT, NA) or none of the declared classes, or a feature is infinite or no number.
            The model is unchanged.
        """
        y, values = _label(y), _numbers(x)  # all checks, before anything changes
        if self.classes is not None and y not in self._places:
            raise ValueError(f"y must be one of the classes {', '.join(map(repr, self._places))}, got {y!r}")
        self._update(values)
        self._places.setdefault(y, len(self._places))
        if len(self._places) > 1:  # one class needs no network
            self._learn(values, len(self._places), np.array([self._places[y]]))

    def predict_proba_one(self, x: Mapping[Hashable, Any]) -> dict[Hashable, float]:
        """The probability of every class that is known; all are equal before the first row.

        Parameters
        ----------
        x : dict

        Returns
        -------
        dict
        """
        outputs = self._outputs(x)
        if outputs is None:
            return {label: 1 / len(self._places) for label in self._places}
        return dict(zip(self._places, outputs.tolist(), strict=True))

    def predict_one(self, x: Mapping[Hashable, Any]) -> Any:
        """The most probable class; None before one is known."""
        found = self.predict_proba_one(x)
        return max(found, key=found.__getitem__) if found else None


class OnlineRegressor(_Online):
    """Learns numbers from a stream: by the squared error of what is standardized.

    Parameters
    ----------
    hidden, activation, optimizer, lr, l2, seed
        As in `OnlineClassifier`.

    Attributes
    ----------
    network : NeuralNetwork or None
        Its output is in standard deviations of the targets so far, from their mean.
    features : tuple

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
        activation: str = "relu",
        optimizer: Any = "adam",
        lr: float = 0.005,
        l2: float = 0.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(hidden, activation, optimizer, lr, l2, seed)
        self._target = Running()

    def learn_one(self, x: Mapping[Hashable, Any], y: float) -> None:
        """Learns from one row.

        Parameters
        ----------
        x : dict
            As in `OnlineClassifier.learn_one`.
        y : float
            The number. As with features, one more than 10 standard deviations from the mean so far counts as 10.

        Raises
        ------
        ValueError, TypeError
            y is missing, infinite or no number, or a feature is infinite or no number. The model is unchanged.
        """
        target, values = check_finite("y", y), _numbers(x)  # all checks, before anything changes
        self._update(values)
        self._target.update(target)
        self._learn(values, 1, np.array([[self._target.scaled(target)]]))

    def predict_one(self, x: Mapping[Hashable, Any]) -> float:
        """The number that is expected; 0 before the first row.

        Parameters
        ----------
        x : dict

        Returns
        -------
        float
        """
        outputs = self._outputs(x)
        if outputs is None:
            return 0.0
        return float(outputs[0]) * self._target.deviation + self._target.mean
