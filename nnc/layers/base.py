"""What a kind of layer answers, whoever asks: the constructor, the engine, files, `summary`."""

from __future__ import annotations

from abc import abstractmethod
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._utils.value import Value

if TYPE_CHECKING:
    from typing import Self

    from nnc.layers.operations import Operation

    Shape = tuple[int, ...]  # of one row: (n,) is a vector, (height, width, channels) an image


# Options of a parametric layer that change how it learns, with their defaults.
LEARNING_DEFAULTS = {"trainable": True, "lr_factor": 1.0, "bias_lr_factor": 1.0}


def format_shape(shape: Shape) -> str:
    """10, or 28 x 28 x 1."""
    return " x ".join(map(str, shape))


class ParameterArray(Value):
    """An array of a layer, and what its initial numbers depend on: the inputs of a neuron, and the neurons."""

    name: str
    shape: tuple[int, ...]
    fan_in: int
    fan_out: int


class Layer(Value):
    """A layer without weights. What is asked of it is asked with `below`, the shape of a row that it gets.

    A kind that is not ParametricLayer has no weights: it says a shape, or something of the layer before it, or pools.
    """

    type: ClassVar[str]
    matrix_axes: ClassVar[tuple[str, str]] = (
        "",
        "",
    )  # what the rows and the columns of its matrix are, in messages on files
    normalizes: ClassVar[bool] = False  # whether it needs a batch of rows, and keeps what it has found of them
    columnwise: ClassVar[bool] = False  # whether W is a row, a number for each column or channel: there are no neurons

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of a row that it gives; ValueError, which the stack completes by the layer's place, where it cannot
        take `below`."""

    def parameter_arrays(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        """Its parameters: a matrix, and perhaps a vector of biases."""
        return ()

    def statistics(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        """Vectors that stand beside its parameters and that no optimizer moves."""
        return ()

    def engine_description(self, input_shape: Shape) -> dict[str, Any] | None:
        """What the engine takes, None where it is no layer there."""
        return None

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        """What files hold of it, its arrays excepted."""
        return {"type": self.type}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """What a file says of such a layer; ValueError with place and reason where that is no such layer. Whether it
        goes with the layer below and what is in its arrays is for whoever knows `below`."""
        from nnc._utils import fields

        fields.check_keys(layer, ("type",), where)
        return {"type": cls.type}

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        """The kind that such members describe."""
        return cls()

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """What it does to a row in `predict`, for other formats. `layer` is what a document holds of it."""
        raise ValueError(f"{type(self).__name__} cannot be written in other formats yet; save() keeps it")

    @property
    def summary_note(self) -> str:
        """What there is to it, in `summary`."""
        return ""

    @property
    def frozen(self) -> bool:
        """Whether it has weights, and these do not learn."""
        return False

    def multiply_adds(self, input_shape: Shape) -> int:
        """Of a row."""
        return 0

    def n_params(self, input_shape: Shape) -> int:
        """How many numbers its arrays have."""
        return sum(prod(array.shape) for array in self.parameter_arrays(input_shape))

    def __repr__(self) -> str:
        plain = type(self)(**{name: getattr(self, name) for name, known in self._fields.items() if known.required})
        values = []
        for place, (name, known) in enumerate(self._fields.items()):
            value = getattr(self, name)
            if known.required or value != getattr(plain, name):
                text = repr(value[0] if isinstance(value, tuple) and len({*value}) == 1 else value)
                values.append(text if place == 0 or known.required else f"{name}={text}")
        return f"{type(self).__name__}({', '.join(values)})"


class ParametricLayer(Layer):
    """A kind with weights. What it does not say, None, the network says; one that works by columns says all."""

    @property
    @abstractmethod
    def activation(self) -> str | None:
        """A field of every such kind, as the next ones."""

    @property
    @abstractmethod
    def bias(self) -> bool | None: ...

    @property
    @abstractmethod
    def init(self) -> str | float | None:
        """How weights are drawn, or the number that all of them are at first."""

    @property
    @abstractmethod
    def trainable(self) -> bool: ...

    @property
    @abstractmethod
    def lr_factor(self) -> float: ...

    @property
    @abstractmethod
    def bias_lr_factor(self) -> float: ...

    @abstractmethod
    def engine_description(self, input_shape: Shape) -> dict[str, Any]: ...

    @property
    def summary_note(self) -> str:
        return str(self.activation)

    @property
    def frozen(self) -> bool:
        return not self.trainable

    @property
    def learning_options(self) -> dict[str, Any]:
        """How it learns, what is as usual left out."""
        return {name: getattr(self, name) for name, usual in LEARNING_DEFAULTS.items() if getattr(self, name) != usual}

    @classmethod
    def check_array_members(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """The members that every such layer has; their numbers are not looked at."""
        from nnc._utils import fields

        return {
            "W": fields.array_member(layer, "W", list, where=where + "."),
            "b": fields.array_member(layer, "b", list, type(None), where=where + "."),
        }
