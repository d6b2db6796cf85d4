"""Writer of modules in Python and JavaScript: code that both languages share.

An exported module has constants, the functions that its layers need, and a function `predict`. Each statement of
`predict` assigns the outputs of an operation to the variable x.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nnc._interop.program import INPUT_ORDERS, Writer, build_programs, scale_functions, wrap_values
from nnc._registry import activations
from nnc._serialization.text import TOLERANCES
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
    ensemble_start, member_end, ensemble_mean : str
        Statements of an ensemble. `ensemble_start` stores the inputs. `member_end` follows the statements of each
        network: it stores the outputs of the network and restores the inputs. `ensemble_mean` assigns the mean of all
        outputs to x.
    null : str
        Literal for the biases of a layer without biases.
    formula : callable
        Function that translates a formula of the net input z (nnc/_registry/formulas.py) to an expression.
    assemble : callable
        Function that joins a Program and the texts of constants, functions and statements to the text of a module.
    """

    functions: dict[str, str]
    constant: str
    statement: str
    elementwise: str
    ensemble_start: str
    member_end: str
    ensemble_mean: str
    null: str
    formula: Callable[[str], str]
    assemble: Callable[[Program, str, str, str], str]


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
    script, is_ensemble = Script(language), len(programs) > 1
    script.statements += [language.ensemble_start] * is_ensemble
    for program in programs:
        for operation in program.operations:
            script.write(operation)
        script.statements += [language.member_end] * is_ensemble
    script.statements += [language.ensemble_mean] * is_ensemble
    parts = ("\n".join(script.constants), "\n\n".join(script.functions.values()), "\n".join(script.statements))
    return language.assemble(programs[0], *parts)


class Script(Writer):
    """Builder of an exported module, which collects constants, functions and statements."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.constants: list[str] = []
        self.functions: dict[str, str] = {}
        self.statements: list[str] = []

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

    def call(self, function: str, *arguments: Any) -> None:
        """Add the statement x = function(x, *arguments) to the exported function `predict`."""
        if function in self.language.functions:
            self.function(function)
        call = f"{function}({', '.join(map(str, ['x', *arguments]))})"
        self.statements.append(self.language.statement.format(call=call))

    # ------------------------------------------------------------------------------------------ code of operations

    def scale(self, operation: op.Scale) -> None:
        """Add statements to the exported function `predict` that compute (x - minus) * times + plus."""
        for function, numbers in scale_functions(operation, "float64"):
            self.call(function, self.array("numbers", numbers))

    def weights(self, operation: op.MatMul | op.Conv) -> tuple[str, str]:
        """Add the weights W, with one row per output, and the biases b as constant lists, and return their names."""
        W = self.array("W", [*zip(*operation.W, strict=True)])
        return W, self.language.null if operation.b is None else self.array("b", operation.b)

    def mat_mul(self, operation: op.MatMul) -> None:
        """Add a statement to the exported function `predict` that computes a dense layer: x @ W + b."""
        self.call("dense", *self.weights(operation))

    def conv(self, operation: op.Conv) -> None:
        """Add a statement to the exported function `predict` that computes a convolution."""
        sizes = (operation.input_shape, operation.window, operation.stride, operation.pad[:2], operation.output_shape)
        self.call("conv", *self.weights(operation), *map(list_literal, sizes))

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
        row = activations.ROWS[operation.name]
        if row.elementwise and operation.name not in self.functions:
            text = self.language.elementwise.format(name=operation.name, formula=self.language.formula(row.f))
            self.functions[operation.name] = self.with_dependencies(text, operation.name)
        self.call(operation.name)

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
        "outputs": "1 output" if program.n_out == 1 else f"{program.n_out} outputs",
        "meaning": ", the probability of each label" if program.task == "multilabel" else "",
        "order": INPUT_ORDERS[len(program.shape)],
    }


def self_test_values(self_test: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Return the values of the placeholders in the self-test of a module."""
    return {"X": list_literal(self_test["X"]), "P": list_literal(self_test["P"]), "tolerance": TOLERANCES[dtype]}


def list_literal(values: Sequence[Any]) -> str:
    """Return a list of numbers, or a list of such lists, as a literal that is valid in Python and in JavaScript."""
    if values and isinstance(values[0], (tuple, list)):
        return "[\n" + ",\n".join(list_literal(row) for row in values) + "\n]"
    return f"[{wrap_values(map(repr, values))}]"
