"""Sphinx configuration of the site: `python tools/build_site.py build/site` builds both languages (extra `[docs]`).

The build first runs the code of pages (tools/pages.py) and compares its output with the output on the page. It omits
pages that need no packages and always show the same; the tests run them. The pictures that the code writes are stored
next to the pages. The Chinese site has the same pages; those with a catalog are translated (tools/catalogs.py).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from itertools import pairwise
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tools"))
os.environ["MPLBACKEND"] = "agg"
os.environ["DASK_LOGGING__DISTRIBUTED"] = "critical"

import build_site  # noqa: E402
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
nitpicky = True  # report broken internal links
default_role = "code"  # role of text between single backticks in docstrings

autodoc_typehints = "none"  # types are in the docstrings, not in signatures
autodoc_member_order = "bysource"
autodoc_mock_imports = ["dask", "distributed", "river"]  # optional packages that may be missing
python_maximum_signature_line_length = 88
numpydoc_show_class_members = False  # autodoc lists the members

language = "en"  # tools/build_site.py overrides it with zh_CN for the Chinese site
locale_dirs = ["locale"]
gettext_compact = False  # one catalog for each page
gettext_location = False  # catalogs contain no line numbers, which change often

html_theme = "furo"
html_title = f"nnc {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}

# Pages of the repository outside of this folder, and their paths on the site.
EXTERNAL_PAGES = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "nnc/datasets/README.md": "project/datasets.md",
}
OUTPUTS = {}  # output of each block, by page
EXECUTED = {}  # notebook with its outputs, by page
TRANSLATED = set(catalogs.translated(DOCS))
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.md"))
EXAMPLES = DOCS.parent / "examples"


class BilingualSearch(SearchEnglish):
    """Search index for English and Chinese.

    Chinese text has no blanks between words, so it is split into pairs of characters. The browser splits a query in the
    same way and shows the pages that contain all parts.
    """

    lang = "en_zh"  # language_name remains "English", by which the browser selects the stemmer
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


html_search_language = BilingualSearch.lang


def convert_links(text, folder):
    """Return the text of a page with links to pages of the site.

    Links to other files of the repository, which the site does not contain, become code.
    """

    def link(match):
        file = (folder / match[2]).resolve()
        inside = EXTERNAL_PAGES.get(file.relative_to(DOCS.parent).as_posix())
        if inside is None and DOCS not in file.parents:
            return f"`{file.relative_to(DOCS.parent).as_posix()}`"
        return f"[{match[1]}](/{inside or file.relative_to(DOCS).as_posix()}{match[3] or ''})"

    return re.sub(r"(?<!!)\[([^]]+)\]\((?!https?:)([\w./-]+)(#[\w-]+)?\)", link, text)


def add_programs(text):
    """Return the page of examples with the code of each program, and a link to download it, below its description."""

    def code(match):
        program = (EXAMPLES / f"{match[2]}.py").read_text(encoding="utf-8")
        link = f'<a href="../examples/{match[2]}.py" download>{_("Download")} {match[2]}.py</a>'
        return (
            f'{match[1]}\n\n<p class="download">{link}</p>\n\n'
            f"<details><summary>{_('Show the code')}</summary>\n\n```python\n{program}```\n\n</details>\n\n"
        )

    return re.sub(r"^(`examples/(\w+)\.py`.*?(?:\n.+)*)\n\n?", code, text, flags=re.MULTILINE)


def include_readme(text, builder, language):
    """Return the text of a page that includes README.md with the README of the language of the site.

    The included text is translated in README.zh-CN.md, so the catalogs do not contain it.
    """
    if builder == "gettext":
        return re.sub(r"^```\{include\} \.\./README\.md\n.*?^```\n", "", text, flags=re.MULTILINE | re.DOTALL)
    return text.replace("{include} ../README.md\n", "{include} ../README.zh-CN.md\n") if language == "zh_CN" else text


def convert_page(app, docname, content):
    page, text = DOCS / f"{docname}.md", content[0]
    text = include_readme(text, app.builder.name, app.config.language)
    if page in NOTEBOOKS:
        text = notebooks.as_page(EXECUTED.get(page) or notebooks.read(page))
    elif page in OUTPUTS:
        text = pages.fill_outputs(text, OUTPUTS[page])
    if app.config.language == "zh_CN" and docname in TRANSLATED:
        text = catalogs.translate_blocks(text, catalogs.texts(docname))
    if docname == "guide/examples" and app.builder.format == "html":
        text = add_programs(text)
    content[0] = convert_links(text, page.parent)


def convert_included_text(app, path, docname, content):
    content[0] = convert_links(content[0], (DOCS / path).parent)


def escape_docstring(app, what, name, obj, options, lines):
    """Escape bars (absolute values) and stars (variable arguments) in docstrings, which are not reStructuredText."""
    lines[:] = [line if ">>>" in line else re.sub(r"(\||(?<=, )\*(?=\w))", r"\\\1", line) for line in lines]


def remove_links(app, what, name, obj, options, lines):
    """Remove links to attributes, which numpydoc creates, and links of scikit-learn's docstrings to its own site."""
    lines[:] = [re.sub(r":obj:`(\w+) <[^>]*>`", r"**\1**", line) for line in lines]
    lines[:] = [re.sub(r":(?:ref|term|class|meth|func):`~?([^<`]+?)(?: <[^`]*>)?`", r"\1", line) for line in lines]


