"""Tests of drawings of networks and histories, which need no other package, in files, notebooks and terminals."""

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

FOLDER = Path(__file__).parent
SVG = "{http://www.w3.org/2000/svg}"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def equal_up_to_rounding(svg, stored):
    """Return whether two drawings differ at most by a tenth of a pixel and by one in the last digit of a number."""
    assert NUMBER.sub("#", svg) == NUMBER.sub("#", stored)
    a, b = ([float(x) for x in NUMBER.findall(text)] for text in (svg, stored))
    return np.allclose(a, b, rtol=2e-3, atol=0.11)


def set_fixed_weights(net):
    """Give the network weights that are the same on all platforms, and return it."""
    net.params = np.cos(np.arange(net.n_params) * 1.7) * np.linspace(1, 2, net.n_params)
    return net


def build_image_network():
    """Return a network with a convolution, max-pooling and dropout."""
    layers = [Input(6, 6, 2), Conv2D(20, 3), MaxPool2D(2), Dropout(0.1), Dense(12), 3]
    return set_fixed_weights(NeuralNetwork(layers, activation="relu", loss="cross_entropy", seed=0))


def parse(svg):
    """Return the root element of a drawing, which is XML."""
    return ElementTree.fromstring(svg)


def texts(root):
    """Yield each text of a drawing with an upper bound of its rectangle: (left, top, right, bottom)."""
    for element in root.iter(SVG + "text"):
        size = float(element.get("font-size", 12))
        width, x, y = 0.6 * size * len(element.text), float(element.get("x")), float(element.get("y"))
        left = {"start": x, "middle": x - width / 2, "end": x - width}[element.get("text-anchor", "start")]
        yield element.text, (left, y - 0.75 * size, left + width, y + 0.2 * size)


NETWORKS = {
    "tutorial": lambda: set_fixed_weights(NeuralNetwork([3, 4, 1], bias=False)),
    "smallest": lambda: set_fixed_weights(NeuralNetwork([1, 1])),
    "wide": lambda: set_fixed_weights(NeuralNetwork([100, 50, 100, 10], loss="cross_entropy")),
    "deep": lambda: set_fixed_weights(NeuralNetwork([8, 20, 20, 12, 12, 8, 8, 4, 4, 1], activation="tanh", loss="mse")),
    "images": build_image_network,
    "lenet": lambda: set_fixed_weights(
        NeuralNetwork([Input(28, 28), Conv2D(6, 5), MaxPool2D(2), Conv2D(16, 5), AvgPool2D(2), 120, 84, 10], loss="mse")
    ),
    "small_images": lambda: set_fixed_weights(NeuralNetwork(small_images(10), loss="cross_entropy", activation="relu")),
    "global": lambda: set_fixed_weights(
        NeuralNetwork([Input(9, 30, 3), Conv2D(5, (3, 5), stride=2), GlobalAvgPool2D(), 2])
    ),
}


# ------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize("name", ["tutorial", "images", "global"])
def test_drawing_equals_stored_drawing(name):
    stored = (FOLDER / "drawings" / f"{name}.svg").read_text(encoding="utf-8")
    assert equal_up_to_rounding(NETWORKS[name]().to_svg(), stored)


def test_drawing_with_row_equals_stored_drawing():
    stored = (FOLDER / "drawings" / "tutorial_row.svg").read_text(encoding="utf-8")
    assert equal_up_to_rounding(NETWORKS["tutorial"]().to_svg(row=[0.5, -1, 2]), stored)


def test_pictures_of_readme_are_up_to_date():
    for name, text in runpy.run_path(str(FOLDER.parent / "tools" / "pictures.py"))["pictures"]().items():
        assert equal_up_to_rounding(text, (FOLDER.parent / "docs" / name).read_text(encoding="utf-8")), name


@pytest.mark.parametrize("with_row", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_texts_do_not_overlap_and_drawing_is_within_bounds(name, with_row):
    net = NETWORKS[name]()
    row = np.linspace(-1000, 1000, net.sizes[0]) if with_row else None
    root = parse(net.to_svg(row=row))
    width, height = (float(root.get(side)) for side in ("width", "height"))
    items = list(texts(root))
    assert len(items) > 5
    for index, (text, box) in enumerate(items):
        assert box[0] >= 0, text
        assert box[1] >= 0, text
        assert box[2] <= width, text
        assert box[3] <= height, text
        for other_text, other in items[index + 1 :]:
            disjoint = box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1]
            assert disjoint, (text, other_text)
    for circle in root.iter(SVG + "circle"):
        assert 12 <= float(circle.get("cx")) <= width - 12
        assert 0 <= float(circle.get("cy")) <= height


