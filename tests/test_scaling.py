"""Scalings: agreement with scikit-learn, accuracy, given statistics, memory maps, files and errors."""

import json
import math
import pickle
import tracemalloc
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nnc import NeuralNetwork
from nnc._data.scaling import MinMax, Scaling, Standardize
from nnc.layers import Input

RNG = np.random.default_rng(0)
X = RNG.normal(3, [1, 10, 1e-3], (500, 3))


@pytest.fixture(params=[1, 7, 1 << 17])
def block_size(request, set_limit):
    """Compute statistics in blocks of 1 row, of 7 rows or of all rows."""
    set_limit("nnc._data.scaling.BLOCK_NUMBERS", 3 * request.param)


@pytest.mark.usefixtures("block_size")
def test_standardize_gives_mean_0_and_standard_deviation_1():
    scaled = Standardize().fit(X).apply(X)
    assert scaled.mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert scaled.std(axis=0) == pytest.approx(1, rel=1e-13)


@pytest.mark.usefixtures("block_size")
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (5, 7.5)])
def test_minmax_scales_columns_to_given_range(low, high):
    scaled = MinMax(low, high).fit(X).apply(X)
    assert scaled.min(axis=0) == pytest.approx(low, abs=1e-12)
    assert scaled.max(axis=0) == pytest.approx(high, abs=1e-12)


@pytest.mark.usefixtures("block_size")
def test_scalings_match_scikit_learn():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    # The last column is constant, so it cannot be divided by its deviation.
    data = np.column_stack([X, np.full(len(X), 0.1)])
    expected = preprocessing.StandardScaler().fit_transform(data)
    # A rounding error of the mean 3 is 7e-13 standard deviations of the third column.
    assert Standardize().fit(data).apply(data) == pytest.approx(expected, abs=1e-11)
    for limits in [(0, 1), (-3, 4)]:
        expected = preprocessing.MinMaxScaler(limits).fit_transform(data)
        assert MinMax(*limits).fit(data).apply(data) == pytest.approx(expected, abs=1e-12)


@given(column=st.lists(st.floats(-1e300, 1e300) | st.integers(-5, 5).map(float), min_size=1, max_size=30))
def test_standardize_statistics_match_exact_fractions(column):
    scaling = Standardize().fit(column)
    exact = [Fraction(x) for x in column]
    mean = sum(exact) / len(exact)
    size = max(map(abs, column))
    assert abs(Fraction(scaling.shift[0]) - mean) <= Fraction(1e-15) * Fraction(size) + Fraction(5e-324)
    if min(column) == max(column):
        assert scaling.factor == 1
        assert scaling.apply(column).tolist() == [0] * len(column)
        return
    spread = max(exact) - min(exact)
    variance = sum(((x - mean) / spread) ** 2 for x in exact) / len(exact)  # dividing by the range avoids overflow
    deviation = Fraction(math.sqrt(variance)) * spread
    if deviation > Fraction(1e-290):
        # The tolerance includes the rounding errors of the differences from the mean.
        tolerance = 1e-13 + 1e-15 * float(Fraction(size) / deviation)
        assert float(Fraction(scaling.factor[0]) * deviation) == pytest.approx(1, rel=tolerance)


