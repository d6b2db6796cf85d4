"""Random numbers: splitmix64 (Steele, Lea, Flood, OOPSLA 2014).

One generator of a few lines serves everything that is drawn, here, in the compiled core (the order of rows) and in
`nnc.reference`: so a seed means the same numbers in all three, on every machine and with every NumPy.
"""

from __future__ import annotations

import os
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHUFFLE, DROPOUT, SPLIT, AUGMENT = 1, 2, 3, 4  # the streams of a seed beside that of a network's initial weights
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_NUMBERS = tuple(map(np.uint64, (_GOLDEN, *_FACTORS, 30, 27, 31, 11)))  # as NumPy takes them: making them takes time


def mix(z: int) -> int:
    """The finalizer of splitmix64: a bijection of 64-bit numbers that leaves no pattern."""
    z = ((z ^ (z >> 30)) * _FACTORS[0]) & _MASK
    z = ((z ^ (z >> 27)) * _FACTORS[1]) & _MASK
    return z ^ (z >> 31)


class Stream:
    """Number i of the stream of a key is mix(key + (i + 1) * golden ratio); here as uniforms in [0, 1)."""

    def __init__(self, key: int) -> None:
        self._key = key
        self._drawn = 0

    def uniform(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """The next numbers, 53 bits each, as an array of the given shape."""
        n = prod(shape)
        i = np.arange(self._drawn + 1, self._drawn + n + 1, dtype=np.uint64)
        self._drawn += n
        golden, first, second, s30, s27, s31, s11 = _NUMBERS
        z = i * golden + np.uint64(self._key)
        z = (z ^ (z >> s30)) * first
        z = (z ^ (z >> s27)) * second
        z ^= z >> s31
        return (z >> s11).astype(np.float64).reshape(shape) * 2.0**-53

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Standard normal numbers by the transform of Box and Muller (1958), two uniforms each."""
        u = self.uniform((*shape, 2))
        z: NDArray[np.float64] = np.sqrt(-2 * np.log(1 - u[..., 0])) * np.cos(2 * np.pi * u[..., 1])
        return z


def check_seed(seed: Any) -> int:
    """A seed, or where it is None one that the system draws."""
    if seed is None:
        return int.from_bytes(os.urandom(6), "little")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise ValueError(f"seed must be a whole number from 0 to 2**64 - 1, or None, got {seed!r}")
    return int(seed)


class Streams:
    """The streams of random numbers that training draws from: their keys follow from the seed.

    Attributes
    ----------
    root : int
        The key of the initial weights, from which the others follow.
    shuffle_position : int
        Numbers of the shuffle stream that training has used.
    dropout_position : int
        Steps of the dropout stream.
    """

    seed: int
    root: int

    def __init__(self, seed: int) -> None:
        self.seed, self.root = seed, mix(seed)
        self.shuffle_position = self.dropout_position = 0

    def key(self, stream: int) -> int:
        """The key of one of them."""
        return mix((self.root + stream) & (2**64 - 1))

    def copy(self) -> Streams:
        """One that goes on by itself."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other
