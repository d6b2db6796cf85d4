"""Frames, tensors, tables, masked arrays and labels of all kinds: nothing is lost or changed on the way in."""

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
    """What makes a frame of columns by name."""
    return pytest.importorskip(request.param).DataFrame


@pytest.fixture
def pd():
    return pytest.importorskip("pandas")


def columns(a=X, names=NAMES):
    return dict(zip(names, a.T, strict=True))


def trained(data, **settings):
    net = regressor(**settings)
    net.fit(data, Y, epochs=3, lr=0.001)
    return net.params


# ------------------------------------------------------------------------------------------------- missing labels


@pytest.mark.parametrize("split", [None, 0.25])
@pytest.mark.parametrize("n_out", [1, 2])
@pytest.mark.parametrize("kind", ["list", "object", "str", "category", "Int64", "boolean", "float", "NaT", "polars"])
def test_missing_labels_are_no_class(kind, n_out, split):
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
def test_a_missing_label_among_others(missing):
    for labels in (["a", "b", missing, "a"] * 10, [["a"], ["b"], [missing], ["a"]] * 10):
        with pytest.raises(ValueError, match=r"y must have no missing values, got .* in row 2"):
            classifier().fit(X, labels, epochs=1, lr=0.001)


# ------------------------------------------------------------------------------------------------- exact labels


@pytest.mark.parametrize("kind", [list, np.array, lambda y: np.array(y, object)])
@pytest.mark.parametrize("pair", [[2**63 + 1, 2**63 + 2], [2**60, 2**60 + 1], [-(2**63), 2**63 - 1], [-(2.0**60), 0.5]])
def test_large_labels_are_exact(pair, kind):
    net, y = classifier(), kind(pair * 20)
    net.fit(X, y, epochs=1, lr=0.001)
    assert net.classes.tolist() == sorted(pair)
    again = nnc.from_json(net.to_json())
    assert again.classes.dtype == net.classes.dtype
    assert again.classes.tolist() == sorted(pair)
    assert again.score(X, y) == net.score(X, y)
    assert set(again.predict_classes(X).tolist()) <= set(pair)


def test_small_and_large_labels_of_64_bits_without_a_sign():
    """A list of a small and a large integer is an array of floats to NumPy."""
    net = classifier()
    net.fit(X, [3, 2**63 + 1] * 20, epochs=1, lr=0.001)
    again = nnc.from_json(net.to_json())
    assert net.classes.tolist() == again.classes.tolist() == [3, 2**63 + 1]


def test_large_labels_are_not_taken_for_their_neighbors():
    net = classifier()
    net.fit(X, np.array([2**60, 2**60 + 1] * 20), epochs=1, lr=0.001)
    assert net.score(X, np.array([2**60, 2**60 + 1] * 20, np.uint64)) == net.score(X, [2**60, 2**60 + 1] * 20)
    for near in (np.full(40, 2**60 + 2), np.full(40, 2**60 + 2, np.uint64), np.full(40, 2.0**60 + 2**10)):
        with pytest.raises(ValueError, match=r"y must hold the classes of this network, .* in row 0"):
            net.score(X, near)
    net = classifier()
    net.fit(X, np.array([2**53, 2**53 + 1] * 20), epochs=1, lr=0.001)
    with pytest.raises(ValueError, match=r"y must hold the classes of this network"):
        net.score(X, np.array([0.5] + [2.0**53] * 39))
    other = classifier()
    other.fit(X, np.array([2.0**53, 0.5] * 20), epochs=1, lr=0.001)
    with pytest.raises(ValueError, match=r"y must hold the classes of this network"):
        other.score(X, np.full(40, 2**53 + 1))


@pytest.mark.parametrize("pair", [[-1, 2**63], [0.5, 2**53 + 1], [1, 2**64]])
def test_labels_that_no_type_holds(pair):
    with pytest.raises(ValueError, match=r"y must have labels that one type of number represents exactly, got "):
        classifier().fit(X, pair * 20, epochs=1, lr=0.001)


