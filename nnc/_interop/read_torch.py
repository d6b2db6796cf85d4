"""Reader of PyTorch's nn.Sequential (extra `[torch]`).

A module is read if its exact type is a key of READERS or ACTIVATIONS and its attributes are those in REQUIRED.
Everything else is refused by name, since it may compute something else: subclasses, hooks and parametrizations too.
"""

from __future__ import annotations

from contextlib import contextmanager
from operator import index
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nnc._interop.parts import ERRORS, Builder, Parts, check_methods, named, require, scaling
from nnc._interop.torch_modules import ACTIVATIONS, Exp, Scale
from nnc._interop.verification import check_outputs, random_rows

try:
    import torch
    from torch import nn
    from torch.nn.utils import parametrize
except ImportError as error:
    raise ImportError(f"this needs PyTorch ({error}); install it with pip install torch") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Attributes that change what a module computes, and the only values that nnc supports.
REQUIRED: dict[type, dict[str, Any]] = {
    nn.Conv2d: {"dilation": (1, 1), "groups": 1, "padding_mode": "zeros"},
    nn.MaxPool2d: {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False},
    nn.AvgPool2d: {"padding": 0, "ceil_mode": False, "divisor_override": None},
    nn.AdaptiveAvgPool2d: {"output_size": 1},
    nn.Flatten: {"start_dim": 1, "end_dim": -1},
    nn.Unflatten: {"dim": 1},
    **{kind: attributes for kind, (_, attributes) in ACTIVATIONS.items()},
}
MIN_SOFTPLUS_THRESHOLD = 20.0  # beyond it z is a good approximation of softplus(z): exp(-20) = 2e-9
Network = TypeVar("Network")  # a NeuralNetwork


def read(build: Callable[[Parts], Network], module: Any, shape: Any, loss: Any, verify: bool) -> Network:
    """Return the network that `build` makes of the parts of a module; compare the two if `verify` is true.

    Raises
    ------
    TypeError, ValueError
        As in `parts_of` and `check`.
    """
    parts = parts_of(module, shape, loss)
    network = build(parts)
    if verify:
        check(network, module, parts)
    return network


def parts_of(module: Any, shape: Any, loss: Any) -> Parts:
    """Read an nn.Sequential.

    Parameters
    ----------
    module : nn.Sequential
    shape : (height, width, channels), optional
        Shape of a row of inputs; needed if the first layer is one for images.
    loss : str or Loss, optional

    Raises
    ------
    TypeError
        `module` is not an nn.Sequential, or `shape` does not consist of whole numbers.
    ValueError
        A module in it is not supported; the message names it.
    """
    modules = _modules(module)
    dtypes = sorted({str(tensor.dtype) for tensor in module.parameters()})
    if len(dtypes) > 1:
        raise ValueError(f"module must have parameters of one dtype, got {', '.join(dtypes)}")
    shape = _input_shape(modules, shape)
    builder, scalings, pad = Builder(shape), _scalings(modules, shape), None
    for (name, part), (_, following) in zip(modules, [*modules[1:], ("", None)], strict=True):
        what = _described(name, part)
        with named(what):
            require(part, REQUIRED.get(type(part), {}), what)
            if type(part) is nn.ZeroPad2d:
                if type(following) is not nn.Conv2d:
                    raise ValueError(f"{what} must be before a Conv2d")
                left, right, top, bottom = map(index, part.padding)
                pad = top, left, bottom, right
                continue
            if type(part) is nn.Conv2d:
                _conv(builder, part, what, pad)
            elif type(part) in ACTIVATIONS:
                builder.activation(ACTIVATIONS[type(part)][0], what)
            else:
                READERS[type(part)](builder, part, what)
        pad = None
    return builder.parts(loss, **scalings)


def check(network: Any, module: Any, parts: Parts) -> None:
    """Compare a network with the module that it was read from, on random rows.

    The module is called in evaluation mode and without gradients. The training mode of each of its modules and the
    random state of PyTorch are restored.

    Raises
    ------
    ValueError
        Outputs differ by more than the tolerance, or the module cannot be evaluated.
    """
    X = random_rows(network)
    rows = torch.from_numpy(np.ascontiguousarray(X.transpose(0, 3, 1, 2) if X.ndim == 4 else X))
    if type(_modules(module)[0][1]) is nn.Unflatten:
        rows = rows.flatten(1)
    device = next(module.parameters()).device
    try:
        with _evaluation(module), torch.autocast(device.type, enabled=False):
            outputs = module(rows.to(device)).cpu().numpy()
    except ERRORS as error:
        shape = tuple(rows.shape[1:])
        raise ValueError(f"module must accept rows of the shape {shape}, got the error: {error}") from None
    check_outputs(network, X, outputs, parts.added_output, "module")


