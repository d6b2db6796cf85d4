"""Tests of L-BFGS and Levenberg-Marquardt on problems with known minima, and of their stop reasons."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnc
from nnc import NeuralNetwork
from nnc._model import cores
from nnc._training import curvature, second_order
from nnc._training.second_order import NetworkObjective
from nnc._utils import memory

pytestmark = pytest.mark.engine

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


def complete(iterations, seen=None):
    """Return the Result after all iterations, which are appended to the list `seen`."""
    while True:
        try:
            iteration = next(iterations)
        except StopIteration as end:
            return end.value
        if seen is not None:
            seen.append(iteration)


def lbfgs(*arguments, seen=None, **settings):
    return complete(curvature.lbfgs(*arguments, **settings), seen)


def run_lm(problem, epochs=200, seen=None, **settings):
    iterations = curvature.levenberg_marquardt(problem.blocks, problem.loss, problem.start, epochs=epochs, **settings)
    return complete(iterations, seen)


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


def test_lm_with_marquardt_scaling_does_not_depend_on_scale_of_parameters():
    scale = np.array([1e-3, 1.0, 1e3])
    plain = exponential(noise=0.3)
    scaled = Problem(
        lambda p: plain.residuals(p * scale), lambda p: plain.jacobian(p * scale) * scale, plain.start / scale, None
    )
    # Compare five steps: two steps later, rounding would decide which step is the last.
    actual, expected = (run_lm(problem, 5, scaling="marquardt").losses for problem in (scaled, plain))
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
    if n < 5:  # for larger n, Rosenbrock's function has a second minimum near (-1, 1, ..., 1)
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
    start, seen = np.random.default_rng(seed).normal(0, 2, n), []
    lbfgs(
        rosenbrock_chain,
        start,
        epochs=12,
        history_size=history_size,
        gradient_tolerance=1e-3,  # stop before rounding errors decide whether a step is accepted
        seen=seen,
    )
    assert_strong_wolfe(rosenbrock_chain, [start, *(iteration.params for iteration in seen)])


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
    """L-BFGS must copy each gradient, because the function may write all of them to the same array."""
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
def test_each_iteration_is_yielded(optimize):
    seen, problem = [], rosenbrock()
    params, losses, reason, *_ = optimize(problem, 4, seen=seen)
    assert reason == "epochs"
    assert [iteration.epoch for iteration in seen] == [1, 2, 3, 4]
    assert losses[1:] == [iteration.loss for iteration in seen] == [problem.loss(step.params) for step in seen]
    assert np.array_equal(params, seen[-1].params)


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


def test_lm_increases_damping_until_matrix_is_positive_definite():
    # In float64, 1e16 + damping rounds to 1e16 for a damping of at most 1, so J'J + damping I is singular.
    problem = Problem(lambda p: 1e8 * (p[:1] + p[1:]) - 3, lambda p: np.full((1, 2), 1e8), [0, 0], None)
    result = run_lm(problem, 1)
    assert result.reason == "epochs"
    # The damping grows by 1.5 until it exceeds 1; the accepted step divides it by 10.
    assert result.damping == pytest.approx(1e-3 * 1.5**18 / 10)
    assert result.losses[1] < 1e-12


# ------------------------------------------------------------------------------------------ linear algebra


CORES = [(isa, dtype) for isa in cores.available() for dtype in ("f64", "f32")]


@pytest.mark.parametrize(("isa", "dtype"), CORES)
@pytest.mark.parametrize(("n", "rows"), [(1, 1), (5, 3), (16, 16), (33, 70), (64, 128), (147, 300), (330, 100)])
def test_kernels_solve_normal_equations(isa, dtype, n, rows):
    core = cores._module(f"nnc._core_{isa}_{dtype}")
    rng = np.random.default_rng(n)
    number = np.float64 if dtype == "f64" else np.float32
    eps = float(np.finfo(number).eps)
    width = -(-(n + 1) // core.LANES) * core.LANES
    J = np.zeros((rows, width), number)
    J[:, : n + 1] = rng.normal(size=(rows, n + 1))
    A = np.zeros((width, width), number)
    core.add_gram(J, A)
    core.add_gram(J, A)
    expected = 2 * J.T.astype(np.float64) @ J
    np.testing.assert_allclose(np.triu(A), np.triu(expected), rtol=0, atol=20 * eps * rows)
    A[np.diag_indices(n)] += n
    expected[np.diag_indices(n)] += n
    x, b = np.zeros(width, number), rng.normal(size=n)
    x[:n] = b
    assert core.cholesky(A, n)
    factor = np.linalg.cholesky(expected[:n, :n]).T
    np.testing.assert_allclose(np.triu(A[:n, :n]), factor, rtol=1e3 * eps, atol=1e3 * eps)
    core.solve_cholesky(A, x, n)
    assert x[:n] == pytest.approx(np.linalg.solve(expected[:n, :n], b), rel=1e3 * eps, abs=100 * eps)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("isa", "dtype"), CORES)
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("position", [0, 40, 99])
def test_cholesky_rejects_matrices_that_are_not_positive_definite(isa, dtype, value, position):
    core = cores._module(f"nnc._core_{isa}_{dtype}")
    A = np.eye(112, dtype=np.float64 if dtype == "f64" else np.float32)
    assert core.cholesky(A.copy(), 100)
    A[position, position] = value
    assert not core.cholesky(A, 100)


# ------------------------------------------------------------------------------------------ networks

SMALL_X = np.linspace(-3, 3, 150)[:, None]
SMALL_Y = np.sin(3 * SMALL_X) / (1 + SMALL_X**2)


def small_network(seed=0, layers=(1, 16, 1), **settings):
    return NeuralNetwork(list(layers), **{"activation": "tanh", "loss": "mse", "seed": seed, **settings})


def test_lm_converges_on_small_regression():
    """With the former rule (damping times 10 or divided by 10, Marquardt's scaling), all losses exceed 1e-6."""
    losses = []
    for seed in range(2):
        net = small_network(seed, [1, 16, 16, 1])
        net.fit(SMALL_X, SMALL_Y, epochs=60, optimizer="levenberg_marquardt")
        losses.append(net.evaluate_loss(SMALL_X, SMALL_Y))
    assert max(losses) < 1e-6


def test_geodesic_acceleration_is_second_derivative_along_step():
    """On quadratic residuals the difference quotient is exact; the first step is compared with the formula."""
    rng = np.random.default_rng(0)
    B, C = rng.normal(size=(2, 9, 3)), rng.normal(size=9)

    def residuals(p):
        return (B[0] @ p) * (B[1] @ p) / 8 + B[0] @ p - C

    def jacobian(p):
        return (B[0] * (B[1] @ p)[:, None] + B[1] * (B[0] @ p)[:, None]) / 8 + B[0]

    problem = Problem(residuals, jacobian, [0.3, -0.2, 0.1], None)
    p, damping = problem.start, 5.0
    J = jacobian(p)
    A = J.T @ J + damping * np.eye(3)
    step = -np.linalg.solve(A, J.T @ residuals(p))
    second = 2 * (B[0] @ step) * (B[1] @ step) / 8
    expected = p + step - 0.5 * np.linalg.solve(A, J.T @ second)
    result = run_lm(problem, 1, damping=damping, transposed_product=lambda p, q: jacobian(p).T @ residuals(q))
    assert result.params == pytest.approx(expected, rel=1e-10)
    assert run_lm(problem, 1, damping=damping).params == pytest.approx(p + step, rel=1e-12)


SUM_FACTORS = {"sse": 80, "half_sse": 40}  # sse and half_sse of 40 rows and 2 outputs, divided by the mse


@pytest.mark.parametrize("settings", [{}, {"l2": 1e-3}, {"sample_weight": np.linspace(0.2, 1.8, 40)}], ids=str)
@pytest.mark.parametrize(
    "loss", ["mse", "sse", "half_sse", nnc.LeastSquares(lambda P, Y: (P - Y, np.eye(2) + 0 * P[..., None]))]
)
def test_transposed_product_is_that_of_jacobian(loss, settings):
    """`transposed_product` computes by backpropagation what `least_squares` and `residuals` give directly."""
    rng = np.random.default_rng(3)
    net = NeuralNetwork([3, 5, 2], activation="tanh", loss=loss, seed=1, output="identity")
    X, Y, checked = rng.normal(size=(40, 3)), rng.normal(size=(40, 2)), []

    class Objective(NetworkObjective):
        def transposed_product(self, params, point):
            product = super().transposed_product(params, point)
            J = np.concatenate([J for _, J in self.least_squares(params)])
            r = np.concatenate([r for r, _ in self.least_squares(point)])
            np.testing.assert_allclose(product, J.T @ r, rtol=5e-11, atol=5e-13)
            assert float(r @ r) * SUM_FACTORS.get(loss, 1) == pytest.approx(self.loss(point), rel=1e-12)
            checked.append(product)
            return product

    with pytest.MonkeyPatch.context() as patch:
        # Patched, because the public API does not return the product.
        patch.setattr(second_order, "NetworkObjective", Objective)
        net.fit(X, Y, epochs=3, optimizer="levenberg_marquardt", **settings)
        if isinstance(loss, str):
            dY = np.where(rng.random((40, 2, 3)) < 0.2, np.nan, 0.5)
            net.fit(X, Y, epochs=3, optimizer="levenberg_marquardt", dY=dY, **settings)
    assert checked


def identity_residuals(P, Y):
    return P - Y, np.broadcast_to(np.eye(P.shape[1]), (*P.shape, P.shape[1]))


def fitted(net, X, Y, epochs=10, **settings):
    net.fit(X, Y, epochs=epochs, optimizer="levenberg_marquardt", **settings)
    return net.params


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_residual_loss_trains_like_mse(dtype):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(60, 3)), np.sin(rng.normal(size=(60, 2)))
    nets = [
        NeuralNetwork([3, 6, 2], activation="tanh", output="identity", loss=loss, seed=2, dtype=dtype)
        for loss in ("mse", nnc.LeastSquares(identity_residuals))
    ]
    assert nets[1].evaluate_loss(X, Y) == pytest.approx(nets[0].evaluate_loss(X, Y), rel=1e-6)
    params = [fitted(net, X, Y, 5) for net in nets]
    assert params[1] == pytest.approx(
        params[0], rel=1e-6 if dtype == "float64" else 0.02, abs=0.01 * (dtype == "float32")
    )


