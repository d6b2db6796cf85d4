"""The model in a file, whatever it predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc.tabular import file
from nnc.tabular.classifier import TableClassifier
from nnc.tabular.regressor import TableRegressor

if TYPE_CHECKING:
    from nnc.tabular.estimator import TableEstimator


def load(path: Any) -> TableEstimator:
    """Reads a model that `save` of a TableClassifier or a TableRegressor has written.

    Parameters
    ----------
    path : str, os.PathLike or text file

    Returns
    -------
    TableClassifier or TableRegressor

    Raises
    ------
    OSError
        It cannot be read, or is no such model (ModelFileError): the message says why and what to do.
    """
    model = file.read(path)
    kind = TableClassifier if model.task.kind == "classes" else TableRegressor
    return kind._of_model(model)
