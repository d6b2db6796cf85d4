"""Shared fixtures: builds of the core, hypothesis profiles, failure injection and networks for the exporters.

If NNC_ISA is set, all tests run with that instruction set. Otherwise, tests use the one that networks choose
automatically, and those marked `exhaustive` repeat the tests of kernels and gradients with the others.
"""

import gc
import inspect
import os
import re
import signal
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from layer_examples import EXAMPLES, layers_with

from nnc import NeuralNetwork
from nnc._model import cores
from nnc._registry import activations
from nnc.layers import (
    AvgPool1D,
    AvgPool2D,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    GlobalMaxPool1D,
    Input,
    MaxPool1D,
    MaxPool2D,
    Scale,
)

try:
    import fcntl
except ImportError:  # Windows and WebAssembly have no such locks: there, tests run in parallel only with `pytest -n`
    fcntl = None

NUMBER_OF_CASES = pytest.StashKey()  # number of collected cases of each test function of a module
# a call of `importorskip` in a module, also in a loop over the names of packages
MODULE_IMPORT = re.compile(r"^(?:for .*:\n +)?(?:[\w, ]+ = )?pytest\.importorskip\(", re.MULTILINE)
MIN_PARALLEL_FILES = 20  # fewer test files run in one process, because several need seconds to start

# Shells ignore Ctrl-C in background jobs, and processes that the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The program nohup makes a process ignore SIGHUP, and the tests and their child processes would inherit that.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Examples are derandomized, so that test runs are repeatable. `.ci/run` uses --hypothesis-profile=exhaustive, and
# --hypothesis-profile=search tries new examples.
settings.register_profile("nnc", derandomize=True, deadline=None, max_examples=20)
settings.register_profile("exhaustive", settings.get_profile("nnc"), max_examples=60)
settings.register_profile("search", deadline=None, max_examples=5000)
settings.load_profile("nnc")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Let pytest-xdist, if it is installed, run many test files on all processors."""
    option = config.option
    has_workers = fcntl and config.pluginmanager.hasplugin("xdist") and "PYTEST_XDIST_WORKER" not in os.environ
    if not has_workers or option.numprocesses is not None or option.tx or option.trace or option.capture == "no":
        return
    paths = {Path(argument.split("::")[0]) for argument in config.args}
    if sum(len([*path.rglob("test_*.py")]) if path.is_dir() else 1 for path in paths) >= MIN_PARALLEL_FILES:
        option.numprocesses = "auto"
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # idle threads of OpenBLAS occupy the other processors


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Run a test marked `serial` while the other processes of pytest-xdist run no test."""
    if not hasattr(item.config, "workerinput") or not fcntl:
        return (yield)
    with open(__file__, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX if item.get_closest_marker("serial") else fcntl.LOCK_SH)
        try:
            return (yield)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # also releases the lock in processes that the test has forked


@cache
def module_needs_packages(path):
    """Return whether a test file calls `importorskip` when it is imported."""
    return MODULE_IMPORT.search(path.read_text(encoding="utf-8")) is not None


@cache
def function_needs_packages(function):
    """Return whether a test or fixture calls `importorskip`, itself or in a helper function of its module."""
    function = inspect.unwrap(getattr(getattr(function, "hypothesis", None), "inner_test", function))
    names = function.__code__.co_names
    helpers = [function.__globals__.get(name) for name in names]
    return "importorskip" in names or any(
        inspect.isfunction(helper) and "importorskip" in helper.__code__.co_names for helper in helpers
    )


