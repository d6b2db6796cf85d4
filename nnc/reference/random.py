"""Random numbers that depend only on the seed, and are equal to those of nnc.NeuralNetwork."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def mix(z: int) -> int:
    """Return the output of splitmix64 for the state z (Steele, Lea and Flood, 2014)."""
    z %= 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


class Stream:
    """Counter-based random number generator: each number depends on the key and its position only."""

    key: int
    position: int

    def __init__(self, key: int) -> None:
        self.key, self.position = key, 0

    def bits(self) -> int:
        """Return the next 64 random bits."""
        self.position += 1
        return mix(self.key + self.position * 0x9E3779B97F4A7C15)

    def uniform(self) -> float:
        """Return a number from the uniform distribution on [0, 1)."""
        return (self.bits() >> 11) * 2.0**-53

    def normal(self) -> float:
        """Return a number from the standard normal distribution, by the method of Box and Muller."""
        radius = math.sqrt(-2 * math.log(1 - self.uniform()))
        return radius * math.cos(2 * math.pi * self.uniform())

    def shuffle(self, order: list[int]) -> None:
        """Reorder a list at random with the Fisher-Yates algorithm; the list itself changes."""
        for i in range(len(order) - 1, 0, -1):
            j = (self.bits() >> 32) * (i + 1) >> 32
            order[i], order[j] = order[j], order[i]


# Initializations: each function takes a stream, fan-in and fan-out, and returns a random weight. Biases start at 0,
# except with "uniform" and "siren".
INITIALIZERS: dict[str, Callable[[Stream, int, int], float]] = {
    "zeros": lambda stream, n_in, n_out: 0.0,
    "uniform": lambda stream, n_in, n_out: stream.uniform(),
    "glorot_uniform": lambda stream, n_in, n_out: (2 * stream.uniform() - 1) * math.sqrt(6 / (n_in + n_out)),
    "glorot_normal": lambda stream, n_in, n_out: stream.normal() * math.sqrt(2 / (n_in + n_out)),
    "he_uniform": lambda stream, n_in, n_out: (2 * stream.uniform() - 1) * math.sqrt(6 / n_in),
    "he_normal": lambda stream, n_in, n_out: stream.normal() * math.sqrt(2 / n_in),
    "lecun_uniform": lambda stream, n_in, n_out: (2 * stream.uniform() - 1) * math.sqrt(6 / (2 * n_in)),
    "lecun_normal": lambda stream, n_in, n_out: stream.normal() * math.sqrt(2 / (2 * n_in)),
    "siren": lambda stream, n_in, n_out: (2 * stream.uniform() - 1) * math.sqrt(6 / n_in),
}
SIREN_FREQUENCY = 30.0  # with "siren", weights of the first layer are uniform up to this number / fan-in


def first_siren_weight(stream: Stream, n_in: int, n_out: int) -> float:
    """Return a random weight of the first layer of a network with the initialization "siren"."""
    return (2 * stream.uniform() - 1) * (SIREN_FREQUENCY / n_in)


def draw_bias(name: str, stream: Stream) -> float:
    """Return the initial bias: uniform from 0 to 1 for "uniform", from -pi to pi for "siren", otherwise 0."""
    if name == "siren":
        return (2 * stream.uniform() - 1) * math.pi
    return stream.uniform() if name == "uniform" else 0.0


def orthonormal_rows(rows: list[list[float]]) -> list[list[float]]:
    """Return orthonormal rows that span the same space as these rows, by the method of Gram and Schmidt.

    The number of rows is at most the number of columns. The result equals that of nnc.NeuralNetwork up to rounding.
    """
    result: list[list[float]] = []
    for row in rows:
        for _ in range(2):  # the second pass removes the rounding errors of the first pass
            # Subtract the part of the row that is parallel to a row of the result.
            products = [sum(a * b for a, b in zip(row, other)) for other in result]
            row = [a - sum(p * other[j] for p, other in zip(products, result)) for j, a in enumerate(row)]
        length = math.sqrt(sum(a * a for a in row))
        result.append([a / length for a in row])
    return result
