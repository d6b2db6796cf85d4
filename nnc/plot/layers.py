"""Plots of the layers of a network: weights, filters and outputs."""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

from nnc._utils.checks import check_count
from nnc.plot.axes import axes, draw_matrix, draw_mosaic, parametric_layer, set_integer_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


def weights(net: Any, ax: Axes | None = None, *, layer: int = 0) -> Axes:
    """Draw the weights of a layer as a matrix of colors, with a row for each input and a column for each neuron.

    Positive weights are blue, negative weights orange.

    Parameters
    ----------
    net : NeuralNetwork
        Network with the layer.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into. Default: the Axes of a new figure.
    layer : int, default 0
        Index of the layer among the layers with weights; -1 is the output layer.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is invalid.
    """
    view = parametric_layer(net, layer)
    W = view.W
    ax = axes(ax)
    draw_matrix(ax, W, aspect="auto", label="weight")
    xlabel, ylabel = ("filter", "element of the window") if hasattr(view.kind, "filters") else ("neuron", "input")
    ax.set(title=view.name, xlabel=xlabel, ylabel=ylabel)
    for axis in (ax.xaxis, ax.yaxis):
        set_integer_ticks(axis)
    if net.feature_names is not None and view.n_in == net.sizes[0] and view.name == parametric_layer(net, 0).name:
        ax.set_yticks(range(len(W)), net.feature_names)
    return ax


def filters(
    net: Any, ax: Axes | None = None, *, layer: int = 0, shape: tuple[int, int] | None = None, most: int = 64
) -> Axes:
    """Draw the filters of a convolution, or the weights of the neurons of a dense layer, as images.

    A filter with several channels is drawn as a row of images. A filter of sequences is drawn as an image with a row
    for each feature and a column for each step. The inputs of a dense layer must be the pixels of images.

    Parameters
    ----------
    net : NeuralNetwork
        Network with the layer.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into. Default: the Axes of a new figure.
    layer : int, default 0
        Index of the layer among the layers with weights; -1 is the output layer.
    shape : (int, int), optional
        Height and width of the input images; required for a dense layer.
    most : int, default 64
        Maximum number of drawn images.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is invalid, or the inputs of a dense layer are not images of this shape.
    """
    view, most = parametric_layer(net, layer), check_count("most", most)
    if hasattr(view.kind, "filters"):
        kernel = view.kernel.T[:, None] if view.kernel.ndim == 3 else view.kernel.transpose(3, 2, 0, 1)
        # the axes of `kernel` are filter, channel, y and x; for sequences filter, 1, feature and step
        n, channels = kernel.shape[:2]
        images, columns = kernel.reshape(-1, *kernel.shape[2:]), channels
        if channels == 1:
            columns = ceil(sqrt(min(n, most)))
        elif channels > most:
            images = kernel[:, :most].reshape(-1, *kernel.shape[2:])
            columns = most
    elif shape is None:
        raise ValueError(f"shape must be the height and width of the inputs of {view.name}, a dense layer, got None")
    else:
        height, width = (check_count("shape", side) for side in shape)
        if height * width != view.n_in:
            expected = f"{view.n_in} pixels, one for each input of {view.name}"
            raise ValueError(f"shape must have {expected}, got {height} x {width}")
        images = view.W.T.reshape(-1, height, width)
        columns = ceil(sqrt(min(len(images), most)))
    ax = draw_mosaic(ax, images[: max(columns, most // columns * columns)], columns)
    ax.set_title(f"{view.name}: filters")
    if hasattr(view.kind, "filters") and len(view.shape_in) == 3 and view.shape_in[2] > 1:
        ax.set(xlabel="channel", ylabel="filter")
    return ax


def activations(net: Any, X: ArrayLike, ax: Axes | None = None, *, layer: int = 0) -> Axes:
    """Draw the outputs of a layer.

    For one row, the channels of a convolution are drawn as images, and the neurons of a dense layer as bars. A
    convolution of sequences is drawn as one image with a row for each feature and a column for each step. For several
    rows, the outputs of a dense layer are drawn as a matrix of colors with a row for each row of X.

    Parameters
    ----------
    net : NeuralNetwork
        Network with the layer.
    X : array (n, n_in)
        Inputs as in `predict`; a single row for a convolution.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into. Default: the Axes of a new figure.
    layer : int, default 0
        Index of the layer among the layers with weights; -1 is the output layer.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is invalid, or X does not match the inputs of the network.
    """
    view = parametric_layer(net, layer)
    A = net.forward(X)[layer]
    if A.ndim == 3:  # the outputs of a layer for sequences have the shape (rows, steps, features)
        A = A.transpose(0, 2, 1)[..., None]
    if A.ndim == 4 and len(A) != 1:
        raise ValueError(f"X must have one row for a drawing of a convolution, got {len(A)} rows")
    title = f"{view.name}: outputs"
    if A.ndim == 4:
        ax = draw_mosaic(ax, A[0].transpose(2, 0, 1), ceil(sqrt(A.shape[3])))
        ax.set_title(title)
        return ax
    ax = axes(ax)
    ax.set(title=title, xlabel="neuron")
    set_integer_ticks(ax.xaxis)
    if len(A) == 1:
        ax.bar(range(len(A[0])), A[0])
        ax.axhline(0, color="gray", linewidth=0.8)
        ax.set_ylabel("output")
        return ax
    draw_matrix(ax, A, aspect="auto", label="output")
    ax.set_ylabel("row")
    set_integer_ticks(ax.yaxis)
    return ax
