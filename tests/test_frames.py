"""Tests of the conversion of frames, tensors, tables, masked arrays and labels: no value is lost or changed."""

import pickle
import warnings

import numpy as np
import pytest

import nnc
from nnc import ModelFileError, NeuralNetwork

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (40, 3))
Y = np.sin(X @ rng.uniform(-2, 2, (3, 1)))
NAMES = ["age", "height", "weight"]


def regressor(**settings):
    return NeuralNetwork([3, 4, 1], **{"activation": "tanh", "loss": "mse", "seed": 1, **settings})


def classifier(n_out=2, **settings):
    return NeuralNetwork([3, 4, n_out], **{"loss": "cross_entropy" if n_out > 1 else "bce", "seed": 1, **settings})


@pytest.fixture(params=["pandas", "polars"])
def frame(request):
    """Return the class DataFrame of pandas or polars, which builds a frame from a dict of columns."""
    return pytest.importorskip(request.param).DataFrame


@pytest.fixture
def pd():
    return pytest.importorskip("pandas")


def columns(a=X, names=NAMES):
    """Return a dict from names to the columns of the array `a`."""
    return dict(zip(names, a.T, strict=True))


def fitted_params(data, **settings):
    """Return the parameters of a regressor after three epochs on `data`."""
    net = regressor(**settings)
    net.fit(data, Y, epochs=3, lr=0.001)
    return net.params


# ------------------------------------------------------------------------------------------------- missing labels


@pytest.mark.parametrize("split", [None, 0.25])
@pytest.mark.parametrize("n_out", [1, 2])
@pytest.mark.parametrize("kind", ["list", "object", "str", "category", "Int64", "boolean", "float", "NaT", "polars"])
def test_missing_labels_are_rejected(kind, n_out, split):
    labels = ["yes", "no"] * 20
    if kind == "float":
        y = np.arange(40) % 2.0
        y[7] = np.nan
    elif kind == "NaT":
        y = np.array(["2020-01-01", "2021-01-01"] * 20, "M8[D]")
        y[7] = "NaT"
    elif kind in ("Int64", "boolean"):
        pd = pytest.importorskip("pandas")
        y = pd.Series(pd.array([None if i == 7 else i % 2 for i in range(40)], dtype=kind))
    else:
        labels[7] = None if kind != "str" else np.nan
        if kind == "list":
            y = labels
        elif kind == "polars":
            y = pytest.importorskip("polars").Series(labels)
        else:
            y = pytest.importorskip("pandas").Series(labels, dtype=kind)
    for call in (
        lambda net: net.fit(X, y, epochs=1, lr=0.001, validation=split),
        lambda net: net.fit_batches([(X, y)]),
        lambda net: net.fit(X, np.arange(40) % 2, epochs=1, lr=0.001, validation=(X, y)),
    ):
        with pytest.raises(ValueError, match=r"y must have no missing values, got (None|nan|NaT|<NA>) in row 7"):
            call(classifier(n_out))


@pytest.mark.parametrize("missing", [None, np.nan, float("nan"), np.datetime64("NaT")])
def test_missing_label_in_list_of_texts_is_rejected(missing):
    for labels in (["a", "b", missing, "a"] * 10, [["a"], ["b"], [missing], ["a"]] * 10):
        with pytest.raises(ValueError, match=r"y must have no missing values, got .* in row 2"):
            classifier().fit(X, labels, epochs=1, lr=0.001)


# ------------------------------------------------------------------------------------------------- exact labels


@pytest.mark.parametrize("container", [list, np.array, lambda y: np.array(y, object)])
@pytest.mark.parametrize("pair", [[2**63 + 1, 2**63 + 2], [2**60, 2**60 + 1], [-(2**63), 2**63 - 1], [-(2.0**60), 0.5]])
def test_large_labels_are_represented_exactly(pair, container):
    net, y = classifier(), container(pair * 20)
    net.fit(X, y, epochs=1, lr=0.001)
    assert net.classes.tolist() == sorted(pair)
    loaded = nnc.from_json(net.to_json())
    assert loaded.classes.dtype == net.classes.dtype
    assert loaded.classes.tolist() == sorted(pair)
    assert loaded.score(X, y) == net.score(X, y)
    assert set(loaded.predict_classes(X).tolist()) <= set(pair)