def test_residuals_of_several_outputs_train_together():
    """Train on one residual for two outputs: the difference between their product and the target."""
    net = NeuralNetwork(
        [1, 8, 2],
        activation="tanh",
        seed=0,
        loss=nnc.LeastSquares(lambda P, Y: (P[:, 0] * P[:, 1] - Y[:, 0], P[:, ::-1])),
    )
    y = np.cos(SMALL_X)
    assert nnc.check_gradients(net, SMALL_X[:7], y[:7]).ok
    fitted(net, SMALL_X, y, 60)
    P = net.predict(SMALL_X)
    assert np.abs(P[:, 0] * P[:, 1] - y[:, 0]).max() < 0.1


def test_residual_loss_outside_its_domain_rejects_steps():
    def residuals(P, Y):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(P[:, 0]) - Y[:, 0], 1 / P

    net = NeuralNetwork([1, 1], loss=nnc.LeastSquares(residuals), init=[[[0.0]]], seed=0)
    net.biases = [[30.0]]
    fitted(net, np.zeros((4, 1)), np.zeros(4), 50)
    assert net.biases[0] == pytest.approx([1.0], rel=1e-6)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda P, Y: P - Y, TypeError, r"must return a pair, \(residuals, d residuals / d P\), got ndarray"),
        (lambda P, Y: ((P - Y)[:2], P), ValueError, r"must return residuals of shape \(5,\) or \(5, m\), got \(2, 2\)"),
        (lambda P, Y: (P - Y, P), ValueError, r"d residuals / d P of shape \(5, 2, 2\), got \(5, 2\)"),
    ],
)
def test_residual_loss_names_wrong_results(function, error, message):
    net = NeuralNetwork([3, 2], loss=nnc.LeastSquares(function), seed=0)
    with pytest.raises(error, match=message):
        net.fit(np.ones((5, 3)), np.ones((5, 2)), epochs=1, optimizer="levenberg_marquardt")


