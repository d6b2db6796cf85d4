"""What the tests share: the compiled variants they run in, and how hypothesis searches.

Networks of every kind to be written in the formats of others stand here, too.

With NNC_ISA set, everything runs in that variant. Without it, tests of the kernels and of the gradients go
through all variants that this processor runs, all others use the one that networks choose by themselves.
"""

import os
import signal
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from nnc import NeuralNetwork
from nnc._model import cores
from nnc._registry import activations
from nnc.layers import AvgPool2D, BatchNorm, Conv2D, Dense, Dropout, Flatten, GlobalAvgPool2D, Input, MaxPool2D, Scale

# Shells start what runs in the background with Ctrl-C ignored, and so would do all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as after nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Derandomized, so that a run of the tests is the same every time; --hypothesis-profile=search looks further.
settings.register_profile("nnc", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("search", deadline=None, max_examples=5000)
settings.load_profile("nnc")


def pytest_addoption(parser):
    parser.addoption("--but-passed", metavar="FILE", help="leave out what the output of `pytest -rp` says has passed")


def pytest_collection_modifyitems(config, items):
    if path := config.getoption("--but-passed"):
        passed = {line.removeprefix("PASSED ") for line in Path(path).read_text(encoding="utf-8").splitlines()}
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in passed])
        items[:] = [item for item in items if item.nodeid not in passed]


@pytest.fixture
def make_fail(monkeypatch):
    """Return a function that makes the function at a dotted path raise an error.

    It stands in for failures that a test cannot cause itself: a broken disk, a lack of memory, Ctrl-C at one moment.
    """

    def replace(path, error):
        def failing(*_, **__):
            raise error

        monkeypatch.setattr(path, failing)  # the one place where calls are made to fail, for the reasons above

    return replace


@pytest.fixture
def set_limit(monkeypatch):
    """Return a function that sets the constant at a dotted path, or by name in a module loaded from a file.

    Limits of the package lie far above what a test can afford: files of a gigabyte, millions of rows, minutes. A test
    of what happens beyond one of them lowers it.
    """
    return monkeypatch.setattr  # the one place where limits are lowered, for the reasons above


VARIANTS = [cores.selected()] if os.environ.get("NNC_ISA") else cores.available()


@pytest.fixture(params=VARIANTS)
def isa(request, monkeypatch):
    """Each instruction set in turn, forced for the networks that the test makes."""
    monkeypatch.setenv("NNC_ISA", request.param)
    return request.param


@pytest.fixture(scope="session", params=[f"{isa}_{kind}" for isa in VARIANTS for kind in ("f64", "f32")])
def core(request):
    """Each compiled core in turn."""
    return import_module(f"nnc._core_{request.param}")


# ----------------------------------------------------------------------------------- networks that leave for elsewhere

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
# Layers, arguments of the network, and labels to learn; where there are none, numbers.
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


@pytest.fixture(scope="session")
def all_exported():
    """Layers and arguments of all of them."""
    return [(layers, arguments) for layers, arguments, _ in EXPORTED.values()]


def _trained(name):
    layers, arguments, names = EXPORTED[name]
    made = {}
    for dtype in ("float64", "float32"):
        net = NeuralNetwork(layers, seed=1, dtype=dtype, **arguments)
        rng = np.random.default_rng(0)
        X = rng.normal(2000, 5, (30, net.sizes[0])) if "scale_X" in arguments else rng.normal(0, 1, (30, net.sizes[0]))
        y = rng.integers(0, 2, (30, net.sizes[-1]))
        X = X.astype("float32").astype(dtype)
        net.fit(X, y if names is None else np.array(names)[np.arange(30) % len(names)], epochs=3, lr=1e-3)
        made[dtype] = net
    return made, X.reshape(-1, *net.model.input_shape)


@pytest.fixture(scope="session")
def all_trained():
    """All of them by their names: in float64 and float32, by the dtype's name, and rows, far from 0 where they are
    scaled."""
    return {name: _trained(name) for name in EXPORTED}


@pytest.fixture(scope="session", params=EXPORTED)
def exported(request):
    """Each of them in turn."""
    return _trained(request.param)


@pytest.fixture(scope="session")
def twin():
    """A network in PyTorch, for what is held against that."""
    torch = pytest.importorskip("torch")
    from torch_functions import torch_activation

    def of(net, X, parameters=None):
        """The network in PyTorch, perhaps with other parameters: its outputs for X, and these layer by layer."""
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

    return of