@pytest.mark.parametrize("kind", [list, lambda y: np.array(y, object)])
def test_text_that_numpy_would_merge(kind):
    for pair in (["a", "a\0"], [b"a", b"a\0"]):
        with pytest.raises(ValueError, match=r"y must have labels that do not end in a NUL character, got .* in row 1"):
            classifier().fit(X, kind(pair * 20), epochs=1, lr=0.001)
    for pair in (["3", 3], ["a", 1.5], ["a", b"a"], ["True", True]):
        with pytest.raises(TypeError, match=r"y must have labels of one type, got .* in row 1 and "):
            classifier().fit(X, kind(pair * 20), epochs=1, lr=0.001)
    net = classifier()
    net.fit(X, kind(["a", "\0a"] * 20), epochs=1, lr=0.001)
    assert net.classes.tolist() == ["\0a", "a"]


def test_strings_of_any_length():
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("NumPy 1 has none")
    with pytest.raises(ValueError, match=r"NUL character"):
        classifier().fit(X, np.array(["a", "a\0"] * 20, dtype=np.dtypes.StringDType()), epochs=1, lr=0.001)
    holes = np.array(["a", None, "b", "a"] * 10, dtype=np.dtypes.StringDType(na_object=None))
    with pytest.raises(ValueError, match=r"y must have no missing values, got None in row 1"):
        classifier().fit(X, holes, epochs=1, lr=0.001)


# ------------------------------------------------------------------------------------------------- masks


def masked(a, row):
    return np.ma.array(a, mask=np.arange(len(a)).reshape(-1, *[1] * (a.ndim - 1)) == np.full(a.shape, row))


@pytest.mark.parametrize("validation", [None, 0.25])
def test_what_a_mask_hides_is_not_used(validation):
    settings = {"epochs": 1, "validation": validation}
    with pytest.raises(ValueError, match=r"^X must have no masked elements, got one in row 5, column 0; fill it"):
        regressor().fit(masked(X, 5), Y, **settings)
    with pytest.raises(ValueError, match=r"^y must have no masked elements, got one in row 6"):
        regressor().fit(X, masked(Y, 6), **settings)
    with pytest.raises(ValueError, match=r"^y must have no masked elements, got one in row 6"):
        classifier().fit(X, masked(np.arange(40) % 2, 6), **settings)
    with pytest.raises(ValueError, match=r"^sample_weight must have no masked elements, got one in row 7"):
        regressor().fit(X, Y, sample_weight=masked(np.ones(40), 7), **settings)
    with pytest.raises(ValueError, match=r"^X must have no masked elements, got one in row 1, column 0"):
        regressor().fit([X[0], masked(X[1:2], 0)[0], *X[2:]], Y, **settings)
    net = regressor()
    with pytest.raises(ValueError, match=r"^X must have no masked elements"):
        net.predict(masked(X, 0))
    with pytest.raises(ValueError, match=r"^params must have no masked elements, got one in row 3"):
        net.params = masked(net.params, 3)
    with pytest.raises(ValueError, match=r"^weights\[0\] must have no masked elements"):
        net.weights[0] = masked(np.ones((3, 4)), 1)
    with pytest.raises(ValueError, match=r"^X must have no masked elements"):
        nnc.datasets.train_test_split(masked(X, 0), Y)


def test_a_mask_that_hides_nothing():
    assert np.array_equal(trained(np.ma.array(X)), trained(X))
    assert np.array_equal(trained([np.ma.array(row) for row in X]), trained(X))


# ------------------------------------------------------------------------------------------------- numbers at the ends


@pytest.mark.parametrize(
    ("dtype", "weight"), [("float64", 1e-320), ("float64", 1e308), ("float32", 1e-40), ("float32", 1e38)]
)
def test_weights_whose_sum_is_out_of_range(dtype, weight):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=f"^sample_weight must have a sum from .*, the range of {dtype}, got"):
            regressor(dtype=dtype).fit(X, Y, epochs=1, lr=0.001, sample_weight=np.full(40, weight))
        with pytest.raises(ValueError, match=f"^class_weight must have a sum from .*, the range of {dtype}, got"):
            classifier(dtype=dtype).fit(X, [0, 1] * 20, epochs=1, lr=0.001, class_weight={0: weight, 1: weight})
        if weight < 1:  # one such weight beside others does no harm
            regressor(dtype=dtype).fit(X, Y, epochs=1, lr=0.001, sample_weight=[weight] + [1.0] * 39)


def test_products_of_weights_out_of_range():
    y = [0, 1] * 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for weight in (1e200, 1e-200):
            with pytest.raises(ValueError, match=r"^class_weight times sample_weight must"):
                classifier().fit(
                    X, y, epochs=1, lr=0.001, sample_weight=np.full(40, weight), class_weight={0: weight, 1: weight}
                )


