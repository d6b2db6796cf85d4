"""The list of layers of a network: parsing, checks, shapes, names and description in model files."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nnc._registry import activations, losses
from nnc._utils.checks import MAX_SIZE, check_choice, check_count, short_repr
from nnc._utils.value import Value
from nnc.layers.base import Layer, ParametricLayer, flatten_description, format_shape
from nnc.layers.dense import Dense
from nnc.layers.shape import Dropout, Input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.layers.base import Shape

TOO_LARGE = "layers must describe a network that fits into memory, got {}"
FROZEN_STEPS_KEY = "missed_steps"  # key in model files for the number of steps in which a layer was frozen
MAX_PARAMS = 2**40  # largest number of parameters of a network


K = TypeVar("K", bound=Layer, covariant=True)


class PlacedLayer(Value, Generic[K]):
    """Layer of a network with its shapes and name.

    Attributes
    ----------
    kind : Layer
        The layer object with all options set.
    input_shape, output_shape : tuple of int
        Shapes of one row before and after the layer.
    name : str
        Name for people: "Hidden Layer 1", "Dropout of Hidden Layer 1", "Flatten".
    parametric_index : int or None
        Index among the parametric layers; None if the layer has no parameters.
    """

    kind: K
    input_shape: Shape
    output_shape: Shape
    name: str
    parametric_index: int | None

    @property
    def has_parameters(self) -> bool:
        """Return whether the layer has parameters."""
        return self.parametric_index is not None


class Stack(Value):
    """Checked list of the layers of a network.

    Attributes
    ----------
    input : Input
    layers : tuple of PlacedLayer
        All layers after the input.
    parametric_layers : tuple of PlacedLayer
        The layers with parameters.
    sizes : tuple of int
        Numbers in one row of the input and of the output of each parametric layer.
    activations : tuple of str
        Activations of the parametric layers.
    """

    input: Input
    layers: tuple[PlacedLayer[Layer], ...]
    parametric_layers: tuple[PlacedLayer[ParametricLayer], ...]
    sizes: tuple[int, ...]
    activations: tuple[str, ...]

    @property
    def input_shape(self) -> Shape:
        """Return the shape of one row of inputs: (n,), (steps, features), or (height, width, channels)."""
        return self.layers[0].input_shape

    def for_steps(self, steps: int) -> Stack:
        """Return the layers for sequences of this number of steps."""
        return _compute_shapes([self.input, *(layer.kind for layer in self.layers)], (steps, self.input_shape[1]))

    @property
    def has_image_input(self) -> bool:
        """Return whether the inputs are images."""
        return len(self.input_shape) == 3

    @property
    def uses_lanes(self) -> bool:
        """Return whether the engine stores each row in one lane of the vectors, as convolutions require.

        It does so for the first layers of a network, up to the first layer that processes vectors or single steps.
        """
        return _begins_in_lanes([self.input, *(layer.kind for layer in self.layers)])

    @property
    def widths(self) -> tuple[list[int], list[int]]:
        """Return the widths of the layers with parameters: of all but recurrent layers, then of recurrent layers."""
        groups: tuple[list[int], list[int]] = [], []
        for layer in self.parametric_layers:
            groups[layer.kind.recurrent].append(layer.kind.width(layer.input_shape))
        return groups

    @property
    def output_shape(self) -> Shape:
        """Return the shape of one row of outputs: (n,), or (steps, n) if the last layer is applied to each step."""
        return self.layers[-1].output_shape

    def shape_text(self, shape: Shape) -> str:
        """Return the shape of a row as text: "any x 3" for sequences of any number of steps."""
        return f"any x {shape[1]}" if self.input.any_steps and len(shape) == 2 else format_shape(shape)

    def flatten_outputs(self, outputs: Any) -> Any:
        """Reshape outputs at each step from (n, steps, k) to (n, steps * k); return other arrays unchanged."""
        if len(self.output_shape) == 2 and outputs.shape[1:] == self.output_shape:
            return outputs.reshape(len(outputs), -1)
        return outputs

    @property
    def has_steps(self) -> bool:
        """Return whether a layer processes sequences step by step: a recurrent layer, or a Dense on sequences."""
        return any(
            layer.kind.recurrent or (isinstance(layer.kind, Dense) and len(layer.input_shape) == 2)
            for layer in self.layers
        )

    def check_lengths(self, shortest: int, row: int, longest: int) -> None:
        """Raise ValueError if a layer does not support sequences of `shortest` steps next to those of `longest` steps.

        `row` is the index of the shortest sequence.
        """
        counts = [shortest, longest]
        for layer in self.layers:
            if len(layer.input_shape) == 2:
                try:
                    counts = [layer.kind.output_steps(count) for count in counts]
                except ValueError as error:
                    raise ValueError(
                        f"X must have sequences of {longest} steps, got {shortest} in row {row}; {error}"
                    ) from None
        if len(self.output_shape) == 2 and counts != [shortest, longest]:
            raise ValueError(
                "the network must keep the number of steps if sequences have different lengths, got "
                f"{counts[1]} steps of outputs for {longest} steps of inputs; use padding='causal', stride=1 and no "
                "pools"
            )

    @property
    def min_batch_rows(self) -> int:
        """Return the smallest batch size of a training step.

        It is 2 if a trainable BatchNorm has one value per row and channel, because a variance requires two values.
        """
        norms = (layer for layer in self.parametric_layers if layer.kind.normalizes and not layer.kind.frozen)
        return 1 + any(prod(layer.output_shape) == layer.output_shape[-1] for layer in norms)

    @property
    def lists_all_layers(self) -> bool:
        """Return whether model files list all layers.

        If the inputs are vectors and all layers are Dense or Dropout, files list only the Dense layers, and store the
        dropout rates separately.
        """
        is_dense = all(isinstance(layer.kind, (Dense, Dropout)) for layer in self.layers)
        return len(self.input_shape) > 1 or not is_dense

    def engine_layers(self) -> list[tuple[dict[str, Any], PlacedLayer[Layer] | None]]:
        """Return a pair for each layer of the engine: its arguments, and its layer of this stack (None for the input).

        A global pool of sequences has two layers in the engine, because the engine pools images to images of one pixel.
        The engine also has a flatten, which converts lanes to rows, before the first layer that processes single steps.
        """
        pairs: list[tuple[dict[str, Any], PlacedLayer[Layer] | None]] = []
        in_lanes = self.uses_lanes
        if in_lanes and (description := self.input.engine_description(self.input_shape)) is not None:
            pairs.append((description, None))
        for layer in self.layers:
            description = layer.kind.engine_description(layer.input_shape)
            if description is None or (description["kind"] == "flatten" and not in_lanes):
                continue
            if in_lanes and description["kind"] == "recurrent":
                pairs.append((flatten_description(layer.input_shape) | {"output_shape": layer.input_shape}, None))
                in_lanes = False
            pairs.append((description, layer))
            if in_lanes and len(layer.output_shape) == 1:
                if description["kind"] != "flatten":
                    pairs.append((flatten_description(description["output_shape"]), layer))
                in_lanes = False
        return pairs

    @property
    def dropout_rates(self) -> tuple[float | None, ...]:
        """Return the rate of the Dropout after each layer of the engine except the last; None without Dropout."""
        engine_layers = self.engine_layers()
        rates: list[float | None] = [None] * len(engine_layers)
        engine_indices = {id(layer): index for index, (_, layer) in enumerate(engine_layers)}
        index = 0  # index of the last layer of the engine before the current layer
        for layer in self.layers:
            if isinstance(layer.kind, Dropout):
                rates[index] = layer.kind.rate
            index = engine_indices.get(id(layer), index)
        return tuple(rates[:-1])

    @property
    def input_dropout_rates(self) -> list[float]:
        """Return the rate at which training drops the inputs of each layer of the engine; empty if all rates are 0."""
        if not any(getattr(layer.kind, "dropout", 0.0) for layer in self.layers):
            return []
        return [getattr(layer and layer.kind, "dropout", 0.0) for _, layer in self.engine_layers()]

    @property
    def has_dropout(self) -> bool:
        """Return whether the network has Dropout layers."""
        return any(isinstance(layer.kind, Dropout) for layer in self.layers)

    def hidden_dropout_rates(self, rate: Any) -> list[Any]:
        """Return the dropout rate of each hidden layer: 0 for BatchNorm and Scale, otherwise `rate`."""
        return [0.0 if layer.kind.columnwise else rate for layer in self.parametric_layers[:-1]]

    @property
    def bias(self) -> bool | tuple[bool, ...]:
        """Return whether the parametric layers have biases: one bool, or one for each layer if the layers differ."""
        biases = tuple(bool(layer.kind.bias) for layer in self.parametric_layers)
        return biases[0] if len(set(biases)) == 1 else biases

    @property
    def learning_options(self) -> tuple[dict[str, Any], ...]:
        """Return the learning options of each parametric layer that differ from the defaults; () if none differs."""
        options = tuple(layer.kind.learning_options for layer in self.parametric_layers)
        return options if any(options) else ()

    def with_layer_options(self, index: int, **options: Any) -> Stack:
        """Return a copy of the stack in which one parametric layer has new options that leave all shapes unchanged."""
        old = self.parametric_layers[index]
        new = old.replace(kind=old.kind.replace(**options))
        layers = tuple(new if layer is old else layer for layer in self.layers)
        parametric_layers = (*self.parametric_layers[:index], new, *self.parametric_layers[index + 1 :])
        return self.replace(layers=layers, parametric_layers=parametric_layers)

    def with_output(self, activation: str) -> Stack:
        """Return a copy of the stack in which the output layer has this activation."""
        stack = self.with_layer_options(len(self.parametric_layers) - 1, activation=activation)
        return stack.replace(activations=(*self.activations[:-1], activation))

    def learning_to_list(self, frozen_steps: Sequence[int] = ()) -> list[dict[str, Any] | None] | None:
        """Return the learning options of all parametric layers, as the value of "learning" in a model file.

        Parameters
        ----------
        frozen_steps : sequence of int, optional
            Number of steps in which each parametric layer was frozen.
        """
        options = list(self.learning_options or [{} for _ in self.parametric_layers])
        for index, steps in enumerate(frozen_steps):
            if steps:
                options[index] = {**options[index], FROZEN_STEPS_KEY: steps}
        return [layer_options or None for layer_options in options] if any(options) else None

    def dropout_to_list(self) -> list[float | None] | None:
        """Return `dropout_rates` as the value of "dropout" in a model file.

        It is None without dropout, or if "layers" in the file contains the Dropout layers.
        """
        return list(self.dropout_rates) if self.has_dropout and not self.lists_all_layers else None

    def to_list(self, arrays: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
        """Return the descriptions of the layers with their arrays, as the value of "layers" in a model file.

        Parameters
        ----------
        arrays : sequence of tuple
            W, b and the running statistics of each parametric layer.
        """
        documents = [self.input.to_dict(())] if self.lists_all_layers else []
        for layer in self.layers if self.lists_all_layers else self.parametric_layers:
            documents.append(layer.kind.to_dict(layer.input_shape))
            if layer.parametric_index is not None:
                names = ("W", "b", *(array.name for array in layer.kind.statistics(layer.input_shape)))
                documents[-1].update(zip(names, arrays[layer.parametric_index], strict=True))
        return documents

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the shortest arguments of `NeuralNetwork` that yield these layers."""
        *hidden, output = (layer.kind.activation for layer in self.parametric_layers if not layer.kind.columnwise)
        activation: Any = (hidden[0] if len(set(hidden)) == 1 else hidden) or "sigmoid"
        has_equal_biases = isinstance(self.bias, bool)
        layers: list[int | Layer] = [self.sizes[0] if len(self.input_shape) == 1 else self.input]
        for layer in self.layers:
            kind = layer.kind
            if isinstance(kind, ParametricLayer) and not kind.columnwise:
                bias = None if has_equal_biases or kind.bias else False
                kind = kind.replace(init=None, bias=bias)
                kind = kind if kind.recurrent else kind.replace(activation=None)
            layers.append(kind.n if isinstance(kind, Dense) and kind == Dense(kind.n) else kind)
        arguments = {"layers": layers, "activation": activation, "output": output}
        return {**arguments, "bias": self.bias} if has_equal_biases else arguments


