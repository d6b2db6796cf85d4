"""Images in place of tables: `nnc train --images FOLDER`, and `nnc predict` on a folder, on image files and IDX files.

A folder has one folder for each class. Images become gray, or RGB where one has colors, and of one size.
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
from nnc._cli.arguments import UsageError, parser
from nnc._cli.models import refuse_old
from nnc._cli.numbers import heading_and_lines
from nnc._cli.outputs import write_rows
from nnc._cli.paths import IMAGE_ENDINGS, UNFINISHED_IMAGES
from nnc._cli.runs import check_files, ended, logging, now, provenance
from nnc._cli.screen import Bar, Screen, figures
from nnc._cli.terminal import say
from nnc._inspection.text import aligned
from nnc._utils import disk
from nnc.datasets import read_idx, train_test_split
from nnc.layers import small_images

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

LEAST, MOST = 12, 40  # pixels a side: smaller and larger images are scaled, which the default network is made for
VALIDATION = 0.2  # of the images are held out
BATCH, FEW = 128, 2000  # with fewer images than that, batches have a quarter as many
EPOCHS, STEPS = 18, 1500  # and so many epochs that there are so many steps, up to five times as many
RATE = 4e-3
GRAY = ("1", "L")  # modes of Pillow
TABLE_OPTIONS = ("drop", "task", "loss", "preset", "members", "jobs")


# ------------------------------------------------------------------------------------------ train


def train(arguments: Namespace) -> int:
    """Trains the default network for small images."""
    _refuse_table_options(arguments)
    screen, unfinished = Screen(arguments.quiet), arguments.output + UNFINISHED_IMAGES
    check_files(arguments, unfinished)
    X, y, digest = _labelled(arguments)
    labels, places, counts = _classes(arguments.images, y)
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
        net.converter.classes = labels  # which the batches had by their places
        net.save(arguments.output)
        log.write("end", time=now(), model=arguments.output, seconds=seconds, score=score, complete=complete)
    if complete and os.path.exists(unfinished):
        os.remove(unfinished)
    facts = {
        "images": f"{len(X_train):,} for training, {len(X_val):,} held out",
        "epochs": f"{trained} of {epochs}",
        "time": f"{seconds:.1f} s",
        "held-out images": f"accuracy {score:.4g}",
        **known,
    }
    if arguments.report is not None:
        _write_report(arguments.report, facts, dict(zip(labels.tolist(), counts.tolist(), strict=True)), net)
    if not arguments.quiet:
        say("\n".join(aligned([[name, fact] for name, fact in facts.items()])))
        say()
        say(f"saved to {arguments.output}; use it: nnc predict {shlex.quote(arguments.output)} FOLDER")
    kept = f"the epoch with a validation accuracy of {best:.4g}" if best >= 0 else "which is of no whole epoch"
    return ended(complete, kept, arguments, unfinished, screen)


def _refuse_table_options(arguments: Namespace) -> None:
    """Raise UsageError if an option for tables is given."""
    if arguments.data is not None or arguments.target is not None:
        raise UsageError("expected a table and --target, or --images, got both")
    defaults = parser().parse_args(["train"])
    for name in TABLE_OPTIONS:
        if getattr(arguments, name) != getattr(defaults, name):
            raise UsageError(f"--{name} is for tables, and not for --images")


def _classes(folder: str, y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """Return the classes, the index of the class of each image, and the number of images of each class."""
    labels, index, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(labels) < 2:
        raise ValueError(f"{folder} must have images of two classes or more, got only {labels[0]}")
    if counts.min() < 2:
        raise ValueError(f"{folder} must have two images or more of each class, got one of {labels[counts.argmin()]}")
    return labels, index, counts


def _network(arguments: Namespace, unfinished: str, X: NDArray[Any], n_classes: int) -> nnc.NeuralNetwork:
    """Return the network to train: a new one, or with --resume that of the file of an unfinished training."""
    height, width = X.shape[1:3]
    if arguments.resume:
        net = nnc.NeuralNetwork.load(unfinished)
        if (net.model.stack.input_shape[:2], net.sizes[-1]) != ((height, width), n_classes):
            raise ValueError(f"{unfinished} is of other images than {arguments.images}")
        return net
    layers = small_images(n_classes, height, width, 1 if X.ndim == 3 else X.shape[3])
    return nnc.NeuralNetwork(
        layers, activation="relu", loss="cross_entropy", dtype="float32", scale_X="pixels", seed=arguments.seed
    )


def _write_report(path: str, facts: dict[str, str], classes: dict[Any, int], network: nnc.NeuralNetwork) -> None:
    """Write a page of HTML: what was trained, the images of each class, and the curves of the training."""
    history = network.history
    assert history is not None
    from nnc.tabular.report import Report

    images = {f"images of class {label}": f"{n:,}" for label, n in classes.items()}
    curves = {"loss": history.loss.tolist(), "held-out accuracy": history["val_accuracy"].tolist()}
    Report("NeuralNetwork of images", {**facts, **images}, [], None, curves).save(path)


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
                f"{path} has no folders with images: expected one for each class ({', '.join(IMAGE_ENDINGS[:3])}, ...)"
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
    shape = network.model.stack.input_shape
    if len(shape) != 3:
        raise ValueError(
            f"{arguments.file} takes {network.sizes[0]} numbers a row and no images, as {arguments.rows} has"
        )
    if os.path.isdir(arguments.rows):
        files = [file for folder, _, _ in sorted(os.walk(arguments.rows)) for file in _images_in(folder)]
        if not files:
            raise ValueError(f"{arguments.rows} has no images ({', '.join(IMAGE_ENDINGS[:3])}, ...)")
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
    names = sorted(one.name for one in os.scandir(folder) if one.is_file() and one.name.lower().endswith(IMAGE_ENDINGS))
    return [os.path.join(folder, name) for name in names]


def _stacked(files: Sequence[str], size: tuple[int, int] | None = None, gray: bool | None = None) -> NDArray[np.uint8]:
    """Return images as an array (n, height, width), or (n, height, width, 3) if they have colors.

    Without a size they get that of most, within the limits of the default network. One image at a time is in memory in
    its full size.
    """
    if size is None:
        sizes: Counter[tuple[int, int]] = Counter()
        for file in files:
            with _opened(file) as image:
                sizes[image.size] += 1
        (width, height), _ = sizes.most_common(1)[0]
        scale = min(1.0, MOST / max(width, height))
        size = (max(LEAST, round(scale * height)), max(LEAST, round(scale * width)))
    images = [_small(file, size, gray) for file in files]
    if gray is None:
        gray = all(image.mode == "L" for image in images)
    return np.stack([np.asarray(image.convert("L" if gray else "RGB")) for image in images])


@contextmanager
def _opened(file: str) -> Iterator[Any]:
    """An image of Pillow, which has read its header only."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} is no image that can be read: {' '.join(str(error).split())}") from None


def _small(file: str, size: tuple[int, int], gray: bool | None) -> Any:
    """Return an image of (height, width), in gray or in colors; without `gray` as it is."""
    from PIL import Image

    with _opened(file) as image:
        image.load()
        transparent = "A" in image.getbands() or "transparency" in image.info
        found = _on_white(image) if transparent else image.convert("L" if image.mode in GRAY else "RGB")
    if gray is not None:
        found = found.convert("L" if gray else "RGB")
    return found if found.size == size[::-1] else found.resize(size[::-1], Image.Resampling.BILINEAR)


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
            file_digest(file, lambda: found)
    return found.hexdigest()
