"""Functions for many networks: training in one call, ensembles, and hyperparameter search."""
