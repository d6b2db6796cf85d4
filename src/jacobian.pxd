# The derivatives of every output of a row by every parameter, for stacks of dense layers.

from libc.string cimport memset
from simd cimport real
from activations cimport differentiate_rows
from layer cimport Layer, parameter_rows
from network cimport Network, backward


cdef inline void jacobian(const Network* net, Py_ssize_t rows, real* J) noexcept nogil:
    # Of the first `rows` rows of the block, which have been through forward(), into J (rows, n_out, parameters): those of W and b layer by
    # layer, without padding.
    cdef const Layer* out = &net.layers[net.count - 1]
    cdef const Layer* layer
    cdef const real* A
    cdef const real* D
    cdef real* to
    cdef Py_ssize_t i, j, k, n
    cdef int l
    for k in range(out.n_out):
        memset(out.D, 0, rows * out.ld * sizeof(real))
        for i in range(rows):
            out.D[i * out.ld + k] = 1
        differentiate_rows(out.activation, out.Z, out.A, out.D, rows, out.n_out, out.ld)
        backward(net, 0, rows, 0)
        for i in range(rows):
            to = J + (i * out.n_out + k) * count_parameters(net)
            A = net.block.inputs[i]
            for l in range(net.count):
                layer = &net.layers[l]
                D = layer.D + i * layer.ld
                for j in range(parameter_rows(layer)):
                    for n in range(layer.n_out):
                        to[n] = D[n] * (A[j] if j < layer.rows else 1)
                    to += layer.n_out
                A = layer.A + i * layer.ld


cdef inline Py_ssize_t count_parameters(const Network* net) noexcept nogil:
    # Without padding.
    cdef Py_ssize_t count = 0
    cdef int l
    for l in range(net.count):
        count += parameter_rows(&net.layers[l]) * net.layers[l].n_out
    return count
