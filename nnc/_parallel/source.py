"""Shared data of many networks: X and y are converted once for all networks with the same conversion."""

from __future__ import annotations

from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._data import targets
from nnc._data.fit_rows import convert_validation
from nnc._data.repeated_rows import describe_copies, find_copies
from nnc._data.sequences import Sequences
from nnc._data.splits import LastRows, as_split, split_rows
from nnc._data.targets import check_weights
from nnc._model.data import RowSubset
from nnc._model.steps import model_for_steps
from nnc._training.dataset import Dataset
from nnc._training.start import bind_rows
from nnc._utils.random import SPLIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._data.converter import DataConverter
    from nnc._data.scaling import Scaling
    from nnc._model.data import Data
    from nnc._training.plan import Plan

    Index = NDArray[np.intp]

MAX_COPY_BYTES = 1 << 22  # the rows of a network are copied from X if they have at most this many bytes


class SharedValidation(Enum):
    """Value of `FitArguments.validation` for a network that uses the validation rows shared by all networks."""

    SHARED = "the validation rows of all networks"


class ValidationRows(NamedTuple):
    """Value of `FitArguments.validation` for a network that is validated on the rows of X with these indices."""

    rows: Index


class Source:
    """Data that many networks share (X, y and validation rows), with a cache of the converted data.

    The data are converted once for all networks with equal converters. The cache is not pickled, so another process
    converts the data again.

    Parameters
    ----------
    X, y : arrays
        Data as in `NeuralNetwork.fit`.
    validation : tuple, optional
        Validation rows as in `NeuralNetwork.fit`, but not a fraction.
    lengths : int array (n,), optional
        Number of steps of each sequence, as in `NeuralNetwork.fit`.
    """

    def __init__(self, X: Any, y: Any, validation: Any = None, lengths: Any = None) -> None:
        self.X, self.y, self.validation, self.lengths = X, y, validation, lengths
        self._converted: dict[Any, ConvertedData] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Source, (self.X, self.y, self.validation, self.lengths)

    def convert(self, converter: DataConverter) -> ConvertedData:
        """Return the data converted by `converter`, from the cache if an equal converter was used before."""
        key = _conversion_key(converter)
        if key not in self._converted:
            self._converted[key] = ConvertedData(converter, self)
        return self._converted[key]


def _conversion_key(converter: DataConverter) -> Any:
    """Return a cache key with all properties of a converter that affect the conversion of X and y."""
    model, classes = converter.model, converter.classes
    labels = None if classes is None else (classes.dtype.str, classes.tobytes())
    scalings = (
        (converter.scaler_X, _scaling_key(converter.scaling_X)),
        (converter.scaler_y, _scaling_key(converter.scaling_y)),
    )
    heads = None if model.heads is None else model.heads.definition
    shapes = model.input_shape, model.stack.input.any_steps, model.stack.output_shape
    return model.dtype, shapes, model.loss, heads, labels, converter.feature_names, scalings


def _scaling_key(scaling: Scaling | None) -> tuple[bytes, bytes] | None:
    return None if scaling is None else (scaling.shift.tobytes(), scaling.factor.tobytes())