def pytest_itemcollected(item):
    """Mark tests of optional packages, tests that run once for each instruction set, and cases of `sampled` tests."""
    fixtures = (
        fixture.func for name in item.fixturenames for fixture in item._fixtureinfo.name2fixturedefs.get(name, ())
    )
    functions = [item.function, *filter(inspect.isfunction, fixtures)]
    if module_needs_packages(item.path) or any(map(function_needs_packages, functions)):
        item.add_marker("optional")
    if {"isa", "core", "every_isa", "every_core"}.intersection(item.fixturenames):
        item.add_marker("each_isa")
    sampled = item.get_closest_marker("sampled")
    if sampled and not item.get_closest_marker("exhaustive"):
        numbers = item.parent.stash.setdefault(NUMBER_OF_CASES, Counter())
        if numbers[item.originalname] % sampled.args[0]:
            item.add_marker("exhaustive")
        numbers[item.originalname] += 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Let a test fail if it is skipped because of a missing package and is not marked `optional`."""
    report = yield
    if report.skipped and "could not import" in str(report.longrepr) and not item.get_closest_marker("optional"):
        report.outcome, report.longrepr = "failed", f"mark this test `optional`: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect the tests without garbage collection, and exclude the objects of all tests from later collections."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Let every second process of pytest-xdist import the test files in reverse order.

    The import of a test file takes a multiple of its time if pytest has not stored its bytecode, as in a new checkout.
    With opposite orders, each of two processes stores the bytecode of half of the files, and loads that of the others.
    """
    report = yield
    if isinstance(collector, pytest.Dir) and os.environ.get("PYTEST_XDIST_WORKER", "gw0")[-1] in "13579":
        report.result.reverse()
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    """Sort the tests by file, because pytest-xdist requires the same order in all processes; serial tests run last."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path)
    yield
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("serial") is not None)


@pytest.fixture
def make_fail(monkeypatch):
    """Return a function that makes the function at a dotted path raise an error.

    It simulates failures that a test cannot cause: a broken disk, a lack of memory, Ctrl-C at an exact moment.
    """

    def replace(path, error):
        def failing(*_, **__):
            raise error

        # All tests with failing calls patch them here; the docstring gives the reason.
        monkeypatch.setattr(path, failing)

    return replace


@pytest.fixture
def set_limit(monkeypatch):
    """Return a function that sets the constant at a dotted path, or by name in a module loaded from a file.

    Limits of the package are too high for a test: gigabytes, millions of rows, minutes. A test of the behaviour beyond
    a limit lowers it.
    """
    return monkeypatch.setattr  # all tests that lower a limit patch it here; the docstring gives the reason


SELECTED = cores.selected()
OTHERS = [] if os.environ.get("NNC_ISA") else [isa for isa in cores.available() if isa != SELECTED]
VARIANTS = [SELECTED, *(pytest.param(isa, marks=pytest.mark.exhaustive) for isa in OTHERS)]


@pytest.fixture(params=VARIANTS)
def isa(request, monkeypatch):
    """Force one instruction set for the networks of the test; the exhaustive tests repeat the test with the others."""
    monkeypatch.setenv("NNC_ISA", request.param)
    return request.param


@pytest.fixture(params=[SELECTED, *OTHERS])
def every_isa(request, monkeypatch):
    """Force one instruction set for the networks of the test; the test runs once for each."""
    monkeypatch.setenv("NNC_ISA", request.param)
    return request.param


@pytest.fixture(scope="session", params=["f64", "f32"])
def precision(request):
    """Return the suffix of the compiled cores for one number type; the test runs once for each."""
    return request.param


@pytest.fixture(scope="session", params=VARIANTS)
def core(request, precision):
    """Return one build of the compiled core; the exhaustive tests repeat the test with other instruction sets."""
    return import_module(f"nnc._core_{request.param}_{precision}")


@pytest.fixture(scope="session", params=[SELECTED, *OTHERS])
def every_core(request, precision):
    """Return one build of the compiled core; the test runs once for each."""
    return import_module(f"nnc._core_{request.param}_{precision}")


# ----------------------------------------------------------------------------------- networks for the exporters

IMAGES = [
    Input(8, 7, 2),
    Conv2D(3, (3, 2), "relu", bias=False),
    Dropout(0.2),
    MaxPool2D(2, stride=(1, 2)),
    Conv2D(4, 3, stride=(2, 1), padding="same"),
    AvgPool2D((2, 1)),
    Flatten(),
    Dense(6),
    3,
]
CLASSES = {"loss": "cross_entropy", "activation": "relu"}
# Layers, arguments of the network, and class labels; None for numeric targets.
EXPORTED = {
    "the tutorial's": ([3, 4, 1], {}, None),
    "one layer": ([3, 2], {"loss": "mse", "bias": False}, None),
    "scaled numbers": ([3, 5, 2], {"loss": "mse", "scale_X": "standardize", "scale_y": "minmax"}, None),
    "counts": ([3, 5, 1], {"loss": "poisson", "scale_X": "minmax"}, None),
    "numbered classes": ([3, 5, 4], {**CLASSES, "scale_X": "standardize"}, [0, 1, 2, 3]),
    "named classes": (
        [3, Dense(5, bias=False), 3],
        {**CLASSES, "scale_X": "standardize"},
        ["ja", 'ne"in??/', "weiß\n"],
    ),
    "yes or no": ([3, 5, 1], {"loss": "bce", "scale_X": "standardize"}, [False, True]),
    "large classes": ([3, 5, 1], {"loss": "bce", "scale_X": "standardize"}, np.array([3, 2**63 + 1], np.uint64)),
    "classes that are floats": ([3, 5, 1], {"loss": "bce", "scale_X": "standardize"}, [-0.5, 1e300]),
    "margins": ([3, 5, 1], {"loss": "hinge", "scale_X": "standardize"}, ["no", "yes"]),
    "margins of three": ([3, 5, 3], {"loss": "hinge", "scale_X": "standardize"}, ["a", "b", "c"]),
    "several answers": ([3, 5, 2], {"loss": "bce"}, None),
    "images": (IMAGES, {"loss": "cross_entropy", "activation": "tanh", "scale_X": "pixels"}, ["one", "two", "three"]),
    "images by columns": (
        [Input(5, 6), Conv2D(3, (2, 4), stride=(2, 3), padding="same"), GlobalAvgPool2D(), 2],
        {"loss": "mse", "scale_X": "standardize"},
        None,
    ),
    "normalized images": (
        [Input(5, 6, 2), Conv2D(3, 3, "identity", bias=False), BatchNorm("relu"), MaxPool2D(2), BatchNorm(), 3],
        {"loss": "mse", "scale_X": "standardize"},
        None,
    ),
    "sequences": (
        [
            Input(steps=12, features=2),
            Conv1D(3, 3, "identity", padding="causal", dilation=2),
            BatchNorm("relu"),
            MaxPool1D(2),
            Conv1D(4, 2, "tanh", stride=2, padding=1, bias=False),
            AvgPool1D(2, 1),
            GlobalMaxPool1D(),
            2,
        ],
        {"loss": "mse", "scale_X": "standardize"},
        None,
    ),
    "means of sequences": (
        [Input(steps=7, features=1), Conv1D(5, 4, padding="same"), GlobalAvgPool1D(), 3],
        {**CLASSES, "scale_X": "standardize"},
        [0, 1, 2],
    ),
    "normalized rows": ([3, Dense(5, "identity"), BatchNorm("tanh", eps=0.1), 2], {"loss": "mse"}, None),
    "scaled columns": ([3, Scale(init=0.5), Dense(5, "tanh"), Scale(init=-2), 2], {"loss": "mse"}, None),
    "scaled columns of scaled numbers": ([3, Scale(), 5, 2], {"loss": "mse", "scale_X": "standardize"}, None),
    "scaled columns of images": (
        [Input(4, 3, 2), Conv2D(3, 2), Flatten(), Scale(init=0.5), 3],
        {"loss": "mse", "scale_X": "standardize"},
        None,
    ),
    **{
        name: ([3, Dense(6, name), Dense(4, name), 2], {"loss": "mse"}, None)
        if name in activations.HIDDEN
        else ([3, 4], {"loss": "mse", "output": name}, None)
        for name in activations.NAMES
    },
}
EXPORTED_CLASSES = {type(layer) for layers, _, _ in EXPORTED.values() for layer in layers}
EXPORTED |= {
    f"example of {type(kind).__name__}": (layers_with(kind, input_shape), {"loss": "mse"}, None)
    for kind, input_shape in EXAMPLES
    if type(kind) not in EXPORTED_CLASSES and not kind.recurrent  # tests/test_recurrent_exports.py tests recurrent ones
}


@pytest.fixture(scope="session")
def all_exported():
    """Return layers and arguments of all networks in EXPORTED."""
    return [(layers, arguments) for layers, arguments, _ in EXPORTED.values()]


def _train_exported(name):
    """Return the network `name` of EXPORTED, trained in both dtypes, and its input rows."""
    layers, arguments, labels = EXPORTED[name]
    networks = {}
    for dtype in ("float64", "float32"):
        net = NeuralNetwork(layers, seed=1, dtype=dtype, **arguments)
        rng = np.random.default_rng(0)
        X = rng.normal(2000, 5, (30, net.sizes[0])) if "scale_X" in arguments else rng.normal(0, 1, (30, net.sizes[0]))
        y = rng.integers(0, 2, (30, net.sizes[-1]))
        X = X.astype("float32").astype(dtype)
        net.fit(X, y if labels is None else np.array(labels)[np.arange(30) % len(labels)], epochs=3, lr=1e-3)
        networks[dtype] = net
    return networks, X.reshape(-1, *net.model.input_shape)


@pytest.fixture(scope="session")
def all_trained():
    """Return a dict from each name in EXPORTED to its trained networks and rows.

    The trained networks are a dict from "float64" and "float32" to a network. Rows of scaled networks are far from 0.
    """
    return {name: _train_exported(name) for name in EXPORTED}


@pytest.fixture(scope="session", params=EXPORTED)
def exported(request):
    """Return the trained networks and rows of one entry of EXPORTED; the test runs once for each."""
    return _train_exported(request.param)


@pytest.fixture(scope="session")
def twin():
    """Return a function that computes the outputs of a network in PyTorch, for comparisons."""
    torch = pytest.importorskip("torch")
    from torch_functions import torch_activation

    def compute_in_torch(net, X, parameters=None):
        """Return the outputs of `net` for X in PyTorch, and its parameters (W and b of each layer) as tensors."""
        F, parts, A = torch.nn.functional, [], X
        convolution = len(net.model.input_shape) == 3
        A = A.permute(0, 3, 1, 2) if convolution else A
        for layer in net.layers:
            kind = layer.kind
            if kind.type == "flatten":
                A = A.permute(0, 2, 3, 1).reshape(len(A), -1)
            elif kind.type == "max_pool2d":
                A = F.max_pool2d(A, kind.size, kind.stride)
            elif kind.type == "avg_pool2d":
                A = F.avg_pool2d(A, kind.size, kind.stride)
            else:
                if parameters is None:
                    W, b = (torch.tensor(np.array(part), requires_grad=True) for part in (layer.W, layer.b))
                else:
                    W, b = parameters[len(parts) : len(parts) + 2]
                parts += [W, b]
                if kind.type == "conv2d":
                    kernel = W.reshape(*kind.size, A.shape[1], kind.filters).permute(3, 2, 0, 1)
                    A = F.conv2d(A, kernel, b, stride=kind.stride, padding="same" if kind.padding == "same" else 0)
                else:
                    A = A @ W + b
                A = torch_activation(layer.activation)(A)
        return A, parts

    return compute_in_torch
