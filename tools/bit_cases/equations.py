"""Cases of nnc.pde: problems, their optimizers, new points, and files that continue a training."""

from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from itertools import product
from typing import Any

import numpy as np

from bit_cases.cases import Case, RoundedSums, centered, fractions
from bit_cases.training import DTYPES, SECOND_ORDER, SOLVERS, network

POINTS = 60  # number of points of the equation


def inside(n: int, n_in: int = 2, key: int = 1) -> np.ndarray:
    """Return n points with coordinates from 0.1 to 1."""
    return 0.1 + 0.9 * fractions((n, n_in), key)


def data(n: int = 23) -> tuple[np.ndarray, np.ndarray]:
    """Return points and values of the outputs."""
    X = inside(n, 2, 3)
    return X, np.sin(3 * X[:, 0]) * X[:, 1]


def burgers(p: Any, u: Any) -> Any:
    """Return the residual of the Burgers equation."""
    return u.d("t") + u * u.d("x") - 0.01 * u.d("x", "x")


def burgers_by_hand(p: Any, U: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Return the residual of the Burgers equation and its derivatives, from arrays."""
    u, ut, ux, uxx = U[0]
    D = np.stack([ux, np.ones_like(u), u, np.full_like(u, -0.01)])[None]
    return ut + u * ux - 0.01 * uxx, D, {}


def pair_of_equations(p: Any, u: Any) -> tuple[Any, Any]:
    """Return the residuals of two equations of two outputs."""
    return u[0].d("x") - u[1].d("t"), u[0].laplacian("x", "t") + u[1] * np.exp(-p["x"])


def new_problem(kind: str, dtype: str) -> Any:
    """Return a problem by its kind."""
    from nnc import Standardize, pde
    from nnc.layers import Dense, Input

    X, (seen, y), names = inside(POINTS), data(), ("x", "t")
    values = pde.Values(seen, y, name="data")

    def problem(terms: Any, sizes: Any = (2, 9, 7, 1), inputs: Any = names, **options: Any) -> Any:
        own = {name: options.pop(name) for name in ("coefficients", "transform") if name in options}
        return pde.Problem(network(sizes, dtype=dtype, **options), terms, inputs=inputs, **own)

    def heat(p: Any, u: Any, k: Any) -> Any:
        return u.d("t") - k * u.d("x", "x")

    def sized(p: Any, u: Any, k: Any, q: Any) -> Any:
        return u.d("t") - k * u.d("x", "x") + q * np.sin(u) * p["force"]

    def oscillator(p: Any, u: Any) -> Any:
        return u.d("t", "t") + 4 * u.d("t") + 400 * u

    force = {"force": centered((POINTS,), 9)}
    derivatives = [(), ("t",), ("x",), ("x", "x")]
    builders: dict[str, Callable[[], Any]] = {
        "burgers": lambda: problem([pde.Residual(burgers, X, name="equation"), values]),
        "weighted": lambda: problem([
            pde.Residual(burgers, X, weight=0.5 + fractions((POINTS,), 5)),
            pde.Values(seen, y, weight=np.linspace(0, 2, len(seen))),
            pde.Values(inside(5, 2, 6), 0.0, weight=3.0),
        ]),
        "oscillator": lambda: problem(
            [pde.Residual(oscillator, np.linspace(0, 1, POINTS), weight=1e-5), pde.Values([0.0], 1.0)],
            (1, 8, 8, 1), ("t",), activation="sin",
        ),
        "coefficient": lambda: problem([pde.Residual(heat, X), values], coefficients={"k": 1.0}),
        "coefficients and data": lambda: problem(
            [pde.Residual(sized, X, data=force), values], coefficients={"k": 1.0, "q": -0.5}
        ),
        "two outputs": lambda: problem(
            [pde.Residual(pair_of_equations, X), pde.Values(seen, np.c_[y, -y])], (2, 9, 7, 2), activation="softplus"
        ),
        "transform": lambda: problem(
            [pde.Residual(burgers, X), values], transform=lambda p, N: p["x"] * (1 - p["x"]) * N
        ),
        "derivatives by hand": lambda: problem([pde.Residual(burgers_by_hand, X, derivatives=derivatives), values]),
        "scaled": lambda: problem(
            [pde.Residual(burgers, X), values], scale_X="standardize", scale_y=Standardize(mean=[0.5], std=[2.0])
        ),
        "frozen": lambda: problem(
            [pde.Residual(burgers, X), values], [Input(2), Dense(9, "tanh", trainable=False), Dense(7, "tanh"), 1]
        ),
        "values only": lambda: problem([values]),
    }  # fmt: skip
    return builders[kind]()


KINDS = (
    "burgers", "weighted", "oscillator", "coefficient", "coefficients and data", "two outputs", "transform",
    "derivatives by hand", "scaled", "frozen", "values only",
)  # fmt: skip


def history_parts(label: str, history: Any) -> Iterator[tuple[str, Any]]:
    """Yield the column of the loss as sums that may be rounded differently, and the other columns."""
    columns = sorted(set(history) - {"epoch_seconds", "loss"})
    yield f"{label} loss", RoundedSums(history["loss"])
    yield f"{label} history", [*columns, *(history[name] for name in columns), history.stop_reason, history.best_epoch]


def state_parts(label: str, problem: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parameters and the coefficients of a problem."""
    yield f"{label} params", problem.net.params
    yield f"{label} coefficients", list(problem.coefficients.items())


def run(kind: str, dtype: str, given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fit twice, and compute the residuals; yield all results."""
    problem = new_problem(kind, dtype)
    yield from history_parts("first", problem.fit(**{"epochs": 4, "n_threads": 1} | given))
    yield from state_parts("first", problem)
    yield from history_parts("second", problem.fit(2, n_threads=1))
    yield from state_parts("second", problem)
    X = inside(19, problem.net.sizes[0], 8)
    yield "predictions", problem.predict(X)
    if kind not in ("values only", "weighted", "coefficients and data"):
        yield "residual", problem.residual(X)


def resampled(dtype: str, solver: str, way: str) -> Iterator[tuple[str, Any]]:
    """Fit with new points after some epochs, and continue from a file."""
    from nnc import pde

    problem, epochs = new_problem("coefficient", dtype), []

    def draw(epoch: int, residual: Callable[[Any], Any]) -> Any:
        epochs.append([epoch, residual(inside(7, 2, epoch))])
        return inside(40 + epoch, 2, epoch) if epoch % 3 else None

    draw.every = 2  # type: ignore[attr-defined]
    by_size = pde.by_residual(lambda n, rng: inside(n, 2, int(rng.integers(1000))), POINTS, every=3, seed=5)
    function = draw if way == "function" else by_size
    options = {"n_threads": 1, "resample": function, "validation": inside(11, 2, 7)}
    yield from history_parts("first", problem.fit(7, **SOLVERS[solver], **options))
    yield from state_parts("first", problem)
    yield "epochs", epochs
    yield "points", problem.term("residual").points
    file = StringIO()
    problem.save(file, checkpoint=True)
    file.seek(0)
    other = pde.Problem.load(file, [term.definition for term in problem.terms], inputs=("x", "t"))
    for label, continued in (("saved", problem), ("loaded", other)):
        yield from history_parts(label, continued.fit(4, **options))
        yield from state_parts(label, continued)


def saved_during_fit(dtype: str, kind: str, solver: str) -> Iterator[tuple[str, Any]]:
    """Save a problem in each second epoch of a fit, and continue from each file."""
    from nnc import pde

    problem, files, records = new_problem(kind, dtype), [], []

    def save(record: Any) -> None:
        records.append([[name, record[name]] for name in record if name not in ("seconds", "loss", "network")])
        files.append(StringIO())
        problem.save(files[-1], checkpoint=True)

    save.every = 2  # type: ignore[attr-defined]
    yield from history_parts("first", problem.fit(5, callback=save, n_threads=1, **SOLVERS[solver]))
    yield from state_parts("first", problem)
    yield "records", records
    for number, file in enumerate(files):
        file.seek(0)
        other = pde.Problem.load(file, [term.definition for term in problem.terms], problem.setting.inputs)
        yield from history_parts(f"continued {number}", other.fit(3, n_threads=1))
        yield from state_parts(f"continued {number}", other)


def cases() -> Iterator[Case]:
    """Yield all fits of equations."""
    from nnc import CosineLR, StepLR

    variants: dict[str, dict[str, Any]] = {
        "on one thread": {},
        "on two threads": {"n_threads": 2},
        "stopped": {"epochs": 9, "callback": lambda record: record["epoch"] == 3},
        "to a target": {"epochs": 9, "target_loss": 0.6},
    }
    first_order: dict[str, dict[str, Any]] = {
        "step": {"lr": StepLR(lr=0.01, step_size=2, gamma=0.5)},
        "cosine": {"lr": CosineLR(lr=0.02, epochs=6, min_lr=0.001)},
        "function": {"lr": lambda epoch: 0.02 / (1 + epoch)},
    }
    for kind, (solver, rate), dtype in product(KINDS, SOLVERS.items(), DTYPES):
        rate = {name: value for name, value in rate.items() if name != "weight_decay"}
        for name, given in (variants | ({} if solver in SECOND_ORDER else first_order)).items():
            if name not in ("on one thread", "on two threads") and kind not in ("burgers", "coefficient"):
                continue
            yield Case(f"{kind}, {name}, {solver}, {dtype}", partial(run, kind, dtype, rate | given))
    for solver, way, dtype in product(("sgd", "adam", *SECOND_ORDER), ("function", "by_residual"), DTYPES):
        yield Case(f"new points by {way}, {solver}, {dtype}", partial(resampled, dtype, solver, way))
    for kind, solver, dtype in product(("burgers", "coefficient", "scaled"), ("sgd", "adam", *SECOND_ORDER), DTYPES):
        yield Case(f"saved, {kind}, {solver}, {dtype}", partial(saved_during_fit, dtype, kind, solver))
