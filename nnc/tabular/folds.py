"""Division of the training rows into the folds of a cross-validation, and of each fold into parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_FOLDS = 5  # number of cross-validation folds; each ensemble member is trained without one of them, or on all rows
N_PARTS = 10  # number of parts into which the held-out rows of a fold are divided, see snapshots.py
MIN_CROSS_VALIDATION_ROWS = 2 * N_FOLDS  # with fewer different training rows, no rows are held out


def n_fold_training_rows(rows: int) -> int:
    """Return the number of rows from which each member of the cross-validation learns, given `rows` in total."""
    return rows if rows < MIN_CROSS_VALIDATION_ROWS else rows - rows // N_FOLDS


def rank_groups(groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return for each row (n,) the rank of its group, from 0, in the order of the first rows of the groups."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


class Folds(NamedTuple):
    """Fold and part of each training row; all rows of a group are in the same fold and part.

    Attributes
    ----------
    fold : int8 array (n,)
        Number of the fold that contains the row, from 0 to N_FOLDS - 1.
    part : int8 array (n,)
        Number of the part of this fold that contains the row, from 0 to N_PARTS - 1.
    group : int array (n,) or None
        Number of the group of the row. A group consists of copies of a row, see repeated_rows.py. None: each row is a
        group.
    """

    fold: NDArray[np.int8]
    part: NDArray[np.int8]
    group: NDArray[np.intp] | None

    @classmethod
    def split(cls, y: NDArray[Any], seed: int, group: NDArray[np.intp] | None = None) -> Folds:
        """Divide rows at random; the proportions of the classes are the same in all folds and parts.

        Parameters
        ----------
        y : array (n,) of class indices, or float array (n, targets)
        seed : int
        group : int array (n,), optional
            Group of each row; all rows of a group have the same y. Default: each row is a group.
        """
        n = len(y)
        groups = np.arange(n) if group is None else group
        order = np.random.default_rng([seed, 1]).permutation(n)
        # Sort by class, and within a class by the size of the group, so that folds have similar numbers of rows.
        labels = y if y.ndim == 1 else np.zeros(n, int)
        size = np.bincount(groups)[groups]
        order = order[np.lexsort((-size[order], labels[order]))]
        rank = np.empty(n, np.intp)
        rank[order] = rank_groups(groups[order])
        return cls((rank % N_FOLDS).astype(np.int8), (rank // N_FOLDS % N_PARTS).astype(np.int8), group)

    @property
    def distinct_rows(self) -> NDArray[np.intp]:
        """Index of the first row of each group, array (groups,)."""
        if self.group is None:
            return np.arange(len(self.fold))
        rows: NDArray[np.intp] = np.unique(self.group, return_index=True)[1]
        return rows

    def groups_of(self, indices: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the numbers of the groups of the rows with these indices."""
        return indices if self.group is None else self.group[indices]

    @property
    def n_folds(self) -> int:
        """Number of folds that are held out; 0 if there are too few groups for a cross-validation."""
        return N_FOLDS if len(self.distinct_rows) >= MIN_CROSS_VALIDATION_ROWS else 0

    def learns(self, fold: int | None) -> NDArray[np.bool_]:
        """Return the mask (n,) of the rows from which a member learns that holds out a fold, or none."""
        return np.ones(len(self.fold), bool) if fold is None else self.fold != fold
