# The only file that knows all kinds of layers: what is asked of each, and whose answer it is. One comparison for a
# layer and a block of rows, outside of every loop. Layers of images are taken a group of images at a time, the dense
# ones above all rows at once.

from libc.stdint cimport uint64_t
from simd cimport VL, real
from arena cimport TRAIN, Arena, Purpose, take
from matmul cimport Ahead, Form
from threads cimport smaller
from layer cimport (BATCH_NORM, CONV2D, DENSE, FLATTEN, INPUT, MAX_POOL, SCALE, GRAIN, Layer, drop, padded, take_lanes,
                    take_rows, to_net_input)
cimport conv
cimport dense
cimport images
cimport norm
cimport pool
cimport scale as scaling


cdef inline void measure(Layer* layer, bint lowest) noexcept nogil:
    # How many rows W has and how long they are, which follows from what the plan says of the layer.
    if layer.kind == BATCH_NORM:
        layer.lanes = (layer - 1).lanes
    else:
        layer.lanes = layer.kind != DENSE and layer.kind != FLATTEN and layer.kind != SCALE
    if layer.kind == DENSE:
        dense.measure(layer, lowest)
    elif layer.kind == CONV2D:
        conv.measure(layer)
    elif layer.kind == BATCH_NORM:
        norm.measure(layer)
    elif layer.kind == SCALE:
        scaling.measure(layer)
    elif layer.kind == FLATTEN:
        layer.ld = padded(layer.n_out)


cdef inline bint fits(const Layer* layer) noexcept nogil:
    # Whether a layer of images gives what it says, and reads nothing beyond its images but the border that it makes.
    cdef Py_ssize_t y = (layer.out_shape.height - 1) * layer.stride_y     # where the last window begins
    cdef Py_ssize_t x = (layer.out_shape.width - 1) * layer.stride_x
    if layer.kind == INPUT:
        return (layer.below.width == layer.out_shape.width and layer.below.channels == layer.out_shape.channels and
                layer.n_in == layer.n_out)
    if layer.kind == FLATTEN or layer.kind == BATCH_NORM or layer.kind == SCALE:
        return layer.n_in == layer.n_out and (layer.kind == FLATTEN or layer.below.channels == layer.out_shape.channels)
    if smaller(smaller(layer.window_height, layer.window_width), smaller(layer.stride_y, layer.stride_x)) < 1:
        return False
    if layer.kind == CONV2D:
        return (0 <= layer.pad_y < layer.window_height and y - layer.pad_y < layer.below.height and
                0 <= layer.pad_x < layer.window_width and x - layer.pad_x < layer.below.width)
    return (layer.below.channels == layer.out_shape.channels and
            y + layer.window_height <= layer.below.height and x + layer.window_width <= layer.below.width)


cdef inline void take_outputs(Layer* layer, const Layer* above, Arena* arena, Py_ssize_t count, Py_ssize_t size,
                              bint keep_z, bint with_delta, bint lowest, int threads) noexcept nogil:
    # Room for what it gives for `count` rows, and perhaps for deltas; `size` numbers where they are rows. A pool, if
    # that is above, may take outputs as they come; it is NULL where all are wanted.
    if above is not NULL and conv.fuses(layer, above):
        conv.take_pooled(layer, arena, above.window_height, with_delta, lowest, threads)
    elif layer.lanes:
        take_lanes(layer, arena, count, keep_z, with_delta, threads)
    else:
        take_rows(layer, arena, count, size, keep_z, with_delta)


cdef inline void lay_out(Layer* layer, Arena* arena, bint lowest, Purpose purpose, Py_ssize_t block, bint running,
                         int threads) noexcept nogil:
    # What it takes beside the buffers that all kinds have; `running` statistics are taken in training, too.
    cdef Py_ssize_t grains = (block + GRAIN - 1) // GRAIN
    if layer.kind == DENSE:
        dense.lay_out(layer, arena, lowest, purpose, block)
    elif layer.kind == CONV2D:
        conv.lay_out(layer, arena, lowest, purpose, grains, threads)
    elif layer.kind == BATCH_NORM:
        norm.lay_out(layer, arena, block, purpose, running, threads)
    elif layer.kind == MAX_POOL and purpose == TRAIN:
        layer.kept = <real*>take(arena, grains * GRAIN * layer.n_out * sizeof(real))


cdef inline void forward(const Layer* layer, const real** X, Py_ssize_t first, Py_ssize_t rows, int thread,
                         real* scratch) noexcept nogil:
    # Z and A of a layer of rows for `rows` rows of the block from `first` on; X is where each row of the block begins.
    if layer.kind == DENSE:
        dense.forward(layer, X, first, rows, scratch)
    elif layer.kind == SCALE:
        scaling.forward(layer, X, first, rows)
    else:
        norm.forward(layer, first, rows, thread)


