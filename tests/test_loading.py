"""Tests of `nnc.load`, which opens the file of any model, and of the `load` methods of single classes."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._utils.packages import install_command

X = np.random.default_rng(0).normal(size=(12, 3))
MODELS = Path(__file__).parent / "models"


def square(P, Y):
    return ((P - Y) ** 2).mean(), 2 * (P - Y) / P.size


@pytest.mark.parametrize("name", ["net.json", "net.safetensors"])
def test_load_opens_a_network(tmp_path, name):
    net = NeuralNetwork([3, 5, 2], activation="tanh", dtype="float32", seed=1)
    net.save(tmp_path / name)
    loaded = nnc.load(tmp_path / name)
    assert type(loaded) is NeuralNetwork
    assert loaded.predict(X).tobytes() == net.predict(X).tobytes()


def test_load_opens_an_ensemble(tmp_path):
    ensemble = nnc.Ensemble(nnc.clones(NeuralNetwork([3, 5, 2], seed=1), 3))
    ensemble.save(tmp_path / "e.json")
    loaded = nnc.load(tmp_path / "e.json")
    assert type(loaded) is nnc.Ensemble
    assert loaded.predict(X).tobytes() == ensemble.predict(X).tobytes()


@pytest.mark.parametrize(("name", "kind"), [("classes", "TableClassifier"), ("counts", "TableRegressor")])
def test_load_opens_table_model(name, kind):
    tabular = pytest.importorskip("nnc.tabular", exc_type=ImportError)
    path = MODELS / f"table_{name}.json"  # nnc 0.1.0 has written this file
    model, loaded = nnc.load(path), getattr(tabular, kind).load(path)
    assert type(model).__name__ == kind
    assert [net.params.tobytes() for net in model.networks_] == [net.params.tobytes() for net in loaded.networks_]


def test_accuracies_in_old_file_become_zero_one_losses(tmp_path):
    tabular = pytest.importorskip("nnc.tabular", exc_type=ImportError)
    content = json.loads((MODELS / "table_classes.json").read_text())
    del content["sha256"]
    content["table"]["members"][3]["curve"] = [0.25, 0.75]
    (tmp_path / "old.json").write_text(json.dumps(content))
    model = tabular.TableClassifier.load(tmp_path / "old.json")
    assert model.model_.members[3].curve == (0.75, 0.25)
    assert 3 not in [member.spec.number for member in model.model_.with_members(4).members]
    model.save(tmp_path / "new.json")
    curves = [member.curve for member in tabular.TableClassifier.load(tmp_path / "new.json").model_.members]
    assert curves == [member.curve for member in model.model_.members]


@pytest.mark.parametrize("mixed", [[[1.0], 2], [[1.0], None], [[1.0], True], [[1.0], {}], [[1.0], ""], [[[1.0]], 2]])
def test_list_of_lists_and_other_values_does_not_match_checksum(mixed):
    content = json.loads((MODELS / "table_classes.json").read_text())
    content["table"]["baseline"] = mixed
    with pytest.raises(nnc.ModelFileError, match="its content does not match its checksum"):
        nnc.load(io.StringIO(json.dumps(content)))


def test_file_with_removed_preset_is_read_with_its_number_of_networks(tmp_path):
    tabular = pytest.importorskip("nnc.tabular", exc_type=ImportError)
    content = json.loads((MODELS / "table_classes.json").read_text())
    del content["sha256"]
    content["table"]["facts"].update(preset="best", trained=24)
    (tmp_path / "old.json").write_text(json.dumps(content))
    model = tabular.TableClassifier.load(tmp_path / "old.json")
    assert (model.preset, model.members) == ("default", 24)
    assert "TableClassifier('default', members=24, random_state=" in model.report().facts["reproduce with"]


def test_load_reads_open_text_file():
    net = NeuralNetwork([3, 2], seed=1)
    file = io.StringIO(net.to_json())
    assert nnc.load(file).params.tobytes() == net.params.tobytes()
    with pytest.raises(nnc.ModelFileError, match=r"cannot load the model from the open file: .*seek"):
        nnc.load(file)


def test_load_requires_function_of_custom_loss(tmp_path):
    net = NeuralNetwork([3, 1], loss=square, seed=1)
    net.save(tmp_path / "net.json")
    with pytest.raises(TypeError, match=r"load\(path, loss=square\)"):
        nnc.load(tmp_path / "net.json")
    assert nnc.load(tmp_path / "net.json", loss=square).evaluate_loss(X, X[:, 0]) == net.evaluate_loss(X, X[:, 0])


def test_load_rejects_other_files_and_names_formats(tmp_path):
    path = tmp_path / "x.json"
    for content, message in (
        ({"format": "other"}, 'format is "other", expected one of "nnc-network", "nnc-ensemble", "nnc-table", "nnc-f'),
        ({"a": 1}, "format is missing, expected one of"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(nnc.ModelFileError, match=message):
            nnc.load(path)
    for text in ("", "[1]", "{", "\0"):
        path.write_text(text)
        with pytest.raises(nnc.ModelFileError, match="cannot load the model from"):
            nnc.load(path)
    with pytest.raises(FileNotFoundError, match="cannot load the model: there is no file"):
        nnc.load(tmp_path / "missing.json")


def test_load_of_class_rejects_files_of_other_models(tmp_path):
    net = NeuralNetwork([3, 2], seed=1)
    net.save(tmp_path / "net.json")
    nnc.Ensemble([net]).save(tmp_path / "e.json")
    with pytest.raises(nnc.ModelFileError, match=r"the content is an ensemble of networks; load it with nnc\.load"):
        NeuralNetwork.load(tmp_path / "e.json")
    with pytest.raises(nnc.ModelFileError, match=r"the content is a single network; load it with nnc\.load"):
        nnc.Ensemble.load(tmp_path / "net.json")
    with pytest.raises(nnc.ModelFileError, match=r"the content is a table model; load it with nnc\.load"):
        NeuralNetwork.load(MODELS / "table_classes.json")


@pytest.mark.parametrize("name", ["net.json", "net.safetensors"])
def test_load_of_subclass_returns_subclass(tmp_path, name):
    class Mine(NeuralNetwork):
        pass

    net = Mine([3, 2], seed=1)
    net.save(tmp_path / name)
    loaded = Mine.load(tmp_path / name)
    assert type(loaded) is Mine
    assert loaded.params.tobytes() == net.params.tobytes()
    assert type(NeuralNetwork.load(tmp_path / name)) is NeuralNetwork


def test_load_of_table_class_rejects_files_of_other_models(tmp_path):
    tabular = pytest.importorskip("nnc.tabular", exc_type=ImportError)
    NeuralNetwork([3, 2], seed=1).save(tmp_path / "net.json")
    with pytest.raises(nnc.ModelFileError, match=r"the content is a single network; load it with nnc\.load"):
        tabular.TableClassifier.load(tmp_path / "net.json")
    with pytest.raises(nnc.ModelFileError, match=r"load it with TableRegressor\.load or nnc\.load"):
        tabular.TableClassifier.load(MODELS / "table_counts.json")


@pytest.mark.parametrize(
    ("name", "writer"),
    [("a.onnx", "to_onnx"), ("a.H", "to_c"), ("a.js", "to_js"), ("a.keras", "nnc.to_keras"), ("a.pt", "to_torch")],
)
def test_save_refuses_extension_of_other_format_and_names_its_function(tmp_path, name, writer):
    for model in (NeuralNetwork([3, 1]), nnc.Ensemble([NeuralNetwork([3, 1])])):
        with pytest.raises(ValueError, match=rf'path must have the extension "\.json", got .*{name}.; .*{writer}'):
            model.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_load_of_other_format_names_function_that_reads_it(tmp_path):
    net = NeuralNetwork([3, 1])
    net.to_onnx(tmp_path / "net.onnx")
    net.save(tmp_path / "net.safetensors")
    for load in (nnc.load, NeuralNetwork.load, nnc.Ensemble.load):
        with pytest.raises(nnc.ModelFileError, match=r"begin with .*; nnc\.from_onnx reads ONNX files"):
            load(tmp_path / "net.onnx")
    (tmp_path / "net.pt").write_bytes(b"PK")
    with pytest.raises(nnc.ModelFileError, match=r"begin with .*; load the module, and pass it to nnc\.from_torch"):
        nnc.load(tmp_path / "net.pt")
    with pytest.raises(nnc.ModelFileError, match=r"begin with .*; nnc\.load reads networks in this format"):
        nnc.Ensemble.load(tmp_path / "net.safetensors")
    (tmp_path / "old.onnx").write_text(net.to_json())  # earlier versions wrote JSON files with any extension
    assert nnc.load(tmp_path / "old.onnx").sizes == (3, 1)


def test_load_of_safetensors_of_other_package_names_readers(tmp_path):
    numpy_files = pytest.importorskip("safetensors.numpy")
    numpy_files.save_file({"weight": np.zeros((2, 3, 4))}, tmp_path / "net.safetensors")
    with pytest.raises(nnc.ModelFileError, match=r"is not from nnc; .* pass the model to nnc\.from_torch or nnc"):
        nnc.load(tmp_path / "net.safetensors")


def test_load_of_table_without_scikit_learn_names_install_command():
    code = (
        "import sys; sys.modules['sklearn'] = None; import nnc\n"
        f"try: nnc.load({str(MODELS / 'table_classes.json')!r})\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert install_command("tables") in done.stdout


def test_removed_loader_of_tables_suggests_nnc_load():
    tabular = pytest.importorskip("nnc.tabular", exc_type=ImportError)
    with pytest.raises(AttributeError, match=r"module 'nnc\.tabular' has no attribute 'load'; did you mean nnc\.load"):
        tabular.load  # noqa: B018
