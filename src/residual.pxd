# Residuals of differential equations, and the gradient of weighted sums of their squares. A residual is a program of
# pointwise operations on the outputs of a network and their derivatives, the channels of taylor.pxd.
#
# nnc/pde/program.py compiles a program and describes its slots. Here, each slot contains POINT_VECS vectors with one
# number for each point of a block.
#
# The blocks of all terms are divided between at most MAX_PARTS parts. Each part sums its blocks in order, and the sums
# of the parts are added in order. The division depends only on the number of blocks, so results are bit-identical for
# any number of threads.

from libc.string cimport memcpy, memset
from simd cimport (always_inlined, never_inlined, real, vec, VL, all_finite, load, madd, splat, store, sum_lanes, vabs,
                   vsqrt)
from arena cimport Arena, allocate
from taylor cimport (POINT_VECS, Channels, Taylor, add_gradient, backward, clear_gradient, forward,
                     lay_out as lay_out_taylor, set_parameters, store_gradient)
from layer cimport Layer, end_row, first_row, parameter_count
from optimizers cimport Optimizer, count_step, update
from threads cimport barrier_wait, now, smaller
from network cimport Network, is_broken, learn, update_groups
from run cimport Run, end_epoch
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

cdef struct Terms:        # Terms of a loss, and buffers for their sums.
    Term* items           # array of `count` terms
    int count
    int n_coefficients
    const real* coefficients  # values of the coefficients (n_coefficients)
    Py_ssize_t blocks     # number of blocks of all terms
    int parts             # number of parts into which the blocks are divided; part p has the blocks p + i * parts
    Workspace* workspaces  # array with a workspace for each thread
    real* gradients       # sum of the gradients of the blocks of each part (parts, size)
    double* coefficient_gradients  # the same with respect to the coefficients (parts, n_coefficients)
    double* losses        # weighted sum of squares of each term, in each part (parts, count)
    Py_ssize_t size       # length of the padded parameter vector