@pytest.mark.parametrize("name", NETWORKS)
def test_drawing_has_title_and_description_for_screen_readers(name):
    net = NETWORKS[name]()
    root = parse(net.to_svg())
    assert root.get("role") == "img"
    assert root.find(SVG + "title").text.startswith("Neural network ")
    description = root.find(SVG + "desc").text
    for layer in net.model.stack.layers:
        assert layer.name in description or isinstance(layer.kind, Dropout)
    assert "blue lines are positive, orange lines are negative" in description


def test_lines_show_value_and_sign_of_weights():
    net = NETWORKS["tutorial"]()
    net.weights[0][1, 2] = 0
    lines = {}
    for line in parse(net.to_svg()).iter(SVG + "line"):
        title = line.find(SVG + "title")
        if title is not None:
            layer, i, j, weight = re.fullmatch(r"(.*): W\[(\d+), (\d+)\] = (.*)", title.text).groups()
            lines[layer, int(i), int(j)] = float(weight), line.get("stroke"), float(line.get("stroke-width"))
    assert len(lines) == 16
    for name, W in zip(("Hidden Layer 1", "Output Layer"), net.weights, strict=True):
        for (i, j), weight in np.ndenumerate(W):
            value, color, thickness = lines[name, i, j]
            assert value == pytest.approx(weight, rel=1e-3)
            assert color == (NEGATIVE if weight < 0 else POSITIVE)
            assert thickness == pytest.approx(0.5 + 3 * abs(weight) / abs(W).max(), abs=0.01)


def test_large_layer_is_drawn_with_first_and_last_neurons():
    net = NeuralNetwork([7, 100, 1], seed=0)
    for neurons, hidden in ((10, [*range(5), *range(95, 100)]), (5, [0, 1, 97, 98, 99]), (2, [0, 99])):
        titles = [title.text for title in parse(net.to_svg(neurons=neurons)).iter(SVG + "title")]
        indices = [int(text.split()[4].rstrip(",")) for text in titles if text.startswith("Hidden Layer 1: neuron")]
        assert indices == hidden
    root = parse(net.to_svg(neurons=100))
    assert sum(circle.get("r") == "12" for circle in root.iter(SVG + "circle")) == 108


def test_names_of_columns_and_classes_are_escaped_and_shortened():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        np.random.default_rng(0).random((20, 2)), columns=["a < b & c", "a name that is far too long"]
    )
    net = NeuralNetwork([2, 3, 2], loss="cross_entropy", seed=0)
    net.fit(frame, np.where(frame.iloc[:, 0] > 0.5, 'say "yes"', "n\x01o\n"), epochs=1, lr=0.001)
    written = [text for text, _ in texts(parse(net.to_svg(row=frame[:1])))]
    assert {"a < b & c", "a name that is far …", "n o ", 'say "yes"'} <= set(written)
    assert format_short(frame.iloc[0, 0]) in written


def test_output_neurons_of_several_classes_are_numbered():
    net = NeuralNetwork([2, 3], loss="cross_entropy", seed=0)
    assert {"0", "1", "2"} <= {text for text, _ in texts(parse(net.to_svg()))}
    binary = NeuralNetwork([2, 1], loss="bce", seed=0)
    assert "0" not in {text for text, _ in texts(parse(binary.to_svg()))}


def test_row_and_outputs_are_drawn_unscaled():
    X = np.linspace(100, 900, 30).reshape(10, 3)
    y = X.sum(axis=1) + 1000
    net = NeuralNetwork([3, 4, 1], activation="tanh", loss="mse", seed=0, scale_X="standardize", scale_y="minmax")
    net.fit(X, y, epochs=50, lr=0.1)
    written = [text for text, _ in texts(parse(net.to_svg(row=X[0])))]
    hidden = net.forward(X[:1])[0][0]
    for value in [*X[0], *hidden, net.predict(X[0])[0]]:
        assert format_short(float(value)) in written


def decode_png(href):
    """Decode the PNG in a data URL to an array of shape (height, width, 4), by the definition of the format."""
    content = b64decode(href.removeprefix("data:image/png;base64,"))
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    offset, chunks = 8, {}
    while offset < len(content):
        (length,) = struct.unpack(">I", content[offset : offset + 4])
        kind, data = content[offset + 4 : offset + 8], content[offset + 8 : offset + 8 + length]
        assert struct.unpack(">I", content[offset + 8 + length : offset + 12 + length])[0] == zlib.crc32(kind + data)
        chunks[kind] = data
        offset += 12 + length
    width, height, *encoding = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert encoding == [8, 6, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 4 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 4)


