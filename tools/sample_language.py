"""Print random comments, docstrings, messages or sentences of pages, for a reader who does not know the code.

    python tools/sample_language.py --seed 7                         # 60 comments and docstrings
    python tools/sample_language.py --seed 7 --kind message -n 30
    python tools/sample_language.py --seed 7 --kind sentence -n 30

The sample depends only on the seed and the content of the files.
"""

from __future__ import annotations

import argparse
import random

from check_language import is_exempt
from texts import texts

# For each option of --kind: the kinds of texts, and the default folders and files.
KINDS = {
    "comment": ({"comment", "docstring"}, ["nnc", "src"]),
    "message": ({"message"}, ["nnc", "src"]),
    "sentence": ({"sentence"}, ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs"]),
}


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
        print(f"[{number}] {text.source} ({text.kind})\n{text.text}\n")


if __name__ == "__main__":
    main()
