# A team of threads that do a piece of work together, again and again, for as long as a call of fit takes; and two locks, a number of
# those that are at work, a step under both locks, and the handler of Ctrl-C, which are left as surely.
#
# A function of Python can be left between any two of its bytecodes, by the exception of a signal handler; what is written here cannot.
# So whatever is raised, and wherever, the caller waits for all others before it leaves, and they go home when the `with` is left.

from cython cimport critical_section
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.pycapsule cimport PyCapsule_CheckExact, PyCapsule_GetPointer
from cpython.pythread cimport (WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
                               PyThread_get_thread_ident, PyThread_release_lock, PyThread_type_lock)

from threads cimport (Single, Task, counter, counter_add, counter_changes, counter_get, counter_set, counter_swap, counter_turn, now,
                      processor_number, yield_processor)

# The C module: its Python face turns numbers into enums, 25 microseconds a fit.
from _signal import SIGINT, default_int_handler, getsignal, signal
import _thread

import numpy

cdef object ndarray = numpy.ndarray       # a C variable: a name of the module is looked up at each use


cdef enum:
    CLOSED, OPEN, SLEPT_AT        # a gate
    FREE = 0, HELD, WANTED        # a Still
    LOOKS = 64                    # at a gate, between two looks at the clock

cdef double PATIENCE = 300e-6     # seconds that a thread spins for at most, where it usually has not to wait for longer
cdef double TAKEN = 100e-6        # seconds after which a thread that gave its processor away for a moment has had to wait for it
cdef double LONG = 1e-3           # seconds of a wait that are as good as more
cdef double SHARE = 0.25          # of the last wait in the usual one

cdef struct Gate:                 # one thread waits at it, another one opens it
    counter state
    PyThread_type_lock lock       # held, but in passing: who sleeps waits for it
    double usual                  # seconds of a wait

cdef struct Member:
    Gate go                       # opened by the caller when there is something to do
    Gate done                     # opened by the member when it is done
    bint settled                  # it has found its processor


cdef void wait(PyThread_type_lock lock) noexcept nogil:
    PyThread_acquire_lock(lock, WAIT_LOCK)


cdef void open_gate(Gate* gate) noexcept nogil:
    if counter_swap(&gate.state, OPEN) == SLEPT_AT:
        PyThread_release_lock(gate.lock)


cdef bint opens_soon(Gate* gate, double began) noexcept nogil:
    # Spins for as long as the gate may be expected to open, unless others want the processor.
    cdef double moment = began
    while moment - began < PATIENCE:
        if counter_changes(&gate.state, CLOSED, LOOKS):
            return True
        moment = now()
        yield_processor()
        if now() - moment > TAKEN:
            gate.usual = LONG     # the machine is busy: to spin would be at the cost of others, of the one waited for perhaps
            break
    return False


cdef void pass_gate(Gate* gate) noexcept nogil:
    # Waits until the gate is open, and closes it. To wake a thread that sleeps takes some 50 microseconds.
    cdef double began = now()
    if not (gate.usual < PATIENCE and opens_soon(gate, began)) and counter_turn(&gate.state, CLOSED, SLEPT_AT):
        wait(gate.lock)
    counter_set(&gate.state, CLOSED)
    gate.usual += SHARE * (min(now() - began, LONG) - gate.usual)


cdef bint make_gate(Gate* gate):
    gate.lock = PyThread_allocate_lock()
    if gate.lock is NULL:
        return False
    wait(gate.lock)
    return True


cdef void free_gate(Gate* gate) noexcept:
    if gate.lock is not NULL:
        PyThread_free_lock(gate.lock)


cdef class Turn:
    """A `with` that one can be in at a time: RuntimeError with this message where somebody is. Whoever changes the state, the intake or
    the layers of a network is in its model's."""
    cdef str message
    cdef counter taken
    cdef unsigned long long times         # that somebody has come in: a step looks no further where nobody has

    def __cinit__(self, str message):
        self.message = message

    def __enter__(self):
        self.take()

    def __exit__(self, kind, error, trace):
        self.give()

    cdef int take(self) except -1:
        if not counter_turn(&self.taken, False, True):
            raise RuntimeError(self.message)
        self.times += 1
        return 0

    cdef void give(self) noexcept:
        counter_set(&self.taken, False)


