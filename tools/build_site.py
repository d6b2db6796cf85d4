"""Build the site: `python tools/build_site.py build/site` writes the English site there and the Chinese site into zh/.

Warnings are errors. The code of pages that need packages or whose results the site shows runs once. Then both sites are
built in parallel, in new processes that read the results from a file. Forked processes would inherit the locks of
threads that the pages have started.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["MPLBACKEND"] = "agg"

import catalogs
import notebooks
import pages

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = "NNC_SITE_RESULTS"  # environment variable that names the file with the results of `run_code`


def run_code() -> tuple[dict[Path, list[str | None]], dict[Path, Any]]:
    """Run the code of pages that changes the site, the examples and the notebooks.

    Their pictures are stored next to the pages. Return the output of each block by page, and the notebooks with their
    outputs by page.
    """
    site = [page for page in pages.pages_with_code() if pages.changes_site(page)]
    pages.print_skipped(site)
    outputs = {page: pages.run_and_store_pictures(page) for page in site}
    for page, text in catalogs.translated_pages(site):
        pages.draw_translated(page, text)
    pages.draw_examples(DOCS / "guide/examples.md")
    return outputs, {page: notebooks.executed(page) for page in sorted(DOCS.glob("notebooks/*.md"))}


def load_or_compute_results() -> tuple[dict[Path, list[str | None]], dict[Path, Any]]:
    """Return the results of `run_code`, from the file of a build of both languages if there is one."""
    file = os.environ.get(RESULTS)
    return pickle.loads(Path(file).read_bytes()) if file else run_code()


def main(folder: Path) -> int:
    """Run the code of the pages, build both sites, and return the exit status.

    The parsed pages are stored outside of the site, for the next build.
    """
    doctrees = folder.with_name(f"{folder.name}-doctrees")
    sites = [("en", folder, doctrees / "en"), ("zh_CN", folder / "zh", doctrees / "zh")]
    sphinx = [sys.executable, "-P", "-m", "sphinx", "-q", "-W", "--keep-going"]
    with tempfile.TemporaryDirectory() as temporary:
        results = Path(temporary, "results")
        results.write_bytes(pickle.dumps(run_code()))
        builds = [
            subprocess.Popen(
                [*sphinx, "-D", f"language={language}", "-d", parsed, DOCS, output],
                env={**os.environ, RESULTS: str(results)},
            )
            for language, output, parsed in sites
        ]
        return max([abs(build.wait()) for build in builds])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
