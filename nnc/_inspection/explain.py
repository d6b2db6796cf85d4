"""A step of gradient descent with all its numbers, in a text that one can check with a pocket calculator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnc._inspection.problem import Problem
from nnc._inspection.steps import LayerStep, layer_steps
from nnc._inspection.text import scaling_text
from nnc._registry import activations, losses
from nnc.layers.base import format_shape

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from nnc._inspection.problem import Array, Network
    from nnc._inspection.steps import PoolStep
    from nnc._inspection.text import Scaling
    from nnc._inspection.ways import Windows

MANY = 12  # more neurons, inputs or rows than that, and only the first few are in a text
FEW = 3
PIXELS = 36  # as many numbers of all channels of an image together are shown, and windows in a sum


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

    def _repr_html_(self) -> str:
        from nnc._drawing.html import preformatted

        return preformatted(str(self))


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
        X or y does not fit the network or holds NaN or infinity, lr is not a positive finite number, or the network has
        a BatchNorm.
    """
    if isinstance(lr, (bool, str)) or not hasattr(lr, "__float__") or not 0 < lr < math.inf:
        raise ValueError(f"lr must be a positive finite number, got {lr!r}")
    problem = Problem(net, X, y)
    if any(way.norm for way in problem.ways):
        raise ValueError(
            "explain_step follows rows one by one, and a BatchNorm makes those of a batch depend on each other: "
            "check_gradients holds such a network against the definitions, and nnc.reference has the formulas"
        )
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
    yield from _input_lines(step, r)
    for layer in step.layers:
        for pool in layer.pools:
            yield from _pool_lines(pool, r)
        activation = activations.ROWS[layer.activation]
        name, formula = f"{layer.activation}(z)", activation.f_template.format(z="z")
        windows = "" if layer.windows is None else f"windows of {format_shape(layer.windows.size)}, "
        yield f" {layer.name}: {windows}a = {name}" + ("" if formula == name else f" = {formula}")
        for neuron, row, j, _ in _neurons(layer, r):
            products = [f"{_n(x)} * {_n(w)}" for x, w in zip(layer.inputs_at(row, j), layer.W[:, j], strict=True)]
            bias = [] if layer.b is None else [_n(layer.b[j])]
            z = layer.Z[row, j]
            yield f"  {neuron}: z = {_added(products, bias)} = {z:.9g}"
            formula = activation.f_template.format(z=_n(z))
            if not activation.elementwise:
                formula = f"exp({z:.9g}) / ({_added([f'exp({other:.9g})' for other in layer.Z[row]])})"
            yield f"{'':12}a = {_equal(formula, layer.A[row, j])}"
        yield from _left_out_neurons(layer)


def _input_lines(step: Explanation, r: int) -> Iterator[str]:
    first = step.layers[0]
    windows = first.pools[0].pool.windows if first.pools else first.windows
    if windows is None:
        yield f"Row {r}: inputs {_listed(step.X[r])}"
        return
    height, width, channels = windows.below
    yield f"Row {r}: an image of {height} x {width}"
    image = step.X[r].reshape(height, width, channels)
    for c in _first(channels):
        if channels > 1:
            yield f" Channel {c}"
        yield from (f"  {_listed(image[y, :, c])}" for y in _first(height))
        yield from _left_out(height, "row")
    yield from _left_out(channels, "channel", " ")


def _pool_lines(step: PoolStep, r: int) -> Iterator[str]:
    pool = step.pool
    what = "the largest" if pool.largest else "the mean"
    yield f" {pool.name}: a = {what} of each window of {format_shape(pool.windows.size)}"
    seen = pool.windows.seen(step.A_in[r : r + 1])[0]
    for output, p, c in _outputs(pool.windows):
        numbers = [_n(a) for a in seen[p, :, c]]
        formula = f"max({_added(numbers, separator=', ')})" if pool.largest else f"({_added(numbers)}) / {len(numbers)}"
        yield f"  {output}: a = {formula} = {step.A[r, p * seen.shape[2] + c]:.9g}"
    yield from _left_out_pixels(pool.windows, "channel")


