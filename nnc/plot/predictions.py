"""What a network makes of rows, beside what is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.arrays import finite, numbers
from nnc._utils.checks import count, flag, one_of
from nnc.plot.axes import COLORS, MARKERS, axes, checked, classes, ink, known_classes, matplotlib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

KINDS = ("actual", "residuals", "calibration", "intervals")
POINTS = 2000  # rows that are drawn as dots at most
FAINT = 500  # dots, from which on they are seen through


def confusion_matrix(net: Any, X: ArrayLike, y: Any, ax: Any = None, *, normalize: bool = False) -> Any:
    """Draws how often rows of each class are taken for which one.

    Parameters
    ----------
    net : NeuralNetwork
        Of classes, one for each row.
    X : array (n, n_in)
    y : array (n,), or (n, n_out)
        As in `evaluate_loss`.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.
    normalize : bool, default False
        Whether to tell the share of each class, in place of numbers of rows.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is not one of these, or X and y do not fit the network.
    """
    names, normalize = classes(net, "confusion_matrix"), flag("normalize", normalize)
    known, predicted, _ = known_classes(net, X, y)
    n = len(names)
    table = np.bincount(known * n + predicted, minlength=n * n).reshape(n, n)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)  # a colour says how a class fares, however rare
    ax = axes(ax, (max(5.0, 0.45 * n + 2), max(4.0, 0.4 * n + 1.6)))
    shown = ax.imshow(shares, "Blues", vmin=0, vmax=1)
    if n <= 20:
        for (i, j), share in np.ndenumerate(shares):
            said = f"{share:.2f}" if normalize else f"{table[i, j]}"
            size = 10 if n <= 12 else 7
            ax.text(j, i, said, ha="center", va="center", color="white" if share > 0.5 else "black", fontsize=size)
        turn = 45 if max(len(str(name)) for name in names) > 4 else 0
        ax.set_xticks(range(n), names, rotation=turn, ha="right" if turn else "center")
        ax.set_yticks(range(n), names)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.figure.colorbar(shown, ax=ax, label="share of the true class")
    return ax


def decision_boundary(
    net: Any,
    X: ArrayLike,
    y: Any = None,
    ax: Any = None,
    *,
    features: tuple[int, int] = (0, 1),
    resolution: int = 200,
) -> Any:
    """Draws what a network predicts everywhere in the plane of two inputs, the others being held at their medians.

    Of classes, the colour is the predicted one, the denser the surer it is; of numbers, the colour is the output.

    Parameters
    ----------
    net : NeuralNetwork
        Of classes, one for each row, or with one output.
    X : array (n, n_in)
        Rows, which say what part of the plane is drawn, and are drawn as dots.
    y : array (n,), or (n, n_out), optional
        As in `evaluate_loss`: the colours of the dots.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.
    features : (int, int), default (0, 1)
        The inputs that lie across and upwards.
    resolution : int, default 200
        Points in each direction.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is not one of these, or X or y does not fit the network.
    """
    converter, n_in = checked(net).converter, net.sizes[0]
    resolution = count("resolution", resolution, 2)
    across, up = _pair(features, n_in)
    rows = converter.rows(X)
    grid = np.tile(np.median(rows, axis=0).astype(float), (resolution * resolution, 1))
    lines = [_reach(rows[:, feature], resolution) for feature in (across, up)]
    grid[:, across], grid[:, up] = (side.ravel() for side in np.meshgrid(*lines))
    extent = (lines[0][0], lines[0][-1], lines[1][0], lines[1][-1])
    P = net.model.predict(converter.inputs(grid))
    ax = axes(ax)
    if converter.loss.is_classification:
        _draw_classes(net, ax, P, resolution, extent)
    elif net.sizes[-1] != 1:
        raise ValueError(f"decision_boundary needs one output or classes, this network has {net.sizes[-1]} outputs")
    else:
        heights = converter.undo(P).reshape(resolution, resolution)
        shown = ax.contourf(*lines, heights, 20, cmap="viridis")
        ax.figure.colorbar(shown, ax=ax, label="output")
    kept = _some(len(rows))
    places = rows[kept][:, [across, up]].T
    if y is None:
        ax.scatter(*places, s=18, color="black", edgecolors="white", linewidths=0.6)
    elif converter.loss.is_classification:
        known, _, _ = known_classes(net, X, y)
        for number, name in enumerate(classes(net, "decision_boundary")):
            of_class = known[kept] == number
            style = {"color": COLORS[number % 8], "marker": MARKERS[number % 8], "edgecolors": ink()}
            ax.scatter(*places[:, of_class], s=26, linewidths=0.6, label=str(name), **style)
        ax.legend()
    else:
        targets = converter.undo(converter.data(X, y).Y)[kept, 0]
        ax.scatter(*places, s=26, c=targets, norm=shown.norm, cmap="viridis", edgecolors="white", linewidths=0.8)
    names = net.feature_names or [f"input {i}" for i in range(n_in)]
    ax.set(xlabel=names[across], ylabel=names[up], xlim=extent[:2], ylim=extent[2:])
    return ax


def _pair(features: Any, n_in: int) -> tuple[int, int]:
    try:
        across, up = (int(feature.__index__()) for feature in features)
    except (TypeError, ValueError, AttributeError):
        raise TypeError(f"features must be the numbers of two inputs, got {features!r}") from None
    if not (0 <= across < n_in and 0 <= up < n_in and across != up):
        raise ValueError(f"features must be two inputs of 0 to {n_in - 1}, got {features!r}")
    return across, up


def _reach(values: NDArray[Any], resolution: int) -> NDArray[np.float64]:
    """Numbers from a little below the least of them to a little above the largest."""
    low, high = float(values.min()), float(values.max())
    beyond = 0.08 * (high - low) or 1.0
    return np.linspace(low - beyond, high + beyond, resolution)


def _draw_classes(net: Any, ax: Any, P: NDArray[Any], resolution: int, extent: tuple[float, ...]) -> None:
    """The plane in the colours of classes, and lines between them."""
    n = len(classes(net, "decision_boundary"))
    index = net.converter.class_index(P)
    if net.loss_name == "hinge":  # whose outputs are no probabilities
        sure = np.full(len(P), 0.5)
    else:
        best = P.max(axis=1) if P.shape[1] > 1 else np.maximum(P[:, 0], 1 - P[:, 0])
        sure = (best - 1 / n) / (1 - 1 / n)
    colors = np.array([matplotlib("colors").to_rgb(color) for color in COLORS])[index % 8]
    image = np.concatenate([colors, (0.12 + 0.4 * sure)[:, None]], axis=1).reshape(resolution, resolution, 4)
    ax.imshow(image, extent=extent, origin="lower", aspect="auto", interpolation="nearest")
    lines = [np.linspace(extent[i], extent[i + 1], resolution) for i in (0, 2)]
    for number in range(n):
        inside = (index == number).reshape(resolution, resolution)
        if inside.any() and not inside.all():
            ax.contour(*lines, inside, [0.5], colors=[ink()], linewidths=0.8)


def predictions(
    net: Any,
    X: ArrayLike,
    y: Any,
    ax: Any = None,
    *,
    kind: str | None = None,
    band: Sequence[Any] | None = None,
    bins: int = 10,
) -> Any:
    """Draws predictions beside true values.

    Parameters
    ----------
    net : NeuralNetwork
    X : array (n, n_in)
    y : array (n, n_out), or (n,)
        As in `evaluate_loss`.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.
    kind : str, optional
        - "actual": predicted over true values; default for numbers;
        - "residuals": true minus predicted values, over what is predicted;
        - "calibration": how often predictions of classes are right, over how sure they are, and the expected
          calibration error: the mean of the distance between both, each bin counting as its rows (Naeini, Cooper and
          Hauskrecht, 2015); default for classes;
        - "intervals": true values, in the order of what is predicted, and a band around them.
    band : (lower, upper), with "intervals"
        Two networks, such as those of nnc.Quantile(0.05) and nnc.Quantile(0.95), or two arrays of n numbers, such as
        what `predict_interval` of an ensemble or of conformal intervals returns.
    bins : int, default 10
        Of "calibration".

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is not one of these, or X and y do not fit the network.
    """
    of_classes = checked(net).converter.loss.is_classification
    kind = one_of("kind", kind or ("calibration" if of_classes else "actual"), KINDS)
    bins = count("bins", bins)
    if (kind == "calibration") != of_classes:
        raise ValueError(f"kind must be one for {'classes' if of_classes else 'numbers'} here, got {kind!r}")
    if (kind == "intervals") != (band is not None):
        raise ValueError(f"band must be given with kind='intervals' and with no other, got {band!r} and {kind!r}")
    if kind == "calibration":
        return _calibration(net, X, y, ax, bins)
    data = net.converter.data(X, y)
    known, predicted = net.converter.undo(data.Y), net.converter.undo(net.model.predict(data.X))
    if kind == "intervals":
        assert band is not None
        return _intervals(X, known, predicted, band, ax)
    ax = axes(ax)
    errors = known - predicted
    kept = _some(len(known))
    for output in range(known.shape[1]):
        x, height = (known, predicted) if kind == "actual" else (predicted, errors)
        style = {"color": COLORS[output % 8], "marker": MARKERS[output % 8], "alpha": _alpha(kept)}
        label = f"output {output}" if known.shape[1] > 1 else None
        ax.scatter(x[kept, output], height[kept, output], s=16, linewidths=0, label=label, **style)
    said = f"root mean squared error {np.sqrt((errors**2).mean()):.4g}"
    if kind == "actual":
        ends = [min(known.min(), predicted.min()), max(known.max(), predicted.max())]
        ax.plot(ends, ends, color="gray", linestyle="--", linewidth=1, label="predicted = true")
        ax.set(xlabel="true value", ylabel="predicted value")
    else:
        ax.axhline(0, color="gray", linestyle="--", linewidth=1)
        ax.set(xlabel="predicted value", ylabel="residual, true - predicted")
    ax.set_title(said)
    if ax.get_legend_handles_labels()[0]:
        ax.legend()
    return ax


def _some(n: int) -> NDArray[np.intp]:
    """Rows to be drawn as dots: all, or as many as can be told apart, evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, POINTS)).astype(np.intp))


