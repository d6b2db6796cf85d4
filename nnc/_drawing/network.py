"""A network as a picture: neurons as circles, weights as lines between them, images as stacks of their channels."""

from __future__ import annotations

from itertools import pairwise
from math import hypot
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._drawing.columns import SMALL, Maps, Neurons, Sheets, thin
from nnc._drawing.svg import NEGATIVE, POSITIVE, Drawing, element, number, sign_color, text, titled
from nnc._registry import losses
from nnc._utils.checks import count
from nnc.layers.base import shape_text
from nnc.layers.dense import Dense
from nnc.layers.image import Flatten, GlobalAvgPool2D, Pool
from nnc.layers.scale import Scale
from nnc.layers.shape import Dropout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from nnc._drawing.columns import Column
    from nnc.layers.base import Layer
    from nnc.layers.stack import PlacedLayer, Stack

    Values = Sequence[NDArray[Any]]

MARGIN = 16
LINE = 15  # from one line of letters to the next
OF_WEIGHTS, OF_IMAGES = 110, 44  # pixels between two columns at least
LEGEND = 272.0  # how wide it is
MANY = 6  # columns, from which on there is less between them
WORDS = "Lines are weights: blue ones are positive, orange ones negative, and the thicker, the larger."
ROW_WORDS = "Circles and pixels are filled with what the layers put out for one row, in the same colours."


def draw(net: Any, row: Any = None, neurons: int = 10) -> Drawing:
    """A picture of a network.

    Parameters
    ----------
    net : NeuralNetwork
    row : array, optional
        Of inputs, whose way through the network is to be seen.
    neurons : int, default 10
        As many of a layer are shown at most; of larger ones the first and the last.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.
    """
    stack: Stack = net.model.stack
    neurons = count("neurons", neurons, 2)
    outputs, shown = (None, None) if row is None else _of_row(net, row)
    columns = list(_columns(net, neurons, outputs, shown))
    breadth = _place(columns)
    parts: list[str] = []
    layers = [layer for layer in stack.layers if not isinstance(layer.kind, Dropout)]
    for layer, (left, right) in zip(layers, pairwise(columns), strict=True):
        W = net.model.W[layer.parametric_index] if isinstance(layer.kind, (Dense, Scale)) else None
        parts += _between(left, right, layer, W)
    foot = max(column.bottom for column in columns) + 1.6 * LINE
    for column in columns:
        parts += column.paint()
        parts += _caption(column, foot)
    foot += LINE * max(len(column.captions) for column in columns)
    parts += _legend(breadth, foot + LINE)
    names = [
        shape_text(stack.input_shape).replace(" ", ""),
        *(str(layer.output_shape[-1]) for layer in stack.parametric_layers),
    ]
    said = [f"{', '.join(filter(None, column.captions))}." for column in columns]
    words = [*said, WORDS, *([] if row is None else [ROW_WORDS])]
    return Drawing(f"Neural network {'-'.join(names)}", " ".join(words), breadth, foot + 2 * LINE, parts)


# ---------------------------------------------------------------------------------------------- what is drawn


def _of_row(net: Any, row: Any) -> tuple[Values, Values]:
    """What every column has for a row: as the layers take and give it, and as the user knows it."""
    model, converter = net.model, net.converter
    try:
        inputs, raw = converter.checked_inputs(row), converter.rows(row)
    except (TypeError, ValueError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"row: {error}") from None
    if len(inputs) != 1:
        raise ValueError(f"row must be one row of inputs, got {len(inputs)}")
    computed = model.forward(inputs)
    found: list[NDArray[Any]] = [inputs[0].reshape(model.input_shape)]
    for layer in model.stack.layers:
        kind = layer.kind
        if layer.parametric_index is not None:
            found.append(computed[layer.parametric_index][0])
        elif isinstance(kind, Pool):
            windows = np.lib.stride_tricks.sliding_window_view(found[-1], kind.size, (0, 1))
            windows = windows[:: kind.stride[0], :: kind.stride[1]]
            found.append(windows.max((3, 4)) if kind.takes == "largest" else windows.mean((3, 4)))
        elif isinstance(kind, GlobalAvgPool2D):
            found.append(found[-1].mean((0, 1), keepdims=True))
        elif isinstance(kind, Flatten):
            found.append(found[-1].reshape(-1))
    return found, [raw[0].reshape(model.input_shape), *found[1:-1], net.predict(row).reshape(-1)]


