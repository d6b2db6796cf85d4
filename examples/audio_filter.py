"""Learn a nonlinear audio filter from examples, and apply it sample by sample, as a guitar pedal would.

The filter is the ladder of the first synthesizers: four low-pass stages with feedback, each saturated by tanh. The
signal is a guitar of plucked strings (Karplus and Strong, 1983). Both are simulated, so the example needs no files.
"""

from math import tanh
from time import perf_counter

import numpy as np
from picture import save_picture

from nnc import CosineLR, NeuralNetwork
from nnc.layers import LSTM, Dense, Input

RATE = 16_000  # samples per second
ROWS, STEPS = 256, 512  # number of chords in the training data, and their length in samples

rng = np.random.default_rng(0)


def pluck(frequency, n):
    """Return n samples of a plucked string: a burst of noise that is averaged once per period."""
    period = round(RATE / frequency)
    string = np.zeros(n + period + 1)
    string[1 : period + 1] = rng.uniform(-1, 1, size=period)
    for start in range(period + 1, len(string), period):
        past = string[start - period - 1 : len(string) - period][: period + 1]
        string[start : start + period] = 0.498 * (past[1:] + past[:-1])
    return string[1 : n + 1]


def chord(n):
    """Return n samples of three strings of a guitar with random notes and a random loudness."""
    notes = rng.choice(30, size=3, replace=False)
    return rng.uniform(0.2, 1) * sum(pluck(82.4 * 2 ** (note / 12), n) for note in notes)


def ladder_filter(samples, drive=2, resonance=1.5, cutoff=0.4):
    """Return the output of the filter: each stage follows the stage before it (Huovilainen, 2004)."""
    stages, outputs = [0.0, 0.0, 0.0, 0.0], []
    for sample in samples.tolist():
        value = drive * sample - resonance * stages[3]
        for i, stage in enumerate(stages):
            stages[i] = value = stage + cutoff * (tanh(value) - tanh(stage))
        outputs.append(value)
    return np.array(outputs)


X = np.array([chord(STEPS) for _ in range(ROWS)])
Y = np.array([ladder_filter(row) for row in X])

layers = [Input(steps=STEPS, features=1), LSTM(16, return_sequences=True), Dense(1)]
net = NeuralNetwork(layers, loss="mse", dtype="float32", seed=0)
history = net.fit(
    X[:, :, None], Y[:, :, None], epochs=60, batch_size=16, optimizer="adam", lr=CosineLR(0.01), clip_norm=1.0
)
print(f"{net.n_params} parameters trained in {history.seconds:.1f} s with {X.size / RATE:.1f} s of audio")

melody = np.concatenate([chord(RATE // 4) for _ in range(8)])  # chords that are not in the training data
target = ladder_filter(melody)
stream = net.stream()
start = perf_counter()
output = np.array([stream.step(sample) for sample in melody.tolist()])
microseconds = 1e6 * (perf_counter() - start) / len(melody)

error = np.sum((output - target) ** 2) / np.sum(target**2)
print(f"error-to-signal ratio on {len(melody) / RATE:.1f} s of new audio: {error:.3%}")
print(f"time per sample: {microseconds:.2f} us of the {1e6 / RATE:.1f} us between two samples")


def draw(ax):
    samples = slice(RATE // 4, RATE // 4 + 400)  # the beginning of the second chord
    milliseconds = 1e3 * np.arange(400) / RATE
    ax.plot(milliseconds, melody[samples], color="lightgray", label="guitar")
    ax.plot(milliseconds, target[samples], label="filter")
    ax.plot(milliseconds, output[samples], "--", label="network")
    ax.set_xlabel("ms")
    ax.legend(ncols=3)


save_picture(draw)
