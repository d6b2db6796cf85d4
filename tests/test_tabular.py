"""TableClassifier and TableRegressor: what they learn, that they repeat to the bit, stop and go on, and their files."""

import copy
import json
import re
import signal

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
from nnc.tabular import LeakageWarning, TableClassifier, TableRegressor, file, read_table  # noqa: E402
from nnc.tabular.recipe import (  # noqa: E402
    CROSS_ENTROPY,
    PRESETS,
    Task,
    build_network,
    choose_member_count,
    default_loss,
    fit_options,
)
from nnc.tabular.training import FOLDS, Member, MemberSpec, Rows, Training  # noqa: E402

KINDS = (TableClassifier, TableRegressor)


def frame(n=400, seed=0):
    """Numbers, text and booleans, some of them missing, and what depends on them: a number."""
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal(n), rng.exponential(size=n) * 1000
    town = rng.choice(["Ulm", "Jena", "Kiel", "Bonn"], n).astype(object)
    wet = rng.random(n) < 0.5
    number = 3 * np.sin(2 * x) + (town == "Kiel") * 4 + wet * (z > 700) * 2
    town[rng.random(n) < 0.1] = None
    z[rng.random(n) < 0.1] = np.nan
    X = pd.DataFrame({"x": x, "z": z, "town": town, "wet": wet, "noise": rng.standard_normal(n), "same": 1})
    return X, number


@pytest.fixture(scope="module")
def table():
    return frame()


@pytest.fixture(scope="module")
def labels(table):
    return np.where(table[1] > 2, "high", np.where(table[1] > -1, "middle", "low"))


@pytest.fixture(scope="module")
def classifier(table, labels):
    return TableClassifier("fast", random_state=1).fit(table[0], labels)


@pytest.fixture(scope="module")
def regressor(table):
    return TableRegressor("fast", random_state=1).fit(*table)


# ------------------------------------------------------------------------------------------ what they learn


def test_classes(classifier, labels):
    X, number = frame(300, seed=9)
    truth = np.where(number > 2, "high", np.where(number > -1, "middle", "low"))
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


def test_numbers(regressor, table):
    X, number = frame(300, seed=9)
    assert regressor.score(X, number) > 0.8
    predicted = regressor.predict(X)
    assert predicted.shape == (300,)
    assert table[1].min() <= predicted.min()
    assert predicted.max() <= table[1].max()
    far = X.assign(x=1e9)
    assert np.isfinite(regressor.predict(far)).all()
    assert regressor.predict(far).max() <= table[1].max()


@pytest.mark.parametrize("kind", ["polars", "pyarrow", "array"])
def test_every_container_gives_the_same_bits(kind, table):
    X, y = table
    X = X[["x", "z", "noise"]]
    expected = TableRegressor("fast", members=1, random_state=0).fit(X, y).predict(X)
    if kind == "array":
        other = X.to_numpy()
    elif kind == "polars":
        other = pytest.importorskip("polars").DataFrame({name: X[name].to_numpy() for name in X})
    else:
        other = pytest.importorskip("pyarrow").Table.from_pandas(X)
    model = TableRegressor("fast", members=1, random_state=0).fit(other, y)
    assert np.array_equal(model.predict(other), expected)


def test_columns_go_by_their_names(classifier, table):
    X = table[0]
    expected = classifier.predict_proba(X)
    assert np.array_equal(classifier.predict_proba(X[[*X][::-1]]), expected)
    assert np.isfinite(classifier.predict_proba(X.assign(town="Rom"))).all()
    with pytest.raises(ValueError, match="town"):
        classifier.predict(X.drop(columns="town"))
    with pytest.raises(ValueError, match=r"X has 2 features, but TableClassifier is expecting 6"):
        classifier.predict(np.zeros((3, 2)))


def test_several_targets(table):
    X, y = table
    model = TableRegressor("fast", random_state=0).fit(X, np.column_stack([y, 100 - y]))
    predicted = model.predict(X)
    assert predicted.shape == (400, 2)
    assert np.corrcoef(predicted[:, 0], predicted[:, 1])[0, 1] < -0.95
    low, high = model.predict_interval(X)
    assert low.shape == high.shape == (400, 2)
    assert (low < high).all()


