"""Print random comments, docstrings, messages or sentences of pages, for a reader who does not know the code.

    python tools/sample_language.py --seed 7                         # 60 comments and docstrings
    python tools/sample_language.py --seed 7 --kind message -n 30
    python tools/sample_language.py --seed 7 --kind sentence -n 30

A comment or docstring is printed with the line that it documents: the header of the function or class, or the constant
or field. The sample depends only on the seed and the content of the files.
"""

from __future__ import annotations

import argparse
import random
import re
from typing import TYPE_CHECKING

from check_language import is_exempt
from texts import texts

if TYPE_CHECKING:
    from texts import Text

# For each option of --kind: the kinds of texts, and the default folders and files.
KINDS = {
    "comment": ({"comment", "docstring"}, ["nnc", "src"]),
    "message": ({"message"}, ["nnc", "src"]),
    "sentence": ({"sentence"}, ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs"]),
}
HEADER = re.compile(r"\s*(async )?(def|class|cdef|cpdef|ctypedef|property)\b")


def documented_line(text: Text) -> str:
    """Return the code that a comment or docstring documents, on one line; "" for the text of a whole file.

    This is the code before a comment on the same line, or else the header of the function or class if the text is the
    first one below the header, or else the next line of code.
    """
    lines = text.path.read_text(encoding="utf-8").splitlines()
    index = text.line - 1
    if index == 0:
        return ""
    before = re.split(r"//|/\*|#", lines[index])[0].strip()
    if text.kind == "comment" and before:
        return before
    end = index  # position after the last line of the header
    while end > 0 and lines[end - 1].lstrip().startswith("#"):
        end -= 1
    first = end - 1
    while first > 0 and lines[first].strip() and not HEADER.match(lines[first]):
        first -= 1
    header = [line.strip() for line in lines[first:end]]
    colons = [i for i, line in enumerate(header) if re.search(r":(\s*#.*)?$", line)]
    if HEADER.match(lines[first]) and colons == [len(header) - 1] and '"""' not in header[-1]:
        return " ".join(header)
    if text.kind == "docstring":
        return ""
    if text.path.suffix == ".h":
        index = next((i + 1 for i in range(index, len(lines)) if "*/" in lines[i]), index)
    comment = re.compile(r"\s*(#|//|/\*|$)")
    return next((line.strip() for line in lines[index:] if not comment.match(line)), "")


def main() -> None:
    """Print a random sample of texts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choice (default: %(default)s)")
    parser.add_argument("--kind", choices=KINDS, default="comment", help="kind of text (default: %(default)s)")
    parser.add_argument("-n", type=int, default=60, help="number of texts (default: %(default)s)")
    parser.add_argument("folders", nargs="*", help="folders or files (default: the package or the pages)")
    arguments = parser.parse_args()
    kinds, folders = KINDS[arguments.kind]
    candidates = [text for text in texts(arguments.folders or folders) if text.kind in kinds and not is_exempt(text)]
    generator = random.Random(arguments.seed)
    for number, text in enumerate(generator.sample(candidates, min(arguments.n, len(candidates))), 1):
        code = documented_line(text) if arguments.kind == "comment" else ""
        print(f"[{number}] {text.source} ({text.kind})", *([f"    {code}"] if code else []), text.text, "", sep="\n")


if __name__ == "__main__":
    main()
