# Team of threads for one training, at the end of which the threads end too. Included by _team.pyx.

cdef enum:
    # states of an Event; in the state SLEEPING the event is not set, and the waiting thread blocks on the lock of the
    # event
    CLEAR, SET, SLEEPING
    # number of times that a spinning thread reads the state of an event between two reads of the clock
    SPINS_PER_CLOCK_READ = 64

cdef double SPIN_SECONDS = 300e-6         # time in seconds that a waiting thread spins before it sleeps
cdef double PREEMPTED_SECONDS = 100e-6    # a machine is busy if yielding the processor takes more than this, in seconds
cdef double MAX_WAIT_SECONDS = 1e-3       # longer waiting times count as this many seconds in the average
cdef double WAIT_SMOOTHING = 0.25         # weight of the latest waiting time in the moving average

cdef struct Event:                # Event that one thread sets and one thread waits for; waiting clears it.
    counter state
    PyThread_type_lock lock  # lock on which a sleeping thread blocks; it is released only to wake the thread
    double usual_wait     # moving average of the time that a thread waits for this event, in seconds

cdef struct Member:
    Event start           # the caller sets this event when there is work for this thread
    Event done            # this thread sets this event when it has finished its work
    bint has_moved        # the thread of this member has called `move_thread` at least once


cdef void set_event(Event* event) noexcept nogil:
    # Set the event, and wake the thread that sleeps on it.
    if counter_swap(&event.state, SET) == SLEEPING:
        PyThread_release_lock(event.lock)


cdef bint spin_for_event(Event* event, double start_seconds) noexcept nogil:
    # Spin until the event is set, SPIN_SECONDS have passed, or the machine proves to be busy. Return whether the event
    # is set.
    cdef double moment = start_seconds
    while moment - start_seconds < SPIN_SECONDS:
        if spin_until_changed(&event.state, CLEAR, SPINS_PER_CLOCK_READ):
            return True
        moment = now()
        yield_processor()
        if now() - moment > PREEMPTED_SECONDS:
            # spinning on a busy machine delays other threads, perhaps the thread that sets this event
            event.usual_wait = MAX_WAIT_SECONDS
            break
    return False


cdef void wait_for_event(Event* event) noexcept nogil:
    # Wait until the event is set, and clear it. The thread spins first if waits are usually short, because waking a
    # sleeping thread takes about 50 microseconds.
    cdef double start_seconds = now()
    cdef bint is_set = event.usual_wait < SPIN_SECONDS and spin_for_event(event, start_seconds)
    if not is_set and counter_compare_swap(&event.state, CLEAR, SLEEPING):
        wait(event.lock)
    counter_set(&event.state, CLEAR)
    event.usual_wait += WAIT_SMOOTHING * (min(now() - start_seconds, MAX_WAIT_SECONDS) - event.usual_wait)


cdef bint init_event(Event* event):
    # Initialize an event. Return False if its lock cannot be allocated.
    event.lock = PyThread_allocate_lock()
    if event.lock is NULL:
        return False
    wait(event.lock)
    return True


cdef void free_event(Event* event) noexcept:
    if event.lock is not NULL:
        PyThread_free_lock(event.lock)


