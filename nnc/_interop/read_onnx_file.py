"""Parser of ONNX files, which checks and decodes the protocol buffer messages of a model.

read_onnx_values.py handles the operators. Field numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. A field that is in no schema of this module is refused, because
it may change the meaning of the model.
"""

from __future__ import annotations

import os
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._interop.protobuf import parse
from nnc._utils import disk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Array = np.ndarray[Any, Any]

MAX_IR_VERSION = 14  # latest supported version of the ONNX file format
OPSETS = {"": (7, 28), "ai.onnx.ml": (1, 5)}  # first and last supported version of each operator set
MAX_RANK = 8  # largest supported number of dimensions of a tensor
MAX_TEXT_BYTES = 2**22  # maximum bytes of an array of strings; each element has the size of the longest string
# Values of the enumeration AttributeProto.AttributeType.
FLOAT, INT, STRING, TENSOR, FLOATS, INTS, STRINGS = 1, 2, 3, 4, 6, 7, 8
# Element types of tensors by the values of the enumeration TensorProto.DataType.
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "str", 9: "bool",
    11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip

# Schemas of the messages for `protobuf.parse`, which map each field number to the name and the kind of the field.
MODEL = {
    1: ("ir_version", "int"), 2: ("producer_name", "text"), 3: ("producer_version", "skip"), 4: ("domain", "skip"),
    5: ("model_version", "skip"), 6: ("doc_string", "skip"), 7: ("graph", "message"), 8: ("opset_import", "messages"),
    14: ("metadata_props", "skip"), 20: ("training_info", "skip"), 25: ("functions", "messages"),
    26: ("configuration", "skip"),
}  # fmt: skip
OPSET = {1: ("domain", "text"), 2: ("version", "int")}
GRAPH = {
    1: ("node", "messages"), 2: ("name", "skip"), 5: ("initializer", "messages"), 10: ("doc_string", "skip"),
    11: ("input", "messages"), 12: ("output", "messages"), 13: ("value_info", "skip"),
    14: ("quantization_annotation", "messages"), 15: ("sparse_initializer", "messages"), 16: ("metadata_props", "skip"),
}  # fmt: skip
NODE = {
    1: ("input", "texts"), 2: ("output", "texts"), 3: ("name", "text"), 4: ("op_type", "text"),
    5: ("attribute", "messages"), 6: ("doc_string", "skip"), 7: ("domain", "text"), 8: ("overload", "text"),
    9: ("metadata_props", "skip"), 10: ("device_configurations", "skip"),
}  # fmt: skip
ATTRIBUTE = {
    1: ("name", "text"), 2: ("f", "float"), 3: ("i", "int"), 4: ("s", "text"), 5: ("t", "message"),
    6: ("g", "message"), 7: ("floats", "floats"), 8: ("ints", "ints"), 9: ("strings", "texts"),
    10: ("tensors", "messages"), 11: ("graphs", "messages"), 13: ("doc_string", "skip"), 14: ("tp", "message"),
    15: ("type_protos", "messages"), 20: ("type", "int"), 21: ("ref_attr_name", "text"),
    22: ("sparse_tensor", "message"), 23: ("sparse_tensors", "messages"),
}  # fmt: skip
# Name of the field that contains the value of an attribute, for each type of attribute.
VALUE_FIELDS = {FLOAT: "f", INT: "i", STRING: "s", TENSOR: "t", FLOATS: "floats", INTS: "ints", STRINGS: "strings"}
TENSOR_FIELDS = {
    1: ("dims", "ints"), 2: ("data_type", "int"), 3: ("segment", "message"), 4: ("float_data", "floats"),
    5: ("int32_data", "ints"), 6: ("string_data", "texts"), 7: ("int64_data", "ints"), 8: ("name", "text"),
    9: ("raw_data", "message"), 10: ("double_data", "doubles"), 11: ("uint64_data", "ints"), 12: ("doc_string", "skip"),
    13: ("external_data", "messages"), 14: ("data_location", "int"), 16: ("metadata_props", "skip"),
}  # fmt: skip
# Name of the field that contains the numbers of a tensor, for each element type. Other element types use "int32_data".
DATA_FIELDS = {"float32": "float_data", "float64": "double_data", "int64": "int64_data", "str": "string_data"}
DATA_FIELDS |= {"uint32": "uint64_data", "uint64": "uint64_data"}
ENTRY = {1: ("key", "text"), 2: ("value", "text")}
VALUE = {1: ("name", "text"), 2: ("type", "message"), 3: ("doc_string", "skip"), 4: ("metadata_props", "skip")}
TYPE = {1: ("tensor", "message"), 6: ("denotation", "skip")}
TENSOR_TYPE = {1: ("elem_type", "int"), 2: ("shape", "message")}
SHAPE = {1: ("dim", "messages")}
DIMENSION = {1: ("dim_value", "int"), 2: ("dim_param", "skip"), 3: ("denotation", "skip")}


