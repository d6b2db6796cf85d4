"""`ImageClassifier`: classification of images in folders, files and arrays."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc import _serialization
from nnc._network import NeuralNetwork
from nnc._serialization import safetensors
from nnc._serialization.models import load_model
from nnc._utils.arrays import to_lists
from nnc._utils.checks import suggest_arguments
from nnc._utils.fitted import FittedModel, not_fitted_error
from nnc._utils.value import Value
from nnc.images.differences import describe_images, polarity_difference, size_differences
from nnc.images.reading import class_indices, is_path, read_labelled, read_unlabelled, warn_of_images
from nnc.images.settings import ImageSettings
from nnc.images.training import TrainingResult, train

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from numpy.typing import NDArray

    from nnc._registry.choices import DType
    from nnc._report.page import Report
    from nnc.images.reading import Images

FILE_KIND = "image classifier"  # name of the model in messages about files


class ImageFit(Value):
    """Record of the fit of an ImageClassifier."""

    network: NeuralNetwork
    ranges: dict[str, list[float]]  # ranges of the properties of the training images
    result: TrainingResult | None = None  # numbers of the fit and held-out images; None for a loaded model


class ImageClassifier(FittedModel):
    """Classifier of images in folders, files and arrays; no setting is required.

    The classifier is a convolutional network. Image files are scaled to the most frequent size of the training images,
    but to at most 40 pixels for the longer side, and stay in color if any training image has colors. The EXIF
    orientation of photos is applied, and transparent images get a white background. A fifth of the images is held out
    to estimate the accuracy; the others are shifted, rotated and scaled at random in each epoch.

    Parameters
    ----------
    epochs : int, optional
        Number of passes over the training images. Default: 18 to 90, fewer for many images.
    random_state : int, optional
        Seed of all random numbers. Fits with the same seed and images give equal models, to the last bit. Default: a
        random seed, which is `network_.seed`.
    max_seconds : float, optional
        Time limit of the training in seconds. The model is then the network with the largest held-out accuracy so far.
    n_threads : int, optional
        Number of threads; the result does not depend on it. Default: chosen automatically.
    callback : callable or list of callables, optional
        Functions that are called with the record of each epoch (see NeuralNetwork.fit).
    progress : bool, default False
        Whether `fit` shows a progress bar (extra `[progress]`).
    checkpoint : path, optional
        File with the unfinished training, written every few seconds, in the format of safetensors if the path ends in
        ".safetensors". A fit with the same images and arguments continues from the file, and gives the same model as
        without interruption. A complete fit deletes the file.

    Attributes
    ----------
    classes_ : array (classes,)
        Labels of the classes.
    network_ : NeuralNetwork
        Trained network.
    held_out_accuracy_ : float or None
        Fraction of the held-out images that are classified correctly; None for a loaded model.
    complete_ : bool or None
        Whether all epochs were trained; False if Ctrl-C, `max_seconds` or a callback ended the fit early; None for a
        loaded model.
    training_images_ : dict of str to list of float
        Range, from the 5 % to the 95 % quantile, of the properties of the training images: "longer_side" (pixels),
        "aspect_ratio" (width / height), and "contrast" (mean minus median of the border, in gray levels).

    Examples
    --------
    >>> model = ImageClassifier(random_state=0).fit("photos")  # one subfolder for each class
    >>> model.predict("new")
    """

    _settings = ImageSettings

    def __init__(
        self,
        *,
        epochs: int | None = None,
        random_state: int | None = None,
        max_seconds: float | None = None,
        n_threads: int | None = None,
        callback: Any = None,
        progress: bool = False,
        checkpoint: Any = None,
    ) -> None:
        self.epochs, self.random_state, self.max_seconds = epochs, random_state, max_seconds
        self.n_threads, self.callback, self.progress, self.checkpoint = n_threads, callback, progress, checkpoint

    def _fitted(self) -> ImageFit:
        return super()._fitted()  # type: ignore[no-any-return]

    def _state(self) -> str:
        return f"{len(self.classes_)} classes"

    # ------------------------------------------------------------------------------------------ fitting

    @suggest_arguments(elsewhere="__init__")
    def fit(self, X: Any, y: Any = None, *, invert: bool = False) -> Self:
        """Train on labelled images.

        Parameters
        ----------
        X : path, sequence of paths or uint8 array (n, height, width) or (n, height, width, 3)
            A folder with one subfolder for each class, an IDX file, image files, or pixels. Pixels are not scaled; both
            sides must have at least 12 of them.
        y : array (n,) or path, optional
            Labels, or an IDX file of labels; None for a folder, whose subfolders are the classes.
        invert : bool, default False
            Whether dark and light are exchanged.

        Returns
        -------
        ImageClassifier
            This object.

        Raises
        ------
        ValueError
            An argument, also of the constructor, is invalid; a file is not an image; there are fewer than two classes,
            or a class has only one image.
        TypeError
            An argument, also of the constructor, has a wrong type.
        OSError
            A file cannot be read, or the checkpoint cannot be written.
        ImportError
            Image files are read and Pillow is not installed (extra `[images]`).

        Warns
        -----
        ImageWarning
            Files in the folder were skipped, because they do not have the extension of an image.
        """
        settings = ImageSettings(**self.get_params())
        images, labels = read_labelled(X, y, warn_of_images)
        images = images.inverted() if invert else images
        result = train(images, labels, settings)
        record = ImageFit(result.network, describe_images(images), result)
        if settings.checkpoint is not None and result.is_complete:
            with suppress(FileNotFoundError):
                os.remove(settings.checkpoint)
        self._record = record
        return self

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels of the classes, array (classes,)."""
        classes = self.network_.classes
        assert classes is not None
        return classes

    @property
    def network_(self) -> NeuralNetwork:
        """Trained network."""
        return self._fitted().network

    @property
    def held_out_accuracy_(self) -> float | None:
        """Fraction of the held-out images that are classified correctly; None for a loaded model."""
        result = self._fitted().result
        return None if result is None else result.accuracy

    @property
    def complete_(self) -> bool | None:
        """Return whether all epochs were trained; None for a loaded model."""
        result = self._fitted().result
        return None if result is None else result.is_complete

    @property
    def training_images_(self) -> dict[str, list[float]]:
        """Ranges of the longer side, the aspect ratio and the contrast of the training images."""
        return dict(self._fitted().ranges)

    @property
    def result_(self) -> TrainingResult:
        """Numbers of the fit and held-out images, which a loaded model does not have."""
        result = self._fitted().result
        if result is None:
            raise not_fitted_error(self)
        return result

    # ------------------------------------------------------------------------------------------ predictions

    def predict(self, X: Any, *, invert: bool = False) -> NDArray[Any]:
        """Predict the class of each image.

        Parameters
        ----------
        X : path, sequence of paths or uint8 array (n, height, width) or (n, height, width, 3)
            A folder, whose images have the order of `list_images`; an image file, an IDX file, image files, or pixels
            with the shape that the network reads.
        invert : bool, default False
            Whether dark and light are exchanged.

        Returns
        -------
        array (n,)
            Labels as in `classes_`.

        Raises
        ------
        ValueError
            A file is not an image, or an array has another shape than the inputs of the network.
        OSError
            A file cannot be read.
        ImportError
            Image files are read and Pillow is not installed (extra `[images]`).

        Warns
        -----
        ImageWarning
            Files were skipped; or images have another size, aspect ratio or polarity (light on a dark ground, or dark
            on a light ground) than the training images.
        """
        return self._decide(self.predict_proba(X, invert=invert))

    def predict_proba(self, X: Any, *, invert: bool = False) -> NDArray[np.float64]:
        """Return the probabilities (n, classes) of the classes of each image; arguments as in `predict`."""
        height, width, channels = self.network_.model.stack.input_shape
        images = read_unlabelled(X, warn_of_images, (height, width), channels == 1)
        return self._probabilities(images, invert, has_sizes=_has_files(X))

    def score(self, X: Any, y: Any = None, *, invert: bool = False) -> float:
        """Return the fraction of labelled images that are classified correctly.

        Parameters
        ----------
        X : path, sequence of paths or uint8 array
            As in `fit`.
        y : array (n,) or path, optional
            As in `fit`.
        invert : bool, default False
            Whether dark and light are exchanged.

        Returns
        -------
        float
            An image of a class that did not occur in `fit` counts as wrong.
        """
        height, width, channels = self.network_.model.stack.input_shape
        images, labels = read_labelled(X, y, warn_of_images, (height, width), channels == 1)
        P = self._probabilities(images, invert, has_sizes=_has_files(X))
        return float((P.argmax(axis=1) == class_indices(self.classes_.tolist(), labels)).mean())

    def _probabilities(self, images: Images, invert: bool, has_sizes: bool) -> NDArray[np.float64]:
        """Return the probabilities of images, and warn of differences from the training images."""
        images, network, ranges = images.inverted() if invert else images, self.network_, self._fitted().ranges
        if has_sizes:
            for message in size_differences(images, ranges, network.model.stack.input_shape[:2]):
                warn_of_images(message)
        remedy = "leave out invert=True" if invert else "pass invert=True"
        if polarity := polarity_difference(images, ranges, None, remedy):
            warn_of_images(polarity)
        return np.asarray(network.predict_proba(images.X), np.float64)

    def _decide(self, P: NDArray[np.float64]) -> NDArray[Any]:
        """Return the labels with the highest probabilities."""
        labels: NDArray[Any] = self.classes_[P.argmax(axis=1)]
        return labels

    # ------------------------------------------------------------------------------------------ files and reports

    def report(self) -> Report:
        """Return a report of the fit: classes, scores on held-out images, wrong predictions, training curves.

        `print` shows it as text and notebooks as tables and charts; `report.save(path)` writes an HTML page. Files of
        models contain no images, so the report of a loaded model has no scores.
        """
        result = self._fitted().result
        if result is not None:
            page = result.report()
            page.title = type(self).__name__
            return page
        from nnc._report.page import Report

        height, width, channels = self.network_.model.stack.input_shape
        facts = {
            "classes": ", ".join(map(str, self.classes_.tolist())),
            "images": f"{width} x {height} pixels, {'gray' if channels == 1 else 'RGB'}",
            "parameters": f"{self.network_.n_params:,}, {self.network_.dtype.name}",
        }
        return Report(type(self).__name__, facts, [])

    def save(self, path: Any) -> None:
        """Write the model to a JSON or safetensors file; `nnc.load` reads it.

        A loaded model gives the same predictions, to the last bit. As in `NeuralNetwork.save`, the file is replaced
        atomically, and the same errors are raised.

        Parameters
        ----------
        path : str, os.PathLike or text file
            A path ending in ".safetensors" is written in that binary format.
        """
        if safetensors.is_path(path):
            safetensors.write(path, self._document(np.array))
        else:
            _serialization.write(path, self._document())

    def to_json(self) -> str:
        """Return the JSON text that `save` writes."""
        return _serialization.dumps(self._document())

    @classmethod
    def load(cls, path: Any) -> ImageClassifier:
        """Load a model that was saved with `save`; the errors are those of `nnc.load`."""
        return load_model(path, None, {FILE_KIND: cls._from_document})

    def _document(self, numbers: Callable[[NDArray[Any]], Any] = to_lists) -> dict[str, Any]:
        """Return the JSON object of the network with the ranges of the training images."""
        document = self.network_._document(checkpoint=False, numbers=numbers)
        return {**document, "training_images": self.training_images_}

    @classmethod
    def _from_document(cls, document: dict[str, Any], where: str, loss: Any = None) -> ImageClassifier:
        """Return the model in a validated document; `where` names the file in error messages."""
        model, network = cls(), NeuralNetwork._from_document(document, where, loss)
        model._record = ImageFit(network, document["training_images"])
        with _serialization.build_errors(where, FILE_KIND):
            shape = network.model.stack.input_shape
            if len(shape) != 3 or network.classes is None or network.sizes[-1] != len(network.classes):
                raise ValueError("training_images requires a classifier of images with an output for each class")
        return model

    def to_onnx(self, path: Any, dtype: DType | None = None) -> None:
        """Write the network as an ONNX model, which reads pixels; arguments as in `NeuralNetwork.to_onnx`."""
        self.network_.to_onnx(path, dtype)

    def to_c(self, path: Any, **options: Any) -> Any:
        """Write the network as a C header, which reads pixels; arguments as in `NeuralNetwork.to_c`."""
        return self.network_.to_c(path, **options)


def _has_files(X: Any) -> bool:
    """Return whether X names files, whose images have sizes of their own, and is no array."""
    return is_path(X) or (isinstance(X, (list, tuple)) and all(map(is_path, X)))
