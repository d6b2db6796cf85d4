"""Writers of forecast models as C headers and ONNX models: the corrections of a statistical forecast.

The inputs are the last observations, oldest first, the statistical forecast, the forecasts of the members at some
steps, and covariates. Their scaling is computed in double precision, the networks in single precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nnc._interop.c_table import DoubleSource, double_initializer, double_literal
from nnc._interop.onnx import ELEMENT_TYPES, Graph, check_size

if TYPE_CHECKING:
    from nnc._interop.program import Program
    from nnc.layers.operations import Operation

INPUTS = """\
Inputs, seasonally adjusted: the last $lookback observations, oldest first; the statistical forecast for $n_out
   steps; for each of $members members, its forecasts for the steps $steps; $extra covariates."""
OUTPUTS = "Outputs: the corrected forecast for $n_out steps, seasonally adjusted."
PREDICT = """\
/* Add the outputs of a network to out, multiplied by a weight and the units of the outputs. */
static inline void ${name}_add_outputs(const float *P, double weight, double *out)
{
    static const double unit[${NAME}_N_OUT] = $unit;
    int i;
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] += weight * unit[i] * (double)P[i];
}

/* Compute the corrected forecast from ${NAME}_N_IN inputs. */
static inline void ${name}_predict(const double *row, double *out)
{
    static const double divisor[$width] = $divisor;
    static const int steps[$n_steps] = $steps;
    $buffers
    const double *forecast = row + $lookback, *members = forecast + ${NAME}_N_OUT;
    const double last = row[$lookback - 1];
    double scale = 0, smallest = $relative_scale * fabs(last) + $min_scale;
    int i, j = 0;
    for (i = 1; i < $lookback; i++)
        scale += fabs(row[i] - row[i - 1]);
    scale /= $lookback - 1;
    scale = scale > smallest ? scale : smallest;
    for (i = $lookback - 2; i >= 0; i--, j++)
        in[j] = (float)(asinh((row[i] - last) / scale / $squash) * $squash / divisor[j]);
    for (i = 0; i < ${NAME}_N_OUT; i++, j++)
        in[j] = (float)(asinh((forecast[i] - last) / scale / $squash) * $squash / divisor[j]);
    for (i = 0; i < $members * $n_steps; i++, j++)
        in[j] = (float)(asinh((members[i] - forecast[steps[i % $n_steps]]) / scale / $squash) * $squash / divisor[j]);
    for (; j < $width; i++, j++)
        in[j] = (float)(members[i] / divisor[j]);
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] = 0;
    $calls
    for (i = 0; i < ${NAME}_N_OUT; i++)
        out[i] = forecast[i] + scale * out[i];
}
"""


class ForecastProgram(NamedTuple):
    """Corrections of a forecast model in the form in which they are exported.

    Attributes
    ----------
    interface : Program
        Description of inputs and outputs, with the self-test. It has no operations.
    lookback, members : int
        Number of observations that the networks read, and number of statistical members.
    steps : list of int
        Steps of the forecasts of the members that the networks read, from 0.
    squash, relative_scale, min_scale : float
        Constants of the input scaling, see nnc/forecast/windows.py.
    networks : list of (float, tuple of Operation)
        Weight and operations of each network.
    divisor, unit : lists of float
        Divisors of the inputs and factors of the outputs of the networks.
    """

    interface: Program
    lookback: int
    members: int
    steps: list[int]
    squash: float
    relative_scale: float
    min_scale: float
    networks: list[tuple[float, tuple[Operation, ...]]]
    divisor: list[float]
    unit: list[float]


def to_c_forecast(model: ForecastProgram, name: str) -> str:
    """Return the text of a C header; raise ValueError if `name`, the prefix of its names, is not a C identifier."""
    source, interface, n_steps = DoubleSource(name), model.interface, len(model.steps)
    width, horizon = len(model.divisor), len(model.unit)
    source.buffers = {"in": width, **source.buffers}
    for weight, operations in model.networks:
        source.add_network(operations, double_literal(weight))
    values = {
        "lookback": model.lookback,
        "members": model.members,
        "n_out": horizon,
        "extra": interface.n_in - model.lookback - horizon - model.members * n_steps,
    }
    inputs = source.fill(INPUTS, steps=", ".join(str(step + 1) for step in model.steps), **values)
    texts = {"subject": "Corrections of a statistical forecast", "inputs": inputs, "remark": ""}
    predict = source.predict_function(
        PREDICT,
        unit=double_initializer(model.unit),
        divisor=double_initializer(model.divisor),
        width=width,
        steps="{" + ", ".join(map(str, model.steps)) + "}",
        n_steps=n_steps,
        relative_scale=double_literal(model.relative_scale),
        min_scale=double_literal(model.min_scale),
        squash=double_literal(model.squash),
        **values,
    )
    return source.complete(interface, {**texts, "outputs": source.fill(OUTPUTS, **values)}, [], [predict])


def to_onnx_forecast(model: ForecastProgram) -> bytes:
    """Return an ONNX model with the input "X" (n, inputs) and the output "output" (n, horizon) in float64."""
    check_size([operations for _, operations in model.networks], "float32")
    graph, interface, horizon = Graph("float64"), model.interface, len(model.unit)
    n, first_member = interface.n_in, model.lookback + horizon
    width = len(model.divisor)
    n_scaled = model.lookback - 1 + horizon + model.members * len(model.steps)
    # Each scaled input of the networks is the difference of two inputs of the model.
    pairs = [(i, model.lookback - 1) for i in range(model.lookback - 2, -1, -1)]
    pairs += [(model.lookback + i, model.lookback - 1) for i in range(horizon)]
    for member in range(model.members):
        for k, step in enumerate(model.steps):
            pairs.append((first_member + member * len(model.steps) + k, model.lookback + step))

    def columns(indices: list[int]) -> str:
        """Return the value that contains some columns of the input."""
        return graph.node("Gather", "X", graph.tensor(indices, (len(indices),), "int64"), axis=1)

    def difference(indices: list[tuple[int, int]]) -> str:
        """Return the value with the difference of two columns of the input for each pair."""
        return graph.node("Sub", columns([a for a, _ in indices]), columns([b for _, b in indices]))

    changes = graph.node("Abs", difference([(i, i - 1) for i in range(1, model.lookback)]))
    weights = graph.tensor([1 / (model.lookback - 1)] * (model.lookback - 1), (model.lookback - 1, 1))
    mean = graph.node("MatMul", changes, weights)
    smallest = graph.node("Mul", graph.node("Abs", columns([model.lookback - 1])), graph.number(model.relative_scale))
    scale = graph.node("Max", mean, graph.node("Add", smallest, graph.number(model.min_scale)))
    z = graph.node("Div", graph.node("Div", difference(pairs), scale), graph.number(model.squash))
    # asinh(z) = sign(z) log(|z| + sqrt(z z + 1)); the operator Asinh does not support float64 in all runtimes.
    root = graph.node("Sqrt", graph.node("Add", graph.node("Mul", z, z), graph.number(1.0)))
    magnitude = graph.node("Log", graph.node("Add", graph.node("Abs", z), root))
    parts = [graph.node("Mul", graph.node("Mul", graph.node("Sign", z), magnitude), graph.number(model.squash))]
    if width > n_scaled:
        parts.append(columns(list(range(n - (width - n_scaled), n))))
    value = parts[0] if len(parts) == 1 else graph.node("Concat", *parts, axis=1)
    divided = graph.node("Div", value, graph.tensor(model.divisor, (width,)))
    inputs = graph.node("Cast", divided, to=ELEMENT_TYPES["float32"])
    total = columns([model.lookback + i for i in range(horizon)])
    for weight, operations in model.networks:
        graph.dtype = "float32"
        output = graph.operations(operations, inputs)
        graph.dtype = "float64"
        output = graph.node("Cast", output, to=ELEMENT_TYPES["float64"])
        factors = graph.tensor([weight * unit for unit in model.unit], (horizon,))
        total = graph.node("Add", total, graph.node("Mul", graph.node("Mul", output, factors), scale))
    return graph.model(interface.title, ("X", "float64", interface.shape), graph.outputs(interface, total))
