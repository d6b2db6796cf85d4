# Step of very small networks: plain gradient descent on all rows at once, with at most VL rows, and at most VL inputs
# and neurons per layer. For such sizes, the step of network.pxd would spend most of the time outside of its kernels.
# Each matrix is stored in a block of VL x VL numbers, so all strides are compile-time constants.
#
# Inputs, targets, net inputs, activations and deltas are stored transposed: matrix rows are neurons, and vector lanes
# are rows of the batch. Therefore only few lanes are idle, even if a layer has only one neuron. All sums have the same
# order as in dense.pxd, so the weights are bit-identical. The loss is a sum over lanes and may differ in the last bits.
#
# A training step is a chain of dependent operations, whose duration depends on the latency of memory. Intermediate
# results stay in registers where possible.

from simd cimport always_inlined, real, vec, VL, all_finite, load, madd, splat, store
from squares cimport MAX_LANES, transpose
from activations cimport (IDENTITY, RELU, SIGMOID, SOFTMAX, TANH, activate, activation_derivative, activation_value,
                          differentiate)
from losses cimport CUSTOM, HEADS, elementwise_loss, from_logits
from optimizers cimport Optimizer
from layer cimport DENSE, Layer
from rows cimport Data
from learn cimport move_weights
from network cimport Network, Plan


cdef inline bint is_supported(const Plan* plan, const Data* data, Py_ssize_t batch,
                              const Optimizer* optimizer) noexcept nogil:
    # Return whether the code for tiny networks supports a run and is faster. It is faster if rows fill at least half
    # of the vector lanes and there are at most 8 lanes.
    cdef int l
    # custom losses are not supported, because they need the outputs before the step; heads need other code
    if plan.loss == CUSTOM or plan.loss == HEADS or plan.has_objective:
        return False
    for l in range(plan.count):
        if plan.layers[l].frozen or plan.layers[l].param_group is not NULL:
            return False
        if plan.layers[l].kind != DENSE or plan.layers[l].dropout_rate > 0:
            return False
        if plan.layers[l].n_in > VL or plan.layers[l].n_out > VL:
            return False
    return (<int>VL <= 8 and VL <= 2 * data.n and data.n <= VL and batch == data.n and data.order is NULL and
            data.Y is not NULL and data.weights is NULL and optimizer.plain and optimizer.max_norm == 0 and
            plan.layers[plan.count - 1].activation != SOFTMAX)


cdef inline void fetch(const Network* net, const Data* data) noexcept nogil:
    # Copy each row of the batch to a vector lane. Unused lanes repeat the last row and are masked.
    cdef Py_ssize_t i, j, source, n_in = net.layers[0].n_in, n_out = net.layers[net.count - 1].n_out
    for i in range(VL):
        source = i if i < data.n else data.n - 1
        for j in range(n_in):
            net.block.X[j * VL + i] = data.X[source * n_in + j]
        for j in range(n_out):
            net.block.Y[j * VL + i] = data.Y[source * n_out + j]
            net.output_mask[j * VL + i] = i < data.n


cdef inline always_inlined forward_as(int activation, const Layer* layer, const real* X) noexcept nogil:
    # Compute net inputs Z = b + W.T @ X and activations A = f(Z). `activation` is a literal at every call.
    cdef const real* W = layer.W
    cdef real* Z = layer.Z
    cdef real* A = layer.A
    cdef Py_ssize_t j, k, n_in = layer.n_in, n_out = layer.n_out
    cdef bint bias = layer.bias
    cdef vec z
    for j in range(n_out):
        z = splat(W[n_in * VL + j]) if bias else splat(0)
        for k in range(n_in):
            z = madd(splat(W[k * VL + j]), load(X + k * VL), z)
        if Z != A:
            store(Z + j * VL, z)
        store(A + j * VL, activation_value(activation, z))