cdef inline int number_of_parts(Py_ssize_t blocks) noexcept nogil:
    # Return the number of parts into which the blocks are divided.
    return <int>max(1, smaller(MAX_PARTS, blocks // MIN_PART_BLOCKS))


cdef inline never_inlined lay_out(Terms* terms, const Layer* layers, int layer_count, Arena* arena, int threads,
                                  int max_channels, int max_slots) noexcept nogil:
    # Allocate the workspaces of all threads and the sums of all parts in the arena.
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
    terms.size = workspace.taylor.size
    terms.gradients = <real*>allocate(arena, terms.parts * terms.size * sizeof(real))
    terms.coefficient_gradients = <double*>allocate(arena, (terms.parts * terms.n_coefficients + 1) * sizeof(double))
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
                             bint with_gradient, const real* seeds) noexcept nogil:
    # Return the weighted sum of squares of the residuals of a block, and add its gradient to the sums of the workspace.
    # With `seeds` (blocks, n_results, POINT_VECS * VL), add J' times the seeds instead, where J is the Jacobian of the
    # residuals after multiplication by the square roots of their factors in the loss.
    cdef const real* weights = term.weights + block * POINT_VECS * VL
    cdef real factor = <real>(2 * term.factor), root = <real>term.factor
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


cdef inline never_inlined compute_part(const Terms* terms, int part, Workspace* work, bint with_gradient,
                                       const real* seeds) noexcept nogil:
    # Compute the losses of a part of the blocks, and their gradient; see add_block(). `seeds` has the shape (blocks,
    # n_results, POINT_VECS * VL) for each term in turn.
    cdef const Term* term
    cdef Py_ssize_t block, first = 0
    cdef double loss
    cdef int t, i
    if with_gradient:
        clear_gradient(&work.taylor)
        memset(work.coefficients, 0, terms.n_coefficients * sizeof(vec))
    for t in range(terms.count):
        term = &terms.items[t]
        loss = 0
        block = (part - first % terms.parts + terms.parts) % terms.parts
        while block < term.blocks:
            loss += add_block(terms, term, block, work, with_gradient, seeds)
            block += terms.parts
        terms.losses[part * terms.count + t] = loss
        first += term.blocks
        if seeds is not NULL:
            seeds += term.blocks * term.n_results * POINT_VECS * VL
    if with_gradient:
        store_gradient(&work.taylor, terms.gradients + part * terms.size)
        for i in range(terms.n_coefficients):
            terms.coefficient_gradients[part * terms.n_coefficients + i] = sum_lanes(work.coefficients[i])


cdef inline double term_loss(const Terms* terms, int t) noexcept nogil:
    # Return the weighted sum of squares of term t over all parts.
    cdef double total = 0
    cdef int part
    for part in range(terms.parts):
        total += terms.losses[part * terms.count + t]
    return total


cdef inline double total_loss(const Terms* terms) noexcept nogil:
    # Return the loss: the sum over all terms.
    cdef double total = 0
    cdef int t
    for t in range(terms.count):
        total += terms.items[t].factor * term_loss(terms, t)
    return total


cdef inline void add_parts(const Terms* terms, Py_ssize_t low, Py_ssize_t high, real* gradient) noexcept nogil:
    # Write elements low <= i < high of the gradient, the sums over all parts. `low` and `high` are multiples of VL.
    cdef Py_ssize_t i
    cdef vec total
    cdef int part
    for i from low <= i < high by VL:
        total = load(terms.gradients + i)
        for part in range(1, terms.parts):
            total = total + load(terms.gradients + part * terms.size + i)
        store(gradient + i, total)


cdef inline double coefficient_gradient(const Terms* terms, int i) noexcept nogil:
    # Return the derivative of the loss with respect to coefficient i.
    cdef double total = 0
    cdef int part
    for part in range(terms.parts):
        total += terms.coefficient_gradients[part * terms.n_coefficients + i]
    return total


# Training on the terms of a loss.

cdef struct EquationRun:  # State of a training run on terms; `run` contains the network, the optimizer and the epochs.
    Run* run
    Terms terms
    real* gradient        # gradient with respect to the parameters of the network (size)
    Py_ssize_t padded     # length of the arrays of coefficients: their number, rounded up to whole vectors
    real* coefficients    # values of the coefficients, and m, v: their moments; owned by the caller
    real* m
    real* v
    real* coefficient_gradient
    double* term_losses   # mean of the squares of each term in each epoch (epochs, count), owned by the caller


cdef inline bint update_coefficients(EquationRun* e) noexcept nogil:
    # Take the optimizer step of the coefficients; return whether all of them are finite.
    cdef vec nonfinite = splat(0)
    cdef int i
    if e.padded == 0:
        return True
    for i in range(e.terms.n_coefficients):
        e.coefficient_gradient[i] = <real>coefficient_gradient(&e.terms, i)
    update(&e.run.optimizer, e.coefficients, e.coefficient_gradient, e.m, e.v, e.padded, 1, False, True, &nonfinite)
    return all_finite(nonfinite)


cdef inline void train_on_terms(EquationRun* e, int thread) noexcept nogil:
    # Train until the last epoch or the time limit. All run.threads threads call this function. An epoch is one step,
    # which has two phases as in run.pxd: each thread computes the gradients of whole parts, and then updates its share
    # of the parameters.
    cdef Run* run = e.run
    cdef Network* net = &run.net
    cdef Layer* layer
    cdef Optimizer* optimizer = &run.optimizer
    cdef Optimizer before
    cdef Py_ssize_t epoch = run.epoch
    cdef int threads = run.threads, part, t, l
    cdef double loss, deadline = now() + run.seconds
    cdef real* gradient
    cdef bint aborted
    while epoch < run.epochs and not run.stop and not run.pause and not is_broken(net):
        part = thread
        while part < e.terms.parts:
            compute_part(&e.terms, part, &e.terms.workspaces[thread], True, NULL)
            part += threads
        if thread == 0:
            optimizer.lr = optimizer.bias_lr = run.learning_rates[epoch * run.rate_stride]
            before = optimizer[0]
            if not optimizer.plain:
                count_step(optimizer, 1)
            update_groups(net, optimizer)
        aborted = threads > 1 and barrier_wait(&run.barrier)
        loss = total_loss(&e.terms)
        if aborted or not loss - loss == 0:      # take no step if a thread has failed or the loss is not finite
            if thread == 0:
                run.diverged = run.stop = not aborted
                optimizer[0] = before
            break
        gradient = e.gradient
        for l in range(net.count):
            layer = &net.layers[l]
            add_parts(&e.terms, gradient - e.gradient + first_row(layer, thread, threads) * layer.parameter_ld,
                      gradient - e.gradient + end_row(layer, thread, threads) * layer.parameter_ld, e.gradient)
            gradient += parameter_count(layer)
        learn(net, 0, False, True, optimizer, NULL, thread, threads, NULL)
        if thread == 0:
            if not update_coefficients(e):
                run.diverged = run.stop = True
            for t in range(e.terms.count):
                e.term_losses[epoch * e.terms.count + t] = term_loss(&e.terms, t) / e.terms.items[t].divisor
            end_epoch(run, epoch, loss)
            run.pause = now() > deadline
        epoch += 1
        if threads > 1 and barrier_wait(&run.barrier):
            break
    if thread == 0:
        run.epoch = epoch - is_broken(net)
