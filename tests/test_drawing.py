"""Pictures that need no other package: of networks and of histories, in files, notebooks and terminals."""

import contextlib
import io
import re
import runpy
import struct
import sys
import zlib
from base64 import b64decode
from pathlib import Path
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

import nnc
from nnc import History, NeuralNetwork
from nnc._drawing.columns import format_short
from nnc._drawing.curves import ASCII_BLOCKS, BLOCKS, Scale, sparkline
from nnc._drawing.svg import NEGATIVE, POSITIVE
from nnc.layers import AvgPool2D, Conv2D, Dense, Dropout, GlobalAvgPool2D, Input, MaxPool2D, small_images

HERE = Path(__file__).parent
SVG = "{http://www.w3.org/2000/svg}"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def same(made, stored):
    """Whether two drawings differ by rounding alone: at most by a tenth of a pixel, and by one in the last digit of
    what they say."""
    assert NUMBER.sub("#", made) == NUMBER.sub("#", stored)
    a, b = ([float(x) for x in NUMBER.findall(text)] for text in (made, stored))
    return np.allclose(a, b, rtol=2e-3, atol=0.11)


def fixed(net):
    """The network with weights that are the same everywhere."""
    net.params = np.cos(np.arange(net.n_params) * 1.7) * np.linspace(1, 2, net.n_params)
    return net


def images():
    layers = [Input(6, 6, 2), Conv2D(20, 3), MaxPool2D(2), Dropout(0.1), Dense(12), 3]
    return fixed(NeuralNetwork(layers, activation="relu", loss="cross_entropy", seed=0))


def drawn(svg):
    """The root of a drawing, which is XML."""
    return ElementTree.fromstring(svg)


def texts(root):
    """What is written, with the rectangles that it takes at most: (left, top, right, bottom)."""
    for found in root.iter(SVG + "text"):
        size = float(found.get("font-size", 12))
        wide, x, y = 0.6 * size * len(found.text), float(found.get("x")), float(found.get("y"))
        left = {"start": x, "middle": x - wide / 2, "end": x - wide}[found.get("text-anchor", "start")]
        yield found.text, (left, y - 0.75 * size, left + wide, y + 0.2 * size)


NETWORKS = {
    "tutorial": lambda: fixed(NeuralNetwork([3, 4, 1], bias=False)),
    "smallest": lambda: fixed(NeuralNetwork([1, 1])),
    "wide": lambda: fixed(NeuralNetwork([100, 50, 100, 10], loss="cross_entropy")),
    "deep": lambda: fixed(NeuralNetwork([8, 20, 20, 12, 12, 8, 8, 4, 4, 1], activation="tanh", loss="mse")),
    "images": images,
    "lenet": lambda: fixed(
        NeuralNetwork([Input(28, 28), Conv2D(6, 5), MaxPool2D(2), Conv2D(16, 5), AvgPool2D(2), 120, 84, 10], loss="mse")
    ),
    "small_images": lambda: fixed(NeuralNetwork(small_images(10), loss="cross_entropy", activation="relu")),
    "global": lambda: fixed(NeuralNetwork([Input(9, 30, 3), Conv2D(5, (3, 5), stride=2), GlobalAvgPool2D(), 2])),
}


# ------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize("name", ["tutorial", "images", "global"])
def test_drawings_are_as_stored(name):
    stored = (HERE / "drawings" / f"{name}.svg").read_text(encoding="utf-8")
    assert same(NETWORKS[name]().to_svg(), stored)


def test_drawing_of_a_row_is_as_stored():
    stored = (HERE / "drawings" / "tutorial_row.svg").read_text(encoding="utf-8")
    assert same(NETWORKS["tutorial"]().to_svg(row=[0.5, -1, 2]), stored)


def test_pictures_of_the_readme_are_what_the_script_makes():
    for name, text in runpy.run_path(str(HERE.parent / "tools" / "pictures.py"))["pictures"]().items():
        assert same(text, (HERE.parent / "docs" / name).read_text(encoding="utf-8")), name


