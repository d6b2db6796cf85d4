"""The operators that nnc reads in ONNX models, evaluated for tensors that have no numbers yet.

A tensor has a shape, a type, and the step that makes it from another tensor; read_onnx.py tells a Builder of the steps.
An operator is read only if it is in `OPERATORS`, with the attributes, inputs and outputs that are listed there.
Specification: https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from nnc.exchange import onnx_forms
from nnc.exchange.onnx import OPERATORS as WRITTEN_OPERATORS
from nnc.exchange.onnx import READ_OPERATORS
from nnc.exchange.onnx_file import DTYPES, FLOAT, FLOATS, INT, INTS, STRING, STRINGS, TENSOR
from nnc.exchange.onnx_forms import UNARY, X, combine, constant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nnc.exchange.onnx_file import Node
    from nnc.exchange.onnx_forms import Form
    from nnc.exchange.read_onnx import Assembly

    Array = np.ndarray[Any, Any]

FLOAT_DTYPES = ("float32", "float64")
MAX_OPSET = 1000  # later than every version of an operator set


class Context(Protocol):
    """What operators ask the reader for."""

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


def _rows(call: Call, value: Any, ranks: tuple[int, ...] = (0, 1, 3)) -> Rows:
    """Return an input that has to be rows, with this many dimensions each."""
    if not isinstance(value, Rows):
        raise call.error("takes an input that nnc does not support here")
    if len(value.dims) not in ranks:
        raise call.error(f"takes rows of shape {value.dims}, which nnc does not support")
    return value


def _number_rows(call: Call, value: Any, ranks: tuple[int, ...] = (0, 1, 3)) -> Rows:
    """Return such rows of float32 or float64."""
    rows = _rows(call, value, ranks)
    if rows.dtype not in FLOAT_DTYPES:
        raise call.error(f"takes numbers of type {rows.dtype}, nnc supports only float32 and float64")
    return rows


def _image(call: Call, value: Any) -> Rows:
    """Return such rows of images, channels first."""
    rows = _number_rows(call, value, (3,))
    if rows.axes != "chw":
        raise call.error("takes images whose channels are not the second axis")
    return rows


def _array(call: Call, value: Any, dtype: str, ndim: int | None = None) -> Array:
    """Return an input that has to be a constant of finite numbers, of this type and number of dimensions."""
    if not isinstance(value, np.ndarray):
        raise call.error("takes two inputs that depend on the input of the model, which nnc does not support")
    if value.dtype != dtype or (ndim is not None and value.ndim != ndim) or not value.size:
        raise call.error(f"takes a constant {value.dtype} of shape {value.shape}, which nnc does not support here")
    call.reader.charge(value.nbytes)  # each use takes time, also of a constant that many nodes share
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise call.error("takes a constant that is not finite")
    return value


def _along(call: Call, rows: Rows, value: Any) -> Array:
    """Return a constant that is broadcast along rows, its axes as nnc has them."""
    array = _array(call, value, rows.dtype)
    wanted = (1, *rows.dims)
    fits = zip(reversed(array.shape), reversed(wanted), strict=False)
    if array.ndim > len(wanted) or any(n not in (1, m) for n, m in fits):
        raise call.error(f"takes a constant of shape {array.shape}, which does not fit rows of shape {rows.dims}")
    return rows.ordered(array.reshape((1,) * (len(wanted) - array.ndim) + array.shape)[0])


def _axis(call: Call, axis: int, rank: int) -> int:
    """Return an axis counted from the first one."""
    if not -rank <= axis < rank:
        raise call.error(f"has axis {axis} of {rank}")
    return axis % rank


def _axes(call: Call, axes: Any, rank: int, since: int) -> list[int]:
    """Return the axes of a node, which are an attribute before a version of the operator set, an input from it on."""
    if call.node.opset >= since:
        axes = None if axes is None else _array(call, axes, "int64", 1).tolist()
    elif axes is None:
        axes = call["axes"]
    else:
        raise call.error(f"has axes as an input in the operator set {call.node.opset}")
    if not axes or len(axes) > rank + 1:
        raise call.error("has no axes, which nnc does not support")
    found = [_axis(call, axis, rank) for axis in axes]
    if len({*found}) != len(found):
        raise call.error(f"has axes={axes}, which are not distinct")
    return found


# ------------------------------------------------------------------------------------------------ constants


@operator(
    "Constant", inputs=(0, 0), value=(TENSOR, None), value_float=(FLOAT, None, 12), value_int=(INT, None, 12),
    value_floats=(FLOATS, None, 12), value_ints=(INTS, None, 12),
)  # fmt: skip
def _constant(call: Call) -> Array:
    given = {name: value for name, value in call.attributes.items() if value is not None}
    if len(given) != 1:
        raise call.error("must have one value")
    ((name, value),) = given.items()
    kind = {"value_float": np.float32, "value_floats": np.float32}.get(name, np.int64)
    return value if name == "value" else np.asarray(value, kind)


@operator("Identity")
def _identity(call: Call, value: Any) -> Any:
    return value


@operator("Cast", to=(INT, 0), saturate=(INT, 1, 19), round_mode=(STRING, b"up", 24))
def _cast(call: Call, value: Any) -> Any:
    dtype = DTYPES.get(call["to"], f"data type {call['to']}")
    if isinstance(value, Rows) and dtype in FLOAT_DTYPES:
        return value if value.dtype == dtype else value.then(None, call.label, dtype=dtype)
    whole = dtype in ("int64", "int32")
    if isinstance(value, Sizes) and dtype == "int64":
        return value
    if isinstance(value, Labels) and whole:
        if value.classes is None:
            return value
        return value._replace(classes=_converted(call, value.classes, dtype))
    if isinstance(value, np.ndarray) and (whole or dtype in FLOAT_DTYPES):
        return _converted(call, value, dtype)
    raise call.error(f"casts to {dtype}, which nnc does not support here")


def _converted(call: Call, array: Array, dtype: str) -> Array:
    """Return a constant as another type that holds all of it."""
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f") > (np.dtype(dtype).kind == "f"):
        raise call.error(f"casts a constant from {array.dtype} to {dtype}, which nnc does not support")
    call.reader.charge(array.size * np.dtype(dtype).itemsize)
    made = array.astype(dtype)
    if array.dtype.kind != "f" and (made != array).any():
        raise call.error(f"casts a constant to {dtype}, which does not hold it")
    return made


# ------------------------------------------------------------------------------------------------ shapes


@operator("Shape", start=(INT, 0, 15), end=(INT, None, 15))
def _shape(call: Call, value: Any) -> Sizes:
    rows = _rows(call, value)
    return Sizes([None, *rows.dims][call["start"] : call["end"]])


@operator("Gather", inputs=(2, 2), axis=(INT, 0))
def _gather(call: Call, value: Any, indices: Any) -> Any:
    if isinstance(value, np.ndarray) and isinstance(indices, Labels):
        if value.ndim != 1 or call["axis"] not in (0, -1):
            raise call.error("takes classes that are not one list")
        return _classes(call, indices, value)
    if not isinstance(value, Sizes) or value.scalar or call["axis"] not in (0, -1):
        raise call.error("takes inputs that nnc does not support here")
    index = np.asarray(indices) if isinstance(indices, np.ndarray) else None
    if index is None or index.dtype.kind != "i" or index.ndim > 1 or index.size > len(value.values):
        raise call.error("takes indices that nnc does not support here")
    places = [_axis(call, i, len(value.values)) for i in index.ravel().tolist()]
    return Sizes([value.values[i] for i in places], scalar=index.ndim == 0)


@operator("Concat", inputs=(1, 16), axis=(INT, None))
def _concat(call: Call, *parts: Any) -> Any:
    first, second = (*parts, None)[:2]
    if len(parts) == 2 and isinstance(first, Rows) and isinstance(second, Rows) and first.complement is second:
        if second.dims != (1,) or call["axis"] not in (1, -1):
            raise call.error("must join the probabilities of no and of yes along axis 1")
        return Pair(second)
    made: list[int | None] = []
    for part in parts:
        if isinstance(part, Sizes) and not part.scalar:
            made += part.values
        elif isinstance(part, np.ndarray) and part.dtype == "int64" and part.ndim == 1:
            made += part[:16].tolist()
        else:
            raise call.error("joins tensors, which nnc supports only for shapes and for two probabilities")
    if call["axis"] not in (0, -1) or len(made) > 8:
        raise call.error("joins sizes that are no shape")
    return Sizes(made)


@operator("Flatten", axis=(INT, 1))
def _flatten(call: Call, value: Any) -> Rows:
    rows = _rows(call, value, (1, 3))
    if _axis(call, call["axis"], len(rows.dims) + 1) != 1:
        raise call.error(f"has axis={call['axis']}, nnc supports only 1")
    return _reshaped(call, rows, (prod(rows.dims),))


@operator("Reshape", inputs=(2, 2), allowzero=(INT, 0, 14))
def _reshape(call: Call, value: Any, shape: Any) -> Any:
    target: list[int | None] = shape.values if isinstance(shape, Sizes) and not shape.scalar else []
    if isinstance(shape, np.ndarray):
        target = _array(call, shape, "int64", 1)[:9].tolist()
    if not target or len(target) > 8:
        raise call.error("takes a shape that nnc does not support here")
    if isinstance(value, np.ndarray):
        if 0 in target or None in target or (call["allowzero"] not in (0, 1)):
            raise call.error(f"reshapes a constant to {target}, which nnc does not support")
        try:
            return value.reshape([int(n or 0) for n in target])
        except (ValueError, OverflowError):
            raise call.error(f"reshapes a constant of shape {value.shape} to {target}, which does not fit") from None
    if isinstance(value, Labels):
        if value.dims is not None and prod(value.dims) != 1:
            raise call.error("reshapes several labels of a row, which nnc does not support")
        dims = _dims_of(call, (1,) if value.dims is None else value.dims, target, value.dims is None)
        return value._replace(dims=dims)
    rows = _rows(call, value)
    return _reshaped(call, rows, _dims_of(call, rows.dims, target))


def _dims_of(call: Call, dims: tuple[int, ...], target: list[int | None], turned: bool = False) -> tuple[int, ...]:
    """Return the dimensions of a row after a Reshape that leaves the first axis to rows.

    `turned` is true if the first axis was not that of rows before.
    """
    first, *rest = target
    if call["allowzero"] not in (0, 1):
        raise call.error(f"has allowzero={call['allowzero']}")
    copies = not call["allowzero"] and not turned
    number = {None, call.reader.batch, -1} if call.reader.batch else {None, -1}
    if first not in number and not (first == 0 and copies):
        raise call.error(f"reshapes rows of {dims} to {target}, which does not leave the first axis to rows")
    sizes = [dims[i] if n == 0 and copies and i < len(dims) else n for i, n in enumerate(rest)]
    open_sizes = [n for n in sizes if n == -1]
    if None in sizes or 0 in sizes or any(n < -1 for n in sizes if n is not None) or len(open_sizes) > (first != -1):
        raise call.error(f"reshapes rows of {dims} to {target}, which nnc does not support")
    others = prod(n for n in sizes if n is not None and n != -1)
    made = tuple(prod(dims) // others if n == -1 else int(n or 0) for n in sizes)
    if prod(made) != prod(dims):
        raise call.error(f"reshapes rows of {dims} to {target}, which does not fit")
    return made


def _reshaped(call: Call, rows: Rows, dims: tuple[int, ...]) -> Rows:
    """Return rows with other dimensions, the numbers in the same order."""
    if dims == rows.dims:
        return rows
    axes = "c" * len(dims)
    if len(dims) <= 1 and len(rows.dims) <= 1:
        return rows.then(None, call.label, dims=dims, axes=axes)
    if len(dims) <= 1:
        if rows.axes not in ("chw", "hwc"):
            raise call.error("flattens images whose axes are neither channels first nor channels last")
        channels_first, size = rows.axes == "chw", prod(dims)

        def flatten(to: Assembly) -> None:
            if channels_first:
                to.charge(8 * size)
            to.builder.flatten(call.label, channels_first=channels_first)

        return rows.then(flatten, call.label, dims=dims, axes=axes)
    if len(dims) == 3 and len(rows.dims) == 1 and rows.scaled_input:
        axes = call.reader.axes
        height, width, channels = (dims[axes.index(axis)] for axis in "hwc")
        if axes == "chw" and channels != 1 and (height, width) != (1, 1):
            raise call.error("makes images of several channels, channels first, from rows of numbers")
        made = rows.then(lambda to: to.begin((height, width, channels)), call.label, dims=dims, axes=axes)
        made.scaled_input = True
        return made
    raise call.error(f"reshapes rows of {rows.dims} to {dims}, which nnc does not support")


@operator("Squeeze", inputs=(1, 2), axes=(INTS, None, 1, 12))
def _squeeze(call: Call, value: Any, axes: Any = None) -> Any:
    if isinstance(value, np.ndarray):
        return value.reshape([value.shape[i] for i in _others(call, value.shape, axes)])
    if isinstance(value, Labels) and value.dims is not None:
        shape = (2, *value.dims)
        return value._replace(dims=tuple(shape[i] for i in _others(call, shape, axes))[1:])
    rows = _rows(call, value)
    shape = (2, *rows.dims)  # any number of rows but one
    return _reshaped(call, rows, tuple(shape[i] for i in _others(call, shape, axes))[1:])


def _others(call: Call, shape: tuple[int, ...], axes: Any) -> list[int]:
    """Return the axes that a Squeeze leaves."""
    gone = _axes(call, axes, len(shape), 13)
    if any(shape[i] != 1 for i in gone):
        raise call.error("removes an axis that is not 1")
    return [i for i in range(len(shape)) if i not in gone]


@operator("Unsqueeze", inputs=(1, 2), axes=(INTS, None, 1, 12))
def _unsqueeze(call: Call, value: Any, axes: Any = None) -> Any:
    if isinstance(value, Sizes):
        if not value.scalar or _axes(call, axes, 1, 13) != [0]:
            raise call.error("takes sizes, of which nnc supports only one with axes=[0]")
        return Sizes(value.values)
    shape = value.shape if isinstance(value, np.ndarray) else (2, *_rows(call, value).dims)
    count = np.size(axes) if axes is not None else len(call["axes"] or ())
    if len(shape) + count > 8:
        raise call.error("makes too many axes")
    new = _axes(call, axes, len(shape) + count, 13)
    sizes = iter(shape)
    made = [1 if i in new else next(sizes) for i in range(len(shape) + count)]
    if isinstance(value, np.ndarray):
        return value.reshape(made)
    if 0 in new:
        raise call.error("adds an axis before rows, which nnc does not support")
    return _reshaped(call, value, tuple(made[1:]))


@operator("Transpose", perm=(INTS, None))
def _transpose(call: Call, value: Any) -> Any:
    rank = value.ndim if isinstance(value, np.ndarray) else 1 + len(_rows(call, value).dims)
    perm = [*range(rank)][::-1] if call["perm"] is None else call["perm"]
    if sorted(perm[: rank + 1]) != [*range(rank)]:
        raise call.error(f"has perm={perm[:9]}, which is no order of {rank} axes")
    if isinstance(value, np.ndarray):
        return value.transpose(perm)
    if perm[:1] != [0]:
        raise call.error(f"has perm={perm}, which moves the axis of rows")
    dims, axes = (tuple(part[i - 1] for i in perm[1:]) for part in (value.dims, value.axes))
    return value.then(None, call.label, dims=dims, axes="".join(axes))


# ------------------------------------------------------------------------------------------------ layers


@operator("MatMul", inputs=(2, 2))
def _mat_mul(call: Call, value: Any, W: Any) -> Rows:
    rows = _number_rows(call, value, (1,))
    return _dense(call, rows, _array(call, W, rows.dtype, 2), None)


@operator("Gemm", inputs=(2, 3), alpha=(FLOAT, 1.0), beta=(FLOAT, 1.0), transA=(INT, 0), transB=(INT, 0))
def _gemm(call: Call, value: Any, W: Any, b: Any = None) -> Rows:
    rows = _number_rows(call, value, (1,))
    call.require(transA=0)
    if b is None and call.node.opset < 11:
        raise call.error("has no C, which the operator set needs")
    W = _array(call, W, rows.dtype, 2)
    W = W.T if call["transB"] else W
    if call["alpha"] != 1:
        W = W * W.dtype.type(call["alpha"])
    if b is not None:
        of_outputs = Rows(W.shape[1:], "c", rows.dtype, None, None, "")
        b = np.broadcast_to(_along(call, of_outputs, b) * W.dtype.type(call["beta"]), W.shape[1:])
    return _dense(call, rows, W, b)


def _dense(call: Call, rows: Rows, W: Array, b: Array | None) -> Rows:
    if len(W) != rows.dims[0]:
        raise call.error(f"takes {len(W)} numbers, the layer before gives {rows.dims[0]}")

    def dense(to: Assembly) -> None:
        to.charge(W.nbytes)
        to.builder.dense(W, b, call.label)

    return rows.then(dense, call.label, dims=W.shape[1:])


WINDOWS: dict[str, Any] = {
    "auto_pad": (STRING, b"NOTSET"),
    "pads": (INTS, None),
    "strides": (INTS, None),
    "kernel_shape": (INTS, None),
}


def _windows(call: Call, rows: Rows, size: list[int]) -> tuple[list[int], list[int], tuple[int, ...]]:
    """Return strides, zeros (above, left, below, right), and height and width of what windows give."""
    strides = [1, 1] if call["strides"] is None else call["strides"]
    pads = [0] * 4 if call["pads"] is None else call["pads"]
    bounds = ((size, 2, 1), (strides, 2, 1), (pads, 4, 0))
    if any(len(part) != n or not all(least <= i < 2**31 for i in part) for part, n, least in bounds):
        got = f"kernel_shape={size[:9]}, strides={strides[:9]}, pads={pads[:9]}"
        raise call.error(f"must have windows of two dimensions, got {got}")
    auto = call["auto_pad"]
    if auto not in (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER") or (auto != b"NOTSET" and any(pads)):
        raise call.error(f"has auto_pad={auto[:20]!r} with pads={pads}, which nnc does not support")
    if auto.startswith(b"SAME"):
        totals = [(-(-n // s) - 1) * s + k - n for n, s, k in zip(rows.dims[1:], strides, size, strict=True)]
        if min(totals) < 0:
            raise call.error(f"has auto_pad={auto!r} with windows that leave out pixels, which nnc does not support")
        smaller, larger = [n // 2 for n in totals], [n - n // 2 for n in totals]
        pads = smaller + larger if auto == b"SAME_UPPER" else larger + smaller
    sides = zip(rows.dims[1:], size, strides, pads[:2], pads[2:], strict=True)
    made = tuple((n + before + after - k) // s + 1 for n, k, s, before, after in sides)
    if min(made) < 1:
        raise call.error(f"has a window of {size}, which does not fit into images of {rows.dims[1:]}")
    return strides, pads, made


@operator("Conv", inputs=(2, 3), group=(INT, 1), dilations=(INTS, None), **WINDOWS)
def _conv(call: Call, value: Any, W: Any, b: Any = None) -> Rows:
    rows = _image(call, value)
    W = _array(call, W, rows.dtype, 4)
    call.require(group=1, dilations=[1, 1], kernel_shape=[*W.shape[2:]])
    b = None if b is None else _array(call, b, rows.dtype, 1)
    if W.shape[1] != rows.dims[0] or (b is not None and len(b) != len(W)):
        raise call.error(f"has weights {W.shape} for images of {rows.dims[0]} channels")
    strides, pads, made = _windows(call, rows, [*W.shape[2:]])

    def conv(to: Assembly) -> None:
        to.charge(W.nbytes)
        to.builder.conv(W.transpose(2, 3, 1, 0), b, strides, tuple(pads), call.label)

    return rows.then(conv, call.label, dims=(len(W), *made))


@operator(
    "MaxPool", outputs=2, ceil_mode=(INT, 0, 10), dilations=(INTS, None, 10), storage_order=(INT, 0, 8), **WINDOWS
)
@operator("AveragePool", ceil_mode=(INT, 0, 10), dilations=(INTS, None, 19), count_include_pad=(INT, 0), **WINDOWS)
def _pool(call: Call, value: Any) -> Rows:
    rows = _image(call, value)
    call.require(ceil_mode=0, dilations=[1, 1])
    size = call["kernel_shape"] or []
    strides, pads, made = _windows(call, rows, size)
    if any(pads):
        raise call.error(f"has pads={pads}, nnc supports only pools within the image")
    largest = call.node.operator == "MaxPool"
    step = lambda to: to.builder.pool(largest, size, strides, call.label)  # noqa: E731
    return rows.then(step, call.label, dims=(rows.dims[0], *made))


@operator("GlobalAveragePool")
def _global_pool(call: Call, value: Any) -> Rows:
    rows = _image(call, value)
    return rows.then(lambda to: to.builder.global_pool(call.label), call.label, dims=(rows.dims[0], 1, 1))


@operator("ReduceMean", inputs=(1, 2), axes=(INTS, None, 1, 17), keepdims=(INT, 1), noop_with_empty_axes=(INT, 0, 18))
def _reduce_mean(call: Call, value: Any, axes: Any = None) -> Rows:
    rows = _number_rows(call, value, (3,))
    found = _axes(call, axes, 4, 18)
    if 0 in found or {rows.axes[axis - 1] for axis in found} != {"h", "w"}:
        raise call.error("averages over other axes than height and width")
    kept = [1 if i + 1 in found else n for i, n in enumerate(rows.dims)]
    pooled = rows.then(lambda to: to.builder.global_pool(call.label), call.label, dims=tuple(kept))
    return pooled if call["keepdims"] else pooled.then(None, call.label, dims=(max(kept),), axes="c")


@operator(
    "BatchNormalization", inputs=(5, 5), epsilon=(FLOAT, 1e-5), momentum=(FLOAT, 0.9), spatial=(INT, 1, 1, 8),
    training_mode=(INT, 0, 14), outputs=1,
)  # fmt: skip
def _batch_norm(call: Call, value: Any, *constants: Any) -> Rows:
    rows = _number_rows(call, value, (1, 3))
    call.require(training_mode=0, spatial=1)
    if rows.axes[0] != "c":
        raise call.error("takes images whose channels are not the second axis")
    arrays = [_array(call, array, rows.dtype, 1) for array in constants]
    if any(len(array) != rows.dims[0] for array in arrays) or (arrays[3] < 0).any():
        raise call.error(f"must have {rows.dims[0]} numbers in each constant, and variances of at least 0")
    epsilon = float(np.float32(call["epsilon"]))
    return rows.then(lambda to: to.norm(arrays, epsilon, call.label), call.label)


@operator("Dropout", inputs=(1, 3), outputs=2, ratio=(FLOAT, 0.5, 1, 11), seed=(INT, 0, 12))
def _dropout(call: Call, value: Any, ratio: Any = None, training: Any = None) -> Rows:
    if training is not None and (not isinstance(training, np.ndarray) or training.dtype != bool or training.any()):
        raise call.error("has a training_mode that is not False")
    if call.node.opset < 12 and (ratio is not None or training is not None):
        raise call.error("has inputs that the operator set does not have")
    return _rows(call, value)


# ------------------------------------------------------------------------------------------------ activations


def _activated(call: Call, rows: Rows, name: str) -> Rows:
    made = rows.then(lambda to: to.builder.activation(name, call.label), call.label)
    made.activation = name
    return made


# Operators that are an activation, since which version, and the attributes that nnc supports.
def _typed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with their types."""
    return {name: (FLOAT if isinstance(value, float) else STRING, value) for name, value in attributes.items()}


