"""Documents: networks as dictionaries of plain Python values, and their validation.

nnc.NeuralNetwork and nnc.reference use the same documents. As JSON, a document is::

    {"format": "nnc-network", "version": 1, "dtype": "float64", "loss": "sse",
     "loss_parameter": null, "seed": 0, "shuffle_position": 0, "dropout_position": 0,
     "classes": ["no", "yes"], "scale_X": {"type": "standardize", "shift": [3 numbers], "factor": [3 numbers]},
     "scale_y": null,
     "layers": [{"type": "dense", "n_in": 3, "n_out": 4, "activation": "sigmoid",
                 "W": [[4 numbers], [4 numbers], [4 numbers]], "b": [4 numbers] or null}, ...],
     "self_test": {"X": [3 numbers], "P": [1 number]},
     "training": null,
     "sha256": "64 hexadecimal digits"}

docs/file-format.md describes all members, and the layers of images and sequences. Some members need more explanation:

`shuffle_position`, `dropout_position`
    Number of random numbers that training has drawn from these two streams (default 0).
`scale_X`, `scale_y`
    Scaling of each column of the inputs or targets: scaled = (raw - shift) * factor. The types "standardize" and
    "minmax" name the method that computed shift and factor. {"type": "pixels", "shift": 0.0, "factor":
    0.00392156862745098} has one shift and one factor, 1 / 255, for all columns.
`dropout`, `learning`, `feature_names`, `settings`, `training_images`
    Members that later versions of nnc added. Older versions ignore them. The checksum of older files
    does not include them.
`learning`
    Options of each parametric layer, or null for the defaults: {"trainable": false, "lr_factor": 0.1, "bias_lr_factor":
    0.1}. Options with default values (true, 1.0, 1.0) are omitted. In a checkpoint, "missed_steps" is the number of
    steps in which the layer was frozen.
`settings`
    Settings of the last fit, which summaries show: {"preset": "auto" or "plain", "optimizer": {"name": "adam", its
    options}, "lr": null, a number, a schedule or the name of a user's function or class, "batch_size": 32, "epochs": 20
    or null, "selection": null or a text that describes the settings that validation selected}. No prediction and no
    later training depends on them. Unknown members are ignored.
`training_images`
    Ranges of properties of the training images, from their 5 % to their 95 % quantile: {"longer_side": [28, 28],
    "aspect_ratio": [1, 1], "contrast": [15, 55]}. The first two are those of the image files, before scaling: the
    longer side in pixels, and width / height. The contrast is the mean minus the median of the border, in gray levels.
    No prediction depends on them. Unknown members are ignored.
`training`
    Training state of a checkpoint: {"optimizer": {"name": "adam", its options}, "steps": 0, "powers": [3 numbers],
    "epoch": 0, "schedule": null or {"name": ..., options}, "moments": [a vector of all parameters, ...], "history":
    {"loss": [...], "lr": [...], "seconds": [...], other columns by name}}. In the other columns, null stands for
    numbers that are not finite. A schedule named "function" was a user's function, or an object of a user's class,
    which is not saved. "by_rule": true means that nnc chose the optimizer, the learning rate and the batch size;
    otherwise this member is missing. "max_epochs" is the limit for the number of epochs, if validation selected this
    number. "damping" is the current damping of Levenberg-Marquardt, whose options contain the initial one. In older
    files, the options contain the current damping.

`dtype`, `loss` and `layers` are required. All other members may be missing or null, which means their default. Unknown
members of the document are ignored. Everything else is validated on reading and on writing: a document that was read
needs no further checks, and every file that is written can be read.

In version 1 of the format all layers are dense, and either all or none have a bias. Version 2 has no such restriction.
If a network has layers other than Dense and Dropout, `layers` contains all its layers, and the shapes follow from the
input shape. The first layer is then {"type": "input", "shape": [28, 28, 1]}, and the last layer is dense. A file has
the lowest version that can express its content.

An ensemble is {"format": "nnc-ensemble", "version": 1, "networks": [documents], "sha256": ...}. A table model is
{"format": "nnc-table", "version": 1, "table": {...}, "networks": [documents], "sha256": ...}, where nnc/tabular/file.py
describes `table`. A forecast model has "format": "nnc-forecast", and "forecast" in place of "table", which
nnc/forecast/file.py describes. These checksums are the SHA-256 of the concatenated checksums of the networks, preceded
by the checksum of "table" or "forecast" if there is one.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

from nnc._registry import activations, losses
from nnc._registry.heads import Heads
from nnc._serialization.training import COUNTER_BITS, checked_settings, checked_training
from nnc._utils import fields
from nnc._utils.fields import MAX_FINITE
from nnc.layers import Dense, Input, layer_classes_by_type
from nnc.layers.base import LEARNING_DEFAULTS
from nnc.layers.stack import FROZEN_STEPS_KEY

if TYPE_CHECKING:
    from typing import Any

    from nnc.layers.base import Layer, Shape

FORMAT = "nnc-network"
# Members "format" and "version" in files of ensembles and table models, which contain several networks.
CONTAINER_HEADERS: dict[str, dict[str, Any]] = {
    "ensemble": {"format": "nnc-ensemble", "version": 1},
    "table model": {"format": "nnc-table", "version": 1},
    "forecast model": {"format": "nnc-forecast", "version": 1},
}
BODY_KEYS = {"table model": "table", "forecast model": "forecast"}  # member with the content other than networks
# Name of each kind of model with an indefinite article, for messages.
WITH_ARTICLE = {
    "network": "a network",
    "ensemble": "an ensemble",
    "table model": "a table model",
    "forecast model": "a forecast model",
    "model": "a model",
}
# Description of the content of each file format, for messages.
FORMAT_CONTENTS = {
    FORMAT: "a single network",
    "nnc-ensemble": "an ensemble of networks",
    "nnc-table": "a table model",
    "nnc-forecast": "a forecast model",
}
LATEST_VERSION = 2  # latest format version of networks; a file has version 1 if version 1 can express its content
IMAGE_RANGE_KEYS = ("longer_side", "aspect_ratio", "contrast")  # members of "training_images"
CHECK_FILE = "check that it is the right file"  # end of error messages about files with unexpected content
EDIT_REMEDY = "correct it there, or save the network again"  # end of messages about invalid JSON members


class ModelFileError(OSError, ValueError):
    """Error for a file or JSON text that does not contain a network that this version of nnc can use."""


# -------------------------------------------------------------------------------------------- validation
# The functions below raise ValueError with the location of the error and the reason. The functions in
# nnc/_serialization/text.py add the failed action and a remedy to the message.


def detect_content(document: Any) -> str:
    """Return the kind of a document, "network" or a key of CONTAINER_HEADERS; raise ValueError for other content."""
    _check_object(document, "model")
    formats = {"network": FORMAT, **{content: header["format"] for content, header in CONTAINER_HEADERS.items()}}
    for content, name in formats.items():
        if document.get("format") == name:
            return content
    actual, expected = _shown_member(document, "format"), ", ".join(f'"{name}"' for name in FORMAT_CONTENTS)
    raise ValueError(f"the content is not a model of nnc: format is {actual}, expected one of {expected}; {CHECK_FILE}")


def check_network_header(document: Any) -> None:
    """Raise ValueError unless the members "format" and "version" are those of a network in a supported version."""
    _check_object(document, "network")
    _refuse_other_format(document, FORMAT)
    if document.get("format") != FORMAT:
        actual = _shown_member(document, "format")
        raise ValueError(f'the content is not a network of nnc: format is {actual}, expected "{FORMAT}"; {CHECK_FILE}')
    version = document.get("version")
    if type(version) is not int or version < 1:
        actual = _shown_member(document, "version")
        raise ValueError(f"version is {actual}, expected a whole number from 1 to {LATEST_VERSION}; {EDIT_REMEDY}")
    if version > LATEST_VERSION:
        raise ValueError(
            f"the content was written by a later version of nnc: its format version is {version}, and the latest "
            f"supported version is {LATEST_VERSION}; install a later version of nnc"
        )


def read_networks(document: Any, content: str) -> list[Any]:
    """Return the documents, not yet validated, of the networks in an ensemble, a table model or a forecast model.

    Raise ValueError if the document has another format than `content`, or its version is not supported.
    """
    _check_object(document, content)
    header = CONTAINER_HEADERS[content]
    _refuse_other_format(document, header["format"])
    for name, expected in header.items():
        if type(document.get(name)) is not type(expected) or document[name] != expected:
            actual = _shown_member(document, name)
            raise ValueError(f"the content is not a supported {content}: {name} is {actual}, expected {expected!r}")
    networks: list[Any] = fields.member(document, "networks", list)
    if not networks and content != "forecast model":  # a forecast model may have no corrections
        raise ValueError(f"networks is empty, expected at least one network; {EDIT_REMEDY}")
    return networks


def _check_object(document: Any, content: str) -> None:
    """Raise ValueError unless a document is a JSON object."""
    if type(document) is not dict:
        raise ValueError(f"the content is {fields.describe(document)}, expected {WITH_ARTICLE[content]}; {CHECK_FILE}")


def _shown_member(document: dict[str, Any], name: str) -> str:
    """Return the value of a document's member as text for an error message; "missing" if it does not exist."""
    return fields.describe(document[name]) if name in document else "missing"


