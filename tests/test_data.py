"""Tests of the arguments of `fit`: number types, memory maps, batches, labels, scaling and invalid arguments."""

import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (60, 3))
Y = np.sin(X @ rng.uniform(-2, 2, (3, 2)))
INDEX = np.digitize(X[:, 0], [-0.3, 0.3])


def regressor(**settings):
    return NeuralNetwork([3, 8, 2], **{"activation": "tanh", "loss": "mse", "seed": 1, **settings})


def write_memmap(path, array, dtype):
    """Write an array to a file and return it as a read-only memory map."""
    memmap = np.memmap(path, dtype=dtype, mode="w+", shape=array.shape)
    memmap[...] = array
    memmap.flush()
    return np.memmap(path, dtype=dtype, mode="r", shape=array.shape)


# ---------------------------------------------------------------------------------------- number types


@pytest.mark.parametrize(
    "number_type", [np.float16, np.float32, np.float64, np.longdouble, np.int8, np.uint64, np.bool_, list]
)
def test_number_type_of_data_does_not_change_result(number_type):
    integers = rng.integers(0, 2, (20, 3)), rng.integers(0, 2, (20, 2))
    converted = [array.tolist() if number_type is list else array.astype(number_type) for array in integers]
    net, reference = regressor(), regressor()
    net.fit(*converted, epochs=3, lr=0.001, validation=tuple(converted))
    reference.fit(*[array.astype(float) for array in integers], epochs=3, lr=0.001)
    assert np.array_equal(net.params, reference.params)


# ----------------------------------------------------------------------------------------- memory maps


def test_memory_map_with_dtype_of_network_is_read_without_copy(tmp_path, monkeypatch):
    """The core reads a memory map of the network's dtype without a copy of it or of its batches."""
    memmap = write_memmap(tmp_path / "X", X, np.float32)
    net, reference = regressor(dtype="float32"), regressor(dtype="float32")
    received = []
    core = net.model.core
    # Copies of batches change neither the result nor the peak of memory. Therefore the core is replaced by one that
    # records the arrays that it receives.
    monkeypatch.setattr(
        net.model,
        "core",
        SimpleNamespace(
            Training=lambda *a, **k: received.append(a[2].X) or core.Training(*a, **k),
            find_not_finite=core.find_not_finite,
            is_finite=core.is_finite,
        ),
    )
    net.fit(memmap, Y, epochs=3, lr=0.001, batch_size=7)
    reference.fit(np.array(memmap), Y, epochs=3, lr=0.001, batch_size=7)
    assert np.shares_memory(received[0], memmap)
    assert np.array_equal(net.params, reference.params)


@pytest.mark.parametrize("scale_X", [None, "standardize", "minmax"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.float32, np.float16])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
def test_memory_map_gives_same_result_as_array(tmp_path, dtype, shuffle, scale_X):
    """A fit with a memory map equals a fit with the array, also with dropout and weights and in a second fit."""
    raw = np.round(200 * abs(X))
    memmap, array = write_memmap(tmp_path / "X", raw, dtype), raw.astype(dtype)
    settings = {
        "epochs": 3, "lr": 0.01, "batch_size": 7, "shuffle": shuffle, "dropout": 0.2,
        "sample_weight": rng.uniform(0, 1, 60), "callback": lambda record: None,
    }  # fmt: skip
    net, reference = (regressor(dtype="float32", scale_X=scale_X) for _ in range(2))
    for _ in range(2):
        history, expected = net.fit(memmap, Y, **settings), reference.fit(array, Y, **settings)
        assert history.loss == pytest.approx(expected.loss, rel=1e-6)
    assert np.array_equal(net.params, reference.params)
    assert (net.streams.shuffle_position, net.streams.dropout_position) == (
        reference.streams.shuffle_position,
        reference.streams.dropout_position,
    )


def test_memory_map_supports_labels_and_class_weights(tmp_path):
    memmap = write_memmap(tmp_path / "X", np.round(10 * X), np.int16)
    labels = np.array(["a", "b", "c"])[INDEX]
    nets = [NeuralNetwork([3, 3], loss="cross_entropy", seed=0) for _ in range(2)]
    for net, rows in zip(nets, (memmap, np.array(memmap)), strict=True):
        net.fit(
            rows,
            labels,
            epochs=2,
            lr=0.001,
            batch_size=8,
            class_weight="balanced",
            validation=(rows, labels),
            metrics=["f1"],
        )
    assert np.array_equal(nets[0].params, nets[1].params)
    with pytest.raises(ValueError, match=r"validation must be \(X, y\) if metrics"):
        nets[0].fit(memmap, labels, epochs=2, batch_size=8, metrics=["f1"])


