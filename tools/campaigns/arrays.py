"""Everything that people hand over as an array, for every argument that takes one.

    python tools/campaigns/arrays.py
    python tools/campaigns/arrays.py --seconds 5

Each kind of array (number types, layouts, subclasses, containers, sizes, frames) goes to each argument (X, y, weights,
what is assigned). All of them hold the same numbers, 0 and 1, so whatever is taken has to give what the plain array
gives, to the last bit. Whatever is not taken has to raise a TypeError or ValueError that names the argument; another
exception, a warning of Python or NumPy, a result that is not finite or another one than the plain array's is a finding.
Findings are printed, and the exit code is 1 where there is one.

pandas, polars, pyarrow, torch and jax take part where they are installed.
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
    return NeuralNetwork([N_IN, 4, N_OUT], **{"activation": "tanh", "loss": "mse", "seed": 1, **settings})


def of_images(**settings):
    """Of images of one row of pixels, so that a frame has columns for them."""
    layers = [Input(1, N_IN, 1), Conv2D(4, (1, 2)), N_OUT]
    return NeuralNetwork(layers, **{"activation": "tanh", "loss": "mse", "seed": 1, **settings})


def classifier(n_out=2):
    return NeuralNetwork([N_IN, 4, n_out], loss="cross_entropy" if n_out > 1 else "bce", seed=1)


# ----------------------------------------------------------------------------------------------- the arguments
# name: (what a message may begin with, the plain array, what is done with the value: numbers come out)


def fit(net, *arguments, **settings):
    net.fit(*arguments, epochs=2, **settings)
    return net.params


@np.errstate(over="ignore")
def mse(P, Y):
    return ((P - Y) ** 2).mean(), 2 * (P - Y) / P.size


HEADS = Heads([Head(1, "mse"), Head(1, "bce")])


def stepped(*arguments, **named):
    net = regressor()
    net.train_step(*arguments, **named)
    return net.params


def assign(name, value):
    net = regressor()
    setattr(net, name, value)
    return net.params


def assign_one(name, value):
    net = regressor()
    getattr(net, name)[0] = value
    return net.params


ZEROS = [np.zeros((4, N_OUT))]
ARGUMENTS = {
    "fit X": (["X", "y"], X, lambda value: fit(regressor(), value, Y)),
    "fit X float32": (["X", "y"], X, lambda value: fit(regressor(dtype="float32"), value, Y, batch_size=5)),
    "fit X scaled": (["X", "y", "scale_X"], X, lambda value: fit(regressor(scale_X="standardize"), value, Y)),
    "fit images": (["X", "y"], X, lambda value: fit(of_images(), value, Y, lr=0.1)),  # by rule bytes are pixels
    "fit images scaled": (["X", "y"], X, lambda value: fit(of_images(scale_X="pixels", dtype="float32"), value, Y)),
    "predict images": (["X"], X, lambda value: of_images().predict(value)),
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
    "augment X": (["X", "y"], X, lambda value: augmented(value, Y)),
    "augment y": (["y"], Y, lambda value: augmented(X, value)),
    "augment sample_weight": (["sample_weight"], WEIGHTS, lambda value: augmented(X, Y, value)),
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
    "train_step dP": (["dP", "y"], Y, lambda value: stepped(X, dP=value)),
    "loss function X": (["X", "y"], X, lambda value: fit(regressor(loss=mse), value, Y, batch_size=5)),
    "loss function y": (["y"], Y, lambda value: fit(regressor(loss=mse), X, value)),
    "heads y": (["y", "head"], Y, lambda value: fit(regressor(loss=HEADS), X, value)),
    "init": (["init", "weights"], X[:4].T, lambda value: regressor(init=[value, *ZEROS]).params),
    "one of the weights": (["weights"], X[:4].T, lambda value: assign_one("weights", value)),
    "weights": (["weights"], X[:4].T, lambda value: assign("weights", [value, *ZEROS])),
    "one of the biases": (["biases"], LABELS[:4], lambda value: assign_one("biases", value)),
    "params": (["params"], np.tile(LABELS, 3)[:26], lambda value: assign("params", value)),
}  # fmt: skip


def augmented(*arrays):
    """By what is exact for every type: flips of rows."""
    net, still = regressor(), {"shift": 0, "rotate": 0, "zoom": 0}
    net.fit_batches(augment(*arrays, **still, flip="horizontal", shape=(1, N_IN), seed=0), epochs=2)
    return net.params


def fit_batches(*batch):
    net = regressor()
    net.fit_batches([batch], epochs=2)
    return net.params


# ----------------------------------------------------------------------------------------------- the kinds of arrays
# SAME hold the numbers of the plain array and have to be taken, REFUSED have to be refused, OTHER may be either.


class DLPack:
    """A tensor of a library that knows nothing of NumPy."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class Broken:
    """Something that says it is an array and raises."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("not on this device")


def strided(a):
    wide = np.zeros(tuple(2 * n for n in a.shape))
    view = wide[tuple(slice(None, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(float).reshape(a.shape)
    raw[...] = a
    return raw


def backwards(a):
    return np.ascontiguousarray(a[::-1])[::-1]


def frozen(a):
    copy = a.copy()
    copy.flags.writeable = False
    return copy


def memmap(a):
    with tempfile.TemporaryFile() as file:  # the memmap keeps what is in it
        a.tofile(file)
        file.flush()
        return np.memmap(file, dtype=float, mode="r", shape=a.shape)


def with_one(value, dtype=float):
    def change(a):
        changed = a.astype(dtype)
        changed.flat[1] = value
        return changed

    return change


def masked(a, n):
    mask = np.zeros(a.size, bool)
    mask[1 : 1 + n] = True
    return np.ma.array(a, mask=mask.reshape(a.shape))


SAME = {
    **{
        f"of {dtype}": lambda a, dtype=dtype: a.astype(dtype)
        for dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "g", ">f8", ">i4", "O")
    },
    "objects that are integers": lambda a: a.astype(int).astype(object),
    "Fortran": np.asfortranarray,
    "strided": strided,
    "unaligned": unaligned,
    "backwards": backwards,
    "read-only": frozen,
    "memmap": memmap,
    "subclass": lambda a: a.view(type("Mine", (np.ndarray,), {})),
    "mask that hides nothing": lambda a: masked(a, 0),
    "lists": lambda a: a.tolist(),
    "tuples": lambda a: tuple(map(tuple, a.tolist())) if a.ndim == 2 else tuple(a.tolist()),
    "list of arrays": lambda a: list(a),
    "list of rows without a hidden element": lambda a: [np.ma.array(row) for row in a],
    "buffer": lambda a: memoryview(np.ascontiguousarray(a)),
    "DLPack": DLPack,
}
REFUSED = {
    "complex": lambda a: a.astype(complex),
    "void": lambda a: np.zeros(a.shape, "V8"),
    "structured": lambda a: np.zeros(a.shape[:1], [("a", float), ("b", float), ("c", float)]),
    "one element hidden": lambda a: masked(a, 1),
    "list of rows with a hidden element": lambda a: (
        [masked(np.atleast_1d(row), 1 if row.ndim else 0) for row in a] if a.ndim == 2 else masked(a, 1)
    ),
    "no rows": lambda a: a[:0],
    "more dimensions": lambda a: a[None, None],
    "a number": lambda a: 3.5,
    "ragged lists": lambda a: [[0.0, 1.0], [0.0]],
    "None within": with_one(None, object),
    "NaN": with_one(np.nan),
    "infinity": with_one(np.inf),
    "a generator": lambda a: iter(a.tolist()),
    "a dict": lambda a: {"a": a.tolist()},
    "a set": lambda a: {0.0, 1.0},
    "a word": lambda a: "many",
    "bytes": lambda a: b"many",
    "None": lambda a: None,
    "an object": lambda a: object(),
    "a type": lambda a: float,
    "broken": lambda a: Broken(),
    "far too large": with_one(10**400, object),
    "NaT": lambda a: np.full(a.shape, "NaT", "M8[s]"),
}
OTHER = {
    "bool": lambda a: a.astype(bool),  # as labels of a class, True and False are classes
    "text": lambda a: a.astype(str),
    "bytes of text": lambda a: a.astype("S"),
    "objects that are text": lambda a: a.astype(str).astype(object),
    "dates": lambda a: a.astype("i8").astype("M8[D]"),
    "times": lambda a: a.astype("i8").astype("m8[s]"),
    "matrix": np.matrix,
    "array.array": lambda a: array.array("d", a.ravel().tolist()),
    "one row": lambda a: a[:1],
    "one column": lambda a: a[:, :1] if a.ndim == 2 else a[:, None],
    "no columns": lambda a: a[:, :0] if a.ndim == 2 else a[:, None][:, :0],
    "zero strides": lambda a: np.broadcast_to(a[:1], a.shape),
    "large": with_one(1e300),
    "negative": with_one(-1.0),
    "denormal": with_one(5e-324),
    "large integers": with_one(2**64 - 1, np.uint64),
    "zeros": np.zeros_like,
    "range": lambda a: range(len(a)),
    "mixed objects": with_one("a", object),
}
if hasattr(np.dtypes, "StringDType"):
    OTHER["strings of any length"] = lambda a: a.astype(str).astype(np.dtypes.StringDType())


def library(name):
    try:
        return import_module(name)
    except ImportError:
        return None


def table(a, names="abcdefghijklmnopqrstuvwxyz"):
    return dict(zip(names, a.T if a.ndim == 2 else [a], strict=False))


def add_pandas(pd):
    def frame(change):
        def make(a):
            made = pd.DataFrame({name: change(column, i) for i, (name, column) in enumerate(table(a).items())})
            return made if a.ndim == 2 else made["a"]

        return make

    def nullable(dtype, missing=False):
        def change(column, i):
            values = [None if missing and k == 1 else x for k, x in enumerate(column.tolist())]
            return pd.array(values, dtype=dtype) if i == 0 else column

        return frame(change)

    SAME["pandas"] = frame(lambda column, i: column)
    SAME["pandas, integers and floats"] = frame(lambda column, i: column if i else column.astype(int))
    SAME["pandas, objects"] = frame(lambda column, i: column.astype(object))
    SAME["pandas, odd index"] = lambda a: SAME["pandas"](a).set_axis(range(len(a), 0, -1))
    for dtype in ("Int64", "UInt8", "Float64", "Float32"):
        SAME[f"pandas, {dtype}"] = nullable(dtype)
        REFUSED[f"pandas, {dtype} with NA"] = nullable(dtype, missing=True)
    OTHER["pandas, bool and floats"] = frame(lambda column, i: column if i else column.astype(bool))
    OTHER["pandas, boolean"] = nullable("boolean")
    REFUSED["pandas, boolean with NA"] = nullable("boolean", missing=True)
    SAME["pandas, categories of numbers"] = frame(lambda column, i: pd.Categorical(column))
    OTHER["pandas, categories of text"] = frame(lambda column, i: column if i else pd.Categorical(column.astype(str)))
    REFUSED["pandas, categories with a hole"] = frame(
        lambda column, i: pd.Categorical([None, *column.astype(str)[1:]]) if i == 0 else column
    )
    OTHER["pandas, text"] = frame(lambda column, i: column if i else column.astype(str))
    OTHER["pandas, dates"] = frame(lambda column, i: pd.to_datetime(column.astype(int)) if i == 0 else column)
    OTHER["pandas, dates with a zone"] = frame(lambda column, i: pd.to_datetime(column.astype(int), utc=True))
    SAME["pandas, sparse"] = frame(lambda column, i: pd.arrays.SparseArray(column))
    SAME["pandas, names twice"] = lambda a: (
        SAME["pandas"](a) if a.ndim == 1 else SAME["pandas"](a).set_axis(["a"] * a.shape[1], axis=1)
    )
    if library("pyarrow"):
        for dtype in ("double[pyarrow]", "int64[pyarrow]"):
            SAME[f"pandas, {dtype}"] = nullable(dtype)
            REFUSED[f"pandas, {dtype} with NA"] = nullable(dtype, missing=True)


def add_polars(pl):
    def frame(change):
        def make(a):
            made = pl.DataFrame({name: change(column, i) for i, (name, column) in enumerate(table(a).items())})
            return made if a.ndim == 2 else made["a"]

        return make

    SAME["polars"] = frame(lambda column, i: column)
    SAME["polars, integers and floats"] = frame(lambda column, i: column if i else column.astype(int))
    OTHER["polars, bool and floats"] = frame(lambda column, i: column if i else column.astype(bool))
    OTHER["polars, text"] = frame(lambda column, i: column if i else column.astype(str))
    OTHER["polars, dates"] = frame(lambda column, i: column if i else column.astype("i8").astype("M8[ms]"))
    REFUSED["polars, a null"] = frame(lambda column, i: column if i else [None, *column.tolist()[1:]])
    REFUSED["polars, a null among integers"] = frame(
        lambda column, i: column if i else [None, *column.astype(int).tolist()[1:]]
    )
    REFUSED["polars, lazy"] = lambda a: pl.LazyFrame(table(a))


def add_pyarrow(pa):
    SAME["pyarrow"] = lambda a: pa.table(table(a)) if a.ndim == 2 else pa.array(a)
    REFUSED["pyarrow, a null"] = lambda a: (
        pa.table({name: [None, *column.tolist()[1:]] for name, column in table(a).items()})
        if a.ndim == 2
        else pa.array([None, *a.tolist()[1:]])
    )


def add_torch(torch):
    SAME["torch"] = torch.tensor
    REFUSED["torch, with a gradient"] = lambda a: torch.tensor(a, requires_grad=True)


def add_jax(jax):
    SAME["jax"] = jax.numpy.asarray


for name, add in (
    ("pandas", add_pandas),
    ("polars", add_polars),
    ("pyarrow", add_pyarrow),
    ("torch", add_torch),
    ("jax", add_jax),
):
    found = library(name)
    if found is not None:
        add(found)

MAY_DIVERGE = {"large", "negative", "large integers"}
KINDS = {**SAME, **REFUSED, **OTHER}


# ----------------------------------------------------------------------------------------------- the campaign


def outcome(argument, kind):
    """What is wrong with this kind of array for this argument; nothing where it is right."""
    names, plain, call = ARGUMENTS[argument]
    if argument == "class_weight":
        return of_class_weight(call, plain, kind)
    wanted = call(plain)
    value = KINDS[kind](plain)
    try:
        found = call(value)
    except (TypeError, ValueError) as error:
        if kind in SAME:
            return f"refused: {error}"
        named = str(error).startswith(tuple(names))
        return "" if named else f"does not begin with the name of the argument: {error}"
    except DivergedError as error:
        return "" if kind in MAY_DIVERGE else f"diverged: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if kind in REFUSED:
        left_out = argument.endswith("sample_weight") and kind == "None"
        return "" if left_out else "taken"
    if not np.isfinite(found).all():
        return "not finite" if kind not in MAY_DIVERGE else ""
    if kind in SAME and not np.array_equal(found, wanted):
        return "taken as something else"
    return ""


def of_class_weight(call, plain, kind):
    """A weight in the dict is a number: an array may be refused, and is one number at most."""
    try:
        call(KINDS[kind](plain))
    except (TypeError, ValueError) as error:
        return "" if "class_weight" in str(error) else f"does not name class_weight: {error}"
    except DivergedError:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "" if kind in ("a number", "one row") else "taken"


def campaign(seconds=float("inf"), show=print):
    """Goes through all pairs, or as many as the time allows; returns (pairs, findings)."""
    until = perf_counter() + seconds
    pairs = [(argument, kind) for argument in ARGUMENTS for kind in KINDS]
    np.random.default_rng(0).shuffle(pairs)
    done = findings = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", TrainingWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of np.matrix, which is made here
        for argument, kind in pairs:
            if perf_counter() > until:
                break
            done += 1
            problem = outcome(argument, kind)
            if problem:
                findings += 1
                show(f"{argument:26} {kind:36} {problem}")
    return done, findings


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="how long it goes on (to the end)")
    done, findings = campaign(parser.parse_args(arguments).seconds)
    print(f"{done} of {len(ARGUMENTS) * len(KINDS)} pairs of an argument and a kind of array: {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
