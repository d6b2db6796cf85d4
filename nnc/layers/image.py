"""Layers of images: rows of shape (height, width, channels), channels last."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._registry.activations import NAMES as ACTIVATIONS
from nnc._registry.initializers import NAMES as INITIALIZERS
from nnc._utils import fields
from nnc._utils.checks import allow_none, check_bool, check_choice, check_pair, check_positive, check_size
from nnc._utils.value import field
from nnc.layers.base import Layer, ParameterArray, ParametricLayer, format_shape

if TYPE_CHECKING:
    from typing import Self

    from nnc.layers.base import Shape
    from nnc.layers.operations import Operation

PADDINGS = ("valid", "same")


def check_image_shape(input_shape: Shape) -> Shape:
    """The shape of an image, checked to be one."""
    if len(input_shape) != 3:
        raise ValueError(f"takes images (height, width, channels), got rows of shape {input_shape}")
    return input_shape


def window_output_size(size: tuple[int, int], stride: tuple[int, int], input_shape: Shape) -> tuple[int, int]:
    """Height and width of what a window gives that stays within the image."""
    height, width = ((n - k) // s + 1 if n >= k else 0 for n, k, s in zip(input_shape, size, stride, strict=False))
    if not (height and width):
        what = " x ".join(map(str, size))
        raise ValueError(f"has a window of {what}, which does not fit into images of shape {input_shape}")
    return height, width


def engine_stride(size: tuple[int, int], stride: tuple[int, int], input_shape: Shape) -> list[int]:
    """Return the stride without what lies beyond a single window, because buffers of the engine grow with it."""
    return [min(s, k + n) for s, k, n in zip(stride, size, input_shape, strict=False)]


def stride_text(stride: tuple[int, int], usual: tuple[int, int]) -> str:
    """What there is to say of a stride."""
    return "" if stride == usual else f", stride {format_shape(stride if len(set(stride)) > 1 else stride[:1])}"


class Conv2D(ParametricLayer):
    """A convolutional layer: each filter looks at all windows of the image with the same weights.

    Its output at row y, column x is f(b + the sum over ky, kx, c of image[y * stride + ky, x * stride + kx, c] *
    kernel[ky, kx, c]): the cross-correlation that all frameworks call a convolution.

    Parameters
    ----------
    filters : int
        Channels of the output.
    size : int or (int, int)
        Height and width of the window.
    activation : str, optional
        As `NeuralNetwork` names them. Default: the network's `activation`.
    stride : int or (int, int), default 1
        Pixels from window to window, downwards and to the right.
    padding : {"valid", "same"}
        "valid": windows stay within the image, (height - size) // stride + 1 of them below each other. "same":
        ceil(height / stride), with zeros around the image; of an odd number of rows or columns of zeros the larger half
        comes last.
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

    Notes
    -----
    W is a matrix (size * size * channels, filters), its rows in the order ky, kx, channel; a layer of a network offers
    it as `kernel` (size, size, channels, filters), too.
    """

    type: ClassVar[str] = "conv2d"
    matrix_axes: ClassVar[tuple[str, str]] = ("size x channels", "filters")

    filters: int = field(check=check_size)
    size: Any = field(check=check_pair)  # (int, int); any, for one number is taken, too
    activation: str | None = field(default=None, check=allow_none(partial(check_choice, choices=ACTIVATIONS)))
    stride: Any = field(default=(1, 1), check=check_pair)
    padding: str = field(default="valid", check=partial(check_choice, choices=PADDINGS))
    bias: bool | None = field(default=None, check=allow_none(check_bool))
    init: str | None = field(default=None, check=allow_none(partial(check_choice, choices=INITIALIZERS)))
    trainable: bool = field(default=True, check=check_bool)
    lr_factor: float = field(default=1.0, check=check_positive)
    bias_lr_factor: float = field(default=1.0, check=check_positive)

    def output_shape(self, input_shape: Shape) -> Shape:
        if self.padding == "same":
            height, width = (-(-n // s) for n, s in zip(check_image_shape(input_shape), self.stride, strict=False))
        else:
            height, width = window_output_size(self.size, self.stride, check_image_shape(input_shape))
        return height, width, self.filters

    def pad(self, input_shape: Shape) -> tuple[int, int]:
        """Rows of zeros above the image, and columns to the left of it."""
        wanted = (
            (out - 1) * s + k - n
            for out, s, k, n in zip(self.output_shape(input_shape), self.stride, self.size, input_shape, strict=False)
        )
        top, left = (max(0, n) // 2 for n in wanted) if self.padding == "same" else (0, 0)
        return top, left

    def parameter_arrays(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        fan_in, fan_out = prod(self.size) * input_shape[2], prod(self.size) * self.filters
        W = ParameterArray("W", (fan_in, self.filters), fan_in, fan_out)
        return (W, ParameterArray("b", (self.filters,), fan_in, fan_out)) if self.bias else (W,)

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        return {
            "kind": self.type,
            "input_shape": input_shape,
            "output_shape": self.output_shape(input_shape),
            "activation": self.activation,
            "bias": self.bias,
            "window": self.size,
            "stride": engine_stride(self.size, self.stride, input_shape),
            "pad": self.pad(input_shape),
        }

    def multiply_adds(self, input_shape: Shape) -> int:
        of_window: int = prod(self.size) * input_shape[2]
        return prod(self.output_shape(input_shape)) * of_window

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        return {
            "type": self.type,
            "filters": self.filters,
            "size": list(self.size),
            "stride": list(self.stride),
            "padding": self.padding,
            "activation": self.activation,
        }

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        fields.check_keys(layer, ("type", "filters", "size", "stride", "padding", "activation", "W", "b"), where)
        where += "."
        return {
            "type": cls.type,
            "filters": fields.size(layer["filters"], where + "filters"),
            "size": fields.sizes(layer, "size", 2, where),
            "stride": fields.sizes(layer, "stride", 2, where),
            "padding": fields.choice(layer, "padding", PADDINGS, where),
            "activation": fields.choice(layer, "activation", ACTIVATIONS, where),
            **cls.check_array_members(layer, where[:-1]),
        }

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        filters, size, activation = layer["filters"], layer["size"], layer["activation"]
        return cls(filters, size, activation, layer["stride"], layer["padding"], layer["b"] is not None)

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        from nnc.layers import operations

        out, (top, left) = self.output_shape(input_shape), self.pad(input_shape)
        # The windows end where the image and its zeros do, or before.
        ends = [(n - 1) * s + k for n, s, k in zip(out, self.stride, self.size, strict=False)]
        bottom, right = (max(0, end - n - pad) for end, n, pad in zip(ends, input_shape, (top, left), strict=False))
        pad = (top, left, bottom, right)
        made = operations.Conv(input_shape, out, layer["W"], layer["b"], self.size, self.stride, pad)
        return operations.with_activation(made, layer["activation"])

    @property
    def summary_note(self) -> str:
        same = ", same" if self.padding == "same" else ""
        return f"{self.activation} of {format_shape(self.size)}{stride_text(self.stride, (1, 1))}{same}"


class Pool(Layer):
    """What pools have in common: a number for each window of each channel."""

    takes: ClassVar[str]  # which

    size: Any = field(check=check_pair)  # (int, int); any, for one number is taken, too
    stride: Any = field(default=None, check=allow_none(check_pair))

    def __post_init__(self) -> None:
        self.__dict__["stride"] = self.stride or self.size

    def output_shape(self, input_shape: Shape) -> Shape:
        return *window_output_size(self.size, self.stride, check_image_shape(input_shape)), input_shape[2]

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        return {
            "kind": self.type,
            "input_shape": input_shape,
            "output_shape": self.output_shape(input_shape),
            "window": self.size,
            "stride": engine_stride(self.size, self.stride, input_shape),
        }

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        return {"type": self.type, "size": list(self.size), "stride": list(self.stride)}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        fields.check_keys(layer, ("type", "size", "stride"), where)
        size, stride = (fields.sizes(layer, key, 2, where + ".") for key in ("size", "stride"))
        return {"type": cls.type, "size": size, "stride": stride}

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        return cls(layer["size"], layer["stride"])

    @property
    def summary_note(self) -> str:
        return f"{self.takes} of {format_shape(self.size)}{stride_text(self.stride, self.size)}"


class MaxPool2D(Pool):
    """The largest number of each window, channel by channel.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Pixels from window to window. Default: the size. Windows stay within the image; rows and columns that are left
        over are passed over.

    Notes
    -----
    The gradient goes to the first of the largest.
    """

    type: ClassVar[str] = "max_pool2d"
    takes: ClassVar[str] = "largest"

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        from nnc.layers import operations

        return [operations.MaxPool(input_shape, self.output_shape(input_shape), self.size, self.stride)]


class AvgPool2D(Pool):
    """The mean of each window, channel by channel.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Pixels from window to window. Default: the size. Windows stay within the image; rows and columns that are left
        over are passed over.
    """

    type: ClassVar[str] = "avg_pool2d"
    takes: ClassVar[str] = "mean"

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        from nnc.layers import operations

        return [operations.AvgPool(input_shape, self.output_shape(input_shape), self.size, self.stride)]


class GlobalAvgPool2D(Layer):
    """The mean of each channel over the whole image."""

    type: ClassVar[str] = "global_avg_pool2d"

    def output_shape(self, input_shape: Shape) -> Shape:
        return 1, 1, check_image_shape(input_shape)[2]

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        return AvgPool2D((input_shape[0], input_shape[1])).engine_description(input_shape)

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        return AvgPool2D((input_shape[0], input_shape[1])).operations(input_shape, layer)

    @property
    def summary_note(self) -> str:
        return "mean of all"


class Flatten(Layer):
    """Images become vectors: height, width, channel, the last one fastest. It may be left out before a Dense."""

    type: ClassVar[str] = "flatten"

    def output_shape(self, input_shape: Shape) -> Shape:
        return (prod(input_shape),)

    def engine_description(self, input_shape: Shape) -> dict[str, Any] | None:
        return (
            {"kind": self.type, "input_shape": input_shape, "output_shape": self.output_shape(input_shape)}
            if len(input_shape) == 3
            else None
        )

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        from nnc.layers import operations

        return [operations.Flatten(input_shape, self.output_shape(input_shape))] if len(input_shape) == 3 else []