cdef class Team:
    """Threads that work together inside a `with` block.

    Initially only the calling thread is a member, and `size` is 1.

    Parameters
    ----------
    max_threads : int
        Maximum number of threads, including the calling thread.
    move_thread : callable, optional
        Function with three arguments: the processor of the caller, the native thread id of the caller, and `size`.
        Every other thread calls the function before its first work, and whenever the thread runs on the caller's
        processor.
    """
    cdef Member* members          # array with an element for each thread except the calling one
    cdef readonly int max_threads, size
    cdef object move_thread, work, abort, caller_thread_id
    cdef Task* task               # current work if it is a Task, which needs no Python; NULL for a Python function
    cdef Py_ssize_t amount
    cdef int caller_processor     # number of the processor on which the caller runs
    cdef object error             # first exception that a member thread has raised in this run
    cdef bint is_closing          # the `with` block ends, so the threads leave their loops

    def __cinit__(self, int max_threads, move_thread=None):
        self.size, self.max_threads, self.move_thread = 1, max_threads, move_thread
        self.members = <Member*>PyMem_Calloc(max(max_threads, 1), sizeof(Member))
        if self.members is NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int k
        for k in range(self.size - 1):
            self.free_member(&self.members[k])
        PyMem_Free(self.members)

    def __enter__(self):
        return self

    def grow(self, int n_threads):
        """Start threads until the team has `n_threads` threads, and return how many of them exist.

        The result is smaller than `n_threads` if the system refuses to start more threads.
        """
        cdef Member* member
        if self.size < n_threads:
            self.caller_thread_id = _thread.get_native_id()
        while self.size < min(n_threads, self.max_threads):
            member = &self.members[self.size - 1]
            if not (init_event(&member.start) and init_event(&member.done)):
                self.free_member(member)
                break
            self.size += 1
            try:
                _thread.start_new_thread(self.serve, (self.size - 1,))
            except (RuntimeError, MemoryError):
                self.size -= 1
                self.free_member(member)
                break
        return min(n_threads, self.size)

    cdef void free_member(self, Member* member) noexcept:
        free_event(&member.start)
        free_event(&member.done)

    cdef bint needs_no_python(self, Member* member) noexcept nogil:
        # Return whether the member thread can do its work without the GIL, which the caller may hold.
        return self.task is not NULL and (self.move_thread is None or
                                          (member.has_moved and processor_number() != self.caller_processor))

    def serve(self, int thread):
        """Run the loop of a member thread: work whenever the caller requests it, until the `with` block ends."""
        cdef Member* member = &self.members[thread - 1]
        while True:
            with nogil:
                wait_for_event(&member.start)
                while self.needs_no_python(member):
                    self.task.work(self.task.context, thread, self.amount)
                    set_event(&member.done)
                    wait_for_event(&member.start)
            if self.is_closing:
                break
            try:
                if self.move_thread is not None:
                    self.move_thread(self.caller_processor, self.caller_thread_id, self.size)
                    member.has_moved = True
                if self.task is NULL:
                    self.work(thread, self.amount)
                else:
                    with nogil:
                        self.task.work(self.task.context, thread, self.amount)
            except BaseException as error:
                with critical_section(self):
                    if self.error is None:
                        self.error = error
                if self.abort is not None:
                    self.abort()
            set_event(&member.done)
        set_event(&member.done)

    def run(self, work, Py_ssize_t amount=0, size=None, abort=None):
        """Call work(thread, amount) in threads 0, 1, ... at the same time and wait for all of them.

        Parameters
        ----------
        work : callable or capsule
            A function, or the capsule of a Task, which runs without Python.
        amount : int
            Amount of work for each thread, for example a number of blocks; passed to `work`.
        size : int, optional
            Number of threads, at most `self.size`. Default: start threads up to `max_threads`, and use all.
        abort : callable, optional
            Function that a thread calls if its work raises, to release threads that wait for it.

        Raises
        ------
        BaseException
            The first exception of a thread, raised when all threads have finished. An exception of the calling thread
            has precedence.
        """
        cdef int others = (self.grow(self.max_threads) if size is None else min(<int>size, self.size)) - 1, k
        cdef Task* task = <Task*>PyCapsule_GetPointer(work, NULL) if PyCapsule_CheckExact(work) else NULL
        self.work, self.amount, self.abort, self.error, self.task = work, amount, abort, None, task
        self.caller_processor = processor_number() if others > 0 else -1
        for k in range(others):
            set_event(&self.members[k].start)
        try:
            if task is NULL:
                work(0, amount)
            else:
                with nogil:
                    task.work(task.context, 0, amount)
        except BaseException:
            if abort is not None:
                abort()
            raise
        finally:
            for k in range(others):
                with nogil:
                    wait_for_event(&self.members[k].done)
            error = self.error
            self.work = self.abort = self.error = None
            self.task = NULL
        if error is not None:
            raise error

    def __exit__(self, kind, error, trace):
        cdef int k
        self.is_closing = True
        for k in range(self.size - 1):
            set_event(&self.members[k].start)
        for k in range(self.size - 1):
            with nogil:
                wait_for_event(&self.members[k].done)
