"""Tests of L-BFGS and Levenberg-Marquardt on problems with known minima, and of their stop reasons."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnc import NeuralNetwork
from nnc._training import curvature
from nnc._training.curvature import lbfgs, levenberg_marquardt

RNG = np.random.default_rng(0)
T = np.linspace(0, 4, 50)


class Problem:
    """Least-squares problem: residuals and Jacobian in blocks of rows, and the functions that both optimizers need."""

    def __init__(self, residuals, jacobian, start, minimum, rows=7):
        self.residuals, self.jacobian = residuals, jacobian
        self.start, self.minimum = np.array(start, float), minimum
        self.rows = rows

    def blocks(self, p):
        r, J = self.residuals(p), self.jacobian(p)
        for i in range(0, len(r), self.rows):
            yield r[i : i + self.rows], J[i : i + self.rows]

    def loss(self, p):
        with np.errstate(over="ignore", invalid="ignore"):
            return float((self.residuals(p) ** 2).sum())

    def loss_and_gradient(self, p):
        with np.errstate(over="ignore", invalid="ignore"):
            return self.loss(p), 2 * self.jacobian(p).T @ self.residuals(p)


def linear():
    A, b = RNG.normal(size=(30, 4)), RNG.normal(size=30)
    return Problem(lambda p: A @ p - b, lambda p: A, np.zeros(4), np.linalg.lstsq(A, b, rcond=None)[0])


def rosenbrock():
    return Problem(
        lambda p: np.array([10 * (p[1] - p[0] ** 2), 1 - p[0]]),
        lambda p: np.array([[-20 * p[0], 10], [-1, 0]]),
        [-1.2, 1],
        [1, 1],
    )


def exponential(noise=0.0):
    y = 2.5 * np.exp(-1.3 * T) + 0.5 + noise * np.sin(17 * T)

    def jacobian(p):
        e = np.exp(-p[1] * T)
        return np.column_stack([e, -p[0] * T * e, np.ones_like(T)])

    return Problem(lambda p: p[0] * np.exp(-p[1] * T) + p[2] - y, jacobian, [1, 0.3, 0], [2.5, 1.3, 0.5])


def run_lm(problem, epochs=200, **settings):
    return levenberg_marquardt(problem.blocks, problem.loss, problem.start, epochs=epochs, **settings)


def run_lbfgs(problem, epochs=500, **settings):
    return lbfgs(problem.loss_and_gradient, problem.start, epochs=epochs, **settings)


for_both_optimizers = pytest.mark.parametrize("optimize", [run_lm, run_lbfgs])


# ------------------------------------------------------------------------------------------ minima


@for_both_optimizers
@pytest.mark.parametrize("make", [linear, rosenbrock, exponential])
def test_optimizers_find_known_minima(optimize, make):
    problem = make()
    start = problem.start.copy()
    params, losses, reason, *_ = optimize(problem)
    assert params == pytest.approx(problem.minimum, rel=1e-6)
    assert reason == "converged"
    assert params.dtype == np.float64
    assert losses[0] == problem.loss(start)
    assert losses[-1] == problem.loss(params)
    assert all(after < before for before, after in pairwise(losses))
    assert np.array_equal(problem.start, start)


def test_lm_solves_linear_problem_in_one_step():
    problem = linear()
    result = run_lm(problem, epochs=1, damping=1e-14)
    assert result.params == pytest.approx(problem.minimum, rel=1e-12)
    assert result.reason == "epochs"
    assert len(result.losses) == 2


@pytest.mark.parametrize("make", [linear, rosenbrock, lambda: exponential(noise=0.3)])
def test_lm_finds_same_minimum_as_minpack(make):
    optimize = pytest.importorskip("scipy.optimize")
    problem = make()
    expected = optimize.least_squares(
        problem.residuals, problem.start, problem.jacobian, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    result = run_lm(problem)
    assert result.losses[-1] == pytest.approx(2 * expected.cost, rel=1e-12, abs=1e-24)
    assert result.params == pytest.approx(expected.x, rel=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 50, 1000])
def test_lm_result_does_not_depend_on_block_size(rows):
    problem, one_block = exponential(), exponential()
    problem.rows, one_block.rows = rows, 50
    assert run_lm(problem, 5).params == pytest.approx(run_lm(one_block, 5).params, rel=1e-10)


def test_lm_result_does_not_depend_on_scale_of_parameters():
    scale = np.array([1e-3, 1.0, 1e3])
    plain = exponential(noise=0.3)
    scaled = Problem(
        lambda p: plain.residuals(p * scale), lambda p: plain.jacobian(p * scale) * scale, plain.start / scale, None
    )
    actual, expected = (
        run_lm(scaled, 5).losses,
        run_lm(plain, 5).losses,
    )  # two steps later, rounding decides which step is the last
    assert len(actual) == 6
    assert actual == pytest.approx(expected, rel=1e-9)


def test_lm_supports_irrelevant_and_redundant_parameters():
    # The residuals do not depend on one parameter, and only on the sum of the two others.
    def jacobian(p):
        return np.column_stack([T, T, 0 * T])

    problem = Problem(lambda p: (p[0] + p[1]) * T - 3 * T, jacobian, [0, 1, 7], None)
    result = run_lm(problem)
    assert result.params[0] + result.params[1] == pytest.approx(3)
    assert result.params[2] == 7
    assert result.reason == "converged"


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 8), extra=st.integers(-4, 8))
def test_lm_decreases_loss_of_random_neurons(seed, n, extra):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(max(1, n + extra), n)), rng.normal(size=max(1, n + extra))

    def jacobian(p):
        return X * (1 - np.tanh(X @ p) ** 2)[:, None]

    problem = Problem(lambda p: np.tanh(X @ p) - y, jacobian, rng.normal(size=n), None)
    params, losses, reason, *_ = run_lm(problem, 50)
    assert reason in ("converged", "epochs")
    assert losses[-1] == problem.loss(params) <= losses[0]
    assert all(after < before for before, after in pairwise(losses))


@for_both_optimizers
def test_start_at_minimum_converges_immediately(optimize):
    problem = rosenbrock()
    problem.start = np.ones(2)
    params, losses, reason, *_ = optimize(problem)
    assert params.tolist() == [1, 1]
    assert (losses, reason) == ([0], "converged")


# ------------------------------------------------------------------------------------------ L-BFGS


def rosenbrock_chain(p):
    """Return Rosenbrock's function in any number of dimensions and its gradient; the minimum is 0 at (1, ..., 1)."""
    a, b = 10 * (p[1:] - p[:-1] ** 2), 1 - p[:-1]
    gradient = np.zeros(len(p))
    gradient[1:] += 20 * a
    gradient[:-1] -= 40 * a * p[:-1] + 2 * b
    return float(a @ a + b @ b), gradient


