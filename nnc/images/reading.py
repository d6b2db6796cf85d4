"""Images and their labels from folders, files and arrays.

A training folder has one subfolder for each class. All images are scaled to the same size, and converted to gray, or
to RGB if any of them has colors.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._data.targets import as_labels
from nnc._utils.checks import pluralize
from nnc._utils.containers import as_array
from nnc._utils.notices import warn_user
from nnc.datasets.idx import read_idx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    Warn: TypeAlias = Callable[[str], None]

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
# Images are scaled until both sides are in this range, in pixels. The default network is designed for such images.
MIN_IMAGE_SIDE, MAX_IMAGE_SIDE = 12, 40
GRAY_MODES = ("1", "L")  # names of the modes of gray images in Pillow
EXIF_ORIENTATION = 0x0112  # number of the EXIF tag that describes how the camera was held
SIDEWAYS = (5, 6, 7, 8)  # values of this tag that exchange width and height
MAX_SKIPPED_NAMES = 5  # maximum number of skipped files whose names are listed


class ImageWarning(UserWarning):
    """Warning about skipped files, or about images that differ from the training images."""


def warn_of_images(message: str) -> None:
    """Issue an ImageWarning that refers to the line of the user's code."""
    warn_user(message, ImageWarning)


class Images(NamedTuple):
    """Images that were read and scaled.

    Attributes
    ----------
    source : str
        Path of the folder or file, or name of the argument, for messages.
    files : list of str
        Paths of image files, or the indices of the images in an array or IDX file.
    sizes : float array (n, 2)
        Width and height of each image before scaling, in pixels.
    X : uint8 array (n, height, width) or (n, height, width, 3)
        Pixels after scaling.
    """

    source: str
    files: list[str]
    sizes: NDArray[np.float64]
    X: NDArray[np.uint8]

    def inverted(self) -> Images:
        """Return the images with dark and light exchanged."""
        return self._replace(X=255 - self.X)


def read_labelled(
    X: Any, y: Any, warn: Warn, size: tuple[int, int] | None = None, gray: bool | None = None
) -> tuple[Images, NDArray[Any]]:
    """Read images and their labels.

    Parameters
    ----------
    X : path, sequence of paths, uint8 array or Images
        Folder with one subfolder for each class, IDX file, image files, or pixels.
    y : array (n,), path or None
        Labels, or an IDX file of labels; None for a folder.
    warn : callable
        Function that receives a message about skipped files.
    size, gray
        Size and color of the images, as in `_read_files`.

    Returns
    -------
    images : Images
    labels : array (n,)
    """
    if is_path(X) and os.path.isdir(X):
        if y is not None:
            raise ValueError(
                "y must be None for a folder, whose subfolders are the classes, got labels; pass the list of the files "
                "instead of the folder"
            )
        return _read_class_folders(os.fspath(X), warn, size, gray)
    if y is None:
        raise ValueError("y must be the labels of the images, got None; only a folder of class folders needs no labels")
    images = X if isinstance(X, Images) else _read_idx(os.fspath(X)) if is_path(X) else _read_items(X, size, gray)
    name, labels = (os.fspath(y), read_idx(y)) if is_path(y) else ("y", as_labels(y, len(images.X)))
    if labels is None or labels.shape != (len(images.X),):
        shape = np.shape(y) if labels is None else labels.shape
        raise ValueError(f"{name} must contain a label for each of the {len(images.X)} images, got shape {shape}")
    return images, labels


def read_unlabelled(X: Any, warn: Warn, size: tuple[int, int], gray: bool) -> Images:
    """Read images without labels from a folder, an IDX file, image files or an array.

    Parameters
    ----------
    X : path, sequence of paths or uint8 array
        The folder may have subfolders.
    warn : callable
        Function that receives a message about skipped files.
    size, gray
        Size and color of the images, as in `_read_files`.
    """
    if not is_path(X):
        return _read_items(X, size, gray)
    path = os.fspath(X)
    if os.path.isdir(path):
        return _read_files(path, _list_tree(path, warn), size, gray)
    return _read_idx(path) if is_idx(path) else _read_files(path, [path], size, gray)


