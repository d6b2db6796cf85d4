"""Networks as C: one header without dependencies but math.h, static memory alone, plain loops.

The templates below are the functions of such a header. $name is the network's, $real its type, and $f what the names of
functions of math.h end with for that type.
"""

from __future__ import annotations

import os
import re
from math import prod
from string import Template
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._interop.program import SCALE_SIGNS, Writer, programs, rounded, scale_steps, wrapped
from nnc._interop.protobuf import utf8
from nnc._registry import activations, formulas
from nnc._serialization.text import TOLERANCES
from nnc._version import __version__
from nnc.layers import operations as op

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nnc._interop.program import Program

IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"

HEADER = """\
/* The network $title, written by nnc $version.

   C99, or C++11. Include it in one file of a program:

       static const $real in[${NAME}_N_IN] = {0};
       $real out[${NAME}_N_OUT];
       ${name}_predict(in, out);

   Inputs are raw, $inputs. $outputs
   ${name}_self_test() returns 0 where all of this computes what it did when it was written.
   Buffers are static: one call at a time. They take $bytes bytes, constants $constants.$remark */

#ifndef ${NAME}_H
#define ${NAME}_H

$includes

#define ${NAME}_N_IN $n_in
#define ${NAME}_N_OUT $n_out
"""

SCALE = """\
static inline void ${name}_%s(const $real *in, const $real *numbers, int m, $real *out, int n)
{
    int i;
    for (i = 0; i < n; i++)
        out[i] = in[i] %s numbers[i %% m];
}
"""
SCALES = {what: SCALE % (what, sign) for what, sign in SCALE_SIGNS.items()}
# A header contains those of these functions that it calls.
FUNCTIONS = {
    **SCALES,
    "subtract": "/* Of m numbers, over and over. */\n" + SCALES["subtract"],
    "dense": """\
/* out[j] = b[j] + the sum over i of W[j][i] * in[i] */
static inline void ${name}_dense(const $real *in, int n, const $real *W, const $real *b, $real *out, int m)
{
    int i, j;
    for (j = 0; j < m; j++, W += n) {
        $real sum = b ? b[j] : 0;
        for (i = 0; i < n; i++)
            sum += W[i] * in[i];
        out[j] = sum;
    }
}
""",
    "conv": """\
/* out[y][x][j] = b[j] + the sum over ky, kx and c of W[j][ky][kx][c] * in[y * sy - top + ky][x * sx - left + kx][c],
   where that lies within the image */
static inline void ${name}_conv(const $real *in, int height, int width, int channels, const $real *W, const $real *b,
                                int kh, int kw, int sy, int sx, int top, int left,
                                $real *out, int rows, int columns, int m)
{
    int y, x, j, ky, i;
    for (y = 0; y < rows; y++)
        for (x = 0; x < columns; x++) {
            const int y0 = y * sy - top, x0 = x * sx - left;
            const int ky0 = y0 < 0 ? -y0 : 0, ky1 = y0 + kh > height ? height - y0 : kh;
            const int kx0 = x0 < 0 ? -x0 : 0, kx1 = x0 + kw > width ? width - x0 : kw;
            const int n = (kx1 - kx0) * channels;
            for (j = 0; j < m; j++) {
                $real sum = b ? b[j] : 0;
                for (ky = ky0; ky < ky1; ky++) {
                    const $real *row = in + ((y0 + ky) * width + x0 + kx0) * channels;
                    const $real *weights = W + ((j * kh + ky) * kw + kx0) * channels;
                    for (i = 0; i < n; i++)
                        sum += weights[i] * row[i];
                }
                *out++ = sum;
            }
        }
}
""",
    "max_pool": """\
/* The largest number of each window of kh x kw. */
static inline void ${name}_max_pool(const $real *in, int width, int channels, int kh, int kw, int sy, int sx,
                                    $real *out, int rows, int columns)
{
    int y, x, c, ky, kx;
    for (y = 0; y < rows; y++)
        for (x = 0; x < columns; x++)
            for (c = 0; c < channels; c++) {
                const $real *first = in + (y * sy * width + x * sx) * channels + c;
                $real largest = *first;
                for (ky = 0; ky < kh; ky++)
                    for (kx = 0; kx < kw; kx++) {
                        const $real number = first[(ky * width + kx) * channels];
                        largest = number > largest ? number : largest;
                    }
                *out++ = largest;
            }
}
""",
    "avg_pool": """\
/* The mean of each window of kh x kw. */
static inline void ${name}_avg_pool(const $real *in, int width, int channels, int kh, int kw, int sy, int sx,
                                    $real *out, int rows, int columns)
{
    int y, x, c, ky, kx;
    for (y = 0; y < rows; y++)
        for (x = 0; x < columns; x++)
            for (c = 0; c < channels; c++) {
                const $real *first = in + (y * sy * width + x * sx) * channels + c;
                $real sum = 0;
                for (ky = 0; ky < kh; ky++)
                    for (kx = 0; kx < kw; kx++)
                        sum += first[(ky * width + kx) * channels];
                *out++ = sum / ($real)(kh * kw);
            }
}
""",
    "softmax": """\
static inline void ${name}_softmax($real *a, int n)
{
    $real largest = a[0], sum = 0;
    int i;
    for (i = 1; i < n; i++)
        largest = a[i] > largest ? a[i] : largest;
    for (i = 0; i < n; i++)
        sum += a[i] = exp$f(a[i] - largest);
    for (i = 0; i < n; i++)
        a[i] /= sum;
}
""",
    "sigmoid_of": """\
static inline $real ${name}_sigmoid_of($real z)
{
    return 1 / (1 + exp$f(-z));
}
""",
    "softplus_of": """\
static inline $real ${name}_softplus_of($real z) /* log(1 + exp(z)) */
{
    return (z > 0 ? z : 0) + log1p$f(exp$f(z > 0 ? -z : z));
}
""",
    "Phi_of": """\
static inline $real ${name}_Phi_of($real z) /* the normal distribution */
{
    return erfc$f(-z * $root) / 2;
}
""",
}

