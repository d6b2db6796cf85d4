"""Comparison of an imported network with its ONNX model, which the reference evaluator of the package onnx runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._interop.read_onnx_values import Labels, Mapped, Pair, Rows
from nnc._interop.verification import N_ROWS, TOLERANCES

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

MAX_ROWS = 1000  # largest fixed batch size of a model that can be compared with its network


def require_onnx() -> None:
    """Raise ImportError if the package onnx is not installed."""
    try:
        import onnx.reference  # noqa: F401
    except ImportError as error:
        from nnc._utils.packages import missing_package

        raise missing_package("verify=True", "the package onnx", error, "onnx") from error


def check(path: Any, reader: Any, network: Any) -> None:
    """Compare the outputs of a network with the outputs of its ONNX model on random rows.

    Raises
    ------
    ValueError
        Outputs differ by more than the tolerance, or the evaluator cannot run the model.
    """
    rows, X = _random_rows(reader, network)
    P = network.predict(X).reshape(len(X), -1)
    dtypes = {value.dtype for value in reader.values.values() if isinstance(value, Rows)}
    tolerance = TOLERANCES["float32" if "float32" in dtypes else "float64"]
    tolerance *= max(1.0, float(np.abs(P).max()), _offset(network))
    for name, output in zip(reader.model.outputs, _reference_outputs(path, reader.model.input, rows), strict=True):
        value = reader.values[name]
        value = value.source if isinstance(value, Mapped) else value
        if isinstance(value, Labels):
            _check_labels(name, np.asarray(output), network, X, P, tolerance)
            continue
        expected = np.hstack([1 - P, P]) if isinstance(value, Pair) else P
        numbers = np.asarray(output, np.float64).reshape(expected.shape)
        if not np.isfinite([numbers, expected]).all():
            raise ValueError(
                f"the output {name!r} must be finite for a comparison, got NaN or infinity for random rows; "
                "pass verify=False to skip the comparison"
            )
        error = np.abs(numbers - expected).max()
        if not error <= tolerance:
            raise ValueError(
                f"the output {name!r} of onnx's reference evaluator differs from the network by {error:.3g}, "
                f"expected at most {tolerance:.3g}; please report this with the file"
            )


def _random_rows(reader: Any, network: Any) -> tuple[Array, Array]:
    """Return random rows in the form of the ONNX model's input, and the same rows in the form that the network expects.

    Images and sequences of the network have channels or features last.
    """
    n = reader.batch or N_ROWS
    if n > MAX_ROWS:
        raise ValueError(
            f"the fixed batch size of the model must be at most {MAX_ROWS} for a comparison, got {n}; "
            "pass verify=False to skip the comparison"
        )
    rows = np.random.default_rng(0).standard_normal((n, *reader.input.dims))
    scale = network.converter.scaling_X
    if scale is not None:  # reverse the scaling, so that the scaled inputs have a standard normal distribution
        shape = reader.shape()
        shift, factor = (np.broadcast_to(part, math.prod(shape)).reshape(shape) for part in (scale.shift, scale.factor))
        order = np.argsort(reader.input.order)
        shift, factor = shift.transpose(order), factor.transpose(order)
        rows = shift + rows / factor
    dtype = reader.input.dtype
    rows = rows.astype(dtype) if dtype.startswith("float") else np.abs(rows).round().clip(0, 127).astype(dtype)
    if not np.isfinite(rows.astype(network.dtype)).all():
        raise ValueError(
            f"cannot verify the ONNX file: inputs in the range of its scaling overflow {network.dtype}; pass "
            "verify=False to skip the comparison"
        )
    return rows, np.array([reader.input.ordered(row) for row in rows])


def _offset(network: Any) -> float:
    """Return the largest product of an input's shift and factor; rounding errors are proportional to this product."""
    scale = network.converter.scaling_X
    return 1.0 if scale is None else float(np.abs(np.multiply(scale.shift, scale.factor)).max())


