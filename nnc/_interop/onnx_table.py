"""Writer of ONNX models for table models; the graph encodes raw columns by standard operators.

The input "X" (n, inputs) has raw numbers in float64, with NaN for missing values. A text is passed as its index in the
levels of its column; the metadata "columns" lists these levels as JSON. Free text is passed as its number of words and
bit masks of words, see nnc/_tables/words.py. The outputs have the names that onnx.py describes. If the model predicts
quantiles, there is also the output "quantiles" (n, quantiles, targets).
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from nnc._interop.onnx import ELEMENT_TYPES, Graph, check_size

if TYPE_CHECKING:
    from nnc._interop.table import RawColumn, TableProgram


def to_onnx_table(model: TableProgram) -> bytes:
    """Export a table model as an ONNX model; raise ValueError if the file would be larger than 2 GiB."""
    check_size([network.operations for network in model.networks], "float32")
    graph = TableGraph("float64")
    encoded = [graph.column(column, j) for j, column in enumerate(model.columns)]
    inputs = {}
    for n_blocks in {network.n_blocks for network in model.networks}:
        parts = [part for block in range(n_blocks) for blocks in encoded for part in blocks[block]]
        inputs[n_blocks] = graph.node("Cast", graph.node("Concat", *parts, axis=1), to=ELEMENT_TYPES["float32"])
    predictions = []
    for network in model.networks:
        graph.dtype = "float32"
        value = graph.operations(network.operations, inputs[network.n_blocks])
        graph.dtype = "float64"
        predictions.append(graph.prediction(model, graph.node("Cast", value, to=ELEMENT_TYPES["float64"])))
    total = graph.node("Sum", *predictions)
    mean = graph.node("Div", total, graph.number(float(len(predictions))))
    value, quantiles = graph.postprocessed(model, mean)
    interface = model.interface.replace(output_shape=(model.n_targets,))
    metadata = {"columns": json.dumps(model.column_metadata(), ensure_ascii=False)}
    if model.quantiles:
        metadata["quantiles"] = json.dumps(model.quantiles)
    outputs = graph.outputs(interface, value) + quantiles
    return graph.model(interface.title, ("X", "float64", interface.shape), outputs, metadata)


class TableGraph(Graph):
    """Builder of the ONNX graph of a table model."""

    def column(self, column: RawColumn, j: int) -> list[list[str]]:
        """Add nodes to the graph that encode a raw column; return their names for each block of features."""
        encoding = column.formulas
        if not any(encoding.blocks):
            return [[] for _ in encoding.blocks]
        names = {"x": self.node("Gather", "X", self.tensor([j], (1,), "int64"), axis=1)}
        names |= {name: self.tensor(values, (len(values),)) for name, values in encoding.vectors.items()}
        for name, formula in encoding.variables.items():
            names[name] = self.formula(formula, names)
        return [[self.formula(text, names) for text in block] for block in encoding.blocks]

    def prediction(self, model: TableProgram, value: str) -> str:
        """Add nodes to the graph that convert outputs to calibrated probabilities or to the units of the targets."""
        if model.temperature is not None:
            logs = self.node("Log", self.node("Max", value, self.number(sys.float_info.min)))
            return self.node("Softmax", self.node("Div", logs, self.number(model.temperature)), axis=1)
        if model.target_scaling is not None:
            for operator, numbers in zip(("Div", "Add"), model.target_scaling, strict=True):
                value = self.node(operator, value, self.tensor(numbers, (len(numbers),)))
        return value

    def postprocessed(self, model: TableProgram, value: str) -> tuple[str, list[Any]]:
        """Add the nodes that sort the predicted quantiles in ascending order and clip predictions to `model.bounds`.

        Return the name of the point prediction, and the descriptions of additional outputs.
        """
        n, shape = model.n_targets, (len(model.quantiles), model.n_targets)
        if model.quantiles:
            value = self.sorted_groups(value, *shape)
        for operator, numbers in zip(("Max", "Min"), model.bounds or (), strict=False):
            value = self.node(operator, value, self.tensor(numbers, (n,)))
        if not model.quantiles:
            return value, []
        self.node("Identity", value, name="quantiles")
        middle_quantile = self.node("Gather", value, self.tensor([model.middle_index], (), "int64"), axis=1)
        return middle_quantile, [("quantiles", self.dtype, shape)]
