"""Reader of PyTorch's nn.Sequential (extra `[torch]`).

A module is supported if its exact type is in SUPPORTED, and its attributes have the values in REQUIRED. All other
modules are refused with an error that names the module, because they may compute something else. Subclasses, and
modules with hooks or parametrizations, are refused, too.
"""

from __future__ import annotations

from contextlib import contextmanager
from operator import index
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nnc._interop.parts import LAYER_ERRORS, Builder, Parts, check_methods, naming_errors, require_attributes, scaling
from nnc._interop.torch_modules import ACTIVATIONS, Exp, Scale
from nnc._interop.verification import check_outputs, random_rows
from nnc._utils.checks import pluralize
from nnc.layers import AvgPool1D, GlobalAvgPool1D, GlobalMaxPool1D, MaxPool1D

try:
    import torch
    from torch import nn
    from torch.nn.utils import parametrize
except ImportError as error:
    raise ImportError(f"this function needs PyTorch ({error}); install it with pip install torch") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# For each type of module: attributes that affect the computation, each with the only value that nnc supports.
REQUIRED: dict[type, dict[str, Any]] = {
    nn.Conv2d: {"dilation": (1, 1), "groups": 1, "padding_mode": "zeros"},
    nn.Conv1d: {"groups": 1, "padding_mode": "zeros"},
    nn.ConstantPad1d: {"value": 0.0},
    nn.MaxPool1d: {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False},
    nn.AvgPool1d: {"padding": (0,), "ceil_mode": False},
    nn.AdaptiveMaxPool1d: {"output_size": 1, "return_indices": False},
    nn.AdaptiveAvgPool1d: {"output_size": 1},
    nn.MaxPool2d: {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False},
    nn.AvgPool2d: {"padding": 0, "ceil_mode": False, "divisor_override": None},
    nn.AdaptiveAvgPool2d: {"output_size": 1},
    nn.Flatten: {"start_dim": 1, "end_dim": -1},
    nn.Unflatten: {"dim": 1},
    **{module_class: attributes for module_class, (_, attributes) in ACTIVATIONS.items()},
}
# Convolution that must follow each padding module.
PADDED: dict[type, type] = {nn.ZeroPad2d: nn.Conv2d, nn.ConstantPad1d: nn.Conv1d}
# PyTorch replaces softplus(z) by z for z above the threshold of a module. With a threshold of at least 20, the error
# is at most 2.1e-9.
MIN_SOFTPLUS_THRESHOLD = 20.0
Network = TypeVar("Network")  # the class NeuralNetwork, which nnc/_interop may not import from a higher layer


def read(build: Callable[[Parts], Network], module: Any, shape: Any, loss: Any, verify: bool) -> Network:
    """Create a network from an nn.Sequential by calling `build`; compare their outputs if `verify` is true.

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
    """Read the layers and weights of an nn.Sequential.

    Parameters
    ----------
    module : nn.Sequential
        Module to read.
    shape : (height, width, channels) or (steps, features), optional
        Shape of one row of inputs. Required if the inputs of the first layer are images or sequences.
    loss : str or Loss, optional
        Loss of the network. Default: the loss that matches the output activation.

    Raises
    ------
    TypeError
        `module` is not an nn.Sequential, or `shape` does not consist of whole numbers.
    ValueError
        A module inside is not supported; the message names this module.
    """
    modules = _modules(module)
    dtypes = sorted({str(tensor.dtype) for tensor in module.parameters()})
    if len(dtypes) > 1:
        raise ValueError(f"module must have parameters of one dtype, got {', '.join(dtypes)}")
    shape = _input_shape(modules, shape)
    builder, scalings = Builder(shape), _scalings(modules, shape)
    pad: tuple[int, ...] | None = None
    for (name, part), (_, following) in zip(modules, [*modules[1:], ("", None)], strict=True):
        label = _label(name, part)
        with naming_errors(label):
            require_attributes(part, REQUIRED.get(type(part), {}), label)
            if type(part) in PADDED:
                conv = PADDED[type(part)]
                if type(following) is not conv:
                    raise ValueError(
                        f"{label} must come directly before a {conv.__name__}, got another module after it"
                    )
                pad = tuple(map(index, part.padding))
                continue
            if type(part) is nn.Conv1d:
                _conv1d(builder, part, label, pad)
            elif type(part) is nn.Conv2d:
                _conv(builder, part, label, pad)
            elif type(part) in ACTIVATIONS:
                builder.activation(ACTIVATIONS[type(part)][0], label)
            else:
                READERS[type(part)](builder, part, label)
        pad = None
    return builder.parts(loss, **scalings)


def check(network: Any, module: Any, parts: Parts) -> None:
    """Compare the predictions of a network with those of the module that it was read from, on random rows.

    The module is called in evaluation mode and without gradients. Afterwards the training mode of each submodule and
    the random state of PyTorch are restored.

    Raises
    ------
    ValueError
        Outputs differ by more than the tolerance, or the module cannot be evaluated.
    """
    X = random_rows(network)
    rows = torch.from_numpy(np.ascontiguousarray(np.moveaxis(X, -1, 1)))
    if type(_modules(module)[0][1]) is nn.Unflatten:
        rows = rows.flatten(1)
    device = next(module.parameters()).device
    try:
        with _evaluation(module), torch.autocast(device.type, enabled=False):
            outputs = module(rows.to(device)).cpu().numpy()
    except LAYER_ERRORS as error:
        shape = tuple(rows.shape[1:])
        raise ValueError(f"module must accept rows of the shape {shape}, got the error: {error}") from None
    check_outputs(network, X, outputs, parts.added_output, "module")


@contextmanager
def _evaluation(module: Any) -> Iterator[None]:
    """Evaluate modules in evaluation mode and without gradients in the `with` block.

    After the block, the mode of each submodule and the random state of PyTorch on the CPU are restored.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


