"""Values of tensors in the symbolic evaluation of an ONNX model, and the registry of supported operators.

A tensor that depends on the input of the model is symbolic: it has a shape, an element type, and the step that computes
it from another tensor. read_onnx.py applies these steps to an Assembly, which builds the network.

An operator is supported if it is in `OPERATORS`, with the attributes and the numbers of inputs and outputs that are
listed there. read_onnx_shapes.py and read_onnx_layers.py register operators. Specification:
https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nnc._interop.read_onnx_file import Node
    from nnc._interop.read_onnx_forms import Form

    Array = np.ndarray[Any, Any]

FLOAT_DTYPES = ("float32", "float64")
MAX_OPSET = 1000  # last version of attributes that were never removed; larger than all operator set versions


class Context(Protocol):
    """Interface of the reader, with the members that operators use.

    Attributes
    ----------
    axes : str
        Order of the axes of input images, "chw" or "hwc".
    batch : int
        Number of rows that the model declares for its input, or 0 if this number is variable.
    """

    axes: str
    batch: int

    def charge(self, size: int) -> None:
        """Add `size` to the total bytes of arrays; raise ValueError if the total is much larger than the model file."""


# ------------------------------------------------------------------------------------------------ values of tensors


class Rows:
    """Symbolic tensor with one row for each row of the input.

    Parameters
    ----------
    dims : tuple of int
        Shape of one row: (), (n,), or the shape of a sequence or an image.
    axes : str
        Meaning of each dimension: "" for (), "c" for vectors, "tc" for sequences (steps, features), a permutation of
        "hwc" for images. "ct" are transposed sequences; an additional "h" is an axis of size 1.
    dtype : str
        Element type.
    previous : Rows, optional
        Tensor from which this tensor is computed; None for the input.
    step : callable, optional
        Function that adds the computation from `previous` to an Assembly. None means that the numbers are the same;
        "unknown" means that the computation is supported only as a part of a composed activation.
    label : str
        Label of the node that computes this tensor.

    Attributes
    ----------
    forms : list of (Rows, Form)
        Formulas of this tensor, each as a function of another tensor.
    activation : str
        Name of the activation that the step applies, "" for other steps.
    complement : Rows or None
        The tensor p if this tensor is 1 - p.
    is_scaling : bool
        Whether the step multiplies by constants and adds constants.
    is_scaled_input : bool
        Whether all steps from the input to this tensor are scalings.
    """

    def __init__(
        self, dims: tuple[int, ...], axes: str, dtype: str, previous: Rows | None, step: Any, label: str
    ) -> None:
        self.dims, self.axes, self.dtype, self.previous = dims, axes, dtype, previous
        self.step, self.label = step, label
        self.forms: list[tuple[Rows, Form]] = []
        self.activation = ""
        self.complement: Rows | None = None
        self.is_scaling = False
        self.is_scaled_input = previous is None

    def apply(self, step: Any, label: str, is_scaling: bool = False, **changes: Any) -> Rows:
        """Return the symbolic tensor that `step` computes from this tensor.

        `changes` are the dims, axes and dtype of the result that differ from those of this tensor.
        """
        properties = {"dims": self.dims, "axes": self.axes, "dtype": self.dtype} | changes
        result = Rows(previous=self, step=step, label=label, **properties)
        result.is_scaling = is_scaling
        result.is_scaled_input = self.is_scaled_input and (step is None or is_scaling)
        return result

    @property
    def order(self) -> list[int]:
        """Return the indices of the axes of one row in the order with channels or features last."""
        return [self.axes.index(axis) for axis in "hwtc" if axis in self.axes]

    def ordered(self, array: Array) -> Array:
        """Transpose `array`, whose axes have the order of one row of this tensor, to channels or features last."""
        return array.transpose(self.order)


class Pair(NamedTuple):
    """Probabilities 1 - p and p of the classes 0 and 1, where `rows` is the symbolic tensor of p."""

    rows: Rows


class Mapped(NamedTuple):
    """Output of a ZipMap node: a mapping from class names to the numbers in `source` for each row."""

    source: Rows | Pair
    classes: Array


class Labels(NamedTuple):
    """Predicted labels in a graph: one class for each row, or 0 or 1 for each output.

    Attributes
    ----------
    source : Rows or Pair
        Numbers from which the classes are determined.
    threshold : float or None
        Numbers of at least this threshold give class 1. None if the class is the index of the largest number.
    dims : tuple of int or None
        Shape of the labels of one row. None if the last axis of the labels indexes the rows.
    classes : array, optional
        Names of the classes; None if the labels are indices.
    """

    source: Rows | Pair
    threshold: float | None
    dims: tuple[int, ...] | None
    classes: Array | None = None


class Sizes(NamedTuple):
    """Sizes of the dimensions of a tensor, where None stands for the number of rows.

    If `scalar` is true, the value is a single size, not a vector.
    """

    values: list[int | None]
    scalar: bool = False


# Texts that describe each type of value in error messages.
KINDS: dict[type, str] = {
    Rows: "a tensor that depends on the input of the model",
    Pair: "the probabilities of two classes",
    Mapped: "the output of a ZipMap",
    Labels: "labels",
    Sizes: "a shape",
}


def describe_kind(value: Any) -> str:
    """Return a description of an input of a node for error messages."""
    if isinstance(value, np.ndarray):
        return f"a constant of the type {value.dtype} and the shape {value.shape}"
    return KINDS.get(type(value), "no input")


def describe_axes(axes: str) -> str:
    """Return the names of axes for error messages, such as "steps, rows, features" for "tnc"."""
    names = {"n": "rows", "t": "steps", "h": "height", "w": "width", "d": "directions", "u": "units"}
    names["c"] = "channels" if "w" in axes else "features"
    return ", ".join(names[axis] for axis in axes)


class Call:
    """Evaluation of a node: the node, its checked attributes by name, and the reader of the model."""

    def __init__(self, node: Node, attributes: Mapping[str, Any], reader: Context) -> None:
        self.node, self.attributes, self.reader, self.label = node, attributes, reader, node.label

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]

    def error(self, problem: str) -> ValueError:
        """Return a ValueError whose message consists of the label of the node and the problem."""
        return ValueError(f"{self.label}: {problem}")

    def require(self, **expected: Any) -> None:
        """Raise ValueError if an attribute of the node is present and differs from its value in `expected`."""
        for name, value in expected.items():
            if self[name] is not None and self[name] != value:
                raise self.error(f"attribute {name} must be {value!r}, got {self[name]!r}")


# ------------------------------------------------------------------------------------------------ registry of operators


class Operator(NamedTuple):
    """Supported ONNX operator.

    Attributes
    ----------
    function : callable
        Function that returns the value of the first output of a node, for its Call and its inputs, or a list of the
        values of several outputs.
    inputs : (int, int)
        Smallest and largest number of inputs; optional inputs may be missing.
    attributes : dict of str to tuple
        For each attribute its type, its default, and the first and last version of the operator set that has it.
    since : int
        First version of the operator set that has this operator.
    outputs : int
        Largest number of outputs. The model may use only the outputs whose values `function` returns.
    """

    function: Callable[..., Any]
    inputs: tuple[int, int]
    attributes: Mapping[str, tuple[Any, ...]]
    since: int
    outputs: int

    def call(self, node: Node, reader: Context, inputs: list[Any]) -> Any:
        """Evaluate a node with these inputs, and return its value; raise ValueError if the node is not supported."""
        min_inputs, max_inputs = self.inputs
        if node.opset < self.since:
            raise ValueError(f"{node.label} requires version {self.since} of the operator set, got {node.opset}")
        if not min_inputs <= len(inputs) <= max_inputs or any(value is None for value in inputs[:min_inputs]):
            is_range = min_inputs < max_inputs
            expected = f"{min_inputs} to {max_inputs} inputs" if is_range else pluralize(min_inputs, "input")
            raise ValueError(f"{node.label} must have {expected}, got {len(inputs)}")
        n_outputs = sum(map(bool, node.outputs))  # an unused output has the name ""
        if n_outputs > self.outputs:
            raise ValueError(f"{node.label} must have at most {pluralize(self.outputs, 'output')}, got {n_outputs}")
        values = {name: allowed[1] for name, allowed in self.attributes.items()}
        for name, (kind, value) in node.attributes.items():
            expected_kind, _, since, until = self.attributes.get(name, (None, None, 0, 0))
            if kind != expected_kind or not since <= node.opset <= until:
                raise ValueError(
                    f"{node.label} has the attribute {name}, which is not supported for this operator, type and version"
                )
            values[name] = value
        return self.function(Call(node, values, reader), *inputs)


OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(
    *names: str, inputs: tuple[int, int] = (1, 1), since: int = 1, outputs: int = 1, domain: str = "", **attributes: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that registers a function for one or several ONNX operators.

    Parameters
    ----------
    *names : str
        Names of the operators.
    inputs, since, outputs
        As in `Operator`.
    domain : str
        Domain of the operator set.
    **attributes : tuple
        Type and default of each attribute, and optionally its first and last version, as in `Operator`.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        # Complete attributes without a first and last version by the versions 1 and MAX_OPSET.
        complete = {name: (*entry, *(1, MAX_OPSET)[len(entry) - 2 :]) for name, entry in attributes.items()}
        for name in names:
            OPERATORS[domain, name] = Operator(function, inputs, complete, since, outputs)
        return function

    return register


def any_rows(call: Call, value: Any, ranks: tuple[int, ...] = (0, 1, 2, 3)) -> Rows:
    """Return the input `value` of a node after checking that it is a symbolic tensor (`Rows`).

    Raise ValueError for other values, and if the number of dimensions of a row is not in `ranks`.
    """
    if not isinstance(value, Rows):
        raise call.error(f"an input of the node must depend on the input of the model, got {describe_kind(value)}")
    if len(value.dims) not in ranks:
        expected = " or ".join([*map(str, ranks[:-1]), pluralize(ranks[-1], "dimension")])
        raise call.error(f"the rows of an input must have {expected}, got the shape {value.dims}")
    return value


def number_rows(call: Call, value: Any, ranks: tuple[int, ...] = (0, 1, 2, 3)) -> Rows:
    """Return the input `value` of a node; raise ValueError unless it is a symbolic tensor of float32 or float64."""
    rows = any_rows(call, value, ranks)
    if rows.dtype not in FLOAT_DTYPES:
        raise call.error(f"the input must have the type float32 or float64, got {rows.dtype}")
    return rows


def features_last(call: Call, value: Any) -> Rows:
    """Return the input `value` of a node; raise ValueError unless it is vectors, or sequences with features last."""
    rows = number_rows(call, value, (1, 2))
    if rows.axes == "ct":
        raise call.error("the input must have the axes (rows, steps, features), got (rows, features, steps)")
    return rows


def channels_first(call: Call, value: Any) -> Rows:
    """Return the input `value` of a node; raise ValueError unless it is images or sequences with channels first."""
    rows = number_rows(call, value, (2, 3))
    if rows.axes not in ("chw", "ct"):
        raise call.error(
            "the input must be images with channels first or sequences with features first, got rows with the axes "
            f"({describe_axes(rows.axes)})"
        )
    return rows


def finite_array(call: Call, value: Any, dtype: str, ndim: int | None = None) -> Array:
    """Return the input `value` of a node after checking that it is a constant array of finite numbers.

    Raise ValueError for other values, and for arrays with another dtype or number of dimensions.
    """
    if not isinstance(value, np.ndarray):
        raise call.error(f"an input of the node must be a constant, got {describe_kind(value)}")
    if value.dtype != dtype or (ndim is not None and value.ndim != ndim) or not value.size:
        expected = "" if ndim is None else f" {pluralize(ndim, 'dimension')} and"
        raise call.error(
            f"a constant must have the type {dtype},{expected} at least one element, got {describe_kind(value)}"
        )
    call.reader.charge(value.nbytes)  # count the constant for each node that uses it, because each use takes time
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise call.error("a constant must be finite, got NaN or infinity")
    return value


def broadcast(call: Call, rows: Rows, value: Any) -> Array:
    """Return a constant input that can be broadcast to one row of `rows`, with channels or features last."""
    array = finite_array(call, value, rows.dtype)
    shape = (1, *rows.dims)
    pairs = zip(reversed(array.shape), reversed(shape), strict=False)
    if array.ndim > len(shape) or any(n not in (1, m) for n, m in pairs):
        raise call.error(f"the constant must fit rows of the shape {rows.dims}, got the shape {array.shape}")
    return rows.ordered(array.reshape((1,) * (len(shape) - array.ndim) + array.shape)[0])


def axis_index(call: Call, axis: int, rank: int) -> int:
    """Return the nonnegative index of an axis, where -1 is the last axis; raise ValueError if there is no such axis."""
    if not -rank <= axis < rank:
        raise call.error(f"axis must be from {-rank} to {rank - 1}, got {axis}")
    return axis % rank


def axes_of(call: Call, axes: Any, rank: int, since: int) -> list[int]:
    """Return the indices of the axes of a node.

    The axes are an attribute before version `since` of the operator set, and an input from this version on.
    """
    if call.node.opset >= since:
        axes = None if axes is None else finite_array(call, axes, "int64", 1).tolist()
    elif axes is None:
        axes = call["axes"]
    else:
        raise call.error(f"axes must be an attribute in version {call.node.opset} of the operator set, got an input")
    if not axes or len(axes) > rank + 1:
        raise call.error(f"axes must have 1 to {rank} items, got {len(axes or ())}")
    indices = [axis_index(call, axis, rank) for axis in axes]
    if len({*indices}) != len(indices):
        raise call.error(f"axes must be distinct, got {axes}")
    return indices
