"""Networks from ONNX models: those of nnc, skl2onnx, PyTorch and Keras.

Each node is evaluated in the order of the file (read_onnx_values.py). A Builder is then told of the steps from the
input to the output.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nnc._interop import read_onnx_layers, read_onnx_shapes  # noqa: F401 (they register operators)
from nnc._interop.onnx import TO_CHANNELS_FIRST
from nnc._interop.read_onnx_assembly import Assembly
from nnc._interop.read_onnx_file import load
from nnc._interop.read_onnx_values import OPERATORS, Labels, Mapped, Pair, Rows
from nnc._registry import losses
from nnc._serialization import ModelFileError
from nnc._serialization.text import out_of_memory_error
from nnc._utils import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nnc._interop.parts import Parts
    from nnc._interop.read_onnx_file import Model, Node

    Array = np.ndarray[Any, Any]

Network = TypeVar("Network")  # nnc.NeuralNetwork, which this package does not import
MAX_EXTRA_BYTES = 2**22  # of arrays that a model makes beyond twice the size of its file
MAX_MESSAGE = 500  # characters of an error


def read(build: Callable[[Parts], Network], path: Any, loss: Any, verify: bool) -> Network:
    """Return the network of the ONNX model in a file.

    Parameters
    ----------
    build : callable
        Makes a network of its parts.
    path, loss, verify
        As `nnc.from_onnx`.

    Raises
    ------
    OSError
        The system refuses the file; a ModelFileError if it is no ONNX model, or has a part that is not supported.
    ImportError
        `verify` is true and onnx is not installed.
    """
    if loss is not None:
        losses.as_loss(loss)
    if verify:
        from nnc._interop.verify_onnx import check, require_onnx

        require_onnx()
    with _refused(disk.place(path)), np.errstate(all="ignore"):
        content = disk.read_bytes(path, "network", lambda piece: piece[:1] in (b"\x08", b"\x12", b"\x3a"))
        reader = Reader(load(content, os.path.dirname(os.fsdecode(path))), len(content))
        network = build(reader.parts(loss))
        if verify:
            check(path, reader, network if loss is None else build(reader.parts(None)))
        return network


@contextmanager
def _refused(where: str) -> Iterator[None]:
    """Turn whatever is wrong with a file into an OSError."""
    try:
        yield
        return
    except ModelFileError as error:
        problem = str(error)
    except disk.WrongBeginningError:
        problem = "it is no ONNX model"
    except MemoryError:
        raise out_of_memory_error(where) from None
    except (ArithmeticError, ValueError) as error:
        problem = str(error)
    raise ModelFileError(f"cannot load the network from {where}: {problem[:MAX_MESSAGE]}")


class Reader:
    """Evaluates the nodes of a model and puts the network together."""

    def __init__(self, model: Model, size: int) -> None:
        self.model, self.size, self.made_bytes = model, size, 0
        self.axes = self._input_axes()
        self.batch = model.dims[0] if model.dims else 0
        self.input = self._input()
        self.values: dict[str, Any] = {model.input: self.input}
        for node in model.nodes:
            self._evaluate(node)

    def charge(self, size: int) -> None:
        """Count bytes of arrays that are made; ValueError if a small file makes large ones."""
        self.made_bytes += size
        if self.made_bytes > 2 * (self.size + self.model.constants.external_bytes) + MAX_EXTRA_BYTES:
            raise ValueError("it makes much larger arrays than the file has numbers")

    def _input_axes(self) -> str:
        """Return the order of the axes of images in the input.

        Channels are last in models of nnc, and in those that transpose images before the first layer.
        """
        if self.model.producer == "nnc":
            return "hwc"
        derived = {self.model.input}
        for node in self.model.nodes:
            if derived.isdisjoint(node.inputs):
                continue
            if node.operator == "Transpose":
                return "hwc" if node.attributes.get("perm", (0, None))[1] == TO_CHANNELS_FIRST else "chw"
            if node.operator not in ("Identity", "Cast", "Reshape", "Shape", "Add", "Sub", "Mul", "Div"):
                break
            derived.update(node.outputs)
        return "chw"

    def _input(self) -> Rows:
        """Return the input as a tensor."""
        dims, nodes = tuple(self.model.dims[1:]), self.model.nodes
        if dims == (0,):  # open: as many as the first matrix takes
            for node in nodes:
                if node.operator in ("MatMul", "Gemm") and node.inputs[1:2] and node.inputs[1] in self.model.constants:
                    shape = self.model.constants[node.inputs[1]].shape
                    dims = shape[:1] if node.attributes.get("transB", (0, 0))[1] == 0 else shape[1:]
                    break
        if len(dims) not in (1, 3) or min(dims) < 1 or self.batch < 0:
            raise ValueError(
                f"its input has the shape {self.model.dims}, which leaves open how many numbers a row has; "
                "expected rows of numbers or images"
            )
        if self.model.dtype in ("str", "bool"):
            raise ValueError(f"its input has the type {self.model.dtype}, expected numbers")
        return Rows(dims, "c" if len(dims) == 1 else self.axes, self.model.dtype, None, None, "the input")

    def shape(self) -> tuple[int, ...]:
        """Return the shape of a row of the input as nnc has it, channels last."""
        dims, axes = self.input.dims, self.input.axes
        return tuple(dims[axes.index(axis)] for axis in "hwc") if len(dims) == 3 else dims

    def _value(self, name: str) -> Any:
        if not name:
            return None
        if name in self.model.constants:
            return self.model.constants[name]
        if name not in self.values:
            raise ValueError(f"{name!r} is an output that nnc does not support, or nothing gives it")
        return self.values[name]

    def _evaluate(self, node: Node) -> None:
        known = OPERATORS.get((node.domain, node.operator))
        if known is None:
            raise ValueError(f"{node.label} is an operator that nnc does not support")
        if not node.outputs or not node.outputs[0]:
            raise ValueError(f"{node.label} has no first output")
        self.values[node.outputs[0]] = known.call(node, self, [self._value(name) for name in node.inputs])

    def parts(self, loss: Any) -> Parts:
        """Return the parts of the network that gives what the model does."""
        self.made_bytes = 0
        source, labels, classes = self._outputs()
        rows = source.rows if isinstance(source, Pair) else source
        end = _last_step(rows)
        if isinstance(source, Pair) and end.activation != "sigmoid":
            raise ValueError(f"{end.label} gives the probability of yes, expected a sigmoid")
        if labels is not None:
            fitting = self._loss_of(labels, end)
            loss = loss or fitting
        elif classes is not None and not isinstance(source, Pair) and end.activation != "softmax":
            raise ValueError(f"{end.label} gives no probabilities, but they have names of classes")
        steps = []
        at: Rows | None = rows
        while at is not None:
            steps.append(at)
            at = at.before
        assembly = Assembly(self.shape(), self.charge)
        for row in reversed(steps):
            if row.step == "unknown":
                raise ValueError(f"{row.label} is no part of an activation that nnc has")
            if row.step is not None:
                if not row.scales:
                    assembly.settle()
                row.step(assembly)
        return assembly.parts(loss, classes)

    def _outputs(self) -> tuple[Rows | Pair, Labels | None, Array | None]:
        """Return the numbers that the model gives, its labels, and names of classes that are not just indices."""
        values = [self._value(name) for name in self.model.outputs]
        labels = [value for value in values if isinstance(value, Labels)]
        mapped = [value for value in values if isinstance(value, Mapped)]
        others = [value for value in values if not isinstance(value, Labels)]
        sources = [value.source if isinstance(value, Mapped) else value for value in others]
        if not all(isinstance(source, (Rows, Pair)) for source in sources) or len(labels) > 1:
            raise ValueError("its outputs must be numbers, and at most one of labels")
        if not sources:
            raise ValueError("it gives only labels, nnc needs the numbers that they are found from")
        if len({_last_step(source.rows if isinstance(source, Pair) else source) for source in sources}) > 1:
            raise ValueError(f"it has several outputs of numbers, expected one: {self.model.outputs[:9]}")
        named = [label.classes for label in labels if label.classes is not None] + [m.classes for m in mapped]
        if any(not np.array_equal(other, named[0]) for other in named):
            raise ValueError("its outputs have different names of classes")
        classes = named[0] if named else None
        if classes is not None and classes.dtype.kind in "iu" and (classes == np.arange(len(classes))).all():
            classes = None
        return sources[0], labels[0] if labels else None, classes

    def _loss_of(self, labels: Labels, end: Rows) -> str:
        """Return the loss whose classes are the labels of the model."""
        source = _last_step(labels.source.rows if isinstance(labels.source, Pair) else labels.source)
        if labels.dims is None:
            raise ValueError("its labels are not along the first axis")
        if source is not end and not (end.activation == "softmax" and end.before and source is _last_step(end.before)):
            raise ValueError(f"its labels are not found from the output {end.label}")
        if isinstance(labels.source, Pair):
            return "bce"
        if labels.threshold is None:
            if labels.source.dims == (1,):
                raise ValueError("its label is the largest of one number")
            return "cross_entropy" if end.activation == "softmax" else "hinge"
        if end.activation == "sigmoid" and labels.threshold == 0.5 and source is end:
            return "bce"
        if labels.threshold != 0 or labels.source.dims != (1,) or source is not end:
            raise ValueError(f"its label has the threshold {labels.threshold:g}, which is that of no loss")
        return "hinge"


def _last_step(rows: Rows) -> Rows:
    """Return the tensor that has the same numbers and is not only another name or type of them."""
    while rows.step is None and rows.before is not None:
        rows = rows.before
    return rows
