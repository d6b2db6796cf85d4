"""Base classes of layer objects, which describe layers to the constructor, the engine, model files and exporters."""

from __future__ import annotations

from abc import abstractmethod
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._utils.value import Value

if TYPE_CHECKING:
    from typing import Self

    from nnc.layers.operations import Operation

    Shape = tuple[int, ...]  # shape of one row: (n,), (steps, features) of a sequence, or (height, width, channels)


# Options of a parametric layer that change how it learns, with their defaults.
LEARNING_DEFAULTS = {"trainable": True, "lr_factor": 1.0, "bias_lr_factor": 1.0}


def format_shape(shape: Shape) -> str:
    """Return a shape as text: "10" or "28 x 28 x 1"."""
    return " x ".join(map(str, shape))


def as_image_shape(shape: Shape) -> Shape:
    """Return the shape (1, steps, features) of a sequence as an image of height 1; return other shapes unchanged."""
    return (1, *shape) if len(shape) == 2 else shape


def flatten_description(input_shape: Shape) -> dict[str, Any]:
    """Return the arguments from which the engine creates a layer that converts images or sequences to vectors."""
    return {"kind": "flatten", "input_shape": as_image_shape(input_shape), "output_shape": (prod(input_shape),)}


class ParameterArray(Value):
    """Name and shape of an array of parameters, with the fan-in and fan-out that its initialization uses."""

    name: str
    shape: tuple[int, ...]
    fan_in: int
    fan_out: int
    units: int = 0  # number of rows at the end of W that multiply the previous state of a recurrent layer


class Layer(Value):
    """Base class of layer objects, which have options but no weights.

    Most methods take `input_shape`, the shape of one row before the layer, without the batch dimension.
    """

    type: ClassVar[str]  # name of the layer type in model files
    normalizes: ClassVar[bool] = False  # whether the layer normalizes batches and has running statistics
    matrix_axes: ClassVar[tuple[str, str]] = ("", "")  # names of the rows and columns of W in messages about files
    in_lanes: ClassVar[bool] = False  # whether the engine processes a separate row in each vector lane
    recurrent: ClassVar[bool] = False  # whether the layer processes sequences step by step
    columnwise: ClassVar[bool] = False  # whether W is a single row, with one factor for each column or channel
    has_higher_derivatives: ClassVar[bool] = False  # whether the engine computes second derivatives of the outputs

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer.

        Raises
        ------
        ValueError
            The layer does not support this input shape. Callers add the location of the layer to the message.
        """

    def output_steps(self, steps: int) -> int:
        """Return the number of output steps for a sequence of `steps` steps in a batch with longer sequences.

        Raises
        ------
        ValueError
            The layer does not support sequences of different lengths, or not this length.
        """
        if self.recurrent or self.type in ("dense", "dropout"):
            return steps
        raise ValueError(f"{self!r} does not support shorter sequences; use recurrent layers or a global pool instead")

    def parameter_arrays(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        """Return the names and shapes of the parameter arrays of the layer: none, W, or W and b."""
        return ()

    def statistics(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        """Return the names and shapes of the running statistics, which files contain but the optimizer ignores."""
        return ()

    def engine_description(self, input_shape: Shape) -> dict[str, Any] | None:
        """Return the arguments from which the engine creates the layer, or None if the engine has no such layer."""
        return None

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        """Return the description of the layer for a model file, without its arrays."""
        return {"type": self.type}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """Validate the description of a layer of this type in a model file, and return it.

        The caller checks the input shape and the numbers in the arrays.

        Parameters
        ----------
        layer : dict
            JSON object of the layer.
        where : str
            Location of the object for messages.

        Raises
        ------
        ValueError
            The object does not describe such a layer.
        """
        from nnc._utils import fields

        fields.check_keys(layer, ("type",), where)
        return {"type": cls.type}

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        """Create the layer from its validated description in a model file."""
        return cls()

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them.

        Parameters
        ----------
        input_shape : tuple of int
        layer : dict
            Description of the layer with its arrays, as in a model file.
        """
        raise ValueError(f"{type(self).__name__} layers cannot be exported to other formats; use save()")

    @property
    def summary_note(self) -> str:
        """Return the options of the layer as text, for the last column of `summary`."""
        return ""

    @property
    def processes_steps(self) -> bool:
        """Return whether the layer processes the steps of a sequence in their order, each with the inputs of this step.

        Its states may also depend on earlier steps.
        """
        return False

    @property
    def stream_obstacle(self) -> str | None:
        """Return why the layer cannot process sequences step by step, or None if it can."""
        return f"stream() requires layers that process single steps, got {self!r}"

    @property
    def frozen(self) -> bool:
        """Return whether the layer has parameters that training does not change."""
        return False

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the number of multiplications in the forward pass of one row."""
        return 0

    def n_params(self, input_shape: Shape) -> int:
        """Return the number of parameters of the layer for inputs of this shape."""
        return sum(prod(array.shape) for array in self.parameter_arrays(input_shape))

    def __repr__(self) -> str:
        required = {name: getattr(self, name) for name, spec in self._fields.items() if spec.required}
        default = type(self)(**required)
        values = []
        for i, (name, spec) in enumerate(self._fields.items()):
            value = getattr(self, name)
            if spec.required or value != getattr(default, name):
                text = repr(value[0] if isinstance(value, tuple) and len({*value}) == 1 else value)
                values.append(text if i == 0 or spec.required else f"{name}={text}")
        return f"{type(self).__name__}({', '.join(values)})"


class ParametricLayer(Layer):
    """Base class of layers with trainable parameters.

    An option that is None takes its value from the network. Layers with one factor per column, such as Scale, have no
    such options.
    """

    @property
    @abstractmethod
    def activation(self) -> str | None:
        """Return the name of the activation."""

    @property
    @abstractmethod
    def bias(self) -> bool | None:
        """Return whether the layer has biases."""

    @property
    @abstractmethod
    def init(self) -> str | float | None:
        """Return the name of the weight initialization, or the initial value of all weights."""

    @property
    @abstractmethod
    def trainable(self) -> bool:
        """Return whether training changes the parameters."""

    @property
    @abstractmethod
    def lr_factor(self) -> float:
        """Return the factor of the learning rate for the parameters of the layer."""

    @property
    @abstractmethod
    def bias_lr_factor(self) -> float:
        """Return the additional factor of the learning rate for the biases."""

    @abstractmethod
    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        """Return the arguments from which the engine creates the layer."""

    def width(self, input_shape: Shape) -> int:
        """Return the number of outputs that the engine computes together: those of one step or pixel."""
        return self.output_shape(input_shape)[-1]

    @property
    def summary_note(self) -> str:
        """Return the activation, for the last column of `summary`."""
        return str(self.activation)

    @property
    def frozen(self) -> bool:
        """Return whether the layer is frozen: training does not change its parameters."""
        return not self.trainable

    @property
    def learning_options(self) -> dict[str, Any]:
        """Return the learning options, such as `lr_factor`, that differ from their defaults."""
        options = {name: getattr(self, name) for name in LEARNING_DEFAULTS}
        return {name: value for name, value in options.items() if value != LEARNING_DEFAULTS[name]}

    @classmethod
    def check_array_members(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """Return W and b of a layer in a model file; the caller validates their shapes and values."""
        from nnc._utils import fields

        return {
            "W": fields.array_member(layer, "W", list, where=where + "."),
            "b": fields.array_member(layer, "b", list, type(None), where=where + "."),
        }
