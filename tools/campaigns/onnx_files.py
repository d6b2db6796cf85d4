"""Pass damaged and unusual ONNX files to `nnc.from_onnx`.

    python tools/campaigns/onnx_files.py --files 100000

The original files come from `to_onnx`, from tests/models and from random graphs, some of which contain unsupported
operators and attributes. Bytes are flipped, deleted, repeated or copied from another file. Fields are changed:
attributes, dimensions, types, operators, inputs, outputs and versions. Each file must be read or raise an OSError. A
finding is

- any other exception or warning,
- a file for which nnc/_interop executes more than MAX_LINES lines of Python plus MAX_LINES_PER_BYTE for each byte,
- a file for which tracemalloc counts more than 64 MiB in addition to the size of the file,
- a network whose outputs or labels differ from those of the reference evaluator of onnx.

The same --seed gives the same files. The campaign prints findings and counts, and exits with status 1 if there are
findings. It needs onnx.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import tracemalloc
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import nnc
from nnc import NeuralNetwork
from nnc._interop.verify_onnx import exact_operators
from nnc.layers import AvgPool2D, BatchNorm, Conv2D, Dense, Flatten, GlobalAvgPool2D, Input, MaxPool2D

MAX_LINES_PER_BYTE = 100  # the reader may execute this many lines of Python for each byte of a file
MAX_LINES = 20_000  # the reader may execute this many lines of Python for an empty file
MAX_BYTES = 2**26  # the reader may allocate this much memory in addition to the size of the file
MAX_VERIFIED_INPUTS = 20_000  # do not compare outputs for more inputs, since long sums in float32 lose too many digits
READER_FOLDER = str(Path(nnc.__file__).parent / "_interop")
MODELS_FOLDER = Path(__file__).parents[2] / "tests" / "models"
DTYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
OPSETS = [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24]
N_ROWS = 4
UNSUPPORTED_ACTIVATIONS = [
    "Abs",
    "Celu",
    "Clip",
    "Erf",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "LogSoftmax",
    "Neg",
    "Softsign",
]

# ------------------------------------------------------------------------------------------------ random graphs


class Graph:
    """Random graph that is evaluated node by node while it is built.

    Parameters
    ----------
    choose : random.Random
        Source of all choices.

    Attributes
    ----------
    model : onnx.ModelProto
        The finished model.
    X : array
        Rows of inputs.
    expected : array
        First output for these rows.
    """

    def __init__(self, choose: random.Random) -> None:
        self.choose = choose
        self.dtype = choose.choice(["float32", "float32", "float64"])
        # Fraction of the choices for which an unusual value is drawn, which nnc may reject.
        self.unusual_fraction = choose.choice([0.0, 0.0, 0.1])
        self.opset = self.pick(OPSETS, [6])
        self.numbers = np.random.default_rng(choose.getrandbits(32))
        images = choose.random() < 0.5
        dims = (2, 6, 5) if images else (choose.randint(1, 5),)
        self.X = self.numbers.normal(0, 1, (N_ROWS, *dims)).astype(self.dtype)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.values: dict[str, np.ndarray] = {"X": self.X}
        self.current = "X"  # name of the tensor that the next node takes
        self.history = ["X"]
        if images and choose.random() < 0.3:
            self.add("Transpose", perm=self.pick([[0, 3, 1, 2]], [[0, 2, 3, 1], [0, 1, 3, 2]]))
        for _ in range(choose.randint(1, 6)):
            if self.value.ndim not in (2, 4):
                break
            step = choose.choice(IMAGE_STEPS if self.value.ndim == 4 else ROW_STEPS)
            step(self)
        if choose.random() < 0.9:
            self.add_output_layer()
        self.model = self.build_model()
        self.expected = self.value

    def pick(self, usual, unusual):
        """Choose one of the usual values, or sometimes one of the unusual values that nnc may reject."""
        return self.choose.choice(unusual if self.choose.random() < self.unusual_fraction else usual)

    @property
    def value(self) -> np.ndarray:
        """Return the tensor that the next node takes."""
        return self.values[self.current]

    def constant(self, array, dtype=None) -> str:
        """Add a constant and return its name."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype or self.value.dtype)
        return name

    def weights(self, *shape) -> str:
        """Add a constant of random numbers and return its name."""
        return self.constant(self.numbers.normal(0, 0.7, shape) + 0.05)

    def add(self, operator, *others, first=None, outputs=1, domain="", **attributes) -> bool:
        """Add a node unless onnx cannot evaluate it; return whether it was added.

        Inputs are the current tensor (or `first`) and `others`.
        """
        inputs = [self.current if first is None else first, *others]
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        attributes = {name: value for name, value in attributes.items() if value is not None}
        node = helper.make_node(operator, inputs, names, domain=domain, **attributes)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tensors = self.evaluate([node], names)
        except Exception:
            return False
        if not isinstance(tensors[0], np.ndarray) or tensors[0].size == 0 or tensors[0].size > 10_000:
            return False
        self.nodes.append(node)
        self.values.update({name: array for name, array in zip(names, tensors, strict=True) if array is not None})
        self.current = names[0]
        self.history.append(self.current)
        return True

    def evaluate(self, nodes, names) -> list:
        """Return the tensors of these names that nodes compute, by the reference evaluator of onnx."""
        tensors_by_name = {**self.values, **self.constants}
        used = {name for node in nodes for name in node.input if name}
        inputs = [helper.make_tensor_value_info(name, element_type(tensors_by_name[name]), None) for name in used]
        outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in names]
        graph = helper.make_graph(nodes, "g", inputs, outputs)
        model = helper.make_model(graph, opset_imports=self.opsets(), ir_version=8)
        return ReferenceEvaluator(model, new_ops=exact_operators(self.opset)).run(
            None, {name: tensors_by_name[name] for name in used}
        )

    def opsets(self) -> list:
        """Return the operator sets that the model imports."""
        return [helper.make_opsetid("", self.opset), helper.make_opsetid("ai.onnx.ml", 3)]

    def add_output_layer(self) -> None:
        """Add a dense layer at the end, sometimes with an activation."""
        if self.value.ndim == 4:
            if self.choose.random() < 0.5:
                self.add("GlobalAveragePool")
            self.add("Flatten", axis=1)
        if self.value.ndim == 2 and self.value.dtype.kind == "f":
            dense(self)
            if self.choose.random() < 0.5:
                self.add(self.choose.choice(["Softmax", "Sigmoid", "Tanh", "Relu"]))

    def build_model(self) -> onnx.ModelProto:
        """Return the model, sometimes with a second output or with a fixed number of rows."""
        rows = self.choose.choice(["n", "n", "n", N_ROWS])
        outputs = [self.current]
        if self.choose.random() < 0.1:
            outputs.append(self.choose.choice(self.history[1:] or ["X"]))
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("X", DTYPES[self.dtype], [rows, *self.X.shape[1:]])],
            [
                helper.make_tensor_value_info(name, element_type(self.values[name]), None)
                for name in dict.fromkeys(outputs)
            ],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=self.opsets(), ir_version=self.choose.choice([7, 8, 9, 10]))


