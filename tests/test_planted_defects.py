"""Tests of tools/planted_defects.py, which measures how many defects the tests find."""

import json

import pytest
from programs import load_program

planted_defects = load_program("tools/planted_defects.py")


@pytest.mark.parametrize(
    ("operator", "line", "planted"),
    [
        ("wrong sign", "y = a + b[1]", "y = a - b[1]"),
        ("wrong sign", "y -= a", "y += a"),
        ("wrong sign", "y = f(-a)", "y = f(a)"),
        ("wrong sign", "if not a:", "if a:"),
        ("off by one", "y = a[0]", "y = a[1]"),
        ("dropped term", "y = f(a) * b.c(2)[3]", "y = f(a)"),
        ("dropped term", "y = a and b", "y = a"),
        ("swapped argument", "f(a.b, c[1], 2)", "f(c[1], a.b, 2)"),
        ("missing copy", "y = a.copy()", "y = a"),
        ("missing copy", "memcpy(a, b, 8 * n)", "pass"),
        ("wrong comparison", "while a < b:", "while a <= b:"),
    ],
)
def test_operator_plants_defect(operator, line, planted):
    text = f"x = y\n{line}\n"
    defects = planted_defects.defects_of("nnc/a.py", text)
    assert f"x = y\n{planted}\n" in [defect.plant(text) for defect in defects if defect.operator == operator]


@pytest.mark.parametrize(
    "line", ["y = <real*>a", "cdef const real* x = &a", "def f(a, b):", "# a + 1", '"""a + 1"""', "if a not in b:"]
)
def test_casts_pointers_definitions_comments_and_texts_have_no_defects(line):
    assert not list(planted_defects.defects_of("src/a.pxd", f"x = y\n{line}\n"))


def test_interval_covers_the_fraction():
    low, high = planted_defects.interval(76, 80)
    assert 0.87 < low < 0.95 < high < 0.99


def test_tests_of_changed_folder_run_first_and_all_others_follow():
    stages = planted_defects.stages_of("nnc/_data/rows.py")
    assert [stage.tests for stage in stages] == ["quick", "quick", "exhaustive", "exhaustive"]
    first, others = stages[0].files, stages[1].files
    assert {"tests/test_data.py", "tests/test_scaling.py"} <= set(first)
    assert "tests/test_norm.py" in others
    assert not {*first}.intersection(others)
    assert "tests/test_gradients.py" in planted_defects.stages_of("src/run/run.pxd")[0].files


def test_folder_without_row_in_table_runs_tests_that_name_it_first():
    assert "tests/test_river.py" in planted_defects.stages_of("nnc/river.py")[0].files


def test_sample_has_an_operator_a_position_and_a_result_for_each_defect():
    sample = json.loads(planted_defects.SAMPLE.read_text(encoding="utf-8"))
    assert sample["seed"]
    assert {row["found_by"] for row in sample["defects"]} <= {"quick", "exhaustive", "none", "invalid", "unfinished"}
    assert all(row["file"] and row["operator"] and len(row["start"]) == 2 for row in sample["defects"])
    assert all(row["test"] for row in sample["defects"] if row["found_by"] in {"quick", "exhaustive"})
