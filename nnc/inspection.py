"""Looking inside: a step of gradient descent with all its numbers, and backpropagation held against differences.

Everything is computed here anew, in float64 and by the definitions, from nothing but the weights of a network: the
engine is what is looked at. In a layer A_in are the inputs, Z = A_in W + b the net inputs, A = f(Z) the outputs; L
is the loss, and delta stands for dL/dZ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from nnc.saving.document import LOSS_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

MANY = 12  # more neurons, inputs or rows than that, and only the first few are in a text
FEW = 3
SAMPLE = 2000  # parameters that check_gradients looks at, at most
TOLERANCE = {"float64": 1e-6, "float32": 1e-3}  # the largest relative difference that check_gradients lets pass


class Network(Protocol):
    """What is looked into: `nnc.NeuralNetwork`, or anything that offers this of it."""

    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def activations(self) -> tuple[str, ...]: ...
    @property
    def loss_name(self) -> str: ...
    @property
    def loss_parameter(self) -> float | None: ...
    @property
    def bias(self) -> bool: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def weights(self) -> Iterable[NDArray[Any]]: ...
    @property
    def biases(self) -> Iterable[NDArray[Any]]: ...
    def gradients(self, X: ArrayLike, y: ArrayLike) -> list[tuple[NDArray[Any], NDArray[Any] | None]]: ...


# ---------------------------------------------------------------------------------------------- definitions


class Activation(NamedTuple):
    """a = f(z) and its slope da/dz, as text with places for the numbers and as functions of z, or of z and a."""

    text: str
    f: Callable[[Array], Array]
    slope_text: str
    slope: Callable[[Array, Array], Array]


def _sigmoid(z: Array) -> Array:
    return np.exp(-np.logaddexp(0, -z))


def _phi(z: Array) -> Array:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _Phi(z: Array) -> Array:
    erfc: Array = np.vectorize(math.erfc, otypes=[np.float64])(-z / math.sqrt(2))
    return erfc / 2


def _softmax(z: Array) -> Array:
    e: Array = np.exp(z - z.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e


ACTIVATIONS = {
    "sigmoid": Activation("1 / (1 + exp(-{z}))", _sigmoid, "{a} * (1 - {a})", lambda z, a: a * (1 - a)),
    "tanh": Activation("tanh({z})", np.tanh, "1 - {a}^2", lambda z, a: 1 - a * a),
    "relu": Activation(
        "max(0, {z})", lambda z: np.maximum(z, 0), "(1 if {z} > 0 else 0)", lambda z, a: np.where(z > 0, 1.0, 0.0)
    ),
    "leaky_relu": Activation(
        "max(0.01 * {z}, {z})",
        lambda z: np.maximum(0.01 * z, z),
        "(1 if {z} > 0 else 0.01)",
        lambda z, a: np.where(z > 0, 1.0, 0.01),
    ),
    "identity": Activation("{z}", lambda z: z.copy(), "1", lambda z, a: np.ones_like(z)),
    "softplus": Activation(
        "log(1 + exp({z}))", lambda z: np.logaddexp(0, z), "1 / (1 + exp(-{z}))", lambda z, a: _sigmoid(z)
    ),
    "elu": Activation(
        "({z} if {z} > 0 else exp({z}) - 1)",
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        "(1 if {z} > 0 else {a} + 1)",
        lambda z, a: np.where(z > 0, 1.0, a + 1),
    ),
    "gelu": Activation(
        "{z} * Phi({z})", lambda z: z * _Phi(z), "(Phi({z}) + {z} * phi({z}))", lambda z, a: _Phi(z) + z * _phi(z)
    ),
    "silu": Activation(
        "{z} / (1 + exp(-{z}))",
        lambda z: z * _sigmoid(z),
        "(1 + {z} - {a}) / (1 + exp(-{z}))",
        lambda z, a: (1 + z - a) * _sigmoid(z),
    ),
    "softmax": Activation("exp({z}) / (sum of exp(z) over the neurons)", _softmax, "", lambda z, a: np.ones_like(z)),
    "exp": Activation("exp({z})", np.exp, "{a}", lambda z, a: a.copy()),
}


class Loss(NamedTuple):
    """A term of the loss and its slope by p, with y the target, p the output, c the loss's parameter.

    The loss is the sum of the terms of all rows and outputs, divided by the number of what `mean` names.
    """

    text: str
    term: Callable[[Array, Array, Array, float], Array]  # of y, p, the net input z and c
    slope_text: str
    slope: Callable[[Array, Array, float], Array]  # of y, p and c
    mean: str = "terms"


LOSSES = {
    "sse": Loss("({y} - {p})^2", lambda y, p, z, c: (y - p) ** 2, "2 * ({p} - {y})", lambda y, p, c: 2 * (p - y), ""),
    "half_sse": Loss(
        "({y} - {p})^2 / 2", lambda y, p, z, c: (y - p) ** 2 / 2, "({p} - {y})", lambda y, p, c: p - y, ""
    ),
    "mse": Loss("({y} - {p})^2", lambda y, p, z, c: (y - p) ** 2, "2 * ({p} - {y})", lambda y, p, c: 2 * (p - y)),
    "bce": Loss(
        "-({y} * log({p}) + (1 - {y}) * log(1 - {p}))",
        lambda y, p, z, c: np.logaddexp(0, z) - y * z,
        "({p} - {y}) / ({p} * (1 - {p}))",
        lambda y, p, c: (p - y) / (p * (1 - p)),
    ),
    "cross_entropy": Loss(
        "-{y} * log({p})",
        lambda y, p, z, c: -y * (z - np.logaddexp.reduce(z, axis=1, keepdims=True)),
        "-{y} / {p}",
        lambda y, p, c: -y / p,
        "rows",
    ),
    "mae": Loss("|{y} - {p}|", lambda y, p, z, c: abs(y - p), "sign({p} - {y})", lambda y, p, c: np.sign(p - y)),
    "huber": Loss(
        "(({y} - {p})^2 / 2 if |{y} - {p}| < {c} else {c} * (|{y} - {p}| - {c} / 2))",
        lambda y, p, z, c: np.where(abs(y - p) < c, (y - p) ** 2 / 2, c * (abs(y - p) - c / 2)),
        "max(-{c}, min({c}, {p} - {y}))",
        lambda y, p, c: np.clip(p - y, -c, c),
    ),
    "log_cosh": Loss(
        "log(cosh({y} - {p}))",
        lambda y, p, z, c: np.logaddexp(y - p, p - y) - math.log(2),
        "tanh({p} - {y})",
        lambda y, p, c: np.tanh(p - y),
    ),
    "poisson": Loss(
        "({p} - {y} * log({p}))", lambda y, p, z, c: p - y * z, "(1 - {y} / {p})", lambda y, p, c: 1 - y / p
    ),
    "quantile": Loss(
        "max({c} * ({y} - {p}), ({c} - 1) * ({y} - {p}))",
        lambda y, p, z, c: np.maximum(c * (y - p), (c - 1) * (y - p)),
        "(-{c} if {y} > {p} else 1 - {c})",
        lambda y, p, c: np.where(y > p, -c, np.where(y < p, 1 - c, 0.0)),
    ),
    "hinge": Loss(
        "max(0, 1 - {y} * {p})",
        lambda y, p, z, c: np.maximum(0, 1 - y * p),
        "(-{y} if {y} * {p} < 1 else 0)",
        lambda y, p, c: np.where(y * p < 1, -y, 0.0),
    ),
}
# Of these the product of both slopes is p - y, in which nothing can be divided by 0.
SIMPLE = {("bce", "sigmoid"), ("cross_entropy", "softmax"), ("poisson", "exp")}


# ---------------------------------------------------------------------------------------------- a step, explained


@dataclass(frozen=True, eq=False, repr=False)
class LayerStep:
    """What a step does in one layer. Rows are first, the neurons of the layer last.

    Attributes
    ----------
    name, activation : str
    A_in : array (n, n_in)
        Inputs.
    Z, A : arrays (n, n_out)
        Net inputs and outputs.
    dA : array (n, n_out)
        dL/dA: by the loss in the output layer, else the sum over the neurons of the next layer of delta times weight.
    slope : array (n, n_out)
        dA/dZ. For softmax, whose outputs depend on all net inputs, and beside a loss that is computed from the net
        input, delta is not their product.
    delta : array (n, n_out)
        dL/dZ.
    W, dW, new_W : arrays (n_in, n_out)
        The weights before the step, the gradient, the weights after it.
    b, db, new_b : arrays (n_out,) or None
        The same for the biases.
    """

    name: str
    activation: str
    A_in: Array
    Z: Array
    A: Array
    dA: Array
    slope: Array
    delta: Array
    W: Array
    dW: Array
    new_W: Array
    b: Array | None
    db: Array | None
    new_b: Array | None


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """A step of gradient descent. Its `str()` is a text that one can check with a pocket calculator.

    Attributes
    ----------
    lr : float
    loss_name : str
    loss_parameter : float or None
    X : array (n, n_in)
    y : array (n, n_out)
        Targets; labels are one-hot rows here, with the label smoothing in them.
    P : array (n, n_out)
        Outputs of the network before the step.
    terms : array (n, n_out)
        What each output of each row adds to the loss.
    loss : float
        The sum of the terms.
    layers : tuple of LayerStep
        The output layer is the last.
    """

    lr: float
    loss_name: str
    loss_parameter: float | None
    X: Array
    y: Array
    P: Array
    terms: Array
    loss: float
    layers: tuple[LayerStep, ...]

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def __repr__(self) -> str:
        rows = "1 row" if len(self.X) == 1 else f"{len(self.X)} rows"
        return f"<Explanation: {rows}, lr {self.lr:g}, {self.loss_name} {self.loss:.6g}; print it>"


def explain_step(net: Network, X: ArrayLike, y: ArrayLike, lr: float) -> Explanation:
    """One step of plain gradient descent, w = w - lr dL/dw, with every number on the way. The network stays as it is.

    Parameters
    ----------
    net : NeuralNetwork
    X : array (n, n_in)
        Inputs as the first layer sees them. A vector is one row, or where the network has one input, one column.
    y : array (n, n_out), or (n,)
        Targets as the loss sees them; labels from 0 to n_out - 1 for "cross_entropy", 1 and -1 for "hinge".
    lr : float
        Learning rate.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError, TypeError
        X or y does not fit the network or holds NaN or infinity, or lr is not a positive finite number.
    """
    if isinstance(lr, (bool, str)) or not hasattr(lr, "__float__") or not 0 < lr < math.inf:
        raise ValueError(f"lr must be a positive finite number, got {lr!r}")
    problem = _Problem(net, X, y)
    A_in, Z, A = problem.forward()
    terms, dA = problem.terms(Z[-1], A[-1]), problem.slope(A[-1])
    steps: list[LayerStep] = []
    for l in range(len(Z) - 1, -1, -1):
        name = problem.activations[l]
        slope = ACTIVATIONS[name].slope(Z[l], A[l])
        if l == len(Z) - 1 and (problem.loss_name, name) in SIMPLE:
            delta = (A[l] - problem.y) / problem.divisor
        elif name == "softmax":
            delta = A[l] * (dA - (A[l] * dA).sum(axis=1, keepdims=True))
        else:
            delta = dA * slope
        W, b = problem.W[l], problem.b[l]
        dW, db = A_in[l].T @ delta, None if b is None else delta.sum(axis=0)
        title = "Output Layer" if l == len(Z) - 1 else f"Hidden Layer {l + 1}"
        new_b = None if b is None or db is None else b - lr * db
        step = LayerStep(title, name, A_in[l], Z[l], A[l], dA, slope, delta, W, dW, W - lr * dW, b, db, new_b)
        steps.insert(0, step)
        dA = delta @ W.T
    parameter = problem.parameter if problem.loss_name in LOSS_PARAMETERS else None
    return Explanation(
        float(lr), problem.loss_name, parameter, problem.X, problem.y, A[-1], terms, float(terms.sum()), tuple(steps)
    )


class _Problem:
    """A network's parameters and some rows of data, copied in float64, and the loss of both."""

    def __init__(self, net: Network, X: ArrayLike, y: ArrayLike) -> None:
        self.activations, self.loss_name = net.activations, net.loss_name
        given = net.loss_parameter
        self.parameter = float(LOSS_PARAMETERS.get(net.loss_name, 0.0) if given is None else given)
        self.W = [np.array(W, np.float64) for W in net.weights]
        self.b = [np.array(b, np.float64) for b in net.biases] if net.bias else [None] * len(self.W)
        n_in, n_out = net.sizes[0], net.sizes[-1]
        rows = _numbers("X", X)
        if rows.ndim == 1:
            rows = rows[:, None] if n_in == 1 else rows[None]
        if rows.ndim != 2 or rows.shape[1] != n_in or len(rows) == 0:
            raise ValueError(f"X must have {n_in} columns and at least one row, got shape {np.shape(X)}")
        n = len(rows)
        targets = _numbers("y", y)
        if net.loss_name == "cross_entropy" and targets.shape in ((n,), (n, 1)):
            labels = targets.reshape(n)
            if not np.isin(labels, np.arange(n_out)).all():
                raise ValueError(f"y must hold labels from 0 to {n_out - 1}, got {labels.min():g} to {labels.max():g}")
            targets = np.eye(n_out)[labels.astype(np.int64)]
        elif targets.ndim == 1:
            targets = targets[None] if n == 1 and len(targets) == n_out else targets[:, None]
        if targets.shape != (n, n_out):
            raise ValueError(f"y must have shape ({n}, {n_out}), got shape {np.shape(y)}")
        if net.loss_name == "cross_entropy":
            targets = (1 - self.parameter) * targets + self.parameter / n_out
        self.X, self.y = rows, targets
        self.divisor = {"": 1, "rows": n, "terms": n * n_out}[LOSSES[net.loss_name].mean]

    def forward(self) -> tuple[list[Array], list[Array], list[Array]]:
        """The inputs, net inputs and outputs of every layer."""
        A_in, Z, A = [self.X], [], []
        for k, name in enumerate(self.activations):
            Z.append(self._net_inputs(k, A_in[-1]))
            A.append(ACTIVATIONS[name].f(Z[-1]))
            A_in.append(A[-1])
        return A_in[:-1], Z, A

    def _net_inputs(self, k: int, A_in: Array) -> Array:
        b = self.b[k]
        Z: Array = A_in @ self.W[k]
        return Z if b is None else Z + b

    def terms(self, Z: Array, P: Array) -> Array:
        return LOSSES[self.loss_name].term(self.y, P, Z, self.parameter) / self.divisor

    def slope(self, P: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):  # where p is 0 or 1, which SIMPLE avoids
            return LOSSES[self.loss_name].slope(self.y, P, self.parameter) / self.divisor

    def loss_from(self, l: int, Z: Array) -> tuple[float, list[NDArray[np.bool_]]]:
        """The loss if layer l had the net inputs Z, and on which side of each bend all numbers then are."""
        sides, A = [], Z
        for k, name in enumerate(self.activations[l:], l):
            Z = self._net_inputs(k, A) if k > l else Z
            A = ACTIVATIONS[name].f(Z)
            if name in ("relu", "leaky_relu", "elu"):
                sides.append(Z > 0)
        if self.loss_name in ("mae", "quantile"):
            sides.append(self.y > A)
        if self.loss_name == "huber":
            sides.append(abs(self.y - A) < self.parameter)
        if self.loss_name == "hinge":
            sides.append(self.y * A < 1)
        return float(self.terms(Z, A).sum()), sides


