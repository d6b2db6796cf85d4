"""Recognition of activations that ONNX models compute by several operators.

A `Form` is the formula of a tensor as nested tuples, where ("x",) is the input of the activation. A sum is the tuple
("+", constant, terms), a product the tuple ("*", constant, factors). Terms and factors are flattened and sorted, so
that order and grouping do not matter. A skeleton is a formula without its constants.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from math import isfinite
from typing import TYPE_CHECKING, Any

from nnc._interop.onnx import COMPOSED, READ_COMPOSED, Graph
from nnc._interop.protobuf import parse
from nnc._interop.read_onnx_file import NODE, TENSOR_FIELDS, Constants

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Form = tuple[Any, ...]
X: Form = ("x",)
UNARY = ("Sigmoid", "Tanh", "Relu", "Exp", "Log", "Abs", "Neg", "Erf", "Softplus", "Sin")  # ONNX operators of one input
MAX_FORMS = 8  # maximum number of formulas of a tensor, each as a function of another earlier tensor x
TOLERANCES = {"float32": 5e-7, "float64": 1e-15}  # accepted relative deviation of constants due to rounding


def constant(value: float) -> Form:
    """Return the formula (nested tuples) of a constant number."""
    return ("c", float(value))


def combine(operator: str, parts: Sequence[Form]) -> Form | None:
    """Return the formula (nested tuples) of an operator applied to the formulas `parts`.

    Return None if no formula of an activation contains the result.
    """
    form = _combined(operator, parts)
    return form if _skeleton(form) in _activations() and all(map(isfinite, _constants(form))) else None


def _combined(operator: str, parts: Sequence[Form]) -> Form:
    """Return the formula (nested tuples) of an operator applied to other formulas."""
    if operator == "Neg":
        return _flattened("*", [constant(-1.0), *parts])
    if operator in ("Add", "Sub"):
        second = parts[1] if operator == "Add" else _flattened("*", [constant(-1.0), parts[1]])
        return _flattened("+", [parts[0], second])
    if operator == "Mul":
        return _flattened("*", parts)
    if operator == "Div" and parts[1][0] == "c" and parts[1][1] != 0:
        return _flattened("*", [parts[0], constant(1 / parts[1][1])])
    return (operator, *(sorted(parts) if operator in ("Max", "Min") else parts))


def _flattened(sign: str, parts: Sequence[Form]) -> Form:
    """Return the formula (nested tuples) of a sum or product; merge its constants and nested sums or products."""
    value, others = 0.0 if sign == "+" else 1.0, list[Form]()
    for part in parts:
        numbers = [part[1]] if part[0] in ("c", sign) else []
        for number in numbers:
            value = value + number if sign == "+" else value * number
        others += part[2] if part[0] == sign else [] if numbers else [part]
    if not others:
        return constant(value)
    if len(others) == 1 and value == (0.0 if sign == "+" else 1.0):
        return tuple(others[0])
    return (sign, value, tuple(sorted(others)))


def _constants(form: Form) -> list[float]:
    """Return the constants in a formula (nested tuples) from left to right."""
    constants = []
    for part in form:
        constants += [part] if isinstance(part, float) else _constants(part) if isinstance(part, tuple) else []
    return constants


def _skeleton(form: Form) -> Form:
    """Return a copy of a formula (nested tuples) from which all constants are removed."""
    return tuple(_skeleton(part) if isinstance(part, tuple) else part for part in form if not isinstance(part, float))


def activation(form: Form, dtype: str) -> str | None:
    """Return the name of the activation with this formula (nested tuples), or None if there is none."""
    numbers = _constants(form)
    for expected, name in _activations().get(_skeleton(form), ()):
        if all(abs(a - b) <= TOLERANCES[dtype] * abs(b) for a, b in zip(numbers, expected, strict=True)):
            return name
    return None


@cache
def _activations() -> dict[Form, list[tuple[list[float], str]]]:
    """Return the constants and names of activations in a dict; its keys are their formulas without the constants.

    The activations are those in `COMPOSED` and `READ_COMPOSED`. A skeleton that is only a part of an activation has an
    empty list.
    """
    forms = [(_form_of_formulas(formulas), name) for name, formulas in (*COMPOSED.items(), *READ_COMPOSED)]
    by_skeleton: dict[Form, list[tuple[list[float], str]]] = {}
    for form, name in forms:
        for part in _parts(form):
            by_skeleton.setdefault(_skeleton(part), [])
        by_skeleton[_skeleton(form)].append((_constants(form), name))
    return by_skeleton


def _parts(form: Form) -> Iterator[Form]:
    """Yield a formula (nested tuples), all its subexpressions, and each sum or product of a subset of terms."""
    yield form
    is_sum = form[0] in ("+", "*")
    members = form[2] if is_sum else [part for part in form if isinstance(part, tuple)]
    for count in range(1, len(members) + 1) if is_sum else ():
        for subset in combinations(members, count):
            yield (form[0], form[1], subset)
    for member in members:
        yield from _parts(member)


def _form_of_formulas(formulas: Sequence[str]) -> Form:
    """Return the formula (nested tuples) by which the reader recognizes an activation that onnx.py has written."""
    graph = Graph("float64")
    result = graph.composed(formulas, "x")
    constants = Constants([parse(tensor, TENSOR_FIELDS, "") for tensor in graph.tensors], "")
    forms = {"x": X, **{name: constant(constants[name].item()) for name in constants.tensors}}
    for content in graph.nodes:
        node = parse(content, NODE, "")
        forms[node["output"][0]] = _combined(node["op_type"], [forms[name] for name in node["input"]])
    return forms[result]
