"""What the networks of a table are like, and how they are trained: chosen once, so that nobody has to.

It follows RealMLP-TD (Holzmueller, Grinsztajn and Steinwart, 2024) as far as that paid here, with smaller networks,
fewer epochs, and several networks in place of one. The measurements are in docs/lab/tables.md.
"""

from __future__ import annotations

from functools import partial
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.scaling import Scaling, Standardize
from nnc._network import NeuralNetwork
from nnc._registry.heads import Head, Heads
from nnc._registry.losses import CrossEntropy, Quantile
from nnc._registry.optimizers import Adam
from nnc._training.schedules import CosineLogLR, PerStep
from nnc._utils.checks import one_of
from nnc._utils.value import Value, field
from nnc.layers import Dense, Input, Scale

if TYPE_CHECKING:
    from numpy.typing import NDArray


PRESETS = {"fast": 3, "default": 12, "best": 24}  # networks that are trained, of up to MANY rows
MANY, LEAST_MEMBERS = 10_000, 2
DEPTH, WIDTH = 3, 128  # of the hidden layers
EPOCHS, MOST_EPOCHS, LEAST_STEPS = 56, 112, 1800  # more epochs of few rows, so that there are so many steps
BATCH, LARGE_BATCH, LARGE = 32, 64, 4000  # the larger one of so many rows
LOOK, PAST = 1 / 2, 1 / 4  # shares of the epochs: at the first it ends, if the best one was before the second
RATES = {"classes": 0.0025, "numbers": 0.0044}
SMOOTHING = 0.1  # of labels
SCALE_RATE = 6.0  # times the others'
AS_FAST = 256  # inputs of which the first layer learns as fast as the others

TINY = np.finfo(np.float64).tiny

# What losses of numbers are called by scikit-learn, and by the engine.
LOSSES = {"squared_error": "mse", "absolute_error": "mae", "poisson": "poisson"}
CLASSES, NUMBERS, COUNTS = "cross_entropy", "squared_error", "poisson"  # what is learned where nothing is said
SKEWED = 0.5  # the skewness of targets from which on their loss is that of counts


class Task(Value):
    """What the networks of a table have to learn.

    Parameters
    ----------
    loss : str
        CLASSES, or a key of LOSSES.
    n_out : int
        Classes, or targets.
    quantiles : tuple of float
        In place of the loss of numbers: each network has an output for each of them, and each target.
    """

    loss: str = field(check=partial(one_of, names=(CLASSES, *LOSSES)))
    n_out: int
    quantiles: tuple[float, ...] = ()

    @property
    def kind(self) -> str:
        return "classes" if self.loss == CLASSES else "numbers"

    @property
    def outputs(self) -> int:
        """Of a network."""
        return self.n_out * max(1, len(self.quantiles))

    @property
    def scales(self) -> bool:
        """Whether targets are scaled for the networks."""
        return self.loss != CLASSES

    @property
    def metric(self) -> str | None:
        """What says which epoch was the best; None: the loss."""
        return "accuracy" if self.kind == "classes" else None


def loss_by_rule(y: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> str:
    """The loss of targets (n, n_out) where none is said. Both predict the mean. That of counts goes for what is 0 or
    more and mostly small, whose large values are the less certain ones: prices, durations, amounts."""
    largest = y.max(axis=0)
    if y.min() < 0 or not largest.all():
        return NUMBERS
    z = y / largest
    z = z - np.average(z, axis=0, weights=weights)
    deviation, third = (np.average(z**power, axis=0, weights=weights) for power in (2, 3))
    return COUNTS if np.all(third > SKEWED * deviation**1.5) else NUMBERS


def members_by_rule(preset: str, rows: int) -> int:
    """How many networks a preset trains: fewer of more rows, since each has seen more."""
    most = PRESETS[preset]
    return most if rows <= MANY else max(LEAST_MEMBERS, round(most * sqrt(MANY / rows)))


def network(task: Task, n_in: int, seed: int) -> NeuralNetwork:
    """A network before its training. One rate fits all widths: weights are drawn from N(0, 1 / inputs), biases from
    N(0, 1), the last layer's are 0, and the first layer learns as if its inputs were larger by sqrt(AS_FAST / n_in)."""
    gain = sqrt(AS_FAST / n_in)
    first = Dense(WIDTH, init="lecun_normal", lr_factor=gain, bias_lr_factor=1 / gain)
    inner = [Dense(WIDTH, init="lecun_normal") for _ in range(DEPTH - 1)]
    loss: Any = CrossEntropy(SMOOTHING) if task.kind == "classes" else LOSSES[task.loss]
    if task.quantiles:
        loss = Heads([Head(task.n_out, Quantile(q)) for q in task.quantiles])
    net = NeuralNetwork(
        [Input(n_in), Scale(lr_factor=SCALE_RATE), first, *inner, Dense(task.outputs, init="zeros")],
        activation="elu" if task.kind == "classes" else "silu",
        loss=loss,
        dtype="float32",
        seed=seed,
    )
    rng = np.random.default_rng(seed)
    biases: list[Any] = [None, *(rng.standard_normal(WIDTH) for _ in range(DEPTH)), np.zeros(task.outputs)]
    net.biases = biases
    return net


def scaling_of(task: Task, y: NDArray[Any]) -> Scaling | None:
    """That of targets (n, n_out), which networks learn scaled: standardized, or counts by their mean, as they stay 0 or
    more."""
    if task.loss == "poisson":
        mean = y.mean(axis=0)
        return Scaling("standardize", np.zeros(len(mean)), 1 / np.where(mean > 0, np.maximum(mean, TINY), 1))
    return Standardize().fit(y) if task.scales else None


def steps_of(rows: int) -> tuple[int, int]:
    """Rows in a batch, and epochs, for so many training rows."""
    batch = min(rows, LARGE_BATCH if rows >= LARGE else BATCH)
    epochs = max(EPOCHS, min(MOST_EPOCHS, LEAST_STEPS // -(-rows // batch)))
    return batch, epochs


def options(task: Task, rows: int) -> dict[str, Any]:
    """The arguments of `fit`, for so many training rows."""
    batch, epochs = steps_of(rows)
    return {
        "epochs": epochs,
        "batch_size": batch,
        "optimizer": Adam(betas=(0.9, 0.95)),
        "lr": PerStep(CosineLogLR(RATES[task.kind])),
        "metrics": task.metric or (),
        "restore_best": "last",
        "monitor": task.metric,
    }
