# Dispatch by kind of layer. Only this file calls the code of all kinds. A call costs one comparison per layer and block
# of rows, outside of all loops. Layers of images process one group of images at a time; the other layers process all
# rows of a thread at once.

from libc.stdint cimport uint64_t
from simd cimport VL, real
from arena cimport TRAIN, Arena, Purpose, allocate
from matmul cimport PrefetchQueue, Layout
from threads cimport smaller
from layer cimport (AVG_POOL, BATCH_NORM, CONV2D, DENSE, FLATTEN, INPUT, MAX_POOL, RECURRENT, SCALE, GRAIN, Layer, drop,
                    padded, allocate_lane_outputs, allocate_row_outputs, backward_activation, backward_dropout,
                    has_windows, is_columnwise)
cimport conv
cimport dense
cimport images
cimport norm
cimport pool
cimport recurrent
cimport scale as scaling


cdef inline void set_sizes(Layer* layer, bint lowest) noexcept nogil:
    # Set the shape of the weights W and the padded row lengths, from the shapes and options of the layer.
    if layer.kind == BATCH_NORM or not lowest and (layer.kind == MAX_POOL or layer.kind == AVG_POOL):
        layer.in_lanes = (layer - 1).in_lanes
    else:
        layer.in_lanes = has_windows(layer.kind) or layer.kind == INPUT
    if layer.kind == DENSE:
        dense.set_sizes(layer, lowest)
    elif layer.kind == CONV2D:
        conv.set_sizes(layer)
    elif layer.kind == BATCH_NORM:
        norm.set_sizes(layer)
    elif layer.kind == SCALE:
        scaling.set_sizes(layer)
    elif not layer.in_lanes:                  # FLATTEN, or a pool of sequences that are not in vector lanes
        layer.ld = padded(layer.n_out)
    if layer.kind == RECURRENT:
        recurrent.set_sizes(layer)
    else:
        layer.parameter_ld = layer.ld


cdef inline bint is_consistent(const Layer* layer) noexcept nogil:
    # Return whether the shapes of a layer are consistent, so that all its windows lie inside the padded image.
    cdef Py_ssize_t y = (layer.out_shape.height - 1) * layer.stride_y  # y, x: first row and column of the last window
    cdef Py_ssize_t x = (layer.out_shape.width - 1) * layer.stride_x
    if layer.kind == RECURRENT:
        return recurrent.is_consistent(layer)
    if layer.kind == INPUT:
        return (layer.in_shape.width == layer.out_shape.width and
                layer.in_shape.channels == layer.out_shape.channels and layer.n_in == layer.n_out)
    if layer.kind == FLATTEN or is_columnwise(layer.kind):
        return (layer.n_in == layer.n_out and
                (layer.kind == FLATTEN or layer.in_shape.channels == layer.out_shape.channels))
    if smaller(smaller(layer.window_height, layer.window_width), smaller(layer.stride_y, layer.stride_x)) < 1:
        return False
    if layer.kind == CONV2D:
        return (0 <= layer.pad_y < layer.window_height and y - layer.pad_y < layer.in_shape.height and
                0 <= layer.pad_x < layer.window_width and x - layer.pad_x < layer.in_shape.width)
    return (layer.in_shape.channels == layer.out_shape.channels and
            y + layer.window_height <= layer.in_shape.height and x + layer.window_width <= layer.in_shape.width)


cdef inline void allocate_outputs(Layer* layer, const Layer* next_layer, Arena* arena, Py_ssize_t count,
                                  Py_ssize_t size, bint keep_z, bint with_delta, bint lowest,
                                  int threads) noexcept nogil:
    # Allocate the outputs for `count` rows, and the deltas if `with_delta` is set. `size` is the number of outputs if
    # the rows are not images. `next_layer` is a layer that may be fused into this one, or NULL if all outputs must be
    # stored.
    if next_layer is not NULL and conv.can_fuse_pool(layer, next_layer):
        conv.allocate_fused(layer, arena, next_layer.window_height, with_delta, lowest, threads)
    elif layer.in_lanes:
        allocate_lane_outputs(layer, arena, count, keep_z, with_delta, threads)
    else:
        allocate_row_outputs(layer, arena, count, size, keep_z, with_delta)


