"""Tests that resumed training gives the same bits as uninterrupted training.

Training resumes after save and load, in another process, from a pickle, and from a copy.
"""

import copy
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from optimizer_cases import OPTIMIZERS

import nnc
from nnc import Checkpoint, NeuralNetwork
from nnc._model import cores

pytestmark = pytest.mark.engine

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (50, 3))
Y = np.sin(X @ rng.uniform(-2, 2, (3, 2)))
XV, YV = X[::5] + 0.1, Y[::5]

SCHEDULES = [
    nnc.StepLR(0.02, 30, gamma=0.5),
    nnc.ExponentialLR(0.02, 0.98),
    nnc.CosineLR(0.02, 100),
    nnc.OneCycleLR(0.02, 100),
    nnc.Warmup(nnc.CosineLR(0.02, 100), 60),
    nnc.Warmup(nnc.Constant(0.02), 10),
    nnc.ReduceLROnPlateau(0.02, factor=0.7, patience=2),
]


def network(dtype="float64", **settings):
    return NeuralNetwork([3, 9, 5, 2], **{"activation": "tanh", "loss": "mse", "dtype": dtype, "seed": 4, **settings})


def training_result(net):
    """Return everything that training changes, except times and the settings of the last fit."""
    document = net._document(checkpoint=True)
    del document["settings"]
    if document["training"]:
        document["training"]["history"].pop("seconds")
    return document


def through_file(net, tmp_path):
    net.save(tmp_path / "net.json", checkpoint=True)
    return NeuralNetwork.load(tmp_path / "net.json")


