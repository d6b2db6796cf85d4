"""What the engine takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class Data:
    """Inputs (n, n_in), then targets (n, n_out) or labels (n,), and how much each row counts. It is taken apart in this
    order: `Training(engine, params, *data.source, ..., rows=data.index)`."""

    X: NDArray[Any]
    Y: NDArray[Any] | None
    labels: NDArray[np.int32] | None
    weights: NDArray[Any] | None
    index: NDArray[np.int32] | None = None  # which rows of `whole` they are; None: all
    n: int  # how many rows there are

    __slots__ = ("X", "Y", "labels", "n", "weights")

    def __init__(
        self,
        X: NDArray[Any],
        Y: NDArray[Any] | None,
        labels: NDArray[np.int32] | None = None,
        weights: NDArray[Any] | None = None,
    ) -> None:
        self.X, self.Y, self.labels, self.weights, self.n = X, Y, labels, weights, X.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.X, self.Y, self.labels, self.weights))

    @property
    def source(self) -> Data:
        """The arrays as they lie."""
        return self

    @property
    def target(self) -> NDArray[Any]:
        """Targets or labels, whichever there are."""
        target = self.Y if self.labels is None else self.labels
        assert target is not None
        return target

    @property
    def layout(self) -> tuple[int, bool, bool]:
        """What the engine lays out its memory for: how many rows there are, and which of the others."""
        whole = self.source
        return self.n, whole.Y is None, whole.weights is None

    @property
    def total_weight(self) -> float:
        """What all rows count together."""
        return self.n if self.weights is None else float(self.weights.sum(dtype=np.float64))

    def with_inputs(self, X: NDArray[Any]) -> Data:
        """The same rows with other inputs."""
        return Data(X, self.Y, self.labels, self.weights)

    def with_targets(self, Y: NDArray[Any]) -> Data:
        """The same inputs with other targets."""
        return Data(self.X, Y)

    def with_weights(self, weights: NDArray[Any]) -> Data:
        """The same rows, each counting so much."""
        return Data(self.X, self.Y, self.labels, weights)

    def rows(self, index: NDArray[Any] | slice) -> Data:
        """Some of the rows."""
        return Data(*[None if part is None else _selected(part, index) for part in self])  # type: ignore[arg-type]

    def materialize(self) -> Data:
        """The same as arrays of their own."""
        return self


class RowSubset(Data):
    """Some rows of others, which stay where they lie: the engine reads them there, and whoever asks for an array gets a
    copy.

    Parameters
    ----------
    source : Data
    index : int array (n,)
        Which rows.
    """

    index: NDArray[np.int32]

    __slots__ = ("_whole", "index")

    def __init__(self, whole: Data, index: NDArray[Any]) -> None:
        self._whole, self.index = whole, index.astype(np.int32, copy=False)
        self.n = len(self.index)

    @property
    def source(self) -> Data:
        return self._whole

    @property
    def X(self) -> NDArray[Any]:  # type: ignore[override]
        return self._whole.X[self.index]

    @property
    def Y(self) -> NDArray[Any] | None:  # type: ignore[override]
        return None if self._whole.Y is None else self._whole.Y[self.index]

    @property
    def labels(self) -> NDArray[np.int32] | None:  # type: ignore[override]
        return None if self._whole.labels is None else self._whole.labels[self.index]

    @property
    def weights(self) -> NDArray[Any] | None:  # type: ignore[override]
        return None if self._whole.weights is None else self._whole.weights[self.index]

    def rows(self, index: NDArray[Any] | slice) -> Data:
        return self._whole.rows(self.index[index])

    def materialize(self) -> Data:
        return self._whole.rows(self.index)


def _selected(part: NDArray[Any], index: NDArray[Any] | slice) -> NDArray[Any]:
    """Return some rows of an array or a sparse matrix."""
    if type(part) is np.ndarray and isinstance(index, np.ndarray):
        return part.take(index, axis=0)  # needs a third of the time of part[index]
    return part[index]
