"""Tests of the pages: they name only existing files and objects, and sentences, lines and some pages are short."""

import builtins
import re
from functools import cache
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
DOCS = HOME / "docs"
PAGE = DOCS / "architecture.md"
MAX_LINES = 300
MAX_SENTENCE_WORDS = 40
MAX_CODE_COLUMNS = 88  # the site shows lines up to this length without scrolling
PAGES = [
    *(HOME / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    HOME / "benchmarks/README.md",
    HOME / "nnc/datasets/README.md",
    *sorted(DOCS.rglob("*.md")),
]
FENCE = re.compile(r"^```.*?^```\n", re.DOTALL | re.MULTILINE)
SUFFIXES = ("py", "pyx", "pxd", "pxi", "h", "md", "json")
SOURCE_NAME = re.compile(rf"[\w./-]+\.(?:{'|'.join(SUFFIXES)})\b|(?:nnc|src|tests|tools|docs|benchmarks)/[\w./-]*")
COMMENT = re.compile(r'"""(?:.|\n)*?"""|#.*')  # or docstring
C_COMMENT = re.compile(r"/\*(?:.|\n)*?\*/")
# Words that pages contain: parts of the flag -ffast-math, the package, a keyword, and a suffix of files.
OTHER_NAMES = {"ffast", "math", "nnc", "import", "pxd"}
# Names in the recipes of CONTRIBUTING.md that belong to other packages or are placeholders.
CODE = {".py", ".pyx", ".pxd", ".pxi"}
RECIPE_NAMES = {"f_NAME", "d_NAME", "torch", "nn", "functional", "Math", "h"}

pytestmark = pytest.mark.skipif(not (HOME / "src").is_dir(), reason="needs the checkout")


def code_names():
    """Return the names of all modules, and all words of nnc/ and src/ outside docstrings and comments.

    Words of strings count, because pages also name activations and environment variables.
    """
    names = set()
    for path in [*(HOME / "nnc").rglob("*.py"), *filter(Path.is_file, (HOME / "src").rglob("*"))]:
        comment = C_COMMENT if path.suffix == ".h" else COMMENT
        names |= {path.stem, *re.findall(r"[A-Za-z_]\w*", comment.sub("", path.read_text(encoding="utf-8")))}
    return names


def house_names():
    """Return all constants of tests/test_house.py."""
    return set(re.findall(r"^([A-Z_]+) =", (HOME / "tests/test_house.py").read_text(encoding="utf-8"), re.MULTILINE))


@cache
def allowed_names():
    """Return all names that a code span may contain."""
    return code_names() | house_names() | set(dir(builtins)) | OTHER_NAMES


def is_file_name(name):
    """Return whether a file exists: in the checkout, or, for a bare file name, anywhere in nnc/, src/ or tests/."""
    folders = () if "/" in name else ("nnc", "src", "tests")
    return (HOME / name).exists() or any(any((HOME / folder).rglob(name)) for folder in folders)


def missing(text, extra_names=frozenset()):
    """Return the files and names in code spans and code blocks of a page that do not exist."""
    faults = []
    fences = FENCE.findall(text)
    spans = re.findall(r"`([^`]+)`", FENCE.sub("", text))
    for part in [*spans, *fences]:
        for name in SOURCE_NAME.findall(part):
            if not is_file_name(name):
                faults.append(name)
    for span in spans:
        names = re.findall(r"[A-Za-z_]\w*", SOURCE_NAME.sub("", span))
        faults += [name for name in names if name not in allowed_names() and name not in extra_names]
    return faults


def sentences(text):
    """Return the sentences of a page; a cell of a table or an item of a list ends a sentence."""
    lines = []
    for line in FENCE.sub("\n", text).splitlines():
        if line.lstrip().startswith("|"):
            lines += [part for cell in line.strip(" |").split("|") for part in ("", cell.strip())]
        elif re.match(r"#|\s*(?:[-*]|\d+\.) ", line):
            lines += ["", line.strip()]
        else:
            lines.append(line.strip())
    paragraphs = re.split(r"\n{2,}", "\n".join(lines))
    return [part for paragraph in paragraphs for part in re.split(r"(?<=[.!?])(?:\*\*)?\s+", paragraph)]


def test_architecture_names_only_what_exists():
    text = PAGE.read_text(encoding="utf-8")
    assert len(re.findall(r"`[^`]+`", FENCE.sub("", text))) > 100
    assert not missing(text)


def cimported(path):
    """Return the folders of src/ from which the files of a folder import."""
    files = [file for file in path.rglob("*") if file.suffix in CODE]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    names = re.findall(r"^(?:from|cimport) +(\w+)", text, re.MULTILINE)
    return {str(file.parent.relative_to(HOME)) for name in names for file in (HOME / "src").rglob(f"{name}.pxd")}


def test_folders_of_src_import_only_from_folders_below():
    diagram = FENCE.findall(PAGE.read_text(encoding="utf-8"))[0]
    rank = {name: i for i, name in enumerate(re.findall(r"^src/\w+", diagram, re.MULTILINE))}
    assert {*rank} == {str(path.relative_to(HOME)) for path in (HOME / "src").iterdir() if path.is_dir()}
    upward = [
        f"{name} imports {other}"
        for name, i in rank.items()
        for other in cimported(HOME / name)
        if other != name and rank[other] <= i
    ]
    assert not upward


def test_glossary_names_only_what_exists():
    assert not missing((DOCS / "glossary.md").read_text(encoding="utf-8"))


def test_page_of_errors_lists_every_warning():
    table = (DOCS / "guide/errors.md").read_text(encoding="utf-8").split("## All warnings")[1]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    classes = {
        name
        for path in (HOME / "nnc").rglob("*.py")
        for name in re.findall(r"^class (\w+Warning)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert sorted([*listed, "TrainingWarning"]) == sorted(classes)  # the text above the table names the base class


def expand_braces(text):
    """Return the words that a shell makes of a word with at most one list in braces."""
    match = re.fullmatch(r"([^{]*)\{(.*)\}(.*)", text)
    return [f"{match[1]}{part}{match[3]}" for part in match[2].split(",")] if match else [text]


def test_commands_for_changes_name_only_existing_files():
    rows = (HOME / "CONTRIBUTING.md").read_text(encoding="utf-8").split("| Change in | Command |")[1].split("\n\n")[0]
    words = [word for span in re.findall(r"`([^`]+)`", rows) for word in span.split()]
    paths = [path for word in words if "/" in word or "." in word for path in expand_braces(word)]
    assert len(paths) > 70
    assert [path for path in paths if path != "." and not [*HOME.glob(path)]] == []


def test_recipes_for_contributors_name_only_what_exists():
    text = (HOME / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipes = text.split("## How to add an activation")[1].split("## Rules for changes")[0]
    tests = (path.read_text(encoding="utf-8") for path in (HOME / "tests").glob("*.py"))
    names_in_tests = {name for text in tests for name in re.findall(r"[A-Za-z_]\w*", text)}
    assert not missing(recipes.replace("`python tools/", "`tools/"), names_in_tests | RECIPE_NAMES)


def test_missing_files_and_names_are_reported():
    text = (
        "`nnc/_training/nothing.py` and `TrainingLoop.no_such_method` of `run.pxd`\n\n```text\nnnc/_nothing  x\n```\n"
    )
    assert missing(text) == ["nnc/_training/nothing.py", "nnc/_nothing", "no_such_method"]


def test_architecture_fits_on_a_few_pages():
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_sentences_are_short():
    found = [(page, part) for page in PAGES for part in sentences(page.read_text(encoding="utf-8"))]
    assert len(found) > 10 * len(PAGES)
    assert [f"{page}: {part}" for page, part in found if len(part.split()) > MAX_SENTENCE_WORDS] == []


def test_lines_of_code_fit_the_page():
    code = re.compile(r"^```(?:python|sh|c)\n(.*?)^```", re.DOTALL | re.MULTILINE)
    blocks = [(page, block) for page in PAGES for block in code.findall(page.read_text(encoding="utf-8"))]
    assert len(blocks) > len(PAGES)
    lines = ((page, line) for page, block in blocks for line in block.splitlines())
    assert [f"{page}: {line}" for page, line in lines if len(line) > MAX_CODE_COLUMNS] == []


def test_every_page_of_the_lab_is_listed():
    index = (DOCS / "lab/README.md").read_text(encoding="utf-8")
    pages = {page.name for page in DOCS.glob("lab/*.md")} - {"README.md"}
    assert set(re.findall(r"^\| \[[^]]+\]\(([\w.-]+)\)", index, re.MULTILINE)) == pages
