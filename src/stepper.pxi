# Single training steps. Included by _team.pyx.


cdef class CustomStep:
    """Training step with a custom loss, on a prepared run of the core and one thread.

    Parameters
    ----------
    training : Training
        Prepared run. Its batch size is at least the number of rows of a step.
    model : Model
        Network of the run, which has a custom loss.
    """
    cdef object training          # owner of core_step, kept alive
    cdef object custom            # the CustomLoss
    cdef SnapshotLock snapshot_lock  # lock for parameters and training state
    cdef SingleStep* core_step    # functions of the run for single steps
    cdef Py_ssize_t n_out         # columns of the outputs

    def __init__(self, training, model):
        self.training, self.custom, self.snapshot_lock = training, model.custom, model.snapshot_lock
        self.core_step = <SingleStep*>PyCapsule_GetPointer(training.step_capsule, NULL)
        self.n_out = model.sizes[len(model.sizes) - 1]

    def run(self, X, Y, Py_ssize_t row, Py_ssize_t size, rates, double seconds, double total, double penalties):
        """Take steps on consecutive batches until all rows are used or the time limit has passed.

        Parameters
        ----------
        X : real array (n, n_in)
            Inputs.
        Y : real array (n, k)
            Targets of the custom loss.
        row : int
            First row of the next batch.
        size : int
            Rows in a batch; the last batch may have fewer.
        rates : float or sequence of float
            Learning rate of all steps, or of each step.
        seconds : float
            Time limit, after which no further step begins.
        total, penalties : float
            Sums over the rows of earlier batches: of the loss without penalties, and of the penalties.

        Returns
        -------
        row : int
            First row of the batch after the last step.
        total, penalties : float
            The sums including these batches. `total` is NaN if an output is not finite, or if the next step would make
            parameters infinite or NaN; these keep their values.
        """
        cdef double deadline = now() + seconds, penalty
        cdef Py_ssize_t n = len(X), end, step = 0
        cdef bint is_constant = isinstance(rates, float)
        while row < n:
            end = min(n, row + size)
            batch, targets = X[row:end], Y[row:end]
            result = self.begin(batch, targets)
            if result is None:
                return row, NAN, penalties
            self.snapshot_lock.acquire()
            try:
                if not self.finish(batch, targets, result[1], rates if is_constant else rates[step]):
                    return row, NAN, penalties
            finally:
                self.snapshot_lock.release()
            penalty = self.training.penalty
            # rounded as in BatchLoop.train_on(), whose loss of a step includes the penalties
            total += (<double>result[0] + penalty - penalty) * (end - row)
            penalties += penalty * (end - row)
            row, step = end, step + 1
            if now() > deadline:
                break
        return row, total, penalties

    cdef begin(self, X, Y):
        # Call the loss function with the outputs for X, in a new array that it may change or store. Return the loss and
        # the derivative as the function returns them. Return None if the core cannot read X and Y directly, or if an
        # output is not finite.
        if Y.ndim != 2:
            return None
        P = empty((len(X), self.n_out), X.dtype)
        if not self.core_step.outputs(self.core_step.context, X, Y, Y.shape[1], P):
            return None
        return self.custom.call(P, Y)

    cdef bint finish(self, X, Y, dP, double rate) except -1:
        # Take the step after `begin`. Return False if parameters would not be finite.
        cdef double product
        if not self.core_step.finish(self.core_step.context, X, dP, rate, &product):
            dP = self.convert_derivative(X, Y, dP)
            self.core_step.finish(self.core_step.context, X, dP, rate, &product)
        if product - product != 0:
            self.convert_derivative(X, Y, dP)  # raises an error if dP is not finite
            return False
        return True

    cdef convert_derivative(self, X, Y, dP):
        # Check and convert the derivative. The outputs are computed again, because the function may have changed its
        # array.
        P = empty((len(X), self.n_out), X.dtype)
        self.training.outputs(X, P, 1, 0)
        return self.custom.derivative(P, Y, dP)


