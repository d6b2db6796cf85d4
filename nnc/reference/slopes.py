"""Loss of outputs and of their derivatives with respect to the inputs, and its gradient, for one row at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nnc.reference.layers import ACTIVATIONS
from nnc.reference.scale import Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from nnc.reference.layers import Dense, Gradient, Row, Rows

# The second derivative f'' of each activation, as a function of the net input z and the output a = f(z).
SECOND_DERIVATIVES: dict[str, Callable[[float, float], float]] = {
    "sigmoid": lambda z, a: a * (1 - a) * (1 - 2 * a),
    "tanh": lambda z, a: -2 * a * (1 - a * a),
    "identity": lambda z, a: 0.0,
    "sin": lambda z, a: -a,
}


def checked_slopes(dY: Any, n: int, n_out: int, n_in: int, layers: Sequence[Any]) -> list[list[list[float]]]:
    """Validate derivatives (n, n_out, n_in) and the layers, and return the derivatives as lists; NaN is missing."""
    for layer in layers:
        if getattr(layer, "activation", None) not in SECOND_DERIVATIVES or not hasattr(layer, "W"):
            raise ValueError(f"dY requires Dense and Scale layers with {', '.join(SECOND_DERIVATIVES)}")
    rows = [[[float(number) for number in columns] for columns in row] for row in dY]
    is_valid = len(rows) == n and all(len(row) == n_out and all(len(part) == n_in for part in row) for row in rows)
    if not is_valid or any(math.isinf(number) for row in rows for part in row for number in part):
        raise ValueError(f"dY must have shape ({n}, {n_out}, {n_in}) with finite numbers or NaN")
    return rows


def slope_gradients(
    layers: Sequence[Dense], X: Rows, y: Rows, dY: Sequence[Rows], weight: float, scale: float
) -> tuple[float, list[Gradient]]:
    """Return the sum of the terms of the loss over the rows, and the gradient of `scale` times this sum.

    The terms of a row are the squared errors of its outputs, plus weight / n_in times those of the given derivatives.
    """
    total = 0.0
    dW = [[[0.0] * len(row) for row in layer.W] for layer in layers]
    db = [None if layer.b is None else [0.0] * len(layer.b) for layer in layers]
    for x, targets, slopes in zip(X, y, dY):
        # Forward pass: the value a_k of each unit, and its derivatives J_k with respect to all inputs.
        steps: list[tuple[Row, Rows, list[float], list[list[float]], list[float]]] = []
        a: Row = x
        J: Rows = [[float(k == i) for i in range(len(x))] for k in range(len(x))]
        for layer in layers:
            z, JZ = net_inputs(layer, a), net_inputs_of_slopes(layer, J)
            f, derivative = ACTIVATIONS[layer.activation]
            out = [f(number) for number in z]
            steps.append((a, J, z, JZ, out))
            # a = f(z), so da/dx = f'(z) dz/dx.
            J = [[derivative(z_j, a_j) * s for s in row] for z_j, a_j, row in zip(z, out, JZ)]
            a = out

        # Derivatives of the loss with respect to the outputs, and to the derivatives of the outputs; 0 if missing.
        factor = weight / len(x)
        errors = [p - t for p, t in zip(a, targets)]
        slope_errors = [[0.0 if t != t else p - t for p, t in zip(*rows)] for rows in zip(J, slopes)]
        total += sum(e * e for e in errors) + factor * sum(e * e for row in slope_errors for e in row)
        da = [2 * scale * e for e in errors]
        dJ = [[2 * scale * factor * e for e in row] for row in slope_errors]

        # Backward pass, from the last layer to the first.
        for l in reversed(range(len(layers))):
            layer, (a_in, J_in, z, JZ, out) = layers[l], steps[l]
            _, derivative = ACTIVATIONS[layer.activation]
            second = SECOND_DERIVATIVES[layer.activation]
            dz, dJZ = [], []
            for j, (z_j, a_j) in enumerate(zip(z, out)):
                f1, f2 = derivative(z_j, a_j), second(z_j, a_j)
                # a = f(z) and da/dx = f'(z) dz/dx both depend on z.
                dz.append(da[j] * f1 + f2 * sum(d * s for d, s in zip(dJ[j], JZ[j])))
                dJZ.append([d * f1 for d in dJ[j]])
            add_products(layer, a_in, J_in, dz, dJZ, dW[l], db[l])
            da, dJ = input_derivatives(layer, dz, dJZ)
    return total, list(zip(dW, db))


def net_inputs(layer: Dense, a: Row) -> list[float]:
    """Return the net inputs z of a layer for one row of inputs."""
    return layer.forward([a])[0] if isinstance(layer, Scale) else layer.net_inputs([a])[0]  # type: ignore[return-value]


def net_inputs_of_slopes(layer: Dense, J: Rows) -> list[list[float]]:
    """Return the derivatives of the net inputs with respect to the inputs; biases do not contribute."""
    if isinstance(layer, Scale):
        return [[s * number for number in row] for s, row in zip(layer.W[0], J)]
    return [
        [sum(row[i] * weights[j] for row, weights in zip(J, layer.W)) for i in range(len(J[0]))]
        for j in range(layer.n_out)
    ]


def add_products(
    layer: Dense, a: Row, J: Rows, dz: Row, dJZ: Rows, dW: list[list[float]], db: list[float] | None
) -> None:
    """Add the gradient of one row to dW and db: z = b + a W and dz/dx = J W, so dL/dW_kj = a_k dz_j + J_k . dJZ_j."""
    for k, (a_k, row) in enumerate(zip(a, J)):
        for j in [k] if isinstance(layer, Scale) else range(len(dz)):
            dW[0 if isinstance(layer, Scale) else k][j] += a_k * dz[j] + sum(s * d for s, d in zip(row, dJZ[j]))
    if db is not None:
        for j, d in enumerate(dz):
            db[j] += d


def input_derivatives(layer: Dense, dz: Row, dJZ: Rows) -> tuple[list[float], list[list[float]]]:
    """Return the derivatives of the loss with respect to the inputs of a layer, and with respect to their slopes."""
    if isinstance(layer, Scale):
        s = layer.W[0]
        return [f * d for f, d in zip(s, dz)], [[f * d for d in row] for f, row in zip(s, dJZ)]
    da = [sum(w * d for w, d in zip(weights, dz)) for weights in layer.W]
    columns = list(zip(*dJZ))
    return da, [[sum(w * d for w, d in zip(weights, column)) for column in columns] for weights in layer.W]
