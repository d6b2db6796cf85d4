"""Cases of wrong arguments and combinations: the exceptions and warnings that they cause."""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np

from bit_cases.cases import Case, centered, integers
from bit_cases.equations import new_problem
from bit_cases.training import LOSS_FUNCTIONS, arrays, network, sequences

INF, NAN = float("inf"), float("nan")
OBJECT = [1]  # value of a wrong type for each argument that is not a list
# Wrong values of arguments of `fit`; most of them are also arguments of the other methods.
WRONG: dict[str, tuple[Any, ...]] = {
    "epochs": (0, -1, 1.5, "3", True, None),
    "lr": (0, -1.0, NAN, INF, "fast", OBJECT, lambda: 1, lambda epoch: -1.0, lambda epoch: "x"),
    "optimizer": ("adm", "", 3, OBJECT),
    "preset": ("fast", 1, None),
    "reset_optimizer": (1, "yes", None),
    "batch_size": (0, -2, 2.5, "8", 1000, True),
    "shuffle": (1, "no", None),
    "sample_weight": ("balanced", [1.0], -np.ones(37), np.zeros(37), np.full(37, NAN), np.ones((37, 2))),
    "lengths": ([1], np.ones(37), np.zeros(37, int), "all"),
    "truncate": (0, 3, "2", 2.5),
    "warm_up": (-1, 3, "2"),
    "class_weight": ("balance", {0: 1.0}, {7: 1.0}, [1, 2]),
    "dY": (1.0, np.zeros(3), np.zeros((37, 3, 5)), np.full((37, 3, 4), INF), "dY"),
    "dY_weight": (-1, NAN, "1", 2.0),
    "validation": (0, 1.0, -0.5, "first", [1], (1, 2), (np.zeros((3, 5)), np.zeros((3, 3))), (np.zeros((0, 4)), [])),
    "metrics": ("accuracy", "nonsense", ["r2", "r2"], 3, lambda y, p: "x", lambda y: 0.0),
    "l1": (-1, NAN, "1", OBJECT),
    "l2": (-1, INF, "1"),
    "weight_decay": (-1, NAN, "1", lambda epoch: -1.0),
    "dropout": (-0.1, 1.0, "half", [0.1, 0.2, 0.3], [2.0], NAN),
    "clip_norm": (0, -1, NAN, "1"),
    "clip_value": (0, -1, NAN, "1"),
    "max_norm": (0, -1, NAN, "1"),
    "regularize_bias": (1, "yes"),
    "patience": (0, -1, 1.5, "2"),
    "min_delta": (-1, NAN, "1"),
    "monitor": ("val_loss", "r2", "nonsense", 3),
    "restore_best": ("first", 2, None),
    "target_loss": ("x", NAN, OBJECT),
    "max_seconds": (0, -1, NAN, "1"),
    "callback": (3, "f", [3], lambda: None),
    "progress": (2, "bar"),
    "verbose": (3, -1, "1"),
    "n_threads": (0, -1, 1.5, "2", 10**6),
    "epoch": (3,),
    "learning_rate": (0.1,),
}
# Valid values, of which each pair is passed to `fit`: combinations are refused or trained.
VALID: dict[str, Any] = {
    "batch_size": 8, "lengths": np.full(37, 4), "truncate": 2, "warm_up": 1, "class_weight": "balanced",
    "dY": np.zeros((37, 3, 4)), "sample_weight": np.ones(37), "validation": 0.25, "metrics": "r2", "l1": 0.1,
    "weight_decay": 0.1, "dropout": 0.1, "clip_norm": 1.0, "clip_value": 1.0, "max_norm": 1.0, "patience": 1,
    "monitor": "val_loss", "target_loss": 0.1, "preset": "auto", "shuffle": False, "restore_best": True,
    "regularize_bias": True, "reset_optimizer": True,
}  # fmt: skip
ALL_ROWS = "lbfgs", "levenberg_marquardt"


def texts_of(calls: dict[str, Callable[[], Any]]) -> Iterator[Case]:
    """Yield a case for each call; its result is the exception, or the class of the value that it returns."""

    def run(call: Callable[[], Any]) -> Iterator[tuple[str, Any]]:
        yield "result", type(call()).__name__

    for name, call in calls.items():
        yield Case(name, lambda call=call: run(call))


