"""Networks from PyTorch's modules, and as PyTorch's modules (extra `[torch]`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.exchange.parts import Builder, Parts, scaling
from nnc.exchange.program import program
from nnc.layers import operations as op

try:
    import torch
    from torch import nn
except ImportError as error:
    raise ImportError(f"this needs PyTorch ({error}); install it with pip install torch") from error

if TYPE_CHECKING:
    from collections.abc import Callable

# Modules without parameters, and what has to be as it is in nnc.
ACTIVATIONS: dict[type, tuple[str, dict[str, Any]]] = {
    nn.Sigmoid: ("sigmoid", {}),
    nn.Tanh: ("tanh", {}),
    nn.ReLU: ("relu", {}),
    nn.LeakyReLU: ("leaky_relu", {"negative_slope": 0.01}),
    nn.Softplus: ("softplus", {"beta": 1.0}),
    nn.ELU: ("elu", {"alpha": 1.0}),
    nn.GELU: ("gelu", {"approximate": "none"}),
    nn.SiLU: ("silu", {}),
    nn.Mish: ("mish", {}),
    nn.SELU: ("selu", {}),
}


def pair(value: Any) -> tuple[int, int]:
    """A number for both directions, or two."""
    return (int(value[0]), int(value[1])) if isinstance(value, (tuple, list)) else (int(value), int(value))


def parts_of(module: Any, shape: Any, loss: Any) -> Parts:
    """The parts of an nn.Sequential.

    Parameters
    ----------
    module : nn.Sequential
    shape : tuple of int, optional
        (height, width, channels), where its first module is for images.
    loss : str or Loss, optional

    Raises
    ------
    TypeError
        It is no nn.Sequential.
    ValueError
        A module of it is none that nnc has: the message says which.
    """
    if not isinstance(module, nn.Sequential):
        raise TypeError(f"module must be an nn.Sequential, got {type(module).__name__}")
    modules = [*_flat(module, "")]
    if modules and isinstance(modules[0][1], nn.Unflatten):
        channels, height, width = modules.pop(0)[1].unflattened_size
        shape = shape or (height, width, channels)
    first = next((part for _, part in modules if isinstance(part, (nn.Linear, nn.Conv2d))), None)
    if shape is None:
        if not isinstance(first, nn.Linear):
            raise ValueError("shape must be given where modules are for images: (height, width, channels)")
        shape = (first.in_features,)
    builder, scalings = Builder(tuple(shape)), _scalings(modules, tuple(shape))
    pad = None
    for name, part in modules:
        what = f"module {name} ({type(part).__name__})"
        if pad is not None and not isinstance(part, nn.Conv2d):
            raise ValueError(f"{what} stands behind a ZeroPad2d, which nnc has before a Conv2d alone")
        if isinstance(part, nn.ZeroPad2d):
            left, right, top, bottom = part.padding
            pad = top, left, bottom, right
        else:
            _add(builder, part, what, pad)
            pad = None
    return builder.parts(loss, **scalings)


def _scalings(modules: list[tuple[str, Any]], shape: tuple[int, ...]) -> dict[str, Any]:
    """Those of inputs and targets, as documents have them: the first and the last of the modules, which are taken out.
    One that multiplies alone may be a Scale behind the inputs, and is left as one where there may be any."""
    found = {}
    if len(modules) > 1 and isinstance(modules[-1][1], Scale):
        minus, times, plus = modules.pop()[1].numbers()
        found["scale_y"] = scaling(plus - minus * times, 1 / times)
    if modules and isinstance(modules[0][1], Scale):
        minus, times, plus = modules[0][1].numbers()
        if minus.any() or plus.any() or (times == 1 / 255).all() or len(shape) == 3:
            del modules[0]
            found["scale_X"] = scaling(*(np.broadcast_to(part, shape) for part in (minus - plus / times, times)))
    return found


def _flat(module: Any, place: str) -> Any:
    """Every module by its place, those within others too."""
    for name, part in module.named_children():
        if isinstance(part, nn.Sequential):
            yield from _flat(part, f"{place}{name}.")
        else:
            yield f"{place}{name}", part


def _add(builder: Builder, part: Any, what: str, around: Any = None) -> None:
    """Adds a module to what is built; `around` are the zeros that a ZeroPad2d has put around its images."""
    bias = None if getattr(part, "bias", None) is None else _array(part.bias)
    if isinstance(part, nn.Linear):
        builder.dense(_array(part.weight).T, bias, what)
    elif isinstance(part, nn.Conv2d):
        _same(part, {"dilation": (1, 1), "groups": 1, "padding_mode": "zeros"}, what)
        pad: Any = part.padding
        if pad == "valid":
            pad = 0
        if around is not None:
            if pad not in (0, (0, 0)):
                raise ValueError(f"{what} puts zeros around what stands behind a ZeroPad2d, nnc does so once")
            pad = around
        elif pad != "same":
            top, left = pair(pad)
            pad = (top, left, top, left)
        builder.conv(_array(part.weight).transpose(2, 3, 1, 0), bias, part.stride, pad, what)
    elif isinstance(part, (nn.MaxPool2d, nn.AvgPool2d)):
        _same(part, {"padding": 0, "ceil_mode": False, "dilation": 1, "divisor_override": None}, what)
        size = pair(part.kernel_size)
        builder.pool(isinstance(part, nn.MaxPool2d), size, pair(part.stride), what)
    elif isinstance(part, nn.AdaptiveAvgPool2d) and pair(part.output_size) == (1, 1):
        builder.global_pool(what)
    elif isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
        if part.running_var is None:
            raise ValueError(f"{what} keeps no running statistics, so what it does depends on the other rows")
        mean, variance = _array(part.running_mean), _array(part.running_var)
        gamma = np.ones_like(mean) if part.weight is None else _array(part.weight)
        builder.norm(gamma, np.zeros_like(mean) if bias is None else bias, mean, variance, part.eps, what)
    elif isinstance(part, Scale):
        minus, times, plus = part.numbers()
        plus, kind = plus - minus * times, _array(torch.empty(0, dtype=part.dtype)).dtype
        if plus.any() or len(builder.shape) == 3:
            builder.scale(times.astype(kind), plus.astype(kind), what)
        else:
            builder.columns(times.astype(kind), what)
    elif isinstance(part, nn.Flatten):
        _same(part, {"start_dim": 1, "end_dim": -1}, what)
        builder.flatten(what, channels_first=True)
    elif isinstance(part, (nn.Dropout, nn.Dropout2d)):
        builder.dropout(part.p, what)
    elif isinstance(part, nn.Softmax) and part.dim in (1, -1):
        builder.activation("softmax", what)
    elif isinstance(part, Exp):
        builder.activation("exp", what)
    elif type(part) in ACTIVATIONS:
        name, as_here = ACTIVATIONS[type(part)]
        _same(part, as_here, what)
        builder.activation(name, what)
    elif not isinstance(part, nn.Identity):
        raise ValueError(f"{what} is none that nnc has")


def _same(part: Any, as_here: dict[str, Any], what: str) -> None:
    """Raises where a member of a module is there and otherwise than in nnc."""
    for name, value in as_here.items():
        found = getattr(part, name, value)
        if found != value and found != (value, value):
            raise ValueError(f"{what} has {name}={found!r}, nnc has {value!r} alone")


def _array(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy()


# ------------------------------------------------------------------------------------------------ to PyTorch


class Scale(nn.Module):
    """(x - minus) * times + plus, as nnc scales inputs and targets: in float64, whatever comes in."""

    def __init__(self, minus: Any, times: Any, plus: Any, dtype: Any) -> None:
        super().__init__()
        self.dtype = dtype
        for name, numbers in (("minus", minus), ("times", times), ("plus", plus)):
            self.register_buffer(name, torch.from_numpy(numbers))

    def numbers(self) -> list[Any]:
        """minus, times and plus, those of images channels last."""
        given = [_array(part) for part in (self.minus, self.times, self.plus)]
        return [part.transpose(1, 2, 0) if part.ndim == 3 else part for part in given]

    def forward(self, x: Any) -> Any:
        """Of a batch."""
        return ((x.double() - self.minus) * self.times + self.plus).to(self.dtype)


class Modules:
    """Modules, as they are added. Images are channels first, and so is what is flattened."""

    def __init__(self, dtype: str) -> None:
        self.dtype = getattr(torch, dtype)
        self.made: list[Any] = []
        self.order: Any = None  # of the rows of the next W

    def tensor(self, numbers: Any) -> Any:
        """A parameter."""
        return nn.Parameter(torch.tensor(numbers, dtype=self.dtype))

    def scale(self, step: op.Scale) -> None:
        """(x - minus) * times + plus."""
        numbers = [np.array(part, np.float64) for part in (step.minus, step.times, step.plus)]
        if len(step.below) == 3 and len(step.minus) == np.prod(step.below):
            numbers = [part.reshape(step.below).transpose(2, 0, 1) for part in numbers]
        elif len(step.below) == 3:
            numbers = [part.reshape(-1, 1, 1) for part in numbers]
        elif self.order is not None and len(step.minus) > 1:
            numbers = [part[self.order] for part in numbers]
        minus, times, plus = map(np.ascontiguousarray, numbers)
        self.made.append(Scale(minus, times, plus, self.dtype))

    def mat_mul(self, step: op.MatMul) -> None:
        """x @ W + b."""
        W = np.array(step.W)
        if self.order is not None:
            W, self.order = W[self.order], None
        linear = nn.Linear(len(W), W.shape[1], bias=step.b is not None, dtype=self.dtype)
        self._fill(linear, W.T, step.b)

    def conv(self, step: op.Conv) -> None:
        """The cross-correlation."""
        top, left, bottom, right = step.pad
        if any(step.pad):
            self.made.append(nn.ZeroPad2d((left, right, top, bottom)))
        channels, filters = step.below[2], step.out[2]
        kernel = np.array(step.W).reshape(*step.window, channels, filters).transpose(3, 2, 0, 1)
        bias = step.b is not None
        conv = nn.Conv2d(channels, filters, step.window, step.stride, bias=bias, dtype=self.dtype)
        self._fill(conv, kernel, step.b)

    def _fill(self, module: Any, weight: Any, bias: Any) -> None:
        module.weight = self.tensor(np.ascontiguousarray(weight))
        if bias is not None:
            module.bias = self.tensor(bias)
        self.made.append(module)

    def max_pool(self, step: op.MaxPool) -> None:
        """The largest of each window."""
        self.made.append(nn.MaxPool2d(step.window, step.stride))

    def avg_pool(self, step: op.AvgPool) -> None:
        """The mean of each window."""
        self.made.append(nn.AvgPool2d(step.window, step.stride))

    def flatten(self, step: op.Flatten) -> None:
        """Channel, height, width: rows of the next W follow."""
        self.order = np.arange(step.out[0]).reshape(step.below).transpose(2, 0, 1).ravel()
        self.made.append(nn.Flatten())

    def activate(self, step: op.Activate) -> None:
        """A module of its own."""
        kinds = {name: kind for kind, (name, _) in ACTIVATIONS.items()}
        if step.name == "softmax":
            self.made.append(nn.Softmax(dim=1))
        elif step.name == "exp":
            self.made.append(Exp())
        else:
            self.made.append(kinds[step.name]())


class Exp(nn.Module):
    """exp, which PyTorch has no module for."""

    def forward(self, x: Any) -> Any:
        """Of a batch."""
        return x.exp()


WRITERS: dict[type[op.Operation], Callable[[Modules, Any], None]] = {
    op.Scale: Modules.scale,
    op.MatMul: Modules.mat_mul,
    op.Conv: Modules.conv,
    op.MaxPool: Modules.max_pool,
    op.AvgPool: Modules.avg_pool,
    op.Flatten: Modules.flatten,
    op.Activate: Modules.activate,
}


def to_torch(document: dict[str, Any]) -> Any:
    """An nn.Sequential, in its mode for evaluation, of a checked document."""
    made = program(document)
    modules = Modules(made.dtype)
    for step in made.operations:
        WRITERS[type(step)](modules, step)
    return nn.Sequential(*modules.made).eval()
