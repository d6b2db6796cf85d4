"""Warnings about series and covariates that make forecasts less accurate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnc._utils.notices import warn_user
from nnc.forecast.effects import is_explained
from nnc.forecast.frequency import of_series, show_time
from nnc.forecast.reading import ForecastWarning, describe_names, warn_of_ignored_columns
from nnc.forecast.report import naive_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.forecast.frames import Layout
    from nnc.forecast.model import ForecastModel
    from nnc.forecast.panel import Panel
    from nnc.forecast.seasons import Seasons
    from nnc.forecast.statistics import Floats, Ints

ADVISED_OBSERVATIONS = 10  # `fit` warns about series with fewer observations
OUTLIER_RATIO = 100  # `fit` warns about values this many times as far from the median as 90 % of the values
ADVISED_MISSING = 1 / 3  # `fit` warns about series with a larger fraction of missing values


def warn_of_data(
    panel: Panel, names: Sequence[object] | None, layout: Layout | None, model: ForecastModel, seasons: Seasons
) -> None:
    """Warn of series and columns for which forecasts are less accurate, or no better than the last season.

    Parameters
    ----------
    panel : Panel
    names : sequence or None
        Names of the series; None for a single series without a name.
    layout : Layout or None
        Layout of the frame of the series; None for arrays.
    model : ForecastModel
    seasons : Seasons
    """
    labels = [0] if names is None else names
    messages = (
        _short_series_message(panel, labels, model.season),
        _missing_values_message(panel, labels),
        seasons.message(),
        _naive_message(model),
    )
    for message in filter(None, messages):
        warn_user(message, ForecastWarning)
    warn_of_outliers(panel, names, layout)
    n_known = panel.regressors[0].shape[1]
    columns = [f"column {j} of X" for j in range(n_known)] if layout is None else layout.known_labels
    _warn_of_explained_columns(panel.regressors, columns, model.season)


def warn_of_outliers(
    panel: Panel, names: Sequence[object] | None, layout: Layout | None, checked: Ints | None = None
) -> None:
    """Warn of values that are far from all others of their series or known column, such as typing errors.

    Parameters
    ----------
    panel, names, layout
        As in `warn_of_data`.
    checked : int array (series,), optional
        Number of values at the start of each series that are not checked again. Default: 0.
    """
    found = []
    for i, (y, X) in enumerate(zip(panel.values, panel.regressors, strict=True)):
        first = 0 if checked is None else int(checked[i])
        # The encodings of the columns of frames compress values that are far from all others.
        columns = [*X.T] if layout is None else []
        for j, values in enumerate([y, *columns]):
            position = _find_outlier(values, first, is_covariate=j > 0)
            if position is not None:
                step = _show_step(int(panel.starts[i]) + position, layout)
                series = f" in column {j - 1} of X" if j else "" if names is None else of_series(names[i])
                found.append(f"{values[position]:g} at {step}{series}")
    if not found:
        return
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    message = (
        f"values are more than {OUTLIER_RATIO} times as far from the median as 90 % of the others: "
        f"{', '.join(found[:3])}{more}; wrong values distort forecasts and intervals; correct them, or replace them by "
        "NaN in a series"
    )
    warn_user(message, ForecastWarning)


def _find_outlier(values: Floats, first: int, is_covariate: bool) -> int | None:
    """Return the position, at least `first`, of the value that is farthest from all others; None if none is far."""
    observed = values[~np.isnan(values)]
    median = np.median(observed)
    usual = np.quantile(np.abs(observed - median), 0.9, method="lower")
    if usual <= 1e-9 * abs(median):
        # Most values are equal, for example 0. The others may be the few events of a covariate.
        others = observed - median if is_covariate else observed
        usual = np.median(np.abs(others[others != 0])) if others.any() else 1
    deviations = np.nan_to_num(np.abs(values[first:] - median))
    is_far = deviations.max(initial=0) > OUTLIER_RATIO * usual
    return first + int(deviations.argmax()) if is_far else None


def _show_step(step: int, layout: Layout | None) -> str:
    """Return the time of a grid point, or the position in an array, as text for messages."""
    if layout is None:
        return f"position {step}"
    return show_time(float(layout.frequency.to_times(np.array([step]))[0]), layout.time_type != "number")


def _short_series_message(panel: Panel, names: Sequence[object], season: int) -> str | None:
    """Return the text of the warning about short series, or None if all series are long enough."""
    counts = np.array([np.count_nonzero(~np.isnan(y)) for y in panel.values])
    few = [name for name, n in zip(names, counts, strict=True) if n < ADVISED_OBSERVATIONS]
    short = [name for name, n in zip(names, panel.lengths, strict=True) if season > 1 and n < 3 * season]
    found, problem = few, f"fewer than {ADVISED_OBSERVATIONS} observations"
    effect = "forecasts and intervals are unreliable"
    if not few:
        found, problem = short, f"less than three seasons of {season} steps"
        effect = "forecasts are mixed with the last season (seasonal naive member), unless the season is clear"
    if not found:
        return None
    if len(names) == 1:
        return f"the series has {problem}; its {effect}"
    return f"{len(found)} of {len(names)} series have {problem}: {describe_names(found)}; their {effect}"


def _naive_message(model: ForecastModel) -> str | None:
    """Return the text of the warning that forecasts repeat the last season; None if they do not.

    Series without a season get no warning: their last value is the best forecast of a random walk.
    """
    if model.naive_share < 1 or model.season == 1:
        return None
    corrections = " and corrections by networks" if any(model.corrections.weights) else ""
    return (
        f"forecasts are the {naive_name(model.season)}{corrections}, because the other statistical forecasts had "
        "clearly larger errors for later observations; pass season= to use another season, or known covariates"
    )


def _missing_values_message(panel: Panel, names: Sequence[object]) -> str | None:
    """Return the text of the warning about series with many missing values; None if there are none."""
    fractions = [np.isnan(y).mean() for y in panel.values]
    found = [name for name, fraction in zip(names, fractions, strict=True) if fraction > ADVISED_MISSING]
    if not found:
        return None
    return (
        f"{len(found)} of {len(names)} series have no value at more than a third of their times: "
        f"{describe_names(found)}; forecasts interpolate these times; add rows of 0 if a missing row means 0, and pass "
        "dates if numbers of times have gaps, such as weeks 202452 and 202501"
    )


def _warn_of_explained_columns(regressors: Sequence[Floats], labels: Sequence[str], season: int) -> None:
    """Warn of known columns that trend and season explain.

    Parameters
    ----------
    regressors : sequence of arrays (n, covariates)
        Known covariates of each series.
    labels : sequence of str
        Description of the column of each covariate; a column of text has several covariates. Further covariates are
        calendar features, which have no label.
    season : int
    """
    if not labels:
        return
    flags = is_explained(regressors, season)[: len(labels)]
    unexplained = {label for label, flag in zip(labels, flags, strict=True) if not flag}
    reason = "trend and season explain it; leave it out, or fit to a longer past"
    found = [(label, reason) for label in dict.fromkeys(labels) if label not in unexplained]
    warn_of_ignored_columns(found, "can hardly")
