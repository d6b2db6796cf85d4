# Forward pass, loss, backward pass and parameter update of a whole network, for one block of rows.

from libc.math cimport sqrt as sqrt_double
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset
from simd cimport never_inlined, real, VL
from squares cimport SQUARE_REALS
from arena cimport PREDICT, TRAIN, Arena, Purpose, allocate
from activations cimport differentiate_rows, needs_net_input
from losses cimport (CROSS_ENTROPY, elementwise_loss, from_logits, label_smoothing, loss_of_classes,
                     loss_scale as loss_scale_of, needs_log_sum)
from optimizers cimport Optimizer, update_group, penalty
from dropout cimport random_uint64
from matmul cimport COLUMNS, SCATTERED, PrefetchQueue, Layout
from threads cimport Barrier, barrier_wait, share_start, smaller
from layer cimport (BATCH_NORM, DENSE, FLATTEN, RECURRENT, GRAIN, SMALL_GRAIN, Layer, biases, can_share_states,
                    first_row, is_penalty_exempt, end_row, set_row_pointers, padded, parameter_count, parameter_rows,
                    round_up_to_groups)
cimport layers
cimport norm
cimport pixels
cimport recurrent
from learn cimport STRIP_ROWS, limit_norms as limit_layer_norms, learn as learn_layer, step as step_layer
from rows cimport Block, Data, lay_out as lay_out_rows, set_lengths
from heads cimport Heads, begin_batch as begin_batch_of_heads, lay_out as lay_out_heads, loss_of_heads
from taylor cimport POINT_VECS, Channels

cdef enum:
    # size of a block of rows in bytes: its activations and deltas fit the second-level cache of a core
    BLOCK_BYTES = 1 << 19
    # number of rows that any block may have, even beyond BLOCK_BYTES; blocks of images never have more
    BLOCK_ROWS = 256
    MAX_SHARED_PARAM_BYTES = 1 << 17  # use one block per thread only for parameter vectors of at most this many bytes
    MIN_SHARED_WORK = 300000  # use one block per thread only if a batch has at least this many rows x parameters
    MIN_POINT_ROWS = 128  # minimum number of rows of a block with points in lanes, unless the batch has fewer rows
    MAX_POINT_BLOCKS = 8  # number of blocks of a large batch with points in lanes
    # size of a block of images in bytes; it may exceed the caches, because kernels process a few images at a time
    IMAGE_BYTES = 1 << 25

cdef struct Plan:         # Description of a network, without parameters and buffers.
    int count             # number of layers
    int image_layers      # number of layers that process images; these are the first layers of the network
    bint fuse_pools  # fuse each max-pool into the convolution below it; the full convolution output is never stored
    bint needs_input_gradient  # compute the derivative of the loss with respect to the inputs
    int batch_norms       # number of batch normalization layers
    int recurrent_layers  # number of RECURRENT layers
    bint by_pixels        # predict few images with the memory layout of pixels.pxd
    bint use_running_stats  # batch normalization uses running statistics even if the gradient is computed
    bint has_lengths      # the rows are sequences of different lengths
    Layer* layers         # array of `count` layers, owned by the Engine or the Training
    int loss              # loss function of the network, a value of the enum Loss
    double parameter      # parameter of the loss function, such as delta of the Huber loss
    Heads heads           # output heads of the network, without their buffers
    Py_ssize_t size       # length of the parameter vector, padding included
    Channels channels     # channels of derivatives in the targets, see slopes.pxd; none if targets are values only
    double slope_weight   # weight of the squared error of the derivatives
    bint has_objective    # in training, an objective replaces the network and its loss (objective.pxd)

