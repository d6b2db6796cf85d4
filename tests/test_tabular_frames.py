"""Tests of read_table: frames, arrays and lists of rows, all types of cells, missing values and invalid input."""

import datetime as dt
import math
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

from nnc._utils.packages import install_command
from nnc.tabular import read_table

NAN = float("nan")
MOMENTS = [dt.datetime(2020, 1, 1, 3), None, dt.datetime(2021, 1, 1)]
SECONDS = [1577847600.0, NAN, 1609459200.0]


def read_column(X, **options):
    """Return the only column of a table."""
    (col,) = read_table(X, **options).columns
    return col


def cell_texts(col):
    """Return the text of each cell of a column; None for missing values."""
    return [col.levels[index] if index >= 0 else None for index in col.values]


def is_equal(values, expected):
    """Return whether values are equal as float64, where NaN equals NaN."""
    return np.array_equal(np.asarray(values, float), np.asarray(expected, float), equal_nan=True)


# --------------------------------------------------------------------------------------------- containers

PANDAS = {  # each entry has a function that builds a column, its expected kind and its expected values
    "float": (lambda pd: [1.0, None, 2.0], "number", [1, NAN, 2]),
    "int": (lambda pd: [1, 2, 3], "number", [1, 2, 3]),
    "Int64": (lambda pd: pd.array([1, None, 3], dtype="Int64"), "number", [1, NAN, 3]),
    "arrow": (lambda pd: pd.array([1, None, 3], dtype="int64[pyarrow]"), "number", [1, NAN, 3]),
    "sparse": (lambda pd: pd.arrays.SparseArray([0.0, 0, 1]), "number", [0, 0, 1]),
    "decimal": (lambda pd: [Decimal("1.5"), None, Decimal(2)], "number", [1.5, NAN, 2]),
    "timedelta": (lambda pd: pd.to_timedelta([1, None, 3], unit="s"), "number", [1, NAN, 3]),
    "nothing": (lambda pd: [None] * 3, "number", [NAN] * 3),
    "bool": (lambda pd: [True, False, True], "boolean", [1, 0, 1]),
    "boolean": (lambda pd: pd.array([True, None, False], dtype="boolean"), "boolean", [1, NAN, 0]),
    "datetime": (lambda pd: pd.to_datetime(MOMENTS), "date", SECONDS),
    "with a zone": (lambda pd: pd.to_datetime(MOMENTS).tz_localize("UTC").tz_convert("Asia/Tokyo"), "date", SECONDS),
    "dates": (lambda pd: pd.Series([dt.date(2020, 1, 1), None, None], dtype=object), "date", [1577836800, NAN, NAN]),
    "str": (lambda pd: ["a", None, "b"], "text", ["a", None, "b"]),
    "object": (lambda pd: pd.Series(["a", np.nan, " "], dtype=object), "text", ["a", None, None]),
    "category": (lambda pd: pd.Categorical(["x", None, "y"]), "category", ["x", None, "y"]),
    "category of int": (lambda pd: pd.Categorical([1, None, 2]), "category", ["1", None, "2"]),
    "intervals": (lambda pd: pd.cut([1.0, NAN, 3], 2), "category", ["(0.998, 2.0]", None, "(2.0, 3.0]"]),
}


@pytest.mark.parametrize("name", PANDAS)
def test_pandas_columns_are_read_by_dtype(name):
    pd = pytest.importorskip("pandas")
    if name == "arrow":
        pytest.importorskip("pyarrow")
    build, kind, values = PANDAS[name]
    col = read_column(pd.DataFrame({"a": build(pd)}))
    assert (col.name, col.kind) == ("a", kind)
    assert cell_texts(col) == values if col.is_text else is_equal(col.values, values)
    assert col.missing.tolist() == [value is None or value != value for value in values]
    assert read_column(pd.DataFrame({"a": build(pd)})[:1]).kind in (kind, "number")


ARROW = {  # each entry has the cells of a column, its expected kind and its expected values
    "float": ([1.0, None, 2.0], "number", [1, NAN, 2]),
    "int": ([1, None, 3], "number", [1, NAN, 3]),
    "decimal": ([Decimal("1.5"), None, Decimal(2)], "number", [1.5, NAN, 2]),
    "duration": ([dt.timedelta(1), None, dt.timedelta(2)], "number", [86400, NAN, 172800]),
    "time": ([dt.time(1), None, dt.time(2, 30)], "number", [3600, NAN, 9000]),
    "nothing": ([None] * 3, "number", [NAN] * 3),
    "bool": ([True, None, False], "boolean", [1, NAN, 0]),
    "date": ([dt.date(2020, 1, 1), None, dt.date(2021, 1, 1)], "date", [1577836800, NAN, 1609459200]),
    "datetime": (MOMENTS, "date", SECONDS),
    "str": (["a", None, "b"], "text", ["a", None, "b"]),
    "bytes": ([b"a", None, b"\xc3\xa4"], "text", ["a", None, "ä"]),
}