@pytest.mark.parametrize("offset", [0, 1e6, 1e9, -1e12])
def test_standardize_is_accurate_for_large_offsets(offset):
    column = offset + np.arange(1000.0)
    scaling = Standardize().fit(column)
    assert scaling.shift[0] == offset + 499.5
    assert scaling.factor[0] == pytest.approx(1 / math.sqrt((1000**2 - 1) / 12), rel=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint8", "int64", "uint64", "bool", ">f4", "g"])
def test_standardize_accepts_each_dtype(dtype):
    data = RNG.integers(0, 2 if dtype == "bool" else 100, (1000, 2)).astype(dtype)
    scaling, expected = Standardize().fit(data), Standardize().fit(data.astype(float))
    assert scaling.shift.tolist() == expected.shift.tolist()
    assert scaling.factor.tolist() == expected.factor.tolist()
    assert scaling.apply(data, "float32").dtype == np.float32
    assert np.array_equal(scaling.apply(data), expected.apply(data.astype(float)))


def test_standardize_float16_does_not_overflow():
    data = np.full((2000, 1), 60000, np.float16)
    data[0] = -60000
    scaling = Standardize().fit(data)
    assert scaling.shift[0] == 59940
    assert scaling.apply(data).std() == pytest.approx(1, rel=1e-12)


def test_scalings_of_extreme_numbers_are_finite_or_rejected():
    for scaler in (Standardize(), MinMax(-1, 1)):
        scaled = scaler.fit([1.7e308, -1.7e308]).apply([1.7e308, -1.7e308])
        assert scaled == pytest.approx([1, -1])
        assert np.isfinite(scaler.fit([0, 5e-324]).apply([0, 5e-324])).all()
    assert Standardize().fit([1.7e308, 1.7e308]).shift[0] == 1.7e308
    with pytest.raises(ValueError, match=r"column 0 cannot be scaled: .* got shift .* and factor inf"):
        MinMax(0, 1e300).fit([0, 1e-300])


def test_constant_columns_have_factor_1():
    data = np.array([[0.1, 7, -0.0], [0.1, 7, 0.0], [0.1, 7, 0.0]])
    assert Standardize().fit(data).factor.tolist() == [1, 1, 1]
    assert Standardize().fit(data).apply(data).tolist() == [[0, 0, 0]] * 3
    assert MinMax(-1, 1).fit(data).factor.tolist() == [1, 1, 1]
    assert MinMax(-1, 1).fit(data).apply(data) == pytest.approx(np.full((3, 3), -1.0))
    assert Standardize().fit([[1, 2]]).factor.tolist() == [1, 1]  # a single row has the deviation 0, so the factor is 1


@given(
    data=arrays.arrays(
        np.float64, st.tuples(st.integers(1, 9), st.integers(1, 3)), elements=st.floats(-1e6, 1e6, width=32)
    ),
    scaler=st.sampled_from([Standardize(), MinMax(), MinMax(-1, 2)]),
)
def test_undo_inverts_apply(data, scaler):
    scaling = scaler.fit(data)
    assert scaling.undo(scaling.apply(data)) == pytest.approx(data, rel=1e-9, abs=1e-9 * max(1, np.abs(data).max()))


def test_apply_and_undo_preserve_shape_and_reject_wrong_columns():
    one_column, three_columns = Standardize().fit([1, 2, 3]), Standardize().fit(X)
    assert one_column.apply([1.0, 2, 3]).shape == (3,)
    assert one_column.apply([[1.0], [2], [3]]).shape == (3, 1)
    assert np.array_equal(three_columns.apply(X[4]), three_columns.apply(X)[4])
    assert three_columns.undo(X[4], "float32").dtype == np.float32
    assert three_columns.apply(np.empty((0, 3))).shape == (0, 3)
    assert np.array_equal(three_columns.apply(np.asfortranarray(X)), three_columns.apply(X))
    for array in (X[:, :2], [1.0, 2], 3.0, X[None]):
        with pytest.raises(ValueError, match=r"array must have 3 columns to fit this scaling, got (2|shape)"):
            three_columns.apply(array)


def test_apply_overflows_float32_to_infinity():
    assert Scaling("minmax", [0], [1]).apply([1e300, np.nan], "float32").tolist()[0] == math.inf


@pytest.mark.usefixtures("block_size")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_fit_rejects_nonfinite_numbers(value):
    data = X.copy()
    data[123, 1] = value
    for scaler in (Standardize(), MinMax()):
        with pytest.raises(ValueError, match=f"X must be finite, got {value} in row 123, column 1"):
            scaler.fit(data, "X")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MinMax(1, 1), r"low must be below high, got low 1\.0 and high 1\.0"),
        (lambda: MinMax(0, math.inf), "high must be a finite number, got inf"),
        (lambda: MinMax("0"), "low must be a number, got '0'"),
        (lambda: Standardize().fit([]), r"array must have shape \(rows, columns\), at least one of each, got \(0,\)"),
        (lambda: Standardize().fit(np.empty((3, 0)), "y"), r"y must have shape .*, got \(3, 0\)"),
        (lambda: Standardize().fit(3), r"got \(\)"),
        (lambda: Standardize().fit([1j, 2]), "array must be an array of real numbers, got complex numbers"),
        (lambda: Standardize().fit([[1], [1, 2]]), "rows of one length"),
        (lambda: Standardize().fit(["a"]), "real numbers"),
        (lambda: Standardize(mean=1), r"mean and std must be passed together or not at all, got .*mean=1, std=None"),
        (lambda: Standardize(std=[1, 2]), "together"),
        (lambda: Standardize("a", 1), "mean must be an array of real numbers"),
        (lambda: Standardize([1, math.nan], 1), "mean must be finite, got nan"),
        (lambda: Standardize(1, [2, 0]), r"std must be above 0 and finite, got 0\.0"),
        (lambda: Standardize(1, math.inf), "std must be above 0 and finite, got inf"),
        (lambda: Standardize([[1]], 1), r"mean must be a number, or one for each column, got shape \(1, 1\)"),
        (lambda: Standardize([], []), r"mean must be a number, or one for each column, got shape \(0,\)"),
        (lambda: Standardize(0, 5e-324).fit([1.0]), "column 0 cannot be scaled: .* factor inf"),
        (lambda: Standardize([1, 2], 1).fit(X), "array: mean must be one number, or 3 numbers, one .*, got 2"),
        (lambda: NeuralNetwork([3, 1], scale_X=Standardize(0, [1, 2])), "scale_X: std must be .*, got 2"),
        (lambda: NeuralNetwork([3, 1], loss="mse", scale_y=Standardize([1, 2], 1)), "scale_y: mean must be one number"),
        (
            lambda: NeuralNetwork([Input(8, 8, 3), 1], scale_X=Standardize([1, 2], 1)),
            "or 192 numbers, one for each column, or 3, one for each channel, got 2",
        ),
    ],
)
def test_invalid_arguments_raise(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("per_column", [False, True])
def test_given_statistics_scale_like_computed_ones(per_column, tmp_path):
    """A network with given statistics scales like a network that computes them. It can train on a single row."""
    y = X @ [1, 0.1, 100.0]
    scaling, scaling_y = Standardize().fit(X), Standardize().fit(y)
    scaler = Standardize(X.mean(axis=0), X.std(axis=0)) if per_column else Standardize(3, 10)
    given_scaling = scaler.fit(X)
    if per_column:
        assert given_scaling.apply(X) == pytest.approx(scaling.apply(X), abs=1e-11)
        assert (
            Standardize(scaling.shift, 1 / scaling.factor).fit([[1.0, 2.0, 3.0]]).shift.tolist()
            == scaling.shift.tolist()
        )
    else:
        assert given_scaling.apply(X) == pytest.approx((X - 3) / 10, abs=1e-12)

    def network():
        scale_y = Standardize(scaling_y.shift, 1 / scaling_y.factor)
        return NeuralNetwork([3, 4, 1], loss="mse", scale_X=scaler, scale_y=scale_y, seed=0)

    net, unscaled = network(), NeuralNetwork([3, 4, 1], loss="mse", seed=0)
    Z, t = given_scaling.apply(X), scaling_y.apply(y)
    for i in range(5):
        losses = net.train_step(X[i : i + 1], y[i : i + 1]), unscaled.train_step(Z[i : i + 1], t[i : i + 1])
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert net.predict(X) == pytest.approx(scaling_y.undo(unscaled.predict(Z)), rel=1e-12)
    net.save(tmp_path / "net.json")
    for restored in (NeuralNetwork.load(tmp_path / "net.json"), pickle.loads(pickle.dumps(net)), net.copy()):
        assert np.array_equal(restored.predict(X), net.predict(X))
    assert eval(repr(scaler)) == scaler == network().converter.scaler_X
    network().fit(X[:1], y[:1], epochs=1, lr=0.001)


def test_statistics_can_be_given_per_image_channel():
    scaler = Standardize([1, 2, 3], [0.1, 1, 10])
    image = np.random.default_rng(1).random((1, 2, 2, 3))
    net = NeuralNetwork([Input(2, 2, 3), 1], loss="mse", scale_X=scaler, seed=0)
    assert net.converter.inputs(image).reshape(image.shape) == pytest.approx((image - [1, 2, 3]) / [0.1, 1, 10])


def test_memory_map_is_not_read_into_memory_as_a_whole(tmp_path):
    data = np.memmap(tmp_path / "data", np.float32, "w+", shape=(400_000, 10))
    data[:] = np.arange(10)
    data[::2] += 1
    tracemalloc.start()
    try:
        scaling = Standardize().fit(data)
        # Fit uses blocks: a copy of the array in float64 would need 32 MB.
        assert tracemalloc.get_traced_memory()[1] < 8e6
        tracemalloc.reset_peak()
        out = scaling.apply(data, np.float32)
        assert tracemalloc.get_traced_memory()[1] < out.nbytes + 8e6
    finally:
        tracemalloc.stop()
    assert scaling.shift == pytest.approx(np.arange(10) + 0.5)
    assert scaling.factor == pytest.approx(2)
    assert type(out) is np.ndarray


def test_scaling_is_immutable():
    shift = np.zeros(3)
    scaling = Scaling("minmax", shift, np.ones(3))
    shift[0] = 5
    assert scaling.shift[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        scaling.factor[0] = 2
    with pytest.raises(AttributeError):
        scaling.shift = shift


@pytest.mark.parametrize("scaler", [Standardize(), MinMax(-1, 1)], ids=repr)
def test_scaling_round_trips_through_json_and_pickle(scaler):
    scaling = scaler.fit(X)
    d = scaling.to_dict()
    assert list(d) == ["type", "shift", "factor"]
    for restored in (Scaling.from_dict(json.loads(json.dumps(d))), pickle.loads(pickle.dumps(scaling))):
        assert restored.type == scaling.type == scaler.name
        assert np.array_equal(restored.shift, scaling.shift)
        assert np.array_equal(restored.factor, scaling.factor)


@pytest.mark.parametrize(
    ("d", "message"),
    [
        (None, "a scaling must be an object with the keys type, shift and factor, got None"),
        ({"type": "minmax", "shift": [0]}, "object with the keys type, shift and factor, got {"),
        (
            {"type": "max", "shift": [0], "factor": [1]},
            "type of a scaling must be one of standardize, minmax, pixels, got",
        ),
        ({"type": [], "shift": [0], "factor": [1]}, "type of a scaling must be one of"),
        ({"type": "minmax", "shift": 0, "factor": [1]}, "shift of a scaling must be a list of numbers, got 0"),
        ({"type": "minmax", "shift": [0], "factor": ["1"]}, "factor of a scaling must be a list of numbers"),
        ({"type": "minmax", "shift": [0], "factor": [True]}, "factor of a scaling must be a list of numbers"),
        ({"type": "minmax", "shift": [], "factor": []}, "shift of a scaling must be a list of numbers"),
        ({"type": "minmax", "shift": [0], "factor": [1, 2]}, "must have the same length, got 1 and 2 numbers"),
        ({"type": "minmax", "shift": [0, 0], "factor": [1, 0]}, "column 1 cannot be scaled: .* factor 0.0"),
        ({"type": "minmax", "shift": [math.nan], "factor": [1]}, "column 0 cannot be scaled: .* got shift nan"),
        ({"type": "minmax", "shift": [10**400], "factor": [1]}, "range of a float"),
    ],
)
def test_from_dict_rejects_invalid_members(d, message):
    with pytest.raises(ValueError, match=message):
        Scaling.from_dict(d)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(), lambda inner: st.lists(inner, max_size=3))


@given(kind=st.sampled_from(["minmax", "standardize"]) | JSON, shift=JSON, factor=JSON)
def test_from_dict_raises_only_value_error(kind, shift, factor):
    with suppress(ValueError):
        Scaling.from_dict({"type": kind, "shift": shift, "factor": factor})


@pytest.mark.parametrize("scaler", ["standardize", "minmax"])
@pytest.mark.parametrize("name", ["scale_X", "scale_y"])
def test_network_does_not_compute_scaling_from_one_row(name, scaler, tmp_path):
    # A scaling computed from one row would be wrong for all later rows, so it is rejected.
    remedy = rf"{name}=nnc\.Standardize\(mean=\.\.\., std=\.\.\.\).*OnlineRegressor"
    X, y = np.arange(12.0).reshape(4, 3), np.arange(4.0)
    mapped = np.memmap(tmp_path / "X", dtype=np.float32, mode="w+", shape=(1, 3))
    for train in (
        lambda net: net.train_step(X[:1], y[:1]),
        lambda net: net.fit(X[:1], y[:1], epochs=3, lr=0.001),
        lambda net: net.fit(mapped, y[:1], epochs=3, lr=0.001, batch_size=1),
        lambda net: net.fit(X[:2], y[:2], epochs=3, lr=0.001, validation=0.5),
        lambda net: net.fit_batches([(X[:1], y[:1]), (X, y)], epochs=3, lr=0.001),
    ):
        net = NeuralNetwork([3, 2, 1], loss="mse", seed=0, **{name: scaler})
        with pytest.raises(ValueError, match=f"{name} needs two rows or more to find the scaling, got 1.*{remedy}"):
            train(net)
        assert (net.converter.scaling_X, net.converter.scaling_y, net.state) == (None, None, None)
        net.train_step(X, y)
        net.train_step(X[:1], y[:1])  # one row is enough after the scaling has been computed
        assert net.fit_batches([(X[:1], y[:1])]).epochs == 1