def test_list_of_small_and_large_unsigned_labels_is_exact():
    """NumPy converts a list of a small integer and one above 2**63 to an array of floats, which is not exact."""
    net = classifier()
    net.fit(X, [3, 2**63 + 1] * 20, epochs=1, lr=0.001)
    loaded = nnc.from_json(net.to_json())
    assert net.classes.tolist() == loaded.classes.tolist() == [3, 2**63 + 1]


def test_large_labels_are_distinguished_from_adjacent_numbers():
    net = classifier()
    net.fit(X, np.array([2**60, 2**60 + 1] * 20), epochs=1, lr=0.001)
    assert net.score(X, np.array([2**60, 2**60 + 1] * 20, np.uint64)) == net.score(X, [2**60, 2**60 + 1] * 20)
    for adjacent in (np.full(40, 2**60 + 2), np.full(40, 2**60 + 2, np.uint64), np.full(40, 2.0**60 + 2**10)):
        with pytest.raises(ValueError, match=r"y must contain only the classes of this network, .* in row 0"):
            net.score(X, adjacent)
    net = classifier()
    net.fit(X, np.array([2**53, 2**53 + 1] * 20), epochs=1, lr=0.001)
    with pytest.raises(ValueError, match=r"y must contain only the classes of this network"):
        net.score(X, np.array([0.5] + [2.0**53] * 39))
    other = classifier()
    other.fit(X, np.array([2.0**53, 0.5] * 20), epochs=1, lr=0.001)
    with pytest.raises(ValueError, match=r"y must contain only the classes of this network"):
        other.score(X, np.full(40, 2**53 + 1))


@pytest.mark.parametrize("pair", [[-1, 2**63], [0.5, 2**53 + 1], [1, 2**64]])
def test_labels_without_common_exact_type_are_rejected(pair):
    with pytest.raises(ValueError, match=r"y must have labels that fit exactly into int64, uint64 or float64, got "):
        classifier().fit(X, pair * 20, epochs=1, lr=0.001)


@pytest.mark.parametrize("container", [list, lambda y: np.array(y, object)])
def test_labels_that_numpy_would_merge_are_rejected(container):
    for pair in (["a", "a\0"], [b"a", b"a\0"]):
        with pytest.raises(ValueError, match=r"y must have labels that do not end in a NUL character, got .* in row 1"):
            classifier().fit(X, container(pair * 20), epochs=1, lr=0.001)
    for pair in (["3", 3], ["a", 1.5], ["a", b"a"], ["True", True]):
        with pytest.raises(TypeError, match=r"y must have labels of one type, got .* in row 1 and "):
            classifier().fit(X, container(pair * 20), epochs=1, lr=0.001)
    for number in (3, 1.5, True):
        with pytest.raises(TypeError, match=f"y must have labels of one type, got {number} in row 0 and 'a'; "):
            classifier().fit(X, container([number, "a"] * 20), epochs=1, lr=0.001)
    net = classifier()
    net.fit(X, container(["a", "\0a"] * 20), epochs=1, lr=0.001)
    assert net.classes.tolist() == ["\0a", "a"]


def test_invalid_labels_of_stringdtype_are_rejected():
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("NumPy 1 has no StringDType")
    with pytest.raises(ValueError, match=r"NUL character"):
        classifier().fit(X, np.array(["a", "a\0"] * 20, dtype=np.dtypes.StringDType()), epochs=1, lr=0.001)
    labels = np.array(["a", None, "b", "a"] * 10, dtype=np.dtypes.StringDType(na_object=None))
    with pytest.raises(ValueError, match=r"y must have no missing values, got None in row 1"):
        classifier().fit(X, labels, epochs=1, lr=0.001)


