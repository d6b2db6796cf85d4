"""Tests of Schema: encoding of table columns as numbers, checks of later tables, and JSON documents of a schema."""

import datetime as dt
import json
import math
from statistics import NormalDist

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

from hypothesis import given
from hypothesis import strategies as st

from nnc._tables.features import EXTENDED, PLAIN
from nnc.tabular import Schema, read_table
from nnc.tabular.training_rows import learn_schema

rng = np.random.default_rng(0)
N = 400
DAYS = [dt.datetime(2020, 1, 1) + dt.timedelta(hours=7 * i) for i in range(N)]
COLUMNS = {
    "number": rng.normal(5, 3, N).tolist(),
    "holes": [None if i % 4 == 0 else float(i % 17) for i in range(N)],
    "binary": rng.choice([3, 7], N).tolist(),
    "flag": rng.choice([True, False], N).tolist(),
    "city": rng.choice(["Rome", "Oslo", "Bonn"], N, p=[0.5, 0.3, 0.2]).tolist(),
    "maybe": [None if i % 5 == 0 else "xyz"[i % 3] for i in range(N)],
    "answer": rng.choice(["yes", "no"], N, p=[0.4, 0.6]).tolist(),
    "many": [f"k{int(x)}" for x in rng.exponential(15, N)],
    "digits": [f"{x:.3f}" for x in rng.normal(0, 1, N)],
    "moment": DAYS,
    "day": [str(day.date()) for day in DAYS],
    "id": [f"n{i}" for i in range(N)],
    "constant": [4] * N,
}


def build_table(columns, rows=slice(None)):
    """Return a table with some rows of these columns; keys are the column names."""
    return read_table(list(zip(*(list(values)[rows] for values in columns.values()), strict=True)), names=list(columns))


TRAINING = build_table(COLUMNS)
SCHEMA = Schema.learn(TRAINING)


def learn_column(values, **options):
    """Return the schema that is learned from one column, and the encoded column (None if it is left out)."""
    # Schema.learn rejects tables without information, so a second column has different values in all rows.
    two_columns = build_table({"a": values, "other": range(len(values))})
    schema = Schema.learn(two_columns, **options)
    slices = schema.groups()[0]
    return schema, schema.encode(two_columns)[:, slices[0]] if slices else None


def encode_column(schema, values):
    """Return the encoding of later values of the column, with a schema from `learn_column`."""
    return schema.encode(build_table({"a": values, "other": range(len(values))}))[:, schema.groups()[0][0]]


# ------------------------------------------------------------------------------------ encodings of all types of columns


def test_numbers_are_scaled_by_median_and_quartiles():
    values = np.sort(rng.normal(5, 3, 101))
    _, matrix = learn_column(values)
    z = (values - values[50]) / (values[75] - values[25])
    assert np.allclose(matrix[:, 0], z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-6)
    # Equal quartiles give no scale, so half the range is used.
    _, matrix = learn_column([0.0] * 90 + [4.0] * 5 + [10.0] * 5)
    assert np.allclose(matrix[[0, 90, 95], 0], [0, 0.8 / math.sqrt(1 + 0.64 / 9), 2 / math.sqrt(1 + 4 / 9)])


@pytest.mark.parametrize("scale", [1e308, 1e-307, 5e-324, 1.0])
def test_encoding_of_extreme_numbers_is_finite_and_bounded(scale):
    values = np.array([-1.0, 0.0, 0.0, 0.5, 1.0] * 5) * scale
    schema = Schema.learn(build_table({"a": values, "other": range(25)}), scores=True)
    for features in (PLAIN, EXTENDED):
        matrix = schema.encode(build_table({"a": [*values, 1.7e308, -1.7e308, 0.1], "other": range(28)}), features)
        assert np.isfinite(matrix).all()
        assert abs(matrix).max() <= 3.3


