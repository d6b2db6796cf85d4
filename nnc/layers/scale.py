"""A learnable scale of the columns of a row."""

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
    """A learnable scale: each number of a row times one of its own, y_k = s_k x_k. Behind the input it learns how much
    each column matters, which on tables is worth a few percent of the error (the scaling layer of RealMLP: Holzmueller,
    Grinsztajn and Steinwart, 2024; there with a rate of 6 times the others').

    It stands where rows are plain numbers, behind the input or between dense layers: `[Input(8), Scale(lr_factor=6),
    128, 128, 1]`.

    Parameters
    ----------
    init : float, default 1
        What every s_k is at first, in a new network.
    trainable : bool, default True
        Whether training changes it. It can be changed between two trainings, as the next one:
        `net.layers[0].trainable = False`.
    lr_factor : float, default 1
        What every learning rate is multiplied by here.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.

    Notes
    -----
    s is the layer's W (1, n), with no bias and no activation: the layer is one of those that compute, in `net.weights`,
    `net.sizes` and so on. Penalties, weight decay and `max_norm` pass it over, as penalties do biases (with
    `regularize_bias` they do not); its gradient counts in `clip_norm`. A number that is the `dropout` of all hidden
    layers drops nothing here: a Dropout behind it does.
    """

    type: ClassVar[str] = "scale"
    matrix_axes: ClassVar[tuple[str, str]] = ("s", "n")
    columnwise: ClassVar[bool] = True

    init: float = field(default=1.0, check=check_finite)
    trainable: bool = field(default=True, check=check_bool)
    lr_factor: float = field(default=1.0, check=check_positive)

    @property
    def activation(self) -> str:
        return "identity"

    @property
    def bias(self) -> bool:
        return False

    @property
    def bias_lr_factor(self) -> float:
        return 1.0

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ValueError(
                f"takes rows of plain numbers, got {input_shape}: put a Flatten before it, or take a BatchNorm"
            )
        return input_shape

    def parameter_arrays(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        return (ParameterArray("W", (1, *input_shape), 1, 1),)

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        return {"kind": self.type, "input_shape": input_shape, "output_shape": input_shape}

    def multiply_adds(self, input_shape: Shape) -> int:
        return input_shape[0]

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        fields.check_keys(layer, ("type", "W", "b"), where)
        if layer["b"] is not None:
            raise ValueError(f"{where}.b is {fields.describe(layer['b'])}, expected null: a scale has no biases")
        return {"type": cls.type, **cls.check_array_members(layer, where)}

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        from nnc.layers import operations

        nothing = [0.0] * input_shape[0]
        return [operations.Scale(input_shape, input_shape, nothing, list(layer["W"][0]), nothing)]

    @property
    def summary_note(self) -> str:
        return "scale"
