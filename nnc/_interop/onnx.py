"""Networks as ONNX models: standard operators of opset 17, in a file of IR version 8 that is written by hand.

Input "X" (n, n_in), or (n, height, width, channels) of images, raw: what is scaled is scaled in the graph. Outputs of a
classifier "label" (n,) and "probabilities" (n, n_classes), of other networks "output" (n, n_out).

Numbers of fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import struct
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

from nnc._interop.program import SCALE_SIGNS, Writer, in_range, program, scale_steps
from nnc._interop.protobuf import message, utf8
from nnc._registry import formulas
from nnc._version import __version__
from nnc.layers import operations as op

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nnc._interop.program import Program

    Value = tuple[str, str, tuple[int, ...]]  # name, kind and shape of a row of what goes in, or comes out

IR_VERSION, OPSET = 8, 17
LARGEST = 2**31 - 1  # bytes: protocol buffers end there
FLOAT, INT, TENSOR, INTS = 1, 2, 4, 7  # kinds of attributes
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # channels, as Transpose puts them
KINDS = {"float32": 1, "int64": 7, "string": 8, "bool": 9, "float64": 11, "uint64": 13}  # of tensors
CODES = {"float32": "f", "int64": "q", "bool": "?", "float64": "d", "uint64": "Q"}

# Activations that are an operator, its attributes, and whether it is there, and exact, in float64, too.
OPERATORS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "sigmoid": ("Sigmoid", {}, True),
    "tanh": ("Tanh", {}, True),
    "relu": ("Relu", {}, True),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}, False),
    "identity": ("Identity", {}, True),
    "softplus": ("Softplus", {}, False),
    "elu": ("Elu", {"alpha": 1.0}, False),
    "softmax": ("Softmax", {"axis": 1}, True),
    "exp": ("Exp", {}, True),
}
# Operators that are read but not written, because they need a later version of the standard, or exist only in float32:
# operator, attributes, and the first opset that has it.
READ_OPERATORS: dict[str, tuple[str, dict[str, Any], int]] = {
    "selu": ("Selu", {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}, 1),
    "mish": ("Mish", {}, 18),
    "gelu": ("Gelu", {"approximate": b"none"}, 20),
    "silu": ("Swish", {"alpha": 1.0}, 24),
}
# Formulas are written with these operators for their signs and functions.
SIGNS = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", ">": "Greater", ">=": "GreaterOrEqual", "<": "Less"}
SIGNS |= {"==": "Equal", "if": "Where"}
FUNCTIONS = {"missing": "IsNaN", "floor": "Floor", "sqrt": "Sqrt", "sin": "Sin", "min": "Min", "max": "Max"}
FUNCTIONS |= {"abs": "Abs", "erf": "Erf", "exp": "Exp", "log": "Log", "relu": "Relu", "sigmoid": "Sigmoid"}
FUNCTIONS |= {"softplus": "Softplus", "tanh": "Tanh"}
# These activations take several operators: each text is a formula of z and of the names that earlier texts define.
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
# Activations as other exporters compose them; they are read but not written.
READ_COMPOSED = (
    ("softplus", ("log(exp(z) + 1)",)),
    ("mish", ("z * tanh(log(exp(z) + 1))",)),
    ("mish", ("z * tanh(softplus(z))",)),
)


def to_onnx(documents: Sequence[dict[str, Any]], dtype: str) -> bytes:
    """The ONNX model of a checked document; of several, the networks of an ensemble, that of the mean of their outputs.

    Parameters
    ----------
    documents : sequence of dict
        With the same inputs and outputs.
    dtype : str
        "float64" or "float32": of the input, the arithmetic and the outputs.

    Raises
    ------
    ValueError
        A number is out of the range of dtype, the model would have more than 2 GiB, or it has a kind of layer that
        cannot be written.
    """
    programs = [program(document) for document in documents]
    check_size([made.operations for made in programs], dtype)
    graph = Graph(dtype)
    ends = [graph.operations(made.operations, "X") for made in programs]
    made = programs[0]
    outputs = graph.answer(made, ends[0] if len(ends) == 1 else graph.node("Mean", *ends))
    title = ", ".join(dict.fromkeys(made.title for made in programs))
    return graph.model(title, ("X", dtype, made.shape), outputs)


def check_size(networks: Iterable[Sequence[op.Operation]], dtype: str) -> None:
    """ValueError where all their parameters do not fit into a file."""
    size = sum(map(_numbers, chain(*networks))) * struct.calcsize(CODES[dtype])
    if size > LARGEST:
        raise ValueError(
            f"an ONNX file holds 2 GiB at most, this network has {size / 2**30:.1f} GiB of parameters in {dtype}"
        )


def _numbers(step: op.Operation) -> int:
    """How many parameters an operation has."""
    return len(step.W) * len(step.W[0]) if isinstance(step, (op.MatMul, op.Conv)) else 0


def _value(name: str, kind: str, shape: Sequence[int]) -> bytes:
    """What a graph says of an input or an output, whose number of rows is left open."""
    dims = [message((2, "n")), *(message((1, n)) for n in shape)]
    tensor = message((1, KINDS[kind]), (2, message((1, dims))))
    return message((1, name), (2, message((1, tensor))))


class Graph(Writer):
    """Nodes and constant tensors, as they are added. Each node has one output, by whose name it goes."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.nodes: list[bytes] = []
        self.tensors: list[bytes] = []
        self.image = False  # whether the last output is an image, channels first

    def node(self, operator: str, *inputs: str, name: str | None = None, also: str = "", **attributes: Any) -> str:
        """Adds a node; the name of its output. `also` is a second output, which nobody needs."""
        name = name or f"{operator}_{len(self.nodes)}"
        made = [_attribute(key, value) for key, value in attributes.items()]
        self.nodes.append(
            message((1, [*inputs]), (2, [name, also] if also else name), (3, name), (4, operator), (5, made))
        )
        return name

    def tensor(self, values: Sequence[Any], shape: Sequence[int], kind: str | None = None) -> str:
        """Adds a constant; its name."""
        kind, name = kind or self.dtype, f"constant_{len(self.tensors)}"
        if kind in ("float32", "float64"):
            in_range(values, kind)
        if kind == "string":
            content: tuple[int, Any] = (6, [utf8(value) for value in values])
        else:
            content = (9, struct.pack(f"<{len(values)}{CODES[kind]}", *values))
        self.tensors.append(message((1, [*shape]), (2, KINDS[kind]), (8, name), content))
        return name

    def channels_first(self, at: str, images: bool = True) -> str:
        """An image as operators want it, channels first, or as all else does, channels last."""
        if self.image == images:
            return at
        self.image = images
        return self.node("Transpose", at, perm=FIRST if images else LAST)

    def model(
        self, title: str, given: Value, outputs: Sequence[Value], metadata: dict[str, str] | None = None
    ) -> bytes:
        """The file: what goes in, what comes out, and texts by their names."""
        whole = message(
            (1, self.nodes),
            (2, title),
            (5, self.tensors),
            (11, _value(*given)),
            (12, [_value(*out) for out in outputs]),
        )
        return message(
            (1, IR_VERSION),
            (2, "nnc"),
            (3, __version__),
            (7, whole),
            (8, message((1, ""), (2, OPSET))),
            (14, [message((1, key), (2, text)) for key, text in (metadata or {}).items()]),
        )

    # ------------------------------------------------------------------------------------------ operations

    def operations(self, steps: Iterable[op.Operation], at: str) -> str:
        """Adds those of a network, of what goes by the name `at`; the name of what comes out."""
        self.image = False
        for step in steps:
            at = self.write(step, at)
        return at

    def scale(self, step: op.Scale, at: str) -> str:
        """(x - minus) * times + plus."""
        n = len(step.minus)
        if n == prod(step.below):
            at, shape = self.channels_first(at, False), step.below
        else:  # a number for every channel, or one for all
            shape = (n, 1, 1) if self.image else (n,)
        for what, numbers in scale_steps(step, self.dtype):
            at = self.node(SIGNS[SCALE_SIGNS[what]], at, self.tensor(numbers, shape))
        return at

    def mat_mul(self, step: op.MatMul, at: str) -> str:
        """x @ W + b."""
        W = self.tensor([number for row in step.W for number in row], (len(step.W), len(step.W[0])))
        if step.b is None:
            return self.node("MatMul", at, W)
        return self.node("Gemm", at, W, self.tensor(step.b, (len(step.b),)))

    def conv(self, step: op.Conv, at: str) -> str:
        """The cross-correlation."""
        (height, width), channels, filters = step.window, step.below[2], step.out[2]
        pixels = range(0, len(step.W), channels)
        W = [step.W[pixel + c][f] for f in range(filters) for c in range(channels) for pixel in pixels]
        inputs = [self.tensor(W, (filters, channels, height, width))]
        if step.b is not None:
            inputs.append(self.tensor(step.b, (filters,)))
        at = self.channels_first(at)
        size, stride, pad = [*step.window], [*step.stride], [*step.pad]
        return self.node("Conv", at, *inputs, kernel_shape=size, strides=stride, pads=pad)

    def pool(self, step: op.MaxPool | op.AvgPool, at: str) -> str:
        """Add the node of a max-pool or an average pool; return the name of its output."""
        operator = "MaxPool" if isinstance(step, op.MaxPool) else "AveragePool"
        return self.node(operator, self.channels_first(at), kernel_shape=[*step.window], strides=[*step.stride])

    def flatten(self, step: op.Flatten, at: str) -> str:
        """Height, width, channel in a row."""
        return self.node("Flatten", self.channels_first(at, False), axis=1)

    def activate(self, step: op.Activate, at: str) -> str:
        """An operator, or what it is composed of: in float64 no attribute may have digits, for it has only those of
        float32, and runtimes have few operators."""
        operator, attributes, exact = OPERATORS.get(step.name, ("", {}, False))
        if operator and (exact or self.dtype == "float32"):
            return self.node(operator, at, **attributes)
        if step.name not in COMPOSED:
            raise ValueError(f"the activation {step.name!r} cannot be written as ONNX")
        return self.composed(COMPOSED[step.name], at)

    def number(self, value: float) -> str:
        """Adds a constant that is one number."""
        return self.tensor([value], ())

    def composed(self, steps: Sequence[str], z: str) -> str:
        """Add the nodes of an activation in `COMPOSED`, whose input is named `z`; return the name of the result."""
        names = {"z": z}
        for step in steps:
            name, _, formula = step.rpartition(" = ")
            names[name] = self.formula(formula, names)
        return names[""]

    def formula(self, text: str, names: dict[str, str]) -> str:
        """Add the nodes of a formula whose variables are the outputs in `names`; return the name of the result."""
        return formulas.folded(
            text,
            name=names.__getitem__,
            number=self.number,
            operator=lambda sign, *of: self.node("Neg" if len(of) == 1 else SIGNS[sign], *of),
            call=self.call,
        )

    def call(self, function: str, *of: str) -> str:
        """Add the node of a function of a formula; return the name of the result."""
        if function == "sum":
            return self.node("ReduceSum", *of, self.tensor([1], (1,), "int64"), keepdims=1)
        return self.node(FUNCTIONS[function], *of)

    # ------------------------------------------------------------------------------------------ what it means

    def answer(self, made: Program, at: str) -> list[Value]:
        """Adds what outputs mean; name, kind and shape of a row of each output of the graph."""
        if made.answer == "numbers":
            self.node("Identity", at, name="output")
            return [("output", self.dtype, (made.n_out,))]
        yes: tuple[int, ...] = (made.n_out,)
        if made.answer == "one":
            index = self.node("ArgMax", at, axis=1, keepdims=0)
            yes = ()
        else:
            index = self.node("GreaterOrEqual", at, self.number(made.threshold))
            index = self.node("Cast", index, to=KINDS["int64"])
            if made.answer == "yes":
                index = self.node("Reshape", index, self.tensor([-1], (1,), "int64"))
                yes = ()
        kind = "int64"
        numbered = type(made.labels[0]) is int and made.labels == tuple(range(len(made.labels)))
        if made.answer == "each" or numbered:
            self.node("Identity", index, name="label")
        else:
            kind = _kind_of(made.labels)
            self.node("Gather", self.tensor(made.labels, (len(made.labels),), kind), index, name="label")
        label = ("label", kind, yes)
        name, n = "probabilities" if made.probabilities else "output", made.n_out
        if made.probabilities and made.answer == "yes":
            n = 2
            self.node("Concat", self.node("Sub", self.number(1.0), at), at, name=name, axis=1)
        else:
            self.node("Identity", at, name=name)
        return [label, (name, self.dtype, (n,))]


def _kind_of(labels: Sequence[Any]) -> str:
    """The kind of a tensor that holds labels."""
    if type(labels[0]) is int:
        return "uint64" if max(labels) >= 2**63 else "int64"
    return {str: "string", bool: "bool", float: "float64"}[type(labels[0])]


def _attribute(name: str, value: Any) -> bytes:
    if isinstance(value, list):
        return message((1, name), (8, value), (20, INTS))
    if isinstance(value, float):
        return message((1, name), (2, value), (20, FLOAT))
    return message((1, name), (3, value), (20, INT))
