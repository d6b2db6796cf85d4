"""Tests of the commands for tables and images: results, progress, errors, interrupts and output files."""

import gzip
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc._cli.main import main
from nnc._utils.packages import install_command
from nnc.datasets import IRIS_CLASSES, load_iris

pl = pytest.importorskip("polars")
pytest.importorskip("rich")
tabular = pytest.importorskip("nnc.tabular", exc_type=ImportError)
RunLog = import_module("nnc._cli.runs").RunLog

FULL_STREAM = "nnc: cannot write the output: the disk is full; free some space and run the command again"
FULL_DISK = "cannot save the table: the disk is full (an existing file is unchanged); free some space and save again"
NAMES = ["sepal length", "sepal width", "petal length", "petal width"]


def read_text(path):
    return Path(path).read_text(encoding="utf-8")


def iris_table():
    """Return the iris data set as a table with the target column "species"."""
    X, y = load_iris()
    frame = pl.DataFrame(X, schema=NAMES)
    return frame.with_columns(species=pl.Series([IRIS_CLASSES[i] for i in y]))


def house_table(n=300):
    """Return a table with the target column "price" and columns of numbers, text, dates and missing cells."""
    rng = np.random.default_rng(1)
    size, town = rng.integers(40, 200, n), rng.integers(0, 3, n)
    frame = pl.DataFrame(
        {
            "id": [f"h{i:05}" for i in range(n)],
            "size": size.astype(str),
            "town": [["Görlitz", "Köln", "北京"][i] for i in town],
            "built": [f"19{50 + i % 50}-0{1 + i % 9}-15" for i in range(n)],
            "country": ["DE"] * n,
            "note": ["" if i % 3 else "with a garden, and a view" for i in range(n)],
            "price": 1000.0 * size + 20000.0 * town + rng.normal(size=n) * 100,
        }
    )
    return frame.with_columns(size=pl.when(pl.int_range(n) % 10 == 3).then(None).otherwise(pl.col("size")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the tables iris.csv and houses.csv and the models iris.json and houses.json."""
    folder = tmp_path_factory.mktemp("shell")
    iris_table().write_csv(folder / "iris.csv")
    house_table().write_csv(folder / "houses.csv")
    options = ["--preset", "fast", "--members", "2", "--quiet"]
    path = str(folder / "iris.json")
    assert main(["train", str(folder / "iris.csv"), "--target", "species", "-o", path, *options]) == 0
    path = str(folder / "houses.json")
    assert main(["train", str(folder / "houses.csv"), "--target", "price", "-o", path, *options, "--drop", "id"]) == 0
    return folder


@pytest.fixture
def shell(folder, tmp_path, monkeypatch, capfd):
    """Return a function that runs a command line in a new folder and returns standard output, errors and exit status.

    The new folder has links to the tables and models of `folder`. Keyword arguments are the contents of further files;
    an underscore in a keyword is a dot in the file name.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)

    def run(arguments):
        capfd.readouterr()
        try:
            status = main(arguments)
        except SystemExit as exit_error:
            status = exit_error.code
        return (*capfd.readouterr(), status)

    def run_line(line, **files):
        for name, content in files.items():
            (tmp_path / name.replace("_", ".")).write_bytes(content if isinstance(content, bytes) else content.encode())
        return run(line.split())

    run_line.run = run
    return run_line


# ------------------------------------------------------------------------------------------ results of commands


def test_train_reports_table_columns_score_and_checksum(shell):
    out, err, status = shell(
        "train houses.csv --target price -o new.json --preset fast --members 2 --log run.jsonl --report report.html"
    )
    assert status == 0
    assert "houses.csv: 300 rows, 7 columns; text, a heading, separator comma, encoding utf-8" in err
    assert "id" in out
    assert "left out" in re.search("^id .*$", out, re.MULTILINE)[0]
    assert "left out" in re.search("^country .*$", out, re.MULTILINE)[0]
    assert "days, year, time of year" in re.search("^built .*$", out, re.MULTILINE)[0]
    assert "R^2" in out
    assert re.search("^command +nnc train houses.csv --target price", out, re.MULTILINE)
    assert re.search("^SHA-256 +[0-9a-f]{64}$", out, re.MULTILINE)
    assert re.search("^versions +nnc .*polars", out, re.MULTILINE)
    assert max(map(len, err.splitlines())) <= 100
    lines = [json.loads(line) for line in read_text("run.jsonl").splitlines()]
    assert [line["event"] for line in lines] == ["start", *["epoch"] * (len(lines) - 2), "end"]
    assert lines[0]["rows"] == 300
    assert len(lines[0]["SHA-256"]) == 64
    assert {line["network"] for line in lines[1:-1]} == {0, 1}
    assert lines[-1]["complete"] is True
    assert "<table" in read_text("report.html")


def test_train_matches_estimator_with_default_options(shell):
    """The predictions of the command and of TableClassifier are bitwise equal."""
    assert shell("train iris.csv --target species -o new.json --members 2 -q") == ("", "", 0)
    frame = iris_table()
    model = tabular.TableClassifier(members=2, random_state=0).fit(frame.drop("species"), frame["species"])
    predicted = nnc.load("new.json").predict_proba(frame.drop("species"))
    assert predicted.tobytes() == model.predict_proba(frame.drop("species")).tobytes()


def test_same_seed_writes_bitwise_equal_model(shell):
    for seed in (3, 3, 4):
        assert shell(f"train iris.csv --target species -o new.json --members 2 --seed {seed} -q -f")[2] == 0
        text = re.sub('"seconds": [0-9.e-]+|"sha256": "[0-9a-f]+"', "", read_text("new.json"))
        if seed == 3:
            first = text
    assert text != first
    assert shell("train iris.csv --target species -o new.json --members 2 --seed 3 -q -f")[2] == 0
    assert re.sub('"seconds": [0-9.e-]+|"sha256": "[0-9a-f]+"', "", read_text("new.json")) == first


def decompress(path):
    return gzip.decompress(Path(path).read_bytes())


FORMATS = {
    "csv": pl.read_csv,
    "TSV": lambda path: pl.read_csv(path, separator="\t"),
    "parquet": pl.read_parquet,
    "feather": pl.read_ipc,
    "jsonl": pl.read_ndjson,
    "csv.gz": lambda path: pl.read_csv(decompress(path)),
    "tsv.gz": lambda path: pl.read_csv(decompress(path), separator="\t"),
    "jsonl.gz": lambda path: pl.read_ndjson(decompress(path)),
}


@pytest.mark.parametrize("ending", FORMATS)
def test_predict_writes_format_of_file_ending(shell, ending):
    read = FORMATS[ending]
    out, err, status = shell(f"predict iris.json iris.csv -o out.{ending}")
    assert (out, status) == ("", 0)
    assert f"150 rows predicted: out.{ending}" in err
    output = read(f"out.{ending}")
    assert output.columns == [*NAMES, "species", "prediction", *(f"probability_{name}" for name in IRIS_CLASSES)]
    P = nnc.load("iris.json").predict_proba(iris_table().drop("species"))
    assert np.array_equal(output.select(pl.col("^probability_.*$").cast(pl.Float64)).to_numpy(), P)
    assert output["prediction"].to_list() == [IRIS_CLASSES[i] for i in P.argmax(axis=1)]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_predict_with_network_writes_format_of_file_ending(shell, ending, dtype):
    """CSV is written without polars; the other formats are written from tables of polars."""
    from nnc import NeuralNetwork

    X, y = load_iris()
    net = NeuralNetwork([4, 3], loss="cross_entropy", dtype=dtype, seed=0)
    net.fit(X, np.array(IRIS_CLASSES)[y], epochs=3, lr=0.001)
    net.save("net.json")
    text = iris_table().drop("species").write_csv()
    assert shell(f"predict net.json rows.csv.gz -o out.{ending}", rows_csv_gz=gzip.compress(text.encode())) == (
        "",
        "",
        0,
    )
    output = FORMATS[ending](f"out.{ending}")
    assert output.columns == ["prediction", *(f"probability_{name}" for name in IRIS_CLASSES)]
    assert output["prediction"].to_list() == net.predict_classes(X).tolist()
    assert np.array_equal(output[:, 1:].cast(pl.Float64).to_numpy().astype(dtype), net.predict(X))
    assert shell("predict net.json utf16.csv", utf16_csv=text.encode("utf-16")) == shell("predict net.json rows.csv.gz")
    iris_table().write_parquet("rows.parquet")
    assert (
        "rows.parquet must be text with rows of numbers, such as CSV, got Parquet"
        in shell("predict net.json rows.parquet")[1]
    )


@pytest.mark.parametrize("name", ["out.xlsx", "out.json", "out.parquet.gz", "out.csv.zip", "out.gz.7z"])
@pytest.mark.parametrize(
    "command",
    ["predict iris.json iris.csv", "explain iris.json iris.csv", "explain iris.json", "predict net.json r.csv"],
)
def test_output_with_unsupported_ending_is_rejected(shell, name, command):
    from nnc import NeuralNetwork

    NeuralNetwork([2, 1]).save("net.json")
    out, err, status = shell(f"{command} -o {name}", r_csv="1,2\n")
    assert (out, status) == ("", 1)
    assert err.startswith(f"nnc: {name} must end with .csv, .tsv, .jsonl")
    assert not Path(name).exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no symbolic links and named pipes of POSIX")
def test_predictions_are_written_through_links_and_pipes(shell, tmp_path):
    """The file behind a symbolic link keeps its permissions, and a named pipe is not replaced by a file."""
    Path("old.csv").write_text("old")
    Path("old.csv").chmod(0o600)
    Path("link.csv").symlink_to("old.csv")
    assert shell("predict iris.json iris.csv -o link.csv -f")[2] == 0
    assert Path("link.csv").is_symlink()
    assert len(read_text("old.csv").splitlines()) == 151
    assert Path("old.csv").stat().st_mode & 0o777 == 0o600
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert shell("predict iris.json iris.csv --classes --id species -o pipe")[2] == 0
        assert os.read(reader, 1 << 16).startswith(b"species,prediction\n")
    finally:
        os.close(reader)
    assert Path("pipe").is_fifo()
    assert not list(tmp_path.glob(".nnc-*"))


def test_full_disk_is_reported_for_each_format(shell):
    for name in ("out.csv", "out.csv.gz", "out.jsonl", "out.jsonl.gz", "out.parquet", "out.feather"):
        Path(name).symlink_to("/dev/full")
        _, err, status = shell(f"predict iris.json iris.csv -f -o {name}")
        assert (status, err.splitlines()[-1]) == (1, f"nnc: {FULL_DISK}: {name}")


def test_pipe_is_read_like_a_file(shell):
    expected = shell("predict iris.json iris.csv")[0]
    os.mkfifo("pipe")
    for content in (Path("iris.csv").read_bytes(), gzip.compress(Path("iris.csv").read_bytes())):
        with ThreadPoolExecutor(1) as executor:
            executor.submit(Path("pipe").write_bytes, content)
            assert shell("predict iris.json pipe") == (expected, "", 0)
    nnc.NeuralNetwork([2, 1], seed=0).save("net.json")
    expected = shell("predict net.json numbers.txt", numbers_txt="1 2\n3 4\n")[0]
    with ThreadPoolExecutor(1) as executor:
        executor.submit(Path("pipe").write_text, "1 2\n3 4\n")
        assert shell("predict net.json pipe") == (expected, "", 0)


def test_prediction_has_a_row_for_each_record_with_blank_cells(shell):
    heading, cells, blank = ",".join(NAMES), "5,3,1,0.2", ",,,"
    lines = ["", ", ,", heading, "", blank, cells, " ", " ,, ,", cells, '"","","",""', "", ""]
    out, _, status = shell("predict iris.json t.csv --classes", t_csv="\n".join(lines))
    rows = pl.read_csv(io.StringIO(out), infer_schema=False).select(NAMES).fill_null("").rows()
    assert status == 0
    assert [row[0].strip() for row in rows] == ["", "5", "", "5", ""]
    _, err, status = shell("predict iris.json t.csv", t_csv="\n".join([*lines, "1,2,x,4"]))
    assert "line 13, column 3 (petal length) of t.csv: expected a number" in err
    lines = ['"a"', "1", '""', "", "2", ""]
    shell("train t.csv --target y -o m.json --preset fast --members 1", t_csv="a,y\n" + "1,p\n2,q\n2,p\n1,q\n1,p\n" * 8)
    out, _, status = shell("predict m.json t.csv --classes", t_csv="\n".join(lines))
    assert [line.partition(",")[0].strip('"') for line in out.splitlines()] == ["a", "1", "", "2"]


def test_training_skips_blank_records_around_heading(shell):
    text = read_text("iris.csv")
    line = "train t.csv --target species -f -o m.json --preset fast --members 1"
    assert shell(line, t_csv=text)[2] == 0
    expected = json.loads(read_text("m.json"))["networks"]
    _, err, status = shell(line, t_csv=",,,,\n\n" + text + ",,,,\n\n")
    assert (status, "150 rows, 5 columns" in err) == (0, True)
    assert json.loads(read_text("m.json"))["networks"] == expected


def test_failed_prediction_preserves_existing_output(shell, tmp_path):
    text = ",".join(NAMES) + "\n1,2,3,4\n1,2,x,4\n"
    for name in ("out.csv", "out.csv.gz", "out.parquet"):
        Path(name).write_text("old")
        assert shell(f"predict iris.json t.csv -o {name} -f", t_csv=text)[2] == 1
        assert read_text(name) == "old"
    assert not list(tmp_path.glob(".nnc-*"))


def test_predict_gives_same_output_for_all_formats_and_encodings(shell):
    expected = shell("predict iris.json iris.csv --id species")[0]
    frame = iris_table()
    frame.write_csv("tabs.txt", separator="\t")
    frame.write_parquet("iris.parquet")
    frame.write_ipc("iris.feather")
    frame.write_ndjson("iris.jsonl")
    with gzip.open("iris.csv.gz", "wb") as file:
        file.write(frame.write_csv().encode())
    Path("utf16.csv").write_text(frame.write_csv(), encoding="utf-16")
    german = frame.with_columns(pl.col(NAMES).cast(pl.String).str.replace(".", ",", literal=True))
    Path("comma.csv").write_text(german.write_csv(separator=";"), encoding="utf-8-sig")
    Path("utf32.csv").write_bytes(frame.write_csv().encode("utf-32"))
    Path("mac.csv").write_bytes(frame.write_csv().replace("\n", "\r").encode())
    names = ("tabs.txt", "iris.parquet", "iris.feather", "iris.jsonl", "iris.csv.gz", "utf16.csv", "comma.csv")
    for name in (*names, "utf32.csv", "mac.csv", "comma.csv --encoding utf-8", "comma.csv --encoding utf-8-sig"):
        assert shell(f"predict iris.json {name} --id species")[0] == expected, name
    Path("bare.csv").write_bytes(frame.write_csv().encode("utf-16-le"))
    assert shell("predict iris.json bare.csv --id species --encoding utf-16-le")[0] == expected


def test_predict_reorders_columns_of_standard_input(shell):
    """Rows on standard input may have their columns in another order than the training table."""
    expected = shell("predict iris.json iris.csv --classes --id species")[0]
    text = iris_table().select("species", *reversed(NAMES)).write_csv()
    command = [sys.executable, "-m", "nnc", "predict", "iris.json", "--classes", "--id", "species"]
    assert subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout.decode() == expected


def test_predict_in_batches_gives_same_output(shell, set_limit):
    expected = shell("predict houses.json houses.csv --level 0.8")
    assert expected[2] == 0
    assert expected[0].splitlines()[0].endswith("price,prediction,low,high")
    set_limit("nnc._cli.tables.BATCH_ROWS", 7)
    assert shell("predict houses.json houses.csv --level 0.8") == expected
    low, high, price = np.loadtxt(
        io.StringIO(expected[0]), delimiter=",", skiprows=1, usecols=(-2, -1, -4), quotechar='"'
    ).T
    assert (low < high).all()
    assert ((low < price) & (price < high)).mean() > 0.7


def test_evaluate_reports_accuracy_confusion_and_rmse(shell):
    report = json.loads(shell("evaluate iris.json iris.csv --json")[0])
    model = nnc.load("iris.json")
    predicted = model.predict(iris_table().drop("species"))
    assert report["accuracy"] == (predicted == iris_table()["species"].to_numpy()).mean()
    assert np.sum(report["confusion"]) == report["rows"] == 150
    assert np.trace(report["confusion"]) == round(150 * report["accuracy"])
    assert report["constant_accuracy"] == 50 / 150
    out = shell("evaluate iris.json iris.csv")[0]
    assert re.search(r"accuracy of the most frequent class +0\.33333\n", out)
    assert "virginica" in out
    report = json.loads(shell("evaluate houses.json houses.csv --json")[0])
    frame = house_table()
    predicted = nnc.load("houses.json").predict(frame.drop("id", "price"))
    assert report["rmse"] == pytest.approx(np.sqrt(np.mean((predicted - frame["price"].to_numpy()) ** 2)))


@pytest.mark.parametrize(
    ("line", "file", "start"),
    [
        ("export iris.json --onnx a.onnx", "a.onnx", b"\x08"),
        ("export --onnx a.onnx iris.json", "a.onnx", b"\x08"),
        ("export --c iris.json -o a.h", "a.h", b"/*"),
        ("export --c iris.json", "iris.h", b"/*"),
        ("export iris.json -o a.onnx", "a.onnx", b"\x08"),
        ("export iris.json -o a.h", "a.h", b"/*"),
        ("export iris.json --network 1 -o a.py", "a.py", b'"""'),
        ("export --network 1 iris.json --js a.js", "a.js", b"/"),
    ],
)
def test_export_accepts_file_after_format_and_selects_format_by_extension(shell, line, file, start):
    assert shell(line) == (f"written to {file}\n", "", 0)
    assert Path(file).read_bytes().startswith(start)


def test_quantiles_are_trained_predicted_and_evaluated(shell):
    options = "--preset fast --members 2 --quiet --drop id"
    assert shell(f"train houses.csv --target price -o q.json --quantiles 0.1,0.5,0.9 {options}") == ("", "", 0)
    assert shell("predict q.json houses.csv --id price -o q.csv")[2] == 0
    frame = pl.read_csv("q.csv")
    assert frame.columns == ["price", "prediction", "quantile_0.1", "quantile_0.5", "quantile_0.9"]
    assert frame["prediction"].to_list() == frame["quantile_0.5"].to_list()
    report = json.loads(shell("evaluate q.json houses.csv --json")[0])
    shares = {q: (frame["price"] <= frame[f"quantile_{q}"]).mean() for q in ("0.1", "0.5", "0.9")}
    assert report["quantiles"] == pytest.approx(shares)
    assert 0 < shares["0.1"] < shares["0.9"] < 1
    assert re.search(r"rows up to quantile 0.9 +0\.\d", shell("evaluate q.json houses.csv")[0])


def test_evaluate_counts_unknown_classes_as_errors(shell):
    text = iris_table().write_csv().replace("setosa", "rosa")
    report = json.loads(shell("evaluate iris.json other.csv --json", other_csv=text)[0])
    assert report["rows_of_unknown_classes"] == 50
    assert report["accuracy"] < 0.7


def test_evaluate_omits_metrics_that_rows_of_one_class_do_not_define(shell):
    frame = iris_table().filter(pl.col("species") == "setosa")
    report = json.loads(shell("evaluate iris.json one.csv --json", one_csv=frame.write_csv())[0])
    assert report["constant_accuracy"] == 1
    assert not {"balanced_accuracy", "f1", "auc"} & set(report)
    assert "the balanced accuracy, F1 and the area under" in shell("evaluate iris.json one.csv")[0]


def test_evaluate_ignores_rows_without_number_in_target(shell):
    frame = house_table()
    prices = frame["price"].to_list()
    frame.with_columns(price=pl.Series([float("nan"), *prices[1:]])).write_parquet("nan.parquet")
    frame.with_columns(price=pl.Series(["on request", "unknown", *map(str, prices[2:])])).write_csv("text.csv")
    for file, n in (("nan.parquet", 1), ("text.csv", 2)):
        report = json.loads(shell(f"evaluate houses.json {file} --json")[0])
        assert (report["rows"], report["rows_without_target"]) == (300 - n, n)
        assert report["r2"] > 0.9
    iris = iris_table()
    iris.with_columns(species=pl.Series(["", " ?", *iris["species"][2:]])).write_parquet("blank.parquet")
    report = json.loads(shell("evaluate iris.json blank.parquet --json")[0])
    assert (report["rows_without_target"], report["rows_of_unknown_classes"]) == (2, 0)


def test_evaluate_refuses_target_that_is_no_number(shell):
    _, err, status = shell("evaluate houses.json houses.csv --target town")
    assert (status, "must contain numbers, as in training, but 300 of 300 cells are something else" in err) == (1, True)
    assert "in line 2 of houses.csv; leave cells without a number empty" in err
    house_table().with_columns(price=pl.lit(True)).write_parquet("boolean.parquet")
    _, err, status = shell("evaluate houses.json boolean.parquet")
    assert (status, "column 'price' of boolean.parquet must contain numbers" in err) == (1, True)


@pytest.mark.parametrize("values", [[float("nan"), 1.5], ["", "a"]], ids=["nan", "blank"])
def test_train_ignores_missing_targets_of_parquet_files(shell, values):
    y = [*values, *(["a", "b"] if values[0] == "" else [1.5, 2.5]) * 20]
    pl.DataFrame({"x": [float(i % 2) for i in range(42)], "y": y}).write_parquet("t.parquet")
    _, err, status = shell("train t.parquet --target y -o t.json --members 1 --preset fast -f")
    assert (status, "ignored 1 row without a value of y; the first is row 1 of t.parquet" in err) == (0, True)


def test_explain_reports_importances_and_additive_contributions(shell):
    out, _, status = shell("explain iris.json")
    assert status == 0
    assert "petal" in out.splitlines()[2]
    importances = json.loads(shell("explain iris.json --json")[0])
    assert importances == dict(zip(NAMES, nnc.load("iris.json").feature_importances_, strict=True))
    out = shell("explain houses.json houses.csv --first 2")[0]
    assert out.count("baseline") == 2
    assert re.search(r"size +[+-][\d.e+]+ +[+-]+", out)
    assert shell("explain iris.json iris.csv --first 3 --label setosa -o explained.csv")[2] == 0
    explained = pl.read_csv("explained.csv")
    assert explained["class"].to_list() == ["setosa"] * 3
    total = explained["baseline"] + sum(explained[f"from_{name}"] for name in NAMES)
    assert total.to_list() == pytest.approx(explained["prediction"].to_list())


def test_inspect_draw_and_export_work_on_table_models(shell):
    assert "TableClassifier" in shell("inspect iris.json")[0]
    facts = json.loads(shell("inspect iris.json --json")[0])
    assert facts["target"] == "species"
    assert facts["classes"] == list(IRIS_CLASSES)
    assert [column["column"] for column in facts["columns"]] == NAMES
    assert shell("draw iris.json -o net.svg --network 2")[2] == 0
    assert read_text("net.svg").startswith("<svg")
    _, _, status = shell("export iris.json --python --network 1 -o net.py")
    assert status == 0
    assert "def predict" in read_text("net.py")
    assert shell("export iris.json --onnx -o iris.onnx")[2] == 0
    assert shell("export iris.json --c -o iris.h")[2] == 0
    assert "iris_predict" in read_text("iris.h")
    assert shell("export iris.json --js")[2] == 1
    assert shell("draw iris.json -o other.svg --network 99")[2] == 1


# ------------------------------------------------------------------------------------------ types of columns


# The columns x and real determine each other, which gives this warning.
@pytest.mark.filterwarnings("ignore::nnc.tabular.LeakageWarning")
def test_task_is_inferred_from_target(shell):
    rows = "\n".join(f"{i},{i % 3},{i / 7},{'no' if i % 2 else 'yes'}" for i in range(60))
    text = f"x,three,real,answer\n{rows}\n"
    for target, kind in (("three", "TableClassifier"), ("real", "TableRegressor"), ("answer", "TableClassifier")):
        _, err, status = shell(f"train t.csv --target {target} -o t.json --members 1 --preset fast -f", t_csv=text)
        assert status == 0
        assert json.loads(shell("inspect t.json --json")[0])["kind"] == kind
        assert ("treated as 3 classes (change with --task regression)" in err) == (target == "three")
    shell("train t.csv --target three -o t.json --members 1 --preset fast -f --task regression -q")
    assert json.loads(shell("inspect t.json --json")[0])["kind"] == "TableRegressor"
    assert "requires a numeric target" in shell("train t.csv --target answer --task regression")[1]


@pytest.mark.parametrize("task", ["", "--task regression"])
def test_target_of_numbers_with_much_other_text_is_refused(shell, task):
    rows = "\n".join(f"{i},{'soon' if i % 5 == 2 else i / 7}" for i in range(60))
    _, err, status = shell(f"train t.csv --target real -o t.json {task}", t_csv=f"x,real\n{rows}\n")
    assert status == 1
    assert "--target must be a column of numbers or of classes, got numbers such as '0.0'" in err
    assert "leave cells without a number empty" in err


@pytest.mark.filterwarnings("always::nnc.tabular.LeakageWarning")
def test_train_reports_encoding_of_each_column(shell):
    """Train on a table with identifiers, dates, a constant, free text, postal codes and missing cells."""
    rng = np.random.default_rng(0)
    rows = "\n".join(
        f"k{i:04},20{i % 20:02}-01-0{1 + i % 9},7,{' '.join(rng.choice(list('abcdefgh'), 4))} {i},0{i % 4}119,"
        f"{'' if i % 5 == 0 else i % 11},{'TRUE' if i % 2 else 'FALSE'},{'ab'[i % 2]}"
        for i in range(120)
    )
    text = f"key,day,one,story,code,n,flag,y\n{rows}\n"
    out, err, status = shell("train t.csv --target y -o t.json --members 1 --preset fast", t_csv=text)
    assert status == 0
    notes = [line for line in err.splitlines() if line.startswith("note:")]
    assert [re.search("column '(.*?)' determines the target", line)[1] for line in notes] == ["code", "flag"]
    reported = {line.split()[0]: line for line in out.splitlines() if line}
    for name, encoding in {
        "key": "left out",
        "one": "left out",
        "story": "8 words such as",
        "code": "text",
        "n": "missing",
    }.items():
        assert encoding in reported[name], reported[name]
    assert shell("predict t.json t.csv --id key")[0].splitlines()[1].startswith("k0000,a,")


@pytest.mark.filterwarnings("always::nnc.tabular.ColumnWarning")
def test_text_in_numeric_columns_is_reported(shell):
    rows = [f"{i},{i * 7 % 5},{i * 7 % 3},{'p' if i % 3 else 'q'}" for i in range(40)]
    rows[20] = "12x,3,0,q"
    table = "\n".join(["a,b,c,y", *rows])
    _, err, status = shell("train t.csv --target y -o t.json --members 1 --drop c", t_csv=table)
    assert status == 0
    assert "note: column 'a': 1 of 40 cells cannot be read as numbers, such as '12x', and counts as missing" in err
    _, err, status = shell("predict t.json u.csv", u_csv="a,b\n5,1\n12x,2\n6y,1\n")
    assert status == 1
    assert "line 4, column 1 (a) of u.csv: expected numbers, as in training, found '6y'; correct it, or leave" in err
    _, err, _ = shell("train t.csv --target b -o t.json --members 1 -f", t_csv=table.replace(",3,", ",3x,", 1))
    assert "line 6, column 2 (b) of t.csv: '3x' is not a number; the target is read as text because of 1 such" in err


@pytest.mark.parametrize(("pattern", "first"), [("{:,.2f} €", "'1,000.50 €'"), ("{:.2f}", "1000.5")])
def test_target_of_formatted_numbers_is_read_like_an_input(shell, pattern, first):
    prices = [pattern.format(1000.5 + 7 * (i * 13 % 40) + i % 6) for i in range(122)]
    prices[100:102] = ["on request", "?"]
    lines = ["a;b;y", *(f"{i * 13 % 40};{i % 5};{price}" for i, price in enumerate(prices))]
    command = "train t.csv --target y -o t.json --members 1 --preset fast -f"
    _, err, status = shell(command, t_csv="\n".join(lines))
    assert status == 0
    assert "ignored 2 rows without a value of y; the first is line 102 of t.csv, with 'on request'" in err
    report = json.loads(shell("evaluate t.json t.csv --json")[0])
    assert (report["rows"], report["rows_without_target"], report["r2"] > 0.5) == (120, 2, True)
    assert "ignored 2 rows without a value of y" in shell("evaluate t.json t.csv")[0]
    _, err, status = shell("evaluate t.json u.csv", u_csv="\n".join([*lines[:50], *["1;2;soon"] * 6]))
    assert status == 1
    assert "column 'y' of u.csv must contain numbers" in err
    assert "as in training, but 6 of 55 cells are something else" in err
    _, err, status = shell(f"{command} --task classification", t_csv="\n".join(lines[:100]))
    assert (status, f"--task classification requires a target with classes, got {first} in 'y'" in err) == (1, True)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_missing_texts_are_no_classes_of_integer_target(shell, format):
    texts = [*("01" * 30), "unknown", "-", "?", ""]
    frame = pl.DataFrame({"a": range(64), "y": texts})
    getattr(frame, f"write_{format}")(f"t.{format}")
    _, err, status = shell(f"train t.{format} --target y -o t.json --members 1 --preset fast -f")
    assert status == 0
    assert "the target y has 2 different integer values: treated as 2 classes" in err
    assert "ignored 4 rows without a value of y" in err
    assert list(map(str, nnc.load("t.json").classes_)) == ["0", "1"]
    report = json.loads(shell(f"evaluate t.json t.{format} --json")[0])
    assert (report["rows"], report["rows_without_target"], report["rows_of_unknown_classes"]) == (60, 4, 0)


def test_other_texts_are_classes_of_integer_target(shell):
    lines = [f"{i},{'soon' if i == 50 else i % 11}" for i in range(122)]
    _, err, status = shell(
        "train t.csv --target y -o t.json --members 1 --preset fast", t_csv="\n".join(["a,y", *lines])
    )
    assert status == 0
    assert "the target y has 11 different integer values: treated as 12 classes" in err
    assert "'soon' is not a number; the target is read as text because of 1 such cell" in err
    assert len(nnc.load("t.json").classes_) == 12


def test_missing_text_is_class_of_text_target(shell):
    lines = [f"{i},{('yes', 'no', 'unknown')[i % 3]}" for i in range(60)]
    assert shell("train t.csv --target y -o t.json --members 1 --preset fast", t_csv="\n".join(["a,y", *lines]))[2] == 0
    assert nnc.load("t.json").classes_.tolist() == ["no", "unknown", "yes"]
    report = json.loads(shell("evaluate t.json t.csv --json")[0])
    assert (report["rows"], report["rows_without_target"]) == (60, 0)


@pytest.mark.filterwarnings("always::nnc.tabular.ColumnWarning")
def test_formatted_numbers_and_dates_are_parsed_as_in_training(shell):
    rng = np.random.default_rng(0)
    price, month = rng.uniform(500, 5000, 300), rng.integers(1, 13, 300)

    def line(a, m, y):
        return f'"{a:,.2f}",{100 - a / 50:.2f}%,{m}/28/2024,{m + 5:02}:30,{a:.0f} kg,{y}'

    noise = rng.normal(0, 0.1, 300)
    rows = [line(a, m, f"{np.log(a) + np.sin(m) + e:.3f}") for a, m, e in zip(price, month, noise, strict=True)]
    _, err, status = shell(
        "train t.csv --target y -o t.json --members 2 --preset fast",
        t_csv="\n".join(["price,share,day,clock,weight,y", *rows]),
    )
    assert status == 0
    notes = [text for text in err.splitlines() if text.startswith("note:")]
    assert len(notes) == 1
    assert "column 'weight': most cells look like numbers or dates, such as" in notes[0]
    out, _, _ = shell("evaluate t.json t.csv --json")
    assert json.loads(out)["r2"] > 0.9
    head = "price,share,day,clock,weight"
    for cell, expected in (
        ('"1.234,50",80%,1/28/2024,06:30,1', "column 1 (price) of u.csv: expected numbers such as 1,234.5"),
        ("1500,0.8,1/28/2024,06:30,1", "column 2 (share) of u.csv: expected numbers such as 12.5%"),
        ("1500,80%,28/1/2024,06:30,1", "column 3 (day) of u.csv: expected dates such as 12/31/2024"),
        ("1500,80%,1/28/2024,6.5,1", "column 4 (clock) of u.csv: expected times of day such as 08:15"),
    ):
        _, err, status = shell("predict t.json u.csv", u_csv=f"{head}\n{cell}\n")
        assert (status, expected in err) == (1, True), err
    out, _, status = shell("predict t.json u.csv", u_csv=f"{head}\n?,n/a,,unknown,1\n")
    assert (status, len(out.splitlines())) == (0, 2)


def test_missing_text_in_numeric_column_counts_as_missing(shell):
    lines = Path("houses.csv").read_text(encoding="utf-8").splitlines()
    column = lines[0].split(",").index("size")
    cells = [line.split(",") for line in lines[:3]]
    predictions = []
    for sign in ("", "unknown", "-", "N/A"):
        cells[1][column] = sign
        out, _, status = shell("predict houses.json u.csv --id id", u_csv="\n".join(map(",".join, cells)))
        assert status == 0
        predictions.append(out)
    assert predictions == [predictions[0]] * 4
    cells[2][column] = "many"
    _, err, status = shell("predict houses.json u.csv", u_csv="\n".join(map(",".join, cells)))
    assert status == 1
    assert "line 3, column 2 (size) of u.csv: expected a number, as in training, found 'many'" in err


def test_identifiers_beyond_float64_remain_distinct(shell):
    ids = [9007199254740992 + i for i in range(8)]
    rows = [f"{ids[i % 8]},{i * 7 % 5},{'ab'[(i % 8 > 3) ^ (i % 20 == 7)]}" for i in range(160)]
    table = "\n".join(["id,b,y", *rows])
    out, _, status = shell("train t.csv --target y -o t.json --members 1 --preset fast", t_csv=table)
    assert (status, re.search(r"\nid +text +8 categories", out) is not None) == (0, True)
    assert json.loads(shell("evaluate t.json t.csv --json")[0])["accuracy"] > 0.9


def test_train_accepts_ten_thousand_columns(shell):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, (24, 10_000)).astype(str)
    lines = [
        ",".join([*(f"c{j}" for j in range(10_000)), "y"]),
        *(",".join([*row, "ab"[i % 2]]) for i, row in enumerate(X)),
    ]
    _, err, status = shell(
        "train t.csv --target y -o t.json --members 1 --preset fast --max-seconds 0.5 -q", t_csv="\n".join(lines)
    )
    assert (status, err) == (0, "")


