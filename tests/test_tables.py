"""The recipe of `python -m benchmarks.tables` on made tables: it predicts what is in the data, whatever its scale."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parent.parent / "benchmarks" / "tables.py"

pytestmark = [
    pytest.mark.skipif(not PATH.exists(), reason="needs the checkout"),
    pytest.mark.filterwarnings("ignore::nnc.TrainingWarning"),
]


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables_of_the_benchmark", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def made(tables, classes):
    rng = np.random.default_rng(0)
    X = rng.lognormal(size=(900, 4)) * [1, 1000, 1e-3, 1] + [0, 5, 0, 0]
    X[:, 3] = 7  # a constant column
    z = np.log(X[:, 0]) + np.sin(2 * np.log(X[:, 2] * 1e3))
    y = np.digitize(z, [-1, 1]).astype(np.int64) if classes else 100 + 30 * z
    return tables.Table(X[:600], y[:600], X[600:], y[600:])


@pytest.mark.parametrize(("classes", "most"), [(True, 8), (False, 12)])
def test_the_recipe(tables, classes, most):
    table = made(tables, classes)
    guess = np.bincount(table.y).argmax() if classes else table.y.mean()
    assert table.error(np.full(300, guess)) > 4 * most
    predicted = tables.by_network(table, seed=0)
    assert table.error(predicted) < most
    assert np.array_equal(predicted, tables.by_network(table, seed=0))


def test_the_scaling(tables):
    X = np.array([[0.0, 1.0, 2.0, 3.0, 1000.0], [5.0] * 5]).T
    scaled = tables.RobustClip(X)(X)
    assert scaled[2].tolist() == [0, 0]
    assert scaled[3, 0] == pytest.approx(0.5 / np.sqrt(1 + (0.5 / 3) ** 2), rel=1e-6)
    assert 2.9 < scaled[4, 0] < 3
    assert not scaled[:, 1].any()
