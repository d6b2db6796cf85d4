"""Layers of images: rows of shape (height, width, channels), channels last."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._registry.activations import NAMES as ACTIVATIONS
from nnc._registry.initializers import NAMES as INITIALIZERS
from nnc._utils import fields
from nnc._utils.checks import (
    allow_none,
    check_bool,
    check_choice,
    check_count,
    check_pair,
    check_positive,
    check_size,
    short_repr,
)
from nnc._utils.value import Value, field
from nnc.layers.base import Layer, ParameterArray, ParametricLayer, flatten_description, format_shape

if TYPE_CHECKING:
    from typing import Self

    from nnc._registry.choices import ActivationName, InitializerName
    from nnc.layers.base import Shape
    from nnc.layers.operations import Operation

PADDINGS = ("valid", "same")


class WindowGeometry(Value):
    """Shapes, sizes and positions of the windows of a convolution or pool, for the engine and for exporters.

    A sequence is an image of one row; for a dilated convolution it is divided into rows of `dilation` steps.

    Attributes
    ----------
    input_shape, output_shape : (height, width, channels)
        Shapes of the input image and of the output.
    size : (int, int)
        Height and width of a window.
    stride : (int, int)
        Distance between windows, vertically and horizontally.
    pad : (int, int)
        Number of rows of zeros above the image and of columns of zeros to its left.
    step_offset : int
        Only for sequences: one of n steps has (n + step_offset) // stride + 1 output steps.
    """

    input_shape: Shape
    output_shape: Shape
    size: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int] = (0, 0)
    step_offset: int = 0

    @property
    def engine_arguments(self) -> dict[str, Any]:
        """Return the arguments from which the engine creates a layer with these windows, without the padding."""
        # With a stride of at least the window size plus the image size, there is only one window. Larger strides would
        # only enlarge the buffers of the engine.
        stride = [min(s, k + n) for s, k, n in zip(self.stride, self.size, self.input_shape, strict=False)]
        return {
            "input_shape": self.input_shape,
            "output_shape": self.output_shape,
            "window": self.size,
            "stride": stride,
            "step_offset": self.step_offset,
        }

    @property
    def pad_on_all_sides(self) -> tuple[int, int, int, int]:
        """Return the numbers of rows or columns of zeros at the top, left, bottom and right of the image."""
        # With a stride above 1, the last window may end before the last row or column of zeros, which is then omitted.
        ends = [(n - 1) * s + k for n, s, k in zip(self.output_shape, self.stride, self.size, strict=False)]
        bottom, right = (max(0, end - n - pad) for end, n, pad in zip(ends, self.input_shape, self.pad, strict=False))
        return (*self.pad, bottom, right)


def check_padding(name: str, value: Any) -> str | tuple[int, int]:
    """Validate the padding of a Conv2D; return "valid", "same", or the numbers of rows and columns of zeros."""
    if isinstance(value, str):
        return check_choice(name, value, PADDINGS, " or the number of zeros on each side, such as 1 or (0, 2)")
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{name} must be 'valid', 'same', one whole number or two, got {short_repr(value)}")
    rows, columns = (check_count(name, n, 0) for n in pair)
    return (rows, columns) if rows or columns else "valid"


def check_image_shape(input_shape: Shape) -> Shape:
    """Return `input_shape` if it is the shape of an image; otherwise raise ValueError."""
    if len(input_shape) != 3:
        hint = "; use Input(height, width, channels)" if len(input_shape) == 2 else ""
        raise ValueError(f"the inputs must be images (height, width, channels), got rows of shape {input_shape}{hint}")
    return input_shape


def window_output_size(size: tuple[int, int], stride: tuple[int, int], input_shape: Shape) -> tuple[int, int]:
    """Return the height and width of the output without padding: all windows lie within the image."""
    height, width = ((n - k) // s + 1 if n >= k else 0 for n, k, s in zip(input_shape, size, stride, strict=False))
    if not (height and width):
        got = f"a window of {format_shape(size)} for images of shape {input_shape}"
        raise ValueError(f"the window must fit into the images, got {got}")
    return height, width


def stride_text(stride: tuple[int, int], default: tuple[int, int]) -> str:
    """Return the stride as text for `summary`, or "" if it is the default."""
    return "" if stride == default else f", stride {format_shape(stride if len(set(stride)) > 1 else stride[:1])}"


class Convolution(ParametricLayer):
    """Base class of convolutional layers."""

    matrix_axes: ClassVar[tuple[str, str]] = ("size x channels", "filters")
    in_lanes: ClassVar[bool] = True

    filters: int = field(check=check_size)
    size: Any

    @abstractmethod
    def window_geometry(self, input_shape: Shape) -> WindowGeometry:
        """Return the geometry of the windows of the layer for inputs of this shape."""

    @classmethod
    def check_options(cls, description: dict[str, Any], where: str) -> dict[str, Any]:
        """Return the description of a layer in a model file; raise ValueError if the constructor rejects it."""
        try:
            cls.from_dict(description)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from None
        return description

    def parameter_arrays(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        """Return the names and shapes of the parameter arrays of the layer."""
        window_pixels = prod(self.window_geometry(input_shape).size)
        fan_in, fan_out = window_pixels * input_shape[-1], window_pixels * self.filters
        W = ParameterArray("W", (fan_in, self.filters), fan_in, fan_out)
        return (W, ParameterArray("b", (self.filters,), fan_in, fan_out)) if self.bias else (W,)

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        """Return the arguments from which the engine creates the layer."""
        geometry = self.window_geometry(input_shape)
        options = {"activation": self.activation, "bias": self.bias, "pad": geometry.pad}
        return {"kind": "conv2d", **geometry.engine_arguments, **options}

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the number of multiplications in the forward pass of one row."""
        geometry = self.window_geometry(input_shape)
        n: int = prod(geometry.output_shape) * prod(geometry.size) * input_shape[-1]
        return n

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        from nnc.layers import operations

        geometry = self.window_geometry(input_shape)
        convolution = operations.Conv(
            geometry.input_shape,
            geometry.output_shape,
            layer["W"],
            layer["b"],
            geometry.size,
            geometry.stride,
            geometry.pad_on_all_sides,
        )
        activated = operations.with_activation(convolution, layer["activation"])
        return operations.with_shapes(activated, input_shape, self.output_shape(input_shape))


