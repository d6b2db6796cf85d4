"""Training curves as small SVG drawings and as lines of block characters."""

from __future__ import annotations

import sys
from math import ceil, floor, isfinite, log10
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnc._drawing.svg import NEGATIVE, POSITIVE, Drawing, element, format_number, text, text_width

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Values = NDArray[np.float64]

BLOCKS = "▁▂▃▄▅▆▇█"  # characters of a sparkline, from the lowest to the highest value
ASCII_BLOCKS = "_.-:=+*#"  # replacement for BLOCKS if the terminal cannot encode them
MIN_LOG_RATIO = 100  # a scale is logarithmic if its largest value exceeds the smallest by more than this factor
MAX_POINTS = 200  # a longer curve is reduced to at most this number of extremes of intervals, and both ends
COLORS = (POSITIVE, NEGATIVE, "#299a80", "#a06cc4", "#8a8f98")
DASHES = (None, "6 2", "2 2", "8 2 2 2", "4 4")  # dash patterns distinguish the curves without colors
PANEL_WIDTH, PANEL_HEIGHT = 250.0, 140.0  # size of the plot area in pixels
LEFT_MARGIN, TOP_MARGIN, BOTTOM_MARGIN, RIGHT_MARGIN = 52.0, 30.0, 40.0, 18.0  # space around the plot area in pixels
FONT_SIZE = 10  # height of the letters in pixels
LEGEND_GAP = 34  # width of the line and of the gap next to a label in the legend, in pixels


class Scale(NamedTuple):
    """Linear or logarithmic map from the range [low, high] to [0, 1]."""

    low: float
    high: float
    is_log: bool

    @classmethod
    def from_values(cls, values: Values) -> Scale:
        """Return the scale for the range of the finite values; it is logarithmic if the range is large."""
        finite = values[np.isfinite(values)]
        if not len(finite):
            return cls(0.0, 1.0, False)
        low, high = float(finite.min()), float(finite.max())
        return cls(low, high, low > 0 and high > MIN_LOG_RATIO * low)

    def normalize(self, values: Values) -> Values:
        """Map values from the range of the scale to [0, 1].

        Values that are not finite become NaN. If the range is empty, all finite values become 0.5.
        """
        values = np.where(np.isfinite(values), values, np.nan)
        low, high = self.low, self.high
        if self.is_log:
            values, low, high = np.log10(values), log10(low), log10(high)
        if not high > low:
            return np.where(np.isnan(values), np.nan, 0.5)
        # Halve each number before the subtraction, because a range such as -1e308 to 1e308 would overflow.
        return (values / 2 - low / 2) / (high / 2 - low / 2)

    def ticks(self) -> list[float]:
        """Return round numbers within the range, for the labels of an axis."""
        if self.is_log:
            powers = range(ceil(log10(self.low)), floor(log10(self.high)) + 1)
            return [10.0**power for power in powers[:: ceil(len(powers) / 5)]]
        span = self.high / 4 - self.low / 4
        if not span > 0:
            return [self.low]
        unit = 10.0 ** floor(log10(span))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= span)
        first, last = ceil(self.low / step), floor(self.high / step)
        return [step * factor for factor in range(first, last + 1)]


def sparkline(values: Values, max_length: int = 40) -> str:
    """Return a curve as a line of block characters, with blanks for values that are not finite.

    Parameters
    ----------
    values : array (n,)
        The lowest value is drawn as ▁, the highest as █. The scale is logarithmic if the range is large.
    max_length : int, default 40
        Maximum number of characters. A longer curve is reduced to the medians of intervals.
    """
    try:
        BLOCKS.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        blocks = BLOCKS
    except UnicodeEncodeError:
        blocks = ASCII_BLOCKS
    if len(values) > max_length:  # use medians, which are robust to single outliers
        values = np.array([np.median(interval) for interval in np.array_split(values, max_length)])
    return "".join(
        " " if np.isnan(fraction) else blocks[min(7, int(8 * fraction))]
        for fraction in Scale.from_values(values).normalize(values).tolist()
    )


def group_panels(history: Mapping[str, Values]) -> list[dict[str, Values]]:
    """Return the columns of a history for each panel: losses, metrics, and the learning rate if it changes."""
    losses = {name: history[name] for name in ("loss", "val_loss") if name in history}
    metrics = {name: history[name] for name in history if name not in (*losses, "lr", "epoch_seconds")}
    learning_rate = {"lr": history["lr"]} if "lr" in history and len(np.unique(history["lr"])) > 1 else {}
    return [panel for panel in (losses, metrics, learning_rate) if panel]


# ------------------------------------------------------------------------------------ curves as SVG


def draw(panels: Sequence[Mapping[str, Values]], best: int | None, title: str, description: str) -> Drawing:
    """Draw panels of curves side by side.

    Parameters
    ----------
    panels : sequence of dict of arrays (epochs,)
        Curves of each panel, by name.
    best : int, optional
        Epoch to mark, counted from 1.
    title, description : str
        Texts of the `Drawing`.
    """
    parts: list[str] = []
    left = 0.0
    for curves in panels:
        parts += _draw_panel(curves, best, left + LEFT_MARGIN)
        legend_width = sum(text_width(_label(name, curve), FONT_SIZE) + LEGEND_GAP for name, curve in curves.items())
        left += LEFT_MARGIN + max(PANEL_WIDTH + RIGHT_MARGIN, legend_width)
    return Drawing(title, description, left, TOP_MARGIN + PANEL_HEIGHT + BOTTOM_MARGIN, parts)


def _label(name: str, curve: Values) -> str:
    """Return the label of a curve in the legend: its name and its last value."""
    return f"{name} {curve[-1]:.4g}"


