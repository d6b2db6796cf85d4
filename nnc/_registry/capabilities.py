"""Table of combinations: what options, optimizers and methods need from the optimizer, the loss and the layers.

`check` raises the error of a combination that is not supported. tools/registry_lists.py writes the tables of
docs/combinations.md.

Importers raise their own errors, because these name a layer or node of another package. Exporters raise errors about
single values, such as a number outside the range of a dtype.
"""

from __future__ import annotations

from numbers import Number
from typing import TYPE_CHECKING, Any, NamedTuple

from nnc._registry import activations, losses
from nnc._utils.checks import pluralize, short_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


SQUARED_ERRORS = ", ".join(row.name for row in losses.ROWS.values() if row.squared_error_factor)
SMOOTH_ACTIVATIONS = ", ".join(row.name for row in activations.ROWS.values() if row.has_higher_derivatives)


class Property(NamedTuple):
    """Property of a part of a network or of its training.

    Attributes
    ----------
    part : str
        Part that has the property: "optimizer", "schedule", "loss", "layer" (each layer), "stack" (all layers), "model"
        (layers and loss) or "memmap" (inputs that are converted batch by batch).
    text : str
        Noun phrase for messages.
    holds : callable
        Function that returns whether a part has the property.
    """

    part: str
    text: str
    holds: Callable[[Any], bool]


class Pair(NamedTuple):
    """Pair of arguments, the first of which requires the other one or excludes it.

    Attributes
    ----------
    argument, other : str
        Names of the arguments.
    requires : bool
        Whether `argument` requires `other`. If false, they exclude each other.
    reason, remedy : str
        Middle and end of the message.
    """

    argument: str
    other: str
    requires: bool
    reason: str = ""
    remedy: str = ""


class Need(NamedTuple):
    """Property that an option, an optimizer or a method needs, with the end of the message if it is missing."""

    property: Property
    reason: str = ""
    remedy: str = ""


