"""The losses that have a parameter, as objects; the others are known by their names alone (see NeuralNetwork).

NeuralNetwork([8, 20, 1], loss=Quantile(0.9))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from nnc.checks import fraction, one_of, positive, real

# The natural partner of each loss. The squared errors of the tutorial go with its sigmoid; the mean squared error is
# regression's.
OUTPUTS = {
    "sse": "sigmoid",
    "half_sse": "sigmoid",
    "mse": "identity",
    "bce": "sigmoid",
    "cross_entropy": "softmax",
    "mae": "identity",
    "huber": "identity",
    "log_cosh": "identity",
    "poisson": "exp",
    "quantile": "identity",
    "hinge": "identity",
}
CLASSIFIERS = ("bce", "cross_entropy", "hinge")  # the losses of classes
ADD_UP = ("sse", "half_sse")  # the losses that are sums over the rows; the others are means


class Loss:
    """A loss with its parameter."""

    name: ClassVar[str]

    @property
    def parameter(self) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Huber(Loss):
    """e**2 / 2 for errors |e| <= delta, beyond them delta (|e| - delta / 2): large errors count less (Huber, 1964).

    Parameters
    ----------
    delta : float, default 1
    """

    delta: float = 1.0
    name: ClassVar[str] = "huber"

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", positive("delta", self.delta))

    @property
    def parameter(self) -> float:
        return self.delta


@dataclass(frozen=True)
class Quantile(Loss):
    """The pinball loss max(tau (Y - P), (tau - 1) (Y - P)), whose minimum is the tau-quantile (Koenker and Bassett,
    1978).

    Parameters
    ----------
    tau : float, default 0.5
        Above 0 and below 1; 0.5 is half of the absolute error.
    """

    tau: float = 0.5
    name: ClassVar[str] = "quantile"

    def __post_init__(self) -> None:
        tau = real("tau", self.tau)
        if not 0 < tau < 1:
            raise ValueError(f"tau must be above 0 and below 1, got {self.tau!r}")
        object.__setattr__(self, "tau", tau)

    @property
    def parameter(self) -> float:
        return self.tau


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy with label smoothing: a share of each row's probability is spread evenly over all classes, so that
    Y becomes (1 - label_smoothing) Y + label_smoothing / n_out (Szegedy et al., 2016).

    Parameters
    ----------
    label_smoothing : float, default 0
        At least 0 and less than 1.
    """

    label_smoothing: float = 0.0
    name: ClassVar[str] = "cross_entropy"

    def __post_init__(self) -> None:
        object.__setattr__(self, "label_smoothing", fraction("label_smoothing", self.label_smoothing))

    @property
    def parameter(self) -> float:
        return self.label_smoothing


_OBJECTS: dict[str, type[Loss]] = {kind.name: kind for kind in (Huber, Quantile, CrossEntropy)}


def as_loss(value: Any) -> tuple[str, float]:
    """Name and parameter of a loss that is a name or an object; 0 where it has no parameter."""
    if isinstance(value, Loss):
        return value.name, value.parameter
    if isinstance(value, type) and issubclass(value, Loss):
        raise TypeError(f"loss must be a name or an object such as {value.__name__}(), got the class itself")
    name = one_of("loss", value, OUTPUTS)
    return name, _OBJECTS[name]().parameter if name in _OBJECTS else 0.0


def loss_object(name: str, parameter: float | None) -> str | Loss:
    """The loss of this name, with its parameter where it has one."""
    return name if parameter is None else _OBJECTS[name](parameter)  # type: ignore[call-arg]
