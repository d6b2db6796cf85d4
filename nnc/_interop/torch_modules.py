"""Writer of PyTorch's modules (extra `[torch]`); read_torch.py reads them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from nnc._interop.program import Writer, program
from nnc.layers import operations as op

try:
    import torch
    from torch import nn
except ImportError as error:
    raise ImportError(f"this needs PyTorch ({error}); install it with pip install torch") from error

SOFTPLUS_THRESHOLD = 40.0  # beyond it PyTorch takes z for softplus(z), which is exact in float64 from 37 on
# Activations without parameters: nnc's name and the attributes that the module must have.
ACTIVATIONS: dict[type, tuple[str, dict[str, Any]]] = {
    nn.Sigmoid: ("sigmoid", {}),
    nn.Tanh: ("tanh", {}),
    nn.ReLU: ("relu", {}),
    nn.LeakyReLU: ("leaky_relu", {"negative_slope": 0.01}),
    nn.ELU: ("elu", {"alpha": 1.0}),
    nn.GELU: ("gelu", {"approximate": "none"}),
    nn.SiLU: ("silu", {}),
    nn.Mish: ("mish", {}),
    nn.SELU: ("selu", {}),
}


class Scale(nn.Module):
    """(x - minus) * times + plus, as nnc scales inputs and targets: in float64, whatever comes in."""

    def __init__(self, minus: Any, times: Any, plus: Any, dtype: Any) -> None:
        super().__init__()
        self.dtype = dtype
        for name, numbers in (("minus", minus), ("times", times), ("plus", plus)):
            self.register_buffer(name, torch.from_numpy(numbers))

    def numbers(self) -> list[Any]:
        """Return minus, times and plus as arrays, those of images channels last."""
        given = [part.detach().cpu().numpy() for part in (self.minus, self.times, self.plus)]
        return [part.transpose(1, 2, 0) if part.ndim == 3 else part for part in given]

    def forward(self, x: Any) -> Any:
        """Of a batch."""
        return ((x.double() - self.minus) * self.times + self.plus).to(self.dtype)


class Modules(Writer):
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

    def pool(self, step: op.MaxPool | op.AvgPool) -> None:
        """Add the module of a max-pool or an average pool."""
        kind = nn.MaxPool2d if isinstance(step, op.MaxPool) else nn.AvgPool2d
        self.made.append(kind(step.window, step.stride))

    def flatten(self, step: op.Flatten) -> None:
        """Channel, height, width: rows of the next W follow."""
        self.order = np.arange(step.out[0]).reshape(step.below).transpose(2, 0, 1).ravel()
        self.made.append(nn.Flatten())

    def activate(self, step: op.Activate) -> None:
        """A module of its own."""
        kinds: dict[str, Any] = {name: kind for kind, (name, _) in ACTIVATIONS.items()}
        kinds["exp"], kinds["softmax"] = Exp, partial(nn.Softmax, dim=1)
        kinds["softplus"] = partial(nn.Softplus, threshold=SOFTPLUS_THRESHOLD)
        self.made.append(kinds[step.name]())


class Exp(nn.Module):
    """exp, which PyTorch has no module for."""

    def forward(self, x: Any) -> Any:
        """Of a batch."""
        return x.exp()


def to_torch(document: dict[str, Any]) -> Any:
    """An nn.Sequential, in its mode for evaluation, of a checked document."""
    made = program(document)
    modules = Modules(made.dtype)
    for step in made.operations:
        modules.write(step)
    return nn.Sequential(*modules.made).eval()
