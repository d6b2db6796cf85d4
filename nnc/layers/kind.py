"""What a kind of layer answers, whoever asks: the constructor, the engine, files, `summary`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from nnc.base.value import Value

if TYPE_CHECKING:
    Shape = tuple[int, ...]  # of one row: (n,) is a vector


class Array(Value):
    """An array of a layer, and what its initial numbers depend on: the inputs of a neuron, and the neurons."""

    name: str
    shape: tuple[int, ...]
    fan_in: int
    fan_out: int


class Kind(Value, ABC):
    """A layer without weights. What is asked of it is asked with `below`, the shape of a row that it gets.

    A kind that is not Computing is no layer of the engine: it says a shape, or something of the layer before it.
    """

    type: ClassVar[str]

    @abstractmethod
    def shape(self, below: Shape) -> Shape:
        """The shape of a row that it gives; ValueError, which the stack completes by the layer's place, where it cannot
        take `below`."""

    def arrays(self, below: Shape) -> tuple[Array, ...]:
        """Its parameters: a matrix, and perhaps a vector of biases."""
        return ()

    def summary(self, below: Shape) -> tuple[str, str, str]:
        """What a row of `summary` says: inputs, neurons, and the activation or what else there is to it."""
        return str(below[-1]), str(self.shape(below)[-1]), self.remark

    @property
    def remark(self) -> str:
        return ""

    def n_params(self, below: Shape) -> int:
        """How many numbers its arrays have."""
        return sum(prod(array.shape) for array in self.arrays(below))

    def __repr__(self) -> str:
        first, *others = self._fields
        values = [repr(getattr(self, first))]
        values += [f"{name}={getattr(self, name)!r}" for name in others if getattr(self, name) is not None]
        return f"{type(self).__name__}({', '.join(values)})"


class Computing(Kind):
    """A kind that computes: a layer of the engine and of files. What it does not say, None, the network says."""

    @property
    @abstractmethod
    def activation(self) -> str | None:
        """A field of every such kind, as the next two."""

    @property
    @abstractmethod
    def bias(self) -> bool | None: ...

    @property
    @abstractmethod
    def init(self) -> str | None: ...

    @abstractmethod
    def engine(self, below: Shape) -> dict[str, Any]:
        """What the engine takes."""

    @abstractmethod
    def to_dict(self, below: Shape) -> dict[str, Any]:
        """What files hold of it, its arrays excepted."""

    @classmethod
    @abstractmethod
    def checked(cls, layer: dict[str, Any], where: str, largest: float) -> dict[str, Any]:
        """What a file says of such a layer, its arrays included; ValueError with place and reason where that is no such
        layer. `largest` is the end of the range of the file's dtype."""