# ------------------------------------------------------------------------------------------ rejected input

IRIS = "a,b,y\n1,2,p\n3,4,q\n5,6,p\n"
# Each entry has the command line, the contents of its files, and a pattern of the error message.
REJECTED = {
    "a missing file": ("train none.csv --target y", {}, "there is no file .*none.csv"),
    "a folder": ("train . --target y", {}, "this is a folder"),
    "an empty file": ("train t.csv --target y", {"t_csv": ""}, "t.csv is empty"),
    "a heading without rows": ("train t.csv --target y", {"t_csv": "a,y\n"}, "t.csv has a heading and no rows"),
    "one row": ("train t.csv --target y", {"t_csv": "a,y\n1,p\n"}, "t.csv has only one row"),
    "an unknown target": ("train iris.csv --target specie", {}, "--target must be .*'specie'; did you mean 'species'"),
    "a target of one value": (
        "train t.csv --target y",
        {"t_csv": "a,y\n1,p\n2,p\n"},
        "the same value in all rows, 'p'",
    ),
    "a target without values": (
        "train t.csv --target y",
        {"t_csv": "a,y\n1,\n2,NA\n"},
        "the target, column 'y' of t.csv, is empty",
    ),
    "no column except the target": (
        "train t.csv --target y",
        {"t_csv": "y\np\nq\n"},
        "no column other than the target",
    ),
    "only constant columns": (
        "train t.csv --target y",
        {"t_csv": "a,y\n1,p\n1,q\n"},
        "the table t.csv must have a column",
    ),
    "a row with too many columns": (
        "train t.csv --target y",
        {"t_csv": 'a,y\n"1\n2",p\n3,4,q\n'},
        "line 4 of t.csv has 3 columns, but the heading has 2: column 3 is 'q'",
    ),
    "an unclosed quote": ("train t.csv --target y", {"t_csv": 'a,y\n1,p\n2,"q\n3,p\n'}, "begins on line 3.*quote"),
    "a duplicate name": ("train t.csv --target y", {"t_csv": "a,a,y\n1,2,p\n"}, "the name 'a' in columns 1, 2"),
    "several encodings": (
        "train t.csv --target y",
        {"t_csv": "a,y\nKöln,p\n".encode() + "Görlitz,q\n".encode("cp1252")},
        r"line 3, column 1 of t.csv is not UTF-8, in contrast to 1 other line: b'G\\xf6rlitz'",
    ),
    "another encoding": (
        "train t.csv --target y",
        {"t_csv": "a,y\n北京,p\n上海,q\n".encode("gb18030")},
        "line 2, column 1 of t.csv is not UTF-8; its text may be '北京' in gb18030.*--encoding",
    ),
    "not in the encoding of the option": (
        "train t.csv --target y --encoding utf8",
        {"t_csv": b'a,"b",y\n1,"two\nlines",p\n2,"with , and \xfc",q\n'},
        r"t.csv is not valid utf-8, the encoding set by --encoding; see line 4, column 2: b'with , and \\xfc' \(",
    ),
    "not in the encoding of its byte order mark": (
        "train t.csv --target y",
        {"t_csv": b"\xef\xbb\xbfa,y\n1,p\n\xff,q\n"},
        r"not valid utf-8, the encoding indicated by its first bytes; see line 3, column 1: b'\\xff'",
    ),
    "an incomplete character": (
        "train t.csv --target y",
        {"t_csv": "a,y\n1,p\n2,q\n".encode("utf-16")[:-1]},
        "not valid utf-16, the encoding indicated by its first bytes; see line 3.*truncated",
    ),
    "another encoding, after a field of several lines": (
        "train t.csv --target y",
        {"t_csv": 'a,"b",y\n"1, or\n2, or\n3",b,p\n1,"a, b",京\n'.encode("gb18030")},
        "line 5, column 3 of t.csv is not UTF-8; its text may be '京' in gb18030",
    ),
    "UTF-16 without a byte order mark": (
        "train t.csv --target y",
        {"t_csv": "a,y\n1,p\n".encode("utf-16-le")},
        "zero byte on line 1; if the file is UTF-16, pass --encoding utf-16-le",
    ),
    "an encoding that is not for text": (
        "train t.csv --target y --encoding base64",
        {"t_csv": IRIS},
        "--encoding must be",
    ),
    "only empty cells": ("train t.csv --target y", {"t_csv": ",,\n , ,\n"}, "all cells of t.csv are empty"),
    "only a byte order mark": ("train t.csv --target y", {"t_csv": b"\xef\xbb\xbf"}, "all cells of t.csv are empty"),
    "a truncated gzip file": (
        "train t.csv --target y",
        {"t_csv": gzip.compress(IRIS.encode())[:-12]},
        "t.csv is compressed by gzip, but it cannot be decompressed",
    ),
    "a corrupt gzip file": (
        "train t.csv --target y",
        {"t_csv": gzip.compress(IRIS.encode())[:10] + b"\xff" * 20},
        "t.csv is compressed by gzip, but it cannot be decompressed",
    ),
    "a duplicate name, below an empty line": (
        "train t.csv --target y",
        {"t_csv": ",,\na,a,y\n1,2,p\n"},
        "line 2 of t.csv has the name 'a' in columns 1, 2",
    ),
    "a line of JSON, below a blank line": (
        "predict houses.json t.jsonl",
        {
            "t_jsonl": "".join(
                f'{{"size": 1, "town": "a", "built": "{day}", "note": ""}}\n\n' for day in ("1990-01-01", "soon")
            )
        },
        r"line 3, column built of t.jsonl: expected dates, as in training, found 'soon'",
    ),
    "infinite numbers, below rows without a target": (
        "train t.csv --target y",
        {"t_csv": 'a,"n",y\n1,"x\ny",p\n1,x,\n2,x,q\n-inf,x,q\n3,x,p\n'},
        r"line 6, column 1 \(a\) of t.csv: expected a finite number, found -inf",
    ),
    "a wrong date, below rows without a target": (
        "evaluate houses.json t.csv",
        {"t_csv": "size,town,built,note,price\n1,a,1990-01-01,,\n1,a,1990-01-01,,9\n1,b,soon,,9\n"},
        r"line 4, column 3 \(built\) of t.csv: expected dates, as in training, found 'soon'",
    ),
    "an unknown encoding": ("train t.csv --target y --encoding utf-9", {"t_csv": IRIS}, "--encoding must be .*'utf-9'"),
    "a workbook": ("train t.csv --target y", {"t_csv": b"PK\x03\x04" + bytes(99)}, "an Excel workbook or a zip file"),
    "a binary file": ("train t.csv --target y", {"t_csv": b"a,y\n1,\0\n"}, "zero byte on line 2"),
    "a gzip file of zeros": ("train t.csv --target y", {"t_csv": b"\x1f\x8b" + bytes(20)}, "cannot be decompressed"),
    "invalid JSON": ("train t.csv --target y", {"t_csv": '{"a": 1}\n{"a": \n'}, "line 2 of t.csv is not valid JSON"),
    "indented JSON": (
        "train t.csv --target y",
        {"t_csv": '{\n  "y": 1\n}\n'},
        "line 1 of t.csv is not valid JSON: .*, column 2; each line must be one JSON object",
    ),
    "an array of JSON": (
        "train t.csv --target y",
        {"t_csv": '[\n {"y": 1},\n {"y": 2}\n]\n'},
        "t.csv must have one JSON object in each line, got a JSON array; convert it with polars.read_json",
    ),
    "infinite numbers": (
        "train t.csv --target y",
        {"t_csv": "a,y\n1,p\ninf,q\n3,p\n"},
        r"line 3, column 1 \(a\) of t.csv: expected a finite number, found inf",
    ),
    "an unknown column to drop": ("train t.csv --target y --drop b,c", {"t_csv": IRIS}, "--drop must be .*, got 'c'"),
    "the target to drop": ("train t.csv --target a --drop a", {"t_csv": "a,b\n1,2\n2,3\n"}, "--drop must not contain"),
    "an existing model": ("train iris.csv --target species -o iris.json", {}, "exists already.*--force"),
    "a missing folder": ("train iris.csv --target species -o no/m.json", {}, "there is no folder 'no'"),
    "no checkpoint to resume from": ("train iris.csv --target species -o m.json --resume", {}, "m.json.unfinished"),
    "a model of another table": (
        "predict iris.json houses.csv",
        {},
        "houses.csv has no column 'sepal length', .*is iris.json the model of another table",
    ),
    "a missing column": (
        "predict iris.json t.csv",
        {"t_csv": "sepal length,sepal width,petal length,petal_width\n1,2,3,4\n"},
        "no column 'petal width'.*did you mean 'petal_width'",
    ),
    "text in a numeric column": (
        "predict iris.json t.csv",
        {"t_csv": ",".join(NAMES) + '\n1,2,3,"4"\n\n1,2,x,4\n'},
        r"line 4, column 3 \(petal length\) of t.csv: expected a number, as in training, found 'x'",
    ),
    "text in a column of dates": (
        "predict houses.json t.csv",
        {"t_csv": "size,town,built,note\n1,a,1990-01-01,\n1,b,soon,\n"},
        r"line 3, column 3 \(built\) of t.csv: expected dates, as in training, found 'soon'",
    ),
    "no heading": ("predict iris.json t.csv", {"t_csv": "1,2,3,4\n"}, "--heading"),
    "an unknown id column": ("predict iris.json iris.csv --id specie", {}, "--id must be .*did you mean 'species'"),
    "existing predictions": ("predict iris.json iris.csv -o houses.csv", {}, "exists already.*--force"),
    "a table instead of a model": ("predict iris.csv iris.csv", {}, "files of tables are not models"),
    "a network to evaluate": ("evaluate net.json iris.csv", {}, "net.json, which is a network"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_input_error_is_reported_in_last_line(shell, case):
    line, files, message = REJECTED[case]
    if "net.json" in line:
        from nnc import NeuralNetwork

        NeuralNetwork([2, 1]).save("net.json")
    out, err, status = shell(line, **files)
    assert (out, status) == ("", 1)
    last = err.splitlines()[-1]
    assert last.startswith("nnc: ")
    assert re.search(message, last), last
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train", "--target"),
        ("train iris.csv", "--target"),
        ("train iris.csv --target species --members 0", "--members"),
        ("train iris.csv --target species -o m.onnx", "--output must have the extension .json, got m.onnx; to_onnx"),
        ("train iris.csv --target species -o m.csv", "--output must have the extension .json, got m.csv; files of"),
        ("train iris.csv --target species --separator ab", "--separator"),
        ("predict iris.json iris.csv --level 0.9", "--level"),
        ("predict houses.json houses.csv --level 9", "--level"),
        ("explain iris.json --label setosa", "--label requires DATA, the rows to explain"),
        ("explain iris.json iris.csv --label rosa", "setosa, versicolor, virginica, got 'rosa'"),
        ("export iris.json", "--onnx"),
        ("export iris.json -o iris.txt", "iris.txt"),
        ("export iris.json --onnx a.onnx -o b.onnx", "a.onnx and b.onnx"),
        ("train iris.csv --target species --quantiles 0.9,0.1", "--quantiles"),
        ("train iris.csv --target species --quantiles 0.1,0.9", "--quantiles"),
    ],
)
def test_usage_error_names_argument(shell, line, message):
    out, err, status = shell(line)
    assert (out, status) == ("", 2)
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize(
    "line",
    [
        "predict houses.json houses.csv --level 0.8 --level 0.95",
        "predict houses.json houses.csv --id id --id town",
        "train iris.csv --target species --seed 0 --seed 0 -o m.json",
        "export iris.json --c a.h --c b.h",
    ],
)
def test_repeated_option_is_rejected(shell, line):
    _, err, status = shell(line)
    option = next(word for word in line.split() if line.count(f" {word} ") == 2)
    assert status == 2
    assert err.splitlines()[-1].endswith(f"argument {option}: expected only once, got it again; remove one of them")


