"""Training and validation rows of a run, converted once for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnc._data.fit_rows import convert_validation

if TYPE_CHECKING:
    from typing import Any

    from nnc._data.batch import Batch
    from nnc._data.converter import DataConverter
    from nnc._model.data import Data


class Dataset:
    """Training and validation rows as arrays of the engine.

    Parameters
    ----------
    converter : DataConverter
        Conversion that has learned classes, column names and scalings from these rows.
    rows : Data or None
        Inputs, targets and weights of the training rows; with batches that are read one after the other, of the first
        batch. None for the equations of a Problem, which have no rows.
    validation : Data, optional
        Validation rows.
    """

    __slots__ = ("_rows", "converter", "validation")

    def __init__(self, converter: DataConverter, rows: Data | None, validation: Data | None = None) -> None:
        self.converter, self._rows, self.validation = converter, rows, validation

    @classmethod
    def from_batch(cls, converter: DataConverter, batch: Batch, validation: Any) -> Dataset:
        """Convert the rows of a fit. `converter` learns classes and scalings from the training rows."""
        dY = None if batch.dY is None else np.asarray(batch.dY)
        rows = converter.with_slopes(converter.data(batch.X, batch.y, batch.sample_weight, learn=True), dY)
        return cls(converter, rows, convert_validation(converter, validation))

    @property
    def rows(self) -> Data:
        """Training rows of a run that has rows."""
        assert self._rows is not None
        return self._rows

    @property
    def metric_rows(self) -> Data:
        """Rows on which metrics are computed: the validation rows, or the training rows if there are none."""
        return self.rows if self.validation is None else self.validation