def layer_name(index: int, count: int) -> str:
    """Return the readable name of a parametric layer: "Hidden Layer 1", ..., "Output Layer"."""
    return "Output Layer" if index == count - 1 else f"Hidden Layer {index + 1}"


def frozen_steps(learning: Sequence[dict[str, Any] | None] | None) -> tuple[int, ...]:
    """Return the number of frozen steps of each layer, from "learning" in a model file; () if all are 0."""
    steps = tuple((options or {}).get(FROZEN_STEPS_KEY, 0) for options in learning or ())
    return steps if any(steps) else ()


def layers_from_document(
    layers: Sequence[dict[str, Any]],
    dropout: Sequence[float | None] | None,
    learning: Sequence[dict[str, Any] | None] | None,
) -> list[Layer]:
    """Return the layer objects that "layers", "dropout" and "learning" in a model file describe."""
    from nnc.layers import layer_classes_by_type

    layer_classes, options_of_layers = layer_classes_by_type(), iter(learning or ())
    objects: list[Layer] = [] if layers[0]["type"] == Input.type else [Input(layers[0]["n_in"])]
    for layer, rate in zip(layers, [*(dropout or [None] * (len(layers) - 1)), None], strict=True):
        kind = layer_classes[layer["type"]].from_dict(layer)
        if isinstance(kind, ParametricLayer):
            options = next(options_of_layers, None) or {}
            kind = kind.replace(**{name: value for name, value in options.items() if name != FROZEN_STEPS_KEY})
        objects.append(kind)
        if rate is not None:
            objects.append(Dropout(rate))
    return objects


