"""What a network is, as text: of plain lists, so that the reference has it without NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from nnc.layers.stack import layer_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Row = Sequence[float]
    Rows = Sequence[Row]


class Scaling(Protocol):
    """scaled = (raw - shift) * factor, column by column; see nnc/data/scaling.py."""

    @property
    def type(self) -> str: ...
    @property
    def shift(self) -> Iterable[float]: ...
    @property
    def factor(self) -> Iterable[float]: ...


def summary_text(layers: Iterable[tuple[str, str, str, str, int]]) -> str:
    """The table of `summary`: name, inputs, neurons, activation and number of parameters of every layer."""
    rows = [("layer", "inputs", "neurons", "activation", "parameters")]
    rows += [(name, n_in, n_out, activation, f"{count:,}") for name, n_in, n_out, activation, count in layers]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def inspect_text(
    layers: Sequence[tuple[Rows, Row | None]], inputs_scaled: Sequence[str] = (), targets_scaled: Sequence[str] = ()
) -> str:
    """The text of `inspect`, for (W, b) of every layer in plain lists; b is None without bias. Lines on scalings stand
    with the inputs, and below the output layer."""
    lines = ["------", f"* Inputs: {len(layers[0][0])}", *inputs_scaled, "------"]
    for index, (W, b) in enumerate(layers):
        star = "* " if index == len(layers) - 1 else ""
        lines += [star + layer_name(index, len(layers)), layer_text(W, b), "------"]
    if targets_scaled:
        lines += ["* Targets", *targets_scaled, "------"]
    return "\n".join(lines)


def scaling_text(column: str, scaling: Scaling, digits: str = "") -> Iterator[str]:
    """A line for each column of a scaling, which is called so: how it comes from a raw number."""
    for index, (shift, factor) in enumerate(zip(scaling.shift, scaling.factor, strict=True)):
        sign = "+" if shift < 0 else "-"
        yield f" {column} {index}: (raw {sign} {abs(float(shift)):{digits}}) * {float(factor):{digits}}"


def layer_text(W: Rows, b: Row | None) -> str:
    """The part of `inspect_text` about the neurons of a layer."""
    lines = [f"Neurons: {len(W[0])}"]
    for neuron, weights in enumerate(zip(*W, strict=True)):
        lines += [f" Neuron {neuron}", *(f"  Weight: {weight!s}" for weight in weights)]
        if b is not None:
            lines.append(f"  Bias: {b[neuron]!s}")
    return "\n".join(lines)
