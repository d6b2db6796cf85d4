"""How a training went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.splits import split
from nnc._drawing.curves import Scale, group_panels
from nnc._utils.checks import fraction
from nnc._utils.containers import as_array
from nnc.plot.axes import axes, checked, matplotlib, whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

FEW = 30  # epochs: each is a dot, too
STYLES = ("-", "--", "-.", ":")  # so that nobody needs the colours; the last is that of the best epoch, too


def history(history: Any, ax: Any = None) -> Any:
    """Draws the losses over the epochs, the best epoch marked, and metrics on an axis of their own at the right.

    In a new figure, a learning rate that changes has a panel of its own below. A loss of several magnitudes has a
    logarithmic axis.

    Parameters
    ----------
    history : History
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Of the losses; `ax.figure.savefig("history.png")` writes it to a file.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    TypeError
        `history` or `ax` is something else.
    """
    if not hasattr(history, "best_epoch"):
        raise TypeError(f"history must be a History, as fit returns it, got {type(history).__name__}")
    parts = group_panels(dict(history))
    rate = parts.pop()["lr"] if "lr" in parts[-1] else None
    below = None
    if ax is None and rate is not None:
        figure = matplotlib("pyplot").figure(layout="constrained")
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    ax = axes(ax)
    losses, metrics = parts[0], parts[1] if len(parts) > 1 else {}
    lines = _curves(ax, losses, 0)
    if Scale.from_values(np.concatenate([*losses.values()])).is_log:
        ax.set_yscale("log")
    if metrics:
        right = ax.twinx()
        lines += _curves(right, metrics, len(losses))  # goes on with the colours of the losses
        right.set_ylabel(", ".join(metrics))
        ax.set_zorder(right.get_zorder() + 1)  # with the legend
        ax.patch.set_visible(False)
    if history.best_epoch is not None:
        label = f"best epoch, {history.best_epoch}"
        lines.append(ax.axvline(history.best_epoch, color="gray", linestyle=":", label=label))
    ax.set_ylabel("loss")
    ax.legend(handles=lines, loc="center right" if metrics else "best")
    lowest = ax if below is None else below
    if below is not None:
        _curves(below, {"lr": rate}, 0)
        below.set_ylabel("learning rate")
    lowest.set_xlabel("epoch")
    whole(lowest.xaxis)
    return ax


def _curves(ax: Any, columns: Mapping[str, Any], first: int) -> list[Any]:
    """Lines over the epochs, with the colours from the one of number `first` on."""
    return [
        ax.plot(
            range(1, len(column) + 1),
            column,
            color=f"C{number}",
            linestyle=STYLES[number % 4],
            marker="." if len(column) <= FEW else "",
            label=name,
        )[0]
        for number, (name, column) in enumerate(columns.items(), first)
    ]


def learning_curve(
    net: Any,
    X: ArrayLike,
    y: Any,
    ax: Any = None,
    *,
    sizes: Sequence[float] = (0.1, 0.2, 0.4, 0.7, 1.0),
    validation: float = 0.2,
    seed: int = 0,
    **options: Any,
) -> Any:
    """Draws how good a network gets with how many rows: whether more of them would help.

    Copies of the network are trained on more and more of the rows, and scored on those and on rows that are kept apart.
    The network stays as it is.

    Parameters
    ----------
    net : NeuralNetwork
        What the copies begin as.
    X : array (n, n_in)
    y : array (n, n_out), or (n,)
        As in `fit`.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.
    sizes : sequence of float, default (0.1, 0.2, 0.4, 0.7, 1.0)
        Shares of the training rows.
    validation : float, default 0.2
        The share of all rows that is kept apart.
    seed : int, default 0
        Of the split. Classes have the same share everywhere.
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
        An argument is not one of these, or `fit` refuses one of its own.
    DivergedError
        A training diverged.
    """
    array, targets = as_array("X", X), as_array("y", y)
    if array.ndim == 0 or targets.ndim == 0 or len(array) != len(targets):
        raise ValueError(f"y must have one row for each row of X, got shapes {targets.shape} and {array.shape}")
    labels = targets if checked(net).converter.loss.is_classification and targets.ndim == 1 else None
    train, apart = split(len(array), fraction("validation", validation), seed, labels, "validation")
    counts, scores = [], []
    for share in sorted(map(float, sizes)):
        if not 0 < share <= 1:
            raise ValueError(f"sizes must be shares of the rows, above 0 and 1 at most, got {share:g}")
        rows = train if share == 1 else train[_part(len(train), share, seed, None if labels is None else labels[train])]
        trained = net.copy()
        trained.fit(array[rows], targets[rows], **options)
        counts.append(len(rows))
        scores.append([trained.score(array[some], targets[some]) for some in (rows, apart)])
    if not counts:
        raise ValueError("sizes must have a share of the rows at least, got none")
    ax = axes(ax)
    for place, (label, style) in enumerate((("training", "o-"), (f"validation, {len(apart)} rows", "s--"))):
        ax.plot(counts, [pair[place] for pair in scores], style, color=f"C{place}", label=label)
    ax.set(xlabel="training rows", ylabel="accuracy" if net.converter.loss.is_classification else "R²")
    ax.set_xlim(left=0)
    whole(ax.xaxis)
    ax.legend()
    return ax


def _part(n: int, share: float, seed: int, labels: NDArray[Any] | None) -> NDArray[np.intp]:
    return split(n, share, seed, labels, "sizes")[1]
