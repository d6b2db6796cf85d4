"""Facts of the report of a forecast model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from nnc.forecast.settings import ForecastFit


def describe(fit: ForecastFit) -> dict[str, str]:
    """Return the facts of the report of a fit: series, members, intervals."""
    model, panel, weights = fit.model, fit.panel, fit.model.corrections.weights or (0.0,)
    lengths, missing = panel.lengths, sum(int(np.isnan(y).sum()) for y in panel.values)
    linear, networks = weights[0], float(sum(weights[1:]))
    corrections = f"linear map {linear:.2f}, {len(model.corrections.networks[1:])} networks {networks:.2f}"
    season = f"season of {model.season} steps"
    if fit.seasons.others:
        season += f"; not used: {', '.join(map(str, fit.seasons.others))} steps"
    members = "median of Theta and damped trends, with and without logarithms"
    if model.naive_share:
        members = f"{model.naive_share:.0%} {naive_name(model.season)}, {1 - model.naive_share:.0%} {members}"
    return {
        "series": f"{len(lengths)}, with {lengths.min()} to {lengths.max()} values, of which {missing} are missing",
        "frequency": f"{'no dates' if fit.layout is None else fit.layout.frequency.name or 'no dates'}, {season}",
        "horizon": f"{model.horizon} steps",
        "members": members,
        "corrections": corrections if any((linear, networks)) else "none: they did not reduce the error",
        "covariates": pluralize(panel.regressors[0].shape[1], "feature") + " with known future values",
        "intervals": f"{np.count_nonzero(~np.isnan(model.scores)):,} nonconformity scores of later observations",
        "time": f"{fit.seconds:.1f} s",
    }


def naive_name(season: int) -> str:
    """Return the name of the forecast that repeats the last season."""
    return "last value (naive)" if season == 1 else "last season (seasonal naive)"
