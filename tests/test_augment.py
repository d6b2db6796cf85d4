"""Augmentation of images: epochs, seeds, transformations, dtypes and errors."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnc
from nnc._data.augment import Distortion, interpolated, shifted
from nnc._utils.random import Stream

NO_DISTORTION = {"shift": 0, "rotate": 0, "zoom": 0}
random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (20, 6, 7)).astype(np.uint8)
LABELS = np.arange(20)


def batches(X=IMAGES, y=LABELS, **options):
    return nnc.augment(X, y, **{"seed": 0, **options})


def augment_epoch(*args, **options):
    """Return X and y of one epoch."""
    return tuple(map(np.concatenate, zip(*batches(*args, **options), strict=True)))


def transform(images, angle=0.0, factor=1.0, shift=(0, 0), fill=0, work=np.float64):
    """Apply the same rotation by `angle`, zoom by `factor` and shift to all images."""
    distortion = Distortion(images.shape[1:], 0, 0, 0, False, 0, fill, np.dtype(work))
    shape = len(images), 1
    coordinates = distortion.coordinates(np.full(shape[0], angle), np.full(shape[0], factor), np.tile(shift, shape))
    return interpolated(images, *coordinates, fill)


# ---------------------------------------------------------------------------------------------- epochs


def test_epoch_contains_each_image_once_with_its_label():
    X, y = augment_epoch(**NO_DISTORTION, batch_size=3)
    assert sorted(y) == LABELS.tolist()
    assert y.tolist() != LABELS.tolist()
    assert np.array_equal(X, IMAGES[y])


def test_labels_and_weights_stay_with_their_images():
    # All pixels of an image are equal, so each one identifies its image.
    X = np.repeat(np.arange(1, 21, dtype=np.uint8), 42).reshape(20, 6, 7)
    for images, y, weights in nnc.augment(X, LABELS + 1, LABELS / 2, seed=0, batch_size=6, shift=1, elastic=0.2):
        assert images[:, 3, 3].tolist() == y.tolist() == (2 * weights + 1).tolist()


def test_batch_size_limits_batches_and_gives_length():
    sized = batches(batch_size=8)
    assert [len(y) for _, y in sized] == [8, 8, 4]
    assert len(sized) == 3
    assert len(batches(batch_size=1000)) == 1


def test_shuffle_false_preserves_order():
    assert augment_epoch(shuffle=False)[1].tolist() == LABELS.tolist()


def test_each_epoch_has_new_order_and_distortions():
    augmented = batches(batch_size=20)
    first, second = next(iter(augmented)), next(iter(augmented))
    assert augmented.epoch == 2
    assert first[1].tolist() != second[1].tolist()
    assert not np.array_equal(first[0][np.argsort(first[1])], second[0][np.argsort(second[1])])


def test_same_seed_gives_same_epochs():
    for options in ({}, {"elastic": 1, "flip": "horizontal"}):
        assert all(map(np.array_equal, augment_epoch(**options), augment_epoch(**options)))
    assert not np.array_equal(augment_epoch()[0], augment_epoch(seed=1)[0])
    random_seed = nnc.augment(IMAGES, LABELS)
    assert np.array_equal(augment_epoch(seed=random_seed.seed)[0], np.concatenate([X for X, _ in random_seed]))


def test_batch_size_does_not_change_images():
    options = {"elastic": 0.5, "flip": "horizontal"}
    assert all(map(np.array_equal, augment_epoch(batch_size=3, **options), augment_epoch(batch_size=20, **options)))


def test_block_size_does_not_change_images():
    one_block = Distortion((6, 7), 2, 10, 0.1, True, 1, 0, np.dtype("f4"))
    small_blocks = Distortion((6, 7), 2, 10, 0.1, True, 1, 0, np.dtype("f4"))
    small_blocks.block = 3
    a, b = IMAGES.copy(), IMAGES.copy()
    one_block(a, Stream(0))
    small_blocks(b, Stream(0))
    assert np.array_equal(a, b)


def test_epochs_continue_from_given_epoch_and_after_pickling():
    from_start, from_epoch_2 = batches(), batches(epoch=2)
    for _ in range(2):
        list(from_start)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(from_start, from_epoch_2, strict=True))
    from_epoch_2.epoch = 0
    assert np.array_equal(next(iter(from_epoch_2))[0], next(iter(batches()))[0])
    restored = pickle.loads(pickle.dumps(from_epoch_2))
    assert np.array_equal(next(iter(from_epoch_2))[0], next(iter(restored))[0])


def test_augment_does_not_modify_input():
    X = IMAGES.copy()
    list(batches(X, flip="horizontal"))
    list(batches(X, flip="horizontal", **NO_DISTORTION))
    assert np.array_equal(X, IMAGES)


# ---------------------------------------------------------------------------------------------- training


def test_fit_batches_trains_on_augmented_images_reproducibly():
    X, y = nnc.datasets.load_digits()

    def trained(batches, epochs, net=None):
        net = net or nnc.NeuralNetwork([64, 16, 10], activation="relu", loss="cross_entropy", seed=0)
        net.fit_batches(batches, epochs=epochs, lr=0.1)
        return net

    def augmented(**options):
        return nnc.augment(X / 16, y, shape=(8, 8), shift=1, seed=0, **options)

    batches = augmented()
    net = trained(batches, 4)
    assert batches.epoch == 4
    assert net.score(X / 16, y) > 0.6
    assert np.array_equal(net.params, trained(augmented(), 4).params)
    half = trained(augmented(), 2)
    assert np.array_equal(net.params, trained(augmented(epoch=2), 2, half).params)


# ---------------------------------------------------------------------------------------------- transformations


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("shift", [(0, 0), (2, 0), (0, -3), (-1, 2), (5, 6)])
def test_shifts_are_exact(dtype, shift):
    down, right = shift
    expected = np.full_like(IMAGES, 9, dtype=dtype)
    for i in range(6):
        for j in range(7):
            if 0 <= i - down < 6 and 0 <= j - right < 7:
                expected[:, i, j] = IMAGES[:, i - down, j - right]
    images = IMAGES.astype(dtype)
    assert np.array_equal(shifted(images, np.tile(shift, (20, 1)), 9), expected)
    assert np.array_equal(transform(images, shift=shift, fill=9), expected)
    colored = np.repeat(images[..., None], 3, axis=-1)
    assert np.array_equal(shifted(colored, np.tile(shift, (20, 1)), 9)[..., 1], expected)
    assert np.array_equal(transform(colored, shift=shift, fill=9)[..., 2], expected)


def test_all_shifts_are_equally_likely():
    X = np.zeros((5000, 7, 7), np.uint8)
    X[:, 3, 3] = 1
    moved, _ = augment_epoch(X, np.zeros(5000), rotate=0, zoom=0, shift=2)
    counts = moved.sum(axis=0)
    assert counts[1:6, 1:6].sum() == 5000
    assert counts[1:6, 1:6].min() > 140
    assert counts.max() < 260


@pytest.mark.parametrize("shape", [(6, 6), (7, 7), (7, 7, 3)])
@pytest.mark.parametrize("quarter_turns", [1, 2, 3, -1])
def test_rotations_by_quarter_turns_are_exact(shape, quarter_turns):
    images = random.uniform(0, 1, (4, *shape))
    expected = np.rot90(images, quarter_turns, axes=(1, 2))
    assert transform(images, quarter_turns * math.pi / 2) == pytest.approx(expected, abs=1e-12)
    single = transform(images.astype("f4"), quarter_turns * math.pi / 2, work=np.float32)
    assert single == pytest.approx(expected, abs=1e-5)


def test_half_turn_is_exact_for_images_that_are_not_square():
    images = random.uniform(0, 1, (4, 5, 8))
    assert transform(images, math.pi) == pytest.approx(images[:, ::-1, ::-1], abs=1e-12)


def test_zoom_is_about_center():
    image = np.zeros((1, 9, 9))
    image[0, 3:6, 3:6] = 1
    doubled = transform(image, factor=2.0)[0]
    assert doubled[4, 1:8].tolist() == [0.5, 1, 1, 1, 1, 1, 0.5]
    assert doubled.sum() == pytest.approx(4 * image.sum())
    assert transform(image, factor=1 / 3)[0][4].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_interpolation_between_pixels_is_bilinear():
    y, x = np.meshgrid(np.arange(9.0), np.arange(8.0), indexing="ij")
    plane = (2 * y - 3 * x + 1)[None]  # bilinear interpolation of a plane is exact
    transformed = transform(plane, angle=0.3, factor=1.4)[0]
    s, c = math.sin(0.3) / 1.4, math.cos(0.3) / 1.4
    sources = c * (y - 4) + s * (x - 3.5) + 4, c * (x - 3.5) - s * (y - 4) + 3.5
    inside = (sources[0] >= 0) & (sources[0] <= 8) & (sources[1] >= 0) & (sources[1] <= 7)
    assert inside.sum() > 40
    assert transformed[inside] == pytest.approx((2 * sources[0] - 3 * sources[1] + 1)[inside])


def test_flips_are_exact_and_apply_to_half_of_images():
    X, y = augment_epoch(np.tile(IMAGES, (50, 1, 1)), np.tile(LABELS, 50), **NO_DISTORTION, flip="horizontal")
    flipped = (IMAGES[y][:, :, ::-1] == X).all(axis=(1, 2))
    assert (flipped | (IMAGES[y] == X).all(axis=(1, 2))).all()
    assert 420 < flipped.sum() < 580


def test_elastic_is_standard_deviation_of_smooth_displacements():
    y, x = np.meshgrid(np.arange(40.0), np.arange(40.0), indexing="ij")
    down = (
        augment_epoch(np.tile(y, (300, 1, 1)), np.zeros(300), **NO_DISTORTION, elastic=1.5)[0][:, 8:32, 8:32]
        - y[8:32, 8:32]
    )
    right = (
        augment_epoch(np.tile(x, (300, 1, 1)), np.zeros(300), **NO_DISTORTION, elastic=1.5)[0][:, 8:32, 8:32]
        - x[8:32, 8:32]
    )
    for field in (down, right):
        assert abs(field.mean()) < 0.05
        assert field.std() == pytest.approx(1.5, rel=0.05)
    # A smooth displacement field: neighbouring pixels move by similar amounts.
    assert abs(np.diff(down, axis=1)).max() < 1.5
    assert abs(np.corrcoef(down.ravel(), right.ravel())[0, 1]) < 0.05


def test_fill_replaces_pixels_outside_of_image():
    X, _ = augment_epoch(np.full((50, 8, 8), 7, np.uint8), np.zeros(50), rotate=45, zoom=2, elastic=2, fill=7)
    assert (X == 7).all()
    X, _ = augment_epoch(np.full((50, 8, 8), 1.0), np.zeros(50), rotate=45, shift=0, fill=-1)
    assert X.min() == -1
    assert X[:, 3:5, 3:5].min() == X.max() == 1


# ---------------------------------------------------------------------------------------------- types and shapes


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">f4", ">i2", "longdouble"]
)
@pytest.mark.parametrize("options", [NO_DISTORTION, {"rotate": 0, "zoom": 0}, {}, {"elastic": 1, "flip": "horizontal"}])
def test_augment_preserves_dtype_shape_and_range(dtype, options):
    low, high = (0, 1) if np.dtype(dtype).kind in "?bf" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    low, high = max(low, -(2**53)), min(high, 2**53)
    images = random.choice(np.array([low, high], dtype), (5, 6, 7))
    ((X, _),) = batches(images, LABELS[:5], **options)
    assert X.dtype == np.dtype(dtype)
    assert X.shape == images.shape
    assert X.min() >= low
    assert X.max() <= high


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3) | st.tuples(*[st.integers(1, 6)] * 3, st.integers(1, 3)),
    options=st.fixed_dictionaries(
        {
            "rotate": st.sampled_from([0, 1e-300, 30, 180]),
            "zoom": st.sampled_from([0, 0.2, 10]),
            "elastic": st.integers(0, 1),
            "shift": st.integers(0, 3),
            "flip": st.sampled_from([False, "horizontal"]),
            "batch_size": st.integers(1, 12),
            "seed": st.integers(0, 2**64 - 1),
        }
    ),
    dtype=st.sampled_from(["u1", "f4", "f8"]),
)
def test_augment_supports_random_shapes_and_options(shape, options, dtype):
    side = min(shape[1:3]) - 1
    options |= {name: min(options[name], side) for name in ("shift", "elastic")}
    images = (np.arange(math.prod(shape)).reshape(shape) % 50 + 5).astype(dtype)
    X, y = augment_epoch(images, np.arange(len(images)), fill=1, **options)
    assert X.shape == shape
    assert X.dtype == dtype
    assert sorted(y) == list(range(len(images)))
    assert X.min() >= 1 - 1e-5
    assert X.max() <= 54 + 1e-4


def test_rows_with_shape_are_augmented_like_images():
    rows = IMAGES.reshape(20, -1)
    assert np.array_equal(augment_epoch(rows, shape=(6, 7))[0], augment_epoch()[0].reshape(20, -1))
    colors = np.repeat(rows, 3, axis=1)
    expected = augment_epoch(colors.reshape(20, 6, 7, 3))[0].reshape(20, -1)
    assert np.array_equal(augment_epoch(colors, shape=[6, 7, 3])[0], expected)


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1)])
def test_shape_accepts_images_of_that_shape(shape):
    assert np.array_equal(augment_epoch(shape=shape)[0], augment_epoch()[0])
    assert np.array_equal(augment_epoch(IMAGES[..., None], shape=shape)[0], augment_epoch(IMAGES[..., None])[0])


def test_memory_layout_and_lists_do_not_change_result():
    every_second_pixel = np.zeros((20, 12, 14), np.uint8)
    every_second_pixel[:, ::2, ::2] = IMAGES
    for images in (
        np.asfortranarray(IMAGES),
        every_second_pixel[:, ::2, ::2],
        IMAGES.transpose(0, 2, 1).copy().transpose(0, 2, 1),
    ):
        for options in ({}, NO_DISTORTION, {"rotate": 0, "zoom": 0}):
            assert np.array_equal(augment_epoch(images, **options)[0], augment_epoch(**options)[0])
    X, y = augment_epoch(IMAGES.tolist(), [str(i) for i in LABELS])
    assert X.dtype == np.int64
    assert y[:3].tolist() == [str(i) for i in augment_epoch()[1][:3]]


def test_memory_map_gives_same_batches_as_array(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    X = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert np.array_equal(augment_epoch(X)[0], augment_epoch()[0])


def test_zoom_of_long_image_is_accurate_in_float32():
    image = np.arange(5000.0, dtype=np.float32)[None, None]
    zoomed = augment_epoch(image, [0], shift=0, rotate=0, zoom=0.01, seed=3)[0][0, 0]
    assert np.diff(zoomed[100:-100]) == pytest.approx(np.diff(zoomed[100:102])[0], abs=1e-3)


def test_fit_batches_rejects_nonfinite_augmented_images():
    X = np.zeros((4, 3, 3), np.float32)
    X[2, 1, 1] = np.inf
    net = nnc.NeuralNetwork([9, 1], loss="mse")
    with pytest.raises(ValueError, match="X must be finite"):
        net.fit_batches(nnc.augment(X.reshape(4, 9), np.zeros(4), shape=(3, 3), shift=0, seed=0))


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": IMAGES.reshape(20, -1)}, r"X must be images .*, got shape \(20, 42\); rows of pixels need shape="),
        ({"X": IMAGES[0, 0]}, r"X must be images .*, got shape \(7,\)$"),
        ({"X": IMAGES[:0]}, r"X must be images .*, got shape \(0, 6, 7\)"),
        ({"X": IMAGES[:, :0]}, r"X must be images .*, got shape \(20, 0, 7\)"),
        ({"X": IMAGES.astype(np.int64) + 2**60}, r"X must have integers up to 2\*\*53"),
        ({"y": LABELS[:19]}, r"y must have one row for each image of X, got shape \(19,\) for 20 images"),
        ({"y": 3}, r"y must have one row for each image of X, got shape \(\)"),
        ({"sample_weight": [1.0]}, r"sample_weight must have one row for each image of X, got shape \(1,\)"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"shift": -1}, "shift must be 0 or more, got -1"),
        ({"shift": 6}, r"shift must be from 0 to 5 for images of shape \(6, 7\), got 6"),
        ({"rotate": -1}, "rotate must be from 0 to 180, got -1"),
        ({"rotate": math.nan}, "rotate must be from 0 to 180, got nan"),
        ({"zoom": 11}, "zoom must be from 0 to 10, got 11"),
        ({"elastic": 7}, "elastic must be from 0 to 5 for images of shape"),
        ({"flip": True}, 'flip must be False or "horizontal", got True'),
        ({"flip": 0}, 'flip must be False or "horizontal", got 0'),
        ({"fill": 256}, "fill must be a number that the dtype of X, uint8, can represent, got 256"),
        ({"fill": 0.5}, "fill must be a number that the dtype of X, uint8, can represent, got 0.5"),
        ({"fill": math.inf}, "fill must be a finite number"),
        ({"X": IMAGES.astype("f2"), "fill": 1e6}, "fill must be a number that the dtype of X, float16, can represent"),
        ({"shape": 28}, r"shape must be \(height, width\) or \(height, width, channels\), got 28"),
        ({"shape": (7, 6)}, r"X must have shape \(n, 42\), .* of shape \(7, 6\), or \(n, 7, 6\), got \(20, 6, 7\)"),
        ({"shape": (6, 0)}, "shape must be 1 or more, got 0"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"epoch": -1}, "epoch must be 0 or more"),
    ],
)
def test_augment_rejects_invalid_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        nnc.augment(**{"X": IMAGES, "y": LABELS, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": None}, "X must be an array of real numbers"),
        ({"X": np.full((2, 3, 3), "a")}, "X must be an array of real numbers"),
        ({"X": IMAGES * 1j}, "X must be an array of real numbers, got complex numbers"),
        ({"shift": 1.5}, "shift must be a whole number, got 1.5"),
        ({"rotate": "10"}, "rotate must be a number, got '10'"),
        ({"fill": None}, "fill must be a number, got None"),
        ({"shuffle": 1}, "shuffle must be True or False, got 1"),
        ({"batch_size": 2.0}, "batch_size must be a whole number, got 2.0"),
    ],
)
def test_augment_rejects_invalid_types(arguments, message):
    with pytest.raises(TypeError, match=message):
        nnc.augment(**{"X": IMAGES, "y": LABELS, **arguments})
