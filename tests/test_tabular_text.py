"""Tests of text columns of numbers, dates or times of day: their format is learned; doubtful cells are reported."""

import datetime as dt
import json
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import examples

import nnc
from nnc._tables.cells import CellError
from nnc.tabular import ColumnWarning, Schema, TableRegressor, read_table

RNG = np.random.default_rng(0)
NUMBERS = RNG.lognormal(6, 2, 60).round(2)
DAYS = [dt.date(2023, 1, 1) + dt.timedelta(days=int(day)) for day in RNG.integers(0, 700, 60)]
NOON = dt.datetime(1970, 1, 1)


def build_table(values):
    return read_table([[value, i] for i, value in enumerate(values)], names=["a", "other"])


def learn_schema(values):
    """Return the schema of a table with the column "a" of these values, and a column of row numbers."""
    return Schema.learn(build_table(values))


def read_cells(schema, values):
    """Return later cells of the column "a" as numbers; dates are seconds since 1970."""
    return schema.codes(build_table(values))[:, 0]


def describe_encoding(values):
    """Return the description of the encoding that is learned from the values of a column."""
    return learn_schema(values).describe()[0].encoding


def format_german(value, decimals=2):
    """Return a number as German text, such as 1.234,50."""
    return f"{value:,.{decimals}f}".translate(str.maketrans(",.", ".,"))


# --------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    "write",
    [
        lambda x: f"{x:,.2f}",
        lambda x: f"{x:.2f}".replace(".", ","),
        format_german,
        lambda x: f"{x:,.2f}".replace(",", " "),
        lambda x: f"{x:,.2f}".replace(",", "\u202f").replace(".", ","),
        lambda x: f"{x:,.2f}".replace(",", "'"),
        lambda x: f"{x}%",
        lambda x: f"{format_german(x)} %",
        lambda x: f"${x:,.2f}",
        lambda x: f"{format_german(x)} €",
        lambda x: f"CHF {x:,.2f}".replace(",", "\u2019"),
        lambda x: f" {x:.2e} ",
    ],
)
def test_numbers_in_each_format_are_read(write):
    texts = [write(x) for x in NUMBERS]
    schema, expected = learn_schema(texts), NUMBERS
    if "e" in texts[0]:
        expected = np.array([float(text) for text in texts])
    assert np.array_equal(read_cells(schema, texts), expected)
    assert np.array_equal(schema.encode(build_table(texts)), learn_schema(expected).encode(build_table(expected)))
    restored = Schema.from_document(json.loads(json.dumps(schema.document())))
    assert restored == schema
    assert np.array_equal(read_cells(restored, texts[:1]), expected[:1])


def test_signs_and_currency_symbols_are_read():
    texts = ["-1,234.5", "+2", "\u22123", "-$7", "$-8", "$ 9", "10 $", "1,000,000"] + [f"{i}.5" for i in range(20)]
    expected = [-1234.5, 2, -3, -7, -8, 9, 10, 1e6, *(i + 0.5 for i in range(20))]
    assert read_cells(learn_schema(texts), texts).tolist() == expected


@pytest.mark.parametrize("sign", ["?", "N/A", "n/a", "-", "\u2014", "unknown", "NULL", "NaN", "#DIV/0!"])
def test_common_signs_for_missing_values_are_recognized(sign):
    texts = [*map(str, NUMBERS[:19]), sign]
    schema = learn_schema(texts)
    assert schema.describe()[0].encoding == "a number, scaled, 5 % missing"
    assert np.isnan(read_cells(schema, [sign, sign.lower(), "1.5"])).tolist() == [True, True, False]
    assert learn_schema(["1", "2", "3", sign] * 9).describe()[0].encoding == "a number, scaled, 25 % missing"


@pytest.mark.parametrize("sign", ["?", "N/A", "nan", "-", "unknown"])
def test_missing_text_counts_as_missing_in_column_that_was_not_text(sign):
    numbers = NUMBERS[:20]
    columns = [(numbers, "1.5"), ([*[None] * 10, *[7] * 10], "7"), ([True, False, None, True] * 5, "no")]
    for values, text in columns:
        schema = learn_schema(values)
        expected = schema.encode(build_table([values[-1], None]))
        assert np.array_equal(schema.encode(build_table([text, sign]))[1:], expected[1:])
        with pytest.raises(CellError, match=r"in column 'a', as .*, got 'x' in row 2; correct it, or leave it empty"):
            schema.encode(build_table([text, sign, "x"]))


