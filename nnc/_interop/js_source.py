"""Writer of JavaScript: one ES module for browsers and Node.js, without dependencies."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from nnc._interop.program import SCALE_SIGNS, wrap_values
from nnc._interop.script import Language, for_each_step, header_values, self_test_values, to_script
from nnc._registry import formulas

if TYPE_CHECKING:
    from nnc._interop.program import Program

FUNCTIONS = {
    **{
        name: f"\nconst {name} = (x, numbers) => x.map((a, i) => a {sign} numbers[i % numbers.length]);\n"
        for name, sign in SCALE_SIGNS.items()
    },
    "dense": """
// Dense layer: each row of W has the weights of one output.
const dense = (x, W, b) =>
  W.map((row, j) => {
    let sum = b ? b[j] : 0;
    for (let i = 0; i < row.length; i++) sum += row[i] * x[i];
    return sum;
  });
""",
    "conv": """
// Convolution with zero padding. Each row of W has the weights of one filter in the order of ky, kx and channel.
// Positions outside of the image are skipped.
function conv(x, W, b, [height, width, channels], [kh, kw], [sy, sx], [top, left], [rows, columns]) {
  const outputs = [];
  for (let y = -top; y < rows * sy - top; y += sy)
    for (let z = -left; z < columns * sx - left; z += sx) {
      const first = Math.max(0, -z);
      const n = (Math.min(kw, width - z) - first) * channels;
      W.forEach((row, j) => {
        let sum = b ? b[j] : 0;
        for (let ky = Math.max(0, -y); ky < Math.min(kh, height - y); ky++) {
          const weight = (ky * kw + first) * channels;
          const pixel = ((y + ky) * width + z + first) * channels;
          for (let i = 0; i < n; i++) sum += row[weight + i] * x[pixel + i];
        }
        outputs.push(sum);
      });
    }
  return outputs;
}
""",
    "windows": """
// Return a list of the pixels of each window and channel.
function windows(x, [, width, channels], [kh, kw], [sy, sx], [rows, columns]) {
  const lists = [];
  for (let y = 0; y < rows; y++)
    for (let z = 0; z < columns; z++)
      for (let c = 0; c < channels; c++) {
        const numbers = [];
        for (let ky = 0; ky < kh; ky++)
          for (let kx = 0; kx < kw; kx++) numbers.push(x[((y * sy + ky) * width + z * sx + kx) * channels + c]);
        lists.push(numbers);
      }
  return lists;
}
""",
    "maxPool": """
const maxPool = (x, ...sizes) => windows(x, ...sizes).map((numbers) => numbers.reduce((a, b) => Math.max(a, b)));
""",
    "avgPool": """
const avgPool = (x, ...sizes) =>
  windows(x, ...sizes).map((numbers) => numbers.reduce((a, b) => a + b) / numbers.length);
""",
    "sigmoid_of": """
const sigmoid_of = (z) => 1 / (1 + Math.exp(-z));
""",
    "softplus_of": """
const softplus_of = (z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));
""",
    "Phi_of": """
// Cumulative distribution function of the standard normal distribution: the series of erf near 0, and the continued
// fraction of erfc for larger |z|.
function Phi_of(z) {
  const x = Math.abs(z) / Math.SQRT2;
  const density = Math.exp(-x * x) / Math.sqrt(Math.PI);
  let tail;
  if (x < 3) {
    let sum = 0;
    for (let n = 1, term = 2 * x; sum + term !== sum; n++) {
      sum += term;
      term *= (2 * x * x) / (2 * n + 1);
    }
    tail = (1 - density * sum) / 2;
  } else {
    let fraction = 0;
    for (let k = 50; k > 0; k--) fraction = k / 2 / (x + fraction);
    tail = density / (x + fraction) / 2;
  }
  return z > 0 ? 1 - tail : tail;
}
""",
    "eachStep": """
// Concatenated outputs of a function for each step of a sequence; a step has n numbers.
const eachStep = (x, n, f, ...parameters) =>
  Array.from({ length: x.length / n }, (_, t) => f(x.slice(t * n, (t + 1) * n), ...parameters)).flat();
