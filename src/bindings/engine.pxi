# Networks and their evaluation. Included by _core.pyx.

cdef class Engine:
    """Layers of a network in the form that the kernels read. Parameters and data stay in arrays of the caller.

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
        Parameter of the loss, such as delta of the Huber loss.
    heads : sequence of tuples, optional
        Several losses in place of `loss`: (loss, parameter, activation, n, weight) for each, where n is its number of
        outputs. The activation of the last layer must be the identity.
    missing : float, optional
        A target with this value is missing. Default: no target is missing.

    Raises
    ------
    ValueError, KeyError
        A name or an option is unknown, an option is missing, or the shapes of two layers do not match.
    """
    cdef Plan plan
    cdef Head* heads
    cdef int* inputs                  # indices of all inputs if the targets include derivatives, else NULL
    cdef readonly Py_ssize_t size     # length of the parameter vector, including padding
    # tuple for each layer: index of its first element in the parameter vector, number of rows of W, padded row length,
    # and number of rows with biases. The parameters of a batch norm have two more rows, the running statistics.
    cdef readonly tuple layout

    def __cinit__(self, layers, loss, double parameter=0, heads=(), double missing=NAN, double slope_weight=NAN):
        cdef Plan* plan = &self.plan
        cdef Layer* layer
        cdef int l
        plan.count = len(layers)
        if plan.count == 0:
            raise ValueError("layers must contain at least one layer, got none")
        plan.loss, plan.parameter = name_index("loss", loss, LOSSES), parameter
        plan.layers = <Layer*>calloc(plan.count, sizeof(Layer))
        if plan.layers is NULL:
            raise MemoryError
        layout = []
        for l in range(plan.count):
            layer = &plan.layers[l]
            parse_layer(layer, layers[l])
            if l > 0 and (layer.n_in != (layer - 1).n_out or
                          layer.kind != DENSE and layer.in_shape.channels != (layer - 1).out_shape.channels):
                raise ValueError(f"layer {l + 1} must have as many inputs and channels as layer {l} returns, "
                                 f"got {layers[l - 1]} and {layers[l]}")
            if l == 0 and layer.kind == BATCH_NORM:
                raise ValueError("the first layer must not be a batch norm; insert another layer before it")
            set_sizes(layer, l == 0)
            plan.batch_norms += layer.kind == BATCH_NORM
            plan.recurrent_layers += layer.kind == RECURRENT
            if is_columnwise(layer.kind) and not layer.in_lanes:
                if not is_consistent(layer) or layer.in_shape.width > 1:
                    raise ValueError(f"layer {l + 1} must have as many outputs as inputs, got {layers[l]}")
                if l > 0 and (layer - 1).in_lanes:
                    raise ValueError(f"layer {l + 1}, {layers[l]}, must have vectors as inputs; insert a Flatten layer")
            elif layer.kind == RECURRENT:
                if not is_consistent(layer) or l > 0 and (layer - 1).in_lanes:
                    raise ValueError(f"layer {l + 1}, {layers[l]}, must have sequences as inputs and outputs")
            elif (layer.kind == MAX_POOL or layer.kind == AVG_POOL) and not layer.in_lanes:
                if not is_consistent(layer) or layer.in_shape.height > 1:
                    raise ValueError(f"layer {l + 1}, {layers[l]}, must have windows that fit into sequences")
            elif layer.kind != DENSE:
                if (l != plan.image_layers or (l == 0) != (layer.kind == INPUT) or l > 0 and not (layer - 1).in_lanes
                        or not is_consistent(layer)):
                    raise ValueError(f"layer {l + 1} must be the input or follow layers that return images, and its "
                                     f"windows must fit into these images, got {layers[l]}")
                plan.image_layers += 1
            elif l > 0 and (layer - 1).in_lanes:
                raise ValueError(f"layer {l + 1}, a dense layer, must have vectors as inputs; insert a Flatten layer")
            layout.append((plan.size, layer.rows, layer.parameter_ld, layer.bias))
            plan.size += parameter_count(layer)
        layer = &plan.layers[plan.count - 1]
        if layer.kind != DENSE and not (layer.kind == RECURRENT and layer.cell == DENSE_STEPS):
            raise ValueError(f"the last layer must be dense, got {layers[plan.count - 1]}")
        plan.fuse_pools = True
        self.layout, self.size = tuple(layout), plan.size
        if heads:
            self.set_heads(heads, missing)
        if slope_weight == slope_weight:
            self.set_slopes(slope_weight)

    cdef int set_heads(self, heads, double missing) except -1:
        # Store the heads, and use the sum of their losses as the loss of the network.
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
            head.loss, head.parameter = name_index("loss", loss, LOSSES), parameter
            head.activation = name_index("activation", activation, ACTIVATIONS)
            head.first, head.n, head.weight = first, n, weight
            first += head.n
        if first != last.n_out or last.activation != activations.IDENTITY:
            raise ValueError(f"heads must have {last.n_out} outputs in total and follow a layer with the "
                             f"activation identity, got heads {heads}")
        plan.loss = HEADS
        plan.heads.count, plan.heads.items, plan.heads.missing = len(heads), self.heads, missing
        return 0

    cdef int set_slopes(self, double weight) except -1:
        # Use values and derivatives with respect to all inputs as targets.
        cdef Plan* plan = &self.plan
        cdef Py_ssize_t i, n_in = plan.layers[0].n_in
        check_layers(plan)
        if plan.loss > MSE:
            raise ValueError("loss must be a squared error if the targets include derivatives")
        self.inputs = <int*>malloc(n_in * sizeof(int))
        if self.inputs is NULL:
            raise MemoryError
        for i in range(n_in):
            self.inputs[i] = <int>i
        plan.channels = Channels(<int>n_in + 1, <int>n_in, 0, self.inputs, NULL, NULL)
        plan.slope_weight, plan.has_objective = weight, True
        return 0

    def __dealloc__(self):
        free(self.plan.layers)
        free(self.heads)
        free(self.inputs)

    def are_targets(self, Y):
        """Return whether the heads can use Y as targets without conversion. NaN and infinity are not rejected."""
        cdef Py_ssize_t n = 0, n_out = self.plan.layers[self.plan.count - 1].n_out
        cdef const real* y = matrix_of(Y, n_out, 0, &n)
        return y is not NULL and are_targets(&self.plan.heads, y, n, n_out)

    def blocks(self, Py_ssize_t batch):
        """Return how many threads can share a batch of `batch` rows if each thread processes whole blocks of rows.

        Return 0 if the threads divide the rows of each block, and the parameters, among themselves instead.
        """
        cdef Py_ssize_t block = block_rows(&self.plan, batch, TRAIN)
        return (batch + block - 1) // block if shares_blocks(&self.plan, batch) or self.plan.recurrent_layers > 0 else 0

    def predict(self, const real[::1] params, rows, real[:, ::1] out):
        """Write the outputs of the network for the rows.

        Parameters
        ----------
        params : real array (engine.size)
            Parameter vector of the network, including padding.
        rows : nnc._model.data.Data
            Inputs and lengths. Outputs of steps beyond the lengths are 0.
        out : real array (n, n_out)
            Result.

        Returns
        -------
        int
            -1, or the index of the first number of rows.X that is not finite. In the latter case nothing is written.
        """
        rows = rows.materialize()
        cdef int[::1] order = length_order(rows.lengths)
        cdef Data data = inputs_as_data(&self.plan, rows, order)
        return self.compute_outputs(&params[0], &data, &out[0, 0])

    cdef Py_ssize_t compute_outputs(self, const real* params, const Data* data, real* out) except? -1:
        # Compute the outputs for the rows of data.X as predict() does, and release the GIL meanwhile.
        cdef double largest
        cdef Network net
        cdef Plan plan = self.plan
        cdef Py_ssize_t position, row, rows, n = data.n, n_in = plan.layers[0].n_in
        cdef Py_ssize_t block = block_rows(&plan, n, PREDICT)
        plan.has_lengths = data.lengths is not NULL
        plan.by_pixels = (plan.image_layers > 0 and not plan.has_lengths and
                          is_faster_by_pixels(plan.layers, plan.image_layers, n))
        cdef void* memory = allocate_network(&net, &plan, params, block, PREDICT, NULL)
        cdef const Layer* last = &net.layers[net.count - 1]
        with nogil:
            position = first_not_finite(data.X, n * n_in, &largest)
            if position < 0:
                mode = flush_denormals()
                for row from 0 <= row < n by block:
                    rows = smaller(block, n - row)
                    predict_rows(&net, data, row, rows)
                    unpad_outputs(last, row, 0, rows, data.order, out)
                restore_denormals(mode)
        free(memory)
        return position

    # Fast path for frequent calls: X, Y and out may be any objects, which `data_as_is` checks. The following three
    # functions return None if an array must be converted first, or if an input, target or loss is not finite.

    def predict_as_is(self, const real[::1] params, X, out=None):
        """Return the outputs for the rows of X, written to `out` if given."""
        cdef Py_ssize_t m, n_out = self.plan.layers[self.plan.count - 1].n_out
        cdef Data data
        if not data_as_is(&data, X, out, self.plan.layers[0].n_in, n_out, PyBUF_WRITABLE):
            return None
        if out is None:
            out = empty((data.n, n_out), DTYPE)
            data.Y = matrix_of(out, n_out, PyBUF_WRITABLE, &m)
        return out if self.compute_outputs(&params[0], &data, <real*>data.Y) < 0 else None

    def loss_as_is(self, const real[::1] params, X, Y):
        """Return the loss for X and the targets Y; None if they need a conversion, or if the loss is not finite."""
        cdef Data data
        cdef bint is_valid = data_as_is(&data, X, Y, self.plan.layers[0].n_in,
                                        self.plan.layers[self.plan.count - 1].n_out)
        cdef double loss = self.compute_loss(&params[0], data) if is_valid else NAN
        return loss if loss < INFINITY else None

    def gradients_as_is(self, const real[::1] params, X, Y, real[::1] gradient):
        """Return the loss, and write its gradient without padding: W and then b of each layer, row by row."""
        cdef Data data
        cdef bint is_valid = data_as_is(&data, X, Y, self.plan.layers[0].n_in,
                                        self.plan.layers[self.plan.count - 1].n_out)
        cdef double loss = self.compute_gradients(&params[0], &data, &gradient[0], NULL) if is_valid else NAN
        return loss if loss < INFINITY else None

    def forward(self, const real[::1] params, rows, list out_rows):
        """Write the outputs of each layer for the rows.

        Parameters
        ----------
        params : real array (engine.size)
            Parameter vector of the network, including padding.
        rows : nnc._model.data.Data
            As in `predict`.
        out_rows : list of real array (n, n_out of the layer) or None
            Results; None for layers whose outputs are not needed.

        Returns
        -------
        int
            -1, or the index of the first number of rows.X that is not finite. In the latter case nothing is written.
        """
        rows = rows.materialize()
        cdef int[::1] order = length_order(rows.lengths)
        cdef Data data = inputs_as_data(&self.plan, rows, order)
        cdef double largest
        cdef Py_ssize_t position, n = data.n, row, count
        with nogil:
            position = first_not_finite(data.X, n * self.plan.layers[0].n_in, &largest)
        if position >= 0:
            return position
        cdef Network net
        cdef Plan plan = self.plan
        plan.fuse_pools, plan.has_lengths = False, order is not None
        cdef Py_ssize_t block = block_rows(&self.plan, n, PREDICT)
        cdef void* memory = allocate_network(&net, &plan, &params[0], block, PREDICT, NULL)
        cdef real[:, ::1] out
        cdef int l
        mode = flush_denormals()
        for row from 0 <= row < n by block:
            count = smaller(block, n - row)
            predict_rows(&net, &data, row, count)
            for l in range(net.count):
                out = out_rows[l]
                if out is None:
                    continue
                if net.layers[l].in_lanes:
                    copy_outputs(&net.layers[l], count, &out[row, 0])
                else:
                    unpad_outputs(&net.layers[l], row, 0, count, data.order, &out[0, 0])
        restore_denormals(mode)
        if order is not None:
            for l in range(net.count):
                if out_rows[l] is not None and net.layers[l].in_lanes:  # copy_outputs does not use the order
                    out_rows[l][order] = out_rows[l].copy()
        free(memory)
        return -1

    def loss(self, const real[::1] params, rows):
        """Return the loss of the rows, or NaN if X or Y is not finite. The arguments are those of `gradient`."""
        cdef int[::1] order = source_order(rows, length_order(rows.lengths))
        return self.compute_loss(&params[0], as_data(&self.plan, rows, order))

    cdef double compute_loss(self, const real* params, Data data) except? -1:
        # Compute the loss of the data like loss(), and release the GIL meanwhile.
        cdef Plan plan = self.plan
        cdef EvaluationState state
        cdef Arena arena = Arena(0, 0)
        cdef double loss = NAN
        plan.has_lengths = data.lengths is not NULL
        state.threads, state.data, state.out = 1, data, NULL
        lay_out_evaluation(&state, &plan, &arena, <real*>params)
        cdef void* memory = allocate_arena(&arena, block_rows(&plan, data.n, EVALUATE))
        lay_out_evaluation(&state, &plan, &arena, <real*>params)
        with nogil:
            if are_finite(&state.data, plan.layers, plan.count):
                mode = flush_denormals()
                restart(&state)
                evaluate(&state, 0, state.data.n)
                restore_denormals(mode)
                loss = plain_loss(&state) * loss_scale(&plan.layers[plan.count - 1], plan.loss, &data, data.weight_sum)
        free(memory)
        return loss

    def gradient(self, const real[::1] params, rows, real[::1] gradient, real[:, ::1] input_gradient=None):
        """Return the loss of the rows, and write its gradient.

        Parameters
        ----------
        params : real array (engine.size)
            Parameter vector of the network, including padding.
        rows : nnc._model.data.Data
            Inputs, targets, sample weights and lengths.
        gradient : real array (engine.size)
            Result, padded like the parameters.
        input_gradient : real array (n, n_in), optional
            Derivative of the loss with respect to the inputs.

        Notes
        -----
        Batch normalization uses batch statistics, as in a training step. If `input_gradient` is given, it uses running
        statistics, as in `loss`.
        """
        cdef int[::1] positions = length_order(rows.lengths), order = source_order(rows, positions)
        cdef Data data = as_data(&self.plan, rows, order)
        loss = compute_gradient(&self.plan, &params[0], &data, &gradient[0],
                                NULL if input_gradient is None else &input_gradient[0, 0], True)
        restore_order(input_gradient, positions)
        return loss

    def gradients(self, const real[::1] params, rows, real[::1] gradient, real[:, ::1] input_gradient=None):
        """Return the loss, and write its gradient without padding: W and then b of each layer, row by row.

        The arguments are those of `gradient`. If X or Y is not finite, return NaN and leave the contents of `gradient`
        unspecified.
        """
        cdef int[::1] positions = length_order(rows.lengths), order = source_order(rows, positions)
        cdef Data data = as_data(&self.plan, rows, order)
        loss = self.compute_gradients(&params[0], &data, &gradient[0],
                                      NULL if input_gradient is None else &input_gradient[0, 0])
        restore_order(input_gradient, positions)
        return loss

    cdef double compute_gradients(self, const real* params, const Data* data, real* out,
                                  real* input_gradient) except? -1:
        # Return the loss, and write its gradient without padding to `out`. Unless input_gradient is NULL, also write
        # the derivative of the loss with respect to the inputs.
        cdef Arena arena = Arena(0, 0)
        allocate(&arena, self.size * sizeof(real))
        cdef void* memory = allocate_arena(&arena, 0)
        cdef real* padded = <real*>allocate(&arena, self.size * sizeof(real))
        cdef double loss
        cdef const Layer* layer
        cdef Py_ssize_t i
        cdef int l
        try:
            loss = compute_gradient(&self.plan, params, data, padded, input_gradient, False)
            for l in range(self.plan.count):
                layer = &self.plan.layers[l]
                for i in range(layer.rows + layer.bias):
                    memcpy(out, padded + i * layer.parameter_ld, layer.neurons * sizeof(real))
                    out += layer.neurons
                padded += parameter_count(layer)
        finally:
            free(memory)
        return loss

    def jacobian(self, const real[::1] params, rows, real[:, ::1] P, real[:, :, ::1] J):
        """Write the outputs for the rows, and their derivatives with respect to the parameters.

        Parameters
        ----------
        params : real array (engine.size)
            Parameter vector of the network, including padding.
        rows : nnc._model.data.Data
            Inputs.
        P : real array (n, n_out)
            Outputs.
        J : real array (n, n_out, n_params)
            Derivatives with respect to W and b of each layer in turn, without padding.
        """
        rows = rows.materialize()
        cdef Network net
        cdef Data data = inputs_as_data(&self.plan, rows)
        cdef Py_ssize_t n = data.n, n_in = self.plan.layers[0].n_in, row, count
        cdef Py_ssize_t block = block_rows(&self.plan, n, TRAIN)
        cdef void* memory = allocate_network(&net, &self.plan, &params[0], block, TRAIN, &data)
        cdef const Layer* last = &net.layers[net.count - 1]
        with nogil:
            for row from 0 <= row < n by block:
                count = smaller(block, n - row)
                predict(&net, data.X + row * n_in, count)
                unpad(last.A, last, count, &P[row, 0])
                jacobian_of_rows(&net, count, &J[row, 0, 0])
        free(memory)

    def input_jacobian(self, const real[::1] params, rows, real[:, :, ::1] J):
        """Write the derivatives of the outputs with respect to the inputs to J (n, n_out, n_in).

        Return -1, or the index of the first number of rows.X that is not finite. In the latter case nothing is written.
        """
        rows = rows.materialize()
        cdef double largest
        cdef Network net
        cdef Plan plan = self.plan
        plan.needs_input_gradient = plan.use_running_stats = True
        cdef Data data = inputs_as_data(&plan, rows)
        cdef Py_ssize_t position, n = data.n, n_in = plan.layers[0].n_in, row, count
        cdef Py_ssize_t block = block_rows(&plan, n, TRAIN)
        cdef void* memory = allocate_network(&net, &plan, &params[0], block, TRAIN, &data)
        net.input_gradient = <real*>malloc(block * net.block.n_in * sizeof(real))
        if net.input_gradient is NULL:
            free(memory)
            raise MemoryError(f"cannot allocate the derivatives of {block} rows")
        with nogil:
            position = first_not_finite(data.X, n * n_in, &largest)
            if position < 0:
                mode = flush_denormals()
                for row from 0 <= row < n by block:
                    count = smaller(block, n - row)
                    predict(&net, data.X + row * n_in, count)
                    input_jacobian_of_rows(&net, count, &J[row, 0, 0])
                restore_denormals(mode)
        free(net.input_gradient)
        free(memory)
        return position


