"""Tests of table models in difficult cases: interrupts, zero weights, constant targets, wide tables and memory."""

import inspect
import pickle
import signal
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

import nnc
from nnc._tables.cells import CellError
from nnc._training.loop import TrainingLoop
from nnc.tabular import TableClassifier, TableRegressor, held_out, read_table
from nnc.tabular.temperature import expected_calibration_error, fit_temperature

# Some targets are functions of a column, which gives this warning.
pytestmark = pytest.mark.filterwarnings("ignore::nnc.tabular.LeakageWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 3))
Y = X[:, 0]
LABELS = (Y > 0).astype(int) + (Y > 1)


def first_rows_weights(n):
    """Return sample weights for 120 rows: 1 for the first n rows, and 0 for the others."""
    return np.where(np.arange(120) < n, 1.0, 0.0)


@pytest.fixture(autouse=True)
def _few_epochs(set_limit):
    set_limit("nnc.tabular.recipe.MIN_EPOCHS", 8)
    set_limit("nnc.tabular.recipe.MAX_EPOCHS", 8)


# ------------------------------------------------------------------------------------------ interrupted fits


@pytest.mark.parametrize("step", ["fit_temperature", "expected_calibration_error", "permutation_importances"])
def test_ctrl_c_after_training_leaves_complete_model(step, monkeypatch, tmp_path):
    expected = TableClassifier("fast", members=2, random_state=0).fit(X, LABELS)
    original = getattr(held_out, step)

    def interrupted(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        return original(*arguments, **options)

    # No code of the user runs after the training, so only a replaced step can raise the signal there.
    monkeypatch.setattr(held_out, step, interrupted)
    handler = signal.getsignal(signal.SIGINT)
    model = TableClassifier("fast", members=2, random_state=0).fit(X, LABELS)
    assert signal.getsignal(signal.SIGINT) is handler
    assert model.complete_
    model.save(tmp_path / "model.json")
    for restored in (model, nnc.load(tmp_path / "model.json")):
        assert restored.held_out_[:4] == expected.held_out_[:4]
        assert np.array_equal(restored.feature_importances_, expected.feature_importances_)
        assert "time" in restored.report().facts


def test_ctrl_c_before_training_preserves_previous_model(make_fail):
    """An interrupted second fit leaves the predictions of the first fit unchanged."""
    model = TableClassifier("fast", members=1, random_state=0).fit(X, LABELS)
    before = model.predict_proba(X)
    make_fail("nnc.tabular.Schema.learn", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[:, :2], LABELS)
    assert np.array_equal(model.predict_proba(X), before)


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("model_class", [TableClassifier, TableRegressor])
def test_ctrl_c_during_validation_discards_unmeasured_epoch(model_class, epoch, monkeypatch, tmp_path):
    """The model, its file and its report contain only epochs whose validation loss was computed."""
    evaluate = TrainingLoop.evaluate

    def interrupted(training_loop):
        if training_loop.epoch == epoch:
            signal.raise_signal(signal.SIGINT)
        evaluate(training_loop)

    # Callbacks run before or after a validation, so only a replaced method can raise the signal in between.
    monkeypatch.setattr(TrainingLoop, "evaluate", interrupted)
    model = model_class("fast", members=1, n_jobs=1, random_state=0).fit(
        X, LABELS if model_class is TableClassifier else Y
    )
    assert not model.complete_
    assert len(model.model_.members[0].curve) == epoch - 1
    model.save(tmp_path / "model.json")
    loaded = nnc.load(tmp_path / "model.json")
    assert [len(member.curve) for member in loaded.model_.members] == [epoch - 1]
    assert np.array_equal(loaded.predict(X), model.predict(X))
    assert "ended early" in model.report().facts
    assert "nan" not in str(loaded.report())


# ------------------------------------------------------------------------------------------ importances and reports


@pytest.fixture(scope="module")
def wide_table():
    """Return a table with one column more than the limit up to which `fit` computes importances."""
    rng = np.random.default_rng(3)
    return np.concatenate([X, rng.standard_normal((120, held_out.MAX_AUTO_IMPORTANCE_COLUMNS - 2))], axis=1)


def test_inspection_of_model_computes_no_importances(wide_table, make_fail):
    """`dir`, `repr`, the HTML view and the report do not compute what `find_importances` computes."""
    narrow = TableRegressor("fast", members=1, random_state=0).fit(X, Y)
    wide = TableRegressor("fast", members=1, random_state=0).fit(wide_table, Y)
    make_fail("nnc.tabular.held_out.permutation_importances", AssertionError("importances were computed"))
    for model in (narrow, wide):
        dir(model), repr(model), model._repr_html_(), inspect.getmembers(model), model.report()
    assert hasattr(narrow, "feature_importances_")
    assert not hasattr(wide, "feature_importances_")
    with pytest.raises(AssertionError, match="importances were computed"):
        wide.find_importances()


def test_importances_of_wide_tables_are_computed_on_request(wide_table, tmp_path):
    """Wide tables have importances only after `find_importances`, which needs held-out rows."""
    model = TableRegressor("fast", members=1, random_state=0).fit(wide_table, Y)
    assert not hasattr(model, "feature_importances_")
    assert "importance" not in str(model.report())
    importances = model.find_importances()
    assert importances.argmax() == 0
    assert np.array_equal(model.feature_importances_, importances)
    assert "importance" in str(model.report())
    # With eight rows, fit holds no rows out, so there are no importances.
    small = TableRegressor("fast", members=1).fit(X[:8], Y[:8])
    assert not hasattr(small, "feature_importances_")
    with pytest.raises(ValueError, match="held-out rows"):
        small.find_importances()
    small.save(tmp_path / "model.json")
    assert not hasattr(nnc.load(tmp_path / "model.json"), "feature_importances_")


@pytest.mark.parametrize(
    ("model_class", "arguments", "weighted"),
    [
        (TableClassifier, {"class_weight": {2: 3.0, 0: 0.5}}, True),
        (TableClassifier, {"class_weight": "balanced", "members": 2}, False),
        (TableRegressor, {"loss": "poisson"}, True),
        (TableRegressor, {"quantiles": (0.2, 0.8), "members": 1}, False),
    ],
    ids=str,
)
def test_report_states_call_that_reproduces_model(model_class, arguments, weighted, tmp_path):
    y = LABELS if model_class is TableClassifier else abs(Y)
    sample_weight = RNG.uniform(1, 2, 120) if weighted else None
    model = model_class("fast", **arguments).fit(X, y, sample_weight)
    model.save(tmp_path / "model.json")
    for fitted in (model, nnc.load(tmp_path / "model.json")):
        call = fitted.report().facts["reproduce with"]
        reproduced = eval(call, {model_class.__name__: model_class, "X": X, "y": y, "sample_weight": sample_weight})
        assert [net.params.tobytes() for net in reproduced.networks_] == [
            net.params.tobytes() for net in model.networks_
        ]
        assert np.array_equal(reproduced.predict(X), model.predict(X))
    parameters = nnc.load(tmp_path / "model.json").get_params()
    assert {name: parameters[name] for name in arguments} == {
        name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()
    }


# ------------------------------------------------------------------------------------- sample weights and class weights


@pytest.mark.parametrize("n", [2, 3, 12, 30])
def test_rows_of_weight_zero_have_no_effect(n):
    for model, y in ((TableClassifier("fast", random_state=0), LABELS), (TableRegressor("fast", random_state=0), Y)):
        fitted = model.fit(X, y, first_rows_weights(n))
        estimates, P = fitted.held_out_, fitted.predict(X)
        # Skip subsets that lack a class: their fit has fewer classes.
        if len(np.unique(y[:n])) == len(np.unique(y)) or y is Y:
            expected = model.fit(X[:n], y[:n], np.ones(n))
            assert expected.held_out_[:2] == estimates[:2]
            assert np.array_equal(expected.predict(X), P)
        assert estimates.n <= n


def test_negligible_weights_have_no_effect():
    negligible = np.where(np.arange(120) % 6 == 0, 1, 1e-40)
    model = TableClassifier("fast", members=2, random_state=0).fit(X, LABELS, negligible)
    expected = TableClassifier("fast", members=2, random_state=0).fit(X, LABELS, np.round(negligible))
    assert np.array_equal(model.predict_proba(X), expected.predict_proba(X))
    for weights in (first_rows_weights(1), np.where(LABELS == 2, 0, 1e-40) + 3 * first_rows_weights(1)):
        with pytest.raises(ValueError, match="must be 2 or more, got 1"):
            TableClassifier("fast").fit(X, LABELS, weights)
    with pytest.raises(ValueError, match="must be 2 or more, got 0"):
        TableClassifier("fast", class_weight=dict.fromkeys(range(3), 0)).fit(X, LABELS)


@pytest.mark.parametrize("argument", ["class_weight", "sample_weight"])
def test_class_of_weight_zero_has_low_probability(argument, tmp_path):
    model = TableClassifier("fast", class_weight={2: 0} if argument == "class_weight" else None, random_state=0)
    model.fit(X, LABELS, (LABELS != 2) * 1.0 if argument == "sample_weight" else None)
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict_proba(X)[:, 2].max() < 0.3
    # Each of three members holds out one of five folds, without rows of weight 0.
    assert model.held_out_.n <= (LABELS != 2).sum() * 3 // 5
    model.save(tmp_path / "model.json")
    assert nnc.load(tmp_path / "model.json").get_params() == model.get_params() | {"members": 3}


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        ({2: -1.0}, ValueError, r"class_weight\[2\] must be a finite number, 0 or more, got -1.0"),
        ({2: np.nan}, ValueError, r"class_weight\[2\] must be a finite number, 0 or more, got nan"),
        ({2: "a"}, TypeError, r"class_weight\[2\] must be a number, got 'a'"),
    ],
)
def test_fit_rejects_invalid_class_weights(weight, error, message):
    with pytest.raises(error, match=message):
        TableClassifier("fast", class_weight=weight).fit(X, LABELS)