def brief(value: Any) -> str:
    """Return a short text of a value, which is the same in each process."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape} of {value.flat[0]}"
    return getattr(value, "__name__", repr(value)) if callable(value) else repr(value)


def networks() -> dict[str, tuple[Callable[[], Any], Any, Any]]:
    """Return for each kind a function that creates a network, and its rows."""
    X, y, _ = arrays(4, 3)
    S, steps, _ = sequences(37)

    def recurrent() -> Any:
        from nnc.layers import GRU, Input

        return network([Input(steps=S.shape[1], features=2), GRU(4, return_sequences=True), 3], activation="tanh")

    return {
        "mse": (lambda: network((4, 5, 3)), X, y),
        "relu": (lambda: network((4, 5, 3), activation="relu"), X, y),
        "classes": (lambda: network((4, 5, 3), loss="cross_entropy", output="softmax"), X, integers(37, 9, 3)),
        "custom": (lambda: network((4, 5, 3), loss=LOSS_FUNCTIONS["cubic"]), X, y),
        "automatic": (lambda: network((4, 5, 3), loss="auto", output=None), X, y),
        "sequences": (recurrent, S, steps),
    }


def wrong_rows() -> dict[str, tuple[Any, Any]]:
    """Return wrong rows X and y by name."""
    X, y, _ = arrays(4, 3)
    nan, infinite = X.copy(), y.copy()
    nan[3, 1], infinite[4, 2] = NAN, INF
    return {
        "no rows": (X[:0], y[:0]), "one column": (X[:, :1], y), "vector": (X[0], y[0]), "scalar": (1.0, 1.0),
        "more targets": (X, y[:9]), "wide targets": (X, np.c_[y, y]), "NaN": (nan, y), "infinite": (X, infinite),
        "texts": (X.astype(str), y), "names": (X, np.full(37, "a")), "complex": (X * 1j, y), "None": (None, y),
        "no targets": (X, None), "objects": (X.astype(object), y), "3D": (X[:, :, None], y), "labels": (X, y[:, 0]),
        "big labels": (X, integers(37, 3, 100)), "ragged": ([[1, 2], [3]], y),
    }  # fmt: skip


def cases() -> Iterator[Case]:
    """Yield all wrong calls."""
    yield from texts_of({**calls_of_fit(), **calls_of_batches(), **calls_of_steps()})
    yield from texts_of({**calls_of_problems(), **calls_of_estimators()})


def calls_of_fit() -> dict[str, Callable[[], Any]]:
    """Return calls of `fit` with wrong arguments, wrong rows, and pairs of arguments."""
    calls: dict[str, Callable[[], Any]] = {}
    for kind, (create, X, y) in networks().items():
        for name, values in WRONG.items():
            for value in values:
                calls[f"fit {kind}, {name}={brief(value)}"] = lambda create=create, X=X, y=y, given={name: value}: (
                    create().fit(X, y, **{"epochs": 1} | given)
                )
        for optimizer in ("adam", *ALL_ROWS):
            for pair in [*((name,) for name in VALID), *combinations(VALID, 2)]:
                given = {"epochs": 1, "optimizer": optimizer, **{name: VALID[name] for name in pair}}
                if "preset" in given and "validation" not in given:
                    given["max_seconds"] = 30.0
                calls[f"fit {kind}, {optimizer} with {' and '.join(pair)}"] = (
                    lambda create=create, X=X, y=y, given=given: create().fit(X, y, **given)
                )
        for name, rows in wrong_rows().items():
            calls[f"fit {kind}, {name}"] = lambda create=create, rows=rows: create().fit(*rows, epochs=1, lr=0.1)
            calls[f"evaluate {kind}, {name}"] = lambda create=create, rows=rows: create().evaluate_loss(*rows)
            calls[f"gradients {kind}, {name}"] = lambda create=create, rows=rows: create().gradients(*rows)
            calls[f"validation {kind}, {name}"] = lambda create=create, rows=rows, X=X, y=y: create().fit(
                X, y, epochs=1, lr=0.1, validation=rows
            )
    return calls


def calls_of_batches() -> dict[str, Callable[[], Any]]:
    """Return calls of `fit_batches` with wrong arguments and wrong batches."""
    calls: dict[str, Callable[[], Any]] = {}
    for kind, (create, X, y) in networks().items():
        for name, values in WRONG.items():
            for value in values:
                calls[f"fit_batches {kind}, {name}={brief(value)}"] = (
                    lambda create=create, X=X, y=y, given={name: value}: create().fit_batches([(X, y)], **given)
                )
        sources = {
            "none": lambda X, y: [], "number": lambda X, y: 3, "single arrays": lambda X, y: [X],
            "one part": lambda X, y: [(X,)], "five parts": lambda X, y: [(X, y, None, None, None)],
            "iterator twice": lambda X, y: iter([(X, y)]), "function of numbers": lambda X, y: lambda: 3,
            "empty batch": lambda X, y: [(X[:0], y[:0])], "weights": lambda X, y: [(X, y, [1.0])],
            "weights later": lambda X, y: [(X, y), (X, y, np.ones(len(X)))],
            "lengths": lambda X, y: [(X, y, None, [1])], "exception": lambda X, y: (1 / 0 for _ in range(3)),
        }  # fmt: skip
        for name, source in sources.items():
            calls[f"fit_batches {kind}, {name}"] = lambda create=create, X=X, y=y, source=source: create().fit_batches(
                source(X, y), epochs=2, lr=0.1
            )
        for name, rows in wrong_rows().items():
            calls[f"fit_batches {kind}, {name}"] = lambda create=create, X=X, y=y, rows=rows: create().fit_batches(
                [(X, y), rows], lr=0.1
            )
        for optimizer in ALL_ROWS:
            calls[f"fit_batches {kind}, {optimizer}"] = lambda create=create, X=X, y=y, optimizer=optimizer: (
                create().fit_batches([(X, y)], optimizer=optimizer)
            )
    return calls


def calls_of_steps() -> dict[str, Callable[[], Any]]:
    """Return calls of `train_step`, `stepper` and `apply_gradients` with wrong arguments and rows."""
    calls: dict[str, Callable[[], Any]] = {}
    for kind, (create, X, y) in networks().items():
        for name in ("lr", "optimizer", "reset_optimizer", "sample_weight", "epochs", "l2", "dropout", "clip_norm"):
            for value in WRONG[name]:
                given = {name: value}
                calls[f"train_step {kind}, {name}={brief(value)}"] = lambda create=create, X=X, y=y, given=given: (
                    create().train_step(X, y, **given)
                )
                calls[f"stepper {kind}, {name}={brief(value)}"] = lambda create=create, X=X, y=y, given=given: (
                    create().stepper(**given)(X, y)
                )
        for name, rows in wrong_rows().items():
            calls[f"train_step {kind}, {name}"] = lambda create=create, rows=rows: create().train_step(*rows)
            calls[f"stepper {kind}, {name}"] = lambda create=create, rows=rows: create().stepper()(*rows)
        for name, dP in {"wrong shape": np.zeros(3), "NaN": np.full((37, 3), NAN), "text": "dP"}.items():
            calls[f"train_step {kind}, dP of {name}"] = lambda create=create, X=X, dP=dP: create().train_step(X, dP=dP)
            calls[f"vjp {kind}, dP of {name}"] = lambda create=create, X=X, dP=dP: create().vjp(X, dP)
        calls[f"train_step {kind}, y and dP"] = lambda create=create, X=X, y=y: create().train_step(X, y, dP=y)
        for name, gradients in {"one number": [1.0], "vector": np.zeros(3), "text": "g", "pairs": [(1, 2)]}.items():
            calls[f"apply_gradients {kind}, {name}"] = lambda create=create, gradients=gradients: (
                create().apply_gradients(gradients)
            )
        for optimizer in ALL_ROWS:
            calls[f"train_step {kind}, {optimizer}"] = lambda create=create, X=X, y=y, optimizer=optimizer: (
                create().train_step(X, y, optimizer=optimizer)
            )
    return calls


def calls_of_problems() -> dict[str, Callable[[], Any]]:
    """Return calls of `Problem.fit` with wrong arguments, and problems that cannot be created."""
    from nnc import pde

    calls: dict[str, Callable[[], Any]] = {}
    names = (
        "epochs", "lr", "optimizer", "reset_optimizer", "target_loss", "max_seconds", "callback", "progress", "verbose",
        "n_threads", "batch_size", "patience", "validation", "l2", "sample_weight", "learning_rate",
    )  # fmt: skip
    resamplers = (3, {"nothing": lambda e, r: None}, lambda e, r: np.zeros((3, 5)), lambda e, r: "x", lambda e: None)
    for name, values in {**{name: WRONG[name] for name in names}, "resample": resamplers}.items():
        for number, value in enumerate(values):
            for optimizer in ("adam", *ALL_ROWS):
                given = {"epochs": 2, "optimizer": optimizer, name: value}
                calls[f"Problem.fit, {optimizer}, {name}={number} {brief(value)}"] = lambda given=given: new_problem(
                    "coefficient", "float64"
                ).fit(**given)
    points = centered((9, 2), 1)
    terms: dict[str, Callable[[], Any]] = {
        "no terms": list, "number": lambda: 3, "few columns": lambda: pde.Residual(lambda p, u: u, points[:, :1]),
        "no points": lambda: pde.Residual(lambda p, u: u, points[:0]), "NaN": lambda: pde.Values(points * NAN, 1.0),
        "third derivative": lambda: pde.Residual(lambda p, u: u.d("x", "x", "x"), points),
        "unknown input": lambda: pde.Residual(lambda p, u: u.d("z"), points),
        "unknown coefficient": lambda: pde.Residual(lambda p, u, k: u * k, points),
        "branch": lambda: pde.Residual(lambda p, u: u if u > 0 else -u, points),
        "weight": lambda: pde.Residual(lambda p, u: u, points, weight=-1.0),
        "weights": lambda: pde.Residual(lambda p, u: u, points, weight=np.ones(3)),
        "values": lambda: pde.Values(points, np.zeros(3)), "name": lambda: pde.Values(points, 0.0, name="loss"),
        "infinite": lambda: pde.Residual(lambda p, u: np.log(u - 10), points),
    }  # fmt: skip
    for name, create in terms.items():
        for optimizer in ("adam", *ALL_ROWS):
            calls[f"Problem of {name}, {optimizer}"] = lambda create=create, optimizer=optimizer: pde.Problem(
                network((2, 5, 1)), create(), inputs=("x", "t")
            ).fit(2, optimizer=optimizer)
    return calls


def calls_of_estimators() -> dict[str, Callable[[], Any]]:
    """Return fits of estimators with wrong parameters and rows."""
    from nnc.sklearn import MLPClassifier, MLPRegressor

    X, y, _ = arrays(4, 1)
    labels = integers(37, 9, 3)
    calls: dict[str, Callable[[], Any]] = {}
    parameters: dict[str, tuple[Any, ...]] = {
        "hidden_layer_sizes": ((0,), "10", (2.5,), -1), "activation": ("rel", ["tanh", "tanh"], 3),
        "solver": ("adm", 3), "alpha": (-1, "x"), "batch_size": (0, "all", 1000), "learning_rate": ("x", 3),
        "learning_rate_init": (0, -1), "max_iter": (0, 1.5), "shuffle": ("yes",), "tol": (-1,), "momentum": (2,),
        "early_stopping": ("yes", True), "validation_fraction": (0, 1, 0.01), "beta_1": (1,), "n_iter_no_change": (0,),
        "max_fun": (0,), "loss": ("x", "poisson", "quantile"), "class_weight": ("x", {5: 1}),
        "dropout": (1, [0.1, 0.1]),
        "max_seconds": (0,), "callback": (3, lambda: 0), "n_threads": (0, "2"), "random_state": ("x",),
        "warm_start": ("x",), "power_t": (-1,), "verbose": ("x",), "epsilon": (0,),
    }  # fmt: skip
    for kind, model, target in (("classifier", MLPClassifier, labels), ("regressor", MLPRegressor, y[:, 0])):
        for name, values in parameters.items():
            for value in values:
                for way in ("fit", "partial_fit"):
                    calls[f"{kind}.{way}, {name}={brief(value)}"] = (
                        lambda model=model, target=target, given={name: value}, way=way: getattr(
                            model(**{"max_iter": 2, "random_state": 0} | given), way
                        )(X, target)
                    )
        for name, rows in wrong_rows().items():
            for way in ("fit", "partial_fit"):
                calls[f"{kind}.{way}, {name}"] = lambda model=model, rows=rows, way=way: getattr(
                    model(max_iter=2, random_state=0), way
                )(*rows)
        for solver in ALL_ROWS:
            for given in ({"early_stopping": True}, {"dropout": 0.1}, {"batch_size": 3}, {"learning_rate": "adaptive"}):
                calls[f"{kind}, {solver} with {given}"] = (
                    lambda model=model, target=target, given={**given, "solver": solver}: model(
                        max_iter=2, random_state=0, **given
                    ).fit(X, target)
                )
        for name, weights in (
            ("few", [1.0]),
            ("negative", -np.ones(37)),
            ("NaN", np.full(37, NAN)),
            ("zero", np.zeros(37)),
        ):
            calls[f"{kind}, {name} weights"] = lambda model=model, target=target, weights=weights: model(
                max_iter=2, random_state=0
            ).fit(X, target, weights)
    return calls
