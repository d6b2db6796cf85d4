"""Training of the default network for small images on labelled images."""

from __future__ import annotations

import os
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._data.augment import augment
from nnc._data.splits import split
from nnc._network import NeuralNetwork
from nnc._training.schedules import OneCycleLR
from nnc._utils.random import check_seed
from nnc.images.reading import encode_classes
from nnc.layers import small_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._report.page import Report
    from nnc.images.reading import Images
    from nnc.images.settings import ImageSettings

VALIDATION_FRACTION = 0.2  # fraction of the images that are held out for validation
BATCH_SIZE = 128  # number of images in a mini-batch; divided by 4 for small training sets
SMALL_SET_IMAGES = 2000  # training sets with fewer images have smaller mini-batches
MIN_EPOCHS, MAX_EPOCHS = 18, 90  # minimum and maximum number of epochs if `epochs` is None
MIN_STEPS = 1500  # if `epochs` is None, train at least this number of steps, but at most MAX_EPOCHS epochs
LEARNING_RATE = 4e-3  # maximum learning rate of the one-cycle schedule


class TrainingPlan(NamedTuple):
    """Division of the images, and length of the training.

    Attributes
    ----------
    train, held_out : int arrays
        Indices of the images for training and for validation.
    batch_size : int
        Number of images in a mini-batch.
    epochs : int
        Number of passes over the training images.
    """

    train: NDArray[np.intp]
    held_out: NDArray[np.intp]
    batch_size: int
    epochs: int

    @classmethod
    def choose(cls, index: NDArray[np.intp], epochs: int | None, seed: int) -> TrainingPlan:
        """Return the plan for images with these indices of classes; `epochs` is None for the default number."""
        train, held_out = split(len(index), VALIDATION_FRACTION, seed, index)
        batch_size = BATCH_SIZE if len(train) >= SMALL_SET_IMAGES else BATCH_SIZE // 4
        default = min(MAX_EPOCHS, max(MIN_EPOCHS, ceil(MIN_STEPS * batch_size / len(train))))
        return cls(train, held_out, batch_size, epochs or default)


class TrainingResult(NamedTuple):
    """Trained network, and what is known about it.

    Attributes
    ----------
    network : NeuralNetwork
        Network of the last epoch, or of the best one if the training ended early.
    counts : int array (classes,)
        Number of images of each class.
    X, y : arrays (n, height, width, ...) and (n,)
        Held-out images and the indices of their classes.
    n_train : int
        Number of images for training.
    trained_epochs, epochs : int
        Number of epochs that were trained and planned.
    seconds : float
        Duration of the training.
    accuracy : float
        Accuracy on the held-out images.
    best_accuracy : float
        Largest accuracy after an epoch of this run; -1 if no epoch is complete.
    """

    network: NeuralNetwork
    counts: NDArray[np.intp]
    X: NDArray[np.uint8]
    y: NDArray[np.intp]
    n_train: int
    trained_epochs: int
    epochs: int
    seconds: float
    accuracy: float
    best_accuracy: float

    @property
    def is_complete(self) -> bool:
        """Return whether all epochs were trained, even if Ctrl-C was pressed after the last one."""
        return self.trained_epochs >= self.epochs

    def facts(self) -> dict[str, str]:
        """Return the numbers of images and epochs, the duration, and the scores on held-out images, as text."""
        from nnc._report.outcomes import ClassScores

        P = self.network.predict_proba(self.X)
        scores, baseline = ClassScores.compute(P, self.y).describe(self.accuracy)
        return {
            "images": f"{self.n_train:,} for training, {len(self.X):,} held out",
            "epochs": f"{self.trained_epochs} of {self.epochs}",
            "time": f"{self.seconds:.1f} s",
            "held-out images": scores,
            "baseline": baseline,
        }

    def report(self) -> Report:
        """Return a report about the predictions for the held-out images."""
        from nnc._report.network_report import report

        labels = self.network.classes
        assert labels is not None
        page = report(self.network, self.X, labels[self.y])
        page.heading = "Report of an image classifier"
        complete_use = "neither trained the network nor chose its settings"
        use = complete_use if self.is_complete else "selected the best epoch so far"
        page.validation = [
            f"{len(self.X):,} images were held out: they {use}. All figures of this section count these images."
        ]
        counts = zip(labels.tolist(), self.counts.tolist(), strict=True)
        classes = ", ".join(f"{label} {n:,}" for label, n in counts)
        page.facts = {**page.facts, **self.facts(), "images of each class": classes}
        return page


