"""Narrow networks side by side in lanes: each as if it had been alone, to the last bit."""

import os
import signal
import threading
import time
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnc
from nnc import NeuralNetwork
from nnc.kinds import activations, losses, optimizers
from nnc.many import work
from nnc.model import cores

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = np.tanh(X[:, :2] + X[:, 1:])
VARIANTS = [cores.chosen()] if os.environ.get("NNC_ISA") else cores.available()
# Cores of AVX-512 leave narrow networks to those of AVX2; the fallback without vectors has one lane.
WITH_LANES = [isa for isa in VARIANTS if 1 < import_module(f"nnc._core_{isa}_f64").LANES <= 4]
DTYPES = ["float64", "float32"]
FIRST_ORDER = [name for name in optimizers.METHODS if name != "rprop"]

pytestmark = [
    pytest.mark.filterwarnings("ignore::nnc.TrainingWarning"),
    pytest.mark.skipif(not WITH_LANES, reason="there is no core that has this"),
]
rows = pytest.mark.parametrize


@pytest.fixture(params=WITH_LANES)
def isa(request, monkeypatch):
    """Each instruction set in turn, forced for the networks that the test makes."""
    monkeypatch.setenv("NNC_ISA", request.param)


@pytest.fixture
def groups(monkeypatch):
    """How many networks the core has trained together, call by call."""
    return watched(monkeypatch)


def watched(monkeypatch):
    seen = []

    def watch(core):
        work_each = core.work_each

        def noting(trainings, blocks):
            seen.extend(core.side_by_side(trainings))
            return work_each(trainings, blocks)

        monkeypatch.setattr(core, "work_each", noting)

    for isa in VARIANTS:
        for precision in ("f32", "f64"):
            watch(import_module(f"nnc._core_{isa}_{precision}"))
    return seen


def assert_equal(one, other):
    assert one.params.tobytes() == other.params.tobytes()
    assert one.state.moments.tobytes() == other.state.moments.tobytes()
    assert one.state.counters() == other.state.counters()
    assert one.state.epoch == other.state.epoch
    for name in ("loss", "lr"):
        assert one.history[name].tobytes() == other.history[name].tobytes(), name
    assert one.history.stop_reason == other.history.stop_reason


def train(alone, many, X, y, rows=None, n_jobs=1, **options):
    """Each by itself, and all at once: the same comes of it; returns the history of all."""
    errors = {}
    for i, network in enumerate(alone):
        own = {name: value[i] if type(value) is list else value for name, value in options.items()}
        index = slice(None) if rows is None else rows[i]
        try:
            network.fit(X[index], y[index], n_threads=1, **own)
        except nnc.DivergedError as error:
            errors[i] = str(error)
    history = nnc.fit_many(many, X, y, rows=rows, n_jobs=n_jobs, **options)
    assert {i: str(error) for i, error in history.diverged.items()} == errors
    for one, other in zip(alone, many, strict=True):
        assert_equal(one, other)
    return history


def made(n, sizes=None, **arguments):
    if sizes is None:  # for which it pays
        sizes = [3, 2 if lanes(arguments.get("dtype", "float64")) > 2 else 1, 2]
    return [NeuralNetwork(sizes, **{"loss": "mse", "seed": i, **arguments}) for i in range(n)]


def both(n, *arguments, **named):
    return made(n, *arguments, **named), made(n, *arguments, **named)


def lanes(dtype):
    return cores.core(np.dtype(dtype), [2]).LANES


# ------------------------------------------------------------------------------------------ to the last bit


@rows("dtype", DTYPES)
@rows("name", activations.HIDDEN)
def test_activations(isa, groups, dtype, name):
    n = lanes(dtype) + 1
    train(*both(n, activation=name, output="identity", dtype=dtype), X[:7], Y[:7], epochs=3, lr=0.1)
    train(*both(n, activation=name, output="identity", dtype=dtype), X, Y, epochs=3, lr=0.1, batch_size=9)
    assert max(groups) == n - 1


