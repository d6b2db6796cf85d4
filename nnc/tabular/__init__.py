"""Models of tables, with nothing to set: frames of numbers, categories, text and dates in, classes or numbers out
(extra `[tables]`).

    from nnc.tabular import TableClassifier, TableRegressor
    model = TableClassifier().fit(frame, labels)
    model.predict(new_frame), model.predict_proba(new_frame)
    print(model.report())
    model.save("model.json"), nnc.tabular.load("model.json")

What they do with columns is there by itself:

    from nnc.tabular import Schema, read_table
    table = read_table(frame)
    schema = Schema.learn(table)
    net.fit(schema.encode(table), y)
    net.predict(schema.encode(read_table(other)))
"""

from typing import Any

MISSING = 'nnc.tabular needs scikit-learn 1.9 or later ({}); install it with pip install "nnc-cython[tables]"'

try:
    from nnc.tabular import file
    from nnc.tabular.classifier import TableClassifier
    from nnc.tabular.estimator import TableEstimator
    from nnc.tabular.frames import Table, read_table
    from nnc.tabular.notices import ColumnWarning, LeakageWarning
    from nnc.tabular.regressor import TableRegressor
    from nnc.tabular.schema import Schema
except ImportError as error:
    raise ImportError(MISSING.format(error)) from error

__all__ = [
    "ColumnWarning",
    "LeakageWarning",
    "Schema",
    "Table",
    "TableClassifier",
    "TableRegressor",
    "load",
    "read_table",
]


def load(path: Any) -> TableEstimator:
    """Read a model that `save` of a TableClassifier or a TableRegressor has written.

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
