# Locks that protect a network. Included by _team.pyx.

cdef enum:
    UNLOCKED, LOCKED, CONTENDED  # states of a SnapshotLock; CONTENDED: locked, and other threads wait for the lock


cdef void wait(PyThread_type_lock lock) noexcept nogil:
    # Block the calling thread until it has acquired the lock.
    PyThread_acquire_lock(lock, WAIT_LOCK)


cdef class TrainingLock:
    """Non-blocking lock that protects a network from simultaneous changes.

    Acquiring the lock while it is held raises RuntimeError.

    Parameters
    ----------
    message : str
        Text of the error.
    """
    cdef str message
    cdef counter is_held  # 1 if a thread holds the lock, else 0
    # number of acquisitions so far, which shows a stepper whether another caller has held the lock since its last step
    cdef unsigned long long acquisitions

    def __cinit__(self, str message):
        self.message = message

    def __enter__(self):
        self.acquire()

    def __exit__(self, kind, error, trace):
        self.release()

    cdef int acquire(self) except -1:
        if not counter_compare_swap(&self.is_held, False, True):
            raise RuntimeError(self.message)
        self.acquisitions += 1
        return 0

    cdef void release(self) noexcept:
        counter_set(&self.is_held, False)


cdef class SnapshotLock:
    """Blocking, reentrant lock under which parameters and training state are consistent.

    It is reentrant because a signal handler runs in the thread that it interrupts and may save the network.

    Attributes
    ----------
    awaited : bool
        Whether another thread waits for the lock.
    """
    # UNLOCKED, LOCKED, or CONTENDED, which means locked while other threads wait for the lock or have waited recently
    cdef counter state
    cdef counter waiting          # number of threads that wait for the lock
    cdef counter owner            # identifier of the thread that holds the lock, or 0
    cdef int depth                # number of nested acquisitions by the thread that holds the lock
    # lock on which waiting threads block; it is released to wake one of them, which then tries to acquire the
    # SnapshotLock again
    cdef PyThread_type_lock wakeup

    def __cinit__(self):
        self.wakeup = PyThread_allocate_lock()
        if self.wakeup is NULL:
            raise MemoryError
        wait(self.wakeup)

    def __dealloc__(self):
        if self.wakeup is not NULL:
            PyThread_free_lock(self.wakeup)

    @property
    def awaited(self):
        return counter_get(&self.waiting) > 0

    def __enter__(self):
        self.acquire()

    def __exit__(self, kind, error, trace):
        self.release()

    cdef void acquire(self) noexcept:
        cdef long thread = <long>PyThread_get_thread_ident()
        if counter_get(&self.owner) == thread:
            self.depth += 1
            return
        if not counter_compare_swap(&self.state, UNLOCKED, LOCKED):
            counter_add(&self.waiting, 1)
            with nogil:
                while counter_swap(&self.state, CONTENDED) != UNLOCKED:
                    wait(self.wakeup)
            counter_add(&self.waiting, -1)
        counter_set(&self.owner, thread)

    cdef void release(self) noexcept:
        if self.depth > 0:
            self.depth -= 1
            return
        counter_set(&self.owner, 0)
        if counter_swap(&self.state, UNLOCKED) == CONTENDED and counter_get(&self.waiting) > 0:
            PyThread_release_lock(self.wakeup)


cdef class LockGroup:
    """Several locks that are acquired together: if acquiring one of them raises, the others are released.

    Parameters
    ----------
    locks : iterable of TrainingLock or SnapshotLock
        Locks, which are acquired in this order and released in reverse order.
    """
    cdef list locks
    cdef Py_ssize_t acquired

    def __cinit__(self, locks):
        self.locks = list(locks)

    def __enter__(self):
        try:
            for lock in self.locks:
                lock.__enter__()
                self.acquired += 1
        except BaseException as error:
            self.__exit__(None, error, None)
            raise

    def __exit__(self, kind, error, trace):
        while self.acquired > 0:
            self.acquired -= 1
            self.locks[self.acquired].__exit__(kind, error, trace)


cdef class ActiveCount:
    """Context manager that counts the threads inside its `with` blocks; `len` returns their number."""
    cdef counter thread_count

    def __len__(self):
        return counter_get(&self.thread_count)

    def __enter__(self):
        counter_add(&self.thread_count, 1)

    def __exit__(self, kind, error, trace):
        counter_add(&self.thread_count, -1)
