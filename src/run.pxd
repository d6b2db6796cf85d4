# A run of many epochs of gradient descent.
#
# A batch is taken in blocks of rows that fit the cache. A block has two phases: in the first each thread takes its
# share of the rows through all layers and back, in the second its share of every layer's parameters. Where these are
# few, each thread takes a block of its own up to its gradient in the first phase, and in the second the gradients are
# added up. No sum is split between threads, and blocks come in a fixed order, so the result is the same to the last bit
# for every number of threads.

from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from simd cimport LINE, real, vec, VL, load, store
from arena cimport TRAIN, Arena, take, take_zeros
from losses cimport loss_scale
from optimizers cimport Optimizer, count_step
from matmul cimport Ahead
from threads cimport Barrier, barrier_wait, now, share, smaller
from layer cimport Layer, GRAIN, first_row, last_row, list_rows, parameter_rows
from rows cimport BitGenerator, Data, fetch, rows_ahead, shuffle, shuffle_by, weight_of
from network cimport (Network, Plan, backward, begin_batch, constrain, follow_step, forward, is_broken,
                      lay_out as lay_out_network, learn, output_delta, set_gradient, set_parameters, shares_blocks,
                      step, sum_partial, sum_penalties, unpad)

cdef enum:
    LONG_LINES = 16       # of the cache in a row that is worth to be asked for a step ahead
    AHEAD_BYTES = 1 << 19         # prefetch at most this much of a block, or it evicts the current one from the cache

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
    bint rates_of_steps   # one rate for each step: that of step s of epoch e is rates[(e * steps + s) * rate_step]
    Py_ssize_t epoch      # the current epoch
    Py_ssize_t row        # the first row of the next block
    double total          # the plain sum of the loss in the epoch so far
    double penalty        # penalties in the epoch so far
    double weight         # of the current batch
    double loss_factor    # what the loss is multiplied by, penalties excepted
    double delta_factor   # and the gradient that is learned from, penalties excepted
    bint by_rows          # average the losses of batches by their rows instead of the weights of the rows
    double* squares       # one for each row of W and b, where the gradient is clipped by its norm; else NULL
    uint64_t key          # the shuffle stream and how many numbers have been drawn from it
    uint64_t draws
    bint shuffles
    const BitGenerator* bits      # whose numbers it takes instead, each order from the one before; or NULL
    uint64_t drop_key     # the dropout stream and how many steps have been taken from it
    uint64_t drops
    int rises             # epochs in a row that have raised the loss, and the loss before them
    double risen_from
    double last_loss
    bint lost             # the loss is not finite: the step of the batch was not taken
    bint stop             # that, or the loss has reached the target
    double target_loss
    bint one_row          # one_row.pxd has this run
    bint resident         # all rows are one block, which has been fetched for good
    int threads
    Barrier barrier
    double seconds        # that a team of threads may go on for
    bint pause            # they have passed


