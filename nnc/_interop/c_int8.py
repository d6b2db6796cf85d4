"""Writer of C headers for networks that are quantized to 8-bit integers; inputs and outputs are floats.

nnc/_interop/int8.py describes the arithmetic of these headers, and computes the same outputs with NumPy.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnc._interop.c_functions import FUNCTIONS
from nnc._interop.c_source import Source, initializer
from nnc._interop.int8 import LookupTable, Pool, Quantization, QuantizedLayer, check_operations, quantize
from nnc._interop.program import build_program, split_remainders
from nnc.layers import operations as op

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc._interop.int8 import QuantizedNetwork
    from nnc._interop.program import Program

INT8_FUNCTIONS = {
    "quantize": """\
/* Quantize n inputs: out = round(in * factor) + zero, clipped to int8. The m factors are repeated for all inputs. */
static inline void ${name}_quantize(const float *in, const float *factor, int m, int zero, int8_t *out, int n)
{
    int i;
    for (i = 0; i < n; i++) {
        const float x = floorf(in[i] * factor[i % m] + 0.5f) + (float)zero;
        out[i] = (int8_t)(x > -128 ? (x < 127 ? x : 127) : -128);
    }
}
""",
    "requantize": """\
/* Quantize a sum for the range of the output: round(sum * multiplier / 2**shift) + zero, clipped to int8. */
static inline int8_t ${name}_requantize(int32_t sum, int32_t multiplier, int shift, int zero)
{
    const int64_t q = (((int64_t)sum * multiplier + ((int64_t)1 << (shift - 1))) >> shift) + zero;
    return (int8_t)(q < -128 ? -128 : q > 127 ? 127 : q);
}
""",
    "dense_int8": """\
/* Dense layer. Inputs have the zero point in_zero, outputs the zero point zero. */
static inline void ${name}_dense_int8(const int8_t *in, int n, int in_zero, const int8_t *W, const int32_t *b,
                                      const int32_t *multiplier, const int8_t *shift, int zero, int8_t *out, int m)
{
    int i, j;
    for (j = 0; j < m; j++, W += n) {
        int32_t sum = b[j];
        for (i = 0; i < n; i++)
            sum += W[i] * (in[i] - in_zero);
        out[j] = ${name}_requantize(sum, multiplier[j], shift[j], zero);
    }
}
""",
    "scale_int8": """\
/* Elementwise product and sum. The m weights and biases are repeated for all n inputs. */
static inline void ${name}_scale_int8(const int8_t *in, int in_zero, const int8_t *W, const int32_t *b,
                                      const int32_t *multiplier, const int8_t *shift, int zero, int m,
                                      int8_t *out, int n)
{
    int i;
    for (i = 0; i < n; i++)
        out[i] = ${name}_requantize(W[i % m] * (in[i] - in_zero) + b[i % m], multiplier[i % m], shift[i % m], zero);
}
""",
    "dense_last": """\
/* Last dense layer, which converts its sums to floats. */
static inline void ${name}_dense_last(const int8_t *in, int n, int in_zero, const int8_t *W, const int32_t *b,
                                      const float *scale, float *out, int m)
{
    int i, j;
    for (j = 0; j < m; j++, W += n) {
        int32_t sum = b[j];
        for (i = 0; i < n; i++)
            sum += W[i] * (in[i] - in_zero);
        out[j] = (float)sum * scale[j];
    }
}
""",
    "lookup": """\
