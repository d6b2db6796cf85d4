"""Tests of table models exported to ONNX and C: the exports predict from codes of raw columns like the models."""

import json

import numpy as np
import pytest
from headers import run_header

pytest.importorskip("sklearn", "1.9")
pd = pytest.importorskip("pandas")

from nnc._tables.categories import Category  # noqa: E402
from nnc._tables.encoding import Encoding  # noqa: E402
from nnc._tables.encodings import ENCODINGS, Number  # noqa: E402
from nnc._tables.features import EXTENDED, PLAIN  # noqa: E402
from nnc.tabular import TableClassifier, TableRegressor, read_table  # noqa: E402
from nnc.tabular.export import build_table_program  # noqa: E402

UBSAN = ["-fsanitize=undefined,float-cast-overflow", "-fno-sanitize-recover=all"]


def build_table(n=300, seed=0):
    """Return a data frame that needs every type of encoding, with missing values, and a numeric target."""
    rng = np.random.default_rng(seed)
    towns = rng.choice(["Ulm", "Jena */ /* ??/", 'Kiel "\\', "Bonn"], n).astype(object)
    levels = np.array([f"level {k}" for k in rng.integers(0, 40, n)], object)
    two, two_missing = (rng.choice(["yes", "no"], n).astype(object) for _ in range(2))
    dates = pd.Timestamp("1899-11-30") + pd.to_timedelta(rng.integers(0, 250 * 365 * 86400, n), unit="s")
    X = pd.DataFrame({
        "large": rng.standard_normal(n) * 1e9 + 1e12, "number": rng.exponential(size=n), "few": towns, "many": levels,
        "two": two, "two, missing": two_missing, "wet": rng.random(n) < 0.5, "of 3 and 7": rng.choice([3.0, 7.0], n),
        "when": dates.where(rng.random(n) < 0.9), "day": dates.normalize(),
        "size": pd.Categorical(rng.choice(["S", "M", "XL"], n), ["XS", "S", "M", "L", "XL"], ordered=True),
        "grade": pd.Categorical([f"g{k}" for k in rng.integers(0, 40, n)], [f"g{k}" for k in range(45)], ordered=True),
        "price": [f"${x:,.2f}" for x in rng.lognormal(7, 2, n)], "share": [f"{x:.1f}%" for x in rng.normal(0, 9, n)],
        "clock": [f"{t // 60:02}:{t % 60:02}" for t in rng.integers(0, 1440, n)],
        "local": pd.Series(dates).dt.tz_localize("UTC").dt.tz_convert("Asia/Kolkata"),
        "same": 1, "there": np.where(rng.random(n) < 0.5, 5.0, np.nan), "written": rng.integers(0, 99, n).astype(str),
        "code": rng.integers(0, 12, n),
        "story": [" ".join(f"Wort{i * k % 41}é" for k in range(1, 8)) + f"; {i}" for i in range(n)],
    })  # fmt: skip
    for name in ("number", "few", "two, missing"):
        X.loc[rng.random(n) < 0.1, name] = None
    target = np.sin(X["number"].fillna(1)) * 5 + (towns == "Ulm") + X["wet"] * 2 + X["code"] % 2 * 3
    return X, target.to_numpy(float)


def add_unseen_values(X):
    """Return the rows with some cells replaced by missing values and by values that no training row has."""
    X = X.astype(object)
    X.loc[:9, ["few", "many", "two"]] = "never seen"
    X.loc[10:19] = None
    X.loc[20:23, "size"] = ["XS", "L", "XXL", None]
    X.loc[20:24, "grade"] = ["g41", "g44", "g99", "g0", None]
    X.loc[0, "story"] = "WORT1\u00e9,wort1\u00e9 wort99é.Wort2é"
    X.loc[20:23, "code"] = [12, 0.5, 11, None]
    X.loc[20:23, "share"] = ["3 %", "-1.25%", "n/a", "1e2%"]
    X.loc[20:25, "number"] = [-1e300, 1e300, 1e-300, 0.0, -3.0, 17.0]
    X.loc[26:29, "of 3 and 7"] = [5.0, -1e308, 1e308, 6.5]
    X.loc[30:33, "when"] = [pd.Timestamp(text) for text in ("1600-02-29 23:59:59", "2000-12-31", "2100-03-01", "1970")]
    return X


def train_models():
    """Yield pairs of the name in MODELS and a trained table model, one for each type of prediction."""
    X, target = build_table()
    arguments = {"members": 3, "random_state": 0}
    yield (
        "text",
        TableClassifier("fast", **arguments).fit(X, np.where(target > 3, "high", np.where(target > 1, "mid", "low"))),
    )
    yield "numbers as labels", TableClassifier("fast", **arguments).fit(X, target > 3)
    mixed, single = (TableRegressor("fast", members=n, random_state=0).fit(X, 1e6 * target) for n in (3, 1))
    # A member that is trained alone has no extra features, so the exports combine members with and without them.
    mixed.model_.members += single.model_.members
    yield "numbers", mixed
    yield "targets", TableRegressor("fast", **arguments).fit(X, np.stack([target, target**2], axis=1))
    yield "counts", TableRegressor("fast", loss="poisson", members=1, random_state=0).fit(X, np.round(np.abs(target)))
    quantiles = TableRegressor("fast", quantiles=[0.1, 0.5, 0.9], **arguments)
    yield "quantiles", quantiles.fit(X, np.stack([target, -target], axis=1))


