"""Values of all gates and states of a recurrent layer at each step, computed with formulas that are also printed.

A gate has the net inputs u = sum of input * W + bias and v = sum of state * U + bias.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry import activations, formulas

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._inspection.recurrent import Recurrence

    Array = NDArray[np.float64]
    Values = dict[str, Any]  # values of the variables of the formulas at one step: arrays (n, units)

# Formulas of the gates and of the new states, and of the derivatives with respect to the net inputs u of the gates.
# h and c are the states before the step, dh and dc the derivatives of the loss with respect to the new states. next_dc
# is the part of dc that comes from the next step.
FORMULAS = {
    "gru": (
        {
            "z": "sigmoid(u_z + v_z)",
            "r": "sigmoid(u_r + v_r)",
            "n": "tanh(u_n + r * v_n)",
            "new_h": "z * h + (1 - z) * n",
        },
        {
            "delta_z": "dh * (h - n) * z * (1 - z)",
            "delta_n": "dh * (1 - z) * (1 - n^2)",
            "delta_r": "delta_n * v_n * r * (1 - r)",
        },
    ),
    "lstm": (
        {
            "i": "sigmoid(u_i + v_i)",
            "f": "sigmoid(u_f + v_f)",
            "g": "tanh(u_g + v_g)",
            "o": "sigmoid(u_o + v_o)",
            "new_c": "f * c + i * g",
            "new_h": "o * tanh(new_c)",
        },
        {
            "dc": "next_dc + dh * o * (1 - tanh(new_c)^2)",
            "delta_i": "dc * g * i * (1 - i)",
            "delta_f": "dc * c * f * (1 - f)",
            "delta_g": "dc * i * (1 - g^2)",
            "delta_o": "dh * tanh(new_c) * o * (1 - o)",
        },
    ),
}


def cell_formulas(recurrence: Recurrence) -> tuple[dict[str, str], dict[str, str]]:
    """Return the formulas of the forward pass and of the backward pass of a layer."""
    kind = recurrence.kind
    if kind.type != "simple_rnn":
        return FORMULAS[kind.type]
    row = activations.ROWS[str(kind.activation)]
    derivative = re.sub(r"\ba\b", "new_h", row.derivative)
    return {"z": "u_h + v_h", "new_h": row.f}, {"delta_h": f"dh * ({derivative})"}


def evaluate(values: Values, assignments: dict[str, str]) -> None:
    """Evaluate the formulas in `assignments`, and add each result to `values` under its name."""
    for name, formula in assignments.items():
        values[name] = formulas.compile_formula(formula, " ".join(values))(*values.values())


def unroll(recurrence: Recurrence, A_in: Array, W: Array, b: Array | None, dA: Array) -> list[list[Values]]:
    """Return the values of all variables at each step, in the order of processing, for each direction of a layer.

    A_in (n, n_in) are the inputs, W and b the parameters, and dA (n, n_out) the derivatives of the loss with respect to
    the outputs.
    """
    kind, n = recurrence.kind, len(A_in)
    units, steps = kind.units, recurrence.orders[0]
    X = A_in.reshape(n, len(steps), recurrence.features)
    # The second axis has length 1 if only the last state is the output.
    dA = dA.reshape(n, -1, len(recurrence.orders), units)
    forward, backward = cell_formulas(recurrence)
    directions = []
    for direction, order in enumerate(recurrence.orders):
        W_in, U, biases = recurrence.parameters(W, b, direction)
        new_h = new_c = np.zeros((n, units))
        result: list[Values] = []
        for t in order:
            values: Values = {"h": new_h, "c": new_c}
            for gate, columns in recurrence.gate_columns():
                values["u_" + gate] = X[:, t] @ W_in[:, columns] + biases[0, columns]
                values["v_" + gate] = new_h @ U[:, columns] + biases[1, columns]
            evaluate(values, forward)
            new_h, new_c = values["new_h"], values.get("new_c", new_c)
            result.append({**values, "t": t, "x": X[:, t]})
        dh = next_dc = np.zeros((n, units))
        for values in result[::-1]:
            is_output = kind.return_sequences or values is result[-1]
            variables = {name: value for name, value in values.items() if name not in ("t", "x")}
            variables["dh"] = dh + (dA[:, values["t"] if kind.return_sequences else 0, direction] if is_output else 0)
            variables["next_dc"] = next_dc
            evaluate(variables, backward)
            values.update(variables)
            deltas = [values["delta_" + gate] * (values["r"] if gate == "n" else 1) for gate in kind.gate_names]
            values["delta_v"] = np.concatenate(deltas, axis=1)
            dh = values["delta_v"] @ U.T + (variables["dh"] * values["z"] if kind.type == "gru" else 0)
            next_dc = variables["dc"] * values["f"] if kind.type == "lstm" else next_dc
        directions.append(result)
    return directions
