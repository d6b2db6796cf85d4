"""Which columns a prediction rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Groups = Sequence[tuple[slice, ...]]  # of Schema.groups


def permutation_importances(
    score: Callable[[NDArray[np.float32]], float],
    X: NDArray[np.float32],
    groups: Groups,
    repeats: int = 5,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much worse the score (larger is better) of encoded validation rows X gets where one original column is
    shuffled: mean and standard deviation over the repeats, (columns,) each. `score` gets X itself, changed: it must not
    keep it."""
    raise NotImplementedError


def integrated_gradients(
    value: Callable[[NDArray[Any]], NDArray[Any]],
    gradient: Callable[[NDArray[Any]], NDArray[Any]],
    X: NDArray[Any],
    baseline: NDArray[Any],
    groups: Groups,
    tolerance: float = 1e-6,
) -> NDArray[np.float64]:
    """What each original column gives to the predictions of rows X (n, width): (n, columns), whose rows add up to
    value(X) - value(baseline). `value` gives (m,) for rows (m, width), `gradient` (m, width)."""
    raise NotImplementedError
