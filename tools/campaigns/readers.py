"""Read random models of PyTorch and Keras: each is refused by name, or the network agrees with it.

    python tools/campaigns/readers.py [--models N] [--sources torch keras] [--first SEED]

A model is a chain of layers for images or vectors. Half of the models deviate in one place: by a layer of another
type, an attribute, a subclass, a hook, a parametrization, another dtype. For each model the campaign checks that

- `from_torch` or `from_keras` with verify=False returns a network that agrees with the model on new rows, or raises a
  ValueError or TypeError that names the problem, and nothing else;
- the verification does not refuse what agrees;
- the model and the random states are as before;
- a network that was read from PyTorch comes back from `to_torch`.

Findings are printed with the seed of their model, and the exit code is 1 if there is any. tests/test_readers.py draws
models of the same kind with hypothesis. Models of Keras run on the backend KERAS_BACKEND, by default PyTorch.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import sys
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import nnc
from nnc import NeuralNetwork
from nnc._interop.keras_layers import ACTIVATIONS
from nnc._registry.activations import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    One = Callable[[Sequence[Any]], Any]  # chooses one of several things
    Odd = Callable[[], bool]  # returns whether to deviate here

TOLERANCES = {"float32": 1e-4, "float64": 1e-9}  # relative to the largest output; ten times those of the verification
N_ROWS = 12


class Model(NamedTuple):
    """A model of another package.

    Attributes
    ----------
    text : str
        What findings show.
    read : callable
        Returns the network; takes `verify`.
    outputs : callable
        Computes the outputs of the model outside training, for rows in nnc's layout.
    state : callable
        Returns everything that reading must leave unchanged, as text.
    """

    text: str
    read: Callable[[bool], NeuralNetwork]
    outputs: Callable[[NDArray[Any]], NDArray[Any]]
    state: Callable[[], str]


def once(one: One) -> Odd:
    """Return a function that returns True once, or never: a model deviates in at most one place."""
    state = {"left": one([False, True])}

    def odd() -> bool:
        deviate: bool = state["left"] and one([False, False, True])
        state["left"] &= not deviate
        return deviate

    return odd


# ------------------------------------------------------------------------------------------------ PyTorch


def torch_model(one: One, seed: int) -> Model:
    """Draw an nn.Sequential; `seed` is that of its weights."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    images, odd, parts = one([False, True]), once(one), []
    shape: tuple[int, ...] = (one([1, 2, 3]), one([4, 5, 7]), one([4, 6, 8])) if images else (one([1, 2, 5]),)
    given = shape
    if images:
        for _ in range(one([1, 2])):
            parts += _torch_images(one, shape[0], odd)
            shape = _shape_after(nn.Sequential(*parts), given) or shape
        parts.append(nn.Flatten())
        shape = (int(np.prod(shape)),)
    for _ in range(one([0, 1, 2])):
        parts += _torch_vectors(one, shape[0], odd)
        shape = _shape_after(nn.Sequential(*parts), given) or shape
    parts.append(nn.Linear(shape[0], one([1, 3]), bias=one([True, False])))
    parts += one([[], [], [nn.Softmax(1)], [nn.Sigmoid()], [nn.Tanh()], [nn.BatchNorm1d(parts[-1].out_features)]])
    for part in nn.Sequential(*parts).modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)) and part.running_var is not None:
            part.running_var.uniform_(0.5, 2)
            part.running_mean.normal_()
    if odd():
        parts = _torch_odd(one, parts)
    module = nn.Sequential(*parts)
    if one([True, False]):
        module = module.double()
    module.train(one([True, False]))
    return _of_torch(module, given)


def _of_torch(module: Any, given: tuple[int, ...]) -> Model:
    import torch

    dtype = next((p.dtype for p in module.parameters() if p.dtype == torch.float64), torch.float32)

    def outputs(X: NDArray[Any]) -> NDArray[Any]:
        modes = [(part, part.training) for part in module.modules()]
        rows = torch.tensor(X.transpose(0, 3, 1, 2) if X.ndim == 4 else X, dtype=dtype)
        with torch.no_grad():
            found = module.eval()(rows).numpy()
        for part, training in modes:
            part.training = training
        return found  # type: ignore[no-any-return]

    def state() -> str:
        plain = [p for p in module.parameters() if type(p) is torch.nn.Parameter and not p.is_meta]
        arrays = [float(p.double().sum()) for p in plain]
        return repr(([part.training for part in module.modules()], arrays, torch.get_rng_state().tolist()))

    shape = (*given[1:], given[0]) if len(given) == 3 else None
    return Model(repr(module), lambda verify: nnc.from_torch(module, shape, verify=verify), outputs, state)


