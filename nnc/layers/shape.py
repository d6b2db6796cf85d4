"""Layers without parameters: Input, which sets the input shape, and Dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from nnc._utils.checks import allow_none, check_fraction, check_size
from nnc._utils.value import field
from nnc.layers.base import Layer, as_image_shape

if TYPE_CHECKING:
    from typing import Self

    from nnc.layers.base import Shape
    from nnc.layers.operations import Operation


class Input(Layer):
    """Shape of the inputs: rows of n numbers, images, or sequences.

    `Input(n)` is for rows of n numbers, `Input(height, width, channels)` for images, and
    `Input(steps=64, features=32)` for sequences. Input is the first layer of a network. A number n as first layer means
    Input(n).

    Parameters
    ----------
    n : int, optional
        Number of inputs, or height of the images.
    width : int, optional
        Width of the images.
    channels : int, optional
        Channels of the images, the last dimension of their arrays. Default: 1.
    steps : int or None, optional
        Length of the sequences. None, as in `Input(steps=None, features=32)`: any length; all other layers are then
        recurrent or Dense layers. With a number, shorter sequences are possible too.
    features : int, optional
        Numbers in each step of a sequence, the last dimension of the arrays. Default: 1.

    Raises
    ------
    ValueError, TypeError
        An argument is not valid.
    """

    type: ClassVar[str] = "input"

    n: int | None = field(default=None, check=allow_none(check_size))
    width: int | None = field(default=None, check=allow_none(check_size))
    channels: int | None = field(default=None, check=allow_none(check_size))
    steps: int | None = field(default=None, check=allow_none(check_size))
    features: int | None = field(default=None, check=allow_none(check_size))

    def __post_init__(self) -> None:
        if self.steps is not None:
            if self.n is not None or self.width is not None or self.channels is not None:
                raise ValueError(
                    "steps must be used without n, width and channels, as in Input(steps=64, features=32), got "
                    f"n={self.n}, width={self.width}, channels={self.channels}"
                )
            self.__dict__["features"] = self.features or 1
            return
        if self.features is not None and self.n is None and self.width is None and self.channels is None:
            return
        if self.features is not None:
            raise ValueError(
                "features must be used without n, width and channels, as in Input(steps=64, features=32), got "
                f"{self.features}"
            )
        if self.n is None:
            raise TypeError(
                "Input requires n, as in Input(3) or Input(28, 28, 1), or features, as in "
                "Input(steps=None, features=32) for sequences of any length"
            )
        if self.width is None and self.channels is not None:
            raise ValueError("width must be set if channels is set, as in Input(28, 28, 1), got None")
        if self.width is not None and self.channels is None:
            self.__dict__["channels"] = 1

    @property
    def any_steps(self) -> bool:
        """Return whether sequences may have any number of steps."""
        return self.n is None and self.steps is None

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer; for any number of steps, the shape of one step."""
        if self.n is None:
            return self.steps or 1, self.features or 1
        return (self.n,) if self.width is None else (self.n, self.width, self.channels or 1)

    def engine_description(self, input_shape: Shape) -> dict[str, Any] | None:
        """Return the arguments from which the engine creates the layer, or None for vectors."""
        shape = as_image_shape(input_shape)
        return {"kind": self.type, "input_shape": shape, "output_shape": shape} if len(shape) == 3 else None

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        """Return the description of the layer for a model file, without its arrays."""
        shape = [None, self.features] if self.any_steps else list(self.output_shape(input_shape))
        return {"type": self.type, "shape": shape}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """Validate the description of a layer of this type in a model file, and return it."""
        from nnc._utils import fields

        fields.check_keys(layer, ("type", "shape"), where)
        if isinstance(layer["shape"], list) and len(layer["shape"]) == 2 and layer["shape"][0] is None:
            return {"type": cls.type, "shape": [None, fields.size(layer["shape"][1], where + ".shape[1]")]}
        n = len(layer["shape"]) if isinstance(layer["shape"], list) and len(layer["shape"]) in (1, 2) else 3
        return {"type": cls.type, "shape": fields.sizes(layer, "shape", n, where + ".")}

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        """Create the layer from its validated description in a model file."""
        shape = layer["shape"]
        return cls(steps=shape[0], features=shape[1]) if len(shape) == 2 else cls(*shape)

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        return []

    def __repr__(self) -> str:
        if self.n is None:
            return f"Input(steps={self.steps}, features={self.features})"
        return f"Input({', '.join(map(str, self.output_shape(())))})"


class Dropout(Layer):
    """Dropout (Srivastava et al., 2014), which sets random outputs of the previous layer to 0 in each training step.

    The other outputs are multiplied by 1 / (1 - rate). `predict` does not drop outputs.

    Parameters
    ----------
    rate : float
        Fraction of the outputs to drop, at least 0 and less than 1.
    """

    type: ClassVar[str] = "dropout"
    has_higher_derivatives: ClassVar[bool] = True
    processes_steps: ClassVar[bool] = True
    stream_obstacle: ClassVar[None] = None

    rate: float = field(check=check_fraction)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        return input_shape

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        """Return the description of the layer for a model file, without its arrays."""
        return {"type": self.type, "rate": self.rate}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """Validate the description of a layer of this type in a model file, and return it."""
        from nnc._utils import fields

        fields.check_keys(layer, ("type", "rate"), where)
        return {"type": cls.type, "rate": fields.rate(layer["rate"], where + ".rate")}

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        """Create the layer from its validated description in a model file."""
        return cls(layer["rate"])

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        return []

    @property
    def summary_note(self) -> str:
        """Return the options of the layer as text, for the last column of `summary`."""
        return f"drops {self.rate:g}"
