"""Writer of ONNX models: standard operators of opset 17 in a file of IR version 8.

The input "X" has raw numbers, which the graph scales. Its shape is (n, n_in), or (n, height, width, channels) for
images, or (n, steps, features) for sequences, where `steps` may be variable. The outputs of a classifier are "label"
(n,) and "probabilities" (n, n_classes). Other networks have the output "output" (n, n_out), or (n, steps, n_out) with
outputs at each step.

Protocol buffer messages are encoded without the package onnx. Field numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import struct
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

from nnc._interop.program import (
    SCALE_SIGNS,
    Writer,
    build_program,
    join_titles,
    require_range,
    scale_functions,
    sequence_window,
)
from nnc._interop.protobuf import message, utf8
from nnc._registry import formulas
from nnc._version import __version__
from nnc.layers import operations as op

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nnc._interop.program import Program

    Value = tuple[str, str, tuple[int, ...]]  # name of an input or output, its element type, and the shape of one row

IR_VERSION, OPSET = 8, 17
MAX_MODEL_BYTES = 2**31 - 1  # maximum bytes of a protocol buffer message
FLOAT, INT, STRING, TENSOR, INTS, STRINGS = 1, 2, 3, 4, 7, 8  # values of the enumeration AttributeProto.AttributeType
# Permutations of axes for Transpose; SWAP_STEPS exchanges the steps and the features of sequences.
TO_CHANNELS_FIRST, TO_CHANNELS_LAST, SWAP_STEPS = [0, 3, 1, 2], [0, 2, 3, 1], [0, 2, 1]
# Values of the enumeration TensorProto.DataType by element type.
ELEMENT_TYPES = {"float32": 1, "int64": 7, "string": 8, "bool": 9, "float64": 11, "uint64": 13}
# Format characters of struct.pack by element type.
STRUCT_CODES = {"float32": "f", "int64": "q", "bool": "?", "float64": "d", "uint64": "Q"}

# Activations that ONNX has as one operator: name of the operator, its attributes, and whether float64 models may use
# the operator. Attributes have only the precision of float32, so float64 models may not use operators with fractional
# attributes.
OPERATORS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "sigmoid": ("Sigmoid", {}, True),
    "tanh": ("Tanh", {}, True),
    "relu": ("Relu", {}, True),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}, False),
    "identity": ("Identity", {}, True),
    "softplus": ("Softplus", {}, False),
    "elu": ("Elu", {"alpha": 1.0}, False),
    "softmax": ("Softmax", {"axis": 1}, True),
    "sin": ("Sin", {}, True),
    "exp": ("Exp", {}, True),
}
# For each recurrent layer: operator, and index of each gate of the operator among the gates of the layer.
RECURRENT = {"simple_rnn": ("RNN", [0]), "gru": ("GRU", [0, 1, 2]), "lstm": ("LSTM", [0, 3, 1, 2])}
CELL_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid"}  # supported activations of a SimpleRNN
# Additional activations that the reader supports as one operator: name of the operator, its attributes, and the first
# opset that has it. The writer does not use these operators, because they need a later opset or exist only in float32.
READ_OPERATORS: dict[str, tuple[str, dict[str, Any], int]] = {
    "selu": ("Selu", {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}, 1),
    "mish": ("Mish", {}, 18),
    "gelu": ("Gelu", {"approximate": "none"}, 20),
    "silu": ("Swish", {"alpha": 1.0}, 24),
}
# ONNX operators for the arithmetic signs and the functions in formulas.
SIGNS = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", ">": "Greater", ">=": "GreaterOrEqual", "<": "Less"}
SIGNS |= {"==": "Equal", "if": "Where"}
FUNCTIONS = {"missing": "IsNaN", "floor": "Floor", "sqrt": "Sqrt", "sin": "Sin", "min": "Min", "max": "Max"}
FUNCTIONS |= {"abs": "Abs", "erf": "Erf", "exp": "Exp", "log": "Log", "relu": "Relu", "sigmoid": "Sigmoid"}
FUNCTIONS |= {"softplus": "Softplus", "tanh": "Tanh"}
# Activations that are written as several operators. Each text is a formula of the net input z and of the variables that
# the previous texts define; the last text is the activation.
COMPOSED: dict[str, tuple[str, ...]] = {
    "leaky_relu": ("max(z * 0.01, z)",),
    "softplus": ("e = exp(-abs(z))", "relu(z) + log(e + 1)"),
    "elu": ("e = exp(min(z, 0))", "relu(z) + (e - 1)"),
    "silu": ("z * sigmoid(z)",),
    "gelu": ("phi = (erf(z * 0.7071067811865476) + 1) * 0.5", "z * phi"),
    "mish": ("e = exp(-abs(z))", "z * tanh(relu(z) + log(e + 1))"),
    "selu": (
        "e = exp(min(z, 0))",
        "low = (e - 1) * 1.7580993408473766",
        "relu(z) * 1.0507009873554805 + low",
    ),
}
# Formulas of activations in models of other exporters, which the reader recognizes and the writer does not use.
READ_COMPOSED = (
    ("softplus", ("log(exp(z) + 1)",)),
    ("mish", ("z * tanh(log(exp(z) + 1))",)),
    ("mish", ("z * tanh(softplus(z))",)),
)


def to_onnx(documents: Sequence[dict[str, Any]], dtype: str) -> bytes:
    """Return an ONNX model of a network or an ensemble.

    Parameters
    ----------
    documents : sequence of dict
        Validated document of each network. Several networks form an ensemble, which predicts their mean output.
    dtype : {"float64", "float32"}
        Element type of the input, the computation and the outputs.

    Raises
    ------
    ValueError
        A number is outside the range of `dtype`, or the model would be larger than 2 GiB.
    """
    programs = [build_program(document) for document in documents]
    check_size([program.operations for program in programs], dtype)
    graph = Graph(dtype)
    results = [graph.operations(program.operations, "X") for program in programs]
    mean = results[0] if len(results) == 1 else graph.node("Mean", *results)
    outputs = graph.outputs(programs[0], mean)
    title = join_titles(program.title for program in programs)
    return graph.model(title, ("X", dtype, programs[0].shape), outputs)


def check_size(networks: Iterable[Sequence[op.Operation]], dtype: str) -> None:
    """Raise ValueError if the parameters of all networks together do not fit into one ONNX file."""
    size = sum(map(_n_weights, chain(*networks))) * struct.calcsize(STRUCT_CODES[dtype])
    if size > MAX_MODEL_BYTES:
        raise ValueError(f"an ONNX file must be smaller than 2 GiB, got {size / 2**30:.1f} GiB of weights in {dtype}")


def _n_weights(operation: op.Operation) -> int:
    """Return the number of weights of an operation; 0 if it has no weights."""
    if isinstance(operation, op.Recur):
        return sum(len(part) * len(part[0]) for each in operation.directions for part in (each.W, each.U))
    if isinstance(operation, (op.MatMul, op.StepMatMul, op.Conv)):
        return len(operation.W) * len(operation.W[0])
    return 0


def _value(name: str, element_type: str, shape: Sequence[int]) -> bytes:
    """Encode the description of an input or output with a variable number of rows; None is a variable size."""
    dims = [message((2, "n")), *(message((2, "steps") if n is None else (1, n)) for n in shape)]
    tensor = message((1, ELEMENT_TYPES[element_type]), (2, message((1, dims))))
    return message((1, name), (2, message((1, tensor))))


class Graph(Writer):
    """Builder of an ONNX graph, which collects nodes and constant tensors.

    The methods refer to a value by its name, the name of the output of a node. Images and sequences are stored with
    channels first between convolutions and pools, and with channels last elsewhere. Operations of convolutions and
    pools treat sequences as images, between two Reshape operations; their nodes are one-dimensional.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.nodes: list[bytes] = []
        self.tensors: list[bytes] = []
        self.channels_are_first = False  # whether the current tensor has channels first
        self.is_sequence = False  # whether the rows of the current network are sequences

    def node(
        self, operator: str, *inputs: str, name: str | None = None, unused_output: str = "", **attributes: Any
    ) -> str:
        """Add a node to the graph, and return the name of its output.

        Parameters
        ----------
        operator : str
            Name of the ONNX operator.
        *inputs : str
            Names of the input values.
        name : str, optional
            Name of the output. Default: a new one.
        unused_output : {"", "first", "second"}
            Which of two outputs no node reads; "" if there is one output.
        **attributes
            Attributes of the operator.
        """
        name = name or f"{operator}_{len(self.nodes)}"
        outputs = {"": [name], "first": ["", name], "second": [name, f"{name}_unused"]}[unused_output]
        encoded = [_attribute(key, value) for key, value in attributes.items()]
        self.nodes.append(message((1, [*inputs]), (2, outputs), (3, name), (4, operator), (5, encoded)))
        return name

    def tensor(self, values: Sequence[Any], shape: Sequence[int], element_type: str | None = None) -> str:
        """Add a constant tensor to the graph, and return its name. Default element type: the dtype of the graph."""
        element_type, name = element_type or self.dtype, f"constant_{len(self.tensors)}"
        if element_type in ("float32", "float64"):
            require_range(values, element_type)
        if element_type == "string":
            content: tuple[int, Any] = (6, [utf8(value) for value in values])
        else:
            content = (9, struct.pack(f"<{len(values)}{STRUCT_CODES[element_type]}", *values))
        self.tensors.append(message((1, [*shape]), (2, ELEMENT_TYPES[element_type]), (8, name), content))
        return name

    def channels_first(self, value: str, first: bool = True) -> str:
        """Add a Transpose node if images or sequences have another order of axes; return the name of the result.

        The required order is channels first, or channels last if `first` is false.
        """
        if self.channels_are_first == first:
            return value
        self.channels_are_first = first
        perm = TO_CHANNELS_FIRST if first else TO_CHANNELS_LAST
        return self.node("Transpose", value, perm=SWAP_STEPS if self.is_sequence else perm)

    def model(
        self, title: str, input_value: Value, outputs: Sequence[Value], metadata: dict[str, str] | None = None
    ) -> bytes:
        """Return the content of an ONNX file with this graph.

        Parameters
        ----------
        title : str
            Name of the graph.
        input_value : Value
            Name, element type and shape of the input.
        outputs : sequence of Value
            Name, element type and shape of each output.
        metadata : dict of str, optional
            Additional texts by name, stored as metadata of the model.
        """
        graph = message(
            (1, self.nodes),
            (2, title),
            (5, self.tensors),
            (11, _value(*input_value)),
            (12, [_value(*output) for output in outputs]),
        )
        return message(
            (1, IR_VERSION),
            (2, "nnc"),
            (3, __version__),
            (7, graph),
            (8, message((1, ""), (2, OPSET))),
            (14, [message((1, key), (2, text)) for key, text in (metadata or {}).items()]),
        )

    # ------------------------------------------------------------------------------------------ nodes of operations

    def operations(self, operations: Sequence[op.Operation], value: str) -> str:
        """Add the nodes that apply the operations of a network to `value`, and return the name of the result."""
        self.channels_are_first, self.is_sequence = False, len(operations[0].input_shape) == 2
        for operation in operations:
            value = self.write(operation, value)
        return value

    def scale(self, operation: op.Scale, value: str) -> str:
        """Add nodes to the graph that compute the scaling (x - minus) * times + plus of `value`, called x."""
        n = len(operation.minus)
        if operation.is_by_element:
            value, shape = self.channels_first(value, False), operation.input_shape
        else:  # one number per channel, or a single number for all
            shape = (n, *[1] * (2 - self.is_sequence)) if self.channels_are_first else (n,)
        for function, numbers in scale_functions(operation, self.dtype):
            value = self.node(SIGNS[SCALE_SIGNS[function]], value, self.tensor(numbers, shape))
        return value

    def mat_mul(self, operation: op.MatMul, value: str) -> str:
        """Add a node to the graph that computes a dense layer without activation: x @ W + b."""
        W = self.tensor([number for row in operation.W for number in row], (len(operation.W), len(operation.W[0])))
        if operation.b is None:
            return self.node("MatMul", value, W)
        return self.node("Gemm", value, W, self.tensor(operation.b, (len(operation.b),)))

    def step_mat_mul(self, operation: op.StepMatMul, value: str) -> str:
        """Add the nodes of a dense layer for each step, without activation: x @ W + b."""
        W = self.tensor([number for row in operation.W for number in row], (len(operation.W), len(operation.W[0])))
        value = self.node("MatMul", self.channels_first(value, False), W)
        return value if operation.b is None else self.node("Add", value, self.tensor(operation.b, (len(operation.b),)))

    def recur(self, operation: op.Recur, value: str) -> str:
        """Add the nodes of a recurrent layer; the operator has the axis of steps before that of the rows."""
        operator, order = RECURRENT[operation.cell]
        directions, n = operation.directions, len(operation.directions)
        units, features = directions[0].units, len(directions[0].W)
        is_both = n == 2
        attributes: dict[str, Any] = {"hidden_size": units}
        attributes["direction"] = "bidirectional" if is_both else "reverse" if directions[0].reverse else "forward"
        if operation.cell == "simple_rnn":
            attributes["activations"] = [CELL_ACTIVATIONS[operation.activation]] * n
        if operation.cell == "gru":
            attributes["linear_before_reset"] = 1
        gates = [gate * units + unit for gate in order for unit in range(units)]

        def columns(rows: Sequence[Sequence[float]]) -> list[float]:
            """Return the columns of a matrix one after the other, with the gates in the order of the operator."""
            return [row[i] for i in gates for row in rows]

        size = len(gates)
        W = self.tensor([number for part in directions for number in columns(part.W)], (n, size, features))
        U = self.tensor([number for part in directions for number in columns(part.U)], (n, size, units))
        inputs = [self.node("Transpose", self.channels_first(value, False), perm=[1, 0, 2]), W, U]
        if directions[0].b is not None:  # append a bias of zeros for U, because ONNX requires biases for W and U
            zeros = [[0.0] * size]
            biases = [(*(part.b or ()), *zeros)[:2] for part in directions]
            numbers = [row[i] for rows in biases for row in rows for i in gates]
            inputs.append(self.tensor(numbers, (n, 2 * size)))
        if operation.sequences:  # (steps, directions, rows, units) becomes (rows, steps, directions * units)
            value = self.node("Transpose", self.node(operator, *inputs, **attributes), perm=[2, 0, 1, 3])
            shape = [0, 0, n * units]
        else:  # (directions, rows, units) becomes (rows, directions * units)
            states = self.node(operator, *inputs, unused_output="first", **attributes)
            value, shape = self.node("Transpose", states, perm=[1, 0, 2]), [0, n * units]
        return self.node("Reshape", value, self.tensor(shape, (len(shape),), "int64"))

    def conv(self, operation: op.Conv, value: str) -> str:
        """Add a Conv node to the graph, and return the name of its output."""
        channels, filters = operation.input_shape[2], operation.output_shape[2]
        sizes, strides, pads, dilations = [*operation.window], [*operation.stride], [*operation.pad], [1, 1]
        if self.is_sequence:
            size, stride, dilation, *pads = sequence_window(operation)
            sizes, strides, dilations = [size], [stride], [dilation]
        pixels = range(0, len(operation.W), channels)
        W = [operation.W[pixel + c][f] for f in range(filters) for c in range(channels) for pixel in pixels]
        inputs = [self.tensor(W, (filters, channels, *sizes))]
        if operation.b is not None:
            inputs.append(self.tensor(operation.b, (filters,)))
        attributes: dict[str, Any] = {"kernel_shape": sizes, "strides": strides, "pads": pads, "dilations": dilations}
        return self.node("Conv", self.channels_first(value), *inputs, **attributes)

    def pool(self, operation: op.MaxPool | op.AvgPool, value: str) -> str:
        """Add a MaxPool or AveragePool node to the graph, and return the name of its output."""
        operator = "MaxPool" if isinstance(operation, op.MaxPool) else "AveragePool"
        size, stride = ([*part][self.is_sequence :] for part in (operation.window, operation.stride))
        return self.node(operator, self.channels_first(value), kernel_shape=size, strides=stride)

    def flatten(self, operation: op.Flatten, value: str) -> str:
        """Add the Flatten node that converts images to vectors in the order of height, width and channel."""
        return self.node("Flatten", self.channels_first(value, False), axis=1)

    def reshape(self, operation: op.Reshape, value: str) -> str:
        """Add a Flatten node to the graph if the output is a vector; otherwise sequences remain unchanged."""
        if len(operation.output_shape) > 1:
            return value
        self.channels_are_first = False  # only one step remains after a global pool, so no Transpose is needed
        return self.node("Flatten", value, axis=1)

    def activate(self, operation: op.Activate, value: str) -> str:
        """Add one node to the graph for an activation, or several if ONNX has no suitable operator for it."""
        operator, attributes, is_exact = OPERATORS.get(operation.name, ("", {}, False))
        if operation.name == "softmax":
            attributes = {"axis": len(operation.input_shape)}
        if operator and (is_exact or self.dtype == "float32"):
            return self.node(operator, value, **attributes)
        return self.composed(COMPOSED[operation.name], value)

    def sort(self, operation: op.Sort, value: str) -> str:
        """Add nodes to the graph that sort the predicted quantiles of each target."""
        n = prod(operation.output_shape) // operation.groups
        return self.node("Flatten", self.sorted_groups(value, operation.groups, n), axis=1)

    def sorted_groups(self, value: str, groups: int, n: int) -> str:
        """Add the nodes that reshape each row to an array (groups, n) and sort this array along its first axis.

        Return the name of the result, which has the shape (rows, groups, n).
        """
        value = self.node("Reshape", value, self.tensor([-1, groups, n], (3,), "int64"))
        count = self.tensor([groups], (1,), "int64")
        return self.node("TopK", value, count, axis=1, largest=0, unused_output="second")

    def number(self, value: float) -> str:
        """Add a constant scalar tensor to the graph, and return its name."""
        return self.tensor([value], ())

    def composed(self, formulas_of_z: Sequence[str], z: str) -> str:
        """Add the nodes of an activation in `COMPOSED` for the value named `z`, and return the name of the result."""
        names = {"z": z}
        for text in formulas_of_z:
            name, _, formula = text.rpartition(" = ")
            names[name] = self.formula(formula, names)
        return names[""]

    def formula(self, text: str, names: dict[str, str]) -> str:
        """Add the nodes that compute a formula, and return the name of the result.

        `names` maps each variable of the formula to the name of a value.
        """
        return formulas.translate(
            text,
            name=names.__getitem__,
            number=self.number,
            operator=lambda sign, *operands: self.node("Neg" if len(operands) == 1 else SIGNS[sign], *operands),
            call=self.call,
        )

    def call(self, function: str, *arguments: str) -> str:
        """Add a node to the graph for a function call in a formula, and return the name of its output."""
        if function == "sum":
            return self.node("ReduceSum", *arguments, self.tensor([1], (1,), "int64"), keepdims=1)
        return self.node(FUNCTIONS[function], *arguments)

    # ------------------------------------------------------------------------------------------ outputs of the graph

    def outputs(self, program: Program, value: str) -> list[Value]:
        """Add the nodes of the graph's outputs, and return the descriptions of these outputs.

        `value` is the name of the tensor with the outputs of the network.
        """
        shape = program.output_shape
        if program.task == "regression":
            self.node("Identity", value, name="output")
            return [("output", self.dtype, shape)]
        label_shape = shape
        if program.task == "multiclass":
            index = self.node("ArgMax", value, axis=len(shape), keepdims=0)
            label_shape = shape[:-1]
        else:
            index = self.node("GreaterOrEqual", value, self.number(program.threshold))
            index = self.node("Cast", index, to=ELEMENT_TYPES["int64"])
            if program.task == "binary":
                index = self.node("Reshape", index, self.tensor([-1], (1,), "int64"))
                label_shape = ()
        element_type = "int64"
        labels = program.labels
        labels_are_indices = type(labels[0]) is int and labels == tuple(range(len(labels)))
        if program.task == "multilabel" or labels_are_indices:
            self.node("Identity", index, name="label")
        else:
            element_type = _label_type(labels)
            self.node("Gather", self.tensor(labels, (len(labels),), element_type), index, name="label")
        label = ("label", element_type, label_shape)
        name = "probabilities" if program.has_probabilities else "output"
        if program.has_probabilities and program.task == "binary":
            shape = (2,)
            self.node("Concat", self.node("Sub", self.number(1.0), value), value, name=name, axis=1)
        else:
            self.node("Identity", value, name=name)
        return [label, (name, self.dtype, shape)]


def _label_type(labels: Sequence[Any]) -> str:
    """Return the ONNX element type of a tensor of class labels."""
    if type(labels[0]) is int:
        return "uint64" if max(labels) >= 2**63 else "int64"
    return {str: "string", bool: "bool", float: "float64"}[type(labels[0])]


def _attribute(name: str, value: Any) -> bytes:
    """Encode an attribute: a list of integers or texts, a text, a float or an integer."""
    if isinstance(value, list) and isinstance(value[0], str):
        return message((1, name), (9, value), (20, STRINGS))
    if isinstance(value, str):
        return message((1, name), (4, value), (20, STRING))
    if isinstance(value, list):
        return message((1, name), (8, value), (20, INTS))
    if isinstance(value, float):
        return message((1, name), (2, value), (20, FLOAT))
    return message((1, name), (3, value), (20, INT))
