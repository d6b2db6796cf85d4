"""Tests of the file format page: its schema accepts every saved file, and its reader predicts like the network."""

import copy
import json
import re
from hashlib import sha256
from pathlib import Path
from struct import pack

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork, pde
from nnc._registry import activations, losses, optimizers
from nnc._serialization import document
from nnc._serialization.training import TRAINING_KEYS
from nnc.layers import layer_classes_by_type
from nnc.layers.base import LEARNING_DEFAULTS

DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.exists():
    pytest.skip("docs/ is not here", allow_module_level=True)
SCHEMA = json.loads((DOCS / "nnc-network.schema.json").read_text(encoding="utf-8"))
PAGE = (DOCS / "file-format.md").read_text(encoding="utf-8")
NETWORK = SCHEMA["$defs"]["network"]["properties"]


def validator():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(SCHEMA)


def test_schema_defines_each_name_once_and_all_that_it_refers_to():
    text = (DOCS / "nnc-network.schema.json").read_text(encoding="utf-8")

    def unique(pairs):
        names = [name for name, _ in pairs]
        assert len(set(names)) == len(names), names
        return dict(pairs)

    json.loads(text, object_pairs_hook=unique)
    assert {*re.findall(r'"\$ref": "#/\$defs/(\w+)"', text)} <= {*SCHEMA["$defs"]}


def test_schema_contains_all_names():
    assert NETWORK["loss"]["enum"] == [*losses.NAMES, losses.CUSTOM]
    assert SCHEMA["$defs"]["activation"]["enum"] == list(activations.NAMES)
    assert SCHEMA["$defs"]["optimizer"]["properties"]["name"]["enum"] == list(optimizers.ROWS)
    assert SCHEMA["$defs"]["training"]["required"] == list(TRAINING_KEYS)
    assert set(SCHEMA["$defs"]["learning"]["properties"]) == {*LEARNING_DEFAULTS, "missed_steps"}
    kinds = {
        part["properties"]["type"]["const"] for part in SCHEMA["$defs"].values() if "type" in part.get("properties", ())
    }
    assert kinds == set(layer_classes_by_type())
    references = {location["$ref"].split("/")[-1] for location in SCHEMA["$defs"]["all_layers"]["items"]["oneOf"]}
    assert references == kinds - {"input"}
    document_keys = document.validated_document(json.loads(NeuralNetwork([2, 1], seed=0).to_json()))
    # Only files of nnc.pde.Problem have the member "problem", and only those of ImageClassifier "training_images".
    assert set(NETWORK) == {*document_keys, "problem", "training_images", "sha256"}


def test_page_lists_all_members_activations_and_layers():
    for name in (*NETWORK, *LEARNING_DEFAULTS):
        assert f"`{name}`" in PAGE
    for name in activations.NAMES:
        assert f"\n| {name} | " in PAGE
    for name in layer_classes_by_type():
        assert re.search(rf"\n\| [^|\n]*\b{name}\b", PAGE)


def test_schema_accepts_every_saved_file(exported):
    checks = validator()
    for net in exported[0].values():
        for checkpoint in (False, True):
            checks.validate(json.loads(net.to_json(checkpoint)))


def test_schema_accepts_checkpoints_of_all_optimizers():
    checks = validator()
    X, y = np.random.default_rng(0).normal(0, 1, (20, 3)), np.zeros(20)
    for name in optimizers.ROWS:
        second_order = name in ("lbfgs", "levenberg_marquardt")
        dropped = [] if second_order else [nnc.layers.Dropout(0.1)]
        net = NeuralNetwork([3, nnc.layers.Dense(4, trainable=False), *dropped, 1], loss="mse", seed=2**64 - 1)
        options = {} if second_order else {"lr": nnc.Warmup(nnc.StepLR(0.01, step_size=2), epochs=1), "batch_size": 5}
        net.fit(X, y, epochs=2, optimizer=name, validation=(X, y), **options)
        checks.validate(json.loads(net.to_json(checkpoint=True)))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_files_of_equations_match_schema(checkpoint, tmp_path):
    checks = validator()
    net = NeuralNetwork([1, 3, 1], activation="tanh", loss="mse", seed=0)
    term = pde.Residual(lambda p, u, k: u.d("x0") + k * u, np.linspace(0, 1, 8)[:, None])
    problem = pde.Problem(net, term, coefficients={"k": 1.0})
    problem.fit(epochs=3, lr=1e-3)
    problem.save(tmp_path / "problem.json", checkpoint=checkpoint)
    document = json.loads((tmp_path / "problem.json").read_text(encoding="utf-8"))
    assert document["problem"]["coefficients"].keys() == {"k"}
    checks.validate(document)


