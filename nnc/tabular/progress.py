"""What is told of a training while it lasts."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from nnc._training.callbacks import bar_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def told(callback: Callable[[int, Any], Any] | None, bar: bool, epochs: int) -> Iterator[Any]:
    """The callback of the members; shows a bar of so many epochs, of all of them, where one is asked for."""
    if not bar:
        yield callback
        return
    shown, lock = bar_of(epochs, "epoch")(), Lock()

    def both(place: int, record: Any) -> Any:
        with lock:  # members are trained in several threads
            shown.update(1 + record.get("skipped_epochs", 0))
        return None if callback is None else callback(place, record)

    try:
        yield both
    finally:
        shown.close()