def check_resume(tmp_path, net, begin, further, first=50, second=50, break_=through_file):
    """Assert that `first` epochs, a break and `second` epochs give the same result as one fit.

    Both fits get the options `further`; only the first one gets `begin`. `break_` returns the network to resume.
    """
    uninterrupted, part = net, net.copy()
    uninterrupted.fit(X, Y, epochs=first + second, **begin, **further)
    part.fit(X, Y, epochs=first, **begin, **further)
    again = break_(part, tmp_path)
    assert training_result(again) == training_result(part)
    history = again.fit(X, Y, epochs=second, **further)
    assert history.epochs == second
    assert training_result(again) == training_result(uninterrupted)
    assert again.params.tobytes() == uninterrupted.params.tobytes()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_checkpoint_resumes_each_optimizer(tmp_path, optimizer, dtype):
    begin = {"optimizer": optimizer, "lr": 0.01}
    check_resume(tmp_path, network(dtype), begin, {"n_threads": 1})
    further = {"n_threads": 2, "batch_size": 7, "dropout": [0.2, 0.1], "l2": 0.01, "clip_norm": 1.0}
    check_resume(tmp_path, network(dtype), begin, further, first=49, second=51)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("optimizer", ["sgd", "nadam"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_checkpoint_resumes_each_schedule(tmp_path, schedule, optimizer):
    further = {"batch_size": 16, "clip_value": 0.1, "validation": (XV, YV), "metrics": ["r2"]}
    check_resume(tmp_path, network(), {"optimizer": optimizer, "lr": schedule}, further)


# ReduceLROnPlateau reduces the learning rate to almost 0, which gives this warning.
@pytest.mark.filterwarnings("ignore::nnc.LearningRateWarning")
@pytest.mark.parametrize("metric", ["r2", "mae"])
def test_checkpoint_resumes_plateau_schedule_of_metric(tmp_path, metric):
    further = {"validation": (XV, YV), "metrics": [metric], "monitor": metric, "batch_size": 7}
    schedule = nnc.ReduceLROnPlateau(0.2, factor=0.5, patience=1)
    net = network()
    check_resume(tmp_path, net, {"lr": schedule}, further)
    assert net.state.plateau.lr < 0.2


def test_function_as_schedule_must_be_passed_again(tmp_path):
    def schedule(epoch):
        return 0.1 / (1 + epoch)

    check_resume(tmp_path, network(), {"optimizer": "adam"}, {"lr": schedule})
    net = network()
    net.fit(X, Y, epochs=2, lr=schedule)
    again = through_file(through_file(net, tmp_path), tmp_path)
    for other in (again, pickle.loads(pickle.dumps(net))):
        with pytest.raises(ValueError, match="lr must be passed again, because it was a function"):
            other.fit(X, Y, epochs=1)
        assert other.fit(X, Y, epochs=1, lr=0.25).lr.tolist() == [0.25]
    assert again.fit(X, Y, epochs=1, optimizer="adam").lr.tolist() == [0.001]


@pytest.mark.parametrize("settings", [{"weights": True}, {"max_norm": 1.0, "l1": 1e-3, "regularize_bias": True}])
def test_checkpoint_resumes_fit_with_sample_weight_or_penalties(tmp_path, settings):
    if settings.pop("weights", False):
        settings["sample_weight"] = rng.uniform(0, 2, len(X))
    check_resume(tmp_path, network(), {"optimizer": "adam"}, {"batch_size": 9, **settings})


def test_checkpoint_resumes_fit_with_labels_and_scaling(tmp_path):
    labels = np.array(["lo", "mid", "hi"])[np.digitize(Y[:, 0], [-0.3, 0.3])]
    net = NeuralNetwork([3, 6, 3], loss=nnc.CrossEntropy(0.1), scale_X="standardize", seed=2)
    part = net.copy()
    settings = {"batch_size": 8, "class_weight": {"lo": 3.0}, "dropout": 0.3}
    net.fit(100 + 7 * X, labels, epochs=30, optimizer="adam", **settings)
    part.fit(100 + 7 * X, labels, epochs=11, optimizer="adam", **settings)
    again = through_file(part, tmp_path)
    again.fit(100 + 7 * X, labels, epochs=19, **settings)
    assert training_result(again) == training_result(net)
    assert again.classes.tolist() == ["hi", "lo", "mid"]


SECOND_ORDER = ["lbfgs", nnc.LBFGS(history_size=3), "levenberg_marquardt", nnc.LevenbergMarquardt(damping=10.0)]


@pytest.mark.sampled(7)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", SECOND_ORDER, ids=repr)
@pytest.mark.parametrize("first", [2, 25])
def test_checkpoint_resumes_second_order_optimizers(tmp_path, optimizer, dtype, first):
    begin = {"optimizer": optimizer}
    further = {"l2": 1e-3, "sample_weight": rng.uniform(0, 2, len(X)), "validation": (XV, YV)}
    for break_ in (through_file, by_pickle(5), lambda net, tmp_path: net):
        check_resume(tmp_path, network(dtype), begin, further, first, 40 - first, break_)
    check_resume(tmp_path, network(dtype), begin, {}, first, 40 - first)


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, *SECOND_ORDER], ids=repr)
def test_fit_with_optimizer_of_equal_settings_continues(tmp_path, optimizer):
    for break_ in (through_file, lambda net, tmp_path: net.copy()):
        check_resume(tmp_path, network(), {}, {"optimizer": optimizer}, 8, 12, break_)


def test_reset_of_levenberg_marquardt_restores_initial_damping(tmp_path):
    net = network()
    net.fit(X, Y, epochs=8, optimizer=nnc.LevenbergMarquardt(damping=10.0))
    assert net.state.damping < 10
    expected = net.copy()
    expected.fit(X, Y, epochs=3, optimizer=nnc.LevenbergMarquardt(damping=10.0), reset_optimizer=True)
    net.fit(X, Y, epochs=3, reset_optimizer=True)
    assert training_result(net) == training_result(expected)


@pytest.mark.parametrize("damping", [0, -1.5, "1", None, True])
def test_damping_in_damaged_checkpoint_is_refused(damping):
    net = network()
    net.fit(X, Y, epochs=2, optimizer="levenberg_marquardt")
    document = json.loads(net.to_json(checkpoint=True))
    document["training"]["damping"] = damping
    del document["sha256"]
    with pytest.raises(nnc.ModelFileError, match=r"training\.damping"):
        nnc.load(io.StringIO(json.dumps(document)))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", SECOND_ORDER[::2])