@pytest.mark.parametrize("command", ["train", "predict", "export", "draw"])
def test_unknown_option_is_reported_with_usage_of_command(shell, command):
    out, err, status = shell(f"{command} x.json -o y --colour")
    assert (out, status) == ("", 2)
    assert err.startswith(f"usage: nnc {command} ")
    assert err.splitlines()[-1] == f"nnc {command}: error: unrecognized arguments: --colour"


def test_missing_polars_is_reported_with_install_command(shell, monkeypatch):
    for module in [name for name in sys.modules if name.startswith("nnc._cli.") and name != "nnc._cli.main"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "polars", None)
    _, err, status = shell("train iris.csv --target species -o new.json")
    assert (err, status) == (
        f"nnc: this command needs polars; install it with {install_command('cli')}\n",
        1,
    )


# ------------------------------------------------------------------------------------------ interrupted runs


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT of POSIX")
def test_resumed_training_matches_uninterrupted_training(shell, monkeypatch):
    """Ctrl-C saves the trained networks; --resume trains the others and gives the model of an uninterrupted run."""
    line = "train iris.csv --target species --preset fast --members 6 --jobs 1 --log run.jsonl -q"
    assert shell(f"{line} -o whole.json")[2] == 0

    def interrupt(log, network, record):
        write(log, network, record)
        if len(networks) < 5 and network not in networks:
            networks.append(network)
            if len(networks) == 5:
                os.kill(os.getpid(), signal.SIGINT)

    write, networks = RunLog.epoch, []
    # The command has no callback, and the signal must come after the first epoch of the fifth network.
    monkeypatch.setattr(RunLog, "epoch", interrupt)
    out, err, status = shell(f"{line.replace(' -q', '')} -o m.json -f")
    assert status == 130
    assert "interrupted: saved the best model so far (" in err
    assert "--resume" in err
    assert 0 < len(nnc.load("m.json").networks_) < 6
    assert "continue it with --resume" in shell(f"{line} -o m.json")[1]
    assert shell(f"{line} -o m.json --resume") == ("", "", 0)
    assert not Path("m.json.unfinished").exists()
    frame = iris_table().drop("species")
    resumed, uninterrupted = (nnc.load(path).predict_proba(frame) for path in ("m.json", "whole.json"))
    assert resumed.tobytes() == uninterrupted.tobytes()
    events = [json.loads(row)["event"] for row in read_text("run.jsonl").splitlines()]
    assert events.count("start") == events.count("end") == 2
    assert out


