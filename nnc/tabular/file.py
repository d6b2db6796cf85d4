"""Files of table models and checkpoints of their training.

A model file contains the networks, and a JSON object "table" with these members:

    {"task": {"loss": "cross_entropy", "quantiles": []},
     "schema": result of Schema.document,
     "target": result of Target.document,
     "members": [{"place": 0, "bins": false, "fold": 0 or null, "losses": [0.5, ...]}, ... one for each network],
     "scaling": null or result of Scaling.to_dict for the targets,
     "bounds": null or [[smallest target, ...], [largest target, ...]],
     "baseline": [a number for each input],
     "held_out": {"n": 600, "score": 0.93, "calibration_error": 0.02, "temperature": 0.8, "scores": [[...], ...],
                  "temperature_ratio": 0.9, "class_scores": null or {"constant_accuracy": 0.6, ...}},
     "spread": null or {"networks": 4, "unit": [a number for each target], "limits": [[smallest, ...], [largest, ...]]},
     "gain": null or [mean, standard error] of the gain of all members over one,
     "importances": null or [[mean, ...], [standard error, ...]],
     "outcomes": null, or the result of ClassOutcomes.document, or [NumberOutcomes.document, ... one for each target],
     "facts": {"preset": "default", "seed": 0, "trained": 16, "rows": 3000, "weighted": false,
               "class_weight": null, "balanced" or [a number or null for each class], "complete": true,
               "target": "species", "seconds": 4.2},
     "self_test": {"outputs": [...]}}

NaN is null in the file. The networks of the members are followed by the networks that predict the spread, which is the
magnitude of errors. Files of version 0.1.0 have neither "spread" nor "gain" nor "outcomes"; all their intervals have
the same width. Their members have "curve" instead of "losses", the accuracy or the loss after each epoch.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc import _serialization
from nnc._data.scaling import Scaling
from nnc._parallel.members import Members, check_sizes
from nnc._report.outcomes import ClassOutcomes, ClassScores, NumberOutcomes
from nnc._tables.features import EXTENDED, PLAIN
from nnc._tables.schema import Schema
from nnc._utils import disk, fields
from nnc.tabular.held_out import find_importances
from nnc.tabular.intervals import Spread
from nnc.tabular.model import MAX_SAVED_IMPORTANCE_COLUMNS, TableModel
from nnc.tabular.recipe import CANDIDATES, CROSS_ENTROPY, ENGINE_LOSSES, FORMER_PRESET, PRESETS, SQUARED_ERROR, Task
from nnc.tabular.selection import Gain
from nnc.tabular.snapshots import N_PARTS, HeldOut, with_params
from nnc.tabular.target import Target
from nnc.tabular.training import Member, MemberSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc._network import NeuralNetwork
    from nnc.tabular.training import Rows

FILE_KIND = "table model"
TRAINING_PLAN_VERSION = 5  # version of the rows and seeds of members; checkpoints of other versions are rejected


def write(path: Any, model: TableModel, count: int | None = None) -> None:
    """Save a model, or only its `count` best members, to a file; see `_serialization.write`."""
    if model.importance_data is not None and len(model.schema.names) <= MAX_SAVED_IMPORTANCE_COLUMNS:
        find_importances(model)  # compute importances now: a file contains no held-out rows
    model = model if count is None else model.with_members(count)
    _serialization.write(path, _networks(model), _model_document(model))


def text(model: TableModel) -> str:
    """Return the text that `write` writes to a model file."""
    return _serialization.dumps(_networks(model), _model_document(model))


def build_model(content: Any, where: str) -> TableModel:
    """Create the model from the parsed content of a file; `where` names the file in error messages."""
    documents, table = content
    networks = Members.from_documents(documents, where)
    with _serialization.build_errors(where, FILE_KIND):
        return parse_model(table, networks)


def _networks(model: TableModel) -> list[dict[str, Any]]:
    """Return the networks of a model as JSON objects: first the members, then the networks of its `spread`, if any."""
    return Members((*model.networks, *(model.spread.networks if model.spread else ()))).documents()


def _test_row(model: TableModel) -> NDArray[np.float32]:
    """Return the encoded row (1, width) of the self-test; model files store the prediction for this row."""
    row = _serialization.self_test_row(model.schema.width(model.features))
    return np.array([row], np.float32)


def _member_document(member: Member) -> dict[str, Any]:
    """Return the JSON object of an ensemble member, without the network."""
    spec = member.spec
    return {"place": spec.number, "bins": member.features == EXTENDED, "fold": spec.fold, "losses": list(member.curve)}


def _nan_to_null(value: float) -> float | None:
    """Return a number as it is stored in JSON; NaN and infinity become None (null)."""
    return float(value) if np.isfinite(value) else None


def _model_document(model: TableModel) -> dict[str, Any]:
    """Return the JSON object of a model without its networks."""
    held_out, importances = model.held_out, model.importances
    return {
        "task": {"loss": model.task.loss, "quantiles": list(model.task.quantiles)},
        "schema": model.schema.document(),
        "target": model.target.document(),
        "members": [_member_document(member) for member in model.members],
        "scaling": None if model.scaling is None else model.scaling.to_dict(),
        "bounds": None if model.bounds is None else model.bounds.tolist(),
        "baseline": model.baseline.tolist(),
        "held_out": {
            "n": held_out.n,
            "score": _nan_to_null(held_out.score),
            "calibration_error": _nan_to_null(held_out.calibration_error),
            "temperature": held_out.temperature,
            "scores": held_out.scores.tolist(),
            "temperature_ratio": held_out.temperature_ratio,
            "class_scores": _class_scores_document(held_out.class_scores),
        },
        "spread": _spread_document(model.spread),
        "gain": None if model.gain is None else list(model.gain),
        "importances": None if importances is None else [part.tolist() for part in importances],
        "outcomes": _outcomes_document(model.outcomes),
        "facts": model.facts,
        "self_test": {"outputs": model.predict_encoded(_test_row(model)).ravel().tolist()},
    }


def parse_model(table: dict[str, Any], networks: Members) -> TableModel:
    """Create the model from a JSON object and networks; raise ValueError that locates invalid content."""
    schema = Schema.from_document(fields.member(table, "schema", dict))
    target = Target.from_document(fields.member(table, "target", dict))
    task = _parse_task(fields.member(table, "task", dict), target)
    classes = task.kind == "classes"
    members = []
    documents = fields.member(table, "members", list)
    n_spread = _n_spread_networks(table)
    if len(documents) + n_spread != len(networks):
        n_members = len(networks) - n_spread
        raise ValueError(f"members has {len(documents)} items, expected {n_members}, one for each network")
    for i, (document, network) in enumerate(zip(documents, networks, strict=False)):
        member = _parse_member(document, network, classes, f"members[{i}]")
        check_sizes(network, schema.width(member.features), task.n_network_outputs, f"networks[{i}]")
        members.append(member)
    scaling = fields.member(table, "scaling", dict, type(None))
    scaling = None if scaling is None else Scaling.from_dict(scaling)
    if (scaling is not None) != task.scales_targets or (scaling is not None and scaling.shift.shape != (task.n_out,)):
        expected = f"an object for {task.n_out} targets" if task.scales_targets else "null"
        raise ValueError(f"scaling is {fields.describe(table['scaling'])}, expected {expected}")
    bounds = _parse_matrix(table, "bounds", 2, task.n_out)
    width = schema.width(max(member.features for member in members))
    baseline = np.array(fields.vector(fields.member(table, "baseline", list), width, "baseline"))
    model = TableModel(
        task,
        schema,
        target,
        members,
        scaling,
        bounds,
        baseline,
        _parse_facts(fields.member(table, "facts", dict), target),
    )
    model.held_out = _parse_held_out(fields.member(table, "held_out", dict), 1 if classes else task.n_out)
    if n_spread:
        model.spread = _parse_spread(table, task, schema, Members(networks[len(members) :]))
    if table.get("gain") is not None:
        model.gain = Gain(*fields.vector(fields.member(table, "gain", list), 2, "gain"))
    importances = _parse_matrix(table, "importances", 2, len(schema.names))
    model.importances = None if importances is None else (importances[0], importances[1])
    model.outcomes = _parse_outcomes(table.get("outcomes"), target)
    self_test = fields.member(fields.member(table, "self_test", dict), "outputs", list, where="self_test.")
    outputs = model.predict_encoded(_test_row(model)).ravel()
    expected_outputs = fields.vector(self_test, len(outputs), "self_test.outputs")
    if not np.allclose(outputs, expected_outputs, rtol=1e-4, atol=1e-4 * (1 + np.abs(expected_outputs).max())):
        raise ValueError(
            f"self_test.outputs is {fields.describe(self_test)}, expected the predictions of the model up to rounding, "
            f"{fields.describe(outputs.tolist())}"
        )
    return model


def _parse_member(document: Any, network: NeuralNetwork, is_classifier: bool, where: str) -> Member:
    """Create an ensemble member from a JSON object and a network."""
    keys = fields.json_object(document, where)
    features = EXTENDED if fields.member(keys, "bins", bool, where=f"{where}.") else PLAIN
    candidate = next(candidate for candidate in CANDIDATES if candidate.features == features)
    number = fields.unsigned(keys, "place", 0, f"{where}.", bits=31) or 0
    fold = fields.unsigned(keys, "fold", None, f"{where}.", bits=31)
    key = "curve" if "curve" in keys and "losses" not in keys else "losses"
    values = fields.member(keys, key, list, where=f"{where}.")
    curve = fields.vector(values, len(values), f"{where}.{key}")
    if key == "curve" and is_classifier:  # a file of version 0.1.0 contains accuracies; convert them to zero-one losses
        curve = [1 - accuracy for accuracy in curve]
    return Member(MemberSpec(number, candidate, fold), network, curve=tuple(curve))


def _outcomes_document(outcomes: ClassOutcomes | list[NumberOutcomes] | None) -> Any:
    """Return the statistics of held-out rows as a JSON value; None without statistics."""
    if outcomes is None or isinstance(outcomes, ClassOutcomes):
        return None if outcomes is None else outcomes.document()
    return [target.document() for target in outcomes]


def _parse_outcomes(document: Any, target: Target) -> ClassOutcomes | list[NumberOutcomes] | None:
    """Create the statistics of held-out rows from a JSON value; None for null."""
    if document is None:
        return None
    if target.classes is not None:
        return ClassOutcomes.from_document(document, len(target.classes), "outcomes")
    if type(document) is not list or len(document) != target.n_outputs:
        raise ValueError(f"outcomes is {fields.describe(document)}, expected a list of {target.n_outputs}")
    return [NumberOutcomes.from_document(part, f"outcomes[{i}]") for i, part in enumerate(document)]


def _spread_document(spread: Spread | None) -> dict[str, Any] | None:
    """Return the JSON object of a Spread, without the networks; return None if `spread` is None."""
    if spread is None:
        return None
    return {"networks": len(spread.networks), "unit": spread.unit.tolist(), "limits": spread.limits.tolist()}


def _n_spread_networks(table: dict[str, Any]) -> int:
    """Return the number of networks that predict the spread, which is 0 for models without a Spread."""
    document = table.get("spread")
    if document is None:
        return 0
    return fields.size(fields.json_object(document, "spread").get("networks"), "spread.networks")


def _parse_spread(table: dict[str, Any], task: Task, schema: Schema, networks: Members) -> Spread:
    """Create the Spread from a JSON object; raise ValueError if it is invalid or does not fit the task."""
    document = fields.json_object(table["spread"], "spread")
    fields.check_keys(document, ("networks", "unit", "limits"), "spread")
    if task.kind == "classes" or task.quantiles:
        raise ValueError("spread is an object, expected null for a model that predicts classes or quantiles")
    width = schema.width() + task.n_out
    for network in networks:
        check_sizes(network, width, task.n_out, "a network of the spread")
    unit = np.array(fields.vector(fields.member(document, "unit", list, where="spread."), task.n_out, "spread.unit"))
    limits = _parse_matrix(document, "limits", 2, task.n_out)
    if limits is None or (unit <= 0).any() or (limits[0] <= 0).any() or (limits[0] > limits[1]).any():
        raise ValueError(
            f"spread.unit is {fields.describe(document['unit'])} and spread.limits is "
            f"{fields.describe(document.get('limits'))}, expected positive numbers in unit, and two "
            "rows of positive numbers in limits, the minima and the maxima"
        )
    return Spread(networks, unit, limits)


def _parse_matrix(table: dict[str, Any], key: str, rows: int, n: int) -> NDArray[np.float64] | None:
    """Convert the list `table[key]` of a JSON object to an array (rows, n); return None for null."""
    matrix = fields.member(table, key, list, type(None))
    if matrix is None:
        return None
    if len(matrix) != rows:
        raise ValueError(f"{key} has {len(matrix)} rows, expected {rows}")
    return np.array(fields.matrix(matrix, n, lambda i: f"{key}[{i}]"))


def _parse_task(document: dict[str, Any], target: Target) -> Task:
    """Create the Task from a JSON object; raise ValueError if it is invalid or does not fit the target."""
    fields.check_keys(document, ("loss", "quantiles"), "task")
    loss = fields.choice(document, "loss", (CROSS_ENTROPY, *ENGINE_LOSSES), "task.")
    numbers = fields.member(document, "quantiles", list, where="task.")
    quantiles = fields.vector(numbers, len(numbers), "task.quantiles")
    is_increasing = sorted(set(quantiles)) == quantiles
    if not all(0 < q < 1 for q in quantiles) or not is_increasing or (quantiles and loss != SQUARED_ERROR):
        raise ValueError(f"task.quantiles is {fields.describe(quantiles)}, expected increasing numbers between 0 and 1")
    classes = target.classes
    if (classes is not None) != (loss == CROSS_ENTROPY):
        raise ValueError(f"task.loss must be 'cross_entropy' if and only if target has classes, got {loss!r}")
    return Task(loss, target.n_outputs if classes is None else len(classes), tuple(quantiles))


def _parse_facts(document: dict[str, Any], target: Target) -> dict[str, Any]:
    """Return settings and results of a fit from a JSON object; raise ValueError if a value is invalid."""
    keys = "preset", "seed", "trained", "rows", "weighted", "class_weight", "complete", "target", "seconds"
    fields.check_keys(document, keys, "facts")
    preset = fields.choice(document, "preset", (*PRESETS, FORMER_PRESET), "facts.")
    return {
        "preset": "default" if preset == FORMER_PRESET else preset,
        "seed": fields.unsigned(document, "seed", None, "facts."),
        "trained": fields.size(document["trained"], "facts.trained"),
        "rows": fields.size(document["rows"], "facts.rows"),
        "weighted": fields.member(document, "weighted", bool, where="facts."),
        "class_weight": _parse_class_weight(document["class_weight"], target),
        "complete": fields.member(document, "complete", bool, where="facts."),
        "target": fields.member(document, "target", str, type(None), where="facts."),
        "seconds": fields.number(document["seconds"], "facts.seconds"),
    }


def _parse_class_weight(value: Any, target: Target) -> Any:
    """Validate the class weights in a file: None, "balanced", or a list with a number or None for each class."""
    if value is None or (value == "balanced" and target.classes is not None):
        return value
    n = 0 if target.classes is None else len(target.classes)
    if type(value) is not list or len(value) != n:
        expected = 'null, "balanced" or a list with one item for each class' if n else "null"
        raise ValueError(f"facts.class_weight is {fields.describe(value)}, expected {expected}")
    weights = [None if x is None else fields.number(x, f"facts.class_weight[{i}]") for i, x in enumerate(value)]
    if any(weight is not None and weight < 0 for weight in weights):
        raise ValueError(f"facts.class_weight is {fields.describe(value)}, expected numbers that are 0 or more")
    return weights


def _parse_held_out(document: dict[str, Any], n_targets: int) -> HeldOut:
    """Create HeldOut, the estimates on held-out rows, from a JSON object; raise ValueError if it is invalid."""
    document = {"temperature_ratio": 1.0, "class_scores": None, **document}  # files of earlier versions lack them
    fields.check_keys(document, HeldOut._fields, "held_out")
    scores = fields.member(document, "scores", list, where="held_out.")
    numbers = fields.matrix(scores, n_targets, lambda i: f"held_out.scores[{i}]")
    temperature = fields.number(document["temperature"], "held_out.temperature")
    ratio = fields.number(document["temperature_ratio"], "held_out.temperature_ratio")
    for name, value in (("temperature", temperature), ("temperature_ratio", ratio)):
        if value <= 0:
            raise ValueError(f"held_out.{name} is {value}, expected a number above 0")
    score, error = (
        np.nan if document[key] is None else fields.number(document[key], f"held_out.{key}")
        for key in ("score", "calibration_error")
    )
    n = fields.unsigned(document, "n", 0, "held_out.")
    nonconformity = np.array(numbers, np.float64).reshape(-1, n_targets)
    class_scores = _parse_class_scores(document["class_scores"])
    return HeldOut(n or 0, score, error, temperature, nonconformity, ratio, class_scores)


def _class_scores_document(scores: ClassScores | None) -> dict[str, Any] | None:
    """Return the ClassScores as a JSON object, in which NaN becomes null; None for regression."""
    if scores is None:
        return None
    return {name: None if np.isnan(value) else value for name, value in scores._asdict().items()}


def _parse_class_scores(document: Any) -> ClassScores | None:
    """Create the ClassScores from a JSON object; None for null."""
    if document is None:
        return None
    where = "held_out.class_scores"
    fields.check_keys(document, ClassScores._fields, where)
    return ClassScores(
        fields.number(document["constant_accuracy"], f"{where}.constant_accuracy"),
        _null_to_nan(document["balanced_accuracy"], f"{where}.balanced_accuracy"),
        _null_to_nan(document["auc"], f"{where}.auc"),
        fields.unsigned(document, "rarest_rows", 0, f"{where}.", bits=53) or 0,
    )


# ------------------------------------------------------------------------------------------ checkpoints


def fingerprint(rows: Rows, task: Task, preset: str, seed: int, count: int) -> str:
    """Return a hash of the data and settings of a fit, which only resumes from a checkpoint with the same hash."""
    digest = sha256(f"{TRAINING_PLAN_VERSION} {task!r} {preset} {seed} {count}".encode())
    for array in (*rows.inputs.values(), rows.y, rows.weights):
        if array is not None:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_checkpoint(path: Any, key: str, members: Sequence[Member]) -> None:
    """Save the members of an incomplete fit, with the snapshots from which held-out rows are predicted."""
    networks = [member.network for member in members]
    entries = []
    for member in members:
        snapshots: dict[int, int] = {}  # index in `networks` of each parameter array, by the id of the array
        for params in member.params:
            if id(params) not in snapshots:
                snapshots[id(params)] = len(networks)
                networks.append(with_params(member.network, params))
        entries.append(
            {
                **_member_document(member),
                "error": _nan_to_null(member.error),
                "snapshots": [snapshots[id(params)] for params in member.params],
                "errors": [_nan_to_null(error) for error in member.errors],
            }
        )
    _serialization.write(path, Members(networks).documents(), {"fit": key, "members": entries})


def read_checkpoint(path: Any, key: str) -> list[Member]:
    """Read the members in a checkpoint; return [] if the file does not exist.

    Raises
    ------
    OSError
        The file cannot be read, or it is not a checkpoint of this fit.
    """
    if not os.path.exists(path):
        return []
    documents, checkpoint = _serialization.read(path, FILE_KIND)
    where = disk.describe_source(path)
    if checkpoint.get("fit") != key:
        raise _serialization.ModelFileError(
            f"cannot resume from {where}: it is a checkpoint of a fit with other data or parameters; use another file, "
            "or delete it"
        )
    with _serialization.build_errors(where, FILE_KIND):
        entries = fields.member(checkpoint, "members", list)
        networks = Members.from_documents(documents, where)
        if len(networks) < len(entries):
            raise ValueError(f"networks has {len(networks)} items, expected one for each of the {len(entries)} members")
        params = [network.params for network in networks]
        return [_parse_checkpoint_member(entry, i, networks[i], params) for i, entry in enumerate(entries)]


def _parse_checkpoint_member(
    entry: Any, i: int, network: NeuralNetwork, params: Sequence[NDArray[np.float32]]
) -> Member:
    """Create a member from its JSON object in a checkpoint; `params` has the parameters of all networks."""
    where = f"members[{i}]"
    member = _parse_member(entry, network, False, where)
    snapshots = fields.member(entry, "snapshots", list, where=f"{where}.")
    errors = fields.member(entry, "errors", list, where=f"{where}.")
    n_parts = 0 if member.spec.fold is None else N_PARTS
    if len(snapshots) not in (0, n_parts) or len(errors) != n_parts:
        found = f"{len(snapshots)} snapshots and {len(errors)} errors"
        raise ValueError(f"{where} has {found}, expected {n_parts} snapshots and {n_parts} errors")
    for index in snapshots:
        if type(index) is not int or not 0 <= index < len(params) or len(params[index]) != network.n_params:
            expected = "the index of a network with the same architecture"
            raise ValueError(f"{where}.snapshots contains {fields.describe(index)}, expected {expected}")
    return member._replace(
        error=_null_to_nan(entry.get("error"), f"{where}.error"),
        params=tuple(params[index] for index in snapshots),
        errors=tuple(_null_to_nan(error, f"{where}.errors") for error in errors),
    )


def _null_to_nan(value: Any, where: str) -> float:
    """Return a number of a JSON object; None (null) becomes NaN."""
    return np.nan if value is None else fields.number(value, where)


def remove_checkpoint(path: Any) -> None:
    """Delete the checkpoint of a fit if the file exists."""
    if os.path.exists(path):
        os.remove(path)