def _columns(net: Any, neurons: int, outputs: Values | None, shown: Values | None) -> Iterator[Column]:
    """The input, and every layer but Dropout, which stands in the caption of the layer that it is behind."""
    stack: Stack = net.model.stack
    placed: list[PlacedLayer[Layer] | None] = [None]
    captions: list[list[str]] = [["Input", shape_text(stack.input_shape), ""]]
    for behind in stack.layers:
        if isinstance(behind.kind, Dropout):
            captions[-1].append(behind.kind.summary_note)
        else:
            placed.append(behind)
            captions.append([behind.name, shape_text(behind.output_shape), behind.kind.summary_note])
    for place, (layer, lines) in enumerate(zip(placed, captions, strict=True)):
        shape = stack.input_shape if layer is None else layer.output_shape
        values = None if outputs is None or shown is None else (outputs[place], shown[place])
        if len(shape) == 3:
            yield Sheets(lines, shape) if values is None else Maps(lines, shape, values[0])
            continue
        names = net.feature_names if layer is None else _classes(net) if place == len(placed) - 1 else None
        b = None if layer is None or layer.parametric_index is None else net.model.b[layer.parametric_index]
        yield Neurons(lines, shape[0], neurons, names, "end" if layer is None else "start", values, b)


def _classes(net: Any) -> Sequence[Any] | None:
    """What the outputs stand for."""
    if not losses.ROWS[net.model.loss].is_classification or net.sizes[-1] == 1:
        return None
    return range(net.sizes[-1]) if net.classes is None else net.classes.tolist()


def _place(columns: Sequence[Column]) -> float:
    """Sets the columns beside each other, their middles on one line, so that no letters meet; returns how wide the
    picture is."""
    height = max(column.height for column in columns)
    apart = OF_WEIGHTS if len(columns) <= MANY else OF_WEIGHTS * 2 / 3
    for column in columns:
        column.y = MARGIN + (height - column.height) / 2
    columns[0].x = MARGIN + columns[0].reach
    for left, right in pairwise(columns):
        gap = apart if isinstance(left, Neurons) and isinstance(right, Neurons) else OF_IMAGES
        contents = (left.width + right.width) / 2 + gap
        right.x = left.x + max(contents, (left.breadth + right.breadth) / 2 + MARGIN)
    breadth = columns[-1].x + columns[-1].reach + MARGIN
    missing = max(0.0, LEGEND - breadth)
    for column in columns:
        column.x += missing / 2
    return breadth + missing


# ---------------------------------------------------------------------------------------------- lines and words


def _between(left: Column, right: Column, layer: PlacedLayer[Layer], W: NDArray[Any] | None) -> Iterator[str]:
    """What joins two columns: weights, or how an image becomes the next one."""
    if isinstance(left, Neurons) and isinstance(right, Neurons) and W is not None:
        yield from _weights(left, right, layer, W)
    elif isinstance(right, Neurons):
        x, (top, bottom) = left.right, left.face
        ends = right.y_of(right.shown[0]), right.y_of(right.shown[-1])
        for y, end in zip((top, bottom), ends, strict=True):
            yield thin(x, y, right.left, end)
    elif isinstance(left, (Sheets, Maps)):
        window = getattr(layer.kind, "size", layer.input_shape[:2])
        yield from left.window(window[0] / layer.input_shape[0], window[1] / layer.input_shape[1], right)


def _weights(left: Neurons, right: Neurons, layer: PlacedLayer[Layer], W: NDArray[Any]) -> Iterator[str]:
    """A line for each weight between neurons that are shown, the largest on top; from each to its own of a Scale."""
    rows = [0] if layer.kind.columnwise else left.shown
    part = np.nan_to_num(W[np.ix_(rows, right.shown)].astype(float), posinf=0.0, neginf=0.0)
    largest = float(abs(part).max()) or 1.0
    for place in np.argsort(abs(part), axis=None, kind="stable").tolist():
        i, j = divmod(place, len(right.shown))
        weight = float(part[i, j])
        below, above = left.shown[j if layer.kind.columnwise else i], right.shown[j]
        x, y, end_x, end_y = left.x, left.y_of(below), right.x, right.y_of(above)
        long = hypot(end_x - x, end_y - y)
        dx, dy = (end_x - x) / long * left.width / 2, (end_y - y) / long * left.width / 2
        share = abs(weight) / largest
        yield titled(
            f"{layer.name}: W[{rows[i]}, {above}] = {W[rows[i], above]:.4g}",
            "line",
            x1=x + dx,
            y1=y + dy,
            x2=end_x - dx,
            y2=end_y - dy,
            stroke=sign_color(weight),
            stroke_width=number(0.5 + 3 * share, 2),
            stroke_opacity=number(0.25 + 0.65 * share, 2),
        )


def _caption(column: Column, y: float) -> Iterator[str]:
    """The name of a layer and what there is to it, below its column."""
    for place, line in enumerate(column.captions):
        style = {"font_weight": "bold"} if place == 0 else {"font_size": SMALL}
        if line:
            yield text(column.x, y + LINE * place, line, text_anchor="middle", **style)


def _legend(breadth: float, y: float) -> Iterator[str]:
    """What the lines mean."""
    x = (breadth - LEGEND) / 2 + MARGIN
    for words, color in (("positive weight", POSITIVE), ("negative weight", NEGATIVE)):
        yield element("line", x1=x, y1=y - 3.5, x2=x + 18, y2=y - 3.5, stroke=color, stroke_width=3)
        yield text(x + 23, y, words, font_size=SMALL)
        x += LEGEND / 2