def quadratic(n, condition):
    """Return a quadratic function with the minimum -1 at (3, ..., 3)."""
    h = np.geomspace(1, condition, n)

    def loss_and_gradient(p):
        with np.errstate(over="ignore"):
            return float(0.5 * (h * (p - 3)) @ (p - 3)) - 1, h * (p - 3)

    return loss_and_gradient


@pytest.mark.parametrize("n", [2, 5, 10, 100])
def test_lbfgs_minimizes_rosenbrock_in_many_dimensions(n):
    params, losses, reason, *_ = lbfgs(rosenbrock_chain, np.tile([-1.2, 1], n // 2 + 1)[:n], epochs=2000)
    assert reason == "converged"
    if n < 5:  # with more dimensions there is a second minimum near (-1, 1, ..., 1)
        assert params == pytest.approx(np.ones(n), rel=1e-6)
    assert np.abs(rosenbrock_chain(params)[1]).max() <= 1e-9
    assert losses[-1] == pytest.approx(0, abs=1e-15) or losses[-1] == pytest.approx(3.97, abs=0.03)


@pytest.mark.parametrize("history_size", [1, 10, 100])
def test_lbfgs_minimizes_ill_conditioned_quadratic(history_size):
    params, losses, reason, _, pairs = lbfgs(quadratic(20, 1e4), np.zeros(20), epochs=5000, history_size=history_size)
    assert reason == "converged"
    assert losses[-1] == pytest.approx(-1, rel=1e-11)
    assert params == pytest.approx(np.full(20, 3), rel=1e-5)
    assert len(pairs) <= history_size


def assert_strong_wolfe(evaluate, points):
    """Assert the strong Wolfe conditions for complete steps, which do not depend on the length of the direction."""
    for before, after in pairwise(points):
        (loss0, g0), (loss1, g1) = evaluate(before), evaluate(after)
        slope = float(g0 @ (after - before))
        assert slope < 0
        assert loss1 <= loss0 + 1e-4 * slope * (1 - 1e-6)
        assert abs(float(g1 @ (after - before))) <= 0.9 * abs(slope) * (1 + 1e-6)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 12), history_size=st.integers(1, 5))
