"""Drawing of a network: neurons as circles, weights as lines between them, images as stacks of their channels."""

from __future__ import annotations

from itertools import pairwise
from math import hypot
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._drawing.columns import SMALL_FONT_SIZE, ChannelGrid, ChannelStack, Neurons, dashed_line
from nnc._drawing.svg import (
    NEGATIVE,
    POSITIVE,
    Drawing,
    element,
    format_number,
    sign_color,
    text,
    titled_element,
)
from nnc._registry import losses
from nnc._utils.checks import check_count
from nnc.layers.dense import Dense
from nnc.layers.image import Flatten, Pool
from nnc.layers.shape import Dropout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nnc._drawing.columns import Column
    from nnc.layers.base import Layer
    from nnc.layers.stack import PlacedLayer, Stack

    Values = Sequence[NDArray[Any]]

# Sizes of the drawing in pixels.
MARGIN = 16
LINE_HEIGHT = 15
WEIGHT_GAP, IMAGE_GAP = 110, 44  # minimum gap in pixels between columns of neurons, and next to an image
LEGEND_WIDTH = 272.0
MAX_SPACED_COLUMNS = 6  # the gaps between neurons are reduced in drawings with more columns than this
WEIGHT_DESCRIPTION = (
    "Lines are weights: blue lines are positive, orange lines are negative, and thicker lines have larger absolute "
    "values."
)
ROW_DESCRIPTION = "The colors of circles and pixels show the outputs of the layers for one row."


def draw(net: Any, row: Any = None, neurons: int = 10) -> Drawing:
    """Draw a network.

    Parameters
    ----------
    net : NeuralNetwork
    row : array, optional
        One row of inputs. The drawing then shows the outputs of each layer for it.
    neurons : int, default 10
        Maximum number of neurons to draw in a layer, at least 2. For larger layers the first and the last neurons are
        drawn.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.
    """
    stack: Stack = net.model.stack
    neurons = check_count("neurons", neurons, 2)
    outputs, user_outputs = (None, None) if row is None else _compute_outputs(net, row)
    columns = list(_build_columns(net, neurons, outputs, user_outputs))
    width = _arrange(columns)
    parts: list[str] = []
    layers = [layer for layer in stack.layers if not isinstance(layer.kind, Dropout)]
    for layer, (left, right) in zip(layers, pairwise(columns), strict=True):
        has_lines = isinstance(layer.kind, Dense) or (layer.kind.columnwise and not layer.kind.normalizes)
        W = net.model.W[layer.parametric_index] if has_lines else None
        parts += _draw_connections(left, right, layer, W)
    y = max(column.bottom for column in columns) + 1.6 * LINE_HEIGHT
    for column in columns:
        parts += column.draw()
        parts += _draw_captions(column, y)
    y += LINE_HEIGHT * max(len(column.captions) for column in columns)
    parts += _draw_legend(width, y + LINE_HEIGHT)
    names = [
        stack.shape_text(stack.input_shape).replace(" ", ""),
        *(str(layer.output_shape[-1]) for layer in stack.parametric_layers),
    ]
    sentences = [f"{', '.join(filter(None, column.captions))}." for column in columns]
    sentences += [WEIGHT_DESCRIPTION] if row is None else [WEIGHT_DESCRIPTION, ROW_DESCRIPTION]
    title = f"Neural network {'-'.join(names)}"
    return Drawing(title, " ".join(sentences), width, y + 2 * LINE_HEIGHT, parts)


# ------------------------------------------------------------------------------- columns of the drawing


