"""Tests of the columns of later tables: they are matched by name, and cells of another type are converted."""

import json

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")
pd = pytest.importorskip("pandas")

from nnc._tables.cells import CellError  # noqa: E402
from nnc.tabular import Schema, TableRegressor, read_table  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))


def encode(schema, frame):
    return schema.encode(read_table(frame))


# --------------------------------------------------------------------------------------------- matching of names


@pytest.mark.parametrize(
    "names",
    [
        [10, 20, 30],
        [2, 0, 1],
        [0.0, 1.0, 2.0],
        [False, True, 2],
        ["a", 0, 1.5],
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]),
        pd.to_datetime(["2024-01-01", "2024-02-01", "2024-03-01"]),
    ],
    ids=str,
)
def test_columns_are_matched_by_names_of_any_type(names):
    frame = pd.DataFrame(X, columns=names)
    schema = Schema.learn(read_table(frame))
    assert schema.named
    assert schema.names == tuple(map(str, names))
    matrix = encode(schema, frame)
    further = frame.iloc[:, :1].set_axis(["further"], axis=1)
    reordered = pd.concat([further, frame.iloc[:, [1, 2, 0]]], axis=1)
    assert np.array_equal(encode(schema, reordered), matrix)
    assert np.array_equal(encode(Schema.from_document(json.loads(json.dumps(schema.document()))), reordered), matrix)
    assert np.array_equal(encode(schema, X), matrix)  # arrays have no names, so their columns are matched by position
    with pytest.raises(ValueError, match=r"^X must have the columns of training, got no column "):
        encode(schema, reordered.iloc[:, :3])


def test_default_names_are_matched_by_number_or_position():
    frame = pd.DataFrame(X)
    for fitted in (frame, X):
        schema = Schema.learn(read_table(fitted))
        assert not schema.named
        matrix = encode(schema, frame)
        assert np.array_equal(encode(schema, frame[[2, 0, 1]]), matrix)
        assert np.array_equal(encode(schema, frame.rename(columns=dict(zip(range(3), "abc", strict=True)))), matrix)
        with pytest.raises(ValueError, match=r"^X must have the columns 0 to 2 of training, got no column 0; pass X"):
            encode(schema, frame.rename(columns={0: 3})[[1, 2, 3]])
    schema = Schema.learn(read_table(frame[[2, 0]]))
    assert schema.names == ("2", "0")
    assert np.array_equal(encode(schema, frame), encode(schema, frame[[0, 2]]))
    with pytest.raises(ValueError, match=r"^X must have the columns of training, got no column '2'"):
        encode(schema, frame[[0, 1]])
    assert np.array_equal(encode(schema, X[:, [2, 0]]), encode(schema, frame))


def test_predictions_do_not_depend_on_order_of_columns():
    frame = pd.DataFrame(X, columns=[5, 6, 7])
    y = X[:, 0] + 0.1 * RNG.normal(size=60)
    for fitted in (frame, pd.DataFrame(X)):
        model = TableRegressor("fast", members=1, random_state=0).fit(fitted, y)
        names = list(fitted)
        assert np.array_equal(model.predict(fitted[names[::-1]]), model.predict(fitted))
        more = fitted.assign(more=1.0)[[*names[::-1], "more"]]
        if fitted is frame:
            assert np.array_equal(model.predict(more), model.predict(fitted))


# --------------------------------------------------------------------------------------------- conversion of cells


def learn_schema(values):
    """Return the schema of a table with the column "a" of these values, and a column of row numbers."""
    return Schema.learn(read_table(pd.DataFrame({"a": values, "other": range(len(values))})))


def encode_values(schema, values):
    """Return the encoded table with these values in the column "a"."""
    return encode(schema, pd.DataFrame({"a": values, "other": range(len(values))}))