FIRST_ORDER = Property(
    "optimizer",
    "an optimizer that has a learning rate and trains with batches, such as 'adam'",
    lambda optimizer: optimizer.first_order,
)
WEIGHT_DECAY = Property(
    "optimizer", "an optimizer with weight decay, such as 'adamw'", lambda optimizer: optimizer.decays_weights
)
COUNTS_EPOCHS = Property(
    "schedule", "a schedule that counts epochs", lambda schedule: not getattr(schedule, "counts_steps", False)
)
IGNORES_LOSS = Property(
    "schedule",
    "a schedule that does not depend on the loss",
    lambda schedule: not getattr(schedule, "reads_loss", False),
)
FIXED_LENGTH = Property(
    "schedule",
    "a schedule of a fixed length",
    lambda schedule: not hasattr(schedule, "resolved") or schedule == schedule.resolved(1),
)
IN_MEMORY = Property(
    "memmap", "an array X, or a memmap that needs neither a conversion nor scale_X", lambda memmap: memmap is None
)
NAMED_LOSS = Property("loss", "a named loss, such as 'mse'", lambda loss: isinstance(loss, losses.LossRow))
SINGLE_LOSS = Property("loss", "a network without heads", lambda loss: not isinstance(loss, losses.Composite))
SQUARED_ERROR = Property(
    "loss", f"a squared error ({SQUARED_ERRORS}) as loss", lambda loss: getattr(loss, "squared_error_factor", 0) > 0
)
RESIDUALS = Property(
    "loss",
    f"a squared error ({SQUARED_ERRORS}) or nnc.LeastSquares as loss",
    lambda loss: getattr(loss, "has_residuals", False) or SQUARED_ERROR.holds(loss),
)
WEIGHTED_LOSS = Property(
    "loss",
    "a named loss, such as 'mse', or nnc.LeastSquares",
    lambda loss: getattr(loss, "has_residuals", False) or NAMED_LOSS.holds(loss),
)
SCALED_TARGETS = Property(
    "loss",
    "a loss with targets that can be scaled",
    lambda loss: not _target_types(loss).isdisjoint({"continuous", "output_gradient"}),
)
PROBABILITIES = Property("loss", "a loss with probabilities", lambda loss: "plus_minus_one" not in _target_types(loss))
CLASSES = Property(
    "model",
    "two or more outputs, a sigmoid output or the loss 'hinge'",
    lambda model: (
        model.sizes[-1] > 1
        or activations.ROWS[model.activations[-1]].probability
        or losses.ROWS[model.loss].target_type == "plus_minus_one"
    ),
)
EXCLUSIVE_CLASSES = Property(
    "model",
    "a loss without several binary outputs",
    lambda model: model.sizes[-1] == 1 or losses.ROWS[model.loss].target_type != "multilabel",
)
CLASS_LOSS = Property("model", "a loss for one class per row", lambda model: losses.ROWS[model.loss].is_classification)
ROW_OUTPUTS = Property(
    "stack", "one row of outputs per sequence, not one per step", lambda stack: len(stack.output_shape) == 1
)
NO_OUTPUT_ACTIVATION = Property(
    "stack", "an output layer without activation", lambda stack: stack.activations[-1] == "identity"
)
NO_BATCH_NORM = Property("layer", "a network without BatchNorm", lambda layer: not layer.kind.normalizes)
NO_DROPOUT = Property("layer", "a network without Dropout layers", lambda layer: layer.kind.type != "dropout")
ROW_LAYERS = Property(
    "layer",
    "a network of Dense and Scale layers on rows of features",
    lambda layer: layer.kind.has_higher_derivatives and len(layer.input_shape) == 1,
)
SMOOTH = Property(
    "layer",
    f"smooth activations ({SMOOTH_ACTIVATIONS})",
    lambda layer: activations.ROWS[getattr(layer.kind, "activation", None) or "identity"].has_higher_derivatives,
)
VECTORS = Property(
    "stack",
    "a network without images, convolutions, pools and layers that process sequences step by step",
    lambda stack: not (stack.uses_lanes or stack.has_steps),
)
RECURRENT = Property("stack", "recurrent layers", lambda stack: any(layer.kind.recurrent for layer in stack.layers))
STEP_OUTPUTS = Property("stack", "an output at each step", lambda stack: len(stack.output_shape) == 2)
STEPS = Property(
    "layer",
    "layers that process single steps in their order",
    lambda layer: layer.kind.processes_steps,
)

IDENTITY_HEADS = Property(
    "loss",
    "heads with the output activation 'identity'",
    lambda loss: all(head.output == "identity" for head in getattr(loss, "heads", ())),
)
UNSORTED = Property("loss", "a loss without several quantiles", lambda loss: not getattr(loss, "ordered", False))
NO_SINE = Property(
    "layer", "activations other than 'sin'", lambda layer: getattr(layer.kind, "activation", None) != "sin"
)
NO_LEAKY_CELLS = Property(
    "layer",
    "an activation other than 'leaky_relu' in a SimpleRNN",
    lambda layer: layer.kind.type != "simple_rnn" or layer.kind.activation != "leaky_relu",
)
NO_STEPS = Property(
    "layer",
    "a network without recurrent layers and without a Dense that is applied to each step",
    lambda layer: not (layer.kind.recurrent or (layer.kind.type == "dense" and len(layer.input_shape) == 2)),
)
MLP_LAYERS = Property(
    "layer",
    "a network of Dense, Scale, BatchNorm and Dropout layers on rows of features",
    lambda layer: (layer.kind.type in ("dense", "dropout") or layer.kind.columnwise) and len(layer.input_shape) == 1,
)
DENSE_ACTIVATIONS = Property(
    "stack", "activations only directly after a dense layer", lambda stack: None not in _dense_activations(stack)
)
EQUAL_ACTIVATIONS = Property(
    "stack",
    "one of the activations identity, sigmoid, tanh and relu for all hidden layers",
    lambda stack: {*_dense_activations(stack)[:-1]} in (set(), {"identity"}, {"sigmoid"}, {"tanh"}, {"relu"}),
)
MLP_OUTPUT = Property(
    "model",
    "an identity output, a softmax output, or a sigmoid output with the loss 'bce'",
    lambda model: _has_mlp_output(model.activations[-1], losses.ROWS[model.loss]),
)


