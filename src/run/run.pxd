# Training run: many epochs of mini-batch gradient descent.
#
# A batch is processed in blocks of rows that fit the cache, and each block in two phases. In the first phase, each
# thread runs the forward and backward pass of its share of the rows. In the second phase, it computes its share of the
# gradient and updates these parameters. If there are few parameters, each thread computes the gradient of a whole block
# in the first phase, and the second phase adds these gradients in the order of the blocks. The order of a sum does not
# depend on the number of threads, so results are bit-identical for any number.

from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from simd cimport LINE_REALS, always_inlined, never_inlined, real, vec, VL, load, store
from arena cimport TRAIN, Arena, allocate, allocate_zeros
from optimizers cimport Optimizer, count_step
from matmul cimport PrefetchQueue
from threads cimport Barrier, barrier_wait, now, share_start, smaller
from layer cimport Layer, GRAIN, first_row, end_row, parameter_rows, unpad_outputs
from rows cimport (BitGenerator, Data, fetch, build_prefetch_queue, shuffle, shuffle_by, sort_by_length,
                   sum_weights)
from network cimport (Network, Plan, backward, begin_batch, limit_norms, update_groups, forward, is_broken,
                      lay_out as lay_out_network, learn, loss_scale, output_delta, set_gradient, set_inputs,
                      set_parameters, shares_blocks, step, sum_grain_losses, sum_penalties)
from objective cimport Objective
from slopes cimport SlopeTargets, block_gradient as gradient_of_slopes, lay_out as lay_out_slopes
from taylor cimport set_parameters as set_taylor_parameters
cimport one_row
cimport tiny

cdef enum:
    MIN_PREFETCH_LINES = 16  # prefetch rows of the next block only if a row has at least this many cache lines
    # prefetch only blocks of at most this many bytes; larger ones would evict the current block from the cache
    MAX_PREFETCH_BYTES = 1 << 19

cdef enum Strategy:
    GENERAL               # gradients of the network by network.pxd, or those of an objective
    ONE_ROW               # gradients and update by one_row.pxd, for batches of one row
    ROWS_IN_LANES         # gradients and update by tiny.pxd, for very small networks

cdef struct Run:
    Network net           # network of the run, whose buffers all threads share
    Objective objective   # objective that replaces the network and its loss, if it has a function `gradient`
    # If each thread processes whole blocks: largest number of blocks in a round, the time between two barriers; else 0
    int round_blocks
    real* block_gradients  # gradient of each block of a round (round_blocks, gradient_size)
    double* block_losses  # sum of the loss terms of each block of a round (round_blocks)
    Py_ssize_t gradient_size  # length of the gradient of a block
    Network* nets         # network for each block of a round; NULL with an objective, or if round_blocks is 0
    Data data             # training data and the order of its rows
    Optimizer optimizer   # options and step count of the optimizer
    Py_ssize_t batch      # batch size in rows
    Py_ssize_t epochs     # number of epochs after which train() stops
    double* losses        # loss of each epoch (epochs), owned by the caller
    const double* learning_rates  # learning rate of epoch e, at index e * rate_stride; owned by the caller
    Py_ssize_t rate_stride  # stride of `learning_rates`, in elements; 0 if the learning rate is constant
    # each step has its own learning rate: step s of epoch e uses index (e * steps per epoch + s) * rate_stride
    bint rate_per_step
    Py_ssize_t epoch      # index of the current epoch
    Py_ssize_t row        # index of the first row of the next block, in the order of the epoch
    double total          # sum of the loss terms in the current epoch so far
    double penalty        # sum of the L1 and L2 penalties in the current epoch so far
    double weight         # sum of the sample weights in the current batch
    double loss_factor    # factor of the reported loss, which does not apply to the penalties
    double delta_factor   # factor of the gradient of the loss, which does not apply to the gradient of the penalties
    bint by_rows          # in the loss of an epoch, weight each batch by its rows, not by its sample weights
    double* squares       # squared norm of the gradient of each parameter row, for clipping by the norm; else NULL
    uint64_t key  # key, draws: key of the random stream for shuffling, and count of numbers drawn from the stream
    uint64_t draws
    bint shuffles         # shuffle the rows before each epoch
    # NumPy bit generator that replaces the random stream for shuffling, or NULL; with it, each epoch shuffles the order
    # of the previous epoch
    const BitGenerator* generator
    # drop_key, drops: key of the random stream for dropout, and number of steps that have used the stream
    uint64_t drop_key
    uint64_t drops
    # rises, loss_before_rise: number of consecutive epochs that increased the loss, and the loss before these epochs
    int rises
    double loss_before_rise
    double previous_loss  # loss of the previous epoch
    bint diverged         # the loss of a batch was not finite, and its step was not taken
    bint stop             # the run ends early, because it has diverged or reached target_loss
    double target_loss    # the run ends after an epoch whose loss is at most this
    int strategy          # code of the steps, a value of the enum Strategy
    bint resident         # all rows fit in one block, which is loaded only once
    int* sort_work        # workspace of sort_by_length(); NULL without lengths
    # the block already holds the activations of the batch, so the next step skips the refresh and the forward pass
    bint is_forwarded
    bint single_thread    # only one thread may train, because recurrent layers process the whole batch at once
    int threads           # number of threads that call train() together
    Barrier barrier       # barrier at which the threads of train() wait for each other
    double seconds        # time limit for a call of train() with several threads, in seconds
    bint pause            # the time limit of the call has passed, so train() returns


