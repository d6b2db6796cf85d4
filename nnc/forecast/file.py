"""Files of forecast models.

A model file contains the networks of the corrections, and a JSON object "forecast" with these members:

    {"recipe": 1,
     "settings": {"horizon": 12, "season": null or 12, "preset": "default", "n_jobs": null, "seed": 0},
     "season": 12, "other_seasons": [seasons that forecasts do not use], "naive_share": 0.0, 0.5 or 1.0,
     "names": null or [text, numbers or lists of them], "rows": [indices], "seconds": 0.5,
     "panel": {"values": [[...], ...], "starts": [...], "regressors": [[[...], ...], ...], "past": ..., "static": ...},
     "width": [a number for each series],
     "corrections": {"weights": [...], "input_scale": [...], "unit": [...]},
     "effects": null or {"knots": ..., "coefficients": ..., "center": ..., "positive": [0 or 1, ...], "scale": [...]},
     "scores": [[a number or null for each step], ...],
     "effective_sizes": null or [a number for each step],
     "layout": null or the fields of `Layout`, for frames,
     "self_test": {"forecast": [the forecast of the first series of the panel]}}

"recipe" is the version of the statistical forecasts, RECIPE. NaN is null in the file. The series of the panel have the
order of `Panel.order`; `rows` are their positions in the order of the forecasts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._parallel.members import Members, check_sizes
from nnc._utils import fields
from nnc._utils.notices import warn_user
from nnc.forecast.corrections import Corrections
from nnc.forecast.effects import KNOTS, Effects
from nnc.forecast.frequency import Frequency
from nnc.forecast.model import ForecastModel
from nnc.forecast.panel import Panel
from nnc.forecast.reading import ForecastWarning
from nnc.forecast.seasons import Seasons
from nnc.forecast.settings import ForecastFit, ForecastSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc.forecast.frames import Layout
    from nnc.forecast.statistics import Floats

FILE_KIND = "forecast model"
RECIPE = 1  # increase with each change of the statistical forecasts, which a file does not contain
OLDER_RECIPE = (
    "this model was saved by a version of nnc with other statistical forecasts, so its forecasts have changed; fit the "
    "model again to adapt the corrections and the intervals"
)
UNITS = "month", "second", "business day", "number"
LAYOUT_TEXTS = "time", "target", "library", "time_type"


def documents(fit: ForecastFit) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the networks of a fit and its other members as JSON objects."""
    model, panel = fit.model, fit.panel
    corrections, effects, layout = model.corrections, model.effects, fit.layout
    names = None if fit.names is None else [_name_document(name) for name in fit.names]
    return corrections.networks.documents(), {
        "recipe": RECIPE,
        "settings": vars(fit.settings),
        "season": model.season,
        "other_seasons": list(fit.seasons.others),
        "naive_share": model.naive_share,
        "names": names,
        "rows": fit.rows.tolist(),
        "seconds": fit.seconds,
        "panel": {key: [_lists(row) for row in getattr(panel, key)] for key in Panel.__dataclass_fields__},
        "width": fit.width.tolist(),
        "corrections": {key: _lists(np.array(getattr(corrections, key))) for key in ("weights", "input_scale", "unit")},
        "effects": None if effects is None else {key: _lists(1.0 * x) for key, x in effects._asdict().items()},
        "scores": _lists(model.scores),
        "effective_sizes": None if model.effective_sizes is None else model.effective_sizes.tolist(),
        "layout": None if layout is None else _layout_document(layout),
        "self_test": {"forecast": _test_forecast(model, panel).tolist()},
    }


def _test_forecast(model: ForecastModel, panel: Panel) -> Floats:
    """Return the forecast of the first series, with future covariates of 0; files store it as self-test."""
    first = np.zeros(1, np.intp)
    return np.asarray(model.select(first).predict(panel.select(first)).forecast()[0])


def _lists(array: Floats) -> Any:
    """Return an array as nested lists with None in place of NaN."""
    return np.where(np.isnan(array), None, array).tolist()  # type: ignore[call-overload]


def _name_document(name: Any) -> Any:
    """Return the name of a series as a JSON value; raise TypeError for other types than text and numbers."""
    if isinstance(name, tuple):
        return [_name_document(part) for part in name]
    if isinstance(name, np.generic):
        name = name.item()
    if not isinstance(name, (str, int, float)):
        raise TypeError(f"names of series must be text or numbers in a file, got {name!r}; rename the series")
    return name


