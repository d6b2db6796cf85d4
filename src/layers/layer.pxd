# The struct Layer, which all kinds of layers share. A layer maps a row of n_in numbers to a row of n_out numbers. Its
# parameters are stored as padded rows: first those of the weight matrix W, then the bias b if the layer has one.

from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from simd cimport LINE_REALS, real, VL, load, store
from arena cimport Arena, allocate
from activations cimport differentiate
from dropout cimport mask_row
from optimizers cimport ParamGroup
from threads cimport share_start

cdef enum:
    GRAIN = 16  # each thread's number of rows is a multiple of this, which is a multiple of the vector length VL
    # If a layer has no transposed weights, each thread's number of rows of W is a multiple of SMALL_GRAIN, otherwise of
    # GRAIN. If each thread processes whole blocks, the number of rows in a block is a multiple of SMALL_GRAIN.
    SMALL_GRAIN = 4
    # rows whose length is a multiple of this many bytes get padding, because they would share few sets of the cache
    HALF_PAGE_BYTES = 2048

cdef enum Kind:           # The order of the kinds is that of KINDS in nnc/layers.
    DENSE
    CONV2D
    MAX_POOL
    AVG_POOL
    FLATTEN
    INPUT                 # first layer of an image network: stores each image in one lane of the vectors
    BATCH_NORM            # batch normalization, of rows of a table or of images
    SCALE                 # multiplication of each input column by a trainable factor
    RECURRENT             # recurrent layer, or a dense layer that is applied to each step of a sequence

cdef enum Cell:           # Cell type of a RECURRENT layer. The order of the values is that of CELLS in nnc/layers.
    SIMPLE_RNN
    GRU
    LSTM
    DENSE_STEPS           # no recurrence: a dense layer that is applied to each step


cdef inline bint has_windows(int kind) noexcept nogil:
    # Return whether each output depends on a window of the inputs.
    return kind == CONV2D or kind == MAX_POOL or kind == AVG_POOL


cdef inline bint is_columnwise(int kind) noexcept nogil:
    # Return whether each column or channel of the outputs depends only on that of the inputs; W has one row.
    return kind == SCALE or kind == BATCH_NORM


# Shape of an image: height and width in pixels, and number of channels. The shape of a sequence has height 1, and its
# width is the number of steps.
cdef struct Shape:
    Py_ssize_t height
    Py_ssize_t width
    Py_ssize_t channels

# Buffers of one direction of a RECURRENT layer for a block of rows. A pair is one step of one row (recurrent.pxd).
cdef struct SequenceBuffers:
    Py_ssize_t rows       # maximum number of rows in the block
    # net inputs of the gates (pairs, numbers of a step); replaced by the gates in the forward pass, and by the
    # derivatives of the loss with respect to the net inputs in the backward pass
    real* gates
    real* hidden          # state h before the first step of each row, then after each pair (rows + pairs, padded units)
    real* cell            # cell state of an LSTM, in the layout of `hidden`; else NULL
    real* cell_tanh       # LSTM: tanh of the cell state after each pair (pairs, padded units); else NULL
    const real** inputs   # pointers to the inputs of each pair
    real* mask            # dropout mask of the inputs, the same for all steps (rows, inputs); NULL without dropout
    real* masked_inputs   # inputs times the mask (pairs, inputs); NULL without dropout
    const real** hidden_rows  # pointers to the states before each pair
    const real** gate_rows  # pointers to the gates of each pair
    real* delta           # derivative of the loss with respect to the state of one step (rows, padded units)
    # derivative of the loss that reaches the previous step without a matrix product: with respect to the state of a
    # GRU, or to the cell state of an LSTM (rows, padded units)
    real* carry
    real* input_delta     # derivative of the loss with respect to the inputs of one step (rows, padded inputs)
    # derivatives of the loss with respect to the states after all pairs (pairs, padded units), which the next layer
    # writes; NULL if the next layer writes them to D
    real* state_deltas
    real* strip           # workspace for the gradient of some parameter rows, where each gate is padded

# Rows that are chunks of longer sequences, for truncated backpropagation through time.
cdef struct Chunks:
    const int* sequences  # index i of the sequence of each row of the data; -1 - i for the first chunk of a sequence
    # states of all recurrent layers at the start of the next chunk of each sequence (sequences, state_reals)
    real* states
    Py_ssize_t state_reals  # number of elements of the states of a sequence
    Py_ssize_t stride     # number of steps from the start of a chunk to the start of the next one
    Py_ssize_t warm_up    # number of steps at the start of each chunk that do not count in the loss

