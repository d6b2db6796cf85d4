"""Write the lists of activations, losses, initializers, optimizers and layers, based on their tables and classes.

    python tools/registry_lists.py          # write
    python tools/registry_lists.py --check  # exit with status 1 if a list is out of date

The lists are in the documentation, in docstrings, and in the types of arguments (nnc/_registry/choices.py).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from textwrap import fill
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from nnc import layers  # noqa: E402
from nnc._registry import activations, capabilities, initializers, losses, optimizers  # noqa: E402
from nnc._registry.heads import Head, Heads  # noqa: E402
from nnc._training import schedules  # noqa: E402
from nnc.layers import Input, layer_classes_by_type  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LOSS_ROWS = [losses.ROWS[name] for name in losses.NAMES]


def json_items(names: Iterable[str]) -> str:
    """Return the items of a list in a JSON file."""
    return json.dumps(list(names))[1:-1]


def type_items(names: Iterable[str]) -> str:
    """Return the items of a Literal in nnc/_registry/choices.py."""
    return "".join(f'    "{name}",\n' for name in names)


def output_of_loss(row: losses.LossRow) -> str:
    """Return the default output activation of a loss, and whether it is required."""
    return row.output + " (required)" * row.output_required


def loss_table() -> str:
    """Return the rows of the table of losses in the guide."""
    return "\n".join(f"| `{row.name}` | {row.definition} | {output_of_loss(row)} |" for row in LOSS_ROWS)


def loss_docstring() -> str:
    """Return the list of losses in the docstring of NeuralNetwork."""
    items = [f'- "{row.name}": {row.definition.replace("^", "**")}; output {output_of_loss(row)}' for row in LOSS_ROWS]
    return "\n".join(fill(item, 120, initial_indent=" " * 8, subsequent_indent=" " * 10) for item in items)


def loss_parameters() -> str:
    """Return the list of the parameters of losses in the description of the file format."""
    fields = [(row.name, field) for row in LOSS_ROWS if row.parameter for field in row.parameter._fields]
    return ", ".join(f"{field.replace('_', ' ')} of {name}" for name, field in fields)


def quoted(names: Iterable[str], indent: int, before: str = "", after: str = "") -> str:
    """Return lines of a docstring with names in quotation marks."""
    text = before + ", ".join(f'"{name}"' for name in names) + after
    return fill(text, 120, initial_indent=" " * indent, subsequent_indent=" " * indent)


def optimizer_sections() -> str:
    """Return the sections of all optimizers in the reference."""
    return "\n".join(
        OPTIMIZER_SECTION.format(
            name=optimizer.__name__,
            arguments=optimizer.example,
            batch_size=", batch_size=None" * (not optimizer.first_order or optimizer.stores_step_sizes),
        )
        for optimizer in optimizers.ROWS.values()
    )


def combination_table(all_needs: Mapping[str, Sequence[capabilities.Need]]) -> str:
    """Return the rows of a table of combinations: each property, what needs it, and what does not have it."""
    uses: dict[capabilities.Property, list[str]] = {}
    for use, needs in all_needs.items():
        for need in needs:
            uses.setdefault(need.property, []).append(use if " " in use else f"`{use}`")
    rows = []
    for row, names in uses.items():
        without = [f"`{name}`" for name, part in EXAMPLES.get(row.part, {}).items() if not row.holds(part)]
        rows.append(f"| {row.text} | {', '.join(names)} | {', '.join(without)} |")
    return "\n".join(rows)


def pair_table() -> str:
    """Return the rows of the table of pairs of arguments."""
    return "\n".join(
        f"| `{function}` | `{pair.argument}` | {'without' if pair.requires else 'with'} `{pair.other}` |"
        for function, pairs in capabilities.PAIRS.items()
        for pair in pairs
    )


def example_layers() -> dict[str, Any]:
    """Return layers of all types, and dense layers with all activations, by their names."""
    kinds = {"Bidirectional": layers.Bidirectional(layers.GRU(2))}
    for layer_class in layers.layer_classes_by_type().values():
        if layer_class is layers.Input:  # the input shape of a network is no layer
            continue
        required = [name for name, spec in layer_class._fields.items() if spec.required]
        kinds[layer_class.__name__] = layer_class(
            **dict.fromkeys(required, 0.5 if layer_class is layers.Dropout else 2)
        )
    kinds |= {name: layers.Dense(2, name) for name in activations.NAMES}
    return {name: SimpleNamespace(kind=kind, input_shape=(2,)) for name, kind in kinds.items()}


# Examples of the parts of a network and of its training, by the names in the table of combinations.
EXAMPLES = {
    "optimizer": {name: optimizer() for name, optimizer in optimizers.ROWS.items()},
    "schedule": {
        **{
            f"{row.__name__}(0.1)": row(0.1)
            for row in (schedules.CosineLR, schedules.CosineLogLR, schedules.OneCycleLR)
        },
        "PerStep": schedules.PerStep(schedules.StepLR(0.1, 1)),
        "ReduceLROnPlateau": schedules.ReduceLROnPlateau(0.1),
    },
    "memmap": {"memmap of another dtype": 0},
    "loss": {
        **{row.name: row for row in LOSS_ROWS},
        "a function": SimpleNamespace(),
        "nnc.LeastSquares": SimpleNamespace(has_residuals=True),
        "nnc.Heads": Heads([Head(1)]),
    },
    "layer": example_layers(),
}
OPTIMIZER_SECTION = """\
### {name}

