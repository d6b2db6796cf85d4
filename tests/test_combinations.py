"""Tests of the errors for combinations of options, optimizers, losses, layers and formats that are not supported.

The file refusals.txt lists calls with their complete messages, so that every change of a text is visible.
"""

import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pytest

import nnc
from nnc import Head, Heads, LeastSquares, NeuralNetwork, Quantile, pde
from nnc._cli.main import main
from nnc._registry import losses, optimizers
from nnc._registry.capabilities import EXPORTS, NEEDS, PAIRS, check
from nnc._registry.optimizers import parse_optimizer
from nnc.layers import GRU, BatchNorm, Bidirectional, Conv1D, Conv2D, Dense, Dropout, Flatten, Input, Scale, SimpleRNN

TEXT = Path(__file__).with_name("refusals.txt").read_text(encoding="utf-8")
REFUSALS = re.findall(r"^(\w.*)\n    (.+)$", TEXT, re.MULTILINE)

rng = np.random.default_rng(0)
ROWS = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
LABELS = [0, 1] * 4
SLOPES = np.zeros((8, 2, 3))
DENSE = (3, Dense(4, "tanh"), 2)
RELU = (3, Dense(4, "relu"), 2)
BATCH_NORM = (3, Dense(4, "tanh"), BatchNorm(), 2)
DROPOUT = (3, Dense(4, "tanh"), Dropout(0.5), 2)
IMAGES = (Input(4, 4, 1), Conv2D(2, 3), Flatten(), 2)
SEQUENCES = Input(steps=5, features=3)
GRU_STEPS = GRU(4, return_sequences=True)
RECURRENT = (SEQUENCES, GRU_STEPS, 2)
BIDIRECTIONAL = (SEQUENCES, Bidirectional(GRU_STEPS), 2)
CONVOLUTION = (SEQUENCES, Conv1D(4, 2), 2)
CAUSAL = (SEQUENCES, Conv1D(4, 2, padding="causal"), GRU_STEPS, 2)
BATCH_NORM_FIRST = (3, Scale(), BatchNorm("tanh"), 2)
ELU_CELLS = (SEQUENCES, SimpleRNN(3, "elu"), 2)
LEAKY_CELLS = (SEQUENCES, Bidirectional(SimpleRNN(3, "leaky_relu")), 2)
ANY_STEPS = (Input(steps=None, features=3), Bidirectional(GRU_STEPS), 2)
HEADS = Heads([Head(1, "mse"), Head(1, "mae")])
QUANTILES = Quantile([0.1, 0.9])
LEAST_SQUARES = LeastSquares(lambda P, Y: (P - Y, np.broadcast_to(np.eye(P.shape[1]), (*P.shape, P.shape[1]))))
EXECUTOR = ThreadPoolExecutor(1)
# Packages of exporters.
PACKAGES = {"to_sklearn": "sklearn", "to_torch": "torch", "to_keras": "keras", "to_skl2onnx": "skl2onnx"}


def squares(P, Y):
    return ((P - Y) ** 2).sum(), 2 * (P - Y)


def network(layers=DENSE, loss="mse", **options):
    return NeuralNetwork([*layers], loss=loss, seed=0, **options)


def rows_of(net):
    return np.full((8, *net.model.input_shape), 0.5), np.full((8, *net.model.stack.output_shape), 0.5)


def fit(layers=DENSE, loss="mse", rows=None, **options):
    net = network(layers, loss)
    net.fit(*(rows_of(net) if rows is None else rows), **{"epochs": 1, **options})


def memmap():
    """Return rows whose inputs are a memmap of another dtype."""
    with TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=(8, 3)), ROWS[1]


def fit_batches(loss="mse", **options):
    network(loss=loss).fit_batches([ROWS], **{"epochs": 1, **options})


def fit_many(layers=DENSE, **options):
    nnc.fit_many([network(layers)], *ROWS, **{"epochs": 1, **options})


def search(**options):
    nnc.search(lambda seed: network(), {"l2": [0, 0.1]}, *ROWS, **{"epochs": 1, **options})


def train_step(layers=DENSE, y=ROWS[1], **options):
    network(layers).train_step(ROWS[0], y, **options)


def continue_lbfgs():
    net = network()
    net.fit(*ROWS, epochs=1, optimizer="lbfgs")
    net.train_step(*ROWS)


def apply(layers=DENSE, loss="mse", lr=0.1):
    net = network(layers, loss)
    gradients = [(np.zeros_like(W), np.zeros_like(b)) for W, b in zip(net.weights, net.biases, strict=True)]
    net.stepper(lr=lr).apply(gradients)


