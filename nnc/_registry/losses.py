"""The losses, a row each, and those that have a parameter as objects. Their kernels are in src/losses.pxd, in the same
order.

    NeuralNetwork([8, 20, 1], loss=Quantile(0.9))
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._registry import activations, formulas
from nnc._utils.checks import build_check, check_choice, check_fraction, check_positive
from nnc._utils.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]


class Loss(Value):
    """A loss with its parameter, its only field."""

    name: ClassVar[str]
    parameter_text: ClassVar[str]  # of the parameter, as files say it

    @property
    def parameter(self) -> float:
        """The number itself."""
        return float(*self._values())

    @classmethod
    def of(cls, parameter: float) -> Loss:
        """The loss with this parameter."""
        return cls(**dict.fromkeys(cls._fields, parameter))


class Composite(Value):
    """A loss that is made of others: what the engine does not know."""


class Huber(Loss):
    """e**2 / 2 for errors |e| <= delta, beyond them delta (|e| - delta / 2): large errors count less (Huber, 1964).

    Parameters
    ----------
    delta : float, default 1
    """

    name: ClassVar[str] = "huber"
    parameter_text: ClassVar[str] = "a number above 0 (delta)"
    delta: float = field(default=1.0, check=check_positive)


def _tau(name: str, value: Any) -> float | tuple[float, ...]:
    if not isinstance(value, (list, tuple)):
        return _one_tau(name, value)
    taus = tuple(_one_tau(f"{name}[{i}]", tau) for i, tau in enumerate(value))
    if len(taus) < 2 or any(low >= high for low, high in pairwise(taus)):
        raise ValueError(f"{name} must be a number, or two or more increasing ones, got {value!r}")
    return taus


_one_tau = build_check(lambda x: 0 < x < 1, "above 0 and below 1")


class Quantile(Loss):
    """The pinball loss max(tau (Y - P), (tau - 1) (Y - P)), whose minimum is the tau-quantile (Koenker and Bassett,
    1978).

    With several tau, the network has as many outputs for each target: all targets of the first quantile, then those of
    the second, and so on. The loss is the sum of theirs, and `net.heads` has it as heads. Training and losses use the
    outputs as they are. Predictions of a target are sorted, so that quantiles do not cross; the sorted ones are at
    least as close to the true quantiles (Chernozhukov, Fernandez-Val and Galichon, 2010).

    Parameters
    ----------
    tau : float or list of float, default 0.5
        Above 0 and below 1, several ones increasing; 0.5 is half of the absolute error.

    Examples
    --------
    >>> net = NeuralNetwork([4, 16, 3], loss=nnc.Quantile([0.1, 0.5, 0.9]))
    >>> net.fit(X, y)
    >>> low, median, high = net.predict(X).T
    """

    name: ClassVar[str] = "quantile"
    parameter_text: ClassVar[str] = "a number above 0 and below 1 (tau)"
    tau: float | Sequence[float] = field(default=0.5, check=_tau)


class CrossEntropy(Loss):
    """Cross-entropy with label smoothing: a share of each row's probability is spread evenly over all classes, so that
    Y becomes (1 - label_smoothing) Y + label_smoothing / n_out (Szegedy et al., 2016).

    Parameters
    ----------
    label_smoothing : float, default 0
        At least 0 and less than 1.
    """

    name: ClassVar[str] = "cross_entropy"
    parameter_text: ClassVar[str] = "a number from 0 to below 1 (label smoothing)"
    label_smoothing: float = field(default=0.0, check=check_fraction)


class LossRow(Value):
    """A loss: the formula of its terms (see formulas.py), and what else is to be known of it.

    With y the target, p the output, z its net input and c the parameter, the loss is the sum of the terms of all rows
    and outputs, divided by the number of what `mean` names.

    Attributes
    ----------
    name : str
    term, slope : str
        The term by y, p, z and c, and its derivative by p.
    textbook, shown_slope : str
        The same as a textbook has them, where that is another form.
    mean_over : str
        "terms", "rows", or "" for a sum.
    output : str
        The activation that is its natural partner.
    output_required : bool
        It goes with that one alone, since it is computed from z. The product of both slopes is p - y then, in which
        nothing can be divided by 0.
    target_type : str
        What targets are: "numbers"; "counts", 0 or more; "shares", from 0 to 1, the outputs independent of each other;
        "signs", -1 and 1; "probabilities", which add up to 1 over the outputs, or labels; "slopes", derivatives of
        another loss by the outputs.
    parameter : type of Loss, optional
        The class whose objects have the parameter.
    branch_condition : str
        A condition that turns where the slope jumps.
    squared_error_factor : float
        Where it is no more than a squared error, the factor of that.
    target_variance : str
        Where it is the likelihood of a distribution whose mean says all, the variance of that by p.
    """

    name: str
    term: str
    derivative: str
    textbook: str = ""
    textbook_derivative: str = ""
    mean_over: str = "terms"
    output: str = "identity"
    output_required: bool = False
    target_type: str = "continuous"
    parameter: type[Loss] | None = None
    branch_condition: str = ""
    squared_error_factor: float = 0.0
    target_variance: str = ""

    @property
    def term_template(self) -> str:
        """The term with places {y}, {p} and {c}."""
        return self.textbook or formulas.to_template(self.term)

    @property
    def derivative_template(self) -> str:
        """The slope with the same places."""
        return self.textbook_derivative or formulas.to_template(self.derivative)

    @property
    def compute_terms(self) -> Callable[[Array, Array, Array, float | Array], Array]:
        """The term as a function of arrays of y, p and z, and of c."""
        return formulas.compile_formula(self.term, "y p z c")

    @property
    def compute_derivative(self) -> Callable[[Array, Array, float], Array]:
        """The slope as a function of arrays of y and p, and of c."""
        return formulas.compile_formula(self.derivative, "y p c")

    @property
    def compute_branch(self) -> Callable[[Array, Array, float], Array] | None:
        """On which side of its bends it is, as a function of arrays of y and p, and of c; None where it has none."""
        return formulas.compile_formula(self.branch_condition, "y p c") if self.branch_condition else None

    @property
    def compute_variance(self) -> Callable[[Array], Array] | None:
        """The variance of targets as a function of an array of their means; None where the loss knows none."""
        return formulas.compile_formula(self.target_variance, "p") if self.target_variance else None

    @property
    def default_parameter(self) -> float | None:
        """The parameter where nothing is said; None where there is none."""
        return None if self.parameter is None else self.parameter().parameter

    @property
    def is_classification(self) -> bool:
        """Whether targets may be classes."""
        return self.target_type in ("multilabel", "plus_minus_one", "probabilities")

    @property
    def is_sum(self) -> bool:
        """Whether it is a sum over the rows, no mean."""
        return self.mean_over == ""

    @property
    def threshold(self) -> float:
        """From where on a single output, or its target, says yes."""
        return 0.0 if self.target_type == "plus_minus_one" else 0.5

    def divisor(self, rows: float, n_out: int) -> float:
        """What the sum of the terms is divided by."""
        return {"": 1, "rows": rows, "terms": rows * n_out}[self.mean_over]


# What stands in the engine for a loss that it does not know: targets are the derivatives of that by the outputs, so
# this sum has its gradient.
CUSTOM = "custom"

# The squared errors of the tutorial go with its sigmoid; the mean squared error is regression's.
ROWS = {
    row.name: row
    for row in (
        LossRow("sse", "(y - p)^2", "2 * (p - y)", mean_over="", output="sigmoid", squared_error_factor=1.0),
        LossRow("half_sse", "(y - p)^2 / 2", "(p - y)", mean_over="", output="sigmoid", squared_error_factor=0.5),
        LossRow("mse", "(y - p)^2", "2 * (p - y)", squared_error_factor=1.0),
        LossRow(
            "bce",
            "softplus(z) - y * z",
            "(p - y) / (p * (1 - p))",
            textbook="-({y} * log({p}) + (1 - {y}) * log(1 - {p}))",
            output="sigmoid",
            output_required=True,
            target_type="multilabel",
        ),
        LossRow(
            "cross_entropy",
            "-y * log_softmax(z)",
            "-y / p",
            textbook="-{y} * log({p})",
            mean_over="rows",
            output="softmax",
            output_required=True,
            target_type="probabilities",
            parameter=CrossEntropy,
        ),
        LossRow("mae", "abs(y - p)", "sign(p - y)", branch_condition="y > p"),
        LossRow(
            "huber",
            "((y - p)^2 / 2 if abs(y - p) < c else c * (abs(y - p) - c / 2))",
            "max(-c, min(c, p - y))",
            parameter=Huber,
            branch_condition="abs(y - p) < c",
        ),
        LossRow("log_cosh", "log_cosh(y - p)", "tanh(p - y)", textbook="log(cosh({y} - {p}))"),
        LossRow(
            "poisson",
            "p - y * z",
            "(1 - y / p)",
            textbook="({p} - {y} * log({p}))",
            output="exp",
            output_required=True,
            target_type="counts",
            target_variance="p",
        ),
        LossRow(
            "quantile",
            "max(c * (y - p), (c - 1) * (y - p))",
            "(-c if y > p else 1 - c if y < p else 0)",
            textbook_derivative="(-{c} if {y} > {p} else 1 - {c})",
            parameter=Quantile,
            branch_condition="y > p",
        ),
        LossRow(
            "hinge",
            "max(0, 1 - y * p)",
            "(-y if y * p < 1 else 0)",
            target_type="plus_minus_one",
            branch_condition="y * p < 1",
        ),
        LossRow(CUSTOM, "y * p", "y", mean_over="", target_type="output_gradient"),
    )
}
ENGINE_LOSSES = tuple(ROWS)
NAMES = tuple(name for name in ROWS if name != CUSTOM)
DEFAULT_PARAMETERS = {kind.name: kind().parameter for kind in Loss.__subclasses__()}  # the defaults


def parse_loss(value: Any) -> tuple[str, float]:
    """Name and parameter of a loss that is a name, an object or a function; 0 where it has no parameter."""
    if isinstance(value, Quantile) and isinstance(value.tau, tuple):
        return CUSTOM, 0.0
    if isinstance(value, Loss):
        return value.name, value.parameter
    if isinstance(value, type):
        raise TypeError(f"loss must be a name or an object such as {value.__name__}(), got the class itself")
    if isinstance(value, Composite) or callable(value):
        return CUSTOM, 0.0
    row = ROWS[check_choice("loss", value, NAMES)]
    return row.name, row.default_parameter or 0.0


def loss_object(name: str, parameter: float | None) -> str | Loss:
    """The loss of this name, with its parameter where it has one."""
    kind = ROWS[name].parameter
    return name if parameter is None or kind is None else kind.of(parameter)


def explain_mismatch(names: Sequence[str], loss: str) -> str | None:
    """Why activations (one a layer, the output's last) and loss do not go together, or None if they do."""
    *hidden, output = names
    for row in activations.ROWS.values():
        if row.output_only and row.name in hidden:
            return f'activation "{row.name}" is for the output layer only'
    needed = ROWS[loss].output if ROWS[loss].output_required else output
    if output != needed:
        return f'output "{output}" does not go with loss "{loss}", which needs "{needed}"'
    return None
