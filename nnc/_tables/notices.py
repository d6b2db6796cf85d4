"""Warning about the columns of a table."""

from __future__ import annotations

from nnc._training.advice import TrainingWarning


class ColumnWarning(TrainingWarning):
    """Warning about a column that may have been misread.

    Possible reasons: some cells are unreadable and count as missing values, a text has two meanings, or text that looks
    like numbers or dates is not used as such.
    """
