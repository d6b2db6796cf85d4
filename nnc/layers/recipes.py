"""Lists of layers that work well for common tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._utils.checks import check_count
from nnc.layers.dense import Dense
from nnc.layers.image import Conv2D, MaxPool2D
from nnc.layers.shape import Dropout, Input

if TYPE_CHECKING:
    from nnc.layers.base import Layer


def small_images(classes: int, height: int = 28, width: int = 28, channels: int = 1) -> list[Layer]:
    """Return the layers of a small network that classifies images with sides of 20 to 40 pixels.

    The network has two blocks of two 3 x 3 convolutions and a max-pool, then a hidden dense layer, with dropout before
    the dense layers. It is a small variant of the networks of Simonyan and Zisserman (2015). Its accuracy on MNIST is
    in docs/performance.md.

    Parameters
    ----------
    classes : int
        Number of classes, at least 2.
    height, width, channels : int
        Shape of an image; height and width are at least 12 pixels.

    Returns
    -------
    list of Layer
        Argument of `NeuralNetwork(layers, activation="relu", loss="cross_entropy", dtype="float32")`.

    Raises
    ------
    ValueError, TypeError
        An argument is not valid.

    Examples
    --------
    net = NeuralNetwork(small_images(10), activation="relu", loss="cross_entropy", dtype="float32", scale_X="pixels")
    net.fit_batches(nnc.augment(X, y, batch_size=128), epochs=18, optimizer="adam", lr=nnc.OneCycleLR(4e-3))
    """
    for name, value in (("height", height), ("width", width)):
        check_count(name, value, 12)
    return [
        Input(height, width, channels),
        Conv2D(16, 3, padding="same"),
        Conv2D(16, 3),
        MaxPool2D(2),
        Conv2D(32, 3, padding="same"),
        Conv2D(32, 3),
        MaxPool2D(2),
        Dropout(0.25),
        Dense(128),
        Dropout(0.5),
        Dense(check_count("classes", classes, 2)),
    ]
