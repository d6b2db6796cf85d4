"""`nnc demo`: trains the tutorial's network and a classifier of handwritten digits, and saves and loads both.

The demo checks its results. It prints a line for each failed check. The exit status is 1 if a check fails.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnc import NeuralNetwork, compare
from nnc._cli.arguments import check_pairs
from nnc._registry.capabilities import Pair
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

MIN_TEST_ACCURACY = 0.95  # accuracy on the test digits below which the demo fails
MAX_RELATIVE_DIFFERENCE = 1e-9  # the demo fails if engine and plain Python differ by more; rounding errors are smaller

# Bits for the directions in which lines leave a character cell; the sum of the bits is an index into _LINES.
_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES = {"ascii": " |||-+++-+++-+++", "unicode": " │││─┘┐┤─└┌├─┴┬┼"}
_SHADES = {"ascii": " .:+#", "unicode": " ░▒▓█"}
_BAR = {"ascii": "#", "unicode": "█"}


def _character_set() -> str:
    """Return "unicode" if standard output can encode line and block characters, else "ascii"."""
    try:
        (_LINES["unicode"] + _SHADES["unicode"]).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "ascii"
    return "unicode"


def draw_network(sizes: Sequence[int], activations: Sequence[str], style: str = "ascii") -> str:
    """Draw the layers of a network as text, from left to right.

    Parameters
    ----------
    sizes : sequence of int
        Number of inputs, then the number of neurons of each layer. Only the first two
        neurons and the last one of a layer with more than six neurons are drawn.
    activations : sequence of str
        Activation of each layer after the inputs.
    style : {"ascii", "unicode"}
        Characters of the drawing.

    Returns
    -------
    str
        Drawing of several lines, without a newline at the end.
    """
    # Widths in characters: 5 for a neuron, 19 for a connection (horizontal lines of 3, 11 and 3, two vertical bars).
    node_width, line_width = 5, 19
    columns = [[f"({i})" for i in range(n)] if n <= 6 else ["(0)", "(1)", ":", f"({n - 1})"] for n in sizes]
    height = 2 * max(map(len, columns)) - 1
    middle = height // 2
    width = len(sizes) * (node_width + line_width)
    directions = [[0] * width for _ in range(height)]
    texts: list[tuple[int, int, str]] = []  # for each label: its row, the column of its center, and its text

    def draw_horizontal(row: int, begin: int, end: int) -> None:
        for column in range(begin, end):
            directions[row][column] |= _RIGHT
            directions[row][column + 1] |= _LEFT

    def draw_vertical(column: int, begin: int, end: int) -> None:
        for row in range(begin, end):
            directions[row][column] |= _DOWN
            directions[row + 1][column] |= _UP

    for k, labels in enumerate(columns):
        x = k * (node_width + line_width)
        left_bar, right_bar = x - 4, x + node_width + 3
        top = middle - len(labels) + 1
        bottom = middle + len(labels) - 1
        for i, label in enumerate(labels):
            texts.append((top + 2 * i, x + node_width // 2, label))
            if k > 0 and label != ":":
                draw_horizontal(top + 2 * i, left_bar, x)
            if k < len(sizes) - 1 and label != ":":
                draw_horizontal(top + 2 * i, x + node_width - 1, right_bar)
        if k > 0:
            draw_vertical(left_bar, top, bottom)
        if k < len(sizes) - 1:
            draw_vertical(right_bar, top, bottom)
            next_bar = x + node_width + line_width - 4
            draw_horizontal(middle, right_bar, next_bar)
            texts.append((middle, (right_bar + next_bar) // 2, f" {sizes[k]} x {sizes[k + 1]} "))

    titles = ["inputs", *(f"hidden {k}" for k in range(1, len(sizes) - 1)), "output"]
    for row, captions in ((-3, titles), (-2, ["", *activations])):
        texts += [(row, k * (node_width + line_width) + node_width // 2, caption) for k, caption in enumerate(captions)]
    grid = [[" "] * width for _ in range(3)] + [[_LINES[style][bits] for bits in row] for row in directions]
    for row, center, text in texts:
        begin = max(0, center - len(text) // 2)
        grid[row + 3][begin : begin + len(text)] = text
    return "\n".join("".join(row).rstrip() for row in grid)


def _print_title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}\n")


def _run_tutorial(style: str, failures: list[str]) -> NeuralNetwork:
    _print_title("1. The tutorial: a network learns exclusive-or")
    network = NeuralNetwork([3, 4, 1], **TUTORIAL_NETWORK)
    print("Four rows (input 3 is always 1), full-batch gradient descent, learning rate 1.\n")
    print(draw_network(network.sizes, network.activations, style))

    history = network.fit(TUTORIAL_X, TUTORIAL_Y, epochs=TUTORIAL_ITERATIONS, lr=1.0)
    # history.loss[i] is the loss before step i. Append the loss after the last step, so that every step is checked.
    losses = np.append(history.loss, network.evaluate_loss(TUTORIAL_X, TUTORIAL_Y))
    print("\n  iteration        loss")
    for i in range(0, len(losses), TUTORIAL_ITERATIONS // 10):
        bar = _BAR[style] * round(40 * losses[i] / losses[0])
        print(f"  {i:>9} {losses[i]:>11.6f}  {bar}".rstrip())
    increases = np.flatnonzero(np.diff(losses) >= 0)
    if len(increases) == 0 and len(losses) == TUTORIAL_ITERATIONS + 1:
        print(f"\n  The loss decreased in each of the {TUTORIAL_ITERATIONS} iterations.")
    else:
        failures.append(f"the loss did not decrease in {len(increases)} of {len(losses) - 1} iterations")

    print("\n  inputs    target   prediction")
    for row, target, prediction in zip(TUTORIAL_X, TUTORIAL_Y, network.predict(TUTORIAL_X), strict=True):
        print(f"  {' '.join(f'{x:.0f}' for x in row)}     {target[0]:>6.0f}   {prediction[0]:>10.6f}")

    print("\nThe same training in plain Python, from the same weights:\n")
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
    if not largest <= MAX_RELATIVE_DIFFERENCE:
        failures.append(f"the engine and plain Python differ by {largest:.1e}, more than {MAX_RELATIVE_DIFFERENCE:.0e}")
    return network


def _run_digits(style: str, failures: list[str]) -> tuple[NeuralNetwork, NDArray[np.float64]]:
    X, y = load_digits()
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=450, seed=0)
    _print_title("2. Handwritten digits")
    print(f"{len(X)} images of 8 x 8 pixels: {len(X_train)} for training, {len(X_test)} for the test.\n")
    network = NeuralNetwork([64, 64, 10], activation="relu", loss="cross_entropy", dtype="float32", seed=0)
    print(draw_network(network.sizes, network.activations, style))

    history = network.fit(X_train, y_train, epochs=40, lr=0.2, batch_size=32, n_threads=1)
    predicted = network.predict_classes(X_test)
    n_correct = int(np.sum(predicted == y_test))
    accuracy = n_correct / len(y_test)
    duration = f"{history.seconds * 1e3:.1f} ms"
    print(f"\n  trained on one core in {duration}: {history.epochs} epochs, batches of 32, float32")
    print(f"  the loss decreased from {history.loss[0]:.4f} to {history.loss[-1]:.4f}")
    print(f"  test accuracy {accuracy:.1%}: {n_correct} of {len(y_test)} test images")
    if not accuracy >= MIN_TEST_ACCURACY:
        failures.append(f"the test accuracy is {accuracy:.1%}, below {MIN_TEST_ACCURACY:.0%}")
    _print_confusion(y_test, predicted)
    _print_images(X_test, y_test, predicted, style)
    return network, X_test


def _print_confusion(y: NDArray[np.intp], predicted: NDArray[np.intp]) -> None:
    """Print the confusion matrix: how often each true digit (rows) was predicted as each digit (columns)."""
    confusion = np.zeros((10, 10), dtype=int)
    np.add.at(confusion, (y, predicted), 1)
    print("\n  true digit (rows) and predicted digit (columns)\n")
    print("      |" + "".join(f"{d:>4}" for d in range(10)))
    print("  ----+" + "-" * 40)
    for digit, counts in enumerate(confusion):
        print(f"  {digit:>3} |" + "".join(f"{count or '.':>4}" for count in counts))


def _print_images(X: NDArray[np.float64], y: NDArray[np.intp], predicted: NDArray[np.intp], style: str) -> None:
    """Print four images with their predictions; the last one is misclassified unless all predictions are correct."""
    examples = list(np.flatnonzero(predicted == y)[:4])
    errors = np.flatnonzero(predicted != y)
    if len(errors):
        examples[-1:] = errors[:1]
    print()
    for line in range(8):
        pixels = [X[i, 8 * line : 8 * line + 8] for i in examples]
        print("  " + "  ".join("".join(2 * _SHADES[style][round(4 * p)] for p in row) for row in pixels).rstrip())
    captions = [
        f"{predicted[i]}, correct" if predicted[i] == y[i] else f"{predicted[i]}, wrong: a {y[i]}" for i in examples
    ]
    print("  " + "  ".join(f"{caption:^16}" for caption in captions).rstrip())


def _check_saving(network: NeuralNetwork, X: NDArray[np.float64], name: str, failures: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.json"
        network.save(path)
        size = path.stat().st_size
        loaded = NeuralNetwork.load(path)
    before, after = network.predict(X).tobytes(), loaded.predict(X).tobytes()
    is_equal = before == after
    result = "equal" if is_equal else "DIFFERENT"
    print(f"  {path.name:<14}{size:>9,} bytes   {len(before):>6,} bytes of predictions: {result}")
    if not is_equal:
        failures.append(f"the network loaded from {path.name} has other predictions than the saved network")


def _serve(arguments: Namespace) -> int:
    """Serve the page of `nnc demo --browser` until Ctrl-C, and return the exit status."""
    try:
        from nnc._browser.server import serve
    except ImportError as error:
        from nnc._utils.packages import missing_package

        raise missing_package("nnc demo --browser", "starlette and uvicorn", error, "browser") from None
    serve(arguments.port or 0, not arguments.no_open)
    return 0


def run(arguments: Namespace) -> int:
    """Run `nnc demo` and return the exit status.

    Returns
    -------
    int
        0, or 1 if a check fails. The checks are: the loss of the tutorial decreases in each iteration, the engine
        and plain Python agree, at least 95 % of the test digits are recognized, and a loaded network predicts the
        same bits as the saved one.
    """
    if arguments.browser:
        return _serve(arguments)
    check_pairs(arguments, (Pair("--port", "--browser", True), Pair("--no-open", "--browser", True)))
    style = _character_set()
    failures: list[str] = []
    print("nnc: train small neural networks fast")
    tutorial = _run_tutorial(style, failures)
    digits, images = _run_digits(style, failures)
    _print_title("3. Inspect, save, load")
    print("The tutorial's network, as printed by inspect():\n")
    tutorial.inspect()
    print("\nThe networks are saved as JSON and loaded, and their predictions are compared:\n")
    _check_saving(tutorial, TUTORIAL_X, "tutorial", failures)
    _check_saving(digits, images, "digits", failures)
    print()
    for failure in failures:
        print(f"FAILED: {failure}")
    if not failures:
        print("All checks passed.")
    return 1 if failures else 0
