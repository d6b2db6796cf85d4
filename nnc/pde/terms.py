"""Terms of the loss of a `Problem`: residuals of equations, and values at points."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.arrays import as_real_array
from nnc._utils.checks import check_real, short_repr
from nnc._utils.containers import as_array
from nnc.pde.program import Graph, Program
from nnc.pde.symbols import Jet, Output, Points, Symbol, as_jet, input_index

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

MAX_RESIDUALS = 16  # largest number of residuals of a term


class Residual:
    """Mean square of the residual of an equation, as a term of a loss. The mean squares of several residuals are added.

    The residual is a function of the coordinates, of the outputs of the network and of their derivatives. It is traced
    once, and the compiled core then computes it at all points.

    Parameters
    ----------
    function : callable
        function(p, u, ...) returns the residual, or a tuple of several residuals. `p["x"]` and `p[0]` are coordinates.
        `u` is the output, or a list if the network has several outputs; `u.d("t")` and `u.d("x", "x")` are its first
        and second derivatives, and `u.laplacian("x", "y")` is the sum of its second derivatives with respect to x and
        y. Further parameters are coefficients of the problem, by their names. The function uses the operators and
        functions of NumPy.
    points : array (n, n_in)
        Points at which the residual should be 0. A vector is a column if the network has one input.
    weight : float or array (n,), default 1.0
        Weight of the term, or of each point.
    name : str, optional
        Name of the term, and of its column in the History. Default: "residual", "residual_2", ...
    data : dict of str to array (n,), optional
        Known values at the points, by name; `function` reads them as `p["name"]`.
    derivatives : list of tuples of str, optional
        Derivatives that `function` uses, if it cannot be traced; () is the value, ("x", "x") a second derivative. The
        function then gets arrays once per step: function(p, U, ...) with U (n_out, len(derivatives), n). It returns the
        residual (n,), its derivatives with respect to U with the shape of U, and a dict of its derivatives (n,) with
        respect to the coefficients that it uses.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.
    """

    default_name = "residual"

    def __init__(
        self,
        function: Callable[..., Any],
        points: ArrayLike,
        *,
        weight: float | ArrayLike = 1.0,
        name: str | None = None,
        data: Mapping[str, ArrayLike] | None = None,
        derivatives: Sequence[Sequence[str | int]] | None = None,
    ) -> None:
        if not callable(function):
            expected = "a function (p, u, ...) of points and outputs"
            raise TypeError(f"function must be {expected}, got {short_repr(function)}")
        if name is not None and (not isinstance(name, str) or not name):
            raise TypeError(f"name must be a str that is not empty, got {short_repr(name)}")
        self.function, self.points, self.name, self.weight = function, points, name, weight
        self.data = checked_dict("data", data)
        self.derivatives = None if derivatives is None else [tuple(key) for key in derivatives]


class Values(Residual):
    """Mean square of the differences between outputs and given values: data, boundary or initial conditions.

    The mean is taken over all points and outputs.

    Parameters
    ----------
    points : array (n, n_in)
        Points at which the outputs are known.
    y : float or array (n,) or (n, n_out)
        Values of the outputs; one number for all points is allowed.
    weight : float or array (n,), default 1.0
        Weight of the term, or of each point.
    name : str, optional
        Name of the term. Default: "values", "values_2", ...
    """

    default_name = "values"

    def __init__(
        self, points: ArrayLike, y: ArrayLike, *, weight: float | ArrayLike = 1.0, name: str | None = None
    ) -> None:
        super().__init__(lambda p, u: None, points, weight=weight, name=name)
        self.y = y


class Setting:
    """Names and scalings of a problem, which the tracing of its residuals needs.

    Attributes
    ----------
    inputs : tuple of str
        Names of the inputs.
    coefficients : tuple of str
        Names of the coefficients.
    n_out : int
        Number of outputs of the network.
    transform : callable or None
        Output transform: transform(p, N) returns the outputs u.
    scale_X, scale_y : (array, array) or None
        Shift and factor of each input and output.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        coefficients: Sequence[str],
        n_out: int,
        transform: Callable[..., Any] | None,
        scale_X: tuple[NDArray[Any], NDArray[Any]] | None,
        scale_y: tuple[NDArray[Any], NDArray[Any]] | None,
    ) -> None:
        self.inputs, self.coefficients, self.n_out, self.transform = (
            tuple(inputs),
            tuple(coefficients),
            n_out,
            transform,
        )
        self.scale_X, self.scale_y = scale_X, scale_y

    def channel(self, graph: Graph, j: int, *key: int) -> Symbol:
        """Return output j of the network, or a derivative of it, in the units of the caller."""
        symbol = Symbol(graph, graph.add("channel", j, key))
        factor, shift = 1.0, 0.0
        for i in key:
            factor *= 1.0 if self.scale_X is None else float(self.scale_X[1][i])
        if self.scale_y is not None:
            factor, shift = factor / float(self.scale_y[1][j]), 0.0 if key else float(self.scale_y[0][j])
        scaled: Symbol = symbol * factor + shift
        return scaled

    def outputs(self, graph: Graph, columns: Sequence[Symbol], coefficients: Mapping[str, Symbol]) -> list[Output]:
        """Return the outputs and their derivatives, after the output transform of the problem."""
        channel, names = self.channel, self.inputs

        def raw(j: int) -> Callable[..., Any]:
            return lambda *key: channel(graph, j, *key)

        if self.transform is None:
            return [Output(channel(graph, j), raw(j), names) for j in range(self.n_out)]
        n_in = len(names)
        jets = [
            Jet(
                channel(graph, j),
                {i: channel(graph, j, i) for i in range(n_in)},
                {(i, k): channel(graph, j, i, k) for i in range(n_in) for k in range(i, n_in)},
            )
            for j in range(self.n_out)
        ]
        points = Points(names, {name: Jet(columns[i], {i: 1.0}, {}) for i, name in enumerate(names)})
        result = call(self.transform, "transform", points, jets, coefficients)
        transformed = [as_jet(u) for u in (result if isinstance(result, (tuple, list)) else [result])]
        for u in transformed:
            if not isinstance(u.value, Symbol):
                raise TypeError(f"transform must return functions of the outputs and coordinates, got {result!r}")

        def derivative(u: Jet) -> Callable[..., Any]:
            return lambda *key: u.first.get(key[0], 0.0) if len(key) == 1 else u.second.get(key, 0.0)

        return [Output(u.value, derivative(u), names) for u in transformed]

    def trace(self, term: Residual, n_data: int) -> Program:
        """Return the program of a term."""
        graph = Graph()
        n_in = len(self.inputs)
        columns = [Symbol(graph, graph.add("column", i)) for i in range(n_in + n_data)]
        coefficients = {name: Symbol(graph, graph.add("coefficient", i)) for i, name in enumerate(self.coefficients)}
        data = columns[n_in:]
        if term.derivatives is not None:
            results: Any = [self._linearized(graph, term, data, coefficients)]
        else:
            u = self.outputs(graph, columns, coefficients)
            if isinstance(term, Values):
                results = [output - column for output, column in zip(u, data, strict=True)]
            else:
                named = dict(zip((*self.inputs, *term.data), columns, strict=True))
                results = call(term.function, "function", Points(self.inputs, named), u, coefficients)
        results = list(results) if isinstance(results, (tuple, list)) else [results]
        if not results or len(results) > MAX_RESIDUALS or not all(isinstance(r, Symbol) for r in results):
            raise TypeError(
                f"function must return a residual that depends on the outputs, or a tuple of up to {MAX_RESIDUALS} of "
                f"them, got {short_repr(results[0] if len(results) == 1 else results)}"
            )
        program = Program(graph, [r.index for r in results], self.n_out, n_in + n_data, len(self.coefficients))
        if not program.uses_outputs:
            raise TypeError("function must return a residual that depends on the outputs, got one without them")
        return program

    def keys(self, term: Residual) -> list[tuple[int, ...]]:
        """Return the derivatives that a term with `derivatives` uses, each as a tuple of sorted input indices."""
        assert term.derivatives is not None
        keys = [tuple(sorted(input_index(self.inputs, name) for name in key)) for key in term.derivatives]
        if not keys or max(map(len, keys)) > 2 or self.transform is not None:
            raise ValueError(
                "derivatives must be a list of tuples with at most two inputs each, for a problem without transform, "
                f"got {term.derivatives!r}"
            )
        return keys

    def _linearized(
        self, graph: Graph, term: Residual, data: Sequence[Symbol], coefficients: Mapping[str, Symbol]
    ) -> Symbol:
        """Return the linear approximation of a residual; the constant and the slopes are data columns."""
        variables = [self.channel(graph, j, *key) for j in range(self.n_out) for key in self.keys(term)]
        total = data[0]
        for slope, variable in zip(data[1:], [*variables, *coefficients.values()], strict=True):
            total = total + slope * variable
        return total


