"""From what a user writes (numbers, objects, names) to a checked list of layers; and the names that people read."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nnc._registry import activations, losses
from nnc._utils.checks import MAX_SIZE, check_choice, check_count
from nnc._utils.value import Value
from nnc.layers.base import Layer, ParametricLayer
from nnc.layers.dense import Dense
from nnc.layers.shape import Dropout, Input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.layers.base import Shape

TOO_LARGE = "layers must make a network that fits into memory, got {}"
FROZEN_STEPS_KEY = "missed_steps"  # in documents, beside the fields that say how a layer learns
MAX_PARAMS = 2**40  # parameters of a network


K = TypeVar("K", bound=Layer, covariant=True)


class PlacedLayer(Value, Generic[K]):
    """A layer at its place: complete, with the shapes of a row that it gets and gives."""

    kind: K
    input_shape: Shape
    output_shape: Shape
    name: str
    parametric_index: int | None  # among the layers that compute

    @property
    def has_parameters(self) -> bool:
        return self.parametric_index is not None


class Stack(Value):
    """The checked layers of a network.

    Attributes
    ----------
    input : Input
    layers : tuple of PlacedLayer
        All but the input.
    parametric_layers : tuple of PlacedLayer
        Those with weights.
    sizes : tuple of int
        Numbers in a row of the input and of every layer that computes.
    activations : tuple of str
        Of the layers that compute.
    """

    input: Input
    layers: tuple[PlacedLayer[Layer], ...]
    parametric_layers: tuple[PlacedLayer[ParametricLayer], ...]
    sizes: tuple[int, ...]
    activations: tuple[str, ...]

    @property
    def input_shape(self) -> Shape:
        """Of a row of inputs: (n,), or (height, width, channels)."""
        return self.input.output_shape(())

    @property
    def has_image_input(self) -> bool:
        """Whether rows are images."""
        return len(self.input_shape) == 3

    @property
    def has_batch_norm(self) -> bool:
        """Whether a layer normalizes batches."""
        return any(layer.kind.normalizes for layer in self.parametric_layers)

    @property
    def min_batch_rows(self) -> int:
        """The fewest rows that a training step can take: a layer that normalizes needs two numbers of a channel."""
        learning = (layer for layer in self.parametric_layers if layer.kind.normalizes and not layer.kind.frozen)
        return 1 + any(prod(layer.output_shape) == layer.output_shape[-1] for layer in learning)

    @property
    def lists_all_layers(self) -> bool:
        """Whether files hold all layers, and not only those that compute, because some are not dense."""
        return not all(isinstance(layer.kind, (Dense, Dropout)) for layer in self.layers)

    def engine_layers(self) -> list[tuple[dict[str, Any], PlacedLayer[Layer] | None]]:
        """The layers of the engine, the lowest first: what it takes, and which layer that is, None for the input."""
        pairs: list[tuple[dict[str, Any] | None, PlacedLayer[Layer] | None]]
        pairs = [(self.input.engine_description(()), None)]
        pairs += [(layer.kind.engine_description(layer.input_shape), layer) for layer in self.layers]
        return [(description, layer) for description, layer in pairs if description is not None]

    @property
    def dropout_rates(self) -> tuple[float | None, ...]:
        """The rate of the Dropout behind each layer of the engine but the last, None where there is none."""
        rates: list[float | None] = [None] * len(self.engine_layers())
        place = -1 if self.input.engine_description(()) is None else 0
        for layer in self.layers:
            if isinstance(layer.kind, Dropout):
                rates[place] = layer.kind.rate
            else:
                place += layer.kind.engine_description(layer.input_shape) is not None
        return tuple(rates[:-1])

    @property
    def has_dropout(self) -> bool:
        """Whether there are Dropout layers."""
        return any(isinstance(layer.kind, Dropout) for layer in self.layers)

    def hidden_dropout_rates(self, share: Any) -> list[Any]:
        """What each hidden layer drops where one share is said for all: a Scale nothing."""
        return [0.0 if layer.kind.columnwise else share for layer in self.parametric_layers[:-1]]

    @property
    def bias(self) -> bool | tuple[bool, ...]:
        """Whether the layers have biases; one answer for each where they differ."""
        each = tuple(bool(layer.kind.bias) for layer in self.parametric_layers)
        return each[0] if len(set(each)) == 1 else each

    @property
    def learning_options(self) -> tuple[dict[str, Any], ...]:
        """How each layer that computes learns, what is as usual left out; none at all where nothing is said."""
        each = tuple(layer.kind.learning_options for layer in self.parametric_layers)
        return each if any(each) else ()

    def with_layer_options(self, number: int, **fields: Any) -> Stack:
        """The same with other values of such fields of a layer that computes as no shape depends on."""
        old = self.parametric_layers[number]
        new = old.replace(kind=old.kind.replace(**fields))
        layers = tuple(new if layer is old else layer for layer in self.layers)
        computing = (*self.parametric_layers[:number], new, *self.parametric_layers[number + 1 :])
        return self.replace(layers=layers, parametric_layers=computing)

    def with_output(self, activation: str) -> Stack:
        """Return the layers with another activation of the output."""
        stack = self.with_layer_options(len(self.parametric_layers) - 1, activation=activation)
        return stack.replace(activations=(*self.activations[:-1], activation))

    def learning_to_list(self, missed: Sequence[int] = ()) -> list[dict[str, Any] | None] | None:
        """What a document holds of how layers learn; `missed` are the steps that each was frozen in."""
        said = list(self.learning_options or [{} for _ in self.parametric_layers])
        for number, steps in enumerate(missed):
            if steps:
                said[number] = {**said[number], FROZEN_STEPS_KEY: steps}
        return [each or None for each in said] if any(said) else None

    def dropout_to_list(self) -> list[float | None] | None:
        """What a document holds of it: None where there is no Dropout at all, or it stands among the layers."""
        return list(self.dropout_rates) if self.has_dropout and not self.lists_all_layers else None

    def to_list(self, arrays: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
        """What a document holds of the layers: all of them where some are not dense, else those that compute. `arrays`
        are W and b of these, and what they have beside them."""
        made = [self.input.to_dict(())] if self.lists_all_layers else []
        for layer in self.layers if self.lists_all_layers else self.parametric_layers:
            made.append(layer.kind.to_dict(layer.input_shape))
            if layer.parametric_index is not None:
                names = ("W", "b", *(array.name for array in layer.kind.statistics(layer.input_shape)))
                made[-1].update(zip(names, arrays[layer.parametric_index], strict=True))
        return made

    def constructor_arguments(self) -> dict[str, Any]:
        """What to call the constructor with for such layers, in the shortest form."""
        *hidden, output = (layer.kind.activation for layer in self.parametric_layers if not layer.kind.columnwise)
        activation: Any = (hidden[0] if len(set(hidden)) == 1 else hidden) or "sigmoid"
        alike = isinstance(self.bias, bool)
        layers: list[int | Layer] = [self.input if self.has_image_input else self.input.n]
        for layer in self.layers:
            kind = layer.kind
            if isinstance(kind, ParametricLayer) and not kind.columnwise:
                kind = kind.replace(activation=None, init=None, bias=None if alike or kind.bias else False)
            layers.append(kind.n if isinstance(kind, Dense) and kind == Dense(kind.n) else kind)
        made = {"layers": layers, "activation": activation, "output": output}
        return {**made, "bias": self.bias} if alike else made


def layer_name(index: int, count: int) -> str:
    """What people call a layer that computes: "Hidden Layer 1", ..., "Output Layer"."""
    return "Output Layer" if index == count - 1 else f"Hidden Layer {index + 1}"


def frozen_steps(learning: Sequence[dict[str, Any] | None] | None) -> tuple[int, ...]:
    """The steps that each layer was frozen in, as a document has them; none at all where there are none."""
    missed = tuple((each or {}).get(FROZEN_STEPS_KEY, 0) for each in learning or ())
    return missed if any(missed) else ()


def layers_from_document(
    layers: Sequence[dict[str, Any]],
    dropout: Sequence[float | None] | None,
    learning: Sequence[dict[str, Any] | None] | None,
) -> list[Layer]:
    """The layers that a document describes."""
    from nnc.layers import layer_classes_by_type

    known, rates = layer_classes_by_type(), iter(learning or ())
    kinds: list[Layer] = [] if layers[0]["type"] == Input.type else [Input(layers[0]["n_in"])]
    for layer, rate in zip(layers, [*(dropout or [None] * (len(layers) - 1)), None], strict=True):
        kind = known[layer["type"]].from_dict(layer)
        if isinstance(kind, ParametricLayer):
            kind = kind.replace(
                **{name: value for name, value in (next(rates, None) or {}).items() if name != FROZEN_STEPS_KEY}
            )
        kinds.append(kind)
        if rate is not None:
            kinds.append(Dropout(rate))
    return kinds


def build_stack(layers: Any, activation: Any, output: Any, loss: str, bias: bool) -> Stack:
    """Checks and completes the layers of a network.

    Parameters
    ----------
    layers : sequence of int or Layer
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
    places = [place for place, kind in enumerate(kinds) if isinstance(kind, ParametricLayer) and not kind.columnwise]
    hidden = _hidden_activations(activation, len(places) - 1)
    last = kinds[-1]
    if isinstance(last, ParametricLayer) and last.activation and output not in (None, last.activation):
        raise ValueError(f"output must be left out where the last layer says its own, got {output!r} and {last!r}")
    if output is None:
        output = losses.ROWS[loss].output
    else:
        check_choice("output", output, activations.NAMES)
    for place, name in zip(places, [*hidden, output], strict=True):
        kind = kinds[place]
        if isinstance(kind, ParametricLayer):
            kinds[place] = kind.replace(
                activation=kind.activation or name, bias=bias if kind.bias is None else kind.bias
            )
    made = _placed(kinds)
    _refuse(made, loss)
    return made