cdef class Still:
    """A `with` that one thread can be in at a time, and others wait for. `awaited` says whether somebody does.

    The one that is in it comes in again: a signal handler runs in the thread that it disturbs, and may want to save the network.
    """
    cdef counter state            # FREE, HELD, or WANTED: held while others wait, or did a moment ago
    cdef counter waiting
    cdef counter owner            # the thread that is in it, or 0
    cdef int depth                # how often it has come in again
    cdef PyThread_type_lock lock  # held, but in passing: who waits waits for it, and tries again

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock is NULL:
            raise MemoryError
        wait(self.lock)

    def __dealloc__(self):
        if self.lock is not NULL:
            PyThread_free_lock(self.lock)

    @property
    def awaited(self):
        return counter_get(&self.waiting) > 0

    def __enter__(self):
        self.take()

    def __exit__(self, kind, error, trace):
        self.give()

    cdef void take(self) noexcept:
        cdef long me = <long>PyThread_get_thread_ident()
        if counter_get(&self.owner) == me:
            self.depth += 1
            return
        if not counter_turn(&self.state, FREE, HELD):
            counter_add(&self.waiting, 1)
            with nogil:
                while counter_swap(&self.state, WANTED) != FREE:
                    wait(self.lock)
            counter_add(&self.waiting, -1)
        counter_set(&self.owner, me)

    cdef void give(self) noexcept:
        if self.depth > 0:
            self.depth -= 1
            return
        counter_set(&self.owner, 0)
        if counter_swap(&self.state, FREE) == WANTED and counter_get(&self.waiting) > 0:
            PyThread_release_lock(self.lock)


cdef class Stepping:
    """How a training step is taken where nothing has changed since the last one: in Python that took twice as long as the arithmetic of a
    small network. nnc/training/step.py has the rest.

    Attributes
    ----------
    optimizer, lr : object
        As they were given, the rate at last.
    state : State
        What the steps go on with.
    training : Training
        The core's run, which counts them.
    kept, stack : object
        The state of the network and the stack of its model, as the last step has left them.
    """
    cdef public object optimizer, lr, state, kept, stack
    cdef object model, run, intake
    cdef double rate              # the state's
    cdef Turn turn                # of the model
    cdef unsigned long long next  # turn.times in the next step, where nobody comes in before
    cdef Still still
    cdef Single* single           # of the run
    cdef bint slopes              # it takes dP, and no targets

    @property
    def training(self):
        return self.run

    @training.setter
    def training(self, run):
        self.intake = None
        self.run = run
        self.single = NULL if run is None else <Single*>PyCapsule_GetPointer(run.single, NULL)

    def repeats(self, model, intake, bint slopes):
        """To be called after a step, on targets or slopes, where the next one on such arrays depends on nothing else."""
        self.model, self.turn, self.still, self.intake, self.slopes = model, model.turn, model.still, intake, slopes
        self.rate, self.next = self.state.lr, self.turn.times + 1

    cdef bint stands(self, network):
        # Whether nobody has been here since the last step who has changed what the next one depends on: that takes a turn.
        if self.turn.times != self.next:
            if not (network.intake is self.intake and network.state is self.kept and self.model.stack is self.stack):
                return False
            self.rate = self.state.lr
        self.next = self.turn.times + 1
        return True

    def take(self, network, X, y, sample_weight, dP, lr, optimizer):
        """One step; returns the loss before it, or where its derivatives are given the sum of dP * P. None, with nothing done, where it
        takes other steps for this optimizer and rate."""
        if self.optimizer is not optimizer or (self.lr is not lr and not self.takes_rate(lr)):
            return None
        return self.taken(network, X, y, sample_weight, dP, lr)

    cdef taken(self, network, X, y, sample_weight, dP, lr):
        cdef Turn turn = self.turn if self.turn is not None else network.model.turn
        turn.take()
        try:
            if (self.intake is not None and sample_weight is None and (y if self.slopes else dP) is None
                    and self.stands(network)):
                loss = self.taken_again(network, X, dP if self.slopes else y, lr)
                if loss is not None:
                    return loss
            self.intake = None
            return self.take_any(network, X, y, sample_weight, dP, lr)
        finally:
            turn.give()

    cdef taken_again(self, network, X, Y, lr):
        # The same; None, with nothing done, where X and Y cannot go to the core as they are.
        cdef double loss, rate = self.rate if lr is None or lr is self.lr else lr
        if not (type(X) is type(Y) is ndarray):
            return None
        self.still.take()
        try:
            if not self.single.take(self.single.what, X, Y, rate, &loss):
                return None
            if loss - loss != 0:
                self.fail(network, X, Y if Y.ndim == 2 else None, "dP" if self.slopes else "y", rate)
            if not (lr is None or lr is self.lr):
                self.rate, self.lr = rate, float(lr)
                self.state.lr = self.lr
            return loss
        finally:
            self.still.give()


