# The algorithm on one page: forward, the loss, backward, and what is learned, for a block of rows.

from libc.math cimport sqrt as sqrt_double
from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from simd cimport real, prefetch
from activations cimport SOFTMAX, differentiate, differentiate_softmax
from losses cimport (CROSS_ENTROPY, BCE, MSE, POISSON, from_logits, loss_scale, squared_error, binary_cross_entropy, cross_entropy,
                     cross_entropy_of_labels, elementwise, poisson)
from optimizers cimport Optimizer, penalty
from dropout cimport key_of
from matmul cimport COLUMNS, SCATTERED, Ahead, Form
from threads cimport share, smaller
from layer cimport Layer, GRAIN, biases, drop, first_row, last_row, list_rows
cimport dense
from learn cimport constrain as constrain_layer, learn as learn_layer, step as step_layer, transpose_rows
from rows cimport Data

cdef struct Network:
    int count             # layers
    Layer* layers
    int loss
    real parameter        # of the loss
    Py_ssize_t block      # rows that the buffers have room for
    bint is_tiny          # the buffers have the layout of tiny.pxd
    const real** inputs   # (block) where each row of the block begins
    bint scattered        # in any order: the rows of the data themselves, shuffled
    real* X               # (block, n_in) inputs that are gathered; what tiny.pxd has instead; or NULL
    real* Y               # (block, ld of the output) the targets, padded; NULL where the loss takes labels
    int* labels           # (block), or NULL
    real* weights         # (block), or NULL
    real* mask            # (ld of the output) 1 for an output, 0 for padding
    real* log_sum         # (block)
    double* partial       # (block / GRAIN) the plain sum of the loss over each grain of rows
    double total          # and over the block, where threads take whole ones
    real* scratch         # a piece for each thread
    Py_ssize_t scratch_size