def test_least_squares_requires_function():
    with pytest.raises(TypeError, match="function must be a function of P and Y, got str"):
        nnc.LeastSquares("mse")


def test_residual_loss_resumes_from_file(tmp_path):
    loss = nnc.LeastSquares(identity_residuals)
    net, part = small_network(loss=loss), small_network(loss=loss)
    expected = fitted(net, SMALL_X, SMALL_Y, 12)
    fitted(part, SMALL_X, SMALL_Y, 5)
    part.save(tmp_path / "net.json", checkpoint=True)
    again = nnc.load(tmp_path / "net.json", loss=loss)
    again.fit(SMALL_X, SMALL_Y, epochs=7)
    assert again.params.tobytes() == expected.tobytes()


def test_sample_weights_of_residual_loss_in_single_calls():
    rng = np.random.default_rng(0)
    X, Y, counts = rng.normal(size=(40, 3)), rng.normal(size=(40, 2)), rng.integers(0, 4, 40)
    repeated = X.repeat(counts, axis=0), Y.repeat(counts, axis=0)
    weighted, plain = (small_network(loss=nnc.LeastSquares(identity_residuals), layers=[3, 6, 2]) for _ in range(2))
    assert weighted.evaluate_loss(X, Y, counts) == pytest.approx(plain.evaluate_loss(*repeated), rel=1e-12)
    for pair, expected in zip(weighted.gradients(X, Y, counts), plain.gradients(*repeated), strict=True):
        for part, other in zip(pair, expected, strict=True):
            assert part == pytest.approx(other, rel=1e-10, abs=1e-14)
    for _ in range(3):
        loss = weighted.train_step(X, Y, 0.1, sample_weight=counts)
        assert loss == pytest.approx(plain.train_step(*repeated, 0.1), rel=1e-10)
    assert weighted.params == pytest.approx(plain.params, rel=1e-10)


