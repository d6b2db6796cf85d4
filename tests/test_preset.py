"""`preset` of fit: the automatic rule, switched on and off, and the settings that it resolves to."""

import json
import pickle

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
Y = np.sin(X[:, :1]) + X[:, 1:2]

pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")


def new(**arguments):
    return NeuralNetwork([3, 4, 1], **{"loss": "mse", "seed": 0, **arguments})


def fitted(net=None, **arguments):
    net = new() if net is None else net
    net.fit(X, Y, **arguments)
    return net


def same(one, other):
    return one.params.tobytes() == other.params.tobytes() and one.history.loss.tobytes() == other.history.loss.tobytes()


def test_none_is_auto_where_neither_rate_nor_optimizer_is_named():
    assert same(fitted(epochs=4), fitted(epochs=4, preset="auto"))
    assert same(fitted(epochs=4, batch_size=20), fitted(epochs=4, batch_size=20, preset="auto"))
    assert same(fitted(patience=2), fitted(patience=2, preset="auto"))


@pytest.mark.parametrize("named", [{"lr": 0.1}, {"optimizer": "adam"}, {"lr": 0.1, "optimizer": nnc.SGD(momentum=0.5)}])
def test_none_is_plain_where_rate_or_optimizer_is_named(named):
    assert same(fitted(epochs=4, **named), fitted(epochs=4, preset="plain", **named))


def test_plain_switches_the_rule_off():
    net = fitted(epochs=4, preset="plain")
    assert same(net, fitted(epochs=4, optimizer="sgd"))
    assert net.history.settings == {
        "preset": "plain",
        "optimizer": nnc.SGD(),
        "lr": nnc.SGD().lr,
        "batch_size": 200,
        "epochs": 4,
        "scale_X": None,
        "scale_y": None,
    }
    with pytest.raises(TypeError, match="epochs must be set"):
        new().fit(X, Y, preset="plain")


RULE = {
    "optimizer": nnc.Adam(),
    "lr": nnc.PerStep(nnc.CosineLR(0.02), epochs=4),
    "batch_size": 32,
    "epochs": 4,
    "scale_X": nnc.Standardize(),
    "scale_y": nnc.Standardize(),
}


@pytest.mark.parametrize(
    ("named", "changed"),
    [
        ({}, {}),
        ({"lr": 0.01}, {"lr": 0.01}),
        ({"lr": nnc.StepLR(0.1, 2)}, {"lr": nnc.StepLR(0.1, 2)}),
        ({"optimizer": "nadam"}, {"optimizer": nnc.NAdam()}),
        ({"optimizer": nnc.SGD(momentum=0.9)}, {"optimizer": nnc.SGD(momentum=0.9)}),
        ({"optimizer": nnc.Adam(lr=0.003)}, {"optimizer": nnc.Adam(lr=0.003), "lr": 0.003}),
        ({"batch_size": 50}, {"batch_size": 50}),
        ({"optimizer": "lbfgs"}, {"optimizer": nnc.LBFGS(), "lr": None, "batch_size": 200}),
        ({"optimizer": "adamw", "lr": 0.02, "batch_size": 7}, {"optimizer": nnc.AdamW(), "lr": 0.02, "batch_size": 7}),
    ],
)
def test_each_named_argument_replaces_only_its_own_setting(named, changed):
    net = fitted(epochs=4, preset="auto", **named)
    assert net.history.settings == {"preset": "auto", **RULE, **changed}


def test_auto_chooses_the_length_beside_a_named_rate():
    assert fitted(preset="auto", lr=0.01).history.epochs == 1429  # 10,000 steps, 7 in an epoch
    assert fitted(preset="auto", lr=0.01, max_seconds=0.05).history.settings["epochs"] is None


def test_auto_with_named_settings_is_the_plain_fit_with_all_of_them_named():
    plain = new(scale_X="standardize", scale_y="standardize")
    plain.fit(X, Y, epochs=4, batch_size=32, optimizer="adam", lr=0.01)
    assert same(fitted(epochs=4, preset="auto", lr=0.01), plain)


def test_auto_with_a_named_rate_goes_on_with_adam():
    net = fitted(epochs=3, preset="auto", lr=0.01)
    fitted(net, epochs=2, preset="auto", lr=0.01)
    assert net.history.epochs == 5
    assert same(net, fitted(fitted(epochs=3, preset="auto", lr=0.01), epochs=2, lr=0.01, batch_size=32))
    assert fitted(fitted(epochs=3, optimizer="sgd"), epochs=2, preset="auto", lr=0.01).history.epochs == 2


def test_auto_begins_anew_after_a_plain_fit():
    net = fitted(epochs=3, lr=0.01)
    fitted(net, epochs=2)
    assert net.history.settings["preset"] == "plain"  # it goes on with what there is
    fitted(net, epochs=2, preset="auto")
    assert (net.history.settings["preset"], net.history.epochs) == ("auto", 2)


@pytest.mark.parametrize("options", [{"preset": "auto", "lr": 0.01}, {"preset": "plain"}, {"preset": "auto"}])
def test_fit_many_and_fit_agree(options):
    alone, many = new(), new()
    alone.fit(X, Y, epochs=4, **options)
    (history,) = nnc.fit_many([many], X, Y, epochs=4, **options)
    assert same(alone, many)
    assert history.settings == alone.history.settings


