"""Values of tensors while an ONNX model is evaluated symbolically, and the registry of supported operators.

A tensor that depends on the input has a shape, an element type, and the step that computes it from another tensor.
read_onnx.py applies these steps to an Assembly.

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
MAX_OPSET = 1000  # version that no operator set will have


class Context(Protocol):
    """Members of the reader that operators use.

    Attributes
    ----------
    axes : str
        Order of the axes of images in the input, "chw" or "hwc".
    batch : int
        Number of rows in the declaration of the input, 0 if it is variable.
    """

    axes: str
    batch: int

    def charge(self, size: int) -> None:
        """Count the bytes of new arrays; raise ValueError if a small file creates large arrays."""


# ------------------------------------------------------------------------------------------------ values of tensors


class Rows:
    """A symbolic tensor with one row for each row of the input.

    Parameters
    ----------
    dims : tuple of int
        Shape of a row: (), (n,), or that of an image.
    axes : str
        Meaning of each dimension: "" for (), "c" for vectors, an order of "hwc" for images.
    dtype : str
    previous : Rows, optional
        Tensor from which this one is computed; None for the input.
    step : callable, optional
        Function of an Assembly that adds the computation from `previous`; None if the numbers are the same. "unknown"
        is a computation that is supported only as a part of a composed activation.
    label : str
        Label of the node that computes it.

    Attributes
    ----------
    forms : list of (Rows, Form)
        Formulas of this tensor, each relative to another tensor.
    activation : str
        Name of the activation that the step applies, "" for other steps.
    complement : Rows or None
        The tensor p if this one is 1 - p.
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
        """Return the tensor that a step computes from this one; `changes` are the new dims, axes or dtype."""
        properties = {"dims": self.dims, "axes": self.axes, "dtype": self.dtype} | changes
        result = Rows(previous=self, step=step, label=label, **properties)
        result.is_scaling = is_scaling
        result.is_scaled_input = self.is_scaled_input and (step is None or is_scaling)
        return result

    def ordered(self, array: Array) -> Array:
        """Return an array with the axes of a row, transposed to channels last as in nnc."""
        return array.transpose([self.axes.index(axis) for axis in "hwc"]) if len(self.dims) == 3 else array


class Pair(NamedTuple):
    """Probabilities of the classes 0 and 1, where `rows` contains that of class 1."""

    rows: Rows


class Mapped(NamedTuple):
    """Numbers by names of classes: the output of a ZipMap."""

    source: Rows | Pair
    classes: Array


class Labels(NamedTuple):
    """A class for each row, or a class 0 or 1 for each output.

    Attributes
    ----------
    source : Rows or Pair
        Numbers from which the classes are determined.
    threshold : float or None
        Smallest number of class 1; None if the class is the index of the largest number.
    dims : tuple of int or None
        Shape for one row; None if rows are along the last axis.
    classes : array, optional
        Names of the classes.
    """

    source: Rows | Pair
    threshold: float | None
    dims: tuple[int, ...] | None
    classes: Array | None = None


class Sizes(NamedTuple):
    """Sizes in a shape, where None is the number of rows; a single size if `scalar` is true."""

    values: list[int | None]
    scalar: bool = False


class Call:
    """A node while it is evaluated, with its checked attributes by name and the reader of the model."""

    def __init__(self, node: Node, attributes: Mapping[str, Any], reader: Context) -> None:
        self.node, self.attributes, self.reader, self.label = node, attributes, reader, node.label

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]

    def error(self, problem: str) -> ValueError:
        """Return a ValueError whose message begins with the label of the node."""
        return ValueError(f"{self.label} {problem}")

    def require(self, **expected: Any) -> None:
        """Raise ValueError if the node has an attribute with another value than expected."""
        for name, value in expected.items():
            if self[name] is not None and self[name] != value:
                raise self.error(f"must have {name}={value!r}, got {self[name]!r}")


# ------------------------------------------------------------------------------------------------ registry


class Operator(NamedTuple):
    """A supported operator.

    Attributes
    ----------
    function : callable
        Function of the Call and its inputs that returns the value of the first output.
    inputs : (int, int)
        Smallest and largest number of inputs; optional inputs may be absent.
    attributes : dict of str to tuple
        Type, default, and first and last version of the operator set with this attribute.
    since : int
        First version of the operator set with this operator.
    outputs : int
        Largest number of outputs, of which only the first one may be used.
    """

    function: Callable[..., Any]
    inputs: tuple[int, int]
    attributes: Mapping[str, tuple[Any, ...]]
    since: int
    outputs: int

    def call(self, node: Node, reader: Context, inputs: list[Any]) -> Any:
        """Return the value of a node; raise ValueError if the node is not supported."""
        min_inputs, max_inputs = self.inputs
        if node.opset < self.since:
            raise ValueError(f"{node.label} requires version {self.since} of the operator set, got {node.opset}")
        if not min_inputs <= len(inputs) <= max_inputs or any(value is None for value in inputs[:min_inputs]):
            is_range = min_inputs < max_inputs
            expected = f"{min_inputs} to {max_inputs} inputs" if is_range else pluralize(min_inputs, "input")
            raise ValueError(f"{node.label} must have {expected}, got {len(inputs)}")
        if len([name for name in node.outputs if name]) > self.outputs:
            raise ValueError(f"{node.label} must have at most {pluralize(self.outputs, 'output')}")
        values = {name: allowed[1] for name, allowed in self.attributes.items()}
        for name, (kind, value) in node.attributes.items():
            expected_kind, _, since, until = self.attributes.get(name, (None, None, 0, 0))
            if kind != expected_kind or not since <= node.opset <= until:
                raise ValueError(f"{node.label} has the attribute {name}, which is not supported in this form")
            values[name] = value
        return self.function(Call(node, values, reader), *inputs)


OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(
    *names: str, inputs: tuple[int, int] = (1, 1), since: int = 1, outputs: int = 1, domain: str = "", **attributes: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that registers a function for operators.

    Parameters
    ----------
    *names : str
        Names of the operators.
    inputs, since, outputs
        As in `Operator`.
    domain : str
        Domain of the operator set.
    **attributes : tuple
        Type, default, and optionally first and last version, as in `Operator`.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        # The defaults of the first and the last version are 1 and MAX_OPSET.
        complete = {name: (*entry, *(1, MAX_OPSET)[len(entry) - 2 :]) for name, entry in attributes.items()}
        for name in names:
            OPERATORS[domain, name] = Operator(function, inputs, complete, since, outputs)
        return function

    return register


def any_rows(call: Call, value: Any, ranks: tuple[int, ...] = (0, 1, 3)) -> Rows:
    """Return an input as Rows; raise ValueError if it has another type or number of dimensions per row."""
    if not isinstance(value, Rows):
        raise call.error("has an input that is not supported here")
    if len(value.dims) not in ranks:
        raise call.error(f"has an input with rows of the shape {value.dims}, which is not supported")
    return value


def number_rows(call: Call, value: Any, ranks: tuple[int, ...] = (0, 1, 3)) -> Rows:
    """Return an input as Rows of float32 or float64 numbers; raise ValueError for other inputs."""
    rows = any_rows(call, value, ranks)
    if rows.dtype not in FLOAT_DTYPES:
        raise call.error(f"must have an input of the type float32 or float64, got {rows.dtype}")
    return rows


def image(call: Call, value: Any) -> Rows:
    """Return an input as Rows of images with channels first; raise ValueError for other inputs."""
    rows = number_rows(call, value, (3,))
    if rows.axes != "chw":
        raise call.error("must have an input of images whose channels are the second axis")
    return rows


def finite_array(call: Call, value: Any, dtype: str, ndim: int | None = None) -> Array:
    """Return an input as a constant array of finite numbers with this type and number of dimensions.

    Raise ValueError for other inputs.
    """
    if not isinstance(value, np.ndarray):
        raise call.error("must have a constant input, got two inputs that depend on the input of the model")
    if value.dtype != dtype or (ndim is not None and value.ndim != ndim) or not value.size:
        raise call.error(f"has a constant {value.dtype} of the shape {value.shape}, which is not supported here")
    call.reader.charge(value.nbytes)  # a constant counts for each node that uses it, because each use needs time
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise call.error("must have finite constants")
    return value


def broadcast(call: Call, rows: Rows, value: Any) -> Array:
    """Return a constant input that is broadcast to the shape of a row, with channels last."""
    array = finite_array(call, value, rows.dtype)
    shape = (1, *rows.dims)
    pairs = zip(reversed(array.shape), reversed(shape), strict=False)
    if array.ndim > len(shape) or any(n not in (1, m) for n, m in pairs):
        raise call.error(f"has a constant of the shape {array.shape}, which does not fit rows of the shape {rows.dims}")
    return rows.ordered(array.reshape((1,) * (len(shape) - array.ndim) + array.shape)[0])


def axis_index(call: Call, axis: int, rank: int) -> int:
    """Return the index of an axis, which may be counted from the last one; raise ValueError if it does not exist."""
    if not -rank <= axis < rank:
        raise call.error(f"must have an axis from {-rank} to {rank - 1}, got {axis}")
    return axis % rank


def axes_of(call: Call, axes: Any, rank: int, since: int) -> list[int]:
    """Return the axes of a node: an attribute before version `since` of the operator set, an input later."""
    if call.node.opset >= since:
        axes = None if axes is None else finite_array(call, axes, "int64", 1).tolist()
    elif axes is None:
        axes = call["axes"]
    else:
        raise call.error(f"must have axes as an attribute in version {call.node.opset} of the operator set")
    if not axes or len(axes) > rank + 1:
        raise call.error("must have axes")
    indices = [axis_index(call, axis, rank) for axis in axes]
    if len({*indices}) != len(indices):
        raise call.error(f"must have distinct axes, got {axes}")
    return indices