cdef inline void lay_out(Run* run, const Plan* plan, Arena* arena, Py_ssize_t block, int threads,
                         bint is_tiny) noexcept nogil:
    # Points every buffer of the run into the arena.
    cdef Network net
    cdef Py_ssize_t rows = 0
    cdef real* gradient
    cdef int l, t
    lay_out_network(&run.net, plan, arena, block, TRAIN, &run.data, threads, is_tiny)
    # the first network has the buffers of run.net, the others their own; each has a gradient
    if shares_blocks(plan, run.batch):
        run.net_count = <int>smaller(threads, (run.batch + block - 1) // block)
        run.nets = <Network*>take(arena, run.net_count * sizeof(Network))
        for t in range(run.net_count):
            if t == 0:
                net = run.net
                net.layers = <Layer*>take(arena, plan.count * sizeof(Layer))
                if arena.base:
                    memcpy(net.layers, run.net.layers, plan.count * sizeof(Layer))
            else:
                lay_out_network(&net, plan, arena, block, TRAIN, &run.data, 1, False)
            gradient = <real*>take(arena, plan.size * sizeof(real))
            if arena.base:
                set_gradient(&net, gradient)
                run.nets[t] = net
    # the gradient is gathered over blocks, or needed as a whole
    if block < run.batch or run.optimizer.clip_norm > 0:
        gradient = <real*>take(arena, plan.size * sizeof(real))
        if arena.base:
            set_gradient(&run.net, gradient)
    if run.optimizer.clip_norm > 0:
        for l in range(plan.count):
            rows += parameter_rows(&plan.layers[l])
        run.squares = <double*>take_zeros(arena, rows * sizeof(double))     # of frozen layers they stay so


cdef inline void set_run_parameters(Run* run, real* params) noexcept nogil:
    # All networks of the run have the same, and one WT.
    cdef int l, t
    set_parameters(&run.net, params)
    for t in range(run.net_count):
        for l in range(run.net.count):
            run.nets[t].layers[l].W, run.nets[t].layers[l].WT = run.net.layers[l].W, run.net.layers[l].WT


cdef inline void give_outputs(const Run* run, const real* X, Py_ssize_t n, int thread, int threads,
                              real* out) noexcept nogil:
    # What the network gives for n rows of inputs in the step to come, of which that may drop some, into out (n, n_out):
    # the thread's share. A thread has the same places of every block, so that none waits for another.
    cdef const Network* net = &run.net
    cdef const Layer* last = &net.layers[net.count - 1]
    cdef Py_ssize_t low = share(net.block.size, thread, threads, GRAIN)
    cdef Py_ssize_t high = share(net.block.size, thread + 1, threads, GRAIN)
    cdef Py_ssize_t row, rows, n_in = net.block.n_in
    for row from 0 <= row < n by net.block.size:
        rows = smaller(high, n - row) - low
        if rows > 0:
            list_rows(net.block.inputs + low, X + (row + low) * n_in, n_in, rows)
            forward(net, low, low + rows, smaller(net.block.size, n - row), thread, run.drop_key, run.drops, row)
            unpad(last.A + low * last.ld, last, rows, out + (row + low) * last.n_out)


cdef inline void take_block(Run* run, int thread, Py_ssize_t row, Py_ssize_t end, Py_ssize_t batch_start,
                            uint64_t drops, double scale) noexcept nogil:
    # The loss and the gradient of the thread's own block, of those from `row` on.
    cdef Network* net = &run.nets[thread]
    cdef Py_ssize_t rows
    row += thread * run.net.block.size
    rows = smaller(run.net.block.size, end - row)
    if thread >= run.net_count or rows <= 0:
        return
    fetch(&net.block, &run.data, row, 0, rows)
    forward(net, 0, rows, rows, 0, run.drop_key, drops, row - batch_start)
    output_delta(net, 0, rows, scale, 0)
    backward(net, 0, rows, rows, 0)
    learn(net, rows, True, False, NULL, NULL, 0, 1, NULL)
    net.total = sum_partial(net, rows)


cdef inline void add_gradients(const Run* run, int count, bint first, int thread, int threads) noexcept nogil:
    # Adds the gradients of `count` blocks to that of the batch so far, for this thread's share of the parameters.
    cdef const Layer* layer
    cdef Py_ssize_t i, low, high
    cdef vec x
    cdef int l, t
    for l in range(run.net.count):
        layer = &run.net.layers[l]
        if layer.frozen:
            continue
        low, high = first_row(layer, thread, threads) * layer.ld, last_row(layer, thread, threads) * layer.ld
        for i from low <= i < high by VL:
            x = load(run.nets[0].layers[l].gradient + i)
            if not first:
                x = load(layer.gradient + i) + x
            for t in range(1, count):
                x = x + load(run.nets[t].layers[l].gradient + i)
            store(layer.gradient + i, x)


cdef inline double loss_of_epoch(const Run* run, double total) noexcept nogil:
    # The loss of an epoch from the plain sum over all rows.
    cdef double scale = loss_scale(run.net.loss, run.data.weight, run.net.layers[run.net.count - 1].n_out)
    return total * (run.loss_factor * scale) + run.penalty


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


cdef inline Py_ssize_t rate_place(const Run* run, Py_ssize_t epoch, Py_ssize_t row) noexcept nogil:
    # Of the rate of the step on the batch that begins with that row.
    return epoch * ((run.data.n + run.batch - 1) // run.batch) + row // run.batch if run.rates_of_steps else epoch


cdef inline void draw_order(Run* run) noexcept nogil:
    # The order of the epoch that begins.
    if run.bits is NULL:
        shuffle(&run.data, run.key, &run.draws)
    else:
        shuffle_by(run.data.order, run.data.n, run.bits)


cdef inline void step_along(Run* run, double rate) noexcept nogil:
    # Take one step of the optimizer along the gradients in run.net.layers, which no rows of the run belong to. The
    # calls of train() for the last block of a batch, on one thread.
    cdef Network* net = &run.net
    cdef Optimizer* optimizer = &run.optimizer
    optimizer.lr = optimizer.bias_lr = rate
    if not optimizer.plain:
        count_step(optimizer, 1)
    follow_step(net, optimizer)
    learn(net, 0, False, True, optimizer, run.squares, 0, 1, NULL)
    if run.squares is not NULL:
        step(net, optimizer, run.squares, 0, 1)
    if optimizer.max_norm > 0:
        constrain(net, optimizer.max_norm, 0, 1)


cdef inline void train(Run* run, int thread, Py_ssize_t blocks) noexcept nogil:
    # Takes the run `blocks` blocks further, or rounds in which each thread takes one, as one of run.threads threads
    # that all make this call. Position is kept by every thread for itself and written back by the first. How long a
    # thread waits for the others depends on what else the machine does, so a team has a time limit beside. What the
    # first thread says (pause, stop) it says between the two barriers of a block, and the others read it after the
    # second.
    cdef Network* net = &run.net
    cdef Py_ssize_t epoch = run.epoch, row = run.row, n = run.data.n
    cdef Py_ssize_t rows, batch_end, low, high, batch_start = row // run.batch * run.batch
    cdef bint first, last, aborted
    cdef int count, t
    cdef double weight = run.weight, total = run.total, part, loss
    cdef uint64_t drops = run.drops
    cdef int threads = run.threads
    cdef const Layer* out = &net.layers[net.count - 1]
    cdef Optimizer* optimizer = &run.optimizer
    cdef Optimizer before
    cdef Ahead ahead
    # short rows come fast enough by themselves
    cdef bint looks_ahead = (run.data.order is not NULL and run.nets is NULL
                             and net.layers[0].n_in >= LONG_LINES * LINE and
                             net.block.size * net.layers[0].n_in * <Py_ssize_t>sizeof(real) <= AHEAD_BYTES)
    cdef double scale = run.delta_factor * loss_scale(net.loss, weight, out.n_out)
    cdef double deadline = now() + run.seconds if threads > 1 and thread == 0 else 0
    while blocks > 0 and epoch < run.epochs and not run.stop and not run.pause and not is_broken(net):
        if row == 0 and run.shuffles:
            if thread == 0:
                draw_order(run)
            if threads > 1 and barrier_wait(&run.barrier):
                break
        batch_end = smaller(n, batch_start + run.batch)
        rows = smaller(net.block.size * (1 if run.nets is NULL else smaller(threads, run.net_count)), batch_end - row)
        first = row == batch_start
        last = row + rows == batch_end
        if first:
            weight = weight_of(&run.data, batch_start, batch_end)
            scale = run.delta_factor * loss_scale(net.loss, weight, out.n_out)
            if run.nets is NULL:
                begin_batch(net, &run.data, batch_start, batch_end, weight, thread)
            elif thread < run.net_count:
                begin_batch(&run.nets[thread], &run.data, batch_start, batch_end, weight, 0)

        if run.nets is not NULL:
            take_block(run, thread, row, batch_end, batch_start, drops, scale)
        else:
            low = share(rows, thread, threads, GRAIN)
            high = share(rows, thread + 1, threads, GRAIN)
            if not run.resident:
                fetch(&net.block, &run.data, row, low, high)
            if forward(net, low, high, rows, thread, run.drop_key, drops, row - batch_start):
                break
            output_delta(net, low, high, scale, thread)
            if backward(net, low, high, rows, thread):
                break
        part = (batch_end - batch_start) * run.data.weight / (n * weight) if run.by_rows and weight != 0 else 1
        if thread == 0 and last:
            optimizer.lr = optimizer.bias_lr = run.rates[rate_place(run, epoch, batch_start) * run.rate_step]
            if not optimizer.plain:
                before = optimizer[0]
                count_step(optimizer, weight)
            follow_step(net, optimizer)
            if optimizer.l1 != 0 or optimizer.l2 != 0:
                if batch_start == 0:
                    run.penalty = 0
                if weight != 0:
                    run.penalty += sum_penalties(net, optimizer) / optimizer.rows * (weight / run.data.weight) * part
        aborted = threads > 1 and barrier_wait(&run.barrier)
        count = 0                             # of blocks, where each thread has taken one
        if run.nets is NULL:
            total += sum_partial(net, rows) * part
        else:
            count = <int>((rows + net.block.size - 1) // net.block.size)
            for t in range(count):
                total += run.nets[t].total * part
        loss = loss_of_epoch(run, total) if row + rows == n else total
        # not all of it is there, or there is nothing to learn from it: no step is taken
        if aborted or not loss - loss == 0:
            if thread == 0:
                run.lost = run.stop = not aborted
                if last and not optimizer.plain:
                    optimizer[0] = before
            break

        if count > 0:
            add_gradients(run, count, first, thread, threads)
        if count == 0 or last:
            if looks_ahead:
                ahead = rows_ahead(&net.block, &run.data, row + rows + low, row + rows + high)
            learn(net, rows if count == 0 else 0, first and count == 0, last, optimizer, run.squares, thread, threads,
                  &ahead if looks_ahead else NULL)
        if last:
            drops += 1
            if run.squares is not NULL:
                if threads > 1 and barrier_wait(&run.barrier):
                    break
                step(net, optimizer, run.squares, thread, threads)
            if optimizer.max_norm > 0:
                if threads > 1 and barrier_wait(&run.barrier):
                    break
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
        if threads > 1 and barrier_wait(&run.barrier):
            break
    if thread == 0:
        run.epoch = epoch - (row == 0 and is_broken(net))     # an epoch whose last step was not whole is none
        run.row = row
        run.total = total
        run.weight = weight
        run.drops = drops
