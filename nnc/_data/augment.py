"""Images that are shifted, turned, zoomed and bent anew in every epoch, batch by batch."""

from __future__ import annotations

from math import prod, sqrt
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.targets import as_label_array
from nnc._utils.arrays import as_real_array
from nnc._utils.checks import build_check, check_bool, check_count, check_finite, pluralize
from nnc._utils.random import AUGMENT, Stream, Streams, check_seed, mix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

KNOTS = 8  # along each side of an image that is bent: where it is pulled
EXACT = 2**53  # whole numbers up to this one are exact in the float64 that they are interpolated in
PIECE = 2**18  # bytes of images that are interpolated at once: several arrays as large are in use, and in the cache
WIDE = 2**11  # pixels along a side, beyond which float32 is too coarse for places between them, and their numbers


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
    """Batches of images for `fit_batches`, in another order and distorted otherwise in every epoch, so that a network
    learns what stays the same.

    Parameters
    ----------
    X : array_like
        Images (n, height, width) or (n, height, width, channels), or with `shape` rows of pixels (n, pixels). Numbers
        of any kind. Not copied: an array in a file (numpy.memmap) is read batch by batch.
    y : array_like
        The target or the label of each image, as `fit` takes them.
    sample_weight : array_like (n,), optional
        How much each image counts.
    batch_size : int, default 32
        Images in a batch; the last one of an epoch may have fewer.
    shift : int, default 2
        How many pixels an image moves at most, down or up and right or left: whole ones, all equally likely. Fewer than
        its sides have.
    rotate : float, default 10
        By how many degrees (up to 180) it turns at most about its center, one way or the other.
    zoom : float, default 0.1
        It gets larger or smaller by a factor from 1 / (1 + zoom) to 1 + zoom, the same for height and width. Up to 10.
    flip : False or "horizontal", default False
        Whether half of the images have left and right exchanged: for things, not for digits and letters.
    elastic : float, default 0
        By how many pixels a place in the image is pulled away, smoothly over the image: the standard deviation, down
        and right by itself (Simard et al., 2003). 1 is a lot for 28 x 28.
    fill : float, default 0
        The background: what comes in from outside of the image, a number that X can hold.
    shape : (height, width) or (height, width, channels), optional
        What the rows of X are images of. Batches have rows then, too.
    shuffle : bool, default True
        Whether every epoch has another order.
    seed : int, optional
        From 0 to 2**64 - 1; the same one gives the same batches. Default: a random one, which `seed` of what is
        returned tells.
    epoch : int, default 0
        The number of the first epoch. A training of which 10 epochs are done goes on with epoch=10 (and the seed)
        to the batches that it would have had.

    Returns
    -------
    Augmented
        Each time that it is gone through it gives the batches of the next epoch, (X, y) or (X, y, sample_weight).
        `len` of it is their number.

    Raises
    ------
    ValueError, TypeError
        X is no images, y or sample_weight are not as many, or another argument is not as above.

    Notes
    -----
    An image is flipped, zoomed and turned, bent, shifted, and read by bilinear interpolation (in float64 where X
    is float64 or of integers of more than 16 bits, otherwise in float32). X keeps its type: integers are rounded to the
    nearest, from the middle to the even one. Where only shifts and flips are asked for, every pixel stays what it is.

    How an image is distorted depends on the seed, the epoch and its place in the order, not on `batch_size`.

    Examples
    --------
    net.fit_batches(nnc.augment(X, y, shift=2, rotate=10, seed=0), epochs=10)
    """
    images = as_real_array("X", X)
    one = _shape(images, shape)
    out = min(one[:2]) - 1  # a pixel farther there might be nothing left
    of = f" for images of shape {one}"
    distortion = Distortion(
        one,
        int(_up_to(out, "shift", check_count("shift", shift, 0), of)),
        _up_to(180, "rotate", rotate),
        _up_to(10, "zoom", zoom),
        _flips(flip),
        _up_to(out, "elastic", elastic, of),
        _fill(fill, images.dtype),
        _work(images, one),
    )
    others = {"y": as_label_array(y)}
    if sample_weight is not None:
        others["sample_weight"] = as_real_array("sample_weight", sample_weight)
    for name, array in others.items():
        if array.ndim == 0 or len(array) != len(images):
            got = f"shape {array.shape} for {pluralize(len(images), 'image')}"
            raise ValueError(f"{name} must have one row for each image of X, got {got}")
    return Augmented(
        [images, *others.values()],
        distortion,
        check_count("batch_size", batch_size),
        check_bool("shuffle", shuffle),
        check_seed(seed),
        check_count("epoch", epoch, 0),
    )


