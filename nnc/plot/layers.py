"""What is in the layers of a network."""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

from nnc._utils.checks import count
from nnc.plot.axes import axes, layer_at, mosaic, signed, whole

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def weights(net: Any, ax: Any = None, *, layer: int = 0) -> Any:
    """Draws the weights of a layer as a table of colours: a row for each input, a column for each neuron; blue ones are
    positive, orange ones negative.

    Parameters
    ----------
    net : NeuralNetwork
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.
    layer : int, default 0
        Which of the layers that have weights, counted from 0; -1 is the output layer.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is not one of these.
    """
    found = layer_at(net, layer)
    W = found.W
    ax = axes(ax)
    signed(ax, W, aspect="auto", label="weight")
    xlabel, ylabel = ("filter", "number in the window") if hasattr(found.kind, "filters") else ("neuron", "input")
    ax.set(title=found.name, xlabel=xlabel, ylabel=ylabel)
    for axis in (ax.xaxis, ax.yaxis):
        whole(axis)
    if net.feature_names is not None and found.n_in == net.sizes[0] and found.name == layer_at(net, 0).name:
        ax.set_yticks(range(len(W)), net.feature_names)
    return ax


def filters(net: Any, ax: Any = None, *, layer: int = 0, shape: tuple[int, int] | None = None, most: int = 64) -> Any:
    """Draws what the neurons of a layer look for, as images: the filters of a convolution, each in a row of its own if
    it has several channels; or the weights of a dense layer whose inputs are the pixels of images.

    Parameters
    ----------
    net : NeuralNetwork
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.
    layer : int, default 0
        Which of the layers that have weights, counted from 0.
    shape : (int, int), optional
        Height and width of the images that the inputs of a dense layer are.
    most : int, default 64
        Images that are shown at most.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is not one of these, or the inputs of a dense layer are no such images.
    """
    found, most = layer_at(net, layer), count("most", most)
    if hasattr(found.kind, "filters"):
        kernel = found.kernel.transpose(3, 2, 0, 1)  # filter, channel, y, x
        n, channels = kernel.shape[:2]
        images, columns = kernel.reshape(-1, *kernel.shape[2:]), channels
        if channels == 1:
            columns = ceil(sqrt(min(n, most)))
        elif channels > most:
            images = kernel[:, :most].reshape(-1, *kernel.shape[2:])
            columns = most
    elif shape is None:
        raise ValueError(f"shape must be given for {found.name}, a dense layer: the height and width of its inputs")
    else:
        height, width = (count("shape", side) for side in shape)
        if height * width != found.n_in:
            raise ValueError(f"shape must have the {found.n_in} inputs of {found.name}, got {height} x {width}")
        images = found.W.T.reshape(-1, height, width)
        columns = ceil(sqrt(min(len(images), most)))
    ax = mosaic(ax, images[: max(columns, most // columns * columns)], columns)
    ax.set_title(f"{found.name}: filters")
    if hasattr(found.kind, "filters") and found.shape_in[2] > 1:
        ax.set(xlabel="channel", ylabel="filter")
    return ax


def activations(net: Any, X: ArrayLike, ax: Any = None, *, layer: int = 0) -> Any:
    """Draws what a layer puts out: for one row the channels of a convolution as images, or the neurons of a dense layer
    as bars; for several rows a dense layer as a table of colours, a row each.

    Parameters
    ----------
    net : NeuralNetwork
    X : array (n, n_in)
        As in `predict`; of a convolution one row.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.
    layer : int, default 0
        Which of the layers that have weights, counted from 0.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, TypeError
        An argument is not one of these, or X does not fit the network.
    """
    found = layer_at(net, layer)
    A = net.forward(X)[layer]
    if A.ndim == 4 and len(A) != 1:
        raise ValueError(f"X must be one row for a convolution, got {len(A)}")
    title = f"{found.name}: outputs"
    if A.ndim == 4:
        ax = mosaic(ax, A[0].transpose(2, 0, 1), ceil(sqrt(A.shape[3])))
        ax.set_title(title)
        return ax
    ax = axes(ax)
    ax.set(title=title, xlabel="neuron")
    whole(ax.xaxis)
    if len(A) == 1:
        ax.bar(range(len(A[0])), A[0])
        ax.axhline(0, color="gray", linewidth=0.8)
        ax.set_ylabel("output")
        return ax
    signed(ax, A, aspect="auto", label="output")
    ax.set_ylabel("row")
    whole(ax.yaxis)
    return ax