SCRIPT_WITH_LARGE_FILE = """
import resource, sys
import numpy as np
import nnc

n = 1_000_000
X = np.memmap(sys.argv[1], dtype=np.uint8, mode="w+", shape=(n, 250))  # sparse file of 250 megabytes
net = nnc.NeuralNetwork([250, 4, 1], loss="mse", dtype="float32", seed=0)
y = np.zeros(n, np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
history = net.fit(X, y, epochs=1, batch_size=50_000, shuffle=False, max_seconds=20)
increase = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
# The cached pages of the file count, 1 byte for each number; a copy in float32 would need 4 more bytes for each.
print(history.stop_reason, increase / 1024)
assert increase < 0.6 * 2**20
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="requires sparse files and ru_maxrss in kilobytes")
def test_large_memory_map_is_not_loaded_into_memory(tmp_path):
    """A fit with a memory map that would take 1 GB as float32 needs less than 0.6 GiB."""
    result = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT_WITH_LARGE_FILE, str(tmp_path / "X")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("shape", "message"),
    [((60, 4), "X must have 3 columns"), ((60,), "X must have 3 columns"), ((60, 3, 1), "X must have 3 columns")],
)
def test_fit_rejects_memory_map_of_wrong_shape(tmp_path, shape, message):
    memmap = np.memmap(tmp_path / "X", dtype=np.uint8, mode="w+", shape=shape)
    net = regressor()
    before = net.params
    with pytest.raises(ValueError, match=message):
        net.fit(memmap, Y, epochs=2, lr=0.001, batch_size=3)
    assert np.array_equal(net.params, before)


@pytest.mark.parametrize("shuffle", [True, False])
def test_fit_rejects_memory_map_with_nan(tmp_path, shuffle):
    array = X.copy()
    array[41, 2] = np.nan
    with pytest.raises(ValueError, match="X must be finite in float64, got nan in row 41, column 2"):
        regressor().fit(
            write_memmap(tmp_path / "X", array, np.float32), Y, epochs=2, lr=0.001, batch_size=7, shuffle=shuffle
        )


# -------------------------------------------------------------------------------------------- batches


def split_batches(*arrays, size=7):
    """Return consecutive batches of the rows of the arrays."""
    return [tuple(array[start : start + size] for array in arrays) for start in range(0, len(arrays[0]), size)]


@pytest.mark.parametrize("loss", ["mse", "sse", "cross_entropy", "hinge", "bce", "quantile"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_fit_batches_equals_fit_with_mini_batches(loss, weighted, dtype):
    y = INDEX if loss in ("cross_entropy", "hinge") else (Y > 0) if loss == "bce" else Y
    weights = rng.uniform(0.1, 2, 60)
    settings = {"epochs": 4, "lr": 0.05, "optimizer": "adam", "dropout": 0.2, "clip_norm": 0.5, "l1": 1e-3, "l2": 1e-2}
    by_fit, by_batches = (
        NeuralNetwork([3, 8, 3 if y.ndim == 1 else 2], loss=loss, dtype=dtype, seed=0) for _ in range(2)
    )
    arrays = (X, y, weights) if weighted else (X, y)
    expected = by_fit.fit(X, y, batch_size=7, shuffle=False, sample_weight=weights if weighted else None, **settings)
    history = by_batches.fit_batches(split_batches(*arrays), **settings)
    assert np.array_equal(by_fit.params, by_batches.params)
    assert history.loss == pytest.approx(expected.loss, rel=1e-5 if dtype == "float32" else 1e-12)


def test_batch_of_zero_weights_gives_finite_loss(tmp_path):
    weights = np.ones(60)
    weights[14:28] = 0
    memmap = write_memmap(tmp_path / "X", X, np.float32)
    settings = {"epochs": 3, "batch_size": 14, "shuffle": False, "sample_weight": weights, "l2": 1e-2, "lr": 0.001}
    from_array, from_memmap = regressor(), regressor()
    expected = from_array.fit(np.array(memmap), Y, **settings)
    history = from_memmap.fit(memmap, Y, **settings)
    assert np.isfinite(history.loss).all()
    assert history.loss == pytest.approx(expected.loss, rel=1e-12)
    assert np.array_equal(from_array.params, from_memmap.params)


def test_fit_batches_accepts_sequences_functions_and_generators():
    expected = regressor()
    expected.fit(X, Y, epochs=3, lr=0.001, batch_size=7, shuffle=False)
    batches = split_batches(X, Y)
    for source in (batches, tuple(batches), lambda: iter(batches), lambda: (batch for batch in batches)):
        net = regressor()
        assert net.fit_batches(source, epochs=3, lr=0.001).epochs == 3
        assert np.array_equal(net.params, expected.params)
    net = regressor()
    for _ in range(3):
        # A generator can be read only once, so each call trains one epoch.
        net.fit_batches((batch for batch in batches), lr=0.001)
    assert np.array_equal(net.params, expected.params)


def test_batches_may_differ_in_size_targets_and_weights():
    """Batches with labels or probabilities, with or without weights, equal a sequence of fits on single batches."""
    net, reference = (NeuralNetwork([3, 8, 3], loss="cross_entropy", seed=0) for _ in range(2))
    probabilities, weights = rng.dirichlet([1, 1, 1], 60), rng.uniform(0.1, 1, 60)
    parts = [slice(0, 5), slice(5, 30), slice(30, 31), slice(31, 60)]
    batches = [
        (X[parts[0]], INDEX[parts[0]]),
        (X[parts[1]], probabilities[parts[1]]),
        [X[parts[2]].tolist(), INDEX[parts[2]].tolist(), weights[parts[2]].tolist()],
        (X[parts[3]], probabilities[parts[3]], weights[parts[3]]),
    ]
    history = net.fit_batches(batches, epochs=2, optimizer="adam", lr=0.01)
    for _ in range(2):
        for batch in batches:
            X_, y_, *w_ = batch
            reference.fit(
                X_,
                y_,
                epochs=1,
                optimizer=None if reference.state else "adam",
                lr=0.01,
                sample_weight=w_[0] if w_ else None,
            )
    assert np.array_equal(net.params, reference.params)
    assert history.epochs == 2


@pytest.mark.parametrize(
    ("batches", "settings", "error", "message"),
    [
        (lambda: iter(split_batches(X, Y)), {"epochs": 0}, ValueError, "epochs must be 1 or more, got 0"),
        (
            iter(split_batches(X, Y)),
            {"epochs": 2},
            ValueError,
            "batches must not be an iterator if epochs=2, .* pass a list, or a function",
        ),
        (
            iter(split_batches(X, Y)),
            {"epochs": None, "max_seconds": 1},
            ValueError,
            "batches must not be an iterator if epochs=None, .* pass a list, or a function",
        ),
        ([], {}, ValueError, "batches must yield at least one batch, got none"),
        (lambda: iter([]), {}, ValueError, "batches must yield at least one batch, got none"),
        (5, {}, TypeError, "batches must be an iterable or a function, got 5"),
        (lambda: 5, {}, TypeError, "batches must return an iterable, got 5"),
        ([[1, 2, 3]], {}, ValueError, "X must have 3 columns to fit this network, got shape"),
        ((X, Y), {}, TypeError, r"batches must contain .*\(X, y, sample_weight, lengths\), got ndarray"),
        ([(X,)], {}, TypeError, r"batches must contain \(X, y\)"),
        ([(X, Y[:3])], {}, ValueError, r"y must have shape \(60, 2\)"),
        (split_batches(X, Y), {"batch_size": 3}, TypeError, "fit_batches has no argument 'batch_size'"),
        (split_batches(X, Y), {"validation": 0.2}, TypeError, r"validation must be \(X, y\) for fit_batches, got 0.2"),
        (split_batches(X, Y), {"metrics": "r2"}, ValueError, r"validation must be \(X, y\) if metrics"),
        (split_batches(X, Y), {"optimizer": "lbfgs"}, ValueError, "fit_batches requires an optimizer"),
    ],
)
def test_fit_batches_rejects_invalid_arguments(batches, settings, error, message):
    net = regressor(scale_X="standardize")
    before = net.params
    with pytest.raises(error, match=message):
        net.fit_batches(batches, **settings)
    assert net.state is None
    assert net.converter.scaling_X is None
    assert np.array_equal(net.params, before)


def test_invalid_batch_preserves_training_on_earlier_batches():
    """The network trains on the batches before an invalid one, and can be trained further."""
    net, reference = regressor(), regressor()
    with pytest.raises(ValueError, match="X must have 3 columns"):
        net.fit_batches([*split_batches(X, Y)[:3], (X[:, :2], Y)], optimizer="adam")
    reference.fit_batches(split_batches(X, Y)[:3], optimizer="adam")
    assert np.array_equal(net.params, reference.params)
    assert net.fit_batches(split_batches(X, Y)).epochs == 1


# --------------------------------------------------------------------------------------------- labels

LABELS = {
    "strings": ["no", "yes", "who knows"],
    "numbers": [3, 7, 9],
    "negative": [-5, 0, 2],
    "floats": [0.5, 1.25, 3.0],
    "bytes": [b"a", b"bc", b"d"],
    "dates": [np.datetime64("2024-02-29"), np.datetime64("2025-01-01"), np.datetime64("2026-11-25")],
    "plain": [0, 1, 2],
    "booleans": [False, True],
}
FORMS = {
    "array": lambda values: np.array(values),
    "list": lambda values: list(values),
    "object": lambda values: np.array(values, dtype=object),
    "column": lambda values: np.array(values)[:, None],
    "scalars": lambda values: [np.array(value)[()] for value in values],
}


def test_fit_rejects_labels_of_mixed_types():
    net = NeuralNetwork([3, 4, 2], loss="cross_entropy", seed=0)
    net.fit(X, np.array(["a", "3"], dtype=object)[INDEX.clip(0, 1)], epochs=1, lr=0.001)
    for invalid in (3, [1], b"b"):
        objects = np.empty(len(X), object)
        objects[:] = [invalid if i == 3 else "a" for i in range(len(X))]
        with pytest.raises(TypeError, match=r"y must have labels of one type, got (3|\[1\]|b'b') in row 3 and 'a'"):
            NeuralNetwork([3, 4, 2], loss="cross_entropy").fit(X, objects, epochs=1, lr=0.001)
    lists = np.empty(len(X), object)
    lists[:] = [[1, 2] if i == 3 else 1 for i in range(len(X))]
    with pytest.raises(TypeError, match=r"y must be an array of real numbers, got \[1, 2\] of type list in row 3"):
        NeuralNetwork([3, 4, 2], loss="cross_entropy").fit(X, lists, epochs=1, lr=0.001)
    with pytest.raises(ValueError, match=r"y must have one label for each row of X, got shape \(2,\)"):
        net.fit(X, ["a", "3"], epochs=1, lr=0.001)
    with pytest.raises(TypeError, match="not ASCII text"):
        net.fit(X, [b"\xff"] * len(X), epochs=1, lr=0.001)


@pytest.mark.sampled(17)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("label_type", LABELS)
@pytest.mark.parametrize(
    ("loss", "n_out"), [("cross_entropy", 3), ("cross_entropy", 2), ("bce", 1), ("hinge", 1), ("hinge", 3)]
)
def test_labels_of_any_type_are_learned_and_predicted(tmp_path, loss, n_out, label_type, form):
    n = 3 if n_out == 3 else 2
    if len(LABELS[label_type]) < n:
        pytest.skip("these labels have only two classes")
    index = INDEX if n == 3 else INDEX.clip(0, 1)
    values = [LABELS[label_type][i] for i in index]
    y = FORMS[form](values)
    net = NeuralNetwork([3, 12, n_out], activation="tanh", loss=loss, seed=0)
    net.fit(X, y, epochs=300, optimizer="adam", lr=0.05, validation=(X[:9], y[:9]), metrics=["accuracy", "f1"])
    expected = np.array(values).astype(str) if label_type in ("strings", "bytes", "dates") else np.array(values)
    predicted = net.predict_classes(X)
    assert (predicted == expected).mean() > 0.95
    assert predicted.dtype.kind == expected.dtype.kind or label_type == "plain"
    assert net.score(X, y) == (predicted == expected).mean()
    assert net.evaluate_loss(X, y) < 0.5
    assert len(net.gradients(X, y)) == 2
    assert nnc.check_gradients(net, X[:7], y[:7]).ok
    loaded = nnc.from_json(net.to_json())
    assert np.array_equal(loaded.predict_classes(X), predicted)
    assert loaded.score(X, y) == net.score(X, y)
    assert (net.classes is None) == (loaded.classes is None)
    duplicate = net.copy()
    duplicate.fit(X[:1], y[:1], epochs=1)  # labels of later fits may lack some classes of the first fit
    assert duplicate.predict_classes(X[:1]).shape == (1,)


def test_numpy_string_dtype_is_accepted_for_labels():
    if not hasattr(np, "dtypes") or not hasattr(np.dtypes, "StringDType"):
        pytest.skip("requires NumPy 2")
    net = NeuralNetwork([3, 3], loss="cross_entropy", seed=0)
    y = np.array(["no", "yes", "who knows"])[INDEX]
    net.fit(X, y.astype(np.dtypes.StringDType()), epochs=2, lr=0.001)
    assert set(net.classes) == set(y)


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
def test_fit_rejects_invalid_labels(loss):
    net = NeuralNetwork([3, 3], loss=loss, seed=0)
    names = np.array(["a", "b", "c"])[INDEX]
    with pytest.raises(ValueError, match=r"y must have 3 classes to fit this network of 3 outputs, got 2: 'a', 'b'"):
        net.fit(X[INDEX < 2], names[INDEX < 2], epochs=1, lr=0.001)
    with pytest.raises(ValueError, match=r"y must have 3 classes .*, got 4"):
        net.fit(X[:4], list("abcd"), epochs=1, lr=0.001)
    with pytest.raises(ValueError, match=r"y must contain labels from 0 to 2.* got 7 in row 1"):
        net.fit(X[:3], [0, 7, 7], epochs=1, lr=0.001)
    assert net.classes is None
    net.fit(X, names, epochs=1, lr=0.001)
    for method in (net.evaluate_loss, net.score, net.gradients, net.train_step):
        with pytest.raises(
            ValueError, match=r"y must contain only the classes of this network, 'a', 'b', 'c', got 'x' in row 1"
        ):
            method(X[:2], ["a", "x"])
    with pytest.raises(ValueError, match=r"y must contain only the classes of this network.*got 1 in row 0"):
        net.score(X[:2], [1, 2])
    message = "validation: y must contain only the classes of this network, 'a', 'b', 'c', got 'x' in row 0"
    with pytest.raises(ValueError, match=message):
        net.fit(X, names, epochs=1, lr=0.001, validation=(X[:1], ["x"]))


def test_class_weights_equal_sample_weights():
    names = np.array(["a", "b", "c"])[INDEX]
    counts = np.bincount(INDEX)
    cases = [
        ({"class_weight": {"a": 2.0, "c": 0.5}}, np.array([2.0, 1.0, 0.5])[INDEX]),
        ({"class_weight": {np.str_("b"): 3}}, np.array([1.0, 3.0, 1.0])[INDEX]),
        ({"class_weight": "balanced"}, 60 / (3 * counts)[INDEX]),
    ]
    for settings, weights in cases:
        for sample_weight in (None, rng.uniform(0.5, 1, 60)):
            with_class_weight, with_sample_weight = (
                NeuralNetwork([3, 3], loss="cross_entropy", seed=0) for _ in range(2)
            )
            with_class_weight.fit(X, names, epochs=5, lr=0.1, sample_weight=sample_weight, **settings)
            with_sample_weight.fit(
                X, names, epochs=5, lr=0.1, sample_weight=weights if sample_weight is None else weights * sample_weight
            )
            assert with_class_weight.params == pytest.approx(with_sample_weight.params, rel=1e-12)


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        (
            {"x": 1.0},
            ValueError,
            r"class_weight must be 'balanced' or a dict .*'a', 'b', 'c', got a weight for 'x'",
        ),
        ({"a": "x"}, TypeError, r"class_weight\['a'\] must be a number, got 'x'"),
        ({"a": -1.0}, ValueError, "class_weight must have finite weights of at least 0"),
        ({"a": 0, "b": 0, "c": 0}, ValueError, "class_weight must be 0 or more, and not zero for all rows"),
        ("balance", ValueError, "class_weight must be 'balanced'"),
        (3, ValueError, "class_weight must be 'balanced'"),
    ],
)
def test_fit_rejects_invalid_class_weights(weight, error, message):
    net = NeuralNetwork([3, 3], loss="cross_entropy", seed=0)
    with pytest.raises(error, match=message):
        net.fit(X, np.array(["a", "b", "c"])[INDEX], epochs=1, lr=0.001, class_weight=weight)
    assert net.classes is None


# -------------------------------------------------------------------------------------------- scaling

RAW, RAW_Y = 1000 + 300 * X * [1, 10, 0.01], 5e4 + 2e3 * Y
SCALERS = ["standardize", "minmax", nnc.Standardize(), nnc.MinMax(-1, 1)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scaler", SCALERS, ids=repr)
def test_scaled_network_trains_and_predicts_in_raw_units(scaler, dtype):
    net = regressor(scale_X=scaler, scale_y=scaler, dtype=dtype)
    history = net.fit(RAW, RAW_Y, epochs=400, optimizer="adam", lr=0.02, validation=(RAW, RAW_Y), metrics=["mae", "r2"])
    P = net.predict(RAW).astype(float)
    assert net.score(RAW, RAW_Y) > 0.9
    assert net.score(RAW, RAW_Y) == pytest.approx(
        np.mean(1 - ((RAW_Y - P) ** 2).sum(0) / ((RAW_Y - RAW_Y.mean(0)) ** 2).sum(0)), rel=1e-4
    )
    assert history.val_r2[-1] == pytest.approx(net.score(RAW, RAW_Y), rel=1e-6)
    assert history.val_mae[-1] == pytest.approx(abs(RAW_Y - P).mean(), rel=1e-4)
    scaling = {"standardize": nnc.Standardize(), "minmax": nnc.MinMax()}.get(scaler, scaler)
    scaling_X, scaling_y = scaling.fit(RAW), scaling.fit(RAW_Y)
    unscaled = regressor(init=net.weights, dtype=dtype)
    unscaled.biases = net.biases
    assert scaling_y.undo(unscaled.predict(scaling_X.apply(RAW))) == pytest.approx(P, rel=1e-5)
    assert net.evaluate_loss(RAW, RAW_Y) == pytest.approx(
        unscaled.evaluate_loss(scaling_X.apply(RAW), scaling_y.apply(RAW_Y)), rel=1e-4
    )
    loaded = nnc.from_json(net.to_json(checkpoint=True))
    assert np.array_equal(loaded.predict(RAW), net.predict(RAW))
    loaded.fit(RAW, RAW_Y, epochs=5)
    net.fit(RAW, RAW_Y, epochs=5)
    assert np.array_equal(loaded.params, net.params)


@pytest.mark.parametrize("scale_y", [None, "standardize"])
@pytest.mark.parametrize("scale_X", SCALERS[:2])
def test_gradients_of_scaled_network_are_in_raw_units(scale_X, scale_y):
    net = regressor(scale_X=scale_X, scale_y=scale_y)
    net.fit(RAW, RAW_Y if scale_y else Y, epochs=5, lr=0.001)
    y = (RAW_Y if scale_y else Y)[:4]
    gradients = nnc.input_gradients(net, RAW[:4], y)
    for i in range(4):
        for j in range(3):
            h = 1e-4 * np.ptp(RAW[:, j])
            losses = []
            for shift in (h, -h):
                shifted = RAW[:4].copy()
                shifted[i, j] += shift
                losses.append(net.evaluate_loss(shifted, y))
            assert gradients[i, j] == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-5, abs=1e-12)
    assert nnc.check_gradients(net, RAW[:4], y).ok
    explanation = net.explain_step(RAW[:4], y, lr=0.1)
    assert explanation.loss == pytest.approx(net.evaluate_loss(RAW[:4], y), rel=1e-12)
    step = net.copy()
    step.train_step(RAW[:4], y, lr=0.1)
    for layer, (W, b) in zip(explanation.layers, zip(step.weights, step.biases, strict=True), strict=True):
        assert layer.new_W == pytest.approx(W, rel=1e-9)
        assert layer.new_b == pytest.approx(b, rel=1e-9)


def test_scaling_is_determined_by_first_fit():
    net = regressor(scale_X="standardize", scale_y="minmax")
    for call in (
        lambda: net.predict(X),
        lambda: net.evaluate_loss(X, Y),
        lambda: net.score(X, Y),
        lambda: net.forward(X),
    ):
        with pytest.raises(ValueError, match="the scaling for scale_X is not computed yet"):
            call()
    with pytest.raises(ValueError, match="the scaling for scale_y is not computed yet"):
        regressor(scale_y="minmax").predict(X)
    with pytest.raises(nnc.ModelFileError, match="its scaling is not computed yet; fit the network first"):
        net.to_json()
    net.fit(X, Y, epochs=1, lr=0.001)
    before = net.predict(X[:1])
    net.fit(5 * X[:5], 5 * Y[:5], epochs=1, lr=1e-300)
    assert np.array_equal(net.predict(X[:1]), before)


# ------------------------------------------------------------------------------------------ losses and repr


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": nnc.Huber(0.3)},
        {"loss": nnc.Quantile(0.9), "scale_y": nnc.MinMax(-1, 2)},
        {"loss": nnc.CrossEntropy(0.1), "scale_X": "standardize"},
        {"loss": "huber", "scale_X": nnc.Standardize(), "scale_y": "minmax"},
        {"loss": "cross_entropy", "activation": ["relu"], "dtype": "float32", "bias": False},
        {"loss": "sse", "output": "tanh"},
    ],
)
def test_repr_evaluates_to_equal_network(settings):
    net = NeuralNetwork([3, 4, 2], seed=5, **settings)
    evaluated = eval(repr(net), vars(nnc) | {name: getattr(nnc, name) for name in nnc.__all__})
    assert repr(evaluated) == repr(net)
    assert np.array_equal(evaluated.params, net.params)
    assert evaluated.loss_parameter == net.loss_parameter
    if "scale_X" not in settings and "scale_y" not in settings:
        y = INDEX.clip(0, 1) if net.loss_name == "cross_entropy" else Y
        assert evaluated.evaluate_loss(X, y) == net.evaluate_loss(X, y)
        loaded = nnc.from_json(net.to_json())
        assert (loaded.loss_name, loaded.loss_parameter) == (net.loss_name, net.loss_parameter)
        assert repr(loaded) == repr(net)
        assert loaded.evaluate_loss(X, y) == net.evaluate_loss(X, y)


def test_losses_are_accepted_by_name_and_as_objects():
    assert "loss='cross_entropy'" in repr(NeuralNetwork([3, 2], loss="cross_entropy"))
    assert "loss='huber'" in repr(NeuralNetwork([3, 2], loss=nnc.Huber()))
    assert "loss=Quantile(tau=0.9)" in repr(NeuralNetwork([3, 2], loss=nnc.Quantile(0.9)))
    assert nnc.Huber(2) == nnc.Huber(2.0) != nnc.Huber(3)
    for invalid, error in ((nnc.Huber, TypeError), ("hubert", ValueError), (None, ValueError)):
        with pytest.raises(error, match="loss must be"):
            NeuralNetwork([3, 2], loss=invalid)


# -------------------------------------------------------------------------------------- invalid arguments

INVALID_ARGUMENTS = [
    ({"epochs": 0}, "epochs must be 1 or more, got 0"),
    ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
    ({"epochs": "a", "lr": nnc.CosineLR(0.1)}, "epochs must be a whole number, got 'a'"),
    ({"lr": 0}, "lr must be a positive finite number, got 0"),
    ({"lr": "fast"}, "lr must be a number, got 'fast'"),
    ({"lr": nnc.CosineLR}, "lr must be a number, a schedule or a function, got the class CosineLR"),
    (
        {"epochs": None, "max_seconds": 1, "lr": nnc.CosineLR(0.1)},
        "a fit without epochs requires a schedule of a fixed",
    ),
    ({"lr": lambda epoch: -1.0}, "lr must return a finite number, 0 or more, got -1.0 for epoch [02]"),
    ({"optimizer": "adm"}, "optimizer must be one of sgd, adam, "),
    ({"optimizer": nnc.Adam}, r"optimizer must be a name or an object such as Adam\(\)"),
    ({"optimizer": "lbfgs", "lr": 0.1}, "lr requires an optimizer"),
    ({"optimizer": "lbfgs", "batch_size": 5}, "batch_size requires an optimizer"),
    ({"optimizer": "levenberg_marquardt", "dropout": 0.5}, "dropout requires an optimizer"),
    ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
    ({"shuffle": 1}, "shuffle must be True or False, got 1"),
    ({"sample_weight": [1, 2]}, r"sample_weight must have shape \(60,\), got \(2,\)"),
    ({"sample_weight": -np.ones(60)}, "sample_weight must be 0 or more"),
    ({"sample_weight": [1, 2], "validation": 0.2}, r"sample_weight must have shape \(60,\), got \(2,\)"),
    ({"class_weight": "balanced"}, "class_weight requires a loss for one class per row, got .* the loss .mse."),
    ({"validation": 1.0}, "validation must be at least 0 and less than 1, got 1.0"),
    ({"validation": 0.001}, "validation must leave rows in both parts"),
    ({"validation": True}, "validation must be a number, got True"),
    ({"validation": X}, r"validation must be .*, lengths\), 'last', LastRows or a fraction, got ndarray"),
    ({"validation": (X, Y[:5])}, r"validation: y must have shape \(60, 2\)"),
    ({"validation": (X[:, :2], Y)}, "validation: X must have 3 columns"),
    (
        {"metrics": ["r_2"]},
        "metrics must be one of r2, mae, rmse, mape, or a function of y_true and y_pred, got 'r_2'; did you mean 'r2'?",
    ),
    ({"metrics": ["accuracy"]}, "metrics: 'accuracy' is for losses of classes, and 'mse' is one of numbers: choose"),
    ({"metrics": 5}, r"metrics must be names or functions, such as \['r2'\], got 5"),
    ({"monitor": "val_loss"}, "monitor must be one of loss, got 'val_loss'"),
    ({"l1": -1}, "l1 must be a finite number, 0 or more, got -1"),
    ({"l2": None}, "l2 must be a number, got None"),
    ({"dropout": 1.0}, "dropout must be at least 0 and less than 1, got 1.0"),
    ({"dropout": [0.1, 0.1]}, r"dropout must be a number, or a list with one number per hidden layer \(here 1\)"),
    ({"clip_norm": 0}, "clip_norm must be a positive finite number, got 0"),
    ({"clip_value": "a"}, "clip_value must be a number, got 'a'"),
    ({"max_norm": np.inf}, "max_norm must be a positive finite number, got inf"),
    ({"regularize_bias": None}, "regularize_bias must be True or False, got None"),
    ({"patience": 0}, "patience must be 1 or more, got 0"),
    ({"min_delta": -1}, "min_delta must be a finite number, 0 or more, got -1"),
    ({"min_delta": "small"}, "min_delta must be a number, got 'small'"),
    ({"restore_best": "yes"}, 'restore_best must be True, False or "last", got ' + "'yes'"),
    ({"target_loss": "low"}, "target_loss must be a number, got 'low'"),
    ({"target_loss": np.nan}, "target_loss must be a number, got nan"),
    ({"l1": np.array([0.1, 0.2])}, r"l1 must be a number, got ndarray of shape \(2,\)"),
    ({"dropout": [[0.1, 0.2], [0.1]]}, r"dropout must be a number, or a list .* \(here 1\), got \[\[0.1"),
    ({"warm_up": X}, r"warm_up must be a whole number, got ndarray of shape \(60, 3\)"),
    ({"verbose": X}, r"verbose must be 0, 1 or 2, got ndarray of shape \(60, 3\)"),
    ({"callback": X}, r"callback must be a function that .*, got ndarray of shape \(60, 3\)"),
    ({"reset_optimizer": "yes"}, "reset_optimizer must be True or False, got 'yes'"),
    ({"dY_weight": "low"}, "dY_weight must be a number, got 'low'"),
    ({"dY_weight": 0.5}, "dY_weight must be left out without dY, got 0.5"),
    ({"l2": np.nan}, "l2 must be a finite number, 0 or more, got nan"),
    ({"min_delta": [1, 2]}, r"min_delta must be a number, got \[1, 2\]"),
    ({"min_delta": np.nan}, "min_delta must be a finite number, 0 or more, got nan"),
    ({"max_seconds": np.nan}, "max_seconds must be a positive finite number, got nan"),
    ({"max_seconds": 0}, "max_seconds must be a positive finite number, got 0"),
    ({"callback": 3}, "callback must be a function that takes a Record, or a list of such functions, got 3"),
    (
        {"callback": [print, None]},
        "callback must be a function that takes a Record, or a list of such functions, got None",
    ),
    ({"progress": 1}, "progress must be True or False, got 1"),
    ({"n_threads": 0}, "n_threads must be 1 or more, got 0"),
    ({"X": X[:, :2]}, r"X must have 3 columns to fit this network, got 2 columns \(shape \(60, 2\)\)"),
    ({"y": Y[:, :1]}, r"y must have shape \(60, 2\)"),
    ({"y": Y[:5], "validation": 0.2}, "y must have one row for each row of X"),
    ({"y": np.where(X[:, :2] > 0.9, np.nan, 1)}, "y must be finite"),
]


def short_name(case):
    """Return the first characters of `case` without the address of an object, which differs between processes."""
    return re.sub(" at 0x.*", "", str(case)[:40])


@pytest.mark.parametrize("trained", [pytest.param(False, marks=pytest.mark.exhaustive), True])
@pytest.mark.parametrize(("invalid", "message"), INVALID_ARGUMENTS, ids=short_name)
def test_invalid_arguments_leave_network_unchanged(invalid, message, trained):
    net = regressor(scale_X="standardize", scale_y="minmax")
    if trained:
        net.fit(X, Y, epochs=2, optimizer="adam", lr=nnc.StepLR(0.01, 5), batch_size=9, dropout=0.1)
        expected = net.to_json(checkpoint=True)
    before = net.params
    arguments = {"X": X, "y": Y, "epochs": 3, **invalid}
    with pytest.raises((ValueError, TypeError), match=message):
        net.fit(**arguments)
    assert np.array_equal(net.params, before)
    if trained:
        assert net.to_json(checkpoint=True) == expected
    else:
        assert (net.state, net.converter.scaling_X, net.converter.scaling_y) == (None, None, None)
        assert (net.streams.shuffle_position, net.streams.dropout_position) == (0, 0)


def test_fit_rejects_callback_with_invalid_every():
    def callback(record):
        return None

    for every, message in (
        (0, "every of the callback must be 1 or more"),
        ("5", "every of the callback must be a whole"),
    ):
        callback.every = every
        with pytest.raises((ValueError, TypeError), match=message):
            regressor().fit(X, Y, epochs=3, lr=0.001, callback=callback)


@pytest.mark.parametrize(
    ("call_interval", "message"),
    [
        ({"seconds": 0}, "seconds of the callback must be a positive"),
        ({"seconds": "1"}, "seconds of the callback must be a number"),
        ({"seconds": 1, "every": 2}, "only one of `every` and `seconds`"),
    ],
)
def test_fit_rejects_callback_with_invalid_seconds(call_interval, message):
    def callback(record):
        return None

    vars(callback).update(call_interval)
    with pytest.raises((ValueError, TypeError), match=message):
        regressor().fit(X, Y, epochs=3, lr=0.001, callback=callback)


def test_zero_dropout_is_accepted_without_hidden_layers():
    for dropout in (0, 0.0, []):
        assert NeuralNetwork([3, 2], loss="mse").fit(X, Y, epochs=1, lr=0.001, dropout=dropout).epochs == 1


@pytest.mark.parametrize("method", ["fit", "fit on lists", "train_step", "fit_batches"])
@pytest.mark.parametrize(("loss", "n_out", "indices", "other_labels"), [
    ("cross_entropy", 3, [0, 1, 2, 0], [0, 3, 1, 3]),
    ("bce", 1, [0, 1, 1, 0], [1, 2, 1, 2]),
    ("hinge", 1, [-1, 1, 1, -1], [0, 1, 1, 0]),
])  # fmt: skip
def test_class_indices_keep_their_meaning_in_later_fits(method, loss, n_out, indices, other_labels):
    """After training with class indices, other labels raise an error, as they would change the meaning of outputs."""
    net, X = NeuralNetwork([2, 3, n_out], loss=loss, seed=0), np.arange(8.0).reshape(4, 2) / 8
    convert = np.ndarray.tolist if method == "fit on lists" else np.asarray
    train = {
        "train_step": lambda y: net.train_step(X, convert(np.array(y)), 0.01),
        "fit_batches": lambda y: net.fit_batches([(X, convert(np.array(y)))], epochs=1, lr=0.01),
    }.get(method, lambda y: net.fit(X, convert(np.array(y)), epochs=1, lr=0.01))
    train(indices)
    with pytest.raises(ValueError, match="y must"):
        train(other_labels)
    assert net.classes is None
    train(indices)
    fresh = net.copy()
    with pytest.raises(ValueError, match="y must"):
        fresh.fit(X, np.array(other_labels), epochs=1, lr=0.01)