def test_max_seconds_saves_best_model_so_far(shell):
    _, err, status = shell("train iris.csv --target species -o m.json --members 40 --max-seconds 0.3")
    assert status == 0
    assert re.search(r"note: stopped after 0.3 seconds: saved the best model so far \([0-9]+ of 40 networks\)", err)
    assert not Path("m.json.unfinished").exists()


# ------------------------------------------------------------------------------------------ images


@pytest.fixture
def images(tmp_path):
    """Return a folder with a subfolder of images for each of two classes; the bright corner determines the class.

    All images are gray and of 16 x 16 pixels, except one of 32 x 32 pixels.
    """
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels = rng.integers(0, 60, (16, 16)).astype(np.uint8)
        pixels[:8, :8] += 150
        if i % 2:
            pixels = pixels.T[::-1].copy()
        folder = tmp_path / "images" / ("top left", "下面")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture = image.fromarray(pixels)
        (picture.resize((32, 32)) if i == 3 else picture).save(folder / f"{i:02}.png")
    return tmp_path / "images"


def test_train_and_predict_on_folder_of_images(shell, images):
    out, err, status = shell("train --images images -o m.json --epochs 12 --seed 1")
    assert status == 0
    assert "images: 24 images of 2 classes, 16 x 16 pixels, gray" in err
    assert re.search("^held-out images +accuracy", out, re.MULTILINE)
    rows = shell("predict m.json images --classes")[0].splitlines()
    assert rows[0] == "file,prediction"
    assert len(rows) == 25
    assert sum(row.split("/")[0] == row.split(",")[1] for row in rows[1:]) > 20
    one = shell(f"predict m.json {images / '下面' / '03.png'}")[0].splitlines()
    assert one[0].split(",") == ["file", "prediction", "probability_top left", "probability_下面"]
    (images / "下面" / "99.png").write_bytes(b"no image")
    assert "99.png cannot be read as an image" in shell("predict m.json images")[1]
    assert "this is a folder" in shell("predict iris.json images")[1]