def build_stack(layers: Any, activation: Any, output: Any, loss: str, bias: bool) -> Stack:
    """Return the checked layers of a network, with all options set.

    Parameters
    ----------
    layers : sequence of int or Layer
        The layers in order, beginning with the input.
    activation : str or sequence of str
        Activation of the hidden layers that do not define one: one name for all, or one for each layer except
        BatchNorm and Scale.
    output : str, optional
        Activation of the last layer, if it does not define one. Default: the default output activation of the loss.
    loss : str
        Name of the loss.
    bias : bool
        Whether layers without this option have biases.

    Raises
    ------
    ValueError, TypeError
        An argument is not valid, or the layers, the activations and the loss do not fit together.
    """
    kinds = _parse_layers(layers)
    indices = [i for i, kind in enumerate(kinds) if isinstance(kind, ParametricLayer) and not kind.columnwise]
    hidden = _parse_hidden_activations(activation, len(indices) - 1)
    last = kinds[-1]
    if isinstance(last, ParametricLayer) and last.activation and output not in (None, last.activation):
        raise ValueError(f"output must not be set if the last layer has an activation, got {output!r} and {last!r}")
    if output is None:
        output = losses.ROWS[loss].output
    else:
        check_choice("output", output, activations.NAMES)
    for i, name in zip(indices, [*hidden, output], strict=True):
        kind = kinds[i]
        if isinstance(kind, ParametricLayer):
            kind = kind.replace(bias=bias if kind.bias is None else kind.bias)
            kinds[i] = kind.replace(activation=name) if kind.activation is None else kind
    stack = _compute_shapes(kinds)
    _check_stack(stack, loss)
    return stack


