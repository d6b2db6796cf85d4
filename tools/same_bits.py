"""Compares two builds of nnc to the last bit: the same fits in both, and every number that comes out.

    python tools/same_bits.py old/bin/python new/bin/python
    python tools/same_bits.py old/bin/python old/bin/python --new-path ~/nnc

The arguments are Python interpreters with nnc. --old-path and --new-path name a folder that comes first on their path,
such as a checkout with its compiled modules in place. All instruction sets that both have are gone through, then what
nnc chooses by itself. It says how many fits it has compared, names each that differs and in what, and exits 1 if any
does. The two run side by side, for some minutes.

Every fit spells out all arguments of the network and of the training and draws its own data, so that neither another
default nor another NumPy changes what is asked. What NumPy computes inside, such as products of matrices, may differ
between its versions: have the same in both. Only public names of nnc are used, so the inside may be another. A fit that
ends in an error is compared by its class. What is new (an activation, a loss, an optimizer, an option) gets a line in
one of the tables below.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache, partial
from hashlib import sha256
from inspect import signature
from io import StringIO
from itertools import pairwise, product, zip_longest
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np


class Made(NamedTuple):
    """An object of nnc's, made where the fit is: its class and all arguments."""

    kind: str
    arguments: dict[str, Any]


def made(kind: str, **arguments: Any) -> Made:
    return Made(kind, arguments)


class Piece(NamedTuple):
    """A layer: its class in nnc.layers and its arguments, in their order."""

    kind: str
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.kind}{self.arguments}"


def conv(filters: int, size: int, stride: int = 1, padding: str = "valid") -> Piece:
    return Piece("Conv2D", (filters, size, None, stride, padding, None, None))


class Fit(NamedTuple):
    """Everything that decides about the bits of a fit."""

    name: str
    rows: int
    targets: str  # a row of TARGETS
    way: str  # a row of WAYS
    network: dict[str, Any]  # every argument of NeuralNetwork
    training: dict[str, Any]  # every option of NeuralNetwork.fit


def falling(epoch: int) -> float:
    """A learning rate that is a function."""
    return 0.25 / (1 + epoch)


def enough(record: Any) -> bool:
    """A callback that ends the training after the fourth epoch."""
    return bool(record["epoch"] == 4)


enough.every = 2  # type: ignore[attr-defined]

# ---------------------------------------------------------------------------------------------- what is compared

