"""Warnings about the columns of a table, one for each column."""

from __future__ import annotations

import sys
import warnings

from nnc._training.advice import TrainingWarning


class ColumnWarning(TrainingWarning):
    """A column may not have been understood as its owner means it: some cells cannot be read and count as missing, a
    text has two meanings, or a column that looks like numbers or dates is left out as text."""


class LeakageWarning(TrainingWarning):
    """A column determines the target almost exactly: it is the target in other words, or was not known before it."""


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn with the line of the first caller outside of this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "nnc":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
