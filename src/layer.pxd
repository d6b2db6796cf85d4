# What all kinds of layers have in common: a row of numbers comes in and another one goes out, and the parameters are
# rows of padded length, perhaps with a row of biases after them.

from libc.stdint cimport uint64_t
from simd cimport LINE, real, VL, load, store
from arena cimport Arena, take
from activations cimport differentiate
from dropout cimport mask_row
from optimizers cimport Own
from threads cimport share

cdef enum:
    GRAIN = 16            # threads share rows in multiples of this: a multiple of every vector's length
    SMALL_GRAIN = 4       # the same for whole blocks, and for rows of W without WT, of which there may be few
    HALF_PAGE = 2048      # bytes

cdef enum Kind:           # the numbers are the order of KINDS in nnc/layers
    DENSE
    CONV2D
    MAX_POOL
    AVG_POOL
    FLATTEN
    INPUT                 # of images: from rows into lanes
    BATCH_NORM            # of rows, or of images
    SCALE                 # of rows

cdef struct Shape:        # of an image
    Py_ssize_t height
    Py_ssize_t width
    Py_ssize_t channels

cdef struct Layer:
    int kind
    int activation
    Py_ssize_t n_in       # numbers in a row that comes in, and in one that goes out
    Py_ssize_t n_out
    Py_ssize_t ld         # n_out padded (CONV2D: neurons), the stride of rows of W, Z, A, D; padding of W and D is zero
    Py_ssize_t rows       # of W: n_in of a dense layer, 1 of a BATCH_NORM or SCALE; 0 of a layer without parameters
    Py_ssize_t neurons    # columns of W: n_out of a dense layer, the filters of a CONV2D, the channels of a BATCH_NORM
    bint lanes            # the output is VL images of n_out numbers, one in each lane, without padding (images.pxd)
    Shape below           # of an image that comes in, and of one that goes out
    Shape out_shape
    Py_ssize_t window_height
    Py_ssize_t window_width
    Py_ssize_t stride_y
    Py_ssize_t stride_x
    Py_ssize_t pad_y      # rows of zeros above the image, columns of them to its left
    Py_ssize_t pad_x
    bint bias
    bint narrow           # dense with few outputs and whole vectors of inputs: vectors run along the inputs
    bint to_images        # dense above a FLATTEN without dropout: writes deltas as images into D of the FLATTEN
    real* W               # (rows, ld), then b (ld) if there is a bias, then running mean and variance of a BATCH_NORM
    real* gradient        # the same layout as W; NULL: the optimizer takes it strip by strip
    real* m               # the optimizer's moments, the same layout
    real* v
    real* WT              # (n_out, ldt) W transposed, n_in padded, for the backward product and for narrow layers
    Py_ssize_t ldt
    real* Z               # (rows of the block, ld) net input: the same memory as A unless the derivative needs both
    real* A               # (rows of the block, ld) output
    real* D               # (rows of the block, ld) d loss / d Z; of images one group for each thread; or NULL
    real* log_sum         # (rows of the block) log(sum(exp(Z))) of a softmax output whose loss asks for it; else NULL
    double dropped        # the share of its outputs that training drops at random
    real* mask            # (rows of the block, ld) 0 for a dropped output, else 1 / (1 - dropped); NULL without dropout
    real* out             # (rows of the block, ld) what the layer above reads: A, or A times the mask
    const real** outs     # (rows of the block) where each row of `out` begins, and each of D
    const real** deltas
    Py_ssize_t group      # numbers of D that a thread has, of images
    Py_ssize_t pooled     # window height of the max-pool fused into this convolution, or 0
    const real* input     # of a layer of images, and of a BATCH_NORM: `out` of the layer below
    real* kept            # of a MAX_POOL: which of a window was the largest, laid out as A
    real* bordered        # of a CONV2D, for each thread: some rows of images with a border of zeros, or NULL
    real* planes          # the same by channels, for the gradient if the stride of pixels is a power of two, or NULL
    real* spread          # the deltas as the backward product reads them; of a dense layer where that gives images
    real* sums            # the gradient, image by image
    real* panels          # some rows of deltas of some filters
    real* slots           # (grains of the block, parameters) the gradient of each grain of rows
    double momentum       # of a BATCH_NORM
    double eps
    real* statistics      # (STATISTICS of norm.pxd, ld) for each thread
    real* chunks          # (chunks of rows, 4, ld) what they leave for it, where there is a backward pass
    bint running          # whether it takes the running mean and variance, which the first thread has for all
    bint frozen           # in a run: it does not learn, and what lies below all that learn needs no deltas
    Own* own              # where it learns otherwise than the run says; else NULL
    bint broken           # a step would have made parameters infinite or NaN: these have kept their values


cdef inline Py_ssize_t padded(Py_ssize_t n) noexcept nogil:
    # Whole vectors; and one line more of the cache than so many that all rows would lie in few of its sets.
    cdef Py_ssize_t length = (n + VL - 1) // VL * VL
    return length + LINE if length * <Py_ssize_t>sizeof(real) % HALF_PAGE == 0 else length


