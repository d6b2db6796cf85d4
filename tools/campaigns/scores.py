"""Compare the scores that models of tables report with the truth: on noise, and on new rows of real tables.

python tools/campaigns/scores.py --tables 100 --splits 20
"""

from __future__ import annotations

import argparse
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES, PRESETS = (150, 400, 1000), ("fast", "default", "best")
MAX_NOISE_ERROR, MAX_REAL_ERROR = 0.03, 0.015  # of the mean difference between reported and true scores
STANDARD_ERRORS = 4  # by which means may differ at least, for campaigns of few tables
MAX_OUTSIDE = 0.05  # share of noise columns whose importance is more than two standard errors from 0
COLUMNS = 5


class Outcome(NamedTuple):
    """Differences between reported and true scores, and importances of noise columns in standard errors."""

    differences: list[float]
    ratios: list[float]


def ratios(model) -> list[float]:
    """Return importances divided by their standard errors, 0 for those that are exactly 0."""
    importances, errors = model.feature_importances_, model.feature_importances_std_
    return np.divide(importances, errors, out=np.zeros(len(importances)), where=importances != 0).tolist()


def noise(kind: str, rows: int, preset: str, tables: int) -> Outcome:
    """Fit tables whose columns tell nothing of the target. The true accuracy of two balanced classes is 0.5."""
    from nnc.tabular import TableClassifier, TableRegressor

    outcome = Outcome([], [])
    for seed in range(tables):
        rng = np.random.default_rng([seed, rows])
        X = rng.standard_normal((rows, COLUMNS))
        if kind == "classes":
            model = TableClassifier(preset, random_state=seed).fit(X, rng.permutation(np.arange(rows) % 2))
            truth = 0.5
        else:
            model = TableRegressor(preset, random_state=seed).fit(X, rng.standard_normal(rows))
            truth = model.score(rng.standard_normal((2000, COLUMNS)), rng.standard_normal(2000))
        outcome.differences.append(model.held_out_.score - truth)
        outcome.ratios.extend(ratios(model))
    return outcome


def real(name: str, preset: str, splits: int) -> Outcome:
    """Fit half of a table of scikit-learn, at most 500 rows; the true score is that of the other rows."""
    from sklearn import datasets

    from nnc.tabular import TableClassifier, TableRegressor

    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    kind = TableRegressor if name == "diabetes" else TableClassifier
    differences = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(X))
        known, new = np.split(order, [min(500, len(X) // 2)])
        model = kind(preset, random_state=seed).fit(X[known], y[known])
        differences.append(model.held_out_.score - model.score(X[new], y[new]))
    return Outcome(differences, [])


def problems(outcome: Outcome, limit: float) -> Iterator[str]:
    """Yield what is wrong with the outcome of many fits."""
    differences = np.array(outcome.differences)
    mean, error = differences.mean(), differences.std() / np.sqrt(len(differences))
    if abs(mean) > max(limit, STANDARD_ERRORS * error):
        yield f"reported scores differ from true ones by {mean:+.4f} on average, with standard error {error:.4f}"
    if outcome.ratios:
        outside, n = np.mean(np.abs(outcome.ratios) > 2), len(outcome.ratios)
        if outside > MAX_OUTSIDE + STANDARD_ERRORS * np.sqrt(MAX_OUTSIDE / n) * (n < 100 * COLUMNS):
            yield f"{outside:.3f} of the importances of noise columns are more than two standard errors from 0"


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=100, help="noise tables of each size and preset")
    parser.add_argument("--splits", type=int, default=20, help="splits of each real table")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--presets", nargs="*", default=PRESETS)
    arguments = parser.parse_args(given)
    warnings.simplefilter("ignore")
    works: list[tuple[str, float, Callable[[], Outcome]]] = []
    for preset in arguments.presets:
        for rows in arguments.sizes if arguments.tables else ():
            for kind in ("classes", "numbers"):
                work = partial(noise, kind, rows, preset, arguments.tables)
                works.append((f"noise, {kind}, {rows} rows, {preset}", MAX_NOISE_ERROR, work))
        for name in ("breast_cancer", "wine", "digits", "diabetes") if arguments.splits else ():
            works.append((f"{name}, {preset}", MAX_REAL_ERROR, partial(real, name, preset, arguments.splits)))
    findings = 0
    for name, limit, work in works:
        outcome = work()
        error = np.std(outcome.differences) / np.sqrt(len(outcome.differences))
        text = f"{name}: reported - true score {np.mean(outcome.differences):+.4f} +- {error:.4f}"
        if outcome.ratios:
            text += f", {np.mean(np.abs(outcome.ratios) <= 2):.3f} of importances within two standard errors"
        print(text, flush=True)
        for problem in problems(outcome, limit):
            print(f"  FINDING: {problem}")
            findings += 1
    print(f"{findings} findings")
    return min(findings, 1)


if __name__ == "__main__":
    sys.exit(main())
