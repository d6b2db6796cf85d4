"""Extract the texts of the project: docstrings, comments, error messages, names and the sentences of pages.

Shared by check_language.py and sample_language.py.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
PYTHON, CYTHON, C = {".py"}, {".pyx", ".pxd", ".pxi", ".in"}, {".h"}  # .c files are generated, so they are skipped
DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# C code, docstrings, strings, comments and names of Cython; the first alternative that matches wins.
CYTHON_TOKENS = re.compile(
    r"""(?P<code>extern from \*[^\n]*:\n[ \t]*\"{3}(?:.|\n)*?\"{3})"""
    r"""|(?P<docstring>^[ \t]*\"{3}(?:.|\n)*?\"{3})"""
    r"""|(?P<string>[a-zA-Z]?"(?:[^"\\\n]|\\.)*"|[a-zA-Z]?'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<comment>\#[^\n]*)|(?P<name>[A-Za-z_]\w*)""",
    re.MULTILINE,
)
C_TOKENS = re.compile(
    r"""(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<comment>/\*(?:.|\n)*?\*/|//[^\n]*)|(?P<name>[A-Za-z_]\w*)"""
)
CYTHON_MESSAGE = re.compile(r"""raise \w+\(\s*(?P<text>[^#\n]*(?:\n[ \t]+f?["'][^\n]*)*)""")
WARNINGS = {"warn", "warned", "warning"}
# Comments for tools, and lines that divide a file into sections.
DIRECTIVE = re.compile(r"type: ignore|noqa|fmt: |-{5,}")


class Text(NamedTuple):
    """Text of a file, with its kind ("docstring", "comment", "message", "name" or "sentence") and first line."""

    kind: str
    path: Path
    line: int
    text: str

    @property
    def file(self) -> str:
        """Return the file, relative to the checkout if it is inside."""
        return (self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path).as_posix()

    @property
    def source(self) -> str:
        """Return the file and the line."""
        return f"{self.file}:{self.line}"


def files(folders: Sequence[str], suffixes: set[str]) -> list[Path]:
    """Return the files in these folders (or the files themselves) with one of the suffixes."""
    paths: list[Path] = []
    for folder in folders:
        path = ROOT / folder
        paths += sorted(path.rglob("*")) if path.is_dir() else [path]
    return [path for path in paths if path.suffix in suffixes]


def join_comments(comments: Sequence[tuple[int, int, str]], path: Path) -> Iterator[Text]:
    """Yield comments; those on consecutive lines with the same position are joined to one.

    A comment is (line, position, text). The position of a comment on its own line is its column. The position of a
    comment after code is minus its line number, so that it is never joined.
    """
    first = column = last = -1
    parts: list[str] = []
    for line, start, text in comments:
        if parts and line == last + 1 and start == column:
            parts.append(text)
        else:
            if parts:
                yield Text("comment", path, first, " ".join(parts))
            first, column, parts = line, start, [text]
        last = line
    if parts:
        yield Text("comment", path, first, " ".join(parts))


def message(call: ast.Call) -> str:
    """Return the text of the first argument of a call, or "" if it is not a string.

    Fields of f-strings are returned as {expression}.
    """
    parts = []
    for argument in call.args[:1]:
        for node in ast.walk(argument):
            if isinstance(node, ast.JoinedStr):
                return ast.unparse(node)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts.append(node.value)
    return " ".join(parts)


