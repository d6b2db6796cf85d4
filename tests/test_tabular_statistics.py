"""Tests of target statistics of categories: values, out-of-fold values of training rows, files and predictions."""

import json

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

import nnc
from nnc._tables.features import EXTENDED
from nnc._tables.schema import Schema
from nnc.tabular import TableClassifier, TableRegressor, read_table
from nnc.tabular.recipe import N_FOLDS
from nnc.tabular.training_rows import encode_rows, learn_schema, split_into_folds

LEVELS, N = 40, 400


def build_rows(seed=0):
    """Return rows of a level (missing in each tenth row) and a number, and targets that depend on the level."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, LEVELS, N)
    effects = np.random.default_rng(9).standard_normal(LEVELS)
    X = [[None if i % 10 == 0 else f"k{levels[i]}", float(rng.random())] for i in range(N)]
    return X, 100 + 10 * effects[levels] + rng.standard_normal(N)


def statistics_of(X, y, weights=None):
    """Return the schema with statistics, the slice of the statistics, and the encoded training rows."""
    table = read_table(X, names=["level", "number"])
    schema, rows = encode_rows(learn_schema(table), table, y, weights, split_into_folds(y, 3))
    return schema, schema.groups(EXTENDED)[0][-1], rows.inputs[EXTENDED]


def smoothing_rows(levels, targets, weights):
    """Return the ratio of the variances of the targets within and between levels (analysis of variance)."""
    w = weights / weights.mean()
    masks = [np.array([other == level for other in levels]) for level in sorted(set(levels) - {None})]
    counts = np.array([w[mask].sum() for mask in masks])
    means = np.array([np.average(targets[mask], weights=w[mask]) for mask in masks])
    within = sum(w[mask] @ (targets[mask] - mean) ** 2 for mask, mean in zip(masks, means, strict=True))
    within /= counts.sum() - len(masks)
    between = counts @ (means - np.average(means, weights=counts)) ** 2 / (len(masks) - 1) - within
    between /= (counts.sum() - (counts**2).sum() / counts.sum()) / (len(masks) - 1)
    return max(within / between, 1.0)


def smoothed_means(levels, targets, weights, smoothing):
    """Return {level: smoothed and compressed mean of the targets} for rows with weights; `smoothing` is a weight."""
    means = {}
    for level in set(levels) - {None}:
        mask = np.array([other == level for other in levels])
        mean = weights[mask] @ targets[mask] / (weights[mask].sum() + smoothing)
        means[level] = mean / np.sqrt(1 + (mean / 3) ** 2)
    return means


@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_of_row_are_computed_without_rows_of_its_fold(weighted):
    X, y = build_rows()
    weights = np.random.default_rng(1).uniform(0.1, 1, N) if weighted else np.ones(N)
    schema, part, encoded = statistics_of(X, y[:, None], weights if weighted else None)
    levels, z, folds = [row[0] for row in X], (y - y.mean()) / y.std(), split_into_folds(y[:, None], 3).fold
    smoothing = smoothing_rows(levels, z, weights) * weights.mean()
    assert np.bincount(folds).tolist() == [N // N_FOLDS] * N_FOLDS
    for fold in range(N_FOLDS):
        others = folds != fold
        means = smoothed_means(levels, z, weights * others, smoothing)
        expected = [means.get(level, 0) for level in levels]
        assert np.allclose(encoded[folds == fold, part][:, 0], np.array(expected)[folds == fold], atol=1e-6)
    # Later rows have the statistics of all training rows; missing and unknown levels have 0.
    means = smoothed_means(levels, z, weights, smoothing)
    later = schema.encode(read_table([["k3", 0.5], ["new", 0.5], [None, 0.5]], names=["level", "number"]), EXTENDED)
    assert np.allclose(later[:, part][:, 0], [means["k3"], 0, 0], atol=1e-6)


def test_target_of_row_changes_statistics_of_other_folds_only():
    X, y = build_rows()
    labels = (y > y.mean()).astype(np.int32) + (y > 110)
    _, part, encoded = statistics_of(X, labels)
    assert encoded[:, part].shape == (N, 3)  # one statistic for each class
    folds = split_into_folds(labels, 3).fold
    i, j = (int(np.flatnonzero((labels == label) & (folds == 2) & (np.arange(N) % 10 > 0))[0]) for label in (0, 1))
    swapped = list(X)
    swapped[i], swapped[j] = [X[j][0], X[i][1]], [X[i][0], X[j][1]]  # equivalent to an exchange of the targets
    _, _, changed = statistics_of(swapped, labels)
    same_level = np.array([row[0] in (X[i][0], X[j][0]) for row in X])
    same = folds == 2
    same[[i, j]] = False
    assert np.array_equal(encoded[same, part], changed[same, part])
    assert not np.array_equal(encoded[~same & same_level, part], changed[~same & same_level, part])


def test_few_levels_and_many_classes_have_no_statistics():
    X = [[f"k{i % 9}", float(i)] for i in range(180)]
    assert statistics_of(X, np.arange(180.0)[:, None])[0].columns[0].encoding.extra_width == 0
    X = [[f"k{i % 20}", float(i)] for i in range(180)]
    assert statistics_of(X, np.arange(180.0)[:, None])[0].columns[0].encoding.extra_width == 1
    assert statistics_of(X, np.arange(180, dtype=np.int32) % 17)[0].columns[0].encoding.extra_width == 0


def test_numbers_have_statistics_unless_target_changes_gradually():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 50, 1000)
    X = np.column_stack([codes, rng.permutation(50)[codes], rng.random(1000)])
    y = np.sin(codes / 8) + 0.3 * rng.standard_normal(1000)
    table = read_table(X.tolist(), names=["gradual", "code", "distinct"])
    schema, rows = encode_rows(learn_schema(table), table, y[:, None], None, split_into_folds(y[:, None], 0))
    assert [column.encoding.n_statistics for column in schema.columns] == [0, 1, 0]
    statistic = schema.groups(EXTENDED)[1][-1].stop - 1
    assert np.corrcoef(rows.inputs[EXTENDED][:, statistic], np.sin(codes / 8))[0, 1] > 0.95
    later = read_table([[3, 7, 0.5], [3, 7.5, 0.5], [3, 99, 0.5], [3, None, 0.5]], names=schema.names)
    encoded = schema.encode(later, EXTENDED)[:, statistic]
    assert encoded[0] != 0
    assert encoded[1:].tolist() == [0, 0, 0]
    model = TableRegressor(members=3, random_state=0, n_jobs=1).fit(X[:800, 1:], y[:800])
    assert model.score(X[800:, 1:], y[800:]) > 0.75  # a perfect model has 0.84


def test_statistics_of_many_number_columns_are_those_of_largest_roughness(set_limit):
    rng = np.random.default_rng(0)
    X, effects = rng.integers(0, 8, (2000, 6)), np.array([0, 1, 0, 1, 0, 1, 0, 1])
    y = effects[X] @ [1, 1, 3, 1, 1, 3] + rng.standard_normal(2000)
    table = read_table(X.astype(float).tolist(), names=[f"x{j}" for j in range(6)])

    def columns():
        schema, _ = encode_rows(learn_schema(table), table, y[:, None], None, split_into_folds(y[:, None], 0))
        return [j for j, column in enumerate(schema.columns) if column.encoding.n_statistics]

    assert columns() == list(range(6))
    set_limit("nnc.tabular.training_rows.MAX_NUMBER_STATISTICS", 2)
    assert columns() == [2, 5]


@pytest.mark.parametrize("classes", [False, True])
def test_statistics_of_rare_levels_improve_predictions_and_survive_files(classes, tmp_path, set_limit):
    rng = np.random.default_rng(0)
    effects, levels = rng.choice([-1.0, 1.0], 150), rng.integers(0, 150, 900)
    X, y = [[f"k{level}"] for level in levels], effects[levels] + 0.1 * rng.standard_normal(900)
    Model = TableClassifier if classes else TableRegressor
    y = np.where(y > 0, "high", "low") if classes else y

    def fit():
        return Model(members=3, random_state=0, n_jobs=1).fit(X[:700], y[:700])

    model = fit()
    assert {member.features for member in model.model_.members} == {EXTENDED}
    assert model.score(X[700:], y[700:]) > 0.85
    set_limit("nnc.tabular.training_rows.MAX_STATISTICS", 0)
    assert fit().score(X[700:], y[700:]) < model.score(X[700:], y[700:]) - 0.1
    model.save(tmp_path / "model.json")
    loaded = nnc.load(tmp_path / "model.json")
    assert np.array_equal(loaded.model_.predict(read_table(X)), model.model_.predict(read_table(X)))
    explained = loaded.explain(X[:3])
    assert np.allclose(explained.contributions.sum(axis=1) + explained.baseline, model.explain(X[:3]).baseline
                       + model.explain(X[:3]).contributions.sum(axis=1))  # fmt: skip


def test_schema_of_earlier_version_has_no_statistics():
    X, y = build_rows()
    schema = learn_schema(read_table(X, names=["level", "number"]))
    document = schema.document()
    del document["columns"][0]["encoding"]["statistics"]
    assert Schema.from_document(json.loads(json.dumps(document))) == schema
    document = statistics_of(X, y[:, None])[0].document()
    assert Schema.from_document(json.loads(json.dumps(document))).document() == document
    document["columns"][0]["encoding"]["statistics"].pop()
    with pytest.raises(ValueError, match=r"statistics must have as many numbers for each of 40 levels, got 39 numbers"):
        Schema.from_document(document)
