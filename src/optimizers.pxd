# Each optimizer is one loop over a stretch of the flat parameter vector: p the parameters, g their gradient, m and v its moments.

from libc.math cimport sqrt as sqrt_double
from simd cimport real, vec, VL, load, store, vsqrt

cdef enum Method:         # the numbers are the order of the names in _core.pyx
    SGD
    MOMENTUM
    ADAM

cdef struct Optimizer:
    int method
    double lr
    double momentum       # momentum: v = momentum v + g, p -= lr v
    double beta1          # Adam: m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g**2, and with m and v divided by
    double beta2          # 1 - beta**steps, p -= lr m / (sqrt(v) + eps)
    double eps
    double power1         # beta1**steps and beta2**steps
    double power2


cdef inline void count_step(Optimizer* o) noexcept nogil:
    o.power1 *= o.beta1
    o.power2 *= o.beta2


cdef inline void update(const Optimizer* o, real* p, const real* g, real* m, real* v, Py_ssize_t size) noexcept nogil:
    cdef real lr = <real>o.lr
    cdef real step, root, eps, b1, b2, c1, c2
    cdef vec x, y, d
    cdef Py_ssize_t i
    if o.method == SGD:
        for i from 0 <= i < size by VL:
            store(p + i, load(p + i) - lr * load(g + i))
    elif o.method == MOMENTUM:
        b1 = <real>o.momentum
        for i from 0 <= i < size by VL:
            x = b1 * load(m + i) + load(g + i)
            store(m + i, x)
            store(p + i, load(p + i) - lr * x)
    elif o.method == ADAM:
        b1, b2, c1, c2 = <real>o.beta1, <real>o.beta2, <real>(1 - o.beta1), <real>(1 - o.beta2)
        step = <real>(o.lr / (1 - o.power1))
        root = <real>(1 / sqrt_double(1 - o.power2))
        eps = <real>o.eps
        for i from 0 <= i < size by VL:
            x = load(g + i)
            y = b2 * load(v + i) + (c2 * x) * x
            x = b1 * load(m + i) + c1 * x
            store(m + i, x)
            store(v + i, y)
            x = step * x
            d = root * vsqrt(y) + eps
            store(p + i, load(p + i) - x / d)
