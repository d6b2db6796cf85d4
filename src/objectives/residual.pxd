# Residuals of differential equations, and the gradient of weighted sums of their squares. A residual is a program of
# pointwise operations on the outputs of a network and their derivatives, the channels of taylor.pxd.
#
# nnc/pde/program.py compiles a program and describes its slots. Here, each slot contains POINT_VECS vectors with one
# number for each point of a block.
#
# The blocks of all terms are divided between at most MAX_PARTS parts. Each part sums its blocks in order. A run
# treats a part as a row and as a block of the batch, so it adds the sums of the parts in order. The division depends
# only on the number of blocks, so results are bit-identical for any number of threads.

from libc.string cimport memcpy, memset
from simd cimport always_inlined, never_inlined, real, vec, VL, load, madd, splat, sum_lanes, vabs, vsqrt
from arena cimport Arena, allocate
from taylor cimport (POINT_VECS, Channels, Taylor, add_gradient, backward, clear_gradient, forward,
                     lay_out as lay_out_taylor, set_parameters, store_gradient)
from layer cimport Layer
from threads cimport smaller
from vmath cimport arctan, exp_any, log_any, sign, sin_cos, tanh

cdef enum:
    MAX_PARTS = 8         # maximum number of parts into which the blocks are divided; a thread processes whole parts
    MIN_PART_BLOCKS = 8   # minimum number of blocks in a part, unless there is only one part
    MAX_RESIDUALS = 16    # maximum number of residuals of a term

# Operations of a program, in the order of OPERATIONS in nnc/pde/program.py.
cdef enum Operation:
    ADD
    SUBTRACT
    MULTIPLY
    DIVIDE
    ADD_CONSTANT
    MULTIPLY_CONSTANT
    RECIPROCAL
    SQRT
    EXP
    LOG
    SIN
    COS
    TANH
    ARCTAN
    ABSOLUTE
    SIGN
    OPERATIONS

cdef struct Term:
    Channels channels     # channels of the outputs that the program uses
    const int* operations  # code of each operation, and slots of its two operands (count, 3)
    const double* constants  # constant of each operation, for ADD_CONSTANT and MULTIPLY_CONSTANT (count)
    int count             # number of operations
    const int* results    # slots of the residuals (n_results)
    int n_results
    int n_columns         # number of coordinates and data columns
    int n_inputs          # number of input slots of the program; the slots of the operations follow
    Py_ssize_t blocks     # number of blocks of points
    Py_ssize_t divisor    # divisor of the weighted sum of squares in the mean square of the term
    const real* X         # inputs of the network (blocks, n_in, POINT_VECS * VL)
    const real* columns   # coordinates and data columns (blocks, n_columns, POINT_VECS * VL)
    const real* weights   # weights of the points, 0 in lanes without a point (blocks, POINT_VECS * VL)
    double factor         # factor of the weighted sum of squares in the loss

cdef struct Workspace:    # Buffers with which one thread computes the residuals of a block of points.
    Taylor taylor
    vec* values           # values of all slots of a program (slots, POINT_VECS)
    vec* slopes           # derivatives of the loss with respect to all slots (slots, POINT_VECS)
    vec* coefficients     # sums of derivatives of the loss with respect to coefficients, per lane (n_coefficients)

cdef struct Terms:        # Terms of a loss, which are the context of an Objective, and buffers for their sums.
    Term* items           # array of `count` terms
    int count
    int n_coefficients
    const real* coefficients  # values of the coefficients (n_coefficients)
    Py_ssize_t blocks     # number of blocks of all terms
    int parts             # number of parts into which the blocks are divided; part p has the blocks p + i * parts
    Workspace* workspaces  # array with a workspace for each thread
    double* losses        # weighted sum of squares of each term, in each part (parts, count)
    double* term_losses   # mean of the squares of each term in each epoch (epochs, count), owned by the caller


