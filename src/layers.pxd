# The only file that knows all kinds of layers: what is asked of each, and whose answer it is. One comparison for a layer and a block of
# rows, outside of every loop.

from simd cimport real
from arena cimport Arena, Purpose
from matmul cimport Ahead, Form
from layer cimport DENSE, Layer, to_net_input
cimport dense


cdef inline void measure(Layer* layer, bint lowest) noexcept nogil:
    # How many rows W has and how long they are, which follows from what the plan says of the layer.
    if layer.kind == DENSE:
        dense.measure(layer, lowest)


cdef inline void lay_out(Layer* layer, Arena* arena, bint lowest, Purpose purpose) noexcept nogil:
    # What it takes beside the buffers that all kinds have.
    if layer.kind == DENSE:
        dense.lay_out(layer, arena, lowest, purpose)


cdef inline void forward(const Layer* layer, const real** X, Py_ssize_t first, Py_ssize_t rows, real* scratch) noexcept nogil:
    # Z and A for `rows` rows of the block from `first` on; X is where each row of the block begins.
    if layer.kind == DENSE:
        dense.forward(layer, X, first, rows, scratch)


cdef inline void backward(const Layer* layer, const Layer* below, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # D of the layer below.
    if layer.kind == DENSE:
        dense.backward(layer, below, first, rows)
    to_net_input(below, first, rows)


cdef inline void gradient(const Layer* layer, const real** X, Form form, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high, real* out,
                          real scale, bint add, bint* broken, Ahead* ahead) noexcept nogil:
    # out = rows low <= k < high of the gradient over the block, the bias being the last one, or out += scale * them. Where `broken` is not
    # NULL, out are parameters: those that would not be finite keep their values, and it is set.
    if layer.kind == DENSE:
        dense.gradient(layer, X, form, rows, low, high, out, scale, add, broken, ahead)
