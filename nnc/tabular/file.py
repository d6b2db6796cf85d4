"""The model of a table as a file: what stands there beside its networks.

    {"task": {"loss": "cross_entropy", "quantiles": []}, "schema": as Schema.document gives it,
     "target": as Target.document does,
     "members": [{"place": 0, "bins": false, "fold": 0 or null, "curve": [0.5, ...]}, ... one for each network],
     "scaling": null or as Scaling.to_dict gives it, of the targets,
     "bounds": null or [[least target, ...], [largest, ...]], "baseline": [a number for each input],
     "held_out": {"n": 600, "score": 0.93, "calibration_error": 0.02, "temperature": 0.8, "scores": [[...], ...]},
     "spread": null or {"networks": 4, "unit": [a number for each target], "limits": [[least, ...], [largest, ...]]},
     "gain": null or [mean, standard error], of all members over one,
     "importances": null or [[mean, ...], [deviation, ...]],
     "facts": {"preset": "default", "seed": 0, "trained": 16, "rows": 3000, "weighted": false,
               "class_weight": null, "balanced" or [a number or null for each class], "complete": true,
               "target": "species", "seconds": 4.2},
     "self_test": {"outputs": [...]}}

Numbers that are not known, NaN elsewhere, are null here. The networks of the spread follow those of the members. Files
of 0.1.0 have no "spread" and no "gain": their intervals have one width.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc import _serialization
from nnc._data.scaling import Scaling
from nnc._network import NeuralNetwork
from nnc._utils import disk, fields
from nnc.tabular.held_out import find_importances
from nnc.tabular.intervals import Spread
from nnc.tabular.model import MAX_SAVED_IMPORTANCE_COLUMNS, TableModel
from nnc.tabular.recipe import CROSS_ENTROPY, ENGINE_LOSSES, PRESETS, SQUARED_ERROR, Task
from nnc.tabular.schema import Schema
from nnc.tabular.selection import Gain
from nnc.tabular.snapshots import N_PARTS, HeldOut, with_params
from nnc.tabular.target import Target
from nnc.tabular.training import Member, MemberSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nnc.tabular.training import Rows

WHAT = "table model"
PLAN = 3  # which member learns from what: a checkpoint of another plan is of another fit


def write(path: Any, model: TableModel, count: int | None = None) -> None:
    """Save a model, or its `count` best members: see `_serialization.write`."""
    if model.importance_data is not None and len(model.schema.names) <= MAX_SAVED_IMPORTANCE_COLUMNS:
        find_importances(model)  # which need rows that the file has not
    model = model if count is None else model.with_members(count)
    _serialization.write(path, _networks(model), _table(model))


def text(model: TableModel) -> str:
    """Return the text that `write` writes."""
    return _serialization.dumps(_networks(model), _table(model))


def built(content: Any, where: str) -> TableModel:
    """Return the model in the checked content of a file, which error messages call `where`."""
    documents, table = content
    networks = [NeuralNetwork._from_document(document, where, None) for document in documents]
    with _serialization.build_errors(where, WHAT):
        return model_of(table, networks)


def _document(network: NeuralNetwork) -> dict[str, Any]:
    return network._document(checkpoint=False)


def _networks(model: TableModel) -> list[dict[str, Any]]:
    """Return the documents of all networks: those of the members, then those of the spread."""
    networks = [member.network for member in model.members]
    return [_document(network) for network in (*networks, *(model.spread.networks if model.spread else ()))]


def _test_row(model: TableModel) -> NDArray[np.float32]:
    """The inputs of the self-test."""
    row = _serialization.self_test_row(model.schema.width(bins=True in model.encodings))
    return np.array([row], np.float32)


def _said(member: Member) -> dict[str, Any]:
    spec = member.spec
    return {"place": spec.number, "bins": spec.bins, "fold": spec.fold, "curve": list(member.curve)}


def _or_null(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _table(model: TableModel) -> dict[str, Any]:
    """What stands beside the networks."""
    held, importances = model.held_out, model.importances
    return {
        "task": {"loss": model.task.loss, "quantiles": list(model.task.quantiles)},
        "schema": model.schema.document(),
        "target": model.target.document(),
        "members": [_said(member) for member in model.members],
        "scaling": None if model.scaling is None else model.scaling.to_dict(),
        "bounds": None if model.bounds is None else model.bounds.tolist(),
        "baseline": model.baseline.tolist(),
        "held_out": {
            "n": held.n,
            "score": _or_null(held.score),
            "calibration_error": _or_null(held.calibration_error),
            "temperature": held.temperature,
            "scores": held.scores.tolist(),
        },
        "spread": _spread_document(model.spread),
        "gain": None if model.gain is None else list(model.gain),
        "importances": None if importances is None else [part.tolist() for part in importances],
        "facts": model.facts,
        "self_test": {"outputs": model.predict_encoded(_test_row(model)).ravel().tolist()},
    }


def model_of(table: dict[str, Any], networks: Sequence[NeuralNetwork]) -> TableModel:
    """The model of a table with these networks; ValueError with place and reason where they are none."""
    schema = Schema.from_document(fields.member(table, "schema", dict))
    target = Target.from_document(fields.member(table, "target", dict))
    task = _task(fields.member(table, "task", dict), target)
    classes = task.kind == "classes"
    members = []
    given = fields.member(table, "members", list)
    n_spread = _spread_networks(table)
    if len(given) + n_spread != len(networks):
        n_members = len(networks) - n_spread
        raise ValueError(f"members has {len(given)} items, expected {n_members}, one for each network")
    for i, (spec, network) in enumerate(zip(given, networks, strict=False)):
        member = _member(spec, network, f"members[{i}]")
        width = schema.width(bins=member.spec.bins)
        if (network.sizes[0], network.sizes[-1]) != (width, task.n_network_outputs):
            found = f"{network.sizes[0]} inputs and {network.sizes[-1]} outputs"
            raise ValueError(f"networks[{i}] has {found}, expected {width} and {task.n_network_outputs}")
        members.append(member)
    scaling = fields.member(table, "scaling", dict, type(None))
    scaling = None if scaling is None else Scaling.from_dict(scaling)
    if (scaling is not None) != task.scales_targets or (scaling is not None and scaling.shift.shape != (task.n_out,)):
        raise ValueError("scaling does not fit task")
    bounds = _matrix(table, "bounds", 2, task.n_out)
    bins = any(member.spec.bins for member in members)
    baseline = np.array(fields.vector(fields.member(table, "baseline", list), schema.width(bins=bins), "baseline"))
    model = TableModel(
        task, schema, target, members, scaling, bounds, baseline, _facts(fields.member(table, "facts", dict), target)
    )
    model.held_out = _held_out(fields.member(table, "held_out", dict), 1 if classes else task.n_out)
    if n_spread:
        model.spread = _spread(table, task, schema, networks[len(members) :])
    if table.get("gain") is not None:
        model.gain = Gain(*fields.vector(fields.member(table, "gain", list), 2, "gain"))
    importances = _matrix(table, "importances", 2, len(schema.names))
    model.importances = None if importances is None else (importances[0], importances[1])
    wanted = fields.member(fields.member(table, "self_test", dict), "outputs", list, where="self_test.")
    outputs = model.predict_encoded(_test_row(model)).ravel()
    expected = fields.vector(wanted, len(outputs), "self_test.outputs")
    if not np.allclose(outputs, expected, rtol=1e-4, atol=1e-4 * (1 + np.abs(expected).max())):
        raise ValueError("it does not compute what it did when it was saved: self_test.outputs differ")
    return model


def _member(given: Any, network: NeuralNetwork, where: str) -> Member:
    members = fields.json_object(given, where)
    bins = fields.member(members, "bins", bool, where=f"{where}.")
    place = fields.unsigned(members, "place", 0, f"{where}.", bits=31) or 0
    fold = fields.unsigned(members, "fold", None, f"{where}.", bits=31)
    curve = fields.member(members, "curve", list, where=f"{where}.")
    return Member(
        MemberSpec(place, bins, fold), network, curve=tuple(fields.vector(curve, len(curve), f"{where}.curve"))
    )


def _spread_document(spread: Spread | None) -> dict[str, Any] | None:
    if spread is None:
        return None
    return {"networks": len(spread.networks), "unit": spread.unit.tolist(), "limits": spread.limits.tolist()}


def _spread_networks(table: dict[str, Any]) -> int:
    """Return how many networks predict the spread: 0 where there is none, as in files of 0.1.0."""
    found = table.get("spread")
    if found is None:
        return 0
    return fields.size(fields.json_object(found, "spread").get("networks"), "spread.networks")


def _spread(table: dict[str, Any], task: Task, schema: Schema, networks: Sequence[NeuralNetwork]) -> Spread:
    """Return the spread that a file holds; ValueError where it does not fit the rest."""
    given = fields.json_object(table["spread"], "spread")
    fields.check_keys(given, ("networks", "unit", "limits"), "spread")
    if task.kind == "classes" or task.quantiles:
        raise ValueError("spread is an object, expected null for classes and for quantiles")
    width = schema.width() + task.n_out
    for network in networks:
        if (network.sizes[0], network.sizes[-1]) != (width, task.n_out):
            found = f"{network.sizes[0]} inputs and {network.sizes[-1]} outputs"
            raise ValueError(f"a network of the spread has {found}, expected {width} and {task.n_out}")
    unit = np.array(fields.vector(fields.member(given, "unit", list, where="spread."), task.n_out, "spread.unit"))
    limits = _matrix(given, "limits", 2, task.n_out)
    if limits is None or (unit <= 0).any() or (limits[0] <= 0).any() or (limits[0] > limits[1]).any():
        raise ValueError("spread must have a unit above 0, and rising limits above 0")
    return Spread(tuple(networks), unit, limits)


def _matrix(table: dict[str, Any], key: str, rows: int, n: int) -> NDArray[np.float64] | None:
    """The member of that key, so many rows of n numbers, or null."""
    found = fields.member(table, key, list, type(None))
    if found is None:
        return None
    if len(found) != rows:
        raise ValueError(f"{key} has {len(found)} rows, expected {rows}")
    return np.array(fields.matrix(found, n, lambda i: f"{key}[{i}]"))


def _task(given: dict[str, Any], target: Target) -> Task:
    fields.check_keys(given, ("loss", "quantiles"), "task")
    loss = fields.choice(given, "loss", (CROSS_ENTROPY, *ENGINE_LOSSES), "task.")
    quantiles = fields.member(given, "quantiles", list, where="task.")
    found = fields.vector(quantiles, len(quantiles), "task.quantiles")
    if not all(0 < a < 1 for a in found) or sorted(set(found)) != found or (found and loss != SQUARED_ERROR):
        raise ValueError(f"task.quantiles is {fields.describe(found)}, expected rising numbers between 0 and 1")
    classes = target.classes
    if (classes is not None) != (loss == CROSS_ENTROPY):
        raise ValueError("target does not fit task: one of them has classes, and the other numbers")
    return Task(loss, target.n_outputs if classes is None else len(classes), tuple(found))


def _facts(given: dict[str, Any], target: Target) -> dict[str, Any]:
    keys = "preset", "seed", "trained", "rows", "weighted", "class_weight", "complete", "target", "seconds"
    fields.check_keys(given, keys, "facts")
    return {
        "preset": fields.choice(given, "preset", tuple(PRESETS), "facts."),
        "seed": fields.unsigned(given, "seed", None, "facts."),
        "trained": fields.size(given["trained"], "facts.trained"),
        "rows": fields.size(given["rows"], "facts.rows"),
        "weighted": fields.member(given, "weighted", bool, where="facts."),
        "class_weight": _class_weight(given["class_weight"], target),
        "complete": fields.member(given, "complete", bool, where="facts."),
        "target": fields.member(given, "target", str, type(None), where="facts."),
        "seconds": fields.number(given["seconds"], "facts.seconds"),
    }


def _class_weight(given: Any, target: Target) -> Any:
    if given is None or (given == "balanced" and target.classes is not None):
        return given
    n = 0 if target.classes is None else len(target.classes)
    if type(given) is not list or len(given) != n:
        expected = 'null, "balanced" or a list with one item for each class' if n else "null"
        raise ValueError(f"facts.class_weight is {fields.describe(given)}, expected {expected}")
    weights = [None if x is None else fields.number(x, f"facts.class_weight[{i}]") for i, x in enumerate(given)]
    if any(weight is not None and weight < 0 for weight in weights):
        raise ValueError(f"facts.class_weight is {fields.describe(given)}, expected numbers that are 0 or more")
    return weights


def _held_out(given: dict[str, Any], n_targets: int) -> HeldOut:
    fields.check_keys(given, HeldOut._fields, "held_out")
    scores = fields.member(given, "scores", list, where="held_out.")
    numbers = fields.matrix(scores, n_targets, lambda i: f"held_out.scores[{i}]")
    temperature = fields.number(given["temperature"], "held_out.temperature")
    if temperature <= 0:
        raise ValueError(f"held_out.temperature is {temperature}, expected a number above 0")
    score, error = (
        np.nan if given[key] is None else fields.number(given[key], f"held_out.{key}")
        for key in ("score", "calibration_error")
    )
    n = fields.unsigned(given, "n", 0, "held_out.")
    return HeldOut(n or 0, score, error, temperature, np.array(numbers, np.float64).reshape(-1, n_targets))


# ------------------------------------------------------------------------------------------ checkpoints


def fingerprint(rows: Rows, task: Task, preset: str, seed: int, count: int) -> str:
    """What says that a fit is the same: of its data and of all that decides about the members."""
    found = sha256(f"{PLAN} {task!r} {preset} {seed} {count}".encode())
    for array in rows:
        if array is not None:
            found.update(f"{array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def write_checkpoint(path: Any, key: str, members: Sequence[Member]) -> None:
    """Save members of a fit that is not done, with the snapshots that estimates need."""
    networks = [member.network for member in members]
    entries = []
    for member in members:
        snapshots: dict[int, int] = {}  # index among the networks, by the identity of the parameters
        for params in member.params:
            if id(params) not in snapshots:
                snapshots[id(params)] = len(networks)
                networks.append(with_params(member.network, params))
        entries.append(
            {
                **_said(member),
                "error": _or_null(member.error),
                "snapshots": [snapshots[id(params)] for params in member.params],
                "errors": [_or_null(error) for error in member.errors],
            }
        )
    _serialization.write(path, [_document(network) for network in networks], {"fit": key, "members": entries})


def read_checkpoint(path: Any, key: str) -> list[Member]:
    """Return the members in such a file, none if there is no file.

    Raises
    ------
    OSError
        It cannot be read, or is of another fit.
    """
    if not os.path.exists(path):
        return []
    documents, beside = _serialization.read(path, WHAT)
    where = disk.describe_source(path)
    if beside.get("fit") != key:
        raise _serialization.ModelFileError(
            f"cannot go on from {where}: it is not a checkpoint of this fit, which has other data or other parameters; "
            "name another file, or delete it"
        )
    with _serialization.build_errors(where, WHAT):
        given = fields.member(beside, "members", list)
        networks = [NeuralNetwork._from_document(document, where, None) for document in documents]
        if len(networks) < len(given):
            raise ValueError(f"networks has {len(networks)} items, expected one for each of {len(given)} members")
        params = [network.params for network in networks]
        return [_member_of_checkpoint(each, i, networks[i], params) for i, each in enumerate(given)]


def _member_of_checkpoint(given: Any, i: int, network: NeuralNetwork, params: Sequence[NDArray[np.float32]]) -> Member:
    """Return member i of a checkpoint; `params` are those of all networks in the file."""
    where = f"members[{i}]"
    member = _member(given, network, where)
    snapshots = fields.member(given, "snapshots", list, where=f"{where}.")
    errors = fields.member(given, "errors", list, where=f"{where}.")
    n_parts = 0 if member.spec.fold is None else N_PARTS
    if len(snapshots) not in (0, n_parts) or len(errors) != n_parts:
        found = f"{len(snapshots)} snapshots and {len(errors)} errors"
        raise ValueError(f"{where} has {found}, expected {n_parts} of each")
    for index in snapshots:
        if type(index) is not int or not 0 <= index < len(params) or len(params[index]) != network.n_params:
            raise ValueError(f"{where}.snapshots has {fields.describe(index)}, expected the index of a network like it")
    return member._replace(
        error=_or_nan(given.get("error"), f"{where}.error"),
        params=tuple(params[index] for index in snapshots),
        errors=tuple(_or_nan(error, f"{where}.errors") for error in errors),
    )


def _or_nan(value: Any, where: str) -> float:
    return np.nan if value is None else fields.number(value, where)


def remove_checkpoint(path: Any) -> None:
    """Of a fit that is done."""
    if os.path.exists(path):
        os.remove(path)