def test_missing_numbers_become_median_with_indicator():
    schema, matrix = learn_column([1.0, 2.0, None, 4.0, 5.0, 3.0])
    assert matrix.shape[1] == 2
    assert matrix[2].tolist() == [*matrix[5].tolist()[:1], 1.0] == [0.0, 1.0]
    assert not matrix[[0, 1, 3, 4, 5], 1].any()
    schema, _ = learn_column([1.0, 2.0, 4.0, 5.0, 3.0])  # columns without missing values have no indicator
    assert encode_column(schema, [None, 3.0]).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(
    ("values", "later", "expected"),
    [
        ([3, 7, 7, 3], [3, 7, 5, 0, 9, None], [-1, 1, 0, -1, 1, 0]),
        ([True, False, True], [True, False, 1, 0, None], [1, -1, 1, -1, 0]),
        (["no", "yes", "no"], ["no", "yes", "perhaps", None], [-1, 1, 0, 0]),
        (["0", "1", "0"], ["0", "1", None], [-1, 1, 0]),
    ],
)
def test_two_values_become_one_feature(values, later, expected):
    schema, _ = learn_column(values)
    assert encode_column(schema, later)[:, 0].tolist() == expected
    assert schema.describe()[0].encoding.startswith("-1 for ")
    schema, _ = learn_column([*values, None])
    assert encode_column(schema, later).T.tolist() == [expected, [float(value is None) for value in later]]
    assert schema.describe()[0].encoding.endswith(" % missing")


def test_text_is_one_hot_encoded():
    schema, matrix = learn_column(["b", "a", "c", "b", "c", "d"])
    assert schema.columns[0].encoding.levels == ("b", "c", "a", "d")  # levels are sorted by frequency, then by text
    assert np.array_equal(matrix, np.eye(4)[[0, 2, 1, 0, 1, 3]])
    later = build_table({"a": ["z", None, "d", "z"], "other": range(4)})
    assert np.array_equal(schema.encode(later)[:, :4], [[0] * 4, [0] * 4, [0, 0, 0, 1], [0] * 4])
    assert schema.unseen(later) == {"a": {"z": 2}}
    schema, matrix = learn_column(["b", None, "c", "a", ""])
    assert np.array_equal(matrix, np.eye(4)[[1, 3, 2, 0, 3]])


def test_rare_levels_share_one_feature():
    values = [f"k{i}" for i in range(40) for _ in range(i + 1)]
    schema, matrix = learn_column(values)
    assert matrix.shape[1] == 31 + 1  # 31 levels have 10 rows or more; the others share a feature
    assert np.array_equal(matrix.argmax(axis=1)[:45], [31] * 45)
    later = build_table({"a": ["k0", "new", "k39"], "other": range(3)})
    assert schema.encode(later)[:, :32].argmax(axis=1).tolist() == [31, 31, 0]
    assert schema.unseen(later) == {"a": {"new": 1}}
    assert schema.describe()[0].encoding == "31 categories, and 9 rare ones as one"
    for n, rows, width in ((300, 20, 100), (60, 4, 30)):
        _, matrix = learn_column([f"k{i}" for i in range(n) for _ in range(rows)])
        assert matrix.shape[1] == width + 1


def test_dates_become_days_year_and_cyclic_features():
    days = [dt.datetime(2019, 12, 30) + dt.timedelta(days=i, hours=i % 24) for i in range(60)]
    schema, matrix = learn_column(days)
    parts = ("year", "time of year", "month", "day of the month", "day of the week", "time of day")
    assert schema.columns[0].encoding.parts == parts
    assert matrix.shape[1] == 1 + 1 + 2 + 1 + 1 + 4
    year, of_year, month, month_day = matrix[:, 1], matrix[:, 2:4], matrix[:, 4], matrix[:, 5]
    of_week, of_day = matrix[:, 6:8], matrix[:, 8:10]
    assert np.allclose(month, [(day.month - 1) * 2 / 11 - 1 for day in days])
    assert np.allclose(month_day, [(day.day - 1) * 2 / 30 - 1 for day in days])
    assert len(set(year[:2])) == len(set(year[2:])) == 1
    assert year[0] < year[2]
    assert np.allclose(of_week[0], [0, 1])  # 2019-12-30 is a Monday, the start of the week, with sine 0 and cosine 1
    assert np.allclose(of_week[7], of_week[0])
    assert np.allclose(of_year[2], [0, 1])
    assert np.allclose(of_day[6], [1, 0], atol=1e-12)  # 06:00 is a quarter of the day, with sine 1 and cosine 0
    assert np.all(np.diff(matrix[:, 0]) > 0)
    schema, matrix = learn_column([dt.date(2020, 3, 1 + i) for i in range(20)] + [None])
    assert schema.columns[0].encoding.parts == ("time of year", "day of the month", "day of the week")
    assert matrix[-1].tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert schema.describe()[0].encoding == "days, time of year, day of the month, day of the week, 4.8 % missing"


