"""Views of a network's layers: what `net.layers`, `net.weights` and `net.biases` hand out."""

from __future__ import annotations

import operator
from math import prod
from typing import TYPE_CHECKING, Any, overload

from nnc._utils.arrays import as_finite_array
from nnc._utils.checks import check_bool, check_positive
from nnc.layers.base import format_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

    from numpy.typing import ArrayLike, NDArray

    from nnc._model.model import Model
    from nnc.layers import base
    from nnc.layers.stack import PlacedLayer


class Layer:
    """A view of one layer of a network: `W` and `b` can be read, changed in place and assigned."""

    def __init__(self, model: Model, place: int) -> None:
        self._model = model
        self._place = place

    @property
    def _placed(self) -> PlacedLayer[base.Layer]:
        return self._model.stack.layers[self._place]

    @property
    def name(self) -> str:
        """What `inspect` calls it: "Hidden Layer 1", ..., "Output Layer"."""
        return self._placed.name

    @property
    def kind(self) -> base.Layer:
        """What it is, complete: Dense(4, "tanh", bias=True), say."""
        return self._placed.kind

    @property
    def _index(self) -> int:
        """Its place among the layers that compute."""
        if self._placed.parametric_index is None:
            raise AttributeError(f"{self.name} ({self.kind!r}) has no weights")
        return self._placed.parametric_index

    @property
    def W(self) -> NDArray[Any]:
        """Weights (n_in, n_out), a view; of a convolutional layer (size * size * channels, filters), see `kernel`."""
        return self._model.W[self._index]

    @W.setter
    def W(self, value: ArrayLike) -> None:
        Arrays("weights", self._model.W)[self._index] = value

    @property
    def kernel(self) -> NDArray[Any]:
        """Of a Conv2D the weights as (height, width, channels, filters) of its windows, a view; AttributeError of any
        other layer."""
        kind = self.kind
        from nnc.layers.image import Conv2D

        if not isinstance(kind, Conv2D):
            raise AttributeError(f"{self.name} ({kind!r}) has no kernel, which only a Conv2D has")
        return self.W.reshape(*kind.size, self.shape_in[2], kind.filters)

    @kernel.setter
    def kernel(self, value: ArrayLike) -> None:
        kernel = self.kernel
        kernel[...] = as_finite_array("kernel", value, kernel.shape, kernel.dtype)

    @property
    def b(self) -> NDArray[Any] | None:
        """Biases (n_out,), a view; None where the layer has none."""
        return self._model.b[self._index]

    @b.setter
    def b(self, value: ArrayLike) -> None:
        Arrays("biases", self._model.b)[self._index] = value

    @property
    def gamma(self) -> NDArray[Any]:
        """Of a BatchNorm the factors (channels,), a view; AttributeError of any other layer, as for the next three."""
        return self._of_norm("gamma", self._model.W)[0]  # type: ignore[no-any-return]

    @property
    def beta(self) -> NDArray[Any]:
        """What a BatchNorm adds (channels,), a view."""
        return self._of_norm("beta", self._model.b)  # type: ignore[no-any-return]

    @property
    def running_mean(self) -> NDArray[Any]:
        """The running mean (channels,) of a BatchNorm, a view."""
        return self._of_norm("running_mean", self._model.statistics)[0]  # type: ignore[no-any-return]

    @property
    def running_var(self) -> NDArray[Any]:
        """The running variance (channels,) of a BatchNorm, a view."""
        return self._of_norm("running_var", self._model.statistics)[1]  # type: ignore[no-any-return]

    def _of_norm(self, name: str, values: Sequence[Any]) -> Any:
        if not self.kind.normalizes:
            raise AttributeError(f"{self.name} ({self.kind!r}) has no {name}, which only a BatchNorm has")
        return values[self._index]

    @property
    def activation(self) -> str:
        """The name of its activation."""
        return self._model.activations[self._index]

    @property
    def trainable(self) -> bool:
        """Whether training changes it. Assign False to freeze the layer: its weights, and what the optimizer keeps of
        them, stay as they are until it is True again. A layer without weights takes either, and stays as it is."""
        return self._placed.has_parameters and not self.kind.frozen

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._change_learning(trainable=check_bool("trainable", value))

    @property
    def lr_factor(self) -> float:
        """What every learning rate is multiplied by here. Can be assigned."""
        return self._computing.lr_factor

    @lr_factor.setter
    def lr_factor(self, value: float) -> None:
        self._change_learning(lr_factor=check_positive("lr_factor", value))

    @property
    def bias_lr_factor(self) -> float:
        """What those of the biases are multiplied by once more. Can be assigned."""
        return self._computing.bias_lr_factor

    @bias_lr_factor.setter
    def bias_lr_factor(self, value: float) -> None:
        if self.kind.columnwise and self.b is None:
            raise AttributeError(f"{self.name} ({self.kind!r}) has no biases")
        self._change_learning(bias_lr_factor=check_positive("bias_lr_factor", value))

    @property
    def _computing(self) -> base.ParametricLayer:
        return self._model.stack.parametric_layers[self._index].kind

    def _change_learning(self, **fields: Any) -> None:
        if self._placed.has_parameters:
            self._model.set_learning_options(self._index, **fields)
        elif "trainable" not in fields:
            raise AttributeError(f"{self.name} ({self.kind!r}) has no weights")

    @property
    def shape_in(self) -> tuple[int, ...]:
        """The shape of a row that comes in: (n,), or (height, width, channels) of an image."""
        return self._placed.input_shape

    @property
    def shape_out(self) -> tuple[int, ...]:
        """The shape of a row that goes out."""
        return self._placed.output_shape

    @property
    def n_in(self) -> int:
        """How many numbers come in with a row."""
        return prod(self.shape_in)

    @property
    def n_out(self) -> int:
        """How many numbers go out with a row: of a dense layer its neurons."""
        return prod(self.shape_out)

    def inspect(self, file: IO[str] | None = None) -> None:
        """Prints the layer's neurons or filters, weights and biases, to `file` or to the standard output."""
        from nnc._inspection.text import placed_text

        print(placed_text(self._placed, *(self.lists() if self._placed.has_parameters else ([], None))), file=file)

    def lists(self) -> tuple[Any, ...]:
        """W and b, and what a BatchNorm has beside them, as plain lists of the shortest numbers that read back to the
        same bits."""
        return self._model.lists()[self._index]

    def __repr__(self) -> str:
        what = self.activation if self._placed.has_parameters else repr(self.kind)
        return f"<{self.name}: {format_shape(self.shape_in)} -> {format_shape(self.shape_out)}, {what}>"


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
        return as_finite_array(name, value, view.shape, view.dtype)  # type: ignore[arg-type]

    @staticmethod
    def _write(view: NDArray[Any] | None, value: NDArray[Any] | None) -> None:
        if view is not None:
            view[...] = value

    def __repr__(self) -> str:
        return repr(self._views)
