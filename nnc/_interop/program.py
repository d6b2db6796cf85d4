"""A network as a list of operations, what its outputs mean included: what all writers of other formats read.

A writer has a function for each kind of operation (nnc/layers/operations.py); what is left to it is its language.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

from nnc._registry import activations, losses
from nnc._utils.fields import LARGEST
from nnc._utils.value import Value
from nnc.layers import Input, in_files
from nnc.layers.operations import Activate, AvgPool, Conv, Flatten, MatMul, MaxPool, Operation, Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nnc.layers.kind import Shape


class Program(Value):
    """A network for a writer.

    Attributes
    ----------
    dtype : str
        The network's.
    shape : tuple of int
        Of a row of raw inputs: (n,), or (height, width, channels).
    operations : tuple of Operation
        The scaling of the inputs first, that of the targets, undone, last.
    n_out : int
    answer : str
        What outputs mean: "numbers"; "one", the class of the largest; "yes", a single output that says yes from
        `threshold` on; "each", several that say so each for itself.
    threshold : float
    probabilities : bool
        Whether outputs of classes are probabilities.
    labels : tuple
        What the classes are called, all strings, integers, booleans or floats; where they have no names, their numbers.
    test : dict, optional
        A raw row "X" and its outputs "P".
    title : str
        What it is, for people: "3-4-1".
    """

    dtype: str
    shape: Shape
    operations: tuple[Operation, ...]
    n_out: int
    answer: str
    threshold: float
    probabilities: bool
    labels: tuple[Any, ...]
    test: dict[str, Any] | None
    title: str

    @property
    def n_in(self) -> int:
        """How many numbers a row of inputs has."""
        return math.prod(self.shape)


def program(document: dict[str, Any]) -> Program:
    """The program of a checked document.

    Raises
    ------
    ValueError
        A kind of layer, or several heads, cannot be written in other formats.
    """
    if document.get("heads") is not None:
        raise ValueError("a network with heads cannot be written in other formats, in which outputs have one meaning")
    layers = document["layers"]
    shape, operations, sizes = steps(document)
    n_out = sizes[-1]
    row, output = losses.ROWS[document["loss"]], activations.ROWS[layers[-1]["activation"]]
    answer = "numbers"
    if row.of_classes or output.name == "softmax":
        answer = "yes" if n_out == 1 else "each" if row.takes == "shares" else "one"
    return Program(
        document["dtype"],
        shape,
        operations,
        n_out,
        answer,
        row.threshold,
        output.probability and row.takes != "signs",
        tuple(range(max(2, n_out))) if document["classes"] is None else tuple(document["classes"]),
        document["self_test"],
        "-".join(map(str, sizes)),
    )


def steps(document: dict[str, Any]) -> tuple[Shape, tuple[Operation, ...], list[int]]:
    """The shape of a row of a checked document, the operations, and how many numbers there are before and behind each
    layer of weights; ValueError where a kind of layer cannot be written."""
    known, layers = in_files(), document["layers"]
    first = layers[0]
    shape: Shape = tuple(first["shape"]) if first["type"] == Input.type else (first["n_in"],)
    below, sizes = shape, [math.prod(shape)]
    operations: list[Operation] = []
    if document["scale_X"] is not None:
        operations.append(_scaled(shape, document["scale_X"]))
    for layer in layers:
        kind = known[layer["type"]].from_dict(layer)
        operations += kind.operations(below, layer)
        below = kind.shape(below)
        if "W" in layer:
            sizes.append(math.prod(below))
    if document["scale_y"] is not None:
        operations.append(_unscaled(below, document["scale_y"]))
    return shape, tuple(operations), sizes


def programs(documents: Sequence[dict[str, Any]], predict: Callable[[Any], Any]) -> list[Program]:
    """The programs of checked documents, one of a network or those of an ensemble, which answers with the mean of their
    outputs: then the first says what that means, and `predict`, of rows of raw inputs, what its self-test is."""
    first, *others = made = [program(document) for document in documents]
    if not others:
        return made
    title = ", ".join(dict.fromkeys(one.title for one in made))
    test = first.test and {"X": first.test["X"], "P": predict([first.test["X"]])[0].tolist()}
    dtype = "float32" if any(one.dtype == "float32" for one in made) else "float64"  # as exact as the least of them
    return [first.replace(title=title, test=test, dtype=dtype), *others]


def _scaled(shape: Shape, scale: dict[str, Any]) -> Scale:
    minus, times = (_listed(scale[key]) for key in ("shift", "factor"))
    return Scale(shape, shape, minus, times, [0.0] * len(minus))


def _unscaled(shape: Shape, scale: dict[str, Any]) -> Scale:
    plus, factor = (_listed(scale[key]) for key in ("shift", "factor"))
    return Scale(shape, shape, [0.0] * len(plus), [1 / number for number in factor], plus)


def _listed(numbers: Any) -> list[float]:
    return numbers if type(numbers) is list else [numbers]


# ------------------------------------------------------------------------------------- for several of the writers

METHODS: dict[type[Operation], str] = {
    Scale: "scale",
    MatMul: "mat_mul",
    Conv: "conv",
    MaxPool: "pool",
    AvgPool: "pool",
    Flatten: "flatten",
    Activate: "activate",
}


SCALE_SIGNS = {"subtract": "-", "multiply": "*", "add": "+"}  # These functions compute (x - minus) * times + plus.


class Writer:
    """Base class of the writers, which have a method for each kind of operation."""

    def write(self, step: Operation, *arguments: str) -> Any:
        """Write an operation by the method for its kind."""
        return getattr(self, METHODS[type(step)])(step, *arguments)


def scale_steps(step: Scale, dtype: str) -> list[tuple[str, Sequence[float]]]:
    """Return functions of `SCALE_SIGNS` with their numbers, without those that leave every input unchanged."""
    steps = [
        *(("subtract", part, 0.0) for part in halves(step.minus, dtype)),
        ("multiply", step.times, 1.0),
        ("add", step.plus, 0.0),
    ]
    return [(name, numbers) for name, numbers, neutral in steps if any(number != neutral for number in numbers)]


def in_range(numbers: Sequence[float], dtype: str) -> Sequence[float]:
    """The numbers, which have to fit into the dtype; ValueError where one does not."""
    largest = LARGEST[dtype]
    if not all(abs(number) <= largest for number in numbers):
        number = next(number for number in numbers if not abs(number) <= largest)
        raise ValueError(f"dtype is {dtype!r}, which does not hold {number:g}, a number of this network")
    return numbers


def rounded(numbers: Sequence[float], dtype: str) -> list[float]:
    """The numbers as the dtype holds them; ValueError where it does not."""
    n = len(in_range(numbers, dtype))
    return list(numbers) if dtype == "float64" else [*struct.unpack(f"<{n}f", struct.pack(f"<{n}f", *numbers))]


def wrapped(values: Iterable[str], between: str = "\n") -> str:
    """Values with commas between them, as many in a line as fit."""
    lines, line = [], ""
    for value in values:
        if line and len(line) + len(value) > 110:
            lines.append(line + ",")
            line = value
        else:
            line += f", {value}" if line else value
    return between.join([*lines, line])


def halves(numbers: Sequence[float], dtype: str) -> tuple[list[float], list[float]]:
    """Each number as the sum of one that the dtype holds and what is left.

    A row of numbers that lie close together far from 0, such as years, would lose in float32 what distinguishes them if
    the digits of `minus` were cut off: x - first is exact there, and then - rest is.
    """
    first = rounded(numbers, dtype)
    return first, [number - close for number, close in zip(numbers, first, strict=True)]