def test_train_and_predict_on_idx_files(shell, tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 255, (12, 12, 12)).astype(np.uint8), np.arange(12, dtype=np.uint8) % 2
    Path("x.idx").write_bytes(bytes([0, 0, 8, 3, *(0, 0, 0, 12) * 3]) + X.tobytes())
    Path("y.idx.gz").write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 12]) + y.tobytes()))
    assert shell("train --images x.idx --labels y.idx.gz -o m.json --epochs 1 -q") == ("", "", 0)
    rows = shell("predict m.json x.idx --classes")[0].splitlines()
    assert rows[0] == "file,prediction"
    assert {row.split(",")[1] for row in rows[1:]} <= {"0", "1"}
    assert shell("train --images x.idx -o n.json")[2] == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT of POSIX")
def test_resumed_image_training_matches_uninterrupted_training(shell, images, monkeypatch, set_limit):
    """A run that Ctrl-C ended after the third epoch is resumed and gives the model of an uninterrupted run."""
    assert shell("train --images images -o whole.json --epochs 6 -q")[2] == 0
    checkpoint = import_module("nnc.images.training").PeriodicCheckpoint
    set_limit("nnc.images.training.PeriodicCheckpoint.seconds", 1e-9)
    save, epochs = checkpoint.__call__, []

    def interrupt(self, record):
        save(self, record)
        epochs.append(record["epoch"])
        if epochs == [1, 2, 3]:
            os.kill(os.getpid(), signal.SIGINT)

    # The command has no callback, and the signal must come after the third epoch.
    monkeypatch.setattr(checkpoint, "__call__", interrupt)
    _, err, status = shell("train --images images -o m.json --epochs 6")
    assert status == 130
    assert "interrupted: saved the best model so far" in err
    assert shell("train --images images -o m.json --epochs 6 --resume -q") == ("", "", 0)
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert shell("predict m.json images") == shell("predict whole.json images")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT of POSIX")
@pytest.mark.parametrize(("signal_epoch", "status"), [(1, 130), (2, 0)])
def test_interrupt_during_validation_ends_image_training(shell, images, monkeypatch, set_limit, signal_epoch, status):
    """A signal in the first of two epochs ends the run; a signal in the last epoch comes too late and is ignored."""
    loop = import_module("nnc._training.loop").TrainingLoop
    set_limit("nnc.images.training.PeriodicCheckpoint.seconds", 1e-9)
    evaluate = loop.evaluate

    def interrupt(self):
        if self.records.earlier_epochs + self.epoch == signal_epoch:
            os.kill(os.getpid(), signal.SIGINT)
        evaluate(self)

    # Callbacks run before or after a validation, so only a replaced method can raise the signal in between.
    monkeypatch.setattr(loop, "evaluate", interrupt)
    _, err, result = shell("train --images images -o m.json --epochs 2")
    assert result == status
    assert ("interrupted: saved the best model so far (no epoch is complete)" in err) == (signal_epoch == 1)
    assert shell("predict m.json images --classes")[2] == 0
    assert Path("m.json.unfinished.safetensors").exists() == (signal_epoch == 1)