def _alpha(kept: NDArray[Any]) -> float:
    return 0.8 if len(kept) <= FAINT else 0.35


def _calibration(net: Any, X: Any, y: Any, ax: Any, bins: int) -> Any:
    """How often a class is the right one, over how probable the network takes it to be."""
    names = classes(net, "predictions of kind 'calibration'")
    net.converter.check_probabilities()
    known, predicted, P = known_classes(net, X, y)
    if P.shape[1] == 1:
        sure, right, what = P[:, 0], known == 1, f"predicted probability of {names[1]}"
    else:
        sure, right, what = P.max(axis=1), known == predicted, "probability of the predicted class, mean of a bin"
    place = np.minimum((sure * bins).astype(int), bins - 1)
    rows = np.bincount(place, minlength=bins)
    filled = rows > 0
    means, shares = (np.bincount(place, part, bins)[filled] / rows[filled] for part in (sure, right))
    error = float((abs(means - shares) * rows[filled]).sum() / len(sure))
    ax = axes(ax)
    ax.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1, label="perfectly calibrated")
    ax.plot(means, shares, "o-", color=COLORS[0], label=f"network (expected calibration error {error:.3f})")
    centers = (np.arange(bins) + 0.5) / bins
    ax.bar(centers, rows / len(sure), 1 / bins, color=COLORS[0], alpha=0.2, label="share of the rows")
    ylabel = "accuracy" if P.shape[1] > 1 else f"share of {names[1]}"
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=what, ylabel=ylabel)
    ax.legend()
    return ax


