"""Operators of ONNX models for layers, scalings and activations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._interop import read_onnx_forms
from nnc._interop.onnx import OPERATORS, READ_OPERATORS
from nnc._interop.read_onnx_file import FLOAT, INT, INTS, STRING
from nnc._interop.read_onnx_forms import UNARY, X, combine, constant
from nnc._interop.read_onnx_values import (
    Call,
    Rows,
    any_rows,
    axes_of,
    broadcast,
    channels_first,
    describe_axes,
    features_last,
    finite_array,
    number_rows,
    operator,
)
from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnc._interop.read_onnx_assembly import Assembly

    Array = np.ndarray[Any, Any]


# ------------------------------------------------------------------------------------------------ operators of layers


@operator("MatMul", inputs=(2, 2))
def _mat_mul(call: Call, value: Any, W: Any) -> Rows:
    """Evaluate the ONNX operator MatMul, the product of rows and a constant matrix, as a dense layer."""
    rows = features_last(call, value)
    return _dense(call, rows, finite_array(call, W, rows.dtype, 2), None)


@operator("Gemm", inputs=(2, 3), alpha=(FLOAT, 1.0), beta=(FLOAT, 1.0), transA=(INT, 0), transB=(INT, 0))
def _gemm(call: Call, value: Any, W: Any, b: Any = None) -> Rows:
    """Evaluate the ONNX operator Gemm, alpha * A @ B + beta * C with constants B and C, as a dense layer."""
    rows = number_rows(call, value, (1,))
    call.require(transA=0)
    if b is None and call.node.opset < 11:
        raise call.error(f"the input C is required in version {call.node.opset} of the operator set, got two inputs")
    W = finite_array(call, W, rows.dtype, 2)
    W = W.T if call["transB"] else W
    if call["alpha"] != 1:
        W = W * W.dtype.type(call["alpha"])
    if b is not None:
        outputs = Rows(W.shape[1:], "c", rows.dtype, None, None, "")
        b = np.broadcast_to(broadcast(call, outputs, b) * W.dtype.type(call["beta"]), W.shape[1:])
    return _dense(call, rows, W, b)


def _dense(call: Call, rows: Rows, W: Array, b: Array | None) -> Rows:
    """Return the symbolic outputs of a dense layer with the weights W and the biases b."""
    if len(W) != rows.dims[-1]:
        raise call.error(f"the weights must have {rows.dims[-1]} inputs to fit the previous layer, got {len(W)}")

    def dense(assembly: Assembly) -> None:
        assembly.charge(W.nbytes)
        assembly.builder.dense(W, b, call.label)

    return rows.apply(dense, call.label, dims=(*rows.dims[:-1], W.shape[1]))


# Attributes of convolutions and pools, as arguments of the decorator `operator`.
WINDOWS: dict[str, Any] = {
    "auto_pad": (STRING, "NOTSET"),
    "pads": (INTS, None),
    "strides": (INTS, None),
    "kernel_shape": (INTS, None),
}


def _windows(call: Call, rows: Rows, size: list[int]) -> tuple[list[int], list[int], list[int], tuple[int, ...]]:
    """Return strides, dilations, padding, and output height and width (or output steps) of a convolution or pool.

    The padding is that at the beginning of each axis, followed by that at the end of each axis: top, left, bottom,
    right. `size` is the height and width, or the number of steps, of the kernel or window.
    """
    n = len(rows.dims) - 1
    strides, dilations = ([1] * n if call[name] is None else call[name] for name in ("strides", "dilations"))
    pads = [0] * 2 * n if call["pads"] is None else call["pads"]
    bounds = ((size, n, 1), (strides, n, 1), (dilations, n, 1), (pads, 2 * n, 0))
    if any(len(part) != n or not all(minimum <= i < 2**31 for i in part) for part, n, minimum in bounds):
        actual = f"kernel_shape={size[:9]}, strides={strides[:9]}, dilations={dilations[:9]}, pads={pads[:9]}"
        raise call.error(f"windows must have {pluralize(n, 'dimension')}, got {actual}")
    extents = [(k - 1) * d + 1 for k, d in zip(size, dilations, strict=True)]
    auto = call["auto_pad"]
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER") or (auto != "NOTSET" and any(pads)):
        raise call.error(f"auto_pad={auto[:20]!r} with pads={pads} is not supported")
    if auto.startswith("SAME"):
        totals = [(-(-n // s) - 1) * s + k - n for n, s, k in zip(rows.dims[1:], strides, extents, strict=True)]
        if min(totals) < 0:
            raise call.error(f"auto_pad={auto!r} with strides larger than the windows is not supported")
        smaller, larger = [n // 2 for n in totals], [n - n // 2 for n in totals]
        pads = smaller + larger if auto == "SAME_UPPER" else larger + smaller
    sides = zip(rows.dims[1:], extents, strides, pads[:n], pads[n:], strict=True)
    output_size = tuple((n + before + after - k) // s + 1 for n, k, s, before, after in sides)
    if min(output_size) < 1:
        raise call.error(f"windows must fit into rows of the size {rows.dims[1:]}, got the size {extents}")
    return strides, dilations, pads, output_size


@operator("Pad", inputs=(1, 4), mode=(STRING, "constant"), pads=(INTS, None, 1, 10), value=(FLOAT, 0.0, 1, 10))
def _pad(call: Call, value: Any, pads: Any = None, number: Any = None, axes: Any = None) -> Rows:
    """Evaluate the ONNX operator Pad for zeros around images or before and after sequences."""
    rows = number_rows(call, value, (2, 3))
    rank, zeros = 1 + len(rows.dims), [*(call["pads"] or [])]
    if call.node.opset >= 11:
        zeros = finite_array(call, pads, "int64", 1).tolist()
    padded = [*range(rank)] if axes is None else axes_of(call, axes, rank, 18)
    call.require(mode="constant", value=0.0)
    if number is not None and finite_array(call, number, rows.dtype).any():
        raise call.error(f"the padding must be zeros, got {number}")
    if len(zeros) != 2 * len(padded) or not all(0 <= n < 2**31 for n in zeros):
        raise call.error(f"pads must be {2 * len(padded)} numbers of at least 0, got {zeros[:9]}")
    before, after = ([0] * rank, [0] * rank)
    for i, axis in enumerate(padded):
        before[axis], after[axis] = zeros[i], zeros[len(padded) + i]
    dims = tuple(sum(part) for part in zip(before[1:], rows.dims, after[1:], strict=True))
    order = [1 + i for i in rows.order]
    sides = [part[i] for part in (before, after) for i in order[:-1]]
    if any(part[i] for part in (before, after) for i in (0, order[-1])):
        raise call.error(f"only the axes of steps, height and width can be padded, got pads={zeros}")
    return rows.apply(lambda assembly: assembly.builder.pad(tuple(sides), call.label), call.label, dims=dims)


@operator("Conv", inputs=(2, 3), group=(INT, 1), dilations=(INTS, None), **WINDOWS)
def _conv(call: Call, value: Any, W: Any, b: Any = None) -> Rows:
    """Evaluate the ONNX operator Conv, a convolution of images or sequences with constant weights."""
    rows = channels_first(call, value)
    W = finite_array(call, W, rows.dtype, 1 + len(rows.dims))
    call.require(group=1, kernel_shape=[*W.shape[2:]])
    b = None if b is None else finite_array(call, b, rows.dtype, 1)
    if W.shape[1] != rows.dims[0] or (b is not None and len(b) != len(W)):
        raise call.error(f"weights must fit inputs of {rows.dims[0]} channels, got the shape {W.shape}")
    strides, dilations, pads, output_size = _windows(call, rows, [*W.shape[2:]])
    if rows.axes == "chw" and dilations != [1, 1]:
        raise call.error(f"attribute dilations must be [1, 1], got {dilations}")

    def conv(assembly: Assembly) -> None:
        assembly.charge(W.nbytes)
        if rows.axes == "ct":
            kernel = W.transpose(2, 1, 0)
            assembly.builder.conv1d(kernel, b, strides[0], tuple(pads), dilations[0], call.label)
        else:
            assembly.builder.conv(W.transpose(2, 3, 1, 0), b, strides, tuple(pads), call.label)

    return rows.apply(conv, call.label, dims=(len(W), *output_size))


@operator(
    "MaxPool", outputs=2, ceil_mode=(INT, 0, 10), dilations=(INTS, None, 10), storage_order=(INT, 0, 8), **WINDOWS
)
@operator("AveragePool", ceil_mode=(INT, 0, 10), dilations=(INTS, None, 19), count_include_pad=(INT, 0), **WINDOWS)
def _pool(call: Call, value: Any) -> Rows:
    """Evaluate the ONNX operator MaxPool or AveragePool."""
    rows = channels_first(call, value)
    n = len(rows.dims) - 1
    call.require(ceil_mode=0, dilations=[1] * n)
    size = call["kernel_shape"] or []
    strides, _, pads, output_size = _windows(call, rows, size)
    if any(pads):
        raise call.error(f"windows of a pool must lie within the image, got pads={pads}")
    is_max = call.node.operator == "MaxPool"
    step = lambda assembly: assembly.builder.pool(is_max, size, strides, call.label)  # noqa: E731
    return rows.apply(step, call.label, dims=(rows.dims[0], *output_size))


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(call: Call, value: Any) -> Rows:
    """Evaluate the ONNX operator GlobalAveragePool or GlobalMaxPool, the mean or maximum of each channel."""
    rows = channels_first(call, value)
    return _pooled(call, rows, call.node.operator == "GlobalMaxPool", (rows.dims[0], *[1] * (len(rows.dims) - 1)))


REDUCE: dict[str, Any] = {"axes": (INTS, None, 1, 17), "keepdims": (INT, 1), "noop_with_empty_axes": (INT, 0, 18)}


@operator("ReduceMean", "ReduceMax", inputs=(1, 2), **REDUCE)
def _reduce(call: Call, value: Any, axes: Any = None) -> Rows:
    """Evaluate the ONNX operator ReduceMean or ReduceMax over height and width, or steps, which is a global pool."""
    rows = number_rows(call, value, (2, 3))
    reduced = axes_of(call, axes, 1 + len(rows.dims), 18)
    if {("n" + rows.axes)[axis] for axis in reduced} != {*rows.axes} - {"c"}:
        raise call.error(f"axes must be those of height and width, or of the steps, got {reduced}")
    dims = [1 if i + 1 in reduced else n for i, n in enumerate(rows.dims)]
    pooled = _pooled(call, rows, call.node.operator == "ReduceMax", tuple(dims))
    if call["keepdims"]:
        return pooled
    flatten = lambda assembly: assembly.builder.flatten(call.label)  # noqa: E731
    return pooled.apply(flatten, call.label, dims=(max(dims),), axes="c")


def _pooled(call: Call, rows: Rows, is_max: bool, dims: tuple[int, ...]) -> Rows:
    """Return the symbolic outputs, of the shape `dims`, of a pool over each whole image or sequence."""
    return rows.apply(lambda assembly: assembly.builder.global_pool(call.label, is_max), call.label, dims=dims)


@operator(
    "BatchNormalization", inputs=(5, 5), epsilon=(FLOAT, 1e-5), momentum=(FLOAT, 0.9), spatial=(INT, 1, 1, 8),
    training_mode=(INT, 0, 14), outputs=1,
)  # fmt: skip
def _batch_norm(call: Call, value: Any, *constants: Any) -> Rows:
    """Evaluate the ONNX operator BatchNormalization with constant mean and variance."""
    rows = number_rows(call, value, (1, 2, 3))
    call.require(training_mode=0, spatial=1)
    if len(rows.dims) > 1:
        rows = channels_first(call, rows)
    arrays = [finite_array(call, array, rows.dtype, 1) for array in constants]
    if any(len(array) != rows.dims[0] for array in arrays):
        lengths = [len(array) for array in arrays]
        raise call.error(f"scale, bias, mean and variance must have {rows.dims[0]} numbers each, got {lengths}")
    if (arrays[3] < 0).any():
        raise call.error(f"variances must be at least 0, got {arrays[3].min():g}")
    epsilon = float(np.float32(call["epsilon"]))
    return rows.apply(lambda assembly: assembly.norm(arrays, epsilon, call.label), call.label)


@operator("Dropout", inputs=(1, 3), outputs=2, ratio=(FLOAT, 0.5, 1, 11), seed=(INT, 0, 12))
def _dropout(call: Call, value: Any, ratio: Any = None, training: Any = None) -> Rows:
    """Evaluate the ONNX operator Dropout, which returns its input unchanged in predictions."""
    if training is not None and (not isinstance(training, np.ndarray) or training.dtype != bool or training.any()):
        raise call.error("training_mode must be the constant False, got another input; export the model for inference")
    if call.node.opset < 12 and (ratio is not None or training is not None):
        raise call.error(f"Dropout must have one input in version {call.node.opset} of the operator set, got several")
    return any_rows(call, value)


# ------------------------------------------------------------------------------------------------ activation operators


def _apply_activation(call: Call, rows: Rows, name: str) -> Rows:
    """Return the symbolic outputs of the activation called `name`, applied to `rows`."""
    result = rows.apply(lambda assembly: assembly.builder.activation(name, call.label), call.label)
    result.activation = name
    return result


def _typed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ONNX type and the value of each attribute."""
    return {name: (FLOAT if isinstance(value, float) else STRING, value) for name, value in attributes.items()}