def _loss_lines(step: Explanation, rows: range) -> Iterator[str]:
    loss = losses.ROWS[step.loss_name]
    (n, n_out), c = step.y.shape, step.loss_parameter
    by = {"": "", "rows": f" / {n}", "terms": f" / {n * n_out}"}[loss.mean_over]
    numbers = {"": "", "rows": " / rows", "terms": " / (rows * outputs)"}[loss.mean_over]
    yield f"Loss: L = sum of {loss.term_template.format(y='y', p='p', c=c)}{numbers} over rows and outputs"
    if loss.target_type == "probabilities" and c:
        yield f" (the targets are (1 - {c:g}) * y + {c:g} / {n_out})"
    for r in rows:
        for j in _first(n_out):
            text = loss.term_template.format(y=_n(step.y[r, j]), p=_n(step.P[r, j]), c=c)
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
        simple = above is None and loss.output_required
        softmax = not activations.ROWS[layer.activation].elementwise and not simple
        slope_text = activations.ROWS[layer.activation].derivative_template
        if simple:
            yield f" {layer.name}: dL/da * da/dz = (p - y){by}"
        elif softmax:
            yield f" {layer.name}: delta = a * (dL/da - sum of a * dL/da over the neurons)"
        else:
            yield f" {layer.name}: da/dz = {slope_text.format(z='z', a='a')}"
        for neuron, row, j, i in _neurons(layer, r):
            y, a, z = (_n(table[row, j]) for table in (step.y if above is None else layer.A, layer.A, layer.Z))
            dA, delta = layer.dA[row, j], layer.delta[row, j]
            if simple:
                yield f"  {neuron}: delta = ({a} - {y}){by} = {delta:.9g}"
                continue
            if above is None:
                text = loss.derivative_template.format(y=y, p=a, c=step.loss_parameter) + by
            else:
                text = _effects(above.pools[0] if above.pools else above, r, i)
            yield f"  {neuron}: dL/da = {_equal(text, dA)}"
            if softmax:
                total = float(layer.A[row] @ layer.dA[row])
                yield f"{'':12}delta = {a} * ({_n(dA)} - {_n(total)}) = {delta:.9g}"
            else:
                yield f"{'':12}da/dz = {_equal(slope_text.format(z=z, a=a), layer.slope[row, j])}"
                yield f"{'':12}delta = {_n(dA)} * {_n(layer.slope[row, j])} = {delta:.9g}"
        yield from _left_out_neurons(layer)
        behind: PoolStep | LayerStep = layer
        for pool in layer.pools[::-1] if l > 0 else ():
            yield from _back_through_pool_lines(pool, behind, r)
            behind = pool


