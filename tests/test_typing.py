"""Tests of the public types: mypy checks a script of a user, and pyright finds no missing type."""

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import nnc
from nnc._data import scaling
from nnc._registry import activations, choices, initializers, losses, optimizers
from nnc._training import arguments

SCRIPT = """
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import nnc
from nnc import DivergedError, History, ModelFileError, NeuralNetwork
from nnc.datasets import load_digits, load_mnist, read_idx, train_test_split
from nnc.images import ImageClassifier

X, y = load_digits()
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=450, seed=0)
net = NeuralNetwork([64, 32, 10], activation=["relu"], loss="cross_entropy", dtype=np.float32, seed=0)
try:
    history = net.fit(X_train, y_train, epochs=2, lr=0.1, optimizer="momentum", batch_size=32)
    assert_type(history, History)
    assert_type(history.loss, NDArray[np.float64])
except DivergedError as error:
    assert_type(error.history, History)

assert_type(net.predict([[0.0] * 64]), NDArray[Any])
assert_type(net.predict_classes(X_test), NDArray[Any])
assert_type(net.score(X_test, y_test), float)
assert_type(net.evaluate_loss(X_test, y_test), float)
assert_type(net.train_step(X_test, y_test, 0.1), float)
assert_type(net.train_step(X_test, dP=net.predict(X_test)), float)

def squared(P: NDArray[Any], Y: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    return float(((P - Y) ** 2).mean()), 2 * (P - Y) / P.size

NeuralNetwork([3, 1], loss=squared)
heads = nnc.Heads([nnc.Head(1), nnc.Head(2, "bce", weight=0.5)])
assert_type(NeuralNetwork([3, 3], loss=heads).heads, nnc.Heads | None)
assert_type(ImageClassifier(epochs=3).fit("photos").predict_proba("new"), NDArray[np.float64])
assert_type(nnc.OnlineRegressor().predict_one({"a": 1.0, "b": True}), float)
assert_type(net.vjp(X, X), tuple[list[tuple[NDArray[Any], NDArray[Any] | None]], NDArray[Any]])
assert_type(net.jacobian(X), NDArray[Any])
assert_type(net.gradients(X, y), list[tuple[NDArray[Any], NDArray[Any] | None]])
assert_type(net.sizes, tuple[int, ...])
assert_type(net.weights[0], NDArray[Any])
assert_type(net.layers[0].b, NDArray[Any] | Any)
assert_type(net.copy(), NeuralNetwork)
net.weights[0] = [[0.0] * 32] * 64
net.weights = [W * 0.5 for W in net.weights]
net.params = net.params * 0.5
try:
    net.save(Path("net.json"))
    assert_type(NeuralNetwork.load("net.json"), NeuralNetwork)
    net.to_onnx("net.onnx", dtype=np.float32)
    net.to_c(Path("net.h"), name="net")
    assert_type(nnc.from_onnx("net.onnx", loss="mse"), NeuralNetwork)
except (ModelFileError, IOError):
    pass

try:
    assert_type(read_idx("images"), NDArray[Any])
    assert_type(load_mnist("mnist").X_train, NDArray[np.uint8])
except FileNotFoundError:
    pass
net.fit_batches(nnc.augment(X, y, shape=(8, 8), shift=1), epochs=1)
nnc.augment(X, y, rotation=1)  # type: ignore[call-arg]

assert_type(net.to_svg(), str)
assert_type(str(net.draw(X[0], neurons=4)), str)
nnc.plot.history(history).set_title("digits")
net.fit(X, y, epochs=1, verbose=1, callback=[nnc.CSVLogger("log.csv"), nnc.TensorBoard("runs", every=10)])
nnc.plot.weights(net, layers=1)  # type: ignore[call-arg]

assert_type(nnc.compare([1, 1], [[1.0]], [1.0], epochs=1).speedup, float)
assert_type(nnc.reference.NeuralNetwork([1, 1]).fit([[1]], [1], epochs=1).loss, list[float])

# mypy rejects these lines; it would report an ignore comment that has no effect.
net.fit(X, y, epochs=1, rate=0.1)  # type: ignore[call-arg]
net.fit(X, y, epochs="1")  # type: ignore[arg-type]
NeuralNetwork(3)  # type: ignore[arg-type]
assert_type(nnc.SGD(0.1, momentum=0.9).momentum, float)
assert_type(nnc.AdamW().betas, tuple[float, float])
NeuralNetwork([3, 1], activation="reluu")  # type: ignore[arg-type]
NeuralNetwork([3, 1], loss="crossentropy")  # type: ignore[arg-type]
NeuralNetwork([3, 1], dtype="float16")  # type: ignore[arg-type]
net.fit(X, y, optimizer="adm")  # type: ignore[arg-type]
net.fit(X, y, preset="automatic")  # type: ignore[arg-type]
nnc.layers.Dense(3, "reluu")  # type: ignore[arg-type]
nnc.SGD(rate=0.1)  # type: ignore[call-arg]
nnc.StepLR(0.1)  # type: ignore[call-arg]
nnc.Adam().lr = 0.1  # type: ignore[misc]
net.sizes = (1, 2)  # type: ignore[misc]
nnc.no_such_name  # type: ignore[attr-defined]
"""


