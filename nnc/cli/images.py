"""Images in place of tables: `nnc train --images FOLDER`, and `nnc predict` on a folder, on image files and IDX files.

A folder has one folder for each class. Images become gray, or RGB where one has colors, and of one size.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from hashlib import sha256
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

import nnc
from nnc.base import disk
from nnc.cli.arguments import UsageError
from nnc.cli.models import refuse_old
from nnc.cli.numbers import heading_and_lines
from nnc.cli.outputs import write_rows
from nnc.cli.runs import UNFINISHED, check_files, ended, logging, now, provenance
from nnc.cli.screen import Bar, Screen, figures
from nnc.datasets import read_idx, train_test_split
from nnc.inspection.text import aligned
from nnc.layers import small_images

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
LEAST, MOST = 12, 40  # pixels a side: smaller and larger images are scaled, which the default network is made for
VALIDATION = 0.2  # of the images are held out
BATCH, FEW = 128, 2000  # with fewer images than that, batches have a quarter as many
EPOCHS, STEPS = 18, 1500  # and so many epochs that there are so many steps, up to five times as many
RATE = 4e-3
GRAY = ("1", "L")  # modes of Pillow


# ------------------------------------------------------------------------------------------ train


def train(arguments: Namespace) -> int:
    """Trains the default network for small images."""
    if arguments.data is not None or arguments.target is not None:
        raise UsageError("expected a table and --target, or --images, got both")
    screen, unfinished = Screen(arguments.quiet), f"{arguments.output}{UNFINISHED}.safetensors"
    check_files(arguments, unfinished)
    X, y, digest = _labelled(arguments)
    labels, places, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(labels) < 2:
        raise ValueError(f"{arguments.images} has one class alone, {labels[0]}: expected images of two or more")
    if counts.min() < 2:
        raise ValueError(f"{arguments.images} has one image of {labels[counts.argmin()]}: expected two or more")
    height, width = X.shape[1:3]
    screen.say(
        f"{arguments.images}: {len(X):,} images of {len(labels):,} classes, {height} x {width} pixels, "
        f"{'gray' if X.ndim == 3 else 'RGB'}"
    )
    X_train, X_val, y_train, y_val = train_test_split(
        X, places, test_size=VALIDATION, seed=arguments.seed, stratify=True
    )
    batch = BATCH if len(X_train) >= FEW else BATCH // 4
    epochs = arguments.epochs or min(5 * EPOCHS, max(EPOCHS, ceil(STEPS * batch / len(X_train))))
    net = _network(arguments, unfinished, X, len(labels))
    done = 0 if net.history is None else net.history.epochs
    known = provenance(arguments, arguments.images, digest)
    best, best_net = -1.0, net
    with logging(arguments.log, arguments.resume) as log, Bar(screen, epochs - done) as bar:
        log.write("start", time=now(), **known, images=len(X), classes=len(labels), seed=arguments.seed)

        def told(record: Any) -> None:
            nonlocal best, best_net
            log.epoch(0, record)
            bar.tell(f"epoch {record['epoch']} of {epochs}  {figures(record)}")
            if record["val_accuracy"] > best:
                best, best_net = record["val_accuracy"], net.copy()

        if done < epochs:
            rate = nnc.OneCycleLR(RATE, epochs=epochs, final_div_factor=10)
            net.fit_batches(
                nnc.augment(X_train, y_train, batch_size=batch, seed=arguments.seed, epoch=done),
                epochs=epochs - done,
                **({} if done else {"optimizer": "adam", "lr": rate}),
                validation=(X_val, y_val),
                metrics="accuracy",
                callback=[told, Keeper(unfinished)],
                max_seconds=arguments.max_seconds,
                n_threads=arguments.threads,
            )
        assert net.history is not None
        trained, seconds = net.history.epochs, net.history.seconds
        complete = trained >= epochs  # Ctrl-C may come when the last one is over
        if not complete:
            net = best_net
        score = net.score(X_val, y_val)
        net.intake.classes = labels  # which the batches had by their places
        net.save(arguments.output)
        log.write("end", time=now(), model=arguments.output, seconds=seconds, score=score, complete=complete)
    if complete and os.path.exists(unfinished):
        os.remove(unfinished)
    if not arguments.quiet:
        facts = {
            "images": f"{len(X_train):,} for training, {len(X_val):,} held out",
            "epochs": f"{trained} of {epochs}",
            "time": f"{seconds:.1f} s",
            "held-out images": f"accuracy {score:.4g}",
            **known,
        }
        print("\n".join(aligned([[name, fact] for name, fact in facts.items()])))
        print()
        print(f"saved to {arguments.output}; use it: nnc predict {shlex.quote(arguments.output)} FOLDER")
    kept = f"the epoch with a validation accuracy of {best:.4g}" if best >= 0 else "which is of no whole epoch"
    return ended(complete, kept, arguments, unfinished, screen)


def _network(arguments: Namespace, unfinished: str, X: NDArray[Any], n_classes: int) -> nnc.NeuralNetwork:
    """Return the network to train: a new one, or with --resume that of the file of an unfinished training."""
    height, width = X.shape[1:3]
    if arguments.resume:
        net = nnc.NeuralNetwork.load(unfinished)
        if (net.model.stack.shape[:2], net.sizes[-1]) != ((height, width), n_classes):
            raise ValueError(f"{unfinished} is of other images than {arguments.images}")
        return net
    layers = small_images(n_classes, height, width, 1 if X.ndim == 3 else X.shape[3])
    return nnc.NeuralNetwork(
        layers, activation="relu", loss="cross_entropy", dtype="float32", scale_X="pixels", seed=arguments.seed
    )


class Keeper:
    """Saves what a training goes on from, not after every epoch: that would take longer than the epoch."""

    seconds = 5.0

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, record: Any) -> None:
        record["network"].save(self.path, checkpoint=True)


def _labelled(arguments: Namespace) -> tuple[NDArray[np.uint8], NDArray[Any], str]:
    """Images, the label of each, and the SHA-256 of their files."""
    path = arguments.images
    if os.path.isdir(path):
        if arguments.labels is not None:
            raise UsageError("--labels goes with an IDX file of images; in a folder each class has a folder")
        classes = sorted(one.name for one in os.scandir(path) if one.is_dir() and not one.name.startswith("."))
        files = [(label, file) for label in classes for file in _images_in(os.path.join(path, label))]
        if not files:
            raise ValueError(
                f"{path} has no folders with images: expected one for each class ({', '.join(ENDINGS[:3])}, ...)"
            )
        X = _stacked([file for _, file in files])
        return X, np.array([label for label, _ in files]), _digest([file for _, file in files])
    if arguments.labels is None:
        raise UsageError("an IDX file of images needs --labels, another one")
    X, y = read_idx(path), read_idx(arguments.labels)
    _check_idx(X, path)
    if y.shape != (len(X),):
        raise ValueError(f"{arguments.labels} must have a label for each of the {len(X)} images, got shape {y.shape}")
    return X, y, _digest([path, arguments.labels])


def _check_idx(X: NDArray[Any], path: str) -> None:
    if X.ndim not in (3, 4) or X.dtype != np.uint8 or min(X.shape[1:3]) < LEAST:
        raise ValueError(
            f"{path} must have images (n, height, width) of bytes, {LEAST} pixels a side or more, got {X.dtype} of "
            f"shape {X.shape}"
        )


# ------------------------------------------------------------------------------------------ predict


def predict(model: nnc.NeuralNetwork | nnc.Ensemble, arguments: Namespace) -> None:
    """Writes the class of each image, beside the name of its file or its number."""
    refuse_old(arguments.output, arguments.force)
    network = model if isinstance(model, nnc.NeuralNetwork) else model.networks[0]
    shape = network.model.stack.shape
    if len(shape) != 3:
        raise ValueError(
            f"{arguments.file} takes {network.sizes[0]} numbers a row and no images, as {arguments.rows} has"
        )
    if os.path.isdir(arguments.rows):
        files = [file for folder, _, _ in sorted(os.walk(arguments.rows)) for file in _images_in(folder)]
        if not files:
            raise ValueError(f"{arguments.rows} has no images ({', '.join(ENDINGS[:3])}, ...)")
    elif _is_idx(arguments.rows):
        X = read_idx(arguments.rows)
        _check_idx(X, arguments.rows)
        files = [str(i) for i in range(len(X))]
    else:
        files = [arguments.rows]
    if not _is_idx(arguments.rows):
        X = _stacked(files, (shape[0], shape[1]), gray=shape[2] == 1)
        files = [os.path.relpath(file, arguments.rows) if file != arguments.rows else file for file in files]
    heading, lines = heading_and_lines(model, X, arguments.classes)
    named = ([name, *line] for name, line in zip(files, lines, strict=True))
    write_rows(["file", *heading], named, arguments.output)


def _is_idx(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        start = file.read(2)
    return start in (b"\0\0", b"\x1f\x8b")


# ------------------------------------------------------------------------------------------ files


def _images_in(folder: str) -> list[str]:
    names = sorted(one.name for one in os.scandir(folder) if one.is_file() and one.name.lower().endswith(ENDINGS))
    return [os.path.join(folder, name) for name in names]


def _stacked(files: Sequence[str], size: tuple[int, int] | None = None, gray: bool | None = None) -> NDArray[np.uint8]:
    """Images as an array (n, height, width), or (n, height, width, 3) of colors; without a size that of most, within
    what the default network is made for."""
    from PIL import Image

    images = []
    for file in files:
        try:
            with Image.open(file) as image:
                image.load()
                transparent = "A" in image.getbands() or "transparency" in image.info
                images.append(_on_white(image) if transparent else image.convert("L" if image.mode in GRAY else "RGB"))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{file} is no image that can be read: {' '.join(str(error).split())}") from None
    if gray is None:
        gray = all(image.mode == "L" for image in images)
    if size is None:
        (width, height), _ = Counter(image.size for image in images).most_common(1)[0]
        scale = min(1.0, MOST / max(width, height))
        size = (max(LEAST, round(scale * height)), max(LEAST, round(scale * width)))
    mode, (height, width) = "L" if gray else "RGB", size
    ready = (image.convert(mode) for image in images)
    return np.stack([
        np.asarray(image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR))
        for image in ready
    ])  # fmt: skip


def _on_white(image: Any) -> Any:
    """What is transparent, as a page shows it."""
    from PIL import Image

    colors = image.convert("RGBA")
    page = Image.new("RGBA", colors.size, "white")
    page.alpha_composite(colors)
    return page.convert("L" if image.mode == "LA" else "RGB")


def _digest(files: Sequence[str]) -> str:
    """The SHA-256 of files, one after the other."""
    found = sha256()
    for path in files:
        with disk.opened(path, "images") as file:
            _feed(found, file)
    return found.hexdigest()


def _feed(found: Any, file: BinaryIO) -> None:
    while piece := file.read(disk.PIECE):
        found.update(piece)
