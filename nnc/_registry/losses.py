"""Table of losses with one row per loss, and the classes of losses with a parameter.

The kernels are in src/kernels/losses.pxd, in the order of ROWS.

    NeuralNetwork([8, 20, 1], loss=Quantile(0.9))
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._registry import activations, formulas
from nnc._utils.checks import build_check, check_choice, check_fraction, check_positive, short_repr
from nnc._utils.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]


class Loss(Value):
    """Base class of losses with a single parameter, such as Huber."""

    name: ClassVar[str]
    parameter_text: ClassVar[str]  # valid values of the parameter, for error messages

    @property
    def parameter(self) -> float:
        """Return the parameter of the loss, such as the quantile."""
        return float(*self._values())

    @classmethod
    def of(cls, parameter: float) -> Loss:
        """Create the loss object with this value of its parameter."""
        return cls(**dict.fromkeys(cls._fields, parameter))


class Composite(Value):
    """Base class of losses that combine several losses, such as `Heads`."""


class Huber(Loss):
    """Huber loss (Huber, 1964), in which large errors count less than in the squared error.

    For an error e, the loss is e**2 / 2 if |e| <= delta, and delta (|e| - delta / 2) otherwise.

    Parameters
    ----------
    delta : float, default 1
        Absolute error from which the loss is linear.
    """

    name: ClassVar[str] = "huber"
    parameter_text: ClassVar[str] = "a number above 0 (delta)"
    delta: float = field(default=1.0, check=check_positive)


def _tau(name: str, value: Any) -> float | tuple[float, ...]:
    """Validate the argument tau; return one quantile as a float, or several quantiles as a tuple."""
    if not isinstance(value, (list, tuple)):
        return _one_tau(name, value)
    taus = tuple(_one_tau(f"{name}[{i}]", tau) for i, tau in enumerate(value))
    if len(taus) < 2 or any(low >= high for low, high in pairwise(taus)):
        expected = "a number, or at least two numbers in increasing order"
        raise ValueError(f"{name} must be {expected}, got {short_repr(value)}")
    return taus


_one_tau = build_check(lambda x: 0 < x < 1, "above 0 and below 1")


class Quantile(Loss):
    """Quantile loss or pinball loss, whose minimum is the tau-quantile of the targets (Koenker and Bassett, 1978).

    The loss of a target y and an output p is max(tau (y - p), (tau - 1) (y - p)).

    With several quantiles, the network has one output for each quantile of each target: first the outputs of all
    targets for the first quantile, then those for the second quantile, and so on. The loss is the sum of the losses of
    the quantiles, and `net.heads` has one head for each. Training uses the outputs in this order. Predictions of a
    target are sorted, so that quantiles do not cross. The sorted predictions are at least as close to the true
    quantiles (Chernozhukov, Fernandez-Val and Galichon, 2010).

    Parameters
    ----------
    tau : float or list of float, default 0.5
        Quantiles between 0 and 1, in increasing order. For 0.5 the loss is half of the absolute error.

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
    """Cross-entropy with label smoothing (Szegedy et al., 2016).

    A fraction of the probability of each row is distributed evenly over all classes: the targets Y are replaced by
    (1 - label_smoothing) Y + label_smoothing / n_out.

    Parameters
    ----------
    label_smoothing : float, default 0
        Fraction of at least 0 and less than 1.
    """

    name: ClassVar[str] = "cross_entropy"
    parameter_text: ClassVar[str] = "a number of at least 0 and less than 1 (label smoothing)"
    label_smoothing: float = field(default=0.0, check=check_fraction)


