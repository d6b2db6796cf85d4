"""Tests of the errors for combinations of options, optimizers, losses, layers and formats that are not supported.

The file refusals.txt lists calls with their complete messages, so that every change of a text is visible.
"""

import re
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
from nnc.layers import GRU, BatchNorm, Bidirectional, Conv1D, Conv2D, Dense, Dropout, Flatten, Input

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
HEADS = Heads([Head(1, "mse"), Head(1, "mae")])
QUANTILES = Quantile([0.1, 0.9])
LEAST_SQUARES = LeastSquares(lambda P, Y: (P - Y, np.ones((*P.shape, P.shape[1]))))
EXECUTOR = ThreadPoolExecutor(1)


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
    with pytest.raises(Exception) as caught:  # noqa: PT011
        eval(call)
    assert f"{caught.type.__name__}: {caught.value}" == expected
