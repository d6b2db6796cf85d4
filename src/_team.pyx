# A team of threads that do a piece of work together, again and again, for as long as a call of fit takes; and two locks, a number of
# those that are at work, and the handler of Ctrl-C, which are left as surely.
#
# A function of Python can be left between any two of its bytecodes, by the exception of a signal handler; what is written here cannot.
# So whatever is raised, and wherever, the caller waits for all others before it leaves, and they go home when the `with` is left.

from cython cimport critical_section
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.pythread cimport (NOWAIT_LOCK, WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
                               PyThread_get_thread_ident, PyThread_release_lock, PyThread_type_lock)

from threads cimport counter, counter_add, counter_get, counter_set, now

import _signal       # the C module: its Python face turns numbers into enums, 25 microseconds a fit
import _thread

from nnc import _cpu


cdef struct Member:               # two locks, which both are held but in passing
    PyThread_type_lock go         # released by the caller when there is something to do
    PyThread_type_lock done       # released by the member when it is done


cdef void wait(PyThread_type_lock lock) noexcept nogil:
    PyThread_acquire_lock(lock, WAIT_LOCK)


cdef class Lock:
    """What Turn and Still are made from. It is theirs alone: nothing but a `with` takes or gives it."""
    cdef PyThread_type_lock lock

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock is NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.lock is not NULL:
            PyThread_free_lock(self.lock)


cdef class Turn(Lock):
    """A `with` that one can be in at a time: RuntimeError with this message where somebody is."""
    cdef str message

    def __cinit__(self, str message):
        self.message = message

    def __enter__(self):
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            raise RuntimeError(self.message)

    def __exit__(self, kind, error, trace):
        PyThread_release_lock(self.lock)


cdef class Still(Lock):
    """A `with` that one thread can be in at a time, and others wait for. `awaited` says whether somebody does.

    The one that is in it comes in again: a signal handler runs in the thread that it disturbs, and may want to save the network.
    """
    cdef counter waiting
    cdef counter owner            # the thread that is in it, or 0
    cdef int depth                # how often it has come in again

    @property
    def awaited(self):
        return counter_get(&self.waiting) > 0

    def __enter__(self):
        cdef long me = <long>PyThread_get_thread_ident()
        if counter_get(&self.owner) == me:
            self.depth += 1
            return
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            counter_add(&self.waiting, 1)
            with nogil:
                wait(self.lock)
            counter_add(&self.waiting, -1)
        counter_set(&self.owner, me)

    def __exit__(self, kind, error, trace):
        if self.depth > 0:
            self.depth -= 1
            return
        counter_set(&self.owner, 0)
        PyThread_release_lock(self.lock)


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
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            try:
                _signal.signal(_signal.SIGINT, self.note)
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
                _signal.signal(_signal.SIGINT, _signal.default_int_handler)
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
        Called by every other thread before it works, with the processor that the caller is on, the caller's native id and `size`.
    """
    cdef Member* members          # all but the caller
    cdef readonly int most, size
    cdef object settle, work, amount, abort, home, caller
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
            PyThread_free_lock(self.members[k].go)
            PyThread_free_lock(self.members[k].done)
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
            member.go, member.done = PyThread_allocate_lock(), PyThread_allocate_lock()
            if member.go is NULL or member.done is NULL:
                self.give_up(member)
                break
            wait(member.go)
            wait(member.done)
            self.size += 1
            try:
                _thread.start_new_thread(self.serve, (self.size - 1,))
            except (RuntimeError, MemoryError):
                self.size -= 1
                self.give_up(member)
                break
        return min(n_threads, self.size)

    cdef give_up(self, Member* member):
        if member.go is not NULL:
            PyThread_free_lock(member.go)
        if member.done is not NULL:
            PyThread_free_lock(member.done)

    def serve(self, int thread):
        """What a member does: works when it is told to, until the team is left."""
        cdef Member* me = &self.members[thread - 1]
        while True:
            with nogil:
                wait(me.go)
            if self.leaving:
                break
            try:
                if self.settle is not None:
                    self.settle(self.home, self.caller, self.size)
                self.work(thread, self.amount)
            except BaseException as error:
                with critical_section(self):
                    if self.error is None:
                        self.error = error
                if self.abort is not None:
                    self.abort()
            PyThread_release_lock(me.done)
        PyThread_release_lock(me.done)

    def run(self, work, amount=0, size=None, abort=None):
        """Calls work(thread, amount) in thread 0, 1, ... at once, in `size` of those that there are or in `most`, and waits for them.

        What one of them raises is raised here when all are done, the caller's before the others'. `abort` is called then, by the thread
        that has raised it, for those that wait for that thread.
        """
        cdef int others = (self.grow(self.most) if size is None else min(<int>size, self.size)) - 1, k
        self.work, self.amount, self.abort, self.error = work, amount, abort, None
        self.home = _cpu.processor() if others > 0 else -1
        for k in range(others):
            PyThread_release_lock(self.members[k].go)
        try:
            work(0, amount)
        except BaseException:
            if abort is not None:
                abort()
            raise
        finally:
            for k in range(others):
                with nogil:
                    wait(self.members[k].done)
            error = self.error
            self.work = self.abort = self.error = None
        if error is not None:
            raise error

    def __exit__(self, kind, error, trace):
        cdef int k
        self.leaving = True
        for k in range(self.size - 1):
            PyThread_release_lock(self.members[k].go)
        for k in range(self.size - 1):
            with nogil:
                wait(self.members[k].done)
