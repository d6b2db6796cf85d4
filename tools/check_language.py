"""Check names, docstrings and sentences of pages against the rules of CONTRIBUTING.md, "Language".

    python tools/check_language.py               # nnc, src and the pages
    python tools/check_language.py nnc/layers    # other folders or files

Prints one line for each finding and exits with status 1 if there is any.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from texts import ROOT, Text, texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FOLDERS = ["nnc", "src", "docs", "README.md", "CONTRIBUTING.md", "SECURITY.md"]
MAX_WORDS = 40  # longest allowed sentence on a page
# Words that do not name a quantity or that have several meanings.
FORBIDDEN_NAMES = {
    *("FEW", "MANY", "MOST", "SOME", "SHORT", "SOON", "LOOK", "MUCH", "NEAR", "FAR", "TINY"),
    *("take", "said", "known", "made", "held", "open", "over", "kept", "place", "told"),
}
# Callbacks have public methods `open` and `close`; covariates with known future values are an argument `known`.
ALLOWED_NAMES = {
    *(
        (file, "open")
        for file in (
            *("nnc/_training/callbacks.py", "nnc/_training/live.py", "nnc/_training/loggers.py"),
            "tests/test_stopping.py",
        )
    ),
    ("nnc/forecast/forecaster.py", "known"),
}
# First words of docstrings that name neither an action nor a thing.
OPENINGS = re.compile(r"(What|That|Those|How|Of|The same|Where|Nothing|Whether)\b")


def is_exempt(text: Text) -> bool:
    """Return whether a text is a record of experiments, to which the language rules do not apply."""
    return text.path.is_relative_to(ROOT / "docs" / "lab")


def is_allowed(text: Text) -> bool:
    """Return whether a forbidden name is part of the public interface."""
    return (text.file, text.text) in ALLOWED_NAMES


def findings(items: Iterable[Text]) -> Iterator[str]:
    """Yield a line for each text that violates a rule."""
    for text in items:
        if text.kind == "name" and text.text in FORBIDDEN_NAMES and not is_allowed(text):
            yield f"{text.source}: name {text.text!r} is not a term of machine learning or programming"
        elif text.kind == "docstring" and (opening := OPENINGS.match(text.text)):
            yield f"{text.source}: docstring begins with {opening.group()!r}: {text.text.splitlines()[0]}"
        elif text.kind == "sentence" and not is_exempt(text) and (words := len(text.text.split())) > MAX_WORDS:
            yield f"{text.source}: sentence of {words} words: {text.text}"


def main(folders: Sequence[str]) -> int:
    """Print the findings in these folders and files, and return the exit status."""
    lines = sorted(set(findings(texts(folders or FOLDERS))))
    print("\n".join([*lines, f"{len(lines)} findings"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
