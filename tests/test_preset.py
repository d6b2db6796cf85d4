"""Tests of the argument `preset` of fit: the automatic settings, options that override them, and files."""

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


def build_network(**arguments):
    return NeuralNetwork([3, 4, 1], **{"loss": "mse", "seed": 0, **arguments})


def fit_network(net=None, **arguments):
    """Return `net`, or a new network, after a fit with these arguments."""
    net = build_network() if net is None else net
    net.fit(X, Y, **arguments)
    return net


def have_same_bits(one, other):
    """Return whether parameters and losses of two networks are equal to the last bit."""
    return one.params.tobytes() == other.params.tobytes() and one.history.loss.tobytes() == other.history.loss.tobytes()


def test_default_preset_is_auto_without_learning_rate_and_optimizer():
    assert have_same_bits(fit_network(epochs=4), fit_network(epochs=4, preset="auto"))
    assert have_same_bits(fit_network(epochs=4, batch_size=20), fit_network(epochs=4, batch_size=20, preset="auto"))
    assert have_same_bits(fit_network(patience=2), fit_network(patience=2, preset="auto"))


@pytest.mark.parametrize(
    "arguments", [{"lr": 0.1}, {"optimizer": "adam"}, {"lr": 0.1, "optimizer": nnc.SGD(momentum=0.5)}]
)
def test_default_preset_is_plain_with_learning_rate_or_optimizer(arguments):
    assert have_same_bits(fit_network(epochs=4, **arguments), fit_network(epochs=4, preset="plain", **arguments))


def test_plain_preset_disables_automatic_settings():
    net = fit_network(epochs=4, preset="plain")
    assert have_same_bits(net, fit_network(epochs=4, optimizer="sgd"))
    assert net.history.settings == {
        "preset": "plain",
        "optimizer": nnc.SGD(),
        "lr": nnc.SGD().lr,
        "batch_size": 200,
        "epochs": 4,
        "scale_X": None,
        "scale_y": None,
        "selection": None,
    }
    with pytest.raises(TypeError, match="epochs must be set"):
        build_network().fit(X, Y, preset="plain")


AUTOMATIC_SETTINGS = {
    "optimizer": nnc.Adam(),
    "lr": nnc.PerStep(nnc.CosineLR(0.02), epochs=4),
    "batch_size": 32,
    "epochs": 4,
    "scale_X": nnc.Standardize(),
    "scale_y": nnc.Standardize(),
    "selection": None,
}


