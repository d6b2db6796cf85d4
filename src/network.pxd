# The whole algorithm on one page: forward, backward, and a run of many epochs of gradient descent.
#
# A batch is taken in blocks of rows that fit the cache. A block has two phases: in the first each thread takes its share of the rows
# through all layers and back, in the second its share of every layer's parameters. Where these are few, each thread takes a block of
# its own up to its gradient in the first phase, and in the second the gradients are added up. No sum is split between threads, and
# blocks come in a fixed order, so the result is the same to the last bit for every number of threads.

from libc.math cimport sqrt as sqrt_double
from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from simd cimport LINE, real, vec, VL, load, prefetch, store
from activations cimport SOFTMAX, differentiate, differentiate_softmax
from losses cimport (CROSS_ENTROPY, BCE, MSE, POISSON, from_logits, loss_scale, squared_error, binary_cross_entropy, cross_entropy,
                     cross_entropy_of_labels, elementwise, poisson)
from optimizers cimport Optimizer, count_step, penalty
cimport dense
from dense cimport Dense, GRAIN, biases, grain_of, list_rows
from dropout cimport key_of
from matmul cimport COLUMNS, SCATTERED, Ahead, Form
from threads cimport Barrier, barrier_wait, now

cdef struct Data:
    Py_ssize_t n          # rows
    const real* X         # (n, n_in)
    const real* Y         # (n, n_out), or NULL where there are labels
    const int* labels     # (n), or NULL
    const real* weights   # (n) how much each row counts, or NULL
    double weight         # their sum; without weights n
    int* order            # (n) the order in which rows are taken; NULL: as they lie

cdef struct Network:
    int count             # layers
    Dense* layers
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

cdef struct Run:
    Network net
    Network* nets         # where threads take whole blocks, one for each thread that there is a block for; else NULL
    int net_count
    Data data
    Optimizer optimizer
    Py_ssize_t batch
    Py_ssize_t epochs     # where to stop
    double* losses        # of each epoch
    const double* rates   # its learning rate, that of epoch e at rates[e * rate_step]
    Py_ssize_t rate_step
    Py_ssize_t epoch      # where the run stands: epoch, first row of the next block, and of the epoch so far the plain sum of the loss,
    Py_ssize_t row        # the penalties, and the weight of the batch
    double total
    double penalty
    double weight
    double loss_factor    # what the loss is multiplied by, penalties excepted
    double delta_factor   # and the gradient that is learned from, penalties excepted
    bint by_rows          # an epoch's loss is the mean of its batches' losses by their rows, not by the weights of the rows
    double* squares       # one for each row of W and b, where the gradient is clipped by its norm; else NULL
    uint64_t key          # the shuffle stream and how many numbers have been drawn from it
    uint64_t draws
    bint shuffles
    uint64_t drop_key     # the dropout stream and how many steps have been taken from it
    uint64_t drops
    int rises             # epochs in a row that have raised the loss, and the loss before them
    double risen_from
    double last_loss
    bint lost             # the loss is not finite: the step of the batch was not taken
    bint stop             # that, or the loss has reached the target
    double target_loss
    bint resident         # all rows are one block, which has been fetched for good
    int threads
    Barrier barrier
    double seconds        # that a team of threads may go on for
    bint pause            # they have passed


