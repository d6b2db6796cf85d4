"""Checked arguments of a Forecaster, and the record of its fit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nnc._utils.checks import allow_none, check_choice, check_count
from nnc._utils.value import Value, field
from nnc.forecast.model import ForecastModel, fit_model
from nnc.forecast.seasons import Seasons, choose_season

if TYPE_CHECKING:
    from collections.abc import Hashable

    from nnc.forecast.frames import Layout
    from nnc.forecast.panel import Panel
    from nnc.forecast.statistics import Floats, Ints

PRESETS = "fast", "default"
MAX_HORIZON = 1000


class ForecastSettings(Value):
    """Arguments of `Forecaster`, which describes them; `fit` checks them."""

    horizon: int = field(check=partial(check_count, maximum=MAX_HORIZON))
    season: int | None = field(default=None, check=allow_none(partial(check_count, maximum=MAX_HORIZON)))
    preset: str = field(default="default", check=partial(check_choice, choices=PRESETS))
    n_jobs: int | None = field(default=None, check=allow_none(check_count))
    seed: int = field(default=0, check=partial(check_count, minimum=0))

    def choose_season(self, panel: Panel, layout: Layout | None) -> Seasons:
        """Return the season from the user, or the choice between the seasons of the frequency and of the series."""
        if self.season is not None:
            return Seasons(self.season)
        calendar, n_calendar = ((), 0) if layout is None else (layout.frequency.seasons, layout.n_calendar)
        return choose_season(panel, self.horizon, calendar, n_calendar)

    def fit(self, panel: Panel, layout: Layout | None, season: int) -> ForecastModel:
        """Return the model of a panel."""
        n_calendar = 0 if layout is None else layout.n_calendar
        return fit_model(panel, season, self.horizon, self.preset == "default", self.seed, self.n_jobs, n_calendar)


class ForecastFit(Value):
    """Record of the fit of a Forecaster; `append` replaces it by another one with more observations."""

    settings: ForecastSettings
    model: ForecastModel
    panel: Panel
    names: list[Hashable] | None  # names of the series in the order of the caller; None for a single array
    rows: Ints  # position in the panel of each series of the caller
    width: Floats  # factor of the widths of the intervals for each series of the panel
    layout: Layout | None  # columns and times of a frame; None for arrays
    seasons: Seasons
    seconds: float  # duration of the fit