WRITTEN = {
    name: (operator, attributes, 1) for name, (operator, attributes, _) in WRITTEN_OPERATORS.items() if attributes
}
ACTIVATIONS: dict[str, tuple[str, int, dict[str, Any]]] = {
    operator: (name, since, _typed(attributes))
    for name, (operator, attributes, since) in (WRITTEN | READ_OPERATORS).items()
    if operator != "Softmax"
}


def _with_attributes(name: str, allowed: Mapping[str, Any], call: Call, value: Any) -> Rows:
    rows = _number_rows(call, value)
    for attribute, (_, wanted) in allowed.items():
        found = call[attribute]
        if np.float32(found) != np.float32(wanted) if isinstance(wanted, float) else found != wanted:
            raise call.error(f"has {attribute}={found!r}, nnc supports only {wanted!r}")
        if rows.dtype == "float64" and isinstance(wanted, float) and not wanted.is_integer():
            raise call.error(f"has {attribute} in float32 for numbers of float64; convert the model to float32")
    return _activated(call, rows, name)


for _operator, (_name, _since, _allowed) in ACTIVATIONS.items():
    operator(_operator, since=_since, **_allowed)(partial(_with_attributes, _name, _allowed))


@operator("Softmax", axis=(INT, None))
def _softmax(call: Call, value: Any) -> Rows:
    rows = _number_rows(call, value, (1,))
    if call["axis"] not in (None, 1, -1):
        raise call.error(f"has axis={call['axis']}, nnc supports only 1")
    return _activated(call, rows, "softmax")


