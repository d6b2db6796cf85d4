"""`nnc demo`: the tutorial, handwritten digits, a network saved and loaded again.

The code checks what the demo promises; a promise that is not kept is named, and the exit status is 1.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnc import NeuralNetwork, compare
from nnc.datasets import load_digits, train_test_split

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray


TUTORIAL_X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=np.float64)
TUTORIAL_Y = np.array([[0], [1], [1], [0]], dtype=np.float64)
TUTORIAL_NETWORK: dict[str, Any] = {"bias": False, "init": "uniform", "loss": "sse", "seed": 0}
TUTORIAL_ITERATIONS = 1500

WANTED_ACCURACY = 0.95  # on the test digits
WANTED_AGREEMENT = 1e-9  # of engine and reference, relative; the rounding of 1500 steps stays far below it

# Where the lines of a cell lead, as bits: up 1, down 2, left 4, right 8; the sum indexes the characters.
_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES = {"ascii": " |||-+++-+++-+++", "unicode": " │││─┘┐┤─└┌├─┴┬┼"}
_SHADES = {"ascii": " .:+#", "unicode": " ░▒▓█"}
_BAR = {"ascii": "#", "unicode": "█"}


def _style() -> str:
    """Return "unicode" if standard output can carry the characters, else "ascii"."""
    try:
        (_LINES["unicode"] + _SHADES["unicode"]).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "ascii"
    return "unicode"


def draw_network(sizes: Sequence[int], activations: Sequence[str], style: str = "ascii") -> str:
    """Draw the layers from left to right; every neuron is joined to all of the layer before.

    Parameters
    ----------
    sizes : sequence of int
        The number of inputs, then of the neurons of each layer. Of a large layer, the first two and the last
        are drawn.
    activations : sequence of str
        One for each layer after the inputs.
    style : {"ascii", "unicode"}
        The characters to draw with.
    """
    # A neuron is 5 characters wide, and a connection 19: a line of 3, a bar, a line of 11, a bar, a line of 3.
    node, wire = 5, 19
    columns = [[f"({i})" for i in range(n)] if n <= 6 else ["(0)", "(1)", ":", f"({n - 1})"] for n in sizes]
    height = 2 * max(map(len, columns)) - 1
    middle = height // 2
    width = len(sizes) * (node + wire)
    sides = [[0] * width for _ in range(height)]
    texts: list[tuple[int, int, str]] = []  # row, column of the middle, text

    def across(row: int, begin: int, end: int) -> None:
        for column in range(begin, end):
            sides[row][column] |= _RIGHT
            sides[row][column + 1] |= _LEFT

    def down(column: int, begin: int, end: int) -> None:
        for row in range(begin, end):
            sides[row][column] |= _DOWN
            sides[row + 1][column] |= _UP

    for k, labels in enumerate(columns):
        x = k * (node + wire)
        left_bar, right_bar = x - 4, x + node + 3
        top = middle - len(labels) + 1
        bottom = middle + len(labels) - 1
        for i, label in enumerate(labels):
            texts.append((top + 2 * i, x + node // 2, label))
            if k > 0 and label != ":":
                across(top + 2 * i, left_bar, x)
            if k < len(sizes) - 1 and label != ":":
                across(top + 2 * i, x + node - 1, right_bar)
        if k > 0:
            down(left_bar, top, bottom)
        if k < len(sizes) - 1:
            down(right_bar, top, bottom)
            next_bar = x + node + wire - 4
            across(middle, right_bar, next_bar)
            texts.append((middle, (right_bar + next_bar) // 2, f" {sizes[k]} x {sizes[k + 1]} "))

    titles = ["inputs", *(f"hidden {k}" for k in range(1, len(sizes) - 1)), "output"]
    for row, words in ((-3, titles), (-2, ["", *activations])):
        texts += [(row, k * (node + wire) + node // 2, word) for k, word in enumerate(words)]
    grid = [[" "] * width for _ in range(3)] + [[_LINES[style][s] for s in row] for row in sides]
    for row, center, text in texts:
        begin = max(0, center - len(text) // 2)
        grid[row + 3][begin : begin + len(text)] = text
    return "\n".join("".join(row).rstrip() for row in grid)


def _title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}\n")


def _tutorial(style: str, broken: list[str]) -> NeuralNetwork:
    _title("1. The tutorial: a network learns exclusive-or")
    network = NeuralNetwork([3, 4, 1], **TUTORIAL_NETWORK)
    print("Four rows (the third input is always 1), full-batch gradient descent, rate 1.\n")
    print(draw_network(network.sizes, network.activations, style))

    history = network.fit(TUTORIAL_X, TUTORIAL_Y, epochs=TUTORIAL_ITERATIONS, lr=1.0)
    # history.loss[i] is from before step i; the loss after the last step is added, so that all steps count.
    losses = np.append(history.loss, network.evaluate_loss(TUTORIAL_X, TUTORIAL_Y))
    print("\n  iteration        loss")
    for i in range(0, len(losses), TUTORIAL_ITERATIONS // 10):
        bar = _BAR[style] * round(40 * losses[i] / losses[0])
        print(f"  {i:>9} {losses[i]:>11.6f}  {bar}".rstrip())
    rose = np.flatnonzero(np.diff(losses) >= 0)
    if len(rose) == 0 and len(losses) == TUTORIAL_ITERATIONS + 1:
        print(f"\n  The loss fell at every one of the {TUTORIAL_ITERATIONS} iterations.")
    else:
        broken.append(f"the loss did not fall at {len(rose)} of {len(losses) - 1} iterations")

    print("\n  inputs    target   prediction")
    for row, target, prediction in zip(TUTORIAL_X, TUTORIAL_Y, network.predict(TUTORIAL_X), strict=True):
        print(f"  {' '.join(f'{x:.0f}' for x in row)}     {target[0]:>6.0f}   {prediction[0]:>10.6f}")

    print("\nThe same run in plain Python, from the same weights:\n")
    comparison = compare(
        network.sizes,
        TUTORIAL_X,
        TUTORIAL_Y,
        epochs=TUTORIAL_ITERATIONS,
        lr=1.0,
        verbose=False,
        **TUTORIAL_NETWORK,
    )
    print("  " + str(comparison).replace("\n", "\n  ").replace("\n  \n", "\n\n"))
    largest = max(comparison.losses.relative, comparison.weights.relative, comparison.predictions.relative)
    if not largest <= WANTED_AGREEMENT:
        broken.append(f"the engine and plain Python differ by {largest:.1e}, more than {WANTED_AGREEMENT:.0e}")
    return network


def _digits(style: str, broken: list[str]) -> tuple[NeuralNetwork, NDArray[np.float64]]:
    X, y = load_digits()
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=450, seed=0)
    _title("2. Handwritten digits")
    print(f"{len(X)} images of 8 x 8 pixels, {len(X_train)} to learn from, {len(X_test)} for the test only.\n")
    network = NeuralNetwork([64, 64, 10], activation="relu", loss="cross_entropy", dtype="float32", seed=0)
    print(draw_network(network.sizes, network.activations, style))

    history = network.fit(X_train, y_train, epochs=40, lr=0.2, batch_size=32, n_threads=1)
    predicted = network.predict_classes(X_test)
    right = int(np.sum(predicted == y_test))
    accuracy = right / len(y_test)
    took = f"{history.seconds * 1e3:.1f} ms"
    print(f"\n  trained on one core in {took}: {history.epochs} epochs, batches of 32, float32")
    print(f"  the loss fell from {history.loss[0]:.4f} to {history.loss[-1]:.4f}")
    print(f"  test accuracy {accuracy:.1%}: {right} of {len(y_test)} images that it has never seen")
    if not accuracy >= WANTED_ACCURACY:
        broken.append(f"the test accuracy is {accuracy:.1%}, below {WANTED_ACCURACY:.0%}")

    table = np.zeros((10, 10), dtype=int)
    np.add.at(table, (y_test, predicted), 1)
    print("\n  true digit, and what the network says\n")
    print("      |" + "".join(f"{d:>4}" for d in range(10)))
    print("  ----+" + "-" * 40)
    for digit, counts in enumerate(table):
        print(f"  {digit:>3} |" + "".join(f"{count or '.':>4}" for count in counts))

    shown = list(np.flatnonzero(predicted == y_test)[:4])
    wrong = np.flatnonzero(predicted != y_test)
    if len(wrong):
        shown[-1:] = wrong[:1]
    print()
    for line in range(8):
        pixels = [X_test[i, 8 * line : 8 * line + 8] for i in shown]
        print("  " + "  ".join("".join(2 * _SHADES[style][round(4 * p)] for p in row) for row in pixels).rstrip())
    captions = [
        f"{predicted[i]}, right" if predicted[i] == y_test[i] else f"{predicted[i]}, wrong: a {y_test[i]}"
        for i in shown
    ]
    print("  " + "  ".join(f"{caption:^16}" for caption in captions).rstrip())
    return network, X_test


def _saving(network: NeuralNetwork, X: NDArray[np.float64], name: str, broken: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.json"
        network.save(path)
        size = path.stat().st_size
        loaded = NeuralNetwork.load(path)
    before, after = network.predict(X).tobytes(), loaded.predict(X).tobytes()
    same = before == after
    verdict = "equal" if same else "DIFFERENT"
    print(f"  {path.name:<14}{size:>9,} bytes   {len(before):>6,} bytes of predictions: {verdict}")
    if not same:
        broken.append(f"the network loaded from {path.name} does not predict the same bits as the one that was saved")


def run(arguments: Namespace) -> int:
    """Run the demo and print it.

    Returns
    -------
    int
        0, or 1 if a promise was not kept: the loss of the tutorial falls at every iteration, engine and
        reference agree, 95 % of the digits are recognized, a loaded network predicts the same bits as the
        saved one.
    """
    style = _style()
    broken: list[str] = []
    print("nnc: small neural networks, trained at the speed of the processor")
    tutorial = _tutorial(style, broken)
    digits, images = _digits(style, broken)
    _title("3. Look inside, save, load")
    print("The tutorial's network, as inspect() shows it:\n")
    tutorial.inspect()
    print("\nSaved as JSON, loaded, and asked again:\n")
    _saving(tutorial, TUTORIAL_X, "tutorial", broken)
    _saving(digits, images, "digits", broken)
    print()
    for promise in broken:
        print(f"FAILED: {promise}")
    if not broken:
        print("Everything that was promised holds.")
    return 1 if broken else 0
