"""Activation functions of PyTorch that correspond to the activations of nnc."""

from functools import partial

import torch


def torch_activation(name):
    """Return PyTorch's function for the name of an activation of nnc, with the same constants as in nnc."""
    others = {
        "identity": lambda z: z,
        "exp": torch.exp,
        "sin": torch.sin,
        "softmax": partial(torch.softmax, dim=1),
        "softplus": partial(torch.nn.functional.softplus, threshold=100),
    }
    return others[name] if name in others else getattr(torch.nn.functional, name)
