"""The code on the pages of the site runs and prints the output below it, and every public name has an example."""

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
PUBLIC_MODULES = {
    *("", ".datasets", ".layers", ".plot", ".reference", ".pde", ".sklearn"),
    *(".tabular", ".forecast", ".images", ".dask", ".river"),
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.exhaustive) if TOOL["needs_packages"](page) else page
        for page in TOOL["pages_with_code"]()
    ],
    ids=lambda page: f"{page.parent.name}/{page.stem}",
)
def test_code_of_page_runs_and_prints_the_output(page, tmp_path, monkeypatch):
    """The build of the site runs the pages that need packages, so `.ci/run` omits them here."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    has_skipped_blocks = None in run(page, tmp_path)
    for picture in re.findall(r"!\[[^]]*\]\(([\w.-]+)\)", page.read_text(encoding="utf-8")):
        assert has_skipped_blocks or (tmp_path / picture).stat().st_size > 0


def test_site_runs_pages_that_need_packages_or_whose_results_it_shows(tmp_path):
    page = tmp_path / "page.md"
    code = "```python\nprint(1)\n```\n\n```text\n1\n```\n"
    for text, expected in [
        (code, False),
        (f"<!-- needs sklearn -->\n\n{code}", True),
        (f"{code}![A picture](a.svg)\n", True),
        (code.replace("\n1\n", "\n1 ...\n"), True),
        (code.replace("print(1)", "print(...)"), False),
        ("```console\n$ nnc config\nnnc ...\n```\n", True),
    ]:
        page.write_text(text, encoding="utf-8")
        assert TOOL["changes_site"](page) == expected, text


def test_different_output_raises(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n\n```text\n2\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="line 2: this prints\n1"):
        run(page, tmp_path)
    page.write_text("<!-- needs no_such_package -->\n\n```python\nprint(1)\n```\n", encoding="utf-8")
    assert run(page, tmp_path) == [None]


@pytest.mark.skipif(os.name == "nt", reason="pages contain commands of a POSIX shell")
def test_shell_commands_of_page_run(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo 1 > a.txt\n$ cat a.txt\n1\n```\n", encoding="utf-8")
    assert run(page, tmp_path) == ["$ echo 1 > a.txt\n$ cat a.txt\n1\n"]
    page.write_text("```console\n$ cat a.txt\n2\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="line 2: this prints\n1"):
        run(page, tmp_path)


def test_site_shows_actual_output(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n\n```text\n...\n```\n" * 2, encoding="utf-8")
    text = page.read_text(encoding="utf-8").replace("...", "1...", 1)
    assert TOOL["fill_outputs"](text, ["1 s\n", "2 s\n"]) == text.replace("1...", "1 s")
    shell = "```console\n$ nnc config\nnnc ...\n```\n"
    assert TOOL["fill_outputs"](shell, ["$ nnc config\nnnc 0.1.0\n"]) == shell.replace("...", "0.1.0")


@pytest.mark.parametrize("page", TWINS["translations"](), ids=lambda page: page.name)
def test_translation_belongs_to_current_page(page):
    assert TWINS["faults"](page) == []
    original = TWINS["MARK"].match(page.read_text(encoding="utf-8"))[1]
    text = (DOCS.parent / original).read_text(encoding="utf-8")
    assert page.name in text  # the original page links to its translation, and the translation to it
    assert Path(original).name in page.read_text(encoding="utf-8").split("\n", 1)[1]


def test_outdated_translation_is_reported(tmp_path):
    page = TWINS["translations"]()[0]
    text = page.read_text(encoding="utf-8")
    page = tmp_path / page.name
    page.write_text(re.sub("as of \\w+", "as of 0123456789ab", text), encoding="utf-8")
    assert "has changed since" in TWINS["faults"](page)[0]
    page.write_text(text.replace("epochs=1500", "epochs=150", 1), encoding="utf-8")
    assert "has other code" in TWINS["faults"](page)[-1]


def source_of(module):
    """Return the source of a public module, without importing it."""
    path = Path(nnc.__file__).parent / module
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


def public_names():
    """Yield all names that the reference must contain."""
    modules = {"datasets", "layers", "plot", "reference", "__version__"}
    yield from set(nnc.__all__) - modules
    for name in ("datasets", "layers"):
        yield from (f"{name}.{member}" for member in getattr(nnc, name).__all__)
    # Packages that these modules import may be missing.
    for name in ("plot", "sklearn", "dask", "tabular", "forecast", "images", "river"):
        members = source_of(name).split("\n__all__ = [")[1].split("]")[0]
        yield from (f"{name}.{member}" for member in re.findall(r'"(\w+)"', members))


def sections(page):
    """Return the sections of a page of the reference, one for each entry."""
    return re.split(r"^#+ ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_every_public_name_is_in_reference_with_example():
    documented = set()
    for page in API:
        for section in sections(page):
            names = OBJECTS.findall(section)
            assert not names or "```python" in section, f"{page.name} has no example of {names}"
            documented.update(names)
    assert not sorted(set(public_names()) - documented)


def test_entries_of_reference_begin_with_their_signature():
    for page in API:
        for section in sections(page):
            heading, _, body = section.partition("\n")
            if OBJECTS.search(section):
                assert body.lstrip().startswith("```{eval-rst}"), f"{page.name}: {heading} begins without a signature"


CLASSES = re.compile(r"^\.\. autoclass:: (nnc\.[\w.]+)\n((?:   :.*\n)*)", re.MULTILINE)
NEEDS = {"nnc.sklearn": "sklearn", "nnc.tabular": "sklearn", "nnc.dask": "distributed", "nnc.river": "river"}
# Methods that scikit-learn adds to all estimators.
SCIKIT_LEARN_METHODS = re.compile("set_\\w+_request|get_metadata_routing|get_params|set_params")


def documented_classes():
    """Yield the classes of the reference: the page, the name and the options of autodoc."""
    for page in API:
        for name, options in CLASSES.findall(page.read_text(encoding="utf-8")):
            yield pytest.param(page, name, dict(re.findall(r":([\w-]+): *(.*)", options)), id=name)


def documented_members(documented, options):
    """Return the members of a class that a page documents, by the rules of autodoc."""
    if "members" not in options:
        return set()
    excluded = set(re.findall(r"\w+", options.get("exclude-members", "")))
    explicit = re.findall(r"\w+", options["members"])
    names = explicit or (dir(documented) if "inherited-members" in options else vars(documented))
    return {name for name in names if explicit or (name[0] != "_" and getattr(documented, name).__doc__)} - excluded


@pytest.mark.parametrize(("page", "name", "options"), [*documented_classes()])
def test_every_method_in_reference_has_an_example(page, name, options):
    """Test also that the reference contains every method of an estimator, including inherited ones."""
    module, _, class_name = name.rpartition(".")
    pytest.importorskip(NEEDS.get(module, "nnc"))
    documented = getattr(importlib.import_module(module), class_name)
    members = documented_members(documented, options)
    code = "\n".join(block[2] for block in blocks(page))
    assert not sorted(member for member in members if not re.search(rf"\.{member}\b", code))
    if hasattr(documented, "get_params"):
        methods = {method for method in dir(documented) if method[0] != "_" and callable(getattr(documented, method))}
        assert not sorted(method for method in methods - members if not SCIKIT_LEARN_METHODS.fullmatch(method))


def test_pages_and_examples_import_only_public_modules():
    examples = DOCS.parent.glob("examples/*.py")
    guides = [*DOCS.glob("*.md"), *DOCS.glob("guide/*.md"), *DOCS.glob("notebooks/*.md")]
    for page in [DOCS.parent / "README.md", *guides, *API, *examples]:
        for module in re.findall(r"^ *(?:from|import) nnc([\w.]*)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert module in PUBLIC_MODULES, f"{page.name} imports from nnc{module}"
    words = " ".join((DOCS / "guide/what-there-is.md").read_text(encoding="utf-8").split())
    section = words.split("## Public modules")[1].split("All other modules")[0]
    assert {"", *re.findall(r"`nnc(\.\w+)`", section)} == PUBLIC_MODULES
    for module in PUBLIC_MODULES:
        assert "\n__all__ = " in source_of(module[1:])


def test_site_search_splits_chinese_text(monkeypatch):
    for package in ("sphinx", "furo", "babel", "jupytext", "nbclient"):
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(DOCS)  # restores sys.path, which docs/conf.py extends
    search = runpy.run_path(str(DOCS / "conf.py"))["BilingualSearch"]
    assert search.language_name == "English"  # the search in the browser selects the stemmer by this name
    query = "用Adam优化器, learning_rate 学习率 3"
    words = ["用", "Adam", "优化", "化器", "learning_rate", "学习", "习率", "3"]
    assert list(search({}).split(query)) == words
    node = shutil.which("node")
    if node is not None:  # the JavaScript code for the browser must split the query in the same way
        program = f"{search.js_splitter_code}; console.log(JSON.stringify(splitQuery({json.dumps(query)})))"
        assert json.loads(subprocess.run([node, "-e", program], capture_output=True, check=True).stdout) == words


def test_included_parts_of_source_files_exist():
    count = 0
    for page in DOCS.glob("guide/*.md"):
        text = page.read_text(encoding="utf-8")
        for file, options in re.findall(r"^```\{literalinclude\} (\S+)\n((?::.*\n)*)", text, re.MULTILINE):
            source = (page.parent / file).read_text(encoding="utf-8")
            for mark in re.findall(r'^:(?:start-at|end-before): "?(.*?)"?$', options, re.MULTILINE):
                assert mark in source, f"{page.name} includes {file} from or to {mark!r}"
                count += 1
    assert count > 10


def test_every_page_is_in_a_toctree():
    listed = set()
    for page in DOCS.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            names = re.findall(r"^(?!:)(?:.*<)?([\w/.-]+)>?$", block, re.MULTILINE)
            listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    assert not {page.resolve() for page in DOCS.rglob("*.md")} - listed - {DOCS / "index.md"}
