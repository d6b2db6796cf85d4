"""Tests of the progress of `fit`: lines in the terminal, CSV and TensorBoard logs, and other loggers."""

import csv
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import nnc
from nnc import CSVLogger, NeuralNetwork, TensorBoard
from nnc._training.callbacks import Lines, Record
from nnc._utils.packages import install_command

X = np.linspace(-1, 1, 20)[:, None]
Y = X[:, 0] ** 2


def build_network(loss="mse"):
    return NeuralNetwork([1, 3, 1], activation="tanh", loss=loss, seed=0)


# ------------------------------------------------------------------------------------------ lines in the terminal

TIME = r"\d+(?:s|ms|us)"
LINE = rf"Epoch (\d+)/(\d+) - {TIME} - {TIME}/epoch - loss: (\S+) - val_loss: (\S+) - val_r2: (\S+) - lr: (\S+)"


def test_verbose_2_prints_one_line_per_epoch(capsys):
    network = build_network()
    history = network.fit(X, Y, epochs=3, lr=0.1, validation=(X, Y), metrics=["r2"], verbose=2)
    lines = capsys.readouterr().out.splitlines()
    fields = [re.fullmatch(LINE, line).groups() for line in lines]
    assert [(int(epoch), int(total)) for epoch, total, *_ in fields] == [(1, 3), (2, 3), (3, 3)]
    for i, name in enumerate(("loss", "val_loss", "val_r2", "lr"), 2):
        assert [float(line[i]) for line in fields] == pytest.approx(history[name].tolist(), abs=5.1e-5)
    network.fit(X, Y, epochs=2, verbose=2)
    assert [line.split(" - ")[0] for line in capsys.readouterr().out.splitlines()] == ["Epoch 4/5", "Epoch 5/5"]


def test_verbose_1_prints_few_lines_for_short_epochs(capsys):
    build_network().fit(X, Y, epochs=500, lr=0.1, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("Epoch 500/500 - ")
    assert len(lines) < 50
    assert Lines.__init__.__defaults__ == (0, False)
    assert Lines(10).seconds == 0.1
    build_network().fit(X, Y, max_seconds=0.01, lr=0.001, verbose=True)
    assert re.match(r"Epoch \d+ - ", capsys.readouterr().out)
    build_network().fit_batches([(X, Y), (X, Y)], epochs=2, lr=0.001, verbose=2)
    assert len(capsys.readouterr().out.splitlines()) == 2
    build_network().fit(X, Y, epochs=2, lr=0.001)
    assert capsys.readouterr().out == ""


def test_line_formats_numbers_like_keras(capsys):
    Lines(None)(Record(epoch=2, loss=0.00012345, val_loss=123.45678, lr=0.0, seconds=4.2, best=True, network=None))
    Lines(9, 1)(Record(epoch=3, loss=-2.0, lr=0.001, seconds=0.0042, best=True, network=None))
    Lines(9, 1)(Record(epoch=2, loss=1.0, lr=0.01, seconds=4.2e-6, best=True, network=None))
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 2 - 4s - 2s/epoch - loss: 1.2345e-04 - val_loss: 123.4568 - lr: 0.0000",
        "Epoch 3/10 - 4ms - 2ms/epoch - loss: -2.0000 - lr: 1.0000e-03",
        "Epoch 2/10 - 4us - 4us/epoch - loss: 1.0000 - lr: 0.0100",
    ]


def test_fit_rejects_invalid_verbose():
    for verbose in (3, -1, "1", None, 0.5):
        with pytest.raises(ValueError, match=r"verbose must be 0, 1 or 2, got "):
            build_network().fit(X, Y, epochs=1, lr=0.001, verbose=verbose)


def test_fit_many_rejects_verbose():
    with pytest.raises(TypeError, match="fit_many has no argument 'verbose'; use progress=True"):
        nnc.fit_many([build_network(), build_network()], X, Y, epochs=1, verbose=1)