def python_names(nodes: Sequence[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each definition: functions, classes, parameters, variables and attributes."""
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def python_texts(path: Path) -> Iterator[Text]:
    """Yield the texts of a Python file."""
    source = path.read_text(encoding="utf-8")
    nodes = [*ast.walk(ast.parse(source))]
    for node in nodes:
        if isinstance(node, DEFINITIONS) and (docstring := ast.get_docstring(node)) is not None:
            yield Text("docstring", path, node.body[0].lineno, docstring)
        call = node.exc if isinstance(node, ast.Raise) else node
        if isinstance(call, ast.Call):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if (isinstance(node, ast.Raise) or name in WARNINGS) and len(text := message(call).split()) > 2:
                yield Text("message", path, call.lineno, " ".join(text))
    for line, name in python_names(nodes):
        yield Text("name", path, line, name)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = []
    for token in tokens:
        text = token.string.lstrip("#").strip()
        if token.type == tokenize.COMMENT and text and not DIRECTIVE.match(text):
            line, column = token.start
            position = -line if token.line[:column].strip() else column  # see join_comments
            comments.append((line, position, text))
    yield from join_comments(comments, path)


def compiled_texts(path: Path) -> Iterator[Text]:
    """Yield the texts of a Cython or C file; every identifier counts as a name. C code in a Cython file is skipped."""
    source = path.read_text(encoding="utf-8")
    comments = []
    for match in (C_TOKENS if path.suffix in C else CYTHON_TOKENS).finditer(source):
        line, text = source.count("\n", 0, match.start()) + 1, match.group()
        if match.lastgroup == "docstring":
            yield Text("docstring", path, line, text.strip().strip('"').strip())
        elif match.lastgroup == "comment":
            column = match.start() - source.rfind("\n", 0, match.start()) - 1
            lines = [part.strip().removeprefix("/*").removesuffix("*/").strip(" \t#") for part in text.splitlines()]
            follows_code = source[match.start() - column : match.start()].strip()
            position = -line if follows_code else column  # see join_comments
            comments.append((line, position, " ".join(part for part in lines if part)))
        elif match.lastgroup == "name":
            yield Text("name", path, line, text)
    yield from join_comments([comment for comment in comments if comment[2] and not DIRECTIVE.match(comment[2])], path)
    if path.suffix in CYTHON:
        for match in CYTHON_MESSAGE.finditer(source):
            if len(match["text"].split()) > 2:
                yield Text("message", path, source.count("\n", 0, match.start()) + 1, " ".join(match["text"].split()))


def prose(page: str) -> str:
    """Return a page of Markdown with empty lines instead of everything that is not prose.

    Headings, code blocks, tables, pictures, quotations, directives, HTML and the metadata before the first heading are
    not prose.
    """
    lines, fence, is_list = [], "", False
    if page.startswith("---\n"):
        metadata, _, page = page[4:].partition("\n---\n")
        lines = [""] * (metadata.count("\n") + 3)
    for line in page.splitlines():
        mark = re.match(r"\s*(`{3,}|~{3,}|:{3,})", line)
        if re.match(r"\S", line):
            is_list = re.match(r"([-*]|\d+\.)\s", line) is not None
        is_indented_code = line.startswith("    ") and not is_list and not lines[-1]
        if mark and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else mark[1]
            lines.append("")
        elif fence or is_indented_code or re.match(r"\s*(\||<|>|!\[|\(.*\)=$|#)", line):
            lines.append("")
        else:
            lines.append(line)
    return "\n".join(lines)


def page_texts(path: Path) -> Iterator[Text]:
    """Yield the sentences of a page of Markdown. A sentence ends at the latest with its paragraph or list item."""
    text = prose(path.read_text(encoding="utf-8"))
    for block in re.finditer(r"(?:^(?!\s*$).+\n?)+", text, re.MULTILINE):
        for item in re.split(r"(?m)^\s*(?:[-*]|\d+\.)\s+", block.group()):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"[\1]", " ".join(item.split()))
            for sentence in re.split(r"(?<=[^.][.!?])\s+", plain):
                if len(sentence.split()) > 2:
                    first = sentence.split()[0]
                    offset = max(block.group().find(first), 0)
                    yield Text("sentence", path, text.count("\n", 0, block.start() + offset) + 1, sentence)


def texts(folders: Sequence[str]) -> Iterator[Text]:
    """Yield all texts of the files in these folders."""
    for path in files(folders, PYTHON | CYTHON | C | {".md"}):
        if path.suffix in PYTHON:
            yield from python_texts(path)
        elif path.suffix == ".md":
            yield from page_texts(path)
        else:
            yield from compiled_texts(path)