@pytest.mark.parametrize("with_row", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_letters_meet_and_all_is_within(name, with_row):
    net = NETWORKS[name]()
    row = np.linspace(-1000, 1000, net.sizes[0]) if with_row else None
    root = drawn(net.to_svg(row=row))
    wide, high = (float(root.get(side)) for side in ("width", "height"))
    written = list(texts(root))
    assert len(written) > 5
    for place, (text, box) in enumerate(written):
        assert box[0] >= 0, text
        assert box[1] >= 0, text
        assert box[2] <= wide, text
        assert box[3] <= high, text
        for other, beside in written[place + 1 :]:
            apart = box[2] <= beside[0] or beside[2] <= box[0] or box[3] <= beside[1] or beside[3] <= box[1]
            assert apart, (text, other)
    for circle in root.iter(SVG + "circle"):
        assert 12 <= float(circle.get("cx")) <= wide - 12
        assert 0 <= float(circle.get("cy")) <= high


@pytest.mark.parametrize("name", NETWORKS)
def test_who_does_not_see_it_is_told(name):
    net = NETWORKS[name]()
    root = drawn(net.to_svg())
    assert root.get("role") == "img"
    assert root.find(SVG + "title").text.startswith("Neural network ")
    told = root.find(SVG + "desc").text
    for layer in net.model.stack.layers:
        assert layer.name in told or isinstance(layer.kind, Dropout)
    assert "blue lines are positive, orange lines are negative" in told


def test_lines_are_the_weights():
    net = NETWORKS["tutorial"]()
    net.weights[0][1, 2] = 0
    found = {}
    for line in drawn(net.to_svg()).iter(SVG + "line"):
        title = line.find(SVG + "title")
        if title is not None:
            layer, i, j, weight = re.fullmatch(r"(.*): W\[(\d+), (\d+)\] = (.*)", title.text).groups()
            found[layer, int(i), int(j)] = float(weight), line.get("stroke"), float(line.get("stroke-width"))
    assert len(found) == 16
    for name, W in zip(("Hidden Layer 1", "Output Layer"), net.weights, strict=True):
        for (i, j), weight in np.ndenumerate(W):
            value, color, thickness = found[name, i, j]
            assert value == pytest.approx(weight, rel=1e-3)
            assert color == (NEGATIVE if weight < 0 else POSITIVE)
            assert thickness == pytest.approx(0.5 + 3 * abs(weight) / abs(W).max(), abs=0.01)


def test_of_a_large_layer_the_first_and_the_last_are_shown():
    net = NeuralNetwork([7, 100, 1], seed=0)
    for neurons, hidden in ((10, [*range(5), *range(95, 100)]), (5, [0, 1, 97, 98, 99]), (2, [0, 99])):
        titles = [title.text for title in drawn(net.to_svg(neurons=neurons)).iter(SVG + "title")]
        shown = [int(text.split()[4].rstrip(",")) for text in titles if text.startswith("Hidden Layer 1: neuron")]
        assert shown == hidden
    whole = drawn(net.to_svg(neurons=100))
    assert sum(circle.get("r") == "12" for circle in whole.iter(SVG + "circle")) == 108


def test_names_of_columns_and_classes():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        np.random.default_rng(0).random((20, 2)), columns=["a < b & c", "a name that is far too long"]
    )
    net = NeuralNetwork([2, 3, 2], loss="cross_entropy", seed=0)
    net.fit(frame, np.where(frame.iloc[:, 0] > 0.5, 'say "yes"', "n\x01o\n"), epochs=1, lr=0.001)
    written = [text for text, _ in texts(drawn(net.to_svg(row=frame[:1])))]
    assert {"a < b & c", "a name that is far …", "n o ", 'say "yes"'} <= set(written)
    assert format_short(frame.iloc[0, 0]) in written


def test_labels_that_are_numbers():
    net = NeuralNetwork([2, 3], loss="cross_entropy", seed=0)
    assert {"0", "1", "2"} <= {text for text, _ in texts(drawn(net.to_svg()))}
    two = NeuralNetwork([2, 1], loss="bce", seed=0)
    assert "0" not in {text for text, _ in texts(drawn(two.to_svg()))}


def test_row_is_raw_and_so_are_the_outputs():
    X = np.linspace(100, 900, 30).reshape(10, 3)
    y = X.sum(axis=1) + 1000
    net = NeuralNetwork([3, 4, 1], activation="tanh", loss="mse", seed=0, scale_X="standardize", scale_y="minmax")
    net.fit(X, y, epochs=50, lr=0.1)
    written = [text for text, _ in texts(drawn(net.to_svg(row=X[0])))]
    hidden = net.forward(X[:1])[0][0]
    for value in [*X[0], *hidden, net.predict(X[0])[0]]:
        assert format_short(float(value)) in written