def _parse_layers(layers: Any) -> list[Layer]:
    """Return the argument `layers` as layer objects; raise ValueError or TypeError if their order is not possible."""
    message = (
        "layers must be a sequence of at least two positive whole numbers, such as [3, 4, 1], or of layers such as "
        f"[Input(3), Dense(4), Dense(1)], got {short_repr(layers)}"
    )
    if isinstance(layers, (bytes, set, frozenset)):
        raise ValueError(message)
    try:
        entries = list(layers)
    except TypeError:
        raise ValueError(message) from None
    kinds: list[Layer] = []
    for i, entry in enumerate(entries):
        if isinstance(entry, type) and issubclass(entry, Layer):
            raise TypeError(f"layers[{i}] must be an object such as {entry.__name__}(4), got the class itself")
        if isinstance(entry, Layer):
            kinds.append(entry)
            continue
        try:
            size = check_count("layers", entry)
        except (TypeError, ValueError):
            raise ValueError(message) from None
        if size > MAX_SIZE:
            raise ValueError(TOO_LARGE.format(entries))
        kinds.append((Dense if i else Input)(size))
    if len(kinds) < 2:
        raise ValueError(message)
    if not isinstance(kinds[0], Input):
        raise ValueError(f"layers must begin with the input, a number or Input(n), got {kinds[0]!r}")
    has_lanes = _begins_in_lanes(kinds)
    for i, (previous, kind) in enumerate(pairwise(kinds), 1):
        if isinstance(kind, Input):
            raise ValueError(f"layers[{i}] must not be an Input, which is possible only as layers[0], got {kind!r}")
        if kind.normalizes and not any(isinstance(other, ParametricLayer) for other in kinds[:i]):
            raise ValueError(
                f"layers[{i}] must come after a Dense, Conv1D or Conv2D, got {kind!r} after {previous!r}; "
                "scale inputs with scale_X"
            )
        # the engine has a Flatten layer only directly after images, convolutions or pools
        has_lanes = has_lanes and not (previous.recurrent or isinstance(previous, Dense))
        sources = [other for other in kinds[:i] if has_lanes or other.type != "flatten"]
        if isinstance(kind, Dropout) and isinstance(sources[-1], (Input, Dropout)):
            raise ValueError(
                f"layers[{i}] must come after a layer with outputs to drop, such as Dense, got {kind!r} after "
                f"{previous!r}"
            )
    if not isinstance(kinds[-1], Dense):
        raise ValueError(f"layers must end with a Dense, the output layer, got {kinds[-1]!r}")
    return kinds


