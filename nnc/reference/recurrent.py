"""Recurrent layers, which process sequences step by step: SimpleRNN, GRU and LSTM.

A sequence of shape (steps, features) is stored as one row of numbers. A layer has units, and each unit has a state: the
number h, and in an LSTM also the cell state c. All states are 0 before the first step. A step computes the new states
from x, the features of this step, and from the states of the previous step.

Each layer has gates, with one column of W, U and b for each gate and unit. The layer first computes the net inputs
u = x W + b and v = h U of all gates and units; a GRU adds a second row of biases to v. Everything else concerns one
unit at a time. The class of each layer has the formulas of a unit and their derivatives; u[k] and v[k] are the net
inputs of gate k.

Backpropagation through time visits the steps in reverse order. The states after a step change the loss in two ways: by
the outputs of this step, and by the next step. Their derivative is the sum of both.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from nnc.reference.images import chunks
from nnc.reference.layers import ACTIVATIONS, Dense, product, sigmoid, transposed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from nnc.reference.layers import Gradient, Row, Rows

    State = tuple[float, ...]  # state of a unit: its output (h,), or (h, c) with the cell state c in an LSTM
    States = Sequence[Sequence[State]]  # states of all units: states[row][unit]


class Step(NamedTuple):
    """Values of one step for all rows: step index, features, net inputs, and states before and after the step."""

    t: int
    X: Rows
    u: Rows
    v: Rows
    before: States
    after: States


def net_inputs(A: Rows, W: Rows, b: Row) -> list[Row]:
    """Return the net inputs A W + b for inputs A, weights W and biases b."""
    return [[z + b_j for z, b_j in zip(row, b)] for row in product(A, W)]


def by_unit(row: Row, units: int) -> list[Row]:
    """Regroup a row that is ordered by gate, then by unit: return one list of gate values for each unit."""
    return [row[j::units] for j in range(units)]


def by_gate(numbers: Rows) -> Row:
    """Return the values of all units ordered by gate, then by unit; this is the inverse of `by_unit`."""
    return list(chain(*zip(*numbers)))


def hidden(states: States) -> list[Row]:
    """Return the outputs h in the states as a matrix, with a row for each sequence and a column for each unit."""
    return [[state[0] for state in row] for row in states]


def with_added_hidden(states: States, H: Rows) -> list[list[State]]:
    """Return a copy of the states in which the matrix H is added to the outputs h."""
    return [[(state[0] + h, *state[1:]) for state, h in zip(*rows)] for rows in zip(states, H)]


def side_by_side(*matrices: Rows) -> list[list[float]]:
    """Return the matrices concatenated horizontally."""
    return [list(chain(*rows)) for rows in zip(*matrices)]


def column_sums(A: Rows) -> list[float]:
    """Return the sum of each column of a matrix."""
    return [sum(column) for column in transposed(A)]


class RecurrentLayer(Dense):
    """Base class of recurrent layers.

    The first rows of the matrix W belong to the features, and its last rows, called U, to the units. The columns are in
    the order direction, gate, unit: a bidirectional layer has a second set of units, which processes the steps in
    reverse order.
    """

    n_gates: int
    n_states: int = 1  # number of values in the state of a unit
    n_bias_rows: int = 1  # number of bias vectors: 1, or 2 if u and v have separate biases

    b: Any
    units: int
    features: int
    backwards: list[bool]
    return_sequences: bool

    def __init__(
        self, W: list[list[float]], b: Any, activation: str, units: int, backwards: list[bool], return_sequences: bool
    ) -> None:
        super().__init__(W, b, activation)
        self.units, self.features = units, len(W) - units
        # `backwards` states for each direction whether it processes the steps in reverse order.
        self.backwards, self.return_sequences = backwards, return_sequences

    @abstractmethod
    def unit_forward(self, u: Row, v: Row, state: State) -> State:
        """Return the new state of one unit, given the net inputs of its gates and its previous state."""

    @abstractmethod
    def unit_backward(self, u: Row, v: Row, before: State, after: State, d: State) -> tuple[Row, Row, State]:
        """Return dL/du, dL/dv and dL/d(old state) of one unit for the loss L, given d = dL/d(new state).

        u and v are the net inputs of its gates. dL/d(old state) does not include the effect of h on v.
        """

    def parameters(self, direction: int) -> tuple[Rows, Rows, Row, Row]:
        """Return the weights W and U, and the biases of the net inputs u and v, for one direction."""
        n, zeros = self.n_gates * self.units, [0.0] * self.n_out
        bias_u, bias_v = (self.b or [zeros, zeros]) if self.n_bias_rows == 2 else (self.b or zeros, zeros)
        columns = slice(direction * n, (direction + 1) * n)
        matrix = [row[columns] for row in self.W]
        return matrix[: self.features], matrix[self.features :], bias_u[columns], bias_v[columns]

    def run(self, A_in: Rows, direction: int) -> list[Step]:
        """Return the values of all steps for one direction, in the order of processing."""
        W, U, bias_u, bias_v = self.parameters(direction)
        states: States = [[(0.0,) * self.n_states] * self.units for _ in A_in]
        steps: list[Step] = []
        order = range(len(A_in[0]) // self.features)
        for t in reversed(order) if self.backwards[direction] else order:
            X = [chunks(row, self.features)[t] for row in A_in]
            u, v = net_inputs(X, W, bias_u), net_inputs(hidden(states), U, bias_v)
            new = [
                [self.unit_forward(*unit) for unit in zip(by_unit(u_i, self.units), by_unit(v_i, self.units), row)]
                for u_i, v_i, row in zip(u, v, states)
            ]
            steps.append(Step(t, X, u, v, states, new))
            states = new
        return steps

    def forward(self, A_in: Rows) -> Rows:
        """Return A_out: for each sequence, the outputs h of all steps or only of the last processed step."""
        outputs = []
        for direction in range(len(self.backwards)):
            steps = self.run(A_in, direction)
            # Sort the outputs of all steps in the order of the inputs, not in the order of processing.
            steps = sorted(steps, key=lambda step: step.t) if self.return_sequences else steps[-1:]
            outputs.append([hidden(step.after) for step in steps])
        # Each step of the output contains the units of the first direction, then those of the second direction.
        return side_by_side(*(side_by_side(*directions) for directions in zip(*outputs)))

    def output_gradient(self, dA: Rows, direction: int, t: int, is_last: bool) -> list[Row]:
        """Return the columns of dL/dA_out for one direction and step; zeros if the layer does not return this step."""
        if not self.return_sequences and not is_last:
            return [[0.0] * self.units for _ in dA]
        index = t * len(self.backwards) + direction if self.return_sequences else direction
        return [chunks(row, self.units)[index] for row in dA]

    def backward(self, A_in: Rows, A_out: Rows, dA: Rows) -> tuple[Any, Gradient]:
        """Return dL/du of the net inputs u for each direction and step, and (dW, db), given dA = dL/dA_out."""
        parts = [self.direction_backward(A_in, direction, dA) for direction in range(len(self.backwards))]
        deltas, dW, dU, db_u, db_v = zip(*parts)
        db: Any = list(chain(*db_u))
        db = [db, list(chain(*db_v))] if self.n_bias_rows == 2 else db
        return deltas, (side_by_side(*dW) + side_by_side(*dU), db if self.b else None)

    def direction_backward(self, A_in: Rows, direction: int, dA: Rows) -> tuple[Any, Rows, Rows, Row, Row]:
        """Return dL/du of each step, and the gradients of W, U and the biases of both net inputs, for one direction."""
        _, U, _, _ = self.parameters(direction)
        steps = self.run(A_in, direction)
        delta_u: list[list[Row]] = [[] for _ in steps]
        delta_v: list[list[Row]] = [[] for _ in steps]
        # d contains dL/d(state) for the states after a step. It is 0 after the last step, because no step follows.
        d: States = [[(0.0,) * self.n_states] * self.units for _ in A_in]
        for step in reversed(steps):
            # The outputs of a step are the numbers h of the states after this step.
            d = with_added_hidden(d, self.output_gradient(dA, direction, step.t, step is steps[-1]))
            parts = [
                [self.unit_backward(*unit) for unit in zip(by_unit(u, self.units), by_unit(v, self.units), *states)]
                for u, v, *states in zip(step.u, step.v, step.before, step.after, d)
            ]
            delta_u[step.t] = [by_gate([du for du, _, _ in row]) for row in parts]
            delta_v[step.t] = [by_gate([dv for _, dv, _ in row]) for row in parts]
            # The output h of each unit contributes to the net inputs v = h U of all units, so dL/dh includes dL/dv U^T.
            d = [[before for _, _, before in row] for row in parts]
            d = with_added_hidden(d, product(delta_v[step.t], transposed(U)))

        # The net inputs of a step are u = x W + b and v = h U, as those of dense layers with the inputs x and h. The
        # gradients of W and U are therefore transposed(x) dL/du and transposed(h) dL/dv, summed over all steps.
        steps.sort(key=lambda step: step.t)
        X, H = list(chain(*(step.X for step in steps))), list(chain(*(hidden(step.before) for step in steps)))
        all_u, all_v = list(chain(*delta_u)), list(chain(*delta_v))
        dW, dU = product(transposed(X), all_u), product(transposed(H), all_v)
        return delta_u, dW, dU, column_sums(all_u), column_sums(all_v)

    def input_gradient(self, A_in: Rows, delta: Any) -> Rows:
        """Return dL/dA_in, the derivatives of the loss with respect to the inputs, given dL/du from `backward`."""
        # The input x of a step contributes only to the net inputs u = x W + b of this step, in each direction.
        dA = [[0.0] * len(row) for row in A_in]
        for direction, delta_u in enumerate(delta):
            W, *_ = self.parameters(direction)
            dX = side_by_side(*(product(rows, transposed(W)) for rows in delta_u))
            dA = [[a + b for a, b in zip(*rows)] for rows in zip(dA, dX)]
        return dA


class SimpleRNN(RecurrentLayer):
    """Simple recurrent layer with input x, state h and activation f: h' = f(u + v) = f(x W + h U + b)."""

    n_gates = 1

    def unit_forward(self, u: Row, v: Row, state: State) -> State:
        """Return the new state (h',) of one unit."""
        f, _ = ACTIVATIONS[self.activation]
        return (f(u[0] + v[0]),)

    def unit_backward(self, u: Row, v: Row, before: State, after: State, d: State) -> tuple[Row, Row, State]:
        """Return dL/du, dL/dv and dL/d(old state) of one unit for the loss L, given d = dL/d(new state)."""
        # The state is h' = f(u + v) with net inputs u and v, so dL/du = dL/dv = dL/dh' * f'(u + v).
        _, derivative = ACTIVATIONS[self.activation]
        delta = [d[0] * derivative(u[0] + v[0], after[0])]
        return delta, delta, (0.0,)


