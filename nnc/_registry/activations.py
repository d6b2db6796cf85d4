"""Activations a = f(z), one row each.

The kernel of an elementwise activation NAME is the pair f_NAME and d_NAME of src/activations.pxd.
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
    """An activation: its formula (see formulas.py), and what else is to be known of it.

    Attributes
    ----------
    name : str
    f, slope : str
        The output by the net input z, and da/dz by z and a.
    textbook, shown_slope : str
        The same as a textbook has them, where that is another form.
    init : str
        Of the weights before it. The default, Glorot and Bengio's (2010), is for what is linear around 0; He et al.'s
        (2015) for what rectifies, whose units pass on half of the variance; LeCun et al.'s (1998) for selu, whose
        constants were found for it.
    output_only : bool
        It is for the output layer alone.
    elementwise : bool
        An output depends on its own net input alone.
    probability : bool
        Outputs are probabilities: a single one says yes from 0.5 on.
    nonsmooth_at_zero : bool
        Its slope jumps at z = 0, or the slope's slope does.
    saturation_range : two floats, optional
        Outputs at them or beyond have a slope of zero, or nearly: they are within 1 % of the range to its ends.
    dead_when_saturated : bool
        The slope is zero there.
    monotone : bool
        It never falls, so the largest output is that of the largest net input.
    output_range : two floats
        Between which outputs lie; rounded to a digit that matters for no target.
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
    saturation_range: tuple[float, float] | None = None
    dead_when_saturated: bool = False
    monotone: bool = True
    output_range: tuple[float, float] = (-INF, INF)

    @property
    def f_template(self) -> str:
        """f with a place {z} for the net input."""
        return self.textbook or formulas.to_template(self.f)

    @property
    def derivative_template(self) -> str:
        """The slope with places {z} and {a}."""
        return self.textbook_derivative or formulas.to_template(self.derivative)

    @property
    def compute(self) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """f as a function of arrays of z."""
        return formulas.compile_formula(self.f, "z")

    @property
    def compute_derivative(self) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]:
        """The slope as a function of arrays of z and a."""
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
            saturation_range=(0.01, 0.99),
            output_range=(0.0, 1.0),
        ),
        Activation("tanh", "tanh(z)", "1 - a^2", saturation_range=(-0.98, 0.98), output_range=(-1.0, 1.0)),
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
        Activation("identity", "z", "1"),
        Activation(
            "softplus",
            "softplus(z)",
            "sigmoid(z)",
            textbook="log(1 + exp({z}))",
            textbook_derivative="1 / (1 + exp(-{z}))",
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
            "gelu", "z * Phi(z)", "(Phi(z) + z * phi(z))", init="he_uniform", monotone=False, output_range=(-0.17, INF)
        ),
        Activation(
            "silu",
            "z * sigmoid(z)",
            "(1 + z - a) * sigmoid(z)",
            textbook="{z} / (1 + exp(-{z}))",
            textbook_derivative="(1 + {z} - {a}) / (1 + exp(-{z}))",
            init="he_uniform",
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
            "softmax",
            "softmax(z)",
            "1",  # times what the other outputs add
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
