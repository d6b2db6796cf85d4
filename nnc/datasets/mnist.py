"""MNIST and Fashion-MNIST, from the four files that they are known by."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._utils import disk
from nnc._utils.checks import pluralize
from nnc.datasets.idx import read_idx

if TYPE_CHECKING:
    from numpy.typing import NDArray

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FILES = [f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
_EXPECTED = f"the files {', '.join(_FILES[:-1])} and {_FILES[-1]}, each with or without .gz, with '-' or '.' before idx"


class TrainAndTest(NamedTuple):
    """Images to learn from and images to test on, with their labels."""

    X_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    X_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]


def load_mnist(folder: str | bytes | os.PathLike[Any]) -> TrainAndTest:
    """Load MNIST, 70,000 images of handwritten digits, 28 x 28 pixels each, from a folder with its files.

    Parameters
    ----------
    folder : str, bytes or os.PathLike
        Where train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte are,
        each as it is or compressed (.gz), or named as in train-images.idx3-ubyte. Nothing is downloaded.

    Returns
    -------
    X_train : ndarray of uint8, shape (60000, 28, 28)
        The pixels, from 0 (paper) to 255 (ink): `X_train[i]` is image i.
    y_train : ndarray of int64, shape (60000,)
        The digit, 0 to 9.
    X_test : ndarray of uint8, shape (10000, 28, 28)
    y_test : ndarray of int64, shape (10000,)
        A named tuple: `load_mnist(folder).X_test` works as well.

    Raises
    ------
    OSError
        As of `read_idx`; or the folder or one of the files is missing, or images and labels do not go together. The
        message says which, and what is expected.
    TypeError
        `folder` is no path.

    Notes
    -----
    By Y. LeCun, C. Cortes and C. Burges, license CC BY-SA 3.0. The numbers of images and pixels are those that the
    files have, so that a part of MNIST, or another data set in its place (KMNIST), loads as well.

    Examples
    --------
    X_train, y_train, X_test, y_test = load_mnist("mnist")
    X = X_train.reshape(len(X_train), -1) / np.float32(255)  # rows of 784 numbers from 0 to 1
    """
    return _load(folder, "MNIST")


def load_fashion_mnist(folder: str | bytes | os.PathLike[Any]) -> TrainAndTest:
    """Load Fashion-MNIST, 70,000 images of clothes, shoes and bags, 28 x 28 pixels each, from a folder with its files.

    Parameters
    ----------
    folder : str, bytes or os.PathLike
        As of `load_mnist`, for the files have the same names. Debian's package dataset-fashion-mnist puts them into
        /usr/share/datasets/fashion-mnist.

    Returns
    -------
    X_train : ndarray of uint8, shape (60000, 28, 28)
        The pixels, from 0 (background) to 255.
    y_train : ndarray of int64, shape (60000,)
        The class, 0 to 9, whose name is `FASHION_MNIST_CLASSES[y_train[i]]`.
    X_test : ndarray of uint8, shape (10000, 28, 28)
    y_test : ndarray of int64, shape (10000,)
        A named tuple, as of `load_mnist`.

    Raises
    ------
    OSError, TypeError
        As of `load_mnist`.

    Notes
    -----
    By H. Xiao, K. Rasul and R. Vollgraf (2017), https://github.com/zalandoresearch/fashion-mnist, license MIT.
    """
    return _load(folder, "Fashion-MNIST")


def _load(folder: Any, name: str) -> TrainAndTest:
    if not isinstance(folder, disk.PATH):
        raise TypeError(f"folder must be a path (str or os.PathLike), got {type(folder).__name__}")
    paths = _paths(os.fsdecode(folder), name)
    train, test = _part(paths[0], paths[1], name), _part(paths[2], paths[3], name)
    if train[0].shape[1:] != test[0].shape[1:]:
        sizes = [" x ".join(map(str, images.shape[1:])) for images, _ in (train, test)]
        raise OSError(
            f"cannot load {name}: the images in {paths[0]!r} have {sizes[0]} pixels, those in {paths[2]!r} {sizes[1]}; "
            "they are of different data sets"
        )
    return TrainAndTest(*train, *test)


def _paths(folder: str, name: str) -> list[str]:
    """Where the files are, in the order of _FILES."""
    try:
        there = set(os.listdir(folder))
    except FileNotFoundError:
        why = f"there is no folder {os.path.realpath(folder)!r}; expected is one with {_EXPECTED}"
        raise FileNotFoundError(errno.ENOENT, f"cannot load {name}: {why}", folder) from None
    except NotADirectoryError:
        why = f"this is no folder; expected is one with {_EXPECTED}"
        raise NotADirectoryError(errno.ENOTDIR, f"cannot load {name}: {why}", folder) from None
    except (OSError, ValueError) as error:
        raise disk.explained(error, "load", folder, f"folder of {name}") from None
    paths, missing = [], []
    for file in _FILES:
        names = [plain + end for plain in (file, file.replace("-idx", ".idx")) for end in ("", ".gz")]
        candidates = [os.path.join(folder, name) for name in names if name in there]
        # Some archives unpack to a folder of this name with the file in it, beside the file.
        path = next((path for path in candidates if not os.path.isdir(path)), None)
        if path is None:
            missing.append(file)
        else:
            paths.append(path)
    if missing:
        why = f"the folder {os.path.realpath(folder)!r} has no {' and no '.join(missing)}; expected are {_EXPECTED}"
        raise FileNotFoundError(errno.ENOENT, f"cannot load {name}: {why}", folder)
    return paths


def _part(of_images: str, of_labels: str, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images and labels that go together."""
    images, labels = read_idx(of_images), read_idx(of_labels)
    for array, path, ndim, expected in (
        (images, of_images, 3, "images x height x width"),
        (labels, of_labels, 1, "one label for each image"),
    ):
        if array.dtype != np.uint8 or array.ndim != ndim or array.size == 0:
            found = f"an array of shape {array.shape} and type {array.dtype}"
            raise OSError(f"cannot load {name}: {path!r} must hold {expected} of type uint8, got {found}")
    if len(images) != len(labels):
        raise OSError(
            f"cannot load {name}: images and labels must be as many, got {pluralize(len(images), 'image')} in "
            f"{of_images!r} and {pluralize(len(labels), 'label')} in {of_labels!r}"
        )
    if labels.max() > 9:
        raise OSError(f"cannot load {name}: labels must be from 0 to 9, got {labels.max()} in {of_labels!r}")
    return images, labels.astype(np.int64)
