"""The columns of a drawing, one for the input and one for each layer: neurons, or the channels of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

from nnc._drawing.svg import element, number, pixels, shortened, sign_color, text, titled, width

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SMALL = 10  # height of letters that say less
RADIUS, PITCH = 12.0, 32.0  # of neurons
SHEETS, SHIFT = 8, 5.0  # of a stack: how many are shown, and how far they are apart
MAPS = 16  # channels that are shown one by one
APART = 3.0  # pixels between them


class Column(ABC):
    """What stands above one caption. Its middle is at (x, y + height / 2), once it has its place.

    Attributes
    ----------
    captions : list of str
        Lines below it, the name first; empty ones are left out.
    width, height : float
        Of what is drawn.
    room : float
        Beside it, on its outer side, for names.
    """

    x = y = 0.0
    width: float
    height: float
    room = 0.0

    def __init__(self, captions: Sequence[str]) -> None:
        self.captions = captions

    @property
    def breadth(self) -> float:
        """Of the captions."""
        return max(width(line, SMALL if place else 12) for place, line in enumerate(self.captions))

    @property
    def reach(self) -> float:
        """From its middle to its outer end."""
        return max(self.width / 2 + self.room, self.breadth / 2)

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def face(self) -> tuple[float, float]:
        """Top and bottom of its right side."""
        return self.y, self.bottom

    @abstractmethod
    def paint(self) -> Iterator[str]:
        """Its elements."""


class Neurons(Column):
    """Circles, one below the other; of many the first and the last.

    Parameters
    ----------
    captions : list of str
    n : int
    most : int
        That are shown.
    names : sequence, optional
        What the neurons stand for.
    side : {"start", "end"}
        Where a name is anchored at its neuron: to the right of it, or to its left.
    values : two arrays (n,), optional
        What they put out, and the same as the user knows it.
    biases : array (n,), optional
    """

    width = 2 * RADIUS

    def __init__(
        self,
        captions: Sequence[str],
        n: int,
        most: int,
        names: Sequence[Any] | None,
        side: str,
        values: tuple[NDArray[Any], NDArray[Any]] | None,
        biases: NDArray[Any] | None,
    ) -> None:
        super().__init__(captions)
        first = n if n <= most else most // 2
        self.shown = [*range(first), *range(max(first, n - (most - first)), n)]
        self._first, self._is_whole = first, n <= most
        self.height = PITCH * (len(self.shown) + (not self._is_whole))
        self._names = {} if names is None else {i: shortened(str(names[i])) for i in self.shown}
        self._side, self._values, self._biases = side, values, biases
        self.room = max((width(name, SMALL) + 6 for name in self._names.values()), default=0.0)

    def y_of(self, neuron: int) -> float:
        """The middle of a neuron that is shown."""
        place = self.shown.index(neuron)
        return self.y + PITCH * (place + (place >= self._first) + 0.5)

    def paint(self) -> Iterator[str]:
        for neuron in self.shown:
            yield from self._circle(neuron)
        if not self._is_whole:
            middle = self.y + PITCH * (self._first + 0.5)
            for y in (middle - 7, middle, middle + 7):
                yield element("circle", cx=self.x, cy=y, r=1.8)

    def _circle(self, neuron: int) -> Iterator[str]:
        y = self.y_of(neuron)
        said = f"{self.captions[0]}: neuron {neuron}"
        if self._biases is not None:
            said += f", bias {self._biases[neuron]:.4g}"
        fill, opacity = "currentColor", 0.07
        if self._values is not None:
            outputs, shown = self._values
            said += f", {shown[neuron]:.4g}"
            fill, opacity = sign_color(outputs[neuron]), 0.6 * abs(outputs[neuron]) / max(1.0, abs(outputs).max())
        attributes = {"stroke": "currentColor", "stroke_width": 1.2, "fill": fill, "fill_opacity": number(opacity, 2)}
        yield titled(said, "circle", cx=self.x, cy=y, r=RADIUS, **attributes)
        if self._values is not None:
            value = short(float(self._values[1][neuron]))
            yield text(self.x, y + 3, value, text_anchor="middle", font_size=8 if len(value) < 5 else 7)
        if neuron in self._names:
            beside = RADIUS + 6 if self._side == "start" else -RADIUS - 6
            yield text(self.x + beside, y + 3.5, self._names[neuron], text_anchor=self._side, font_size=SMALL)


class Sheets(Column):
    """The channels of an image as sheets, one behind the other."""

    def __init__(self, captions: Sequence[str], shape: tuple[int, ...]) -> None:
        super().__init__(captions)
        self._sheet = _size(shape)
        self._behind = SHIFT * (min(shape[2], SHEETS) - 1)
        self.height, self.width = (side + self._behind for side in self._sheet)

    @property
    def face(self) -> tuple[float, float]:
        return self.y, self.bottom - self._behind

    def paint(self) -> Iterator[str]:
        (height, breadth), behind = self._sheet, self._behind
        attributes = {"stroke": "currentColor", "stroke_width": 1.2, "fill_opacity": 0.07}
        at = behind
        while at > 0:  # what is to be seen of those behind
            x, y = self.left + at, self.y + behind - at
            corner = f"M{number(x)} {number(y + SHIFT)}V{number(y)}h{number(breadth)}v{number(height)}"
            yield element(
                "path", d=f"{corner}h{number(-SHIFT)}v{number(SHIFT - height)}h{number(SHIFT - breadth)}z", **attributes
            )
            at -= SHIFT
        yield element("rect", x=self.left, y=self.y + behind, width=breadth, height=height, **attributes)

    def window(self, tall: float, wide: float, right: Column) -> Iterator[str]:
        """What the next layer looks at through one of its windows, which has this share of the sheet."""
        height, breadth = self._sheet
        tall, wide = min(1.0, tall) * height, min(1.0, wide) * breadth
        x, y = self.left + 0.6 * (breadth - wide), self.y + self._behind + 0.35 * (height - tall)
        yield element("rect", x=x, y=y, width=wide, height=tall, fill="none", stroke="currentColor", stroke_width=1.0)
        yield from _meeting(x + wide, (y, y + tall), right)


class Maps(Column):
    """The channels of an image side by side, with what they hold for a row."""

    def __init__(self, captions: Sequence[str], shape: tuple[int, ...], values: NDArray[Any]) -> None:
        super().__init__(captions)
        self._values, self._shown = values, min(shape[2], MAPS)
        self._columns = ceil(sqrt(self._shown))
        self._rows = ceil(self._shown / self._columns)
        share = 1.0 if self._shown == 1 else 0.6
        self._map = tuple(share * side for side in _size(shape))
        self.height = self._rows * (self._map[0] + APART) - APART
        self.width = self._columns * (self._map[1] + APART) - APART
        if self._shown < shape[2]:
            self.captions = [*captions[:2], f"{self._shown} are shown", *captions[2:]]

    def paint(self) -> Iterator[str]:
        height, breadth = self._map
        largest = float(abs(self._values[:, :, : self._shown]).max())
        for channel in range(self._shown):
            row, column = divmod(channel, self._columns)
            place = {
                "x": self.left + column * (breadth + APART),
                "y": self.y + row * (height + APART),
                "width": breadth,
                "height": height,
            }
            image = pixels(self._values[:, :, channel], largest)
            style = {"preserveAspectRatio": "none", "style": "image-rendering:pixelated"}
            yield titled(f"{self.captions[0]}: channel {channel}", "image", href=image, **place, **style)
            yield element("rect", **place, fill="none", stroke="currentColor", stroke_opacity=0.45)

    def window(self, tall: float, wide: float, right: Column) -> Iterator[str]:
        """That the next layer looks at all of them."""
        yield from _meeting(self.right, self.face, right)


def _meeting(x: float, ends: tuple[float, float], right: Column) -> Iterator[str]:
    """Two lines that meet at a column."""
    for y in ends:
        yield thin(x, y, right.left, right.y + right.height / 2)


def thin(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line that says where something comes from."""
    ends = {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
    return element("line", **ends, stroke="currentColor", stroke_opacity=0.45, stroke_dasharray="3 3")


def _size(shape: tuple[int, ...]) -> tuple[float, float]:
    """Height and width of an image in the drawing: larger ones are larger, but not by as much."""
    longest = max(shape[:2])
    scale = min(120.0, max(14.0, 15 * sqrt(longest))) / longest
    return shape[0] * scale, shape[1] * scale


def short(value: float) -> str:
    """A number in five letters at most, if it is not enormous."""
    size = abs(value)
    if size < 1e4:
        return f"{value:.{2 if size < 10 else 1 if size < 100 else 0}f}"
    return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
