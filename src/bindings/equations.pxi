# Training on the residuals of equations. Included by _core.pyx.

POINTS = POINT_VECS * VL  # number of points in a block


def equation_parts(Py_ssize_t blocks):
    """Return the number of parts of a step on terms with this total number of blocks, which limits the threads."""
    return number_of_parts(blocks)


cdef class EquationTraining(Training):
    """Training run whose loss is a weighted sum of squares of residuals (residual.pxd).

    The constructor is that of Training; `rows` is None. `set_terms` must be called before the first step. An epoch is
    one step on all points.
    """
    cdef Terms terms
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
        cdef Terms* e = &self.terms
        cdef Run* run = &self.run
        cdef Layer* group = &run.net.layers[run.net.count]
        cdef real[::1] values = coefficients[0]
        cdef real[:, ::1] m = moments
        cdef int channels = 1, slots = 1, t
        cdef Term* term
        cdef Arena arena = Arena(0, 0)
        self.arrays = [terms, coefficients, moments]
        free(self.items)
        free(self.term_memory)
        self.term_memory = NULL
        self.items = e.items = <Term*>calloc(len(terms), sizeof(Term))
        if self.items is NULL:
            raise MemoryError
        e.count, e.blocks, e.n_coefficients = len(terms), 0, coefficients[1]
        e.coefficients = &values[0] if values.shape[0] > 0 else NULL
        for t, description in enumerate(terms):
            term = &self.items[t]
            self.set_term(term, description)
            e.blocks += term.blocks
            channels, slots = max(channels, term.channels.count), max(slots, term.n_inputs + term.count)
        # the coefficients are one more group of parameters, without penalties
        memset(group, 0, sizeof(Layer))
        group.kind, group.rows, group.neurons, group.parameter_ld = SCALE, 1, e.n_coefficients, values.shape[0]
        group.W = <real*>e.coefficients
        if m.shape[0] > 0 and m.shape[1] > 0:
            group.m, group.v = &m[0, 0], &m[m.shape[0] - 1, 0]
        run.net.groups = run.net.count + 1
        self.lay_out_terms(&arena, threads, channels, slots)
        self.term_memory = allocate_arena(&arena, POINTS)
        self.lay_out_terms(&arena, threads, channels, slots)
        for t in range(threads):
            set_taylor_parameters(&e.workspaces[t].taylor, run.net.layers[0].W)
        run.net.refreshed = True              # no step needs the transposed weights
        run.data.n = run.batch = e.parts
        run.single_thread = e.parts == 1
        run.objective = Objective(e, part_gradient, record_terms, True)

    cdef int set_term(self, Term* term, description) except -1:
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
                         self.terms.n_coefficients)
        term.X, term.columns, term.weights = &X[0, 0, 0], &columns[0, 0, 0], &weights[0, 0]
        return 0

    cdef void lay_out_terms(self, Arena* arena, int threads, int channels, int slots) noexcept:
        # Allocate all buffers of the terms in the arena, and the gradients of their parts.
        lay_out_term_buffers(&self.terms, self.run.net.layers, self.run.net.count, arena, threads, channels, slots)
        lay_out_rounds(&self.run, arena, self.terms.parts,
                       self.engine.size + self.run.net.layers[self.run.net.count].parameter_ld)

    def __dealloc__(self):
        free(self.items)
        free(self.term_memory)

    def set_term_losses(self, double[:, ::1] losses):
        """Set the array (epochs, terms) that receives the mean of the weighted squares of each term in each epoch."""
        self.arrays.append(losses)
        self.terms.term_losses = &losses[0, 0]

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
        cdef Terms* e = &self.terms
        cdef Run* run = &self.run
        cdef const Layer* group = &run.net.layers[run.net.count]
        cdef const real[::1] values = seeds
        cdef const real* seed_values = &values[0] if seeds is not None else NULL
        cdef bint with_gradient = gradient is not None
        cdef unsigned int mode
        cdef int part, t
        cdef double total = 0
        with nogil:
            mode = flush_denormals()
            for part in range(e.parts):
                total += compute_part(e, part, &e.workspaces[0], 1, NULL if not with_gradient else
                                      run.block_gradients + part * run.gradient_size, seed_values)
            for t in range(e.count):
                term_losses[t] = mean_square(e, t)
            if with_gradient:
                add_gradients(run, e.parts, True, 0, 1)
                memcpy(&gradient[0], run.net.layers[0].gradient, gradient.shape[0] * sizeof(real))
                for t in range(e.n_coefficients):
                    by_coefficients[t] = group.gradient[t]
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
        cdef const Terms* e = &self.terms
        cdef const Term* term = &e.items[t]
        cdef Workspace* work = &e.workspaces[0]
        cdef unsigned int mode
        cdef Py_ssize_t block
        cdef int i
        with nogil:
            mode = flush_denormals()
            for block in range(term.blocks):
                compute_residuals(e, term, block, work)
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
        cdef const Terms* e = &self.terms
        cdef const Term* term = &e.items[t]
        cdef Workspace* work = &e.workspaces[0]
        cdef const real* weights
        cdef Py_ssize_t lanes = POINT_VECS * VL, row = 0, block = first, slot
        cdef unsigned int mode
        cdef int i, b, lane
        cdef vec root
        with nogil:
            mode = flush_denormals()
            while row < r.shape[0]:
                compute_residuals(e, term, block, work)
                weights = term.weights + block * lanes
                for i in range(term.n_results):
                    clear_slopes(term, work)
                    slot = term.results[i] * POINT_VECS
                    for b in range(POINT_VECS):
                        root = vsqrt(load(weights + b * VL) * <real>term.factor)
                        work.slopes[slot + b] = root
                        store(&r[row + b * VL], root * work.values[slot + b])
                    propagate(e, term, work)
                    write_jacobian(&work.taylor, &J[row, 0], J.shape[1], lanes)
                    slot = term.n_inputs - e.n_coefficients
                    for b in range(e.n_coefficients):
                        for lane in range(lanes):
                            J[row + lane, work.taylor.n_params + b] = (
                                <const real*>(work.slopes + (slot + b) * POINT_VECS))[lane]
                    row += lanes
                block += 1
            restore_denormals(mode)
