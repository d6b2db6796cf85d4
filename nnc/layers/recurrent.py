"""Recurrent layers, which process sequences step by step: SimpleRNN, GRU and LSTM."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._registry import activations
from nnc._registry.initializers import NAMES as INITIALIZERS
from nnc._utils import fields
from nnc._utils.checks import allow_none, check_bool, check_choice, check_fraction, check_positive, check_size
from nnc._utils.value import field
from nnc.layers.base import ParameterArray, ParametricLayer

if TYPE_CHECKING:
    from typing import Self

    from nnc._registry.choices import HiddenActivationName, InitializerName
    from nnc.layers.base import Shape
    from nnc.layers.operations import Operation

FLAGS = ("return_sequences", "go_backwards", "bidirectional")
STEP_ACTIVATIONS = tuple(name for name in activations.HIDDEN if activations.ROWS[name].elementwise)


class RecurrentLayer(ParametricLayer):
    """Base class of recurrent layers.

    The weights are one matrix: one row for each input of a step, then one row for each unit of the previous state.
    Layers of a network show these parts as `W` and `U`. The columns are ordered by gate, and by unit within each
    gate, as in Keras. A bidirectional layer has the columns of the second direction after those of the first.
    """

    recurrent: ClassVar[bool] = True
    matrix_axes: ClassVar[tuple[str, str]] = ("features + units", "gates x units")
    gate_names: ClassVar[tuple[str, ...]]  # names of the gates, in the order of their columns in W
    n_bias_rows: ClassVar[int] = 1  # number of bias vectors: 2 in a GRU

    if TYPE_CHECKING:  # fields that the subclasses define
        units: int
        return_sequences: bool
        go_backwards: bool
        bidirectional: bool
        dropout: float

    def __post_init__(self) -> None:
        if self.bidirectional and self.go_backwards:
            raise ValueError("go_backwards must be False in a bidirectional layer, got True")

    @property
    def n_gates(self) -> int:
        """Return the number of gates of a unit; the candidate state counts as a gate."""
        return len(self.gate_names)

    @property
    def directions(self) -> int:
        """Return the number of directions in which the layer processes the steps."""
        return 1 + self.bidirectional

    def width(self, input_shape: Shape) -> int:
        """Return the number of outputs that the engine computes together: the units of one direction."""
        return self.units

    @property
    def processes_steps(self) -> bool:
        """Return whether the layer processes the steps of a sequence in their order."""
        return not (self.bidirectional or self.go_backwards)

    @property
    def stream_obstacle(self) -> str | None:
        """Return why the layer cannot process sequences step by step, or None if it can."""
        if not self.processes_steps:
            return f"stream() requires layers that process the steps in their order, got {self!r}"
        return None

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row after the layer."""
        if len(input_shape) != 2:
            raise ValueError(
                f"the inputs must be sequences (steps, features), got rows of shape {input_shape}; "
                "use Input(steps=64, features=32), or return_sequences=True in a recurrent layer before this layer"
            )
        n = self.units * self.directions
        return (input_shape[0], n) if self.return_sequences else (n,)

    def parameter_arrays(self, input_shape: Shape) -> tuple[ParameterArray, ...]:
        """Return the names and shapes of the parameter arrays of the layer."""
        features, columns = input_shape[1], self.n_gates * self.units
        n = self.directions * columns
        W = ParameterArray("W", (features + self.units, n), features, columns, self.units)
        shape = (n,) if self.n_bias_rows == 1 else (self.n_bias_rows, n)
        return (W, ParameterArray("b", shape, features, columns)) if self.bias else (W,)

    def engine_description(self, input_shape: Shape) -> dict[str, Any]:
        """Return the arguments from which the engine creates the layer."""
        n = self.units * self.directions
        return {
            "kind": "recurrent",
            "cell": self.type,
            "input_shape": input_shape,
            "output_shape": (input_shape[0] if self.return_sequences else 1, n),
            "activation": self.activation,
            "bias": self.bias,
            "directions": self.directions,
            "reverse": self.go_backwards,
            "sequences": self.return_sequences,
        }

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the number of multiplications in the forward pass of one row."""
        steps, features = input_shape
        return steps * (features + self.units) * self.n_gates * self.units * self.directions

    def to_dict(self, input_shape: Shape) -> dict[str, Any]:
        """Return the description of the layer for a model file, without its arrays."""
        flags = {name: getattr(self, name) for name in FLAGS}
        dropout = {"dropout": self.dropout} if self.dropout else {}
        return {"type": self.type, "units": self.units, "activation": self.activation, **flags, **dropout}

    @classmethod
    def check_document(cls, layer: dict[str, Any], where: str) -> dict[str, Any]:
        """Validate the description of a layer of this type in a model file, and return it."""
        optional = ("dropout",) if "dropout" in layer else ()
        fields.check_keys(layer, ("type", "units", "activation", *FLAGS, *optional, "W", "b"), where)
        where += "."
        choices = STEP_ACTIVATIONS if "activation" in cls._fields else ("tanh",)
        flags = {name: fields.member(layer, name, bool, where=where) for name in FLAGS}
        if flags["go_backwards"] and flags["bidirectional"]:
            raise ValueError(f"{where}go_backwards is true, expected false in a bidirectional layer")
        return {
            "type": cls.type,
            "units": fields.size(layer["units"], where + "units"),
            "activation": fields.choice(layer, "activation", choices, where),
            **flags,
            **{key: fields.rate(layer[key], where + key) for key in optional},
            **cls.check_array_members(layer, where[:-1]),
        }

    @classmethod
    def from_dict(cls, layer: dict[str, Any]) -> Self:
        """Create the layer from its validated description in a model file."""
        options: dict[str, Any] = {name: layer[name] for name in FLAGS} | {"bias": layer["b"] is not None}
        options["dropout"] = layer.get("dropout", 0.0)
        if "activation" in cls._fields:
            options["activation"] = layer["activation"]
        return cls(units=layer["units"], **options)

    def operations(self, input_shape: Shape, layer: dict[str, Any]) -> list[Operation]:
        """Return the operations that `predict` performs in this layer; exporters translate them."""
        from nnc.layers import operations

        features, n = input_shape[1], self.n_gates * self.units
        biases = layer["b"] if self.n_bias_rows == 2 else layer["b"] and [layer["b"]]
        directions = []
        for d in range(self.directions):
            rows = [row[d * n : (d + 1) * n] for row in layer["W"]]
            b = biases and [row[d * n : (d + 1) * n] for row in biases]
            reverse = self.go_backwards or d == 1
            directions.append(operations.Direction(rows[:features], rows[features:], b, reverse))
        shapes = input_shape, self.output_shape(input_shape)
        return [operations.Recur(*shapes, self.type, layer["activation"], tuple(directions), self.return_sequences)]

    @property
    def summary_note(self) -> str:
        """Return the options of the layer as text, for the last column of `summary`."""
        notes = [type(self).__name__, f"activation {self.activation}" * (self.activation != "tanh")]
        notes += [name.replace("_", " ") for name in FLAGS if getattr(self, name)]
        notes += [f"dropout {self.dropout:g}"] * bool(self.dropout)
        return ", ".join(filter(None, notes))

    def __repr__(self) -> str:
        if self.bidirectional:
            return f"Bidirectional({self.replace(bidirectional=False)!r})"
        return super().__repr__()


class SimpleRNN(RecurrentLayer):
    """Fully connected recurrent layer: h_t = f(x_t W + h_(t-1) U + b), with h = 0 before the first step.

    Parameters
    ----------
    units : int
        Number of units, the length of the state h.
    activation : str, default "tanh"
        Name of an activation of `NeuralNetwork` for hidden layers. `activation` of the network is not used.
    return_sequences : bool, default False
        Whether the output contains the states of all steps, (steps, units), instead of the last state, (units,).
    go_backwards : bool, default False
        Whether the layer processes the steps from the last to the first. The outputs of `return_sequences` stay in
        the order of the inputs, whereas Keras returns them in the order of processing.
    bidirectional : bool, default False
        Whether a second set of units processes the steps from the last to the first; see `Bidirectional`.
    dropout : float, default 0
        Fraction of the inputs that training sets to 0, at least 0 and less than 1. The other inputs are multiplied by
        1 / (1 - dropout). A training step drops the same features at all steps of a sequence, and draws them anew for
        each sequence and direction. `predict` does not drop inputs.
    bias : bool, optional
        Whether the layer has biases. Default: `bias` of the network.
    init : str, optional
        Name of a weight initialization of `NeuralNetwork` for W. Default: `init` of the network. U starts as a matrix
        with orthonormal rows.
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
    Layers of a network have the parameters as `W` (features, units), `U` (units, units) and `b` (units,).
    """

    type: ClassVar[str] = "simple_rnn"
    gate_names: ClassVar[tuple[str, ...]] = ("h",)

    units: int = field(check=check_size)
    activation: HiddenActivationName = field(default="tanh", check=partial(check_choice, choices=STEP_ACTIVATIONS))
    return_sequences: bool = field(default=False, check=check_bool)
    go_backwards: bool = field(default=False, check=check_bool)
    bidirectional: bool = field(default=False, check=check_bool)
    dropout: float = field(default=0.0, check=check_fraction)
    bias: bool | None = field(default=None, check=allow_none(check_bool))
    init: InitializerName | None = field(default=None, check=allow_none(partial(check_choice, choices=INITIALIZERS)))
    trainable: bool = field(default=True, check=check_bool)
    lr_factor: float = field(default=1.0, check=check_positive)
    bias_lr_factor: float = field(default=1.0, check=check_positive)


class GatedLayer(RecurrentLayer):
    """Base class of GRU and LSTM, whose activation is tanh."""

    activation: ClassVar[str] = "tanh"

    units: int = field(check=check_size)
    return_sequences: bool = field(default=False, check=check_bool)
    go_backwards: bool = field(default=False, check=check_bool)
    bidirectional: bool = field(default=False, check=check_bool)
    dropout: float = field(default=0.0, check=check_fraction)
    bias: bool | None = field(default=None, check=allow_none(check_bool))
    init: InitializerName | None = field(default=None, check=allow_none(partial(check_choice, choices=INITIALIZERS)))
    trainable: bool = field(default=True, check=check_bool)
    lr_factor: float = field(default=1.0, check=check_positive)
    bias_lr_factor: float = field(default=1.0, check=check_positive)


class GRU(GatedLayer):
    """Gated recurrent unit (Cho et al., 2014), in the variant of cuDNN, Keras (reset_after=True) and PyTorch.

    Let s be the sigmoid, `*` the elementwise product, x_t the input and h = h_(t-1). The state is
    h_t = z * h + (1 - z) * n with z = s(x_t W_z + h U_z + b_z + c_z), r = s(x_t W_r + h U_r + b_r + c_r) and
    n = tanh(x_t W_n + b_n + r * (h U_n + c_n)).

    Parameters
    ----------
    units : int
        Number of units, the length of the state h.
    return_sequences, go_backwards, bidirectional, dropout, bias, init, trainable, lr_factor, bias_lr_factor
        As in `SimpleRNN`.

    Raises
    ------
    ValueError, TypeError
        An argument is not valid.

    Notes
    -----
    Layers of a network have the parameters as `W` (features, 3 units), `U` (units, 3 units) and `b` (2, 3 units), whose
    rows are b and c. The gates are in the order z, r, n. PyTorch has the order r, z, n.
    """

    type: ClassVar[str] = "gru"
    gate_names: ClassVar[tuple[str, ...]] = ("z", "r", "n")
    n_bias_rows: ClassVar[int] = 2


class LSTM(GatedLayer):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), with a forget gate (Gers et al., 2000).

    Let s be the sigmoid, `*` the elementwise product, x_t the input, h = h_(t-1) and c = c_(t-1). The gates are
    i, f, o = s(x_t W + h U + b) and g = tanh(x_t W + h U + b), each with its own columns of W, U and b. The cell state
    is c_t = f * c + i * g, and the state is h_t = o * tanh(c_t).

    Parameters
    ----------
    units : int
        Number of units, the length of the states h and c.
    return_sequences, go_backwards, bidirectional, dropout, bias, init, trainable, lr_factor, bias_lr_factor
        As in `SimpleRNN`.

    Raises
    ------
    ValueError, TypeError
        An argument is not valid.

    Notes
    -----
    Layers of a network have the parameters as `W` (features, 4 units), `U` (units, 4 units) and `b` (4 units,). The
    gates are in the order i, f, g, o. PyTorch has two vectors of biases, whose sum is b. The biases of the forget gate
    start at 1 (Jozefowicz et al., 2015).
    """

    type: ClassVar[str] = "lstm"
    gate_names: ClassVar[tuple[str, ...]] = ("i", "f", "g", "o")


def Bidirectional(layer: RecurrentLayer) -> RecurrentLayer:
    """Return a layer with two sets of units, which process the steps in both orders.

    Each step of the output contains the state of the first set, then that of the second set. With
    `return_sequences=False`, these are the states after the last step that each set processes.

    Parameters
    ----------
    layer : SimpleRNN, GRU or LSTM
        Layer that describes each set of units.

    Raises
    ------
    TypeError, ValueError
        `layer` is not a recurrent layer, is bidirectional already, or has `go_backwards`.

    Examples
    --------
    >>> from nnc.layers import GRU, Bidirectional
    >>> Bidirectional(GRU(6, return_sequences=True)).output_shape((40, 1))
    (40, 12)
    """
    if not isinstance(layer, RecurrentLayer):
        raise TypeError(f"layer must be a recurrent layer such as GRU(6), got {layer!r}")
    if layer.bidirectional or layer.go_backwards:
        raise ValueError(f"layer must not be bidirectional and must not have go_backwards, got {layer!r}")
    return layer.replace(bidirectional=True)
