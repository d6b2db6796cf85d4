"""Panel: several series with their covariates, as arrays in an order that does not depend on the caller's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.forecast.statistics import Floats, Ints

MAX_STEPS_PER_OBSERVATION = 100  # largest number of steps of a series for each observation
STEP_ARRAYS = "values", "regressors", "past"  # attributes of a panel with one array (n, ...) for each series
MIN_SPARSE_STEPS = 1000  # series of at most this many steps may have any number of missing values


@dataclass(eq=False)
class Panel:
    """Series on a regular grid.

    Parameters
    ----------
    values : list of arrays (n,)
        Series; NaN for missing values, except the first and the last one.
    starts : int array (series,)
        Grid point of the first value of each series.
    regressors, past : lists of arrays (n, covariates)
        Covariates whose future values are known (regressors), or are not known (past).
    static : array (series, features)
        Features of the series.
    """

    values: list[Floats]
    starts: Ints
    regressors: list[Floats]
    past: list[Floats]
    static: Floats

    def __len__(self) -> int:
        return len(self.values)

    @property
    def lengths(self) -> Ints:
        """Number of values of each series, including missing ones."""
        return np.array([len(y) for y in self.values], np.intp)

    def order(self) -> Ints:
        """Return an order of the series that depends only on their content."""
        static = [row.tobytes() for row in self.static]
        rows = zip(self.values, self.regressors, self.past, static, self.starts, strict=True)
        keys = [(len(y), y.tobytes(), X.tobytes(), Z.tobytes(), row, int(start)) for y, X, Z, row, start in rows]
        return np.array(sorted(range(len(self)), key=keys.__getitem__), np.intp)

    def select(self, index: Sequence[int] | Ints) -> Panel:
        """Return a panel with the series whose indices are given."""
        return Panel(
            [self.values[i] for i in index],
            self.starts[np.asarray(index, np.intp)],
            [self.regressors[i] for i in index],
            [self.past[i] for i in index],
            self.static[np.asarray(index, np.intp)],
        )

    def cut(self, parts: Sequence[slice]) -> Panel:
        """Return a panel with a part of the steps of each series."""
        starts = self.starts + np.array([part.start for part in parts], np.intp)
        columns: dict[str, Any] = {
            key: [array[part] for array, part in zip(getattr(self, key), parts, strict=True)] for key in STEP_ARRAYS
        }
        return replace(self, starts=starts, **columns)

    def before(self, steps: int | Ints, length: int | None = None) -> Panel:
        """Return a panel without the last `steps` values of each series, and with at most `length` values before."""
        ends = np.maximum(self.lengths - steps, 0)
        starts = np.zeros_like(ends) if length is None else np.maximum(ends - length, 0)
        return self.cut([slice(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)])

    def trim(self, labels: Sequence[str], minimum: int) -> Panel:
        """Return a panel without missing values at the ends of series; raise ValueError for too few observations.

        Parameters
        ----------
        labels : sequence of str
            Name of each series in messages.
        minimum : int
            Smallest number of observations of a series.
        """
        parts = []
        for label, series in zip(labels, self.values, strict=True):
            observed = np.flatnonzero(~np.isnan(series))
            if len(observed) < minimum:
                raise ValueError(
                    f"{label} must have at least {pluralize(minimum, 'observation')}, got {len(observed)} in "
                    f"{len(series)} values; remove the series"
                )
            parts.append(slice(int(observed[0]), int(observed[-1]) + 1))
        return self.cut(parts)

    def extended(self, index: Ints, new: Panel, names: Sequence[object], has_grid: bool) -> Panel:
        """Return a panel with additional values at the ends of some series; values between them are missing.

        Parameters
        ----------
        index : int array
            Series of this panel to which each series of `new` belongs.
        new : Panel
            Additional values.
        names : sequence
            Names of the series of `new`, for messages.
        has_grid : bool
            Whether `starts` of both panels are grid points of the same grid; otherwise new values follow the last one.
        """
        parts: dict[str, Any] = {key: list(getattr(self, key)) for key in STEP_ARRAYS}
        for j, i in enumerate(index.tolist()):
            end = int(self.starts[i]) + len(self.values[i])
            gap = int(new.starts[j]) - (end if has_grid else 0)
            if gap < 0:
                raise ValueError(
                    f"y_new must be later than the last observation, got a value {-gap} steps before the next one in "
                    f"series {names[j]!r}; pass only new rows"
                )
            check_sparsity(f" of series {names[j]!r}", gap, len(self.values[i]))
            for key, arrays in parts.items():
                addition = getattr(new, key)[j]
                between = np.repeat(addition[:1], gap, axis=0)
                if key == "values":
                    between[:] = np.nan
                arrays[i] = np.concatenate([arrays[i], between, addition])
        return replace(self, **parts)


def check_sparsity(series: str, steps: int, observations: int) -> None:
    """Raise ValueError if a series has far more missing than observed values, for example because of a wrong date."""
    limit = max(MAX_STEPS_PER_OBSERVATION * observations, MIN_SPARSE_STEPS)
    if steps > limit:
        raise ValueError(
            f"time must span at most {limit:,} steps in {observations:,} rows, got {steps:,}{series}; correct times, "
            "or aggregate the series"
        )