def test_lbfgs_steps_meet_strong_wolfe_conditions(seed, n, history_size):
    points = [np.random.default_rng(seed).normal(0, 2, n)]
    lbfgs(
        rosenbrock_chain,
        points[0],
        epochs=12,
        history_size=history_size,
        gradient_tolerance=1e-3,  # stop before rounding errors decide whether a step is accepted
        keep_going=lambda epoch, loss, params, pairs: not points.append(params),
    )
    assert_strong_wolfe(rosenbrock_chain, points)


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1e4, 1e12])
def test_lbfgs_adapts_length_of_first_step(scale):
    """The scale of the loss does not determine the length of a step."""

    def scaled(p):
        loss, gradient = quadratic(5, 10)(p)
        return scale * (loss + 1), scale * gradient

    result = lbfgs(scaled, np.full(5, 1e3), epochs=200, gradient_tolerance=1e-9 * scale)
    assert result.params == pytest.approx(np.full(5, 3), rel=1e-6)
    assert result.reason == "converged"


def test_lbfgs_supports_gradients_whose_squares_overflow():
    result = lbfgs(lambda p: (1e200 * float(np.abs(p).sum()), 1e200 * np.sign(p)), [3.0, -2.0], epochs=20)
    assert result.losses[-1] < result.losses[0]
    assert np.isfinite(result.params).all()


