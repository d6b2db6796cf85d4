"""X and y of many networks, taken in once for all that take them alike; and the rows of each."""

from __future__ import annotations

from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc._data import targets
from nnc._data.splits import split
from nnc._model.data import RowSubset
from nnc._training.dataset import Dataset
from nnc._training.start import is_fraction
from nnc._utils.checks import check_fraction
from nnc._utils.random import SPLIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._data.converter import DataConverter
    from nnc._data.scaling import Scaling
    from nnc._model.data import Data
    from nnc._training.arguments import FitArguments

    Index = NDArray[np.intp]

COPIED = 1 << 22  # bytes up to which the inputs of a network are copied: more of them are read where all rows lie


class Held(Enum):
    """Stands among the arguments of a network where its validation rows are those of the source."""

    HELD = "the validation rows of all networks"


class Apart(NamedTuple):
    """Stands among the arguments of a network where its validation rows are some of X, with their y and weights."""

    rows: Index


class Source:
    """X and y as they came, and the validation rows that are the same for all. It may go to another process, where it
    is taken in anew, once.

    Parameters
    ----------
    X, y : arrays
        As in `NeuralNetwork.fit`.
    validation : tuple, optional
        As there, and no fraction.
    """

    def __init__(self, X: Any, y: Any, validation: Any = None) -> None:
        self.X, self.y, self.validation = X, y, validation
        self._taken: dict[Any, Taken] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Source, (self.X, self.y, self.validation)

    def taken(self, converter: DataConverter) -> Taken:
        """X and y as a network with this converter takes them, and all of its kind."""
        key = _kind(converter)
        if key not in self._taken:
            self._taken[key] = Taken(converter, self)
        return self._taken[key]


def _kind(converter: DataConverter) -> Any:
    """What decides how X and y are taken."""
    model, classes = converter.model, converter.classes
    known = None if classes is None else (classes.dtype.str, classes.tobytes())
    scalings = (converter.scaler_X, _numbers(converter.scaling_X)), (converter.scaler_y, _numbers(converter.scaling_y))
    heads = None if model.heads is None else model.heads.definition
    return model.dtype, model.input_shape, model.sizes[-1], model.loss, heads, known, converter.feature_names, scalings


def _numbers(scaling: Scaling | None) -> tuple[bytes, bytes] | None:
    return None if scaling is None else (scaling.shift.tobytes(), scaling.factor.tobytes())


class Taken:
    """X and y as one kind of network takes them.

    Attributes
    ----------
    X : array
        As it came, with its columns in order.
    n : int
        How many rows there are.
    converter : DataConverter
        What was learned of all rows, once there is `data`: classes, names of columns, scalings.
    """

    def __init__(self, converter: DataConverter, source: Source) -> None:
        pairs = (converter.scaler_X, converter.scaling_X), (converter.scaler_y, converter.scaling_y)
        self.scales = any(scaler is not None and scaling is None for scaler, scaling in pairs)
        self.converter = converter.copy_for_fit()
        self.X = self.converter.array(source.X, learn=True)
        self._y = source.y
        self.n = len(self.converter.rows(self.X))
        self.given = source.validation

    @cached_property
    def _both(self) -> tuple[Data, Data | None]:
        """Made when the first network wants it: those that turn out to be of another kind want no more than n."""
        data = self.converter.data(self.X, self._y, learn=True)
        return data, None if self.scales else self.converter.validation(self.given)

    @property
    def data(self) -> Data:
        """All rows."""
        return self._both[0]

    @property
    def held(self) -> Data | None:
        """The validation rows that are the same for all networks."""
        return self._both[1]

    def parted(self, network: Any, arguments: FitArguments, index: Index | None) -> tuple[Index | None, Index | None]:
        """The rows that a network learns from, and those that it is held against; None: all, and none."""
        validation: Any = arguments.validation
        if isinstance(validation, Apart):
            return np.arange(self.n) if index is None else index, validation.rows
        if not is_fraction(validation):
            return index, None
        y = targets.check_row_count(self.converter.rows(self.X), self._y)
        index = np.arange(self.n) if index is None else index
        share, key = check_fraction("validation", validation), network.streams.key(SPLIT)
        strata = targets.stratification_labels(y[index], network.model.loss, self.converter.classes)
        train, test = split(len(index), share, key, strata, name="validation")
        return index[train], index[test]

    def rows_of(
        self, network: Any, chosen: DataConverter, arguments: FitArguments, index: Index | None, weights: Any
    ) -> Dataset:
        """Return the training and validation rows of one network.

        Parameters
        ----------
        network : NeuralNetwork
        chosen : DataConverter
            The one that has been asked for, see Source.taken.
        arguments : FitArguments
            Of its `fit`.
        index : array (m,), optional
            The rows that it learns from. Default: all.
        weights : array (n,), optional
            How much each of all rows counts.
        """
        data = self.data
        validation: Any = arguments.validation
        converter, held = self.converter.copy(network.model), None
        common = validation is Held.HELD
        if common:
            validation = self.given
        if weights is not None:
            weights = converter.row_weights("sample_weight", weights, data.n)
        index, apart = self.parted(network, arguments, index)
        if index is None:
            held = self.held if common and self.held is not None else converter.validation(validation)
            return Dataset(converter, data if weights is None else data.with_weights(weights), held)
        if self.scales:  # with the scaling of its own rows, as if there were no others
            converter.scaling_X, converter.scaling_y = chosen.scaling_X, chosen.scaling_y
            rows, y = converter.rows(self.X), targets.as_label_array(self._y)
            data = converter.data(rows[index], y[index], learn=True)
            held = converter.data(rows[apart], y[apart]) if apart is not None else converter.validation(validation)
            if weights is not None:
                data = data.with_weights(weights[index])
                held = held if apart is None or held is None else held.with_weights(weights[apart])
        else:
            data = data if weights is None else data.with_weights(weights)
            if common:
                held = self.held
            elif apart is None:
                held = converter.validation(validation)
            else:
                held = _some(data, apart)
            data = _some(data, index)
        if weights is not None:
            for part in (index,) if apart is None else (index, apart):
                converter.row_weights("sample_weight", weights[part], len(part))  # which may be too small together
        return Dataset(converter, data, held)


def _some(data: Data, index: Index) -> Data:
    """Some rows of what is shared: few are copied, as copies lie together; many would take too much memory."""
    size = data.X.itemsize * data.X.shape[1] * len(index)
    return data.rows(index) if size <= COPIED else RowSubset(data, index)