def _cells(names: tuple[str, ...]) -> Property:
    """Return the property of layers that a SimpleRNN has one of these activations."""
    return Property(
        "layer",
        f"one of the activations {', '.join(names)} in a SimpleRNN",
        lambda layer: layer.kind.type != "simple_rnn" or layer.kind.activation in names,
    )


def _target_types(loss: Any) -> set[str]:
    """Return the types of the targets of a loss or of its heads, see LossRow."""
    heads = getattr(loss, "heads", None)
    return {getattr(row, "target_type", "continuous") for row in ([loss] if heads is None else [h.row for h in heads])}


def _has_mlp_output(activation: str, loss: losses.LossRow) -> bool:
    """Return whether an estimator of scikit-learn can have this output activation with this loss."""
    if activation == "softmax":
        return loss.target_type != "plus_minus_one"
    return activation == "identity" or (activation == "sigmoid" and loss.is_classification)


def _dense_activations(stack: Any) -> list[str | None]:
    """Return the activation after each dense layer; None is an activation that is not directly after one.

    Only layers without activation may be between a dense layer and its activation.
    """
    found: list[str | None] = []
    for layer in stack.layers:
        activation = getattr(layer.kind, "activation", "identity")
        if layer.kind.type == "dense":
            found.append(activation)
        elif activation != "identity":
            found[-1:] = [activation if found[-1:] == ["identity"] else None]
    return found


_BATCHES = Need(FIRST_ORDER, remedy="leave {use} out")
_DERIVATIVES = (
    Need(SINGLE_LOSS, remedy="use one network for each head"),
    Need(ROW_LAYERS),
    Need(SMOOTH),
)
_SLOPES = (*_DERIVATIVES, Need(SQUARED_ERROR))
_STATISTICS = Need(NO_BATCH_NORM, "whose running statistics would include rejected steps", "use another optimizer")
_HEADS = Need(SINGLE_LOSS, remedy="use the outputs of each head, net.heads.split(net.predict(X))")
_WEIGHTS = "pass weights for a custom loss as a column of y"
_EXPORT = Need(IDENTITY_HEADS, remedy="use one network for each head")

# Exports, with their needs in the order of the checks.
EXPORTS: dict[str, tuple[Need, ...]] = {
    **dict.fromkeys(("an export", "to_c", "to_python", "to_js"), (_EXPORT,)),
    "to_c with dtype='int8'": (_EXPORT, Need(NO_STEPS, remedy="use dtype='float32'")),
    "to_onnx": (_EXPORT, Need(_cells(("tanh", "relu", "sigmoid")))),
    "to_torch": (_EXPORT, Need(_cells(("tanh", "relu")))),
    "nnc.to_keras": (
        _EXPORT,
        Need(NO_LEAKY_CELLS, "whose slope for negative inputs is 0.2 in Keras and 0.01 in nnc"),
        Need(NO_SINE, "because Keras has no sine"),
        Need(UNSORTED, "because Keras has no layer for sorting"),
    ),
    "to_sklearn": (
        _EXPORT,
        *(Need(row) for row in (MLP_LAYERS, UNSORTED, DENSE_ACTIVATIONS, EQUAL_ACTIVATIONS, MLP_OUTPUT)),
    ),
    "skl2onnx": (Need(UNSORTED, remedy="use network_.to_onnx(path), which exports all quantiles"),),
}