@pytest.mark.parametrize(
    ("arguments", "settings"),
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
def test_each_argument_replaces_only_its_automatic_setting(arguments, settings):
    net = fit_network(epochs=4, preset="auto", **arguments)
    assert net.history.settings == {"preset": "auto", **AUTOMATIC_SETTINGS, **settings}


def test_auto_preset_chooses_epochs_for_given_learning_rate():
    assert fit_network(preset="auto", lr=0.01).history.epochs == 1429  # 1429 epochs of 7 steps are 10,000 steps
    assert fit_network(preset="auto", lr=0.01, max_seconds=0.05).history.settings["epochs"] is None


def test_auto_preset_has_bits_of_plain_fit_with_same_settings():
    plain = build_network(scale_X="standardize", scale_y="standardize")
    plain.fit(X, Y, epochs=4, batch_size=32, optimizer="adam", lr=0.01)
    assert have_same_bits(fit_network(epochs=4, preset="auto", lr=0.01), plain)


def test_auto_preset_with_given_learning_rate_continues_adam():
    net = fit_network(epochs=3, preset="auto", lr=0.01)
    fit_network(net, epochs=2, preset="auto", lr=0.01)
    assert net.history.epochs == 5
    assert have_same_bits(
        net, fit_network(fit_network(epochs=3, preset="auto", lr=0.01), epochs=2, lr=0.01, batch_size=32)
    )
    assert fit_network(fit_network(epochs=3, optimizer="sgd"), epochs=2, preset="auto", lr=0.01).history.epochs == 2


def test_auto_preset_starts_anew_after_plain_fit():
    net = fit_network(epochs=3, lr=0.01)
    fit_network(net, epochs=2)
    assert net.history.settings["preset"] == "plain"  # a fit without lr and preset keeps those of the fit before
    fit_network(net, epochs=2, preset="auto")
    assert (net.history.settings["preset"], net.history.epochs) == ("auto", 2)


@pytest.mark.parametrize("options", [{"preset": "auto", "lr": 0.01}, {"preset": "plain"}, {"preset": "auto"}])
def test_fit_many_applies_preset_like_fit(options):
    separate, together = build_network(), build_network()
    separate.fit(X, Y, epochs=4, **options)
    (history,) = nnc.fit_many([together], X, Y, epochs=4, **options)
    assert have_same_bits(separate, together)
    assert history.settings == separate.history.settings


def test_search_accepts_preset():
    def build_candidate(seed):
        return build_network(seed=seed)

    automatic = nnc.search(build_candidate, {"lr": [0.01, 0.03]}, X, Y, epochs=9, trials=4, seed=0, preset="auto")
    assert automatic.network.history.settings["batch_size"] == 32
    assert automatic.network.history.settings["lr"] == automatic.best["lr"]
    plain = nnc.search(build_candidate, {"lr": [0.01, 0.03]}, X, Y, epochs=9, trials=4, seed=0)
    assert plain.network.history.settings["preset"] == "plain"
    assert plain.network.history.settings["batch_size"] == 200


@pytest.mark.parametrize(
    ("arguments", "optimizer", "lr"),
    [
        ({}, nnc.Adam(), 0.001),
        ({"preset": "plain"}, nnc.SGD(), nnc.SGD().lr),
        ({"preset": "auto", "lr": 0.1}, nnc.Adam(), 0.1),
        ({"preset": "auto", "optimizer": "nadam"}, nnc.NAdam(), nnc.NAdam().lr),
    ],
)
def test_fit_batches_records_settings_of_preset(arguments, optimizer, lr):
    history = build_network().fit_batches([(X[:20], Y[:20]), (X[20:50], Y[20:50])], **arguments)
    assert (history.settings["optimizer"], history.settings["lr"]) == (optimizer, lr)
    assert history.settings["preset"] == arguments.get("preset", "auto")


def test_history_and_summary_show_settings():
    net = fit_network(epochs=4)
    line = "preset auto: adam, lr PerStep(schedule=CosineLR(lr=0.02, epochs=None, min_lr=0.0), epochs=4), batch_size 32"
    assert line in str(net.history)
    assert line in net.summary()
    assert line in net.history._repr_html_()
    assert pickle.loads(pickle.dumps(net.history)).settings == net.history.settings
    with_function = fit_network(epochs=4, lr=lambda epoch: 0.1)
    assert with_function.history.settings["lr"] == "<lambda>"
    assert pickle.loads(pickle.dumps(with_function.history)).settings == with_function.history.settings
    assert nnc.History.from_dict(net.history.to_dict()).settings is None


@pytest.mark.parametrize("name", ["net.json", "net.safetensors"])
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"lr": 0.1, "batch_size": 16},
        {"lr": nnc.Warmup(nnc.CosineLR(0.1, epochs=9), epochs=2), "optimizer": nnc.Adam(betas=(0.8, 0.9))},
        {"optimizer": "lbfgs"},
        {"lr": lambda epoch: 0.1},
    ],
)
def test_files_preserve_settings(tmp_path, name, checkpoint, arguments):
    net = fit_network(epochs=4, **arguments)
    net.save(tmp_path / name, checkpoint=checkpoint)
    loaded = nnc.load(tmp_path / name)
    line = next(line for line in net.summary().splitlines() if line.startswith("preset"))
    assert line in loaded.summary().splitlines()
    if checkpoint:
        assert loaded.history.settings == net.history.settings
    saved_again = tmp_path / f"again_{name}"
    loaded.save(saved_again, checkpoint=checkpoint)
    assert saved_again.read_bytes() == (tmp_path / name).read_bytes()
    assert loaded.copy().summary() == loaded.summary()
    loaded.fit(X, Y, epochs=2, lr=0.5, optimizer="sgd")
    assert line not in loaded.summary().splitlines()


class CustomLR(nnc.StepLR):
    """Schedule of a custom class, which files record only by its name."""


@pytest.mark.parametrize("lr", [CustomLR(0.1, step_size=2), nnc.Warmup(CustomLR(0.1, step_size=2), epochs=1)])
def test_network_with_schedule_of_custom_class_is_loaded(lr):
    net = fit_network(epochs=4, lr=lr)
    for checkpoint in (False, True):
        loaded = nnc.from_json(net.to_json(checkpoint))
        assert loaded.predict(X).tobytes() == net.predict(X).tobytes()
        assert f"lr {type(lr).__name__}" in loaded.summary()
    with pytest.raises(ValueError, match="lr must be passed again"):
        loaded.fit(X, Y, epochs=1)
    assert have_same_bits(fit_network(loaded, epochs=2, lr=0.1), fit_network(net, epochs=2, lr=0.1))


def test_load_rejects_invalid_settings(tmp_path):
    net = fit_network(epochs=4)
    document = json.loads(net.to_json())
    del document["sha256"]  # nnc checks the members of an edited document instead
    for member, value in (
        ("preset", "other"),
        ("optimizer", None),
        ("lr", []),
        ("lr", {"name": "other"}),
        ("batch_size", 0),
        ("epochs", 1.5),
        ("epochs", -1),
    ):
        invalid = {**document, "settings": {**document["settings"], member: value}}
        with pytest.raises(nnc.ModelFileError, match=r"settings|schedule"):
            nnc.from_json(json.dumps(invalid))
    with_unknown_member = {**document, "settings": {**document["settings"], "later": 1}}
    assert nnc.from_json(json.dumps(with_unknown_member)).predict(X).tobytes() == net.predict(X).tobytes()


def test_fit_rejects_unknown_preset():
    for preset in ("automatic", "default", 1, True):
        with pytest.raises(ValueError, match="preset must be one of auto, plain"):
            build_network().fit(X, Y, epochs=1, preset=preset)