def test_numbers_and_dates_as_text_are_recognized():
    numbers, texts = ["1.5", " -2 ", "3e2", ".5", None] * 3, ["01234", "07000", "12345"] * 5
    assert Schema.learn(build_table({"a": numbers})).describe()[0].encoding == "a number, scaled, 20 % missing"
    assert Schema.learn(build_table({"a": texts})).describe()[0].encoding == "3 categories"
    days = ["2020-01-01", "2020-02-01T12:00", "2020-03-01 12:00:00+02:00"] * 5
    schema, matrix = learn_column(days)
    assert schema.describe()[0].encoding.startswith("days, time of year")
    moments = [dt.datetime(2020, 1, 1), dt.datetime(2020, 2, 1, 12), dt.datetime(2020, 3, 1, 10)] * 5
    assert np.array_equal(learn_column(moments)[1], matrix)
    for words in (["2020-02-30", "2020-01-01", "2020-01-02"], ["1e999", "1", "2"]):
        assert Schema.learn(build_table({"a": words * 4})).describe()[0].encoding == "3 categories"
    pd = pytest.importorskip("pandas")
    codes = pd.DataFrame({"a": pd.Categorical(["1", "2", "3"] * 4)})
    # Categorical dtypes stay categories.
    assert Schema.learn(read_table(codes)).describe()[0].encoding == "3 categories"


def test_columns_without_information_are_left_out():
    left_out = {
        "same": (["x"] * 20, "left out: all values are equal"),
        "none": ([None] * 20, "left out: all values are missing"),
        "id": ([f"n{i}" for i in range(20)], "left out: 20 different texts in 20 rows"),
        "copy": (range(20), "left out: equal to 'first'"),
    }
    columns = {"first": range(20), **{name: values for name, (values, _) in left_out.items()}}
    schema = Schema.learn(build_table(columns))
    assert [description.encoding for description in schema.describe()[1:]] == [text for _, text in left_out.values()]
    assert schema.groups(EXTENDED) == ((slice(0, 1), slice(1, 9)), (), (), (), ())
    # Later tables may lack the columns that are left out.
    assert schema.encode(build_table({"first": range(3)})).shape == (3, 1)
    with pytest.raises(ValueError, match=r"that carries information, got none in 20 rows: 'same' is left"):
        learn_schema(build_table({"same": ["x"] * 20}))


def test_column_may_encode_only_whether_values_are_missing():
    for values in (["x", None], [5, None], [dt.date(2020, 1, 1), None]):
        schema, matrix = learn_column(values * 10)
        assert matrix.tolist() == [[1], [-1]] * 10
        assert schema.describe()[0].encoding == "only whether there is a value: all values are equal"
    schema, matrix = learn_column([None if i % 3 else f"n{i}" for i in range(60)])
    assert matrix[:4].tolist() == [[1], [-1], [-1], [1]]
    assert schema.describe()[0].encoding == "only whether there is a value: 20 different texts in 20 rows"


def test_bins_encode_numbers_piecewise_linearly():
    values = np.arange(81.0)
    schema = Schema.learn(build_table({"a": values}), n_bins=4)
    later = build_table({"a": [-5, 0, 10, 20, 30, 50, 80, 99, None]})
    matrix = schema.encode(later, EXTENDED)
    assert np.array_equal(matrix[:, :1], schema.encode(later))
    b = matrix[:, 1:].astype(float)
    expected = [[0] * 4, [0] * 4, [0.5, 0, 0, 0], [1, 0, 0, 0], [1, 0.5, 0, 0], [1, 1, 0.5, 0], [1] * 4, [1] * 4]
    assert np.allclose(b[:-1], expected)
    assert np.allclose(b[-1], [1, 1, 0, 0])
    # A column of two values needs no bins, so the width is 1.
    assert Schema.learn(build_table({"a": [0, 1, 0, 1]})).width(EXTENDED) == 1
    with pytest.raises(ValueError, match=r"^n_bins must be 1 or more"):
        Schema.learn(build_table({"a": values}), n_bins=0)