def test_image_training_resumes_after_last_epoch(shell, images, monkeypatch, set_limit):
    """A run that was killed after its last epoch, before it removed its checkpoint, can be resumed."""
    set_limit("nnc.images.training.PeriodicCheckpoint.seconds", 1e-9)
    with monkeypatch.context() as killed:
        # A signal from outside cannot be sent at this moment.
        killed.setattr(os, "remove", lambda path: None)
        assert shell("train --images images -o m.json --epochs 2 -q")[2] == 0
    predicted = shell("predict m.json images")
    assert shell("train --images images -o m.json --epochs 2 -q --resume") == ("", "", 0)
    assert shell("predict m.json images") == predicted


@pytest.mark.parametrize(
    ("line", "message", "status"),
    [
        ("train --images nothing -o m.json", "nothing must have a subfolder with images", 1),
        ("train --images single -o m.json", "images of at least two classes, got only a", 1),
        ("train --images images --target y", "got both", 2),
        ("train --images images --labels y.idx", "--labels is only for IDX files", 2),
    ],
)
def test_input_error_of_image_training_is_reported(shell, images, line, message, status):
    Path("nothing").mkdir()
    (images / "top left").rename("a")
    Path("single").mkdir()
    Path("a").rename("single/a")
    out, err, result = shell(line)
    assert (out, result) == ("", status)
    assert message in err.splitlines()[-1]