@given(seed=st.integers(0, 2**32 - 1), bound=st.floats(1e-6, 10), values=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_lbfgs_stays_where_loss_and_gradient_are_finite(seed, bound, values):
    """Points with a loss or gradient that is not finite are rejected."""
    rng = np.random.default_rng(seed)
    start = rng.normal(0, 2, 4)

    def bounded(p):
        loss, gradient = rosenbrock_chain(p)
        if np.abs(p - start).max() <= bound:
            return loss, gradient
        return (values, gradient) if seed % 2 else (loss - 1e3, gradient * values)

    params, losses, reason, *_ = lbfgs(bounded, start, epochs=100)
    assert np.abs(params - start).max() <= bound
    assert all(after < before for before, after in pairwise(losses))
    assert losses[-1] == rosenbrock_chain(params)[0]
    assert reason in ("converged", "epochs", "diverged")
    assert len(losses) > 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("make", [rosenbrock, exponential])
@pytest.mark.parametrize("first", [1, 2, 7, 20])
def test_resumed_optimizers_give_same_bits(make, dtype, first):
    problem = make()
    settings = {"dtype": dtype, "history_size": 4}
    uninterrupted = run_lbfgs(problem, 35, **settings)
    interrupted = run_lbfgs(problem, first, **settings)
    problem.start = interrupted.params
    pairs = [(s.astype(dtype), y.astype(dtype)) for s, y in interrupted.pairs]
    assert_resumed(uninterrupted, interrupted, run_lbfgs(problem, 35 - first, pairs=pairs, **settings))

    problem = make()
    uninterrupted, interrupted = run_lm(problem, 35, dtype=dtype), run_lm(problem, first, dtype=dtype)
    problem.start = interrupted.params
    assert_resumed(uninterrupted, interrupted, run_lm(problem, 35 - first, damping=interrupted.damping, dtype=dtype))


def assert_resumed(uninterrupted, interrupted, resumed):
    assert interrupted.losses + resumed.losses[1:] == uninterrupted.losses
    assert np.array_equal(resumed.params, uninterrupted.params)
    assert (resumed.reason, resumed.damping) == (uninterrupted.reason, uninterrupted.damping)
    assert np.array_equal(resumed.pairs or [], uninterrupted.pairs or [])


@for_both_optimizers
def test_optimizers_evaluate_only_points_of_dtype(optimize):
    problem, points = rosenbrock(), []
    evaluate = problem.residuals

    def residuals(p):
        points.append(p)
        return evaluate(p)

    problem.residuals = residuals
    result = optimize(problem, dtype=np.float32)
    assert all(np.array_equal(p, p.astype(np.float32)) for p in [*points, result.params])
    assert result.params == pytest.approx([1, 1], rel=1e-3)


def test_resume_after_convergence_changes_nothing():
    """Resuming a converged optimizer changes neither the parameters nor the state for the next call."""
    for optimize in (run_lm, run_lbfgs):
        problem = exponential(noise=0.3)
        first = optimize(problem)
        problem.start = first.params
        memory = {"damping": first.damping} if optimize is run_lm else {"pairs": first.pairs}
        again = optimize(problem, **memory)
        assert (again.losses, again.reason) == (first.losses[-1:], "converged")
        assert (again.damping, again.pairs) == (first.damping, first.pairs)


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-150, 1e-8, 1.0, 1e8, 1e150, 1e300]))
def test_lbfgs_converges_with_unrelated_pairs(seed, scale):
    rng = np.random.default_rng(seed)
    pairs = [(scale * rng.normal(size=4), rng.normal(size=4)) for _ in range(6)]
    pairs[2] = np.zeros(4), np.zeros(4)
    result = lbfgs(quadratic(4, 10), rng.normal(size=4), epochs=200, pairs=pairs)
    assert result.params == pytest.approx(np.full(4, 3), rel=1e-5)
    assert len(pairs) == 6


def test_lbfgs_discards_pairs_of_negative_curvature():
    result = lbfgs(lambda p: (float(np.cos(p).sum()), -np.sin(p)), [1e-3, 2e-3], epochs=100)
    assert result.losses[-1] == pytest.approx(-2)
    assert all(s @ y > 0 for s, y in result.pairs)


def test_lbfgs_copies_gradients_of_function():
    """The function may return the same array each time."""
    buffer = np.empty(2)

    def reusing(p):
        loss, buffer[:] = rosenbrock_chain(p)
        return loss, buffer

    assert lbfgs(reusing, [-1.2, 1], epochs=500).losses == lbfgs(rosenbrock_chain, [-1.2, 1], epochs=500).losses


