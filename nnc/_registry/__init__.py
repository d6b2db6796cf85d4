"""Tables of activations, losses, optimizers and initializers, with one row for each name.

A row has all facts that other modules need, such as formulas, constants, and the default activation for a loss.
"""