def _draw_panel(curves: Mapping[str, Values], best: int | None, left: float) -> Iterator[str]:
    """Yield the SVG elements of a panel; the left edge of its plot area is at x = `left`."""
    epochs = max(len(curve) for curve in curves.values())
    x_scale = Scale(1.0, float(max(epochs, 2)), False)
    shown = [_shown_epochs(curve) for curve in curves.values()]
    y_scale = Scale.from_values(np.concatenate([curve[i] for curve, i in zip(curves.values(), shown, strict=True)]))
    frame = Frame(left, TOP_MARGIN, PANEL_WIDTH, PANEL_HEIGHT, x_scale, y_scale)
    yield from frame.draw("epoch" if best is None else f"epoch (best: {best})", integers=True)
    if best is not None:
        x = frame.x_of(best)
        yield draw_line(x, TOP_MARGIN, x, TOP_MARGIN + PANEL_HEIGHT, 0.6, "2 3")
    legend_x = left
    for i, (name, curve) in enumerate(curves.items()):
        style = {"stroke": COLORS[i % 5], "stroke_width": 1.8, "stroke_dasharray": DASHES[i % 5]}
        for points in _split_at_gaps(frame.x((shown[i] + 1).astype(np.float64)), frame.y(curve[shown[i]])):
            yield element("polyline", points=points, fill="none", stroke_linejoin="round", **style)
        label = _label(name, curve)
        yield element("line", x1=legend_x, y1=TOP_MARGIN - 13.0, x2=legend_x + 18, y2=TOP_MARGIN - 13.0, **style)
        yield text(legend_x + 23, TOP_MARGIN - 9.5, label, font_size=FONT_SIZE)
        legend_x += text_width(label, FONT_SIZE) + LEGEND_GAP


class Frame(NamedTuple):
    """Plot area of a drawing, with the scales of its axes.

    Attributes
    ----------
    left, top, width, height : float
        Position and size in pixels.
    x_scale, y_scale : Scale
        Scales of the horizontal and of the vertical axis.
    """

    left: float
    top: float
    width: float
    height: float
    x_scale: Scale
    y_scale: Scale

    def x(self, values: Values) -> Values:
        """Return the x coordinates of values in pixels."""
        return self.left + self.width * self.x_scale.normalize(values)

    def y(self, values: Values) -> Values:
        """Return the y coordinates of values in pixels."""
        return self.top + self.height * (1 - self.y_scale.normalize(values))

    def x_of(self, value: float) -> float:
        """Return the x coordinate of a value in pixels."""
        return float(self.x(np.array([value], np.float64))[0])

    def draw(self, x_label: str, y_label: str = "", integers: bool = False) -> Iterator[str]:
        """Yield the border, the axes and their labels; `integers` restricts the ticks of the x axis to integers."""
        size = {"width": self.width, "height": self.height}
        yield element("rect", x=self.left, y=self.top, **size, fill="none", stroke="currentColor", stroke_opacity=0.4)
        for tick in self.y_scale.ticks():
            y = float(self.y(np.array([tick], np.float64))[0])
            yield draw_line(self.left, y, self.left + self.width, y, 0.15)
            yield text(self.left - 6, y + 3.5, f"{tick:.4g}", text_anchor="end", font_size=FONT_SIZE)
        if y_label:
            x, y = 12.0, self.top + self.height / 2
            style = {"text_anchor": "middle", "font_size": FONT_SIZE, "transform": f"rotate(-90 {x:g} {y:g})"}
            yield text(x, y, y_label, **style)
        yield from self.draw_x_axis(x_label, integers)

    def draw_x_axis(self, label: str, integers: bool = False) -> Iterator[str]:
        """Yield the ticks of the x axis and its label; `integers` restricts the ticks to integers."""
        bottom = self.top + self.height
        for tick in self.x_scale.ticks():
            if not integers or tick == int(tick):
                x = self.x_of(tick)
                yield draw_line(x, bottom, x, bottom + 4, 0.4)
                yield text(x, bottom + 15, f"{tick:.4g}", text_anchor="middle", font_size=FONT_SIZE)
        yield text(self.left + self.width / 2, bottom + 30, label, text_anchor="middle", font_size=FONT_SIZE)


def draw_line(x1: float, y1: float, x2: float, y2: float, opacity: float, dashes: str | None = None) -> str:
    """Return a line in the color of the text as an SVG element."""
    ends = {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
    opacity_text = format_number(opacity, 2)
    return element("line", **ends, stroke="currentColor", stroke_opacity=opacity_text, stroke_dasharray=dashes)


def _shown_epochs(curve: Values) -> NDArray[np.intp]:
    """Return the indices of the points that are drawn: for a long curve the extremes of intervals, and both ends."""
    if len(curve) <= MAX_POINTS:
        return np.arange(len(curve))
    finite = curve[np.isfinite(curve)]
    values = np.where(np.isfinite(curve), curve, np.median(finite) if len(finite) else 0.0)
    index, start = [0, len(curve) - 1], 0
    for interval in np.array_split(values, MAX_POINTS // 2):
        index += [start + int(interval.argmin()), start + int(interval.argmax())]
        start += len(interval)
    return np.unique(np.array(index, np.intp))


def _split_at_gaps(x: Values, y: Values) -> Iterator[str]:
    """Yield the points of each part of a curve without NaN, for a polyline.

    A part with a single point contains it twice, so that it is drawn as a dot.
    """
    points: list[str] = []
    for point_x, point_y in zip(x.tolist(), y.tolist(), strict=True):
        if isfinite(point_y):
            points.append(f"{format_number(point_x)},{format_number(point_y)}")
        elif points:
            yield " ".join(points if len(points) > 1 else 2 * points)
            points = []
    if points:
        yield " ".join(points if len(points) > 1 else 2 * points)
