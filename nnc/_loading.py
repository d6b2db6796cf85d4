"""nnc.load and nnc.from_json, which read models of all classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc import _serialization
from nnc._network import NeuralNetwork
from nnc._parallel.ensemble import Ensemble
from nnc._serialization.models import build_model, load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from nnc._model.custom import Function as LossFunction
    from nnc.forecast import Forecaster
    from nnc.images import ImageClassifier
    from nnc.tabular import TableClassifier, TableRegressor

    Model: TypeAlias = NeuralNetwork | Ensemble | TableClassifier | TableRegressor | Forecaster | ImageClassifier


def load(path: Any, loss: LossFunction | None = None) -> Any:
    """Load a model of any class from a file that its `save` has written.

    The member "format" of the file determines the class. The `load` of a class accepts only files of that class.

    Parameters
    ----------
    path : str, os.PathLike or text file
        A path ending in ".safetensors" is read as a network in that format.
    loss : callable, optional
        Custom loss function of the network. Files contain only its name. It is not used for other models.

    Returns
    -------
    NeuralNetwork, Ensemble, TableClassifier, TableRegressor, Forecaster or ImageClassifier

    Raises
    ------
    TypeError
        The network has a custom loss function, and `loss` is not given.
    ImportError
        The file contains a table model and the extra `[tables]` is not installed, or a forecast model of frames and the
        extra `[frames]` is not installed.
    OSError
        The file cannot be read; the message names the cause and a remedy.
    ModelFileError
        The file does not contain a model that this version of nnc can read. It is an OSError and a ValueError.
    """
    return load_model(path, loss, BUILDERS)


def from_json(text: str, loss: LossFunction | None = None) -> Any:
    """Return the model in a text that `to_json` has returned, or in the content of a JSON file.

    Parameters
    ----------
    text : str
    loss : callable, optional
        As in `load`.

    Returns
    -------
    NeuralNetwork, Ensemble, TableClassifier, TableRegressor, Forecaster or ImageClassifier

    Raises
    ------
    TypeError
        `text` is not a str, or the network has a custom loss function and `loss` is not given.
    ImportError
        The text contains a table model and the extra `[tables]` is not installed, or a forecast model of frames and the
        extra `[frames]` is not installed.
    ModelFileError
        The text does not contain a model that this version of nnc can read.
    """
    where = "the JSON text"
    kind, content = _serialization.loads(text, where, "model")
    return build_model(kind, content, where, loss, BUILDERS)


def _build_table_model(content: Any, where: str, loss: LossFunction | None) -> TableClassifier | TableRegressor:
    """Return the table model that the validated content of a model file or JSON text describes."""
    from nnc.tabular import TableClassifier, TableRegressor, file

    model = file.build_model(content, where)
    return TableClassifier._from_model(model) if model.task.kind == "classes" else TableRegressor._from_model(model)


def _build_forecaster(content: Any, where: str, loss: LossFunction | None) -> Forecaster:
    """Return the forecaster that the validated content of a model file or JSON text describes."""
    from nnc.forecast import Forecaster

    return Forecaster._from_content(content, where, loss)


def _build_image_classifier(document: Any, where: str, loss: LossFunction | None) -> ImageClassifier:
    """Return the image classifier that the validated content of a model file or JSON text describes."""
    from nnc.images import ImageClassifier

    return ImageClassifier._from_document(document, where, loss)


BUILDERS: dict[str, Callable[[Any, str, Any], Model]] = {
    "network": NeuralNetwork._from_document,
    "image classifier": _build_image_classifier,
    "ensemble": Ensemble._from_documents,
    "table model": _build_table_model,
    "forecast model": _build_forecaster,
}
