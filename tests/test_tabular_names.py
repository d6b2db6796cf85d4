"""Columns of later tables: found by their names, and read as the training rows were, whatever their types are now."""

import json

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")
pd = pytest.importorskip("pandas")

from nnc.tabular import Schema, TableRegressor, read_table  # noqa: E402
from nnc.tabular.cells import CellError  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))


def encoded(schema, frame):
    return schema.encode(read_table(frame))


# --------------------------------------------------------------------------------------------- names


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
def test_names_of_any_type_are_found_in_any_order(names):
    frame = pd.DataFrame(X, columns=names)
    schema = Schema.learn(read_table(frame))
    assert schema.named
    assert schema.names == tuple(map(str, names))
    matrix = encoded(schema, frame)
    further = frame.iloc[:, :1].set_axis(["further"], axis=1)
    other = pd.concat([further, frame.iloc[:, [1, 2, 0]]], axis=1)
    assert np.array_equal(encoded(schema, other), matrix)
    assert np.array_equal(encoded(Schema.from_document(json.loads(json.dumps(schema.document()))), other), matrix)
    assert np.array_equal(encoded(schema, X), matrix)  # an array has no names
    with pytest.raises(ValueError, match=r"^X must have the columns of training, got no column "):
        encoded(schema, other.iloc[:, :3])


def test_default_names_are_numbers_where_the_other_side_has_numbers():
    frame = pd.DataFrame(X)
    for fitted in (frame, X):
        schema = Schema.learn(read_table(fitted))
        assert not schema.named
        matrix = encoded(schema, frame)
        assert np.array_equal(encoded(schema, frame[[2, 0, 1]]), matrix)
        assert np.array_equal(encoded(schema, frame.rename(columns=dict(zip(range(3), "abc", strict=True)))), matrix)
        with pytest.raises(ValueError, match=r"^X must have the columns 0 to 2 of training, got no column 0; pass X"):
            encoded(schema, frame.rename(columns={0: 3})[[1, 2, 3]])
    schema = Schema.learn(read_table(frame[[2, 0]]))
    assert schema.names == ("2", "0")
    assert np.array_equal(encoded(schema, frame), encoded(schema, frame[[0, 2]]))
    with pytest.raises(ValueError, match=r"^X must have the columns of training, got no column '2'"):
        encoded(schema, frame[[0, 1]])
    assert np.array_equal(encoded(schema, X[:, [2, 0]]), encoded(schema, frame))


def test_a_model_predicts_the_same_of_columns_in_another_order():
    frame = pd.DataFrame(X, columns=[5, 6, 7])
    y = X[:, 0] + 0.1 * RNG.normal(size=60)
    for fitted in (frame, pd.DataFrame(X)):
        model = TableRegressor("fast", members=1, random_state=0).fit(fitted, y)
        names = list(fitted)
        assert np.array_equal(model.predict(fitted[names[::-1]]), model.predict(fitted))
        more = fitted.assign(more=1.0)[[*names[::-1], "more"]]
        if fitted is frame:
            assert np.array_equal(model.predict(more), model.predict(fitted))


# --------------------------------------------------------------------------------------------- kinds


def learned(values):
    return Schema.learn(read_table(pd.DataFrame({"a": values, "other": range(len(values))})))


def same(schema, values):
    """What a schema makes of other values of the column, in the same number of rows."""
    return encoded(schema, pd.DataFrame({"a": values, "other": range(len(values))}))


def test_categories_of_integers_and_integers_are_the_same():
    numbers = [3, 1, 2, 1, 3, 2, 2, 4] * 3
    schema = learned(pd.Categorical(numbers))
    matrix = same(schema, pd.Categorical(numbers))
    assert schema.describe()[0].encoding == "4 categories"
    texts = pd.Series(numbers).astype(str)
    for values in (numbers, np.array(numbers, float), np.array(numbers, np.uint8), texts, pd.array(numbers, "Int64")):
        assert np.array_equal(same(schema, values), matrix)
    assert not same(schema, [7] * 24)[:, :4].any()  # an unknown category
    reverse = learned(numbers)
    for values in (pd.Categorical(numbers), pd.Categorical(texts)):
        assert np.array_equal(same(reverse, values), same(reverse, numbers))
    floats = [1.0, 2.5, 1e3] * 8
    schema = learned(pd.Categorical(floats))
    assert np.array_equal(same(schema, floats), same(schema, pd.Categorical(floats)))


