"""The report of a fitted model of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnc.tabular import file
from nnc.tabular.export import build_table_program
from nnc.tabular.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from nnc.tabular.model import TableModel


def summary(title: str, call: str, model: TableModel) -> Report:
    """Return the report of a model.

    Parameters
    ----------
    title : str
        Class of the estimator.
    call : str
        Expression that fits the same model again.
    model : TableModel
    """
    facts, held = model.facts, model.held_out
    encodings = {True: "numbers in bins", False: "plain numbers"}
    told = {
        **({} if facts["target"] is None else {"target": facts["target"]}),
        "rows": f"{facts['rows']:,}",
        "networks": f"{len(model.members)} of {facts['trained']} trained, each of {model.members[0].network.sizes}",
        "inputs": " and ".join(encodings[bins] for bins in sorted(model.encodings)),
        "time": f"{facts['seconds']:.1f} s",
        "reproduce with": call,
    }
    if not facts["complete"]:
        told["ended early"] = "by Ctrl-C or max_seconds: the call above trains all networks"
    measure = "accuracy" if model.task.kind == "classes" else "R^2"
    if held.n:
        told["held-out rows"] = f"{held.n:,}: {measure} {held.score:.4g}"
        if model.task.kind == "classes":
            told["held-out rows"] += f", calibration error {held.calibration_error:.3g}"
    told["size"] = ", ".join(f"{name} {in_words(size)}" for name, size in file_sizes(model).items())
    if model.gain is not None and model.gain.is_noise:
        told["one network"] = (
            f"as good within noise: all together gain {model.gain.mean:.2g} +- {model.gain.error:.2g} in {measure}; "
            "members=1 of save, to_onnx and to_c writes the best one"
        )
    importances = None
    if model.importances is not None:
        pairs = zip(*(part.tolist() for part in model.importances), strict=True)
        importances = dict(zip(model.schema.names, pairs, strict=True))
    curves = [member.curve for member in model.members if member.curve]
    shown = {}
    if curves:
        name, best = ("accuracy", max) if model.task.kind == "classes" else ("loss", min)
        most = max(map(len, curves))  # a member that was over earlier stays as good as it is
        whole = [[*curve, *[best(curve)] * (most - len(curve))] for curve in curves]
        shown[f"{name} that chooses the epoch"] = np.mean(whole, axis=0)
    return Report(title, told, model.schema.describe(), importances, shown)


def file_sizes(model: TableModel) -> dict[str, int]:
    """Return the size in bytes of the model's file and of its exports as ONNX and C.

    Files with one and with two members are made in memory; each further member adds as much as the second one, in
    proportion to its parameters.
    """
    from nnc._interop.c_table import to_c_table
    from nnc._interop.onnx_table import to_onnx_table

    writers: dict[str, Callable[[TableModel], int]] = {
        "file": lambda part: len(file.text(part)),
        "ONNX": lambda part: len(to_onnx_table(build_table_program(part))),
        "C": lambda part: len(to_c_table(build_table_program(part), "model").encode()),
    }
    one = model.with_members(1)
    firsts = {name: size(one) for name, size in writers.items()}
    if len(model.members) == 1:
        return firsts
    two = model.with_members(2)
    params = [sum(member.network.n_params for member in part.members) for part in (one, two, model)]
    share = (params[2] - params[0]) / (params[1] - params[0])
    return {name: round(first + (writers[name](two) - first) * share) for name, first in firsts.items()}


def in_words(size: int) -> str:
    """Return a size in bytes with a unit: "7.4 MB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"
