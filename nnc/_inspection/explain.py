"""Explanation of a gradient descent step: a text with each sum and product, which readers can check by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nnc._inspection import explain_recurrent
from nnc._inspection.equations import MAX_SHOWN, SHORTENED_LENGTH, added, digits, equal, first, omitted
from nnc._inspection.problem import Problem
from nnc._inspection.steps import LayerStep, layer_steps
from nnc._inspection.text import scaling_text
from nnc._registry import activations, losses
from nnc._utils.checks import pluralize, short_repr
from nnc.layers.base import format_shape

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from nnc._inspection.connections import Windows
    from nnc._inspection.problem import Array, Network
    from nnc._inspection.steps import PoolStep
    from nnc._inspection.text import Scaling

MAX_SHOWN_PIXELS = 36  # images of up to this many values and sums over up to this many windows are printed completely


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Quantities of a gradient descent step. `str()` returns a text with each sum and each product.

    Attributes
    ----------
    lr : float
        Learning rate.
    loss_name : str
        Name of the loss.
    loss_parameter : float or None
        Parameter of the loss, such as delta of Huber.
    X : array (n, n_in)
        Inputs of the first layer, after scaling.
    y : array (n, n_out)
        Targets of the loss, after scaling; for labels one-hot rows with label smoothing.
    P : array (n, n_out)
        Outputs of the network before the step.
    terms : array (n, n_out)
        Contribution of each output of each row to the loss.
    loss : float
        Sum of the terms.
    layers : tuple of LayerStep
        Quantities of each layer; the last one is the output layer.
    scaling_X, scaling_y : Scaling or None
        Scaling of X and y: (raw - shift) * factor.
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
    """Explain one step of plain gradient descent, w = w - lr * dL/dw, with every number; the network does not change.

    Parameters
    ----------
    net : NeuralNetwork
        The network.
    X : array (n, n_in)
        Inputs of the first layer, after scaling. A vector is one row, or one column if the network has one input.
    y : array (n, n_out), or (n,)
        Targets of the loss, after scaling; labels from 0 to n_out - 1 for "cross_entropy", 1 and -1 for "hinge".
    lr : float
        Learning rate.
    scaling_X, scaling_y : Scaling, optional
        Scaling of X and y, which the text describes.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError, TypeError
        X or y does not fit the network or holds NaN or infinity, lr is not a positive finite number, or the network has
        a BatchNorm or recurrent layers for sequences of more than 12 steps.
    """
    if isinstance(lr, (bool, str)) or not hasattr(lr, "__float__") or not 0 < lr < math.inf:
        raise ValueError(f"lr must be a positive finite number, got {short_repr(lr)}")
    problem = Problem(net, X, y)
    recurrences = [connection.recurrence for connection in problem.connections if connection.recurrence is not None]
    steps_of_layers = [len(recurrence.orders[0]) for recurrence in recurrences]
    if max(steps_of_layers, default=0) > explain_recurrent.MAX_STEPS:
        raise ValueError(
            f"sequences must have at most {explain_recurrent.MAX_STEPS} steps for explain_step with recurrent layers, "
            f"got {max(steps_of_layers)}; explain a network with a shorter Input, or use check_gradients"
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


# ---------------------------------------------------------------------------------------------- lines of the text


def _lines(step: Explanation) -> Iterator[str]:
    """Yield the lines of the text that explains a gradient descent step."""
    rows = first(len(step.X))
    plural = "s" if len(step.X) > 1 else ""
    rows_are = f"{len(step.X)} row{plural}{_scaled(step)}"
    yield f"One step of gradient descent: {rows_are}, loss {step.loss_name}, lr {step.lr:g}"
    yield from _scaling_lines("Inputs", "Input", step.scaling_X)
    yield from _scaling_lines("Targets and outputs", "Output", step.scaling_y)
    yield ""
    yield "Forward: z = sum of input * weight + bias, a = f(z)"
    for r in rows:
        yield from _forward_lines(step, r)
    yield from omitted(len(step.X), "row")
    yield ""
    yield from _loss_lines(step, rows)
    yield ""
    yield "Backward: delta = dL/dz = dL/da * da/dz, from the last layer to the first"
    for r in rows:
        yield from _backward_lines(step, r)
    yield from omitted(len(step.X), "row")
    yield ""
    per_row = " of every row, added up" if len(step.X) > 1 else ""
    yield f"Gradients and step: dL/dw = delta * input{per_row}; w - {step.lr:g} * dL/dw"
    for layer in step.layers:
        yield from _step_lines(layer, step.lr)


def _scaled(step: Explanation) -> str:
    """Return a phrase that states whether inputs or targets are scaled, for a heading; "" if neither is scaled."""
    names = ["inputs"] if step.scaling_X is not None else []
    names += ["targets"] if step.scaling_y is not None else []
    return f", scaled {' and '.join(names)}" if names else ""


def _scaling_lines(quantity: str, column: str, scaling: Scaling | None) -> Iterator[str]:
    """Yield the lines of text about the scaling of the inputs or targets; yield nothing if they are not scaled."""
    if scaling is not None:
        yield f"{quantity} are scaled ({scaling.type}); the text below shows the scaled numbers"
        lines = list(scaling_text(column, scaling, ".9g"))
        yield from (lines[i] for i in first(len(lines)))
        yield from omitted(len(lines), column.lower(), " ")


def _forward_lines(step: Explanation, r: int) -> Iterator[str]:
    """Yield the lines of text that explain the forward pass of row number r."""
    yield from _input_lines(step, r)
    for layer in step.layers:
        for pool in layer.pools:
            yield from _pool_lines(pool, r)
        if layer.recurrence is not None:
            yield from explain_recurrent.forward_lines(layer, r)
            continue
        activation = activations.ROWS[layer.activation]
        name, formula = f"{layer.activation}(z)", activation.f_template.format(z="z")
        windows = "" if layer.windows is None else f"windows of {_window_size(layer.windows)}, "
        windows = "for each step, " if layer.windows is not None and layer.windows.is_step else windows
        yield f" {layer.name}: {windows}a = {name}" + ("" if formula == name else f" = {formula}")
        for neuron, row, j, _ in _neurons(layer, r):
            products = [
                f"{digits(x)} * {digits(w)}" for x, w in zip(layer.inputs_at(row, j), layer.W[:, j], strict=True)
            ]
            bias = [] if layer.b is None else [digits(layer.b[j])]
            z = layer.Z[row, j]
            yield f"  {neuron}: z = {added(products, bias)} = {z:.9g}"
            formula = activation.f_template.format(z=digits(z))
            if not activation.elementwise:
                formula = f"exp({z:.9g}) / ({added([f'exp({other:.9g})' for other in layer.Z[row]])})"
            yield f"{'':12}a = {equal(formula, layer.A[row, j])}"
        yield from _omitted_neurons(layer)


def _input_lines(step: Explanation, r: int) -> Iterator[str]:
    """Yield the lines that list the inputs of row number r."""
    lowest = step.layers[0]
    windows = lowest.pools[0].pool.windows if lowest.pools else lowest.windows
    if lowest.recurrence is not None:
        height, width, channels = 1, len(lowest.recurrence.orders[0]), lowest.recurrence.features
    elif windows is not None:
        height, width, channels = windows.input_shape
    else:
        yield f"Row {r}: inputs {_listed(step.X[r])}"
        return
    is_sequence = windows is None or windows.is_sequence
    sequence, noun = f"a sequence of {pluralize(width, 'step')}", "feature" if is_sequence else "channel"
    yield f"Row {r}: " + (sequence if is_sequence else f"an image of {height} x {width}")
    image = step.X[r].reshape(height, width, channels)
    for c in first(channels):
        if channels > 1:
            yield f" {noun.capitalize()} {c}"
        yield from (f"  {_listed(image[y, :, c])}" for y in first(height))
        yield from omitted(height, "row")
    yield from omitted(channels, noun, " ")


def _pool_lines(step: PoolStep, r: int) -> Iterator[str]:
    """Yield the lines of text that explain the forward pass of a pooling layer for row number r."""
    pool = step.pool
    statistic = "the largest" if pool.is_max else "the mean"
    yield f" {pool.name}: a = {statistic} of each window of {_window_size(pool.windows)}"
    windows = pool.windows.gather(step.A_in[r : r + 1])[0]
    for output, p, c in _outputs(pool.windows, pool.windows.channel_noun):
        numbers = [digits(a) for a in windows[p, :, c]]
        formula = f"max({added(numbers, separator=', ')})" if pool.is_max else f"({added(numbers)}) / {len(numbers)}"
        yield f"  {output}: a = {formula} = {step.A[r, p * windows.shape[2] + c]:.9g}"
    yield from _omitted_pixels(pool.windows, pool.windows.channel_noun)


def _loss_lines(step: Explanation, rows: range) -> Iterator[str]:
    """Yield the lines of text that explain the terms of the loss and their sum."""
    loss = losses.ROWS[step.loss_name]
    (n, n_out), c = step.y.shape, step.loss_parameter
    steps = n // len(step.X)  # number of steps of a sequence that have outputs
    by = {"": "", "rows": f" / {n}", "terms": f" / {n * n_out}"}[loss.mean_over]
    numbers = {"": "", "rows": " / rows", "terms": " / (rows * outputs)"}[loss.mean_over]
    axes = "rows and outputs"
    if steps > 1:
        numbers = {"": "", "rows": " / (rows * steps)", "terms": " / (rows * steps * outputs)"}[loss.mean_over]
        axes = "rows, steps and outputs"
    yield f"Loss: L = sum of {loss.term_template.format(y='y', p='p', c=c)}{numbers} over {axes}"
    if loss.target_type == "probabilities" and c:
        yield f" (the targets are (1 - {c:g}) * y + {c:g} / {n_out})"
    for r in rows:
        for t in first(steps):
            row, where = r * steps + t, f", step {t}" if steps > 1 else ""
            for j in first(n_out):
                text = loss.term_template.format(y=digits(step.y[row, j]), p=digits(step.P[row, j]), c=c)
                yield f" Row {r}{where}, output {j}: {text}{by} = {step.terms[row, j]:.9g}"
            yield from omitted(n_out, "output")
        yield from omitted(steps, "step")
    yield from omitted(len(step.X), "row")
    yield f" L = {equal(added(list(map(digits, step.terms.ravel()))), step.loss)}"


def _backward_lines(step: Explanation, r: int) -> Iterator[str]:
    """Yield the lines of text that explain the backward pass of row number r."""
    loss = losses.ROWS[step.loss_name]
    divisor = loss.divisor(*step.y.shape)
    by = f" / {divisor}" if divisor > 1 else ""
    yield f"Row {r}"
    for l in range(len(step.layers) - 1, -1, -1):
        layer, next_layer = step.layers[l], step.layers[l + 1] if l + 1 < len(step.layers) else None
        if layer.recurrence is not None and next_layer is not None:
            next_step = next_layer.pools[0] if next_layer.pools else next_layer
            yield from explain_recurrent.backward_lines(layer, r, partial(_effects, next_step, r))
            continue
        simple = next_layer is None and loss.output_required
        softmax = not activations.ROWS[layer.activation].elementwise and not simple
        derivative_text = activations.ROWS[layer.activation].derivative_template
        if simple:
            yield f" {layer.name}: dL/da * da/dz = (p - y){by}"
        elif softmax:
            yield f" {layer.name}: delta = a * (dL/da - sum of a * dL/da over the neurons)"
        else:
            yield f" {layer.name}: da/dz = {derivative_text.format(z='z', a='a')}"
        for neuron, row, j, i in _neurons(layer, r):
            y, a, z = (digits(table[row, j]) for table in (step.y if next_layer is None else layer.A, layer.A, layer.Z))
            dA, delta = layer.dA[row, j], layer.delta[row, j]
            if simple:
                yield f"  {neuron}: delta = ({a} - {y}){by} = {delta:.9g}"
                continue
            if next_layer is None:
                text = loss.derivative_template.format(y=y, p=a, c=step.loss_parameter) + by
            else:
                text = _effects(next_layer.pools[0] if next_layer.pools else next_layer, r, i)
            yield f"  {neuron}: dL/da = {equal(text, dA)}"
            if softmax:
                total = float(layer.A[row] @ layer.dA[row])
                yield f"{'':12}delta = {a} * ({digits(dA)} - {digits(total)}) = {delta:.9g}"
            else:
                yield f"{'':12}da/dz = {equal(derivative_text.format(z=z, a=a), layer.derivative[row, j])}"
                yield f"{'':12}delta = {digits(dA)} * {digits(layer.derivative[row, j])} = {delta:.9g}"
        yield from _omitted_neurons(layer)
        following: PoolStep | LayerStep = layer
        for pool in layer.pools[::-1] if l > 0 else ():
            yield from _pool_backward_lines(pool, following, r)
            following = pool


def _pool_backward_lines(step: PoolStep, following: PoolStep | LayerStep, r: int) -> Iterator[str]:
    """Yield the lines of text that explain the backward pass of a pooling layer for row number r."""
    pool, windows = step.pool, step.pool.windows
    yield f" {pool.name}: dL/da, for " + ("the first maximum" if pool.is_max else "each number in equal parts")
    winners = pool.winners(step.A_in[r : r + 1])[0]
    for output, p, c in _outputs(windows, windows.channel_noun):
        i = p * winners.shape[2] + c
        _, width, channels = windows.input_shape
        y, x = divmod(int(windows.indices[p, winners[p, :, c].argmax(), c]) // channels, width)
        location = x if windows.is_sequence else f"{y}, {x}"
        position = f" (largest at {location})" if pool.is_max else ""
        yield f"  {output}{position}: dL/da = {equal(_effects(following, r, i), step.dA[r, i])}"
    yield from _omitted_pixels(windows, windows.channel_noun)


def _effects(following: PoolStep | LayerStep, r: int, i: int) -> str:
    """Return the text of dL/da for the output a of neuron i and row r, a sum over dependent elements of the next layer.

    Terms of a convolution whose delta is 0 are omitted.
    """
    if isinstance(following, LayerStep) and following.recurrence is not None:
        return explain_recurrent.input_effects(following, r, i)
    if isinstance(following, LayerStep) and following.columnwise:
        return f"{digits(following.delta[r, i])} * {digits(following.W[0, i])}"
    if isinstance(following, LayerStep) and following.windows is None:
        return added([f"{digits(d)} * {digits(w)}" for d, w in zip(following.delta[r], following.W[i], strict=True)])
    windows = following.windows if isinstance(following, LayerStep) else following.pool.windows
    assert windows is not None
    pixels, size, channels = windows.indices.shape
    effects = []
    for p, k, c in np.argwhere(windows.indices == i).tolist():
        if isinstance(following, LayerStep):
            delta, w = following.delta[r * pixels + p], following.W[k * channels + c]
            effects += [f"{digits(d)} * {digits(weight)}" for d, weight in zip(delta, w, strict=True) if d != 0]
        elif not following.pool.is_max:
            effects.append(f"{digits(following.dA[r, p * channels + c])} / {size}")
        elif following.pool.winners(following.A_in[r : r + 1])[0, p, k, c]:
            effects.append(digits(following.dA[r, p * channels + c]))
    return added(effects) or "0"


def _step_lines(layer: LayerStep, lr: float) -> Iterator[str]:
    """Yield the lines of text that explain the gradients and the new weights of a layer."""
    if layer.recurrence is not None:
        yield from explain_recurrent.step_lines(layer, lr)
        return
    windows, (n_in, n_out) = layer.windows, layer.W.shape
    order = ""
    if windows is not None and windows.is_step:
        order = ": sums over all steps; steps with delta 0 are omitted"
    elif windows is not None:
        axes = "step and feature" if windows.is_sequence else "row, column and channel"
        order = f": weights by {axes} of a window; windows with delta 0 are omitted"
    yield f" {layer.name}{order}"
    for j in first(n_out):
        yield f"  {'Neuron' if windows is None else windows.neuron_noun.capitalize()} {j}"
        delta = layer.delta[:, j]
        rows = range(len(delta)) if windows is None else np.flatnonzero(delta).tolist()
        limit = MAX_SHOWN if windows is None else MAX_SHOWN_PIXELS
        for i in first(n_in):
            weight = str(i) if windows is None or windows.is_step else _weight_position(i, windows)
            inputs = layer.inputs_of(i, j)
            products = added([f"{digits(delta[row])} * {digits(inputs[row])}" for row in rows], limit=limit) or "0"
            yield f"   Weight {weight}: dL/dw = {equal(products, layer.dW[i, j])}"
            new = f"{layer.W[i, j]:.9g} - {lr:g} * {digits(layer.dW[i, j])} = {layer.new_W[i, j]:.9g}"
            yield f"{'':13}w = {new}"
        yield from omitted(n_in, "weight", "   ")
        if layer.b is not None and layer.db is not None and layer.new_b is not None:
            deltas = added([digits(delta[row]) for row in rows], limit=limit) or "0"
            yield f"   Bias: dL/db = {equal(deltas, layer.db[j])}"
            yield f"{'':9}b = {layer.b[j]:.9g} - {lr:g} * {digits(layer.db[j])} = {layer.new_b[j]:.9g}"
    yield from omitted(n_out, "neuron" if windows is None else windows.neuron_noun)


def _neurons(layer: LayerStep, r: int) -> Iterator[tuple[str, int, int, int]]:
    """Yield the neurons that are printed for row number r of X.

    Each item is the name of the neuron, its row and column in the arrays of the layer, and its index among all outputs
    of row r.
    """
    if layer.windows is None:
        yield from ((f"Neuron {j}", r, j, j) for j in first(layer.A.shape[1]))
    else:
        for output, p, j in _outputs(layer.windows, layer.windows.neuron_noun):
            yield output, r * len(layer.windows.indices) + p, j, p * layer.windows.output_shape[2] + j


def _omitted_neurons(layer: LayerStep) -> Iterator[str]:
    """Yield the lines that state how many neurons or pixels of a layer are not printed."""
    if layer.windows is None:
        yield from omitted(layer.A.shape[1], "neuron")
    else:
        yield from _omitted_pixels(layer.windows, layer.windows.neuron_noun)


def _outputs(windows: Windows, channel: str) -> Iterator[tuple[str, int, int]]:
    """Yield the name, the pixel index and the channel of each output that is printed."""
    for c in first(windows.output_shape[2]):
        for p in range(_pixels(windows)):
            location = p if windows.is_sequence else _at(p, windows.output_shape[1])
            yield f"{channel.capitalize()} {c}, {windows.pixel_noun} {location}", p, c


def _window_size(windows: Windows) -> str:
    """Return the size of a window as text: "3 x 3" for images, "3 steps" for sequences."""
    return pluralize(windows.size[1], "step") if windows.is_sequence else format_shape(windows.size)


def _weight_position(index: int, windows: Windows) -> str:
    """Return the position of a weight in its window: row, column and channel for images, step and feature otherwise."""
    sizes = (windows.input_shape[2],) if windows.is_sequence else (windows.size[1], windows.input_shape[2])
    return _at(index, *sizes)


def _pixels(windows: Windows) -> int:
    """Return the number of pixels that are printed for each channel."""
    n = len(windows.indices)
    return n if math.prod(windows.output_shape) <= MAX_SHOWN_PIXELS else min(SHORTENED_LENGTH, n)


def _omitted_pixels(windows: Windows, channel: str) -> Iterator[str]:
    """Yield the lines that state how many pixels and channels are not printed."""
    more = len(windows.indices) - _pixels(windows)
    if more:
        yield f"  ... and {more} more {windows.pixel_noun}s of each {channel}"
    yield from omitted(windows.output_shape[2], channel)


def _at(index: int, *sizes: int) -> str:
    """Convert a flat index to text such as "2, 0, 1"; `sizes` are the sizes of all axes except the first."""
    parts: list[str] = []
    for size in reversed(sizes):
        index, part = divmod(index, size)
        parts.insert(0, str(part))
    return ", ".join([str(index), *parts])


def _listed(numbers: Array) -> str:
    """Return the text of a list of numbers, separated by commas and shortened if it is long."""
    return ", ".join(f"{numbers[i] + 0.0:.9g}" for i in first(len(numbers))) + "".join(
        omitted(len(numbers), "number", " ")
    )
