"""Tables: frames of numbers, categories, text and dates, as networks take them (extra `[tables]`).

from nnc.tabular import Schema, read_table
table = read_table(frame)
schema = Schema.learn(table)
net.fit(schema.encode(table), y)
net.predict(schema.encode(read_table(other)))
"""

MISSING = 'nnc.tabular needs scikit-learn 1.9 or later ({}); install it with pip install "nnc-cython[tables]"'

try:
    from nnc.tabular.frames import Table, read_table
    from nnc.tabular.schema import Schema
except ImportError as error:
    raise ImportError(MISSING.format(error)) from error

__all__ = ["Schema", "Table", "read_table"]
