"""Feed `nnc.from_onnx` with damaged and unusual ONNX files.

    python tools/campaigns/onnx_files.py --files 100000

Files are models of `to_onnx`, those in tests/models, and random graphs that onnx.helper builds, with unsupported
operators and attributes among them. Bytes are flipped, cut out, repeated or taken from another file, and fields of the
messages are changed: attributes, dimensions, types, operators, inputs, outputs, versions. Each file must be read or
raise an OSError. A finding is

- any other exception or warning,
- a file for which nnc/_interop executes more lines of Python than MAX_LINES plus MAX_LINES_PER_BYTE for each byte,
- a file that takes more than 64 MiB beyond its size, as tracemalloc counts it,
- a network whose outputs or labels differ from those of onnx's reference evaluator.

--seed gives the same files again. It prints findings and counts, and exits 1 with findings. It needs onnx.
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

MAX_LINES_PER_BYTE = 100
MAX_LINES = 20_000
MAX_BYTES = 2**26  # beyond the size of the file
MAX_VERIFIED = 20_000  # numbers of a row; sums of more lose too many digits in float32 to be compared
FOLDER = str(Path(nnc.__file__).parent / "_interop")
MODELS = Path(__file__).parents[2] / "tests" / "models"
DTYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
OPSETS = [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24]
N_ROWS = 4
UNSUPPORTED = ["Abs", "Celu", "Clip", "Erf", "HardSigmoid", "HardSwish", "Hardmax", "LogSoftmax", "Neg", "Softsign"]

# ------------------------------------------------------------------------------------------------ random graphs


class Graph:
    """A random graph, evaluated node by node while it is built.

    Parameters
    ----------
    choose : random.Random
        Source of all choices.

    Attributes
    ----------
    model : onnx.ModelProto
    X : array
        Rows of the input.
    expected : array
        The first output for these rows.
    """

    def __init__(self, choose: random.Random) -> None:
        self.choose = choose
        self.dtype = choose.choice(["float32", "float32", "float64"])
        self.oddity = choose.choice([0.0, 0.0, 0.1])  # how often something is chosen that nnc need not support
        self.opset = self.pick(OPSETS, [6])
        self.numbers = np.random.default_rng(choose.getrandbits(32))
        images = choose.random() < 0.5
        dims = (2, 6, 5) if images else (choose.randint(1, 5),)
        self.X = self.numbers.normal(0, 1, (N_ROWS, *dims)).astype(self.dtype)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.values: dict[str, np.ndarray] = {"X": self.X}
        self.at = "X"
        self.history = ["X"]
        if images and choose.random() < 0.3:
            self.add("Transpose", perm=self.pick([[0, 3, 1, 2]], [[0, 2, 3, 1], [0, 1, 3, 2]]))
        for _ in range(choose.randint(1, 6)):
            if self.value.ndim not in (2, 4):
                break
            step = choose.choice(IMAGE_STEPS if self.value.ndim == 4 else ROW_STEPS)
            step(self)
        if choose.random() < 0.9:
            self.end()
        self.model = self.finished()
        self.expected = self.value

    def pick(self, usual, unusual):
        """Choose something usual, or rarely something that nnc need not support."""
        return self.choose.choice(unusual if self.choose.random() < self.oddity else usual)

    @property
    def value(self) -> np.ndarray:
        """The tensor that the next node takes."""
        return self.values[self.at]

    def constant(self, array, dtype=None) -> str:
        """Add a constant."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype or self.value.dtype)
        return name

    def weights(self, *shape) -> str:
        return self.constant(self.numbers.normal(0, 0.7, shape) + 0.05)

    def add(self, operator, *others, first=None, outputs=1, domain="", **attributes) -> bool:
        """Add a node of the last tensor and others, unless onnx cannot evaluate it; whether it was added."""
        inputs = [self.at if first is None else first, *others]
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        attributes = {name: value for name, value in attributes.items() if value is not None}
        node = helper.make_node(operator, inputs, names, domain=domain, **attributes)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self.evaluated([node], names)
        except Exception:
            return False
        if not isinstance(found[0], np.ndarray) or found[0].size == 0 or found[0].size > 10_000:
            return False
        self.nodes.append(node)
        self.values.update({name: array for name, array in zip(names, found, strict=True) if array is not None})
        self.at = names[0]
        self.history.append(self.at)
        return True

    def evaluated(self, nodes, names) -> list:
        """Return what onnx's reference makes of nodes."""
        given = {**self.values, **self.constants}
        used = {name for node in nodes for name in node.input if name}
        inputs = [helper.make_tensor_value_info(name, kind(given[name]), None) for name in used]
        outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in names]
        graph = helper.make_graph(nodes, "g", inputs, outputs)
        model = helper.make_model(graph, opset_imports=self.opsets(), ir_version=8)
        return ReferenceEvaluator(model, new_ops=exact_operators(self.opset)).run(
            None, {name: given[name] for name in used}
        )

    def opsets(self) -> list:
        return [helper.make_opsetid("", self.opset), helper.make_opsetid("ai.onnx.ml", 3)]

    def end(self) -> None:
        """Add a dense layer at the end, and perhaps an activation."""
        if self.value.ndim == 4:
            if self.choose.random() < 0.5:
                self.add("GlobalAveragePool")
            self.add("Flatten", axis=1)
        if self.value.ndim == 2 and self.value.dtype.kind == "f":
            dense(self)
            if self.choose.random() < 0.5:
                self.add(self.choose.choice(["Softmax", "Sigmoid", "Tanh", "Relu"]))

    def finished(self) -> onnx.ModelProto:
        """Return the model: sometimes with other outputs, or with rows whose number is fixed."""
        rows = self.choose.choice(["n", "n", "n", N_ROWS])
        outputs = [self.at]
        if self.choose.random() < 0.1:
            outputs.append(self.choose.choice(self.history[1:] or ["X"]))
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("X", DTYPES[self.dtype], [rows, *self.X.shape[1:]])],
            [helper.make_tensor_value_info(name, kind(self.values[name]), None) for name in dict.fromkeys(outputs)],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=self.opsets(), ir_version=self.choose.choice([7, 8, 9, 10]))