cdef inline void lay_out(Layer* layer, Arena* arena, bint lowest, Purpose purpose, Py_ssize_t block,
                         bint use_running_stats, int threads) noexcept nogil:
    # Allocate the buffers that only this kind of layer has. If `use_running_stats` is set, batch normalization uses its
    # running statistics even in training.
    cdef Py_ssize_t grains = (block + GRAIN - 1) // GRAIN
    if layer.kind == DENSE:
        dense.lay_out(layer, arena, lowest, purpose, block)
    elif layer.kind == CONV2D:
        conv.lay_out(layer, arena, lowest, purpose, grains, threads)
    elif layer.kind == BATCH_NORM:
        norm.lay_out(layer, arena, block, purpose, use_running_stats, threads)
    elif layer.kind == RECURRENT:
        recurrent.lay_out(layer, arena, purpose, block)
    elif layer.kind == MAX_POOL and layer.in_lanes and purpose == TRAIN:
        layer.argmax = <real*>allocate(arena, grains * GRAIN * layer.n_out * sizeof(real))


cdef inline void forward(const Layer* layer, const real** X, Py_ssize_t first, Py_ssize_t rows, int thread,
                         real* scratch) noexcept nogil:
    # Compute net inputs Z and activations A for rows first <= i < first + rows of the block. X[i] points to input row
    # i.
    if layer.kind == DENSE:
        dense.forward(layer, X, first, rows, scratch)
    elif layer.kind == SCALE:
        scaling.forward(layer, X, first, rows)
    elif layer.kind == RECURRENT:
        recurrent.forward(layer, X, first, rows, scratch)
    elif layer.kind == MAX_POOL or layer.kind == AVG_POOL:
        pool.forward_rows(layer, X, first, rows)
    else:
        norm.forward(layer, first, rows, thread)


cdef inline void forward_group(const Layer* layer, const real** X, Py_ssize_t first, Py_ssize_t rows,
                               int thread) noexcept nogil:
    # Compute net inputs Z and activations A of an image layer for one group of images.
    compute_group(layer, X, first, rows, thread)
    if layer.lengths is not NULL and layer.in_lanes and layer.fused_height == 0:
        images.clear_padding(layer, first, images.group_start(layer, layer.A, first))


cdef inline void compute_group(const Layer* layer, const real** X, Py_ssize_t first, Py_ssize_t rows,
                               int thread) noexcept nogil:
    # Compute net inputs Z and activations A of one group of images or sequences, including padded steps of sequences.
    if layer.kind == CONV2D:
        conv.forward(layer, first, thread)
    elif layer.kind == INPUT:
        images.input_forward(layer, X, first, rows)
    elif layer.kind == FLATTEN:
        images.flatten_forward(layer, first, rows)
    elif layer.kind == BATCH_NORM:
        norm.forward(layer, first, rows, thread)
    elif (layer - 1).fused_height == 0:       # a fused pool is computed by its convolution
        pool.forward(layer, first)


cdef inline void drop_outputs(const Layer* layer, uint64_t key, Py_ssize_t block_start, Py_ssize_t first,
                              Py_ssize_t rows, real* scratch) noexcept nogil:
    # Apply dropout to the outputs of `rows` rows, from row `first` of the block on. The block starts at row
    # `block_start` of the batch.
    if layer.in_lanes:
        images.drop_group(layer, key, block_start, first, rows, scratch)
    else:
        drop(layer, key, block_start, first, rows)


cdef inline void backward(const Layer* layer, const Layer* previous, Py_ssize_t first, Py_ssize_t rows,
                          int thread) noexcept nogil:
    # Compute the deltas of the previous layer, for a layer whose inputs are not images.
    if layer.kind == DENSE:
        dense.backward(layer, previous, first, rows)
    elif layer.kind == SCALE:
        scaling.backward(layer, previous, first, rows)
    elif layer.kind == RECURRENT:
        recurrent.input_backward(layer, first, rows, previous.D + first * previous.ld, previous.ld)
    elif layer.kind == MAX_POOL or layer.kind == AVG_POOL:
        pool.backward_rows(layer, previous, first, rows)
    else:
        norm.backward(layer, previous, first, rows, thread)
    backward_dropout(previous, first, rows)
    if previous.kind == RECURRENT:
        recurrent.backward_steps(previous, first, rows, False)
    else:
        backward_activation(previous, first, rows)


