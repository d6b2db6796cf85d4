"""Warnings about the columns of a table."""

from __future__ import annotations

import sys
import warnings

from nnc._training.advice import TrainingWarning


class ColumnWarning(TrainingWarning):
    """Warning about a column that may have been misread.

    Possible reasons: some cells are unreadable and count as missing values, a text has two meanings, or text that looks
    like numbers or dates is not used as such.
    """


class LeakageWarning(TrainingWarning):
    """Warning about a column that determines the target almost exactly, such as a copy of the target."""


def warn_user(message: str, category: type[Warning]) -> None:
    """Issue a warning that refers to the line of the user's code that called nnc."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "nnc":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