cdef inline Py_ssize_t smaller(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b


cdef inline Py_ssize_t share(Py_ssize_t n, int thread, int threads, Py_ssize_t grain) noexcept nogil:
    # Where the share of a thread begins, in whole grains; the share of thread + 1 begins where it ends.
    cdef Py_ssize_t grains = (n + grain - 1) // grain
    if threads == 1:      # a division is long beside the step of a small network
        return n * thread
    return smaller(n, grains * thread // threads * grain)


cdef enum:
    LONG_LINES = 16       # of the cache in a row that is worth to be asked for a step ahead
    DRAWS = 64            # random numbers that are drawn at a time


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
            dense.drop(&net.layers[l], key_of(key_of(drop_key, drops), l), place, low, high - low)
        X = net.layers[l].outs


cdef inline double loss_of_rows(const Network* net, Py_ssize_t i, Py_ssize_t rows, real scale) noexcept nogil:
    # The plain sum of the loss of rows i to i + rows, and their delta, times `scale`.
    cdef const Dense* out = &net.layers[net.count - 1]
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
    cdef const Dense* out = &net.layers[net.count - 1]
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


cdef inline Py_ssize_t first_row(const Dense* layer, int thread, int threads) noexcept nogil:
    # Of the thread's share of the rows of W, the bias being the last one.
    return share(layer.n_in, thread, threads, grain_of(layer))


cdef inline Py_ssize_t last_row(const Dense* layer, int thread, int threads) noexcept nogil:
    cdef Py_ssize_t last = share(layer.n_in, thread + 1, threads, grain_of(layer))
    return last + layer.bias if thread == threads - 1 else last


cdef inline void learn(const Network* net, Py_ssize_t rows, bint first_block, bint last_block,
                       const Optimizer* optimizer, double* squares, int thread, int threads, Ahead* ahead) noexcept nogil:
    # Every layer's gradient over the block and the optimizer's step, for this thread's share of the parameters; meanwhile rows of the
    # next block are on their way.
    cdef const real** X = net.inputs
    cdef Form form = SCATTERED if net.scattered else COLUMNS
    cdef Dense* layer
    cdef int l
    for l in range(net.count):
        layer = &net.layers[l]
        dense.learn(layer, X, form, rows, first_row(layer, thread, threads), last_row(layer, thread, threads), first_block, last_block,
                    optimizer, squares, net.scratch + thread * net.scratch_size, ahead if l == 0 else NULL)
        if squares is not NULL:
            squares += layer.n_in + layer.bias
        X, form = layer.outs, COLUMNS


cdef inline void take_block(Run* run, int thread, Py_ssize_t row, Py_ssize_t end, Py_ssize_t batch_start, uint64_t drops,
                            double scale) noexcept nogil:
    # The loss and the gradient of the thread's own block, of those from `row` on.
    cdef Network* net = &run.nets[thread]
    cdef Py_ssize_t rows
    row += thread * run.net.block
    rows = smaller(run.net.block, end - row)
    if thread >= run.net_count or rows <= 0:
        return
    fetch(net, &run.data, row, 0, rows)
    forward(net, 0, rows, 0, run.drop_key, drops, row - batch_start)
    output_delta(net, 0, rows, scale)
    backward(net, 0, rows)
    learn(net, rows, True, False, NULL, NULL, 0, 1, NULL)
    net.total = sum_partial(net, rows)


cdef inline void add_gradients(const Run* run, int count, bint first, int thread, int threads) noexcept nogil:
    # Adds the gradients of `count` blocks to that of the batch so far, for this thread's share of the parameters.
    cdef const Dense* layer
    cdef Py_ssize_t i
    cdef vec x
    cdef int l, t
    for l in range(run.net.count):
        layer = &run.net.layers[l]
        for i from first_row(layer, thread, threads) * layer.ld <= i < last_row(layer, thread, threads) * layer.ld by VL:
            x = load(run.nets[0].layers[l].gradient + i)
            if not first:
                x = load(layer.gradient + i) + x
            for t in range(1, count):
                x = x + load(run.nets[t].layers[l].gradient + i)
            store(layer.gradient + i, x)


cdef inline void step(const Network* net, const Optimizer* optimizer, const double* squares, int thread, int threads) noexcept nogil:
    # The step of the thread's share on the gradient clipped by its norm, whose square every thread adds up in the same order.
    cdef double total = 0, norm
    cdef Py_ssize_t k, rows = 0
    cdef Dense* layer
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
        dense.step(layer, first_row(layer, thread, threads), last_row(layer, thread, threads), optimizer,
                   optimizer.clip_norm / norm if norm > optimizer.clip_norm else 1)


cdef inline void constrain(const Network* net, double limit, int thread, int threads) noexcept nogil:
    # Keeps the incoming weights of the thread's share of neurons within the norm `limit`.
    cdef int l
    cdef const Dense* layer
    for l in range(net.count):
        layer = &net.layers[l]
        dense.constrain(layer, limit, share(layer.n_out, thread, threads, GRAIN), share(layer.n_out, thread + 1, threads, GRAIN))


cdef inline double sum_penalties(const Network* net, const Optimizer* optimizer) noexcept nogil:
    cdef double total = 0
    cdef int l
    cdef const Dense* layer
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


cdef inline void shuffle(Run* run) noexcept nogil:
    # Fisher and Yates, on numbers of splitmix64, from the rows as they lie: so an order depends on nothing but its place in the stream.
    cdef Py_ssize_t i, k, count
    cdef uint64_t j
    cdef uint64_t[DRAWS] drawn
    cdef int* order = run.data.order
    cdef int kept
    for i in range(run.data.n):
        order[i] = <int>i
    i = run.data.n - 1
    while i > 0:
        count = smaller(i, DRAWS)
        for k in range(count):                # apart, since vectors do it
            drawn[k] = key_of(run.key, run.draws + 1 + k) >> 32
        for k in range(count):
            j = (drawn[k] * <uint64_t>(i + 1)) >> 32
            kept = order[i]
            order[i] = order[j]
            order[j] = kept
            i -= 1
        run.draws += count


cdef inline double weight_of(const Data* data, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Rows low to high in their order: their number, or the sum of their weights.
    cdef double total = 0
    cdef Py_ssize_t i
    if data.weights is NULL:
        return high - low
    for i in range(low, high):
        total += data.weights[i if data.order is NULL else data.order[i]]
    return total


cdef inline double loss_of_epoch(const Run* run, double total) noexcept nogil:
    # Of the plain sum over all rows.
    cdef double scale = run.loss_factor * loss_scale(run.net.loss, run.data.weight, run.net.layers[run.net.count - 1].n_out)
    return total * scale + run.penalty


cdef inline bint is_broken(const Network* net) noexcept nogil:
    cdef int l
    for l in range(net.count):
        if net.layers[l].broken:
            return True
    return False


cdef inline void end_epoch(Run* run, Py_ssize_t epoch, double loss) noexcept nogil:
    run.losses[epoch] = loss
    if loss <= run.last_loss:
        run.rises = 0
    else:
        if run.rises == 0:
            run.risen_from = run.last_loss
        run.rises += 1
    run.last_loss = loss
    run.stop = loss <= run.target_loss


cdef inline void train(Run* run, int thread, Py_ssize_t blocks) noexcept nogil:
    # Takes the run `blocks` blocks further, or rounds in which each thread takes one, as one of run.threads threads that all make this
    # call. Position is kept by every thread for itself and written back by the first. How long a thread waits for the others depends on
    # what else the machine does, so a team has a time limit beside. What the first thread says (pause, stop) it says between the two
    # barriers of a block, and the others read it after the second.
    cdef Network* net = &run.net
    cdef Py_ssize_t epoch = run.epoch, row = run.row, n = run.data.n
    cdef Py_ssize_t rows, batch_end, low, high, batch_start = row // run.batch * run.batch
    cdef bint first, last
    cdef int count, t
    cdef double weight = run.weight, total = run.total, part, loss
    cdef uint64_t drops = run.drops
    cdef int threads = run.threads
    cdef const Dense* out = &net.layers[net.count - 1]
    cdef Optimizer* optimizer = &run.optimizer
    cdef Optimizer before
    cdef Ahead ahead
    # short rows come fast enough by themselves
    cdef bint looks_ahead = run.data.order is not NULL and run.nets is NULL and net.layers[0].n_in >= LONG_LINES * LINE
    cdef double scale = run.delta_factor * loss_scale(net.loss, weight, out.n_out)
    cdef double deadline = now() + run.seconds if threads > 1 and thread == 0 else 0
    while blocks > 0 and epoch < run.epochs and not run.stop and not run.pause and not is_broken(net):
        if row == 0 and run.shuffles:
            if thread == 0:
                shuffle(run)
            if threads > 1:
                barrier_wait(&run.barrier)
        batch_end = smaller(n, batch_start + run.batch)
        rows = smaller(net.block * (1 if run.nets is NULL else smaller(threads, run.net_count)), batch_end - row)
        first = row == batch_start
        last = row + rows == batch_end
        if first:
            weight = weight_of(&run.data, batch_start, batch_end)
            scale = run.delta_factor * loss_scale(net.loss, weight, out.n_out)

        if run.nets is not NULL:
            take_block(run, thread, row, batch_end, batch_start, drops, scale)
        else:
            low = share(rows, thread, threads, GRAIN)
            high = share(rows, thread + 1, threads, GRAIN)
            if not run.resident:
                fetch(net, &run.data, row, low, high)
            forward(net, low, high, thread, run.drop_key, drops, row - batch_start)
            output_delta(net, low, high, scale)
            backward(net, low, high)
        part = (batch_end - batch_start) * run.data.weight / (n * weight) if run.by_rows and weight != 0 else 1
        if thread == 0 and last:
            optimizer.lr = run.rates[epoch * run.rate_step]
            if not optimizer.plain:
                before = optimizer[0]
                count_step(optimizer, weight)
            if optimizer.l1 != 0 or optimizer.l2 != 0:
                if batch_start == 0:
                    run.penalty = 0
                if weight != 0:
                    run.penalty += sum_penalties(net, optimizer) / optimizer.rows * (weight / run.data.weight) * part
        if threads > 1:
            barrier_wait(&run.barrier)
        count = 0                             # of blocks, where each thread has taken one
        if run.nets is NULL:
            total += sum_partial(net, rows) * part
        else:
            count = <int>((rows + net.block - 1) // net.block)
            for t in range(count):
                total += run.nets[t].total * part
        loss = loss_of_epoch(run, total) if row + rows == n else total
        if not loss - loss == 0:              # there is nothing to learn from it
            if thread == 0:
                run.lost = run.stop = True
                if last and not optimizer.plain:
                    optimizer[0] = before
            break

        if count > 0:
            add_gradients(run, count, first, thread, threads)
        if count == 0 or last:
            if looks_ahead:
                ahead = rows_ahead(net, &run.data, row + rows + low, row + rows + high)
            learn(net, rows if count == 0 else 0, first and count == 0, last, optimizer, run.squares, thread, threads,
                  &ahead if looks_ahead else NULL)
        if last:
            drops += 1
            if run.squares is not NULL:
                if threads > 1:
                    barrier_wait(&run.barrier)
                step(net, optimizer, run.squares, thread, threads)
            if optimizer.max_norm > 0:
                if threads > 1:
                    barrier_wait(&run.barrier)
                constrain(net, optimizer.max_norm, thread, threads)
        row += rows
        if thread == 0:
            if row == n:
                end_epoch(run, epoch, loss)
            if threads > 1 and now() > deadline:
                run.pause = True
        if row == n:
            row = 0
            epoch += 1
            total = 0
        if last:
            batch_start = row
        blocks -= 1
        if threads > 1:
            barrier_wait(&run.barrier)
    if thread == 0:
        run.epoch = epoch - (row == 0 and is_broken(net))     # an epoch whose last step was not whole is none
        run.row = row
        run.total = total
        run.weight = weight
        run.drops = drops
