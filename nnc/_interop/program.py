"""Programs: networks as lists of operations, the input of all writers.

A writer has one method for each type of operation (nnc/layers/operations.py) and does not depend on layer classes. A
program also describes the scaling of inputs and targets and the meaning of the outputs.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from nnc._registry import activations, losses
from nnc._utils.fields import MAX_FINITE
from nnc._utils.value import Value
from nnc.layers import Input, layer_classes_by_type
from nnc.layers.operations import (
    Activate,
    AvgPool,
    Conv,
    Flatten,
    MatMul,
    MaxPool,
    Operation,
    Recur,
    Reshape,
    Scale,
    Sort,
    StepMatMul,
)
from nnc.layers.stack import stream_obstacle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nnc.layers.base import Shape


class Program(Value):
    """Network as a list of operations, with the meaning of its outputs.

    Attributes
    ----------
    dtype : {"float32", "float64"}
        Dtype in which the network computes.
    shape : tuple of int
        Shape of one row of raw inputs: (n,), (steps, features) or (height, width, channels). The number of steps is
        None if the network accepts any number of steps.
    operations : tuple of Operation
        All operations in order. Input scaling is the first one, and the inverse of target scaling is the last one.
    output_shape : tuple of int
        Shape of the outputs for one row: (n_out,), or (steps, n) if there are outputs at each step of a sequence.
    task : {"regression", "multiclass", "binary", "multilabel"}
        Meaning of the outputs. "multiclass": the class is the index of the largest output, or of the largest output of
        each step. "binary": the class is 1 if the single output is at least `threshold`, else 0. "multilabel": each
        output decides about one label, as in "binary".
    threshold : float
        Smallest output for which a class or label is predicted, in "binary" and "multilabel" tasks.
    has_probabilities : bool
        Whether the outputs of a classification task are probabilities.
    labels : tuple
        Names of the classes, which are all of the type str, int, bool or float. The default names are 0, 1, ...
    self_test : dict, optional
        Row of raw inputs "X", and the outputs "P" of the network for this row, both as flat lists.
    title : str
        Readable summary of the layer sizes: the number of inputs, and the number of outputs of each parametric layer,
        such as "3-4-1".
    stream_obstacle : str, optional
        Why the outputs cannot be computed step by step; None if they can.
    """

    dtype: str
    shape: Shape
    operations: tuple[Operation, ...]
    output_shape: Shape
    task: str
    threshold: float
    has_probabilities: bool
    labels: tuple[Any, ...]
    self_test: dict[str, Any] | None
    title: str
    stream_obstacle: str | None

    @property
    def n_in(self) -> int:
        """Number of inputs, the number of values in one row, or in one step if the number of steps is variable."""
        return _count(self.shape)

    @property
    def n_out(self) -> int:
        """Number of outputs for one row, or for one step if the number of steps is variable."""
        return _count(self.output_shape)

    @property
    def any_steps(self) -> bool:
        """Return whether the network accepts sequences with any number of steps."""
        return None in self.shape

    @property
    def has_recurrent_layers(self) -> bool:
        """Return whether the network has recurrent layers."""
        return any(isinstance(operation, Recur) for operation in self.operations)

    def row(self, X: list[float]) -> list[Any]:
        """Return a list with one row for a flat list of raw inputs, in the form that `predict` accepts."""
        n = self.n_in
        return [[X[i : i + n] for i in range(0, len(X), n)] if self.any_steps else X]

    def step_operations(self) -> list[Operation]:
        """Return the operations for a single step of a sequence, whose shapes have no axis of steps.

        The network must have no `stream_obstacle`. Causal convolutions are returned unchanged.
        """
        return [
            operation
            if isinstance(operation, Conv)
            else operation.replace(input_shape=operation.input_shape[-1:], output_shape=operation.output_shape[-1:])
            for operation in self.operations
        ]


def build_program(document: dict[str, Any]) -> Program:
    """Build the program of a validated document.

    Parameters
    ----------
    document : dict
        Validated document of a network, as described in nnc/_serialization/document.py.
    """
    layers, heads = document["layers"], document.get("heads")
    shape, operations, sizes = build_operations(document)
    layer_classes = layer_classes_by_type()
    layer_objects = [layer_classes[layer["type"]].from_dict(layer) for layer in layers if layer["type"] != Input.type]
    obstacle = stream_obstacle(layer_objects, heads is not None)
    operations = tuple(map(_scale_by_feature, operations))
    if obstacle is None and any(
        isinstance(each, Scale) and len(each.minus) > each.input_shape[-1] for each in operations
    ):
        obstacle = "stream() requires the same scaling at all steps"
    if obstacle is None and not any(
        isinstance(each, Recur) or (isinstance(each, Conv) and each.n_states) for each in operations
    ):
        obstacle = "no layer has a state"
    output_shape = operations[-1].output_shape
    row, output = losses.ROWS[document["loss"]], activations.ROWS[layers[-1]["activation"]]
    task = "regression"
    if row.is_classification or output.name == "softmax":
        task = "binary" if sizes[-1] == 1 else "multilabel" if row.target_type == "multilabel" else "multiclass"
    if len(output_shape) == 2:  # classes at each step: only these losses support them, see predict_classes
        task = {"multilabel": "multilabel", "probabilities": "multiclass"}.get(row.target_type, "regression")
    return Program(
        document["dtype"],
        shape,
        operations,
        output_shape,
        task,
        row.threshold,
        output.probability and row.target_type != "plus_minus_one",
        tuple(range(max(2, output_shape[-1]))) if document["classes"] is None else tuple(document["classes"]),
        document["self_test"],
        "-".join(map(str, sizes)),
        obstacle,
    )


def build_operations(document: dict[str, Any]) -> tuple[Shape, tuple[Operation, ...], list[int]]:
    """Return the input shape, the operations and the layer sizes of the network in a validated document.

    The layer sizes are the number of inputs, and the number of outputs of each parametric layer.
    """
    layer_classes, layers = layer_classes_by_type(), document["layers"]
    first = layers[0]
    shape: Shape = tuple(first["shape"]) if first["type"] == Input.type else (first["n_in"],)
    layer_shape, sizes = shape, [_count(shape)]
    operations: list[Operation] = []
    if document["scale_X"] is not None:
        operations.append(_input_scaling(shape, document["scale_X"]))
    for layer in layers:
        layer_object = layer_classes[layer["type"]].from_dict(layer)
        operations += layer_object.operations(layer_shape, layer)
        if layer["type"] != Input.type:
            layer_shape = layer_object.output_shape(layer_shape)
        if "W" in layer:
            sizes.append(_count(layer_shape))
    operations += _sort_of_heads(layer_shape, document.get("heads"))
    if document["scale_y"] is not None:
        operations.append(_target_unscaling(layer_shape, document["scale_y"]))
    return shape, tuple(_merge_reshapes(operations)), sizes


def build_members(documents: Iterable[dict[str, Any]]) -> tuple[list[tuple[Operation, ...]], str]:
    """Return the operations of each network of an ensemble, and the distinct layer sizes of the networks as text."""
    _, operations, sizes = zip(*map(build_operations, documents), strict=True)
    return list(operations), join_titles("-".join(map(str, widths)) for widths in sizes)


def join_titles(titles: Iterable[str]) -> str:
    """Return the title of an ensemble: the different titles of its networks."""
    return ", ".join(dict.fromkeys(titles))


def _count(shape: Shape) -> int:
    """Return the number of values in one row, or in one step if the number of steps is None."""
    return math.prod(n or 1 for n in shape)


def _merge_reshapes(operations: list[Operation]) -> list[Operation]:
    """Return the operations after merging consecutive Reshape operations and omitting those without effect."""
    merged: list[Operation] = []
    for operation in operations:
        if isinstance(operation, Reshape) and merged and isinstance(merged[-1], Reshape):
            operation = operation.replace(input_shape=merged.pop().input_shape)
        if not isinstance(operation, Reshape) or operation.input_shape != operation.output_shape:
            merged.append(operation)
    return merged


def _sort_of_heads(shape: Shape, heads: dict[str, Any] | None) -> list[Operation]:
    """Return a list with the operation that sorts the outputs of ordered heads; it is empty if none are sorted."""
    return [Sort(shape, shape, len(heads["heads"]))] if heads is not None and heads.get("ordered") else []


def build_programs(documents: Sequence[dict[str, Any]], predict: Callable[[Any], Any]) -> list[Program]:
    """Build the program of a network, or the programs of all networks of an ensemble.

    An ensemble outputs the mean of its networks' outputs. The first program of an ensemble also describes the whole
    ensemble: its title names the sizes of all networks, and its dtype is the lowest precision of the networks. Its
    self-test expects the outputs of `predict`, the function from raw rows to the mean outputs. All programs of an
    ensemble have a `stream_obstacle`.
    """
    built = [build_program(document) for document in documents]
    first, self_test = built[0], built[0].self_test
    if self_test is not None and (len(built) > 1 or first.any_steps):
        X = self_test["X"] * (N_TEST_STEPS if first.any_steps else 1)
        self_test = {"X": X, "P": predict(first.row(X))[0].ravel().tolist()}
    if len(built) == 1:
        return [first.replace(self_test=self_test)]
    first, *others = (member.replace(stream_obstacle="an ensemble has no stream()") for member in built)
    title = join_titles(member.title for member in built)
    dtype = "float32" if any(member.dtype == "float32" for member in built) else "float64"
    return [first.replace(title=title, self_test=self_test, dtype=dtype), *others]


def _input_scaling(shape: Shape, scale: dict[str, Any]) -> Scale:
    """Return the operation that scales raw inputs; `scale` is the member `scale_X` of a document."""
    minus, times = (_as_list(scale[key]) for key in ("shift", "factor"))
    return Scale(shape, shape, minus, times, [0.0] * len(minus))


def _target_unscaling(shape: Shape, scale: dict[str, Any]) -> Scale:
    """Return the operation that converts outputs to the units of the targets; `scale` is `scale_y` of a document."""
    plus, factor = (_as_list(scale[key]) for key in ("shift", "factor"))
    return Scale(shape, shape, [0.0] * len(plus), [1 / number for number in factor], plus)


def _scale_by_feature(operation: Operation) -> Operation:
    """Replace the numbers of a Scale of sequences by one per feature if they are the same at each step.

    Other operations are returned unchanged.
    """
    if not isinstance(operation, Scale) or len(operation.input_shape) != 2:
        return operation
    numbers, n = {name: getattr(operation, name) for name in ("minus", "times", "plus")}, operation.input_shape[-1]
    if any(part != part[:n] * (len(part) // len(part[:n])) for part in numbers.values()):
        return operation
    return operation.replace(**{name: part[:n] for name, part in numbers.items()})


def _as_list(numbers: Any) -> list[float]:
    """Return a list of numbers; convert a single number to a list with one item."""
    return numbers if type(numbers) is list else [numbers]


# ------------------------------------------------------------------------------------------ code shared by all writers

# Name of the method of `Writer` classes for each type of operation.
METHODS: dict[type[Operation], str] = {
    Scale: "scale",
    MatMul: "mat_mul",
    StepMatMul: "step_mat_mul",
    Recur: "recur",
    Conv: "conv",
    MaxPool: "pool",
    AvgPool: "pool",
    Flatten: "flatten",
    Reshape: "reshape",
    Activate: "activate",
    Sort: "sort",
}

# Arithmetic operator of each step of the scaling (x - minus) * times + plus.
SCALE_SIGNS = {"subtract": "-", "multiply": "*", "add": "+"}

# Order of the inputs as text for comments in exported files, by the number of axes of a row.
INPUT_ORDERS = {
    1: "",
    2: ", in the order of step and feature",
    3: ", in the order of height, width and channel",
}

N_TEST_STEPS = 3  # steps of the self-test of a network with any number of steps
LINE_CHARACTERS = 110  # maximum line length of exported lists of constants


class SequenceWindow(NamedTuple):
    """Windows of a convolution of sequences, with the numbers of zeros before and after a sequence."""

    size: int
    stride: int
    dilation: int
    before: int
    after: int


def sequence_window(operation: Conv) -> SequenceWindow:
    """Return the windows of a convolution of sequences, which its operation describes as images."""
    (top, left, bottom, right), width = operation.pad, operation.input_shape[1]
    zeros = left + top * width, right + bottom * width
    return SequenceWindow(math.prod(operation.window), operation.stride[1], operation.dilation, *zeros)


class Writer:
    """Base class of writers, which have one method for each type of operation."""

    def write(self, operation: Operation, *arguments: str) -> Any:
        """Call the method of the writer for the type of this operation, and return its result."""
        return getattr(self, METHODS[type(operation)])(operation, *arguments)


def scale_functions(operation: Scale, dtype: str) -> list[tuple[str, Sequence[float]]]:
    """Split a Scale operation into steps; each is a pair of a key of `SCALE_SIGNS` and the second operand.

    Steps that leave every input unchanged are omitted.
    """
    functions: list[tuple[str, Sequence[float], float]] = [
        *(("subtract", part, 0.0) for part in split_remainders(operation.minus, dtype)),
        ("multiply", operation.times, 1.0),
        ("add", operation.plus, 0.0),
    ]
    return [(name, numbers) for name, numbers, neutral in functions if any(number != neutral for number in numbers)]


def require_range(numbers: Sequence[float], dtype: str) -> Sequence[float]:
    """Return `numbers` unchanged; raise ValueError if one of them is outside the range of the dtype."""
    largest = MAX_FINITE[dtype]
    if not all(abs(number) <= largest for number in numbers):
        number = next(number for number in numbers if not abs(number) <= largest)
        raise ValueError(f"the parameters and scalings must be in the range of dtype={dtype!r}, got {number:g}")
    return numbers


def round_to_dtype(numbers: Sequence[float], dtype: str) -> list[float]:
    """Round `numbers` to the dtype; raise ValueError if one of them is outside the range of the dtype."""
    n = len(require_range(numbers, dtype))
    return list(numbers) if dtype == "float64" else [*struct.unpack(f"<{n}f", struct.pack(f"<{n}f", *numbers))]


def wrap_values(values: Iterable[str], line_break: str = "\n") -> str:
    """Join texts by commas, with a line break before a line would exceed about `LINE_CHARACTERS` characters."""
    lines, line = [], ""
    for value in values:
        if line and len(line) + len(value) > LINE_CHARACTERS:
            lines.append(line + ",")
            line = value
        else:
            line += f", {value}" if line else value
    return line_break.join([*lines, line])


def split_remainders(numbers: Sequence[float], dtype: str) -> tuple[list[float], list[float]]:
    """Split each number into the number rounded to the dtype and a remainder; their sum is the number.

    Scaling in float32 subtracts both parts of a shift from x. For inputs with a small range far from 0, such as years,
    x minus the rounded shift is exact, and subtracting the remainder restores the digits that the rounding has lost.
    """
    leading = round_to_dtype(numbers, dtype)
    return leading, [number - part for number, part in zip(numbers, leading, strict=True)]