class LossRow(Value):
    """Formula and properties of a loss function.

    The loss is the sum of a term over all rows and outputs, divided by the number of rows or terms if it is a mean. The
    variables of the term are the target y, the output p, its net input z and the parameter c.

    Attributes
    ----------
    name : str
    definition : str
        The loss as the documentation defines it, for targets Y and outputs P with m rows and n columns, in which ^ is
        the power. It names the class of the loss objects, if there is one.
    term, derivative : str
        Formulas (see formulas.py) of the term as a function of y, p, z and c, and of its derivative with respect to p.
    textbook, textbook_derivative : str
        The formulas as textbooks write them, if they are different; for texts only.
    mean_over : {"terms", "rows", ""}
        Count by which the sum is divided; "" for a sum.
    output : str
        Default activation of the output layer.
    output_required : bool
        Whether the loss is possible only with this activation, because it is computed from z. The product of the
        derivatives of loss and activation is then p - y, so that no division by 0 occurs.
    target_type : str
        Type of the targets. "continuous": numbers. "counts": numbers of at least 0. "multilabel": probabilities of
        independent outputs. "plus_minus_one": -1 or 1. "probabilities": numbers that add up to 1 over the outputs, or
        labels. "output_gradient": derivatives of another loss with respect to the outputs.
    parameter : type of Loss, optional
        Class of the loss objects with a parameter.
    branch_condition : str
        Formula of a condition that changes its value where the derivative jumps.
    squared_error_factor : float
        Factor if the term is a multiple of the squared error, otherwise 0.
    target_variance : str
        Formula of the variance of a target as a function of its mean p, if the loss is the negative log-likelihood of a
        distribution with this variance.
    """

    name: str
    definition: str
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
        """Return the formula of a loss term, a format string with target {y}, output {p} and loss parameter {c}."""
        return self.textbook or formulas.to_template(self.term)

    @property
    def derivative_template(self) -> str:
        """Return the derivative of a loss term with respect to output {p}, as a format string like `term_template`."""
        return self.textbook_derivative or formulas.to_template(self.derivative)

    @property
    def compute_terms(self) -> Callable[[Array, Array, Array, float | Array], Array]:
        """Return a function of targets y, outputs p, net inputs z and loss parameter c that computes loss terms."""
        return formulas.compile_formula(self.term, "y p z c")

    @property
    def compute_derivative(self) -> Callable[[Array, Array, float], Array]:
        """Return a function of targets y, outputs p and loss parameter c that computes derivatives of loss terms.

        The derivatives are those with respect to p.
        """
        return formulas.compile_formula(self.derivative, "y p c")

    @property
    def compute_branch(self) -> Callable[[Array, Array, float], Array] | None:
        """Return a function of targets y, outputs p and loss parameter c that is true on one side of a kink.

        The function evaluates `branch_condition`. If the loss is smooth, return None.
        """
        return formulas.compile_formula(self.branch_condition, "y p c") if self.branch_condition else None

    @property
    def compute_variance(self) -> Callable[[Array], Array] | None:
        """Return a function that computes the variances of targets from their means; None if the loss defines none."""
        return formulas.compile_formula(self.target_variance, "p") if self.target_variance else None

    @property
    def default_parameter(self) -> float | None:
        """Return the default of the parameter, or None if the loss has no parameter."""
        return None if self.parameter is None else self.parameter().parameter

    @property
    def is_classification(self) -> bool:
        """Return whether this is a loss for classification, whose targets may be class labels."""
        return self.target_type in ("multilabel", "plus_minus_one", "probabilities")

    @property
    def is_sum(self) -> bool:
        """Return whether the loss is a sum and not a mean."""
        return self.mean_over == ""

    @property
    def threshold(self) -> float:
        """Return the threshold of a single output or target; values of at least the threshold mean class 1."""
        return 0.0 if self.target_type == "plus_minus_one" else 0.5

    def divisor(self, rows: float, n_out: int) -> float:
        """Return the number by which the sum of all terms of the loss is divided."""
        return {"": 1, "rows": rows, "terms": rows * n_out}[self.mean_over]


# Name of the loss with which the engine trains if the loss is computed in Python. The engine receives the derivatives
# of the Python loss with respect to the outputs as targets, and computes the gradient from them.
CUSTOM = "custom"

