"""`nnc explain MODEL [DATA]`: importance of each column for a model, or its contribution to predictions."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from nnc._cli import outputs, tables
from nnc._cli.arguments import UsageError
from nnc._cli.formats import TextOptions, open_table
from nnc._cli.models import Network, load, load_table_model, refuse_existing, select_network
from nnc._cli.predict_table import read_batches
from nnc._cli.terminal import print_json, print_text
from nnc._utils.text_table import aligned
from nnc.tabular import TableClassifier

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from nnc.tabular.estimator import TableEstimator
    from nnc.tabular.explain import Explanations

BAR_WIDTH = 30  # length of the longest printed bar in characters
MAX_PRINTED_COLUMNS = 12  # maximum number of contributions printed per row; the others are summed in one more line


def run(arguments: Namespace) -> int:
    """Run `nnc explain` and return the exit status."""
    refuse_existing(arguments.output, arguments.force)
    network = load(arguments.file)
    if isinstance(network, Network) and len(select_network(network, 1).model.stack.input_shape) == 3:
        from nnc._cli.image_models import explain

        return explain(network, arguments)
    model = load_table_model(arguments.file, "explain")
    label = _find_label(model, arguments.label)
    if arguments.rows is None:
        if arguments.label is not None:
            raise UsageError("--label requires DATA, the rows to explain")
        _report_importances(model, arguments)
        return 0
    with open_table(arguments.rows, TextOptions.from_arguments(arguments), model.model_.schema.names) as file:

        def explain_batches() -> Iterator[tuple[int, Explanations]]:
            remaining = arguments.first
            for start, _, X in read_batches(model, file, arguments.file):
                batch = X.head(remaining) if arguments.first else X
                with tables.locate_errors(file, start):
                    yield start, model.explain(batch, label) if label is not None else model.explain(batch)
                remaining -= len(batch)
                if remaining <= 0:
                    return

        if arguments.output is not None:
            outputs.write((_to_frame(batch) for _, batch in explain_batches()), arguments.output)
        elif arguments.json:
            frames = pl.concat([_to_frame(batch) for _, batch in explain_batches()])
            print_json(frames.to_dicts())
        else:
            for start, batch in explain_batches():
                _print_explanations(batch, start)
    return 0


def _find_label(model: TableEstimator, text: str | None) -> Any:
    """Return the class label whose string equals `text`; raise UsageError if the model has no such class."""
    if text is None:
        return None
    if not isinstance(model, TableClassifier):
        raise UsageError("--label is only for classification, but this model is a regression model")
    labels = model.classes_.tolist()
    for label in labels:
        if str(label) == text:
            return label
    choices = ", ".join(map(str, islice(labels, 10)))
    raise UsageError(f"--label must be a class of the model, such as {choices}, got {text!r}")


def _report_importances(model: TableEstimator, arguments: Namespace) -> None:
    """Print or write the importance of each column: the decrease of the score if the column is shuffled."""
    values = dict(zip(model.model_.schema.names, model.find_importances().tolist(), strict=True))
    values = dict(sorted(values.items(), key=lambda pair: -pair[1]))
    if arguments.output is not None:
        frame = pl.DataFrame({"column": list(values), "importance": list(values.values())})
        outputs.write(iter([frame]), arguments.output)
        return
    if arguments.json:
        print_json(values)
        return
    score = "accuracy" if isinstance(model, TableClassifier) else "R^2"
    print_text(f"decrease of the {score} on held-out rows if a column is shuffled\n")
    scale = BAR_WIDTH / max(*values.values(), 1e-12)
    lines = [[_shorten(name), f"{value:.4f}", "#" * round(scale * max(value, 0))] for name, value in values.items()]
    print_text("\n".join(aligned(lines)))


def _to_frame(batch: Explanations) -> pl.DataFrame:
    """Return a frame with the prediction, the baseline and the contribution of each column for each row."""
    classes = {} if batch.labels is None else {"class": batch.labels}
    predictions = batch.contributions.sum(axis=1) + batch.baseline
    contributions = {f"from_{name}": batch.contributions[:, j] for j, name in enumerate(batch.names)}
    return pl.DataFrame({**classes, "prediction": predictions, "baseline": batch.baseline, **contributions})


def _print_explanations(batch: Explanations, start: int) -> None:
    """Print the contributions of the columns to the prediction of each row, in decreasing order of magnitude."""
    for i, (contributions, baseline) in enumerate(zip(batch.contributions, batch.baseline, strict=True)):
        total = contributions.sum() + baseline
        print_text(f"row {start + i + 1}: {batch.quantity(i)} {total:.5g}, baseline (mean row) {baseline:.5g}")
        order = [j for j in np.argsort(-np.abs(contributions)) if contributions[j]]
        scale = BAR_WIDTH / max(np.abs(contributions).max(), 1e-12)
        lines = [
            [f"  {_shorten(batch.names[j])}", f"{contributions[j]:+.4g}",
             ("-" if contributions[j] < 0 else "+") * max(1, round(scale * abs(contributions[j])))]
            for j in order[:MAX_PRINTED_COLUMNS]
        ]  # fmt: skip
        if lines:
            print_text("\n".join(aligned(lines)))
        if len(order) > MAX_PRINTED_COLUMNS:
            remainder = contributions[order[MAX_PRINTED_COLUMNS:]].sum()
            print_text(f"  {len(order) - MAX_PRINTED_COLUMNS} other columns: {remainder:+.4g}")
        print_text()


def _shorten(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "~"
