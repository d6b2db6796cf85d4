"""Layers that have proved themselves, for whoever does not want to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._utils.checks import check_count
from nnc.layers.dense import Dense
from nnc.layers.image import Conv2D, MaxPool2D
from nnc.layers.shape import Dropout, Input

if TYPE_CHECKING:
    from nnc.layers.base import Layer


def small_images(classes: int, height: int = 28, width: int = 28, channels: int = 1) -> list[Layer]:
    """The layers of a small network that tells images of some 20 to 40 pixels a side apart.

    Twice two convolutions of 3 x 3 and a pool, then a dense layer, with dropout where many weights are: simple parts of
    the networks of Simonyan and Zisserman (2015), as small as digits allow. What was reached with it is in
    docs/performance.md.

    Parameters
    ----------
    classes : int
        Two or more: the neurons of the output.
    height, width, channels : int
        Of an image; 12 pixels a side at least.

    Returns
    -------
    list of layers
        For `NeuralNetwork(layers, activation="relu", loss="cross_entropy", dtype="float32")`.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these.

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
