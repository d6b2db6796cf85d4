"""Writer of C headers for table models; inputs are the raw columns, with an integer code for each text.

Column encodings (see nnc/_interop/table.py) and the processing of outputs are computed in double precision, the
networks in single precision.
"""

from __future__ import annotations

import sys
from textwrap import indent
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._interop.c_functions import FUNCTIONS
from nnc._interop.c_source import CLASS_FUNCTIONS, COMPARISONS, SELF_TEST, Source, initializer, literal
from nnc._registry import formulas
from nnc._serialization.text import TOLERANCES
from nnc._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nnc._interop.program import Program
    from nnc._interop.table import RawColumn, TableProgram
    from nnc.layers.operations import Operation

# Beginning of a header whose inputs and outputs have double precision.
HEADER = """\
/* $subject ($title), exported by nnc $version.

   Language: C99 or C++11. Include this header in one source file of a program:

       static const double in[${NAME}_N_IN] = {0};
       double out[${NAME}_N_OUT];
       ${name}_predict(in, out);

   $inputs
   $outputs
   ${name}_self_test() returns 0 if the compiled code reproduces the outputs that were computed at export.
   The functions use static buffers, so two calls must not overlap.
   Memory: $bytes bytes for buffers, $constants bytes for constants of the networks.$remark */

#ifndef ${NAME}_H
#define ${NAME}_H

#include <math.h>

#define ${NAME}_N_IN $n_in
#define ${NAME}_N_OUT $n_out
"""
INPUTS = """\
Inputs are the raw columns. A missing value is NAN. A text is its index in the table of its column, or -1 if the
   table does not contain it:

$columns
"""
WORD_INPUTS = """
   The inputs of a column of free text are ${name}_count_words(text) and, for each table of words,
   ${name}_find_words(text, table, number of words in the table).
"""
REMARK = """
   Do not compile this header with -ffast-math, which breaks the test for NAN."""
ENCODE_INPUTS = """\
/* Encode a row of raw columns as inputs of the networks. */
static inline void ${name}_inputs(const double *row, float *in)
{
$columns
}
"""
ENCODE_COLUMN = """\
    { /* $column */
        const double x = row[$j];
$lines
    }"""
ADD_PROBABILITIES = """\
/* Add the probabilities of a network, calibrated by the temperature $temperature, to out. */
static inline void ${name}_add_outputs(const float *P, double *out)
{
    static double powers[${NAME}_N_OUT];
    double largest = -1e300, sum = 0;
    int i;
    for (i = 0; i < ${NAME}_N_OUT; i++) {
        const double p = (double)P[i];
        powers[i] = log(p > $smallest ? p : $smallest) / $temperature;
        largest = powers[i] > largest ? powers[i] : largest;
    }
    for (i = 0; i < ${NAME}_N_OUT; i++)
        sum += powers[i] = exp(powers[i] - largest);
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] += powers[i] / sum;
}
"""
ADD_OUTPUTS = """\
/* Add the outputs of a network to out. */
static inline void ${name}_add_outputs(const float *P, double *out)
{
    int i;
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] += (double)P[i];
}
"""
ADD_SCALED_OUTPUTS = """\
/* Convert the outputs of a network to the units of the targets, and add them to out. */
static inline void ${name}_add_outputs(const float *P, double *out)
{
    static const double factor[${NAME}_N_OUT] = $factor;
    static const double shift[${NAME}_N_OUT] = $shift;
    int i;
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] += (double)P[i] / factor[i] + shift[i];
}
"""
PREDICT = """\
/* Compute the ${NAME}_N_OUT outputs for one row of ${NAME}_N_IN raw columns. */
static inline void ${name}_predict(const double *row, double *out)
{
    $buffers
    int i;
    ${name}_inputs(row, in);
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] = 0;
    $calls
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] /= $n;$postprocessing
}
"""
SORT = """
    ${name}_sort(out, ${NAME}_N_OUT, $targets);"""
BOUNDS = """
    for (i = 0; i < ${NAME}_N_OUT; i++) {
        static const double lower[$targets] = $lower;
        static const double upper[$targets] = $upper;
        const int j = i % $targets;
        out[i] = out[i] < lower[j] ? lower[j] : out[i] > upper[j] ? upper[j] : out[i];
    }"""


