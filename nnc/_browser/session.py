"""Answers to the requests of the page of `nnc demo --browser`: data, networks, training and explanations.

Each request contains the network as JSON text and the rows, so the server has no state and pages do not share anything.
"""

from __future__ import annotations

import csv
import inspect
import io
import math
import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from nnc import NeuralNetwork, from_json
from nnc._inspection.explain import explain_step
from nnc._utils.fields import describe
from nnc.layers import Dense, Input
from nnc.reference import layers as reference_layers
from nnc.reference import network as reference_network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Array = NDArray[Any]

# `answer` reads the annotations of the handlers to check the values of a request.
Answer = dict[str, Any]
Rows = list[list[float]]

MAX_ROWS = 2000  # largest number of rows of a data set
MAX_HIDDEN_LAYERS = 4
MAX_UNITS = 12  # largest number of neurons of a layer; explanations of larger layers would omit numbers
MAX_EPOCHS = 100_000  # largest number of epochs of one request
MAX_NUMBER = 1e9  # largest absolute value of a number of a request
GRID_POINTS = 41  # number of points along each side of the grid on which the decision boundary is computed
ACTIVATIONS = ("sigmoid", "tanh", "relu")  # activations that the plain-Python reference supports


def answer(request: str, values: Answer, is_stopping: Callable[[], bool] = lambda: False) -> Answer:
    """Return the answer to a request of the page, as a dict for JSON.

    Parameters
    ----------
    request : str
        Name of the request.
    values : dict
        Values of the request by name. The annotations of the handler are their types.
    is_stopping : callable, optional
        Returns whether the server is stopping. A training then ends after the current epoch.

    Raises
    ------
    ValueError
        The request or one of its values is invalid.
    """
    if not isinstance(values, dict):
        raise ValueError(f"the values of a request must be an object, got {type(values).__name__}")
    handlers: dict[str, Callable[..., Answer]] = {
        "data": example_data,
        "csv": csv_data,
        "create": create,
        "show": show,
        "train": partial(train, is_stopping),
        "explain": explain,
    }
    if request not in handlers:
        raise ValueError(f"request must be one of {', '.join(handlers)}, got {request!r}")
    signature = inspect.signature(handlers[request], eval_str=True)
    try:
        signature.bind(**values)
    except TypeError as error:
        raise ValueError(f"the values of {request} must be {', '.join(signature.parameters)}: {error}") from None
    for name, value in values.items():
        _check_type(name, value, signature.parameters[name].annotation)
    return handlers[request](**values)


def _check_type(name: str, value: Any, expected: Any) -> None:
    """Raise ValueError unless a value from JSON has the type of an annotation, such as list[list[float]]."""
    if expected is float:
        if type(value) not in (int, float) or not abs(value) <= MAX_NUMBER:
            raise ValueError(f"{name} must be a number from -{MAX_NUMBER:g} to {MAX_NUMBER:g}, got {describe(value)}")
    elif get_args(expected):
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list, got {describe(value)}")
        for each in value:
            _check_type(f"each value of {name}", each, *get_args(expected))
    elif expected is not Any and type(value) is not expected:
        kind = {int: "a whole number", str: "text"}[expected]
        raise ValueError(f"{name} must be {kind}, got {describe(value)}")


# ------------------------------------------------------------------------------------------------ data


def example_data(name: str) -> Answer:
    """Return the rows of an example: "xor" of the tutorial, "circle" or "spiral"."""
    rng = np.random.default_rng(0)
    if name == "xor":  # use the rows of the tutorial, whose third input is always 1
        X, y = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]), np.array([0, 1, 1, 0])
    elif name == "circle":
        X = rng.uniform(-1, 1, (200, 2))
        y = np.hypot(X[:, 0], X[:, 1]) < 0.6
    elif name == "spiral":
        t, arm = np.tile(np.linspace(0.15, 1, 100), 2), np.repeat([0, 1], 100)
        angle = 1.75 * math.pi * t + math.pi * arm
        X = np.column_stack([t * np.cos(angle), t * np.sin(angle)]) + rng.normal(0, 0.02, (200, 2))
        y = arm
    else:
        raise ValueError(f"data must be xor, circle or spiral, got {name!r}")
    return _rows(X, y, ["x0", "x1"], ["0", "1"])


