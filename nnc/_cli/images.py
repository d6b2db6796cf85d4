"""Training and prediction on images: `nnc train --images FOLDER`, and `nnc predict` with a model of images.

A training folder has one subfolder for each class. All images are scaled to the same size, and converted to gray, or
to RGB if any of them has colors.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from contextlib import contextmanager
from hashlib import file_digest, sha256
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

import nnc
from nnc._cli import image_notes
from nnc._cli.arguments import UsageError
from nnc._cli.image_notes import Images
from nnc._cli.models import refuse_existing, select_network
from nnc._cli.numbers import build_predictions
from nnc._cli.outputs import write_rows
from nnc._cli.paths import IMAGE_EXTENSIONS, UNFINISHED_IMAGES
from nnc._cli.runs import check_files, current_time, open_log, provenance, report_end
from nnc._cli.screen import ProgressBar, Screen, format_record
from nnc._cli.terminal import print_text
from nnc._report.outcomes import ClassScores
from nnc._utils import disk
from nnc._utils.checks import pluralize
from nnc._utils.text_table import aligned
from nnc.datasets import read_idx, train_test_split
from nnc.layers import small_images

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

# Images are scaled until both sides are in this range, in pixels. The default network is designed for such images.
MIN_IMAGE_SIDE, MAX_IMAGE_SIDE = 12, 40
VALIDATION_FRACTION = 0.2  # fraction of the images that are held out for validation
BATCH_SIZE = 128  # number of images in a mini-batch; divided by 4 for small training sets
SMALL_SET_IMAGES = 2000  # training sets with fewer images have smaller mini-batches
MIN_EPOCHS, MAX_EPOCHS = 18, 90  # minimum and maximum number of epochs if --epochs is not passed
MIN_STEPS = 1500  # if --epochs is not passed, train at least this number of steps, but at most MAX_EPOCHS epochs
LEARNING_RATE = 4e-3  # maximum learning rate of the one-cycle schedule
GRAY_MODES = ("1", "L")  # names of the modes of gray images in Pillow
MAX_SKIPPED_NAMES = 5  # maximum number of skipped files whose names are printed


# ----------------------------------------------------------------------------- training on images


def train(arguments: Namespace) -> int:
    """Run `nnc train --images`, which trains the default network for small images; return the exit status."""
    screen, unfinished = Screen(arguments.quiet), arguments.output + UNFINISHED_IMAGES
    check_files(arguments, unfinished)
    images, image_labels, digest = _read_labelled_images(arguments, screen)
    X = images.X
    classes, y, counts = _encode_classes(arguments.images, image_labels)
    screen.print(
        f"{arguments.images}: {len(X):,} images of {len(classes):,} classes, {X.shape[1]} x {X.shape[2]} pixels, "
        f"{'gray' if X.ndim == 3 else 'RGB'}"
    )
    X_train, X_val, y_train, y_val = train_test_split(
        X, y, test_size=VALIDATION_FRACTION, seed=arguments.seed, stratify=True
    )
    batch_size = BATCH_SIZE if len(X_train) >= SMALL_SET_IMAGES else BATCH_SIZE // 4
    epochs = arguments.epochs or min(MAX_EPOCHS, max(MIN_EPOCHS, ceil(MIN_STEPS * batch_size / len(X_train))))
    net = _create_or_resume(arguments, unfinished, X, len(classes))
    first_epoch = 0 if net.history is None else net.history.epochs
    origin = provenance(arguments, arguments.images, digest)
    best_accuracy, best_net = -1.0, net
    plots = [nnc.LivePlot()] if arguments.watch and not arguments.quiet else []
    with (
        open_log(arguments.log, arguments.resume) as log,
        ProgressBar(screen, epochs - first_epoch, is_hidden=arguments.watch) as bar,
    ):
        log.write("start", time=current_time(), **origin, images=len(X), classes=len(classes), seed=arguments.seed)

        def record_epoch(record: Any) -> None:
            nonlocal best_accuracy, best_net
            log.epoch(0, record)
            bar.advance(f"epoch {record['epoch']} of {epochs}  {format_record(record)}")
            if record["val_accuracy"] > best_accuracy:
                best_accuracy, best_net = record["val_accuracy"], net.copy()

        if first_epoch < epochs:
            schedule = nnc.OneCycleLR(LEARNING_RATE, epochs=epochs, final_div_factor=10)
            net.fit_batches(
                nnc.augment(X_train, y_train, batch_size=batch_size, seed=arguments.seed, epoch=first_epoch),
                epochs=epochs - first_epoch,
                **({} if first_epoch else {"optimizer": "adam", "lr": schedule}),
                validation=(X_val, y_val),
                metrics="accuracy",
                callback=[record_epoch, PeriodicCheckpoint(unfinished), *plots],
                max_seconds=arguments.max_seconds,
                n_threads=arguments.threads,
            )
        assert net.history is not None
        trained_epochs, seconds = net.history.epochs, net.history.seconds
        is_complete = trained_epochs >= epochs  # true even if Ctrl-C was pressed after the last epoch
        if not is_complete:
            net = best_net
        score = net.score(X_val, y_val)
        # Set the class labels, because the training used class indices.
        net.converter.classes, net.converter.training_images = classes, image_notes.describe(images)
        net.save(arguments.output)
        log.write(
            "end", time=current_time(), model=arguments.output, seconds=seconds, score=score, complete=is_complete
        )
    if is_complete and os.path.exists(unfinished):
        os.remove(unfinished)
    facts = {
        "images": f"{len(X_train):,} for training, {len(X_val):,} held out",
        "epochs": f"{trained_epochs} of {epochs}",
        "time": f"{seconds:.1f} s",
        **_describe_scores(net, X_val, y_val, score),
        **origin,
    }
    if arguments.report is not None:
        _write_report(arguments.report, facts, counts, net, X_val, y_val, is_complete)
    if not arguments.quiet:
        _print_facts(facts, arguments.output)
    content = f"validation accuracy {best_accuracy:.4g}" if best_accuracy >= 0 else "no epoch is complete"
    return report_end(is_complete, content, arguments, unfinished, screen)


def _describe_scores(
    net: nnc.NeuralNetwork, X_val: NDArray[Any], y_val: NDArray[Any], accuracy: float
) -> dict[str, str]:
    """Return the scores on held-out images, and the accuracy of always predicting the most frequent class."""
    scores, constant = ClassScores.compute(net.predict_proba(X_val), y_val).describe(accuracy)
    return {"held-out images": scores, "baseline": constant}


def _print_facts(facts: dict[str, str], output: str) -> None:
    """Print facts about the training and the path of the model."""
    print_text("\n".join(aligned([[name, fact] for name, fact in facts.items()])))
    print_text()
    print_text(f"saved to {output}; to use it: nnc predict {shlex.quote(output)} FOLDER")


def _encode_classes(folder: str, labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """Return the classes, the index of the class of each image, and the number of images of each class."""
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"{folder} must contain images of at least two classes, got only {classes[0]}")
    if counts.min() < 2:
        raise ValueError(
            f"{folder} must contain at least two images of each class, got only one of class {classes[counts.argmin()]}"
        )
    return classes, index, counts


def _create_or_resume(arguments: Namespace, unfinished: str, X: NDArray[Any], n_classes: int) -> nnc.NeuralNetwork:
    """Return a new network, or the network of the checkpoint if --resume is passed."""
    height, width = X.shape[1:3]
    if arguments.resume:
        net = nnc.NeuralNetwork.load(unfinished)
        if (net.model.stack.input_shape[:2], net.sizes[-1]) != ((height, width), n_classes):
            raise ValueError(
                f"{unfinished} must be the checkpoint of a training on {arguments.images}, got one for images of "
                "another size or with another number of classes"
            )
        return net
    layers = small_images(n_classes, height, width, 1 if X.ndim == 3 else X.shape[3])
    return nnc.NeuralNetwork(
        layers, activation="relu", loss="cross_entropy", dtype="float32", scale_X="pixels", seed=arguments.seed
    )


def _write_report(
    path: str,
    facts: dict[str, str],
    counts: NDArray[np.intp],
    network: nnc.NeuralNetwork,
    X: NDArray[np.uint8],
    y: NDArray[np.intp],
    is_complete: bool,
) -> None:
    """Write the report of the training as HTML.

    Parameters
    ----------
    path : str
        File to write.
    facts : dict of str to str
        Facts about the training.
    counts : int array (classes,)
        Number of images of each class.
    network : NeuralNetwork
        Trained network.
    X, y : arrays (n, height, width, ...) and (n,)
        Held-out images and the indices of their classes.
    is_complete : bool
        Whether the training was complete; otherwise the held-out images have selected the best epoch.
    """
    labels = network.classes
    assert labels is not None
    page = nnc.report(network, X, labels[y])
    page.heading = "Report of an image classifier"
    use = "neither trained the network nor chose its settings" if is_complete else "selected the best epoch so far"
    page.validation = [f"{len(X):,} images were held out: they {use}. All figures of this section count these images."]
    classes = ", ".join(f"{label} {n:,}" for label, n in zip(labels.tolist(), counts.tolist(), strict=True))
    page.facts = {**page.facts, **facts, "images of each class": classes}
    page.save(path)


class PeriodicCheckpoint:
    """Callback that saves a checkpoint every few seconds, because saving may take longer than an epoch."""

    seconds = 5.0  # minimum seconds between two calls of this callback by `fit_batches`

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, record: Any) -> None:
        record["network"].save(self.path, checkpoint=True)


def _read_labelled_images(arguments: Namespace, screen: Screen) -> tuple[Images, NDArray[Any], str]:
    """Return the training images, their labels, and the SHA-256 of the files that contain them."""
    images, labels = read_labelled(arguments.images, arguments.labels, screen)
    files = images.files if arguments.labels is None else [arguments.images, arguments.labels]
    return (images.inverted() if arguments.invert else images), labels, _digest(files)


def read_labelled(
    path: str, labels_path: str | None, screen: Screen, size: tuple[int, int] | None = None, gray: bool | None = None
) -> tuple[Images, NDArray[Any]]:
    """Read images and their labels from a folder with a subfolder for each class, or from IDX files.

    Parameters
    ----------
    path : str
        Folder or IDX file.
    labels_path : str or None
        IDX file of labels; None for a folder.
    screen : Screen
        Output for the names of skipped files.
    size, gray
        Size and color of the images, as in `read_images`.

    Returns
    -------
    images : Images
    labels : array (n,)
    """
    if os.path.isdir(path):
        if labels_path is not None:
            raise UsageError("--labels is only for IDX files; for a folder, the subfolders are the classes")
        skipped: list[str] = []
        classes = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
        files = [(label, file) for label in classes for file in _list_images(os.path.join(path, label), skipped)]
        if not files:
            extensions = ", ".join(IMAGE_EXTENSIONS[:3])
            raise ValueError(f"{path} must have a subfolder with images ({extensions}, ...) for each class, got none")
        report_skipped(skipped, path, screen)
        images = _read_images([file for _, file in files], size, gray)
        return images, np.array([label for label, _ in files])
    if labels_path is None:
        raise UsageError("--images with an IDX file requires --labels, an IDX file of labels")
    images, labels = _read_idx_images(path), read_idx(labels_path)
    if labels.shape != (len(images.X),):
        raise ValueError(
            f"{labels_path} must contain a label for each of the {len(images.X)} images, got shape {labels.shape}"
        )
    return images, labels


def report_skipped(skipped: Sequence[str], folder: str, screen: Screen) -> None:
    """Print the names of files that were skipped, because their extension is not that of an image."""
    if skipped:
        names = ", ".join(os.path.relpath(path, folder) for path in skipped[:MAX_SKIPPED_NAMES])
        more = f" and {len(skipped) - MAX_SKIPPED_NAMES} more" if len(skipped) > MAX_SKIPPED_NAMES else ""
        screen.warn(f"skipped {pluralize(len(skipped), 'file')} without the extension of an image: {names}{more}")


def _read_idx_images(path: str) -> Images:
    """Read an IDX file of images; raise ValueError if it contains other data."""
    X = read_idx(path)
    if X.ndim not in (3, 4) or X.dtype != np.uint8 or min(X.shape[1:3]) < MIN_IMAGE_SIDE:
        raise ValueError(
            f"{path} must contain uint8 images of shape (n, height, width) with sides of at least {MIN_IMAGE_SIDE} "
            f"pixels, got {X.dtype} of shape {X.shape}"
        )
    return Images([str(i) for i in range(len(X))], np.full((len(X), 2), X.shape[2:0:-1], np.float64), X)


# --------------------------------------------------------------------------- predictions for images


def predict(model: nnc.NeuralNetwork | nnc.Ensemble, arguments: Namespace) -> None:
    """Write the predictions for images; the first column is the name of the file, or the index in an IDX file."""
    refuse_existing(arguments.output, arguments.force)
    files, X = read_unlabelled(model, arguments, Screen(arguments.quiet))
    heading, lines = build_predictions(model, X, arguments.classes)
    rows = ([name, *line] for name, line in zip(files, lines, strict=True))
    write_rows(["file", *heading], rows, arguments.output)


def image_shape(model: nnc.NeuralNetwork | nnc.Ensemble, arguments: Namespace) -> tuple[int, int, int]:
    """Return height, width and channels of the inputs of a model; raise ValueError if they are not images."""
    network = select_network(model, 1)
    shape = network.model.stack.input_shape
    if len(shape) != 3:
        raise ValueError(
            f"DATA must be rows of {network.sizes[0]} numbers for {arguments.file}, got images in {arguments.rows}"
        )
    return shape[0], shape[1], shape[2]


def read_unlabelled(
    model: nnc.NeuralNetwork | nnc.Ensemble, arguments: Namespace, screen: Screen
) -> tuple[list[str], NDArray[np.uint8]]:
    """Return the names and the pixels of the images in a folder, an IDX file or an image file, scaled for a model.

    A note is printed for skipped files, and if the images differ from those that trained the model.
    """
    height, width, channels = image_shape(model, arguments)
    path, skipped = arguments.rows, list[str]()
    if os.path.isdir(path):
        files = [file for folder, _, _ in sorted(os.walk(path)) for file in _list_images(folder, skipped)]
        if not files:
            raise ValueError(f"{path} contains no images ({', '.join(IMAGE_EXTENSIONS[:3])}, ...)")
        report_skipped(skipped, path, screen)
    else:
        files = [path]
    is_idx = _is_idx(path)
    images = _read_idx_images(path) if is_idx else _read_images(files, (height, width), gray=channels == 1)
    images = images.inverted() if arguments.invert else images
    image_notes.print_notes(model, images, arguments.invert, screen)
    return [file if is_idx or file == path else os.path.relpath(file, path) for file in images.files], images.X


def _is_idx(path: str) -> bool:
    """Return whether a path is a file that starts with the first bytes of an IDX file or of a gzip file."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        start = file.read(2)
    return start in (b"\0\0", b"\x1f\x8b")