@pytest.mark.parametrize("name", ARROW)
@pytest.mark.parametrize("library", ["polars", "pyarrow", "stream"])
def test_polars_and_arrow_columns_are_read_by_dtype(name, library):
    values, kind, expected = ARROW[name]
    if library == "polars":
        frame = pytest.importorskip("polars").DataFrame({"a": values})
    else:
        frame = pytest.importorskip("pyarrow").table({"a": values})
    col = read_column(frame.to_reader() if library == "stream" else frame)
    assert (col.name, col.kind) == ("a", kind)
    assert cell_texts(col) == expected if col.is_text else is_equal(col.values, expected)


def test_polars_and_arrow_categories_are_read():
    values = ["x", None, "y"]
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    for frame in (
        pl.DataFrame({"a": pl.Series(values, dtype=pl.Categorical)}),
        pl.DataFrame({"a": pl.Series(values, dtype=pl.Enum(["y", "x"]))}),
        pa.table({"a": pa.array(values).dictionary_encode()}),
        pa.record_batch({"a": pa.array(values).dictionary_encode()}),
    ):
        col = read_column(frame)
        assert (col.kind, cell_texts(col)) == ("category", values)


def test_arrays_are_read_without_copy():
    X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    for array in (X, np.asfortranarray(X), np.arange(15).reshape(5, 3), X > 0):
        table = read_table(array)
        assert table.names == ("x0", "x1", "x2")
        assert not table.named
        assert all(np.shares_memory(col.values, array) for col in table)
        assert table.select([3, 1]).columns[2].values.tolist() == array[[3, 1], 2].tolist()
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.asfortranarray(X), columns=list("abc"))
    assert all(np.shares_memory(col.values, frame.to_numpy()) for col in read_table(frame))


def test_arrays_of_all_dtypes_are_read():
    assert cell_texts(read_column(np.array([["a"], ["b"], [" "]]))) == ["a", "b", None]
    assert cell_texts(read_column(np.array([[b"a"], [b"b"]]))) == ["a", "b"]
    assert is_equal(read_column(np.array([["2020-01-01"], ["NaT"]], "M8[ns]")).values, [1577836800, NAN])
    assert is_equal(read_column(np.array([[90], ["NaT"]], "m8[m]")).values, [5400, NAN])
    assert is_equal(read_column(np.array([[1], [2.5], [None]], object)).values, [1, 2.5, NAN])
    assert is_equal(read_column(np.array([[1], [0.0], [True]], object)).values, [1, 0, 1])
    assert read_column(np.array([[True], [None]], object)).kind == "boolean"
    tokyo = dt.timezone(dt.timedelta(hours=9))
    assert is_equal(read_column([[dt.datetime(2020, 1, 1, 12, tzinfo=tokyo)], [None]]).values, [1577847600, NAN])
    assert is_equal(read_column([[dt.time(1, 30)], [dt.timedelta(days=1)]]).values, [5400, 86400])
    assert read_column(np.array([[1.5]], np.longdouble)).values.dtype == np.float64
    table = read_table(np.array([(1, "a"), (2, "b")], [("x", "i4"), ("y", "U3")]))
    assert (table.names, table.named, table.columns[1].levels) == (("x", "y"), True, ("a", "b"))
    if hasattr(np.dtypes, "StringDType"):
        values = np.array([["a"], [None]], dtype=np.dtypes.StringDType(na_object=None))
        assert cell_texts(read_column(values)) == ["a", None]


def test_missing_text_in_column_of_objects_counts_as_missing():
    for sign in ("?", "n/a", "nan", " - ", "Unknown"):
        assert is_equal(read_column(np.array([[1], [2.5], [sign]], object)).values, [1, 2.5, NAN])
        assert is_equal(read_column([[True], [sign]]).values, [1, NAN])
        assert is_equal(read_column([[dt.date(2020, 1, 1)], [sign]]).values, [1577836800, NAN])
        assert cell_texts(read_column([["a"], [NAN], [sign]])) == ["a", None, sign]
    with pytest.raises(ValueError, match=r"of one kind, got 1.5 in row 1 and 'many' in row 2, column 'x0'"):
        read_column([["?"], [1.5], ["many"]])


