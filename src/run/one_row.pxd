# Step on a batch of one row with a few dense layers, as in a loop over single rows. In the step of network.pxd the
# overhead around the kernels would take longer than the kernels themselves, and each step would update the transposed
# weights and read them only once.
#
# Buffers and the order of all sums are the same as in network.pxd and dense.pxd, so weights and losses are
# bit-identical. The transposed weights are allocated but not used.

from simd cimport always_inlined, real, vec, VL, all_finite, load, madd, splat, store
from squares cimport MAX_LANES
from losses cimport HEADS
from optimizers cimport Optimizer
from matmul cimport COLUMNS, K_BLOCK_ROWS
from threads cimport smaller
from layer cimport DENSE, Layer, biases, end_row, backward_activation
from dense cimport activate_rows, transpose_square
from rows cimport Data, fetch
from learn cimport learn as learn_layer, move_weights
from network cimport Network, Plan, output_delta

cdef enum:
    ACCUMULATORS = 4      # number of independent sums, which hide the latency of multiply-adds
    MAX_PARAMETERS = 1 << 17  # with more elements in the parameter vector, the functions of network.pxd are faster


cdef inline bint is_supported(const Plan* plan, const Data* data, Py_ssize_t batch,
                              const Optimizer* optimizer) noexcept nogil:
    # Return whether the code for batches of one row supports a run and is faster.
    cdef const Layer* layer
    cdef int l
    for l in range(plan.count):
        layer = &plan.layers[l]
        if (layer.kind != DENSE or layer.narrow or layer.n_in > K_BLOCK_ROWS or layer.n_out > K_BLOCK_ROWS
                or layer.dropout_rate > 0):
            return False
        if layer.frozen or layer.param_group is not NULL:
            return False
    return (batch == 1 and plan.loss != HEADS and not plan.has_objective and plan.size <= MAX_PARAMETERS
            and data.weights is NULL and optimizer.clip_norm == 0 and optimizer.max_norm == 0
            and optimizer.l1 == 0 and optimizer.l2 == 0)


cdef inline always_inlined net_inputs(int vecs, const Layer* layer, const real* x, Py_ssize_t j) noexcept nogil:
    # Compute `vecs` vectors of the net inputs Z = b + x @ W, from column j on. `vecs` is a literal at every call, so
    # that the compiler unrolls the loops.
    cdef const real* b = biases(layer)
    cdef const real* w = layer.W + j
    cdef vec z[ACCUMULATORS]
    cdef Py_ssize_t k
    cdef int s
    for s in range(vecs):
        z[s] = splat(0) if b is NULL else load(b + j + s * VL)
    for k in range(layer.n_in):
        for s in range(vecs):
            z[s] = madd(splat(x[k]), load(w + s * VL), z[s])
        w += layer.ld
    for s in range(vecs):
        store(layer.Z + j + s * VL, z[s])


cdef inline void forward(const Layer* layer, const real* x, real* scratch) noexcept nogil:
    # Compute the net inputs Z and activations A = f(Z) of one row.
    cdef Py_ssize_t j = 0
    while layer.ld - j >= ACCUMULATORS * VL:
        net_inputs(ACCUMULATORS, layer, x, j)
        j += ACCUMULATORS * VL
    while j < layer.ld:
        net_inputs(1, layer, x, j)
        j += VL
    activate_rows(layer, 0, 1, scratch)


cdef inline void backward(const Layer* layer, const Layer* previous) noexcept nogil:
    # Compute the deltas of the previous layer, (W @ delta) * f'(Z) with the Z and f of that layer. Squares of VL x VL
    # weights are transposed in registers.
    cdef vec square[MAX_LANES]
    cdef vec sum
    cdef Py_ssize_t i, j, k
    for k from 0 <= k < previous.ld by VL:            # the deltas include padding, for which W has no rows
        sum = splat(0)
        for j from 0 <= j < layer.n_out by VL:
            transpose_square(layer.W + k * layer.ld + j, layer.ld, smaller(VL, layer.n_in - k), square)
            for i in range(smaller(VL, layer.n_out - j)):
                sum = madd(splat(layer.D[j + i]), square[i], sum)
        store(previous.D + k, sum)
    backward_activation(previous, 0, 1)


cdef inline void descend(Layer* layer, const real* x, real rate) noexcept nogil:
    # Take a step of gradient descent: W -= rate x.T @ delta and b -= rate delta.
    cdef const real* D = layer.D
    cdef real* w = layer.W
    cdef vec nonfinite = splat(0)
    cdef Py_ssize_t j, k
    for k in range(layer.n_in):
        for j from 0 <= j < layer.ld by VL:
            move_weights(w + j, madd(splat(x[k]), load(D + j), splat(0)), -rate, &nonfinite)
        w += layer.ld
    if layer.bias:
        for j from 0 <= j < layer.ld by VL:
            move_weights(w + j, load(D + j) + splat(0), -rate, &nonfinite)
    if not all_finite(nonfinite):
        layer.broken = True


cdef inline always_inlined compute(const Network* net, const Data* data, Py_ssize_t row, bint resident,
                                   double scale) noexcept nogil:
    # Compute the loss term of a row and all deltas. A resident row has been loaded already.
    cdef const real** X = net.block.inputs
    cdef int l
    if not resident:
        fetch(&net.block, data, row, 0, 1)
    for l in range(net.count):
        forward(&net.layers[l], X[0], net.scratch)
        X = net.layers[l].out_rows
    output_delta(net, 0, 1, scale, 0)
    for l in range(net.count - 1, 0, -1):
        backward(&net.layers[l], &net.layers[l - 1])


cdef inline always_inlined learn(const Network* net, const Optimizer* optimizer) noexcept nogil:
    # Take the optimizer step of all layers.
    cdef const real** X = net.block.inputs
    cdef Layer* layer
    cdef int l
    for l in range(net.count):
        layer = &net.layers[l]
        if optimizer.plain:
            descend(layer, X[0], <real>optimizer.lr)
        else:
            learn_layer(layer, X, COLUMNS, 1, 0, end_row(layer, 0, 1), True, True, optimizer, NULL, net.scratch, NULL)
        X = layer.out_rows
