"""Tests of the commands for classifiers of images: evaluation, explanation, notes about unusual images, and plots."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc._cli.main import main
from nnc.layers import Conv2D, Input, MaxPool2D

image = pytest.importorskip("PIL.Image")
pytest.importorskip("rich")
pytest.importorskip("polars")
pytest.importorskip("nnc.tabular", exc_type=ImportError)

CLASSES = ("bottom right", "top left")


def pixels(n=40, seed=0):
    """Return gray images (n, 16, 16) with a bright corner on a dark ground, and the index of the corner."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 40, (n, 16, 16)).astype(np.uint8)
    y = np.arange(n) % 2
    X[y == 1, :7, :7] += 200
    X[y == 0, 9:, 9:] += 200
    return X, y


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the path of a trained classifier."""
    X, y = pixels()
    net = nnc.NeuralNetwork(
        [Input(16, 16), Conv2D(4, 3), MaxPool2D(2), 2],
        activation="relu",
        loss="cross_entropy",
        dtype="float32",
        scale_X="pixels",
        seed=0,
    )
    net.fit(X, np.array(CLASSES)[y], epochs=20, optimizer="adam", lr=0.01, batch_size=8)
    path = tmp_path_factory.mktemp("model") / "m.json"
    net.save(path)
    return str(path)


@pytest.fixture
def shell(tmp_path, monkeypatch, capfd):
    """Return a function that runs a command in a new folder and returns standard output, errors and exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        capfd.readouterr()
        try:
            status = main(list(arguments))
        except SystemExit as exit_error:
            status = exit_error.code
        return (*capfd.readouterr(), status)

    return run


def write_images(folder, X, y=None):
    """Write images to a folder, in subfolders of the classes if y is given."""
    for i, picture in enumerate(X):
        path = Path(folder) if y is None else Path(folder, CLASSES[y[i]])
        path.mkdir(parents=True, exist_ok=True)
        image.fromarray(picture).save(path / f"{i:02}.png")


# ------------------------------------------------------------------------------------------ evaluate and explain


def test_evaluate_prints_accuracy_and_confusion_of_images(shell, model):
    X, y = pixels(20, seed=1)
    y[0] = 1  # the image 0 shows class 0, so the label 1 is an error
    write_images("test", X, y)
    out, err, status = shell("evaluate", model, "test")
    assert (err, status) == ("", 0)
    assert re.search(r"accuracy +0.95\n", out)
    assert re.search(r"top left +1 +10\n", out)
    results = json.loads(shell("evaluate", model, "test", "--json")[0])
    assert results["confusion"] == [[9, 0], [1, 10]]
    assert results["classes"] == list(CLASSES)


def test_evaluate_reads_labels_and_inverts(shell, model):
    X, y = pixels(20, seed=1)
    write_images("test", 255 - X, y)
    assert json.loads(shell("evaluate", model, "test", "--json", "--invert")[0])["accuracy"] == 1
    Path("test", "other").mkdir()
    image.fromarray(255 - X[0]).save("test/other/x.png")
    results = json.loads(shell("evaluate", model, "test", "--json", "--invert")[0])
    assert results["rows_of_unknown_classes"] == 1
    out, err, status = shell("evaluate", model, "test", "--labels", "y.idx")
    assert (out, status) == ("", 2)
    assert "--labels is only for IDX files" in err


def test_explain_prints_saliency_of_bright_corner(shell, model):
    X, y = pixels(2, seed=1)
    write_images("new", X)
    maps = json.loads(shell("explain", model, "new", "--json")[0])
    assert [entry["class"] for entry in maps] == [CLASSES[index] for index in y]
    for entry, index in zip(maps, y, strict=True):
        strength = np.abs(entry["saliency"])
        corners = strength[9:, 9:].sum(), strength[:7, :7].sum()
        assert strength.shape == (16, 16)
        assert min(corners) > 0
        assert entry["probability"] > 0.5
        assert index in (0, 1)
    out = shell("explain", model, "new", "--first", "1", "--label", "top left")[0]
    lines = out.splitlines()
    assert re.match(r"00.png: probability of top left \d", lines[0])
    assert {len(line) for line in lines[1:17]} == {32}


