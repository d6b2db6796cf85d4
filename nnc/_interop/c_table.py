"""Headers of C for models of tables: raw columns, which are numbers and codes of text, come in.

Columns and answers are computed in double, as formulas are in nnc/_interop/table.py, and the networks in float.
"""

from __future__ import annotations

import sys
from textwrap import indent
from typing import TYPE_CHECKING, Any

from nnc._interop.c_source import CLASS, COMPARED, SELF_TEST, Source, initializer, literal
from nnc._registry import formulas
from nnc._serialization.text import TOLERANCES
from nnc._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc._interop.table import Raw, TableProgram

HEADER = """\
/* A model of a table, $networks ($title), written by nnc $version.

   C99, or C++11. Include it in one file of a program:

       static const double in[${NAME}_N_IN] = {0};
       double out[${NAME}_N_OUT];
       ${name}_predict(in, out);

   Inputs are raw, NAN where one is missing. Those of text are places in its table, -1 where the text is not there:

$columns

   $outputs
   ${name}_self_test() returns 0 where all of this computes what it did when it was written.
   Buffers are static: one call at a time. They take $bytes bytes, constants of the networks $constants. Do not compile
   this with -ffast-math, which knows no NAN. */

#ifndef ${NAME}_H
#define ${NAME}_H

#include <math.h>

#define ${NAME}_N_IN $n_in
#define ${NAME}_N_OUT $n_out
"""
INPUTS = """\
/* What the networks take of a row. */
static inline void ${name}_inputs(const double *row, float *in)
{
$columns
}
"""
COLUMN = """\
    { /* $what */
        const double x = row[$j];
$lines
    }"""
PROBABILITIES = """\
/* Adds the probabilities at the temperature. */
static inline void ${name}_meant(const float *P, double *out)
{
    static double powers[${NAME}_N_OUT];
    double largest = -1e300, sum = 0;
    int i;
    for (i = 0; i < ${NAME}_N_OUT; i++) {
        const double p = (double)P[i];
        powers[i] = log(p > $tiny ? p : $tiny) / $temperature;
        largest = powers[i] > largest ? powers[i] : largest;
    }
    for (i = 0; i < ${NAME}_N_OUT; i++)
        sum += powers[i] = exp(powers[i] - largest);
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] += powers[i] / sum;
}
"""
NUMBERS = """\
/* Adds what a network says. */
static inline void ${name}_meant(const float *P, double *out)
{
    int i;
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] += (double)P[i];
}
"""
SCALED = """\
/* Adds what a network says, in the units of the targets. */
static inline void ${name}_meant(const float *P, double *out)
{
    static const double factor[${NAME}_N_OUT] = $factor;
    static const double shift[${NAME}_N_OUT] = $shift;
    int i;
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] += (double)P[i] / factor[i] + shift[i];
}
"""
PREDICT = """\
/* What the model makes of a row. */
static inline void ${name}_predict(const double *row, double *out)
{
    $buffers
    int i;
    ${name}_inputs(row, in);
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] = 0;
    $calls
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] /= $n;$formed
}
"""
SORT = """
    for (i = $targets; i < ${NAME}_N_OUT; i++) { /* quantiles that do not cross */
        const double number = out[i];
        int j = i - $targets;
        for (; j >= 0 && out[j] > number; j -= $targets)
            out[j + $targets] = out[j];
        out[j + $targets] = number;
    }"""
BOUNDS = """
    for (i = 0; i < ${NAME}_N_OUT; i++) {
        static const double least[$targets] = $least;
        static const double most[$targets] = $most;
        const int j = i % $targets;
        out[i] = out[i] < least[j] ? least[j] : out[i] > most[j] ? most[j] : out[i];
    }"""


def to_c_table(made: TableProgram, name: str) -> str:
    """The text of a header; ValueError where name is no identifier of C."""
    source = TableSource(name, "float32")
    inputs = source.inputs(made)
    for network in made.networks:
        for step in network.operations:
            source.write(step)
        source.calls.append(f"{name}_meant({source.at}, out);")
        source.at = "in"
    return source.table(made, inputs)


def exact(value: float) -> str:
    """A constant of double."""
    return repr(float(value))


def several(values: Sequence[float]) -> str:
    """The initializer of an array of double."""
    return initializer(map(exact, values))


def in_comment(text: str) -> str:
    """Return a text as a literal that neither begins nor ends a comment of C."""
    return literal(text).replace("*/", "*\\057").replace("/*", "\\057*")


def call(function: str, *arguments: str) -> str:
    """A function of a formula."""
    a, *others = arguments
    if function in COMPARED:
        return f"({a} {COMPARED[function]} {others[0]} ? {a} : {others[0]})"
    return f"({a} != {a})" if function == "missing" else f"{function}({a})"


