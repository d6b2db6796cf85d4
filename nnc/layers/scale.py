"""Layer that multiplies each column by a trainable factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from nnc._utils import fields
from nnc._utils.checks import check_bool, check_finite, check_positive
from nnc._utils.value import field
from nnc.layers.base import ParameterArray, ParametricLayer

if TYPE_CHECKING:
    from nnc.layers.base import Shape
    from nnc.layers.operations import Operation


class Scale(ParametricLayer):
    """Layer with one trainable factor for each column: y_k = s_k x_k.

    As the first layer after the input, it learns the importance of each column, which reduces the error on tables by a
    few percent. It is the scaling layer of RealMLP (Holzmueller, Grinsztajn and Steinwart, 2024), whose learning rate
    is 6 times that of the other layers.

    Its inputs are vectors, so it comes after the input or between dense layers:
    `[Input(8), Scale(lr_factor=6), 128, 128, 1]`.

    Parameters
    ----------
    init : float, default 1
        Initial value of all factors.
    trainable : bool, default True
        Whether training changes the factors. Assignments change this option and the next option between fits:
        `net.layers[0].trainable = False`.
    lr_factor : float, default 1
        Factor of the learning rate for this layer.

    Raises
    ------
    ValueError, TypeError
        An argument is not valid.

    Notes
    -----
    The factors are the W (1, n) of the layer, which has no biases and no activation. The layer therefore occurs in
    `net.weights`, `net.sizes` and similar lists. `max_norm` does not apply to it; penalties and weight decay apply only
    with `regularize_bias=True`. Its gradient contributes to the norm of `clip_norm`. The argument `dropout` of `fit`
    does not apply to its outputs; use a Dropout layer after it instead.
    """

    type: ClassVar[str] = "scale"
    matrix_axes: ClassVar[tuple[str, str]] = ("s", "n")
    columnwise: ClassVar[bool] = True
    has_higher_derivatives: ClassVar[bool] = True
    activation: ClassVar[str] = "identity"
    bias: ClassVar[bool] = False
    bias_lr_factor: ClassVar[float] = 1.0  # this option has no effect, because the layer has no biases

    init: float = field(default=1.0, check=check_finite)
    trainable: bool = field(default=True, check=check_bool)
    lr_factor: float = field(default=1.0, check=check_positive)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        if len(input_shape) != 1:
            raise ValueError(
                f"the inputs must be vectors, got rows of shape {input_shape}; add a Flatten, or use BatchNorm"
            )
        return input_shape

    def parameter_arrays(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        """Return the names and shapes of the parameter arrays of the layer."""
        return (ParameterArray("W", (1, *input_shape), 1, 1),)

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        """Return the arguments from which the engine creates the layer."""
        return {"kind": self.type, "input_shape": input_shape, "output_shape": input_shape}

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the number of multiplications in the forward pass of one row."""
        return input_shape[0]

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """Validate the description of a layer of this type in a model file, and return it."""
        fields.check_keys(layer, ("type", "W", "b"), where)
        if layer["b"] is not None:
            raise ValueError(f"{where}.b is {fields.describe(layer['b'])}, expected null: a Scale layer has no biases")
        return {"type": cls.type, **cls.check_array_members(layer, where)}

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        from nnc.layers import operations

        zeros = [0.0] * input_shape[0]
        return [operations.Scale(input_shape, input_shape, zeros, list(layer["W"][0]), zeros)]

    @property
    def summary_note(self) -> str:
        """Return the options of the layer as text, for the last column of `summary`."""
        return "scale"
