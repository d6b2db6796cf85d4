"""Tests of TableClassifier and TableRegressor: predictions, reproducibility, interrupted fits and model files."""

import copy
import json
import re
import signal
from itertools import product
from threading import Barrier

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", "1.9")
pd = pytest.importorskip("pandas")

from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

import nnc  # noqa: E402
from nnc import _serialization  # noqa: E402
from nnc._drawing.svg import text_width  # noqa: E402
from nnc._serialization import ModelFileError  # noqa: E402
from nnc._tables.features import EXTENDED, PLAIN  # noqa: E402
from nnc.tabular import LeakageWarning, TableClassifier, TableRegressor, file, read_table  # noqa: E402
from nnc.tabular.recipe import (  # noqa: E402
    CANDIDATES,
    CROSS_ENTROPY,
    N_FOLDS,
    POISSON,
    PRESETS,
    Candidate,
    Recipe,
    Task,
    choose_label_smoothing,
    choose_member_count,
    default_loss,
    fit_options,
)
from nnc.tabular.snapshots import N_PARTS, row_errors  # noqa: E402
from nnc.tabular.training import Member, MemberSpec, Rows, Training  # noqa: E402
from nnc.tabular.training_rows import split_into_folds  # noqa: E402

MODEL_CLASSES = (TableClassifier, TableRegressor)


def build_table(n=400, seed=0):
    """Return a data frame with missing values, and a numeric target that depends on its columns."""
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal(n), rng.exponential(size=n) * 1000
    town = rng.choice(["Ulm", "Jena", "Kiel", "Bonn"], n).astype(object)
    wet = rng.random(n) < 0.5
    target = 3 * np.sin(2 * x) + (town == "Kiel") * 4 + wet * (z > 700) * 2
    town[rng.random(n) < 0.1] = None
    z[rng.random(n) < 0.1] = np.nan
    X = pd.DataFrame({"x": x, "z": z, "town": town, "wet": wet, "noise": rng.standard_normal(n), "same": 1})
    return X, target


@pytest.fixture(scope="module")
def table():
    return build_table()


@pytest.fixture(scope="module")
def labels(table):
    return np.where(table[1] > 2, "high", np.where(table[1] > -1, "middle", "low"))


@pytest.fixture(scope="module")
def classifier(table, labels):
    return TableClassifier("fast", random_state=1).fit(table[0], labels)


@pytest.fixture(scope="module")
def regressor(table):
    return TableRegressor("fast", random_state=1).fit(*table)


# ------------------------------------------------------------------------------------------ predictions and arguments


def test_classifier_predicts_labels_and_probabilities(classifier, labels):
    X, target = build_table(300, seed=9)
    truth = np.where(target > 2, "high", np.where(target > -1, "middle", "low"))
    assert classifier.classes_.tolist() == ["high", "low", "middle"]
    assert classifier.score(X, truth) > 0.75 > 1.5 * max(np.mean(truth == c) for c in classifier.classes_)
    P = classifier.predict_proba(X)
    assert P.shape == (300, 3)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    assert np.array_equal(classifier.classes_[P.argmax(axis=1)], classifier.predict(X))
    assert 0.7 < classifier.held_out_.score < 1
    assert classifier.held_out_.calibration_error < 0.15
    assert classifier.n_features_in_ == 6
    assert classifier.feature_names_in_.tolist() == list(X)


def test_regressor_predicts_within_range_of_training_targets(regressor, table):
    X, target = build_table(300, seed=9)
    assert regressor.score(X, target) > 0.8
    predicted = regressor.predict(X)
    assert predicted.shape == (300,)
    assert table[1].min() <= predicted.min()
    assert predicted.max() <= table[1].max()
    extreme = X.assign(x=1e9)
    assert np.isfinite(regressor.predict(extreme)).all()
    assert regressor.predict(extreme).max() <= table[1].max()


@pytest.mark.parametrize("library", ["polars", "pyarrow", "array"])
def test_table_libraries_give_identical_predictions(library, table):
    X, y = table
    X = X[["x", "z", "noise"]]
    expected = TableRegressor("fast", members=1, random_state=0).fit(X, y).predict(X)
    if library == "array":
        converted = X.to_numpy()
    elif library == "polars":
        converted = pytest.importorskip("polars").DataFrame({name: X[name].to_numpy() for name in X})
    else:
        converted = pytest.importorskip("pyarrow").Table.from_pandas(X)
    model = TableRegressor("fast", members=1, random_state=0).fit(converted, y)
    assert np.array_equal(model.predict(converted), expected)