# ------------------------------------------------------------------------------------------------ checks of the module


def _modules(module: Any) -> list[tuple[str, Any]]:
    """Return the names and submodules of an nn.Sequential in order of execution; nested Sequentials are expanded."""
    if type(module) is not nn.Sequential:
        remedy = "; a subclass may compute something else: pass nn.Sequential(*module) if it does not"
        raise TypeError(
            f"module must be an nn.Sequential, got {type(module).__name__}"
            f"{remedy if isinstance(module, nn.Sequential) else ''}"
        )
    try:
        _check_module(module, "module")
        return [*_flattened_modules(module, "")]
    except RecursionError:
        raise ValueError(
            "module must not contain itself or be nested too deeply; reduce the levels of nesting"
        ) from None


def _flattened_modules(module: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the name and the submodule of each position of an nn.Sequential; nested Sequentials are expanded.

    A submodule that occurs twice is yielded twice, unlike in `named_children`.
    """
    for name, part in module._modules.items():
        _check_module(part, _label(prefix + name, part))
        if type(part) is nn.Sequential:
            yield from _flattened_modules(part, f"{prefix}{name}.")
        else:
            yield prefix + name, part


def _label(name: str, part: Any) -> str:
    """Return the name and the type of a module as text for messages."""
    return f"module {name} ({type(part).__name__})"


def _check_module(part: Any, label: str) -> None:
    """Raise ValueError if the type of a module is not supported, or the module has hooks or replaced methods."""
    if type(part) not in SUPPORTED:
        base = next((base_class for base_class in type(part).__mro__ if base_class in SUPPORTED), None)
        if base is None:
            names = ", ".join(supported.__name__ for supported in SUPPORTED)
            raise ValueError(f"{label} must have a supported type, one of {names}, got {type(part).__name__}")
        if parametrize.is_parametrized(part):
            raise ValueError(
                f"{label} must not be parametrized; call torch.nn.utils.parametrize.remove_parametrizations first"
            )
        raise ValueError(
            f"{label} must be a {base.__name__}, got a subclass, which may compute something else; "
            f"if the subclass computes the same, replace it by a {base.__name__} with its parameters"
        )
    if part._forward_hooks or part._forward_pre_hooks:
        raise ValueError(
            f"{label} must have no forward hooks, which may change what it computes; remove them first "
            "(weight_norm, spectral_norm and pruning add some)"
        )
    check_methods(part, label)


def _input_shape(modules: list[tuple[str, Any]], shape: Any) -> tuple[int, ...]:
    """Return the shape of one row of inputs, and remove an Unflatten at the beginning of `modules`."""
    if shape is not None:
        try:
            shape = tuple(map(index, shape))
        except TypeError:
            raise TypeError(f"shape must be (height, width, channels) or (steps, features), got {shape!r}") from None
    if modules and type(modules[0][1]) is nn.Unflatten:
        name, part = modules.pop(0)
        label = _label(name, part)
        with naming_errors(label):
            require_attributes(part, REQUIRED.get(type(part), {}), label)
            channels, height, width = map(index, part.unflattened_size)
        image_shape = (height, width, channels)
        if min(image_shape) < 1:
            raise ValueError(
                f"{label} must have an unflattened_size of three positive numbers, got {part.unflattened_size}"
            )
        if shape not in (None, image_shape):
            raise ValueError(f"shape must be {image_shape} as in {label}, got {shape}")
        shape = image_shape
    first = next((part for _, part in modules if type(part) in (nn.Linear, nn.Conv1d, nn.Conv2d)), None)
    if shape is None and first is not None and type(first) is nn.Linear:
        shape = (first.weight.shape[1],)
    if shape is None:
        raise ValueError(
            "shape must be (height, width, channels) if the inputs of the first module are images, or (steps, "
            "features) if they are sequences, got None"
        )
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"shape must be (height, width, channels) or (steps, features), got {shape}")
    return tuple(shape)


def _scalings(modules: list[tuple[str, Any]], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the scalings of inputs and targets, and remove their modules from the list `modules`.

    The scaling of inputs is a Scale module at the beginning, the scaling of targets a Scale module at the end. A Scale
    module at the beginning that only multiplies vectors may be a Scale layer of nnc, so it remains in the list.
    """
    scalings = {}
    for i, key in ((-1, "scale_y"), (0, "scale_X")):
        if len(modules) < 2 or type(modules[i][1]) is not Scale:
            continue
        with naming_errors(_label(*modules[i])):
            minus, times, plus = modules[i][1].arrays()
            if not times.all():
                raise ValueError("times must not contain 0, which would make an output constant")
            if key == "scale_y":
                scalings[key] = scaling(plus - minus * times, 1 / times)
            elif minus.any() or plus.any() or (times == 1 / 255).all() or len(shape) > 1:
                scalings[key] = scaling(*(np.broadcast_to(part, shape) for part in (minus - plus / times, times)))
            else:
                continue
        del modules[i]
    return scalings


# ------------------------------------------------------------------------------------------------ readers of modules


def _array(tensor: Any, label: str) -> Any:
    """Return a parameter or a buffer of a module as a NumPy array; return None for None."""
    if tensor is None:
        return None
    is_dense = type(tensor) in (torch.Tensor, nn.Parameter) and tensor.layout is torch.strided and not tensor.is_meta
    if not is_dense or tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{label} must have dense float32 or float64 tensors with allocated memory, got {type(tensor).__name__} of "
            f"{tensor.dtype} ({tensor.layout}) on {tensor.device}"
        )
    return tensor.detach().cpu().numpy()