def element_type(array) -> int:
    """Return the number by which onnx identifies the dtype of an array."""
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def dense(graph) -> None:
    """Add a matrix product, sometimes with a bias."""
    choose, n, m = graph.choose, graph.value.shape[-1], graph.choose.randint(1, 4)
    if choose.random() < 0.4:
        if graph.add("MatMul", graph.weights(n, m)) and choose.random() < 0.5:
            graph.add("Add", graph.weights(*graph.pick([(m,), (1, m), (), (1,)], [(N_ROWS, 1)])))
        return
    transposed = choose.randint(0, 1)
    shape = graph.pick([(m,), (1, m), (), (1, 1)], [(N_ROWS, m), (N_ROWS, 1)])
    others = [graph.weights(*((m, n) if transposed else (n, m)))]
    if choose.random() < 0.8 or graph.opset < 11:
        others.append(graph.weights(*shape))
    alpha, beta = choose.choice([None, 0.5]), choose.choice([None, 2.0])
    graph.add("Gemm", *others, transB=transposed, transA=graph.pick([None, 0], [1]), alpha=alpha, beta=beta)


def activation(graph) -> None:
    """Add an activation operator, with supported or unsupported attributes."""
    name, options = graph.pick(
        [
            ("Relu", {}), ("Sigmoid", {}), ("Tanh", {}), ("Softplus", {}), ("Mish", {}), ("Exp", {}),
            ("LeakyRelu", {"alpha": ([None, 0.01], [0.2])}), ("Elu", {"alpha": ([None, 1.0], [0.5])}),
            ("Selu", {"alpha": ([None], [1.5]), "gamma": ([None], [1.0])}), ("Swish", {"alpha": ([None, 1.0], [2.0])}),
            ("Gelu", {"approximate": ([None, "none"], ["tanh"])}), ("Softmax", {"axis": ([None, 1, -1], [0])}),
        ],
        [(name, {}) for name in UNSUPPORTED_ACTIVATIONS],
    )  # fmt: skip
    graph.add(name, **{option: graph.pick(*values) for option, values in options.items()})