def test_columns_are_matched_by_name(classifier, table):
    X = table[0]
    expected = classifier.predict_proba(X)
    assert np.array_equal(classifier.predict_proba(X[[*X][::-1]]), expected)
    assert np.isfinite(classifier.predict_proba(X.assign(town="Rom"))).all()
    with pytest.raises(ValueError, match="town"):
        classifier.predict(X.drop(columns="town"))
    with pytest.raises(ValueError, match=r"X has 2 features, but TableClassifier is expecting 6"):
        classifier.predict(np.zeros((3, 2)))


def test_regressor_predicts_several_targets(table):
    X, y = table
    model = TableRegressor("fast", random_state=0).fit(X, np.column_stack([y, 100 - y]))
    predicted = model.predict(X)
    assert predicted.shape == (400, 2)
    assert np.corrcoef(predicted[:, 0], predicted[:, 1])[0, 1] < -0.95
    low, high = model.predict_interval(X)
    assert low.shape == high.shape == (400, 2)
    assert (low < high).all()


def test_quantiles_increase_and_have_requested_coverage():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (600, 2))
    y = X[:, 1] + rng.standard_normal(600) * np.where(X[:, 0] > 0, 1, 0.1)
    model = TableRegressor("fast", quantiles=[0.1, 0.5, 0.9], members=2, random_state=0).fit(X, y)
    Q = model.predict_quantiles(X)
    assert Q.shape == (600, 3)
    assert (np.diff(Q, axis=1) >= 0).all()
    np.testing.assert_allclose((y[:, None] <= Q).mean(axis=0), [0.1, 0.5, 0.9], atol=0.12)
    width = Q[:, 2] - Q[:, 0]
    assert width[X[:, 0] > 0].mean() > 3 * width[X[:, 0] < 0].mean()
    assert np.array_equal(model.predict(X), Q[:, 1])
    low, high = model.predict_interval(X, 0.8)
    assert 0.75 < np.mean((low <= y) & (y <= high)) < 0.95
    with pytest.raises(ValueError, match="sample_weight must be None if quantiles is given"):
        model.fit(X, y, np.ones(600))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantiles": [0.5, 0.1]}, "quantiles must be one or several increasing"),
        ({"quantiles": [0.5, 1]}, "above 0 and below 1"),
        ({"quantiles": [0.5], "loss": "poisson"}, "loss must be None or 'squared_error' if quantiles is given"),
        ({"loss": "poisson"}, "y must be 0 or more with loss"),
    ],
)
def test_regressor_rejects_invalid_quantiles_and_losses(arguments, message, table):
    with pytest.raises(ValueError, match=message):
        TableRegressor("fast", **arguments).fit(*table)


@pytest.mark.parametrize("loss", ["poisson", "absolute_error"])
def test_poisson_and_absolute_error_predict_positive_counts(loss):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (600, 2))
    mean = np.exp(1 + 2 * X[:, 0])
    y = rng.poisson(mean)
    model = TableRegressor("fast", loss=loss, random_state=0).fit(X, y)
    predicted = model.predict(X)
    assert predicted.min() >= 0
    assert np.corrcoef(predicted, mean)[0, 1] > 0.95


def test_sample_weights_and_class_weights_change_predictions(table, labels):
    X, y = table
    is_wrong = np.arange(400) % 3 == 0
    mixed = np.where(is_wrong, "low", labels)
    weights = np.where(is_wrong, 0.0, 2.0)
    weighted, unweighted = (
        TableClassifier("fast", members=4, random_state=0).fit(X, mixed, w).score(X[is_wrong], labels[is_wrong])
        for w in (weights, None)
    )
    assert weighted > 0.7
    assert weighted > unweighted + 0.2
    rare_class = (np.random.default_rng(0).random(400) < 0.02 + 0.3 * (y > np.quantile(y, 0.7))).astype(int)
    unweighted, balanced = (
        TableClassifier("fast", class_weight=weight, random_state=0).fit(X, rare_class).predict(X).sum()
        for weight in (None, "balanced")
    )
    assert balanced > unweighted
    by_dict = TableClassifier("fast", class_weight={1: 19.0}, random_state=0).fit(X, rare_class).predict(X).sum()
    assert by_dict > unweighted
    with pytest.raises(ValueError, match=r"class_weight must be one of the classes of y, \[0, 1\], got 2"):
        TableClassifier(class_weight={2: 1.0}).fit(X, rare_class)


