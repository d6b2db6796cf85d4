# Threads, locks, single training steps and Ctrl-C handling. They are one extension module, because each module costs
# import time, and because the stepper then calls the locks without going through Python.
#
# This module is written in Cython because a signal handler may raise between any two bytecodes of a Python function.
# Compiled code is not interrupted, so a lock that was acquired is always released, and a thread team always finishes
# before its caller continues.

from cython cimport critical_section
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.pycapsule cimport PyCapsule_CheckExact, PyCapsule_GetPointer
from cpython.pythread cimport (WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
                               PyThread_get_thread_ident, PyThread_release_lock, PyThread_type_lock)
from libc.math cimport NAN

from threads cimport (SingleStep, Task, counter, counter_add, spin_until_changed, counter_compare_swap, counter_get,
                      counter_set, counter_swap, now, processor_number, yield_processor)

# The C module _signal is imported directly, because the Python module `signal` converts numbers to enums, which costs
# 25 microseconds for each fit.
from _signal import SIGINT, default_int_handler, getsignal, signal
import _thread

import numpy

cdef object ndarray = numpy.ndarray       # C variables, because Python would look up the module attributes at each use
cdef object empty = numpy.empty


include "../threads/locks.pxi"
include "stepper.pxi"
include "../threads/interrupt.pxi"
include "../threads/team.pxi"
