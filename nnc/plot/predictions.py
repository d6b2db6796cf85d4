"""Plots that compare the predictions of a network with true classes and values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.arrays import as_finite_array, as_real_array
from nnc._utils.checks import check_bool, check_choice, check_count, short_repr
from nnc.plot.axes import (
    COLORS,
    MARKERS,
    axes,
    check_network,
    class_names,
    matplotlib,
    predict_data,
    predict_indices,
    text_color,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

KINDS = ("actual", "residuals", "calibration", "intervals")
MAX_POINTS = 2000  # draw at most this many rows as dots: evenly spaced ones if there are more
MAX_OPAQUE_POINTS = 500  # more dots than this number are drawn with more transparency


def confusion_matrix(net: Any, X: ArrayLike, y: Any, ax: Axes | None = None, *, normalize: bool = False) -> Axes:
    """Draw the confusion matrix: how often rows of each true class are predicted as each class.

    The color is the fraction of the rows of the true class, so that rare classes are visible.

    Parameters
    ----------
    net : NeuralNetwork
        Classifier with one class for each row, or for each step of sequences.
    X : array (n, n_in)
        Rows as in `predict`.
    y : array (n,), or (n, n_out)
        Targets as in `evaluate_loss`.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into. Default: the Axes of a new figure.
    normalize : bool, default False
        Whether the cells contain fractions of the true class instead of numbers of rows.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is invalid, or X and y do not match the network.
    """
    names, normalize = class_names(net, "confusion_matrix"), check_bool("normalize", normalize)
    true, predicted, _ = predict_indices(net, X, y)
    n = len(names)
    counts = np.bincount(true * n + predicted, minlength=n * n).reshape(n, n)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax = axes(ax, (max(5.0, 0.45 * n + 2), max(4.0, 0.4 * n + 1.6)))
    image = ax.imshow(fractions, "Blues", vmin=0, vmax=1)
    if n <= 20:
        style = {"ha": "center", "va": "center", "fontsize": 10 if n <= 12 else 7}
        for (i, j), fraction in np.ndenumerate(fractions):
            cell = f"{fraction:.2f}" if normalize else f"{counts[i, j]}"
            ax.text(j, i, cell, color="white" if fraction > 0.5 else "black", **style)
        rotation = 45 if max(len(str(name)) for name in names) > 4 else 0
        ax.set_xticks(range(n), names, rotation=rotation, ha="right" if rotation else "center")
        ax.set_yticks(range(n), names)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.figure.colorbar(image, ax=ax, label="fraction of the true class")
    return ax


def decision_boundary(
    net: Any,
    X: ArrayLike,
    y: Any = None,
    ax: Axes | None = None,
    *,
    features: tuple[int, int] = (0, 1),
    resolution: int = 200,
) -> Axes:
    """Draw the predictions of a network in the plane of two inputs, with the other inputs at their medians.

    For a classifier, the color is the predicted class, and more opaque colors mean larger probabilities. For
    regression, the color is the output.

    Parameters
    ----------
    net : NeuralNetwork
        Classifier with one class for each row, or regression network with one output.
    X : array (n, n_in)
        Rows that are drawn as dots; their range determines the drawn part of the plane.
    y : array (n,), or (n, n_out), optional
        Targets as in `evaluate_loss`, which determine the colors of the dots.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into. Default: the Axes of a new figure.
    features : (int, int), default (0, 1)
        Indices of the inputs on the horizontal and on the vertical axis.
    resolution : int, default 200
        Number of grid points along each axis.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is invalid, or X or y does not match the network.
    """
    converter, n_in = check_network(net).converter, net.sizes[0]
    resolution = check_count("resolution", resolution, 2)
    features = _check_features(features, n_in)
    rows = converter.rows(X)
    grid = np.tile(np.median(rows, axis=0).astype(float), (resolution * resolution, 1))
    x_grid, y_grid = (_spread(rows[:, feature], resolution) for feature in features)
    for feature, coordinates in zip(features, np.meshgrid(x_grid, y_grid), strict=True):
        grid[:, feature] = coordinates.ravel()
    extent = (x_grid[0], x_grid[-1], y_grid[0], y_grid[-1])
    P = net.model.predict(converter.input_data(grid))
    ax = axes(ax)
    if converter.loss.is_classification:
        _draw_classes(net, ax, P, resolution, extent)
    elif net.sizes[-1] != 1:
        raise ValueError(
            f"net must be a classifier or have one output for decision_boundary, got {net.sizes[-1]} outputs"
        )
    else:
        outputs = converter.unscale(P).reshape(resolution, resolution)
        contours = ax.contourf(x_grid, y_grid, outputs, 20, cmap="viridis")
        ax.figure.colorbar(contours, ax=ax, label="output")
    index = _select_points(len(rows))
    points = rows[index][:, list(features)].T
    if y is None:
        ax.scatter(*points, s=18, color="black", edgecolors="white", linewidths=0.6)
    elif converter.loss.is_classification:
        true, _, _ = predict_indices(net, X, y)
        for i, name in enumerate(class_names(net, "decision_boundary")):
            style = {"color": COLORS[i % 8], "marker": MARKERS[i % 8], "edgecolors": text_color()}
            ax.scatter(*points[:, true[index] == i], s=26, linewidths=0.6, label=str(name), **style)
        ax.legend()
    else:
        targets = converter.unscale(converter.data(X, y).Y)[index, 0]
        ax.scatter(*points, s=26, c=targets, norm=contours.norm, cmap="viridis", edgecolors="white", linewidths=0.8)
    names = net.feature_names or [f"input {i}" for i in range(n_in)]
    ax.set(xlabel=names[features[0]], ylabel=names[features[1]], xlim=extent[:2], ylim=extent[2:])
    return ax


def _check_features(features: Any, n_in: int) -> tuple[int, int]:
    """Return the two indices in the argument `features`; raise an error if they are invalid or equal."""
    try:
        first, second = (int(feature.__index__()) for feature in features)
    except (TypeError, ValueError, AttributeError):
        raise TypeError(f"features must be the indices of two inputs, got {short_repr(features)}") from None
    if not (0 <= first < n_in and 0 <= second < n_in and first != second):
        raise ValueError(f"features must be two different indices from 0 to {n_in - 1}, got {short_repr(features)}")
    return first, second


def _spread(values: NDArray[Any], resolution: int) -> NDArray[np.float64]:
    """Return evenly spaced numbers that cover the range of the values and a margin on both sides."""
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, resolution)


def _draw_classes(net: Any, ax: Axes, P: NDArray[Any], resolution: int, extent: tuple[float, ...]) -> None:
    """Draw the plane in the colors of the predicted classes, with lines at the boundaries."""
    n = len(class_names(net, "decision_boundary"))
    index = net.converter.class_index(P)
    if net.converter.loss.target_type == "plus_minus_one":  # margins are not probabilities
        certainty = np.full(len(P), 0.5)
    else:
        best = P.max(axis=1) if P.shape[1] > 1 else np.maximum(P[:, 0], 1 - P[:, 0])
        certainty = (best - 1 / n) / (1 - 1 / n)
    colors = np.array([matplotlib("colors").to_rgb(color) for color in COLORS])[index % 8]
    image = np.concatenate([colors, (0.12 + 0.4 * certainty)[:, None]], axis=1).reshape(resolution, resolution, 4)
    ax.imshow(image, extent=extent, origin="lower", aspect="auto", interpolation="nearest")
    coordinates = [np.linspace(extent[i], extent[i + 1], resolution) for i in (0, 2)]
    for i in range(n):
        is_class = (index == i).reshape(resolution, resolution)
        if is_class.any() and not is_class.all():
            ax.contour(*coordinates, is_class, [0.5], colors=[text_color()], linewidths=0.8)


def predictions(
    net: Any,
    X: ArrayLike,
    y: Any,
    ax: Axes | None = None,
    *,
    kind: str | None = None,
    band: Sequence[Any] | None = None,
    bins: int = 10,
) -> Axes:
    """Draw predictions compared with true values.

    Parameters
    ----------
    net : NeuralNetwork
        Network that predicts.
    X : array (n, n_in)
        Rows as in `predict`.
    y : array (n, n_out), or (n,)
        Targets as in `evaluate_loss`.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into. Default: the Axes of a new figure.
    kind : str, optional
        - "actual": predicted values over true values; the default for regression;
        - "residuals": true minus predicted values, over predicted values;
        - "calibration": accuracy over predicted probability, in bins; the default for classification. The legend shows
          the expected calibration error, the mean absolute difference of accuracy and probability, weighted by the rows
          of the bins (Naeini, Cooper and Hauskrecht, 2015);
        - "intervals": predicted intervals and true values, sorted by the predicted value.
    band : (lower, upper), with "intervals"
        Bounds of the intervals: two networks, such as networks with the losses nnc.Quantile(0.05) and
        nnc.Quantile(0.95), or two arrays of n numbers, such as those returned by `predict_interval`.
    bins : int, default 10
        Number of bins for "calibration".

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is invalid, or X and y do not match the network.
    """
    is_classifier = check_network(net).converter.loss.is_classification
    kind = check_choice("kind", kind or ("calibration" if is_classifier else "actual"), KINDS)
    bins = check_count("bins", bins)
    if (kind == "calibration") != is_classifier:
        expected = (
            "'calibration' for a classifier" if is_classifier else "'actual', 'residuals' or 'intervals' for regression"
        )
        raise ValueError(f"kind must be {expected}, got {kind!r}")
    if (kind == "intervals") != (band is not None):
        expected = "a pair (lower, upper)" if kind == "intervals" else "None"
        raise ValueError(f"band must be {expected} for kind={kind!r}, got {band!r}")
    if kind == "calibration":
        return _draw_calibration(net, X, y, ax, bins)
    converter, data, P = predict_data(net, X, y)
    true, predicted = converter.output_rows(data, converter.unscale(data.Y), converter.unscale(P))
    if kind == "intervals":
        assert band is not None
        return _draw_intervals(X, true, predicted, band, ax)
    ax = axes(ax)
    residuals = true - predicted
    index = _select_points(len(true))
    x_values, y_values = (true, predicted) if kind == "actual" else (predicted, residuals)
    for i in range(true.shape[1]):
        style = {"color": COLORS[i % 8], "marker": MARKERS[i % 8], "alpha": _opacity(index)}
        label = f"output {i}" if true.shape[1] > 1 else None
        ax.scatter(x_values[index, i], y_values[index, i], s=16, linewidths=0, label=label, **style)
    if kind == "actual":
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        ax.plot(ends, ends, color="gray", linestyle="--", linewidth=1, label="predicted = true")
        ax.set(xlabel="true value", ylabel="predicted value")
    else:
        ax.axhline(0, color="gray", linestyle="--", linewidth=1)
        ax.set(xlabel="predicted value", ylabel="residual, true - predicted")
    ax.set_title(f"root mean squared error {np.sqrt((residuals**2).mean()):.4g}")
    if ax.get_legend_handles_labels()[0]:
        ax.legend()
    return ax


def _select_points(n: int) -> NDArray[np.intp]:
    """Return the indices of the rows to draw as dots: all rows, or MAX_POINTS evenly spaced ones."""
    return np.unique(np.linspace(0, n - 1, min(n, MAX_POINTS)).astype(np.intp))


def _opacity(points: NDArray[Any]) -> float:
    return 0.8 if len(points) <= MAX_OPAQUE_POINTS else 0.35


def _draw_calibration(net: Any, X: Any, y: Any, ax: Axes | None, bins: int) -> Axes:
    """Draw the accuracy in bins of the predicted probability, and return the Axes."""
    names = class_names(net, "predictions of kind 'calibration'")
    net.converter.check_probabilities()
    true, predicted, P = predict_indices(net, X, y)
    if P.shape[1] == 1:
        probability, is_correct, xlabel = P[:, 0], true == 1, f"predicted probability of {names[1]}"
    else:
        xlabel = "probability of the predicted class, mean of a bin"
        probability, is_correct = P.max(axis=1), true == predicted
    bin_index = np.minimum((probability * bins).astype(int), bins - 1)
    counts = np.bincount(bin_index, minlength=bins)
    is_filled = counts > 0
    means, accuracies = (
        np.bincount(bin_index, values, bins)[is_filled] / counts[is_filled] for values in (probability, is_correct)
    )
    error = float((abs(means - accuracies) * counts[is_filled]).sum() / len(probability))
    ax = axes(ax)
    ax.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1, label="perfectly calibrated")
    ax.plot(means, accuracies, "o-", color=COLORS[0], label=f"network (expected calibration error {error:.3f})")
    centers = (np.arange(bins) + 0.5) / bins
    ax.bar(centers, counts / len(probability), 1 / bins, color=COLORS[0], alpha=0.2, label="fraction of the rows")
    ylabel = "accuracy" if P.shape[1] > 1 else f"fraction of {names[1]}"
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return ax


def _draw_intervals(X: Any, true: NDArray[Any], predicted: NDArray[Any], band: Any, ax: Axes | None) -> Axes:
    """Draw intervals, predictions and true values, sorted by the prediction, and return the Axes."""
    n = len(true)
    if true.shape[1] != 1:
        raise ValueError(f"net must have one output for kind='intervals', got {true.shape[1]} outputs")
    if not isinstance(band, (tuple, list)) or len(band) != 2:
        raise TypeError(f"band must be a pair (lower, upper) of networks or arrays, got {type(band).__name__}")
    bounds = [bound.predict(X) if hasattr(bound, "converter") else as_real_array("band", bound) for bound in band]
    lower, upper = (as_finite_array("band", np.reshape(bound, -1), (n,), np.dtype(float)) for bound in bounds)
    order = np.argsort(predicted[:, 0], kind="stable")
    coverage = float(((lower <= true[:, 0]) & (true[:, 0] <= upper)).mean())
    x = np.arange(1, n + 1)
    ax = axes(ax)
    label = f"interval, covers {coverage:.0%} of the rows"
    ax.fill_between(x, lower[order], upper[order], color=COLORS[4], alpha=0.35, linewidth=0, label=label)
    ax.plot(x, predicted[order, 0], color=COLORS[0], label="predicted")
    index = _select_points(n)
    style = {"color": text_color(), "alpha": _opacity(index), "linewidths": 0}
    ax.scatter(x[index], true[order, 0][index], s=12, label="true", **style)
    ax.set(xlabel="rows, sorted by the predicted value", ylabel="value")
    ax.legend()
    return ax