def _compute_outputs(net: Any, row: Any) -> tuple[Values, Values]:
    """Return the inputs and layer outputs for one row twice: scaled, as the network uses them, and in user units."""
    model, converter = net.model, net.converter
    try:
        inputs, raw = converter.checked_inputs(row), converter.rows(row)
    except (TypeError, ValueError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"row: {error}") from None
    if len(inputs) != 1:
        raise ValueError(f"row must be one row of inputs, got {len(inputs)} rows")
    layer_outputs = net.forward(row)
    outputs: list[NDArray[Any]] = [inputs[0].reshape(model.input_shape)]
    for layer in model.stack.layers:
        kind = layer.kind
        if layer.parametric_index is not None:
            outputs.append(layer_outputs[layer.parametric_index][0])
        elif isinstance(kind, Pool):
            geometry = kind.window_geometry(layer.input_shape)
            image = outputs[-1].reshape(geometry.input_shape)
            windows = np.lib.stride_tricks.sliding_window_view(image, geometry.size, (0, 1))
            windows = windows[:: geometry.stride[0], :: geometry.stride[1]]
            pooled = windows.max((3, 4)) if kind.is_max else windows.mean((3, 4))
            outputs.append(pooled.reshape(layer.output_shape))
        elif isinstance(kind, Flatten):
            outputs.append(outputs[-1].reshape(-1))
    return outputs, [raw[0].reshape(model.input_shape), *outputs[1:-1], net.predict(row).reshape(-1)]


def _build_columns(net: Any, neurons: int, outputs: Values | None, user_outputs: Values | None) -> Iterator[Column]:
    """Yield the columns of the input and the layers; a Dropout is only a line in the caption of the previous layer."""
    stack: Stack = net.model.stack
    layers: list[PlacedLayer[Layer] | None] = [None]
    captions: list[list[str]] = [["Input", stack.shape_text(stack.input_shape), ""]]
    for layer in stack.layers:
        if isinstance(layer.kind, Dropout):
            captions[-1].append(layer.kind.summary_note)
        else:
            layers.append(layer)
            captions.append([layer.name, stack.shape_text(layer.output_shape), layer.kind.summary_note])
    for i, (drawn, lines) in enumerate(zip(layers, captions, strict=True)):
        shape = stack.input_shape if drawn is None else drawn.output_shape
        values = None if outputs is None or user_outputs is None else (outputs[i], user_outputs[i])
        if len(shape) == 2:  # draw a sequence as an image of one channel, with time from left to right
            shape = shape[1], shape[0], 1
            values = None if values is None else (values[0].T[:, :, None], values[1])
        if len(shape) == 3:
            yield ChannelStack(lines, shape) if values is None else ChannelGrid(lines, shape, values[0])
            continue
        names = net.feature_names if drawn is None else _class_names(net) if i == len(layers) - 1 else None
        b = None
        if drawn is not None and drawn.parametric_index is not None and not drawn.kind.recurrent:
            b = net.model.b[drawn.parametric_index]
        yield Neurons(lines, shape[0], neurons, names, "end" if drawn is None else "start", values, b)


def _class_names(net: Any) -> Sequence[Any] | None:
    """Return the classes of the outputs, or None if an output is not the probability of a class."""
    if not losses.ROWS[net.model.loss].is_classification or net.sizes[-1] == 1:
        return None
    return range(net.sizes[-1]) if net.classes is None else net.classes.tolist()


def _arrange(columns: Sequence[Column]) -> float:
    """Set the positions of the columns, centered on one line, so that no texts overlap; return the total width."""
    height = max(column.height for column in columns)
    weight_gap = WEIGHT_GAP if len(columns) <= MAX_SPACED_COLUMNS else WEIGHT_GAP * 2 / 3
    for column in columns:
        column.y = MARGIN + (height - column.height) / 2
    columns[0].x = MARGIN + columns[0].half_width
    for left, right in pairwise(columns):
        gap = weight_gap if isinstance(left, Neurons) and isinstance(right, Neurons) else IMAGE_GAP
        distance = (left.width + right.width) / 2 + gap
        right.x = left.x + max(distance, (left.caption_width + right.caption_width) / 2 + MARGIN)
    width = columns[-1].x + columns[-1].half_width + MARGIN
    missing = max(0.0, LEGEND_WIDTH - width)
    for column in columns:
        column.x += missing / 2
    return width + missing


