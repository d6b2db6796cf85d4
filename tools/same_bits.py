"""Compare the results of the same fits in two builds of nnc, bit by bit.

    python tools/same_bits.py old/bin/python new/bin/python
    python tools/same_bits.py old/bin/python old/bin/python --new-path ~/nnc
    python tools/same_bits.py old/bin/python new/bin/python --only equations custom --isa default

The arguments are Python interpreters in which nnc is installed. --old-path and --new-path name a folder that is put
first on the search path, such as a checkout with compiled modules. The fits run with each instruction set that both
builds have, then with the default one. The script prints the number of compared fits and each difference, and exits
with status 1 if there is any. Both builds run in parallel, for several minutes.

The groups of fits are those of GROUPS below: networks and tables are described here, all other fits by the modules of
tools/bit_cases. A case of the group `messages` is a wrong call, of which the exception and the warnings are compared.
Exceptions are compared by class and message in each group.

The loss of an equation is a sum over its points. If a change may sum in another order, pass --loss-tolerance 1e-12: the
column `loss` of the History of equations may then differ by this fraction. The option affects no other result.

Each fit of a network sets all arguments of the network and of the training, or all parameters of an estimator of
tables, and computes its own data. So the fits do not depend on default values; only estimators use random numbers of
NumPy. Use the same version of NumPy in both builds, because its matrix products and random numbers may differ between
versions. The script uses only public names of nnc. Add new activations, losses, optimizers and options to the tables
below, and new ways of training to tools/bit_cases.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from inspect import signature
from io import StringIO
from itertools import pairwise, product, zip_longest
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent))  # last in the path, so that the installed nnc is imported
from bit_cases import cases as shared
from bit_cases import equations, estimators, forecasts, messages, training
from bit_cases.cases import digests, error_text, fractions, integers, is_error


class ObjectSpec(NamedTuple):
    """Class and arguments of an object of nnc, which is created in the process that runs the fit."""

    kind: str
    arguments: dict[str, Any]


def spec(kind: str, **arguments: Any) -> ObjectSpec:
    """Return the description of an object of nnc."""
    return ObjectSpec(kind, arguments)


class LayerSpec(NamedTuple):
    """Class and positional arguments of a layer of nnc.layers."""

    kind: str
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.kind}{self.arguments}"


def conv(filters: int, size: int, stride: int = 1, padding: str = "valid") -> LayerSpec:
    """Return the description of a convolution with square windows."""
    return LayerSpec("Conv2D", (filters, size, None, stride, padding, None, None))


class Fit(NamedTuple):
    """All settings that determine the result of a fit."""

    name: str
    rows: int
    targets: str  # kind of targets, a key of TARGETS
    way: str  # method of training, a key of WAYS
    network: dict[str, Any]  # values for all arguments of NeuralNetwork
    training: dict[str, Any]  # values for all options of NeuralNetwork.fit


class TableFit(NamedTuple):
    """All settings that determine the result of a fit of a table."""

    name: str
    rows: int
    columns: str  # kind of columns, a key of COLUMNS
    targets: str  # kind of targets, a key of TARGETS
    n_targets: int
    weighted: bool
    parameters: dict[str, Any]  # values for all parameters of TableClassifier or TableRegressor


def decreasing_lr(epoch: int) -> float:
    """Return the learning rate of an epoch; it is used as schedule."""
    return 0.25 / (1 + epoch)


def stop_after_epoch_4(record: Any) -> bool:
    """Return whether to end the training; it is used as callback."""
    return bool(record["epoch"] == 4)


stop_after_epoch_4.every = 2  # type: ignore[attr-defined]

# ---------------------------------------------------------------------------------------------- settings of all fits

SGD = spec("SGD", lr=0.05, momentum=0.0, nesterov=False, weight_decay=0.0)
ADAM = spec("Adam", lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
NETWORK = {
    "sizes": (4, 16, 10), "activation": "tanh", "output": "identity", "loss": "mse", "bias": True,
    "init": "glorot_uniform", "dtype": "float64", "seed": 2026, "scale_X": None, "scale_y": None,
}  # fmt: skip
TRAINING = {
    "epochs": 3, "lr": None, "optimizer": SGD, "preset": None, "reset_optimizer": False, "batch_size": None,
    "shuffle": True, "sample_weight": None, "lengths": None, "truncate": None, "warm_up": 0, "class_weight": None,
    "validation": None, "dY": None, "dY_weight": 1.0,
    "metrics": (), "l1": 0.0, "l2": 0.0, "weight_decay": None, "dropout": 0.0, "clip_norm": None, "clip_value": None,
    "max_norm": None, "regularize_bias": False, "patience": None, "min_delta": None, "monitor": None,
    "restore_best": False, "target_loss": None, "max_seconds": None, "callback": None, "progress": False,
    "verbose": 0, "n_threads": 1,
}  # fmt: skip

POOL, MEAN = LayerSpec("MaxPool2D", ((2, 2), (2, 2))), LayerSpec("AvgPool2D", ((2, 2), (2, 2)))
# Convolutional networks: filters of LeNet-5, filter counts that are powers of two, and strides with odd filter counts.
LENET = (LayerSpec("Input", (14, 14, 1)), conv(6, 5), POOL, conv(16, 3), MEAN, 10)
WIDE = (LayerSpec("Input", (8, 7, 1)), conv(16, 3, 1, "same"), conv(32, 3, 1, "same"), POOL, conv(10, 2), 12, 3)
STRIDES = (
    LayerSpec("Input", (9, 11, 3)),
    conv(7, 3, 2, "same"),
    LayerSpec("BatchNorm", ("relu", 0.1, 1e-5)),
    conv(5, 2),
    1,
)

# For each architecture: rows, batch size and epochs. The batch size does not divide the rows, except for one row.
SHAPES = {
    (1, 1): (5, 2, 20),
    (3, 4, 1): (7, 3, 20),
    (5, 7, 9, 3): (31, 8, 5),
    (4, 16, 10): (100, 32, 4),
    (20, 64, 1): (130, 48, 4),
    (64, 64, 10): (150, 64, 2),
    (64, 100, 10): (450, 200, 2),
    (16, 512, 10): (70, 32, 2),
    (784, 128, 10): (70, 32, 2),
    (4, 32, 16, 4): (10_000, 4_096, 2),
    LENET: (70, 33, 2),
    WIDE: (37, 20, 2),
    STRIDES: (41, 40, 2),
}
SMALLEST, DEEP, SMALL, NARROW = (3, 4, 1), (5, 7, 9, 3), (4, 16, 10), (20, 64, 1)
SQUARE, BLOCKS = (64, 64, 10), (4, 32, 16, 4)  # with BLOCKS, each thread processes whole blocks of rows

SCHEMA = Path(__file__).parents[1] / "docs/nnc-network.schema.json"
OUTPUTS = tuple(json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]["activation"]["enum"])
ACTIVATIONS = tuple(name for name in OUTPUTS if name not in ("softmax", "exp"))
INITS = ("uniform", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "zeros", "arrays")
LOSSES = {  # for each name: the loss, the output activation, and keys of TARGETS
    "sse": ("sse", "sigmoid", ("fractions",)),
    "half_sse": ("half_sse", "sigmoid", ("fractions",)),
    "mse": ("mse", "identity", ("numbers",)),
    "bce": ("bce", "sigmoid", ("fractions", "two labels", "two names")),
    "cross_entropy": ("cross_entropy", "softmax", ("labels", "names", "one-hot", "soft")),
    "smoothed": (spec("CrossEntropy", label_smoothing=0.125), "softmax", ("labels", "soft")),
    "mae": ("mae", "identity", ("numbers",)),
    "huber 1": (spec("Huber", delta=1.0), "identity", ("numbers",)),
    "huber 0.25": (spec("Huber", delta=0.25), "identity", ("numbers",)),
    "log_cosh": ("log_cosh", "identity", ("numbers",)),
    "quantile 0.5": (spec("Quantile", tau=0.5), "identity", ("numbers",)),
    "quantile 0.2": (spec("Quantile", tau=0.2), "identity", ("numbers",)),
    "poisson": ("poisson", "exp", ("counts",)),
    "hinge": ("hinge", "identity", ("signs", "labels", "two names")),
}
OPTIMIZERS = {
    "sgd": SGD,
    "sgd decayed": spec("SGD", lr=0.05, momentum=0.0, nesterov=False, weight_decay=0.01),
    "momentum": spec("SGD", lr=0.05, momentum=0.9, nesterov=False, weight_decay=0.0),
    "nesterov decayed": spec("SGD", lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": ADAM,
    "adam decayed": spec("Adam", lr=0.02, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.01),
    "adamw": spec("AdamW", lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
    "rmsprop": spec("RMSprop", lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0),
    "rmsprop with momentum": spec("RMSprop", lr=0.01, alpha=0.9, eps=1e-8, weight_decay=0.01, momentum=0.9),
    "adagrad": spec("Adagrad", lr=0.01, lr_decay=0.1, weight_decay=0.01, eps=1e-10),
    "nadam": spec("NAdam", lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, momentum_decay=4e-3),
    "rprop": spec("Rprop", lr=0.01, etas=(0.5, 1.2), step_sizes=(1e-6, 50.0)),
    "lbfgs": spec("LBFGS", history_size=10),
    "levenberg_marquardt": spec("LevenbergMarquardt", damping=1e-3, scaling="identity"),
}
# Optimizers that use all rows in each step and thus have no mini-batches.
SECOND_ORDER = ("lbfgs", "levenberg_marquardt")
COSINE = spec("CosineLR", lr=0.1, epochs=5, min_lr=0.001)
SCHEDULES = {
    "constant": spec("Constant", lr=0.1),
    "step": spec("StepLR", lr=0.1, step_size=2, gamma=0.5),
    "exponential": spec("ExponentialLR", lr=0.1, gamma=0.9),
    "cosine": COSINE,
    "one cycle": spec("OneCycleLR", max_lr=0.1, epochs=6, pct_start=0.3, div_factor=25.0, final_div_factor=1e4),
    "warmup": spec("Warmup", schedule=COSINE, epochs=2, start_factor=0.25),
    "plateau": spec("ReduceLROnPlateau", lr=0.1, factor=0.5, patience=1, threshold=0.5, min_lr=0.001),
    "function": decreasing_lr,
}
STANDARDIZE = spec("Standardize", mean=None, std=None)
CROSS_ENTROPY = {"loss": "cross_entropy", "output": "softmax", "targets": "labels"}
STOPPED = {"epochs": 8, "validation": "rows", "patience": 2, "restore_best": True}
OPTIONS: dict[str, dict[str, Any]] = {
    "no bias": {"bias": False},
    "two activations": {"activation": ("relu", "sigmoid")},
    "dropout": {"dropout": 0.5},
    "dropout by layer": {"dropout": (0.25, 0.5)},
    "clip_norm": {"clip_norm": 0.01},
    "clip_value": {"clip_value": 0.001},
    "max_norm": {"max_norm": 0.5},
    "l1": {"l1": 0.01},
    "l2": {"l2": 0.01},
    "l1, l2, biases too": {"l1": 0.01, "l2": 0.02, "regularize_bias": True},
    "decay, biases too": {"optimizer": OPTIMIZERS["adam decayed"], "regularize_bias": True},
    "all at once": {"dropout": 0.1, "clip_norm": 1.0, "clip_value": 0.1, "max_norm": 1.0, "l2": 0.1, "optimizer": ADAM},
    "sample weights": {"sample_weight": "drawn"},
    "class weights": {**CROSS_ENTROPY, "class_weight": {0: 2.0, 2: 0.5}},
    "class and sample weights": {**CROSS_ENTROPY, "class_weight": "balanced", "sample_weight": "drawn"},
    "scaled": {"scale_X": STANDARDIZE, "scale_y": spec("MinMax", low=-1.0, high=1.0)},
    "scaled to 0 to 1": {"scale_X": spec("MinMax", low=0.0, high=1.0), "scale_y": STANDARDIZE},
    "metrics": {"metrics": ("r2", "mae", "rmse")},
    "metrics of classes": {**CROSS_ENTROPY, "metrics": ("accuracy", "f1"), "validation": 0.25},
    "validation": {"validation": "rows"},
    "weighted validation": {"validation": "weighted rows", "sample_weight": "drawn"},
    "patience": STOPPED,
    "patience, last weights": {**STOPPED, "restore_best": False, "min_delta": 0.001},
    "patience, monitored": {**STOPPED, "metrics": ("r2",), "monitor": "r2", "optimizer": ADAM},
    "target_loss": {"epochs": 12, "target_loss": 0.5},
    "callback": {"epochs": 12, "callback": stop_after_epoch_4},
    "no epochs": {"epochs": None, "callback": stop_after_epoch_4},
    "diverging": {"optimizer": spec("SGD", lr=1e30, momentum=0.0, nesterov=False, weight_decay=0.0)},
}

# Values for all parameters of TableClassifier and TableRegressor, and for the parameters of only one of them.
PARAMETERS = {
    "preset": "fast", "members": 7, "max_seconds": None, "n_jobs": 1, "random_state": 2026, "checkpoint": None,
    "callback": None, "progress": False,
}  # fmt: skip
CLASSIFIER_PARAMETERS: dict[str, Any] = {"class_weight": None}
REGRESSOR_PARAMETERS: dict[str, Any] = {"loss": "squared_error", "quantiles": None}
# Settings that differ from PARAMETERS, for each kind of targets: name, kind of targets, their number, parameters.
TABLE_TARGETS: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("classifier", "names", 3, {}),
    ("classifier of two classes", "two labels", 2, {"class_weight": "balanced"}),
    ("regressor", "numbers", 1, {}),
    ("regressor of two targets", "numbers", 2, {"loss": "absolute_error"}),
    ("regressor of counts", "counts", 1, {"loss": "poisson"}),
    ("regressor of quantiles", "numbers", 1, {"quantiles": [0.1, 0.5, 0.9]}),
)
ESTIMATES = "n", "score", "calibration_error", "temperature"  # attributes of `held_out_`
TABLE_ROWS = (8, 57, 700)  # without cross-validation, with few held-out rows, and with a spread of intervals


def fits() -> Iterator[Fit]:
    """Yield all fits. Their names are unique."""
    for dtype, (name, changes) in product(("float64", "float32"), table()):
        assert changes.keys() <= NETWORK.keys() | TRAINING.keys() | {"targets", "way"}, name
        one_output, targets = changes["sizes"][-1] == 1, changes.get("targets", "")
        if "softmax" in changes.values() or targets == "labels" if one_output else targets.startswith("two"):
            continue
        rows, _, epochs = SHAPES[changes["sizes"]]
        settings = {"epochs": epochs, "targets": "numbers", "way": "once", **changes, "dtype": dtype}
        parts = ({key: settings.get(key, value) for key, value in part.items()} for part in (NETWORK, TRAINING))
        sizes = "-".join(str(part) for part in changes["sizes"])
        yield Fit(f"{name}, {sizes}, {dtype}", rows, settings["targets"], settings["way"], *parts)


def table() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield for each fit its name and the settings that differ from NETWORK and TRAINING."""

    def batches(sizes: tuple[int, ...], names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        mini_batches = {name: {"batch_size": SHAPES[sizes][1], "shuffle": name == "mini"} for name in names}
        return {"full": {}, **mini_batches}

    for activation, sizes in product(ACTIVATIONS, (SMALLEST, SMALL, NARROW, SQUARE, BLOCKS, LENET, WIDE)):
        yield f"hidden {activation}", {"activation": activation, "sizes": sizes}
    for output, sizes in product(OUTPUTS, (SMALLEST, SMALL, SQUARE, BLOCKS)):
        yield f"output {output}", {"output": output, "sizes": sizes}
    for output, loss in product(OUTPUTS, ("sse", "half_sse", "mae", "huber 0.25", "log_cosh", "quantile 0.2")):
        yield f"output {output} with {loss}", {"output": output, "loss": LOSSES[loss][0], "sizes": DEEP}
    for (name, (loss, output, kinds)), sizes in product(LOSSES.items(), (NARROW, SMALL, BLOCKS)):
        for targets, weight in product(kinds, (None, "drawn")):
            changes = {"loss": loss, "output": output, "targets": targets, "sample_weight": weight}
            yield f"{name} of {targets}{' weighted' * bool(weight)}", {**changes, "sizes": sizes, "batch_size": 90}
    for name, (loss, output, kinds) in LOSSES.items():
        changes = {"loss": loss, "output": output, "targets": kinds[0], "optimizer": OPTIMIZERS["lbfgs"]}
        yield f"lbfgs with {name}", {**changes, "sizes": SMALL}
    for (name, optimizer), sizes in product(OPTIMIZERS.items(), SHAPES):
        if name == "levenberg_marquardt" and sizes not in (SMALLEST, DEEP, SMALL):
            # Skip large networks: this optimizer solves a linear system with one equation for each parameter.
            continue
        for way, batch in batches(sizes, () if name in SECOND_ORDER else ("mini",)).items():
            yield f"{name} {way}", {"optimizer": optimizer, "sizes": sizes, **batch}
    for sizes, threads in product(SHAPES, (2, 3, 5, None)):
        for way, batch in batches(sizes, ("mini", "in order")).items():
            yield f"{threads or 'any'} threads, {way}", {"n_threads": threads, "sizes": sizes, **batch}
    for init, sizes in product(INITS, (SMALLEST, SMALL, SQUARE)):
        yield f"init {init}", {"init": init, "sizes": sizes}
    for (name, lr), way in product(SCHEDULES.items(), WAYS):
        yield f"{name} {way}", {"lr": lr, "way": way, "sizes": SMALL, "epochs": 6}
    for (name, optimizer), way, sizes in product(OPTIMIZERS.items(), WAYS, (SMALLEST, SMALL)):
        if way != "once":
            options = {} if name in SECOND_ORDER else {"batch_size": SHAPES[sizes][1], "dropout": 0.25}
            yield f"{name} {way}", {"optimizer": optimizer, "way": way, "sizes": sizes, **options}
    for (name, changes), sizes in product(OPTIONS.items(), (SMALLEST, DEEP, SQUARE, BLOCKS)):
        for way, batch in batches(sizes, ("mini",)).items():
            threads = 2 if batch and sizes in (SQUARE, BLOCKS) else 1
            yield f"{name} {way}", {"sizes": sizes, "n_threads": threads, **batch, **changes}
    for name, (option, changes) in product(("adam", *SECOND_ORDER), OPTIONS.items()):
        yield f"{name} with {option}", {"sizes": DEEP, "optimizer": OPTIMIZERS[name], **changes}
    for name, sizes in product(("no bias", "clip_norm", "max_norm", "sample weights", "patience"), (LENET, WIDE)):
        yield f"{name} of images", {"sizes": sizes, "activation": "relu", "batch_size": 16, **OPTIONS[name]}


def table_fits() -> Iterator[TableFit]:
    """Yield all fits of tables. Their names are unique."""
    for (name, targets, k, changes), columns, rows in product(TABLE_TARGETS, COLUMNS, TABLE_ROWS):
        own = CLASSIFIER_PARAMETERS if name.startswith("classifier") else REGRESSOR_PARAMETERS
        for weighted in (False, True):
            if weighted and (rows != TABLE_ROWS[1] or "quantiles" in changes):
                continue
            full_name = f"{name}, {rows} rows of {columns}{', weighted' * weighted}"
            yield TableFit(full_name, rows, columns, targets, k, weighted, {**PARAMETERS, **own, **changes})


# ---------------------------------------------------------------------------------------------- data


def soft(n: int, k: int, key: int) -> np.ndarray:
    """Return n rows of k pseudorandom probabilities."""
    counts = 1 + integers(n * k, key, 255).reshape(n, k)
    return counts / counts.sum(axis=1, keepdims=True)


TARGETS = {  # functions that return the targets of n rows and k outputs
    "numbers": lambda n, k, key: 2 * fractions((n, k), key) - 1,
    "fractions": lambda n, k, key: fractions((n, k), key),
    "counts": lambda n, k, key: integers(n * k, key, 5).reshape(n, k),
    "signs": lambda n, k, key: 2 * integers(n * k, key, 2).reshape(n, k) - 1,
    "labels": lambda n, k, key: integers(n, key, k),
    "names": lambda n, k, key: np.array([f"class {label}" for label in integers(n, key, k)]),
    "two labels": lambda n, k, key: integers(n, key, 2),
    "two names": lambda n, k, key: np.array(["no", "yes"])[integers(n, key, 2)],
    "one-hot": lambda n, k, key: np.eye(k)[integers(n, key, k)],
    "soft": soft,
}


def draw_rows(fit: Fit, n: int, key: int) -> tuple[np.ndarray, ...]:
    """Return n rows of X, their targets and their sample weights."""
    first, *_, n_out = fit.network["sizes"]
    n_in = prod(first.arguments) if isinstance(first, LayerSpec) else first
    return 2 * fractions((n, n_in), key) - 1, TARGETS[fit.targets](n, n_out, key + 1), 0.5 + fractions((n,), key + 2)


def texts(n: int, k: int, key: int) -> np.ndarray:
    """Return n pseudorandom texts of k different ones."""
    return np.array([f"text {level}" for level in range(k)], object)[integers(n, key, k)]


def with_missing(cells: np.ndarray, key: int) -> np.ndarray:
    """Return cells as an array of objects in which about one of eight is missing (None)."""
    return np.where(integers(len(cells), key, 8) == 0, None, cells.astype(object))


COLUMNS = {  # functions that return the columns of a table with n rows
    "numbers": lambda n, key: [2 * fractions((n,), key + j) - 1 for j in range(4)],
    "mixed columns": lambda n, key: [
        with_missing(fractions((n,), key), key + 1),
        integers(n, key + 2, 12),
        with_missing(texts(n, 15, key + 3), key + 4),
        texts(n, 3, key + 5),
        np.datetime64("2024-01-01") + integers(n, key + 6, 400),
    ],
    "few distinct rows": lambda n, key: [texts(n, 2, key), 1 + integers(n, key + 1, 3), 10 * integers(n, key + 2, 7)],
}


def draw_table(fit: TableFit) -> tuple[list[list[Any]], np.ndarray, np.ndarray | None]:
    """Return the rows of a table, targets that increase with the second column, and the sample weights."""
    columns, y = COLUMNS[fit.columns](fit.rows, 10), TARGETS[fit.targets](fit.rows, fit.n_targets, 30)
    ranks = np.unique(columns[1], return_inverse=True)[1]
    y[np.argsort(ranks / ranks.max() + fractions((fit.rows,), 40))] = np.sort(y, axis=0)
    weights = 0.5 + fractions((fit.rows,), 50) if fit.weighted else None
    return [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)], y, weights