# Options of `fit`, options of layers, optimizers and methods, with their needs in the order of the checks.
NEEDS: dict[str, tuple[Need, ...]] = {
    **EXPORTS,
    **dict.fromkeys(("lr", "batch_size", "clip_norm", "clip_value", "max_norm"), (_BATCHES,)),
    "l1": (Need(FIRST_ORDER, remedy="use l2"),),
    "weight_decay": (Need(WEIGHT_DECAY, remedy="use l2"),),
    "dropout": (
        Need(FIRST_ORDER, remedy="use l2"),
        Need(NO_DROPOUT, remedy="set the rates of these layers"),
        Need(NO_BATCH_NORM, remedy="use Dropout layers"),
    ),
    "a layer with dropout": (Need(FIRST_ORDER, remedy="use l2"),),
    "lr_factor": (Need(FIRST_ORDER, remedy="set lr_factor and bias_lr_factor of all layers to 1"),),
    "metrics": (Need(SINGLE_LOSS, remedy="compute them in a callback"),),
    "sample_weight": (Need(WEIGHTED_LOSS, remedy=_WEIGHTS),),
    "sample_weight of batches or folds": (Need(NAMED_LOSS, remedy=_WEIGHTS),),
    "dY": (
        *_SLOPES,
        Need(NO_DROPOUT, "because a mask has no derivative", "use l2 or weight_decay"),
        Need(IN_MEMORY, remedy="convert it to an array first"),
    ),
    "sample_weight of nnc.LeastSquares": (Need(IN_MEMORY, remedy="convert it to an array first"),),
    "a fit without epochs": (Need(FIXED_LENGTH, remedy="set its epochs"),),
    "check_gradients with dY": _SLOPES,
    "truncate": (
        Need(RECURRENT),
        Need(STEPS),
        Need(STEP_OUTPUTS, remedy="set return_sequences=True in all recurrent layers"),
        Need(NAMED_LOSS, "because outputs for a custom loss are computed without the states of the previous chunk"),
        _BATCHES,
    ),
    "optimizer='lbfgs'": (_STATISTICS,),
    "optimizer='levenberg_marquardt'": (
        _STATISTICS,
        Need(VECTORS, remedy="use another optimizer"),
        Need(RESIDUALS, remedy="use another optimizer"),
    ),
    "a custom loss": (
        Need(
            NO_BATCH_NORM,
            "whose outputs in a training step differ from those of predict",
            "choose a named loss or remove BatchNorm",
        ),
    ),
    "a loss with heads or quantiles": (
        Need(ROW_OUTPUTS, remedy="use a function or a named loss with one output per target"),
        Need(NO_OUTPUT_ACTIVATION, "because each head has its own activation", "leave output out"),
    ),
    "scale_y": (Need(SCALED_TARGETS, remedy="leave scale_y out"),),
    "fit_batches": (
        Need(FIRST_ORDER, remedy="use another optimizer, or call fit"),
        Need(COUNTS_EPOCHS, "because the number of batches of an epoch is unknown", "pass a schedule without PerStep"),
    ),
    "a sparse X": (Need(COUNTS_EPOCHS, remedy="pass a schedule without PerStep, or a dense X"),),
    "a single step": (Need(FIRST_ORDER, remedy="use another optimizer, or call fit"),),
    "a step from gradients": (
        Need(NO_BATCH_NORM, "because gradients do not contain its running statistics", "use train_step(X, y)"),
        Need(IGNORES_LOSS, remedy="pass a number or another schedule"),
    ),
    "dP": (Need(NO_BATCH_NORM, "whose outputs in a training step differ from those of predict", "pass y"),),
    "derivatives": _DERIVATIVES,
    "nnc.pde.Problem": _DERIVATIVES,
    "parameter_jacobian": tuple(
        Need(row, remedy="use vjp, which supports all layers") for row in (VECTORS, NO_BATCH_NORM)
    ),
    "predict_classes": (_HEADS, Need(CLASSES)),
    "predict_proba": (_HEADS, Need(PROBABILITIES, remedy="predict returns margins")),
    "conformal": (Need(EXCLUSIVE_CLASSES), Need(ROW_OUTPUTS)),
    "class_weight": (Need(CLASS_LOSS), Need(EXCLUSIVE_CLASSES), Need(ROW_OUTPUTS)),
    "score": (_HEADS,),
    "nnc.compare": (Need(NO_DROPOUT, "because the plain-Python reference has none"),),
    "explain_step": (
        Need(NAMED_LOSS, remedy="explain a network with a similar named loss"),
        Need(NO_BATCH_NORM, "whose output for a row depends on the other rows", "use check_gradients"),
    ),
}

