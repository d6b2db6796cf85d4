"""Update the catalogs of the Chinese site in docs/locale, which have one message for each paragraph of an English page.

    python tools/catalogs.py            # update the catalogs after a change of English pages
    python tools/catalogs.py guide/many # also create a catalog for this page

Translate each new message with Poedit or any text editor. A message marked `fuzzy` has changed and still has its old
translation: correct it, then delete the mark. Comments in blocks of Python and labels of pictures are messages too; all
other code is the same in both languages. A page without a catalog is English on both sites. The tool prints the
messages that must be translated, and tests/test_catalogs.py fails until all of them are.
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
CATALOGS = Path("locale", "zh_CN", "LC_MESSAGES")  # folder of the translations, relative to docs/
SITE_CATALOG = "sphinx"  # catalog of texts that belong to no page, such as those of the menu
UNCHANGED = (r"`[^`]*`", r"\]\([^)]*\)")  # inline code and targets of links are the same in both languages
PYTHON_BLOCK = re.compile(r"^```python\n.*?^```$", re.DOTALL | re.MULTILINE)
# Matches the text of a comment, or the label or title of a picture.
CODE_TEXT = re.compile(
    r"""(?:(?:(?<=\s)|^)#[ ]|\b\w*(?:label|title)(?:=|\()")(?P<text>(?<=#[ ]).+$|(?<=")[^"\n]+)""", re.MULTILINE
)


def translated(docs: Path = DOCS) -> list[str]:
    """Return the names of the pages that have a catalog, in the notation of Sphinx ("guide/images")."""
    folder = docs / CATALOGS
    names = (file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.po"))
    return sorted(name for name in names if name != SITE_CATALOG)


def code_texts(page: str) -> list[str]:
    """Return the comments and the labels of pictures in the Python blocks of a page (given as text)."""
    blocks = (match[0] for match in PYTHON_BLOCK.finditer(page))
    return list(dict.fromkeys(match["text"] for block in blocks for match in CODE_TEXT.finditer(block)))


def translate_code(code: str, translations: dict[str, str]) -> str:
    """Return code with translated comments and labels."""

    def translate(match: re.Match[str]) -> str:
        text = match["text"]
        return match[0].removesuffix(text) + (translations.get(text) or text)

    return CODE_TEXT.sub(translate, code)


def translate_blocks(page: str, translations: dict[str, str]) -> str:
    """Return the text of a page with translated comments and labels in its Python blocks."""
    return PYTHON_BLOCK.sub(lambda block: translate_code(block[0], translations), page)


def translated_pages(pages: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Yield each page that has a catalog, and its text with Chinese comments and labels."""
    names = set(translated())
    for page in pages:
        if (name := page.relative_to(DOCS).with_suffix("").as_posix()) in names:
            yield page, translate_blocks(page.read_text(encoding="utf-8"), texts(name))


def extract(pages: Iterable[str], folder: Path, docs: Path = DOCS) -> None:
    """Write the messages of these pages into a folder, one .pot file for each page."""
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
    """Yield a text for each message of a page whose translation is missing, outdated or inconsistent.

    `template` is the .pot file of the current page, `catalog` the .po file with the translations.
    """
    translations = read(catalog)
    for message in read(template):
        if not message.id:
            continue
        translation = translations.get(message.id)
        subject = f"{catalog.stem}: {message.id[:60]!r}"
        if translation is None:
            yield f"{subject} is new or has changed since the page was translated"
        elif translation.fuzzy:
            yield f"{subject} has changed: its translation is marked as fuzzy"
        elif not translation.string:
            yield f"{subject} has no translation"
        else:
            for pattern in UNCHANGED:
                if sorted(re.findall(pattern, message.id)) != sorted(re.findall(pattern, translation.string)):
                    yield f"{subject} has other code or other links than its translation"


def drop_dates(catalogs: Iterable[Path]) -> None:
    """Delete the creation date from each catalog: two branches that update a catalog would conflict in this line."""
    for file in catalogs:
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r'^"POT-Creation-Date:.*\n', "", text, flags=re.MULTILINE), encoding="utf-8")


def main(new: list[str]) -> None:
    """Update all catalogs, create those of new pages, and print the messages that must be translated."""
    pages = [*translated(), *new]
    with tempfile.TemporaryDirectory() as folder:
        extract(pages, Path(folder))
        update = ["-m", "sphinx_intl", "update", "--language", "zh_CN", "--no-obsolete", "--line-width", "0"]
        subprocess.run([sys.executable, *update, "--pot-dir", folder, "--locale-dir", DOCS / "locale"], check=True)
        drop_dates((DOCS / CATALOGS).rglob("*.po"))
        for page in pages:
            for fault in faults(Path(folder, f"{page}.pot"), DOCS / CATALOGS / f"{page}.po"):
                print(fault)


if __name__ == "__main__":
    main(sys.argv[1:])