def list_images(folder: str | os.PathLike[str]) -> list[str]:
    """Return the paths of all images in a folder and its subfolders, in the order of `ImageClassifier.predict`.

    Parameters
    ----------
    folder : str or os.PathLike

    Returns
    -------
    list of str
        Paths that begin with `folder`.

    Raises
    ------
    ValueError
        The folder contains no images.

    Warns
    -----
    ImageWarning
        Files were skipped, because they do not have the extension of an image.
    """
    return _list_tree(os.fspath(folder), warn_of_images)


def encode_classes(source: str, labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """Return the classes, the index of the class of each image, and the number of images of each class.

    Raise ValueError unless there are at least two classes with two images each; `source` is their name in the message.
    """
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"{source} must contain images of at least two classes, got only {classes[0]}")
    if counts.min() < 2:
        raise ValueError(
            f"{source} must contain at least two images of each class, got only one of class {classes[counts.argmin()]}"
        )
    return classes, index, counts


def class_indices(classes: Sequence[Any], labels: NDArray[Any]) -> NDArray[np.intp]:
    """Return the index in `classes` of each label, compared as text; -1 for an unknown class."""
    index = {str(label): i for i, label in enumerate(classes)}
    return np.array([index.get(str(label), -1) for label in labels.tolist()], np.intp)


def is_path(value: Any) -> bool:
    """Return whether a value is a path."""
    return isinstance(value, (str, os.PathLike))


def is_idx(path: str) -> bool:
    """Return whether a path is a file that starts with the first bytes of an IDX file or of a gzip file."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        start = file.read(2)
    return start in (b"\0\0", b"\x1f\x8b")


# ------------------------------------------------------------------------------------ folders and arrays


def _read_class_folders(
    path: str, warn: Warn, size: tuple[int, int] | None, gray: bool | None
) -> tuple[Images, NDArray[Any]]:
    """Read the images of a folder with a subfolder for each class; the names of the subfolders are the labels."""
    skipped: list[str] = []
    classes = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    files = [(label, file) for label in classes for file in _list_folder(os.path.join(path, label), skipped)]
    if not files:
        extensions = ", ".join(IMAGE_EXTENSIONS[:3])
        raise ValueError(f"{path} must have a subfolder with images ({extensions}, ...) for each class, got none")
    _warn_of_skipped(skipped, path, warn)
    images = _read_files(path, [file for _, file in files], size, gray)
    return images, np.array([label for label, _ in files])


def _list_tree(path: str, warn: Warn) -> list[str]:
    """Return the paths of the images in a folder and its subfolders; raise ValueError if there are none."""
    skipped: list[str] = []
    files = [file for folder, _, _ in sorted(os.walk(path)) for file in _list_folder(folder, skipped)]
    if not files:
        raise ValueError(f"{path} contains no images ({', '.join(IMAGE_EXTENSIONS[:3])}, ...)")
    _warn_of_skipped(skipped, path, warn)
    return files


def _list_folder(folder: str, skipped: list[str]) -> list[str]:
    """Return the sorted paths of the images in a folder; append other files to `skipped`, except hidden ones."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    is_image = {name: name.lower().endswith(IMAGE_EXTENSIONS) for name in names}
    skipped += [os.path.join(folder, name) for name in names if not is_image[name]]
    return [os.path.join(folder, name) for name in names if is_image[name]]


def _warn_of_skipped(skipped: Sequence[str], folder: str, warn: Warn) -> None:
    """Warn of files that were skipped, because their extension is not that of an image."""
    if skipped:
        names = ", ".join(os.path.relpath(path, folder) for path in skipped[:MAX_SKIPPED_NAMES])
        more = f" and {len(skipped) - MAX_SKIPPED_NAMES} more" if len(skipped) > MAX_SKIPPED_NAMES else ""
        warn(f"skipped {pluralize(len(skipped), 'file')} without the extension of an image: {names}{more}")


def _read_idx(path: str) -> Images:
    """Read an IDX file of images; raise ValueError if it contains other data."""
    return _from_array(path, read_idx(path))


def _read_items(X: Any, size: tuple[int, int] | None, gray: bool | None) -> Images:
    """Return the images in a sequence of paths or in an array."""
    array = X if isinstance(X, (list, tuple)) else as_array("X", X)
    if len(array) and all(map(is_path, array)):
        return _read_files("X", list(map(os.fspath, array)), size, gray)
    return _from_array("X", as_array("X", X))