def call(
    function: Callable[..., Any], name: str, points: Points, u: Sequence[Any], coefficients: Mapping[str, Any]
) -> Any:
    """Return function(p, u, ...); each further parameter of the function gets the coefficient with its name."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # pass no coefficients to a built-in function, which has no signature
        parameters = []
    needed = [p.name for p in parameters[2:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    unknown = [p for p in needed if p not in coefficients]
    if unknown and parameters[2 + needed.index(unknown[0])].default is inspect.Parameter.empty:
        names = ", ".join(coefficients) or "none"
        raise TypeError(f"{name} must have p, u and names of coefficients ({names}) as parameters, got {unknown[0]!r}")
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        needed = list(coefficients)
    return function(points, u[0] if len(u) == 1 else u, **{p: coefficients[p] for p in needed if p in coefficients})


def checked_dict(argument: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an argument as a dict, which is empty for None; raise TypeError for other types."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{argument} must be a dict with names as keys, got {short_repr(value)}")
    return dict(value or {})


def checked_points(name: str, points: ArrayLike, n_in: int) -> NDArray[np.float64]:
    """Return points as a finite float64 array (n, n_in)."""
    array = np.array(as_real_array(name, points), np.float64)
    if array.ndim == 1 and n_in == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != n_in or not len(array):
        raise ValueError(f"{name} must have shape (n, {n_in}) with n >= 1, got {array.shape}")
    _check_finite(name, array)
    return array


def _check_finite(name: str, array: NDArray[Any]) -> None:
    """Raise ValueError if a number is NaN or infinite."""
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        i = tuple(wrong[0].tolist())
        raise ValueError(f"{name} must be finite, got {array[i]} at index {i}; remove this row")


def _column(name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return values as a finite float64 array that can be broadcast to `shape`."""
    array = np.array(as_real_array(name, values), np.float64)
    if array.ndim == 1 and len(shape) == 2 and array.shape != (1,):
        array = array[:, None]
    try:
        array = np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} must have shape {shape} like the points, got {array.shape}") from None
    _check_finite(name, array)
    return array