class Augmented:
    """What `augment` returns: an iterable of batches, which can be gone through once for every epoch.

    Attributes
    ----------
    seed : int
    epoch : int
        The number of the next epoch, which may be set: with 0 everything comes once more.
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
        # Here and not where an iterator is made: `fit_batches` makes one just to see what it gets.
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
    """How images (m, height, width, ...) are distorted; the arguments are those of `augment`, checked, and `work`, the
    type that is interpolated in."""

    shape: tuple[int, ...]
    shift: int
    rotate: float
    zoom: float
    flips: bool
    elastic: float
    fill: Any
    work: np.dtype[Any]
    block: int
    bumps: list[NDArray[Any]]

    def __init__(
        self,
        shape: tuple[int, ...],
        shift: int,
        rotate: float,
        zoom: float,
        flips: bool,
        elastic: float,
        fill: Any,
        work: np.dtype[Any],
    ) -> None:
        self.shape, self.shift, self.rotate, self.zoom, self.flips, self.fill = shape, shift, rotate, zoom, flips, fill
        self.elastic, self.work = elastic, work
        self.block = max(1, PIECE // (prod(shape) * work.itemsize))
        self.bumps = [_bumps(n).astype(work) for n in shape[:2]]

    def __call__(self, images: NDArray[Any], stream: Stream) -> None:
        """Distorts the images in place, by numbers that are drawn."""
        for first in range(0, len(images), self.block):
            piece = images[first : first + self.block]
            self.distort(piece, stream.uniform((len(piece), 5 + (2 * KNOTS**2 if self.elastic else 0))))

    def distort(self, images: NDArray[Any], draws: NDArray[np.float64]) -> None:
        """The same with numbers from 0 to 1, a row for each image."""
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
        y, x = self.places(angles, factors, shifts)
        if self.elastic:
            pulls = (draws[:, 5:].astype(self.work) - 0.5) * (sqrt(12) * self.elastic)
            fields = self.bumps[0] @ pulls.reshape(-1, 2, KNOTS, KNOTS) @ self.bumps[1].T
            y += fields[:, 0]
            x += fields[:, 1]
        images[...] = interpolated(images, y, x, self.fill)

    def places(
        self, angles: NDArray[Any], factors: NDArray[Any], shifts: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Row and column (m, height, width) of where each pixel comes from: of images that are zoomed by the factors,
        turned by the angles (radians, counterclockwise) about their center, then shifted (down, right)."""
        down, right = ((np.arange(n) - (n - 1) / 2) - shifts[:, [i]] for i, n in enumerate(self.shape[:2]))
        cosine, sine = (np.cos(angles) / factors)[:, None], (np.sin(angles) / factors)[:, None]
        center_y, center_x = ((n - 1) / 2 for n in self.shape[:2])
        # A sum of what depends on the row and what depends on the column: one addition for each pixel.
        parts = cosine * down + center_y, sine * right, -sine * down + center_x, cosine * right
        a, b, c, d = (part.astype(self.work) for part in parts)
        return a[:, :, None] + b[:, None], c[:, :, None] + d[:, None]


def shifted(images: NDArray[Any], shifts: NDArray[np.intp], fill: Any) -> NDArray[Any]:
    """Images moved by whole pixels (down, right): windows of what has a border all around."""
    m, height, width = images.shape[:3]
    border = int(np.abs(shifts).max())
    wide = _framed(images, border, border, fill, images.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (height, width), axis=(1, 2))
    found = windows[np.arange(m), border - shifts[:, 0], border - shifts[:, 1]]
    return found if images.ndim == 3 else np.moveaxis(found, 1, -1)  # the axes of a window come last