# ------------------------------------------------------------------------------------------------- masked arrays


def mask_row(a, row):
    """Return the array `a` with all elements of one row masked."""
    return np.ma.array(a, mask=np.arange(len(a)).reshape(-1, *[1] * (a.ndim - 1)) == np.full(a.shape, row))


@pytest.mark.parametrize("validation", [None, 0.25])
def test_masked_elements_are_rejected(validation):
    settings = {"epochs": 1, "validation": validation}
    with pytest.raises(ValueError, match=r"^X must have no masked elements, got one in row 5, column 0; fill it"):
        regressor().fit(mask_row(X, 5), Y, **settings)
    with pytest.raises(ValueError, match=r"^y must have no masked elements, got one in row 6"):
        regressor().fit(X, mask_row(Y, 6), **settings)
    with pytest.raises(ValueError, match=r"^y must have no masked elements, got one in row 6"):
        classifier().fit(X, mask_row(np.arange(40) % 2, 6), **settings)
    with pytest.raises(ValueError, match=r"^sample_weight must have no masked elements, got one in row 7"):
        regressor().fit(X, Y, sample_weight=mask_row(np.ones(40), 7), **settings)
    with pytest.raises(ValueError, match=r"^X must have no masked elements, got one in row 1, column 0"):
        regressor().fit([X[0], mask_row(X[1:2], 0)[0], *X[2:]], Y, **settings)
    net = regressor()
    with pytest.raises(ValueError, match=r"^X must have no masked elements"):
        net.predict(mask_row(X, 0))
    with pytest.raises(ValueError, match=r"^params must have no masked elements, got one in row 3"):
        net.params = mask_row(net.params, 3)
    with pytest.raises(ValueError, match=r"^weights\[0\] must have no masked elements"):
        net.weights[0] = mask_row(np.ones((3, 4)), 1)
    with pytest.raises(ValueError, match=r"^X must have no masked elements"):
        nnc.datasets.train_test_split(mask_row(X, 0), Y)


def test_masked_array_without_masked_elements_is_accepted():
    assert np.array_equal(fitted_params(np.ma.array(X)), fitted_params(X))
    assert np.array_equal(fitted_params([np.ma.array(row) for row in X]), fitted_params(X))


# ---------------------------------------------------------------------------------- numbers at the limits of the range


@pytest.mark.parametrize(
    ("dtype", "weight"), [("float64", 1e-320), ("float64", 1e308), ("float32", 1e-40), ("float32", 1e38)]
)
def test_weights_with_sum_out_of_range_are_rejected(dtype, weight):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=f"^sample_weight must have a sum from .*, the range of {dtype}, got"):
            regressor(dtype=dtype).fit(X, Y, epochs=1, lr=0.001, sample_weight=np.full(40, weight))
        with pytest.raises(ValueError, match=f"^class_weight must have a sum from .*, the range of {dtype}, got"):
            classifier(dtype=dtype).fit(X, [0, 1] * 20, epochs=1, lr=0.001, class_weight={0: weight, 1: weight})
        if weight < 1:  # a single tiny weight is accepted if the sum of all weights is in range
            regressor(dtype=dtype).fit(X, Y, epochs=1, lr=0.001, sample_weight=[weight] + [1.0] * 39)


def test_products_of_weights_out_of_range_are_rejected():
    y = [0, 1] * 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for weight in (1e200, 1e-200):
            with pytest.raises(ValueError, match=r"^class_weight times sample_weight must"):
                classifier().fit(
                    X, y, epochs=1, lr=0.001, sample_weight=np.full(40, weight), class_weight={0: weight, 1: weight}
                )