# The fields that each kind of layer has come first, so that a training step with a single row reads few cache lines.
cdef struct Layer:
    int kind              # kind of the layer, a value of the enum Kind
    int activation        # activation function, a value of the enum Activation
    Py_ssize_t n_in       # n_in, n_out: number of inputs and number of outputs per row
    Py_ssize_t n_out
    # row length of Z, A and D: n_out (CONV2D: number of filters) plus padding, which is zero in D
    Py_ssize_t ld
    Py_ssize_t parameter_ld  # row length of the parameters: `neurons` plus padding, which is zero
    # number of rows of W: n_in for DENSE, 1 for columnwise layers, 0 for layers without parameters; RECURRENT:
    # number of inputs per step, plus the units of one direction
    Py_ssize_t rows
    # number of columns of W: n_out for DENSE, filters for CONV2D, channels for BATCH_NORM, gates x units for RECURRENT
    Py_ssize_t neurons
    int bias              # number of rows of biases: 1, or 2 for a GRU; 0 without biases
    # the outputs are groups of VL images, with one image per vector lane and n_out vectors per group (images.pxd)
    bint in_lanes
    bint narrow           # dense layer with few outputs and many inputs, whose vectors hold inputs instead of outputs
    # dense layer above a FLATTEN without dropout: its backward pass writes deltas in the image layout of FLATTEN
    bint deltas_in_lanes
    bint frozen  # the parameters do not change in this run; deltas are computed only down to the lowest trainable layer
    bint broken           # a step would have made parameters infinite or NaN; they were left unchanged
    # parameters in padded rows, owned by the caller: the rows of W, the bias if there is one, and the running mean and
    # running variance of a BATCH_NORM
    real* W
    real* Z  # net inputs in padded rows; shares the memory of A unless net inputs and activations are both needed
    real* A               # activations in padded rows, one for each row of the block
    real* D  # deltas d loss / d Z in padded rows, or NULL; image layers store the deltas of one group per thread
    const real** out_rows  # out_rows, delta_rows: pointers to the rows of `out`, and to the rows of D
    const real** delta_rows
    # transposed weights with row length ldt, for the backward pass and for narrow layers; or NULL. RECURRENT: copies
    # with padded gates, and their transposes (recurrent.pxd)
    real* WT
    Py_ssize_t ldt        # row length of WT: n_in (CONV2D, RECURRENT: number of input channels) plus padding
    # gradient in the layout of W; NULL if the whole gradient is never stored, because the optimizer takes the step for
    # each strip of rows as soon as the gradient of the strip is computed
    real* gradient
    real* m               # m, v: first and second moment of the optimizer, in the layout of W
    real* v
    # learning rate factors of this layer, owned by the Training; NULL if the layer uses the rates of the run
    ParamGroup* param_group
    double dropout_rate   # probability that dropout sets an output to zero in training
    real* mask  # dropout mask in padded rows: each element is 0 or 1 / (1 - dropout_rate); NULL without dropout
    real* out             # inputs of the next layer in padded rows: A, or A times the dropout mask
    real* log_sum  # log(sum(exp(Z))) of each row and step, for a softmax output with cross-entropy; else NULL
    const real* input     # inputs of an image layer or a BATCH_NORM: the `out` of the previous layer
    Shape in_shape        # in_shape, out_shape: shape of an input image, and of an output image
    Shape out_shape
    Py_ssize_t window_height  # window_height, window_width: window size of a convolution or pool, in pixels
    Py_ssize_t window_width
    Py_ssize_t stride_y   # stride_y, stride_x: distance between neighboring windows, in pixels
    Py_ssize_t stride_x
    Py_ssize_t pad_y      # pad_y, pad_x: number of rows of zeros above the image, and of columns of zeros to its left
    Py_ssize_t pad_x
    Py_ssize_t group_reals  # number of deltas that an image layer stores for one thread
    Py_ssize_t fused_height  # window height of the max-pool that is fused into this convolution, or 0
    real* argmax          # MAX_POOL: index of the maximum in each window, in the layout of A; NULL unless training
    # CONV2D: copy of some image rows with zero padding for each thread (in pixels.pxd: of one image), or NULL
    real* padded_input
    # CONV2D: padded images with a separate plane for each channel, used if neighboring pixels are a multiple of
    # CONFLICT_STRIDE_BYTES apart; or NULL
    real* channel_planes
    real* delta_copy  # copy of the deltas in the layout that the backward product reads; CONV2D: one per thread
    # CONV2D: buffer of each thread for the gradient, one sum per vector lane; in pixels.pxd: copies of windows
    real* sums
    real* panels          # CONV2D: buffer of each thread for contiguous copies of the deltas of some filters
    real* slots           # CONV2D: gradient over each grain of 16 rows (grains of the block, parameters)
    double momentum       # BATCH_NORM: weight of the current batch in the running statistics
    double eps  # BATCH_NORM: constant that is added to the variance, so that the standard deviation is not zero
    real* statistics      # BATCH_NORM: statistics of each thread, a padded row for each Statistic of norm.pxd
    real* chunk_sums      # BATCH_NORM: partial sums, four padded rows for each chunk of rows; only for training
    bint use_running_stats  # BATCH_NORM: normalize with the running statistics, which all threads share
    int cell              # RECURRENT: a value of the enum Cell
    int directions        # RECURRENT: number of directions, 2 if a second set of units processes the steps in reverse
    bint reverse          # RECURRENT: the first direction processes the steps in reverse order
    bint sequences        # RECURRENT: the outputs are those of all steps, not only of the last one
    double input_dropout_rate  # RECURRENT: probability that dropout sets an input to zero in training
    # sequences: number of output steps of each row of the block, in decreasing order; NULL if all rows have all steps
    int* lengths
    Py_ssize_t step_offset  # CONV2D, pools: a sequence of n steps has (n + step_offset) // stride_x + 1 output steps
    SequenceBuffers* buffers  # RECURRENT: buffers of each direction
    # RECURRENT: in training, the next layer reads the states from `buffers` instead of A, and writes their derivatives
    # to `state_deltas` instead of D
    bint shares_states
    const SequenceBuffers* source  # RECURRENT: buffers of the previous layer if it shares its states, else NULL
    const Chunks* chunks  # RECURRENT: layout of the chunks if the rows are chunks of longer sequences, else NULL
    real** states         # RECURRENT: pointer to the states of each row of the block; NULL without chunks
    Py_ssize_t state_offset  # RECURRENT: offset of the states of this layer in the states of a row, in elements
    bint has_transposes   # RECURRENT: WT also contains transposes of W and U