cdef class Stepper:
    """Training steps of one network, created by `NeuralNetwork.stepper`.

    A call takes one step on a mini-batch; `apply` takes one step from gradients that are computed elsewhere. Both use
    the same optimizer, so they may be mixed.

    Attributes
    ----------
    lr : float
        Learning rate of the next step. Assign a number or a schedule to change it.

    Examples
    --------
    >>> step = net.stepper("adam", lr=1e-3, clip_norm=1.0)
    >>> loss = step(X, y)
    >>> step.apply(net.gradients(X, y))
    >>> step.lr = 1e-4
    """
    # The most frequent call has arrays like those of the last step, and nothing else has changed. It goes directly to
    # the core, because in Python it would take twice as long as the arithmetic of a small network. All other calls go
    # to `general`, a GeneralStep of nnc/_training/step.py, which can take any step and prepares the core for the next
    # ones.
    #
    # A network stores the stepper of `train_step` without `network`, and passes itself to `try_step` and `try_apply`.
    # So there is no reference cycle that would delay its deallocation.
    cdef readonly object general
    cdef object network
    cdef object optimizer, last_lr        # arguments of the last call
    # objects that the last step depended on; `converter` is None if the next step must be general
    cdef object model, state, converter, stack
    cdef object network_state     # None after plain gradient descent, which has no state in the network
    cdef object training          # owner of core_step, kept alive
    cdef CustomStep custom_step   # step with a custom loss, or None
    cdef Py_ssize_t batch_rows    # number of rows that the run was prepared for
    cdef double rate              # learning rate of the training state
    cdef TrainingLock training_lock       # training lock of the model
    cdef SnapshotLock snapshot_lock       # snapshot lock of the model
    # number of acquisitions of the training lock at the next step, unless somebody else acquires it before
    cdef unsigned long long next_acquisition
    cdef SingleStep* core_step    # functions of the run for single steps
    cdef bint uses_dP             # the caller passes dP, the derivative by the outputs, instead of targets

    def __init__(self, general, network=None):
        self.general, self.network = general, network
        self.optimizer, self.last_lr = general.optimizer, general.lr

    cdef get_network(self):
        # Return the network of the stepper; raise ValueError after close().
        network = self.network
        if network is None:
            raise ValueError("the stepper is closed; create another one with net.stepper(...)")
        return network

    def __call__(self, X, y=None, sample_weight=None, *, dP=None):
        """Take one step on these rows.

        Parameters
        ----------
        X, y, sample_weight, dP
            As in `NeuralNetwork.train_step`.

        Returns
        -------
        float
            Loss before the step, penalties included; with dP the sum of dP * P.
        """
        return self.step(self.get_network(), X, y, sample_weight, dP, None)

    def apply(self, gradients=None):
        """Take one step of the optimizer from gradients; see `NeuralNetwork.apply_gradients`.

        Parameters
        ----------
        gradients : list of (dW, db), or array (n_params,), optional
            As `NeuralNetwork.gradients` returns them, or one vector in the order of `NeuralNetwork.params`. The
            gradients that `accumulate` has summed are added, and their sum is reset to 0.

        Raises
        ------
        ValueError, TypeError
            The gradients do not fit the network or contain NaN or infinity, or there are none.
        DivergedError
            The step would make weights infinite or NaN.
        """
        self.step_from(self.get_network(), gradients, None)

    def accumulate(self, gradients, weight=1.0):
        """Add gradients to the sum from which the next `apply` takes its step, such as those of micro-batches.

        Parameters
        ----------
        gradients : list of (dW, db), or array (n_params,)
            As in `apply`.
        weight : float, default 1
            Factor of these gradients: 1 / n for the mean over n micro-batches of equal size.

        Raises
        ------
        ValueError, TypeError
            As in `apply`.
        """
        network = self.get_network()
        cdef object general = self.general
        cdef TrainingLock lock = network.model.training_lock
        lock.acquire()
        try:
            general.accumulate(network, gradients, weight)
        finally:
            lock.release()

    @property
    def lr(self):
        """Learning rate of the next step, a float. A number or a schedule may be assigned."""
        network = self.get_network()
        return self.general.rate(network)

    @lr.setter
    def lr(self, value):
        network = self.get_network()
        cdef TrainingLock lock = network.model.training_lock
        lock.acquire()
        try:
            self.general.change_rate(network, value)
            self.last_lr = self.general.lr
            if self.general.state is None:        # the next step creates a state with this learning rate
                self.converter = None
        finally:
            lock.release()

    def try_step(self, network, X, y, sample_weight, dP, lr, optimizer):
        """Take a step and return the loss before it, or the sum of dP * P if dP is given.

        Return None, with nothing done, if the optimizer or the learning rate need another stepper.
        """
        if self.optimizer is not optimizer or (self.last_lr is not lr and not self.general.accepts_rate(lr)):
            return None
        return self.step(network, X, y, sample_weight, dP, lr)

    def try_apply(self, network, gradients, lr, optimizer):
        """Take a step from gradients. Return False, with nothing done, if `try_step` would return None."""
        if self.optimizer is not optimizer or (self.last_lr is not lr and not self.general.accepts_rate(lr)):
            return False
        self.step_from(network, gradients, lr)
        return True

    cdef step_from(self, network, gradients, lr):
        # Take a step from gradients with the general path, and check whether the core was prepared again.
        cdef TrainingLock lock = network.model.training_lock
        cdef object general = self.general        # another thread may close the stepper meanwhile
        lock.acquire()
        try:
            general.apply(network, gradients, lr)
            self.last_lr = general.lr
            if general.training is not self.training:         # the core was prepared again
                self.converter = None
        finally:
            lock.release()

    cdef step(self, network, X, y, sample_weight, dP, lr):
        # Take a step on these rows: on the fast path if nothing has changed, else on the general path.
        cdef TrainingLock lock = self.training_lock if self.training_lock is not None else network.model.training_lock
        cdef object general = self.general        # another thread may close the stepper meanwhile
        lock.acquire()
        try:
            if (self.converter is not None and sample_weight is None and (y if self.uses_dP else dP) is None
                    and self.is_unchanged(network)):
                if self.custom_step is None:
                    loss = self.repeat_step(general, network, X, dP if self.uses_dP else y, lr)
                else:
                    loss = self.repeat_custom_step(general, network, X, y, lr)
                if loss is not None:
                    return loss
            self.converter = None
            loss, converter = general.step(network, X, y, sample_weight, dP, lr)
            self.last_lr = general.lr
            if converter is not None and self.general is not None:
                self.prepare(general, network, converter, dP is not None)
            return loss
        finally:
            lock.release()

    cdef int prepare(self, general, network, converter, bint uses_dP) except -1:
        # Store the objects that the last step depended on.
        self.model, self.converter, self.uses_dP = network.model, converter, uses_dP
        self.state, self.network_state, self.stack = general.state, network.state, self.model.stack
        self.training_lock, self.snapshot_lock = self.model.training_lock, self.model.snapshot_lock
        self.training, self.rate = general.training, self.state.lr
        self.core_step = <SingleStep*>PyCapsule_GetPointer(self.training.step_capsule, NULL)
        self.batch_rows = general.shape[0]
        is_custom = self.model.custom is not None and not uses_dP
        self.custom_step = CustomStep(self.training, self.model) if is_custom else None
        self.next_acquisition = self.training_lock.acquisitions + 1
        return 0

    cdef bint is_unchanged(self, network):
        # Return whether the objects that the step depends on are those of the last step. Only a holder of the training
        # lock can change them.
        if self.training_lock.acquisitions != self.next_acquisition:
            if not (network.converter is self.converter and network.state is self.network_state
                    and self.model.stack is self.stack):
                return False
            self.rate = self.state.lr
        self.next_acquisition = self.training_lock.acquisitions + 1
        return True

    cdef repeat_step(self, general, network, X, Y, lr):
        # Take a step like the last one. Return None, with nothing done, if the core cannot read X and Y directly.
        cdef double loss, rate = self.rate if lr is None or lr is self.last_lr else lr
        cdef SnapshotLock lock = self.snapshot_lock
        # alive until the step has finished, even if the stepper is closed
        cdef object state = self.state, training = self.training
        if not (type(X) is type(Y) is ndarray):
            return None
        lock.acquire()
        try:
            if not self.core_step.step(self.core_step.context, X, Y, rate, &loss):
                return None
            if loss - loss != 0:
                self.converter = None
                general.fail(network, X, Y if Y.ndim == 2 else None, "dP" if self.uses_dP else "y", rate)
            if not (lr is None or lr is self.last_lr):
                self.rate, self.last_lr = rate, float(lr)
                state.lr = general.lr = self.last_lr
            return loss
        finally:
            lock.release()

    cdef repeat_custom_step(self, general, network, X, Y, lr):
        # Take a step with a custom loss like the last one. Return None, with nothing done, if the core cannot read X
        # and Y directly.
        cdef double rate = self.rate if lr is None or lr is self.last_lr else lr
        cdef SnapshotLock lock = self.snapshot_lock
        # alive until the step has finished, even if the stepper is closed
        cdef object state = self.state
        cdef CustomStep custom_step = self.custom_step
        if not (type(X) is type(Y) is ndarray and len(X) == self.batch_rows):
            return None
        try:
            result = custom_step.begin(X, Y)
            if result is None:
                return None
            lock.acquire()
            try:
                if not custom_step.finish(X, Y, result[1], rate):
                    self.converter = None
                    general.fail(network, X, Y, "y", rate)
                if not (lr is None or lr is self.last_lr):
                    self.rate, self.last_lr = rate, float(lr)
                    state.lr = general.lr = self.last_lr
                return result[0] + custom_step.training.penalty
            finally:
                lock.release()
        except ValueError as error:
            raise general.custom_error(network, error, X, Y, rate) from None

    def close(self):
        """Release the network and all prepared objects."""
        self.network = self.general = self.training = self.converter = self.model = None
        self.state = self.network_state = self.stack = self.custom_step = None
        self.training_lock, self.snapshot_lock = None, None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    def __reduce__(self):
        raise TypeError("a stepper cannot be pickled; pickle the network, and create another one with net.stepper(...)")
