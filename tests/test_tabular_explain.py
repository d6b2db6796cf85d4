"""Tests of the explanations of table models: importances, contributions, calibration and reports."""

import io

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

from nnc import NeuralNetwork
from nnc._report.page import Report
from nnc.tabular import Schema, read_table
from nnc.tabular.explain import integrated_gradients, permutation_importances
from nnc.tabular.temperature import (
    expected_calibration_error,
    fit_mean_ratio,
    fit_temperature,
    with_temperature,
)

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 5))
GROUPS = ((slice(0, 1),), (slice(1, 3),), (), (slice(3, 4), slice(4, 5)))

# --------------------------------------------------------------------------------------------- permutation importances


def losses(A):
    """Return the squared error of a linear model for each row; the last two features have no effect."""
    return (A @ [1, 0.5, -0.5, 0, 0] - X @ [1, 0.5, -0.5, 0, 0]) ** 2


def test_permutation_importances_match_variances_and_follow_seed():
    inputs = X.astype(np.float32)
    mean, error = permutation_importances(losses, inputs, GROUPS, repeats=20, seed=3)
    assert np.array_equal(inputs, X.astype(np.float32))
    # Shuffling increases the loss by the mean squared difference of two values of the column.
    assert mean[0] == pytest.approx(2 * X[:, 0].var(), rel=0.15)
    # The two features of the second group are shuffled in the same order.
    assert mean[1] == pytest.approx(2 * (X[:, 1:3] @ [0.5, -0.5]).var(), rel=0.15)
    assert mean[2:].tolist() == error[2:].tolist() == [0, 0]
    assert 0 < error[0] < mean[0] / 3
    half, _ = permutation_importances(losses, inputs, GROUPS, repeats=20, seed=3, weights=np.full(200, 0.5))
    assert half == pytest.approx(mean)
    reversed_groups, _ = permutation_importances(losses, inputs, GROUPS[::-1], repeats=20, seed=3)
    assert reversed_groups.tolist() == mean[::-1].tolist()  # the order of the columns has no effect on importances
    other_seed, _ = permutation_importances(losses, inputs, GROUPS, repeats=20, seed=4)
    assert other_seed[0] != mean[0]
    for invalid in ({"repeats": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=r"^(repeats must be 1 or more|seed must be a whole number)"):
            permutation_importances(losses, inputs, GROUPS, **invalid)


# -------------------------------------------------------------------------------- contributions by integrated gradients


def test_contributions_to_linear_function_are_exact():
    w, baseline = np.array([1.0, -2, 3, 0.5, 0]), np.full(5, 0.5)
    contributions = integrated_gradients(lambda A: A @ w, lambda A: np.tile(w, (len(A), 1)), X, baseline, GROUPS)
    terms = w * (X - baseline)
    expected = np.stack([terms[:, 0], terms[:, 1] + terms[:, 2], np.zeros(200), terms[:, 3] + terms[:, 4]], axis=1)
    assert np.allclose(contributions, expected, rtol=1e-12)


@pytest.mark.parametrize(("activation", "accuracy"), [("silu", 1e-8), ("elu", 1e-4), ("relu", 0.02)])
def test_contributions_sum_to_difference_from_baseline(activation, accuracy):
    net = NeuralNetwork([5, 32, 32, 1], activation=activation, loss="mse", seed=1)
    net.fit(X, np.sin(3 * X[:, :1]) + X[:, 1:2] ** 2, epochs=100, optimizer="adam", lr=0.01)
    calls = []

    def gradient(A):
        calls.append(len(A))
        return net.vjp(A, np.ones((len(A), 1)))[1]

    def value(A):
        return net.predict(A)[:, 0]

    baseline = np.array([1.0, 0, 0, 0, 0])
    rows = np.concatenate([X[:20], baseline[None]])  # the last row equals the baseline, so its contributions must be 0
    contributions = integrated_gradients(value, gradient, rows, baseline, [(slice(i, i + 1),) for i in range(5)])
    differences = value(rows) - value(baseline[None])
    assert np.allclose(contributions.sum(axis=1), differences, rtol=1e-12, atol=1e-12)
    assert not contributions[-1].any()
    assert sum(calls) < 21 * 8 * 256
    midpoints = (np.arange(20_000) + 0.5)[:, None] / 20_000
    for row, row_contributions in zip(rows[:3], contributions, strict=False):
        exact = (row - baseline) * gradient(baseline + midpoints * (row - baseline)).mean(axis=0)
        assert np.allclose(row_contributions, exact, atol=accuracy * abs(exact).sum())


def test_contributions_do_not_depend_on_other_rows():
    def value(A):
        return np.tanh(A).sum(axis=1)

    def gradient(A):
        return 1 / np.cosh(A) ** 2

    wide = np.tile(X, (1, 400))
    groups = [(slice(0, 1000),), (slice(1000, 2000),)]
    contributions = integrated_gradients(value, gradient, 9 * wide, np.zeros(2000), groups)
    single_rows = [integrated_gradients(value, gradient, 9 * row[None], np.zeros(2000), groups)[0] for row in wide[:3]]
    assert np.allclose(contributions[:3], single_rows, rtol=1e-12)
    assert np.allclose(contributions[:, 0] + contributions[:, 1], value(9 * wide), rtol=1e-12)
    assert np.allclose(contributions[:, 0], np.tanh(9 * wide)[:, :1000].sum(axis=1), rtol=1e-5, atol=1e-3)


def test_integrated_gradients_rejects_wrong_gradient_or_tolerance():
    with pytest.raises(ValueError, match=r"^gradient must return the derivatives of value, but on the path to row 0"):
        integrated_gradients(lambda A: A.sum(axis=1), lambda A: np.zeros_like(A), X, np.zeros(5), GROUPS)
    with pytest.raises(ValueError, match=r"^tolerance must be a positive"):
        integrated_gradients(lambda A: A.sum(axis=1), np.ones_like, X, np.zeros(5), GROUPS, tolerance=0)


# ------------------------------------------------------------------------------------ temperature and calibration error

LOGITS = rng.normal(size=(3000, 4))
P = with_temperature(np.exp(LOGITS), 1)
INDEX = np.array([rng.choice(4, p=p) for p in P])


def cross_entropy(temperature, index=INDEX):
    return -np.log(with_temperature(P, temperature)[np.arange(3000), index]).mean()


def test_fitted_temperature_minimizes_cross_entropy():
    temperature = fit_temperature(LOGITS, INDEX)
    assert temperature == pytest.approx(1, abs=0.1)
    assert cross_entropy(temperature) < min(cross_entropy(1.01 * temperature), cross_entropy(temperature / 1.01)) + 1e-6
    assert fit_temperature(3 * LOGITS, INDEX) == pytest.approx(3 * temperature, rel=1e-9)
    # A constant added to all logits has no effect.
    assert fit_temperature(np.log(P) + 7, INDEX) == pytest.approx(temperature, rel=1e-9)
    weights = rng.integers(0, 3, 3000)
    repeated = fit_temperature(np.repeat(LOGITS, weights, axis=0), np.repeat(INDEX, weights))
    assert fit_temperature(LOGITS, INDEX, weights) == pytest.approx(repeated, rel=2e-3)


def test_ratio_of_temperatures_calibrates_mean_of_two_networks():
    rng = np.random.default_rng(5)
    noisy = np.log(with_temperature(np.exp(LOGITS + 1.5 * rng.standard_normal((2, *LOGITS.shape))), 1))
    ratio = fit_mean_ratio(noisy, INDEX, None)
    single = fit_temperature(np.concatenate(noisy), np.tile(INDEX, 2))

    def mean_cross_entropy(factor):
        probabilities = with_temperature(np.exp(noisy), single * factor).mean(axis=0)
        return -np.log(probabilities[np.arange(3000), INDEX]).mean()

    assert 0.6 < ratio < 0.95
    assert mean_cross_entropy(ratio) < min(mean_cross_entropy(factor) for factor in (0.95 * ratio, 1.05 * ratio, 1))
    assert fit_mean_ratio(noisy, INDEX, np.full(3000, 0.5)) == pytest.approx(ratio, rel=1e-6)
    assert fit_mean_ratio(noisy[[0, 0]], INDEX, None) == pytest.approx(1, abs=0.02)  # equal networks
    assert fit_mean_ratio(noisy[:, :299], INDEX[:299], None) == 1


def test_temperature_is_bounded_for_perfect_and_for_wrong_predictions():
    perfect = np.eye(3)[[0, 1, 2] * 10]
    T = fit_temperature(perfect, [0, 1, 2] * 10)
    assert 0.1 < T < 1
    # To the 30 rows, the fit adds 2 rows of unknown class, which keep the probability below 1.
    assert with_temperature(np.exp(perfect), T).max() == pytest.approx(1 - 2 / 3 * 2 / 32)
    # Predictions that are worse than chance get the largest allowed temperature.
    assert fit_temperature(perfect, [1, 2, 0] * 10) == 100
    assert fit_temperature(1e-6 * perfect, [0, 1, 2] * 10) == 0.01


def test_with_temperature_sharpens_probabilities():
    assert np.allclose(with_temperature(P, 1), P, rtol=1e-12)
    assert np.allclose(with_temperature([[0.2, 0.8]], 0.5), [[0.04 / 0.68, 0.64 / 0.68]])
    sharpened = with_temperature([[0.0, 0.25, 0.75]], 0.01)
    assert np.allclose(sharpened, [[0, 0, 1]])
    assert np.isfinite(with_temperature(np.zeros((1, 3)), 2)).all()
    with pytest.raises(ValueError, match=r"^temperature must be a positive finite number, got 0"):
        with_temperature(P, 0)


def test_expected_calibration_error_equals_mean_gap_of_bins():
    confident = np.array([[0.9, 0.1]] * 10)
    assert expected_calibration_error(confident, [0] * 9 + [1]) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(confident, [0] * 5 + [1] * 5) == pytest.approx(0.4)
    both = np.concatenate([confident, [[0.45, 0.55]] * 10])  # the two bins have errors |1 - 0.9| and |0.5 - 0.55|
    assert expected_calibration_error(both, [0] * 10 + [0, 1] * 5) == pytest.approx((0.1 + 0.05) / 2)
    assert expected_calibration_error(both, [0] * 10 + [0, 1] * 5, bins=1) == pytest.approx(abs(0.75 - 0.725))
    assert expected_calibration_error([[1.0, 0.0], [1.0, 0.0]], [0, 0]) == 0
    assert expected_calibration_error(P, INDEX) < 0.04 < expected_calibration_error(with_temperature(P, 0.3), INDEX)


@pytest.mark.parametrize(
    ("logits", "index", "message"),
    [
        (np.ones(3), [0, 0, 0], r"{} must have shape \(rows, classes\) with two classes or more, got \(3,\)"),
        (np.ones((3, 1)), [0, 0, 0], r"{} must have shape \(rows, classes\) with two classes or more, got \(3, 1\)"),
        (np.ones((3, 2)), [0, 0], r"index must be 3 integers, one for each row, got int64 of shape \(2,\)"),
        (np.ones((3, 2)), [0.0, 0, 0], r"index must be 3 integers, one for each row, got float64 of shape \(3,\)"),
        (np.ones((3, 2)), [0, 0, 2], r"index must be from 0 to 1, got 0 to 2"),
        (np.array([[0, 1], [np.nan, 0]]), [0, 0], r"{} must be finite, got nan in row 1, column 0"),
    ],
)
def test_calibration_rejects_invalid_logits_and_indices(logits, index, message):
    index = np.array(index, np.int64 if isinstance(index[0], int) else None)
    for name, function in (("logits", fit_temperature), ("P", expected_calibration_error)):
        with pytest.raises(ValueError, match="^" + message.replace("{}", name)):
            function(logits, index)


def test_fit_temperature_rejects_zero_or_negative_weights():
    for weights in (np.zeros(3000), np.arange(3000) - 1):
        with pytest.raises(ValueError, match=r"^sample_weight must be 0 or more, and not zero for all rows"):
            fit_temperature(LOGITS, INDEX, weights)


# --------------------------------------------------------------------------------------------- reports


def build_report(n_columns=2, **settings):
    rows = [[i % 7 + 0.5 * j for j in range(n_columns)] + ["abc"[i % 3]] for i in range(40)]
    names = [f"a<{j}>" for j in range(n_columns)] + ["city"]
    columns = Schema.learn(read_table(rows, names=names)).describe()
    return Report("TableClassifier", {"rows": "40", "time": "7.9 s & more"}, columns, **settings)


def test_text_report_lists_facts_columns_and_curves():
    lines = str(build_report()).splitlines()
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
    text = str(build_report(importances=importances, curves={"accuracy": [0.5, 0.75, 1], "loss": [3, 1]}))
    importance_rows = [line.split()[:1] + line.split()[-3:] for line in text.splitlines()[5:8]]
    assert importance_rows == [
        ["a<1>", "0.5000", "+-", "0.1250"],
        ["city", "0.2500", "+-", "0.0500"],
        ["a<0>", "0.0000", "+-", "0.0000"],
    ]
    assert "from 0.5 to 1" in text.splitlines()[-2]
    assert "from 3 to 1" in text.splitlines()[-1]
    assert repr(build_report()) == str(build_report())
    wide = str(build_report(n_columns=70))
    assert "a<49>" in wide
    assert "a<50>" not in wide
    assert wide.splitlines()[-1] == "and 21 more columns"


def test_html_report_is_escaped_and_saved(tmp_path):
    html_report = build_report(importances={"city": (0.25, 0.05)}, curves={"accuracy": [0.5, 0.75, 1]})
    page = html_report._repr_html_()
    assert "<td>a&lt;0&gt;</td>" in page
    assert "7.9 s &amp; more" in page
    assert "a<0>" not in page
    assert page.index("city") < page.index("a&lt;0&gt;")
    assert page.count("<svg") == 2  # the page has a plot of the importances and one of the curves
    html_report.save(tmp_path / "report.html")
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert written.startswith("<!DOCTYPE html>")
    assert page in written
    assert "<h1>TableClassifier</h1>" in written
    file = io.StringIO()
    html_report.save(file)
    assert file.getvalue() == written
    with pytest.raises(OSError, match="report"):
        html_report.save(tmp_path / "nowhere" / "report.html")
