"""X and y of many networks, taken in once for all that take them alike; and the rows of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.base.checks import fraction
from nnc.base.random import SPLIT
from nnc.data import targets
from nnc.data.splits import split
from nnc.training.start import is_share

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from nnc.data.intake import Intake
    from nnc.model.data import Data

    Index = NDArray[np.intp]


class Source:
    """X and y as they came.

    Parameters
    ----------
    X, y : arrays
        As in `NeuralNetwork.fit`.
    """

    def __init__(self, X: Any, y: Any) -> None:
        self.X, self.y = X, y
        self._taken: dict[Any, Taken] = {}

    def taken(self, network: Any) -> Taken:
        """X and y as this network takes them, and all of its kind."""
        key = _kind(network.intake)
        if key not in self._taken:
            self._taken[key] = Taken(network.intake, self.X, self.y)
        return self._taken[key]


def _kind(intake: Intake) -> Any:
    """What decides how X and y are taken."""
    model, classes = intake.model, intake.classes
    known = None if classes is None else (classes.dtype.str, classes.tobytes())
    scalings = intake.scaler_X, id(intake.scaling_X), intake.scaler_y, id(intake.scaling_y)
    heads = None if model.heads is None else model.heads.made_of
    return model.dtype, model.shape, model.sizes[-1], model.loss, heads, known, intake.feature_names, scalings


class Taken:
    """X and y as one kind of network takes them.

    Attributes
    ----------
    intake : Intake
        What was learned of all rows: classes, names of columns, scalings.
    data : Data
    """

    def __init__(self, intake: Intake, X: Any, y: Any) -> None:
        pairs = (intake.scaler_X, intake.scaling_X), (intake.scaler_y, intake.scaling_y)
        self.scales = any(scaler is not None and scaling is None for scaler, scaling in pairs)
        self.intake = intake.learner()
        self._X = self.intake.array(X, learn=True)
        self._y = y
        self.data = self.intake.data(self._X, y, learn=True)
        self._held: dict[int, tuple[Any, Data | None]] = {}  # validation rows, by the argument that gave them

    def rows_of(
        self, network: Any, said: Mapping[str, Any], index: Index | None, weights: Any
    ) -> tuple[Intake, Data, Data | None]:
        """What one network learns from, and is held against.

        Parameters
        ----------
        network : NeuralNetwork
        said : dict
            Arguments of its `fit`.
        index : array (m,), optional
            The rows that it learns from. Default: all.
        weights : array (n,), optional
            How much each of all rows counts.
        """
        intake, data, validation = self.intake.copy(network.model), self.data, said.get("validation")
        held: Data | None = None
        if weights is not None:
            weights = intake.row_weights("weights", weights, len(data.X))
        if index is None and not is_share(validation):
            return intake, data if weights is None else data.with_weights(weights), self._validation(validation)
        index = np.arange(len(data.X)) if index is None else index
        if is_share(validation):
            share, key = fraction("validation", validation), network.streams.key(SPLIT)
            strata = targets.strata(targets.as_given(self._y)[index], network.model.loss, intake.classes)
            train, test = split(len(index), share, key, strata, name="validation")
            index, apart = index[train], index[test]
        if self.scales:  # with the scaling of its own rows, as if there were no others
            intake.scaling_X = network.intake.scaling_X
            intake.scaling_y = network.intake.scaling_y
            rows, y = intake.rows(self._X), targets.as_given(self._y)
            data = intake.data(rows[index], y[index], learn=True)
            held = intake.data(rows[apart], y[apart]) if is_share(validation) else intake.validation(validation)
        else:
            held = self.data.rows(apart) if is_share(validation) else self._validation(validation)
            data = data.rows(index)
        if weights is not None:
            data = data.with_weights(intake.row_weights("weights", weights[index], len(index)))
            if is_share(validation) and held is not None:
                held = held.with_weights(intake.row_weights("weights", weights[apart], len(apart)))
        return intake, data, held

    def _validation(self, given: Any) -> Data | None:
        """The rows of `fit`'s argument, no fraction."""
        if given is None:
            return None
        if id(given) not in self._held:
            self._held[id(given)] = given, self.intake.validation(given)
        return self._held[id(given)][1]
