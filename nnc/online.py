"""Learning from a stream, row by row, where rows are dicts: `learn_one`, `predict_one` and `predict_proba_one`, as
river has them.

    model = OnlineClassifier(classes=["ham", "spam"])
    for x, y in stream:
        guess = model.predict_one(x)
        model.learn_one(x, y)

The learning rate stays as it is, so that a model follows a world that changes. Inputs, and targets that are numbers,
are standardized as they come, by their mean and variance so far (Welford, 1962); what is farther than 10 standard
deviations away counts as so far, and the gradient of a row is clipped to a norm of 1, as a row may be a strange one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.base.checks import count, not_negative, positive, real
from nnc.base.random import checked_seed
from nnc.network import NeuralNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

LIMIT = 10.0  # standard deviations
CLIP_NORM = 1.0


class Running:
    """Mean and variance of the numbers so far."""

    n: int
    mean: float
    squares: float

    __slots__ = ("mean", "n", "squares")

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def update(self, value: float) -> None:
        """Takes one more number into account."""
        self.n += 1
        change = value - self.mean
        self.mean += change / self.n
        self.squares += change * (value - self.mean)

    @property
    def deviation(self) -> float:
        """The standard deviation, 1 where all numbers are the same."""
        return math.sqrt(self.squares / self.n) if self.squares > 0 else 1.0

    def scaled(self, value: float) -> float:
        """The number in standard deviations from the mean, not farther than LIMIT."""
        return max(-LIMIT, min(LIMIT, (value - self.mean) / self.deviation))


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
            count("hidden", width)
        positive("lr", lr)
        not_negative("l2", l2)
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

    def _row(self, x: Mapping[Hashable, Any], n_in: int) -> NDArray[np.float64]:
        """The features as a row of so many inputs: what is missing is at its mean."""
        row = np.zeros((1, n_in))
        for place, (name, running) in zip(range(n_in), self._features.items(), strict=False):
            value = _feature(name, x.get(name))
            if value is not None:
                row[0, place] = running.scaled(value)
        return row

    def _meet(self, x: Mapping[Hashable, Any]) -> None:
        """Takes a row into the means and variances, and new features into their order, which does not depend on the
        order of the row."""
        values = _numbers(x)  # all, before anything changes
        for name in sorted((name for name, _ in values if name not in self._features), key=repr):
            self._features[name] = Running()
        for name, value in values:
            if value is not None:
                self._features[name].update(value)

    def _take(self, x: Mapping[Hashable, Any], n_out: int, target: NDArray[Any]) -> None:
        """A step on a row that has been met."""
        net, n_in = self._network, max(1, len(self._features))
        if net is None or net.sizes[0] < n_in or net.sizes[-1] < n_out:
            self._connect(n_in, n_out)
        elif self._step is None:  # after pickle
            self._step = self._stepper(net)
        assert self._step is not None
        self._step(self._row(x, n_in), target)

    def _outputs(self, x: Mapping[Hashable, Any]) -> NDArray[Any]:
        assert self._network is not None
        outputs: NDArray[Any] = self._network.predict(self._row(x, self._network.sizes[0]))[0]
        return outputs


def _numbers(x: Mapping[Hashable, Any]) -> list[tuple[Hashable, float | None]]:
    """The features as numbers, all of them."""
    return [(name, _feature(name, value)) for name, value in x.items()]


def _feature(name: Hashable, value: Any) -> float | None:
    """A feature as a number; None where it is missing."""
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)):
        return float(value)
    number = real(f"x[{name!r}]", value)
    if math.isinf(number):
        raise ValueError(f"x[{name!r}] must be finite, got {number}")
    return None if math.isnan(number) else number


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
        self.classes = None if classes is None else tuple(classes)
        self._places = {label: place for place, label in enumerate(dict.fromkeys(self.classes or ()))}  # at the output
        if classes is not None and len(self._places) < 2:
            raise ValueError(f"classes must be two or more, got {self.classes!r}")

    def learn_one(self, x: Mapping[Hashable, Any], y: Hashable) -> None:
        """Learns from one row.

        Parameters
        ----------
        x : dict
            Features by name: numbers or booleans. One that is missing, None or NaN counts as average; a new one is
            learned from here on.
        y : hashable
            The class.

        Raises
        ------
        ValueError, TypeError
            y is none of the declared classes, or a feature is no number.
        """
        if y not in self._places:
            if self.classes is not None:
                raise ValueError(f"y must be one of the classes {', '.join(map(repr, self._places))}, got {y!r}")
            self._meet(x)
            self._places[y] = len(self._places)
        else:
            self._meet(x)
        if len(self._places) > 1:  # else there is nothing to tell apart
            self._take(x, len(self._places), np.array([self._places[y]]))

    def predict_proba_one(self, x: Mapping[Hashable, Any]) -> dict[Hashable, float]:
        """The probability of every class that is known; all are equal before the first row.

        Parameters
        ----------
        x : dict

        Returns
        -------
        dict
        """
        n = len(self._places)
        if self._network is None:
            _numbers(x)
            return dict.fromkeys(self._places, 1 / n) if n else {}
        return dict(zip(self._places, self._outputs(x).tolist(), strict=True))

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
            The number.

        Raises
        ------
        ValueError, TypeError
            y or a feature is no finite number.
        """
        target = real("y", y)
        if not math.isfinite(target):
            raise ValueError(f"y must be a finite number, got {y!r}")
        self._meet(x)
        self._target.update(target)
        self._take(x, 1, np.array([[self._target.scaled(target)]]))

    def predict_one(self, x: Mapping[Hashable, Any]) -> float:
        """The number that is expected; 0 before the first row.

        Parameters
        ----------
        x : dict

        Returns
        -------
        float
        """
        if self._network is None:
            _numbers(x)
            return 0.0
        return float(self._outputs(x)[0]) * self._target.deviation + self._target.mean