@pytest.mark.parametrize("n", [2, 3, 9, 10, 12, 21])
def test_tables_with_few_rows_can_be_fitted(n):
    X = np.arange(2.0 * n).reshape(n, 2)
    model = TableRegressor(random_state=0).fit(X, X[:, 0])
    assert np.isfinite(model.predict(X)).all()
    y = np.array(["a", "b"])[np.arange(n) % 2]
    assert set(TableClassifier("fast", random_state=0).fit(X, y).predict(X)) <= {"a", "b"}
    if n < 10:
        with pytest.raises(ValueError, match="held-out rows"):
            model.predict_interval(X)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a", None] * 200, "y"),
        (["a"] * 400, "two classes or more"),
        (np.linspace(0, 1, 400), "continuous"),
        (np.zeros((400, 2), int) + np.arange(400)[:, None] % 3, "one column of labels"),
        (["a", "b"], "400"),
    ],
)
def test_classifier_rejects_invalid_labels(y, message, table):
    with pytest.raises(ValueError, match=message):
        TableClassifier("fast").fit(table[0], y)


# ------------------------------------------------------------------------------------------ reproducibility and members


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_fits_with_same_seed_are_bit_identical(model_class, table, labels):
    X, y = table
    y = labels if model_class is TableClassifier else y
    first = model_class("fast", n_jobs=1).fit(X, y)
    repeated = model_class("fast", n_jobs=2, members=first.n_members_, random_state=first.seed_).fit(X, y)
    for a, b in zip(first.networks_, repeated.networks_, strict=True):
        assert a.params.tobytes() == b.params.tobytes()
    assert np.array_equal(first.predict(X), repeated.predict(X))
    other = model_class("fast", random_state=first.seed_ + 1).fit(X, y)
    assert other.networks_[0].params.tobytes() != first.networks_[0].params.tobytes()