# By default, networks with sse or half_sse have sigmoid outputs (as in docs/notebooks/tutorial.md), and networks with
# mse have linear outputs.
ROWS = {
    row.name: row
    for row in (
        LossRow(
            "sse",
            "sum (Y - P)^2 over rows and outputs",
            "(y - p)^2",
            "2 * (p - y)",
            mean_over="",
            output="sigmoid",
            squared_error_factor=1.0,
        ),
        LossRow(
            "half_sse",
            "sum (Y - P)^2 / 2",
            "(y - p)^2 / 2",
            "(p - y)",
            mean_over="",
            output="sigmoid",
            squared_error_factor=0.5,
        ),
        LossRow("mse", "sum (Y - P)^2 / (m n)", "(y - p)^2", "2 * (p - y)", squared_error_factor=1.0),
        LossRow(
            "bce",
            "-sum (Y log P + (1 - Y) log(1 - P)) / (m n)",
            "softplus(z) - y * z",
            "(p - y) / (p * (1 - p))",
            textbook="-({y} * log({p}) + (1 - {y}) * log(1 - {p}))",
            output="sigmoid",
            output_required=True,
            target_type="multilabel",
        ),
        LossRow(
            "cross_entropy",
            "-sum (Y log P) / m; y contains labels, one-hot rows or probabilities; "
            "`nnc.CrossEntropy(label_smoothing=0)`",
            "-y * log_softmax(z)",
            "-y / p",
            textbook="-{y} * log({p})",
            mean_over="rows",
            output="softmax",
            output_required=True,
            target_type="probabilities",
            parameter=CrossEntropy,
        ),
        LossRow("mae", "sum abs(Y - P) / (m n)", "abs(y - p)", "sign(p - y)", branch_condition="y > p"),
        LossRow(
            "huber",
            "mean of (Y - P)^2 / 2 for errors up to delta, then linear; `nnc.Huber(delta=1)`",
            "((y - p)^2 / 2 if abs(y - p) < c else c * (abs(y - p) - c / 2))",
            "max(-c, min(c, p - y))",
            parameter=Huber,
            branch_condition="abs(y - p) < c",
        ),
        LossRow(
            "log_cosh", "mean of log cosh(Y - P)", "log_cosh(y - p)", "tanh(p - y)", textbook="log(cosh({y} - {p}))"
        ),
        LossRow(
            "poisson",
            "sum (P - Y log P) / (m n) for counts Y",
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
            "mean of max(tau (Y - P), (tau - 1) (Y - P)); "
            "`nnc.Quantile(tau=0.5)`; `nnc.Quantile([0.1, 0.5, 0.9])` has one output for each quantile",
            "max(c * (y - p), (c - 1) * (y - p))",
            "(-c if y > p else 1 - c if y < p else 0)",
            textbook_derivative="(-{c} if {y} > {p} else 1 - {c})",
            parameter=Quantile,
            branch_condition="y > p",
        ),
        LossRow(
            "hinge",
            "mean of max(0, 1 - Y P), Y = -1 or 1",
            "max(0, 1 - y * p)",
            "(-y if y * p < 1 else 0)",
            target_type="plus_minus_one",
            branch_condition="y * p < 1",
        ),
        LossRow(CUSTOM, "a function of outputs and targets", "y * p", "y", mean_over="", target_type="output_gradient"),
    )
}
ENGINE_LOSSES = tuple(ROWS)
NAMES = tuple(name for name in ROWS if name != CUSTOM)
MARGIN_LOSSES = tuple(name for name, row in ROWS.items() if row.target_type == "plus_minus_one")
DEFAULT_PARAMETERS = {loss_class.name: loss_class().parameter for loss_class in Loss.__subclasses__()}


def parse_loss(value: Any) -> tuple[str, float]:
    """Return the name and the parameter (0 if there is none) of a loss, which is a name, an object or a function."""
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
    """Return the loss of this name as an object if it has a parameter, otherwise the name."""
    loss_class = ROWS[name].parameter
    return name if parameter is None or loss_class is None else loss_class.of(parameter)


def explain_mismatch(layer_activations: Sequence[str], loss: str) -> str | None:
    """Return the reason why the loss does not support these activations, or None if it supports them."""
    *hidden, output = layer_activations
    for row in activations.ROWS.values():
        if row.output_only and row.name in hidden:
            return f'activation "{row.name}" is possible only for the output layer'
    required = ROWS[loss].output if ROWS[loss].output_required else output
    if output != required:
        return f'output must be "{required}" for loss "{loss}", got "{output}"'
    return None