cdef inline void forward(const Layer* layer, const real* X) noexcept nogil:
    # Compute net inputs Z = b + W.T @ X and activations A = f(Z). The most common activations are passed as literals,
    # so that the compiler creates a loop for each of them.
    if layer.activation == SIGMOID:
        forward_as(SIGMOID, layer, X)
    elif layer.activation == TANH:
        forward_as(TANH, layer, X)
    elif layer.activation == RELU:
        forward_as(RELU, layer, X)
    else:
        forward_as(IDENTITY, layer, X)
        activate(layer.activation, layer.Z, layer.A, layer.n_out * VL)


cdef inline always_inlined backward_as(int activation, const Layer* layer, const Layer* previous) noexcept nogil:
    # Compute the deltas of the previous layer. `activation` is the activation of that layer, a literal at every call.
    cdef const real* W = layer.W
    cdef const real* D = layer.D
    cdef const real* A = previous.A
    cdef real* out = previous.D
    cdef Py_ssize_t j, k, n_in = layer.n_in, n_out = layer.n_out
    cdef vec d, a
    for k in range(n_in):
        d = splat(0)
        for j in range(n_out):
            d = madd(splat(W[k * VL + j]), load(D + j * VL), d)
        a = load(A + k * VL)
        # these derivatives depend only on the output, which is passed in place of the net input
        store(out + k * VL, d * activation_derivative(activation, a, a))


cdef inline void backward(const Layer* layer, const Layer* previous) noexcept nogil:
    # Compute the deltas of the previous layer, (W @ delta) * f'(Z) with the Z and f of that layer.
    if previous.activation == SIGMOID:
        backward_as(SIGMOID, layer, previous)
    elif previous.activation == TANH:
        backward_as(TANH, layer, previous)
    elif previous.activation == RELU:
        backward_as(RELU, layer, previous)
    else:
        backward_as(IDENTITY, layer, previous)
        differentiate(previous.activation, previous.Z, previous.A, previous.D, previous.n_out * VL)


cdef inline void descend(Layer* layer, const real* X, double lr) noexcept nogil:
    # Take a step of gradient descent: W -= lr X @ delta.T and b -= lr sum(delta).
    cdef vec delta[MAX_LANES]
    cdef vec sums[4]
    cdef vec nonfinite = splat(0), sum
    cdef real* W = layer.W
    cdef Py_ssize_t k, n_in = layer.n_in
    cdef int l
    for l in range(VL):
        delta[l] = load(layer.D + l * VL)
    transpose(delta)
    for k in range(n_in):
        sum = splat(0)
        for l in range(VL):
            sum = madd(splat(X[k * VL + l]), delta[l], sum)
        move_weights(W + k * VL, sum, <real>-lr, &nonfinite)
    if layer.bias:
        for l in range(4):
            sums[l] = splat(0)
        for l in range(VL):
            sums[l % 4] = sums[l % 4] + delta[l]
        move_weights(W + n_in * VL, (sums[0] + sums[1]) + (sums[2] + sums[3]), <real>-lr, &nonfinite)
    if not all_finite(nonfinite):
        layer.broken = True


cdef inline double compute(const Network* net, double scale) noexcept nogil:
    # Return the sum of the loss terms of all rows, and compute all deltas.
    cdef const Layer* out = &net.layers[net.count - 1]
    cdef const real* X = net.block.X
    cdef double total
    cdef int l
    for l in range(net.count):
        forward(&net.layers[l], X)
        X = net.layers[l].A
    total = elementwise_loss(net.loss, net.parameter, out.Z, out.A, net.block.Y, out.D, net.output_mask, <real>scale, 1,
                             out.n_out * VL)
    if not from_logits(net.loss):
        differentiate(out.activation, out.Z, out.A, out.D, out.n_out * VL)
    for l in range(net.count - 1, 0, -1):
        backward(&net.layers[l], &net.layers[l - 1])
    return total


cdef inline always_inlined learn(const Network* net, double lr) noexcept nogil:
    # Take a step of gradient descent with all layers.
    cdef const real* X = net.block.X
    cdef int l
    for l in range(net.count):
        descend(&net.layers[l], X, lr)
        X = net.layers[l].A