cdef int restore_order(real[:, ::1] rows, int[::1] positions) except -1:
    # Move the rows, which are in the order of decreasing length, to their positions.
    if rows is not None and positions is not None:
        array = numpy.asarray(rows)
        array[numpy.asarray(positions)] = array.copy()
    return 0


cdef class Evaluation:
    """Loss and outputs of a network for given rows, computed by any number of threads.

    Parameters
    ----------
    engine : Engine
        Network.
    params : real array (engine.size)
        Parameter vector of the network, including padding.
    rows : nnc._model.data.Data
        Rows to evaluate.
    out : real array (n, n_out) or None
        Result: the outputs.
    threads : int
        Number of threads.
    """
    cdef EvaluationState state
    cdef Task task_struct
    cdef void* memory
    cdef double scale
    cdef Engine engine                   # these objects own the memory that `state` uses
    cdef object params, rows, out
    cdef int[::1] positions, order

    def __cinit__(self, Engine engine, const real[::1] params, rows, real[:, ::1] out, int threads):
        cdef Plan plan_copy = engine.plan
        cdef const Plan* plan = &plan_copy
        cdef Arena arena = Arena(0, 0)
        self.positions = length_order(rows.lengths)
        self.order = source_order(rows, self.positions)
        self.engine, self.params, self.rows, self.out = engine, params, rows, out
        self.task_struct = Task(evaluate_task, &self.state)
        self.state.out = NULL if out is None else &out[0, 0]
        self.state.out_rows = NULL if self.positions is None else &self.positions[0]
        plan_copy.has_lengths = self.positions is not None
        self.state.threads, self.state.data = threads, as_data(plan, rows, None, self.order)
        self.scale = loss_scale(&plan.layers[plan.count - 1], plan.loss, &self.state.data, self.state.data.weight_sum)
        lay_out_evaluation(&self.state, plan, &arena, <real*>&params[0])
        self.memory = allocate_arena(&arena, block_rows(plan, self.state.data.n, EVALUATE))
        lay_out_evaluation(&self.state, plan, &arena, <real*>&params[0])
        self.restart()

    def __dealloc__(self):
        free(self.memory)

    def restart(self):
        """Restart the evaluation at the first row, with the current parameters."""
        restart(&self.state)

    @property
    def done(self):
        # Return whether all rows have been evaluated.
        return is_done(&self.state)

    @property
    def threads(self):
        return self.state.threads

    @property
    def loss(self):
        """Loss over all rows, which is valid when `done` is true."""
        return plain_loss(&self.state) * self.scale

    @property
    def task(self):
        """Capsule of a Task for a Team: each thread evaluates up to `amount` blocks of rows.

        The capsule must not be used after this object is deleted.
        """
        return PyCapsule_New(&self.task_struct, NULL, NULL)


cdef void evaluate_task(void* state, int thread, Py_ssize_t blocks) noexcept nogil:
    # Evaluate up to `blocks` blocks of rows as thread number `thread`. A Task of a thread team calls this function.
    cdef unsigned int mode = flush_denormals()
    evaluate(<EvaluationState*>state, thread, blocks)
    restore_denormals(mode)
