# Losses of a network with several heads. A head is a group of outputs with its own loss, activation and weight.
#
# The last layer of the network has the identity as activation, so its outputs are the net inputs of the heads. The
# columns of a head are copied to a workspace, where the functions of activations.pxd and losses.pxd are applied, and
# the deltas are copied back.
#
# A head has the loss weight * sum / divisor. The divisor depends on the number of rows in the batch and, with missing
# targets, on the number of terms that are present. The engine divides the loss by the number of rows, as for the mean
# over rows of a single loss. So the terms of a head are multiplied by factor = weight * rows / divisor.

from simd cimport real, VL, load, splat, store
from arena cimport Arena, allocate
from activations cimport IDENTITY, SOFTMAX, activate, differentiate, differentiate_rows, softmax
from losses cimport (CROSS_ENTROPY, cross_entropy, elementwise_loss, from_logits, has_target_range, is_target,
                     label_smoothing, loss_scale)
from layer cimport GRAIN, padded
from rows cimport Data

cdef struct Head:
    int loss              # loss function of the head, a value of the enum Loss
    double parameter      # parameter of the loss function, such as delta of the Huber loss
    int activation        # activation function of the head, a value of the enum Activation
    Py_ssize_t first      # index of the first output column of the head
    Py_ssize_t n          # number of output columns of the head
    double weight         # weight of the head's loss in the total loss

cdef struct Heads:
    int count             # number of heads; 0 if the network has a single loss
    const Head* items     # array of `count` heads, owned by the Engine
    double missing        # value that marks a missing target; NaN if no target is missing
    double* factors       # loss factor of each head in the current batch, for each thread (threads, count)
    real* workspace       # workspace of all threads (threads, workspace_size)
    Py_ssize_t workspace_size  # number of elements in the workspace of one thread
    # number of elements in one matrix of the workspace: GRAIN rows of the widest head
    Py_ssize_t matrix_reals


cdef inline void lay_out(Heads* heads, Arena* arena, int threads) noexcept nogil:
    # Allocate the loss factors of the heads and the workspace, for each thread.
    cdef Py_ssize_t widest = 0
    cdef int h
    for h in range(heads.count):
        widest = max(widest, padded(heads.items[h].n))
    heads.matrix_reals = GRAIN * widest
    heads.workspace_size = 5 * heads.matrix_reals + 2 * (GRAIN + VL) + widest * VL
    heads.factors = <double*>allocate(arena, threads * heads.count * sizeof(double))
    heads.workspace = <real*>allocate(arena, threads * heads.workspace_size * sizeof(real))


cdef inline bint are_targets(const Heads* heads, const real* Y, Py_ssize_t n, Py_ssize_t n_out) noexcept nogil:
    # Return whether n rows of targets are in the range of their losses and none is missing. Targets of a cross-entropy
    # head must be one-hot. The caller checks that the targets are finite.
    cdef const Head* head
    cdef const real* y
    cdef Py_ssize_t i, j, ones, zeros
    cdef bint is_valid = True
    cdef int h
    for h in range(heads.count):
        head = &heads.items[h]
        if not has_target_range(head.loss):
            continue
        for i in range(n):
            y = Y + i * n_out + head.first
            ones = zeros = 0
            for j in range(head.n):
                ones += y[j] == 1
                zeros += y[j] == 0
                is_valid = is_valid and is_target(head.loss, y[j])
            if head.loss == CROSS_ENTROPY:
                is_valid = is_valid and ones == 1 and zeros == head.n - 1
    return is_valid


cdef inline double rows_with_targets(const Heads* heads, const Head* head, const Data* data, Py_ssize_t low,
                                     Py_ssize_t high, Py_ssize_t n_out) noexcept nogil:
    # Return how many rows have targets for the head, weighted by the sample weights. A row in which only some of the
    # head's outputs have a target counts as that fraction of a row.
    cdef double total = 0
    cdef real missing = <real>heads.missing
    cdef Py_ssize_t i, j, row, count
    for i in range(low, high):
        row = i if data.order is NULL else data.order[i]
        count = 0
        for j in range(head.first, head.first + head.n):
            count += data.Y[row * n_out + j] != missing
        total += count * (1 if data.weights is NULL else <double>data.weights[row])
    return total / head.n