def stream_obstacle(layers: Sequence[Layer], has_heads: bool) -> str | None:
    """Return why the outputs of a network cannot be computed step by step, or None if they can.

    `layers` are all layers except Input.
    """
    if has_heads:
        return "stream() does not support heads; create the network with a single loss"
    obstacle = next(filter(None, (layer.stream_obstacle for layer in layers)), None)
    if obstacle is None and not any(layer.recurrent or layer.in_lanes for layer in layers):
        return f"stream() requires a network with recurrent layers or causal convolutions, got {[*layers]}"
    return obstacle


def _begins_in_lanes(kinds: Sequence[Layer]) -> bool:
    """Return whether the engine processes the first layers after the input with one row in each vector lane."""
    for kind in kinds[1:]:
        if kind.in_lanes or kind.recurrent or isinstance(kind, Dense):
            return kind.in_lanes or len(kinds[0].output_shape(())) == 3
    return len(kinds[0].output_shape(())) == 3


def _parse_hidden_activations(activation: Any, n_hidden: int) -> list[str]:
    """Return the argument `activation` as one name for each hidden layer."""
    expected = f"activation must be a name, or a list with one name per hidden layer (here {n_hidden})"
    if isinstance(activation, str):
        return [check_choice("activation", activation, activations.HIDDEN, _output_hint(activation))] * n_hidden
    try:
        hidden = list(activation)
    except TypeError:
        raise TypeError(f"{expected}, got {short_repr(activation)}") from None
    if len(hidden) != n_hidden:
        raise ValueError(f"{expected}, got {len(hidden)}: {short_repr(activation)}")
    return [check_choice("activation", name, activations.HIDDEN, _output_hint(name)) for name in hidden]