def test_images_show_outputs_of_layers():
    net = build_image_network()
    row = np.random.default_rng(1).normal(size=(6, 6, 2))
    images = {}
    for image in parse(net.to_svg(row=row)).iter(SVG + "image"):
        images[image.find(SVG + "title").text] = decode_png(image.get("href"))
    convolved = net.forward(row)[0][0]
    pooled = convolved.reshape(2, 2, 2, 2, 20).max((1, 3))
    outputs = {"Input": row, "Hidden Layer 1": convolved[:, :, :16], "MaxPool2D": pooled[:, :, :16]}
    assert len(images) == 2 + 16 + 16
    for name, values in outputs.items():
        for channel in range(values.shape[2]):
            image = images[f"{name}: channel {channel}"]
            expected = 255 * abs(values[:, :, channel]) / abs(values).max()
            assert abs(image[:, :, 3] - expected).max() <= 0.51
            negative = (image[:, :, :3] == [int(NEGATIVE[i : i + 2], 16) for i in (1, 3, 5)]).all(-1)
            assert (negative == (values[:, :, channel] < 0)).all()


def test_images_show_means_of_average_pooling():
    layers = [Input(5, 5), Conv2D(1, 1, "identity", bias=False), AvgPool2D(2), GlobalAvgPool2D(), 1]
    net = NeuralNetwork(layers, init=[[[1.0]], [[1.0]]])
    row = np.arange(25.0).reshape(5, 5)
    images = {
        image.find(SVG + "title").text: decode_png(image.get("href"))[:, :, 3]
        for image in parse(net.to_svg(row=row)).iter(SVG + "image")
    }
    means = row[:4, :4].reshape(2, 2, 2, 2).mean((1, 3))
    assert abs(images["AvgPool2D: channel 0"] - 255 * means / means.max()).max() <= 0.51
    assert images["GlobalAvgPool2D: channel 0"].tolist() == [[255]]
    titles = [title.text for title in parse(net.to_svg(row=row)).iter(SVG + "title")]
    assert f"Flatten: neuron 0, {means.mean():.4g}" in titles


def test_draw_rejects_invalid_arguments():
    net = NeuralNetwork([3, 4, 1], seed=0)
    with pytest.raises(ValueError, match=r"row: X must have 3 columns to fit this network, got shape \(2,\)"):
        net.draw([1, 2])
    with pytest.raises(ValueError, match="row must be one row of inputs, got 2 rows"):
        net.to_svg(row=np.ones((2, 3)))
    with pytest.raises(TypeError, match="row: X must"):
        net.draw("abc")
    with pytest.raises(ValueError, match=r"row: .*(NaN|nan)"):
        net.draw([1, 2, np.nan])
    with pytest.raises(ValueError, match="neurons must be"):
        net.draw(neurons=1)


def test_nonfinite_weights_are_drawn_as_thinnest_lines():
    net = NeuralNetwork([2, 2], init="zeros")
    net.weights[0][0, 0], net.weights[0][0, 1] = np.nan, np.inf
    root = parse(net.to_svg())
    assert [
        line.get("stroke-width") for line in root.iter(SVG + "line") if line.find(SVG + "title") is not None
    ] == 4 * ["0.5"]


def test_drawing_is_saved_to_path_or_open_file(tmp_path):
    net = NeuralNetwork([2, 2], seed=0)
    text = net.to_svg(tmp_path / "net.svg")
    assert (tmp_path / "net.svg").read_text(encoding="utf-8") == text == net.to_svg()
    net.draw().save(tmp_path / "drawing.svg")
    assert (tmp_path / "drawing.svg").read_text(encoding="utf-8") == text
    file = io.StringIO()
    net.to_svg(file)
    assert file.getvalue() == text
    with pytest.raises(FileNotFoundError, match=r"cannot save the drawing: the folder .* does not exist"):
        net.to_svg(tmp_path / "no" / "net.svg")
    assert "prefers-color-scheme:dark" in text  # a saved drawing follows the color scheme of the reader
    assert "<style>" not in net.draw()._repr_html_()  # a drawing in a notebook has the text color of the notebook
    assert re.fullmatch(r"<Drawing: Neural network 2-2, \d+ x \d+; print it, or save it as .svg>", repr(net.draw()))


