"""Augmentation of images: batches with new random shifts, rotations, zooms and distortions in each epoch."""

from __future__ import annotations

from math import prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.targets import as_label_array
from nnc._utils.arrays import as_real_array
from nnc._utils.checks import build_check, check_bool, check_count, check_finite, pluralize, short_repr
from nnc._utils.random import AUGMENT, Stream, Streams, check_seed, mix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

N_KNOTS = 8  # number of knots along each side of an image; an elastic distortion displaces each at random
MAX_EXACT_INTEGER = 2**53  # largest integer up to which float64 represents all integers exactly
BLOCK_BYTES = 2**18  # interpolate at most this many bytes of images at once, so that the arrays fit into the cache
MAX_FLOAT32_SIDE = 2**11  # longer sides (in pixels) need float64 coordinates, because float32 is not accurate enough


def augment(
    X: ArrayLike,
    y: Any,
    sample_weight: ArrayLike | None = None,
    *,
    batch_size: int = 32,
    shift: int = 2,
    rotate: float = 10.0,
    zoom: float = 0.1,
    flip: bool | str = False,
    elastic: float = 0.0,
    fill: float = 0.0,
    shape: Sequence[int] | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    epoch: int = 0,
) -> Augmented:
    """Return augmented batches of images for `fit_batches`.

    Each epoch has a new random order and new random transformations, so that a network learns to ignore such changes.

    Parameters
    ----------
    X : array
        Images (n, height, width) or (n, height, width, channels), or rows of pixels (n, pixels) with `shape`, of any
        numeric dtype. X is not copied; a numpy.memmap is read batch by batch.
    y : array
        Target or label of each image, as in `fit`.
    sample_weight : array (n,), optional
        Weight of each image.
    batch_size : int, default 32
        Number of images per batch; the last batch of an epoch may have fewer.
    shift : int, default 2
        Largest shift in pixels, down or up and right or left. All integers from -shift to shift are equally likely. It
        must be smaller than the sides of the image.
    rotate : float, default 10
        Largest rotation about the center in degrees, from 0 to 180, in both directions.
    zoom : float, default 0.1
        Images are scaled by a factor from 1 / (1 + zoom) to 1 + zoom, equal for height and width. At most 10.
    flip : False or "horizontal", default False
        Whether half of the images are mirrored horizontally. This suits most objects, but not digits and letters.
    elastic : float, default 0
        Elastic distortion (Simard et al., 2003): standard deviation of a smooth random displacement in pixels, for rows
        and columns. 1 is a strong distortion of 28 x 28 pixels.
    fill : float, default 0
        Value of pixels outside of the image; the dtype of X must be able to represent it.
    shape : (height, width) or (height, width, channels), optional
        Shape of the images in rows of pixels. The batches then also have rows. X may also have the shape (n, *shape).
    shuffle : bool, default True
        Whether each epoch has a new random order.
    seed : int, optional
        Seed from 0 to 2**64 - 1, which determines all batches. Default: a random seed, which is available as attribute
        `seed` of the result.
    epoch : int, default 0
        Number of the first epoch. After 10 epochs of a training, epoch=10 with the same seed continues with the same
        batches as without interruption.

    Returns
    -------
    Augmented
        An iterable. Each iteration yields the batches (X, y) or (X, y, sample_weight) of the next epoch. `len` is the
        number of batches.

    Raises
    ------
    ValueError, TypeError
        X does not contain images, y or sample_weight has another length, or another argument is invalid.

    Notes
    -----
    An image is flipped, then scaled and rotated, distorted, and shifted. Pixels are computed by bilinear interpolation,
    in float64 if X is float64 or has integers of more than 16 bits, otherwise in float32. The result has the dtype of
    X; integers are rounded to the nearest, halves to even. Shifts and flips alone do not change the values of pixels.

    The transformation of an image depends on the seed, the epoch and its position in the order, not on `batch_size`.

    Examples
    --------
    net.fit_batches(nnc.augment(X, y, shift=2, rotate=10, seed=0), epochs=10)
    """
    images = as_real_array("X", X)
    image_shape = _image_shape(images, shape)
    max_shift = min(image_shape[:2]) - 1  # a larger shift might move all pixels out of the image
    images_text = f" for images of shape {image_shape}"
    distortion = Distortion(
        image_shape,
        int(_up_to(max_shift, "shift", check_count("shift", shift, 0), images_text)),
        _up_to(180, "rotate", rotate),
        _up_to(10, "zoom", zoom),
        _flips(flip),
        _up_to(max_shift, "elastic", elastic, images_text),
        _fill(fill, images.dtype),
        _interpolation_dtype(images, image_shape),
    )
    others = {"y": as_label_array(y)}
    if sample_weight is not None:
        others["sample_weight"] = as_real_array("sample_weight", sample_weight)
    for name, array in others.items():
        if array.ndim == 0 or len(array) != len(images):
            raise ValueError(
                f"{name} must have one row for each image of X, got shape {array.shape} for "
                f"{pluralize(len(images), 'image')}"
            )
    return Augmented(
        [images, *others.values()],
        distortion,
        check_count("batch_size", batch_size),
        check_bool("shuffle", shuffle),
        check_seed(seed),
        check_count("epoch", epoch, 0),
    )