PLAIN = {operator: name for name, (operator, attributes, _) in WRITTEN_OPERATORS.items() if not attributes}


@operator(*(name for name in UNARY if name != "Erf"))
@operator("Erf", since=9)
def _unary(call: Call, value: Any) -> Rows:
    rows = _number_rows(call, value)
    name = PLAIN.get(call.node.operator)
    made = rows.then("unknown", call.label) if name is None else _activated(call, rows, name)
    return _composed(call, made, [rows])


@operator("Add", "Sub", "Mul", "Div", inputs=(2, 2))
@operator("Max", "Min", inputs=(2, 2), since=8)
def _binary(call: Call, first: Any, second: Any) -> Rows:
    rows = _number_rows(call, first if isinstance(first, Rows) else second)
    made = rows.then("unknown", call.label)
    other = second if rows is first else first
    if isinstance(other, Rows):
        if (other.dims, other.axes, other.dtype) != (rows.dims, rows.axes, rows.dtype):
            raise call.error("takes two tensors of different shapes or types")
        return _composed(call, made, [first, second])
    array = _along(call, rows, other)
    if call.node.operator in ("Add", "Sub", "Mul", "Div"):
        made = _affine(call, rows, array, rows is first) or made
    if array.size == 1:
        number = constant(array.item())
        return _composed(call, made, [rows, number] if rows is first else [number, rows])
    return made