# ------------------------------------------------------------------------------- lines and texts of the drawing


def _draw_connections(left: Column, right: Column, layer: PlacedLayer[Layer], W: NDArray[Any] | None) -> Iterator[str]:
    """Yield the lines between two columns: the weights of a dense layer, or the window of a layer for images."""
    if isinstance(left, Neurons) and isinstance(right, Neurons) and W is not None:
        yield from _draw_weights(left, right, layer, W)
    elif isinstance(right, Neurons):
        x, (top, bottom) = left.right, left.right_edge
        ends = right.neuron_y(right.visible[0]), right.neuron_y(right.visible[-1])
        for y, end in zip((top, bottom), ends, strict=True):
            yield dashed_line(x, y, right.left, end)
    elif isinstance(left, (ChannelStack, ChannelGrid)):
        yield from left.draw_window(*_window_fractions(layer.kind, layer.input_shape), right)


def _window_fractions(kind: Layer, input_shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the height and width of the windows of a layer as fractions of the drawing of its input."""
    size = getattr(kind, "size", input_shape[:2])
    if len(input_shape) == 3:
        return size[0] / input_shape[0], size[1] / input_shape[1]
    return 1.0, getattr(kind, "extent", size if isinstance(size, int) else size[0]) / input_shape[0]


def _draw_weights(left: Neurons, right: Neurons, layer: PlacedLayer[Layer], W: NDArray[Any]) -> Iterator[str]:
    """Yield a line for each weight between visible neurons, the largest weights on top.

    A layer that acts on each column separately, such as Scale, has one line for each neuron.
    """
    rows = [0] if layer.kind.columnwise else left.visible
    weights = np.nan_to_num(W[np.ix_(rows, right.visible)].astype(float), posinf=0.0, neginf=0.0)
    max_abs = float(abs(weights).max()) or 1.0
    for index in np.argsort(abs(weights), axis=None, kind="stable").tolist():
        i, j = divmod(index, len(right.visible))
        weight = float(weights[i, j])
        source, target = left.visible[j if layer.kind.columnwise else i], right.visible[j]
        x, y, end_x, end_y = left.x, left.neuron_y(source), right.x, right.neuron_y(target)
        length = hypot(end_x - x, end_y - y)
        dx, dy = (end_x - x) / length * left.width / 2, (end_y - y) / length * left.width / 2
        fraction = abs(weight) / max_abs
        yield titled_element(
            f"{layer.name}: W[{rows[i]}, {target}] = {W[rows[i], target]:.4g}",
            "line",
            x1=x + dx,
            y1=y + dy,
            x2=end_x - dx,
            y2=end_y - dy,
            stroke=sign_color(weight),
            stroke_width=format_number(0.5 + 3 * fraction, 2),
            stroke_opacity=format_number(0.25 + 0.65 * fraction, 2),
        )


def _draw_captions(column: Column, y: float) -> Iterator[str]:
    """Yield the lines of the captions below a column; the first one is bold."""
    for i, line in enumerate(column.captions):
        style = {"font_weight": "bold"} if i == 0 else {"font_size": SMALL_FONT_SIZE}
        if line:
            yield text(column.x, y + LINE_HEIGHT * i, line, text_anchor="middle", **style)


def _draw_legend(width: float, y: float) -> Iterator[str]:
    """Yield the SVG elements of the legend, which explains the colors, centered below the drawing."""
    x = (width - LEGEND_WIDTH) / 2 + MARGIN
    for label, color in (("positive weight", POSITIVE), ("negative weight", NEGATIVE)):
        yield element("line", x1=x, y1=y - 3.5, x2=x + 18, y2=y - 3.5, stroke=color, stroke_width=3)
        yield text(x + 23, y, label, font_size=SMALL_FONT_SIZE)
        x += LEGEND_WIDTH / 2