@pytest.mark.parametrize("function", [rosenbrock_chain, quadratic(10, 1e3)])
@pytest.mark.parametrize("epochs", [10, 30])
def test_lbfgs_is_no_worse_than_scipy(function, epochs):
    optimize = pytest.importorskip("scipy.optimize")
    start = np.tile([-1.2, 1.0], 5)
    options = {"maxiter": 2 * epochs, "maxcor": 10, "gtol": 0, "ftol": 0}
    evaluations = []

    def counted(p):
        evaluations.append(p)
        return function(p)

    ours = lbfgs(counted, start, epochs=2 * epochs)
    assert len(evaluations) <= 3 * epochs
    options["maxiter"] = epochs
    assert ours.losses[-1] <= optimize.minimize(function, start, method="L-BFGS-B", jac=True, options=options).fun


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("epochs", [20, 100, 400])
def test_lbfgs_is_no_worse_than_scipy_on_network(dtype, epochs):
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (200, 3))
    Y = np.sin(X @ rng.uniform(-2, 2, (3, 2)))
    net = NeuralNetwork([3, 10, 8, 2], activation="tanh", loss="mse", dtype=dtype, seed=1)
    data, start = net.converter.data(X, Y), net.params

    def loss_and_gradient(p):
        net.params = p
        loss, gradient = net.model.loss_and_gradient(data)
        return loss, gradient.astype(float)

    options = {"maxiter": epochs, "maxcor": 10, "gtol": 0, "ftol": 0}
    scipy_result = optimize.minimize(loss_and_gradient, start, method="L-BFGS-B", jac=True, options=options)
    net.params = start
    net.fit(X, Y, epochs=2 * epochs, optimizer="lbfgs")
    assert net.evaluate_loss(X, Y) <= scipy_result.fun


# ------------------------------------------------------------------------------------------ stop reasons


@for_both_optimizers
def test_optimizers_stop_after_epochs(optimize):
    result = optimize(rosenbrock(), 3)
    assert result.reason == "epochs"
    assert len(result.losses) == 4


@for_both_optimizers
def test_keep_going_sees_each_epoch_and_ends_run(optimize):
    seen = []

    def keep_going(epoch, loss, params, memory):
        seen.append((epoch, loss, params))
        return epoch < 4

    problem = rosenbrock()
    params, losses, reason, *_ = optimize(problem, keep_going=keep_going)
    assert reason == "callback"
    assert [epoch for epoch, _, _ in seen] == [1, 2, 3, 4]
    assert losses[1:] == [loss for _, loss, _ in seen] == [problem.loss(params) for _, _, params in seen]
    assert np.array_equal(params, seen[-1][2])


@for_both_optimizers
def test_error_in_keep_going_is_raised(optimize):
    with pytest.raises(ZeroDivisionError):
        optimize(rosenbrock(), keep_going=lambda epoch, loss, params, memory: 1 / 0)


@for_both_optimizers
@pytest.mark.parametrize("calls", [0, 5, 20])
def test_interrupt_returns_last_accepted_parameters(optimize, calls):
    problem = rosenbrock()
    residuals, left = problem.residuals, [calls]

    def interrupted(p):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return residuals(p)

    problem.residuals = interrupted
    params, losses, reason, *_ = optimize(problem)
    problem.residuals = residuals
    assert reason == "interrupt"
    if calls:
        assert losses[-1] == problem.loss(params) <= losses[0]
    else:
        assert losses == []
        assert np.array_equal(params, problem.start)


@for_both_optimizers
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_start_returns_diverged(optimize, value):
    problem = rosenbrock()
    problem.residuals = lambda p: np.array([value, 0.0])
    params, losses, reason, *_ = optimize(problem)
    assert np.array_equal(params, problem.start)
    assert len(losses) == 1
    assert reason == "diverged"


def test_nonfinite_jacobian_returns_diverged():
    problem = rosenbrock()
    jacobian = problem.jacobian
    problem.jacobian = lambda p: jacobian(p) if p[0] < 0 else jacobian(p) * np.nan
    params, losses, reason, *_ = run_lm(problem)
    assert reason == "diverged"
    assert losses[-1] == problem.loss(params) < losses[0]


@for_both_optimizers
def test_steps_out_of_domain_are_rejected(optimize):
    # From 30, the Gauss-Newton step for log p = 0 leads to 30 - 30 log 30, which is negative and has no logarithm.
    def residuals(p):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(p)

    problem = Problem(residuals, lambda p: np.diag(1 / p), [0.9, 30], [1, 1])
    params, losses, reason, *_ = optimize(problem)
    assert params == pytest.approx([1, 1], rel=1e-5)
    assert np.isfinite(losses).all()
    assert reason == "converged"


