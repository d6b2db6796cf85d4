# Objective of a training run that replaces the network and its loss, for example derivatives as targets (slopes.pxd) or
# residuals of equations (residual.pxd). The functions of an objective call the kernels that they need. Optimizers,
# stopping rules, penalties and threads are those of every other run (run.pxd).

from simd cimport real

cdef struct Objective:
    void* context         # first argument of the functions
    # Function that returns the sum of the loss terms of the rows from `first` to first + rows - 1, in the order of the
    # epoch. It writes the gradient of `scale` times this sum to `gradient`, in the layout of the parameters. `thread`
    # is the number of the calling thread. NULL: the run has no objective, but the loss of the network.
    double (*gradient)(void* context, int thread, Py_ssize_t first, Py_ssize_t rows, double scale,
                       real* gradient) noexcept nogil
    # function that one thread calls after each step, for example to record parts of the loss of an epoch; or NULL
    void (*end_step)(void* context, Py_ssize_t epoch) noexcept nogil
    # all blocks of a batch are processed between two barriers, for any number of threads; else one block per thread
    bint in_one_round
