"""Tests of History: columns, conversion to dict and CSV, plots, and concatenation of histories."""

import copy
import csv
import json
import os
import pickle
import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnc import NeuralNetwork
from nnc._training.history import STOP_REASONS, History
from nnc._utils.packages import install_command


def build_history(epochs=3, stop_reason="epochs", best_epoch=None, **columns):
    numbers = np.arange(float(epochs))
    default_columns = {"loss": 1 / (1 + numbers), "lr": np.full(epochs, 0.1), "epoch_seconds": np.full(epochs, 0.25)}
    return History(
        {**default_columns, **{name: np.array(c, float) for name, c in columns.items()}}, 1.5, stop_reason, best_epoch
    )


def are_equal(a, b):
    return (
        list(a) == list(b)
        and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)
        and (a.seconds, a.stop_reason, a.best_epoch) == (b.seconds, b.stop_reason, b.best_epoch)
        and a.untracked_epochs == b.untracked_epochs
    )


def test_columns_are_attributes_and_items():
    h = build_history(val_loss=[3, 2, 1], accuracy=[0.1, 0.2, 0.3])
    assert h.epochs == 3
    assert h.loss is h["loss"]
    assert h.val_loss is h["val_loss"]
    assert h.lr is h["lr"]
    assert h.epoch_seconds is h["epoch_seconds"]
    assert h.accuracy is h["accuracy"]
    assert list(h) == list(h.keys()) == ["loss", "lr", "epoch_seconds", "val_loss", "accuracy"]
    assert "accuracy" in h
    assert "seconds" not in h
    assert list(dict(h)) == list(h)
    assert {"accuracy", "loss", "plot"} <= set(dir(h))


def test_missing_columns_raise_or_are_none():
    h = build_history()
    assert h.val_loss is None
    assert "val_loss" not in h
    with pytest.raises(KeyError, match="no column 'val_loss'; its columns are loss, lr, epoch_seconds"):
        h["val_loss"]
    with pytest.raises(AttributeError, match="'History' object has no attribute 'accuracy'"):
        h.accuracy  # noqa: B018
    assert not hasattr(h, "_private")


def test_repr_shows_epochs_losses_and_stop_reason():
    assert repr(build_history()) == "<History: 3 epochs in 1.5 s, loss 1 -> 0.333333, stopped by epochs>"
    best = build_history(stop_reason="patience", best_epoch=2)
    assert repr(best) == "<History: 3 epochs in 1.5 s, loss 1 -> 0.333333, best epoch 2, stopped by patience>"
    assert repr(build_history(0, "interrupt")) == "<History: 0 epochs in 1.5 s, stopped by interrupt>"


def test_history_rejects_assignment_of_attributes():
    h = build_history()
    with pytest.raises(AttributeError):
        h.los = 1
    with pytest.raises(AttributeError):
        h.loss = 1


def test_copies_are_equal_and_independent():
    h = build_history(val_loss=[3, 2, 1], best_epoch=3)
    for twin in (pickle.loads(pickle.dumps(h)), copy.copy(h), copy.deepcopy(h)):
        assert are_equal(h, twin)
    assert copy.deepcopy(h).loss is not h.loss


def test_history_does_not_copy_columns():
    columns = {"loss": np.zeros(10)}
    assert History(columns, 1.0, "epochs").loss is columns["loss"]


# ------------------------------------------------------------------------------------------ conversion to dict


NUMBERS = st.floats(allow_nan=True, allow_infinity=False)


@given(
    rows=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS)),
    reason=st.sampled_from(STOP_REASONS),
    seconds=st.floats(0, 1e9),
    data=st.data(),
)
def test_json_round_trip_is_exact(rows, reason, seconds, data):
    loss, val_loss, f1 = np.array(rows, float).reshape(len(rows), 3).T
    best = data.draw(st.none() | st.integers(1, len(rows))) if rows else None
    h = History({"loss": loss, "val_loss": val_loss, "f1": f1}, seconds, reason, best)
    assert are_equal(h, History.from_dict(json.loads(json.dumps(h.to_dict(), allow_nan=False))))