def test_numbers_that_are_no_category_are_refused():
    for values in (["Rome", "Oslo", "Bonn"] * 8, ["02139", "12345", "60601"] * 8):
        with pytest.raises(CellError, match=r"^X must have text in column 'a', as the training rows had, got 2139 in"):
            same(learned(values), [2139] * 24)
    assert same(learned(["02139", "12345", "60601"] * 8), [12345] * 24)[:, :3].sum() == 24


def test_booleans_and_their_text_are_the_same():
    truths = RNG.random(24) < 0.5
    truths[:2] = True, False
    schema = learned(truths)
    for words in (("True", "False"), ("true", "false"), ("YES", "No"), ("1", "0")):
        text = [words[0] if truth else words[1] for truth in truths]
        assert np.array_equal(same(schema, text), same(schema, truths))
        reverse = learned(text)
        assert np.array_equal(same(reverse, truths), same(reverse, text))
    with pytest.raises(CellError, match=r"^X must have true or false in column 'a', as .*, got 'perhaps' in row 0"):
        same(schema, ["perhaps"] * 24)


# --------------------------------------------------------------------------------------------- order

SIZES = ["XS", "S", "M", "L", "XL"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_order_of_categories_is_a_column(library):
    values = ["S", "M", "XL", "M", None, "S", "S"] * 4
    if library == "pandas":
        frame = pd.DataFrame({"a": pd.Categorical(values, SIZES, ordered=True), "other": range(28)})
    else:
        pl = pytest.importorskip("polars")
        frame = pl.DataFrame({"a": pl.Series(values, dtype=pl.Enum(SIZES)), "other": range(28)})
    schema = Schema.learn(read_table(frame))
    assert schema.describe()[0].encoding == "3 categories, 14 % missing, and their rank"
    matrix = encoded(schema, frame)[:, :5]
    small, medium, large, missing = [1, 0, 0, 0, -0.5], [0, 1, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, 0]
    assert matrix[:5].tolist() == [small, medium, large, medium, missing]
    again = Schema.from_document(json.loads(json.dumps(schema.document())))
    later = pd.DataFrame({"a": ["XS", "L", "S", "unknown", None], "other": range(5)})
    found = encoded(again, later)[:, :5]
    assert found.tolist() == [[0, 0, 0, 0, -1], [0, 0, 0, 0, 0.5], small, [0] * 5, missing]
    assert schema.unseen(read_table(later)) == {"a": {"unknown": 1}}
    document = schema.document()
    document["columns"][0]["encoding"]["order"] = SIZES[:2]
    with pytest.raises(ValueError, match=r"^schema\.columns\[0\]\.encoding\.order must be two texts or more"):
        Schema.from_document(document)


def test_blank_categories_have_no_place_in_the_order():
    values = ["", "a", "b", "c"] * 6
    schema = learned(pd.Categorical(values, ["", "a", "b", "c"], ordered=True))
    assert schema.describe()[0].encoding == "3 categories, 25 % missing, and their rank"
    assert same(schema, values)[:4, 4].tolist() == [0, -1, 0, 1]
    assert learned(pd.cut(np.arange(24.0), 5)).describe()[0].encoding == "5 categories, and their rank"


def test_categories_without_an_order_have_none():
    for values in (pd.Categorical(["S", "M", "L"] * 8), pd.Categorical(["S", "M"] * 12, SIZES, ordered=True)):
        assert "order" not in learned(values).describe()[0].encoding
