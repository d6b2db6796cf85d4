"""Tests of Target: encoding of class labels and of numeric targets, and JSON documents of a target."""

import json
import math

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

from nnc.tabular import ColumnWarning, TableClassifier, TableRegressor
from nnc.tabular.target import Target, find_quantity


def restore(target):
    """Return a copy of `target` that is created from its JSON document."""
    return Target.from_document(json.loads(json.dumps(target.document(), allow_nan=False)))


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (["b", "a", "b"], ["a", "b"]),
        ([3, 1, 2], [1, 2, 3]),
        ([2**63 + 1, 3], [3, 2**63 + 1]),
        ([True, False], [False, True]),
        ([1.5, 0.5], [0.5, 1.5]),
        ([["b"], ["a"]], ["a", "b"]),
        (np.array(["2020-01-01", "2021-01-01"], "M8[D]"), ["2020-01-01", "2021-01-01"]),
        (np.array(["b", "a"], object), ["a", "b"]),
    ],
)
def test_class_labels_are_encoded_as_indices(y, classes):
    target = Target.of_classes(y, len(y))
    assert target.n_outputs == 1
    assert target.classes.tolist() == classes
    indices = target.encode(y, len(y))
    assert (indices.dtype, indices.shape) == (np.int32, (len(y),))
    labels = [row[0] if isinstance(row, list) else row for row in y]
    assert target.classes[indices].tolist() == [str(x) if isinstance(x, np.datetime64) else x for x in labels]
    restored = restore(target)
    assert (restored.n_outputs, restored.classes.dtype.kind) == (1, target.classes.dtype.kind)
    assert np.array_equal(restored.encode(y, len(y)), indices)


def test_labels_in_frames_and_series_are_encoded():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for y in (pd.Series(["x", "y", "x"], dtype="category"), pl.Series(["x", "y", "x"]), pd.Series(["x", "y", "x"])):
        target = Target.of_classes(y, 3)
        assert target.classes[target.encode(y, 3)].tolist() == ["x", "y", "x"]
    frame = pd.DataFrame({"u": ["a", "b", "a"]})
    target = Target.of_classes(frame, 3)
    assert target.classes[target.encode(frame, 3)].tolist() == ["a", "b", "a"]


def test_numbers_are_encoded_as_columns():
    target = Target.of_numbers([1, 2.5], 2)
    assert (target.n_outputs, target.classes) == (1, None)
    assert target.encode([1, 2.5], 2).tolist() == [[1], [2.5]]
    assert target.decode(np.array([[1], [2.5]])).tolist() == [1, 2.5]
    target = restore(Target.of_numbers([[1, 2], [3, 4]], 2))
    assert (target.n_outputs, target.classes) == (2, None)
    assert target.decode(target.encode([[1, 2], [3, 4]], 2)).tolist() == [[1, 2], [3, 4]]


EUROS = [f"{1 + i / 4:.2f} €" for i in range(40)]


def test_text_of_numbers_in_one_format_is_encoded_as_numbers():
    pd = pytest.importorskip("pandas")
    for y in (EUROS, np.array(EUROS), pd.Series(EUROS), pd.DataFrame({"y": EUROS})):
        target = Target.of_numbers(y, 40)
        assert target.encode(y, 40)[:, 0].tolist() == [1 + i / 4 for i in range(40)]
    restored = restore(target)
    assert restored.encode(["2.50 €", "7"], 2).tolist() == restored.encode([2.5, 7], 2).tolist() == [[2.5], [7]]
    with pytest.raises(ValueError, match=r"^y must be numbers such as €12\.5, got '1,5 €' in row 1; remove the row$"):
        restored.encode(["1.5 €", "1,5 €"], 2)
    percent = Target.of_numbers(["1.5%", "2%"], 2)
    with pytest.raises(ValueError, match=r"^y must be text such as '12\.5%', as in fit, got numbers$"):
        percent.encode([0.015, 0.02], 2)


def test_regressor_of_text_equals_regressor_of_numbers(tmp_path):
    X, y = np.arange(40)[:, None], [1 + i * 7 % 40 / 4 for i in range(40)]
    text = [f"{value:.2f} €" for value in y]
    models = [TableRegressor("fast", members=1, random_state=0).fit(X, targets) for targets in (y, text)]
    assert np.array_equal(*(model.predict(X) for model in models))
    models[1].save(tmp_path / "model.json")
    assert TableRegressor.load(tmp_path / "model.json").score(X, text) == models[0].score(X, y)


@pytest.mark.parametrize("cell", ["?", "on request", " "])
def test_text_of_numbers_without_a_value_is_rejected(cell):
    with pytest.raises(ValueError, match=r"^y must be numbers such as €12\.5, got .* in row 40; remove the row$"):
        Target.of_numbers([*EUROS, cell], 41)


def test_ambiguous_text_of_numbers_gives_warning():
    with pytest.warns(ColumnWarning, match=r"^column 'y': the comma in '1,000' may be a decimal mark or a thousands"):
        assert Target.of_numbers(["1,000", "2,500"], 2).encode(["2,500"], 1).tolist() == [[2500]]


