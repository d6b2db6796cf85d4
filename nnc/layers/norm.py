"""Batch normalization, for dense and convolutional layers."""

from __future__ import annotations

from functools import partial
from math import prod, sqrt
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._registry import activations
from nnc._utils import fields
from nnc._utils.checks import build_check, check_bool, check_choice, check_positive
from nnc._utils.value import field
from nnc.layers.base import ParameterArray, ParametricLayer, as_image_shape

if TYPE_CHECKING:
    from typing import Self

    from nnc._registry.choices import HiddenActivationName
    from nnc.layers.base import Shape
    from nnc.layers.operations import Operation

STATISTICS = ("running_mean", "running_var")


class BatchNorm(ParametricLayer):
    """Batch normalization (Ioffe and Szegedy, 2015) with an activation.

    A = f(gamma (X - mean) / sqrt(variance + eps) + beta), for each neuron of a dense layer or each channel of images.

    It follows a layer with the activation "identity" and without biases, because beta replaces them:
    `Conv2D(16, 3, "identity", bias=False), BatchNorm("relu")`.

    Parameters
    ----------
    activation : str, default "identity"
        Name of an activation of `NeuralNetwork` for hidden layers. `activation` of the network is not used.
    momentum : float, default 0.1
        Number from 0 to 1. After each step, running = (1 - momentum) running + momentum (statistic of the batch). Keras
        calls 1 minus this number momentum.
    eps : float, default 1e-5
        Positive number that is added to the variance.
    trainable : bool, default True
        Whether training changes the parameters. A frozen layer normalizes with the running statistics and does not
        update them. Assignments change this option and the next two options between fits:
        `net.layers[1].trainable = False`.
    lr_factor : float, default 1
        Factor of the learning rate for gamma and beta.
    bias_lr_factor : float, default 1
        Additional factor of the learning rate for beta.

    Raises
    ------
    ValueError, TypeError
        An argument is not valid.

    Notes
    -----
    Training steps and `gradients` use the mean and variance of the rows of the batch, for images over all pixels;
    sample weights do not affect them. All other methods, such as `predict` and `evaluate_loss`, and the validation use
    the running statistics. They start with mean 0 and variance 1, and are updated with the unbiased variance, which is
    n / (n - 1) times the variance of the batch.

    gamma is the W (1, channels) of the layer and starts at 1; beta is its b and starts at 0. The layer therefore occurs
    in `net.weights`, `net.sizes` and similar lists. Penalties and weight decay do not apply to gamma and beta.
    """

    type: ClassVar[str] = "batch_norm"
    matrix_axes: ClassVar[tuple[str, str]] = ("gamma", "channels")
    normalizes: ClassVar[bool] = True
    columnwise: ClassVar[bool] = True
    stream_obstacle: ClassVar[None] = None
    bias: ClassVar[bool] = True
    init: ClassVar[float] = 1.0  # initial value of gamma

    activation: HiddenActivationName = field(
        default="identity", check=partial(check_choice, choices=activations.HIDDEN)
    )
    momentum: float = field(default=0.1, check=build_check(lambda x: 0 <= x <= 1, "from 0 to 1"))
    eps: float = field(default=1e-5, check=check_positive)
    trainable: bool = field(default=True, check=check_bool)
    lr_factor: float = field(default=1.0, check=check_positive)
    bias_lr_factor: float = field(default=1.0, check=check_positive)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        return input_shape

    def parameter_arrays(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        """Return the names and shapes of the parameter arrays of the layer."""
        n = input_shape[-1]
        return ParameterArray("W", (1, n), 1, 1), ParameterArray("b", (n,), 1, 1)

    def statistics(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        """Return the names and shapes of the running statistics of the layer."""
        return tuple(ParameterArray(name, input_shape[-1:], 1, 1) for name in STATISTICS)

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        """Return the arguments from which the engine creates the layer."""
        return {
            "kind": self.type,
            "input_shape": as_image_shape(input_shape),
            "output_shape": as_image_shape(input_shape),
            "activation": self.activation,
            "momentum": self.momentum,
            "eps": self.eps,
        }

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the number of multiplications in the forward pass of one row."""
        return prod(input_shape)

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        """Return the description of the layer for a model file, without its arrays."""
        return {"type": self.type, "activation": self.activation, "momentum": self.momentum, "eps": self.eps}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """Validate the description of a layer of this type in a model file, and return it."""
        fields.check_keys(layer, ("type", "activation", "momentum", "eps", "W", "b", *STATISTICS), where)
        where += "."
        momentum, eps = (fields.number(layer[key], where + key) for key in ("momentum", "eps"))
        if not 0 <= momentum <= 1:
            raise ValueError(f"{where}momentum is {fields.describe(layer['momentum'])}, expected a number from 0 to 1")
        if not eps > 0:
            raise ValueError(f"{where}eps is {fields.describe(layer['eps'])}, expected a number above 0")
        return {
            "type": cls.type,
            "activation": fields.choice(layer, "activation", activations.HIDDEN, where),
            "momentum": momentum,
            "eps": eps,
            **{key: fields.array_member(layer, key, list, where=where) for key in ("W", "b", *STATISTICS)},
        }

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        """Create the layer from its validated description in a model file."""
        return cls(layer["activation"], layer["momentum"], layer["eps"])

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        from nnc.layers import operations

        times = [g / sqrt(v + self.eps) for g, v in zip(layer["W"][0], layer["running_var"], strict=True)]
        scale = operations.Scale(input_shape, input_shape, layer["running_mean"], times, layer["b"])
        return operations.with_activation(scale, self.activation)

    @property
    def summary_note(self) -> str:
        """Return the options of the layer as text, for the last column of `summary`."""
        return "batch norm" if self.activation == "identity" else f"{self.activation} of batch norm"
