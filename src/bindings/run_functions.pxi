# Functions that advance a Training without Python objects: single training steps, and tasks of a thread team. Included
# by _core.pyx.

cdef bint single_step(void* context, X, Y, double rate, double* loss) noexcept:
    # Take a training step on X and Y, objects of any type. Return False without a step unless both are arrays that the
    # core can read directly.
    cdef Training self = <Training>context
    cdef const Network* net = &self.run.net
    cdef Py_ssize_t n_in = net.layers[0].n_in, n_out = net.layers[net.count - 1].n_out
    cdef Data* data = &self.run.data
    if not self.is_labelled:
        data_as_is(data, X, Y, n_in, n_out)
        if data.n > 0 and net.loss == HEADS and not are_targets(&net.heads, data.Y, data.n, n_out):
            return False
    elif net.block.label_steps > 1:
        return False
    else:
        if self.labels is NULL:
            self.labels = <int*>malloc(self.run.batch * sizeof(int))
        if self.labels is NULL:
            return False
        labelled_data_as_is(data, X, Y, n_in, n_out, self.labels, self.run.batch)
    if data.n != self.run.batch:
        return False
    loss[0] = self.train_step(rate)
    return True


cdef bint single_outputs(void* context, X, Y, Py_ssize_t k, P) noexcept:
    # Write the outputs for X to P, as the next step will compute them, so that a custom loss can compare them with the
    # targets Y (n, k). X may have fewer rows than a batch. Return False, with undefined contents of P, if X or Y must
    # be converted first, or if Y or an output is not finite.
    cdef Training self = <Training>context
    cdef Run* run = &self.run
    cdef double largest
    cdef Py_ssize_t m = 0, n_out = run.net.layers[run.net.count - 1].n_out
    cdef Data data
    cdef bint is_valid = data_as_is(&data, X, P, run.net.layers[0].n_in, n_out, PyBUF_WRITABLE)
    cdef const real* targets = matrix_of(Y, k, 0, &m)
    if not is_valid or data.n > run.batch or targets is NULL or m != data.n or k == 0:
        return False
    if self.is_brief:
        write_outputs(run, &data)
    else:
        with nogil:
            write_outputs(run, &data)
    return (first_not_finite(targets, m * k, &largest) < 0 and
            first_not_finite(data.Y, m * n_out, &largest) < 0)


cdef bint single_finish(void* context, X, dP, double rate, double* loss) noexcept:
    # Take the training step on X, given dP, the derivatives of a custom loss with respect to the outputs that
    # single_outputs() has just computed. If the batch has only one block, the forward pass is not repeated. Return
    # False without a step if dP must be converted first.
    cdef Training self = <Training>context
    cdef Run* run = &self.run
    cdef Data* data = &run.data
    if (not data_as_is(data, X, dP, run.net.layers[0].n_in, run.net.layers[run.net.count - 1].n_out)
            or data.n > run.batch):
        return False
    run.is_forwarded = data.n <= run.net.block.size and run.round_blocks == 0
    loss[0] = self.train_step(rate)
    run.is_forwarded = False
    return True


cdef void write_outputs(Run* run, const Data* data) noexcept nogil:
    # Write the outputs for data.X to data.Y, as the next training step will compute them.
    cdef unsigned int mode = flush_denormals()
    refresh_for_step(run)
    compute_outputs(run, data, 0, 1, <real*>data.Y)
    restore_denormals(mode)


cdef void refresh_for_step(Run* run) noexcept nogil:
    # Update the transposed weights and the statistics of batch normalization before a single training step. The code of
    # one_row.pxd needs neither.
    if run.strategy != ONE_ROW:
        run.net.refreshed = True
        refresh_network(&run.net)


cdef void take_step(Run* run) noexcept nogil:
    # Take a training step on run.data, unless its inputs or targets contain NaN or infinity.
    if are_finite(&run.data, run.net.layers, run.net.count):
        if not run.is_forwarded:
            refresh_for_step(run)
        if run.net.is_tiny:
            tiny.fetch(&run.net, &run.data)
        # the limit of run.batch blocks never ends a step early, because a block has at least one row
        train_task(run, 0, run.batch)


cdef void train_task(void* context, int thread, Py_ssize_t blocks) noexcept nogil:
    # Train for up to `blocks` blocks as thread number `thread`. A Task of a thread team calls this function.
    cdef Run* run = <Run*>context
    cdef unsigned int mode = flush_denormals()
    train(run, thread, blocks)
    restore_denormals(mode)


def work_each(list trainings, Py_ssize_t blocks):
    """Train single-threaded runs for `blocks` blocks each, one after the other, without the GIL.

    Parameters
    ----------
    trainings : list of Training
        Runs to continue.
    blocks : int
        Number of blocks for each run.

    Returns
    -------
    list of float
        Seconds of each run.
    """
    cdef Py_ssize_t k, count = len(trainings)
    cdef Training training
    cdef Run** runs = <Run**>malloc(count * (sizeof(Run*) + sizeof(double)) + sizeof(double))
    cdef double* times = <double*>(runs + count)  # start time of each run, followed by the end time of the last run
    if runs is NULL:
        raise MemoryError
    try:
        for k in range(count):
            training = trainings[k]
            runs[k] = &training.run
        with nogil:
            for k in range(count):
                times[k] = now()
                train_task(runs[k], 0, blocks)
            times[count] = now()
        return [times[k + 1] - times[k] for k in range(count)]
    finally:
        free(runs)