def test_format_short_has_at_most_five_characters():
    expected = {0.0: "0.00", -1.5: "-1.50", 12.34: "12.3", -250.4: "-250", 9999: "9999", 12345: "1e4", -3e20: "-3e20"}
    assert {value: format_short(value) for value in expected} == expected
    assert format_short(2e-10) == "0.00"


# ------------------------------------------------------------------------------------------ histories


def build_history(**columns):
    """Return a history with the columns loss, lr and `columns`."""
    loss = columns.pop("loss", [3.0, 2.0, 1.0])
    arrays = {name: np.array(values, float) for name, values in {"loss": loss, **columns}.items()}
    return History({**arrays, "lr": np.full(len(loss), 0.1)}, 0.5, "epochs", 2)


def test_printed_history_has_sparkline_for_each_column():
    history = build_history(val_loss=[300.0, 20.0, 1.0], accuracy=[0.5, np.nan, 0.75])
    assert str(history).splitlines() == [
        "3 epochs in 0.5 s, stopped by epochs, best epoch 2",
        "loss        3 █▅▁ 1",
        "val_loss  300 █▅▁ 1",  # values of several magnitudes have a logarithmic scale
        "accuracy  0.5 ▁ █ 0.75",
    ]
    assert str(History({"loss": np.empty(0)}, 0.0, "interrupt")) == "0 epochs in 0 s, stopped by interrupt"


def test_printed_history_shows_learning_rate_only_if_it_changes():
    history = build_history()
    assert "lr" not in str(history)
    history.lr[:] = [0.1, 0.2, 0.3]
    assert str(history).splitlines()[-1] == "lr  0.1 ▁▅█ 0.3"


def test_sparkline_scales_and_shortens_values():
    assert sparkline(np.arange(8.0)) == BLOCKS
    assert sparkline(np.full(3, 2.5)) == "▅▅▅"
    assert sparkline(np.array([1, np.inf, np.nan, 0])) == "█  ▁"
    assert sparkline(np.array([np.nan])) == " "
    assert sparkline(np.array([-1e308, 1e308])) == "▁█"
    assert sparkline(10.0 ** np.arange(8)) == BLOCKS
    long = sparkline(np.repeat(np.arange(8.0), 1000))
    assert long == "".join(5 * letter for letter in BLOCKS)


def test_sparkline_is_ascii_if_console_cannot_print_blocks():
    """Blocks are used if there is no console, as in a program with a graphical interface."""
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="cp1252")):
        assert sparkline(np.arange(8.0)) == ASCII_BLOCKS
    with contextlib.redirect_stdout(None):
        assert sparkline(np.arange(8.0)) == BLOCKS


def test_ticks_are_round_numbers_within_range():
    assert Scale(0.0, 1.0, False).ticks() == [0, 0.5, 1]
    assert Scale(1.0, 60.0, False).ticks() == [20, 40, 60]
    assert Scale(-3.0, 9.0, False).ticks() == [0, 5]
    assert Scale(2.0, 2.0, False).ticks() == [2]
    assert Scale.from_values(np.array([0.002, 1.5])) == (0.002, 1.5, True)
    assert Scale(0.002, 1.5, True).ticks() == pytest.approx([0.01, 0.1, 1])
    assert len(Scale(1e-20, 1.0, True).ticks()) <= 6
    assert Scale.from_values(np.array([np.nan])).ticks()


