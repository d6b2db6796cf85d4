"""Tests of nnc.pde: traced residuals, their gradients in the core, training, files, and errors."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numerical import numerical_derivative
from strategies import examples

import nnc
from nnc import NeuralNetwork, pde
from nnc._training.options import TrainingOptions
from nnc._training.records import EpochRecords
from nnc._training.second_order import SecondOrder
from nnc._training.state import TrainingState
from nnc.pde.objective import EquationObjective
from nnc.pde.program import CODES, OPERATIONS, Graph, Program
from nnc.pde.symbols import FUNCTIONS, Symbol

pytestmark = pytest.mark.engine

FUNCTION_NAMES = sorted(FUNCTIONS)
OPTIMIZERS = ("adam", "rprop", "lbfgs", "levenberg_marquardt")


def points(n, n_in=2, seed=0):
    return np.random.default_rng(seed).uniform(0.1, 1, (n, n_in))


def new_network(sizes=(2, 9, 7, 1), dtype="float64", **options):
    return NeuralNetwork(list(sizes), **{"activation": "tanh", "loss": "mse", "seed": 3, "dtype": dtype, **options})


def burgers(p, u, k):
    return u.d("t") + u * u.d("x") - k * u.d("x", "x") + np.sin(p["x"]) * u.d("x", "t")


def new_problem(net=None, n=130, terms=None, transform=None):
    """Return a problem with residuals, values and two coefficients; the Burgers equation uses only the first one."""
    net = new_network() if net is None else net
    X = points(n, seed=1)
    if terms is None:
        terms = [
            pde.Residual(burgers, X, weight=0.5, name="burgers"),
            pde.Residual(lambda p, u, k, q: (u - q * p[0], u.d(0) * k), points(37, seed=2), name="pair"),
            pde.Values(points(41, seed=3), np.sin(points(41, seed=3)[:, 0]), weight=np.linspace(0, 2, 41), name="data"),
        ]
    return pde.Problem(net, terms, inputs=("x", "t"), coefficients={"k": 0.7, "q": -0.2}, transform=transform)


def vector(problem):
    return np.concatenate([problem.net.params, problem.values])


def set_vector(problem, values):
    n = problem.net.n_params
    problem.net.params, problem.values[:] = values[:n], values[n:]


def loss_and_gradient(problem, seeds=None):
    core = smooth_objective(problem).core
    core.refresh()
    flat, by_coefficients = problem.net.model.zeros(), np.empty(len(problem.values))
    loss = core.training.loss(np.empty(len(problem.terms)), flat, by_coefficients, seeds)
    return loss, np.concatenate([problem.net.model.pack(flat), by_coefficients])


def difference_quotients(problem):
    """Return the gradient of the loss by central differences."""

    def loss(values):
        set_vector(problem, values)
        return loss_and_gradient(problem)[0]

    start = vector(problem).copy()
    gradient = numerical_derivative(loss, start)
    set_vector(problem, start)
    return gradient


# ---------------------------------------------------------------------------------------------- tracing


def traced(function, n_inputs):
    graph = Graph()
    inputs = [Symbol(graph, graph.add("column", i)) for i in range(n_inputs)]
    return Program(graph, [function(*inputs).index], 1, n_inputs, 0)


@pytest.mark.parametrize("name", FUNCTION_NAMES)
def test_traced_function_has_values_and_derivatives_of_numpy(name):
    function = getattr(np, name)
    x = np.random.default_rng(0).uniform(0.3, 0.9, (function.nin, 50))
    program = traced(function, function.nin)
    zero = np.zeros((1, 50))
    values = program.run([*zero, *x])
    assert np.allclose(values[program.results[0]], function(*x), rtol=1e-13)
    slopes = program.derivatives(values, [np.ones(50)])
    expected = [numerical_derivative(lambda point: function(*point), point, 1e-6) for point in x.T]
    assert np.allclose(np.transpose(slopes[1 : 1 + function.nin]), expected, rtol=1e-6, atol=1e-8)


def test_program_contains_equal_and_unused_operations_only_once():
    def residual(x, y):
        np.exp(x)  # the result is not used, so the program must not compute it
        return (x * y + 1) * (x * y) ** 3 - 2 / (x * y)

    program = traced(residual, 2)
    names = [list(OPERATIONS)[code] for code in program.operations[:, 0]]
    assert names.count("multiply") == 1 + 2 + 1
    assert "exp" not in names
    assert list(CODES)[:3] == ["add", "subtract", "multiply"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda p, u: u if u > 0 else -u, "must not depend on comparisons"),
        (lambda p, u: u if u == 0 else -u, "must not depend on comparisons"),
        (lambda p, u: np.arcsin(u), r"np\.sqrt.*np\.arctan.*got np\.arcsin.*derivatives="),
        (lambda p, u: np.where(True, u, 0), r"got np\.where"),
        (lambda p, u: np.add.reduce(np.array([1.0, 2.0]) * u), "got ndarray; pass known values at the points as data="),
        (lambda p, u: float(u), "functions of NumPy instead of those of math"),
        (lambda p, u: u * "2", "got str"),
        (lambda p, u: 1.0, "must return a residual that depends on the outputs"),
        (lambda p, u: p[0], "depends on the outputs, got one without them"),
        (lambda p, u: u.d("y"), "inputs of a derivative must be one of x, t"),
        (lambda p, u: u.d("x", "x", "x"), "one or two inputs, got 3"),
        (lambda p, u, m: m * u, r"names of coefficients \(k, q\) as parameters, got 'm'"),
        (lambda p, u: u * p["z"], "no column 'z'; their columns are x, t"),
    ],
)
def test_function_that_cannot_be_traced_is_rejected(function, message):
    with pytest.raises((TypeError, ValueError, KeyError), match=message):
        new_problem(terms=[pde.Residual(function, points(5))])


# ---------------------------------------------------------------------------------------------- the core


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_core_computes_all_operations_like_numpy(isa, dtype):
    net = new_network((2, 5, 1), dtype)
    X = points(77)
    used = [name for name in FUNCTION_NAMES if getattr(np, name).nin == 1]

    def residual(p, u):
        x = p["x"] * 0.8 + 0.1
        total = u * 0 + sum((getattr(np, name)(x) for name in used), p["t"] / x - np.maximum(x, p["t"]))
        return total + u

    terms = [pde.Residual(residual, X)]
    problem = pde.Problem(net, terms, inputs=("x", "t"))
    x = X[:, 0] * 0.8 + 0.1
    expected = sum(getattr(np, name)(x) for name in used) + X[:, 1] / x - np.maximum(x, X[:, 1]) + net.predict(X)[:, 0]
    tolerance = 1e-13 if dtype == "float64" else 2e-5
    assert np.allclose(problem.residual(X), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus", "silu", "gelu"])
def test_gradient_and_jacobian_match_difference_quotients(isa, activation):
    problem = new_problem(new_network((2, 5, 3, 1), activation=activation))
    loss, gradient = loss_and_gradient(problem)
    assert np.allclose(gradient, difference_quotients(problem), rtol=1e-6, atol=1e-8)
    burgers_term, pair, data = problem.terms
    errors = problem.predict(data.points)[:, 0] - np.sin(data.points[:, 0])
    squares = (problem.residual(pair.points, "pair") ** 2).sum(1)
    expected = 0.5 * np.mean(problem.residual(burgers_term.points, "burgers") ** 2) + np.mean(squares)
    assert np.isclose(loss, expected + np.mean(np.linspace(0, 2, 41) * errors**2), rtol=1e-12)
    r, J = jacobian(problem)
    assert np.isclose((r * r).sum(), loss, rtol=1e-12)
    assert np.allclose(2 * r @ J, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("transform", [None, lambda p, N: (N[0], N[1], N[0] * N[2])])
def test_values_of_several_outputs_are_a_mean_over_points_and_outputs(transform):
    X = points(41)
    Y, weight = np.sin(X @ points(2, 3)), np.linspace(0, 2, 41)
    problem = new_problem(new_network((2, 5, 3)), terms=[pde.Values(X, Y, weight=weight)], transform=transform)
    expected = np.mean(weight[:, None] * (problem.predict(X) - Y) ** 2)
    loss, gradient = loss_and_gradient(problem)
    assert loss == pytest.approx(expected, rel=1e-12)
    r, _ = jacobian(problem)
    assert (r * r).sum() == pytest.approx(loss, rel=1e-12)
    assert np.allclose(2 * smooth_objective(problem).transposed_product(*[vector(problem)] * 2), gradient, rtol=1e-9)
    history = problem.fit(1, optimizer="adam")
    assert (history.loss[0], history["values"][0]) == pytest.approx((expected, expected), rel=1e-12)


def jacobian(problem):
    parts = list(smooth_objective(problem).least_squares(vector(problem)))
    return np.concatenate([r for r, _ in parts]), np.concatenate([J for _, J in parts])


def smooth_objective(problem):
    model = problem.net.model
    objective = EquationObjective(problem._equations(problem.terms), problem.moments)
    objective.start(EpochRecords(TrainingState.new(model, "sgd", problem.net.streams), 1))
    return objective


def test_seeds_give_product_of_transposed_jacobian_with_residuals_of_other_parameters():
    problem = new_problem()
    here = vector(problem).copy()
    there = here + 0.1
    _, J = jacobian(problem)
    set_vector(problem, there)
    r, _ = jacobian(problem)
    set_vector(problem, here)
    product = smooth_objective(problem).transposed_product(here, there)
    assert np.allclose(product, J.T @ r, rtol=1e-10, atol=1e-12)


@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 23), min_size=1, max_size=3),
    n_in=st.integers(1, 3),
    n_out=st.integers(1, 3),
    n=st.integers(1, 150),
    seed=st.integers(0, 2**32),
)
def test_residual_and_gradient_are_correct_for_any_shape(isa, sizes, n_in, n_out, n, seed):
    net = new_network((n_in, *sizes, n_out), seed=seed)
    rng = np.random.default_rng(seed)
    pairs = [tuple(rng.integers(0, n_in, rng.integers(0, 3)).tolist()) for _ in range(3)]

    def residual(p, u):
        u = u if isinstance(u, list) else [u]
        parts = [u[int(rng.integers(n_out))] if not key else u[-1].d(*key) for key in pairs]
        return parts[0] * parts[1] + np.sin(parts[2]) - p[0]

    X = rng.normal(size=(n, n_in))
    state = rng.bit_generator.state
    problem = pde.Problem(net, [pde.Residual(residual, X)])
    rng.bit_generator.state = state
    outputs = [int(rng.integers(n_out)) if not key else n_out - 1 for key in pairs]

    def channel(X, j, key, h=3e-4):
        if not key:
            return net.predict(X)[:, j]
        step = h * np.eye(n_in)[key[0]]
        return (channel(X + step, j, key[1:], h) - channel(X - step, j, key[1:], h)) / (2 * h)

    a, b, c = (channel(X, j, key) for j, key in zip(outputs, pairs, strict=True))
    scale = 1 + np.abs(a) + np.abs(b) + np.abs(a * b)
    assert (np.abs(problem.residual(X) - (a * b + np.sin(c) - X[:, 0])) / scale).max() < 1e-4
    loss, gradient = loss_and_gradient(problem)
    direction = rng.normal(size=len(gradient))
    start = vector(problem).copy()

    def loss_at(t):
        set_vector(problem, start + t * direction)
        return loss_and_gradient(problem)[0]

    expected = numerical_derivative(loss_at, np.zeros(()), 1e-6)
    assert abs(gradient @ direction - expected) <= 1e-5 * (abs(expected) + loss + np.linalg.norm(gradient))


def test_derivatives_and_gradient_agree_with_torch():
    torch = pytest.importorskip("torch")
    problem = new_problem()
    net, X = problem.net, problem.terms[0].points
    params = [torch.tensor(a, requires_grad=True) for pair in zip(net.weights, net.biases, strict=True) for a in pair]
    k = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    inputs = torch.tensor(X, requires_grad=True)
    a = inputs
    for l in range(3):
        a = a @ params[2 * l] + params[2 * l + 1]
        a = torch.tanh(a) if l < 2 else a
    (du,) = torch.autograd.grad(a.sum(), inputs, create_graph=True)
    (d2u,) = torch.autograd.grad(du[:, 0].sum(), inputs, create_graph=True)
    r = du[:, 1] + a[:, 0] * du[:, 0] - k * d2u[:, 0] + torch.sin(inputs[:, 0]) * d2u[:, 1]
    assert np.allclose(problem.residual(X, "burgers"), r.detach().numpy(), rtol=1e-10, atol=1e-12)
    (0.5 * (r * r).mean()).backward()
    only = pde.Problem(net, [pde.Residual(burgers, X, weight=0.5)], ("x", "t"), {"k": 0.7})
    expected = np.concatenate([p.grad.numpy().ravel() for p in params] + [[k.grad.item()]])
    assert np.allclose(loss_and_gradient(only)[1], expected, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------------------------------- transforms and scaling


def test_transform_gives_derivatives_of_transformed_outputs():
    def transform(p, N, q):
        x, t = p
        return x * (1 - x) * N + np.sin(q * x) / (1 + t**2) + np.tanh(N) * np.exp(-t) + np.sqrt(x) * np.arctan(t * N)

    problem = new_problem(transform=transform)
    X, h = points(20, seed=5), 1e-4
    steps = h * np.eye(2)

    def u(X):
        return problem.predict(X)[:, 0]

    def second(i, k):
        total = sum(a * b * u(X + a * steps[i] + b * steps[k]) for a in (1, -1) for b in (1, -1))
        return total / (4 * h * h)

    first = [(u(X + step) - u(X - step)) / (2 * h) for step in steps]
    expected = first[1] + u(X) * first[0] - 0.7 * second(0, 0) + np.sin(X[:, 0]) * second(0, 1)
    assert np.allclose(problem.residual(X, "burgers"), expected, rtol=1e-5, atol=1e-5)
    assert np.allclose(loss_and_gradient(problem)[1], difference_quotients(problem), rtol=1e-6, atol=1e-8)


def test_residuals_are_in_the_units_of_the_user():
    plain = new_network()
    scaled = new_network(scale_X="standardize", scale_y=nnc.Standardize([3.0], [0.5]))
    X = points(60) * [1, 20]
    residual = pde.Residual(lambda p, u: u.d("x", "t") + u * p["t"], X)
    problem = pde.Problem(scaled, [residual], inputs=("x", "t"))
    shift, factor = scaled.converter.scaling_X.shift, scaled.converter.scaling_X.factor
    same = pde.Problem(plain, [residual], inputs=("x", "t"))
    Z = (X - shift) * factor
    inner = pde.Problem(plain, [pde.Residual(lambda p, u: (u, u.d(0, 1)), Z)]).residual(Z)
    expected = 0.5 * factor[0] * factor[1] * inner[:, 1] + (3 + 0.5 * inner[:, 0]) * X[:, 1]
    assert np.allclose(problem.residual(X), expected, rtol=1e-10, atol=1e-10)
    assert not np.allclose(same.residual(X), expected)


def test_function_with_own_derivatives_equals_traced_function():
    X, keys = points(50, seed=1), [(), ("x",), ("t",), ("x", "x")]

    def residual(p, U, k):
        u, ux, ut, uxx = U[0]
        slopes = np.stack([ux, u, np.ones_like(u), np.full_like(u, -k)])[None]
        return ut + u * ux - k * uxx + p["x"], slopes, {"k": -uxx}

    def traced_residual(p, u, k):
        return u.d("t") + u * u.d("x") - k * u.d("x", "x") + p["x"]

    for optimizer in OPTIMIZERS:
        nets = []
        for term in (pde.Residual(residual, X, derivatives=keys), pde.Residual(traced_residual, X)):
            problem = new_problem(terms=[term, pde.Values(X, 0.0)])
            assert np.allclose(difference_quotients(problem), loss_and_gradient(problem)[1], rtol=1e-5, atol=1e-8)
            problem.fit(5, optimizer=optimizer)
            nets.append(vector(problem))
        assert np.allclose(*nets, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("result", "got"), [(0.0, "a float"), ((0.0,) * 4, "a tuple of length 4")])
def test_function_with_own_derivatives_must_return_two_or_three_values(result, got):
    problem = new_problem(terms=[pde.Residual(lambda p, U: result, points(5), derivatives=[()])])
    with pytest.raises(TypeError, match=f"function must return .residual, derivatives with respect to U.*got {got}"):
        problem.fit(1)


# ---------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_thread_count_does_not_change_bits(isa, dtype):
    results = []
    for threads in (1, 2, 3, 8):
        problem = new_problem(new_network((2, 20, 20, 1), dtype), n=3000)
        history = problem.fit(6, optimizer="adam", n_threads=threads)
        results.append((vector(problem), history.loss, history["burgers"]))
    for result in results[1:]:
        assert all(map(np.array_equal, results[0], result))


def step_of(problem, lr=0.01, **options):
    """Return the change of parameters and coefficients in one step of plain gradient descent, divided by -lr."""
    before = vector(problem)
    problem.fit(1, optimizer="sgd", lr=lr, **options)
    return (before - vector(problem)) / lr


@pytest.mark.parametrize("threads", [1, 3])
def test_clip_norm_scales_gradient_of_parameters_and_coefficients(threads):
    problem = new_problem(n=3000)
    gradient = loss_and_gradient(problem)[1]
    norm = np.linalg.norm(gradient)
    assert np.abs(gradient[-2:]).max() > 0.01 * norm
    assert np.allclose(step_of(new_problem(n=3000), clip_norm=2 * norm, n_threads=threads), gradient, rtol=1e-9)
    clipped = step_of(problem, clip_norm=norm / 2, n_threads=threads)
    assert np.allclose(clipped, gradient / 2, rtol=1e-5)


def test_weight_decay_and_max_norm_do_not_apply_to_coefficients():
    problem = new_problem()
    gradient, n = loss_and_gradient(problem)[1], problem.net.n_params
    decay = step_of(new_problem(), weight_decay=0.5) - gradient
    layers = zip(problem.net.weights, problem.net.biases, strict=True)
    weights = np.concatenate([np.r_[W.ravel(), 0 * b] for W, b in layers])
    assert np.allclose(decay, np.r_[0.5 * weights, 0, 0], atol=1e-9)
    problem.fit(2, optimizer="sgd", lr=1e-9, max_norm=0.1)
    assert max(np.linalg.norm(W, axis=0).max() for W in problem.net.weights) < 0.1 + 1e-6
    assert np.allclose(problem.values, [0.7, -0.2], atol=1e-6)
    assert n == len(weights)


def test_weight_decay_of_a_problem_may_be_a_schedule():
    scheduled, first, second = (new_problem() for _ in range(3))
    scheduled.fit(2, optimizer="sgd", lr=0.01, weight_decay=lambda epoch: [0.5, 0.25][epoch])
    for decay in (0.5, 0.25):
        first.fit(1, optimizer="sgd", lr=0.01, weight_decay=decay)
    second.fit(2, optimizer="sgd", lr=0.01, weight_decay=0.5)
    assert np.array_equal(vector(scheduled), vector(first))
    assert not np.array_equal(vector(scheduled), vector(second))


def test_step_that_would_make_a_coefficient_infinite_keeps_it_finite():
    X = points(20)
    problem = pde.Problem(new_network(), pde.Residual(lambda p, u, k: 1e150 * k + u, X), coefficients={"k": 1.0})
    with pytest.raises(nnc.DivergedError):
        problem.fit(3, optimizer="sgd", lr=1e20)
    assert problem.coefficients == {"k": 1.0}
    assert np.isfinite(problem.net.params).all()
    assert problem.history.stop_reason == "diverged"


def sampler(n, rng):
    return rng.uniform(0.1, 1, (n, 2))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("names_optimizer", [False, True])
def test_loaded_checkpoint_continues_to_the_bit(tmp_path, optimizer, names_optimizer):
    resample = {"burgers": pde.by_residual(sampler, 64, every=4)}
    options = {"resample": resample, "validation": {"burgers": points(20)}}
    whole, first = new_problem(), new_problem()
    history = whole.fit(12, optimizer=optimizer, **options)
    first.fit(6, optimizer=optimizer, callback=nnc.Checkpoint(tmp_path / "run.json", every=3), **options)
    second = pde.Problem.load(
        tmp_path / "run.json", [term.definition for term in new_problem().terms], inputs=("x", "t")
    )
    more = second.fit(6, optimizer=optimizer if names_optimizer else None, **options)
    assert np.array_equal(vector(whole), vector(second))
    assert np.array_equal(history.loss[6:], more.loss)
    assert np.array_equal(history["data"][6:], more["data"])
    assert np.array_equal(history.val_loss[6:], more.val_loss)
    assert second.history.epochs == 12
    assert second.coefficients == whole.coefficients


def test_loaded_file_has_network_and_coefficients(tmp_path):
    problem = new_problem()
    problem.fit(3, optimizer="adam")
    problem.save(tmp_path / "problem.json")
    again = pde.Problem.load(tmp_path / "problem.json", [pde.Values(points(3), 0.0)])
    assert again.coefficients == problem.coefficients
    net = nnc.load(tmp_path / "problem.json")
    assert np.array_equal(net.predict(points(9)), problem.net.predict(points(9)))
    net.save(tmp_path / "net.json")
    with pytest.raises(nnc.ModelFileError, match=r"without equations; load it with nnc\.load$"):
        pde.Problem.load(tmp_path / "net.json", [pde.Values(points(3), 0.0)])
    document = json.loads((tmp_path / "problem.json").read_text())
    del document["sha256"]
    for changes, message in (
        ({"moments": 3}, r"problem\.moments"),
        ({"coefficients": {"+": 1.0}}, "coefficients must be names that are valid"),
    ):
        (tmp_path / "broken.json").write_text(json.dumps({**document, "problem": {**document["problem"], **changes}}))
        with pytest.raises(nnc.ModelFileError, match=message):
            pde.Problem.load(tmp_path / "broken.json", [pde.Values(points(3), 0.0)])


def test_wrong_arguments_of_load_do_not_name_the_file_as_cause(tmp_path):
    problem, path = new_problem(), tmp_path / "problem.json"
    resample = {"burgers": lambda epoch, residual: points(9)}
    problem.fit(1, optimizer="adam", resample=resample)
    problem.save(path, checkpoint=True)
    terms, data = [term.definition for term in problem.terms], [pde.Values(points(3), 0.0)]
    for arguments, error, message in (
        ({"terms": [3]}, TypeError, "^terms must be a list of"),
        ({"terms": [pde.Values(np.zeros((3, 5)), 0.0)]}, ValueError, "^points"),
        ({"terms": data}, ValueError, "^terms must contain a term with the name 'burgers', whose points are in "),
        ({"terms": terms, "inputs": ("x",)}, ValueError, "^inputs must be 2 different names"),
        ({"terms": terms, "inputs": ("x", "t"), "transform": 3}, TypeError, "^transform must be a function"),
    ):
        with pytest.raises(error, match=message) as caught:
            pde.Problem.load(path, **arguments)
        assert not isinstance(caught.value, nnc.ModelFileError)


def test_history_has_a_column_for_each_term():
    problem = new_problem()
    seen = []
    history = problem.fit(
        5,
        optimizer="adam",
        validation={"burgers": points(30, seed=9)},
        callback=lambda record: seen.append(dict(record)),
    )
    assert list(history.keys()) == ["loss", "lr", "epoch_seconds", "val_loss", "burgers", "pair", "data"]
    assert np.allclose(0.5 * history["burgers"] + history["pair"] + history["data"], history.loss, rtol=1e-12)
    assert [record["data"] for record in seen] == history["data"].tolist()
    assert all(record["network"] is problem for record in seen)
    expected = 0.5 * np.mean(problem.residual(points(30, seed=9), "burgers") ** 2)
    assert np.isclose(history.val_loss[-1], expected, rtol=1e-12)


def test_term_is_found_by_name():
    problem = new_problem()
    assert [problem.term(name).name for name in ("burgers", "data")] == ["burgers", "data"]
    with pytest.raises(ValueError, match="name must be one of burgers, pair, data, got 'none'"):
        problem.term("none")
    with pytest.raises(ValueError, match="points of the term 'data' cannot be replaced"):
        problem.residual(points(3), "data")
    with pytest.raises(ValueError, match=r"dict by the names of terms \(burgers, pair\)"):
        problem.residual(points(3))


def test_frozen_layers_do_not_change():
    layers = [nnc.layers.Input(2), nnc.layers.Dense(8, "tanh", trainable=False), nnc.layers.Dense(8, "tanh"), 1]
    for optimizer in OPTIMIZERS:
        problem = new_problem(NeuralNetwork(layers, loss="mse", seed=0))
        before = [W.copy() for W in problem.net.weights]
        problem.fit(3, optimizer=optimizer)
        assert np.array_equal(before[0], problem.net.weights[0])
        assert not np.array_equal(before[1], problem.net.weights[1])


def test_points_are_drawn_where_the_residual_is_large():
    problem = new_problem()
    draw = pde.by_residual(sampler, 400, uniform=0.0, seed=4)
    chosen = draw(20, lambda X: np.where(X[:, 0] > 0.9, 1.0, 1e-9))
    assert (chosen[:, 0] > 0.9).mean() > 0.9
    assert np.array_equal(chosen, draw(20, lambda X: np.where(X[:, 0] > 0.9, 1.0, 1e-9)))
    epochs = []

    def resample(epoch, residual):
        epochs.append(epoch)
        assert np.array_equal(residual(points(9)), np.abs(problem.residual(points(9), "burgers")))
        return points(50 + epoch)

    resample.every = 2
    for optimizer in ("adam", "levenberg_marquardt"):
        epochs.clear()
        problem.fit(5, optimizer=optimizer, resample={"burgers": resample})
        assert epochs == [2, 4]
        assert np.array_equal(problem.term("burgers").points, points(54))


def test_inverse_problem_finds_diffusivity():
    rng = np.random.default_rng(1)
    inside, seen = rng.uniform(0, 1, (500, 2)), rng.uniform(0, 1, (200, 2))
    y = np.exp(-0.3 * np.pi**2 * seen[:, 1]) * np.sin(np.pi * seen[:, 0])
    heat = pde.Residual(lambda p, u, k: u.d("t") - k * u.d("x", "x"), inside, weight=10)
    problem = pde.Problem(new_network((2, 12, 12, 1)), [heat, pde.Values(seen, y)], ("x", "t"), {"k": 1.0})
    problem.fit(40, optimizer="levenberg_marquardt")
    assert abs(problem.coefficients["k"] - 0.3) < 1e-3


def test_diverged_training_keeps_finite_weights():
    problem = new_problem(terms=[pde.Residual(lambda p, u: np.log(u - 10), points(20))])
    before = vector(problem)
    for optimizer in OPTIMIZERS:
        with pytest.raises(nnc.DivergedError, match=r"loss of epoch 1 is not finite.*division by zero or a logarithm"):
            problem.fit(3, optimizer=optimizer)
        assert np.array_equal(before, vector(problem))


def test_fewer_curvature_pairs_replace_earlier_ones():
    problem = new_problem()
    problem.fit(2, optimizer="lbfgs")
    objective = smooth_objective(problem)
    minimizer = SecondOrder(problem.net.model, objective, TrainingOptions(1, {}), problem.net.state)
    n, rng = len(objective.variables), np.random.default_rng(0)
    pairs = [tuple(rng.normal(size=(2, n))) for _ in range(3)]
    for memory in (pairs, pairs[:1]):
        minimizer.memory = memory
        minimizer.save_progress()
    stored = minimizer.read_pairs()
    assert all(np.array_equal(a, b) for a, b in zip(stored[0], pairs[0], strict=True))
    assert not any(np.any(vector) for pair in stored[1:] for vector in pair)


def test_interrupting_exception_keeps_last_iteration():
    problem = new_problem()

    def fail(record):
        if record.epoch == 2:
            raise ZeroDivisionError

    for optimizer in OPTIMIZERS:
        with pytest.raises(ZeroDivisionError):
            problem.fit(5, optimizer=optimizer, callback=fail, reset_optimizer=True)
        assert problem.history.epochs == 2
        assert np.isfinite(vector(problem)).all()


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": 3}, TypeError, "net must be a NeuralNetwork, got int"),
        ({"terms": []}, TypeError, "terms must be a list"),
        ({"terms": [3]}, TypeError, "terms must be a list"),
        ({"terms": None}, TypeError, "terms must be a list .*, got None"),
        ({"inputs": 3}, ValueError, "inputs must be 2 different names, got 3"),
        ({"coefficients": np.ones(2)}, TypeError, r"coefficients must be a dict .*, got ndarray of shape \(2,\)"),
        ({"terms": [pde.Residual(lambda p, u: p.x * u, points(3))]}, AttributeError, "must be read as p\\['x'\\]"),
        ({"terms": [pde.Residual(lambda p, u: u[0], points(3))]}, TypeError, "an output must be used without an index"),
        ({"terms": [pde.Residual(lambda p, u: u.d("x").d("x"), points(3))]}, TypeError, "second derivative as u.d"),
        ({"terms": [pde.Values(points(2), 0.0, weight=[1, [2]])]}, ValueError, "weight of the term 'values' .* length"),
        ({"inputs": ("x",)}, ValueError, "inputs must be 2 different names"),
        ({"inputs": ("x", "x")}, ValueError, "inputs must be 2 different names"),
        ({"coefficients": {"k": np.nan}}, ValueError, "coefficients must be finite"),
        ({"coefficients": {"k": "1"}}, TypeError, "must be a number"),
        ({"transform": 3}, TypeError, "transform must be a function"),
        ({"transform": lambda p, N: 0.0}, TypeError, "transform must return functions of the outputs"),
        ({"terms": [pde.Values(points(3, 3), 0.0)]}, ValueError, r"shape \(n, 2\)"),
        ({"terms": [pde.Values([[np.nan, 0.0]], 0.0)]}, ValueError, r"must be finite, got nan at index \(0, 0\)"),
        (
            {"terms": [pde.Values(points(3), [1.0, 2.0])]},
            ValueError,
            r"y of the term 'values' must have shape \(3, 1\)",
        ),
        ({"terms": [pde.Values(points(2), [1.0, np.inf])]}, ValueError, "must be finite"),
        ({"terms": [pde.Values(points(2), 0.0, weight=-1)]}, ValueError, "must be positive"),
        ({"terms": [pde.Values(points(2), 0.0, name="loss")]}, ValueError, "names of terms must be different"),
        ({"terms": [pde.Values(points(2), 0.0, name="a")] * 2}, ValueError, "names of terms must be different"),
    ],
)
def test_invalid_problem_is_rejected(arguments, error, message):
    valid = {"net": new_network(), "terms": [pde.Values(points(3), 0.0)], "inputs": ("x", "t")}
    with pytest.raises(error, match=message):
        pde.Problem(**{**valid, **arguments})


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "selu"])
def test_activation_without_second_derivative_is_rejected_by_name(activation):
    with pytest.raises(ValueError, match=activation):
        new_problem(new_network(activation=activation))


def test_layers_other_than_dense_are_rejected_by_name():
    net = NeuralNetwork([nnc.layers.Input(2), nnc.layers.Dense(4, "tanh"), nnc.layers.BatchNorm(), 1], loss="mse")
    with pytest.raises(ValueError, match="BatchNorm"):
        new_problem(net)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "epochs must be set"),
        ({"epochs": 2, "optimizer": "none"}, ValueError, "optimizer"),
        (
            {"epochs": 2, "resample": lambda epoch, residual: None},
            ValueError,
            r"dict by the names of terms \(burgers, pair\)",
        ),
        ({"epochs": 2, "resample": {"data": max}}, ValueError, "got 'data'"),
        ({"epochs": 2, "clip_norm": -1.0}, ValueError, "clip_norm must be"),
        ({"epochs": 2, "resample": {"pair": 3}}, TypeError, "resample must be a function"),
        ({"epochs": 2, "validation": points(3)}, ValueError, "validation must be a dict"),
        ({"epochs": 2, "validation": {"pair": [[1.0]]}}, ValueError, r"shape \(n, 2\)"),
    ],
)
def test_invalid_fit_argument_is_rejected(arguments, error, message):
    problem = new_problem()
    before = vector(problem)
    with pytest.raises(error, match=message):
        problem.fit(**arguments)
    assert np.array_equal(before, vector(problem))
    assert problem.net.state is None
