"""`Forecaster`: forecasts of one or many time series."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc import _serialization
from nnc._parallel.members import Members
from nnc._serialization.models import load_model
from nnc._utils.checks import check_bool, check_choice, check_count, pluralize, suggest_arguments
from nnc._utils.fitted import FittedModel
from nnc.forecast import reading
from nnc.forecast.backtest import Backtest, run_backtest, skill
from nnc.forecast.data_warnings import warn_of_data, warn_of_outliers
from nnc.forecast.file import FILE_KIND, documents, parse
from nnc.forecast.indexes import is_frame
from nnc.forecast.model import adapt_width
from nnc.forecast.settings import ForecastFit, ForecastSettings

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from typing import Self

    from numpy.typing import ArrayLike

    from nnc._network import NeuralNetwork
    from nnc._registry.choices import TablePresetName
    from nnc._report.page import Report
    from nnc.forecast.frames import Layout
    from nnc.forecast.panel import Panel
    from nnc.forecast.statistics import Floats, Ints


class Forecaster(FittedModel):
    """Forecasts of time series, with prediction intervals; no setting is required.

    The forecast is the median of four statistical forecasts (Theta and damped trend, each with and without logarithms,
    after seasonal adjustment), corrected by a linear map and small networks. The map and the networks learn from
    windows of all series of a fit. Ordered validation determines their weights, which are 0 if the corrections increase
    the error. If the seasonal naive forecast, which repeats the last season, has a clearly lower validation error, it
    replaces the median, or is averaged with it.

    Parameters
    ----------
    horizon : int
        Number of steps to forecast, at most 1000.
    season : int, optional
        Number of steps in a season, 1 for no season. Default: determined by the frequency of the dates (12 for months,
        4 for quarters, 52 for weeks, 7 for days, 5 for business days, 24 for hours), unless another season has a
        clearly lower validation error (such as 168 for hours, if weekdays and weekends differ). Without dates, any
        number of steps up to 1000 is detected, if autocorrelations and the validation error confirm it.
    preset : {"fast", "default"}, default "default"
        "fast": only the statistical forecasts, without corrections.
    n_jobs : int, optional
        Number of networks that are trained at the same time; results do not depend on it. Default:
        `nnc.get_num_threads()`.
    seed : int, default 0
        Seed of the networks.

    Attributes
    ----------
    season_ : int
        Number of steps in a season.
    frequency_ : str or None
        Name of the frequency, such as "monthly"; None for series without dates.
    ids_ : list
        Names of the series, in the order of the forecasts.
    weights_ : dict of str to float
        Weights of the corrections by the linear map and by the networks together.
    naive_share_ : float
        Weight of the seasonal naive forecast (without a season: of the last value) in the statistical forecast: 0,
        unless its validation error is clearly lower, then 0.5 or 1.
    networks_ : list of NeuralNetwork
        Networks of the corrections, of which the first one is the linear map; [] without corrections.
    columns_ : dict of str to list of str, or None
        Names of the columns of the training frame by role, such as "id" and "time"; None for arrays.

    Examples
    --------
    >>> model = Forecaster(horizon=12).fit(y)
    >>> model.predict(level=[0.8, 0.95])["lower_80"]
    """

    _settings = ForecastSettings

    def __init__(
        self,
        horizon: int,
        season: int | None = None,
        *,
        preset: TablePresetName = "default",
        n_jobs: int | None = None,
        seed: int = 0,
    ) -> None:
        self.horizon, self.season, self.preset, self.n_jobs, self.seed = horizon, season, preset, n_jobs, seed

    def _fitted(self) -> ForecastFit:
        return super()._fitted()  # type: ignore[no-any-return]

    def _state(self) -> str:
        fit = self._fitted()
        return f"{fit.settings.horizon} steps of {len(fit.panel)} series"

    # ------------------------------------------------------------------------------------------ fitting

    @suggest_arguments(elsewhere="__init__")
    def fit(
        self,
        y: Any,
        X: ArrayLike | None = None,
        *,
        id: Any = None,
        time: str | None = None,
        target: str | None = None,
        known: Sequence[str] | None = None,
        past: Sequence[str] | None = None,
        static: Sequence[str] | None = None,
    ) -> Self:
        """Learn from one or many series.

        Missing values (NaN, or times that are left out) are interpolated. Missing values at the ends of a series are
        dropped: forecasts begin after the last observation.

        Parameters
        ----------
        y : array (n,), list of arrays, dict of arrays, series or frame
            An array or list of numbers is one series. A list or dict of arrays contains several series, which may have
            different lengths. Series of pandas may have dates as index. A frame of pandas, polars or pyarrow has a row
            for each time of each series (long format), in any order.
        X : array (n, covariates), optional
            Covariates of a single array whose future values are known; `predict` needs them for the next steps.
        id, time, target : str
            Column names of a frame: the name of the series (optional; a list of names if several columns identify a
            series), the date or number of the time, and the values. Default of `target`: the only other column.
        known : sequence of str, optional
            Columns of the frame whose future values are known, such as promotions.
        past : sequence of str, optional
            Columns of the frame whose future values are not known.
        static : sequence of str, optional
            Columns of the frame that are constant in each series, such as the type of a shop.

        Returns
        -------
        Forecaster
            This object.

        Raises
        ------
        ValueError
            An argument of the constructor is invalid; a series has fewer than three observations, infinite values, or
            two rows of the same time; the times are not on a regular grid; or series have different frequencies.
        TypeError
            `y` or an argument, also of the constructor, has a wrong type.
        ImportError
            `y` is a frame, and the extra `[frames]` is not installed.

        Warns
        -----
        ForecastWarning
            Series are shorter than three seasons, have fewer than ten observations or many missing values, contain
            values that are far from all others, or have several seasons, of which forecasts use one; forecasts repeat
            the last season, because nothing else was as accurate; or a covariate cannot affect the forecasts, because
            it has been constant so far, or hardly, because trend and season explain it.
        """
        start = perf_counter()
        settings = ForecastSettings(**self.get_params())
        columns = {"id": id, "time": time, "target": target, "known": known, "past": past, "static": static}
        layout: Layout | None = None
        if is_frame(y):
            from nnc.forecast.frames import read_frame

            layout, names, panel = read_frame(y, X, columns)
        else:
            reading.refuse_columns(columns)
            names, panel = reading.read_arrays(y, X)
        order = panel.order()
        ordered = panel.select(order)
        seasons = settings.choose_season(ordered, layout)
        model = settings.fit(ordered, layout, seasons.season)
        seconds, rows = perf_counter() - start, np.argsort(order)
        warn_of_data(panel, names, layout, model, seasons)
        self._record = ForecastFit(settings, model, ordered, names, rows, np.ones(len(panel)), layout, seasons, seconds)
        return self

    @property
    def season_(self) -> int:
        """Number of steps in a season."""
        return self._fitted().seasons.season

    @property
    def seconds_(self) -> float:
        """Duration of the fit in seconds."""
        return self._fitted().seconds

    @property
    def ids_(self) -> list[Hashable]:
        """Names of the series, in the order of the forecasts."""
        fit = self._fitted()
        return list(range(len(fit.rows))) if fit.names is None else list(fit.names)

    @property
    def n_series_(self) -> int:
        """Number of series."""
        return len(self._fitted().rows)

    @property
    def frequency_(self) -> str | None:
        """Name of the frequency; None for series without dates."""
        layout = self._fitted().layout
        return None if layout is None else layout.frequency.name

    @property
    def weights_(self) -> dict[str, float]:
        """Weights of the corrections by the linear map and by the networks together; 0 without corrections."""
        weights = self._fitted().model.corrections.weights or (0.0,)
        return {"linear": weights[0], "networks": float(sum(weights[1:]))}

    @property
    def naive_share_(self) -> float:
        """Weight of the seasonal naive forecast in the statistical forecast; 0 unless it is clearly more accurate."""
        return self._fitted().model.naive_share

    @property
    def networks_(self) -> list[NeuralNetwork]:
        """Networks of the corrections, of which the first one is the linear map; [] without corrections."""
        return list(self._fitted().model.corrections.networks)

    @property
    def columns_(self) -> dict[str, list[str]] | None:
        """Names of the columns of the training frame by role, such as "id" and "time"; None for arrays."""
        layout = self._fitted().layout
        return None if layout is None else layout.columns

    @property
    def needs_future_(self) -> bool:
        """Return whether `predict` needs X, the future values of known covariates."""
        fit = self._fitted()
        if fit.layout is not None:
            return bool(fit.layout.covariates["known"])
        return bool(fit.panel.regressors[0].size)

    # ------------------------------------------------------------------------------------------ forecasts

    def predict(self, X: Any = None, *, level: Any = None, quantiles: Any = None) -> Any:
        """Forecast the next `horizon` steps of each series.

        Parameters
        ----------
        X : array (horizon, covariates) or frame, optional
            Future values of the known covariates. A frame has the id and time columns of the training frame.
        level : number or sequence of numbers, optional
            Levels of prediction intervals, such as [0.8, 0.95]. An interval contains about this fraction of the future
            values.
        quantiles : number or sequence of numbers, optional
            Probabilities of quantiles, above 0 and below 1.

        Returns
        -------
        array, dict of arrays or frame
            For arrays: forecasts (horizon,) for one series, (series, horizon) for several series. With `level` or
            `quantiles`, a dict of such arrays with the keys "forecast", "lower_80", "upper_80", "quantile_0.1", ...
            For frames: a frame of the same library with the id and time columns, and columns with these names.

        Raises
        ------
        ValueError, TypeError
            An argument is invalid, or future values of known covariates are missing.

        Warns
        -----
        ForecastWarning
            A known covariate has a text that did not occur in `fit`, or numbers far outside their range in `fit`.
        """
        fit = self._fitted()
        shifts = reading.quantile_shifts(level, quantiles)
        prediction = fit.model.predict(fit.panel, self._future(X))
        columns = {"forecast": prediction.forecast()}
        for name, probability in shifts.items():
            columns[name] = prediction.quantile(probability, fit.width)
        columns = {name: values[fit.rows] for name, values in columns.items()}
        if fit.layout is not None:
            ends = (fit.panel.starts + fit.panel.lengths)[fit.rows]
            return fit.layout.write(fit.names, ends, columns)
        results = {name: values[0] if fit.names is None else values for name, values in columns.items()}
        return results if shifts else results["forecast"]

    def _future(self, X: Any) -> list[Floats] | None:
        """Return the future known covariates (horizon, covariates) of each series of the panel; None if it has none."""
        fit = self._fitted()
        n_known, horizon = fit.panel.regressors[0].shape[1], fit.settings.horizon
        if fit.layout is not None:
            future = fit.layout.read_future(X, fit.names, fit.panel, fit.rows, horizon)
            return [future[i] for i in np.argsort(fit.rows)]
        if not n_known and X is not None:
            raise ValueError("X must be None, got covariates; fit the model with X to use them")
        if not n_known:
            return None
        if X is None:
            raise ValueError(f"X must be an array ({horizon}, {n_known}), got None; the model was fitted with X")
        future_values = reading.read_covariates(X, horizon)
        if future_values.shape[1] != n_known:
            raise ValueError(f"X must have {pluralize(n_known, 'column')}, got {future_values.shape[1]}")
        past = fit.panel.regressors[0]
        rows = np.arange(horizon)
        reading.warn_of_ranges([(f"column {j} of X", past[:, j], future_values[:, j], rows) for j in range(n_known)])
        return [future_values]

    # ------------------------------------------------------------------------------------------ new observations

    def append(self, y_new: Any, X: ArrayLike | None = None) -> Self:
        """Append observations without a refit; forecasts begin after the last new observation.

        The widths of the intervals adapt to the errors of each series, as in adaptive conformal inference (Gibbs and
        Candes, 2021). For level 0.8, a value outside the interval increases the width by 4 %, and a value inside
        decreases it by 1 %. The weights of the members do not change.

        Parameters
        ----------
        y_new : array, list of arrays, dict of arrays, series or frame
            New observations in the form of the training data. A dict or a frame may contain only some of the series.
        X : array (n, covariates), optional
            Covariates of the new observations of a single array.

        Returns
        -------
        Forecaster
            This object.

        Raises
        ------
        ValueError, TypeError
            The observations are invalid, belong to an unknown series, or do not follow the last observation.

        Warns
        -----
        ForecastWarning
            A new value is far from all others of its series.
        """
        fit = self._fitted()
        names, index, panel = self._extended(y_new, X)
        longer = panel.select(index)
        warn_of_outliers(longer, names if fit.names else None, fit.layout, checked=fit.panel.lengths[index])
        self._record = fit.replace(panel=panel, width=adapt_width(fit.model, fit.panel, panel, fit.width))
        return self

    def _extended(self, y_new: Any, X: Any) -> tuple[list[Hashable], Ints, Panel]:
        """Return the names and the indices of the series with new observations, and the panel with these."""
        fit = self._fitted()
        read = self._read_new_arrays if fit.layout is None else fit.layout.read_new
        names, new = read(y_new, X)
        positions = {name: i for i, name in enumerate(self.ids_)}
        for name in names:
            if name not in positions:
                raise ValueError(f"y_new must contain only series of the fit, got {name!r}; fit the model again")
        index = np.array([fit.rows[positions[name]] for name in names], np.intp)
        return names, index, fit.panel.extended(index, new, names, has_grid=fit.layout is not None)

    def _read_new_arrays(self, y_new: Any, X: Any) -> tuple[list[Hashable], Panel]:
        """Return the names and the panel of new observations in arrays."""
        if is_frame(y_new):
            raise TypeError(f"y_new must be an array as in fit, got {type(y_new).__name__}; pass the column of values")
        keys, new = reading.read_arrays(y_new, X, minimum=1, name="y_new")
        names = keys if isinstance(y_new, Mapping) and keys is not None else self.ids_
        if len(new) != len(names):
            raise ValueError(
                f"y_new must have one array for each of the {len(names)} series, got {len(new)}; pass a dict of arrays "
                "to append to some of them"
            )
        found, expected = new.regressors[0].shape[1], self._fitted().panel.regressors[0].shape[1]
        if found != expected:
            raise ValueError(f"X must have {pluralize(expected, 'column')} as in fit, got {found}")
        return names, new

    # ------------------------------------------------------------------------------------------ files and reports

    def save(self, path: Any) -> None:
        """Write the fitted model with its observations to a JSON file; `nnc.load` reads it.

        A loaded model gives the same forecasts, to the last bit, and accepts `append`. As in `NeuralNetwork.save`, the
        file is replaced atomically, and the same errors are raised.

        Parameters
        ----------
        path : str, os.PathLike or text file
        """
        _serialization.write(path, *documents(self._fitted()), FILE_KIND)

    def to_json(self) -> str:
        """Return the JSON text that `save` writes."""
        return _serialization.dumps(*documents(self._fitted()), FILE_KIND)

    @classmethod
    def load(cls, path: Any) -> Forecaster:
        """Load a model that was saved with `save`; the errors are those of `nnc.load`."""
        return load_model(path, None, {FILE_KIND: cls._from_content})

    @classmethod
    def _from_content(cls, content: Any, where: str, loss: Any) -> Forecaster:
        """Create a Forecaster from the parsed content of a file; `where` names the file in error messages."""
        networks = Members.from_documents(content[0], where)
        with _serialization.build_errors(where, FILE_KIND):
            record = parse(content[1], networks)
        forecaster = cls(**vars(record.settings))
        forecaster._record = record
        return forecaster

    def report(self) -> Report:
        """Return a report of the fit: series, members, intervals.

        `print` shows it as text and notebooks as a table; `report.save(path)` writes an HTML page.
        """
        from nnc._report.page import Report
        from nnc.forecast.report import describe

        return Report("Forecaster", describe(self._fitted()), ())

    # ------------------------------------------------------------------------------------------ evaluation

    def score(self, y_new: Any, X: ArrayLike | None = None) -> float:
        """Return the skill of the forecasts: 1 minus their error divided by that of repeating the last season.

        Both errors are absolute errors in units of the mean absolute difference of two values one season apart, as in
        the mean absolute scaled error (Hyndman and Koehler, 2006), averaged over the steps and the series. A perfect
        forecast has the score 1, and one that is as good as the seasonal naive forecast has 0.

        Parameters
        ----------
        y_new : array, list of arrays, dict of arrays, series or frame
            Observations after those of the fit, in the form of the training data; those after `horizon` steps do not
            count.
        X : array (n, covariates), optional
            Covariates of these observations of a single array.

        Returns
        -------
        float
            NaN if all series repeat exactly, so that there is no scale for their errors.

        Raises
        ------
        ValueError, TypeError
            As in `append`.
        """
        fit, (_, index, panel) = self._fitted(), self._extended(y_new, X)
        return skill(fit.model.select(index), fit.panel.select(index), panel.select(index))

    def backtest(
        self,
        windows: int = 5,
        *,
        step: int | None = None,
        mode: str = "expanding",
        refit: bool = False,
        level: Any = (0.8, 0.95),
    ) -> Backtest:
        """Forecast the last observations of each series from several rolling origins.

        No forecast uses later observations: the members learn from the observations before the first origin, or before
        each origin with `refit`. The model itself does not change.

        Parameters
        ----------
        windows : int, default 5
            Number of origins.
        step : int, optional
            Number of steps between two origins. Default: `horizon`.
        mode : {"expanding", "sliding"}, default "expanding"
            "expanding": a forecast uses all observations before its origin. "sliding": each forecast uses the same
            number of observations.
        refit : bool, default False
            Whether the members learn again at each origin.
        level : number or sequence of numbers, default (0.8, 0.95)
            Levels of the prediction intervals.

        Returns
        -------
        Backtest

        Raises
        ------
        ValueError
            An argument is invalid, or no series is long enough.
        """
        fit = self._fitted()
        check_choice("mode", mode, ("expanding", "sliding"))
        windows = check_count("windows", windows)
        step = fit.settings.horizon if step is None else check_count("step", step)
        refit, levels = check_bool("refit", refit), reading.number_list("level", level)
        return run_backtest(fit, windows, step, mode == "sliding", refit, levels)
