"""Construction of the report of a fitted table model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnc._report.outcomes import ClassOutcomes
from nnc._report.page import Report
from nnc._report.sections import accuracy_headline, error_headline, percent
from nnc.tabular import file
from nnc.tabular.export import build_table_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nnc._report.outcomes import NumberOutcomes
    from nnc.tabular.model import TableModel


INDEPENDENCE = "independent rows; it may be too high for new groups (such as persons) and later times"


def summary(title: str, call: str, model: TableModel) -> Report:
    """Create the report of a model.

    Parameters
    ----------
    title : str
        Class name of the estimator.
    call : str
        Python expression that fits an equal model on the same data.
    model : TableModel
    """
    facts, held_out = model.facts, model.held_out
    feature_sets = sorted({member.features for member in model.members})
    sizes = model.members[0].network.sizes
    lines = {
        **({} if facts["target"] is None else {"target": facts["target"]}),
        "rows": f"{facts['rows']:,}",
        "networks": f"{len(model.members)} of {facts['trained']} trained, with layer sizes {sizes}",
        "inputs": " and ".join(features.description for features in feature_sets),
        "time": f"{facts['seconds']:.1f} s",
        "reproduce with": call,
    }
    if not facts["complete"]:
        lines["ended early"] = "by Ctrl-C or max_seconds; the call above trains all networks"
    metric = "accuracy" if model.task.kind == "classes" else "R^2"
    if held_out.n:
        lines["held-out rows"] = f"{held_out.n:,}: {metric} {held_out.score:.4g}"
        if held_out.class_scores is not None:
            scores, lines["baseline"] = held_out.class_scores.describe(held_out.score)
            lines["held-out rows"] = f"{held_out.n:,}: {scores}"
        if model.task.kind == "classes":
            lines["held-out rows"] += f", calibration error {held_out.calibration_error:.3g}"
        lines["score assumes"] = INDEPENDENCE
    lines["size"] = ", ".join(f"{name} {format_size(size)}" for name, size in file_sizes(model).items())
    if model.gain is not None and model.gain.is_noise:
        lines["one network"] = (
            f"as good within noise: the gain of all networks in {metric} is {model.gain.mean:.2g} +- "
            f"{model.gain.error:.2g}; use members=1 in save, to_onnx and to_c to write the best network"
        )
    importances = None
    if model.importances is not None:
        pairs = zip(*(part.tolist() for part in model.importances), strict=True)
        importances = dict(zip(model.schema.names, pairs, strict=True))
    curves = _mean_curve(model)
    return Report(
        title,
        lines,
        model.schema.describe(),
        importances,
        dict(list(curves.items())[:1]),
        page_curves=dict(list(curves.items())[1:]),
        heading=f"Prediction of {facts['target'] or 'a column'}",
        headline=_headline(model),
        validation=_describe_validation(model),
        labels=[] if model.target.classes is None else [str(label) for label in model.target.classes.tolist()],
        outcomes=_named_outcomes(model),
        score=metric,
    )


def _named_outcomes(model: TableModel) -> ClassOutcomes | dict[str, NumberOutcomes] | None:
    """Return the statistics of held-out rows for a Report; for regression, a dict by the name of the target."""
    outcomes = model.outcomes
    if not isinstance(outcomes, list):
        return outcomes
    name = model.facts["target"] or "target"
    return {name if len(outcomes) == 1 else f"{name} {j + 1}": target for j, target in enumerate(outcomes)}


def _headline(model: TableModel) -> str:
    """Return the most important result of a model in one or two sentences; "" without held-out rows."""
    held_out, outcomes, rows = model.held_out, _named_outcomes(model), "held-out rows"
    if not held_out.n:
        return ""
    if model.task.kind == "classes":
        return accuracy_headline(
            held_out.score, outcomes if isinstance(outcomes, ClassOutcomes) else None, held_out.n, rows
        )
    return error_headline(held_out.score, outcomes if isinstance(outcomes, dict) else {}, held_out.n, rows)


def _describe_validation(model: TableModel) -> list[str]:
    """Return paragraphs that describe how a model was validated."""
    held_out, folds = model.held_out, {member.spec.fold for member in model.members} - {None}
    if not held_out.n:
        return ["No rows were held out, so nothing is known about the quality of the model on new rows."]
    paragraphs = [
        f"{held_out.n:,} of {model.facts['rows']:,} rows were held out by cross-validation"
        + (f" with networks of {len(folds)} folds" if len(folds) > 1 else "")
        + ". Each of these rows was predicted only by networks that neither trained on it nor were selected by it. "
        "The charts count these predictions.",
        "The score assumes that rows are independent, as in a random sample. If several rows belong to one person, "
        "place or other group, or if rows are ordered by time, the score is too high for new groups or later times. "
        "In this case, train without some groups or the last rows, and compute the score on the rows that were left "
        "out.",
    ]
    if model.task.kind == "classes":
        paragraphs.append(
            f"The accuracy of {percent(held_out.score)} includes the expected gain of the mean of all networks over "
            "the networks that predict a held-out row. Therefore it may differ from that of the confusion matrix. The "
            f"calibration error of the probabilities is {held_out.calibration_error:.3g}."
        )
    if model.facts["weighted"] or model.facts["class_weight"] is not None:
        paragraphs.append("The score uses the weights of the rows; the charts count each row once.")
    return paragraphs


def _mean_curve(model: TableModel) -> dict[str, NDArray[np.float64]]:
    """Return {name: curve} of the validation loss of the members after each epoch, averaged over them.

    With several members, the lowest and the highest value of each epoch are further curves.
    """
    curves = [member.curve for member in model.members if member.curve]
    if not curves:
        return {}
    n_epochs = max(map(len, curves))
    # Extend the curve of a member that stopped early by its best value.
    extended = np.array([[*curve, *[min(curve)] * (n_epochs - len(curve))] for curve in curves])
    name = "validation loss"
    if len(curves) == 1:
        return {name: extended[0]}
    return {name: extended.mean(axis=0), "lowest": extended.min(axis=0), "highest": extended.max(axis=0)}


def file_sizes(model: TableModel) -> dict[str, int]:
    """Return the sizes in bytes of the model file and of its exports to ONNX and C.

    Files with one and with two members are created in memory. For more members, the sizes are extrapolated in
    proportion to the number of parameters.
    """
    from nnc._interop.c_table import to_c_table
    from nnc._interop.onnx_table import to_onnx_table

    writers: dict[str, Callable[[TableModel], int]] = {
        "file": lambda part: len(file.text(part)),
        "ONNX": lambda part: len(to_onnx_table(build_table_program(part))),
        "C": lambda part: len(to_c_table(build_table_program(part), "model").encode()),
    }
    one = model.with_members(1)
    first_sizes = {name: size(one) for name, size in writers.items()}
    if len(model.members) == 1:
        return first_sizes
    two = model.with_members(2)
    params = [sum(member.network.n_params for member in part.members) for part in (one, two, model)]
    ratio = (params[2] - params[0]) / (params[1] - params[0])
    return {name: round(first + (writers[name](two) - first) * ratio) for name, first in first_sizes.items()}


def format_size(size: int) -> str:
    """Format a size in bytes as text with a unit, such as "7.4 MB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"
