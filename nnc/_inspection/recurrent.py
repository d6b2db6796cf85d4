"""Recurrent layers by the textbook formulas, with first-order bounds of their rounding errors.

nnc/_inspection/rounding.py uses the bounds. All arrays are in float64; an error bound concerns the same computation in
the dtype of the network.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._inspection.bounded import Bounded, joined, selected
from nnc._registry import activations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._registry.activations import Activation
    from nnc.layers.base import Shape
    from nnc.layers.recurrent import RecurrentLayer

    Array = NDArray[np.float64]
    State = list[Bounded]  # state after a step: [h], or [h, c] for an LSTM
    # Derivatives of the loss L in a step: dL/du, dL/dv, the part of dL/dh that does not pass through v (None if it is
    # 0), and [dL/dc] for an LSTM.
    Derivatives = tuple[list[Bounded], list[Bounded], Bounded | None, list[Bounded]]


class SimpleCell:
    """One step of a SimpleRNN with input x and state h: h' = f(u + v), with net inputs u = x W + b and v = h U."""

    n_states = 1

    def __init__(self, activation: Activation) -> None:
        self.activation = activation

    def forward(self, u: list[Bounded], v: list[Bounded], state: State) -> tuple[State, Any]:
        """Return the new state and the values that `backward` needs, given the net inputs of each gate."""
        h, derivative = (u[0] + v[0]).activate(self.activation)
        return [h], derivative

    def backward(self, cache: Any, d: State) -> Derivatives:
        """Return the `Derivatives` of the loss L, given d, its derivatives with respect to the new state."""
        delta = [d[0] * cache]
        return delta, delta, None, []


class GRUCell:
    """One step of a GRU: h' = z * h + (1 - z) * n.

    The gates are z, r = sigmoid(u + v) and n = tanh(u + r * v), where u = x W + b and v = h U + c for each gate.
    """

    n_states = 1

    def forward(self, u: list[Bounded], v: list[Bounded], state: State) -> tuple[State, Any]:
        """Return the new state and the values that `backward` needs, given the net inputs of each gate."""
        z, dz = (u[0] + v[0]).activate(activations.ROWS["sigmoid"])
        r, dr = (u[1] + v[1]).activate(activations.ROWS["sigmoid"])
        n, dn = (u[2] + r * v[2]).activate(activations.ROWS["tanh"])
        other = Bounded(np.ones(z.value.shape), z.limits) - z
        return [z * state[0] + other * n], (z, r, n, other, dz, dr, dn, v[2], state[0])

    def backward(self, cache: Any, d: State) -> Derivatives:
        """Return the `Derivatives` of the loss L, given d, its derivatives with respect to the new state."""
        z, r, n, other, dz, dr, dn, v_n, h = cache
        delta_n = d[0] * other * dn
        delta_z, delta_r = d[0] * (h - n) * dz, delta_n * v_n * dr
        return [delta_z, delta_r, delta_n], [delta_z, delta_r, delta_n * r], d[0] * z, []


class LSTMCell:
    """One step of an LSTM: c' = f * c + i * g and h' = o * tanh(c').

    The gates are i, f, o = sigmoid(u + v) and g = tanh(u + v), where u = x W + b and v = h U for each gate.
    """

    n_states = 2

    def forward(self, u: list[Bounded], v: list[Bounded], state: State) -> tuple[State, Any]:
        """Return the new state and the values that `backward` needs, given the net inputs of each gate."""
        names = ("sigmoid", "sigmoid", "tanh", "sigmoid")
        gates = [(a + b).activate(activations.ROWS[name]) for a, b, name in zip(u, v, names, strict=True)]
        (i, _), (f, _), (g, _), (o, _) = gates
        c = f * state[1] + i * g
        t, dt = c.activate(activations.ROWS["tanh"])
        return [o * t, c], (gates, state[1], t, dt)

    def backward(self, cache: Any, d: State) -> Derivatives:
        """Return the `Derivatives` of the loss L, given d, its derivatives with respect to the new state."""
        ((i, di), (f, df), (g, dg), (o, do)), c, t, dt = cache
        dc = d[1] + d[0] * o * dt
        delta = [dc * g * di, dc * c * df, dc * i * dg, d[0] * t * do]
        return delta, delta, None, [dc * f]


