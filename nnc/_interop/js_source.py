"""Networks as one ES module, for browsers and Node.js, without dependencies."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from nnc._interop.program import SCALE_SIGNS, wrapped
from nnc._interop.script import Language, of_network, of_test, to_script
from nnc._registry import formulas

if TYPE_CHECKING:
    from nnc._interop.program import Program

FUNCTIONS = {
    **{
        name: f"\nconst {name} = (x, numbers) => x.map((a, i) => a {sign} numbers[i % numbers.length]);\n"
        for name, sign in SCALE_SIGNS.items()
    },
    "dense": """
// Rows of W are outputs.
const dense = (x, W, b) =>
  W.map((row, j) => {
    let sum = b ? b[j] : 0;
    for (let i = 0; i < row.length; i++) sum += row[i] * x[i];
    return sum;
  });
""",
    "conv": """
// Rows of W are outputs, its columns ky, kx and channel. Windows end where the image does.
function conv(x, W, b, [height, width, channels], [kh, kw], [sy, sx], [top, left], [rows, columns]) {
  const made = [];
  for (let y = -top; y < rows * sy - top; y += sy)
    for (let z = -left; z < columns * sx - left; z += sx) {
      const from = Math.max(0, -z);
      const n = (Math.min(kw, width - z) - from) * channels;
      W.forEach((row, j) => {
        let sum = b ? b[j] : 0;
        for (let ky = Math.max(0, -y); ky < Math.min(kh, height - y); ky++) {
          const k = (ky * kw + from) * channels;
          const at = ((y + ky) * width + z + from) * channels;
          for (let i = 0; i < n; i++) sum += row[k + i] * x[at + i];
        }
        made.push(sum);
      });
    }
  return made;
}
""",
    "windows": """
// The numbers of each window, channel by channel.
function windows(x, [, width, channels], [kh, kw], [sy, sx], [rows, columns]) {
  const made = [];
  for (let y = 0; y < rows; y++)
    for (let z = 0; z < columns; z++)
      for (let c = 0; c < channels; c++) {
        const numbers = [];
        for (let ky = 0; ky < kh; ky++)
          for (let kx = 0; kx < kw; kx++) numbers.push(x[((y * sy + ky) * width + z * sx + kx) * channels + c]);
        made.push(numbers);
      }
  return made;
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
// The normal distribution, by the series of erf near 0 and the continued fraction of erfc beyond.
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
    let below = 0;
    for (let k = 50; k > 0; k--) below = k / 2 / (x + below);
    tail = density / (x + below) / 2;
  }
  return z > 0 ? 1 - tail : tail;
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
HEAD = """\
// The network {title}, written by nnc {version}. An ES module without dependencies.
//
//   import {{ {names} }} from "./net.js";
//
// A row is an array of {n_in} raw numbers{order}; predict gives {n_out}{meaning}.

export const nIn = {n_in};
export const nOut = {n_out};
"""
PREDICT = """
/** What the network makes of a row: an array of nOut numbers. */
export function predict(row) {{
  let x = Array.from(row, Number);
  if (x.length !== nIn) throw new RangeError(`row must have ${{nIn}} numbers, got ${{x.length}}`);
{statements}
  return x;
}}
"""
CLASSES = """
/** The class of a row, one of classes. */
export function predictClass(row) {{
  const x = predict(row);
  return classes[{index}];
}}
"""
SELF_TEST = """
/** Whether this computes what the network did when it was written. */
export function selfTest() {{
  const row = {X};
  const wanted = {P};
  return predict(row).every((output, j) => Math.abs(output - wanted[j]) <= {tolerance} * (1 + Math.abs(wanted[j])));
}}
"""


def formula(text: str) -> str:
    """A formula with functions of this module, or of Math."""
    return formulas.in_c(text, _word, repr)


def _word(function: str, *arguments: str) -> str:
    name = f"{function}_of" if f"{function}_of" in FUNCTIONS else f"Math.{function}"
    return f"{name}({', '.join(arguments)})"


def _label(label: Any) -> str:
    """A label in JavaScript, where a whole number beyond 2**53 is a BigInt."""
    return f"{label}n" if type(label) is int and abs(label) > 2**53 else json.dumps(label)


def whole(made: Program, constants: str, functions: str, statements: str) -> str:
    """The module."""
    classes = made.answer in ("one", "yes")
    parts = [HEAD.format(names="predict, predictClass, classes" if classes else "predict", **of_network(made))]
    if classes:
        parts.append(f"export const classes = [{wrapped(map(_label, made.labels))}];\n")
    parts += ["\n" + constants + "\n", "\n" + functions + "\n", PREDICT.format(statements=statements)]
    if classes:
        largest = "x.reduce((best, number, i) => (number > x[best] ? i : best), 0)"
        parts.append(CLASSES.format(index=largest if made.answer == "one" else f"x[0] >= {made.threshold} ? 1 : 0"))
    if made.test is not None:
        parts.append(SELF_TEST.format(**of_test(made.test, made.dtype)))
    return "".join(parts)


JAVASCRIPT = Language(
    FUNCTIONS,
    constant="const {name} = {value};",
    statement="  x = {call};",
    elementwise="const {name} = (x) => x.map((z) => {formula});",
    begin="  const given = x;\n  const outputs = [];",
    between="  outputs.push(x);\n  x = given;",
    mean="  x = outputs[0].map((_, j) => outputs.reduce((sum, output) => sum + output[j], 0) / outputs.length);",
    nothing="null",
    formula=formula,
    whole=whole,
)
to_js = partial(to_script, JAVASCRIPT)