def csv_data(text: str, inputs: list[str], target: str) -> Answer:
    """Return the rows of two numeric columns and a column with two values of a CSV text; inputs are scaled to -1 to 1.

    If `target` is empty, return only the names of the columns.
    """
    try:
        table = [row for row in csv.reader(io.StringIO(text.lstrip("\ufeff"))) if row]
    except csv.Error as error:
        raise ValueError(f"the CSV file cannot be read: {error}") from None
    if len(table) < 3 or len({len(row) for row in table}) > 1:
        raise ValueError("the CSV file must have a header and at least 2 rows with equal numbers of columns")
    names, rows = table[0], table[1:]
    if not target:
        return {"columns": names}
    if len(rows) > MAX_ROWS:
        raise ValueError(f"the CSV file must have at most {MAX_ROWS} rows, got {len(rows)}")
    if len(inputs) != 2 or not {*inputs, target} <= set(names):
        raise ValueError(f"the columns must be two inputs and a target of the CSV file, got {inputs} and {target!r}")
    columns = []
    for name in inputs:
        try:
            x = np.array([float(row[names.index(name)]) for row in rows])
        except ValueError as error:
            raise ValueError(f"column {name!r} must have numbers: {error}") from None
        half_low, half_high = x.min() / 2, x.max() / 2  # halves, because the difference of large numbers can overflow
        if not np.isfinite(x).all() or half_low == half_high:
            raise ValueError(f"column {name!r} must have at least two different finite numbers")
        columns.append((x - (half_low + half_high)) / (half_high - half_low))
    labels = [row[names.index(target)] for row in rows]
    classes = sorted(set(labels))
    if len(classes) != 2:
        raise ValueError(f"column {target!r} must have 2 different values, got {len(classes)}; choose another target")
    return _rows(np.column_stack(columns), np.array([classes.index(label) for label in labels]), inputs, classes)


def _rows(X: Array, y: Array, names: list[str], classes: list[str]) -> Answer:
    """Return the answer that contains a data set."""
    return {"X": X.tolist(), "y": y.astype(int)[:, None].tolist(), "names": names, "classes": classes}


# ------------------------------------------------------------------------------------------------ networks


