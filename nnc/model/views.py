"""Views of a network's layers: what `net.layers`, `net.weights` and `net.biases` hand out."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, overload

from nnc.base.arrays import finite, shortest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

    from numpy.typing import ArrayLike, NDArray

    from nnc.layers.kind import Kind
    from nnc.layers.stack import Placed
    from nnc.model.model import Model


class Layer:
    """A view of one layer of a network: `W` and `b` can be read, changed in place and assigned."""

    def __init__(self, model: Model, placed: Placed[Kind]) -> None:
        self._model = model
        self._placed = placed

    @property
    def name(self) -> str:
        """What `inspect` calls it: "Hidden Layer 1", ..., "Output Layer"."""
        return self._placed.name

    @property
    def kind(self) -> Kind:
        """What it is, complete: Dense(4, "tanh", bias=True), say."""
        return self._placed.kind

    @property
    def _index(self) -> int:
        """Its place among the layers that compute."""
        if self._placed.number is None:
            raise AttributeError(f"{self.name} ({self.kind!r}) has no weights")
        return self._placed.number

    @property
    def W(self) -> NDArray[Any]:
        """Weights (n_in, n_out), a view."""
        return self._model.W[self._index]

    @W.setter
    def W(self, value: ArrayLike) -> None:
        Arrays("weights", self._model.W)[self._index] = value

    @property
    def b(self) -> NDArray[Any] | None:
        """Biases (n_out,), a view; None where the layer has none."""
        return self._model.b[self._index]

    @b.setter
    def b(self, value: ArrayLike) -> None:
        Arrays("biases", self._model.b)[self._index] = value

    @property
    def activation(self) -> str:
        """The name of its activation."""
        return self._model.activations[self._index]

    @property
    def n_in(self) -> int:
        """Its inputs."""
        return self._placed.below[-1]

    @property
    def n_out(self) -> int:
        """Its outputs: of a dense layer its neurons."""
        return self._placed.out[-1]

    def inspect(self, file: IO[str] | None = None) -> None:
        """Prints the layer's neurons, weights and biases, to `file` or to the standard output."""
        from nnc.inspection.text import layer_text

        print(f"{self.name}\n{layer_text(*self.lists())}", file=file)

    def lists(self) -> tuple[Any, Any]:
        """W and b as plain lists of the shortest numbers that read back to the same bits."""
        return shortest(self.W), None if self.b is None else shortest(self.b)

    def __repr__(self) -> str:
        what = self.activation if self._placed.computes else repr(self.kind)
        return f"<{self.name}: {self.n_in} -> {self.n_out}, {what}>"


class Arrays:
    """The weights or biases of a network, one view a layer; assigning copies values in, shapes checked."""

    def __init__(self, name: str, views: Sequence[NDArray[Any] | None]) -> None:
        self._name = name
        self._views = list(views)

    def __len__(self) -> int:
        return len(self._views)

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._views[index]

    def __setitem__(self, index: int, value: ArrayLike | None) -> None:
        place = operator.index(index)
        checked = self._checked(place, value)
        self._write(self._views[place], checked)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter(self._views)  # type: ignore[arg-type]

    def assign(self, values: Sequence[ArrayLike | None]) -> None:
        """All of them at once; nothing changes if one does not fit."""
        expected = f"{self._name} must be {len(self)} arrays, one for each layer"
        try:
            values = list(values)
        except TypeError:
            raise TypeError(f"{expected}, got {values!r}") from None
        if len(values) != len(self):
            raise ValueError(f"{expected}, got {len(values)}")
        checked = [self._checked(l, value) for l, value in enumerate(values)]
        for view, value in zip(self._views, checked, strict=True):
            self._write(view, value)

    def _checked(self, index: int, value: ArrayLike | None) -> NDArray[Any] | None:
        view, name = self._views[index], f"{self._name}[{index}]"
        if view is None:
            if value is not None:
                raise ValueError(f"{name} must be None, for the layer has none, got {value!r}")
            return None
        return finite(name, value, view.shape, view.dtype)  # type: ignore[arg-type]

    @staticmethod
    def _write(view: NDArray[Any] | None, value: NDArray[Any] | None) -> None:
        if view is not None:
            view[...] = value

    def __repr__(self) -> str:
        return repr(self._views)