ELEMENTWISE = """\
static inline void ${name}_$activation($real *a, int n)
{
    int i;
    for (i = 0; i < n; i++) {
        const $real z = a[i];
        a[i] = $formula;
    }
}
"""

PREDICT = """\
/* What the network makes of a row. */
static inline void ${name}_predict(const $real *in, $real *out)
{
    $body
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] = $output;
}
"""
# Of an ensemble, behind each network but the first, whose outputs are the first of the sum.
SUM = """\
for (i = 0; i < ${NAME}_N_OUT; i++)
        sum[i] $to ${at}[i];"""
CLASS_OF_LARGEST = """\
/* The number of the class that outputs speak for; ${name}_labels has its name. */
static inline int ${name}_class(const $real *out)
{
    int i, best = 0;
    for (i = 1; i < ${NAME}_N_OUT; i++)
        best = out[i] > out[best] ? i : best;
    return best;
}
"""
CLASS_OF_YES = """\
/* The number of the class that the output speaks for; ${name}_labels has its name. */
static inline int ${name}_class(const $real *out)
{
    return out[0] >= $threshold;
}
"""
SELF_TEST = """\
/* 0, or the number of the first output (from 1) that is not what it was when this was written. */
static inline int ${name}_self_test(void)
{
    static const $real in[$n_in] = $X;
    static const $real wanted[$n_out] = $P;
    $real out[$n_out];
    int i;
    ${name}_predict(in, out);
    for (i = 0; i < $n_out; i++)
        if (!(fabs$f(out[i] - wanted[i]) <= $tolerance * (1 + fabs$f(wanted[i]))))
            return i + 1;
    return 0;
}
"""
CLASS = {"one": CLASS_OF_LARGEST, "yes": CLASS_OF_YES}
OUTPUTS = {
    "numbers": "Outputs are as `predict` gives them.",
    "one": "Outputs stand for the classes; the largest is the answer.",
    "yes": "The output says how much is to be said for the second of the classes.",
    "each": "Each output is the probability of a yes.",
}
COMPARED = {"max": ">", "min": "<"}  # no fmax: numbers are finite, and it is a call


def to_c(documents: Sequence[dict[str, Any]], name: str, dtype: str, predict: Callable[[Any], Any]) -> str:
    """The text of a header.

    Parameters
    ----------
    documents : sequence of dict
        A checked one, or those of the networks of an ensemble, the mean of whose outputs is computed.
    name : str
        What all names in the header begin with.
    dtype : str
        "float64" or "float32".
    predict : callable
        Rows of raw inputs to rows of outputs, for the self-test.

    Raises
    ------
    ValueError
        name is no identifier of C, a number is out of the range of dtype, or a kind of layer cannot be written.
    """
    made = programs(documents, predict)
    source = Source(name, dtype)
    for one in made:
        for step in one.operations:
            source.write(step)
        if len(made) > 1:
            source.add_up(one.n_out)
    return source.whole(made[0], predict)