""",
    "simpleRNN": """
// States of a simple recurrent layer after a step with the inputs x.
const simpleRNN = (x, h, W, U, b, activation) => {
  const v = dense(h, U, null);
  return activation(dense(x, W, b && b[0]).map((u, j) => u + v[j]));
};
""",
    "gru": """
// States of a GRU after a step with the inputs x. W and U have the rows of z, r and n.
const gru = (x, h, W, U, b) => {
  const m = h.length;
  const u = dense(x, W, b && b[0]);
  const v = dense(h, U, b && b[1]);
  return h.map((state, j) => {
    const z = sigmoid_of(u[j] + v[j]);
    const r = sigmoid_of(u[m + j] + v[m + j]);
    return z * state + (1 - z) * Math.tanh(u[2 * m + j] + r * v[2 * m + j]);
  });
};
""",
    "lstm": """
// States h and c of an LSTM after a step with the inputs x. W and U have the rows of i, f, g and o.
const lstm = (x, state, W, U, b) => {
  const m = state.length / 2;
  const v = dense(state.slice(0, m), U, null);
  const z = dense(x, W, b && b[0]).map((u, j) => u + v[j]);
  const c = state.slice(m).map((c, j) => sigmoid_of(z[m + j]) * c + sigmoid_of(z[j]) * Math.tanh(z[2 * m + j]));
  return [...c.map((c, j) => sigmoid_of(z[3 * m + j]) * Math.tanh(c)), ...c];
};
""",
    "convStep": """
// Outputs of a causal convolution after a step with the inputs x, and its inputs of the last steps.
const convStep = (x, state, W, b, dilation) => {
  const inputs = [...state, ...x];
  const window = inputs.filter((_, i) => Math.floor(i / x.length) % dilation === 0);
  return [dense(window, W, b), inputs.slice(x.length)];
};
""",
    "recur": """
// States of all steps of a sequence, or only the states after the last step that is processed. Each direction has a
// function for one step, whether the last step comes first, the number of states, and the parameters W, U and b.
function recur(x, features, sequences, directions) {
  const steps = x.length / features;
  const outputs = Array.from({ length: steps }, () => []);
  const last = [];
  for (const [step, reverse, size, W, U, ...others] of directions) {
    let state = new Array(size).fill(0);
    for (let i = 0; i < steps; i++) {
      const t = reverse ? steps - 1 - i : i;
      state = step(x.slice(t * features, (t + 1) * features), state, W, U, ...others);
      outputs[t].push(...state.slice(0, U[0].length));
    }
    last.push(...state.slice(0, U[0].length));
  }
  return sequences ? outputs.flat() : last;
}
""",
    "sortGroups": """
// Sort the quantiles of each target. Each group has one quantile of all targets.
function sortGroups(x, groups) {
  const n = x.length / groups;
  const sorted = Array.from({ length: n }, (_, j) => x.filter((_, i) => i % n === j).sort((a, b) => a - b));
  return x.map((_, i) => sorted[i % n][Math.floor(i / n)]);
}
""",
    "softmax": """
function softmax(x) {
  const largest = x.reduce((a, b) => Math.max(a, b));
  const e = x.map((z) => Math.exp(z - largest));
  const sum = e.reduce((a, b) => a + b);
  return e.map((a) => a / sum);
}
""",
}
HEADER = """\
// Neural network {title}, exported by nnc {version}. An ES module without dependencies.
//
//   import {{ {names} }} from "./net.js";
//
// A row is an array of {n_in} raw values{for_each_step} without scaling{order}.
// predict returns an array of {outputs}{meaning}.{remark}

export const nIn = {n_in};
export const nOut = {n_out};
"""
PREDICT = """
/** Return an array of the outputs for a row of inputs. */
export function predict(row) {{
  let x = Array.from(row, Number);
  if ({is_wrong}) throw new RangeError(`row must have ${{nIn}} numbers{for_each_step}, got ${{x.length}}`);
{statements}
  return x;
}}
"""
CLASSES = """
/** Return the predicted class of a row, an element of classes{at_steps}. */
export function predictClass(row) {{
  const x = predict(row);
  return {predicted};
}}
"""
STREAM = """
/** Outputs of a sequence that is processed step by step, with the states of the layers. */
export class Stream {{
  constructor() {{
    this.reset();
  }}

