"""Tests of the tool that checks names, docstrings and sentences; `.ci/run` runs the tool for all files."""

import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / "tools"
if not TOOLS.is_dir():
    pytest.skip("needs the checkout", allow_module_level=True)


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(TOOLS))
    try:
        yield runpy.run_path(str(TOOLS / "check_language.py"))
    finally:
        sys.path.remove(str(TOOLS))


def test_forbidden_names_openings_and_long_sentences_are_found(tool, tmp_path):
    python, page = tmp_path / "module.py", tmp_path / "page.md"
    python.write_text('"""What a module does."""\n\nSHORT = 1\n\n\ndef place(known):\n    """Return x."""\n')
    page.write_text(f"{'word ' * 41}end.\n\nA short sentence.\n\n| a table row is no sentence {'word ' * 50}|\n")
    readers = sys.modules["texts"]
    lines = tool["findings"]([*readers.python_texts(python), *readers.page_texts(page)])
    found = sorted(line.removeprefix(f"{tmp_path}/").split(":")[2].split("'")[0].strip() for line in lines)
    assert found == ["docstring begins with", "name", "name", "name", "sentence of 42 words"]


def test_c_code_in_a_cython_file_is_no_docstring(tool, tmp_path):
    path = tmp_path / "module.pyx"
    path.write_text(
        'cdef extern from *:\n    """\n    /* C comment */\n    static int zero(void) { return 0; }\n    """\n'
        '    int zero()\n\n\ndef f():\n    """Return 0."""\n    return zero()\n'
    )
    found = [text for text in sys.modules["texts"].compiled_texts(path) if text.kind != "name"]
    assert [(text.kind, text.line, text.text) for text in found] == [("docstring", 10, "Return 0.")]


def test_message_in_a_cython_file_ends_with_its_string(tool, tmp_path):
    path = tmp_path / "module.pyx"
    path.write_text(
        'def f(x):\n    if x:\n        raise ValueError("x must be 0, "\n                         f"got {x}")\n'
        "    for i in x:\n        pass\n"
    )
    found = [text for text in sys.modules["texts"].compiled_texts(path) if text.kind == "message"]
    assert [(text.line, text.text) for text in found] == [(3, '"x must be 0, " f"got {x}")')]


def test_comments_after_code_are_separate_texts(tool, tmp_path):
    path = tmp_path / "module.py"
    path.write_text("A = 1  # first limit\nB = 2  # second limit\n# One comment\n# of two lines.\n")
    found = [text.text for text in sys.modules["texts"].python_texts(path) if text.kind == "comment"]
    assert found == ["first limit", "second limit", "One comment of two lines."]


def test_sentence_of_page_may_begin_with_lower_case_or_link(tool, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Use 1, 2, ... threads. nnc has no GPU support. [A page](a.md) lists all: one and two.\n")
    found = [text.text for text in sys.modules["texts"].page_texts(page)]
    assert found == ["Use 1, 2, ... threads.", "nnc has no GPU support.", "[A page] lists all: one and two."]
