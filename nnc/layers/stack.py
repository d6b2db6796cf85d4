"""From what a user writes (numbers, objects, names) to a checked list of layers; and the names that people read."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nnc._registry import activations, losses
from nnc._utils.checks import MAX_SIZE, count, one_of
from nnc._utils.value import Value
from nnc.layers.dense import Dense
from nnc.layers.kind import Computing, Kind
from nnc.layers.shape import Dropout, Input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.layers.kind import Shape

TOO_LARGE = "layers must make a network that fits into memory, got {}"
MISSED = "missed_steps"  # in documents, beside the fields that say how a layer learns
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
    input : Input
    layers : tuple of Placed
        All but the input.
    computing : tuple of Placed
        Those with weights.
    sizes : tuple of int
        Numbers in a row of the input and of every layer that computes.
    activations : tuple of str
        Of the layers that compute.
    """

    input: Input
    layers: tuple[Placed[Kind], ...]
    computing: tuple[Placed[Computing], ...]
    sizes: tuple[int, ...]
    activations: tuple[str, ...]

    @property
    def shape(self) -> Shape:
        """Of a row of inputs: (n,), or (height, width, channels)."""
        return self.input.shape(())

    @property
    def images(self) -> bool:
        """Whether rows are images."""
        return len(self.shape) == 3

    @property
    def norms(self) -> bool:
        """Whether a layer normalizes batches."""
        return any(layer.kind.normalizes for layer in self.computing)

    @property
    def least_rows(self) -> int:
        """The fewest rows that a training step can take: a layer that normalizes needs two numbers of a channel."""
        learning = (layer for layer in self.computing if layer.kind.normalizes and not layer.kind.frozen)
        return 1 + any(prod(layer.out) == layer.out[-1] for layer in learning)

    @property
    def whole(self) -> bool:
        """Whether files hold all layers, and not only those that compute, because some are not dense."""
        return not all(isinstance(layer.kind, (Dense, Dropout)) for layer in self.layers)

    def engine(self) -> list[tuple[dict[str, Any], Placed[Kind] | None]]:
        """The layers of the engine, the lowest first: what it takes, and which layer that is, None for the input."""
        made = [(self.input.engine(()), None), *((layer.kind.engine(layer.below), layer) for layer in self.layers)]
        return [(description, layer) for description, layer in made if description is not None]

    @property
    def dropout(self) -> tuple[float | None, ...]:
        """The rate of the Dropout behind each layer of the engine but the last, None where there is none."""
        rates: list[float | None] = [None] * len(self.engine())
        place = -1 if self.input.engine(()) is None else 0
        for layer in self.layers:
            if isinstance(layer.kind, Dropout):
                rates[place] = layer.kind.rate
            else:
                place += layer.kind.engine(layer.below) is not None
        return tuple(rates[:-1])

    @property
    def drops(self) -> bool:
        """Whether there are Dropout layers."""
        return any(isinstance(layer.kind, Dropout) for layer in self.layers)

    def dropping(self, share: Any) -> list[Any]:
        """What each hidden layer drops where one share is said for all: a Scale nothing."""
        return [0.0 if layer.kind.by_column else share for layer in self.computing[:-1]]

    @property
    def bias(self) -> bool | tuple[bool, ...]:
        """Whether the layers have biases; one answer for each where they differ."""
        each = tuple(bool(layer.kind.bias) for layer in self.computing)
        return each[0] if len(set(each)) == 1 else each

    @property
    def learning(self) -> tuple[dict[str, Any], ...]:
        """How each layer that computes learns, what is as usual left out; none at all where nothing is said."""
        each = tuple(layer.kind.learning for layer in self.computing)
        return each if any(each) else ()

    def with_fields(self, number: int, **fields: Any) -> Stack:
        """The same with other values of such fields of a layer that computes as no shape depends on."""
        old = self.computing[number]
        new = old.replace(kind=old.kind.replace(**fields))
        layers = tuple(new if layer is old else layer for layer in self.layers)
        computing = (*self.computing[:number], new, *self.computing[number + 1 :])
        return self.replace(layers=layers, computing=computing)

    def with_output(self, activation: str) -> Stack:
        """Return the layers with another activation of the output."""
        stack = self.with_fields(len(self.computing) - 1, activation=activation)
        return stack.replace(activations=(*self.activations[:-1], activation))

    def learning_to_list(self, missed: Sequence[int] = ()) -> list[dict[str, Any] | None] | None:
        """What a document holds of how layers learn; `missed` are the steps that each was frozen in."""
        said = list(self.learning or [{} for _ in self.computing])
        for number, steps in enumerate(missed):
            if steps:
                said[number] = {**said[number], MISSED: steps}
        return [each or None for each in said] if any(said) else None

    def dropout_to_list(self) -> list[float | None] | None:
        """What a document holds of it: None where there is no Dropout at all, or it stands among the layers."""
        return list(self.dropout) if self.drops and not self.whole else None

    def to_list(self, arrays: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
        """What a document holds of the layers: all of them where some are not dense, else those that compute. `arrays`
        are W and b of these, and what they have beside them."""
        made = [self.input.to_dict(())] if self.whole else []
        for layer in self.layers if self.whole else self.computing:
            made.append(layer.kind.to_dict(layer.below))
            if layer.number is not None:
                names = ("W", "b", *(array.name for array in layer.kind.statistics(layer.below)))
                made[-1].update(zip(names, arrays[layer.number], strict=True))
        return made

    def arguments(self) -> dict[str, Any]:
        """What to call the constructor with for such layers, in the shortest form."""
        *hidden, output = (layer.kind.activation for layer in self.computing if not layer.kind.by_column)
        activation: Any = (hidden[0] if len(set(hidden)) == 1 else hidden) or "sigmoid"
        alike = isinstance(self.bias, bool)
        layers: list[int | Kind] = [self.input if self.images else self.input.n]
        for layer in self.layers:
            kind = layer.kind
            if isinstance(kind, Computing) and not kind.by_column:
                kind = kind.replace(activation=None, init=None, bias=None if alike or kind.bias else False)
            layers.append(kind.n if isinstance(kind, Dense) and kind == Dense(kind.n) else kind)
        made = {"layers": layers, "activation": activation, "output": output}
        return {**made, "bias": self.bias} if alike else made


def layer_name(index: int, count: int) -> str:
    """What people call a layer that computes: "Hidden Layer 1", ..., "Output Layer"."""
    return "Output Layer" if index == count - 1 else f"Hidden Layer {index + 1}"


def missed_steps(learning: Sequence[dict[str, Any] | None] | None) -> tuple[int, ...]:
    """The steps that each layer was frozen in, as a document has them; none at all where there are none."""
    missed = tuple((each or {}).get(MISSED, 0) for each in learning or ())
    return missed if any(missed) else ()


def unstack(
    layers: Sequence[dict[str, Any]],
    dropout: Sequence[float | None] | None,
    learning: Sequence[dict[str, Any] | None] | None,
) -> list[Kind]:
    """The layers that a document describes."""
    from nnc.layers import in_files

    known, rates = in_files(), iter(learning or ())
    kinds: list[Kind] = [] if layers[0]["type"] == Input.type else [Input(layers[0]["n_in"])]
    for layer, rate in zip(layers, [*(dropout or [None] * (len(layers) - 1)), None], strict=True):
        kind = known[layer["type"]].from_dict(layer)
        if isinstance(kind, Computing):
            kind = kind.replace(**{name: value for name, value in (next(rates, None) or {}).items() if name != MISSED})
        kinds.append(kind)
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
        Of the hidden layers that do not say their own: one name for all, or one for each hidden layer of neurons.
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
    places = [place for place, kind in enumerate(kinds) if isinstance(kind, Computing) and not kind.by_column]
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
            size = count("layers", entry)
        except (TypeError, ValueError):
            raise ValueError(message) from None
        if size > MAX_SIZE:
            raise ValueError(TOO_LARGE.format(entries))
        kinds.append((Dense if place else Input)(size))
    if len(kinds) < 2:
        raise ValueError(message)
    if not isinstance(kinds[0], Input):
        raise ValueError(f"layers must begin with the input, a number or Input(n), got {kinds[0]!r}")
    for place, (below, kind) in enumerate(pairwise(kinds), 1):
        if isinstance(kind, Input):
            raise ValueError(f"layers[{place}] is {kind!r}, which only the first of the layers can be")
        if kind.normalizes and not any(isinstance(other, Computing) for other in kinds[:place]):
            what = "it stands behind a Dense or Conv2D; inputs are scaled by scale_X"
            raise ValueError(f"layers[{place}] is {kind!r} behind {below!r}: {what}")
        if isinstance(kind, Dropout) and isinstance(below, (Input, Dropout)):
            what = "it drops outputs of a layer that computes, such as Dense"
            raise ValueError(f"layers[{place}] is {kind!r} behind {below!r}: {what}")
    if not isinstance(kinds[-1], Dense):
        raise ValueError(f"layers must end with a Dense, the output, got {kinds[-1]!r}")
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
    first = kinds[0]
    assert isinstance(first, Input)
    shape = first.shape(())
    count = sum(isinstance(kind, Computing) for kind in kinds)
    layers: list[Placed[Kind]] = []
    computing: list[Placed[Computing]] = []
    for place, kind in enumerate(kinds[1:], 1):
        if isinstance(kind, Dense) and len(shape) == 3:
            from nnc.layers.image import Flatten

            layers.append(Placed(Flatten(), shape, (prod(shape),), "Flatten", None))
            shape = layers[-1].out
        try:
            out = kind.shape(shape)
        except ValueError as error:
            raise ValueError(f"layers[{place}], {kind!r}, {error}") from None
        index = len(computing)
        if isinstance(kind, Computing):
            computing.append(Placed(kind, shape, out, layer_name(index, count), index))
            layers.append(computing[-1])
        elif isinstance(kind, Dropout):
            layers.append(Placed(kind, shape, out, f"Dropout of {layers[-1].name}", None))
        else:
            layers.append(Placed(kind, shape, out, type(kind).__name__, None))
        shape = out
    names = tuple(str(layer.kind.activation) for layer in computing)
    sizes = (prod(first.shape(())), *(prod(layer.out) for layer in computing))
    return Stack(first, tuple(layers), tuple(computing), sizes, names)


def _refuse(made: Stack, loss: str) -> None:
    """Raises where the layers do not go together, or with the loss."""
    numbers = sum(layer.kind.n_params(layer.below) for layer in made.layers)
    if max(prod(layer.out) for layer in made.layers) >= 2**31 or max(made.sizes) >= 2**31 or numbers >= MOST_NUMBERS:
        raise ValueError(TOO_LARGE.format(list(made.sizes)))
    conflict = losses.mismatch(made.activations, loss)
    if conflict:
        raise ValueError(conflict)
    if made.activations[-1] == "softmax" and made.sizes[-1] == 1:
        raise ValueError(
            "a softmax output needs two or more neurons, got 1; for two classes in one output use loss='bce'"
        )
