"""Tests of tools/planted_defects.py, which measures how many defects the tests find."""

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


def test_line_runs_tests_that_execute_it_or_all_if_it_runs_at_import():
    copy = planted_defects.ROOT
    [run] = planted_defects.select_tests(copy, ["tests.test_norm.test_a", "tests.test_files.test_b"])
    assert run == ["-k", "test_a or test_b", "tests/test_files.py", "tests/test_norm.py"]
    first, others = planted_defects.select_tests(copy, ["", "tests.test_norm.test_a"])
    assert first == ["tests/test_norm.py"]
    assert "tests/test_files.py" in others
    assert "tests/test_norm.py" not in others
    engine, _ = planted_defects.select_tests(copy, [])
    assert "tests/test_gradients.py" in engine
