# What Python asks of a network: a part of _core.pyx.

cdef class Engine:
    """A network's layers as the kernels see them; the numbers stay in arrays of the caller.

    Parameters
    ----------
    layers : sequence of dict
        One description for each layer, from the inputs to the outputs. All have "kind", a name of KINDS, and
        "input_shape" and "output_shape" of a row. Dense and convolutional layers have "activation", a name of
        ACTIVATIONS, and "bias". Convolutions and pools have "window" and "stride", convolutions also "pad". A batch
        norm has "activation", "momentum" and "eps".
    loss : str
        A name of LOSSES.
    parameter : float
        Of the loss: huber's delta, quantile's tau, cross_entropy's label smoothing.
    heads : sequence of tuples, optional
        Several losses in place of `loss`: (loss, parameter, activation, n, weight) for each, where n is its number of
        outputs. The activation of the last layer must be the identity.
    missing : float, optional
        A target with this value is missing. Default: all targets of the heads are there.

    Raises
    ------
    ValueError, KeyError
        A name is not known, a description has too much or lacks something, or a layer does not fit on the one below.
    """
    cdef Plan plan
    cdef Head* heads
    cdef readonly Py_ssize_t size     # parameters, padding included
    cdef readonly tuple layout        # per layer: start, rows of W, padded width, has bias; 2 more rows of a batch norm

    def __cinit__(self, layers, loss, double parameter=0, heads=(), double missing=NAN):
        cdef Plan* plan = &self.plan
        cdef Layer* layer
        cdef int l
        plan.count = len(layers)
        if plan.count == 0:
            raise ValueError("a network has one layer at least")
        plan.loss, plan.parameter = number_of("loss", loss, LOSSES), parameter
        plan.layers = <Layer*>calloc(plan.count, sizeof(Layer))
        if plan.layers is NULL:
            raise MemoryError
        layout = []
        for l in range(plan.count):
            layer = &plan.layers[l]
            describe(layer, layers[l])
            if l > 0 and (layer.n_in != (layer - 1).n_out or
                          layer.kind != DENSE and memcmp(&layer.in_shape, &(layer - 1).out_shape, sizeof(Shape)) != 0):
                raise ValueError(f"layer {l + 1} takes {layer.n_in} inputs, "
                                 f"and the one below has {(layer - 1).n_out} outputs")
            if l == 0 and layer.kind == BATCH_NORM:
                raise ValueError("the first layer is a batch norm, which stands on another layer")
            set_sizes(layer, l == 0)
            plan.norms += layer.kind == BATCH_NORM
            if layer.kind == SCALE or layer.kind == BATCH_NORM and not layer.in_lanes:
                if not is_consistent(layer):
                    raise ValueError(f"layer {l + 1}, {layers[l]}, gives another number of outputs than it takes")
                if l > 0 and (layer - 1).in_lanes:
                    raise ValueError(f"layer {l + 1} is a scale and stands on images, with no flatten between them")
            elif layer.kind != DENSE:
                if (l != plan.image_layers or (l == 0) != (layer.kind == INPUT) or l > 0 and not (layer - 1).in_lanes
                        or not is_consistent(layer)):
                    raise ValueError(f"layer {l + 1}, {layers[l]}, does not stand on images, the input lowest, "
                                     "or does not fit there")
                plan.image_layers += 1
            elif l > 0 and (layer - 1).in_lanes:
                raise ValueError(f"layer {l + 1} is dense and stands on images, with no flatten between them")
            layout.append((plan.size, layer.rows, layer.ld, bool(layer.bias)))
            plan.size += parameter_count(layer)
        if plan.layers[plan.count - 1].kind != DENSE:
            raise ValueError("the last layer has to be a dense one")
        plan.fuse_pools = True
        self.layout, self.size = tuple(layout), plan.size
        if heads:
            self.set_heads(heads, missing)

    cdef int set_heads(self, heads, double missing) except -1:
        cdef Plan* plan = &self.plan
        cdef const Layer* last = &plan.layers[plan.count - 1]
        cdef Head* head
        cdef Py_ssize_t first = 0
        cdef int h
        self.heads = <Head*>calloc(len(heads), sizeof(Head))
        if self.heads is NULL:
            raise MemoryError
        for h, (loss, parameter, activation, n, weight) in enumerate(heads):
            head = &self.heads[h]
            head.loss, head.parameter = number_of("loss", loss, LOSSES), parameter
            head.activation = number_of("activation", activation, ACTIVATIONS)
            head.first, head.n, head.weight = first, n, weight
            first += head.n
        if first != last.n_out or last.activation != activations.IDENTITY:
            raise ValueError(f"heads must have {last.n_out} outputs, and the last layer the identity, got {heads}")
        plan.loss = HEADS
        plan.heads.count, plan.heads.of, plan.heads.missing = len(heads), self.heads, missing
        return 0

    def __dealloc__(self):
        free(self.plan.layers)
        free(self.heads)

    def are_targets(self, Y):
        """Return whether Y is an array of targets of the heads that needs no conversion; numbers may not be finite."""
        cdef Py_ssize_t n = 0, n_out = self.plan.layers[self.plan.count - 1].n_out
        cdef const real* y = rows_of(Y, n_out, 0, &n)
        return y is not NULL and are_targets(&self.plan.heads, y, n, n_out)

    def blocks(self, Py_ssize_t batch):
        """How many threads can share a batch of so many rows by taking whole blocks; 0 where they share rows and
        parameters."""
        cdef Py_ssize_t block = block_rows(&self.plan, batch, TRAIN)
        return (batch + block - 1) // block if shares_blocks(&self.plan, batch) else 0

    def predict(self, const real[::1] params, const real[:, ::1] X, real[:, ::1] out):
        """Writes the outputs of the network for the rows of X (n, n_in) into out (n, n_out). Returns -1, or where X is
        not finite, with nothing done."""
        return self.outputs_of(&params[0], &X[0, 0], X.shape[0], &out[0, 0])

    cdef Py_ssize_t outputs_of(self, const real* params, const real* X, Py_ssize_t n, real* out) except? -1:
        cdef double largest
        cdef Network net
        cdef Plan plan = self.plan
        cdef Py_ssize_t position, row, rows, n_in = plan.layers[0].n_in
        cdef Py_ssize_t block = block_rows(&plan, n, PREDICT)
        plan.by_pixels = plan.image_layers > 0 and is_faster_by_pixels(plan.layers, plan.image_layers, n)
        cdef void* memory = open_network(&net, &plan, params, block, PREDICT, NULL)
        cdef const Layer* last = &net.layers[net.count - 1]
        with nogil:
            position = first_not_finite(X, n * n_in, &largest)
            if position < 0:
                mode = flush_denormals()
                for row from 0 <= row < n by block:
                    rows = smaller(block, n - row)
                    predict(&net, X + row * n_in, rows)
                    unpad(last.A, last, rows, out + row * last.n_out)
                restore_denormals(mode)
        free(memory)
        return position

    # Fast path of frequent calls: X, Y and out may be any objects, and `data_as_is` checks them. All three functions
    # return None if the arrays must be converted first, or if numbers are not finite.

    def predict_as_is(self, const real[::1] params, X, out=None):
        """Return the outputs for the rows of X, written into `out` if given."""
        cdef Py_ssize_t m, n_out = self.plan.layers[self.plan.count - 1].n_out
        cdef Data data = data_as_is(X, out, self.plan.layers[0].n_in, n_out, PyBUF_WRITABLE)
        if data.n == 0:
            return None
        if out is None:
            out = empty((data.n, n_out), DTYPE)
            data.Y = rows_of(out, n_out, PyBUF_WRITABLE, &m)
        return out if self.outputs_of(&params[0], data.X, data.n, <real*>data.Y) < 0 else None

    def loss_as_is(self, const real[::1] params, X, Y):
        """Return the loss of the rows of X against the targets Y."""
        cdef Data data = data_as_is(X, Y, self.plan.layers[0].n_in, self.plan.layers[self.plan.count - 1].n_out)
        cdef double loss = self.compute_loss(&params[0], data) if data.n > 0 else NAN
        return loss if loss < INFINITY else None

    def gradients_as_is(self, const real[::1] params, X, Y, real[::1] gradient):
        """Return the loss, and write its gradient into `gradient` as `gradients` does."""
        cdef Data data = data_as_is(X, Y, self.plan.layers[0].n_in, self.plan.layers[self.plan.count - 1].n_out)
        cdef double loss = self.gradients_of(&params[0], &data, &gradient[0], NULL) if data.n > 0 else NAN
        return loss if loss < INFINITY else None

    def forward(self, const real[::1] params, const real[:, ::1] X, list out_rows):
        """Writes the outputs of every layer for the rows of X (n, n_in) into the arrays (n, n_out) of `outs`, None for
        a layer that is not asked for. Returns as `predict` does."""
        cdef double largest
        cdef Py_ssize_t position
        with nogil:
            position = first_not_finite(&X[0, 0], X.shape[0] * X.shape[1], &largest)
        if position >= 0:
            return position
        cdef Network net
        cdef Plan plan = self.plan
        plan.fuse_pools = False
        cdef Py_ssize_t n = X.shape[0], row, rows
        cdef Py_ssize_t block = block_rows(&self.plan, n, PREDICT)
        cdef void* memory = open_network(&net, &plan, &params[0], block, PREDICT, NULL)
        cdef real[:, ::1] out
        cdef int l
        mode = flush_denormals()
        for row from 0 <= row < n by block:
            rows = smaller(block, n - row)
            predict(&net, &X[row, 0], rows)
            for l in range(net.count):
                out = out_rows[l]
                if out is None:
                    continue
                if net.layers[l].in_lanes:
                    copy_outputs(&net.layers[l], rows, &out[row, 0])
                else:
                    unpad(net.layers[l].A, &net.layers[l], rows, &out[row, 0])
        restore_denormals(mode)
        free(memory)
        return -1

    def loss(self, const real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels,
             const real[::1] weights):
        """The loss of the rows of X, with the arguments of `gradient`. NaN, with nothing done, where X or Y is not
        finite."""
        return self.compute_loss(&params[0], as_data(X, Y, labels, weights, None))

    cdef double compute_loss(self, const real* params, Data data) except? -1:
        cdef const Plan* plan = &self.plan
        cdef EvaluationState state
        cdef Arena arena = Arena(0, 0)
        cdef double loss = NAN
        state.threads, state.data, state.out = 1, data, NULL
        lay_out_parts(&state, plan, &arena, <real*>params)
        cdef void* memory = reserve(&arena, block_rows(plan, data.n, EVALUATE))
        lay_out_parts(&state, plan, &arena, <real*>params)
        with nogil:
            if are_finite(&state.data, plan.layers, plan.count):
                mode = flush_denormals()
                restart(&state)
                evaluate(&state, 0, state.data.n)
                restore_denormals(mode)
                loss = plain_loss(&state) * loss_scale(plan.loss, state.data.weight, plan.layers[plan.count - 1].n_out)
        free(memory)
        return loss

    def gradient(self, const real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels,
                 const real[::1] weights, real[::1] gradient, real[:, ::1] input_gradient=None):
        """The loss of the rows of X against the targets Y (n, n_out), or against labels (n), each row counting
        `weights` (n) times; its gradient goes into `gradient`, padded as the parameters are, and its derivative by the
        inputs into `by_inputs` (n, n_in). Where there is a batch norm, these two are of the loss as a training step has
        it, or with `by_inputs` as `loss` has it."""
        cdef Data data = as_data(X, Y, labels, weights, None)
        return descend(&self.plan, &params[0], &data, &gradient[0],
                       NULL if input_gradient is None else &input_gradient[0, 0], True)

    def gradients(self, const real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels,
                  const real[::1] weights, real[::1] gradient, real[:, ::1] input_gradient=None):
        """The same, but that the gradient has no padding: of each layer W, row by row, then b. NaN, and nothing of use,
        where X or Y is not finite."""
        cdef Data data = as_data(X, Y, labels, weights, None)
        return self.gradients_of(&params[0], &data, &gradient[0],
                                 NULL if input_gradient is None else &input_gradient[0, 0])

    cdef double gradients_of(self, const real* params, const Data* data, real* to, real* input_gradient) except? -1:
        cdef Arena arena = Arena(0, 0)
        take(&arena, self.size * sizeof(real))
        cdef void* memory = reserve(&arena, 0)
        cdef real* padded = <real*>take(&arena, self.size * sizeof(real))
        cdef double loss
        cdef const Layer* layer
        cdef Py_ssize_t i
        cdef int l
        try:
            loss = descend(&self.plan, params, data, padded, input_gradient, False)
            for l in range(self.plan.count):
                layer = &self.plan.layers[l]
                for i in range(layer.rows + layer.bias):
                    memcpy(to, padded + i * layer.ld, layer.out_shape.channels * sizeof(real))
                    to += layer.out_shape.channels
                padded += parameter_count(layer)
        finally:
            free(memory)
        return loss

    def jacobian(self, const real[::1] params, const real[:, ::1] X, real[:, ::1] P, real[:, :, ::1] J):
        """Writes the outputs for the rows of X into P (n, n_out) and their derivatives by the parameters, those of W
        and b layer by layer without padding, into J (n, n_out, parameters)."""
        cdef Network net
        cdef Py_ssize_t n = X.shape[0], row, rows
        cdef Py_ssize_t block = block_rows(&self.plan, n, TRAIN)
        cdef Data data = as_data(X, P, None, None, None)
        cdef void* memory = open_network(&net, &self.plan, &params[0], block, TRAIN, &data)
        cdef const Layer* last = &net.layers[net.count - 1]
        with nogil:
            for row from 0 <= row < n by block:
                rows = smaller(block, n - row)
                predict(&net, &X[row, 0], rows)
                unpad(last.A, last, rows, &P[row, 0])
                jacobian_of_rows(&net, rows, &J[row, 0, 0])
        free(memory)

    def input_jacobian(self, const real[::1] params, const real[:, ::1] X, real[:, :, ::1] J):
        """Writes the derivatives of the outputs for the rows of X by the inputs into J (n, n_out, n_in). Returns as
        `predict` does."""
        cdef double largest
        cdef Network net
        cdef Plan plan = self.plan
        plan.needs_input_gradient = plan.use_running_stats = True
        cdef Py_ssize_t position, n = X.shape[0], row, rows
        cdef Py_ssize_t block = block_rows(&plan, n, TRAIN)
        cdef Data data = as_data(X, None, None, None, None)
        cdef void* memory = open_network(&net, &plan, &params[0], block, TRAIN, &data)
        net.input_gradient = <real*>malloc(block * net.block.n_in * sizeof(real))
        if net.input_gradient is NULL:
            free(memory)
            raise MemoryError(f"no memory for the derivatives of {block} rows")
        with nogil:
            position = first_not_finite(&X[0, 0], n * X.shape[1], &largest)
            if position < 0:
                mode = flush_denormals()
                for row from 0 <= row < n by block:
                    rows = smaller(block, n - row)
                    predict(&net, &X[row, 0], rows)
                    input_jacobian_of_rows(&net, rows, &J[row, 0, 0])
                restore_denormals(mode)
        free(net.input_gradient)
        free(memory)
        return position