cdef class Stepper:
    """Takes a step of its network's training in each call, until it is closed or its `with` is left: see NeuralNetwork.stepper."""
    cdef object network
    cdef Stepping steps

    def __init__(self, network, Stepping steps):
        self.network, self.steps = network, steps

    def __call__(self, X, y=None, sample_weight=None, *, dP=None):
        cdef Stepping steps = self.steps
        if steps is None:
            raise ValueError("the stepper is closed: make another one with net.stepper(...)")
        return steps.taken(self.network, X, y, sample_weight, dP, None)

    def close(self):
        """Lets go of the network, and of what was prepared."""
        self.network = self.steps = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    def __reduce__(self):
        raise TypeError("a stepper cannot be pickled: pickle the network, and make another one with net.stepper(...)")


cdef class Every:
    """Several turns, or stills, in one `with`: all of them, or none where one is refused."""
    cdef list locks
    cdef Py_ssize_t held

    def __cinit__(self, locks):
        self.locks = list(locks)

    def __enter__(self):
        try:
            for lock in self.locks:
                lock.__enter__()
                self.held += 1
        except BaseException as error:
            self.__exit__(None, error, None)
            raise

    def __exit__(self, kind, error, trace):
        while self.held > 0:
            self.held -= 1
            self.locks[self.held].__exit__(kind, error, trace)


cdef class Crowd:
    """A `with` that any number can be in: len(crowd) tells how many."""
    cdef counter inside

    def __len__(self):
        return counter_get(&self.inside)

    def __enter__(self):
        counter_add(&self.inside, 1)

    def __exit__(self, kind, error, trace):
        counter_add(&self.inside, -1)


cdef class Interrupt:
    """Inside a `with`, Ctrl-C is noted instead of raised: bool(interrupt) tells.

    A second one, a second or more later, raises KeyboardInterrupt after all, for a callback that hangs. In threads other than the main
    one, and where a program handles SIGINT in its own way, nothing is changed.

    Parameters
    ----------
    seconds : float, optional
        After so many it is as if there had been one.
    """
    cdef double since, end        # when it came, and when it is as if; 0 where they do not
    cdef bint ours

    def __cinit__(self, seconds=None):
        if seconds is not None:
            self.end = now() + <double>seconds

    def __bool__(self):
        return self.since > 0 or (self.end > 0 and now() > self.end)

    def __reduce__(self):         # in another process there is another Ctrl-C, and another clock
        return Interrupt, (None if self.end == 0 else max(0.0, self.end - now()),)

    def stop(self):
        """As if there had been one, for runs that are to end since another one has failed."""
        if self.since == 0:
            self.since = now()

    def note(self, number, frame):
        """The handler."""
        if self.since > 0 and now() - self.since > 1:
            raise KeyboardInterrupt
        self.stop()

    def __enter__(self):
        if getsignal(SIGINT) is default_int_handler:
            try:
                signal(SIGINT, self.note)
                self.ours = True
            except ValueError as error:
                if error.__traceback__.tb_next is not None:      # of another signal's handler, which was called first
                    raise
                # else this is not the main thread
        return self

    def __exit__(self, kind, error, trace):
        raised = None
        while self.ours:
            try:
                signal(SIGINT, default_int_handler)
                self.ours = False
            except BaseException as another:      # of the handler of another signal, which was called first
                raised = another
        if raised is not None:
            raise raised