def _refuse_other_format(document: dict[str, Any], expected: Any) -> None:
    """Raise ValueError if the format of a document is a format of nnc, but not the expected one."""
    name = document.get("format")
    if type(name) is str and name != expected and name in FORMAT_CONTENTS:
        raise ValueError(f"the content is {FORMAT_CONTENTS[name]}; load it with nnc.load")


def validated_document(document: dict[str, Any]) -> dict[str, Any]:
    """Return a validated copy of a document without unknown members; raise ValueError if it is not valid."""
    dtype = fields.choice(document, "dtype", tuple(MAX_FINITE))
    loss = fields.choice(document, "loss", losses.ENGINE_LOSSES)
    layers, output_shape = _checked_layers(fields.member(document, "layers", list), loss, MAX_FINITE[dtype])
    version = _lowest_version(layers)
    has_input_layer = layers[0]["type"] == Input.type
    if document.get("version") == 1 < version:
        if has_input_layer:
            raise ValueError(
                'layers[0].type must be "dense" in a file of version 1, got "input", which requires version 2'
            )
        i = next(i for i, (a, b) in enumerate(pairwise(layers)) if (a["b"] is None) != (b["b"] is None))
        raise ValueError(
            f"layers[{i}].b and layers[{i + 1}].b must both be null or both be arrays in a file of version 1, got one "
            "null"
        )
    n_in, n_out = _count_inputs(layers), prod(output_shape)
    n_params = sum(sum(map(len, layer["W"])) + _count_biases(layer["b"]) for layer in layers if "W" in layer)
    training = checked_training(document.get("training"), n_params, MAX_FINITE[dtype])
    checked = {
        "format": FORMAT,
        "version": version,
        "dtype": dtype,
        "loss": loss,
        "loss_parameter": _checked_loss_parameter(document.get("loss_parameter"), loss),
        "loss_function": _checked_loss_function(document, loss),
        "heads": _checked_heads(document.get("heads"), loss, layers[-1]),
        "seed": fields.unsigned(document, "seed", None),
        "shuffle_position": fields.unsigned(document, "shuffle_position", 0),
        "dropout_position": fields.unsigned(document, "dropout_position", 0),
        "classes": _checked_classes(document.get("classes"), output_shape),
        "scale_X": _checked_scale(document.get("scale_X"), n_in, "scale_X", "n_in"),
        "scale_y": _checked_scale(document.get("scale_y"), n_out, "scale_y", "n_out"),
        "layers": layers,
        "dropout": _checked_dropout(document.get("dropout"), None if has_input_layer else len(layers) - 1),
        "learning": _checked_learning(
            document.get("learning"), [layer["type"] for layer in layers if "W" in layer], training
        ),
        "feature_names": _checked_names(document.get("feature_names"), n_in),
        "settings": checked_settings(document.get("settings")),
        "self_test": _checked_self_test(document.get("self_test"), n_in, n_out),
        "training": training,
    }
    if (problem := _checked_problem(document.get("problem"), layers)) is not None:
        checked["problem"] = problem
    if (images := _checked_image_ranges(document.get("training_images"))) is not None:
        checked["training_images"] = images
    return checked


