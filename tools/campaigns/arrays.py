"""Pass every kind of array to every argument that accepts arrays.

    python tools/campaigns/arrays.py
    python tools/campaigns/arrays.py --seconds 5

Each kind of array (dtypes, memory layouts, subclasses, containers, sizes, data frames) is passed to each argument (X,
y, sample weights, assigned parameters). All of them contain the same numbers, 0 and 1. An accepted array must give
exactly the result of a plain NumPy array. A rejected array must raise a TypeError or ValueError that begins with the
name of the argument. A finding is any other exception, a warning, a result that is not finite, or a different result.
Findings are printed, and the exit status is 1 if there is any.

Arrays of pandas, polars, pyarrow, torch and jax are tested if these packages are installed.
"""

from __future__ import annotations

import argparse
import array
import sys
import tempfile
import warnings
from importlib import import_module
from time import perf_counter

import numpy as np

from nnc import DivergedError, Head, Heads, NeuralNetwork, TrainingWarning, augment
from nnc.layers import Conv2D, Input

N, N_IN, N_OUT = 12, 3, 2
random = np.random.default_rng(0)
X = random.integers(0, 2, (N, N_IN)).astype(float)
Y = random.integers(0, 2, (N, N_OUT)).astype(float)
LABELS = np.arange(N) % 2.0
WEIGHTS = (np.arange(N) % 3 > 0) * 1.0


def regressor(**settings):
    """Return a network for regression."""
    return NeuralNetwork([N_IN, 4, N_OUT], **{"activation": "tanh", "loss": "mse", "seed": 1, **settings})


def image_regressor(**settings):
    """Return a network for images with one row of pixels, so that the columns of a data frame are pixels."""
    layers = [Input(1, N_IN, 1), Conv2D(4, (1, 2)), N_OUT]
    return NeuralNetwork(layers, **{"activation": "tanh", "loss": "mse", "seed": 1, **settings})


def classifier(n_out=2):
    """Return a network for classification."""
    return NeuralNetwork([N_IN, 4, n_out], loss="cross_entropy" if n_out > 1 else "bce", seed=1)


# ----------------------------------------------------------------------------------------------- arguments


def fit(net, *arguments, **settings):
    """Fit a network and return its parameters."""
    net.fit(*arguments, epochs=2, **settings)
    return net.params


@np.errstate(over="ignore")
def mse(P, Y):
    """Return the mean squared error and its derivative; it is passed as a custom loss."""
    return ((P - Y) ** 2).mean(), 2 * (P - Y) / P.size


HEADS = Heads([Head(1, "mse"), Head(1, "bce")])


def train_step(*arguments, **keywords):
    """Return the parameters of a new network after one step."""
    net = regressor()
    net.train_step(*arguments, **keywords)
    return net.params


def assign(name, value):
    """Assign an attribute of a new network and return its parameters."""
    net = regressor()
    setattr(net, name, value)
    return net.params


def assign_first(name, value):
    """Assign the first array of `weights` or `biases` of a new network and return its parameters."""
    net = regressor()
    getattr(net, name)[0] = value
    return net.params


