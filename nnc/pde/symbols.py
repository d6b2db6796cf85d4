"""Symbols: objects that stand for one number per point, and record what a residual computes from them.

A `Symbol` is a node of a graph. A `Jet` is a function of the inputs with its derivatives, all of them symbols: an
output transform is computed with jets, so the chain rule yields the derivatives of the transformed outputs.
"""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nnc.pde.program import Graph

MAX_POWER = 64  # largest absolute value of an exponent that is expanded into products


class Traced:
    """Base class of symbols and jets: arithmetic and NumPy functions, based on methods of the subclasses."""

    __slots__ = ()

    def _sum(self, other: Any) -> Any:
        raise NotImplementedError

    def _product(self, other: Any) -> Any:
        raise NotImplementedError

    def _function(self, name: str) -> Any:
        raise NotImplementedError

    def __add__(self, other: Any) -> Any:
        return self._sum(_checked(other))

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        return self._product(_checked(other))

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return self._product(-1.0)

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Any:
        return self._function("absolute")

    def __sub__(self, other: Any) -> Any:
        return self._sum(-_checked(other))

    def __rsub__(self, other: Any) -> Any:
        return (-self)._sum(_checked(other))

    def __truediv__(self, other: Any) -> Any:
        other = _checked(other)
        return self._product(other._function("reciprocal") if isinstance(other, Traced) else 1.0 / other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._function("reciprocal")._product(_checked(other))

    def __pow__(self, exponent: Any) -> Any:
        exponent = _checked(exponent)
        if isinstance(exponent, Traced):
            return (self._function("log") * exponent)._function("exp")
        if exponent == int(exponent) and 1 <= abs(exponent) <= MAX_POWER:
            power = _power(self, abs(int(exponent)))
            return power if exponent > 0 else power._function("reciprocal")
        if exponent == 0.5:
            return self._function("sqrt")
        return (self._function("log") * exponent)._function("exp")

    def __rpow__(self, base: Any) -> Any:
        return (self * math.log(_checked(base)))._function("exp")

    def _refuse_branch(self, *_: Any) -> Any:
        raise TypeError(
            "a residual must not depend on comparisons such as `u > 0`, because it is traced once for all points; use "
            "functions such as np.maximum and np.abs, or pass derivatives= and return the derivatives of the residual"
        )

    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _refuse_branch
    __hash__ = None  # type: ignore[assignment]

    def _refuse_number(self) -> Any:
        raise TypeError(
            "a symbol must not be converted to a number; use the functions of NumPy instead of those of math"
        )

    __float__ = __int__ = __complex__ = _refuse_number

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        function = FUNCTIONS.get(ufunc.__name__)
        if function is None or method != "__call__" or options:
            raise TypeError(f"a residual must use only {known_functions()}, got np.{ufunc.__name__}; {FALLBACK}")
        return function(*map(_checked, inputs))

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"a residual must use only {known_functions()}, got np.{function.__name__}; {FALLBACK}")


def _checked(other: Any) -> Any:
    """Return an operand; raise TypeError unless it is a number, a symbol or a jet."""
    if isinstance(other, Traced):
        return other
    if isinstance(other, Real) or (isinstance(other, np.ndarray) and other.ndim == 0):
        return float(other)
    raise TypeError(
        f"the operands of a residual must be numbers, coordinates, outputs or coefficients, got "
        f"{type(other).__name__}; "
        "pass known values at the points as data="
    )


def _power(base: Any, exponent: int) -> Any:
    """Return base**exponent for an exponent of at least 1, by repeated squaring."""
    if exponent == 1:
        return base
    half = _power(base, exponent // 2)
    return half * half * base if exponent % 2 else half * half


def _primitive(name: str) -> Callable[[Any], Any]:
    return lambda x: x._function(name)


def _larger(x: Any, y: Any) -> Any:
    return (x + y + abs(x - y)) * 0.5


def _exp(x: Any) -> Any:
    return x._function("exp")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "float_power": operator.pow,
    "negative": operator.neg,
    "positive": operator.pos,
    "square": lambda x: x * x,
    "absolute": abs,
    "fabs": abs,
    **{name: _primitive(name) for name in ("reciprocal", "sqrt", "exp", "log", "sin", "cos", "tanh", "arctan", "sign")},
    "tan": lambda x: x._function("sin") / x._function("cos"),
    "sinh": lambda x: (_exp(x) - _exp(-x)) * 0.5,
    "cosh": lambda x: (_exp(x) + _exp(-x)) * 0.5,
    "exp2": lambda x: _exp(x * math.log(2)),
    "log2": lambda x: x._function("log") * (1 / math.log(2)),
    "log10": lambda x: x._function("log") * (1 / math.log(10)),
    "maximum": _larger,
    "minimum": lambda x, y: -_larger(-x, -y),
    "hypot": lambda x, y: (x * x + y * y)._function("sqrt"),
}
FALLBACK = "otherwise, pass derivatives= and return the derivatives of the residual too"


