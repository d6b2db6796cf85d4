# The struct Layer, which all kinds of layers share. A layer maps a row of n_in numbers to a row of n_out numbers. Its
# parameters are rows of padded length: W, then perhaps the bias b.

from libc.stdint cimport uint64_t
from simd cimport LINE_REALS, real, VL, load, store
from arena cimport Arena, allocate
from activations cimport differentiate
from dropout cimport mask_row
from optimizers cimport ParamGroup
from threads cimport share_start

cdef enum:
    GRAIN = 16            # rows are split among threads in multiples of this number, which is a multiple of VL
    SMALL_GRAIN = 4       # like GRAIN, for whole blocks per thread and for the rows of W in layers without WT
    HALF_PAGE_BYTES = 2048  # row lengths that are a multiple of this many bytes are avoided

cdef enum Kind:           # numbered in the order of KINDS in nnc/layers
    DENSE
    CONV2D
    MAX_POOL
    AVG_POOL
    FLATTEN
    INPUT                 # first layer of a network of images: converts rows to lanes
    BATCH_NORM            # batch normalization of rows or images
    SCALE                 # scaling of rows

cdef struct Shape:        # shape of an image, in pixels
    Py_ssize_t height
    Py_ssize_t width
    Py_ssize_t channels

cdef struct Layer:
    int kind              # kind of the layer (enum Kind)
    int activation        # activation function (enum Activation)
    Py_ssize_t n_in       # numbers per row of inputs and of outputs
    Py_ssize_t n_out
    Py_ssize_t ld  # row length of W, Z, A and D: n_out padded (CONV2D: neurons padded); the padding of W and D is zero
    Py_ssize_t rows       # rows of W: n_in of a dense layer, 1 of BATCH_NORM and SCALE, 0 without parameters
    Py_ssize_t neurons    # columns of W: n_out of a dense layer, filters of a CONV2D, channels of a BATCH_NORM
    # outputs are groups of VL images, one image per lane, n_out vectors per group, without padding (images.pxd)
    bint in_lanes
    Shape in_shape        # shape of an input image and of an output image
    Shape out_shape
    Py_ssize_t window_height  # size of the window of a convolution or pool, in pixels
    Py_ssize_t window_width
    Py_ssize_t stride_y   # distance of neighboring windows, in pixels
    Py_ssize_t stride_x
    Py_ssize_t pad_y      # rows of zeros above the image, and columns of zeros to its left
    Py_ssize_t pad_x
    bint bias             # the layer has a bias
    bint narrow           # dense with few outputs and many inputs: vectors run along the inputs
    # dense, above a FLATTEN without dropout: writes deltas in lanes directly into D of the FLATTEN
    bint deltas_in_lanes
    # (rows, ld), then b (ld) if there is a bias, then running mean and variance of a BATCH_NORM; owned by the caller
    real* W
    real* gradient        # same layout as W; NULL: the optimizer consumes the gradient strip by strip
    real* m               # first and second moment of the optimizer, same layout as W
    real* v
    real* WT              # (n_out, ldt) transpose of W, for the backward product and for narrow layers; or NULL
    Py_ssize_t ldt        # row length of WT: n_in, padded
    real* Z               # (rows of the block, ld) net inputs; the same memory as A unless the derivative needs both
    real* A               # (rows of the block, ld) activations
    real* D               # (rows of the block, ld) deltas d loss / d Z, for images one group per thread; or NULL
    real* log_sum         # (rows of the block) log(sum(exp(Z))) of a softmax output with cross-entropy, else NULL
    double dropout_rate   # probability that training sets an output to zero
    real* mask  # (rows of the block, ld) 0 for a dropped output, else 1 / (1 - dropout_rate); NULL without dropout
    real* out             # (rows of the block, ld) inputs of the next layer: A, or A times the mask
    const real** out_rows  # (rows of the block) pointers to the rows of `out` and of D
    const real** delta_rows
    Py_ssize_t group_reals  # numbers of D per thread, for images
    Py_ssize_t fused_height  # window height of the max-pool fused into this convolution, or 0
    const real* input     # inputs of a layer of images or of a BATCH_NORM: `out` of the previous layer
    real* argmax          # index of the maximum in each window of a MAX_POOL, same layout as A; NULL unless training
    # CONV2D: some rows of the images with zero padding, per thread, or NULL; in pixels.pxd one padded image
    real* padded_input
    # CONV2D: padded images, one plane per channel, if the distance of pixels is a power of two; or NULL
    real* channel_planes
    real* delta_copy      # copy of the deltas in the layout that the backward product reads, per thread
    real* sums            # CONV2D: gradient of each lane, per thread; pixels.pxd: copies of windows
    real* panels          # CONV2D: contiguous copies of the deltas of some filters, per thread
    real* slots           # (grains of the block, parameters) gradient of each grain of rows
    double momentum       # BATCH_NORM: weight of the batch in the running statistics
    double eps            # BATCH_NORM: added to the variance
    real* statistics      # (threads, STATISTIC_COUNT of norm.pxd, ld) statistics of a BATCH_NORM
    real* chunk_sums      # (chunks of rows, 4, ld) partial sums of the chunks, only for training
    bint use_running_stats  # BATCH_NORM: uses running statistics, which all threads share
    bint frozen  # parameters do not change in this run; no deltas are computed below the lowest trainable layer
    # learning rate factors of this layer, or NULL if it has those of the run; owned by the Training
    ParamGroup* param_group
    bint broken           # a step would have made parameters infinite or NaN; these have kept their values


