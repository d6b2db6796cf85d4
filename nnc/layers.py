"""Views of a network's layers: what `net.layers`, `net.weights` and `net.biases` hand out."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, overload

from nnc.base.arrays import finite, shortest
from nnc.inspection.text import layer_name, layer_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

    from numpy.typing import ArrayLike, NDArray

    from nnc.network import NeuralNetwork


class Layer:
    """A view of one layer of a network: `W` and `b` can be read, changed in place and assigned."""

    def __init__(self, network: NeuralNetwork, index: int) -> None:
        self._network = network
        self._index = index

    @property
    def name(self) -> str:
        """What `inspect` calls it: "Hidden Layer 1", ..., "Output Layer"."""
        return layer_name(self._index, len(self._network._W))

    @property
    def W(self) -> NDArray[Any]:
        """Weights (n_in, n_out), a view."""
        return self._network._W[self._index]

    @W.setter
    def W(self, value: ArrayLike) -> None:
        self._network.weights[self._index] = value

    @property
    def b(self) -> NDArray[Any] | None:
        """Biases (n_out,), a view; None where the network has none."""
        return self._network._b[self._index] if self._network._bias else None

    @b.setter
    def b(self, value: ArrayLike) -> None:
        self._network.biases[self._index] = value

    @property
    def activation(self) -> str:
        """The name of its activation."""
        return self._network._activations[self._index]

    @property
    def n_in(self) -> int:
        """Its inputs."""
        return self._network._sizes[self._index]

    @property
    def n_out(self) -> int:
        """Its neurons."""
        return self._network._sizes[self._index + 1]

    def inspect(self, file: IO[str] | None = None) -> None:
        """Prints the layer's neurons, weights and biases, to `file` or to the standard output."""
        print(f"{self.name}\n{layer_text(*self._lists())}", file=file)

    def _lists(self) -> tuple[Any, Any]:
        """W and b as plain lists of the shortest numbers that read back to the same bits."""
        return shortest(self.W), None if self.b is None else shortest(self.b)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.n_in} -> {self.n_out}, {self.activation}>"


class Arrays:
    """The weights or biases of a network, one view a layer; assigning copies values in, shapes checked."""

    def __init__(self, name: str, views: list[NDArray[Any]]) -> None:
        self._name = name
        self._views = views

    def __len__(self) -> int:
        return len(self._views)

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[Any]]: ...
    def __getitem__(self, index: int | slice) -> NDArray[Any] | list[NDArray[Any]]:
        return self._views[index]

    def __setitem__(self, index: int, value: ArrayLike) -> None:
        view = self._views[operator.index(index)]
        view[...] = finite(f"{self._name}[{index}]", value, view.shape, view.dtype)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter(self._views)

    def assign(self, values: Sequence[ArrayLike]) -> None:
        """All of them at once; nothing changes if one does not fit."""
        expected = f"{self._name} must be {len(self)} arrays, one for each layer"
        try:
            values = list(values)
        except TypeError:
            raise TypeError(f"{expected}, got {values!r}") from None
        if len(values) != len(self):
            raise ValueError(f"{expected}, got {len(values)}")
        checked = [
            finite(f"{self._name}[{l}]", value, view.shape, view.dtype)
            for l, (value, view) in enumerate(zip(values, self._views, strict=True))
        ]
        for view, value in zip(self._views, checked, strict=True):
            view[...] = value

    def __repr__(self) -> str:
        return repr(self._views)
