"""`nnc evaluate` and `nnc explain` with a classifier of images: confusion matrix and saliency maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import nnc
from nnc._cli.arguments import UsageError
from nnc._cli.images import read_with_labels, read_without_labels
from nnc._cli.models import Network, networks_of, refuse_existing, select_network
from nnc._cli.screen import Screen
from nnc._cli.terminal import print_json, print_text
from nnc._drawing.braille import plot_plane
from nnc._drawing.svg import image_data_uri, png_data_uri
from nnc._report.page import Report
from nnc._report.sections import Picture
from nnc.images.reading import class_indices

if TYPE_CHECKING:
    from argparse import Namespace

    from numpy.typing import NDArray

    from nnc._network import NeuralNetwork


def read_test_images(model: Network, arguments: Namespace) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the predicted probabilities and the true class indices of labelled images; -1 for unknown classes."""
    images, labels = read_with_labels(arguments.rows, arguments, Screen(quiet=False), model)
    true = class_indices(check_classifier(model, arguments.file), labels)
    return np.asarray(networks_of(model).predict(images.X), np.float64), true


def check_classifier(model: Network, path: str) -> list[Any]:
    """Return the classes of a model; raise ValueError if it has no classes with a probability for each of them."""
    classes = networks_of(model).classes
    if classes is None or select_network(model, 1).sizes[-1] != len(classes):
        raise ValueError(f"{path} must be a classifier with an output for each class")
    labels: list[Any] = classes.tolist()
    return labels


def explain(model: Network, arguments: Namespace) -> int:
    """Run `nnc explain` for images: print or write how each pixel changes the probability of a class."""
    if arguments.rows is None:
        raise UsageError("DATA is required to explain a classifier of images: an image, or a folder of images")
    network = networks_of(model)
    if not isinstance(network, nnc.NeuralNetwork):
        raise UsageError("an ensemble cannot be explained; save one of its networks")
    refuse_existing(arguments.output, arguments.force)
    labels = check_classifier(model, arguments.file)
    names, X = read_without_labels(model, arguments, Screen(quiet=False))
    names, X = names[: arguments.first], X[: arguments.first]
    P = np.asarray(network.predict(X), np.float64)
    classes = P.argmax(axis=1)
    if arguments.label is not None:
        chosen = [i for i, label in enumerate(labels) if str(label) == arguments.label]
        if not chosen:
            raise UsageError(f"--label must be a class of the model, got {arguments.label!r}")
        classes = np.full(len(X), chosen[0])
    maps = saliency(network, X, classes)
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