def kind(array) -> int:
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def dense(graph) -> None:
    """A matrix, and perhaps a bias."""
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
    """An operator that is an activation, with its own or other attributes."""
    name, options = graph.pick(
        [
            ("Relu", {}), ("Sigmoid", {}), ("Tanh", {}), ("Softplus", {}), ("Mish", {}), ("Exp", {}),
            ("LeakyRelu", {"alpha": ([None, 0.01], [0.2])}), ("Elu", {"alpha": ([None, 1.0], [0.5])}),
            ("Selu", {"alpha": ([None], [1.5]), "gamma": ([None], [1.0])}), ("Swish", {"alpha": ([None, 1.0], [2.0])}),
            ("Gelu", {"approximate": ([None, "none"], ["tanh"])}), ("Softmax", {"axis": ([None, 1, -1], [0])}),
        ],
        [(name, {}) for name in UNSUPPORTED],
    )  # fmt: skip
    graph.add(name, **{option: graph.pick(*values) for option, values in options.items()})


def composed(graph) -> None:
    """An activation of several operators, or something similar."""
    x, choose = graph.at, graph.choose

    def c(value):
        return graph.constant(value)

    which = graph.pick(["silu", "gelu", "leaky_relu", "softplus", "scaled silu"], ["residual", "square", "max"])
    if which == "silu" and graph.add("Sigmoid"):
        graph.add("Mul", graph.at, first=x)
    elif which == "gelu" and graph.add("Div", c(np.sqrt(2))) and graph.add("Erf"):
        graph.add("Add", c(graph.pick([1.0], [0.9])))
        graph.add("Mul", x)
        graph.add("Mul", c(0.5))
    elif which == "leaky_relu" and graph.add("Mul", c(graph.pick([0.01], [0.02]))):
        graph.add("Max", x)
    elif which == "softplus" and graph.add("Exp") and graph.add("Add", c(1.0)) and graph.add("Log"):
        if choose.random() < 0.5 and graph.add("Tanh"):
            graph.add("Mul", x)
    elif which == "residual":
        graph.add(choose.choice(["Add", "Mul", "Sub", "Max", "Div"]), choose.choice(graph.history))
    elif which == "square" and graph.add("Relu"):
        graph.add("Mul", graph.at)
    elif which == "max":
        graph.add(choose.choice(["Max", "Min"]), c(0.0))
    elif which == "scaled silu" and graph.add("Mul", c(2.0)):
        y = graph.at
        if graph.add("Sigmoid"):
            graph.add("Mul", graph.pick([y], [x]))