class Augmented:
    """Iterable of the batches of `augment`; each iteration yields the batches of one epoch.

    Attributes
    ----------
    seed : int
        Seed that determines all batches.
    epoch : int
        Number of the next epoch. It can be assigned: 0 repeats all batches from the beginning.
    """

    seed: int
    epoch: int

    def __init__(
        self,
        arrays: list[NDArray[Any]],
        distortion: Distortion,
        batch_size: int,
        shuffle: bool,
        seed: int,
        epoch: int,
    ) -> None:
        self.seed, self.epoch = seed, epoch
        self._arrays, self._distortion, self._batch_size, self._shuffle = arrays, distortion, batch_size, shuffle

    def __len__(self) -> int:
        return -(-len(self._arrays[0]) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], ...]]:
        # A generator starts with its first `next`, so that an iterator that is only created does not count as an epoch.
        stream = Stream(mix((Streams(self.seed).key(AUGMENT) + self.epoch) % 2**64))
        self.epoch += 1
        images, *others = self._arrays
        n = len(images)
        order = np.argsort(stream.uniform((n,)), kind="stable") if self._shuffle else np.arange(n)
        for start in range(0, n, self._batch_size):
            rows = order[start : start + self._batch_size]
            batch = np.ascontiguousarray(images[rows])
            self._distortion(batch.reshape(len(rows), *self._distortion.shape), stream)
            yield batch, *(array[rows] for array in others)


