"""Writer of C headers, which use only math.h and static memory.

The templates below are parts of a header, with the placeholders of c_functions.py.
"""

from __future__ import annotations

import os
import re
from math import prod
from string import Template
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._interop.c_functions import ELEMENTWISE, FUNCTIONS, RECUR, SIMPLE_RNN_STEP
from nnc._interop.program import (
    INPUT_ORDERS,
    N_TEST_STEPS,
    Writer,
    build_programs,
    round_to_dtype,
    scale_functions,
    wrap_values,
)
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
/* Neural network $title, exported by nnc $version.

   Language: C99 or C++11. Include this header in one source file of a program:

       static const $real in[$in_size] = {0};
       $real out[$out_size];
       ${name}_predict(in, ${steps}out);

   Inputs are raw values without scaling$order. $outputs
   ${name}_self_test() returns 0 if the compiled code reproduces the outputs that were computed at export.
   The functions use static buffers, so two calls must not overlap.
   Memory: $bytes bytes for buffers, $constants bytes for constants.$remark */

#ifndef ${NAME}_H
#define ${NAME}_H

$includes
"""
SIZES = """\
#define ${NAME}_N_IN $n_in
#define ${NAME}_N_OUT $n_out
"""
PREDICT = """\
/* Compute the ${NAME}_N_OUT outputs for one row of ${NAME}_N_IN inputs. */
static inline void ${name}_predict(const $real *in, $real *out)
{
    $body
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] = $output;
}
"""
# Template of the C struct and functions that compute the outputs of a network step by step.
STREAM = """\
#define ${NAME}_STEP_N_IN $step_n_in
#define ${NAME}_STEP_N_OUT $step_n_out

/* States of all layers. The states h of an LSTM are followed by its cell states. The state of a convolution is its
   inputs of the last steps, in a ring buffer. */
typedef struct {
    $real h[$n_states];$indices
} ${name}_state;

/* Set all states to 0, as before the first step of a sequence. */
static inline void ${name}_reset(${name}_state *state)
{
    int i;
    for (i = 0; i < $n_states; i++)
        state->h[i] = 0;$reset
}

/* Process the ${NAME}_STEP_N_IN inputs of one step, and compute the ${NAME}_STEP_N_OUT outputs after it. If out is 0,
   only the states change. */
static inline void ${name}_step(${name}_state *state, const $real *in, $real *out)
{
    $body
    for (i = 0; i < ${NAME}_STEP_N_OUT; i++)
        out[i] = $output;
}

/* Process several steps, whose inputs and outputs follow one another in the arrays. */
static inline void ${name}_run(${name}_state *state, const $real *in, int steps, $real *out)
{
    for (; steps > 0; steps--, in += ${NAME}_STEP_N_IN, out += ${NAME}_STEP_N_OUT)
        ${name}_step(state, in, out);
}

