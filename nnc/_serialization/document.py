"""What a document holds: a network as a dict of plain Python values, for the engine and the reference alike.

As JSON writes it::

    {"format": "nnc-network", "version": 1, "dtype": "float64", "loss": "sse",
     "loss_parameter": null, "seed": 0, "shuffle_position": 0, "dropout_position": 0,
     "classes": ["no", "yes"], "scale_X": {"type": "standardize", "shift": [3 numbers], "factor": [3 numbers]},
     "scale_y": null,
     "layers": [{"type": "dense", "n_in": 3, "n_out": 4, "activation": "sigmoid",
                 "W": [[4 numbers], [4 numbers], [4 numbers]], "b": [4 numbers] or null}, ...],
     "self_test": {"X": [3 numbers], "P": [1 number]},
     "training": null,
     "sha256": "64 hexadecimal digits"}

`loss_parameter`
    That of huber (delta, missing: 1.0), quantile (tau, 0.5) or cross_entropy (label smoothing, 0.0).
`loss_function`
    The name of the user's function, where `loss` is "custom"; missing for all others. The function is not here.
`heads`
    In place of that the heads, {"heads": [{"n": 1, "loss": "mse", "loss_parameter": null, "weight": 1.0, "output":
    "identity"}, ...], "missing": false}: each has the next n outputs, whose activation is `output` (that of the last
    layer is "identity"). Where `missing` is true, NaN stands for no target. "ordered": true, which is left out
    otherwise, means that predictions of the heads, which have the same n, are sorted.
`shuffle_position`, `dropout_position`
    How many numbers of its random streams training has used (missing: 0).
`classes`
    What the outputs stand for: strings, whole numbers, booleans or floats, all different, one an output; two for
    a single output.
`scale_X`, `scale_y`
    scaled = (raw - shift) * factor, by column of the inputs or outputs; "standardize" or "minmax" says how shift
    and factor were found. In {"type": "pixels", "shift": 0.0, "factor": 0.00392156862745098}, which is 1 / 255, one
    number is for all columns.
`dropout`
    The rate of the Dropout behind each hidden layer, or null where there is none; missing where there is none at all.
    No prediction depends on it, so readers that do not know it pass it over, and it is not in the checksum.
`learning`
    How each layer with weights learns, or null where it learns as usual: {"trainable": false, "lr_factor": 0.1,
    "bias_lr_factor": 0.1}, of which what is as usual (true, 1.0, 1.0) is left out; in a checkpoint also "missed_steps",
    those that the layer was frozen in. Missing where all learn as usual; passed over as `dropout` is.
`feature_names`
    What the columns of the inputs are called, all different; missing where they have no names. Readers that do not know
    it pass it over, too.
`self_test`
    A raw row of inputs and what the network predicts for it.
`training`
    What a checkpoint needs to go on: {"optimizer": {"name": "adam", its constants}, "steps": 0,
    "powers": [3 numbers], "epoch": 0, "schedule": null or {"name": ..., constants}, "moments": [a vector of all
    parameters, ...], "history": {"loss": [...], "lr": [...], "seconds": [...], further ones by name}}. Where a
    further one was not finite, null stands. A schedule named "function" was the user's function, which is not here.
    "by_rule": true where optimizer, rate and batches were left to nnc's rule, else missing.
`sha256`
    The checksum of everything else that is known here (see `text.checksum`). Where it is missing, nothing is compared.

`dtype`, `loss` and `layers` must be there; every other key may be missing, or null where nothing else is said.
Keys that this version does not know may stand beside these; they are passed over. Everything else is checked, in
both directions: what is read can be used as it is, and nothing is written that could not be read again.

In version 1 all layers have a bias or none has; version 2 leaves that to each. A file has the lowest version that can
say what is in it.

Networks with other layers than dense ones and Dropout are version 2. Their `layers` are all that there are, the input
first and a dense one last, each with what it is made from; what comes in and goes out follows from the input::

    {"type": "input", "shape": [28, 28, 1]}     height, width, channels; or the numbers in a row alone: [3]
    {"type": "conv2d", "filters": 6, "size": [5, 5], "stride": [1, 1], "padding": "valid" or "same",
     "activation": "relu", "W": [[6 numbers], ... 25 rows], "b": [6 numbers] or null}
    {"type": "max_pool2d", "size": [2, 2], "stride": [2, 2]}, and "avg_pool2d" with the same members
    {"type": "global_avg_pool2d"}, {"type": "flatten"}
    {"type": "dropout", "rate": 0.3}
    {"type": "scale", "W": [[6 numbers]], "b": null}     W is s
    {"type": "batch_norm", "activation": "relu", "momentum": 0.1, "eps": 1e-05, "W": [[6 numbers]], "b": [6 numbers],
     "running_mean": [6 numbers], "running_var": [6 numbers]}     W is gamma, b is beta

Rows of W of a conv2d are in the order of ky, kx and channel, the last one fastest. An image in a row of numbers, that
of the self-test say, is in the order of y, x and channel. `dropout` is missing there.

An ensemble is {"format": "nnc-ensemble", "version": 1, "networks": [such networks], "sha256": ...}, where `sha256`
is that of the checksums of the networks, one after the other. The model of a table is {"format": "nnc-table",
"version": 1, "table": {...}, "networks": [...], "sha256": ...}: nnc/tabular/file.py says what `table` is, and its
checksum comes first among those.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

from nnc._registry import activations, losses, optimizers
from nnc._registry.heads import Heads
from nnc._utils import fields
from nnc._utils.fields import LARGEST
from nnc.layers import Dense, Input, in_files
from nnc.layers.base import LEARNING
from nnc.layers.stack import MISSED

if TYPE_CHECKING:
    from typing import Any

    from nnc.layers.base import Layer

FORMAT = "nnc-network"
HEADS: dict[str, dict[str, Any]] = {  # what the documents of several networks begin with
    "ensemble": {"format": "nnc-ensemble", "version": 1},
    "table model": {"format": "nnc-table", "version": 1},
}
ONE = {"network": "a network", "ensemble": "an ensemble", "table model": "a model of a table", "model": "a model"}
OTHERS = {
    FORMAT: "a single network",
    "nnc-ensemble": "an ensemble of networks",
    "nnc-table": "a model of a table",
}
VERSION = 2  # the latest; a network that version 1 can describe is written as that
TRAINING_KEYS = ("optimizer", "steps", "powers", "epoch", "schedule", "moments", "history")
COUNTED = 53  # bits of a number of steps or epochs: no training gets there, and a float holds it
FIX = "correct it there, or save the network again"  # what messages about a document end with


class ModelFileError(OSError, ValueError):
    """What a file or a JSON text holds is not a network that this version of nnc can use."""


# -------------------------------------------------------------------------------------------- checks
# They raise ValueError with place and reason; nnc/_serialization/text.py adds the action and the remedy.


def kind_of_file(document: Any) -> str:
    """Return whether a document is a "network", an "ensemble" or a "table model"; raise ValueError for others."""
    _check_object(document, "model")
    for what, name in {"network": FORMAT, **{what: head["format"] for what, head in HEADS.items()}}.items():
        if document.get("format") == name:
            return what
    found, expected = _shown(document, "format"), ", ".join(f'"{name}"' for name in OTHERS)
    raise ValueError(f"it is no model of nnc: format is {found}, expected one of {expected}; is it the right file?")


def recognize(document: Any) -> None:
    """Raise unless `document` says of itself that it is a network, of a version that can be read here."""
    _check_object(document, "network")
    _refuse_other(document, FORMAT)
    if document.get("format") != FORMAT:
        found = _shown(document, "format")
        raise ValueError(f'it is no network of nnc: format is {found}, expected "{FORMAT}"; is it the right file?')
    version = document.get("version")
    if type(version) is not int or version < 1:
        found = _shown(document, "version")
        raise ValueError(f"version is {found}, expected a whole number from 1 to {VERSION}; {FIX}")
    if version > VERSION:
        raise ValueError(
            f"a later nnc wrote it (file version {version}, this nnc reads version {VERSION}); "
            "upgrade with `pip install --upgrade nnc-cython`"
        )


def recognize_several(document: Any, what: str) -> list[Any]:
    """The networks of an ensemble or a table's model, not yet checked; ValueError where it is none that can be read
    here."""
    _check_object(document, what)
    head = HEADS[what]
    _refuse_other(document, head["format"])
    for name, expected in head.items():
        if type(document.get(name)) is not type(expected) or document[name] != expected:
            found = _shown(document, name)
            raise ValueError(f"it is no {what} that this nnc reads: {name} is {found}, expected {expected!r}")
    networks: list[Any] = fields.member(document, "networks", list)
    if not networks:
        raise ValueError(f"networks is empty, expected at least one network; {FIX}")
    return networks


def _check_object(document: Any, what: str) -> None:
    """Raise ValueError unless a document is an object of JSON."""
    if type(document) is not dict:
        raise ValueError(f"it holds {fields.shown(document)}, not {ONE[what]}; check that it is the right file")


def _shown(document: dict[str, Any], name: str) -> str:
    """Return the value of a member for an error message, "missing" if there is none."""
    return fields.shown(document[name]) if name in document else "missing"


def _refuse_other(document: dict[str, Any], expected: Any) -> None:
    """Raise ValueError if the format of a document is another one that nnc writes."""
    found = document.get("format")
    if type(found) is str and found != expected and found in OTHERS:
        raise ValueError(f"it is {OTHERS[found]}; load it with nnc.load, or with its own class")


def checked(document: dict[str, Any]) -> dict[str, Any]:
    """A copy of `document` that has the known keys only."""
    dtype = fields.name(document, "dtype", tuple(LARGEST))
    loss = fields.name(document, "loss", losses.IN_ENGINE)
    layers = _checked_layers(fields.member(document, "layers", list), loss, LARGEST[dtype])
    version = _least_version(layers)
    whole = layers[0]["type"] == Input.type
    if document.get("version") == 1 < version:
        if whole:
            raise ValueError('layers[0].type is "input", which version 2 has, expected dense in version 1')
        i = next(i for i, (a, b) in enumerate(pairwise(layers)) if (a["b"] is None) != (b["b"] is None))
        raise ValueError(f"only one of layers[{i}].b and layers[{i + 1}].b is null, expected all or none")
    n_in, n_out = prod(layers[0]["shape"]) if whole else layers[0]["n_in"], layers[-1]["n_out"]
    n_params = sum(
        sum(map(len, layer["W"])) + (0 if layer["b"] is None else len(layer["b"])) for layer in layers if "W" in layer
    )
    training = _checked_training(document.get("training"), n_params, LARGEST[dtype])
    return {
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
        "classes": _checked_classes(document.get("classes"), n_out),
        "scale_X": _checked_scale(document.get("scale_X"), n_in, "scale_X", "n_in"),
        "scale_y": _checked_scale(document.get("scale_y"), n_out, "scale_y", "n_out"),
        "layers": layers,
        "dropout": _checked_dropout(document.get("dropout"), None if whole else len(layers) - 1),
        "learning": _checked_learning(
            document.get("learning"), [layer["type"] for layer in layers if "W" in layer], training
        ),
        "feature_names": _checked_names(document.get("feature_names"), n_in),
        "self_test": _checked_self_test(document.get("self_test"), n_in, n_out),
        "training": training,
    }


def _least_version(layers: list[dict[str, Any]]) -> int:
    """The first version that can say what is in these layers."""
    return 1 if len({layer.get("b") is None for layer in layers}) == 1 and layers[0]["type"] == Dense.type else 2


def _checked_layers(given: list[Any], loss: str, largest: float) -> list[dict[str, Any]]:
    """The layers, from the lowest one up, and then all together."""
    if not given:
        raise ValueError("layers is empty, expected at least one layer")
    whole = type(given[0]) is dict and given[0].get("type") == Input.type
    known = in_files() if whole else {Dense.type: Dense}
    layers: list[dict[str, Any]] = []
    below: tuple[int, ...] = ()  # the shape of what the layers so far give
    for i, layer in enumerate(given):
        where = f"layers[{i}]"
        name = fields.name(fields.members_of(layer, where), "type", tuple(known), where + ".")
        if name == Input.type and i:
            raise ValueError(f'{where}.type is "{name}", expected another one: only the first layer can be that')
        layers.append(known[name].check_document(layer, where))
        below = _placed(layers[-1], where, below, largest)
    if layers[-1]["type"] != Dense.type:
        raise ValueError(f'{where}.type is "{name}", expected {Dense.type} for the last layer, the output')
    problem = losses.mismatch([layer["activation"] for layer in layers if "activation" in layer], loss)
    if problem:
        raise ValueError(problem)
    output = layers[-1]["activation"]
    if layers[-1]["n_out"] == 1 and not activations.ROWS[output].elementwise:
        raise ValueError(f'the output "{output}" has 1 neuron, expected at least 2')
    return layers


def _placed(layer: dict[str, Any], where: str, below: tuple[int, ...], largest: float) -> tuple[int, ...]:
    """The shape of what a layer gives, whose arrays are checked, too: what comes in and goes out follows from the
    layers below, so nothing that is claimed is believed."""
    kind = in_files()[layer["type"]].from_dict(layer)
    if isinstance(kind, Dense) and len(below) < 2:
        n_in = layer["n_in"]
        if below not in ((), (n_in,)):
            raise ValueError(f"{where}.n_in is {n_in}, expected {below[0]}, what the layer below gives")
        below = (n_in,)
    try:
        out = kind.output_shape(below)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None
    for array in (*kind.parameter_arrays(below), *kind.statistics(below)):
        name, place, (*rows, n) = array.name, f"{where}.{array.name}", array.shape
        of_rows, of = kind.matrix_axes
        if rows and len(layer[name]) != rows[0]:
            found = len(layer[name])
            raise ValueError(f"{place} has the wrong shape: {found} rows found, {rows[0]} expected ({of_rows})")
        if rows:
            layer[name] = fields.matrix(layer[name], n, f"{place}[{{}}]".format, of, largest)
        else:
            layer[name] = fields.vector(layer[name], n, place, of, largest)
    if kind.normalizes and min(layer["running_var"]) < 0:
        raise ValueError(f"{where}.running_var has {min(layer['running_var'])}, expected 0 or more: a variance")
    return out


def _checked_dropout(dropout: Any, n_hidden: int | None) -> list[float | None] | None:
    if dropout is None:
        return None
    found = fields.shown(dropout)
    if n_hidden is None:
        raise ValueError(f"dropout is {found}, expected none: it is among the layers where these begin with the input")
    if type(dropout) is not list or len(dropout) != n_hidden:
        raise ValueError(f"dropout is {found}, expected a list of {n_hidden}, one item for each hidden layer")
    for i, rate in enumerate(dropout):
        if rate is not None and not 0 <= fields.number(rate, f"dropout[{i}]") < 1:
            raise ValueError(f"dropout[{i}] is {fields.shown(rate)}, expected null or a number from 0 to below 1")
    return [None if rate is None else float(rate) for rate in dropout]


def _checked_learning(
    learning: Any, types: list[str], training: dict[str, Any] | None
) -> list[dict[str, Any] | None] | None:
    if learning is None:
        return None
    n = len(types)
    if type(learning) is not list or len(learning) != n:
        raise ValueError(f"learning is {fields.shown(learning)}, expected a list of {n}, one item for each layer")
    steps, kinds = 0 if training is None else training["steps"], in_files()
    return [
        None if each is None else _checked_rates(each, f"learning[{i}]", kinds[kind], steps)
        for i, (each, kind) in enumerate(zip(learning, types, strict=True))
    ]


def _checked_rates(rates: Any, where: str, kind: type[Layer], steps: int) -> dict[str, Any]:
    known = [key for key in LEARNING if key in kind._fields]
    for key in fields.members_of(rates, where):
        if key not in (*known, MISSED):
            raise ValueError(f"{where} has the unknown key {fields.shown(key)}, expected {', '.join(known)}")
    checked: dict[str, Any] = {}
    for key, value in rates.items():
        place = f"{where}.{key}"
        if key == MISSED:
            checked[key] = fields.unsigned(rates, key, 0, where + ".", COUNTED)
            if checked[key] > steps:
                raise ValueError(f"{place} is {value}, expected at most training.steps, {steps}")
        elif key == "trainable":
            checked[key] = fields.member(rates, key, bool, where=where + ".")
        elif not fields.number(value, place) > 0:
            raise ValueError(f"{place} is {fields.shown(value)}, expected a number above 0")
        else:
            checked[key] = float(value)
    return checked


def _checked_loss_parameter(value: Any, loss: str) -> float | None:
    kind = losses.ROWS[loss].parameter
    if kind is None:
        if value is not None:
            known = ", ".join(losses.PARAMETERS)
            found = fields.shown(value)
            raise ValueError(f'loss_parameter is {found}, expected none for loss "{loss}" (only for {known})')
        return None
    if value is None:
        return kind().parameter
    number = fields.number(value, "loss_parameter")
    try:
        return kind.of(number).parameter
    except ValueError:
        found = fields.shown(value)
        raise ValueError(f'loss_parameter is {found}, expected {kind.expected} for loss "{loss}"') from None


def _checked_loss_function(document: dict[str, Any], loss: str) -> str | None:
    name, wanted = document.get("loss_function"), loss == losses.CUSTOM and document.get("heads") is None
    if type(name) is str if wanted else name is None:
        return name
    expected = (
        "the name of a function" if wanted else f'none for loss "{loss}"' + " with heads" * (loss == losses.CUSTOM)
    )
    raise ValueError(f"loss_function is {'missing' if name is None else fields.shown(name)}, expected {expected}")


def _checked_heads(given: Any, loss: str, last: dict[str, Any]) -> dict[str, Any] | None:
    if given is None:
        return None
    if loss != losses.CUSTOM:
        raise ValueError(f'heads are there, expected none for loss "{loss}"')
    if last["activation"] != "identity":
        raise ValueError(f'heads are there, expected none behind an output "{last["activation"]}"')
    ordered = "ordered" in given  # Only files of ordered heads have this member.
    fields.exactly(given, ("heads", "missing", *(("ordered",) * ordered)), "heads")
    heads: list[dict[str, Any]] = []
    for i, head in enumerate(fields.member(given, "heads", list, where="heads.")):
        where = f"heads.heads[{i}]"
        fields.exactly(head, ("n", "loss", "loss_parameter", "weight", "output"), where)
        named = fields.name(head, "loss", losses.NAMES, where + ".")
        checked_head = {
            "n": fields.unsigned(head, "n", 0, where + "."),
            "loss": named,
            "loss_parameter": _checked_loss_parameter(head["loss_parameter"], named),
            "weight": fields.number(head["weight"], where + ".weight"),
            "output": fields.name(head, "output", activations.NAMES, where + "."),
        }
        try:
            Heads.from_dict({"heads": [checked_head], "missing": False})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where} is none: {error}") from None
        heads.append(checked_head)
    if sum(head["n"] for head in heads) != last["n_out"]:
        raise ValueError(f"heads have {sum(head['n'] for head in heads)} outputs, expected {last['n_out']} (n_out)")
    checked = {"heads": heads, "missing": fields.member(given, "missing", bool, where="heads.")}
    if ordered:
        checked["ordered"] = fields.member(given, "ordered", bool, where="heads.")
        if len({head["n"] for head in heads}) > 1:
            raise ValueError("heads.ordered is true, expected heads with the same n then")
    return checked


def _checked_classes(classes: Any, n_out: int) -> list[Any] | None:
    if classes is None:
        return None
    if type(classes) is not list:
        raise ValueError(f"classes is {fields.shown(classes)}, expected a list or null")
    n, why = (2, "as n_out is 1") if n_out == 1 else (n_out, "n_out")
    if len(classes) != n:
        raise ValueError(f"classes has {len(classes)} items, expected {n} ({why})")
    return fields.labels(classes, "classes")


def _checked_scale(scale: Any, n: int, where: str, of: str) -> dict[str, Any] | None:
    if scale is None:
        return None
    fields.exactly(scale, ("type", "shift", "factor"), where)
    kind = fields.name(scale, "type", ("standardize", "minmax", "pixels"), where + ".")
    shift: Any
    factor: Any
    if kind == "pixels":
        shift, factor = (fields.number(scale[key], f"{where}.{key}") for key in ("shift", "factor"))
        if factor == 0:
            raise ValueError(f"{where}.factor is 0, expected another number")
        return {"type": kind, "shift": shift, "factor": factor}
    shift, factor = (
        fields.vector(fields.member(scale, key, list, where=where + "."), n, f"{where}.{key}", of)
        for key in ("shift", "factor")
    )
    if 0.0 in factor:
        raise ValueError(f"{where}.factor[{factor.index(0.0)}] is 0, expected another number")
    return {"type": kind, "shift": shift, "factor": factor}


def _checked_names(names: Any, n_in: int) -> list[str] | None:
    if names is None:
        return None
    if type(names) is not list or len(names) != n_in or not set(map(type, names)) <= {str}:
        raise ValueError(f"feature_names is {fields.shown(names)}, expected a list of {n_in} strings (n_in)")
    if len(set(names)) < n_in:
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"feature_names has {fields.shown(twice)} twice, expected that all are different")
    return list(names)


def _checked_self_test(test: Any, n_in: int, n_out: int) -> dict[str, Any] | None:
    if test is None:
        return None
    fields.exactly(test, ("X", "P"), "self_test")
    return {
        key: fields.vector(fields.member(test, key, list, where="self_test."), n, f"self_test.{key}", of)
        for key, n, of in (("X", n_in, "n_in"), ("P", n_out, "n_out"))
    }


def _checked_training(training: Any, n_params: int, largest: float) -> dict[str, Any] | None:
    if training is None:
        return None
    where = "training."
    by_rule = "by_rule" in fields.members_of(training, "training")
    fields.exactly(training, (*TRAINING_KEYS, *["by_rule"] * by_rule), "training")
    optimizer = _checked_optimizer(fields.member(training, "optimizer", dict, where=where), where + "optimizer")
    powers = fields.vector(fields.member(training, "powers", list, where=where), 3, where + "powers")
    schedule = fields.member(training, "schedule", dict, type(None), where=where)
    moments = fields.member(training, "moments", list, where=where)
    n_moments = optimizers.ROWS[optimizer["name"]].moments_with(optimizer)
    if len(moments) != n_moments:
        name = fields.shown(optimizer["name"])
        raise ValueError(f"training.moments has {len(moments)} vectors, expected {n_moments} for optimizer {name}")
    if not all(0 <= power <= 1 for power in powers):
        i = next(i for i, power in enumerate(powers) if not 0 <= power <= 1)
        raise ValueError(f"training.powers[{i}] is {fields.shown(powers[i])}, expected a number from 0 to 1")
    moments = fields.matrix(moments, n_params, lambda i: f"training.moments[{i}]", "the number of parameters", largest)
    if optimizers.ROWS[optimizer["name"]].kept and fields.least(moments[-1]) < 0:
        i = next(i for i, number in enumerate(moments[-1]) if number < 0)
        place = f"training.moments[{len(moments) - 1}][{i}]"
        raise ValueError(f"{place} is {fields.shown(moments[-1][i])}, expected 0 or more: a mean of squares, or a step")
    if by_rule and not (
        fields.member(training, "by_rule", bool, where=where)
        and optimizer["name"] == "adam"
        and (schedule is None or (schedule.get("name") == "PerStep" and schedule.get("epochs") is not None))
    ):
        raise ValueError(
            f"{where}by_rule goes with Adam and a rate by steps of so many epochs, or a constant one, alone"
        )
    return {
        "optimizer": optimizer,
        "steps": fields.unsigned(training, "steps", 0, where, COUNTED),
        "powers": powers,
        "epoch": fields.unsigned(training, "epoch", 0, where, COUNTED),
        "schedule": None if schedule is None else _checked_schedule(schedule, where + "schedule"),
        "moments": moments,
        "history": _checked_history(fields.member(training, "history", dict, where=where)),
        **({"by_rule": True} if by_rule else {}),
    }


def _checked_optimizer(optimizer: dict[str, Any], where: str) -> dict[str, Any]:
    name = fields.name(optimizer, "name", tuple(optimizers.ROWS), where + ".")
    constants = optimizers.ROWS[name].defaults()
    fields.exactly(optimizer, ("name", *constants), where)
    checked: dict[str, Any] = {"name": name}
    for key, default in constants.items():
        place = f"{where}.{key}"
        if type(default) is bool:
            checked[key] = fields.member(optimizer, key, bool, where=where + ".")
        elif type(default) is int:
            checked[key] = fields.unsigned(optimizer, key, 0, where + ".")
        elif type(default) is tuple:
            checked[key] = fields.vector(fields.member(optimizer, key, list, where=where + "."), 2, place)
        else:
            checked[key] = fields.number(optimizer[key], place)
    return checked


def _checked_schedule(schedule: dict[str, Any], where: str, depth: int = 1) -> dict[str, Any]:
    """A schedule's numbers, strings and at most one further schedule within it; what they mean is not known here."""
    if depth > 8:
        raise ValueError(f"{where} is nested too deeply, expected 8 schedules within each other at most")
    if depth == 1:
        fields.member(schedule, "name", str, where=where + ".")
    checked: dict[str, Any] = {}
    for key, value in schedule.items():
        place = f"{where}.{fields.shown(key)[1:-1]}"
        if type(value) is dict:
            if dict in map(type, checked.values()):
                raise ValueError(f"{place} is a second object, expected one at most in a schedule")
            checked[key] = _checked_schedule(value, place, depth + 1)
        elif value is None or type(value) is str:
            checked[key] = value
        else:
            number = fields.number(value, place, "null, a string, an object or a finite number")
            checked[key] = value if type(value) is int else number
    return checked


def _checked_history(history: dict[str, Any]) -> dict[str, Any]:
    n = len(fields.member(history, "loss", list, where="training.history."))
    checked: dict[str, Any] = {}
    for key in dict.fromkeys(("loss", "lr", "seconds", *history)):
        column = fields.member(history, key, list, where="training.history.")
        place = f"training.history.{fields.shown(key)[1:-1]}"
        known = column if key in ("loss", "lr", "seconds") else [0.0 if x is None else x for x in column]
        numbers = fields.vector(known, n, place, "the length of loss")
        checked[key] = [None if x is None else number for x, number in zip(column, numbers, strict=True)]
    return checked
