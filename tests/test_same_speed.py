"""Tests of the workloads of tools/same_speed.py: each of them trains, from the same state in each repetition."""

import pytest
from programs import load_program

same_speed = load_program("tools/same_speed.py")


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("key", same_speed.TASKS)
def test_workload_trains_and_returns_duration(key):
    pytest.importorskip("sklearn")
    task = same_speed.TASKS[key]
    seconds, _ = task.run(1)()
    assert task.steps > 0
    assert seconds > 0


def test_levenberg_marquardt_takes_all_iterations_in_each_repetition():
    train = same_speed.prepare_equation("levenberg_marquardt", 2, 1)
    first, second = (train().loss.tolist() for _ in range(2))
    assert len(first) == 2
    assert first == second