# Network with parameters and buffers. The buffers belong to the arena of the call.
cdef struct Network:
    int count             # number of layers
    int image_layers      # number of layers that process images; these are the first layers of the network
    # array of `count` layers, and of one group of parameters that belongs to an objective and not to a layer
    Layer* layers
    int groups            # number of groups of parameters: `count`, or count + 1 with parameters of an objective
    int loss              # loss function of the network, a value of the enum Loss
    real parameter        # parameter of the loss function, such as delta of the Huber loss
    Heads heads           # output heads of the network, with their buffers
    real* input_gradient  # derivative of the loss with respect to the inputs (rows of the block, n_in), or NULL
    bint is_tiny          # the buffers have the memory layout of tiny.pxd, for very small networks
    bint by_pixels        # the image layers have the memory layout of pixels.pxd, for predictions of few images
    bint batch_norms      # the backward pass sums deltas for batch normalization layers
    # threads wait for each other at batch normalization layers, which need statistics of the whole batch
    bint waits_for_batch
    bint refreshed        # each step begins with refresh(), so no step has to update the transposed weights at its end
    Barrier* barrier      # barrier of the training threads, or NULL if there is only one thread
    Block block           # block of rows that the network processes now
    real* output_mask     # mask of a padded row of outputs: 1 for an output, 0 for padding and one additional vector
    double* grain_losses  # array with the sum of the loss terms of each grain, which is 16 rows of the block
    real* scratch         # workspace of all threads (threads, scratch_size)
    Py_ssize_t scratch_size  # number of elements in the workspace of one thread


cdef inline bint shares_blocks(const Plan* plan, Py_ssize_t batch) noexcept nogil:
    # Return whether each thread processes whole blocks of rows. This is faster with few parameters and much work:
    # adding the gradients of the threads is then cheaper than dividing each layer among them.
    # With recurrent layers they always do, so that threads need not wait for each other at each step of a sequence.
    # With batch normalization, which needs all rows of the batch, such networks are trained by a single thread.
    return plan.has_objective or plan.batch_norms == 0 and (plan.recurrent_layers > 0 or (
        plan.image_layers == 0 and
        plan.size * <Py_ssize_t>sizeof(real) <= MAX_SHARED_PARAM_BYTES and batch * plan.size >= MIN_SHARED_WORK and
        batch >= 2 * GRAIN))


