"""Pictures of networks and their results, drawn with matplotlib (extra `[plot]`).

>>> import nnc
>>> ax = nnc.plot.history(history)
>>> ax.figure.savefig("history.png")

Each function draws into the Axes that it is given, or else into those of a new figure, and returns them. None shows
anything: that is for `matplotlib.pyplot.show()`, or for a notebook. They need no screen.
"""

from nnc.plot.layers import activations, filters, weights
from nnc.plot.predictions import confusion_matrix, decision_boundary, predictions
from nnc.plot.training import history, learning_curve

__all__ = [
    "activations",
    "confusion_matrix",
    "decision_boundary",
    "filters",
    "history",
    "learning_curve",
    "predictions",
    "weights",
]