def _affine(call: Call, rows: Rows, array: Array, rows_first: bool) -> Rows | None:
    """Return what a constant makes of rows: rows * times + plus."""
    name, one, zero = call.node.operator, array.dtype.type(1), array.dtype.type(0)
    if name in ("Mul", "Div") and not array.all():
        raise call.error("has a factor of 0")
    if name == "Div" and not rows_first:
        return None
    minus_rows, minus_array = name == "Sub" and not rows_first, name == "Sub" and rows_first
    if name in ("Mul", "Div"):
        times, plus = array if name == "Mul" else one / array, zero
    else:
        times, plus = -one if minus_rows else one, -array if minus_array else array
    made = rows.then(lambda to: to.scale(times, plus, call.label), call.label, scales=True)
    if minus_rows and array.size == 1 and array.item() == 1:
        made.complement = rows
    return made


def _composed(call: Call, made: Rows, parts: list[Any]) -> Rows:
    """Return the tensor with its forms; if one of them is that of an activation, as that activation."""
    tensors = [part for part in parts if isinstance(part, Rows)]
    forms = [dict([*part.forms, (part, X)]) for part in tensors]
    for base in forms[0]:
        if all(base in other for other in forms[1:]):
            values = iter(forms)
            form = combine(call.node.operator, [next(values)[base] if isinstance(p, Rows) else p for p in parts])
            if form is not None:
                made.forms.append((base, form))
    made.forms = made.forms[-onnx_forms.MAX_BASES :]
    if made.activation:
        return made
    for base, form in made.forms:
        name = onnx_forms.activation(form, made.dtype)
        if name is not None:
            composed = _activated(call, base, name)
            composed.forms = made.forms
            return composed
    return made