cdef inline void fetch(const Network* net, const Data* data, Py_ssize_t row, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Rows row + low <= i < row + high of the data into places low to high of the block: where the inputs lie, and targets padded.
    cdef Py_ssize_t i, j, source, n_in = net.layers[0].n_in
    cdef Py_ssize_t n_out = net.layers[net.count - 1].n_out, ld = net.layers[net.count - 1].ld
    cdef const int* order = NULL if data.order is NULL else data.order + row
    cdef real y
    if order is NULL:
        list_rows(net.inputs + low, data.X + (row + low) * n_in, n_in, high - low)
    else:
        for i in range(low, high):
            net.inputs[i] = data.X + order[i] * n_in
            prefetch(net.inputs[i], n_in)
        if net.X is not NULL:
            for i in range(low, high):
                memcpy(net.X + i * n_in, net.inputs[i], n_in * sizeof(real))
                net.inputs[i] = net.X + i * n_in
    if net.labels is not NULL:
        for i in range(low, high):
            net.labels[i] = data.labels[row + i if order is NULL else order[i]]
    else:
        for i in range(low, high):
            source = row + i if order is NULL else order[i]
            if net.loss != CROSS_ENTROPY:
                for j in range(n_out):
                    net.Y[i * ld + j] = data.Y[source * n_out + j]
            else:         # label smoothing: a part of the probability is spread over all classes
                for j in range(n_out):
                    y = (data.labels[source] == j) if data.Y is NULL else data.Y[source * n_out + j]
                    net.Y[i * ld + j] = y * (1 - net.parameter) + net.parameter / n_out
    if data.weights is not NULL:
        for i in range(low, high):
            net.weights[i] = data.weights[row + i if order is NULL else order[i]]


cdef inline Ahead rows_ahead(const Network* net, const Data* data, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Rows low to high of the data in their order, as far as there are so many.
    return Ahead(data.X, data.order + smaller(low, data.n), data.order + smaller(high, data.n), net.layers[0].n_in, 0)


cdef inline void forward(const Network* net, Py_ssize_t low, Py_ssize_t high, int thread, uint64_t drop_key, uint64_t drops,
                         Py_ssize_t place) noexcept nogil:
    # Rows low to high of the block through all layers. In training, layers with a mask drop outputs, by number `drops` of the stream of
    # that key; `place` is where the block begins in the batch.
    cdef const real** X = net.inputs
    cdef int l
    for l in range(net.count):
        dense.forward(&net.layers[l], X, low, high - low, net.log_sum, net.scratch + thread * net.scratch_size)
        if net.layers[l].mask is not NULL:
            drop(&net.layers[l], key_of(key_of(drop_key, drops), l), place, low, high - low)
        X = net.layers[l].outs


cdef inline double loss_of_rows(const Network* net, Py_ssize_t i, Py_ssize_t rows, real scale) noexcept nogil:
    # The plain sum of the loss of rows i to i + rows, and their delta, times `scale`.
    cdef const Layer* out = &net.layers[net.count - 1]
    cdef Py_ssize_t at = i * out.ld
    cdef const real* Y = NULL if net.Y is NULL else net.Y + at
    if net.loss == CROSS_ENTROPY and net.labels is not NULL:
        return cross_entropy_of_labels(out.Z + at, net.log_sum + i, out.A + at, net.labels + i, out.D + at, scale, rows, out.ld)
    if net.loss == CROSS_ENTROPY:
        return cross_entropy(out.Z + at, net.log_sum + i, out.A + at, Y, out.D + at, scale, rows, out.ld)
    return elementwise_loss(net, out.Z + at, out.A + at, Y, out.D + at, net.mask, scale, rows, out.ld)


cdef inline double elementwise_loss(const Network* net, const real* Z, const real* A, const real* Y, real* D, const real* mask, real scale,
                                    Py_ssize_t rows, Py_ssize_t ld) noexcept nogil:
    if net.loss <= MSE:
        return squared_error(A, Y, D, mask, scale, rows, ld)
    if net.loss == BCE:
        return binary_cross_entropy(Z, A, Y, D, mask, scale, rows, ld)
    if net.loss == POISSON:
        return poisson(Z, A, Y, D, mask, scale, rows, ld)
    return elementwise(net.loss, net.parameter, A, Y, D, mask, scale, rows, ld)


cdef inline void output_delta(const Network* net, Py_ssize_t low, Py_ssize_t high, double scale) noexcept nogil:
    # The delta of the output layer, and the plain sum of the loss of each grain of rows.
    cdef const Layer* out = &net.layers[net.count - 1]
    cdef Py_ssize_t i, k, at = low * out.ld
    for i from low <= i < high by GRAIN:
        if net.weights is NULL:
            net.partial[i // GRAIN] = loss_of_rows(net, i, smaller(GRAIN, high - i), <real>scale)
        else:
            net.partial[i // GRAIN] = 0
            for k in range(i, smaller(i + GRAIN, high)):
                net.partial[i // GRAIN] += net.weights[k] * loss_of_rows(net, k, 1, <real>(scale * net.weights[k]))
    if not from_logits(net.loss):
        if out.activation == SOFTMAX:
            differentiate_softmax(out.A + at, out.D + at, high - low, out.n_out, out.ld)
        else:
            differentiate(out.activation, out.Z + at, out.A + at, out.D + at, (high - low) * out.ld)


cdef inline void backward(const Network* net, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # The deltas of the other layers, from the last one down: the chain rule.
    cdef int l
    for l in range(net.count - 1, 0, -1):
        dense.backward(&net.layers[l], &net.layers[l - 1], low, high - low)


cdef inline void learn(const Network* net, Py_ssize_t rows, bint first_block, bint last_block,
                       const Optimizer* optimizer, double* squares, int thread, int threads, Ahead* ahead) noexcept nogil:
    # Every layer's gradient over the block and the optimizer's step, for this thread's share of the parameters; meanwhile rows of the
    # next block are on their way.
    cdef const real** X = net.inputs
    cdef Form form = SCATTERED if net.scattered else COLUMNS
    cdef Layer* layer
    cdef int l
    for l in range(net.count):
        layer = &net.layers[l]
        learn_layer(layer, X, form, rows, first_row(layer, thread, threads), last_row(layer, thread, threads), first_block, last_block,
                    optimizer, squares, net.scratch + thread * net.scratch_size, ahead if l == 0 else NULL)
        if squares is not NULL:
            squares += layer.n_in + layer.bias
        X, form = layer.outs, COLUMNS


cdef inline void step(const Network* net, const Optimizer* optimizer, const double* squares, int thread, int threads) noexcept nogil:
    # The step of the thread's share on the gradient clipped by its norm, whose square every thread adds up in the same order.
    cdef double total = 0, norm
    cdef Py_ssize_t k, rows = 0
    cdef Layer* layer
    cdef int l
    for l in range(net.count):
        rows += net.layers[l].n_in + net.layers[l].bias
    for k in range(rows):
        total += squares[k]
    norm = sqrt_double(total) + 1e-6      # as PyTorch has it
    for l in range(net.count):
        layer = &net.layers[l]
        if not norm - norm == 0:          # nothing to scale down to
            layer.broken = True
            continue
        step_layer(layer, first_row(layer, thread, threads), last_row(layer, thread, threads), optimizer,
                   optimizer.clip_norm / norm if norm > optimizer.clip_norm else 1)


cdef inline void constrain(const Network* net, double limit, int thread, int threads) noexcept nogil:
    # Keeps the incoming weights of the thread's share of neurons within the norm `limit`.
    cdef int l
    cdef const Layer* layer
    for l in range(net.count):
        layer = &net.layers[l]
        constrain_layer(layer, limit, share(layer.n_out, thread, threads, GRAIN), share(layer.n_out, thread + 1, threads, GRAIN))


cdef inline double sum_penalties(const Network* net, const Optimizer* optimizer) noexcept nogil:
    cdef double total = 0
    cdef int l
    cdef const Layer* layer
    for l in range(net.count):
        layer = &net.layers[l]
        total += penalty(optimizer, layer.W, layer.n_in * layer.ld, False)
        if layer.bias:
            total += penalty(optimizer, biases(layer), layer.ld, True)
    return total


cdef inline double sum_partial(const Network* net, Py_ssize_t rows) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range((rows + GRAIN - 1) // GRAIN):
        total += net.partial[i]
    return total


cdef inline bint is_broken(const Network* net) noexcept nogil:
    cdef int l
    for l in range(net.count):
        if net.layers[l].broken:
            return True
    return False


cdef inline void refresh(const Network* net) noexcept nogil:
    # Brings every WT up to date with a W that was changed elsewhere.
    cdef int l
    for l in range(net.count):
        if net.layers[l].WT is not NULL:
            transpose_rows(&net.layers[l], 0, net.layers[l].n_in)


cdef inline void unpad(const real* rows, const Layer* layer, Py_ssize_t n, real* out) noexcept nogil:
    # n rows of a layer's outputs or deltas, their padding left out.
    cdef Py_ssize_t i
    for i in range(n):
        memcpy(out + i * layer.n_out, rows + i * layer.ld, layer.n_out * sizeof(real))