@contextmanager
def _evaluation(module: Any) -> Iterator[None]:
    """Evaluation mode without gradients; restores the mode of each module and the random state of the CPU."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


# ------------------------------------------------------------------------------------------------ structure


def _modules(module: Any) -> list[tuple[str, Any]]:
    """List the modules in the order of their use, with their names, those in nested Sequentials included."""
    if type(module) is not nn.Sequential:
        remedy = "; a subclass may compute something else: pass nn.Sequential(*module) if it does not"
        raise TypeError(
            f"module must be an nn.Sequential, got {type(module).__name__}"
            f"{remedy if isinstance(module, nn.Sequential) else ''}"
        )
    try:
        _check_plain(module, "module")
        return [*_flat(module, "")]
    except RecursionError:
        raise ValueError("module must be nested less deeply, got one that contains itself or too many others") from None


def _flat(module: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield each use of a module: one that is used twice comes twice, which `named_children` does not do."""
    for name, part in module._modules.items():
        _check_plain(part, _described(prefix + name, part))
        if type(part) is nn.Sequential:
            yield from _flat(part, f"{prefix}{name}.")
        else:
            yield prefix + name, part


def _described(name: str, part: Any) -> str:
    return f"module {name} ({type(part).__name__})"


def _check_plain(part: Any, what: str) -> None:
    """Refuse a module whose type is not supported, or whose computation may have been changed from outside."""
    if type(part) not in SUPPORTED:
        base = next((kind for kind in type(part).__mro__ if kind in SUPPORTED), None)
        if base is None:
            raise ValueError(f"{what} must be one of {', '.join(kind.__name__ for kind in SUPPORTED)}")
        if parametrize.is_parametrized(part):
            raise ValueError(
                f"{what} must not be parametrized; call torch.nn.utils.parametrize.remove_parametrizations before"
            )
        raise ValueError(
            f"{what} must be a {base.__name__}, got a subclass, which may compute something else; "
            f"replace it by a {base.__name__} with the same parameters if it does not"
        )
    if part._forward_hooks or part._forward_pre_hooks:
        raise ValueError(
            f"{what} must have no forward hooks, which may change what it computes; remove them first "
            "(weight_norm, spectral_norm and pruning add some)"
        )
    check_methods(part, what)


def _input_shape(modules: list[tuple[str, Any]], shape: Any) -> tuple[int, ...]:
    """Find the shape of a row of inputs; removes an Unflatten at the beginning."""
    if shape is not None:
        try:
            shape = tuple(map(index, shape))
        except TypeError:
            raise TypeError(f"shape must be (height, width, channels), got {shape!r}") from None
    if modules and type(modules[0][1]) is nn.Unflatten:
        name, part = modules.pop(0)
        what = _described(name, part)
        with named(what):
            require(part, REQUIRED.get(type(part), {}), what)
            channels, height, width = map(index, part.unflattened_size)
        found = (height, width, channels)
        if min(found) < 1:
            raise ValueError(
                f"{what} must have an unflattened_size of three positive numbers, got {part.unflattened_size}"
            )
        if shape not in (None, found):
            raise ValueError(f"shape must be {found} as in {what}, got {shape}")
        shape = found
    first = next((part for _, part in modules if type(part) in (nn.Linear, nn.Conv2d)), None)
    if shape is None and first is not None and type(first) is nn.Linear:
        shape = (first.weight.shape[1],)
    if shape is None:
        raise ValueError("shape must be given if the first module is for images: (height, width, channels)")
    if len(shape) not in (1, 3):
        raise ValueError(f"shape must be (height, width, channels), got {shape}")
    return tuple(shape)


def _scalings(modules: list[tuple[str, Any]], shape: tuple[int, ...]) -> dict[str, Any]:
    """Read the scalings of inputs and targets, and remove their modules: a Scale at the beginning and at the end.

    A Scale of vectors that only multiplies may be a Scale layer behind the inputs, and is left as one.
    """
    found = {}
    for place, key in ((-1, "scale_y"), (0, "scale_X")):
        if len(modules) < 2 or type(modules[place][1]) is not Scale:
            continue
        with named(_described(*modules[place])):
            minus, times, plus = modules[place][1].arrays()
            if not times.all():
                raise ValueError("times must not be 0")
            if key == "scale_y":
                found[key] = scaling(plus - minus * times, 1 / times)
            elif minus.any() or plus.any() or (times == 1 / 255).all() or len(shape) == 3:
                found[key] = scaling(*(np.broadcast_to(part, shape) for part in (minus - plus / times, times)))
            else:
                continue
        del modules[place]
    return found


# ------------------------------------------------------------------------------------------------ modules