cdef inline void lay_out(Run* run, const Plan* plan, Arena* arena, Py_ssize_t block, int threads) noexcept nogil:
    # Allocate all buffers of the run in the arena.
    cdef SlopeTargets work
    cdef SlopeTargets* works
    cdef Py_ssize_t rows = 0
    cdef real* gradient
    cdef int l, t
    lay_out_network(&run.net, plan, arena, block, TRAIN, &run.data, threads, run.strategy == ROWS_IN_LANES)
    if plan.has_lengths:
        run.sort_work = <int*>allocate(arena, (run.batch + plan.layers[0].in_shape.width + 1) * sizeof(int))
    # store the whole gradient if it is summed over several blocks, or if clipping needs its norm
    run.single_thread = plan.recurrent_layers > 0 and not shares_blocks(plan, run.batch)
    if shares_blocks(plan, run.batch):
        lay_out_rounds(run, arena, <int>smaller(threads, (run.batch + block - 1) // block), plan.size)
    elif block < run.batch or run.optimizer.clip_norm > 0 or plan.recurrent_layers > 0:
        gradient = <real*>allocate(arena, plan.size * sizeof(real))
        if arena.base:
            set_gradient(&run.net, gradient)
    if plan.channels.count > 0:
        works = <SlopeTargets*>allocate(arena, run.round_blocks * sizeof(SlopeTargets))
        for t in range(run.round_blocks):
            lay_out_slopes(&work, plan, &run.data, arena, True)
            if arena.base:
                works[t] = work
        run.objective = Objective(works, gradient_of_slopes, NULL, False)
    elif run.round_blocks > 0 and not plan.has_objective:
        lay_out_networks(run, plan, arena, block)
    if run.optimizer.clip_norm > 0:
        rows = 1                              # one row for the coefficients of an objective
        for l in range(plan.count):
            rows += parameter_rows(&plan.layers[l])
        # initialized with zeros, because frozen layers do not write their norms
        run.squares = <double*>allocate_zeros(arena, rows * sizeof(double))


cdef inline void lay_out_rounds(Run* run, Arena* arena, int blocks, Py_ssize_t size) noexcept nogil:
    # Allocate gradients of `size` numbers in the arena: of the batch, and of each block of a round.
    cdef real* gradient = <real*>allocate(arena, size * sizeof(real))
    run.round_blocks, run.gradient_size = blocks, size
    run.block_gradients = <real*>allocate_zeros(arena, blocks * size * sizeof(real))  # padding stays 0
    run.block_losses = <double*>allocate(arena, blocks * sizeof(double))
    if arena.base:
        set_gradient(&run.net, gradient)


cdef inline void lay_out_networks(Run* run, const Plan* plan, Arena* arena, Py_ssize_t block) noexcept nogil:
    # Allocate a network for each block of a round. The first one shares the buffers of run.net, the others have their
    # own buffers, and each has its own gradient.
    cdef Network net
    cdef int t
    run.nets = <Network*>allocate(arena, run.round_blocks * sizeof(Network))
    for t in range(run.round_blocks):
        if t == 0:
            net = run.net
            net.layers = <Layer*>allocate(arena, plan.count * sizeof(Layer))
            if arena.base:
                memcpy(net.layers, run.net.layers, plan.count * sizeof(Layer))
        else:
            lay_out_network(&net, plan, arena, block, TRAIN, &run.data, 1, False)
        if arena.base:
            set_gradient(&net, run.block_gradients + t * run.gradient_size)
            run.nets[t] = net


cdef inline void set_run_parameters(Run* run, real* params) noexcept nogil:
    # Set the parameters of all networks of the run. The networks share the parameters and the transposed weights.
    cdef SlopeTargets* works = <SlopeTargets*>run.objective.context
    cdef int l, t
    set_parameters(&run.net, params)
    for t in range(run.round_blocks):
        if run.objective.gradient is gradient_of_slopes:
            set_taylor_parameters(&works[t].taylor, params)
        for l in range(run.net.count if run.nets is not NULL else 0):
            run.nets[t].layers[l].W, run.nets[t].layers[l].WT = run.net.layers[l].W, run.net.layers[l].WT


cdef inline void compute_outputs(const Run* run, const Data* data, int thread, int threads, real* out) noexcept nogil:
    # Write the outputs for data.X to out (n, n_out), as the next step will compute them, dropout included. Rows with
    # lengths are processed in the order data.order, as in the step. Each thread computes the same part of every block,
    # so no thread has to wait for another.
    cdef const Network* net = &run.net
    cdef const Layer* last = &net.layers[net.count - 1]
    cdef Py_ssize_t low = share_start(net.block.size, thread, threads, GRAIN)
    cdef Py_ssize_t high = share_start(net.block.size, thread + 1, threads, GRAIN)
    cdef Py_ssize_t row, end
    for row from 0 <= row < data.n by net.block.size:
        end = smaller(high, data.n - row)
        if end > low:
            set_inputs(net, data, row, low, end)
            forward(net, low, end, smaller(net.block.size, data.n - row), thread, run.drop_key, run.drops, row)
            unpad_outputs(last, row, low, end, data.order, out)


cdef inline never_inlined compute_blocks(Run* run, int thread, Py_ssize_t row, Py_ssize_t rows,
                                         Py_ssize_t batch_start, uint64_t drops, double scale) noexcept nogil:
    # Compute losses and gradients of the blocks of this thread in a round of `rows` rows, which starts at row `row`.
    # Block b belongs to thread b % threads.
    cdef Py_ssize_t size = run.net.block.size, first, count
    cdef int b = thread
    while b * size < rows:
        first, count = row + b * size, smaller(size, rows - b * size)
        if run.objective.gradient is not NULL:
            run.block_losses[b] = run.objective.gradient(run.objective.context, thread, first, count, scale,
                                                         run.block_gradients + b * run.gradient_size)
        else:
            run.block_losses[b] = compute_block(&run.nets[b], run, first, count, batch_start, drops, scale)
        b += run.threads


cdef inline double compute_block(Network* net, const Run* run, Py_ssize_t first, Py_ssize_t rows,
                                 Py_ssize_t batch_start, uint64_t drops, double scale) noexcept nogil:
    # Compute the gradient of a block of the network in one thread, and return the sum of its loss terms.
    fetch(&net.block, &run.data, first, 0, rows)
    forward(net, 0, rows, rows, 0, run.drop_key, drops, first - batch_start)
    output_delta(net, 0, rows, scale, 0)
    backward(net, 0, rows, rows, 0)
    learn(net, rows, True, False, NULL, NULL, 0, 1, NULL)
    return sum_grain_losses(net, rows)


cdef inline never_inlined add_gradients(const Run* run, int count, bint first, int thread, int threads) noexcept nogil:
    # Add the gradients of `count` blocks to the gradient of the batch, for this thread's share of the parameters.
    cdef const Layer* layer
    cdef const real* block
    cdef Py_ssize_t i, low, high
    cdef vec x
    cdef int l, b
    for l in range(run.net.groups):
        layer = &run.net.layers[l]
        if layer.frozen:
            continue
        block = run.block_gradients + (layer.gradient - run.net.layers[0].gradient)
        low = first_row(layer, thread, threads) * layer.parameter_ld
        high = end_row(layer, thread, threads) * layer.parameter_ld
        for i from low <= i < high by VL:
            x = load(block + i)
            if not first:
                x = load(layer.gradient + i) + x
            for b in range(1, count):
                x = x + load(block + b * run.gradient_size + i)
            store(layer.gradient + i, x)


cdef inline double loss_of_epoch(const Run* run, double total) noexcept nogil:
    # Return the loss of an epoch, given the sum of the loss terms over all rows.
    cdef double scale = loss_scale(&run.net.layers[run.net.count - 1], run.net.loss, &run.data, run.data.weight_sum)
    return total * (run.loss_factor * scale) + run.penalty


cdef inline void end_epoch(Run* run, Py_ssize_t epoch, double loss) noexcept nogil:
    # Store the loss of an epoch, count consecutive increases of the loss, and stop the run if it has reached
    # target_loss.
    run.losses[epoch] = loss
    if loss <= run.previous_loss:
        run.rises = 0
    else:
        if run.rises == 0:
            run.loss_before_rise = run.previous_loss
        run.rises += 1
    run.previous_loss = loss
    run.stop = loss <= run.target_loss


cdef inline Py_ssize_t rate_index(const Run* run, Py_ssize_t epoch, Py_ssize_t row) noexcept nogil:
    # Return the index of the learning rate for the batch whose first row is `row`.
    return epoch * ((run.data.n + run.batch - 1) // run.batch) + row // run.batch if run.rate_per_step else epoch


cdef inline void draw_order(Run* run) noexcept nogil:
    # Draw a random order of the rows for the next epoch.
    if run.generator is NULL:
        shuffle(&run.data, run.key, &run.draws)
    else:
        shuffle_by(run.data.order, run.data.n, run.generator)
    sort_rows(run)


cdef inline void sort_rows(Run* run) noexcept nogil:
    # With lengths, sort the rows of each batch by decreasing length.
    if run.data.lengths is not NULL:
        sort_by_length(&run.data, run.batch, run.net.layers[0].in_shape.width, run.sort_work)


cdef inline void begin_step(Optimizer* optimizer, double rate, double weight) noexcept nogil:
    # Set the learning rate, and count the step, on a batch with this sum of sample weights.
    optimizer.lr = optimizer.bias_lr = rate
    if not optimizer.plain:
        count_step(optimizer, weight)


cdef inline void apply_gradient(Run* run, double rate) noexcept nogil:
    # Take one optimizer step with gradients that the caller has written to the layers of run.net. The function makes
    # the same calls as train() after the last block of a batch, on one thread.
    cdef Network* net = &run.net
    cdef Optimizer* optimizer = &run.optimizer
    begin_step(optimizer, rate, 1)
    update_groups(net, optimizer)
    learn(net, 0, False, True, optimizer, run.squares, 0, 1, NULL)
    if run.squares is not NULL:
        step(net, optimizer, run.squares, 0, 1)
    if optimizer.max_norm > 0:
        limit_norms(net, optimizer.max_norm, 0, 1)


cdef inline void train(Run* run, int thread, Py_ssize_t blocks) noexcept nogil:
    # Train for `blocks` blocks. If each thread processes whole blocks, train for `blocks` rounds. All run.threads
    # threads call this function.
    if run.strategy == ROWS_IN_LANES:
        train_in_lanes(run, blocks)
    elif run.strategy == ONE_ROW:
        train_one_row(run, blocks)
    else:
        train_general(run, thread, blocks)


cdef inline never_inlined train_in_lanes(Run* run, Py_ssize_t blocks) noexcept nogil:
    # Train with the code of tiny.pxd. The three strategies are functions that are never inlined, because one function
    # for all would keep more variables in memory instead of registers.
    train_as(ROWS_IN_LANES, run, 0, blocks)


cdef inline never_inlined train_one_row(Run* run, Py_ssize_t blocks) noexcept nogil:
    # Train with the code of one_row.pxd.
    train_as(ONE_ROW, run, 0, blocks)


cdef inline never_inlined train_general(Run* run, int thread, Py_ssize_t blocks) noexcept nogil:
    # Train with the code of network.pxd, or with an objective.
    train_as(GENERAL, run, thread, blocks)


cdef inline always_inlined train_as(int strategy, Run* run, int thread, Py_ssize_t blocks) noexcept nogil:
    # Train with the code of a strategy. It is a literal at every call, so that the compiler drops the other branches.
    # Only one thread can use a strategy other than GENERAL, and each of its batches is one block.
    #
    # Each thread keeps its own copy of the position in the data, and the first thread stores it in `run` at the end.
    # Several threads need a time limit in addition to `blocks`, because their waiting time at barriers depends on the
    # load of the machine. An objective needs it too, because the duration of its blocks is not known. The first thread
    # changes `pause` and `stop` only between the two barriers of a block; the others read them after the second one.
    cdef bint general = strategy == GENERAL
    cdef Network* net = &run.net
    cdef Py_ssize_t epoch = run.epoch, row = run.row, n = run.data.n, low, high
    cdef Py_ssize_t batch_start = row // run.batch * run.batch if general else row
    cdef Py_ssize_t batch_end = n, rows = n if strategy == ROWS_IN_LANES else 1
    cdef bint first = True, last = True, aborted
    cdef int threads = run.threads if general else 1, count, b
    cdef double weight = run.weight if general else rows, total = run.total, batch_factor = 1, loss
    cdef uint64_t drops = run.drops
    cdef const Layer* out = &net.layers[net.count - 1]
    cdef Optimizer* optimizer = &run.optimizer
    cdef Optimizer before
    cdef PrefetchQueue queue
    # the hardware prefetcher is sufficient for short rows
    cdef bint prefetches = general and (
        run.data.order is not NULL and run.round_blocks == 0 and
        net.layers[0].n_in >= MIN_PREFETCH_LINES * LINE_REALS and
        net.block.size * net.layers[0].n_in * <Py_ssize_t>sizeof(real) <= MAX_PREFETCH_BYTES)
    cdef double scale = run.delta_factor * loss_scale(out, net.loss, &run.data, weight)
    cdef bint is_timed = general and thread == 0 and (threads > 1 or run.objective.gradient is not NULL)
    cdef double deadline = now() + run.seconds if is_timed else 0
    # largest number of rows between two barriers
    cdef Py_ssize_t round_rows = net.block.size * (
        1 if run.round_blocks == 0 else run.round_blocks if run.objective.in_one_round else
        smaller(threads, run.round_blocks))
    while blocks > 0 and epoch < run.epochs and not run.stop and not run.pause and not is_broken(net):
        if strategy != ROWS_IN_LANES and row == 0 and run.shuffles:
            if thread == 0:
                draw_order(run)
            if threads > 1 and barrier_wait(&run.barrier):
                break
        if general:
            batch_end = smaller(n, batch_start + run.batch)
            rows = smaller(round_rows, batch_end - row)
            first = row == batch_start
            last = row + rows == batch_end
            if first:
                weight = sum_weights(&run.data, batch_start, batch_end)
                scale = run.delta_factor * loss_scale(out, net.loss, &run.data, weight)
                if run.round_blocks == 0:
                    begin_batch(net, &run.data, batch_start, batch_end, weight, thread)
                elif run.nets is not NULL and thread < run.round_blocks:
                    begin_batch(&run.nets[thread], &run.data, batch_start, batch_end, weight, 0)

        if strategy == ROWS_IN_LANES:
            total = tiny.compute(net, scale)
        elif strategy == ONE_ROW:
            one_row.compute(net, &run.data, row, run.resident, scale)
            total += net.grain_losses[0]
        elif run.round_blocks > 0:
            compute_blocks(run, thread, row, rows, batch_start, drops, scale)
        else:
            low = share_start(rows, thread, threads, GRAIN)
            high = share_start(rows, thread + 1, threads, GRAIN)
            if not run.resident:
                fetch(&net.block, &run.data, row, low, high)
            if not run.is_forwarded and forward(net, low, high, rows, thread, run.drop_key, drops, row - batch_start):
                break
            output_delta(net, low, high, scale, thread)
            if backward(net, low, high, rows, thread):
                break
        if general:
            batch_factor = ((batch_end - batch_start) * run.data.weight_sum / (n * weight)
                            if run.by_rows and weight != 0 else 1)
        if general and thread == 0 and last:
            if not optimizer.plain:
                before = optimizer[0]
            begin_step(optimizer, run.learning_rates[rate_index(run, epoch, batch_start) * run.rate_stride], weight)
            update_groups(net, optimizer)
            if optimizer.l1 != 0 or optimizer.l2 != 0:
                if batch_start == 0:
                    run.penalty = 0
                if weight != 0:
                    run.penalty += (sum_penalties(net, optimizer) / optimizer.rows * (weight / run.data.weight_sum) *
                                    batch_factor)
        aborted = threads > 1 and barrier_wait(&run.barrier)
        # number of blocks of the round if each thread processes whole blocks, else 0
        count = 0
        if general and run.round_blocks == 0:
            total += sum_grain_losses(net, rows) * batch_factor
        elif general:
            count = <int>((rows + net.block.size - 1) // net.block.size)
            for b in range(count):
                total += run.block_losses[b] * batch_factor
        loss = loss_of_epoch(run, total) if row + rows == n else total
        # take no step if a thread has failed or the loss is not finite
        if aborted or not loss - loss == 0:
            if thread == 0:
                run.diverged = run.stop = not aborted
                if general and last and not optimizer.plain:
                    optimizer[0] = before
            break

        if not general:
            begin_step(optimizer, run.learning_rates[rate_index(run, epoch, row) * run.rate_stride], weight)
        if strategy == ROWS_IN_LANES:
            tiny.learn(net, optimizer.lr)
        elif strategy == ONE_ROW:
            one_row.learn(net, optimizer)
        else:
            if count > 0:
                add_gradients(run, count, first, thread, threads)
            if count == 0 or last:
                if prefetches:
                    queue = build_prefetch_queue(&net.block, &run.data, row + rows + low, row + rows + high)
                learn(net, rows if count == 0 else 0, first and count == 0, last, optimizer, run.squares, thread,
                      threads, &queue if prefetches else NULL)
        if last:
            drops += strategy != ROWS_IN_LANES  # runs of tiny.pxd have no dropout and do not count its steps
            if general and run.squares is not NULL:
                if threads > 1 and barrier_wait(&run.barrier):
                    break
                step(net, optimizer, run.squares, thread, threads)
            if general and optimizer.max_norm > 0:
                if threads > 1 and barrier_wait(&run.barrier):
                    break
                limit_norms(net, optimizer.max_norm, thread, threads)
            if general and thread == 0 and run.objective.end_step is not NULL:
                run.objective.end_step(run.objective.context, epoch)
        row += rows
        if thread == 0:
            if row == n:
                end_epoch(run, epoch, loss)
            if is_timed and now() > deadline:
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
        # an epoch is incomplete if its last step would have made parameters infinite or NaN
        run.epoch = epoch - (row == 0 and is_broken(net))
        run.row = row
        run.total = total
        run.weight = weight
        run.drops = drops
