"""Fits that tools/same_bits.py compares: one module for each kind, and `cases` for what all of them share."""