def run_pages(app):
    """Run the code of all pages, the examples and the notebooks; their pictures are stored next to the pages."""
    if app.builder.format == "html":  # outputs are not needed to extract messages for catalogs
        outputs, executed = build_site.load_or_compute_results()
        OUTPUTS.update(outputs)
        EXECUTED.update(executed)


def mark_english_pages(app, env):
    """Mark pages without a translation in the menu of the Chinese site."""
    if app.config.language == "zh_CN":
        for name, title in env.titles.items():
            if name not in TRANSLATED and not list(title.findall(nodes.emphasis)):
                for node in (title, next(env.tocs[name].findall(nodes.reference))):  # links at the end, and the menu
                    node += [nodes.Text(" "), nodes.emphasis("", "EN")]


def is_included(node):
    """Return whether a text is a part of README.zh-CN.md. Cells of tables have no source, so their text is compared."""
    readme = DOCS.parent / "README.zh-CN.md"
    return (node.source or "").endswith(readme.name) or node.astext() in readme.read_text(encoding="utf-8")


def report_untranslated_texts(app, doctree):
    """Report texts of translated pages that are English on the Chinese site.

    The catalog lacks them, or Sphinx cannot insert them, such as a heading that is a list in the translation ("1. "
    instead of "1\\. ").
    """
    if app.config.language == "zh_CN" and app.env.docname in TRANSLATED:
        for node in doctree.findall(nodes.TextElement):
            if node.get("translated") is False and not is_included(node):
                logger.warning("not translated: %s", node.astext()[:60], location=node)


def add_page_header(app, pagename, templatename, context, doctree):
    """Add a link to the same page in the other language, and to the file of a notebook."""
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
        if notebooks.is_data_missing(page):
            above.append(_("The data of this notebook was missing in this build of the site, so its code was not run."))
    if above:
        context["body"] = f'<p class="above">{" · ".join(above)}</p>{context["body"]}'


def write_downloads(app, error):
    """Write the notebooks as files of Jupyter next to their pages, and the programs of the examples."""
    if error is None and app.builder.name == "html":
        for program in EXAMPLES.glob("*.py"):
            Path(app.outdir, "examples").mkdir(exist_ok=True)
            shutil.copy(program, Path(app.outdir, "examples"))
        for page in NOTEBOOKS:
            name = page.relative_to(DOCS).with_suffix("").as_posix()
            texts = catalogs.texts(name) if app.config.language == "zh_CN" and name in TRANSLATED else {}
            offered = notebooks.for_jupyter(EXECUTED[page], texts)
            nbformat.write(offered, Path(app.outdir, f"{name}.ipynb"))


def setup(app):
    app.add_search_language(BilingualSearch)
    app.connect("builder-inited", run_pages)
    app.connect("source-read", convert_page)
    app.connect("include-read", convert_included_text)
    app.connect("autodoc-process-docstring", escape_docstring, priority=100)  # called before the handler of numpydoc
    app.connect("autodoc-process-docstring", remove_links, priority=900)  # called after the handler of numpydoc
    app.connect("doctree-read", report_untranslated_texts)
    app.connect("env-updated", mark_english_pages)
    app.connect("html-page-context", add_page_header)
    app.connect("build-finished", write_downloads)
