"""Networks from ONNX models, those of nnc, skl2onnx, PyTorch and Keras: what their graphs compute, layer by layer.

A graph becomes an expression of its input. From its output down, each node is a step, or the end of a composed
activation, which is known by its form; what the steps are is told to a Builder from the lowest one up.
"""

from __future__ import annotations

import os
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.base import disk
from nnc.exchange.onnx import COMPOSED, FIRST, KINDS, LAST, OPERATORS, READ_OPERATORS, Graph
from nnc.exchange.parts import Builder, Parts, scaling
from nnc.exchange.protobuf import fields, wholes
from nnc.saving import ModelFileError
from nnc.saving.text import short_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    Array = np.ndarray[Any, Any]

TYPES = {number: name for name, number in KINDS.items()} | {6: "int32"}
# Operators that are an activation: its name, and the attributes that they must have, given or by default.
ACTIVATIONS = {
    operator: (name, attributes)
    for name, (operator, attributes, *_) in (OPERATORS | READ_OPERATORS).items()
    if operator not in ("Identity", "Softmax")
} | {"Softmax": ("softmax", {})}  # of any axis: the outputs are vectors
MOST_SCALED = 2**24  # numbers of a row, each with a shift and a factor: a small file may claim any shape
MOST_PARTS = 20  # of a sum or a product: no activation has more
NOTHING = ("Identity", "Cast", "Dropout", "Squeeze", "ZipMap")  # that is, nothing that changes a number
OF_LABELS = {"ArgMax", "GreaterOrEqual", "Greater", "ArrayFeatureExtractor", "Gather"}


class Node:
    """What a node computes: an operator of its inputs, which are nodes or arrays; without inputs the graph's own."""

    def __init__(self, operator: str, inputs: list[Any], attributes: dict[str, Any], name: str) -> None:
        self.operator, self.inputs, self.attributes, self.name = operator, inputs, attributes, name

    @property
    def what(self) -> str:
        """What messages call it."""
        return f"the node {self.name!r} ({self.operator})"

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)


def parts_of(path: Any, loss: Any) -> Parts:
    """The parts of the ONNX model in a file.

    Raises
    ------
    OSError
        The system refuses the file; a ModelFileError where it is no ONNX model, or has a node that nnc has not.
    """
    where = disk.place(path)
    try:
        content = disk.read_bytes(path, "network", lambda piece: piece[:1] in (b"\x08", b"\x12", b"\x3a"))
        return _parts(content, os.path.dirname(os.fsdecode(path)), loss)
    except disk.WrongBeginningError:
        problem = "it is no ONNX model"
    except MemoryError:
        raise short_of_memory(where) from None
    except RecursionError:
        problem = "its nodes are nested too deeply for a network"
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        problem = str(error)
    raise ModelFileError(f"cannot load the network from {where}: {problem}")


# ------------------------------------------------------------------------------------------------ the graph