```{{eval-rst}}
.. autoclass:: nnc.{name}
```

Example:

```python
print_r2(optimizer=nnc.{name}({arguments}), lr=None{batch_size})
```

```text
R^2 above 0.9: True
```
"""
FIRST_ORDER_CLASSES = [optimizer.__name__ for optimizer in optimizers.ROWS.values() if optimizer.first_order]
# First-order solvers of the estimators that scikit-learn does not have.
OTHER_SOLVERS = [name for name in optimizers.FIRST_ORDER if name not in ("sgd", "adam", "momentum")]

# Layers that are not only for sequences.
LAYERS = [
    kind.__name__
    for kind in layer_classes_by_type().values()
    if not kind.recurrent and kind.__module__ != "nnc.layers.sequence" and kind is not Input
]

# For each list: the file, a pattern that matches the text before and after the list, and the list.
LISTS = (
    ("docs/guide/what-there-is.md", r"(\| activations \| )[^;]*(; one for all)", ", ".join(activations.HIDDEN)),
    ("docs/guide/errors.md", r"(activation must be one of ).*?(, got)", ", ".join(activations.HIDDEN)),
    ("docs/nnc-network.schema.json", r'("activation": \{\s*"enum": \[)[^]]*(\])', json_items(activations.NAMES)),
    ("docs/guide/what-there-is.md", r"(\| default output activation \|\n\|---\|---\|---\|\n).*?(\n\n)", loss_table()),
    (
        "docs/combinations.md",
        r"(methods \| not possible with \|\n\|---\|---\|---\|\n).*?(\n\n)",
        combination_table({use: needs for use, needs in capabilities.NEEDS.items() if use not in capabilities.EXPORTS}),
    ),
    (
        "docs/combinations.md",
        r"(exports \| not possible with \|\n\|---\|---\|---\|\n).*?(\n\n)",
        combination_table(capabilities.EXPORTS),
    ),
    ("docs/combinations.md", r"(\| is not possible \|\n\|---\|---\|---\|\n).*?(\n\n)", pair_table()),
    ("docs/file-format.md", r"(\| name of the loss; ).*?( \|)", loss_parameters()),
    ("docs/nnc-network.schema.json", r'("loss": \{\s*"enum": \[)[^]]*(\])', json_items(losses.ROWS)),
    ("nnc/_network/__init__.py", r"(of the output layer:\n\n).*?(\n\n        \"bce\")", loss_docstring()),
    (
        "docs/guide/what-there-is.md",
        r"(\| layers \| ).*?(; numbers for dense layers)",
        ", ".join(f"`{name}`" for name in LAYERS),
    ),
    ("docs/api/learning.md", r"(\n## Optimizers\n\n).*?(\n## )", optimizer_sections()),
    ("docs/api/sklearn.md", r"(print\(\*SOLVERS\)\n```\n\n```text\n).*?(\n```)", " ".join(optimizers.ROWS)),
    (
        "docs/guide/what-there-is.md",
        r"(\| optimizers \| `SGD` \(momentum, nesterov\), ).*?(, with the constants)",
        ", ".join(f"`{name}`" for name in FIRST_ORDER_CLASSES if name != "SGD"),
    ),
    ("docs/nnc-network.schema.json", r'("name": \{\s*"enum": \[)[^]]*(\])', json_items(optimizers.ROWS)),
    (
        "nnc/_network/fitting.py",
        r"(\n        optimizer : str or object, optional\n).*?(\n            or an object such as nnc.SGD)",
        quoted(optimizers.NAMES, 12, after=" (SGD with momentum 0.9),"),
    ),
    (
        "nnc/sklearn/estimator.py",
        r"(\n    solver : str or object\n).*?(\n        which use `learning_rate_init`)",
        quoted(OTHER_SOLVERS, 8, "Also ", ","),
    ),
    *(
        ("nnc/_registry/choices.py", rf"(\n{name} = Literal\[\n).*?(\]\n)", type_items(names))
        for name, names in (
            ("HiddenActivationName", activations.HIDDEN),
            ("LossName", losses.NAMES),
            ("InitializerName", initializers.NAMES),
            ("OptimizerName", optimizers.NAMES),
        )
    ),
)


def main() -> None:
    """Write each list, or check it if the option --check is given."""
    stale = set()
    for name, pattern, items in LISTS:
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after, count = re.subn(pattern, lambda match, items=items: match[1] + items + match[2], before, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{name} must contain one match of {pattern}, got {count}")
        if after != before:
            stale.add(name)
            if "--check" not in sys.argv:
                path.write_text(after, encoding="utf-8")
    if stale and "--check" in sys.argv:
        raise SystemExit(f"out of date: {', '.join(sorted(stale))}; run python tools/registry_lists.py")


if __name__ == "__main__":
    main()
