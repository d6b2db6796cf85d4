"""Networks as modules of a language with lists: what Python and JavaScript have in common, which is nearly all.

A module has constants, the functions that its layers need, and `predict`, whose statements make x of x.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nnc._interop.program import Writer, programs, scale_steps, wrapped
from nnc._registry import activations
from nnc._serialization.text import TOLERANCES
from nnc._utils.value import Value
from nnc._version import __version__
from nnc.layers import operations as op

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nnc._interop.program import Program


class Language(Value):
    """What differs.

    Attributes
    ----------
    functions : dict
        The text of each function by its name, those that formulas of activations have included.
    constant, statement, elementwise : str
        With places {name}, {value}, {call} and {formula}.
    begin, between, mean : str
        Statements of an ensemble: before the first network; behind each, which keep x and make it what came in; and
        last what makes x of all that was kept.
    nothing : str
        What stands for no biases.
    formula : callable
        The text of a formula (nnc/_registry/formulas.py) of z.
    whole : callable
        The module, of the program, its constants, functions and statements.
    """

    functions: dict[str, str]
    constant: str
    statement: str
    elementwise: str
    begin: str
    between: str
    mean: str
    nothing: str
    formula: Callable[[str], str]
    whole: Callable[[Program, str, str, str], str]


def to_script(language: Language, documents: Sequence[dict[str, Any]], predict: Callable[[Any], Any]) -> str:
    """The text of a module that computes a checked document, or the mean of those of an ensemble, whose `predict` makes
    outputs of rows of raw inputs; ValueError where a kind of layer cannot be written."""
    made = programs(documents, predict)
    script, several = Script(language), len(made) > 1
    script.statements += [language.begin] * several
    for one in made:
        for step in one.operations:
            script.write(step)
        script.statements += [language.between] * several
    script.statements += [language.mean] * several
    parts = ("\n".join(script.constants), "\n\n".join(script.functions.values()), "\n".join(script.statements))
    return language.whole(made[0], *parts)


class Script(Writer):
    """The parts of a module, as they are added."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.constants: list[str] = []
        self.functions: dict[str, str] = {}
        self.statements: list[str] = []

    def array(self, what: str, values: Sequence[Any]) -> str:
        """Adds a constant; its name."""
        name = f"{what}{len(self.constants)}"
        self.constants.append(self.language.constant.format(name=name, value=listed(values)))
        return name

    def function(self, what: str) -> None:
        """Adds a function, and those that it calls."""
        if what not in self.functions:
            self.functions[what] = self.with_those_it_calls(self.language.functions[what], what)

    def with_those_it_calls(self, text: str, what: str) -> str:
        """The text of a function, once those that it calls are there."""
        for other in self.language.functions:
            if other != what and re.search(rf"\b{other}\(", text):
                self.function(other)
        return text.strip()

    def call(self, what: str, *arguments: Any) -> None:
        """Adds a statement."""
        if what in self.language.functions:
            self.function(what)
        call = f"{what}({', '.join(map(str, ['x', *arguments]))})"
        self.statements.append(self.language.statement.format(call=call))

    # ------------------------------------------------------------------------------------------ operations

    def scale(self, step: op.Scale) -> None:
        """(x - minus) * times + plus."""
        for what, numbers in scale_steps(step, "float64"):
            self.call(what, self.array("numbers", numbers))

    def weights(self, step: op.MatMul | op.Conv) -> tuple[str, str]:
        """The names of W, whose rows are outputs here, and of b."""
        W = self.array("W", [*zip(*step.W, strict=True)])
        return W, self.language.nothing if step.b is None else self.array("b", step.b)

    def mat_mul(self, step: op.MatMul) -> None:
        """x @ W + b."""
        self.call("dense", *self.weights(step))

    def conv(self, step: op.Conv) -> None:
        """The cross-correlation."""
        sizes = (step.below, step.window, step.stride, step.pad[:2], step.out)
        self.call("conv", *self.weights(step), *map(listed, sizes))

    def pool(self, step: op.MaxPool | op.AvgPool) -> None:
        """Add the call of a max-pool or an average pool."""
        what = "maxPool" if isinstance(step, op.MaxPool) else "avgPool"
        self.call(what, *map(listed, (step.below, step.window, step.stride, step.out)))

    def flatten(self, step: op.Flatten) -> None:
        """Nothing: numbers lie in this order."""

    def activate(self, step: op.Activate) -> None:
        """Number by number, or of the row."""
        row = activations.ROWS[step.name]
        if row.elementwise and step.name not in self.functions:
            text = self.language.elementwise.format(name=step.name, formula=self.language.formula(row.f))
            self.functions[step.name] = self.with_those_it_calls(text, step.name)
        self.call(step.name)


def of_network(made: Program) -> dict[str, Any]:
    """What the head of a module says, in either language."""
    return {
        "title": made.title,
        "version": __version__,
        "n_in": made.n_in,
        "n_out": made.n_out,
        "meaning": ", each the probability of a yes" if made.answer == "each" else "",
        "order": ", in the order of height, width and channel" if len(made.shape) == 3 else "",
    }


def of_test(test: dict[str, Any], dtype: str) -> dict[str, Any]:
    """What its self-test compares."""
    return {"X": listed(test["X"]), "P": listed(test["P"]), "tolerance": TOLERANCES[dtype]}


def listed(values: Sequence[Any]) -> str:
    """Numbers, or rows of numbers, as both languages write lists."""
    if values and isinstance(values[0], (tuple, list)):
        return "[\n" + ",\n".join(listed(row) for row in values) + "\n]"
    return f"[{wrapped(map(repr, values))}]"
