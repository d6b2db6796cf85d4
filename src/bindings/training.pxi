# Training runs in the compiled core. Included by _core.pyx.

cdef class Training:
    """Training run that works through its batches in several calls; see train() in run.pxd.

    Parameters
    ----------
    engine : Engine
        Network.
    params : real array (engine.size)
        Trained in place.
    rows : nnc._model.data.Data or None
        Rows to train on. Their arrays are not copied. None if the objective of a subclass has no rows; the batch size
        of the settings is then ignored.
    settings : nnc._model.data.RunSettings
        Sizes and buffers of the run. Of its `constants`, "method", a name of METHODS, is required. All others have
        defaults:

        - fields of Optimizer in optimizers.pxd;
        - "key", "draws", "shuffles", "drop_key", "drops", "target_loss", "loss_factor", "delta_factor" and "by_rows" of
          Run in run.pxd;
        - "generator": a NumPy BitGenerator that draws the orders, as in `shuffle_by`; no other code may use it
          during the run;
        - "chunks": a tuple (sequences, count, stride, warm_up), if the rows are chunks of longer sequences.
          `sequences` is an int32 array (n) with the index of the sequence of each row, -1 - index for the first chunk.
          `count` is the number of sequences; the others are fields of Chunks in layer.pxd. Requires `lengths`, and
          layers that are recurrent or applied to each step;
        - "dropout": a dropout rate for each hidden layer;
        - "input_dropout": a dropout rate for the inputs of each layer, which is 0 unless the layer is recurrent;
        - "learning": for each layer None, or a tuple (factor of its learning rates, which is 0 in a frozen layer;
          additional factor for its biases; number of steps in which it was frozen so far).

    Raises
    ------
    ValueError, KeyError
        A constant is unknown, or "method" is missing.
    """
    cdef Run run
    cdef Task task_struct
    cdef SingleStep step_struct
    cdef void* memory             # memory block with all buffers of the run
    cdef Layer* layers            # copies of the engine's layers, to which the options of this run are added
    cdef ParamGroup* param_groups  # learning rate factors of each layer
    cdef double rate              # learning rate that set_epochs() has received, if it is constant
    cdef bint is_brief            # steps keep the GIL, because releasing it would take longer than a step
    cdef readonly Py_ssize_t single_steps  # number of steps that were taken one at a time, by `step` or `apply`
    cdef bint is_labelled         # the targets are class indices
    cdef int* labels              # buffer for the class indices of a single step, which the first step allocates
    cdef real* gradient           # buffer for the gradient of apply(), which its first call allocates
    cdef Chunks chunks            # layout of the chunks, if the rows are chunks of longer sequences
    # These objects own the memory that the run uses. They are not typed memoryviews, because creating those takes time.
    cdef Engine engine
    cdef object params, rows, order, moments, epoch_arrays
    cdef object sorted_order      # row indices that the run sorts by length; None without lengths or with `order`
    cdef object states            # states of the sequences if the rows are chunks
    cdef dict constants           # constants of the settings; the reference keeps the bit generator alive

    def __cinit__(self, Engine engine, params, rows, settings):
        cdef real[::1] theta = params
        cdef Py_ssize_t batch_size = settings.batch_size
        cdef int threads = settings.threads
        cdef real[:, ::1] moments = settings.moments
        cdef dict constants = settings.constants
        cdef Run* run = &self.run
        cdef Plan plan = engine.plan
        source = None if rows is None else rows.source
        plan.has_lengths = rows is not None and source.lengths is not None
        if rows is None:                      # the loss of the run is the sum of the terms of its objective
            batch_size, plan.has_objective, plan.loss, plan.heads.count = 1, True, CUSTOM, 0
        cdef Py_ssize_t block = block_rows(&plan, batch_size, TRAIN)
        cdef Arena arena = Arena(0, 0)
        cdef int l
        memset(run, 0, sizeof(Run))
        self.task_struct = Task(train_task, run)
        self.step_struct = SingleStep(single_step, single_outputs, single_finish, <void*>self)
        self.is_brief = engine.plan.image_layers == 0 and batch_size * engine.size <= MAX_GIL_WORK
        self.engine, self.params, self.rows, self.moments, self.order = engine, params, rows, moments, settings.order
        if rows is None:
            run.data.n = batch_size
        else:
            if (source.labels is None and source.weights is None and source.lengths is None and source.dY is None
                    and self.order is None and rows.index is None):
                data_as_is(&run.data, source.X, source.Y, plan.layers[0].n_in, plan.layers[plan.count - 1].n_out)
            if run.data.n == 0:
                run.data = self.as_data(rows, self.order)
            self.is_labelled = source.labels is not None
        if "chunks" in constants:
            self.set_chunks(&plan, constants["chunks"])
        run.batch, run.shuffles, run.target_loss = batch_size, self.order is not None, -1e308
        run.loss_factor = run.delta_factor = 1
        run.previous_loss = 1e308
        run.optimizer = default_optimizer()
        run.optimizer.method = name_index("method", constants["method"], METHODS)
        for name, value in constants.items():
            self.set(name, value)
        complete_settings(&run.optimizer)
        self.constants = constants
        dropout = constants.get("dropout", ())
        if len(dropout) not in (0, plan.count - 1):
            raise ValueError(f"dropout must have one number for each of {plan.count - 1} hidden layers, "
                             f"got {len(dropout)}")
        learning, input_dropout = constants.get("learning", ()), constants.get("input_dropout", ())
        for name, values in (("learning", learning), ("input_dropout", input_dropout)):
            if len(values) not in (0, plan.count):
                raise ValueError(f"{name} must have one entry for each of {plan.count} layers, got {len(values)}")
        self.layers = plan.layers = <Layer*>malloc(plan.count * sizeof(Layer))
        if plan.layers is NULL:
            raise MemoryError
        memcpy(plan.layers, engine.plan.layers, plan.count * sizeof(Layer))
        for l, dropout_rate in enumerate(dropout):
            plan.layers[l].dropout_rate = dropout_rate
        for l, dropout_rate in enumerate(input_dropout):
            plan.layers[l].input_dropout_rate = dropout_rate
        self.set_learning(plan.layers, learning)
        if tiny.is_supported(&plan, &run.data, batch_size, &run.optimizer):
            run.strategy = ROWS_IN_LANES
        elif one_row.is_supported(&plan, &run.data, batch_size, &run.optimizer):
            run.strategy = ONE_ROW
        lay_out_run(run, &plan, &arena, block, threads)
        self.memory = allocate_arena(&arena, block)
        lay_out_run(run, &plan, &arena, block, threads)
        set_run_parameters(run, &theta[0])
        if moments is not None and moments.shape[0] > 0:
            set_moments(&run.net, &moments[0, 0], &moments[moments.shape[0] - 1, 0])
        self.resume(threads)
        if rows is not None:
            self.fetch_all()

    cdef Data as_data(self, rows, order):
        # Return rows as a struct Data. With lengths, it always has an array `order`, which the run sorts by length
        # within each batch.
        if rows.source.lengths is not None:
            if self.memory is not NULL and self.run.net.block.lengths is NULL:
                raise ValueError("lengths must be None in a run that was prepared without lengths, got an array")
            if order is None:
                order = self.sorted_order = numpy.arange(rows.n, dtype="i") if rows.index is None else rows.index.copy()
        return as_data(&self.engine.plan, rows, order)

    cdef set_chunks(self, const Plan* plan, setting):
        # Treat the rows as chunks of longer sequences, and allocate the states of these sequences.
        cdef const int[::1] sequences = setting[0]
        cdef real[:, ::1] states
        cdef Py_ssize_t size = 0
        cdef int l
        for l in range(plan.count):
            size += state_reals(&plan.layers[l])
        states = numpy.zeros((setting[1], size), DTYPE)
        self.states = states
        self.chunks = Chunks(&sequences[0], &states[0, 0], size, setting[2], setting[3])
        self.run.data.chunks = &self.chunks
        self.run.data.weight_sum = sum_weights(&self.run.data, 0, self.run.data.n)

    cdef int set(self, str name, value) except -1:
        # Set the field with this name in the optimizer or in the run. Raise ValueError if neither has such a field.
        cdef Run* run = &self.run
        if set_constant(&run.optimizer, name, value):
            return 0
        if name == "draws":
            run.draws = value
        elif name == "drops":
            run.drops = value
        elif name == "key":
            run.key = value
        elif name == "drop_key":
            run.drop_key = value
        elif name == "target_loss":
            run.target_loss = value
        elif name == "loss_factor":
            run.loss_factor = value
        elif name == "delta_factor":
            run.delta_factor = value
        elif name == "by_rows":
            run.by_rows = value
        elif name == "shuffles":
            run.shuffles = run.shuffles and value
        elif name == "generator":                     # the reference in self.constants keeps the generator alive
            run.generator = <const BitGenerator*>PyCapsule_GetPointer(value.capsule, "BitGenerator")
        # __cinit__ itself reads these constants
        elif name not in ("method", "dropout", "input_dropout", "learning", "chunks"):
            raise ValueError(f"constants has the unknown key {name!r}; the docstring of Training lists all keys")
        return 0

    cdef set_learning(self, Layer* layers, learning):
        # Set the learning rate factors of the layers, and mark frozen layers.
        cdef ParamGroup* param_group
        cdef int l
        if not any(learning):
            return
        self.param_groups = <ParamGroup*>calloc(len(learning), sizeof(ParamGroup))
        if self.param_groups is NULL:
            raise MemoryError
        for l, entry in enumerate(learning):
            if entry is None:
                continue
            param_group = &self.param_groups[l]
            param_group.lr_factor, param_group.bias_lr_factor, param_group.frozen_steps = entry
            layers[l].frozen = param_group.lr_factor == 0
            if not layers[l].frozen:
                init_param_group(param_group, &self.run.optimizer)
                layers[l].param_group = param_group

    def __dealloc__(self):
        free(self.memory)
        free(self.layers)
        free(self.param_groups)
        free(self.labels)
        free(self.gradient)

    def change(self, double decay, dropout):
        """Change the weight decay and the dropout rates for the following steps.

        Parameters
        ----------
        decay : float
            New weight decay. The run must have started with a weight decay other than 0.
        dropout : sequence of float
            Dropout rate for each hidden layer. A layer without dropout at the start of the run must keep the rate 0.
        """
        cdef int l, t
        self.run.optimizer.decay = decay
        for l, dropout_rate in enumerate(dropout):
            self.run.net.layers[l].dropout_rate = dropout_rate
            for t in range(self.run.round_blocks if self.run.nets is not NULL else 0):
                self.run.nets[t].layers[l].dropout_rate = dropout_rate

    def refresh(self):
        """Update the copies of the parameters. Call this after the parameters were changed outside of the run."""
        refresh_network(&self.run.net)

    def set_epochs(self, losses, rates, Py_ssize_t epochs, bint per_step=False):
        """Set the epochs to run and their learning rates.

        Parameters
        ----------
        losses : float64 array (epochs)
            Receives the loss of each epoch.
        rates : float, or float64 array
            Learning rate of all epochs, or of each epoch, or of each step.
        epochs : int
            Epoch at which the run stops.
        per_step : bool, default False
            Whether `rates` has one number per step.
        """
        cdef double[::1] epoch_losses = losses
        cdef const double[:] lr
        self.epoch_arrays = losses, rates
        self.run.losses = &epoch_losses[0]
        if isinstance(rates, float):
            self.rate = rates
            self.run.learning_rates, self.run.rate_stride = &self.rate, 0
        else:
            lr = rates
            # a stride of 0 means that all epochs or steps have the same learning rate
            self.run.learning_rates, self.run.rate_stride = &lr[0], lr.strides[0] // <Py_ssize_t>sizeof(double)
        self.run.epochs, self.run.rate_per_step = epochs, per_step

    def set_rows(self, rows):
        """Replace the data by other rows and restart at epoch 0. The state of the optimizer does not change.

        The new data must have at most `batch_size` rows, or as many rows as before.
        """
        cdef Run* run = &self.run
        cdef int l
        self.rows = rows
        run.data = self.as_data(rows, self.order)
        run.epoch = run.row = run.rises = 0
        run.total, run.previous_loss, run.stop, run.diverged = 0, 1e308, False, False
        for l in range(run.net.groups):
            run.net.layers[l].broken = False
        self.fetch_all()

    cdef void release_rows(self) noexcept:
        # Remove the pointers to data, losses and learning rates, because their arrays may be freed.
        cdef Run* run = &self.run
        run.data = empty_data()
        run.losses, run.learning_rates, run.epochs = NULL, NULL, 0

    cdef fetch_all(self):
        # Load all rows once if they fit in one block.
        cdef Run* run = &self.run
        if not run.shuffles:                  # a shuffled run sorts the rows by length in each epoch
            sort_rows(run)
        run.resident = not run.net.is_tiny and run.net.block.size == run.data.n and run.data.order is NULL
        if run.net.is_tiny:
            tiny.fetch(&run.net, &run.data)
        elif run.resident:
            fetch(&run.net.block, &run.data, 0, 0, run.data.n)

    @property
    def task(self):
        """Capsule of a Task for a Team: each thread trains for up to `amount` blocks, or until the time limit.

        The capsule must not be used after this object is deleted.
        """
        return PyCapsule_New(&self.task_struct, NULL, NULL)

    def outputs(self, rows, real[:, ::1] out, int threads, int thread, amount=None):
        """Write the outputs for the rows as the next step will compute them, with the same dropout masks.

        Parameters
        ----------
        rows : nnc._model.data.Data
            Inputs, and their lengths in a run that was prepared with lengths.
        out : real array (n, n_out)
            Result.
        threads : int
            Number of threads that make this call.
        thread : int
            Number of this thread.
        amount : optional
            Ignored; passed by Team.run.
        """
        rows = rows.materialize()
        cdef int[::1] order = length_order(rows.lengths)  # the order in which a step processes the rows
        cdef Data data = inputs_as_data(&self.engine.plan, rows, order)
        with nogil:
            mode = flush_denormals()
            compute_outputs(&self.run, &data, thread, threads, &out[0, 0])
            restore_denormals(mode)

    def step(self, rows, double rate):
        """Take one step on a batch of these rows (nnc._model.data.Data), with the current parameters.

        Returns
        -------
        float
            Loss before the step. NaN if X, Y or the loss is not finite, in which case no step was taken, or if some
            parameters would have become infinite or NaN, see `broken_layer`.
        """
        self.run.data = self.as_data(rows, None)
        return self.train_step(rate)

    def apply(self, const real[::1] gradient, double rate):
        """Take one step of the optimizer with a gradient that the caller provides.

        Parameters that would become infinite or NaN keep their values, see `broken_layer`.

        Parameters
        ----------
        gradient : real array (parameters without padding)
            Gradient in the order of `Engine.gradients`.
        rate : float
            Learning rate.

        Returns
        -------
        int
            -1, or the index of the first number of the gradient that is not finite. In the latter case no step is
            taken.
        """
        cdef Network* net = &self.run.net
        cdef bint has_gradient = net.layers[0].gradient is not NULL  # true if the run has a gradient buffer of its own
        cdef double largest
        cdef Py_ssize_t position
        cdef int l
        if self.gradient is NULL:
            self.gradient = <real*>malloc(self.engine.size * sizeof(real))
        if self.gradient is NULL:
            raise MemoryError
        with nogil:
            position = first_not_finite(&gradient[0], gradient.shape[0], &largest)
            if position < 0:
                mode = flush_denormals()
                if not has_gradient:
                    set_gradient(net, self.gradient)
                unpack_gradient(net, &gradient[0])
                net.refreshed = True      # refresh() at the start of each step also updates the transposed weights
                apply_gradient(&self.run, rate)
                for l in range(0 if has_gradient else net.count):
                    net.layers[l].gradient = NULL
                restore_denormals(mode)
        if position < 0:
            self.single_steps += not is_broken(net)
        return position

    @property
    def step_capsule(self):
        """Capsule of a SingleStep, whose functions take steps like `step` on two arrays of any type.

        The functions do nothing if the arrays must be converted first. The capsule must not be used after this object
        is deleted.
        """
        return PyCapsule_New(&self.step_struct, NULL, NULL)

    cdef double train_step(self, double rate) noexcept:
        # Take a training step on run.data without creating Python objects; return the loss, or NaN if the step was not
        # completed.
        cdef Run* run = &self.run
        cdef double loss = NAN
        sort_rows(run)
        run.losses, run.learning_rates, run.rate_stride, run.epochs = &loss, &rate, 0, 1
        run.epoch = run.row = 0
        run.resident = False
        if self.is_brief:
            take_step(run)
        else:
            with nogil:
                take_step(run)
        self.release_rows()
        if is_broken(&run.net):
            loss = NAN
        self.single_steps += loss - loss == 0
        return loss

    def resume(self, int threads, double seconds=1e9):
        """Prepare the run for the next call of `task` in each thread. Needed before each such call.

        Parameters
        ----------
        threads : int
            Number of threads that will call the task at the same time.
        seconds : float, optional
            Time limit of the calls if there are several threads.
        """
        self.run.pause = False
        self.run.seconds = seconds
        self.run.threads = threads
        barrier_init(&self.run.barrier, threads)
        self.run.net.barrier = NULL
        if threads > 1:
            self.run.net.barrier = &self.run.barrier

    def abort(self):
        """Release threads that wait for a thread that has failed. An incomplete step is discarded."""
        barrier_abort(&self.run.barrier)

    @property
    def single_threaded(self):
        """Return whether only one thread can work on this run, as with very small networks or batches of one row."""
        return self.run.strategy != GENERAL or self.run.single_thread

    @property
    def epoch(self):
        """Number of epochs that are complete."""
        return self.run.epoch

    @property
    def done(self):
        # Return whether the run has ended, at its last epoch or earlier.
        return self.run.stop or self.run.epoch >= self.run.epochs or is_broken(&self.run.net)

    @property
    def stopped(self):
        """Return whether the run has stopped before its last epoch, because it diverged or reached the target loss."""
        return self.run.stop or is_broken(&self.run.net)

    @property
    def diverged(self):
        """Return whether the loss of a batch was not finite, so that the step on this batch was not taken.

        Also return True if a step would have made a parameter of the objective infinite or NaN.
        """
        return self.run.diverged or (is_broken(&self.run.net) and self.broken_layer == 0)

    @property
    def broken_layer(self):
        """Number, from 1, of the first layer with parameters that the last step would have made infinite or NaN.

        These parameters were not changed. The number is 0 if there is no such layer.
        """
        cdef int l
        for l in range(self.run.net.count):
            if self.run.net.layers[l].broken:
                return l + 1
        return 0

    @property
    def block(self):
        """Number of rows in a block, the unit of work of the run."""
        return self.run.net.block.size

    @property
    def penalty(self):
        """L1 and L2 penalties that are included in the loss of the last epoch."""
        return self.run.penalty

    @property
    def row(self):
        """Number of rows of the current epoch that have been processed."""
        return self.run.row

    @property
    def counters(self):
        """Counters with which a later run continues this one.

        They are the number of random numbers used for orders, the position in the stream for dropout, the number of
        optimizer steps, and (power1, power2, mu_product) of the optimizer.
        """
        cdef Optimizer* o = &self.run.optimizer
        return self.run.draws, self.run.drops, o.steps, (o.power1, o.power2, o.mu_product)

    @property
    def rises(self):
        """Number of latest consecutive epochs that each increased the loss, and the loss before these epochs."""
        return self.run.rises, self.run.loss_before_rise

    def is_healthy(self, ends, int rises, double fraction):
        """Return whether the run shows no sign of a problem.

        Parameters
        ----------
        ends : sequence of (float, float) or None
            Saturation limits of each hidden layer, as in `saturated_fractions`.
        rises : int
            The run is not healthy if the loss has increased in at least this many consecutive epochs.
        fraction : float
            The run is not healthy if more than this fraction of a hidden layer's outputs is saturated.

        Notes
        -----
        In a healthy run, the first two weights of each hidden layer also differ.
        """
        cdef const Layer* layer
        cdef int l
        cdef Py_ssize_t rows = smaller(self.run.net.block.size, self.run.batch)
        if self.run.rises >= rises or self.run.epoch == 0:
            return False
        for l, end in enumerate(ends):
            layer = &self.run.net.layers[l]
            if layer.W is NULL or layer.n_out < 2 or layer.W[0] == layer.W[1]:
                return False
            if end is not None and fraction_beyond(&self.run.net, l, rows, end[0], end[1]) > fraction:
                return False
        return True

    def saturated_fractions(self, ends):
        """Return the fraction of saturated outputs of each hidden layer, over the rows of a recent block.

        Parameters
        ----------
        ends : sequence of (float, float) or None
            Limits (low, high) for each hidden layer: outputs <= low or >= high are saturated. None gives a fraction
            of 0.0.
        """
        cdef const Network* net = &self.run.net
        cdef Py_ssize_t rows = smaller(net.block.size, self.run.batch)
        cdef int l
        if len(ends) != net.count - 1:
            raise ValueError(f"ends must have a pair or None for each of {net.count - 1} hidden layers, "
                             f"got {len(ends)}")
        fractions = []
        for l in range(net.count - 1):
            fractions.append(0.0 if ends[l] is None else fraction_beyond(net, l, rows, ends[l][0], ends[l][1]))
        return fractions
