"""The site in Chinese: catalogs of sphinx-intl in docs/locale, a message for each paragraph of an English page.

    python tools/catalogs.py            # after a change of English pages: brings the catalogs up to date
    python tools/catalogs.py guide/many # and begins one for this page

Then each new message is translated, and each that is marked `fuzzy` (a changed one, with its former translation) read
again and the mark taken away: with Poedit, or in any editor. A page without a catalog stays English on both sites. What
is still to do is printed, and a test finds it (tests/test_catalogs.py).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from babel.messages.pofile import read_po

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from babel.messages import Catalog

DOCS = Path(__file__).parent.parent / "docs"
CATALOGS = Path("locale", "zh_CN", "LC_MESSAGES")  # within docs/
AROUND = "sphinx"  # the catalog of what stands around pages
SAME = (r"`[^`]*`", r"\]\([^)]*\)")  # inline code and where links lead: the same in both languages


def translated(docs: Path = DOCS) -> list[str]:
    """The pages that have a catalog, as Sphinx names them."""
    folder = docs / CATALOGS
    found = (file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.po"))
    return sorted(name for name in found if name != AROUND)


def extract(pages: Iterable[str], folder: Path, docs: Path = DOCS) -> None:
    """Write the messages of these pages into a folder, as .pot files."""
    pages = set(pages)
    files = [file.relative_to(docs).with_suffix("").as_posix() for file in docs.rglob("*.md")]
    left_out = ",".join(f"{name}.md" for name in files if name not in pages)
    command = [sys.executable, "-P", "-m", "sphinx", "-Q", "-b", "gettext", "-D", f"exclude_patterns={left_out}"]
    subprocess.run([*command, "-d", folder / ".doctrees", docs, folder], check=True)


def read(file: Path) -> Catalog:
    """What a catalog has."""
    return read_po(file.read_bytes().splitlines(keepends=True), locale="zh_CN")


def texts(page: str) -> dict[str, str]:
    """The translation of each message of a page."""
    return {message.id: message.string for message in read(DOCS / CATALOGS / f"{page}.po") if message.id}


def faults(template: Path, catalog: Path) -> Iterator[str]:
    """What a catalog lacks beside the messages that its page has now."""
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
            for pattern in SAME:
                if sorted(re.findall(pattern, message.id)) != sorted(re.findall(pattern, found.string)):
                    yield f"{begin} has other code or other links than its translation"


def main(new: list[str]) -> None:
    """Bring the catalogs up to date, begin those of new pages, and print what is still to do."""
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
