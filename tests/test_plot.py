"""Tests of the plots with matplotlib: they draw the correct values, open no window and need no screen."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import nnc
from nnc import History, NeuralNetwork, plot
from nnc._utils.packages import install_command
from nnc.layers import Conv1D, Conv2D, Dense, Flatten, Input, MaxPool1D, MaxPool2D

pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def headless(make_fail):
    """Draw all figures without a screen, and fail if a plot opens a window or cannot be drawn."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    make_fail("matplotlib.pyplot.show", AssertionError("a plot was shown"))
    yield
    for number in pyplot.get_fignums():
        pyplot.figure(number).canvas.draw()  # the call raises an error if the figure cannot be drawn
    pyplot.close("all")


@pytest.fixture
def ax():
    return pytest.importorskip("matplotlib.figure").Figure().add_subplot()


RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
LABELS = np.array(["low", "middle", "high"])[np.digitize(X[:, 0] + 0.2 * X[:, 1], [-0.5, 0.5])]


@pytest.fixture(scope="module")
def classifier():
    net = NeuralNetwork([3, 8, 3], activation="tanh", loss="cross_entropy", seed=0)
    net.fit(X, LABELS, epochs=60, optimizer="adam", lr=0.05)
    return net


@pytest.fixture(scope="module")
def regressor():
    net = NeuralNetwork([3, 8, 1], activation="tanh", loss="mse", seed=0, scale_y="standardize")
    net.fit(X, 100 + 10 * X[:, 0], epochs=100, optimizer="adam", lr=0.05)
    return net


@pytest.fixture(scope="module")
def images():
    return NeuralNetwork([Input(6, 6, 2), Conv2D(5, 3), MaxPool2D(2), Dense(4), 3], loss="cross_entropy", seed=0)


def axis_labels(ax):
    return ax.get_xlabel(), ax.get_ylabel()


# ------------------------------------------------------------------------------------------ training


def build_history(**columns):
    """Return a history of three epochs with the columns loss, lr and `columns`."""
    arrays = {name: np.array(values, float) for name, values in {"loss": [3, 2, 1], **columns}.items()}
    return History({"lr": np.full(3, 0.1), **arrays}, 0.5, "epochs", 2)


def test_history_draws_losses_metrics_and_best_epoch_into_axes(ax):
    history = build_history(val_loss=[4, 3, 2], accuracy=[0.1, 0.2, 0.3], lr=[1, 2, 3])
    assert plot.history(history, ax) is ax
    assert axis_labels(ax) == ("epoch", "loss")
    losses = {line.get_label(): line for line in ax.get_lines()}
    assert list(losses) == ["loss", "val_loss", "best epoch, 2"]
    assert losses["val_loss"].get_xydata().tolist() == [[1, 4], [2, 3], [3, 2]]
    assert losses["best epoch, 2"].get_xdata() == [2, 2]
    right = ax.figure.axes[1]
    assert right.get_ylabel() == "accuracy"
    assert right.get_lines()[0].get_ydata().tolist() == [0.1, 0.2, 0.3]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "loss",
        "val_loss",
        "accuracy",
        "best epoch, 2",
    ]
    assert len(ax.figure.axes) == 2  # two axes for losses and metrics: history adds a panel for lr only to a new figure
    styles = [line.get_linestyle() for line in (*ax.get_lines()[:2], *right.get_lines())]
    assert len({*styles}) == 3


def test_history_draws_learning_rate_in_new_figure():
    ax = plot.history(build_history(lr=[3, 2, 1]))
    loss, learning_rate = ax.figure.axes
    assert loss is ax
    assert axis_labels(learning_rate) == ("epoch", "learning rate")
    assert learning_rate.get_lines()[0].get_ydata().tolist() == [3, 2, 1]
    ax.figure.canvas.draw()
    ticks = [tick for tick in learning_rate.get_xticks() if 1 <= tick <= 3]
    assert ticks == [1, 2, 3]  # the axis has ticks only at whole epochs
    assert len(plot.history(build_history()).figure.axes) == 1
    assert len(build_history(lr=[3, 2, 1]).plot().figure.axes) == 2


