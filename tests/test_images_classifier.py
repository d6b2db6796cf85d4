"""Tests of nnc.images: reading of folders, files and arrays, training, predictions, warnings, files and exports."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc.images import ImageClassifier, ImageWarning, list_images
from nnc.images.reading import read_unlabelled

CLASSES = np.array(["bottom right", "top left"])
SETTINGS = {"epochs": 2, "random_state": 0, "n_threads": 1}


def pixels(n=24, seed=0):
    """Return gray images (n, 16, 16) with a bright corner on a dark ground, and the index of the corner."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 40, (n, 16, 16)).astype(np.uint8)
    y = np.arange(n) % 2
    X[y == 1, :7, :7] += 200
    X[y == 0, 9:, 9:] += 200
    return X, y


def write_idx(path, array):
    """Write an array of bytes as an IDX file."""
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    Path(path).write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def fitted():
    """Return a model that was trained on an array, which no test changes."""
    X, y = pixels()
    return ImageClassifier(epochs=12, random_state=0).fit(X, CLASSES[y])


@pytest.fixture
def image():
    """Return the module PIL.Image, or skip the test if Pillow is not installed."""
    return pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path, image):
    """Return a folder with a subfolder of images for each class."""
    for i, (picture, index) in enumerate(zip(*pixels(), strict=True)):
        path = tmp_path / "images" / CLASSES[index]
        path.mkdir(parents=True, exist_ok=True)
        image.fromarray(picture).save(path / f"{i:02}.png")
    return tmp_path / "images"


def equal_bits(first, second):
    """Return whether the networks of two classifiers have the same parameters and classes."""
    same = first.network_.params.tobytes() == second.network_.params.tobytes()
    return same and first.classes_.tolist() == second.classes_.tolist()


# ------------------------------------------------------------------------------------------ reading


def test_import_of_package_does_not_import_pillow():
    code = "import sys, nnc.images; assert not {'PIL', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_folder_files_and_array_give_the_same_model(folder, tmp_path):
    from_folder = ImageClassifier(**SETTINGS).fit(folder)
    files = list_images(folder)
    labels = [Path(file).parent.name for file in files]
    X = np.stack([pixels()[0][int(Path(file).stem)] for file in files])
    write_idx(tmp_path / "X.idx", X)
    write_idx(tmp_path / "y.idx", np.searchsorted(CLASSES, labels))
    assert equal_bits(ImageClassifier(**SETTINGS).fit(files, labels), from_folder)
    assert equal_bits(ImageClassifier(**SETTINGS).fit(X, labels), from_folder)
    from_idx = ImageClassifier(**SETTINGS).fit(tmp_path / "X.idx", tmp_path / "y.idx")
    assert from_idx.network_.params.tobytes() == from_folder.network_.params.tobytes()
    assert from_idx.classes_.tolist() == [0, 1]
    assert from_folder.predict(folder).tolist() == from_folder.predict(X).tolist()
    assert from_folder.predict(files[0]).tolist() == from_folder.predict(X[:1]).tolist()
    assert from_idx.score(tmp_path / "X.idx", tmp_path / "y.idx") == from_folder.score(folder)


def test_classifier_trained_by_command_is_that_of_python(folder, tmp_path):
    pytest.importorskip("rich")
    pytest.importorskip("polars")
    pytest.importorskip("nnc.tabular", exc_type=ImportError)
    main = nnc_main()
    path = tmp_path / "m.json"
    assert main(["train", "--images", str(folder), "--epochs", "2", "--seed", "3", "-o", str(path), "-q"]) == 0
    model = ImageClassifier(epochs=2, random_state=3).fit(folder)
    assert path.read_text(encoding="utf-8") == model.to_json()


def nnc_main():
    """Return the function of the command, which needs optional packages."""
    from nnc._cli.main import main

    return main


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_with_exif_orientation_is_read_upright(image, tmp_path, orientation):
    upright = np.zeros((30, 20), np.uint8)
    upright[:10, :8] = 255
    turns = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }
    exif = image.Exif()
    exif[0x0112] = orientation
    options = {"jpg": {"quality": 100}, "png": {}, "webp": {"lossless": True}, "tif": {"compression": "tiff_lzw"}}
    files = [str(tmp_path / f"photo.{extension}") for extension in options]
    for file, saving in zip(files, options.values(), strict=True):
        image.fromarray(np.ascontiguousarray(turns[orientation])).save(file, exif=exif, **saving)
    images = read_unlabelled(files, pytest.fail, (30, 20), gray=True)
    assert images.sizes.tolist() == [[20, 30]] * 4
    for X in images.X:
        assert np.abs(X.astype(int) - upright).max() < 20


