"""Folds of a cross-validation: the rows from which the networks of each fold learn, and the rows that are held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Index = NDArray[np.intp]
    Mask = NDArray[np.bool_]


def rank_groups(groups: Index) -> Index:
    """Return for each row (n,) the rank of its group, from 0, in the order of the first rows of the groups."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def stratify(order: Index, labels: NDArray[Any] | None = None, group: Index | None = None) -> Index:
    """Sort rows in a random order by class, so that `Folds.deal` gives each fold the same proportions of the classes.

    Parameters
    ----------
    order : int array (n,)
        Permutation of the indices of the rows.
    labels : array (n,), optional
        Class of each row. Default: all rows have the same class.
    group : int array (n,), optional
        Group of each row; all rows of a group have the same class. The rows of a class are sorted by the size of the
        group, so that folds have similar numbers of rows.
    """
    if group is not None:
        order = order[np.argsort(-np.bincount(group)[group[order]], kind="stable")]
    return order if labels is None else order[np.argsort(labels[order], kind="stable")]


class Folds(NamedTuple):
    """Folds of n rows; each fold is held out from its own networks.

    Attributes
    ----------
    fold : int array (n,)
        Number of the fold that contains the row, from 0; -1 for a row that is in no fold.
    part : int8 array (n,)
        Number of the part of its fold that contains the row, from 0, for choices between networks of a fold that are
        made on the other parts.
    group : int array (n,) or None
        Number of the group of the row. All rows of a group are in the same fold and part. None: each row is a group.
    first_fold : int array (n,) or None
        Number of the first fold whose networks learn from the row, if the networks of a fold learn only from earlier
        rows. None: they learn from the rows of all other folds.
    """

    fold: NDArray[Any]
    part: NDArray[np.int8]
    group: Index | None = None
    first_fold: Index | None = None

    @classmethod
    def deal(cls, order: Index, n_folds: int, group: Index | None = None, n_parts: int = 1) -> Folds:
        """Assign the groups, in the order of their first rows, to the folds and to their parts in turn.

        Parameters
        ----------
        order : int array (n,)
            Random permutation of the indices of the rows, which `stratify` may have sorted.
        n_folds, n_parts : int
            Number of folds, and of parts of each fold. Without groups, their numbers of rows differ by at most one.
        group : int array (n,), optional
            Group of each row. Default: each row is a group.
        """
        rank = np.empty(len(order), np.intp)
        rank[order] = np.arange(len(order)) if group is None else rank_groups(group[order])
        fold = (rank % n_folds).astype(np.min_scalar_type(-n_folds))  # int8 for few folds, to save memory
        return cls(fold, (rank // n_folds % n_parts).astype(np.int8), group)

    @classmethod
    def rolling(cls, age: Index, n_folds: int, size: int, gap: int) -> Folds:
        """Hold out the last rows in the order of time; the networks of a fold learn only from rows before the fold.

        Parameters
        ----------
        age : int array (n,)
            Number of steps from each row to the last one.
        n_folds, size : int
            Number of consecutive folds, and number of steps of each. The last fold ends with the last row.
        gap : int
            Number of steps between a fold and the rows from which its networks learn.
        """
        fold = np.maximum(n_folds - 1 - age // size, -1)
        return cls(fold, np.zeros(len(age), np.int8), first_fold=n_folds - (age - gap) // size)

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1

    @property
    def distinct_rows(self) -> Index:
        """Index of the first row of each group, array (groups,)."""
        if self.group is None:
            return np.arange(len(self.fold))
        rows: Index = np.unique(self.group, return_index=True)[1]
        return rows

    def groups_of(self, indices: Index) -> Index:
        """Return the numbers of the groups of the rows with these indices."""
        return indices if self.group is None else self.group[indices]

    def learns(self, fold: int | None) -> Mask:
        """Return the mask (n,) of the rows from which the networks of a fold learn; all rows if it is None."""
        if fold is None:
            return np.ones(len(self.fold), bool)
        return self.fold != fold if self.first_fold is None else self.first_fold <= fold

    def holds_out(self, fold: int | None) -> Mask:
        """Return the mask (n,) of the rows that are held out from the networks of a fold; no rows if it is None."""
        mask: Mask = self.fold == fold
        return mask

    def rows(self, fold: int | None) -> tuple[Index, Index]:
        """Return the indices of the rows from which the networks of a fold learn, and of those that are held out."""
        return np.flatnonzero(self.learns(fold)), np.flatnonzero(self.holds_out(fold))

    def pairs(self) -> list[tuple[Index, Index]]:
        """Return `rows` of each fold."""
        return [self.rows(fold) for fold in range(self.n_folds)]
