"""Rows in the format of the caller, before their conversion for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Batch(NamedTuple):
    """Rows in the format of the caller, before their conversion to `Data`.

    Attributes
    ----------
    X, y : array
        Inputs and targets.
    sample_weight : array (n,), optional
    lengths : int array (n,), optional
        Numbers of steps of sequences.
    dY : array (n, n_out, n_in), optional
        Derivatives of the targets with respect to the inputs; NaN is a missing one.
    """

    X: Any
    y: Any
    sample_weight: Any = None
    lengths: Any = None
    dY: Any = None

    def rows(self, index: NDArray[Any]) -> Batch:
        """Return the rows with these indices."""
        return Batch(*(None if part is None else part[index] for part in self))


def unpack_batch(batch: Any) -> Batch:
    """Return a batch of `fit_batches`, a tuple or a list, as a Batch."""
    if isinstance(batch, Batch):
        return batch
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3, 4):
        raise TypeError(
            "batches must contain (X, y), (X, y, sample_weight) or (X, y, sample_weight, lengths), got "
            f"{type(batch).__name__}"
        )
    return Batch(*batch)
