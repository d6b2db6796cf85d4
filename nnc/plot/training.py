"""Plots of training: loss history and learning curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.splits import split
from nnc._drawing.curves import Scale, group_panels
from nnc._utils.checks import check_fraction
from nnc._utils.containers import as_array
from nnc.plot.axes import axes, check_network, matplotlib, set_integer_ticks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

MAX_MARKED_EPOCHS = 30  # curves with at most this many epochs have a marker for each epoch
LINE_STYLES = ("-", "--", "-.", ":")  # line styles distinguish the curves without colors


def history(history: Any, ax: Axes | None = None) -> Axes:
    """Draw losses and metrics over the epochs, and mark the best epoch.

    Metrics have a separate axis at the right. The axis of the losses is logarithmic if their range is large. A new
    figure has a second panel for the learning rate if it changes.

    Parameters
    ----------
    history : History
    ax : matplotlib.axes.Axes, optional
        Axes to draw into. Default: the Axes of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Axes of the losses; `matplotlib.pyplot.savefig("history.png")` writes the new figure to a file.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    TypeError
        `history` or `ax` has another type.
    """
    if not hasattr(history, "best_epoch"):
        raise TypeError(f"history must be the History that fit returns, got {type(history).__name__}")
    panels = group_panels(dict(history))
    learning_rates = panels.pop()["lr"] if "lr" in panels[-1] else None
    rate_ax = None
    if ax is None and learning_rates is not None:
        figure = matplotlib("pyplot").figure(layout="constrained")
        ax, rate_ax = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    ax = axes(ax)
    losses, metrics = panels[0], panels[1] if len(panels) > 1 else {}
    lines = _draw_curves(ax, losses, 0)
    if Scale.from_values(np.concatenate([*losses.values()])).is_log:
        ax.set_yscale("log")
    if metrics:
        metric_ax = ax.twinx()
        lines += _draw_curves(metric_ax, metrics, len(losses))  # metrics use the colors after those of the losses
        metric_ax.set_ylabel(", ".join(metrics))
        ax.set_zorder(metric_ax.get_zorder() + 1)  # draw the legend above the metrics
        ax.patch.set_visible(False)
    if history.best_epoch is not None:
        label = f"best epoch, {history.best_epoch}"
        lines.append(ax.axvline(history.best_epoch, color="gray", linestyle=":", label=label))
    ax.set_ylabel("loss")
    # Make the legend translucent if there are metrics, because their curves may run below it.
    ax.legend(handles=lines, loc="center right" if metrics else "best", framealpha=0.5 if metrics else None)
    bottom_ax = ax if rate_ax is None else rate_ax
    if rate_ax is not None:
        _draw_curves(rate_ax, {"lr": learning_rates}, 0)
        rate_ax.set_ylabel("learning rate")
    bottom_ax.set_xlabel("epoch")
    set_integer_ticks(bottom_ax.xaxis)
    return ax


def _draw_curves(ax: Axes, columns: Mapping[str, Any], first_color: int) -> list[Any]:
    """Draw columns of a history over the epochs and return the lines; the colors start at index `first_color`."""
    return [
        ax.plot(
            range(1, len(column) + 1),
            column,
            color=f"C{i}",
            linestyle=LINE_STYLES[i % 4],
            marker="." if len(column) <= MAX_MARKED_EPOCHS else "",
            label=name,
        )[0]
        for i, (name, column) in enumerate(columns.items(), first_color)
    ]


def learning_curve(
    net: Any,
    X: ArrayLike,
    y: Any,
    ax: Axes | None = None,
    *,
    sizes: Sequence[float] = (0.1, 0.2, 0.4, 0.7, 1.0),
    validation: float = 0.2,
    seed: int = 0,
    **options: Any,
) -> Axes:
    """Draw the score of a network over the number of training rows, which shows whether more rows would help.

    Copies of the network are trained on increasing parts of the rows. Each copy is scored on its training rows and on
    validation rows. The network itself does not change.

    Parameters
    ----------
    net : NeuralNetwork
        Network to copy.
    X : array (n, n_in)
        Rows as in `fit`.
    y : array (n, n_out), or (n,)
        Targets as in `fit`.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into. Default: the Axes of a new figure.
    sizes : sequence of float, default (0.1, 0.2, 0.4, 0.7, 1.0)
        Fractions of the training rows.
    validation : float, default 0.2
        Fraction of all rows that is used for validation.
    seed : int, default 0
        Seed of the split, which is stratified by class.
    **options
        Arguments of `fit`, such as epochs=100, optimizer="adam".

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is invalid, or `fit` rejects one of the options.
    DivergedError
        The training of a copy diverged.
    """
    array, targets = as_array("X", X), as_array("y", y)
    if array.ndim == 0 or targets.ndim == 0 or len(array) != len(targets):
        raise ValueError(f"y must have one row for each row of X, got shapes {targets.shape} and {array.shape}")
    labels = targets if check_network(net).converter.loss.is_classification and targets.ndim == 1 else None
    train, held_out = split(len(array), check_fraction("validation", validation), seed, labels, "validation")
    train_labels = None if labels is None else labels[train]
    counts, scores = [], []
    for size in sorted(map(float, sizes)):
        if not 0 < size <= 1:
            raise ValueError(f"sizes must be fractions of the rows, positive and at most 1, got {size:g}")
        rows = train if size == 1 else train[split(len(train), size, seed, train_labels, "sizes")[1]]
        trained = net.copy()
        trained.fit(array[rows], targets[rows], **options)
        counts.append(len(rows))
        scores.append([trained.score(array[index], targets[index]) for index in (rows, held_out)])
    if not counts:
        raise ValueError("sizes must contain at least one fraction of the rows, got none")
    ax = axes(ax)
    for i, (label, style) in enumerate((("training", "o-"), (f"validation, {len(held_out)} rows", "s--"))):
        ax.plot(counts, [pair[i] for pair in scores], style, color=f"C{i}", label=label)
    ax.set(xlabel="training rows", ylabel="accuracy" if net.converter.loss.is_classification else "R²")
    ax.set_xlim(left=0)
    set_integer_ticks(ax.xaxis)
    ax.legend()
    return ax