class GRU(RecurrentLayer):
    """Gated recurrent unit with net inputs u and v, state h and the gates z (update), r (reset), n (candidate state).

    z = sigmoid(u_z + v_z), r = sigmoid(u_r + v_r), n = tanh(u_n + r * v_n)
    h' = z * h + (1 - z) * n
    """

    n_gates = 3
    n_bias_rows = 2

    def gates(self, u: Row, v: Row) -> tuple[float, float, float]:
        """Return the values of the gates z, r and n of one unit."""
        z, r = sigmoid(u[0] + v[0]), sigmoid(u[1] + v[1])
        return z, r, math.tanh(u[2] + r * v[2])

    def unit_forward(self, u: Row, v: Row, state: State) -> State:
        """Return the new state (h',) of one unit."""
        (h,), (z, _, n) = state, self.gates(u, v)
        return (z * h + (1 - z) * n,)

    def unit_backward(self, u: Row, v: Row, before: State, after: State, d: State) -> tuple[Row, Row, State]:
        """Return dL/du, dL/dv and dL/d(old state) of one unit for the loss L, given d = dL/d(new state)."""
        (h,), (dh,), (z, r, n) = before, d, self.gates(u, v)
        # The new state of a GRU is h' = z * h + (1 - z) * n.
        dz, dn = dh * (h - n), dh * (1 - z)
        # The candidate state is n = tanh(u_n + r * v_n), and the derivative of tanh is 1 - n^2.
        delta_n = dn * (1 - n * n)
        dr = delta_n * v[2]
        # The gates z and r are sigmoids. The derivative of a sigmoid z is z * (1 - z).
        delta_z, delta_r = dz * z * (1 - z), dr * r * (1 - r)
        return [delta_z, delta_r, delta_n], [delta_z, delta_r, delta_n * r], (dh * z,)


