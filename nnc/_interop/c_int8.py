"""Writer of C headers for networks that are quantized to 8-bit integers; inputs and outputs are floats.

nnc/_interop/int8.py describes the arithmetic of these headers, and computes the same outputs with NumPy.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnc._interop.c_functions import FUNCTIONS
from nnc._interop.c_source import Source, initializer
from nnc._interop.int8 import (
    PHASE,
    LookupTable,
    Pool,
    Quantization,
    QuantizedLayer,
    integer_inputs,
    quantize,
)
from nnc._interop.program import build_program, split_remainders
from nnc.layers import operations as op

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc._interop.int8 import IntegerInputs, QuantizedNetwork
    from nnc._interop.program import Program

INT8_FUNCTIONS = {
    "clip": """\
/* Return a number clipped to the range of 8-bit integers. */
static inline int8_t ${name}_clip(int64_t q)
{
    return (int8_t)((q < -128) ? -128 : ((q > 127) ? 127 : q));
}
""",
    "round": """\
/* Return x rounded to an integer, plus zero, clipped to int8. */
static inline int8_t ${name}_round(float x, int32_t zero)
{
    const float y = ((x > -512.0f) ? ((x < 512.0f) ? x : 512.0f) : -512.0f) + 0.5f;
    const int32_t q = (int32_t)y;
    return ${name}_clip((int64_t)q - (((float)q > y) ? 1 : 0) + zero);
}
""",
    "requantize": """\
/* Quantize a sum for the range of the output: round(sum * multiplier / 2**shift) + zero, clipped to int8. */
static inline int8_t ${name}_requantize(int32_t sum, int32_t multiplier, int32_t shift, int32_t zero)
{
    return ${name}_clip(((((int64_t)sum * multiplier) + ((int64_t)1 << (shift - 1))) >> shift) + zero);
}
""",
    "phase": """\
/* Quantize a sum for angles modulo 2 pi: round(sum * multiplier / 2**shift) modulo 256, from -128 to 127. */
static inline int8_t ${name}_phase(int32_t sum, int32_t multiplier, int32_t shift, int32_t zero)
{
    const int64_t q = ((((int64_t)sum * multiplier) + ((int64_t)1 << (shift - 1))) >> shift) + zero;
    return (int8_t)(((q + 128) & 255) - 128);
}
""",
    "dot_int8": """\
/* Return sum + W[0] * (in[0] - in_zero) + ... + W[n - 1] * (in[n - 1] - in_zero). */
static inline int32_t ${name}_dot_int8(const int8_t *in, int n, int32_t in_zero, const int8_t *W, int32_t sum)
{
    int32_t total = sum;
    for (int i = 0; i < n; i++)
        total += (int32_t)W[i] * (in[i] - in_zero);
    return total;
}
""",
    "dense_int8": """\
/* Dense layer. Inputs have the zero point in_zero, outputs the zero point zero. */
static inline void ${name}_dense_int8(const int8_t *in, int n, int32_t in_zero, const int8_t *W, const int32_t *b,
                                      const int32_t *multiplier, const int8_t *shift, int32_t zero,
                                      int8_t *out, int m)
{
    for (int j = 0; j < m; j++) {
        const int32_t sum = ${name}_dot_int8(in, n, in_zero, &W[j * n], b[j]);
        out[j] = ${name}_requantize(sum, multiplier[j], shift[j], zero);
    }
}
""",
    "scale_int8": """\
/* Elementwise product and sum. The m weights and biases are repeated for all n inputs. */
static inline void ${name}_scale_int8(const int8_t *in, int32_t in_zero, const int8_t *W, const int32_t *b,
                                      const int32_t *multiplier, const int8_t *shift, int32_t zero, int m,
                                      int8_t *out, int n)
{
    for (int i = 0; i < n; i += m)
        for (int j = 0; j < m; j++) {
            const int32_t sum = (W[j] * (in[i + j] - in_zero)) + b[j];
            out[i + j] = ${name}_requantize(sum, multiplier[j], shift[j], zero);
        }
}
""",
    "dense_sums": """\
