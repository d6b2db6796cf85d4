# Training on the residuals of equations. Included by _core.pyx.

POINTS = POINT_VECS * VL  # number of points in a block


def equation_parts(Py_ssize_t blocks):
    """Return the number of parts of a step on terms with this total number of blocks, which limits the threads."""
    return number_of_parts(blocks)


cdef class EquationTraining(Training):
    """Training run whose loss is a weighted sum of squares of residuals; see train_on_terms() in residual.pxd.

    The constructor is that of Training. The run uses neither X nor Y, so one row of zeros suffices. `set_terms` must be
    called before the first step. An epoch is one step on all points.
    """
    cdef EquationRun equations
    cdef void* term_memory        # memory block with all buffers of the terms
    cdef Term* items
    cdef list arrays              # references that keep the arrays of the terms and the coefficients alive

    def set_terms(self, terms, coefficients, moments, int threads):
        """Set the terms of the loss, or replace them between two steps.

        Parameters
        ----------
        terms : list of tuples
            (program, X, columns, weights, divisor, factor) for each term. `program` is (inputs, left, right, operations
            (k, 3), results, constants (k)): int32 arrays, and float64 constants. `inputs` has the input of each first
            derivative. `left` and `right` are positions in `inputs` for each second derivative. X, columns and
            weights are real arrays (blocks, n_in, POINTS), (blocks, n_columns, POINTS) and (blocks, POINTS). The sum
            of squares divided by `divisor` is the mean square. `factor` is the weight of the term divided by `divisor`.
        coefficients : (real array (padded), int)
            Values of the coefficients, padded to whole vectors and trained in place; and their number.
        moments : real array (k, padded)
            Moments of the optimizer for the coefficients: m is the first row, v the last.
        threads : int
            Maximum number of threads.
        """
        cdef EquationRun* e = &self.equations
        cdef real[::1] values = coefficients[0]
        cdef real[:, ::1] m = moments
        cdef int channels = 1, slots = 1, t, n_coefficients = coefficients[1]
        cdef Term* term
        cdef Arena arena = Arena(0, 0)
        self.arrays = [terms, coefficients, moments]
        free(self.items)
        free(self.term_memory)
        self.term_memory = NULL
        self.items = e.terms.items = <Term*>calloc(len(terms), sizeof(Term))
        if self.items is NULL:
            raise MemoryError
        e.run, e.terms.count, e.terms.blocks, e.terms.n_coefficients = &self.run, len(terms), 0, n_coefficients
        e.padded, e.coefficients = values.shape[0], &values[0] if values.shape[0] > 0 else NULL
        e.terms.coefficients = e.coefficients
        if m.shape[0] > 0 and m.shape[1] > 0:
            e.m, e.v = &m[0, 0], &m[m.shape[0] - 1, 0]
        for t, description in enumerate(terms):
            term = &self.items[t]
            self.set_term(term, description, n_coefficients)
            e.terms.blocks += term.blocks
            channels, slots = max(channels, term.channels.count), max(slots, term.n_inputs + term.count)
        self.lay_out_terms(&arena, threads, channels, slots)
        self.term_memory = allocate_arena(&arena, POINTS)
        self.lay_out_terms(&arena, threads, channels, slots)
        for t in range(threads):
            set_taylor_parameters(&e.terms.workspaces[t].taylor, self.run.net.layers[0].W)
        set_gradient(&self.run.net, e.gradient)
        self.run.net.refreshed = True
        self.task_struct = Task(equation_task, e)

    cdef int set_term(self, Term* term, description, int n_coefficients) except -1:
        # Fill the struct of a term from its description, a tuple as in set_terms().
        cdef const int[::1] inputs, left, right, results
        cdef const int[:, ::1] operations
        cdef const double[::1] constants
        cdef const real[:, :, ::1] X, columns
        cdef const real[:, ::1] weights
        program, X, columns, weights, term.divisor, term.factor = description
        inputs, left, right, operations, results, constants = program
        term.channels = Channels(1 + inputs.shape[0] + left.shape[0], inputs.shape[0], left.shape[0], &inputs[0],
                                 &left[0], &right[0])
        term.operations, term.constants, term.count = &operations[0, 0], &constants[0], operations.shape[0]
        term.results, term.n_results = &results[0], results.shape[0]
        term.n_columns, term.blocks = columns.shape[1], X.shape[0]
        term.n_inputs = (self.run.net.layers[self.run.net.count - 1].n_out * term.channels.count + term.n_columns +
                         n_coefficients)
        term.X, term.columns, term.weights = &X[0, 0, 0], &columns[0, 0, 0], &weights[0, 0]
        return 0

    cdef void lay_out_terms(self, Arena* arena, int threads, int channels, int slots) noexcept:
        # Allocate all buffers of the terms in the arena.
        cdef EquationRun* e = &self.equations
        lay_out_term_buffers(&e.terms, self.run.net.layers, self.run.net.count, arena, threads, channels, slots)
        e.gradient = <real*>allocate(arena, e.terms.size * sizeof(real))
        e.coefficient_gradient = <real*>allocate_zeros(arena, (e.padded + 1) * sizeof(real))

    def __dealloc__(self):
        free(self.items)
        free(self.term_memory)

    @property
    def single_threaded(self):
        """Return whether only one thread can work on this run."""
        return self.equations.terms.parts == 1

    def set_term_losses(self, double[:, ::1] losses):
        """Set the array (epochs, terms) that receives the mean of the weighted squares of each term in each epoch."""
        self.arrays.append(losses)
        self.equations.term_losses = &losses[0, 0]

    def loss(self, double[::1] term_losses, real[::1] gradient=None, double[::1] by_coefficients=None, seeds=None):
        """Return the loss for the current parameters, and compute its gradient if the array `gradient` is given.

        Parameters
        ----------
        term_losses : float64 array (terms)
            Receives the mean of the weighted squares of each term.
        gradient : real array (engine.size), optional
            Receives the gradient, padded like the parameters.
        by_coefficients : float64 array (n_coefficients), optional
            Receives the derivatives of the loss with respect to the coefficients.
        seeds : real array, optional
            Compute J' times the seeds instead of the gradient, where J is the Jacobian that `jacobian` writes.
        """
        cdef EquationRun* e = &self.equations
        cdef const real[::1] values = seeds
        cdef const real* seed_values = &values[0] if seeds is not None else NULL
        cdef bint with_gradient = gradient is not None
        cdef unsigned int mode
        cdef int part, t
        cdef double total
        with nogil:
            mode = flush_denormals()
            for part in range(e.terms.parts):
                compute_part(&e.terms, part, &e.terms.workspaces[0], with_gradient, seed_values)
            total = total_loss(&e.terms)
            for t in range(e.terms.count):
                term_losses[t] = term_loss(&e.terms, t) / e.terms.items[t].divisor
            if with_gradient:
                add_parts(&e.terms, 0, e.terms.size, &gradient[0])
                for t in range(e.terms.n_coefficients):
                    by_coefficients[t] = coefficient_gradient(&e.terms, t)
            restore_denormals(mode)
        return total

    def values(self, int t, real[:, ::1] out, bint with_channels=False):
        """Write the residuals of term t for the current parameters, or the channels of its outputs (taylor.pxd).

        Parameters
        ----------
        t : int
            Index of the term.
        out : real array (blocks, n_results * POINTS) or (blocks, n_out * channels * POINTS)
            Result.
        with_channels : bint
            Whether to write the channels instead of the residuals.
        """
        cdef EquationRun* e = &self.equations
        cdef const Term* term = &e.terms.items[t]
        cdef Workspace* work = &e.terms.workspaces[0]
        cdef unsigned int mode
        cdef Py_ssize_t block
        cdef int i
        with nogil:
            mode = flush_denormals()
            for block in range(term.blocks):
                compute_residuals(&e.terms, term, block, work)
                for i in range(1 if with_channels else term.n_results):
                    memcpy(&out[block, i * POINT_VECS * VL], work.values + (0 if with_channels else term.results[i]) *
                           POINT_VECS, (out.shape[1] if with_channels else POINT_VECS * VL) * sizeof(real))
            restore_denormals(mode)

    def jacobian(self, int t, Py_ssize_t first, real[::1] r, real[:, ::1] J):
        """Write the residuals of term t, and their Jacobian with respect to the parameters and the coefficients.

        Both are multiplied by the square root of weight * factor, so that the loss is the sum of all r**2.

        Parameters
        ----------
        t, first : int
            Index of the term, and its first block.
        r : real array (rows)
            Residuals. The rows belong to n_results residuals of POINTS points for each block.
        J : real array (rows, n_params + n_coefficients)
            Jacobian. Parameters are in the order of `Engine.gradients`.
        """
        cdef EquationRun* e = &self.equations
        cdef const Term* term = &e.terms.items[t]
        cdef Workspace* work = &e.terms.workspaces[0]
        cdef const real* weights
        cdef Py_ssize_t lanes = POINT_VECS * VL, row = 0, block = first, slot
        cdef unsigned int mode
        cdef int i, b, lane
        cdef vec root
        with nogil:
            mode = flush_denormals()
            while row < r.shape[0]:
                compute_residuals(&e.terms, term, block, work)
                weights = term.weights + block * lanes
                for i in range(term.n_results):
                    clear_slopes(term, work)
                    slot = term.results[i] * POINT_VECS
                    for b in range(POINT_VECS):
                        root = vsqrt(load(weights + b * VL) * <real>term.factor)
                        work.slopes[slot + b] = root
                        store(&r[row + b * VL], root * work.values[slot + b])
                    propagate(&e.terms, term, work)
                    write_jacobian(&work.taylor, &J[row, 0], J.shape[1], lanes)
                    slot = term.n_inputs - e.terms.n_coefficients
                    for b in range(e.terms.n_coefficients):
                        for lane in range(lanes):
                            J[row + lane, work.taylor.n_params + b] = (
                                <const real*>(work.slopes + (slot + b) * POINT_VECS))[lane]
                    row += lanes
                block += 1
            restore_denormals(mode)


cdef void equation_task(void* context, int thread, Py_ssize_t amount) noexcept nogil:
    # Train until the last epoch or the time limit as thread number `thread`; a Task of a thread team calls this
    # function.
    cdef unsigned int mode = flush_denormals()
    train_on_terms(<EquationRun*>context, thread)
    restore_denormals(mode)
