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
        rows = converter.data(X, y, arguments.sample_weight, learn=True)
        validation = converter.validation(arguments.validation)
        if arguments.dY is not None:
            from nnc._data.slopes import with_slopes

            rows = with_slopes(converter, rows, np.asarray(arguments.dY))
            validation = None if validation is None else with_slopes(converter, validation, arguments.validation_dY)
        if arguments.residual_weight is not None:
            from nnc._data.slopes import with_residual_weights

            rows = with_residual_weights(rows, arguments.residual_weight)
            if validation is not None:
                validation = with_residual_weights(validation, arguments.validation_residual_weight)
        return cls(converter, rows, validation)

    @property
    def metric_rows(self) -> Data:
        """Rows on which metrics are computed: the validation rows, or the training rows if there are none."""
        return self.rows if self.validation is None else self.validation
