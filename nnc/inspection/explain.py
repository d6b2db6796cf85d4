"""A step of gradient descent with all its numbers, in a text that one can check with a pocket calculator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnc.inspection.problem import Problem
from nnc.inspection.text import scaling_text
from nnc.kinds import activations, losses
from nnc.layers.stack import layer_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

    from nnc.inspection.problem import Array, Network
    from nnc.inspection.text import Scaling

MANY = 12  # more neurons, inputs or rows than that, and only the first few are in a text
FEW = 3


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
        As the first layer sees them.
    y : array (n, n_out)
        Targets as the loss sees them; labels are one-hot rows here, with the label smoothing in them.
    P : array (n, n_out)
        Outputs of the network before the step.
    terms : array (n, n_out)
        What each output of each row adds to the loss.
    loss : float
        The sum of the terms.
    layers : tuple of LayerStep
        The output layer is the last.
    scaling_X, scaling_y : Scaling or None
        How X and y were made from raw numbers, where they were: (raw - shift) * factor.
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
    scaling_X: Scaling | None = None
    scaling_y: Scaling | None = None

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def __repr__(self) -> str:
        rows = "1 row" if len(self.X) == 1 else f"{len(self.X)} rows"
        return f"<Explanation: {rows}{_scaled(self)}, lr {self.lr:g}, {self.loss_name} {self.loss:.6g}; print it>"


def explain_step(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    lr: float,
    *,
    scaling_X: Scaling | None = None,
    scaling_y: Scaling | None = None,
) -> Explanation:
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
    scaling_X, scaling_y : Scaling, optional
        How X and y were made from raw numbers, for the text to say.

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
    problem = Problem(net, X, y)
    steps = layer_steps(problem, float(lr))
    terms = problem.terms(steps[-1].Z, steps[-1].A)
    parameter = None if problem.loss.parameter is None else problem.parameter
    return Explanation(
        float(lr),
        problem.loss.name,
        parameter,
        problem.X,
        problem.y,
        steps[-1].A,
        terms,
        float(terms.sum()),
        steps,
        scaling_X,
        scaling_y,
    )


def layer_steps(problem: Problem, lr: float) -> tuple[LayerStep, ...]:
    """What a step does in every layer, by the definitions."""
    A_in, Z, A = problem.forward()
    dA = problem.slope(A[-1])
    steps: list[LayerStep] = []
    for l in range(len(Z) - 1, -1, -1):
        row = problem.activations[l]
        slope = row.slopes(Z[l], A[l])
        if l == len(Z) - 1 and problem.loss.needed:
            delta = (A[l] - problem.y) / problem.divisor
        elif not row.elementwise:
            delta = A[l] * (dA - (A[l] * dA).sum(axis=1, keepdims=True))
        else:
            delta = dA * slope
        W, b = problem.W[l], problem.b[l]
        dW, db = A_in[l].T @ delta, None if b is None else delta.sum(axis=0)
        new_b = None if b is None or db is None else b - lr * db
        title = layer_name(l, len(Z))
        step = LayerStep(title, row.name, A_in[l], Z[l], A[l], dA, slope, delta, W, dW, W - lr * dW, b, db, new_b)
        steps.insert(0, step)
        dA = delta @ W.T
    return tuple(steps)


# ---------------------------------------------------------------------------------------------- its text


def _lines(step: Explanation) -> Iterator[str]:
    rows = _first(len(step.X))
    plural = "s" if len(step.X) > 1 else ""
    rows_are = f"{len(step.X)} row{plural}{_scaled(step)}"
    yield f"One step of gradient descent: {rows_are}, loss {step.loss_name}, lr {step.lr:g}"
    yield from _scaling_lines("Inputs are", "Input", step.scaling_X)
    yield from _scaling_lines("Targets, and outputs with them, are", "Output", step.scaling_y)
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


def _scaled(step: Explanation) -> str:
    """What of a step is scaled, for its heading."""
    names = ["inputs"] if step.scaling_X is not None else []
    names += ["targets"] if step.scaling_y is not None else []
    return f", scaled {' and '.join(names)}" if names else ""


def _scaling_lines(what: str, column: str, scaling: Scaling | None) -> Iterator[str]:
    if scaling is not None:
        yield f"{what} scaled ({scaling.type}); below are the scaled numbers"
        lines = list(scaling_text(column, scaling, ".9g"))
        yield from (lines[i] for i in _first(len(lines)))
        yield from _left_out(len(lines), column.lower(), " ")


def _forward_lines(step: Explanation, r: int) -> Iterator[str]:
    yield f"Row {r}: inputs {_listed(step.X[r])}"
    for layer in step.layers:
        activation = activations.ROWS[layer.activation]
        name, formula = f"{layer.activation}(z)", activation.text.format(z="z")
        yield f" {layer.name}: a = {name}" + ("" if formula == name else f" = {formula}")
        for j in _first(layer.A.shape[1]):
            products = [f"{_n(x)} * {_n(w)}" for x, w in zip(layer.A_in[r], layer.W[:, j], strict=True)]
            bias = [] if layer.b is None else [_n(layer.b[j])]
            z = layer.Z[r, j]
            yield f"  Neuron {j}: z = {_added(products, bias)} = {z:.9g}"
            formula = activation.text.format(z=_n(z))
            if not activation.elementwise:
                formula = f"exp({z:.9g}) / ({_added([f'exp({other:.9g})' for other in layer.Z[r]])})"
            yield f"{'':12}a = {_equal(formula, layer.A[r, j])}"
        yield from _left_out(layer.A.shape[1], "neuron")


def _loss_lines(step: Explanation, rows: range) -> Iterator[str]:
    loss = losses.ROWS[step.loss_name]
    (n, n_out), c = step.y.shape, step.loss_parameter
    by = {"": "", "rows": f" / {n}", "terms": f" / {n * n_out}"}[loss.mean]
    numbers = {"": "", "rows": " / rows", "terms": " / (rows * outputs)"}[loss.mean]
    yield f"Loss: L = sum of {loss.text.format(y='y', p='p', c=c)}{numbers} over rows and outputs"
    if loss.takes == "probabilities" and c:
        yield f" (the targets are (1 - {c:g}) * y + {c:g} / {n_out})"
    for r in rows:
        for j in _first(n_out):
            text = loss.text.format(y=_n(step.y[r, j]), p=_n(step.P[r, j]), c=c)
            yield f" Row {r}, output {j}: {text}{by} = {step.terms[r, j]:.9g}"
        yield from _left_out(n_out, "output")
    yield from _left_out(n, "row")
    yield f" L = {_equal(_added(list(map(_n, step.terms.ravel()))), step.loss)}"


def _backward_lines(step: Explanation, r: int) -> Iterator[str]:
    loss = losses.ROWS[step.loss_name]
    divisor = loss.divisor(*step.y.shape)
    by = f" / {divisor}" if divisor > 1 else ""
    yield f"Row {r}"
    for l in range(len(step.layers) - 1, -1, -1):
        layer, above = step.layers[l], step.layers[l + 1] if l + 1 < len(step.layers) else None
        simple = above is None and loss.needed
        softmax = not activations.ROWS[layer.activation].elementwise and not simple
        slope_text = activations.ROWS[layer.activation].slope_text
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