ZEROS = [np.zeros((4, N_OUT))]
# For each argument: the names that a message may begin with, the plain array, and a function that passes an array to
# the argument and returns numbers.
ARGUMENTS = {
    "fit X": (["X", "y"], X, lambda value: fit(regressor(), value, Y)),
    "fit X float32": (["X", "y"], X, lambda value: fit(regressor(dtype="float32"), value, Y, batch_size=5)),
    "fit X scaled": (["X", "y", "scale_X"], X, lambda value: fit(regressor(scale_X="standardize"), value, Y)),
    # Images in bytes count as pixel values.
    "fit images": (["X", "y"], X, lambda value: fit(image_regressor(), value, Y, lr=0.1)),
    "fit images scaled": (
        ["X", "y"], X, lambda value: fit(image_regressor(scale_X="pixels", dtype="float32"), value, Y)
    ),
    "predict images": (["X"], X, lambda value: image_regressor().predict(value)),
    "fit X split": (["X", "y"], X, lambda value: fit(regressor(), value, Y, validation=0.25)),
    "fit y": (["y"], Y, lambda value: fit(regressor(), X, value)),
    "fit y scaled": (["y", "scale_y"], Y, lambda value: fit(regressor(scale_y="minmax"), X, value)),
    "fit labels": (["y"], LABELS, lambda value: fit(classifier(), X, value)),
    "fit labels of one output": (["y"], LABELS, lambda value: fit(classifier(1), X, value)),
    "fit labels split": (["y", "validation"], LABELS, lambda value: fit(classifier(), X, value, validation=0.25)),
    "sample_weight": (["sample_weight"], WEIGHTS, lambda value: fit(regressor(), X, Y, sample_weight=value)),
    "class_weight": (
        ["class_weight"], np.ones(2), lambda value: fit(classifier(), X, LABELS, class_weight={0: value, 1: 1.0})
    ),
    "validation X": (["validation"], X, lambda value: fit(regressor(), X, Y, validation=(value, Y))),
    "validation y": (["validation"], Y, lambda value: fit(regressor(), X, Y, validation=(X, value))),
    "fit_batches X": (["X", "y"], X, lambda value: fit_batches(value, Y)),
    "fit_batches y": (["y"], Y, lambda value: fit_batches(X, value)),
    "augment X": (["X", "y"], X, lambda value: fit_augmented(value, Y)),
    "augment y": (["y"], Y, lambda value: fit_augmented(X, value)),
    "augment sample_weight": (["sample_weight"], WEIGHTS, lambda value: fit_augmented(X, Y, value)),
    "predict": (["X"], X, lambda value: regressor().predict(value)),
    "predict_classes": (["X"], X, lambda value: classifier().predict_classes(value)),
    "forward": (["X"], X, lambda value: regressor().forward(value)[-1]),
    "score X": (["X", "y"], X, lambda value: regressor().score(value, Y)),
    "score y": (["y"], Y, lambda value: regressor().score(X, value)),
    "loss labels": (["y"], LABELS, lambda value: classifier().evaluate_loss(X, value)),
    "gradients X": (["X", "y"], X, lambda value: regressor().gradients(value, Y)[0][0]),
    "vjp X": (["X", "dP"], X, lambda value: regressor().vjp(value, Y)[1]),
    "vjp dP": (["dP"], Y, lambda value: regressor().vjp(X, value)[1]),
    "jacobian": (["X"], X, lambda value: regressor().jacobian(value)),
    "train_step dP": (["dP", "y"], Y, lambda value: train_step(X, dP=value)),
    "loss function X": (["X", "y"], X, lambda value: fit(regressor(loss=mse), value, Y, batch_size=5)),
    "loss function y": (["y"], Y, lambda value: fit(regressor(loss=mse), X, value)),
    "heads y": (["y", "head"], Y, lambda value: fit(regressor(loss=HEADS), X, value)),
    "init": (["init", "weights"], X[:4].T, lambda value: regressor(init=[value, *ZEROS]).params),
    "one of the weights": (["weights"], X[:4].T, lambda value: assign_first("weights", value)),
    "weights": (["weights"], X[:4].T, lambda value: assign("weights", [value, *ZEROS])),
    "one of the biases": (["biases"], LABELS[:4], lambda value: assign_first("biases", value)),
    "params": (["params"], np.tile(LABELS, 3)[:26], lambda value: assign("params", value)),
}  # fmt: skip


def fit_augmented(*arrays):
    """Fit flipped rows, because flips are exact for every dtype, and return the parameters."""
    net, disabled = regressor(), {"shift": 0, "rotate": 0, "zoom": 0}
    net.fit_batches(augment(*arrays, **disabled, flip="horizontal", shape=(1, N_IN), seed=0), epochs=2)
    return net.params


def fit_batches(*batch):
    """Fit one batch and return the parameters."""
    net = regressor()
    net.fit_batches([batch], epochs=2)
    return net.params


# ----------------------------------------------------------------------------------------------- kinds of arrays
# ACCEPTED contain the numbers of the plain array and must be accepted. REJECTED must be rejected. OPTIONAL may be
# either.


class DLPack:
    """Tensor that supports only the DLPack protocol and no protocol of NumPy."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class Broken:
    """Object whose conversion to an array raises an exception."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("not on this device")


