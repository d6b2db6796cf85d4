"""Tensors of ONNX models that have no numbers yet, and the registry of the operators that nnc reads.

A tensor has a shape, a type, and the step that makes it from another tensor; read_onnx.py tells a Builder of the steps.
An operator is read only if it is in `OPERATORS`, with the attributes, inputs and outputs that are listed there:
read_onnx_shapes.py and read_onnx_layers.py add them. Specification: https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nnc._interop.read_onnx_file import Node
    from nnc._interop.read_onnx_forms import Form

    Array = np.ndarray[Any, Any]

FLOAT_DTYPES = ("float32", "float64")
MAX_OPSET = 1000  # later than every version of an operator set


class Context(Protocol):
    """Part of the reader that operators use."""

    axes: str  # order of the axes of images that are made of flat rows
    batch: int  # number of rows that the input is declared with, 0 if it is open

    def charge(self, size: int) -> None:
        """Count bytes that are made; ValueError if a small file makes many."""


# ------------------------------------------------------------------------------------------------ values of tensors


class Rows:
    """A tensor with a row for each row of the input.

    Parameters
    ----------
    dims : tuple of int
        Of a row: () or (n,) of numbers, or those of an image.
    axes : str
        What each dimension is: "", "c", or an order of "hwc".
    dtype : str
    before : Rows, optional
        What it is made from; None of the input.
    step : callable, optional
        How it is made, as a function of an Assembly; None if nothing changes. "unknown" if it has a meaning only as a
        part of a composed activation.
    label : str
        The node that gives it.
    """

    def __init__(
        self, dims: tuple[int, ...], axes: str, dtype: str, before: Rows | None, step: Any, label: str
    ) -> None:
        self.dims, self.axes, self.dtype, self.before, self.step, self.label = dims, axes, dtype, before, step, label
        self.forms: list[tuple[Rows, Form]] = []  # formulas, each with the tensor that it is of
        self.activation = ""  # name of the activation that the step is
        self.complement: Rows | None = None  # p if it is 1 - p
        self.scales = False  # whether the step is a multiplication and an addition of constants
        self.scaled_input = before is None  # whether there are only scalings of the input

    def then(self, step: Any, label: str, scales: bool = False, **changes: Any) -> Rows:
        """Return what a step makes of it."""
        given = {"dims": self.dims, "axes": self.axes, "dtype": self.dtype} | changes
        made = Rows(before=self, step=step, label=label, **given)
        made.scales = scales
        made.scaled_input = self.scaled_input and (step is None or scales)
        return made

    def ordered(self, array: Array) -> Array:
        """Return an array whose axes are those of a row with the axes as nnc has them, channels last."""
        return array.transpose([self.axes.index(axis) for axis in "hwc"]) if len(self.dims) == 3 else array


class Pair(NamedTuple):
    """The probabilities of no and of yes, of which the network gives the latter."""

    rows: Rows


class Mapped(NamedTuple):
    """Numbers by names of classes: the output of a ZipMap."""

    source: Rows | Pair
    classes: Array


class Labels(NamedTuple):
    """A class for each row, or for each output 0 or 1."""

    source: Rows | Pair
    threshold: float | None  # None: the largest number decides
    dims: tuple[int, ...] | None  # of a row; None if rows lie along the last axis
    classes: Array | None = None


class Sizes(NamedTuple):
    """Sizes of a shape, of which None is the number of rows."""

    values: list[int | None]
    scalar: bool = False


class Call:
    """A node that is evaluated: its checked attributes by their names, and what it needs of the model."""

    def __init__(self, node: Node, attributes: Mapping[str, Any], reader: Context) -> None:
        self.node, self.attributes, self.reader, self.label = node, attributes, reader, node.label

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]

    def error(self, problem: str) -> ValueError:
        """Return an error that names the node."""
        return ValueError(f"{self.label} {problem}")

    def require(self, **expected: Any) -> None:
        """Raise ValueError if an attribute is given and is not as expected."""
        for name, value in expected.items():
            if self[name] is not None and self[name] != value:
                raise self.error(f"has {name}={self[name]!r}, nnc supports only {value!r}")


# ------------------------------------------------------------------------------------------------ the whitelist


class Operator(NamedTuple):
    """An operator that is read.

    Attributes
    ----------
    function : callable
        Takes the Call and its inputs, and returns the value of the first output.
    inputs : (int, int)
        Smallest and largest number of inputs; optional ones may be absent.
    attributes : dict of str to tuple
        Type, default, and the first and the last version of the operator set that has it.
    since : int
        First version of the operator set that has the operator.
    outputs : int
        Largest number of outputs, of which only the first may be used.
    """

    function: Callable[..., Any]
    inputs: tuple[int, int]
    attributes: Mapping[str, tuple[Any, ...]]
    since: int
    outputs: int

    def call(self, node: Node, reader: Context, inputs: list[Any]) -> Any:
        """Evaluate a node after a check of all that it has."""
        least, most = self.inputs
        if node.opset < self.since:
            raise ValueError(f"{node.label} is not in the operator set {node.opset}")
        if not least <= len(inputs) <= most or any(value is None for value in inputs[:least]):
            raise ValueError(f"{node.label} has {len(inputs)} inputs, expected {least} to {most}")
        if len([name for name in node.outputs if name]) > self.outputs:
            raise ValueError(f"{node.label} has more outputs than nnc supports ({self.outputs})")
        values = {name: allowed[1] for name, allowed in self.attributes.items()}
        for name, (kind, value) in node.attributes.items():
            wanted, _, since, until = self.attributes.get(name, (None, None, 0, 0))
            if kind != wanted or not since <= node.opset <= until:
                raise ValueError(f"{node.label} has the attribute {name}, which is not supported in this form")
            values[name] = value
        return self.function(Call(node, values, reader), *inputs)


OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(
    *names: str, inputs: tuple[int, int] = (1, 1), since: int = 1, outputs: int = 1, domain: str = "", **attributes: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function for operators."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        full = {name: (*given, *(1, MAX_OPSET)[len(given) - 2 :]) for name, given in attributes.items()}
        for name in names:
            OPERATORS[domain, name] = Operator(function, inputs, full, since, outputs)
        return function

    return register


def any_rows(call: Call, value: Any, ranks: tuple[int, ...] = (0, 1, 3)) -> Rows:
    """Return an input that has to be rows, with this many dimensions each."""
    if not isinstance(value, Rows):
        raise call.error("takes an input that nnc does not support here")
    if len(value.dims) not in ranks:
        raise call.error(f"takes rows of shape {value.dims}, which nnc does not support")
    return value


def number_rows(call: Call, value: Any, ranks: tuple[int, ...] = (0, 1, 3)) -> Rows:
    """Return such rows of float32 or float64."""
    rows = any_rows(call, value, ranks)
    if rows.dtype not in FLOAT_DTYPES:
        raise call.error(f"takes numbers of type {rows.dtype}, nnc supports only float32 and float64")
    return rows


def image(call: Call, value: Any) -> Rows:
    """Return such rows of images, channels first."""
    rows = number_rows(call, value, (3,))
    if rows.axes != "chw":
        raise call.error("takes images whose channels are not the second axis")
    return rows


def finite_array(call: Call, value: Any, dtype: str, ndim: int | None = None) -> Array:
    """Return an input that has to be a constant of finite numbers, of this type and number of dimensions."""
    if not isinstance(value, np.ndarray):
        raise call.error("takes two inputs that depend on the input of the model, which nnc does not support")
    if value.dtype != dtype or (ndim is not None and value.ndim != ndim) or not value.size:
        raise call.error(f"takes a constant {value.dtype} of shape {value.shape}, which nnc does not support here")
    call.reader.charge(value.nbytes)  # each use takes time, also of a constant that many nodes share
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise call.error("takes a constant that is not finite")
    return value


def broadcast(call: Call, rows: Rows, value: Any) -> Array:
    """Return a constant that is broadcast along rows, its axes as nnc has them."""
    array = finite_array(call, value, rows.dtype)
    wanted = (1, *rows.dims)
    fits = zip(reversed(array.shape), reversed(wanted), strict=False)
    if array.ndim > len(wanted) or any(n not in (1, m) for n, m in fits):
        raise call.error(f"takes a constant of shape {array.shape}, which does not fit rows of shape {rows.dims}")
    return rows.ordered(array.reshape((1,) * (len(wanted) - array.ndim) + array.shape)[0])


def axis_index(call: Call, axis: int, rank: int) -> int:
    """Return an axis counted from the first one."""
    if not -rank <= axis < rank:
        raise call.error(f"has axis {axis} of {rank}")
    return axis % rank


def axes_of(call: Call, axes: Any, rank: int, since: int) -> list[int]:
    """Return the axes of a node, which are an attribute before a version of the operator set, an input from it on."""
    if call.node.opset >= since:
        axes = None if axes is None else finite_array(call, axes, "int64", 1).tolist()
    elif axes is None:
        axes = call["axes"]
    else:
        raise call.error(f"has axes as an input in the operator set {call.node.opset}")
    if not axes or len(axes) > rank + 1:
        raise call.error("has no axes, which nnc does not support")
    found = [axis_index(call, axis, rank) for axis in axes]
    if len({*found}) != len(found):
        raise call.error(f"has axes={axes}, which are not distinct")
    return found