cdef inline Py_ssize_t padded(Py_ssize_t n) noexcept nogil:
    # Return the row length for n numbers: whole vectors, plus one cache line if it would be a multiple of
    # HALF_PAGE_BYTES. Otherwise all rows would compete for few sets of the cache.
    cdef Py_ssize_t length = (n + VL - 1) // VL * VL
    return length + LINE_REALS if length * <Py_ssize_t>sizeof(real) % HALF_PAGE_BYTES == 0 else length


cdef inline Py_ssize_t round_up_to_groups(Py_ssize_t rows) noexcept nogil:
    # Return the number of rows rounded up to whole groups of VL images.
    return (rows + VL - 1) // VL * VL


cdef inline Py_ssize_t parameter_rows(const Layer* layer) noexcept nogil:
    # Return the number of parameter rows: those of W and the bias.
    return layer.rows + layer.bias


cdef inline Py_ssize_t parameter_count(const Layer* layer) noexcept nogil:
    # Return how many numbers of the parameter vector belong to this layer, with padding and running statistics.
    return (parameter_rows(layer) + 2 * (layer.kind == BATCH_NORM)) * layer.ld


cdef inline real* biases(const Layer* layer) noexcept nogil:
    # Return the bias b, or NULL if the layer has none.
    return layer.W + layer.rows * layer.ld if layer.bias else NULL


cdef inline real* running_mean(const Layer* layer) noexcept nogil:
    # Return the running mean of a BATCH_NORM.
    return layer.W + 2 * layer.ld


cdef inline real* running_variance(const Layer* layer) noexcept nogil:
    # Return the running variance of a BATCH_NORM.
    return layer.W + 3 * layer.ld


cdef inline bint is_penalty_exempt(const Layer* layer, Py_ssize_t k) noexcept nogil:
    # Return whether penalties skip row k of the parameters: biases, and parameters of BATCH_NORM and SCALE, whose size
    # does not limit the outputs.
    return k == layer.rows or layer.kind == BATCH_NORM or layer.kind == SCALE


cdef inline Py_ssize_t row_grain(const Layer* layer) noexcept nogil:
    # Return the granularity in which threads divide the rows of W.
    return SMALL_GRAIN if layer.WT is NULL else GRAIN


cdef inline Py_ssize_t first_row(const Layer* layer, int thread, int threads) noexcept nogil:
    # Return the first of the thread's share of parameter rows.
    return share_start(layer.rows, thread, threads, row_grain(layer))


