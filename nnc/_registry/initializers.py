"""Initial weights: a row for each name."""

from __future__ import annotations

from nnc._utils.value import Value


class Initializer(Value):
    """How a weight is drawn.

    Attributes
    ----------
    name : str
    distribution : str
        "zeros"; "unit", uniform from 0 to 1; "symmetric", uniform from -sqrt(6 / fan) to sqrt(6 / fan); "normal", with
        the variance 2 / fan.
    fans : str
        What `fan` is: "in" the inputs of a neuron, "both" these and the neurons of the layer, "twice" twice the inputs,
        or "".
    draws_biases : bool
        Whether biases are drawn as well; else they start at 0.
    """

    name: str
    distribution: str
    fans: str = ""
    draws_biases: bool = False

    def fan(self, fan_in: int, fan_out: int) -> int:
        """What a variance is divided by."""
        return {"both": fan_in + fan_out, "twice": 2 * fan_in}.get(self.fans, fan_in)


_ROWS = (
    Initializer("uniform", "unit", draws_biases=True),  # the tutorial's
    Initializer("glorot_uniform", "symmetric", "both"),  # Glorot and Bengio (2010)
    Initializer("glorot_normal", "normal", "both"),
    Initializer("he_uniform", "symmetric", "in"),  # He, Zhang, Ren and Sun (2015)
    Initializer("he_normal", "normal", "in"),
    Initializer("lecun_uniform", "symmetric", "twice"),  # LeCun, Bottou, Orr and Mueller (1998)
    Initializer("lecun_normal", "normal", "twice"),
    Initializer("zeros", "zeros"),
)
INITIALIZERS = {row.name: row for row in _ROWS}
NAMES = tuple(INITIALIZERS)