class Distortion:
    """Random transformation of images, with the validated arguments of `augment`.

    Pixels are interpolated in `dtype`.
    """

    shape: tuple[int, ...]
    shift: int
    rotate: float
    zoom: float
    flips: bool
    elastic: float
    fill: Any
    dtype: np.dtype[Any]
    block: int
    knot_weights: list[NDArray[Any]]

    def __init__(
        self,
        shape: tuple[int, ...],
        shift: int,
        rotate: float,
        zoom: float,
        flips: bool,
        elastic: float,
        fill: Any,
        dtype: np.dtype[Any],
    ) -> None:
        self.shape, self.shift, self.rotate, self.zoom, self.flips, self.fill = shape, shift, rotate, zoom, flips, fill
        self.elastic, self.dtype = elastic, dtype
        self.block = max(1, BLOCK_BYTES // (prod(shape) * dtype.itemsize))
        self.knot_weights = [_knot_weights(n).astype(dtype) for n in shape[:2]]

    def __call__(self, images: NDArray[Any], stream: Stream) -> None:
        """Transform images in place with random numbers from a stream."""
        for first in range(0, len(images), self.block):
            piece = images[first : first + self.block]
            self.distort(piece, stream.uniform((len(piece), 5 + (2 * N_KNOTS**2 if self.elastic else 0))))

    def distort(self, images: NDArray[Any], draws: NDArray[np.float64]) -> None:
        """Transform images in place; each image has one row of `draws`, which contains random numbers from 0 to 1."""
        if self.flips:
            flipped = draws[:, 4] < 0.5
            images[flipped] = images[flipped, :, ::-1]
        shifts = np.floor(draws[:, :2] * (2 * self.shift + 1)) - self.shift
        if not (self.rotate or self.zoom or self.elastic):
            if self.shift:
                images[...] = shifted(images, shifts.astype(np.intp), self.fill)
            return
        angles = np.radians(self.rotate) * (2 * draws[:, 2] - 1)
        factors = (1 + self.zoom) ** (2 * draws[:, 3] - 1)
        y, x = self.coordinates(angles, factors, shifts)
        if self.elastic:
            displacements = (draws[:, 5:].astype(self.dtype) - 0.5) * (sqrt(12) * self.elastic)
            fields = self.knot_weights[0] @ displacements.reshape(-1, 2, N_KNOTS, N_KNOTS) @ self.knot_weights[1].T
            y += fields[:, 0]
            x += fields[:, 1]
        images[...] = interpolated(images, y, x, self.fill)

    def coordinates(
        self, angles: NDArray[Any], factors: NDArray[Any], shifts: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the row and the column in the original image from which each pixel of a transformed image is computed.

        Both results have the shape (images, height, width). The transformation scales each image by its factor, rotates
        it about its center by its angle (radians, counterclockwise), and then shifts it (down, right).
        """
        down, right = ((np.arange(n) - (n - 1) / 2) - shifts[:, [i]] for i, n in enumerate(self.shape[:2]))
        cosine, sine = (np.cos(angles) / factors)[:, None], (np.sin(angles) / factors)[:, None]
        center_y, center_x = ((n - 1) / 2 for n in self.shape[:2])
        # Each coordinate is the sum of a term for the row and a term for the column: one addition per pixel.
        parts = cosine * down + center_y, sine * right, -sine * down + center_x, cosine * right
        a, b, c, d = (part.astype(self.dtype) for part in parts)
        return a[:, :, None] + b[:, None], c[:, :, None] + d[:, None]


def shifted(images: NDArray[Any], shifts: NDArray[np.intp], fill: Any) -> NDArray[Any]:
    """Return images shifted by whole pixels (down, right); pixels from outside of an image have the value `fill`."""
    m, height, width = images.shape[:3]
    border = int(np.abs(shifts).max())
    wide = _framed(images, border, border, fill, images.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (height, width), axis=(1, 2))
    moved = windows[np.arange(m), border - shifts[:, 0], border - shifts[:, 1]]
    # sliding_window_view puts the channels before height and width.
    return moved if images.ndim == 3 else np.moveaxis(moved, 1, -1)


def interpolated(images: NDArray[Any], y: NDArray[Any], x: NDArray[Any], fill: Any) -> NDArray[Any]:
    """Return the values of images at the coordinates y (rows) and x (columns), by bilinear interpolation.

    y and x have the shape (images, height, width), and are overwritten.
    """
    m, height, width = images.shape[:3]
    # Interpolation reads the pixels at floor(y) and floor(y) + 1, where y is clipped to -1 to height; x likewise. So
    # each image needs a border of 1 pixel before and 2 pixels after it.
    flat = _framed(images, 1, 2, fill, y.dtype).reshape(-1, *images.shape[3:])
    row_pixels, image_pixels = width + 3, (height + 3) * (width + 3)
    for coordinates, n in ((y, height), (x, width)):
        # All pixels outside of the image have the value `fill`, so clipping coordinates does not change the result.
        np.clip(coordinates, -1, n, out=coordinates)
    top, left = np.floor(y), np.floor(x)
    y -= top
    x -= left
    top *= row_pixels
    top += left
    index = top.astype(np.intp)
    index += (np.arange(m) * image_pixels + row_pixels + 1)[:, None, None]
    if images.ndim == 4:
        y, x = y[..., None], x[..., None]
    with np.errstate(over="ignore", invalid="ignore"):  # `fit_batches` rejects pixels that are not finite
        upper, lower = (_interpolate(flat[i:].take(index, 0), flat[i + 1 :].take(index, 0), x) for i in (0, row_pixels))
        values = _interpolate(upper, lower, y)
    return np.rint(values, out=values) if images.dtype.kind in "iub" else values


def _interpolate(a: NDArray[Any], b: NDArray[Any], fraction: NDArray[Any]) -> NDArray[Any]:
    """Compute a + fraction * (b - a) in place in b, and return b; the result is exact if a equals b."""
    b -= a
    b *= fraction
    b += a
    return b


def _framed(images: NDArray[Any], before: int, after: int, fill: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return images with a border of the value `fill`: `before` pixels at top and left, `after` at bottom and right."""
    m, height, width = images.shape[:3]
    wide = np.full((m, height + before + after, width + before + after, *images.shape[3:]), fill, dtype)
    wide[:, before : before + height, before : before + width] = images
    return wide


def _knot_weights(n: int) -> NDArray[np.float64]:
    """Return the weights (n, N_KNOTS) with which n pixels combine the displacements of the knots.

    Pixels and knots lie along one side of an image. Knots are evenly spaced points with random displacements. The
    weights are Gaussian functions of the distance between pixel and knot; the standard deviation is the distance
    between neighboring knots. Each row has norm 1, so that a weighted sum of independent displacements has the same
    variance as one displacement.
    """
    positions, knots = np.linspace(0, N_KNOTS - 1, n), np.arange(N_KNOTS)
    weights: NDArray[np.float64] = np.exp(-((positions[:, None] - knots) ** 2) / 2)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return weights


# ----------------------------------------------------------------------------------- checks of the arguments


def _image_shape(images: NDArray[Any], shape: Sequence[int] | None) -> tuple[int, ...]:
    """Return the shape of one image."""
    if shape is None:
        if images.ndim not in (3, 4) or images.size == 0:
            hint = "; rows of pixels need shape=(height, width)" if images.ndim == 2 else ""
            expected = "images (n, height, width) or (n, height, width, channels)"
            raise ValueError(f"X must be {expected}, got shape {images.shape}{hint}")
        return images.shape[1:]
    if not isinstance(shape, (tuple, list)) or len(shape) not in (2, 3):
        raise ValueError(f"shape must be (height, width) or (height, width, channels), got {short_repr(shape)}")
    checked = tuple(check_count("shape", n) for n in shape)
    without_channel = checked[:2] if checked[2:] == (1,) else checked
    if images.size and images.shape[1:] in {checked, without_channel, (*checked, 1)}:
        return images.shape[1:]
    if images.ndim != 2 or images.shape[1] != prod(checked) or images.size == 0:
        expected = f"(n, {prod(checked)}), rows of images of shape {checked}, or (n, {', '.join(map(str, checked))})"
        raise ValueError(f"X must have shape {expected}, got {images.shape}")
    return checked


def _up_to(limit: int, name: str, value: Any, images_text: str = "") -> float:
    """Return `value` as a float; raise ValueError unless it is from 0 to `limit`.

    `images_text` is appended to the limit in the message.
    """
    return build_check(lambda number: 0 <= number <= limit, f"from 0 to {limit}{images_text}")(name, value)


def _interpolation_dtype(images: NDArray[Any], shape: tuple[int, ...]) -> np.dtype[Any]:
    """Return the dtype of the interpolation; raise ValueError for integers that float64 cannot represent."""
    if (
        images.dtype.kind in "iu"
        and images.dtype.itemsize == 8
        and max(-int(images.min()), int(images.max())) > MAX_EXACT_INTEGER
    ):
        raise ValueError(f"X must have integers up to 2**53, got {images.dtype} with larger ones; convert X to float64")
    return np.result_type(images.dtype, np.float64 if max(shape[:2]) > MAX_FLOAT32_SIDE else np.float32)


def _flips(flip: Any) -> bool:
    """Return whether `flip` requests mirrored images; raise ValueError if it is invalid."""
    if flip is not False and not (isinstance(flip, str) and flip == "horizontal"):
        raise ValueError(f'flip must be False or "horizontal", got {short_repr(flip)}')
    return flip is not False


def _fill(fill: Any, dtype: np.dtype[Any]) -> Any:
    """Return the fill value in the dtype of X; raise ValueError if the dtype cannot represent it."""
    number = check_finite("fill", fill)
    if dtype.kind == "f":
        fits = abs(number) <= float(np.finfo(dtype).max)
    else:
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        fits = low <= number <= high and number == int(number)
    if not fits:
        raise ValueError(f"fill must be a number that the dtype of X, {dtype}, can represent, got {short_repr(fill)}")
    return dtype.type(number)