def test_copies_and_repr_state_untracked_epochs():
    h = build_history()
    h.untracked_epochs = 40
    assert repr(h) == "<History: 3 of 43 epochs in 1.5 s, loss 1 -> 0.333333, stopped by epochs>"
    for other in (pickle.loads(pickle.dumps(h)), copy.copy(h), History.from_dict(h.to_dict()), History.joined(h)):
        assert are_equal(h, other)
    assert History.joined(h, build_history()).untracked_epochs == 40


class UntrackedEpochs:
    """Callback that records how many epochs the history of the network does not include during a fit."""

    def __init__(self):
        self.untracked_epochs = []

    def __call__(self, record):
        self.untracked_epochs.append(record.network.history.untracked_epochs)


def test_network_counts_untracked_epochs(tmp_path):
    net = NeuralNetwork([1, 1], loss="mse", seed=1)
    for _ in range(1003):
        net.fit([[1.0]], [[2.0]], epochs=2, lr=0.01)
    net.save(tmp_path / "net.json", checkpoint=True)
    for other in (net, net.copy(), pickle.loads(pickle.dumps(net)), NeuralNetwork.load(tmp_path / "net.json")):
        assert (other.history.epochs, other.history.untracked_epochs) == (2000, 6)
        other.fit([[1.0]], [[2.0]], epochs=100_000)
        assert (other.history.epochs, other.history.untracked_epochs) == (100_000, 2006)
        other.fit([[1.0]], [[2.0]], epochs=1, callback=(callback := UntrackedEpochs()))
        assert (callback.untracked_epochs, other.history.untracked_epochs) == ([2006], 2006)
        other.fit([[1.0]], [[2.0]], epochs=3, optimizer="sgd", reset_optimizer=True)
        assert (other.history.epochs, other.history.untracked_epochs) == (3, 0)


def test_to_dict_represents_nonfinite_numbers_by_none():
    assert build_history(2, val_loss=[np.inf, np.nan], best_epoch=1).to_dict() == {
        "loss": [1.0, 0.5],
        "lr": [0.1, 0.1],
        "epoch_seconds": [0.25, 0.25],
        "val_loss": [None, None],
        "seconds": 1.5,
        "stop_reason": "epochs",
        "best_epoch": 1,
        "untracked_epochs": 0,
        "n_threads": None,
    }


def test_from_dict_accepts_floats_whole_numbers_and_none_in_one_column():
    history = History.from_dict({**build_history(3).to_dict(), "val_loss": [1, 0.5, None]})
    assert np.array_equal(history["val_loss"], [1, 0.5, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": None}, "'loss' of a history must be a list of numbers, got None"),
        ({"loss": [1, "2"]}, "'loss' of a history must be a list of numbers, got "),
        ({"loss": [1, True]}, "'loss' of a history must be a list of numbers"),
        ({"loss": [1, 10**400]}, "'loss' of a history must have numbers in the range of a float"),
        ({"lr": [0.1]}, "the same length, got 2 numbers of loss and 1 of lr"),
        ({3: [1, 2]}, "columns of a history must have names that do not begin with '_', got 3"),
        ({"_columns": [1, 2]}, "columns of a history must have names that do not begin with '_', got '_columns'"),
        ({"seconds": "1"}, "seconds of a history must be a finite number, 0 or more, got '1'"),
        ({"seconds": float("nan")}, "seconds of a history must be a finite number, 0 or more, got nan"),
        ({"stop_reason": "boredom"}, "stop_reason of a history must be one of epochs, .*, got 'boredom'"),
        ({"stop_reason": []}, "stop_reason of a history must be one of"),
        ({"untracked_epochs": -1}, "untracked_epochs of a history must be a whole number, 0 or more, got -1"),
        ({"untracked_epochs": True}, "untracked_epochs of a history must be a whole number, 0 or more, got True"),
        ({"best_epoch": 3}, "best_epoch of a history must be from 1 to 2 or None, got 3"),
        ({"best_epoch": 1.0}, "best_epoch of a history must be from 1 to 2 or None, got 1.0"),
    ],
)
def test_from_dict_rejects_invalid_values(change, message):
    with pytest.raises(ValueError, match=message):
        History.from_dict({**build_history(2).to_dict(), **change})


def test_from_dict_requires_object_with_loss():
    with pytest.raises(ValueError, match="a history must be an object, got 3"):
        History.from_dict(3)
    with pytest.raises(ValueError, match="a history must have the column 'loss'"):
        History.from_dict({"stop_reason": "epochs"})
    assert History.from_dict({"loss": [1, 2], "stop_reason": "epochs"}).loss.tolist() == [1.0, 2.0]