def test_metrics_of_huge_numbers_do_not_overflow():
    """The squares of these numbers are beyond the range of a float."""
    true, predicted = np.array([1e300, 2e300, -1e300]), np.array([1e300, 2e300, 0])
    assert nnc._data.metrics.rmse(true, predicted) == pytest.approx(1e300 / 3**0.5)
    assert nnc._data.metrics.r2(true, predicted) == pytest.approx(nnc._data.metrics.r2(true / 1e300, predicted / 1e300))
    assert nnc._data.metrics.r2([1.0, 2.0], [1e300, 1.0]) == -np.inf
    assert nnc._data.metrics.r2([1e300, 2e300], [1.0, 1.0]) == pytest.approx(-9)


# -------------------------------------------------------------------------------- assigned weights that are not finite


@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (np.inf, "inf")])
@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_nonfinite_assigned_weights_are_rejected_with_location(optimizer, value, text):
    net = classifier()
    net.weights[0][1, 2] = value
    message = rf"^the weights of the network must be finite, got {text} in W\[1, 2\] of Hidden Layer 1; assign"
    y = [0, 1] * 20
    for call in (
        lambda: net.fit(X, y, epochs=1, optimizer=optimizer),
        lambda: net.fit_batches([(X, y)]),
        lambda: net.train_step(X, y),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    if text == "nan":
        for call in (lambda: net.predict_classes(X), lambda: net.score(X, y), lambda: net.evaluate_loss(X, y)):
            with pytest.raises(ValueError, match=message):
                call()
        with pytest.raises(ValueError, match=message):
            net.gradients(X, y)
        assert np.isnan(net.predict(X)).all()  # predict does not check the weights, as its docstring states
    with pytest.raises(ModelFileError, match=r"layers\[0\]\.W\[1\]\[2\] is"):
        net.to_json()
    net.weights[0][1, 2] = 0.5
    net.biases[1][0] = value
    with pytest.raises(ValueError, match=rf"got {text} in b\[0\] of Output Layer; assign"):
        net.fit(X, y, epochs=1, optimizer=optimizer)
    net.biases[1][0] = 0
    net.fit(X, y, epochs=1, optimizer=optimizer)


@pytest.mark.parametrize("batches", [False, True])
def test_infinite_weights_assigned_by_callback_end_fit(batches):
    def assign_infinity(record):
        record.network.weights[1][...] = np.inf

    assign_infinity.every = 2
    net = regressor()
    with pytest.raises(ValueError, match=r"got inf in W\[0, 0\] of Output Layer, which a callback has assigned"):
        net.fit_batches([(X, Y)], epochs=9, lr=0.001, callback=assign_infinity) if batches else net.fit(
            X, Y, epochs=9, lr=0.001, callback=assign_infinity
        )
    assert net.history.epochs == 2


# ------------------------------------------------------------------------------------------------ conversion of inputs


def test_frames_train_like_arrays(pd, frame):
    data = columns()
    assert np.array_equal(fitted_params(frame(data)), fitted_params(X))
    mixed = frame({**data, "age": X[:, 0] > 0, "height": np.arange(40)})
    assert np.array_equal(fitted_params(mixed), fitted_params(np.column_stack([X[:, 0] > 0, np.arange(40), X[:, 2]])))


def test_frames_of_get_dummies_train_like_arrays(pd):
    data = pd.get_dummies(pd.DataFrame({"height": X[:, 1], "kind": ["a", "b"] * 20}))
    assert np.asarray(data).dtype == object
    assert np.array_equal(fitted_params(data), fitted_params(np.column_stack([X[:, 1], [1, 0] * 20, [0, 1] * 20])))


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean"])
def test_nullable_columns_are_converted_and_missing_values_rejected(pd, dtype):
    values = [i % 2 for i in range(40)]
    data = pd.DataFrame({**columns(), "age": pd.array(values, dtype=dtype)})
    assert np.array_equal(fitted_params(data), fitted_params(np.column_stack([values, X[:, 1:]])))
    assert np.array_equal(
        fitted_params(data, scale_X="standardize"), fitted_params(data.astype(float), scale_X="standardize")
    )
    values[3] = None
    data["age"] = pd.array(values, dtype=dtype)
    with pytest.raises(
        ValueError, match=rf"^X must have no missing values, got <NA> in row 3, column 0 \('age'.*{dtype}"
    ):
        regressor().fit(data, Y, epochs=1, lr=0.001)
    with pytest.raises(ValueError, match=r"^validation: X must have no missing values"):
        regressor().fit(X, Y, epochs=1, lr=0.001, validation=(data, Y))
    targets = pd.Series(values, dtype=dtype)
    with pytest.raises(
        ValueError, match=r"^y must (have no missing values|be finite in float64), got (<NA>|nan) in row 3"
    ):
        regressor().fit(X, targets, epochs=1, lr=0.001)


@pytest.mark.parametrize("dtype", ["double[pyarrow]", "int64[pyarrow]"])
def test_frames_with_arrow_columns_train_like_arrays(pd, dtype):
    pytest.importorskip("pyarrow")
    data = pd.DataFrame(columns(np.round(X))).astype(dtype)
    assert np.array_equal(fitted_params(data), fitted_params(np.round(X)))


def test_arrow_tables_train_like_arrays():
    pa = pytest.importorskip("pyarrow")
    table = pa.table(columns())
    net = regressor()
    net.fit(table, Y, epochs=3, lr=0.001)
    assert np.array_equal(net.params, fitted_params(X))
    assert net.feature_names == tuple(NAMES)
    assert np.array_equal(net.predict(table.select(NAMES[::-1])), net.predict(X))


class Tensor:
    """Tensor of another library, which provides only the DLPack protocol."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class DeviceTensor:
    """Tensor on another device, which cannot be converted to an array."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("on another device; use x.cpu()")


def test_tensors_with_dlpack_train_like_arrays():
    assert np.array_equal(fitted_params(Tensor(X)), fitted_params(X))
    net = regressor()
    net.fit(
        Tensor(X), Tensor(Y), epochs=3, lr=0.001, sample_weight=Tensor(np.ones(40)), validation=(Tensor(X), Tensor(Y))
    )
    assert np.array_equal(net.params, fitted_params(X))
    with pytest.raises(TypeError, match=r"^X must be an array of real numbers, got a DeviceTensor: .*use x\.cpu\(\)"):
        net.predict(DeviceTensor())


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_tensors_of_torch_and_jax_train_like_arrays(library):
    module = pytest.importorskip(library)
    convert = module.tensor if library == "torch" else module.numpy.asarray
    rounded = np.round(X)
    assert np.array_equal(fitted_params(convert(rounded)), fitted_params(rounded))


def test_objects_that_represent_numbers_are_converted():
    from decimal import Decimal
    from fractions import Fraction

    objects = np.round(4 * X).astype(object)
    objects[0] = [Decimal("1.5"), Fraction(1, 4), np.float32(2)]
    numbers = np.round(4 * X)
    numbers[0] = 1.5, 0.25, 2
    assert np.array_equal(fitted_params(objects), fitted_params(numbers))
    assert np.array_equal(fitted_params(objects.tolist()), fitted_params(numbers))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["tall"] * 40, r"'tall' of type str in row 0, column 1 \('height', of type \w+\); convert digits"),
        (
            np.array(["2020-01-01"] * 40, "M8[ms]"),
            r"column 1 \('height', of type .*\); convert dates and times to numbers",
        ),
    ],
)
def test_columns_of_text_or_dates_are_rejected(frame, column, message):
    data = frame({**columns(), "height": column})
    with pytest.raises(TypeError, match=f"^X must be an array of real numbers, got .*({message})"):
        regressor().fit(data, Y, epochs=1, lr=0.001)