def pixels_of(href):
    """The PNG of a link as an array (height, width, 4), by the format's definition."""
    content = b64decode(href.removeprefix("data:image/png;base64,"))
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        kind, data = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        chunks[kind] = data
        at += 12 + length
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 6, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 4 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 4)


def test_images_hold_what_the_layers_put_out():
    net = images()
    row = np.random.default_rng(1).normal(size=(6, 6, 2))
    found = {}
    for image in drawn(net.to_svg(row=row)).iter(SVG + "image"):
        found[image.find(SVG + "title").text] = pixels_of(image.get("href"))
    convolved = net.forward(row)[0][0]
    pooled = convolved.reshape(2, 2, 2, 2, 20).max((1, 3))
    whole = {"Input": row, "Hidden Layer 1": convolved[:, :, :16], "MaxPool2D": pooled[:, :, :16]}
    assert len(found) == 2 + 16 + 16
    for name, values in whole.items():
        for channel in range(values.shape[2]):
            image = found[f"{name}: channel {channel}"]
            expected = 255 * abs(values[:, :, channel]) / abs(values).max()
            assert abs(image[:, :, 3] - expected).max() <= 0.51
            negative = (image[:, :, :3] == [int(NEGATIVE[i : i + 2], 16) for i in (1, 3, 5)]).all(-1)
            assert (negative == (values[:, :, channel] < 0)).all()


def test_means_of_pools():
    layers = [Input(5, 5), Conv2D(1, 1, "identity", bias=False), AvgPool2D(2), GlobalAvgPool2D(), 1]
    net = NeuralNetwork(layers, init=[[[1.0]], [[1.0]]])
    row = np.arange(25.0).reshape(5, 5)
    found = {
        image.find(SVG + "title").text: pixels_of(image.get("href"))[:, :, 3]
        for image in drawn(net.to_svg(row=row)).iter(SVG + "image")
    }
    means = row[:4, :4].reshape(2, 2, 2, 2).mean((1, 3))
    assert abs(found["AvgPool2D: channel 0"] - 255 * means / means.max()).max() <= 0.51
    assert found["GlobalAvgPool2D: channel 0"].tolist() == [[255]]
    flat = [title.text for title in drawn(net.to_svg(row=row)).iter(SVG + "title")]
    assert f"Flatten: neuron 0, {means.mean():.4g}" in flat


def test_arguments_are_checked():
    net = NeuralNetwork([3, 4, 1], seed=0)
    with pytest.raises(ValueError, match=r"row: X must have 3 columns to fit this network, got shape \(2,\)"):
        net.draw([1, 2])
    with pytest.raises(ValueError, match="row must be one row of inputs, got 2"):
        net.to_svg(row=np.ones((2, 3)))
    with pytest.raises(TypeError, match="row: X must"):
        net.draw("abc")
    with pytest.raises(ValueError, match=r"row: .*(NaN|nan)"):
        net.draw([1, 2, np.nan])
    with pytest.raises(ValueError, match="neurons must be"):
        net.draw(neurons=1)


def test_weights_that_are_no_numbers_are_drawn_as_nothing():
    net = NeuralNetwork([2, 2], init="zeros")
    net.weights[0][0, 0], net.weights[0][0, 1] = np.nan, np.inf
    root = drawn(net.to_svg())
    assert [
        line.get("stroke-width") for line in root.iter(SVG + "line") if line.find(SVG + "title") is not None
    ] == 4 * ["0.5"]


