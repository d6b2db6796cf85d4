"""The benchmark: nnc and what one would use instead of it, on the same work in the same run."""