def test_member_count_follows_preset_and_rows():
    assert [choose_member_count(preset, 500) for preset in PRESETS] == list(PRESETS.values())
    counts = [choose_member_count("default", 10**k) for k in range(2, 8)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 2
    large_counts = [choose_member_count("default", rows) for rows in range(10_001, 100_000, 1000)]
    assert all(count % 2 == 0 for count in large_counts)


def build_training(n=23, task=None, candidates=CANDIDATES[:1], seed=0, training_class=Training):
    rng = np.random.default_rng(3)
    task = Task(CROSS_ENTROPY, 3) if task is None else task
    y = np.sort(rng.integers(0, 3, n)).astype(np.int32) if task.kind == "classes" else rng.standard_normal((n, 1))
    X = rng.standard_normal((n, 2)).astype(np.float32)
    inputs = {candidate.features: X for candidate in candidates}
    training = training_class(task, Rows(inputs, y, None), split_into_folds(y, seed), seed, 1)
    training.candidates = list(candidates)
    return training


def test_each_row_is_held_out_in_one_fold():
    y = np.sort(np.random.default_rng(3).integers(0, 3, 53))
    folds = split_into_folds(y, 0)
    held_out = np.stack([folds.holds_out(fold) for fold in range(N_FOLDS)])
    assert (held_out.sum(axis=0) == 1).all()
    for label in range(3):
        counts = held_out[:, y == label].sum(axis=1)
        assert counts.max() - counts.min() <= 1
    assert folds.learns(None).all()
    assert not folds.holds_out(None).any()


@pytest.mark.parametrize(
    ("candidates", "count", "folds"),
    [
        (CANDIDATES[:1], 1, [0]),
        (CANDIDATES[:1], 3, [0, 1, 2]),
        (CANDIDATES[:1], 7, [0, 1, 2, 3, 4, None, None]),
        (CANDIDATES[:2], 1, [0]),
        (CANDIDATES[:2], 2, [0, 0]),
        (CANDIDATES[:2], 3, [0, 0, 1]),
        (CANDIDATES[:2], 12, [0, 0, 1, 1, 2, 3, 4, *[None] * 5]),
        (CANDIDATES[:2], 24, [0, 0, 1, 1, 2, 2, 3, 3, 4, *[None] * 15]),
        (CANDIDATES[:2], 90, [*np.repeat(range(5), 2), *[None] * 80]),
    ],
)
def test_members_are_assigned_to_folds_in_order(candidates, count, folds):
    """Each fold is held out by one member, or by one member of each candidate; further members learn from all rows."""
    specs = []

    class RecordedTraining(Training):
        """Training that only records its members; without measured errors, it uses both candidates."""

        def train(self, new_specs):
            specs.extend(new_specs)
            self.members = dict.fromkeys(specs, Member(MemberSpec(0, CANDIDATES[0], 0), None, complete=False))

    build_training(candidates=candidates, training_class=RecordedTraining).run(count)
    assert [spec.fold for spec in specs] == folds
    assert [spec.number for spec in specs] == list(range(count))


@pytest.mark.parametrize("candidates", [CANDIDATES[:1], CANDIDATES[:2]])
@pytest.mark.parametrize("count", [1, 7])
def test_members_for_few_rows_learn_from_all_rows(candidates, count):
    """Nine rows are too few for folds. A training that yields no member ends with KeyboardInterrupt."""
    specs = []

    class EmptyTraining(Training):
        """Training that records the members to train, but trains none of them."""

        def train(self, new_specs):
            specs.extend(new_specs)

    with pytest.raises(KeyboardInterrupt):
        build_training(9, candidates=candidates, training_class=EmptyTraining).run(count)
    assert [spec.fold for spec in specs] == [None] * count


@pytest.mark.filterwarnings("ignore:the learning rate of")  # the schedule is longer than the training
@pytest.mark.parametrize("task", [Task(CROSS_ENTROPY, 3), Task("squared_error", 1)])
def test_later_members_learn_from_all_rows_for_median_best_epoch(task):
    training_run = build_training(200, task)
    members = training_run.run(7)
    cross_validated, later = members[:5], members[5:]
    assert all(len(member.curve) > 1 and np.isfinite(member.error) for member in cross_validated)
    best_epochs = []
    for member in cross_validated:
        curve = np.array(member.curve)
        best_epochs.append(np.flatnonzero(curve == curve.min())[-1] + 1)
    median_epoch = training_run.best_epoch_count(CANDIDATES[0])
    assert median_epoch == sorted(best_epochs)[2]
    assert training_run.best_epoch_count(CANDIDATES[1]) is None
    arguments = {k: v for k, v in fit_options(task, 160).items() if k not in ("metrics", "restore_best")}
    for member in later:
        net = Recipe().build_network(task, 2, training_run.member_seed(member.spec))
        inputs = training_run.rows.inputs[member.features]
        net.fit(inputs, training_run.y, callback=lambda record: record.epoch == median_epoch, **arguments)
        assert net.params.tobytes() == member.network.params.tobytes()
        assert member.curve == ()


@pytest.mark.parametrize(
    ("task", "errors", "expected"),
    [
        (Task(CROSS_ENTROPY, 3), (1, 0.85), [1]),
        (Task(CROSS_ENTROPY, 3), (1, 1.2), [0]),
        (Task(CROSS_ENTROPY, 3), (1, 1.08), [0, 1]),
        (Task("squared_error", 1), (1, 0.9), [1]),
        (Task("squared_error", 1), (1, 1.2), [0]),
        (Task("squared_error", 1), (1, 1.05), [0, 1]),
        (Task("squared_error", 1), (1, 0.5, 0.52), [1, 2]),
        (Task("squared_error", 1), (1, 1.05, 0.5), [2]),
    ],
)
def test_candidates_are_selected_by_validation_error(task, errors, expected):
    run = build_training(task=task)
    run.candidates = [Candidate(PLAIN, Recipe(width=width)) for width in range(8, 8 + len(errors))]
    for number, (fold, (candidate, error)) in enumerate(product(range(2), zip(run.candidates, errors, strict=True))):
        spec = MemberSpec(number, candidate, fold)
        run.members[spec] = Member(spec, None, error)
    # The only member of fold 4 is compared with no other member, so select_candidates ignores its error of 0.
    spec = MemberSpec(9, run.candidates[1], 4)
    run.members[spec] = Member(spec, None, 0.0)
    run.n_compared_folds = 2
    assert run.select_candidates() == [run.candidates[i] for i in expected]


@pytest.mark.parametrize("part", [None, 3])
@pytest.mark.parametrize(("deviances", "expected"), [((0.2, 0.25), [0]), ((0.25, 0.2), [1]), ((0.205, 0.2), [0, 1])])
def test_candidates_are_selected_by_deviance_if_losses_are_negative(part, deviances, expected):
    y = np.random.default_rng(0).permutation(np.logspace(-6, 6, 2000))[:, None]
    X, weights, folds = np.zeros((2000, 2), np.float32), np.linspace(1, 2, 2000), split_into_folds(y, 0)
    run = Training(Task(POISSON, 1), Rows({PLAIN: X, EXTENDED: X}, y, weights), folds, 0, 1)
    scaled = y[:, 0] / y.mean()
    used = (folds.fold == 0) & (folds.part != part)
    lowest = np.average((scaled - scaled * np.log(scaled))[used], weights=weights[used])
    assert lowest < -1
    for number, (candidate, deviance) in enumerate(zip(run.candidates, deviances, strict=True)):
        spec = MemberSpec(number, candidate, 0)
        run.members[spec] = Member(spec, None, lowest + deviance, errors=(lowest + deviance,) * N_PARTS)
    run.n_compared_folds = 1
    assert run.select_candidates(part) == [run.candidates[i] for i in expected]


def test_labels_are_not_smoothed_if_one_class_dominates():
    y = np.array([0] * 91 + [1] * 9, np.int32)
    assert choose_label_smoothing(y, None) == 0
    assert choose_label_smoothing(y, np.where(y == 1, 10.0, 1.0)) == 0.1  # the weights balance the classes
    assert choose_label_smoothing(y[10:], None) == 0.1
    X = np.random.default_rng(0).standard_normal((100, 2))
    for labels, smoothing in ((y, 0), (y[::-1] | (X[:, 0] > 0), 0.1)):
        model = TableClassifier(members=1, random_state=0).fit(X, labels)
        assert (model.networks_[0].loss_parameter or 0) == smoothing


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_error_of_rows_is_validation_loss_of_classes(smoothing):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((50, 2)), rng.integers(0, 3, 50)
    task = Task(CROSS_ENTROPY, 3, label_smoothing=smoothing)
    net = Recipe().build_network(task, 2, 0)
    net.weights = [0.1 * rng.standard_normal(weight.shape) for weight in net.weights]
    errors = row_errors(task, net.predict(X), y)
    assert errors.shape == (50,)
    assert errors.mean() == pytest.approx(net.evaluate_loss(X, y), rel=1e-5)


def test_loss_is_chosen_by_distribution_of_targets():
    rng = np.random.default_rng(0)
    prices, symmetric = rng.lognormal(2, 0.6, (500, 1)), rng.normal(50, 5, (500, 1))
    assert default_loss(prices) == default_loss(1e300 * prices) == default_loss(1e-300 * prices) == "poisson"
    assert default_loss(symmetric) == default_loss(np.zeros((9, 1))) == default_loss(np.ones((9, 1))) == "squared_error"
    assert default_loss(prices - 1.01 * prices.min()) == "squared_error"  # negative targets rule out the Poisson loss
    assert default_loss(np.hstack([prices, symmetric])) == "squared_error"
    assert default_loss(np.hstack([prices, prices**2])) == "poisson"
    is_low = (prices < np.median(prices))[:, 0]
    repeated = np.concatenate([prices[is_low], prices[is_low], prices[~is_low]])
    assert default_loss(prices, 1.0 + is_low) == default_loss(repeated)


def test_report_names_chosen_loss_which_reproduces_model(table):
    X, y = table
    y = np.exp((y - y.mean()) / y.std())
    model = TableRegressor("fast", random_state=0).fit(X, y)
    assert "TableRegressor('fast', members=3, loss='poisson', random_state=0)" in str(model.report())
    with_same_loss = TableRegressor("fast", loss="poisson", random_state=0).fit(X, y)
    with_other_loss = TableRegressor("fast", loss="squared_error", random_state=0).fit(X, y)
    assert np.array_equal(with_same_loss.predict(X), model.predict(X))
    assert not np.array_equal(with_other_loss.predict(X), model.predict(X))
    negative = TableRegressor("fast", random_state=0).fit(X, y - y.mean())
    assert "loss='squared_error'" in str(negative.report())


def test_batch_size_and_epochs_follow_row_count():
    task = Task("squared_error", 1)
    assert [fit_options(task, rows)["batch_size"] for rows in (3, 40, 2400, 10**6)] == [3, 32, 32, 64]
    assert [fit_options(task, rows)["epochs"] for rows in (3, 600, 20_000, 40_000, 10**6)] == [112, 94, 56, 40, 28]
    assert fit_options(Task(CROSS_ENTROPY, 2), 10**6)["epochs"] == 56


def test_bins_are_selected_for_step_function():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (1500, 1))
    y = np.array([3.0, -2, 5, 0, 4, -4, 1, 2])[(x[:, 0] * 8).astype(int)]
    model = TableRegressor("fast", random_state=0).fit(x, y)
    assert {member.features for member in model.model_.members} == {EXTENDED}
    assert model.score(x, y) > 0.9


