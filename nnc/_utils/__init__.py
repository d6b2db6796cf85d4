"""What stands on nothing else of nnc."""
