# Gates of GRU and LSTM and their derivatives, for the rows of one step. recurrent.pxd contains the formulas.

from simd cimport VL, never_inlined, real, vec, load, madd, splat, store
from vmath cimport sigmoid, tanh


cdef inline never_inlined gru_gates(Py_ssize_t rows, Py_ssize_t units, real* g, const real* previous,
                                    real* h) noexcept nogil:
    # Compute the gates and the new state h of a GRU from the net inputs g and the previous state.
    cdef Py_ssize_t _, j
    cdef vec z, r, n
    for _ in range(rows):
        for j from 0 <= j < units by VL:
            z, r = sigmoid(load(g + units + j)), sigmoid(load(g + 2 * units + j))
            n = tanh(madd(r, load(g + j), load(g + 3 * units + j)))
            store(g + units + j, z)
            store(g + 2 * units + j, r)
            store(g + 3 * units + j, n)
            store(h + j, madd(z, load(previous + j) - n, n))
        g += 4 * units
        previous += units
        h += units


cdef inline never_inlined lstm_gates(Py_ssize_t rows, Py_ssize_t units, real* gates, const real* previous, real* cell,
                                     real* cell_tanh, real* h) noexcept nogil:
    # Compute the gates, the new cell state and the new state h of an LSTM from the net inputs and the previous cell
    # state.
    cdef Py_ssize_t _, j
    cdef vec i, f, g, o, c, t
    for _ in range(rows):
        for j from 0 <= j < units by VL:
            i, f = sigmoid(load(gates + j)), sigmoid(load(gates + units + j))
            g, o = tanh(load(gates + 2 * units + j)), sigmoid(load(gates + 3 * units + j))
            c = madd(f, load(previous + j), i * g)
            t = tanh(c)
            store(gates + j, i)
            store(gates + units + j, f)
            store(gates + 2 * units + j, g)
            store(gates + 3 * units + j, o)
            store(cell + j, c)
            store(cell_tanh + j, t)
            store(h + j, o * t)
        gates += 4 * units
        previous += units
        cell += units
        cell_tanh += units
        h += units


# The backward pass processes the steps in reverse order. Rows are therefore also processed from the last one to the
# first, so that addresses decrease steadily. With ascending rows, the hardware prefetcher does not recognize the order,
# which is slow for buffers that exceed the second-level cache.

cdef inline never_inlined gru_deltas(Py_ssize_t rows, Py_ssize_t units, const real* delta, real* gates,
                                     const real* previous, real* carry) noexcept nogil:
    # Replace the gates of a GRU by the derivatives of the loss with respect to their net inputs. Write to `carry` the
    # part of the derivative with respect to the previous state that does not pass through the gates.
    cdef Py_ssize_t row, j, k
    cdef real* g
    cdef vec d, h_n, z, r, n, d_n, one = splat(1)
    for row in range(rows - 1, -1, -1):
        g = gates + 4 * row * units
        for j from 0 <= j < units by VL:
            k = row * units + j
            d, h_n, z = load(delta + k), load(g + j), load(g + units + j)
            r, n = load(g + 2 * units + j), load(g + 3 * units + j)
            d_n = d * (one - z) * (one - n * n)
            store(carry + k, d * z)
            store(g + units + j, d * (load(previous + k) - n) * (z * (one - z)))
            store(g + 2 * units + j, d_n * h_n * (r * (one - r)))
            store(g + 3 * units + j, d_n)
            store(g + j, d_n * r)


cdef inline never_inlined lstm_deltas(Py_ssize_t rows, Py_ssize_t units, const real* delta, real* gates,
                                      const real* previous, const real* cell_tanh, real* carry) noexcept nogil:
    # Replace the gates of an LSTM by the derivatives of the loss with respect to their net inputs. Replace `carry`, the
    # derivative with respect to the cell state of this step, by the one with respect to the previous cell state.
    cdef Py_ssize_t row, j, k
    cdef real* row_gates
    cdef vec d, i, f, g, o, t, d_c, one = splat(1)
    for row in range(rows - 1, -1, -1):
        row_gates = gates + 4 * row * units
        for j from 0 <= j < units by VL:
            k = row * units + j
            d, t = load(delta + k), load(cell_tanh + k)
            i, f = load(row_gates + j), load(row_gates + units + j)
            g, o = load(row_gates + 2 * units + j), load(row_gates + 3 * units + j)
            d_c = madd(d * o, one - t * t, load(carry + k))
            store(carry + k, d_c * f)
            store(row_gates + j, d_c * g * (i * (one - i)))
            store(row_gates + units + j, d_c * load(previous + k) * (f * (one - f)))
            store(row_gates + 2 * units + j, d_c * i * (one - g * g))
            store(row_gates + 3 * units + j, d * t * (o * (one - o)))