def _pair(value: Any) -> tuple[int, int]:
    """Return a size as a pair (height, width); a single number stands for both."""
    height, width = value if isinstance(value, (tuple, list)) else (value, value)
    return index(height), index(width)


def _linear(builder: Builder, part: Any, label: str) -> None:
    """Add a Linear module to the builder."""
    builder.require_vectors(label)
    builder.dense(_array(part.weight, label).T, _array(part.bias, label), label)


def _conv(builder: Builder, part: Any, label: str, zeros: Any) -> None:
    """Add a Conv2d module to the builder.

    `zeros` is the padding (left, right, top, bottom) of a ZeroPad2d module before the Conv2d; None if there is none.
    """
    pad = (0, 0) if part.padding == "valid" else part.padding
    if zeros is not None:
        if pad == "same" or any(_pair(pad)):
            raise ValueError(f"{label} must have padding=0 after a ZeroPad2d, got {part.padding!r}")
        left, right, top, bottom = zeros
        pad = top, left, bottom, right
    elif pad != "same":
        pad = _pair(pad) * 2
    kernel = _array(part.weight, label).transpose(2, 3, 1, 0)
    builder.conv(kernel, _array(part.bias, label), _pair(part.stride), pad, label)


def _conv1d(builder: Builder, part: Any, label: str, zeros: Any) -> None:
    """Add a Conv1d module to the builder.

    `zeros` is the padding (before, after) of a ConstantPad1d module before the Conv1d; None if there is none.
    """
    (stride,), (dilation,) = map(tuple, (part.stride, part.dilation))
    padding = part.padding if isinstance(part.padding, str) else index(part.padding[0])
    if zeros is not None:
        if padding not in (0, "valid"):
            raise ValueError(f"{label} must have padding=0 after a ConstantPad1d, got {part.padding!r}")
        padding = zeros
    kernel = _array(part.weight, label).transpose(2, 1, 0)
    builder.conv1d(kernel, _array(part.bias, label), stride, padding, dilation, label)


