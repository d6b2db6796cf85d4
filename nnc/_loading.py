"""nnc.load and nnc.from_json: any model in a file or a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc import _serialization
from nnc._network import NeuralNetwork
from nnc._parallel.ensemble import Ensemble
from nnc._serialization.models import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from nnc._model.custom import Function as LossFunction
    from nnc.tabular import TableClassifier, TableRegressor


def load(path: Any, loss: LossFunction | None = None) -> NeuralNetwork | Ensemble | TableClassifier | TableRegressor:
    """Read a model from a file that `save` of any class of nnc has written.

    The key "format" of the file says which class it is. The `load` of a class reads files of that class only.

    Parameters
    ----------
    path : str, os.PathLike or text file
        A path ending in ".safetensors" is read as a network in that format.
    loss : callable, optional
        The loss function of a network that was trained with a function as its loss; files contain only its name. It is
        ignored for other models.

    Returns
    -------
    NeuralNetwork, Ensemble, TableClassifier or TableRegressor

    Raises
    ------
    TypeError
        The loss of the network is a function, and `loss` is not given.
    ImportError
        The file holds the model of a table, and the extra `[tables]` is not installed.
    OSError
        The file cannot be read; the message says why and what to do.
    ModelFileError
        The content of the file is not a model that this version can read. It is an OSError and a ValueError.
    """
    return load_model(path, loss, BUILDERS)


def from_json(
    text: str, loss: LossFunction | None = None
) -> NeuralNetwork | Ensemble | TableClassifier | TableRegressor:
    """Read a model from the text that `to_json` has returned, or from the content of a JSON file.

    Parameters
    ----------
    text : str
    loss : callable, optional
        As in `load`.

    Returns
    -------
    NeuralNetwork, Ensemble, TableClassifier or TableRegressor

    Raises
    ------
    TypeError
        `text` is not a str, or the loss of the network is a function, and `loss` is not given.
    ImportError
        The text holds the model of a table, and the extra `[tables]` is not installed.
    ModelFileError
        The text is not a model that this version can read.
    """
    where = "the JSON text"
    kind, content = _serialization.loads(text, where, "model")
    return BUILDERS[kind](content, where, loss)


def _build_table_model(content: Any, where: str, loss: LossFunction | None) -> TableClassifier | TableRegressor:
    """Return the model of a table from the checked content of a file or a text."""
    from nnc.tabular import TableClassifier, TableRegressor, file

    model = file.build_model(content, where)
    return TableClassifier._from_model(model) if model.task.kind == "classes" else TableRegressor._from_model(model)


BUILDERS: dict[str, Callable[[Any, str, Any], NeuralNetwork | Ensemble | TableClassifier | TableRegressor]] = {
    "network": NeuralNetwork._from_document,
    "ensemble": Ensemble._from_documents,
    "table model": _build_table_model,
}
