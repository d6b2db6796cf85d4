"""Writer of PyTorch modules (extra `[torch]`); read_torch.py is the corresponding reader."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from nnc._interop.program import Writer, build_program
from nnc.layers import operations as op

try:
    import torch
    from torch import nn
except ImportError as error:
    raise ImportError(f"this function needs PyTorch ({error}); install it with pip install torch") from error

# PyTorch replaces softplus(z) by z for z above this threshold. With a threshold above 37, it is exact in float64.
SOFTPLUS_THRESHOLD = 40.0
# For each activation module of PyTorch: the name of the activation in nnc, and the required attributes of the module.
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
    """Module that scales x to (x - minus) * times + plus; the computation is always in float64.

    Parameters
    ----------
    minus, times, plus : array
        One number per column; or one per channel, with the shape (channels, 1, 1); or images with channels first.
    dtype : torch.dtype
        Dtype of the result.
    """

    def __init__(self, minus: Any, times: Any, plus: Any, dtype: Any) -> None:
        super().__init__()
        self.dtype = dtype
        for name, numbers in (("minus", minus), ("times", times), ("plus", plus)):
            self.register_buffer(name, torch.from_numpy(numbers))

    def arrays(self) -> list[Any]:
        """Return minus, times and plus as NumPy arrays; arrays for images have channels last."""
        arrays = [part.detach().cpu().numpy() for part in (self.minus, self.times, self.plus)]
        return [array.transpose(1, 2, 0) if array.ndim == 3 else array for array in arrays]

    def forward(self, x: Any) -> Any:
        """Scale a batch of rows, and return the result in the dtype of the module."""
        return ((x.double() - self.minus) * self.times + self.plus).to(self.dtype)


class ModuleBuilder(Writer):
    """Builder of a list of PyTorch modules, in which images and flattened images have channels first.

    Sequences have features last.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = getattr(torch, dtype)
        self.modules: list[Any] = []
        self.order: Any = None  # permutation of the rows of the next weight matrix, set by `flatten`

    def tensor(self, numbers: Any) -> Any:
        """Return numbers as a trainable PyTorch parameter."""
        return nn.Parameter(torch.tensor(numbers, dtype=self.dtype))

    def scale(self, operation: op.Scale) -> None:
        """Add a Scale module, which computes (x - minus) * times + plus."""
        numbers = [np.array(part, np.float64) for part in (operation.minus, operation.times, operation.plus)]
        if len(operation.input_shape) == 3 and len(operation.minus) == np.prod(operation.input_shape):
            numbers = [part.reshape(operation.input_shape).transpose(2, 0, 1) for part in numbers]
        elif len(operation.input_shape) == 3:
            numbers = [part.reshape(-1, 1, 1) for part in numbers]
        elif len(operation.input_shape) == 2 and len(operation.minus) == np.prod(operation.input_shape):
            numbers = [part.reshape(operation.input_shape) for part in numbers]
        elif self.order is not None and len(operation.minus) > 1:
            numbers = [part[self.order] for part in numbers]
        minus, times, plus = map(np.ascontiguousarray, numbers)
        self.modules.append(Scale(minus, times, plus, self.dtype))

    def mat_mul(self, operation: op.MatMul) -> None:
        """Add a Linear module, which computes x @ W + b."""
        W = np.array(operation.W)
        if self.order is not None:
            W, self.order = W[self.order], None
        linear = nn.Linear(len(W), W.shape[1], bias=operation.b is not None, dtype=self.dtype)
        self._fill(linear, W.T, operation.b)

    def conv(self, operation: op.Conv) -> None:
        """Add a Conv2d module, preceded by a ZeroPad2d module if the convolution has padding."""
        top, left, bottom, right = operation.pad
        if any(operation.pad):
            self.modules.append(nn.ZeroPad2d((left, right, top, bottom)))
        channels, filters = operation.input_shape[2], operation.output_shape[2]
        kernel = np.array(operation.W).reshape(*operation.window, channels, filters).transpose(3, 2, 0, 1)
        bias = operation.b is not None
        conv = nn.Conv2d(channels, filters, operation.window, operation.stride, bias=bias, dtype=self.dtype)
        self._fill(conv, kernel, operation.b)

    def _fill(self, module: Any, weight: Any, bias: Any) -> None:
        """Set the weights and biases of a PyTorch module, and append the module to `modules`."""
        module.weight = self.tensor(np.ascontiguousarray(weight))
        if bias is not None:
            module.bias = self.tensor(bias)
        self.modules.append(module)

    def pool(self, operation: op.MaxPool | op.AvgPool) -> None:
        """Add a MaxPool2d or AvgPool2d module."""
        module_class = nn.MaxPool2d if isinstance(operation, op.MaxPool) else nn.AvgPool2d
        self.modules.append(module_class(operation.window, operation.stride))

    def flatten(self, operation: op.Flatten) -> None:
        """Add a Flatten module, which flattens images in the order of channel, height and width."""
        if len(operation.input_shape) == 3:
            order = np.arange(operation.output_shape[0]).reshape(operation.input_shape).transpose(2, 0, 1)
            self.order = order.ravel()
        self.modules.append(nn.Flatten())

    def reshape(self, operation: op.Reshape) -> None:
        """Add a Reshape module, which converts sequences to images or images to sequences."""
        self.modules.append(Reshape(operation.output_shape))

    def activate(self, operation: op.Activate) -> None:
        """Add the PyTorch module of an activation."""
        classes: dict[str, Any] = {name: module_class for module_class, (name, _) in ACTIVATIONS.items()}
        classes["exp"], classes["softmax"] = Exp, partial(nn.Softmax, dim=1)
        classes["softplus"] = partial(nn.Softplus, threshold=SOFTPLUS_THRESHOLD)
        self.modules.append(classes[operation.name]())

    def sort(self, operation: op.Sort) -> None:
        """Add a SortGroups module, which sorts the quantiles of each target."""
        self.modules.append(SortGroups(operation.groups))


class Reshape(nn.Module):
    """Module that converts sequences to images or images to sequences; images have channels first.

    Parameters
    ----------
    shape : tuple of int
        Shape of a row of the result: (steps, features), (height, width, channels), or (features,).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Any) -> Any:
        """Return a batch of rows, reshaped to `shape`; images have channels first."""
        x = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
        x = x.reshape(len(x), *self.shape)
        return x.permute(0, 3, 1, 2) if x.ndim == 4 else x

    def extra_repr(self) -> str:
        """Return the shape as text, which PyTorch shows when it prints the module."""
        return str(self.shape)


class SortGroups(nn.Module):
    """Module that sorts the quantiles of each target.

    The columns are divided into groups of equal size. Group i contains the quantile i of each target.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Any) -> Any:
        """Sort the quantiles of each target in a batch of outputs."""
        return x.reshape(len(x), self.groups, -1).sort(dim=1).values.flatten(1)


class Exp(nn.Module):
    """Module that computes the exponential function; PyTorch itself has no such module."""

    def forward(self, x: Any) -> Any:
        """Compute the exponential of each number in a batch."""
        return x.exp()


def to_torch(document: dict[str, Any]) -> Any:
    """Return an nn.Sequential in evaluation mode that computes the network in a validated document."""
    program = build_program(document)
    builder = ModuleBuilder(program.dtype)
    for operation in program.operations:
        builder.write(operation)
    return nn.Sequential(*builder.modules).eval()
