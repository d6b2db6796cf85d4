"""Dense layer: A = f(A_in @ W + b), for vectors or for each step of sequences."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._registry.activations import NAMES as ACTIVATIONS
from nnc._registry.initializers import NAMES as INITIALIZERS
from nnc._utils.checks import allow_none, check_bool, check_choice, check_positive, check_size
from nnc._utils.value import field
from nnc.layers.base import ParameterArray, ParametricLayer

if TYPE_CHECKING:
    from typing import Self

    from nnc._registry.choices import ActivationName, InitializerName
    from nnc.layers.base import Shape
    from nnc.layers.operations import Operation


class Dense(ParametricLayer):
    """Dense layer, in which each neuron is connected to all outputs of the previous layer.

    If its inputs are sequences (steps, features), the layer is applied to each step, and its outputs are sequences
    (steps, n).

    Parameters
    ----------
    n : int
        Number of neurons.
    activation : str, optional
        Name of an activation of `NeuralNetwork`. Default: `activation` of the network, or `output` for the last layer.
    bias : bool, optional
        Whether the layer has biases. Default: `bias` of the network.
    init : str, optional
        Name of a weight initialization of `NeuralNetwork`. Default: `init` of the network.
    trainable : bool, default True
        Whether training changes the parameters. Assignments change this option and the next two options between fits:
        `net.layers[0].trainable = False`.
    lr_factor : float, default 1
        Factor of the learning rate for the parameters of this layer.
    bias_lr_factor : float, default 1
        Additional factor of the learning rate for the biases.

    Raises
    ------
    ValueError, TypeError
        An argument is not valid.
    """

    type: ClassVar[str] = "dense"
    matrix_axes: ClassVar[tuple[str, str]] = ("n_in", "n_out")
    has_higher_derivatives: ClassVar[bool] = True
    processes_steps: ClassVar[bool] = True
    stream_obstacle: ClassVar[None] = None

    n: int = field(check=check_size)
    activation: ActivationName | None = field(
        default=None, check=allow_none(partial(check_choice, choices=ACTIVATIONS))
    )
    bias: bool | None = field(default=None, check=allow_none(check_bool))
    init: InitializerName | None = field(default=None, check=allow_none(partial(check_choice, choices=INITIALIZERS)))
    trainable: bool = field(default=True, check=check_bool)
    lr_factor: float = field(default=1.0, check=check_positive)
    bias_lr_factor: float = field(default=1.0, check=check_positive)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        if len(input_shape) > 2:
            raise ValueError(f"the inputs must be vectors, got rows of shape {input_shape}; add Flatten() before Dense")
        return (*input_shape[:-1], self.n)

    def parameter_arrays(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        """Return the names and shapes of the parameter arrays of the layer."""
        n_in, n = input_shape[-1], self.n
        W = ParameterArray("W", (n_in, n), n_in, n)
        return (W, ParameterArray("b", (n,), n_in, n)) if self.bias else (W,)

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        """Return the arguments from which the engine creates the layer."""
        description = {
            "kind": self.type,
            "input_shape": input_shape,
            "output_shape": self.output_shape(input_shape),
            "activation": self.activation,
            "bias": self.bias,
        }
        if len(input_shape) == 2:
            description.update(kind="recurrent", cell=self.type, sequences=True)
        return description

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the number of multiplications in the forward pass of one row."""
        return prod(input_shape) * self.n

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        """Return the description of the layer for a model file, without its arrays."""
        return {"type": self.type, "n_in": input_shape[-1], "n_out": self.n, "activation": self.activation}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """Validate the description of a layer of this type in a model file, and return it."""
        from nnc._utils import fields

        fields.check_keys(layer, ("type", "n_in", "n_out", "activation", "W", "b"), where)
        n_in, n_out = (fields.member(layer, key, int, where=where + ".") for key in ("n_in", "n_out"))
        activation = fields.choice(layer, "activation", ACTIVATIONS, where + ".")
        if n_in < 1 or n_out < 1:
            raise ValueError(f"{where}.n_in is {n_in} and n_out is {n_out}, expected at least 1")
        description = {"type": cls.type, "n_in": n_in, "n_out": n_out, "activation": activation}
        return {**description, **cls.check_array_members(layer, where)}

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        """Create the layer from its validated description in a model file."""
        return cls(layer["n_out"], layer["activation"], bias=layer["b"] is not None)

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        from nnc.layers import operations

        operation = operations.StepMatMul if len(input_shape) == 2 else operations.MatMul
        product = operation(input_shape, self.output_shape(input_shape), layer["W"], layer["b"])
        return operations.with_activation(product, layer["activation"])
