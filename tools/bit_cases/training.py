"""Cases of training beyond plain arrays: derivatives, custom losses, sequences, batches, steps and callbacks."""

import pickle
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import numpy as np

from bit_cases.cases import Case, centered, fractions, integers

DTYPES = "float64", "float32"
FIRST_ORDER: dict[str, dict[str, Any]] = {  # arguments of `fit` for each optimizer
    "sgd": {"optimizer": "sgd", "lr": 0.05},
    "momentum": {"optimizer": "momentum", "lr": 0.02},
    "adam": {"optimizer": "adam", "lr": 0.01},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.05},
    "rmsprop": {"optimizer": "rmsprop", "lr": 0.01},
    "adagrad": {"optimizer": "adagrad", "lr": 0.05},
    "nadam": {"optimizer": "nadam", "lr": 0.01},
    "rprop": {"optimizer": "rprop", "lr": 0.01},
}
LBFGS: dict[str, dict[str, Any]] = {"lbfgs": {"optimizer": "lbfgs"}}
SECOND_ORDER = LBFGS | {"levenberg_marquardt": {"optimizer": "levenberg_marquardt"}}
SOLVERS = FIRST_ORDER | SECOND_ORDER
RECURRENT = "SimpleRNN", "GRU", "LSTM"
ROWS, STEPS = 37, 11  # rows of arrays, steps of the longest sequence


def network(layers: Any, **options: Any) -> Any:
    """Return a network whose results do not depend on default values of its constructor."""
    from nnc import NeuralNetwork

    options = {"activation": "tanh", "output": "identity", "loss": "mse", "init": "glorot_uniform"} | options
    if callable(options["loss"]):
        options.pop("output")
    return NeuralNetwork(list(layers), **({"bias": True, "seed": 11} | options))


def outcome(net: Any, history: Any, *arrays: Any) -> Iterator[tuple[str, Any]]:
    """Yield the history of a fit, the parameters and the predictions."""
    yield "history", history
    yield "params", net.params
    yield "predictions", net.predict(*arrays)


