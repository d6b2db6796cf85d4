"""Images as inputs: accepted shapes, dtypes and containers, memory maps, and scale_X="pixels"."""

import json
import re
import warnings

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork, Pixels
from nnc._data.images import count_images
from nnc._data.scaling import Scaling
from nnc.layers import Conv2D, Input, MaxPool2D

rng = np.random.default_rng(0)
GRAY = rng.uniform(0, 1, (24, 7, 6, 1))
COLOR = rng.uniform(0, 1, (24, 7, 6, 3))
LABELS = np.arange(24) % 3
BYTES = (255 * GRAY).astype(np.uint8)


def network(images=GRAY, **arguments):
    layers = [Input(*images.shape[1:]), Conv2D(4, 3, "relu"), MaxPool2D(2), 5, 3]
    return NeuralNetwork(layers, **{"activation": "tanh", "loss": "cross_entropy", "seed": 1, **arguments})


def equivalent_inputs(images):
    """Yield the same images in each accepted shape, memory order, dtype and container."""
    n, *shape = images.shape
    yield images
    yield images.reshape(n, -1)
    if shape[-1] == 1:
        yield images[..., 0]
        yield images[..., 0].tolist()
    yield images.tolist()
    yield list(images)
    yield np.asfortranarray(images)
    yield np.repeat(images, 2, axis=2)[:, :, ::2]
    yield images.astype(">f8")


# ------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("images", [GRAY, COLOR], ids=["gray", "color"])
def test_shape_dtype_and_container_of_images_do_not_change_results(images):
    net = network(images)
    P = net.predict(images)
    assert P.shape == (24, 3)
    loss, score = net.evaluate_loss(images, LABELS), net.score(images, LABELS)
    gradients = net.gradients(images, LABELS)
    trained = net.copy()
    trained.fit(images, LABELS, epochs=2, batch_size=7, lr=0.1, validation=0.25)
    for X in equivalent_inputs(images):
        assert net.predict(X).tobytes() == P.tobytes()
        assert (net.evaluate_loss(X, LABELS), net.score(X, LABELS)) == (loss, score)
        assert np.array_equal(net.predict_classes(X), P.argmax(axis=1))
        assert net.predict_proba(X).tobytes() == P.tobytes()
        for actual, expected in zip(net.gradients(X, LABELS), gradients, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(actual, expected, strict=True))
        other = net.copy()
        other.fit(X, LABELS, epochs=2, batch_size=7, lr=0.1, validation=0.25)
        assert np.array_equal(other.params, trained.params)


@pytest.mark.parametrize("images", [GRAY, COLOR], ids=["gray", "color"])
def test_single_image_without_batch_dimension_is_one_row(images):
    net = network(images)
    expected = net.predict(images[:1])
    single_images = [
        images[0],
        images[0].ravel(),
        images[0].tolist(),
        *([images[0, ..., 0]] if images.shape[-1] == 1 else []),
    ]
    for X in single_images:
        assert net.predict(X).shape == (3,)
        assert net.predict(X).tobytes() == expected.tobytes()
        assert net.predict_classes(X).shape == (1,)
        assert net.evaluate_loss(X, [2]) == net.evaluate_loss(images[:1], [2])
        assert net.copy().train_step(X, [2], lr=0.1) == pytest.approx(net.evaluate_loss(images[:1], [2]))
        assert nnc.input_gradients(net, X, [2]).shape == np.shape(X)


def test_contiguous_images_of_engine_dtype_are_not_copied():
    net = network()
    rows = net.converter.rows_as_is(GRAY)
    assert rows.shape == (24, 42)
    assert np.shares_memory(rows, GRAY)
    flat = GRAY.reshape(24, -1)
    assert net.converter.rows_as_is(flat) is flat
    for X in (GRAY.astype("f4"), GRAY[:0], GRAY[:, :6], GRAY[0], np.asfortranarray(flat), COLOR, GRAY.tolist()):
        assert net.converter.rows_as_is(X) is None
    assert np.shares_memory(net.converter.rows(GRAY[..., 0]), GRAY)


