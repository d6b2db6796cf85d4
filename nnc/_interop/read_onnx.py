"""Reader of ONNX models that nnc, skl2onnx, PyTorch or Keras wrote.

All nodes are evaluated in the order of the file, where tensors that depend on the input stay symbolic (see
read_onnx_values.py). Then the steps from the input to the output are applied to an Assembly, which builds the network.
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
MAX_EXTRA_BYTES = 2**22  # size limit of arrays that a model creates, in addition to twice the size of its files
MAX_MESSAGE_CHARACTERS = 500  # error messages are cut to this length


def read(build: Callable[[Parts], Network], path: Any, loss: Any, verify: bool) -> Network:
    """Return the network of the ONNX model in a file.

    Parameters
    ----------
    build : callable
        Function that creates a network from its parts.
    path, loss, verify
        As in `nnc.from_onnx`.

    Raises
    ------
    OSError
        The system refuses to read the file. The error is a ModelFileError if the file is not an ONNX model, or has a
        part that is not supported.
    ImportError
        `verify` is true and onnx is not installed.
    """
    if loss is not None:
        losses.parse_loss(loss)
    if verify:
        from nnc._interop.verify_onnx import check, require_onnx

        require_onnx()
    with _model_file_errors(disk.describe_source(path)), np.errstate(all="ignore"):
        content = disk.read_bytes(path, "network", lambda piece: piece[:1] in (b"\x08", b"\x12", b"\x3a"))
        reader = Reader(load(content, os.path.dirname(os.fsdecode(path))), len(content))
        network = build(reader.parts(loss))
        if verify:
            check(path, reader, network if loss is None else build(reader.parts(None)))
        return network


@contextmanager
def _model_file_errors(where: str) -> Iterator[None]:
    """Convert all errors about the content of a file to ModelFileError, and MemoryError to OSError."""
    try:
        yield
        return
    except ModelFileError as error:
        problem = str(error)
    except disk.UnexpectedStartError:
        problem = "it is not an ONNX model"
    except MemoryError:
        raise out_of_memory_error(where) from None
    except (ArithmeticError, ValueError) as error:
        problem = str(error)
    raise ModelFileError(f"cannot load the network from {where}: {problem[:MAX_MESSAGE_CHARACTERS]}")


class Reader:
    """Evaluation of the nodes of a model, and creation of the network.

    Parameters
    ----------
    model : Model
    size : int
        Size of the file in bytes.
    """

    def __init__(self, model: Model, size: int) -> None:
        self.model, self.size, self.created_bytes = model, size, 0
        self.axes = self._input_axes()
        self.batch = model.dims[0] if model.dims else 0
        self.input = self._input()
        self.values: dict[str, Any] = {model.input: self.input}
        for node in model.nodes:
            self._evaluate(node)

    def charge(self, size: int) -> None:
        """Add to the number of bytes in arrays; raise ValueError if a small file creates large arrays."""
        self.created_bytes += size
        if self.created_bytes > 2 * (self.size + self.model.constants.external_bytes) + MAX_EXTRA_BYTES:
            raise ValueError("it creates arrays that are much larger than the file")

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
        """Return the symbolic tensor of the input."""
        dims, nodes = tuple(self.model.dims[1:]), self.model.nodes
        if dims == (0,):  # the number of inputs is variable: use the size of the first matrix
            for node in nodes:
                if node.operator in ("MatMul", "Gemm") and node.inputs[1:2] and node.inputs[1] in self.model.constants:
                    shape = self.model.constants[node.inputs[1]].shape
                    dims = shape[:1] if node.attributes.get("transB", (0, 0))[1] == 0 else shape[1:]
                    break
        if len(dims) not in (1, 3) or min(dims) < 1 or self.batch < 0:
            raise ValueError(
                f"its input must have rows of vectors or images of a fixed size, got the shape {self.model.dims}"
            )
        if self.model.dtype in ("str", "bool"):
            raise ValueError(f"its input must have numbers, got the type {self.model.dtype}")
        return Rows(dims, "c" if len(dims) == 1 else self.axes, self.model.dtype, None, None, "the input")

    def shape(self) -> tuple[int, ...]:
        """Return the shape of a row of inputs of nnc, channels last."""
        dims, axes = self.input.dims, self.input.axes
        return tuple(dims[axes.index(axis)] for axis in "hwc") if len(dims) == 3 else dims

    def _value(self, name: str) -> Any:
        """Return the value of a tensor; None for an absent input."""
        if not name:
            return None
        if name in self.model.constants:
            return self.model.constants[name]
        if name not in self.values:
            raise ValueError(f"{name!r} is an unsupported output of a node, or it is not defined")
        return self.values[name]

    def _evaluate(self, node: Node) -> None:
        """Compute the value of the first output of a node."""
        operator = OPERATORS.get((node.domain, node.operator))
        if operator is None:
            raise ValueError(f"{node.label} has an operator that is not supported")
        if not node.outputs or not node.outputs[0]:
            raise ValueError(f"{node.label} must have a first output")
        self.values[node.outputs[0]] = operator.call(node, self, [self._value(name) for name in node.inputs])

    def parts(self, loss: Any) -> Parts:
        """Return the parts of a network that computes the outputs of the model."""
        self.created_bytes = 0
        source, labels, classes = self._outputs()
        rows = source.rows if isinstance(source, Pair) else source
        output = _last_step(rows)
        if isinstance(source, Pair) and output.activation != "sigmoid":
            raise ValueError(f"{output.label} must be a sigmoid because its output is a probability")
        if labels is not None:
            default_loss = self._loss_of(labels, output)
            loss = loss or default_loss
        elif classes is not None and not isinstance(source, Pair) and output.activation != "softmax":
            raise ValueError(f"{output.label} must be a softmax because its outputs have names of classes")
        steps = []
        current: Rows | None = rows
        while current is not None:
            steps.append(current)
            current = current.previous
        assembly = Assembly(self.shape(), self.charge)
        for row in reversed(steps):
            if row.step == "unknown":
                raise ValueError(f"{row.label} is not a part of a supported activation")
            if row.step is not None:
                if not row.is_scaling:
                    assembly.add_pending_scaling()
                row.step(assembly)
        return assembly.parts(loss, classes)

    def _outputs(self) -> tuple[Rows | Pair, Labels | None, Array | None]:
        """Return the numbers that the model outputs, its labels, and names of classes that are not just indices."""
        values = [self._value(name) for name in self.model.outputs]
        labels = [value for value in values if isinstance(value, Labels)]
        mapped = [value for value in values if isinstance(value, Mapped)]
        others = [value for value in values if not isinstance(value, Labels)]
        sources = [value.source if isinstance(value, Mapped) else value for value in others]
        if not all(isinstance(source, (Rows, Pair)) for source in sources) or len(labels) > 1:
            raise ValueError("its outputs must be numbers, and at most one output of labels")
        if not sources:
            raise ValueError("it must have an output of numbers, got only labels")
        if len({_last_step(source.rows if isinstance(source, Pair) else source) for source in sources}) > 1:
            raise ValueError(f"it must have one output of numbers, got several: {self.model.outputs[:9]}")
        names = [label.classes for label in labels if label.classes is not None] + [m.classes for m in mapped]
        if any(not np.array_equal(other, names[0]) for other in names):
            raise ValueError("its outputs must have the same names of classes")
        classes = names[0] if names else None
        if classes is not None and classes.dtype.kind in "iu" and (classes == np.arange(len(classes))).all():
            classes = None
        return sources[0], labels[0] if labels else None, classes

    def _loss_of(self, labels: Labels, output: Rows) -> str:
        """Return the loss of a network whose classes are the labels of the model."""
        source = _last_step(labels.source.rows if isinstance(labels.source, Pair) else labels.source)
        if labels.dims is None:
            raise ValueError("its labels must be along the first axis")
        # Softmax keeps the order of its inputs, so the label may be computed before or after it.
        before_softmax = output.previous if output.activation == "softmax" else None
        if source is not output and not (before_softmax and source is _last_step(before_softmax)):
            raise ValueError(f"its labels must be computed from the output {output.label}")
        if isinstance(labels.source, Pair):
            return "bce"
        if labels.threshold is None:
            if labels.source.dims == (1,):
                raise ValueError("its label must be computed from several outputs or by a threshold")
            return "cross_entropy" if output.activation == "softmax" else "hinge"
        if output.activation == "sigmoid" and labels.threshold == 0.5 and source is output:
            return "bce"
        if labels.threshold != 0 or labels.source.dims != (1,) or source is not output:
            raise ValueError(f"its label has the threshold {labels.threshold:g}, which matches no loss")
        return "hinge"


def _last_step(rows: Rows) -> Rows:
    """Return the last tensor whose numbers were computed, before changes of the name, the type or the shape."""
    while rows.step is None and rows.previous is not None:
        rows = rows.previous
    return rows
