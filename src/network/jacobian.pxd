# Jacobians: derivatives of each output of a row with respect to the inputs, and, for networks of dense and scale
# layers, with respect to all parameters.

from libc.string cimport memcpy, memset
from simd cimport real
from activations cimport differentiate_rows
from layer cimport RECURRENT, SCALE, Layer, parameter_rows
from network cimport Network, backward, forward


cdef inline void differentiate_output(const Network* net, Py_ssize_t rows, Py_ssize_t k) noexcept nogil:
    # Compute the derivatives of output k with respect to the net inputs of all layers, and write them to the deltas of
    # the layers. The rows are the first `rows` rows of the block, whose forward pass is complete.
    cdef const Layer* last = &net.layers[net.count - 1]
    cdef Py_ssize_t i
    memset(last.D, 0, rows * last.ld * sizeof(real))
    for i in range(rows):
        last.D[i * last.ld + k] = 1
    differentiate_rows(last.activation, last.Z, last.A, last.D, rows, last.out_shape.width, last.out_shape.channels,
                       last.ld)
    backward(net, 0, rows, rows, 0)


cdef inline void input_jacobian(const Network* net, Py_ssize_t rows, real* J) noexcept nogil:
    # Write the derivatives of the outputs with respect to the inputs to J (rows, n_out, n_in).
    cdef Py_ssize_t i, k, n_in = net.block.n_in, n_out = net.block.n_out
    cdef bint is_recurrent = False
    cdef int l
    for l in range(net.count):
        is_recurrent = is_recurrent or net.layers[l].kind == RECURRENT
    for k in range(n_out):
        if k > 0 and is_recurrent:            # the backward pass has overwritten the gates with deltas
            forward(net, 0, rows, rows, 0, 0, 0, 0)
        differentiate_output(net, rows, k)
        for i in range(rows):
            memcpy(J + (i * n_out + k) * n_in, net.input_gradient + i * n_in, n_in * sizeof(real))


cdef inline void jacobian(const Network* net, Py_ssize_t rows, real* J) noexcept nogil:
    # Write the derivatives of the outputs with respect to the parameters to J (rows, n_out, parameters). The parameters
    # are W and b of each layer in turn, without padding.
    cdef const Layer* layer
    cdef const real* A
    cdef const real* D
    cdef real* out
    cdef Py_ssize_t i, j, k, n, n_out = net.block.n_out
    cdef int l
    for k in range(n_out):
        differentiate_output(net, rows, k)
        for i in range(rows):
            out = J + (i * n_out + k) * count_parameters(net)
            A = net.block.inputs[i]
            for l in range(net.count):
                layer = &net.layers[l]
                D = layer.D + i * layer.ld
                for j in range(parameter_rows(layer)):
                    for n in range(layer.n_out):
                        out[n] = D[n] * (1 if j == layer.rows else A[n] if layer.kind == SCALE else A[j])
                    out += layer.n_out
                A = layer.A + i * layer.ld


cdef inline Py_ssize_t count_parameters(const Network* net) noexcept nogil:
    # Return the number of parameters of the network, without padding.
    cdef Py_ssize_t count = 0
    cdef int l
    for l in range(net.count):
        count += parameter_rows(&net.layers[l]) * net.layers[l].n_out
    return count
