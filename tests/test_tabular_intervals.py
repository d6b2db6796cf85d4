"""Tests of prediction intervals and sets of table models: coverage, width and files of earlier versions."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

import nnc
from nnc.tabular import TableClassifier, TableRegressor, file, read_table
from nnc.tabular.intervals import MIN_SPREAD_ROWS, calibrate

MODELS = Path(__file__).parent / "models"
NEW = [[0.5, -0.25, "a"], [-1.25, 0.75, "b"], [2.5, None, "c"], [0.0, 0.0, "d"]]


def build_heteroscedastic(rng, n):
    """Return n rows; the standard deviation of the noise increases with x from 0.2 to 1."""
    x = rng.random(n)
    return x[:, None], x + 0.2 * (1 + 4 * x) * rng.standard_normal(n)


def build_skewed(rng, n):
    """Return n rows with a heavy-tailed target that is never negative."""
    X = rng.standard_normal((n, 3))
    return X, np.exp(0.8 * X[:, 0] - 0.5 * X[:, 1] + 0.8 * rng.standard_normal(n))


def is_covered(model, X, y, level=0.9, **options):
    """Return for each row whether its prediction interval contains the target."""
    low, high = model.predict_interval(X, level, **options)
    return (low <= y) & (y <= high)


def test_intervals_cover_rows_of_low_and_of_high_spread():
    thirds = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        model = TableRegressor("fast", random_state=seed).fit(*build_heteroscedastic(rng, 2000))
        X, y = build_heteroscedastic(rng, 6000)
        order = np.argsort(X[:, 0])
        thirds.append([part.mean() for part in np.split(is_covered(model, X, y)[order], 3)])
    # Intervals of equal width would cover 1.00, 0.91 and 0.78 of the thirds.
    assert np.abs(np.mean(thirds, axis=0) - 0.9).max() < 0.05


@pytest.mark.parametrize("build", [build_heteroscedastic, build_skewed])
def test_marginal_coverage_equals_level(build):
    coverages, sizes = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        model = TableRegressor("fast", members=5, random_state=seed).fit(*build(rng, 400))
        sizes.append(len(model.held_out_.scores))
        X, y = build(rng, 2000)
        coverages.append([is_covered(model, X, y, level).mean() for level in (0.5, 0.8, 0.9)])
    for level, mean in zip((0.5, 0.8, 0.9), np.mean(coverages, axis=0), strict=True):
        n = min(sizes)  # bound the error by the model with the fewest calibration rows
        error = np.sqrt(level * (1 - level) * (1 / n + 1 / 2000) / len(sizes))
        assert abs(mean - level) < 4 * error + 1 / (n + 1), level


def test_calibration_is_exact_for_meaningless_spread():
    """For n calibration rows, mean coverage is between level and level + 1 / (n + 1), although the spread is noise."""
    coverages, n, level = [], MIN_SPREAD_ROWS, 0.9
    for seed in range(150):
        rng = np.random.default_rng(seed)
        inputs, errors = rng.standard_normal((n + 200, 3)).astype(np.float32), rng.exponential(size=(n + 200, 1))
        spread, scores = calibrate(errors[:n], lambda rows, inputs=inputs: inputs[rows], None, np.arange(n), seed)
        assert spread is not None
        assert len(scores) == n // 2
        limit = np.sort(scores, axis=0)[int(np.ceil(level * (n // 2 + 1))) - 1]
        coverages.append(np.mean(errors[n:] / spread.predict(inputs[n:]) <= limit))
    error = np.std(coverages) / np.sqrt(len(coverages))
    assert level - 4 * error < np.mean(coverages) < level + 1 / (n // 2 + 1) + 4 * error


@pytest.mark.parametrize("loss", [None, "absolute_error"])
def test_intervals_are_clipped_at_zero_for_nonnegative_targets(loss):
    rng = np.random.default_rng(0)
    model = TableRegressor("fast", loss=loss, random_state=0).fit(*build_skewed(rng, 600))
    X, y = build_skewed(rng, 3000)
    low, high = model.predict_interval(X)
    raw_low, raw_high = model.predict_interval(X, clip=False)
    assert low.min() == 0
    assert raw_low.min() < 0
    assert np.array_equal(low, np.maximum(raw_low, 0))
    assert np.array_equal(high, raw_high)
    assert np.array_equal(is_covered(model, X, y), is_covered(model, X, y, clip=False))
    with pytest.raises(TypeError, match="clip must be True or False, got 1"):
        model.predict_interval(X, clip=1)


def test_only_intervals_of_nonnegative_targets_are_clipped():
    rng = np.random.default_rng(0)
    X, y = build_skewed(rng, 600)
    both = np.column_stack([y, y - 1])
    low, _ = TableRegressor("fast", random_state=0).fit(X, both).predict_interval(X, 0.95)
    assert low[:, 0].min() == 0
    assert low[:, 1].min() < -1
    quantiles = TableRegressor("fast", quantiles=[0.1, 0.9], random_state=0).fit(X, y)
    assert quantiles.model_.spread is None
    assert quantiles.predict_interval(X, 0.95)[0].min() >= 0


def test_few_held_out_rows_give_intervals_of_one_width():
    X, y = build_heteroscedastic(np.random.default_rng(0), MIN_SPREAD_ROWS - 1)
    low, high = TableRegressor("fast", members=5, random_state=0).fit(X, y).predict_interval(X, 0.95)
    assert np.ptp(high - low) < 1e-12
    X, y = build_heteroscedastic(np.random.default_rng(0), 2 * MIN_SPREAD_ROWS)
    low, high = TableRegressor("fast", members=5, random_state=0).fit(X, y).predict_interval(X, 0.95)
    assert np.ptp(high - low) > 0.01


def test_intervals_do_not_depend_on_n_jobs():
    X, y = build_skewed(np.random.default_rng(0), 400)
    weights = np.random.default_rng(1).random(400)
    first, second = (TableRegressor("fast", random_state=0, n_jobs=n).fit(X, y, weights) for n in (1, 2))
    assert np.array_equal(first.predict_interval(X), second.predict_interval(X))
    unweighted = TableRegressor("fast", random_state=0).fit(X, y)
    assert not np.array_equal(first.predict_interval(X), unweighted.predict_interval(X))


@pytest.mark.filterwarnings("ignore::nnc.tabular.LeakageWarning")
@pytest.mark.parametrize("targets", [np.zeros(300), np.full(300, 1e300), np.arange(300) * 1e-310])
def test_intervals_of_constant_or_extreme_targets_are_ordered(targets):
    X = np.arange(300.0)[:, None]
    low, high = TableRegressor("fast", random_state=0).fit(X, targets).predict_interval(X)
    assert (low <= high).all()


def test_sets_are_never_empty_by_default():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 2))
    y = X[:, 0] + 0.5 * rng.standard_normal(2000) > 0
    model = TableClassifier("fast", random_state=0).fit(X[:500], y[:500])
    P = model.predict_proba(X[500:])
    plain, filled = model.predict_set(X[500:], 0.8, allow_empty=True), model.predict_set(X[500:], 0.8)
    is_empty = ~plain.any(axis=1)
    assert 0.01 < is_empty.mean() < 0.3
    assert np.array_equal(filled[~is_empty], plain[~is_empty])
    assert np.array_equal(filled[is_empty], np.eye(2, dtype=bool)[P[is_empty].argmax(axis=1)])
    with pytest.raises(TypeError, match="allow_empty must be True or False, got None"):
        model.predict_set(X, allow_empty=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": 0}, "spread.networks is 0"),
        ({"networks": 5}, "members has 3 items, expected 2"),
        ({"networks": None}, "spread.networks is null"),
        ({"unit": [-1.0]}, "spread.unit is .*, expected positive numbers in unit"),
        ({"unit": [1.0, 1.0]}, "spread.unit "),
        ({"unit": [float("inf")]}, "spread.unit"),
        ({"limits": [[2.0], [1.0]]}, "two rows of positive numbers in limits, the minima and the maxima"),
        ({"limits": [[1.0]]}, "limits has 1 rows"),
        ({"limits": None}, "two rows of positive numbers in limits, the minima and the maxima"),
        ({"more": 1}, "unknown key"),
    ],
)
def test_parse_model_rejects_invalid_spread(changes, message, tmp_path):
    model = TableRegressor("fast", random_state=0).fit(*build_heteroscedastic(np.random.default_rng(0), 400))
    model.save(tmp_path / "model.json")
    document = json.loads((tmp_path / "model.json").read_text())
    table, networks = document["table"], [*model.networks_, *model.model_.spread.networks]
    assert table["spread"]["networks"] == 4
    table["spread"] |= changes
    with pytest.raises(ValueError, match=message):
        file.parse_model(table, networks)


def test_files_of_version_0_1_0_give_same_predictions():
    """The files contain no spread. Version 0.1.0, which computed the outputs, did not clip intervals or fill sets."""
    with np.load(MODELS / "table_outputs.npz") as expected:
        counts, classes = nnc.load(MODELS / "table_counts.json"), nnc.load(MODELS / "table_classes.json")
        np.testing.assert_allclose(counts.predict(NEW), expected["counts"], rtol=1e-6)
        intervals = counts.predict_interval(NEW, 0.8, clip=False)
        np.testing.assert_allclose(intervals, [expected["counts_low"], expected["counts_high"]], rtol=1e-6)
        assert counts.predict_interval(NEW, 0.8)[0].min() == 0 > expected["counts_low"].min()
        np.testing.assert_allclose(classes.predict_proba(NEW), expected["classes"], rtol=1e-6)
        assert np.array_equal(classes.predict_set(NEW, 0.8, allow_empty=True), expected["classes_set"])
        assert classes.predict_set(NEW, 0.8).any(axis=1).all()
    model = counts.model_
    encoded = model.schema.encode(read_table(NEW))
    outputs = [member.network.predict(encoded).astype(float) for member in model.members]
    mean = np.mean([model.scaling.undo(output) for output in outputs], axis=0)
    assert np.array_equal(counts.predict(NEW), np.clip(mean, *model.bounds)[:, 0])


def test_member_with_far_too_large_predictions_is_left_out():
    """With the Poisson loss, one of these twelve members has five times the error of the others and is left out."""
    rng = np.random.default_rng(21)
    X = rng.standard_normal((2800, 5))
    y = np.exp(1 + 0.8 * X[:, 0] - 0.5 * X[:, 1] + 0.4 * X[:, 0] * X[:, 2] + 1.3 * rng.standard_normal(2800))
    order = np.random.default_rng(21).permutation(2800)
    train, new = order[:1000], order[1000:]
    regressor = TableRegressor(loss="poisson", random_state=21).fit(X[train], y[train])
    model = regressor.model_
    encoded = model.schema.encode(read_table(X[new]), model.features)
    outputs = [model.member_output(member, model.member_inputs(member, encoded)) for member in model.members]
    predictions = [np.clip(output, *model.bounds) for output in outputs]
    errors = [np.sqrt(np.mean((prediction[:, 0] - y[new]) ** 2)) for prediction in predictions]
    assert max(errors) < 2 * np.median(errors)
    # If the member were included, the error of the mean prediction would be 1.39 times the median error of the members.
    assert np.sqrt(np.mean((regressor.predict(X[new]) - y[new]) ** 2)) < 1.05 * np.median(errors)
    assert f"{len(model.members)} of 12 trained" in str(regressor.report())
