"""Models of tables with numbers, categories, text and dates; no setting is required (extra `[tables]`).

    from nnc.tabular import TableClassifier, TableRegressor
    model = TableClassifier().fit(frame, labels)
    model.predict(new_frame), model.predict_proba(new_frame)
    print(model.report())
    model.save("model.json"), nnc.load("model.json")

The encoding of the columns is also available separately, as input of any network:

    from nnc.tabular import Schema, read_table
    table = read_table(frame)
    schema = Schema.learn(table)
    net.fit(schema.encode(table), y)
    net.predict(schema.encode(read_table(other)))
"""

from typing import TYPE_CHECKING

try:
    from nnc._tables.frames import Table, read_table
    from nnc._tables.notices import ColumnWarning
    from nnc._tables.schema import Schema
    from nnc._training.advice import LeakageWarning
    from nnc.tabular.classifier import TableClassifier
    from nnc.tabular.regressor import TableRegressor
except ImportError as error:
    from nnc._utils.packages import missing_package

    raise missing_package("nnc.tabular", "scikit-learn 1.9 or later", error, "tables") from error

__all__ = [
    "ColumnWarning",
    "LeakageWarning",
    "Schema",
    "Table",
    "TableClassifier",
    "TableRegressor",
    "read_table",
]

if not TYPE_CHECKING:  # hide __getattr__ from type checkers, which would accept any attribute of the module

    def __getattr__(name: str) -> object:
        from nnc._utils.names import unknown_name_error

        raise unknown_name_error("nnc.tabular", name, __all__)
