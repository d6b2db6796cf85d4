"""Comparison of images with the training images of a classifier: size, aspect ratio and polarity.

The polarity states whether an object is lighter or darker than its background. The member `training_images` of the
model file contains the ranges of size, aspect ratio and contrast, from which the polarity follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from nnc.images.reading import Images

RANGE_QUANTILES = 0.05, 0.95  # quantiles of the training images that limit the ranges
MAX_SIZE_CHANGE = 2.0  # a message is returned for images that are larger or smaller than the range by this factor
MAX_ASPECT_CHANGE = 1.25  # a message is returned for images whose aspect ratio is outside the range by this factor
MAX_UNKNOWN_REDUCTION = 4.0  # assumed reduction of training images, if the model file does not contain their size
MIN_CONTRAST = 4.0  # in gray levels; an image with a smaller absolute contrast has no polarity
POLARITY_FRACTION = 0.5  # a message is returned if more than this fraction of the images have the opposite polarity

# A model file without `training_images` does not contain the polarity. The images are then inverted for comparison, and
# the probability p of the predicted class is computed before and after inversion. A message is returned if both limits
# are satisfied.
MIN_INVERTED_FRACTION = 0.6  # p must be higher after inversion for at least this fraction of the images
MIN_LOG_DECREASE = 1.0  # the mean of log(1 - p) must decrease by more than this
MIN_UNCERTAINTY = 1e-7  # smaller 1 - p are raised to this value, because float32 rounds such p to 1
MAX_INVERTED_IMAGES = 200  # maximum number of images that are inverted


def describe_images(images: Images) -> dict[str, list[float]]:
    """Return the ranges of training images for the member `training_images` of a model file."""
    width, height = images.sizes.T
    quantities = {
        "longer_side": images.sizes.max(axis=1),
        "aspect_ratio": width / height,
        "contrast": _contrast(images.X),
    }
    return {
        name: np.quantile(values, RANGE_QUANTILES, method="nearest").tolist() for name, values in quantities.items()
    }


def size_differences(
    images: Images, ranges: dict[str, list[float]] | None, input_size: tuple[int, ...]
) -> Iterator[str]:
    """Yield messages about images whose size or aspect ratio differs from the ranges of the training images.

    Without ranges, images are compared with the inputs of the model, (height, width).
    """
    height, width = input_size
    longer_side = max(input_size)
    if ranges is None:
        side_range, ratio_range = [longer_side, MAX_UNKNOWN_REDUCTION * longer_side], [width / height] * 2
        references = dict.fromkeys(("side", "ratio"), f"the model reads {width} x {height} pixels")
    else:
        side_range, ratio_range = ranges["longer_side"], ranges["aspect_ratio"]
        references = {
            "side": f"the longer side of the training images has {_format_range(side_range)} pixels",
            "ratio": f"the ratio of width and height of the training images is {_format_range(ratio_range)}",
        }
    sides, ratios = images.sizes.max(axis=1), images.sizes[:, 0] / images.sizes[:, 1]
    is_distorted = (ratios * MAX_ASPECT_CHANGE < ratio_range[0]) | (ratios > MAX_ASPECT_CHANGE * ratio_range[1])
    for is_different, problem, reference in (
        (is_distorted, "have another aspect ratio and are distorted; crop them to the object", "ratio"),
        (sides > MAX_SIZE_CHANGE * side_range[1], "are much larger; crop them to the object", "side"),
        (sides * MAX_SIZE_CHANGE < side_range[0], "are much smaller and are blurred", "side"),
    ):
        if is_different.any():
            first = int(is_different.argmax())
            width, height = images.sizes[first]
            yield (
                f"{is_different.sum():,} of {len(sides):,} images {problem}: {images.files[first]} has {width:.0f} x "
                f"{height:.0f} pixels, {references[reference]}"
            )


def polarity_difference(
    images: Images,
    ranges: dict[str, list[float]] | None,
    predict_proba: Callable[[NDArray[np.uint8]], NDArray[np.floating]] | None,
    remedy: str,
) -> str | None:
    """Return a message if most images are dark on a light ground and the training images light on a dark ground.

    The same holds for the opposite; None means that the polarity is equal or unknown.

    Parameters
    ----------
    images : Images
        Images as the model reads them.
    ranges : dict or None
        Result of `describe_images` for the training images; None if the model file does not contain it.
    predict_proba : callable or None
        Function that returns probabilities (n, classes) of pixels, which are compared if there are no ranges; None for
        a model that is not a classifier.
    remedy : str
        End of the message.
    """
    if ranges is None:
        if predict_proba is not None and _is_more_certain_if_inverted(predict_proba, images.X):
            return (
                "the model is more certain about the inverted images; if dark and light are exchanged compared with "
                f"the training images, {remedy}"
            )
        return None
    polarity = _polarity(np.array(ranges["contrast"]))
    if not polarity[0] == polarity[1] != 0:
        return None
    n_opposite = int((_polarity(_contrast(images.X)) == -polarity[0]).sum())
    if n_opposite <= POLARITY_FRACTION * len(images.X):
        return None
    kinds = {1: "light on a dark ground", -1: "dark on a light ground"}
    return (
        f"{n_opposite:,} of {len(images.X):,} images are {kinds[-polarity[0]]}, but the training images are "
        f"{kinds[polarity[0]]}; {remedy}"
    )


def _format_range(limits: list[float]) -> str:
    """Return a range as text; a single number if both limits are equal in three digits."""
    return " to ".join(dict.fromkeys(f"{limit:.3g}" for limit in limits))


def _contrast(X: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the contrast of each image, its mean minus the median of its border, in gray levels."""
    border = np.concatenate([X[:, 0], X[:, -1], X[:, 1:-1, 0], X[:, 1:-1, -1]], axis=1)
    gray = border.mean(axis=2) if X.ndim == 4 else border
    contrast: NDArray[np.float64] = X.reshape(len(X), -1).mean(axis=1) - np.median(gray, axis=1)
    return contrast


def _polarity(contrast: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return 1 for a light object on a dark ground, -1 for the opposite, and 0 for a contrast that shows neither."""
    return np.where(np.abs(contrast) >= MIN_CONTRAST, np.sign(contrast), 0).astype(np.int64)


def _is_more_certain_if_inverted(
    predict_proba: Callable[[NDArray[np.uint8]], NDArray[np.floating]], X: NDArray[np.uint8]
) -> bool:
    """Return whether a classifier is more certain about the inverted images."""
    sample = X[np.linspace(0, len(X) - 1, min(len(X), MAX_INVERTED_IMAGES)).astype(int)]
    as_read, inverted = (
        np.log(np.maximum(1 - np.asarray(predict_proba(pixels), np.float64).max(axis=1), MIN_UNCERTAINTY))
        for pixels in (sample, 255 - sample)
    )
    is_frequent = (inverted < as_read).mean() >= MIN_INVERTED_FRACTION
    return bool(is_frequent and inverted.mean() < as_read.mean() - MIN_LOG_DECREASE)
