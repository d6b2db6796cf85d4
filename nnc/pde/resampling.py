"""Selection of new points where the residual is large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.checks import check_count, check_not_negative, short_repr

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Sampler = Callable[[int, np.random.Generator], ArrayLike]


class by_residual:
    """Function for the argument `resample` of `Problem.fit`, which draws points where the residual is large.

    The function draws candidates, and selects points among them without replacement, with probabilities proportional to
    |r| / mean |r| + `uniform` (Wu, Zhu, Tan, Kartha and Lu, 2023). The points depend only on `seed` and on the epoch.

    Parameters
    ----------
    sampler : callable
        sampler(n, rng) returns n points (n, n_in) of the domain, drawn with the NumPy Generator `rng`.
    n : int
        Number of points to select.
    every : int, default 20
        Number of epochs between two selections.
    candidates : int, default 10
        Number of candidates that are drawn for each selected point.
    uniform : float, default 1.0
        Weight of the uniform distribution, relative to that of the residual.
    seed : int, default 0
        Seed of the random numbers.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.
    """

    every: int

    def __init__(
        self, sampler: Sampler, n: int, *, every: int = 20, candidates: int = 10, uniform: float = 1.0, seed: int = 0
    ) -> None:
        if not callable(sampler):
            raise TypeError(f"sampler must be a function (n, rng) -> points, got {short_repr(sampler)}")
        self.sampler, self.n = sampler, check_count("n", n)
        self.every, self.candidates = check_count("every", every), check_count("candidates", candidates)
        self.uniform, self.seed = check_not_negative("uniform", uniform), check_count("seed", seed, minimum=0)

    def __call__(self, epoch: int, residual: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
        """Return the points for the epochs after `epoch`; residual(points) returns |r| (n,)."""
        rng = np.random.default_rng([self.seed, epoch])
        points = np.asarray(self.sampler(self.n * self.candidates, rng))
        weights = residual(points)
        weights = weights / max(float(weights.mean()), np.finfo(np.float64).tiny) + self.uniform
        return points[rng.choice(len(points), self.n, replace=False, p=weights / weights.sum())]