# Activations that are one operator with attributes: name in nnc, first opset, and supported values of the attributes.
WRITTEN = {name: (operator, attributes, 1) for name, (operator, attributes, _) in OPERATORS.items() if attributes}
ACTIVATIONS: dict[str, tuple[str, int, dict[str, Any]]] = {
    operator: (name, since, _typed(attributes))
    for name, (operator, attributes, since) in (WRITTEN | READ_OPERATORS).items()
    if operator != "Softmax"
}


def _with_attributes(name: str, allowed: Mapping[str, Any], call: Call, value: Any) -> Rows:
    """Evaluate an ONNX operator that is an activation of nnc if its attributes have the values in `allowed`."""
    rows = number_rows(call, value)
    for attribute, (_, expected) in allowed.items():
        actual = call[attribute]
        if np.float32(actual) != np.float32(expected) if isinstance(expected, float) else actual != expected:
            raise call.error(f"attribute {attribute} must be {expected!r}, got {actual!r}")
        # Reject float64 models with a fractional attribute, because attributes have only float32 precision.
        if rows.dtype == "float64" and isinstance(expected, float) and not expected.is_integer():
            raise call.error(
                f"attribute {attribute} has only float32 precision for float64 inputs; convert the model to float32"
            )
    return _apply_activation(call, rows, name)


