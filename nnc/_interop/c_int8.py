"""Headers of C whose layers compute in whole numbers of 8 bits: floats come in, and come out of the last layer.

nnc/_interop/int8.py describes the arithmetic, and computes it with NumPy.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnc._interop.c_source import FUNCTIONS, Source, initializer
from nnc._interop.int8 import Layer, Pool, Quantization, Table, quantized
from nnc._interop.program import halves, program
from nnc.layers import operations as op

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc._interop.int8 import Quantized
    from nnc._interop.program import Program

INT8_FUNCTIONS = {
    "store": """\
/* out = in * factor, rounded, + zero, within 8 bits */
static inline void ${name}_store(const float *in, const float *factor, int m, int zero, int8_t *out, int n)
{
    int i;
    for (i = 0; i < n; i++) {
        const float x = floorf(in[i] * factor[i % m] + 0.5f) + (float)zero;
        out[i] = (int8_t)(x > -128 ? (x < 127 ? x : 127) : -128);
    }
}
""",
    "rescaled": """\
/* A sum at the scale of the output: times multiplier / 2**shift, rounded. */
static inline int8_t ${name}_rescaled(int32_t sum, int32_t multiplier, int shift, int zero)
{
    const int64_t q = (((int64_t)sum * multiplier + ((int64_t)1 << (shift - 1))) >> shift) + zero;
    return (int8_t)(q < -128 ? -128 : q > 127 ? 127 : q);
}
""",
    "dense_int8": """\
/* in stands for (in - within) times a scale, out for (out - zero) times another one. */
static inline void ${name}_dense_int8(const int8_t *in, int n, int within, const int8_t *W, const int32_t *b,
                                      const int32_t *multiplier, const int8_t *shift, int zero, int8_t *out, int m)
{
    int i, j;
    for (j = 0; j < m; j++, W += n) {
        int32_t sum = b[j];
        for (i = 0; i < n; i++)
            sum += W[i] * (in[i] - within);
        out[j] = ${name}_rescaled(sum, multiplier[j], shift[j], zero);
    }
}
""",
    "scale_int8": """\
/* The same number by number, of m weights over and over. */
static inline void ${name}_scale_int8(const int8_t *in, int within, const int8_t *W, const int32_t *b,
                                      const int32_t *multiplier, const int8_t *shift, int zero, int m,
                                      int8_t *out, int n)
{
    int i;
    for (i = 0; i < n; i++)
        out[i] = ${name}_rescaled(W[i % m] * (in[i] - within) + b[i % m], multiplier[i % m], shift[i % m], zero);
}
""",
    "dense_last": """\
/* The last layer, whose sums become floats. */
static inline void ${name}_dense_last(const int8_t *in, int n, int within, const int8_t *W, const int32_t *b,
                                      const float *scale, float *out, int m)
{
    int i, j;
    for (j = 0; j < m; j++, W += n) {
        int32_t sum = b[j];
        for (i = 0; i < n; i++)
            sum += W[i] * (in[i] - within);
        out[j] = (float)sum * scale[j];
    }
}
""",
    "table": """\
