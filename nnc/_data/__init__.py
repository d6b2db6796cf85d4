"""Conversion of X, y and sample weights for the engine: checks, scaling, splits, classes and metrics."""
