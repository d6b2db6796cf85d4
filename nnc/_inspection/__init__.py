"""Explanation of a step of gradient descent, and comparison of backpropagation with finite differences.

This package computes everything from the weights of a network, in float64 and by the definitions, without the engine
whose results it explains and checks. In a layer A_in are the inputs, Z = A_in W + b the net inputs, A = f(Z) the
outputs; L is the loss, and delta stands for dL/dZ.
"""
