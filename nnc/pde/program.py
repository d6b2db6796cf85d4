"""Programs: residuals as lists of pointwise operations, which the core runs on vectors of points.

A program has one slot for each number of a point: first its inputs, then the result of each operation. `OPERATIONS`
defines all operations; src/objectives/residual.pxd implements them in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Node = tuple[Any, ...]
    Channel = tuple[int, ...]


class Operation(NamedTuple):
    """Operation of a program, in NumPy.

    Attributes
    ----------
    forward : callable
        forward(x, y, c) returns the result f for operands x and y, and a constant c.
    backward : callable
        backward(g, x, y, f, c) returns the derivatives of the loss with respect to x and y, given the derivative g with
        respect to f.
    """

    forward: Callable[..., Any]
    backward: Callable[..., tuple[Any, Any]]


def _unary(function: Callable[[Any], Any], derivative: Callable[[Any, Any], Any]) -> Operation:
    """Return an operation with one operand; derivative(x, f) returns f'(x), given x and the value f of the function."""
    return Operation(lambda x, y, c: function(x), lambda g, x, y, f, c: (g * derivative(x, f), None))


OPERATIONS = {
    "add": Operation(lambda x, y, c: x + y, lambda g, x, y, f, c: (g, g)),
    "subtract": Operation(lambda x, y, c: x - y, lambda g, x, y, f, c: (g, -g)),
    "multiply": Operation(lambda x, y, c: x * y, lambda g, x, y, f, c: (g * y, g * x)),
    "divide": Operation(lambda x, y, c: x / y, lambda g, x, y, f, c: (g / y, -g * f / y)),
    "add_constant": Operation(lambda x, y, c: x + c, lambda g, x, y, f, c: (g, None)),
    "multiply_constant": Operation(lambda x, y, c: x * c, lambda g, x, y, f, c: (g * c, None)),
    "reciprocal": _unary(lambda x: 1 / x, lambda x, f: -f * f),
    "sqrt": _unary(np.sqrt, lambda x, f: 0.5 / f),
    "exp": _unary(np.exp, lambda x, f: f),
    "log": _unary(np.log, lambda x, f: 1 / x),
    "sin": _unary(np.sin, lambda x, f: np.cos(x)),
    "cos": _unary(np.cos, lambda x, f: -np.sin(x)),
    "tanh": _unary(np.tanh, lambda x, f: 1 - f * f),
    "arctan": _unary(np.arctan, lambda x, f: 1 / (1 + x * x)),
    "absolute": _unary(np.abs, lambda x, f: np.sign(x)),
    "sign": _unary(np.sign, lambda x, f: 0 * x),
}
CODES = {name: code for code, name in enumerate(OPERATIONS)}
INPUTS = ("channel", "column", "coefficient")  # kinds of input nodes of a graph


