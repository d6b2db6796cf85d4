"""Views of the parameters of a network: `net.layers`, `net.weights` and `net.biases`."""

from __future__ import annotations

import operator
from math import prod
from typing import TYPE_CHECKING, Any, overload

from nnc._utils.arrays import as_finite_array
from nnc._utils.checks import check_bool, check_positive, short_repr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

    from numpy.typing import ArrayLike, NDArray

    from nnc._model.model import Model
    from nnc.layers import base
    from nnc.layers.stack import PlacedLayer


class Layer:
    """View of one layer of a network. `W` and `b` can be read, changed in place and assigned."""

    def __init__(self, model: Model, number: int) -> None:
        self._model = model
        self._number = number

    @property
    def _placed(self) -> PlacedLayer[base.Layer]:
        """Layer with its name and shapes, as stored in the stack of the network."""
        return self._model.stack.layers[self._number]

    @property
    def name(self) -> str:
        """Name of the layer: "Hidden Layer 1", ..., "Output Layer"."""
        return self._placed.name

    @property
    def kind(self) -> base.Layer:
        """Layer object with all options, such as Dense(4, "tanh", bias=True)."""
        return self._placed.kind

    @property
    def _index(self) -> int:
        """Index among the layers with parameters; raises AttributeError if the layer has none."""
        if self._placed.parametric_index is None:
            raise AttributeError(f"{self.name} ({self.kind!r}) has no weights")
        return self._placed.parametric_index

    @property
    def W(self) -> NDArray[Any]:
        """View of the weights (n_in, n_out); for convolutions (elements of a window, filters), see `kernel`.

        For a recurrent layer, W (features, gates * units) multiplies the inputs of a step; see `U`.
        """
        W = self._model.W[self._index]
        return W[: self.shape_in[1]] if self.kind.recurrent else W

    @W.setter
    def W(self, value: ArrayLike) -> None:
        _assign("W", self.W, value)

    @property
    def U(self) -> NDArray[Any]:
        """View of the weights (units, gates * units) that multiply the state of the previous step of a recurrent layer.

        Other layers raise AttributeError.
        """
        if not self.kind.recurrent:
            raise AttributeError(f"{self.name} has no U, because it is {self.kind!r}; only recurrent layers have one")
        return self._model.W[self._index][self.shape_in[1] :]

    @U.setter
    def U(self, value: ArrayLike) -> None:
        _assign("U", self.U, value)

    @property
    def kernel(self) -> NDArray[Any]:
        """View of the weights of a convolution; other layers raise AttributeError.

        The shape is (height, width, channels, filters) for Conv2D and (size, features, filters) for Conv1D.
        """
        kind = self.kind
        from nnc.layers.image import Convolution

        if not isinstance(kind, Convolution):
            raise AttributeError(f"{self.name} has no kernel, because it is {kind!r}; only Conv1D and Conv2D have one")
        size = kind.size if isinstance(kind.size, tuple) else (kind.size,)
        return self.W.reshape(*size, self.shape_in[-1], kind.filters)

    @kernel.setter
    def kernel(self, value: ArrayLike) -> None:
        _assign("kernel", self.kernel, value)

    @property
    def b(self) -> NDArray[Any] | Any:  # Any: a layer without biases is rare, so type checkers require no check
        """View of the biases (n_out,), or None if the layer has no biases.

        The shape is (gates * units,) for a recurrent layer, and (2, gates * units) for a GRU.
        """
        return self._model.b[self._index]

    @b.setter
    def b(self, value: ArrayLike) -> None:
        Arrays("biases", self._model.b)[self._index] = value

    @property
    def gamma(self) -> NDArray[Any]:
        """View of the factors (channels,) of a BatchNorm; other layers raise AttributeError."""
        return self._batch_norm_array("gamma", self._model.W)[0]  # type: ignore[no-any-return]

    @property
    def beta(self) -> NDArray[Any]:
        """View of the offsets (channels,) of a BatchNorm; other layers raise AttributeError."""
        return self._batch_norm_array("beta", self._model.b)  # type: ignore[no-any-return]

    @property
    def running_mean(self) -> NDArray[Any]:
        """View of the running mean (channels,) of a BatchNorm; other layers raise AttributeError."""
        return self._batch_norm_array("running_mean", self._model.statistics)[0]  # type: ignore[no-any-return]

    @property
    def running_var(self) -> NDArray[Any]:
        """View of the running variance (channels,) of a BatchNorm; other layers raise AttributeError."""
        return self._batch_norm_array("running_var", self._model.statistics)[1]  # type: ignore[no-any-return]

    def _batch_norm_array(self, name: str, values: Sequence[Any]) -> Any:
        """Return the array of this BatchNorm layer from `values`; raise AttributeError for other layers."""
        if not self.kind.normalizes:
            raise AttributeError(f"{self.name} has no {name}, because it is {self.kind!r}; only BatchNorm has one")
        return values[self._index]

    @property
    def activation(self) -> str:
        """Name of the layer's activation."""
        return self._model.activations[self._index]

    @property
    def trainable(self) -> bool:
        """True if training changes the layer; False for layers without parameters.

        Assign False to freeze the layer: its parameters and their optimizer moments do not change until it is True
        again. Assignments to layers without parameters have no effect.
        """
        return self._placed.has_parameters and not self.kind.frozen

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._change_learning(trainable=check_bool("trainable", value))

    @property
    def lr_factor(self) -> float:
        """Factor of the learning rate in this layer; can be assigned."""
        return self._parametric_kind.lr_factor

    @lr_factor.setter
    def lr_factor(self, value: float) -> None:
        self._change_learning(lr_factor=check_positive("lr_factor", value))

    @property
    def bias_lr_factor(self) -> float:
        """Additional factor of the learning rate of the biases; can be assigned."""
        return self._parametric_kind.bias_lr_factor

    @bias_lr_factor.setter
    def bias_lr_factor(self, value: float) -> None:
        if self.kind.columnwise and self.b is None:
            raise AttributeError(f"{self.name} ({self.kind!r}) has no biases")
        self._change_learning(bias_lr_factor=check_positive("bias_lr_factor", value))

    @property
    def _parametric_kind(self) -> base.ParametricLayer:
        """Layer object; raises AttributeError if the layer has no parameters."""
        return self._model.stack.parametric_layers[self._index].kind

    def _change_learning(self, **fields: Any) -> None:
        """Change `trainable` or learning rate factors; raise AttributeError for factors if there are no parameters."""
        if self._placed.has_parameters:
            self._model.set_learning_options(self._index, **fields)
        elif "trainable" not in fields:
            raise AttributeError(f"{self.name} ({self.kind!r}) has no weights")

    @property
    def shape_in(self) -> tuple[int, ...]:
        """Shape of the inputs of the layer for one row: (n,), or (height, width, channels) for images."""
        return self._placed.input_shape

    @property
    def shape_out(self) -> tuple[int, ...]:
        """Shape of the outputs of the layer for one row."""
        return self._placed.output_shape

    @property
    def n_in(self) -> int:
        """Number of inputs of the layer for one row."""
        return prod(self.shape_in)

    @property
    def n_out(self) -> int:
        """Number of outputs of the layer for one row; for a dense layer, the number of its neurons."""
        return prod(self.shape_out)

    def inspect(self, file: IO[str] | None = None) -> None:
        """Print weights and biases of each neuron or filter to `file`, by default the standard output."""
        from nnc._inspection.text import placed_text

        print(placed_text(self._placed, *(self.lists() if self._placed.has_parameters else ([], None))), file=file)

    def lists(self) -> tuple[Any, ...]:
        """Return W, b and running statistics as lists of numbers that are exact to the last bit."""
        return self._model.lists()[self._index]

    def __repr__(self) -> str:
        description = self.activation if self._placed.has_parameters else repr(self.kind)
        shape_text = self._model.stack.shape_text
        return f"<{self.name}: {shape_text(self.shape_in)} -> {shape_text(self.shape_out)}, {description}>"