class PeriodicCheckpoint:
    """Callback that saves a checkpoint every few seconds, because saving may take longer than an epoch."""

    seconds = 5.0  # minimum seconds between two calls of this callback by `fit_batches`

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, record: Any) -> None:
        """Save a checkpoint."""
        record["network"].save(self.path, checkpoint=True)


class BestNetwork:
    """Callback that keeps a copy of the network with the largest accuracy on the held-out images."""

    def __init__(self, network: NeuralNetwork) -> None:
        self.network, self.accuracy = network, -1.0

    def __call__(self, record: Any) -> None:
        """Copy the network if its accuracy is the largest one so far."""
        if record["val_accuracy"] > self.accuracy:
            self.accuracy, self.network = record["val_accuracy"], record["network"].copy()


def load_checkpoint(path: str, images: Images, n_classes: int) -> NeuralNetwork:
    """Return the network of a checkpoint; raise ValueError if it cannot continue a training on these images."""
    network = NeuralNetwork.load(path)
    if (network.model.stack.input_shape[:2], network.sizes[-1]) != (images.X.shape[1:3], n_classes):
        raise ValueError(
            f"{path} must be the checkpoint of a training on {images.source}, got one for images of another size or "
            "with another number of classes"
        )
    return network


def train(images: Images, labels: NDArray[Any], settings: ImageSettings) -> TrainingResult:
    """Train the default network, or continue from the checkpoint if it exists."""
    classes, index, counts = encode_classes(images.source, labels)
    checkpoint = settings.checkpoint
    if checkpoint is not None and os.path.exists(checkpoint):
        network = load_checkpoint(checkpoint, images, len(classes))
        seed = network.seed if settings.random_state is None else settings.random_state
        if seed != network.seed:
            raise ValueError(
                f"{checkpoint} must be the checkpoint of a training with the seed {seed}, got one with {network.seed}"
            )
    else:
        seed = check_seed(settings.random_state)
        network = _create_network(images.X, len(classes), seed)
    plan = TrainingPlan.choose(index, settings.epochs, seed)
    held_out = images.X[plan.held_out], index[plan.held_out]
    best = BestNetwork(network)
    first_epoch = 0 if network.history is None else network.history.epochs
    if first_epoch < plan.epochs:
        schedule = OneCycleLR(LEARNING_RATE, epochs=plan.epochs, final_div_factor=10)
        batches = augment(
            images.X[plan.train], index[plan.train], batch_size=plan.batch_size, seed=seed, epoch=first_epoch
        )
        network.fit_batches(
            batches,
            epochs=plan.epochs - first_epoch,
            **({} if first_epoch else {"optimizer": "adam", "lr": schedule}),
            validation=held_out,
            metrics="accuracy",
            callback=[best, *settings.callbacks(), *([] if checkpoint is None else [PeriodicCheckpoint(checkpoint)])],
            progress=settings.progress,
            max_seconds=settings.max_seconds,
            n_threads=settings.n_threads,
        )
    history = network.history
    assert history is not None
    if history.epochs < plan.epochs:
        network = best.network
    accuracy = network.score(*held_out)
    network.converter.classes = classes  # the training used class indices
    n_train = len(plan.train)
    return TrainingResult(
        network, counts, *held_out, n_train, history.epochs, plan.epochs, history.seconds, accuracy, best.accuracy
    )


def _create_network(X: NDArray[np.uint8], n_classes: int, seed: int) -> NeuralNetwork:
    """Return a new network for images of this shape."""
    height, width = X.shape[1:3]
    layers = small_images(n_classes, height, width, 1 if X.ndim == 3 else X.shape[3])
    return NeuralNetwork(layers, activation="relu", loss="cross_entropy", dtype="float32", scale_X="pixels", seed=seed)
