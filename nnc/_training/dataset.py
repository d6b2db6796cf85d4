"""Training and validation rows of a run, converted once for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from nnc._data.converter import DataConverter
    from nnc._model.data import Data
    from nnc._training.arguments import FitArguments


class Dataset:
    """Training and validation rows as arrays of the engine.

    Parameters
    ----------
    converter : DataConverter
        Conversion that has learned classes, column names and scalings from these rows.
    rows : Data
        Inputs, targets and weights of the training rows; with batches that are read one after the other, of the first
        batch.
    validation : Data, optional
        Validation rows.
    """

    __slots__ = ("converter", "rows", "validation")

    def __init__(self, converter: DataConverter, rows: Data, validation: Data | None = None) -> None:
        self.converter, self.rows, self.validation = converter, rows, validation

    @classmethod
    def from_arrays(cls, converter: DataConverter, X: ArrayLike, y: ArrayLike, arguments: FitArguments) -> Dataset:
        """Convert the arrays of a fit. `converter` learns classes and scalings from them."""
        dY = None if arguments.dY is None else np.asarray(arguments.dY)
        rows = converter.with_slopes(converter.data(X, y, arguments.sample_weight, learn=True), dY)
        return cls(converter, rows, converter.validation(arguments.validation))

    @property
    def metric_rows(self) -> Data:
        """Rows on which metrics are computed: the validation rows, or the training rows if there are none."""
        return self.rows if self.validation is None else self.validation
