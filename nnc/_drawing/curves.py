"""What changes from epoch to epoch as curves: small ones as SVG, smaller ones in characters."""

from __future__ import annotations

import sys
from math import ceil, floor, isfinite, log10
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnc._drawing.svg import NEGATIVE, POSITIVE, Drawing, element, number, text, width

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Column = NDArray[np.float64]

BLOCKS, LETTERS = "▁▂▃▄▅▆▇█", "_.-:=+*#"  # the second where the first cannot be printed
DECADES = 100  # where the largest number of a curve is so many times the smallest, its scale is logarithmic
POINTS = 200  # of a curve; of longer ones the least and the largest of each stretch
COLORS = (POSITIVE, NEGATIVE, "#299a80", "#a06cc4", "#8a8f98")
DASHES = (None, "6 2", "2 2", "8 2 2 2", "4 4")  # so that nobody needs the colours
PANEL, TALL = 250.0, 140.0  # of the part within the axes
LEFT, TOP, FOOT, RIGHT = 52.0, 30.0, 40.0, 18.0
SMALL = 10


class Scale(NamedTuple):
    """From a number to its share of the way from the lowest to the highest."""

    low: float
    high: float
    is_log: bool

    @classmethod
    def of(cls, values: Column) -> Scale:
        """One on which these values fill the way; those that are not finite do not count."""
        finite = values[np.isfinite(values)]
        if not len(finite):
            return cls(0.0, 1.0, False)
        low, high = float(finite.min()), float(finite.max())
        return cls(low, high, low > 0 and high > DECADES * low)

    def shares(self, values: Column) -> Column:
        """From 0 to 1; a half where all are the same, NaN of what is not finite."""
        values = np.where(np.isfinite(values), values, np.nan)
        low, high = self.low, self.high
        if self.is_log:
            values, low, high = np.log10(values), log10(low), log10(high)
        if not high > low:
            return np.where(np.isnan(values), np.nan, 0.5)
        # halves, for the way from -1e308 to 1e308 is longer than the largest number
        return (values / 2 - low / 2) / (high / 2 - low / 2)

    def ticks(self) -> list[float]:
        """Some round numbers on the way."""
        if self.is_log:
            powers = range(ceil(log10(self.low)), floor(log10(self.high)) + 1)
            return [10.0**power for power in powers[:: ceil(len(powers) / 5)]]
        span = self.high / 4 - self.low / 4
        if not span > 0:
            return [self.low]
        unit = 10.0 ** floor(log10(span))
        step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= span)
        first, last = ceil(self.low / step), floor(self.high / step)
        return [step * times for times in range(first, last + 1)]


def blocks(values: Column, most: int = 40) -> str:
    """A curve in one line, of so many characters at most: ▁ stands for the lowest number, █ for the highest, a blank
    for what is not finite. On a logarithmic scale where the numbers are of several magnitudes."""
    try:
        BLOCKS.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        letters = BLOCKS
    except UnicodeEncodeError:
        letters = LETTERS
    if len(values) > most:  # the middle of each stretch, which one number that is far off does not move
        values = np.array([np.median(part) for part in np.array_split(values, most)])
    return "".join(
        " " if np.isnan(share) else letters[min(7, int(8 * share))]
        for share in Scale.of(values).shares(values).tolist()
    )


def panels(history: Mapping[str, Column]) -> list[dict[str, Column]]:
    """The columns of a history that make up a picture: losses, metrics, and the learning rate where it changes."""
    losses = {name: history[name] for name in ("loss", "val_loss") if name in history}
    metrics = {name: history[name] for name in history if name not in (*losses, "lr", "epoch_seconds")}
    rate = {"lr": history["lr"]} if "lr" in history and len(np.unique(history["lr"])) > 1 else {}
    return [panel for panel in (losses, metrics, rate) if panel]


# ---------------------------------------------------------------------------------------------- as SVG


