"""How good networks are on tables, beside scikit-learn's own models: the errors on test rows, and the time of a fit.

    python -m benchmarks.tables [concrete letter satimage houses kin8nm power-plant] [--data FOLDER] [--seed 0]

The data is in ../shared/data, or where --data says, and what is not there is left out with a message; where it is from
stands in the README beside it. A set has one split, that of papers for UCI's, else 3,000 training rows and as many for
the test; a fifth of the training rows is for validation.
Errors are percentages: wrong classes, or the root mean square divided by the standard deviation of the training
targets.

The recipe is one network with what of RealMLP-TD (Holzmueller, Grinsztajn and Steinwart, 2024) nnc has: numbers scaled
by their quartiles and smoothly clipped, three layers of 128, Adam with waves of the rate from step to step, the weights
of the best epoch. No figure of it has been chosen on test rows here.
"""

from __future__ import annotations

import argparse
import gzip
import io
import tarfile
import warnings
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np

import nnc
from nnc.layers import Dense, Input

MOST = 3000  # training rows, and test rows, where no split is given
WIDTH, DEPTH, EPOCHS, BATCH = 128, 3, 128, 256
RATES = {"numbers": 0.0044, "classes": 0.0025}
HERE = Path(__file__).resolve().parents[2] / "shared" / "data"


class Table(NamedTuple):
    """A set, split; classes are whole numbers from 0, numbers a vector."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    @property
    def kind(self) -> str:
        """ "classes" or "numbers"."""
        return "classes" if self.y.dtype.kind == "i" else "numbers"

    def error(self, predicted: np.ndarray) -> float:
        """Of predictions for the test rows, in percent."""
        if self.kind == "classes":
            return 100 * float(np.mean(predicted != self.y_test))
        return 100 * float(np.sqrt(np.mean((predicted - self.y_test) ** 2)) / self.y.std())


def uci(folder: Path, split: int = 0) -> Table:
    """A set with splits that papers report on."""
    rows = np.loadtxt(io.BytesIO(gzip.decompress((folder / "data.txt.gz").read_bytes())))
    with tarfile.open(folder / "splits.tar.gz") as archive:
        files = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}

        def numbers(name: str) -> np.ndarray:
            file = archive.extractfile(files[f"{name}.txt"])
            assert file is not None
            return np.atleast_1d(np.loadtxt(file)).astype(int)

        X, y = rows[:, numbers("index_features")], rows[:, numbers("index_target")[0]]
        train, test = numbers(f"index_train_{split}"), numbers(f"index_test_{split}")
    return Table(X[train], y[train], X[test], y[test])


def pmlb(path: Path, seed: int, classes: bool) -> Table:
    """A set without splits, its column of targets the last one."""
    with gzip.open(path, "rt") as file:
        names = file.readline().split()
        rows = np.loadtxt(file)
    target = names.index("target")
    y = rows[:, target]
    y = np.unique(y, return_inverse=True)[1].astype(np.int64) if classes else y
    X = np.delete(rows, target, axis=1)
    order = np.random.default_rng(seed).permutation(len(X))
    train, test = order[:MOST], order[MOST : 2 * MOST]
    return Table(X[train], y[train], X[test], y[test])


def tables(data: Path, seed: int) -> dict[str, Table]:
    """Those whose files are there."""
    sources = {
        "concrete": (data / "uci" / "concrete", uci),
        "kin8nm": (data / "uci" / "kin8nm", uci),
        "power-plant": (data / "uci" / "power-plant", uci),
        "letter": (data / "pmlb" / "letter.tsv.gz", lambda path: pmlb(path, seed, classes=True)),
        "satimage": (data / "pmlb" / "satimage.tsv.gz", lambda path: pmlb(path, seed, classes=True)),
        "houses": (data / "pmlb" / "537_houses.tsv.gz", lambda path: pmlb(path, seed, classes=False)),
    }
    missing = [name for name, (path, _) in sources.items() if not path.exists()]
    if missing:
        print(f"left out, as {data} has no {', '.join(missing)}")
    return {name: read(path) for name, (path, read) in sources.items() if name not in missing}


class RobustClip:
    """(x - median) / interquartile range, then x / sqrt(1 + (x / 3)**2); of the training rows."""

    def __init__(self, X: np.ndarray) -> None:
        low, self.middle, high = np.quantile(X, [0.25, 0.5, 0.75], axis=0)
        span = X.max(axis=0) - X.min(axis=0)
        width = np.where(high > low, high - low, span / 2)
        self.width = np.where(width > 0, width, 1.0)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        x = (X - self.middle) / self.width
        return (x / np.sqrt(1 + (x / 3) ** 2)).astype(np.float32)


def network(n_in: int, n_out: int, kind: str, seed: int) -> nnc.NeuralNetwork:
    """Weights such that one rate fits all widths: N(0, 1 / n_in), biases N(0, 1), the last layer's weights 0. Inputs
    are multiplied by `gain`, and the first weights divided by it."""
    classes = kind == "classes"
    layers = [Input(n_in), *(Dense(WIDTH, init="lecun_normal") for _ in range(DEPTH)), Dense(n_out, init="zeros")]
    net = nnc.NeuralNetwork(
        layers,
        activation="elu" if classes else "silu",
        loss=nnc.CrossEntropy(0.1) if classes else "mse",
        dtype="float32",
        seed=seed,
    )
    rng = np.random.default_rng(seed)
    net.biases = [*(rng.standard_normal(WIDTH) for _ in range(DEPTH)), np.zeros(n_out)]
    net.weights[0] /= gain(n_in)
    return net


def gain(n_in: int) -> float:
    """What inputs are multiplied by, so that the first layer learns as fast as wide ones."""
    return float(np.sqrt(256 / n_in))


def by_network(table: Table, seed: int) -> np.ndarray:
    """What the recipe predicts for the test rows."""
    order = np.random.default_rng(seed).permutation(len(table.X))
    held, rows = order[: len(order) // 5], order[len(order) // 5 :]
    scale = RobustClip(table.X[rows])
    X, X_test = (gain(table.X.shape[1]) * scale(part) for part in (table.X, table.X_test))
    classes = table.kind == "classes"
    mean, std = (0.0, 1.0) if classes else (table.y[rows].mean(), table.y[rows].std())
    y = table.y if classes else ((table.y - mean) / std).astype(np.float32)
    net = network(X.shape[1], int(y.max()) + 1 if classes else 1, table.kind, seed)
    net.fit(
        X[rows],
        y[rows],
        epochs=EPOCHS,
        batch_size=BATCH,
        optimizer=nnc.Adam(betas=(0.9, 0.95)),
        lr=nnc.PerStep(nnc.CosineLogLR(RATES[table.kind])),
        validation=(X[held], y[held]),
        metrics="accuracy" if classes else "rmse",
        monitor="accuracy" if classes else "rmse",
        restore_best="last",
        n_threads=1,
    )
    return net.predict_classes(X_test) if classes else mean + std * net.predict(X_test)[:, 0]


def by_trees(table: Table, seed: int) -> np.ndarray:
    """What scikit-learn's boosted trees predict at their defaults."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if table.kind == "classes" else HistGradientBoostingRegressor
    return kind(random_state=seed).fit(table.X, table.y).predict(table.X_test)


