"""Compare the coverage of intervals and prediction sets of table models with their level, for many tables.

    python tools/campaigns/coverage.py 100

Each run draws a table of 300 to 2,000 rows, fits a model, and counts how many of 2,000 new rows are covered. The exit
status is 1 if the mean coverage differs from a level by more than four standard errors. In one table the noise grows
with a column. There the exit status is also 1 if the coverage of the third of the rows with the lowest or with the
highest noise differs from the level by more than 0.05.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

LEVELS = 0.5, 0.8, 0.9  # promised coverages of the tested intervals and sets
# The mean coverage may exceed its level by this much, since an ensemble predicts better than the networks that
# calibrate it.
MAX_EXCESS = 0.02
MAX_THIRD_ERROR = 0.05  # largest error of the coverage in the third of the rows with the lowest or highest noise
STANDARD_ERRORS = 4.0  # allowed difference of mean coverage and level, in standard errors
NEW_ROWS = 2000


def growing_noise(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows whose noise grows from 0.2 to 1.0 with the first column."""
    X = rng.random((n, 2))
    return X, X[:, 0] + 0.2 * (1 + 4 * X[:, 0]) * rng.standard_normal(n)


def equal_noise(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n rows, and targets whose noise has the same variance in all rows."""
    X = rng.standard_normal((n, 4))
    return X, np.sin(X[:, 0]) + X[:, 1] + 0.5 * rng.standard_normal(n)


def heavy_tail(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows with a positive target of a heavy-tailed distribution, for which models use the Poisson loss."""
    X = rng.standard_normal((n, 4))
    return X, np.exp(0.8 * X[:, 0] - 0.5 * X[:, 1] + 0.8 * rng.standard_normal(n))


def classes(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of three overlapping classes."""
    X = rng.standard_normal((n, 3))
    return X, np.digitize(X[:, 0] + 0.7 * rng.standard_normal(n), [-0.5, 0.5])


TABLES: dict[str, Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]] = {
    "growing noise": growing_noise,
    "equal noise": equal_noise,
    "heavy tail": heavy_tail,
    "classes": classes,
}


def covered(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each new row is covered, of shape (levels, rows), and the first column of these rows."""
    from nnc.tabular import TableClassifier, TableRegressor

    rng = np.random.default_rng(seed)
    X, y = TABLES[name](rng, int(rng.integers(300, 2001)))
    new, truth = TABLES[name](rng, NEW_ROWS)
    if name == "classes":
        classifier = TableClassifier("fast", random_state=seed).fit(X, y)
        rows = np.arange(NEW_ROWS)
        inside = [classifier.predict_set(new, level, allow_empty=True)[rows, truth] for level in LEVELS]
    else:
        model = TableRegressor("fast", random_state=seed).fit(X, y)
        intervals = [model.predict_interval(new, level) for level in LEVELS]
        inside = [(low <= truth) & (truth <= high) for low, high in intervals]
    return np.stack(inside), new[:, 0]


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=int, nargs="?", default=100, help="tables of each kind (default: %(default)s)")
    runs = parser.parse_args(arguments).runs
    findings = 0
    for name in TABLES:
        coverages, thirds = [], []
        for seed in range(runs):
            inside, column = covered(name, seed)
            coverages.append(inside.mean(axis=1))
            parts = np.array_split(inside[-1][np.argsort(column)], 3)
            thirds.append([parts[0].mean(), parts[2].mean()])
        mean, error = np.mean(coverages, axis=0), np.std(coverages, axis=0) / np.sqrt(runs) + 0.05 / runs
        low, high = np.mean(thirds, axis=0)
        is_wrong = (mean < LEVELS - STANDARD_ERRORS * error).any()
        is_wrong |= (mean > np.add(LEVELS, MAX_EXCESS) + STANDARD_ERRORS * error).any()
        if name == "growing noise":
            is_wrong |= max(abs(low - LEVELS[-1]), abs(high - LEVELS[-1])) > MAX_THIRD_ERROR + 0.1 / runs
        findings += bool(is_wrong)
        levels = ", ".join(f"{level:g}: {m:.4f} +- {e:.4f}" for level, m, e in zip(LEVELS, mean, error, strict=True))
        print(f"{name:14} {levels}; thirds at {LEVELS[-1]:g}: {low:.3f}, {high:.3f}{'  WRONG' * bool(is_wrong)}")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
