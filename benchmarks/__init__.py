"""Benchmarks that compare nnc with other packages on the same workloads in the same run; see README.md."""