def affine(graph) -> None:
    """A constant that is added or multiplied, of any shape that onnx broadcasts."""
    choose, shape = graph.choose, graph.value.shape
    dims = [choose.choice([1, n]) for n in (graph.pick([1], [N_ROWS]), *shape[1:])]
    if graph.value.ndim == 4:
        dims = graph.pick([[1, shape[1], 1, 1]], [dims, [1, 1, 1, shape[3]]])
    dims = dims[choose.choice([0, 1]) if dims[0] == 1 else 0 :]
    operator, name = choose.choice(["Add", "Sub", "Mul", "Div"]), graph.weights(*dims)
    if graph.pick([False], [True]):
        graph.add(operator, graph.at, first=name)
    else:
        graph.add(operator, name)


def norm(graph) -> None:
    """A BatchNormalization, also as in training."""
    choose, n = graph.choose, graph.value.shape[1]
    variance = graph.constant(graph.numbers.uniform(0.5, 2, n))
    training = graph.pick([None, 0], [1]) if graph.opset >= 14 else None
    outputs = 3 if training and choose.random() < 0.5 else 1
    constants = [graph.weights(n) for _ in range(3)]
    graph.add(
        "BatchNormalization", *constants, variance,
        epsilon=choose.choice([None, 1e-3]), training_mode=training, outputs=outputs,
    )  # fmt: skip


def other(graph) -> None:
    """Operators that change nothing, or type and shape."""
    value, size = graph.value, int(np.prod(graph.value.shape[1:]))
    usual = ["identity", "cast", "dropout", "reshape", "flatten" if value.ndim == 2 else "identity"]
    which = graph.pick(usual, ["transpose", "squeeze", "concat", "gather", "flatten"])
    if which == "identity":
        graph.add("Identity")
    elif which == "cast":
        to = graph.pick([TensorProto.FLOAT, TensorProto.DOUBLE], [TensorProto.INT64, TensorProto.FLOAT16])
        if graph.add("Cast", to=to) and graph.value.dtype.kind != "f":
            graph.add("Cast", to=DTYPES[graph.dtype])
    elif which == "flatten":
        graph.add("Flatten", axis=graph.pick([None, 1], [0, -1, 2]))
    elif which == "reshape":
        usual = [[0, -1], [-1, size], [0, size]] if value.ndim == 2 else [[0, *value.shape[1:]], [0, 0, 0, -1]]
        unusual = [[N_ROWS, -1], [N_ROWS, size], [1, -1], [0, 0, -1], [-1, 1], [-1], [size, -1]]
        target = graph.constant(graph.pick(usual, unusual), "int64")
        graph.add("Reshape", target, allowzero=graph.pick([None, 0], [1]) if graph.opset >= 14 else None)
    elif which == "transpose":
        graph.add(
            "Transpose", perm=graph.choose.choice([[0, 2, 3, 1], [0, 3, 1, 2]] if value.ndim == 4 else [None, [0, 1]])
        )
    elif which == "squeeze":
        axes, operator = graph.choose.choice([[2, 3], [1], [-1], [0]]), graph.choose.choice(["Squeeze", "Unsqueeze"])
        if graph.opset < 13:
            graph.add(operator, axes=axes)
        else:
            graph.add(operator, graph.constant(axes, "int64"))
    elif which == "dropout":
        training = graph.pick([[], ["", graph.constant(False, bool)]], [["", graph.constant(True, bool)]])
        graph.add("Dropout", *(training if graph.opset >= 12 else []))
    elif which == "concat":
        graph.add("Concat", graph.at, axis=graph.choose.choice([0, 1]))
    elif which == "gather":
        graph.add("Gather", graph.constant([0, 0], "int64"), axis=1)


