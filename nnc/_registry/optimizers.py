"""The optimizers of `fit`, with PyTorch's names, constants and defaults; their loops are in src/kernels/optimizers.pxd.

    net.fit(X, y, epochs=100, optimizer="adam")
    net.fit(X, y, epochs=100, optimizer=SGD(lr=0.1, momentum=0.9, nesterov=True))

In the formulas, p is a parameter, g its gradient and t the number of the step, counted from 1. `weight_decay` adds
weight_decay p to the gradient of each weight after clipping, and with `regularize_bias=True` also to that of biases.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._utils.checks import (
    MAX_SIZE,
    check_bool,
    check_choice,
    check_count,
    check_fraction,
    check_not_negative,
    check_positive,
    short_repr,
)
from nnc._utils.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = [
    "LBFGS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "LevenbergMarquardt",
    "NAdam",
    "Optimizer",
    "RMSprop",
    "Rprop",
    "optimizer_from_dict",
]


# Update rules of the core, in the order of src/kernels/optimizers.pxd.
METHODS = ("sgd", "momentum", "adam", "rmsprop", "adagrad", "nadam", "rprop")
SCALINGS = ("identity", "marquardt")  # matrices by which the damping of Levenberg-Marquardt is multiplied


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    """Return the two items of a sequence; raise ValueError for anything else."""
    try:
        low, high = value
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two numbers, got {short_repr(value)}") from None
    return low, high


def _fractions(name: str, value: Any) -> tuple[float, float]:
    """Return `value`, which must be a pair of numbers in the range [0, 1), such as the betas of Adam."""
    low, high = _pair(name, value)
    return check_fraction(f"{name}[0]", low), check_fraction(f"{name}[1]", high)


def _around_1(name: str, value: Any) -> tuple[float, float]:
    """Return `value` as two floats; raise ValueError unless 0 < first < 1 < second."""
    low, high = _pair(name, value)
    low, high = check_positive(f"{name}[0]", low), check_positive(f"{name}[1]", high)
    if not low < 1 < high:
        expected = "two numbers, the first below 1 and the second above 1"
        raise ValueError(f"{name} must be {expected}, got {short_repr(value)}")
    return low, high


def _range(name: str, value: Any) -> tuple[float, float]:
    """Return `value` as two floats; raise ValueError unless 0 < first <= second."""
    low, high = _pair(name, value)
    low, high = check_positive(f"{name}[0]", low), check_positive(f"{name}[1]", high)
    if not low <= high:
        expected = "the smallest and the largest step size, in this order"
        raise ValueError(f"{name} must be {expected}, got {short_repr(value)}")
    return low, high


class Optimizer(Value):
    """Base class of optimizers: constants that can be compared, hashed, pickled and written to a file.

    Attributes
    ----------
    name : str
    base_moments : int
        Number of values that the optimizer stores for each parameter, not counting those for `momentum` and
        `history_size`.
    signed_moments : bool
        Whether all of these values may be negative. Otherwise the last one is never negative: it is a mean or, for
        Adagrad, a sum of squared gradients, or a step size.
    stores_step_sizes : bool
        Whether the last stored value is a step size, whose initial value is the learning rate.
    first_order : bool
        Whether each step needs only the gradient of a batch and a learning rate. Other optimizers have no learning
        rate: they estimate the curvature of the loss from all rows in each iteration.
    least_squares : bool
        Whether the optimizer minimizes sums of squares, from residuals and their Jacobian.
    example : str
        Arguments in the example of the reference (docs/api/learning.md).
    """

    name: ClassVar[str]
    base_moments: ClassVar[int] = 0
    signed_moments: ClassVar[bool] = False
    stores_step_sizes: ClassVar[bool] = False
    first_order: ClassVar[bool] = True
    least_squares: ClassVar[bool] = False
    example: ClassVar[str] = ""

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the default values of the optimizer's constants."""
        return {name: constant.default for name, constant in cls._fields.items()}

    @classmethod
    def count_moments(cls, constants: Mapping[str, Any]) -> int:
        """Return how many numbers an optimizer with these constants stores for each parameter."""
        return cls.base_moments + bool(constants.get("momentum", 0)) + 2 * int(constants.get("history_size", 0))

    @property
    def decays_weights(self) -> bool:
        """Return whether the optimizer has the constant `weight_decay`."""
        return "weight_decay" in self._fields

    @property
    def n_moments(self) -> int:
        """Return how many numbers the optimizer stores for each parameter."""
        return self.count_moments(vars(self))

    def core_settings(self) -> dict[str, Any]:
        """Return the settings of the update rule, keyed by the names that the compiled core uses."""
        return {"method": "sgd"}  # second-order methods run in Python and do not use the update of the core

    def with_lr(self, lr: float) -> Self:
        """Return a copy of the optimizer with another learning rate."""
        return self.replace(lr=lr)

    def to_dict(self) -> dict[str, Any]:
        """Return the name and the constants of the optimizer as an object that JSON can represent."""
        constants = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return {"name": self.name, **constants}


