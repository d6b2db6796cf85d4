"""Backtests: forecasts from rolling origins, with metrics for each horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._drawing import html
from nnc._utils.text_table import aligned
from nnc.forecast.metrics import quantile_terms, seasonal_scale, smape_terms
from nnc.forecast.model import adapt_width
from nnc.forecast.reading import percents, quantile_shifts
from nnc.forecast.statistics import fill_gaps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from nnc.forecast.model import ForecastModel
    from nnc.forecast.panel import Panel
    from nnc.forecast.settings import ForecastFit
    from nnc.forecast.statistics import Floats, Ints

# Smallest number of observations of a series before the first origin; shorter series get no forecasts.
MIN_TRAINING_VALUES = 6


@dataclass(eq=False, repr=False)
class Backtest:
    """Forecasts from rolling origins and their errors.

    `print(backtest)` prints the metrics as a table, and notebooks show it.

    Attributes
    ----------
    forecasts, actuals : arrays (windows, series, horizon)
        Forecasts and observations; the last window is the latest. NaN where there is no observation, and for series
        that are too short.
    starts : int array (windows,)
        Time of the first forecast of each window, in steps relative to the end of the series.
    lower, upper : dict of float to array (windows, series, horizon)
        Ends of the prediction intervals for each level, such as 0.8.
    by_horizon : dict of str to array (horizon,)
        Metrics for each step: "mase", "rmsse" (both scaled by the seasonal naive errors before the origin), "smape" in
        percent, "quantile_loss" (the mean loss of the ends of all intervals, scaled like "mase") and "coverage_80", ...
        (fractions). Scaled metrics leave out series that repeat exactly before the origin, whose scale is 0. They are
        NaN if no other series is left.
    scores : dict of str to float
        The same metrics for all steps together.
    """

    forecasts: Floats
    actuals: Floats
    starts: Ints
    lower: dict[float, Floats]
    upper: dict[float, Floats]
    by_horizon: dict[str, Floats]
    scores: dict[str, float]

    def __str__(self) -> str:
        return "\n".join(aligned(self._lines()))

    def __repr__(self) -> str:
        windows, series, horizon = self.forecasts.shape
        return f"<Backtest: {windows} windows, {series} series, horizon {horizon}, MASE {self.scores['mase']:.3f}>"

    def _repr_html_(self) -> str:
        head, *lines = self._lines()
        return html.table(head, lines)

    def _lines(self) -> list[list[str]]:
        """Return the rows of the table: the names of the metrics, one row for each step, and one for all steps."""
        columns = list(self.by_horizon.values())
        lines = [[str(k + 1), *(f"{column[k]:.4g}" for column in columns)] for k in range(self.forecasts.shape[2])]
        return [["step", *self.scores], *lines, ["all", *(f"{value:.4g}" for value in self.scores.values())]]

    def plot(self, ax: Axes | None = None, *, series: int = 0) -> Axes:
        """Plot the forecasts of all windows for one series, with observations and intervals (extra `[plot]`).

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes to draw into. Default: the Axes of a new figure.
        series : int, default 0
            Index of the series.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from nnc.plot.axes import axes

        ax = axes(ax)
        windows, _, horizon = self.forecasts.shape
        for i in range(windows):
            t = np.arange(horizon) + self.starts[i]
            ax.plot(t, self.actuals[i, series], color="black", label="observation" if i == 0 else None)
            ax.plot(t, self.forecasts[i, series], color="C0", label="forecast" if i == 0 else None)
            levels = sorted(self.lower, reverse=True)
            for level, text in zip(levels, percents(levels), strict=True):
                label = f"{text} % interval" if i == 0 else None
                ends = self.lower[level][i, series], self.upper[level][i, series]
                ax.fill_between(t, *ends, color="C0", alpha=0.2, linewidth=0, label=label)
        ax.set_xlabel("step, relative to the end of the series")
        ax.legend()
        return ax


