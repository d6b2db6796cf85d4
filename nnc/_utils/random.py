"""Random numbers: splitmix64 (Steele, Lea, Flood, OOPSLA 2014).

One generator draws all random numbers: here, in the compiled core (shuffling and dropout) and in `nnc.reference`. A
seed therefore yields the same numbers in all three, on each machine and with each version of NumPy.
"""

from __future__ import annotations

import os
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.checks import short_repr

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHUFFLE, DROPOUT, SPLIT, AUGMENT = 1, 2, 3, 4  # numbers of random streams, see `Streams.key`
_GOLDEN_RATIO = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: the increment of splitmix64
_MASK = (1 << 64) - 1
_FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# Constants and shifts of splitmix64 as NumPy integers, for computations with arrays.
_CONSTANTS = tuple(map(np.uint64, (_GOLDEN_RATIO, *_FACTORS, 30, 27, 31, 11)))


def mix(z: int) -> int:
    """Apply the finalizer of splitmix64 to z: a bijection of 64-bit integers whose results look random."""
    z = ((z ^ (z >> 30)) * _FACTORS[0]) & _MASK
    z = ((z ^ (z >> 27)) * _FACTORS[1]) & _MASK
    return z ^ (z >> 31)


def mix_array(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply `mix` to each element of an array."""
    _, first, second, s30, s27, s31, _ = _CONSTANTS
    z = (z ^ (z >> s30)) * first
    z = (z ^ (z >> s27)) * second
    return z ^ (z >> s31)


class Stream:
    """Stream of uniform random numbers in [0, 1).

    Number i of the stream is the upper 53 bits of mix(key + (i + 1) * _GOLDEN_RATIO), divided by 2**53.

    Parameters
    ----------
    key : int
        64-bit integer that identifies the stream.
    """

    def __init__(self, key: int) -> None:
        self._key = key
        self._position = 0  # number of random numbers drawn so far

    def uniform(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the next uniform numbers as an array of this shape."""
        n = prod(shape)
        i = np.arange(self._position + 1, self._position + n + 1, dtype=np.uint64)
        self._position += n
        z = mix_array(i * _CONSTANTS[0] + np.uint64(self._key))
        return (z >> _CONSTANTS[-1]).astype(np.float64).reshape(shape) * 2.0**-53

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return standard normal numbers by the transform of Box and Muller (1958); each uses two uniform numbers."""
        u = self.uniform((*shape, 2))
        z: NDArray[np.float64] = np.sqrt(-2 * np.log(1 - u[..., 0])) * np.cos(2 * np.pi * u[..., 1])
        return z


def check_seed(seed: Any) -> int:
    """Return the seed as an int, or a random seed from the system if it is None."""
    if seed is None:
        return int.from_bytes(os.urandom(6), "little")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise ValueError(f"seed must be a whole number from 0 to 2**64 - 1, or None, got {short_repr(seed)}")
    return int(seed)


class Streams:
    """Streams of random numbers of a network, whose keys follow from its seed.

    Parameters
    ----------
    seed : int
        64-bit integer.

    Attributes
    ----------
    root : int
        Key of the stream of initial weights, from which the other keys follow.
    shuffle_position : int
        Number of values that training has drawn from the shuffle stream.
    dropout_position : int
        Index of the next step in the dropout stream. Steps without dropout may be counted, too.
    """

    seed: int
    root: int

    def __init__(self, seed: int) -> None:
        self.seed, self.root = seed, mix(seed)
        self.shuffle_position = self.dropout_position = 0

    def key(self, stream: int) -> int:
        """Return the key of the random stream with the number `stream`: SHUFFLE, DROPOUT, SPLIT or AUGMENT."""
        return mix((self.root + stream) & (2**64 - 1))

    def copy(self) -> Streams:
        """Return an independent copy of all streams at their current positions."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other
