"""Tests of `nnc train --forecast N` and `nnc predict` with models of time series."""

import json
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc._cli.main import main

pl = pytest.importorskip("polars")
pytest.importorskip("rich")
pytest.importorskip("nnc.tabular", exc_type=ImportError)

TRAIN = ["train", "sales.csv", "--forecast", "3", "--time", "month", "--target", "sales", "-o", "m.json"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_sales(n=48, future=3):
    """Write sales of two shops, which rise during promotions, and the promotions of the next months."""
    rng = np.random.default_rng(0)
    frames = []
    for shop, level in (("north", 100), ("south", 50)):
        months = pl.date_range(pl.date(2020, 1, 1), pl.date(2030, 1, 1), "1mo", eager=True)[: n + future]
        promotion = rng.random(n + future) < 0.3
        sales = level + 20 * promotion + rng.normal(size=n + future)
        columns = {"shop": [shop] * (n + future), "month": months, "sales": sales, "promotion": promotion}
        frames.append(pl.DataFrame(columns).with_row_index("row"))
    table = pl.concat(frames)
    table.filter(pl.col("row") < n).drop("row").write_csv("sales.csv")
    table.filter(pl.col("row") >= n).drop("row", "sales").write_csv("future.csv")


def test_forecasts_equal_those_in_python(capsys):
    write_sales()
    assert main([*TRAIN, "--id", "shop", "--known", "promotion", "--seed", "3", "--report", "r.html"]) == 0
    assert "monthly" in capsys.readouterr().out
    assert "sales.csv" in Path("r.html").read_text(encoding="utf-8")
    assert main(["predict", "m.json", "future.csv", "--level", "0.8", "-o", "out.csv", "-q"]) == 0
    result, future = pl.read_csv("out.csv"), pl.read_csv("future.csv")
    expected = nnc.load("m.json").predict(future, level=0.8)
    assert result.columns == ["shop", "month", "forecast", "lower_80", "upper_80"]
    assert result["forecast"].to_list() == expected["forecast"].to_list()
    assert main(["inspect", "m.json"]) == 0
    assert "monthly" in capsys.readouterr().out


def test_predict_without_known_columns_needs_no_table(capsys):
    write_sales()
    assert main([*TRAIN, "--id", "shop", "-q"]) == 0
    assert main(["predict", "m.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "shop,month,forecast"
    assert len(lines) == 7


def test_predict_writes_models_of_arrays(capsys):
    from nnc.forecast import Forecaster

    Forecaster(2, 1, preset="fast").fit([np.arange(20.0), np.arange(30.0)]).save("m.json")
    assert main(["predict", "m.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "series,step,forecast"
    assert [line.rsplit(",", 1)[0] for line in lines[1:]] == ["0,1", "0,2", "1,1", "1,2"]


def test_predict_without_data_names_the_future_values_that_the_model_needs(capsys):
    write_sales()
    assert main([*TRAIN, "--id", "shop", "--known", "promotion", "-q"]) == 0
    expected = (
        "DATA must be a frame with the columns 'shop', 'month', 'promotion' for the next 3 times, from 2024-01-01"
    )
    Path("empty.csv").touch()
    assert main(["predict", "m.json", "empty.csv"]) == 1
    assert f"nnc: m.json needs future values: {expected}" in capsys.readouterr().err


def test_inspect_describes_forecast_models(capsys):
    from nnc.forecast import Forecaster

    t, rng = np.arange(80), np.random.default_rng(0)
    series = [10 * np.sin(t * i / 7) + 20 + 0.1 * rng.normal(size=80) for i in range(3, 9)]
    model = Forecaster(3, n_jobs=1).fit(series)
    model.save("m.json")
    assert main(["inspect", "m.json", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["horizon"], facts["series"]) == ("Forecaster", 3, [0, 1, 2, 3, 4, 5])
    assert (facts["columns"], facts["needs_future"], facts["weights"]) == (None, False, model.weights_)
    assert [network["layers"] for network in facts["networks"]] == [list(network.sizes) for network in model.networks_]
    write_sales()
    assert main([*TRAIN, "--id", "shop", "-q", "-f"]) == 0
    capsys.readouterr()
    assert main(["inspect", "m.json", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["frequency"], facts["series"]) == ("monthly", ["north", "south"])
    roles = {"id": ["shop"], "time": ["month"], "target": ["sales"], "known": [], "past": [], "static": []}
    assert facts["columns"] == roles


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([*TRAIN, "--task", "regression"], 2, "--task must be left out with --forecast"),
        (["train", "sales.csv", "--forecast", "3", "--target", "sales"], 2, "--forecast requires DATA, --target"),
        (
            ["train", "sales.csv", "--target", "sales", "--season", "4"],
            2,
            "--season must be left out without --forecast",
        ),
        ([*TRAIN, "--id", "shops"], 1, "--id must be a column of sales.csv"),
        (TRAIN, 1, "twice"),
        (["train", "text.csv", *TRAIN[2:]], 1, "line 3, column 2 (sales) of text.csv: expected numbers, found 'much'"),
        (["train", "codes.csv", *TRAIN[2:]], 1, "line 3, column 1 (month) of codes.csv: expected a month number"),
        (["predict", "m.json", "--classes"], 2, "--id and --classes must not be used with m.json"),
        (["predict", "m.json", "sales.csv"], 2, "DATA must not be used with m.json, which needs no future values"),
        (["export", "m.json", "--c"], 1, "got the forecast model m.json, which cannot be exported; use nnc predict"),
        (["evaluate", "m.json", "sales.csv"], 1, "which is a forecast model; use nnc predict or nnc inspect"),
    ],
)
def test_invalid_arguments_are_rejected(arguments, status, message, capsys):
    from nnc.forecast import Forecaster

    write_sales()
    codes = "".join(f"{code},1\n" for code in (202011, 202013, 202101, 202102))
    Path("codes.csv").write_text(f"month,sales\n{codes}", encoding="utf-8")
    Path("text.csv").write_text("month,sales\n2020-01-01,1\n2020-02-01,much\n", encoding="utf-8")
    if arguments[1] == "m.json":
        Forecaster(2, 1, preset="fast").fit(np.arange(20.0)).save("m.json")
    assert main(arguments) == status
    assert message in capsys.readouterr().err
