"""Models of tables as ONNX: the encoding of the columns in the graph, by standard operators.

Input "X" (n, columns), float64: raw numbers, NaN where one is missing; of text the places in the tables of the metadata
"columns", which is JSON. Outputs are those of networks; of quantiles "quantiles" (n, quantiles, targets), too.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from nnc._interop.onnx import KINDS, Graph, check_size

if TYPE_CHECKING:
    from nnc._interop.table import Raw, TableProgram


def to_onnx_table(made: TableProgram) -> bytes:
    """The ONNX model; ValueError where it would be larger than 2 GiB."""
    check_size([network.operations for network in made.networks], "float32")
    graph = TableGraph("float64")
    encoded = [graph.column(column, j) for j, column in enumerate(made.columns)]
    inputs = {}
    for seen in {network.bins for network in made.networks}:
        parts = [part for plain, _ in encoded for part in plain] + [part for _, bins in encoded for part in bins * seen]
        inputs[seen] = graph.node("Cast", graph.node("Concat", *parts, axis=1), to=KINDS["float32"])
    outputs = []
    for network in made.networks:
        graph.dtype = "float32"
        at = graph.operations(network.operations, inputs[network.bins])
        graph.dtype = "float64"
        outputs.append(graph.meant(made, graph.node("Cast", at, to=KINDS["float64"])))
    total = graph.node("Sum", *outputs)
    at, several = graph.formed(made, graph.node("Div", total, graph.number(float(len(outputs)))))
    whole = made.whole.replace(n_out=made.n_targets)
    metadata = {"columns": json.dumps(made.described(), ensure_ascii=False)}
    if made.quantiles:
        metadata["quantiles"] = json.dumps(made.quantiles)
    return graph.model(whole.title, ("X", "float64", whole.shape), graph.answer(whole, at) + several, metadata)


class TableGraph(Graph):
    """A graph with formulas, and what is made of outputs."""

    def column(self, column: Raw, j: int) -> tuple[list[str], list[str]]:
        """Adds a raw column's plain ones, and its bins; their names, () of a column that is left out."""
        written = column.written
        if not written.plain:
            return [], []
        names = {"x": self.node("Gather", "X", self.tensor([j], (1,), "int64"), axis=1)}
        names |= {name: self.tensor(values, (len(values),)) for name, values in written.vectors.items()}
        for name, formula in written.steps.items():
            names[name] = self.formula(formula, names)
        bins = [] if written.bins is None else [written.bins]
        return [self.formula(text, names) for text in written.plain], [self.formula(text, names) for text in bins]

    def meant(self, made: TableProgram, at: str) -> str:
        """A network's outputs as probabilities at the temperature, or as numbers of the targets' size."""
        if made.temperature is not None:
            logs = self.node("Log", self.node("Max", at, self.number(sys.float_info.min)))
            return self.node("Softmax", self.node("Div", logs, self.number(made.temperature)), axis=1)
        if made.scale is not None:
            for operator, numbers in zip(("Div", "Add"), made.scale, strict=True):
                at = self.node(operator, at, self.tensor(numbers, (len(numbers),)))
        return at

    def formed(self, made: TableProgram, at: str) -> tuple[str, list[Any]]:
        """The mean within the bounds, quantiles sorted; the answer's name, and what comes out beside it."""
        n, shape = made.n_targets, (len(made.quantiles), made.n_targets)
        if made.quantiles:
            at = self.node("Reshape", at, self.tensor([-1, *shape], (3,), "int64"))
            at = self.node("TopK", at, self.tensor(shape[:1], (1,), "int64"), axis=1, largest=0, also="places")
        for operator, numbers in zip(("Max", "Min"), made.bounds or (), strict=False):
            at = self.node(operator, at, self.tensor(numbers, (n,)))
        if not made.quantiles:
            return at, []
        self.node("Identity", at, name="quantiles")
        middle = self.node("Gather", at, self.tensor([made.middle], (), "int64"), axis=1)
        return middle, [("quantiles", self.dtype, shape)]