def test_importances_and_calibration_use_sample_weights(set_limit):
    set_limit("nnc.tabular.recipe.MAX_EPOCHS", 40)
    n = 600
    Z = np.random.default_rng(1).standard_normal((n, 2))
    has_weight = np.arange(n) % 2 == 0
    y = np.where(has_weight, Z[:, 0], Z[:, 1])  # rows with weight depend on the first column, the others on the second
    model = TableRegressor("fast", members=2, random_state=0).fit(Z, y, np.where(has_weight, 1, 1e-6))
    assert model.feature_importances_[0] > 0.5
    assert abs(model.feature_importances_[1]) < 0.1
    P, index = np.array([[0.8, 0.2]] * 4), np.array([0, 0, 0, 1])
    assert expected_calibration_error(P, index, sample_weight=[1, 1, 2, 1]) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(P, index, sample_weight=[0, 0, 0, 1]) == pytest.approx(0.8)


# ------------------------------------------------------------------------------------------ Poisson loss


@pytest.mark.parametrize(
    "y",
    [
        np.zeros(120),
        first_rows_weights(1),
        1e-300 * first_rows_weights(1),
        1e-310 * abs(Y),
        np.full(120, 5e-324),
        1e12 * first_rows_weights(1) + 1e-5,
    ],
    ids=["zeros", "single 1", "single 1e-300", "denormal", "smallest float", "single 1e12"],
)
def test_poisson_predictions_stay_within_range_of_targets(y, tmp_path):
    model = TableRegressor("fast", loss="poisson", members=2, random_state=0).fit(X, y)
    predicted = model.predict(X)
    assert y.min() <= predicted.min()
    assert predicted.max() <= y.max()
    model.save(tmp_path / "model.json")
    assert np.array_equal(nnc.load(tmp_path / "model.json").predict(X), predicted)