def test_mypy_accepts_script_of_user(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(SCRIPT)
    folder = Path(nnc.__file__).parents[1]
    # mypy looks into site-packages by itself, but does not find an editable installation.
    path = {} if folder.name == "site-packages" else {"MYPYPATH": str(folder)}
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "cache", "script.py"],
        cwd=tmp_path,
        env={**os.environ, **path},
        capture_output=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("literal", "names"),
    [
        (choices.HiddenActivationName, activations.HIDDEN),
        (choices.ActivationName, activations.NAMES),
        (choices.LossName, losses.NAMES),
        (choices.InitializerName, initializers.NAMES),
        (choices.OptimizerName, optimizers.NAMES),
        (choices.ScalerName, scaling.SCALERS),
        (choices.PresetName, arguments.PRESETS),
    ],
)
def test_types_of_names_match_tables(literal, names):
    parts = get_args(literal)
    flat = [name for part in parts for name in (get_args(part) or [part])]
    assert sorted(flat) == sorted(names)


def test_types_of_names_of_table_models_match_tables():
    recipe = pytest.importorskip("nnc.tabular.recipe", exc_type=ImportError)
    assert sorted(get_args(choices.TablePresetName)) == sorted(recipe.PRESETS)
    assert sorted(get_args(choices.TableLossName)) == sorted(recipe.ENGINE_LOSSES)


# Lines of the guide with errors on purpose, and lines about which the types of other packages are wrong.
IGNORED_LINES = (
    'activation="swish"',
    "learning_rate=",
    'loss="sparse_categorical_crossentropy"',
    "label == net.predict_classes(X_test)",
    "model.validation_loss_curve_",
)


def run_pyright(folder):
    """Return the errors that pyright finds in the files of a folder, and the lines that contain them."""
    settings = {"reportMissingImports": False, "reportMissingModuleSource": False}
    settings["extraPaths"] = [str(Path(nnc.__file__).parents[1])]  # lets pyright find nnc in an editable installation
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-P", "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=folder)
    errors = [one for one in json.loads(result.stdout)["generalDiagnostics"] if one["severity"] == "error"]
    lines = [
        Path(one["file"]).read_text(encoding="utf-8").splitlines()[one["range"]["start"]["line"]] for one in errors
    ]
    return list(zip(errors, map(str.strip, lines), strict=True))


PLOTS = """
from typing import assert_type

import nnc
from matplotlib.axes import Axes

net = nnc.NeuralNetwork([2, 1])
history = net.fit([[0, 1]], [1])
assert_type(nnc.plot.history(history), Axes)
assert_type(history.plot(), Axes)
ax = nnc.plot.weights(net, nnc.plot.history(history), layer=-1)
ax.set_title("weights").set_fontsize(9)
ax.set_titel("weights")  # wrong
nnc.plot.predictions(net, [[0, 1]], [1], "ax")  # wrong
"""


