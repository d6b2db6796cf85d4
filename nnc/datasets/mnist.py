"""Loaders of MNIST and Fashion-MNIST from the four files of the original distributions."""

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
_FILES = [f"{part}-{content}-ubyte" for part in ("train", "t10k") for content in ("images-idx3", "labels-idx1")]
_EXPECTED = f"the files {', '.join(_FILES[:-1])} and {_FILES[-1]}, each with or without .gz, with '-' or '.' before idx"


class TrainAndTest(NamedTuple):
    """Training and test images with their labels."""

    X_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    X_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]


def load_mnist(folder: str | bytes | os.PathLike[Any]) -> TrainAndTest:
    """Load MNIST, 70,000 images of handwritten digits, 28 x 28 pixels each, from a folder with its files.

    Parameters
    ----------
    folder : str, bytes or os.PathLike
        Folder with the files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
        t10k-labels-idx1-ubyte. Each may be compressed (.gz), or named like train-images.idx3-ubyte. Nothing is
        downloaded.

    Returns
    -------
    TrainAndTest
        Named tuple of four arrays. X_train (60000, 28, 28) and X_test (10000, 28, 28) are uint8 pixels from 0 (paper)
        to 255 (ink); `X_train[i]` is image i. y_train (60000,) and y_test (10000,) are int64 digits from 0 to 9.

    Raises
    ------
    OSError
        The folder or a file is missing, a file is not a valid IDX file (see `read_idx`), or there is not one label
        from 0 to 9 for each image. The message names the file and states what is expected.
    TypeError
        `folder` is not a path.

    Notes
    -----
    The data set is by Y. LeCun, C. Cortes and C. Burges, license CC BY-SA 3.0. The numbers of images and pixels are
    determined by the files. So parts of MNIST, and other data sets in the same format (KMNIST), can be loaded.

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
        Folder with the files, which have the same names as those of `load_mnist`. The Debian package
        dataset-fashion-mnist installs them in /usr/share/datasets/fashion-mnist.

    Returns
    -------
    TrainAndTest
        Named tuple of four arrays: X_train (60000, 28, 28) and X_test (10000, 28, 28) are pixels of type uint8, from 0
        (background) to 255. y_train (60000,) and y_test (10000,) are classes from 0 to 9 of type int64;
        `FASHION_MNIST_CLASSES[y_train[i]]` is the name of the class of image i.

    Raises
    ------
    OSError, TypeError
        The files cannot be loaded, or `folder` is not a path; see `load_mnist`.

    Notes
    -----
    The data set is by H. Xiao, K. Rasul and R. Vollgraf (2017), https://github.com/zalandoresearch/fashion-mnist,
    license MIT.
    """
    return _load(folder, "Fashion-MNIST")


def _load(folder: Any, name: str) -> TrainAndTest:
    paths = _find_files(disk.check_path("folder", folder), name)
    train, test = _read_part(paths[0], paths[1], name), _read_part(paths[2], paths[3], name)
    if train[0].shape[1:] != test[0].shape[1:]:
        sizes = [" x ".join(map(str, images.shape[1:])) for images, _ in (train, test)]
        raise OSError(
            f"cannot load {name}: training and test images must have the same size, got {sizes[0]} pixels in "
            f"{paths[0]!r} and {sizes[1]} in {paths[2]!r}"
        )
    return TrainAndTest(*train, *test)


def _find_files(folder: str, name: str) -> list[str]:
    """Return the paths of the four files of a data set in the format of MNIST, in the order of `_FILES`."""
    try:
        present = set(os.listdir(folder))
    except FileNotFoundError:
        reason = f"there is no folder {os.path.realpath(folder)!r}; expected a folder with {_EXPECTED}"
        raise FileNotFoundError(errno.ENOENT, f"cannot load {name}: {reason}", folder) from None
    except NotADirectoryError:
        reason = f"this is not a folder; expected a folder with {_EXPECTED}"
        raise NotADirectoryError(errno.ENOTDIR, f"cannot load {name}: {reason}", folder) from None
    except (OSError, ValueError) as error:
        raise disk.explain_error(error, "load", folder, f"folder of {name}") from None
    paths, missing = [], []
    for file in _FILES:
        names = [stem + extension for stem in (file, file.replace("-idx", ".idx")) for extension in ("", ".gz")]
        candidates = [os.path.join(folder, name) for name in names if name in present]
        # Some archives contain, in addition to the file, a folder with the same name.
        path = next((path for path in candidates if not os.path.isdir(path)), None)
        if path is None:
            missing.append(file)
        else:
            paths.append(path)
    if missing:
        reason = f"the folder {os.path.realpath(folder)!r} has no {' and no '.join(missing)}; expected {_EXPECTED}"
        raise FileNotFoundError(errno.ENOENT, f"cannot load {name}: {reason}", folder)
    return paths


def _read_part(images_path: str, labels_path: str, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return training or test images and their labels; raise OSError unless each image has a label from 0 to 9."""
    images, labels = read_idx(images_path), read_idx(labels_path)
    for array, path, ndim, expected in (
        (images, images_path, 3, "images x height x width"),
        (labels, labels_path, 1, "one label for each image"),
    ):
        if array.dtype != np.uint8 or array.ndim != ndim or array.size == 0:
            content = f"an array of shape {array.shape} and type {array.dtype}"
            raise OSError(f"cannot load {name}: {path!r} must contain {expected} of type uint8, got {content}")
    if len(images) != len(labels):
        raise OSError(
            f"cannot load {name}: there must be one label for each image, got {pluralize(len(images), 'image')} in "
            f"{images_path!r} and {pluralize(len(labels), 'label')} in {labels_path!r}"
        )
    if labels.max() > 9:
        raise OSError(f"cannot load {name}: labels must be from 0 to 9, got {labels.max()} in {labels_path!r}")
    return images, labels.astype(np.int64)
