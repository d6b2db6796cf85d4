"""Reader of ONNX models that nnc, skl2onnx, PyTorch or Keras wrote.

The nodes are evaluated in the order of the file. Tensors that depend on the input stay symbolic: each refers to the
tensor and the step from which it is computed (see read_onnx_values.py). Then the steps from the input to the output are
applied to an Assembly, which builds the network.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nnc._interop import (  # noqa: F401 (imported because they register operators)
    read_onnx_layers,
    read_onnx_recurrent,
    read_onnx_shapes,
)
from nnc._interop.onnx import SWAP_STEPS, TO_CHANNELS_FIRST
from nnc._interop.read_onnx_assembly import Assembly
from nnc._interop.read_onnx_file import load
from nnc._interop.read_onnx_values import OPERATORS, Labels, Mapped, Pair, Rows, Sizes
from nnc._registry import losses
from nnc._serialization import ModelFileError
from nnc._serialization.text import out_of_memory_error
from nnc._utils import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nnc._interop.parts import Parts
    from nnc._interop.read_onnx_file import Model, Node

    Array = np.ndarray[Any, Any]

Network = TypeVar("Network")  # NeuralNetwork; nnc/_interop must not import the package nnc/_network
MAX_EXTRA_BYTES = 2**22  # bytes of arrays that a model may create, in addition to twice the size of its files
# Operators by which the order of the axes of input sequences is recognized.
CHANNELS_FIRST = ("Conv", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "BatchNormalization")
FEATURES_LAST = ("MatMul", "RNN", "GRU", "LSTM")
MAX_MESSAGE_CHARACTERS = 500  # maximum length of a problem description in an error message


def read(build: Callable[[Parts], Network], path: Any, loss: Any, verify: bool) -> Network:
    """Read an ONNX model from a file, and create a network from it.

    Parameters
    ----------
    build : callable
        Function that creates a network from `Parts`.
    path, loss, verify
        As in `nnc.from_onnx`.

    Raises
    ------
    OSError
        The file cannot be read. The error is a ModelFileError if the file is not an ONNX model, or if the model has a
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
    """Convert errors about an ONNX file in the `with` block to ModelFileError, and MemoryError to OSError."""
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
    """Reader that evaluates the nodes of an ONNX model and builds the parts of a network.

    Parameters
    ----------
    model : Model
        Parsed model.
    size : int
        Size of the model file in bytes.
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
        """Add `size` to the total bytes of arrays; raise ValueError if the total is much larger than the model file."""
        self.created_bytes += size
        if self.created_bytes > 2 * (self.size + self.model.constants.external_bytes) + MAX_EXTRA_BYTES:
            raise ValueError(
                f"the model creates arrays of {self.created_bytes} bytes, too many for a file of {self.size} bytes"
            )

    def _input_axes(self) -> str:
        """Return the order of the axes of input images, "hwc" or "chw", or of input sequences, "tc" or "ct".

        Channels are last in models that nnc wrote, and in models that transpose images before the first layer.
        Features are last unless the first layer is a convolution, pool or batch normalization without a transposition
        before it, or another layer after a transposition.
        """
        is_sequence = len(self.model.dims) == 3
        if self.model.producer == "nnc":
            return "tc" if is_sequence else "hwc"
        derived, transposed = {self.model.input}, False
        for node in self.model.nodes:
            if derived.isdisjoint(node.inputs) or node.operator == "Shape":
                continue
            if node.operator == "Transpose":
                perm = node.attributes.get("perm", (0, None))[1]
                if not is_sequence:
                    return "hwc" if perm == TO_CHANNELS_FIRST else "chw"
                transposed ^= perm == SWAP_STEPS
            elif is_sequence and node.operator in (*CHANNELS_FIRST, *FEATURES_LAST):
                return "ct" if (node.operator in CHANNELS_FIRST) != transposed else "tc"
            elif node.operator not in ("Identity", "Cast", "Reshape", "Pad", "Add", "Sub", "Mul", "Div"):
                break
            derived.update(node.outputs)
        return "tc" if is_sequence else "chw"

    def _input(self) -> Rows:
        """Return the symbolic tensor of the model's input; raise ValueError if the input is not supported."""
        dims, nodes = tuple(self.model.dims[1:]), self.model.nodes
        if dims == (0,):  # infer a variable number of inputs from the first weight matrix
            for node in nodes:
                if node.operator in ("MatMul", "Gemm") and node.inputs[1:2] and node.inputs[1] in self.model.constants:
                    shape = self.model.constants[node.inputs[1]].shape
                    dims = shape[:1] if node.attributes.get("transB", (0, 0))[1] == 0 else shape[1:]
                    break
        if not 1 <= len(dims) <= 3 or min(dims) < 1 or self.batch < 0:
            raise ValueError(
                "the input of the model must be vectors, sequences or images of a fixed size, got the shape "
                f"{self.model.dims}"
            )
        if self.model.dtype in ("str", "bool"):
            raise ValueError(f"the input of the model must have numbers, got the element type {self.model.dtype}")
        return Rows(dims, "c" if len(dims) == 1 else self.axes, self.model.dtype, None, None, "the input")

    def shape(self) -> tuple[int, ...]:
        """Return the shape of one row of inputs, with channels last as in nnc."""
        return tuple(self.input.dims[i] for i in self.input.order)

    def _value(self, name: str) -> Any:
        """Return the value of the tensor called `name`; return None for "", which stands for a missing input."""
        if not name:
            return None
        if name in self.model.constants:
            return self.model.constants[name]
        if name not in self.values:
            raise ValueError(f"the tensor {name!r} is not defined, or it is an output of a node that is not supported")
        return self.values[name]

    def _evaluate(self, node: Node) -> None:
        """Compute and store the value of the first output of a node, or of several outputs of a recurrent node."""
        operator = OPERATORS.get((node.domain, node.operator))
        if operator is None:
            raise ValueError(f"{node.label} has an operator that is not supported")
        value = operator.call(node, self, [self._value(name) for name in node.inputs])
        if isinstance(value, Sizes) and None not in value.values:
            value = np.array(value.values[0] if value.scalar else value.values, np.int64)
        values = value if isinstance(value, list) else [value]
        named = {name: part for name, part in zip(node.outputs, values, strict=False) if name}
        if not named:
            raise ValueError(f"{node.label} must have a named first output, got outputs {node.outputs[:9]}")
        self.values |= named

    def parts(self, loss: Any) -> Parts:
        """Return the Parts of a network that computes the outputs of the model."""
        self.created_bytes = 0
        source, labels, classes = self._outputs()
        rows = source.rows if isinstance(source, Pair) else source
        output = _last_step(rows)
        if isinstance(source, Pair) and output.activation != "sigmoid":
            raise ValueError(f"{output.label} must be a sigmoid because the model returns p and 1 - p as probabilities")
        if labels is not None:
            default_loss = self._loss_of(labels, output)
            loss = loss or default_loss
        elif classes is not None and not isinstance(source, Pair) and output.activation != "softmax":
            raise ValueError(f"{output.label} must be a softmax because the outputs of the model have class names")
        steps = []
        current: Rows | None = rows
        while current is not None:
            steps.append(current)
            current = current.previous
        assembly = Assembly(self.shape(), self.charge)
        for row in reversed(steps):
            if row.step == "unknown":
                raise ValueError(
                    f"{row.label} must be a part of the formula of a supported activation, got another formula"
                )
            if row.step is not None:
                if not row.is_scaling:
                    assembly.add_pending_scaling()
                row.step(assembly)
        return assembly.parts(loss, classes)

    def _outputs(self) -> tuple[Rows | Pair, Labels | None, Array | None]:
        """Return the numeric output of the model, its labels, and the names of its classes.

        Labels are None if the model does not output labels. Names are None if they are only the indices 0, 1 and so on.
        """
        values = [self._value(name) for name in self.model.outputs]
        labels = [value for value in values if isinstance(value, Labels)]
        mapped = [value for value in values if isinstance(value, Mapped)]
        others = [value for value in values if not isinstance(value, Labels)]
        sources = [value.source if isinstance(value, Mapped) else value for value in others]
        if not all(isinstance(source, (Rows, Pair)) for source in sources) or len(labels) > 1:
            raise ValueError(
                "each output of the model must be predicted numbers or labels, and only one of them may be labels, got "
                f"{self.model.outputs[:9]}"
            )
        if any(isinstance(source, Rows) and source.axes == "ct" for source in sources):
            raise ValueError(
                "the outputs of the model at each step must have the axes (rows, steps, outputs), got (rows, outputs, "
                "steps); transpose the output"
            )
        if not sources:
            raise ValueError("the model must output numbers, such as probabilities, got only labels")
        if len({_last_step(source.rows if isinstance(source, Pair) else source) for source in sources}) > 1:
            raise ValueError(
                "all outputs of the model except labels must be computed by the same node, got different nodes for "
                f"{self.model.outputs[:9]}"
            )
        names = [label.classes for label in labels if label.classes is not None] + [m.classes for m in mapped]
        if any(not np.array_equal(other, names[0]) for other in names):
            raise ValueError("all outputs of the model must have the same class names, got different names")
        classes = names[0] if names else None
        if classes is not None and classes.dtype.kind in "iu" and (classes == np.arange(len(classes))).all():
            classes = None
        return sources[0], labels[0] if labels else None, classes

    def _loss_of(self, labels: Labels, output: Rows) -> str:
        """Return the loss for which a network with this output predicts the labels of the model."""
        source = _last_step(labels.source.rows if isinstance(labels.source, Pair) else labels.source)
        if labels.dims is None:
            raise ValueError("the first axis of the labels must index the rows, but the last axis indexes them")
        # Accept labels that are computed before or after a softmax, because softmax preserves the order of its inputs.
        before_softmax = output.previous if output.activation == "softmax" else None
        if source is not output and not (before_softmax and source is _last_step(before_softmax)):
            raise ValueError(f"the labels must be computed from the output of {output.label}, got {source.label}")
        if isinstance(labels.source, Pair):
            return "bce"
        if labels.threshold is None:
            if labels.source.dims == (1,):
                raise ValueError("the labels of a model with one output must be computed by a threshold, got an ArgMax")
            return "cross_entropy" if output.activation == "softmax" else "hinge"
        if output.activation == "sigmoid" and labels.threshold == 0.5 and source is output:
            return "bce"
        if labels.threshold != 0 or labels.source.dims != (1,) or source is not output:
            raise ValueError(
                "the threshold of labels must be 0.5 for sigmoid outputs, or 0 for a single output without sigmoid, "
                f"got {labels.threshold:g}"
            )
        return "hinge"


def _last_step(rows: Rows) -> Rows:
    """Return the tensor whose step computed the numbers of `rows`; later steps changed only name, type or shape."""
    while rows.step is None and rows.previous is not None:
        rows = rows.previous
    return rows