def composed_activation(graph) -> None:
    """Add an activation that consists of several operators, or a similar combination of operators."""
    x, choose = graph.current, graph.choose

    def c(value):
        return graph.constant(value)

    variant = graph.pick(["silu", "gelu", "leaky_relu", "softplus", "scaled silu"], ["residual", "square", "max"])
    if variant == "silu" and graph.add("Sigmoid"):
        graph.add("Mul", graph.current, first=x)
    elif variant == "gelu" and graph.add("Div", c(np.sqrt(2))) and graph.add("Erf"):
        graph.add("Add", c(graph.pick([1.0], [0.9])))
        graph.add("Mul", x)
        graph.add("Mul", c(0.5))
    elif variant == "leaky_relu" and graph.add("Mul", c(graph.pick([0.01], [0.02]))):
        graph.add("Max", x)
    elif variant == "softplus" and graph.add("Exp") and graph.add("Add", c(1.0)) and graph.add("Log"):
        if choose.random() < 0.5 and graph.add("Tanh"):
            graph.add("Mul", x)
    elif variant == "residual":
        graph.add(choose.choice(["Add", "Mul", "Sub", "Max", "Div"]), choose.choice(graph.history))
    elif variant == "square" and graph.add("Relu"):
        graph.add("Mul", graph.current)
    elif variant == "max":
        graph.add(choose.choice(["Max", "Min"]), c(0.0))
    elif variant == "scaled silu" and graph.add("Mul", c(2.0)):
        y = graph.current
        if graph.add("Sigmoid"):
            graph.add("Mul", graph.pick([y], [x]))


def affine(graph) -> None:
    """Add or multiply a constant of any shape that onnx broadcasts."""
    choose, shape = graph.choose, graph.value.shape
    dims = [choose.choice([1, n]) for n in (graph.pick([1], [N_ROWS]), *shape[1:])]
    if graph.value.ndim == 4:
        dims = graph.pick([[1, shape[1], 1, 1]], [dims, [1, 1, 1, shape[3]]])
    dims = dims[choose.choice([0, 1]) if dims[0] == 1 else 0 :]
    operator, name = choose.choice(["Add", "Sub", "Mul", "Div"]), graph.weights(*dims)
    if graph.pick([False], [True]):
        graph.add(operator, graph.current, first=name)
    else:
        graph.add(operator, name)


def batch_norm(graph) -> None:
    """Add a BatchNormalization, sometimes in training mode."""
    choose, n = graph.choose, graph.value.shape[1]
    variance = graph.constant(graph.numbers.uniform(0.5, 2, n))
    training = graph.pick([None, 0], [1]) if graph.opset >= 14 else None
    outputs = 3 if training and choose.random() < 0.5 else 1
    constants = [graph.weights(n) for _ in range(3)]
    graph.add(
        "BatchNormalization", *constants, variance,
        epsilon=choose.choice([None, 1e-3]), training_mode=training, outputs=outputs,
    )  # fmt: skip