class Recurrence:
    """Forward pass and backpropagation through time of a recurrent layer.

    W contains the rows of the features, then those of the units; its columns are in the order direction, gate, unit.
    Inputs and outputs are flattened sequences.

    Attributes
    ----------
    lengths : int array (n,) or None
        Number of steps of each sequence. The states do not change at later steps. None means that all sequences have
        all steps.
    """

    def __init__(self, kind: RecurrentLayer, input_shape: Shape) -> None:
        self.kind, (steps, self.features) = kind, input_shape
        self.lengths: NDArray[Any] | None = None
        self.n_out = prod(kind.output_shape(input_shape))
        order = list(range(steps))
        self.orders = [order, order[::-1]] if kind.bidirectional else [order[::-1] if kind.go_backwards else order]
        self.cell: SimpleCell | GRUCell | LSTMCell
        if kind.type == "simple_rnn":
            self.cell = SimpleCell(activations.ROWS[str(kind.activation)])
        else:
            self.cell = GRUCell() if kind.type == "gru" else LSTMCell()

    def outputs(self, X: Array, W: Array, b: Array | None) -> tuple[Array, list[NDArray[np.bool_]]]:
        """Return the outputs, and for an activation with a kink at 0 the signs of the states after each step."""
        outputs, states = self.forward(Bounded(X, None), W, b)
        has_kink = isinstance(self.cell, SimpleCell) and self.cell.activation.nonsmooth_at_zero
        return outputs.value, [h.value > 0 for h in states] if has_kink else []

    def forward(self, X: Bounded, W: Array, b: Array | None) -> tuple[Bounded, list[Bounded]]:
        """Return the outputs, and the states h after each step of each direction."""
        states = [[new[0] for _, _, new, _ in self._run(X, W, b, d)] for d in range(len(self.orders))]
        if self.kind.return_sequences:  # put the states of a reversed direction in the order of the inputs
            directions = [[h[k] for k in order] for h, order in zip(states, self.orders, strict=True)]
        else:
            directions = [h[-1:] for h in states]
        outputs = joined([h for step in zip(*directions, strict=True) for h in step], 1)
        return outputs, [h for direction in states for h in direction]

    def parameters(self, W: Array, b: Array | None, direction: int) -> tuple[Array, Array, Array]:
        """Return the weights W and U, and the biases (2, gates * units) of the net inputs u and v, of one direction."""
        n = self.kind.n_gates * self.kind.units
        columns = slice(direction * n, (direction + 1) * n)
        biases = np.zeros((2, n))
        if b is not None:
            biases[: self.kind.n_bias_rows] = b[..., columns]
        return W[: self.features, columns], W[self.features :, columns], biases

    def gate_columns(self) -> list[tuple[str, slice]]:
        """Return the name of each gate, and the slice of its columns in the arrays of one direction."""
        units = self.kind.units
        return [(gate, slice(k * units, (k + 1) * units)) for k, gate in enumerate(self.kind.gate_names)]

    def _parameters(self, limits: Any, W: Array, b: Array | None, direction: int) -> tuple[Bounded, ...]:
        """Return the weights W and U and the biases of the net inputs u and v of one direction, without errors."""
        W_in, U, biases = self.parameters(W, b, direction)
        return tuple(Bounded(part, limits) for part in (W_in, U, biases[:1], biases[1:]))

    def _run(self, X: Bounded, W: Array, b: Array | None, direction: int) -> list[tuple[Bounded, State, State, Any]]:
        """Return for each step of one direction: inputs, state before it, state after it, values for `backward`."""
        W_in, U, b_u, b_v = self._parameters(X.limits, W, b, direction)
        n_terms, units = len(W) + 1, self.kind.units
        state = [Bounded(np.zeros((len(X.value), units)), X.limits)] * self.cell.n_states
        steps = []
        for t in self.orders[direction]:
            x = X[:, t * self.features : (t + 1) * self.features]
            u, v = x.dot(W_in, n_terms) + b_u, state[0].dot(U, n_terms) + b_v
            new, cache = self.cell.forward(self._gates(u), self._gates(v), state)
            new = self._where_active(t, new, state)
            steps.append((x, state, new, cache))
            state = new
        return steps

    def _where_active(self, t: int, new: list[Bounded], old: list[Bounded]) -> list[Bounded]:
        """Return the arrays `new` for sequences that have step t, and the arrays `old` for shorter sequences."""
        if self.lengths is None:
            return new
        mask = t < self.lengths[:, None]
        return [selected(mask, *pair) for pair in zip(new, old, strict=True)]

    def _gates(self, u: Bounded) -> list[Bounded]:
        """Split the columns of net inputs into one array for each gate."""
        units = self.kind.units
        return [u[:, k * units : (k + 1) * units] for k in range(self.kind.n_gates)]

    def gradients(self, X: Array, W: Array, b: Array | None, dA: Array) -> tuple[Array, Array | None, Array]:
        """Return dL/dW, dL/db and dL/dX for weights, biases and inputs, given dA = dL/dA for the outputs A."""
        dW, db, dX = self.backward(Bounded(X, None), W, b, Bounded(dA, None))
        return dW.value, None if b is None else db.value.reshape(b.shape), dX.value

    def backward(self, X: Bounded, W: Array, b: Array | None, dA: Bounded) -> tuple[Bounded, Bounded, Bounded]:
        """Return dL/dW, dL/db (one or two rows) and dL/dX, with error bounds, given dA = dL/dA for the outputs A."""
        parts = [self._direction_backward(X, W, b, dA, direction) for direction in range(len(self.orders))]
        dW, db = (joined([part[k] for part in parts], 1) for k in (0, 1))
        dX = parts[0][2] if len(parts) == 1 else parts[0][2] + parts[1][2]
        return dW, db, dX

    def _direction_backward(
        self, X: Bounded, W: Array, b: Array | None, dA: Bounded, direction: int
    ) -> tuple[Bounded, Bounded, Bounded]:
        """Return the parts of dL/dW, dL/db and dL/dX that belong to one direction."""
        W_in, U, _, _ = self._parameters(X.limits, W, b, direction)
        order, units, n_directions = self.orders[direction], self.kind.units, len(self.orders)
        zero = Bounded(np.zeros((len(X.value), units)), X.limits)
        d, rows_u, rows_v, dX = [zero] * self.cell.n_states, [], [], {}
        steps = self._run(X, W, b, direction)
        for t, (_, _, _, cache) in zip(order[::-1], steps[::-1], strict=True):
            first = (t * n_directions + direction if self.kind.return_sequences else direction) * units
            if self.kind.return_sequences or t == order[-1]:
                d = [d[0] + dA[:, first : first + units], *d[1:]]
            delta_u, delta_v, direct, others = self.cell.backward(cache, d)
            delta_u, delta_v = (self._where_active(t, delta, [zero] * len(delta)) for delta in (delta_u, delta_v))
            rows_u.append(joined(delta_u, 1))
            rows_v.append(joined(delta_v, 1))
            dX[t] = rows_u[-1].dot(W_in.transposed(), W_in.value.shape[1] * n_directions)
            back = rows_v[-1].dot(U.transposed(), U.value.shape[1])
            d = self._where_active(t, [back if direct is None else direct + back, *others], d)
        inputs, states = joined([step[0] for step in steps], 0), joined([step[1][0] for step in steps], 0)
        all_u, all_v = joined(rows_u[::-1], 0), joined(rows_v[::-1], 0)
        n = len(inputs.value)
        ones = Bounded(np.ones((1, n)), X.limits)
        dW = joined([inputs.transposed().dot(all_u, n), states.transposed().dot(all_v, n)], 0)
        db = joined([ones.dot(all_u, n), ones.dot(all_v, n)][: self.kind.n_bias_rows], 0)
        return dW, db, joined([dX[t] for t in sorted(dX)], 1)
