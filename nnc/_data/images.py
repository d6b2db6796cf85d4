"""Shapes of arrays of images. Images have channels last."""

from __future__ import annotations

from math import prod


def count_images(shape: tuple[int, ...], image_shape: tuple[int, ...]) -> tuple[int, bool]:
    """Return the number of images in an array, and whether it is a single image without the dimension n.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array: (n, height, width, channels), (n, height * width * channels), or (n, height, width) for one
        channel; or one of these without n.
    image_shape : (height, width, channels)
        Shape of one input image of the network.

    Raises
    ------
    ValueError
        The array has another shape. If its channels come first, the message explains how to move them.
    """
    height, width, channels = image_shape
    row_shapes = [image_shape, *([(height, width)] if channels == 1 else []), (prod(image_shape),)]
    if shape[1:] in row_shapes:
        return shape[0], False
    if shape in row_shapes:
        return 1, True
    expected = [f"(n, {', '.join(map(str, row_shape))})" for row_shape in row_shapes]
    hint = ""
    if shape[-3:] == (channels, height, width) and len(shape) in (3, 4):
        hint = f"; channels come last: X.transpose({'0, 2, 3, 1' if len(shape) == 4 else '1, 2, 0'})"
    raise ValueError(
        f"X must have shape {', '.join(expected[:-1])} or {expected[-1]} to fit this network, or be one such image, "
        f"got shape {shape}{hint}"
    )