def test_quantiles():
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
    with pytest.raises(ValueError, match="sample_weight must be None with quantiles"):
        model.fit(X, y, np.ones(600))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantiles": [0.5, 0.1]}, "quantiles must be one or several increasing"),
        ({"quantiles": [0.5, 1]}, "above 0 and below 1"),
        ({"quantiles": [0.5], "loss": "poisson"}, "loss must be None with quantiles"),
        ({"loss": "poisson"}, "y must be 0 or more with loss"),
    ],
)
def test_what_regressors_refuse(arguments, message, table):
    with pytest.raises(ValueError, match=message):
        TableRegressor("fast", **arguments).fit(*table)


@pytest.mark.parametrize("loss", ["poisson", "absolute_error"])
def test_losses(loss):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (600, 2))
    mean = np.exp(1 + 2 * X[:, 0])
    y = rng.poisson(mean)
    model = TableRegressor("fast", loss=loss, random_state=0).fit(X, y)
    predicted = model.predict(X)
    assert predicted.min() >= 0
    assert np.corrcoef(predicted, mean)[0, 1] > 0.95


def test_weights_of_rows_and_classes(table, labels):
    X, y = table
    wrong = np.arange(400) % 3 == 0
    mixed = np.where(wrong, "low", labels)
    weights = np.where(wrong, 0.0, 2.0)
    weighted, plain = (
        TableClassifier("fast", members=4, random_state=0).fit(X, mixed, w).score(X[wrong], labels[wrong])
        for w in (weights, None)
    )
    assert weighted > 0.7
    assert weighted > plain + 0.2
    rare = (np.random.default_rng(0).random(400) < 0.02 + 0.3 * (y > np.quantile(y, 0.7))).astype(int)
    plain, balanced = (
        TableClassifier("fast", class_weight=weight, random_state=0).fit(X, rare).predict(X).sum()
        for weight in (None, "balanced")
    )
    assert balanced > plain
    by_dict = TableClassifier("fast", class_weight={1: 19.0}, random_state=0).fit(X, rare).predict(X).sum()
    assert by_dict > plain
    with pytest.raises(ValueError, match=r"class_weight must be one of the classes of y, \[0, 1\], got 2"):
        TableClassifier(class_weight={2: 1.0}).fit(X, rare)


@pytest.mark.parametrize("n", [2, 3, 9, 10, 12, 21])
def test_few_rows(n):
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
def test_labels_that_are_none(y, message, table):
    with pytest.raises(ValueError, match=message):
        TableClassifier("fast").fit(table[0], y)


# ------------------------------------------------------------------------------------------ that they repeat


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_repeats_to_the_bit(kind, table, labels):
    X, y = table
    y = labels if kind is TableClassifier else y
    first = kind("fast", n_jobs=1).fit(X, y)
    again = kind("fast", n_jobs=2, members=first.n_members_, random_state=first.seed_).fit(X, y)
    for a, b in zip(first.networks_, again.networks_, strict=True):
        assert a.params.tobytes() == b.params.tobytes()
    assert np.array_equal(first.predict(X), again.predict(X))
    other = kind("fast", random_state=first.seed_ + 1).fit(X, y)
    assert other.networks_[0].params.tobytes() != first.networks_[0].params.tobytes()