def test_pyright_finds_types_of_matplotlib(tmp_path):
    pytest.importorskip("pyright")
    pytest.importorskip("matplotlib")
    (tmp_path / "plots.py").write_text(PLOTS)
    wrong = [line for line in PLOTS.splitlines() if line.endswith("# wrong")]
    assert [line for _, line in run_pyright(tmp_path)] == wrong


def test_pyright_accepts_code_of_guide(tmp_path):
    """One process of pyright checks the code blocks of all pages, and a file with an error that it must find."""
    pytest.importorskip("pyright")
    guide = Path(__file__).parent.parent / "docs" / "guide"
    if not guide.exists():
        pytest.skip("needs the checkout")
    for page in guide.glob("*.md"):
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        (tmp_path / f"page_{page.stem.replace('-', '_')}.py").write_text("".join(blocks), encoding="utf-8")
    (tmp_path / "wrong.py").write_text('import nnc\nnnc.NeuralNetwork([3, 1], activation="reluu")\n')
    errors = []
    for finding, line in run_pyright(tmp_path):
        # Pages use variables of a loop after it, which pyright reports.
        is_unbound = "PossiblyUnbound" in finding.get("rule", "")
        if not is_unbound and not any(part in line for part in IGNORED_LINES):
            errors.append(f"{Path(finding['file']).stem}: {line}: {finding['message']}")
    wrong = [error for error in errors if error.startswith("wrong:")]
    assert len(wrong) == 1
    assert '"reluu"' in wrong[0]
    assert errors == wrong


def public_definitions():
    """Yield the qualified names of the definitions of all public classes and functions, and of their base classes."""
    for suffix in ("", ".datasets", ".layers", ".plot", ".reference", ".sklearn", ".dask", ".tabular", ".river"):
        try:
            module = importlib.import_module(f"nnc{suffix}")
        except ImportError:  # skip modules whose optional package is not installed
            continue
        for name in module.__all__:
            member = getattr(module, name)
            for part in member.__mro__ if inspect.isclass(member) else [member] if inspect.isfunction(member) else []:
                if part.__module__.partition(".")[0] == "nnc":
                    yield f"{part.__module__}.{part.__qualname__}"


# Messages about types that are unknown only because scikit-learn has no type annotations.
UNTYPED_PACKAGE_MESSAGES = re.compile(
    'Type of (metaclass|base class) unknown$|Type of base class "nnc[.]|No docstring found|'
    r'Return type is partially unknown\s+Return type is "TableEstimator"'
)


def is_incomplete(symbol):
    """Return whether pyright finds an unknown type in a symbol, except types of classes of scikit-learn."""
    if symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]:
        return False
    messages = [one["message"] for one in symbol["diagnostics"]]
    return not messages or not all(map(UNTYPED_PACKAGE_MESSAGES.match, messages))


def test_types_of_all_public_names_are_complete():
    """pyright checks all public names and the attributes of their types."""
    pytest.importorskip("pyright")
    pytest.importorskip("matplotlib")  # pyright needs matplotlib, whose types nnc.plot returns
    names = set(public_definitions())
    folder = Path(nnc.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-m", "pyright", "--ignoreexternal", "--verifytypes", "nnc", "--outputjson"],
        capture_output=True,
        encoding="utf-8",
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},  # lets pyright find nnc in an editable installation
    )
    symbols = json.loads(result.stdout)["typeCompleteness"]["symbols"]
    assert names & {symbol["name"] for symbol in symbols}
    incomplete = (symbol["name"] for symbol in symbols if is_incomplete(symbol))
    assert not [symbol for symbol in incomplete if any(f"{symbol}.".startswith(f"{name}.") for name in names)]
