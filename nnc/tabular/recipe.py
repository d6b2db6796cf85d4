"""Recipe for the networks of a table: architecture, loss, options of the training, and candidates to compare.

The recipe is based on RealMLP-TD (Holzmueller, Grinsztajn and Steinwart, 2024), but the networks are smaller and are
trained for fewer epochs, and several networks form an ensemble. The measurements are in docs/lab/tables.md.
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
from nnc._tables.features import EXTENDED, PLAIN, FeatureSet
from nnc._training.schedules import CosineLogLR, PerStep
from nnc._utils.checks import check_choice
from nnc._utils.value import Value, field
from nnc.layers import Dense, Input, Scale

if TYPE_CHECKING:
    from numpy.typing import NDArray


PRESETS = {"fast": 3, "default": 12}  # number of networks of each preset for up to FULL_PRESET_ROWS rows
FORMER_PRESET, FORMER_MEMBERS = "best", 24  # removed preset, which files may contain, and its number of networks
FULL_PRESET_ROWS = 10_000  # for more training rows than this, a preset trains fewer networks
N_FOLDS = 5  # number of cross-validation folds; each network is trained without one of them, or on all rows
MIN_CROSS_VALIDATION_ROWS = 2 * N_FOLDS  # with fewer different training rows, no rows are held out
MIN_MEMBERS = 2  # minimum number of networks, however many rows a table has
MIN_EPOCHS, MAX_EPOCHS = 56, 112  # minimum and maximum number of epochs of a network, except for large tables
# For regression with more than MAX_FULL_EPOCH_ROWS training rows, the number of epochs decreases with the square root
# of the number of rows, down to MIN_LARGE_DATA_EPOCHS.
MAX_FULL_EPOCH_ROWS, MIN_LARGE_DATA_EPOCHS = 20_000, 28
TARGET_STEPS = 1800  # for small tables, more epochs are trained to reach this number of steps
SMALL_BATCH_ROWS, LARGE_BATCH_ROWS = 32, 64  # number of rows in a mini-batch for small and large tables
MIN_LARGE_DATA_ROWS = 4000  # minimum number of training rows for mini-batches of LARGE_BATCH_ROWS
STOP_CHECK_FRACTION = 1 / 2  # the training of a network may stop early after this fraction of the epochs
MAX_BEST_EPOCH_FRACTION = 1 / 4  # training stops early if the best epoch is in the first quarter of the epochs
LEARNING_RATES = {"classes": 0.0025, "numbers": 0.0044}  # initial learning rate for classification and regression
LABEL_SMOOTHING = 0.1
MAX_SMOOTHED_SHARE = 0.9  # labels are not smoothed if one class has more than this share of the rows
SCALE_LR_FACTOR = 6.0  # factor of the learning rate for the parameters of the Scale layer
REFERENCE_INPUTS = 256  # with this number of inputs, the first layer has the learning rate of the other layers

SMALLEST_NORMAL = np.finfo(np.float64).tiny

# Names of the regression losses: the keys are those of scikit-learn, the values those of the engine.
ENGINE_LOSSES = {"squared_error": "mse", "absolute_error": "mae", "poisson": "poisson"}
CROSS_ENTROPY, SQUARED_ERROR, POISSON = "cross_entropy", "squared_error", "poisson"
MIN_POISSON_SKEWNESS = 0.5  # Poisson's loss is the default if the skewness of all targets exceeds this value


class Task(Value):
    """Prediction task, which determines the loss and the outputs of the networks.

    Parameters
    ----------
    loss : str
        CROSS_ENTROPY, or a key of ENGINE_LOSSES.
    n_out : int
        Number of classes or targets.
    quantiles : tuple of float
        Quantiles to predict instead of the mean or median; () for none. A network has an output for each quantile of
        each target.
    label_smoothing : float
        Label smoothing of the cross-entropy. It is used only in the training and is not part of model files.
    """

    loss: str = field(check=partial(check_choice, choices=(CROSS_ENTROPY, *ENGINE_LOSSES)))
    n_out: int
    quantiles: tuple[float, ...] = ()
    label_smoothing: float = LABEL_SMOOTHING

    @property
    def kind(self) -> str:
        """Kind of the targets: "classes" for classification, "numbers" for regression."""
        return "classes" if self.loss == CROSS_ENTROPY else "numbers"

    @property
    def n_network_outputs(self) -> int:
        """Number of outputs of each network."""
        return self.n_out * max(1, len(self.quantiles))

    @property
    def scales_targets(self) -> bool:
        """Return whether targets are scaled for the training, which is true for regression."""
        return self.loss != CROSS_ENTROPY

    @property
    def metric(self) -> str | None:
        """Metric that the records of the epochs contain in addition to the loss: "accuracy", or None."""
        return "accuracy" if self.kind == "classes" else None


class Recipe(Value):
    """Architecture of the hidden layers of a network.

    Parameters
    ----------
    depth : int
        Number of hidden layers.
    width : int
        Number of units in each hidden layer.
    """

    depth: int = 3
    width: int = 128

    def build_network(self, task: Task, n_in: int, seed: int) -> NeuralNetwork:
        """Create an untrained network with n_in inputs for a task.

        In the hidden layers, the initial weights are drawn from N(0, 1 / number of inputs), and the biases from
        N(0, 1). In the last layer, both are 0. The learning rate of the first layer is multiplied by
        sqrt(REFERENCE_INPUTS / n_in), so that the recipe is suitable for any number of inputs.
        """
        gain, n_out = sqrt(REFERENCE_INPUTS / n_in), task.n_network_outputs
        first = Dense(self.width, init="lecun_normal", lr_factor=gain, bias_lr_factor=1 / gain)
        inner = [Dense(self.width, init="lecun_normal") for _ in range(self.depth - 1)]
        loss: Any = CrossEntropy(task.label_smoothing) if task.kind == "classes" else ENGINE_LOSSES[task.loss]
        if task.quantiles:
            loss = Heads([Head(task.n_out, Quantile(q)) for q in task.quantiles])
        net = NeuralNetwork(
            [Input(n_in), Scale(lr_factor=SCALE_LR_FACTOR), first, *inner, Dense(n_out, init="zeros")],
            activation="elu" if task.kind == "classes" else "silu",
            loss=loss,
            dtype="float32",
            seed=seed,
        )
        rng = np.random.default_rng(seed)
        biases: list[Any] = [None, *(rng.standard_normal(self.width) for _ in range(self.depth)), np.zeros(n_out)]
        net.biases = biases
        return net


class Candidate(Value):
    """Inputs and recipe of a network, which a cross-validation compares with other candidates.

    Parameters
    ----------
    features : FeatureSet
        Inputs of the network.
    recipe : Recipe
    """

    features: FeatureSet
    recipe: Recipe = Recipe()


CANDIDATES = Candidate(PLAIN), Candidate(EXTENDED)


def default_loss(y: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> str:
    """Return the default loss for targets (n, n_out): Poisson's loss or the squared error; both predict the mean.

    Poisson's loss is suitable for targets such as prices, durations and amounts: they are 0 or more, are skewed to the
    right, and are less certain if they are large.
    """
    largest = y.max(axis=0)
    if y.min() < 0 or not largest.all():
        return SQUARED_ERROR
    z = y / largest
    z = z - np.average(z, axis=0, weights=weights)
    variance, third_moment = (np.average(z**power, axis=0, weights=weights) for power in (2, 3))
    return POISSON if np.all(third_moment > MIN_POISSON_SKEWNESS * variance**1.5) else SQUARED_ERROR


def choose_label_smoothing(y: NDArray[np.int32], weights: NDArray[np.float64] | None) -> float:
    """Return the label smoothing for class indices (n,).

    With two classes, smoothing gives each class at least half of LABEL_SMOOTHING of the probability. If a class is
    rarer than that, most probabilities would be too large, and rows that differ in their probability could not be
    distinguished.
    """
    counts = np.bincount(y, weights)
    return LABEL_SMOOTHING if counts.max() <= MAX_SMOOTHED_SHARE * counts.sum() else 0.0


def check_preset(preset: Any) -> None:
    """Raise ValueError if `preset` is the removed preset FORMER_PRESET."""
    if isinstance(preset, str) and preset == FORMER_PRESET:
        raise ValueError(
            f"preset must be 'fast' or 'default', got {preset!r}, which nnc 0.2.0 has removed: its error was not "
            f"smaller than that of the default; pass members={FORMER_MEMBERS} for as many networks"
        )


def choose_member_count(preset: str, rows: int) -> int:
    """Return the number of networks that a preset has for a number of training rows.

    The number decreases for large tables, because each network learns from more rows. It is then even: two candidates
    have the same number of networks, and two threads have the same number of networks to train.
    """
    count = PRESETS[preset]
    if rows <= FULL_PRESET_ROWS:
        return count
    count = round(count * sqrt(FULL_PRESET_ROWS / rows))
    return max(MIN_MEMBERS, count - count % 2)


def fit_target_scaling(task: Task, y: NDArray[Any]) -> Scaling | None:
    """Return the Scaling of targets (n, n_out), or None for classes.

    Targets are standardized. For Poisson's loss, they are divided by their mean instead, so that none becomes negative.
    """
    if task.loss == "poisson":
        mean = y.mean(axis=0)
        return Scaling("standardize", np.zeros(len(mean)), 1 / np.where(mean > 0, np.maximum(mean, SMALLEST_NORMAL), 1))
    return Standardize().fit(y) if task.scales_targets else None


def n_fold_training_rows(rows: int) -> int:
    """Return the number of rows from which each member of the cross-validation learns, given `rows` in total."""
    return rows if rows < MIN_CROSS_VALIDATION_ROWS else rows - rows // N_FOLDS


def batch_and_epochs(rows: int, kind: str) -> tuple[int, int]:
    """Return the number of rows in a mini-batch and the number of epochs, for training rows and `Task.kind`."""
    batch = min(rows, LARGE_BATCH_ROWS if rows >= MIN_LARGE_DATA_ROWS else SMALL_BATCH_ROWS)
    epochs = max(MIN_EPOCHS, min(MAX_EPOCHS, TARGET_STEPS // -(-rows // batch)))
    if kind == "numbers" and rows > MAX_FULL_EPOCH_ROWS:
        epochs = max(MIN_LARGE_DATA_EPOCHS, round(epochs * sqrt(MAX_FULL_EPOCH_ROWS / rows)))
    return batch, epochs


def fit_options(task: Task, rows: int) -> dict[str, Any]:
    """Return the arguments of `NeuralNetwork.fit` for a task and a number of training rows."""
    batch, epochs = batch_and_epochs(rows, task.kind)
    return {
        "epochs": epochs,
        "batch_size": batch,
        "optimizer": Adam(betas=(0.9, 0.95)),
        "lr": PerStep(CosineLogLR(LEARNING_RATES[task.kind])),
        "metrics": task.metric or (),
        "restore_best": "last",
    }
