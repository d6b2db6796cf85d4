"""Warnings about the columns of a table; each column has at most one warning of each category."""

from __future__ import annotations

import sys
import warnings

from nnc._training.advice import TrainingWarning


class ColumnWarning(TrainingWarning):
    """Warning about a column that may have been misread.

    Possible reasons: some cells cannot be read and count as missing, a text has two meanings, or a column of text that
    looks like numbers or dates is left out.
    """


class LeakageWarning(TrainingWarning):
    """Warning about a column that determines the target almost exactly, such as a copy or a consequence of it."""


def warn_user(message: str, category: type[Warning]) -> None:
    """Issue a warning that points to the line of the first caller outside of nnc."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "nnc":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