# ------------------------------------------------------------------------------------ image files


def _list_images(folder: str, skipped: list[str]) -> list[str]:
    """Return the sorted paths of the images in a folder; append other files to `skipped`, except hidden ones."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    is_image = {name: name.lower().endswith(IMAGE_EXTENSIONS) for name in names}
    skipped += [os.path.join(folder, name) for name in names if not is_image[name]]
    return [os.path.join(folder, name) for name in names if is_image[name]]


def _read_images(files: Sequence[str], size: tuple[int, int] | None = None, gray: bool | None = None) -> Images:
    """Read images, in color if any of them has colors.

    Each image is scaled before the next one is read, so only one image is in memory in its full size.

    Parameters
    ----------
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
            sizes.append(image.size)
    if size is None:
        (width, height), _ = Counter(sizes).most_common(1)[0]
        scale = min(1.0, MAX_IMAGE_SIDE / max(width, height))
        size = (max(MIN_IMAGE_SIDE, round(scale * height)), max(MIN_IMAGE_SIDE, round(scale * width)))
    images = [_read_image(file, size, gray) for file in files]
    if gray is None:
        gray = all(image.mode == "L" for image in images)
    X = np.stack([np.asarray(image.convert("L" if gray else "RGB")) for image in images])
    return Images(list(files), np.array(sizes, np.float64), X)


