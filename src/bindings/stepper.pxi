# Single training steps of a network. Included by _team.pyx.


cdef class CustomStep:
    """Training steps with a custom loss, taken by a prepared run of the core on one thread.

    Parameters
    ----------
    training : Training
        Prepared run. Its batch size is at least the number of rows in a step.
    model : Model
        Network of the run, which has a custom loss.
    """
    cdef object training          # Training that core_step belongs to; this reference keeps it alive
    cdef object custom            # custom loss of the model, an instance of CustomLoss
    cdef SnapshotLock snapshot_lock  # snapshot lock of the model, held while parameters change
    cdef SingleStep* core_step    # struct with functions that take one training step of the prepared run
    cdef Py_ssize_t n_out         # number of columns of the outputs

    def __init__(self, training, model):
        self.training, self.custom, self.snapshot_lock = training, model.custom, model.snapshot_lock
        self.core_step = <SingleStep*>PyCapsule_GetPointer(training.step_capsule, NULL)
        self.n_out = model.sizes[len(model.sizes) - 1]

    def run(self, rows, Py_ssize_t row, Py_ssize_t size, rates, double seconds, double total, double penalties):
        """Take steps on consecutive batches until all rows are used or the time limit has passed.

        Parameters
        ----------
        rows : nnc._model.data.Data
            Inputs, targets of the custom loss, and weights of its residuals.
        row : int
            First row of the next batch.
        size : int
            Rows in a batch; the last batch may have fewer.
        rates : float or sequence of float
            Learning rate of all steps, or of each step.
        seconds : float
            Time limit, after which no further step begins.
        total, penalties : float
            Sum of the losses without penalties, and sum of the penalties, over the rows of earlier batches.

        Returns
        -------
        row : int
            First row of the batch after the last step.
        total, penalties : float
            The same sums, with the new batches added. `total` is NaN if an output is not finite, or if the next step
            would make parameters infinite or NaN; such parameters keep their values.
        """
        cdef double deadline = now() + seconds, penalty
        cdef Py_ssize_t n = rows.n, end, step = 0
        cdef bint is_constant = isinstance(rates, float)
        X, Y, weights = rows.X, rows.Y.view(), rows.residual_weights
        Y.flags.writeable = False  # the loss function must not change the targets
        while row < n:
            end = min(n, row + size)
            batch, targets = X[row:end], Y[row:end]
            result = self.begin(batch, targets, None if weights is None else weights[row:end])
            if result is None:
                return row, NAN, penalties
            self.snapshot_lock.acquire()
            try:
                if not self.finish(batch, targets, result[1], rates if is_constant else rates[step]):
                    return row, NAN, penalties
            finally:
                self.snapshot_lock.release()
            penalty = self.training.penalty
            # add and subtract the penalty, so that the loss is rounded as in BatchSource.add(), where the penalty is
            # subtracted from the loss of a step
            total += (<double>result[0] + penalty - penalty) * (end - row)
            penalties += penalty * (end - row)
            row, step = end, step + 1
            if now() > deadline:
                break
        return row, total, penalties

    cdef begin(self, X, Y, weights=None):
        # Call the custom loss function with the outputs for X, in a new array that the function may change or store.
        # Return the loss and the derivative as the function returns them. Return None if the core cannot read X and Y
        # directly, or if a target or an output is not finite.
        if Y.ndim != 2:
            return None
        P = empty((len(X), self.n_out), X.dtype)
        if not self.core_step.outputs(self.core_step.context, X, Y, Y.shape[1], P):
            return None
        return self.custom.call(P, Y, weights)

    cdef bint finish(self, X, Y, dP, double rate) except -1:
        # Take the training step for which begin() has computed the outputs. Return False if the step would make
        # parameters infinite or NaN.
        cdef double product
        if not self.core_step.finish(self.core_step.context, X, dP, rate, &product):
            dP = self.convert_derivative(X, Y, dP)
            self.core_step.finish(self.core_step.context, X, dP, rate, &product)
        if product - product != 0:
            self.convert_derivative(X, Y, dP)  # this call raises an error if dP is not finite
            return False
        return True

    cdef convert_derivative(self, X, Y, dP):
        # Check and convert the derivative dP that the custom loss function has returned. The outputs are computed
        # again, because the function may have changed its array.
        from nnc._model.data import Data

        P = empty((len(X), self.n_out), X.dtype)
        self.training.outputs(Data(X), P, 1, 0)
        return self.custom.derivative(P, Y, dP)