def _layout_document(layout: Layout) -> dict[str, Any]:
    """Return the JSON object of a layout."""
    return {
        **{key: getattr(layout, key) for key in (*LAYOUT_TEXTS, "zone", "is_local", "calendar")},
        "id": list(layout.id),
        "covariates": {role: list(names) for role, names in layout.covariates.items()},
        "frequency": layout.frequency._asdict(),
        "schemas": {role: None if schema is None else schema.document() for role, schema in layout.schemas.items()},
    }


# ------------------------------------------------------------------------------------------------ parsing


def _array(members: dict[str, Any], key: str, shape: tuple[int, ...], where: str, nan: bool = False) -> NDArray[Any]:
    """Convert nested lists to a float64 array; -1 in `shape` is any length, and null is NaN if `nan` is true."""
    value = fields.member(members, key, list, where=where)
    if not value and shape[0] in (-1, 0):
        return np.zeros([max(n, 0) for n in shape])
    array = np.array(value, np.float64)
    fits = array.ndim == len(shape) and all(n in (-1, m) for n, m in zip(shape, array.shape, strict=True))
    if not fits or np.isinf(array).any() or (not nan and np.isnan(array).any()):
        expected = "finite numbers" + (" or null" if nan else "")
        raise ValueError(f"{where}{key} is {fields.describe(value)}, expected {expected} in the shape {shape}")
    return array


def parse(body: dict[str, Any], networks: Members) -> ForecastFit:
    """Return the record of a fit; raise ValueError that locates invalid content."""
    recipe = fields.unsigned(body, "recipe", 0, bits=31) or 0
    if recipe > RECIPE:
        raise ValueError(f"recipe is {recipe}, expected at most {RECIPE}; load the file with a newer version of nnc")
    arguments = fields.member(body, "settings", dict)
    fields.check_keys(arguments, (*ForecastSettings._fields,), "settings")
    settings = ForecastSettings(**arguments)
    horizon, season = settings.horizon, fields.size(body.get("season"), "season")
    panel = _parse_panel(fields.member(body, "panel", dict))
    rows = fields.member(body, "rows", list)
    if sorted(rows) != list(range(len(panel))) or not all(type(row) is int for row in rows):
        raise ValueError(f"rows is {fields.describe(rows)}, expected each index of the {len(panel)} series once")
    names = fields.member(body, "names", list, type(None))
    if names is not None:
        names = [tuple(name) if isinstance(name, list) else name for name in names]
    if len(set(names)) != len(panel) if names is not None else len(panel) > 1:
        raise ValueError(f"names is {fields.describe(names)}, expected {len(panel)} distinct names")
    corrections = _parse_corrections(fields.member(body, "corrections", dict), networks, horizon)
    effects = fields.member(body, "effects", dict, type(None))
    model = ForecastModel(
        season,
        horizon,
        corrections,
        None if effects is None else _parse_effects(effects, len(panel), panel.regressors[0].shape[1]),
        _array(body, "scores", (-1, horizon), "", nan=True),
        None if body.get("effective_sizes") is None else _array(body, "effective_sizes", (horizon,), ""),
        _share(body),
    )
    layout = fields.member(body, "layout", dict, type(None))
    others = tuple(fields.size(other, "other_seasons") for other in body.get("other_seasons", []))
    record = ForecastFit(
        settings,
        model,
        panel,
        names,
        np.array(rows, np.intp),
        _array(body, "width", (len(panel),), ""),
        None if layout is None else _parse_layout(layout),
        Seasons(season, others),
        fields.number(body.get("seconds"), "seconds"),
    )
    self_test = fields.member(body, "self_test", dict)
    expected, actual = _array(self_test, "forecast", (horizon,), "self_test."), _test_forecast(model, panel)
    if recipe < RECIPE:
        warn_user(OLDER_RECIPE, ForecastWarning)
    elif not np.allclose(actual, expected, rtol=1e-4, atol=1e-4 * (1e-300 + np.abs(expected).max())):
        raise ValueError(
            f"self_test.forecast is {fields.describe(self_test['forecast'])}, expected the forecast of the model up to "
            f"rounding, {fields.describe(actual.tolist())}"
        )
    return record


def _share(body: dict[str, Any]) -> float:
    """Return the weight of the seasonal naive forecast, which is 0 in files of older versions."""
    share = float(fields.number(body.get("naive_share", 0.0), "naive_share"))
    if not 0 <= share <= 1:
        raise ValueError(f"naive_share is {share:g}, expected a number from 0 to 1")
    return share