class Node(NamedTuple):
    """Decoded node of an ONNX graph.

    Attributes
    ----------
    domain : str
        Domain of the operator set, "" for the standard operators.
    operator : str
        Name of the operator.
    opset : int
        Version of the operator set.
    label : str
        Name of the node in messages.
    inputs, outputs : list of str
        Names of the input and output tensors.
    attributes : dict of str to tuple
        Type and value of each attribute by its name.
    """

    domain: str
    operator: str
    opset: int
    label: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, tuple[int, Any]]


class Model(NamedTuple):
    """Parsed ONNX model with one input.

    Attributes
    ----------
    producer : str
        Name of the program that exported the model.
    nodes : list of Node
        Nodes that the outputs depend on, in the order of the file.
    constants : Constants
        Constant tensors of the graph.
    input : str
        Name of the input.
    dtype : str
        Element type of the input.
    dims : list of int
        Dimensions of the input, 0 for variable dimensions.
    outputs : list of str
        Names of the outputs.
    """

    producer: str
    nodes: list[Node]
    constants: Constants
    input: str
    dtype: str
    dims: list[int]
    outputs: list[str]


class Constants:
    """Constant tensors of a graph (initializers) by name, which are decoded on first use.

    Parameters
    ----------
    tensors : sequence of dict
        Tensors that were parsed with the schema `TENSOR_FIELDS`.
    folder : str
        Folder of the files that tensors may refer to.

    Attributes
    ----------
    external_bytes : int
        Total size of the external files that were opened.
    """

    def __init__(self, tensors: Sequence[dict[str, Any]], folder: str) -> None:
        self.folder = folder
        self.tensors: dict[str, dict[str, Any]] = {}
        self.arrays: dict[str, Array] = {}
        self.unread_bytes: dict[str, int] = {}  # bytes in each external file that no tensor has read yet
        self.external_bytes = 0
        for tensor in tensors:
            if tensor["name"] in self.tensors:
                raise ValueError(f"the tensor {tensor['name']!r} is defined twice")
            self.tensors[tensor["name"]] = tensor

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __getitem__(self, name: str) -> Array:
        if name not in self.arrays:
            self.arrays[name] = self.decode(self.tensors[name])
        return self.arrays[name]

    def decode(self, tensor: dict[str, Any]) -> Array:
        """Decode the numbers or strings of a parsed tensor to an array."""
        label, dims = f"the tensor {tensor['name']!r}", tensor["dims"]
        dtype = DTYPES.get(tensor["data_type"])
        if dtype is None:
            raise ValueError(f"{label} has the data type {tensor['data_type']}, which is not supported")
        if tensor["segment"] is not None:
            raise ValueError(f"{label} is stored in segments, which is not supported")
        if len(dims) > MAX_RANK:
            raise ValueError(f"{label} must have at most {MAX_RANK} dimensions, got {len(dims)}")
        if any(n < 0 for n in dims):
            raise ValueError(f"{label} must have dimensions of at least 0, got the shape {dims}")
        name = DATA_FIELDS.get(dtype, "int32_data")
        if any(len(tensor[field]) for field in {*DATA_FIELDS.values(), "int32_data"} - {name}):
            raise ValueError(f"{label} must have all its values in the field for {dtype}, got values in another field")
        is_raw, is_external = tensor["raw_data"] is not None, tensor["data_location"] != 0
        n_sources = (len(tensor[name]) > 0) + is_raw + is_external
        if n_sources > 1 or bool(tensor["external_data"]) != is_external or tensor["data_location"] not in (0, 1):
            raise ValueError(f"{label} must have its values in one field or external file, got contradictory fields")
        if dtype == "str":
            array = _strings(tensor["string_data"], label)
        elif is_external:
            content = self._external(tensor, prod(dims) * np.dtype(dtype).itemsize, label)
            array = np.frombuffer(content, _little_endian(dtype))
        elif is_raw and dtype == "bool":
            array = _typed([*tensor["raw_data"]], dtype, label)
        elif is_raw:
            array = np.frombuffer(tensor["raw_data"], _little_endian(dtype))
        else:
            array = _typed(tensor[name], dtype, label)
        if array.size != prod(dims):
            raise ValueError(f"{label} must have as many values as its shape {dims} requires, got {array.size}")
        return array.astype(array.dtype.newbyteorder("="), copy=False).reshape(dims)

    def _external(self, tensor: dict[str, Any], size: int, label: str) -> bytes:
        """Read the `size` bytes of a tensor that is stored in an external file next to the model.

        Raise ValueError if all tensors in an external file together have more bytes than the file.
        """
        pairs = [parse(entry, ENTRY, label) for entry in tensor["external_data"]]
        entries = {pair["key"]: pair["value"] for pair in pairs}
        location = entries.get("location", "")
        if not location or os.path.basename(location) != location or location in (os.curdir, os.pardir):
            raise ValueError(f"{label} must be stored in a file in the folder of the model, got {location!r}")
        offset, length = (_digits(entries.get(key, ""), label) for key in ("offset", "length"))
        if length not in (None, size):
            raise ValueError(f"{label} has {length} bytes in {location!r}, expected {size} from its shape and type")
        path = os.path.join(self.folder, location)
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError(f"{label} must be stored in a regular file, got {location!r}")
        with disk.open_binary(path, "network") as file:
            if location not in self.unread_bytes:
                self.unread_bytes[location] = os.fstat(file.fileno()).st_size
                self.external_bytes += self.unread_bytes[location]
            is_complete = size <= self.unread_bytes[location] and size < 2**62
            content = b""
            if is_complete:
                file.seek(offset or 0)
                content = file.read(size)
                self.unread_bytes[location] -= size
        if not is_complete:
            raise ValueError(
                f"the tensors in {location!r} must fit into the size of this file, but {label} needs {size} bytes more "
                "than are left"
            )
        return content