def _numbers(tensor: Any, what: str) -> Any:
    """Return a parameter or a buffer as an array, None for None."""
    if tensor is None:
        return None
    plain = type(tensor) in (torch.Tensor, nn.Parameter) and tensor.layout is torch.strided and not tensor.is_meta
    if not plain or tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{what} must have dense float32 or float64 tensors that are in memory, got {type(tensor).__name__} of "
            f"{tensor.dtype} ({tensor.layout}) on {tensor.device}"
        )
    return tensor.detach().cpu().numpy()


def _pair(value: Any) -> tuple[int, int]:
    """Return the value for height and that for width, which may be one number for both."""
    height, width = value if isinstance(value, (tuple, list)) else (value, value)
    return index(height), index(width)


def _linear(builder: Builder, part: Any, what: str) -> None:
    builder.require_vectors(what)
    builder.dense(_numbers(part.weight, what).T, _numbers(part.bias, what), what)


def _conv(builder: Builder, part: Any, what: str, zeros: Any) -> None:
    """Add a Conv2d; `zeros` are those that a ZeroPad2d before it adds: above, left, below, right."""
    pad = (0, 0) if part.padding == "valid" else part.padding
    if zeros is not None:
        if pad == "same" or any(_pair(pad)):
            raise ValueError(f"{what} must have padding=0 after a ZeroPad2d, got {part.padding!r}")
        pad = zeros
    elif pad != "same":
        pad = _pair(pad) * 2
    kernel = _numbers(part.weight, what).transpose(2, 3, 1, 0)
    builder.conv(kernel, _numbers(part.bias, what), _pair(part.stride), pad, what)


def _pool(builder: Builder, part: Any, what: str) -> None:
    size = _pair(part.kernel_size)
    builder.pool(type(part) is nn.MaxPool2d, size, size if part.stride is None else _pair(part.stride), what)


def _norm(builder: Builder, part: Any, what: str) -> None:
    if part.running_mean is None or part.running_var is None:
        raise ValueError(f"{what} must keep running statistics (track_running_stats=True)")
    if part.momentum is None:
        raise ValueError(f"{what} must have a number as momentum, got None, a cumulative average")
    mean, variance = _numbers(part.running_mean, what), _numbers(part.running_var, what)
    n_axes = 3 if type(part) is nn.BatchNorm2d else 1
    if (len(builder.shape), builder.shape[-1]) != (n_axes, len(mean)):
        wanted = f"vectors of size {len(mean)}" if n_axes == 1 else f"images of {len(mean)} channels"
        raise ValueError(f"{what} must follow {wanted}, got rows of the shape {builder.shape}")
    gamma = np.ones_like(mean) if part.weight is None else _numbers(part.weight, what)
    beta = np.zeros_like(mean) if part.bias is None else _numbers(part.bias, what)
    builder.norm(gamma, beta, mean, variance, part.eps, what, part.momentum)


def _scale(builder: Builder, part: Any, what: str) -> None:
    """Add a module that `to_torch` writes for a Scale or a BatchNorm."""
    minus, times, plus = part.arrays()
    plus, dtype = plus - minus * times, "float32" if part.dtype == torch.float32 else "float64"
    if plus.any() or len(builder.shape) == 3:
        builder.scale(times.astype(dtype), plus.astype(dtype), what)
    else:
        builder.columns(times.astype(dtype), what)


def _softmax(builder: Builder, part: Any, what: str) -> None:
    if part.dim not in (1, -1):
        raise ValueError(f"{what} must have dim=1 or -1, got {part.dim!r}")
    builder.activation("softmax", what)


def _softplus(builder: Builder, part: Any, what: str) -> None:
    if part.beta != 1 or not part.threshold >= MIN_SOFTPLUS_THRESHOLD:
        raise ValueError(
            f"{what} must have beta=1 and a threshold of at least {MIN_SOFTPLUS_THRESHOLD:g}, "
            f"got {part.beta!r} and {part.threshold!r}"
        )
    builder.activation("softplus", what)


def _unflatten(builder: Builder, part: Any, what: str) -> None:
    raise ValueError(f"{what} must be the first module")


READERS: dict[type, Callable[[Builder, Any, str], None]] = {
    nn.Linear: _linear,
    nn.MaxPool2d: _pool,
    nn.AvgPool2d: _pool,
    nn.AdaptiveAvgPool2d: lambda builder, part, what: builder.global_pool(what),
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.Flatten: lambda builder, part, what: builder.flatten(what, channels_first=True),
    nn.Unflatten: _unflatten,
    nn.Dropout: lambda builder, part, what: builder.dropout(part.p, what),
    nn.Dropout2d: lambda builder, part, what: builder.dropout(part.p, what),
    nn.Softmax: _softmax,
    nn.Softplus: _softplus,
    nn.Identity: lambda builder, part, what: None,
    Exp: lambda builder, part, what: builder.activation("exp", what),
    Scale: _scale,
}
SUPPORTED = (nn.Sequential, nn.Conv2d, nn.ZeroPad2d, *READERS, *ACTIVATIONS)
