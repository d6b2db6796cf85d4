"""Keras with the backend PyTorch: one call of `fit`, for workloads with sequences."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras  # noqa: F401 (imported first, keras_fit.py does not select JAX)

from .keras_fit import SUPPORTS_SEQUENCES, VARIANTS, VERSION

__all__ = ["SUPPORTS_SEQUENCES", "VARIANTS", "VERSION"]
