"""Sizes of the files that a model of a table is written to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc.tabular import file
from nnc.tabular.export import program

if TYPE_CHECKING:
    from collections.abc import Callable

    from nnc.tabular.model import TableModel


def file_sizes(model: TableModel) -> dict[str, int]:
    """Return the size in bytes of the model's file and of its exports as ONNX and C.

    Files with one and with two members are made in memory; each further member adds as much as the second one, in
    proportion to its parameters.
    """
    from nnc._interop.c_table import to_c_table
    from nnc._interop.onnx_table import to_onnx_table

    writers: dict[str, Callable[[TableModel], int]] = {
        "file": lambda part: len(file.text(part)),
        "ONNX": lambda part: len(to_onnx_table(program(part))),
        "C": lambda part: len(to_c_table(program(part), "model").encode()),
    }
    one = model.with_members(1)
    if len(model.members) == 1:
        return {name: size(one) for name, size in writers.items()}
    two = model.with_members(2)
    params = [sum(member.network.n_params for member in part.members) for part in (one, two, model)]
    share = (params[2] - params[0]) / (params[1] - params[0])
    firsts = {name: size(one) for name, size in writers.items()}
    return {name: round(first + (writers[name](two) - first) * share) for name, first in firsts.items()}


def in_words(size: int) -> str:
    """Return a size in bytes with a unit: "7.4 MB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"
