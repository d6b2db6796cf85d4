"""Writer of modules in Python and JavaScript: code that both languages share.

An exported module has constants, the functions that its layers need, and a function `predict`. Each statement of
`predict` assigns the outputs of an operation to the variable x.
"""

from __future__ import annotations

import re
from textwrap import indent
from typing import TYPE_CHECKING, Any

from nnc._interop.program import INPUT_ORDERS, Writer, build_programs, scale_functions, wrap_values
from nnc._registry import activations
from nnc._serialization.text import TOLERANCES
from nnc._utils.checks import pluralize
from nnc._utils.value import Value
from nnc._version import __version__
from nnc.layers import operations as op

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nnc._interop.program import Program


class Language(Value):
    """Syntax of a programming language, and functions for exported modules in this language.

    Attributes
    ----------
    functions : dict of str
        Source code of each function by name, including the functions that formulas of activations call.
    constant, statement, elementwise : str
        Templates of a constant, a statement of `predict` and an elementwise activation, with the placeholders {name},
        {value}, {call} and {formula}.
    state_step : str
        Statements for one step of a recurrent layer, with the placeholders {function}, {i} (index of the layer),
        {arguments} and {units}.
    conv_step : str
        Statement for one step of a causal convolution, with the placeholders {i} (index of the layer) and {arguments}.
    stream : str
        Class that processes single steps, with the placeholders {statements}, {sizes} (number of states of each
        layer) and {n} (number of features).
    ensemble_start, member_end, ensemble_mean : str
        Statements of an ensemble. `ensemble_start` stores the inputs. `member_end` follows the statements of each
        network: it stores the outputs of the network and restores the inputs. `ensemble_mean` assigns the mean of all
        outputs to x.
    null : str
        Literal for the biases of a layer without biases.
    formula : callable
        Function that translates a formula of the net input z (nnc/_registry/formulas.py) to an expression.
    assemble : callable
        Function that joins a Program and the texts of constants, functions, statements and the class for single steps
        to the text of a module.
    """

    functions: dict[str, str]
    constant: str
    statement: str
    elementwise: str
    state_step: str
    conv_step: str
    stream: str
    ensemble_start: str
    member_end: str
    ensemble_mean: str
    null: str
    formula: Callable[[str], str]
    assemble: Callable[[Program, str, str, str, str], str]


def to_script(language: Language, documents: Sequence[dict[str, Any]], predict: Callable[[Any], Any]) -> str:
    """Return the text of a module that computes a network or an ensemble.

    Parameters
    ----------
    language : Language
        Programming language of the module.
    documents : sequence of dict
        Validated document of each network. Several networks form an ensemble, which predicts their mean output.
    predict : callable
        Function from rows of raw inputs to rows of outputs, for the self-test.

    Raises
    ------
    ValueError
        A layer is not supported.
    """
    programs = build_programs(documents, predict)
    has_stream, is_ensemble = programs[0].stream_obstacle is None, len(programs) > 1
    script = Script(language, has_stream)
    script.statements += [language.ensemble_start] * is_ensemble
    for program in programs:
        for operation in program.operations:
            script.write(operation)
        script.statements += [language.member_end] * is_ensemble
    script.statements += [language.ensemble_mean] * is_ensemble
    parts = ("\n".join(script.constants), "\n\n".join(script.functions.values()), "\n".join(script.statements))
    return language.assemble(programs[0], *parts, script.stream(programs[0].shape[-1]) if has_stream else "")