def test_saliency_is_derivative_of_log_probability(shell, model):
    X, _ = pixels(1, seed=2)
    write_images("new", X)
    entry = json.loads(shell("explain", model, "new", "--json")[0])[0]
    net = nnc.load(model).astype("float64")
    index = CLASSES.index(entry["class"])
    changed = X.astype(float)
    changed[0, 12, 12] += 1
    expected = np.log(net.predict(changed)[0, index]) - np.log(net.predict(X)[0, index])
    assert entry["saliency"][12][12] == pytest.approx(expected, rel=0.1, abs=1e-4)


def test_explanation_is_written_as_page(shell, model):
    write_images("new", pixels(3)[0])
    assert shell("explain", model, "new", "-o", "page.html")[2] == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.count("<img") == 6
    assert "<script" not in page
    assert "exists already" in shell("explain", model, "new", "-o", "page.html")[1]


@pytest.mark.parametrize(
    ("line", "message", "status"),
    [
        ("explain m.json", "DATA is required", 2),
        ("explain m.json new --label x", "--label must be a class of the model", 2),
        ("evaluate m.json new", "must have a subfolder with images", 1),
        ("evaluate dense.json new", "must be a table model", 1),
        ("explain dense.json new", "must be a table model", 1),
    ],
)
def test_errors_of_image_models_are_reported(shell, model, line, message, status):
    Path("m.json").write_bytes(Path(model).read_bytes())
    nnc.NeuralNetwork([2, 1]).save("dense.json")
    write_images("new", pixels(1)[0])
    out, err, actual = shell(*line.split())
    assert (out, actual) == ("", status)
    assert message in err


# --------------------------------------------------------------------------------------------- notes


def test_usual_images_have_no_notes(shell, model):
    write_images("new", pixels(6, seed=3)[0])
    assert shell("predict", model, "new")[1:] == ("", 0)


def test_skipped_files_are_named(shell, model):
    X, y = pixels(8)
    write_images("new", X, y)
    for name in ("notes.txt", ".hidden", *(f"{i}.csv" for i in range(6))):
        Path("new", CLASSES[0], name).write_text("x", encoding="utf-8")
    training = ("train", "--images", "new", "--epochs", "1")
    for command in (("predict", model, "new"), ("evaluate", model, "new"), training):
        err = shell(*command)[1]
        assert "skipped 7 files without the extension of an image: bottom right/0.csv, " in err.replace("\\", "/")
        assert "and 2 more" in err
        assert "hidden" not in err