def test_scores_of_enormous_numbers():
    """Their squares are beyond the range of a float."""
    true, predicted = np.array([1e300, 2e300, -1e300]), np.array([1e300, 2e300, 0])
    assert nnc._data.metrics.rmse(true, predicted) == pytest.approx(1e300 / 3**0.5)
    assert nnc._data.metrics.r2(true, predicted) == pytest.approx(nnc._data.metrics.r2(true / 1e300, predicted / 1e300))
    assert nnc._data.metrics.r2([1.0, 2.0], [1e300, 1.0]) == -np.inf
    assert nnc._data.metrics.r2([1e300, 2e300], [1.0, 1.0]) == pytest.approx(-9)


# ------------------------------------------------------------------------------------------------- weights by hand


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf")])
@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_weights_that_are_not_finite_by_hand(optimizer, value, shown):
    net = classifier()
    net.weights[0][1, 2] = value
    place = rf"^the weights of the network must be finite, got {shown} in W\[1, 2\] of Hidden Layer 1; assign"
    y = [0, 1] * 20
    for call in (
        lambda: net.fit(X, y, epochs=1, optimizer=optimizer),
        lambda: net.fit_batches([(X, y)]),
        lambda: net.train_step(X, y),
    ):
        with pytest.raises(ValueError, match=place):
            call()
    if shown == "nan":
        for call in (lambda: net.predict_classes(X), lambda: net.score(X, y), lambda: net.evaluate_loss(X, y)):
            with pytest.raises(ValueError, match=place):
                call()
        with pytest.raises(ValueError, match=place):
            net.gradients(X, y)
        assert np.isnan(net.predict(X)).all()  # as its description says
    with pytest.raises(ModelFileError, match=r"layers\[0\]\.W\[1\]\[2\] is"):
        net.to_json()
    net.weights[0][1, 2] = 0.5
    net.biases[1][0] = value
    with pytest.raises(ValueError, match=rf"got {shown} in b\[0\] of Output Layer; assign"):
        net.fit(X, y, epochs=1, optimizer=optimizer)
    net.biases[1][0] = 0
    net.fit(X, y, epochs=1, optimizer=optimizer)


@pytest.mark.parametrize("batches", [False, True])
def test_weights_that_a_callback_makes_infinite(batches):
    def spoil(record):
        record.network.weights[1][...] = np.inf

    spoil.every = 2
    net = regressor()
    with pytest.raises(ValueError, match=r"got inf in W\[0, 0\] of Output Layer, which a callback has assigned"):
        net.fit_batches([(X, Y)], epochs=9, lr=0.001, callback=spoil) if batches else net.fit(
            X, Y, epochs=9, lr=0.001, callback=spoil
        )
    assert net.history.epochs == 2


# ------------------------------------------------------------------------------------------------- what is converted


def test_frames_of_several_types(pd, frame):
    data = columns()
    assert np.array_equal(trained(frame(data)), trained(X))
    mixed = frame({**data, "age": X[:, 0] > 0, "height": np.arange(40)})
    assert np.array_equal(trained(mixed), trained(np.column_stack([X[:, 0] > 0, np.arange(40), X[:, 2]])))


def test_get_dummies(pd):
    data = pd.get_dummies(pd.DataFrame({"height": X[:, 1], "kind": ["a", "b"] * 20}))
    assert np.asarray(data).dtype == object
    assert np.array_equal(trained(data), trained(np.column_stack([X[:, 1], [1, 0] * 20, [0, 1] * 20])))


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean"])
def test_nullable_types(pd, dtype):
    values = [i % 2 for i in range(40)]
    data = pd.DataFrame({**columns(), "age": pd.array(values, dtype=dtype)})
    assert np.array_equal(trained(data), trained(np.column_stack([values, X[:, 1:]])))
    assert np.array_equal(trained(data, scale_X="standardize"), trained(data.astype(float), scale_X="standardize"))
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
def test_frames_on_arrow(pd, dtype):
    pytest.importorskip("pyarrow")
    data = pd.DataFrame(columns(np.round(X))).astype(dtype)
    assert np.array_equal(trained(data), trained(np.round(X)))