def to_c_table(model: TableProgram, name: str) -> str:
    """Return the text of a C header that computes the predictions of a table model.

    Raises
    ------
    ValueError
        `name`, the prefix of all names in the header, is not a C identifier.
    """
    source = TableSource(name)
    inputs = source.input_function(model)
    for network in model.networks:
        source.add_network(network.operations)
    return source.table_header(model, inputs)


def double_literal(value: float) -> str:
    """Return a number as a C constant of type double with enough digits to be exact."""
    return repr(float(value))


def double_initializer(values: Sequence[float]) -> str:
    """Return the C initializer of an array of type double."""
    return initializer(map(double_literal, values))


def in_comment(text: str) -> str:
    """Return a text as a C string literal that can stand in a comment: it contains neither "/*" nor "*/"."""
    return literal(text).replace("*/", "*\\057").replace("/*", "\\057*")


def function_call(function: str, *arguments: str) -> str:
    """Return the C expression for a function call in the formula of a column encoding."""
    a, *others = arguments
    if function in COMPARISONS:
        return f"({a} {COMPARISONS[function]} {others[0]} ? {a} : {others[0]})"
    return f"({a} != {a})" if function == "missing" else f"{function}({a})"


class DoubleSource(Source):
    """Builder of a C header whose networks have single precision, and whose inputs and outputs have double precision.

    The templates must define the functions `name_add_outputs` and `name_predict`.
    """

    double: ClassVar[dict[str, Any]] = {"real": "double", "f": ""}

    def __init__(self, name: str) -> None:
        super().__init__(name, "float32")

    def add_network(self, operations: Iterable[Operation], *arguments: str) -> None:
        """Add the calls for a network, and the call of `name_add_outputs` with its outputs and other arguments."""
        for operation in operations:
            self.write(operation)
        self.calls.append(f"{self.name}_add_outputs({', '.join([self.current, *arguments, 'out'])});")
        self.current = "in"

    def predict_function(self, template: str, **values: Any) -> str:
        """Return the text of the C function that calls the networks."""
        buffers, calls = ("\n    ".join(lines) for lines in (self.buffer_definitions(), self.calls))
        return self.fill(template, buffers=buffers, calls=calls, **values)

    def complete(self, interface: Program, texts: dict[str, str], names: list[str], functions: list[str]) -> str:
        """Return the text of the C header.

        Parameters
        ----------
        interface : Program
            Description of inputs and outputs, with the self-test.
        texts : dict of str to str
            Placeholders of HEADER: "subject", "inputs", "outputs" and "remark".
        names, functions : lists of str
            Definitions of texts, and of the functions that the operations do not need.
        """
        n_in, n_out = interface.n_in, interface.n_out
        sizes = {"bytes": self.buffer_bytes, "constants": self.constant_bytes, "n_in": n_in, "n_out": n_out}
        header = self.fill(HEADER, title=interface.title, version=__version__, **texts, **sizes)
        parts = [header, *names, *self.arrays, *self.functions.values(), *functions]
        if interface.self_test is not None:
            X, P = (double_initializer(interface.self_test[key]) for key in "XP")
            sizes = {"n_in": n_in, "n_out": n_out, "last_out": n_out - 1}
            tolerance = double_literal(TOLERANCES["float32"])
            parts.append(self.fill(SELF_TEST, X=X, P=P, tolerance=tolerance, steps="", **sizes, **self.double))
        return "\n".join([*parts, f"#endif /* {self.name.upper()}_H */\n"])


