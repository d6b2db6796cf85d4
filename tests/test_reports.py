"""Tests of reports: statistics of predictions, pages of table models and networks, escaping and sizes."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnc
from nnc._drawing import charts
from nnc._report.outcomes import N_CELLS, ClassOutcomes, NumberOutcomes
from nnc._report.page import Report
from nnc._report.sections import accuracy_interval
from nnc.datasets import load_digits, train_test_split
from nnc.layers import Conv2D, Input, MaxPool2D

HOSTILE = '<script>alert("1")</script>&\'"><b>'
VOID = {"meta", "img", "br", "link", "input"}


class PageParser(HTMLParser):
    """Parser that records elements, attributes and texts, and fails on unbalanced elements."""

    def __init__(self):
        super().__init__()
        self.open_elements, self.elements, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open_elements.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open_elements.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parse(page):
    """Return the parsed page, after checks that hold for each report: no scripts, no links to other files."""
    parser = PageParser()
    parser.feed(page)
    parser.close()
    assert parser.open_elements == []
    for tag, attributes in parser.elements:
        assert tag not in ("script", "link", "iframe", "object", "b")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "src"):
            assert attributes.get(name, "data:").startswith("data:image/png;base64,") or name not in attributes
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    return parser


def saved(report, tmp_path, **options):
    """Return the page that a report saves."""
    report.save(tmp_path / "report.html", **options)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def digits():
    """Return a convolutional network and rows that have not trained it."""
    X, y = load_digits()
    X_train, X_test, y_train, y_test = train_test_split(X.reshape(-1, 8, 8), y, seed=0)
    layers = [Input(8, 8), Conv2D(8, 3), MaxPool2D(2), 10]
    net = nnc.NeuralNetwork(layers, activation="relu", loss="cross_entropy", dtype="float32", seed=0)
    net.fit(X_train, y_train, epochs=3, optimizer="adam", batch_size=32, validation=(X_test, y_test))
    return net, X_test, y_test


# ------------------------------------------------------------------------------------------ statistics


def test_class_outcomes_count_pairs_and_calibrate_groups():
    P = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    outcomes = ClassOutcomes.compute(P, np.array([0, 1, 1, 0]))
    assert (outcomes.n, outcomes.n_correct) == (4, 3)
    assert outcomes.confusion.tolist() == [[2, 0], [1, 1]]
    assert outcomes.class_rows.tolist() == [2, 2]
    assert outcomes.groups == pytest.approx(np.array([[4, 0.75, 0.75]]))
    many = ClassOutcomes.compute(np.full((100, 60), 1 / 60), np.arange(100) % 60)
    assert many.confusion is None
    assert many.groups[:, 0].tolist() == [20] * 5


@given(st.integers(1, 300), st.sampled_from([1e-300, 1.0, 1e300]), st.booleans())
def test_number_outcomes_match_definitions(n, unit, is_constant):
    rng = np.random.default_rng(n)
    true, predicted = (np.zeros((2, n)) if is_constant else rng.normal(size=(2, n))) * unit
    outcomes = NumberOutcomes.compute(predicted, true)
    scaled = np.array([outcomes.rmse, outcomes.mae, outcomes.deviation]) / unit
    errors = (predicted - true) / unit
    assert scaled == pytest.approx([np.sqrt((errors**2).mean()), abs(errors).mean(), (true / unit).std()])
    assert outcomes.density.sum() == outcomes.groups[:, 0].sum() == n
    assert outcomes.limits == (min(true.min(), predicted.min()), max(true.max(), predicted.max()))
    again = NumberOutcomes.from_document(outcomes.document(), "outcomes")
    assert again.document() == outcomes.document()


@pytest.mark.parametrize(
    "changes",
    [
        {"confusion": [[1, 2]]},
        {"confusion": [[1, 2], [3, -4]]},
        {"confusion": [[1, 2], [3, 0.5]]},
        {"confusion": [[1, 2], [3, 1e300]]},
        {"class_rows": [1]},
        {"class_rows": None},
        {"groups": [[1, 2]]},
        {"n": -1},
        {"n_correct": True},
        {"other": 1},
    ],
)
def test_invalid_statistics_of_classes_are_rejected(changes):
    document = ClassOutcomes.compute(np.eye(2), np.array([0, 1])).document()
    assert ClassOutcomes.from_document(document, 2, "outcomes").document() == document
    with pytest.raises(ValueError, match="outcomes"):
        ClassOutcomes.from_document({**document, **changes}, 2, "outcomes")


@pytest.mark.parametrize(
    "changes",
    [
        {"density": [[0, 0]]},
        {"density": [[N_CELLS, 0, 1]]},
        {"density": [[0, -1, 1]]},
        {"limits": [2, 1]},
        {"limits": [0]},
        {"rmse": "x"},
        {"mae": None},
        {"groups": 3},
    ],
)
def test_invalid_statistics_of_numbers_are_rejected(changes):
    document = NumberOutcomes.compute(np.arange(5.0), np.ones(5)).document()
    with pytest.raises(ValueError, match="outcomes"):
        NumberOutcomes.from_document({**document, **changes}, "outcomes")


def test_accuracy_interval_is_that_of_wilson():
    assert accuracy_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    low, high = accuracy_interval(1.0, 10)
    assert low == pytest.approx(0.7225, abs=1e-4)
    assert high == 1


# ---------------------------------------------------------------------------------------------- charts


@pytest.mark.parametrize("n", [2, 12, 50])
def test_texts_of_confusion_matrix_are_inside_drawing(n):
    labels = [f"class {i}" for i in range(n)] if n > 2 else ["a" * 80, "b"]
    drawing = charts.draw_confusion(np.eye(n, dtype=np.int64) * 123, labels)
    for x, y in re.findall(r'<text[^>]* x="([\d.-]+)" y="([\d.-]+)"', str(drawing)):
        assert 0 <= float(x) <= drawing.width
        assert 0 <= float(y) <= drawing.height
    assert str(drawing).count("<rect") == n * n + 1


@pytest.mark.parametrize("values", [[0.5, -0.25, 0.0], [0.0, 0.0, 0.0], [np.float64(1e-300)] * 3])
def test_bars_are_inside_drawing(values):
    drawing = charts.draw_bars(["a", "b", "c"], np.array(values), np.array([0.1, np.nan, 0.0]), "decrease")
    for x, width in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', str(drawing)):
        assert float(x) + float(width) <= drawing.width


# ---------------------------------------------------------------------------------------------- networks


def test_report_of_image_classifier_shows_matrix_calibration_images_and_curves(digits, tmp_path):
    net, X, y = digits
    report = nnc.report(net, X, y)
    assert f"accuracy {net.score(X, y):.4g}, balanced accuracy 0." in str(report)
    assert f"accuracy {np.bincount(y).max() / len(y):.4g} for always predicting the most frequent class" in str(report)
    assert len(str(report).splitlines()) <= 24
    confusion = report.outcomes.confusion
    assert np.trace(confusion) == round(net.score(X, y) * len(y))
    page = saved(report, tmp_path, title="Digits on forms")
    parser = parse(page)
    assert [tag for tag, _ in parser.elements].count("svg") == 3
    headings = re.findall("<h[12]>([^<]*)</h[12]>", page)
    assert headings == [
        "Digits on forms",
        "Data and model",
        "Validation",
        "Wrong predictions with the highest probabilities",
        "Examples of correct predictions",
        "Training curves",
        "Reproduction",
    ]
    captions = [text for text in parser.texts if ", predicted " in text and "%)" in text and "rows" not in text]
    wrong = int((net.predict_classes(X) != y).sum())
    assert len(captions) == min(wrong, 24)
    assert "NeuralNetwork([Input(8, 8, 1)" in page
    assert len(page) < 150_000


def test_report_of_image_rows_equals_that_of_images(digits):
    net, X, y = digits
    assert nnc.report(net, X.reshape(len(X), -1), y)._repr_html_() == nnc.report(net, X, y)._repr_html_()


def test_images_are_reduced_and_scaled_to_bytes():
    X = np.random.default_rng(0).normal(size=(6, 100, 130, 3))
    net = nnc.NeuralNetwork([Input(100, 130, 3), Conv2D(1, 3, stride=9), 2], loss="cross_entropy", seed=0)
    page = nnc.report(net, X, [0, 1, 0, 1, 0, 1])._repr_html_()
    assert "data:image/png" in page
    assert len(page) < 200_000


@pytest.mark.parametrize("loss", ["bce", "hinge"])
def test_report_of_binary_classifier_counts_correct_rows(loss, tmp_path):
    X = np.random.default_rng(0).normal(size=(80, 3))
    y = np.where(X[:, 0] > 0, HOSTILE, "no")
    net = nnc.NeuralNetwork([3, 1], loss=loss, seed=0)
    net.fit(X, y, epochs=20, lr=0.1)
    report = nnc.report(net, X, y)
    assert report.outcomes.n_correct == round(80 * net.score(X, y))
    assert len(report.outcomes.groups) == (4 if loss == "bce" else 0)
    parser = parse(saved(report, tmp_path))
    assert any(HOSTILE[:30] in text for text in parser.texts)


def test_report_of_regression_network_states_r2_and_targets(tmp_path):
    X = np.random.default_rng(0).normal(size=(80, 3))
    net = nnc.NeuralNetwork([3, 2], loss="mse", seed=0)
    net.fit(X, X[:, :2], epochs=20, lr=0.1)
    report = nnc.report(net, X, X[:, :2])
    assert f"R^2 {net.score(X, X[:, :2]):.4g}" in str(report)
    assert list(report.outcomes) == ["target 1", "target 2"]
    parse(saved(report, tmp_path))


def test_report_of_a_target_without_name_is_a_sentence(tmp_path):
    X = np.random.default_rng(0).normal(size=(80, 3))
    net = nnc.NeuralNetwork([3, 1], loss="mse", scale_y="standardize", seed=0)
    net.fit(X, 1e5 * X[:, 0] + 3e4 * X[:, 1] ** 2, epochs=20, lr=0.1)
    page = saved(nnc.report(net, X, 1e5 * X[:, 0] + 3e4 * X[:, 1] ** 2), tmp_path)
    assert re.search(r"mean absolute error of the target is [\d,]+\. The root mean squared error is \d\d,\d{3},", page)
    assert "Predicted against true target for 80 rows" in page
    assert ">predicted target<" in page


def test_report_of_untrained_network_has_no_curves(tmp_path):
    report = nnc.report(nnc.NeuralNetwork([2, 1], loss="bce", seed=0), np.eye(2), [0, 1])
    assert not report.curves
    assert "Training curves" not in saved(report, tmp_path)


def test_report_rejects_other_models_and_rows(digits):
    net, X, y = digits
    with pytest.raises(TypeError, match="net must be a NeuralNetwork"):
        nnc.report("net", X, y)
    with pytest.raises(ValueError, match="X must have shape"):
        nnc.report(net, X[:, :3], y)
    with pytest.raises(ValueError, match="one class for each row"):
        nnc.report(nnc.NeuralNetwork([2, 2], loss="bce"), np.eye(2), np.eye(2))


# ---------------------------------------------------------------------------------------------- tables


@pytest.fixture(scope="module")
def table_models():
    """Return a classifier and a regressor whose labels, columns and target have hostile names."""
    pytest.importorskip("sklearn", "1.9")
    pd = pytest.importorskip("pandas")
    from nnc.tabular import TableClassifier, TableRegressor

    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    frame = pd.DataFrame({HOSTILE: x, "noise": rng.normal(size=200), "same": 1.0})
    labels = pd.Series(np.where(x + rng.normal(size=200) > 0, HOSTILE, "no"), name=HOSTILE)
    numbers = pd.Series(3 * x + rng.normal(size=200), name=HOSTILE)
    classifier = TableClassifier("fast", members=2, random_state=0).fit(frame, labels)
    return classifier, TableRegressor("fast", members=2, random_state=0).fit(frame, numbers)


@pytest.mark.parametrize("index", [0, 1])
def test_page_of_table_model_is_escaped_and_complete(table_models, tmp_path, index):
    report = table_models[index].report()
    page = saved(report, tmp_path)
    parser = parse(page)
    headings = re.findall("<h2>([^<]*)</h2>", page)
    assert headings == [
        "Data and model",
        "Validation",
        "Importance of the columns",
        "Training curves",
        "Columns",
        "Reproduction",
    ]
    assert [tag for tag, _ in parser.elements].count("svg") == 4
    assert any("left out: all values are equal" in text for text in parser.texts)
    assert "random_state=0).fit(X, y)" in page
    assert len(page) < 60_000
    assert len(str(report).splitlines()) <= 20
    assert "@media print" in page
    assert "color-scheme: light dark" in page


@pytest.mark.parametrize("index", [0, 1])
def test_report_of_loaded_model_equals_original(table_models, tmp_path, index):
    model = table_models[index]
    model.save(tmp_path / "model.json")
    assert saved(nnc.load(tmp_path / "model.json").report(), tmp_path) == saved(model.report(), tmp_path)


def test_charts_count_all_held_out_rows(table_models):
    classifier, regressor = table_models
    assert classifier.report().outcomes.confusion.sum() == classifier.held_out_.n
    (outcomes,) = regressor.report().outcomes.values()
    assert outcomes.density.sum() == regressor.held_out_.n
    assert outcomes.rmse < outcomes.deviation


def test_page_with_many_columns_and_classes_is_limited(tmp_path):
    columns = [type("Column", (), {"column": f"c{i}", "kind": "number", "encoding": "a number"})() for i in range(3000)]
    importances = {column.column: (0.1, 0.01) for column in columns}
    outcomes = ClassOutcomes.compute(np.eye(45), np.arange(45))
    report = Report("Model", {}, columns, importances, outcomes=outcomes, labels=[HOSTILE * 3] * 45)
    page = saved(report, tmp_path)
    parse(page)
    assert "and 2,000 more columns" in page
    assert "The other 2,980 columns are less important." in page
    assert len(page) < 300_000
