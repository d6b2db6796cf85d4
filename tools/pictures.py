"""Draw the pictures of the README: `python tools/pictures.py` writes them to docs/.

tests/test_drawing.py checks that the stored pictures are up to date.
"""

from pathlib import Path

from nnc import NeuralNetwork

X = [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]
Y = [[0], [1], [1], [0]]


def pictures() -> dict[str, str]:
    """Return the SVG text of each picture by file name: the network of the tutorial for one row, and its loss curve."""
    net = NeuralNetwork([3, 4, 1], bias=False, init="uniform", seed=0)
    history = net.fit(X, Y, epochs=1500, lr=1.0)
    return {"network.svg": net.to_svg(row=X[1]), "loss.svg": history.to_svg()}


if __name__ == "__main__":
    for name, text in pictures().items():
        (Path(__file__).parents[1] / "docs" / name).write_text(text, encoding="utf-8", newline="\n")