def test_checkpoint_callback_resumes_second_order_optimizers(tmp_path, optimizer, dtype):
    net = network(dtype)
    net.fit(X, Y, epochs=30, optimizer=optimizer, callback=Checkpoint(tmp_path / "net-{epoch}.json", every=4))
    for epoch in (4, 8, 20, 28):
        again = NeuralNetwork.load(tmp_path / f"net-{epoch}.json")
        again.fit(X, Y, epochs=30 - epoch)
        assert training_result(again) == training_result(net)


# Rounding decides in which epoch the fit ends, and thus which warnings it gives.
@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("optimizer", SECOND_ORDER[::2])
def test_second_order_optimizers_recover_from_changed_weights(optimizer):
    """The stored curvature belongs to other weights, which may cost some epochs but must not prevent progress."""
    net = network()
    net.fit(X, Y, epochs=60, optimizer=optimizer)
    for scale in (0.1, -1.0, 2.0):
        net.params = scale * np.random.default_rng(1).normal(size=net.n_params)
        before = net.evaluate_loss(X, Y)
        history = net.fit(X, Y, epochs=60)
        assert history.loss[0] == pytest.approx(before)
        assert net.evaluate_loss(X, Y) < 0.5 * before


def test_checkpoint_keeps_partly_filled_lbfgs_history(tmp_path):
    net = network("float32")
    net.fit(X, Y, epochs=3, optimizer=nnc.LBFGS(history_size=5))
    used = net.state.moments.any(axis=1).tolist()
    assert used == 2 * [True, True, True, False, False]
    assert through_file(net, tmp_path).state.moments.tobytes() == net.state.moments.tobytes()


@pytest.mark.parametrize("batch_size", [None, 7])
def test_checkpoint_resumes_fit_batches(tmp_path, batch_size):
    batches = [(X[start : start + 7], Y[start : start + 7]) for start in range(0, 50, 7)]
    uninterrupted, part = network(), network()
    uninterrupted.fit_batches(batches, epochs=10, optimizer="adam", dropout=0.2)
    part.fit_batches(batches, epochs=4, optimizer="adam", dropout=0.2)
    again = through_file(part, tmp_path)
    again.fit_batches(batches, epochs=6, dropout=0.2)
    assert training_result(again) == training_result(uninterrupted)


# ------------------------------------------------------------------------------------- state after load


def test_loaded_network_continues_optimizer_until_another_is_passed(tmp_path):
    net = network()
    net.fit(X, Y, epochs=5, optimizer="adam", lr=0.02)
    again = through_file(net, tmp_path)
    assert again.state.optimizer == nnc.Adam(lr=0.02)
    assert again.fit(X, Y, epochs=2).lr.tolist() == [0.02, 0.02]
    assert again.state.steps == 7
    assert again.fit(X, Y, epochs=2, lr=0.5).lr.tolist() == [0.5, 0.5]
    assert again.fit(X, Y, epochs=1).lr.tolist() == [0.5]
    assert again.state.steps == 10
    fresh = nnc.from_json(again.to_json())  # files without checkpoint=True contain no training state
    assert fresh.state is None
    again.fit(X, Y, epochs=3, optimizer="rmsprop")
    fresh.fit(X, Y, epochs=3, optimizer="rmsprop")
    assert np.array_equal(again.params, fresh.params)
    assert again.state.history.epochs == 3


def test_file_without_training_state_continues_random_streams():
    """Row orders and dropout masks are not repeated after any sequence of training calls."""
    net = network()
    net.fit(X, Y, epochs=3, lr=0.001, batch_size=7, dropout=0.2)
    positions = net.streams.shuffle_position, net.streams.dropout_position
    assert positions == (3 * 49, 3 * 8)
    net.train_step(X, Y)
    net.fit(X, Y, epochs=2, lr=0.001)
    net.fit_batches([(X[:5], Y[:5]), (X, Y)], dropout=0.1)
    assert net.streams.shuffle_position == positions[0]
    assert net.streams.dropout_position == positions[1] + 1 + 2 + 2
    again = nnc.from_json(net.to_json())
    assert (again.streams.shuffle_position, again.streams.dropout_position) == (
        net.streams.shuffle_position,
        net.streams.dropout_position,
    )


