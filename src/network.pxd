# The whole algorithm on one page: forward, backward, and a run of many epochs of gradient descent.
#
# A batch is taken in blocks of rows that fit the cache. A block has two phases: in the first each thread takes its share of the rows
# through all layers and back, in the second its share of every layer's parameters. No sum is split between threads, and blocks come
# in a fixed order, so the result is the same to the last bit for every number of threads.

from libc.stdint cimport uint64_t
from simd cimport real, VL, load, prefetch, store
from activations cimport SOFTMAX, differentiate, differentiate_softmax
from losses cimport (CROSS_ENTROPY, BCE, from_logits, loss_scale, squared_error, binary_cross_entropy, cross_entropy,
                     cross_entropy_of_labels)
from optimizers cimport Optimizer, count_step
cimport dense
from dense cimport Dense, GRAIN
from threads cimport Barrier, barrier_wait, now

cdef struct Data:
    Py_ssize_t n          # rows
    const real* X         # (n, n_in)
    const real* Y         # (n, n_out), or NULL where there are labels
    const int* labels     # (n), or NULL
    int* order            # (n) the order in which rows are taken; NULL: as they lie

cdef struct Network:
    int count             # layers
    Dense* layers
    int loss
    Py_ssize_t block      # rows that the buffers have room for
    real* X               # (block, n_in) the rows of a block, gathered where they are shuffled
    real* Y               # (block, ld of the output) its targets, padded
    int* labels           # (block)
    real* mask            # (ld of the output) 1 for an output, 0 for padding
    real* log_sum         # (block)
    double* partial       # (block / GRAIN) the plain sum of the loss over each grain of rows
    real* scratch         # a piece for each thread
    Py_ssize_t scratch_size

cdef struct Run:
    Network net
    Data data
    Optimizer optimizer
    Py_ssize_t batch
    Py_ssize_t epochs
    double* losses        # (epochs)
    Py_ssize_t epoch      # where the run stands: epoch, first row of the next block, plain sum of the loss so far
    Py_ssize_t row
    double total
    uint64_t key          # the shuffle stream and how many numbers have been drawn from it
    uint64_t draws
    bint stop             # the loss is no longer finite
    bint resident         # all rows are one block, which has been fetched for good
    int threads
    Barrier barrier
    double seconds        # that a team of threads may go on for
    bint pause            # they have passed