class LSTM(RecurrentLayer):
    """Long short-term memory with net inputs u and v, states h and c, and the gates i, f (forget), g (candidate) and o.

    i = sigmoid(u_i + v_i), f = sigmoid(u_f + v_f), g = tanh(u_g + v_g), o = sigmoid(u_o + v_o)
    c' = f * c + i * g, h' = o * tanh(c')
    """

    n_gates = 4
    n_states = 2

    def gates(self, u: Row, v: Row) -> tuple[float, float, float, float]:
        """Return the values of the gates i, f, g and o of one unit."""
        i, f, g, o = (u_k + v_k for u_k, v_k in zip(u, v))
        return sigmoid(i), sigmoid(f), math.tanh(g), sigmoid(o)

    def unit_forward(self, u: Row, v: Row, state: State) -> State:
        """Return the new state (h', c') of one unit."""
        (_, c), (i, f, g, o) = state, self.gates(u, v)
        c = f * c + i * g
        return o * math.tanh(c), c

    def unit_backward(self, u: Row, v: Row, before: State, after: State, d: State) -> tuple[Row, Row, State]:
        """Return dL/du, dL/dv and dL/d(old state) of one unit for the loss L, given d = dL/d(new state)."""
        (_, c), (_, c_new), (dh, dc), (i, f, g, o) = before, after, d, self.gates(u, v)
        # The output is h' = o * tanh(c'), and the derivative of tanh is 1 - tanh^2. dc is dL/dc' through the next step.
        t = math.tanh(c_new)
        do, dc = dh * t, dc + dh * o * (1 - t * t)
        # The new cell state of an LSTM is c' = f * c + i * g.
        di, df, dg = dc * g, dc * c, dc * i
        # The gates i, f and o are sigmoids with derivative i * (1 - i), and g is a tanh with derivative 1 - g^2.
        delta = [di * i * (1 - i), df * f * (1 - f), dg * (1 - g * g), do * o * (1 - o)]
        return delta, delta, (0.0, dc * f)
