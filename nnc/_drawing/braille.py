"""Curves as lines of Braille characters for terminals: each character is a raster of 2 x 4 dots."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from nnc._drawing.curves import Scale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Values = NDArray[np.float64]

# Bit of each dot of a Braille character, by its row (0 to 3) and column (0 or 1); the characters start at U+2800.
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
BRAILLE_START = 0x2800
LABEL_WIDTH = 11  # width of the labels of the vertical axis, in characters
COLOR_CODES = (34, 33, 36, 35, 90)  # escape codes of the colors of curves: blue, yellow, cyan, magenta, gray
SHADES = " ░▒▓█"  # characters for values from low to high
ASCII_SHADES = " .:*#"  # replacement for SHADES if the terminal cannot encode them
BINARY_CHARACTERS = ".#"  # characters of two classes in a decision boundary
CLASS_CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz"  # characters of the classes in a decision boundary


def can_encode(text: str) -> bool:
    """Return whether standard error can encode a text."""
    try:
        text.encode(getattr(sys.stderr, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def plot_curves(curves: Mapping[str, Values], width: int, height: int, colors: bool = False) -> list[str]:
    """Return a plot of curves over the epochs as lines of text.

    Parameters
    ----------
    curves : mapping of str to array (epochs,)
        Curves by name, of one quantity. All of them share the axes.
    width, height : int
        Size in characters, with the labels.
    colors : bool, default False
        Whether escape sequences for the colors of terminals distinguish the curves.

    Returns
    -------
    list of str
        A line with the names and last values, and `height` - 1 lines of at most `width` characters with the plot.
    """
    columns, rows = max(8, width - LABEL_WIDTH - 2), height - 1
    epochs = max(len(curve) for curve in curves.values())
    # Number of columns of dots of each curve.
    widths = [max(1, round(2 * columns * len(curve) / epochs)) for curve in curves.values()]
    extremes = [_extremes(curve, n) for curve, n in zip(curves.values(), widths, strict=True)]
    scale = Scale.from_values(np.concatenate([values for pair in extremes for values in pair]))
    dots = np.zeros((4 * rows, 2 * columns), bool)
    color = np.zeros((rows, columns), int)  # for each character, the index of the last curve with a dot in it
    for i, (lowest, highest) in enumerate(extremes):
        own = np.zeros_like(dots)
        _draw_curve(own[:, : widths[i]], scale.normalize(lowest), scale.normalize(highest))
        dots |= own
        color[own.reshape(rows, 4, columns, 2).any(axis=(1, 3))] = i
    paint = _paint if colors else lambda text, _: text
    legend = [paint(f"{name} {curve[-1]:.4g}", i) for i, (name, curve) in enumerate(curves.items())]
    lines = [f"{'':{LABEL_WIDTH}}  {'   '.join(legend)}"]
    labels = {0: f"{scale.high:.4g}", rows - 1: f"{scale.low:.4g}"}
    for row, text in enumerate(_characters(dots)):
        runs = groupby(zip(text.rstrip(), color[row].tolist(), strict=False), key=lambda pair: pair[1])
        painted = "".join(paint("".join(character for character, _ in run), i) for i, run in runs)
        lines.append(f"{labels.get(row, ''):>{LABEL_WIDTH}} |{painted}")
    return lines


def _paint(text: str, index: int) -> str:
    """Return text between the escape sequences of a color, which `index` selects."""
    return f"\x1b[{COLOR_CODES[index % len(COLOR_CODES)]}m{text}\x1b[0m" if text.strip() else text


def _extremes(curve: Values, n_intervals: int) -> tuple[Values, Values]:
    """Return the lowest and the highest value of each interval of a curve, for at most `n_intervals` intervals.

    A value that is not finite becomes NaN, which an interval ignores if it has other values.
    """
    if len(curve) <= n_intervals:
        finite = np.where(np.isfinite(curve), curve, np.nan)
        return finite, finite
    # Minimum and maximum are computed for one interval after the other: the second reads the interval from the cache.
    intervals = np.array_split(curve, n_intervals)
    lowest, highest = np.array([(part.min(), part.max()) for part in intervals], np.float64).T
    if not (np.isfinite(lowest) & np.isfinite(highest)).all():  # a long curve of finite values needs no copy
        intervals = np.array_split(np.where(np.isfinite(curve), curve, np.nan), n_intervals)
        lowest, highest = np.array([(np.fmin.reduce(part), np.fmax.reduce(part)) for part in intervals]).T
    return lowest, highest


def _draw_curve(dots: NDArray[np.bool_], lowest: Values, highest: Values) -> None:
    """Set the dots of a curve from 0 (bottom) to 1 (top); NaN leaves a gap.

    A column of dots extends from the lowest to the highest value. A curve with few values is interpolated.
    """
    height, width = dots.shape
    n = len(lowest)
    if n < width:
        lowest = highest = np.interp(np.linspace(0, n - 1, width), np.arange(n), lowest)
    top, bottom = (np.rint((height - 1) * (1 - values)) for values in (highest, lowest))
    # Connect each column with the column to its left, except at gaps: the minimum and maximum with NaN are NaN.
    above, below = np.minimum(top[1:], bottom[:-1]), np.maximum(bottom[1:], top[:-1])
    top[1:] = np.where(np.isnan(above), top[1:], above)
    bottom[1:] = np.where(np.isnan(below), bottom[1:], below)
    rows = np.arange(height)[:, None]
    dots |= (rows >= top) & (rows <= bottom)


def _characters(dots: NDArray[np.bool_]) -> list[str]:
    """Return a raster of dots (4 rows, 2 columns per character) as lines of Braille characters, or of ASCII."""
    rows, columns = dots.shape[0] // 4, dots.shape[1] // 2
    codes = np.einsum("rdck,dk->rc", dots.reshape(rows, 4, columns, 2), DOTS).tolist()
    if not can_encode(chr(BRAILLE_START)):
        return ["".join("*" if code else " " for code in row) for row in codes]
    return ["".join(chr(BRAILLE_START + code) if code else " " for code in row) for row in codes]


def plot_plane(values: Values, classes: NDArray[np.intp] | None) -> list[str]:
    """Return the outputs for points of a plane as lines of text, one character for each point.

    Parameters
    ----------
    values : array (rows, columns)
        Numbers from 0 to 1, which shades show unless `classes` is given.
    classes : int array (rows, columns), optional
        Index of the predicted class of each point.
    """
    if classes is not None:
        names = BINARY_CHARACTERS if classes.max() < 2 else CLASS_CHARACTERS
        return ["".join(names[index % len(names)] for index in row) for row in classes.tolist()]
    shades = SHADES if can_encode(SHADES) else ASCII_SHADES
    index = np.clip(values * len(shades), 0, len(shades) - 1).astype(int)
    return ["".join(shades[i] for i in row) for row in index.tolist()]