/* Sums of the last dense layer. */
static inline void ${name}_dense_sums(const int8_t *in, int n, int32_t in_zero, const int8_t *W, const int32_t *b,
                                      int32_t *out, int m)
{
    for (int j = 0; j < m; j++)
        out[j] = ${name}_dot_int8(in, n, in_zero, &W[j * n], b[j]);
}
""",
    "lookup": """\
/* Activation, read from a table of its values for the 256 possible inputs. */
static inline void ${name}_lookup(int8_t *a, const int8_t *values, int n)
{
    for (int i = 0; i < n; i++)
        a[i] = values[a[i] + 128];
}
""",
}
REQUIRED_FUNCTIONS = {  # for each C function, the names of the functions that it calls
    "round": ("clip",),
    "requantize": ("clip",),
    "dense_int8": ("dot_int8", "requantize"),
    "scale_int8": ("requantize",),
    "conv_int8": ("requantize",),
    "dense_sums": ("dot_int8",),
}
# Templates of C functions that are generated for each network: they contain its constants and function calls.
QUANTIZE = """\
/* Quantize one row of inputs. */
static inline void ${name}_quantize(const float *in)
{
    $body
    for (int i = 0; i < ${NAME}_N_IN; i++)
        ${name}_p[i] = ${name}_round($scaled, $zero);
}
"""
QUANTIZE_INTEGERS = """\
/* Quantize one row of integers without floating-point arithmetic. */
static inline void ${name}_quantize_int(const ${name}_integer *in)
{
    $body
    for (int i = 0; i < ${NAME}_N_IN; i++)
        ${name}_p[i] = ${name}_clip((((int64_t)in[i] * $multiplier) + $offset) >> $shift);
}
"""
LAYERS = """\
/* Compute the integer sums of the last layer from the quantized inputs. */
static inline void ${name}_layers(void)
{
    $body
}
"""
DEQUANTIZE = """\
for (int i = 0; i < ${NAME}_N_OUT; i++)
        out[i] = (float)${name}_sums[i] * $scale;"""
OUTPUTS_FUNCTION = """\
/* Compute the outputs from the quantized inputs. */
static inline void ${name}_outputs(float *out)
{
    $body
}
"""
PREDICT = """\
/* Compute the ${NAME}_N_OUT outputs for one row of ${NAME}_N_IN $noun. */
static inline void ${name}_predict$suffix(const $type *in, float *out)
{
    ${name}_quantize$suffix(in);
    ${name}_outputs(out);
}
"""
LARGEST_SUM = """\
/* Return the index of the class with the largest scaled sum, from the quantized inputs. */
static inline int ${name}_best(void)
{
    $body
    int best = 0;
    ${name}_layers();
    for (int i = 1; i < $n_classes; i++)
        if (((int64_t)${name}_sums[i] * $weights[i]) > ((int64_t)${name}_sums[best] * $weights[best]))
            best = i;
    return best;
}
"""
SUM_ABOVE_THRESHOLD = """\
/* Return 1 if the output is at least the threshold, from the quantized inputs. */
static inline int ${name}_best(void)
{
    ${name}_layers();
    return (${name}_sums[0] >= $threshold) ? 1 : 0;
}
"""
CLASSIFY = """\
/* Return the index of the predicted class for one row of ${NAME}_N_IN $noun, without the output activation. */
static inline int ${name}_classify$suffix(const $type *in)
{
    ${name}_quantize$suffix(in);
    return ${name}_best();
}
"""
CLASSIFY_REMARK = """

   ${name}_classify(in) returns the index of the predicted class. It computes no outputs, and calls no function
   of math.h."""
INTEGERS_REMARK = """

   All calibration rows are whole numbers. For inputs of the integer type ${name}_integer, ${name}_predict_int(in, out)
   $functions quantize$verb the inputs with integer arithmetic."""


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
        "int channels, int32_t in_zero, const int8_t *W, const int32_t *b,",
    ),
    ("int top, int left,", "int top, int left, const int32_t *multiplier, const int8_t *shift, int32_t zero,"),
    ("int8_t sum = b ? b[j] : 0.0$f;", "int32_t sum = b[j];"),
    ("weights[i] * row[i]", "(int32_t)weights[i] * (row[i] - in_zero)"),
    ("*out = sum;", "*out = ${name}_requantize(sum, multiplier[j], shift[j], zero);"),
)
INT8_FUNCTIONS["max_pool_int8"] = _int8_variant("max_pool")
INT8_FUNCTIONS["avg_pool_int8"] = _int8_variant(
    "avg_pool",
    ("int8_t sum = 0.0$f;", "int32_t sum = 0; /* terms are shifted to 0..255, so that integer division rounds down */"),
    ("sum + number", "sum + number + 128"),
    ("*out = sum / (int8_t)(kh * kw);", "*out = (int8_t)((((2 * sum) + (kh * kw)) / (2 * kh * kw)) - 128);"),
)
for _layer in ("dense", "scale", "conv"):
    _text = INT8_FUNCTIONS[f"{_layer}_int8"].replace(f"_{_layer}_int8(", f"_{_layer}_phase(")
    INT8_FUNCTIONS[f"{_layer}_phase"] = _text.replace("_requantize(", "_phase(")
    REQUIRED_FUNCTIONS[f"{_layer}_phase"] = tuple(
        "phase" if function == "requantize" else function for function in REQUIRED_FUNCTIONS[f"{_layer}_int8"]
    )
TYPE_BYTES = {"int8_t": 1, "int32_t": 4, "int64_t": 8}  # bytes of one number of each integer type


class Int8Source(Source):
    """Builder of a C header for a quantized network.

    The constant arrays are defined inside the functions that use them. The buffers `<name>_p` and `q` hold 8-bit
    integers, and `<name>_sums` the integer sums of the last layer; `<name>` is the name of the exported network.
    """

    includes: ClassVar[tuple[str, ...]] = ("math.h", "stdint.h")
    templates: ClassVar[dict[str, str]] = {**FUNCTIONS, **INT8_FUNCTIONS}

    def __init__(self, name: str, n_out: int) -> None:
        super().__init__(name, "float32")
        self.n_out = n_out
        self.buffers["out"] = 0  # operations after the last layer change the array of the caller in place
        self.current_int8 = f"{name}_p"  # C array that the next operation reads
        self.int8_buffers = {f"{name}_p": 0, "q": 0}  # required number of elements of each C array
        self.network_functions: list[str] = []
        # Suffix of each C function, C type of its inputs, and noun for the inputs.
        self.entries: list[tuple[str, str, str]] = [("", "float", "inputs")]

    def function(self, key: str) -> str:
        """Add a C function and the functions that it calls, and return its name."""
        for required in REQUIRED_FUNCTIONS.get(key, ()):
            self.function(required)
        return super().function(key)

    def integers(self, kind: str, values: Any, c_type: str = "int8_t") -> str:
        """Add a constant C array of integers, and return its name."""
        numbers = [integer(value) for value in np.ravel(values).tolist()]
        self.constant_bytes += len(numbers) * TYPE_BYTES[c_type]
        return self.add_array(kind, c_type, len(numbers), initializer(numbers))

    def element(self, kind: str, values: Sequence[Any], c_type: str = "float") -> str:
        """Return the C expression for number i of `values`: a constant if all are equal, else an array element."""
        if len(set(values)) == 1:
            return self.number(values[0]) if c_type == "float" else f"({c_type}){integer(values[0])}"
        name = self.array(kind, values) if c_type == "float" else self.integers(kind, values, c_type)
        return f"{name}[i]"

    def define(self, template: str, *definitions: str, **values: Any) -> None:
        """Add a function that depends on the network; its body begins with the constant arrays added before."""
        arrays = [array.rstrip().replace("\n", "\n    ") for array in self.arrays]
        body = "\n    ".join([*definitions, *arrays, *self.calls])
        text = self.fill(template, body=body, **values)
        self.network_functions.append(text.replace("{\n    \n", "{\n"))
        self.arrays, self.calls = [], []

    def call_int8(self, function: str, before: Sequence[Any], size: int, after: Sequence[Any]) -> None:
        """Add the call of a C function that reads the current array and writes 8-bit integers to the other buffer.

        The arguments of the call are the current array, the items of `before`, the buffer for the `size` results, and
        the items of `after`.
        """
        result = "q" if self.current_int8 != "q" else f"{self.name}_p"
        self.int8_buffers[result] = max(self.int8_buffers[result], size)
        arguments = ", ".join(map(str, [self.current_int8, *before, result, *after]))
        self.calls.append(f"{self.function(function)}({arguments});")
        self.current_int8 = result

    def network(self, quantized: QuantizedNetwork, n_in: int, integers: IntegerInputs | None) -> None:
        """Add the C functions that quantize the inputs and compute the outputs of a quantized network."""
        self.quantization(quantized, n_in, integers)
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
        last = quantized.last
        n, m = last.w.shape
        W, b = self.integers("W", last.w.T), self.integers("b", last.b, "int32_t")
        arguments = f"{self.current_int8}, {n}, {last.input_range.zero}, {W}, {b}, {self.name}_sums, {m}"
        self.calls.append(f"{self.function('dense_sums')}({arguments});")
        q = self.int8_buffers["q"]
        self.define(LAYERS, *([f"static int8_t q[{q}];"] if q else []))

    def quantization(self, quantized: QuantizedNetwork, n_in: int, integers: IntegerInputs | None) -> None:
        """Add the C functions that quantize the inputs."""
        self.int8_buffers[f"{self.name}_p"] = n_in
        self.function("round")
        scaled = "in[i]"
        for part in split_remainders(quantized.minus.tolist(), "float32"):
            scaled += f" - {self.element('minus', part)}" if any(part) else ""
        scaled = f"({scaled})" if " " in scaled else scaled
        factor = self.element("factor", (quantized.times / quantized.input_range.scale).tolist())
        self.define(QUANTIZE, scaled=f"{scaled} * {factor}", zero=quantized.input_range.zero)
        if integers is not None:
            self.entries.append(("_int", f"{self.name}_integer", "integers"))
            self.network_functions.append(f"typedef {integers.c_type} {self.name}_integer;\n")
            multiplier = self.element("multiplier", integers.multiplier.tolist(), "int32_t")
            offset = self.element("offset", integers.offset.tolist(), "int64_t")
            shift = self.element("shift", integers.shift.tolist(), "int8_t")
            self.define(QUANTIZE_INTEGERS, multiplier=multiplier, offset=offset, shift=shift)

    def outputs(self, quantized: QuantizedNetwork) -> None:
        """Add the C functions that compute all outputs from the sums of the last layer."""
        scale = self.element("scale", quantized.last.scales.tolist())
        self.calls += [
            f"{self.name}_layers();",
            self.fill(DEQUANTIZE, scale=scale),
        ]
        self.current = "out"
        for operation in quantized.float_operations:
            self.write(operation)
        self.define(OUTPUTS_FUNCTION)
        for suffix, c_type, noun in self.entries:
            self.define(PREDICT, suffix=suffix, type=c_type, noun=noun)

    def classes(self, quantized: QuantizedNetwork, program: Program) -> None:
        """Add the C functions that return the class without computing outputs."""
        if program.task == "binary":
            threshold = integer(quantized.sum_threshold(program.threshold))
            self.define(SUM_ABOVE_THRESHOLD, threshold=threshold)
        else:
            weights = self.integers("weights", quantized.class_weights, "int32_t")
            self.define(LARGEST_SUM, n_classes=program.n_out, weights=weights)
        for suffix, c_type, noun in self.entries:
            self.define(CLASSIFY, suffix=suffix, type=c_type, noun=noun)

    def predict_functions(self, program: Program) -> str:
        """Return the C functions of the quantized network, after the definitions of the buffers that they share."""
        return "\n".join(["\n".join(self.buffer_definitions()) + "\n", *self.network_functions])

    def layer(self, layer: QuantizedLayer) -> None:
        """Add the C function call for a dense or convolutional layer, or for an elementwise scaling."""
        assert layer.output_range is not None
        W, b = self.integers("W", layer.w.T), self.integers("b", layer.b, "int32_t")
        multiplier = self.integers("multiplier", layer.multiplier, "int32_t")
        to_output = [multiplier, self.integers("shift", layer.shift), layer.output_range.zero]
        operation, zero, m = layer.operation, layer.input_range.zero, layer.w.shape[1]
        suffix = "phase" if layer.output_range is PHASE else "int8"
        if isinstance(operation, op.MatMul):
            self.call_int8(f"dense_{suffix}", [len(layer.w), zero, W, b, *to_output], m, [m])
        elif isinstance(operation, op.Scale):
            n = prod(operation.output_shape)
            self.call_int8(f"scale_{suffix}", [zero, W, b, *to_output, m], n, [n])
        else:
            top, left, _, _ = operation.pad
            before = [*operation.input_shape, zero, W, b, *operation.window, *operation.stride, top, left, *to_output]
            self.call_int8(f"conv_{suffix}", before, prod(operation.output_shape), operation.output_shape)

    def buffer_definitions(self) -> list[str]:
        """Return the C definitions of the buffers that several functions share."""
        p = f"{self.name}_p"
        return [f"static int8_t {p}[{self.int8_buffers[p]}];", self.fill("static int32_t ${name}_sums[${NAME}_N_OUT];")]

    @property
    def buffer_bytes(self) -> int:
        """Total size of the static buffers of the header in bytes."""
        return sum(self.int8_buffers.values()) + 4 * self.n_out


def integer(value: float) -> str:
    """Return a whole number as a C constant."""
    return str(int(value))


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
    program, converter = build_program(net._export_document("to_c with dtype='int8'")), net.converter
    calibration_rows = converter.rows(converter.array(calibrate)).astype(np.float64)
    quantized = quantize(program, calibration_rows)
    X, y = (calibrate, None) if validation is None else validation
    rows = converter.rows(converter.array(X)).astype(np.float64)
    P, Q = net.predict(X), quantized.predict(rows)
    comparison = _compare(net, P, Q, X, y)
    return _header(program, name, quantized, calibration_rows, f"\n   {comparison.text}."), comparison


def _compare(net: Any, P: NDArray[Any], Q: NDArray[Any], X: Any, y: Any) -> Quantization:
    """Compare outputs Q of the quantized network with outputs P of the network: error, class agreement and scores."""
    converter, error, agreement = net.converter, float(abs(P - Q).max()), None
    if converter.loss.is_classification:
        agreement = float((converter.class_index(P) == converter.class_index(Q)).mean())
    if y is None or net.heads is not None:  # omit the scores without targets, and for networks with heads
        return Quantization(error, agreement)
    data, metric = converter.data(X, y), net._metric(None)
    score, score_int8 = (converter.measure_unscaled(metric, data, outputs) for outputs in (P, Q))
    return Quantization(error, agreement, score, score_int8)


def _header(program: Program, name: str, quantized: QuantizedNetwork, rows: NDArray[Any], remark: str) -> str:
    """Return the text of the C header; `remark` is added at the end of the comment at the top of the header."""
    source, integers = Int8Source(name, program.n_out), integer_inputs(quantized, rows)
    source.network(quantized, program.n_in, integers)
    source.outputs(quantized)
    has_classes = quantized.computes_classes(program.task)
    if has_classes:
        source.classes(quantized, program)
        remark += source.fill(CLASSIFY_REMARK)
    if integers is not None:
        functions, verb = ("and ${name}_classify_int(in)", "") if has_classes else ("", "s")
        remark += source.fill(INTEGERS_REMARK, functions=source.fill(functions), verb=verb)
    if program.self_test is not None:
        # Test with dequantized integers as inputs, so that rounding errors cannot change their quantized values.
        inputs = quantized.input_range
        q = inputs.quantize((np.array(program.self_test["X"]) - quantized.minus) * quantized.times)
        X = inputs.dequantize(q) / quantized.times + quantized.minus
        program = program.replace(self_test={"X": X.tolist()})
    return source.header(program, quantized.predict, remark)
