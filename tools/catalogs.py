"""Catalogs of sphinx-intl for the Chinese site, in docs/locale: a message for each paragraph of an English page.

    python tools/catalogs.py            # update the catalogs after a change of English pages
    python tools/catalogs.py guide/many # update them, and begin a catalog for this page

Translate each new message, and read each message marked `fuzzy` again: it has changed, and has its former translation.
Then delete the mark. Poedit or any text editor will do. Comments in blocks of Python and labels of pictures are
messages too; all other code is the same in both languages. A page without a catalog stays English on both sites. The
tool prints what is still to do, and tests/test_catalogs.py fails until it is done.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from babel.messages.pofile import read_po, write_po

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from babel.messages import Catalog

DOCS = Path(__file__).parent.parent / "docs"
CATALOGS = Path("locale", "zh_CN", "LC_MESSAGES")  # within docs/
SITE_CATALOG = "sphinx"  # texts of the site outside of its pages
UNCHANGED = (r"`[^`]*`", r"\]\([^)]*\)")  # inline code and targets of links are the same in both languages
PYTHON_BLOCK = re.compile(r"^```python\n.*?^```$", re.DOTALL | re.MULTILINE)
# The text of a comment, or of a label or title in a picture.
CODE_TEXT = re.compile(
    r"""(?:(?:(?<=\s)|^)#[ ]|\b\w*(?:label|title)(?:=|\()")(?P<text>(?<=#[ ]).+$|(?<=")[^"\n]+)""", re.MULTILINE
)


def translated(docs: Path = DOCS) -> list[str]:
    """Return the pages that have a catalog, as Sphinx names them."""
    folder = docs / CATALOGS
    names = (file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.po"))
    return sorted(name for name in names if name != SITE_CATALOG)


def code_texts(page: str) -> list[str]:
    """Return the comments, and the labels of pictures, in the blocks of Python of a page's text."""
    blocks = (match[0] for match in PYTHON_BLOCK.finditer(page))
    return list(dict.fromkeys(match["text"] for block in blocks for match in CODE_TEXT.finditer(block)))


def translate_code(code: str, translations: dict[str, str]) -> str:
    """Return code with translated comments and labels."""

    def translate(match: re.Match[str]) -> str:
        text = match["text"]
        return match[0].removesuffix(text) + (translations.get(text) or text)

    return CODE_TEXT.sub(translate, code)


def translate_blocks(page: str, translations: dict[str, str]) -> str:
    """Return the text of a page with translated comments and labels in its blocks of Python."""
    return PYTHON_BLOCK.sub(lambda block: translate_code(block[0], translations), page)


def translated_pages(pages: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the pages with a catalog, and their text with Chinese comments and labels."""
    names = set(translated())
    for page in pages:
        if (name := page.relative_to(DOCS).with_suffix("").as_posix()) in names:
            yield page, translate_blocks(page.read_text(encoding="utf-8"), texts(name))


def extract(pages: Iterable[str], folder: Path, docs: Path = DOCS) -> None:
    """Write the messages of these pages into a folder, as .pot files."""
    pages = set(pages)
    files = [file.relative_to(docs).with_suffix("").as_posix() for file in docs.rglob("*.md")]
    excluded = ",".join(f"{name}.md" for name in files if name not in pages)
    command = [sys.executable, "-P", "-m", "sphinx", "-Q", "-b", "gettext", "-D", f"exclude_patterns={excluded}"]
    subprocess.run([*command, "-d", folder / ".doctrees", docs, folder], check=True)
    for page in pages:
        template = folder / f"{page}.pot"
        catalog = read(template)
        for text in code_texts((docs / f"{page}.md").read_text(encoding="utf-8")):
            catalog.add(text)
        with template.open("wb") as file:
            write_po(file, catalog, width=0)


def read(file: Path) -> Catalog:
    """Return the catalog in a file."""
    return read_po(file.read_bytes().splitlines(keepends=True), locale="zh_CN")


def texts(page: str) -> dict[str, str]:
    """Return the translation of each message of a page."""
    return {message.id: message.string for message in read(DOCS / CATALOGS / f"{page}.po") if message.id}


def faults(template: Path, catalog: Path) -> Iterator[str]:
    """Yield what a catalog lacks, compared with the messages that its page has now."""
    there = read(catalog)
    for message in read(template):
        if not message.id:
            continue
        found = there.get(message.id)
        begin = f"{catalog.stem}: {message.id[:60]!r}"
        if found is None:
            yield f"{begin} is new or has changed since the page was translated"
        elif found.fuzzy:
            yield f"{begin} has changed: its translation is marked as fuzzy"
        elif not found.string:
            yield f"{begin} has no translation"
        else:
            for pattern in UNCHANGED:
                if sorted(re.findall(pattern, message.id)) != sorted(re.findall(pattern, found.string)):
                    yield f"{begin} has other code or other links than its translation"


def main(new: list[str]) -> None:
    """Update the catalogs, begin those of new pages, and print what is still to do."""
    pages = [*translated(), *new]
    with tempfile.TemporaryDirectory() as folder:
        extract(pages, Path(folder))
        update = ["-m", "sphinx_intl", "update", "--language", "zh_CN", "--no-obsolete", "--line-width", "0"]
        subprocess.run([sys.executable, *update, "--pot-dir", folder, "--locale-dir", DOCS / "locale"], check=True)
        for page in pages:
            for fault in faults(Path(folder, f"{page}.pot"), DOCS / CATALOGS / f"{page}.po"):
                print(fault)


if __name__ == "__main__":
    main(sys.argv[1:])
