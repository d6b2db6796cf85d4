"""Reader of PyTorch modules.

read_torch_forward.py converts a module to a list of steps. A module is supported if its exact type is in SUPPORTED, and
its attributes have the values in REQUIRED. All other modules are refused with an error that names the module, because
they may compute something else. Subclasses, and modules with hooks or parametrizations, are refused, too.
"""

from __future__ import annotations

from contextlib import contextmanager
from operator import index
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

try:
    import torch
    from torch import nn
except ImportError as error:
    from nnc._utils.packages import missing_package

    raise missing_package("this function", "PyTorch", error, "torch") from error

from nnc._interop.parts import LAYER_ERRORS, Builder, Parts, naming_errors, require_attributes, scaling
from nnc._interop.read_torch_forward import RECURRENT, Forward, Selection, is_custom
from nnc._interop.torch_modules import ACTIVATIONS, Exp, Scale, Sin
from nnc._interop.verification import check_outputs, random_rows
from nnc._utils.checks import pluralize
from nnc.layers import GRU, LSTM, GlobalAvgPool1D, GlobalMaxPool1D, SimpleRNN

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
    nn.LSTM: {"proj_size": 0},
    **{module_class: attributes for module_class, (_, attributes) in ACTIVATIONS.items()},
}
WITH_WEIGHTS = (nn.Linear, nn.Conv1d, nn.Conv2d, *RECURRENT)
# For each recurrent module: layer of nnc, and index of each of its gates among the gates of the module.
LAYERS: dict[type, tuple[Any, tuple[int, ...]]] = {
    nn.RNN: (SimpleRNN, (0,)),
    nn.GRU: (GRU, (1, 0, 2)),
    nn.LSTM: (LSTM, (0, 1, 2, 3)),
}
# Order of axes that each module requires for sequences: n (rows), t (steps) and c (features).
AXES: dict[type, str] = {nn.Linear: "??c", **dict.fromkeys((nn.Conv1d, nn.ConstantPad1d, nn.BatchNorm1d), "nct")}
AXES |= dict.fromkeys((nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d), "nct")
# PyTorch replaces softplus(z) by z for z above the threshold of a module. With a threshold of at least 20, the error
# is at most 2.1e-9.
MIN_SOFTPLUS_THRESHOLD = 20.0
Network = TypeVar("Network")  # NeuralNetwork; nnc/_interop must not import the package nnc/_network


def read(build: Callable[[Parts], Network], module: Any, shape: Any, loss: Any, verify: bool) -> Network:
    """Create a network from an nn.Sequential by calling `build`; compare their outputs if `verify` is true.

    Raises
    ------
    TypeError, ValueError
        As in `parts_of` and `check`.
    """
    reader = Reader(module, shape)
    parts = reader.builder.parts(loss, **reader.scalings)
    network = build(parts)
    if verify:
        check(network, module, parts, reader)
    return network