/* Activation, read from a table of its values for the 256 possible inputs. */
static inline void ${name}_lookup(int8_t *a, const int8_t *values, int n)
{
    int i;
    for (i = 0; i < n; i++)
        a[i] = values[a[i] + 128];
}
""",
}


def _int8_variant(function: str, *replacements: tuple[str, str]) -> str:
    """Derive the template of a function for 8-bit integers from the template for floats in `FUNCTIONS`.

    Each replacement is a pair (old text, new text).
    """
    text = FUNCTIONS[function].replace(f"${{name}}_{function}", f"${{name}}_{function}_int8")
    text = text.replace("$real", "int8_t")
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return text


INT8_FUNCTIONS["conv_int8"] = _int8_variant(
    "conv",
    (
        "int channels, const int8_t *W, const int8_t *b,",
        "int channels, int in_zero, const int8_t *W, const int32_t *b,",
    ),
    ("int top, int left,", "int top, int left, const int32_t *multiplier, const int8_t *shift, int zero,"),
    ("int8_t sum = b ? b[j] : 0;", "int32_t sum = b[j];"),
    ("weights[i] * row[i]", "weights[i] * (row[i] - in_zero)"),
    ("*out++ = sum;", "*out++ = ${name}_requantize(sum, multiplier[j], shift[j], zero);"),
)
INT8_FUNCTIONS["max_pool_int8"] = _int8_variant("max_pool")
INT8_FUNCTIONS["avg_pool_int8"] = _int8_variant(
    "avg_pool",
    ("int8_t sum = 0;", "int32_t sum = 0; /* terms are shifted to 0..255, so that integer division rounds down */"),
    ("sum + number", "sum + number + 128"),
    ("*out++ = sum / (int8_t)(kh * kw);", "*out++ = (int8_t)((2 * sum + kh * kw) / (2 * kh * kw) - 128);"),
)
TYPE_BYTES = {"int8_t": 1, "int32_t": 4}  # bytes of one number of each integer type


class Int8Source(Source):
    """Builder of a C header for a quantized network.

    The buffers a and b of the header are for floats, as in `Source`. Its buffers p and q are for 8-bit integers.
    """

    includes: ClassVar[tuple[str, ...]] = ("math.h", "stdint.h")
    templates: ClassVar[dict[str, str]] = {**FUNCTIONS, **INT8_FUNCTIONS}

    def __init__(self, name: str) -> None:
        super().__init__(name, "float32")
        self.int8_buffers = {"p": 0, "q": 0}  # required number of elements of each C array
        self.current_int8 = ""  # C array that the next operation reads; "" before the inputs are quantized

    def integers(self, kind: str, values: Any, c_type: str = "int8_t") -> str:
        """Add a constant C array of integers, and return its name."""
        numbers = [str(int(value)) for value in np.ravel(values)]
        name = f"{self.name}_{kind}{len(self.arrays)}"
        self.arrays.append(f"static const {c_type} {name}[{len(numbers)}] = {initializer(numbers)};\n")
        self.constant_bytes += len(numbers) * TYPE_BYTES[c_type]
        return name

    def call_int8(self, function: str, before: Sequence[Any], size: int, after: Sequence[Any]) -> None:
        """Add the call of a C function that reads the current array and writes 8-bit integers to the other buffer.

        The arguments of the call are the current array, the items of `before`, the buffer for the `size` results, and
        the items of `after`.
        """
        result = "q" if self.current_int8 == "p" else "p"
        self.int8_buffers[result] = max(self.int8_buffers[result], size)
        arguments = ", ".join(map(str, [self.current_int8 or self.current, *before, result, *after]))
        self.calls.append(f"{self.function(function)}({arguments});")
        self.current_int8 = result

    def network(self, quantized: QuantizedNetwork, n_in: int) -> None:
        """Add the C function calls that compute a quantized network."""
        for part in split_remainders(quantized.minus.tolist(), "float32"):
            if any(part):
                self.call("subtract", [self.array("subtract", part), len(part)], n_in, [n_in], in_place=True)
        factor = self.array("factor", (quantized.times / quantized.input_range.scale).tolist())
        self.call_int8("quantize", [factor, len(quantized.times), quantized.input_range.zero], n_in, [n_in])
        for layer in quantized.layers:
            if isinstance(layer, QuantizedLayer):
                self.layer(layer)
            elif isinstance(layer, LookupTable):
                values = self.integers(layer.operation.name, layer.values)
                n = prod(layer.operation.output_shape)
                self.calls.append(f"{self.function('lookup')}({self.current_int8}, {values}, {n});")
            elif isinstance(layer, Pool):
                operation = layer.operation
                function = "max_pool_int8" if isinstance(operation, op.MaxPool) else "avg_pool_int8"
                before = [*operation.input_shape[1:], *operation.window, *operation.stride]
                self.call_int8(function, before, prod(operation.output_shape), operation.output_shape[:2])
        last, n = quantized.last, len(quantized.last.w)
        W, b = self.integers("W", last.w.T), self.integers("b", last.b, "int32_t")
        scales, m = self.array("scale", last.scales.tolist()), last.w.shape[1]
        result = "b" if self.current == "a" else "a"
        self.buffers[result] = max(self.buffers[result], m)
        arguments = f"{self.current_int8}, {n}, {last.input_range.zero}, {W}, {b}, {scales}, {result}, {m}"
        self.calls.append(f"{self.function('dense_last')}({arguments});")
        self.current = result
        for operation in quantized.float_operations:
            self.write(operation)

    def layer(self, layer: QuantizedLayer) -> None:
        """Add the C function call for a dense or convolutional layer, or for an elementwise scaling."""
        assert layer.output_range is not None
        self.function("requantize")
        W, b = self.integers("W", layer.w.T), self.integers("b", layer.b, "int32_t")
        multiplier = self.integers("multiplier", layer.multiplier, "int32_t")
        to_output = [multiplier, self.integers("shift", layer.shift), layer.output_range.zero]
        operation, zero, m = layer.operation, layer.input_range.zero, layer.w.shape[1]
        if isinstance(operation, op.MatMul):
            self.call_int8("dense_int8", [len(layer.w), zero, W, b, *to_output], m, [m])
        elif isinstance(operation, op.Scale):
            self.call_int8(
                "scale_int8", [zero, W, b, *to_output, m], prod(operation.output_shape), [prod(operation.output_shape)]
            )
        else:
            top, left, _, _ = operation.pad
            before = [*operation.input_shape, zero, W, b, *operation.window, *operation.stride, top, left, *to_output]
            self.call_int8("conv_int8", before, prod(operation.output_shape), operation.output_shape)

    def buffer_definitions(self) -> list[str]:
        """Return the C definitions of all buffers."""
        definitions = [f"static int8_t {name}[{n}];" for name, n in self.int8_buffers.items() if n]
        return [*super().buffer_definitions(), *definitions]

    @property
    def buffer_bytes(self) -> int:
        """Total size of the static buffers of the header in bytes."""
        return super().buffer_bytes + sum(self.int8_buffers.values())


def to_c_int8(net: Any, name: str, calibrate: Any, validation: Any) -> tuple[str, Quantization]:
    """Return the text of a C header for a quantized network, and a comparison of its outputs with those of the network.

    Parameters
    ----------
    net : NeuralNetwork
        Network to quantize.
    name : str
        Prefix of all names in the header.
    calibrate : array
        Rows of inputs, from which the ranges of all quantized values are determined.
    validation : (X, y), optional
        Rows of inputs for the comparison, and their targets. Default: the rows of `calibrate`, without targets.

    Raises
    ------
    ValueError
        `calibrate` is None, or a layer is not supported.
    """
    if calibrate is None:
        raise ValueError(
            "calibrate must be an array of input rows if dtype='int8', got None; pass rows that represent the data, "
            "from which the ranges of all values are determined"
        )
    program, converter = build_program(net._export_document()), net.converter
    check_operations(program)
    quantized = quantize(program, converter.rows(converter.array(calibrate)).astype(np.float64))
    X, y = (calibrate, None) if validation is None else validation
    rows = converter.rows(converter.array(X)).astype(np.float64)
    P, Q = net.predict(X), quantized.predict(rows)
    comparison = _compare(net, P, Q, X, y)
    return _header(program, name, quantized, f"\n   {comparison.text}."), comparison


def _compare(net: Any, P: NDArray[Any], Q: NDArray[Any], X: Any, y: Any) -> Quantization:
    """Compare outputs Q of the quantized network with outputs P of the network: error, class agreement and scores."""
    converter, error, agreement = net.converter, float(abs(P - Q).max()), None
    if converter.loss.is_classification:
        agreement = float((converter.class_index(P) == converter.class_index(Q)).mean())
    if y is None or net.heads is not None:  # a network with heads has no single score
        return Quantization(error, agreement)
    data, metric = converter.data(X, y), net._metric(None)
    score, score_int8 = (converter.measure_unscaled(metric, data, outputs) for outputs in (P, Q))
    return Quantization(error, agreement, score, score_int8)


def _header(program: Program, name: str, quantized: QuantizedNetwork, remark: str) -> str:
    """Return the text of the C header; `remark` is added at the end of the comment at the top of the header."""
    source = Int8Source(name)
    source.network(quantized, program.n_in)
    if program.self_test is not None:
        # The inputs of the self-test are dequantized integers, so rounding errors cannot change their quantized values.
        inputs = quantized.input_range
        q = inputs.quantize((np.array(program.self_test["X"]) - quantized.minus) * quantized.times)
        X = inputs.dequantize(q) / quantized.times + quantized.minus
        program = program.replace(self_test={"X": X.tolist()})
    return source.header(program, quantized.predict, remark)