def test_normal_scores_follow_quantiles():
    n = 32 * 50 + 1
    values = np.sort(rng.lognormal(3, 2, n))
    schema = Schema.learn(build_table({"a": values}), scores=True)
    score = schema.encode(build_table({"a": values}))[:, 1]
    assert np.all(np.diff(score) >= 0)
    normal = [NormalDist().inv_cdf(i / 32) for i in range(1, 32)]
    assert np.allclose(score[50:-1:50], normal, atol=1e-6)
    assert np.allclose(score[[0, -1]], [-3.2905, 3.2905], atol=1e-3)
    later = schema.encode(build_table({"a": [-1e300, 1e300, None]}))[:, 1]
    assert later.tolist() == [score[0], score[-1], score[n // 2]]  # a missing value is encoded as the median
    assert schema.describe()[0].encoding == "a number, scaled and as a normal score"
    plain = Schema.learn(build_table({"a": values}))
    assert plain.width() == 1
    assert np.array_equal(
        schema.encode(build_table({"a": values}), EXTENDED)[:, [0, *range(2, 10)]],
        plain.encode(build_table({"a": values}), EXTENDED),
    )


def test_normal_score_of_repeated_number_is_mean_of_its_scores():
    values = [0.0] * 80 + [1.0] * 10 + [*range(2, 12)]
    schema = Schema.learn(build_table({"a": values}), scores=True)
    zero, one, *others = schema.encode(build_table({"a": [0, 1, *range(2, 12)]}))[:, 1].astype(float)
    # These are the normal scores of the 26 quantiles that equal 0.
    zero_scores = [NormalDist().inv_cdf(max(i / 32, 0.0005)) for i in range(26)]
    assert math.isclose(zero, np.mean(zero_scores), rel_tol=1e-6)
    assert zero < one < others[0]
    assert np.all(np.diff(others) > 0)


def test_document_without_normal_scores_is_read():
    values = rng.normal(size=50)
    schema = Schema.learn(build_table({"a": values}))
    document = schema.document()
    encoding = document["columns"][0]["encoding"]
    assert [encoding.pop(name) for name in ("knots", "scores")] == [[], []]
    assert Schema.from_document(document) == schema


def test_groups_assign_each_feature_to_one_column():
    slices = [part for parts in SCHEMA.groups() for part in parts]
    assert [part.start for part in slices] == [0] + [part.stop for part in slices[:-1]]
    assert slices[-1].stop == SCHEMA.width()
    assert sum(part.stop - part.start for parts in SCHEMA.groups(EXTENDED) for part in parts) == SCHEMA.width(EXTENDED)
    matrix = SCHEMA.encode(TRAINING, EXTENDED)
    changed = SCHEMA.encode(build_table({**COLUMNS, "number": rng.normal(5, 3, N)}), EXTENDED)
    differ = np.flatnonzero((matrix != changed).any(axis=0))
    assert set(differ) <= {i for part in SCHEMA.groups(EXTENDED)[0] for i in range(part.start, part.stop)}
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert matrix.shape == (N, SCHEMA.width(EXTENDED))


# --------------------------------------------------------------------------------------------- encoding of later tables


def test_columns_are_matched_by_name_or_position():
    matrix = SCHEMA.encode(TRAINING, EXTENDED)
    names = list(COLUMNS)
    reordered = {name: COLUMNS[name] for name in rng.permutation(names)} | {"further": range(N)}
    assert np.array_equal(SCHEMA.encode(build_table(reordered), EXTENDED), matrix)
    unnamed = read_table(list(zip(*COLUMNS.values(), strict=True)))
    assert np.array_equal(SCHEMA.encode(unnamed, EXTENDED), matrix)
    assert np.array_equal(Schema.learn(unnamed).encode(TRAINING, EXTENDED), matrix)
    with pytest.raises(ValueError, match=r"^X must have 13 columns, as in training, got 2"):
        SCHEMA.encode(read_table([[1, 2]]))
    del reordered["city"], reordered["number"]
    with pytest.raises(ValueError, match=r"^X must have the columns of training, got no column 'number', 'city'$"):
        SCHEMA.encode(build_table(reordered))
    with pytest.raises(ValueError, match=r"no column 'number', 'city'; did you mean 'City'\?"):
        SCHEMA.encode(build_table(reordered | {"City": COLUMNS["city"]}))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("number", [None, "many"], "numbers in column 'number', as the training rows had, got 'many' in row 1"),
        ("digits", ["1.5", "x"], "numbers in column 'digits', as the training rows had, got 'x' in row 1"),
        ("binary", [DAYS[0], None], "numbers in column 'binary', as the training rows had, got 2020-01-01T00:00:00 in"),
        ("city", [None, 3.5], "text in column 'city', as the training rows had, got 3.5 in row 1"),
        ("moment", [None, True], "dates in column 'moment', as the training rows had, got 1.0 in row 1"),
        ("day", ["2020-01-01", "soon"], "dates in column 'day', as the training rows had, got 'soon' in row 1"),
    ],
)
def test_encode_rejects_other_kind_of_column_than_in_training(name, values, message):
    columns = {key: training_values[:2] for key, training_values in COLUMNS.items()} | {name: values}
    with pytest.raises(ValueError, match=f"^X must have {message}"):
        SCHEMA.encode(build_table(columns))


