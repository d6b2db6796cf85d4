"""Frames in long format: read series with dates and covariates, and write forecasts (extra `[frames]`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.checks import pluralize, short_repr
from nnc._utils.notices import warn_user
from nnc._utils.packages import install_command
from nnc.forecast.covariates import ignored_columns, ranges, unexpected_missing
from nnc.forecast.frequency import DAY_SECONDS, Frequency, infer_frequency, of_series, show_time, to_dates
from nnc.forecast.indexes import as_frame
from nnc.forecast.panel import Panel, check_sparsity
from nnc.forecast.reading import (
    MIN_OBSERVATIONS,
    ForecastWarning,
    check_magnitude,
    describe_names,
    refuse_columns,
    warn_of_ignored_columns,
    warn_of_ranges,
)

try:
    import narwhals.stable.v2 as nw

    from nnc._tables.cells import CellError, Column, as_numbers
    from nnc._tables.dates import circle_table, date_parts
    from nnc._tables.frames import Table, read_table
    from nnc._tables.schema import Schema
    from nnc._tables.zones import local_time, utc_time
    from nnc.forecast.times import MONTH_TEXT, date_texts, number_type, read_date_numbers, read_dates
except ImportError as error:
    raise ImportError(
        f"forecasts of frames need the extra [frames] ({error}); install it with {install_command('frames')}"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from nnc.forecast.statistics import Bools, Floats, Ints

RESULT_COLUMN = re.compile(r"forecast|(lower|upper|quantile)_\d.*")  # names of the columns of forecasts
# Arguments that name covariates: available for the forecast period, available only for the past, one value per series.
ROLES = "known", "past", "static"
MIN_YEARS, YEAR_DAYS = 2, 365.25  # daily series of at least MIN_YEARS years have features for the time of the year
YEAR_HARMONICS = 2  # number of sine and cosine pairs that encode the time of the year


@dataclass
class Layout:
    """Columns, encodings and time grid of the training frame, which later frames and forecasts follow.

    Parameters
    ----------
    id : tuple of str
        Columns that identify a series; () for a single series.
    time, target : str
    covariates : dict of str to tuple of str
        Columns for each role in ROLES.
    frequency : Frequency
    library : str
        Library of the frame, such as "pandas".
    time_type : {"date", "datetime", "text", "month", "number", "month number", "day number"}
        Type of the times in frames of forecasts. A month number is 202401, a day number is 20240131.
    zone : str or None
        Time zone of the dates.
    is_local : bool
        Whether the grid consists of local times of the time zone, instead of UTC.
    calendar : bool
        Whether calendar features are known covariates.
    schemas : dict of str to Schema or None
        Encodings of the covariates for each role; None for no columns.
    """

    id: tuple[str, ...]
    time: str
    target: str
    covariates: dict[str, tuple[str, ...]]
    frequency: Frequency
    library: str
    time_type: str
    zone: str | None
    is_local: bool
    calendar: bool = False
    schemas: dict[str, Schema | None] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, list[str]]:
        """Names of the columns by role."""
        covariates = {role: list(names) for role, names in self.covariates.items()}
        return {"id": list(self.id), "time": [self.time], "target": [self.target], **covariates}

    # ------------------------------------------------------------------------------------------ reading

    def read(self, argument: str, frame: Any, roles: Sequence[str], learns: bool = False) -> _Rows:
        """Return the rows of a frame, sorted by series and time; with `learns`, fit the encodings to these rows."""
        columns = [column for role in roles for column in self.covariates[role]]
        names = [*self.id, self.time, *([self.target] if "past" in roles else []), *columns]
        table = _select(argument, frame, names)
        by_name = dict(zip(table.names, table, strict=True))
        keys = _keys([by_name[name] for name in self.id], len(table))
        distinct: dict[Hashable, int] = {}
        codes = np.array([distinct.setdefault(key, len(distinct)) for key in keys], np.intp)
        times = self.times(by_name[self.time])
        order = np.lexsort((times, codes))
        target = _values(by_name[self.target], as_numbers, "target", "numbers")[order] if "past" in roles else None
        rows = _Rows(list(distinct), codes[order], times[order], target, {}, {})
        ignored: list[tuple[str, str]] = []
        unseen: dict[str, dict[str, int]] = {}
        for role in roles:
            part = Table([by_name[name].select_rows(order) for name in self.covariates[role]], True)
            schema = Schema.learn(part) if learns and part.columns else self.schemas.get(role)
            rows.encoded[role] = np.zeros((len(table), 0)) if schema is None else schema.encode(part).astype(np.float64)
            if learns:
                self.schemas[role] = schema if schema is not None and schema.width() else None
            if learns and schema is not None:
                ignored += ignored_columns(role, schema, rows.encoded[role], rows.codes)
            elif schema is not None:
                rows.missing |= unexpected_missing(schema, part)
                unseen |= schema.unseen(part)
                if role == "known":
                    warn_of_ranges(ranges(schema, part, order))
        warn_of_ignored_columns(ignored)
        if unseen:
            texts = "; ".join(f"{describe_names(list(texts))} of {name!r}" for name, texts in unseen.items())
            warn_user(
                f"{argument} has values that did not occur in fit: {texts}; their effect is unknown", ForecastWarning
            )
        return rows

    def times(self, column: Column) -> Floats:
        """Return the times of a column: numbers, or dates in seconds since 1970; raise ValueError for other cells."""
        if self.time_type.endswith("number"):
            times = _values(column, as_numbers, "time", "numbers")
            if self.time_type != "number":
                dates = read_date_numbers(times, self.time_type)
                if np.isnan(dates).any():
                    row = int(np.isnan(dates).argmax())
                    example = "202401" if self.time_type == "month number" else "20240131"
                    expected = f"a {self.time_type} such as {example}"
                    raise _cell_error(column, row, "time", expected, f"{times[row]:.15g}")
                times = dates
        else:
            times = _values(column, read_dates, "time", "dates such as 2024-01-31, 2024-01 or 2024-Q1")
        if np.isnan(times).any():
            raise ValueError(
                f"time must have no missing values, got one in row {int(np.isnan(times).argmax())} of column "
                f"{self.time!r}; remove the row"
            )
        if column.kind == "date" and (column.zone is None) != (self.zone is None):
            expected, found = (zone or "no time zone" for zone in (self.zone, column.zone))
            raise ValueError(f"time must have {expected} as in fit, got {found}; convert column {self.time!r}")
        return self.to_grid_clock(times)

    def to_grid_clock(self, times: Floats) -> Floats:
        """Convert Unix timestamps to the clock of the grid: local time or UTC.

        If clocks are set forward at the beginning of a day, the day begins at the local time that is skipped.
        """
        if not self.is_local or self.zone is None:
            return times
        return np.minimum(local_time(times, self.zone), local_time(times - 1, self.zone) + 1)

    def panel(self, rows: _Rows, minimum: int) -> Panel:
        """Return the panel of sorted rows; raise ValueError for times off the grid or a series that is too short."""
        values, starts, regressors, past, static = [], [], [], [], []
        assert rows.target is not None
        labels = [self.target + of_series(name) for name in rows.names]
        for code, name in enumerate(rows.names):
            part = rows.part(code)
            self.check_present("y_new", rows, part, name)
            index = self.grid_index(rows.times[part], name)
            check_magnitude(labels[code], rows.target[part])
            check_sparsity(of_series(name), int(index[-1] - index[0]), len(index))
            grid = np.arange(index[0], index[-1] + 1)
            # Covariates of missing grid points are those of the row before.
            before = np.searchsorted(index, grid, side="right") - 1
            source = part[before]
            values.append(np.where(index[before] == grid, rows.target[source], np.nan))
            starts.append(index[0])
            regressors.append(rows.encoded["known"][source])
            past.append(rows.encoded["past"][source])
            features = rows.encoded["static"][part]
            if not np.array_equal(features, np.broadcast_to(features[-1], features.shape), equal_nan=True):
                raise ValueError(f"static must be constant in each series, got several values{of_series(name)}")
            static.append(features[-1])
        panel = Panel(values, np.array(starts, np.intp), regressors, past, np.array(static)).trim(labels, minimum)
        return replace(panel, regressors=self.with_calendar(panel.regressors, panel.starts))

    def grid_index(self, times: Floats, name: Hashable) -> Ints:
        """Return the grid points of increasing times of a series; raise ValueError for duplicate or off-grid times."""
        are_dates = self.time_type != "number"
        check_distinct(times, name, are_dates)
        wrong = self.frequency.is_off_grid(times)
        if wrong.any():
            time = show_time(times[int(wrong.argmax())], are_dates)
            raise ValueError(f"time must be {self.frequency.name}, got {time}{of_series(name)}; remove the row")
        return np.round(self.frequency.to_index(times)).astype(np.intp)

    # ------------------------------------------------------------------------------------------ covariates

    def check_present(self, argument: str, rows: _Rows, index: Ints, name: Hashable) -> None:
        """Raise ValueError if a covariate that had no missing values in `fit` has one in the rows `index`."""
        for column, missing in rows.missing.items():
            if missing[index].any():
                time = show_time(rows.times[index[missing[index].argmax()]], self.time_type != "number")
                raise ValueError(
                    f"{argument} must have no missing values of {column!r}, as in fit, got one for {time}"
                    f"{of_series(name)}; fill it"
                )

    def with_calendar(self, tables: list[Floats], starts: Ints) -> list[Floats]:
        """Return tables of known covariates, which begin at the grid points `starts`, with the calendar features."""
        if not self.calendar:
            return tables
        return [
            np.hstack([table, self.calendar_features(start + np.arange(len(table)))])
            for table, start in zip(tables, starts.tolist(), strict=True)
        ]

    @property
    def known_labels(self) -> list[str]:
        """Description of the column of each known covariate, without calendar features."""
        schema = self.schemas["known"]
        if schema is None:
            return []
        groups = zip(schema.names, schema.groups(), strict=True)
        counts = [(name, sum(part.stop - part.start for part in parts)) for name, parts in groups]
        return [f"known column {name!r}" for name, count in counts for _ in range(count)]

    @property
    def n_calendar(self) -> int:
        """Number of calendar features."""
        return self.calendar_features(np.arange(1)).shape[1] if self.calendar else 0

    def calendar_features(self, index: Ints) -> Floats:
        """Return features (n, features) of grid points: weekdays for steps below a day, else the time of the year."""
        parts = date_parts(self.frequency.to_times(index))
        if self.frequency.unit == "second" and self.frequency.step < DAY_SECONDS:
            return np.eye(7)[parts["day of the week"]]
        circle = circle_table(YEAR_DAYS)
        days = parts["time of year"]
        return np.hstack([circle[(days * k) % 365] for k in range(1, YEAR_HARMONICS + 1)])

    def uses_calendar(self, panel: Panel) -> bool:
        """Return whether the series are long enough for calendar features."""
        steps, unit, step = int(panel.lengths.max()), self.frequency.unit, self.frequency.step
        if unit == "business day":
            return steps >= MIN_YEARS * 261
        days = 3 * 7 if step < DAY_SECONDS else MIN_YEARS * YEAR_DAYS
        return unit == "second" and step <= DAY_SECONDS and steps * step >= days * DAY_SECONDS

    def read_future(
        self, X: Any, names: Sequence[Hashable] | None, panel: Panel, rows: Ints, horizon: int
    ) -> list[Floats]:
        """Return the future covariates (horizon, covariates) of each series, in the order of `names`."""
        ends, columns = (panel.starts + panel.lengths)[rows], self.covariates["known"]
        if columns and X is None:
            names_needed = ", ".join(map(repr, (*self.id, self.time, *columns)))
            first = show_time(self.frequency.to_times(ends.min(keepdims=True))[0], self.time_type != "number")
            raise ValueError(
                f"X must be a frame with the columns {names_needed} for the next {pluralize(horizon, 'time')}, from "
                f"{first}, got None"
            )
        if not columns and X is not None:
            raise ValueError("X must be None, got covariates; pass the names of known covariates to fit to use them")
        if not columns:
            return self.with_calendar([np.zeros((horizon, 0))] * len(ends), ends)
        found, future = self.read("X", X, ["known"]), []
        codes = {name: code for code, name in enumerate(found.names)}
        for name, end in zip(names or [()], ends.tolist(), strict=True):
            part = found.part(codes.get(name, len(codes)))
            rows_at = dict(zip(self.grid_index(found.times[part], name).tolist(), part, strict=True))
            steps = np.arange(end, end + horizon)
            missing = [step not in rows_at for step in steps.tolist()]
            if any(missing):
                time = show_time(self.frequency.to_times(steps[missing])[0], self.time_type != "number")
                raise ValueError(f"X must have a row for each future time, got none for {time}{of_series(name)}")
            index = np.array([rows_at[step] for step in steps.tolist()])
            self.check_present("X", found, index, name)
            future.append(found.encoded["known"][index])
        return self.with_calendar(future, ends)

    def read_new(self, y: Any, X: Any) -> tuple[list[Hashable], Panel]:
        """Return the names of series with new observations, and a panel of these observations."""
        if X is not None:
            raise ValueError("X must be None for a frame, got covariates; add them to the columns of the frame")
        rows = self.read("y_new", as_frame(y, self.time, self.target)[0], ROLES)
        return rows.names if self.id else [0], self.panel(rows, 1)

    # ------------------------------------------------------------------------------------------ writing

    def write(self, names: Sequence[Hashable] | None, ends: Ints, columns: Mapping[str, Floats]) -> Any:
        """Return a frame of forecasts: id and time columns, and one column for each array (series, horizon)."""
        horizon = columns["forecast"].shape[1]
        data: dict[str, Any] = {}
        for j, column in enumerate(self.id):
            keys = [name[j] if len(self.id) > 1 else name for name in names or ()]  # type: ignore[index]
            data[column] = [key for key in keys for _ in range(horizon)]
        times = self.frequency.to_times((ends[:, None] + np.arange(horizon)).ravel())
        if self.time_type == "number":
            data[self.time] = times.astype(np.int64) if np.array_equal(times, np.round(times)) else times
        elif self.time_type.endswith("number"):
            texts = date_texts(times, self.time_type == "month number")
            data[self.time] = np.array([int(text.replace("-", "")) for text in texts])
        elif self.time_type in ("month", "text"):
            data[self.time] = date_texts(times, self.time_type == "month")
        else:
            data[self.time] = to_dates(utc_time(times, self.zone) if self.is_local and self.zone else times)
        data |= {name: values.ravel() for name, values in columns.items()}
        frame, column = nw.from_dict(data, backend=self.library), nw.col(self.time)
        if self.time_type == "date":
            column = column.cast(nw.Date)
        elif self.zone is not None:
            column = column.dt.replace_time_zone("UTC").dt.convert_time_zone(self.zone)
        return frame.with_columns(column).to_native()


@dataclass
class _Rows:
    """Rows of a frame, sorted by series and time.

    Parameters
    ----------
    names : list
        Names of the series in the order of their first rows.
    codes : int array (n,)
        Index of the series of each row.
    times : array (n,)
    target : array (n,) or None
    encoded : dict of str to array (n, features)
        Encoded covariates for each role.
    missing : dict of str to bool array (n,)
        For columns that had no missing values in `fit`, but have some in these rows: whether the value is missing.
    """

    names: list[Hashable]
    codes: Ints
    times: Floats
    target: Floats | None
    encoded: dict[str, Floats]
    missing: dict[str, Bools]

    def part(self, code: int) -> Ints:
        """Return the indices of the rows of a series."""
        return np.arange(*np.searchsorted(self.codes, [code, code + 1]))


def read_frame(y: Any, X: Any, columns: Mapping[str, Any]) -> tuple[Layout, list[Hashable] | None, Panel]:
    """Return layout, names of the series (None for a single series without id) and panel of a training frame.

    Parameters
    ----------
    y : frame, or series of pandas with dates
    X : None
    columns : dict
        Arguments "id", "time", "target", "known", "past" and "static" of `Forecaster.fit`.
    """
    if X is not None:
        raise ValueError("X must be None for a frame, got covariates; pass the names of its columns as known")
    frame, was_series = as_frame(y)
    native = _narwhals("y", frame)
    id_columns, covariates = list(_texts("id", columns["id"])), {role: _texts(role, columns[role]) for role in ROLES}
    time, target = (_text(name, columns[name]) for name in ("time", "target"))
    if was_series:
        refuse_columns(columns)
        *id_columns, time, target = native.columns
    if time is None:
        raise ValueError(
            "time must be the name of a column, got None; pass the column of dates or numbers (reset_index() turns an "
            "index into a column)"
        )
    if target is None:
        used = {*id_columns, time, *(name for names in covariates.values() for name in names)}
        others = [name for name in native.columns if name not in used]
        if len(others) != 1:
            raise ValueError(f"target must be the name of a column, got None; choose one of {others}")
        target = others[0]
    reserved = [name for name in (*id_columns, time) if RESULT_COLUMN.fullmatch(name)]
    if reserved:
        raise ValueError(
            f"id and time must be other columns than those of forecasts, got {reserved[0]!r}; rename the column"
        )
    names = [*id_columns, time, target, *(name for role in ROLES for name in dict.fromkeys(covariates[role]))]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"id, time, target, known, past and static must be different columns, got {twice[0]!r} twice")
    column = next(iter(_select("y", frame, [time])))
    kind = "number"
    if column.is_text:
        kind = "month" if all(map(MONTH_TEXT.fullmatch, column.levels)) else "text"
    elif column.kind == "date":
        kind = "date" if native.schema[time] == nw.Date else "datetime"
    elif not column.missing.any():
        kind = number_type(column.values.astype(np.float64))
    library, unknown = native.implementation.value, Frequency("number", 1, 0)
    layout = Layout(tuple(id_columns), time, target, covariates, unknown, library, kind, column.zone, is_local=False)
    rows = layout.read("y", frame, ROLES, learns=True)
    layout.frequency = _infer_grid(layout, rows)
    rows.times = layout.to_grid_clock(rows.times)
    panel = layout.panel(rows, MIN_OBSERVATIONS)
    layout.calendar = layout.uses_calendar(panel)
    panel = replace(panel, regressors=layout.with_calendar(panel.regressors, panel.starts))
    return layout, rows.names if id_columns else None, panel


def _infer_grid(layout: Layout, rows: _Rows) -> Frequency:
    """Return the frequency of the times in rows of UTC, and set `layout.is_local`.

    If times are regular in both local time and UTC, midnights are preferred, then local time for steps of whole days,
    and UTC for shorter steps.
    """

    def infer(is_local: bool) -> Frequency:
        layout.is_local = is_local
        clock = layout.to_grid_clock(rows.times)
        times = [clock[rows.part(code)] for code in range(len(rows.names))]
        for name, part in zip(rows.names, times, strict=True):
            check_distinct(part, name, layout.time_type != "number")
        return infer_frequency(times, rows.names, layout.time_type != "number")

    def preference(is_local: bool) -> tuple[bool, bool]:
        frequency = found[is_local]
        is_midnight = frequency.has_whole_days and frequency.anchor % DAY_SECONDS == 0
        return is_midnight, is_local == frequency.has_whole_days

    found = {}
    for is_local in (False,) if layout.zone in (None, "UTC") else (True, False):
        try:
            found[is_local] = infer(is_local)
        except ValueError:
            if not is_local and not found:
                raise
    layout.is_local = max(found, key=preference)
    return found[layout.is_local]


def _values(column: Column, convert: Callable[[Column], Column], argument: str, expected: str) -> Floats:
    """Return the converted values of a column; raise ValueError for a cell that is not as `expected`.

    The command line adds the location in the file to the message.
    """
    try:
        return convert(column).values.astype(np.float64)
    except CellError as error:
        raise _cell_error(column, error.row, argument, expected, column.cell(error.row)) from None


def _cell_error(column: Column, row: int, argument: str, expected: str, cell: str) -> CellError:
    """Return the error for a cell that is not as `expected`."""
    prefix, suffix = f"{argument} must be {expected}, got {cell} in row ", f" of column {column.name!r}"
    return CellError(column.name, row, f"expected {expected}, found {cell}", prefix, suffix)


def check_distinct(times: Floats, name: Hashable, are_dates: bool) -> None:
    """Raise ValueError if increasing times of a series contain a time twice."""
    same = np.diff(times) == 0
    if same.any():
        time = show_time(times[int(same.argmax())], are_dates)
        raise ValueError(
            f"time must have different values in a series, got {time} twice{of_series(name)}; aggregate the rows, or "
            "pass id"
        )


def _text(name: str, value: Any) -> str | None:
    """Return the column name in an argument; raise TypeError if it is neither text nor None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be the name of a column, got {short_repr(value)}")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    """Return the column names in an argument: None, a name or a sequence of names."""
    names = () if value is None else tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not all(isinstance(text, str) for text in names):
        raise TypeError(f"{name} must be the name of a column or a list of names, got {short_repr(value)}")
    return names


def _narwhals(argument: str, frame: Any) -> Any:
    """Return a frame of narwhals; raise TypeError if `frame` is not a frame, or not in memory."""
    try:
        return nw.from_native(frame, eager_only=True)
    except TypeError:
        found = type(frame).__name__
        raise TypeError(f"{argument} must be a frame in memory, got {found}; convert it or call collect()") from None


def _select(argument: str, frame: Any, names: Sequence[str]) -> Table:
    """Return the table of some columns of a frame; raise ValueError if a column does not exist, or has an infinity."""
    native = _narwhals(argument, frame)
    columns = describe_names(native.columns)
    missing = [name for name in names if name not in native.columns]
    if missing:
        raise ValueError(f"{argument} must have the column {missing[0]!r}, got the columns {columns}")
    if not len(native):
        raise ValueError(f"{argument} must have at least one row, got none in the columns {columns}")
    try:
        return read_table(native.select(*dict.fromkeys(names)).to_native())
    except CellError as error:
        prefix = argument + error.prefix.removeprefix("X")
        raise CellError(error.column, error.row, error.reason, prefix, error.suffix) from None


def _keys(columns: Sequence[Column], n: int) -> list[Hashable]:
    """Return the name of the series of each row: the value of the id column, or a tuple of several values."""
    parts = []
    for column in columns:
        if column.missing.any():
            row = int(column.missing.argmax())
            raise ValueError(f"id must have no missing values, got one in row {row} of column {column.name!r}")
        if column.kind == "date":
            raise TypeError(f"id must be text or numbers, got dates in column {column.name!r}; convert them to text")
        values = column.values.tolist()
        parts.append([column.levels[value] for value in values] if column.is_text else values)
    return parts[0] if len(parts) == 1 else list(zip(*parts, strict=True)) if parts else [()] * n
