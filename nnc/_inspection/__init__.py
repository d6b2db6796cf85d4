"""Explanation of a step of gradient descent, and comparison of backpropagation with finite differences.

This package computes everything from the weights of a network, in float64 and with the textbook formulas. It does not
use the compiled engine, whose results it explains and checks. In a layer A_in are the inputs, Z = A_in W + b the net
inputs, and A = f(Z) the outputs; L is the loss, and delta stands for dL/dZ.
"""
