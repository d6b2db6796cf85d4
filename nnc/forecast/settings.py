"""Checked arguments of a Forecaster."""

from __future__ import annotations

from functools import partial

from nnc._utils.checks import allow_none, check_choice, check_count
from nnc._utils.value import Value, field

PRESETS = "fast", "default"
MAX_HORIZON = 1000


class ForecastSettings(Value):
    """Arguments of `Forecaster`, which describes them; `fit` checks them."""

    horizon: int = field(check=partial(check_count, maximum=MAX_HORIZON))
    season: int | None = field(default=None, check=allow_none(partial(check_count, maximum=MAX_HORIZON)))
    preset: str = field(default="default", check=partial(check_choice, choices=PRESETS))
    n_jobs: int | None = field(default=None, check=allow_none(check_count))
    seed: int = field(default=0, check=partial(check_count, minimum=0))
