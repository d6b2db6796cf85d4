"""`nnc inspect FILE`: layers, neurons, weights and biases of a network, or the report of another model."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

import nnc
from nnc._cli.models import Network, load_any, networks_of
from nnc._cli.terminal import print_json, print_text
from nnc.forecast import Forecaster

if TYPE_CHECKING:
    from argparse import Namespace

    from nnc.tabular.estimator import TableEstimator
    from nnc.tabular.snapshots import HeldOut


def run(arguments: Namespace) -> int:
    """Run `nnc inspect` and return the exit status."""
    model = load_any(arguments.file)
    model = networks_of(model) if isinstance(model, Network) else model
    if arguments.json:
        print_json(_describe(model))
    elif isinstance(model, nnc.NeuralNetwork):
        _print_network(model)
    elif isinstance(model, nnc.Ensemble):
        for i, network in enumerate(model.networks, 1):
            print_text(f"network {i} of {len(model)}")
            _print_network(network)
    else:
        print_text(model.report())
    return 0


def _print_network(network: nnc.NeuralNetwork) -> None:
    text = StringIO()
    network.inspect(text)
    print_text(text.getvalue().removesuffix("\n"))


def _describe(model: nnc.NeuralNetwork | nnc.Ensemble | TableEstimator | Forecaster) -> dict[str, Any]:
    """Return the description of a model that --json prints; it does not contain the weights."""
    if isinstance(model, nnc.NeuralNetwork):
        return {"kind": "network", **_describe_network(model)}
    if isinstance(model, nnc.Ensemble):
        return {"kind": "ensemble", "networks": [_describe_network(network) for network in model.networks]}
    if isinstance(model, Forecaster):
        return {"kind": "Forecaster", **_describe_forecaster(model)}
    table_model = model.model_
    classes = None if table_model.target.classes is None else table_model.target.classes.tolist()
    facts = {key: value for key, value in table_model.facts.items() if key != "settings"}
    return {
        "kind": type(model).__name__,
        "classes": classes,
        **facts,
        "held_out": _describe_held_out(table_model.held_out),
        "columns": [column._asdict() for column in table_model.schema.describe()],
        "networks": [_describe_network(network) for network in model.networks_],
    }


def _describe_forecaster(model: Forecaster) -> dict[str, Any]:
    return {
        "horizon": model.horizon,
        "season": model.season_,
        "frequency": model.frequency_,
        "series": model.ids_,
        "columns": model.columns_,
        "needs_future": model.needs_future_,
        "weights": model.weights_,
        "naive_share": model.naive_share_,
        "networks": [_describe_network(network) for network in model.networks_],
    }


def _describe_held_out(held_out: HeldOut) -> dict[str, Any]:
    """Return the number of held-out rows and the scores of a table model."""
    scores = {} if held_out.class_scores is None else held_out.class_scores._asdict()
    return {
        "rows": held_out.n,
        **{name: _nan_to_none(value) for name, value in {"score": held_out.score, **scores}.items()},
    }


def _describe_network(network: nnc.NeuralNetwork) -> dict[str, Any]:
    return {
        "layers": list(network.sizes),
        "activations": list(network.activations),
        "loss": network.loss_name,
        "dtype": network.dtype.name,
        "parameters": network.n_params,
        "classes": None if network.classes is None else network.classes.tolist(),
        "columns": None if network.feature_names is None else list(network.feature_names),
    }


def _nan_to_none(value: float) -> float | None:
    """Return None for NaN, which does not exist in JSON, and other numbers unchanged."""
    return None if value != value else value
