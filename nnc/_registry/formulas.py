"""Formulas of activations and losses as texts, which are displayed, evaluated with NumPy or translated for exports.

A formula is an expression of Python with two differences: `^` is the power, and `x if condition else y` is evaluated
elementwise. It consists of variables and the functions of `_array_functions`, which avoid overflow and loss of digits.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


COMPARISONS = (">", ">=", "<", "==")  # operators whose result is true or false


def to_template(text: str) -> str:
    """Return the formula as a format string with a field for each variable, and |x| in place of abs(x)."""
    return re.sub(r"\b([acpyz])\b", r"{\1}", re.sub(r"\babs\(([^()]*)\)", r"|\1|", text))


def to_c(text: str, call: Callable[..., str], number: Callable[[float], str]) -> str:
    """Return the formula in the syntax of C, which JavaScript shares.

    Parameters
    ----------
    text : str
        The formula.
    call : callable
        Returns the text of a function call, given the name of the function and the texts of its arguments.
    number : callable
        Returns the text of a constant.
    """

    def operator(sign: str, *operands: str) -> str:
        if sign == "if":
            return "({} ? {} : {})".format(*operands)
        if len(operands) == 1:
            return f"{sign}{operands[0]}"
        left, right = operands
        return f"{left} {sign} {right}" if sign in COMPARISONS else f"({left} {sign} {right})"

    translated = translate(text, str, number, operator, call)
    return translated[1:-1] if translated.startswith("(") and translated.endswith(")") else translated


def translate(
    text: str,
    name: Callable[[str], str],
    number: Callable[[float], str],
    operator: Callable[..., str],
    call: Callable[..., str],
) -> str:
    """Return the formula in another language, translated from its syntax tree.

    Parameters
    ----------
    text : str
        The formula.
    name, number : callable
        Return the text of a variable and of a constant.
    operator : callable
        Returns the text of an operation, given its sign and the texts of its operands. The sign "if" has the operands
        condition, value if true and value if false.
    call : callable
        Returns the text of a function call, given the name of the function and the texts of its arguments.
    """
    import ast

    signs = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.USub: "-"}
    signs |= {ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.Eq: "=="}

    def convert(node: Any) -> str:
        if isinstance(node, ast.BinOp):
            return operator(signs[type(node.op)], convert(node.left), convert(node.right))
        if isinstance(node, ast.UnaryOp):
            if isinstance(node.operand, ast.Constant):
                return number(-float(node.operand.value))  # type: ignore[arg-type]
            return operator(signs[type(node.op)], convert(node.operand))
        if isinstance(node, ast.IfExp):
            return operator("if", convert(node.test), convert(node.body), convert(node.orelse))
        if isinstance(node, ast.Compare):
            return operator(signs[type(node.ops[0])], convert(node.left), convert(node.comparators[0]))
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            return call(node.func.id, *map(convert, node.args))
        return name(node.id) if isinstance(node, ast.Name) else number(float(node.value))

    return convert(ast.parse(text, mode="eval").body)


@cache
def compile_formula(text: str, variables: str) -> Callable[..., NDArray[Any]]:
    """Return the formula as a function of arrays or numbers.

    The result of the function is a new array with the shape of its first argument.

    Parameters
    ----------
    text : str
        The formula.
    variables : str
        Names of the arguments of the function in order, separated by spaces, such as "y p z c".
    """
    import ast

    import numpy as np

    class ReplaceIf(ast.NodeTransformer):
        """Syntax tree transformer that replaces `x if condition else y` by `where(condition, x, y)`."""

        def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
            self.generic_visit(node)
            return ast.Call(ast.Name("where", ast.Load()), [node.test, node.body, node.orelse], [])

    names = variables.split()
    tree = ast.parse(f"lambda {', '.join(names)}: {text.replace('^', '**')}", text, "eval")
    code = compile(ast.fix_missing_locations(ReplaceIf().visit(tree)), text, "eval")
    compute = eval(code, {"__builtins__": {}, **_array_functions()})

    def evaluate(*arguments: Any) -> NDArray[Any]:
        result = np.asarray(compute(*arguments))
        if result.shape != np.shape(arguments[0]):
            result = np.broadcast_to(result, np.shape(arguments[0]))
        return np.array(result, bool if result.dtype == bool else np.result_type(result, arguments[0]))

    return evaluate


@cache
def _array_functions() -> dict[str, Callable[..., Any]]:
    """Return the functions that formulas may call, by name."""
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
        "sin": np.sin,
        "cos": np.cos,
        "max": np.maximum,
        "min": np.minimum,
        "where": np.where,
        "sigmoid": lambda z: np.exp(-np.logaddexp(0, -z)),
        "softplus": lambda z: np.logaddexp(0, z),
        "log_cosh": lambda z: np.logaddexp(z, -z) - math.log(2),
        "Phi": lambda z: erfc(-z / math.sqrt(2)) / 2,  # distribution function of the standard normal distribution
        "phi": lambda z: np.exp(-z * z / 2) / math.sqrt(2 * math.pi),  # density of the standard normal distribution
        "softmax": softmax,  # softmax and log_softmax act on rows, other functions elementwise
        "log_softmax": lambda z: z - np.logaddexp.reduce(z, axis=1, keepdims=True),
    }