def test_progress_bar_shows_metrics(capsys):
    pytest.importorskip("tqdm")
    build_network().fit(X, Y, epochs=5, lr=0.001, validation=(X, Y), metrics=["r2"], progress=True)
    assert re.search(r"loss=\S+, val_loss=\S+, val_r2=", capsys.readouterr().err)


# ------------------------------------------------------------------------------------------ closing of callbacks


class CallbackWithClose:
    """Callback that counts its calls and the calls of `close`, and raises RuntimeError if `fails` is true."""

    def __init__(self, fails=False):
        self.calls, self.closed, self.fails = 0, 0, fails

    def __call__(self, record):
        self.calls += 1
        if self.fails:
            raise RuntimeError("simulated error of the callback")

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_callbacks_are_closed_after_success_and_error(optimizer):
    callback, failing = CallbackWithClose(), CallbackWithClose(fails=True)
    build_network().fit(X, Y, epochs=2, optimizer=optimizer, callback=[callback])
    assert (callback.calls, callback.closed) == (2, 1)
    with pytest.raises(RuntimeError, match="simulated error of the callback"):
        build_network().fit(X, Y, epochs=2, optimizer=optimizer, callback=[callback, failing])
    assert (callback.closed, failing.closed) == (2, 1)
    build_network().fit_batches([(X, Y)], epochs=1, lr=0.001, callback=callback)
    assert callback.closed == 3


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_estimators_close_callbacks(solver):
    pytest.importorskip("sklearn")
    from nnc.sklearn import MLPRegressor

    callback = CallbackWithClose()
    MLPRegressor(hidden_layer_sizes=(2,), max_iter=500, tol=1e-2, solver=solver, callback=callback, random_state=0).fit(
        X, Y
    )
    assert callback.calls > 0
    assert callback.closed == 1


# ------------------------------------------------------------------------------------------ CSV


