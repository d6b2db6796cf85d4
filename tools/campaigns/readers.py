"""Read random models of PyTorch and Keras: each must be rejected with a clear message, or read correctly.

    python tools/campaigns/readers.py [--models N] [--sources torch keras] [--first SEED]

A model is a chain of layers for images or vectors. Half of the models may have one unusual feature: a layer of another
type, an attribute, a subclass, a hook, a parametrization or another dtype. For each model the campaign checks that

- `from_torch` or `from_keras` with verify=False returns a network with the same outputs on new rows, or raises a
  ValueError or TypeError that names the unsupported part,
- the verification accepts a network with the same outputs,
- the model and the random states do not change,
- the network is the same after `to_torch` and `from_torch`.

Findings are printed with the seed of their model, and the exit status is 1 if there is any. tests/test_readers.py draws
models of the same kind with hypothesis. Models of Keras run on the backend KERAS_BACKEND (default: PyTorch).
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

    Choose = Callable[[Sequence[Any]], Any]  # function that chooses one of several values
    IsUnusual = Callable[[], bool]  # function that returns whether to add an unusual feature at this point

TOLERANCES = {
    "float32": 1e-4,
    "float64": 1e-9,
}  # allowed errors relative to the largest output, ten times those of `verify`
N_ROWS = 12


class Model(NamedTuple):
    """Model of another package with functions that read it and compute its outputs.

    Attributes
    ----------
    text : str
        Description for findings.
    read : callable
        Function of `verify` that returns the network.
    outputs : callable
        Function that computes the outputs of the model outside training, for rows in the layout of nnc.
    state : callable
        Function that returns as text everything that reading must not change.
    """

    text: str
    read: Callable[[bool], NeuralNetwork]
    outputs: Callable[[NDArray[Any]], NDArray[Any]]
    state: Callable[[], str]


def at_most_once(choose: Choose) -> IsUnusual:
    """Return a function that returns True at most once, so that a model has at most one unusual feature."""
    state = {"available": choose([False, True])}

    def is_unusual() -> bool:
        result: bool = state["available"] and choose([False, False, True])
        state["available"] &= not result
        return result

    return is_unusual


# ------------------------------------------------------------------------------------------------ PyTorch


def torch_model(choose: Choose, seed: int) -> Model:
    """Draw an nn.Sequential, with weights of this seed."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    has_images, is_unusual, parts = choose([False, True]), at_most_once(choose), []
    shape: tuple[int, ...] = (
        (choose([1, 2, 3]), choose([4, 5, 7]), choose([4, 6, 8])) if has_images else (choose([1, 2, 5]),)
    )
    input_shape = shape
    if has_images:
        for _ in range(choose([1, 2])):
            parts += _torch_images(choose, shape[0], is_unusual)
            shape = _shape_after(nn.Sequential(*parts), input_shape) or shape
        parts.append(nn.Flatten())
        shape = (int(np.prod(shape)),)
    for _ in range(choose([0, 1, 2])):
        parts += _torch_vectors(choose, shape[0], is_unusual)
        shape = _shape_after(nn.Sequential(*parts), input_shape) or shape
    parts.append(nn.Linear(shape[0], choose([1, 3]), bias=choose([True, False])))
    parts += choose([[], [], [nn.Softmax(1)], [nn.Sigmoid()], [nn.Tanh()], [nn.BatchNorm1d(parts[-1].out_features)]])
    for part in nn.Sequential(*parts).modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)) and part.running_var is not None:
            part.running_var.uniform_(0.5, 2)
            part.running_mean.normal_()
    if is_unusual():
        parts = _add_unusual_torch_feature(choose, parts)
    module = nn.Sequential(*parts)
    if choose([True, False]):
        module = module.double()
    module.train(choose([True, False]))
    return _wrap_torch_module(module, input_shape)