# ------------------------------------------------------------------------------------------ overwritten files


TRAIN = "train iris.csv --target species --preset fast --members 1 -q"
# Each command line names the same file twice.
SAME_FILES = {
    "model and report": f"{TRAIN} -o x.json --report x.json",
    "model and log": f"{TRAIN} -o x.json --log ./x.json",
    "log and report": f"{TRAIN} -o m.json --log x.json --report x.json",
    "table and model": f"{TRAIN} -f -o iris.csv",
    "table and log": f"{TRAIN} -f -o m.json --log iris.csv",
    "table and report": f"{TRAIN} -f -o m.json --report iris.csv",
    "table and log of a resumed run": f"{TRAIN} --resume -o m.json --log iris.csv",
    "another spelling": f"{TRAIN} -f -o sub/../iris.csv",
    "a symbolic link": f"{TRAIN} -f -o link.csv",
    "a hard link": f"{TRAIN} -f -o hard.csv",
    "a link as the input": "train link.csv --target species -f -o hard.csv",
    "the unfinished model": f"{TRAIN} -o x.json --log x.json.unfinished",
    "the table as the unfinished model": "train x.json.unfinished --target species -f -o x.json",
    "table and predictions": "predict iris.json iris.csv -f -o iris.csv",
    "model and predictions": "predict iris.json iris.csv -f -o iris.json",
    "explained table": "explain iris.json iris.csv -f -o hard.csv",
    "model and drawing": "draw iris.json -f -o iris.json",
    "model and export": "export iris.json --c -f -o iris.json",
    "model and export by default": "export iris.h --c -f",
}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no links of POSIX")
@pytest.mark.parametrize("line", SAME_FILES.values(), ids=SAME_FILES)
def test_output_that_is_another_file_of_the_command_is_rejected(shell, tmp_path, line):
    for name in ("iris.csv", "iris.json"):
        content = Path(name).read_bytes()
        Path(name).unlink()
        Path(name).write_bytes(content)
    Path("sub").mkdir()
    Path("link.csv").symlink_to("iris.csv")
    os.link("iris.csv", "hard.csv")
    Path("iris.h").write_bytes(Path("iris.json").read_bytes())
    if line.startswith("train x.json.unfinished"):
        Path("x.json.unfinished").write_bytes(Path("iris.csv").read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    out, err, status = shell(line)
    assert (out, status) == ("", 2)
    assert "would overwrite" in err
    assert "choose another file" in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_several_outputs_may_be_one_device(shell):
    assert shell(f"{TRAIN} -o m.json --log {os.devnull} --report {os.devnull} -f") == ("", "", 0)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "7", "no json", '{"networks": 3}', '{"networks": [1]}', "[" * 100_000, b"\xff\x00"]
)
def test_resume_reports_corrupt_checkpoint(shell, content):
    Path("m.json.unfinished").write_bytes(content if isinstance(content, bytes) else content.encode())
    out, err, status = shell(f"{TRAIN} -o m.json --resume")
    assert (out, status) == ("", 1)
    assert re.fullmatch(r"nnc: .*m\.json\.unfinished.*\n", err)
    assert shell(f"{TRAIN} -o m.json -f") == ("", "", 0)


# ------------------------------------------------------------------------------------------ terminals, pipes, signals

ESCAPES = "\x1b[31mred\x1b]0;title\x07\u202e\x9b2J"


def test_control_characters_of_names_are_not_printed(shell, tmp_path):
    name = f"y{ESCAPES}"
    rows = [f"{i % 7},{'cat' + ESCAPES if i % 2 else 'b'},{'class' + ESCAPES if i % 3 else 'B'}" for i in range(120)]
    text = "\n".join([f"col{ESCAPES},b,{name}", *rows]) + "\n"
    Path("t.csv").write_text(text, encoding="utf-8")
    lines = (
        ["train", "t.csv", "--target", name, "-o", "m.json", "--preset", "fast", "--members", "1"],
        ["evaluate", "m.json", "t.csv"],
        ["evaluate", "m.json", "t.csv", "--json"],
        ["explain", "m.json"],
        ["explain", "m.json", "--json"],
        ["explain", "m.json", "t.csv"],
        ["inspect", "m.json"],
        ["inspect", "m.json", "--json"],
        ["explain", "m.json", "t.csv", "--label", ESCAPES],
        ["predict", "m.json", "iris.csv"],
        ["predict", "m.json", ESCAPES],
        ["train", "t.csv", "--target", ESCAPES, "-o", "n.json"],
        ["train", "t.csv", "--target", name, "-o", f"no{ESCAPES}/m.json"],
        ["draw", "m.json", "-o", f"{ESCAPES}.svg"],
        ["export", "m.json", "--onnx", "-o", f"{ESCAPES}.onnx"],
        [ESCAPES],
        ["train", "t.csv", ESCAPES],
        ["predict", "m.json", "--separator", ESCAPES],
    )
    for line in lines:
        out, err, _ = shell.run(line)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", out + err), line
        if "--json" in line:
            json.loads(out)


def start_process(*arguments, **options):
    """Start a process that runs a command, and return it."""
    return subprocess.Popen([sys.executable, "-m", "nnc", *arguments], **options)