def conversion(graph) -> None:
    """Add an operator that changes nothing, or only type or shape."""
    value, size = graph.value, int(np.prod(graph.value.shape[1:]))
    usual = ["identity", "cast", "dropout", "reshape", "flatten" if value.ndim == 2 else "identity"]
    variant = graph.pick(usual, ["transpose", "squeeze", "concat", "gather", "flatten"])
    if variant == "identity":
        graph.add("Identity")
    elif variant == "cast":
        to = graph.pick([TensorProto.FLOAT, TensorProto.DOUBLE], [TensorProto.INT64, TensorProto.FLOAT16])
        if graph.add("Cast", to=to) and graph.value.dtype.kind != "f":
            graph.add("Cast", to=DTYPES[graph.dtype])
    elif variant == "flatten":
        graph.add("Flatten", axis=graph.pick([None, 1], [0, -1, 2]))
    elif variant == "reshape":
        usual = [[0, -1], [-1, size], [0, size]] if value.ndim == 2 else [[0, *value.shape[1:]], [0, 0, 0, -1]]
        unusual = [[N_ROWS, -1], [N_ROWS, size], [1, -1], [0, 0, -1], [-1, 1], [-1], [size, -1]]
        target = graph.constant(graph.pick(usual, unusual), "int64")
        graph.add("Reshape", target, allowzero=graph.pick([None, 0], [1]) if graph.opset >= 14 else None)
    elif variant == "transpose":
        graph.add(
            "Transpose", perm=graph.choose.choice([[0, 2, 3, 1], [0, 3, 1, 2]] if value.ndim == 4 else [None, [0, 1]])
        )
    elif variant == "squeeze":
        axes, operator = graph.choose.choice([[2, 3], [1], [-1], [0]]), graph.choose.choice(["Squeeze", "Unsqueeze"])
        if graph.opset < 13:
            graph.add(operator, axes=axes)
        else:
            graph.add(operator, graph.constant(axes, "int64"))
    elif variant == "dropout":
        training = graph.pick([[], ["", graph.constant(False, bool)]], [["", graph.constant(True, bool)]])
        graph.add("Dropout", *(training if graph.opset >= 12 else []))
    elif variant == "concat":
        graph.add("Concat", graph.current, axis=graph.choose.choice([0, 1]))
    elif variant == "gather":
        graph.add("Gather", graph.constant([0, 0], "int64"), axis=1)