def test_loss_of_several_magnitudes_has_logarithmic_axis():
    assert plot.history(build_history(loss=[1000, 10, 1])).get_yscale() == "log"
    assert plot.history(build_history()).get_yscale() == "linear"
    assert plot.history(build_history(loss=[1000, 10, 0])).get_yscale() == "linear"


def test_learning_curve_draws_training_and_validation_scores(ax):
    net = NeuralNetwork([3, 6, 3], activation="tanh", loss="cross_entropy", seed=0)
    before = net.params
    options = {"epochs": 60, "optimizer": "adam", "lr": 0.05}
    assert plot.learning_curve(net, X, LABELS, ax, sizes=[1, 0.25], **options) is ax
    training, validation = ax.get_lines()
    assert training.get_xdata().tolist() == validation.get_xdata().tolist() == [24, 96]
    assert training.get_ydata()[0] >= validation.get_ydata()[0]
    assert validation.get_ydata()[1] > 0.8
    assert axis_labels(ax) == ("training rows", "accuracy")
    assert (net.params == before).all()
    assert net.history is None
    regression = NeuralNetwork([3, 1], loss="mse", seed=0)
    assert plot.learning_curve(regression, X, X[:, 0], sizes=[0.5], epochs=20).get_ylabel() == "R²"


def test_learning_curve_rejects_invalid_arguments():
    net = NeuralNetwork([3, 1], loss="mse", seed=0)
    with pytest.raises(ValueError, match="sizes must be fractions of the rows, positive and at most 1, got 2"):
        plot.learning_curve(net, X, X[:, 0], sizes=[2], epochs=1)
    with pytest.raises(ValueError, match="sizes must contain at least one fraction of the rows, got none"):
        plot.learning_curve(net, X, X[:, 0], sizes=[], epochs=1)
    with pytest.raises(ValueError, match="y must have one row for each row of X"):
        plot.learning_curve(net, X, X[:5, 0], epochs=1)
    with pytest.raises(ValueError, match="validation"):
        plot.learning_curve(net, X, X[:, 0], validation=1.5, epochs=1)
    with pytest.raises(TypeError, match="epochs must be set"):
        plot.learning_curve(net, X, X[:, 0], lr=0.1)


# ------------------------------------------------------------------------------------------ predictions


def test_confusion_matrix_shows_counts_and_fractions(classifier, ax):
    assert plot.confusion_matrix(classifier, X, LABELS, ax) is ax
    predicted = classifier.predict_classes(X)
    names = classifier.classes.tolist()
    counts = [[int(((a == LABELS) & (predicted == b)).sum()) for b in names] for a in names]
    assert [text.get_text() for text in ax.texts] == [str(count) for row in counts for count in row]
    fractions = np.array(counts) / np.sum(counts, axis=1, keepdims=True)
    assert np.allclose(ax.images[0].get_array(), fractions)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == names
    assert axis_labels(ax) == ("predicted class", "true class")
    texts = plot.confusion_matrix(classifier, X, LABELS, normalize=True).texts
    assert [text.get_text() for text in texts] == [f"{fraction:.2f}" for fraction in fractions.ravel()]


def test_confusion_matrix_supports_networks_with_one_output():
    is_positive = X[:, 0] > 0
    for loss, y in (("bce", is_positive), ("hinge", np.where(is_positive, 1, -1))):
        net = NeuralNetwork([3, 1], loss=loss, seed=0)
        net.fit(X, y, epochs=100, optimizer="adam", lr=0.1)
        counts = [int(text.get_text()) for text in plot.confusion_matrix(net, X, y).texts]
        assert sum(counts) == 120
        assert counts[0] + counts[3] == round(120 * net.score(X, y)) > 100