def create(X: Rows, y: Rows, hidden: list[Any], activation: Any, seed: int) -> Answer:
    """Return a new network with hidden layers of these sizes and one output."""
    if len(hidden) > MAX_HIDDEN_LAYERS or not all(type(n) is int and 1 <= n <= MAX_UNITS for n in hidden):
        raise ValueError(f"layers must be at most {MAX_HIDDEN_LAYERS} numbers from 1 to {MAX_UNITS}, got {hidden}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    inputs, target = _arrays(X, y)
    layers = [Input(inputs.shape[1]), *(Dense(n, activation) for n in hidden), Dense(1, "sigmoid")]
    # Sum the loss over the four rows of the tutorial. For other data use the mean, which is independent of the number
    # of rows.
    return _shown(NeuralNetwork(layers, loss="sse" if len(X) == 4 else "mse", seed=seed), inputs, target, 0)


def show(network: str, X: Rows, y: Rows, row: int = 0) -> Answer:
    """Return loss, drawing and decision boundary of a network, such as a network that the user has loaded."""
    inputs, target = _arrays(X, y)
    return _shown(_network(network, inputs), inputs, target, row)


def train(
    is_stopping: Callable[[], bool], network: str, X: Rows, y: Rows, epochs: int, lr: float, row: int = 0
) -> Answer:
    """Train by gradient descent on all rows until `is_stopping` returns True.

    The answer is that of `show`, with the loss before each epoch and the warnings of the training.
    """
    inputs, target = _arrays(X, y)
    net = _network(network, inputs)
    if not 1 <= epochs <= MAX_EPOCHS:
        raise ValueError(f"epochs must be a number from 1 to {MAX_EPOCHS}, got {epochs}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = net.fit(
            inputs,
            target,
            epochs=epochs,
            lr=lr,
            optimizer="sgd",
            batch_size=len(X),
            callback=lambda record: is_stopping(),
            n_threads=1,
        )
    messages = [str(warning.message) for warning in caught]
    return {"losses": history.loss.tolist(), "warnings": messages, **_shown(net, inputs, target, row)}


def _arrays(X: Rows, y: Rows) -> tuple[Array, Array]:
    """Return the inputs and the targets of a request as arrays."""
    n_inputs, n_targets = {len(row) for row in X}, {len(row) for row in y}
    if not 1 <= len(X) == len(y) <= MAX_ROWS or n_inputs not in ({2}, {3}) or n_targets != {1}:
        raise ValueError(
            f"data must have 1 to {MAX_ROWS} rows of 2 or 3 inputs and one target, got {len(X)} rows of "
            f"{sorted(n_inputs)} inputs and {len(y)} rows of {sorted(n_targets)} targets"
        )
    return np.array(X, np.float64), np.array(y, np.float64)


def _network(text: str, X: Array) -> NeuralNetwork:
    """Return the network in a JSON text; raise ValueError unless it has the inputs of X and one output."""
    net = from_json(text)
    if not isinstance(net, NeuralNetwork):
        raise ValueError(f"the file must have a NeuralNetwork, got {type(net).__name__}; load it with nnc.load")
    is_small = all(layer.kind.type == "dense" and layer.n_out <= MAX_UNITS for layer in net.layers)
    if net.sizes[0] != X.shape[1] or net.sizes[-1] != 1 or not is_small or len(net.sizes) > MAX_HIDDEN_LAYERS + 2:
        raise ValueError(
            f"the network must have {X.shape[1]} inputs, one output and dense layers of at most {MAX_UNITS} neurons, "
            f"got {'-'.join(map(str, net.sizes))}; choose the data of this network first"
        )
    if net.model.loss_function is not None:
        raise ValueError("the network must have a named loss such as 'mse', got a network with heads")
    return net


def _shown(net: NeuralNetwork, X: Array, y: Array, row: int) -> Answer:
    """Return the network with its loss, its drawing and its outputs on a grid around the rows."""
    low, high = X[:, :2].min(axis=0), X[:, :2].max(axis=0)
    margin = 0.15 * (high - low)
    sides = np.linspace(low - margin, high + margin, GRID_POINTS).T
    points = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    points = np.hstack([points, np.tile(X[0, 2:], (len(points), 1))])
    loss, outputs = net.evaluate_loss(X, y), net.predict(points)[:, 0]
    if not (math.isfinite(loss) and np.isfinite(outputs).all()):
        raise ValueError("the loss and the outputs of the network must be finite; use smaller weights or data")
    return {
        "network": net.to_json(),
        "hidden": list(net.sizes[1:-1]),
        "loss": loss,
        "svg": net.to_svg(row=X[row % len(X)], neurons=MAX_UNITS),
        "grid": outputs.round(3).tolist(),
        "bounds": [[float(side[0]), float(side[-1])] for side in sides],
    }


# ------------------------------------------------------------------------------------------------ explanations


def explain(network: str, X: Rows, y: Rows, row: int, lr: float) -> Answer:
    """Return the lines of `explain_step` for one row, each with the line of the plain-Python reference."""
    inputs, target = _arrays(X, y)
    net, row = _network(network, inputs), row % len(X)
    data, converter = net.converter.data(inputs[row : row + 1], target[row : row + 1]), net.converter
    scalings = {"scaling_X": converter.scaling_X, "scaling_y": converter.scaling_y}
    # Do not call the method of the network, which would also print the text in the terminal of the server.
    explanation = str(explain_step(net, data.X, data.target, lr, **scalings))
    return {"lines": [{"text": text, "code": code} for text, code in _with_reference(explanation, net)]}


def _with_reference(explanation: str, net: NeuralNetwork) -> Iterator[tuple[str, str]]:
    """Yield each line of an explanation with the code line of nnc/reference that computes it, or ""."""
    Dense, Network = reference_layers.Dense, reference_network.NeuralNetwork
    sources = [
        (r"^ +Row \d+, output", reference_network.squared_error, "return sum("),
        (r"^ L = ", Network.evaluate_loss, "return self._scale"),
        (r"(^|: )z = ", reference_layers.product, "return [[sum("),
        (r"^ +a = ", Dense.forward, "return [[f("),
        (r"delta = ", Dense.backward, "delta = [["),
        (r"dL/dw = ", Dense.backward, "dW = product("),
        (r"dL/db = ", Dense.backward, "db = [sum("),
        (r"^ +w = ", Network._step, "layer.W = "),
        (r"^ +b = ", Network._step, "layer.b = "),
    ]
    names = [*(f"Hidden Layer {i}" for i in range(1, len(net.sizes) - 1)), "Output Layer"]
    layer = ""
    for line in filter(None, explanation.split("\n")):
        layer = next((name for name in names if line.startswith(f" {name}")), layer)
        code = ""
        if re.search(r"dL/da = ", line):
            is_output = layer == "Output Layer"
            code = _code(Network._backward_group, "dA: Rows") if is_output else _code(Dense.input_gradient, "return")
        elif re.match(r" +da/dz = ", line):
            code = _code(reference_layers, f'"{net.activations[names.index(layer)]}": (')
        elif line.startswith("  "):
            code = next((_code(source, text) for pattern, source, text in sources if re.search(pattern, line)), "")
        elif match := next((each for each in sources[:2] if re.search(each[0], line)), None):
            code = _code(match[1], match[2])
        yield line, code


def _code(source: Any, start: str) -> str:
    """Return the first line of a function or module that begins with `start`, with its file name and line number."""
    lines, first = inspect.getsourcelines(source)
    index = next(i for i, line in enumerate(lines) if line.strip().startswith(start))
    return f"{inspect.getmodule(source).__name__.rpartition('.')[2]}.py:{max(first, 1) + index}  {lines[index].strip()}"  # type: ignore[union-attr]