# Pairs of arguments of functions that exclude or require each other.
PAIRS: dict[str, tuple[Pair, ...]] = {
    "fit": (
        Pair("dropout", "dY", False, "because a mask has no derivative", "use l2 or weight_decay"),
        Pair("dY_weight", "dY", True),
        Pair("warm_up", "truncate", True),
        Pair("min_delta", "patience", True),
        Pair("verbose", "progress", False),
    ),
    "fit_many": (Pair("n_jobs", "executor", False, "which has its own workers"),),
    "MLPRegressor.fit": (
        Pair("X_val", "y_val", True, remedy="pass both"),
        Pair("y_val", "X_val", True, remedy="pass both"),
        Pair("sample_weight_val", "X_val", True),
        Pair("dY_weight", "dY", True),
    ),
    "to_c": (Pair("calibrate", "dtype='int8'", True), Pair("validation", "dtype='int8'", True)),
}


# Text for messages of each part.
DESCRIPTIONS: dict[str, Callable[[Any], str]] = {
    "optimizer": lambda optimizer: repr(optimizer.name),
    "schedule": repr,
    "loss": lambda loss: (
        repr(loss.name) if NAMED_LOSS.holds(loss) else str(loss) if SINGLE_LOSS.holds(loss) else f"heads ({loss})"
    ),
    "layer": lambda layer: f"{layer.name} ({layer.kind!r})",
    "stack": lambda stack: repr([layer.kind for layer in stack.layers]),
    "memmap": lambda memmap: f"a memmap of {memmap.dtype}",
    "model": lambda model: (
        f"{pluralize(model.sizes[-1], f'{model.activations[-1]} output')} and the loss {model.loss!r}"
    ),
}


def check(use: str, model: Any = None, **parts: Any) -> None:
    """Raise ValueError if an option, an optimizer or a method needs a property that a part does not have.

    Parameters
    ----------
    use : str
        A key of NEEDS.
    model : Model, optional
        Network with the loss and the layers to check.
    **parts
        Other parts to check, by the names of Property.part: "optimizer" and "schedule" of the training, the "stack" of
        layers if there is no model yet, or a "memmap". None stands for a part that does not exist.
    """
    if model is not None:
        parts |= {"loss": loss_of(model), "stack": model.stack, "model": model}
    stack = parts.get("stack")
    for (part_name, text, holds), reason, remedy in NEEDS[use]:
        layers = () if stack is None else stack.layers
        for part in layers if part_name == "layer" else (parts.get(part_name),):
            if part is not None and not holds(part):
                because = reason and f", {reason}"
                instead = remedy and f"; {remedy.format(use=use)}"
                raise ValueError(f"{use} requires {text}{because}, got {DESCRIPTIONS[part_name](part)}{instead}")


def check_arguments(pairs: Iterable[Pair], arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise ValueError if an argument excludes or requires another one.

    Parameters
    ----------
    pairs : iterable of Pair
        Pairs to check.
    arguments : mapping
        Arguments by name. Those that are missing are not passed.
    defaults : mapping
        Defaults of the arguments. The default None may be missing.
    """
    given = given_arguments(arguments, defaults)
    for name, other, requires, reason, remedy in pairs:
        if name in given and (other in given) != requires:
            because = reason and f", {reason}"
            instead = remedy and f"; {remedy}"
            relation = "without" if requires else "with"
            found = short_repr(arguments[name])
            raise ValueError(f"{name} must be left out {relation} {other}{because}, got {found}{instead}")


def given_arguments(arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that were given, by name; `is_given` decides. The default None may be missing."""
    return {name: value for name, value in arguments.items() if is_given(value, defaults.get(name))}


def is_given(value: Any, default: Any) -> bool:
    """Return whether an argument was given: whether its value differs from its default.

    Only numbers and texts are compared. A list is given if any of its elements is.
    """
    if isinstance(value, (list, tuple)):
        return any(is_given(element, default) for element in value)
    return value is not default and not (isinstance(value, (Number, str)) and value == default)


def loss_of(model: Any) -> Any:
    """Return the loss of a model: the row of a named loss, a custom loss, or heads."""
    if model.heads is not None:
        return model.heads.definition
    return model.custom or losses.ROWS[model.loss]