class Reader:
    """Reader of the layers and weights of a module.

    Parameters
    ----------
    module : nn.Module
        Module to read.
    shape : (height, width, channels) or (steps, features), optional
        Shape of one row of inputs. Required if the inputs of the first layer are images or sequences. The number of
        steps may be None.

    Attributes
    ----------
    builder : Builder
        Collected layers.
    scalings : dict
        Scalings of inputs and targets.
    flat_input : bool
        Whether the inputs of the module are flattened images.
    axes, input_axes : str
        Axes of the current tensor and of the inputs of the module, if they are sequences: n (rows), t (steps) and
        c (features). The axes that no module has determined yet are "?".
    permutation : tuple of int
        Axes of the inputs of the module in the order of the current axes.

    Raises
    ------
    TypeError
        `module` is neither an nn.Sequential nor an instance of a user's class, or `shape` contains other values than
        whole numbers.
    ValueError
        A module inside is not supported; the message names this module.
    """

    def __init__(self, module: Any, shape: Any) -> None:
        steps = _steps(module)
        dtypes = sorted({str(tensor.dtype) for tensor in module.parameters()})
        if len(dtypes) > 1:
            raise ValueError(f"module must have parameters of one dtype, got {', '.join(dtypes)}")
        self.flat_input = bool(steps) and type(steps[0][1]) is nn.Unflatten
        shape = _input_shape(steps, shape)
        self.builder, self.scalings = Builder(shape), _scalings(steps, shape)
        self.axes = self.input_axes = "???"
        self.permutation: tuple[int, ...] = (0, 1, 2)
        for label, part in steps:
            with naming_errors(label):
                require_attributes(part, REQUIRED.get(type(part), {}), label)
                self.read(part, label)
        if len(shape) == 2 and "?" in self.input_axes:
            self.require_axes("ntc", "module")

    def read(self, part: Any, label: str) -> None:
        """Add a module or Selection to the network."""
        if isinstance(part, Selection):
            self.select(part, label)
            return
        is_sequence = len(self.builder.shape) == 2
        if is_sequence and (type(part) in AXES or type(part) in RECURRENT):
            self.require_axes(AXES.get(type(part)) or ("ntc" if part.batch_first else "tnc"), label)
        if type(part) is nn.Softmax:
            self.softmax(part.dim, label)
        elif type(part) in ACTIVATIONS:
            self.builder.activation(ACTIVATIONS[type(part)][0], label)
        elif type(part) is nn.Flatten:
            self.flatten(label)
        else:
            READERS[type(part)](self.builder, part, label)

    def require_axes(self, axes: str, label: str) -> None:
        """Raise ValueError if sequences have other axes than a module requires; infer unknown axes from `axes`."""
        pairs = [*zip(self.axes, axes, strict=True)]
        if any(actual != required and "?" not in (actual, required) for actual, required in pairs):
            names = {"n": "rows", "t": "steps", "c": "features", "?": "any"}
            expected, got = (", ".join(names[axis] for axis in text) for text in (axes, self.axes))
            raise ValueError(f"{label} must have inputs with the axes ({expected}), got ({got}); transpose the tensor")
        self.axes = "".join(required if actual == "?" else actual for actual, required in pairs)
        self.input_axes = "".join(self.axes[self.permutation.index(i)] for i in range(3))

    def select(self, selection: Selection, label: str) -> None:
        """Add a Selection to the network."""
        if len(self.builder.shape) != 2:
            raise ValueError(f"{label} must have sequences as inputs, got rows of the shape {self.builder.shape}")
        if selection.kind == "permute":
            self.permutation = tuple(self.permutation[axis] for axis in selection.axes)
            self.axes = "".join(self.axes[axis] for axis in selection.axes)
        elif selection.kind == "states":
            self.builder.last_step(label, states=True)
        elif selection.kind in ("last", "flip"):
            (axis,) = selection.axes
            self.require_axes(("tnc", "ntc", "nct")[axis], label)
            if selection.kind == "last":
                self.builder.last_step(label)
            else:
                self.builder.reversed = not self.builder.reversed

    def softmax(self, axis: int | None, label: str) -> None:
        """Add a Softmax module, which must act on the axis of outputs."""
        is_sequence = len(self.builder.shape) == 2
        if axis not in ((1, 2, -1) if is_sequence else (1, -1)):
            expected = "dim=1, dim=2 or dim=-1" if is_sequence else "dim=1 or dim=-1"
            raise ValueError(f"{label} must have {expected}, got dim={axis!r}")
        if is_sequence:
            self.require_axes("nct" if axis == 1 else "??c", label)
        self.builder.activation("softmax", label)

    def flatten(self, label: str) -> None:
        """Add a Flatten module, which flattens features before steps if the axes of features come first."""
        if len(self.builder.shape) == 2:
            self.require_axes("ntc" if self.axes[2] == "c" else "nct", label)
        self.builder.flatten(label, channels_first=self.axes != "ntc")