cdef inline int number_of_parts(Py_ssize_t blocks) noexcept nogil:
    # Return the number of parts into which the blocks are divided.
    return <int>max(1, smaller(MAX_PARTS, blocks // MIN_PART_BLOCKS))


cdef inline never_inlined lay_out(Terms* terms, const Layer* layers, int layer_count, Arena* arena, int threads,
                                  int max_channels, int max_slots) noexcept nogil:
    # Allocate the workspaces of all threads and the losses of all parts in the arena.
    cdef Workspace workspace
    cdef int t
    terms.parts = number_of_parts(terms.blocks)
    terms.workspaces = <Workspace*>allocate(arena, threads * sizeof(Workspace))
    for t in range(threads):
        lay_out_taylor(&workspace.taylor, layers, layer_count, arena, max_channels, True, True)
        workspace.values = <vec*>allocate(arena, max_slots * POINT_VECS * sizeof(vec))
        workspace.slopes = <vec*>allocate(arena, max_slots * POINT_VECS * sizeof(vec))
        workspace.coefficients = <vec*>allocate(arena, (terms.n_coefficients + 1) * sizeof(vec))
        if arena.base:
            terms.workspaces[t] = workspace
    terms.losses = <double*>allocate(arena, terms.parts * terms.count * sizeof(double))


cdef inline always_inlined apply_as(int code, const vec* x, const vec* y, vec c, vec* out) noexcept nogil:
    # Apply an operation to the points of a block. `code` is a literal at every call.
    cdef int b
    cdef vec other
    for b in range(POINT_VECS):
        if code == ADD:
            out[b] = x[b] + y[b]
        elif code == SUBTRACT:
            out[b] = x[b] - y[b]
        elif code == MULTIPLY:
            out[b] = x[b] * y[b]
        elif code == DIVIDE:
            out[b] = x[b] / y[b]
        elif code == ADD_CONSTANT:
            out[b] = x[b] + c
        elif code == MULTIPLY_CONSTANT:
            out[b] = x[b] * c
        elif code == RECIPROCAL:
            out[b] = splat(1) / x[b]
        elif code == SQRT:
            out[b] = vsqrt(x[b])
        elif code == EXP:
            out[b] = exp_any(x[b])
        elif code == LOG:
            out[b] = log_any(x[b])
        elif code == SIN:
            out[b] = sin_cos(x[b], &other)
        elif code == COS:
            sin_cos(x[b], &out[b])
        elif code == TANH:
            out[b] = tanh(x[b])
        elif code == ARCTAN:
            out[b] = arctan(x[b])
        elif code == ABSOLUTE:
            out[b] = vabs(x[b])
        else:
            out[b] = sign(x[b])


cdef inline always_inlined differentiate_as(int code, const vec* g, const vec* x, const vec* y, vec c, const vec* f,
                                            vec* dx, vec* dy) noexcept nogil:
    # Add the derivatives of the loss with respect to the operands x and y to dx and dy, given the derivatives g with
    # respect to the results f. `code` is a literal at every call. dx and dy may be the same slot.
    cdef int b
    cdef vec cosine
    for b in range(POINT_VECS):
        if code == ADD:
            dx[b] = dx[b] + g[b]
            dy[b] = dy[b] + g[b]
        elif code == SUBTRACT:
            dx[b] = dx[b] + g[b]
            dy[b] = dy[b] - g[b]
        elif code == MULTIPLY:
            dx[b] = madd(g[b], y[b], dx[b])
            dy[b] = madd(g[b], x[b], dy[b])
        elif code == DIVIDE:
            dx[b] = dx[b] + g[b] / y[b]
            dy[b] = dy[b] - g[b] * f[b] / y[b]
        elif code == ADD_CONSTANT:
            dx[b] = dx[b] + g[b]
        elif code == MULTIPLY_CONSTANT:
            dx[b] = madd(g[b], c, dx[b])
        elif code == RECIPROCAL:
            dx[b] = dx[b] - g[b] * f[b] * f[b]
        elif code == SQRT:
            dx[b] = dx[b] + <real>0.5 * g[b] / f[b]
        elif code == EXP:
            dx[b] = madd(g[b], f[b], dx[b])
        elif code == LOG:
            dx[b] = dx[b] + g[b] / x[b]
        elif code == SIN:
            sin_cos(x[b], &cosine)
            dx[b] = madd(g[b], cosine, dx[b])
        elif code == COS:
            dx[b] = dx[b] - g[b] * sin_cos(x[b], &cosine)
        elif code == TANH:
            dx[b] = madd(g[b], <real>1 - f[b] * f[b], dx[b])
        elif code == ARCTAN:
            dx[b] = dx[b] + g[b] / madd(x[b], x[b], splat(1))
        elif code == ABSOLUTE:
            dx[b] = madd(g[b], sign(x[b]), dx[b])


cdef inline never_inlined apply(int code, const vec* x, const vec* y, vec c, vec* out) noexcept nogil:
    # Apply an operation to the points of a block, with a separate loop for each operation.
    if code == ADD:
        apply_as(ADD, x, y, c, out)
    elif code == SUBTRACT:
        apply_as(SUBTRACT, x, y, c, out)
    elif code == MULTIPLY:
        apply_as(MULTIPLY, x, y, c, out)
    elif code == DIVIDE:
        apply_as(DIVIDE, x, y, c, out)
    elif code == ADD_CONSTANT:
        apply_as(ADD_CONSTANT, x, y, c, out)
    elif code == MULTIPLY_CONSTANT:
        apply_as(MULTIPLY_CONSTANT, x, y, c, out)
    elif code == RECIPROCAL:
        apply_as(RECIPROCAL, x, y, c, out)
    elif code == SQRT:
        apply_as(SQRT, x, y, c, out)
    elif code == EXP:
        apply_as(EXP, x, y, c, out)
    elif code == LOG:
        apply_as(LOG, x, y, c, out)
    elif code == SIN:
        apply_as(SIN, x, y, c, out)
    elif code == COS:
        apply_as(COS, x, y, c, out)
    elif code == TANH:
        apply_as(TANH, x, y, c, out)
    elif code == ARCTAN:
        apply_as(ARCTAN, x, y, c, out)
    elif code == ABSOLUTE:
        apply_as(ABSOLUTE, x, y, c, out)
    else:
        apply_as(SIGN, x, y, c, out)

cdef inline never_inlined differentiate(int code, const vec* g, const vec* x, const vec* y, vec c, const vec* f,
                                        vec* dx, vec* dy) noexcept nogil:
    # Add the derivatives of the loss with respect to the operands x and y to dx and dy, given the derivatives g with
    # respect to the results f.
    if code == ADD:
        differentiate_as(ADD, g, x, y, c, f, dx, dy)
    elif code == SUBTRACT:
        differentiate_as(SUBTRACT, g, x, y, c, f, dx, dy)
    elif code == MULTIPLY:
        differentiate_as(MULTIPLY, g, x, y, c, f, dx, dy)
    elif code == DIVIDE:
        differentiate_as(DIVIDE, g, x, y, c, f, dx, dy)
    elif code == ADD_CONSTANT:
        differentiate_as(ADD_CONSTANT, g, x, y, c, f, dx, dy)
    elif code == MULTIPLY_CONSTANT:
        differentiate_as(MULTIPLY_CONSTANT, g, x, y, c, f, dx, dy)
    elif code == RECIPROCAL:
        differentiate_as(RECIPROCAL, g, x, y, c, f, dx, dy)
    elif code == SQRT:
        differentiate_as(SQRT, g, x, y, c, f, dx, dy)
    elif code == EXP:
        differentiate_as(EXP, g, x, y, c, f, dx, dy)
    elif code == LOG:
        differentiate_as(LOG, g, x, y, c, f, dx, dy)
    elif code == SIN:
        differentiate_as(SIN, g, x, y, c, f, dx, dy)
    elif code == COS:
        differentiate_as(COS, g, x, y, c, f, dx, dy)
    elif code == TANH:
        differentiate_as(TANH, g, x, y, c, f, dx, dy)
    elif code == ARCTAN:
        differentiate_as(ARCTAN, g, x, y, c, f, dx, dy)
    elif code == ABSOLUTE:
        differentiate_as(ABSOLUTE, g, x, y, c, f, dx, dy)

cdef inline void compute_residuals(const Terms* terms, const Term* term, Py_ssize_t block,
                                   Workspace* work) noexcept nogil:
    # Run the network and the program for a block of points: compute the values of all slots.
    cdef Taylor* taylor = &work.taylor
    cdef Py_ssize_t lanes = POINT_VECS * VL, outputs = taylor.n_out * term.channels.count
    cdef const int* operation = term.operations
    cdef vec* values = work.values
    cdef int i, b
    taylor.channels = term.channels
    memcpy(taylor.X, term.X + block * taylor.n_in * lanes, taylor.n_in * lanes * sizeof(real))
    forward(taylor)
    memcpy(values, taylor.outputs, outputs * POINT_VECS * sizeof(vec))
    values += outputs * POINT_VECS
    memcpy(values, term.columns + block * term.n_columns * lanes, term.n_columns * lanes * sizeof(real))
    values += term.n_columns * POINT_VECS
    for i in range(terms.n_coefficients):
        for b in range(POINT_VECS):
            values[i * POINT_VECS + b] = splat(terms.coefficients[i])
    values += terms.n_coefficients * POINT_VECS
    for i in range(term.count):
        apply(operation[0], work.values + operation[1] * POINT_VECS, work.values + operation[2] * POINT_VECS,
              splat(<real>term.constants[i]), values)
        operation += 3
        values += POINT_VECS


cdef inline void propagate(const Terms* terms, const Term* term, Workspace* work) noexcept nogil:
    # Propagate work.slopes, the derivatives of the loss with respect to the residuals, back through the program and the
    # network.
    cdef Taylor* taylor = &work.taylor
    cdef const int* operation
    cdef Py_ssize_t a, b
    cdef int i
    for i in range(term.count - 1, -1, -1):
        operation = term.operations + 3 * i
        a, b = operation[1] * POINT_VECS, operation[2] * POINT_VECS
        differentiate(operation[0], work.slopes + (term.n_inputs + i) * POINT_VECS, work.values + a, work.values + b,
                      splat(<real>term.constants[i]), work.values + (term.n_inputs + i) * POINT_VECS, work.slopes + a,
                      work.slopes + b)
    memcpy(taylor.slopes, work.slopes, taylor.n_out * term.channels.count * POINT_VECS * sizeof(vec))
    backward(taylor)


cdef inline void clear_slopes(const Term* term, Workspace* work) noexcept nogil:
    # Set the derivatives of the loss with respect to all slots to 0.
    memset(work.slopes, 0, (term.n_inputs + term.count) * POINT_VECS * sizeof(vec))


cdef inline double add_block(const Terms* terms, const Term* term, Py_ssize_t block, Workspace* work,
                             bint with_gradient, double scale, const real* seeds) noexcept nogil:
    # Return the weighted sum of squares of the residuals of a block, and add `scale` times its gradient to the sums of
    # the workspace. With `seeds` (blocks, n_results, POINT_VECS * VL), add J' times the seeds instead, where J is the
    # Jacobian of the residuals after multiplication by the square roots of their factors in the loss.
    cdef const real* weights = term.weights + block * POINT_VECS * VL
    cdef real factor = <real>(2 * term.factor * scale), root = <real>term.factor
    cdef double loss = 0
    cdef Py_ssize_t slot
    cdef vec total, weight, r
    cdef int i, b
    compute_residuals(terms, term, block, work)
    if with_gradient:
        clear_slopes(term, work)
    if seeds is not NULL:
        seeds += block * term.n_results * POINT_VECS * VL
    for i in range(term.n_results):
        slot, total = term.results[i] * POINT_VECS, splat(0)
        for b in range(POINT_VECS):
            weight, r = load(weights + b * VL), work.values[slot + b]
            total = madd(weight * r, r, total)
            if with_gradient and seeds is NULL:
                work.slopes[slot + b] = madd(weight * factor, r, work.slopes[slot + b])
            elif with_gradient:
                work.slopes[slot + b] = madd(vsqrt(weight * root), load(seeds + (i * POINT_VECS + b) * VL),
                                             work.slopes[slot + b])
        loss += sum_lanes(total)
    if with_gradient:
        propagate(terms, term, work)
        add_gradient(&work.taylor)
        slot = (term.n_inputs - terms.n_coefficients) * POINT_VECS
        for i in range(terms.n_coefficients):
            for b in range(POINT_VECS):
                work.coefficients[i] = work.coefficients[i] + work.slopes[slot + i * POINT_VECS + b]
    return loss


cdef inline double compute_part(const Terms* terms, Py_ssize_t part, Workspace* work, double scale, real* gradient,
                                const real* seeds) noexcept nogil:
    # Return the loss of a part of the blocks. Unless `gradient` is NULL, write `scale` times its gradient, in the order
    # parameters, coefficients; see add_block(). `seeds` has the shape (blocks, n_results, POINT_VECS * VL) for each
    # term.
    cdef const Term* term
    cdef Py_ssize_t block, first = 0
    cdef double loss, total = 0
    cdef int t, i
    if gradient is not NULL:
        clear_gradient(&work.taylor)
        memset(work.coefficients, 0, terms.n_coefficients * sizeof(vec))
    for t in range(terms.count):
        term = &terms.items[t]
        loss = 0
        block = (part - first % terms.parts + terms.parts) % terms.parts
        while block < term.blocks:
            loss += add_block(terms, term, block, work, gradient is not NULL, scale, seeds)
            block += terms.parts
        terms.losses[part * terms.count + t] = loss
        total += term.factor * loss
        first += term.blocks
        if seeds is not NULL:
            seeds += term.blocks * term.n_results * POINT_VECS * VL
    if gradient is not NULL:
        store_gradient(&work.taylor, gradient)
        for i in range(terms.n_coefficients):
            gradient[work.taylor.size + i] = <real>sum_lanes(work.coefficients[i])
    return total


cdef inline double mean_square(const Terms* terms, int t) noexcept nogil:
    # Return the weighted mean of the squares of term t, after the losses of all parts were computed.
    cdef double total = 0
    cdef int part
    for part in range(terms.parts):
        total += terms.losses[part * terms.count + t]
    return total / terms.items[t].divisor


# The functions of the objective, see objective.pxd.

cdef inline double part_gradient(void* context, int thread, Py_ssize_t first, Py_ssize_t rows, double scale,
                                 real* gradient) noexcept nogil:
    # Return the loss of part number `first`, and write its gradient. A block has one part, so `rows` is 1.
    cdef const Terms* terms = <const Terms*>context
    return compute_part(terms, first, &terms.workspaces[thread], scale, gradient, NULL)


cdef inline void record_terms(void* context, Py_ssize_t epoch) noexcept nogil:
    # Record the mean squares of all terms in an epoch, which is one step.
    cdef const Terms* terms = <const Terms*>context
    cdef int t
    for t in range(terms.count):
        terms.term_losses[epoch * terms.count + t] = mean_square(terms, t)
