"""Forecast the next day of a series, hour by hour, from the two days before: one network with 24 outputs.

The series is synthetic: a daily and a weekly rhythm, a slow drift and noise. The first 40 weeks are training data, the
last 8 are test data. The last fifth of the training days is validation data: random days would share hours with their
neighbours in the training data. The network is compared with the naive forecast that tomorrow repeats today.
"""

import numpy as np
from picture import save_picture

from nnc import NeuralNetwork

DAY, WEEK, WEEKS, TEST = 24, 168, 48, 8

rng = np.random.default_rng(0)
hour = np.arange(WEEKS * WEEK)
weekend = hour % WEEK >= 5 * DAY
daily = np.sin(2 * np.pi * (hour % DAY - 9) / DAY) + 0.5 * np.sin(4 * np.pi * (hour % DAY - 4) / DAY)
drift = np.cumsum(rng.normal(scale=0.02, size=hour.size))
series = 50 + 10 * daily * np.where(weekend, 0.5, 1) + 3 * drift + rng.normal(size=hour.size)

# A row has the data available at midnight: the last 48 hours, and the weekday of the day that begins.
midnights = np.arange(2 * DAY, hour.size - DAY + 1, DAY)
past = np.array([series[t - 2 * DAY : t] for t in midnights])
level = past[:, -DAY:].mean(axis=1, keepdims=True)  # this mean of the last day is subtracted from inputs and targets
day = np.eye(7)[midnights // DAY % 7]
X, y = np.hstack([past - level, day]), np.array([series[t : t + DAY] for t in midnights]) - level
train, test = midnights < (WEEKS - TEST) * WEEK, midnights >= (WEEKS - TEST) * WEEK

net = NeuralNetwork([X.shape[1], 32, DAY], activation="relu", loss="mse", scale_X="standardize", seed=0)
options = {"optimizer": "adam", "lr": 0.003, "batch_size": 16, "l2": 1e-3}
net.fit(X[train], y[train], epochs=300, validation="last", patience=30, **options)  # validate on the last fifth

forecasts = net.predict(X[test])
error, naive = np.abs(forecasts - y[test]).mean(), np.abs(past[test, -DAY:] - level[test] - y[test]).mean()
print(f"mean absolute error: {error:.2f}, naive forecast {naive:.2f}, ratio {error / naive:.0%}")


def draw(ax):
    hours = np.arange(7 * DAY)
    ax.plot(hours, (y[test] + level[test])[:7].ravel(), "k", linewidth=1, label="observed")
    ax.plot(hours, (forecasts + level[test])[:7].ravel(), label="forecast at midnight")
    ax.set_xlabel("hour")
    ax.legend()


save_picture(draw)
