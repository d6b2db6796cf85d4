"""Texts of `summary` and `inspect`, built from plain lists: nnc.reference uses this module without NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from nnc._utils.text_table import aligned
from nnc.layers.base import format_shape
from nnc.layers.image import Convolution
from nnc.layers.recurrent import RecurrentLayer
from nnc.layers.shape import Dropout
from nnc.layers.stack import layer_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nnc.layers.base import Layer
    from nnc.layers.stack import PlacedLayer, Stack

    Row = Sequence[float]
    Rows = Sequence[Row]


class Scaling(Protocol):
    """Interface of a scaling, which computes (raw - shift) * factor for each column; see nnc/_data/scaling.py."""

    @property
    def type(self) -> str: ...
    @property
    def shift(self) -> Any: ...
    @property
    def factor(self) -> Any: ...


def summary_table(stack: Stack) -> tuple[list[tuple[str, ...]], str]:
    """Return the rows of the table of `summary`, the headings first, and the line with the totals.

    The table lists the name, input shape, output shape, activation and number of parameters of each layer. For networks
    of images or sequences it also lists the multiply-adds for one row, which are the number of weights in a dense
    layer.
    """
    counted = {"parameters": [layer.kind.n_params(layer.input_shape) for layer in stack.layers]}
    heads = ("layer", "inputs", "neurons", "activation")
    has_shapes = len(stack.input_shape) > 1
    if has_shapes:
        counted["multiply-adds"] = [layer.kind.multiply_adds(layer.input_shape) for layer in stack.layers]
        heads = ("layer", "inputs", "outputs", "description")
    rows: list[tuple[str, ...]] = [(*heads, *counted)]
    for layer, *counts in zip(stack.layers, *counted.values(), strict=True):
        remark = layer.kind.summary_note + ", frozen" * layer.kind.frozen
        cells = layer.name, stack.shape_text(layer.input_shape), stack.shape_text(layer.output_shape), remark
        rows.append((*cells, *(f"{count:,}" for count in counts)))
    sums = ", ".join(f"{sum(counts):,} {noun}" for noun, counts in counted.items())
    return rows, sums + (" a step" if stack.input.any_steps else " a row") * has_shapes


def summary_text(stack: Stack) -> str:
    """Return the table of `summary` as text."""
    rows, sums = summary_table(stack)
    return "\n".join([*aligned(rows), sums])


def inspect_text(
    layers: Sequence[tuple[Rows, Row | None]], inputs_scaled: Sequence[str] = (), targets_scaled: Sequence[str] = ()
) -> str:
    """Return the text that `inspect` prints for dense layers, given as lists W and b; b is None without biases.

    `inputs_scaled` and `targets_scaled` are lines of text that describe the scaling of the inputs and of the targets.
    """
    texts = [f"{layer_name(i, len(layers))}\n{layer_text(W, b)}" for i, (W, b) in enumerate(layers)]
    return _framed(str(len(layers[0][0])), texts, inputs_scaled, targets_scaled)


def network_text(
    stack: Stack, arrays: Sequence[tuple[Any, ...]], inputs_scaled: Sequence[str], targets_scaled: Sequence[str]
) -> str:
    """Return the text that `inspect` prints; `arrays` contains (W, b, *running statistics) of each parametric layer."""
    # The text omits Dropout layers, which do not change predictions, and Flatten if its inputs are vectors.
    texts = [
        placed_text(layer, *([], None) if layer.parametric_index is None else arrays[layer.parametric_index])
        for layer in stack.layers
        if layer.has_parameters or (len(layer.input_shape) > 1 and not isinstance(layer.kind, Dropout))
    ]
    return _framed(stack.shape_text(stack.input_shape), texts, inputs_scaled, targets_scaled)


def _framed(inputs: str, layers: Sequence[str], inputs_scaled: Sequence[str], targets_scaled: Sequence[str]) -> str:
    """Join the texts of the inputs, the layers and the targets, with a horizontal line between them."""
    lines = ["------", f"* Inputs: {inputs}", *inputs_scaled, "------"]
    for index, layer in enumerate(layers):
        lines += [("* " if index == len(layers) - 1 else "") + layer, "------"]
    if targets_scaled:
        lines += ["* Targets", *targets_scaled, "------"]
    return "\n".join(lines)


def scaling_text(column: str, scaling: Scaling, digits: str = "") -> Iterator[str]:
    """Yield the scaling formula of each column as text, or one formula if all columns share a scaling."""
    is_shared = not getattr(scaling.shift, "ndim", 1)
    pairs = [(scaling.shift, scaling.factor)] if is_shared else zip(scaling.shift, scaling.factor, strict=True)
    for index, (shift, factor) in enumerate(pairs):
        sign, name = "+" if shift < 0 else "-", f"Every {column.lower()}" if is_shared else f"{column} {index}"
        yield f" {name}: (raw {sign} {abs(float(shift)):{digits}}) * {float(factor):{digits}}"


def placed_text(layer: PlacedLayer[Layer], W: Rows, b: Row | None, *statistics: Row) -> str:
    """Return the text that `inspect` prints for a layer of any type, beginning with the name of the layer."""
    if statistics:
        lines = [f"{layer.name}, {layer.kind.summary_note}", f"Channels: {len(W[0])}"]
        for channel, (gamma, beta, mean, variance) in enumerate(zip(W[0], b or (), *statistics, strict=True)):
            lines += [f" Channel {channel}", f"  Gamma: {gamma!s}", f"  Beta: {beta!s}"]
            lines += [f"  Running mean: {mean!s}", f"  Running variance: {variance!s}"]
        return "\n".join(lines)
    if layer.kind.columnwise:
        columns = [f" Column {column}: {s!s}" for column, s in enumerate(W[0])]
        return "\n".join([f"{layer.name}, {layer.kind.summary_note}", f"Columns: {len(columns)}", *columns])
    if isinstance(layer.kind, Convolution):
        size = layer.kind.size if isinstance(layer.kind.size, tuple) else (1, layer.kind.size)
        return f"{layer.name}\n{_filters_text(layer, size, W, b)}"
    if isinstance(layer.kind, RecurrentLayer):
        return f"{layer.name}, {layer.kind.summary_note}\n{_units_text(layer.kind, layer.input_shape[1], W, b)}"
    if layer.has_parameters:
        return f"{layer.name}\n{layer_text(W, b)}"
    remark = f", {layer.kind.summary_note}" if layer.kind.summary_note else ""
    return f"{layer.name}: {format_shape(layer.input_shape)} -> {format_shape(layer.output_shape)}{remark}"


def _filters_text(layer: PlacedLayer[Layer], size: tuple[int, int], W: Rows, b: Row | None) -> str:
    """Return the filters of a convolution as text, with the weights of each channel as rows of the window."""
    (height, width), channels = size, layer.input_shape[-1]
    name = "Channel" if len(layer.input_shape) == 3 else "Feature"
    lines = [f"Filters: {layer.output_shape[-1]}"]
    longest = max(len(str(weight)) for row in W for weight in row)
    for number, weights in enumerate(zip(*W, strict=True)):
        lines.append(f" Filter {number}")
        for channel in range(channels):
            lines.append(f"  {name} {channel}")
            for y in range(height):
                row = weights[channel + channels * width * y : channels * width * (y + 1) : channels]
                lines.append("   " + " ".join(str(weight).rjust(longest) for weight in row))
        if b is not None:
            lines.append(f"  Bias: {b[number]!s}")
    return "\n".join(lines)


def _units_text(kind: RecurrentLayer, features: int, W: Rows, b: Any) -> str:
    """Return the units of a recurrent layer as text, with the weights of each gate."""
    biases = [] if b is None else [b] if kind.n_bias_rows == 1 else b
    lines = [f"Units: {kind.units}"]
    for unit in range(kind.units):
        lines.append(f" Unit {unit}")
        for column in range(unit, len(W[0]), kind.units):
            gate, direction = column // kind.units % kind.n_gates, column // kind.units // kind.n_gates
            lines.append(f"  Gate {kind.gate_names[gate]}{', second direction' * direction}")
            weights = [row[column] for row in W]
            lines += [f"   Weight: {weight!s}" for weight in weights[:features]]
            lines += [f"   Recurrent weight: {weight!s}" for weight in weights[features:]]
            lines += [f"   {'Recurrent bias' if i else 'Bias'}: {row[column]!s}" for i, row in enumerate(biases)]
    return "\n".join(lines)


def layer_text(W: Rows, b: Row | None) -> str:
    """Return the neurons of a dense layer as text."""
    lines = [f"Neurons: {len(W[0])}"]
    for neuron, weights in enumerate(zip(*W, strict=True)):
        lines += [f" Neuron {neuron}", *(f"  Weight: {weight!s}" for weight in weights)]
        if b is not None:
            lines.append(f"  Bias: {b[neuron]!s}")
    return "\n".join(lines)