class Script(Writer):
    """Builder of an exported module, which collects constants, functions and statements."""

    def __init__(self, language: Language, has_stream: bool) -> None:
        self.language, self.has_stream = language, has_stream
        self.constants: list[str] = []
        self.functions: dict[str, str] = {}
        self.statements: list[str] = []
        self.step_statements: list[str] = []  # statements for a single step of a sequence
        self.state_sizes: list[int] = []  # number of states of each recurrent layer and convolution

    def array(self, kind: str, values: Sequence[Any]) -> str:
        """Add a constant list of numbers to the module, and return its name."""
        name = f"{kind}{len(self.constants)}"
        self.constants.append(self.language.constant.format(name=name, value=list_literal(values)))
        return name

    def function(self, name: str) -> None:
        """Add a function to the module, with all functions that it calls."""
        if name not in self.functions:
            self.functions[name] = self.with_dependencies(self.language.functions[name], name)

    def with_dependencies(self, text: str, name: str) -> str:
        """Strip `text`, the source of the function `name`; add all functions that it calls to the module."""
        for other in self.language.functions:
            if other != name and re.search(rf"\b{other}\(", text):
                self.function(other)
        return text.strip()

    def statement(self, function: str, *arguments: Any) -> str:
        """Return the statement x = function(x, *arguments), and add the function to the module."""
        if function in self.language.functions:
            self.function(function)
        call = f"{function}({', '.join(map(str, ['x', *arguments]))})"
        return self.language.statement.format(call=call)

    def call(self, function: str, *arguments: Any) -> None:
        """Add the statement x = function(x, *arguments) to `predict` and to the statements for single steps."""
        self.statements.append(self.statement(function, *arguments))
        self.step_statements.append(self.statements[-1])

    def call_for_each_step(self, n: int, function: str, *arguments: Any) -> None:
        """Add a statement to `predict` that calls a function for each step, a group of n numbers of x."""
        self.step_statements.append(self.statement(function, *arguments))
        self.statements.append(self.statement("eachStep", n, function, *arguments))

    def stream(self, features: int) -> str:
        """Return the class that processes single steps with this number of features."""
        indentation = re.match(" *", self.language.statement)
        assert indentation is not None
        statements = indent("\n".join(self.step_statements), indentation[0])
        return self.language.stream.format(statements=statements, sizes=self.state_sizes, n=features)

    # ------------------------------------------------------------------------------------------ code of operations

    def scale(self, operation: op.Scale) -> None:
        """Add statements to the exported function `predict` that compute (x - minus) * times + plus."""
        for function, numbers in scale_functions(operation, "float64"):
            self.call(function, self.array("numbers", numbers))

    def weights(self, operation: op.MatMul | op.StepMatMul | op.Conv) -> tuple[str, str]:
        """Add the weights W, with one row per output, and the biases b as constant lists, and return their names."""
        W = self.array("W", [*zip(*operation.W, strict=True)])
        return W, self.language.null if operation.b is None else self.array("b", operation.b)

    def mat_mul(self, operation: op.MatMul) -> None:
        """Add a statement to the exported function `predict` that computes a dense layer: x @ W + b."""
        self.call("dense", *self.weights(operation))

    def step_mat_mul(self, operation: op.StepMatMul) -> None:
        """Add a statement to the exported function `predict` that computes a dense layer for each step."""
        self.call_for_each_step(operation.input_shape[-1], "dense", *self.weights(operation))

    def recur(self, operation: op.Recur) -> None:
        """Add a statement to the exported function `predict` that computes a recurrent layer."""
        function = "simpleRNN" if operation.cell == "simple_rnn" else operation.cell
        self.function(function)
        units, directions = operation.directions[0].units, []
        size = units * (2 if operation.cell == "lstm" else 1)
        for direction in operation.directions:
            W, U = (self.array(kind, [*zip(*getattr(direction, kind), strict=True)]) for kind in ("W", "U"))
            arguments = [W, U, self.language.null if direction.b is None else self.array("b", direction.b)]
            if operation.cell == "simple_rnn":
                self.activation(operation.activation)
                arguments.append(operation.activation)
            directions.append(f"[{', '.join([function, str(int(direction.reverse)), str(size), *arguments])}]")
        sequences = int(operation.sequences)
        recur = self.statement("recur", operation.input_shape[1], sequences, f"[{', '.join(directions)}]")
        self.statements.append(recur)
        values = {"function": function, "i": len(self.state_sizes), "arguments": ", ".join(arguments), "units": units}
        self.step_statements.append(self.language.state_step.format(**values))
        self.state_sizes.append(size)

    def conv(self, operation: op.Conv) -> None:
        """Add a statement to the exported function `predict` that computes a convolution."""
        sizes = (operation.input_shape, operation.window, operation.stride, operation.pad[:2], operation.output_shape)
        weights = self.weights(operation)
        self.statements.append(self.statement("conv", *weights, *map(list_literal, sizes)))
        if self.has_stream:
            self.function("convStep")
            arguments = ", ".join(map(str, [*weights, operation.dilation]))
            self.step_statements.append(self.language.conv_step.format(i=len(self.state_sizes), arguments=arguments))
            self.state_sizes.append(operation.n_states)

    def pool(self, operation: op.MaxPool | op.AvgPool) -> None:
        """Add a statement to the exported function `predict` that computes a max-pool or an average pool."""
        function = "maxPool" if isinstance(operation, op.MaxPool) else "avgPool"
        self.call(
            function,
            *map(list_literal, (operation.input_shape, operation.window, operation.stride, operation.output_shape)),
        )

    def flatten(self, operation: op.Flatten) -> None:
        """Add no code: images and sequences are stored in the order of their flattened values."""

    def reshape(self, operation: op.Reshape) -> None:
        """Add no code: the order of the numbers does not change."""

    def activate(self, operation: op.Activate) -> None:
        """Add a statement to the exported function `predict` that computes an activation."""
        self.activation(operation.name)
        if len(operation.input_shape) == 2 and not activations.ROWS[operation.name].elementwise:
            self.call_for_each_step(operation.input_shape[1], operation.name)
        else:
            self.call(operation.name)

    def activation(self, name: str) -> None:
        """Add the function of an elementwise activation to the module."""
        row = activations.ROWS[name]
        if row.elementwise and name not in self.functions:
            text = self.language.elementwise.format(name=name, formula=self.language.formula(row.f))
            self.functions[name] = self.with_dependencies(text, name)

    def sort(self, operation: op.Sort) -> None:
        """Add a statement to the exported function `predict` that sorts the quantiles of each target."""
        self.call("sortGroups", operation.groups)


def header_values(program: Program) -> dict[str, Any]:
    """Return the values of the placeholders in the header comments of Python and JavaScript modules."""
    return {
        "title": program.title,
        "version": __version__,
        "n_in": program.n_in,
        "n_out": program.n_out,
        "for_each_step": for_each_step(program),
        "outputs": pluralize(program.n_out, "output") + for_each_step(program, len(program.output_shape) == 2),
        "meaning": ", the probability of each label" if program.task == "multilabel" else "",
        "order": INPUT_ORDERS[len(program.shape)],
    }


def for_each_step(program: Program, condition: bool = True) -> str:
    """Return " for each step" for a network with any number of steps if `condition` is true, otherwise ""."""
    return " for each step" if program.any_steps and condition else ""


def self_test_values(self_test: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Return the values of the placeholders in the self-test of a module."""
    return {"X": list_literal(self_test["X"]), "P": list_literal(self_test["P"]), "tolerance": TOLERANCES[dtype]}


def list_literal(values: Sequence[Any]) -> str:
    """Return a list of numbers, or a list of such lists, as a literal that is valid in Python and in JavaScript."""
    if values and isinstance(values[0], (tuple, list)):
        return "[\n" + ",\n".join(list_literal(row) for row in values) + "\n]"
    return f"[{wrap_values(map(repr, values))}]"
