"""Affine scaling of columns: scaled = (raw - shift) * factor, with one shift and factor per column, or one for all.

    scaling = Standardize().fit(X)
    scaling.apply(X, "float32")  # columns with mean 0 and standard deviation 1
    scaling.undo(scaled)

Rows are processed in blocks, so that an array may be a numpy.memmap that is larger than the memory.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnc._utils.arrays import as_real_array, describe_shape
from nnc._utils.checks import check_finite, pluralize, short_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["MinMax", "Pixels", "Scaler", "Scaling", "Standardize"]

BLOCK_NUMBERS = 1 << 17  # numbers in a block of rows, 1 MiB of float64
MIN_SPREAD = float(np.finfo(np.float64).tiny)  # smaller half ranges and standard deviations are replaced by this number


class Scaler(ABC):
    """Rule that computes the shift and the factor of a scaling."""

    name: ClassVar[str]  # name of the scaling method in model files

    @abstractmethod
    def scaling_without_data(self, name: str, shape: tuple[int, ...]) -> Scaling | None:
        """Return the scaling of rows of this shape if it does not depend on the data, else None.

        `name` is the name of the argument in messages.
        """

    def fit(self, array: ArrayLike, name: str = "array") -> Scaling:
        """Compute the scaling of the columns of an array.

        Parameters
        ----------
        array : array (rows, n), or (rows,) for one column
            Real numbers of any dtype, at least one row. Statistics are computed in float64.
        name : str
            Name of the array in messages.

        Returns
        -------
        Scaling
            The factor of a constant column is 1, and its scaled value is 0, or `low` with MinMax. The array has no
            effect on a fixed scaling, such as that of pixels or that with a given mean and standard deviation.

        Raises
        ------
        ValueError
            The array has no rows or no columns, or contains NaN or infinity; the message names row and column.
        TypeError
            `array` is not an array of real numbers.
        """
        return self._fit(as_real_array(name, array), name)

    @abstractmethod
    def _fit(self, rows: NDArray[Any], name: str) -> Scaling:
        """Compute the scaling of the columns of an array of real numbers; `name` is its name in messages."""


class DataScaler(Scaler):
    """Rule that computes shift and factor from the values of each column."""

    target: ClassVar[float]  # value to which the mean or minimum of a column is scaled

    def scaling_without_data(self, name: str, shape: tuple[int, ...]) -> Scaling | None:
        return None

    @abstractmethod
    def _choose(
        self, low: NDArray[np.float64], half: NDArray[np.float64], rows: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the origin (mean or minimum) and the factor of each column.

        `low` is the minimum of each column, and `half` is half of its range.
        """

    def _fit(self, rows: NDArray[Any], name: str) -> Scaling:
        scaling = self.scaling_without_data(name, rows.shape[1:] or (1,))
        if scaling is not None:
            return scaling
        if rows.ndim not in (1, 2) or rows.size == 0:
            raise ValueError(f"{name} must have shape (rows, columns), at least one of each, got {rows.shape}")
        rows = rows[:, None] if rows.ndim == 1 else rows
        low, high = _extremes(name, rows)
        constant = low == high
        half = np.maximum(high / 2 - low / 2, MIN_SPREAD)  # half of the range, because high - low might overflow
        with np.errstate(all="ignore"):  # `Scaling` raises an error if shift or factor is not finite
            origin, factor = self._choose(low, half, rows)
            origin, factor = np.where(constant, low, origin), np.where(constant, 1.0, factor)
            shift = origin - self.target / factor
        return Scaling(self.name, shift, factor)