/* An activation, which has 256 values. */
static inline void ${name}_table(int8_t *a, const int8_t *values, int n)
{
    int i;
    for (i = 0; i < n; i++)
        a[i] = values[a[i] + 128];
}
""",
}


def _of_int8(what: str, *changes: tuple[str, str]) -> str:
    """One of the functions for floats with other types and names."""
    text = FUNCTIONS[what].replace(f"${{name}}_{what}", f"${{name}}_{what}_int8").replace("$real", "int8_t")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


INT8_FUNCTIONS["conv_int8"] = _of_int8(
    "conv",
    ("int channels, const int8_t *W, const int8_t *b,", "int channels, int within, const int8_t *W, const int32_t *b,"),
    ("int top, int left,", "int top, int left, const int32_t *multiplier, const int8_t *shift, int zero,"),
    ("int8_t sum = b ? b[j] : 0;", "int32_t sum = b[j];"),
    ("weights[i] * row[i]", "weights[i] * (row[i] - within)"),
    ("*out++ = sum;", "*out++ = ${name}_rescaled(sum, multiplier[j], shift[j], zero);"),
)
INT8_FUNCTIONS["max_pool_int8"] = _of_int8("max_pool")
INT8_FUNCTIONS["avg_pool_int8"] = _of_int8(
    "avg_pool",
    ("int8_t sum = 0;", "int32_t sum = 0; /* of numbers from 0 on, so that the quotient is rounded down */"),
    ("sum += first[(ky * width + kx) * channels];", "sum += first[(ky * width + kx) * channels] + 128;"),
    ("*out++ = sum / (int8_t)(kh * kw);", "*out++ = (int8_t)((2 * sum + kh * kw) / (2 * kh * kw) - 128);"),
)
TYPES = {"int8_t": 1, "int32_t": 4}


class Int8Source(Source):
    """The parts of such a header. Floats are in a and b as ever, stored numbers in p and q."""

    includes: ClassVar[tuple[str, ...]] = ("math.h", "stdint.h")
    known: ClassVar[dict[str, str]] = {**FUNCTIONS, **INT8_FUNCTIONS}

    def __init__(self, name: str) -> None:
        super().__init__(name, "float32")
        self.stored = {"p": 0, "q": 0}
        self.holds = ""  # which of these has the numbers

    def wholes(self, what: str, values: Any, kind: str = "int8_t") -> str:
        """Adds a constant array of whole numbers; its name."""
        numbers = [str(int(value)) for value in np.ravel(values)]
        name = f"{self.name}_{what}{len(self.arrays)}"
        self.arrays.append(f"static const {kind} {name}[{len(numbers)}] = {initializer(numbers)};\n")
        self.constants += len(numbers) * TYPES[kind]
        return name

    def call_int8(self, what: str, before: Sequence[Any], size: int, after: Sequence[Any]) -> None:
        """Adds the call of a function that reads stored numbers and stores so many elsewhere."""
        to = "q" if self.holds == "p" else "p"
        self.stored[to] = max(self.stored[to], size)
        arguments = ", ".join(map(str, [self.holds or self.at, *before, to, *after]))
        self.calls.append(f"{self.function(what)}({arguments});")
        self.holds = to

    def network(self, made: Quantized, n_in: int) -> None:
        """Adds all of it."""
        first, rest = halves(made.minus.tolist(), "float32")
        for part in (first, rest):
            if any(part):
                self.call("subtract", [self.array("subtract", part), len(part)], n_in, [n_in], in_place=True)
        factor = self.array("factor", (made.times / made.within.scale).tolist())
        self.call_int8("store", [factor, len(made.times), made.within.zero], n_in, [n_in])
        for step in made.steps:
            if isinstance(step, Layer):
                self.layer(step)
            elif isinstance(step, Table):
                values = self.wholes(step.step.name, step.numbers)
                self.calls.append(f"{self.function('table')}({self.holds}, {values}, {prod(step.step.out)});")
            elif isinstance(step, Pool):
                operation = step.step
                what = "max_pool_int8" if isinstance(operation, op.MaxPool) else "avg_pool_int8"
                before = [*operation.below[1:], *operation.window, *operation.stride]
                self.call_int8(what, before, prod(operation.out), operation.out[:2])
        last, n = made.last, len(made.last.w)
        W, b = self.wholes("W", last.w.T), self.wholes("b", last.b, "int32_t")
        scales, m = self.array("scale", last.scales.tolist()), last.w.shape[1]
        to = "b" if self.at == "a" else "a"
        self.buffers[to] = max(self.buffers[to], m)
        arguments = f"{self.holds}, {n}, {last.within.zero}, {W}, {b}, {scales}, {to}, {m}"
        self.calls.append(f"{self.function('dense_last')}({arguments});")
        self.at = to
        for step in made.tail:
            self.write(step)

    def layer(self, layer: Layer) -> None:
        """A dense or convolutional layer."""
        assert layer.out is not None
        self.function("rescaled")
        W, b = self.wholes("W", layer.w.T), self.wholes("b", layer.b, "int32_t")
        multiplier = self.wholes("multiplier", layer.multiplier, "int32_t")
        to_output = [multiplier, self.wholes("shift", layer.shift), layer.out.zero]
        step, zero, m = layer.step, layer.within.zero, layer.w.shape[1]
        if isinstance(step, op.MatMul):
            self.call_int8("dense_int8", [len(layer.w), zero, W, b, *to_output], m, [m])
        elif isinstance(step, op.Scale):
            self.call_int8("scale_int8", [zero, W, b, *to_output, m], prod(step.out), [prod(step.out)])
        else:
            top, left, _, _ = step.pad
            before = [*step.below, zero, W, b, *step.window, *step.stride, top, left, *to_output]
            self.call_int8("conv_int8", before, prod(step.out), step.out)

    def buffers_text(self) -> list[str]:
        """The buffers."""
        return [*super().buffers_text(), *(f"static int8_t {name}[{n}];" for name, n in self.stored.items() if n)]

    @property
    def memory(self) -> int:
        """Bytes in the buffers."""
        return super().memory + sum(self.stored.values())


def to_c_int8(net: Any, name: str, calibrate: Any, validation: Any) -> tuple[str, Quantization]:
    """The text of a header, and how it compares with the network: see `NeuralNetwork.to_c`."""
    if calibrate is None:
        raise ValueError("dtype='int8' needs calibrate, rows from which it follows how large numbers get")
    made, converter = program(net._whole()), net.converter
    found = quantized(made, converter.rows(converter.array(calibrate)).astype(np.float64))
    X, y = (calibrate, None) if validation is None else validation
    rows = converter.rows(converter.array(X)).astype(np.float64)
    P, Q = net.predict(X), found.predict(rows)
    report = _compared(net, P, Q, X, y)
    return _text(made, name, found, f"\n   {report.text}."), report


def _compared(net: Any, P: NDArray[Any], Q: NDArray[Any], X: Any, y: Any) -> Quantization:
    """How alike two predictions of the same rows are, the second of which is that of whole numbers."""
    converter, error, agreement = net.converter, float(abs(P - Q).max()), None
    if converter.loss.of_classes:
        agreement = float((converter.class_index(P) == converter.class_index(Q)).mean())
    if y is None:
        return Quantization(error, agreement)
    data, metric = converter.data(X, y), net._metric(None)
    score, score_int8 = (converter.measure_in_units(metric, data, outputs) for outputs in (P, Q))
    return Quantization(error, agreement, score, score_int8)


def _text(made: Program, name: str, found: Quantized, remark: str) -> str:
    """Return the text of a header, with a remark on its accuracy."""
    source = Int8Source(name)
    source.network(found, made.n_in)
    if made.test is not None:
        # Inputs that are stored exactly, so that no rounding of a machine makes another whole number of one.
        q = found.within.stored((np.array(made.test["X"]) - found.minus) * found.times)
        X = (q - found.within.zero) * found.within.scale / found.times + found.minus
        made = made.replace(test={"X": X.tolist()})
    return source.whole(made, found.predict, remark)