def test_containers_other_than_arrays_are_rejected():
    lazy = pytest.importorskip("polars").LazyFrame(columns())
    with pytest.raises(
        TypeError, match=r"^X must be an array of real numbers, got a LazyFrame; pass the result of its method collect"
    ):
        regressor().fit(lazy, Y, epochs=1, lr=0.001)
    with pytest.raises(TypeError, match=r"^X must be an array of real numbers, got a dict"):
        regressor().fit(columns(), Y, epochs=1, lr=0.001)
    with pytest.raises(
        TypeError, match=r"^X must be an array of real numbers, got a structured array with the fields a, b"
    ):
        regressor().fit(np.zeros(40, [("a", float), ("b", float)]), Y, epochs=1, lr=0.001)


# ------------------------------------------------------------------------------------------------- names of columns


def fit_named(frame, **settings):
    """Return a regressor that was trained on a frame with the columns NAMES."""
    net = regressor(**settings)
    net.fit(frame(columns()), Y, epochs=3, lr=0.001)
    return net


@pytest.mark.parametrize("scale_X", [None, "standardize"])
def test_columns_are_reordered_by_name(frame, scale_X):
    net = fit_named(frame, scale_X=scale_X)
    assert net.feature_names == tuple(NAMES)
    reversed_frame = frame(columns(X[:, ::-1], NAMES[::-1]))
    assert np.array_equal(net.predict(reversed_frame), net.predict(X))
    assert net.score(reversed_frame, Y) == net.score(X, Y)
    assert net.evaluate_loss(reversed_frame, Y) == net.evaluate_loss(X, Y)
    assert np.array_equal(net.gradients(reversed_frame, Y)[0][0], net.gradients(X, Y)[0][0])
    assert np.array_equal(net.forward(reversed_frame)[0], net.forward(X)[0])
    expected_net = fit_named(frame, scale_X=scale_X)
    history, expected = (
        net.fit(reversed_frame, Y, epochs=2, lr=0.001, validation=(reversed_frame, Y)),
        expected_net.fit(X, Y, epochs=2, lr=0.001, validation=(X, Y)),
    )
    assert np.array_equal(history.loss, expected.loss)
    assert np.array_equal(history["val_loss"], expected["val_loss"])
    history, expected = (
        net.fit(reversed_frame, Y, epochs=2, lr=0.001, validation=0.25),
        expected_net.fit(X, Y, epochs=2, lr=0.001, validation=0.25),
    )
    assert np.array_equal(history["val_loss"], expected["val_loss"])
    net.fit_batches([(reversed_frame, Y)]), expected_net.fit_batches([(X, Y)])
    assert net.train_step(reversed_frame, Y) == expected_net.train_step(X, Y)
    assert np.array_equal(net.params, expected_net.params)