@dataclass(frozen=True, repr=False)
class Standardize(DataScaler):
    """Scaling of columns to mean 0 and standard deviation 1.

    The standard deviation is that of the population: the sum of squares is divided by n, not n - 1.

    Parameters
    ----------
    mean, std : number or sequence of numbers, optional
        Known statistics of the columns, both or neither: one number for all columns, one for each column, or one for
        each channel of images or feature of sequences. They must be finite, and std positive. Training may then start
        with a single row. Default: the first fit computes them.

    Raises
    ------
    ValueError, TypeError
        Only one of the arguments is given, or one is invalid. A network raises ValueError for a wrong number of values.
    """

    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None

    name = "standardize"
    target: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"mean and std must be passed together or not at all, got {self!r}")
        if self.mean is not None and self.std is not None:
            object.__setattr__(self, "mean", _statistic("mean", self.mean))
            object.__setattr__(self, "std", _statistic("std", self.std))

    def __repr__(self) -> str:
        return "Standardize()" if self.mean is self.std is None else f"Standardize(mean={self.mean}, std={self.std})"

    def scaling_without_data(self, name: str, shape: tuple[int, ...]) -> Scaling | None:
        if self.mean is None or self.std is None:
            return None
        mean, std = (_spread(name, what, getattr(self, what), shape) for what in ("mean", "std"))
        with np.errstate(over="ignore"):  # `Scaling` raises an error if shift or factor is not finite
            return Scaling(self.name, mean, 1 / std)

    def _choose(
        self, low: NDArray[np.float64], half: NDArray[np.float64], rows: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        # Mean and variance are computed for u = (x - center) / half, which is from -1 to 1. This avoids overflow, and
        # cancellation if the variation is small compared with the mean. Blocks are merged as in Chan, Golub and LeVeque
        # (1979).
        center = low + half
        n, mean, squares = 0, np.zeros(len(low)), np.zeros(len(low))
        for block in _blocks(rows):
            u = (block - center) / half
            m = len(u)
            block_mean = u.mean(axis=0)
            delta = block_mean - mean
            squares += ((u - block_mean) ** 2).sum(axis=0) + delta**2 * (n * m / (n + m))
            n += m
            mean += delta * (m / n)
        return center + half * mean, 1 / np.maximum(half * np.sqrt(squares / n), MIN_SPREAD)


@dataclass(frozen=True)
class MinMax(DataScaler):
    """Scaling of the minimum of each column to `low` and of the maximum to `high`.

    Parameters
    ----------
    low, high : float, default 0 and 1
        Finite numbers with low < high.
    """

    low: float = 0.0
    high: float = 1.0

    name = "minmax"

    def __post_init__(self) -> None:
        low, high = check_finite("low", self.low), check_finite("high", self.high)
        if not low < high:
            raise ValueError(f"low must be below high, got low {low} and high {high}")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    def target(self) -> float:  # type: ignore[override]
        return self.low

    def _choose(
        self, low: NDArray[np.float64], half: NDArray[np.float64], rows: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return low, (self.high / 2 - self.low / 2) / half


@dataclass(frozen=True)
class Pixels(Scaler):
    """Scaling of pixels from 0 to 255, such as those of uint8, to numbers from 0 to 1: division by 255."""

    name = "pixels"

    def scaling_without_data(self, name: str, shape: tuple[int, ...]) -> Scaling:
        return Scaling(self.name, np.array(0.0), np.array(1 / 255))

    def _fit(self, rows: NDArray[Any], name: str) -> Scaling:
        return self.scaling_without_data(name, rows.shape[1:])


SCALERS: dict[str, type[Scaler]] = {kind.name: kind for kind in (Standardize, MinMax, Pixels)}


@dataclass(frozen=True, eq=False)
class Scaling:
    """Affine map of columns, scaled = (raw - shift) * factor.

    Attributes
    ----------
    type : {"standardize", "minmax", "pixels"}
        Name of the rule that computed the scaling.
    shift, factor : float64 array (n,), read-only
        Finite numbers for each column; no factor is 0. With "pixels" the shape is (), one number for all columns.
    """

    type: str
    shift: NDArray[np.float64]
    factor: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("shift", "factor"):
            array = np.array(getattr(self, name), np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        wrong = ~np.isfinite(self.shift) | ~np.isfinite(self.factor) | (self.factor == 0)
        if wrong.any():
            j = int(wrong.argmax())
            pair = f"shift {self.shift.flat[j]} and factor {self.factor.flat[j]}"
            raise ValueError(
                f"column {j} cannot be scaled: shift and factor must be finite and the factor not 0, got {pair}"
            )

    def apply(self, array: ArrayLike, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Compute (array - shift) * factor in float64.

        Parameters
        ----------
        array : array (rows, n), or a vector
            A vector is one row (n,), or one column (rows,) if n is 1. NaN and infinity are allowed. If shift and factor
            are single numbers, the array may have any shape.
        dtype : dtype, default float64
            Dtype of the result. Numbers outside of its range become infinite.

        Returns
        -------
        array of the shape of `array`

        Raises
        ------
        ValueError, TypeError
            `array` does not have n columns, or is not an array of real numbers.
        """
        return self._map(array, dtype, lambda block: (block - self.shift) * self.factor)

    def undo(self, array: ArrayLike, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Compute array / factor + shift, the inverse of `apply`, with the same arguments and errors."""
        return self._map(array, dtype, lambda block: block / self.factor + self.shift)

    def _map(
        self, array: ArrayLike, dtype: DTypeLike, f: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> NDArray[Any]:
        given, n, has_columns = as_real_array("array", array), self.shift.size, self.shift.ndim == 1
        if has_columns and (given.ndim not in (1, 2) or (given.shape[-1] != n and (given.ndim == 2 or n > 1))):
            expected = pluralize(n, "column")
            raise ValueError(f"array must have {expected} to fit this scaling, got {describe_shape(given.shape)}")
        rows = given.reshape(-1, n)
        out = np.empty(rows.shape, dtype)
        at = 0
        with np.errstate(over="ignore", invalid="ignore"):
            for block in _blocks(rows):
                out[at : at + len(block)] = f(block)
                at += len(block)
        return out.reshape(given.shape)

    def to_dict(self) -> dict[str, Any]:
        """Return the scaling as a dict of plain Python values, for model files."""
        return {"type": self.type, "shift": self.shift.tolist(), "factor": self.factor.tolist()}

    @classmethod
    def from_dict(cls, d: Any) -> Scaling:
        """Create a scaling from a dict that `to_dict` has returned.

        Raises
        ------
        ValueError
            `d` is not the result of `to_dict`. No other exception is raised for an invalid `d`.
        """
        if not isinstance(d, dict) or set(d) != {"type", "shift", "factor"}:
            raise ValueError(f"a scaling must be an object with the keys type, shift and factor, got {short_repr(d)}")
        if not isinstance(d["type"], str) or d["type"] not in SCALERS:
            raise ValueError(f"the type of a scaling must be one of {', '.join(SCALERS)}, got {short_repr(d['type'])}")
        for name in ("shift", "factor"):
            column = d[name]
            if d["type"] == Pixels.name:
                if type(column) not in (int, float):
                    raise ValueError(f"the {name} of a pixel scaling must be one number, got {short_repr(column)}")
            elif not isinstance(column, list) or not column or not set(map(type, column)) <= {int, float}:
                raise ValueError(f"the {name} of a scaling must be a list of numbers, got {short_repr(column)}")
        if d["type"] != Pixels.name and len(d["shift"]) != len(d["factor"]):
            lengths = f"{len(d['shift'])} and {len(d['factor'])}"
            raise ValueError(f"shift and factor of a scaling must have the same length, got {lengths} numbers")
        try:
            return cls(**d)
        except OverflowError:
            raise ValueError("the numbers of a scaling must be in the range of a float, got a larger one") from None


def _statistic(what: str, given: Any) -> float | tuple[float, ...]:
    """Return a validated mean or standard deviation: a number, or a tuple with one for each column."""
    array = as_real_array(what, given).astype(np.float64)
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"{what} must be a number, or one for each column, got shape {array.shape}")
    wrong = ~np.isfinite(array) | (array <= 0 if what == "std" else False)
    if wrong.any():
        kind = "above 0 and finite" if what == "std" else "finite"
        raise ValueError(f"{what} must be {kind}, got {array[wrong].flat[0]}")
    return float(array) if array.ndim == 0 else tuple(array.tolist())


def _spread(name: str, what: str, given: float | tuple[float, ...], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Expand a statistic, given as one number, one per column, channel or feature, to one number per column.

    `shape` is the shape of one row. The channels of an image and the features of a sequence are on the last axis.
    """
    n = math.prod(shape)
    if isinstance(given, tuple) and len(given) not in (n, shape[-1]):
        noun = "channel" if len(shape) == 3 else "feature"
        channels = f", or {shape[-1]}, one for each {noun}" if len(shape) > 1 else ""
        raise ValueError(
            f"{name}: {what} must be one number, or {n} numbers, one for each column{channels}, got {len(given)}"
        )
    return np.resize(np.array(given), n)  # repeat the number of each channel or feature for all pixels or steps


def _blocks(rows: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """Yield the rows as float64, in blocks of at most BLOCK_NUMBERS numbers and at least one row."""
    height = max(1, BLOCK_NUMBERS // rows.shape[1])
    for start in range(0, len(rows), height):
        yield rows[start : start + height].astype(np.float64, copy=False)


def _extremes(name: str, rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the minimum and the maximum of each column; raise ValueError if a number is not finite."""
    low, high = np.full(rows.shape[1], np.inf), np.full(rows.shape[1], -np.inf)
    start = 0
    for block in _blocks(rows):
        np.minimum(low, block.min(axis=0), out=low)  # np.minimum and np.maximum return NaN if an operand is NaN
        np.maximum(high, block.max(axis=0), out=high)
        if not np.isfinite([low, high]).all():
            row, column = np.argwhere(~np.isfinite(block))[0]
            raise ValueError(f"{name} must be finite, got {block[row, column]} in row {start + row}, column {column}")
        start += len(block)
    return low, high