def check(network: Any, module: Any, parts: Parts, reader: Reader) -> None:
    """Compare the predictions of a network with those of the module that it was read from, on random rows.

    The module is called in evaluation mode and without gradients. Afterwards the training mode of each submodule and
    the random state of PyTorch are restored.

    Raises
    ------
    ValueError
        Outputs differ by more than the tolerance, or the module cannot be evaluated.
    """
    X = random_rows(network)
    is_sequence = X.ndim == 3
    rows = X.transpose(["ntc".index(axis) for axis in reader.input_axes]) if is_sequence else np.moveaxis(X, -1, 1)
    rows = torch.from_numpy(np.ascontiguousarray(rows))
    if reader.flat_input:
        rows = rows.flatten(1)
    device = next(module.parameters()).device
    try:
        with _evaluation(module), torch.autocast(device.type, enabled=False):
            # Copy the rows, because a module may change its argument in place.
            outputs = module(rows.to(device, copy=True)).cpu().numpy()
    except LAYER_ERRORS as error:
        shape = tuple(rows.shape[1:])
        raise ValueError(f"module must accept rows of the shape {shape}, got the error: {error}") from None
    if outputs.ndim == 3:
        outputs = outputs.transpose([reader.axes.index(axis) for axis in "ntc"])
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


def _steps(module: Any) -> list[tuple[str, Any]]:
    """Return the label and the module or Selection of each step of a forward pass; see read_torch_forward.py."""
    if type(module) is not nn.Sequential and not is_custom(module):
        remedy = "; a subclass may compute something else: pass nn.Sequential(*module) if it does not"
        raise TypeError(
            "module must be an nn.Sequential or an instance of your own nn.Module subclass, got "
            f"{type(module).__name__}{remedy if isinstance(module, nn.Sequential) else ''}"
        )
    try:
        with _evaluation(module):  # trace in evaluation mode, because a forward method may depend on the mode
            return Forward(SUPPORTED).steps(module)
    except RecursionError:
        raise ValueError(
            "module must not contain itself or be nested too deeply; reduce the levels of nesting"
        ) from None


def _input_shape(modules: list[tuple[str, Any]], shape: Any) -> tuple[int, ...]:
    """Return the shape of one row of inputs, and remove an Unflatten at the beginning of `modules`."""
    if shape is not None:
        try:
            shape = tuple(shape)
            any_steps = len(shape) == 2 and shape[0] is None
            shape = (None, index(shape[1])) if any_steps else tuple(map(index, shape))
        except TypeError:
            raise TypeError(f"shape must be (height, width, channels) or (steps, features), got {shape!r}") from None
    if modules and type(modules[0][1]) is nn.Unflatten:
        label, part = modules.pop(0)
        with naming_errors(label):
            require_attributes(part, REQUIRED.get(type(part), {}), label)
            sizes = tuple(map(index, part.unflattened_size))
        if len(sizes) != 3 or min(sizes) < 1:
            raise ValueError(
                f"{label} must have an unflattened_size of three positive numbers (channels, height, width), got "
                f"{part.unflattened_size}; for sequences, remove this module and pass shape=(steps, features)"
            )
        image_shape = (*sizes[1:], sizes[0])
        if shape not in (None, image_shape):
            raise ValueError(f"shape must be {image_shape} as in {label}, got {shape}")
        shape = image_shape
    first = next((part for _, part in modules if type(part) in WITH_WEIGHTS), None)
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
        with naming_errors(modules[i][0]):
            minus, times, plus = modules[i][1].arrays()
            if not times.all():
                raise ValueError("times must not contain 0, which would make an output constant")
            if key == "scale_y":
                scalings[key] = scaling(plus - minus * times, 1 / times)
            elif minus.any() or plus.any() or (times == 1 / 255).all() or len(shape) > 1:
                sizes = [n or 1 for n in shape]
                scalings[key] = scaling(*(np.broadcast_to(part, sizes) for part in (minus - plus / times, times)))
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
    builder.require_vectors(label, or_sequences=True)
    builder.dense(_array(part.weight, label).T, _array(part.bias, label), label)


def _pad(builder: Builder, part: Any, label: str) -> None:
    """Add the zeros of a ZeroPad2d or ConstantPad1d module to the next convolution."""
    sides = tuple(map(index, part.padding))  # numbers of zeros: left, right, top, bottom
    builder.pad((*sides[2::-2], *sides[3::-2]) if len(sides) == 4 else sides, label)