def test_loaded_history_has_values_of_all_fits(tmp_path):
    net = network()
    first = net.fit(X, Y, epochs=4, lr=nnc.StepLR(0.1, 2))
    second = net.fit(X, Y, epochs=3, validation=(XV, YV), metrics=["mae"])
    history = through_file(net, tmp_path).state.history
    for name in ("loss", "lr", "epoch_seconds"):
        assert np.array_equal(history[name], np.concatenate([first[name], second[name]]))
    for name in ("val_loss", "val_mae"):
        assert np.isnan(history[name][:4]).all()
        assert np.array_equal(history[name][4:], second[name])


# ---------------------------------------------------------------------------------------- copies and pickles


def by_pickle(protocol):
    return lambda net, tmp_path: pickle.loads(pickle.dumps(net, protocol))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "break_",
    [
        lambda net, tmp_path: net.copy(),
        lambda net, tmp_path: copy.copy(net),
        lambda net, tmp_path: copy.deepcopy(net),
        *[by_pickle(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)],
    ],
    ids=["copy()", "copy", "deepcopy", *[f"pickle{n}" for n in range(pickle.HIGHEST_PROTOCOL + 1)]],
)
def test_copy_and_pickle_resume_training(tmp_path, break_, dtype):
    further = {"batch_size": 7, "dropout": 0.1}
    schedule = nnc.ReduceLROnPlateau(0.02, factor=0.5, patience=1)
    check_resume(tmp_path, network(dtype), {"optimizer": "adam", "lr": schedule}, further, 10, 10, break_)


# ReduceLROnPlateau reduces the learning rate to almost 0, which gives this warning.
@pytest.mark.filterwarnings("ignore::nnc.LearningRateWarning")
def test_training_a_copy_leaves_original_unchanged():
    net = network()
    net.fit(X, Y, epochs=20, optimizer="adam", lr=nnc.ReduceLROnPlateau(0.5, factor=0.5, patience=0))
    twin = net.copy()
    before = training_result(net)
    twin.fit(X, Y, epochs=30)
    twin.params = np.zeros(twin.n_params)
    assert training_result(net) == before
    assert twin.state.plateau.lr < net.state.plateau.lr


def test_network_with_function_as_learning_rate_can_be_pickled():
    net = network()
    net.fit(X, Y, epochs=3, optimizer="adam", lr=lambda epoch: 0.01)
    assert net.copy().state.rates(0, 2).tolist() == [0.01, 0.01]
    again = pickle.loads(pickle.dumps(net))
    assert again.state.steps == 3
    assert net.state.rates(0, 2).tolist() == [0.01, 0.01]
    assert again.fit(X, Y, epochs=1, lr=lambda epoch: 0.02).lr.tolist() == [0.02]


# -------------------------------------------------------------------------------------- other processes

CHILD = """
import os, signal, sys
import numpy as np
import nnc

def data():
    rng = np.random.default_rng(1)
    X = rng.uniform(-1, 1, (60, 5))
    return X, np.tanh(X @ rng.uniform(-2, 2, (5, 3)))

def first(path, epochs, **settings):
    net = nnc.NeuralNetwork([5, 40, 3], activation="tanh", loss="mse", dtype=sys.argv[1], seed=3)
    settings.update(optimizer="nadam", lr=nnc.OneCycleLR(0.01, 100), batch_size=8, dropout=0.1)
    net.fit(*data(), epochs=epochs, **settings)
    return net

def go_on(net, epochs):
    net.fit(*data(), epochs=epochs, batch_size=8, dropout=0.1)
    return net
"""