class ConvertedData:
    """X and y of a source, converted for networks with equal converters.

    Attributes
    ----------
    X : array or Sequences
        Unconverted inputs, with the columns in the order of the network's feature names.
    n : int
        Number of rows.
    converter : DataConverter
        Converter whose classes, feature names and scalings are those of all rows, after the first use of `data`.
    learns_scaling : bool
        Whether the networks scale X or y with a scaling that is not computed yet. Each network then computes it from
        its own rows.
    """

    def __init__(self, converter: DataConverter, source: Source) -> None:
        pairs = (converter.scaler_X, converter.scaling_X), (converter.scaler_y, converter.scaling_y)
        self.learns_scaling = any(scaler is not None and scaling is None for scaler, scaling in pairs)
        self.converter, X = bind_rows(converter.copy_for_fit(), source.X, source.lengths, source.validation)
        self.X = self.converter.array(X, learn=True)
        self._y = source.y
        if isinstance(X, Sequences):
            self._y = X.targets(source.y, self.converter.model.stack.output_shape)
        self.n = len(self.converter.rows(self.X))
        self._source_validation = source.validation

    @cached_property
    def _converted(self) -> tuple[Data, Data | None]:
        """Converted rows and shared validation rows.

        They are converted on first use, because the automatic settings may replace the converter of the networks.
        """
        data = self.converter.data(self.X, self._y, learn=True)
        return data, None if self.learns_scaling else convert_validation(self.converter, self._source_validation)

    @property
    def data(self) -> Data:
        """Converted X and y of the source."""
        return self._converted[0]

    @property
    def shared_validation(self) -> Data | None:
        """Converted validation rows of the source; None if there are none, or if each network converts them itself."""
        return self._converted[1]

    def split_rows(self, plan: Plan, index: Index | None) -> tuple[Index | None, Index | None, str | None]:
        """Return the indices of the training and validation rows of a network, and the warning about copies of rows.

        The first value is None if all rows train. The second value is None if no rows of X are validation rows. The
        third value is None if no row is a copy.
        """
        validation: Any = plan.arguments.validation
        if isinstance(validation, ValidationRows):
            return np.arange(self.n) if index is None else index, validation.rows, None
        if (method := as_split(validation)) is None:
            return index, None, None
        X = self.converter.rows(self.X)
        y = targets.check_row_count(X, self._y)
        inputs = X if index is None else X[index]
        index = np.arange(self.n) if index is None else index
        key = plan.streams.key(SPLIT)
        strata = targets.stratification_labels(
            y[index], plan.model.loss, self.converter.classes, self.converter.class_steps
        )
        group = None if isinstance(method, LastRows) else find_copies(inputs, y[index], strata)
        [(train, held_out)] = split_rows(len(index), method, key, strata, name="validation", group=group)
        return index[train], index[held_out], None if group is None else describe_copies(group)

    def build_dataset(self, plan: Plan, index: Index | None, weights: Any) -> tuple[Dataset, str | None]:
        """Return the training and validation rows of one network, and the warning about copies of rows or None.

        Parameters
        ----------
        plan : Plan
            Plan of the training of the network; for its converter, `Source.convert` has returned this object.
        index : array (m,), optional
            Indices of the rows of the network. Default: all rows.
        weights : array (n,), optional
            Weights of all rows.
        """
        data = self.data
        validation: Any = plan.arguments.validation
        converter = self.converter.copy(plan.model)
        if converter.is_bound:
            converter.model = model_for_steps(plan.model, self.converter.model.input_shape[0])
        is_shared = validation is SharedValidation.SHARED
        if is_shared:
            validation = self._source_validation
        if weights is not None:
            weights = check_weights(converter.model, "sample_weight", weights, data.n)
        index, validation_index, copies = self.split_rows(plan, index)
        if index is None and converter.is_bound and validation is not None and not is_shared:
            index = np.arange(self.n)  # bind the rows again, because validation rows of the caller may have more steps
        if index is None:
            held_out = self.shared_validation if is_shared else None
            if held_out is None:
                held_out = convert_validation(converter, validation)
            return Dataset(converter, data if weights is None else data.replaced(weights=weights), held_out), None
        # Compute scaling and number of steps from the rows of this network.
        if self.learns_scaling or converter.is_bound:
            y, is_converted = targets.as_label_array(self._y), not (converter.is_bound or isinstance(self.X, Sequences))
            X = converter.rows(self.X) if is_converted else self.X
            converter = converter.unbound(plan.model)
            if self.learns_scaling:
                converter.scaling_X, converter.scaling_y = plan.converter.scaling_X, plan.converter.scaling_y
            held_out_X = None if validation_index is None else X[validation_index]
            validation_rows: Any = validation if held_out_X is None else (held_out_X, None)
            converter, rows = bind_rows(converter, X[index], None, validation_rows)
            data = converter.data(rows, y[index], learn=True)
            if validation_index is None:
                held_out = convert_validation(converter, validation)
            else:
                held_out = converter.data(converter.bind(held_out_X)[1], y[validation_index])
                if weights is not None:
                    held_out = held_out.replaced(weights=weights[validation_index])
            if weights is not None:
                data = data.replaced(weights=weights[index])
        else:
            data = data if weights is None else data.replaced(weights=weights)
            if is_shared:
                held_out = self.shared_validation
            elif validation_index is None:
                held_out = convert_validation(converter, validation)
            else:
                held_out = _select_rows(data, validation_index)
            data = _select_rows(data, index)
        if weights is not None:
            # Reject a selection of rows that all have weight 0, which is possible although the weights of X are valid.
            for part in (index,) if validation_index is None else (index, validation_index):
                check_weights(converter.model, "sample_weight", weights[part], len(part))
        return Dataset(converter, data, held_out), copies


def _select_rows(data: Data, index: Index) -> Data:
    """Return selected rows of the converted data: a copy for fast reading, or a view if the copy would be too large."""
    size = data.X.itemsize * data.X.shape[1] * len(index)
    return data.rows(index) if size <= MAX_COPY_BYTES else RowSubset(data, index)
