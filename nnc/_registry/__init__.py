"""Tables of activations, losses, optimizers and initializers, with one row for each name.

A row contains what other modules need, such as formulas, constants, and the default output activation of a loss.
"""