def _digits(text: str, label: str) -> int | None:
    """Convert the text of an offset or a length to an integer; return None if the text is empty."""
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(f"{label} must have integers as offset and length (bytes), got {text[:30]!r}")
    return int(text) if text else None


def _little_endian(dtype: str) -> Any:
    """Return a dtype in little-endian byte order."""
    return np.dtype(dtype).newbyteorder("<")


def _typed(values: Any, dtype: str, label: str) -> Array:
    """Convert the numbers of a tensor to an array of `dtype`; raise ValueError if one is outside its range."""
    if dtype in ("float32", "float64"):
        return np.frombuffer(values, _little_endian(dtype))
    if dtype in ("uint32", "uint64"):
        values = [value & 2**64 - 1 for value in values]
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if values and not (low <= min(values) and max(values) <= high):
        raise ValueError(
            f"{label} must have numbers in the range of {dtype}, got numbers from {min(values)} to {max(values)}"
        )
    return np.array(values, dtype)


def _strings(texts: Sequence[str], label: str) -> Array:
    """Return the strings of a tensor as an array; raise ValueError if the array would be too large."""
    if 4 * len(texts) * max(map(len, texts), default=0) > MAX_TEXT_BYTES:
        raise ValueError(f"{label} has strings that need more than {MAX_TEXT_BYTES >> 20} MiB, which is not supported")
    return np.array(texts, dtype=str)


def load(content: bytes, folder: str) -> Model:
    """Decode the model in the content of an ONNX file.

    Parameters
    ----------
    content : bytes
        Content of the file.
    folder : str
        Folder of the external files that tensors may refer to.

    Raises
    ------
    ValueError
        The content is not a model, is damaged, or has a part that is not supported; the message names this part.
    OSError
        An external file that a tensor refers to cannot be read.
    """
    model = parse(content, MODEL, "the model")
    if model["graph"] is None:
        raise ValueError("the file is not an ONNX model: it has no graph")
    if not 3 <= model["ir_version"] <= MAX_IR_VERSION:
        raise ValueError(f"the IR version of the model must be 3 to {MAX_IR_VERSION}, got {model['ir_version']}")
    if model["functions"]:
        raise ValueError("the model defines functions, which are not supported; export it without functions")
    opsets = _opsets(model["opset_import"])
    graph = parse(model["graph"], GRAPH, "the graph")
    for name in ("quantization_annotation", "sparse_initializer"):
        if graph[name]:
            raise ValueError(f"the graph has a {name}, which is not supported")
    tensors = [parse(tensor, TENSOR_FIELDS, "a tensor") for tensor in graph["initializer"]]
    constants = Constants(tensors, folder)
    inputs = [value for value in map(_value, graph["input"]) if value["name"] not in constants]
    if len(inputs) != 1:
        raise ValueError(f"the model must have one input, got {len(inputs)}")
    dtype, dims = _tensor_type(inputs[0])
    outputs = list(dict.fromkeys(_value(value)["name"] for value in graph["output"]))
    all_nodes = [_RawNode(parse(part, NODE, "a node"), opsets) for part in graph["node"]]
    nodes = _required_nodes(all_nodes, outputs, {*constants.tensors, inputs[0]["name"]})
    return Model(
        model["producer_name"],
        [node.decode(constants) for node in nodes],
        constants,
        inputs[0]["name"],
        dtype,
        dims,
        outputs,
    )