class Term:
    """Term of a problem: its compiled residual, and its points in the layout of the core.

    Parameters
    ----------
    definition : Residual
        Definition that the caller has passed.
    name : str
        Name of the term.
    setting : Setting
        Names and scalings of the problem.
    dtype : dtype
        Dtype of the network.
    lanes : int
        Number of points in a block, which is the number of lanes of a vector register.

    Attributes
    ----------
    points : float64 array (n, n_in)
        Points in the units of the caller.
    is_resampled : bool
        Whether resampling has replaced the points.
    """

    points: NDArray[np.float64]

    def __init__(self, definition: Residual, name: str, setting: Setting, dtype: Any, lanes: int) -> None:
        self.definition, self.name, self.setting, self.dtype, self.lanes = definition, name, setting, dtype, lanes
        self.is_resampled = False
        n_in = len(setting.inputs)
        where = f"points of the term {name!r}"
        points = checked_points(where, definition.points, n_in)
        n = len(points)
        if isinstance(definition, Values):
            n_out = len(setting.outputs(*_empty_graph(setting))) if setting.transform else setting.n_out
            data = _column(f"y of the term {name!r}", definition.y, (n, n_out))
        elif definition.derivatives is not None:
            keys = setting.keys(definition)
            data = np.zeros((n, 1 + setting.n_out * len(keys) + len(setting.coefficients)))
        else:
            clash = [key for key in definition.data if key in setting.inputs]
            if clash:
                raise ValueError(f"data must have other names than the inputs, got {clash[0]!r}")
            columns = [_column(f"data[{key!r}]", values, (n,)) for key, values in definition.data.items()]
            data = np.stack(columns, 1) if columns else np.empty((n, 0))
        self.data = data
        self.factor, self.weights = 1.0, np.ones(n)
        argument = f"weight of the term {name!r}"
        if as_array(argument, definition.weight).ndim:
            self.weights = _column(argument, definition.weight, (n,))
        else:
            self.factor = check_real(argument, definition.weight)
        if not 0 < self.factor < np.inf or (self.weights < 0).any():
            found = short_repr(definition.weight)
            raise ValueError(f"{argument} must be positive and finite, got {found}")
        self.program = setting.trace(definition, data.shape[1])
        self.set_points(points)

    @property
    def divisor(self) -> int:
        """Number by which the sum of squares is divided: the number of points, or of given values."""
        return self.data.size if isinstance(self.definition, Values) else len(self.points)

    def replace_points(self, points: ArrayLike) -> None:
        """Replace the points of the term; raise ValueError if it has data or a weight for each point."""
        if isinstance(self.definition, Values) or self.definition.data or np.ndim(self.definition.weight):
            raise ValueError(f"points of the term {self.name!r} cannot be replaced, because it has data or weights")
        points = checked_points(f"points for the term {self.name!r}", points, len(self.setting.inputs))
        self.data, self.weights = np.zeros((len(points), self.data.shape[1])), np.ones(len(points))
        self.is_resampled = True
        self.set_points(points)

    def at(self, points: ArrayLike) -> Term:
        """Return a copy of the term, evaluated at other points."""
        other = copy(self)
        other.replace_points(points)
        return other

    def set_points(self, points: NDArray[np.float64]) -> None:
        """Convert points to the layout of the core."""
        self.points = points
        X, scale = points, self.setting.scale_X
        if scale is not None:
            X = (points - scale[0]) * scale[1]
        self.X, self.columns = self.in_blocks(X), self.in_blocks(np.c_[points, self.data])
        self.point_weights = self.in_blocks(self.weights[:, None], padding=0.0)[:, 0]

    def in_blocks(self, rows: NDArray[Any], padding: float | None = None) -> NDArray[Any]:
        """Return rows (n, k) as (blocks, k, lanes); lanes without a row repeat the last row, or contain `padding`."""
        n, k = rows.shape
        blocks = -(-n // self.lanes)
        out = np.empty((blocks * self.lanes, k), self.dtype)
        out[:n], out[n:] = rows, rows[-1] if padding is None else padding
        return np.ascontiguousarray(out.reshape(blocks, self.lanes, k).transpose(0, 2, 1))

    def from_blocks(self, blocks: NDArray[Any], k: int) -> NDArray[Any]:
        """Return an array of the core (blocks, k * lanes) as (k, n), without the padding of the last block."""
        return blocks.reshape(len(blocks), k, self.lanes).transpose(1, 0, 2).reshape(k, -1)[:, : len(self.points)]

    def core_term(self) -> tuple[Any, ...]:
        """Return the tuple that describes the term to `EquationTraining.set_terms` of the core."""
        program = self.program
        firsts = [key[0] for key in program.channels if len(key) == 1]
        seconds = [key for key in program.channels if len(key) == 2]
        left, right = ([firsts.index(key[side]) for key in seconds] for side in (0, 1))
        lists = (np.array(numbers, np.int32) for numbers in (firsts, left, right))
        arrays = (*lists, program.operations, program.results, program.constants)
        return arrays, self.X, self.columns, self.point_weights, self.divisor, self.factor / self.divisor

    def refresh(self, channels: NDArray[Any], coefficients: Mapping[str, float]) -> None:
        """Update the linear approximation of a residual with `derivatives` at the current outputs.

        Parameters
        ----------
        channels : array (n_out, n_channels, n)
            Outputs of the network and their derivatives, before scale_y is reversed.
        coefficients : dict
            Values of the coefficients.
        """
        setting, definition = self.setting, self.definition
        keys, order = setting.keys(definition), self.program.channels
        graph = Graph()
        program = Program(
            graph,
            [setting.channel(graph, j, *key).index for j in range(setting.n_out) for key in keys],
            setting.n_out,
            0,
            0,
        )
        inputs = channels[:, [order.index(key) for key in program.channels]].reshape(-1, channels.shape[2])
        values = program.run(inputs.astype(np.float64))
        U = np.stack([values[slot] for slot in program.results]).reshape(setting.n_out, len(keys), -1)
        named = dict(zip(setting.inputs, self.points.T, strict=True))
        named |= {key: np.asarray(column, np.float64) for key, column in definition.data.items()}
        result = call(definition.function, "function", Points(setting.inputs, named), [U], coefficients)
        if not isinstance(result, tuple) or len(result) not in (2, 3):
            got = f"a tuple of length {len(result)}" if isinstance(result, tuple) else f"a {type(result).__name__}"
            raise TypeError(
                "function must return (residual, derivatives with respect to U) or (residual, derivatives, dict of its "
                f"derivatives with respect to coefficients), got {got}"
            )
        r, slopes, by_coefficients = (*result, {})[:3]
        r, slopes = np.asarray(r, np.float64), np.asarray(slopes, np.float64)
        if r.shape != (U.shape[2],) or slopes.shape != U.shape:
            expected = f"arrays with shapes ({U.shape[2]},) and {U.shape}"
            raise ValueError(f"function must return {expected}, got shapes {r.shape} and {slopes.shape}")
        rows = [np.broadcast_to(by_coefficients.get(name, 0.0), r.shape) for name in setting.coefficients]
        variables = np.concatenate([U.reshape(-1, len(r)), *[np.full((1, len(r)), v) for v in coefficients.values()]])
        all_slopes = np.concatenate([slopes.reshape(-1, len(r)), np.reshape(rows, (-1, len(r)))])
        self.data[:, 0] = r - (all_slopes * variables).sum(0)
        self.data[:, 1:] = all_slopes.T
        self.columns[...] = self.in_blocks(np.c_[self.points, self.data])


def _empty_graph(setting: Setting) -> tuple[Graph, list[Symbol], dict[str, Symbol]]:
    """Return the arguments of `Setting.outputs` with a new graph."""
    graph = Graph()
    columns = [Symbol(graph, graph.add("column", i)) for i in range(len(setting.inputs))]
    return graph, columns, {n: Symbol(graph, graph.add("coefficient", i)) for i, n in enumerate(setting.coefficients)}