cdef inline Py_ssize_t whole_groups(Py_ssize_t rows) noexcept nogil:
    # So many rows, and those that are missing for whole groups of images.
    return (rows + VL - 1) // VL * VL


cdef inline Py_ssize_t parameter_rows(const Layer* layer) noexcept nogil:
    # Those of W, and the bias.
    return layer.rows + layer.bias


cdef inline Py_ssize_t parameter_count(const Layer* layer) noexcept nogil:
    # Padding included, and what stands behind the parameters and no optimizer moves.
    return (parameter_rows(layer) + 2 * (layer.kind == BATCH_NORM)) * layer.ld


cdef inline real* biases(const Layer* layer) noexcept nogil:
    return layer.W + layer.rows * layer.ld if layer.bias else NULL


cdef inline real* running_mean(const Layer* layer) noexcept nogil:
    return layer.W + 2 * layer.ld


cdef inline real* running_variance(const Layer* layer) noexcept nogil:
    return layer.W + 3 * layer.ld


cdef inline bint is_spared(const Layer* layer, Py_ssize_t k) noexcept nogil:
    # Whether penalties pass row k of the parameters over: biases, and those of a BATCH_NORM or a SCALE, which keep no
    # outputs small.
    return k == layer.rows or layer.kind == BATCH_NORM or layer.kind == SCALE


cdef inline Py_ssize_t grain_of(const Layer* layer) noexcept nogil:
    return SMALL_GRAIN if layer.WT is NULL else GRAIN


cdef inline Py_ssize_t first_row(const Layer* layer, int thread, int threads) noexcept nogil:
    # Of the thread's share of the rows of W, the bias being the last one.
    return share(layer.rows, thread, threads, grain_of(layer))


cdef inline Py_ssize_t last_row(const Layer* layer, int thread, int threads) noexcept nogil:
    cdef Py_ssize_t last = share(layer.rows, thread + 1, threads, grain_of(layer))
    return last + layer.bias if thread == threads - 1 else last


cdef inline void list_rows(const real** rows, const real* first, Py_ssize_t ld, Py_ssize_t count) noexcept nogil:
    # Where each of so many rows begins, of a matrix whose rows are `ld` apart.
    cdef Py_ssize_t i
    for i in range(count):
        rows[i] = first + i * ld


cdef inline void take_lanes(Layer* layer, Arena* arena, Py_ssize_t count, bint keep_z, bint with_delta,
                            int threads) noexcept nogil:
    # The same of images.
    cdef size_t group = VL * layer.n_out * sizeof(real), numbers = whole_groups(count) * layer.n_out * sizeof(real)
    layer.A = <real*>take(arena, numbers)
    layer.Z = <real*>take(arena, numbers) if keep_z else layer.A
    layer.D = <real*>take(arena, numbers if layer.kind == BATCH_NORM else threads * group) if with_delta else NULL
    layer.group = VL * layer.n_out
    layer.mask = <real*>take(arena, numbers) if layer.dropped > 0 else NULL
    layer.out = <real*>take(arena, numbers) if layer.dropped > 0 else layer.A
    layer.outs, layer.deltas = NULL, NULL


cdef inline void take_rows(Layer* layer, Arena* arena, Py_ssize_t count, Py_ssize_t size, bint keep_z,
                           bint with_delta) noexcept nogil:
    # Room for the outputs, and perhaps net inputs and deltas, of `count` rows: `size` numbers each.
    cdef size_t numbers = size * sizeof(real), pointers = count * sizeof(real*)
    layer.A = <real*>take(arena, numbers)
    layer.Z = <real*>take(arena, numbers) if keep_z else layer.A
    layer.D = <real*>take(arena, numbers) if with_delta else NULL
    layer.mask = <real*>take(arena, numbers) if layer.dropped > 0 else NULL
    layer.out = <real*>take(arena, numbers) if layer.dropped > 0 else layer.A
    layer.outs = <const real**>take(arena, pointers)
    layer.deltas = <const real**>take(arena, pointers) if with_delta else NULL
    if arena.base:
        list_rows(layer.outs, layer.out, layer.ld, count)
        if with_delta:
            list_rows(layer.deltas, layer.D, layer.ld, count)


cdef inline void drop(const Layer* layer, uint64_t key, Py_ssize_t place, Py_ssize_t first,
                      Py_ssize_t rows) noexcept nogil:
    # Drops outputs of `rows` rows of the block from `first` on; `place` is where the block begins in the batch.
    cdef Py_ssize_t i, j
    for i in range(first, first + rows):
        mask_row(key, place + i, layer.dropped, layer.mask + i * layer.ld, layer.ld)
        for j from i * layer.ld <= j < (i + 1) * layer.ld by VL:
            store(layer.out + j, load(layer.A + j) * load(layer.mask + j))


cdef inline void to_net_input(const Layer* layer, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # D, so far the derivative by what the layer above reads, becomes that by Z.
    cdef Py_ssize_t i, start = first * layer.ld
    if layer.mask is not NULL:
        for i from start <= i < start + rows * layer.ld by VL:
            store(layer.D + i, load(layer.D + i) * load(layer.mask + i))
    differentiate(layer.activation, layer.Z + start, layer.A + start, layer.D + start, rows * layer.ld)
