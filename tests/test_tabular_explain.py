"""What a model of a table says of itself: what columns are worth, what a prediction rests on, how far to trust it."""

import io

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

from nnc import NeuralNetwork
from nnc.tabular import Schema, read_table
from nnc.tabular.explain import integrated_gradients, permutation_importances
from nnc.tabular.report import Report
from nnc.tabular.temperature import expected_calibration_error, fit_temperature, with_temperature

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 5))
GROUPS = ((slice(0, 1),), (slice(1, 3),), (), (slice(3, 4), slice(4, 5)))

# --------------------------------------------------------------------------------------------- importances


def losses(A):
    return (A @ [1, 0.5, -0.5, 0, 0] - X @ [1, 0.5, -0.5, 0, 0]) ** 2


def test_importances():
    given = X.astype(np.float32)
    mean, error = permutation_importances(losses, given, GROUPS, repeats=20, seed=3)
    assert np.array_equal(given, X.astype(np.float32))
    assert mean[0] == pytest.approx(2 * X[:, 0].var(), rel=0.15)  # of two draws of a column
    assert mean[1] == pytest.approx(2 * (X[:, 1:3] @ [0.5, -0.5]).var(), rel=0.15)  # shuffled together
    assert mean[2:].tolist() == error[2:].tolist() == [0, 0]
    assert 0 < error[0] < mean[0] / 3
    half, _ = permutation_importances(losses, given, GROUPS, repeats=20, seed=3, weights=np.full(200, 0.5))
    assert half == pytest.approx(mean)
    again, _ = permutation_importances(losses, given, GROUPS[::-1], repeats=20, seed=3)
    assert again.tolist() == mean[::-1].tolist()  # no column depends on the others
    other, _ = permutation_importances(losses, given, GROUPS, repeats=20, seed=4)
    assert other[0] != mean[0]
    for wrong in ({"repeats": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=r"^(repeats must be 1 or more|seed must be a whole number)"):
            permutation_importances(losses, given, GROUPS, **wrong)


# --------------------------------------------------------------------------------------------- contributions


def test_contributions_of_a_linear_function():
    w, baseline = np.array([1.0, -2, 3, 0.5, 0]), np.full(5, 0.5)
    given = integrated_gradients(lambda A: A @ w, lambda A: np.tile(w, (len(A), 1)), X, baseline, GROUPS)
    parts = w * (X - baseline)
    expected = np.stack([parts[:, 0], parts[:, 1] + parts[:, 2], np.zeros(200), parts[:, 3] + parts[:, 4]], axis=1)
    assert np.allclose(given, expected, rtol=1e-12)


@pytest.mark.parametrize(("activation", "accuracy"), [("silu", 1e-8), ("elu", 1e-4), ("relu", 0.02)])
def test_contributions_add_up(activation, accuracy):
    net = NeuralNetwork([5, 32, 32, 1], activation=activation, loss="mse", seed=1)
    net.fit(X, np.sin(3 * X[:, :1]) + X[:, 1:2] ** 2, epochs=100, optimizer="adam", lr=0.01)
    calls = []

    def gradient(A):
        calls.append(len(A))
        return net.vjp(A, np.ones((len(A), 1)))[1]

    def value(A):
        return net.predict(A)[:, 0]

    baseline = np.array([1.0, 0, 0, 0, 0])
    rows = np.concatenate([X[:20], baseline[None]])  # nothing is to be explained of the last
    given = integrated_gradients(value, gradient, rows, baseline, [(slice(i, i + 1),) for i in range(5)])
    differences = value(rows) - value(baseline[None])
    assert np.allclose(given.sum(axis=1), differences, rtol=1e-12, atol=1e-12)
    assert not given[-1].any()
    assert sum(calls) < 21 * 8 * 256
    middles = (np.arange(20_000) + 0.5)[:, None] / 20_000
    for row, parts in zip(rows[:3], given, strict=False):
        exact = (row - baseline) * gradient(baseline + middles * (row - baseline)).mean(axis=0)
        assert np.allclose(parts, exact, atol=accuracy * abs(exact).sum())


def test_contributions_of_many_rows_are_those_of_each():
    def value(A):
        return np.tanh(A).sum(axis=1)

    def gradient(A):
        return 1 / np.cosh(A) ** 2

    wide = np.tile(X, (1, 400))
    groups = [(slice(0, 1000),), (slice(1000, 2000),)]
    given = integrated_gradients(value, gradient, 9 * wide, np.zeros(2000), groups)
    alone = [integrated_gradients(value, gradient, 9 * row[None], np.zeros(2000), groups)[0] for row in wide[:3]]
    assert np.allclose(given[:3], alone, rtol=1e-12)
    assert np.allclose(given[:, 0] + given[:, 1], value(9 * wide), rtol=1e-12)
    assert np.allclose(given[:, 0], np.tanh(9 * wide)[:, :1000].sum(axis=1), rtol=1e-5, atol=1e-3)


def test_gradients_of_something_else():
    with pytest.raises(ValueError, match=r"^gradient must be the gradient of value, got the integral .* for row 0"):
        integrated_gradients(lambda A: A.sum(axis=1), lambda A: np.zeros_like(A), X, np.zeros(5), GROUPS)
    with pytest.raises(ValueError, match=r"^tolerance must be a positive"):
        integrated_gradients(lambda A: A.sum(axis=1), np.ones_like, X, np.zeros(5), GROUPS, tolerance=0)


# --------------------------------------------------------------------------------------------- temperature

LOGITS = rng.normal(size=(3000, 4))
P = with_temperature(np.exp(LOGITS), 1)
INDEX = np.array([rng.choice(4, p=p) for p in P])


def cross_entropy(temperature, index=INDEX):
    return -np.log(with_temperature(P, temperature)[np.arange(3000), index]).mean()


def test_temperature():
    found = fit_temperature(LOGITS, INDEX)
    assert found == pytest.approx(1, abs=0.1)
    assert cross_entropy(found) < min(cross_entropy(1.01 * found), cross_entropy(found / 1.01)) + 1e-6
    assert fit_temperature(3 * LOGITS, INDEX) == pytest.approx(3 * found, rel=1e-9)
    assert fit_temperature(np.log(P) + 7, INDEX) == pytest.approx(found, rel=1e-9)  # a shift does not count
    weights = rng.integers(0, 3, 3000)
    repeated = fit_temperature(np.repeat(LOGITS, weights, axis=0), np.repeat(INDEX, weights))
    assert fit_temperature(LOGITS, INDEX, weights) == pytest.approx(repeated, rel=2e-3)


def test_temperature_at_the_ends():
    right = np.eye(3)[[0, 1, 2] * 10]
    T = fit_temperature(right, [0, 1, 2] * 10)
    assert 0.1 < T < 1
    assert with_temperature(np.exp(right), T).max() == pytest.approx(1 - 2 / 3 * 2 / 32)  # 30 rows, two unknown
    assert fit_temperature(right, [1, 2, 0] * 10) == 100  # worse than chance
    assert fit_temperature(1e-6 * right, [0, 1, 2] * 10) == 0.01


def test_probabilities_at_a_temperature():
    assert np.allclose(with_temperature(P, 1), P, rtol=1e-12)
    assert np.allclose(with_temperature([[0.2, 0.8]], 0.5), [[0.04 / 0.68, 0.64 / 0.68]])
    cold = with_temperature([[0.0, 0.25, 0.75]], 0.01)
    assert np.allclose(cold, [[0, 0, 1]])
    assert np.isfinite(with_temperature(np.zeros((1, 3)), 2)).all()
    with pytest.raises(ValueError, match=r"^temperature must be a positive finite number, got 0"):
        with_temperature(P, 0)


def test_calibration_error():
    sure = np.array([[0.9, 0.1]] * 10)
    assert expected_calibration_error(sure, [0] * 9 + [1]) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(sure, [0] * 5 + [1] * 5) == pytest.approx(0.4)
    both = np.concatenate([sure, [[0.45, 0.55]] * 10])  # two bins: |1 - 0.9| and |0.5 - 0.55|
    assert expected_calibration_error(both, [0] * 10 + [0, 1] * 5) == pytest.approx((0.1 + 0.05) / 2)
    assert expected_calibration_error(both, [0] * 10 + [0, 1] * 5, bins=1) == pytest.approx(abs(0.75 - 0.725))
    assert expected_calibration_error([[1.0, 0.0], [1.0, 0.0]], [0, 0]) == 0
    assert expected_calibration_error(P, INDEX) < 0.04 < expected_calibration_error(with_temperature(P, 0.3), INDEX)


@pytest.mark.parametrize(
    ("logits", "index", "message"),
    [
        (np.ones(3), [0, 0, 0], r"{} must have shape \(rows, classes\) with two classes or more, got \(3,\)"),
        (np.ones((3, 1)), [0, 0, 0], r"{} must have shape \(rows, classes\) with two classes or more, got \(3, 1\)"),
        (np.ones((3, 2)), [0, 0], r"index must be 3 integers, one for each row, got int64 of \(2,\)"),
        (np.ones((3, 2)), [0.0, 0, 0], r"index must be 3 integers, one for each row, got float64 of \(3,\)"),
        (np.ones((3, 2)), [0, 0, 2], r"index must be from 0 to 1, got 0 to 2"),
        (np.array([[0, 1], [np.nan, 0]]), [0, 0], r"{} must be finite, got nan in row 1, column 0"),
    ],
)
def test_rows_that_cannot_be_judged(logits, index, message):
    index = np.array(index, np.int64 if isinstance(index[0], int) else None)
    for name, function in (("logits", fit_temperature), ("P", expected_calibration_error)):
        with pytest.raises(ValueError, match="^" + message.replace("{}", name)):
            function(logits, index)


def test_weights_that_say_nothing():
    for weights in (np.zeros(3000), np.arange(3000) - 1):
        with pytest.raises(ValueError, match=r"^sample_weight must be 0 or more, and not zero for all rows"):
            fit_temperature(LOGITS, INDEX, weights)


# --------------------------------------------------------------------------------------------- report


def report(n_columns=2, **settings):
    rows = [[i % 7 + 0.5 * j for j in range(n_columns)] + ["abc"[i % 3]] for i in range(40)]
    names = [f"a<{j}>" for j in range(n_columns)] + ["city"]
    columns = Schema.learn(read_table(rows, names=names)).describe()
    return Report("TableClassifier", {"rows": "40", "time": "7.9 s & more"}, columns, **settings)


def test_report_as_text():
    lines = str(report()).splitlines()
    assert lines[:5] == [
        "TableClassifier",
        "  rows  40",
        "  time  7.9 s & more",
        "",
        "column  kind    encoding",
    ]
    assert lines[5:] == [
        "a<0>    number  a number, scaled",
        "a<1>    number  a number, scaled",
        "city    text    3 categories",
    ]
    importances = {"city": (0.25, 0.05), "a<1>": (0.5, 0.125)}
    text = str(report(importances=importances, curves={"accuracy": [0.5, 0.75, 1], "loss": [3, 1]}))
    ends = [line.split()[:1] + line.split()[-3:] for line in text.splitlines()[5:8]]
    assert ends == [
        ["a<1>", "0.5000", "+-", "0.1250"],
        ["city", "0.2500", "+-", "0.0500"],
        ["a<0>", "0.0000", "+-", "0.0000"],
    ]
    assert "from 0.5 to 1" in text.splitlines()[-2]
    assert "from 3 to 1" in text.splitlines()[-1]
    assert repr(report()) == str(report())
    many = str(report(n_columns=70))
    assert "a<49>" in many
    assert "a<50>" not in many
    assert many.splitlines()[-1] == "and 21 more columns"


def test_report_as_html(tmp_path):
    made = report(importances={"city": (0.25, 0.05)}, curves={"accuracy": [0.5, 0.75, 1]})
    page = made._repr_html_()
    assert "<td>a&lt;0&gt;</td>" in page
    assert "7.9 s &amp; more" in page
    assert "a<0>" not in page
    assert page.index("city") < page.index("a&lt;0&gt;")
    assert page.count("<svg") == 1
    made.save(tmp_path / "report.html")
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert written.startswith("<!DOCTYPE html>")
    assert page in written
    assert "<h1>TableClassifier</h1>" in written
    file = io.StringIO()
    made.save(file)
    assert file.getvalue() == written
    with pytest.raises(OSError, match="report"):
        made.save(tmp_path / "nowhere" / "report.html")
