# Loss and outputs of a network for given rows. Each thread evaluates its share with its own buffers and without
# barriers.

from libc.string cimport memcpy
from simd cimport real
from arena cimport EVALUATE, Arena, take
from threads cimport share, smaller
from layer cimport GRAIN, Layer
from rows cimport Data, fetch
from network cimport (Network, Plan, begin_batch, block_rows, forward, lay_out as lay_out_network, output_delta,
                      refresh, set_parameters, unpad)

cdef struct Part:         # state of one thread
    Network net           # network with its own buffers
    Py_ssize_t row        # next row

# Evaluation by several threads.
cdef struct Parts:
    Part* of              # (threads) state of each thread
    int threads           # number of threads
    Data data             # rows to evaluate
    double* partial       # (grains of the data) plain sum of the loss over each grain of rows
    real* out             # (n, n_out) outputs, owned by the caller; or NULL


cdef inline void lay_out(Parts* parts, const Plan* plan, Arena* arena, real* params) noexcept nogil:
    # Allocate all buffers in the arena, and set the parameters.
    cdef Network net
    cdef int t
    parts.of = <Part*>take(arena, parts.threads * sizeof(Part))
    parts.partial = <double*>take(arena, (parts.data.n + GRAIN - 1) // GRAIN * sizeof(double))
    for t in range(parts.threads):
        lay_out_network(&net, plan, arena, block_rows(plan, parts.data.n, EVALUATE), EVALUATE, &parts.data, 1, False)
        if arena.base:
            set_parameters(&net, params)
            parts.of[t].net = net


cdef inline void restart(Parts* parts) noexcept nogil:
    # Start again with the current parameters.
    cdef int t
    for t in range(parts.threads):
        parts.of[t].row = share(parts.data.n, t, parts.threads, GRAIN)
        refresh(&parts.of[t].net)
        begin_batch(&parts.of[t].net, &parts.data, 0, parts.data.n, parts.data.weight, 0)


cdef inline bint is_done(const Parts* parts) noexcept nogil:
    # Return whether all rows are evaluated.
    cdef int t
    for t in range(parts.threads):
        if parts.of[t].row < share(parts.data.n, t + 1, parts.threads, GRAIN):
            return False
    return True


cdef inline double plain_loss(const Parts* parts) noexcept nogil:
    # Return the plain sum of the loss over all rows.
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range((parts.data.n + GRAIN - 1) // GRAIN):
        total += parts.partial[i]
    return total


cdef inline void evaluate(Parts* parts, int thread, Py_ssize_t blocks) noexcept nogil:
    # Evaluate up to `blocks` blocks of the thread's rows.
    cdef Part* part = &parts.of[thread]
    cdef const Network* net = &part.net
    cdef const Layer* last = &net.layers[net.count - 1]
    cdef Py_ssize_t end = share(parts.data.n, thread + 1, parts.threads, GRAIN), row = part.row, rows
    while blocks > 0 and row < end:
        rows = smaller(net.block.size // GRAIN * GRAIN if net.block.size >= GRAIN else net.block.size, end - row)
        fetch(&net.block, &parts.data, row, 0, rows)
        forward(net, 0, rows, rows, 0, 0, 0, 0)
        output_delta(net, 0, rows, 1, 0)
        memcpy(parts.partial + row // GRAIN, net.partial, (rows + GRAIN - 1) // GRAIN * sizeof(double))
        if parts.out is not NULL:
            unpad(last.A, last, rows, parts.out + row * last.n_out)
        row += rows
        blocks -= 1
    part.row = row