def _kinds(layers: Any) -> list[Layer]:
    """The layers as objects, in an order that makes sense."""
    message = (
        "layers must be a sequence of at least two positive whole numbers, such as [3, 4, 1], or of layers such as "
        f"[Input(3), Dense(4), Dense(1)], got {layers!r}"
    )
    try:
        entries = list(layers)
    except TypeError:
        raise ValueError(message) from None
    kinds: list[Layer] = []
    for place, entry in enumerate(entries):
        if isinstance(entry, type) and issubclass(entry, Layer):
            raise TypeError(f"layers[{place}] must be an object such as {entry.__name__}(4), got the class itself")
        if isinstance(entry, Layer):
            kinds.append(entry)
            continue
        try:
            size = check_count("layers", entry)
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
        if kind.normalizes and not any(isinstance(other, ParametricLayer) for other in kinds[:place]):
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
        return [check_choice("activation", activation, activations.HIDDEN, _output_hint(activation))] * n_hidden
    try:
        hidden = list(activation)
    except TypeError:
        raise TypeError(f"{expected}, got {activation!r}") from None
    if len(hidden) != n_hidden:
        raise ValueError(f"{expected}, got {len(hidden)}: {activation!r}")
    return [check_choice("activation", name, activations.HIDDEN, _output_hint(name)) for name in hidden]