for _operator, (_name, _since, _allowed) in ACTIVATIONS.items():
    operator(_operator, since=_since, **_allowed)(partial(_with_attributes, _name, _allowed))


@operator("Softmax", axis=(INT, None))
def _softmax(call: Call, value: Any) -> Rows:
    """Evaluate the ONNX operator Softmax over the outputs of each row or step."""
    rows = features_last(call, value)
    rank, default = len(rows.dims), 1 if call.node.opset < 13 else -1
    axis = default if call["axis"] is None else call["axis"]
    if axis not in (rank, -1):
        raise call.error(f"axis must be {rank}, got {axis}")
    return _apply_activation(call, rows, "softmax")


# Activations that are one ONNX operator without attributes: name in nnc by name of the operator.
WITHOUT_ATTRIBUTES = {operator: name for name, (operator, attributes, _) in OPERATORS.items() if not attributes}


@operator(*(name for name in UNARY if name != "Erf"))
@operator("Erf", since=9)
def _unary(call: Call, value: Any) -> Rows:
    """Evaluate an elementwise ONNX operator of one input, which is an activation or a part of an activation."""
    rows = number_rows(call, value)
    name = WITHOUT_ATTRIBUTES.get(call.node.operator)
    result = rows.apply("unknown", call.label) if name is None else _apply_activation(call, rows, name)
    return _composed(call, result, [rows])