def _output_hint(name: Any) -> str:
    """Return a note for an error message if `name` is an activation for output layers only, otherwise ""."""
    row = activations.ROWS.get(name) if isinstance(name, str) else None
    return f" ({name} is possible only for the output layer)" if row is not None and row.output_only else ""


def _compute_shapes(kinds: Sequence[Layer], first_shape: Shape | None = None) -> Stack:
    """Return the layers with their shapes and names; insert a Flatten between images and a Dense.

    `first_shape` is the shape of one row of inputs. Default: that of the Input.
    """
    first = kinds[0]
    assert isinstance(first, Input)
    shape = first_shape = first_shape or first.output_shape(())
    count = sum(isinstance(kind, ParametricLayer) for kind in kinds)
    layers: list[PlacedLayer[Layer]] = []
    parametric_layers: list[PlacedLayer[ParametricLayer]] = []
    for i, kind in enumerate(kinds[1:], 1):
        if isinstance(kind, Dense) and len(shape) == 3:
            from nnc.layers.image import Flatten

            layers.append(PlacedLayer(Flatten(), shape, (prod(shape),), "Flatten", None))
            shape = layers[-1].output_shape
        if first.any_steps and len(shape) == 2 and not (kind.recurrent or isinstance(kind, (Dense, Dropout))):
            raise ValueError(
                f"layers after Input(steps=None) must be recurrent or Dense layers, got {kind!r}; use a fixed number "
                "of steps"
            )
        try:
            output_shape = kind.output_shape(shape)
        except ValueError as error:
            raise ValueError(
                f"layers[{i}] must accept the output of the layer before it, got {kind!r}: {error}"
            ) from None
        index = len(parametric_layers)
        if isinstance(kind, ParametricLayer):
            parametric_layers.append(PlacedLayer(kind, shape, output_shape, layer_name(index, count), index))
            layers.append(parametric_layers[-1])
        elif isinstance(kind, Dropout):
            layers.append(PlacedLayer(kind, shape, output_shape, f"Dropout of {layers[-1].name}", None))
        else:
            layers.append(PlacedLayer(kind, shape, output_shape, type(kind).__name__, None))
        shape = output_shape
    names = tuple(str(layer.kind.activation) for layer in parametric_layers)
    sizes = (prod(first_shape), *(prod(layer.output_shape) for layer in parametric_layers))
    return Stack(first, tuple(layers), tuple(parametric_layers), sizes, names)


def _check_stack(stack: Stack, loss: str) -> None:
    """Raise ValueError if the network is too large or the activations are not possible with the loss."""
    n_params = sum(layer.kind.n_params(layer.input_shape) for layer in stack.layers)
    max_size = max(*stack.sizes, *(prod(layer.output_shape) for layer in stack.layers))
    if max_size > MAX_SIZE or n_params >= MAX_PARAMS:
        raise ValueError(TOO_LARGE.format(list(stack.sizes)))
    by_step = False  # whether a recurrent layer, or a Dense on sequences, comes before the layer
    for layer in stack.layers:
        is_convolution = layer.kind.in_lanes and layer.has_parameters
        is_norm = layer.kind.normalizes and len(layer.output_shape) == 2
        if (by_step or not stack.uses_lanes) and (is_convolution or is_norm):
            raise ValueError(
                "convolutions and BatchNorm of sequences must come before recurrent layers and before a Dense on "
                f"sequences, got {[other.kind for other in stack.layers]}"
            )
        by_step = by_step or layer.kind.recurrent or (isinstance(layer.kind, Dense) and len(layer.input_shape) == 2)
    mismatch = losses.explain_mismatch(stack.activations, loss)
    if mismatch:
        raise ValueError(mismatch)
    if stack.activations[-1] == "softmax" and stack.output_shape[-1] == 1:
        raise ValueError(
            "a softmax output needs two or more neurons, got 1; for two classes in one output use loss='bce'"
        )
