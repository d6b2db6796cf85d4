"""Write nnc/__init__.pyi, which lists for type checkers the public names that nnc/__init__.py imports on first use.

The script also writes the names of activations, losses, initializers and optimizers to nnc/_registry/choices.py.

python tools/public_names.py
"""

import re
from pathlib import Path

import nnc
from nnc._registry import activations, initializers, losses, optimizers

STUB = Path(nnc.__file__).with_suffix(".pyi")
CHOICES = Path(nnc.__file__).parent / "_registry" / "choices.py"
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


def choices(text: str) -> str:
    """Return the text of nnc/_registry/choices.py with the current names of the tables."""
    tables = {
        "HiddenActivationName": activations.HIDDEN,
        "LossName": losses.NAMES,
        "InitializerName": initializers.NAMES,
        "OptimizerName": optimizers.NAMES,
    }
    for name, values in tables.items():
        lines = "".join(f'    "{value}",\n' for value in values)
        text = re.sub(rf"(?s)^{name} = Literal\[.*?\]\n", f"{name} = Literal[\n{lines}]\n", text, flags=re.MULTILINE)
    return text


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
    CHOICES.write_text(choices(CHOICES.read_text(encoding="utf-8")), encoding="utf-8")
