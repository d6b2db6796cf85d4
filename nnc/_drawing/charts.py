"""Charts of reports as SVG drawings: confusion matrix, calibration, predicted against true values, bars with errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnc._drawing.curves import FONT_SIZE, Frame, Scale, draw_line
from nnc._drawing.svg import (
    NEGATIVE,
    POSITIVE,
    Drawing,
    element,
    format_number,
    image_data_uri,
    shorten,
    sign_color,
    text,
    text_width,
    titled_element,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Values = NDArray[np.float64]

# Sizes of the drawing in pixels.
SIDE = 300.0  # width and height of a square plot area
LEFT_MARGIN, TOP_MARGIN, BOTTOM_MARGIN, RIGHT_MARGIN = 64.0, 14.0, 44.0, 16.0
MIN_CELL, MAX_CELL = 24.0, 46.0  # limits of the side of a cell of a confusion matrix
MATRIX_SIZE = 480.0  # intended side of a confusion matrix
BAR_PITCH, BAR_HEIGHT, BAR_LENGTH = 22.0, 12.0, 300.0
MAX_LABEL_LENGTH = 24  # maximum number of characters of a label
MAX_OPACITY = 0.75  # opacity of the strongest color, on which black and white text are readable
MAX_POINT_RADIUS, MIN_POINT_RADIUS = 7.0, 2.5


def draw_confusion(counts: NDArray[np.int64], labels: Sequence[str]) -> Drawing:
    """Draw a confusion matrix; the opacity of a cell is its fraction of the rows of the true class.

    Parameters
    ----------
    counts : int array (classes, classes)
        Number of rows of each true class (row) and predicted class (column).
    labels : sequence of str
        Names of the classes.
    """
    n, names = len(labels), [shorten(label, MAX_LABEL_LENGTH) for label in labels]
    cell = min(MAX_CELL, max(MIN_CELL, MATRIX_SIZE / n))
    label_width = max(text_width(name, FONT_SIZE) for name in names)
    is_rotated = label_width > cell - 2
    left, top = label_width + 30, (label_width * 0.75 + 12 if is_rotated else 16.0) + 20
    parts = [text(left + n * cell / 2, 12, "predicted class", text_anchor="middle", font_size=FONT_SIZE)]
    middle = top + n * cell / 2
    parts.append(
        text(12, middle, "true class", text_anchor="middle", font_size=FONT_SIZE, transform=f"rotate(-90 12 {middle})")
    )
    totals = counts.sum(axis=1)
    for i, name in enumerate(names):
        parts.append(text(left - 6, top + (i + 0.5) * cell + 3.5, name, text_anchor="end", font_size=FONT_SIZE))
        x, y = left + (i + 0.5) * cell, top - 6
        style = {"transform": f"rotate(-45 {x:.1f} {y:.1f})"} if is_rotated else {"text_anchor": "middle"}
        parts.append(text(x, y, name, font_size=FONT_SIZE, **style))
        for j, count in enumerate(counts[i].tolist()):
            fraction = count / max(int(totals[i]), 1)
            title = f"true {labels[i]}, predicted {labels[j]}: {count:,} of {totals[i]:,} rows ({100 * fraction:.1f} %)"
            fill, opacity = POSITIVE if i == j else NEGATIVE, format_number(MAX_OPACITY * fraction, 3)
            x, y = left + j * cell, top + i * cell
            size, border = {"width": cell, "height": cell}, {"stroke": "currentColor", "stroke_opacity": 0.25}
            parts.append(titled_element(title, "rect", x=x, y=y, **size, fill=fill, fill_opacity=opacity, **border))
            if count:
                number = f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"
                font = min(FONT_SIZE + 2, 1.6 * cell / (len(number) + 1))
                style = {"text_anchor": "middle", "font_size": format_number(font)}
                parts.append(text(x + cell / 2, y + cell / 2 + 0.35 * font, number, **style))
    right = label_width * 0.75 if is_rotated else 8.0
    correct = int(np.trace(counts))
    description = f"{correct:,} of {int(totals.sum()):,} rows are on the diagonal, which counts correct predictions."
    return Drawing("Confusion matrix", description, left + n * cell + right, top + n * cell + 8, parts)


def draw_calibration(groups: Values, x_label: str, y_label: str, limits: tuple[float, float] | None = None) -> Drawing:
    """Draw the mean true value of groups of rows over their mean prediction, with the diagonal of perfect calibration.

    Parameters
    ----------
    groups : array (groups, 3)
        Number of rows, mean prediction and mean true value of each group. The area of a point is proportional to the
        number of rows.
    x_label, y_label : str
        Names of the axes.
    limits : (float, float), optional
        Range of both axes. Default: the range of the values.
    """
    counts, predicted, true = groups.T
    scale = Scale.from_values(groups[:, 1:]) if limits is None else Scale(*limits, False)
    frame = _square_frame(scale._replace(is_log=False))
    parts = [*frame.draw(x_label, y_label), _draw_diagonal(frame)]
    radii = np.maximum(MIN_POINT_RADIUS, MAX_POINT_RADIUS * np.sqrt(counts / max(counts.max(), 1)))
    xs, ys = frame.x(predicted), frame.y(true)
    points = " ".join(f"{format_number(x)},{format_number(y)}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True))
    parts.append(element("polyline", points=points, fill="none", stroke=POSITIVE, stroke_opacity=0.6))
    for x, y, radius, row in zip(xs.tolist(), ys.tolist(), radii.tolist(), groups.tolist(), strict=True):
        title = f"{row[0]:,.0f} rows: mean prediction {row[1]:.4g}, mean true value {row[2]:.4g}"
        parts.append(titled_element(title, "circle", cx=x, cy=y, r=radius, fill=POSITIVE, fill_opacity=0.85))
    description = "Points on the diagonal are calibrated: the mean prediction equals the mean true value."
    return Drawing("Calibration", description, *_square_size(), parts)


def draw_density(counts: NDArray[np.int64], limits: tuple[float, float], x_label: str, y_label: str) -> Drawing:
    """Draw how often pairs of a true and a predicted value fall into the cells of a square grid.

    Parameters
    ----------
    counts : int array (cells, cells)
        Number of rows for each interval of the true value (first index) and of the prediction (second index).
    limits : (float, float)
        Range of both axes, which is divided into equal intervals.
    x_label, y_label : str
        Names of the axes of true and predicted values.
    """
    frame, n = _square_frame(Scale(*limits, False)), len(counts)
    parts = list(frame.draw(x_label, y_label))
    cell, largest = SIDE / n, max(int(counts.max()), 1)
    for i, j in np.argwhere(counts).tolist():
        opacity = format_number(0.25 + 0.75 * np.log1p(counts[i, j]) / np.log1p(largest), 2)
        x, y = frame.left + i * cell, frame.top + SIDE - (j + 1) * cell
        size = {"x": x, "y": y, "width": cell, "height": cell}
        parts.append(titled_element(f"rows: {counts[i, j]:,}", "rect", **size, fill=POSITIVE, fill_opacity=opacity))
    parts.append(_draw_diagonal(frame))
    description = f"{int(counts.sum()):,} rows; predictions on the diagonal equal the true values."
    return Drawing("Predicted against true values", description, *_square_size(), parts)


def draw_bars(names: Sequence[str], values: Values, errors: Values, label: str) -> Drawing:
    """Draw horizontal bars, each with a whisker from value - error to value + error.

    Parameters
    ----------
    names : sequence of str
        Names of the bars.
    values, errors : arrays (bars,)
        Lengths of the bars and half-lengths of the whiskers. A NaN error has no whisker.
    label : str
        Name of the axis.
    """
    shown = [shorten(name, MAX_LABEL_LENGTH) for name in names]
    left = max(text_width(name, FONT_SIZE) for name in shown) + 14
    errors = np.where(np.isfinite(errors), errors, 0)
    ends = np.concatenate([[0.0], values - errors, values + errors])
    low, high = float(ends.min()), float(ends.max())
    height = BAR_PITCH * len(names)
    scale = Scale(low, high if high > low else low + 1, False)
    frame = Frame(left, 8.0, BAR_LENGTH, height, scale, Scale(0.0, 1.0, False))
    parts = list(frame.draw_x_axis(label))
    zero = float(frame.x(np.zeros(1))[0])
    for i, (name, value, error) in enumerate(zip(shown, values.tolist(), errors.tolist(), strict=True)):
        middle = frame.top + (i + 0.5) * BAR_PITCH
        start, x, end = frame.x(np.array([value - error, value, value + error])).tolist()
        title = f"{names[i]}: {value:.4g}, from {value - error:.4g} to {value + error:.4g}"
        y, width = middle - BAR_HEIGHT / 2, abs(x - zero)
        style = {"fill": sign_color(value), "fill_opacity": MAX_OPACITY}
        parts.append(
            titled_element(title, "rect", x=min(x, zero), y=y, width=max(width, 0.5), height=BAR_HEIGHT, **style)
        )
        parts.append(draw_line(start, middle, end, middle, 0.9))
        parts += [draw_line(position, middle - 3.5, position, middle + 3.5, 0.9) for position in (start, end)]
        parts.append(text(left - 8, middle + 3.5, name, text_anchor="end", font_size=FONT_SIZE))
    parts.append(draw_line(zero, frame.top, zero, frame.top + height, 0.6))
    described = ", ".join(f"{name} {value:.4g}" for name, value in zip(shown, values.tolist(), strict=True))
    return Drawing(label, described, left + BAR_LENGTH + RIGHT_MARGIN, frame.top + height + BOTTOM_MARGIN, parts)


def draw_plane(
    image: NDArray[np.uint8],
    x_limits: tuple[float, float],
    y_limits: tuple[float, float],
    points: Values,
    colors: Sequence[str],
) -> Drawing:
    """Draw outputs for the points of a plane, such as a decision boundary.

    Parameters
    ----------
    image : uint8 array (height, width, 4)
        Red, green, blue and opacity of each pixel; the first row is at the top.
    x_limits, y_limits : (float, float)
        Ranges of the two inputs.
    points : array (n, 2)
        Rows that are drawn as circles.
    colors : sequence of str
        Color of each row.
    """
    frame = Frame(LEFT_MARGIN, TOP_MARGIN, SIDE, SIDE, Scale(*x_limits, False), Scale(*y_limits, False))
    size = {"x": frame.left, "y": frame.top, "width": SIDE, "height": SIDE}
    parts = [element("image", href=image_data_uri(image), preserveAspectRatio="none", **size)]
    parts += frame.draw("input 1", "input 2")
    xs, ys = frame.x(points[:, 0]).tolist(), frame.y(points[:, 1]).tolist()
    for x, y, color in zip(xs, ys, colors, strict=True):
        parts.append(element("circle", cx=x, cy=y, r=3.0, fill=color, stroke="currentColor", stroke_width=0.7))
    return Drawing("Decision boundary", "Outputs of the network for two inputs.", *_square_size(), parts)


def _square_frame(scale: Scale) -> Frame:
    """Return a square plot area whose axes have the same scale."""
    return Frame(LEFT_MARGIN, TOP_MARGIN, SIDE, SIDE, scale, scale)


def _square_size() -> tuple[float, float]:
    """Return the width and the height of a drawing that has the frame of `_square_frame`."""
    return LEFT_MARGIN + SIDE + RIGHT_MARGIN, TOP_MARGIN + SIDE + BOTTOM_MARGIN


def _draw_diagonal(frame: Frame) -> str:
    """Return the dashed diagonal of a square frame, on which predictions equal true values."""
    return draw_line(frame.left, frame.top + frame.height, frame.left + frame.width, frame.top, 0.7, "5 4")