def _pool1d(builder: Builder, part: Any, label: str) -> None:
    """Add a MaxPool1d or AvgPool1d module to the builder."""
    size, stride = (
        index(value[0] if isinstance(value, (tuple, list)) else value) for value in (part.kernel_size, part.stride)
    )
    builder.add((MaxPool1D if type(part) is nn.MaxPool1d else AvgPool1D)(size, stride), label)


def _pool(builder: Builder, part: Any, label: str) -> None:
    """Add a MaxPool2d or AvgPool2d module to the builder."""
    size = _pair(part.kernel_size)
    builder.pool(type(part) is nn.MaxPool2d, size, size if part.stride is None else _pair(part.stride), label)


def _norm(builder: Builder, part: Any, label: str) -> None:
    """Add a BatchNorm1d or BatchNorm2d module to the builder."""
    if part.running_mean is None or part.running_var is None:
        raise ValueError(f"{label} must have running statistics, got None; create it with track_running_stats=True")
    if part.momentum is None:
        raise ValueError(f"{label} must have a number as momentum, got None, which means a cumulative average")
    mean, variance = _array(part.running_mean, label), _array(part.running_var, label)
    is_image = type(part) is nn.BatchNorm2d
    if (len(builder.shape) == 3, builder.shape[-1]) != (is_image, len(mean)):
        n = len(mean)
        vectors = f"vectors of size {n} or sequences of {pluralize(n, 'feature')}"
        expected = f"images of {n} channels" if is_image else vectors
        raise ValueError(f"{label} must have {expected} as inputs, got rows of the shape {builder.shape}")
    gamma = np.ones_like(mean) if part.weight is None else _array(part.weight, label)
    beta = np.zeros_like(mean) if part.bias is None else _array(part.bias, label)
    builder.norm(gamma, beta, mean, variance, part.eps, label, part.momentum)


def _scale(builder: Builder, part: Any, label: str) -> None:
    """Add a Scale module to the builder; `to_torch` writes such modules for Scale and BatchNorm layers."""
    minus, times, plus = part.arrays()
    plus, dtype = plus - minus * times, "float32" if part.dtype == torch.float32 else "float64"
    if plus.any() or len(builder.shape) > 1:
        builder.scale(times.astype(dtype), plus.astype(dtype), label)
    else:
        builder.column_scale(times.astype(dtype), label)


def _softmax(builder: Builder, part: Any, label: str) -> None:
    """Add a Softmax module to the builder."""
    if part.dim not in (1, -1):
        raise ValueError(f"{label} must have dim=1 or dim=-1, got dim={part.dim!r}")
    builder.activation("softmax", label)


def _softplus(builder: Builder, part: Any, label: str) -> None:
    """Add a Softplus module to the builder."""
    if part.beta != 1 or not part.threshold >= MIN_SOFTPLUS_THRESHOLD:
        raise ValueError(
            f"{label} must have beta=1 and a threshold of at least {MIN_SOFTPLUS_THRESHOLD:g}, "
            f"got beta={part.beta!r} and threshold={part.threshold!r}"
        )
    builder.activation("softplus", label)


def _refuse_unflatten(builder: Builder, part: Any, label: str) -> None:
    """Raise ValueError for an Unflatten that is not the first module."""
    raise ValueError(f"{label} must be the first module, got other modules before it")


READERS: dict[type, Callable[[Builder, Any, str], None]] = {
    nn.Linear: _linear,
    nn.MaxPool1d: _pool1d,
    nn.AvgPool1d: _pool1d,
    nn.AdaptiveMaxPool1d: lambda builder, part, label: builder.add(GlobalMaxPool1D(), label),
    nn.AdaptiveAvgPool1d: lambda builder, part, label: builder.add(GlobalAvgPool1D(), label),
    nn.MaxPool2d: _pool,
    nn.AvgPool2d: _pool,
    nn.AdaptiveAvgPool2d: lambda builder, part, label: builder.global_pool(label),
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.Flatten: lambda builder, part, label: builder.flatten(label, channels_first=True),
    nn.Unflatten: _refuse_unflatten,
    nn.Dropout: lambda builder, part, label: builder.dropout(part.p, label),
    nn.Dropout2d: lambda builder, part, label: builder.dropout(part.p, label),
    nn.Softmax: _softmax,
    nn.Softplus: _softplus,
    nn.Identity: lambda builder, part, label: None,
    Exp: lambda builder, part, label: builder.activation("exp", label),
    Scale: _scale,
}
SUPPORTED = (nn.Sequential, nn.Conv1d, nn.Conv2d, nn.ConstantPad1d, nn.ZeroPad2d, *READERS, *ACTIVATIONS)
