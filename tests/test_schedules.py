"""Tests of learning rate schedules: values as in PyTorch, serialization, invalid arguments and use in fits."""

import copy
import json
import math
import pickle
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import texts

import nnc
from nnc._training.schedules import (
    SCHEDULES,
    Constant,
    CosineLogLR,
    CosineLR,
    ExponentialLR,
    OneCycleLR,
    PerStep,
    PlateauState,
    ReduceLROnPlateau,
    Schedule,
    StepLR,
    Warmup,
    schedule_from_dict,
)

EXAMPLES = [
    Constant(0.1),
    StepLR(0.1, 3),
    StepLR(0.1, step_size=7, gamma=0.5),
    ExponentialLR(0.1, 0.9),
    CosineLR(0.1),
    CosineLR(0.1, 20, 0.01),
    CosineLogLR(0.1),
    CosineLogLR(0.1, 20, cycles=3),
    PerStep(CosineLogLR(0.1)),
    PerStep(Warmup(StepLR(0.1, 3), 5), epochs=7),
    OneCycleLR(0.1),
    OneCycleLR(0.1, 50, 0.25, 10.0, 100.0),
    Warmup(Constant(0.1), 5),
    Warmup(CosineLR(0.1), epochs=5, start_factor=0.01),
    ReduceLROnPlateau(0.1),
    ReduceLROnPlateau(0.1, 0.5, 2, 0.01, 0.001),
]


def rates(schedule, epochs):
    return [schedule(epoch) for epoch in range(epochs)]


# ------------------------------------------------------------------------------------------ comparison with PyTorch


