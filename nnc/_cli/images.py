"""Training and prediction on images: `nnc train --images FOLDER`, and `nnc predict` with a model of images.

`nnc.images` reads and trains. A training folder has one subfolder for each class.
"""

from __future__ import annotations

import os
import shlex
from hashlib import file_digest, sha256
from typing import TYPE_CHECKING, Any

import nnc
from nnc._cli.arguments import UsageError
from nnc._cli.models import Network, networks_of, refuse_existing, select_network
from nnc._cli.numbers import build_predictions
from nnc._cli.outputs import write_rows
from nnc._cli.paths import UNFINISHED_IMAGES
from nnc._cli.runs import check_files, current_time, open_log, provenance, report_end
from nnc._cli.screen import ProgressBar, Screen, format_record
from nnc._cli.terminal import print_text
from nnc._utils import disk
from nnc._utils.text_table import aligned
from nnc.images import ImageClassifier
from nnc.images.differences import polarity_difference, size_differences
from nnc.images.reading import encode_classes, read_labelled, read_unlabelled
from nnc.images.training import TrainingPlan, load_checkpoint

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc.images.reading import Images

# ----------------------------------------------------------------------------- training on images


def train(arguments: Namespace) -> int:
    """Run `nnc train --images`, which trains an ImageClassifier; return the exit status."""
    screen, unfinished = Screen(arguments.quiet), arguments.output + UNFINISHED_IMAGES
    check_files(arguments, unfinished)
    images, labels = read_with_labels(arguments.images, arguments, screen)
    digest = _digest(images.files if arguments.labels is None else [arguments.images, arguments.labels])
    classes, index, _ = encode_classes(arguments.images, labels)
    screen.print(
        f"{arguments.images}: {len(labels):,} images of {len(classes):,} classes, {images.X.shape[1]} x "
        f"{images.X.shape[2]} pixels, {'gray' if images.X.ndim == 3 else 'RGB'}"
    )
    epochs = TrainingPlan.choose(index, arguments.epochs, arguments.seed).epochs
    started = load_checkpoint(unfinished, images, len(classes)).history if arguments.resume else None
    first_epoch = 0 if started is None else started.epochs
    origin = provenance(arguments, arguments.images, digest)
    with (
        open_log(arguments.log, arguments.resume) as log,
        ProgressBar(screen, epochs - first_epoch, is_hidden=arguments.watch) as bar,
    ):
        log.write("start", time=current_time(), **origin, images=len(labels), classes=len(classes), seed=arguments.seed)

        def record_epoch(record: Any) -> None:
            log.epoch(0, record)
            bar.advance(f"epoch {record['epoch']} of {epochs}  {format_record(record)}")

        model = ImageClassifier(
            epochs=arguments.epochs,
            random_state=arguments.seed,
            max_seconds=arguments.max_seconds,
            n_threads=arguments.threads,
            callback=[record_epoch, *([nnc.LivePlot()] if arguments.watch and not arguments.quiet else [])],
            checkpoint=unfinished,
        ).fit(images, labels)
        result = model.result_
        model.save(arguments.output)
        end = {"seconds": result.seconds, "score": result.accuracy, "complete": result.is_complete}
        log.write("end", time=current_time(), model=arguments.output, **end)
    if arguments.report is not None:
        page = model.report()
        page.facts = {**page.facts, **origin}
        page.save(arguments.report)
    if not arguments.quiet:
        print_text("\n".join(aligned([[name, fact] for name, fact in {**result.facts(), **origin}.items()])))
        print_text()
        print_text(f"saved to {arguments.output}; to use it: nnc predict {shlex.quote(arguments.output)} FOLDER")
    best = result.best_accuracy
    content = f"validation accuracy {best:.4g}" if best >= 0 else "no epoch is complete"
    return report_end(result.is_complete, content, arguments, unfinished, screen)


def _digest(files: Sequence[str]) -> str:
    """Return the SHA-256 of the concatenated files."""
    digest = sha256()
    for path in files:
        with disk.open_binary(path, "images") as file:
            file_digest(file, lambda: digest)
    return digest.hexdigest()


# --------------------------------------------------------------------------- predictions for images


def predict(model: Network, arguments: Namespace) -> None:
    """Write the predictions for images; the first column is the name of the file, or the index in an IDX file."""
    refuse_existing(arguments.output, arguments.force)
    files, X = read_without_labels(model, arguments, Screen(arguments.quiet))
    heading, lines = build_predictions(networks_of(model), X, arguments.classes)
    rows = ([name, *line] for name, line in zip(files, lines, strict=True))
    write_rows(["file", *heading], rows, arguments.output)


def read_with_labels(
    path: str, arguments: Namespace, screen: Screen, model: Network | None = None
) -> tuple[Images, NDArray[Any]]:
    """Return images and their labels; with a model, images are scaled for it, and a note is printed for differences."""
    if os.path.isdir(path):
        if arguments.labels is not None:
            raise UsageError("--labels is only for IDX files; for a folder, the subfolders are the classes")
    elif arguments.labels is None:
        raise UsageError("--images with an IDX file requires --labels, an IDX file of labels")
    size, gray = (None, None) if model is None else _image_format(model, arguments)
    images, labels = read_labelled(path, arguments.labels, screen.warn, size, gray)
    if model is not None:
        return _compare(model, images, arguments, screen), labels
    return (images.inverted() if arguments.invert else images), labels


def read_without_labels(model: Network, arguments: Namespace, screen: Screen) -> tuple[list[str], NDArray[Any]]:
    """Return the names and the pixels of the images in a folder, an IDX file or an image file, scaled for a model.

    A note is printed for skipped files, and if the images differ from those that trained the model.
    """
    path = arguments.rows
    images = read_unlabelled(path, screen.warn, *_image_format(model, arguments))
    images = _compare(model, images, arguments, screen)
    is_folder = os.path.isdir(path)
    return [os.path.relpath(file, path) if is_folder else file for file in images.files], images.X


def _image_format(model: Network, arguments: Namespace) -> tuple[tuple[int, int], bool]:
    """Return height and width of the inputs of a model, and whether they are gray; raise ValueError if not images."""
    network = select_network(model, 1)
    shape = network.model.stack.input_shape
    if len(shape) != 3:
        raise ValueError(
            f"DATA must be rows of {network.sizes[0]} numbers for {arguments.file}, got images in {arguments.rows}"
        )
    return (shape[0], shape[1]), shape[2] == 1


def _compare(model: Network, images: Images, arguments: Namespace, screen: Screen) -> Images:
    """Invert images if --invert is given, and print notes about differences from the training images of a model."""
    images = images.inverted() if arguments.invert else images
    ranges = model.training_images_ if isinstance(model, ImageClassifier) else None
    networks = networks_of(model)
    for message in size_differences(images, ranges, select_network(model, 1).model.stack.input_shape[:2]):
        screen.warn(message)
    remedy = "leave out --invert" if arguments.invert else "use --invert"
    predict_proba = None if networks.classes is None else networks.predict
    if polarity := polarity_difference(images, ranges, predict_proba, remedy):
        screen.warn(polarity)
    return images
