# Rows of data: inputs, targets, sample weights and order, and the block of rows that the layers read.

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset
from simd cimport LINE_REALS, never_inlined, real, vec, VL, all_finite, load, prefetch, splat, store, vabs, vmax
from squares cimport MAX_LANES
from arena cimport Arena, allocate, allocate_zeros
from dropout cimport random_uint64
from matmul cimport PrefetchQueue
from threads cimport smaller
from layer cimport Chunks, Layer, set_row_pointers

cdef enum:
    SCAN_VECTORS = 16     # number of vectors that are tested together for NaN and infinity
    DRAW_COUNT = 64       # number of random numbers that shuffle() generates at a time
    MIN_SPREAD_LINES = 4  # copies of rows with at least this many cache lines start an odd number of cache lines apart
    # copy shuffled rows to contiguous memory if the first layer has at least this many vectors of outputs
    MIN_GATHER_VECTORS = 16

cdef struct Data:
    Py_ssize_t n          # number of rows in the data
    const real* X         # inputs (rows of the array, n_in)
    const real* Y         # targets (rows of the array, n_out), or NULL if class indices are given
    const int* labels     # class index of each row of the array, or of each step of each row; or NULL
    const real* dY        # derivatives as targets (rows of the array, n_out * n_in), NULL if missing; see slopes.pxd
    const real* weights   # sample weight of each row of the array, or NULL
    double weight_sum     # sum of the weights, as sum_weights() returns it
    const int* rows       # indices (n) of the array rows that belong to the data; NULL if all rows do
    # row indices (n) in the order of the epoch; NULL for the order of the arrays. With lengths, each block must contain
    # rows in the order of decreasing length.
    int* order
    const int* lengths    # number of steps of each row of the array; NULL if no sequence is shorter than the others
    bint counts_steps     # the outputs are those of each step, and the weight of a row counts once for each step
    const Chunks* chunks  # layout of the chunks if the rows are chunks of longer sequences, else NULL

cdef struct BitGenerator:     # NumPy's struct bitgen_t, with the same layout as in numpy/random/bitgen.h.
    void* state
    uint64_t (*next_uint64)(void* state) noexcept nogil
    uint32_t (*next_uint32)(void* state) noexcept nogil
    double (*next_double)(void* state) noexcept nogil
    uint64_t (*next_raw)(void* state) noexcept nogil

cdef struct Block:
    Py_ssize_t size       # maximum number of rows in the block
    Py_ssize_t n_in       # number of columns of the inputs
    Py_ssize_t n_out      # number of columns of the targets
    Py_ssize_t ld         # row length of Y: n_out plus padding
    Py_ssize_t label_steps  # number of class indices of a row: one for each step, or 1 for the whole row
    real smoothing        # label smoothing: fraction of the target probability that is spread evenly over all classes
    const real** inputs   # pointer to each input row of the block
    bint scattered        # the input rows are at irregular distances in memory, because the data are shuffled
    real* X               # copies of shuffled input rows, or the transposed inputs in tiny.pxd; or NULL
    Py_ssize_t ldx        # row length of X with padding, in elements
    real* Y               # targets in padded rows; NULL if class indices are used directly
    int* labels           # class indices of the rows of the block (rows, label_steps), or NULL
    real* weights         # sample weight of each row of the block, or NULL
    int steps             # number of steps of a row without a length
    int* lengths          # number of steps of each row of the block, or NULL
    real** states         # pointer to the states of each row of the block; NULL unless the rows are chunks
    Py_ssize_t warm_up    # number of steps at the start of each row that do not count in the loss


cdef inline void lay_out(Block* block, Arena* arena, const Data* data, const Layer* lowest) noexcept nogil:
    # Allocate the buffers of the block for rows of `data`. If `data` is NULL, allocate only the array of pointers to
    # input rows.
    block.X, block.Y, block.labels, block.weights, block.scattered = NULL, NULL, NULL, NULL, False
    block.states, block.warm_up = NULL, 0
    block.inputs = <const real**>allocate(arena, block.size * sizeof(real*))
    if data is NULL:
        return
    if data.chunks is not NULL:
        block.states = <real**>allocate(arena, block.size * sizeof(real*))
        block.warm_up = data.chunks.warm_up
    block.scattered = data.order is not NULL and lowest.ld < MIN_GATHER_VECTORS * VL
    if data.order is not NULL and not block.scattered:
        block.ldx = gathered_stride(block.n_in)
        block.X = <real*>allocate(arena, block.size * block.ldx * sizeof(real))
    if data.labels is not NULL and block.smoothing == 0:
        block.labels = <int*>allocate(arena, block.size * block.label_steps * sizeof(int))
    else:
        block.Y = <real*>allocate_zeros(arena, block.size * block.ld * sizeof(real))
    if data.weights is not NULL:
        block.weights = <real*>allocate(arena, block.size * sizeof(real))