def test_invalid_exif_tags_are_ignored(image, tmp_path):
    image.fromarray(pixels()[0][0]).save(tmp_path / "a.jpg", exif=b"Exif\0\0damaged")
    assert read_unlabelled(tmp_path / "a.jpg", pytest.fail, (16, 16), gray=True).X.shape == (1, 16, 16)


def test_transparent_image_gets_white_background(image, tmp_path):
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[4:8, 4:8, 3] = 255
    image.fromarray(rgba).save(tmp_path / "a.png")
    X = read_unlabelled([tmp_path / "a.png"], pytest.fail, (16, 16), gray=False).X
    assert X[0, 0, 0].tolist() == [255, 255, 255]
    assert X[0, 5, 5].tolist() == [0, 0, 0]


def test_color_is_preserved_if_any_image_has_it(folder, image):
    image.new("RGB", (40, 32), (200, 10, 10)).save(folder / CLASSES[0] / "red.png")
    model = ImageClassifier(**{**SETTINGS, "epochs": 1}).fit(folder)
    assert model.network_.model.stack.input_shape == (16, 16, 3)
    assert model.training_images_["longer_side"] == [16, 16]


def test_skipped_files_are_a_warning_that_refers_to_the_caller(folder):
    (folder / CLASSES[0] / "notes.txt").write_text("x", encoding="utf-8")
    (folder / CLASSES[0] / ".hidden").write_text("x", encoding="utf-8")
    message = "skipped 1 file without the extension of an image: .*notes.txt"
    with pytest.warns(ImageWarning, match=message) as caught:
        model = ImageClassifier(**SETTINGS).fit(folder)
    assert caught[0].filename == __file__
    for call in (list_images, model.predict, model.score):
        with pytest.warns(ImageWarning, match=message):
            call(folder)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ("images", [0], "y must be None for a folder"),
        ("nothing", None, "nothing must have a subfolder with images"),
        ("single", None, "single must contain images of at least two classes, got only bottom right"),
        ("lonely", None, "lonely must contain at least two images of each class, got only one of class top left"),
        ("damaged", None, r"00.png cannot be read as an image"),
        (pixels()[0], None, "y must be the labels of the images, got None"),
        (pixels()[0], [0, 1], r"y must contain a label for each of the 24 images, got shape \(2,\)"),
        (pixels()[0] / 255, pixels()[1], "X must contain uint8 images of shape .*, got float64"),
        (pixels()[0][:, :8, :8], pixels()[1], "sides of at least 12 pixels"),
        (pixels()[0][:0], [], r"got uint8 of shape \(0, 16, 16\)"),
    ],
)
def test_invalid_images_raise(folder, monkeypatch, X, y, message):
    monkeypatch.chdir(folder.parent)
    for name in ("single", "lonely", "damaged"):
        shutil.copytree(folder, name)
    Path("nothing").mkdir()
    shutil.rmtree(Path("single", CLASSES[1]))
    for file in list_images(Path("lonely", CLASSES[1]))[1:]:
        os.remove(file)
    Path("damaged", CLASSES[0], "00.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=message):
        ImageClassifier(**SETTINGS).fit(X, y)


# ------------------------------------------------------------------------------------------ fit


def test_constructor_keeps_arguments_and_fit_checks_them():
    arguments = {"epochs": 0, "random_state": "a", "progress": 1}
    for name, value in arguments.items():
        model = ImageClassifier(**{name: value})
        assert model.get_params()[name] is value
        with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
            model.fit(*pixels())


def test_clone_of_scikit_learn_copies_arguments():
    clone = pytest.importorskip("sklearn.base").clone
    assert clone(ImageClassifier(epochs=3)).get_params() == ImageClassifier(epochs=3).get_params()


@pytest.mark.parametrize("name", ["network_", "classes_", "complete_", "held_out_accuracy_", "training_images_"])
def test_attributes_require_fit(name):
    with pytest.raises(ValueError, match="this ImageClassifier is not fitted; call fit first"):
        getattr(ImageClassifier(), name)


def test_attributes_describe_the_fit(fitted):
    assert fitted.classes_.tolist() == CLASSES.tolist()
    assert fitted.complete_ is True
    assert fitted.held_out_accuracy_ == 1
    assert fitted.training_images_["aspect_ratio"] == [1, 1]
    assert repr(fitted) == "<ImageClassifier(epochs=12, random_state=0): 2 classes>"
    text = str(fitted.report())
    assert text.startswith("ImageClassifier\n")
    assert "20 for training, 4 held out" in text or "19 for training, 5 held out" in text


def test_random_seed_is_available():
    model = ImageClassifier(epochs=1).fit(*pixels())
    again = ImageClassifier(epochs=1, random_state=model.network_.seed).fit(*pixels())
    assert equal_bits(again, model)


def test_callbacks_see_each_epoch():
    epochs, more = [], []
    callback = [lambda record: epochs.append(record["epoch"]), lambda record: more.append(record["val_accuracy"])]
    ImageClassifier(**SETTINGS, callback=callback).fit(*pixels())
    assert epochs == [1, 2]
    assert len(more) == 2
    ImageClassifier(**SETTINGS, callback=callback[0]).fit(*pixels())
    assert epochs == [1, 2, 1, 2]


def test_early_end_selects_best_epoch():
    networks = {}

    def stop(record):
        networks[record["epoch"]] = (record["val_accuracy"], record["network"].params.tobytes())
        return record["epoch"] == 3

    model = ImageClassifier(epochs=6, random_state=1, n_threads=1, callback=stop).fit(*pixels())
    assert model.complete_ is False
    accuracy, best = max(networks.values(), key=lambda pair: pair[0])
    assert model.held_out_accuracy_ == accuracy
    assert model.network_.params.tobytes() == best
    assert "selected the best epoch so far" in model.report().validation[0]


@pytest.mark.parametrize("name", ["run.safetensors", "run.json"])
def test_checkpoint_continues_to_the_same_bits(tmp_path, set_limit, name):
    set_limit("nnc.images.training.PeriodicCheckpoint.seconds", 1e-9)
    path, arguments = tmp_path / name, {"epochs": 4, "n_threads": 1}
    whole = ImageClassifier(**arguments, random_state=5).fit(*pixels())
    first = ImageClassifier(**arguments, random_state=5, checkpoint=path, callback=lambda record: record["epoch"] == 2)
    first.fit(*pixels())
    assert path.exists()
    assert not first.complete_
    with pytest.raises(ValueError, match=r"must be the checkpoint of a training with the seed 6, got one with 5"):
        ImageClassifier(**arguments, random_state=6, checkpoint=path).fit(*pixels())
    with pytest.raises(ValueError, match=r"must be the checkpoint of a training on X, got one for images of another"):
        ImageClassifier(**arguments, checkpoint=path).fit(pixels()[0][:, 1:], pixels()[1])
    resumed = ImageClassifier(**arguments, checkpoint=path).fit(*pixels())  # the seed is that of the checkpoint
    assert resumed.complete_
    assert equal_bits(resumed, whole)
    assert not path.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT of POSIX")
def test_interrupt_ends_fit_with_a_usable_model():
    def interrupt(record):
        if record["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    model = ImageClassifier(epochs=50, random_state=0, callback=interrupt).fit(*pixels())
    assert model.complete_ is False
    assert model.predict(pixels()[0]).shape == (24,)


# ------------------------------------------------------------------------------------------ predictions and warnings


def test_predictions_of_new_images(fitted):
    X, y = pixels(8, seed=1)
    P = fitted.predict_proba(X)
    assert P.shape == (8, 2)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-6)
    assert fitted.predict(X).tolist() == CLASSES[y].tolist()
    assert fitted.score(X, CLASSES[y]) == 1
    assert fitted.score(X, np.where(y == 1, "top left", "unknown")) == 0.5
    with pytest.raises(ValueError, match="X must"):
        fitted.predict(np.zeros((2, 20, 20), np.uint8))


def test_inverted_images_give_a_warning_and_can_be_inverted(fitted):
    X, y = pixels(8, seed=1)
    message = "8 of 8 images are dark on a light ground, but the training images are light on a dark ground; {} invert"
    with pytest.warns(ImageWarning, match=message.format("pass")):
        fitted.predict(255 - X)
    assert fitted.score(255 - X, CLASSES[y], invert=True) == 1
    with pytest.warns(ImageWarning, match=message.format("leave out")):
        fitted.predict_proba(X, invert=True)
    inverted = ImageClassifier(**SETTINGS).fit(255 - X, y, invert=True)
    assert equal_bits(inverted, ImageClassifier(**SETTINGS).fit(X, y))


@pytest.mark.parametrize(
    ("size", "message"),
    [((16, 24), "have another aspect ratio"), ((48, 48), "are much larger"), ((6, 6), "are much smaller")],
)
def test_files_of_another_size_give_a_warning(folder, fitted, image, size, message):
    path = folder / CLASSES[0] / "00.png"
    image.open(path).resize(size).save(path)
    with pytest.warns(ImageWarning, match=f"1 of 24 images {message}.*00.png has {size[0]} x {size[1]} pixels"):
        fitted.predict(folder)


def test_scaled_array_gives_no_warning_about_its_size(folder, image):
    X, _ = pixels()
    for i, file in enumerate(list_images(folder)):
        image.fromarray(X[i].repeat(10, axis=0).repeat(10, axis=1)).save(file)
    model = ImageClassifier(**SETTINGS).fit(folder)
    assert model.network_.model.stack.input_shape == (40, 40, 1)
    model.predict(np.zeros((2, 40, 40), np.uint8))


# ------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("name", ["m.json", "m.safetensors"])
def test_loaded_model_predicts_the_same(fitted, tmp_path, name):
    fitted.save(tmp_path / name)
    X, _ = pixels(6, seed=2)
    for model in (nnc.load(tmp_path / name), ImageClassifier.load(tmp_path / name)):
        assert type(model) is ImageClassifier
        assert model.predict_proba(X).tobytes() == fitted.predict_proba(X).tobytes()
        assert model.predict(X).tolist() == fitted.predict(X).tolist()
        assert model.training_images_ == fitted.training_images_
        assert (model.complete_, model.held_out_accuracy_) == (None, None)
        assert model.to_json() == fitted.to_json()
        assert "bottom right, top left" in str(model.report())


def test_from_json_returns_a_classifier(fitted):
    assert equal_bits(nnc.from_json(fitted.to_json()), fitted)


@pytest.mark.parametrize("name", ["m.json", "m.safetensors"])
def test_load_of_other_class_names_the_remedy(fitted, tmp_path, name):
    path = tmp_path / name
    fitted.save(path)
    message = r"m\.\w+': the content is an image classifier; load it with nnc\.load, whose result has .* network_"
    with pytest.raises(nnc.ModelFileError, match=message):
        NeuralNetwork.load(path)
    fitted.network_.save(path)
    assert type(nnc.load(path)) is NeuralNetwork
    with pytest.raises(nnc.ModelFileError, match=r"the content is a single network; load it with nnc\.load"):
        ImageClassifier.load(path)


def test_ranges_in_the_file_of_another_network_raise(fitted):
    content = json.loads(NeuralNetwork([3, 2], seed=0).to_json())
    content["training_images"] = fitted.training_images_
    del content["sha256"]
    with pytest.raises(nnc.ModelFileError, match="training_images requires a classifier of images"):
        nnc.from_json(json.dumps(content))


def test_exports_are_those_of_the_network(fitted, tmp_path):
    fitted.to_onnx(tmp_path / "a.onnx")
    fitted.network_.to_onnx(tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    fitted.to_c(tmp_path / "a.h", name="digits")
    fitted.network_.to_c(tmp_path / "b.h", name="digits")
    assert (tmp_path / "a.h").read_bytes() == (tmp_path / "b.h").read_bytes()


def test_outputs_of_onnx_model_are_equal(fitted, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    fitted.to_onnx(tmp_path / "a.onnx")
    X, _ = pixels(6, seed=2)
    session = runtime.InferenceSession(str(tmp_path / "a.onnx"))
    label, P = session.run(None, {"X": X[..., None].astype(np.float32)})
    np.testing.assert_allclose(P, fitted.predict_proba(X), atol=1e-6)
    assert label.tolist() == fitted.predict(X).tolist()