def test_inverted_images_are_reported_and_can_be_inverted(shell, model):
    X, y = pixels(6, seed=4)
    write_images("photos", 255 - X)
    out, err, _ = shell("predict", model, "photos", "--classes")
    assert "note: the model is more certain about the inverted images" in err
    assert "--invert" in err
    out, err, _ = shell("predict", model, "photos", "--classes", "--invert")
    assert [line.split(",")[1] for line in out.splitlines()[1:]] == [CLASSES[index] for index in y]
    assert err == ""
    assert shell("predict", model, "photos", "-q")[1] == ""


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((32, 16), "have another aspect ratio"),
        ((160, 160), "are much larger"),
        ((6, 6), "are much smaller"),
    ],
)
def test_images_of_another_size_are_reported(shell, model, size, message):
    write_images("new", pixels(4)[0])
    image.open("new/02.png").resize(size).save("new/02.png")
    err = shell("predict", model, "new")[1]
    assert f"note: 1 of 4 images {message}" in err
    assert f"02.png has {size[0]} x {size[1]}" in err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the path of a model from `nnc train --images`, trained on light objects on a dark ground."""
    folder = tmp_path_factory.mktemp("trained")
    write_images(folder / "images", *pixels())
    model = str(folder / "m.json")
    assert main(["train", "--images", str(folder / "images"), "--epochs", "2", "-o", model, "-q"]) == 0
    return model


def test_training_images_are_described_in_the_model(trained):
    ranges = json.loads(Path(trained).read_text(encoding="utf-8"))["training_images"]
    assert (ranges["longer_side"], ranges["aspect_ratio"]) == ([16, 16], [1, 1])
    low, high = ranges["contrast"]
    assert 20 < low <= high < 60


def test_images_like_those_of_the_training_have_no_notes(shell, trained):
    write_images("new", *pixels(6, seed=3))
    for command in ("predict", "evaluate"):
        assert shell(command, trained, "new")[1:] == ("", 0)


@pytest.mark.parametrize("command", ["predict", "evaluate", "explain"])
def test_dark_images_on_light_ground_are_reported(shell, trained, command):
    X, y = pixels(6, seed=3)
    # Like photos of paper in dim light, these images are not the exact inverse of X.
    gray_paper = (200 - 0.6 * X).astype(np.uint8)
    write_images("photos", gray_paper, y)
    write_images("light", X, y)
    note = "note: 6 of 6 images are {}, but the training images are light on a dark ground; {}\n"
    assert shell(command, trained, "photos")[1] == note.format("dark on a light ground", "use --invert")
    assert shell(command, trained, "photos", "--invert")[1] == ""
    assert shell(command, trained, "light", "--invert")[1] == note.format(
        "dark on a light ground", "leave out --invert"
    )


@pytest.mark.parametrize("command", ["predict", "evaluate", "explain"])
@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((16, 24), "have another aspect ratio.*24 pixels, the ratio of width and height of the training images is 1"),
        ((48, 48), "are much larger.*48 pixels, the longer side of the training images has 16 pixels"),
        ((6, 6), "are much smaller.*6 pixels, the longer side of the training images has 16 pixels"),
    ],
)
def test_sizes_are_compared_with_those_of_the_training(shell, trained, command, size, message):
    write_images("new", *pixels(4))
    image.open(f"new/{CLASSES[0]}/00.png").resize(size).save(f"new/{CLASSES[0]}/00.png")
    err = shell(command, trained, "new")[1].replace("\n", " ")
    assert re.match(f"note: 1 of 4 images {message}", err)


def test_large_training_images_allow_large_images(shell):
    # The network reads 40 x 40 pixels; images of 200 x 160 pixels have the size of the training images.
    X, y = pixels(12)
    write_images("images", X.repeat(10, axis=1).repeat(12, axis=2), y)
    assert shell("train", "--images", "images", "--epochs", "1", "-o", "m.json", "-q")[2] == 0
    assert shell("predict", "m.json", "images")[1] == ""
    write_images("small", X)
    err = shell("predict", "m.json", "small")[1].replace("\n", " ")
    assert "12 of 12 images are much smaller" in err
    assert "the longer side of the training images has 192 pixels" in err


# --------------------------------------------------------------------------------------------- training


def test_inverted_training_equals_training_on_inverted_images(shell):
    X, y = pixels(12)
    write_images("light", 255 - X, y)
    write_images("dark", X, y)
    assert shell("train", "--images", "light", "--invert", "--epochs", "2", "-o", "a.json", "-q")[2] == 0
    assert shell("train", "--images", "dark", "--epochs", "2", "-o", "b.json", "-q")[2] == 0
    assert nnc.load("a.json").network_.params.tobytes() == nnc.load("b.json").network_.params.tobytes()


def test_watched_training_plots_curves_and_gives_the_same_model(shell):
    write_images("images", *pixels(12))
    line = ("train", "--images", "images", "--epochs", "3", "-o")
    _, err, status = shell(*line, "a.json", "--watch")
    assert status == 0
    assert "epoch 3\n" in err
    assert "val_accuracy" in err
    assert shell(*line, "b.json", "-q", "--watch") == ("", "", 0)
    assert nnc.load("a.json").network_.params.tobytes() == nnc.load("b.json").network_.params.tobytes()


def test_watched_training_of_a_table_plots_networks(shell):
    rows = [f"{i},{(i * 37) % 11},{'ab'[(i * 37) % 11 + i % 5 > 7]}" for i in range(60)]
    Path("t.csv").write_text("\n".join(["x,z,class", *rows]), encoding="utf-8")
    line = ("train", "t.csv", "--target", "class", "--preset", "fast", "--members", "2", "--jobs", "1", "-f")
    err = shell(*line, "-o", "a.json", "--watch")[1]
    assert re.search(r"loss 1 \d.*loss 2 \d", err)
    assert re.search(r"accuracy 1 \d", err)
    assert "% " not in err
    shell(*line, "-o", "b.json", "-q")
    first, second = (json.loads(Path(name).read_text(encoding="utf-8")) for name in ("a.json", "b.json"))
    assert first["networks"] == second["networks"]