def _output_hint(name: Any) -> str:
    row = activations.ROWS.get(name) if isinstance(name, str) else None
    return f" ({name} is possible only for the output layer)" if row is not None and row.output_only else ""


def _placed(kinds: Sequence[Layer]) -> Stack:
    first = kinds[0]
    assert isinstance(first, Input)
    shape = first.output_shape(())
    count = sum(isinstance(kind, ParametricLayer) for kind in kinds)
    layers: list[PlacedLayer[Layer]] = []
    computing: list[PlacedLayer[ParametricLayer]] = []
    for place, kind in enumerate(kinds[1:], 1):
        if isinstance(kind, Dense) and len(shape) == 3:
            from nnc.layers.image import Flatten

            layers.append(PlacedLayer(Flatten(), shape, (prod(shape),), "Flatten", None))
            shape = layers[-1].output_shape
        try:
            out = kind.output_shape(shape)
        except ValueError as error:
            raise ValueError(f"layers[{place}], {kind!r}, {error}") from None
        index = len(computing)
        if isinstance(kind, ParametricLayer):
            computing.append(PlacedLayer(kind, shape, out, layer_name(index, count), index))
            layers.append(computing[-1])
        elif isinstance(kind, Dropout):
            layers.append(PlacedLayer(kind, shape, out, f"Dropout of {layers[-1].name}", None))
        else:
            layers.append(PlacedLayer(kind, shape, out, type(kind).__name__, None))
        shape = out
    names = tuple(str(layer.kind.activation) for layer in computing)
    sizes = (prod(first.output_shape(())), *(prod(layer.output_shape) for layer in computing))
    return Stack(first, tuple(layers), tuple(computing), sizes, names)


def _refuse(made: Stack, loss: str) -> None:
    """Raises where the layers do not go together, or with the loss."""
    n_params = sum(layer.kind.n_params(layer.input_shape) for layer in made.layers)
    max_size = max(*made.sizes, *(prod(layer.output_shape) for layer in made.layers))
    if max_size > MAX_SIZE or n_params >= MAX_PARAMS:
        raise ValueError(TOO_LARGE.format(list(made.sizes)))
    conflict = losses.explain_mismatch(made.activations, loss)
    if conflict:
        raise ValueError(conflict)
    if made.activations[-1] == "softmax" and made.sizes[-1] == 1:
        raise ValueError(
            "a softmax output needs two or more neurons, got 1; for two classes in one output use loss='bce'"
        )