def _intervals(X: Any, known: NDArray[Any], predicted: NDArray[Any], band: Any, ax: Any) -> Any:
    """Rows in the order of their predictions, and the band that should hold them."""
    n = len(known)
    if known.shape[1] != 1:
        raise ValueError(f"intervals are of one output, this network has {known.shape[1]}")
    if not isinstance(band, (tuple, list)) or len(band) != 2:
        raise TypeError(f"band must be (lower, upper), two networks or two arrays, got {type(band).__name__}")
    ends = [part.predict(X) if hasattr(part, "converter") else numbers("band", part) for part in band]
    low, high = (finite("band", np.reshape(end, -1), (n,), np.dtype(float)) for end in ends)
    order = np.argsort(predicted[:, 0], kind="stable")
    held = float(((low <= known[:, 0]) & (known[:, 0] <= high)).mean())
    places = np.arange(1, n + 1)
    ax = axes(ax)
    label = f"band, which holds {held:.0%} of the rows"
    ax.fill_between(places, low[order], high[order], color=COLORS[4], alpha=0.35, linewidth=0, label=label)
    ax.plot(places, predicted[order, 0], color=COLORS[0], label="predicted")
    kept = _some(n)
    ax.scatter(places[kept], known[order, 0][kept], s=12, color=ink(), alpha=_alpha(kept), linewidths=0, label="true")
    ax.set(xlabel="rows, sorted by the predicted value", ylabel="value")
    ax.legend()
    return ax