@pytest.fixture
def temporary(tmp_path):
    """Return a folder for temporary files of processes, and the environment with which processes use it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    paths = [str(Path(import_module("nnc").__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return folder, {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def wait_for_input_copy(running, folder):
    """Wait until a process has written data from standard input to its temporary file."""
    while not any(path.stat().st_size for path in folder.iterdir()):
        assert running.poll() is None
        time.sleep(0.05)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_while_reading_standard_input_removes_temporary_files(shell, temporary, name):
    folder, environment = temporary
    number = getattr(signal, name)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
    with start_process("predict", "iris.json", bufsize=0, **pipes) as running:
        # 2 MiB exceed the buffer of the temporary file, so they are written to disk.
        running.stdin.write(b"x" * (2 << 20))
        wait_for_input_copy(running, folder)
        running.send_signal(number)
        status = running.wait(60)
        out, err = running.stdout.read(), running.stderr.read()
    assert out == b""
    assert (status, err) == ((130, b"nnc: interrupted\n") if name == "SIGINT" else (-number, b""))
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals of POSIX")
def test_signal_during_training_removes_temporary_files(shell, temporary):
    folder, environment = temporary
    Path("iris.csv.gz").write_bytes(gzip.compress(Path("iris.csv").read_bytes()))
    line = ["train", "iris.csv.gz", "--target", "species", "--members", "300", "--log", "run.jsonl", "-o", "m.json"]
    with start_process(*line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        while not (Path("run.jsonl").exists() and "epoch" in read_text("run.jsonl")):
            assert running.poll() is None
            time.sleep(0.05)
        assert list(folder.iterdir()) != []
        running.terminate()
        assert running.wait(60) == -signal.SIGTERM
        assert b"Traceback" not in running.stderr.read()
    assert list(folder.iterdir()) == []
    assert not Path("m.json").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGHUP")
def test_signal_ignored_by_parent_process_remains_ignored(shell, temporary):
    folder, environment = temporary
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environment}
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the program nohup ignores SIGHUP in this way, too
    try:
        running = start_process("predict", "iris.json", "--classes", "--id", "species", bufsize=0, **pipes)
    finally:
        signal.signal(signal.SIGHUP, before)
    with running:
        text = Path("iris.csv").read_bytes()
        running.stdin.write(text + b"1,1,1,1,z\n" * (1 << 17))
        wait_for_input_copy(running, folder)
        running.send_signal(signal.SIGHUP)
        out, _ = running.communicate(timeout=120)
    assert running.returncode == 0
    assert out.startswith(b"species,prediction\nsetosa,")


@pytest.mark.skipif(os.name == "nt", reason="file descriptors are closed by a POSIX shell")
@pytest.mark.parametrize(
    ("line", "closed", "status", "message"),
    [
        ("predict iris.json iris.csv", ">&-", 1, "nnc: standard output is closed"),
        ("explain iris.json --json", ">&-", 1, "nnc: standard output is closed"),
        ("inspect iris.json", ">&-", 1, "nnc: standard output is closed"),
        ("predict iris.json", "<&-", 1, "nnc: standard input is closed"),
        ("predict iris.json none.csv", "2>&-", 1, ""),
        (f"{TRAIN} -o m.json", ">&- 2>&- <&-", 0, ""),
        ("--help", ">&-", 0, ""),
        ("predict iris.json iris.csv", ">/dev/full", 1, FULL_STREAM),
    ],
)
def test_closed_standard_streams_are_reported(shell, temporary, line, closed, status, message):
    if closed == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    command = f"{shlex.quote(sys.executable)} -m nnc {line} {closed}"
    finished = subprocess.run(command, shell=True, capture_output=True, text=True, env=temporary[1], check=False)
    assert (finished.stdout, finished.returncode) == ("", status)
    assert finished.stderr.startswith(message)
    assert len(finished.stderr.splitlines()) == (message != "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes of POSIX")
@pytest.mark.parametrize("line", ["predict iris.json many.csv", "--help"])
def test_closed_pipe_ends_command_without_message(shell, temporary, line):
    text = read_text("iris.csv").split("\n", 1)
    Path("many.csv").write_text("\n".join([text[0], text[1] * 300]))
    with start_process(*line.split(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=temporary[1]) as running:
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(60) == (0 if line == "--help" else 141)


def test_images_are_reduced_while_being_read(shell, tmp_path):
    """At most two images of full size are in memory at the same time."""
    image = pytest.importorskip("PIL.Image")
    for i in range(8):
        folder = tmp_path / "large" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.new("RGB", (1200, 1000), (20 * i, 200, 10)).save(folder / f"{i}.png")
    # The test calls a private function because imported packages dominate the peak memory of a whole training.
    read_images = import_module("nnc.images.reading")._read_files
    files = sorted(map(str, (tmp_path / "large").rglob("*.png")))
    references, max_full_size = [], 0
    create_copy = image.Image._new  # Pillow creates all copies of images with this private method

    def count_alive(self, core):
        nonlocal max_full_size
        copy = create_copy(self, core)
        references.append(weakref.ref(copy))
        alive = [one for one in (reference() for reference in references) if one is not None]
        max_full_size = max(max_full_size, sum(one.size[0] >= 1000 for one in alive))
        return copy

    with pytest.MonkeyPatch.context() as patch:
        # Pillow allocates pixels outside Python, where tracemalloc does not see them.
        patch.setattr(image.Image, "_new", count_alive)
        assert read_images("large", files).X.shape == (8, 33, 40, 3)
    assert 1 <= max_full_size <= 2


def test_report_of_image_training_shows_class_and_accuracy(shell, images):
    assert shell("train --images images -o m.json --epochs 2 -q --report r.html") == ("", "", 0)
    page = read_text("r.html")
    assert "下面 12, top left 12" in page or "top left 12, 下面 12" in page
    assert "SHA-256" in page
    assert "val_accuracy" in page
    assert page.count("<svg") == 3  # the page has plots of confusion matrix, calibration and curves
    assert "they neither trained the network" in page


@pytest.mark.parametrize("option", ["--drop x", "--task regression", "--loss poisson", "--preset fast", "--members 3"])
def test_table_option_is_rejected_for_images(shell, images, option):
    out, err, status = shell(f"train --images images -o m.json {option}")
    assert (out, status) == ("", 2)
    assert f"{option.split()[0]} must be left out with --images, because it is only for tables" in err


@pytest.mark.parametrize("option", ["--epochs 3", "--labels y.idx"])
def test_image_option_is_rejected_for_tables(shell, option):
    out, err, status = shell(f"{TRAIN} -o m.json {option}")
    assert (out, status) == ("", 2)
    assert f"{option.split()[0]} must be left out without --images" in err


def test_training_image_is_not_overwritten(shell, images):
    picture = "images/下面/03.png"
    before = Path(picture).read_bytes()
    for line in (f"train --images images -f -o {picture}", f"train --images images -f -o m.json --log {picture}"):
        assert "would overwrite --images" in shell(line)[1]
    assert Path(picture).read_bytes() == before
    Path("images/m.json").write_text("an older model")
    assert shell("train --images images -f -o images/m.json --epochs 1 -q") == ("", "", 0)


@pytest.mark.parametrize(
    ("line", "message", "status"),
    [
        ("train iris.csv --target species -o m.json --members 99999999999", "from 1 to 2147483647, got '9", 2),
        ("train iris.csv --target species -o m.json --preset best", "'best', a removed preset; pass --members 24", 2),
        ("train iris.csv --target species -o m.json --preset slow", "expected fast or default, got 'slow'", 2),
        ("train iris.csv --target species -o m.json --seed -1", "from 0 to 4294967295, got '-1'", 2),
        ("train iris.csv --target species -o m.json --seed 4294967296", "from 0 to 4294967295, got '4", 2),
        (f"explain iris.json iris.csv --first {'1' * 5000}", "from 1 to 2147483647, got '1", 2),
        ("compare --sizes 3,4,99999999999", "expected two or more positive integers", 2),
        ("compare --rows 2147483647 --sizes 2000000,2", "nnc: there is not enough memory: ", 1),
        ("train iris.csv --target species -o .", "nnc: . is a folder; add the name of a file in it", 1),
        ("train iris.csv --target species -o m.json --log .", "nnc: . is a folder; add the name of a file in it", 1),
    ],
)
def test_number_or_path_out_of_range_is_reported(shell, line, message, status):
    out, err, result = shell(line)
    assert (out, result) == ("", status)
    assert message in err.splitlines()[-1]


def test_shell_completion_suggests_commands():
    argcomplete = pytest.importorskip("argcomplete")
    from nnc._cli.arguments import build_parser

    finder = argcomplete.CompletionFinder(build_parser())
    completions = finder._get_completions(["nnc"], "pre", "", None)
    assert [text.strip() for text in completions] == ["predict"]