def test_missing_and_unknown_columns_are_rejected(frame):
    net = fit_named(frame)
    before = net.to_json(checkpoint=True)
    for names, message in (
        (["age", "height"], "got X without 'weight';"),
        (["age", "height", "width"], "got X without 'weight' and with the unknown 'width';"),
        ([*NAMES, "width"], "got X with the unknown 'width';"),
    ):
        data = frame(dict.fromkeys(names, X[:, 0]))
        beginning = "^X must have the columns that the network was trained on \\('age', 'height', 'weight'\\), "
        for call in (net.predict, lambda data: net.score(data, Y), lambda data: net.fit(data, Y, epochs=1)):
            with pytest.raises(ValueError, match=beginning + message):
                call(data)
        with pytest.raises(ValueError, match=r"^validation: X must have the columns"):
            net.fit(X, Y, epochs=1, validation=(data, Y))
    assert net.to_json(checkpoint=True) == before


def test_copies_and_files_preserve_feature_names(tmp_path, frame):
    net = fit_named(frame)
    net.save(tmp_path / "net.json", checkpoint=True)
    for other in (NeuralNetwork.load(tmp_path / "net.json"), net.copy(), pickle.loads(pickle.dumps(net))):
        assert other.feature_names == tuple(NAMES)
        assert np.array_equal(other.predict(frame(columns(X[:, ::-1], NAMES[::-1]))), net.predict(X))
    from nnc import reference

    # The reference implementation does not support frames.
    reference_net = reference.NeuralNetwork.load(tmp_path / "net.json")
    assert reference_net.predict(X[:1].tolist())[0] == pytest.approx(net.predict(X[:1])[0])