def _from_array(source: str, X: NDArray[Any]) -> Images:
    """Return the images in an array; raise ValueError if it contains other data."""
    if X.ndim not in (3, 4) or X.dtype != np.uint8 or len(X) < 1 or min(X.shape[1:3]) < MIN_IMAGE_SIDE:
        raise ValueError(
            f"{source} must contain uint8 images of shape (n, height, width) with sides of at least {MIN_IMAGE_SIDE} "
            f"pixels, got {X.dtype} of shape {X.shape}"
        )
    return Images(source, [str(i) for i in range(len(X))], np.full((len(X), 2), X.shape[2:0:-1], np.float64), X)


# ------------------------------------------------------------------------------------ image files


def _read_files(
    source: str, files: Sequence[str], size: tuple[int, int] | None = None, gray: bool | None = None
) -> Images:
    """Read images, in color if any of them has colors.

    Each image is scaled before the next one is read, so only one image is in memory in its full size.

    Parameters
    ----------
    source : str
        Name of the images in messages.
    files : sequence of str
        Paths of the images.
    size : (int, int), optional
        Height and width to which the images are scaled. Default: the most frequent size, within the limits of the
        default network.
    gray : bool, optional
        Whether to convert the images to gray. Default: the images stay in color unless all of them are gray.
    """
    sizes = []
    for file in files:
        with _open_image(file) as image:
            sizes.append(_upright_size(image))
    if size is None:
        (width, height), _ = Counter(sizes).most_common(1)[0]
        scale = min(1.0, MAX_IMAGE_SIDE / max(width, height))
        size = (max(MIN_IMAGE_SIDE, round(scale * height)), max(MIN_IMAGE_SIDE, round(scale * width)))
    images = [_read_image(file, size, gray) for file in files]
    if gray is None:
        gray = all(image.mode == "L" for image in images)
    X = np.stack([np.asarray(image.convert("L" if gray else "RGB")) for image in images])
    return Images(source, list(files), np.array(sizes, np.float64), X)


@contextmanager
def _open_image(file: str) -> Iterator[Any]:
    """Open an image with Pillow, which reads only the header; raise ValueError if the file is not a valid image."""
    try:
        from PIL import Image
    except ImportError as error:
        from nnc._utils.packages import missing_package

        raise missing_package("reading of image files", "Pillow", error, "images") from error
    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} cannot be read as an image: {' '.join(str(error).split())}") from None


def _read_image(file: str, size: tuple[int, int], gray: bool | None) -> Any:
    """Read an image and scale it to `size`, (height, width); convert it to gray or RGB unless `gray` is None."""
    with _open_image(file) as image:
        from PIL import Image, ImageOps

        image.load()
        if _exif_orientation(image) != 1:
            ImageOps.exif_transpose(image, in_place=True)
        is_transparent = "A" in image.getbands() or "transparency" in image.info
        result = _on_white(image) if is_transparent else image.convert("L" if image.mode in GRAY_MODES else "RGB")
    if gray is not None:
        result = result.convert("L" if gray else "RGB")
    return result if result.size == size[::-1] else result.resize(size[::-1], Image.Resampling.BILINEAR)


def _upright_size(image: Any) -> tuple[int, int]:
    """Return width and height of an image that is open, after its EXIF orientation has been applied.

    Pixels are not read. In TIFF files, whose EXIF tags are not in `info`, Pillow has exchanged the sides already.
    """
    width, height = image.size
    is_sideways = "exif" in image.info and _exif_orientation(image) in SIDEWAYS
    return (height, width) if is_sideways else (width, height)


def _exif_orientation(image: Any) -> int:
    """Return the EXIF orientation of an image; 1 (upright) if it has none, or if its EXIF tags are invalid."""
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # Pillow documents no exceptions for invalid tags; the pixels of such an image are valid
        return 1


def _on_white(image: Any) -> Any:
    """Return an opaque copy of a transparent image, with a white background."""
    from PIL import Image

    foreground = image.convert("RGBA")
    background = Image.new("RGBA", foreground.size, "white")
    background.alpha_composite(foreground)
    return background.convert("L" if image.mode == "LA" else "RGB")