def _back_through_pool_lines(step: PoolStep, above: PoolStep | LayerStep, r: int) -> Iterator[str]:
    pool, windows = step.pool, step.pool.windows
    yield f" {pool.name}: dL/da, for " + ("the first of the largest" if pool.largest else "all in equal shares")
    winners = pool.winners(step.A_in[r : r + 1])[0]
    for output, p, c in _outputs(windows):
        i = p * winners.shape[2] + c
        y, x = divmod(int(windows.places[p, winners[p, :, c].argmax(), c]) // windows.below[2], windows.below[1])
        place = f" (largest at {y}, {x})" if pool.largest else ""
        yield f"  {output}{place}: dL/da = {_equal(_effects(above, r, i), step.dA[r, i])}"
    yield from _left_out_pixels(windows, "channel")


def _effects(above: PoolStep | LayerStep, r: int, i: int) -> str:
    """How number i of row r acts on the loss: the sum of what it does to all that it goes into, but for windows that do
    nothing."""
    if isinstance(above, LayerStep) and above.columnwise:
        return f"{_n(above.delta[r, i])} * {_n(above.W[0, i])}"
    if isinstance(above, LayerStep) and above.windows is None:
        return _added([f"{_n(d)} * {_n(w)}" for d, w in zip(above.delta[r], above.W[i], strict=True)])
    windows = above.windows if isinstance(above, LayerStep) else above.pool.windows
    assert windows is not None
    pixels, size, channels = windows.places.shape
    effects = []
    for p, k, c in np.argwhere(windows.places == i).tolist():
        if isinstance(above, LayerStep):
            delta, w = above.delta[r * pixels + p], above.W[k * channels + c]
            effects += [f"{_n(d)} * {_n(weight)}" for d, weight in zip(delta, w, strict=True) if d != 0]
        elif not above.pool.largest:
            effects.append(f"{_n(above.dA[r, p * channels + c])} / {size}")
        elif above.pool.winners(above.A_in[r : r + 1])[0, p, k, c]:
            effects.append(_n(above.dA[r, p * channels + c]))
    return _added(effects) or "0"


def _step_lines(layer: LayerStep, lr: float) -> Iterator[str]:
    windows, (n_in, n_out) = layer.windows, layer.W.shape
    order = (
        "" if windows is None else ": weights by row, column and channel of a window; without windows whose delta is 0"
    )
    yield f" {layer.name}{order}"
    for j in _first(n_out):
        yield f"  {'Neuron' if windows is None else 'Filter'} {j}"
        delta = layer.delta[:, j]
        rows = range(len(delta)) if windows is None else np.flatnonzero(delta).tolist()
        many = MANY if windows is None else PIXELS
        for i in _first(n_in):
            weight = str(i) if windows is None else _at(i, *windows.size[1:], windows.below[2])
            inputs = layer.inputs_of(i, j)
            products = _added([f"{_n(delta[row])} * {_n(inputs[row])}" for row in rows], many=many) or "0"
            yield f"   Weight {weight}: dL/dw = {_equal(products, layer.dW[i, j])}"
            new = f"{layer.W[i, j]:.9g} - {lr:g} * {_n(layer.dW[i, j])} = {layer.new_W[i, j]:.9g}"
            yield f"{'':13}w = {new}"
        yield from _left_out(n_in, "weight", "   ")
        if layer.b is not None and layer.db is not None and layer.new_b is not None:
            yield f"   Bias: dL/db = {_equal(_added([_n(delta[row]) for row in rows], many=many) or '0', layer.db[j])}"
            yield f"{'':9}b = {layer.b[j]:.9g} - {lr:g} * {_n(layer.db[j])} = {layer.new_b[j]:.9g}"
    yield from _left_out(n_out, "neuron" if windows is None else "filter")


def _neurons(layer: LayerStep, r: int) -> Iterator[tuple[str, int, int, int]]:
    """What is shown of a layer for row r of X: its name, its row and column in the arrays of the layer, and its place
    among all outputs for r."""
    if layer.windows is None:
        yield from ((f"Neuron {j}", r, j, j) for j in _first(layer.A.shape[1]))
    else:
        for output, p, j in _outputs(layer.windows, "Filter"):
            yield output, r * len(layer.windows.places) + p, j, p * layer.windows.out[2] + j


def _left_out_neurons(layer: LayerStep) -> Iterator[str]:
    if layer.windows is None:
        yield from _left_out(layer.A.shape[1], "neuron")
    else:
        yield from _left_out_pixels(layer.windows, "filter")


def _outputs(windows: Windows, channel: str = "Channel") -> Iterator[tuple[str, int, int]]:
    """What is shown of an image that windows give: name, pixel and channel."""
    for c in _first(windows.out[2]):
        for p in range(_pixels(windows)):
            yield f"{channel} {c}, pixel {_at(p, windows.out[1])}", p, c


def _pixels(windows: Windows) -> int:
    """How many of the pixels are shown."""
    return len(windows.places) if math.prod(windows.out) <= PIXELS else min(FEW, len(windows.places))


def _left_out_pixels(windows: Windows, channel: str) -> Iterator[str]:
    more = len(windows.places) - _pixels(windows)
    if more:
        yield f"  ... and {more} more pixels of each {channel}"
    yield from _left_out(windows.out[2], channel)


def _at(place: int, *sizes: int) -> str:
    """A place as row, column, ..., of which all but the first have these sizes."""
    parts: list[str] = []
    for size in reversed(sizes):
        place, part = divmod(place, size)
        parts.insert(0, str(part))
    return ", ".join([str(place), *parts])


def _first(n: int, many: int = MANY) -> range:
    return range(n if n <= many else FEW)


def _left_out(n: int, what: str, indent: str = "  ") -> Iterator[str]:
    if n > MANY:
        yield f"{indent}... and {n - FEW} more {what}s"


def _n(number: float) -> str:
    """A number within a formula."""
    return f"{number + 0.0:.9g}" if number >= 0 else f"({number:.9g})"  # -0.0 + 0.0 is 0.0


def _equal(formula: str, number: float) -> str:
    return f"{number:.9g}" if formula == _n(number) else f"{formula} = {number:.9g}"


def _listed(numbers: Array) -> str:
    return ", ".join(f"{numbers[i] + 0.0:.9g}" for i in _first(len(numbers))) + "".join(
        _left_out(len(numbers), "number", " ")
    )


def _added(terms: list[str], last: list[str] | None = None, many: int = MANY, separator: str = " + ") -> str:
    """A sum as text; of many terms the first few, and the last ones at any rate."""
    more = [f"({len(terms) - FEW} more)"] if len(terms) > many else []
    return separator.join([terms[i] for i in _first(len(terms), many)] + more + (last or []))