class SGD(Optimizer):
    """Stochastic gradient descent, optionally with momentum (Sutskever et al., 2013).

    Without momentum, p -= lr g. With momentum, m = momentum m + g, where m is g in the first step, and p -= lr m, or
    with Nesterov's momentum p -= lr (g + momentum m).

    Parameters
    ----------
    lr : float, default 1e-3
        Learning rate.
    momentum : float, default 0
        Factor of at least 0 and less than 1.
    nesterov : bool, default False
        Whether to use Nesterov's momentum, which requires a momentum above 0.
    weight_decay : float, default 0
        Factor of the penalty.
    """

    name: ClassVar[str] = "sgd"
    example: ClassVar[str] = "lr=0.05, momentum=0.9, nesterov=True"
    lr: float = field(default=1e-3, check=check_positive)
    momentum: float = field(default=0.0, check=check_fraction)
    nesterov: bool = field(default=False, check=check_bool)
    weight_decay: float = field(default=0.0, check=check_not_negative)

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("momentum must be above 0 if nesterov=True, got 0")

    def core_settings(self) -> dict[str, Any]:
        if not self.momentum:
            return {"method": "sgd", "decay": self.weight_decay}
        constants = {"momentum": self.momentum, "nesterov": self.nesterov, "decay": self.weight_decay}
        return {"method": "momentum", **constants}


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015).

    m = beta1 m + (1 - beta1) g and v = beta2 v + (1 - beta2) g**2. With the bias corrections m' = m / (1 - beta1**t)
    and v' = v / (1 - beta2**t), the update is p -= lr m' / (sqrt(v') + eps).

    Parameters
    ----------
    lr : float, default 1e-3
        Learning rate.
    betas : (float, float), default (0.9, 0.999)
        Decay rates of the running means of gradients and of their squares.
    eps : float, default 1e-8
        Number that is added to the denominator.
    weight_decay : float, default 0
        Factor of the penalty.
    """

    name: ClassVar[str] = "adam"
    example: ClassVar[str] = "lr=0.01, betas=(0.9, 0.99)"
    base_moments: ClassVar[int] = 2
    lr: float = field(default=1e-3, check=check_positive)
    betas: tuple[float, float] = field(default=(0.9, 0.999), check=_fractions)
    eps: float = field(default=1e-8, check=check_positive)
    weight_decay: float = field(default=0.0, check=check_not_negative)

    def core_settings(self) -> dict[str, Any]:
        beta1, beta2 = self.betas
        return {"method": "adam", "beta1": beta1, "beta2": beta2, "eps": self.eps, "decay": self.weight_decay}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    Before the step of Adam, each weight p is decayed: p -= lr weight_decay p. The gradient does not contain the decay.

    Parameters
    ----------
    lr, betas, eps
        See `Adam`.
    weight_decay : float, default 0.01
        Factor of the decay.
    """

    name: ClassVar[str] = "adamw"
    example: ClassVar[str] = "lr=0.01, weight_decay=0.001"
    weight_decay: float = 0.01

    def core_settings(self) -> dict[str, Any]:
        return {**super().core_settings(), "decoupled": True}


class RMSprop(Optimizer):
    """RMSprop (Hinton, 2012).

    v = alpha v + (1 - alpha) g**2 and p -= lr g / (sqrt(v) + eps). With momentum, m = momentum m + g / (sqrt(v) + eps)
    and p -= lr m.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    alpha : float, default 0.99
        Decay rate of the running mean of squared gradients.
    eps : float, default 1e-8
        Number that is added to the denominator.
    weight_decay : float, default 0
        Factor of the penalty.
    momentum : float, default 0
        Factor of at least 0 and less than 1.
    """

    name: ClassVar[str] = "rmsprop"
    example: ClassVar[str] = "lr=0.01"
    base_moments: ClassVar[int] = 1
    lr: float = field(default=1e-2, check=check_positive)
    alpha: float = field(default=0.99, check=check_fraction)
    eps: float = field(default=1e-8, check=check_positive)
    weight_decay: float = field(default=0.0, check=check_not_negative)
    momentum: float = field(default=0.0, check=check_fraction)

    def core_settings(self) -> dict[str, Any]:
        constants = {"beta2": self.alpha, "eps": self.eps, "decay": self.weight_decay, "momentum": self.momentum}
        return {"method": "rmsprop", **constants}


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer, 2011).

    v += g**2 and p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(v) + eps).

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    lr_decay : float, default 0
        Decay of the learning rate with the number of steps.
    weight_decay : float, default 0
        Factor of the penalty.
    eps : float, default 1e-10
        Number that is added to the denominator.
    """

    name: ClassVar[str] = "adagrad"
    example: ClassVar[str] = "lr=0.1"
    base_moments: ClassVar[int] = 1
    lr: float = field(default=1e-2, check=check_positive)
    lr_decay: float = field(default=0.0, check=check_not_negative)
    weight_decay: float = field(default=0.0, check=check_not_negative)
    eps: float = field(default=1e-10, check=check_positive)

    def core_settings(self) -> dict[str, Any]:
        constants = {"lr_decay": self.lr_decay, "decay": self.weight_decay, "eps": self.eps}
        return {"method": "adagrad", **constants}


class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, 2016).

    m and v are the running means of `Adam`. Let mu_t = beta1 (1 - 0.96**(t momentum_decay) / 2), M_t the product of
    mu_1 to mu_t, and v' = v / (1 - beta2**t). The update is
    p -= lr ((1 - mu_t) / (1 - M_t) g + mu_(t+1) / (1 - M_(t+1)) m) / (sqrt(v') + eps).

    Parameters
    ----------
    lr : float, default 2e-3
        Learning rate.
    betas : (float, float), default (0.9, 0.999)
        Decay rates of the running means of gradients and of their squares.
    eps : float, default 1e-8
        Number that is added to the denominator.
    weight_decay : float, default 0
        Factor of the penalty.
    momentum_decay : float, default 4e-3
        Speed at which mu_t approaches beta1.
    """

    name: ClassVar[str] = "nadam"
    example: ClassVar[str] = "lr=0.01"
    base_moments: ClassVar[int] = 2
    lr: float = field(default=2e-3, check=check_positive)
    betas: tuple[float, float] = field(default=(0.9, 0.999), check=_fractions)
    eps: float = field(default=1e-8, check=check_positive)
    weight_decay: float = field(default=0.0, check=check_not_negative)
    momentum_decay: float = field(default=4e-3, check=check_not_negative)

    def core_settings(self) -> dict[str, Any]:
        beta1, beta2 = self.betas
        constants = {"beta1": beta1, "beta2": beta2, "eps": self.eps, "decay": self.weight_decay}
        return {"method": "nadam", **constants, "momentum_decay": 0.96**self.momentum_decay}