class TableSource(DoubleSource):
    """Builder of a C header for a table model."""

    def input_function(self, model: TableProgram) -> str:
        """Return the text of the C function that encodes a row of raw columns as inputs of the networks."""
        encodings = [column.formulas for column in model.columns]
        n_blocks = max(network.n_blocks for network in model.networks)
        used = [(j, text) for i in range(n_blocks) for j, part in enumerate(encodings) for text in part.blocks[i]]
        lines, offset = [self.variables(column) for column in model.columns], 0
        for j, formula in used:
            lines[j].append(self.assignment(model.columns[j], formula, offset))
            offset += encodings[j].width(formula)
        self.buffers = {"in": offset, **self.buffers}
        texts = [
            self.fill(ENCODE_COLUMN, column=in_comment(column.name), j=j, lines=indent("\n".join(lines[j]), " " * 8))
            for j, column in enumerate(model.columns)
            if lines[j]
        ]
        return self.fill(ENCODE_INPUTS, columns="\n".join(texts))

    def variables(self, column: RawColumn) -> list[str]:
        """Return the C definitions of the variables that the formulas of a column use."""
        return [f"const double {name} = {self.formula(text)};" for name, text in column.formulas.variables.items()]

    def assignment(self, column: RawColumn, formula: str, offset: int) -> str:
        """Return the C statements that store the results of a formula in the array of inputs, beginning at `offset`."""
        n, vectors = column.formulas.length(formula), column.formulas.vector_names(formula)
        is_sum = formula.startswith("sum(")
        text = self.formula(formula[4:-1] if is_sum else formula)
        if not vectors:
            return f"in[{offset}] = (float)({text});"
        lines = [f"for (int i = 0; i < {n}; i++) {{"]
        for name in vectors:
            lines.append(f"    static const double {name}_[{n}] = {double_initializer(column.formulas.vectors[name])};")
            lines.append(f"    const double {name} = {name}_[i];")
        if is_sum:
            lines = ["double total = 0;", *lines, f"    total += {text};", "}", f"in[{offset}] = (float)total;"]
            return "\n".join(["{", indent("\n".join(lines), " " * 4), "}"])
        return "\n".join([*lines, f"    in[{offset} + i] = (float)({text});", "}"])

    def formula(self, text: str) -> str:
        """Translate a formula of a column encoding to a C expression."""
        return formulas.to_c(text, function_call, double_literal)

    def table_header(self, model: TableProgram, inputs: str) -> str:
        """Return the text of the C header; `inputs` is the text of the function that encodes a row."""
        interface, targets = model.interface, model.n_targets
        classes = interface.task == "multiclass"
        outputs = "Outputs are the probabilities of the classes." if classes else "Outputs are the predicted targets."
        if model.quantiles:
            levels = ", ".join(map(str, model.quantiles))
            outputs = f"Outputs are the quantiles {levels} in this order, each for all targets ({targets})."
        columns = "\n".join(self.column_comment(column, j) for j, column in enumerate(model.columns))
        names = [self.texts(f"levels{j}", column.levels) for j, column in enumerate(model.columns) if column.levels]
        if classes:
            names.append(self.texts("labels", interface.labels))
        postprocessing = self.fill(SORT, targets=targets) if model.quantiles else ""
        if model.bounds is not None:
            lower, upper = map(double_initializer, model.bounds)
            postprocessing += self.fill(BOUNDS, targets=targets, lower=lower, upper=upper)
        word_inputs = ""
        if any(column.is_mask for column in model.columns):
            self.function("find_words")
            word_inputs = self.fill(WORD_INPUTS)
        n = len(model.networks)
        functions = [
            inputs,
            self.output_function(model),
            *([self.fill(FUNCTIONS["sort"], **self.double)] if model.quantiles else []),
            self.predict_function(PREDICT, n=double_literal(n), postprocessing=postprocessing),
        ]
        if classes:
            values = {"n_classes": interface.n_out, "of_step": ""}
            functions.append(self.fill(CLASS_FUNCTIONS["multiclass"], **values, **self.double))
        texts = {
            "subject": f"Model of a table, {n} networks" if n > 1 else "Model of a table, a network",
            "inputs": self.fill(INPUTS, columns=columns) + word_inputs,
            "outputs": outputs,
            "remark": REMARK,
        }
        return self.complete(interface, texts, names, functions)

    def column_comment(self, column: RawColumn, j: int) -> str:
        """Return the line that describes a column in the comment at the beginning of the header."""
        table = f" in {self.name}_levels{j}" if column.levels else ""
        return f"       in[{j}]  {in_comment(column.name)}: {column.description}{table}"

    def output_function(self, model: TableProgram) -> str:
        """Return the C function that adds probabilities, or outputs in the units of the targets, to the prediction."""
        if model.temperature is not None:
            smallest, temperature = map(double_literal, (sys.float_info.min, model.temperature))
            return self.fill(ADD_PROBABILITIES, smallest=smallest, temperature=temperature)
        if model.target_scaling is None:
            return self.fill(ADD_OUTPUTS)
        factor, shift = map(double_initializer, model.target_scaling)
        return self.fill(ADD_SCALED_OUTPUTS, factor=factor, shift=shift)