cdef inline Py_ssize_t padded(Py_ssize_t n) noexcept nogil:
    # Return the padded length of a row of n numbers: whole vectors, plus one cache line if the length would be a
    # multiple of HALF_PAGE_BYTES. At such distances all rows would compete for few sets of the cache.
    cdef Py_ssize_t length = (n + VL - 1) // VL * VL
    return length + LINE_REALS if length * <Py_ssize_t>sizeof(real) % HALF_PAGE_BYTES == 0 else length


cdef inline Py_ssize_t round_up_to_groups(Py_ssize_t rows) noexcept nogil:
    # Return the number of rows, rounded up to a multiple of VL, the number of images in a group.
    return (rows + VL - 1) // VL * VL


cdef inline Py_ssize_t parameter_rows(const Layer* layer) noexcept nogil:
    # Return the number of parameter rows of a layer: the rows of W, and those of the biases.
    return layer.rows + layer.bias


cdef inline Py_ssize_t parameter_count(const Layer* layer) noexcept nogil:
    # Return how many numbers of the parameter vector belong to this layer, including padding and running statistics.
    return (parameter_rows(layer) + 2 * (layer.kind == BATCH_NORM)) * layer.parameter_ld


cdef inline real* biases(const Layer* layer) noexcept nogil:
    # Return the bias b, or NULL if the layer has none.
    return layer.W + layer.rows * layer.parameter_ld if layer.bias else NULL


cdef inline real* running_mean(const Layer* layer) noexcept nogil:
    # Return the running mean of a batch normalization layer.
    return layer.W + 2 * layer.ld


cdef inline real* running_variance(const Layer* layer) noexcept nogil:
    # Return the running variance of a batch normalization layer.
    return layer.W + 3 * layer.ld


cdef inline bint can_share_states(const Layer* layer, const Layer* next) noexcept nogil:
    # Return whether the next layer can read the states of a RECURRENT layer from its buffers, which saves copies to A
    # and from D. Both layers must process the steps in the same order, without dropout between them.
    return (layer.kind == RECURRENT and next.kind == RECURRENT and layer.sequences and layer.dropout_rate == 0 and
            next.input_dropout_rate == 0 and layer.directions == 1 and next.directions == 1 and
            not layer.reverse and not next.reverse)