def test_arrays_without_names_are_used_in_given_order(pd, frame):
    net = fit_named(frame)
    assert np.array_equal(net.predict(X.tolist()), net.predict(X))
    assert np.array_equal(net.predict(pd.DataFrame(X)), net.predict(X))
    net.fit(X, Y, epochs=1, lr=0.001)
    assert net.feature_names == tuple(NAMES)
    unnamed = regressor()
    unnamed.fit(X, Y, epochs=1, lr=0.001)
    assert unnamed.feature_names is None
    unnamed.fit(frame(columns()), Y, epochs=1, lr=0.001, validation=0.25)
    assert unnamed.feature_names == tuple(NAMES)


def test_invalid_column_names_are_not_stored(pd):
    for names in ([0, 1, 2], ["a", "a", "b"], ["a", "b", 3], [("a", 1), ("a", 2), ("b", 1)]):
        net = regressor()
        net.fit(pd.DataFrame(X).set_axis(names, axis=1), Y, epochs=3, lr=0.001)
        assert net.feature_names is None
        assert np.array_equal(net.params, fitted_params(X))
    net = fit_named(pd.DataFrame)
    with pytest.raises(ValueError, match=r"got X without 'weight' and with more than one 'age'"):
        net.predict(pd.DataFrame(X).set_axis(["age", "age", "height"], axis=1))
    with pytest.raises(ValueError, match=r"got X without 'weight' and with the unknown 3"):
        net.predict(pd.DataFrame(X).set_axis(["age", "height", 3], axis=1))


def test_row_of_frame_is_reordered_by_name(pd):
    net, data = fit_named(pd.DataFrame), pd.DataFrame(columns())
    assert np.array_equal(net.predict(data[NAMES[::-1]].iloc[3]), net.predict(X[3]))
    with pytest.raises(ValueError, match=r"got X without 'age' and with the unknown 'year'"):
        net.predict(data.iloc[3].rename({"age": "year"}))
    single_input = NeuralNetwork([1, 2, 1], loss="mse", seed=0)
    single_input.fit(data[["age"]], Y, epochs=1, lr=0.001)
    # The index of a column names rows, not columns.
    column = data["age"].set_axis([f"row {i}" for i in range(40)])
    assert np.array_equal(single_input.predict(column), single_input.predict(X[:, :1]))


def test_rejected_fit_stores_no_feature_names(frame):
    net = regressor()
    for arguments in ({"y": Y[:3]}, {"epochs": 0}, {"validation": 3}):
        with pytest.raises((TypeError, ValueError)):
            net.fit(frame(columns()), **{"y": Y, "epochs": 1, **arguments})
    assert net.feature_names is None


# ----------------------------------------------------------------------------------------- numbers of rows in messages


def test_messages_count_rows_before_validation_split():
    inputs = X.copy()
    inputs[17, 1] = np.nan
    with pytest.raises(ValueError, match=r"X must be finite in float64, got nan in row 17, column 1"):
        regressor().fit(inputs, Y, epochs=1, validation=0.3)
    targets = Y.copy()
    targets[23] = np.inf
    with pytest.raises(ValueError, match=r"y must be finite in float64, got inf in row 23, column 0"):
        regressor().fit(X, targets, epochs=1, validation=0.3)


def test_messages_use_singular_for_one_column():
    single_input = NeuralNetwork([1, 2, 1], loss="mse", seed=0)
    with pytest.raises(
        ValueError, match=r"^X must have 1 column to fit this network, got 3 columns \(shape \(40, 3\)\)$"
    ):
        single_input.predict(X)
    with pytest.raises(
        ValueError, match=r"^X must have 3 columns to fit this network, got 1 column \(shape \(40, 1\)\)$"
    ):
        regressor().predict(Y)
