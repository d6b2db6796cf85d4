"""Scaling of columns: scaled = (raw - shift) * factor, with a shift and a factor for each column, or one for all.

    scaling = Standardize().fit(X)
    scaling.apply(X, "float32")  # columns of mean 0 and standard deviation 1
    scaling.undo(scaled)

Nothing here makes a float64 copy of the whole data: rows are taken in blocks, so an array may be a numpy.memmap that is
larger than the memory.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnc._utils.arrays import as_real_array, describe_shape
from nnc._utils.checks import check_finite, pluralize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["MinMax", "Pixels", "Scaler", "Scaling", "Standardize"]

BLOCK = 1 << 17  # numbers that are taken at a time: 1 MiB of float64
TINY = float(np.finfo(np.float64).tiny)


class Scaler(ABC):
    """A rule for choosing shift and factor."""

    name: ClassVar[str]  # in files

    @abstractmethod
    def scaling_without_data(self, name: str, shape: tuple[int, ...]) -> Scaling | None:
        """The scaling of rows of this shape, where it does not depend on what is scaled; `name` is the argument that
        messages begin with."""

    def fit(self, array: ArrayLike, name: str = "array") -> Scaling:
        """The scaling of these columns.

        Parameters
        ----------
        array : array (rows, n), or (rows,) for one column
            Real numbers of any type, at least one row. The statistics are computed in float64.
        name : str
            What messages call it.

        Returns
        -------
        Scaling
            A column that is the same number in all rows gets the factor 1, and becomes 0 (with MinMax, `low`). What is
            known beforehand is that, whatever the rows are.

        Raises
        ------
        ValueError
            The array has no rows or no columns, or holds NaN or infinity: the message says in which row and column.
        TypeError
            It is not an array of real numbers.
        """
        return self._fit(as_real_array(name, array), name)

    @abstractmethod
    def _fit(self, rows: NDArray[Any], name: str) -> Scaling:
        """The same of what is an array of numbers."""


class Learned(Scaler):
    """One that depends on the numbers of each column."""

    target: ClassVar[float]  # where the origin of a column goes

    def scaling_without_data(self, name: str, shape: tuple[int, ...]) -> Scaling | None:
        return None

    @abstractmethod
    def _choose(
        self, low: NDArray[np.float64], half: NDArray[np.float64], rows: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Origin and factor of columns whose smallest number is `low` and whose largest low + 2 half."""

    def _fit(self, rows: NDArray[Any], name: str) -> Scaling:
        known = self.scaling_without_data(name, rows.shape[1:] or (1,))
        if known is not None:
            return known
        if rows.ndim not in (1, 2) or rows.size == 0:
            raise ValueError(f"{name} must have shape (rows, columns), at least one of each, got {rows.shape}")
        rows = rows[:, None] if rows.ndim == 1 else rows
        low, high = _extremes(name, rows)
        constant = low == high
        half = np.maximum(high / 2 - low / 2, TINY)  # the halves do not overflow
        with np.errstate(all="ignore"):  # Scaling looks at what comes out
            origin, factor = self._choose(low, half, rows)
            origin, factor = np.where(constant, low, origin), np.where(constant, 1.0, factor)
            shift = origin - self.target / factor
        return Scaling(self.name, shift, factor)