def test_column_of_missing_values_matches_any_kind():
    pd = pytest.importorskip("pandas")
    for values in ([None, None], [np.nan, np.nan], pd.Categorical([None, None]), pd.to_datetime([None, None])):
        frame = pd.DataFrame(dict.fromkeys(COLUMNS, values))
        matrix = SCHEMA.encode(read_table(frame), EXTENDED)
        assert np.array_equal(matrix, SCHEMA.encode(build_table({name: [None, None] for name in COLUMNS}), EXTENDED))


def test_table_libraries_give_identical_encodings():
    pd, pl, pa = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    frame = pl.DataFrame(COLUMNS)
    matrix = SCHEMA.encode(TRAINING, EXTENDED)
    assert Schema.learn(TRAINING) == SCHEMA
    for X in (frame, frame.to_arrow(), pa.table(COLUMNS), pd.DataFrame(COLUMNS)):
        converted = read_table(X)
        assert np.array_equal(SCHEMA.encode(converted, EXTENDED), matrix)
        assert Schema.learn(converted).document()["columns"][1:] == SCHEMA.document()["columns"][1:]


# --------------------------------------------------------------------------------------------- round trips

CELLS = [
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.text(max_size=3),
    st.datetimes(),
    st.sampled_from(["a", "b", "ccc"]),
    st.sampled_from(["1", "2.5", "-3e4"]),
]


@st.composite
def tables(draw):
    n = draw(st.integers(2, 30))
    cell_strategies = [draw(st.sampled_from(CELLS)) for _ in range(draw(st.integers(1, 4)))]
    rows = [[draw(st.none() | cells) for cells in cell_strategies] for _ in range(n)]
    return [[float(i), *row] for i, row in enumerate(rows)]


@pytest.mark.filterwarnings("ignore::nnc.tabular.ColumnWarning")
@given(tables(), st.randoms())
def test_encoding_is_identical_from_document_and_row_by_row(rows, random):
    t = read_table(rows)
    schema = Schema.learn(t, scores=True)
    matrix = schema.encode(t, EXTENDED)
    assert np.isfinite(matrix).all()
    assert abs(matrix).max() <= 3.3
    restored = Schema.from_document(json.loads(json.dumps(schema.document(), allow_nan=False)))
    assert restored == schema
    assert hash(restored) == hash(schema)
    assert np.array_equal(restored.encode(t, EXTENDED).view(np.int32), matrix.view(np.int32))
    row_by_row = np.concatenate([schema.encode(read_table([row]), EXTENDED) for row in rows])
    assert np.array_equal(row_by_row.view(np.int32), matrix.view(np.int32))
    order = random.sample(range(len(rows)), len(rows))
    assert np.array_equal(schema.encode(t.select(order), EXTENDED), matrix[order])
    assert Schema.learn(t.select(order), scores=True) == schema


# --------------------------------------------------------------------------------------------- invalid documents

ENCODINGS = {found["name"]: found["encoding"] for found in SCHEMA.document()["columns"]}


