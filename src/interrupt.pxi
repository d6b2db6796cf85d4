# Interrupt handling: Ctrl-C during a training. Included by _team.pyx.

cdef double REPEAT_SECONDS = 1            # a second Ctrl-C this much later raises KeyboardInterrupt


cdef class Interrupt:
    """Context manager that records Ctrl-C instead of raising: `bool(interrupt)` is true afterwards.

    A second Ctrl-C, at least a second later, raises KeyboardInterrupt, so that a callback that hangs can be ended.
    Nothing changes in threads other than the main thread, or if the program has its own SIGINT handler.

    Parameters
    ----------
    seconds : float, optional
        Time limit, after which the object behaves as if Ctrl-C had been pressed.
    """
    cdef double interrupted_at    # time of the interrupt, or 0
    cdef double deadline          # end of the time limit, or 0
    cdef bint handles_signal

    def __cinit__(self, seconds=None):
        if seconds is not None:
            self.deadline = now() + <double>seconds

    def __bool__(self):
        return self.interrupted_at > 0 or (self.deadline > 0 and now() > self.deadline)

    def __reduce__(self):         # another process has its own Ctrl-C and its own clock
        return Interrupt, (None if self.deadline == 0 else max(0.0, self.deadline - now()),)

    def stop(self):
        """Behave as if Ctrl-C had been pressed, to end runs because another one failed."""
        if self.interrupted_at == 0:
            self.interrupted_at = now()

    def handle_signal(self, number, frame):
        """Handle SIGINT."""
        if self.interrupted_at > 0 and now() - self.interrupted_at > REPEAT_SECONDS:
            raise KeyboardInterrupt
        self.stop()

    def __enter__(self):
        if getsignal(SIGINT) is default_int_handler:
            try:
                signal(SIGINT, self.handle_signal)
                self.handles_signal = True
            except ValueError as error:
                # an exception from the handler of another signal, which ran first
                if error.__traceback__.tb_next is not None:
                    raise
                # without an inner frame: this is not the main thread, which alone may set handlers
        return self

    def __exit__(self, kind, error, trace):
        handler_error = None
        while self.handles_signal:
            try:
                signal(SIGINT, default_int_handler)
                self.handles_signal = False
            except BaseException as raised:        # an exception from the handler of another signal, which ran first
                handler_error = raised
        if handler_error is not None:
            raise handler_error