cdef inline void begin_backward(const Layer* last, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Run backpropagation through time in the output layer if it is recurrent; others need no preparation.
    if last.kind == RECURRENT:
        recurrent.backward_steps(last, first, rows, True)


cdef inline void backward_group(const Layer* layer, const Layer* previous, Py_ssize_t first, Py_ssize_t high,
                                int thread) noexcept nogil:
    # Compute the deltas of the previous layer, and the gradient of a convolution, for one group of images. The images
    # of this thread end before row `high`.
    cdef Py_ssize_t rows = smaller(VL, high - first)
    if layer.kind == CONV2D and not layer.frozen:
        conv.fill_slot(layer, first, high, thread)
    if previous.D is NULL:
        return
    if layer.kind == CONV2D:
        conv.backward(layer, previous, first, thread)
    elif layer.kind == FLATTEN:
        images.flatten_backward(layer, previous, first, rows, thread)
    elif layer.kind == BATCH_NORM:
        norm.backward(layer, previous, first, rows, thread)
    elif previous.fused_height > 0:  # the convolution below runs the backward pass of the pool that is fused into it
        return
    else:
        pool.backward(layer, previous, first, thread)
    images.backward_activation_group(previous, first, thread)


cdef inline void input_backward(const Layer* lowest, Py_ssize_t first, Py_ssize_t rows, int thread,
                                real* out) noexcept nogil:
    # Write the derivative of the loss with respect to the inputs of the lowest layer to out (rows, n_in), for `rows`
    # rows from row `first` of the block on. Images are processed one group per call.
    if lowest.kind == DENSE:
        dense.input_backward(lowest, first, rows, out)
    elif lowest.kind == SCALE:
        scaling.input_backward(lowest, first, rows, out)
    elif lowest.kind == RECURRENT:
        recurrent.input_backward(lowest, first, rows, out, lowest.n_in)
    else:
        images.input_backward(lowest, first, rows, thread, out)


cdef inline void gradient(const Layer* layer, const real** X, Layout layout, Py_ssize_t rows, Py_ssize_t low,
                          Py_ssize_t high, real* out, real scale, bint add, bint* broken,
                          PrefetchQueue* queue) noexcept nogil:
    # Compute rows low <= k < high of the layer's gradient over the block; row layer.rows is the gradient of the bias.
    # With `add`, compute out += scale * gradient instead. If `broken` is not NULL, `out` holds parameters: elements
    # that would become infinite or NaN keep their values, and *broken is set.
    if layer.kind == DENSE:
        dense.gradient(layer, X, layout, rows, low, high, out, scale, add, broken, queue)
    elif layer.kind == CONV2D:
        conv.gradient(layer, rows, low, high, out, scale, add, broken)
    elif layer.kind == BATCH_NORM:
        norm.gradient(layer, low, high, out, scale, add, broken)
    elif layer.kind == SCALE:
        scaling.gradient(layer, X, rows, low, high, out, scale, add, broken)
    elif layer.kind == RECURRENT:         # `scale` is 1, because the gradient of each block is stored
        recurrent.gradient(layer, rows, low, high, out, add)


cdef inline void transpose_element(const Layer* layer, Py_ssize_t k, Py_ssize_t j) noexcept nogil:
    # Update the transposed weights WT from the element in row k and column j of W.
    if layer.kind == DENSE:
        dense.transposed(layer, k, j)[0] = layer.W[k * layer.parameter_ld + j]
    elif layer.kind == CONV2D:
        conv.transposed(layer, k, j)[0] = layer.W[k * layer.parameter_ld + j]
    elif layer.kind == RECURRENT:
        recurrent.transpose_element(layer, k, j)


cdef inline void refresh(const Layer* layer) noexcept nogil:
    # Update the transposed weights and the statistics after the parameters were changed outside of a step.
    if layer.WT is not NULL:
        transpose_rows(layer, 0, layer.rows)
    if layer.kind == BATCH_NORM and layer.use_running_stats:
        norm.load_running_statistics(layer)


cdef inline void update_running_statistics(Layer* layer) noexcept nogil:
    # Update the running statistics, which each step changes in addition to the parameters.
    if layer.kind == BATCH_NORM:
        norm.update_running_statistics(layer)


cdef inline void transpose_rows(const Layer* layer, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Update the transposed weights WT from rows low <= k < high of W.
    if layer.kind == DENSE:
        dense.transpose_rows(layer, low, high)
    elif layer.kind == RECURRENT:
        recurrent.transpose_rows(layer, low, high)
    else:
        conv.transpose_rows(layer, low, high)