class Rprop(Optimizer):
    """Resilient backpropagation in the variant iRprop- (Igel and Huesken, 2003).

    Each parameter has its own step size, and p -= sign(g) step. The step size is multiplied by etas[1] if the gradient
    has the same sign as in the previous step, and by etas[0] if the sign has changed. Use full batches, because the
    signs of gradients of mini-batches are mostly noise.

    Parameters
    ----------
    lr : float, default 0.01
        Initial step size.
    etas : (float, float), default (0.5, 1.2)
        Factors of the step size, below 1 and above 1.
    step_sizes : (float, float), default (1e-6, 50)
        Smallest and largest step size.
    """

    name: ClassVar[str] = "rprop"
    base_moments: ClassVar[int] = 2
    stores_step_sizes: ClassVar[bool] = True
    lr: float = field(default=1e-2, check=check_positive)
    etas: tuple[float, float] = field(default=(0.5, 1.2), check=_around_1)
    step_sizes: tuple[float, float] = field(default=(1e-6, 50.0), check=_range)

    def core_settings(self) -> dict[str, Any]:
        (down, up), (smallest, largest) = self.etas, self.step_sizes
        return {"method": "rprop", "down": down, "up": up, "smallest": smallest, "largest": largest}


class LBFGS(Optimizer):
    """L-BFGS (Liu and Nocedal, 1989), a second-order method for small networks with a smooth loss.

    It uses full batches and has no learning rate.

    Parameters
    ----------
    history_size : int, default 10
        Number of recent steps from which the curvature is estimated.
    """

    name: ClassVar[str] = "lbfgs"
    first_order: ClassVar[bool] = False
    history_size: int = field(default=10, check=partial(check_count, maximum=MAX_SIZE))


