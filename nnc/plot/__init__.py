"""Plots of networks and their results, drawn with matplotlib (extra `[plot]`).

>>> import nnc
>>> import matplotlib.pyplot as plt
>>> ax = nnc.plot.history(history)
>>> plt.savefig("history.png")

Each function draws into the Axes `ax`, by default into the Axes of a new figure, and returns the Axes. The functions do
not open a window; call `matplotlib.pyplot.show()` outside of notebooks.
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
