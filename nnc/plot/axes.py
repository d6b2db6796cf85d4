"""What all plots have in common: axes, colours, and what they ask of a network."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._drawing.svg import NEGATIVE, POSITIVE

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Colours that everybody can tell apart (Okabe and Ito, 2008), each with a marker of its own.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = "osD^vPX*"


def matplotlib(module: str) -> Any:
    """A module of matplotlib.

    Raises
    ------
    ImportError
        matplotlib is not installed; the message says how to do that.
    """
    try:
        return import_module(f"matplotlib.{module}")
    except ImportError as error:
        raise ImportError(
            f'nnc.plot needs matplotlib ({error}); install it with pip install "nnc-cython[plot]"'
        ) from error


def axes(ax: Any, size: tuple[float, float] | None = None) -> Any:
    """The Axes that were given, or those of a new figure of this size in inches."""
    if ax is None:
        return matplotlib("pyplot").figure(figsize=size, layout="constrained").add_subplot()
    if not (hasattr(ax, "plot") and hasattr(ax, "figure")):
        raise TypeError(f"ax must be the Axes of matplotlib, got {type(ax).__name__}")
    return ax


def whole(axis: Any) -> None:
    """Ticks at whole numbers alone."""
    axis.set_major_locator(matplotlib("ticker").MaxNLocator(integer=True, min_n_ticks=1))  # one number has one


def ink() -> Any:
    """The colour of letters, which can be seen on the ground of the style that is chosen, light or dark."""
    return matplotlib("pyplot").rcParams["text.color"]


def checked(net: Any) -> Any:
    """The network, which is one."""
    if not hasattr(net, "converter"):
        raise TypeError(f"net must be a NeuralNetwork, got {type(net).__name__}")
    return net


def classes(net: Any, function: str) -> list[Any]:
    """What the classes of a network are called, in the order of their numbers."""
    if not checked(net).converter.loss.is_classification:
        raise ValueError(f"{function} needs a network of classes, this one has the loss {net.loss_name!r} of numbers")
    if net.loss_name == "bce" and net.sizes[-1] > 1:
        raise ValueError(f"{function} needs one class for each row, this network says yes or no {net.sizes[-1]} times")
    return list(range(max(2, net.sizes[-1]))) if net.classes is None else net.classes.tolist()


def known_classes(net: Any, X: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The numbers of the classes of rows, of those that the network predicts, and its outputs."""
    data = net.converter.data(X, y)
    P = net.model.predict(data.X)
    known = data.labels if data.labels is not None else net.converter.class_index(data.Y)
    return np.asarray(known), net.converter.class_index(P), P


def layer_at(net: Any, layer: int) -> Any:
    """The layer with weights of this number, counted from 0, or from the last one if it is negative."""
    computing = checked(net)._layers_with_weights()
    if isinstance(layer, bool) or not hasattr(layer, "__index__"):
        raise TypeError(f"layer must be a whole number, got {layer!r}")
    if not -len(computing) <= layer < len(computing):
        raise ValueError(f"layer must be from 0 to {len(computing) - 1}, the layers that have weights, got {layer}")
    return computing[layer]


def signed(ax: Any, table: NDArray[Any], aspect: str | None = None, **bar: Any) -> None:
    """A table of numbers in colours, on a scale that has 0 in its middle, and the bar that explains them."""
    largest = float(np.nanmax(abs(table), initial=0.0)) or 1.0
    colors = matplotlib("colors").LinearSegmentedColormap.from_list("signs", [NEGATIVE, "white", POSITIVE])
    colors = colors.with_extremes(bad="0.75")  # where there is no number
    shown = ax.imshow(table, colors, vmin=-largest, vmax=largest, aspect=aspect, interpolation="nearest")
    ax.figure.colorbar(shown, ax=ax, **bar)


def mosaic(ax: Any, images: NDArray[Any], columns: int) -> Any:
    """Images (n, height, width) side by side, so many in a row, on a scale that has 0 in its middle; a new figure is as
    wide or high as they need. The Axes."""
    n, height, width = images.shape
    rows = -(-n // columns)
    whole_image = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for place, image in enumerate(images):
        y, x = place // columns * (height + 1), place % columns * (width + 1)
        whole_image[y : y + height, x : x + width] = image
    high, wide = whole_image.shape
    inches = min(5.0 / wide, 4.2 / high)
    ax = axes(ax, (max(3.0, inches * wide + 1.4), max(2.4, inches * high + 0.6)))  # a bar beside it, a title above
    signed(ax, whole_image, shrink=0.8)
    ax.set(xticks=[], yticks=[])
    return ax
