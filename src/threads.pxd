# What threads.h offers.

cdef extern from "threads.h" nogil:
    ctypedef struct Barrier:
        pass
    double now()
    void barrier_init(Barrier* b, long threads)
    void barrier_wait(Barrier* b)
    double barrier_late(Barrier* b)
