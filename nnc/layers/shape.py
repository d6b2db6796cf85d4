"""Kinds that do not compute: they say a shape, or something of the layer before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from nnc._utils.checks import allow_none, check_fraction, check_size
from nnc._utils.value import field
from nnc.layers.base import Layer

if TYPE_CHECKING:
    from typing import Self

    from nnc.layers.base import Shape
    from nnc.layers.operations import Operation


class Input(Layer):
    """What comes in: `Input(n)` are rows of n numbers, `Input(height, width, channels)` images. The first of a
    network's layers; a number there means the same as Input(n).

    Parameters
    ----------
    n : int
        Numbers in a row; of images their height.
    width : int, optional
        Of images.
    channels : int, optional
        Of images: 1 (the default), or 3 of colour, say. They come last in every array.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.
    """

    type: ClassVar[str] = "input"

    n: int = field(check=check_size)
    width: int | None = field(default=None, check=allow_none(check_size))
    channels: int | None = field(default=None, check=allow_none(check_size))

    def __post_init__(self) -> None:
        if self.width is None and self.channels is not None:
            raise ValueError("width must be given where channels are, as in Input(28, 28, 1)")
        if self.width is not None and self.channels is None:
            self.__dict__["channels"] = 1

    def output_shape(self, input_shape: Shape) -> Shape:
        return (self.n,) if self.width is None else (self.n, self.width, self.channels or 1)

    def engine_description(self, input_shape: Shape) -> dict[str, Any] | None:
        shape = self.output_shape(input_shape)
        return {"kind": self.type, "input_shape": shape, "output_shape": shape} if len(shape) == 3 else None

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        return {"type": self.type, "shape": list(self.output_shape(input_shape))}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        from nnc._utils import fields

        fields.check_keys(layer, ("type", "shape"), where)
        n = 1 if isinstance(layer["shape"], list) and len(layer["shape"]) == 1 else 3
        return {"type": cls.type, "shape": fields.sizes(layer, "shape", n, where + ".")}

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        return cls(*layer["shape"])

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        return []

    def __repr__(self) -> str:
        return f"Input({', '.join(map(str, self.output_shape(())))})"


class Dropout(Layer):
    """Each step of training drops a share of the outputs of the layer before, and scales the others up by
    1 / (1 - rate) (Srivastava et al., 2014). `predict` drops nothing.

    Parameters
    ----------
    rate : float
        At least 0 and less than 1.
    """

    type: ClassVar[str] = "dropout"

    rate: float = field(check=check_fraction)

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        return {"type": self.type, "rate": self.rate}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        from nnc._utils import fields

        fields.check_keys(layer, ("type", "rate"), where)
        rate = fields.number(layer["rate"], where + ".rate")
        if not 0 <= rate < 1:
            raise ValueError(f"{where}.rate is {fields.describe(layer['rate'])}, expected a number from 0 to below 1")
        return {"type": cls.type, "rate": rate}

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        return cls(layer["rate"])

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:  # of training alone
        return []

    @property
    def summary_note(self) -> str:
        return f"drops {self.rate:g}"