MODELS = ("text", "numbers as labels", "numbers", "targets", "counts", "quantiles")


@pytest.fixture(scope="module")
def trained():
    return dict(train_models())


@pytest.fixture(scope="module")
def rows():
    return add_unseen_values(build_table(120, seed=1)[0])


def predict_outputs(model, X):
    """Return the network outputs that exports compute: probabilities, numbers or quantiles."""
    return model._model().predict(read_table(X))


def is_close(actual, expected):
    """Return whether arrays of equal shape differ by at most 1e-6 of the largest expected magnitude."""
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() <= 1e-6 * np.abs(expected).max()


def test_each_encoding_implements_formulas():
    for encoding in ENCODINGS.values():
        assert encoding.formulas is not Encoding.formulas


def test_formulas_have_widths_of_encodings(trained):
    for model in trained.values():
        for column in model._model().schema.columns:
            formulas = [raw.formulas for raw in column.encoding.raw_columns("name", "meaning")]
            assert len(formulas) == column.encoding.n_codes
            assert sum(part.width(text) for part in formulas for text in part.plain) == column.encoding.width
            assert sum(part.width(text) for part in formulas for text in part.extra) == column.encoding.extra_width
        statistics = {type(c.encoding) for c in model._model().schema.columns if getattr(c.encoding, "statistics", ())}
        assert statistics == {Category, Number}
    assert {type(column.encoding) for column in model._model().schema.columns} == set(ENCODINGS.values())
    assert {member.features for model in trained.values() for member in model._model().members} == {PLAIN, EXTENDED}


def test_codes_are_indices_of_levels(trained, rows):
    codes = trained["numbers"].codes(rows)
    column = build_table_program(trained["numbers"]._model()).columns[2]
    assert codes.shape == (120, 23)
    assert codes[0, 2] == -1
    assert codes[0, 20] == 4
    assert np.isnan(codes[10]).sum() == 22
    assert [column.levels[int(code)] for code in codes[50:60, 2] if code >= 0] == rows["few"][50:60].dropna().tolist()


@pytest.mark.parametrize("prediction", MODELS)
def test_onnx_export_predicts_like_model(prediction, trained, rows, tmp_path):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, path = trained[prediction], tmp_path / "model.onnx"
    model.to_onnx(path)
    loaded = onnx.load(path)
    onnx.checker.check_model(loaded, full_check=True)
    metadata = {prop.key: json.loads(prop.value) for prop in loaded.metadata_props}
    assert [column["name"] for column in metadata["columns"]] == [*rows, "story", "story"]
    assert metadata["columns"][2]["levels"] == list(model._model().schema.columns[2].encoding.levels)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {"X": model.codes(rows)}), strict=True))
    if isinstance(model, TableClassifier):
        assert is_close(outputs["probabilities"], model.predict_proba(rows))
        assert outputs["label"].tolist() == model.predict(rows).tolist()
    else:
        assert is_close(outputs["output"], model.predict(rows).reshape(len(rows), -1))
    assert ("quantiles" in outputs) == (prediction == "quantiles")
    if "quantiles" in outputs:
        assert is_close(outputs["quantiles"], model.predict_quantiles(rows))


@pytest.mark.parametrize("prediction", MODELS)
def test_c_export_predicts_like_model(prediction, trained, rows, tmp_path):
    model = trained[prediction]
    model.to_c(tmp_path / "model.h")
    inputs, expected = model.codes(rows), predict_outputs(model, rows).reshape(len(rows), -1)
    assert is_close(run_header(tmp_path, inputs, *(UBSAN if prediction == "numbers" else ())), expected)
    if prediction == "text":
        assert is_close(run_header(tmp_path, inputs, standard="c++11"), expected)


def test_c_header_names_inputs_and_level_tables(trained, tmp_path):
    trained["text"].to_c(tmp_path / "model.h", name="town")
    text = (tmp_path / "model.h").read_text()
    assert '       in[2]  "few": the index of the text in town_levels2\n' in text
    assert "static const char *const town_levels2[4]" in text
    assert '       in[22]  "story": the sum of 2 ** i for the index i of each word in town_levels22\n' in text
    assert "are town_count_words(text) and, for each table of words,\n   town_find_words(text, table, " in text
    assert "#define TOWN_N_IN 23\n#define TOWN_N_OUT 3\n" in text
    with pytest.raises(ValueError, match=r"^name must be a C identifier such as 'digits', got 'a b'$"):
        trained["text"].to_c(tmp_path / "model.h", name="a b")
