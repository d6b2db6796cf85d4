"""Random sequences of different lengths, and gradients as vectors."""

import numpy as np


def padded_sequences(rng, lengths, steps, features, at_each_step, dtype="float64"):
    """Return random sequences and targets, with NaN beyond the lengths."""
    n = len(lengths)
    X = rng.normal(size=(n, steps, features)).astype(dtype)
    y = rng.normal(size=(n, steps, 2) if at_each_step else (n, 2))
    for i, length in enumerate(lengths):
        X[i, length:] = np.nan
        if at_each_step:
            y[i, length:] = np.nan
    return X, y


def flat(gradients):
    """Return the gradients of all layers as one vector."""
    return np.concatenate([part.ravel() for pair in gradients for part in pair])
