"""Checked arguments of an ImageClassifier."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from nnc._utils.checks import allow_none, check_bool, check_count, check_positive
from nnc._utils.disk import check_path
from nnc._utils.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SEED = 2**64 - 1


class ImageSettings(Value):
    """Arguments of `ImageClassifier`, which describes them; `fit` checks them."""

    epochs: int | None = field(default=None, check=allow_none(check_count))
    random_state: int | None = field(default=None, check=allow_none(partial(check_count, minimum=0, maximum=MAX_SEED)))
    max_seconds: float | None = field(default=None, check=allow_none(check_positive))
    n_threads: int | None = field(default=None, check=allow_none(check_count))
    callback: Any = None
    progress: bool = field(default=False, check=check_bool)
    checkpoint: str | None = field(default=None, check=allow_none(check_path))

    def callbacks(self) -> list[Callable[[Any], Any]]:
        """Return the callbacks of the user as a list."""
        given = self.callback
        return [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]
