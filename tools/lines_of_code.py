"""Count lines of code in nnc and src, without blank lines, comments and docstrings.

    python tools/lines_of_code.py                # totals
    python tools/lines_of_code.py --files        # also print each file
    python tools/lines_of_code.py nnc tests      # other folders or files

Python files are formatted by ruff first, so that the result does not depend on how statements are wrapped. Files of
Cython and C are counted without formatting.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CYTHON, C = {".pyx", ".pxd", ".pxi", ".in"}, {".h", ".c"}
DOCSTRING = re.compile(r'(?m)^\s*"""(?:.|\n)*?"""\s*$')


def python_lines(text: str) -> int:
    """Return the number of lines of a Python file that contain code."""
    command = ["ruff", "format", "--stdin-filename", str(ROOT / "nnc" / "file.py"), "-"]
    text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    lines: set[int] = set()
    ignored = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in ignored:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                assert first.end_lineno
                lines.difference_update(range(first.lineno, first.end_lineno + 1))
    return len(lines)


def cython_lines(text: str) -> int:
    """Return the number of lines of a Cython file that are not blank, a comment or part of a docstring."""
    text = DOCSTRING.sub("", text)
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in text.splitlines())


def c_lines(text: str) -> int:
    """Return the number of lines of a C file that are not blank or a comment."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    return sum(bool(line.strip()) for line in text.splitlines())


def count(path: Path) -> int:
    """Return the number of lines of code of a file; 0 if it is not Python, Cython or C."""
    if path.suffix not in {".py", *CYTHON, *C}:
        return 0
    text = path.read_text(encoding="utf-8")
    return (
        python_lines(text) if path.suffix == ".py" else cython_lines(text) if path.suffix in CYTHON else c_lines(text)
    )


def main() -> None:
    """Print the number of lines of each folder, and the total."""
    parser = argparse.ArgumentParser(description="Count lines of code without blank lines, comments and docstrings.")
    parser.add_argument("paths", metavar="PATH", nargs="*", default=[str(ROOT / "nnc"), str(ROOT / "src")])
    parser.add_argument("--files", action="store_true", help="also print the lines of each file")
    arguments = parser.parse_args()
    total = 0
    for name in arguments.paths:
        root = Path(name)
        counts = {
            path: count(path) for path in (sorted(root.rglob("*")) if root.is_dir() else [root]) if path.is_file()
        }
        if arguments.files:
            for path, lines in counts.items():
                if lines:
                    print(f"{lines:7}  {path}")
        print(f"{sum(counts.values()):7}  {root.name}")
        total += sum(counts.values())
    print(f"{total:7}  total")


if __name__ == "__main__":
    main()