def test_decision_boundary_draws_predicted_class_of_each_point(classifier, ax):
    assert plot.decision_boundary(classifier, X, LABELS, ax, features=(1, 0), resolution=40) is ax
    assert axis_labels(ax) == ("input 1", "input 0")
    (left, right, bottom, top), image = ax.images[0].get_extent(), ax.images[0].get_array()
    point = np.median(X, axis=0)
    point[[1, 0]] = left, top  # compare the color in a corner of the image with the class that is predicted there
    number = classifier.classes.tolist().index(classifier.predict_classes(point)[0])
    expected = pytest.importorskip("matplotlib.colors").to_rgb(plot.axes.COLORS[number])
    assert np.allclose(image[-1, 0, :3], expected)
    assert left < X[:, 1].min() < X[:, 1].max() < right
    assert bottom < X[:, 0].min()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == classifier.classes.tolist()
    counts = {dots.get_label(): len(dots.get_offsets()) for dots in ax.collections if len(dots.get_offsets()) > 1}
    assert counts == {name: int((name == LABELS).sum()) for name in classifier.classes}


def test_decision_boundary_of_regression_draws_unscaled_outputs(regressor):
    y = 100 + 10 * X[:, 0]
    ax = plot.decision_boundary(regressor, X, y, resolution=20)
    assert ax.figure.axes[1].get_ylabel() == "output"
    dots = ax.collections[-1]
    assert np.allclose(dots.get_array(), y)
    assert dots.norm.vmax > 100  # colors show outputs in the units of y, not scaled outputs
    assert len(plot.decision_boundary(regressor, X, resolution=20).collections[-1].get_offsets()) == 120


def test_decision_boundary_of_hinge_loss_has_two_classes():
    net = NeuralNetwork([2, 1], loss="hinge", seed=0)
    ax = plot.decision_boundary(net, X[:, :2], np.where(X[:, 0] > 0, 1, -1), resolution=20)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1"]


def test_predictions_of_regression_show_values_or_residuals(regressor, ax):
    y = 100 + 10 * X[:, 0]
    assert plot.predictions(regressor, X, y, ax) is ax
    P = regressor.predict(X)[:, 0]
    assert np.allclose(ax.collections[0].get_offsets(), np.column_stack([y, P]))
    assert ax.get_title() == f"root mean squared error {np.sqrt(((y - P) ** 2).mean()):.4g}"
    residuals = plot.predictions(regressor, X, y, kind="residuals")
    assert np.allclose(residuals.collections[0].get_offsets(), np.column_stack([P, y - P]))
    assert axis_labels(residuals) == ("predicted value", "residual, true - predicted")


def test_predictions_of_many_rows_draw_2000_points_for_each_output():
    net = NeuralNetwork([1, 2], loss="mse", seed=0)
    rows = np.linspace(0, 1, 5000)[:, None]
    ax = plot.predictions(net, rows, np.hstack([rows, rows]))
    assert [len(dots.get_offsets()) for dots in ax.collections] == [2000, 2000]
    assert [text.get_text() for text in ax.get_legend().get_texts()][:2] == ["output 0", "output 1"]


def test_calibration_curve_matches_definition(classifier, ax):
    assert plot.predictions(classifier, X, LABELS, ax, bins=5) is ax
    P = classifier.predict_proba(X)
    confidence, is_correct = P.max(axis=1), classifier.predict_classes(X) == LABELS
    points, error = [], 0.0
    for low in np.arange(5) / 5:
        in_bin = (confidence >= low) & (confidence < low + 0.2) if low < 0.8 else confidence >= low
        if in_bin.any():
            points.append([confidence[in_bin].mean(), is_correct[in_bin].mean()])
            error += abs(points[-1][0] - points[-1][1]) * in_bin.mean()
    line = ax.get_lines()[1]
    assert np.allclose(line.get_xydata(), points)
    assert line.get_label() == f"network (expected calibration error {error:.3f})"
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)