@pytest.mark.parametrize(
    ("location", "value"),
    [
        (["format"], "other"),
        (["version"], 3),
        (["dtype"], "float16"),
        (["loss"], "l2"),
        (["layers"], []),
        (["layers", 0, "type"], "lstm"),
        (["layers", 0, "activation"], "swish"),
        (["layers", 0, "W", 0, 1], "1"),
        (["layers", 0, "n_out"], 0),
        (["layers", 1, "x"], 1),
        (["classes"], ["a", 1]),
        (["classes"], ["a", "a"]),
        (["scale_X", "type"], "pixels"),
        (["scale_X", "factor"], None),
        (["self_test", "P"], None),
        (["sha256"], "0"),
        (["training", "steps"], -1),
        (["training", "moments"], None),
        (["seed"], 2**64),
        (["settings", "preset"], "other"),
        (["settings", "batch_size"], 0),
    ],
)
def test_schema_rejects_invalid_values(location, value):
    checks = validator()
    net = NeuralNetwork([3, 4, 2], loss="cross_entropy", seed=0, scale_X="standardize")
    net.fit(np.random.default_rng(0).normal(0, 1, (20, 3)), ["a", "b"] * 10, epochs=1, optimizer="adam")
    content = json.loads(net.to_json(checkpoint=True))
    assert checks.is_valid(content)
    changed = copy.deepcopy(content)
    part = changed
    for key in location[:-1]:
        part = part[key]
    part[location[-1]] = value
    assert not checks.is_valid(changed)
    assert checks.is_valid({**content, "unknown": 1})


def test_reader_of_page_predicts_like_network(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    net = NeuralNetwork([3, 4, 2], activation="relu", loss="cross_entropy", seed=0, scale_X="standardize")
    net.fit(np.random.default_rng(0).normal(20, 5, (20, 3)), ["no", "yes"] * 10, epochs=1, lr=0.001)
    net.save("net.json")
    names = {}
    exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], names)
    assert capsys.readouterr().out.startswith("['no', 'yes'] [0.")
    rows = [[20.0, 21.0, 19.0], [1.0, 2.0, 3.0]]
    assert np.abs(np.array([names["predict"](names["network"], row) for row in rows]) - net.predict(rows)).max() < 1e-12


def test_example_of_page_is_valid_except_checksum():
    checks = validator()
    example = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    assert [error.json_path for error in checks.iter_errors({**example, "sha256": "0" * 64})] == []
    del example["sha256"], example["self_test"]
    assert nnc.from_json(json.dumps(example)).classes.tolist() == ["no", "yes"]


def test_checksum_follows_definition_of_page(exported):
    def changed(part):
        if isinstance(part, dict):
            return {key: changed(value) for key, value in part.items() if value is not None}
        if isinstance(part, list):
            rows = part if part and isinstance(part[0], list) else [part]
            numbers = [number for row in rows for number in row]
            if numbers and all(type(n) in (int, float) and float(n) == n for n in numbers):
                return sha256(pack(f"<{len(numbers)}d", *numbers)).hexdigest()
            return [changed(value) for value in part]
        return int(part) if isinstance(part, float) and part == int(part) else part

    for net in exported[0].values():
        content = json.loads(net.to_json())
        checked_members = {key: value for key, value in content.items() if key != "sha256"}
        text = "2" + json.dumps(changed(checked_members), sort_keys=True, separators=(",", ":"))
        assert sha256(text.encode("ascii")).hexdigest() == content["sha256"]
