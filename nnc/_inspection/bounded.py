"""Arrays with first-order bounds of their rounding errors; nnc/_inspection/rounding.py states the assumptions."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from nnc._registry.activations import Activation

    Array = NDArray[np.float64]

MAX_FIRST_ORDER_ERROR = 0.01  # for net inputs with larger errors, first-order bounds are not valid


def sum_terms(n: int) -> float:
    """Return the error bound of a sum of n terms, in units of eps times the sum of their absolute values."""
    return (float(min(n, 4 * n**0.5)) + 2) / 2


def around(center: Array, reach: Array) -> tuple[Array, Array]:
    """Return the bounds center - reach and center + reach, with a reach of at least the smallest normal number."""
    reach = np.maximum(reach, np.finfo(np.float64).tiny)
    return center - reach, center + reach


def largest_change(middle: Array, others: Iterable[Array]) -> Array:
    """Return for each element the largest |other - middle|, where `other` is any array in `others`."""
    changes = np.stack([abs(other - middle) for other in others])
    maximum: Array = changes.max(axis=0)
    return maximum


class Bounded:
    """Array with bounds of its rounding errors, and a mask of the elements that depend on a kink of an activation.

    Arithmetic with such arrays propagates bounds and mask. A bound is infinite where the value is close to overflow.

    Parameters
    ----------
    value : array
        Values in float64.
    limits : finfo or None
        Limits of the dtype of the computation. If it is None, only values are computed.
    error : array or float, default 0
        Bounds of the rounding errors.
    kinks : array or bool, default False
        Mask of the elements that depend on a kink.
    """

    def __init__(self, value: Array, limits: Any, error: Any = 0.0, kinks: Any = False) -> None:
        self.value, self.limits, self.error, self.kinks = value, limits, error, kinks
        if limits is None:
            return
        # Add the error of underflow, which is at most the smallest normal number.
        error = np.where(error > 0, error + float(limits.tiny), error)
        valid = (abs(value) < 1e-4 * float(limits.max)) & ~np.isnan(error)
        self.error = np.where(valid, error, np.inf)
        self.kinks = np.broadcast_to(kinks, value.shape)

    @property
    def eps(self) -> float:
        """Machine epsilon of the dtype of the computation."""
        return float(self.limits.eps)

    @property
    def size(self) -> Array:
        """Upper bounds of the absolute values of the elements, including their errors."""
        size: Array = abs(self.value) + self.error
        return size

    def __getitem__(self, key: Any) -> Bounded:
        if self.limits is None:
            return Bounded(self.value[key], None)
        return Bounded(self.value[key], self.limits, self.error[key], self.kinks[key])

    def __add__(self, other: Bounded) -> Bounded:
        value = self.value + other.value
        if self.limits is None:
            return Bounded(value, None)
        error = self.error + other.error + self.eps * abs(value)
        return Bounded(value, self.limits, error, self.kinks | other.kinks)

    def __sub__(self, other: Bounded) -> Bounded:
        return self + Bounded(-other.value, self.limits, other.error, other.kinks)

    def __mul__(self, other: Bounded) -> Bounded:
        value = self.value * other.value
        if self.limits is None:
            return Bounded(value, None)
        error = self.error * other.size + abs(self.value) * other.error + self.eps * abs(value)
        kinks = (self.kinks & (other.size > 0)) | (other.kinks & (self.size > 0))
        return Bounded(value, self.limits, error, kinks)

    def dot(self, other: Bounded, n: int) -> Bounded:
        """Return the matrix product, with error bounds as for a part of a sum of n terms."""
        value, size = self.value @ other.value, abs(self.value)
        if self.limits is None:
            return Bounded(value, None)
        error = self.error @ other.size + size @ other.error
        error += sum_terms(n) * self.eps * (size @ abs(other.value))
        kinks = self.kinks.astype(int) @ (other.size > 0) + (self.size > 0).astype(int) @ other.kinks > 0
        return Bounded(value, self.limits, error, kinks)

    def transposed(self) -> Bounded:
        """Return the transposed matrix."""
        if self.limits is None:
            return Bounded(self.value.T, None)
        return Bounded(self.value.T, self.limits, self.error.T, self.kinks.T)

    def activate(self, row: Activation) -> tuple[Bounded, Bounded]:
        """Return the activation of these net inputs, and its derivative."""
        Z = self.value
        if self.limits is None:
            A = row.compute(Z)
            return Bounded(A, None), Bounded(row.compute_derivative(Z, A), None)
        eps = self.eps
        E = np.where(self.error < MAX_FIRST_ORDER_ERROR, self.error, np.inf)
        ends = around(Z, E + eps * abs(Z))
        A = row.compute(Z)
        E_A = largest_change(A, map(row.compute, ends)) + 3 * eps * abs(A)
        derivative = row.compute_derivative(Z, A)
        derivatives = (row.compute_derivative(z, a) for z, a in product(ends, around(A, E_A)))
        E_derivative = largest_change(derivative, derivatives) + 3 * eps * abs(derivative)
        kinks = (ends[0] <= 0) & (ends[1] >= 0) if row.nonsmooth_at_zero else np.zeros(Z.shape, bool)
        return (
            Bounded(A, self.limits, E_A),
            Bounded(derivative, self.limits, np.where(kinks, 0.0, E_derivative), kinks),
        )


def selected(mask: NDArray[np.bool_], a: Bounded, b: Bounded) -> Bounded:
    """Return the elements of a where the mask is true, and those of b elsewhere."""
    value = np.where(mask, a.value, b.value)
    if a.limits is None:
        return Bounded(value, None)
    return Bounded(value, a.limits, np.where(mask, a.error, b.error), np.where(mask, a.kinks, b.kinks))


def joined(parts: list[Bounded], axis: int) -> Bounded:
    """Return the concatenation of arrays."""
    if parts[0].limits is None:
        return Bounded(np.concatenate([part.value for part in parts], axis), None)
    arrays = ([getattr(part, name) for part in parts] for name in ("value", "error", "kinks"))
    value, error, kinks = (np.concatenate(part, axis) for part in arrays)
    return Bounded(value, parts[0].limits, error, kinks)
