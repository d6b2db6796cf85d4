"""`nnc evaluate` and `nnc explain` with a classifier of images: confusion matrix and saliency maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import nnc
from nnc._cli.arguments import UsageError
from nnc._cli.image_notes import print_notes
from nnc._cli.images import image_shape, read_labelled, read_unlabelled
from nnc._cli.models import refuse_existing, select_network
from nnc._cli.screen import Screen
from nnc._cli.terminal import print_json, print_text
from nnc._drawing.braille import plot_plane
from nnc._drawing.svg import image_data_uri, png_data_uri
from nnc._report.page import Report
from nnc._report.sections import Picture

if TYPE_CHECKING:
    from argparse import Namespace

    from numpy.typing import NDArray

    from nnc._network import NeuralNetwork


def read_test_images(model: Any, arguments: Namespace) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the predicted probabilities and the true class indices of labelled images; -1 for unknown classes."""
    height, width, channels = image_shape(model, arguments)
    screen = Screen(quiet=False)
    images, labels = read_labelled(arguments.rows, arguments.labels, screen, (height, width), channels == 1)
    images = images.inverted() if arguments.invert else images
    print_notes(model, images, arguments.invert, screen)
    index = {str(label): i for i, label in enumerate(check_classifier(model, arguments.file))}
    true = np.array([index.get(str(label), -1) for label in labels.tolist()], np.intp)
    return np.asarray(model.predict(images.X), np.float64), true


def check_classifier(model: Any, path: str) -> list[Any]:
    """Return the classes of a model; raise ValueError if it has no classes with a probability for each of them."""
    network = select_network(model, 1)
    if model.classes is None or network.sizes[-1] != len(model.classes):
        raise ValueError(f"{path} must be a classifier with an output for each class")
    labels: list[Any] = model.classes.tolist()
    return labels


def explain(model: Any, arguments: Namespace) -> int:
    """Run `nnc explain` for images: print or write how each pixel changes the probability of a class."""
    if arguments.rows is None:
        raise UsageError("DATA is required to explain a classifier of images: an image, or a folder of images")
    if not isinstance(model, nnc.NeuralNetwork):
        raise UsageError("an ensemble cannot be explained; save one of its networks")
    refuse_existing(arguments.output, arguments.force)
    labels = check_classifier(model, arguments.file)
    names, X = read_unlabelled(model, arguments, Screen(quiet=False))
    names, X = names[: arguments.first], X[: arguments.first]
    P = np.asarray(model.predict(X), np.float64)
    classes = P.argmax(axis=1)
    if arguments.label is not None:
        chosen = [i for i, label in enumerate(labels) if str(label) == arguments.label]
        if not chosen:
            raise UsageError(f"--label must be a class of the model, got {arguments.label!r}")
        classes = np.full(len(X), chosen[0])
    maps = saliency(model, X, classes)
    captions = [
        f"{name}: probability of {labels[index]} {P[i, index]:.4g}"
        for i, (name, index) in enumerate(zip(names, classes.tolist(), strict=True))
    ]
    if arguments.json:
        print_json(
            [
                {"file": name, "class": labels[index], "probability": float(P[i, index]), "saliency": maps[i].tolist()}
                for i, (name, index) in enumerate(zip(names, classes.tolist(), strict=True))
            ]
        )
    elif arguments.output is not None:
        _write_page(arguments.output, captions, X, maps)
        print_text(f"written to {arguments.output}")
    else:
        for caption, values in zip(captions, maps, strict=True):
            # Repeat columns, because characters are about twice as high as wide.
            strength = np.abs(values).repeat(2, axis=1)
            print_text(f"{caption}\n" + "\n".join(plot_plane(strength / (strength.max() or 1), None)) + "\n")
    return 0


def saliency(model: NeuralNetwork, X: NDArray[np.uint8], classes: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the increase (n, height, width) of the log-probability of a class per unit of each pixel.

    The cross-entropy of the class is its negative log-probability. Channels are summed.
    """
    assert model.classes is not None
    gradients = np.stack(
        [
            np.asarray(nnc.input_gradients(model, X[i : i + 1], model.classes[classes[i : i + 1]]))[0]
            for i in range(len(X))
        ]
    )
    maps: NDArray[np.float64] = -gradients.astype(np.float64)
    return maps.sum(axis=-1) if maps.ndim == 4 else maps


def _write_page(path: str, captions: list[str], X: NDArray[np.uint8], maps: NDArray[np.float64]) -> None:
    """Write a page with each image next to its saliency map, which is blue for positive and orange for negative."""
    pictures = []
    for caption, image, values in zip(captions, X, maps, strict=True):
        uri = png_data_uri(values, float(np.abs(values).max()))
        pictures += [Picture(image_data_uri(image), caption), Picture(uri, "saliency")]
    text = "Brighter blue pixels increase the probability of the class, brighter orange pixels decrease it."
    facts = {"images": f"{len(X):,}"}
    Report("Explanation of images", facts, [], headline=text, pictures={"Images": pictures}).save(path)
