"""The site in both languages: `python tools/build_site.py build/site` makes the English one there, the Chinese in zh/.

Warnings are errors. The code of the pages is run once for both, which are made at the same time.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

os.environ["MPLBACKEND"] = "agg"

import catalogs
import notebooks
import pages
from sphinx.cmd.build import main as build

DOCS = Path(__file__).parent.parent / "docs"


def make(language: str, to: Path, read: Path) -> None:
    """One of the sites; what is read of the pages is kept for the next time, and not published."""
    sys.exit(build(["-q", "-W", "--keep-going", "-D", f"language={language}", "-d", str(read), str(DOCS), str(to)]))


def main(folder: Path) -> int:
    pages.name_skipped(pages.of_site())
    # The pages run here instead of in docs/conf.py, so that the process of each language inherits the results.
    for page in pages.of_site():
        pages.shown(page)
    for page, text in catalogs.translated_pages(pages.of_site()):
        pages.draw_translated(page, text)
    pages.draw_examples(DOCS / "guide/examples.md")
    for page in sorted(DOCS.glob("notebooks/*.md")):
        notebooks.executed(page)
    read = folder.with_name(f"{folder.name}-read")
    fork = multiprocessing.get_context("fork").Process
    both = [
        fork(target=make, args=("en", folder, read / "en")),
        fork(target=make, args=("zh_CN", folder / "zh", read / "zh")),
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    return max(abs(process.exitcode) for process in both)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