def torch_rates(make, lr, epochs):
    """Return the learning rates of the chained schedulers that make(optimizer, torch.optim.lr_scheduler) builds."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedulers = make(optimizer, torch.optim.lr_scheduler)
    learning_rates = []
    for _ in range(epochs):
        learning_rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return learning_rates


def close(actual, expected, relative):
    return actual == pytest.approx(expected, rel=relative, abs=1e-18)


@pytest.mark.parametrize(("step_size", "gamma"), [(1, 0.9), (3, 0.1), (7, 0.5), (4, 1.5)])
def test_step_lr_matches_torch(step_size, gamma):
    expected = torch_rates(lambda o, s: [s.StepLR(o, step_size, gamma)], 0.3, 60)
    assert close(rates(StepLR(0.3, step_size, gamma), 60), expected, 1e-12)


@pytest.mark.parametrize("gamma", [0.5, 0.97, 1.0, 1.2])
def test_exponential_lr_matches_torch(gamma):
    expected = torch_rates(lambda o, s: [s.ExponentialLR(o, gamma)], 0.3, 200)
    assert close(rates(ExponentialLR(0.3, gamma), 200), expected, 1e-12)


@pytest.mark.parametrize("epochs", [1, 2, 10, 137])
@pytest.mark.parametrize("min_lr", [0.0, 0.01, 0.3])
def test_cosine_lr_matches_torch(epochs, min_lr):
    expected = torch_rates(lambda o, s: [s.CosineAnnealingLR(o, epochs, min_lr)], 0.3, epochs)
    # The results differ by rounding, because PyTorch computes each rate from the previous one.
    assert close(rates(CosineLR(0.3, epochs, min_lr), epochs), expected, 1e-10)


def test_cosine_lr_stays_at_its_minimum_after_the_end():
    assert rates(CosineLR(0.3, 10, 0.01), 15)[10:] == [0.01] * 5
    assert CosineLR(0.3, 10)(10) == 0


@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 137])
@pytest.mark.parametrize(
    ("pct_start", "div_factor", "final_div_factor"), [(0.3, 25.0, 1e4), (0.0, 2.0, 3.0), (0.9, 4.0, 1.0)]
)
def test_one_cycle_lr_matches_torch(epochs, pct_start, div_factor, final_div_factor):
    def make(optimizer, schedulers):
        constants = {"pct_start": pct_start, "div_factor": div_factor, "final_div_factor": final_div_factor}
        return [schedulers.OneCycleLR(optimizer, 0.3, epochs, cycle_momentum=False, **constants)]

    expected = torch_rates(make, 0.3, epochs)
    actual = rates(OneCycleLR(0.3, epochs, pct_start, div_factor, final_div_factor), epochs)
    assert close(actual, expected, 1e-12)


def test_one_cycle_lr_begins_at_maximum_if_rise_has_one_epoch():
    assert rates(OneCycleLR(0.5, 4, 0.25, 10, 10), 6) == pytest.approx([0.5, 0.37625, 0.12875, 0.005, 0.005, 0.005])
    assert OneCycleLR(0.5, 1, 1.0)(0) == 0.5


@pytest.mark.parametrize("start_factor", [1 / 3, 0.001, 1.0])
@pytest.mark.parametrize("inner", [Constant(0.3), StepLR(0.3, 4, 0.5), ExponentialLR(0.3, 0.9), CosineLR(0.3, 30)])
def test_warmup_matches_torch(inner, start_factor):
    def make(optimizer, schedulers):
        warmup = schedulers.LinearLR(optimizer, start_factor, total_iters=7)
        other = {
            Constant: list,
            StepLR: lambda: [schedulers.StepLR(optimizer, 4, 0.5)],
            ExponentialLR: lambda: [schedulers.ExponentialLR(optimizer, 0.9)],
            CosineLR: lambda: [schedulers.CosineAnnealingLR(optimizer, 30)],
        }[type(inner)]()
        return [warmup, *other]

    assert close(rates(Warmup(inner, 7, start_factor), 30), torch_rates(make, 0.3, 30), 1e-10)


# For negative losses, PyTorch counts an unchanged loss as an improvement.
LOSSES = st.lists(st.floats(0, 2) | st.sampled_from([0.0, 1.0, math.inf, math.nan]), min_size=1, max_size=80)


@given(
    losses=LOSSES,
    factor=st.floats(0.01, 0.99),
    patience=st.integers(0, 5),
    threshold=st.sampled_from([0.0, 1e-4, 0.3]),
    min_lr=st.sampled_from([0.0, 1e-3, 0.1]),
)
def test_plateau_matches_torch_and_resumes(losses, factor, patience, threshold, min_lr):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    expected = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=factor, patience=patience, threshold=threshold, min_lr=min_lr
    )
    schedule = ReduceLROnPlateau(0.1, factor, patience, threshold, min_lr)
    state = schedule.start()
    for loss in losses:
        expected.step(loss)
        state.observe(loss)
        assert state.lr == optimizer.param_groups[0]["lr"]
        assert (state.best, state.wait) == (expected.best, expected.num_bad_epochs)
        state = schedule.resume(json.loads(json.dumps(state.to_dict(), allow_nan=False)))


# ---------------------------------------------------------------------------------------- definitions and serialization


def test_schedules_follow_their_formulas():
    assert rates(Constant(0.5), 3) == [0.5, 0.5, 0.5]
    assert rates(StepLR(1, 2, 0.5), 6) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert rates(ExponentialLR(1, 0.5), 4) == [1, 0.5, 0.25, 0.125]
    assert rates(CosineLR(1, 4), 6) == pytest.approx([1, 0.5 + 2**-1.5, 0.5, 0.5 - 2**-1.5, 0, 0])
    assert rates(Warmup(Constant(1), 4, 0.2), 6) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    one_cycle = rates(OneCycleLR(1, 11, 4 / 11, 10, 100), 11)
    assert (one_cycle[0], one_cycle[3], one_cycle[10]) == pytest.approx((0.1, 1, 0.001))


def test_plateau_reduces_rate_after_patience():
    state = ReduceLROnPlateau(1.0, factor=0.5, patience=1, threshold=0.1, min_lr=0.3).start()
    learning_rates = []
    for loss in [10, 9.5, 8, 8, 8, 8, 8, 8, 8]:  # 9.5 is no improvement because of the threshold
        state.observe(loss)
        learning_rates.append(state.lr)
    assert learning_rates == [1, 1, 1, 1, 0.5, 0.5, 0.3, 0.3, 0.3]
    assert state.best == 8


def test_exponential_lr_overflows_to_infinity_and_underflows_to_zero():
    assert ExponentialLR(1, 10)(400) == math.inf
    assert ExponentialLR(1, 0.1)(400) == 0


def test_plateau_cannot_be_called_with_epoch():
    with pytest.raises(TypeError, match=r"schedule\.start\(\)"):
        ReduceLROnPlateau(0.1)(0)


@pytest.mark.parametrize("schedule", [CosineLR(0.1), OneCycleLR(0.1), Warmup(CosineLR(0.1), 3)], ids=repr)
def test_resolved_sets_missing_length(schedule):
    with pytest.raises(ValueError, match="has no length; set its epochs, or call resolved"):
        schedule(0)
    resolved = schedule.resolved(30)
    assert all(rate > 0 for rate in rates(resolved, 30))
    assert resolved.resolved(70) == resolved
    # `resolved` returned a new schedule, and the original still has no length.
    with pytest.raises(ValueError, match="has no length"):
        schedule(0)


@pytest.mark.parametrize("schedule", [s for s in EXAMPLES if "None" not in repr(s)], ids=repr)
def test_resolved_keeps_given_length(schedule):
    assert schedule.resolved(1000) == schedule


@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
def test_schedule_survives_dict_pickle_copy_and_repr(schedule):
    d = json.loads(json.dumps(schedule.to_dict(), allow_nan=False))
    assert d["name"] == type(schedule).__name__
    assert schedule_from_dict(d) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule == copy.deepcopy(schedule)
    assert eval(repr(schedule)) == schedule
    assert len({schedule, schedule_from_dict(d)}) == 1


def test_examples_cover_all_schedules():
    assert set(SCHEDULES) == {type(schedule).__name__ for schedule in EXAMPLES}
    assert all(issubclass(kind, Schedule) for kind in SCHEDULES.values())


def test_to_dict_converts_numpy_numbers():
    np = pytest.importorskip("numpy")
    d = StepLR(np.float32(0.5), np.int64(3)).to_dict()
    assert d == {"name": "StepLR", "lr": 0.5, "step_size": 3, "gamma": 0.1}
    assert [type(value) for value in d.values()] == [str, float, int, float]


def test_schedule_is_immutable():
    with pytest.raises(AttributeError):
        Constant(0.1).lr = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(0), "lr must be a positive finite number, got 0"),
        (lambda: Constant(math.nan), "lr must be a positive finite number, got nan"),
        (lambda: Constant("0.1"), "lr must be a number, got '0.1'"),
        (lambda: Constant(True), "lr must be a number, got True"),
        (lambda: Constant(10**400), "lr must be a number in the range of a float"),
        (lambda: StepLR(0.1, 0), "step_size must be 1 or more, got 0"),
        (lambda: StepLR(0.1, 2.0), "step_size must be a whole number, got 2.0"),
        (lambda: StepLR(0.1, 2, -1), "gamma must be a positive finite number, got -1"),
        (lambda: ExponentialLR(0.1, math.inf), "gamma must be a positive finite number, got inf"),
        (lambda: CosineLR(0.1, -5), "epochs must be 1 or more, got -5"),
        (lambda: CosineLR(0.1, min_lr=-1), "min_lr must be a finite number, 0 or more, got -1"),
        (lambda: CosineLR(0.1, min_lr=0.2), "min_lr must be at most lr, which is 0.1, got 0.2"),
        (lambda: OneCycleLR(0.1, pct_start=1.5), "pct_start must be from 0 to 1, got 1.5"),
        (lambda: OneCycleLR(0.1, div_factor=0), "div_factor must be a positive finite number, got 0"),
        (lambda: OneCycleLR(0.1, final_div_factor=None), "final_div_factor must be a number, got None"),
        (lambda: Warmup(0.1, 5), r"schedule must be a Schedule, such as Constant\(0\.1\), got 0\.1"),
        (lambda: Warmup(ReduceLROnPlateau(0.1), 5), "schedule must not be Warmup, PerStep or ReduceLROnPlateau"),
        (lambda: Warmup(Warmup(Constant(0.1), 5), 5), "schedule must not be Warmup, PerStep or ReduceLROnPlateau"),
        (lambda: Warmup(Constant(0.1), None), "epochs must be a whole number, got None"),
        (lambda: Warmup(Constant(0.1), 5, 0), "start_factor must be above 0 and at most 1, got 0"),
        (lambda: ReduceLROnPlateau(0.1, 1.0), "factor must be above 0 and below 1, got 1.0"),
        (lambda: ReduceLROnPlateau(0.1, patience=-1), "patience must be 0 or more, got -1"),
        (lambda: ReduceLROnPlateau(0.1, threshold=1), "threshold must be at least 0 and below 1, got 1"),
        (lambda: ReduceLROnPlateau(0.1, min_lr=1), "min_lr must be at most lr"),
    ],
)
def test_schedules_reject_invalid_arguments(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


NESTED_WARMUP = {"name": "Constant", "lr": 0.1}
for _ in range(5000):
    NESTED_WARMUP = {"name": "Warmup", "epochs": 1, "schedule": NESTED_WARMUP}


@pytest.mark.parametrize(
    ("d", "message"),
    [
        (None, "must be an object with a name and constants, got None"),
        ([1], "must be an object"),
        ({}, "must be one of Constant, StepLR, .*, got None"),
        ({"name": "Nope"}, "must be one of .*, got 'Nope'"),
        ({"name": ["Constant"], "lr": 0.1}, "must be one of"),
        ({"name": "StepLR", "lr": 0.1}, "StepLR requires the constant 'step_size', which is missing"),
        ({"name": "Constant", "lr": 0.1, "rate": 1}, "constants of the schedule Constant must be lr, got 'rate'"),
        ({"name": "Constant", "lr": "much"}, "Constant is invalid: lr must be a number, got 'much'"),
        ({"name": "Constant", "lr": [0.1]}, "Constant is invalid: lr must be a number"),
        ({"name": "CosineLR", "lr": 0.1, "epochs": 2.5}, "CosineLR is invalid: epochs must be a whole number"),
        ({"name": "Constant", "lr": NESTED_WARMUP}, "Constant is invalid: lr must be a number"),
        ({"name": "Warmup", "schedule": 3, "epochs": 5}, "Warmup is invalid: schedule must be a Schedule"),
        ({"name": "Warmup", "schedule": {"name": "No"}, "epochs": 5}, "Warmup is invalid: the name of a schedule"),
        (NESTED_WARMUP, "a Warmup schedule must not contain a Warmup schedule"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_schedule_from_dict_rejects_invalid_content(d, message):
    with pytest.raises(ValueError, match=message):
        schedule_from_dict(d)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(name=st.sampled_from(sorted(SCHEDULES)), data=st.data())
def test_schedule_from_dict_of_any_content_loads_or_raises_value_error(name, data):
    keys = sorted({key for schedule in EXAMPLES for key in schedule.to_dict()} - {"name"})
    d = {"name": name, **data.draw(st.dictionaries(st.sampled_from(keys), ANYTHING))}
    with suppress(ValueError):
        assert isinstance(schedule_from_dict(d), Schedule)


@given(state=ANYTHING | st.fixed_dictionaries({"lr": ANYTHING, "best": ANYTHING, "wait": ANYTHING}))
def test_plateau_state_of_any_content_loads_or_raises_value_error(state):
    schedule = ReduceLROnPlateau(0.1)
    with suppress(ValueError):
        assert isinstance(schedule.resume(state), PlateauState)


# ----------------------------------------------------------------------------------------------- use in fits

ENDLESS_SCHEDULES = [nnc.Constant(0.1), nnc.StepLR(0.1, 5), nnc.ExponentialLR(0.1, 0.9), nnc.ReduceLROnPlateau(0.1)]
FINITE_SCHEDULES = [nnc.CosineLR(0.1), nnc.CosineLR(0.1, min_lr=0.01), nnc.OneCycleLR(0.1)]
ROWS = np.arange(12.0).reshape(6, 2) / 12, np.arange(6.0) / 6


def network():
    return nnc.NeuralNetwork([2, 3, 1], activation="tanh", loss="mse", seed=0)


@pytest.mark.parametrize(
    "schedule", [*FINITE_SCHEDULES, *(nnc.Warmup(inner, 3) for inner in FINITE_SCHEDULES)], ids=repr
)
def test_fit_without_epochs_rejects_schedule_without_length(schedule):
    for fit in (
        lambda net: net.fit(*ROWS, max_seconds=0.01, lr=schedule),
        lambda net: net.fit_batches([ROWS], epochs=None, max_seconds=0.01, lr=schedule),
    ):
        with pytest.raises(ValueError, match="a fit without epochs requires a schedule of a fixed length"):
            fit(network())
    assert network().fit(*ROWS, callback=lambda record: record.epoch == 4, lr=schedule.resolved(9)).epochs == 4


@pytest.mark.parametrize("schedule", [*ENDLESS_SCHEDULES, nnc.Warmup(nnc.StepLR(0.1, 5), 3)], ids=repr)
def test_fit_without_epochs_accepts_endless_schedules(schedule):
    assert network().fit(*ROWS, callback=lambda record: record.epoch == 4, lr=schedule).epochs == 4


ENDED_SCHEDULES = [
    nnc.CosineLR(0.1),
    nnc.Warmup(nnc.CosineLR(0.1), 3),
    nnc.CosineLR(0.1, epochs=5),
    nnc.ExponentialLR(0.1, 1e-300),
]


@pytest.mark.filterwarnings("ignore::nnc.LearningRateWarning")
@pytest.mark.parametrize("schedule", ENDED_SCHEDULES, ids=repr)
def test_fit_after_end_of_schedule_raises(schedule):
    net = network()
    net.fit(*ROWS, epochs=5, lr=schedule)
    before = net.to_json(checkpoint=True)
    for again in (net, nnc.from_json(before)):
        for fit in (lambda net: net.fit(*ROWS, epochs=5), lambda net: net.fit_batches([ROWS])):
            with pytest.raises(ValueError, match=r"is 0 from epoch 5 on .* pass lr again.*or reset_optimizer=True"):
                fit(again)
        assert again.to_json(checkpoint=True) == before
    with pytest.raises(ValueError, match="is 0 from epoch 5 on"):
        net.fit(*ROWS, epochs=5, lr=nnc.CosineLR(0.1, epochs=5))
    assert net.fit(*ROWS, epochs=5, lr=0.1).epochs == 5
    assert net.fit(*ROWS, epochs=5, optimizer="sgd").lr[0] == 0.1
    assert net.fit(*ROWS, epochs=5, optimizer="sgd", reset_optimizer=True).lr[0] == 0.001


def test_learning_rate_function_may_start_at_0():
    assert network().fit(*ROWS, epochs=5, lr=lambda epoch: 0.1 * epoch).lr[0] == 0


@pytest.mark.parametrize("value", [65, 1024, 2**63, 10**400, np.inf, 1e308, np.nan])
def test_cosine_log_lr_rejects_too_many_cycles(value):
    with pytest.raises((TypeError, ValueError), match=r"^cycles must be "):
        CosineLogLR(0.1, cycles=value)
    rates = [CosineLogLR(0.1, 100, cycles=64)(epoch) for epoch in range(101)]
    assert np.isfinite(rates).all()


@pytest.mark.parametrize("value", [2**63, 10**400, np.inf, 1e308])
def test_schedules_and_fit_reject_lengths_beyond_2_to_53(value):
    for make in (
        lambda: CosineLR(0.1, value),
        lambda: CosineLogLR(0.1, value),
        lambda: OneCycleLR(0.1, value),
        lambda: PerStep(CosineLR(0.1), value),
        lambda: StepLR(0.1, value),
        lambda: Warmup(CosineLR(0.1), value),
        lambda: ReduceLROnPlateau(0.1, patience=value),
        lambda: nnc.NeuralNetwork([2, 1], loss="mse").fit([[1, 2]], [1], epochs=value, lr=0.1),
    ):
        with pytest.raises((TypeError, ValueError), match=r"must be (a whole number|9007199254740991 or less), got"):
            make()
