"""The site in both languages: `python tools/build_site.py build/site` makes the English one there, the Chinese in zh/.

Warnings are errors. The code of the pages is run once for both.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.cmd.build import main as build

DOCS = Path(__file__).parent.parent / "docs"


def main(folder: Path) -> int:
    for language, to in (("en", folder), ("zh_CN", folder / "zh")):
        read = folder.with_name(f"{folder.name}-read") / language  # what is kept for the next time, and not published
        options = ["-q", "-W", "--keep-going", "-j", "auto", "-D", f"language={language}", "-d", str(read)]
        if failed := build([*options, str(DOCS), str(to)]):
            return failed
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