@dataclass(frozen=True, repr=False)
class Standardize(Learned):
    """Columns get mean 0 and standard deviation 1 (the one of the population: divided by n, not n - 1).

    Parameters
    ----------
    mean, std : number or sequence of numbers, optional
        What is known of the columns beforehand, both or neither: one number for all of them, one for each, or of images
        one for each channel. Finite, std above 0. Nothing is found from rows then, so that training may begin with a
        single one. Default: the first fit finds them.

    Raises
    ------
    ValueError, TypeError
        Only one of them is given, or they are anything else. That they do not fit a network is said by it.
    """

    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None

    name = "standardize"
    target: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"mean and std must be given together or not at all, got {self!r}")
        if self.mean is not None and self.std is not None:
            object.__setattr__(self, "mean", _statistic("mean", self.mean))
            object.__setattr__(self, "std", _statistic("std", self.std))

    def __repr__(self) -> str:
        return "Standardize()" if self.mean is self.std is None else f"Standardize(mean={self.mean}, std={self.std})"

    def scaling_without_data(self, name: str, shape: tuple[int, ...]) -> Scaling | None:
        if self.mean is None or self.std is None:
            return None
        mean, std = (_spread(name, what, getattr(self, what), shape) for what in ("mean", "std"))
        with np.errstate(over="ignore"):  # Scaling looks at what comes out
            return Scaling(self.name, mean, 1 / std)

    def _choose(
        self, low: NDArray[np.float64], half: NDArray[np.float64], rows: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        # With u from -1 to 1 nothing overflows, and where a column is a small variation of a large number, the
        # variation is all that is left. Blocks are merged as in Chan, Golub and LeVeque (1979).
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
        return center + half * mean, 1 / np.maximum(half * np.sqrt(squares / n), TINY)


@dataclass(frozen=True)
class MinMax(Learned):
    """The smallest number of each column becomes `low`, the largest `high`.

    Parameters
    ----------
    low, high : float, default 0 and 1
        Finite, low < high.
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
    """Pixels from 0 to 255, as those of uint8, become 0 to 1: all columns are divided by 255, nothing learned."""

    name = "pixels"

    def scaling_without_data(self, name: str, shape: tuple[int, ...]) -> Scaling:
        return Scaling(self.name, np.array(0.0), np.array(1 / 255))

    def _fit(self, rows: NDArray[Any], name: str) -> Scaling:
        return self.scaling_without_data(name, rows.shape[1:])


SCALERS: dict[str, type[Scaler]] = {kind.name: kind for kind in (Standardize, MinMax, Pixels)}


@dataclass(frozen=True, eq=False)
class Scaling:
    """scaled = (raw - shift) * factor, column by column.

    Attributes
    ----------
    type : str
        "standardize", "minmax" or "pixels": which rule chose it.
    shift, factor : float64 array (n,), read-only
        Finite; no factor is 0. Of "pixels" (), one number for any columns.
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
            raise ValueError(f"column {j} cannot be scaled: both must be finite and the factor not 0, got {pair}")

    def apply(self, array: ArrayLike, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """(array - shift) * factor, computed in float64.

        Parameters
        ----------
        array : array (rows, n), or a vector: one row (n,), or where n is 1, one column (rows,)
            NaN and infinity stay what they are. With one number for all columns, an array of any shape.
        dtype : dtype, default float64
            Of the result; what is too large for it becomes infinite.

        Returns
        -------
        array of this dtype, of the shape of `array`

        Raises
        ------
        ValueError, TypeError
            It does not have n columns, or is not an array of real numbers.
        """
        return self._map(array, dtype, lambda block: (block - self.shift) * self.factor)

    def undo(self, array: ArrayLike, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """array / factor + shift: from scaled numbers back to raw ones, as `apply` in all else."""
        return self._map(array, dtype, lambda block: block / self.factor + self.shift)

    def _map(
        self, array: ArrayLike, dtype: DTypeLike, f: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> NDArray[Any]:
        given, n, each = as_real_array("array", array), self.shift.size, self.shift.ndim == 1
        if each and (given.ndim not in (1, 2) or (given.shape[-1] != n and (given.ndim == 2 or n > 1))):
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
        """Plain values, as they stand in a network's file."""
        return {"type": self.type, "shift": self.shift.tolist(), "factor": self.factor.tolist()}

    @classmethod
    def from_dict(cls, d: Any) -> Scaling:
        """The scaling that `to_dict` wrote.

        Raises
        ------
        ValueError
            It is anything else; the message says what is wrong. No other exception comes out of a wrong `d`.
        """
        if not isinstance(d, dict) or set(d) != {"type", "shift", "factor"}:
            raise ValueError(f"a scaling must be an object of type, shift and factor, got {shown(d)}")
        if not isinstance(d["type"], str) or d["type"] not in SCALERS:
            raise ValueError(f"the type of a scaling must be one of {', '.join(SCALERS)}, got {shown(d['type'])}")
        for name in ("shift", "factor"):
            column = d[name]
            if d["type"] == Pixels.name:
                if type(column) not in (int, float):
                    raise ValueError(f"the {name} of pixels must be one number, got {shown(column)}")
            elif not isinstance(column, list) or not column or not set(map(type, column)) <= {int, float}:
                raise ValueError(f"the {name} of a scaling must be a list of numbers, got {shown(column)}")
        if d["type"] != Pixels.name and len(d["shift"]) != len(d["factor"]):
            lengths = f"{len(d['shift'])} and {len(d['factor'])}"
            raise ValueError(f"the shift and the factor of a scaling must have one length, got {lengths} numbers")
        try:
            return cls(**d)
        except OverflowError:
            raise ValueError("the numbers of a scaling must be in the range of a float") from None


def _statistic(what: str, given: Any) -> float | tuple[float, ...]:
    """A mean or standard deviation, or one for each column."""
    array = as_real_array(what, given).astype(np.float64)
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"{what} must be a number, or one for each column, got shape {array.shape}")
    wrong = ~np.isfinite(array) | (array <= 0 if what == "std" else False)
    if wrong.any():
        kind = "above 0 and finite" if what == "std" else "finite"
        raise ValueError(f"{what} must be {kind}, got {array[wrong].flat[0]}")
    return float(array) if array.ndim == 0 else tuple(array.tolist())


def _spread(name: str, what: str, given: float | tuple[float, ...], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Numbers as `_statistic` gives them as one for each column of rows of this shape, whose last axis is channels."""
    n = math.prod(shape)
    if isinstance(given, tuple) and len(given) not in (n, shape[-1]):
        channels = f", or {shape[-1]}, one for each channel" if len(shape) > 1 else ""
        raise ValueError(
            f"{name}: {what} must be one number, or {n}, one for each column{channels}, got {len(given)} numbers"
        )
    return np.resize(np.array(given), n)  # again and again, as channels lie


def _blocks(rows: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """The rows as float64, some at a time."""
    height = max(1, BLOCK // rows.shape[1])
    for start in range(0, len(rows), height):
        yield rows[start : start + height].astype(np.float64, copy=False)


def _extremes(name: str, rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest and the largest number of each column."""
    low, high = np.full(rows.shape[1], np.inf), np.full(rows.shape[1], -np.inf)
    start = 0
    for block in _blocks(rows):
        np.minimum(low, block.min(axis=0), out=low)  # NaN goes through
        np.maximum(high, block.max(axis=0), out=high)
        if not np.isfinite([low, high]).all():
            row, column = np.argwhere(~np.isfinite(block))[0]
            raise ValueError(f"{name} must be finite, got {block[row, column]} in row {start + row}, column {column}")
        start += len(block)
    return low, high