def test_members_by_rule():
    assert [choose_member_count(preset, 500) for preset in PRESETS] == list(PRESETS.values())
    counts = [choose_member_count("default", 10**k) for k in range(2, 8)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 2


def training(n=23, task=None, bins=False, seed=0, kind=Training):
    rng = np.random.default_rng(3)
    task = Task(CROSS_ENTROPY, 3) if task is None else task
    y = np.sort(rng.integers(0, 3, n)).astype(np.int32) if task.kind == "classes" else rng.standard_normal((n, 1))
    X = rng.standard_normal((n, 2)).astype(np.float32)
    return kind(task, Rows(X, X if bins else None, y, None), seed, 1)


def test_every_row_is_held_out_in_one_fold():
    work = training(53)
    held = np.stack([work.held_out_mask(fold) for fold in range(FOLDS)])
    assert (held.sum(axis=0) == 1).all()
    for label in range(3):
        counts = held[:, work.rows.y == label].sum(axis=1)
        assert counts.max() - counts.min() <= 1
    assert not work.held_out_mask(None).any()


@pytest.mark.parametrize(
    ("bins", "count", "folds"),
    [
        (False, 1, [0]),
        (False, 3, [0, 1, 2]),
        (False, 7, [0, 1, 2, 3, 4, None, None]),
        (True, 1, [0]),
        (True, 2, [0, 0]),
        (True, 3, [0, 0, 1]),
        (True, 12, [0, 0, 1, 1, 2, 3, 4, *[None] * 5]),
        (True, 24, [0, 0, 1, 1, 2, 2, 3, 3, 4, *[None] * 15]),
        (True, 90, [*np.repeat(range(5), 2), *[None] * 80]),
    ],
)
def test_members_are_validated_on_the_folds_in_turn(bins, count, folds):
    """Each fold is validated by one member, or by one of each encoding; further members learn from all rows."""
    specs = []

    class RecordedTraining(Training):
        """A training that records what it would train, and finds the second encoding better."""

        def train(self, asked):
            specs.extend(asked)
            self.members = dict.fromkeys(specs, Member(MemberSpec(0, False, 0), None, complete=False))

        def better(self, pairs, part=None):
            return (False, True)

    training(bins=bins, kind=RecordedTraining).run(count)
    assert [spec.fold for spec in specs] == folds
    assert [spec.number for spec in specs] == list(range(count))


@pytest.mark.parametrize("bins", [False, True])
@pytest.mark.parametrize("count", [1, 7])
def test_members_of_few_rows_learn_from_all_of_them(bins, count):
    """Nine rows are too few for folds, and a training that yields no member ends as if interrupted."""
    specs = []

    class EmptyTraining(Training):
        """A training that records what it would train, and trains nothing."""

        def train(self, asked):
            specs.extend(asked)

    with pytest.raises(KeyboardInterrupt):
        training(9, bins=bins, kind=EmptyTraining).run(count)
    assert [spec.fold for spec in specs] == [None] * count


@pytest.mark.parametrize("task", [Task(CROSS_ENTROPY, 3), Task("squared_error", 1)])
def test_members_behind_the_cross_validation_learn_from_all_rows_for_the_epochs_that_were_best(task):
    work = training(200, task)
    members = work.run(7)
    checked, whole = members[:5], members[5:]
    assert all(len(member.curve) > 1 and np.isfinite(member.error) for member in checked)
    best = []
    for member in checked:
        curve = np.array(member.curve) * (1 if task.kind == "classes" else -1)
        best.append(np.flatnonzero(curve == curve.max())[-1] + 1)
    last = work.best_epoch_count(False)
    assert last == sorted(best)[2]
    assert work.best_epoch_count(True) is None
    arguments = {k: v for k, v in fit_options(task, 160).items() if k not in ("metrics", "monitor", "restore_best")}
    for member in whole:
        net = build_network(task, 2, work.member_seed(member.spec))
        net.fit(work.rows.plain, work.y, callback=lambda record: record.epoch == last, **arguments)
        assert net.params.tobytes() == member.network.params.tobytes()
        assert member.curve == ()


@pytest.mark.parametrize(
    ("task", "plain", "bins", "kept"),
    [
        (Task(CROSS_ENTROPY, 3), 1, 0.7, (True,)),
        (Task(CROSS_ENTROPY, 3), 1, 1.4, (False,)),
        (Task(CROSS_ENTROPY, 3), 1, 1.2, (False, True)),
        (Task("squared_error", 1), 1, 0.9, (True,)),
        (Task("squared_error", 1), 1, 1.2, (False,)),
        (Task("squared_error", 1), 1, 1.05, (False, True)),
    ],
)
def test_which_encoding_is_kept(task, plain, bins, kept):
    work = training(task=task, bins=True)
    net = build_network(work.task, 2, 0)
    for fold in range(2):
        work.members[MemberSpec(2 * fold, False, fold)] = Member(MemberSpec(2 * fold, False, fold), net, plain)
        work.members[MemberSpec(2 * fold + 1, True, fold)] = Member(MemberSpec(2 * fold + 1, True, fold), net, bins)
    work.members[MemberSpec(9, True, 4)] = Member(MemberSpec(9, True, 4), net, 0.0)  # not one of the pairs
    work.n_pairs = 2
    assert work.select_encodings() == kept


def test_the_loss_follows_the_targets():
    rng = np.random.default_rng(0)
    prices, even = rng.lognormal(2, 0.6, (500, 1)), rng.normal(50, 5, (500, 1))
    assert default_loss(prices) == default_loss(1e300 * prices) == default_loss(1e-300 * prices) == "poisson"
    assert default_loss(even) == default_loss(np.zeros((9, 1))) == default_loss(np.ones((9, 1))) == "squared_error"
    assert default_loss(prices - 1.01 * prices.min()) == "squared_error"  # one is below 0
    assert default_loss(np.hstack([prices, even])) == "squared_error"
    assert default_loss(np.hstack([prices, prices**2])) == "poisson"
    low = (prices < np.median(prices))[:, 0]
    twice = np.concatenate([prices[low], prices[low], prices[~low]])
    assert default_loss(prices, 1.0 + low) == default_loss(twice)


def test_the_loss_that_was_chosen_is_named_and_makes_the_model_again(table):
    X, y = table
    y = np.exp((y - y.mean()) / y.std())
    model = TableRegressor("fast", random_state=0).fit(X, y)
    assert "TableRegressor('fast', members=3, loss='poisson', random_state=0)" in str(model.report())
    again = TableRegressor("fast", loss="poisson", random_state=0).fit(X, y)
    other = TableRegressor("fast", loss="squared_error", random_state=0).fit(X, y)
    assert np.array_equal(again.predict(X), model.predict(X))
    assert not np.array_equal(other.predict(X), model.predict(X))
    below = TableRegressor("fast", random_state=0).fit(X, y - y.mean())
    assert "loss='squared_error'" in str(below.report())


def test_steps_follow_the_rows():
    task = Task("squared_error", 1)
    assert [fit_options(task, rows)["batch_size"] for rows in (3, 40, 2400, 10**6)] == [3, 32, 32, 64]
    assert [fit_options(task, rows)["epochs"] for rows in (3, 600, 10**6)] == [112, 94, 56]


def test_bins_are_chosen_where_numbers_jump():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (1500, 1))
    y = np.array([3.0, -2, 5, 0, 4, -4, 1, 2])[(x[:, 0] * 8).astype(int)]
    model = TableRegressor("fast", random_state=0).fit(x, y)
    assert model.model_.encodings == {True}
    assert model.score(x, y) > 0.9