@rows("dtype", DTYPES)
@rows("name", losses.IN_ENGINE[:-1])
def test_losses(isa, groups, dtype, name):
    n, labelled = lanes(dtype) + 1, name == "cross_entropy"
    y = {"bce": Y > 0, "poisson": np.floor(3 * abs(Y)), "hinge": np.sign(Y)}.get(name, Y)
    y = (Y[:, 0] > 0).astype(int) if labelled else y.astype(float)
    train(*both(n, loss=name, dtype=dtype), X[:4], y[:4], epochs=4, lr=0.1)
    train(*both(n, loss=name, dtype=dtype), X, y, epochs=4, lr=0.1, batch_size=21)
    assert max(groups) == n - 1


@rows("dtype", DTYPES)
@rows("name", FIRST_ORDER)
def test_optimizers(isa, groups, dtype, name):
    networks = both(lanes(dtype) + 1, dtype=dtype)
    train(*networks, X, Y, epochs=3, lr=0.01, batch_size=9, optimizer=name, weight_decay=0.01)
    train(*networks, X, Y, epochs=2, batch_size=11)  # goes on with the moments
    assert max(groups) == lanes(dtype)


@st.composite
def cases(draw):
    dtype, isa = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(VARIANTS))
    widths = st.integers(1, 20)
    sizes = [draw(widths), *draw(st.lists(widths, max_size=2)), draw(st.integers(1, 4))]
    options = {"epochs": draw(st.integers(1, 5)), "shuffle": draw(st.booleans())}
    options["optimizer"] = draw(st.sampled_from(["sgd", *FIRST_ORDER]))
    if draw(st.booleans()):
        options["batch_size"] = draw(st.integers(1, 40))
    n = draw(st.integers(2, 19))
    if options["optimizer"] == "sgd":
        options["lr"] = draw(st.lists(st.sampled_from([0.01, 0.1, 1.0, 1e30]), min_size=n, max_size=n))
    else:
        options["lr"] = draw(st.sampled_from([0.001, 0.1, 1e30]))
    names = st.sampled_from(activations.HIDDEN)
    network = {
        "activation": [draw(names) for _ in sizes[2:]],
        "loss": draw(st.sampled_from(["sse", "mse", "mae", "bce", "cross_entropy"])),
        "bias": draw(st.booleans()),
    }
    if network["loss"] == "cross_entropy":
        sizes[-1] += 1
    return isa, n, sizes, {**network, "dtype": dtype}, draw(st.integers(1, 40)), options


@given(cases())
def test_anything(case):
    isa, n, sizes, network, count, options = case
    X = np.random.default_rng(count).normal(size=(count, sizes[0]))
    y = np.random.default_rng(count).integers(0, sizes[-1], count)
    if network["loss"] != "cross_entropy":
        y = (y[:, None] == np.arange(sizes[-1])) * 1.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NNC_ISA", isa)
        train(*both(n, sizes, **network), X, y, n_jobs=1 + n % 2, **options)