cdef inline void forward_group(const Layer* layer, const real** X, Py_ssize_t first, Py_ssize_t rows,
                               int thread) noexcept nogil:
    # The same of a layer of images, for a group of them.
    if layer.kind == CONV2D:
        conv.forward(layer, first, thread)
    elif layer.kind == INPUT:
        images.input_forward(layer, X, first, rows)
    elif layer.kind == FLATTEN:
        images.flatten_forward(layer, first, rows)
    elif layer.kind == BATCH_NORM:
        norm.forward(layer, first, rows, thread)
    elif (layer - 1).pooled == 0:             # else the layer below has done it
        pool.forward(layer, first)


cdef inline void drop_outputs(const Layer* layer, uint64_t key, Py_ssize_t place, Py_ssize_t first, Py_ssize_t rows,
                              real* scratch) noexcept nogil:
    # Drops outputs of so many rows; `place` is where the block begins in the batch.
    if layer.lanes:
        images.drop_group(layer, key, place, first, rows, scratch)
    else:
        drop(layer, key, place, first, rows)


cdef inline void backward(const Layer* layer, const Layer* below, Py_ssize_t first, Py_ssize_t rows,
                          int thread) noexcept nogil:
    # D of what lies below a layer of rows.
    if layer.kind == DENSE:
        dense.backward(layer, below, first, rows)
    elif layer.kind == SCALE:
        scaling.backward(layer, below, first, rows)
    else:
        norm.backward(layer, below, first, rows, thread)
    to_net_input(below, first, rows)


cdef inline void backward_group(const Layer* layer, const Layer* below, Py_ssize_t first, Py_ssize_t high,
                                int thread) noexcept nogil:
    # The same below a layer of images, for a group of the thread's images, which end before row `high`, and its part of
    # the gradient.
    cdef Py_ssize_t rows = smaller(VL, high - first)
    if layer.kind == CONV2D and not layer.frozen:
        conv.fill_slot(layer, first, high, thread)
    if below.D is NULL:
        return
    if layer.kind == CONV2D:
        conv.backward(layer, below, first, thread)
    elif layer.kind == FLATTEN:
        images.flatten_backward(layer, below, first, rows, thread)
    elif layer.kind == BATCH_NORM:
        norm.backward(layer, below, first, rows, thread)
    elif below.pooled > 0:                    # the layer below will do it
        return
    else:
        pool.backward(layer, below, first, thread)
    images.group_to_net_input(below, first, thread)


cdef inline void input_backward(const Layer* lowest, Py_ssize_t first, Py_ssize_t rows, int thread,
                                real* out) noexcept nogil:
    # The derivative by the inputs of `rows` rows of the block from `first` on, of images a group of them, into out
    # (rows, n_in).
    if lowest.kind == DENSE:
        dense.input_backward(lowest, first, rows, out)
    elif lowest.kind == SCALE:
        scaling.input_backward(lowest, first, rows, out)
    else:
        images.input_backward(lowest, first, rows, thread, out)


cdef inline void gradient(const Layer* layer, const real** X, Form form, Py_ssize_t rows, Py_ssize_t low,
                          Py_ssize_t high, real* out, real scale, bint add, bint* broken, Ahead* ahead) noexcept nogil:
    # out = rows low <= k < high of the gradient over the block, the bias being the last one, or out += scale * them.
    # Where `broken` is not NULL, out are parameters: those that would not be finite keep their values, and it is set.
    if layer.kind == DENSE:
        dense.gradient(layer, X, form, rows, low, high, out, scale, add, broken, ahead)
    elif layer.kind == CONV2D:
        conv.gradient(layer, rows, low, high, out, scale, add, broken)
    elif layer.kind == BATCH_NORM:
        norm.gradient(layer, low, high, out, scale, add, broken)
    elif layer.kind == SCALE:
        scaling.gradient(layer, X, rows, low, high, out, scale, add, broken)


cdef inline real* transposed(const Layer* layer, Py_ssize_t k, Py_ssize_t j) noexcept nogil:
    # Where WT has the element of row k and column j of W.
    return dense.transposed(layer, k, j) if layer.kind == DENSE else conv.transposed(layer, k, j)


cdef inline void refresh(const Layer* layer) noexcept nogil:
    # Brings what is computed from parameters up to date with those that were changed elsewhere.
    if layer.WT is not NULL:
        transpose_rows(layer, 0, layer.rows)
    if layer.kind == BATCH_NORM and layer.running:
        norm.settle(layer)


cdef inline void run_on(Layer* layer) noexcept nogil:
    # What a step moves beside the parameters.
    if layer.kind == BATCH_NORM:
        norm.run_on(layer)


cdef inline void transpose_rows(const Layer* layer, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Brings WT up to date with rows low <= k < high of W.
    if layer.kind == DENSE:
        dense.transpose_rows(layer, low, high)
    else:
        conv.transpose_rows(layer, low, high)
