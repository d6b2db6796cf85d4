"""Forecast the demand of the next hour, hour by hour for half a year, and learn from each hour once it is over.

The demand is made up: days, weeks, weather, noise; and after three months many work at home, so that the mornings are
another world. The rivals know the demand of an hour ago, and that of the same hour a week ago.
"""

import numpy as np
from latency import Latency
from picture import drawn

from nnc import OnlineRegressor

DAY, WEEK, HOURS, CHANGE, BEGIN = 24, 168, 26 * 168, 13 * 168, 4 * 168


def demand(rng):
    """Return the demand of every hour in MW, and the temperature."""
    hour = np.arange(HOURS)
    of_day, weekend = hour % DAY, hour % WEEK >= 5 * DAY
    peak = np.where(hour < CHANGE, 8, 10)  # of the morning
    morning = np.exp(-((of_day - peak) ** 2) / 8) * np.where(weekend, 0.3, 1)
    evening = 1.2 * np.exp(-((of_day - 19) ** 2) / 10)
    change = rng.normal(0, 0.4, HOURS)
    weather = np.empty(HOURS)
    weather[0] = 0
    for t in range(1, HOURS):
        weather[t] = 0.98 * weather[t - 1] + change[t]
    temperature = 12 + 8 * np.sin(2 * np.pi * hour / (52 * WEEK)) + 3 * np.sin(2 * np.pi * (of_day - 9) / DAY) + weather
    heating = 2.0 * np.maximum(0, 15 - temperature)
    return 60 + 30 * morning + 25 * evening + heating + rng.normal(0, 1, HOURS), temperature


def features(t, load, temperature):
    """Return what is known at hour t of hour t + 1, for which there is a weather forecast."""
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

errors = {"network": [], "as an hour ago": [], "as a week ago": []}
for t in range(WEEK, HOURS - 1):
    row, truth = features(t, load, temperature), load[t + 1]
    guesses = predict(row), load[t], load[t + 1 - WEEK]
    for of, guess in zip(errors.values(), guesses, strict=True):
        of.append(abs(guess - truth))
    learn(row, truth)

print("mean absolute error, MW    before the change   the month after it   after that")
for name, found in errors.items():
    month = CHANGE - WEEK + 4 * WEEK
    parts = found[BEGIN : CHANGE - WEEK], found[CHANGE - WEEK : month], found[month:]
    print(f"{name:20}", *(f"{np.mean(part):20.2f}" for part in parts))
mean = {name: np.mean(found[BEGIN:]) for name, found in errors.items()}
rival = min(mean["as an hour ago"], mean["as a week ago"])
print(f"the error of the network is {mean['network'] / rival:.0%} of that of its better rival")
for call in (predict, learn):
    print(call)


def draw(ax):
    for name, found in errors.items():
        weeks = len(found) // WEEK
        ax.plot(np.reshape(found[: weeks * WEEK], (weeks, WEEK)).mean(axis=1), label=name)
    ax.axvline((CHANGE - WEEK) / WEEK, color="gray", linestyle=":")
    ax.set_xlabel("week; mornings change at the dotted line")
    ax.set_ylabel("mean error, MW")
    ax.legend()


drawn(draw)
