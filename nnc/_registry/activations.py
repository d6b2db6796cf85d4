"""Table of activation functions a = f(z) with one row per activation.

The kernel of an elementwise activation NAME is the pair f_NAME and d_NAME of src/kernels/activations.pxd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._registry import formulas
from nnc._utils.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray


INF = float("inf")


class Activation(Value):
    """Formula and properties of an activation function.

    Attributes
    ----------
    name : str
    f, derivative : str
        Formulas (see formulas.py) of the output a = f(z) for the net input z, and of da/dz as a function of z and a.
    textbook, textbook_derivative : str
        The formulas as textbooks write them, if they are different; for texts only.
    init : str
        Default initialization of the weights of a layer with this activation. Glorot initialization is derived for
        functions that are linear around 0 (Glorot and Bengio, 2010), He initialization for rectifiers, which halve
        the variance (He et al., 2015). The constants of selu are derived for LeCun initialization, and sin has that of
        SIREN (Sitzmann et al., 2020).
    output_only : bool
        Whether only the output layer may have it.
    elementwise : bool
        Whether each output depends on one net input only.
    probability : bool
        Whether outputs are probabilities. The threshold of a single output is 0.5 then.
    nonsmooth_at_zero : bool
        Whether the first or second derivative jumps at z = 0.
    has_higher_derivatives : bool
        Whether the engine has its second and third derivative (src/network/taylor.pxd), as `net.derivatives` requires.
    saturation_range : (float, float), optional
        A unit is saturated if its output is at most the first number or at least the second one. The derivative is
        zero or small there: these numbers are within 1 % of the ends of the output range.
    dead_when_saturated : bool
        Whether the derivative of a saturated unit is exactly zero.
    monotone : bool
        Whether the function never decreases, so that the largest net input has the largest output.
    output_range : (float, float)
        Bounds of the outputs, rounded to the digits that matter for a warning about targets.
    """

    name: str
    f: str
    derivative: str
    textbook: str = ""
    textbook_derivative: str = ""
    init: str = "glorot_uniform"
    output_only: bool = False
    elementwise: bool = True
    probability: bool = False
    nonsmooth_at_zero: bool = False
    has_higher_derivatives: bool = False
    saturation_range: tuple[float, float] | None = None
    dead_when_saturated: bool = False
    monotone: bool = True
    output_range: tuple[float, float] = (-INF, INF)

    @property
    def f_template(self) -> str:
        """Return the formula of the activation as a format string with the field {z}, the net input."""
        return self.textbook or formulas.to_template(self.f)

    @property
    def derivative_template(self) -> str:
        """Return the formula of df/dz as a format string with the fields {z} and {a}, net input and output."""
        return self.textbook_derivative or formulas.to_template(self.derivative)

    @property
    def compute(self) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """Return the activation as a function of an array of net inputs z."""
        return formulas.compile_formula(self.f, "z")

    @property
    def compute_derivative(self) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]:
        """Return the derivative of the activation as a function of arrays of net inputs z and outputs a."""
        return formulas.compile_formula(self.derivative, "z a")


ROWS = {
    row.name: row
    for row in (
        Activation(
            "sigmoid",
            "sigmoid(z)",
            "a * (1 - a)",
            textbook="1 / (1 + exp(-{z}))",
            probability=True,
            has_higher_derivatives=True,
            saturation_range=(0.01, 0.99),
            output_range=(0.0, 1.0),
        ),
        Activation(
            "tanh",
            "tanh(z)",
            "1 - a^2",
            has_higher_derivatives=True,
            saturation_range=(-0.98, 0.98),
            output_range=(-1.0, 1.0),
        ),
        Activation(
            "relu",
            "max(0, z)",
            "(1 if z > 0 else 0)",
            init="he_uniform",
            nonsmooth_at_zero=True,
            saturation_range=(0.0, INF),
            dead_when_saturated=True,
            output_range=(0.0, INF),
        ),
        Activation(
            "leaky_relu", "max(0.01 * z, z)", "(1 if z > 0 else 0.01)", init="he_uniform", nonsmooth_at_zero=True
        ),
        Activation("identity", "z", "1", has_higher_derivatives=True),
        Activation(
            "softplus",
            "softplus(z)",
            "sigmoid(z)",
            textbook="log(1 + exp({z}))",
            textbook_derivative="1 / (1 + exp(-{z}))",
            has_higher_derivatives=True,
            output_range=(0.0, INF),
        ),
        Activation(
            "elu",
            "(z if z > 0 else expm1(min(z, 0)))",
            "(1 if z > 0 else a + 1)",
            textbook="({z} if {z} > 0 else exp({z}) - 1)",
            init="he_uniform",
            nonsmooth_at_zero=True,
            output_range=(-1.0, INF),
        ),
        Activation(
            "gelu",
            "z * Phi(z)",
            "(Phi(z) + z * phi(z))",
            init="he_uniform",
            has_higher_derivatives=True,
            monotone=False,
            output_range=(-0.17, INF),
        ),
        Activation(
            "silu",
            "z * sigmoid(z)",
            "(1 + z - a) * sigmoid(z)",
            textbook="{z} / (1 + exp(-{z}))",
            textbook_derivative="(1 + {z} - {a}) / (1 + exp(-{z}))",
            init="he_uniform",
            has_higher_derivatives=True,
            monotone=False,
            output_range=(-0.2785, INF),
        ),
        Activation(
            "mish",
            "z * tanh(softplus(z))",
            "(tanh(softplus(z)) + z * (1 - tanh(softplus(z))^2) * sigmoid(z))",
            textbook="{z} * tanh(log(1 + exp({z})))",
            init="he_uniform",
            monotone=False,
            output_range=(-0.309, INF),
        ),
        Activation(
            "selu",
            "(1.0507009873554805 * z if z > 0 else 1.7580993408473766 * expm1(min(z, 0)))",
            "(1.0507009873554805 if z > 0 else a + 1.7580993408473766)",
            textbook="({z} * 1.0507 if {z} > 0 else 1.7581 * (exp({z}) - 1))",
            init="lecun_normal",
            nonsmooth_at_zero=True,
            output_range=(-1.7581, INF),
        ),
        Activation(
            "sin",
            "sin(z)",
            "cos(z)",
            init="siren",
            has_higher_derivatives=True,
            monotone=False,
            output_range=(-1.0, 1.0),
        ),
        Activation(
            "softmax",
            "softmax(z)",
            "1",  # placeholder: the derivative of softmax is a matrix, which callers compute from the outputs
            textbook="exp({z}) / (sum of exp(z) over the neurons)",
            output_only=True,
            elementwise=False,
            monotone=False,
            probability=True,
            output_range=(0.0, 1.0),
        ),
        Activation("exp", "exp(z)", "a", output_only=True, output_range=(0.0, INF)),
    )
}
NAMES = tuple(ROWS)
HIDDEN = tuple(row.name for row in ROWS.values() if not row.output_only)
