"""Fit the polynomials of exp, log, sin, cos and the normal distribution, and print src/kernels/polynomials.h.

    python tools/polynomials.py > src/kernels/polynomials.h

Each polynomial is a minimax fit by the Remez exchange algorithm with 40 digits. The comments in the header state the
error of the fit before its coefficients are rounded. Needs mpmath.
"""

import mpmath as mp

mp.mp.dps = 40  # decimal digits of all computations
MIN_WEIGHT = mp.mpf(10) ** -9  # added to the error weights, so that all are positive


def minimax(f, low, high, degree, weight, rounds=12, points=600):
    """Return the coefficients c that minimize the maximum of |weight(x) (f(x) - sum c[k] x**k)|, and this maximum."""
    n = degree + 2
    middle, half = (mp.mpf(low) + high) / 2, (mp.mpf(high) - low) / 2
    nodes = [middle - half * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    grid = [middle - half * mp.cos(mp.pi * i / mp.mpf(points)) for i in range(points + 1)]
    values, weights = [f(x) for x in grid], [weight(x) for x in grid]
    best = None
    for _ in range(rounds):
        matrix, right = mp.matrix(n, n), mp.matrix(n, 1)
        for i, x in enumerate(nodes):
            for k in range(degree + 1):
                matrix[i, k] = ((x - middle) / half) ** k
            matrix[i, degree + 1] = (-1) ** i / weight(x)
            right[i] = f(x)
        solution = list(mp.lu_solve(matrix, right))
        scaled, level = solution[: degree + 1], abs(solution[degree + 1])
        errors = [
            w * (v - mp.polyval(scaled[::-1], (x - middle) / half))
            for w, v, x in zip(weights, values, grid, strict=True)
        ]
        largest = max(map(abs, errors))
        if best is None or largest < best[1]:
            best = scaled, largest
        peaks = alternating_peaks(errors)
        if len(peaks) < n or largest < level * mp.mpf("1.001"):
            break
        while len(peaks) > n:
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        nodes = [grid[i] for i in peaks]
    scaled, largest = best
    powers = [mp.mpf(0)]
    for c in reversed(scaled):  # Horner's method for polynomials: powers = powers * (x - middle) / half + c
        shifted = [mp.mpf(0), *(p / half for p in powers)]
        powers = [s - p * middle / half for s, p in zip(shifted, [*powers, mp.mpf(0)], strict=True)]
        powers[0] += c
    return powers[: degree + 1], largest


def alternating_peaks(errors):
    """Return the index of the largest error in each sequence of errors with the same sign."""
    peaks, start = [], 0
    for i in range(1, len(errors) + 1):
        if i == len(errors) or (errors[i] > 0) != (errors[start] > 0):
            peaks.append(max(range(start, i), key=lambda j: abs(errors[j])))
            start = i
    return peaks


def exp_tail(r):
    """exp(r) = 1 + r + r**2 * exp_tail(r)."""
    return mp.mpf(1) / 2 + r / 6 if abs(r) < mp.mpf(10) ** -12 else (mp.expm1(r) - r) / r**2


def log_tail(z):
    """log(m) = 2 s + s z log_tail(z), where s = (m - 1) / (m + 1) and z = s**2."""
    s = mp.sqrt(z)
    return mp.mpf(2) / 3 + 2 * z / 5 if z < mp.mpf(10) ** -12 else (mp.log((1 + s) / (1 - s)) - 2 * s) / s / z


def arctan_tail(z):
    """arctan(t) = t + t z arctan_tail(z), where z = t**2."""
    t = mp.sqrt(z)
    return -mp.mpf(1) / 3 + z / 5 if z < mp.mpf(10) ** -12 else (mp.atan(t) / t - 1) / z


def normal_tail(t):
    """P(X > a) = exp(-a**2 / 2) * (1 - t) * normal_tail(t) for standard normal X, t = (a - 4) / (a + 4)."""
    a = 4 * (1 + t) / (1 - t)
    return mp.erfc(a / mp.sqrt(2)) / 2 * mp.exp(a * a / 2) / (1 - t)


def sin_tail(z):
    """sin(r) = r + r z sin_tail(z), where z = r**2."""
    r = mp.sqrt(z)
    return -mp.mpf(1) / 6 + z / 120 if z < mp.mpf(10) ** -12 else (mp.sin(r) - r) / r / z


def cos_tail(z):
    """cos(r) = 1 - z / 2 + z**2 cos_tail(z), where z = r**2."""
    return mp.mpf(1) / 24 - z / 720 if z < mp.mpf(10) ** -12 else (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2


MAX_SQUARE = (mp.pi / 4 * mp.mpf("1.0001")) ** 2  # the engine reduces arguments of sin and cos to less than pi / 4
HALF_LN2 = mp.log(2) / 2 * mp.mpf("1.0001")  # the engine reduces arguments of exp to slightly less than this
# For each function: the function to fit, the ends of the interval, and the weight of the error.
EXP = exp_tail, -HALF_LN2, HALF_LN2, lambda r: abs(r) + MIN_WEIGHT
LOG = log_tail, 0, mp.mpf("0.02945"), lambda z: z + MIN_WEIGHT
SIN = sin_tail, 0, MAX_SQUARE, lambda z: z + MIN_WEIGHT
COS = cos_tail, 0, MAX_SQUARE, lambda z: z**2 + MIN_WEIGHT
ARCTAN = arctan_tail, 0, (mp.sqrt(2) - 1) ** 2 * mp.mpf("1.0001"), lambda z: z + MIN_WEIGHT
NORMAL = normal_tail, -1, lambda max_a: (max_a - 4) / (max_a + 4), lambda t: 1 / normal_tail(t)


def table(name, fit, degree, digits, max_a=None):
    """Return a C array of coefficients; `max_a` is the largest argument of the normal distribution."""
    f, low, high, weight = fit
    coefficients, error = minimax(f, low, high(mp.mpf(max_a)) if callable(high) else high, degree, weight)
    lines, line = [], "   "
    for c in coefficients:
        number = f" {mp.nstr(c, digits)}{'f' if digits < 12 else ''},"
        if len(line + number) > 110:
            lines.append(line)
            line = "   "
        line += number
    body = "\n".join([*lines, line])
    comment = f"/* Coefficients of the polynomial {f.__name__}:\n   {f.__doc__}\n"
    comment += f"   Largest error of the fit: {mp.nstr(error, 2)}. */"
    return f"{comment}\nstatic const real {name}_TAIL[] = {{\n{body}\n}};"


if __name__ == "__main__":
    print("/* This file is generated by tools/polynomials.py; edit that script instead. */")
    print('#ifndef NNC_POLYNOMIALS_H\n#define NNC_POLYNOMIALS_H\n#include "simd.h"\n\n#ifdef NNC_FLOAT64')
    print(table("EXP", EXP, 9, 19), table("LOG", LOG, 6, 19), table("NORMAL", NORMAL, 22, 19, 39), sep="\n")
    print(table("SIN", SIN, 5, 19), table("COS", COS, 5, 19), table("ARCTAN", ARCTAN, 10, 19), sep="\n")
    print("#else")
    print(table("EXP", EXP, 4, 10), table("LOG", LOG, 2, 10), table("NORMAL", NORMAL, 9, 10, 14), sep="\n")
    print(table("SIN", SIN, 2, 10), table("COS", COS, 2, 10), table("ARCTAN", ARCTAN, 4, 10), sep="\n")
    print("#endif\n")
    for name in ("EXP", "LOG", "NORMAL", "SIN", "COS", "ARCTAN"):
        print(f"enum {{ {name}_TERMS = sizeof {name}_TAIL / sizeof(real) }};")
    print("\n#endif")