def conv(graph) -> None:
    """Add a convolution with random attributes."""
    choose, channels = graph.choose, graph.value.shape[1]
    group = graph.pick([1], [2]) if channels == 2 else 1
    filters, size = 2 * choose.randint(1, 2), [choose.randint(1, 3), choose.randint(1, 3)]
    bias = [graph.weights(filters)] if choose.random() < 0.6 else []
    same_padding = [(size[0] - 1) // 2, (size[1] - 1) // 2, size[0] // 2, size[1] // 2]
    options = window_attributes(graph, size, [None, [0] * 4, same_padding]) | {
        "kernel_shape": choose.choice([size, None])
    }
    graph.add("Conv", graph.weights(filters, channels // group, *size), *bias, group=group, **options)


def window_attributes(graph, size, pads) -> dict:
    """Return random attributes of a convolution or pool; `pads` lists the usual paddings."""
    choose = graph.choose
    chosen = graph.pick(pads, [[choose.choice([0, 0, 1]) for _ in range(4)]])
    usual = ["VALID", "NOTSET"] if pads[-1] == pads[1] else ["VALID", "SAME_UPPER"]
    return {
        "strides": choose.choice([None, [1, 1], [2, 2], [1, 2]]),
        "dilations": graph.pick([None, [1, 1]], [[2, 1]]),
        "pads": chosen,
        "auto_pad": graph.pick([None, *usual], ["SAME_LOWER", "SAME_UPPER"]) if chosen is None else None,
    }


def pool(graph) -> None:
    """Add a pool with random attributes."""
    choose, size = graph.choose, [graph.choose.randint(1, 3), graph.choose.randint(1, 3)]
    options = window_attributes(graph, size, [None, [0] * 4]) | {"kernel_shape": size}
    operator = choose.choice(["MaxPool", "AveragePool"])
    if graph.opset >= 10:
        options["ceil_mode"] = graph.pick([None, 0], [1])
    if operator == "AveragePool":
        options["count_include_pad"] = choose.choice([None, 1])
    if graph.opset < (10 if operator == "MaxPool" else 19):
        del options["dilations"]
    graph.add(operator, **options)


def mean(graph) -> None:
    """Add a mean over some axes, or another reduction."""
    choose = graph.choose
    axes = graph.pick([[2, 3], [-1, -2], [3, 2]], [[1, 2], [2], [1]])
    operator = graph.pick(["GlobalAveragePool", "ReduceMean"], ["GlobalMaxPool", "ReduceMax"])
    if operator.startswith("Global"):
        graph.add(operator)
    elif graph.opset < 18:
        graph.add(operator, axes=axes, keepdims=choose.choice([None, 1, 0]))
    else:
        graph.add(operator, graph.constant(axes, "int64"), keepdims=choose.choice([None, 1, 0]))


# Functions that add random operators. Repeated ones are more likely.
ROW_STEPS = [dense, dense, dense, activation, composed_activation, affine, batch_norm, conversion]
IMAGE_STEPS = [conv, conv, conv, conv, pool, mean, activation, composed_activation, affine, batch_norm, conversion]

# ------------------------------------------------------------------------------------------------ files and mutations


def networks() -> list[NeuralNetwork]:
    """Return networks that together have all layer types, some with labels and scalings."""
    layers = [
        ([3, 4, 2], "cross_entropy"), ([3, 4, 1], "bce"), ([3, Dense(4, "gelu"), BatchNorm(), 2], "mse"),
        ([Input(6, 5, 2), Conv2D(3, 3, padding="same"), MaxPool2D(2), Flatten(), 3], "cross_entropy"),
        ([Input(6, 5, 2), Conv2D(3, 2, "selu"), AvgPool2D(2), GlobalAvgPool2D(), 2], "hinge"),
    ]  # fmt: skip
    examples = [
        NeuralNetwork(parts, loss=loss, seed=i, dtype=d) for i, (parts, loss) in enumerate(layers) for d in DTYPES
    ]
    X = np.random.default_rng(0).normal(5, 2, (20, 3))
    for labels in (["no", "yes"], [3, 7]):
        net = NeuralNetwork([3, 4, 2], loss="cross_entropy", seed=0, scale_X="standardize")
        net.fit(X, np.array(labels)[np.arange(20) % 2], epochs=1)
        examples.append(net)
    net = NeuralNetwork([3, 4, 1], loss="mse", seed=0, scale_X="minmax", scale_y="standardize")
    net.fit(X, X[:, :1], epochs=1)
    return [*examples, net]


def original_files(choose, count) -> list[bytes]:
    """Return the undamaged files, `count` of them with random graphs."""
    files = [path.read_bytes() for path in sorted(MODELS_FOLDER.glob("*.onnx"))]
    with tempfile.TemporaryDirectory() as folder:
        for net in networks():
            net.to_onnx(Path(folder) / "net.onnx")
            files.append((Path(folder) / "net.onnx").read_bytes())
    return files + [Graph(choose).model.SerializeToString() for _ in range(count)]


def damage_file(choose, files) -> bytes:
    """Return one of the files with changed bytes or changed fields."""
    content = choose.choice(files)
    if choose.random() < 0.5:
        # Ignore changes of fields that the message does not have.
        with suppress(ValueError, IndexError, TypeError, OverflowError):
            content = change_fields(choose, content, files)
        if choose.random() < 0.8:
            return content
    data = bytearray(content)
    for _ in range(choose.choice([1, 1, 1, 2, 4, 8])):
        start, n = choose.randrange(len(data) + 1), choose.choice([1, 1, 2, 5, 30])
        variant = choose.randrange(6)
        if variant == 0 and start < len(data):
            data[start] ^= 1 << choose.randrange(8)
        elif variant == 1 and start < len(data):
            data[start] = choose.choice([0, 1, 127, 128, 255, choose.randrange(256)])
        elif variant == 2 and choose.random() < 0.2:
            del data[start:]
        elif variant == 3:
            del data[start : start + n]
        elif variant == 4:
            data[start:start] = data[start : start + n] * choose.choice([1, 1, 50])
        else:
            source = choose.choice(files)
            position = choose.randrange(len(source) + 1)
            data[start : start + n] = source[position : position + n]
        if not data:
            break
    return bytes(data)


# Values of integer fields, and names of operators, that replace original ones.
INTEGERS = [0, 1, -1, 2, 3, 7, 255, 1000, 2**15, 2**20, 2**31 - 1, 2**31, 2**40, 2**63 - 1, -(2**63)]
OPERATORS = ["Relu", "Add", "Mul", "Max", "Gemm", "Conv", "Cast", "Reshape", "Transpose", "ArgMax", "Gather", "Concat"]
OPERATORS += ["Flatten", "Softmax", "BatchNormalization", "Squeeze", "Identity", "Shape", "ZipMap", "Scaler", "Exp", ""]


def change_fields(choose, content, files) -> bytes:
    """Return a model with one to three changed fields."""
    model = onnx.load_from_string(content)
    graph = model.graph
    for _ in range(choose.randint(1, 3)):
        node = choose.choice(graph.node)
        variant = choose.randrange(14)
        if variant == 0:
            attribute = choose.choice(node.attribute)
            if attribute.ints:
                attribute.ints[choose.randrange(len(attribute.ints))] = choose.choice(INTEGERS)
            attribute.i = choose.choice(INTEGERS) if attribute.i or choose.random() < 0.5 else attribute.i
            attribute.f = choose.choice([0.0, -1.0, 0.5, float("nan"), float("inf"), 1e38]) if attribute.f else 0.0
        elif variant == 1:
            tensor = choose.choice(graph.initializer)
            tensor.dims[choose.randrange(len(tensor.dims))] = choose.choice(INTEGERS)
        elif variant == 2:
            choose.choice(graph.initializer).data_type = choose.randrange(20)
        elif variant == 3:
            node.input[choose.randrange(len(node.input))] = choose.choice(
                [choose.choice(graph.node).output[0], "X", ""]
            )
        elif variant == 4:
            node.op_type = choose.choice(OPERATORS)
        elif variant == 5:
            dims = graph.input[0].type.tensor_type.shape.dim
            dims[choose.randrange(len(dims))].dim_value = choose.choice(INTEGERS)
        elif variant == 6:
            choose.choice(model.opset_import).version = choose.choice([*range(30), *INTEGERS])
        elif variant == 7:
            node.output.append(choose.choice(["extra", node.output[0], ""]))
        elif variant == 8:
            node.input.extend([choose.choice(node.input)] * choose.choice([1, 2, 60]))
        elif variant == 9:
            del node.attribute[choose.randrange(len(node.attribute))]
        elif variant == 10:
            other_model = onnx.load_from_string(choose.choice(files))
            node.attribute.append(choose.choice(choose.choice(other_model.graph.node).attribute))
        elif variant == 11:
            repeat_node(choose, graph, node)
        elif variant == 12:
            graph.output[0].name = choose.choice(graph.node).output[0]
        else:
            tensor = choose.choice(graph.initializer)
            if not all(0 <= n < 1000 for n in tensor.dims):
                continue
            array = np.full(tensor.dims, choose.choice([0.0, 1.0, float("nan"), 1e38, 1e-38, -1.0]), np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model.SerializeToString()


def repeat_node(choose, graph, node) -> None:
    """Insert copies of a node behind it, each of which takes the output of the previous one."""
    position = list(graph.node).index(node) + 1
    last = node.output[0]
    copies = []
    for i in range(choose.choice([1, 20, 200])):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name, replace_all = f"copy{i}", choose.random() < 0.5
        for j in range(len(copy.input)):
            if replace_all or j == 0:
                copy.input[j] = last
        del copy.output[:]
        copy.output.append(f"copy{i}")
        last = f"copy{i}"
        copies.append(copy)
    nodes = list(graph.node)
    for successor in nodes[position:]:
        for j, name in enumerate(successor.input):
            if name == node.output[0]:
                successor.input[j] = last
    del graph.node[:]
    graph.node.extend([*nodes[:position], *copies, *nodes[position:]])


# ------------------------------------------------------------------------------------------------ campaign


class LineCounter:
    """Counter of the lines of Python that nnc/_interop executes inside a with statement."""

    def __enter__(self) -> LineCounter:
        self.count, self.previous_trace = 0, sys.gettrace()
        sys.settrace(self.trace_call)
        return self

    def __exit__(self, *_) -> None:
        sys.settrace(self.previous_trace)

    def trace_call(self, frame, event, argument):
        """Trace the lines of a function if it belongs to nnc/_interop."""
        return self.trace_line if frame.f_code.co_filename.startswith(READER_FOLDER) else None

    def trace_line(self, frame, event, argument):
        """Count an executed line."""
        if event == "line":
            self.count += 1
        return self.trace_line


def examine(path, size) -> tuple[str, str | None, float, int]:
    """Read a file; return the outcome, a finding or None, executed lines per byte, and bytes beyond the file size."""
    with LineCounter() as lines:
        outcome, finding, network = read_file(path)
    tracemalloc.start()
    read_file(path)
    peak = tracemalloc.get_traced_memory()[1] - size
    tracemalloc.stop()
    if lines.count > MAX_LINES + MAX_LINES_PER_BYTE * size:
        finding = f"the reader executed {lines.count:,} lines for a file of {size:,} bytes"
    if peak > MAX_BYTES:
        finding = f"the reader allocated {peak:,} bytes beyond the {size:,} bytes of the file"
    if network is not None and network.layers[0].n_in <= MAX_VERIFIED_INPUTS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                nnc.from_onnx(path, verify=True)
        except OSError as error:
            outcome = "read, but not compared"
            allowed = ("cannot run the model", "for a comparison", "cannot verify")
            if not any(reason in str(error) for reason in allowed):
                finding = str(error)
        except Exception as error:
            finding = repr(error)
    return outcome, finding, max(0, lines.count - MAX_LINES) / size if size else 0.0, peak


def read_file(path) -> tuple[str, str | None, NeuralNetwork | None]:
    """Read a file; return the outcome, a finding or None, and the network or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return "read", None, nnc.from_onnx(path)
    except OSError:
        return "rejected", None, None
    except Exception as error:
        return "failed", repr(error), None


def main(arguments=None) -> int:
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, help="number of files (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all changes (default: %(default)s)")
    parser.add_argument("--keep", help="existing folder in which files with findings are stored")
    options = parser.parse_args(arguments)
    choose = random.Random(options.seed)
    files = original_files(choose, min(300, 50 + options.files // 20))
    outcomes: Counter[str] = Counter()
    max_lines, max_bytes, findings = 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for i in range(options.files):
            content = damage_file(choose, files) if i >= len(files) else files[i]
            path.write_bytes(content)
            outcome, finding, lines, peak = examine(path, len(content))
            outcomes[outcome] += 1
            if i % 1000 == 999:
                print(f"{i + 1} files, {findings} findings", file=sys.stderr)
            max_lines, max_bytes = max(max_lines, lines), max(max_bytes, peak)
            if finding is not None:
                findings += 1
                print(f"FINDING in file {i}: {finding}")
                if options.keep:
                    (Path(options.keep) / f"{options.seed}_{i}.onnx").write_bytes(content)
    print(f"{options.files} files:", ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    print(
        f"at most {max_lines:.1f} executed lines per byte beyond {MAX_LINES:,}, and {max_bytes:,} bytes beyond a file"
    )
    print(f"{findings} findings")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
