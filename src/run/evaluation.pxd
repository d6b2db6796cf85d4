# Loss and outputs of a network for given rows. Each thread evaluates its share of the rows with its own buffers and
# without barriers.

from libc.string cimport memcpy
from simd cimport VL, real
from arena cimport EVALUATE, Arena, allocate
from threads cimport share_start, smaller
from layer cimport GRAIN, Layer, unpad_outputs
from rows cimport Data, fetch
from network cimport (Network, Plan, begin_batch, block_rows, forward, lay_out as lay_out_network, output_delta,
                      refresh, set_parameters)
from slopes cimport SlopeTargets, lay_out as lay_out_slopes, sum_grain_losses as sum_grain_losses_of_slopes
from taylor cimport set_parameters as set_taylor_parameters
cimport recurrent

cdef struct EvaluationMember:  # State of one evaluation thread.
    Network net           # network of this thread, with its own buffers
    Py_ssize_t row        # index of the next row that the thread evaluates
    SlopeTargets slopes   # workspace of the loss if targets are values and derivatives

# State of an evaluation by several threads.
cdef struct EvaluationState:
    EvaluationMember* members  # array with the state of each thread
    int threads           # number of threads
    Data data             # data with the rows to evaluate
    double* grain_losses  # array with the sum of the loss terms of each grain, which is 16 rows of the data
    real* out             # outputs (n, n_out), owned by the caller; NULL if only the loss is needed
    const int* out_rows   # index of the row of `out` for each row of the data; NULL if the orders are equal


cdef inline void lay_out(EvaluationState* state, const Plan* plan, Arena* arena, real* params) noexcept nogil:
    # Allocate all buffers of the evaluation in the arena, and set the parameters of the networks.
    cdef Network net
    cdef SlopeTargets slopes
    cdef int t
    state.members = <EvaluationMember*>allocate(arena, state.threads * sizeof(EvaluationMember))
    state.grain_losses = <double*>allocate(arena, (state.data.n + GRAIN - 1) // GRAIN * sizeof(double))
    for t in range(state.threads):
        lay_out_network(&net, plan, arena, block_rows(plan, state.data.n, EVALUATE), EVALUATE, &state.data, 1, False)
        slopes.taylor.count = 0
        if plan.channels.count > 0:
            lay_out_slopes(&slopes, plan, &state.data, arena, False)
        if arena.base:
            set_parameters(&net, params)
            set_taylor_parameters(&slopes.taylor, params)
            state.members[t].net, state.members[t].slopes = net, slopes


cdef inline void restart(EvaluationState* state) noexcept nogil:
    # Restart the evaluation at the first row, with the current parameters.
    cdef int t
    for t in range(state.threads):
        state.members[t].row = share_start(state.data.n, t, state.threads, GRAIN)
        refresh(&state.members[t].net)
        begin_batch(&state.members[t].net, &state.data, 0, state.data.n, state.data.weight_sum, 0)


cdef inline bint is_done(const EvaluationState* state) noexcept nogil:
    # Return whether all rows have been evaluated.
    cdef int t
    for t in range(state.threads):
        if state.members[t].row < share_start(state.data.n, t + 1, state.threads, GRAIN):
            return False
    return True


cdef inline double plain_loss(const EvaluationState* state) noexcept nogil:
    # Return the sum of the loss terms over all rows.
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range((state.data.n + GRAIN - 1) // GRAIN):
        total += state.grain_losses[i]
    return total


cdef inline void evaluate(EvaluationState* state, int thread, Py_ssize_t blocks) noexcept nogil:
    # Evaluate up to `blocks` blocks of the rows that belong to this thread.
    cdef EvaluationMember* member = &state.members[thread]
    cdef const Network* net = &member.net
    cdef const Layer* last = &net.layers[net.count - 1]
    cdef Py_ssize_t end = share_start(state.data.n, thread + 1, state.threads, GRAIN), row = member.row, rows
    while blocks > 0 and row < end:
        rows = smaller(net.block.size // GRAIN * GRAIN if net.block.size >= GRAIN else net.block.size, end - row)
        fetch(&net.block, &state.data, row, 0, rows)
        forward(net, 0, rows, rows, 0, 0, 0, 0)
        output_delta(net, 0, rows, 1, 0)
        if member.slopes.taylor.count > 0:
            sum_grain_losses_of_slopes(&member.slopes, row, rows, state.grain_losses + row // GRAIN)
        else:
            memcpy(state.grain_losses + row // GRAIN, net.grain_losses, (rows + GRAIN - 1) // GRAIN * sizeof(double))
        if state.out is not NULL:
            unpad_outputs(last, row, 0, rows, state.out_rows, state.out)
        row += rows
        blocks -= 1
    member.row = row


cdef inline double fraction_beyond(const Network* net, int l, Py_ssize_t rows, double low, double high) noexcept nogil:
    # Return the fraction of the outputs of layer `l` that are <= low or >= high, over the first `rows` rows of the
    # block. If a max-pool is fused into the layer, count the outputs of the pool instead.
    cdef const Layer* layer = &net.layers[l + (net.layers[l].fused_height > 0)]
    cdef Py_ssize_t i, j, n, n_out = layer.n_out, ld = layer.ld, count = 0, total = 0
    cdef const real* A = layer.A
    cdef real a
    if layer.shares_states:               # count the outputs of each step in the buffers
        n_out, ld, rows = layer.out_shape.channels, recurrent.padded_units(layer), recurrent.pair_count(layer, 0, rows)
        A = layer.buffers.hidden + layer.buffers.rows * ld
    for i in range(rows):
        n = n_out
        # count no outputs beyond the end of a sequence
        if layer.lengths is not NULL and (layer.sequences or layer.window_width > 0) and not layer.shares_states:
            n = layer.lengths[i] * layer.out_shape.channels
        for j in range(n):
            if layer.in_lanes:
                a = A[(i // VL * n_out + j) * VL + i % VL]
            else:
                a = A[j * VL + i if net.is_tiny else i * ld + j]
            count += (a <= low) + (a >= high)   # a branch would prevent vectorization of the loop
        total += n
    return count / <double>total