cdef inline Py_ssize_t gathered_stride(Py_ssize_t n) noexcept nogil:
    # Return the distance between copies of consecutive rows of n numbers, in elements. Long rows are an odd number of
    # cache lines apart, so that their first columns fall into different sets of the first-level cache.
    return n if n < MIN_SPREAD_LINES * LINE_REALS else ((n + LINE_REALS - 1) // LINE_REALS | 1) * LINE_REALS


cdef inline void fetch(const Block* block, const Data* data, Py_ssize_t row, Py_ssize_t low,
                       Py_ssize_t high) noexcept nogil:
    # Load rows row + low <= i < row + high of the data as rows low <= i < high of the block: pointers to the inputs (or
    # to copies of them), padded targets or class indices, and sample weights.
    cdef Py_ssize_t i, j, source, label, n_in = block.n_in, n_out = block.n_out, ld = block.ld
    cdef Py_ssize_t steps = block.label_steps, n_classes
    cdef const int* order = NULL if data.order is NULL else data.order + row
    cdef real y
    if order is NULL:
        set_row_pointers(block.inputs + low, data.X + (row + low) * n_in, n_in, high - low)
    else:
        for i in range(low, high):
            block.inputs[i] = data.X + order[i] * n_in
            prefetch(block.inputs[i], n_in)
        if block.X is not NULL:
            for i in range(low, high):
                memcpy(block.X + i * block.ldx, block.inputs[i], n_in * sizeof(real))
                block.inputs[i] = block.X + i * block.ldx
    if block.lengths is not NULL:
        for i in range(low, high):
            source = row + i if order is NULL else order[i]
            block.lengths[i] = block.steps if data.lengths is NULL else data.lengths[source]
    if block.labels is not NULL:
        for i in range(low, high):
            source = row + i if order is NULL else order[i]
            for j in range(steps):
                block.labels[i * steps + j] = data.labels[source * steps + j]
    else:
        for i in range(low, high):
            source = row + i if order is NULL else order[i]
            if block.smoothing == 0:
                for j in range(n_out):
                    block.Y[i * ld + j] = data.Y[source * n_out + j]
            else:
                n_classes = n_out // steps
                for j in range(n_out):
                    label = 0 if data.Y is not NULL else data.labels[source * steps + j // n_classes]
                    y = (label == j % n_classes) if data.Y is NULL else data.Y[source * n_out + j]
                    block.Y[i * ld + j] = y * (1 - block.smoothing) + block.smoothing / n_classes
            if block.lengths is not NULL and steps > 1:  # targets beyond the end of a sequence have no effect
                for j in range(block.lengths[i] * (n_out // steps), n_out):
                    block.Y[i * ld + j] = 0
    if data.chunks is not NULL:
        for i in range(low, high):
            block.states[i] = initial_states(data.chunks, row + i if order is NULL else order[i])
    if data.weights is not NULL:
        for i in range(low, high):
            block.weights[i] = data.weights[row + i if order is NULL else order[i]]


cdef inline never_inlined set_lengths(int* lengths, Layer* layers, int count, Py_ssize_t low, Py_ssize_t high,
                                      bint in_groups) noexcept nogil:
    # Compute the numbers of output steps of convolutions and pools for rows low <= i < high of the block, from the
    # lengths of the rows. If the rows are processed in groups, lanes without a row have the length of the last row.
    cdef Py_ssize_t end = low + (high - low + VL - 1) // VL * VL if in_groups else high, i
    cdef const int* inputs
    cdef int l
    for i in range(high, end):
        lengths[i] = lengths[high - 1]
    for l in range(1, count):
        inputs = layers[l - 1].lengths
        if layers[l].lengths is not inputs:
            for i in range(low, end):
                layers[l].lengths[i] = <int>((inputs[i] + layers[l].step_offset) // layers[l].stride_x + 1)


cdef inline real* initial_states(const Chunks* chunks, Py_ssize_t row) noexcept nogil:
    # Return the address of the states with which the recurrent layers begin this row of the data: those that the
    # previous chunk of the same sequence has stored, or zeros for its first chunk.
    cdef int sequence = chunks.sequences[row]
    cdef real* states = chunks.states + (sequence if sequence >= 0 else -1 - sequence) * chunks.state_reals
    if sequence < 0:
        memset(states, 0, chunks.state_reals * sizeof(real))
    return states


cdef inline PrefetchQueue build_prefetch_queue(const Block* block, const Data* data, Py_ssize_t low,
                                               Py_ssize_t high) noexcept nogil:
    # Return a queue that prefetches rows low <= i < high of the shuffled order; rows beyond the last one are left out.
    return PrefetchQueue(data.X, data.order + smaller(low, data.n), data.order + smaller(high, data.n), block.n_in, 0)


cdef inline void shuffle(const Data* data, uint64_t key, uint64_t* draws) noexcept nogil:
    # Write a random permutation of the rows to data.order, by the Fisher-Yates algorithm with random numbers of the
    # splitmix64 stream `key`. The algorithm starts from the unshuffled order, so the result depends only on `key` and
    # `draws`, the number of random numbers used before. Add the count of newly used numbers to `draws`.
    cdef Py_ssize_t i, k, count
    cdef uint64_t j
    cdef uint64_t[DRAW_COUNT] drawn
    cdef int* order = data.order
    cdef int saved
    for i in range(data.n):
        order[i] = <int>i if data.rows is NULL else data.rows[i]
    i = data.n - 1
    while i > 0:
        count = smaller(i, DRAW_COUNT)
        for k in range(count):                # the compiler vectorizes this separate loop
            drawn[k] = random_uint64(key, draws[0] + 1 + k) >> 32
        for k in range(count):
            j = (drawn[k] * <uint64_t>(i + 1)) >> 32
            saved = order[i]
            order[i] = order[j]
            order[j] = saved
            i -= 1
        draws[0] += count


cdef inline void shuffle_by(int* order, Py_ssize_t n, const BitGenerator* bits) noexcept nogil:
    # Shuffle `order` exactly like NumPy's RandomState.shuffle, with the same random numbers. Each index i, from the
    # last one down, is swapped with a random index j <= i; draws with j > i are rejected. A rejected draw swaps i with
    # itself instead of branching, because the branch would be mispredicted in a third of the cases.
    cdef Py_ssize_t i = n - 1, j, drawn
    cdef uint32_t mask = 0xFFFFFFFF
    cdef int saved
    while i > 0:
        while mask >> 1 >= <uint32_t>i:
            mask >>= 1
        j = bits.next_uint32(bits.state) & mask
        drawn = j <= i
        j = i - ((i - j) & -drawn)
        saved = order[i]
        order[i] = order[j]
        order[j] = saved
        i -= drawn


cdef inline void sort_by_length(const Data* data, Py_ssize_t batch, Py_ssize_t steps, int* work) noexcept nogil:
    # Sort data.order within each batch of `batch` rows by decreasing length, which is at most `steps`. Rows of equal
    # length keep their order. `work` has batch + steps + 1 elements.
    cdef int* counts = work + batch           # number of rows of each length, from the largest down, then the sums
    cdef int* order = data.order
    cdef Py_ssize_t start, rows, i
    for start from 0 <= start < data.n by batch:
        rows = smaller(batch, data.n - start)
        memcpy(work, order + start, rows * sizeof(int))
        memset(counts, 0, (steps + 1) * sizeof(int))
        for i in range(rows):
            counts[steps - data.lengths[work[i]] + 1] += 1
        for i in range(steps):
            counts[i + 1] += counts[i]
        for i in range(rows):
            order[start + counts[steps - data.lengths[work[i]]]] = work[i]
            counts[steps - data.lengths[work[i]]] += 1


cdef inline double sum_weights(const Data* data, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Return the sum of the sample weights of rows low <= i < high in the order of the epoch. Without sample weights,
    # each row has the weight 1. With lengths and outputs at each step, return the sum over the steps of these rows.
    cdef double total = 0
    cdef Py_ssize_t i, row, steps = 1, warm_up = 0 if data.chunks is NULL else data.chunks.warm_up
    cdef bint counts_steps = data.lengths is not NULL and data.counts_steps
    if data.weights is NULL and not counts_steps:
        return high - low
    for i in range(low, high):
        row = i if data.order is NULL else data.order[i]
        if counts_steps:
            steps = max(0, data.lengths[row] - warm_up)
        total += (1 if data.weights is NULL else data.weights[row]) * steps
    return total


cdef inline Py_ssize_t first_not_finite(const real* x, Py_ssize_t size, double* largest) noexcept nogil:
    # Return the index of the first NaN or infinity in x, or -1 if there is none. Write the largest absolute value of
    # the numbers before it to *largest.
    cdef Py_ssize_t i = 0, j, step = SCAN_VECTORS * VL
    cdef int k
    cdef vec a, zero, maximum, largest_so_far = splat(0)
    cdef real[MAX_LANES] lanes
    while step > 0:                       # test SCAN_VECTORS vectors at a time first, then single vectors
        if size - i >= step:
            zero, maximum = splat(0), largest_so_far
            for j from i <= j < i + step by VL:
                a = load(x + j)
                zero = zero + (a - a)     # a - a is 0 for finite numbers and NaN otherwise
                maximum = vmax(vabs(a), maximum)
            if all_finite(zero):
                largest_so_far = maximum
                i += step
                continue
        step = VL if step > VL else 0
    store(lanes, largest_so_far)
    largest[0] = 0
    for k in range(VL):
        largest[0] = max(largest[0], lanes[k])
    while i < size and x[i] - x[i] == 0:
        largest[0] = max(largest[0], x[i] if x[i] > 0 else -x[i])
        i += 1
    return i if i < size else -1