class TableSource(Source):
    """The parts of such a header."""

    def inputs(self, made: TableProgram) -> str:
        """The function that encodes a row."""
        written = [column.written for column in made.columns]
        used = [(j, formula) for j, column in enumerate(written) for formula in column.plain]
        if any(network.bins for network in made.networks):
            used += [(j, column.bins) for j, column in enumerate(written) if column.bins is not None]
        lines, at = [self.steps(column) for column in made.columns], 0
        for j, formula in used:
            lines[j].append(self.columns(made.columns[j], formula, at))
            at += written[j].width(formula)
        self.buffers = {"in": at, **self.buffers}
        texts = [
            self.fill(COLUMN, what=in_comment(column.name), j=j, lines=indent("\n".join(lines[j]), " " * 8))
            for j, column in enumerate(made.columns)
            if column.written.plain
        ]
        return self.fill(INPUTS, columns="\n".join(texts))

    def steps(self, column: Raw) -> list[str]:
        """What is computed before the columns."""
        return [f"const double {name} = {self.formula(text)};" for name, text in column.written.steps.items()]

    def columns(self, column: Raw, formula: str, at: int) -> str:
        """The statement that writes those of a formula."""
        n, vectors, added = column.written.length(formula), column.written.within(formula), formula.startswith("sum(")
        text = self.formula(formula[4:-1] if added else formula)
        if not vectors:
            return f"in[{at}] = (float)({text});"
        lines = [f"for (int i = 0; i < {n}; i++) {{"]
        for name in vectors:
            lines.append(f"    static const double {name}_[{n}] = {several(column.written.vectors[name])};")
            lines.append(f"    const double {name} = {name}_[i];")
        if added:
            return "\n".join(["double total = 0;", *lines, f"    total += {text};", "}", f"in[{at}] = (float)total;"])
        return "\n".join([*lines, f"    in[{at} + i] = (float)({text});", "}"])

    def formula(self, text: str) -> str:
        """A formula in C."""
        return formulas.in_c(text, call, exact)

    def table(self, made: TableProgram, inputs: str) -> str:
        """The header, from the parts that were added."""
        whole, targets = made.whole, made.n_targets
        classes = whole.answer == "one"
        outputs = "Outputs are the probabilities of the classes." if classes else "Outputs are as `predict` gives them."
        if made.quantiles:
            listed = ", ".join(map(str, made.quantiles))
            outputs = f"Outputs are the quantiles {listed}, {targets} of each."
        columns = [self.about(column, j) for j, column in enumerate(made.columns)]
        double: dict[str, Any] = {"real": "double", "f": ""}
        names = [self.texts(f"levels{j}", column.levels) for j, column in enumerate(made.columns) if column.levels]
        if classes:
            names.append(self.texts("labels", whole.labels))
        formed = self.fill(SORT, targets=targets) if made.quantiles else ""
        if made.bounds is not None:
            least, most = map(several, made.bounds)
            formed += self.fill(BOUNDS, targets=targets, least=least, most=most)
        n = len(made.networks)
        parts = [
            self.fill(
                HEADER,
                networks=f"{n} networks" if n > 1 else "a network",
                title=whole.title,
                version=__version__,
                columns="\n".join(columns),
                outputs=outputs,
                bytes=self.memory,
                constants=self.constants,
                n_in=whole.n_in,
                n_out=whole.n_out,
            ),
            *names,
            *self.arrays,
            *self.functions.values(),
            inputs,
            self.meant(made),
            self.fill(
                PREDICT,
                buffers="\n    ".join(self.buffers_text()),
                calls="\n    ".join(self.calls),
                n=exact(n),
                formed=formed,
            ),
        ]
        if classes:
            parts.append(self.fill(CLASS["one"], **double))
        if whole.test is not None:
            X, P = (several(whole.test[key]) for key in "XP")
            tolerance = exact(TOLERANCES["float32"])
            sizes = {"n_in": whole.n_in, "n_out": whole.n_out}
            parts.append(self.fill(SELF_TEST, X=X, P=P, tolerance=tolerance, **sizes, **double))
        return "\n".join([*parts, f"#endif /* {self.name.upper()}_H */\n"])

    def about(self, column: Raw, j: int) -> str:
        """What the head says of a column."""
        table = f" in {self.name}_levels{j}" if column.levels else ""
        return f"       in[{j}]  {in_comment(column.name)}: {column.what}{table}"

    def meant(self, made: TableProgram) -> str:
        """The function that adds what a network says."""
        if made.temperature is not None:
            return self.fill(PROBABILITIES, tiny=exact(sys.float_info.min), temperature=exact(made.temperature))
        if made.scale is None:
            return self.fill(NUMBERS)
        factor, shift = map(several, made.scale)
        return self.fill(SCALED, factor=factor, shift=shift)