def test_anything_goes_side_by_side():
    """Many of those cases, or they would show nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NNC_ISA", WITH_LANES[0])
        seen = watched(patch)
        for width in (1, 2, 3):
            train(*both(19, [3, width, 1]), X, Y[:, :1], epochs=3, batch_size=5, lr=[0.1, 1e30, *[0.2] * 17])
    assert max(seen) > 1


# ------------------------------------------------------------------------------------------ what each has of its own


@rows("dtype", DTYPES)
def test_rates_rows_and_schedules(groups, dtype):
    n = lanes(dtype)
    index = [RNG.integers(0, 40, 30) for _ in range(n)]
    train(*both(n, dtype=dtype), X, Y, index, epochs=4, lr=list(np.geomspace(0.001, 1, n)), batch_size=7)
    train(*both(n, dtype=dtype), X, Y, index, epochs=4, lr=[nnc.CosineLR(0.1), nnc.StepLR(0.1, 2)] * (n // 2))
    train(*both(n, dtype=dtype), X, Y, epochs=4, lr=nnc.PerStep(nnc.CosineLR(0.5)), batch_size=7)
    assert groups == [n] * 3


@rows("batch_size", [None, 8])
@rows("dtype", DTYPES)
def test_those_that_diverge_leave_the_others(isa, groups, dtype, batch_size):
    n = lanes(dtype)
    for huge in ([0], [n - 1], range(n), range(0, n, 2)):
        rates = [1e30 * (1 + i) if i in huge else 0.1 for i in range(n)]
        history = train(*both(n, dtype=dtype), X, Y, epochs=30, lr=rates, batch_size=batch_size)
        assert set(history.diverged) <= set(huge)
    train(*both(n, dtype=dtype), X, Y, epochs=9, lr=1e30, batch_size=batch_size, optimizer="adam")
    assert max(groups) == n


def test_numbers_near_zero_are_flushed_as_they_are_alone(isa, groups):
    n = lanes("float32")
    adam = nnc.Adam(0.01, eps=1e-20)
    train(*both(n, [3, 4, 2], dtype="float32"), 1e-18 * X, Y, epochs=5, batch_size=8, optimizer=adam)
    assert max(groups) == n


def test_in_slices(groups, monkeypatch):
    """Python looks in between, within epochs too."""
    monkeypatch.setattr(work, "SLICE", 1e-7)
    n = lanes("float64")
    train(*both(n), X, Y, epochs=7, batch_size=11, lr=[0.1] * (n - 1) + [1e300])
    train(*both(n), X[:4], Y[:4], epochs=50)
    assert len(groups) > 20
    assert max(groups) == n


def test_a_schedule_longer_than_rates_are_worked_out_for(groups):
    n = lanes("float64")
    train(*both(n), X[:3], Y[:3], epochs=5000, lr=nnc.CosineLR(0.1))
    assert groups == [n, n]


def test_which_go_side_by_side(groups):
    n = lanes("float64")
    train(*both(n), X, Y, n_jobs=n, epochs=2, lr=0.1)  # a thread for each
    train(*both(n), X, Y, epochs=2, lr=0.1, sample_weight=np.ones(40))
    train(*both(n), X, Y, epochs=2, lr=0.1, l2=0.1)
    train(*both(n, [3, 40, 40, 2]), X, Y, epochs=2, lr=0.1)
    train(*both(n), X, Y, epochs=2, optimizer="adam", lr=list(np.linspace(0.1, 0.2, n)))
    assert set(groups) <= {1}
    train(*both(n), X, Y, epochs=2, optimizer="adam", lr=[0.1, 0.2] * (n // 2), n_jobs=1)
    mixed = [network for pair in zip(made(n), made(n, activation="tanh"), strict=True) for network in pair]
    train(mixed, [network.copy() for network in mixed], X, Y, epochs=2, lr=0.1)
    assert sorted(groups)[-2:] == [n, n]


@pytest.mark.skipif(lanes("float32") != 8, reason="what docs/scaling.md says is for vectors of 32 bytes")
def test_for_which_it_pays():
    def pays(sizes, dtype, **arguments):
        return made(1, sizes, dtype=dtype, **arguments)[0].model.engine.abreast > 1

    for sizes in ([3, 4, 1], [4, 8, 3], [4, 8, 8, 1], [10, 4, 1]):
        assert pays(sizes, "float32"), sizes
    assert pays([3, 4, 1], "float64")
    assert pays([4, 8, 3], "float32", loss="cross_entropy")
    assert not pays([8, 8, 8], "float32")
    assert not pays([4, 4, 9], "float32", loss="cross_entropy")  # an output has a lane of the loss's sum
    assert not pays([3, 4, 1], "float32", loss=lambda P, Y: (P - Y) ** 2)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c(groups):
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        n = lanes("float64")
        alone, many = both(n)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        history = nnc.fit_many(many, X[:5], Y[:5], epochs=10**8, lr=0.001, n_jobs=1)
    finally:
        signal.signal(signal.SIGINT, old)
    assert time.monotonic() - began < 30
    assert set(history.stop_reasons) == {"interrupt"}
    assert max(groups) == n
    for one, other in zip(alone, many, strict=True):
        one.fit(X[:5], Y[:5], epochs=other.history.epochs, lr=0.001, n_threads=1)
        assert one.params.tobytes() == other.params.tobytes()
        assert one.history.loss.tobytes() == other.history.loss.tobytes()