def with_encoding(name, **changes):
    encoding = {**ENCODINGS[name], **changes}
    return {"named": True, "columns": [{"name": "a", "kind": "number", "encoding": encoding}]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, r"schema is null, expected an object"),
        ({}, r"schema\.named is missing"),
        ({"named": 1, "columns": []}, r"schema\.named is 1, expected true or false"),
        ({"named": True, "columns": {}}, r"schema\.columns is an object, expected a list"),
        ({"named": True, "columns": []}, r"schema\.columns has only columns that are left out"),
        ({"named": True, "columns": [3]}, r"schema\.columns\[0\] is 3, expected an object"),
        ({**with_encoding("number"), "more": 1}, r'schema has the unknown key "more"'),
        (
            with_encoding("number", type="magic"),
            r'schema\.columns\[0\]\.encoding\.type is "magic", expected left_out or',
        ),
        (with_encoding("number", type=["number"]), r"schema\.columns\[0\]\.encoding\.type is a list"),
        (with_encoding("number", more=1), r'schema\.columns\[0\]\.encoding has the unknown key "more"'),
        (with_encoding("number", median=math.nan), r"schema\.columns\[0\]\.encoding\.median must be a finite number"),
        (with_encoding("number", median=None), r"schema\.columns\[0\]\.encoding\.median must be a number"),
        (with_encoding("number", median=10**400), r"schema\.columns\[0\]\.encoding\.median must be a number in the"),
        (with_encoding("number", scale=0), r"schema\.columns\[0\]\.encoding\.scale must be from 4\.4"),
        (with_encoding("number", scale=math.inf), r"schema\.columns\[0\]\.encoding\.scale must be from 4\.4"),
        (with_encoding("number", missing=1.5), r"schema\.columns\[0\]\.encoding\.missing must be at least 0"),
        (with_encoding("number", edges=[1, 2]), r"schema\.columns\[0\]\.encoding\.edges must be an empty list or"),
        (with_encoding("number", edges=[1, 3, 2]), r"schema\.columns\[0\]\.encoding\.edges must be increasing"),
        (with_encoding("number", edges=[1, 2, math.nan]), r"schema\.columns\[0\]\.encoding\.edges\[2\] must be a"),
        (with_encoding("number", edges="abc"), r"schema\.columns\[0\]\.encoding\.edges must be a list"),
        (with_encoding("number", knots=[1]), r"schema\.columns\[0\]\.encoding\.knots must be an empty list or"),
        (with_encoding("number", knots=[1, 1]), r"schema\.columns\[0\]\.encoding\.knots must be increasing"),
        (with_encoding("number", scores=[None]), r"schema\.columns\[0\]\.encoding\.scores\[0\] must be a number"),
        (with_encoding("number", scores=[1]), r"schema\.columns\[0\]\.encoding\.scores must have one number"),
        (with_encoding("binary", low=7), r"schema\.columns\[0\]\.encoding\.low must be below high"),
        (with_encoding("city", levels=["a", "a"]), r"schema\.columns\[0\]\.encoding\.levels must be a .* distinct"),
        (with_encoding("city", levels=["a", 3]), r"schema\.columns\[0\]\.encoding\.levels must be a list of strings"),
        (with_encoding("city", levels=["a"]), r"schema\.columns\[0\]\.encoding\.levels must be 2 or more strings"),
        (with_encoding("city", rare=["Rome"]), r"schema\.columns\[0\]\.encoding\.levels must be 1 or more strings"),
        (with_encoding("moment", parts=["age"]), r"schema\.columns\[0\]\.encoding\.parts must contain only year"),
        (with_encoding("moment", days=3), r"schema\.columns\[0\]\.encoding\.days is 3, expected an object"),
        (with_encoding("moment", days=ENCODINGS["city"]), r'schema\.columns\[0\]\.encoding\.days\.type is "category"'),
        (with_encoding("id", reason=None), r"schema\.columns\[0\]\.encoding\.reason must be text"),
    ],
)
def test_from_document_rejects_invalid_documents(document, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Schema.from_document(document)


def test_from_document_rejects_invalid_names_and_kinds():
    document = with_encoding("number")
    column = document["columns"][0]
    for columns, message in (
        ([{**column, "name": 3}], r"^schema\.columns\[0\]\.name is 3, expected a name"),
        ([{**column, "kind": "thing"}], r'^schema\.columns\[0\]\.kind is "thing", expected number or boolean'),
        ([column, column], r"^schema\.columns has two columns with the same name"),
    ):
        with pytest.raises(ValueError, match=message):
            Schema.from_document({**document, "columns": columns})


# --------------------------------------------------------------------------------------------- large tables


def test_large_table_is_encoded_without_copies():
    """Reading and encoding a table allocate less than a quarter of its memory, in addition to the encoded matrix."""
    import tracemalloc

    X = rng.normal(size=(100_000, 20))
    X[::7, 3] = np.nan
    tracemalloc.start()
    try:
        t = read_table(X)
        schema = Schema.learn(t)
        matrix = schema.encode(t)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - matrix.nbytes < X.nbytes / 4
    assert matrix.shape == (100_000, 21)


def test_table_of_two_thousand_columns_is_encoded():
    X = rng.normal(size=(20, 2000))
    schema = Schema.learn(read_table(X))
    assert schema.encode(read_table(X), EXTENDED).shape == (20, 18000)
    assert len(schema.groups()) == 2000


def test_changed_copy_of_used_encoding_has_own_numbers():
    encoding = SCHEMA.columns[0].encoding
    cells, extra = np.array([-2.0, 4.0, 9.0]), np.zeros((2, 3, encoding.extra_width), np.float32)
    encoding.write_extra(cells, extra[0])
    encoding.replace(edges=tuple(edge + 1 for edge in encoding.edges)).write_extra(cells + 1, extra[1])
    np.testing.assert_allclose(extra[1], extra[0], atol=1e-6)