def test_integers_and_integer_categories_have_same_encoding():
    numbers = [3, 1, 2, 1, 3, 2, 2, 4] * 3
    schema = learn_schema(pd.Categorical(numbers))
    matrix = encode_values(schema, pd.Categorical(numbers))
    assert schema.describe()[0].encoding == "4 categories"
    texts = pd.Series(numbers).astype(str)
    for values in (numbers, np.array(numbers, float), np.array(numbers, np.uint8), texts, pd.array(numbers, "Int64")):
        assert np.array_equal(encode_values(schema, values), matrix)
    # 7 is not a category of the training rows, so no indicator is 1.
    assert not encode_values(schema, [7] * 24)[:, :4].any()
    schema_of_numbers = learn_schema(numbers)
    for values in (pd.Categorical(numbers), pd.Categorical(texts)):
        assert np.array_equal(encode_values(schema_of_numbers, values), encode_values(schema_of_numbers, numbers))
    floats = [1.0, 2.5, 1e3] * 8
    schema = learn_schema(pd.Categorical(floats))
    assert np.array_equal(encode_values(schema, floats), encode_values(schema, pd.Categorical(floats)))


def test_encode_rejects_numbers_that_match_no_category():
    for values in (["Rome", "Oslo", "Bonn"] * 8, ["02139", "12345", "60601"] * 8):
        with pytest.raises(CellError, match=r"^X must have text in column 'a', as the training rows had, got 2139 in"):
            encode_values(learn_schema(values), [2139] * 24)
    assert encode_values(learn_schema(["02139", "12345", "60601"] * 8), [12345] * 24)[:, :3].sum() == 24


def test_booleans_and_their_text_have_same_encoding():
    truths = RNG.random(24) < 0.5
    truths[:2] = True, False
    schema = learn_schema(truths)
    for words in (("True", "False"), ("true", "false"), ("YES", "No"), ("1", "0")):
        text = [words[0] if truth else words[1] for truth in truths]
        assert np.array_equal(encode_values(schema, text), encode_values(schema, truths))
        schema_of_text = learn_schema(text)
        assert np.array_equal(encode_values(schema_of_text, truths), encode_values(schema_of_text, text))
    with pytest.raises(CellError, match=r"^X must have true or false in column 'a', as .*, got 'perhaps' in row 0"):
        encode_values(schema, ["perhaps"] * 24)


# --------------------------------------------------------------------------------------------- ordered categories

SIZES = ["XS", "S", "M", "L", "XL"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_ordered_categories_have_rank_feature(library):
    values = ["S", "M", "XL", "M", None, "S", "S"] * 4
    if library == "pandas":
        frame = pd.DataFrame({"a": pd.Categorical(values, SIZES, ordered=True), "other": range(28)})
    else:
        pl = pytest.importorskip("polars")
        frame = pl.DataFrame({"a": pl.Series(values, dtype=pl.Enum(SIZES)), "other": range(28)})
    schema = Schema.learn(read_table(frame))
    assert schema.describe()[0].encoding == "3 categories, 14 % missing, and their rank"
    matrix = encode(schema, frame)[:, :5]
    small, medium, large, missing = [1, 0, 0, 0, -0.5], [0, 1, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, 0]
    assert matrix[:5].tolist() == [small, medium, large, medium, missing]
    restored = Schema.from_document(json.loads(json.dumps(schema.document())))
    later = pd.DataFrame({"a": ["XS", "L", "S", "unknown", None], "other": range(5)})
    later_matrix = encode(restored, later)[:, :5]
    assert later_matrix.tolist() == [[0, 0, 0, 0, -1], [0, 0, 0, 0, 0.5], small, [0] * 5, missing]
    assert schema.unseen(read_table(later)) == {"a": {"unknown": 1}}
    document = schema.document()
    document["columns"][0]["encoding"]["order"] = SIZES[:2]
    with pytest.raises(ValueError, match=r"^schema\.columns\[0\]\.encoding\.order must be two or more strings"):
        Schema.from_document(document)


def test_blank_category_has_no_rank():
    values = ["", "a", "b", "c"] * 6
    schema = learn_schema(pd.Categorical(values, ["", "a", "b", "c"], ordered=True))
    assert schema.describe()[0].encoding == "3 categories, 25 % missing, and their rank"
    assert encode_values(schema, values)[:4, 4].tolist() == [0, -1, 0, 1]
    assert learn_schema(pd.cut(np.arange(24.0), 5)).describe()[0].encoding == "5 categories, and their rank"


def test_unordered_or_two_categories_have_no_rank():
    for values in (pd.Categorical(["S", "M", "L"] * 8), pd.Categorical(["S", "M"] * 12, SIZES, ordered=True)):
        assert "order" not in learn_schema(values).describe()[0].encoding
