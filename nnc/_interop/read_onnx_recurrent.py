"""Recurrent operators of ONNX models, and operators that select and reorder their inputs and outputs.

The inputs of recurrent operators have the axes (steps, rows, features), or (rows, steps, features) if `layout` is 1.
Their outputs also have an axis of directions. Tensors with the axes (rows, steps, features) or (rows, features) are
instances of `Rows`, and those with other axes are instances of `Steps`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._interop.read_onnx_file import FLOAT, FLOATS, INT, STRING, STRINGS, TENSOR
from nnc._interop.read_onnx_values import (
    KINDS,
    Call,
    Rows,
    axis_index,
    describe_axes,
    describe_kind,
    finite_array,
    number_rows,
    operator,
)
from nnc.layers import GRU, LSTM, Bidirectional, SimpleRNN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc._interop.read_onnx_assembly import Assembly

    Array = np.ndarray[Any, Any]

# For each operator: layer of nnc, index in the operator of each gate of this layer, and activations.
CELLS: dict[str, tuple[Any, list[int], list[str]]] = {
    "RNN": (SimpleRNN, [0], ["Tanh"]),
    "GRU": (GRU, [0, 1, 2], ["Sigmoid", "Tanh"]),
    "LSTM": (LSTM, [0, 2, 3, 1], ["Sigmoid", "Tanh", "Tanh"]),
}
ACTIVATIONS = {"Tanh": "tanh", "Relu": "relu", "Sigmoid": "sigmoid"}  # activations of the operator RNN


class Steps(NamedTuple):
    """Symbolic sequences or states with other axes than (rows, steps, features) and (rows, features).

    Attributes
    ----------
    rows : Rows
        The same numbers with the axes (rows, steps, features) or (rows, features).
    axes : str
        Meaning of each axis: n (rows), t (steps), d (directions), u (units of a direction), c (features).
    directions : int
        Number of directions of the recurrent operator that computes the numbers.
    """

    rows: Rows
    axes: str
    directions: int

    @property
    def sizes(self) -> list[int | None]:
        """Return the size of each axis; None is the number of rows."""
        *steps, features = self.rows.dims
        sizes = {"n": None, "t": steps[0] if steps else None, "c": features}
        sizes |= {"d": self.directions, "u": features // self.directions}
        return [sizes[axis] for axis in self.axes]


class State(NamedTuple):
    """Symbolic state (rows, units) of one direction of a bidirectional operator."""

    states: Steps
    direction: int


class Zeros(NamedTuple):
    """Tensor of zeros, whose shape depends on the number of rows."""


KINDS.update({Steps: "sequences with another order of axes", State: "the state of one direction", Zeros: "zeros"})


def arranged(value: Steps) -> Steps | Rows:
    """Convert Steps to Rows if the axes are those of Rows or (rows, features, steps); return other Steps unchanged."""
    rows = value.rows
    if value.axes == "nct":
        return rows.apply(None, rows.label, dims=rows.dims[::-1], axes="ct")
    return rows if value.axes == "n" + rows.axes else value


def as_steps(value: Rows | Steps) -> Steps:
    """Return sequences or vectors as Steps."""
    if isinstance(value, Steps):
        return value
    is_transposed = value.axes == "ct"
    rows = value.apply(None, value.label, dims=value.dims[::-1], axes="tc") if is_transposed else value
    return Steps(rows, "n" + value.axes, 1)


def transposed(value: Rows | Steps, perm: Sequence[int]) -> Steps | Rows:
    """Return sequences or states after the operator Transpose."""
    steps = as_steps(value)
    return arranged(steps._replace(axes="".join(steps.axes[i] for i in perm)))


def reshaped(call: Call, value: Steps, target: list[int | None]) -> Steps | Rows:
    """Return sequences or states after the operator Reshape, which merges or removes the axis of directions."""
    candidates = [value.axes.replace("du", "c")]
    if value.directions == 1:
        candidates.append(value.axes.replace("d", "").replace("u", "c"))
    for axes in candidates:
        result = value._replace(axes=axes)
        pairs = zip(result.sizes, target, value.sizes, strict=False)
        supported = [
            actual in (size, -1) or (actual == 0 and not call["allowzero"] and copied == size)
            or (size is None and actual == call.reader.batch) for size, actual, copied in pairs
        ]  # fmt: skip
        if all(supported) and len(target) == len(axes) and target.count(-1) <= 1:
            return arranged(result)
    raise call.error(f"a Reshape of sequences with the sizes {value.sizes} to {target} is not supported")


def squeezed(call: Call, value: Steps, removed: Sequence[int]) -> Steps | Rows:
    """Return sequences or states after the operator Squeeze, which removes the axis of directions."""
    if value.directions != 1 or {value.axes[i] for i in removed} != {"d"}:
        raise call.error(f"only the axis of a single direction can be removed, got the axes {[*removed]}")
    return arranged(value._replace(axes=value.axes.replace("d", "").replace("u", "c")))


def gathered(call: Call, value: Rows | Steps, indices: Any) -> Steps | State | Rows:
    """Return the last step of sequences, or the state of one direction, which the operator Gather selects."""
    steps = as_steps(value)
    axis = axis_index(call, call["axis"], len(steps.axes))
    size, letter = steps.sizes[axis], steps.axes[axis]
    is_index = isinstance(indices, np.ndarray) and indices.dtype.kind == "i" and indices.ndim == 0
    if not is_index or size is None or letter not in "td":
        raise call.error(
            f"an index of the axis of steps or directions must be a constant, got {describe_kind(indices)}"
        )
    index = axis_index(call, int(indices), size)
    rest = steps.axes.replace(letter, "")
    if letter == "t":
        if index != size - 1:
            raise call.error(f"the index of a step must be that of the last step, got {index} of {size} steps")
        last = steps.rows.apply(
            lambda assembly: assembly.builder.last_step(call.label), call.label, dims=steps.rows.dims[1:], axes="c"
        )
        return arranged(steps._replace(rows=last, axes=rest))
    if size == 1:
        return arranged(steps._replace(axes=rest.replace("u", "c")))
    if steps.axes not in ("dnu", "ndu"):
        raise call.error("a direction of a bidirectional operator can be selected only from its last states")
    return State(steps, index)


def concatenated(call: Call, parts: Sequence[Any]) -> Rows:
    """Return the last states of both directions, which the operator Concat joins."""
    states = {id(part.states.rows) for part in parts if isinstance(part, State)}
    if (
        len(states) != 1
        or [getattr(part, "direction", None) for part in parts] != [0, 1]
        or call["axis"] not in (1, -1)
    ):
        raise call.error("the states of the first and the second direction must be joined along axis 1")
    rows: Rows = parts[0].states.rows
    return rows


@operator("Slice", inputs=(3, 5), since=10)
def _slice(call: Call, value: Any, starts: Any, ends: Any, axes: Any = None, strides: Any = None) -> Any:
    """Evaluate the ONNX operator Slice, which reverses the steps of sequences or selects from constants or zeros."""
    if isinstance(value, Zeros):
        return value
    arrays = [finite_array(call, part, "int64", 1) for part in (starts, ends, axes, strides) if part is not None]
    if isinstance(value, np.ndarray) and len(arrays) == 4 and len({len(array) for array in arrays}) == 1:
        if not arrays[3].all():
            raise call.error(f"steps must not be 0, got {arrays[3].tolist()[:9]}")
        for start, end, axis, stride in zip(*(array.tolist() for array in arrays), strict=True):
            index = axis_index(call, axis, value.ndim)
            value = value[(slice(None),) * index + (slice(start, end, stride),)]
        return value
    is_sequence = isinstance(value, Steps) or (isinstance(value, Rows) and len(value.dims) == 2)
    if is_sequence and len(arrays) == 4 and all(len(array) == 1 for array in arrays):
        steps = as_steps(value)
        (start,), (end,), (axis,), (stride,) = (array.tolist() for array in arrays)
        axis = axis_index(call, axis, len(steps.axes))
        size = steps.sizes[axis]
        if steps.axes[axis] == "t" and stride == -1 and size and (start == -1 or start >= size - 1) and end < -size:
            reversed_rows = steps.rows.apply(_reverse, call.label)
            return arranged(steps._replace(rows=reversed_rows))
    raise call.error("a Slice must reverse the steps of sequences (starts=-1, steps=-1), got other inputs")


def _reverse(assembly: Assembly) -> None:
    """Add a reversal of the steps of the current sequences to an Assembly."""
    assembly.builder.reversed = not assembly.builder.reversed


@operator("ConstantOfShape", since=9, value=(TENSOR, None))
def _constant_of_shape(call: Call, shape: Any) -> Zeros | Array:
    """Evaluate the ONNX operator ConstantOfShape: zeros of an initial state, or a vector of zero padding widths."""
    if call["value"] is not None and np.any(call["value"]):
        raise call.error(f"the value must be 0, got {call['value']}")
    is_vector = isinstance(shape, np.ndarray) and shape.dtype == "int64" and shape.size == 1 and 0 <= shape.item() <= 16
    dtype = np.float32 if call["value"] is None else call["value"].dtype
    return np.zeros(shape.item(), dtype) if is_vector else Zeros()


@operator("Expand", inputs=(2, 2), since=8)
def _expand(call: Call, value: Any, shape: Any) -> Zeros:
    """Evaluate the ONNX operator Expand for zeros, which are initial states."""
    _require_zeros(call, value, "the input")
    return Zeros()


def _require_zeros(call: Call, value: Any, name: str) -> None:
    """Raise ValueError unless an input is absent or contains only zeros."""
    is_zero = value is None or isinstance(value, Zeros) or (isinstance(value, np.ndarray) and not value.any())
    if not is_zero:
        raise call.error(f"{name} must be absent or zeros, got {describe_kind(value)}")


COMMON: dict[str, Any] = {
    "activations": (STRINGS, None),
    "activation_alpha": (FLOATS, None),
    "activation_beta": (FLOATS, None),
    "clip": (FLOAT, None),
    "direction": (STRING, "forward"),
    "hidden_size": (INT, None),
    "layout": (INT, 0, 14),
}


@operator("RNN", inputs=(3, 6), since=7, outputs=2, **COMMON)
@operator("GRU", inputs=(3, 6), since=7, outputs=2, linear_before_reset=(INT, 0), **COMMON)
@operator("LSTM", inputs=(3, 8), since=7, outputs=3, input_forget=(INT, 0), **COMMON)
def _recurrent(call: Call, value: Any, W: Any, R: Any, B: Any = None, *others: Any) -> list[Any]:
    """Evaluate the ONNX operator RNN, GRU or LSTM; return the outputs at all steps and the last states."""
    lengths, initial_h, initial_c, peepholes = (*others, None, None, None, None)[:4]
    for name, part in (("sequence_lens", lengths), ("the peepholes P", peepholes)):
        if part is not None:
            raise call.error(f"{name} must be absent, got {describe_kind(part)}")
    for name, part in (("initial_h", initial_h), ("initial_c", initial_c)):
        _require_zeros(call, part, name)
    kind, reverse = _layer(call)
    rows = number_rows(call, value.rows if isinstance(value, Steps) else value, (2,))
    steps = as_steps(value)
    expected = "ntc" if call["layout"] else "tnc"
    if steps.axes != expected:
        axes, actual_axes = map(describe_axes, (expected, steps.axes))
        raise call.error(f"the input must have the axes ({axes}), got ({actual_axes}); transpose the input")
    n, directions = len(CELLS[call.node.operator][1]), 1 + kind.bidirectional
    W, R = finite_array(call, W, rows.dtype, 3), finite_array(call, R, rows.dtype, 3)
    B = None if B is None else finite_array(call, B, rows.dtype, 2)
    units = R.shape[2]
    shapes = (directions, n * units, rows.dims[1]), (directions, n * units, units), (directions, 2 * n * units)
    actual = W.shape, R.shape, shapes[2] if B is None else B.shape
    if actual != shapes or call["hidden_size"] not in (None, units):
        raise call.error(
            f"the weights must have the shapes {shapes}, got {actual} with hidden_size={call['hidden_size']}"
        )
    layer = kind.replace(units=units)

    def recurrent(assembly: Assembly) -> None:
        assembly.charge(W.nbytes + R.nbytes)
        builder, was_reversed = assembly.builder, assembly.builder.reversed
        builder.recurrent(layer, *_columns(call, W, R, B), call.label)
        if reverse:  # keep the order, because layers of nnc return the steps in the order of their inputs
            builder.reversed = was_reversed

    features = directions * units
    sequences = rows.apply(recurrent, call.label, dims=(rows.dims[0], features))
    last = lambda assembly: assembly.builder.last_step(call.label, states=True)  # noqa: E731
    states = sequences.apply(last, call.label, dims=(features,), axes="c")
    outputs = ("ntdu", "ndu") if call["layout"] else ("tdnu", "dnu")
    return [Steps(sequences, outputs[0], directions), Steps(states, outputs[1], directions)]


def _layer(call: Call) -> tuple[Any, bool]:
    """Return the layer of a recurrent node with one unit, and whether it processes the steps in reverse order."""
    layer_class, _, activations = CELLS[call.node.operator]
    direction, options = call["direction"], {}
    if direction not in ("forward", "reverse", "bidirectional"):
        raise call.error(f"direction must be forward, reverse or bidirectional, got {direction[:20]!r}")
    directions = 1 + (direction == "bidirectional")
    actual = call["activations"] or activations * directions
    if layer_class is SimpleRNN and actual[0] in ACTIVATIONS:
        activations, options = actual[:1], {"activation": ACTIVATIONS[actual[0]]}
    if [*actual] != activations * directions:
        raise call.error(f"activations must be {activations * directions}, got {actual[:9]}")
    for name in ("activation_alpha", "activation_beta", "clip"):
        if call[name] is not None and np.size(call[name]):
            raise call.error(f"attribute {name} must be absent, got {call[name]}")
    if layer_class is GRU:
        call.require(linear_before_reset=1)
    if layer_class is LSTM:
        call.require(input_forget=0)
    if call["layout"] not in (0, 1):
        raise call.error(f"layout must be 0 or 1, got {call['layout']}")
    layer = layer_class(1, return_sequences=True, go_backwards=direction == "reverse", **options)
    return (Bidirectional(layer) if directions == 2 else layer), layer.go_backwards


def _columns(call: Call, W: Array, R: Array, B: Array | None) -> tuple[Array, Array, Array | None]:
    """Return W, U and b of a layer of nnc for the weights of a recurrent node."""
    layer_class, order, _ = CELLS[call.node.operator]
    n = len(order)
    W, U = (
        np.hstack([part.reshape(n, -1, part.shape[1])[order].reshape(len(part), -1).T for part in array])
        for array in (W, R)
    )
    if B is None:
        return W, U, None
    b = np.hstack([part.reshape(2, n, -1)[:, order].reshape(2, -1) for part in B])
    return W, U, b if layer_class is GRU else b.sum(axis=0)