cdef class Evaluation:
    """The loss of a network over rows, and its outputs for them, worked out by any number of threads.

    Parameters
    ----------
    engine : Engine
    params : real array (engine.size)
    X, Y, labels, weights : arrays
        As for Training.
    out : real array (n, n_out) or None
        Gets the outputs.
    threads : int
        How many threads will do it.
    rows : int32 array (m) or None
        As for Training.
    """
    cdef EvaluationState state
    cdef Task of_thread
    cdef void* memory
    cdef double scale
    cdef object keep_alive

    def __cinit__(self, Engine engine, const real[::1] params, const real[:, ::1] X, const real[:, ::1] Y,
                  const int[::1] labels, const real[::1] weights, real[:, ::1] out, int threads, rows=None):
        cdef const Plan* plan = &engine.plan
        cdef Arena arena = Arena(0, 0)
        self.keep_alive = engine, params, X, Y, labels, weights, out, rows
        self.of_thread = Task(work_on_parts, &self.state)
        self.state.out = NULL if out is None else &out[0, 0]
        self.state.threads, self.state.data = threads, as_data(X, Y, labels, weights, None, rows)
        self.scale = loss_scale(plan.loss, self.state.data.weight, plan.layers[plan.count - 1].n_out)
        lay_out_parts(&self.state, plan, &arena, <real*>&params[0])
        self.memory = reserve(&arena, block_rows(plan, self.state.data.n, EVALUATE))
        lay_out_parts(&self.state, plan, &arena, <real*>&params[0])
        self.restart()

    def __dealloc__(self):
        free(self.memory)

    def restart(self):
        """Begins anew, with the parameters as they are now."""
        restart(&self.state)

    @property
    def done(self):
        return is_done(&self.state)

    @property
    def threads(self):
        return self.state.threads

    @property
    def loss(self):
        """The loss, once all is done."""
        return plain_loss(&self.state) * self.scale

    @property
    def task(self):
        """For the threads of a team: each goes on for up to so many blocks of rows. It is good for as long as this
        object is."""
        return PyCapsule_New(&self.of_thread, NULL, NULL)


cdef void work_on_parts(void* state, int thread, Py_ssize_t blocks) noexcept nogil:
    cdef unsigned int mode = flush_denormals()
    evaluate(<EvaluationState*>state, thread, blocks)
    restore_denormals(mode)
