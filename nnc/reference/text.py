"""What `inspect` prints, here and in the compiled engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc.reference.layers import Row, Rows


def inspect_text(layers: Sequence[tuple[Rows, Row | None]]) -> str:
    """The text of `inspect`, for (W, b) of every layer in plain lists; b is None without bias."""
    lines = ["------", f"* Inputs: {len(layers[0][0])}", "------"]
    for number, (W, b) in enumerate(layers, 1):
        name = f"Hidden Layer {number}" if number < len(layers) else "* Output Layer"
        lines += [name, layer_text(W, b), "------"]
    return "\n".join(lines)


def layer_text(W: Rows, b: Row | None) -> str:
    """The part of `inspect_text` about the neurons of a layer."""
    lines = [f"Neurons: {len(W[0])}"]
    for neuron, weights in enumerate(zip(*W, strict=True)):
        lines += [f" Neuron {neuron}", *(f"  Weight: {weight!s}" for weight in weights)]
        if b is not None:
            lines.append(f"  Bias: {b[neuron]!s}")
    return "\n".join(lines)