def run(code, *arguments, expected=0, **environment):
    result = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", CHILD + code, *map(str, arguments)],
        capture_output=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert result.returncode == expected, result.stderr.decode()
    return result.stdout


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_new_process_resumes_to_same_bits(tmp_path, dtype):
    path = tmp_path / "net.json"
    expected = run("sys.stdout.buffer.write(first(None, 100).params.tobytes())", dtype)
    run("first(None, 50).save(sys.argv[2], checkpoint=True)", dtype, path)
    load = "sys.stdout.buffer.write(go_on(nnc.NeuralNetwork.load(sys.argv[2]), 50).params.tobytes())"
    assert run(load, dtype, path) == expected


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_new_process_resumes_second_order_optimizers(tmp_path, dtype):
    begin = """
for name in ("lbfgs", "levenberg_marquardt"):
    net = nnc.NeuralNetwork([5, 8, 3], activation="tanh", loss="mse", dtype=sys.argv[1], seed=3)
    net.fit(*data(), epochs=int(sys.argv[3]), optimizer=name, l2=1e-3)
    net.save(sys.argv[2] + name, checkpoint=True)
"""
    go_on = """
for name in ("lbfgs", "levenberg_marquardt"):
    net = nnc.NeuralNetwork.load(sys.argv[2] + name)
    net.fit(*data(), epochs=20, l2=1e-3)
    net.save(sys.argv[2] + name, checkpoint=True)
"""
    run(begin, dtype, tmp_path / "uninterrupted-", 40)
    run(begin, dtype, tmp_path / "part-", 20)
    run(go_on, dtype, tmp_path / "part-")
    for name in ("lbfgs", "levenberg_marquardt"):
        part, uninterrupted = (NeuralNetwork.load(tmp_path / f"{run}-{name}") for run in ("part", "uninterrupted"))
        assert training_result(part) == training_result(uninterrupted)


def test_checkpoint_of_levenberg_marquardt_of_0_1_0_continues_with_its_scaling(tmp_path):
    """Version 0.1.0 has written the file, whose optimizer has no scaling, and whose checksum does not include one."""
    net = NeuralNetwork.load(Path(__file__).parent / "models" / "levenberg_marquardt.json")
    again = through_file(net, tmp_path)
    assert training_result(again) == training_result(net)
    assert training_result(net)["training"]["optimizer"]["scaling"] == "marquardt"
    marquardt = nnc.LevenbergMarquardt(scaling="marquardt")
    expected = net.copy()
    for network, options in ((expected, {"optimizer": marquardt}), (net, {}), (again, {})):
        network.fit(X[:, :2], Y[:, :1], epochs=5, **options)
        assert training_result(network) == training_result(expected)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_checkpoint_of_killed_process_resumes_to_same_bits(tmp_path):
    """The process is killed between two checkpoints or during the writing of one."""
    path = tmp_path / "net.json"
    expected = run("sys.stdout.buffer.write(first(None, 100).params.tobytes())", "float64")
    endless = """
def slow(record):
    import time
    time.sleep(0.02)
slow.every = 1
first(None, 100, callback=[nnc.Checkpoint(sys.argv[2], every=5), slow])
"""
    child = subprocess.Popen([sys.executable, "-P", "-c", CHILD + endless, "float64", str(path)])
    until = time.monotonic() + 60
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(0.33)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    epoch = NeuralNetwork.load(path).state.epoch
    assert 5 <= epoch < 100
    assert epoch % 5 == 0
    load = "sys.stdout.buffer.write(go_on(nnc.NeuralNetwork.load(sys.argv[2]), int(sys.argv[3])).params.tobytes())"
    assert run(load, "float64", path, 100 - epoch) == expected