def test_boolean_among_other_numbers_than_0_and_1_is_rejected():
    message = r"^X must have columns of one kind, got 2\.5 in row 0 and (True|np.True_) in row 1, column 'x0'"
    for X in (np.array([[2.5], [True]], object), [[2.5], [True]], [(2.5,), (np.True_,)]):
        with pytest.raises(ValueError, match=message):
            read_table(X)
    assert [col.kind for col in read_table([[2, True], [1, False]])] == ["number", "boolean"]
    assert read_table([[1, True], [1.0, 0]]).columns[1].kind == "number"


def test_masked_cells_are_missing():
    mask = [[False], [True]]
    assert is_equal(read_column(np.ma.array([[1], [2]], mask=mask)).values, [1, NAN])
    assert is_equal(read_column(np.ma.array([[True], [True]], mask=mask)).values, [1, NAN])
    assert cell_texts(read_column(np.ma.array([["a"], ["b"]], mask=mask))) == ["a", None]
    assert is_equal(
        read_column(np.ma.array([["2020-01-01"], ["2021-01-01"]], "M8[D]", mask=mask)).values, [1577836800, NAN]
    )


def test_lists_of_rows_are_read():
    table = read_table([[1, "a", None], (2.5, None, True)])
    assert [col.kind for col in table] == ["number", "text", "boolean"]
    assert is_equal(table.columns[0].values, [1, 2.5])
    assert read_table([[1, 2], [3, 4]]).columns[1].values.tolist() == [2, 4]
    assert len(read_table([np.ones(2), np.zeros(2)])) == 2


def test_column_names_come_from_frame_or_argument():
    pd = pytest.importorskip("pandas")
    assert read_table(np.eye(2), names=["a", "b"]).names == ("a", "b")
    assert read_table(pd.DataFrame([[1, 2]], columns=["a", "b"]), names=["c", "d"]).names == ("c", "d")
    assert not read_table(pd.DataFrame([[1, 2]])).named
    pairs = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])
    assert read_table(pd.DataFrame([[1, 2]], columns=pairs)).names == ("('a', 1)", "('a', 2)")
    assert read_table(pd.DataFrame([[1, 2]], columns=[1, 0])).names == ("1", "0")
    assert read_table(pd.DataFrame([[1, 2]], columns=["a", 0])).names == ("a", "0")
    for names in (["a"], "ab"):
        with pytest.raises(ValueError, match=r"^names must be 2 names, one for each column, got "):
            read_table(np.eye(2), names=names)
    for names in (["a", "a"], pd.Index(["a", "a"])):
        with pytest.raises(ValueError, match=r"^X must have columns with different names, got 'a' 2 times; rename"):
            read_table(np.eye(2), names=names)


def test_duplicate_names_are_listed_in_one_line():
    pd, pa = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    for frame in (
        pd.DataFrame([[1, 2, 3]], columns=["a", "a", "b"]),
        pa.table([[1], [2], [3]], names=["a", "a", "b"]),
        pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"]),
    ):
        with pytest.raises(ValueError, match=r"^X must have columns with different names, got 'a' 2 times; rename"):
            read_table(frame)
    with pytest.raises(ValueError, match=r"^X must have columns with different names, got '1' 2 times; rename them$"):
        read_table(pd.DataFrame([[1, 2]], columns=[1, "1"]))
    pairs = pd.MultiIndex.from_tuples([("a", 1), ("a", 1)])
    with pytest.raises(ValueError, match=r"^X must have columns with different names, got \"\('a', 1\)\" 2 times"):
        read_table(pd.DataFrame([[1, 2]], columns=pairs))


