"""Operators of ONNX models that change shapes and types, and those that find labels."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._interop.read_onnx_file import DTYPES, FLOAT, FLOATS, INT, INTS, STRING, STRINGS, TENSOR
from nnc._interop.read_onnx_values import (
    FLOAT_DTYPES,
    Call,
    Labels,
    Mapped,
    Pair,
    Rows,
    Sizes,
    any_rows,
    axes_of,
    axis_index,
    broadcast,
    finite_array,
    number_rows,
    operator,
)

if TYPE_CHECKING:
    from nnc._interop.read_onnx_assembly import Assembly

    Array = np.ndarray[Any, Any]


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
    rows = any_rows(call, value)
    return Sizes([None, *rows.dims][call["start"] : call["end"]])


@operator("Gather", inputs=(2, 2), axis=(INT, 0))
def _gather(call: Call, value: Any, indices: Any) -> Any:
    if isinstance(value, np.ndarray) and isinstance(indices, Labels):
        if value.ndim != 1 or call["axis"] not in (0, -1):
            raise call.error("takes classes that are not one list")
        return with_classes(call, indices, value)
    if not isinstance(value, Sizes) or value.scalar or call["axis"] not in (0, -1):
        raise call.error("takes inputs that nnc does not support here")
    index = np.asarray(indices) if isinstance(indices, np.ndarray) else None
    if index is None or index.dtype.kind != "i" or index.ndim > 1 or index.size > len(value.values):
        raise call.error("takes indices that nnc does not support here")
    places = [axis_index(call, i, len(value.values)) for i in index.ravel().tolist()]
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
    rows = any_rows(call, value, (1, 3))
    if axis_index(call, call["axis"], len(rows.dims) + 1) != 1:
        raise call.error(f"has axis={call['axis']}, nnc supports only 1")
    return _reshaped(call, rows, (prod(rows.dims),))


@operator("Reshape", inputs=(2, 2), allowzero=(INT, 0, 14))
def _reshape(call: Call, value: Any, shape: Any) -> Any:
    target: list[int | None] = shape.values if isinstance(shape, Sizes) and not shape.scalar else []
    if isinstance(shape, np.ndarray):
        target = finite_array(call, shape, "int64", 1)[:9].tolist()
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
    rows = any_rows(call, value)
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
    rows = any_rows(call, value)
    shape = (2, *rows.dims)  # any number of rows but one
    return _reshaped(call, rows, tuple(shape[i] for i in _others(call, shape, axes))[1:])


def _others(call: Call, shape: tuple[int, ...], axes: Any) -> list[int]:
    """Return the axes that a Squeeze leaves."""
    gone = axes_of(call, axes, len(shape), 13)
    if any(shape[i] != 1 for i in gone):
        raise call.error("removes an axis that is not 1")
    return [i for i in range(len(shape)) if i not in gone]


@operator("Unsqueeze", inputs=(1, 2), axes=(INTS, None, 1, 12))
def _unsqueeze(call: Call, value: Any, axes: Any = None) -> Any:
    if isinstance(value, Sizes):
        if not value.scalar or axes_of(call, axes, 1, 13) != [0]:
            raise call.error("takes sizes, of which nnc supports only one with axes=[0]")
        return Sizes(value.values)
    shape = value.shape if isinstance(value, np.ndarray) else (2, *any_rows(call, value).dims)
    count = np.size(axes) if axes is not None else len(call["axes"] or ())
    if len(shape) + count > 8:
        raise call.error("makes too many axes")
    new = axes_of(call, axes, len(shape) + count, 13)
    sizes = iter(shape)
    made = [1 if i in new else next(sizes) for i in range(len(shape) + count)]
    if isinstance(value, np.ndarray):
        return value.reshape(made)
    if 0 in new:
        raise call.error("adds an axis before rows, which nnc does not support")
    return _reshaped(call, value, tuple(made[1:]))


@operator("Transpose", perm=(INTS, None))
def _transpose(call: Call, value: Any) -> Any:
    rank = value.ndim if isinstance(value, np.ndarray) else 1 + len(any_rows(call, value).dims)
    perm = [*range(rank)][::-1] if call["perm"] is None else call["perm"]
    if sorted(perm[: rank + 1]) != [*range(rank)]:
        raise call.error(f"has perm={perm[:9]}, which is no order of {rank} axes")
    if isinstance(value, np.ndarray):
        return value.transpose(perm)
    if perm[:1] != [0]:
        raise call.error(f"has perm={perm}, which moves the axis of rows")
    dims, axes = (tuple(part[i - 1] for i in perm[1:]) for part in (value.dims, value.axes))
    return value.then(None, call.label, dims=dims, axes="".join(axes))


# ------------------------------------------------------------------------------------------------ classes


@operator("ArgMax", axis=(INT, 0), keepdims=(INT, 1), select_last_index=(INT, 0, 12))
def _arg_max(call: Call, value: Any) -> Labels:
    rank = 2 if isinstance(value, Pair) else 1 + len(number_rows(call, value, (1,)).dims)
    call.require(select_last_index=0)
    if axis_index(call, call["axis"], rank) != 1:
        raise call.error(f"has axis={call['axis']}, nnc supports only 1")
    return Labels(value, None, (1,) if call["keepdims"] else ())


@operator("GreaterOrEqual", inputs=(2, 2), since=12)
def _greater_or_equal(call: Call, value: Any, threshold: Any) -> Labels:
    rows = number_rows(call, value, (1,))
    array = broadcast(call, rows, threshold)
    if array.size != 1:
        raise call.error("has several thresholds, which nnc does not support")
    return Labels(rows, array.item(), rows.dims)


def with_classes(call: Call, labels: Labels, classes: Array, dims: Any = ()) -> Labels:
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
    return with_classes(call, labels, value.ravel(), None)


@operator("ZipMap", domain="ai.onnx.ml", classlabels_int64s=(INTS, None), classlabels_strings=(STRINGS, None))
def _zip_map(call: Call, value: Any) -> Mapped:
    names = [given for given in (call["classlabels_int64s"], call["classlabels_strings"]) if given is not None]
    width = 2 if isinstance(value, Pair) else number_rows(call, value, (1,)).dims[0]
    if len(names) != 1 or len(names[0]) != width:
        raise call.error(f"must have {width} names of classes")
    return Mapped(value, np.array([n.decode() if isinstance(n, bytes) else n for n in names[0]]))


@operator("Scaler", domain="ai.onnx.ml", offset=(FLOATS, None), scale=(FLOATS, None))
def _scaler(call: Call, value: Any) -> Rows:
    rows = any_rows(call, value, (1,))
    offset, factor = call["offset"], call["scale"]
    given = [part for part in (offset, factor) if part is not None and np.isfinite(part).all()]
    if [len(part) in (1, rows.dims[0]) for part in given] != [True, True]:
        raise call.error(f"must have an offset and a scale for each of {rows.dims[0]} numbers")
    if not factor.all():
        raise call.error("has a factor of 0")
    times, plus = factor.astype(np.float64), -offset.astype(np.float64) * factor
    return rows.then(lambda to: to.scale(times, plus, call.label), call.label, scales=True, dtype="float32")
