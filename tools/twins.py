"""Check that README.zh-CN.md is a translation of the current README.

    python tools/twins.py README.zh-CN.md       # mark the translation as up to date, after it was compared

The first line of a translation names the original page and the beginning of the SHA-256 of its text. A test reports
when the original has changed, and when blocks of code or outputs differ. Pages of the site have catalogs instead
(tools/catalogs.py).
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# The first line of a translation: the path of the original page, and the digest of its text.
MARK = re.compile(r"<!-- of ([\w./-]+) as of (\w+) -->\n")
# A block of code or output, with the comment that names the packages that it needs.
FENCE = re.compile(r"(?:^<!-- needs [\w ]+ -->\n\n?)?^```.*?^```\n", re.DOTALL | re.MULTILINE)


def translations() -> list[Path]:
    """Return the pages whose first line names an original page."""
    return [page for page in sorted(ROOT.glob("*.zh-CN.md")) if MARK.match(page.read_text(encoding="utf-8"))]


def digest(text: str) -> str:
    """Return the first 12 digits of the SHA-256 of a text, by which a translation identifies its original."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def faults(page: Path) -> list[str]:
    """Return the differences between a translation and its original."""
    text = page.read_text(encoding="utf-8")
    name, translated_digest = MARK.match(text).groups()
    original = (ROOT / name).read_text(encoding="utf-8")
    differences = (
        [] if translated_digest == digest(original) else [f"{name} has changed since {page.name} was translated"]
    )
    blocks = [FENCE.findall(version) for version in (text, original)]
    if blocks[0] != blocks[1]:
        difference = next((b for a, b in zip(*blocks, strict=False) if a != b), "the number of blocks differs")
        differences.append(f"{page.name} has other code than {name}: {difference}")
    return differences


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        page = Path(argument)
        text = page.read_text(encoding="utf-8")
        name = MARK.match(text)[1]
        original = (ROOT / name).read_text(encoding="utf-8")
        page.write_text(MARK.sub(f"<!-- of {name} as of {digest(original)} -->\n", text, count=1), encoding="utf-8")
