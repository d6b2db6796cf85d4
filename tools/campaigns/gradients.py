"""Test `check_gradients` on random networks: it must accept correct gradients and detect planted errors.

    python tools/campaigns/gradients.py [RUNS] [--first SEED]

Each run draws a network: its layers, activations, loss and dtype, the rows, the scales of inputs and weights, and the
training, which ranges from none to a loss of 1e-12. Some networks are for images. The correct gradients are checked
first. Then one gradient of each layer is changed by ten times the tolerance (1e-5, or 1e-2 in float32), and the check
is repeated. Only gradients that the check compares are changed.

A finding is

- a false alarm: correct gradients are reported as wrong;
- a planted error that is missed;
- a layer that is reported as correct although nothing was compared.

Findings are printed with the seed of their run, and the exit status is 1 if there is any. The other figures count the
comparisons. 10,000 runs take about ten minutes. Set OPENBLAS_NUM_THREADS=1, so that NumPy does not start threads for
small matrices.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import nnc
from nnc import NeuralNetwork
from nnc._inspection.gradients import TOLERANCE, check_gradients, compare
from nnc._inspection.problem import Problem
from nnc._registry import activations, losses
from nnc.layers import AvgPool2D, Conv2D, GlobalAvgPool2D, Input, MaxPool2D

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from numpy.typing import NDArray

    from nnc.layers.base import Layer

# Kinds of trainings; "none" is twice as likely as the others.
TRAININGS = ("none", "none", "a few epochs", "adam", "lbfgs", "levenberg_marquardt", "xor", "iris")


class Run(NamedTuple):
    """Network, rows and targets for `check_gradients`, and the kind of training."""

    net: NeuralNetwork
    X: NDArray[Any]
    y: NDArray[Any]
    training: str


def draw_run(seed: int) -> Run:
    """Draw a network, data and a kind of training from a seed."""
    rng = np.random.default_rng(seed)
    training = str(rng.choice(TRAININGS))
    if training in ("xor", "iris"):
        return data_set_run(training, rng)
    name = str(rng.choice(losses.NAMES))
    row = losses.ROWS[name]
    hidden = [str(rng.choice(activations.HIDDEN)) for _ in range(rng.integers(0, 4))]
    output = row.output if row.output_required else str(rng.choice(activations.NAMES))
    min_outputs = 2 if output == "softmax" else 1
    sizes = [*rng.integers(1, rng.choice([7, 7, 7, 25]), 1 + len(hidden)), rng.integers(min_outputs, 5)]
    layers: list[Layer | int] = [int(n) for n in sizes]
    if rng.integers(4) == 0 and training != "levenberg_marquardt":
        layers = [*image_layers(rng), *layers[1:]]
    parameter = rng.uniform(0.1, 0.9) if rng.integers(2) else row.default_parameter
    net = NeuralNetwork(
        layers,
        activation=[
            str(rng.choice(activations.HIDDEN)) for _ in range(sum(isinstance(layer, Conv2D) for layer in layers))
        ]
        + hidden,
        output=output,
        loss=losses.loss_object(name, parameter),
        bias=bool(rng.integers(4)),
        dtype=str(rng.choice(["float64", "float64", "float32"])),
        seed=seed,
    )
    if rng.integers(2):
        net.params = net.params * 10 ** rng.uniform(-3, 2)
    n = int(rng.choice([1, 2, 5, 20, 100]))
    X = rng.normal(size=(n, net.sizes[0])) * 10 ** rng.uniform(-3, 3)
    if net.model.stack.has_image_input and rng.integers(2):
        X[abs(X) < np.quantile(abs(X), 0.8)] = X.flat[0]  # a constant background, so that pools have equal maxima
    y = targets(row.target_type, rng, n, int(sizes[-1]))
    # If the training diverges, the check uses the last finite weights.
    with warnings.catch_warnings(), contextlib.suppress(nnc.DivergedError):
        warnings.simplefilter("ignore")
        train(net, X, y, training)
    return Run(net, X, y, training)


def image_layers(rng: np.random.Generator) -> list[Layer]:
    """Draw layers for small images."""
    shape = tuple(int(n) for n in rng.integers([3, 3, 1], [9, 9, 4]))
    layers: list[Layer] = [Input(*shape)]
    for _ in range(rng.integers(1, 5)):
        size, stride = ((int(a), int(b)) for a, b in rng.integers(1, 4, (2, 2)))
        layer: Layer = (
            Conv2D(int(rng.integers(1, 5)), size, stride=stride, padding=str(rng.choice(["valid", "same"]))),
            MaxPool2D(size, stride),
            AvgPool2D(size, stride),
            GlobalAvgPool2D(),
        )[rng.choice(4, p=[0.5, 0.3, 0.15, 0.05])]
        with contextlib.suppress(ValueError):  # skip the layer if the image is smaller than its window
            shape = layer.output_shape(shape)
            layers.append(layer)
    return layers


def targets(target_type: str, rng: np.random.Generator, n: int, n_out: int) -> NDArray[Any]:
    """Draw targets of the type that a loss needs."""
    if target_type == "counts":
        return rng.integers(0, 5, (n, n_out))
    if target_type == "multilabel":
        return rng.integers(0, 2, (n, n_out)) if rng.integers(2) else rng.uniform(size=(n, n_out))
    if target_type == "plus_minus_one":
        return rng.choice([-1.0, 1.0], (n, n_out))
    if target_type == "probabilities":
        return rng.dirichlet(np.ones(n_out), n) if rng.integers(2) else np.eye(n_out)[rng.integers(0, n_out, n)]
    return rng.uniform(0.1, 0.9, (n, n_out)) * 10 ** rng.choice([0, 0, 3])


def train(net: NeuralNetwork, X: NDArray[Any], y: NDArray[Any], training: str) -> None:
    """Train a network with one of TRAININGS."""
    if training == "a few epochs":
        net.fit(X, y, epochs=20, lr=0.01)
    elif training == "adam":
        net.fit(X, y, epochs=2000, lr=0.01, optimizer="adam", target_loss=1e-12)
    elif training == "levenberg_marquardt" and losses.ROWS[net.loss_name].squared_error_factor:
        net.fit(X, y, epochs=100, optimizer="levenberg_marquardt", target_loss=1e-12)
    elif training != "none":
        net.fit(X, y, epochs=200, optimizer="lbfgs", target_loss=1e-12)


def data_set_run(training: str, rng: np.random.Generator) -> Run:
    """Return a run with a network that was trained on XOR or on the iris data."""
    dtype, seed = str(rng.choice(["float64", "float32"])), int(rng.integers(1000))
    activation = str(rng.choice(activations.HIDDEN))
    if training == "xor":
        X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
        net = NeuralNetwork([2, 4, 1], activation=activation, loss="bce", dtype=dtype, seed=seed)
        settings: dict[str, Any] = {"epochs": 20_000, "lr": 1.0}
    else:
        X, y = nnc.datasets.load_iris()[:2]
        net = NeuralNetwork(
            [4, 6, 3], activation=activation, loss="cross_entropy", dtype=dtype, seed=seed, scale_X="standardize"
        )
        settings = {"epochs": int(rng.choice([10, 300, 2000])), "optimizer": "adam", "lr": 0.02}
    with warnings.catch_warnings(), contextlib.suppress(nnc.DivergedError):
        warnings.simplefilter("ignore")
        net.fit(X, y, **settings)
    rows = rng.choice(len(X), int(rng.integers(1, min(len(X), 12) + 1)), replace=False)
    return Run(net, X[rows], y[rows], training)


def findings(run: Run, rng: np.random.Generator, counts: Counter[str]) -> Iterator[str]:
    """Yield the findings of a run, and update `counts`."""
    net, dtype = run.net, run.net.dtype.name
    data = net.converter.data(run.X, run.y)
    gradients = net.gradients(run.X, run.y)
    check = check_gradients(net, data.X, data.target, gradients=gradients)
    kind = "trained" if run.training not in ("none", "a few epochs") else "new"
    kind = f"{dtype}, {kind}"
    counts[f"{kind}: networks"] += 1
    counts[f"{kind}: networks without wrong gradients"] += check.ok
    for layer in check.layers:
        for name in ("n_params", "checked", "kinks", "uncertain", "by_both"):
            counts[f"{kind}: parameters, {name}"] += getattr(layer, name)
        if layer.wrong:
            yield f"false alarm: {layer}"
        if layer.checked + layer.kinks + layer.uncertain != layer.n_params or (layer.ok and not layer.checked):
            yield f"inconsistent counts: {layer}"
    planted = []
    for l, layer in enumerate(compare(Problem(net, data.X, data.target), gradients, net.dtype)[0]):
        positions = np.argwhere(layer.compared & (layer.scale == np.maximum(abs(layer.computed), abs(layer.expected))))
        if len(positions) == 0:
            continue
        i, j = rng.choice(positions)
        dW, db = (None if part is None else np.array(part, np.float64) for part in gradients[l])
        array, index = (dW, (i, j)) if i < len(dW) else (db, j)
        array[index] *= 1 + float(rng.choice([-10, 10])) * TOLERANCE[dtype]
        gradients[l] = dW, db
        planted.append(l)
    check = check_gradients(net, data.X, data.target, gradients=gradients)
    for l in planted:
        counts[f"{kind}: planted errors"] += 1
        if not check.layers[l].wrong:
            yield f"missed error: {check.layers[l]}"


def campaign(runs: int, first: int = 0) -> tuple[list[str], Counter[str]]:
    """Run the seeds from `first` on; return all findings and the counts."""
    counts: Counter[str] = Counter()
    lines = []
    with np.errstate(all="ignore"):  # the numbers of some networks overflow, which is no finding
        for seed in range(first, first + runs):
            run = draw_run(seed)
            for text in findings(run, np.random.default_rng(seed), counts):
                lines.append(f"run {seed}, {run.training}, {run.net!r}: {text}")
    return lines, counts


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="?", type=int, default=1000, help="number of runs (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first run (default: %(default)s)")
    options = parser.parse_args(arguments)
    lines, counts = campaign(options.runs, options.first)
    for name in sorted(counts):
        print(f"{name}: {counts[name]:,}")
    print(*lines, f"{len(lines)} findings in {options.runs:,} runs", sep="\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