def arrays(n_in: int, n_out: int, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows of inputs, targets and weights."""
    return centered((rows, n_in), 1), centered((rows, n_out), 2), 0.5 + fractions((rows,), 3)


# ---------------------------------------------------------------------------------------------- derivatives as targets


def derivative_cases() -> Iterator[Case]:
    """Yield fits with derivatives as targets."""

    def run(sizes: tuple[int, ...], options: dict[str, Any], arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        X, y, weights = arrays(sizes[0], sizes[-1])
        dY = centered((ROWS, sizes[-1], sizes[0]), 4)
        dY[integers(ROWS, 5, 4) == 0] = np.nan
        given = {name: weights if value == "drawn" else value for name, value in arguments.items()}
        net = network(sizes, **options)
        yield from outcome(net, net.fit(X, y, dY=dY, **{"epochs": 3, "n_threads": 1} | given), X)
        yield "second history", net.fit(X, y, dY=dY, epochs=2)
        yield "derivatives", net.derivatives(X)

    variants: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "plain": ({}, {}),
        "weighted": ({}, {"sample_weight": "drawn", "dY_weight": 2.5}),
        "scaled": ({"scale_X": "standardize", "scale_y": "minmax"}, {"dY_weight": 0.25}),
        "validated": ({}, {"validation": 0.25, "metrics": ["r2", "mae"], "patience": 2}),
        "with sse": ({"loss": "sse"}, {}),
        "with half_sse of sin": ({"loss": "half_sse", "activation": "sin"}, {}),
        "with softplus": ({"activation": "softplus"}, {"l2": 0.01}),
        "on two threads": ({}, {"n_threads": 2, "dY_weight": 0.5}),
    }
    mini: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "in batches": ({}, {"batch_size": 10}),
        "penalized": ({}, {"batch_size": 16, "l1": 0.01, "l2": 0.01, "clip_norm": 0.1, "max_norm": 1.0}),
        "limited": ({}, {"batch_size": 16, "clip_value": 0.01, "max_norm": 0.5}),
    }
    for sizes, (solver, rate), dtype in product(((3, 8, 1), (2, 8, 5, 2)), SOLVERS.items(), DTYPES):
        for name, (options, arguments) in (variants | (mini if solver in FIRST_ORDER else {})).items():
            title = f"derivatives, {name}, {solver}, {sizes}, {dtype}"
            yield Case(title, partial(run, sizes, options | {"dtype": dtype}, rate | arguments))


# ---------------------------------------------------------------------------------------------- custom losses


def cubic(P: Any, Y: Any) -> tuple[float, Any]:
    """Return the mean of |P - Y|**3 and its derivative."""
    E = P - Y
    return float((np.abs(E) ** 3).mean()), 3 * E * np.abs(E) / E.size


def weighted_cubic(P: Any, Y: Any) -> tuple[float, Any]:
    """Return the mean of |P - Y|**3, weighted by the last column of Y, and its derivative."""
    E, weights = P - Y[..., :-1], 2 + Y[..., -1:]
    return float((weights * np.abs(E) ** 3).mean()), weights * 3 * E * np.abs(E) / E.size


def relative_residuals(P: Any, Y: Any) -> tuple[Any, Any]:
    """Return the residuals (P - Y) / (2 + Y) and their derivatives; for LeastSquares."""
    n, k = P.shape
    return (P - Y) / (2 + Y), np.eye(k)[None] / (2 + Y)[:, :, None] * np.ones((n, 1, 1))


LOSS_FUNCTIONS: dict[str, Callable[..., Any]] = {"cubic": cubic, "weighted cubic": weighted_cubic}
BATCH_SIZES = None, 1, 8, 36


def with_column(loss: str, y: np.ndarray) -> np.ndarray:
    """Return the targets, for the loss "weighted cubic" with an additional column of weights."""
    return np.concatenate([y, y[..., :1]], -1) if loss == "weighted cubic" else y


def custom_cases() -> Iterator[Case]:
    """Yield fits with a custom loss, on arrays, batches, sequences and in single steps."""

    def built(sizes: Any, loss: str, **options: Any) -> Any:
        import nnc

        function = nnc.LeastSquares(relative_residuals) if loss == "least squares" else LOSS_FUNCTIONS[loss]
        return network(sizes, loss=function, **options)

    def run(
        sizes: tuple[int, ...], loss: str, dtype: str, way: str, arguments: dict[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        X, y, weights = arrays(sizes[0], sizes[-1])
        net, y = built(sizes, loss, dtype=dtype), with_column(loss, y)
        given = {name: weights if value == "drawn" else value for name, value in arguments.items()}
        options = {"epochs": 3, "n_threads": 1} | given
        if way == "fit":
            history = net.fit(X, y, **options)
        elif way == "fit_batches":
            parts = [slice(0, 9), slice(9, 10), slice(10, ROWS)]
            weighted = "sample_weight" in options
            options.pop("sample_weight", None)
            batches = [(X[part], y[part], weights[part]) if weighted else (X[part], y[part]) for part in parts]
            history = net.fit_batches(batches, **options)
        else:
            rate = {name: options[name] for name in ("optimizer", "lr")}
            history = [net.train_step(X[i : i + 9], y[i : i + 9], **rate) for i in (0, 5, 11)]
        yield from outcome(net, history, X)
        yield "loss", net.evaluate_loss(X, y)
        yield "gradients", net.gradients(X, y)
        if way != "train_step":
            yield "second history", net.fit(X, y, epochs=1)

    for sizes, loss, dtype in product(((3, 8, 1), (4, 16, 3)), (*LOSS_FUNCTIONS, "least squares"), DTYPES):
        for solver, rate in (SOLVERS if loss == "least squares" else FIRST_ORDER | LBFGS).items():
            title = f"custom loss {loss}, {{}}, {solver}, {sizes}, {dtype}"
            sizes_of_batches = BATCH_SIZES if solver in FIRST_ORDER else (None,)
            for batch_size, threads in product(sizes_of_batches, (1, 2)):
                options = rate | {"batch_size": batch_size, "n_threads": threads}
                name = f"batches of {batch_size} on {threads} threads"
                yield Case(title.format(name), partial(run, sizes, loss, dtype, "fit", options))
            weighted = rate | {"sample_weight": "drawn"}
            if loss == "least squares":
                yield Case(title.format("weighted"), partial(run, sizes, loss, dtype, "fit", weighted))
            regularized = rate | {"l2": 0.01, "validation": 0.25, "patience": 1}
            yield Case(title.format("regularized"), partial(run, sizes, loss, dtype, "fit", regularized))
            if solver in FIRST_ORDER:
                clipped = rate | {"batch_size": 8, "clip_norm": 0.1, "max_norm": 1.0, "dropout": 0.25}
                yield Case(title.format("clipped"), partial(run, sizes, loss, dtype, "fit", clipped))
                for way in ("fit_batches", "train_step"):
                    yield Case(title.format(way), partial(run, sizes, loss, dtype, way, rate))
                batches = rate | {"l1": 0.01}
                yield Case(title.format("l1 in batches"), partial(run, sizes, loss, dtype, "fit_batches", batches))


# ---------------------------------------------------------------------------------------------- sequences


def sequences(rows: int = 9, n_out: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return padded sequences of two features, targets at each step, and the lengths."""
    lengths = 3 + integers(rows, 6, STEPS - 2)
    lengths[0] = STEPS
    return centered((rows, STEPS, 2), 7), centered((rows, STEPS, n_out), 8), lengths


def sequence_cases() -> Iterator[Case]:
    """Yield fits of sequences: truncated, of different lengths, of labels, and with custom losses."""

    def built(kind: str, each_step: bool = True, outputs: int = 3, **options: Any) -> Any:
        from nnc import layers

        cell = getattr(layers, kind)
        inside = options.pop("inside", {})
        first = cell(5, return_sequences=True, **inside)
        parts = [layers.Input(steps=STEPS, features=2), first, cell(4, return_sequences=each_step), outputs]
        return network(parts, **({"activation": "tanh"} | options))

    def truncated(kind: str, dtype: str, inside: dict[str, Any], given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        X, y, lengths = sequences()
        net = built(kind, dtype=dtype, inside=inside)
        options = {"epochs": 2, "n_threads": 1, "truncate": 4} | given
        if options.pop("varying", False):
            options["lengths"] = lengths
        if options.get("sample_weight") == "drawn":
            options["sample_weight"] = 0.5 + fractions((len(X),), 3)
        yield from outcome(net, net.fit(X, y, **options), X)
        yield "second history", net.fit(X, y, **options)
        loaded = type(net).load(StringIO(net.to_json(checkpoint=True)))
        yield "continued history", loaded.fit(X, y, **options)
        yield "continued params", loaded.params

    def whole(
        kind: str, dtype: str, each_step: bool, loss: str, solver: str, given: dict[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        X, y, lengths = sequences()
        classes = loss == "cross_entropy"
        y = integers(y[..., 0].size, 9, 3).reshape(y.shape[:2]) if classes else y
        y = with_column(loss, y if each_step else y[:, 0])
        options = {"loss": LOSS_FUNCTIONS.get(loss, loss), "output": "softmax" if classes else "identity"}
        net = built(kind, each_step, dtype=dtype, **options)
        settings = {"epochs": 2, "n_threads": 1, **SOLVERS[solver], **given}
        if settings.pop("varying", True):
            settings["lengths"] = lengths
        if settings.get("sample_weight") == "drawn":
            settings["sample_weight"] = None if loss in LOSS_FUNCTIONS else 0.5 + fractions((len(X),), 3)
        history = net.fit(X, y, **settings)
        yield from outcome(net, history, X)
        yield "of lengths", [net.predict(X, lengths=lengths), net.evaluate_loss(X, y, lengths=lengths)]
        yield "gradients", net.gradients(X, y, lengths=lengths)
        batches = [(X[i : i + 4], y[i : i + 4], None, lengths[i : i + 4]) for i in (0, 4)]
        yield "batches", net.fit_batches(batches, epochs=2)
        yield "params after batches", net.params

    chunks: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "plain": ({}, {}),
        "warmed up": ({}, {"warm_up": 2, "truncate": 5}),
        "in batches": ({}, {"batch_size": 4, "warm_up": 1}),
        "of lengths": ({}, {"varying": True, "batch_size": 4}),
        "with dropout": ({"dropout": 0.25}, {"batch_size": 3, "clip_norm": 0.5, "l2": 0.01}),
        "weighted": ({}, {"sample_weight": "drawn", "batch_size": 5}),
        "validated": ({}, {"validation": 0.25, "patience": 1, "restore_best": "last"}),
        "on two threads": ({}, {"n_threads": 2, "varying": True}),
    }
    for kind, solver, dtype in product(RECURRENT, ("sgd", "adam", "rprop"), DTYPES):
        for name, (inside, given) in chunks.items():
            title = f"truncated {kind}, {name}, {solver}, {dtype}"
            yield Case(title, partial(truncated, kind, dtype, inside, FIRST_ORDER[solver] | given))
    settings: dict[str, dict[str, Any]] = {
        "all steps": {"varying": False},
        "of lengths": {},
        "in batches": {"batch_size": 4, "sample_weight": "drawn"},
        "on two threads": {"n_threads": 2, "batch_size": 5},
    }
    for kind, each_step, loss in product(RECURRENT, (False, True), ("mse", "cross_entropy", *LOSS_FUNCTIONS)):
        for (name, given), dtype in product(settings.items(), DTYPES):
            title = f"{kind}, {'each step' if each_step else 'last step'}, {loss}, {name}, {dtype}"
            yield Case(title, partial(whole, kind, dtype, each_step, loss, "adam", given))


# ---------------------------------------------------------------------------------------------- rows and batches


def row_cases() -> Iterator[Case]:
    """Yield fits whose rows are memory maps, batches of an iterator, lists, or arrays of other types and layouts."""

    def mapped(file: Any, X: np.ndarray, dtype: Any) -> np.ndarray:
        rows = np.memmap(file, dtype, "w+", shape=X.shape)
        rows[...] = X
        return rows

    def run(form: str, dtype: str, loss: str, given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        classes = loss == "cross_entropy"
        net = network((4, 9, 3), loss=loss, output="softmax" if classes else "identity", dtype=dtype)
        X, y, weights = arrays(4, 3)
        X = (16 * X).round() / 16
        y = np.array(["low", "mid", "top"])[integers(ROWS, 9, 3)] if classes else y
        options = {"epochs": 3, "n_threads": 1, "optimizer": "adam", "lr": 0.01} | given
        if options.get("sample_weight") == "drawn":
            options["sample_weight"] = weights
        with TemporaryFile() as file:
            rows: Any = {
                "list": X.tolist,
                "columns": lambda: np.asfortranarray(X),
                "strided": lambda: np.repeat(X, 2, axis=0)[::2],
                "integers": lambda: (16 * X).astype(np.int16),
                "float32": lambda: X.astype(np.float32),
                "map of float32": lambda: mapped(file, X, np.float32),
                "map of float64": lambda: mapped(file, X, np.float64),
                "map of uint8": lambda: mapped(file, 16 * X + 16, np.uint8),
            }[form]()
            yield from outcome(net, net.fit(rows, y, **options), X)
            yield "scores", [net.score(rows, y), net.evaluate_loss(rows, y)]
            yield "second history", net.fit(rows, y, epochs=1)

    forms = "list", "columns", "strided", "integers", "float32", "map of float32", "map of float64", "map of uint8"
    rows_of_fit: dict[str, dict[str, Any]] = {
        "all rows": {},
        "batches": {"batch_size": 8},
        "batches in order": {"batch_size": 8, "shuffle": False},
        "weighted": {"batch_size": 8, "sample_weight": "drawn"},
        "split": {"batch_size": 8, "validation": 0.25},
    }
    for form, (name, given), loss, dtype in product(forms, rows_of_fit.items(), ("mse", "cross_entropy"), DTYPES):
        yield Case(f"rows, {form}, {name}, {loss}, {dtype}", partial(run, form, dtype, loss, given))

    def streamed(form: str, dtype: str, loss: str, given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        classes = loss == "cross_entropy"
        net = network((4, 9, 3), loss=loss, output="softmax" if classes else "identity", dtype=dtype)
        X, y, weights = arrays(4, 3)
        y = integers(ROWS, 9, 3) if classes else y
        parts = [slice(0, 12), slice(12, 13), slice(13, ROWS)]
        batches = [(X[part], y[part], weights[part])[: 3 if form == "weighted" else 2] for part in parts]
        options = {"epochs": 3, "n_threads": 1, "optimizer": "adam", "lr": 0.01} | given
        if form == "generator":
            options["epochs"] = 1
        source: Any = {"generator": lambda: iter(batches), "callable": lambda: lambda: iter(batches)}
        if options.get("validation") == "rows":
            options["validation"] = (X[:9], y[:9])
        yield from outcome(net, net.fit_batches(source.get(form, lambda: batches)(), **options), X)
        yield "second history", net.fit_batches(batches, epochs=2)
        yield "second params", net.params

    options_of_batches: dict[str, dict[str, Any]] = {
        "plain": {},
        "penalized": {"l1": 0.01, "l2": 0.01, "clip_norm": 0.5, "max_norm": 1.0, "dropout": 0.25},
        "validated": {"validation": "rows", "patience": 1, "restore_best": True},
        "decayed": {"weight_decay": 0.01, "regularize_bias": True},
        "on two threads": {"n_threads": 2},
    }
    for form, (name, given) in product(("list", "weighted", "generator", "callable"), options_of_batches.items()):
        for loss, (solver, rate), dtype in product(("mse", "cross_entropy"), FIRST_ORDER.items(), DTYPES):
            if name == "decayed" and solver == "rprop":
                continue
            options = rate | given
            if name == "validated":
                options["metrics"] = "mae" if loss == "mse" else "accuracy"
            title = f"fit_batches, {form}, {name}, {loss}, {solver}, {dtype}"
            yield Case(title, partial(streamed, form, dtype, loss, options))


# ---------------------------------------------------------------------------------------------- steps


def step_cases() -> Iterator[Case]:
    """Yield single steps and gradients."""

    def batch_of(i: int, loss: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        X, y, weights = (part[i : i + 9 + i] for part in arrays(4, 3))
        return X, integers(ROWS, 9, 3)[i : i + 9 + i] if loss == "cross_entropy" else y, weights

    def run(way: str, loss: str, dtype: str, rate: dict[str, Any], given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        output = "softmax" if loss == "cross_entropy" else "identity"
        net = network((4, 9, 3), loss=LOSS_FUNCTIONS.get(loss, loss), output=output, dtype=dtype)
        step = net.stepper(**rate, **given) if way != "train_step" else None
        losses = []
        for i in range(4):
            X, y, drawn = batch_of(i, loss)
            weights = drawn if i % 2 and loss not in LOSS_FUNCTIONS else None
            y = with_column(loss, y)
            if step is None:
                losses.append(net.train_step(X, y, **rate, sample_weight=weights))
            elif way == "stepper":
                losses.append(step(X, y, weights))
            elif way == "dP":
                losses.append(step(X, dP=centered((len(X), 3), i)))
            else:
                step.apply(net.gradients(X, y))
            yield f"params {i}", net.params
        yield "losses", losses
        if way == "train_step":
            net.apply_gradients(net.gradients(X, y))
            yield "applied", net.params
        yield "fit", net.fit(X, y, epochs=2, n_threads=1)
        yield "copy", pickle.loads(pickle.dumps(net)).params

    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "penalized": {"l1": 0.01, "l2": 0.02, "regularize_bias": True},
        "clipped": {"clip_norm": 0.01, "clip_value": 0.005, "max_norm": 0.5},
        "dropout": {"dropout": 0.25},
    }
    for way, (name, given), loss in product(
        ("train_step", "stepper", "dP", "apply"), options.items(), ("mse", "cross_entropy", *LOSS_FUNCTIONS)
    ):
        for (solver, rate), dtype in product(FIRST_ORDER.items(), DTYPES):
            if way == "train_step" and given:
                continue
            few = {key: value for key, value in rate.items() if key != "weight_decay"}
            yield Case(f"{way}, {name}, {loss}, {solver}, {dtype}", partial(run, way, loss, dtype, few, given))

    def gradients(activation: str, loss: str, dtype: str) -> Iterator[tuple[str, Any]]:
        output = "softmax" if loss == "cross_entropy" else "identity"
        net = network((4, 9, 3), loss=loss, activation=activation, output=output, dtype=dtype)
        X, y, weights = batch_of(12, loss)
        yield "gradients", [net.gradients(X, y), net.gradients(X, y, weights)]
        yield "loss", [net.evaluate_loss(X, y), net.score(X, y)]
        yield "vjp", net.vjp(X, centered((len(X), 3), 1))
        yield "jacobian", net.jacobian(X)
        yield "parameter_jacobian", net.parameter_jacobian(X)
        yield "forward", net.forward(X)
        if loss == "mse" and activation != "relu":
            yield "derivatives", net.derivatives(X)

    for activation, loss, dtype in product(("tanh", "relu", "softplus", "sin"), ("mse", "cross_entropy"), DTYPES):
        yield Case(f"gradients, {activation}, {loss}, {dtype}", partial(gradients, activation, loss, dtype))


# ---------------------------------------------------------------------------------------------- optimizers on all rows


def curvature_cases() -> Iterator[Case]:
    """Yield fits of L-BFGS and Levenberg-Marquardt, with frozen layers, weights, penalties and validation rows."""

    def run(sizes: str, dtype: str, optimizer: Any, given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        import nnc
        from nnc.layers import Dense, Input

        kind, settings = optimizer
        layers = {
            "frozen": [Input(4), Dense(9, "tanh", trainable=False), Dense(6, "tanh"), 2],
            "frozen last": [Input(4), Dense(9, "sigmoid"), Dense(6, "tanh"), Dense(2, trainable=False)],
            "without biases": [Input(4), Dense(9, "tanh", bias=False), Dense(6, "tanh"), 2],
            "plain": [4, 9, 6, 2],
        }[sizes]
        X, y, weights = arrays(4, 2)
        options = {"epochs": 4, "n_threads": 1, "optimizer": getattr(nnc, kind)(**settings)} | given
        options = {name: weights if value == "drawn" else value for name, value in options.items()}
        net = network(layers, dtype=dtype)
        yield from outcome(net, net.fit(X, y, **options), X)
        yield "second history", net.fit(X, y, epochs=2)
        loaded = type(net).load(StringIO(net.to_json(checkpoint=True)))
        yield "continued history", loaded.fit(X, y, epochs=2)
        yield "continued params", loaded.params
        yield "first-order history", net.fit(X, y, epochs=2, optimizer="adam", lr=0.01)

    optimizers: tuple[tuple[str, dict[str, Any]], ...] = (
        ("LBFGS", {"history_size": 10}),
        ("LBFGS", {"history_size": 2}),
        ("LevenbergMarquardt", {"damping": 1e-3, "scaling": "identity"}),
        ("LevenbergMarquardt", {"damping": 1.0, "scaling": "marquardt"}),
    )
    settings: dict[str, dict[str, Any]] = {
        "plain": {},
        "weighted": {"sample_weight": "drawn"},
        "penalized": {"l2": 0.01, "regularize_bias": True},
        "validated": {"validation": 0.25, "patience": 1, "metrics": "r2"},
        "to a target": {"target_loss": 0.3},
        "on two threads": {"n_threads": 2},
        "many epochs": {"epochs": 40},
    }
    for sizes, optimizer, dtype in product(("frozen", "frozen last", "without biases", "plain"), optimizers, DTYPES):
        for name, given in settings.items():
            title = f"{optimizer[0]}{tuple(optimizer[1].values())}, {sizes}, {name}, {dtype}"
            yield Case(title, partial(run, sizes, dtype, optimizer, given))


# ---------------------------------------------------------------------------------------------- callbacks, checkpoints


class Recorder:
    """Callback that stores its records, and ends the training after `last` epochs."""

    def __init__(self, every: int, last: int) -> None:
        self.every, self.last, self.records = every, last, []

    def __call__(self, record: Any) -> bool:
        values = {name: record[name] for name in record if name not in ("seconds", "network")}
        self.records.append([values, record.network.params.copy()])
        return bool(record["epoch"] >= self.last)


def stopping_cases() -> Iterator[Case]:
    """Yield fits with callbacks, early stopping, and files that are saved during a fit and continued."""

    def run(
        dtype: str, rate: dict[str, Any], given: dict[str, Any], every: int, last: int
    ) -> Iterator[tuple[str, Any]]:
        X, y, _ = arrays(4, 3)
        net, recorder = network((4, 9, 3), dtype=dtype), Recorder(every, last)
        options = {"epochs": 12, "n_threads": 1, "callback": recorder} | rate | given
        if options.get("validation") == "rows":
            options["validation"] = tuple(part[:12] for part in arrays(4, 3, 50)[:2])
        yield from outcome(net, net.fit(X, y, **options), X)
        yield "records", recorder.records
        yield "second history", net.fit(X, y, epochs=2)
        yield "whole history", net.history

    rules: dict[str, dict[str, Any]] = {
        "none": {},
        "patience": {"patience": 1},
        "patience of validation": {"validation": "rows", "patience": 2},
        "best of validation": {"validation": "rows", "restore_best": True},
        "last of the best": {"validation": 0.25, "patience": 3, "restore_best": "last", "min_delta": 0.01},
        "metric": {"validation": "rows", "patience": 2, "metrics": ["r2", "mae"], "monitor": "r2"},
        "target": {"target_loss": 0.35},
        "batches": {"batch_size": 8, "validation": "last", "patience": 2},
    }
    for (rule, given), (solver, rate), dtype in product(rules.items(), SOLVERS.items(), DTYPES):
        for every, last in ((1, 99), (3, 99), (2, 5)):
            if solver in SECOND_ORDER and "batch_size" in given:
                continue
            title = f"stopping by {rule}, every {every} to {last}, {solver}, {dtype}"
            yield Case(title, partial(run, dtype, rate, given, every, last))

    def saved(dtype: str, solver: str, loss: str, given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        import nnc

        X, y, _ = arrays(4, 3)
        net = network((4, 9, 3), loss=LOSS_FUNCTIONS.get(loss, loss), dtype=dtype)
        options = {"n_threads": 1} | SOLVERS[solver] | given
        again = {} if loss == "mse" else {"loss": cubic}
        with TemporaryDirectory() as folder:
            logger = nnc.CSVLogger(f"{folder}/log.csv")
            checkpoint = nnc.Checkpoint(f"{folder}/net-{{epoch}}.json", every=2)
            yield "history", net.fit(X, y, epochs=6, callback=[checkpoint, logger], **options)
            lines = Path(folder, "log.csv").read_text(encoding="utf-8").splitlines()
            yield "header", lines[0]
            for path in sorted(Path(folder).glob("*.json")):
                loaded = nnc.load(path, **again)
                yield f"{path.name}", [loaded.params, loaded.history]
                yield f"{path.name} continued", [loaded.fit(X, y, epochs=3, **options), loaded.params]

    continued: dict[str, dict[str, Any]] = {
        "all rows": {},
        "batches": {"batch_size": 8, "dropout": 0.25},
        "validated": {"validation": 0.25, "patience": 4},
        "scaled": {"l2": 0.01},
    }
    for (name, given), solver, loss, dtype in product(continued.items(), SOLVERS, ("mse", "cubic"), DTYPES):
        if solver in FIRST_ORDER or (name in ("all rows", "validated") and loss == "mse"):
            yield Case(f"saved, {name}, {solver}, {loss}, {dtype}", partial(saved, dtype, solver, loss, given))


# ---------------------------------------------------------------------------------------------- many networks


def many_cases() -> Iterator[Case]:
    """Yield fits of many networks, searches, and models that learn row by row."""

    def many(dtype: str, rate: dict[str, Any], given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        import nnc

        X, y, weights = arrays(4, 3)
        options = {name: weights if value == "drawn" else value for name, value in given.items()}
        networks = nnc.clones(network((4, 9, 3), dtype=dtype), 3)
        history = nnc.fit_many(networks, X, y, epochs=3, n_jobs=1, **rate, **options)
        yield "histories", [net.history for net in networks]
        yield "loss", [np.asarray(history.loss)]
        yield "params", [net.params for net in networks]
        yield "predictions", nnc.Ensemble(networks).predict(X)

    variants: dict[str, dict[str, Any]] = {
        "all rows": {},
        "batches": {"batch_size": 8},
        "weighted": {"sample_weight": "drawn", "batch_size": 16},
        "validated": {"validation": 0.25, "patience": 1},
        "penalized": {"l2": 0.01, "clip_norm": 0.1, "dropout": 0.25},
    }
    for (name, given), (solver, rate), dtype in product(variants.items(), FIRST_ORDER.items(), DTYPES):
        yield Case(f"fit_many, {name}, {solver}, {dtype}", partial(many, dtype, rate, given))

    def searched(dtype: str, given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        import nnc

        X, y, _ = arrays(4, 3, 60)

        def make(width: int, seed: int) -> Any:
            return network((4, width, 3), dtype=dtype, seed=seed)

        space = {"width": [3, 5, 8], "lr": [0.01, 0.1]}
        result = nnc.search(make, space, X, y, optimizer="adam", n_jobs=1, seed=1, trials=4, epochs=4, **given)
        yield "best", [result.best, result.loss, result.table]
        yield "params", result.network.params

    for name, given in {"validated": {"validation": 0.25}, "folds": {"folds": 3}, "whole": {"halving": False}}.items():
        for dtype in DTYPES:
            yield Case(f"search, {name}, {dtype}", partial(searched, dtype, given))

    def online(kind: str, optimizer: str) -> Iterator[tuple[str, Any]]:
        import nnc

        X, y, _ = arrays(4, 1)
        classes = kind == "OnlineClassifier"
        model = getattr(nnc, kind)(hidden=(5,), activation="tanh", optimizer=optimizer, lr=0.01, l2=0.01, seed=3)
        for row, target in zip(X, y[:, 0], strict=True):
            model.learn_one(
                dict(zip("abcd", row.tolist(), strict=True)), bool(target > 0) if classes else float(target)
            )
        rows = [dict(zip("abcd", row.tolist(), strict=True)) for row in X[:5]]
        yield "predictions", [model.predict_one(row) for row in rows]

    for kind, optimizer in product(("OnlineRegressor", "OnlineClassifier"), ("sgd", "adam", "rmsprop")):
        yield Case(f"{kind}, {optimizer}", partial(online, kind, optimizer))
