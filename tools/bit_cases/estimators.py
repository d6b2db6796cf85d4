"""Cases of nnc.sklearn: solvers on dense and sparse rows, early stopping, partial_fit and warm starts."""

import pickle
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from bit_cases.cases import Case, centered, fractions, integers
from bit_cases.training import Recorder

ROWS, FEATURES = 60, 6
STOCHASTIC = "sgd", "adam", "adamw", "rmsprop", "adagrad", "nadam", "rprop"
FORMS = "dense", "float32", "sparse", "sparse float32"
CURVES = (
    "loss_curve_", "validation_loss_curve_", "validation_scores_", "best_validation_score_", "best_loss_", "loss_",
    "n_iter_", "t_", "coefs_", "intercepts_", "out_activation_",
)  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "small batches": {"batch_size": 7, "alpha": 0.01},
    "not shuffled": {"batch_size": 16, "shuffle": False},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "validation_fraction": 0.25},
    "two layers": {"hidden_layer_sizes": (7, 5), "activation": "tanh"},
    "dropout": {"dropout": 0.25, "batch_size": 20},
    "converging": {"tol": 0.5, "n_iter_no_change": 1, "max_iter": 12},
}
ONLY_SGD: dict[str, dict[str, Any]] = {
    "adaptive": {"learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1, "max_iter": 12},
    "invscaling": {"learning_rate": "invscaling", "power_t": 0.3},
    "no momentum": {"momentum": 0.0},
    "plain momentum": {"nesterovs_momentum": False},
}


def targets(kind: str) -> np.ndarray:
    """Return targets by their kind."""
    if kind == "two classes":
        return np.array(["no", "yes"])[integers(ROWS, 21, 2)]
    if kind == "classes":
        return integers(ROWS, 22, 3)
    if kind == "multilabel":
        return integers(ROWS * 3, 23, 2).reshape(ROWS, 3)
    if kind == "counts":
        return integers(ROWS, 24, 5).astype(float)
    return centered((ROWS, 2) if kind == "two numbers" else (ROWS,), 25)


def new_estimator(kind: str, parameters: dict[str, Any]) -> Any:
    """Return an estimator for this kind of targets."""
    from nnc.sklearn import MLPClassifier, MLPRegressor

    classes = kind in ("two classes", "classes", "multilabel")
    common = {"hidden_layer_sizes": (9,), "max_iter": 5, "random_state": 7, "n_threads": 1}
    return (MLPClassifier if classes else MLPRegressor)(**common | parameters)


def rows_in(form: str) -> Any:
    """Return the rows of a form: a dense array or a sparse matrix, of float64 or float32."""
    from scipy.sparse import csr_matrix

    X = centered((ROWS, FEATURES), 26) * (integers(ROWS * FEATURES, 27, 3) > 0).reshape(ROWS, FEATURES)
    X = X.astype(np.float32) if "float32" in form else X
    return csr_matrix(X) if "sparse" in form else X


def attributes(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fitted attributes of an estimator."""
    for name in CURVES:
        if hasattr(model, name):
            yield name, getattr(model, name)


def run(kind: str, form: str, way: str, parameters: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fit an estimator, and yield its attributes and predictions."""
    X, y = rows_in(form), targets(kind)
    model = new_estimator(kind, parameters)
    recorder = Recorder(1, 99)
    if way == "fit":
        model.fit(X, y)
    elif way == "weighted":
        model.fit(X, y, sample_weight=0.5 + fractions((ROWS,), 28))
    elif way == "callback":
        model.set_params(callback=recorder).fit(X, y)
        model.set_params(callback=None)
    elif way == "warm start":
        model.set_params(warm_start=True).fit(X, y).fit(X, y)
    elif way == "copied":
        model = pickle.loads(pickle.dumps(model.fit(X, y)))
        if hasattr(model, "partial_fit"):
            model.partial_fit(X, y)
    else:
        classes = {"classes": np.unique(y)} if kind in ("two classes", "classes", "multilabel") else {}
        if kind == "multilabel":
            classes = {"classes": [0, 1, 2]}
        for first in (0, 20, 31):
            model.partial_fit(X[first : first + 25], y[first : first + 25], **classes)
            classes = {}
    yield from attributes(model)
    yield "predictions", [model.predict(X), model.score(X, y)]
    if hasattr(model, "predict_proba"):
        yield "probabilities", model.predict_proba(X)
    if way == "callback":
        yield "records", recorder.records


def cases() -> Iterator[Case]:
    """Yield all fits of estimators."""
    kinds = "two classes", "classes", "multilabel", "numbers", "two numbers"
    ways = "fit", "weighted", "callback", "warm start", "copied", "partial_fit"
    for kind, solver, form in product(kinds, STOCHASTIC, FORMS):
        variants = VARIANTS | (ONLY_SGD if solver == "sgd" else {})
        for name, parameters in variants.items():
            if kind in ("multilabel", "two numbers") and name not in ("plain", "small batches", "early stopping"):
                continue
            given = {"solver": solver, **parameters}
            yield Case(f"{kind}, {form}, {name}, {solver}", partial(run, kind, form, "fit", given))
        for way in ways[1:]:
            given = {"solver": solver, "batch_size": 16}
            yield Case(f"{kind}, {form}, {way}, {solver}", partial(run, kind, form, way, given))
    for kind, form, way in product(kinds, FORMS, ways[:-1]):
        for solver, parameters in (("lbfgs", {"alpha": 0.01}), ("lbfgs", {"max_fun": 6}), ("levenberg_marquardt", {})):
            if solver == "levenberg_marquardt" and not kind.endswith("numbers"):
                continue
            given = {"solver": solver, **parameters}
            yield Case(f"{kind}, {form}, {way}, {solver} {parameters}", partial(run, kind, form, way, given))
    for form, solver, loss in product(FORMS, ("adam", "lbfgs"), ("poisson", "mae", "huber", "log_cosh")):
        given = {"solver": solver, "loss": loss}
        yield Case(f"counts, {form}, {loss}, {solver}", partial(run, "counts", form, "fit", given))
    for form, weight in product(FORMS, ("balanced", {0: 2.0, 1: 1.0, 2: 0.5})):
        given = {"class_weight": weight, "batch_size": 16}
        yield Case(f"classes, {form}, weights {weight}", partial(run, "classes", form, "fit", given))