def test_classifier_rejects_quantities_and_accepts_classes():
    X = np.arange(40)[:, None]
    for y, got in ((EUROS, "'1.00 €'"), ([f"{i}.5" for i in range(39)] + ["?"], "'0.5'"), ([0.5, 1.5] * 20, "0.5")):
        with pytest.raises(ValueError, match=f"^Unknown label type: continuous: y has {got}; use TableRegressor"):
            TableClassifier().fit(X, y)
    for labels in (["1.5", "2.5"] * 20, [f"{i}" for i in range(40)], [f"v{i}.5" for i in range(40)]):
        assert find_quantity(np.unique(labels), 40) is None


@pytest.mark.parametrize("unit", ["kg", "°C", "m²", "km/h", "‰"])
def test_many_classes_that_look_like_numbers_give_warning(unit):
    labels = [f"{i} {unit}" for i in range(40)]
    with pytest.warns(
        ColumnWarning, match=rf"^y has 40 classes that look like numbers or dates, such as '0 {unit}'; if they"
    ):
        TableClassifier("fast", members=1, random_state=0).fit(np.arange(80)[:, None], labels * 2)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (["a", "a"], ValueError, r"y must have two classes or more, got one class: 'a'"),
        (
            np.array([["a", 1], ["b", 2]], object),
            ValueError,
            r"y must be one column of labels, got 2 columns; fit a model for each",
        ),
        (["a", None], ValueError, r"y must have no missing values, got None in row 1"),
        ([1.0, math.nan], ValueError, r"y must have no missing values, got nan in row 1"),
        ([1.0, math.inf], ValueError, r"y must have finite labels, got inf in row 1"),
        ([1j, 2], TypeError, r"y must have labels that are text or numbers, got elements of type complex128"),
        (["a", "b", "c"], ValueError, r"y must have one row for each of the 2 rows of X, got shape \(3,\)"),
        (np.zeros((2, 2, 2)), ValueError, r"y must have one row for each of the 2 rows of X"),
        ("a", ValueError, r"y must have one row for each of the 2 rows of X, got shape \(\)"),
    ],
)
def test_of_classes_rejects_invalid_labels(y, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Target.of_classes(y, 2)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([1, math.nan], ValueError, r"y must be finite, got nan in row 1"),
        ([[1, 2], [3, math.inf]], ValueError, r"y must be finite, got inf in row 1, column 1"),
        ([1, None], ValueError, r"y must have no missing values, got None in row 1"),
        (["a", "b"], TypeError, r"y must be an array of real numbers"),
        ([1], ValueError, r"y must have one row for each of the 2 rows of X"),
    ],
)
def test_of_numbers_rejects_invalid_numbers(y, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Target.of_numbers(y, 2)


def test_encode_rejects_other_classes_or_outputs_than_in_fit():
    target = Target.of_classes(["a", "b"], 2)
    message = "^y must contain only the classes of this network, 'a', 'b', got 'c' in row 0"
    with pytest.raises(ValueError, match=message):
        target.encode(["c", "a"], 2)
    with pytest.raises(ValueError, match=r"^y must be one column of labels, got 2"):
        target.encode([["a", "b"], ["b", "a"]], 2)
    with pytest.raises(ValueError, match=r"^y must have 1 column, as in fit, got 2"):
        Target.of_numbers([1, 2], 2).encode([[1, 2], [3, 4]], 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": 1}, r'target has the unknown key "more"'),
        ({"n_outputs": 0}, r"target\.n_outputs is 0, expected a whole number"),
        ({"n_outputs": 2}, r"target\.classes has 1 items and n_outputs is 2, expected 1 for both"),
        (
            {"n_outputs": 2, "classes": [["a", "b"], ["a", "b"]]},
            r"target\.classes has 2 items and n_outputs is 2, expected 1 for both",
        ),
        ({"classes": []}, r"target\.classes has 0 items and n_outputs is 1, expected 1 for both"),
        ({"classes": "ab"}, r'target\.classes is "ab", expected a list or null'),
        ({"classes": [["a"]]}, r"target\.classes\[0\] is a list of 1, expected a list of two labels or more"),
        ({"classes": [["a", 1]]}, r"target\.classes\[0\]\[1\] is 1, expected only strings"),
        ({"classes": [["a", "a"]]}, r'target\.classes\[0\]\[1\] is "a", which occurs twice'),
        ({"classes": [["b", "a"]]}, r"target\.classes\[0\] is not sorted"),
        ({"classes": [[1.0, math.nan]]}, r"target\.classes\[0\]\[1\] is NaN"),
        ({"format": {"type": "time", "missing": []}}, r"target\.format is a time format, expected null, or a number"),
        ({"format": 3}, r"target\.format is 3, expected an object"),
        ({"classes": [[-1, 2**63]]}, r"target\.classes\[0\] has -1 and 9223372036854775808"),
    ],
)
def test_from_document_rejects_invalid_documents(changes, message):
    document = Target.of_classes(["a", "b"], 2).document()
    with pytest.raises(ValueError, match=f"^{message}"):
        Target.from_document({**document, **changes})