cdef class Stepper:
    """Training steps of one network, created by `NeuralNetwork.stepper`.

    A call of the object takes one step on a mini-batch; `apply` takes one step from gradients that the caller provides.
    Both use the same optimizer, so calls of both may alternate.

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
    # In the most frequent call, the core can read the arrays directly, and nothing has changed since the last step. It
    # goes directly to the core, because in Python it would take twice as long as the arithmetic of a small network.
    # All other calls go to `general`, a GeneralStep of nnc/_training/step.py, which can take any step and prepares the
    # core for the next ones.
    #
    # A network stores the stepper of `train_step` without the attribute `network`, and passes itself to `try_step` and
    # `try_apply`. So there is no reference cycle that would delay its deallocation.
    cdef readonly object general
    cdef object network
    cdef object optimizer, last_lr        # optimizer and learning rate arguments of the last call
    # model, state, converter, stack: objects that the last step used; converter is None if the next step must take the
    # general path
    cdef object model, state, converter, stack
    cdef object network_state     # training state of the network; None after plain gradient descent, which has no state
    cdef object training          # Training that core_step belongs to; this reference keeps it alive
    cdef CustomStep custom_step   # object that takes steps with the custom loss of the model, or None
    cdef Py_ssize_t batch_rows    # number of rows in a step of the prepared run
    cdef double rate              # learning rate in the training state of the network
    cdef TrainingLock training_lock       # lock that rejects a second training of the model
    cdef SnapshotLock snapshot_lock       # lock that protects the parameters and the training state of the model
    # value that training_lock.acquisitions will have at the next step if no other caller acquires the lock
    cdef unsigned long long next_acquisition
    cdef SingleStep* core_step    # struct with functions that take one training step of the prepared run
    # the caller passes dP, the derivative of the loss with respect to the outputs, instead of targets
    cdef bint uses_dP

    def __init__(self, general, network=None):
        self.general, self.network = general, network
        self.optimizer, self.last_lr = general.optimizer, general.lr

    cdef get_network(self):
        # Return the network of the stepper. Raise ValueError if the stepper is closed.
        network = self.network
        if network is None:
            raise ValueError("the stepper is closed; create another one with net.stepper(...)")
        return network

    def __call__(self, X, y=None, sample_weight=None, *, dP=None):
        """Take one training step on these rows.

        Parameters
        ----------
        X, y, sample_weight, dP
            As in `NeuralNetwork.train_step`.

        Returns
        -------
        float
            Loss before the step, including penalties. If `dP` is given, the sum of dP * P, where P are the outputs.
        """
        return self.step(self.get_network(), X, y, sample_weight, dP, None)

    def apply(self, gradients=None):
        """Take one step of the optimizer from gradients; see `NeuralNetwork.apply_gradients`.

        Parameters
        ----------
        gradients : list of (dW, db), or array (n_params,), optional
            Gradients as `NeuralNetwork.gradients` returns them, or one vector in the order of `NeuralNetwork.params`.
            The gradients that `accumulate` has summed are added, and their sum is reset to 0.

        Raises
        ------
        ValueError, TypeError
            No gradients are given or summed, or they do not fit the network, or they contain NaN or infinity.
        DivergedError
            The step would make weights infinite or NaN.
        """
        self.step_from(self.get_network(), gradients, None)

    def accumulate(self, gradients, weight=1.0):
        """Add gradients, for example of a micro-batch, to the sum that the next `apply` uses for its step.

        Parameters
        ----------
        gradients : list of (dW, db), or array (n_params,)
            Gradients in one of the formats of `apply`.
        weight : float, default 1
            Factor of these gradients: 1 / n for the mean over n micro-batches of equal size.

        Raises
        ------
        ValueError, TypeError
            The gradients do not fit the network or contain NaN or infinity.
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
        """Learning rate of the next step, as a float. A number or a schedule may be assigned."""
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
            if self.general.state is None:        # the next step creates a training state with this learning rate
                self.converter = None
        finally:
            lock.release()

    def try_step(self, network, X, y, sample_weight, dP, lr, optimizer):
        """Take a step and return the loss before the step, or the sum of dP * P if dP is given.

        Return None without a step if `optimizer` or `lr` needs another stepper.
        """
        if self.optimizer is not optimizer or (self.last_lr is not lr and not self.general.accepts_rate(lr)):
            return None
        return self.step(network, X, y, sample_weight, dP, lr)

    def try_apply(self, network, gradients, lr, optimizer):
        """Take a step from gradients. Return False without a step if `optimizer` or `lr` needs another stepper."""
        if self.optimizer is not optimizer or (self.last_lr is not lr and not self.general.accepts_rate(lr)):
            return False
        self.step_from(network, gradients, lr)
        return True

    cdef step_from(self, network, gradients, lr):
        # Take a step from gradients with GeneralStep.apply(), under the training lock.
        cdef TrainingLock lock = network.model.training_lock
        cdef object general = self.general  # the local reference stays valid if another thread closes the stepper
        lock.acquire()
        try:
            general.apply(network, gradients, lr)
            self.last_lr = general.lr
            # if the general path has prepared another run, the next step must take the general path too
            if general.training is not self.training:
                self.converter = None
        finally:
            lock.release()

    cdef step(self, network, X, y, sample_weight, dP, lr):
        # Take a training step on these rows: on the fast path if nothing has changed since the last step, else on the
        # general path.
        cdef TrainingLock lock = self.training_lock if self.training_lock is not None else network.model.training_lock
        cdef object general = self.general  # the local reference stays valid if another thread closes the stepper
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
        # Store the objects that the last step used, so that the next step can take the fast path.
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
        # Return whether the objects that a step depends on are the same as in the last step. Only a thread that holds
        # the training lock can change them.
        if self.training_lock.acquisitions != self.next_acquisition:
            if not (network.converter is self.converter and network.state is self.network_state
                    and self.model.stack is self.stack):
                return False
            self.rate = self.state.lr
        self.next_acquisition = self.training_lock.acquisitions + 1
        return True

    cdef repeat_step(self, general, network, X, Y, lr):
        # Take a step on the fast path, with the objects of the last step. Return None without a step if the core cannot
        # read X and Y directly.
        cdef double loss, rate = self.rate if lr is None or lr is self.last_lr else lr
        cdef SnapshotLock lock = self.snapshot_lock
        # local references keep these objects alive until the step has finished, even if the stepper is closed
        cdef object state = self.state, training = self.training
        if not (type(X) is type(Y) is ndarray):
            return None
        lock.acquire()
        try:
            if not self.core_step.step(self.core_step.context, X, Y, rate, &loss):
                return None
            if loss - loss != 0:
                self.converter = None
                general.fail(network.model, X, Y if Y.ndim == 2 else None, "dP" if self.uses_dP else "y", rate)
            if not (lr is None or lr is self.last_lr):
                self.rate, self.last_lr = rate, float(lr)
                state.lr = general.lr = self.last_lr
            return loss
        finally:
            lock.release()

    cdef repeat_custom_step(self, general, network, X, Y, lr):
        # Take a step with a custom loss on the fast path, with the objects of the last step. Return None without a step
        # if the core cannot read X and Y directly.
        cdef double rate = self.rate if lr is None or lr is self.last_lr else lr
        cdef SnapshotLock lock = self.snapshot_lock
        # local references keep these objects alive until the step has finished, even if the stepper is closed
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
                    general.fail(network.model, X, Y, "y", rate)
                if not (lr is None or lr is self.last_lr):
                    self.rate, self.last_lr = rate, float(lr)
                    state.lr = general.lr = self.last_lr
                return result[0] + custom_step.training.penalty
            finally:
                lock.release()
        except ValueError as error:
            raise general.custom_error(network.model, error, X, Y, rate) from None

    def close(self):
        """Release the network and all prepared objects; the stepper cannot take further steps."""
        self.network = self.general = self.training = self.converter = self.model = None
        self.state = self.network_state = self.stack = self.custom_step = None
        self.training_lock, self.snapshot_lock = None, None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    def __reduce__(self):
        raise TypeError("a stepper cannot be pickled; pickle the network, and create another one with net.stepper(...)")