def test_unreadable_numbers_are_missing_and_reported():
    texts = [*map(str, NUMBERS), "about 7", "9x"]
    message = (
        r"^column 'a': 2 of 62 cells cannot be read as numbers, such as 'about 7', and count as missing; correct such "
        r"cells or leave them empty$"
    )
    with pytest.warns(ColumnWarning, match=message) as caught:
        schema = learn_schema(texts)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert np.isnan(read_cells(schema, ["about 7", "9x", "5"])).tolist() == [True, True, False]
    with pytest.raises(CellError, match=r"^X must have numbers in column 'a', as .*, got '8x' in row 1;"):
        read_cells(schema, ["9x", "8x", "5"])


def test_codes_and_mixed_formats_stay_categories():
    zips = [f"{i:05}" for i in range(2139, 2160)]
    assert describe_encoding([*zips[:11], "90210"] * 3) == "12 categories"
    # Columns with few different values stay categorical.
    assert describe_encoding(["1", "2", "3", "A"] * 20) == "4 categories"
    assert describe_encoding(["1 lb", "2 lb", "3 lb"] * 20) == "3 categories"
    assert describe_encoding(["1.5", "2.5", "1,5", "2,5"] * 20) == "4 categories"
    assert describe_encoding(["3%", "0.03", "4%", "0.04"] * 20) == "4 categories"
    assert describe_encoding(["$3", "€3", "$4", "€4"] * 20) == "4 categories"
    assert describe_encoding([f"n{i}" for i in range(60)]) == "left out: 60 different texts in 60 rows"


@pytest.mark.parametrize(
    "write",
    [
        lambda i: f"{i} kg",
        lambda i: f"{i} °C",
        lambda i: f"{i} km/h",
        lambda i: f"{i}.5" if i % 2 else f"{i},5",
        lambda i: f"{i % 28 + 1}-{i % 12 + 1}-{i % 90 + 10}",
        lambda i: f"{i + 24}:30",
        lambda i: f"{i}%" if i % 2 else str(i),
    ],
)
def test_left_out_column_that_looks_numeric_is_reported(write):
    with pytest.warns(
        ColumnWarning, match=r"^column 'a': most cells look like numbers or dates, such as '.*left out: "
    ):
        learn_schema([write(i) for i in range(60)])


def test_ambiguous_comma_separates_thousands_and_is_reported():
    texts = ["1,234", "5,678", "999", "12,345"] * 5
    with pytest.warns(ColumnWarning, match=r"the comma in '.*' may be a decimal mark or a .* read as \d{4,}; "):
        schema = learn_schema(texts)
    assert read_cells(schema, ["1,234"]).tolist() == [1234]
    for deciding, value in (("0,5", 1.234), ("1,234.5", 1234), ("12,34", 1.234)):
        schema = learn_schema([*texts, deciding])
        assert read_cells(schema, ["1,234"]).tolist() == [value]
    # A point without other marks is a decimal point.
    assert read_cells(learn_schema(["1.234", "5.678"] * 9), ["1.234"]).tolist() == [1.234]
    assert read_cells(learn_schema(["1.234", "5.678", "1,5"] * 9), ["1.234"]).tolist() == [1234]


def test_ambiguous_later_numbers_are_reported():
    schema = learn_schema([f"{x:.2f}" for x in NUMBERS])
    with pytest.warns(ColumnWarning, match=r"^column 'a': the mark in '1.234' .* it is read as 1.234, in the"):
        assert read_cells(schema, ["1.234", "17"]).tolist() == [1.234, 17]
    grouped = learn_schema([format_german(x) for x in NUMBERS])
    with pytest.warns(ColumnWarning, match=r"^column 'a': the mark in '1.234' .* it is read as 1234, in the"):
        assert read_cells(grouped, ["1.234", "17", "n.a."])[:2].tolist() == [1234, 17]
    assert read_cells(grouped, ["1.234", "5,5"]).tolist() == [1234, 5.5]
    assert read_cells(schema, ["1.234", "0.5"]).tolist() == [1.234, 0.5]
    assert read_cells(learn_schema([*(f"{x:.2f}" for x in NUMBERS), "7.125"]), ["1.234"]).tolist() == [1.234]