@contextmanager
def _open_image(file: str) -> Iterator[Any]:
    """Open an image with Pillow, which reads only the header; raise ValueError if the file is not a valid image."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} cannot be read as an image: {' '.join(str(error).split())}") from None


def _read_image(file: str, size: tuple[int, int], gray: bool | None) -> Any:
    """Read an image and scale it to `size`, (height, width); convert it to gray or RGB unless `gray` is None."""
    from PIL import Image

    with _open_image(file) as image:
        image.load()
        is_transparent = "A" in image.getbands() or "transparency" in image.info
        result = _on_white(image) if is_transparent else image.convert("L" if image.mode in GRAY_MODES else "RGB")
    if gray is not None:
        result = result.convert("L" if gray else "RGB")
    return result if result.size == size[::-1] else result.resize(size[::-1], Image.Resampling.BILINEAR)


def _on_white(image: Any) -> Any:
    """Return an opaque copy of a transparent image, with a white background."""
    from PIL import Image

    foreground = image.convert("RGBA")
    background = Image.new("RGBA", foreground.size, "white")
    background.alpha_composite(foreground)
    return background.convert("L" if image.mode == "LA" else "RGB")


def _digest(files: Sequence[str]) -> str:
    """Return the SHA-256 of the concatenated files."""
    digest = sha256()
    for path in files:
        with disk.open_binary(path, "images") as file:
            file_digest(file, lambda: digest)
    return digest.hexdigest()
