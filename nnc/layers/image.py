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
    """Return the shape of an image; raise ValueError for other shapes."""
    if len(input_shape) != 3:
        hint = "; use Input(height, width, channels)" if len(input_shape) == 2 else ""
        raise ValueError(f"the inputs must be images (height, width, channels), got rows of shape {input_shape}{hint}")
    return input_shape


def window_output_size(size: tuple[int, int], stride: tuple[int, int], input_shape: Shape) -> tuple[int, int]:
    """Return the height and width of the output for windows that stay within the image."""
    height, width = ((n - k) // s + 1 if n >= k else 0 for n, k, s in zip(input_shape, size, stride, strict=False))
    if not (height and width):
        got = f"a window of {format_shape(size)} for images of shape {input_shape}"
        raise ValueError(f"the window must fit into the images, got {got}")
    return height, width


def engine_stride(size: tuple[int, int], stride: tuple[int, int], input_shape: Shape) -> list[int]:
    """Return the stride for the engine, limited to the size of window plus image.

    Each larger stride also yields a single window, but the engine would allocate larger buffers for it.
    """
    return [min(s, k + n) for s, k, n in zip(stride, size, input_shape, strict=False)]


def stride_text(stride: tuple[int, int], default: tuple[int, int]) -> str:
    """Return the stride as text for `summary`, or "" if it is the default."""
    return "" if stride == default else f", stride {format_shape(stride if len(set(stride)) > 1 else stride[:1])}"


class Conv2D(ParametricLayer):
    """Convolutional layer, in which each filter is applied to all windows of the image.

    The output of a filter at row y and column x is f(b + sum over ky, kx, c of
    image[y * stride + ky, x * stride + kx, c] * kernel[ky, kx, c]). Frameworks call this cross-correlation a
    convolution.

    Parameters
    ----------
    filters : int
        Number of output channels.
    size : int or (int, int)
        Height and width of the window.
    activation : str, optional
        Name of an activation of `NeuralNetwork`. Default: `activation` of the network.
    stride : int or (int, int), default 1
        Distance between windows in pixels, vertically and horizontally.
    padding : {"valid", "same"}
        "valid": windows stay within the image, and the output height is (height - size) // stride + 1. "same": zeros
        are added around the image, and the output height is ceil(height / stride). If the number of rows or columns of
        zeros is odd, one more is added at the bottom or right.
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

    Notes
    -----
    W is a matrix (size * size * channels, filters) with rows in the order ky, kx, channel. Layers of a network also
    have it as `kernel` (size, size, channels, filters).
    """

    type: ClassVar[str] = "conv2d"
    matrix_axes: ClassVar[tuple[str, str]] = ("size x channels", "filters")

    filters: int = field(check=check_size)
    size: Any = field(check=check_pair)  # (height, width); one number is accepted for both
    activation: str | None = field(default=None, check=allow_none(partial(check_choice, choices=ACTIVATIONS)))
    stride: Any = field(default=(1, 1), check=check_pair)
    padding: str = field(default="valid", check=partial(check_choice, choices=PADDINGS))
    bias: bool | None = field(default=None, check=allow_none(check_bool))
    init: str | None = field(default=None, check=allow_none(partial(check_choice, choices=INITIALIZERS)))
    trainable: bool = field(default=True, check=check_bool)
    lr_factor: float = field(default=1.0, check=check_positive)
    bias_lr_factor: float = field(default=1.0, check=check_positive)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        if self.padding == "same":
            height, width = (-(-n // s) for n, s in zip(check_image_shape(input_shape), self.stride, strict=False))
        else:
            height, width = window_output_size(self.size, self.stride, check_image_shape(input_shape))
        return height, width, self.filters

    def pad(self, input_shape: Shape) -> tuple[int, int]:
        """Return the number of rows of zeros above the image and of columns of zeros to its left."""
        missing = (
            (out - 1) * s + k - n
            for out, s, k, n in zip(self.output_shape(input_shape), self.stride, self.size, input_shape, strict=False)
        )
        top, left = (max(0, n) // 2 for n in missing) if self.padding == "same" else (0, 0)
        return top, left

    def parameter_arrays(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        """Return the parameters of the layer."""
        fan_in, fan_out = prod(self.size) * input_shape[2], prod(self.size) * self.filters
        W = ParameterArray("W", (fan_in, self.filters), fan_in, fan_out)
        return (W, ParameterArray("b", (self.filters,), fan_in, fan_out)) if self.bias else (W,)

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        """Return the arguments from which the engine creates the layer."""
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
        """Return the number of multiplications in the forward pass of one row."""
        window_size: int = prod(self.size) * input_shape[2]
        return prod(self.output_shape(input_shape)) * window_size

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        """Return the description of the layer for a model file, without its arrays."""
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
        """Validate the description of a layer of this type in a model file, and return it."""
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
        """Create the layer from its validated description in a model file."""
        filters, size, activation = layer["filters"], layer["size"], layer["activation"]
        return cls(filters, size, activation, layer["stride"], layer["padding"], layer["b"] is not None)

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        from nnc.layers import operations

        out, (top, left) = self.output_shape(input_shape), self.pad(input_shape)
        # With a stride above 1, the last window may end before the last row or column of zeros, which is then omitted.
        ends = [(n - 1) * s + k for n, s, k in zip(out, self.stride, self.size, strict=False)]
        bottom, right = (max(0, end - n - pad) for end, n, pad in zip(ends, input_shape, (top, left), strict=False))
        pad = (top, left, bottom, right)
        convolution = operations.Conv(input_shape, out, layer["W"], layer["b"], self.size, self.stride, pad)
        return operations.with_activation(convolution, layer["activation"])

    @property
    def summary_note(self) -> str:
        """Return the options of the layer as text, for the last column of `summary`."""
        same = ", same" if self.padding == "same" else ""
        return f"{self.activation} of {format_shape(self.size)}{stride_text(self.stride, (1, 1))}{same}"


class Pool(Layer):
    """Base class of pooling layers, whose output has one number for each window and channel."""

    statistic: ClassVar[str]  # statistic of a window in words, for `summary`

    size: Any = field(check=check_pair)  # (height, width); one number is accepted for both
    stride: Any = field(default=None, check=allow_none(check_pair))

    def __post_init__(self) -> None:
        self.__dict__["stride"] = self.stride or self.size

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        return *window_output_size(self.size, self.stride, check_image_shape(input_shape)), input_shape[2]

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        """Return the arguments from which the engine creates the layer."""
        return {
            "kind": self.type,
            "input_shape": input_shape,
            "output_shape": self.output_shape(input_shape),
            "window": self.size,
            "stride": engine_stride(self.size, self.stride, input_shape),
        }

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        """Return the description of the layer for a model file, without its arrays."""
        return {"type": self.type, "size": list(self.size), "stride": list(self.stride)}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """Validate the description of a layer of this type in a model file, and return it."""
        fields.check_keys(layer, ("type", "size", "stride"), where)
        size, stride = (fields.sizes(layer, key, 2, where + ".") for key in ("size", "stride"))
        return {"type": cls.type, "size": size, "stride": stride}

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        """Create the layer from its validated description in a model file."""
        return cls(layer["size"], layer["stride"])

    @property
    def summary_note(self) -> str:
        """Return the options of the layer as text, for the last column of `summary`."""
        return f"{self.statistic} of {format_shape(self.size)}{stride_text(self.stride, self.size)}"


class MaxPool2D(Pool):
    """Max-pooling: maximum over each window for each channel.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Distance between windows in pixels. Default: the size. Windows stay within the image; remaining rows and columns
        are ignored.

    Notes
    -----
    If several numbers of a window are the maximum, the gradient flows to the first of them.
    """

    type: ClassVar[str] = "max_pool2d"
    statistic: ClassVar[str] = "largest"

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        from nnc.layers import operations

        return [operations.MaxPool(input_shape, self.output_shape(input_shape), self.size, self.stride)]


class AvgPool2D(Pool):
    """Average pooling: mean over each window for each channel.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Distance between windows in pixels. Default: the size. Windows stay within the image; remaining rows and columns
        are ignored.
    """

    type: ClassVar[str] = "avg_pool2d"
    statistic: ClassVar[str] = "mean"

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        from nnc.layers import operations

        return [operations.AvgPool(input_shape, self.output_shape(input_shape), self.size, self.stride)]


class GlobalAvgPool2D(Layer):
    """Global average pooling: mean of each channel over the image."""

    type: ClassVar[str] = "global_avg_pool2d"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        return 1, 1, check_image_shape(input_shape)[2]

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        """Return the arguments from which the engine creates the layer."""
        return AvgPool2D((input_shape[0], input_shape[1])).engine_description(input_shape)

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        return AvgPool2D((input_shape[0], input_shape[1])).operations(input_shape, layer)

    @property
    def summary_note(self) -> str:
        """Return the options of the layer as text, for the last column of `summary`."""
        return "mean of all"


class Flatten(Layer):
    """Conversion of images to vectors in the order row, column, channel, and of sequences in the order step, feature.

    A network inserts this layer between images and a Dense if it is missing, but not between sequences and a Dense.
    """

    type: ClassVar[str] = "flatten"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        return (prod(input_shape),)

    def engine_description(self, input_shape: Shape) -> dict[str, Any] | None:
        """Return the arguments from which the engine creates the layer, or None for vectors and sequences."""
        return (
            {"kind": self.type, "input_shape": input_shape, "output_shape": self.output_shape(input_shape)}
            if len(input_shape) == 3
            else None
        )

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        from nnc.layers import operations

        return [operations.Flatten(input_shape, self.output_shape(input_shape))] if len(input_shape) == 3 else []
