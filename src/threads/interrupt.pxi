# Interrupt handling: how a running training reacts to Ctrl-C. Included by _team.pyx.

# a second Ctrl-C raises KeyboardInterrupt if it comes at least this many seconds after the first
cdef double REPEAT_SECONDS = 1


cdef class Interrupt:
    """Context manager that records Ctrl-C instead of raising: `bool(interrupt)` is true afterwards.

    A second Ctrl-C, at least a second later, raises KeyboardInterrupt, so that a callback that hangs can be ended.
    The context manager does not handle Ctrl-C outside of the main thread, or if the program has its own SIGINT handler.

    Parameters
    ----------
    seconds : float, optional
        Time limit, after which the object behaves as if Ctrl-C had been pressed.
    """
    cdef double interrupted_at    # clock time of the first interrupt in seconds, or 0 if there was none
    cdef double deadline          # clock time in seconds at which the time limit ends, or 0 if there is no limit
    cdef bint handles_signal

    def __cinit__(self, seconds=None):
        if seconds is not None:
            self.deadline = now() + <double>seconds

    def __bool__(self):
        return self.interrupted_at > 0 or (self.deadline > 0 and now() > self.deadline)

    def __reduce__(self):         # Ctrl-C and the clock belong to one process, so only the remaining time is pickled
        return Interrupt, (None if self.deadline == 0 else max(0.0, self.deadline - now()),)

    def stop(self):
        """Behave as if Ctrl-C had been pressed, for example to end a run after another run has failed."""
        if self.interrupted_at == 0:
            self.interrupted_at = now()

    def handle_signal(self, number, frame):
        """Handle the signal SIGINT (Ctrl-C): record it, or raise KeyboardInterrupt the second time."""
        if self.interrupted_at > 0 and now() - self.interrupted_at > REPEAT_SECONDS:
            raise KeyboardInterrupt
        self.stop()

    def __enter__(self):
        if getsignal(SIGINT) is default_int_handler:
            try:
                signal(SIGINT, self.handle_signal)
                self.handles_signal = True
            except ValueError as error:
                # a deeper traceback shows that the handler of another signal has raised this exception
                if error.__traceback__.tb_next is not None:
                    raise
                # signal() itself raised the error, because only the main thread may set handlers
        return self

    def __exit__(self, kind, error, trace):
        handler_error = None
        while self.handles_signal:
            try:
                signal(SIGINT, default_int_handler)
                self.handles_signal = False
            except BaseException as raised:  # the handler of another signal has raised this exception
                handler_error = raised
        if handler_error is not None:
            raise handler_error
