"""The rows of a run, converted once for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from nnc._data.converter import DataConverter
    from nnc._model.data import Data
    from nnc._training.arguments import FitArguments


class Dataset:
    """Training and validation rows as the engine takes them.

    Parameters
    ----------
    converter : DataConverter
        The conversion with what it has learned from these rows: classes, column names and scalings.
    rows : Data
        Inputs, targets and weights of the training rows; of batches that arrive one by one, the first batch.
    validation : Data, optional
    """

    __slots__ = ("converter", "rows", "validation")

    def __init__(self, converter: DataConverter, rows: Data, validation: Data | None = None) -> None:
        self.converter, self.rows, self.validation = converter, rows, validation

    @classmethod
    def from_arrays(cls, converter: DataConverter, X: ArrayLike, y: ArrayLike, arguments: FitArguments) -> Dataset:
        """Convert the arrays of a fit; `converter` learns from them."""
        rows = converter.data(X, y, arguments.sample_weight, learn=True)
        validation = arguments.validation
        return cls(converter, rows, None if validation is None else converter.validation(validation))

    @property
    def measured(self) -> Data:
        """The rows that metrics are computed on."""
        return self.rows if self.validation is None else self.validation