class Graph:
    """List of the operations that are traced; an operation that occurs several times is stored once.

    Attributes
    ----------
    nodes : list of tuples
        ("channel", output, indices of the inputs by which the output is differentiated), ("column", index of a
        coordinate or of a data column), ("coefficient", index), or (name in OPERATIONS, operand, second operand or
        None, constant).
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._index: dict[Node, int] = {}

    def add(self, *node: Any) -> int:
        """Return the index of a node, which is added if it does not exist."""
        index = self._index.setdefault(node, len(self.nodes))
        if index == len(self.nodes):
            self.nodes.append(node)
        return index


class Program:
    """Residual as a list of operations on numbered slots; the docstring of the module defines the slots.

    Parameters
    ----------
    graph : Graph
        Traced operations. Operations on which no result depends are left out.
    results : sequence of int
        Nodes of the residuals.
    n_outputs, n_columns, n_coefficients : int
        Number of outputs of the network, of coordinates and data columns, and of coefficients.

    Attributes
    ----------
    channels : list of tuples
        Channels of each output in order: () is the value, (i,) the derivative with respect to input i, and (i, k) the
        second derivative with respect to inputs i and k. Second derivatives come last.
    n_inputs : int
        Number of input slots: n_outputs * len(channels) for output 0, output 1, ..., then columns and coefficients.
    operations : int32 array (n, 3)
        Code of each operation and the slots of its operands.
    constants : float64 array (n,)
        Constant of each operation.
    results : int32 array
        Slots of the residuals.
    uses_outputs : bool
        Whether a result depends on an output of the network.
    """

    def __init__(
        self, graph: Graph, results: Sequence[int], n_outputs: int, n_columns: int, n_coefficients: int
    ) -> None:
        needed = _reachable(graph.nodes, results)
        nodes = [(index, graph.nodes[index]) for index in sorted(needed)]
        seconds = sorted({node[2] for _, node in nodes if node[0] == "channel" and len(node[2]) == 2})
        firsts = {(i,) for pair in seconds for i in pair}
        firsts |= {node[2] for _, node in nodes if node[0] == "channel" and len(node[2]) == 1}
        self.channels: list[Channel] = [(), *sorted(firsts), *seconds]
        self.uses_outputs = any(node[0] == "channel" for _, node in nodes)
        self.n_outputs, self.n_columns, self.n_coefficients = n_outputs, n_columns, n_coefficients
        n_channels = n_outputs * len(self.channels)
        self.n_inputs = n_channels + n_columns + n_coefficients
        slots: dict[int, int] = {}
        operations: list[tuple[int, int, int]] = []
        constants: list[float] = []
        for index, node in nodes:
            if node[0] == "channel":
                slots[index] = node[1] * len(self.channels) + self.channels.index(node[2])
            elif node[0] in INPUTS:
                slots[index] = n_channels + node[1] + (n_columns if node[0] == "coefficient" else 0)
            else:
                name, a, b, constant = node
                slots[index] = self.n_inputs + len(operations)
                operations.append((CODES[name], slots[a], 0 if b is None else slots[b]))
                constants.append(constant)
        self.operations = np.array(operations, np.int32).reshape(-1, 3)
        self.constants = np.array(constants, np.float64)
        self.results = np.array([slots[index] for index in results], np.int32)

    def run(self, inputs: Iterable[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the values of all slots for the values of the input slots, each with one number per point."""
        values = list(inputs)
        with np.errstate(all="ignore"):
            for (code, a, b), constant in zip(self.operations.tolist(), self.constants.tolist(), strict=True):
                values.append(_FUNCTIONS[code].forward(values[a], values[b], constant))
        return values

    def derivatives(self, values: Sequence[NDArray[Any]], seeds: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the derivative of a loss with respect to each slot, by backpropagation from the residuals.

        Parameters
        ----------
        values : sequence of arrays
            Result of `run`.
        seeds : sequence of arrays
            Derivative of the loss with respect to each residual.
        """
        slopes: list[Any] = [np.zeros_like(value) for value in values]
        for slot, seed in zip(self.results.tolist(), seeds, strict=True):
            slopes[slot] = slopes[slot] + seed
        for i in range(len(self.operations) - 1, -1, -1):
            code, a, b = self.operations[i].tolist()
            result = self.n_inputs + i
            by_a, by_b = _FUNCTIONS[code].backward(
                slopes[result], values[a], values[b], values[result], self.constants[i]
            )
            slopes[a] = slopes[a] + by_a
            if by_b is not None:
                slopes[b] = slopes[b] + by_b
        return slopes


_FUNCTIONS = list(OPERATIONS.values())


def _reachable(nodes: Sequence[Node], results: Iterable[int]) -> set[int]:
    """Return the indices of the nodes on which the results depend."""
    needed, waiting = set(), list(results)
    while waiting:
        index = waiting.pop()
        if index not in needed:
            needed.add(index)
            if nodes[index][0] not in INPUTS:
                waiting += [operand for operand in nodes[index][1:3] if operand is not None]
    return needed