def test_calibration_curve_of_binary_classifier_names_positive_class():
    y = np.where(X[:, 0] > 0, "yes", "no")
    net = NeuralNetwork([3, 1], loss="bce", seed=0)
    net.fit(X, y, epochs=10, lr=0.001)
    ax = plot.predictions(net, X, y)
    assert axis_labels(ax) == ("predicted probability of yes", "fraction of yes")
    line = ax.get_lines()[1].get_xydata()
    assert (line[:, 1] <= 1).all()


def test_interval_plot_reports_coverage(regressor, ax):
    y = 100 + 10 * X[:, 0]
    P = regressor.predict(X)[:, 0]
    assert plot.predictions(regressor, X, y, ax, kind="intervals", band=(P - 1, P + 1)) is ax
    coverage = ((y >= P - 1) & (y <= P + 1)).mean()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        f"interval, covers {coverage:.0%} of the rows", "predicted", "true",
    ]  # fmt: skip
    assert np.allclose(ax.get_lines()[0].get_ydata(), np.sort(P))
    lower, upper = (NeuralNetwork([3, 1], loss=nnc.Quantile(tau), seed=0) for tau in (0.1, 0.9))
    upper.biases[0][:] = 1000
    lower.biases[0][:] = -1000
    quantiles = plot.predictions(regressor, X, y, kind="intervals", band=(lower, upper))
    assert quantiles.get_legend().get_texts()[0].get_text() == "interval, covers 100% of the rows"


def test_interval_plot_of_conformal_ensemble_has_promised_coverage(regressor):
    y = 100 + 10 * X[:, 0]
    band = nnc.Ensemble([regressor, regressor.copy()]).conformal(X, y, 0.8).predict_interval(X)
    label = plot.predictions(regressor, X, y, kind="intervals", band=band).get_legend().get_texts()[0].get_text()
    percent = int(re.fullmatch(r"interval, covers (\d+)% of the rows", label)[1])
    assert 80 <= percent <= 85


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_points_contrast_with_every_background(style, classifier, regressor):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    y = 100 + 10 * X[:, 0]
    with pyplot.style.context(style):
        background = {"default": 1.0, "dark_background": 0.0}[style]
        dots = plot.predictions(regressor, X, y, kind="intervals", band=(y - 1, y + 1)).collections[1]
        borders = plot.decision_boundary(classifier, X, LABELS, resolution=20).collections
        for color in [dots.get_facecolor(), *(border.get_edgecolor() for border in borders)]:
            assert abs(np.asarray(color)[0, :3] - background).min() > 0.9
        without_y = plot.decision_boundary(regressor, X, resolution=20).collections[-1]
        assert not np.allclose(without_y.get_facecolor()[0], without_y.get_edgecolor()[0])