/* Compute the outputs for a sequence$sequence. */
static inline void ${name}_predict(const $real *in, ${parameter}$real *out)
{
    static ${name}_state state;
    ${declaration}${name}_reset(&state);
    for ($start; steps > 1; steps--, in += ${NAME}_STEP_N_IN$advance)
        ${name}_step(&state, in, $early_out);
    ${name}_step(&state, in, out);
}
"""
STREAM_REMARK = """

   Single steps of a sequence: ${name}_reset(&state) sets the states of the layers to 0, and
   ${name}_step(&state, in, out) computes the outputs after each step. A program may have several states."""
# C code for convolutions with ring buffers: a member of the struct of states, and the loop that resets it.
INDICES = """
    int oldest[$n]; /* index of the oldest step in each ring buffer */"""
RESET_INDICES = """
    for (i = 0; i < $n; i++)
        state->oldest[i] = 0;"""
# C statement after each network of an ensemble. The first network sets the sum of outputs, later ones add to it.
SUM = """\
for (i = 0; i < ${NAME}_N_OUT; i++)
        sum[i] $assignment ${source}[i];"""
CLASS_OF_LARGEST = """\
/* Return the index of the predicted class, whose name is in ${name}_labels: that of the largest output$of_step. */
static inline int ${name}_class(const $real *out)
{
    int best = 0;
    for (int i = 1; i < $n_classes; i++)
        best = (out[i] > out[best]) ? i : best;
    return best;
}
"""
CLASS_OF_THRESHOLD = """\
/* Return the index of the predicted class, whose name is in ${name}_labels: 1 if the output is at least $threshold. */
static inline int ${name}_class(const $real *out)
{
    return out[0] >= $threshold;
}
"""
SELF_TEST = """\
/* Return 0 if all outputs for a test row are as at export, else the number of the first that differs, from 1 on. */
static inline int ${name}_self_test(void)
{
    static const $real in[$n_in] = $X;
    static const $real expected[$n_out] = $P;
    $real out[$n_out];
    int different = 0;
    ${name}_predict(in, ${steps}out);
    for (int i = $last_out; i >= 0; i--)
        if (!(fabs$f(out[i] - expected[i]) <= ($tolerance * (1.0$f + fabs$f(expected[i])))))
            different = i + 1;
    return different;
}
"""
CLASS_FUNCTIONS = {"multiclass": CLASS_OF_LARGEST, "binary": CLASS_OF_THRESHOLD}
# Description of the outputs in the header, by task of the network.
OUTPUTS = {
    "regression": "Outputs are predictions in the units of the targets.",
    "multiclass": "There is one output per class; the largest one marks the predicted class.",
    "binary": "A larger output makes the second class more likely.",
    "multilabel": "Each output is the probability that its label applies.",
}
# C operators for max and min of finite numbers. fmax and fmin would be slower because they handle NaN.
COMPARISONS = {"max": ">", "min": "<"}


def to_c(documents: Sequence[dict[str, Any]], name: str, dtype: str, predict: Callable[[Any], Any]) -> str:
    """Return the text of a C header that computes a network or an ensemble.

    Parameters
    ----------
    documents : sequence of dict
        Validated document of each network. Several networks form an ensemble, which predicts their mean output.
    name : str
        Prefix of all names in the header.
    dtype : {"float64", "float32"}
        Floating-point type of the C code.
    predict : callable
        Function from rows of raw inputs to rows of outputs, for the self-test.

    Raises
    ------
    ValueError
        `name` is not a C identifier, a number is outside the range of `dtype`, a layer is not supported, or a network
        with any number of steps cannot compute single steps.
    """
    programs = build_programs(documents, predict)
    if programs[0].any_steps and programs[0].stream_obstacle:
        raise ValueError(
            f"a network with Input(steps=None) must compute single steps in C, but {programs[0].stream_obstacle}; use "
            "a fixed number of steps"
        )
    source = Source(name, dtype, has_stream=programs[0].stream_obstacle is None)
    for program in programs:
        for operation in program.step_operations() if source.has_stream else program.operations:
            source.write(operation)
        if len(programs) > 1:
            source.add_to_sum(program.n_out)
    return source.header(programs[0], predict)


class Source(Writer):
    """Builder of a C header, which collects constant arrays, functions and function calls."""

    includes: ClassVar[tuple[str, ...]] = ("math.h",)
    templates: ClassVar[dict[str, str]] = FUNCTIONS

    def __init__(self, name: str, dtype: str, has_stream: bool = False) -> None:
        if not re.fullmatch(IDENTIFIER, name):
            raise ValueError(f"name must be a C identifier such as 'digits', got {name!r}")
        self.name, self.dtype, self.has_stream = name, dtype, has_stream
        self.real, self.f = ("float", "f") if dtype == "float32" else ("double", "")
        self.arrays: list[str] = []
        self.functions: dict[str, str] = {}
        self.calls: list[str] = []
        self.current = "in"  # name of the C array that the next operation reads
        # Required number of elements of each C array. Recurrent layers store states in h, and new states in next.
        self.buffers = {"a": 0, "b": 0, "sum": 0, "h": 0, "next": 0}
        self.n_states = 0  # number of states in the struct for single steps
        self.n_state_calls = 0  # number of `calls` up to the last layer with states; later calls compute only outputs
        self.n_ring_buffers = 0  # number of convolutions with states in the struct for single steps
        self.n_summed = 0  # number of ensemble members whose outputs were added to the sum
        self.constant_bytes = self.n_arrays = 0
        self.element_bytes = 4 if dtype == "float32" else 8

    def fill(self, template: str, **values: Any) -> str:
        """Return the text of a C template after replacing its placeholders by names and values."""
        names = {"name": self.name, "NAME": self.name.upper(), "real": self.real, "f": self.f}
        return Template(template).substitute(names, root=self.number(0.5**0.5), **values)

    def number(self, value: float) -> str:
        """Return a number as a C constant of the header's floating-point type, with enough digits to be exact."""
        text = f"{value:.9g}" if self.dtype == "float32" else repr(value)
        return (text if set(text) & set(".e") else text + ".0") + self.f

    def numbers(self, values: Sequence[float]) -> str:
        """Return the C initializer of an array of numbers, which are rounded to the dtype of the header."""
        return initializer([self.number(value) for value in round_to_dtype(values, self.dtype)])

    def array(self, kind: str, values: Sequence[float]) -> str:
        """Add a constant C array of numbers, and return its name."""
        self.constant_bytes += len(values) * self.element_bytes
        return self.add_array(kind, self.real, len(values), self.numbers(values))

    def add_array(self, kind: str, c_type: str, size: int, numbers: str) -> str:
        """Add a constant C array with an initializer, and return its name."""
        name = f"{self.name}_{kind}{self.n_arrays}"
        self.arrays.append(f"static const {c_type} {name}[{size}] = {numbers};\n")
        self.n_arrays += 1
        return name

    def texts(self, kind: str, labels: Sequence[Any]) -> str:
        """Return the C definition of a constant array of strings."""
        return f"static const char *const {self.name}_{kind}[{len(labels)}] = {initializer(map(literal, labels))};\n"

    def function(self, key: str) -> str:
        """Add a C function from `templates` if it is not in the header yet, and return its name."""
        self.functions.setdefault(key, self.fill(self.templates[key]))
        return f"{self.name}_{key}"

    def call(
        self, function: str, before: Sequence[Any], size: int, after: Sequence[Any], in_place: bool = False
    ) -> None:
        """Add the call of a C function that reads the current array and writes `size` results.

        The arguments of the call are the current array, the items of `before`, the array for the results, and the items
        of `after`. If `in_place` is true and the current array is a buffer, the results overwrite it. Otherwise they
        are written to the other buffer, which becomes the current array.
        """
        result = self.current if in_place and self.current in ("a", "b", "out") else "b" if self.current == "a" else "a"
        self.buffers[result] = max(self.buffers[result], size)
        arguments = ", ".join(map(str, [self.current, *before, result, *after]))
        self.calls.append(f"{self.function(function)}({arguments});")
        self.current = result

    def add_to_sum(self, n_out: int) -> None:
        """Add the C statement that adds the outputs of a network to the sum of the ensemble."""
        self.buffers["sum"] = n_out
        self.calls.append(self.fill(SUM, assignment="+=" if self.n_summed else "=", source=self.current))
        self.current, self.n_summed = "in", self.n_summed + 1

    # ------------------------------------------------------------------------------------------ code of operations

    def scale(self, operation: op.Scale) -> None:
        """Add C function calls to the header that compute (x - minus) * times + plus."""
        n = prod(operation.output_shape)
        for function, numbers in scale_functions(operation, self.dtype):
            self.call(function, [self.array(function, numbers), len(numbers)], n, [n], in_place=True)

    def weights(self, operation: op.MatMul | op.StepMatMul | op.Conv) -> tuple[str, str]:
        """Add the C arrays of the weights W and biases b, and return their names.

        W is stored with one row per output, so that the terms of a sum are contiguous.
        """
        W = self.array("W", [number for column in zip(*operation.W, strict=True) for number in column])
        return W, "0" if operation.b is None else self.array("b", operation.b)

    def mat_mul(self, operation: op.MatMul | op.StepMatMul) -> None:
        """Add a C function call to the header that computes a dense layer without activation: x @ W + b."""
        n, m = len(operation.W), len(operation.W[0])
        self.call("dense", [n, *self.weights(operation)], m, [m])

    def step_mat_mul(self, operation: op.StepMatMul) -> None:
        """Add a C function call to the header that computes a dense layer for one step, or for each step."""
        if len(operation.input_shape) == 1:
            self.mat_mul(operation)
            return
        self.function("dense")
        before = [*operation.input_shape, *self.weights(operation)]
        self.call("dense_steps", before, prod(operation.output_shape), operation.output_shape[1:])

    def recur(self, operation: op.Recur) -> None:
        """Add C function calls to the header that compute a recurrent layer for one step, or for a sequence."""
        cell, m, n = self.cell(operation), operation.directions[0].units, operation.input_shape[-1]
        n_states = 2 * m if operation.cell == "lstm" else m
        self.buffers["next"] = max(self.buffers["next"], m)
        parameters = [", ".join(self.direction(direction)) for direction in operation.directions]
        if len(operation.input_shape) == 1:
            h = f"state->h + {self.n_states}" if self.n_states else "state->h"
            self.calls.append(f"{self.name}_{cell}_step({self.current}, {n}, {parameters[0]}, {h}, next, {m});")
            self.current, self.n_states, self.n_state_calls = h, self.n_states + n_states, len(self.calls)
            return
        self.functions.setdefault(cell, self.fill(RECUR, cell=cell))
        self.buffers["h"] = max(self.buffers["h"], n_states)
        result, steps = "b" if self.current == "a" else "a", operation.input_shape[0]
        self.buffers[result] = max(self.buffers[result], prod(operation.output_shape))
        stride = operation.output_shape[-1] if operation.sequences else 0
        for i, direction in enumerate(operation.directions):
            before = f"{self.current}, {steps}, {n}, {parameters[i]}, {int(direction.reverse)}, h, {n_states}, next"
            out = f"{result} + {i * m}" if i else result
            self.calls.append(f"{self.name}_{cell}({before}, {out}, {m}, {stride});")
        self.current = result

    def cell(self, operation: op.Recur) -> str:
        """Add the C function for one step of a recurrent layer, and return its name without prefix and "_step"."""
        self.function("dot")
        if operation.cell != "simple_rnn":
            self.function("sigmoid_of")
            self.function(f"{operation.cell}_step")
            return operation.cell
        cell = f"simple_rnn_{operation.activation}"
        self.activation(operation.activation)
        step = self.fill(SIMPLE_RNN_STEP, cell=cell, activation=operation.activation)
        self.functions.setdefault(f"{cell}_step", step)
        return cell

    def direction(self, direction: op.Direction) -> tuple[str, str, str]:
        """Add the C arrays W, U and b of a direction, ordered by unit, and return their names."""
        m = direction.units
        columns = [[*zip(*matrix, strict=True)] for matrix in (direction.W, direction.U)]
        W, U = ([number for j in range(m) for column in part[j::m] for number in column] for part in columns)
        rows = direction.b
        b = "0" if rows is None else self.array("b", [number for j in range(m) for row in rows for number in row[j::m]])
        return self.array("W", W), self.array("U", U), b

    def conv(self, operation: op.Conv) -> None:
        """Add a C function call to the header that computes a convolution, or one step of a causal convolution."""
        if self.has_stream:
            self.conv_step(operation)
            return
        top, left, _, _ = operation.pad
        before = [*operation.input_shape, *self.weights(operation), *operation.window, *operation.stride, top, left]
        self.call("conv", before, prod(operation.output_shape), operation.output_shape)

    def conv_step(self, operation: op.Conv) -> None:
        """Add a C function call to the header that computes one step of a causal convolution."""
        n, m, size = operation.input_shape[2], operation.output_shape[2], prod(operation.window)
        if size == 1:
            self.call("dense", [n, *self.weights(operation)], m, [m])
            return
        self.function("dot")
        state = [f"state->h + {self.n_states}", f"state->oldest + {self.n_ring_buffers}"]
        self.call("conv_step", [n, *self.weights(operation), size, operation.dilation, *state], m, [m])
        self.n_states, self.n_state_calls = self.n_states + operation.n_states, len(self.calls)
        self.n_ring_buffers += 1

    def pool(self, operation: op.MaxPool | op.AvgPool) -> None:
        """Add a C function call to the header that computes a max-pool or an average pool."""
        function = "max_pool" if isinstance(operation, op.MaxPool) else "avg_pool"
        before = [*operation.input_shape[1:], *operation.window, *operation.stride]
        self.call(function, before, prod(operation.output_shape), operation.output_shape[:2])

    def flatten(self, operation: op.Flatten) -> None:
        """Add no code: images and sequences are stored in the order of their flattened values."""

    def reshape(self, operation: op.Reshape) -> None:
        """Add no code: the order of the numbers does not change."""

    def activate(self, operation: op.Activate) -> None:
        """Add a C function call to the header that replaces the current array by its activation."""
        function, n = self.activation(operation.name), prod(operation.output_shape)
        if len(operation.output_shape) == 2 and not activations.ROWS[operation.name].elementwise:
            m = operation.output_shape[1]
            self.calls.append(f"for (i = 0; i < {n}; i += {m})\n        {function}({self.current} + i, {m});")
        else:
            self.calls.append(f"{function}({self.current}, {n});")

    def activation(self, name: str) -> str:
        """Add the C function of an activation if it is not in the header yet, and return its name."""
        row = activations.ROWS[name]
        if not row.elementwise:
            return self.function(name)
        if name not in self.functions:
            formula = formulas.to_c(row.f, self.function_call, self.number)
            self.functions[name] = self.fill(ELEMENTWISE, activation=name, formula=formula)
        return f"{self.name}_{name}"

    def sort(self, operation: op.Sort) -> None:
        """Add a C function call to the header that sorts the quantiles of each target in the current array."""
        n = prod(operation.output_shape)
        self.calls.append(f"{self.function('sort')}({self.current}, {n}, {n // operation.groups});")

    def function_call(self, function: str, *arguments: str) -> str:
        """Return the C expression for a function call in the formula of an activation."""
        a, *others = arguments
        if function in COMPARISONS:
            b = others[0]
            return f"({a} {COMPARISONS[function]} {b} ? {a} : {b})"
        name = self.function(f"{function}_of") if f"{function}_of" in FUNCTIONS else function + self.f
        return f"{name}({a})"

    # ------------------------------------------------------------------------------------------ text of the header

    def buffer_definitions(self) -> list[str]:
        """Return the C definitions of all buffers."""
        return [f"static {self.real} {name}[{n}];" for name, n in self.buffers.items() if n]

    @property
    def buffer_bytes(self) -> int:
        """Total size of the static buffers of the header in bytes, including the states that `predict` uses."""
        return (sum(self.buffers.values()) + self.n_states) * self.element_bytes + 4 * self.n_ring_buffers

    def predict_functions(self, program: Program) -> str:
        """Return the C function `predict`, with the functions for single steps if the network supports them."""
        output = f"sum[i] / {self.number(float(self.n_summed))}" if self.n_summed else f"{self.current}[i]"
        body = [*self.buffer_definitions(), "int i;", *self.calls]
        if not self.n_states:
            return self.fill(PREDICT, body="\n    ".join(body), output=output)
        has_steps = len(program.output_shape) == 2
        body.insert(len(body) - len(self.calls) + self.n_state_calls, "if (!out)\n        return;")
        return self.fill(
            STREAM,
            body="\n    ".join(body),
            output=output,
            sequence=" of at least one step" if program.any_steps else self.fill(" of ${NAME}_N_IN inputs"),
            parameter="int steps, " if program.any_steps else "",
            declaration="" if program.any_steps else "int steps;\n    ",
            start="" if program.any_steps else f"steps = {program.shape[0]}",
            step_n_in=program.shape[1],
            step_n_out=program.output_shape[-1],
            n_states=self.n_states,
            indices=self.fill(INDICES, n=self.n_ring_buffers) if self.n_ring_buffers else "",
            reset=self.fill(RESET_INDICES, n=self.n_ring_buffers) if self.n_ring_buffers else "",
            advance=self.fill(", out += ${NAME}_STEP_N_OUT") if has_steps else "",
            early_out="out" if has_steps else "0",
        )

    def header(self, program: Program, predict: Callable[[Any], Any], remark: str = "") -> str:
        """Return the text of the C header for all operations that were added.

        Parameters
        ----------
        program : Program
            Description of inputs and outputs, with the self-test. Its operations are not used.
        predict : callable
            Function from rows of raw inputs to rows of outputs, for the self-test.
        remark : str
            Text that is appended to the comment at the beginning of the header.
        """
        if self.n_states:
            remark += self.fill(STREAM_REMARK)
        elif program.has_recurrent_layers:
            remark += f"\n   There are no functions for single steps of a sequence: {program.stream_obstacle}."
        in_size, out_size, steps = self.fill("${NAME}_N_IN"), self.fill("${NAME}_N_OUT"), ""
        if program.any_steps:
            in_size, out_size = self.fill("100 * ${NAME}_STEP_N_IN"), self.fill("${NAME}_STEP_N_OUT")
            out_size, steps = f"100 * {out_size}" if len(program.output_shape) == 2 else out_size, "100, "
        parts = [
            self.fill(
                HEADER,
                title=program.title,
                version=__version__,
                order=INPUT_ORDERS[len(program.shape)],
                outputs=OUTPUTS[program.task],
                includes="\n".join(f"#include <{name}>" for name in self.includes),
                bytes=self.buffer_bytes,
                constants=self.constant_bytes,
                remark=remark,
                in_size=in_size,
                out_size=out_size,
                steps=steps,
            ),
            *([] if program.any_steps else [self.fill(SIZES, n_in=program.n_in, n_out=program.n_out)]),
            *self.arrays,
        ]
        if program.task in CLASS_FUNCTIONS:
            parts.append(self.texts("labels", program.labels))
        parts += self.functions.values()
        parts.append(self.predict_functions(program))
        if program.task in CLASS_FUNCTIONS:
            of_step = " of the step whose outputs begin at out" if len(program.output_shape) == 2 else ""
            values = {"n_classes": program.output_shape[-1], "of_step": of_step}
            threshold = self.number(program.threshold)
            parts.append(self.fill(CLASS_FUNCTIONS[program.task], threshold=threshold, **values))
        if program.self_test is not None:
            X = round_to_dtype(program.self_test["X"], self.dtype)
            P = predict(program.row(X))[0].ravel().tolist()
            # Use the larger tolerance, because the expected outputs P may have a lower precision than the header.
            tolerance = self.number(max(TOLERANCES[self.dtype], TOLERANCES[program.dtype]))
            sizes: dict[str, Any] = {"n_in": len(X), "n_out": len(P), "last_out": len(P) - 1}
            sizes["steps"] = f"{N_TEST_STEPS}, " if program.any_steps else ""
            parts.append(self.fill(SELF_TEST, X=self.numbers(X), P=self.numbers(P), tolerance=tolerance, **sizes))
        return "\n".join([*parts, f"#endif /* {self.name.upper()}_H */\n"])


def initializer(values: Iterable[str]) -> str:
    """Return the C initializer of an array, with line breaks between its values."""
    return "{\n    " + wrap_values(values, "\n    ") + "\n}"


def literal(label: Any) -> str:
    """Return a label as a C string literal in UTF-8.

    Bytes that are not printable ASCII characters are written as octal escapes. So are quotes, backslashes, and question
    marks, which might form trigraphs.

    Raises
    ------
    ValueError
        The label has a NUL character, which would end a C string.
    """
    text = {True: "true", False: "false"}.get(label, str(label)) if type(label) is bool else str(label)
    if "\0" in text:
        raise ValueError(
            f"labels and names must not contain NUL characters, which end C strings, got {text!r}; "
            "rename this label before training"
        )
    plain = set(range(32, 127)) - set(b'"\\\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in utf8(text)) + '"'


def name_from_path(path: Any) -> str:
    """Derive the prefix of all names in a C header from its path: "digits" for models/digits.h."""
    stem = re.sub(r"[^A-Za-z0-9_]", "_", os.path.splitext(os.path.basename(os.fsdecode(path)))[0])
    return stem if re.fullmatch(IDENTIFIER, stem) else f"net_{stem}"
