"""`nnc inspect FILE`: every layer, neuron, weight and bias of a network, or the report of the model of a table."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

import nnc
from nnc._cli.models import load
from nnc._cli.terminal import say, say_json

if TYPE_CHECKING:
    from argparse import Namespace

    from nnc.tabular.estimator import TableEstimator


def run(arguments: Namespace) -> int:
    model = load(arguments.file)
    if arguments.json:
        say_json(_facts(model))
    elif isinstance(model, nnc.NeuralNetwork):
        _inspect(model)
    elif isinstance(model, nnc.Ensemble):
        for i, network in enumerate(model.networks, 1):
            say(f"network {i} of {len(model)}")
            _inspect(network)
    else:
        say(model.report())
    return 0


def _inspect(network: nnc.NeuralNetwork) -> None:
    text = StringIO()
    network.inspect(text)
    say(text.getvalue().removesuffix("\n"))


def _facts(model: nnc.NeuralNetwork | nnc.Ensemble | TableEstimator) -> dict[str, Any]:
    if isinstance(model, nnc.NeuralNetwork):
        return {"kind": "network", **_of_network(model)}
    if isinstance(model, nnc.Ensemble):
        return {"kind": "ensemble", "networks": [_of_network(network) for network in model.networks]}
    whole = model.model_
    classes = None if whole.target.classes is None else whole.target.classes.tolist()
    facts = {key: value for key, value in whole.facts.items() if key != "settings"}
    held = {"rows": whole.held_out.n, "score": _or_null(whole.held_out.score)}
    return {
        "kind": type(model).__name__,
        "classes": classes,
        **facts,
        "held_out": held,
        "columns": [made._asdict() for made in whole.schema.describe()],
        "networks": [_of_network(network) for network in model.networks_],
    }


def _of_network(network: nnc.NeuralNetwork) -> dict[str, Any]:
    return {
        "layers": list(network.sizes),
        "activations": list(network.activations),
        "loss": network.loss_name,
        "dtype": network.dtype.name,
        "parameters": network.n_params,
        "classes": None if network.classes is None else network.classes.tolist(),
        "columns": None if network.feature_names is None else list(network.feature_names),
    }


def _or_null(value: float) -> float | None:
    return None if value != value else value