cdef class Team:
    """Threads that work together, inside a `with`. At first there is the calling one alone: `size` is 1.

    Parameters
    ----------
    most : int
        Threads that there may be, the calling one included.
    settle : callable, optional
        Called by every other thread, with the processor that the caller is on, the caller's native id and `size`: before it works for
        the first time, and whenever it finds itself on that processor.
    """
    cdef Member* members          # all but the caller
    cdef readonly int most, size
    cdef object settle, work, abort, caller
    cdef Task* task               # what is done in place of `work`, without Python
    cdef Py_ssize_t amount
    cdef int home
    cdef object error             # the first that a member has raised
    cdef bint leaving

    def __cinit__(self, int most, settle=None):
        self.size, self.most, self.settle = 1, most, settle
        self.members = <Member*>PyMem_Calloc(max(most, 1), sizeof(Member))
        if self.members is NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int k
        for k in range(self.size - 1):
            self.give_up(&self.members[k])
        PyMem_Free(self.members)

    def __enter__(self):
        return self

    def grow(self, int n_threads):
        """Starts threads, until there are so many of them; returns how many of those asked for there are: fewer where the system refuses
        more."""
        cdef Member* member
        if self.size < n_threads:
            self.caller = _thread.get_native_id()
        while self.size < min(n_threads, self.most):
            member = &self.members[self.size - 1]
            if not (make_gate(&member.go) and make_gate(&member.done)):
                self.give_up(member)
                break
            self.size += 1
            try:
                _thread.start_new_thread(self.serve, (self.size - 1,))
            except (RuntimeError, MemoryError):
                self.size -= 1
                self.give_up(member)
                break
        return min(n_threads, self.size)

    cdef void give_up(self, Member* member) noexcept:
        free_gate(&member.go)
        free_gate(&member.done)

    cdef bint works_alone(self, Member* me) noexcept nogil:
        # Whether what is to be done needs no Python, whose lock the caller may have.
        return self.task is not NULL and (self.settle is None or (me.settled and processor_number() != self.home))

    def serve(self, int thread):
        """What a member does: works when it is told to, until the team is left."""
        cdef Member* me = &self.members[thread - 1]
        while True:
            with nogil:
                pass_gate(&me.go)
                while self.works_alone(me):
                    self.task.work(self.task.what, thread, self.amount)
                    open_gate(&me.done)
                    pass_gate(&me.go)
            if self.leaving:
                break
            try:
                if self.settle is not None:
                    self.settle(self.home, self.caller, self.size)
                    me.settled = True
                if self.task is NULL:
                    self.work(thread, self.amount)
                else:
                    with nogil:
                        self.task.work(self.task.what, thread, self.amount)
            except BaseException as error:
                with critical_section(self):
                    if self.error is None:
                        self.error = error
                if self.abort is not None:
                    self.abort()
            open_gate(&me.done)
        open_gate(&me.done)

    def run(self, work, Py_ssize_t amount=0, size=None, abort=None):
        """Calls work(thread, amount) in thread 0, 1, ... at once, in `size` of those that there are or in `most`, and waits for them.

        `work` may be a capsule of a Task, which is done without Python. What one of the threads raises is raised here when all are done,
        the caller's before the others'. `abort` is called then, by the thread that has raised it, for those that wait for that thread.
        """
        cdef int others = (self.grow(self.most) if size is None else min(<int>size, self.size)) - 1, k
        cdef Task* task = <Task*>PyCapsule_GetPointer(work, NULL) if PyCapsule_CheckExact(work) else NULL
        self.work, self.amount, self.abort, self.error, self.task = work, amount, abort, None, task
        self.home = processor_number() if others > 0 else -1
        for k in range(others):
            open_gate(&self.members[k].go)
        try:
            if task is NULL:
                work(0, amount)
            else:
                with nogil:
                    task.work(task.what, 0, amount)
        except BaseException:
            if abort is not None:
                abort()
            raise
        finally:
            for k in range(others):
                with nogil:
                    pass_gate(&self.members[k].done)
            error = self.error
            self.work = self.abort = self.error = None
            self.task = NULL
        if error is not None:
            raise error

    def __exit__(self, kind, error, trace):
        cdef int k
        self.leaving = True
        for k in range(self.size - 1):
            open_gate(&self.members[k].go)
        for k in range(self.size - 1):
            with nogil:
                pass_gate(&self.members[k].done)