cdef inline Py_ssize_t block_rows(const Plan* plan, Py_ssize_t batch, Purpose purpose) noexcept nogil:
    # Return the number of rows in a block, given the batch size.
    cdef Py_ssize_t width = 0, max_rows, count
    cdef int l
    if plan.has_objective and purpose == TRAIN:
        count = max(MIN_POINT_ROWS, (batch + MAX_POINT_BLOCKS - 1) // MAX_POINT_BLOCKS)
        return smaller(batch, (count + POINT_VECS * VL - 1) // (POINT_VECS * VL) * (POINT_VECS * VL))
    if plan.batch_norms > 0 and purpose == TRAIN and not plan.use_running_stats:
        return batch                          # batch normalization needs all rows of the batch in one block
    for l in range(plan.count):
        width += ((plan.layers[l].n_out if plan.layers[l].in_lanes else plan.layers[l].ld) *
                  (2 if purpose == TRAIN else 1))
    if plan.recurrent_layers > 0:
        for l in range(plan.count):
            if plan.layers[l].kind == RECURRENT:
                width += recurrent.sequence_reals(&plan.layers[l])
        return recurrent.block_rows(width * sizeof(real), batch, recurrent.MIN_SEQUENCE_ROWS
                                    if purpose == TRAIN and plan.image_layers == 0 else GRAIN)
    if plan.image_layers > 0:
        max_rows = IMAGE_BYTES // <Py_ssize_t>(width * sizeof(real)) // GRAIN * GRAIN
        return smaller(batch, max(GRAIN, smaller(BLOCK_ROWS, max_rows)))
    max_rows = max(BLOCK_ROWS, BLOCK_BYTES // <Py_ssize_t>(width * sizeof(real)) // GRAIN * GRAIN)
    if purpose != TRAIN or not shares_blocks(plan, batch):
        return smaller(batch, max_rows)
    count = max(2, (batch + max_rows - 1) // max_rows)
    if count > 2:  # make the number of blocks a multiple of four, which two or four threads can share equally
        count = (count + 3) // 4 * 4
    return ((batch + count - 1) // count + SMALL_GRAIN - 1) // SMALL_GRAIN * SMALL_GRAIN


cdef inline never_inlined lay_out(Network* net, const Plan* plan, Arena* arena, Py_ssize_t block, Purpose purpose,
                                  const Data* data, int threads, bint is_tiny) noexcept nogil:
    # Allocate all buffers of the network in the arena, for `block` rows and `threads` threads. The function is never
    # inlined, to keep the compiled code small.
    cdef Layer* arena_layers = <Layer*>allocate(arena, (plan.count + 1) * sizeof(Layer))
    cdef Layer layer
    cdef const Layer* last = &plan.layers[plan.count - 1]
    cdef Py_ssize_t grains = (block + GRAIN - 1) // GRAIN, widest = 0, j
    cdef bint output, keep_z, with_delta, trainable_below = plan.needs_input_gradient and plan.image_layers > 0
    cdef bint lowest
    cdef int l
    for l in range(plan.count):
        layer = plan.layers[l]
        output = l == plan.count - 1
        keep_z = (needs_net_input(layer.activation) and purpose == TRAIN or
                  output and from_logits(plan.loss) and purpose != PREDICT)
        lowest = not trainable_below          # no layer below this one is trainable
        trainable_below = trainable_below or layer.rows > 0 and not layer.frozen
        with_delta = trainable_below and purpose == TRAIN or output and purpose != PREDICT
        layer.deltas_in_lanes = (layer.kind == DENSE and not layer.narrow and l > 0 and
                                 plan.layers[l - 1].kind == FLATTEN and plan.layers[l - 1].dropout_rate == 0)
        if plan.by_pixels and l < plan.image_layers and layer.kind != FLATTEN:
            pixels.lay_out(&layer, arena, block)
        else:
            layers.allocate_outputs(&layer, NULL if output or not plan.fuse_pools else &plan.layers[l + 1], arena,
                                    block, SQUARE_REALS if is_tiny else
                                    (block if layer.kind != FLATTEN else round_up_to_groups(block)) * layer.ld,
                                    keep_z, with_delta, lowest, threads)
        if layer.in_lanes and layer.dropout_rate > 0:
            widest = max(widest, padded(layer.n_out))
        if l > 0 and arena.base:
            layer.input = arena_layers[l - 1].out
        layer.shares_states = purpose == TRAIN and not output and can_share_states(&layer, &plan.layers[l + 1])
        layer.source = NULL
        layer.lengths = NULL if not (plan.has_lengths and layer.window_width > 0) else (
            <int*>allocate(arena, (block + VL) * sizeof(int)))
        if l > 0 and arena.base and arena_layers[l - 1].shares_states:
            layer.source = arena_layers[l - 1].buffers
        if not is_tiny and (not plan.by_pixels or layer.kind in (DENSE, BATCH_NORM, RECURRENT)):
            layers.lay_out(&layer, arena, lowest, purpose, block, plan.use_running_stats, threads)
        if output and purpose != PREDICT and needs_log_sum(plan.loss):
            layer.log_sum = <real*>allocate(arena, (grains * GRAIN * layer.out_shape.width + VL) * sizeof(real))
        widest = max(widest, layer.ld)
        if arena.base:
            arena_layers[l] = layer
            if is_tiny:
                memset(layer.D, 0, SQUARE_REALS * sizeof(real))
    net.count, net.groups, net.image_layers = plan.count, plan.count, plan.image_layers
    net.layers, net.input_gradient = arena_layers, NULL
    net.loss = plan.loss
    net.parameter = plan.parameter
    net.heads = plan.heads
    if plan.heads.count > 0 and purpose != PREDICT:
        lay_out_heads(&net.heads, arena, threads)
    net.is_tiny, net.by_pixels = is_tiny, plan.by_pixels
    net.batch_norms = plan.batch_norms > 0 and purpose == TRAIN
    net.block.steps = <int>plan.layers[0].in_shape.width
    net.block.lengths = <int*>allocate(arena, (block + VL) * sizeof(int)) if plan.has_lengths else NULL
    net.waits_for_batch = net.batch_norms and not plan.use_running_stats
    net.barrier = NULL
    net.scratch_size = widest * (STRIP_ROWS if <int>STRIP_ROWS > <int>VL else VL) + grains * GRAIN + VL
    net.scratch = <real*>allocate(arena, threads * net.scratch_size * sizeof(real))
    net.block.size, net.block.n_in, net.block.n_out, net.block.ld = block, plan.layers[0].n_in, last.n_out, last.ld
    net.block.label_steps, net.block.smoothing = last.out_shape.width, label_smoothing(plan.loss, plan.parameter)
    if is_tiny:
        lay_out_rows(&net.block, arena, NULL, plan.layers)
        net.block.X = <real*>allocate(arena, SQUARE_REALS * sizeof(real))
        net.block.Y = <real*>allocate(arena, SQUARE_REALS * sizeof(real))
        net.output_mask = <real*>allocate(arena, SQUARE_REALS * sizeof(real))
    else:
        lay_out_rows(&net.block, arena, data, plan.layers)
        if purpose != PREDICT:
            net.grain_losses = <double*>allocate(arena, grains * sizeof(double))
            # a row with fewer steps uses only the end of the mask, followed by one vector of zeros
            net.output_mask = <real*>allocate(arena, (last.ld + VL) * sizeof(real))
            if arena.base:
                for j in range(last.ld + VL):
                    net.output_mask[j] = 1 if j < last.n_out else 0
    if arena.base:
        connect_rows(net, data)


cdef inline void connect_rows(Network* net, const Data* data) noexcept nogil:
    # Point all layers to the lengths and the states of the rows of the block.
    cdef Layer* layer
    cdef Py_ssize_t offset = 0
    cdef int* lengths = net.block.lengths
    cdef int l
    for l in range(net.count):
        layer = &net.layers[l]
        if layer.lengths is not NULL:         # convolutions and pools change the number of steps
            lengths = layer.lengths
        layer.lengths, layer.states, layer.state_offset = lengths, net.block.states, offset
        layer.chunks = data.chunks if data is not NULL else NULL
        offset += recurrent.state_reals(layer)


cdef inline void set_parameters(const Network* net, real* params) noexcept nogil:
    # Point all layers to their parameters. Parameters, gradients and moments are vectors of Plan.size numbers, stored
    # layer by layer.
    cdef int l
    for l in range(net.count):
        net.layers[l].W = params
        params += parameter_count(&net.layers[l])
    refresh(net)


cdef inline void set_gradient(const Network* net, real* gradient) noexcept nogil:
    # Point the gradient of each layer to its part of `gradient`, a vector of Plan.size numbers.
    cdef int l
    for l in range(net.groups):
        net.layers[l].gradient = gradient
        gradient += parameter_count(&net.layers[l])


cdef inline void unpack_gradient(const Network* net, const real* values) noexcept nogil:
    # Copy a gradient without padding to the padded gradients of the layers. Engine.gradients writes the same layout.
    cdef const Layer* layer
    cdef Py_ssize_t i, columns
    cdef real* row
    cdef int l
    for l in range(net.count):
        layer = &net.layers[l]
        columns = layer.neurons
        for i in range(parameter_rows(layer)):
            row = layer.gradient + i * layer.parameter_ld
            memcpy(row, values, columns * sizeof(real))
            memset(row + columns, 0, (layer.parameter_ld - columns) * sizeof(real))
            values += columns


cdef inline void set_moments(const Network* net, real* m, real* v) noexcept nogil:
    # Point the optimizer moments of each layer to their parts of `m` and `v`, vectors of Plan.size numbers.
    cdef Py_ssize_t offset = 0
    cdef int l
    for l in range(net.count):
        net.layers[l].m, net.layers[l].v = m + offset, v + offset
        offset += parameter_count(&net.layers[l])


cdef inline void refresh(const Network* net) noexcept nogil:
    # Update the transposed weights and the statistics of all layers after the parameters were changed outside of a
    # step.
    cdef int l
    for l in range(net.count):
        layers.refresh(&net.layers[l])


cdef inline bint wait(const Network* net) noexcept nogil:
    # Wait for the other threads at the barrier. Return whether the barrier was aborted.
    return net.barrier is not NULL and barrier_wait(net.barrier)


cdef inline bint forward(const Network* net, Py_ssize_t low, Py_ssize_t high, Py_ssize_t rows, int thread,
                         uint64_t drop_key, uint64_t drops, Py_ssize_t block_start) noexcept nogil:
    # Run the forward pass of rows low <= i < high of a block with `rows` rows. In training, the dropout masks are those
    # of step `drops` in the random stream `drop_key`, and the block starts at row `block_start` of the batch. Return
    # whether another thread has failed, so that the barrier was aborted.
    cdef int l, start = 0
    if net.block.lengths is not NULL:
        set_lengths(net.block.lengths, net.layers, net.count, low, high, net.image_layers > 0)
    if net.waits_for_batch:
        for l in range(net.count):
            if net.layers[l].kind == BATCH_NORM and not net.layers[l].use_running_stats:
                forward_range(net, start, l, low, high, thread, drop_key, drops, block_start)
                if wait(net):
                    return True
                norm.combine_chunks(&net.layers[l], rows, thread)
                start = l
    forward_range(net, start, net.count, low, high, thread, drop_key, drops, block_start)
    return False


cdef inline void forward_range(const Network* net, int start, int end, Py_ssize_t low, Py_ssize_t high, int thread,
                               uint64_t drop_key, uint64_t drops, Py_ssize_t block_start) noexcept nogil:
    # Run the forward pass of layers[start:end]. If layers[end] is a batch normalization, also sum its statistics.
    cdef const real** X = net.block.inputs
    cdef Py_ssize_t first, rows
    cdef const Layer* layer
    cdef int l
    for first from low <= first < (high if start < net.image_layers else low) by VL:
        rows = smaller(VL, high - first)
        for l in range(start, min(end, net.image_layers)):
            layer = &net.layers[l]
            layers.forward_group(layer, X, first, rows, thread)
            if layer.mask is not NULL:
                layers.drop_outputs(layer, random_uint64(random_uint64(drop_key, drops), l), block_start, first, rows,
                                    net.scratch + thread * net.scratch_size)
        if end < net.image_layers:
            norm.sum_chunk(&net.layers[end], first, rows)
    for l in range(max(start, net.image_layers), end):
        if l > 0:
            X = net.layers[l - 1].out_rows
        layer = &net.layers[l]
        if layer.input_dropout_rate > 0:
            recurrent.draw_input_masks(layer, random_uint64(random_uint64(drop_key, drops), net.count + l), block_start,
                                       low, high - low)
        layers.forward(layer, X, low, high - low, thread, net.scratch + thread * net.scratch_size)
        if layer.mask is not NULL:
            layers.drop_outputs(layer, random_uint64(random_uint64(drop_key, drops), l), block_start, low, high - low,
                                NULL)
    if net.image_layers <= end < net.count:
        for first from low <= first < high by GRAIN:
            norm.sum_chunk(&net.layers[end], first, smaller(GRAIN, high - first))


cdef inline void predict(const Network* net, const real* X, Py_ssize_t rows) noexcept nogil:
    # Run the forward pass of the first `rows` rows of X (rows, n_in).
    cdef int l
    set_row_pointers(net.block.inputs, X, net.block.n_in, rows)
    if net.by_pixels:
        for l in range(1, net.image_layers):
            pixels.forward(&net.layers[l], &net.layers[l - 1], net.block.inputs, rows)
        forward_range(net, net.image_layers, net.count, 0, rows, 0, 0, 0, 0)
    else:
        forward(net, 0, rows, rows, 0, 0, 0, 0)


cdef inline void predict_rows(const Network* net, const Data* data, Py_ssize_t row, Py_ssize_t rows) noexcept nogil:
    # Run the forward pass of `rows` rows, from row `row` of the data on; with lengths, in the order data.order.
    if data.lengths is NULL:
        predict(net, data.X + row * net.block.n_in, rows)
        return
    set_inputs(net, data, row, 0, rows)
    forward(net, 0, rows, rows, 0, 0, 0, 0)


cdef inline void set_inputs(const Network* net, const Data* data, Py_ssize_t row, Py_ssize_t low,
                            Py_ssize_t high) noexcept nogil:
    # Use rows row + low <= i < row + high of the data as inputs of rows low <= i < high of the block; with lengths, in
    # the order data.order.
    cdef Py_ssize_t i, n_in = net.block.n_in
    if data.lengths is NULL:
        set_row_pointers(net.block.inputs + low, data.X + (row + low) * n_in, n_in, high - low)
    for i in range(low, high if net.block.lengths is not NULL else low):
        net.block.lengths[i] = net.block.steps
        if data.lengths is not NULL:
            net.block.inputs[i] = data.X + data.order[row + i] * n_in
            net.block.lengths[i] = data.lengths[data.order[row + i]]


cdef inline double loss_scale(const Layer* last, int loss, const Data* data, double weight) noexcept nogil:
    # Return the factor that converts the sum of the loss terms of some rows to their loss; `weight` is the sum of the
    # sample weights of these rows.
    if data.lengths is not NULL and data.counts_steps:  # `weight` counts the steps of each row
        return loss_scale_of(loss, weight, last.out_shape.channels)
    return loss_scale_of(loss, weight * last.out_shape.width if loss == CROSS_ENTROPY else weight, last.n_out)


cdef inline void begin_batch(const Network* net, const Data* data, Py_ssize_t low, Py_ssize_t high, double weight,
                             int thread) noexcept nogil:
    # Begin the batch of rows low <= i < high of the data. If there are heads, compute the factor of the loss of each
    # head. `weight` is the sum of the sample weights of these rows, or the number of rows without sample weights.
    if net.heads.count > 0:
        begin_batch_of_heads(&net.heads, data, low, high, weight, net.block.n_out, thread)


cdef inline double loss_of_steps(const Network* net, Py_ssize_t i, Py_ssize_t rows, Py_ssize_t steps, Py_ssize_t ld,
                                 double scale) noexcept nogil:
    # Return the sum of the loss terms over the first `steps` steps of rows i to i + rows; outputs without steps count
    # as one step. Write the deltas to the first ld numbers of each row; all rows have ld numbers, or there is one row.
    cdef const Layer* out = &net.layers[net.count - 1]
    cdef const Block* block = &net.block
    cdef Py_ssize_t offset = i * out.ld, width = out.out_shape.width, n = steps * out.out_shape.channels
    cdef Py_ssize_t warm_up = block.warm_up * out.out_shape.channels, j
    cdef real* mask = net.output_mask + (out.n_out - n)
    if net.loss == CROSS_ENTROPY:
        return loss_of_classes(out.Z + offset, out.log_sum + i * width, out.A + offset,
                               NULL if block.Y is NULL else block.Y + offset,
                               NULL if block.labels is NULL else block.labels + i * width, out.D + offset,
                               <real>scale, rows, block.warm_up, steps, out.out_shape.channels, ld)
    if warm_up > 0:
        mask = net.output_mask
        for j in range(ld):
            mask[j] = warm_up <= j < n
    return elementwise_loss(net.loss, net.parameter, out.Z + offset, out.A + offset, block.Y + offset, out.D + offset,
                            mask, <real>scale, rows, ld)


cdef inline double compute_loss(const Network* net, Py_ssize_t i, Py_ssize_t rows, double scale,
                                int thread) noexcept nogil:
    # Return the sum of the loss terms over rows i to i + rows. Write the deltas of these rows, multiplied by `scale`.
    cdef const Layer* out = &net.layers[net.count - 1]
    cdef const Block* block = &net.block
    cdef Py_ssize_t offset = i * out.ld, k
    cdef double total = 0
    if net.heads.count > 0:
        return loss_of_heads(&net.heads, out.A + offset, block.Y + offset, out.D + offset, scale, rows, out.n_out,
                             out.ld, thread)
    if out.lengths is NULL or out.kind != RECURRENT:
        return loss_of_steps(net, i, rows, out.out_shape.width, out.ld, scale)
    for k in range(i, i + rows):
        total += loss_of_steps(net, k, 1, out.lengths[k],
                               (out.lengths[k] * out.out_shape.channels + VL - 1) // VL * VL, scale)
    return total


cdef inline void output_delta(const Network* net, Py_ssize_t low, Py_ssize_t high, double scale,
                              int thread) noexcept nogil:
    # Compute the deltas of the output layer, and the sum of the loss terms of each grain, which is 16 rows.
    cdef const Layer* out = &net.layers[net.count - 1]
    cdef const real* weights = net.block.weights
    cdef Py_ssize_t i, k, offset = low * out.ld
    for i from low <= i < high by GRAIN:
        if weights is NULL:
            net.grain_losses[i // GRAIN] = compute_loss(net, i, smaller(GRAIN, high - i), scale, thread)
        else:
            net.grain_losses[i // GRAIN] = 0
            for k in range(i, smaller(i + GRAIN, high)):
                net.grain_losses[i // GRAIN] += weights[k] * compute_loss(net, k, 1, scale * weights[k], thread)
    if not from_logits(net.loss):
        differentiate_rows(out.activation, out.Z + offset, out.A + offset, out.D + offset, high - low,
                           out.out_shape.width, out.out_shape.channels, out.ld)


cdef inline bint backward(const Network* net, Py_ssize_t low, Py_ssize_t high, Py_ssize_t rows,
                          int thread) noexcept nogil:
    # Run the backward pass of rows low <= i < high: compute the deltas of all layers by the chain rule, and the
    # gradients of convolutions. Return whether another thread has failed, so that the barrier was aborted.
    cdef int l, start = net.count - 1
    layers.begin_backward(&net.layers[start], low, high - low)
    if net.batch_norms:
        for l in range(net.count - 1, 0, -1):
            if net.layers[l].kind == BATCH_NORM and not net.layers[l].frozen:
                backward_range(net, start, l, low, high, thread)
                if wait(net):
                    return True
                norm.combine_chunk_deltas(&net.layers[l], rows, thread)
                start = l
    backward_range(net, start, 0, low, high, thread)
    return False


cdef inline void backward_range(const Network* net, int start, int end, Py_ssize_t low, Py_ssize_t high,
                                int thread) noexcept nogil:
    # Run the backward pass from layers[start] down to layers[end + 1]. If layers[end] is a batch normalization, also
    # sum its deltas.
    cdef Py_ssize_t first, rows
    cdef int l
    for l in range(start, max(end, net.image_layers - 1), -1):
        if net.layers[l - 1].D is NULL:
            return
        layers.backward(&net.layers[l], &net.layers[l - 1], low, high - low, thread)
    if end >= max(net.image_layers, 1):
        for first from low <= first < high by GRAIN:
            norm.sum_chunk_deltas(&net.layers[end], first, smaller(GRAIN, high - first), thread)
    elif net.image_layers == 0 and net.input_gradient is not NULL:
        layers.input_backward(&net.layers[0], low, high - low, thread, net.input_gradient + low * net.block.n_in)
    for first from low <= first < (high if end < net.image_layers else low) by VL:
        rows = smaller(VL, high - first)
        for l in range(min(start, net.image_layers - 1), end, -1):
            if net.layers[l].D is NULL:
                break
            layers.backward_group(&net.layers[l], &net.layers[l - 1], first, high, thread)
        if end > 0:
            norm.sum_chunk_deltas(&net.layers[end], first, rows, thread)
        elif net.input_gradient is not NULL:
            layers.input_backward(&net.layers[0], first, rows, thread, net.input_gradient + first * net.block.n_in)


cdef inline never_inlined learn(const Network* net, Py_ssize_t rows, bint first_block, bint last_block,
                                const Optimizer* optimizer, double* squares, int thread, int threads,
                                PrefetchQueue* queue) noexcept nogil:
    # Compute the gradients over the block and take the optimizer step, for this thread's share of the parameters of
    # each layer. Meanwhile prefetch rows of the next block. Without an optimizer, only compute the gradients.
    cdef const real** X = net.block.inputs
    cdef Layout layout = SCATTERED if net.block.scattered else COLUMNS
    cdef Layer* layer
    cdef int l
    for l in range(net.groups):
        layer = &net.layers[l]
        if not layer.frozen:
            learn_layer(layer, X, layout, rows, first_row(layer, thread, threads), end_row(layer, thread, threads),
                        first_block, last_block,
                        optimizer if layer.param_group is NULL or optimizer is NULL else &layer.param_group.optimizer,
                        squares, net.scratch + thread * net.scratch_size, queue if l == 0 else NULL)
            if last_block and optimizer is not NULL and squares is NULL:
                update_transpose(net, layer, thread, threads)
        if squares is not NULL:
            squares += parameter_rows(layer)
        X, layout = layer.out_rows, COLUMNS


cdef inline void update_groups(const Network* net, const Optimizer* optimizer) noexcept nogil:
    # Update the optimizers of layers that have their own learning rates, from the optimizer of the run.
    cdef int l
    for l in range(net.count):
        if net.layers[l].param_group is not NULL:
            update_group(net.layers[l].param_group, optimizer)


cdef inline void step(const Network* net, const Optimizer* optimizer, const double* squares, int thread,
                      int threads) noexcept nogil:
    # Take the optimizer step for this thread's share of the parameters, after scaling the whole gradient to at most
    # `clip_norm`. Every thread sums the squared norms of all gradient rows in the same order, so all threads use the
    # same factor.
    cdef double total = 0, length
    cdef Py_ssize_t k, count = 0
    cdef Layer* layer
    cdef int l
    for l in range(net.groups):
        count += parameter_rows(&net.layers[l])
    for k in range(count):
        total += squares[k]
    length = sqrt_double(total) + 1e-6    # PyTorch's clip_grad_norm_ also adds 1e-6 to the norm
    for l in range(net.groups):
        layer = &net.layers[l]
        if layer.frozen:
            continue
        if not length - length == 0:      # a gradient whose norm is infinite or NaN cannot be clipped
            layer.broken = True
            continue
        step_layer(layer, first_row(layer, thread, threads), end_row(layer, thread, threads),
                   optimizer if layer.param_group is NULL else &layer.param_group.optimizer,
                   optimizer.clip_norm / length if length > optimizer.clip_norm else 1)
        update_transpose(net, layer, thread, threads)


cdef inline void update_transpose(const Network* net, const Layer* layer, int thread, int threads) noexcept nogil:
    # Update the transposed weights WT from this thread's share of the weights W.
    if layer.WT is not NULL and not net.refreshed:
        layers.transpose_rows(layer, first_row(layer, thread, threads),
                              smaller(end_row(layer, thread, threads), layer.rows))


cdef inline void limit_norms(const Network* net, double limit, int thread, int threads) noexcept nogil:
    # Scale the incoming weights of each neuron down to a norm of at most `limit`, for this thread's share of the
    # neurons.
    cdef int l
    cdef const Layer* layer
    for l in range(net.count):
        layer = &net.layers[l]
        if not layer.frozen and not is_penalty_exempt(layer, 0):
            limit_layer_norms(layer, limit, share_start(layer.neurons, thread, threads, GRAIN),
                              share_start(layer.neurons, thread + 1, threads, GRAIN))


cdef inline double sum_penalties(const Network* net, const Optimizer* optimizer) noexcept nogil:
    # Return the sum of the L1 and L2 penalties of all trainable layers.
    cdef double total = 0
    cdef int l
    cdef const Layer* layer
    for l in range(net.count):
        layer = &net.layers[l]
        if layer.frozen:
            continue
        total += penalty(optimizer, layer.W, layer.rows * layer.parameter_ld, is_penalty_exempt(layer, 0))
        if layer.bias:
            total += penalty(optimizer, biases(layer), layer.bias * layer.parameter_ld, True)
    return total


cdef inline double sum_grain_losses(const Network* net, Py_ssize_t rows) noexcept nogil:
    # Return the sum of the loss terms over the first `rows` rows of the block.
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range((rows + GRAIN - 1) // GRAIN):
        total += net.grain_losses[i]
    return total


cdef inline bint is_broken(const Network* net) noexcept nogil:
    # Return whether the last step would have made any parameter infinite or NaN.
    cdef int l
    for l in range(net.groups):
        if net.layers[l].broken:
            return True
    return False