@pytest.mark.exhaustive
@pytest.mark.skipif(len(cores.available()) < 2, reason="needs a processor that runs two variants")
def test_pickles_and_files_resume_with_another_instruction_set(tmp_path):
    """Instruction sets differ in the padding of rows; parameters and moments are unchanged."""
    dump = """
import pickle
net = first(None, 20)
net.save(sys.argv[2] + ".json", checkpoint=True)
with open(sys.argv[2], "wb") as file:
    pickle.dump((net, net.params, [net.model.pack(row) for row in net.state.moments]), file)
"""
    load = """
import pickle
with open(sys.argv[2], "rb") as file:
    net, params, moments = pickle.load(file)
for again in (net, nnc.NeuralNetwork.load(sys.argv[2] + ".json")):
    assert np.array_equal(again.params, params)
    for row, flat in zip(again.state.moments, moments, strict=True):
        assert np.array_equal(again.model.pack(row), flat)
    go_on(again, 20)
    assert again.state.epoch == 40
assert np.array_equal(net.params, again.params)
"""
    variants = cores.available()
    for dtype in ("float64", "float32"):
        for source, target in ((variants[0], variants[-1]), (variants[-1], variants[0])):
            path = tmp_path / f"{source}-{dtype}"
            run(dump, dtype, path, NNC_ISA=source)
            run(load, dtype, path, NNC_ISA=target)


# ------------------------------------------------------------------------------------------- Checkpoint


def test_checkpoint_has_state_of_its_epoch(tmp_path):
    net = network()
    net.fit(X, Y, epochs=3, optimizer="adam")
    net.fit(X, Y, epochs=9, callback=Checkpoint(tmp_path / "net-{epoch}.json", every=4))
    assert sorted(os.listdir(tmp_path)) == ["net-12.json", "net-4.json", "net-8.json"]
    for epoch in (4, 8, 12):
        reference = network()
        reference.fit(X, Y, epochs=epoch, optimizer="adam")
        assert training_result(NeuralNetwork.load(tmp_path / f"net-{epoch}.json")) == training_result(reference)


@pytest.mark.parametrize(
    "rule", [{"target_loss": 1e9}, {"max_seconds": 0.05}, {"epochs": 7}, {"patience": 1, "min_delta": 1e9}]
)
def test_checkpoint_saves_last_epoch_for_each_stop_reason(tmp_path, rule):
    path = tmp_path / "net.json"
    net = network()
    net.fit(X, Y, restore_best=False, callback=Checkpoint(path, every=10**6), **rule)
    assert np.array_equal(NeuralNetwork.load(path).state.history.loss, net.state.history.loss)


def test_best_only_saves_best_epoch(tmp_path):
    path = tmp_path / "best.json"
    net = network()
    history = net.fit(
        X, Y, epochs=40, lr=0.3, batch_size=3, validation=(XV, YV), callback=Checkpoint(path, best_only=True)
    )
    assert history.best_epoch < 40
    assert NeuralNetwork.load(path).state.epoch == history.best_epoch
    reference = network()
    reference.fit(X, Y, epochs=history.best_epoch, lr=0.3, batch_size=3)
    assert np.array_equal(NeuralNetwork.load(path).params, reference.params)


def test_resumed_fit_replaces_best_checkpoint_only_by_better_one(tmp_path):
    best, last = tmp_path / "best.json", tmp_path / "last.json"
    settings = {"validation": (XV, YV), "lr": 0.1}
    network().fit(X, Y, epochs=40, callback=[Checkpoint(best, best_only=True), Checkpoint(last)], **settings)
    before = best.read_bytes()
    again = NeuralNetwork.load(last)
    flags = []
    again.fit(
        -9 * X, Y, epochs=3, callback=[Checkpoint(best, best_only=True), lambda r: flags.append(r.best)], **settings
    )
    assert best.read_bytes() == before
    assert flags
    assert not any(flags)
    again.fit(X, Y, epochs=200, callback=Checkpoint(best, best_only=True), **settings)
    assert NeuralNetwork.load(best).evaluate_loss(XV, YV) < nnc.from_json(before.decode()).evaluate_loss(XV, YV)