class Conv2D(Convolution):
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
    padding : {"valid", "same"}, int or (int, int), default "valid"
        "valid": windows stay within the image, and the output height is (height - size) // stride + 1. "same": zeros
        are added around the image, and the output height is ceil(height / stride). If the number of rows or columns of
        zeros is odd, one more is added at the bottom or right. A number p adds p rows of zeros above and below the
        image, and p columns at its left and right. Two numbers are the number of rows and the number of columns. Both
        must be smaller than the window.
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

    size: Any = field(check=check_pair)  # height and width of the window; a single number sets both
    activation: ActivationName | None = field(
        default=None, check=allow_none(partial(check_choice, choices=ACTIVATIONS))
    )
    stride: Any = field(default=(1, 1), check=check_pair)
    padding: Any = field(default="valid", check=check_padding)
    bias: bool | None = field(default=None, check=allow_none(check_bool))
    init: InitializerName | None = field(default=None, check=allow_none(partial(check_choice, choices=INITIALIZERS)))
    trainable: bool = field(default=True, check=check_bool)
    lr_factor: float = field(default=1.0, check=check_positive)
    bias_lr_factor: float = field(default=1.0, check=check_positive)

    def __post_init__(self) -> None:
        if isinstance(self.padding, tuple) and any(pad >= n for pad, n in zip(self.padding, self.size, strict=True)):
            raise ValueError(f"padding must be smaller than size, got padding={self.padding} and size={self.size}")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        check_image_shape(input_shape)
        if self.padding == "same":
            height, width = (-(-n // s) for n, s in zip(input_shape, self.stride, strict=False))
        else:
            rows, columns = self.padding if isinstance(self.padding, tuple) else (0, 0)
            padded = (input_shape[0] + 2 * rows, input_shape[1] + 2 * columns, input_shape[2])
            height, width = window_output_size(self.size, self.stride, padded)
        return height, width, self.filters

    def window_geometry(self, input_shape: Shape) -> WindowGeometry:
        """Return the geometry of the windows of the layer for inputs of this shape."""
        output_shape, pad = self.output_shape(input_shape), self.padding
        if pad == "same":
            axes = zip(output_shape, self.stride, self.size, input_shape, strict=False)
            pad = tuple(max(0, (out - 1) * s + k - n) // 2 for out, s, k, n in axes)
        elif pad == "valid":
            pad = (0, 0)
        return WindowGeometry(input_shape, output_shape, self.size, self.stride, pad)

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        """Return the description of the layer for a model file, without its arrays."""
        return {
            "type": self.type,
            "filters": self.filters,
            "size": list(self.size),
            "stride": list(self.stride),
            "padding": list(self.padding) if isinstance(self.padding, tuple) else self.padding,
            "activation": self.activation,
        }

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """Validate the description of a layer of this type in a model file, and return it."""
        fields.check_keys(layer, ("type", "filters", "size", "stride", "padding", "activation", "W", "b"), where)
        location, padding = where + ".", layer["padding"]
        description = {
            "type": cls.type,
            "filters": fields.size(layer["filters"], location + "filters"),
            "size": fields.sizes(layer, "size", 2, location),
            "stride": fields.sizes(layer, "stride", 2, location),
            "padding": padding if type(padding) is list else fields.choice(layer, "padding", PADDINGS, location),
            "activation": fields.choice(layer, "activation", ACTIVATIONS, location),
            **cls.check_array_members(layer, where),
        }
        return cls.check_options(description, where)

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        """Create the layer from its validated description in a model file."""
        filters, size, activation = layer["filters"], layer["size"], layer["activation"]
        return cls(filters, size, activation, layer["stride"], layer["padding"], layer["b"] is not None)

    @property
    def summary_note(self) -> str:
        """Return the options of the layer as text, for the last column of `summary`."""
        padding = self.padding if isinstance(self.padding, str) else f"padding {format_shape(self.padding)}"
        text = f"{self.activation} of {format_shape(self.size)}{stride_text(self.stride, (1, 1))}"
        return text if padding == "valid" else f"{text}, {padding}"


class Pool(Layer):
    """Base class of pooling layers, whose output has one number for each window and channel."""

    in_lanes: ClassVar[bool] = True
    statistic: ClassVar[str]  # output of the layer for a window, as named by `summary`: "largest" or "mean"

    @abstractmethod
    def window_geometry(self, input_shape: Shape) -> WindowGeometry:
        """Return the geometry of the windows of the layer for inputs of this shape."""

    @property
    def is_max(self) -> bool:
        """Return True for max-pooling, False for average pooling."""
        return self.statistic == "largest"

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        """Return the arguments from which the engine creates the layer."""
        kind = "max_pool2d" if self.is_max else "avg_pool2d"
        return {"kind": kind, **self.window_geometry(input_shape).engine_arguments}

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        from nnc.layers import operations

        geometry, pool = self.window_geometry(input_shape), operations.MaxPool if self.is_max else operations.AvgPool
        operation = pool(geometry.input_shape, geometry.output_shape, geometry.size, geometry.stride)
        return operations.with_shapes([operation], input_shape, self.output_shape(input_shape))


class Pool2D(Pool):
    """Base class of pooling layers for images with windows of a given size."""

    size: Any = field(check=check_pair)  # height and width of the window; a single number sets both
    stride: Any = field(default=None, check=allow_none(check_pair))

    def __post_init__(self) -> None:
        self.__dict__["stride"] = self.stride or self.size

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        return *window_output_size(self.size, self.stride, check_image_shape(input_shape)), input_shape[2]

    def window_geometry(self, input_shape: Shape) -> WindowGeometry:
        """Return the geometry of the windows of the layer for inputs of this shape."""
        return WindowGeometry(input_shape, self.output_shape(input_shape), self.size, self.stride)

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


class MaxPool2D(Pool2D):
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


class AvgPool2D(Pool2D):
    """Average pooling: mean over each window for each channel.

    Parameters
    ----------
    size, stride
        As in `MaxPool2D`.
    """

    type: ClassVar[str] = "avg_pool2d"
    statistic: ClassVar[str] = "mean"


class GlobalAvgPool2D(Pool):
    """Global average pooling: mean of each channel over the image."""

    type: ClassVar[str] = "global_avg_pool2d"
    statistic: ClassVar[str] = "mean"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        return 1, 1, check_image_shape(input_shape)[2]

    def window_geometry(self, input_shape: Shape) -> WindowGeometry:
        """Return the geometry of the only window, which is the whole image."""
        size = input_shape[0], input_shape[1]
        return WindowGeometry(input_shape, self.output_shape(input_shape), size, size)

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
        """Return the arguments from which the engine creates the layer, or None for vectors."""
        if len(input_shape) == 1:
            return None
        return flatten_description(input_shape)

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        from nnc.layers import operations

        return [operations.Flatten(input_shape, self.output_shape(input_shape))] if len(input_shape) > 1 else []
