"""How the site is made, in both languages: `python tools/build_site.py build/site` (extra `[docs]`).

Before anything is read, the code of the pages is run (tools/pages.py), and has to print what they say. The pictures
that it writes stay beside the pages, which show them. The Chinese site has the same pages, translated where there is a
catalog (tools/catalogs.py).
"""

from __future__ import annotations

import os
import re
import sys
from itertools import pairwise
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tools"))
os.environ["MPLBACKEND"] = "agg"
os.environ["DASK_LOGGING__DISTRIBUTED"] = "critical"

import catalogs  # noqa: E402
import nbformat  # noqa: E402
import notebooks  # noqa: E402
import pages  # noqa: E402
from docutils import nodes  # noqa: E402
from sphinx.locale import _  # noqa: E402
from sphinx.search.en import SearchEnglish  # noqa: E402
from sphinx.util import logging  # noqa: E402

from nnc import __version__  # noqa: E402

logger = logging.getLogger("nnc")
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

language = "en"  # tools/build_site.py makes the other site, with language zh_CN
locale_dirs = ["locale"]
gettext_compact = False  # a catalog for each page
gettext_location = False  # messages stand in the order of the page

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
PRINTED = {}  # by page, what its blocks have printed
TRANSLATED = set(catalogs.translated(DOCS))
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.md"))


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
    page, text = DOCS / f"{docname}.md", content[0]
    if page in NOTEBOOKS:
        is_site = app.builder.format == "html"
        text = notebooks.as_page(notebooks.executed(page) if is_site else notebooks.read(page))
    elif page in PRINTED:
        text = pages.filled(text, PRINTED[page])
    if app.config.language == "zh_CN" and docname in TRANSLATED:
        text = with_translated_code(text, docname)
    content[0] = with_links_inside(text, page.parent)


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
    """Run the code of all pages and the examples, which leave their pictures beside the pages, and the notebooks."""
    if app.builder.format == "html":  # and not where messages are taken out
        PRINTED.update({page: pages.shown(page) for page in pages.of_site()})
        pages.draw_examples(DOCS / "guide/examples.md")
        for page in NOTEBOOKS:
            notebooks.executed(page)
        if app.config.language == "zh_CN":
            for page in pages.of_site():
                name = page.relative_to(DOCS).with_suffix("").as_posix()
                if name in TRANSLATED:
                    pages.draw_translated(page, with_translated_code(page.read_text(encoding="utf-8"), name))


def with_translated_code(text, name):
    """Return the text of a page, with the comments in its code and the labels of its pictures in Chinese."""
    return catalogs.translate_blocks(text, catalogs.texts(name))


def mark_english_pages(app, env):
    """Mark pages without a translation in the menu of the Chinese site."""
    if app.config.language == "zh_CN":
        for name, title in env.titles.items():
            if name not in TRANSLATED and not title.traverse(nodes.emphasis):
                title += [nodes.Text(" "), nodes.emphasis("", "EN")]


def say_what_is_not_translated(app, doctree):
    """Of a page with a catalog nothing stays English on the Chinese site: neither what the catalog lacks nor what
    Sphinx could not put into the page, such as a heading that is a list in the translation ("1. ", not "1\\. ")."""
    if app.config.language == "zh_CN" and app.env.docname in TRANSLATED:
        for node in doctree.findall(nodes.TextElement):
            if node.get("translated") is False:
                logger.warning("not translated: %s", node.astext()[:60], location=node)


def begin_page(app, pagename, templatename, context, doctree):
    """Each page begins with a link to the same page in the other language, where there is one, and a notebook with
    one to its file."""
    if doctree is None or app.builder.name != "html":
        return
    chinese, translated = app.config.language == "zh_CN", pagename in TRANSLATED
    up, above = "../" * pagename.count("/"), []
    code, name, site = ("en", "English", f"{up}../") if chinese else ("zh-CN", "中文", f"{up}zh/")
    if chinese or translated:
        above.append(f'<a href="{site}{pagename}.html" hreflang="{code}" lang="{code}">{name}</a>')
        context["metatags"] += f'<link rel="alternate" hreflang="{code}" href="{site}{pagename}.html" />'
    if chinese and not translated:
        above.append(_("This page is in English"))
        context["body"] = f'<div lang="en">{context["body"]}</div>'
    page = DOCS / f"{pagename}.md"
    if page in NOTEBOOKS:
        above.append(f'<a href="{page.stem}.ipynb" download>{_("Download this notebook")}</a>')
        if notebooks.missing(page):
            above.append(_("Its data was not there when this page was made, so nothing on it was run."))
    if above:
        context["body"] = f'<p class="above">{" · ".join(above)}</p>{context["body"]}'


def offer_notebooks(app, error):
    """Notebooks as files of Jupyter, beside their pages."""
    if error is None and app.builder.name == "html":
        for page in NOTEBOOKS:
            name = page.relative_to(DOCS).with_suffix("").as_posix()
            texts = catalogs.texts(name) if app.config.language == "zh_CN" and name in TRANSLATED else {}
            offered = notebooks.for_jupyter(notebooks.executed(page), texts)
            nbformat.write(offered, Path(app.outdir, f"{name}.ipynb"))


def setup(app):
    app.add_search_language(SearchBoth)
    app.connect("builder-inited", run_pages)
    app.connect("source-read", lead_links)
    app.connect("include-read", lead_links_of_included)
    app.connect("autodoc-process-docstring", escape_bars, priority=100)  # before numpydoc
    app.connect("autodoc-process-docstring", name_attributes, priority=900)  # behind it
    app.connect("doctree-read", say_what_is_not_translated)
    app.connect("env-updated", mark_english_pages)
    app.connect("html-page-context", begin_page)
    app.connect("build-finished", offer_notebooks)