cdef inline void begin_batch(const Heads* heads, const Data* data, Py_ssize_t low, Py_ssize_t high, double rows,
                             Py_ssize_t n_out, int thread) noexcept nogil:
    # Compute the loss factor of each head for the batch of rows low <= i < high of the data. `rows` is the sum of their
    # sample weights, or their number if there are no sample weights.
    cdef const Head* head
    cdef double present
    cdef int h
    for h in range(heads.count):
        head = &heads.items[h]
        present = rows
        if heads.missing == heads.missing:
            present = rows_with_targets(heads, head, data, low, high, n_out)
        heads.factors[thread * heads.count + h] = head.weight * rows * loss_scale(head.loss, present, head.n)


cdef inline void mask_missing(real missing, real* y, real* mask, Py_ssize_t size) noexcept nogil:
    # Replace missing targets by 0, and set the elements of `mask` for these targets to 0.
    cdef Py_ssize_t j
    for j in range(size):
        if y[j] == missing:
            y[j] = mask[j] = 0


cdef inline double loss_of_head(const Heads* heads, const Head* head, const real* Z, const real* Y, real* D, real scale,
                                Py_ssize_t rows, Py_ssize_t ld, real* workspace) noexcept nogil:
    # Return the sum of the loss terms of one head over at most GRAIN rows, and write the deltas of the head's columns
    # to D.
    cdef real* z = workspace
    cdef real* p = z + heads.matrix_reals
    cdef real* y = p + heads.matrix_reals
    cdef real* d = y + heads.matrix_reals
    cdef real* mask = d + heads.matrix_reals
    cdef real* log_sum = mask + heads.matrix_reals
    cdef real* scratch = log_sum + GRAIN + VL
    # softmax needs padded rows; for other activations, the rows of the head follow each other without padding
    cdef bint by_rows = head.activation == SOFTMAX
    cdef Py_ssize_t n = head.n, width = padded(n) if by_rows else n, size = padded(rows * width), i, j
    cdef real smoothing = <real>label_smoothing(head.loss, head.parameter)
    cdef double total
    if by_rows or size != rows * n:
        for j in range(0 if by_rows else rows * n, size):
            z[j] = y[j] = mask[j] = 0
    # The inner loop is over the rows, because a head has few outputs and loops of one or two iterations are slow.
    for j in range(n):
        for i in range(rows):
            z[i * width + j] = Z[i * ld + head.first + j]
            y[i * width + j] = Y[i * ld + head.first + j]
            mask[i * width + j] = 1
    if heads.missing == heads.missing:
        mask_missing(<real>heads.missing, y, mask, size)
    if smoothing != 0:
        for j from 0 <= j < size by VL:
            store(y + j, (<real>(1 - smoothing) * load(y + j) + splat(<real>(smoothing / n))) * load(mask + j))
    if by_rows:
        softmax(z, p, log_sum if head.loss == CROSS_ENTROPY else NULL, rows, n, width, scratch)
    elif head.activation == IDENTITY:
        p = z
    else:
        activate(head.activation, z, p, size)
    if head.loss == CROSS_ENTROPY:
        total = cross_entropy(z, log_sum, p, y, d, scale, rows, width)
    else:
        total = elementwise_loss(head.loss, <real>head.parameter, z, p, y, d, mask, scale, 1, size)
        if by_rows:
            differentiate_rows(head.activation, z, p, d, rows, 1, n, width)
        elif not from_logits(head.loss):
            differentiate(head.activation, z, p, d, size)
    for j in range(n):
        for i in range(rows):
            D[i * ld + head.first + j] = d[i * width + j]
    if head.loss == CROSS_ENTROPY and heads.missing == heads.missing:
        for i in range(rows):
            for j in range(n):
                D[i * ld + head.first + j] *= mask[i * width + j]
    return total


cdef inline double loss_of_heads(const Heads* heads, const real* Z, const real* Y, real* D, double scale,
                                 Py_ssize_t rows, Py_ssize_t n_out, Py_ssize_t ld, int thread) noexcept nogil:
    # Return the sum of the losses of all heads over at most GRAIN rows, where each loss is multiplied by its factor.
    # Write the deltas, multiplied by `scale`, to D.
    cdef const double* factors = heads.factors + thread * heads.count
    cdef real* workspace = heads.workspace + thread * heads.workspace_size
    cdef double total = 0
    cdef Py_ssize_t i, j
    cdef int h
    for h in range(heads.count):
        total += factors[h] * loss_of_head(heads, &heads.items[h], Z, Y, D, <real>(scale * factors[h]), rows, ld,
                                           workspace)
    for i in range(rows):
        for j in range(n_out, ld):
            D[i * ld + j] = 0
    return total
