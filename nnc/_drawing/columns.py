"""Columns in the drawing of a network, one for the input and one for each layer: neurons or channels of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

from nnc._drawing.svg import (
    element,
    format_number,
    png_data_uri,
    shorten,
    sign_color,
    text,
    text_width,
    titled_element,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

# Sizes of the drawing in pixels.
FONT_SIZE, SMALL_FONT_SIZE = 12, 10
NEURON_RADIUS = 12.0
NEURON_PITCH = 32.0  # distance in pixels between the centers of neighbouring neurons
MAX_SHEETS = 8  # maximum number of channels that are drawn as a stack of sheets
SHEET_OFFSET = 5.0  # horizontal and vertical offset in pixels between two sheets of a stack
MAX_MAPS = 16  # maximum number of channels that are drawn side by side
MAP_GAP = 3.0


class Column(ABC):
    """Column of a drawing: neurons or channels, with captions below. Its center is at (x, y + height / 2).

    Attributes
    ----------
    captions : list of str
        Lines below the column, the name of the layer first. Empty lines are not drawn.
    width, height : float
        Size of the drawn neurons or channels.
    label_width : float
        Width of the names of neurons, on the outer side of the column.
    """

    x = y = 0.0
    width: float
    height: float
    label_width = 0.0

    def __init__(self, captions: Sequence[str]) -> None:
        self.captions = captions

    @property
    def caption_width(self) -> float:
        """Width of the longest caption in pixels."""
        return max(text_width(line, SMALL_FONT_SIZE if i else FONT_SIZE) for i, line in enumerate(self.captions))

    @property
    def half_width(self) -> float:
        """Distance in pixels from the center of the column to its outermost part, including names and captions."""
        return max(self.width / 2 + self.label_width, self.caption_width / 2)

    @property
    def left(self) -> float:
        """X coordinate of the left end of the neurons or channels, in pixels."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """X coordinate of the right end of the neurons or channels, in pixels."""
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        """Y coordinate of the bottom of the neurons or channels, in pixels."""
        return self.y + self.height

    @property
    def right_edge(self) -> tuple[float, float]:
        """Y coordinates of the top and bottom of the right edge of the column, in pixels."""
        return self.y, self.bottom

    @abstractmethod
    def draw(self) -> Iterator[str]:
        """Yield the SVG elements of the column, without captions."""


class Neurons(Column):
    """Neurons as circles, one below the other; only the first and the last neurons of a large layer are drawn.

    Parameters
    ----------
    captions : list of str
        Lines below the column, as in `Column`.
    n : int
        Number of neurons.
    max_visible : int
        Maximum number of drawn neurons.
    names : sequence, optional
        Names of the neurons, such as columns or classes.
    side : {"start", "end"}
        Anchor of the names: "start" puts a name to the right of its neuron, "end" to the left.
    values : two arrays (n,), optional
        Outputs of the neurons, and the same outputs in the units of the user.
    biases : array (n,), optional
        Biases of the neurons.
    """

    width = 2 * NEURON_RADIUS

    def __init__(
        self,
        captions: Sequence[str],
        n: int,
        max_visible: int,
        names: Sequence[Any] | None,
        side: str,
        values: tuple[NDArray[Any], NDArray[Any]] | None,
        biases: NDArray[Any] | None,
    ) -> None:
        super().__init__(captions)
        n_first = n if n <= max_visible else max_visible // 2
        self.visible = [*range(n_first), *range(max(n_first, n - (max_visible - n_first)), n)]
        self._n_first, self._is_complete = n_first, n <= max_visible
        self.height = NEURON_PITCH * (len(self.visible) + (not self._is_complete))
        self._names = {} if names is None else {i: shorten(str(names[i])) for i in self.visible}
        self._side, self._values, self._biases = side, values, biases
        self.label_width = max((text_width(name, SMALL_FONT_SIZE) + 6 for name in self._names.values()), default=0.0)

    def neuron_y(self, neuron: int) -> float:
        """Return the y coordinate of the center of a visible neuron."""
        position = self.visible.index(neuron)
        return self.y + NEURON_PITCH * (position + (position >= self._n_first) + 0.5)

    def draw(self) -> Iterator[str]:
        """Yield the circles, values and names of the neurons, and dots in place of neurons that are not drawn."""
        for neuron in self.visible:
            yield from self._draw_neuron(neuron)
        if not self._is_complete:
            middle = self.y + NEURON_PITCH * (self._n_first + 0.5)
            for y in (middle - 7, middle, middle + 7):
                yield element("circle", cx=self.x, cy=y, r=1.8)

    def _draw_neuron(self, neuron: int) -> Iterator[str]:
        y = self.neuron_y(neuron)
        title = f"{self.captions[0]}: neuron {neuron}"
        if self._biases is not None:
            title += f", bias {self._biases[neuron]:.4g}"
        fill, opacity = "currentColor", 0.07
        if self._values is not None:
            outputs, user_outputs = self._values
            title += f", {user_outputs[neuron]:.4g}"
            fill, opacity = sign_color(outputs[neuron]), 0.6 * abs(outputs[neuron]) / max(1.0, abs(outputs).max())
        style = {"stroke": "currentColor", "stroke_width": 1.2, "fill": fill, "fill_opacity": format_number(opacity, 2)}
        yield titled_element(title, "circle", cx=self.x, cy=y, r=NEURON_RADIUS, **style)
        if self._values is not None:
            value = format_short(float(self._values[1][neuron]))
            yield text(self.x, y + 3, value, text_anchor="middle", font_size=8 if len(value) < 5 else 7)
        if neuron in self._names:
            offset = NEURON_RADIUS + 6 if self._side == "start" else -NEURON_RADIUS - 6
            yield text(self.x + offset, y + 3.5, self._names[neuron], text_anchor=self._side, font_size=SMALL_FONT_SIZE)


class ChannelStack(Column):
    """Channels of an image as a stack of sheets, one behind the other."""

    def __init__(self, captions: Sequence[str], shape: tuple[int, ...]) -> None:
        super().__init__(captions)
        self._sheet_size = _image_size(shape)  # height and width of the drawing of one channel, in pixels
        # Horizontal and vertical offset between the first and the last sheet of the stack, in pixels.
        self._depth = SHEET_OFFSET * (min(shape[2], MAX_SHEETS) - 1)
        self.height, self.width = (side + self._depth for side in self._sheet_size)

    @property
    def right_edge(self) -> tuple[float, float]:
        """Y coordinates of the top and bottom of the right edge of the last sheet, in pixels."""
        return self.y, self.bottom - self._depth

    def draw(self) -> Iterator[str]:
        """Yield the sheets of the stack as SVG elements, beginning with the one at the back."""
        (height, width), depth = self._sheet_size, self._depth
        style = {"stroke": "currentColor", "stroke_width": 1.2, "fill_opacity": 0.07}
        offset = depth
        while offset > 0:  # draw the visible edges of the sheets behind the first one
            x, y = format_number(self.left + offset), format_number(self.y + depth - offset)
            start = f"M{x} {format_number(self.y + depth - offset + SHEET_OFFSET)}V{y}"
            outer_edge = f"h{format_number(width)}v{format_number(height)}h{format_number(-SHEET_OFFSET)}"
            inner_edge = f"v{format_number(SHEET_OFFSET - height)}h{format_number(SHEET_OFFSET - width)}z"
            yield element("path", d=f"{start}{outer_edge}{inner_edge}", **style)
            offset -= SHEET_OFFSET
        yield element("rect", x=self.left, y=self.y + depth, width=width, height=height, **style)

    def draw_window(self, height_fraction: float, width_fraction: float, right: Column) -> Iterator[str]:
        """Yield the outline of one window of the next layer, and lines from it to the column of that layer.

        Parameters
        ----------
        height_fraction, width_fraction : float
            Size of the window as a fraction of the image.
        right : Column
            Column of the next layer.
        """
        sheet_height, sheet_width = self._sheet_size
        height, width = min(1.0, height_fraction) * sheet_height, min(1.0, width_fraction) * sheet_width
        x, y = self.left + 0.6 * (sheet_width - width), self.y + self._depth + 0.35 * (sheet_height - height)
        rectangle = {"x": x, "y": y, "width": width, "height": height}
        yield element("rect", **rectangle, fill="none", stroke="currentColor", stroke_width=1.0)
        yield from _draw_converging_lines(x + width, (y, y + height), right)


class ChannelGrid(Column):
    """Channels of an image side by side; the pixel colors show the values for one row of inputs."""

    def __init__(self, captions: Sequence[str], shape: tuple[int, ...], values: NDArray[Any]) -> None:
        super().__init__(captions)
        self._values, self._n_visible = values, min(shape[2], MAX_MAPS)
        self._n_columns = ceil(sqrt(self._n_visible))
        self._n_rows = ceil(self._n_visible / self._n_columns)
        scale = 1.0 if self._n_visible == 1 else 0.6
        self._map_size = tuple(scale * side for side in _image_size(shape))  # height and width of a channel in pixels
        self.height = self._n_rows * (self._map_size[0] + MAP_GAP) - MAP_GAP
        self.width = self._n_columns * (self._map_size[1] + MAP_GAP) - MAP_GAP
        if self._n_visible < shape[2]:
            self.captions = [*captions[:2], f"first {self._n_visible} shown", *captions[2:]]

    def draw(self) -> Iterator[str]:
        """Yield the SVG elements of each visible channel: its image and its frame."""
        height, width = self._map_size
        max_abs = float(abs(self._values[:, :, : self._n_visible]).max())
        for channel in range(self._n_visible):
            row, column = divmod(channel, self._n_columns)
            rectangle = {
                "x": self.left + column * (width + MAP_GAP),
                "y": self.y + row * (height + MAP_GAP),
                "width": width,
                "height": height,
            }
            image = png_data_uri(self._values[:, :, channel], max_abs)
            style = {"preserveAspectRatio": "none", "style": "image-rendering:pixelated"}
            yield titled_element(f"{self.captions[0]}: channel {channel}", "image", href=image, **rectangle, **style)
            yield element("rect", **rectangle, fill="none", stroke="currentColor", stroke_opacity=0.45)

    def draw_window(self, height_fraction: float, width_fraction: float, right: Column) -> Iterator[str]:
        """Yield the SVG elements of the lines that connect the grid of channels to the column of the next layer."""
        yield from _draw_converging_lines(self.right, self.right_edge, right)


def _draw_converging_lines(x: float, ends: tuple[float, float], right: Column) -> Iterator[str]:
    """Yield the SVG elements of two dashed lines that meet at the center of a column."""
    for y in ends:
        yield dashed_line(x, y, right.left, right.y + right.height / 2)


def dashed_line(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return an SVG element: a dashed line between two columns of the drawing."""
    ends = {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
    return element("line", **ends, stroke="currentColor", stroke_opacity=0.45, stroke_dasharray="3 3")


def _image_size(shape: tuple[int, ...]) -> tuple[float, float]:
    """Return height and width of an image in the drawing; the longer side has 14 to 120 pixels."""
    longest = max(shape[:2])
    scale = min(120.0, max(14.0, 15 * sqrt(longest))) / longest
    return shape[0] * scale, shape[1] * scale


def format_short(value: float) -> str:
    """Return a number rounded to at most six characters, short enough for the circle of a neuron."""
    size = abs(value)
    if size < 1e4:
        return f"{value:.{2 if size < 10 else 1 if size < 100 else 0}f}"
    return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