def _wrap_torch_module(module: Any, input_shape: tuple[int, ...]) -> Model:
    """Return a module of PyTorch as a Model."""
    import torch

    dtype = next((p.dtype for p in module.parameters() if p.dtype == torch.float64), torch.float32)

    def outputs(X: NDArray[Any]) -> NDArray[Any]:
        modes = [(part, part.training) for part in module.modules()]
        rows = torch.tensor(X.transpose(0, 3, 1, 2) if X.ndim == 4 else X, dtype=dtype)
        with torch.no_grad():
            result = module.eval()(rows).numpy()
        for part, training in modes:
            part.training = training
        return result  # type: ignore[no-any-return]

    def state() -> str:
        parameters = [p for p in module.parameters() if type(p) is torch.nn.Parameter and not p.is_meta]
        arrays = [float(p.double().sum()) for p in parameters]
        return repr(([part.training for part in module.modules()], arrays, torch.get_rng_state().tolist()))

    shape = (*input_shape[1:], input_shape[0]) if len(input_shape) == 3 else None
    return Model(repr(module), lambda verify: nnc.from_torch(module, shape, verify=verify), outputs, state)


def _shape_after(module: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of an output row of a module, or None if the module raises an error for rows of this shape."""
    import torch

    try:
        with torch.no_grad():
            output_shape = module.eval()(torch.zeros(2, *shape)).shape[1:]
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None
    return tuple(output_shape)


def _torch_activation(choose: Choose, is_unusual: IsUnusual) -> list[Any]:
    """Draw an activation, or none."""
    from torch import nn

    kinds: list[Callable[[], Any]]
    kinds = [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.Softplus, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.SELU]
    if is_unusual():
        kinds = [
            nn.ReLU6, nn.Hardsigmoid, nn.Hardswish, nn.Softsign, nn.PReLU, lambda: nn.CELU(2),
            lambda: nn.LeakyReLU(0.2), lambda: nn.Softplus(2), lambda: nn.Softplus(threshold=2), lambda: nn.ELU(0.5),
            lambda: nn.GELU("tanh"),
        ]  # fmt: skip
        return [choose(kinds)()]
    return [choose(kinds)()] if choose([True, True, False]) else []


def _torch_images(choose: Choose, channels: int, is_unusual: IsUnusual) -> list[Any]:
    """Draw a convolution and optional layers behind it: batch normalization, activation, pool and dropout."""
    from torch import nn

    n, size = choose([1, 2, 4]), choose([1, 2, 3, (3, 2)])
    padding = choose([0, "same", "same", 1 if size == 3 else 0])
    pad = choose([None, None, None, None, (1, 1, 1, 1), (0, 1, 0, 1)])
    parts: list[Any] = [] if pad is None else [nn.ZeroPad2d(pad)]
    options: dict[str, Any] = {
        "stride": 1 if padding == "same" else choose([1, 1, 2]),
        "padding": 0 if parts else padding,
    }
    if is_unusual():
        options |= choose(
            [{"dilation": 2}, {"padding": 1, "padding_mode": "reflect"}, {"groups": channels}, {"padding": 2}]
        )
    n = n * channels if "groups" in options else n
    parts.append(nn.Conv2d(channels, n, size, bias=choose([True, False]), **options))
    if choose([False, True]):
        parts.append(
            nn.BatchNorm2d(n, eps=choose([1e-5, 0.1]), momentum=choose([0.1, 0.5]), affine=choose([True, False]))
        )
    parts += _torch_activation(choose, is_unusual)
    pools: list[Any] = [[], [nn.MaxPool2d(2)], [nn.AvgPool2d((2, 1))], [nn.MaxPool2d(2, 1)], [nn.AdaptiveAvgPool2d(1)]]
    if is_unusual():
        pools = [
            [nn.MaxPool2d(2, ceil_mode=True)], [nn.MaxPool2d(3, 2, 1)], [nn.MaxPool2d(2, dilation=2)],
            [nn.AvgPool2d(2, ceil_mode=True)], [nn.AvgPool2d(2, divisor_override=3)], [nn.AvgPool2d(3, 1, 1)],
            [nn.AvgPool2d(3, 1, 1, count_include_pad=False)], [nn.AdaptiveAvgPool2d((None, 1))], [nn.LPPool2d(2, 2)],
        ]  # fmt: skip
    pool = choose(pools)
    return [
        *parts,
        *pool,
        *(_torch_activation(choose, is_unusual) if pool else []),
        *choose([[], [], [nn.Dropout2d(0.3)]]),
    ]


def _torch_vectors(choose: Choose, n_in: int, is_unusual: IsUnusual) -> list[Any]:
    """Draw a linear layer and optional layers behind it, sometimes twice."""
    from torch import nn

    n = choose([n_in, 1, 4])
    parts: list[Any] = [nn.Linear(n_in, n, bias=choose([True, False]))]
    norms: list[Any] = [[], [nn.BatchNorm1d(n, eps=choose([1e-5, 0.1]), affine=choose([True, False]))]]
    if is_unusual():
        norms = [[nn.BatchNorm1d(n, momentum=None)], [nn.LayerNorm(n)], [nn.BatchNorm1d(n, track_running_stats=False)]]
    parts += choose(norms)
    parts += _torch_activation(choose, is_unusual)
    parts += choose([[], [nn.Dropout(0.2)], [nn.Identity()], [nn.Flatten()], [nn.BatchNorm1d(n)]])
    if choose([False, True]):
        parts = [nn.Sequential(*parts)]
    return parts * (2 if n == n_in and choose([False, True]) else 1)


def _add_unusual_torch_feature(choose: Choose, parts: list[Any]) -> list[Any]:
    """Replace, insert or change one module."""
    import torch
    from torch import nn
    from torch.nn.utils import parametrizations, prune

    index = choose(range(len(parts)))
    part = parts[index]

    class Doubled(nn.Linear):
        """Subclass with doubled outputs."""

        def forward(self, x: Any) -> Any:
            return 2 * super().forward(x)

    class Reversed(nn.Sequential):
        """Subclass that runs its layers in reverse order."""

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

    def apply(change: Callable[[Any], Any]) -> Any:
        if part is not None:
            change(part)
        return part

    replacements: list[Callable[[], Any]] = [
        lambda: apply(lambda p: p.register_forward_hook(lambda m, x, y: 2 * y)),
        lambda: apply(lambda p: p.register_forward_pre_hook(lambda m, x: (2 * x[0],))),
        lambda: apply(lambda p: setattr(p, "forward", lambda x: 2 * x)),
        lambda: apply(lambda p: p.half()),
        lambda: apply(lambda p: p.double()),
        lambda: apply(lambda p: p.to("meta")),
        lambda: apply(lambda p: [q.data.fill_(torch.inf) for q in p.parameters()]),
        lambda: parametrizations.weight_norm(part) if hasattr(part, "in_features") else part,
        lambda: apply(lambda p: prune.l1_unstructured(p, "weight", 1) if hasattr(p, "in_features") else None),
        lambda: nn.Sequential(part, part),
        lambda: Reversed(part),
    ]
    if choose([True, False]):
        return [*parts[:index], choose(inserted), *parts[index:]]
    return [*parts[:index], choose(replacements)(), *parts[index + 1 :]]


# ------------------------------------------------------------------------------------------------ Keras


def keras_model(choose: Choose, seed: int) -> Model | None:
    """Draw a Sequential model with weights of this seed; return None if Keras cannot build it."""
    import keras
    from keras import layers

    has_images, is_unusual = choose([False, True]), at_most_once(choose)
    shape = (choose([4, 5, 7]), choose([4, 6, 8]), choose([1, 2])) if has_images else (choose([1, 2, 5]),)
    parts: list[Any] = choose(
        [[], [], [layers.Rescaling(0.5, offset=choose([0.0, -1.0]))], [_normalization(choose, shape, is_unusual)]]
    )
    for _ in range(choose([1, 2]) if has_images else 0):
        parts += _keras_images(choose, is_unusual)
    if has_images:
        parts.append(layers.Flatten(data_format="channels_first" if is_unusual() else None))
    for _ in range(choose([0, 1, 2])):
        parts += _keras_vectors(choose, is_unusual)
    parts.append(layers.Dense(choose([1, 3]), choose([None, "sigmoid", "tanh", "softmax", "exponential"])))
    parts += choose([[], [], [layers.BatchNormalization()], [layers.Softmax()]])
    if is_unusual():
        parts = _add_unusual_keras_feature(choose, parts)
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


def _normalization(choose: Choose, shape: tuple[int, ...], is_unusual: IsUnusual) -> Any:
    """Draw a Normalization layer for rows of this shape."""
    from keras import layers

    axis = choose([-1, -1, 1, None])
    n = () if axis is None else shape[axis - (axis > 0)]
    invert = is_unusual()
    return layers.Normalization(axis=axis, mean=np.full(n, 2.0), variance=np.full(n, 3.0), invert=invert)


KERAS_ACTIVATIONS = [name for name, nnc_name in ACTIVATIONS.items() if ROWS[nnc_name].elementwise and nnc_name != "exp"]


def _keras_activation(choose: Choose, is_unusual: IsUnusual) -> list[Any]:
    """Draw an activation layer, or none."""
    from keras import layers

    names = ("relu6", "hard_sigmoid", "leaky_relu", "softsign", "celu", "hard_tanh", "hard_silu", "log_softmax")
    constructors: list[Callable[[], Any]] = [
        *(lambda name=name: layers.Activation(name) for name in KERAS_ACTIVATIONS),
        *(layers.ReLU, layers.ELU, lambda: layers.LeakyReLU(negative_slope=0.01)),
    ]
    if is_unusual():
        constructors = [
            *(lambda name=name: layers.Activation(name) for name in names),
            *(layers.LeakyReLU, layers.PReLU, lambda: layers.ELU(0.5), lambda: layers.ReLU(max_value=1)),
            *(lambda: layers.ReLU(negative_slope=0.1), lambda: layers.ReLU(threshold=0.5)),
        ]
        return [choose(constructors)()]
    return [choose(constructors)()] if choose([True, True, False]) else []


def _keras_images(choose: Choose, is_unusual: IsUnusual) -> list[Any]:
    """Draw a convolution and optional layers behind it: batch normalization, activation, pool and dropout."""
    from keras import layers

    options: dict[str, Any] = {
        "strides": choose([1, 1, 2]),
        "padding": choose(["valid", "same"]),
        "use_bias": choose([True, False]),
    }
    if is_unusual():
        options |= choose([{"dilation_rate": 2, "strides": 1}, {"activation": "relu6"}, {"activation": "gelu"}])
    parts = [layers.Conv2D(choose([1, 2, 4]), choose([1, 2, 3, (3, 2)]), **options)]
    parts += choose(
        [[], [layers.BatchNormalization(choose([1] if is_unusual() else [-1, 3]), epsilon=choose([1e-3, 0.1]))]]
    )
    parts += _keras_activation(choose, is_unusual)
    pools: list[Any] = [
        [], [layers.MaxPooling2D(2)], [layers.AveragePooling2D((2, 1))], [layers.MaxPooling2D(2, padding="same")],
        [layers.GlobalAveragePooling2D(keepdims=True)],
    ]  # fmt: skip
    if is_unusual():
        pools = [
            [layers.AveragePooling2D(3, 1, padding="same")], [layers.MaxPooling2D(3, 1, padding="same")],
            [layers.GlobalMaxPooling2D(keepdims=True)], [layers.Permute((2, 1, 3))], [layers.ZeroPadding2D(1)],
        ]  # fmt: skip
    return [*parts, *choose(pools), *choose([[], [], [layers.SpatialDropout2D(0.3)]])]


def _keras_vectors(choose: Choose, is_unusual: IsUnusual) -> list[Any]:
    """Draw a dense layer and optional layers behind it."""
    from keras import layers

    parts: list[Any] = [layers.Dense(choose([1, 4]), use_bias=choose([True, False]))]
    norms: list[Any] = [[], [layers.BatchNormalization(axis=choose([-1, 1]), center=choose([True, False]))]]
    if is_unusual():
        norms = [[layers.BatchNormalization(renorm=True)], [layers.LayerNormalization()], [layers.Rescaling(2.0)]]
    parts += choose(norms) + _keras_activation(choose, is_unusual)
    return parts + choose([[], [layers.Dropout(0.2)], [layers.BatchNormalization()], [layers.Flatten()]])


def _add_unusual_keras_feature(choose: Choose, parts: list[Any]) -> list[Any]:
    """Replace, insert or change one layer."""
    import keras
    from keras import layers

    class Doubled(layers.Dense):  # type: ignore[misc]
        """Subclass with doubled outputs."""

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
    index = choose(range(len(parts) + 1))
    if choose([True, True, True, False]) or index == len(parts):
        return [*parts[:index], choose(inserted)(), *parts[index:]]
    parts[index].call = lambda inputs: 2 * inputs
    return parts


# ------------------------------------------------------------------------------------------------ checks


def findings(model: Model, counts: Counter[str], seed: int) -> Iterator[str]:
    """Yield the findings for a model, and count in `counts` whether it was read or rejected."""
    before = model.state()
    try:
        network = model.read(False)
    except (ValueError, TypeError) as error:
        counts["rejected"] += 1
        if not re.search(r"\b(module|layer|model|shape)\b", str(error)):
            yield f"the message must name a module, layer, model or shape: {error}"
        return
    except Exception as error:  # only ValueError and TypeError are allowed; others are findings
        yield f"reading must raise ValueError or TypeError, got {type(error).__name__}: {error}"
        return
    counts["read"] += 1
    X = np.random.default_rng(seed).normal(size=(N_ROWS, *network.model.input_shape)).astype(network.dtype)
    if not (difference := relative_difference(network, X, model.outputs)) <= 1:
        yield f"the outputs differ by {difference:.3g} times the tolerance: {network!r}"
        return
    try:
        model.read(True)
    except Exception as error:
        yield f"the verification rejects a correct network: {error}"
    if model.state() != before:
        yield "the model or the random state was changed"
    if importlib.util.find_spec("torch"):
        has_images = len(network.model.input_shape) == 3
        reloaded = nnc.from_torch(network.to_torch(), network.model.input_shape if has_images else None)
        if not relative_difference(reloaded, X, network.predict) <= 1:
            yield "the network is different after to_torch and from_torch"


def relative_difference(network: NeuralNetwork, X: NDArray[Any], outputs: Callable[[Any], NDArray[Any]]) -> float:
    """Return the largest difference between predictions and outputs, divided by the tolerance."""
    try:
        P, expected = network.predict(X), outputs(X)
    except Exception:  # nnc must reject models that cannot be evaluated, so the difference is infinite
        return np.inf
    if P.shape != expected.shape:
        return np.inf
    tolerance = max(TOLERANCES[array.dtype.name] for array in (P, expected))
    return float(np.abs(P - expected).max() / (tolerance * max(np.abs(expected).max(), 1e-6)))


SOURCES: dict[str, Callable[[Choose, int], Model | None]] = {"torch": torch_model, "keras": keras_model}


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=2000, help="models of each source (default: %(default)s)")
    parser.add_argument("--sources", nargs="*", choices=[*SOURCES], default=[*SOURCES], help="packages (default: all)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first model (default: %(default)s)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("KERAS_BACKEND", "torch" if importlib.util.find_spec("torch") else "jax")
    n_findings = 0
    warnings.simplefilter("ignore")
    for source in options.sources:
        if importlib.util.find_spec(source) is None:
            print(f"{source}: not installed")
            continue
        counts: Counter[str] = Counter()
        for seed in range(options.first, options.first + options.models):
            model = SOURCES[source](random.Random(seed).choice, seed)
            counts["models"] += model is not None
            for text in findings(model, counts, seed) if model else ():
                n_findings += 1
                print(f"FINDING {source}, seed {seed}: {text}\n    {model.text if model else ''}")
        print(f"{source}: {', '.join(f'{n} {name}' for name, n in counts.items())}")
    print(f"{n_findings} findings")
    return int(n_findings > 0)


if __name__ == "__main__":
    sys.exit(main())