# ------------------------------------------------------------------------------------------------ classes


@operator("ArgMax", axis=(INT, 0), keepdims=(INT, 1), select_last_index=(INT, 0, 12))
def _arg_max(call: Call, value: Any) -> Labels:
    rank = 2 if isinstance(value, Pair) else 1 + len(_number_rows(call, value, (1,)).dims)
    call.require(select_last_index=0)
    if _axis(call, call["axis"], rank) != 1:
        raise call.error(f"has axis={call['axis']}, nnc supports only 1")
    return Labels(value, None, (1,) if call["keepdims"] else ())


@operator("GreaterOrEqual", inputs=(2, 2), since=12)
def _greater_or_equal(call: Call, value: Any, threshold: Any) -> Labels:
    rows = _number_rows(call, value, (1,))
    array = _along(call, rows, threshold)
    if array.size != 1:
        raise call.error("has several thresholds, which nnc does not support")
    return Labels(rows, array.item(), rows.dims)


def _classes(call: Call, labels: Labels, classes: Array, dims: Any = ()) -> Labels:
    """Return labels with names."""
    call.reader.charge(classes.nbytes)
    source = labels.source.rows if isinstance(labels.source, Pair) else labels.source
    if labels.classes is not None or len(classes) != max(2, *source.dims):
        raise call.error(f"has {len(classes)} classes for {max(source.dims)} outputs")
    if (labels.threshold is not None and source.dims != (1,)) or len(np.unique(classes)) != len(classes):
        raise call.error("has classes that are not distinct, or that several outputs share")
    return labels._replace(classes=classes, dims=labels.dims if dims == () else dims)