def _numbers(name: str, value: ArrayLike) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, got elements of type {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
    return array.astype(np.float64)


# ---------------------------------------------------------------------------------------------- its text


def _lines(step: Explanation) -> Iterator[str]:
    rows = _first(len(step.X))
    plural = "s" if len(step.X) > 1 else ""
    yield f"One step of gradient descent: {len(step.X)} row{plural}, loss {step.loss_name}, lr {step.lr:g}"
    yield ""
    yield "Forward: z = sum of input * weight + bias, a = f(z)"
    for r in rows:
        yield from _forward_lines(step, r)
    yield from _left_out(len(step.X), "row")
    yield ""
    yield from _loss_lines(step, rows)
    yield ""
    yield "Backward: delta = dL/dz = dL/da * da/dz, from the last layer to the first"
    for r in rows:
        yield from _backward_lines(step, r)
    yield from _left_out(len(step.X), "row")
    yield ""
    per_row = " of every row, added up" if len(step.X) > 1 else ""
    yield f"Gradients and step: dL/dw = delta * input{per_row}; w - {step.lr:g} * dL/dw"
    for layer in step.layers:
        yield from _step_lines(layer, step.lr)


def _forward_lines(step: Explanation, r: int) -> Iterator[str]:
    yield f"Row {r}: inputs {_listed(step.X[r])}"
    for layer in step.layers:
        activation = ACTIVATIONS[layer.activation]
        name, formula = f"{layer.activation}(z)", activation.text.format(z="z")
        yield f" {layer.name}: a = {name}" + ("" if formula == name else f" = {formula}")
        for j in _first(layer.A.shape[1]):
            products = [f"{_n(x)} * {_n(w)}" for x, w in zip(layer.A_in[r], layer.W[:, j], strict=True)]
            bias = [] if layer.b is None else [_n(layer.b[j])]
            z = layer.Z[r, j]
            yield f"  Neuron {j}: z = {_added(products, bias)} = {z:.9g}"
            formula = activation.text.format(z=_n(z))
            if layer.activation == "softmax":
                formula = f"exp({z:.9g}) / ({_added([f'exp({other:.9g})' for other in layer.Z[r]])})"
            yield f"{'':12}a = {_equal(formula, layer.A[r, j])}"
        yield from _left_out(layer.A.shape[1], "neuron")


def _loss_lines(step: Explanation, rows: range) -> Iterator[str]:
    loss = LOSSES[step.loss_name]
    (n, n_out), c = step.y.shape, step.loss_parameter
    by = {"": "", "rows": f" / {n}", "terms": f" / {n * n_out}"}[loss.mean]
    numbers = {"": "", "rows": " / rows", "terms": " / (rows * outputs)"}[loss.mean]
    yield f"Loss: L = sum of {loss.text.format(y='y', p='p', c=c)}{numbers} over rows and outputs"
    if step.loss_name == "cross_entropy" and c:
        yield f" (the targets are (1 - {c:g}) * y + {c:g} / {n_out})"
    for r in rows:
        for j in _first(n_out):
            text = loss.text.format(y=_n(step.y[r, j]), p=_n(step.P[r, j]), c=c)
            yield f" Row {r}, output {j}: {text}{by} = {step.terms[r, j]:.9g}"
        yield from _left_out(n_out, "output")
    yield from _left_out(n, "row")
    yield f" L = {_equal(_added(list(map(_n, step.terms.ravel()))), step.loss)}"


def _backward_lines(step: Explanation, r: int) -> Iterator[str]:
    loss = LOSSES[step.loss_name]
    divisor = {"": 1, "rows": len(step.y), "terms": step.y.size}[loss.mean]
    by = f" / {divisor}" if divisor > 1 else ""
    yield f"Row {r}"
    for l in range(len(step.layers) - 1, -1, -1):
        layer, above = step.layers[l], step.layers[l + 1] if l + 1 < len(step.layers) else None
        simple = above is None and (step.loss_name, layer.activation) in SIMPLE
        softmax = layer.activation == "softmax" and not simple
        slope_text = ACTIVATIONS[layer.activation].slope_text
        if simple:
            yield f" {layer.name}: dL/da * da/dz = (p - y){by}"
        elif softmax:
            yield f" {layer.name}: delta = a * (dL/da - sum of a * dL/da over the neurons)"
        else:
            yield f" {layer.name}: da/dz = {slope_text.format(z='z', a='a')}"
        for j in _first(layer.A.shape[1]):
            y, a, z = (_n(table[r, j]) for table in (step.y if above is None else layer.A, layer.A, layer.Z))
            dA, delta = layer.dA[r, j], layer.delta[r, j]
            if simple:
                yield f"  Neuron {j}: delta = ({a} - {y}){by} = {delta:.9g}"
                continue
            if above is None:
                text = loss.slope_text.format(y=y, p=a, c=step.loss_parameter) + by
            else:
                text = _added([f"{_n(d)} * {_n(w)}" for d, w in zip(above.delta[r], above.W[j], strict=True)])
            yield f"  Neuron {j}: dL/da = {_equal(text, dA)}"
            if softmax:
                total = float(layer.A[r] @ layer.dA[r])
                yield f"{'':12}delta = {a} * ({_n(dA)} - {_n(total)}) = {delta:.9g}"
            else:
                yield f"{'':12}da/dz = {_equal(slope_text.format(z=z, a=a), layer.slope[r, j])}"
                yield f"{'':12}delta = {_n(dA)} * {_n(layer.slope[r, j])} = {delta:.9g}"
        yield from _left_out(layer.A.shape[1], "neuron")


def _step_lines(layer: LayerStep, lr: float) -> Iterator[str]:
    yield f" {layer.name}"
    n_in, n_out = layer.W.shape
    for j in _first(n_out):
        yield f"  Neuron {j}"
        for i in _first(n_in):
            products = [f"{_n(d)} * {_n(x)}" for d, x in zip(layer.delta[:, j], layer.A_in[:, i], strict=True)]
            yield f"   Weight {i}: dL/dw = {_added(products)} = {layer.dW[i, j]:.9g}"
            new = f"{layer.W[i, j]:.9g} - {lr:g} * {_n(layer.dW[i, j])} = {layer.new_W[i, j]:.9g}"
            yield f"{'':13}w = {new}"
        yield from _left_out(n_in, "weight", "   ")
        if layer.b is not None and layer.db is not None and layer.new_b is not None:
            yield f"   Bias: dL/db = {_equal(_added(list(map(_n, layer.delta[:, j]))), layer.db[j])}"
            yield f"{'':9}b = {layer.b[j]:.9g} - {lr:g} * {_n(layer.db[j])} = {layer.new_b[j]:.9g}"
    yield from _left_out(n_out, "neuron")


def _first(n: int) -> range:
    return range(n if n <= MANY else FEW)


def _left_out(n: int, what: str, indent: str = "  ") -> Iterator[str]:
    if n > MANY:
        yield f"{indent}... and {n - FEW} more {what}s"


def _n(number: float) -> str:
    """A number within a formula."""
    return f"{number + 0.0:.9g}" if number >= 0 else f"({number:.9g})"  # -0.0 + 0.0 is 0.0


def _equal(formula: str, number: float) -> str:
    return f"{number:.9g}" if formula == _n(number) else f"{formula} = {number:.9g}"


def _listed(numbers: Array) -> str:
    return ", ".join(f"{numbers[i]:.9g}" for i in _first(len(numbers))) + "".join(
        _left_out(len(numbers), "number", " ")
    )


def _added(terms: list[str], last: list[str] | None = None) -> str:
    """A sum as text; of many terms the first few, and the last ones at any rate."""
    more = [f"({len(terms) - FEW} more)"] if len(terms) > MANY else []
    return " + ".join([terms[i] for i in _first(len(terms))] + more + (last or []))


# ---------------------------------------------------------------------------------------------- gradients, checked


@dataclass(frozen=True)
class LayerCheck:
    """What `check_gradients` found in one layer.

    Attributes
    ----------
    name : str
    n_params, checked, bends : int
        How many parameters there are, how many were compared, and how many were not because the loss has a bend
        (of relu, say) so close by that the difference quotient is no slope.
    difference : float
        The relative difference of the worst one.
    worst : str
        Which parameter has it: "W[2, 0]" or "b[1]"; empty where none was compared.
    by_backpropagation, by_differences : float
        Its gradient, both ways.
    ok : bool
        Whether the difference is within the tolerance and what the rounding of the loss explains.
    """

    name: str
    n_params: int
    checked: int
    bends: int
    difference: float
    worst: str
    by_backpropagation: float
    by_differences: float
    ok: bool

    def __str__(self) -> str:
        bends = f" ({self.bends} more are at a bend)" if self.bends else ""
        counts = f"{self.name}: {self.checked} of {self.n_params} parameters{bends}"
        if not self.checked:
            return f"{counts}, nothing to compare"
        return (
            f"{counts}, {'ok' if self.ok else 'WRONG'}: largest relative difference {self.difference:.2g} at "
            f"{self.worst}, {self.by_backpropagation:.9g} by backpropagation, {self.by_differences:.9g} by differences"
        )


@dataclass(frozen=True)
class GradientCheck:
    """Backpropagation held against difference quotients; `str()` is a line for each layer and one for all.

    Attributes
    ----------
    layers : tuple of LayerCheck
    tolerance : float
        The largest relative difference that passes: 1e-6, for a float32 network 1e-3.
    """

    layers: tuple[LayerCheck, ...]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every layer is right."""
        return all(layer.ok for layer in self.layers)

    @property
    def difference(self) -> float:
        """The largest relative difference of all layers."""
        return max(layer.difference for layer in self.layers)

    @property
    def worst(self) -> LayerCheck:
        """The layer that has it."""
        return max(self.layers, key=lambda layer: (not layer.ok, layer.difference))

    def __str__(self) -> str:
        verdict = "right" if self.ok else "WRONG"
        last = f"largest relative difference {self.difference:.2g}, {self.tolerance:g} allowed, and rounding"
        return "\n".join([*map(str, self.layers), f"The gradients are {verdict}: {last}"])


def check_gradients(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    eps: float | None = None,
    *,
    gradients: Sequence[tuple[NDArray[Any], NDArray[Any] | None]] | None = None,
) -> GradientCheck:
    """Compare the gradients of `net.gradients`, by backpropagation, with (L(w + h) - L(w - h)) / (2 h) in float64.

    The difference of both is relative to the larger one, to a hundredth of the layer's largest gradient at least.
    Of a layer with many parameters a sample is compared, always the same one, about 2000 in the whole network. A few
    rows are enough, and quick.

    Parameters
    ----------
    net : NeuralNetwork
    X, y : arrays
        As for `explain_step`.
    eps : float, optional
        h is this, divided by the weight's largest input if that is more than 1. Default: 1e-5.
    gradients : list of (dW, db), optional
        What is to be checked. Default: net.gradients(X, y), which is the same unless `net` scales X or y by itself.

    Returns
    -------
    GradientCheck
        `ok` says whether they agree, its text where not.

    Raises
    ------
    ValueError, TypeError
        X or y does not fit the network or holds NaN or infinity, or eps is not a positive finite number.
    """
    if eps is None:
        eps = 1e-5
    if isinstance(eps, (bool, str)) or not hasattr(eps, "__float__") or not 0 < eps < math.inf:
        raise ValueError(f"eps must be a positive finite number, got {eps!r}")
    problem = _Problem(net, X, y)
    tolerance = TOLERANCE[np.dtype(net.dtype).name]
    random = np.random.default_rng(0)
    A_in, Z, A = problem.forward()
    rounding = 16 * float(np.finfo(np.float64).eps * abs(problem.terms(Z[-1], A[-1])).sum())
    checks = []
    for l, (dW, db) in enumerate(net.gradients(X, y) if gradients is None else gradients):
        name = "Output Layer" if l == len(Z) - 1 else f"Hidden Layer {l + 1}"
        # The bias is the weight of one more input, which is always 1.
        inputs = A_in[l] if db is None else np.hstack([A_in[l], np.ones((len(problem.X), 1))])
        found = np.asarray(dW if db is None else np.vstack([dW, db[None]]), np.float64)
        share = max(1, SAMPLE // len(Z))
        places = np.arange(found.size) if found.size <= share else np.sort(random.choice(found.size, share, False))
        checks.append(_check_layer(problem, l, name, Z[l], inputs, found, places, eps, tolerance, rounding))
    return GradientCheck(tuple(checks), tolerance)


def _check_layer(
    problem: _Problem,
    l: int,
    name: str,
    Z: Array,
    inputs: Array,
    found: Array,
    places: NDArray[np.intp],
    eps: float,
    tolerance: float,
    rounding: float,
) -> LayerCheck:
    """`found` has the gradients by backpropagation, those of the bias in a last row; `rounding` is L's error."""
    least = 0.01 * float(abs(found).max())
    largest_inputs = abs(inputs).max(axis=0)
    compared: list[tuple[float, float, int, float]] = []  # beyond rounding, the difference, which, its slope
    for place in places:
        i, j = divmod(int(place), found.shape[1])
        h = eps / max(1.0, largest_inputs[i])
        losses, sides = [], []
        for change in (h, -h):
            moved = Z.copy()
            moved[:, j] += change * inputs[:, i]
            loss, side = problem.loss_from(l, moved)
            losses.append(loss)
            sides.append(side)
        if any((a != b).any() for a, b in zip(*sides, strict=True)):
            continue
        slope = (losses[0] - losses[1]) / (2 * h)
        scale = max(abs(slope), abs(found[i, j]), least) or 1.0
        apart = abs(slope - found[i, j]) if math.isfinite(slope - found[i, j]) else math.inf
        compared.append((max(0.0, apart - rounding / h) / scale, apart / scale, int(place), slope))
    beyond, difference, place, slope = max(compared, default=(0.0, 0.0, 0, math.nan))
    i, j = divmod(place, found.shape[1])
    worst = f"W[{i}, {j}]" if i < problem.W[l].shape[0] else f"b[{j}]"
    return LayerCheck(
        name,
        found.size,
        len(compared),
        len(places) - len(compared),
        float(difference),
        worst if compared else "",
        float(found[i, j]),
        slope,
        bool(beyond <= tolerance),
    )
