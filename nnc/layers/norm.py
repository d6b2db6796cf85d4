"""Batch normalization, for dense and convolutional layers."""

from __future__ import annotations

from functools import partial
from math import prod, sqrt
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._registry import activations
from nnc._utils import fields
from nnc._utils.checks import build_check, check_bool, check_choice, check_positive
from nnc._utils.value import field
from nnc.layers.base import ParameterArray, ParametricLayer

if TYPE_CHECKING:
    from typing import Self

    from nnc.layers.base import Shape
    from nnc.layers.operations import Operation

STATISTICS = ("running_mean", "running_var")


class BatchNorm(ParametricLayer):
    """Batch normalization (Ioffe and Szegedy, 2015): A = f(Z), Z = gamma (X - mean) / sqrt(variance + eps) + beta, for
    each neuron of a dense layer, and for each channel of images.

    It stands between a layer and the activation that the other one leaves to it: `Conv2D(16, 3, "identity",
    bias=False), BatchNorm("relu")`, where beta takes the place of the bias.

    Parameters
    ----------
    activation : str, default "identity"
        f, as `NeuralNetwork` names them, whatever the network's own `activation` is.
    momentum : float, default 0.1
        From 0 to 1: running = (1 - momentum) running + momentum (that of the batch), after each step. Keras calls 1
        minus this number momentum.
    eps : float, default 1e-5
        Above 0.
    trainable : bool, default True
        Whether training changes it. A frozen one stays as it is: it takes the running statistics, and does not move
        them. It can be changed between two trainings, as the next two: `net.layers[1].trainable = False`.
    lr_factor, bias_lr_factor : float, default 1
        What every learning rate is multiplied by here, and those of beta once more.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.

    Notes
    -----
    A training step, and `gradients`, take mean and variance of the rows of the batch, those of images over all pixels:
    each row counts once, whatever its sample weight. Everything else, such as `predict`, `evaluate_loss` and a
    validation, uses the running statistics. They begin with 0 and 1 and are updated with the unbiased variance,
    n / (n - 1) times that of the batch.

    gamma, at first 1, is the layer's W (1, channels), and beta, at first 0, its b: the layer is one of those that
    compute, in `net.weights`, `net.sizes` and so on. Penalties and weight decay pass both over, as they do biases.
    """

    type: ClassVar[str] = "batch_norm"
    matrix_axes: ClassVar[tuple[str, str]] = ("gamma", "channels")
    normalizes: ClassVar[bool] = True
    columnwise: ClassVar[bool] = True

    activation: str = field(default="identity", check=partial(check_choice, choices=activations.HIDDEN))
    momentum: float = field(default=0.1, check=build_check(lambda x: 0 <= x <= 1, "from 0 to 1"))
    eps: float = field(default=1e-5, check=check_positive)
    trainable: bool = field(default=True, check=check_bool)
    lr_factor: float = field(default=1.0, check=check_positive)
    bias_lr_factor: float = field(default=1.0, check=check_positive)

    @property
    def bias(self) -> bool:
        return True

    @property
    def init(self) -> float:
        return 1.0

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def parameter_arrays(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        n = input_shape[-1]
        return ParameterArray("W", (1, n), 1, 1), ParameterArray("b", (n,), 1, 1)

    def statistics(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        return tuple(ParameterArray(name, input_shape[-1:], 1, 1) for name in STATISTICS)

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        return {
            "kind": self.type,
            "input_shape": input_shape,
            "output_shape": input_shape,
            "activation": self.activation,
            "momentum": self.momentum,
            "eps": self.eps,
        }

    def multiply_adds(self, input_shape: Shape) -> int:
        return prod(input_shape)

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        return {"type": self.type, "activation": self.activation, "momentum": self.momentum, "eps": self.eps}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
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
        return cls(layer["activation"], layer["momentum"], layer["eps"])

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        from nnc.layers import operations

        times = [g / sqrt(v + self.eps) for g, v in zip(layer["W"][0], layer["running_var"], strict=True)]
        made = operations.Scale(input_shape, input_shape, layer["running_mean"], times, layer["b"])
        return operations.with_activation(made, self.activation)

    @property
    def summary_note(self) -> str:
        return "batch norm" if self.activation == "identity" else f"{self.activation} of batch norm"