@operator("ArrayFeatureExtractor", domain="ai.onnx.ml", inputs=(2, 2))
def _array_feature_extractor(call: Call, value: Any, labels: Any) -> Labels:
    one_list = isinstance(value, np.ndarray) and value.size == max(value.shape, default=0)
    if not one_list or not isinstance(labels, Labels):
        raise call.error("takes inputs that nnc does not support here")
    return _classes(call, labels, value.ravel(), None)


@operator("ZipMap", domain="ai.onnx.ml", classlabels_int64s=(INTS, None), classlabels_strings=(STRINGS, None))
def _zip_map(call: Call, value: Any) -> Mapped:
    names = [given for given in (call["classlabels_int64s"], call["classlabels_strings"]) if given is not None]
    width = 2 if isinstance(value, Pair) else _number_rows(call, value, (1,)).dims[0]
    if len(names) != 1 or len(names[0]) != width:
        raise call.error(f"must have {width} names of classes")
    return Mapped(value, np.array([n.decode() if isinstance(n, bytes) else n for n in names[0]]))


@operator("Scaler", domain="ai.onnx.ml", offset=(FLOATS, None), scale=(FLOATS, None))
def _scaler(call: Call, value: Any) -> Rows:
    rows = _rows(call, value, (1,))
    offset, factor = call["offset"], call["scale"]
    given = [part for part in (offset, factor) if part is not None and np.isfinite(part).all()]
    if [len(part) in (1, rows.dims[0]) for part in given] != [True, True]:
        raise call.error(f"must have an offset and a scale for each of {rows.dims[0]} numbers")
    if not factor.all():
        raise call.error("has a factor of 0")
    times, plus = factor.astype(np.float64), -offset.astype(np.float64) * factor
    return rows.then(lambda to: to.scale(times, plus, call.label), call.label, scales=True, dtype="float32")
