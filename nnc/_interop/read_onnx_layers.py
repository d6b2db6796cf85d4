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
    features_last,
    finite_array,
    image,
    number_rows,
    operator,
)

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
    "auto_pad": (STRING, b"NOTSET"),
    "pads": (INTS, None),
    "strides": (INTS, None),
    "kernel_shape": (INTS, None),
}


def _windows(call: Call, rows: Rows, size: list[int]) -> tuple[list[int], list[int], tuple[int, ...]]:
    """Return strides, padding (top, left, bottom, right), and output height and width of a convolution or pool.

    `size` is the height and width of its kernel or window.
    """
    strides = [1, 1] if call["strides"] is None else call["strides"]
    pads = [0] * 4 if call["pads"] is None else call["pads"]
    bounds = ((size, 2, 1), (strides, 2, 1), (pads, 4, 0))
    if any(len(part) != n or not all(minimum <= i < 2**31 for i in part) for part, n, minimum in bounds):
        actual = f"kernel_shape={size[:9]}, strides={strides[:9]}, pads={pads[:9]}"
        raise call.error(f"windows must have two dimensions, got {actual}")
    auto = call["auto_pad"]
    if auto not in (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER") or (auto != b"NOTSET" and any(pads)):
        raise call.error(f"auto_pad={auto[:20]!r} with pads={pads} is not supported")
    if auto.startswith(b"SAME"):
        totals = [(-(-n // s) - 1) * s + k - n for n, s, k in zip(rows.dims[1:], strides, size, strict=True)]
        if min(totals) < 0:
            raise call.error(f"auto_pad={auto!r} with strides larger than the windows is not supported")
        smaller, larger = [n // 2 for n in totals], [n - n // 2 for n in totals]
        pads = smaller + larger if auto == b"SAME_UPPER" else larger + smaller
    sides = zip(rows.dims[1:], size, strides, pads[:2], pads[2:], strict=True)
    output_size = tuple((n + before + after - k) // s + 1 for n, k, s, before, after in sides)
    if min(output_size) < 1:
        raise call.error(f"windows must fit into images of the size {rows.dims[1:]}, got the size {size}")
    return strides, pads, output_size


@operator("Conv", inputs=(2, 3), group=(INT, 1), dilations=(INTS, None), **WINDOWS)
def _conv(call: Call, value: Any, W: Any, b: Any = None) -> Rows:
    """Evaluate the ONNX operator Conv, a convolution of images with constant weights."""
    rows = image(call, value)
    W = finite_array(call, W, rows.dtype, 4)
    call.require(group=1, dilations=[1, 1], kernel_shape=[*W.shape[2:]])
    b = None if b is None else finite_array(call, b, rows.dtype, 1)
    if W.shape[1] != rows.dims[0] or (b is not None and len(b) != len(W)):
        raise call.error(f"weights must fit images of {rows.dims[0]} channels, got the shape {W.shape}")
    strides, pads, output_size = _windows(call, rows, [*W.shape[2:]])

    def conv(assembly: Assembly) -> None:
        assembly.charge(W.nbytes)
        assembly.builder.conv(W.transpose(2, 3, 1, 0), b, strides, tuple(pads), call.label)

    return rows.apply(conv, call.label, dims=(len(W), *output_size))


@operator(
    "MaxPool", outputs=2, ceil_mode=(INT, 0, 10), dilations=(INTS, None, 10), storage_order=(INT, 0, 8), **WINDOWS
)
@operator("AveragePool", ceil_mode=(INT, 0, 10), dilations=(INTS, None, 19), count_include_pad=(INT, 0), **WINDOWS)
def _pool(call: Call, value: Any) -> Rows:
    """Evaluate the ONNX operator MaxPool or AveragePool."""
    rows = image(call, value)
    call.require(ceil_mode=0, dilations=[1, 1])
    size = call["kernel_shape"] or []
    strides, pads, output_size = _windows(call, rows, size)
    if any(pads):
        raise call.error(f"windows of a pool must lie within the image, got pads={pads}")
    is_max = call.node.operator == "MaxPool"
    step = lambda assembly: assembly.builder.pool(is_max, size, strides, call.label)  # noqa: E731
    return rows.apply(step, call.label, dims=(rows.dims[0], *output_size))


@operator("GlobalAveragePool")
def _global_pool(call: Call, value: Any) -> Rows:
    """Evaluate the ONNX operator GlobalAveragePool, the mean of each channel."""
    rows = image(call, value)
    return rows.apply(lambda assembly: assembly.builder.global_pool(call.label), call.label, dims=(rows.dims[0], 1, 1))


@operator("ReduceMean", inputs=(1, 2), axes=(INTS, None, 1, 17), keepdims=(INT, 1), noop_with_empty_axes=(INT, 0, 18))
def _reduce_mean(call: Call, value: Any, axes: Any = None) -> Rows:
    """Evaluate the ONNX operator ReduceMean over height and width, which is a global average pool."""
    rows = number_rows(call, value, (3,))
    reduced = axes_of(call, axes, 4, 18)
    if 0 in reduced or {rows.axes[axis - 1] for axis in reduced} != {"h", "w"}:
        raise call.error(f"the mean must be over height and width, got the axes {reduced}")
    dims = [1 if i + 1 in reduced else n for i, n in enumerate(rows.dims)]
    pooled = rows.apply(lambda assembly: assembly.builder.global_pool(call.label), call.label, dims=tuple(dims))
    return pooled if call["keepdims"] else pooled.apply(None, call.label, dims=(max(dims),), axes="c")


@operator(
    "BatchNormalization", inputs=(5, 5), epsilon=(FLOAT, 1e-5), momentum=(FLOAT, 0.9), spatial=(INT, 1, 1, 8),
    training_mode=(INT, 0, 14), outputs=1,
)  # fmt: skip
def _batch_norm(call: Call, value: Any, *constants: Any) -> Rows:
    """Evaluate the ONNX operator BatchNormalization with constant mean and variance."""
    rows = number_rows(call, value, (1, 3))
    call.require(training_mode=0, spatial=1)
    if rows.axes[0] != "c":
        raise call.error(f"the input must be images with channels first, got the order of axes {rows.axes!r}")
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
        # Attributes have only float32 precision, so a float64 model with such an attribute differs from nnc.
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
def _binary(call: Call, first: Any, second: Any) -> Rows:
    """Evaluate an elementwise ONNX operator of two inputs, which is a scaling or a part of an activation."""
    rows = number_rows(call, first if isinstance(first, Rows) else second)
    result = rows.apply("unknown", call.label)
    other = second if rows is first else first
    if isinstance(other, Rows):
        if (other.dims, other.axes, other.dtype) != (rows.dims, rows.axes, rows.dtype):
            raise call.error(
                "the rows of both inputs must have the same shape, order of axes and dtype, got "
                f"{rows.dims}, {rows.axes!r}, {rows.dtype} and {other.dims}, {other.axes!r}, {other.dtype}"
            )
        return _composed(call, result, [first, second])
    array = broadcast(call, rows, other)
    if call.node.operator in ("Add", "Sub", "Mul", "Div"):
        result = _affine(call, rows, array, rows is first) or result
    if array.size == 1:
        number = constant(array.item())
        return _composed(call, result, [rows, number] if rows is first else [number, rows])
    return result


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
