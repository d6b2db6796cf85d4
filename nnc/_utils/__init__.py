"""Helper functions that import nothing else of nnc."""
