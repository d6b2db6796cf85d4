"""Layers of sequences: rows of shape (steps, features). Sequences are images of one row for the engine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._registry.activations import NAMES as ACTIVATIONS
from nnc._registry.initializers import NAMES as INITIALIZERS
from nnc._utils import fields
from nnc._utils.checks import allow_none, check_bool, check_choice, check_count, check_positive, check_size
from nnc._utils.value import field
from nnc.layers.base import as_image_shape
from nnc.layers.image import Convolution, Pool, WindowGeometry

if TYPE_CHECKING:
    from typing import Self

    from nnc._registry.choices import ActivationName, InitializerName
    from nnc.layers.base import Shape

PADDINGS = ("valid", "same", "causal")


def check_sequence_shape(input_shape: Shape) -> Shape:
    """Return `input_shape` if it is the shape of a sequence; otherwise raise ValueError."""
    if len(input_shape) != 2:
        raise ValueError(
            f"the inputs must be sequences (steps, features), got rows of shape {input_shape}; use "
            "Input(steps=64, features=32)"
        )
    return input_shape


def check_padding(name: str, value: Any) -> str | int:
    """Return the padding of a Conv1D: "valid", "same", "causal", or the number of zeros on each side."""
    if isinstance(value, str):
        return check_choice(name, value, PADDINGS, " or the number of zeros on each side, such as 1")
    return check_count(name, value, 0) or "valid"


def count_windows(steps: int, size: int, stride: int, offset: int, sequences: str) -> int:
    """Return the number of windows of `size` steps in a sequence; raise ValueError if there is none.

    `offset` is the number of zeros around the sequence minus `size`, and `sequences` describes it in the message.
    """
    if steps + offset < 0:
        raise ValueError(
            f"the window must fit into the sequences, got a window of {size} steps for sequences of {sequences}"
        )
    return (steps + offset) // stride + 1


class Conv1D(Convolution):
    """Convolutional layer of sequences, in which each filter is applied to all windows of the sequence.

    The output of a filter at step t is f(b + sum over k and c of
    sequence[t * stride + k * dilation, c] * kernel[k, c]).

    Parameters
    ----------
    filters : int
        Number of output features.
    size : int
        Number of steps in a window.
    activation : str, optional
        Name of an activation of `NeuralNetwork`. Default: `activation` of the network.
    stride : int, default 1
        Distance between windows in steps.
    padding : {"valid", "same", "causal"} or int, default "valid"
        "valid": windows stay within the sequence. "same": zeros are added before and after the sequence, and the number
        of output steps is ceil(steps / stride); if the number of zeros is odd, one more is added after it. "causal":
        zeros are added only before the sequence, so that no output depends on later steps. A number p adds p zeros
        before and p zeros after the sequence; it must be smaller than the window.
    dilation : int, default 1
        Distance between neighboring steps of a window. If it is above 1, the stride must be 1, and dilation must divide
        the number of steps and the number of zeros before the sequence.
    bias, init, trainable, lr_factor, bias_lr_factor
        As in `Conv2D`.

    Raises
    ------
    ValueError, TypeError
        An argument is not valid.

    Notes
    -----
    W is a matrix (size * features, filters) with rows in the order step, feature. Layers of a network also have it as
    `kernel` (size, features, filters).
    """

    type: ClassVar[str] = "conv1d"

    size: int = field(check=check_size)
    activation: ActivationName | None = field(
        default=None, check=allow_none(partial(check_choice, choices=ACTIVATIONS))
    )
    stride: int = field(default=1, check=check_size)
    padding: Any = field(default="valid", check=check_padding)
    dilation: int = field(default=1, check=check_size)
    bias: bool | None = field(default=None, check=allow_none(check_bool))
    init: InitializerName | None = field(default=None, check=allow_none(partial(check_choice, choices=INITIALIZERS)))
    trainable: bool = field(default=True, check=check_bool)
    lr_factor: float = field(default=1.0, check=check_positive)
    bias_lr_factor: float = field(default=1.0, check=check_positive)

    def __post_init__(self) -> None:
        if self.dilation > 1 and self.stride > 1:
            raise ValueError(
                f"stride must be 1 if dilation is above 1, got stride={self.stride} and dilation={self.dilation}"
            )
        if isinstance(self.padding, int) and self.padding >= self.extent:
            raise ValueError(
                f"padding must be smaller than the window of {self.extent} steps, got padding={self.padding}"
            )

    @property
    def extent(self) -> int:
        """Return the number of steps that a window spans, including the gaps of the dilation."""
        return (self.size - 1) * self.dilation + 1

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        steps, _ = check_sequence_shape(input_shape)
        out = count_windows(steps, self.extent, self.stride, self.step_offset, f"shape {input_shape}")
        if self.dilation > 1:
            self._check_dilation(steps, self.zeros_before(steps, out))
        return out, self.filters

    @property
    def step_offset(self) -> int:
        """Return k for which a sequence of n steps has (n + k) // stride + 1 output steps."""
        if self.padding in ("same", "causal"):
            return -1
        return (0 if self.padding == "valid" else 2 * self.padding) - self.extent

    def output_steps(self, steps: int) -> int:
        """Return the number of output steps for a sequence of `steps` steps in a batch with longer sequences."""
        if self.padding == "same" and self.stride > 1:
            raise ValueError(
                f"in {self!r}, the number of zeros before a sequence would depend on its length; use padding='causal'"
            )
        return count_windows(steps, self.extent, self.stride, self.step_offset, f"{steps} steps")

    def zeros_before(self, steps: int, out: int) -> int:
        """Return the number of zeros that the padding adds before a sequence, given the number of output steps."""
        if self.padding == "same":
            return max(0, (out - 1) * self.stride + self.extent - steps) // 2
        zeros: int = {"valid": 0, "causal": self.extent - 1}.get(self.padding, self.padding)
        return zeros

    def _check_dilation(self, steps: int, zeros: int) -> None:
        """Raise ValueError if the number of steps or of zeros before them is no multiple of `dilation`."""
        if steps % self.dilation:
            longer = -(-steps // self.dilation) * self.dilation
            raise ValueError(
                f"the number of steps must be a multiple of dilation={self.dilation}, got {steps} steps; add zeros "
                f"before the sequences, up to {longer} steps"
            )
        if zeros % self.dilation:
            raise ValueError(
                f"the number of zeros before the sequences must be a multiple of dilation={self.dilation}, got {zeros} "
                f"with padding={self.padding!r} and size={self.size}; use an odd size or padding='causal'"
            )

    def sequence_geometry(self, input_shape: Shape) -> WindowGeometry:
        """Return the window geometry for sequences as images of height 1, without the dilation."""
        shapes = as_image_shape(input_shape), as_image_shape(self.output_shape(input_shape))
        zeros = self.zeros_before(shapes[0][1], shapes[1][1])
        return WindowGeometry(*shapes, (1, self.size), (1, self.stride), (0, zeros), self.step_offset)

    def window_geometry(self, input_shape: Shape) -> WindowGeometry:
        """Return the geometry of the windows of the layer for inputs of this shape."""
        geometry, d = self.sequence_geometry(input_shape), self.dilation
        if d == 1:
            return geometry
        # Reshape the sequence to an image with `dilation` steps per row: the steps of a window then lie in one column.
        (_, steps, features), (_, out, filters) = geometry.input_shape, geometry.output_shape
        shapes = (steps // d, d, features), (out // d, d, filters)
        return WindowGeometry(*shapes, (self.size, 1), (1, 1), (geometry.pad[1] // d, 0), self.step_offset)

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        """Return the description of the layer for a model file, without its arrays."""
        names = ("type", "filters", "size", "stride", "padding", "dilation", "activation")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """Validate the description of a layer of this type in a model file, and return it."""
        sizes = ("filters", "size", "stride", "dilation")
        fields.check_keys(layer, ("type", *sizes, "padding", "activation", "W", "b"), where)
        location, padding = where + ".", layer["padding"]
        description = {
            "type": cls.type,
            **{name: fields.size(layer[name], location + name) for name in sizes},
            "padding": padding if type(padding) is int else fields.choice(layer, "padding", PADDINGS, location),
            "activation": fields.choice(layer, "activation", ACTIVATIONS, location),
            **cls.check_array_members(layer, where),
        }
        return cls.check_options(description, where)

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        """Create the layer from its validated description in a model file."""
        names = ("filters", "size", "activation", "stride", "padding", "dilation")
        return cls(**{name: layer[name] for name in names}, bias=layer["b"] is not None)

    @property
    def stream_obstacle(self) -> str | None:
        """Return why the layer cannot process sequences step by step, or None if it can."""
        if self.padding == "causal" and self.stride == 1:
            return None
        return (
            "stream() requires that each Conv1D has padding='causal' and stride=1, got "
            f"padding={self.padding!r} and stride={self.stride}"
        )

    @property
    def summary_note(self) -> str:
        """Return the options of the layer as text, for the last column of `summary`."""
        text = f"{self.activation} of {self.size}"
        text += f", stride {self.stride}" if self.stride > 1 else ""
        text += f", dilation {self.dilation}" if self.dilation > 1 else ""
        padding = self.padding if isinstance(self.padding, str) else f"padding {self.padding}"
        return text if padding == "valid" else f"{text}, {padding}"


class Pool1D(Pool):
    """Base class of pooling layers for sequences with windows of a given size."""

    size: int = field(check=check_size)
    stride: Any = field(default=None, check=allow_none(check_size))

    def __post_init__(self) -> None:
        self.__dict__["stride"] = self.stride or self.size

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        steps, features = check_sequence_shape(input_shape)
        return count_windows(steps, self.size, self.stride, self.step_offset, f"shape {input_shape}"), features

    def output_steps(self, steps: int) -> int:
        """Return the number of output steps for a sequence of `steps` steps in a batch with longer sequences."""
        return count_windows(steps, self.size, self.stride, self.step_offset, f"{steps} steps")

    @property
    def step_offset(self) -> int:
        """Return k for which a sequence of n steps has (n + k) // stride + 1 output steps."""
        return -self.size

    def window_geometry(self, input_shape: Shape) -> WindowGeometry:
        """Return the geometry of the windows of the layer for inputs of this shape."""
        shapes = as_image_shape(input_shape), as_image_shape(self.output_shape(input_shape))
        return WindowGeometry(*shapes, (1, self.size), (1, self.stride), step_offset=self.step_offset)

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        """Return the description of the layer for a model file, without its arrays."""
        return {"type": self.type, "size": self.size, "stride": self.stride}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """Validate the description of a layer of this type in a model file, and return it."""
        fields.check_keys(layer, ("type", "size", "stride"), where)
        size, stride = (fields.size(layer[key], f"{where}.{key}") for key in ("size", "stride"))
        return {"type": cls.type, "size": size, "stride": stride}

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        """Create the layer from its validated description in a model file."""
        return cls(layer["size"], layer["stride"])

    @property
    def summary_note(self) -> str:
        """Return the options of the layer as text, for the last column of `summary`."""
        stride = "" if self.stride == self.size else f", stride {self.stride}"
        return f"{self.statistic} of {self.size}{stride}"


class MaxPool1D(Pool1D):
    """Max-pooling of sequences: maximum over each window for each feature.

    Parameters
    ----------
    size : int
        Number of steps in a window.
    stride : int, optional
        Distance between windows in steps. Default: the size. Windows stay within the sequence; remaining steps are
        ignored.

    Notes
    -----
    If several numbers of a window are the maximum, the gradient flows to the first of them.
    """

    type: ClassVar[str] = "max_pool1d"
    statistic: ClassVar[str] = "largest"


class AvgPool1D(Pool1D):
    """Average pooling of sequences: mean over each window for each feature.

    Parameters
    ----------
    size, stride
        As in `MaxPool1D`.
    """

    type: ClassVar[str] = "avg_pool1d"
    statistic: ClassVar[str] = "mean"


class GlobalPool1D(Pool):
    """Base class of pooling layers over all steps of a sequence; the output is a vector with one number per feature."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        return (check_sequence_shape(input_shape)[1],)

    def output_steps(self, steps: int) -> int:
        """Return the number of outputs of each feature, for any number of steps."""
        return 1

    def window_geometry(self, input_shape: Shape) -> WindowGeometry:
        """Return the geometry of the only window, which is the whole sequence."""
        steps, features = input_shape
        return WindowGeometry((1, steps, features), (1, 1, features), (1, steps), (1, steps), step_offset=-1)

    @property
    def summary_note(self) -> str:
        """Return the options of the layer as text, for the last column of `summary`."""
        return f"{self.statistic} of all"


class GlobalMaxPool1D(GlobalPool1D):
    """Global max-pooling of sequences: maximum of each feature over all steps."""

    type: ClassVar[str] = "global_max_pool1d"
    statistic: ClassVar[str] = "largest"


class GlobalAvgPool1D(GlobalPool1D):
    """Global average pooling of sequences: mean of each feature over all steps."""

    type: ClassVar[str] = "global_avg_pool1d"
    statistic: ClassVar[str] = "mean"