def _conv(builder: Builder, part: Any, label: str) -> None:
    """Add a Conv2d module to the builder."""
    pad = (0, 0) if part.padding == "valid" else part.padding
    if pad != "same":
        pad = _pair(pad) * 2
    kernel = _array(part.weight, label).transpose(2, 3, 1, 0)
    builder.conv(kernel, _array(part.bias, label), _pair(part.stride), pad, label)


def _conv1d(builder: Builder, part: Any, label: str) -> None:
    """Add a Conv1d module to the builder."""
    (stride,), (dilation,) = map(tuple, (part.stride, part.dilation))
    padding = part.padding if isinstance(part.padding, str) else index(part.padding[0])
    kernel = _array(part.weight, label).transpose(2, 1, 0)
    builder.conv1d(kernel, _array(part.bias, label), stride, padding, dilation, label)


def _recurrent(builder: Builder, part: Any, label: str) -> None:
    """Add the layers of an RNN, GRU or LSTM module to the builder, all with outputs at each step."""
    layer_class, order = LAYERS[type(part)]
    options: dict[str, Any] = {"return_sequences": True, "bidirectional": part.bidirectional}
    if type(part) is nn.RNN:
        options["activation"] = {"RNN_TANH": "tanh", "RNN_RELU": "relu"}[part.mode]

    def columns(kind: str, layer: int) -> Any:
        """Return the parameters of all directions with a column for each gate and unit, in the order of nnc."""
        names = [f"{kind}_l{layer}{suffix}" for suffix in ("", "_reverse")[: 1 + part.bidirectional]]
        arrays = [_array(getattr(part, name), label) for name in names]
        gates = [array.reshape(len(order), part.hidden_size, -1)[list(order)] for array in arrays]
        return np.hstack([array.reshape(len(order) * part.hidden_size, -1).T for array in gates])

    for i in range(part.num_layers):
        b = None
        if part.bias:
            b = np.vstack([columns("bias_ih", i), columns("bias_hh", i)])
            b = b if layer_class is GRU else b.sum(axis=0)
        layer = layer_class(part.hidden_size, **options)
        builder.recurrent(layer, columns("weight_ih", i), columns("weight_hh", i), b, label)
        if i < part.num_layers - 1:
            builder.dropout(part.dropout, label)


def _pool1d(builder: Builder, part: Any, label: str) -> None:
    """Add a MaxPool1d or AvgPool1d module to the builder."""
    size, stride = (
        value if isinstance(value, (tuple, list)) else (value,) for value in (part.kernel_size, part.stride)
    )
    builder.pool(type(part) is nn.MaxPool1d, size, stride, label)


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
    **dict.fromkeys(RECURRENT, _recurrent),
    nn.Conv1d: _conv1d,
    nn.Conv2d: _conv,
    nn.ConstantPad1d: _pad,
    nn.ZeroPad2d: _pad,
    nn.MaxPool1d: _pool1d,
    nn.AvgPool1d: _pool1d,
    nn.AdaptiveMaxPool1d: lambda builder, part, label: builder.add(GlobalMaxPool1D(), label),
    nn.AdaptiveAvgPool1d: lambda builder, part, label: builder.add(GlobalAvgPool1D(), label),
    nn.MaxPool2d: _pool,
    nn.AvgPool2d: _pool,
    nn.AdaptiveAvgPool2d: lambda builder, part, label: builder.global_pool(label),
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.Unflatten: _refuse_unflatten,
    nn.Dropout: lambda builder, part, label: builder.dropout(part.p, label),
    nn.Dropout2d: lambda builder, part, label: builder.dropout(part.p, label),
    nn.Softplus: _softplus,
    nn.Identity: lambda builder, part, label: None,
    Exp: lambda builder, part, label: builder.activation("exp", label),
    Sin: lambda builder, part, label: builder.activation("sin", label),
    Scale: _scale,
}
SUPPORTED = (nn.Sequential, nn.Flatten, nn.Softmax, *READERS, *ACTIVATIONS)
