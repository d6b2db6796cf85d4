"""Operators of ONNX models for constants, shapes, element types and labels."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._interop.read_onnx_file import DTYPES, FLOAT, FLOATS, INT, INTS, STRING, STRINGS, TENSOR
from nnc._interop.read_onnx_recurrent import State, Steps, concatenated, gathered, reshaped, squeezed, transposed
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
    describe_axes,
    describe_kind,
    features_last,
    finite_array,
    number_rows,
    operator,
)

if TYPE_CHECKING:
    from nnc._interop.read_onnx_assembly import Assembly

    Array = np.ndarray[Any, Any]


# ------------------------------------------------------------------------------------------------ constants and types


@operator(
    "Constant", inputs=(0, 0), value=(TENSOR, None), value_float=(FLOAT, None, 12), value_int=(INT, None, 12),
    value_floats=(FLOATS, None, 12), value_ints=(INTS, None, 12),
)  # fmt: skip
def _constant(call: Call) -> Array:
    """Evaluate the ONNX operator Constant, whose value is an attribute."""
    values = {name: value for name, value in call.attributes.items() if value is not None}
    if len(values) != 1:
        raise call.error(f"exactly one attribute must contain the value of the constant, got {len(values)}")
    ((name, value),) = values.items()
    dtype = {"value_float": np.float32, "value_floats": np.float32}.get(name, np.int64)
    return value if name == "value" else np.asarray(value, dtype)


@operator("Identity")
def _identity(call: Call, value: Any) -> Any:
    """Evaluate the ONNX operator Identity, which returns its input."""
    return value


@operator("Cast", to=(INT, 0), saturate=(INT, 1, 19), round_mode=(STRING, "up", 24))
def _cast(call: Call, value: Any) -> Any:
    """Evaluate the ONNX operator Cast, a conversion to another element type."""
    dtype = DTYPES.get(call["to"], f"data type {call['to']}")
    if isinstance(value, Rows) and dtype in FLOAT_DTYPES:
        return value if value.dtype == dtype else value.apply(None, call.label, dtype=dtype)
    is_integer = dtype in ("int64", "int32")
    if isinstance(value, Sizes) and dtype == "int64":
        return value
    if isinstance(value, Labels) and is_integer:
        if value.classes is None:
            return value
        return value._replace(classes=_converted(call, value.classes, dtype))
    if isinstance(value, np.ndarray) and (is_integer or dtype in FLOAT_DTYPES):
        return _converted(call, value, dtype)
    raise call.error(f"a Cast of {describe_kind(value)} to {dtype} is not supported")


def _converted(call: Call, array: Array, dtype: str) -> Array:
    """Convert a constant array to another type; raise ValueError if this type cannot represent all its integers."""
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f") > (np.dtype(dtype).kind == "f"):
        raise call.error(f"a Cast of a constant from {array.dtype} to {dtype} is not supported")
    call.reader.charge(array.size * np.dtype(dtype).itemsize)
    converted = array.astype(dtype)
    if array.dtype.kind != "f" and (converted != array).any():
        value = array[converted != array][0]
        raise call.error(f"every element of the constant must be representable in {dtype}, got {value}")
    return converted


# ------------------------------------------------------------------------------------------------ shapes and axes


@operator("Shape", start=(INT, 0, 15), end=(INT, None, 15))
def _shape(call: Call, value: Any) -> Sizes:
    """Evaluate the ONNX operator Shape, which returns the sizes of the dimensions of a tensor."""
    sizes: Any = value.shape if isinstance(value, np.ndarray) else None
    if sizes is None:
        sizes = value.sizes if isinstance(value, Steps) else (None, *any_rows(call, value).dims)
    return Sizes([*sizes[call["start"] : call["end"]]])


@operator("Gather", inputs=(2, 2), axis=(INT, 0))
def _gather(call: Call, value: Any, indices: Any) -> Any:
    """Evaluate the ONNX operator Gather, which selects sizes of a shape by indices, or class names by labels."""
    if isinstance(value, np.ndarray) and isinstance(indices, Labels):
        if value.ndim != 1 or call["axis"] not in (0, -1):
            raise call.error(f"class names must be in an array of one dimension, got the shape {value.shape}")
        return with_classes(call, indices, value)
    if isinstance(value, np.ndarray) and value.dtype == "int64" and value.ndim == 1:
        value = Sizes(finite_array(call, value, "int64", 1).tolist())
    if isinstance(value, Steps) or (isinstance(value, Rows) and len(value.dims) == 2):
        return gathered(call, value, indices)
    if not isinstance(value, Sizes) or value.scalar or call["axis"] not in (0, -1):
        raise call.error(
            "the input must be a shape with constant indices, or class names with labels as indices, along axis 0; got "
            f"{describe_kind(value)} with {describe_kind(indices)} along axis {call['axis']}"
        )
    index = np.asarray(indices) if isinstance(indices, np.ndarray) else None
    if index is None or index.dtype.kind != "i" or index.ndim > 1 or index.size > len(value.values):
        raise call.error(
            f"indices must be a constant integer, or a constant vector of at most {len(value.values)} integers, got "
            f"{describe_kind(indices)}"
        )
    positions = [axis_index(call, i, len(value.values)) for i in index.ravel().tolist()]
    return Sizes([value.values[i] for i in positions], scalar=index.ndim == 0)


@operator("Concat", inputs=(1, 16), axis=(INT, None))
def _concat(call: Call, *parts: Any) -> Any:
    """Evaluate the ONNX operator Concat, which joins sizes to a shape, or probabilities or states to rows."""
    first, second = (*parts, None)[:2]
    if len(parts) == 2 and isinstance(first, Rows) and isinstance(second, Rows) and first.complement is second:
        if second.dims != (1,) or call["axis"] not in (1, -1):
            raise call.error(f"the probabilities of two classes must be joined along axis 1, got axis {call['axis']}")
        return Pair(second)
    if any(isinstance(part, State) for part in parts):
        return concatenated(call, parts)
    sizes: list[int | None] = []
    for part in parts:
        if isinstance(part, Sizes) and not part.scalar:
            sizes += part.values
        elif isinstance(part, np.ndarray) and part.dtype == "int64" and part.ndim == 1:
            sizes += part[:16].tolist()
        else:
            kinds = " and ".join(map(describe_kind, parts))
            raise call.error(f"the inputs must be shapes, or the probabilities 1 - p and p of two classes, got {kinds}")
    if call["axis"] not in (0, -1) or len(sizes) > 8:
        raise call.error(
            f"a Concat of shapes must have axis=0 and at most 8 sizes, got axis={call['axis']} and {len(sizes)} sizes"
        )
    return Sizes(sizes)


@operator("Flatten", axis=(INT, 1))
def _flatten(call: Call, value: Any) -> Rows:
    """Evaluate the ONNX operator Flatten, which converts each row to a vector."""
    rows = any_rows(call, value, (1, 2, 3))
    if axis_index(call, call["axis"], len(rows.dims) + 1) != 1:
        raise call.error(f"axis must be 1, got {call['axis']}")
    return _reshaped(call, rows, (prod(rows.dims),))


@operator("Reshape", inputs=(2, 2), allowzero=(INT, 0, 14))
def _reshape(call: Call, value: Any, shape: Any) -> Any:
    """Evaluate the ONNX operator Reshape of a constant, of labels, or of rows."""
    target: list[int | None] = shape.values if isinstance(shape, Sizes) and not shape.scalar else []
    if isinstance(shape, np.ndarray):
        target = finite_array(call, shape, "int64", 1)[:9].tolist()
    if not target or len(target) > 8:
        raise call.error(
            "the new shape must be a vector of 1 to 8 sizes, constant or computed from the shape of a tensor, got "
            f"{describe_kind(shape)}"
        )
    if isinstance(value, np.ndarray):
        if 0 in target or None in target or (call["allowzero"] not in (0, 1)):
            raise call.error(f"a Reshape of a constant to {target} is not supported")
        try:
            return value.reshape([int(n or 0) for n in target])
        except (ValueError, OverflowError):
            raise call.error(f"a constant of the shape {value.shape} cannot be reshaped to {target}") from None
    if isinstance(value, Labels):
        if value.dims is not None and prod(value.dims) != 1:
            raise call.error(f"the input must have one label per row, got labels of the shape {value.dims} per row")
        dims = _dims_of(call, (1,) if value.dims is None else value.dims, target, value.dims is None)
        return value._replace(dims=dims)
    if isinstance(value, Steps):
        return reshaped(call, value, target)
    rows = any_rows(call, value)
    return _reshaped(call, rows, _dims_of(call, rows.dims, target))


def _dims_of(
    call: Call, dims: tuple[int, ...], target: list[int | None], was_transposed: bool = False
) -> tuple[int, ...]:
    """Return the shape of one row after the ONNX operator Reshape.

    `target` is the requested shape; its first axis must be the axis of the rows. `dims` is the shape of one row before
    Reshape. `was_transposed` is true if the axis of the rows was not the first axis before Reshape.
    """
    first, *row_target = target
    if call["allowzero"] not in (0, 1):
        raise call.error(f"allowzero must be 0 or 1, got {call['allowzero']}")
    zero_copies = not call["allowzero"] and not was_transposed  # whether a 0 in `target` stands for an unchanged size
    row_counts = {None, call.reader.batch, -1} if call.reader.batch else {None, -1}
    if first not in row_counts and not (first == 0 and zero_copies):
        raise call.error(
            f"the first axis must remain the axis of rows, got the shape {target} for rows of the shape {dims}"
        )
    sizes = [dims[i] if n == 0 and zero_copies and i < len(dims) else n for i, n in enumerate(row_target)]
    inferred = [n for n in sizes if n == -1]
    if None in sizes or 0 in sizes or any(n < -1 for n in sizes if n is not None) or len(inferred) > (first != -1):
        raise call.error(f"a Reshape of rows of the shape {dims} to {target} is not supported")
    explicit = prod(n for n in sizes if n is not None and n != -1)
    new_dims = tuple(prod(dims) // explicit if n == -1 else int(n or 0) for n in sizes)
    if prod(new_dims) != prod(dims):
        raise call.error(
            f"rows must keep their {prod(dims)} elements, got the shape {target} for rows of the shape {dims}"
        )
    return new_dims


def _reshaped(call: Call, rows: Rows, dims: tuple[int, ...]) -> Rows:
    """Return a symbolic tensor in which each row of `rows` has the shape `dims`, with elements in the same order."""
    if dims == rows.dims:
        return rows
    axes, row_axes = "c" * len(dims), rows.axes.replace("h", "") if "t" in rows.axes else rows.axes
    if len(dims) <= 1 and len(rows.dims) <= 1:
        return rows.apply(None, call.label, dims=dims, axes=axes)
    if len(dims) <= 1:
        if row_axes not in ("chw", "hwc", "tc", "ct"):
            axes = describe_axes(rows.axes)
            raise call.error(f"flattened images must have their channels as first or last axis, got the axes ({axes})")
        channels_first, size = row_axes[0] == "c", prod(dims)

        def flatten(assembly: Assembly) -> None:
            if channels_first:
                assembly.charge(8 * size)
            assembly.builder.flatten(call.label, channels_first=channels_first)

        return rows.apply(flatten, call.label, dims=dims, axes=axes)
    if len(dims) == 3 and len(rows.dims) == 1 and rows.is_scaled_input:
        axes = call.reader.axes
        height, width, channels = (dims[axes.index(axis)] for axis in "hwc")
        if axes == "chw" and channels != 1 and (height, width) != (1, 1):
            raise call.error(
                f"vectors can be reshaped only to images of one channel if channels are first, got {channels} channels"
            )
        shape = (height, width, channels)
        images = rows.apply(lambda assembly: assembly.start_images(shape), call.label, dims=dims, axes=axes)
        images.is_scaled_input = True
        return images
    raise call.error(f"a Reshape of rows of the shape {rows.dims} to {dims} is not supported")


@operator("Squeeze", inputs=(1, 2), axes=(INTS, None, 1, 12))
def _squeeze(call: Call, value: Any, axes: Any = None) -> Any:
    """Evaluate the ONNX operator Squeeze, which removes axes of size 1."""
    if isinstance(value, np.ndarray):
        return value.reshape([value.shape[i] for i in _remaining_axes(call, value.shape, axes)])
    if isinstance(value, Labels) and value.dims is not None:
        shape = (2, *value.dims)
        return value._replace(dims=tuple(shape[i] for i in _remaining_axes(call, shape, axes))[1:])
    if isinstance(value, Steps):
        return squeezed(call, value, axes_of(call, axes, len(value.axes), 13))
    rows = any_rows(call, value)
    shape = (2, *rows.dims)  # any number of rows except 1, because Squeeze must not remove the axis of rows
    remaining = _remaining_axes(call, shape, axes)[1:]
    dims, new_axes = tuple(shape[i] for i in remaining), "".join(rows.axes[i - 1] for i in remaining)
    if "t" in rows.axes and new_axes == rows.axes.replace("h", ""):
        return rows.apply(None, call.label, dims=dims, axes=new_axes)
    return _reshaped(call, rows, dims)


def _remaining_axes(call: Call, shape: tuple[int, ...], axes: Any) -> list[int]:
    """Return the indices of the axes that the operator Squeeze does not remove."""
    removed = axes_of(call, axes, len(shape), 13)
    if any(shape[i] != 1 for i in removed):
        raise call.error(f"only axes of size 1 can be removed, got the axes {removed}")
    return [i for i in range(len(shape)) if i not in removed]


@operator("Unsqueeze", inputs=(1, 2), axes=(INTS, None, 1, 12))
def _unsqueeze(call: Call, value: Any, axes: Any = None) -> Any:
    """Evaluate the ONNX operator Unsqueeze, which adds axes of size 1."""
    if isinstance(value, Sizes):
        if not value.scalar or axes_of(call, axes, 1, 13) != [0]:
            raise call.error("Unsqueeze in the computation of a shape must have a single size as input, and axes=[0]")
        return Sizes(value.values)
    shape = value.shape if isinstance(value, np.ndarray) else (2, *any_rows(call, value).dims)
    count = np.size(axes) if axes is not None else len(call["axes"] or ())
    if len(shape) + count > 8:
        raise call.error(f"the result must have at most 8 axes, got {len(shape) + count}")
    added = axes_of(call, axes, len(shape) + count, 13)
    sizes = iter(shape)
    new_shape = [1 if i in added else next(sizes) for i in range(len(shape) + count)]
    if isinstance(value, np.ndarray):
        return value.reshape(new_shape)
    if 0 in added:
        raise call.error("added axes must come after axis 0, the axis of rows, got axis 0")
    if value.axes in ("tc", "ct") and count == 1:
        i = added[0] - 1
        return value.apply(None, call.label, dims=tuple(new_shape[1:]), axes=value.axes[:i] + "h" + value.axes[i:])
    return _reshaped(call, value, tuple(new_shape[1:]))


@operator("Transpose", perm=(INTS, None))
def _transpose(call: Call, value: Any) -> Any:
    """Evaluate the ONNX operator Transpose, a permutation of axes."""
    is_steps = isinstance(value, Steps)
    rank = (
        len(value.axes)
        if is_steps
        else np.ndim(value)
        if isinstance(value, np.ndarray)
        else 1 + len(any_rows(call, value).dims)
    )
    perm = [*range(rank)][::-1] if call["perm"] is None else call["perm"]
    if sorted(perm[: rank + 1]) != [*range(rank)]:
        raise call.error(f"perm must be a permutation of {rank} axes, got {perm[:9]}")
    if isinstance(value, np.ndarray):
        return value.transpose(perm)
    if is_steps or (rank == 3 and perm[0] != 0):
        return transposed(value, perm)
    if perm[:1] != [0]:
        raise call.error(f"perm must begin with 0, the axis of rows, got {perm}")
    dims, axes = (tuple(part[i - 1] for i in perm[1:]) for part in (value.dims, value.axes))
    return value.apply(None, call.label, dims=dims, axes="".join(axes))


# ------------------------------------------------------------------------------------------------ labels and classes


@operator("ArgMax", axis=(INT, 0), keepdims=(INT, 1), select_last_index=(INT, 0, 12))
def _arg_max(call: Call, value: Any) -> Labels:
    """Evaluate the ONNX operator ArgMax, which returns for each row or step the class with the largest output."""
    dims = (2,) if isinstance(value, Pair) else features_last(call, value).dims
    call.require(select_last_index=0)
    if axis_index(call, call["axis"], 1 + len(dims)) != len(dims):
        raise call.error(f"axis must be {len(dims)}, got {call['axis']}")
    return Labels(value, None, (*dims[:-1], 1) if call["keepdims"] else dims[:-1])


@operator("GreaterOrEqual", inputs=(2, 2), since=12)
def _greater_or_equal(call: Call, value: Any, threshold: Any) -> Labels:
    """Evaluate the ONNX operator GreaterOrEqual, which determines labels by comparing outputs with a threshold."""
    rows = features_last(call, value)
    array = broadcast(call, rows, threshold)
    if array.size != 1:
        raise call.error(f"the threshold must be one number, got {array.size} numbers")
    return Labels(rows, array.item(), rows.dims)


def with_classes(call: Call, labels: Labels, classes: Array, dims: Any = ()) -> Labels:
    """Replace the indices in labels by class names; raise ValueError unless each class has one distinct name."""
    call.reader.charge(classes.nbytes)
    source = labels.source.rows if isinstance(labels.source, Pair) else labels.source
    if labels.classes is not None or len(classes) != max(2, source.dims[-1]):
        raise call.error(f"the class names must fit {source.dims[-1]} outputs, got {len(classes)} names")
    if labels.threshold is not None and source.dims != (1,):
        raise call.error(f"a label from a comparison with a threshold must have one output, got shape {source.dims}")
    if len(np.unique(classes)) != len(classes):
        raise call.error(f"the class names must be distinct, got {classes[:9].tolist()}")
    return labels._replace(classes=classes, dims=labels.dims if dims == () else dims)


@operator("ArrayFeatureExtractor", domain="ai.onnx.ml", inputs=(2, 2))
def _array_feature_extractor(call: Call, value: Any, labels: Any) -> Labels:
    """Evaluate the ONNX operator ArrayFeatureExtractor, which replaces the indices in labels by class names."""
    is_vector = isinstance(value, np.ndarray) and value.size == max(value.shape, default=0)
    if not is_vector or not isinstance(labels, Labels):
        raise call.error(
            "the first input must be a constant vector of class names and the second input the labels, got "
            f"{describe_kind(value)} and {describe_kind(labels)}"
        )
    return with_classes(call, labels, value.ravel(), None)


@operator("ZipMap", domain="ai.onnx.ml", classlabels_int64s=(INTS, None), classlabels_strings=(STRINGS, None))
def _zip_map(call: Call, value: Any) -> Mapped:
    """Evaluate the ONNX operator ZipMap, which returns a mapping from class names to numbers for each row."""
    names = [labels for labels in (call["classlabels_int64s"], call["classlabels_strings"]) if labels is not None]
    width = 2 if isinstance(value, Pair) else number_rows(call, value, (1,)).dims[0]
    if len(names) != 1 or len(names[0]) != width:
        lengths = [len(labels) for labels in names]
        raise call.error(f"the attributes must contain one list of {width} class names, got lists of lengths {lengths}")
    return Mapped(value, np.array(names[0]))


@operator("Scaler", domain="ai.onnx.ml", offset=(FLOATS, None), scale=(FLOATS, None))
def _scaler(call: Call, value: Any) -> Rows:
    """Evaluate the ONNX operator Scaler, which computes (x - offset) * scale."""
    rows = any_rows(call, value, (1,))
    offset, factor = call["offset"], call["scale"]
    finite = [part for part in (offset, factor) if part is not None and np.isfinite(part).all()]
    if [len(part) in (1, rows.dims[0]) for part in finite] != [True, True]:
        raise call.error(f"offset and scale must be 1 or {rows.dims[0]} finite numbers each, got {offset} and {factor}")
    if not factor.all():
        raise call.error("scale must not contain 0, which would make an output constant")
    times, plus = factor.astype(np.float64), -offset.astype(np.float64) * factor
    step = lambda assembly: assembly.scale(times, plus, call.label)  # noqa: E731
    return rows.apply(step, call.label, is_scaling=True, dtype="float32")