def known_functions() -> str:
    """Return the names of the functions that a residual may use, for messages."""
    operators = ("add", "subtract", "multiply", "divide", "power", "negative", "positive", "float_power", "fabs")
    return ", ".join(["+ - * / **", *(f"np.{name}" for name in FUNCTIONS if name not in operators)])


class Symbol(Traced):
    """Symbol that stands for one number per point while a residual is traced: a node of a graph of operations.

    Parameters
    ----------
    graph : Graph
        Graph to which operations are added.
    index : int
        Index of the node in `graph.nodes`.
    """

    __slots__ = ("graph", "index")

    def __init__(self, graph: Graph, index: int) -> None:
        self.graph, self.index = graph, index

    def d(self, *inputs: str | int) -> Any:
        """Raise TypeError: only outputs have derivatives."""
        raise TypeError("d must be called on an output; write a second derivative as u.d('x', 'x')")

    def _new(self, name: str, other: Symbol | None = None, constant: float = 0.0) -> Symbol:
        return Symbol(self.graph, self.graph.add(name, self.index, None if other is None else other.index, constant))

    def _sum(self, other: Any) -> Any:
        if isinstance(other, Symbol):
            return self._new("add", other)
        if isinstance(other, Traced):
            return NotImplemented
        return self if other == 0 else self._new("add_constant", constant=other)

    def _product(self, other: Any) -> Any:
        if isinstance(other, Symbol):
            return self._new("multiply", other)
        if isinstance(other, Traced):
            return NotImplemented
        if other == 0:
            return 0.0
        return self if other == 1 else self._new("multiply_constant", constant=other)

    def _function(self, name: str) -> Symbol:
        return self._new(name)

    def __sub__(self, other: Any) -> Any:
        return self._new("subtract", other) if isinstance(other, Symbol) else super().__sub__(other)

    def __truediv__(self, other: Any) -> Any:
        return self._new("divide", other) if isinstance(other, Symbol) else super().__truediv__(other)


class Jet(Traced):
    """Function of the inputs with its first and second derivatives; missing derivatives are zero.

    Parameters
    ----------
    value : Symbol or float
        Value of the function.
    first : dict of int to Symbol or float
        Derivatives with respect to input i.
    second : dict of (int, int) to Symbol or float
        Derivatives with respect to inputs i and k, i <= k.
    """

    __slots__ = ("first", "second", "value")

    def __init__(self, value: Any, first: dict[int, Any], second: dict[tuple[int, int], Any]) -> None:
        self.value, self.first, self.second = value, first, second

    def _sum(self, other: Any) -> Jet:
        other = as_jet(other)
        first, second = dict(self.first), dict(self.second)
        for key, x in other.first.items():
            first[key] = first.get(key, 0.0) + x
        for pair, x in other.second.items():
            second[pair] = second.get(pair, 0.0) + x
        return Jet(self.value + other.value, first, second)

    def _product(self, other: Any) -> Jet:
        other = as_jet(other)
        first: dict[int, Any] = {}
        second: dict[tuple[int, int], Any] = {}
        for x, y in ((self, other), (other, self)):
            for i, slope in x.first.items():
                first[i] = first.get(i, 0.0) + slope * y.value
                for k, other_slope in y.first.items():
                    if i <= k:  # both passes add the pair (i, i), which gives the term 2 x' y' of the product rule
                        second[i, k] = second.get((i, k), 0.0) + slope * other_slope
            for pair, curvature in x.second.items():
                second[pair] = second.get(pair, 0.0) + curvature * y.value
        return Jet(self.value * other.value, first, second)

    def _function(self, name: str) -> Jet:
        x = self.value if isinstance(self.value, Symbol) else None
        if x is None:  # constant function, for example the product of an output and 0
            return Jet(getattr(np, name)(self.value), {}, {})
        value = x._function(name)
        slope, curvature = _CHAIN_RULES[name](x, value)
        first = {i: slope * d for i, d in self.first.items()}
        second = {pair: slope * d for pair, d in self.second.items()}
        for i, d in self.first.items():
            for k, e in self.first.items():
                if i <= k:
                    second[i, k] = second.get((i, k), 0.0) + curvature * (d * e)
        return Jet(value, first, second)