def _parse_panel(members: dict[str, Any]) -> Panel:
    """Create the panel from a JSON object."""
    values = fields.member(members, "values", list, where="panel.")
    n = len(values)
    if not n:
        raise ValueError("panel.values is empty, expected at least one series")
    series = [_array({"values": y}, "values", (-1,), f"panel.values[{i}].", nan=True) for i, y in enumerate(values)]
    if any(len(y) == 0 or np.isnan(y[[0, -1]]).any() for y in series):
        raise ValueError("panel.values has a series without values at its ends, expected numbers there")
    covariates = {}
    for key in ("regressors", "past"):
        tables = fields.member(members, key, list, where="panel.")
        if len(tables) != n:
            raise ValueError(f"panel.{key} is {fields.describe(tables)}, expected one table for each of {n} series")
        arrays = [np.array(table, np.float64).reshape(len(y), -1) for table, y in zip(tables, series, strict=True)]
        if len({array.shape[1] for array in arrays}) > 1 or not all(np.isfinite(array).all() for array in arrays):
            raise ValueError(f"panel.{key} is {fields.describe(tables)}, expected finite tables with equal columns")
        covariates[key] = arrays
    starts = _array(members, "starts", (n,), "panel.").astype(np.intp)
    static = np.array(fields.member(members, "static", list, where="panel."), np.float64).reshape(n, -1)
    return Panel(series, starts, covariates["regressors"], covariates["past"], static)


def _parse_corrections(members: dict[str, Any], networks: Members, horizon: int) -> Corrections:
    """Create the corrections from a JSON object and networks."""
    scale = _array(members, "input_scale", (-1,), "corrections.")
    unit = _array(members, "unit", (horizon,), "corrections.")
    weights = _array(members, "weights", (len(networks),), "corrections.")
    for i, network in enumerate(networks):
        check_sizes(network, len(scale), horizon, f"networks[{i}]")
    if (scale <= 0).any():
        raise ValueError("corrections.input_scale has a number that is not positive, expected positive numbers")
    return Corrections(networks, tuple(weights.tolist()), scale, unit)


def _parse_effects(members: dict[str, Any], n: int, columns: int) -> Effects:
    """Create the effects of known covariates from a JSON object."""
    knots = _array(members, "knots", (KNOTS, columns), "effects.", nan=True)
    features = columns * (KNOTS + 1)
    coefficients, center = (_array(members, key, (n, features), "effects.") for key in ("coefficients", "center"))
    positive, scale = (_array(members, key, (n,), "effects.") for key in ("positive", "scale"))
    return Effects(knots, coefficients, center, positive > 0, scale)


def _parse_layout(members: dict[str, Any]) -> Layout:
    """Create the layout of a frame from a JSON object."""
    from nnc._tables.schema import Schema
    from nnc.forecast.frames import ROLES, Layout

    where = "layout."
    texts = {key: fields.member(members, key, str, where=where) for key in LAYOUT_TEXTS}
    flags = {key: fields.member(members, key, bool, where=where) for key in ("is_local", "calendar")}
    frequency = fields.member(members, "frequency", dict, where=where)
    fields.check_keys(frequency, Frequency._fields, "layout.frequency")
    fields.choice(frequency, "unit", UNITS, "layout.frequency.")
    for key in ("step", "anchor"):
        fields.number(frequency[key], f"layout.frequency.{key}")
    phase = fields.unsigned(frequency, "phase", 0, "layout.frequency.", bits=31)
    if frequency["step"] <= 0:
        raise ValueError(f"layout.frequency has the step {frequency['step']:g}, expected a positive number")
    columns = fields.member(members, "covariates", dict, where=where)
    schemas = fields.member(members, "schemas", dict, where=where)
    for members_of_roles, name in ((columns, "covariates"), (schemas, "schemas")):
        fields.check_keys(members_of_roles, ROLES, f"layout.{name}")
    return Layout(
        id=tuple(map(str, fields.member(members, "id", list, where=where))),
        covariates={role: tuple(map(str, columns[role])) for role in ROLES},
        frequency=Frequency(frequency["unit"], frequency["step"], frequency["anchor"], phase or 0),
        zone=fields.member(members, "zone", str, type(None), where=where),
        schemas={role: None if schemas[role] is None else Schema.from_document(schemas[role]) for role in ROLES},
        **texts,
        **flags,
    )
