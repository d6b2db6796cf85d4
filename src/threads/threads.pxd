# Cython declarations of threads.h, and functions that divide work between threads.

cdef extern from "threads.h" nogil:
    ctypedef long counter
    long counter_get(counter* c)
    void counter_set(counter* c, long value)
    void counter_add(counter* c, long value)
    long counter_swap(counter* c, long value)
    bint counter_compare_swap(counter* c, long old, long new)
    bint spin_until_changed(counter* c, long value, long max_reads)
    void yield_processor()
    int processor_number()
    ctypedef struct Barrier:
        pass
    ctypedef struct Task:
        void (*work)(void* context, int thread, Py_ssize_t amount) noexcept nogil
        void* context
    ctypedef struct SingleStep:
        bint (*step)(void* context, object X, object y, double rate, double* loss) noexcept
        bint (*outputs)(void* context, object X, object y, Py_ssize_t k, object P) noexcept
        bint (*finish)(void* context, object X, object dP, double rate, double* loss) noexcept
        void* context
    double now()
    void barrier_init(Barrier* b, long threads)
    bint barrier_wait(Barrier* b)
    void barrier_abort(Barrier* b)


cdef inline Py_ssize_t smaller(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    # Return the smaller of two integers.
    return a if a < b else b


cdef inline Py_ssize_t share_start(Py_ssize_t n, int thread, int threads, Py_ssize_t grain) noexcept nogil:
    # Return the index of the first of n items in this thread's share. The index is a multiple of `grain`. The share
    # ends where the share of thread + 1 starts.
    cdef Py_ssize_t grains = (n + grain - 1) // grain
    if threads == 1:      # skip the integer division, which is slow compared with a step of a small network
        return n * thread
    return smaller(n, grains * thread // threads * grain)