def _parts(content: bytes, folder: str, loss: Any) -> Parts:
    model = fields(content)
    if len(model.get(7, ())) != 1:
        raise ValueError("it is no ONNX model: it has no graph")
    graph = fields(model[7][0])
    tensors = dict(_tensor(part, folder) for part in graph.get(5, []))
    inputs = [(name, dims) for name, dims in map(_described, graph.get(11, [])) if name not in tensors]
    if len(inputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs, expected one")
    name, dims = inputs[0]
    values: dict[str, Any] = {**tensors, name: Node("input", [], {}, name)}
    _evaluate(graph.get(1, []), values, folder)
    return _read([values[name] for name, _ in map(_described, graph.get(12, []))], dims, loss)


def _text(values: list[Any]) -> str:
    return values[-1].decode() if values else ""


def _described(content: bytes) -> tuple[str, list[int]]:
    """Name and shape of an input or an output, 0 where a dimension is left open."""
    value = fields(content)
    tensor = fields(fields(value[2][-1])[1][-1]) if 2 in value and 1 in fields(value[2][-1]) else {}
    shape = fields(tensor[2][-1]).get(1, []) if 2 in tensor else []
    return _text(value.get(1, [])), [wholes(fields(dim).get(1, [0]))[-1] for dim in shape]


def _tensor(content: bytes, folder: str) -> tuple[str, Array]:
    """Name and numbers of a constant."""
    tensor = fields(content)
    name, shape = _text(tensor.get(8, [])), wholes(tensor.get(1, []))
    kind = TYPES.get(tensor.get(2, [0])[-1])
    if kind is None:
        raise ValueError(f"the tensor {name!r} has a type that nnc has not")
    if kind == "string":
        array = np.array([text.decode() for text in tensor.get(6, [])], dtype=str)
    else:
        dtype = np.dtype(kind).newbyteorder("<")
        if 13 in tensor:
            array = np.frombuffer(_outside(tensor[13], folder, name), dtype)
        elif 9 in tensor:
            array = np.frombuffer(tensor[9][-1], dtype)
        elif kind in ("float32", "float64"):
            array = np.frombuffer(b"".join(tensor.get(4 if kind == "float32" else 10, [])), dtype)
        else:
            array = np.array(wholes(tensor.get({"int64": 7, "uint64": 11}.get(kind, 5), [])), np.int64).astype(dtype)
    if array.size != prod(shape):
        raise ValueError(f"the tensor {name!r} has {array.size} numbers, its shape is {shape}")
    return name, array.astype(array.dtype.newbyteorder("=")).reshape(shape)


def _outside(entries: list[bytes], folder: str, name: str) -> bytes:
    """Bytes of a tensor that are in another file beside this one."""
    said = {_text(fields(entry).get(1, [])): _text(fields(entry).get(2, [])) for entry in entries}
    location = said.get("location", "")
    if not location or os.path.basename(location) != location or location in (os.curdir, os.pardir):
        raise ValueError(f"the tensor {name!r} is in {location!r}, expected a file in the same folder")
    begin, length = int(said.get("offset", 0)), int(said.get("length", -1))
    content = disk.read_bytes(os.path.join(folder, location), "network", lambda piece: True)
    return content[begin : begin + length] if length >= 0 else content[begin:]


def _evaluate(nodes: list[bytes], values: dict[str, Any], folder: str) -> None:
    """Adds what each node computes; constants are computed right away."""
    for content in nodes:
        part = fields(content)
        operator, names = _text(part.get(4, [])), [name.decode() for name in part.get(1, [])]
        attributes = dict(_attribute(attribute, folder) for attribute in part.get(5, []))
        for name in names:
            if name and name not in values:
                raise ValueError(f"the node of operator {operator} takes {name!r}, which nothing gives")
        inputs = [values[name] if name else None for name in names]
        outputs = [name.decode() for name in part.get(2, [])]
        node: Any = Node(operator, inputs, attributes, _text(part.get(3, [])) or "".join(outputs[:1]))
        if not any(isinstance(given, Node) for given in inputs):
            node = _constant(node)
        values.update(dict.fromkeys(outputs, node))


def _attribute(content: bytes, folder: str) -> tuple[str, Any]:
    attribute = fields(content)
    name, kind = _text(attribute.get(1, [])), attribute.get(20, [0])[-1]
    if kind == 1:
        return name, float(np.frombuffer(attribute[2][-1], "<f4")[0])
    if kind == 2:
        return name, wholes(attribute.get(3, [0]))[-1]
    if kind == 4:
        return name, _tensor(attribute[5][-1], folder)[1]
    if kind == 6:
        return name, np.frombuffer(b"".join(attribute.get(7, [])), "<f4").astype(np.float32)
    if kind == 7:
        return name, wholes(attribute.get(8, []))
    return name, attribute[4][-1] if kind == 3 and 4 in attribute else None


def _constant(node: Node) -> Any:
    """What a node of constants gives."""
    if node.operator == "Constant":
        for name, value in node.attributes.items():
            if name.startswith("value"):
                return np.asarray(value)
    if node.operator in ("Identity", "Cast"):
        return node.inputs[0]
    if node.operator == "Reshape":
        return node.inputs[0].reshape(node.inputs[1])
    if node.operator == "Transpose":
        return node.inputs[0].transpose(node.get("perm", None))
    if node.operator in ("Unsqueeze", "Squeeze") and node.inputs[0].size == 1:
        return node.inputs[0].ravel()
    raise ValueError(f"{node.what} computes something of constants that nnc has not")


# ------------------------------------------------------------------------------------- activations by their form


@cache
def _forms() -> dict[str, str]:
    """Composed activations by their form: those that are written (nnc/exchange/onnx.py)."""
    made = {"Log(Add(1,Exp(x)))": "softplus"}
    for name, compose in COMPOSED.items():
        graph = Graph("float64")
        end = compose(graph, "x")
        values: dict[str, Any] = {"x": Node("input", [], {}, "x"), **dict(_tensor(part, "") for part in graph.tensors)}
        _evaluate(graph.nodes, values, "")
        made[_form(values[end], values["x"], 9)] = name
    return made


def _form(node: Any, base: Node, depth: int) -> str:
    """A node as text, the same however products and sums are put together; base is x."""
    if node is base:
        return "x"
    if not isinstance(node, Node):
        return f"{float(node.item()):.5g}" if np.size(node) == 1 and np.asarray(node).dtype.kind in "fiu" else "?"
    if depth == 0 or not node.inputs:
        return "?"
    if node.operator in ("Mul", "Div", "Add", "Sub"):
        constant, others = _gathered(node, node.operator in ("Mul", "Div"), base)
        parts = [_form(other, base, depth - 1) for other in others]
        neutral = 1.0 if node.operator in ("Mul", "Div") else 0.0
        if constant != neutral:
            parts.append(f"{constant:.5g}")
        return f"{'Mul' if neutral else 'Add'}({','.join(sorted(parts))})"
    parts = [_form(given, base, depth - 1) for given in node.inputs]
    return f"{node.operator}({','.join(sorted(parts) if node.operator in ('Max', 'Min') else parts)})"


def _gathered(node: Any, product: bool, base: Node) -> tuple[float, list[Any]]:
    """The constant and the other factors of a product, or terms of a sum."""
    constant, others = 1.0 if product else 0.0, list[Any]()
    stack = [(node, False)]
    while stack and len(others) < MOST_PARTS:
        part, inverse = stack.pop()
        if not isinstance(part, Node) and np.size(part) == 1 and np.asarray(part).dtype.kind in "fiu":
            number = float(np.asarray(part).item())
            if product:
                constant = constant / number if inverse else constant * number
            else:
                constant = constant - number if inverse else constant + number
        elif (
            isinstance(part, Node)
            and part is not base
            and not inverse
            and part.operator in (("Mul", "Div") if product else ("Add", "Sub"))
        ):
            stack += [(part.inputs[0], False), (part.inputs[1], part.operator in ("Div", "Sub"))]
        else:
            others.append(Node("Minus", [part], {}, "") if inverse else part)
    return constant, others


def _composed(node: Node) -> tuple[str, Node] | None:
    """The activation that a node is the end of, and what it is taken of."""
    seen: list[Node] = []
    level: list[Node] = [node]
    for _ in range(7):
        level = [given for part in level for given in part.inputs if isinstance(given, Node)]
        for base in level:
            if base not in seen:
                seen.append(base)
                name = _forms().get(_form(node, base, 9))
                if name is not None:
                    return name, base
        if len(level) > 40:
            break
    return None


# ------------------------------------------------------------------------------------------------ from node to layer


def _read(outputs: list[Any], dims: list[int], loss: Any) -> Parts:
    """The network of a graph's outputs."""
    if not outputs or not all(isinstance(output, Node) for output in outputs):
        raise ValueError("its outputs do not depend on its input")
    labels = [output for output in outputs if _is_label(output)]
    numbers = [output for output in outputs if output not in labels]
    if not numbers:
        raise ValueError("it gives labels alone, nnc needs the numbers that they are found from")
    steps = [*_steps(numbers[0])][::-1]
    classes, threshold = _classes(labels[0]) if labels else (None, None)
    end = steps[-1][0] if steps else ""
    if loss is None and labels:
        plain = end not in ("sigmoid", "softmax")
        loss = "hinge" if plain or threshold == 0 else "bce" if end == "sigmoid" else "cross_entropy"
    return _Reading(steps, dims).parts(loss, classes)


def _is_label(output: Node) -> bool:
    """Whether an output is found by comparing numbers."""
    while output.operator in ("Identity", "Cast", "Reshape") and isinstance(output.inputs[0], Node):
        output = output.inputs[0]
    return output.operator in OF_LABELS


def _classes(output: Node) -> tuple[Array | None, float | None]:
    """The classes of a label, None where they are the numbers of the outputs; and from where on one output says yes."""
    classes, node = None, output
    while node.operator in (*OF_LABELS, "Identity", "Cast", "Reshape"):
        if node.operator in ("GreaterOrEqual", "Greater"):
            return classes, float(np.asarray(node.inputs[1]).item())
        constants = [given for given in node.inputs if not isinstance(given, Node)]
        if node.operator in ("Gather", "ArrayFeatureExtractor") and constants:
            classes = constants[0].ravel()
        inner = [given for given in node.inputs if isinstance(given, Node)]
        node = inner[0]
    if classes is not None and classes.dtype.kind in "iu" and (classes == np.arange(len(classes))).all():
        classes = None
    return classes, None


def _steps(node: Node) -> Iterator[tuple[str, Node, tuple[Any, ...]]]:
    """What is done to the input, the last first: a name, the node, and what it takes."""
    while node.operator != "input":
        operator, given = node.operator, node.inputs
        found = _composed(node) if operator in ("Mul", "Div", "Add", "Sub", "Max", "Log") else None
        if found is not None:
            yield found[0], node, ()
            node = found[1]
            continue
        if operator == "Concat" and len(given) == 2 and isinstance(given[1], Node):  # of no and of yes
            no = given[0]
            if isinstance(no, Node) and no.operator == "Sub" and no.inputs[1] is given[1]:
                node = given[1]
                continue
        if operator == "Reshape" and isinstance(given[1], Node):
            given = [given[0], _target(given[1])]
        if not given or not isinstance(given[0], Node):
            given = given[::-1] if operator in ("Add", "Mul") else given
        if not given or not isinstance(given[0], Node) or any(isinstance(other, Node) for other in given[1:]):
            raise ValueError(f"{node.what} is none that nnc has")
        if operator in ACTIVATIONS:
            name, as_here = ACTIVATIONS[operator]
            _same(node, as_here)
            yield name, node, ()
        elif operator not in NOTHING:
            yield operator, node, tuple(given[1:])
        node = given[0]


def _target(shape: Node) -> Any:
    """A shape that is put together from the number of rows, which is left open, and constants."""
    if shape.operator != "Concat":
        return shape
    parts = [[-1] if isinstance(part, Node) else np.ravel(part).tolist() for part in shape.inputs]
    return np.array([n for part in parts for n in part])


def _same(node: Node, as_here: dict[str, Any]) -> None:
    """Raises where an attribute is there and otherwise than in nnc."""
    for name, value in as_here.items():
        found = node.get(name, value)
        if not (np.isclose(found, value) if isinstance(value, float) else found == value):
            raise ValueError(f"{node.what} has {name}={found!r}, nnc has {value!r} alone")


class _Reading:
    """Tells a Builder of steps, and keeps how images lie and how inputs are scaled."""

    def __init__(self, steps: list[tuple[str, Node, tuple[Any, ...]]], dims: list[int]) -> None:
        shape, self.first = dims[1:], len(dims) == 4
        for name, node, _ in steps:
            if name == "Transpose" and node.get("perm", None) == FIRST:
                self.first = False  # what comes in is channels last, and channels first from here on
                break
            if name in ("Conv", "MatMul", "Gemm"):
                break
        if self.first and len(shape) == 3:
            shape = [shape[1], shape[2], shape[0]]
        if not shape or not all(n > 0 for n in shape):
            known = next((len(given[0]) for name, _, given in steps if name == "MatMul"), 0)
            shape = shape and [known] if len(shape) == 1 else []
            if not known or not shape:
                raise ValueError(f"its input has the shape {dims}, which leaves open how many numbers a row has")
        self.builder = Builder(tuple(shape))
        self.times: Any = 1.0  # what inputs are multiplied with, and what is added to them
        self.plus: Any = 0.0
        self.pending: tuple[Any, Any] | None = None  # the same behind a layer, and it may go on
        for name, node, given in steps:
            self.step(name, node, given)

    def step(self, name: str, node: Node, given: tuple[Any, ...]) -> None:
        """One of them."""
        builder, what = self.builder, node.what
        if name in ("Mul", "Div", "Add", "Sub", "Scaler"):
            self.scale(*_affine(name, node, given))
            return
        if self.pending is not None:
            builder.scale(*self.pending, what)
            self.pending = None
        if name == "BatchNormalization":
            gamma, beta, mean, variance = given
            builder.norm(gamma, beta, mean, variance, node.get("epsilon", 1e-5), what)
        elif name == "MatMul":
            builder.dense(given[0], None, what)
        elif name == "Gemm":
            _same(node, {"transA": 0})
            W = given[0].T if node.get("transB", 0) else given[0]
            b = given[1] * W.dtype.type(node.get("beta", 1.0)) if len(given) > 1 else None
            b = None if b is None else np.broadcast_to(b.reshape(-1), W.shape[1:])
            builder.dense(W * W.dtype.type(node.get("alpha", 1.0)), b, what)
        elif name == "Conv":
            _same(node, {"group": 1, "dilations": [1, 1]})
            kernel = given[0].transpose(2, 3, 1, 0)
            pad = "same" if node.get("auto_pad", b"") == b"SAME_UPPER" else tuple(node.get("pads", [0] * 4))
            b = given[1] if len(given) > 1 else None
            builder.conv(kernel, b, node.get("strides", [1, 1]), pad, what)
        elif name in ("MaxPool", "AveragePool"):
            _same(node, {"ceil_mode": 0, "pads": [0] * 4, "dilations": [1, 1]})
            size = node.get("kernel_shape", [])
            builder.pool(name == "MaxPool", size, node.get("strides", [1, 1]), what)
        elif name == "GlobalAveragePool" or (name == "ReduceMean" and _axes(node, given) == {2, 3}):
            builder.global_pool(what)
        elif name == "Flatten" or (name == "Reshape" and len(given[0]) == 2):
            builder.flatten(what, channels_first=self.first)
        elif name == "Transpose" and node.get("perm", None) in (FIRST, LAST):
            self.first = node.get("perm", None) == FIRST
        elif name == "Reshape" and self.untouched and len(given[0]) == 4:
            _, channels, height, width = map(int, given[0])
            self.builder, self.first = Builder((height, width, channels)), True
        elif name.islower():
            if name == "softmax":
                _same(node, {"axis": 1 if node.get("axis", 1) >= 0 else -1})
            builder.activation(name, what)
        else:
            raise ValueError(f"{what} is none that nnc has")

    @property
    def untouched(self) -> bool:
        """Whether there is no layer yet."""
        return len(self.builder.layers) == 1

    def scale(self, times: Any, plus: Any) -> None:
        """x * times + plus: of inputs, of what a layer gives, or of outputs."""
        if self.untouched:
            times, plus = (self._laid(part) for part in (times, plus))
            self.times, self.plus = self.times * times, self.plus * times + plus
            return
        times, plus = np.ravel(times), np.ravel(plus)
        before = self.pending or (times.dtype.type(1), times.dtype.type(0))
        self.pending = before[0] * times, before[1] * times + plus

    def _laid(self, part: Any) -> Any:
        """Numbers for inputs in the order that nnc has them in."""
        shape = self.builder.shape
        if prod(shape) > MOST_SCALED:
            raise ValueError(f"its input has {prod(shape)} numbers, of which {MOST_SCALED} at most can be scaled")
        if len(shape) == 3 and self.first:
            part = np.broadcast_to(part, (1, shape[2], *shape[:2])).transpose(0, 2, 3, 1)
        return np.broadcast_to(part, (1, *shape)).astype(np.float64)[0]

    def parts(self, loss: Any, classes: Any) -> Parts:
        """The network."""
        scalings: dict[str, Any] = {}
        if np.any(self.times != 1) or np.any(self.plus != 0):
            scalings["scale_X"] = scaling(-self.plus / self.times, self.times)
        if self.pending is not None and self.builder.open is not None:
            self.builder.scale(*self.pending, "the end")
        elif self.pending is not None:
            times, plus = (np.broadcast_to(part, self.builder.shape).astype(np.float64) for part in self.pending)
            scalings["scale_y"] = scaling(plus, 1 / times)
            loss = loss or "mse"
        return self.builder.parts(loss, classes, **scalings)


def _axes(node: Node, given: tuple[Any, ...]) -> set[int]:
    """The axes that are summed up, of four."""
    axes = given[0].tolist() if given else node.get("axes", [])
    return {axis % 4 for axis in axes}


def _affine(name: str, node: Node, given: tuple[Any, ...]) -> tuple[Any, Any]:
    """What a node multiplies with, and what it adds then."""
    if name == "Scaler":  # (x - offset) * scale
        offset, factor = (np.asarray(node.get(key, default)) for key, default in (("offset", 0.0), ("scale", 1.0)))
        return factor.astype(np.float64), -offset.astype(np.float64) * factor
    number = np.asarray(given[0])
    if number.dtype.kind != "f":
        raise ValueError(f"{node.what} takes constants that are no floats")
    one, zero = number.dtype.type(1), number.dtype.type(0)
    if not isinstance(node.inputs[0], Node) and name in ("Sub", "Div"):
        raise ValueError(f"{node.what} is none that nnc has")
    if name in ("Add", "Sub"):
        return one, number if name == "Add" else -number
    if not number.all():
        raise ValueError(f"{node.what} has a factor of 0")
    return number if name == "Mul" else one / number, zero