SGD = made("SGD", lr=0.05, momentum=0.0, nesterov=False, weight_decay=0.0)
ADAM = made("Adam", lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
NETWORK = {
    "sizes": (4, 16, 10), "activation": "tanh", "output": "identity", "loss": "mse", "bias": True,
    "init": "glorot_uniform", "dtype": "float64", "seed": 2026, "scale_X": None, "scale_y": None,
}  # fmt: skip
TRAINING = {
    "epochs": 3, "lr": None, "optimizer": SGD, "preset": None, "reset_optimizer": False, "batch_size": None,
    "shuffle": True, "sample_weight": None, "class_weight": None, "validation": None, "metrics": (), "l1": 0.0,
    "l2": 0.0, "weight_decay": None, "dropout": 0.0, "clip_norm": None, "clip_value": None, "max_norm": None,
    "regularize_bias": False, "patience": None, "min_delta": 0.0, "monitor": None, "restore_best": False,
    "target_loss": None, "max_seconds": None, "callback": None, "progress": False, "verbose": 0, "n_threads": 1,
}  # fmt: skip

POOL, MEAN = Piece("MaxPool2D", ((2, 2), (2, 2))), Piece("AvgPool2D", ((2, 2), (2, 2)))
# LeNet-5's filters; channels that lie a power of two apart, and borders; strides, and numbers of filters that are not.
LENET = (Piece("Input", (14, 14, 1)), conv(6, 5), POOL, conv(16, 3), MEAN, 10)
WIDE = (Piece("Input", (8, 7, 1)), conv(16, 3, 1, "same"), conv(32, 3, 1, "same"), POOL, conv(10, 2), 12, 3)
STRIDES = (Piece("Input", (9, 11, 3)), conv(7, 3, 2, "same"), Piece("BatchNorm", ("relu", 0.1, 1e-5)), conv(5, 2), 1)

# Rows, the size of mini-batches, which leaves a rest, and epochs.
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
TINY, DEEP, SMALL, NARROW = (3, 4, 1), (5, 7, 9, 3), (4, 16, 10), (20, 64, 1)
SQUARE, BLOCKS = (64, 64, 10), (4, 32, 16, 4)  # the last: few parameters and so many rows that threads share them

SCHEMA = Path(__file__).parents[1] / "docs/nnc-network.schema.json"
OUTPUTS = tuple(json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]["activation"]["enum"])
ACTIVATIONS = tuple(name for name in OUTPUTS if name not in ("softmax", "exp"))
INITS = ("uniform", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "zeros", "arrays")
LOSSES = {  # with its output and the targets that it is given
    "sse": ("sse", "sigmoid", ("shares",)),
    "half_sse": ("half_sse", "sigmoid", ("shares",)),
    "mse": ("mse", "identity", ("numbers",)),
    "bce": ("bce", "sigmoid", ("shares", "two labels", "two names")),
    "cross_entropy": ("cross_entropy", "softmax", ("labels", "names", "one-hot", "soft")),
    "smoothed": (made("CrossEntropy", label_smoothing=0.125), "softmax", ("labels", "soft")),
    "mae": ("mae", "identity", ("numbers",)),
    "huber 1": (made("Huber", delta=1.0), "identity", ("numbers",)),
    "huber 0.25": (made("Huber", delta=0.25), "identity", ("numbers",)),
    "log_cosh": ("log_cosh", "identity", ("numbers",)),
    "quantile 0.5": (made("Quantile", tau=0.5), "identity", ("numbers",)),
    "quantile 0.2": (made("Quantile", tau=0.2), "identity", ("numbers",)),
    "poisson": ("poisson", "exp", ("counts",)),
    "hinge": ("hinge", "identity", ("signs", "labels", "two names")),
}
OPTIMIZERS = {
    "sgd": SGD,
    "sgd decayed": made("SGD", lr=0.05, momentum=0.0, nesterov=False, weight_decay=0.01),
    "momentum": made("SGD", lr=0.05, momentum=0.9, nesterov=False, weight_decay=0.0),
    "nesterov decayed": made("SGD", lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": ADAM,
    "adam decayed": made("Adam", lr=0.02, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.01),
    "adamw": made("AdamW", lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
    "rmsprop": made("RMSprop", lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0),
    "rmsprop with momentum": made("RMSprop", lr=0.01, alpha=0.9, eps=1e-8, weight_decay=0.01, momentum=0.9),
    "adagrad": made("Adagrad", lr=0.01, lr_decay=0.1, weight_decay=0.01, eps=1e-10),
    "nadam": made("NAdam", lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, momentum_decay=4e-3),
    "rprop": made("Rprop", lr=0.01, etas=(0.5, 1.2), step_sizes=(1e-6, 50.0)),
    "lbfgs": made("LBFGS", history_size=10),
    "levenberg_marquardt": made("LevenbergMarquardt", damping=1e-3),
}
SECOND_ORDER = ("lbfgs", "levenberg_marquardt")  # which take all rows at once
COSINE = made("CosineLR", lr=0.1, epochs=5, min_lr=0.001)
SCHEDULES = {
    "constant": made("Constant", lr=0.1),
    "step": made("StepLR", lr=0.1, step_size=2, gamma=0.5),
    "exponential": made("ExponentialLR", lr=0.1, gamma=0.9),
    "cosine": COSINE,
    "one cycle": made("OneCycleLR", max_lr=0.1, epochs=6, pct_start=0.3, div_factor=25.0, final_div_factor=1e4),
    "warmup": made("Warmup", schedule=COSINE, epochs=2, start_factor=0.25),
    "plateau": made("ReduceLROnPlateau", lr=0.1, factor=0.5, patience=1, threshold=0.5, min_lr=0.001),
    "function": falling,
}
STANDARDIZE = made("Standardize", mean=None, std=None)
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
    "scaled": {"scale_X": STANDARDIZE, "scale_y": made("MinMax", low=-1.0, high=1.0)},
    "scaled to 0 to 1": {"scale_X": made("MinMax", low=0.0, high=1.0), "scale_y": STANDARDIZE},
    "metrics": {"metrics": ("r2", "mae", "rmse")},
    "metrics of classes": {**CROSS_ENTROPY, "metrics": ("accuracy", "f1"), "validation": 0.25},
    "validation": {"validation": "rows"},
    "weighted validation": {"validation": "weighted rows", "sample_weight": "drawn"},
    "patience": STOPPED,
    "patience, last weights": {**STOPPED, "restore_best": False, "min_delta": 0.001},
    "patience, monitored": {**STOPPED, "metrics": ("r2",), "monitor": "r2", "optimizer": ADAM},
    "target_loss": {"epochs": 12, "target_loss": 0.5},
    "callback": {"epochs": 12, "callback": enough},
    "no epochs": {"epochs": None, "callback": enough},
    "diverging": {"optimizer": made("SGD", lr=1e30, momentum=0.0, nesterov=False, weight_decay=0.0)},
}


def fits() -> Iterator[Fit]:
    """All fits, each with a name of its own."""
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
    """Names, and what differs from NETWORK and TRAINING."""

    def batches(sizes: tuple[int, ...], names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        minis = {name: {"batch_size": SHAPES[sizes][1], "shuffle": name == "mini"} for name in names}
        return {"full": {}, **minis}

    for activation, sizes in product(ACTIVATIONS, (TINY, SMALL, NARROW, SQUARE, BLOCKS, LENET, WIDE)):
        yield f"hidden {activation}", {"activation": activation, "sizes": sizes}
    for output, sizes in product(OUTPUTS, (TINY, SMALL, SQUARE, BLOCKS)):
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
        if name == "levenberg_marquardt" and sizes not in (TINY, DEEP, SMALL):
            continue  # it solves a system of all parameters
        for way, batch in batches(sizes, () if name in SECOND_ORDER else ("mini",)).items():
            yield f"{name} {way}", {"optimizer": optimizer, "sizes": sizes, **batch}
    for sizes, threads in product(SHAPES, (2, 3, 5, None)):
        for way, batch in batches(sizes, ("mini", "in order")).items():
            yield f"{threads or 'any'} threads, {way}", {"n_threads": threads, "sizes": sizes, **batch}
    for init, sizes in product(INITS, (TINY, SMALL, SQUARE)):
        yield f"init {init}", {"init": init, "sizes": sizes}
    for (name, lr), way in product(SCHEDULES.items(), WAYS):
        yield f"{name} {way}", {"lr": lr, "way": way, "sizes": SMALL, "epochs": 6}
    for (name, optimizer), way, sizes in product(OPTIMIZERS.items(), WAYS, (TINY, SMALL)):
        if way != "once":
            drawn = {} if name in SECOND_ORDER else {"batch_size": SHAPES[sizes][1], "dropout": 0.25}
            yield f"{name} {way}", {"optimizer": optimizer, "way": way, "sizes": sizes, **drawn}
    for (name, changes), sizes in product(OPTIONS.items(), (TINY, DEEP, SQUARE, BLOCKS)):
        for way, batch in batches(sizes, ("mini",)).items():
            threads = 2 if batch and sizes in (SQUARE, BLOCKS) else 1
            yield f"{name} {way}", {"sizes": sizes, "n_threads": threads, **batch, **changes}
    for name, (option, changes) in product(("adam", *SECOND_ORDER), OPTIONS.items()):
        yield f"{name} with {option}", {"sizes": DEEP, "optimizer": OPTIMIZERS[name], **changes}
    for name, sizes in product(("no bias", "clip_norm", "max_norm", "sample weights", "patience"), (LENET, WIDE)):
        yield f"{name} of images", {"sizes": sizes, "activation": "relu", "batch_size": 16, **OPTIONS[name]}


# ---------------------------------------------------------------------------------------------- data


@cache
def whole(n: int, key: int, below: int = 1 << 53) -> np.ndarray:
    """n whole numbers from 0 by splitmix64, the same with every NumPy."""
    z = (np.arange(1, n + 1, dtype=np.uint64) + np.uint64(key << 32)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.int64) % below


def shares(shape: tuple[int, ...], key: int) -> np.ndarray:
    """From 0 to 1, at distances of 2**-53."""
    return whole(int(np.prod(shape)), key).reshape(shape) * 2.0**-53


def soft(n: int, k: int, key: int) -> np.ndarray:
    """Rows of probabilities."""
    counts = 1 + whole(n * k, key, 255).reshape(n, k)
    return counts / counts.sum(axis=1, keepdims=True)


TARGETS = {  # for n rows and k outputs
    "numbers": lambda n, k, key: 2 * shares((n, k), key) - 1,
    "shares": lambda n, k, key: shares((n, k), key),
    "counts": lambda n, k, key: whole(n * k, key, 5).reshape(n, k),
    "signs": lambda n, k, key: 2 * whole(n * k, key, 2).reshape(n, k) - 1,
    "labels": lambda n, k, key: whole(n, key, k),
    "names": lambda n, k, key: np.array([f"class {label}" for label in whole(n, key, k)]),
    "two labels": lambda n, k, key: whole(n, key, 2),
    "two names": lambda n, k, key: np.array(["no", "yes"])[whole(n, key, 2)],
    "one-hot": lambda n, k, key: np.eye(k)[whole(n, key, k)],
    "soft": soft,
}


def rows_of(fit: Fit, n: int, key: int) -> tuple[np.ndarray, ...]:
    """X, y and weights."""
    first, *_, n_out = fit.network["sizes"]
    n_in = prod(first.arguments) if isinstance(first, Piece) else first
    return 2 * shares((n, n_in), key) - 1, TARGETS[fit.targets](n, n_out, key + 1), 0.5 + shares((n,), key + 2)


# ---------------------------------------------------------------------------------------------- one environment


def built(value: Any) -> Any:
    """What a Made or a Piece stands for, or those of a tuple; else the value itself."""
    import nnc
    import nnc.layers

    if isinstance(value, Made):
        return getattr(nnc, value.kind)(**{name: built(part) for name, part in value.arguments.items()})
    if isinstance(value, Piece):
        return getattr(nnc.layers, value.kind)(*value.arguments)
    return tuple(map(built, value)) if type(value) is tuple else value


def arguments(fit: Fit) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of NeuralNetwork and of fit, their objects made and their arrays drawn."""
    network, training = ({name: built(value) for name, value in part.items()} for part in (fit.network, fit.training))
    if network["init"] == "arrays":
        sizes = network["sizes"]
        network["init"] = [shares(shape, 7) - 0.5 for shape in pairwise(sizes)]
    if training["sample_weight"] == "drawn":
        training["sample_weight"] = rows_of(fit, fit.rows, 1)[2]
    if training["validation"] in ("rows", "weighted rows"):
        rows = rows_of(fit, max(2, fit.rows // 4), 4)
        training["validation"] = rows if training["validation"] == "weighted rows" else rows[:2]
    # A build that lacks an option, since that came later, does what it says where it is left out.
    import nnc

    known = signature(nnc.NeuralNetwork.fit).parameters
    return network, {name: value for name, value in training.items() if name in known or value}


def once(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    yield net.fit(X, y, **options)


def twice(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Goes on with what the optimizer keeps."""
    yield net.fit(X, y, **options)
    yield net.fit(X, y, **options | {"optimizer": None, "lr": None})
    yield net.history


def without_times(members: dict[str, Any]) -> dict[str, Any]:
    """Return an object of a file without the members that are not compared."""
    return {name: value for name, value in members.items() if name not in ("seconds", "settings", "sha256")}


def checkpoint(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Continue from the text of a checkpoint; times, checksum and settings of the last fit are not compared."""
    yield net.fit(X, y, **options)
    text = net.to_json(checkpoint=True)
    yield json.dumps(json.loads(text, object_hook=without_times))
    other = type(net).load(StringIO(text))
    lr = options["lr"] if options["lr"] is falling else None  # which no file can hold
    yield other.fit(X, y, **options | {"optimizer": None, "lr": lr})
    yield other.params


def copied(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Goes on in a pickle and in a copy."""
    yield net.fit(X, y, **options)
    lr = options["lr"] if options["lr"] is falling else None
    for other in (pickle.loads(pickle.dumps(net)), net.copy()):
        yield other.fit(X, y, **options | {"optimizer": None, "lr": lr})
        yield other.params


def from_disk(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Rows in a file, in float32: networks of float64 read them batch by batch."""
    with TemporaryFile() as file:
        rows = np.memmap(file, np.float32, "w+", shape=X.shape)
        rows[...] = X
        yield net.fit(rows, y, **options)


def in_batches(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """By `fit_batches`, which has no options for what is in the batches."""
    without = {"batch_size", "shuffle", "sample_weight", "class_weight"}
    batches = [(X[i : i + 5], y[i : i + 5]) for i in range(0, len(X), 5)]
    yield net.fit_batches(batches, **{name: options[name] for name in options.keys() - without})


def by_steps(net: Any, X: Any, y: Any, options: dict[str, Any]) -> Iterator[Any]:
    """By `train_step`, which takes none of the options."""
    for i in range(4):
        yield net.train_step(X[i:], y[i:], lr=0.1)


WAYS = {way.__name__: way for way in (once, twice, checkpoint, copied, from_disk, in_batches, by_steps)}


def plain(value: Any) -> Iterator[bytes]:
    """All bits of a result: an array, a number, a text, a History without its clock, or several of them."""
    if isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes()
    elif hasattr(value, "stop_reason"):
        columns = sorted(set(value) - {"epoch_seconds"})
        yield from plain([*columns, *(value[name] for name in columns), value.stop_reason, value.best_epoch])
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from plain(part)
    else:
        yield repr(value).encode()


def results(fit: Fit) -> dict[str, str]:
    """The SHA-256 of each kind of result, or the error in its place."""
    import nnc
    from nnc import NeuralNetwork

    X, y, _ = rows_of(fit, fit.rows, 1)
    network, training = arguments(fit)
    try:
        net = NeuralNetwork(network.pop("sizes"), **network)  # whose name has been another
    except Exception as error:
        return {"network": told(error)}
    classes = net.loss_name in ("bce", "cross_entropy", "hinge")
    # Builds before 0.2 have other names for these.
    loss = net.evaluate_loss if hasattr(net, "evaluate_loss") else net.loss
    input_gradients = getattr(net, "input_gradients", None) or partial(nnc.input_gradients, net)
    found = {}
    for part, values in {
        "losses": lambda: list(WAYS[fit.way](net, X, y, training)),
        "params": lambda: net.params,
        "predictions": lambda: [net.predict(X), net.predict_classes(X) if classes else None, net.forward(X)],
        "scores": lambda: [loss(X, y), net.score(X, y)],
        "gradients": lambda: [net.gradients(X, y), input_gradients(X, y)],
    }.items():
        try:
            found[part] = sha256(b"|".join(plain(values()))).hexdigest()
        except Exception as error:
            found[part] = told(error)
    return found


def told(error: Exception) -> str:
    """Return the class of an error; messages may be reworded."""
    return f"error: {type(error).__name__}"


def is_error(result: str) -> bool:
    return ": " in result


def run() -> None:
    """Prints each fit's results, a line each."""
    warnings.simplefilter("ignore")
    for fit in fits():
        print(json.dumps([fit.name, results(fit)]), flush=True)


# ---------------------------------------------------------------------------------------------- two environments


def environment(path: str | None, isa: str = "") -> dict[str, str]:
    """The variables of a child process."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "NNC_ISA")}
    # One thread of BLAS: how many it takes may decide about its bits.
    kept |= {"NNC_ISA": isa, "OPENBLAS_NUM_THREADS": "1"}
    return kept | ({"PYTHONPATH": os.path.abspath(path)} if path else {})


def instruction_sets(python: str, path: str | None) -> list[str]:
    """Prints what is compared; returns the instruction sets that it has and this processor runs."""
    command = [python, "-P", "-c", "import nnc; print(nnc.__file__); nnc.show_config()"]
    text = subprocess.run(command, env=environment(path), check=True, capture_output=True, text=True).stdout
    file, version, sets, *_ = text.splitlines()
    print(f"{os.path.dirname(file)}: {version}")
    return sets.rpartition("available: ")[2].split(", ")


def compare(builds: list[tuple[str, str | None]], isa: str) -> Counter[str]:
    """Counts the fits that were compared, that differ and that end in an error, in one instruction set; "" is for what
    nnc chooses by itself."""
    command = ["-P", os.path.abspath(__file__), "--run"]
    runs = [
        subprocess.Popen([python, *command], env=environment(path, isa), stdout=subprocess.PIPE, text=True)
        for python, path in builds
    ]
    counts: Counter[str] = Counter()
    for lines in zip_longest(*(run.stdout for run in runs if run.stdout)):
        if None in lines:
            break
        (name, before), (_, after) = map(json.loads, lines)
        counts["compared"] += 1
        counts["errors"] += any(map(is_error, before.values()))
        parts = [part for part in {**before, **after} if before.get(part) != after.get(part)]
        if parts:
            counts["different"] += 1
            print(f"  {name}: {', '.join(parts)}", flush=True)
        for part in parts:
            if is_error(before.get(part, "")) or is_error(after.get(part, "")):
                print(f"    {part}, old: {before.get(part)}\n    {part}, new: {after.get(part)}")
    for which, run in zip(("old", "new"), runs, strict=True):
        run.communicate()  # where the other one has ended early, what is left
        if run.returncode:
            counts["different"] += 1
            print(f"  {which} ended with {run.returncode}, after {counts['compared']} fits that both have done")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares two builds of nnc to the last bit.")
    parser.add_argument("old", metavar="OLD", help="a Python interpreter with nnc")
    parser.add_argument("new", metavar="NEW", help="another one, or the same with another path")
    parser.add_argument("--old-path", metavar="FOLDER", help="comes first on the path of OLD")
    parser.add_argument("--new-path", metavar="FOLDER", help="comes first on the path of NEW")
    given = parser.parse_args()
    builds = [(given.old, given.old_path), (given.new, given.new_path)]
    old, new = (instruction_sets(*build) for build in builds)
    both = [isa for isa in old if isa in new]
    if old != new:
        print(f"compared is what both have: old has {', '.join(old)}, new has {', '.join(new)}")
    counts: Counter[str] = Counter()
    for isa in (*both, ""):
        print(f"=== {isa or 'what nnc chooses'}", flush=True)
        counts += compare(builds, isa)
    print("{compared} fits compared, {errors} of them end in an error, {different} differ".format_map(counts))
    return 1 if counts["different"] or not (both and counts["compared"]) else 0


if __name__ == "__main__":
    sys.exit(run() if sys.argv[1:] == ["--run"] else main())
