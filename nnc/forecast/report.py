"""Facts of the report of a forecast model."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnc._utils.checks import pluralize


def describe(forecaster: Any) -> dict[str, str]:
    """Return the facts of the report of a fitted Forecaster: series, members, intervals."""
    model, panel = forecaster._fitted(), forecaster._panel
    lengths, missing = panel.lengths, sum(int(np.isnan(y).sum()) for y in panel.values)
    linear, networks = forecaster.weights_.values()
    corrections = f"linear map {linear:.2f}, {len(model.corrections.networks[1:])} networks {networks:.2f}"
    season = f"season of {model.season} steps"
    if forecaster._other_seasons:
        season += f"; not used: {', '.join(map(str, forecaster._other_seasons))} steps"
    members = "median of Theta and damped trends, with and without logarithms"
    if model.naive_share:
        members = f"{model.naive_share:.0%} {naive_name(model.season)}, {1 - model.naive_share:.0%} {members}"
    return {
        "series": f"{len(lengths)}, with {lengths.min()} to {lengths.max()} values, of which {missing} are missing",
        "frequency": f"{forecaster.frequency_ or 'no dates'}, {season}",
        "horizon": f"{model.horizon} steps",
        "members": members,
        "corrections": corrections if any((linear, networks)) else "none: they did not reduce the error",
        "covariates": pluralize(panel.regressors[0].shape[1], "feature") + " with known future values",
        "intervals": f"{np.count_nonzero(~np.isnan(model.scores)):,} nonconformity scores of later observations",
        "time": f"{forecaster.seconds_:.1f} s",
    }


def naive_name(season: int) -> str:
    """Return the name of the forecast that repeats the last season."""
    return "last value (naive)" if season == 1 else "last season (seasonal naive)"
