"""Table of weight initializations with one row per initialization."""

from __future__ import annotations

from nnc._utils.value import Value


class Initializer(Value):
    """Distribution of initial weights.

    Attributes
    ----------
    name : str
    distribution : {"zeros", "unit", "symmetric", "normal", "siren"}
        "zeros": all weights are 0. "unit": uniform from 0 to 1. "symmetric": uniform from -sqrt(6 / fan) to
        sqrt(6 / fan). "normal": normal with mean 0 and variance 2 / fan. "siren": as "symmetric", but from -30 / fan to
        30 / fan in the first layer of the network.
    fans : {"in", "both", "twice", ""}
        Definition of fan by the numbers of inputs (fan-in) and outputs (fan-out) of the layer. "in": fan-in. "both":
        fan-in + fan-out. "twice": 2 fan-in. "": the distribution does not use it.
    draws_biases : bool
        Whether biases are drawn, uniformly from 0 to 1, for "siren" from -pi to pi; otherwise they are 0.
    """

    name: str
    distribution: str
    fans: str = ""
    draws_biases: bool = False

    def fan(self, fan_in: int, fan_out: int) -> int:
        """Return `fan`, a divisor in the variance of the weights, for the fan-in and fan-out of a layer."""
        return {"both": fan_in + fan_out, "twice": 2 * fan_in}.get(self.fans, fan_in)


_ROWS = (
    Initializer("uniform", "unit", draws_biases=True),  # weight initialization of docs/notebooks/tutorial.md
    Initializer("glorot_uniform", "symmetric", "both"),  # source: Glorot and Bengio (2010)
    Initializer("glorot_normal", "normal", "both"),
    Initializer("he_uniform", "symmetric", "in"),  # source: He, Zhang, Ren and Sun (2015)
    Initializer("he_normal", "normal", "in"),
    Initializer("lecun_uniform", "symmetric", "twice"),  # source: LeCun, Bottou, Orr and Mueller (1998)
    Initializer("lecun_normal", "normal", "twice"),
    Initializer("zeros", "zeros"),
    # Sitzmann, Martel, Bergman, Lindell and Wetzstein (2020). The factor 30 of their net inputs is part of the weights.
    Initializer("siren", "siren", "in", draws_biases=True),
)
INITIALIZERS = {row.name: row for row in _ROWS}
NAMES = tuple(INITIALIZERS)