class Source(Writer):
    """The parts of a header, as they are added."""

    includes: ClassVar[tuple[str, ...]] = ("math.h",)
    known: ClassVar[dict[str, str]] = FUNCTIONS

    def __init__(self, name: str, dtype: str) -> None:
        if not re.fullmatch(IDENTIFIER, name):
            raise ValueError(f"name must be an identifier of C such as 'digits', got {name!r}")
        self.name, self.dtype = name, dtype
        self.real, self.f = ("float", "f") if dtype == "float32" else ("double", "")
        self.arrays: list[str] = []
        self.functions: dict[str, str] = {}
        self.calls: list[str] = []
        self.at = "in"  # where the numbers are that the next operation takes
        self.buffers = {"a": 0, "b": 0, "sum": 0}  # how many numbers they have room for
        self.summed = 0  # networks whose outputs are in the sum
        self.constants = 0  # bytes in all arrays
        self.size = 4 if dtype == "float32" else 8

    def fill(self, template: str, **others: Any) -> str:
        """A template with its places filled."""
        names = {"name": self.name, "NAME": self.name.upper(), "real": self.real, "f": self.f}
        return Template(template).substitute(names, root=self.number(0.5**0.5), **others)

    def number(self, value: float) -> str:
        """A constant of the type, with as many digits as it takes to read the same."""
        text = f"{value:.9g}" if self.dtype == "float32" else repr(value)
        return (text if set(text) & set(".e") else text + ".0") + self.f

    def numbers(self, values: Sequence[float]) -> str:
        """An initializer."""
        return initializer([self.number(value) for value in rounded(values, self.dtype)])

    def array(self, what: str, values: Sequence[float]) -> str:
        """Adds a constant array; its name."""
        name = f"{self.name}_{what}{len(self.arrays)}"
        self.arrays.append(f"static const {self.real} {name}[{len(values)}] = {self.numbers(values)};\n")
        self.constants += len(values) * self.size
        return name

    def texts(self, what: str, labels: Sequence[Any]) -> str:
        """Return a constant array of strings."""
        return f"static const char *const {self.name}_{what}[{len(labels)}] = {initializer(map(literal, labels))};\n"

    def function(self, what: str) -> str:
        """Adds one of FUNCTIONS; its name."""
        if what not in self.functions:
            self.functions[what] = self.fill(self.known[what])
        return f"{self.name}_{what}"

    def call(self, what: str, before: Sequence[Any], size: int, after: Sequence[Any], in_place: bool = False) -> None:
        """Adds the call of one of FUNCTIONS, which writes so many numbers: where they are, or in the other buffer."""
        to = self.at if in_place and self.at != "in" else "b" if self.at == "a" else "a"
        self.buffers[to] = max(self.buffers[to], size)
        arguments = ", ".join(map(str, [self.at, *before, to, *after]))
        self.calls.append(f"{self.function(what)}({arguments});")
        self.at = to

    def add_up(self, n_out: int) -> None:
        """Ends a network of an ensemble: the next one begins with the inputs again."""
        self.buffers["sum"] = n_out
        self.calls.append(self.fill(SUM, to="+=" if self.summed else "=", at=self.at))
        self.at, self.summed = "in", self.summed + 1

    # ------------------------------------------------------------------------------------------ operations

    def scale(self, step: op.Scale) -> None:
        """(x - minus) * times + plus."""
        n = prod(step.out)
        for what, numbers in scale_steps(step, self.dtype):
            self.call(what, [self.array(what, numbers), len(numbers)], n, [n], in_place=True)

    def weights(self, step: op.MatMul | op.Conv) -> tuple[str, str]:
        """The names of W, whose rows are outputs here, so that what is added up lies side by side, and of b."""
        W = self.array("W", [number for column in zip(*step.W, strict=True) for number in column])
        return W, "0" if step.b is None else self.array("b", step.b)

    def mat_mul(self, step: op.MatMul) -> None:
        """x @ W + b."""
        n, m = len(step.W), len(step.W[0])
        self.call("dense", [n, *self.weights(step)], m, [m])

    def conv(self, step: op.Conv) -> None:
        """The cross-correlation."""
        top, left, _, _ = step.pad
        before = [*step.below, *self.weights(step), *step.window, *step.stride, top, left]
        self.call("conv", before, prod(step.out), step.out)

    def pool(self, step: op.MaxPool | op.AvgPool) -> None:
        """Add the call of a max-pool or an average pool."""
        what = "max_pool" if isinstance(step, op.MaxPool) else "avg_pool"
        self.call(what, [*step.below[1:], *step.window, *step.stride], prod(step.out), step.out[:2])

    def flatten(self, step: op.Flatten) -> None:
        """Nothing: numbers lie in this order."""

    def activate(self, step: op.Activate) -> None:
        """In place."""
        row = activations.ROWS[step.name]
        if row.elementwise and step.name not in self.functions:
            formula = formulas.in_c(row.f, self.word, self.number)
            self.functions[step.name] = self.fill(ELEMENTWISE, activation=step.name, formula=formula)
        elif not row.elementwise:
            self.function(step.name)
        self.calls.append(f"{self.name}_{step.name}({self.at}, {prod(step.out)});")

    def word(self, function: str, *arguments: str) -> str:
        """A function of a formula."""
        a, *others = arguments
        if function in COMPARED:
            b = others[0]
            return f"({a} {COMPARED[function]} {b} ? {a} : {b})"
        name = self.function(f"{function}_of") if f"{function}_of" in FUNCTIONS else function + self.f
        return f"{name}({a})"

    # ------------------------------------------------------------------------------------------ the whole

    def buffers_text(self) -> list[str]:
        """The buffers."""
        return [f"static {self.real} {name}[{n}];" for name, n in self.buffers.items() if n]

    @property
    def memory(self) -> int:
        """Bytes in the buffers."""
        return sum(self.buffers.values()) * self.size

    def whole(self, made: Program, predict: Callable[[Any], Any], remark: str = "") -> str:
        """The header, from the parts that were added and what outputs mean."""
        parts = [
            self.fill(
                HEADER,
                title=made.title,
                version=__version__,
                inputs="height, width and channels of an image" if len(made.shape) == 3 else "as they come",
                outputs=OUTPUTS[made.answer],
                includes="\n".join(f"#include <{name}>" for name in self.includes),
                bytes=self.memory,
                constants=self.constants,
                remark=remark,
                n_in=made.n_in,
                n_out=made.n_out,
            ),
            *self.arrays,
        ]
        if made.answer in CLASS:
            parts.append(self.texts("labels", made.labels))
        parts += self.functions.values()
        output = f"sum[i] / {self.number(float(self.summed))}" if self.summed else f"{self.at}[i]"
        body = "\n    ".join([*self.buffers_text(), "int i;", *self.calls])
        parts.append(self.fill(PREDICT, body=body, output=output))
        if made.answer in CLASS:
            parts.append(self.fill(CLASS[made.answer], threshold=self.number(made.threshold)))
        if made.test is not None:
            X = rounded(made.test["X"], self.dtype)
            P = predict([X])[0].tolist()
            tolerance = self.number(max(TOLERANCES[self.dtype], TOLERANCES[made.dtype]))  # P is of the network's dtype
            sizes = {"n_in": made.n_in, "n_out": made.n_out}
            parts.append(self.fill(SELF_TEST, X=self.numbers(X), P=self.numbers(P), tolerance=tolerance, **sizes))
        return "\n".join([*parts, f"#endif /* {self.name.upper()}_H */\n"])


def initializer(values: Iterable[str]) -> str:
    """Of an array, some values a line."""
    return "{\n    " + wrapped(values, "\n    ") + "\n}"


def literal(label: Any) -> str:
    """Return a label as a string of C, in UTF-8: what is not plain ASCII as octal numbers, and no trigraphs.

    Raises
    ------
    ValueError
        It has a NUL, at which a string of C ends.
    """
    text = {True: "true", False: "false"}.get(label, str(label)) if type(label) is bool else str(label)
    if "\0" in text:
        raise ValueError(
            f"labels and names must have no NUL to be strings of C, got {text!r}; rename it before training"
        )
    plain = set(range(32, 127)) - set(b'"\\\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in utf8(text)) + '"'


def name_of(path: Any) -> str:
    """The name that a path suggests: digits of models/digits.h."""
    stem = re.sub(r"[^A-Za-z0-9_]", "_", os.path.splitext(os.path.basename(os.fsdecode(path)))[0])
    return stem if re.fullmatch(IDENTIFIER, stem) else f"net_{stem}"