cdef inline Py_ssize_t end_row(const Layer* layer, int thread, int threads) noexcept nogil:
    # Return the end of the thread's share of parameter rows. The bias, the last row, belongs to the last thread.
    cdef Py_ssize_t last = share_start(layer.rows, thread + 1, threads, row_grain(layer))
    return last + layer.bias if thread == threads - 1 else last


cdef inline void set_row_pointers(const real** rows, const real* first, Py_ssize_t ld, Py_ssize_t count) noexcept nogil:
    # Write pointers to `count` rows of a matrix whose rows are ld numbers apart.
    cdef Py_ssize_t i
    for i in range(count):
        rows[i] = first + i * ld


cdef inline void allocate_lane_outputs(Layer* layer, Arena* arena, Py_ssize_t count, bint keep_z, bint with_delta,
                                       int threads) noexcept nogil:
    # Allocate outputs of images in lanes for `count` rows: A, and optionally separate net inputs Z and deltas D.
    cdef size_t group = VL * layer.n_out * sizeof(real)
    cdef size_t numbers = round_up_to_groups(count) * layer.n_out * sizeof(real)
    layer.A = <real*>allocate(arena, numbers)
    layer.Z = <real*>allocate(arena, numbers) if keep_z else layer.A
    layer.D = <real*>allocate(arena, numbers if layer.kind == BATCH_NORM else threads * group) if with_delta else NULL
    layer.group_reals = VL * layer.n_out
    layer.mask = <real*>allocate(arena, numbers) if layer.dropout_rate > 0 else NULL
    layer.out = <real*>allocate(arena, numbers) if layer.dropout_rate > 0 else layer.A
    layer.out_rows, layer.delta_rows = NULL, NULL


cdef inline void allocate_row_outputs(Layer* layer, Arena* arena, Py_ssize_t count, Py_ssize_t size, bint keep_z,
                                      bint with_delta) noexcept nogil:
    # Allocate outputs of rows for `count` rows, `size` numbers in total: A, and optionally separate net inputs Z and
    # deltas D.
    cdef size_t numbers = size * sizeof(real), pointers = count * sizeof(real*)
    layer.A = <real*>allocate(arena, numbers)
    layer.Z = <real*>allocate(arena, numbers) if keep_z else layer.A
    layer.D = <real*>allocate(arena, numbers) if with_delta else NULL
    layer.mask = <real*>allocate(arena, numbers) if layer.dropout_rate > 0 else NULL
    layer.out = <real*>allocate(arena, numbers) if layer.dropout_rate > 0 else layer.A
    layer.out_rows = <const real**>allocate(arena, pointers)
    layer.delta_rows = <const real**>allocate(arena, pointers) if with_delta else NULL
    if arena.base:
        set_row_pointers(layer.out_rows, layer.out, layer.ld, count)
        if with_delta:
            set_row_pointers(layer.delta_rows, layer.D, layer.ld, count)


cdef inline void drop(const Layer* layer, uint64_t key, Py_ssize_t block_start, Py_ssize_t first,
                      Py_ssize_t rows) noexcept nogil:
    # Draw dropout masks and write `out` for rows first <= i < first + rows of the block, which starts at row
    # block_start of the batch.
    cdef Py_ssize_t i, j
    for i in range(first, first + rows):
        mask_row(key, block_start + i, layer.dropout_rate, layer.mask + i * layer.ld, layer.ld)
        for j from i * layer.ld <= j < (i + 1) * layer.ld by VL:
            store(layer.out + j, load(layer.A + j) * load(layer.mask + j))


cdef inline void backward_activation(const Layer* layer, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Convert D from d loss / d out to d loss / d Z: apply the dropout mask and the derivative of the activation.
    cdef Py_ssize_t i, start = first * layer.ld
    if layer.mask is not NULL:
        for i from start <= i < start + rows * layer.ld by VL:
            store(layer.D + i, load(layer.D + i) * load(layer.mask + i))
    differentiate(layer.activation, layer.Z + start, layer.A + start, layer.D + start, rows * layer.ld)