@operator("Add", "Sub", "Mul", "Div", inputs=(2, 2))
@operator("Max", "Min", inputs=(2, 2), since=8)
def _binary(call: Call, first: Any, second: Any) -> Rows | Array:
    """Evaluate an elementwise ONNX operator of two inputs, which is a scaling or a part of an activation."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return _folded(call, first, second)
    rows = number_rows(call, first if isinstance(first, Rows) else second)
    result = rows.apply("unknown", call.label)
    other = second if rows is first else first
    if isinstance(other, Rows):
        if (other.dims, other.axes, other.dtype) != (rows.dims, rows.axes, rows.dtype):
            raise call.error(
                "the rows of both inputs must have the same shape, order of axes and dtype, got "
                f"{rows.dims} ({describe_axes(rows.axes)}) in {rows.dtype} and "
                f"{other.dims} ({describe_axes(other.axes)}) in {other.dtype}"
            )
        return _composed(call, result, [first, second])
    array = broadcast(call, rows, other)
    if call.node.operator in ("Add", "Sub", "Mul", "Div"):
        result = _affine(call, rows, array, rows is first) or result
    if array.size == 1:
        number = constant(array.item())
        return _composed(call, result, [rows, number] if rows is first else [number, rows])
    return result


def _folded(call: Call, first: Array, second: Array) -> Array:
    """Return the result of an elementwise operator of two constants, such as the sizes of a padding."""
    functions = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.floor_divide}
    function = functions.get(call.node.operator)
    arrays = [finite_array(call, part, "int64") for part in (first, second)]
    is_negative = function is np.floor_divide and (arrays[0].min() < 0 or arrays[1].min() < 1)
    if function is None or max(array.ndim for array in arrays) > 1 or is_negative:
        raise call.error("an operator of two constants must compute positive sizes by Add, Sub, Mul or Div")
    call.reader.charge(8 * max(array.size for array in arrays))
    return np.asarray(function(*arrays))


def _affine(call: Call, rows: Rows, array: Array, rows_first: bool) -> Rows | None:
    """Return the scaling rows * times + plus that an operator of rows and a constant computes.

    Return None if the operator divides the constant by the rows, which is no scaling.
    """
    name, one, zero = call.node.operator, array.dtype.type(1), array.dtype.type(0)
    if name in ("Mul", "Div") and not array.all():
        raise call.error(
            "a constant factor or divisor must not contain 0, which would make an output constant or infinite"
        )
    if name == "Div" and not rows_first:
        return None
    minus_rows, minus_array = name == "Sub" and not rows_first, name == "Sub" and rows_first
    if name in ("Mul", "Div"):
        times, plus = array if name == "Mul" else one / array, zero
    else:
        times, plus = -one if minus_rows else one, -array if minus_array else array
    result = rows.apply(lambda assembly: assembly.scale(times, plus, call.label), call.label, is_scaling=True)
    if minus_rows and array.size == 1 and array.item() == 1:
        result.complement = rows
    return result


def _composed(call: Call, rows: Rows, parts: list[Any]) -> Rows:
    """Return the outputs of an activation if the nodes up to this one compute an activation, else return `rows`.

    `rows` is the result of this node for the inputs `parts`. Its formulas, as functions of earlier tensors, are added
    to `rows.forms` as forms (nested tuples), and compared with the formulas of the activations.
    """
    tensors = [part for part in parts if isinstance(part, Rows)]
    forms = [dict([*part.forms, (part, X)]) for part in tensors]
    for base in forms[0]:
        if all(base in other for other in forms[1:]):
            values = iter(forms)
            form = combine(call.node.operator, [next(values)[base] if isinstance(p, Rows) else p for p in parts])
            if form is not None:
                rows.forms.append((base, form))
    rows.forms = rows.forms[-read_onnx_forms.MAX_FORMS :]
    if rows.activation:
        return rows
    for base, form in rows.forms:
        name = read_onnx_forms.activation(form, rows.dtype)
        if name is not None:
            composed = _apply_activation(call, base, name)
            composed.forms = rows.forms
            return composed
    return rows