def test_tables():
    pa = pytest.importorskip("pyarrow")
    table = pa.table(columns())
    net = regressor()
    net.fit(table, Y, epochs=3, lr=0.001)
    assert np.array_equal(net.params, trained(X))
    assert net.feature_names == tuple(NAMES)
    assert np.array_equal(net.predict(table.select(NAMES[::-1])), net.predict(X))


class Tensor:
    """What another library's tensor offers."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class Elsewhere:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("on another device; use x.cpu()")


def test_tensors():
    assert np.array_equal(trained(Tensor(X)), trained(X))
    net = regressor()
    net.fit(
        Tensor(X), Tensor(Y), epochs=3, lr=0.001, sample_weight=Tensor(np.ones(40)), validation=(Tensor(X), Tensor(Y))
    )
    assert np.array_equal(net.params, trained(X))
    with pytest.raises(TypeError, match=r"^X must be an array of real numbers, got a Elsewhere: .*use x\.cpu\(\)"):
        net.predict(Elsewhere())


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_tensors_of(library):
    found = pytest.importorskip(library)
    make = found.tensor if library == "torch" else found.numpy.asarray
    rounded = np.round(X)
    assert np.array_equal(trained(make(rounded)), trained(rounded))


def test_objects_that_are_numbers():
    from decimal import Decimal
    from fractions import Fraction

    objects = np.round(4 * X).astype(object)
    objects[0] = [Decimal("1.5"), Fraction(1, 4), np.float32(2)]
    numbers = np.round(4 * X)
    numbers[0] = 1.5, 0.25, 2
    assert np.array_equal(trained(objects), trained(numbers))
    assert np.array_equal(trained(objects.tolist()), trained(numbers))


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
def test_columns_that_are_no_numbers(frame, column, message):
    data = frame({**columns(), "height": column})
    with pytest.raises(TypeError, match=f"^X must be an array of real numbers, got .*({message})"):
        regressor().fit(data, Y, epochs=1, lr=0.001)


def test_containers_that_are_no_arrays():
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


def named(frame, **settings):
    net = regressor(**settings)
    net.fit(frame(columns()), Y, epochs=3, lr=0.001)
    return net


@pytest.mark.parametrize("scale_X", [None, "standardize"])
def test_columns_are_put_in_order(frame, scale_X):
    net = named(frame, scale_X=scale_X)
    assert net.feature_names == tuple(NAMES)
    other = frame(columns(X[:, ::-1], NAMES[::-1]))
    assert np.array_equal(net.predict(other), net.predict(X))
    assert net.score(other, Y) == net.score(X, Y)
    assert net.evaluate_loss(other, Y) == net.evaluate_loss(X, Y)
    assert np.array_equal(net.gradients(other, Y)[0][0], net.gradients(X, Y)[0][0])
    assert np.array_equal(net.forward(other)[0], net.forward(X)[0])
    same = named(frame, scale_X=scale_X)
    found, wanted = (
        net.fit(other, Y, epochs=2, lr=0.001, validation=(other, Y)),
        same.fit(X, Y, epochs=2, lr=0.001, validation=(X, Y)),
    )
    assert np.array_equal(found.loss, wanted.loss)
    assert np.array_equal(found["val_loss"], wanted["val_loss"])
    found, wanted = (
        net.fit(other, Y, epochs=2, lr=0.001, validation=0.25),
        same.fit(X, Y, epochs=2, lr=0.001, validation=0.25),
    )
    assert np.array_equal(found["val_loss"], wanted["val_loss"])
    net.fit_batches([(other, Y)]), same.fit_batches([(X, Y)])
    assert net.train_step(other, Y) == same.train_step(X, Y)
    assert np.array_equal(net.params, same.params)


def test_other_columns_are_refused(frame):
    net = named(frame)
    before = net.to_json(checkpoint=True)
    for names, message in (
        (["age", "height"], "got it without 'weight';"),
        (["age", "height", "width"], "got it without 'weight' and with the unknown 'width';"),
        ([*NAMES, "width"], "got it with the unknown 'width';"),
    ):
        data = frame(dict.fromkeys(names, X[:, 0]))
        begin = "^X must have the columns that the network was trained on, 'age', 'height', 'weight', "
        for call in (net.predict, lambda data: net.score(data, Y), lambda data: net.fit(data, Y, epochs=1)):
            with pytest.raises(ValueError, match=begin + message):
                call(data)
        with pytest.raises(ValueError, match=r"^validation: X must have the columns"):
            net.fit(X, Y, epochs=1, validation=(data, Y))
    assert net.to_json(checkpoint=True) == before


def test_names_go_everywhere_a_network_goes(tmp_path, frame):
    net = named(frame)
    net.save(tmp_path / "net.json", checkpoint=True)
    for other in (NeuralNetwork.load(tmp_path / "net.json"), net.copy(), pickle.loads(pickle.dumps(net))):
        assert other.feature_names == tuple(NAMES)
        assert np.array_equal(other.predict(frame(columns(X[:, ::-1], NAMES[::-1]))), net.predict(X))
    from nnc import reference

    plain = reference.NeuralNetwork.load(tmp_path / "net.json")  # which knows no frames
    assert plain.predict(X[:1].tolist())[0] == pytest.approx(net.predict(X[:1])[0])


def test_arrays_without_names_are_taken_as_they_are(pd, frame):
    net = named(frame)
    assert np.array_equal(net.predict(X.tolist()), net.predict(X))
    assert np.array_equal(net.predict(pd.DataFrame(X)), net.predict(X))
    net.fit(X, Y, epochs=1, lr=0.001)
    assert net.feature_names == tuple(NAMES)
    later = regressor()
    later.fit(X, Y, epochs=1, lr=0.001)
    assert later.feature_names is None
    later.fit(frame(columns()), Y, epochs=1, lr=0.001, validation=0.25)
    assert later.feature_names == tuple(NAMES)


def test_names_that_are_not_kept(pd):
    for names in ([0, 1, 2], ["a", "a", "b"], ["a", "b", 3], [("a", 1), ("a", 2), ("b", 1)]):
        net = regressor()
        net.fit(pd.DataFrame(X).set_axis(names, axis=1), Y, epochs=3, lr=0.001)
        assert net.feature_names is None
        assert np.array_equal(net.params, trained(X))
    net = named(pd.DataFrame)
    with pytest.raises(ValueError, match=r"got it without 'weight' and with more than one 'age'"):
        net.predict(pd.DataFrame(X).set_axis(["age", "age", "height"], axis=1))
    with pytest.raises(ValueError, match=r"got it without 'weight' and with the unknown 3"):
        net.predict(pd.DataFrame(X).set_axis(["age", "height", 3], axis=1))


def test_a_row_of_a_frame(pd):
    net, data = named(pd.DataFrame), pd.DataFrame(columns())
    assert np.array_equal(net.predict(data[NAMES[::-1]].iloc[3]), net.predict(X[3]))
    with pytest.raises(ValueError, match=r"got it without 'age' and with the unknown 'year'"):
        net.predict(data.iloc[3].rename({"age": "year"}))
    one = NeuralNetwork([1, 2, 1], loss="mse", seed=0)
    one.fit(data[["age"]], Y, epochs=1, lr=0.001)
    rows = data["age"].set_axis([f"row {i}" for i in range(40)])  # a column, whose index are rows
    assert np.array_equal(one.predict(rows), one.predict(X[:, :1]))


def test_names_are_not_kept_of_what_is_refused(frame):
    net = regressor()
    for wrong in ({"y": Y[:3]}, {"epochs": 0}, {"validation": 3}):
        with pytest.raises((TypeError, ValueError)):
            net.fit(frame(columns()), **{"y": Y, "epochs": 1, **wrong})
    assert net.feature_names is None


# ------------------------------------------------------------------------------------------------- rows in messages


def test_rows_have_the_numbers_of_the_user_where_some_are_split_off():
    wrong = X.copy()
    wrong[17, 1] = np.nan
    with pytest.raises(ValueError, match=r"X must be finite in float64, got nan in row 17, column 1"):
        regressor().fit(wrong, Y, epochs=1, validation=0.3)
    targets = Y.copy()
    targets[23] = np.inf
    with pytest.raises(ValueError, match=r"y must be finite in float64, got inf in row 23, column 0"):
        regressor().fit(X, targets, epochs=1, validation=0.3)


def test_one_column_is_no_columns():
    one = NeuralNetwork([1, 2, 1], loss="mse", seed=0)
    with pytest.raises(
        ValueError, match=r"^X must have 1 column to fit this network, got 3 columns \(shape \(40, 3\)\)$"
    ):
        one.predict(X)
    with pytest.raises(
        ValueError, match=r"^X must have 3 columns to fit this network, got 1 column \(shape \(40, 1\)\)$"
    ):
        regressor().predict(Y)
