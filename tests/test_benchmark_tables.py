"""The benchmark of tables: losses of classes, ratios between models, and files of results of earlier versions."""

import sys
from importlib import import_module
from math import log
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
if not (ROOT / "benchmarks" / "tables.py").exists():
    pytest.skip("needs the checkout", allow_module_level=True)
pd = pytest.importorskip("pandas")
pytest.importorskip("sklearn")
sys.path.append(str(ROOT))
tables = import_module("benchmarks.tables")
sys.path.remove(str(ROOT))  # other tests must not import packages from the checkout


def make_row(model, split=0, name="iris", **values):
    return {"set": name, "split": split, "way": model, "threads": 1, "cpu": 1.0, "wall": 1.0, **values}


def test_class_losses_are_percentages():
    y = np.array(["a"] * 9 + ["b"])
    P = np.array([[0.9, 0.1]] * 9 + [[0.5, 0.5]])
    losses = tables.class_losses(P, ["a", "b"], y)
    assert losses["log_loss"] == pytest.approx(-10 * (9 * log(0.9) + log(0.5)))
    assert losses["auc_loss"] == pytest.approx(0)
    P[0] = 0.2, 0.8  # this row of class "a" precedes the row of class "b"
    assert tables.class_losses(P, ["a", "b"], y)["auc_loss"] == pytest.approx(100 / 9)


def test_frequent_classes_have_no_auc_and_impossible_classes_a_finite_loss():
    losses = tables.class_losses(np.array([[1.0, 0.0], [1.0, 0.0]]), ["a", "b"], np.array(["a", "b"]))
    assert losses == {"log_loss": pytest.approx(-50 * log(tables.MIN_PROBABILITY))}


def test_ratios_use_common_splits():
    rows = [make_row("nnc default", split, error=error) for split, error in enumerate([10.0, 30.0])]
    results = tables.Results([*rows, make_row("TabM-D", error=20.0)])
    assert results.set_ratio("iris", "nnc default", "TabM-D", "error") == pytest.approx(0.5)
    assert results.ratio(["iris"], "TabM-D", "nnc default", "error") == pytest.approx(2)


def test_best_peer_has_all_splits_and_is_another_model():
    errors = {"nnc default": 6.0, "linear": 5.0, "CatBoost-TD": 4.0}
    rows = [make_row(model, split, error=error) for model, error in errors.items() for split in (0, 1)]
    results = tables.Results([*rows, make_row("TabM-D", error=1.0)])
    ratios = [results.set_ratio("iris", m, tables.BEST_PEER, "error") for m in ("nnc default", "CatBoost-TD")]
    assert ratios == pytest.approx([1.5, 0.8])


def test_file_of_earlier_version_is_reported():
    rows = [make_row("nnc default", error=6.0), make_row("RealMLP-TD-S", error=8.0)]
    report = tables.Results(rows).table()
    assert "| ratio to RealMLP-TD-S, further sets | 0.750 | 1.000 |" in report
    assert "| CPU seconds |" in report
    assert "log-loss" not in report


def test_imputation_replaces_missing_values_of_each_kind():
    X = pd.DataFrame(
        {
            "x": [1.0, np.nan, 3.0],
            "text": pd.Series(["a", None, "b"], dtype=object),
            "category": pd.Categorical(["a", None, "b"]),
            "date": pd.to_datetime(["1970-01-01", None, "1970-01-03"]),
        }
    )
    table = tables.impute(tables.Table(X, np.zeros(3), X, np.zeros(3), "numbers"))
    for frame in (table.X, table.X_test):
        assert frame.loc[1].to_dict() == {"x": 2, "text": "missing", "category": "missing", "date": 86400}
