"""Plot of a running training in notebooks and terminals, which is redrawn at most twice a second."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import import_module
from itertools import zip_longest
from math import sqrt
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._data.targets import as_label_array
from nnc._drawing import braille, charts, curves
from nnc._drawing.html import displays_html
from nnc._utils.containers import as_array
from nnc.plot.axes import predict_indices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from nnc._training.callbacks import Record

    Panels = Sequence[Mapping[str, NDArray[np.float64]]]

MIN_SECONDS = 0.5  # minimum seconds between two drawings
MAX_TIME_FRACTION = 0.005  # maximum fraction of the time that drawing takes; slow drawings are less frequent
PANEL_LINES = 8  # height of a panel in a terminal, in lines
MAX_COLUMNS = 100  # maximum width of a plot in a terminal, in characters
MAX_PLANE_SIDE, MIN_PLANE_SIDE = 64, 12  # limits of the number of points along each side of a decision boundary
PLANE_COLUMNS, PLANE_LINES = 36, 16  # size of a decision boundary in a terminal, in characters
MAX_PLANE_MULTIPLY_ADDS = 4_000_000  # limit of the work for the outputs of a decision boundary
MAX_POINTS = 200  # maximum number of rows that are drawn as points
MARGIN = 0.08  # margin around the rows, as a fraction of their range
OPACITY = 90, 130  # opacity of uncertain outputs, and its increase for certain outputs; 255 is opaque


class Plane(NamedTuple):
    """Outputs of a network for the points of a grid.

    Attributes
    ----------
    strength : array (height, width)
        Numbers from 0 to 1: the probability of the predicted class, or the output of a regression network.
    classes : int array (height, width) or None
        Index of the predicted class; None for regression.
    x_limits, y_limits : (float, float)
        Ranges of the two inputs; the first row of the arrays has the largest second input.
    points : array (n, 2)
        Rows that are drawn as points.
    labels : int array (n,) or None
        Index of the class of each point.
    """

    strength: NDArray[np.float64]
    classes: NDArray[np.intp] | None
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    points: NDArray[np.float64]
    labels: NDArray[np.intp] | None


class LivePlot:
    """Callback that plots losses, validation and metrics while the network trains.

    The plot is redrawn at most twice a second, and less often if drawing takes more than 0.5 % of the time. Plotting
    does not change the result of the training. In notebooks (Jupyter, VS Code) the plot is an SVG drawing that is
    updated in place. In a terminal the plot consists of lines of text. If the standard error is a file or a pipe, only
    the last plot is written. For networks with two inputs, the decision boundary is drawn next to the curves.

    Parameters
    ----------
    X : array (n, 2), optional
        Rows whose range the decision boundary covers. `fit(progress="plot")` passes the training rows.
    y : array (n,) or (n, n_out), optional
        Targets of these rows as in `fit`, which determine the colors of the points.

    Raises
    ------
    ValueError
        X is given, but does not have two columns of numbers.

    Examples
    --------
    >>> net.fit(X, y, epochs=1000, progress="plot")
    >>> net.fit_batches(batches, epochs=10, callback=nnc.LivePlot())
    """

    seconds: float = MIN_SECONDS

    def __init__(self, X: ArrayLike | None = None, y: ArrayLike | None = None) -> None:
        self._rows: NDArray[np.float64] | None = None
        self._targets: NDArray[Any] | None = None
        self._network: Any = None
        self._shown = ""  # title of the last plot
        self._display = Display()
        if X is not None and not self.show_rows(X, y):
            raise ValueError("X must have two columns of numbers for a decision boundary; omit X to plot only curves")

    def show_rows(self, X: ArrayLike, y: ArrayLike | None) -> bool:
        """Use rows for the decision boundary; return False if they do not have two columns of numbers."""
        rows = as_array("X", X)
        if rows.ndim != 2 or rows.shape[1] != 2 or not len(rows) or rows.dtype.kind not in "biuf":
            return False
        index = np.linspace(0, len(rows) - 1, min(len(rows), MAX_POINTS)).astype(int)
        self._rows = rows[index].astype(np.float64)
        self._targets = None if y is None else as_label_array(y)[index]
        return True

    def open(self) -> None:
        """Start a new plot."""
        self._display, self._shown = Display(), ""

    def __call__(self, record: Record) -> None:
        self._network = record.network
        if self._display.is_due():
            self._show()

    def close(self) -> None:
        """Draw the last state, which remains visible."""
        if self._network is not None:
            self._show(is_last=True)
            self._network = None

    def _show(self, is_last: bool = False) -> None:
        """Draw the losses and the metrics so far; `is_last` also writes them to a file or pipe."""
        start, state = perf_counter(), self._network.state
        parts = state.history_parts()
        # Do not copy a history that has a single part: a small network could train many epochs in the time of the copy.
        history = parts[0] if len(parts) == 1 else state.history
        columns = {name: history[name] for name in history if name not in ("lr", "epoch_seconds")}
        title = f"epoch {max(state.epoch, history.epochs):,}"
        if title == self._shown and self._display.is_live:
            return
        self._shown = title
        self._display.show(curves.group_panels(columns), title, self._plane(), is_last, start)

    def _plane(self) -> Plane | None:
        """Return the outputs in the plane of the two inputs; None without rows."""
        network, rows = self._network, self._rows
        if rows is None or network.sizes[0] != 2:
            return None
        side = int(sqrt(MAX_PLANE_MULTIPLY_ADDS / network.n_params))
        side = min(MAX_PLANE_SIDE, max(MIN_PLANE_SIDE, side))
        width, height = (side, side) if self._display.is_notebook else (PLANE_COLUMNS, PLANE_LINES)
        low, high = rows.min(axis=0), rows.max(axis=0)
        margin = np.where(high > low, MARGIN * (high - low), 1.0)
        low, high = low - margin, high + margin
        grid = np.meshgrid(np.linspace(low[0], high[0], width), np.linspace(high[1], low[1], height))
        converter = network.converter
        P = network.model.predict(converter.input_data(np.stack(grid, axis=-1).reshape(-1, 2)))
        classes = labels = None
        if converter.loss.is_classification and converter.class_steps == 1:
            classes = np.asarray(converter.class_index(P)).reshape(height, width)
            strength = P.max(axis=1) if P.shape[1] > 1 else np.maximum(P[:, 0], 1 - P[:, 0])
            if self._targets is not None:
                labels = predict_indices(network, rows, self._targets)[0]
        else:
            outputs = P[:, 0].astype(np.float64)
            strength = (outputs - outputs.min()) / ((outputs.max() - outputs.min()) or 1.0)
        x_limits, y_limits = ((float(low[i]), float(high[i])) for i in range(2))
        strength = np.asarray(strength, np.float64).reshape(height, width)
        return Plane(strength, classes, x_limits, y_limits, rows, labels)

    def __repr__(self) -> str:
        return "LivePlot()"


class Display:
    """Output of a plot that is redrawn: a cell of a notebook, or the standard error.

    Attributes
    ----------
    is_notebook : bool
        Whether the plot is shown by a notebook.
    is_terminal : bool
        Whether the standard error is a terminal, in which a plot can replace the previous one.
    """

    def __init__(self) -> None:
        self.is_notebook = displays_html()
        self.is_terminal = not self.is_notebook and sys.stderr.isatty()
        self._next_time = 0.0  # earliest time of the next drawing, by `perf_counter`
        self._handle: Any = None  # display of IPython, which updates the output of the cell
        self._n_lines = 0  # number of lines of the plot in the terminal

    @property
    def is_live(self) -> bool:
        """Return whether plots can be replaced by later ones."""
        return self.is_notebook or self.is_terminal

    def is_due(self) -> bool:
        """Return whether the plot can be redrawn and enough time has passed since the last drawing."""
        return self.is_live and perf_counter() >= self._next_time

    def show(
        self, panels: Panels, title: str, plane: Plane | None = None, is_last: bool = False, start: float | None = None
    ) -> None:
        """Draw a plot in place of the previous one.

        Parameters
        ----------
        panels : sequence of mappings of str to array (epochs,)
            Curves of each panel, by name.
        title : str
            Line above the curves.
        plane : Plane, optional
            Decision boundary.
        is_last : bool
            Whether this is the last plot, which is also written to a file or pipe.
        start : float, optional
            Start of the work for this plot, by `perf_counter`. Default: now.
        """
        start = perf_counter() if start is None else start
        panels = [panel for panel in panels if all(len(curve) for curve in panel.values())]
        if not panels:
            return
        if self.is_notebook:
            self._show_html(_build_html(panels, title, plane))
        elif self.is_terminal or is_last:
            self._show_lines([title, *_build_lines(panels, plane, self.is_terminal and "NO_COLOR" not in os.environ)])
        now = perf_counter()
        self._next_time = now + max(MIN_SECONDS, (now - start) / MAX_TIME_FRACTION)

    def _show_html(self, content: str) -> None:
        """Show HTML in the output of the cell of the notebook."""
        ipython: Any = import_module("IPython.display")
        if self._handle is None:
            self._handle = ipython.display(ipython.HTML(content), display_id=True)
        else:
            self._handle.update(ipython.HTML(content))

    def _show_lines(self, lines: Sequence[str]) -> None:
        """Write lines to the standard error, in place of the lines of the previous plot."""
        start = f"\x1b[{self._n_lines}A\x1b[J" if self._n_lines else ""
        sys.stderr.write(start + "\n".join(lines) + "\n")
        sys.stderr.flush()
        self._n_lines = len(lines) if self.is_terminal else 0


def _build_html(panels: Panels, title: str, plane: Plane | None) -> str:
    """Return the plot as HTML: SVG drawings side by side."""
    drawings = [curves.draw(panels, None, "Training", title)]
    if plane is not None:
        drawings.append(_draw_plane(plane))
    pictures = "".join(f"<div>{drawing._repr_html_()}</div>" for drawing in drawings)
    return f'<div>{title}</div><div style="display:flex;flex-wrap:wrap;gap:1em">{pictures}</div>'


def _draw_plane(plane: Plane) -> Any:
    """Return the decision boundary as a drawing."""
    classes = plane.classes if plane.classes is not None else (plane.strength < 0.5).astype(np.intp)
    certainty = plane.strength if plane.classes is not None else np.abs(2 * plane.strength - 1)
    palette = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in curves.COLORS], np.uint8)
    opacity = OPACITY[0] + OPACITY[1] * np.clip(certainty, 0, 1)
    image = np.dstack([palette[classes % len(palette)], opacity.astype(np.uint8)])
    labels = [] if plane.labels is None else plane.labels.tolist()
    colors = [curves.COLORS[label % len(curves.COLORS)] for label in labels] or ["none"] * len(plane.points)
    return charts.draw_plane(image, plane.x_limits, plane.y_limits, plane.points, colors)


def _build_lines(panels: Panels, plane: Plane | None, colors: bool) -> list[str]:
    """Return the plot as lines of text: panels one below the other, and the decision boundary to their left."""
    width = min(MAX_COLUMNS, shutil.get_terminal_size().columns - 1)
    shown = plane is not None and width >= 2 * PLANE_COLUMNS
    width -= (PLANE_COLUMNS + 2) * shown
    lines = [line for panel in panels[:2] for line in braille.plot_curves(panel, width, PANEL_LINES, colors)]
    if plane is None or not shown:
        return lines
    pairs = zip_longest(braille.plot_plane(plane.strength, plane.classes), lines, fillvalue="")
    return [f"{row:{PLANE_COLUMNS}}  {line}".rstrip() for row, line in pairs]