def test_plots_reject_invalid_arguments(classifier, regressor):
    y = X[:, 0]
    for call, message in (
        (lambda: plot.confusion_matrix(regressor, X, y), "net must be a classifier for confusion_matrix"),
        (lambda: plot.predictions(regressor, X, y, kind="calibration"), "kind must be 'actual', 'residuals'"),
        (lambda: plot.predictions(classifier, X, LABELS, kind="residuals"), "kind must be 'calibration' for"),
        (lambda: plot.predictions(regressor, X, y, kind="intervals"), "band must be a pair .* got None"),
        (lambda: plot.predictions(regressor, X, y, band=(y, y)), "band must be None for kind='actual'"),
        (lambda: plot.predictions(regressor, X, y, kind="shape"), "kind must be"),
        (lambda: plot.predictions(regressor, X, y, kind="intervals", band=(y, y[:3])), "band must have shape"),
        (lambda: plot.decision_boundary(classifier, X, features=(0, 3)), "must be two different indices from 0 to 2"),
        (lambda: plot.decision_boundary(classifier, X, features=(1, 1)), "must be two different indices from 0 to 2"),
        (lambda: plot.decision_boundary(NeuralNetwork([3, 2]), X), "net must be a classifier or have one output"),
        (lambda: plot.confusion_matrix(NeuralNetwork([3, 2], loss="bce"), X, y), "must predict one class for each row"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for call, message in (
        (lambda: plot.decision_boundary(classifier, X, features="ab"), "features must be the indices of two inputs"),
        (lambda: plot.predictions(regressor, X, y, kind="intervals", band=y), "band must be a pair .lower, upper."),
        (lambda: plot.history([1, 2]), "history must be the History that fit returns, got list"),
        (lambda: plot.weights("net"), "net must be a NeuralNetwork, got str"),
        (lambda: plot.weights(classifier, ax=3), "ax must be a matplotlib Axes, got int"),
        (lambda: plot.weights(classifier, layer=0.5), "layer must be an integer, got 0.5"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


# ------------------------------------------------------------------------------------------ layers


def test_weights_are_drawn_on_symmetric_color_scale(classifier, ax):
    assert plot.weights(classifier, ax, layer=-1) is ax
    image = ax.images[0]
    assert (image.get_array() == classifier.weights[1]).all()
    # The color scale is symmetric, so a weight of 0 is white.
    assert image.norm.vmax == -image.norm.vmin == abs(classifier.weights[1]).max()
    assert ax.get_title() == "Output Layer"
    with pytest.raises(ValueError, match="layer must be from 0 to 1, the index of a layer with weights, got 2"):
        plot.weights(classifier, layer=2)


def test_layer_of_one_neuron_has_one_tick():
    ax = plot.weights(NeuralNetwork([3, 2, 1], seed=0), layer=-1)
    ax.figure.canvas.draw()
    assert [tick for tick in ax.get_xticks() if -0.5 < tick < 0.5] == [0]


def test_plots_label_inputs_with_column_names():
    pandas = pytest.importorskip("pandas")
    net = NeuralNetwork([3, 2, 1], loss="mse", seed=0)
    net.fit(pandas.DataFrame(X, columns=["a", "b", "c"]), X[:, 0], epochs=1, lr=0.001)
    assert [tick.get_text() for tick in plot.weights(net).get_yticklabels()] == ["a", "b", "c"]
    ax = plot.decision_boundary(net, pandas.DataFrame(X, columns=["a", "b", "c"]), features=(0, 2), resolution=5)
    assert axis_labels(ax) == ("a", "c")


def test_filters_are_drawn_in_grid_of_filters_and_channels(images, ax):
    assert plot.filters(images, ax) is ax
    grid = np.asarray(ax.images[0].get_array().filled(np.nan))
    assert grid.shape == (5 * 4 - 1, 2 * 4 - 1)  # each row of the grid is a filter, each column a channel
    kernel = images.layers[0].kernel
    for number in range(5):
        for channel in range(2):
            part = grid[4 * number : 4 * number + 3, 4 * channel : 4 * channel + 3]
            assert (part == kernel[:, :, channel, number]).all()
    assert np.isnan(grid[3]).all()
    assert axis_labels(ax) == ("channel", "filter")


def test_sequences_are_drawn_with_a_row_for_each_feature():
    layers = [Input(steps=9, features=2), Conv1D(4, 3), MaxPool1D(2), Flatten(), 2]
    net = NeuralNetwork(layers, loss="cross_entropy", seed=0)
    (mosaic,) = nnc.plot.filters(net).get_images()
    assert np.isin(net.layers[0].kernel[0], mosaic.get_array()).all()
    (mosaic,) = nnc.plot.activations(net, np.ones((1, 9, 2))).get_images()
    # 4 features are the rows of the picture, and 7 steps its columns.
    assert mosaic.get_array().shape[0] < mosaic.get_array().shape[1]


def test_figure_has_aspect_ratio_of_its_content():
    high = NeuralNetwork([Input(6, 6, 6), Conv2D(16, 3), 3], seed=0)
    wide = NeuralNetwork([Input(6, 6, 16), Conv2D(6, 3), 3], seed=0)
    for net in (high, wide):
        ax = plot.filters(net)
        ax.figure.canvas.draw()
        content, figure = ax.get_window_extent(), ax.figure.bbox
        assert (content.width > content.height) == (net is wide)
        assert min(content.width / figure.width, content.height / figure.height) > 0.45


def test_filters_of_dense_layer_need_shape_of_inputs(classifier):
    net = NeuralNetwork([6, 9, 1], seed=0)
    grid = plot.filters(net, shape=(2, 3)).images[0].get_array().filled(np.nan)
    assert grid.shape == (3 * 3 - 1, 3 * 4 - 1)
    assert (grid[3:5, 4:7] == net.weights[0][:, 4].reshape(2, 3)).all()
    first_four = plot.filters(net, shape=(2, 3), most=4).images[0].get_array()
    assert first_four.shape == (5, 7)
    with pytest.raises(ValueError, match="shape must be the height and width of the inputs of Hidden Layer 1"):
        plot.filters(net)
    with pytest.raises(ValueError, match="shape must have 6 pixels, one for each input of Hidden Layer 1, got 2 x 2"):
        plot.filters(net, shape=(2, 2))


def test_activations_are_drawn_as_images_bars_or_table(images, classifier, ax):
    row = RNG.normal(size=(6, 6, 2))
    assert plot.activations(images, row, ax) is ax
    A = images.forward(row)[0][0]
    grid = ax.images[0].get_array().filled(np.nan)
    assert (grid[:4, :4] == A[:, :, 0]).all()
    assert (grid[5:9, 5:9] == A[:, :, 4]).all()
    bars = plot.activations(classifier, X[0])
    assert np.allclose([bar.get_height() for bar in bars.patches], classifier.forward(X[:1])[0][0])
    table = plot.activations(classifier, X, layer=-1)
    assert np.allclose(table.images[0].get_array(), classifier.predict_proba(X))
    with pytest.raises(ValueError, match="X must have one row for a drawing of a convolution, got 2"):
        plot.activations(images, np.stack([row, row]))


# ------------------------------------------------------------------------------------------ the package


def test_every_plot_returns_axes(classifier, images):
    plots = {
        "history": plot.history(classifier.history),
        "learning_curve": plot.learning_curve(classifier, X, LABELS, sizes=[1.0], epochs=1, lr=0.01),
        "confusion_matrix": plot.confusion_matrix(classifier, X, LABELS),
        "decision_boundary": plot.decision_boundary(classifier, X, LABELS),
        "predictions": plot.predictions(classifier, X, LABELS, kind="calibration"),
        "weights": plot.weights(classifier),
        "filters": plot.filters(images),
        "activations": plot.activations(images, RNG.normal(size=(1, 6, 6, 2))),
    }
    assert sorted(plots) == plot.__all__
    axes = pytest.importorskip("matplotlib.axes").Axes
    assert all(isinstance(ax, axes) for ax in (*plots.values(), classifier.history.plot()))


def test_import_of_nnc_plot_does_not_import_matplotlib():
    code = "import nnc, sys; nnc.plot.history; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_plot_needs_no_screen():
    code = "import nnc.plot; ax = nnc.plot.weights(nnc.NeuralNetwork([2, 1], seed=0)); ax.figure.savefig('net.png')"
    clean = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    }
    subprocess.run(
        [sys.executable, "-P", "-c", code.replace("'net.png'", "__import__('io').BytesIO()")], check=True, env=clean
    )


def test_missing_matplotlib_is_reported_with_install_command(monkeypatch, classifier):
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"nnc.plot needs matplotlib .*{re.escape(install_command('plot'))}$"):
        plot.weights(classifier)
