"""The optimizers of `fit`: their names, constants and defaults are PyTorch's, their loops are in src/optimizers.pxd.

    net.fit(X, y, epochs=100, optimizer="adam")
    net.fit(X, y, epochs=100, optimizer=SGD(lr=0.1, momentum=0.9, nesterov=True))

With p a parameter, g its gradient and t the number of the step. `weight_decay` adds weight_decay p to the gradient
after clipping, on weights and not on biases, unless fit's `regularize_bias` says so.
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


METHODS = ("sgd", "momentum", "adam", "rmsprop", "adagrad", "nadam", "rprop")  # in the order of src/optimizers.pxd


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    try:
        low, high = value
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two numbers, got {value!r}") from None
    return low, high


def _fractions(name: str, value: Any) -> tuple[float, float]:
    low, high = _pair(name, value)
    return check_fraction(f"{name}[0]", low), check_fraction(f"{name}[1]", high)


def _around_1(name: str, value: Any) -> tuple[float, float]:
    low, high = _pair(name, value)
    low, high = check_positive(f"{name}[0]", low), check_positive(f"{name}[1]", high)
    if not low < 1 < high:
        raise ValueError(f"{name} must be one number below 1 and one above, got {value!r}")
    return low, high


def _range(name: str, value: Any) -> tuple[float, float]:
    low, high = _pair(name, value)
    low, high = check_positive(f"{name}[0]", low), check_positive(f"{name}[1]", high)
    if not low <= high:
        raise ValueError(f"{name} must be the smallest step and the largest, got {value!r}")
    return low, high


class Optimizer(Value):
    """What all optimizers are: constants that can be compared, hashed, pickled and written to a file.

    The constants are the fields. `kept` is how many numbers there are for each parameter, besides those of a momentum
    that is not 0 and of a history. The last of them, where there are any, is never negative: a mean of squares, or with
    `keeps_steps` a step, at first the learning rate.
    """

    name: ClassVar[str]
    base_moments: ClassVar[int] = 0
    stores_step_sizes: ClassVar[bool] = False

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The constants where nothing is said."""
        return {name: constant.default for name, constant in cls._fields.items()}

    @classmethod
    def count_moments(cls, constants: Mapping[str, Any]) -> int:
        """How many numbers it keeps for each parameter with these constants."""
        return cls.base_moments + bool(constants.get("momentum", 0)) + 2 * int(constants.get("history_size", 0))

    @property
    def n_moments(self) -> int:
        """How many numbers it keeps for each parameter."""
        return self.count_moments(vars(self))

    def core_settings(self) -> dict[str, Any]:
        """The constants as the compiled core names them."""
        return {"method": "sgd"}  # what has no loop in the core has none of its constants

    def with_lr(self, lr: float) -> Self:
        """The same with another learning rate."""
        return self.replace(lr=lr)

    def to_dict(self) -> dict[str, Any]:
        """The name and the constants: plain values, as JSON has them."""
        constants = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return {"name": self.name, **constants}


class SGD(Optimizer):
    """Gradient descent: p -= lr g; with momentum m = momentum m + g, p -= lr m, by Nesterov p -= lr (g + momentum m)
    (Sutskever et al., 2013). m starts as g.

    Parameters
    ----------
    lr : float, default 1e-3
        Learning rate.
    momentum : float, default 0
        At least 0 and less than 1.
    nesterov : bool, default False
        Needs a momentum.
    weight_decay : float, default 0
    """

    name: ClassVar[str] = "sgd"
    lr: float = field(default=1e-3, check=check_positive)
    momentum: float = field(default=0.0, check=check_fraction)
    nesterov: bool = field(default=False, check=check_bool)
    weight_decay: float = field(default=0.0, check=check_not_negative)

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True needs a momentum above 0, got momentum=0")

    def core_settings(self) -> dict[str, Any]:
        if not self.momentum:
            return {"method": "sgd", "decay": self.weight_decay}
        constants = {"momentum": self.momentum, "nesterov": self.nesterov, "decay": self.weight_decay}
        return {"method": "momentum", **constants}


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g**2, and with m and v divided
    by 1 - beta**t, p -= lr m / (sqrt(v) + eps).

    Parameters
    ----------
    lr : float, default 1e-3
        Learning rate.
    betas : (float, float), default (0.9, 0.999)
    eps : float, default 1e-8
    weight_decay : float, default 0
    """

    name: ClassVar[str] = "adam"
    base_moments: ClassVar[int] = 2
    lr: float = field(default=1e-3, check=check_positive)
    betas: tuple[float, float] = field(default=(0.9, 0.999), check=_fractions)
    eps: float = field(default=1e-8, check=check_positive)
    weight_decay: float = field(default=0.0, check=check_not_negative)

    def core_settings(self) -> dict[str, Any]:
        beta1, beta2 = self.betas
        return {"method": "adam", "beta1": beta1, "beta2": beta2, "eps": self.eps, "decay": self.weight_decay}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): p -= lr weight_decay p before the step, and
    nothing is added to the gradient.

    Parameters
    ----------
    lr, betas, eps
        As Adam's.
    weight_decay : float, default 0.01
    """

    name: ClassVar[str] = "adamw"
    weight_decay: float = 0.01

    def core_settings(self) -> dict[str, Any]:
        return {**super().core_settings(), "decoupled": True}


