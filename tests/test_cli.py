"""Tests of the commands demo, inspect, predict, compare and config, of the command line, and of the examples."""

import csv
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._cli import demo as demo_command
from nnc._cli.formats import parse_records
from nnc._cli.main import main
from nnc.datasets import load_digits

EXAMPLES = Path(__file__).parent.parent / "examples"
X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=float)

# For each example, a pattern that occurs in its output.
EXPECTED = {
    "tutorial_xor.py": r"\[0, 1, 1\] -> 0\.9\d+, target 1",
    "digits.py": r"not seen in training: 9[5-9]\.\d%",
    "fit_a_curve.py": r"not seen in training: 0\.9[7-9]",
    "cart_pole.py": r"100 new trials: (4[89]\d|500)\.\d of 500 steps\npredict: \d+ calls, median",
    "actor_critic.py": r"100 new trials: (4[89]\d|500)\.\d of 500 steps\npredict: \d+ calls, median",
    "pendulum.py": r"in the last 2 s: \d\.\d degrees from the top at most\npredict: \d+ calls, median",
    "forecast.py": r"the network has [5-9]\d% of the error of .*\npredict_one: \d+ calls, median",
    "compare_with_reference.py": r"times as fast\n\naccuracy of the trained network: 9\d\.\d%",
    "iris_from_csv.py": r"(9\d|100)\.\d% accuracy on 38 flowers",
    "intervals.py": r"quantiles: (8[5-9]|9\d)% .*\nconformal: (8[5-9]|9\d)% of 400 new rows are covered",
    "time_series.py": r"mean absolute error: .* ratio [4-7]\d%",
    "digits_1d.py": r"CNN: 5210 .*: 9[0-6]\.\d%\nGRU: 5134 .*: (8[89]|9[0-4])\.\d%",
    "audio_filter.py": r"new audio: 0\.\d+%\ntime per sample: [\d.]+ us of the 62\.5 us",
    "shock.py": r"relative error: \d\.\de-0[4-9]",
    "diffusivity.py": r"diffusivity: 0\.(29|30)\d+, exact 0\.3\nlargest error .*: 0\.0[01]",
    "ensemble.py": r"of the ensemble: 9[6-9]\.\d%\nsame predictions after loading: True",
    "export_to_c.py": r"in Python: accuracy 9[5-9]\.\d% on .*\n(in C, float64: .* 100\.0% of the predictions|no C)",
    "search_on_a_cluster.py": r"27 trials in .* lowest loss 0\.[01]\d+ with",
}
REQUIRED_PACKAGES = {"search_on_a_cluster.py": "distributed", "digits_1d.py": "mnist1d"}

LONG_EXAMPLES = {  # each takes at least 0.4 s
    *("shock.py", "pendulum.py", "audio_filter.py", "actor_critic.py", "diffusivity.py", "compare_with_reference.py"),
    *("forecast.py", "export_to_c.py", "cart_pole.py", "intervals.py"),
}


