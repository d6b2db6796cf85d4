"""Cases of nnc.forecast: single series and groups, with quantiles, corrections, covariates and updates."""

from collections.abc import Iterator
from functools import partial
from io import StringIO
from itertools import product
from typing import Any

import numpy as np

from bit_cases.cases import Case, centered, integers


def series(n: int, season: int, noise: float, key: int, growth: float = 0.5) -> np.ndarray:
    """Return a series with a trend, a triangular season and noise."""
    t = np.arange(n)
    cycle = np.abs((t + key) % season / season - 0.5) if season > 1 else 0.0
    return 100 + growth * t + 40 * cycle + noise * centered((n,), key)


def alternating(n: int, key: int) -> np.ndarray:
    """Return a series whose changes have the opposite sign of those two steps before; corrections learn it."""
    signs = np.array([1.0, 1.0, -1.0, -1.0])[(np.arange(n) + key) % 4]
    return 100 + np.cumsum(signs + 0.1 * centered((n,), key))


def run(kind: str, horizon: int, season: int | None, preset: str, seed: int) -> Iterator[tuple[str, Any]]:
    """Fit, forecast, update and forecast again."""
    from nnc.forecast import Forecaster

    X = (integers(150, 77, 5) == 0).astype(float)[:, None]
    covariates: tuple[Any, ...] = ()
    values: Any
    if kind == "single":
        values = series(90, 12, 3.0, 1)
    elif kind == "short":
        values = series(17, 4, 3.0, 2)
    elif kind == "counts":
        values = integers(80, 3, 4).astype(float)
    elif kind == "missing":
        values = series(90, 12, 3.0, 1)
        values[[5, 6, 30]] = np.nan
    elif kind == "covariates":
        values, covariates = series(90, 1, 2.0, 4) + 30 * X[:90, 0], (X[:90],)
    elif kind == "group":
        values = [series(50 + 3 * i, 12, 4.0, i) for i in range(12)]
    else:
        values = {f"series {i}": alternating(60 + i, i) for i in range(24)}
    model = Forecaster(horizon, season, preset=preset, n_jobs=1, seed=seed).fit(values, *covariates)
    future = (X[90 : 90 + horizon],) if covariates else ()
    yield "season", [model.season_, model.weights_]
    yield "params", [net.params for net in model.networks_]
    yield "forecast", model.predict(*future)
    yield "quantiles", model.predict(*future, quantiles=[0.025, 0.1, 0.25, 0.75, 0.9, 0.975])
    file = StringIO()
    model.save(file)
    file.seek(0)
    yield "loaded", Forecaster.load(file).predict(*future, quantiles=[0.1, 0.9])
    if not covariates:
        new = [101.0, 99.0]
        many = isinstance(values, (list, dict))
        model.append(dict.fromkeys(model.ids_, new) if isinstance(values, dict) else [new] * 12 if many else new)
        yield "updated", model.predict(quantiles=[0.1, 0.9])


def cases() -> Iterator[Case]:
    """Yield all forecasts."""
    for kind, horizon, preset in product(
        ("single", "short", "counts", "missing", "covariates", "group", "alternating"), (3, 8), ("default", "fast")
    ):
        season = {"alternating": 1, "short": 4}.get(kind)
        yield Case(f"{kind}, horizon {horizon}, {preset}", partial(run, kind, horizon, season, preset, horizon))