def test_percentages_are_not_mixed_with_numbers():
    schema = learn_schema([f"{x}%" for x in NUMBERS])
    assert schema.describe()[0].encoding == "a number, scaled, read from text such as 12.5%"
    for value in ("0.03", 0.03, 3):
        with pytest.raises(CellError, match=r"^X must have (numbers|text) such as '?\d+(\.5)?%'? in column 'a'"):
            read_cells(schema, [value])
    assert np.isnan(read_cells(schema, [None])).all()
    assert read_cells(learn_schema([f"${x}" for x in NUMBERS]), [7.5]).tolist() == [7.5]


def test_integers_beyond_float64_are_distinct_categories():
    ids = 2**60 + np.arange(200)
    pl = pytest.importorskip("polars")
    for values in (ids[:8], ids[:8].astype(str), ids[:8].astype(object) + 2**70):
        assert describe_encoding(np.repeat(values, 5).tolist()) == "8 categories"
    frame = pl.DataFrame({"a": [*np.repeat(ids[:8], 5).tolist(), None], "other": range(41)})
    schema = Schema.learn(read_table(frame))
    assert schema.describe()[0].encoding == "8 categories, 2.4 % missing"
    codes = schema.codes(read_table(frame[::5]))[:, 0]
    assert sorted(codes[:-1]) == list(range(8))
    assert np.array_equal(codes[:3], schema.codes(build_table(ids[:3].tolist()))[:, 0])
    assert describe_encoding(ids.tolist()) == "left out: 200 different texts in 200 rows"
    # These integers differ in float64, too, so they count as numbers.
    assert describe_encoding((ids * 4096).tolist()) == "a number, scaled"


# --------------------------------------------------------------------------------------------- dates