# ---------------------------------------------------------------------------------------------- fits in one build


def build(value: Any) -> Any:
    """Return the object that a value describes; apply this to the items of a tuple; return other values unchanged."""
    import nnc
    import nnc.layers

    if isinstance(value, ObjectSpec):
        return getattr(nnc, value.kind)(**{name: build(part) for name, part in value.arguments.items()})
    if isinstance(value, LayerSpec):
        return getattr(nnc.layers, value.kind)(*value.arguments)
    return tuple(map(build, value)) if type(value) is tuple else value


def arguments(fit: Fit) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of NeuralNetwork and of its method fit, with objects and arrays instead of descriptions."""
    network, training = ({name: build(value) for name, value in part.items()} for part in (fit.network, fit.training))
    if network["init"] == "arrays":
        sizes = network["sizes"]
        network["init"] = [fractions(shape, 7) - 0.5 for shape in pairwise(sizes)]
    if training["sample_weight"] == "drawn":
        training["sample_weight"] = draw_rows(fit, fit.rows, 1)[2]
    if training["validation"] in ("rows", "weighted rows"):
        rows = draw_rows(fit, max(2, fit.rows // 4), 4)
        training["validation"] = rows if training["validation"] == "weighted rows" else rows[:2]
    # An old build may lack an option of `fit`. A false value is then not passed, because it has no effect.
    import nnc

    parameters = signature(nnc.NeuralNetwork.fit).parameters
    return network, {name: value for name, value in training.items() if name in parameters or value}


def fit_once(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Yield the history of a fit."""
    yield net.fit(X, y, **options)