# ------------------------------------------------------------------------------------------ memory and errors of cells


def test_number_of_calibration_rows_does_not_grow_with_members(monkeypatch, set_limit):
    set_limit("nnc.tabular.training.MAX_ESTIMATE_OUTPUTS", 90)
    set_limit("nnc.tabular.training.MIN_ESTIMATE_ROWS", 10)
    rows = []
    original = held_out.fit_temperature
    # No result shows how many rows calibration reads, so the function is replaced by one that records them.
    monkeypatch.setattr(
        held_out, "fit_temperature", lambda z, *arguments: rows.append(len(z)) or original(z, *arguments)
    )
    for members in (1, 5, 15):
        TableClassifier("fast", members=members, random_state=0).fit(X, LABELS)
    assert 15 <= max(rows) <= 30  # 90 outputs allow 30 rows of three classes, or 15 if each is predicted twice
    # These values are so many that fit_temperature uses several blocks.
    z = np.random.default_rng(0).standard_normal((3000, 40))
    index = z.argmax(axis=1)
    index[::3] = 0
    repeated = fit_temperature(np.tile(z, (2, 1)), np.tile(index, 2), np.repeat([1.0, 1e-9], 3000))
    assert repeated == pytest.approx(fit_temperature(z, index), rel=1e-3)