# ------------------------------------------------------------------------------------------ concatenation


def test_joined_concatenates_columns_and_adds_seconds():
    h = History.joined(build_history(2, "interrupt", 2), build_history(3, "patience", 1))
    assert h.loss.tolist() == [1, 1 / 2, 1, 1 / 2, 1 / 3]
    assert (h.epochs, h.seconds, h.stop_reason, h.best_epoch) == (5, 3.0, "patience", 3)


def test_joined_uses_best_epoch_of_first_history_if_last_has_none():
    assert History.joined(build_history(2, best_epoch=2), build_history(3)).best_epoch == 2
    assert History.joined(build_history(2), build_history(3)).best_epoch is None


def test_joined_fills_missing_columns_with_nan():
    h = History.joined(build_history(2, f1=[0.1, 0.2]), build_history(1, val_loss=[7]))
    assert list(h) == ["loss", "lr", "epoch_seconds", "f1", "val_loss"]
    assert np.array_equal(h.f1, [0.1, 0.2, np.nan], equal_nan=True)
    assert np.array_equal(h.val_loss, [np.nan, np.nan, 7], equal_nan=True)


# ------------------------------------------------------------------------------------------ CSV


def test_to_csv_writes_one_row_per_epoch(tmp_path):
    h = build_history(2, val_loss=[1 / 3, np.nan])
    h.to_csv(tmp_path / "h.csv")
    text = (tmp_path / "h.csv").read_bytes().decode()
    assert text == "epoch,loss,lr,epoch_seconds,val_loss\n1,1.0,0.1,0.25,0.3333333333333333\n2,0.5,0.1,0.25,nan\n"
    build_history(0).to_csv(str(tmp_path / "h.csv"))
    assert (tmp_path / "h.csv").read_text() == "epoch,loss,lr,epoch_seconds\n"
    assert os.listdir(tmp_path) == ["h.csv"]


@given(losses=st.lists(st.floats(), max_size=20))
def test_csv_round_trip_is_exact(tmp_path_factory, losses):
    path = tmp_path_factory.mktemp("csv") / "h.csv"
    History({"loss": np.array(losses, float), "odd, name\n": np.array(losses, float)}, 0.0, "epochs").to_csv(path)
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["epoch", "loss", "odd, name\n"]
    assert [row[0] for row in rows] == [str(i + 1) for i in range(len(losses))]
    assert np.array_equal([float(row[1]) for row in rows], losses, equal_nan=True)


def test_to_csv_names_error_of_path(tmp_path):
    missing = str(tmp_path / "no" / "h.csv")
    with pytest.raises(FileNotFoundError, match=r"cannot save the history: the folder .* does not exist") as caught:
        build_history().to_csv(missing)
    assert caught.value.filename == missing
    with pytest.raises(IsADirectoryError, match="cannot save the history: this is a folder"):
        build_history().to_csv(tmp_path)
    with pytest.raises(OSError, match="cannot save the history: the path is not valid"):
        build_history().to_csv("")
    with pytest.raises(TypeError):
        build_history().to_csv(None)


# ------------------------------------------------------------------------------------------ plot


def test_plot_draws_losses_metrics_and_best_epoch():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    h = build_history(val_loss=[3, 2, 1], accuracy=[0.1, 0.2, 0.3], best_epoch=2)
    ax = figure.add_subplot()
    assert h.plot(ax) is ax
    losses = {line.get_label(): line for line in ax.get_lines()}
    assert list(losses) == ["loss", "val_loss", "best epoch, 2"]
    assert losses["val_loss"].get_xydata().tolist() == [[1, 3], [2, 2], [3, 1]]
    (metric,) = figure.axes[1].get_lines()
    assert metric.get_ydata().tolist() == [0.1, 0.2, 0.3]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["loss", "val_loss", "accuracy", "best epoch, 2"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")


def test_plot_without_axes_creates_figure():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    ax = build_history().plot()
    assert len(ax.figure.axes) == 1
    pyplot.close(ax.figure)


def test_plot_names_missing_package(monkeypatch):
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=re.escape(install_command("plot"))):
        build_history().plot()
