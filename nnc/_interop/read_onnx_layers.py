"""Operators of ONNX models that compute: layers, scalings and activations."""

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
    finite_array,
    image,
    number_rows,
    operator,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnc._interop.read_onnx_assembly import Assembly

    Array = np.ndarray[Any, Any]


# ------------------------------------------------------------------------------------------------ layers


@operator("MatMul", inputs=(2, 2))
def _mat_mul(call: Call, value: Any, W: Any) -> Rows:
    rows = number_rows(call, value, (1,))
    return _dense(call, rows, finite_array(call, W, rows.dtype, 2), None)


@operator("Gemm", inputs=(2, 3), alpha=(FLOAT, 1.0), beta=(FLOAT, 1.0), transA=(INT, 0), transB=(INT, 0))
def _gemm(call: Call, value: Any, W: Any, b: Any = None) -> Rows:
    rows = number_rows(call, value, (1,))
    call.require(transA=0)
    if b is None and call.node.opset < 11:
        raise call.error("has no C, which the operator set needs")
    W = finite_array(call, W, rows.dtype, 2)
    W = W.T if call["transB"] else W
    if call["alpha"] != 1:
        W = W * W.dtype.type(call["alpha"])
    if b is not None:
        of_outputs = Rows(W.shape[1:], "c", rows.dtype, None, None, "")
        b = np.broadcast_to(broadcast(call, of_outputs, b) * W.dtype.type(call["beta"]), W.shape[1:])
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
    rows = image(call, value)
    W = finite_array(call, W, rows.dtype, 4)
    call.require(group=1, dilations=[1, 1], kernel_shape=[*W.shape[2:]])
    b = None if b is None else finite_array(call, b, rows.dtype, 1)
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
    rows = image(call, value)
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
    rows = image(call, value)
    return rows.then(lambda to: to.builder.global_pool(call.label), call.label, dims=(rows.dims[0], 1, 1))


@operator("ReduceMean", inputs=(1, 2), axes=(INTS, None, 1, 17), keepdims=(INT, 1), noop_with_empty_axes=(INT, 0, 18))
def _reduce_mean(call: Call, value: Any, axes: Any = None) -> Rows:
    rows = number_rows(call, value, (3,))
    found = axes_of(call, axes, 4, 18)
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
    rows = number_rows(call, value, (1, 3))
    call.require(training_mode=0, spatial=1)
    if rows.axes[0] != "c":
        raise call.error("takes images whose channels are not the second axis")
    arrays = [finite_array(call, array, rows.dtype, 1) for array in constants]
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
    return any_rows(call, value)


# ------------------------------------------------------------------------------------------------ activations


def _activated(call: Call, rows: Rows, name: str) -> Rows:
    made = rows.then(lambda to: to.builder.activation(name, call.label), call.label)
    made.activation = name
    return made


def _typed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with their types."""
    return {name: (FLOAT if isinstance(value, float) else STRING, value) for name, value in attributes.items()}


# Operators with attributes that are an activation: its name, the first version, and the attributes that nnc supports.
WRITTEN = {name: (operator, attributes, 1) for name, (operator, attributes, _) in OPERATORS.items() if attributes}
ACTIVATIONS: dict[str, tuple[str, int, dict[str, Any]]] = {
    operator: (name, since, _typed(attributes))
    for name, (operator, attributes, since) in (WRITTEN | READ_OPERATORS).items()
    if operator != "Softmax"
}


def _with_attributes(name: str, allowed: Mapping[str, Any], call: Call, value: Any) -> Rows:
    rows = number_rows(call, value)
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
    rows = number_rows(call, value, (1,))
    if call["axis"] not in (None, 1, -1):
        raise call.error(f"has axis={call['axis']}, nnc supports only 1")
    return _activated(call, rows, "softmax")


PLAIN = {operator: name for name, (operator, attributes, _) in OPERATORS.items() if not attributes}


@operator(*(name for name in UNARY if name != "Erf"))
@operator("Erf", since=9)
def _unary(call: Call, value: Any) -> Rows:
    rows = number_rows(call, value)
    name = PLAIN.get(call.node.operator)
    made = rows.then("unknown", call.label) if name is None else _activated(call, rows, name)
    return _composed(call, made, [rows])


@operator("Add", "Sub", "Mul", "Div", inputs=(2, 2))
@operator("Max", "Min", inputs=(2, 2), since=8)
def _binary(call: Call, first: Any, second: Any) -> Rows:
    rows = number_rows(call, first if isinstance(first, Rows) else second)
    made = rows.then("unknown", call.label)
    other = second if rows is first else first
    if isinstance(other, Rows):
        if (other.dims, other.axes, other.dtype) != (rows.dims, rows.axes, rows.dtype):
            raise call.error("takes two tensors of different shapes or types")
        return _composed(call, made, [first, second])
    array = broadcast(call, rows, other)
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
    made.forms = made.forms[-read_onnx_forms.MAX_BASES :]
    if made.activation:
        return made
    for base, form in made.forms:
        name = read_onnx_forms.activation(form, made.dtype)
        if name is not None:
            composed = _activated(call, base, name)
            composed.forms = made.forms
            return composed
    return made