@pytest.mark.parametrize(
    ("shape", "image_shape", "expected"),
    [
        ((5, 4, 3, 2), (4, 3, 2), (5, False)),
        ((5, 24), (4, 3, 2), (5, False)),
        ((4, 3, 2), (4, 3, 2), (1, True)),
        ((24,), (4, 3, 2), (1, True)),
        ((5, 4, 3), (4, 3, 1), (5, False)),
        ((4, 3), (4, 3, 1), (1, True)),
        ((4, 4, 4, 4), (4, 4, 4), (4, False)),
        ((4, 4, 4), (4, 4, 4), (1, True)),
        ((1, 6), (1, 6, 1), (1, False)),  # X of shape (1, 6) is one row of pixels, not one image
        ((1, 1, 1), (1, 1, 1), (1, False)),
        ((0, 4, 3, 2), (4, 3, 2), (0, False)),
    ],
)
def test_count_images_distinguishes_batch_from_single_image(shape, image_shape, expected):
    assert count_images(shape, image_shape) == expected


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((24, 3, 7, 6), "shape (24, 3, 7, 6); channels come last: X.transpose(0, 2, 3, 1)"),
        ((3, 7, 6), "shape (3, 7, 6); channels come last: X.transpose(1, 2, 0)"),
        ((24, 7, 6), "shape (24, 7, 6)"),
        ((24, 6, 7, 3), "shape (24, 6, 7, 3)"),
        ((24, 125), "shape (24, 125)"),
        ((1, 24, 7, 6, 3), "shape (1, 24, 7, 6, 3)"),
        ((125,), "shape (125,)"),
        ((), "shape ()"),
    ],
)
def test_wrong_image_shape_raises_error_with_expected_shapes(shape, message):
    net, X = network(COLOR), np.zeros(shape)
    expected = f"X must have shape (n, 7, 6, 3) or (n, 126) to fit this network, or be one such image, got {message}"
    n = shape[0] if shape else 1
    for call in (
        net.predict,
        net.forward,
        lambda X: net.evaluate_loss(X, LABELS[:n]),
        lambda X: net.fit(X, [0] * n, epochs=1, lr=0.001),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
            call(X)


def test_channels_first_gray_images_raise_error_with_transpose_hint():
    with pytest.raises(ValueError, match=r"\(n, 7, 6, 1\), \(n, 7, 6\) or \(n, 42\) .*X\.transpose\(0, 2, 3, 1\)$"):
        network().predict(GRAY.transpose(0, 3, 1, 2))
    assert network().predict(GRAY.transpose(0, 3, 1, 2).transpose(0, 2, 3, 1)).shape == (24, 3)


def test_predict_rejects_empty_array_of_images():
    with pytest.raises(ValueError, match=r"X must have at least one row, got shape \(0, 7, 6, 1\)"):
        network().predict(GRAY[:0])


def test_error_for_nan_names_row_column_channel_and_image():
    X = COLOR.copy()
    X[5, 4, 3, 2] = np.nan
    net, message = network(COLOR), r"X must be finite in float64, got nan in row 4, column 3, channel 2 of image 5$"
    for call in (
        net.predict,
        net.forward,
        lambda X: net.evaluate_loss(X, LABELS),
        lambda X: net.fit(X, LABELS, epochs=1, lr=0.001),
    ):
        with pytest.raises(ValueError, match=message):
            call(X)


def test_network_without_input_layer_rejects_images():
    net = NeuralNetwork([42, 3], loss="cross_entropy", seed=0)
    for X in (GRAY, GRAY[..., 0], GRAY[0]):
        with pytest.raises(ValueError, match="X must have 42 columns to fit this network"):
            net.predict(X)


# ------------------------------------------------------------------------------------ outputs and derivatives


def test_forward_returns_convolution_outputs_as_images():
    net = network()
    first, hidden, output = net.forward(GRAY[..., 0])
    assert (first.shape, hidden.shape, output.shape) == ((24, 5, 4, 4), (24, 5), (24, 3))
    windows = np.lib.stride_tricks.sliding_window_view(GRAY[..., 0], (3, 3), axis=(1, 2))
    Z = np.einsum("nyxij,ijf->nyxf", windows, net.layers[0].kernel[:, :, 0]) + net.biases[0]
    assert np.allclose(first, np.maximum(Z, 0))
    assert output.tobytes() == net.predict(GRAY).tobytes()


@pytest.mark.parametrize("scale_X", [None, "pixels"])
def test_input_gradients_have_shape_of_X(scale_X):
    net = network(scale_X=scale_X, output="softmax")
    X = GRAY if scale_X is None else 255 * GRAY
    for form in (X, X[..., 0], X.reshape(24, -1)):
        gradients = nnc.input_gradients(net, form, LABELS)
        assert gradients.shape == form.shape
        assert gradients.dtype == net.dtype
    step = 1e-6 if scale_X is None else 1e-4
    up, down = X.copy(), X.copy()
    up[3, 2, 4] += step
    down[3, 2, 4] -= step
    derivative = (net.evaluate_loss(up, LABELS) - net.evaluate_loss(down, LABELS)) / (2 * step)
    assert nnc.input_gradients(net, X, LABELS)[3, 2, 4] == pytest.approx(derivative, rel=1e-5, abs=1e-12)


# ------------------------------------------------------------------------------------ batches, files, frames


def test_fit_batches_accepts_mixed_image_shapes():
    images_only, mixed = network(), network()
    parts = [slice(0, 8), slice(8, 16), slice(16, 24)]
    images_only.fit_batches([(GRAY[s], LABELS[s]) for s in parts], epochs=2, lr=0.1, validation=(GRAY[:4], LABELS[:4]))
    shapes = [GRAY[:8], GRAY[8:16, ..., 0], GRAY[16:].reshape(8, -1)]
    batches = [(X, LABELS[s]) for X, s in zip(shapes, parts, strict=True)]
    history = mixed.fit_batches(batches, epochs=2, lr=0.1, validation=(GRAY[:4, ..., 0], LABELS[:4]))
    assert np.array_equal(images_only.params, mixed.params)
    assert len(history["val_loss"]) == 2
    with pytest.raises(ValueError, match=r"^validation: X must have shape .*X\.transpose"):
        mixed.fit(GRAY, LABELS, epochs=1, validation=(GRAY.transpose(0, 3, 1, 2), LABELS))


def test_train_step_stepper_and_fit_accept_each_image_shape():
    fit, steps, stepper = network(), network(), network()
    step = stepper.stepper(lr=0.1)
    for X in (GRAY, GRAY[..., 0], GRAY.reshape(24, -1)):
        fit.fit(X, LABELS, epochs=1, lr=0.1, optimizer="sgd")
        steps.train_step(X, LABELS, lr=0.1)
        step(X, LABELS)
    assert np.array_equal(fit.params, steps.params)
    assert np.array_equal(fit.params, stepper.params)


def test_train_step_with_numeric_targets_accepts_arrays_and_lists():
    # The array of images and its numeric targets need no conversion and use the fast path; the list does not.
    layers = [Input(7, 6, 1), Conv2D(2, 3), 2]
    a, b = (NeuralNetwork(layers, loss="mse", seed=0) for _ in range(2))
    Y = rng.uniform(size=(24, 2))
    for _ in range(3):
        assert a.train_step(GRAY, Y, lr=0.1) == b.train_step(GRAY.tolist(), Y, lr=0.1)
    assert np.array_equal(a.params, b.params)
    invalid = GRAY.copy()
    invalid[1, 2, 3] = np.inf
    with pytest.raises(ValueError, match=r"got inf in row 2, column 3, channel 0 of image 1"):
        a.train_step(invalid, Y, lr=0.1)


@pytest.mark.parametrize("shape", [(24, 7, 6, 1), (24, 7, 6), (24, 42)])
@pytest.mark.parametrize(("images", "arguments"), [(GRAY, {}), (BYTES, {"scale_X": "pixels", "dtype": "float32"})])
def test_memory_map_trains_to_same_bits_as_array(tmp_path, shape, images, arguments):
    path = tmp_path / "images.npy"
    np.save(path, images.reshape(shape))
    mapped = np.load(path, mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    in_memory, on_disk = network(**arguments), network(**arguments)
    for net, X in ((in_memory, images), (on_disk, mapped)):
        net.fit(X, LABELS, epochs=3, lr=0.1, batch_size=7, optimizer="adam")
        net.fit(X, LABELS, epochs=1, validation=0.25)
    assert in_memory.predict(images).tobytes() == on_disk.predict(mapped).tobytes()


def test_frame_with_column_per_pixel_matches_images():
    pandas = pytest.importorskip("pandas")
    net, names = network(), [f"pixel{i}" for i in range(42)]
    frame = pandas.DataFrame(GRAY.reshape(24, -1), columns=names)
    net.fit(frame, LABELS, epochs=1, lr=0.1)
    assert net.feature_names == tuple(names)
    assert net.predict(frame[names[::-1]]).tobytes() == net.predict(GRAY).tobytes()
    assert nnc.from_json(net.to_json()).feature_names == tuple(names)


# --------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_pixels_divides_by_255(dtype):
    net, unscaled = network(scale_X="pixels", dtype=dtype), network(dtype=dtype)
    rows = net.converter.inputs(BYTES)
    assert (rows.dtype, rows.shape, rows.flags.c_contiguous) == (net.dtype, (24, 42), True)
    assert np.array_equal(rows, (BYTES.reshape(24, -1) * (1 / 255)).astype(dtype))
    for X in (BYTES.astype(float), BYTES.tolist(), np.asfortranarray(BYTES), BYTES.astype(np.int32)):
        assert np.array_equal(net.converter.inputs(X), rows)
    assert np.allclose(net.predict(BYTES), unscaled.predict(BYTES / 255), rtol=1e-6)
    assert np.array_equal(net.converter.inputs(np.full((1, 7, 6), 255, np.uint8)), np.ones((1, 42)))


def test_pixels_scaling_does_not_depend_on_data():
    net = network(scale_X="pixels")
    before = net.to_json()
    assert net.train_step(BYTES[0], [1], lr=0.1) > 0
    loaded = nnc.from_json(before)
    assert loaded.predict(BYTES).tobytes() == network(scale_X=Pixels()).predict(BYTES).tobytes()
    assert "inputs scaled (pixels)" in loaded.summary()
    assert "scale_X=Pixels()" in repr(loaded)
    fitted = Pixels().fit([[0.0], [3.0]])
    assert (fitted.shift, fitted.factor) == (0, 1 / 255)
    with pytest.raises(TypeError, match="array must be an array of real numbers"):
        Pixels().fit("x")


def test_pixels_scaling_supports_vectors_and_targets():
    net = NeuralNetwork([42, 42], loss="mse", scale_X="pixels", scale_y="pixels", seed=0)
    X = BYTES.reshape(24, -1)
    net.fit(X, X, epochs=300, lr=0.02, optimizer="adam")
    assert net.score(X, X) > 0.2
    loaded = nnc.from_json(net.to_json())
    assert loaded.predict(X).tobytes() == net.predict(X).tobytes()
    assert net.predict(X).max() > 10


def test_pixels_undo_inverts_apply():
    scaling = Pixels().fit(BYTES)
    for array in (BYTES, BYTES[0], BYTES.ravel(), BYTES.astype(float)):
        assert np.array_equal(scaling.apply(array), array * (1 / 255))
        assert np.allclose(scaling.undo(scaling.apply(array)), array)
    with pytest.raises(ValueError, match="read-only"):
        scaling.shift[...] = 1


def test_pixels_round_trip_and_invalid_members_are_rejected():
    document = json.loads(network(scale_X="pixels").to_json())
    assert document["scale_X"] == {"type": "pixels", "shift": 0.0, "factor": 1 / 255}
    assert Scaling.from_dict(document["scale_X"]).to_dict() == document["scale_X"]
    for member, message in [
        ({"shift": [0.0]}, "scale_X.shift is a list of 1, expected a finite number"),
        ({"factor": 0}, "scale_X.factor is 0, expected a number that is not 0"),
        ({"factor": None}, "scale_X.factor is null, expected a finite number"),
        ({"type": "minmax"}, "scale_X.shift is 0.0, expected a list"),
        ({"low": 1}, 'scale_X has the unknown key "low"'),
    ]:
        with pytest.raises(nnc.ModelFileError, match=re.escape(message)):
            nnc.from_json(json.dumps({**document, "scale_X": {**document["scale_X"], **member}}))
    for wrong in ({"shift": [0.0]}, {"factor": "x"}, {"factor": float("nan")}, {"factor": 0.0}):
        with pytest.raises(ValueError, match=r"scal|pixels"):
            Scaling.from_dict({**document["scale_X"], **wrong})


def test_inspect_prints_pixels_scaling(capsys):
    network(scale_X="pixels").inspect()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == ["* Inputs: 7 x 6 x 1", "Scaled: pixels", f" Every input: (raw - 0.0) * {1 / 255}"]


def test_unscaled_bytes_raise_warning_with_suggested_scaling():
    X = BYTES.copy()
    X[0, 0, 0] = 255
    net = network(dtype="float32")
    assert np.array_equal(net.converter.inputs(X), X.reshape(24, -1))
    with pytest.warns(nnc.UnscaledInputWarning, match='X reaches up to 255, .*scale_X="pixels"'):
        net.fit(X, LABELS, epochs=1, lr=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(scale_X="pixels").fit(X, LABELS, epochs=1, lr=0.01)
    with pytest.warns(nnc.UnscaledInputWarning, match='scale_X="standardize"'):
        network().fit(GRAY * 1000, LABELS, epochs=1, lr=1e-6)


def test_standardize_scales_each_pixel_separately():
    net = network(scale_X="standardize")
    net.fit(GRAY[..., 0] * 9, LABELS, epochs=1, lr=0.01)
    assert net.converter.scaling_X.shift.shape == (42,)
    loaded = nnc.from_json(net.to_json())
    assert loaded.predict(GRAY).tobytes() == net.predict(GRAY).tobytes()
    assert nnc.input_gradients(net, GRAY, LABELS).shape == GRAY.shape