def _shape_after(module: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of a row that a module gives, None if it does not accept its rows."""
    import torch

    try:
        with torch.no_grad():
            found = module.eval()(torch.zeros(2, *shape)).shape[1:]
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None
    return tuple(found)


def _torch_activation(one: One, odd: Odd) -> list[Any]:
    from torch import nn

    kinds: list[Callable[[], Any]]
    kinds = [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.Softplus, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.SELU]
    if odd():
        kinds = [
            nn.ReLU6, nn.Hardsigmoid, nn.Hardswish, nn.Softsign, nn.PReLU, lambda: nn.CELU(2),
            lambda: nn.LeakyReLU(0.2), lambda: nn.Softplus(2), lambda: nn.Softplus(threshold=2), lambda: nn.ELU(0.5),
            lambda: nn.GELU("tanh"),
        ]  # fmt: skip
        return [one(kinds)()]
    return [one(kinds)()] if one([True, True, False]) else []


def _torch_images(one: One, channels: int, odd: Odd) -> list[Any]:
    """Draw a convolution with what may follow it."""
    from torch import nn

    n, size = one([1, 2, 4]), one([1, 2, 3, (3, 2)])
    zeros = one([0, "same", "same", 1 if size == 3 else 0])
    pad = one([None, None, None, None, (1, 1, 1, 1), (0, 1, 0, 1)])
    parts: list[Any] = [] if pad is None else [nn.ZeroPad2d(pad)]
    options: dict[str, Any] = {"stride": 1 if zeros == "same" else one([1, 1, 2]), "padding": 0 if parts else zeros}
    if odd():
        options |= one(
            [{"dilation": 2}, {"padding": 1, "padding_mode": "reflect"}, {"groups": channels}, {"padding": 2}]
        )
    n = n * channels if "groups" in options else n
    parts.append(nn.Conv2d(channels, n, size, bias=one([True, False]), **options))
    if one([False, True]):
        parts.append(nn.BatchNorm2d(n, eps=one([1e-5, 0.1]), momentum=one([0.1, 0.5]), affine=one([True, False])))
    parts += _torch_activation(one, odd)
    pools: list[Any] = [[], [nn.MaxPool2d(2)], [nn.AvgPool2d((2, 1))], [nn.MaxPool2d(2, 1)], [nn.AdaptiveAvgPool2d(1)]]
    if odd():
        pools = [
            [nn.MaxPool2d(2, ceil_mode=True)], [nn.MaxPool2d(3, 2, 1)], [nn.MaxPool2d(2, dilation=2)],
            [nn.AvgPool2d(2, ceil_mode=True)], [nn.AvgPool2d(2, divisor_override=3)], [nn.AvgPool2d(3, 1, 1)],
            [nn.AvgPool2d(3, 1, 1, count_include_pad=False)], [nn.AdaptiveAvgPool2d((None, 1))], [nn.LPPool2d(2, 2)],
        ]  # fmt: skip
    found = one(pools)
    return [*parts, *found, *(_torch_activation(one, odd) if found else []), *one([[], [], [nn.Dropout2d(0.3)]])]


def _torch_vectors(one: One, n_in: int, odd: Odd) -> list[Any]:
    """Draw a linear layer with what may follow it, perhaps repeated."""
    from torch import nn

    n = one([n_in, 1, 4])
    parts: list[Any] = [nn.Linear(n_in, n, bias=one([True, False]))]
    norms: list[Any] = [[], [nn.BatchNorm1d(n, eps=one([1e-5, 0.1]), affine=one([True, False]))]]
    if odd():
        norms = [[nn.BatchNorm1d(n, momentum=None)], [nn.LayerNorm(n)], [nn.BatchNorm1d(n, track_running_stats=False)]]
    parts += one(norms)
    parts += _torch_activation(one, odd)
    parts += one([[], [nn.Dropout(0.2)], [nn.Identity()], [nn.Flatten()], [nn.BatchNorm1d(n)]])
    if one([False, True]):
        parts = [nn.Sequential(*parts)]
    return parts * (2 if n == n_in and one([False, True]) else 1)


def _torch_odd(one: One, parts: list[Any]) -> list[Any]:
    """Replace, insert or change one module."""
    import torch
    from torch import nn
    from torch.nn.utils import parametrizations, prune

    place = one(range(len(parts)))
    part = parts[place]

    class Doubled(nn.Linear):
        def forward(self, x: Any) -> Any:
            return 2 * super().forward(x)

    class Reversed(nn.Sequential):
        def forward(self, x: Any) -> Any:
            for layer in [*self][::-1]:
                x = layer(x)
            return x

    inserted = [
        nn.ReLU6(), nn.LogSoftmax(1), nn.Softmax(1), nn.Softmax(0), nn.Softmax(-1), nn.GLU(1), nn.AlphaDropout(0.5),
        nn.Dropout(0.5), nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(1), nn.Flatten(2),
        nn.Flatten(0), nn.Unflatten(1, (1, 1, -1)), nn.ZeroPad2d(1), nn.ZeroPad2d(-1), nn.Conv2d(1, 1, 1), nn.ReLU(),
        nn.Linear(4, 4), nn.Linear(1, 1), nn.LazyLinear(3), nn.Bilinear(2, 2, 2), nn.ModuleList(), None,
        Doubled(4, 4), Reversed(nn.Tanh(), nn.ReLU()),
    ]  # fmt: skip

    def changed(change: Callable[[Any], Any]) -> Any:
        if part is not None:
            change(part)
        return part

    replaced: list[Callable[[], Any]] = [
        lambda: changed(lambda p: p.register_forward_hook(lambda m, x, y: 2 * y)),
        lambda: changed(lambda p: p.register_forward_pre_hook(lambda m, x: (2 * x[0],))),
        lambda: changed(lambda p: setattr(p, "forward", lambda x: 2 * x)),
        lambda: changed(lambda p: p.half()),
        lambda: changed(lambda p: p.double()),
        lambda: changed(lambda p: p.to("meta")),
        lambda: changed(lambda p: [q.data.fill_(torch.inf) for q in p.parameters()]),
        lambda: parametrizations.weight_norm(part) if hasattr(part, "in_features") else part,
        lambda: changed(lambda p: prune.l1_unstructured(p, "weight", 1) if hasattr(p, "in_features") else None),
        lambda: nn.Sequential(part, part),
        lambda: Reversed(part),
    ]
    if one([True, False]):
        return [*parts[:place], one(inserted), *parts[place:]]
    return [*parts[:place], one(replaced)(), *parts[place + 1 :]]


# ------------------------------------------------------------------------------------------------ Keras


def keras_model(one: One, seed: int) -> Model | None:
    """Draw a Sequential model, None if Keras itself refuses it; `seed` is that of its weights."""
    import keras
    from keras import layers

    images, odd = one([False, True]), once(one)
    shape = (one([4, 5, 7]), one([4, 6, 8]), one([1, 2])) if images else (one([1, 2, 5]),)
    parts: list[Any] = one(
        [[], [], [layers.Rescaling(0.5, offset=one([0.0, -1.0]))], [_normalization(one, shape, odd)]]
    )
    for _ in range(one([1, 2]) if images else 0):
        parts += _keras_images(one, odd)
    if images:
        parts.append(layers.Flatten(data_format="channels_first" if odd() else None))
    for _ in range(one([0, 1, 2])):
        parts += _keras_vectors(one, odd)
    parts.append(layers.Dense(one([1, 3]), one([None, "sigmoid", "tanh", "softmax", "exponential"])))
    parts += one([[], [], [layers.BatchNormalization()], [layers.Softmax()]])
    if odd():
        parts = _keras_odd(one, parts)
    try:
        model = keras.Sequential([keras.Input(shape), *parts])
    except (ValueError, TypeError, RuntimeError, IndexError, AttributeError):
        return None
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        arrays = layer.get_weights()
        low = 0.5 if type(layer).__name__ == "BatchNormalization" else -0.5
        if all(array.dtype.kind == "f" for array in arrays):
            layer.set_weights([rng.uniform(low, 1, array.shape).astype(array.dtype) for array in arrays])

    def outputs(X: NDArray[Any]) -> NDArray[Any]:
        return keras.ops.convert_to_numpy(model(X, training=False))  # type: ignore[no-any-return]

    def state() -> str:
        return repr([np.asarray(keras.ops.convert_to_numpy(variable)).tolist() for variable in model.variables])

    text = ", ".join(f"{type(layer).__name__}({layer.get_config()})" for layer in model.layers)
    return Model(text, lambda verify: nnc.from_keras(model, verify=verify), outputs, state)


def _normalization(one: One, shape: tuple[int, ...], odd: Odd) -> Any:
    from keras import layers

    axis = one([-1, -1, 1, None])
    n = () if axis is None else shape[axis - (axis > 0)]
    invert = odd()
    return layers.Normalization(axis=axis, mean=np.full(n, 2.0), variance=np.full(n, 3.0), invert=invert)


KERAS_ACTIVATIONS = [name for name, ours in ACTIVATIONS.items() if ROWS[ours].elementwise and ours != "exp"]


def _keras_activation(one: One, odd: Odd) -> list[Any]:
    from keras import layers

    names = ("relu6", "hard_sigmoid", "leaky_relu", "softsign", "celu", "hard_tanh", "hard_silu", "log_softmax")
    made: list[Callable[[], Any]] = [
        *(lambda name=name: layers.Activation(name) for name in KERAS_ACTIVATIONS),
        *(layers.ReLU, layers.ELU, lambda: layers.LeakyReLU(negative_slope=0.01)),
    ]
    if odd():
        made = [
            *(lambda name=name: layers.Activation(name) for name in names),
            *(layers.LeakyReLU, layers.PReLU, lambda: layers.ELU(0.5), lambda: layers.ReLU(max_value=1)),
            *(lambda: layers.ReLU(negative_slope=0.1), lambda: layers.ReLU(threshold=0.5)),
        ]
        return [one(made)()]
    return [one(made)()] if one([True, True, False]) else []


def _keras_images(one: One, odd: Odd) -> list[Any]:
    """Draw a convolution with what may follow it."""
    from keras import layers

    options: dict[str, Any] = {
        "strides": one([1, 1, 2]),
        "padding": one(["valid", "same"]),
        "use_bias": one([True, False]),
    }
    if odd():
        options |= one([{"dilation_rate": 2, "strides": 1}, {"activation": "relu6"}, {"activation": "gelu"}])
    parts = [layers.Conv2D(one([1, 2, 4]), one([1, 2, 3, (3, 2)]), **options)]
    parts += one([[], [layers.BatchNormalization(one([1] if odd() else [-1, 3]), epsilon=one([1e-3, 0.1]))]])
    parts += _keras_activation(one, odd)
    pools: list[Any] = [
        [], [layers.MaxPooling2D(2)], [layers.AveragePooling2D((2, 1))], [layers.MaxPooling2D(2, padding="same")],
        [layers.GlobalAveragePooling2D(keepdims=True)],
    ]  # fmt: skip
    if odd():
        pools = [
            [layers.AveragePooling2D(3, 1, padding="same")], [layers.MaxPooling2D(3, 1, padding="same")],
            [layers.GlobalMaxPooling2D(keepdims=True)], [layers.Permute((2, 1, 3))], [layers.ZeroPadding2D(1)],
        ]  # fmt: skip
    return [*parts, *one(pools), *one([[], [], [layers.SpatialDropout2D(0.3)]])]


def _keras_vectors(one: One, odd: Odd) -> list[Any]:
    """Draw a dense layer with what may follow it."""
    from keras import layers

    parts: list[Any] = [layers.Dense(one([1, 4]), use_bias=one([True, False]))]
    norms: list[Any] = [[], [layers.BatchNormalization(axis=one([-1, 1]), center=one([True, False]))]]
    if odd():
        norms = [[layers.BatchNormalization(renorm=True)], [layers.LayerNormalization()], [layers.Rescaling(2.0)]]
    parts += one(norms) + _keras_activation(one, odd)
    return parts + one([[], [layers.Dropout(0.2)], [layers.BatchNormalization()], [layers.Flatten()]])


def _keras_odd(one: One, parts: list[Any]) -> list[Any]:
    """Replace, insert or change one layer."""
    import keras
    from keras import layers

    class Doubled(layers.Dense):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return 2 * super().call(inputs)

    inserted: list[Callable[[], Any]] = [
        *(
            lambda name=name: layers.Dense(4, name)
            for name in ("relu6", "hard_sigmoid", "log_softmax", "glu", "softmax")
        ),
        lambda: layers.Dense(4, layers.ReLU(max_value=1)),
        lambda: layers.Activation(lambda x: 2 * x),
        lambda: layers.Softmax(axis=1),
        lambda: layers.Normalization(mean=1.0, variance=2.0, axis=None),
        lambda: layers.GlobalAveragePooling2D(),
        lambda: layers.Conv2D(2, 1, groups=2),
        lambda: layers.DepthwiseConv2D(2),
        lambda: layers.Reshape((-1, 1)),
        lambda: layers.Reshape((1, 1, -1)),
        lambda: layers.Dropout(0.5),
        lambda: layers.GaussianNoise(0.5),
        lambda: layers.Masking(),
        lambda: layers.Dense(3, dtype="mixed_float16"),
        lambda: layers.Dense(3, dtype="float64"),
        lambda: layers.UnitNormalization(),
        lambda: layers.Lambda(lambda x: 2 * x),
        lambda: keras.Sequential([layers.Dense(3)]),
        lambda: Doubled(4),
    ]
    place = one(range(len(parts) + 1))
    if one([True, True, True, False]) or place == len(parts):
        return [*parts[:place], one(inserted)(), *parts[place:]]
    parts[place].call = lambda inputs: 2 * inputs
    return parts


# ------------------------------------------------------------------------------------------------ checks


def findings(model: Model, counts: Counter[str], seed: int) -> Iterator[str]:
    """Yield what is wrong with the reading of a model; counts what was read and refused."""
    before = model.state()
    try:
        network = model.read(False)
    except (ValueError, TypeError) as error:
        counts["refused"] += 1
        if not re.search(r"\b(module|layer|model|shape)\b", str(error)):
            yield f"the message names nothing: {error}"
        return
    except Exception as error:  # any other class is a finding
        yield f"{type(error).__name__} instead of a refusal: {error}"
        return
    counts["read"] += 1
    X = np.random.default_rng(seed).normal(size=(N_ROWS, *network.model.input_shape)).astype(network.dtype)
    if not (found := agreement(network, X, model.outputs)) <= 1:
        yield f"read as something else: difference {found:.3g} times the tolerance, {network!r}"
        return
    try:
        model.read(True)
    except Exception as error:
        yield f"false alarm of the verification: {error}"
    if model.state() != before:
        yield "the model or the random state was changed"
    if importlib.util.find_spec("torch"):
        images = len(network.model.input_shape) == 3
        again = nnc.from_torch(network.to_torch(), network.model.input_shape if images else None)
        if not agreement(again, X, network.predict) <= 1:
            yield "to_torch and from_torch give another network"


def agreement(network: NeuralNetwork, X: NDArray[Any], outputs: Callable[[Any], NDArray[Any]]) -> float:
    """Return the difference of predictions and outputs, divided by the tolerance."""
    try:
        P, wanted = network.predict(X), outputs(X)
    except Exception:  # a model that cannot be evaluated must not be read
        return np.inf
    if P.shape != wanted.shape:
        return np.inf
    tolerance = max(TOLERANCES[array.dtype.name] for array in (P, wanted))
    return float(np.abs(P - wanted).max() / (tolerance * max(np.abs(wanted).max(), 1e-6)))


SOURCES: dict[str, Callable[[One, int], Model | None]] = {"torch": torch_model, "keras": keras_model}


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=2000, help="number of models of each source (default 2000)")
    parser.add_argument("--sources", nargs="*", choices=[*SOURCES], default=[*SOURCES])
    parser.add_argument("--first", type=int, default=0, help="first seed")
    given = parser.parse_args(arguments)
    os.environ.setdefault("KERAS_BACKEND", "torch" if importlib.util.find_spec("torch") else "jax")
    wrong = 0
    warnings.simplefilter("ignore")
    for source in given.sources:
        if importlib.util.find_spec(source) is None:
            print(f"{source}: not installed")
            continue
        counts: Counter[str] = Counter()
        for seed in range(given.first, given.first + given.models):
            model = SOURCES[source](random.Random(seed).choice, seed)
            counts["models"] += model is not None
            for text in findings(model, counts, seed) if model else ():
                wrong += 1
                print(f"FINDING {source}, seed {seed}: {text}\n    {model.text if model else ''}")
        print(f"{source}: {', '.join(f'{n} {name}' for name, n in counts.items())}")
    print(f"{wrong} findings")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