def run(*arguments, cwd, **options):
    """Run Python in the folder `cwd`, because nnc/ in the checkout would shadow the installed package."""
    environment = {**os.environ, "PYTHONWARNINGS": "error", **options.pop("env", {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", **options}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, timeout=60, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a network and the path of its file."""
    net = NeuralNetwork([3, 4, 2], seed=1)
    path = tmp_path_factory.mktemp("cli") / "net.json"
    net.save(path)
    return net, str(path)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run `nnc demo` once, and return the finished process."""
    return run("-m", "nnc", "demo", cwd=tmp_path_factory.mktemp("demo"), env={"PYTHONIOENCODING": "utf-8"})


# ---- demo


def test_demo_passes_its_own_checks(demo):
    assert demo.stderr == ""
    assert demo.returncode == 0
    assert demo.stdout.rstrip().endswith("All checks passed.")
    assert "FAILED" not in demo.stdout


def test_demo_trains_tutorial_network(demo):
    assert "3 x 4" in demo.stdout
    assert "4 x 1" in demo.stdout
    table = re.findall(r"^ +(\d+) +(\d\.\d{6})(?:  █+)?$", demo.stdout, re.MULTILINE)
    assert [int(i) for i, _ in table] == list(range(0, 1501, 150))
    losses = [float(loss) for _, loss in table]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.01
    assert "The loss decreased in each of the 1500 iterations." in demo.stdout
    rows = re.findall(r"^ +([01]) ([01]) 1 +([01]) +(\d\.\d+)$", demo.stdout, re.MULTILINE)
    assert len(rows) == 4
    for a, b, target, prediction in rows:
        assert int(target) == int(a) ^ int(b)
        assert abs(float(prediction) - int(target)) < 0.1
    assert "plain Python" in demo.stdout
    assert "largest difference" in demo.stdout
    assert re.search(r"the engine is [\d,.]+ times as fast", demo.stdout)


def test_demo_classifies_digits(demo):
    right = int(re.search(r"test accuracy \d\d\.\d%: (\d+) of 450", demo.stdout)[1])
    assert right >= 0.95 * 450
    assert re.search(r"trained on one core in [\d.]+ ms", demo.stdout)
    table = re.findall(r"^ +\d \|((?: +[\d.]+){10})$", demo.stdout, re.MULTILINE)
    counts = np.array([[int(cell) if cell != "." else 0 for cell in row.split()] for row in table])
    assert counts.shape == (10, 10)
    assert counts.sum() == 450
    assert np.trace(counts) == right
    assert ", correct" in demo.stdout
    assert (", wrong: a " in demo.stdout) == (right < 450)


def test_demo_shows_inspection_and_saving(demo):
    assert "* Inputs: 3\n------\nHidden Layer 1\nNeurons: 4\n Neuron 0\n  Weight: " in demo.stdout
    assert len(re.findall(r"bytes of predictions: equal", demo.stdout)) == 2


def test_demo_prints_at_most_80_columns(demo):
    assert max(map(len, demo.stdout.splitlines())) <= 80


def test_demo_prints_ascii_if_output_encoding_is_ascii(tmp_path):
    result = run("-m", "nnc", "demo", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0
    assert result.stdout.isascii()
    assert "####" in result.stdout
    assert list(tmp_path.iterdir()) == []


class Broken(NeuralNetwork):
    """Network whose loss increases once during a fit, and which saves other parameters than its own."""

    def fit(self, *args, **settings):
        history = super().fit(*args, **settings)
        history.loss[10] = history.loss[9] + 1
        return history

    def save(self, path):
        other = self.copy()
        other.params = 1.5 * other.params
        NeuralNetwork.save(other, path)


def test_demo_reports_each_failed_check(monkeypatch, set_limit, capsys):
    def shuffled_labels():
        images, labels = nnc.datasets.load_digits()
        return images, np.roll(labels, 1)

    # Patched, because the command has no argument for a network.
    monkeypatch.setattr(demo_command, "NeuralNetwork", Broken)
    # Patched, because the command has no argument for data.
    monkeypatch.setattr(demo_command, "load_digits", shuffled_labels)
    set_limit("nnc._cli.demo.MAX_RELATIVE_DIFFERENCE", -1.0)
    assert main(["demo"]) == 1
    failures = re.findall("^FAILED: (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert len(failures) == 5
    assert "did not decrease in 1 of 1500" in failures[0]
    assert "differ by" in failures[1]
    assert "below 95%" in failures[2]
    assert "tutorial.json" in failures[3]
    assert "digits.json" in failures[4]


def test_drawing_of_network_is_exact():
    assert demo_command.draw_network([2, 3, 1], ["tanh", "sigmoid"]).splitlines() == [
        "inputs                hidden 1                 output",
        "                        tanh                   sigmoid",
        "",
        "                    +----(0)----+",
        " (0)----+           |           |",
        "        +-- 2 x 3 --+----(1)----+-- 3 x 1 -------(0)",
        " (1)----+           |           |",
        "                    +----(2)----+",
    ]


def test_drawing_abridges_large_layer():
    text = demo_command.draw_network([784, 10], ["softmax"], "unicode")
    assert "(783)" in text
    assert "(9)" in text
    assert "784 x 10" in text
    assert "├" in text
    assert "(2)" not in text


# ---- inspect, predict, compare, config


def test_inspect_command_prints_output_of_method(saved, capsys):
    net, path = saved
    assert main(["inspect", path]) == 0
    expected = io.StringIO()
    net.inspect(file=expected)
    assert capsys.readouterr().out == expected.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "0,0,1\n0,1,1\n1,0,1\n1,1,1",
        "a;b;c\n0; 0; 1\n0;1;1\n\n1;0;1\n1;1;1\n",
        '"0","0","1"\n"0","1","1"\n1,0,1\n1,1,1',
        "# x\n0 0 1\n0\t1 1\n1 0 1 # y\n1 1 1",
    ],
)
def test_predict_reads_all_separators_and_headings(saved, tmp_path, capsys, text):
    net, path = saved
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8-sig")
    assert main(["predict", path, str(tmp_path / "rows.csv")]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading == "output_1,output_2"
    rows = [[float(v) for v in line.split(",")] for line in lines]
    assert np.array(rows).tobytes() == net.predict(X).tobytes()


def test_predict_escapes_class_names_only_on_terminals_without_the_characters(tmp_path, monkeypatch):
    net = NeuralNetwork([3, 2], loss="cross_entropy", seed=0)
    net.fit(X, ["猫", "hund", "hund", "猫"], epochs=1, lr=0.001)
    net.save(tmp_path / "net.json")
    (tmp_path / "rows.csv").write_text("0,0,1\n")
    command = ("-m", "nnc", "predict", "net.json", "rows.csv")
    plain = run(*command, cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert (plain.stderr, plain.returncode) == ("", 0)
    assert plain.stdout.splitlines()[0] == r"prediction,probability_hund,probability_\u732b"
    assert run(*command, "-o", "out.csv", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"}).returncode == 0
    heading, row = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert heading == "prediction,probability_hund,probability_猫"
    assert row.split(",")[0] == net.predict_classes(X[:1])[0]


def test_predict_classes_from_standard_input(saved, tmp_path):
    net, path = saved
    result = run("-m", "nnc", "predict", "--classes", path, cwd=tmp_path, input="0 0 1\n1 1 1\n")
    assert result.stderr == ""
    assert result.returncode == 0
    heading, *lines = result.stdout.split()
    assert heading == "prediction"
    assert [int(line) for line in lines] == net.predict_classes(X[[0, 3]]).tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3\n1,x,3\n", "line 2, column 2 of .*rows.csv: expected a number, found 'x'"),
        ("1,,3\n", "line 1, column 2 of .*rows.csv: expected a number, found ''"),
        ("0,5;1;2\n", "line 1, column 1 of .*rows.csv: expected a number, found '0,5'"),
        ("a,b,c\n", "rows.csv contains no rows of numbers"),
        ("1,2\n", "columns"),
        ("1,2,nan\n", "[Nn]a[Nn]"),
        ("1,2,3\n1,2\n", "line 2 of .*rows.csv: expected 3 numbers, found 2"),
    ],
)
def test_predict_names_line_and_column_of_invalid_cell(saved, tmp_path, capsys, text, message):
    (tmp_path / "rows.csv").write_text(text)
    assert main(["predict", saved[1], str(tmp_path / "rows.csv")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nnc: ")
    assert err.count("\n") == 1
    assert re.search(message, err)


def test_compare_uses_tutorial_network_by_default(capsys):
    assert main(["compare", "--epochs", "50"]) == 0
    assert "network 3-4-1, rows 4, epochs 50" in capsys.readouterr().out


def test_compare_uses_options(capsys):
    options = [
        "--activation",
        "tanh",
        "--loss",
        "mse",
        "--bias",
        "--batch-size",
        "3",
        "--rows",
        "10",
        "--seed",
        "3",
    ]
    assert main(["compare", "--sizes", "5-6-4-2", "--epochs", "5", *options]) == 0
    assert "network 5-6-4-2, rows 10, epochs 5" in capsys.readouterr().out
    assert main(["compare", "--sizes", "2,2", "--epochs", "5", "--lr", "0.1"]) == 0
    assert "network 2-2, rows 32, epochs 5" in capsys.readouterr().out


def test_compare_limits_default_epochs_by_work_of_reference(capsys, set_limit):
    set_limit("nnc._cli.compare.MAX_REFERENCE_WORK", 20_000)
    assert main(["compare", "--sizes", "20,10,5"]) == 0
    assert "network 20-10-5, rows 32, epochs 2" in capsys.readouterr().out


def test_config_prints_version(capsys):
    assert main(["config"]) == 0
    assert nnc.__version__ in capsys.readouterr().out


# ---- the command line itself


def test_console_script_is_installed(tmp_path):
    script = shutil.which("nnc", path=sysconfig.get_path("scripts"))
    assert script, "the console script is not installed"
    result = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.stdout == f"nnc {nnc.__version__}\n"
    assert result.returncode == 0


@pytest.mark.parametrize(
    "command", [[], ["demo"], ["inspect"], ["predict"], ["compare"], ["config"], ["train"], ["explain"]]
)
def test_help_begins_with_usage_of_command(command, capsys):
    with pytest.raises(SystemExit) as exit_error:
        main([*command, "--help"])
    assert exit_error.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: {' '.join(['nnc', *command])}")
    assert "None" not in out


def test_missing_command_prints_usage_as_error(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: nnc")
    assert "demo" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["inspect"],
        ["demo", "x"],
        ["compare", "--sizes", "3"],
        ["compare", "--sizes", "3,0,1"],
        ["compare", "--epochs", "0"],
        ["compare", "--rows", "many"],
        ["compare", "--sizes", "2000000,2", "--rows", "2147483648"],
    ],
)
def test_usage_error_has_status_2_and_names_argument(arguments, capsys):
    with pytest.raises(SystemExit) as exit_error:
        main(arguments)
    assert exit_error.value.code == 2
    assert arguments[-1] in capsys.readouterr().err.splitlines()[-1] or arguments == ["inspect"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "no-such-file.json"],
        ["inspect", "."],
        ["predict", "no-such-file.json"],
        ["inspect", "text.json"],
        ["compare", "--activation", "nonsense"],
        ["compare", "--activation", "gelu"],
        ["compare", "--loss", "none"],
    ],
    ids=" ".join,
)
def test_error_is_printed_in_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.json").write_text("hello")
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nnc: ")
    assert err.count("\n") == 1
    assert arguments[-1] in err


def test_interrupt_ends_command_with_status_130(make_fail, capsys):
    make_fail("nnc._cli.demo.run", KeyboardInterrupt())
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "nnc: interrupted\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
def test_closed_pipe_ends_inspect_without_message(tmp_path):
    NeuralNetwork([100, 100, 10], seed=0).save(tmp_path / "large.json")
    command = [sys.executable, "-m", "nnc", "inspect", "large.json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_disk_is_reported_in_one_line(saved, tmp_path):
    with open("/dev/full", "w") as full:
        result = run(*("-m", "nnc", "inspect", saved[1]), cwd=tmp_path, stdout=full)
    assert result.returncode == 1
    assert result.stderr.startswith("nnc: ")
    assert "the disk is full; free some space" in result.stderr
    assert result.stderr.count("\n") == 1


def test_package_without_compiled_core_names_installation_command(tmp_path):
    shutil.copytree(nnc.__path__[0], tmp_path / "nnc", ignore=shutil.ignore_patterns("*.so", "*.pyd"))
    result = run("-m", "nnc", "inspect", "x.json", cwd=tmp_path)  # tests/test_dispatch.py tests other commands
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("nnc: ")
    assert "pip install" in result.stderr
    assert "Traceback" not in result.stderr
    for option in ("--help", "--version"):
        assert run("-m", "nnc", option, cwd=tmp_path).returncode == 0


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are in the source folder only")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive) if name in LONG_EXAMPLES else name for name in EXPECTED]
)
def test_example_runs_without_warning_and_prints_expected_result(name, tmp_path):
    if name in REQUIRED_PACKAGES:
        pytest.importorskip(REQUIRED_PACKAGES[name])
    picture = ["picture.svg"] if find_spec("matplotlib") else []
    result = run(str(EXAMPLES / name), *picture, cwd=tmp_path)
    assert result.stderr == ""
    assert result.returncode == 0
    assert re.search(EXPECTED[name], result.stdout)
    assert [path.name for path in tmp_path.iterdir()] == picture
    assert all("</svg>" in (tmp_path / name).read_text(encoding="utf-8") for name in picture)


@pytest.mark.sampled(3)
@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are in the source folder only")
@pytest.mark.parametrize("options", [["--lenet"], ["--fashion"], []])
def test_mnist_example_trains_and_reports_test_errors(options, tmp_path):
    """The example reads a few digits of 8 x 8 pixels, enlarged to 28 x 28 pixels and stored as MNIST files."""
    digits, labels = load_digits()
    images = np.zeros((300, 28, 28), np.uint8)
    images[:, 6:22, 6:22] = np.kron(digits[:300].reshape(-1, 8, 8) * 15, np.ones((2, 2)))
    for name, n in (("train", 300), ("t10k", 100)):
        for kind, array in (("images-idx3", images[:n]), ("labels-idx1", labels[:n].astype(np.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (tmp_path / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())
    # Print warnings instead of raising them, because four epochs on 300 digits may overfit.
    environment = {"PYTHONWARNINGS": "default"}
    command = [str(EXAMPLES / "mnist.py"), str(tmp_path), "--epochs", "4", *options]
    result = run(*command, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    assert "epoch  4" in result.stdout
    assert "test images are misclassified" in result.stdout


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are in the source folder only")
def test_web_service_predicts_learns_and_rejects_invalid_rows():
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the import of the test client's dependencies gives warnings
        from fastapi.testclient import TestClient

    names = runpy.run_path(str(EXAMPLES / "web_service.py"))
    client = TestClient(names["app"])
    flower = {"rows": [[5.9, 3.0, 5.1, 1.8]]}
    answer = client.post("/predict", json=flower).json()
    assert answer["species"] == ["virginica"]
    assert sum(answer["probabilities"][0].values()) == pytest.approx(1)
    before = names["net"].params
    assert client.post("/learn", json={**flower, "labels": ["virginica"]}).json()["loss"] > 0
    assert (names["net"].params != before).any()
    rejected = client.post("/predict", json={"rows": [[1.0, 2.0]]})
    assert rejected.status_code == 422
    assert "X must have 4 columns" in rejected.json()["detail"]
    assert nnc.from_json(client.get("/network").json()["document"]).sizes == (4, 16, 3)


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are in the source folder only")
def test_every_example_has_a_test():
    # tests/test_images.py writes the files for mnist.py, tests/test_search.py needs optuna, and a test above uses
    # web_service.py. The other three modules are imported by examples.
    others = {"mnist.py", "search_with_optuna.py", "cart.py", "latency.py", "picture.py", "web_service.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(EXPECTED) | others


def test_long_cells_are_read_without_changing_the_limit_of_csv():
    limit = csv.field_size_limit()
    records = parse_records(iter([f"a,{'x' * (limit + 1)}\n", "b,c\n"]), ",")
    line, (_, cell) = next(records)
    assert (line, len(cell)) == (1, limit + 1)
    assert csv.field_size_limit() == limit
    assert [*records] == [(2, ["b", "c"])]
    assert csv.field_size_limit() == limit