def test_lbfgs_recovers_from_step_out_of_domain():
    def loss_and_gradient(p):
        with np.errstate(invalid="ignore"):
            return float((100 * p - np.log(p)).sum()), 100 - 1 / p

    params, losses, reason, *_ = lbfgs(loss_and_gradient, [1.0, 2.0], epochs=500)
    assert params == pytest.approx([0.01, 0.01], rel=1e-4)
    assert np.isfinite(losses).all()
    assert reason == "converged"


def test_lbfgs_without_any_finite_step_returns_diverged():
    def loss_and_gradient(p):
        return (1.0, np.ones(2)) if not p.any() else (np.nan, np.ones(2))

    params, losses, reason, *_ = lbfgs(loss_and_gradient, [0.0, 0.0], epochs=10)
    assert params.tolist() == [0, 0]
    assert set(losses) == {1}
    assert reason == "diverged"


def test_lbfgs_converges_in_single_precision():
    # A float32 loss is noisy: the line search fails in the end, which is convergence.
    problem = exponential(noise=0.3)

    def loss_and_gradient(p):
        loss, gradient = problem.loss_and_gradient(p)
        return np.float32(loss), gradient.astype(np.float32)

    params, _, reason, *_ = lbfgs(loss_and_gradient, problem.start, epochs=500)
    assert reason == "converged"
    assert problem.loss(params) == pytest.approx(run_lm(problem).losses[-1], rel=1e-5)


def test_lm_increases_damping_until_matrix_is_positive_definite(monkeypatch):
    original, dampings = np.linalg.cholesky, []

    def refusing(matrix):
        dampings.append(matrix[0, 0] - 1)
        if len(dampings) < 4:
            raise np.linalg.LinAlgError
        return original(matrix)

    monkeypatch.setattr(curvature.np.linalg, "cholesky", refusing)  # rounding causes this only on some processors
    assert run_lm(linear(), 1).reason == "epochs"
    assert dampings == pytest.approx([1e-3, 1e-2, 1e-1, 1])


# ------------------------------------------------------------------------------------------ arguments


@for_both_optimizers
@pytest.mark.parametrize(
    ("start", "settings", "message"),
    [
        ([[1.0]], {}, r"params must be a vector of at least one number, got shape \(1, 1\)"),
        ([], {}, r"params must be a vector of at least one number, got shape \(0,\)"),
        ([1.0, np.nan], {}, "params must be finite, got nan"),
        (["a"], {}, "params must be an array of real numbers"),
        ([1.0, 1.0], {"epochs": 0}, "epochs must be 1 or more, got 0"),
        ([1.0, 1.0], {"epochs": 2.0}, r"epochs must be a whole number, got 2\.0"),
        ([1.0, 1.0], {"gradient_tolerance": -1}, "gradient_tolerance must be a finite number, 0 or more, got -1"),
    ],
)
def test_optimizers_reject_invalid_arguments(optimize, start, settings, message):
    problem = rosenbrock()
    problem.start = start
    with pytest.raises((TypeError, ValueError), match=message):
        optimize(problem, **settings)


def test_optimizers_reject_invalid_constants():
    with pytest.raises(ValueError, match="damping must be a positive finite number, got 0"):
        run_lm(rosenbrock(), damping=0)
    with pytest.raises(ValueError, match="step_tolerance must be a finite number, 0 or more, got nan"):
        run_lm(rosenbrock(), step_tolerance=np.nan)
    with pytest.raises(ValueError, match="history_size must be 1 or more, got 0"):
        run_lbfgs(rosenbrock(), history_size=0)


def test_lm_rejects_jacobian_of_wrong_shape():
    problem = rosenbrock()
    problem.jacobian = lambda p: np.ones((2, 3))
    with pytest.raises(ValueError, match=r"Jacobian \(rows, 2\), got shapes \(2,\) and \(2, 3\)"):
        run_lm(problem)