class RMSprop(Optimizer):
    """RMSprop (Hinton, 2012): v = alpha v + (1 - alpha) g**2, p -= lr g / (sqrt(v) + eps); with momentum
    m = momentum m + g / (sqrt(v) + eps), p -= lr m.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    alpha : float, default 0.99
    eps : float, default 1e-8
    weight_decay : float, default 0
    momentum : float, default 0
    """

    name: ClassVar[str] = "rmsprop"
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
    """Adagrad (Duchi, Hazan and Singer, 2011): v += g**2, p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(v) + eps).

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    lr_decay : float, default 0
    weight_decay : float, default 0
    eps : float, default 1e-10
    """

    name: ClassVar[str] = "adagrad"
    base_moments: ClassVar[int] = 1
    lr: float = field(default=1e-2, check=check_positive)
    lr_decay: float = field(default=0.0, check=check_not_negative)
    weight_decay: float = field(default=0.0, check=check_not_negative)
    eps: float = field(default=1e-10, check=check_positive)

    def core_settings(self) -> dict[str, Any]:
        constants = {"lr_decay": self.lr_decay, "decay": self.weight_decay, "eps": self.eps}
        return {"method": "adagrad", **constants}


class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, 2016): with mu_t = beta1 (1 - 0.96**(t momentum_decay) / 2) and M_t the
    product of all mu up to t, p -= lr ((1 - mu_t) / (1 - M_t) g + mu_(t+1) / (1 - M_(t+1)) m) / (sqrt(v) + eps), where
    v is divided by 1 - beta2**t.

    Parameters
    ----------
    lr : float, default 2e-3
        Learning rate.
    betas : (float, float), default (0.9, 0.999)
    eps : float, default 1e-8
    weight_decay : float, default 0
    momentum_decay : float, default 4e-3
    """

    name: ClassVar[str] = "nadam"
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
    """Resilient backpropagation, iRprop- (Igel and Huesken, 2003): every parameter has a step of its own, which grows
    by etas[1] while its gradient keeps its sign and shrinks by etas[0] where it changes; p -= sign(g) step. For full
    batches: the signs of mini-batches say little.

    Parameters
    ----------
    lr : float, default 0.01
        The steps at first.
    etas : (float, float), default (0.5, 1.2)
    step_sizes : (float, float), default (1e-6, 50)
        The smallest and the largest step.
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
    """L-BFGS (Liu and Nocedal, 1989), full batch: for small networks and smooth losses. It has no learning rate.

    Parameters
    ----------
    history_size : int, default 10
        From how many steps, and the changes of the gradient in them, it estimates the curvature.
    """

    name: ClassVar[str] = "lbfgs"
    history_size: int = field(default=10, check=partial(check_count, maximum=MAX_SIZE))


class LevenbergMarquardt(Optimizer):
    """Levenberg and Marquardt's method (Marquardt, 1963), full batch, for squared losses: Gauss and Newton's step,
    damped until it lowers the loss. For networks of up to some thousand parameters. It has no learning rate.

    Parameters
    ----------
    damping : float, default 1e-3
        At first.
    """

    name: ClassVar[str] = "levenberg_marquardt"
    damping: float = field(default=1e-3, check=check_positive)


ROWS: dict[str, type[Optimizer]] = {
    kind.name: kind for kind in (SGD, Adam, AdamW, RMSprop, Adagrad, NAdam, Rprop, LBFGS, LevenbergMarquardt)
}
NAMES = (*ROWS, "momentum")
_DEFAULTS: dict[str, Optimizer] = {name: kind() for name, kind in ROWS.items()}
_DEFAULTS["momentum"] = SGD(momentum=0.9)


def parse_optimizer(value: Any) -> Optimizer:
    """An optimizer by its name, "momentum" being SGD with a momentum of 0.9, or as it is."""
    if isinstance(value, str) and value in _DEFAULTS:
        return _DEFAULTS[value]
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, type) and issubclass(value, Optimizer):
        raise TypeError(f"optimizer must be a name or an object such as {value.__name__}(), got the class itself")
    return _DEFAULTS[check_choice("optimizer", value, NAMES, ", or an object such as nnc.Adam(lr=0.01)")]


def optimizer_from_dict(document: dict[str, Any]) -> Optimizer:
    """The optimizer that `to_dict` described; ValueError or TypeError for anything else."""
    constants = dict(document)
    kind = ROWS[check_choice("the optimizer's name", constants.pop("name", None), ROWS)]
    unknown = set(constants) - set(kind._fields)
    if unknown:
        raise ValueError(f"{kind.name} has no {sorted(unknown)[0]!r}")
    return kind(**constants)
