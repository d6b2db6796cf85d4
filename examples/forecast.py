"""Forecast the demand of the next hour, hour by hour for half a year, and learn from each hour once it is over.

The demand is synthetic: it depends on the hour, the weekday and the weather, and has noise. After three months the peak
of the morning moves, because many people work at home. The network is compared with two naive forecasts: the demand of
an hour ago, and the demand of the same hour a week ago.
"""

import numpy as np
from latency import Latency
from picture import save_picture

from nnc import OnlineRegressor

DAY, WEEK = 24, 168  # length of a day and of a week in hours
HOURS, CHANGE = 26 * WEEK, 13 * WEEK  # length of the series, and hour at which the morning peak moves
WARM_UP = 4 * WEEK  # number of hours at the beginning that do not count in the errors


def demand(rng):
    """Return the demand of every hour in MW, and the temperature."""
    hour = np.arange(HOURS)
    day_hour, weekend = hour % DAY, hour % WEEK >= 5 * DAY
    peak = np.where(hour < CHANGE, 8, 10)  # hour of the day of the morning peak
    morning = np.exp(-((day_hour - peak) ** 2) / 8) * np.where(weekend, 0.3, 1)
    evening = 1.2 * np.exp(-((day_hour - 19) ** 2) / 10)
    change = rng.normal(0, 0.4, HOURS)
    weather = np.empty(HOURS)
    weather[0] = 0
    for t in range(1, HOURS):
        weather[t] = 0.98 * weather[t - 1] + change[t]
    yearly, daily = np.sin(2 * np.pi * hour / (52 * WEEK)), np.sin(2 * np.pi * (day_hour - 9) / DAY)
    temperature = 12 + 8 * yearly + 3 * daily + weather
    heating = 2.0 * np.maximum(0, 15 - temperature)
    return 60 + 30 * morning + 25 * evening + heating + rng.normal(0, 1, HOURS), temperature


def features(t, load, temperature):
    """Return the features of hour t + 1 that are available at hour t, with a weather forecast."""
    next_hour = t + 1
    row = {f"{lag} h ago": load[next_hour - lag] for lag in (1, 2, 3, DAY, WEEK)}
    row["temperature"] = temperature[next_hour]
    row["weekend"] = bool(next_hour % WEEK >= 5 * DAY)
    for waves in (1, 2, 3):
        row[f"sin {waves}"] = np.sin(2 * np.pi * waves * next_hour / DAY)
        row[f"cos {waves}"] = np.cos(2 * np.pi * waves * next_hour / DAY)
    return row


load, temperature = demand(np.random.default_rng(0))
model = OnlineRegressor(hidden=(32,), activation="tanh", lr=0.001, seed=0)
predict, learn = Latency("predict_one", model.predict_one), Latency("learn_one", model.learn_one)

errors = {"network": [], "an hour ago": [], "a week ago": []}
for t in range(WEEK, HOURS - 1):
    row, truth = features(t, load, temperature), load[t + 1]
    forecasts = predict(row), load[t], load[t + 1 - WEEK]
    for series, forecast in zip(errors.values(), forecasts, strict=True):
        series.append(abs(forecast - truth))
    learn(row, truth)

print("mean absolute error, MW    before the change    first month after         later months")
for name, series_errors in errors.items():
    month = CHANGE - WEEK + 4 * WEEK
    parts = series_errors[WARM_UP : CHANGE - WEEK], series_errors[CHANGE - WEEK : month], series_errors[month:]
    print(f"{name:23}", *(f"{np.mean(part):20.2f}" for part in parts))
mean = {name: np.mean(series_errors[WARM_UP:]) for name, series_errors in errors.items()}
naive = min(mean["an hour ago"], mean["a week ago"])
print(f"the network has {mean['network'] / naive:.0%} of the error of the better naive forecast")
for call in (predict, learn):
    print(call)


def draw(ax):
    for name, series_errors in errors.items():
        weeks = len(series_errors) // WEEK
        ax.plot(np.reshape(series_errors[: weeks * WEEK], (weeks, WEEK)).mean(axis=1), label=name)
    ax.axvline((CHANGE - WEEK) / WEEK, color="gray", linestyle=":")
    ax.set_xlabel("week; the morning peak moves at the dotted line")
    ax.set_ylabel("mean error, MW")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)


save_picture(draw)