def test_metric_without_weights_is_refused_with_weights_of_residuals():
    net = NeuralNetwork([1, 1], loss=nnc.LeastSquares(identity_residuals), seed=0)
    with pytest.raises(ValueError, match="metrics must accept sample_weight if rows have weights"):
        net.fit([[0.0], [1.0]], [0, 1], epochs=1, lr=0.1, sample_weight=[1, 2], metrics=[lambda y, p: 0.0])
    assert net.state is None


def test_sample_weights_equal_repeated_rows():
    rng = np.random.default_rng(0)
    X, Y, counts = rng.normal(size=(40, 3)), rng.normal(size=(40, 2)), rng.integers(0, 4, 40)
    weighted, repeated = (NeuralNetwork([3, 6, 2], activation="tanh", loss="mse", seed=2) for _ in range(2))
    expected = fitted(repeated, X.repeat(counts, axis=0), Y.repeat(counts, axis=0), 5)
    assert fitted(weighted, X, Y, 5, sample_weight=counts) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_lm_gives_same_bits_for_any_number_of_threads(dtype):
    params = [
        fitted(small_network(dtype=dtype, layers=[1, 12, 12, 1]), SMALL_X, SMALL_Y, n_threads=n) for n in (1, 2, 3, 5)
    ]
    assert len({part.tobytes() for part in params}) == 1


def test_lm_names_required_memory(monkeypatch):
    # Simulate 8 GiB, so that the message is the same on every machine.
    monkeypatch.setattr(memory, "total_bytes", lambda: 8 * 2**30)
    net = NeuralNetwork([784, 128, 10], loss="mse", seed=0)
    before = net.params.tobytes()
    with pytest.raises(
        MemoryError, match=r"with 101770 parameters requires 154\.\d GiB of memory, and this machine has 8\.0 GiB; use"
    ):
        net.fit(np.zeros((2, 784)), np.zeros((2, 10)), epochs=1, optimizer="levenberg_marquardt")
    assert net.params.tobytes() == before


def test_lm_is_as_accurate_as_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    ratios = []
    for seed in range(3):
        net = small_network(seed, [1, 10, 1])

        def residuals(params, net=net):
            net.params = params
            return (net.predict(SMALL_X) - SMALL_Y).ravel()

        def jacobian(params, net=net):
            net.params = params
            return net.parameter_jacobian(SMALL_X)[:, 0]

        start = net.params
        fit = optimize.least_squares(residuals, start, jacobian, max_nfev=300)
        net.params = start
        fitted(net, SMALL_X, SMALL_Y, 300)
        ratios.append(net.evaluate_loss(SMALL_X, SMALL_Y) / (2 * fit.cost / len(SMALL_X)))
    assert np.exp(np.mean(np.log(ratios))) < 3