@pytest.mark.parametrize("rule", [pytest.param("max_seconds", marks=pytest.mark.serial), "interrupt"])
def test_checkpoint_saves_last_complete_epoch_if_next_is_cut_short(tmp_path, rule):
    """The fit can only detect after the validation of an epoch that this epoch is the last complete one."""
    path, calls = tmp_path / "net.json", []
    data = {"X": np.tile(X, (50, 1)), "y": np.tile(Y, (50, 1)), "validation": (XV, YV)}
    net = NeuralNetwork([3, 200, 200, 2], loss="mse", seed=0)
    start = time.monotonic()
    net.copy().fit(**data, epochs=1, lr=0.01, batch_size=8)
    limit = {"max_seconds": 5 * (time.monotonic() - start)} if rule == "max_seconds" else {}

    def stop(record):
        calls.append(record.epoch)
        if rule == "interrupt":
            signal.raise_signal(signal.SIGINT)

    stop.every = 1
    callbacks = [Checkpoint(path, every=1000), stop]
    # Background jobs inherit an ignored SIGINT, so the handler is set.
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        history = net.fit(**data, epochs=1000, lr=0.01, batch_size=8, callback=callbacks, **limit)
    finally:
        signal.signal(signal.SIGINT, old)
    assert history.stop_reason == rule
    assert calls == [*range(1, history.epochs + 1)]
    assert NeuralNetwork.load(path).history.epochs == history.epochs


def test_history_of_network_covers_all_fits(tmp_path):
    net = network()
    assert net.history is None
    first = net.fit(X, Y, epochs=3, lr=0.001, validation=(XV, YV))
    again = through_file(net, tmp_path)
    second = again.fit(X, Y, epochs=2, lr=0.001, validation=(XV, YV))
    assert again.history.val_loss.tolist() == [*first.val_loss, *second.val_loss]
    assert net.history.epochs == 3


def test_checkpoint_replaces_previous_file(tmp_path):
    network().fit(X, Y, epochs=6, lr=0.001, callback=Checkpoint(str(tmp_path / "net.json"), every=2))
    assert os.listdir(tmp_path) == ["net.json"]
    assert NeuralNetwork.load(tmp_path / "net.json").state.epoch == 6


@pytest.mark.parametrize("kind", [Checkpoint, nnc.CSVLogger])
def test_missing_folder_raises_before_first_epoch(tmp_path, kind):
    net = network()
    before = net.params
    (tmp_path / "file").touch()
    for path, error in (
        (tmp_path / "none" / "net.json", FileNotFoundError),
        (tmp_path / "file" / "net.json", NotADirectoryError),
        (tmp_path, IsADirectoryError),
        ("", FileNotFoundError),
    ):
        with pytest.raises(error, match="cannot save the "):
            net.fit(X, Y, epochs=6, lr=0.001, callback=kind(path, every=1000))
        assert net.state is None
        assert net.params.tobytes() == before.tobytes()
    assert net.fit(X, Y, epochs=2, lr=0.001, callback=Checkpoint(tmp_path / "net-{epoch}.json", every=1000)).epochs == 2
    assert (tmp_path / "net-2.json").exists()


def test_folder_with_epoch_in_name_may_be_created_during_fit(tmp_path):
    def create_folder(record):
        (tmp_path / str(record.epoch)).mkdir()

    network().fit(X, Y, epochs=2, lr=0.001, callback=[create_folder, Checkpoint(tmp_path / "{epoch}" / "net.json")])
    assert (tmp_path / "2" / "net.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": 3}, r"path must be a path \(str or os.PathLike\), got 3"),
        ({"path": "a", "every": 0}, "every must be 1 or more, got 0"),
        ({"path": "a", "every": 1.5}, "every must be a whole number, got 1.5"),
        ({"path": "a", "best_only": 1}, "best_only must be True or False, got 1"),
    ],
)
def test_checkpoint_rejects_invalid_arguments(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Checkpoint(**arguments)


def test_repr_of_checkpoint_can_be_evaluated():
    assert eval(repr(Checkpoint("a.json", every=3)), {"Checkpoint": Checkpoint}).every == 3