def run_backtest(
    fit: ForecastFit, windows: int, step: int, slides: bool, refit: bool, levels: Sequence[float]
) -> Backtest:
    """Forecast the series of a fit from rolling origins; see `Forecaster.backtest`."""
    shifts = quantile_shifts(levels, None)
    panel, rows, horizon = fit.panel, fit.rows, fit.settings.horizon
    first = horizon + (windows - 1) * step  # number of steps from the first origin to the end of a series
    observed = np.array([np.count_nonzero(~np.isnan(y)) for y in panel.before(first).values])
    used = np.flatnonzero(observed >= MIN_TRAINING_VALUES)
    if not len(used):
        raise ValueError(
            f"windows must leave {MIN_TRAINING_VALUES} observations before the first origin, got {first} later values "
            f"in series of at most {panel.lengths.max()}; use fewer windows or a smaller step"
        )
    part = panel.select(used)
    arrays = {name: np.full((windows, len(panel), horizon), np.nan) for name in ("actual", "forecast", *shifts)}
    # Mean absolute value and mean square of the seasonal naive errors, by which metrics are scaled.
    scales = np.full((2, windows, len(panel), 1), np.nan)
    past = part.before(first)
    model, width = fit.settings.fit(past, fit.layout, fit.seasons.season), np.ones(len(part))
    for w in range(windows):
        back = first - w * step
        origins, before, past = part.lengths - back, past, part.before(back)
        visible = part.before(back, int(origins.max()) - w * step) if slides else past
        if w and refit:
            model = fit.settings.fit(visible, fit.layout, fit.seasons.season)
        elif w:
            width = adapt_width(model, before, past, width)
        future = part.cut([slice(origin, origin + horizon) for origin in origins.tolist()])
        prediction = model.predict(visible, future.regressors)
        arrays["actual"][w, used], arrays["forecast"][w, used] = future.values, prediction.forecast()
        for name, probability in shifts.items():
            arrays[name][w, used] = prediction.quantile(probability, width)
        for power in (1, 2):
            scales[power - 1, w, used, 0] = [seasonal_scale(y, model.season, power) for y in past.values]
    arrays = {name: values[:, rows] for name, values in arrays.items()}
    return _evaluate(arrays, scales[:, :, rows], np.arange(windows) * step - first, levels, shifts)


def _evaluate(
    arrays: dict[str, Floats], scales: Floats, starts: Ints, levels: Sequence[float], shifts: dict[str, float]
) -> Backtest:
    """Compute the metrics of forecasts and intervals, and return the Backtest."""
    actual, forecast = arrays["actual"], arrays["forecast"]
    texts = dict(zip(levels, percents(levels), strict=True))
    lower, upper = ({level: arrays[f"{side}_{texts[level]}"] for level in levels} for side in ("lower", "upper"))
    error = np.abs(actual - forecast)
    terms = {"mase": error / scales[0], "smape": smape_terms(actual, forecast), "rmsse": error / np.sqrt(scales[1])}
    if shifts:
        losses = [quantile_terms(actual, arrays[name], probability) for name, probability in shifts.items()]
        terms["quantile_loss"] = np.mean(losses, axis=0) / scales[0]
    for level, text in texts.items():
        inside = (actual >= lower[level]) & (actual <= upper[level])
        terms[f"coverage_{text}"] = np.where(np.isnan(actual), np.nan, inside)
    by_horizon = {name: _mean(values, (0, 1)) for name, values in terms.items()}
    scores = {name: float(_mean(values, None)) for name, values in terms.items()}
    scores["rmsse"] = float(_mean(np.sqrt(_mean(terms["rmsse"] ** 2, 2)), None))
    return Backtest(forecast, actual, starts, lower, upper, by_horizon, scores)


def skill(model: ForecastModel, before: Panel, after: Panel) -> float:
    """Return 1 minus the error of the forecasts divided by that of the seasonal naive ones; see `Forecaster.score`.

    Parameters
    ----------
    model : ForecastModel
    before : Panel
        Series of the model.
    after : Panel
        The same series with later observations.
    """
    horizon, season = model.horizon, model.season
    later = after.cut([slice(n, n + horizon) for n in before.lengths.tolist()])
    missing = (horizon - later.lengths).tolist()  # steps without an observation
    actual = np.stack([np.pad(y, (0, n), constant_values=np.nan) for y, n in zip(later.values, missing, strict=True)])
    future = [np.pad(X, ((0, n), (0, 0))) for X, n in zip(later.regressors, missing, strict=True)]
    naive = np.stack([np.resize(fill_gaps(y, season)[-season:], horizon) for y in before.values])
    scale = np.array([[seasonal_scale(y, season, 1)] for y in before.values])
    errors = [_mean(np.abs(actual - x) / scale, None) for x in (model.predict(before, future).forecast(), naive)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(1 - errors[0] / errors[1])


def _mean(values: Floats, axis: int | tuple[int, ...] | None) -> Any:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    present = ~np.isnan(values)
    count = present.sum(axis=axis)
    return np.where(count > 0, np.where(present, values, 0).sum(axis=axis) / np.maximum(count, 1), np.nan)