def test_files(tmp_path):
    net = NeuralNetwork([2, 2], seed=0)
    text = net.to_svg(tmp_path / "net.svg")
    assert (tmp_path / "net.svg").read_text(encoding="utf-8") == text == net.to_svg()
    net.draw().save(tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text(encoding="utf-8") == text
    file = io.StringIO()
    net.to_svg(file)
    assert file.getvalue() == text
    with pytest.raises(FileNotFoundError, match=r"cannot save the drawing: the folder .* does not exist"):
        net.to_svg(tmp_path / "no" / "net.svg")
    assert "prefers-color-scheme:dark" in text  # a file follows the page that it is in,
    assert "<style>" not in net.draw()._repr_html_()  # in a notebook it has the letters' colour
    assert re.fullmatch(r"<Drawing: Neural network 2-2, \d+ x \d+; print it, or save it as .svg>", repr(net.draw()))


def test_short_numbers():
    expected = {0.0: "0.00", -1.5: "-1.50", 12.34: "12.3", -250.4: "-250", 9999: "9999", 12345: "1e4", -3e20: "-3e20"}
    assert {value: format_short(value) for value in expected} == expected
    assert format_short(2e-10) == "0.00"


# ------------------------------------------------------------------------------------------ histories


def history(**columns):
    loss = columns.pop("loss", [3.0, 2.0, 1.0])
    arrays = {name: np.array(values, float) for name, values in {"loss": loss, **columns}.items()}
    return History({**arrays, "lr": np.full(len(loss), 0.1)}, 0.5, "epochs", 2)


def test_printed_history():
    made = history(val_loss=[300.0, 20.0, 1.0], accuracy=[0.5, np.nan, 0.75])
    assert str(made).splitlines() == [
        "3 epochs in 0.5 s, stopped by epochs, best epoch 2",
        "loss        3 █▅▁ 1",
        "val_loss  300 █▅▁ 1",  # of several magnitudes: a logarithmic scale
        "accuracy  0.5 ▁ █ 0.75",
    ]
    assert str(History({"loss": np.empty(0)}, 0.0, "interrupt")) == "0 epochs in 0 s, stopped by interrupt"


def test_a_changing_rate_is_shown():
    made = history()
    assert "lr" not in str(made)
    made.lr[:] = [0.1, 0.2, 0.3]
    assert str(made).splitlines()[-1] == "lr  0.1 ▁▅█ 0.3"


def test_sparkline():
    assert sparkline(np.arange(8.0)) == BLOCKS
    assert sparkline(np.full(3, 2.5)) == "▅▅▅"
    assert sparkline(np.array([1, np.inf, np.nan, 0])) == "█  ▁"
    assert sparkline(np.array([np.nan])) == " "
    assert sparkline(np.array([-1e308, 1e308])) == "▁█"
    assert sparkline(10.0 ** np.arange(8)) == BLOCKS
    long = sparkline(np.repeat(np.arange(8.0), 1000))
    assert long == "".join(5 * letter for letter in BLOCKS)


def test_sparkline_are_letters_where_the_console_cannot_print_them():
    """Without a console, as in a program with a window, blocks are drawn."""
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="cp1252")):
        assert sparkline(np.arange(8.0)) == ASCII_BLOCKS
    with contextlib.redirect_stdout(None):
        assert sparkline(np.arange(8.0)) == BLOCKS


def test_ticks():
    assert Scale(0.0, 1.0, False).ticks() == [0, 0.5, 1]
    assert Scale(1.0, 60.0, False).ticks() == [20, 40, 60]
    assert Scale(-3.0, 9.0, False).ticks() == [0, 5]
    assert Scale(2.0, 2.0, False).ticks() == [2]
    assert Scale.from_values(np.array([0.002, 1.5])) == (0.002, 1.5, True)
    assert Scale(0.002, 1.5, True).ticks() == pytest.approx([0.01, 0.1, 1])
    assert len(Scale(1e-20, 1.0, True).ticks()) <= 6
    assert Scale.from_values(np.array([np.nan])).ticks()


