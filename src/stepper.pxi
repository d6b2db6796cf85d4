# Single training steps. Included by _team.pyx.


cdef class Stepper:
    """Function that takes one training step of a network in each call; see `NeuralNetwork.stepper`.

    The usual call, with arrays like those of the last step and nothing else changed, goes to the core from here: in
    Python it would take twice as long as the arithmetic of a small network. Every other call goes to `general`.

    Parameters
    ----------
    general : GeneralStep
        Takes any step, and prepares the core for the next ones; see nnc/_training/step.py.
    network : NeuralNetwork, optional
        Network to train in each call of the stepper. A network keeps its own stepper without it, and passes itself to
        `take`, so that no reference cycle delays its deallocation.
    """
    cdef readonly object general
    cdef object network
    cdef object optimizer, lr     # as the caller passed them last
    # what the last step depended on; `intake` is None if the next step must be general
    cdef object model, state, intake, stack
    cdef object network_state     # None after plain descent, which leaves no state in the network
    cdef object training          # keeps `single` alive
    cdef double rate              # learning rate of the state
    cdef TrainingLock training_lock       # of the model
    cdef SnapshotLock snapshot_lock
    # of the training lock by the next step, if nobody else acquires it before
    cdef unsigned long long next_acquisition
    cdef Single* single
    cdef bint takes_gradient      # the step is given dP instead of targets

    def __init__(self, general, network=None):
        self.general, self.network = general, network
        self.optimizer, self.lr = general.optimizer, general.lr

    def __call__(self, X, y=None, sample_weight=None, *, dP=None):
        if self.network is None:
            raise ValueError("the stepper is closed: make another one with net.stepper(...)")
        return self.step(self.network, X, y, sample_weight, dP, None)

    def take(self, network, X, y, sample_weight, dP, lr, optimizer):
        """Take a step and return the loss before it, or the sum of dP * P if dP is given.

        Return None, with nothing done, if this optimizer and learning rate need another stepper.
        """
        if self.optimizer is not optimizer or (self.lr is not lr and not self.general.accepts_rate(lr)):
            return None
        return self.step(network, X, y, sample_weight, dP, lr)

    cdef step(self, network, X, y, sample_weight, dP, lr):
        cdef TrainingLock lock = self.training_lock if self.training_lock is not None else network.model.turn
        cdef object general = self.general        # another thread may close the stepper meanwhile
        lock.acquire()
        try:
            if (self.intake is not None and sample_weight is None and (y if self.takes_gradient else dP) is None
                    and self.is_unchanged(network)):
                loss = self.repeat(general, network, X, dP if self.takes_gradient else y, lr)
                if loss is not None:
                    return loss
            self.intake = None
            loss, intake = general.step(network, X, y, sample_weight, dP, lr)
            self.lr = general.lr
            if intake is not None and self.general is not None:
                self.prepare(general, network, intake, dP is not None)
            return loss
        finally:
            lock.release()

    cdef int prepare(self, general, network, intake, bint takes_gradient) except -1:
        # Remember what the step that was just taken depended on.
        self.model, self.intake, self.takes_gradient = network.model, intake, takes_gradient
        self.state, self.network_state, self.stack = general.state, network.state, self.model.stack
        self.training_lock, self.snapshot_lock = self.model.turn, self.model.still
        self.training, self.rate = general.training, self.state.lr
        self.single = <Single*>PyCapsule_GetPointer(self.training.single, NULL)
        self.next_acquisition = self.training_lock.acquisitions + 1
        return 0

    cdef bint is_unchanged(self, network):
        # Whether everything that the step depends on is as after the last step. Only a holder of the training lock can
        # change it.
        if self.training_lock.acquisitions != self.next_acquisition:
            if not (network.intake is self.intake and network.state is self.network_state
                    and self.model.stack is self.stack):
                return False
            self.rate = self.state.lr
        self.next_acquisition = self.training_lock.acquisitions + 1
        return True

    cdef repeat(self, general, network, X, Y, lr):
        # Take a step like the last one; return None, with nothing done, if the core cannot read X and Y directly.
        cdef double loss, rate = self.rate if lr is None or lr is self.lr else lr
        cdef SnapshotLock lock = self.snapshot_lock
        # alive until the step is over, even if the stepper is closed
        cdef object state = self.state, training = self.training
        if not (type(X) is type(Y) is ndarray):
            return None
        lock.acquire()
        try:
            if not self.single.take(self.single.what, X, Y, rate, &loss):
                return None
            if loss - loss != 0:
                self.intake = None
                general.fail(network, X, Y if Y.ndim == 2 else None, "dP" if self.takes_gradient else "y", rate)
            if not (lr is None or lr is self.lr):
                self.rate, self.lr = rate, float(lr)
                state.lr = general.lr = self.lr
            return loss
        finally:
            lock.release()

    def close(self):
        """Release the network and everything prepared for it."""
        self.network = self.general = self.training = self.intake = self.model = None
        self.state = self.network_state = self.stack = None
        self.training_lock, self.snapshot_lock = None, None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    def __reduce__(self):
        raise TypeError("a stepper cannot be pickled: pickle the network, and make another one with net.stepper(...)")