# ----------------------------------------------------------------------------------------- interrupted and resumed fits


def test_members_of_both_encodings_train_at_the_same_time(table):
    barrier = Barrier(2, timeout=60)  # raises an error if one of the two members waits alone

    def wait_for_other_member(member, record):
        if record.epoch == 1:
            barrier.wait()

    model = TableRegressor(members=2, n_jobs=2, random_state=0, callback=wait_for_other_member).fit(*table)
    assert model.n_members_ == 2
    assert not barrier.broken


def test_callback_and_progress_bar_count_epochs(table, capfd):
    pytest.importorskip("tqdm")
    calls = []
    model = TableRegressor(
        "fast", members=2, n_jobs=1, progress=True, callback=lambda member, record: calls.append((member, record.epoch))
    ).fit(*table)
    epochs = fit_options(Task("squared_error", 1), 320)["epochs"]
    epoch_counts = [sum(number == member for number, _ in calls) for member in range(2)]
    assert sorted(calls) == [(member, epoch) for member in range(2) for epoch in range(1, epoch_counts[member] + 1)]
    assert f"{2 * epochs}/{2 * epochs}" in capfd.readouterr().err
    assert len(model.networks_) in (1, 2)


def test_training_without_improvement_stops_at_half_of_epochs(table, set_limit):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 5)), rng.standard_normal(300)
    calls, stopped = [], {}

    def record_epoch(number, record):
        calls.append(number)
        if "skipped_epochs" in record:
            stopped[number] = record.epoch, record["skipped_epochs"]

    model = TableRegressor("fast", random_state=0, callback=record_epoch).fit(X, y)
    epochs = fit_options(Task("squared_error", 1), 240)["epochs"]
    assert stopped
    assert model.complete_
    assert set(stopped.values()) == {(epochs // 2, epochs - epochs // 2)}
    assert all(calls.count(number) == (epochs // 2 if number in stopped else epochs) for number in set(calls))

    set_limit("nnc.tabular.training.MAX_BEST_EPOCH_FRACTION", 0.0)
    unstopped = TableRegressor("fast", random_state=0).fit(X, y)
    pairs = list(zip(model.model_.members, unstopped.model_.members, strict=True))
    assert {member.spec.number for member, _ in pairs} & set(stopped)
    for member, other in pairs:
        n = len(member.curve)
        assert other.curve[:n] == member.curve
        # Members are equal unless an epoch after the early stop happened to be better.
        if other.error == member.error:
            assert np.array_equal(other.network.params, member.network.params)

    stopped.clear()
    TableRegressor("fast", random_state=0, callback=record_epoch).fit(*table)
    assert not stopped


class StopError(Exception):
    """Error that a callback raises to end a fit."""


def test_fit_resumed_from_checkpoint_gives_same_model(tmp_path, table):
    X, y = table
    path = tmp_path / "fit.json"
    expected = TableRegressor("fast", members=7, random_state=0, n_jobs=1).fit(X, y)

    def stop(member, record):
        if member == 6:
            raise StopError

    arguments = {"members": 7, "random_state": 0, "n_jobs": 1, "checkpoint": path}
    with pytest.raises(StopError):
        TableRegressor("fast", callback=stop, **arguments).fit(X, y)
    assert path.exists()
    with pytest.raises(OSError, match="a checkpoint of a fit with other data"):
        TableRegressor("fast", **arguments).fit(X, y + 1)
    with pytest.raises(OSError, match=r"load it with nnc\.load"):
        nnc.NeuralNetwork.load(path)
    members_trained = set()
    model = TableRegressor("fast", callback=lambda member, record: members_trained.add(member), **arguments).fit(X, y)
    assert members_trained == {6}
    assert not path.exists()
    assert np.array_equal(model.predict(X), expected.predict(X))
    assert model.held_out_.score == expected.held_out_.score
    assert np.array_equal(model.held_out_.scores, expected.held_out_.scores)
    assert np.array_equal(model.feature_importances_, expected.feature_importances_)


@pytest.mark.parametrize("last_member", [0, 1, 4], ids=["first", "both encodings", "other folds"])
def test_resumed_fit_gives_the_same_estimates(tmp_path, table, labels, last_member):
    arguments = {"members": 7, "random_state": 0, "checkpoint": tmp_path / "fit.json"}
    expected = TableClassifier("fast", members=7, random_state=0).fit(table[0], labels)

    def stop(member, record):
        if member == last_member + 1:
            raise StopError

    with pytest.raises(StopError):
        TableClassifier("fast", callback=stop, n_jobs=1, **arguments).fit(table[0], labels)
    model = TableClassifier("fast", n_jobs=2, **arguments).fit(table[0], labels)
    assert model.held_out_[:4] == expected.held_out_[:4]
    assert np.array_equal(model.held_out_.scores, expected.held_out_.scores)
    assert np.array_equal(model.predict_proba(table[0]), expected.predict_proba(table[0]))
    for mine, others in zip(model.model_.importances, expected.model_.importances, strict=True):
        assert np.array_equal(mine, others)


def test_checkpoint_excludes_member_cut_short_by_time_limit(tmp_path, table, set_limit):
    set_limit("nnc.tabular.training.CHECKPOINT_SECONDS", 0.0)
    arguments = {"members": 1, "random_state": 0, "checkpoint": tmp_path / "fit.json"}
    model = TableRegressor(max_seconds=1e-9, **arguments).fit(*table)
    assert not model.complete_
    expected = TableRegressor(members=1, random_state=0).fit(*table)
    assert np.array_equal(TableRegressor(**arguments).fit(*table).predict(table[0]), expected.predict(table[0]))


def test_progress_bar_of_resumed_fit_reaches_100_percent(tmp_path, table, capfd):
    pytest.importorskip("tqdm")
    arguments = {"members": 3, "random_state": 0, "n_jobs": 1, "checkpoint": tmp_path / "fit.json"}

    def stop(member, record):
        if member == 2:
            raise StopError

    with pytest.raises(StopError):
        TableRegressor(callback=stop, **arguments).fit(*table)
    capfd.readouterr()
    TableRegressor(progress=True, **arguments).fit(*table)
    assert "100%" in capfd.readouterr().err


def test_diverged_cross_validation_trains_no_further_members():
    """If all members of the cross-validation diverge, `fit` raises the error and trains no further members."""
    trained = []

    class DivergingTraining(Training):
        """Training whose cross-validation diverges."""

        def train(self, specs):
            trained.extend(specs)
            self.diverged = nnc.DivergedError("no", None, 1, 1)

    with pytest.raises(nnc.DivergedError):
        build_training(50, training_class=DivergingTraining).run(9)
    assert [spec.fold for spec in trained] == [0, 1, 2, 3, 4]


def test_ctrl_c_preserves_trained_members(table):
    X, y = table

    def interrupt(member, record):
        if member == 2 and record.epoch == 3:
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    model = TableRegressor("default", random_state=0, n_jobs=1, callback=interrupt).fit(X, y)
    assert signal.getsignal(signal.SIGINT) is handler
    assert 1 <= len(model.networks_) <= 4
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_removed_preset_raises_error_that_names_remedy(model_class, table):
    expected = "preset must be 'fast' or 'default', got 'best', which nnc 0.2.0 has removed: .*; pass members=24"
    with pytest.raises(ValueError, match=expected):
        model_class("best").fit(*table)


def test_max_seconds_limits_number_of_members(table):
    X, y = table
    model = TableRegressor(random_state=0, max_seconds=1e-3).fit(X, y)
    assert len(model.networks_) < PRESETS["default"]
    assert np.isfinite(model.predict(X)).all()


# ---------------------------------------------------------------------------------- intervals, explanations and reports


def test_intervals_and_sets_have_requested_coverage():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4000, 3))
    y = X[:, 0] + rng.standard_normal(4000)
    model = TableRegressor("fast", random_state=0).fit(X[:1000], y[:1000])
    for level in (0.8, 0.95):
        low, high = model.predict_interval(X[1000:], level)
        assert abs(np.mean((low <= y[1000:]) & (y[1000:] <= high)) - level) < 0.04
    label = (y > 0).astype(int)
    model = TableClassifier("fast", random_state=0).fit(X[:1000], label[:1000])
    sets = model.predict_set(X[1000:], 0.9)
    assert abs(np.mean(sets[np.arange(3000), label[1000:]]) - 0.9) < 0.04
    with pytest.raises(ValueError, match="level must be above 0 and below 1"):
        model.predict_set(X, 1.0)


def test_importances_rank_columns_and_contributions_add_up(classifier, regressor, table, labels):
    X, _ = table
    for model in (classifier, regressor):
        importances = dict(zip(X, model.feature_importances_, strict=True))
        assert importances["x"] == max(importances.values())
        assert importances["same"] == 0
        assert importances["noise"] < importances["town"]
    explanation = regressor.explain(X[:20])
    total = np.clip(explanation.contributions.sum(axis=1) + explanation.baseline, *regressor.model_.bounds[:, 0])
    np.testing.assert_allclose(total, regressor.predict(X[:20]), atol=2e-4)
    assert not explanation.contributions[:, 5].any()
    explanation = classifier.explain(X[:20])
    P = classifier.predict_proba(X[:20])
    np.testing.assert_allclose(explanation.contributions.sum(axis=1) + explanation.baseline, P.max(axis=1), atol=1e-5)
    low = classifier.explain(X[:20], "low")
    np.testing.assert_allclose(low.contributions.sum(axis=1) + low.baseline, P[:, 1], atol=1e-5)
    assert "town" in str(low)
    assert str(low).startswith("probability of low: 0.")
    assert explanation.labels.tolist() == classifier.predict(X[:20]).tolist()
    assert str(regressor.explain(X[:1])).startswith("prediction: ")
    with pytest.raises(ValueError, match="label must be one of the classes of y"):
        classifier.explain(X[:2], "lowest")


def test_report_shows_columns_settings_and_scores(classifier):
    text = str(classifier.report())
    for name in ("x", "town", "same", "TableClassifier('fast', members=3, random_state=1)", "calibration error"):
        assert name in text
    assert "validation loss" in text
    html = classifier.report()._repr_html_()
    assert "<table" in html
    for width, picture in re.findall(r'<svg [^>]*?width="(\d+)"(.*?)</svg>', html, re.DOTALL):
        for x, label in re.findall(r'<text x="([\d.]+)" y="20.5" font-size="10">([^<]*)<', picture):
            assert float(x) + text_width(label, 10) <= float(width), f"label {label!r} must end within the picture"
    assert "validation loss" in html


# ------------------------------------------------------------------------------------------ model files


def test_loaded_model_equals_saved_model(classifier, regressor, table, tmp_path):
    X, _ = table
    for model in (classifier, regressor):
        path = tmp_path / "model.json"
        model.save(path)
        for loaded in (nnc.load(path), type(model).load(path)):
            assert type(loaded) is type(model)
            assert np.array_equal(loaded.predict(X), model.predict(X))
            assert np.array_equal(loaded.feature_importances_, model.feature_importances_)
            chosen_loss = {"loss": model.model_.task.loss} if model is regressor else {}
            assert loaded.get_params() == type(model)("fast", members=3, random_state=1, **chosen_loss).get_params()
            loaded.save(tmp_path / "again.json")
            assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    low, _ = nnc.load(path).predict_interval(X)
    assert np.array_equal(low, regressor.predict_interval(X)[0])
    with pytest.raises(ModelFileError, match=r"it is a TableRegressor, expected .*; load it with TableRegressor.load"):
        TableClassifier.load(path)
    with pytest.raises(ModelFileError, match=r"the content is a table model; load it with nnc.load"):
        nnc.NeuralNetwork.load(path)
    regressor.networks_[0].save(path)
    with pytest.raises(ModelFileError, match=r"the content is a single network; load it with nnc.load"):
        TableRegressor.load(path)
    with pytest.raises(FileNotFoundError, match="nothing"):
        nnc.load(tmp_path / "nothing.json")


def _key_paths(value, path=()):
    """Yield the path of keys to each value of a JSON document; lists contribute only their first three items."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from _key_paths(child, (*path, key))


def test_load_of_changed_file_raises_or_gives_usable_model(classifier, tmp_path):
    """After a change of any value in a file, `load` raises ModelFileError or returns a model that can predict."""
    path = tmp_path / "model.json"
    classifier.save(path)
    text = path.read_text()
    changed = json.loads(text)
    changed["table"]["held_out"]["temperature"] = 2.0
    path.write_text(json.dumps(changed))
    with pytest.raises(ModelFileError, match="checksum"):
        nnc.load(path)
    table, networks = json.loads(text)["table"], classifier.networks_
    X, n_rejected = build_table(5)[0], 0
    for key_path in _key_paths(table):
        for replacement in (None, -1, "x", [], {}, 1e400, [[1]]):
            changed = copy.deepcopy(table)
            parent = changed
            for key in key_path[:-1]:
                parent = parent[key]
            if parent[key_path[-1]] == replacement:
                continue
            parent[key_path[-1]] = replacement
            try:
                with _serialization.build_errors("a file"):
                    model = file.parse_model(changed, networks)
            except ModelFileError:
                n_rejected += 1
            else:
                model.predict(read_table(X))
    assert n_rejected > 300


# ------------------------------------------------------------------------------------------ scikit-learn interface


@parametrize_with_checks(
    [model_class(members=2) for model_class in MODEL_CLASSES],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "repeated rows and weighted rows give different mini-batches",
        "check_array_api_input": "requires the environment variable SCIPY_ARRAY_API",
    },
)
def test_estimator_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


def test_models_work_in_grid_search_and_pipeline(table, labels):
    X, _ = table
    search = GridSearchCV(TableClassifier("fast", members=1, random_state=0), {"members": [1, 2]}, cv=2)
    assert search.fit(X, labels).best_params_["members"] in (1, 2)
    pipeline = make_pipeline(TableRegressor("fast", members=1, random_state=0)).fit(*table)
    assert pipeline.score(*table) > 0.7


def test_sample_weight_is_routed_as_metadata(table, labels):
    X, _ = table
    with sklearn.config_context(enable_metadata_routing=True):
        model = TableClassifier("fast", members=1, random_state=0).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=False)
        search = GridSearchCV(model, {"members": [1]}, cv=2)
        search.fit(X, labels, sample_weight=np.ones(400))
        assert search.best_score_ > 0.5


# ------------------------------------------------------------------------------------------ extreme targets


@pytest.mark.parametrize("magnitude", [1e-30, 1e6, 1e30])
def test_poisson_loss_fits_targets_of_any_magnitude(magnitude):
    X = np.random.default_rng(0).standard_normal((200, 3))
    y = np.abs(X[:, 0]) * magnitude
    assert TableRegressor("fast", loss="poisson", members=2, random_state=0).fit(X, y).score(X, y) > 0.9


def test_largest_float64_targets_can_be_fitted():
    X = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    with pytest.warns(LeakageWarning, match="'x0'"):
        model = TableRegressor("fast", members=2, random_state=0).fit(X, 1.7e308 * X[:, 0])
    assert model.held_out_.score > 0.9