  /** Set all states to 0, as before the first step of a sequence. */
  reset() {{
    this.states = {sizes}.map((size) => new Array(size).fill(0));
  }}

  /** Return an array of the outputs after a step with {n} features. */
  step(features) {{
    let x = Array.from(features, Number);
    if (x.length !== {n}) throw new RangeError(`features must have {n} numbers, got ${{x.length}}`);
{statements}
    return x;
  }}
}}
"""
SELF_TEST = """
/** Return whether the outputs for a test row are those that were computed at export. */
export function selfTest() {{
  const row = {X};
  const expected = {P};
  return predict(row).every((output, j) => Math.abs(output - expected[j]) <= {tolerance} * (1 + Math.abs(expected[j])));
}}
"""


def formula(text: str) -> str:
    """Translate the formula of an activation to a JavaScript expression."""
    return formulas.to_c(text, _function_call, repr)


def _function_call(function: str, *arguments: str) -> str:
    """Return the JavaScript expression for a function call in a formula."""
    name = f"{function}_of" if f"{function}_of" in FUNCTIONS else f"Math.{function}"
    return f"{name}({', '.join(arguments)})"


def _label_literal(label: Any) -> str:
    """Return a label as a JavaScript literal; integers with an absolute value above 2**53 become BigInt."""
    return f"{label}n" if type(label) is int and abs(label) > 2**53 else json.dumps(label)


def assemble(program: Program, constants: str, functions: str, statements: str, stream: str) -> str:
    """Return the text of the JavaScript module."""
    has_classes = program.task in ("multiclass", "binary")
    names = "predict, predictClass, classes" if has_classes else "predict"
    remark = ""
    if stream:
        names += ", Stream"
    elif program.has_recurrent_layers:
        remark = f"\n// There is no class for single steps of a sequence: {program.stream_obstacle}."
    parts = [HEADER.format(names=names, remark=remark, **header_values(program))]
    if has_classes:
        parts.append(f"export const classes = [{wrap_values(map(_label_literal, program.labels))}];\n")
    predict = PREDICT.format(
        statements=statements,
        is_wrong="x.length === 0 || x.length % nIn !== 0" if program.any_steps else "x.length !== nIn",
        for_each_step=for_each_step(program),
    )
    parts += ["\n" + constants + "\n", "\n" + functions + "\n", predict]
    if has_classes:
        largest = "x.reduce((best, number, i) => (number > x[best] ? i : best), 0)"
        index = largest if program.task == "multiclass" else f"x[0] >= {program.threshold} ? 1 : 0"
        predicted, at_steps = f"classes[{index}]", ""
        if len(program.output_shape) == 2:
            predicted, at_steps = f"eachStep(x, {program.output_shape[1]}, (x) => [{predicted}])", " for each step"
        parts.append(CLASSES.format(predicted=predicted, at_steps=at_steps))
    parts.append(stream)
    if program.self_test is not None:
        parts.append(SELF_TEST.format(**self_test_values(program.self_test, program.dtype)))
    return "".join(parts)


JAVASCRIPT = Language(
    FUNCTIONS,
    constant="const {name} = {value};",
    statement="  x = {call};",
    elementwise="const {name} = (x) => x.map((z) => {formula});",
    state_step="  this.states[{i}] = {function}(x, this.states[{i}], {arguments});\n"
    "  x = this.states[{i}].slice(0, {units});",
    conv_step="  [x, this.states[{i}]] = convStep(x, this.states[{i}], {arguments});",
    stream=STREAM,
    ensemble_start="  const inputs = x;\n  const outputs = [];",
    member_end="  outputs.push(x);\n  x = inputs;",
    ensemble_mean="  x = outputs[0].map((_, j) => outputs.reduce((sum, row) => sum + row[j], 0) / outputs.length);",
    null="null",
    formula=formula,
    assemble=assemble,
)
to_js = partial(to_script, JAVASCRIPT)
