"""README.zh-CN.md and the README that it is a translation of (the pages of the site have catalogs: tools/catalogs.py).

    python tools/twins.py README.zh-CN.md       # the translation has been read again and fits its twin as it is now

The first line of the translation names its twin and the twin's text, by the beginning of its SHA-256. So a test sees
when the English page has changed since, and that blocks of code and what they print are the same in both.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
MARK = re.compile(r"<!-- of ([\w./-]+) as of (\w+) -->\n")
FENCE = re.compile(r"(?:^<!-- needs [\w ]+ -->\n\n?)?^```.*?^```\n", re.DOTALL | re.MULTILINE)


def translations() -> list[Path]:
    """All files that say of what they are a translation."""
    return [page for page in sorted(ROOT.glob("*.zh-CN.md")) if MARK.match(page.read_text(encoding="utf-8"))]


def mark(text: str) -> str:
    """What a translation names of the text of its twin."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def faults(page: Path) -> list[str]:
    """What is wrong with a translation."""
    text = page.read_text(encoding="utf-8")
    name, seen = MARK.match(text).groups()
    twin = (ROOT / name).read_text(encoding="utf-8")
    found = [] if seen == mark(twin) else [f"{name} has changed since {page.name} was translated"]
    pairs = [FENCE.findall(version) for version in (text, twin)]
    if pairs[0] != pairs[1]:
        other = next((b for a, b in zip(*pairs, strict=False) if a != b), "one of them has more")
        found.append(f"{page.name} has other code than {name}: {other}")
    return found


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        page = Path(argument)
        text = page.read_text(encoding="utf-8")
        name = MARK.match(text)[1]
        twin = (ROOT / name).read_text(encoding="utf-8")
        page.write_text(MARK.sub(f"<!-- of {name} as of {mark(twin)} -->\n", text, count=1), encoding="utf-8")
