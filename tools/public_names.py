"""Write nnc/__init__.pyi, which lists for type checkers the public names that nnc/__init__.py imports on first use.

python tools/public_names.py
"""

from pathlib import Path

import nnc

STUB = Path(nnc.__file__).with_suffix(".pyi")
HEADER = "# Written by tools/public_names.py from the lists in __init__.py.\n# ruff: noqa: I001, RUF022\n"


def stub() -> str:
    """Return the text of the stub: an import for each public name, and the list __all__."""
    imports = [f"from nnc import {name} as {name}" for name in nnc._MODULES]
    imports += [
        f"from nnc.{module} import {name} as {name}"
        for module, names in {"_version": ("__version__",), **nnc._NAMES}.items()
        for name in names
    ]
    names = "".join(f'    "{name}",\n' for name in nnc.__all__)
    return f"{HEADER}\n{chr(10).join(imports)}\n\n__all__ = [\n{names}]\n"


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