# ------------------------------------------------------------------------------------------ stopping, going on


def test_callback_and_progress(table, capfd):
    pytest.importorskip("tqdm")
    seen = []
    model = TableRegressor(
        "fast", members=2, n_jobs=1, progress=True, callback=lambda place, record: seen.append((place, record.epoch))
    ).fit(*table)
    epochs = fit_options(Task("squared_error", 1), 320)["epochs"]
    done = [sum(at == place for at, _ in seen) for place in range(2)]
    assert sorted(seen) == [(place, epoch) for place in range(2) for epoch in range(1, done[place] + 1)]
    assert f"{2 * epochs}/{2 * epochs}" in capfd.readouterr().err
    assert len(model.networks_) in (1, 2)


def test_a_training_that_is_past_its_best_is_ended(table, set_limit):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 5)), rng.standard_normal(300)
    seen, spared = [], {}

    def see(place, record):
        seen.append(place)
        if "skipped_epochs" in record:
            spared[place] = record.epoch, record["skipped_epochs"]

    model = TableRegressor("fast", random_state=0, callback=see).fit(X, y)
    epochs = fit_options(Task("squared_error", 1), 240)["epochs"]
    assert spared
    assert model.complete_
    assert set(spared.values()) == {(epochs // 2, epochs - epochs // 2)}
    assert all(seen.count(place) == (epochs // 2 if place in spared else epochs) for place in set(seen))

    set_limit("nnc.tabular.training.MAX_BEST_EPOCH_FRACTION", 0.0)
    whole = TableRegressor("fast", random_state=0).fit(X, y)
    pairs = list(zip(model.model_.members, whole.model_.members, strict=True))
    assert {member.spec.number for member, _ in pairs} & set(spared)
    for member, other in pairs:
        n = len(member.curve)
        assert other.curve[:n] == member.curve
        if other.error == member.error:  # else it was better again, by chance
            assert np.array_equal(other.network.params, member.network.params)

    spared.clear()
    TableRegressor("fast", random_state=0, callback=see).fit(*table)
    assert not spared


class StopError(Exception):
    """What a callback ends a fit with."""


def test_a_checkpoint_goes_on_to_the_same_model(tmp_path, table):
    X, y = table
    path = tmp_path / "fit.json"
    expected = TableRegressor("fast", members=7, random_state=0, n_jobs=1).fit(X, y)

    def stop(place, record):
        if place == 6:
            raise StopError

    arguments = {"members": 7, "random_state": 0, "n_jobs": 1, "checkpoint": path}
    with pytest.raises(StopError):
        TableRegressor("fast", callback=stop, **arguments).fit(X, y)
    assert path.exists()
    with pytest.raises(OSError, match="not a checkpoint of this fit"):
        TableRegressor("fast", **arguments).fit(X, y + 1)
    with pytest.raises(OSError, match=r"load it with nnc\.load"):
        nnc.NeuralNetwork.load(path)
    places = set()
    model = TableRegressor("fast", callback=lambda place, record: places.add(place), **arguments).fit(X, y)
    assert places == {6}
    assert not path.exists()
    assert np.array_equal(model.predict(X), expected.predict(X))
    assert model.held_out_.score == expected.held_out_.score
    assert np.array_equal(model.held_out_.scores, expected.held_out_.scores)
    assert np.array_equal(model.feature_importances_, expected.feature_importances_)


@pytest.mark.parametrize("place", [0, 1, 4], ids=["first", "both encodings", "other folds"])
def test_resumed_fit_gives_the_same_estimates(tmp_path, table, labels, place):
    arguments = {"members": 7, "random_state": 0, "checkpoint": tmp_path / "fit.json"}
    expected = TableClassifier("fast", members=7, random_state=0).fit(table[0], labels)

    def stop(number, record):
        if number == place + 1:
            raise StopError

    with pytest.raises(StopError):
        TableClassifier("fast", callback=stop, n_jobs=1, **arguments).fit(table[0], labels)
    model = TableClassifier("fast", n_jobs=2, **arguments).fit(table[0], labels)
    assert model.held_out_[:4] == expected.held_out_[:4]
    assert np.array_equal(model.held_out_.scores, expected.held_out_.scores)
    assert np.array_equal(model.predict_proba(table[0]), expected.predict_proba(table[0]))
    for mine, others in zip(model.model_.importances, expected.model_.importances, strict=True):
        assert np.array_equal(mine, others)


def test_a_network_of_an_epoch_for_which_there_was_no_time_is_in_no_checkpoint(tmp_path, table, set_limit):
    set_limit("nnc.tabular.training.CHECKPOINT_SECONDS", 0.0)
    arguments = {"members": 1, "random_state": 0, "checkpoint": tmp_path / "fit.json"}
    model = TableRegressor(max_seconds=1e-9, **arguments).fit(*table)
    assert not model.complete_
    expected = TableRegressor(members=1, random_state=0).fit(*table)
    assert np.array_equal(TableRegressor(**arguments).fit(*table).predict(table[0]), expected.predict(table[0]))


def test_the_progress_of_a_fit_that_goes_on_comes_to_its_end(tmp_path, table, capfd):
    pytest.importorskip("tqdm")
    arguments = {"members": 3, "random_state": 0, "n_jobs": 1, "checkpoint": tmp_path / "fit.json"}

    def stop(place, record):
        if place == 2:
            raise StopError

    with pytest.raises(StopError):
        TableRegressor(callback=stop, **arguments).fit(*table)
    capfd.readouterr()
    TableRegressor(progress=True, **arguments).fit(*table)
    assert "100%" in capfd.readouterr().err


def test_no_member_learns_from_all_rows_after_the_cross_validation_diverged():
    """The error is raised after the five folds, before members without held-out rows are trained."""
    seen = []

    class DivergingTraining(Training):
        """A training whose first networks diverge."""

        def train(self, specs):
            seen.extend(specs)
            self.diverged = nnc.DivergedError("no", None, 1, 1)

    with pytest.raises(nnc.DivergedError):
        training(50, kind=DivergingTraining).run(9)
    assert [spec.fold for spec in seen] == [0, 1, 2, 3, 4]


def test_ctrl_c_keeps_what_there_is(table):
    X, y = table

    def interrupt(place, record):
        if place == 2 and record.epoch == 3:
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    model = TableRegressor("default", random_state=0, n_jobs=1, callback=interrupt).fit(X, y)
    assert signal.getsignal(signal.SIGINT) is handler
    assert 1 <= len(model.networks_) <= 4
    assert np.isfinite(model.predict(X)).all()


def test_max_seconds(table):
    X, y = table
    model = TableRegressor("best", random_state=0, max_seconds=1e-3).fit(X, y)
    assert len(model.networks_) < PRESETS["best"]
    assert np.isfinite(model.predict(X)).all()


# ------------------------------------------------------------------------------------------ how far to trust them


def test_intervals_and_sets_hold_what_they_say():
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


def test_importances_and_explanations(classifier, regressor, table, labels):
    X, _ = table
    for model in (classifier, regressor):
        importances = dict(zip(X, model.feature_importances_, strict=True))
        assert importances["x"] == max(importances.values())
        assert importances["same"] == 0
        assert importances["noise"] < importances["town"]
    found = regressor.explain(X[:20])
    total = np.clip(found.contributions.sum(axis=1) + found.baseline, *regressor.model_.bounds[:, 0])
    np.testing.assert_allclose(total, regressor.predict(X[:20]), atol=2e-4)
    assert not found.contributions[:, 5].any()
    found = classifier.explain(X[:20])
    P = classifier.predict_proba(X[:20])
    np.testing.assert_allclose(found.contributions.sum(axis=1) + found.baseline, P.max(axis=1), atol=1e-5)
    low = classifier.explain(X[:20], "low")
    np.testing.assert_allclose(low.contributions.sum(axis=1) + low.baseline, P[:, 1], atol=1e-5)
    assert "town" in str(low)
    with pytest.raises(ValueError, match="label must be one of the classes of y"):
        classifier.explain(X[:2], "lowest")


def test_report(classifier):
    text = str(classifier.report())
    for name in ("x", "town", "same", "TableClassifier('fast', members=3, random_state=1)", "calibration error"):
        assert name in text
    assert "validation accuracy" in text
    html = classifier.report()._repr_html_()
    assert "<table" in html
    for x, label in re.findall(r'<text x="([\d.]+)" y="20.5" font-size="10">([^<]*)<', html):
        assert float(x) + text_width(label, 10) <= 320, f"{label!r} reaches beyond the picture"
    assert "validation accuracy" in html


# ------------------------------------------------------------------------------------------ files


def test_files_are_exact(classifier, regressor, table, tmp_path):
    X, _ = table
    for model in (classifier, regressor):
        path = tmp_path / "model.json"
        model.save(path)
        for again in (nnc.load(path), type(model).load(path)):
            assert type(again) is type(model)
            assert np.array_equal(again.predict(X), model.predict(X))
            assert np.array_equal(again.feature_importances_, model.feature_importances_)
            named = {"loss": model.model_.task.loss} if model is regressor else {}
            assert again.get_params() == type(model)("fast", members=3, random_state=1, **named).get_params()
            again.save(tmp_path / "again.json")
            assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    low, _ = nnc.load(path).predict_interval(X)
    assert np.array_equal(low, regressor.predict_interval(X)[0])
    with pytest.raises(ModelFileError, match=r"it is a TableRegressor, expected .*; load it with TableRegressor.load"):
        TableClassifier.load(path)
    with pytest.raises(ModelFileError, match=r"it is a model of a table; load it with nnc.load"):
        nnc.NeuralNetwork.load(path)
    regressor.networks_[0].save(path)
    with pytest.raises(ModelFileError, match=r"it is a single network; load it with nnc.load"):
        TableRegressor.load(path)
    with pytest.raises(FileNotFoundError, match="nothing"):
        nnc.load(tmp_path / "nothing.json")


def _places(value, place=()):
    """All members of a document but those of networks and lists of numbers."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, part in items:
        yield (*place, key)
        yield from _places(part, (*place, key))


def test_hostile_files(classifier, tmp_path):
    """Whatever is changed, `load` raises ModelFileError or gives a model that can be used."""
    path = tmp_path / "model.json"
    classifier.save(path)
    text = path.read_text()
    changed = json.loads(text)
    changed["table"]["held_out"]["temperature"] = 2.0
    path.write_text(json.dumps(changed))
    with pytest.raises(ModelFileError, match="checksum"):
        nnc.load(path)
    table, networks = json.loads(text)["table"], classifier.networks_
    X, refused = frame(5)[0], 0
    for place in _places(table):
        for new in (None, -1, "x", [], {}, 1e400, [[1]]):
            changed = copy.deepcopy(table)
            part = changed
            for key in place[:-1]:
                part = part[key]
            if part[place[-1]] == new:
                continue
            part[place[-1]] = new
            try:
                with _serialization.build_errors("a file"):
                    model = file.parse_model(changed, networks)
            except ModelFileError:
                refused += 1
            else:
                model.predict(read_table(X))
    assert refused > 300


# ------------------------------------------------------------------------------------------ as scikit-learn's


@parametrize_with_checks(
    [kind(members=2) for kind in KINDS],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "rows are drawn into batches",
        "check_array_api_input": "needs SCIPY_ARRAY_API",
    },
)
def test_estimator_checks(estimator, check):
    check(estimator)


def test_within_searches_and_pipelines(table, labels):
    X, _ = table
    search = GridSearchCV(TableClassifier("fast", members=1, random_state=0), {"members": [1, 2]}, cv=2)
    assert search.fit(X, labels).best_params_["members"] in (1, 2)
    pipeline = make_pipeline(TableRegressor("fast", members=1, random_state=0)).fit(*table)
    assert pipeline.score(*table) > 0.7


def test_weights_are_routed(table, labels):
    X, _ = table
    with sklearn.config_context(enable_metadata_routing=True):
        model = TableClassifier("fast", members=1, random_state=0).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=False)
        search = GridSearchCV(model, {"members": [1]}, cv=2)
        search.fit(X, labels, sample_weight=np.ones(400))
        assert search.best_score_ > 0.5


# ------------------------------------------------------------------------------------------ extremes


@pytest.mark.parametrize("size", [1e-30, 1e6, 1e30])
def test_counts_of_any_size(size):
    X = np.random.default_rng(0).standard_normal((200, 3))
    y = np.abs(X[:, 0]) * size
    assert TableRegressor("fast", loss="poisson", members=2, random_state=0).fit(X, y).score(X, y) > 0.9


def test_targets_at_the_end_of_the_range():
    X = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    with pytest.warns(LeakageWarning, match="'x0'"):
        model = TableRegressor("fast", members=2, random_state=0).fit(X, 1.7e308 * X[:, 0])
    assert model.held_out_.score > 0.9