def test_fit_allocates_at_most_1_2_times_size_of_table(set_limit):
    set_limit("nnc.tabular.recipe.MIN_EPOCHS", 1)
    set_limit("nnc.tabular.recipe.MAX_EPOCHS", 1)
    # This limit disables extra features, as a million rows would do.
    set_limit("nnc.tabular.training_rows.MAX_EXTENDED_VALUES", 0)
    set_limit("nnc._parallel.source.MAX_COPY_BYTES", 1 << 14)
    Z = np.random.default_rng(0).standard_normal((40_000, 20))
    y = Z[:, 0] + Z[:, 1] ** 2
    for model, target in ((TableRegressor("fast", members=2), y), (TableClassifier("fast", members=2), y > 0.5)):
        model.set_params(n_jobs=2, random_state=0)
        # The first fit imports modules and fills caches, which must not count as memory below.
        model.fit(Z[:100], target[:100])
        tracemalloc.start()
        try:
            model.fit(Z, target)
            assert tracemalloc.get_traced_memory()[1] < 1.2 * Z.nbytes
        finally:
            tracemalloc.stop()


def test_cell_error_names_row_number_in_whole_table(set_limit):
    model = TableRegressor("fast", members=1, random_state=0).fit(X, Y)
    rows = X.astype(object)
    rows[:, 1] = [f"{x:f}" for x in X[:, 1]]
    set_limit("nnc.tabular.model.MAX_BLOCK_VALUES", 5 * 3)
    np.testing.assert_allclose(model.predict(rows), model.predict(X), atol=1e-3)
    rows[117, 1] = "many"
    with pytest.raises(CellError, match=r"'x1', as .*, got 'many' in row 117; correct it, or leave it empty") as caught:
        model.predict(rows)
    assert caught.value.row == 117


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, np.inf], "got inf in row 1, column 'x0'; use NaN"),
        ([1, 10**400], "in the range of a float"),
        ([b"a", b"\xff"], "text in UTF-8"),
    ],
)
def test_cell_error_can_be_pickled(column, message):
    with pytest.raises(CellError, match=message) as caught:
        read_table([[cell] for cell in column])
    unpickled = pickle.loads(pickle.dumps(caught.value))
    assert type(unpickled) is CellError
    assert str(unpickled) == str(caught.value)
    assert (unpickled.column, unpickled.row, unpickled.reason) == ("x0", 1, caught.value.reason)
    assert str(unpickled.shifted(10)) == str(unpickled).replace("row 1", "row 11")