@pytest.mark.parametrize(
    "date_format",
    ["%Y-%m-%d", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p"],
)
def test_dates_in_each_format_are_read(date_format):
    moments = [dt.datetime.combine(day, dt.time(i % 24 if "%M" in date_format else 0, 0)) for i, day in enumerate(DAYS)]
    for width in (2, 1):  # test both forms of numbers: 01/02/2024 and 1/2/2024
        texts = [moment.strftime(date_format) for moment in moments]
        if width == 1:
            texts = ["/".join(part.lstrip("0") for part in text.split("/")) for text in texts]
        schema = learn_schema(texts)
        assert np.array_equal(read_cells(schema, texts), [(moment - NOON).total_seconds() for moment in moments])
        assert np.array_equal(schema.encode(build_table(texts)), learn_schema(moments).encode(build_table(moments)))
        assert Schema.from_document(json.loads(json.dumps(schema.document()))) == schema


def test_later_dates_have_learned_order_of_day_and_month():
    schema = learn_schema([f"{day.month}/{day.day}/{day.year}" for day in DAYS])
    assert read_cells(schema, ["2/1/2024"]).tolist() == read_cells(
        learn_schema(["2024-01-01", "2024-02-01"] * 9), ["2024-02-01"]
    )
    for text in ("31/1/2024", "1.2.2024", "2/30/2024", "7"):
        with pytest.raises(CellError, match=r"^X must have dates such as 12/31/2024 in column 'a', as .* in row 0;"):
            read_cells(schema, [text])


def test_ambiguous_order_of_day_and_month_is_reported():
    january = dt.datetime(2024, 1, 1)
    texts = [f"{i % 12 + 1:02}/{i % 7 + 1:02}/2024" for i in range(84)]
    with pytest.warns(ColumnWarning, match=r"may have the day or the month first, .* read with the month first"):
        schema = learn_schema(texts)
    assert read_cells(schema, ["02/01/2024"]) == (january - NOON).total_seconds() + 31 * 86400
    # The first number is always 1, so it may be the day or the month.
    texts = [f"01/{i % 12 + 1:02}/2024" for i in range(48)]
    with pytest.warns(ColumnWarning, match=r"may have the day or the month first, .* read with the day first"):
        schema = learn_schema(texts)
    assert read_cells(schema, ["01/02/2024"]) == (january - NOON).total_seconds() + 31 * 86400


def test_unreadable_dates_are_missing_and_reported():
    texts = [*(f"{day:%d.%m.%Y}" for day in DAYS), "31.02.2024", "soon", "-"]
    with pytest.warns(ColumnWarning, match=r"^column 'a': 2 of 62 cells cannot be read as dates, such as '31.02.2024'"):
        schema = learn_schema(texts)
    assert np.isnan(read_cells(schema, ["soon", "-", "01.02.2024"])).tolist() == [True, True, False]


def test_times_of_day_have_cyclic_encoding():
    minutes = RNG.integers(0, 1440, 60)
    texts = [f"{m // 60:02}:{m % 60:02}" for m in minutes]
    schema = learn_schema(texts)
    assert schema.describe()[0].encoding == "time of day"
    assert np.array_equal(read_cells(schema, texts), minutes * 60.0)
    midnight, before_midnight = schema.encode(build_table(["00:00", "23:59"]))[:, 1:3]
    assert abs(midnight - before_midnight).max() < 0.01
    assert read_cells(schema, ["8:15:30", "8:15 pm", "12:00 AM", "unknown"])[:3].tolist() == [29730, 72900, 0]
    for value in ("24:00", "8.25", 8.25, dt.date(2020, 1, 1)):
        with pytest.raises(CellError, match=r"^X must have times of day such as 08:15 in column 'a'"):
            read_cells(schema, [value])
    clocks = [dt.time(m // 60, m % 60) for m in minutes.tolist()]
    assert np.array_equal(read_cells(schema, clocks), minutes * 60.0)
    assert np.array_equal(learn_schema(clocks).encode(build_table(clocks)), schema.encode(build_table(texts)))
    assert np.array_equal(read_cells(learn_schema(clocks), texts), minutes * 60.0)
    with pytest.raises(CellError, match=r"^X must have dates in column 'a', as the training rows had, got 29700.0 in"):
        read_cells(learn_schema(DAYS), [dt.time(8, 15)])


# --------------------------------------------------------------------------------------------- time zones


def test_dates_with_time_zone_are_read_in_local_time():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    # Daylight saving time begins on 31 March, within these 1000 hours.
    moments = pd.date_range("2024-03-01", periods=1000, freq="h")
    berlin = moments.tz_localize("UTC").tz_convert("Europe/Berlin")
    local = (berlin.tz_localize(None) - pd.Timestamp(0)).total_seconds()
    frame = pd.DataFrame({"a": berlin})
    schema = Schema.learn(read_table(frame))
    restored = Schema.from_document(json.loads(json.dumps(schema.document())))
    for later in (frame, pl.from_pandas(frame), pd.DataFrame({"a": berlin.tz_convert("Asia/Tokyo")})):
        assert np.array_equal(restored.codes(read_table(later))[:, 0], local)
    objects = pd.DataFrame({"a": pd.Series(list(berlin.to_pydatetime()), dtype=object)})
    assert np.array_equal(Schema.learn(read_table(objects)).codes(read_table(objects))[:, 0], local)
    assert np.array_equal(restored.codes(read_table(objects))[:, 0], local)
    text = pd.DataFrame({"a": [moment.isoformat() for moment in berlin]})
    assert np.array_equal(restored.codes(read_table(text))[:, 0], local)
    naive = pd.DataFrame({"a": berlin.tz_localize(None)})
    assert np.array_equal(restored.codes(read_table(naive))[:, 0], local)
    assert np.array_equal(Schema.learn(read_table(naive)).codes(read_table(frame))[:, 0], local)
    assert schema.raw()[0].description == "seconds since 1970 of the local time of Europe/Berlin"


def test_time_zone_without_name_becomes_utc():
    class Nameless(dt.tzinfo):
        def utcoffset(self, moment):
            return dt.timedelta(hours=3)

        __hash__ = None

    moments = [dt.datetime(2024, 1, day, 8, tzinfo=Nameless()) for day in range(1, 29)]
    schema = learn_schema(moments)
    assert schema.columns[0].zone == "UTC"
    assert read_cells(schema, moments[:1]) == (dt.datetime(2024, 1, 1, 5) - NOON).total_seconds()
    document = schema.document()
    document["columns"][0]["zone"] = "Nowhere/At all"
    with pytest.raises(
        ValueError, match=r"^column 'a': dates must have a time zone for which the system has data, got 'Nowhere"
    ):
        read_cells(Schema.from_document(document), moments)


def test_text_with_constant_utc_offset_is_read_in_local_time():
    texts = [f"2024-01-{day:02}T08:00:00-05:00" for day in range(1, 29)]
    schema = learn_schema(texts)
    assert schema.columns[0].zone == "UTC-05:00"
    eight = (dt.datetime(2024, 1, 3, 8) - NOON).total_seconds()
    assert read_cells(schema, [texts[2], "2024-01-03T14:00:00+01:00", "2024-01-03 08:00"]).tolist() == [eight] * 3


def test_periods_are_read_as_their_start():
    pd = pytest.importorskip("pandas")
    months = pd.period_range("2020-01", periods=30, freq="M")
    starts = read_table(pd.DataFrame({"a": months.to_timestamp()})).columns[0].values
    column = read_table(pd.DataFrame({"a": [*months, pd.NaT]})).columns[0]
    assert column.kind == "date"
    assert np.array_equal(column.values, [*starts, np.nan], equal_nan=True)


# --------------------------------------------------------------------------------------------- random text

# Pairs of a decimal mark and a mark that separates thousands.
SEPARATORS = [(".", ""), (".", ","), (",", ""), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'")]
TEMPLATES = ["{}", "{}%", "{} %", "${}", "{} €", "USD {}"]
cents = st.integers(-(10**9), 10**9).map(lambda n: n / 100)
columns = st.lists(cents, min_size=12, max_size=30, unique=True)


def format_number(value, separators, template="{}", decimals=2):
    """Return a number as text with these marks, inserted in the template."""
    decimal, grouping = separators
    marks = {",": grouping, ".": decimal}
    return template.format("".join(marks.get(mark, mark) for mark in f"{value:,.{decimals}f}"))


@given(columns, st.sampled_from(SEPARATORS), st.sampled_from(TEMPLATES), st.randoms())
def test_numbers_as_text_are_exact(values, separators, template, random):
    texts = [format_number(value, separators, template) for value in values]
    missing_signs = [random.choice(["?", "N/A", "-", None]) for _ in range(random.randint(0, 3))]
    cells = [*texts, *missing_signs]
    schema = learn_schema(cells)
    missing = [None] * len(missing_signs)
    assert np.array_equal(read_cells(schema, cells), np.array([*values, *missing], float), equal_nan=True)
    restored = Schema.from_document(json.loads(json.dumps(schema.document(), allow_nan=False)))
    assert restored == schema
    order = random.sample(range(len(cells)), len(cells))
    assert learn_schema([cells[i] for i in order]) == schema
    row_by_row = np.concatenate([restored.encode(build_table([cell])) for cell in cells])[:, 0]
    assert np.array_equal(row_by_row, learn_schema([*values, *missing]).encode(build_table([*values, *missing]))[:, 0])


@given(columns, *[st.sampled_from(SEPARATORS)] * 2, *[st.sampled_from(TEMPLATES)] * 2, st.sampled_from([0, 2, 3]))
def test_number_in_other_format_never_changes_silently(
    values, training_separators, later_separators, template, later_template, decimals
):
    """A later number in another format is rejected, has the same value, or gives a warning."""
    schema = learn_schema([format_number(value, training_separators, template) for value in values])
    for value in values:
        text = format_number(value, later_separators, later_template, decimals)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                (number,) = read_cells(schema, [text])
            except CellError:
                continue
        assert number == float(f"{value:.{decimals}f}") or [w.category for w in caught] == [ColumnWarning], text


@given(st.lists(st.text(max_size=12) | st.sampled_from(["1", "1,5", "7%", "1/2/2024", "8:15", "?"]), min_size=3))
def test_any_text_is_encoded_like_its_single_cells(cells):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ColumnWarning)
        schema = learn_schema(cells)
        matrix = schema.encode(build_table(cells))
        restored = Schema.from_document(json.loads(json.dumps(schema.document(), allow_nan=False)))
        assert restored == schema
        row_by_row = np.concatenate(
            [restored.encode(read_table([[c, i]], names=["a", "other"])) for i, c in enumerate(cells)]
        )
    assert np.array_equal(row_by_row.view(np.int32), matrix.view(np.int32))


@settings(max_examples=examples(4), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_model_file_contains_number_format(tmp_path, set_limit, data):
    separators, template = data.draw(st.sampled_from(SEPARATORS[1:])), data.draw(st.sampled_from(TEMPLATES))
    values = data.draw(st.lists(cents, min_size=40, max_size=60, unique=True))
    rng = np.random.default_rng(0)
    y = np.sign(values) + rng.normal(0, 0.3, len(values))
    texts = [
        [format_number(value, separators, template), noise]
        for value, noise in zip(values, rng.normal(size=len(y)), strict=True)
    ]
    set_limit("nnc.tabular.recipe.MIN_EPOCHS", 2)
    set_limit("nnc.tabular.recipe.MAX_EPOCHS", 2)
    model = TableRegressor("fast", members=1, random_state=0).fit(texts, y)
    model.save(tmp_path / "model.json")
    loaded = nnc.load(tmp_path / "model.json")
    assert np.array_equal(loaded.predict(texts), model.predict(texts))
    assert np.array_equal(loaded.codes(texts)[:, 0], values)


# --------------------------------------------------------------------------------------------- documents with formats


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "magic"}, r'format\.type is "magic", expected number or date or time'),
        ({"decimal": ";"}, r"format\.decimal must be one of '.', ',', got ';'"),
        ({"grouping": ","}, r"format\.grouping must differ from decimal, got ',' for both"),
        ({"grouping": 3}, r"format\.grouping must be one of"),
        ({"percent": 1}, r"format\.percent must be one of False, True, got 1"),
        ({"currency": "(?:"}, r"format\.currency must be the symbol or code"),
        ({"missing": [3]}, r"format\.missing must be a list of strings"),
        ({"more": 3}, r'format has the unknown key "more"'),
        ({"type": "time"}, r'format has the unknown key "decimal"'),
    ],
)
def test_from_document_rejects_invalid_formats(changes, message):
    document = learn_schema([format_german(x) for x in NUMBERS]).document()
    document["columns"][0]["format"] |= changes
    with pytest.raises(ValueError, match=rf"^schema\.columns\[0\]\.{message}"):
        Schema.from_document(document)


