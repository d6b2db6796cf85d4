"""Looking inside: a step of gradient descent with all its numbers, and backpropagation held against differences.

Everything is computed here anew, in float64 and by the definitions, from nothing but the weights of a network: the
engine is what is looked at. In a layer A_in are the inputs, Z = A_in W + b the net inputs, A = f(Z) the outputs; L
is the loss, and delta stands for dL/dZ.
"""
