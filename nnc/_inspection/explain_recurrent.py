"""Lines of an explained step that concern a recurrent layer: all gates of all units at all steps of a sequence.

A gate has the net inputs u = sum of input * W + bias and v = sum of state * U + bias. The formulas and the numbers of a
unit are those of nnc/_inspection/unrolled.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from nnc._inspection.equations import added, digits, equal, first, omitted
from nnc._inspection.unrolled import cell_formulas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nnc._inspection.steps import LayerStep
    from nnc._inspection.unrolled import Values

MAX_STEPS = 12  # largest number of steps of a recurrent layer that is explained


def _substituted(formula: str, values: Values, r: int, j: int) -> str:
    """Return a formula whose variables are replaced by the numbers of row r and unit j."""

    def number(match: re.Match[str]) -> str:
        return digits(values[match[0]][r, j]) if match[0] in values else match[0]

    return re.sub(r"[a-z]\w*(?!\w|\()", number, formula)


def _name(text: str) -> str:
    """Return the name of a variable, or a formula, with the derivatives of the loss in full: dL/dh for dh."""
    return re.sub(r"\bd([hc])\b", r"dL/d\1", text)


def _positions(layer: LayerStep, backwards: bool = False) -> Iterator[tuple[str, int, int, int]]:
    """Yield the name, direction, index in the order of processing and unit of all states that are printed."""
    recurrence = layer.recurrence
    assert recurrence is not None
    for direction, order in enumerate(recurrence.orders):
        suffix = " of the second direction" if direction else ""
        for k in range(len(order))[:: -1 if backwards else 1]:
            for j in first(recurrence.kind.units):
                yield f"Step {order[k]}, unit {j}{suffix}", direction, k, j


def forward_lines(layer: LayerStep, r: int) -> Iterator[str]:
    """Yield the lines of text that explain the forward pass of a recurrent layer for row number r."""
    recurrence = layer.recurrence
    assert recurrence is not None
    forward, _ = cell_formulas(recurrence)
    kind = recurrence.kind
    yield f" {layer.name}: {type(kind).__name__}, u = sum of input * W + bias, v = sum of h * U + bias for each gate"
    yield f"  {', '.join(f'{name} = {formula}' for name, formula in forward.items())}"
    yield "  h" + " and c are" * (kind.type == "lstm") + " is" * (kind.type != "lstm") + " 0 before the first step"
    for name, direction, k, j in _positions(layer):
        values = layer.unrolled[direction][k]
        W, U, biases = recurrence.parameters(layer.W, layer.b, direction)
        start = f"  {name}: "
        for gate, columns in recurrence.gate_columns():
            column = columns.start + j
            for letter, inputs, weights, b in (("u", "x", W, biases[0]), ("v", "h", U, biases[1])):
                pairs = zip(values[inputs][r], weights[:, column], strict=True)
                bias = [digits(b[column])] if layer.b is not None and (letter == "u" or kind.n_bias_rows == 2) else []
                products = added([f"{digits(x)} * {digits(w)}" for x, w in pairs], bias)
                yield f"{start}{letter}_{gate} = {equal(products, values[f'{letter}_{gate}'][r, j])}"
                start = f"{'':12}"
        for variable, formula in forward.items():
            yield f"{start}{variable} = {_substituted(formula, values, r, j)} = {values[variable][r, j]:.9g}"
    yield from omitted(kind.units, "unit")


def backward_lines(layer: LayerStep, r: int, output_effects: Callable[[int], str]) -> Iterator[str]:
    """Yield the lines of text that explain the backward pass of a recurrent layer for row number r.

    `output_effects` returns the text of the derivative of the loss with respect to an output, given its index.
    """
    recurrence = layer.recurrence
    assert recurrence is not None
    _, backward = cell_formulas(recurrence)
    kind = recurrence.kind
    texts = (_name(f"{name} = {formula}") for name, formula in backward.items())
    parts = ["the effects on later layers", "z * dL/dh of the next step"][: 1 + (kind.type == "gru")]
    yield f" {layer.name}: dL/dh = {' + '.join(parts)} + sum of delta * U of the next step"
    yield f"  {', '.join(texts)}" + "; for U, delta_n is multiplied by r" * (kind.type == "gru")
    if kind.type == "lstm":
        yield "  next_dc = f * dL/dc of the next step"
    for name, direction, k, j in _positions(layer, backwards=True):
        steps, (_, U, _) = layer.unrolled[direction], recurrence.parameters(layer.W, layer.b, direction)
        values, effects = steps[k], []
        if kind.return_sequences or k == len(steps) - 1:
            index = (values["t"] * len(recurrence.orders) if kind.return_sequences else 0) + direction
            effects.append(output_effects(index * kind.units + j))
        if k + 1 < len(steps):
            later = steps[k + 1]
            if kind.type == "gru":
                effects.append(f"{digits(later['z'][r, j])} * {digits(later['dh'][r, j])}")
            pairs = zip(later["delta_v"][r], U[j], strict=True)
            effects.append(added([f"{digits(d)} * {digits(weight)}" for d, weight in pairs]))
        yield f"  {name}: dL/dh = {equal(' + '.join(effects), values['dh'][r, j])}"
        for variable, formula in backward.items():
            text = _substituted(formula.replace("next_dc + ", ""), values, r, j)
            if variable == "dc" and k + 1 < len(steps):
                text = f"{digits(later['f'][r, j])} * {digits(later['dc'][r, j])} + {text}"
            yield f"{'':12}{_name(variable)} = {text} = {values[variable][r, j]:.9g}"
    yield from omitted(kind.units, "unit")


def input_effects(layer: LayerStep, r: int, i: int) -> str:
    """Return the text of the derivative of the loss with respect to input i of row r: a sum over gates and units."""
    recurrence = layer.recurrence
    assert recurrence is not None
    effects = []
    t, feature = divmod(i, recurrence.features)
    for direction, steps in enumerate(layer.unrolled):
        W, _, _ = recurrence.parameters(layer.W, layer.b, direction)
        values = next(step for step in steps if step["t"] == t)
        for gate, columns in recurrence.gate_columns():
            pairs = zip(values["delta_" + gate][r], W[feature, columns], strict=True)
            effects += [f"{digits(d)} * {digits(weight)}" for d, weight in pairs]
    return added(effects)


def step_lines(layer: LayerStep, lr: float) -> Iterator[str]:
    """Yield the lines of text that explain the gradients and the new weights of a recurrent layer."""
    recurrence = layer.recurrence
    assert recurrence is not None
    kind, features = recurrence.kind, recurrence.features
    yield f" {layer.name}: sums over all steps of all rows; input or h of the step * delta of the gate"
    for direction, steps in enumerate(layer.unrolled):
        offset = direction * kind.n_gates * kind.units
        for gate, columns in recurrence.gate_columns():
            for j in first(kind.units):
                yield f"  Gate {gate}, unit {j}" + " of the second direction" * direction
                column = offset + columns.start + j
                by_input = np.concatenate([step["delta_" + gate][:, j] for step in steps])
                by_state = np.concatenate([step["delta_v"][:, columns.start + j] for step in steps])
                rows = [
                    ("W", i, i, by_input, np.concatenate([step["x"][:, i] for step in steps])) for i in first(features)
                ]
                rows += [
                    ("U", i, features + i, by_state, np.concatenate([step["h"][:, i] for step in steps]))
                    for i in first(kind.units)
                ]
                for letter, i, row, deltas, factors in rows:
                    terms = [f"{digits(d)} * {digits(x)}" for d, x in zip(deltas, factors, strict=True)]
                    w, dw, new_w = layer.W[row, column], layer.dW[row, column], layer.new_W[row, column]
                    yield from _update_lines(f"{letter} {i}", "w", terms, w, dw, new_w, lr)
                yield from omitted(features, "input", "   ")
                yield from omitted(kind.units, "unit", "   ")
                if layer.b is None or layer.db is None or layer.new_b is None:
                    continue
                arrays = [np.atleast_2d(array)[:, column] for array in (layer.b, layer.db, layer.new_b)]
                for name, deltas, b, db, new_b in zip(
                    ("Bias of u", "Bias of v"), (by_input, by_state), *arrays, strict=False
                ):
                    yield from _update_lines(name, "b", [digits(d) for d in deltas], b, db, new_b, lr)
        yield from omitted(kind.units, "unit")


def _update_lines(
    name: str, letter: str, terms: list[str], old: float, gradient: float, new: float, lr: float
) -> Iterator[str]:
    """Yield two lines of text: the gradient of a parameter as a sum of terms, and its new value."""
    start = f"   {name}: "
    yield f"{start}dL/d{letter} = {equal(added(terms), gradient)}"
    yield f"{'':{len(start) + 3}}{letter} = {old:.9g} - {lr:g} * {digits(gradient)} = {new:.9g}"
