"""Build the site: `python tools/build_site.py build/site` writes the English site there and the Chinese site into zh/.

Warnings are errors. The code of the pages runs once for both languages, then both sites are built in parallel.
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


def build_language(language: str, output: Path, doctrees: Path) -> None:
    """Build the site in one language, and exit with the status of Sphinx.

    The folder `doctrees` stores the parsed pages for the next build and is not published.
    """
    options = ["-q", "-W", "--keep-going", "-D", f"language={language}", "-d", str(doctrees)]
    sys.exit(build([*options, str(DOCS), str(output)]))


def main(folder: Path) -> int:
    """Run the code of all pages, build both sites, and return the exit status."""
    pages.print_skipped(pages.pages_with_code())
    # The pages run here instead of in docs/conf.py, so that the process of each language inherits the results.
    for page in pages.pages_with_code():
        pages.run_and_store_pictures(page)
    for page, text in catalogs.translated_pages(pages.pages_with_code()):
        pages.draw_translated(page, text)
    pages.draw_examples(DOCS / "guide/examples.md")
    for page in sorted(DOCS.glob("notebooks/*.md")):
        notebooks.executed(page)
    doctrees = folder.with_name(f"{folder.name}-doctrees")
    fork = multiprocessing.get_context("fork").Process
    processes = [
        fork(target=build_language, args=("en", folder, doctrees / "en")),
        fork(target=build_language, args=("zh_CN", folder / "zh", doctrees / "zh")),
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return max(abs(process.exitcode) for process in processes)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