cdef inline Py_ssize_t smaller(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b


cdef inline Py_ssize_t share(Py_ssize_t n, int thread, int threads) noexcept nogil:
    # Where the share of a thread begins; the share of thread + 1 begins where it ends.
    cdef Py_ssize_t grains = (n + GRAIN - 1) // GRAIN
    return smaller(n, grains * thread // threads * GRAIN)


cdef enum:
    LOOK_AHEAD = 8        # rows that are on their way from memory while one is copied


cdef inline void copy(real* to, const real* source, Py_ssize_t n) noexcept nogil:
    # A row of n numbers: whole vectors, the last of them moved back so that it ends with the row.
    cdef Py_ssize_t i
    if n < VL:
        for i in range(n):
            to[i] = source[i]
    else:
        for i from 0 <= i < n - VL by VL:
            store(to + i, load(source + i))
        store(to + n - VL, load(source + n - VL))


cdef inline void fetch(const Network* net, const Data* data, Py_ssize_t row, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Rows row + low <= i < row + high of the data into places low to high of the block: inputs where they are shuffled, targets padded.
    cdef Py_ssize_t i, j, source, n_in = net.layers[0].n_in
    cdef Py_ssize_t n_out = net.layers[net.count - 1].n_out, ld = net.layers[net.count - 1].ld
    for i in range(low, high):
        source = row + i if data.order is NULL else data.order[row + i]
        if data.order is not NULL:
            if row + i + LOOK_AHEAD < data.n:
                prefetch(data.X + data.order[row + i + LOOK_AHEAD] * n_in, n_in)
            copy(net.X + i * n_in, data.X + source * n_in, n_in)
        if data.labels is not NULL:
            net.labels[i] = data.labels[source]
        else:
            for j in range(n_out):
                net.Y[i * ld + j] = data.Y[source * n_out + j]


cdef inline const real* block_input(const Network* net, const Data* data, Py_ssize_t row) noexcept nogil:
    return data.X + row * net.layers[0].n_in if data.order is NULL else net.X


cdef inline void forward(const Network* net, const real* X, Py_ssize_t low, Py_ssize_t high, int thread) noexcept nogil:
    # Rows low to high of the block through all layers.
    cdef int l
    cdef Py_ssize_t ldx = net.layers[0].n_in
    for l in range(net.count):
        dense.forward(&net.layers[l], X, ldx, low, high - low, net.log_sum, net.scratch + thread * net.scratch_size)
        X = net.layers[l].A
        ldx = net.layers[l].ld


cdef inline void output_delta(const Network* net, bint labels, Py_ssize_t low, Py_ssize_t high, double scale) noexcept nogil:
    # The delta of the output layer, and the plain sum of the loss of each grain of rows.
    cdef const Dense* out = &net.layers[net.count - 1]
    cdef Py_ssize_t i, rows, at
    for i from low <= i < high by GRAIN:
        rows = smaller(GRAIN, high - i)
        at = i * out.ld
        if net.loss == CROSS_ENTROPY:
            if labels:
                net.partial[i // GRAIN] = cross_entropy_of_labels(out.Z + at, net.log_sum + i, out.A + at, net.labels + i, out.D + at,
                                                                  <real>scale, rows, out.ld)
            else:
                net.partial[i // GRAIN] = cross_entropy(out.Z + at, net.log_sum + i, out.A + at, net.Y + at, out.D + at,
                                                        <real>scale, rows, out.ld)
        elif net.loss == BCE:
            net.partial[i // GRAIN] = binary_cross_entropy(out.Z + at, out.A + at, net.Y + at, out.D + at, net.mask, <real>scale,
                                                           rows, out.ld)
        else:
            net.partial[i // GRAIN] = squared_error(out.A + at, net.Y + at, out.D + at, net.mask, <real>scale, rows, out.ld)
    if not from_logits(net.loss):
        at = low * out.ld
        if out.activation == SOFTMAX:
            differentiate_softmax(out.A + at, out.D + at, high - low, out.n_out, out.ld)
        else:
            differentiate(out.activation, out.Z + at, out.A + at, out.D + at, (high - low) * out.ld)


cdef inline void backward(const Network* net, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # The deltas of the other layers, from the last one down: the chain rule.
    cdef int l
    for l in range(net.count - 1, 0, -1):
        dense.backward(&net.layers[l], &net.layers[l - 1], low, high - low)


cdef inline void learn(const Network* net, const real* X, Py_ssize_t rows, bint first_block, bint last_block,
                       const Optimizer* optimizer, int thread, int threads) noexcept nogil:
    # Every layer's gradient over the block and the optimizer's step, for this thread's share of the parameters.
    cdef int l
    cdef Py_ssize_t low, high, ldx = net.layers[0].n_in
    cdef const Dense* layer
    for l in range(net.count):
        layer = &net.layers[l]
        low = share(layer.n_in, thread, threads)
        high = share(layer.n_in, thread + 1, threads)
        if thread == threads - 1:
            high += layer.bias
        dense.learn(layer, X, ldx, rows, low, high, first_block, last_block, optimizer, net.scratch + thread * net.scratch_size)
        X = layer.A
        ldx = layer.ld


cdef inline double sum_partial(const Network* net, Py_ssize_t rows) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range((rows + GRAIN - 1) // GRAIN):
        total += net.partial[i]
    return total


cdef inline uint64_t mix(uint64_t z) noexcept nogil:
    # The finalizer of splitmix64 (Steele, Lea, Flood 2014).
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline void shuffle(Run* run) noexcept nogil:
    # Fisher and Yates, on numbers of splitmix64.
    cdef Py_ssize_t i
    cdef uint64_t j
    cdef int* order = run.data.order
    cdef int kept
    for i in range(run.data.n - 1, 0, -1):
        run.draws += 1
        j = ((mix(run.key + run.draws * <uint64_t>0x9E3779B97F4A7C15) >> 32) * <uint64_t>(i + 1)) >> 32
        kept = order[i]
        order[i] = order[j]
        order[j] = kept


cdef inline void train(Run* run, int thread, Py_ssize_t blocks) noexcept nogil:
    # Takes the run `blocks` blocks further, as one of run.threads threads that all make this call. Position is kept by every thread
    # for itself and written back by the first. How long a thread waits for the others depends on what else the machine does, so a team
    # has a time limit beside. What the first thread says (pause, stop) it says between the two barriers of a block, and the others read
    # it after the second.
    cdef Network* net = &run.net
    cdef Py_ssize_t epoch = run.epoch, row = run.row, n = run.data.n
    cdef Py_ssize_t rows, batch_start, batch_end, low, high
    cdef bint first, last
    cdef const real* X
    cdef double total = run.total
    cdef int threads = run.threads
    cdef const Dense* out = &net.layers[net.count - 1]
    cdef double deadline = now() + run.seconds if threads > 1 and thread == 0 else 0
    while blocks > 0 and epoch < run.epochs and not run.stop and not run.pause:
        if row == 0 and run.data.order is not NULL:
            if thread == 0:
                shuffle(run)
            if threads > 1:
                barrier_wait(&run.barrier)
        batch_start = row // run.batch * run.batch
        batch_end = smaller(n, batch_start + run.batch)
        rows = smaller(net.block, batch_end - row)
        first = row == batch_start
        last = row + rows == batch_end
        low = share(rows, thread, threads)
        high = share(rows, thread + 1, threads)
        X = block_input(net, &run.data, row)

        if not run.resident:
            fetch(net, &run.data, row, low, high)
        forward(net, X, low, high, thread)
        output_delta(net, run.data.labels is not NULL, low, high, loss_scale(net.loss, batch_end - batch_start, out.n_out))
        backward(net, low, high)
        if thread == 0 and last:
            count_step(&run.optimizer)
        if threads > 1:
            barrier_wait(&run.barrier)

        learn(net, X, rows, first, last, &run.optimizer, thread, threads)
        row += rows
        if thread == 0:
            total += sum_partial(net, rows)
            if row == n:
                run.losses[epoch] = total * loss_scale(net.loss, n, out.n_out)
                run.stop = not total - total == 0
                total = 0
            if threads > 1 and now() > deadline:
                run.pause = True
        if row == n:
            row = 0
            epoch += 1
        blocks -= 1
        if threads > 1:
            barrier_wait(&run.barrier)
    if thread == 0:
        run.epoch = epoch
        run.row = row
        run.total = total
