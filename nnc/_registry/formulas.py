"""The formulas of the rows: texts that people read, and that become functions of arrays.

A formula is an expression of Python with two liberties: `^` is the power, and `x if condition else y` chooses number by
number. Besides the variables it has the functions of `_of_arrays`, each of which is defined where its usual form would
overflow, or lose digits.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def to_template(text: str) -> str:
    """The formula as `str.format` takes it, a place for each variable, absolute values between bars."""
    return re.sub(r"\b([acpyz])\b", r"{\1}", re.sub(r"\babs\(([^()]*)\)", r"|\1|", text))


def to_c(text: str, call: Callable[..., str], number: Callable[[float], str]) -> str:
    """The formula in the syntax of C and its kin. `call` writes a function, given its name and arguments, `number` a
    constant."""

    def operator(sign: str, *of: str) -> str:
        if sign == "if":
            return "({} ? {} : {})".format(*of)
        if len(of) == 1:
            return f"{sign}{of[0]}"
        return f"{of[0]} {sign} {of[1]}" if sign in COMPARISONS else f"({of[0]} {sign} {of[1]})"

    made = translate(text, str, number, operator, call)
    return made[1:-1] if made.startswith("(") and made.endswith(")") else made


COMPARISONS = (">", ">=", "<", "==")


def translate(
    text: str,
    name: Callable[[str], str],
    number: Callable[[float], str],
    operator: Callable[..., str],
    call: Callable[..., str],
) -> str:
    """The formula put together in another language: from what `name` makes of variables and `number` of constants up.
    `operator` gets a sign and what it stands between, or "if", the condition and both choices; `call` a function and
    its arguments."""
    import ast

    signs = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.USub: "-"}
    signs |= {ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.Eq: "=="}

    def of(node: Any) -> str:
        if isinstance(node, ast.BinOp):
            return operator(signs[type(node.op)], of(node.left), of(node.right))
        if isinstance(node, ast.UnaryOp):
            if isinstance(node.operand, ast.Constant):
                return number(-float(node.operand.value))  # type: ignore[arg-type]
            return operator(signs[type(node.op)], of(node.operand))
        if isinstance(node, ast.IfExp):
            return operator("if", of(node.test), of(node.body), of(node.orelse))
        if isinstance(node, ast.Compare):
            return operator(signs[type(node.ops[0])], of(node.left), of(node.comparators[0]))
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            return call(node.func.id, *map(of, node.args))
        return name(node.id) if isinstance(node, ast.Name) else number(float(node.value))

    return of(ast.parse(text, mode="eval").body)


@cache
def compile_formula(text: str, variables: str) -> Callable[..., NDArray[Any]]:
    """The formula as a function of arrays, or of numbers, which variables ("y p z c") names in their order. What it
    returns is new, and has the shape of the first argument."""
    import ast

    import numpy as np

    class Choices(ast.NodeTransformer):
        def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
            self.generic_visit(node)
            return ast.Call(ast.Name("where", ast.Load()), [node.test, node.body, node.orelse], [])

    names = variables.split()
    tree = ast.parse(f"lambda {', '.join(names)}: {text.replace('^', '**')}", text, "eval")
    code = compile(ast.fix_missing_locations(Choices().visit(tree)), text, "eval")
    compute = eval(code, {"__builtins__": {}, **_of_arrays()})

    def on_arrays(*arguments: Any) -> NDArray[Any]:
        result = np.broadcast_to(compute(*arguments), np.shape(arguments[0]))
        return np.array(result, bool if result.dtype == bool else np.result_type(result, arguments[0]))

    return on_arrays


@cache
def _of_arrays() -> dict[str, Callable[..., Any]]:
    import math

    import numpy as np

    erfc = np.vectorize(math.erfc, otypes=[np.float64])

    def softmax(z: NDArray[Any]) -> NDArray[Any]:
        e: NDArray[Any] = np.exp(z - z.max(axis=1, keepdims=True))
        e /= e.sum(axis=1, keepdims=True)
        return e

    return {
        "abs": np.abs,
        "exp": np.exp,
        "expm1": np.expm1,
        "sign": np.sign,
        "tanh": np.tanh,
        "max": np.maximum,
        "min": np.minimum,
        "where": np.where,
        "sigmoid": lambda z: np.exp(-np.logaddexp(0, -z)),
        "softplus": lambda z: np.logaddexp(0, z),
        "log_cosh": lambda z: np.logaddexp(z, -z) - math.log(2),
        "Phi": lambda z: erfc(-z / math.sqrt(2)) / 2,  # the normal distribution, and its density
        "phi": lambda z: np.exp(-z * z / 2) / math.sqrt(2 * math.pi),
        "softmax": softmax,  # these two of a row of numbers
        "log_softmax": lambda z: z - np.logaddexp.reduce(z, axis=1, keepdims=True),
    }
