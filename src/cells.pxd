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


cdef inline never_inlined gru_deltas(Py_ssize_t rows, Py_ssize_t units, const real* delta, real* g,
                                     const real* previous, real* carry) noexcept nogil:
    # Replace the gates of a GRU by the derivatives of the loss with respect to their net inputs. Write to `carry` the
    # part of the derivative with respect to the previous state that does not pass through the gates.
    cdef Py_ssize_t _, j
    cdef vec d, h_n, z, r, n, d_n, one = splat(1)
    for _ in range(rows):
        for j from 0 <= j < units by VL:
            d, h_n, z = load(delta + j), load(g + j), load(g + units + j)
            r, n = load(g + 2 * units + j), load(g + 3 * units + j)
            d_n = d * (one - z) * (one - n * n)
            store(carry + j, d * z)
            store(g + units + j, d * (load(previous + j) - n) * (z * (one - z)))
            store(g + 2 * units + j, d_n * h_n * (r * (one - r)))
            store(g + 3 * units + j, d_n)
            store(g + j, d_n * r)
        delta += units
        g += 4 * units
        previous += units
        carry += units


cdef inline never_inlined lstm_deltas(Py_ssize_t rows, Py_ssize_t units, const real* delta, real* gates,
                                      const real* previous, const real* cell_tanh, real* carry) noexcept nogil:
    # Replace the gates of an LSTM by the derivatives of the loss with respect to their net inputs. Replace `carry`, the
    # derivative with respect to the cell state of this step, by the one with respect to the previous cell state.
    cdef Py_ssize_t _, j
    cdef vec d, i, f, g, o, t, d_c, one = splat(1)
    for _ in range(rows):
        for j from 0 <= j < units by VL:
            d, i, f, t = load(delta + j), load(gates + j), load(gates + units + j), load(cell_tanh + j)
            g, o = load(gates + 2 * units + j), load(gates + 3 * units + j)
            d_c = madd(d * o, one - t * t, load(carry + j))
            store(carry + j, d_c * f)
            store(gates + j, d_c * g * (i * (one - i)))
            store(gates + units + j, d_c * load(previous + j) * (f * (one - f)))
            store(gates + 2 * units + j, d_c * i * (one - g * g))
            store(gates + 3 * units + j, d * t * (o * (one - o)))
        delta += units
        gates += 4 * units
        previous += units
        cell_tanh += units
        carry += units