def _assign(name: str, view: NDArray[Any], value: ArrayLike) -> None:
    """Copy `value` into a view; raise an error that begins with `name` if its shape or a number is invalid."""
    view[...] = as_finite_array(name, value, view.shape, view.dtype)


class Arrays:
    """Weights or biases of a network: a sequence of views, one for each layer.

    Assignments check shapes and copy values.
    """

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
        index = operator.index(index)
        checked = self._checked(index, value)
        self._write(self._views[index], checked)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter(self._views)  # type: ignore[arg-type]

    def assign(self, values: Sequence[ArrayLike | None]) -> None:
        """Assign all arrays; nothing changes if one of them has a wrong shape."""
        expected = f"{self._name} must be {len(self)} arrays, one for each layer"
        try:
            values = list(values)
        except TypeError:
            raise TypeError(f"{expected}, got {short_repr(values)}") from None
        if len(values) != len(self):
            raise ValueError(f"{expected}, got {len(values)} arrays")
        checked = [self._checked(l, value) for l, value in enumerate(values)]
        for view, value in zip(self._views, checked, strict=True):
            self._write(view, value)

    def _checked(self, index: int, value: ArrayLike | None) -> NDArray[Any] | None:
        """Convert `value` to an array with the shape and dtype of view number `index`; raise an error if this fails."""
        view, name = self._views[index], f"{self._name}[{index}]"
        if view is None:
            if value is not None:
                raise ValueError(f"{name} must be None for a layer without biases, got {short_repr(value)}")
            return None
        return as_finite_array(name, value, view.shape, view.dtype)  # type: ignore[arg-type]

    @staticmethod
    def _write(view: NDArray[Any] | None, value: NDArray[Any] | None) -> None:
        """Copy a value into a view; do nothing if the view is None."""
        if view is not None:
            view[...] = value

    def __repr__(self) -> str:
        return repr(self._views)
