"""How the site is made: `sphinx-build -W docs build/site` (extra `[docs]`).

Before anything is read, the code of the pages is run (tools/pages.py), and has to print what they say. The pictures
that it writes stay beside the pages, which show them; each page is offered as a notebook, too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import nbformat

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tools"))
os.environ["MPLBACKEND"] = "agg"

import notebooks  # noqa: E402
import pages  # noqa: E402
from sphinx.search.en import SearchEnglish  # noqa: E402

from nnc import __version__  # noqa: E402

project = "nnc"
author = "the nnc developers"
project_copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton"]
exclude_patterns = ["nnc-network.schema.json"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nitpicky = True  # links inside have to lead somewhere
default_role = "code"  # what docstrings put between single backticks

autodoc_typehints = "none"  # the text of the docstrings has them, in words
autodoc_member_order = "bysource"
autodoc_mock_imports = ["dask", "distributed", "river"]  # what they are needed for is documented without them
python_maximum_signature_line_length = 88
numpydoc_show_class_members = False  # autodoc lists them

html_theme = "furo"
html_title = f"nnc {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}

# Pages of the repository that stand outside of this folder, and where the site has them.
OUTSIDE = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "nnc/datasets/README.md": "project/datasets.md",
}
RUN = [
    page for page in sorted([DOCS / "index.md", *DOCS.glob("guide/*.md"), *DOCS.glob("api/*.md")]) if pages.blocks(page)
]
PRINTED = {}  # by page, what its blocks have printed
NOTEBOOKS = {"guide": "This page as a notebook", "zh": "本页的 notebook"}  # by folder, what leads to them


class SearchBoth(SearchEnglish):
    """English words, and Chinese text, which has no blanks between words, as pairs of characters. Browsers split what
    is asked for in the same way, and show the pages that have all of it."""

    lang = "en_zh"  # and the name of the language stays, which is that of the stemmer in browsers
    runs = re.compile(r"[\u4e00-\u9fff]+|(?:(?![\u4e00-\u9fff])\w)+")
    js_splitter_code = r"""
var splitQuery = (query) =>
  (query.match(/[\u4e00-\u9fff]+|(?:(?![\u4e00-\u9fff])[\p{Letter}\p{Number}_])+/gu) || []).flatMap((run) =>
    run.length > 2 && "\u4e00" <= run[0] && run[0] <= "\u9fff"
      ? Array.from({ length: run.length - 1 }, (_, i) => run.slice(i, i + 2))
      : [run],
  );
"""

    def split(self, input):
        for run in self.runs.findall(input):
            if len(run) > 2 and "\u4e00" <= run[0] <= "\u9fff":
                yield from map("".join, pairwise(run))
            else:
                yield run


html_search_language = SearchBoth.lang


def with_links_inside(text, folder):
    """The text of a page in this folder, with links that lead to pages of the site. Other files and folders of the
    repository are no part of it: links to them become code."""

    def link(match):
        file = (folder / match[2]).resolve()
        inside = OUTSIDE.get(file.relative_to(DOCS.parent).as_posix())
        if inside is None and DOCS not in file.parents:
            return f"`{file.relative_to(DOCS.parent).as_posix()}`"
        return f"[{match[1]}](/{inside or file.relative_to(DOCS).as_posix()}{match[3] or ''})"

    return re.sub(r"(?<!!)\[([^]]+)\]\((?!https?:)([\w./-]+)(#[\w-]+)?\)", link, text)


def lead_links(app, docname, content):
    page = DOCS / f"{docname}.md"
    printed = pages.filled(content[0], PRINTED[page]) if page in PRINTED else content[0]
    content[0] = with_links_inside(printed, page.parent)
    if page.parent.name in NOTEBOOKS and page in PRINTED:
        said = NOTEBOOKS[page.parent.name]
        content[0] += f'\n<p class="notebook"><a href="{page.stem}.ipynb" download>{said}</a></p>\n'


def lead_links_of_included(app, path, docname, content):
    content[0] = with_links_inside(content[0], (DOCS / path).parent)


def escape_bars(app, what, name, obj, options, lines):
    """Docstrings are written for `help`: a bar in them stands for an absolute value, a star for several numbers."""
    lines[:] = [line if ">>>" in line else re.sub(r"(\||(?<=, )\*(?=\w))", r"\\\1", line) for line in lines]


def name_attributes(app, what, name, obj, options, lines):
    """What numpydoc makes links of, which lead nowhere or anywhere: attributes that a class describes itself. And links
    of scikit-learn's docstrings, which lead to places of its own site."""
    lines[:] = [re.sub(r":obj:`(\w+) <[^>]*>`", r"**\1**", line) for line in lines]
    lines[:] = [re.sub(r":(?:ref|term|class|meth|func):`~?([^<`]+?)(?: <[^`]*>)?`", r"\1", line) for line in lines]


def run_pages(app):
    """Run the code of all pages; leave their pictures beside them, and the notebooks in the site."""
    for page in RUN:
        with tempfile.TemporaryDirectory() as folder:
            outputs = pages.run(page, Path(folder))
            versions = [version for version in (page, DOCS / "zh" / page.name) if version.exists()]
            for version in versions[: 2 if page.parent.name == "guide" else 1]:  # a translation has the same code
                PRINTED[version] = outputs
                for picture in re.findall(r"!\[[^]]*\]\(([\w.-]+)\)", page.read_text(encoding="utf-8")):
                    shutil.copy(Path(folder, picture), version.parent / picture)


def draw_examples(app):
    """Run the examples, which draw the pictures of their page."""
    page = DOCS / "guide/examples.md"

    def draw(asked):
        program = DOCS.parent / "examples" / f"{asked[1]}.py"
        with tempfile.TemporaryDirectory() as folder:
            picture = page.parent / asked[0]
            subprocess.run([sys.executable, program, picture], cwd=folder, check=True, stdout=subprocess.DEVNULL)

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        list(executor.map(draw, re.findall(r"\((example-(\w+)\.\w+)\)", page.read_text(encoding="utf-8"))))


def say_language(app, pagename, templatename, context, doctree):
    """Translations are read out and hyphenated in their language."""
    if pagename.startswith("zh/"):
        context["language"] = "zh-CN"


def write_notebooks(app, error):
    """Each guide as a notebook beside its page, in both languages."""
    if error is None and app.builder.format == "html":
        for page, outputs in PRINTED.items():
            if page.parent.name in NOTEBOOKS:
                made = notebooks.notebook(page, outputs)
                nbformat.write(made, Path(app.outdir, page.parent.name, f"{page.stem}.ipynb"))


def setup(app):
    app.add_search_language(SearchBoth)
    app.connect("builder-inited", run_pages)
    app.connect("builder-inited", draw_examples)
    app.connect("source-read", lead_links)
    app.connect("include-read", lead_links_of_included)
    app.connect("autodoc-process-docstring", escape_bars, priority=100)  # before numpydoc
    app.connect("autodoc-process-docstring", name_attributes, priority=900)  # behind it
    app.connect("html-page-context", say_language)
    app.connect("build-finished", write_notebooks)