# --------------------------------------------------------------------------------------------- invalid input


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.ones(3), ValueError, r"X must have shape \(rows, columns\), got shape \(3,\)\. Reshape your data"),
        (np.ones((0, 3)), ValueError, r"X has 0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required"),
        (np.ones((3, 0)), ValueError, r"X has 0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required"),
        ([[1, 2], [3]], ValueError, r"X must have rows of equal length, got 2 cells in row 0 and 1 in row 1"),
        ([1, [2]], TypeError, r"X must be a list of rows that are lists of cells, got 1 in row 0"),
        ([["a", 1], ["b", "c"]], ValueError, r".* got 1 in row 0 and 'c' in row 1, column 'x1'"),
        ([["a"], [True]], ValueError, r".* got 'a' in row 0 and True in row 1, column 'x0'"),
        ([[dt.date(2020, 1, 1)], [1.0]], ValueError, r".* got datetime.date.* in row 0 and 1.0 in row 1, column 'x0'"),
        ([["a", {}]], TypeError, r".*argument must be a string, a number or a date, got {} of type dict in row 0"),
        ([["a", [1]]], TypeError, r".*got \[1\] of type list in row 0, column 'x1'"),
        ([[math.nan], [[1]]], TypeError, r".*got \[1\] of type list in row 1, column 'x0'"),
        (np.ma.array(np.zeros(2, "i4,i4")), TypeError, r"X must not be a masked structured array"),
        (np.array([[1, object]], object), TypeError, r".*of type type in row 0, column 'x1'"),
        (np.array([[1 + 1j]]), ValueError, r"Complex data not supported: X must be real numbers"),
        (np.array([[1.0], [-np.inf]]), ValueError, r"X must be finite, got -inf in row 1, column 'x0'"),
        ([[None], [10**400]], ValueError, r"X must be numbers in the range of a float, got 1000.* in row 1"),
        ([[b"a"], [b"\xff"]], ValueError, r"X must be text in UTF-8, got .* in row 1, column 'x0'"),
        (np.zeros((1, 1), "V3"), TypeError, r"X must be numbers, text or dates, got elements of type \|V3"),
        (None, TypeError, r"X must be a frame, an array or a list of rows, got None of type NoneType"),
        ({"a": [1]}, TypeError, r"X must be a frame, an array or a list of rows, got .* of type dict"),
        ("abc", TypeError, r"X must be a frame, an array or a list of rows, got 'abc' of type str"),
    ],
)
def test_read_table_rejects_invalid_input(X, error, message):
    with pytest.raises(error, match=f"^{message}"):
        read_table(X)


def test_read_table_rejects_unsupported_frames():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    with pytest.raises(TypeError, match=r"^X must be in memory, got a LazyFrame; pass the result of collect"):
        read_table(pl.LazyFrame({"a": [1]}))
    with pytest.raises(ValueError, match=r"^X must have two dimensions, got a series; convert it to a frame"):
        read_table(pd.Series([1, 2]))
    for values in ([[1], [2]], [{"b": 1}, {"b": 2}]):
        with pytest.raises(TypeError, match=r"got column 'a' of type (List|Struct).*; split it into several columns"):
            read_table(pl.DataFrame({"a": values}))
    with pytest.raises(ValueError, match=r"^X has 0 feature"):
        read_table(pd.DataFrame(index=[0, 1]))
    with pytest.raises(TypeError, match=r"^X must be dense, got the sparse csr_array; pass the result of its toarray"):
        read_table(pytest.importorskip("scipy.sparse").csr_array(np.eye(2)))


def test_import_without_dependency_names_package_to_install():
    code = "import sys; sys.modules['narwhals'] = None; import nnc.tabular"
    completed = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert "nnc.tabular needs scikit-learn 1.9 or later" in completed.stderr
    assert install_command("tables") in completed.stderr


def test_direct_reading_of_pandas_gives_the_columns_of_narwhals():
    pd = pytest.importorskip("pandas")
    nw = pytest.importorskip("narwhals.stable.v2")
    frame = pd.DataFrame(
        {
            "number": [1.5, np.nan],
            "integer": [3, 4],
            "flag": [True, False],
            "text": pd.Series(["a", None], dtype=object),
            "string": pd.Series(["a", None], dtype="string"),
            "str": pd.Series(["a", None], dtype="str"),
            "category": pd.Categorical(["b", "a"], ordered=True),
            "date": pd.to_datetime(["2020-01-01", None]),
            "zone": pd.to_datetime(["2020-01-01", None]).tz_localize("Asia/Tokyo"),
            "offset": pd.to_datetime(["2020-01-01T12:00:00.5+05:30", None]),
            "nullable": pd.array([1, None], dtype="Int64"),
        }
    )
    for column, other in zip(read_table(frame), read_table(nw.from_native(frame)), strict=True):
        assert (column.name, column.kind, column.levels, column.zone, column.order) == (
            other.name,
            other.kind,
            other.levels,
            other.zone,
            other.order,
        )
        np.testing.assert_array_equal(column.values, other.values)
