"""Activations that ONNX models compose of several operators, recognized by their formulas.

A form is the formula of a tensor as nested tuples, ("x",) being the tensor that the activation is applied to. Sums are
("+", constant, terms) and products ("*", constant, factors), flattened and sorted, so that order and grouping do not
matter.
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
UNARY = ("Sigmoid", "Tanh", "Relu", "Exp", "Log", "Abs", "Neg", "Erf", "Softplus")
MAX_BASES = 8  # tensors that a tensor has forms of
TOLERANCES = {"float32": 5e-7, "float64": 1e-15}  # of constants, relative: some roundings


def constant(value: float) -> Form:
    """Return the form of a number."""
    return ("c", float(value))


def combine(operator: str, parts: Sequence[Form]) -> Form | None:
    """Return the form of an operator of forms, None if it is no part of an activation."""
    form = _combined(operator, parts)
    return form if _skeleton(form) in _activations() and all(map(isfinite, _numbers(form))) else None


def _combined(operator: str, parts: Sequence[Form]) -> Form:
    """Return the form of an operator of forms."""
    if operator == "Neg":
        return _gather("*", [constant(-1.0), *parts])
    if operator in ("Add", "Sub"):
        second = parts[1] if operator == "Add" else _gather("*", [constant(-1.0), parts[1]])
        return _gather("+", [parts[0], second])
    if operator == "Mul":
        return _gather("*", parts)
    if operator == "Div" and parts[1][0] == "c" and parts[1][1] != 0:
        return _gather("*", [parts[0], constant(1 / parts[1][1])])
    return (operator, *(sorted(parts) if operator in ("Max", "Min") else parts))


def _gather(sign: str, parts: Sequence[Form]) -> Form:
    """Return a sum or a product with its constants in one."""
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


def _numbers(form: Form) -> list[float]:
    """Return the constants of a form in their order."""
    found = []
    for part in form:
        found += [part] if isinstance(part, float) else _numbers(part) if isinstance(part, tuple) else []
    return found


def _skeleton(form: Form) -> Form:
    """Return the form without its constants."""
    return tuple(_skeleton(part) if isinstance(part, tuple) else part for part in form if not isinstance(part, float))


def activation(form: Form, dtype: str) -> str | None:
    """Return the name of the activation with this form; constants may differ by some roundings of the dtype."""
    numbers = _numbers(form)
    for known, name in _activations().get(_skeleton(form), ()):
        if all(abs(a - b) <= TOLERANCES[dtype] * abs(b) for a, b in zip(numbers, known, strict=True)):
            return name
    return None


@cache
def _activations() -> dict[Form, list[tuple[list[float], str]]]:
    """Return constants and names of the composed activations by their skeletons, and no names for parts of them.

    They are those that to_onnx writes, and those of other exporters.
    """
    forms = [(_written(steps), name) for name, steps in (*COMPOSED.items(), *READ_COMPOSED)]
    found: dict[Form, list[tuple[list[float], str]]] = {}
    for form, name in forms:
        for part in _parts(form):
            found.setdefault(_skeleton(part), [])
        found[_skeleton(form)].append((_numbers(form), name))
    return found


def _parts(form: Form) -> Iterator[Form]:
    """Yield all forms that a form is put together from, of sums and products also those of some of their members."""
    yield form
    sums = form[0] in ("+", "*")
    members = form[2] if sums else [part for part in form if isinstance(part, tuple)]
    for count in range(1, len(members) + 1) if sums else ():
        for some in combinations(members, count):
            yield (form[0], form[1], some)
    for member in members:
        yield from _parts(member)


def _written(steps: Sequence[str]) -> Form:
    """Return the form of the nodes that nnc/_interop/onnx.py writes for formulas of `COMPOSED`."""
    graph = Graph("float64")
    end = graph.composed(steps, "x")
    constants = Constants([parse(tensor, TENSOR_FIELDS, "") for tensor in graph.tensors], "")
    forms = {"x": X, **{name: constant(constants[name].item()) for name in constants.tensors}}
    for content in graph.nodes:
        node = parse(content, NODE, "")
        forms[node["output"][0]] = _combined(node["op_type"], [forms[name] for name in node["input"]])
    return forms[end]