def test_search_takes_a_preset():
    def make(seed):
        return new(seed=seed)

    found = nnc.search(make, {"lr": [0.01, 0.03]}, X, Y, epochs=9, trials=4, seed=0, preset="auto")
    assert found.network.history.settings["batch_size"] == 32
    assert found.network.history.settings["lr"] == found.best["lr"]
    plain = nnc.search(make, {"lr": [0.01, 0.03]}, X, Y, epochs=9, trials=4, seed=0)
    assert plain.network.history.settings["preset"] == "plain"
    assert plain.network.history.settings["batch_size"] == 200


@pytest.mark.parametrize(
    ("named", "optimizer", "lr"),
    [
        ({}, nnc.Adam(), 0.001),
        ({"preset": "plain"}, nnc.SGD(), nnc.SGD().lr),
        ({"preset": "auto", "lr": 0.1}, nnc.Adam(), 0.1),
        ({"preset": "auto", "optimizer": "nadam"}, nnc.NAdam(), nnc.NAdam().lr),
    ],
)
def test_batches(named, optimizer, lr):
    history = new().fit_batches([(X[:20], Y[:20]), (X[20:50], Y[20:50])], **named)
    assert (history.settings["optimizer"], history.settings["lr"]) == (optimizer, lr)
    assert history.settings["preset"] == named.get("preset", "auto")


def test_history_and_summary_show_the_settings():
    net = fitted(epochs=4)
    line = "preset auto: adam, lr PerStep(schedule=CosineLR(lr=0.02, epochs=None, min_lr=0.0), epochs=4), batch_size 32"
    assert line in str(net.history)
    assert line in net.summary()
    assert line in net.history._repr_html_()
    assert pickle.loads(pickle.dumps(net.history)).settings == net.history.settings
    named = fitted(epochs=4, lr=lambda epoch: 0.1)
    assert named.history.settings["lr"] == "<lambda>"
    assert pickle.loads(pickle.dumps(named.history)).settings == named.history.settings
    assert nnc.History.from_dict(net.history.to_dict()).settings is None


@pytest.mark.parametrize("name", ["net.json", "net.safetensors"])
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize(
    "named",
    [
        {},
        {"lr": 0.1, "batch_size": 16},
        {"lr": nnc.Warmup(nnc.CosineLR(0.1, epochs=9), epochs=2), "optimizer": nnc.Adam(betas=(0.8, 0.9))},
        {"optimizer": "lbfgs"},
        {"lr": lambda epoch: 0.1},
    ],
)
def test_files_keep_the_settings(tmp_path, name, checkpoint, named):
    net = fitted(epochs=4, **named)
    net.save(tmp_path / name, checkpoint=checkpoint)
    loaded = nnc.load(tmp_path / name)
    line = next(line for line in net.summary().splitlines() if line.startswith("preset"))
    assert line in loaded.summary().splitlines()
    if checkpoint:
        assert loaded.history.settings == net.history.settings
    again = tmp_path / f"again_{name}"
    loaded.save(again, checkpoint=checkpoint)
    assert again.read_bytes() == (tmp_path / name).read_bytes()
    assert loaded.copy().summary() == loaded.summary()
    loaded.fit(X, Y, epochs=2, lr=0.5, optimizer="sgd")
    assert line not in loaded.summary().splitlines()


class OwnLR(nnc.StepLR):
    """A schedule of a class that files do not describe."""


@pytest.mark.parametrize("lr", [OwnLR(0.1, step_size=2), nnc.Warmup(OwnLR(0.1, step_size=2), epochs=1)])
def test_network_with_schedule_of_own_class_is_loaded(lr):
    net = fitted(epochs=4, lr=lr)
    for checkpoint in (False, True):
        loaded = nnc.from_json(net.to_json(checkpoint))
        assert loaded.predict(X).tobytes() == net.predict(X).tobytes()
        assert f"lr {type(lr).__name__}" in loaded.summary()
    with pytest.raises(ValueError, match="lr must be passed again"):
        loaded.fit(X, Y, epochs=1)
    assert same(fitted(loaded, epochs=2, lr=0.1), fitted(net, epochs=2, lr=0.1))


def test_wrong_settings_of_a_file_are_refused(tmp_path):
    net = fitted(epochs=4)
    document = json.loads(net.to_json())
    for member, value in (
        ("preset", "other"),
        ("optimizer", None),
        ("lr", []),
        ("lr", {"name": "other"}),
        ("batch_size", 0),
        ("epochs", 1.5),
        ("epochs", -1),
    ):
        wrong = {**document, "settings": {**document["settings"], member: value}}
        with pytest.raises(nnc.ModelFileError, match=r"settings|schedule"):
            nnc.from_json(json.dumps(wrong))
    more = {**document, "settings": {**document["settings"], "later": 1}}
    assert nnc.from_json(json.dumps(more)).predict(X).tobytes() == net.predict(X).tobytes()


def test_unknown_presets_are_refused():
    for wrong in ("automatic", "default", 1, True):
        with pytest.raises(ValueError, match="preset must be one of auto, plain"):
            new().fit(X, Y, epochs=1, preset=wrong)
