"""What the engine takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class Data:
    """Inputs (n, n_in), then targets (n, n_out) or labels (n,), and how much each row counts. It is taken apart in this
    order: `Training(engine, params, *data, ...)`."""

    labels: NDArray[np.int32] | None
    weights: NDArray[Any] | None

    __slots__ = ("X", "Y", "labels", "weights")

    def __init__(
        self,
        X: NDArray[Any],
        Y: NDArray[Any] | None,
        labels: NDArray[np.int32] | None = None,
        weights: NDArray[Any] | None = None,
    ) -> None:
        self.X, self.Y, self.labels, self.weights = X, Y, labels, weights

    def __iter__(self) -> Iterator[Any]:
        return iter((self.X, self.Y, self.labels, self.weights))

    @property
    def target(self) -> NDArray[Any]:
        """Targets or labels, whichever there are."""
        target = self.Y if self.labels is None else self.labels
        assert target is not None
        return target

    @property
    def form(self) -> tuple[int, bool, bool]:
        """What the engine lays out its memory for: how many rows there are, and which of the others."""
        return len(self.X), self.Y is None, self.weights is None

    @property
    def weight(self) -> float:
        """What all rows count together."""
        return self.X.shape[0] if self.weights is None else float(self.weights.sum(dtype=np.float64))

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
        return Data(*[None if part is None else part[index] for part in self])  # type: ignore[arg-type]
