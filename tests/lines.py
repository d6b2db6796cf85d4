"""Number of executed lines, which bounds the complexity of an algorithm without a measurement of time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def count_executed_lines(function: Callable[[], Any]) -> int:
    """Return the number of lines of Python that a call executes, repetitions included."""
    before, count = sys.gettrace(), 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count