def change_rate_of_rprop():
    step = network().stepper(optimizer="rprop", lr=0.1)
    step(*ROWS)
    step.lr = 0.2


def fit_equations(layers=DENSE, loss="mse", **options):
    terms = [pde.Residual(lambda p, u: u[0].d(0), ROWS[0]), pde.Values(*ROWS)]
    pde.Problem(network(layers, loss), terms).fit(1, **options)


def fit_pixels():
    network(loss=Heads([Head(1, "mse"), Head(1, "bce")]), scale_y="pixels").fit(*ROWS, epochs=1)


def mlp(name="MLPRegressor", **options):
    module = pytest.importorskip("nnc.sklearn", exc_type=ImportError)
    return getattr(module, name)(**{"activation": "tanh", **options})


def to_skl2onnx():
    from skl2onnx import to_onnx

    from nnc.sklearn import register_skl2onnx

    register_skl2onnx()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = mlp(loss=QUANTILES, max_iter=1).fit(*ROWS)
    to_onnx(estimator, ROWS[0])


def fit_table(**options):
    module = pytest.importorskip("nnc.tabular", exc_type=ImportError)
    module.TableRegressor(quantiles=[0.1, 0.9], **options).fit(*ROWS, sample_weight=np.ones(8))


class UsageError(Exception):
    """Invalid arguments of the shell command."""


def shell(line):
    pytest.importorskip("rich")
    with redirect_stderr(StringIO()) as printed:
        assert main(line.split()) == 2
    raise UsageError(printed.getvalue().strip())


@pytest.mark.parametrize(("call", "expected"), REFUSALS, ids=lambda text: text[:60])
def test_unsupported_combination_raises(call, expected):
    for name, package in PACKAGES.items():
        if name in call:
            pytest.importorskip(package)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        eval(call)
    assert f"{caught.type.__name__}: {caught.value}" == expected


# --------------------------------------------------------------------------------------------------- pairs

NETWORKS = [(layers, "mse") for layers in (RELU, BATCH_NORM, DROPOUT, IMAGES, RECURRENT, BIDIRECTIONAL, CAUSAL)]
NETWORKS += [(DENSE, loss) for loss in (*losses.NAMES, squares, LEAST_SQUARES, HEADS, QUANTILES)]
OPTIONS = {
    "lr": 0.01,
    "batch_size": 4,
    "dropout": 0.5,
    "l1": 0.1,
    "clip_norm": 1.0,
    "clip_value": 1.0,
    "max_norm": 1.0,
    "weight_decay": 0.1,
    "metrics": [nnc.Metric("zero", lambda y_true, y_pred, sample_weight=None: 0.0, larger_is_better=True)],
    "sample_weight": np.ones(8),
    "dY": SLOPES,
    "truncate": 2,
}
# Values of the options in PAIRS.
PAIRED = OPTIONS | {"dY_weight": 2.0, "warm_up": 1, "min_delta": 0.1, "patience": 1, "verbose": 1, "progress": True}
METHODS = {
    "derivatives": lambda net, X, y: net.derivatives(X),
    "parameter_jacobian": lambda net, X, y: net.parameter_jacobian(X),
    "score": lambda net, X, y: net.score(X, y),
    "explain_step": lambda net, X, y: net.explain_step(X[:2], y[:2]),
    "dP": lambda net, X, y: net.train_step(X, dP=np.ones_like(y)),
    "nnc.pde.Problem": lambda net, X, y: pde.Problem(net, pde.Values(ROWS[0], ROWS[1])),
}
EXPORTERS = {
    "to_onnx": lambda net, path: net.to_onnx(path),
    "to_c": lambda net, path: net.to_c(path),
    "to_c with dtype='int8'": lambda net, path: net.to_c(path, dtype="int8", calibrate=rows_of(net)[0]),
    "to_python": lambda net, path: net.to_python(path),
    "to_js": lambda net, path: net.to_js(path),
    "to_torch": lambda net, path: net.to_torch(),
    "nnc.to_keras": lambda net, path: nnc.to_keras(net),
    "to_sklearn": lambda net, path: net.to_sklearn(),
}
EXPORTED = [(layers, "mse") for layers in (BATCH_NORM_FIRST, ELU_CELLS, LEAKY_CELLS, (3, Dense(4, "sin"), 2))]
EXPORTED += [*NETWORKS, (DENSE, Heads([Head(1), Head(1, "poisson")]))]


