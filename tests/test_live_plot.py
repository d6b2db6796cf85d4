"""Tests of the plot of a running training in terminals, files and notebooks."""

import io
import re
import sys
from contextlib import contextmanager, redirect_stderr
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnc
from nnc._drawing import braille
from nnc._training import live

X = np.random.default_rng(0).uniform(-1, 1, (60, 2))
INSIDE = (np.linalg.norm(X, axis=1) < 0.7).astype(int)
ESCAPE = re.compile("\x1b\\[[0-9;]*[A-Za-z]")


class Stream(io.StringIO):
    """Text file that may claim to be a terminal."""

    def __init__(self, is_terminal=True, encoding="utf-8"):
        super().__init__()
        self.is_terminal, self.name = is_terminal, encoding

    @property
    def encoding(self):
        return self.name

    def isatty(self):
        return self.is_terminal


@pytest.fixture
def show(monkeypatch):
    """Return a function that redirects the standard error to a terminal of 80 columns, or to a file."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)

    @contextmanager
    def redirect(*arguments):
        with redirect_stderr(Stream(*arguments)) as stream:
            yield stream

    return redirect


@pytest.fixture
def notebook(monkeypatch):
    """Replace IPython by a notebook; return the list of HTML texts that are shown."""
    shown = []
    handle = SimpleNamespace(update=shown.append)

    def display(html, display_id):
        assert display_id
        shown.append(html)
        return handle

    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    return shown


def frequent_plot(*arguments):
    """Return a LivePlot that `fit` calls after each epoch."""
    plot = nnc.LivePlot(*arguments)
    plot.seconds = 1e-9
    return plot


def network(n_in=2, n_out=1, loss="bce"):
    return nnc.NeuralNetwork([n_in, 5, n_out], activation="tanh", loss=loss, seed=0)


# ------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("options", [{}, {"validation": 0.2, "metrics": "accuracy", "patience": 5}, {"batch_size": 7}])
def test_plot_does_not_change_the_result(show, options):
    plain, plotted = network(), network()
    expected = plain.fit(X, INSIDE, epochs=40, lr=0.1, **options)
    with show() as terminal:
        history = plotted.fit(X, INSIDE, epochs=40, lr=0.1, progress="plot", callback=frequent_plot(), **options)
    assert plotted.params.tobytes() == plain.params.tobytes()
    assert history.loss.tobytes() == expected.loss.tobytes()
    assert history.stop_reason == expected.stop_reason
    assert "loss" in terminal.getvalue()


def test_automatic_fit_and_batches_have_plots(show):
    with show() as terminal:
        network().fit(X, INSIDE, epochs=5, progress="plot")
        network().fit_batches([(X, INSIDE)], epochs=5, callback=nnc.LivePlot())
    assert terminal.getvalue().count("epoch 5\n") == 2


def test_unknown_progress_is_rejected():
    with pytest.raises(ValueError, match="progress must be one of plot, True or False, got 'plt'"):
        network().fit(X, INSIDE, epochs=1, lr=0.1, progress="plt")
    with pytest.raises(ValueError, match="X must have two columns"):
        nnc.LivePlot(np.ones((3, 3)))


# ------------------------------------------------------------------------------------------ terminals and files


def test_terminal_shows_plots_in_the_same_lines(show):
    options = {"validation": 0.2, "metrics": "accuracy", "callback": frequent_plot(X, INSIDE)}
    with show() as terminal:
        network().fit(X, INSIDE, epochs=300, lr=0.1, **options)
    first, *_, last = terminal.getvalue().split("\x1b[J")
    assert first.endswith(f"\x1b[{first.count(chr(10))}A")
    lines = ESCAPE.sub("", last).splitlines()
    assert lines[0] == "epoch 300"
    assert max(map(len, lines)) < 80
    assert len(lines) == 17
    assert "val_loss" in last
    assert "val_accuracy" in last
    assert {"#", "."} <= set("".join(line[:36] for line in lines[1:]))


def test_plots_are_limited_by_time(show, monkeypatch):
    times = count(0, 0.05)
    # A simulated clock: real times depend on the load of the machine.
    monkeypatch.setattr(live, "perf_counter", lambda: next(times))
    shown = []
    with show():
        display = live.Display()
        for _ in range(1000):
            if display.is_due():
                display.show([{"loss": np.ones(3)}], "epoch 3")
                shown.append(next(times))
    # Each drawing takes 0.05 seconds of the simulated clock, and may use 0.5 % of the time. Drawings are therefore more
    # than 10 seconds apart, instead of 0.5 seconds.
    assert np.diff(shown).min() > 10


def test_file_gets_only_the_last_plot_without_escape_sequences(show):
    with show(False) as file:
        network(3).fit(np.ones((5, 3)), [0, 1, 1, 0, 1], epochs=20, lr=0.1, callback=frequent_plot())
    text = file.getvalue()
    assert "\x1b" not in text
    assert text.startswith("epoch 20\n")
    assert text.count("epoch") == 1


def test_no_color_and_ascii_are_respected(show, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    with show(True, "ascii") as terminal:
        network(loss="mse").fit(X, X[:, :1], epochs=20, lr=0.1, progress="plot")
    text = terminal.getvalue()
    assert text.isascii()
    assert "\x1b[3" not in text
    assert "*" in text


def test_failed_fit_ends_with_error_of_callback(show):
    def fail(record):
        raise RuntimeError("simulated error of the callback")

    with show(), pytest.raises(RuntimeError, match="simulated error of the callback"):
        network().fit(X, INSIDE, epochs=20, lr=0.1, progress="plot", callback=fail)


# ------------------------------------------------------------------------------------------ notebooks


@pytest.mark.parametrize(("n_out", "loss"), [(1, "bce"), (3, "cross_entropy"), (1, "mse"), (1, "hinge")])
def test_notebook_shows_curves_and_decision_boundary(notebook, n_out, loss):
    y = {"bce": INSIDE, "hinge": INSIDE, "mse": X[:, 0]}.get(loss, np.arange(60) % 3)
    network(2, n_out, loss).fit(X, y, epochs=20, lr=0.1, callback=frequent_plot(X, y))
    assert len(notebook) >= 2
    for html in notebook:
        assert html.count("<svg") == 2
        assert html.count("<circle") == 60
        assert "<script" not in html
    assert "<div>epoch 20</div>" in notebook[-1]


def test_boundary_needs_two_inputs(notebook):
    network(3).fit(np.ones((5, 3)), [0, 1, 1, 0, 1], epochs=20, lr=0.1, progress="plot")
    network().fit_batches([(X, INSIDE)], epochs=2, callback=nnc.LivePlot())
    assert [html.count("<svg") for html in notebook] == [1, 1]
    network().fit(X, INSIDE, epochs=2, lr=0.1, progress="plot")
    assert notebook[-1].count("<svg") == 2
    network().fit_batches([(X, INSIDE)], epochs=2, callback=nnc.LivePlot(X, INSIDE))
    assert notebook[-1].count("<svg") == 2


KERNEL_CODE = """
import nnc
net = nnc.NeuralNetwork([2, 5, 1], activation="tanh", loss="bce", seed=0)
X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
plot = nnc.LivePlot(X, y)
plot.seconds = 1e-9  # call the plot after each epoch
net.fit(X, y, epochs=200, lr=0.1, callback=plot)
None
"""


def test_jupyter_kernel_updates_one_display_and_shows_the_last_epoch(tmp_path):
    for package in ("ipykernel", "IPython"):
        pytest.importorskip(package)
    # In the checkout, the kernel would import nnc from the folder of the source, which may have no compiled core.
    start_new_kernel = pytest.importorskip("jupyter_client.manager").start_new_kernel
    manager, client = start_new_kernel(kernel_name="python3", cwd=tmp_path)
    messages = []
    try:
        client.execute_interactive(KERNEL_CODE, timeout=60, output_hook=messages.append)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    kinds = [message["header"]["msg_type"] for message in messages]
    shown = [message["content"] for message in messages if "display_data" in message["header"]["msg_type"]]
    assert set(kinds) <= {"status", "execute_input", "display_data", "update_display_data"}
    assert [kind for kind in kinds if "display" in kind] == [
        "display_data",
        *["update_display_data"] * (len(shown) - 1),
    ]
    assert len(shown) >= 2
    assert len({content["transient"]["display_id"] for content in shown}) == 1
    assert "<div>epoch 200</div>" in shown[-1]["data"]["text/html"]
    assert shown[-1]["data"]["text/html"].count("<svg") == 2


# ------------------------------------------------------------------------------------------ curves as text


@given(
    st.lists(st.one_of(st.floats(-1e9, 1e9), st.just(np.nan)), min_size=1, max_size=500),
    st.integers(24, 120),
    st.integers(3, 12),
)
def test_lines_of_curves_have_the_given_size(values, width, height):
    lines = braille.plot_curves({"loss": np.array(values)}, width, height)
    assert len(lines) == height
    assert all(len(line) <= width for line in lines[1:])


def test_curve_is_connected_and_covers_range():
    lines = braille.plot_curves({"loss": np.linspace(0, 1, 40) ** 4}, 60, 10)
    columns = [line[13:].ljust(47) for line in lines[1:]]
    assert all(any(row[i] != " " for row in columns) for i in range(46))
    assert columns[0].strip()
    assert columns[-1].strip()