def test_svg_of_history_has_panels_labels_and_gaps(tmp_path):
    history = build_history(val_loss=[3, np.nan, 1], accuracy=[0.1, 0.2, 0.3], f1=[0.3, 0.2, 0.1])
    history.lr[:] = [1, 2, 3]
    root = parse(history.to_svg(tmp_path / "history.svg"))
    assert (tmp_path / "history.svg").read_text(encoding="utf-8") == history.to_svg()
    written = [text for text, _ in texts(root)]
    # Each of the three panels (losses, metrics, learning rate) has this label.
    assert written.count("epoch (best: 2)") == 3
    assert {"loss 1", "val_loss 1", "accuracy 0.3", "f1 0.1", "lr 3"} <= set(written)
    assert root.find(SVG + "desc").text.startswith("3 epochs: loss from 3 to 1, val_loss from 3 to 1, accuracy")
    lines = [line.get("points").split() for line in root.iter(SVG + "polyline")]
    assert len(lines) == 6  # the missing number divides the line of val_loss in two
    assert lines[0] == ["52,30", "177,100", "302,170"]
    boxes = [box for _, box in texts(root)]
    for index, a in enumerate(boxes):
        for b in boxes[index + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    with pytest.raises(ValueError, match="the history must have at least one epoch"):
        History({"loss": np.empty(0)}, 0.0, "interrupt").to_svg()


def test_long_curve_keeps_its_peaks():
    loss = np.linspace(1, 0.5, 10_000)
    loss[4321] = 2.0
    (line,) = parse(build_history(loss=loss).to_svg()).iter(SVG + "polyline")
    points = line.get("points").split()
    assert len(points) <= 202
    assert min(float(point.split(",")[1]) for point in points) == 30


def test_summary_shows_last_training():
    net = NeuralNetwork([1, 2, 1], seed=0)
    before = net.summary()
    net.fit([[0], [1]], [0, 1], epochs=30, lr=0.1)
    assert net.summary().startswith(
        before + "\ntrained for 30 epochs\npreset plain: sgd, lr 0.1, batch_size 2, epochs 30\nloss  "
    )


# ------------------------------------------------------------------------------------------ notebooks


def build_results():
    """Return one object of each class that has a representation for notebooks, except the summary."""
    net = NeuralNetwork([2, 3, 1], seed=0)
    X, y = [[0.0, 1.0], [1.0, 0.5]], [0.0, 1.0]
    history = net.fit(X, y, epochs=5, lr=0.001, validation=(X, y))
    comparison = nnc.compare([2, 3, 1], X, y, epochs=5, verbose=False)
    return net, history, net.explain_step(X, y), nnc.check_gradients(net, X, y), comparison, net.draw()


def test_html_of_results_is_well_formed_and_accessible():
    net, history, explanation, check, comparison, drawing = build_results()
    for result in (net, history, explanation, check, comparison, drawing):
        html = result._repr_html_()
        root = ElementTree.fromstring(f"<div>{html}</div>")  # the parser raises an error if the HTML is not well-formed
        assert "style" not in {element.tag for element in root.iter()}  # a style would also apply to other cells
        for svg in root.iter(SVG + "svg"):
            assert svg.find(SVG + "title").text
            assert svg.find(SVG + "desc").text
    assert len(list(ElementTree.fromstring(f"<div>{net._repr_html_()}</div>").iter(SVG + "svg"))) == 2
    assert "Hidden Layer 1" in net._repr_html_()
    assert "5 epochs in " in history._repr_html_()
    assert "<pre" in explanation._repr_html_()
    assert "The gradients are right" in check._repr_html_()
    assert check._repr_html_().count("<tr>") == 3
    assert "times as fast" in comparison._repr_html_()
    assert "0 epochs" in History({"loss": np.empty(0)}, 0.0, "interrupt")._repr_html_()


def test_summary_has_monospaced_html_and_plain_repr():
    summary = NeuralNetwork([2, 3, 1], seed=0).summary()
    assert isinstance(summary, str)
    assert repr(summary) == str(summary)
    (pre,) = ElementTree.fromstring(f"<div>{summary._repr_html_()}</div>")
    assert pre.tag == "pre"
    assert "monospace" in pre.get("style")
    assert pre.text == str(summary)
    assert "monospace" in build_results()[2]._repr_html_()  # build_results()[2] is the result of explain_step


def test_repr_of_printed_results_is_one_line():
    for result in build_results()[2:]:
        assert re.fullmatch(r"<[^\n]*; (print it|print it, or save it as .svg)>", repr(result))


def test_results_are_printed_once_in_console_and_notebook(monkeypatch, capsys):
    X, y = [[0.0, 1.0], [1.0, 0.5]], [0.0, 1.0]
    net = NeuralNetwork([2, 3, 1], seed=0)

    def print_results():
        capsys.readouterr()
        check, step = nnc.check_gradients(net, X, y), net.explain_step(X, y)
        comparison = nnc.compare([2, 1], X, y, epochs=2)
        return capsys.readouterr().out, "".join(f"{result}\n" for result in (check, step, comparison))

    out, expected = print_results()
    assert out == expected
    ipython = ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    # IPython without a kernel runs in a terminal, where results are printed.
    ipython.get_ipython = lambda: SimpleNamespace()
    out, expected = print_results()
    assert out == expected
    # IPython with a kernel is a notebook, which shows the result itself, so nothing is printed.
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    assert print_results()[0] == ""
    file = io.StringIO()
    nnc.compare([2, 1], X, y, epochs=2, file=file)  # an explicit file is also written in a notebook
    assert "times as fast" in file.getvalue()