def refusals(uses, model, **parts):
    """Return the messages of the table for combinations of `uses` with the network and the other parts."""
    messages = set()
    for use in uses:
        try:
            check(use, model, **parts)
        except ValueError as error:
            messages.add(str(error))
    return messages


def message_of(call):
    """Return the message of the ValueError that a call raises, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except ValueError as error:
        return str(error)


def check_fit(layers, loss, optimizer="adam", option=None):
    """Assert that a fit raises an error of the table if it has one for the combination, and otherwise none."""
    net = network(layers, loss)
    X, y = rows_of(net)
    if loss == "hinge":
        y = np.ones_like(y)
    instance = parse_optimizer(optimizer)
    uses = {f"optimizer={optimizer!r}", option, "a layer with dropout" if layers is DROPOUT else None}
    expected = refusals(uses & NEEDS.keys(), net.model, optimizer=instance)
    options = {} if option is None else {option: OPTIONS[option]}
    message = message_of(lambda: net.fit(X, y, **{"epochs": 1, "optimizer": optimizer, **options}))
    assert message in (expected or {None}), (layers, loss, optimizer, option)


@pytest.mark.parametrize("option", OPTIONS)
def test_option_is_possible_with_optimizers_of_the_table(option):
    for optimizer in optimizers.NAMES:
        check_fit(RECURRENT if option == "truncate" else DENSE, "mse", optimizer, option)


@pytest.mark.parametrize("pair", PAIRS["fit"], ids=lambda pair: f"{pair.argument}-{pair.other}")
def test_pair_of_options_is_possible_as_in_the_table(pair):
    both = {name: PAIRED[name] for name in (pair.argument, pair.other)}
    first = {pair.argument: PAIRED[pair.argument]}
    possible, refused = (both, first) if pair.requires else (first, both)
    layers = RECURRENT if pair.other == "truncate" else DENSE
    assert message_of(lambda: fit(layers, **possible)) is None
    relation = "without" if pair.requires else "with"
    assert message_of(lambda: fit(layers, **refused)).startswith(
        f"{pair.argument} must be left out {relation} {pair.other}"
    )


@pytest.mark.parametrize(
    "options", [{"dropout": 0}, {"dropout": [0.0]}, {"l1": 0.0}, {"weight_decay": 0.0}, {"metrics": []}], ids=str
)
def test_option_without_effect_changes_no_optimizer_and_excludes_no_argument(options):
    for optimizer in optimizers.NAMES:
        plain, net = network(), network()
        for trained, given in ((plain, {}), (net, options)):
            trained.fit(*ROWS, epochs=1, optimizer=optimizer, **given)
        assert np.array_equal(net.params, plain.params) or (optimizer == "adamw" and "weight_decay" in options)
    fit(DENSE, **options, dY=SLOPES)


@pytest.mark.parametrize("option", OPTIONS)
def test_option_is_possible_with_networks_of_the_table(option):
    for layers, loss in NETWORKS:
        check_fit(layers, loss, "adam", option)


@pytest.mark.parametrize("optimizer", optimizers.NAMES)
def test_optimizer_is_possible_with_networks_of_the_table(optimizer):
    for layers, loss in NETWORKS:
        check_fit(layers, loss, optimizer)


@pytest.mark.parametrize("method", METHODS)
def test_method_is_possible_with_networks_of_the_table(method):
    for layers, loss in NETWORKS:
        net = network(layers, loss)
        X, y = rows_of(net)
        expected = refusals([method], net.model)
        message = message_of(
            lambda net=net, X=X, y=y: METHODS[method](net, X, np.ones_like(y) if net.loss_name == "hinge" else y)
        )
        assert message in (expected or {None}), (layers, loss, method)


@pytest.mark.parametrize("export", EXPORTERS)
def test_export_is_possible_for_networks_of_the_table(export, tmp_path):
    for text, package in PACKAGES.items():
        if text in export:
            pytest.importorskip(package)
    for layers, loss in EXPORTED:
        net, path = network(layers, loss), tmp_path / "model"
        expected = refusals([export], net.model)
        message = message_of(lambda net=net, path=path: EXPORTERS[export](net, path))
        assert message in (expected or {None}), (layers, loss, export)
        assert not (expected and path.exists())
        path.unlink(missing_ok=True)


def test_every_export_of_the_table_is_tested():
    assert EXPORTERS.keys() == EXPORTS.keys() - {"an export", "skl2onnx"}