class LevenbergMarquardt(Optimizer):
    """Levenberg-Marquardt method (Marquardt, 1963) for squared losses and up to a few thousand parameters.

    Each step is a Gauss-Newton step with geodesic acceleration (Transtrum and Sethna, 2012). With residuals r and their
    Jacobian J, divided by the square root of the number of residuals, the step solves (J'J + damping D) step = -J'r. A
    step that does not decrease the loss is rejected: the damping is multiplied by 1.5, and a new step is computed.
    After an accepted step, the damping is divided by 10. The method uses full batches and has no learning rate. It
    stores two matrices with one row and one column for each parameter.

    Parameters
    ----------
    damping : float, default 1e-3
        Initial damping.
    scaling : {"identity", "marquardt"}, default "identity"
        Matrix D of the damping: the identity, or the diagonal of J'J. With the identity, most regressions reach lower
        losses. With the diagonal, steps do not depend on the units of the parameters.
    """

    name: ClassVar[str] = "levenberg_marquardt"
    first_order: ClassVar[bool] = False
    least_squares: ClassVar[bool] = True
    damping: float = field(default=1e-3, check=check_positive)
    scaling: str = field(default="identity", check=partial(check_choice, choices=SCALINGS))


ROWS: dict[str, type[Optimizer]] = {
    optimizer.name: optimizer
    for optimizer in (SGD, Adam, AdamW, RMSprop, Adagrad, NAdam, Rprop, LBFGS, LevenbergMarquardt)
}
NAMES = (*ROWS, "momentum")
_DEFAULTS: dict[str, Optimizer] = {name: optimizer() for name, optimizer in ROWS.items()}
_DEFAULTS["momentum"] = SGD(momentum=0.9)
FIRST_ORDER = tuple(name for name in NAMES if _DEFAULTS[name].first_order)


def parse_optimizer(value: Any) -> Optimizer:
    """Return the optimizer with this name, or an optimizer object unchanged; "momentum" is SGD with momentum 0.9."""
    if isinstance(value, str) and value in _DEFAULTS:
        return _DEFAULTS[value]
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, type) and issubclass(value, Optimizer):
        raise TypeError(f"optimizer must be a name or an object such as {value.__name__}(), got the class itself")
    return _DEFAULTS[check_choice("optimizer", value, NAMES, ", or an object such as nnc.Adam(lr=0.01)")]


def optimizer_from_dict(document: dict[str, Any]) -> Optimizer:
    """Create an optimizer from the result of `to_dict`; raise ValueError or TypeError for an invalid document."""
    constants = dict(document)
    optimizer_class = ROWS[check_choice("the name of the optimizer", constants.pop("name", None), ROWS)]
    if optimizer_class is LevenbergMarquardt:  # in documents of 0.1.0, the scaling was always Marquardt's
        constants = {"scaling": "marquardt", **constants}
    unknown = set(constants) - set(optimizer_class._fields)
    if unknown:
        expected = ", ".join(optimizer_class._fields)
        found = sorted(unknown)[0]
        raise ValueError(f"constants of the optimizer {optimizer_class.name} must be {expected}, got {found!r}")
    return optimizer_class(**constants)