def draw(panels: Sequence[Mapping[str, Column]], best: int | None, title: str, description: str) -> Drawing:
    """Panels of curves beside each other.

    Parameters
    ----------
    panels : sequence of dict of arrays (epochs,)
        For each panel its curves by their names.
    best : int, optional
        An epoch to mark, counted from 1.
    title, description : str
        As of a Drawing.
    """
    parts: list[str] = []
    for place, curves in enumerate(panels):
        parts += _panel(curves, best, place * (LEFT + PANEL + RIGHT) + LEFT)
    return Drawing(title, description, len(panels) * (LEFT + PANEL + RIGHT), TOP + TALL + FOOT, parts)


def _panel(curves: Mapping[str, Column], best: int | None, left: float) -> Iterator[str]:
    epochs = max(len(column) for column in curves.values())
    across, up = Scale(1.0, float(max(epochs, 2)), False), Scale.of(np.concatenate([*curves.values()]))
    yield element(
        "rect", x=left, y=TOP, width=PANEL, height=TALL, fill="none", stroke="currentColor", stroke_opacity=0.4
    )
    for tick in up.ticks():
        y = _y(up, tick)
        yield _line(left, y, left + PANEL, y, 0.15)
        yield text(left - 6, y + 3.5, f"{tick:.4g}", text_anchor="end", font_size=SMALL)
    for tick in across.ticks():
        if tick == int(tick):
            x = left + PANEL * _share(across, tick)
            yield _line(x, TOP + TALL, x, TOP + TALL + 4, 0.4)
            yield text(x, TOP + TALL + 15, f"{tick:.0f}", text_anchor="middle", font_size=SMALL)
    said = "epoch" if best is None else f"epoch (best: {best})"
    yield text(left + PANEL / 2, TOP + TALL + 30, said, text_anchor="middle", font_size=SMALL)
    if best is not None:
        x = left + PANEL * _share(across, float(best))
        yield _line(x, TOP, x, TOP + TALL, 0.6, "2 3")
    at = left
    for place, (name, column) in enumerate(curves.items()):
        style = {"stroke": COLORS[place % 5], "stroke_width": 1.8, "stroke_dasharray": DASHES[place % 5]}
        along = left + PANEL * across.shares(np.arange(1.0, len(column) + 1))
        for points in _stretches(along, TOP + TALL * (1 - up.shares(column))):
            yield element("polyline", points=points, fill="none", stroke_linejoin="round", **style)
        label = f"{name} {column[-1]:.4g}"
        yield element("line", x1=at, y1=TOP - 13.0, x2=at + 18, y2=TOP - 13.0, **style)
        yield text(at + 23, TOP - 9.5, label, font_size=SMALL)
        at += width(label, SMALL) + 34


def _share(scale: Scale, value: float) -> float:
    return float(scale.shares(np.array([value]))[0])


def _y(scale: Scale, value: float) -> float:
    return TOP + TALL * (1 - _share(scale, value))


def _line(x1: float, y1: float, x2: float, y2: float, opacity: float, dashes: str | None = None) -> str:
    ends = {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
    return element("line", **ends, stroke="currentColor", stroke_opacity=number(opacity, 2), stroke_dasharray=dashes)


def _stretches(x: Column, y: Column) -> Iterator[str]:
    """The points of a curve, of each stretch without a gap; one that is alone is twice there, which is a dot."""
    if len(x) > POINTS:
        parts = np.array_split(np.arange(len(x)), POINTS // 2)
        filled = np.where(np.isnan(y), 0.5, y)
        x_of = [sorted({int(part[filled[part].argmin()]), int(part[filled[part].argmax()])}) for part in parts]
        kept = np.array([0, *(place for places in x_of for place in places), len(x) - 1])
        kept = np.unique(kept)
        x, y = x[kept], y[kept]
    points: list[str] = []
    for across, down in zip(x.tolist(), y.tolist(), strict=True):
        if isfinite(down):
            points.append(f"{number(across)},{number(down)}")
        elif points:
            yield " ".join(points if len(points) > 1 else 2 * points)
            points = []
    if points:
        yield " ".join(points if len(points) > 1 else 2 * points)