def test_history_as_svg(tmp_path):
    made = history(val_loss=[3, np.nan, 1], accuracy=[0.1, 0.2, 0.3], f1=[0.3, 0.2, 0.1])
    made.lr[:] = [1, 2, 3]
    root = drawn(made.to_svg(tmp_path / "history.svg"))
    assert (tmp_path / "history.svg").read_text(encoding="utf-8") == made.to_svg()
    written = [text for text, _ in texts(root)]
    assert written.count("epoch (best: 2)") == 3  # losses, metrics, the rate
    assert {"loss 1", "val_loss 1", "accuracy 0.3", "f1 0.1", "lr 3"} <= set(written)
    assert root.find(SVG + "desc").text.startswith("3 epochs: loss from 3 to 1, val_loss from 3 to 1, accuracy")
    lines = [line.get("points").split() for line in root.iter(SVG + "polyline")]
    assert len(lines) == 6  # of which two are what a missing number leaves of one
    assert lines[0] == ["52,30", "177,100", "302,170"]
    boxes = [box for _, box in texts(root)]
    for place, a in enumerate(boxes):
        for b in boxes[place + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    with pytest.raises(ValueError, match="the history must have at least one epoch"):
        History({"loss": np.empty(0)}, 0.0, "interrupt").to_svg()


def test_a_long_curve_keeps_its_peaks():
    loss = np.linspace(1, 0.5, 10_000)
    loss[4321] = 2.0
    (line,) = drawn(history(loss=loss).to_svg()).iter(SVG + "polyline")
    points = line.get("points").split()
    assert len(points) <= 202
    assert min(float(point.split(",")[1]) for point in points) == 30


def test_summary_shows_how_it_was_trained():
    net = NeuralNetwork([1, 2, 1], seed=0)
    before = net.summary()
    net.fit([[0], [1]], [0, 1], epochs=30, lr=0.1)
    assert net.summary().startswith(
        before + "\ntrained for 30 epochs\npreset plain: sgd, lr 0.1, batch_size 2, epochs 30\nloss  "
    )


# ------------------------------------------------------------------------------------------ notebooks


def results():
    net = NeuralNetwork([2, 3, 1], seed=0)
    X, y = [[0.0, 1.0], [1.0, 0.5]], [0.0, 1.0]
    made = net.fit(X, y, epochs=5, lr=0.001, validation=(X, y))
    comparison = nnc.compare([2, 3, 1], X, y, epochs=5, verbose=False)
    return net, made, net.explain_step(X, y), nnc.check_gradients(net, X, y), comparison, net.draw()


def test_what_notebooks_show():
    net, made, explanation, check, comparison, drawing = results()
    for result in (net, made, explanation, check, comparison, drawing):
        html = result._repr_html_()
        root = ElementTree.fromstring(f"<div>{html}</div>")  # well-formed, too
        assert "style" not in {found.tag for found in root.iter()}  # which would reach beyond the cell
        for svg in root.iter(SVG + "svg"):
            assert svg.find(SVG + "title").text
            assert svg.find(SVG + "desc").text
    assert len(list(ElementTree.fromstring(f"<div>{net._repr_html_()}</div>").iter(SVG + "svg"))) == 2
    assert "Hidden Layer 1" in net._repr_html_()
    assert "5 epochs in " in made._repr_html_()
    assert "<pre" in explanation._repr_html_()
    assert "The gradients are right" in check._repr_html_()
    assert check._repr_html_().count("<tr>") == 3
    assert "times as fast" in comparison._repr_html_()
    assert "0 epochs" in History({"loss": np.empty(0)}, 0.0, "interrupt")._repr_html_()


def test_summary_keeps_its_columns_in_notebooks_and_at_prompts():
    summary = NeuralNetwork([2, 3, 1], seed=0).summary()
    assert isinstance(summary, str)
    assert repr(summary) == str(summary)
    (pre,) = ElementTree.fromstring(f"<div>{summary._repr_html_()}</div>")
    assert pre.tag == "pre"
    assert "monospace" in pre.get("style")
    assert pre.text == str(summary)
    assert "monospace" in results()[2]._repr_html_()  # of explain_step


def test_a_prompt_shows_one_line_of_what_was_printed():
    for result in results()[2:]:
        assert re.fullmatch(r"<[^\n]*; (print it|print it, or save it as .svg)>", repr(result))


def test_nothing_is_printed_twice(monkeypatch, capsys):
    X, y = [[0.0, 1.0], [1.0, 0.5]], [0.0, 1.0]
    net = NeuralNetwork([2, 3, 1], seed=0)

    def printed():
        capsys.readouterr()
        check, step = nnc.check_gradients(net, X, y), net.explain_step(X, y)
        comparison = nnc.compare([2, 1], X, y, epochs=2)
        return capsys.readouterr().out, "".join(f"{result}\n" for result in (check, step, comparison))

    out, expected = printed()
    assert out == expected
    ipython = ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    ipython.get_ipython = lambda: SimpleNamespace()  # a terminal, which shows a repr of one line
    out, expected = printed()
    assert out == expected
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # a notebook, which shows the value of a cell
    assert printed()[0] == ""
    file = io.StringIO()
    nnc.compare([2, 1], X, y, epochs=2, file=file)  # asked for
    assert "times as fast" in file.getvalue()