def test_from_document_rejects_format_of_other_encoding():
    document = learn_schema(["a", "b", "c"] * 9).document()
    document["columns"][0]["format"] = {"type": "time", "missing": []}
    message = r"^schema\.columns\[0\]\.format is a date format, expected null for the encoding .category."
    with pytest.raises(ValueError, match=message):
        Schema.from_document(document)


def test_first_and_last_dates_are_read_in_local_time():
    texts = [f"2024-01-{day:02}T08:00:00-05:00" for day in range(1, 29)]
    seconds = read_cells(learn_schema(texts), ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
    assert np.array_equal(seconds, [-62135596800 - 10 * 3600, 253402300799])


def test_documents_without_formats_are_read():
    values = [f"2020-01-{1 + i % 28:02}T{i % 24:02}:00:00+02:00" for i in range(60)]
    document = learn_schema(values).document()
    for column in document["columns"]:
        del column["format"], column["zone"]
    restored = Schema.from_document(document)
    utc = [(dt.datetime(2020, 1, 1 + i % 28, i % 24) - NOON).total_seconds() - 7200 for i in range(60)]
    assert np.array_equal(read_cells(restored, values), utc)
    document = learn_schema([f"{x:.2f}" for x in NUMBERS]).document()
    for column in document["columns"]:
        del column["format"], column["zone"]
    restored = Schema.from_document(document)
    assert np.array_equal(read_cells(restored, ["1.5", " 2 "]), [1.5, 2])
    with pytest.raises(CellError, match="got '1,5' in row 0"):
        read_cells(restored, ["1,5"])