def fit_twice(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Yield the histories of two fits; the second one continues with the state of the optimizer."""
    yield net.fit(X, y, **options)
    yield net.fit(X, y, **options | {"optimizer": None, "lr": None})
    yield net.history


def compared_members(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a JSON object that are compared: all except times, settings and checksum."""
    return {name: value for name, value in members.items() if name not in ("seconds", "settings", "sha256")}


def fit_checkpoint(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Fit, save and load a checkpoint, and fit again; yield the histories, the checkpoint and the parameters."""
    yield net.fit(X, y, **options)
    text = net.to_json(checkpoint=True)
    yield json.dumps(json.loads(text, object_hook=compared_members))
    other = type(net).load(StringIO(text))
    # A checkpoint cannot store a schedule that is a function, so pass it again.
    lr = options["lr"] if options["lr"] is decreasing_lr else None
    yield other.fit(X, y, **options | {"optimizer": None, "lr": lr})
    yield other.params


def fit_copies(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Fit, then fit an unpickled network and a copy; yield the histories and the parameters."""
    yield net.fit(X, y, **options)
    lr = options["lr"] if options["lr"] is decreasing_lr else None
    for other in (pickle.loads(pickle.dumps(net)), net.copy()):
        yield other.fit(X, y, **options | {"optimizer": None, "lr": lr})
        yield other.params


def fit_memmap(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Fit rows of float32 in a file, which networks of float64 convert batch by batch; yield the history."""
    with TemporaryFile() as file:
        rows = np.memmap(file, np.float32, "w+", shape=X.shape)
        rows[...] = X
        yield net.fit(rows, y, **options)


def fit_batches(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Yield the history of `fit_batches`, which has no options for the content of batches."""
    unsupported = {"batch_size", "shuffle", "sample_weight", "class_weight", "lengths", "truncate", "warm_up"}
    unsupported |= {"dY", "dY_weight"}
    batches = [(X[i : i + 5], y[i : i + 5]) for i in range(0, len(X), 5)]
    yield net.fit_batches(batches, **{name: options[name] for name in options.keys() - unsupported})


def train_steps(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Yield the losses of four calls of `train_step`, which has none of the options of `fit`."""
    for i in range(4):
        yield net.train_step(X[i:], y[i:], lr=0.1)


WAYS = {
    "once": fit_once,
    "twice": fit_twice,
    "checkpoint": fit_checkpoint,
    "copied": fit_copies,
    "from_disk": fit_memmap,
    "in_batches": fit_batches,
    "by_steps": train_steps,
}


def results(fit: Fit) -> dict[str, str]:
    """Run a fit; return the SHA-256 of each kind of result, or the text of the exception that it raises."""
    import nnc
    from nnc import NeuralNetwork

    X, y, _ = draw_rows(fit, fit.rows, 1)
    network, training = arguments(fit)
    try:
        net = NeuralNetwork(
            network.pop("sizes"), **network
        )  # pass sizes by position, because old builds name this argument differently
    except Exception as error:
        return {"network": error_text(error)}
    classes = net.loss_name in ("bce", "cross_entropy", "hinge")
    # Builds before 0.2 have other names for these methods.
    loss = net.evaluate_loss if hasattr(net, "evaluate_loss") else net.loss
    input_gradients = getattr(net, "input_gradients", None) or partial(nnc.input_gradients, net)
    return digests(
        {
            "losses": lambda: list(WAYS[fit.way](net, X, y, training)),
            "params": lambda: net.params,
            "predictions": lambda: [net.predict(X), net.predict_classes(X) if classes else None, net.forward(X)],
            "scores": lambda: [loss(X, y), net.score(X, y)],
            "gradients": lambda: [net.gradients(X, y), input_gradients(X, y)],
        }
    )


def table_results(fit: TableFit) -> dict[str, str]:
    """Fit a table; return the SHA-256 of each kind of result, or the text of the exception that it raises."""
    X, y, weights = draw_table(fit)
    classes = "class_weight" in fit.parameters
    try:
        from nnc.tabular import TableClassifier, TableRegressor

        model: Any = (TableClassifier if classes else TableRegressor)(**fit.parameters).fit(X, y, weights)
    except Exception as error:
        return {"fit": error_text(error)}
    quantiles = fit.parameters.get("quantiles")
    return digests(
        {
            "params": lambda: [net.params for net in model.networks_],
            "predictions": lambda: model.predict_proba(X) if classes else model.predict(X),
            "quantiles": lambda: model.predict_quantiles(X) if quantiles else None,
            "sets or intervals": lambda: model.predict_set(X, 0.5) if classes else model.predict_interval(X, 0.5),
            "estimates": lambda: [getattr(model.held_out_, name) for name in ESTIMATES],
            "importances": lambda: [model.feature_importances_, model.feature_importances_std_],
        }
    )


def results_of(group: str) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield for each fit of a group its name and a function that returns its results."""
    if group == "networks":
        yield from ((fit.name, partial(results, fit)) for fit in fits())
    elif group == "tables":
        yield from ((table.name, partial(table_results, table)) for table in table_fits())
    else:
        yield from ((case.name, partial(shared.case_results, case)) for case in CASES[group]())


def run(groups: list[str]) -> None:
    """Run all fits of the groups in this process, and print a line of JSON for each."""
    warnings.simplefilter("ignore")
    for group in groups:
        for name, compute in results_of(group):
            print(json.dumps([f"{group}: {name}", compute()]), flush=True)


CASES: dict[str, Callable[[], Iterator[shared.Case]]] = {
    "derivatives": training.derivative_cases,
    "custom": training.custom_cases,
    "sequences": training.sequence_cases,
    "rows": training.row_cases,
    "steps": training.step_cases,
    "curvature": training.curvature_cases,
    "stopping": training.stopping_cases,
    "many": training.many_cases,
    "equations": equations.cases,
    "estimators": estimators.cases,
    "forecasts": forecasts.cases,
    "messages": messages.cases,
}
# Python computes these groups, or most of their time: only one instruction set, the default one, is compared.
ONLY_DEFAULT = "tables", "forecasts", "messages"
GROUPS = "networks", "tables", *CASES

# ---------------------------------------------------------------------------------------------- comparison


def environment(path: str | None, isa: str = "") -> dict[str, str]:
    """Return the environment variables of a process that runs the fits."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "NNC_ISA")}
    # The results of BLAS may depend on its number of threads.
    # Messages of scikit-learn list the elements of sets, whose order depends on the hashes of strings.
    variables |= {"NNC_ISA": isa, "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    return variables | ({"PYTHONPATH": os.path.abspath(path)} if path else {})


def instruction_sets(python: str, path: str | None) -> list[str]:
    """Print the folder and the version of a build; return its instruction sets that this processor supports."""
    command = [python, "-P", "-c", "import nnc; print(nnc.__file__); nnc.show_config()"]
    text = subprocess.run(command, env=environment(path), check=True, capture_output=True, text=True).stdout
    file, version, sets, *_ = text.splitlines()
    print(f"{os.path.dirname(file)}: {version}")
    return sets.rpartition("available: ")[2].split(", ")


def is_same(before: Any, after: Any, tolerance: float) -> bool:
    """Return whether two results are equal; sums of the loss may differ by the fraction `tolerance`."""
    if json.dumps(before) == json.dumps(after):
        return True
    if not (isinstance(before, list) and isinstance(after, list)) or len(before) != len(after):
        return False
    return all(abs(a - b) <= tolerance * abs(a) for a, b in zip(before, after, strict=True))


def compare(builds: list[tuple[str, str | None]], isa: str, groups: list[str], tolerance: float = 0.0) -> Counter[str]:
    """Run the groups in both builds with one instruction set ("" for the default one), and print each difference.

    Returns the numbers of compared fits and wrong calls, of differences, and of cases that raise an exception.
    """
    command = ["-P", os.path.abspath(__file__), "--run", *groups]
    runs = [
        subprocess.Popen([python, *command], env=environment(path, isa), stdout=subprocess.PIPE, text=True)
        for python, path in builds
    ]
    counts: Counter[str] = Counter()
    name = "no fit"
    for lines in zip_longest(*(run.stdout for run in runs if run.stdout)):
        if None in lines:
            break
        (name, before), (_, after) = map(json.loads, lines)
        counts["calls" if name.startswith("messages: ") else "fits"] += 1
        counts["errors"] += any(is_error(result) for part, result in before.items() if part != "warnings")
        parts = [part for part in {**before, **after} if not is_same(before.get(part), after.get(part), tolerance)]
        if parts:
            counts["different"] += 1
            print(f"  {name}: {', '.join(parts)}", flush=True)
        for part in parts:
            if is_error(before.get(part)) or is_error(after.get(part)):
                print(f"    {part}, old: {before.get(part)}\n    {part}, new: {after.get(part)}")
    for label, run in zip(("old", "new"), runs, strict=True):
        run.communicate()  # read the remaining output of a process if the other one ended early
        if run.returncode:
            counts["different"] += 1
            print(f"  {label} ended with exit code {run.returncode} after {name}")
    return counts


def main() -> int:
    """Compare both builds, and return the exit status."""
    parser = argparse.ArgumentParser(description="Compare the results of two builds of nnc bit by bit.")
    parser.add_argument("old", metavar="OLD", help="Python interpreter in which nnc is installed")
    parser.add_argument("new", metavar="NEW", help="another interpreter, or the same one with another --new-path")
    parser.add_argument("--old-path", metavar="FOLDER", help="folder to put first on the search path of OLD")
    parser.add_argument("--new-path", metavar="FOLDER", help="folder to put first on the search path of NEW")
    parser.add_argument("--only", metavar="GROUP", nargs="+", choices=GROUPS, default=GROUPS, help=", ".join(GROUPS))
    parser.add_argument("--isa", metavar="ISA", help='only this instruction set, or "default" (default: all)')
    parser.add_argument(
        "--loss-tolerance",
        type=float,
        default=0.0,
        help="largest relative difference of the loss of equations (default: %(default)s)",
    )
    options = parser.parse_args()
    builds = [(options.old, options.old_path), (options.new, options.new_path)]
    old, new = (instruction_sets(*build) for build in builds)
    common = [isa for isa in old if isa in new]
    if old != new:
        print(f"only common instruction sets are compared: old has {', '.join(old)}, new has {', '.join(new)}")
    counts: Counter[str] = Counter()
    for isa in (*common, "") if options.isa is None else (options.isa.replace("default", ""),):
        groups = [group for group in options.only if not isa or group not in ONLY_DEFAULT]
        print(f"=== {isa or 'default instruction set'}", flush=True)
        if groups:
            counts += compare(builds, isa, groups, options.loss_tolerance)
    found = Counter(fits=0, calls=0, errors=0, different=0) | counts
    print(
        "{fits} fits and {calls} wrong calls compared; {errors} raise an exception, {different} differ".format_map(
            found
        )
    )
    return 1 if counts["different"] or not (common and counts["fits"] + counts["calls"]) else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[2:]) if sys.argv[1:2] == ["--run"] else main())