def test_checkpoint_of_version_without_scaling_resumes_with_marquardt_scaling():
    net = small_network()
    net.fit(SMALL_X, SMALL_Y, epochs=3, optimizer=nnc.LevenbergMarquardt(scaling="marquardt"))
    document = json.loads(net.to_json(checkpoint=True))
    del document["training"]["optimizer"]["scaling"], document["settings"]["optimizer"]["scaling"], document["sha256"]
    again = nnc.from_json(json.dumps(document))
    assert again.state.optimizer == net.state.optimizer
    for network in (net, again):
        network.fit(SMALL_X, SMALL_Y, epochs=4)
    assert again.params.tobytes() == net.params.tobytes()


# ----------------------------------------------------------------------------- derivatives with respect to parameters


HEADS = nnc.Heads([nnc.Head(2, "mse"), nnc.Head(3, "cross_entropy")])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("layers", "settings"),
    [
        ([3, 5, 2], {"activation": "tanh", "loss": "mse", "output": "identity", "scale_y": "minmax"}),
        ([3, 7, 4, 3], {"activation": "sigmoid", "loss": "cross_entropy"}),
        ([3, 4, 5], {"activation": "tanh", "loss": HEADS}),
        (
            [nnc.layers.Input(3), nnc.layers.Scale(), nnc.layers.Dense(4, "silu"), nnc.layers.Dense(2, bias=False)],
            {"loss": "mse", "scale_y": "standardize"},
        ),
    ],
    ids=["dense", "softmax", "heads", "scale"],
)
def test_parameter_jacobian_has_vector_jacobian_products_of_single_outputs(layers, settings, dtype):
    rng = np.random.default_rng(0)
    X = 3 + 2 * rng.normal(size=(11, 3))
    net = NeuralNetwork(layers, dtype=dtype, seed=1, scale_X="standardize", **settings)
    n_out = net.sizes[-1]
    if "scale_y" in settings:
        net.fit(X, 100 * rng.normal(size=(11, n_out)), epochs=2, lr=0.01)
    elif net.loss_name == "cross_entropy":
        net.fit(X, np.arange(11) % 3, epochs=2, lr=0.01)
    else:
        net.fit(X, np.eye(5)[2 + np.arange(11) % 3], epochs=2, lr=0.01)
    J = net.parameter_jacobian(X)
    assert (J.shape, J.dtype) == ((11, n_out, net.n_params), dtype)
    for i, k in np.ndindex(11, n_out):
        gradients, _ = net.vjp(X[i : i + 1], np.eye(n_out)[k : k + 1])
        expected = np.concatenate([part.ravel() for pair in gradients for part in pair if part is not None])
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        assert J[i, k] == pytest.approx(expected, rel=tolerance, abs=tolerance * float(np.abs(J).max()))
    assert np.array_equal(net.parameter_jacobian(X[0]), J[0])


def test_parameter_jacobian_rejects_missing_values():
    with pytest.raises(ValueError, match="X must be finite"):
        NeuralNetwork([2, 1], seed=0).parameter_jacobian([[1.0, np.nan]])


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


@pytest.mark.parametrize("optimizer", ["lbfgs", "levenberg_marquardt"])
def test_exception_in_a_trial_step_restores_parameters_of_last_iteration(optimizer):
    X = np.linspace(-1, 1, 20)[:, None]
    for limit in range(1, 90, 7):
        calls = 0

        def function(P, Y, limit=limit):
            nonlocal calls
            calls += 1
            if calls > limit:
                raise RuntimeError("simulated error in the loss")
            return P - Y, np.ones((*P.shape, 1))

        net = NeuralNetwork([1, 5, 1], activation="tanh", loss=nnc.LeastSquares(function), seed=0)
        iterations = [net.params.copy()]
        with pytest.raises(RuntimeError, match="simulated error in the loss"):
            net.fit(
                X, np.sin(3 * X), epochs=100, optimizer=optimizer,
                callback=lambda record, iterations=iterations: iterations.append(record.network.params.copy()),
            )  # fmt: skip
        assert net.params.tobytes() == iterations[-1].tobytes()
        assert net.history.stop_reason == "error"
    assert len(iterations) > 3