def by_mlp(table: Table, seed: int) -> np.ndarray:
    """What scikit-learn's network predicts at its defaults, on standardized columns."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kind = MLPClassifier if table.kind == "classes" else MLPRegressor
    model = make_pipeline(StandardScaler(), kind(random_state=seed))
    if table.kind == "classes":
        return model.fit(table.X, table.y).predict(table.X_test)
    mean, std = table.y.mean(), table.y.std()
    return mean + std * model.fit(table.X, (table.y - mean) / std).predict(table.X_test)


WAYS = {"nnc": by_network, "scikit-learn MLP": by_mlp, "HistGradientBoosting": by_trees}


def main() -> None:
    """Prints a table: the error of each way in percent, and its CPU seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help="which sets (default: all that are there)")
    parser.add_argument("--data", type=Path, default=HERE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=WAYS, help="one way alone")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # that a fit of so many epochs has not converged
    ways = {name: way for name, way in WAYS.items() if arguments.only in (None, name)}
    print("| set | " + " | ".join(ways) + " |\n|---|" + "---|" * len(ways))
    for name, table in tables(arguments.data, arguments.seed).items():
        if arguments.sets and name not in arguments.sets:
            continue
        cells = []
        for way in ways.values():
            began = process_time()
            error = table.error(way(table, arguments.seed))
            cells.append(f"{error:.1f} {process_time() - began:.1f} s")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
