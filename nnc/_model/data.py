"""Training and validation data as arrays of the dtype and layout that the engine requires."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = ("X", "Y", "labels", "weights", "lengths", "dY", "residual_weights")  # names of the arrays of Data


class RunSettings:
    """Checked settings of `core.Training`.

    Parameters
    ----------
    batch_size : int
        Rows of a mini-batch.
    constants : dict
        Options of the optimizer and of the run, listed in the docstring of `core.Training`.
    order : int32 array (n) or None
        Buffer for the row indices in the order of an epoch, which the core shuffles. None: the order of the rows.
    moments : real array (k, engine.size) or None
        Moments of the optimizer: m is the first row, v the last.
    threads : int
        Maximum number of threads.
    """

    __slots__ = ("batch_size", "constants", "moments", "order", "threads")

    def __init__(
        self,
        batch_size: int,
        constants: dict[str, Any],
        order: NDArray[np.int32] | None = None,
        moments: NDArray[Any] | None = None,
        threads: int = 1,
    ) -> None:
        self.batch_size, self.constants, self.threads = batch_size, constants, threads
        self.order, self.moments = order, moments


class Data:
    """Rows as the engine reads them. The core uses the memory of the arrays, so the attributes must not be assigned.

    Parameters
    ----------
    X : array (n, n_in)
        Inputs.
    Y : array (n, n_out) or None
        Targets; for a custom loss, with any number of columns.
    labels : int32 array (n,) or (n * steps,), optional
        Class indices, which replace Y. If each step of a row has a class, the array contains those of all steps of the
        first row, then of the second row, and so on.
    weights : array (n,), optional
        Sample weights.
    lengths : int32 array (n,), optional
        Numbers of steps if the rows are sequences of different lengths.
    dY : array (n, n_out * n_in), optional
        Derivatives of the targets with respect to the inputs; NaN is a missing one. Without dY, all are missing.
    residual_weights : array (n,), optional
        Weights with mean 1 of the squared residuals of nnc.LeastSquares.
    """

    X: NDArray[Any]
    Y: NDArray[Any] | None
    labels: NDArray[np.int32] | None
    weights: NDArray[Any] | None
    lengths: NDArray[np.int32] | None
    dY: NDArray[Any] | None
    residual_weights: NDArray[Any] | None
    index: NDArray[np.int32] | None = None  # indices of the selected rows of `source`; None if all rows are selected
    n: int  # number of selected rows

    __slots__ = ("X", "Y", "dY", "labels", "lengths", "n", "residual_weights", "weights")

    def __init__(
        self,
        X: NDArray[Any],
        Y: NDArray[Any] | None = None,
        labels: NDArray[np.int32] | None = None,
        weights: NDArray[Any] | None = None,
        lengths: NDArray[np.int32] | None = None,
        dY: NDArray[Any] | None = None,
        residual_weights: NDArray[Any] | None = None,
    ) -> None:
        self.X, self.Y, self.labels, self.weights, self.lengths = X, Y, labels, weights, lengths
        self.dY, self.residual_weights = dY, residual_weights
        self.n = X.shape[0]

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
    def metric_weights(self) -> NDArray[Any] | None:
        """Weights of the rows in metrics: the sample weights, or the weights of the residuals."""
        return self.weights if self.residual_weights is None else self.residual_weights

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

    def replaced(self, **parts: Any) -> Data:
        """Return a copy of this data with other arrays, for example other inputs X."""
        return Data(**{name: getattr(self, name) for name in PARTS} | parts)

    def with_output_gradient(self, dP: NDArray[Any]) -> Data:
        """Return the inputs with the derivatives dP of a loss with respect to the outputs instead of targets."""
        return Data(self.X, dP, lengths=self.lengths)

    def rows(self, index: NDArray[Any] | slice) -> Data:
        """Return the data of the rows that `index` selects."""
        parts: dict[str, Any] = {}
        for name in PARTS:
            part = getattr(self, name)
            parts[name] = None if part is None else _selected(part, index, self.n)
        return Data(**parts)

    def materialize(self) -> Data:
        """Return data whose arrays contain only the selected rows."""
        return self


def _copied_part(name: str) -> Any:
    """Return a property of RowSubset that copies the selected rows of an array of the source."""

    def part(self: RowSubset) -> NDArray[Any] | None:
        array = getattr(self.source, name)
        return None if array is None else _selected(array, self.index, self.source.n)

    return property(part, doc=f"Copy of `{name}` of the selected rows, or None.")


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

    X, Y, labels, weights, lengths, dY, residual_weights = map(_copied_part, PARTS)

    def __init__(self, source: Data, index: NDArray[Any]) -> None:
        self._source, self.index = source, index.astype(np.int32, copy=False)
        self.n = len(self.index)

    @property
    def source(self) -> Data:
        """Data object with all rows, from which `index` selects."""
        return self._source

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