def _opsets(parts: Sequence[memoryview]) -> dict[str, int]:
    """Return the version of each operator set of the model, by domain."""
    opsets: dict[str, int] = {}
    for part in parts:
        opset = parse(part, OPSET, "an operator set")
        domain = _domain(opset["domain"])
        if domain in opsets:
            raise ValueError(f"the model has the operator set {domain!r} twice, expected once")
        opsets[domain] = opset["version"]
    return opsets


def _domain(name: str) -> str:
    """Return the domain of an operator set; it is "" for both names of the standard operators, "" and "ai.onnx"."""
    return "" if name == "ai.onnx" else name


def _value(content: memoryview) -> dict[str, Any]:
    """Parse the message that describes an input or output of the graph."""
    return parse(content, VALUE, "an input or output")


def _tensor_type(value: dict[str, Any]) -> tuple[str, list[int]]:
    """Return the element type and the dimensions of an input; a variable dimension has the size 0."""
    label = f"the input {value['name']!r}"
    value_type = parse(value["type"] or b"", TYPE, label)
    tensor = parse(value_type["tensor"] or b"", TENSOR_TYPE, label)
    dims = parse(tensor["shape"] or b"", SHAPE, label)["dim"]
    if tensor["elem_type"] not in DTYPES:
        raise ValueError(f"{label} has the data type {tensor['elem_type']}, which is not supported")
    if len(dims) > MAX_RANK:
        raise ValueError(f"{label} has {len(dims)} dimensions, expected at most {MAX_RANK}")
    return DTYPES[tensor["elem_type"]], [parse(dim, DIMENSION, label)["dim_value"] for dim in dims]


class _RawNode:
    """Parsed node whose attributes are not decoded yet.

    Nodes that no output depends on are never decoded, so they may have unsupported attributes.
    """

    def __init__(self, node: dict[str, Any], opsets: Mapping[str, int]) -> None:
        self.node, self.opsets = node, opsets
        self.inputs, self.outputs = node["input"], node["output"]
        self.label = f"node {node['name'] or next(iter(self.outputs), '')!r} ({node['op_type']})"

    def decode(self, constants: Constants) -> Node:
        """Return the node with decoded attributes; raise ValueError if its operator set is not supported."""
        domain = _domain(self.node["domain"])
        if self.node["overload"] or domain not in OPSETS:
            raise ValueError(f"{self.label} has an operator from the domain {domain!r}, which is not supported")
        first, last = OPSETS[domain]
        opset = self.opsets.get(domain, 0)
        if not first <= opset <= last:
            raise ValueError(f"the version of operator set {domain!r} must be {first} to {last}, got {opset or 'none'}")
        attributes: dict[str, tuple[int, Any]] = {}
        for part in self.node["attribute"]:
            name, kind, value = self._attribute(part, constants)
            if name in attributes:
                raise ValueError(f"{self.label} has the attribute {name} twice, expected once")
            attributes[name] = kind, value
        return Node(domain, self.node["op_type"], opset, self.label, self.inputs, self.outputs, attributes)

    def _attribute(self, content: memoryview, constants: Constants) -> tuple[str, int, Any]:
        """Decode an attribute, and return its name, type and value."""
        attribute = parse(content, ATTRIBUTE, f"an attribute of {self.label}")
        name, kind = attribute.pop("name"), attribute.pop("type")
        if kind not in VALUE_FIELDS or attribute["ref_attr_name"]:
            raise ValueError(f"{self.label} has the attribute {name} with a type that is not supported")
        value = attribute.pop(VALUE_FIELDS[kind])
        others = [other for other in attribute.values() if other is not None]
        if any(other if isinstance(other, (int, float)) else len(other) for other in others):
            raise ValueError(f"{self.label} has the attribute {name} with several values, expected one")
        if kind == FLOATS:
            value = np.frombuffer(value, "<f4")
        if kind == TENSOR:
            value = constants.decode(parse(value or b"", TENSOR_FIELDS, f"{name} of {self.label}"))
        return name, kind, value


def _required_nodes(nodes: list[_RawNode], outputs: list[str], available: set[str]) -> list[_RawNode]:
    """Return the nodes that the outputs depend on, in the order of the file.

    `available` are the names of the input and of the constants. Raise ValueError if a node uses a tensor that only a
    later node defines.
    """
    producers: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            if name in producers or name in available:
                raise ValueError(f"{node.label} has the output {name!r}, which another node or constant also defines")
            producers[name] = i
    required: set[int] = set()
    pending = [name for name in outputs if name in producers]
    while pending:
        i = producers[pending.pop()]
        if i not in required:
            required.add(i)
            for name in filter(None, nodes[i].inputs):
                if name not in available and producers.get(name, i) >= i:
                    raise ValueError(f"{nodes[i].label} has the input {name!r}, which no previous node defines")
            pending += [name for name in nodes[i].inputs if name in producers]
    return [nodes[i] for i in sorted(required)]
