"""Training and validation data as arrays of the dtype and layout that the engine requires."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class Data:
    """Inputs X (n, n_in), targets Y (n, n_out) or labels (n,), sample weights (n,) and lengths (n,) for the engine.

    If each step of a row has a class, `labels` contains those of all steps of the first row, then of the second row,
    and so on. `lengths` are the numbers of steps if the rows are sequences of different lengths, else None.

    Unpacking yields the arrays in the order of the parameters of `core.Training`:
    `Training(engine, params, *data.source, ..., rows=data.index)`.
    """

    X: NDArray[Any]
    Y: NDArray[Any] | None
    labels: NDArray[np.int32] | None
    weights: NDArray[Any] | None
    lengths: NDArray[np.int32] | None
    index: NDArray[np.int32] | None = None  # indices of the selected rows of `source`; None if all rows are selected
    n: int  # number of selected rows

    __slots__ = ("X", "Y", "labels", "lengths", "n", "weights")

    def __init__(
        self,
        X: NDArray[Any],
        Y: NDArray[Any] | None,
        labels: NDArray[np.int32] | None = None,
        weights: NDArray[Any] | None = None,
        lengths: NDArray[np.int32] | None = None,
    ) -> None:
        self.X, self.Y, self.labels, self.weights, self.lengths = X, Y, labels, weights, lengths
        self.n = X.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.X, self.Y, self.labels, self.weights, self.lengths))

    @property
    def source(self) -> Data:
        """Data object whose arrays contain all rows, before any selection."""
        return self

    @property
    def target(self) -> NDArray[Any]:
        """Integer labels if the targets are labels, otherwise the array Y."""
        target = self.Y if self.labels is None else self.labels
        assert target is not None
        return target

    @property
    def layout(self) -> tuple[int, bool, bool, bool]:
        """Number of rows, and whether Y, `weights` and `lengths` are None; the buffers of the core depend on them."""
        source = self.source
        return self.n, source.Y is None, source.weights is None, source.lengths is None

    @property
    def total_weight(self) -> float:
        """Sum of the sample weights."""
        return self.n if self.weights is None else float(self.weights.sum(dtype=np.float64))

    def loss_weight(self, output_shape: tuple[int, ...]) -> float:
        """Return the sum of the weights by which the loss is averaged.

        If outputs have the shape (steps, k), the weight of a row counts once for each step of the row.
        """
        if len(output_shape) == 1:
            return self.total_weight
        if self.lengths is None:
            return self.total_weight * output_shape[0]
        return float(self.lengths.sum() if self.weights is None else self.weights @ self.lengths)

    def with_inputs(self, X: NDArray[Any]) -> Data:
        """Return a copy of this data with other inputs."""
        return Data(X, self.Y, self.labels, self.weights, self.lengths)

    def with_targets(self, Y: NDArray[Any]) -> Data:
        """Return a copy of this data with other targets."""
        return Data(self.X, Y, lengths=self.lengths)

    def with_weights(self, weights: NDArray[Any]) -> Data:
        """Return a copy of this data with other sample weights."""
        return Data(self.X, self.Y, self.labels, weights, self.lengths)

    def rows(self, index: NDArray[Any] | slice) -> Data:
        """Return the data of the rows that `index` selects."""
        return Data(*[None if part is None else _selected(part, index, self.n) for part in self])  # type: ignore[arg-type]

    def materialize(self) -> Data:
        """Return data whose arrays contain only the selected rows."""
        return self


class RowSubset(Data):
    """Selected rows of other data, which are not copied; the engine reads them by their index.

    Parameters
    ----------
    source : Data
        Data with all rows.
    index : int array (n,)
        Indices of the selected rows.
    """

    index: NDArray[np.int32]

    __slots__ = ("_source", "index")

    def __init__(self, source: Data, index: NDArray[Any]) -> None:
        self._source, self.index = source, index.astype(np.int32, copy=False)
        self.n = len(self.index)

    @property
    def source(self) -> Data:
        """Data object with all rows, from which `index` selects."""
        return self._source

    @property
    def X(self) -> NDArray[Any]:  # type: ignore[override]
        """Copy of the inputs of the selected rows."""
        return self._source.X[self.index]

    @property
    def Y(self) -> NDArray[Any] | None:  # type: ignore[override]
        """Copy of the targets of the selected rows."""
        return None if self._source.Y is None else self._source.Y[self.index]

    @property
    def labels(self) -> NDArray[np.int32] | None:  # type: ignore[override]
        """Copy of the labels of the selected rows."""
        return None if self._source.labels is None else _selected(self._source.labels, self.index, self._source.n)

    @property
    def weights(self) -> NDArray[Any] | None:  # type: ignore[override]
        """Copy of the sample weights of the selected rows."""
        return None if self._source.weights is None else self._source.weights[self.index]

    @property
    def lengths(self) -> NDArray[np.int32] | None:  # type: ignore[override]
        """Copy of the lengths of the selected rows."""
        return None if self._source.lengths is None else self._source.lengths[self.index]

    def rows(self, index: NDArray[Any] | slice) -> Data:
        """Return some of the selected rows; `index` counts only the selected rows, not all rows of `source`."""
        return self._source.rows(self.index[index])

    def materialize(self) -> Data:
        """Return a copy of the selected rows."""
        return self._source.rows(self.index)


def _selected(part: NDArray[Any], index: NDArray[Any] | slice, n: int) -> NDArray[Any]:
    """Return the selected rows of an array or a sparse matrix, or the labels of all steps of these n rows."""
    if part.ndim == 1 and len(part) != n:
        return part.reshape(n, -1)[index].reshape(-1)
    if type(part) is np.ndarray and isinstance(index, np.ndarray):
        return part.take(index, axis=0)  # `take` is faster than an index expression
    return part[index]
