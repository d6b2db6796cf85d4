"""Tests that the translation catalogs of the Chinese pages are complete.

The catalog of a page has a translation, not marked as fuzzy, for each message of the page. Inline code and links are
the same in both languages. Comments and labels in blocks of Python are messages; other code is not translated.
"""

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
    """Return a folder with the extracted messages of all translated pages."""
    folder = tmp_path_factory.mktemp("messages")
    CATALOGS["extract"](PAGES, folder)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_catalog_of_page_is_complete(page, templates):
    assert list(CATALOGS["faults"](templates / f"{page}.pot", FOLDER / f"{page}.po")) == []


def test_first_page_guides_and_notebooks_are_translated(templates):
    docs = CATALOGS["DOCS"]
    pages = [page.relative_to(docs).with_suffix("").as_posix() for page in docs.glob("[gn]*/*.md")]
    assert {"index", *pages} <= set(PAGES)
    assert "```" not in "".join((FOLDER / f"{page}.po").read_text(encoding="utf-8") for page in PAGES)
    for page in PAGES:  # the extraction of messages must not return empty templates
        assert (templates / f"{page}.pot").read_text(encoding="utf-8").count("\nmsgid") > 4


CODE = """Call `fit`:

```python
# train the network
net.fit(X, y)  # in place
ax.plot(x, y, label="data", color="#ff0000")
ax.set_title("the loss")
```
"""


def test_comments_and_labels_of_code_are_messages():
    assert CATALOGS["code_texts"](CODE) == ["train the network", "in place", "data", "the loss"]


def test_translation_changes_only_comments_and_labels_of_code():
    translations = {"train the network": "训练网络", "data": "数据", "Call `fit`:": "调用 `fit`"}
    expected = CODE.replace("train the network", "训练网络").replace('"data"', '"数据"')
    assert CATALOGS["translate_blocks"](CODE, translations) == expected


def test_extracted_messages_include_comments(templates):
    assert CATALOGS["code_texts"]((CATALOGS["DOCS"] / "guide/tables.md").read_text(encoding="utf-8"))
    for page in PAGES:
        messages = {message.id for message in CATALOGS["read"](templates / f"{page}.pot")}
        assert messages >= set(CATALOGS["code_texts"]((CATALOGS["DOCS"] / f"{page}.md").read_text(encoding="utf-8")))


def test_catalogs_have_no_creation_date(tmp_path):
    for file in FOLDER.rglob("*.po"):
        assert "POT-Creation-Date" not in file.read_text(encoding="utf-8")
    catalog = tmp_path / "page.po"
    catalog.write_text(
        'msgid ""\nmsgstr ""\n"POT-Creation-Date: 2026-12-01\\n"\n"Language: zh_CN\\n"\n', encoding="utf-8"
    )
    CATALOGS["drop_dates"]([catalog])
    assert catalog.read_text(encoding="utf-8") == 'msgid ""\nmsgstr ""\n"Language: zh_CN\\n"\n'


HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'


@pytest.mark.parametrize(
    ("catalog", "fault"),
    [
        ('msgid "Call `fit`."\nmsgstr "调用 `fit`。"', None),
        ('msgid "Call `fit`."\nmsgstr ""', "has no translation"),
        ('#, fuzzy\nmsgid "Call `fit`."\nmsgstr "调用 `fit`。"', "is marked as fuzzy"),
        ('msgid "Call `fit_many`."\nmsgstr "调用 `fit_many`。"', "is new or has changed"),
        ('msgid "Call `fit`."\nmsgstr "调用 `predict`。"', "other code or other links"),
        ('msgid "Call `fit`."\nmsgstr "调用 `fit`。[见](a.md)"', "other code or other links"),
    ],
)
def test_fault_in_catalog_is_reported(catalog, fault, tmp_path):
    template, translation = tmp_path / "page.pot", tmp_path / "page.po"
    template.write_text(HEADER + 'msgid "Call `fit`."\nmsgstr ""\n', encoding="utf-8")
    translation.write_text(f"{HEADER}{catalog}\n", encoding="utf-8")
    faults = list(CATALOGS["faults"](template, translation))
    assert (faults == []) if fault is None else (len(faults) == 1 and fault in faults[0])
