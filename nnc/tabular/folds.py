"""Division of the training rows into the folds of a cross-validation, and of each fold into parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_FOLDS = 5  # number of cross-validation folds; each ensemble member is trained without one of them, or on all rows
N_PARTS = 10  # number of parts into which the held-out rows of a fold are divided, see snapshots.py
MIN_CROSS_VALIDATION_ROWS = 2 * N_FOLDS  # with fewer training rows, no rows are held out


def n_fold_training_rows(rows: int) -> int:
    """Return the number of rows from which each member of the cross-validation learns, given `rows` in total."""
    return rows if rows < MIN_CROSS_VALIDATION_ROWS else rows - rows // N_FOLDS


class Folds(NamedTuple):
    """Fold and part of each training row.

    Attributes
    ----------
    fold : int8 array (n,)
        Number of the fold that contains the row, from 0 to N_FOLDS - 1.
    part : int8 array (n,)
        Number of the part of this fold that contains the row, from 0 to N_PARTS - 1.
    """

    fold: NDArray[np.int8]
    part: NDArray[np.int8]

    @classmethod
    def split(cls, y: NDArray[Any], seed: int) -> Folds:
        """Divide rows at random; the proportions of the classes are the same in all folds and parts.

        Parameters
        ----------
        y : array (n,) of class indices, or float array (n, targets)
        seed : int
        """
        order = np.random.default_rng([seed, 1]).permutation(len(y))
        if y.ndim == 1:
            order = order[np.argsort(y[order], kind="stable")]
        rank = np.empty_like(order)
        rank[order] = np.arange(len(y))
        return cls((rank % N_FOLDS).astype(np.int8), (rank // N_FOLDS % N_PARTS).astype(np.int8))

    @property
    def n_folds(self) -> int:
        """Number of folds that are held out; 0 if there are too few rows for a cross-validation."""
        return N_FOLDS if len(self.fold) >= MIN_CROSS_VALIDATION_ROWS else 0

    def learns(self, fold: int | None) -> NDArray[np.bool_]:
        """Return the mask (n,) of the rows from which a member learns that holds out a fold, or none."""
        return np.ones(len(self.fold), bool) if fold is None else self.fold != fold