cdef inline bint is_penalty_exempt(const Layer* layer, Py_ssize_t k) noexcept nogil:
    # Return whether penalties skip row k of the parameters. They skip biases, and all parameters of columnwise layers.
    return k >= layer.rows or is_columnwise(layer.kind)


cdef inline Py_ssize_t row_grain(const Layer* layer) noexcept nogil:
    # Return GRAIN or SMALL_GRAIN: each thread's share of the rows of W is a multiple of this number.
    return SMALL_GRAIN if layer.WT is NULL else GRAIN


cdef inline Py_ssize_t first_row(const Layer* layer, int thread, int threads) noexcept nogil:
    # Return the first parameter row in this thread's share.
    return share_start(layer.rows, thread, threads, row_grain(layer))


cdef inline Py_ssize_t end_row(const Layer* layer, int thread, int threads) noexcept nogil:
    # Return the index after the last parameter row in this thread's share. The biases are the last rows of all and
    # belong to the last thread.
    cdef Py_ssize_t last = share_start(layer.rows, thread + 1, threads, row_grain(layer))
    return last + layer.bias if thread == threads - 1 else last


cdef inline void set_row_pointers(const real** rows, const real* first, Py_ssize_t ld, Py_ssize_t count) noexcept nogil:
    # Write pointers to `count` rows of a matrix to `rows`. The first row starts at `first`, and the rows are `ld`
    # elements apart.
    cdef Py_ssize_t i
    for i in range(count):
        rows[i] = first + i * ld


cdef inline void allocate_lane_outputs(Layer* layer, Arena* arena, Py_ssize_t count, bint keep_z, bint with_delta,
                                       int threads) noexcept nogil:
    # Allocate the outputs of an image layer for `count` images: activations A, and optionally net inputs Z and deltas
    # D.
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
    # Allocate the outputs of a layer for `count` rows of a table, `size` numbers in total: activations A, and
    # optionally net inputs Z and deltas D.
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
    # Draw dropout masks and write the masked activations for rows first <= i < first + rows of the block, which starts
    # at row `block_start` of the batch.
    cdef Py_ssize_t i, j
    for i in range(first, first + rows):
        mask_row(key, block_start + i, layer.dropout_rate, layer.mask + i * layer.ld, layer.ld)
        for j from i * layer.ld <= j < (i + 1) * layer.ld by VL:
            store(layer.out + j, load(layer.A + j) * load(layer.mask + j))


cdef inline void backward_dropout(const Layer* layer, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Convert the deltas D from d loss / d out to d loss / d A: multiply by the dropout mask.
    cdef Py_ssize_t i, start = first * layer.ld
    if layer.mask is not NULL:
        for i from start <= i < start + rows * layer.ld by VL:
            store(layer.D + i, load(layer.D + i) * load(layer.mask + i))


cdef inline void backward_activation(const Layer* layer, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Convert the deltas D from d loss / d A to d loss / d Z: multiply by the derivative of the activation.
    cdef Py_ssize_t start = first * layer.ld
    differentiate(layer.activation, layer.Z + start, layer.A + start, layer.D + start, rows * layer.ld)


cdef inline void unpad(const real* rows, const Layer* layer, Py_ssize_t n, real* out) noexcept nogil:
    # Copy n padded rows of outputs or deltas without their padding to out (n, n_out).
    cdef Py_ssize_t i
    for i in range(n):
        memcpy(out + i * layer.n_out, rows + i * layer.ld, layer.n_out * sizeof(real))


cdef inline void unpad_outputs(const Layer* layer, Py_ssize_t row, Py_ssize_t low, Py_ssize_t high,
                               const int* positions, real* out) noexcept nogil:
    # Copy the outputs of rows low <= i < high of the block, which starts at row `row` of the data, to `out` (n, n_out).
    # Row i of the data has the index positions[i] in `out`, or i if `positions` is NULL.
    cdef Py_ssize_t i
    if positions is NULL:
        unpad(layer.A + low * layer.ld, layer, high - low, out + (row + low) * layer.n_out)
        return
    for i in range(low, high):
        unpad(layer.A + i * layer.ld, layer, 1, out + positions[row + i] * layer.n_out)
