"""Tests of PerStep, which changes the learning rate at each step, and of CosineLogLR."""

import math

import numpy as np
import pytest

import nnc
from nnc._training.schedules import (
    CosineLogLR,
    CosineLR,
    ExponentialLR,
    OneCycleLR,
    PerStep,
    ReduceLROnPlateau,
    StepLR,
    Warmup,
)

rng = np.random.default_rng(0)
ROWS, TARGETS = rng.uniform(-1, 1, (22, 3)), rng.uniform(-1, 1, (22, 1))  # batches of 8 rows give three steps per epoch
SCHEDULES = [
    CosineLR(0.1), CosineLogLR(0.1), OneCycleLR(0.1), StepLR(0.1, 4, 0.5), Warmup(ExponentialLR(0.1, 0.9), 5)
]  # fmt: skip


def build_network():
    return nnc.NeuralNetwork([3, 20, 1], activation="tanh", loss="mse", seed=0)


def test_cosine_log_lr_has_cycles_of_doubling_length():
    """The rate is 0 between cycles and largest in the middle of each cycle, measured on a logarithmic axis."""
    schedule = CosineLogLR(0.3, epochs=150)
    for cycle in range(4):
        start = 10 * (2**cycle - 1)
        assert schedule(start) == pytest.approx(0, abs=1e-15)
        middle = 10 * (2 ** (cycle + 0.5) - 1)
        assert schedule(round(middle)) == pytest.approx(0.3, rel=5e-3)
    assert schedule(150) == schedule(200) == pytest.approx(0, abs=1e-15)
    t = 37 / 150
    assert schedule(37) == pytest.approx(0.3 * 0.5 * (1 - math.cos(2 * math.pi * math.log2(1 + 15 * t))), rel=1e-14)
    assert not schedule.is_over(0)
    assert schedule.is_over(150)


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_per_step_fit_equals_single_steps_with_rates_of_schedule(optimizer, schedule):
    net, other = build_network(), build_network()
    history = net.fit(
        ROWS, TARGETS, epochs=4, batch_size=8, shuffle=False, optimizer=optimizer, lr=PerStep(schedule), n_threads=1
    )
    resolved = schedule.resolved(12)
    assert history.lr.tolist() == [resolved(step) for step in (0, 3, 6, 9)]
    for step in range(12):
        rows = slice(step % 3 * 8, step % 3 * 8 + 8)
        rate = resolved(step)
        # lr must be positive if it is a number, but a function may return 0.
        options = {"lr": lambda epoch, rate=rate: rate}
        other.train_step(ROWS[rows], TARGETS[rows], optimizer=optimizer if step == 0 else None, **options)
    assert net.params.tobytes() == other.params.tobytes()


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_per_step_schedule_resumes_from_checkpoint(n_threads):
    settings = {"batch_size": 8, "n_threads": n_threads}
    uninterrupted = build_network()
    uninterrupted.fit(ROWS, TARGETS, epochs=6, optimizer="adam", lr=PerStep(CosineLR(0.1)), **settings)
    resumed = build_network()
    resumed.fit(ROWS, TARGETS, epochs=2, optimizer="adam", lr=PerStep(CosineLR(0.1), epochs=6), **settings)
    resumed = nnc.from_json(resumed.to_json(checkpoint=True))
    records = []
    resumed.fit(ROWS, TARGETS, epochs=4, callback=records.append, **settings)
    assert resumed.params.tobytes() == uninterrupted.params.tobytes()
    assert [record.lr for record in records] == uninterrupted.history.lr[2:].tolist()
    with pytest.raises(ValueError, match="is 0 from epoch 6 on"):
        resumed.fit(ROWS, TARGETS, epochs=1, **settings)


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
def test_per_step_rates_match_pytorch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    torch_schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12)
    net = build_network()
    net.fit(ROWS, TARGETS, epochs=4, batch_size=8, lr=PerStep(OneCycleLR(0.1)))
    for step in range(12):
        assert net.state.schedule.at(3)(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-13)
        optimizer.step()
        torch_schedule.step()


def test_per_step_rejects_fits_of_unknown_length():
    batches = [(ROWS[:8], TARGETS[:8]), (ROWS[8:], TARGETS[8:])]
    with pytest.raises(ValueError, match="fit_batches requires a schedule that counts epochs"):
        build_network().fit_batches(batches, epochs=2, lr=PerStep(CosineLR(0.1)))
    with pytest.raises(ValueError, match="a fit without epochs requires a schedule of a fixed length"):
        build_network().fit(ROWS, TARGETS, patience=3, lr=PerStep(CosineLR(0.1)))
    for schedule in (PerStep(CosineLR(0.1)), ReduceLROnPlateau(0.1)):
        with pytest.raises(ValueError, match="schedule must not be PerStep or ReduceLROnPlateau, got"):
            PerStep(schedule)
    with pytest.raises(TypeError, match="schedule must be a Schedule"):
        PerStep(0.1)