def strided(a):
    """Return a view with gaps between the elements."""
    wide = np.zeros(tuple(2 * n for n in a.shape))
    view = wide[tuple(slice(None, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def unaligned(a):
    """Return a copy at an address that is not a multiple of the element size."""
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(float).reshape(a.shape)
    raw[...] = a
    return raw


def reversed_rows(a):
    """Return a view with a negative stride."""
    return np.ascontiguousarray(a[::-1])[::-1]


def read_only(a):
    """Return a copy that cannot be written."""
    copy = a.copy()
    copy.flags.writeable = False
    return copy


def memmap(a):
    """Return a memory map of a temporary file."""
    with tempfile.TemporaryFile() as file:  # the memory map remains valid after the file is closed
        a.tofile(file)
        file.flush()
        return np.memmap(file, dtype=float, mode="r", shape=a.shape)


def with_element(value, dtype=float):
    """Return a function that copies an array and replaces its second element by a value."""

    def replace(a):
        copy = a.astype(dtype)
        copy.flat[1] = value
        return copy

    return replace


def masked(a, n):
    """Return a masked array with n masked elements."""
    mask = np.zeros(a.size, bool)
    mask[1 : 1 + n] = True
    return np.ma.array(a, mask=mask.reshape(a.shape))


ACCEPTED = {
    **{
        f"of {dtype}": lambda a, dtype=dtype: a.astype(dtype)
        for dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "g", ">f8", ">i4", "O")
    },
    "integer objects": lambda a: a.astype(int).astype(object),
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "unaligned": unaligned,
    "reversed": reversed_rows,
    "read-only": read_only,
    "memmap": memmap,
    "subclass": lambda a: a.view(type("Subclass", (np.ndarray,), {})),
    "empty mask": lambda a: masked(a, 0),
    "lists": lambda a: a.tolist(),
    "tuples": lambda a: tuple(map(tuple, a.tolist())) if a.ndim == 2 else tuple(a.tolist()),
    "list of arrays": lambda a: list(a),
    "list of rows with empty masks": lambda a: [np.ma.array(row) for row in a],
    "buffer": lambda a: memoryview(np.ascontiguousarray(a)),
    "DLPack": DLPack,
}
REJECTED = {
    "complex": lambda a: a.astype(complex),
    "void": lambda a: np.zeros(a.shape, "V8"),
    "structured": lambda a: np.zeros(a.shape[:1], [("a", float), ("b", float), ("c", float)]),
    "one element masked": lambda a: masked(a, 1),
    "list of rows with a masked element": lambda a: (
        [masked(np.atleast_1d(row), 1 if row.ndim else 0) for row in a] if a.ndim == 2 else masked(a, 1)
    ),
    "no rows": lambda a: a[:0],
    "more dimensions": lambda a: a[None, None],
    "number": lambda a: 3.5,
    "ragged lists": lambda a: [[0.0, 1.0], [0.0]],
    "None element": with_element(None, object),
    "NaN": with_element(np.nan),
    "infinity": with_element(np.inf),
    "iterator": lambda a: iter(a.tolist()),
    "dict": lambda a: {"a": a.tolist()},
    "set": lambda a: {0.0, 1.0},
    "word": lambda a: "many",
    "bytes": lambda a: b"many",
    "None": lambda a: None,
    "object": lambda a: object(),
    "type": lambda a: float,
    "failing conversion": lambda a: Broken(),
    "too large integer": with_element(10**400, object),
    "NaT": lambda a: np.full(a.shape, "NaT", "M8[s]"),
}
OPTIONAL = {
    "bool": lambda a: a.astype(bool),  # as class labels, True and False differ from 1.0 and 0.0
    "text": lambda a: a.astype(str),
    "bytes of text": lambda a: a.astype("S"),
    "text objects": lambda a: a.astype(str).astype(object),
    "dates": lambda a: a.astype("i8").astype("M8[D]"),
    "times": lambda a: a.astype("i8").astype("m8[s]"),
    "matrix": np.matrix,
    "array.array": lambda a: array.array("d", a.ravel().tolist()),
    "one row": lambda a: a[:1],
    "one column": lambda a: a[:, :1] if a.ndim == 2 else a[:, None],
    "no columns": lambda a: a[:, :0] if a.ndim == 2 else a[:, None][:, :0],
    "zero strides": lambda a: np.broadcast_to(a[:1], a.shape),
    "large": with_element(1e300),
    "negative": with_element(-1.0),
    "denormal": with_element(5e-324),
    "large integers": with_element(2**64 - 1, np.uint64),
    "zeros": np.zeros_like,
    "range": lambda a: range(len(a)),
    "mixed objects": with_element("a", object),
}
if hasattr(np.dtypes, "StringDType"):
    OPTIONAL["StringDType"] = lambda a: a.astype(str).astype(np.dtypes.StringDType())


def optional_module(name):
    """Return an imported module, or None if it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


def columns(a, names="abcdefghijklmnopqrstuvwxyz"):
    """Return the columns of an array by name."""
    return dict(zip(names, a.T if a.ndim == 2 else [a], strict=False))


def add_pandas(pd):
    """Add data frames and series of pandas to the kinds of arrays."""

    def frame(change):
        def make(a):
            result = pd.DataFrame({name: change(column, i) for i, (name, column) in enumerate(columns(a).items())})
            return result if a.ndim == 2 else result["a"]

        return make

    def nullable(dtype, missing=False):
        def change(column, i):
            values = [None if missing and k == 1 else x for k, x in enumerate(column.tolist())]
            return pd.array(values, dtype=dtype) if i == 0 else column

        return frame(change)

    ACCEPTED["pandas"] = frame(lambda column, i: column)
    ACCEPTED["pandas, integers and floats"] = frame(lambda column, i: column if i else column.astype(int))
    ACCEPTED["pandas, objects"] = frame(lambda column, i: column.astype(object))
    ACCEPTED["pandas, descending index"] = lambda a: ACCEPTED["pandas"](a).set_axis(range(len(a), 0, -1))
    for dtype in ("Int64", "UInt8", "Float64", "Float32"):
        ACCEPTED[f"pandas, {dtype}"] = nullable(dtype)
        REJECTED[f"pandas, {dtype} with NA"] = nullable(dtype, missing=True)
    OPTIONAL["pandas, bool and floats"] = frame(lambda column, i: column if i else column.astype(bool))
    OPTIONAL["pandas, boolean"] = nullable("boolean")
    REJECTED["pandas, boolean with NA"] = nullable("boolean", missing=True)
    ACCEPTED["pandas, categories of numbers"] = frame(lambda column, i: pd.Categorical(column))
    OPTIONAL["pandas, categories of text"] = frame(
        lambda column, i: column if i else pd.Categorical(column.astype(str))
    )
    REJECTED["pandas, categories with a missing value"] = frame(
        lambda column, i: pd.Categorical([None, *column.astype(str)[1:]]) if i == 0 else column
    )
    OPTIONAL["pandas, text"] = frame(lambda column, i: column if i else column.astype(str))
    OPTIONAL["pandas, dates"] = frame(lambda column, i: pd.to_datetime(column.astype(int)) if i == 0 else column)
    OPTIONAL["pandas, dates with time zone"] = frame(lambda column, i: pd.to_datetime(column.astype(int), utc=True))
    ACCEPTED["pandas, sparse"] = frame(lambda column, i: pd.arrays.SparseArray(column))
    ACCEPTED["pandas, duplicate names"] = lambda a: (
        ACCEPTED["pandas"](a) if a.ndim == 1 else ACCEPTED["pandas"](a).set_axis(["a"] * a.shape[1], axis=1)
    )
    if optional_module("pyarrow"):
        for dtype in ("double[pyarrow]", "int64[pyarrow]"):
            ACCEPTED[f"pandas, {dtype}"] = nullable(dtype)
            REJECTED[f"pandas, {dtype} with NA"] = nullable(dtype, missing=True)


def add_polars(pl):
    """Add data frames and series of polars to the kinds of arrays."""

    def frame(change):
        def make(a):
            result = pl.DataFrame({name: change(column, i) for i, (name, column) in enumerate(columns(a).items())})
            return result if a.ndim == 2 else result["a"]

        return make

    ACCEPTED["polars"] = frame(lambda column, i: column)
    ACCEPTED["polars, integers and floats"] = frame(lambda column, i: column if i else column.astype(int))
    OPTIONAL["polars, bool and floats"] = frame(lambda column, i: column if i else column.astype(bool))
    OPTIONAL["polars, text"] = frame(lambda column, i: column if i else column.astype(str))
    OPTIONAL["polars, dates"] = frame(lambda column, i: column if i else column.astype("i8").astype("M8[ms]"))
    REJECTED["polars, a null"] = frame(lambda column, i: column if i else [None, *column.tolist()[1:]])
    REJECTED["polars, a null among integers"] = frame(
        lambda column, i: column if i else [None, *column.astype(int).tolist()[1:]]
    )
    REJECTED["polars, lazy"] = lambda a: pl.LazyFrame(columns(a))


def add_pyarrow(pa):
    """Add tables and arrays of pyarrow to the kinds of arrays."""
    ACCEPTED["pyarrow"] = lambda a: pa.table(columns(a)) if a.ndim == 2 else pa.array(a)
    REJECTED["pyarrow, a null"] = lambda a: (
        pa.table({name: [None, *column.tolist()[1:]] for name, column in columns(a).items()})
        if a.ndim == 2
        else pa.array([None, *a.tolist()[1:]])
    )


def add_torch(torch):
    """Add tensors of PyTorch to the kinds of arrays."""
    ACCEPTED["torch"] = torch.tensor
    REJECTED["torch, with a gradient"] = lambda a: torch.tensor(a, requires_grad=True)


def add_jax(jax):
    """Add arrays of jax to the kinds of arrays."""
    ACCEPTED["jax"] = jax.numpy.asarray


for name, add in (
    ("pandas", add_pandas),
    ("polars", add_polars),
    ("pyarrow", add_pyarrow),
    ("torch", add_torch),
    ("jax", add_jax),
):
    module = optional_module(name)
    if module is not None:
        add(module)

# Kinds of arrays with which a fit may diverge.
MAY_DIVERGE = {"large", "negative", "large integers"}
KINDS = {**ACCEPTED, **REJECTED, **OPTIONAL}


# ----------------------------------------------------------------------------------------------- campaign


def problem(argument, kind):
    """Pass a kind of array to an argument; return a description of the problem, or "" if there is none."""
    names, plain, call = ARGUMENTS[argument]
    if argument == "class_weight":
        return class_weight_problem(call, plain, kind)
    expected = call(plain)
    value = KINDS[kind](plain)
    try:
        result = call(value)
    except (TypeError, ValueError) as error:
        if kind in ACCEPTED:
            return f"must be accepted, got {type(error).__name__}: {error}"
        begins_with_name = str(error).startswith(tuple(names))
        return "" if begins_with_name else f"the message must begin with the name of the argument: {error}"
    except DivergedError as error:
        return "" if kind in MAY_DIVERGE else f"must not diverge: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if kind in REJECTED:
        is_default = argument.endswith("sample_weight") and kind == "None"
        return "" if is_default else "must be rejected"
    if not np.isfinite(result).all():
        return "the result must be finite" if kind not in MAY_DIVERGE else ""
    if kind in ACCEPTED and not np.array_equal(result, expected):
        return "the result must be that of the plain array"
    return ""


def class_weight_problem(call, plain, kind):
    """Return the problem with an array as class weight, which must be a number or an array with one element."""
    try:
        call(KINDS[kind](plain))
    except (TypeError, ValueError) as error:
        return "" if "class_weight" in str(error) else f"the message must name class_weight: {error}"
    except DivergedError:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "" if kind in ("number", "one row") else "must be rejected"


def campaign(seconds=float("inf"), report=print):
    """Test all pairs of argument and kind of array, or as many as the time allows; return (pairs, findings)."""
    deadline = perf_counter() + seconds
    pairs = [(argument, kind) for argument in ARGUMENTS for kind in KINDS]
    np.random.default_rng(0).shuffle(pairs)
    tested = findings = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", TrainingWarning)
        # np.matrix is deprecated, but must be accepted, so its warning is ignored.
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        for argument, kind in pairs:
            if perf_counter() > deadline:
                break
            tested += 1
            description = problem(argument, kind)
            if description:
                findings += 1
                report(f"{argument:26} {kind:36} {description}")
    return tested, findings


def main(arguments=None):
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="time limit (default: none)")
    tested, findings = campaign(parser.parse_args(arguments).seconds)
    print(f"{tested} of {len(ARGUMENTS) * len(KINDS)} pairs of argument and kind of array: {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
