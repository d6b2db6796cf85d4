"""From what a user writes (numbers, objects, names) to a checked list of layers; and the names that people read."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nnc.base.checks import count, one_of
from nnc.base.value import Value
from nnc.kinds import activations, losses
from nnc.layers.dense import Dense
from nnc.layers.kind import Computing, Kind
from nnc.layers.shape import Dropout, Input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.layers.kind import Shape

MOST_NUMBERS = 2**40  # in all weight matrices of a network


K = TypeVar("K", bound=Kind, covariant=True)


class Placed(Value, Generic[K]):
    """A layer at its place: complete, with the shapes of a row that it gets and gives."""

    kind: K
    below: Shape
    out: Shape
    name: str
    number: int | None  # among the layers that compute

    @property
    def computes(self) -> bool:
        return self.number is not None


class Stack(Value):
    """The checked layers of a network.

    Attributes
    ----------
    layers : tuple of Placed
        All but the input.
    computing : tuple of Placed
        Those that compute.
    sizes : tuple of int
        Numbers in a row of the input and of every layer that computes.
    activations : tuple of str
        Of the layers that compute.
    dropout : tuple of float or None
        The rate of the Dropout behind each hidden layer, None where there is none.
    """

    layers: tuple[Placed[Kind], ...]
    computing: tuple[Placed[Computing], ...]
    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    dropout: tuple[float | None, ...]

    @property
    def drops(self) -> bool:
        """Whether there are Dropout layers."""
        return len(self.layers) > len(self.computing)

    @property
    def bias(self) -> bool | tuple[bool, ...]:
        """Whether the layers have biases; one answer for each where they differ."""
        each = tuple(bool(layer.kind.bias) for layer in self.computing)
        return each[0] if len(set(each)) == 1 else each

    def dropout_to_list(self) -> list[float | None] | None:
        """What a document holds of it: None where there is no Dropout at all."""
        return list(self.dropout) if self.drops else None

    def arguments(self) -> dict[str, Any]:
        """What to call the constructor with for such layers, in the shortest form."""
        if isinstance(self.bias, bool) and not self.drops:
            *hidden, output = self.activations
            activation = hidden[0] if len(set(hidden)) == 1 else hidden or "sigmoid"
            return {"layers": list(self.sizes), "activation": activation, "output": output, "bias": self.bias}
        kinds: list[Kind] = [Input(self.sizes[0])]
        for layer in self.layers:
            kind = layer.kind
            kinds.append(kind.replace(bias=None) if isinstance(kind, Computing) and kind.bias else kind)
        return {"layers": kinds}


def layer_name(index: int, count: int) -> str:
    """What people call a layer that computes: "Hidden Layer 1", ..., "Output Layer"."""
    return "Output Layer" if index == count - 1 else f"Hidden Layer {index + 1}"


def unstack(layers: Sequence[dict[str, Any]], dropout: Sequence[float | None] | None) -> list[Kind]:
    """The layers that a document describes."""
    kinds: list[Kind] = [Input(layers[0]["n_in"])]
    for layer, rate in zip(layers, [*(dropout or [None] * (len(layers) - 1)), None], strict=True):
        kinds.append(Dense(layer["n_out"], layer["activation"], bias=layer["b"] is not None))
        if rate is not None:
            kinds.append(Dropout(rate))
    return kinds


def stack(layers: Any, activation: Any, output: Any, loss: str, bias: bool) -> Stack:
    """Checks and completes the layers of a network.

    Parameters
    ----------
    layers : sequence of int or Kind
        The input first.
    activation : str or sequence of str
        Of the hidden layers that do not say their own: one name for all, or one for each hidden layer.
    output : str, optional
        Of the last layer, if that does not say its own. Default: the partner of the loss.
    loss : str
    bias : bool
        Of the layers that do not say their own.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these, or they do not go together.
    """
    kinds = _kinds(layers)
    places = [place for place, kind in enumerate(kinds) if isinstance(kind, Computing)]
    hidden = _hidden_activations(activation, len(places) - 1)
    last = kinds[-1]
    if isinstance(last, Computing) and last.activation and output not in (None, last.activation):
        raise ValueError(f"output must be left out where the last layer says its own, got {output!r} and {last!r}")
    if output is None:
        output = losses.ROWS[loss].output
    else:
        one_of("output", output, activations.NAMES)
    for place, name in zip(places, [*hidden, output], strict=True):
        kind = kinds[place]
        if isinstance(kind, Computing):
            kinds[place] = kind.replace(
                activation=kind.activation or name, bias=bias if kind.bias is None else kind.bias
            )
    made = _placed(kinds)
    _refuse(made, loss)
    return made


def _kinds(layers: Any) -> list[Kind]:
    """The layers as objects, in an order that makes sense."""
    message = (
        "layers must be a sequence of at least two positive whole numbers, such as [3, 4, 1], or of layers such as "
        f"[Input(3), Dense(4), Dense(1)], got {layers!r}"
    )
    try:
        entries = list(layers)
    except TypeError:
        raise ValueError(message) from None
    kinds: list[Kind] = []
    for place, entry in enumerate(entries):
        if isinstance(entry, type) and issubclass(entry, Kind):
            raise TypeError(f"layers[{place}] must be an object such as {entry.__name__}(4), got the class itself")
        if isinstance(entry, Kind):
            kinds.append(entry)
            continue
        try:
            kinds.append((Dense if place else Input)(count("layers", entry)))
        except (TypeError, ValueError):
            raise ValueError(message) from None
    if len(kinds) < 2:
        raise ValueError(message)
    if not isinstance(kinds[0], Input):
        raise ValueError(f"layers must begin with the input, a number or Input(n), got {kinds[0]!r}")
    for place, (below, kind) in enumerate(pairwise(kinds), 1):
        if isinstance(kind, Input):
            raise ValueError(f"layers[{place}] is {kind!r}, which only the first of the layers can be")
        if isinstance(kind, Dropout) and not isinstance(below, Computing):
            what = "it drops outputs of a layer that computes, such as Dense"
            raise ValueError(f"layers[{place}] is {kind!r} behind {below!r}: {what}")
    if not isinstance(kinds[-1], Computing):
        raise ValueError(f"layers must end with a layer that computes, such as Dense, got {kinds[-1]!r}")
    return kinds


def _hidden_activations(activation: Any, n_hidden: int) -> list[str]:
    expected = f"activation must be one name or one for each of the {n_hidden} hidden layers"
    if isinstance(activation, str):
        return [one_of("activation", activation, activations.HIDDEN, _output_hint(activation))] * n_hidden
    try:
        hidden = list(activation)
    except TypeError:
        raise TypeError(f"{expected}, got {activation!r}") from None
    if len(hidden) != n_hidden:
        raise ValueError(f"{expected}, got {len(hidden)}: {activation!r}")
    return [one_of("activation", name, activations.HIDDEN, _output_hint(name)) for name in hidden]


def _output_hint(name: Any) -> str:
    row = activations.ROWS.get(name) if isinstance(name, str) else None
    return f" ({name} is for the output alone)" if row is not None and row.output_only else ""


def _placed(kinds: Sequence[Kind]) -> Stack:
    shape = kinds[0].shape(())
    count = sum(isinstance(kind, Computing) for kind in kinds)
    layers: list[Placed[Kind]] = []
    computing: list[Placed[Computing]] = []
    sizes = [shape[0]]
    dropout: list[float | None] = []
    for place, kind in enumerate(kinds[1:], 1):
        try:
            out = kind.shape(shape)
        except ValueError as error:
            raise ValueError(f"layers[{place}], {kind!r}, {error}") from None
        index = len(computing)
        if isinstance(kind, Computing):
            computing.append(Placed(kind, shape, out, layer_name(index, count), index))
            layers.append(computing[-1])
            sizes.append(out[0])
            dropout.append(None)
        else:
            assert isinstance(kind, Dropout)
            layers.append(Placed(kind, shape, out, f"Dropout of {layer_name(index - 1, count)}", None))
            dropout[-1] = kind.rate
        shape = out
    names = tuple(str(layer.kind.activation) for layer in computing)
    return Stack(tuple(layers), tuple(computing), tuple(sizes), names, tuple(dropout[:-1]))


def _refuse(made: Stack, loss: str) -> None:
    """Raises where the layers do not go together, or with the loss."""
    if max(made.sizes) >= 2**31 or sum(a * b for a, b in pairwise(made.sizes)) >= MOST_NUMBERS:
        raise ValueError(f"layers must make a network that fits into memory, got {list(made.sizes)}")
    conflict = losses.mismatch(made.activations, loss)
    if conflict:
        raise ValueError(conflict)
    if made.activations[-1] == "softmax" and made.sizes[-1] == 1:
        raise ValueError(
            "a softmax output needs two or more neurons, got 1; for two classes in one output use loss='bce'"
        )