def conv(graph) -> None:
    """A convolution with any attributes."""
    choose, channels = graph.choose, graph.value.shape[1]
    group = graph.pick([1], [2]) if channels == 2 else 1
    filters, size = 2 * choose.randint(1, 2), [choose.randint(1, 3), choose.randint(1, 3)]
    bias = [graph.weights(filters)] if choose.random() < 0.6 else []
    same = [(size[0] - 1) // 2, (size[1] - 1) // 2, size[0] // 2, size[1] // 2]
    options = windows(graph, size, [None, [0] * 4, same]) | {"kernel_shape": choose.choice([size, None])}
    graph.add("Conv", graph.weights(filters, channels // group, *size), *bias, group=group, **options)


def windows(graph, size, pads) -> dict:
    """Attributes of windows, with these zeros around images or other ones."""
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
    """A pool with any attributes."""
    choose, size = graph.choose, [graph.choose.randint(1, 3), graph.choose.randint(1, 3)]
    options = windows(graph, size, [None, [0] * 4]) | {"kernel_shape": size}
    operator = choose.choice(["MaxPool", "AveragePool"])
    if graph.opset >= 10:
        options["ceil_mode"] = graph.pick([None, 0], [1])
    if operator == "AveragePool":
        options["count_include_pad"] = choose.choice([None, 1])
    if graph.opset < (10 if operator == "MaxPool" else 19):
        del options["dilations"]
    graph.add(operator, **options)


def mean(graph) -> None:
    """A mean over some axes, or another reduction."""
    choose = graph.choose
    axes = graph.pick([[2, 3], [-1, -2], [3, 2]], [[1, 2], [2], [1]])
    operator = graph.pick(["GlobalAveragePool", "ReduceMean"], ["GlobalMaxPool", "ReduceMax"])
    if operator.startswith("Global"):
        graph.add(operator)
    elif graph.opset < 18:
        graph.add(operator, axes=axes, keepdims=choose.choice([None, 1, 0]))
    else:
        graph.add(operator, graph.constant(axes, "int64"), keepdims=choose.choice([None, 1, 0]))


ROW_STEPS = [dense, dense, dense, activation, composed, affine, norm, other]
IMAGE_STEPS = [conv, conv, conv, conv, pool, mean, activation, composed, affine, norm, other]

# ------------------------------------------------------------------------------------------------ files and mutations


def networks() -> list[NeuralNetwork]:
    """Networks of all layers, some with labels and scalings."""
    layers = [
        ([3, 4, 2], "cross_entropy"), ([3, 4, 1], "bce"), ([3, Dense(4, "gelu"), BatchNorm(), 2], "mse"),
        ([Input(6, 5, 2), Conv2D(3, 3, padding="same"), MaxPool2D(2), Flatten(), 3], "cross_entropy"),
        ([Input(6, 5, 2), Conv2D(3, 2, "selu"), AvgPool2D(2), GlobalAvgPool2D(), 2], "hinge"),
    ]  # fmt: skip
    made = [NeuralNetwork(parts, loss=loss, seed=i, dtype=d) for i, (parts, loss) in enumerate(layers) for d in DTYPES]
    X = np.random.default_rng(0).normal(5, 2, (20, 3))
    for labels in (["no", "yes"], [3, 7]):
        net = NeuralNetwork([3, 4, 2], loss="cross_entropy", seed=0, scale_X="standardize")
        net.fit(X, np.array(labels)[np.arange(20) % 2], epochs=1)
        made.append(net)
    net = NeuralNetwork([3, 4, 1], loss="mse", seed=0, scale_X="minmax", scale_y="standardize")
    net.fit(X, X[:, :1], epochs=1)
    return [*made, net]


def originals(choose, count) -> list[bytes]:
    """Return files to be damaged."""
    files = [path.read_bytes() for path in sorted(MODELS.glob("*.onnx"))]
    with tempfile.TemporaryDirectory() as folder:
        for net in networks():
            net.to_onnx(Path(folder) / "net.onnx")
            files.append((Path(folder) / "net.onnx").read_bytes())
    return files + [Graph(choose).model.SerializeToString() for _ in range(count)]


def damaged(choose, files) -> bytes:
    """Return a file with bytes changed, or with fields changed."""
    content = choose.choice(files)
    if choose.random() < 0.5:
        with suppress(ValueError, IndexError, TypeError, OverflowError):  # the change may be impossible there
            content = changed(choose, content, files)
        if choose.random() < 0.8:
            return content
    made = bytearray(content)
    for _ in range(choose.choice([1, 1, 1, 2, 4, 8])):
        at, n = choose.randrange(len(made) + 1), choose.choice([1, 1, 2, 5, 30])
        which = choose.randrange(6)
        if which == 0 and at < len(made):
            made[at] ^= 1 << choose.randrange(8)
        elif which == 1 and at < len(made):
            made[at] = choose.choice([0, 1, 127, 128, 255, choose.randrange(256)])
        elif which == 2 and choose.random() < 0.2:
            del made[at:]
        elif which == 3:
            del made[at : at + n]
        elif which == 4:
            made[at:at] = made[at : at + n] * choose.choice([1, 1, 50])
        else:
            source = choose.choice(files)
            start = choose.randrange(len(source) + 1)
            made[at : at + n] = source[start : start + n]
        if not made:
            break
    return bytes(made)


SIZES = [0, 1, -1, 2, 3, 7, 255, 1000, 2**15, 2**20, 2**31 - 1, 2**31, 2**40, 2**63 - 1, -(2**63)]
NAMES = ["Relu", "Add", "Mul", "Max", "Gemm", "Conv", "Cast", "Reshape", "Transpose", "ArgMax", "Gather", "Concat"]
NAMES += ["Flatten", "Softmax", "BatchNormalization", "Squeeze", "Identity", "Shape", "ZipMap", "Scaler", "Exp", ""]


def changed(choose, content, files) -> bytes:
    """Return a model with some of its fields changed."""
    model = onnx.load_from_string(content)
    graph = model.graph
    for _ in range(choose.randint(1, 3)):
        node = choose.choice(graph.node)
        which = choose.randrange(14)
        if which == 0:
            attribute = choose.choice(node.attribute)
            if attribute.ints:
                attribute.ints[choose.randrange(len(attribute.ints))] = choose.choice(SIZES)
            attribute.i = choose.choice(SIZES) if attribute.i or choose.random() < 0.5 else attribute.i
            attribute.f = choose.choice([0.0, -1.0, 0.5, float("nan"), float("inf"), 1e38]) if attribute.f else 0.0
        elif which == 1:
            tensor = choose.choice(graph.initializer)
            tensor.dims[choose.randrange(len(tensor.dims))] = choose.choice(SIZES)
        elif which == 2:
            choose.choice(graph.initializer).data_type = choose.randrange(20)
        elif which == 3:
            node.input[choose.randrange(len(node.input))] = choose.choice(
                [choose.choice(graph.node).output[0], "X", ""]
            )
        elif which == 4:
            node.op_type = choose.choice(NAMES)
        elif which == 5:
            dims = graph.input[0].type.tensor_type.shape.dim
            dims[choose.randrange(len(dims))].dim_value = choose.choice(SIZES)
        elif which == 6:
            choose.choice(model.opset_import).version = choose.choice([*range(30), *SIZES])
        elif which == 7:
            node.output.append(choose.choice(["extra", node.output[0], ""]))
        elif which == 8:
            node.input.extend([choose.choice(node.input)] * choose.choice([1, 2, 60]))
        elif which == 9:
            del node.attribute[choose.randrange(len(node.attribute))]
        elif which == 10:
            other_model = onnx.load_from_string(choose.choice(files))
            node.attribute.append(choose.choice(choose.choice(other_model.graph.node).attribute))
        elif which == 11:
            twins(choose, graph, node)
        elif which == 12:
            graph.output[0].name = choose.choice(graph.node).output[0]
        else:
            tensor = choose.choice(graph.initializer)
            if not all(0 <= n < 1000 for n in tensor.dims):
                continue
            array = np.full(tensor.dims, choose.choice([0.0, 1.0, float("nan"), 1e38, 1e-38, -1.0]), np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model.SerializeToString()


def twins(choose, graph, node) -> None:
    """Repeat a node many times, each of the one before."""
    at = list(graph.node).index(node) + 1
    last = node.output[0]
    copies = []
    for i in range(choose.choice([1, 20, 200])):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name, both = f"twin{i}", choose.random() < 0.5
        for j in range(len(copy.input)):
            if both or j == 0:
                copy.input[j] = last
        del copy.output[:]
        copy.output.append(f"twin{i}")
        last = f"twin{i}"
        copies.append(copy)
    rest = list(graph.node)
    for after in rest[at:]:
        for j, name in enumerate(after.input):
            if name == node.output[0]:
                after.input[j] = last
    del graph.node[:]
    graph.node.extend([*rest[:at], *copies, *rest[at:]])


# ------------------------------------------------------------------------------------------------ the campaign


class Lines:
    """Counts lines of Python that nnc/_interop executes in a block."""

    def __enter__(self) -> Lines:
        self.count, self.before = 0, sys.gettrace()
        sys.settrace(self.called)
        return self

    def __exit__(self, *_) -> None:
        sys.settrace(self.before)

    def called(self, frame, event, argument):
        """Trace the lines of a function."""
        return self.line if frame.f_code.co_filename.startswith(FOLDER) else None

    def line(self, frame, event, argument):
        """Count one."""
        if event == "line":
            self.count += 1
        return self.line


def examine(path, size) -> tuple[str, str | None, float, int]:
    """Read a file; what came of it, a finding or None, lines for each byte, and bytes beyond the file."""
    with Lines() as lines:
        outcome, finding, network = attempt(path)
    tracemalloc.start()
    attempt(path)
    peak = tracemalloc.get_traced_memory()[1] - size
    tracemalloc.stop()
    if lines.count > MAX_LINES + MAX_LINES_PER_BYTE * size:
        finding = f"{lines.count:,} lines for {size:,} bytes"
    if peak > MAX_BYTES:
        finding = f"{peak:,} bytes beyond the {size:,} of the file"
    if network is not None and network.layers[0].n_in <= MAX_VERIFIED:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                nnc.from_onnx(path, verify=True)
        except OSError as error:
            outcome = "read, but not compared"
            allowed = ("cannot run it", "rows for a comparison", "cannot be compared")
            if not any(reason in str(error) for reason in allowed):
                finding = str(error)
        except Exception as error:
            finding = repr(error)
    return outcome, finding, max(0, lines.count - MAX_LINES) / size if size else 0.0, peak


def attempt(path) -> tuple[str, str | None, NeuralNetwork | None]:
    """Read a file; what came of it, a finding or None, and the network."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return "read", None, nnc.from_onnx(path)
    except OSError:
        return "refused", None, None
    except Exception as error:
        return "failed", repr(error), None


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", help="folder for files with findings")
    options = parser.parse_args(arguments)
    choose = random.Random(options.seed)
    files = originals(choose, min(300, 50 + options.files // 20))
    outcomes: Counter[str] = Counter()
    most_lines, most_bytes, findings = 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for i in range(options.files):
            content = damaged(choose, files) if i >= len(files) else files[i]
            path.write_bytes(content)
            outcome, finding, lines, peak = examine(path, len(content))
            outcomes[outcome] += 1
            if i % 1000 == 999:
                print(f"{i + 1} files, {findings} findings", file=sys.stderr)
            most_lines, most_bytes = max(most_lines, lines), max(most_bytes, peak)
            if finding is not None:
                findings += 1
                print(f"FINDING in file {i}: {finding}")
                if options.keep:
                    (Path(options.keep) / f"{options.seed}_{i}.onnx").write_bytes(content)
    print(f"{options.files} files:", ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    print(f"at most {most_lines:.1f} lines a byte beyond {MAX_LINES:,}, and {most_bytes:,} bytes beyond a file")
    print(f"{findings} findings")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
