"""Write the lists of activations in the documentation, based on the table in nnc/_registry/activations.py.

    python tools/activations.py          # write
    python tools/activations.py --check  # exit with status 1 if a list is out of date

There are three lists: in the guide, in the enum of the JSON schema, and in the error message that the guide shows.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from nnc._registry.activations import HIDDEN, NAMES  # noqa: E402

# For each file: a pattern that matches the list and the text around it, and the current list.
LISTS = {
    "docs/guide/what-there-is.md": (r"(\| activations \| )[^;]*(; one for all)", ", ".join(HIDDEN)),
    "docs/guide/errors.md": (r"(ValueError: activation must be one of ).*(, got)", ", ".join(HIDDEN)),
    "docs/nnc-network.schema.json": (r'("activation": \{\s*"enum": \[)[^]]*(\])', json.dumps(NAMES)[1:-1]),
}


def main() -> None:
    """Write each list, or check it if the option --check is given."""
    stale = []
    for name, (pattern, names) in LISTS.items():
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after, count = re.subn(pattern, lambda match, names=names: match[1] + names + match[2], before)
        if count != 1:
            raise SystemExit(f"{name} must contain one list of activations, got {count}")
        if after != before:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(after, encoding="utf-8")
    if stale and "--check" in sys.argv:
        raise SystemExit(f"out of date: {', '.join(stale)}; run python tools/activations.py")


if __name__ == "__main__":
    main()
