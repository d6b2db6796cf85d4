"""The dense layer: A = f(b + A_below @ W)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._registry.activations import NAMES as ACTIVATIONS
from nnc._registry.initializers import NAMES as INITIALIZERS
from nnc._utils.checks import allow_none, check_bool, check_choice, check_positive, check_size
from nnc._utils.value import field
from nnc.layers.base import ParameterArray, ParametricLayer

if TYPE_CHECKING:
    from typing import Self

    from nnc.layers.base import Shape
    from nnc.layers.operations import Operation


class Dense(ParametricLayer):
    """A dense layer: each neuron sees all outputs of the layer below.

    Parameters
    ----------
    n : int
        Neurons.
    activation : str, optional
        As `NeuralNetwork` names them. Default: the network's `activation`, for the last layer its `output`.
    bias : bool, optional
        Default: the network's.
    init : str, optional
        How the weights are drawn, as `NeuralNetwork` names it. Default: the network's.
    trainable : bool, default True
        Whether training changes it: the weights of a frozen layer stay as they are. A network lets it be changed
        between two trainings: `net.layers[0].trainable = False`; so the next two.
    lr_factor : float, default 1
        What every learning rate is multiplied by here.
    bias_lr_factor : float, default 1
        What those of the biases are multiplied by once more.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.
    """

    type: ClassVar[str] = "dense"
    matrix_axes: ClassVar[tuple[str, str]] = ("n_in", "n_out")

    n: int = field(check=check_size)
    activation: str | None = field(default=None, check=allow_none(partial(check_choice, choices=ACTIVATIONS)))
    bias: bool | None = field(default=None, check=allow_none(check_bool))
    init: str | None = field(default=None, check=allow_none(partial(check_choice, choices=INITIALIZERS)))
    trainable: bool = field(default=True, check=check_bool)
    lr_factor: float = field(default=1.0, check=check_positive)
    bias_lr_factor: float = field(default=1.0, check=check_positive)

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ValueError(f"takes vectors, got rows of shape {input_shape}")
        return (self.n,)

    def parameter_arrays(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        n_in, n = input_shape[0], self.n
        W = ParameterArray("W", (n_in, n), n_in, n)
        return (W, ParameterArray("b", (n,), n_in, n)) if self.bias else (W,)

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        return {
            "kind": self.type,
            "input_shape": input_shape,
            "output_shape": (self.n,),
            "activation": self.activation,
            "bias": self.bias,
        }

    def multiply_adds(self, input_shape: Shape) -> int:
        return input_shape[0] * self.n

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        return {"type": self.type, "n_in": input_shape[0], "n_out": self.n, "activation": self.activation}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        from nnc._utils import fields

        fields.check_keys(layer, ("type", "n_in", "n_out", "activation", "W", "b"), where)
        n_in, n_out = (fields.member(layer, key, int, where=where + ".") for key in ("n_in", "n_out"))
        activation = fields.choice(layer, "activation", ACTIVATIONS, where + ".")
        if n_in < 1 or n_out < 1:
            raise ValueError(f"{where}.n_in is {n_in} and n_out is {n_out}, expected at least 1")
        made = {"type": cls.type, "n_in": n_in, "n_out": n_out, "activation": activation}
        return {**made, **cls.check_array_members(layer, where)}

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        return cls(layer["n_out"], layer["activation"], bias=layer["b"] is not None)

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        from nnc.layers import operations

        made = operations.MatMul(input_shape, (self.n,), layer["W"], layer["b"])
        return operations.with_activation(made, layer["activation"])
