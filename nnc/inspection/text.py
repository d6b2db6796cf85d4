"""What a network is, as text: of plain lists, so that the reference has it without NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc.layers.stack import layer_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Row = Sequence[float]
    Rows = Sequence[Row]


def summary_text(layers: Iterable[tuple[str, str, str, str, int]]) -> str:
    """The table of `summary`: name, inputs, neurons, activation and number of parameters of every layer."""
    rows = [("layer", "inputs", "neurons", "activation", "parameters")]
    rows += [(name, n_in, n_out, activation, f"{count:,}") for name, n_in, n_out, activation, count in layers]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def inspect_text(layers: Sequence[tuple[Rows, Row | None]]) -> str:
    """The text of `inspect`, for (W, b) of every layer in plain lists; b is None without bias."""
    lines = ["------", f"* Inputs: {len(layers[0][0])}", "------"]
    for index, (W, b) in enumerate(layers):
        star = "* " if index == len(layers) - 1 else ""
        lines += [star + layer_name(index, len(layers)), layer_text(W, b), "------"]
    return "\n".join(lines)


def layer_text(W: Rows, b: Row | None) -> str:
    """The part of `inspect_text` about the neurons of a layer."""
    lines = [f"Neurons: {len(W[0])}"]
    for neuron, weights in enumerate(zip(*W, strict=True)):
        lines += [f" Neuron {neuron}", *(f"  Weight: {weight!s}" for weight in weights)]
        if b is not None:
            lines.append(f"  Bias: {b[neuron]!s}")
    return "\n".join(lines)