def interpolated(images: NDArray[Any], y: NDArray[Any], x: NDArray[Any], fill: Any) -> NDArray[Any]:
    """What lies at rows y and columns x (m, height, width) between the pixels of the images; y and x are
    overwritten."""
    m, height, width = images.shape[:3]
    # In a frame that is wide enough for the neighbors of every place that is left.
    flat = _framed(images, 1, 2, fill, y.dtype).reshape(-1, *images.shape[3:])
    line, whole = width + 3, (height + 3) * (width + 3)
    for places, n in ((y, height), (x, width)):
        np.clip(places, -1, n, out=places)  # farther out there is nothing but the background either
    top, left = np.floor(y), np.floor(x)
    y -= top
    x -= left
    top *= line
    top += left
    index = top.astype(np.intp)
    index += (np.arange(m) * whole + line + 1)[:, None, None]
    if images.ndim == 4:
        y, x = y[..., None], x[..., None]
    with np.errstate(over="ignore", invalid="ignore"):  # a fit refuses what is not finite, and says where
        upper, lower = (_between(flat[i:].take(index, 0), flat[i + 1 :].take(index, 0), x) for i in (0, line))
        found = _between(upper, lower, y)
    return np.rint(found, out=found) if images.dtype.kind in "iub" else found


def _between(a: NDArray[Any], b: NDArray[Any], share: NDArray[Any]) -> NDArray[Any]:
    """A share of the way from a to b, in the memory of b; where they are the same, they."""
    b -= a
    b *= share
    b += a
    return b


def _framed(images: NDArray[Any], before: int, after: int, fill: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The images with a border of background."""
    m, height, width = images.shape[:3]
    wide = np.full((m, height + before + after, width + before + after, *images.shape[3:]), fill, dtype)
    wide[:, before : before + height, before : before + width] = images
    return wide


def _bumps(n: int) -> NDArray[np.float64]:
    """How much each knot pulls at each pixel of a side (n, KNOTS): bell curves as wide as knots are apart. Each row has
    the length 1, so that where independent pulls meet, their sum spreads as each of them does."""
    at, knots = np.linspace(0, KNOTS - 1, n), np.arange(KNOTS)
    bumps: NDArray[np.float64] = np.exp(-((at[:, None] - knots) ** 2) / 2)
    bumps /= np.linalg.norm(bumps, axis=1, keepdims=True)
    return bumps


# ------------------------------------------------------------------------------------------------- arguments


def _shape(images: NDArray[Any], shape: Sequence[int] | None) -> tuple[int, ...]:
    """That of one image."""
    if shape is None:
        if images.ndim not in (3, 4) or images.size == 0:
            hint = "; rows of pixels need shape=(height, width)" if images.ndim == 2 else ""
            expected = "images (n, height, width) or (n, height, width, channels)"
            raise ValueError(f"X must be {expected}, got shape {images.shape}{hint}")
        return images.shape[1:]
    if not isinstance(shape, (tuple, list)) or len(shape) not in (2, 3):
        raise ValueError(f"shape must be (height, width) or (height, width, channels), got {shown(shape)}")
    checked = tuple(check_count("shape", n) for n in shape)
    if images.ndim != 2 or images.shape[1] != prod(checked) or len(images) == 0:
        expected = f"(n, {prod(checked)}), rows of images of shape {checked}"
        raise ValueError(f"X must have shape {expected}, got {images.shape}")
    return checked


def _up_to(most: int, name: str, value: Any, of: str = "") -> float:
    return build_check(lambda number: 0 <= number <= most, f"from 0 to {most}{of}")(name, value)


def _work(images: NDArray[Any], shape: tuple[int, ...]) -> np.dtype[Any]:
    """The type to interpolate in."""
    if images.dtype.kind in "iu" and images.dtype.itemsize == 8 and max(-int(images.min()), int(images.max())) > EXACT:
        raise ValueError(
            f"X must have whole numbers up to 2**53, got {images.dtype} with larger ones; make them floats"
        )
    return np.result_type(images.dtype, np.float64 if max(shape[:2]) > WIDE else np.float32)


def _flips(flip: Any) -> bool:
    if flip is not False and not (isinstance(flip, str) and flip == "horizontal"):
        raise ValueError(f'flip must be False or "horizontal", got {shown(flip)}')
    return flip is not False


def _fill(fill: Any, dtype: np.dtype[Any]) -> Any:
    """The background as X can hold it."""
    number = check_finite("fill", fill)
    if dtype.kind == "f":
        fits = abs(number) <= float(np.finfo(dtype).max)
    else:
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        fits = low <= number <= high and number == int(number)
    if not fits:
        raise ValueError(f"fill must be a number that X, of {dtype}, can hold, got {shown(fill)}")
    return dtype.type(number)