def _checked_problem(problem: Any, layers: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return a validated copy of the member "problem", the state of equations on which the network is trained."""
    if problem is None:
        return None
    where = "problem."
    fields.json_object(problem, "problem")
    fields.check_keys(problem, ("coefficients", "moments", "points"), "problem")
    coefficients = fields.member(problem, "coefficients", dict, where=where)
    moments, points = (
        fields.member(problem, "moments", list, where=where),
        fields.member(problem, "points", dict, where=where),
    )
    return {
        "coefficients": {name: fields.number(value, f"{where}coefficients") for name, value in coefficients.items()},
        "moments": fields.matrix(
            moments,
            len(coefficients),
            lambda i: f"{where}moments[{i}]",
            "the number of coefficients",
            MAX_FINITE["float64"],
        ),
        "points": {
            name: fields.matrix(
                rows, _count_inputs(layers), lambda i: f"{where}points[{i}]", "n_in", MAX_FINITE["float64"]
            )
            for name, rows in points.items()
        },
    }


def _checked_image_ranges(images: Any) -> dict[str, list[float]] | None:
    """Return a validated copy of the member "training_images", the ranges of properties of the training images."""
    if images is None:
        return None
    where = "training_images."
    fields.json_object(images, "training_images")
    return {
        key: fields.vector(fields.member(images, key, list, where=where), 2, where + key) for key in IMAGE_RANGE_KEYS
    }


def _count_inputs(layers: list[dict[str, Any]]) -> int:
    """Return the number of inputs of a network."""
    first = layers[0]
    return prod(n or 1 for n in first["shape"]) if first["type"] == Input.type else int(first["n_in"])


def _count_biases(b: Any) -> int:
    """Return the number of biases of a layer; b is a vector, a matrix (GRU) or None."""
    return 0 if b is None else sum(len(row) for row in b) if hasattr(b[0], "__len__") else len(b)


def _lowest_version(layers: list[dict[str, Any]]) -> int:
    """Return the lowest version of the file format that can express the layers of a document."""
    return 1 if len({layer.get("b") is None for layer in layers}) == 1 and layers[0]["type"] == Dense.type else 2


def _checked_layers(members: list[Any], loss: str, largest: float) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
    """Return validated copies of the descriptions of all layers, and the output shape of the last layer."""
    if not members:
        raise ValueError("layers is empty, expected at least one layer")
    has_input_layer = type(members[0]) is dict and members[0].get("type") == Input.type
    layer_classes = layer_classes_by_type() if has_input_layer else {Dense.type: Dense}
    layers: list[dict[str, Any]] = []
    shape: tuple[int, ...] = ()  # output shape of the previous layer; () for the first layer
    for i, layer in enumerate(members):
        where = f"layers[{i}]"
        name = fields.choice(fields.json_object(layer, where), "type", tuple(layer_classes), where + ".")
        if name == Input.type and i:
            raise ValueError(f'{where}.type is "{name}", expected another type: only the first layer may be an input')
        layers.append(layer_classes[name].check_document(layer, where))
        shape = _check_shapes(layers[-1], where, shape, largest)
    if layers[-1]["type"] != Dense.type:
        raise ValueError(f'{where}.type is "{name}", expected "{Dense.type}" for the last layer')
    problem = losses.explain_mismatch([layer["activation"] for layer in layers if "activation" in layer], loss)
    if problem:
        raise ValueError(problem)
    output = layers[-1]["activation"]
    if layers[-1]["n_out"] == 1 and not activations.ROWS[output].elementwise:
        raise ValueError(f'{where}.n_out is 1, expected at least 2 for the activation "{output}"')
    return layers, shape


def _check_shapes(layer: dict[str, Any], where: str, input_shape: tuple[int, ...], largest: float) -> tuple[int, ...]:
    """Validate the arrays of a layer, and return its output shape.

    The expected sizes of the arrays follow from the input shape, so a wrong size in a document allocates no memory.
    """
    layer_object = layer_classes_by_type()[layer["type"]].from_dict(layer)
    if isinstance(layer_object, Dense) and len(input_shape) < 3:
        n_in = layer["n_in"]
        input_shape = input_shape or (n_in,)
        if n_in != input_shape[-1]:
            raise ValueError(f"{where}.n_in is {n_in}, expected {input_shape[-1]} for rows of shape {input_shape}")
    try:
        output_shape = layer_object.output_shape(input_shape)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    for array in (*layer_object.parameter_arrays(input_shape), *layer_object.statistics(input_shape)):
        name, location, (*rows, n) = array.name, f"{where}.{array.name}", array.shape
        row_dimension, column_dimension = layer_object.matrix_axes
        if rows and len(layer[name]) != rows[0]:
            n_rows = len(layer[name])
            raise ValueError(
                f"{location} has the wrong shape: {n_rows} rows found, {rows[0]} expected ({row_dimension})"
            )
        if rows:
            layer[name] = fields.matrix(layer[name], n, f"{location}[{{}}]".format, column_dimension, largest)
        else:
            layer[name] = fields.vector(layer[name], n, location, column_dimension, largest)
    if layer_object.normalizes and min(layer["running_var"]) < 0:
        raise ValueError(f"{where}.running_var has {min(layer['running_var'])}, expected variances of at least 0")
    return output_shape


def _checked_dropout(dropout: Any, n_hidden: int | None) -> list[float | None] | None:
    """Return a validated copy of the Dropout rates of `n_hidden` hidden layers.

    `n_hidden` is None for networks that have Dropout layers instead; their document has no such rates.
    """
    if dropout is None:
        return None
    actual = fields.describe(dropout)
    if n_hidden is None:
        hint = "networks with an Input layer have Dropout layers instead"
        raise ValueError(f"dropout is {actual}, expected null; {hint}")
    if type(dropout) is not list or len(dropout) != n_hidden:
        raise ValueError(f"dropout is {actual}, expected a list of {n_hidden}, one item for each hidden layer")
    for i, rate in enumerate(dropout):
        if rate is not None and not 0 <= fields.number(rate, f"dropout[{i}]") < 1:
            raise ValueError(f"dropout[{i}] is {fields.describe(rate)}, expected null or a number from 0 to below 1")
    return [None if rate is None else float(rate) for rate in dropout]


def _checked_learning(
    learning: Any, types: list[str], training: dict[str, Any] | None
) -> list[dict[str, Any] | None] | None:
    """Return a validated copy of the learning options, one item per parametric layer; `types` are the layer types."""
    if learning is None:
        return None
    n = len(types)
    if type(learning) is not list or len(learning) != n:
        raise ValueError(f"learning is {fields.describe(learning)}, expected a list of {n}, one item for each layer")
    steps, layer_classes = 0 if training is None else training["steps"], layer_classes_by_type()
    return [
        None if options is None else _checked_options(options, f"learning[{i}]", layer_classes[name], steps)
        for i, (options, name) in enumerate(zip(learning, types, strict=True))
    ]


def _checked_options(options: Any, where: str, layer_class: type[Layer], steps: int) -> dict[str, Any]:
    """Return a validated copy of the learning options of one layer; `steps` is the number of steps of the network."""
    choices = [key for key in LEARNING_DEFAULTS if key in layer_class._fields]
    for key in fields.json_object(options, where):
        if key not in (*choices, FROZEN_STEPS_KEY):
            raise ValueError(f"{where} has the unknown key {fields.describe(key)}, expected {', '.join(choices)}")
    checked_members: dict[str, Any] = {}
    for key, value in options.items():
        location = f"{where}.{key}"
        if key == FROZEN_STEPS_KEY:
            checked_members[key] = fields.unsigned(options, key, 0, where + ".", COUNTER_BITS)
            if checked_members[key] > steps:
                raise ValueError(f"{location} is {value}, expected at most training.steps, which is {steps}")
        elif key == "trainable":
            checked_members[key] = fields.member(options, key, bool, where=where + ".")
        elif not fields.number(value, location) > 0:
            raise ValueError(f"{location} is {fields.describe(value)}, expected a number above 0")
        else:
            checked_members[key] = float(value)
    return checked_members


def _checked_loss_parameter(value: Any, loss: str) -> float | None:
    """Return the validated parameter of a loss, or its default value; None if the loss has no parameter."""
    loss_class = losses.ROWS[loss].parameter
    if loss_class is None:
        if value is not None:
            choices = ", ".join(losses.DEFAULT_PARAMETERS)
            expected = f'null for loss "{loss}"; only {choices} have a parameter'
            raise ValueError(f"loss_parameter is {fields.describe(value)}, expected {expected}")
        return None
    if value is None:
        return loss_class().parameter
    number = fields.number(value, "loss_parameter")
    try:
        return loss_class.of(number).parameter
    except ValueError:
        expected = f'{loss_class.parameter_text} for loss "{loss}"'
        raise ValueError(f"loss_parameter is {fields.describe(value)}, expected {expected}") from None


def _checked_loss_function(document: dict[str, Any], loss: str) -> str | None:
    """Return the name of the custom loss function; None for other losses and for networks with heads."""
    name, is_required = document.get("loss_function"), loss == losses.CUSTOM and document.get("heads") is None
    if type(name) is str if is_required else name is None:
        return name
    if is_required:
        expected = "the name of a function"
    else:
        expected = f'null for loss "{loss}"' + " with heads" * (loss == losses.CUSTOM)
    raise ValueError(f"loss_function is {'missing' if name is None else fields.describe(name)}, expected {expected}")


def _checked_heads(members: Any, loss: str, last: dict[str, Any]) -> dict[str, Any] | None:
    """Return a validated copy of the heads of a network; `last` is the description of its last layer."""
    if members is None:
        return None
    if loss != losses.CUSTOM:
        raise ValueError(f'heads is {fields.describe(members)}, expected null for loss "{loss}"')
    if last["activation"] != "identity":
        expected = f'null for the output activation "{last["activation"]}"'
        raise ValueError(f"heads is {fields.describe(members)}, expected {expected}")
    # Files contain the member "ordered" only if the heads are ordered.
    has_ordered = "ordered" in fields.json_object(members, "heads")
    fields.check_keys(members, ("heads", "missing", *(("ordered",) * has_ordered)), "heads")
    heads: list[dict[str, Any]] = []
    for i, head in enumerate(fields.member(members, "heads", list, where="heads.")):
        where = f"heads.heads[{i}]"
        fields.check_keys(head, ("n", "loss", "loss_parameter", "weight", "output"), where)
        loss_name = fields.choice(head, "loss", losses.NAMES, where + ".")
        checked_head = {
            "n": fields.unsigned(head, "n", 0, where + "."),
            "loss": loss_name,
            "loss_parameter": _checked_loss_parameter(head["loss_parameter"], loss_name),
            "weight": fields.number(head["weight"], where + ".weight"),
            "output": fields.choice(head, "output", activations.NAMES, where + "."),
        }
        try:
            Heads.from_dict({"heads": [checked_head], "missing": False})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where} is not a valid head: {error}") from None
        heads.append(checked_head)
    if sum(head["n"] for head in heads) != last["n_out"]:
        total = sum(head["n"] for head in heads)
        raise ValueError(f"heads have {total} outputs in total, expected {last['n_out']} (n_out)")
    checked_members = {"heads": heads, "missing": fields.member(members, "missing", bool, where="heads.")}
    if has_ordered:
        checked_members["ordered"] = fields.member(members, "ordered", bool, where="heads.")
        if len({head["n"] for head in heads}) > 1:
            widths = [head["n"] for head in heads]
            raise ValueError(f"heads have {widths} outputs (n), expected equal numbers if heads.ordered is present")
    return checked_members


def _checked_classes(classes: Any, output_shape: Shape) -> list[Any] | None:
    """Return a validated copy of the class labels of a network with outputs (n_out,), or (steps, n_out)."""
    if classes is None:
        return None
    if type(classes) is not list:
        raise ValueError(f"classes is {fields.describe(classes)}, expected a list or null")
    n_out = output_shape[-1]
    n, reason = (2, "because n_out is 1") if n_out == 1 else (n_out, "n_out")
    if len(classes) != n:
        raise ValueError(f"classes has {len(classes)} items, expected {n} ({reason})")
    return fields.labels(classes, "classes")


def _checked_scale(scale: Any, n: int, where: str, dimension: str) -> dict[str, Any] | None:
    """Return a validated copy of the scaling of `n` columns; `dimension` is the name of n in messages."""
    if scale is None:
        return None
    fields.check_keys(scale, ("type", "shift", "factor"), where)
    scaling_type = fields.choice(scale, "type", ("standardize", "minmax", "pixels"), where + ".")
    shift: Any
    factor: Any
    if scaling_type == "pixels":
        shift, factor = (fields.number(scale[key], f"{where}.{key}") for key in ("shift", "factor"))
        if factor == 0:
            raise ValueError(f"{where}.factor is 0, expected a number that is not 0")
        return {"type": scaling_type, "shift": shift, "factor": factor}
    shift, factor = (
        fields.vector(fields.member(scale, key, list, where=where + "."), n, f"{where}.{key}", dimension)
        for key in ("shift", "factor")
    )
    if 0.0 in factor:
        raise ValueError(f"{where}.factor[{factor.index(0.0)}] is 0, expected a number that is not 0")
    return {"type": scaling_type, "shift": shift, "factor": factor}


def _checked_names(names: Any, n_in: int) -> list[str] | None:
    """Return a validated copy of the names of the `n_in` inputs."""
    if names is None:
        return None
    if type(names) is not list or len(names) != n_in or not set(map(type, names)) <= {str}:
        raise ValueError(f"feature_names is {fields.describe(names)}, expected a list of {n_in} strings (n_in)")
    if len(set(names)) < n_in:
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"feature_names has {fields.describe(duplicate)} twice, expected distinct names")
    return list(names)


def _checked_self_test(test: Any, n_in: int, n_out: int) -> dict[str, Any] | None:
    """Return a validated copy of a self-test: a row of inputs X and its expected outputs P."""
    if test is None:
        return None
    fields.check_keys(test, ("X", "P"), "self_test")
    return {
        key: fields.vector(fields.member(test, key, list, where="self_test."), n, f"self_test.{key}", dimension)
        for key, n, dimension in (("X", n_in, "n_in"), ("P", n_out, "n_out"))
    }
