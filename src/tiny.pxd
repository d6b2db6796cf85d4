# The run of run.pxd once more, for a network and a batch so small that the way to the kernels would take longer than
# they do: plain gradient descent on all rows at once, where these, the inputs and the neurons of each layer are at most
# VL. Every matrix is a part of a square of VL x VL numbers then, so that distances are literals.
#
# X, Y, Z, A and D lie the other way round than elsewhere: a neuron in each row, a row of the batch in each lane, so
# that few lanes are idle where a layer has one neuron. Every sum is taken in the order of dense.pxd all the same, so
# that the weights are the same to the last bit; the loss, a sum over lanes, is not.
#
# A step is a chain in which everything waits for what comes before it, through memory too: so what belongs together
# stays in registers.

from simd cimport always_inlined, real, vec, VL, all_finite, load, madd, splat, store
from squares cimport MAX_LANES, transpose
from activations cimport IDENTITY, RELU, SIGMOID, SOFTMAX, TANH, activate, differentiate, slope, value
from losses cimport CUSTOM, HEADS, elementwise_loss, from_logits, loss_scale
from layer cimport DENSE, Layer
from rows cimport Data
from learn cimport move
from network cimport Network, Plan, is_broken
from run cimport Run, end_epoch, loss_of_epoch


cdef inline bint suits(const Run* run, const Plan* plan) noexcept nogil:
    # Whether all that is asked for is known here, and this is faster: it is where rows fill half of the lanes, and
    # these are not 16.
    cdef const Data* data = &run.data
    cdef int l
    if plan.loss == CUSTOM or plan.loss == HEADS:     # the outputs of the former are asked for before a step
        return False
    for l in range(plan.count):
        if plan.layers[l].frozen or plan.layers[l].own is not NULL:
            return False
        if plan.layers[l].kind != DENSE or plan.layers[l].dropped > 0:
            return False
        if plan.layers[l].n_in > VL or plan.layers[l].n_out > VL:
            return False
    return (<int>VL <= 8 and VL <= 2 * data.n and data.n <= VL and run.batch == data.n and data.order is NULL and
            data.Y is not NULL and data.weights is NULL and run.optimizer.plain and run.optimizer.max_norm == 0 and
            plan.layers[plan.count - 1].activation != SOFTMAX)


cdef inline void fetch(const Network* net, const Data* data) noexcept nogil:
    # The rows of the batch into lanes; lanes that are left over repeat the last row, and do not count.
    cdef Py_ssize_t i, j, source, n_in = net.layers[0].n_in, n_out = net.layers[net.count - 1].n_out
    for i in range(VL):
        source = i if i < data.n else data.n - 1
        for j in range(n_in):
            net.block.X[j * VL + i] = data.X[source * n_in + j]
        for j in range(n_out):
            net.block.Y[j * VL + i] = data.Y[source * n_out + j]
            net.mask[j * VL + i] = i < data.n


cdef inline always_inlined forward_as(int kind, const Layer* layer, const real* X) noexcept nogil:
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
        store(A + j * VL, value(kind, z))


cdef inline void forward(const Layer* layer, const real* X) noexcept nogil:
    # Z = W.T @ X, A = f(Z); the usual activations as literals, for a loop over one function each
    if layer.activation == SIGMOID:
        forward_as(SIGMOID, layer, X)
    elif layer.activation == TANH:
        forward_as(TANH, layer, X)
    elif layer.activation == RELU:
        forward_as(RELU, layer, X)
    else:
        forward_as(IDENTITY, layer, X)
        activate(layer.activation, layer.Z, layer.A, layer.n_out * VL)


cdef inline always_inlined backward_as(int kind, const Layer* layer, const Layer* below) noexcept nogil:
    cdef const real* W = layer.W
    cdef const real* D = layer.D
    cdef const real* A = below.A
    cdef real* to = below.D
    cdef Py_ssize_t j, k, n_in = layer.n_in, n_out = layer.n_out
    cdef vec d, a
    for k in range(n_in):
        d = splat(0)
        for j in range(n_out):
            d = madd(splat(W[k * VL + j]), load(D + j * VL), d)
        a = load(A + k * VL)
        store(to + k * VL, d * slope(kind, a, a))     # those that read z are not among the literals


cdef inline void backward(const Layer* layer, const Layer* below) noexcept nogil:
    # delta of the layer below = (W @ delta) * f'(its Z)
    if below.activation == SIGMOID:
        backward_as(SIGMOID, layer, below)
    elif below.activation == TANH:
        backward_as(TANH, layer, below)
    elif below.activation == RELU:
        backward_as(RELU, layer, below)
    else:
        backward_as(IDENTITY, layer, below)
        differentiate(below.activation, below.Z, below.A, below.D, below.n_out * VL)


cdef inline void learn(Layer* layer, const real* X, double lr) noexcept nogil:
    # W -= lr X @ delta.T, b -= lr sum(delta)
    cdef vec delta[MAX_LANES]
    cdef vec sums[4]
    cdef vec bad = splat(0), sum
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
        move(W + k * VL, sum, <real>-lr, &bad)
    if layer.bias:
        for l in range(4):
            sums[l] = splat(0)
        for l in range(VL):
            sums[l % 4] = sums[l % 4] + delta[l]
        move(W + n_in * VL, (sums[0] + sums[1]) + (sums[2] + sums[3]), <real>-lr, &bad)
    if not all_finite(bad):
        layer.broken = True


cdef inline void train(Run* run, Py_ssize_t epochs) noexcept nogil:
    # Takes the run `epochs` epochs further.
    cdef Network* net = &run.net
    cdef Layer* out = &net.layers[net.count - 1]
    cdef Py_ssize_t epoch = run.epoch, end = run.epoch + min(run.epochs - run.epoch, epochs)
    cdef real scale = <real>(run.delta_factor * loss_scale(net.loss, run.data.weight, out.n_out))
    cdef const real* X
    cdef double loss
    cdef int l
    while epoch < end and not run.stop and not is_broken(net):
        X = net.block.X
        for l in range(net.count):
            forward(&net.layers[l], X)
            X = net.layers[l].A
        loss = loss_of_epoch(run, elementwise_loss(net.loss, net.parameter, out.Z, out.A, net.block.Y, out.D, net.mask,
                                                   scale, 1, out.n_out * VL))
        if not loss - loss == 0:              # there is nothing to learn from it
            run.lost = run.stop = True
            break
        if not from_logits(net.loss):
            differentiate(out.activation, out.Z, out.A, out.D, out.n_out * VL)
        for l in range(net.count - 1, 0, -1):
            backward(&net.layers[l], &net.layers[l - 1])
        X = net.block.X
        for l in range(net.count):
            learn(&net.layers[l], X, run.rates[epoch * run.rate_step])
            X = net.layers[l].A
        end_epoch(run, epoch, loss)
        epoch += 1
    run.epoch = epoch - is_broken(net)        # an epoch whose step was not whole is none
