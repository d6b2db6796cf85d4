"""Description of a table model for exporters to ONNX and C."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from nnc._interop.program import Program, build_members
from nnc._interop.table import TableNetwork, TableProgram
from nnc._tables.notices import ColumnWarning

if TYPE_CHECKING:
    from nnc.tabular.model import TableModel


def build_table_program(model: TableModel) -> TableProgram:
    """Build the TableProgram of a model, from which the exporters in nnc/_interop write ONNX and C."""
    task, target, schema, scaling = model.task, model.target, model.schema, model.scaling
    classes = target.classes is not None
    operations, title = build_members(model.networks.export_documents())
    n_blocks = [member.features.n_blocks for member in model.members]
    columns, example = schema.raw(), schema.example()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ColumnWarning)  # do not warn the user about an artificial example row
        test = {"X": schema.codes(example)[0].tolist(), "P": model.predict(example).ravel().tolist()}
    interface = Program(
        "float32",
        (len(columns),),
        (),
        (task.n_network_outputs,),
        "multiclass" if classes else "regression",
        0.0,
        classes,
        () if target.classes is None else tuple(target.classes.tolist()),
        test,
        title,
        None,
    )
    repeats = max(1, len(task.quantiles))
    return TableProgram(
        interface,
        tuple(columns),
        tuple(map(TableNetwork, n_blocks, operations)),
        model.held_out.temperature if classes else None,
        None if scaling is None else (scaling.factor.tolist() * repeats, scaling.shift.tolist() * repeats),
        task.quantiles,
        model.median_index,
        None if model.bounds is None else (model.bounds[0].tolist(), model.bounds[1].tolist()),
    )
