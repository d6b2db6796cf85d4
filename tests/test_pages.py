"""The site says what nnc does: the code on its pages runs and prints what stands below it, every public name has an
example."""

import importlib
import json
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

import nnc

DOCS = Path(__file__).parent.parent / "docs"
PAGES = DOCS.parent / "tools" / "pages.py"
if not PAGES.exists():
    pytest.skip("needs the checkout", allow_module_level=True)
TOOL = runpy.run_path(str(PAGES))
run, blocks = TOOL["run"], TOOL["blocks"]
TWINS = runpy.run_path(str(PAGES.parent / "twins.py"))

API = sorted(DOCS.glob("api/*.md"))
OBJECTS = re.compile(r"^\.\. auto\w+:: nnc\.([\w.]+)", re.MULTILINE)


@pytest.mark.parametrize("page", TOOL["of_site"](), ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_what_a_page_says(page, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    left = None in run(page, tmp_path)
    for picture in re.findall(r"!\[[^]]*\]\(([\w.-]+)\)", page.read_text(encoding="utf-8")):
        assert left or (tmp_path / picture).stat().st_size > 0


def test_another_output_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n\n```text\n2\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="line 2: this prints\n1"):
        run(page, tmp_path)
    page.write_text("<!-- needs no_such_package -->\n\n```python\nprint(1)\n```\n", encoding="utf-8")
    assert run(page, tmp_path) == [None]


@pytest.mark.skipif(os.name == "nt", reason="pages have commands of another shell")
def test_commands_of_a_shell(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo 1 > a.txt\n$ cat a.txt\n1\n```\n", encoding="utf-8")
    assert run(page, tmp_path) == ["$ echo 1 > a.txt\n$ cat a.txt\n1\n"]
    page.write_text("```console\n$ cat a.txt\n2\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="line 2: this prints\n1"):
        run(page, tmp_path)


def test_the_site_shows_what_was_printed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n\n```text\n...\n```\n" * 2, encoding="utf-8")
    text = page.read_text(encoding="utf-8").replace("...", "1...", 1)
    assert TOOL["filled"](text, ["1 s\n", "2 s\n"]) == text.replace("1...", "1 s")
    shell = "```console\n$ nnc config\nnnc ...\n```\n"
    assert TOOL["filled"](shell, ["$ nnc config\nnnc 0.1.0\n"]) == shell.replace("...", "0.1.0")


@pytest.mark.parametrize("page", TWINS["translations"](), ids=lambda page: page.name)
def test_translations_fit_their_twins(page):
    assert TWINS["faults"](page) == []
    twin = TWINS["MARK"].match(page.read_text(encoding="utf-8"))[1]
    there = (DOCS.parent / twin).read_text(encoding="utf-8")
    assert page.name in there  # a link from each to the other
    assert Path(twin).name in page.read_text(encoding="utf-8").split("\n", 1)[1]


def test_a_translation_that_is_behind_is_found(tmp_path):
    page = TWINS["translations"]()[0]
    text = page.read_text(encoding="utf-8")
    page = tmp_path / page.name
    page.write_text(re.sub("as of \\w+", "as of 0123456789ab", text), encoding="utf-8")
    assert "has changed since" in TWINS["faults"](page)[0]
    page.write_text(text.replace("epochs=1500", "epochs=150", 1), encoding="utf-8")
    assert "has other code" in TWINS["faults"](page)[0]


def text_of(room):
    """The file that says what a public module offers."""
    path = Path(nnc.__file__).parent / room
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


def public():
    """All that has to be in the reference."""
    modules = {"datasets", "layers", "plot", "reference", "__version__"}
    yield from set(nnc.__all__) - modules
    for name in ("datasets", "layers"):
        yield from (f"{name}.{inside}" for inside in getattr(nnc, name).__all__)
    for name in ("plot", "sklearn", "dask", "tabular", "river"):  # which need not be installed
        listed = text_of(name).split("\n__all__ = [")[1].split("]")[0]
        yield from (f"{name}.{inside}" for inside in re.findall(r'"(\w+)"', listed))


def test_every_public_name_is_in_the_reference_with_an_example():
    described = set()
    for page in API:
        for section in re.split(r"^#+ ", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            names = OBJECTS.findall(section)
            assert not names or "```python" in section, f"{page.name} has no example of {names}"
            described.update(names)
    assert not sorted(set(public()) - described)


CLASSES = re.compile(r"^\.\. autoclass:: (nnc\.[\w.]+)\n((?:   :.*\n)*)", re.MULTILINE)
NEEDS = {"nnc.sklearn": "sklearn", "nnc.tabular": "sklearn", "nnc.dask": "distributed", "nnc.river": "river"}
# What scikit-learn gives its estimators for its own ends.
OF_SCIKIT_LEARN = re.compile("set_\\w+_request|get_metadata_routing|get_params|set_params")


def described():
    """Classes of the reference, with the page and the options that say which of their members are described."""
    for page in API:
        for name, options in CLASSES.findall(page.read_text(encoding="utf-8")):
            yield pytest.param(page, name, dict(re.findall(r":([\w-]+): *(.*)", options)), id=name)


def members_of(described, options):
    """The members of a class that a page describes, as autodoc chooses them."""
    if "members" not in options:
        return set()
    left_out = set(re.findall(r"\w+", options.get("exclude-members", "")))
    given = re.findall(r"\w+", options["members"])
    there = given or (dir(described) if "inherited-members" in options else vars(described))
    return {name for name in there if given or (name[0] != "_" and getattr(described, name).__doc__)} - left_out


@pytest.mark.parametrize(("page", "name", "options"), [*described()])
def test_every_method_in_the_reference_has_an_example(page, name, options):
    """And every method of an estimator is in the reference, also those that it has from scikit-learn."""
    room, _, last = name.rpartition(".")
    pytest.importorskip(NEEDS.get(room, "nnc"))
    described = getattr(importlib.import_module(room), last)
    members = members_of(described, options)
    code = "\n".join(block[2] for block in blocks(page))
    assert not sorted(member for member in members if not re.search(rf"\.{member}\b", code))
    if hasattr(described, "get_params"):
        methods = {method for method in dir(described) if method[0] != "_" and callable(getattr(described, method))}
        assert not sorted(method for method in methods - members if not OF_SCIKIT_LEARN.fullmatch(method))


ROOMS = {"", ".datasets", ".layers", ".plot", ".reference", ".sklearn", ".tabular", ".dask", ".river"}


def test_users_are_shown_what_is_public_alone():
    """The pages and the examples import from no other module; what a room offers stands in its `__all__`."""
    examples = DOCS.parent.glob("examples/*.py")
    guides = [*DOCS.glob("*.md"), *DOCS.glob("guide/*.md"), *DOCS.glob("notebooks/*.md")]
    for page in [DOCS.parent / "README.md", *guides, *API, *examples]:
        for module in re.findall(r"^ *(?:from|import) nnc([\w.]*)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert module in ROOMS, f"{page.name} imports from nnc{module}"
    said = (DOCS / "guide/what-there-is.md").read_text(encoding="utf-8").split("## Public modules")[1]
    assert {"", *re.findall(r"`nnc(\.\w+)`", said.split("All other modules")[0])} == ROOMS
    for room in ROOMS:
        assert "\n__all__ = " in text_of(room[1:])


def test_the_site_can_be_searched_in_chinese(monkeypatch):
    for package in ("sphinx", "furo", "babel", "jupytext", "nbclient"):
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(DOCS)  # takes back at the end what docs/conf.py adds
    search = runpy.run_path(str(DOCS / "conf.py"))["SearchBoth"]
    assert search.language_name == "English"  # by which browsers find the stemmer
    asked = "用Adam优化器, learning_rate 学习率 3"
    words = ["用", "Adam", "优化", "化器", "learning_rate", "学习", "习率", "3"]
    assert list(search({}).split(asked)) == words
    node = shutil.which("node")
    if node is not None:  # what browsers do
        program = f"{search.js_splitter_code}; console.log(JSON.stringify(splitQuery({json.dumps(asked)})))"
        assert json.loads(subprocess.run([node, "-e", program], capture_output=True, check=True).stdout) == words


def test_what_pages_show_of_other_files_is_there():
    shown = 0
    for page in DOCS.glob("guide/*.md"):
        text = page.read_text(encoding="utf-8")
        for file, options in re.findall(r"^```\{literalinclude\} (\S+)\n((?::.*\n)*)", text, re.MULTILINE):
            source = (page.parent / file).read_text(encoding="utf-8")
            for mark in re.findall(r'^:(?:start-at|end-before): "?(.*?)"?$', options, re.MULTILINE):
                assert mark in source, f"{page.name} shows {file} from or to {mark!r}"
                shown += 1
    assert shown > 10


def test_every_page_is_in_the_contents():
    listed = set()
    for page in DOCS.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            names = re.findall(r"^(?!:)(?:.*<)?([\w/.-]+)>?$", block, re.MULTILINE)
            listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    assert not {page.resolve() for page in DOCS.rglob("*.md")} - listed - {DOCS / "index.md"}
