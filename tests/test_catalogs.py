"""The Chinese pages say what the English ones say now: no message of a page is missing in its catalog, marked as fuzzy
or without translation, and code and links are the same. Blocks of code are in no catalog: both sites have one text."""

import runpy
from pathlib import Path

import pytest

for package in ("babel", "sphinx", "myst_parser", "furo", "numpydoc", "sphinx_copybutton"):
    pytest.importorskip(package)
TOOL = Path(__file__).parent.parent / "tools" / "catalogs.py"
if not TOOL.exists():
    pytest.skip("needs the checkout", allow_module_level=True)
CATALOGS = runpy.run_path(str(TOOL))
FOLDER = CATALOGS["DOCS"] / CATALOGS["CATALOGS"]
PAGES = CATALOGS["translated"]()


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("messages")
    CATALOGS["extract"](PAGES, folder)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_a_translation_fits_its_page(page, templates):
    assert list(CATALOGS["faults"](templates / f"{page}.pot", FOLDER / f"{page}.po")) == []


def test_the_first_pages_are_translated(templates):
    first = ["first-network", "from-scratch", "images", "tables", "choosing", "errors"]
    assert {"index", *(f"guide/{page}" for page in first)} <= set(PAGES)
    assert "```" not in "".join((FOLDER / f"{page}.po").read_text(encoding="utf-8") for page in PAGES)
    for page in PAGES:  # so the test above has something to look at
        assert (templates / f"{page}.pot").read_text(encoding="utf-8").count("\nmsgid") > 10


HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'


@pytest.mark.parametrize(
    ("catalog", "said"),
    [
        ('msgid "Call `fit`."\nmsgstr "调用 `fit`。"', None),
        ('msgid "Call `fit`."\nmsgstr ""', "has no translation"),
        ('#, fuzzy\nmsgid "Call `fit`."\nmsgstr "调用 `fit`。"', "is marked as fuzzy"),
        ('msgid "Call `fit_many`."\nmsgstr "调用 `fit_many`。"', "is new or has changed"),
        ('msgid "Call `fit`."\nmsgstr "调用 `predict`。"', "other code or other links"),
        ('msgid "Call `fit`."\nmsgstr "调用 `fit`。[见](a.md)"', "other code or other links"),
    ],
)
def test_what_is_wrong_with_a_catalog_is_found(catalog, said, tmp_path):
    template, translation = tmp_path / "page.pot", tmp_path / "page.po"
    template.write_text(HEADER + 'msgid "Call `fit`."\nmsgstr ""\n', encoding="utf-8")
    translation.write_text(f"{HEADER}{catalog}\n", encoding="utf-8")
    found = list(CATALOGS["faults"](template, translation))
    assert (found == []) if said is None else (len(found) == 1 and said in found[0])
