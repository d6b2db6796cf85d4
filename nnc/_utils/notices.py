"""Warnings that refer to the line of the user's code."""

from __future__ import annotations

import sys
import warnings

CALLERS = "nnc", "sklearn"  # packages whose lines are not the user's code


def warn_user(message: str, category: type[Warning]) -> None:
    """Issue a warning that refers to the line of the user's code that called nnc, directly or in scikit-learn."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in CALLERS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
