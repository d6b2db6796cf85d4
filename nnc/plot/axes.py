"""Functions shared by all plots: creation of axes, colors, and checks of the network."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._drawing.svg import NEGATIVE, POSITIVE
from nnc._utils.checks import short_repr

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from numpy.typing import NDArray

# Colors that are distinguishable with any color vision deficiency (Okabe and Ito, 2008), and a marker for each of them.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = "osD^vPX*"


def matplotlib(module: str) -> Any:
    """Import and return a module of matplotlib.

    Raises
    ------
    ImportError
        matplotlib is not installed; the message states how to install it.
    """
    try:
        return import_module(f"matplotlib.{module}")
    except ImportError as error:
        from nnc._utils.packages import missing_package

        raise missing_package("nnc.plot", "matplotlib", error, "plot") from error


def axes(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    """Return `ax` if it is Axes, or the Axes of a new figure of this size in inches if it is None."""
    if ax is None:
        return matplotlib("pyplot").figure(figsize=size, layout="constrained").add_subplot()
    if not (hasattr(ax, "plot") and hasattr(ax, "figure")):
        raise TypeError(f"ax must be a matplotlib Axes, got {type(ax).__name__}")
    return ax


def set_integer_ticks(axis: Axis) -> None:
    """Restrict the ticks of an axis to integers."""
    # The default min_n_ticks=2 would allow fractions if the axis contains only one integer.
    axis.set_major_locator(matplotlib("ticker").MaxNLocator(integer=True, min_n_ticks=1))


def text_color() -> Any:
    """Return the text color of the current style, which is readable on its background."""
    return matplotlib("pyplot").rcParams["text.color"]


def check_network(net: Any) -> Any:
    """Return `net`; raise TypeError if `net` is not a network."""
    if not hasattr(net, "converter"):
        raise TypeError(f"net must be a NeuralNetwork, got {type(net).__name__}")
    return net


def class_names(net: Any, function: str) -> list[Any]:
    """Return the classes of a network, or raise ValueError if it does not predict one class for each row or step."""
    if not check_network(net).converter.loss.is_classification:
        raise ValueError(f"net must be a classifier for {function}, got one with the regression loss {net.loss_name!r}")
    if net.converter.loss.target_type == "multilabel" and net.sizes[-1] > 1:
        raise ValueError(
            f"net must predict one class for each row for {function}, got a network with {net.sizes[-1]} binary outputs"
        )
    n_out = net.model.stack.output_shape[-1]
    return list(range(max(2, n_out))) if net.classes is None else net.classes.tolist()


def predict_indices(net: Any, X: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the indices of the true classes (n,), the indices of the predicted classes (n,), and the outputs.

    If the sequences have a class at each step, each step is a row.
    """
    converter, data, P = predict_data(net, X, y)
    true, predicted, P = converter.output_rows(data, converter.true_class_index(data), converter.class_index(P), P)
    return true, predicted, P


def predict_data(net: Any, X: Any, y: Any) -> tuple[Any, Any, NDArray[Any]]:
    """Return the converter for the number of steps of X, the rows in the format of the engine, and their outputs."""
    converter, X = net.converter.bind(X)
    data = converter.data(X, y)
    return converter, data, converter.model.predict(data)


def parametric_layer(net: Any, index: int) -> Any:
    """Return a layer with weights by its index among these layers; negative indices count from the last one."""
    layers = check_network(net)._layers_with_weights()
    if isinstance(index, bool) or not hasattr(index, "__index__"):
        raise TypeError(f"layer must be an integer, got {short_repr(index)}")
    if not -len(layers) <= index < len(layers):
        raise ValueError(f"layer must be from 0 to {len(layers) - 1}, the index of a layer with weights, got {index}")
    return layers[index]


def draw_matrix(ax: Axes, matrix: NDArray[Any], aspect: str | None = None, **colorbar: Any) -> None:
    """Draw a matrix in colors from negative to positive, with 0 in white, and a color bar."""
    max_abs = float(np.nanmax(abs(matrix), initial=0.0)) or 1.0
    colors = matplotlib("colors").LinearSegmentedColormap.from_list("signs", [NEGATIVE, "white", POSITIVE])
    colors = colors.with_extremes(bad="0.75")  # NaN is drawn in gray
    image = ax.imshow(matrix, colors, vmin=-max_abs, vmax=max_abs, aspect=aspect, interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, **colorbar)


def draw_mosaic(ax: Axes | None, images: NDArray[Any], columns: int) -> Axes:
    """Draw n images of an array (n, height, width) in a grid with `columns` columns, and return the Axes.

    The colors are those of `draw_matrix`. The size of a new figure depends on the size of the grid.
    """
    n, height, width = images.shape
    rows = -(-n // columns)
    grid = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for i, image in enumerate(images):
        y, x = i // columns * (height + 1), i % columns * (width + 1)
        grid[y : y + height, x : x + width] = image
    grid_height, grid_width = grid.shape
    pixel_inches = min(5.0 / grid_width, 4.2 / grid_height)
    # The figure has room for a color bar at the side and a title above.
    ax = axes(ax, (max(3.0, pixel_inches * grid_width + 1.4), max(2.4, pixel_inches * grid_height + 0.6)))
    draw_matrix(ax, grid, shrink=0.8)
    ax.set(xticks=[], yticks=[])
    return ax