# First and second derivative of each function at x, given x and the value f of the function.
_CHAIN_RULES: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "reciprocal": lambda x, f: (-(f * f), 2.0 * f * f * f),
    "sqrt": lambda x, f: (0.5 / f, -0.25 / (f * x)),
    "exp": lambda x, f: (f, f),
    "log": lambda x, f: (1.0 / x, -1.0 / (x * x)),
    "sin": lambda x, f: (np.cos(x), -f),
    "cos": lambda x, f: (-np.sin(x), -f),
    "tanh": lambda x, f: (1.0 - f * f, -2.0 * f * (1.0 - f * f)),
    "arctan": lambda x, f: (1.0 / (1.0 + x * x), -2.0 * x / _power(1.0 + x * x, 2)),
    "absolute": lambda x, f: (np.sign(x), 0.0),
    "sign": lambda x, f: (0.0, 0.0),
}


def as_jet(x: Any) -> Jet:
    """Return x as a jet; numbers and symbols become constants, whose derivatives are zero."""
    return x if isinstance(x, Jet) else Jet(x, {}, {})


class Points:
    """Argument `p` of a residual: the coordinates of the points, and their data columns.

    `p["x"]` or `p[0]` is a column. `x, t = p` gives all coordinates.

    Parameters
    ----------
    names : sequence of str
        Names of the coordinates.
    columns : dict of str to column
        Coordinates and data columns by name.
    """

    def __init__(self, names: Sequence[str], columns: dict[str, Any]) -> None:
        self._names, self._columns = names, columns

    def __getitem__(self, name: str | int) -> Any:
        if not isinstance(name, str):
            return self._columns[self._names[name]]
        if name not in self._columns:
            raise KeyError(f"the points have no column {name!r}; their columns are {', '.join(self._columns)}")
        return self._columns[name]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"columns of points must be read as p[{name!r}], got p.{name}")

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Any]:
        return (self._columns[name] for name in self._names)


class Output(Symbol):
    """Argument `u` of a residual: an output of the network, with its derivatives.

    Parameters
    ----------
    value : Symbol
        Value of the output.
    derivative : callable
        derivative(i) and derivative(i, k), i <= k, return a derivative with respect to the inputs with these indices.
    names : sequence of str
        Names of the inputs.
    """

    __slots__ = ("_derivative", "_names")

    def __init__(self, value: Symbol, derivative: Callable[..., Any], names: Sequence[str]) -> None:
        super().__init__(value.graph, value.index)
        self._derivative, self._names = derivative, names

    def __getitem__(self, index: Any) -> Any:
        raise TypeError(
            f"an output must be used without an index, got [{index!r}]; u is a list only if the network has several "
            "outputs"
        )

    def d(self, *inputs: str | int) -> Any:
        """Return a derivative with respect to one or two inputs, as names or indices: `u.d("x", "x")`."""
        if len(inputs) not in (1, 2):
            raise TypeError(f"u.d must have one or two inputs, got {len(inputs)}")
        return self._derivative(*sorted(input_index(self._names, name) for name in inputs))

    def laplacian(self, *inputs: str | int) -> Any:
        """Return the sum of the second derivatives with respect to each of `inputs`; default: all inputs."""
        return sum(self.d(name, name) for name in inputs or self._names)


def input_index(names: Sequence[str], name: str | int) -> int:
    """Return the index of an input, given by its name or index."""
    if name in names:
        return names.index(name)
    if isinstance(name, int) and not isinstance(name, bool) and -len(names) <= name < len(names):
        return name % len(names)
    raise ValueError(f"inputs of a derivative must be one of {', '.join(names)}, or an index, got {name!r}")