def exact_operators(opset: int) -> list[Any]:
    """Return replacements for operators of onnx's reference evaluator that deviate from the specification.

    Erf and Gelu of the evaluator round to float32, its RNN supports only the activation Tanh, and its GlobalMaxPool
    computes the maximum of wrong axes of sequences. Before version 14 of the operator set, BatchNormalization of the
    evaluator updates mean and variance from the batch, although the specification requires this only with additional
    outputs.
    """
    from onnx.reference.op_run import OpRun
    from onnx.reference.ops.op_rnn import CommonRNN

    class Erf(OpRun):
        """Operator Erf for onnx's reference evaluator, computed in the dtype of the input."""

        op_domain = ""

        def _run(self, x: Array) -> tuple[Array]:
            return (_erf(x),)

    class Gelu(OpRun):
        """Operator Gelu for onnx's reference evaluator, computed in the dtype of the input."""

        op_domain = ""

        def _run(self, x: Array, approximate: str = "none") -> tuple[Array]:
            if approximate != "none":
                raise ValueError(f"Gelu must have approximate='none', got {approximate!r}")
            return ((0.5 * x * (1 + _erf(x * math.sqrt(0.5)))).astype(x.dtype),)

    class BatchNormalization(OpRun):
        """Operator BatchNormalization for onnx's reference evaluator, with mean and variance from the inputs."""

        op_domain = ""

        def _run(
            self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, epsilon: Any = None,
            momentum: Any = None, spatial: Any = None,
        ) -> tuple[Array]:  # fmt: skip
            shape = (1, -1, *[1] * (x.ndim - 2))
            scale, bias, mean, var = (part.reshape(shape) for part in (scale, bias, mean, var))
            return (((x - mean) / np.sqrt(var + x.dtype.type(epsilon)) * scale + bias).astype(x.dtype),)

    class GlobalMaxPool(OpRun):
        """Operator GlobalMaxPool for onnx's reference evaluator, the maximum of each channel."""

        op_domain = ""

        def _run(self, x: Array) -> tuple[Array]:
            return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)

    class RNN(CommonRNN):
        """Operator RNN for onnx's reference evaluator, with the activations that the reader of ONNX models supports."""

        op_domain = ""

        def choose_act(self, name: str, alpha: Any, beta: Any) -> Any:
            """Return the activation function with this ONNX name."""
            return {"Tanh": np.tanh, "Relu": lambda x: np.maximum(x, 0), "Sigmoid": lambda x: 1 / (1 + np.exp(-x))}[
                name
            ]

    return [Erf, Gelu, GlobalMaxPool, RNN, *([BatchNormalization] if opset < 14 else [])]


def _erf(x: Array) -> Array:
    """Return the error function erf of each number in x, in the dtype of x."""
    return np.array([math.erf(value) for value in x.ravel()], x.dtype).reshape(x.shape)


def _reference_outputs(path: Any, name: str, rows: Array) -> list[Any]:
    """Run the ONNX model in a file with onnx's reference evaluator, and return the outputs for the given rows."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    try:
        model = onnx.load(path)
        mapped = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "ZipMap"}
        names = dict.fromkeys(output.name for output in model.graph.output)
        # Omit ZipMap nodes, which the evaluator does not support.
        nodes = [node for node in model.graph.node if node.op_type != "ZipMap"]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        opset = max(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
        evaluator = ReferenceEvaluator(model, new_ops=exact_operators(opset))
        return [*evaluator.run([mapped.get(output, output) for output in names], {name: rows})]
    except Exception as error:
        raise ValueError(f"onnx's reference evaluator cannot run the model: {error}") from error


def _check_labels(name: str, evaluated: Array, network: Any, X: Array, P: Array, tolerance: float) -> None:
    """Raise ValueError if ONNX model and network predict different labels, except near the boundary of two classes."""
    labels = np.asarray(network.predict_classes(X))
    is_clear: Array = np.full(labels.shape, True)
    if P.size > labels.size:  # the class is the index of the largest output
        ascending = np.sort(P.reshape(*labels.shape, -1), axis=-1)
        is_clear = ascending[..., -1] - ascending[..., -2] > tolerance
    elif network.converter.loss.is_classification:
        is_clear = np.abs(P.reshape(labels.shape) - network.converter.loss.threshold) > tolerance
    if not np.array_equal(evaluated.reshape(labels.shape)[is_clear], labels[is_clear]):
        raise ValueError(
            f"the labels {name!r} of onnx's reference evaluator differ from those of the network; "
            "please report this with the file"
        )