def read_rows(path):
    """Return the rows of a CSV file as dicts."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_numbers_of_all_epochs(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("something else")
    logger, network = CSVLogger(path), build_network()
    first = network.fit(X, Y, epochs=3, lr=0.1, validation=(X, Y), metrics=["r2"], callback=logger)
    logged = read_rows(path)
    assert [*logged[0]] == ["epoch", "loss", "val_loss", "val_r2", "lr", "seconds"]
    second = network.fit(X, Y, epochs=2, validation=(X, Y), metrics=["r2"], callback=logger)
    logged = read_rows(path)
    assert [row["epoch"] for row in logged] == ["1", "2", "3", "4", "5"]
    for name in ("loss", "val_loss", "val_r2", "lr"):
        assert [float(row[name]) for row in logged] == [*first[name], *second[name]]
    assert all(float(row["seconds"]) > 0 for row in logged)
    with pytest.raises(ValueError, match=r"the log .* must have the columns .*, got .epoch, loss, val_loss, val_r2,"):
        network.fit(X, Y, epochs=1, callback=logger)


def test_csv_logger_appends_to_file(tmp_path):
    path, network = tmp_path / "log.csv", build_network()
    network.fit(X, Y, epochs=4, lr=0.001, callback=CSVLogger(path, append=True, every=2))
    network.fit(X, Y, epochs=3, lr=0.001, callback=CSVLogger(path, append=True, every=2))
    assert [row["epoch"] for row in read_rows(path)] == ["2", "4", "6", "7"]
    with pytest.raises(ValueError, match="use another file"):
        network.fit(X, Y, epochs=1, lr=0.001, validation=(X, Y), callback=CSVLogger(path, append=True))
    path.write_text("")
    network.fit(X, Y, epochs=1, lr=0.001, callback=CSVLogger(path, append=True))
    assert [row["epoch"] for row in read_rows(path)] == ["9"]


def test_csv_logger_names_error_of_file_or_argument(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot save the log: the folder .* does not exist"):
        build_network().fit(X, Y, epochs=1, lr=0.001, callback=CSVLogger(tmp_path / "no" / "log.csv"))
    logger = CSVLogger(tmp_path / "log.csv")
    build_network().fit(X, Y, epochs=1, lr=0.001, callback=logger)
    (tmp_path / "log.csv").unlink()
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(IsADirectoryError, match="cannot save the log: this is a folder"):
        build_network().fit(X, Y, epochs=1, lr=0.001, callback=logger)
    assert repr(CSVLogger("a.csv", every=3)) == "CSVLogger('a.csv', append=False, every=3)"
    for arguments in ({"every": 0}, {"append": 1}):
        with pytest.raises((TypeError, ValueError), match=next(iter(arguments))):
            CSVLogger("a.csv", **arguments)


# ------------------------------------------------------------------------------------------ TensorBoard


def test_tensorboard_log_has_scalars_and_histograms(tmp_path):
    pytest.importorskip("tensorboardX")
    logger, network = TensorBoard(tmp_path / "run", histograms=True), build_network()
    first = network.fit(X, Y, epochs=3, lr=0.001, validation=(X, Y), callback=logger)
    second = network.fit(X, Y, epochs=2, validation=(X, Y), callback=logger)
    assert logger.log_dir == str(tmp_path / "run")
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = accumulators.EventAccumulator(str(tmp_path / "run"))
    log.Reload()
    assert set(log.Tags()["scalars"]) == {"loss", "val_loss", "lr", "seconds"}
    for name in ("loss", "val_loss", "lr"):
        events = log.Scalars(name)
        assert [event.step for event in events] == [1, 2, 3, 4, 5]
        assert [event.value for event in events] == pytest.approx([*first[name], *second[name]], rel=1e-6)
    layers = {f"{name}/{letter}" for name in ("Hidden_Layer_1", "Output_Layer") for letter in "Wb"}
    assert set(log.Tags()["histograms"]) == layers
    last = log.Histograms("Hidden_Layer_1/W")[-1]
    assert last.step == 5
    assert last.histogram_value.num == 3
    assert last.histogram_value.sum == pytest.approx(network.weights[0].sum(), rel=1e-6)


def test_tensorboard_names_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    command = re.escape(install_command("tensorboard"))
    with pytest.raises(ImportError, match=f"TensorBoard needs tensorboardX .*{command}$"):
        TensorBoard()


# ------------------------------------------------------------------------------------------ other programs

PAGE = Path(__file__).parent.parent / "docs" / "looking.md"


class Recorder:
    """Replacement for a package that records the calls of its functions."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def method(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            return self

        return method


@pytest.mark.skipif(not PAGE.exists(), reason="needs the checkout")
@pytest.mark.parametrize(("package", "log"), [("mlflow", "log_metrics"), ("wandb", "log")])
def test_logging_recipes_of_docs_log_each_tenth_epoch(package, log, tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (recipe,) = [block for block in blocks if f"import {package}" in block]
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, package, recorder)
    monkeypatch.chdir(tmp_path)
    network = build_network()
    exec(recipe, {"net": network, "X": X, "y": Y})
    logged = [(args[0], kwargs["step"]) for name, args, kwargs in recorder.calls if name == log]
    assert [step for _, step in logged] == [*range(10, 101, 10)]
    assert [numbers["loss"] for numbers, _ in logged] == network.history.loss[9::10].tolist()
    assert {*logged[0][0]} == {"loss", "lr", "seconds"}
    assert NeuralNetwork.load(tmp_path / "model.json").sizes == (1, 3, 1)


def test_record_returns_its_numbers():
    record = Record(epoch=1, loss=0.5, accuracy=1.0, lr=0.1, seconds=2.0, best=True, network=SimpleNamespace())
    assert record.numbers() == {"loss": 0.5, "accuracy": 1.0, "lr": 0.1, "seconds": 2.0}
    assert nnc.Record is Record
