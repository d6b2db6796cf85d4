"""Fits the polynomials of the engine's exp, log and normal distribution and prints src/polynomials.h (needs mpmath).

    python tools/polynomials.py > src/polynomials.h

Each is a minimax fit by Remez' exchange algorithm in 40 digits; the error in the header's comments is the fit's own,
before rounding.
"""

import mpmath as mp

mp.mp.dps = 40
TINY = mp.mpf(10) ** -9


def minimax(f, low, high, degree, weight, rounds=12, points=600):
    """Coefficients c of the polynomial that minimises max |weight(x) (f(x) - sum c[k] x**k)|, and that maximum."""
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
    for c in reversed(scaled):  # Horner's scheme on polynomials: powers = powers * (x - middle) / half + c
        shifted = [mp.mpf(0), *(p / half for p in powers)]
        powers = [s - p * middle / half for s, p in zip(shifted, [*powers, mp.mpf(0)], strict=True)]
        powers[0] += c
    return powers[: degree + 1], largest


def alternating_peaks(errors):
    """The index of the largest error of each run of one sign."""
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


def normal_tail(t):
    """P(X > a) = exp(-a**2 / 2) * (1 - t) * normal_tail(t) for standard normal X, t = (a - 4) / (a + 4)."""
    a = 4 * (1 + t) / (1 - t)
    return mp.erfc(a / mp.sqrt(2)) / 2 * mp.exp(a * a / 2) / (1 - t)


HALF_LN2 = mp.log(2) / 2 * mp.mpf("1.0001")
EXP = exp_tail, -HALF_LN2, HALF_LN2, lambda r: abs(r) + TINY
LOG = log_tail, 0, mp.mpf("0.02945"), lambda z: z + TINY
NORMAL = normal_tail, -1, lambda farthest: (farthest - 4) / (farthest + 4), lambda t: 1 / normal_tail(t)


def table(name, fit, degree, digits, farthest=None):
    f, low, high, weight = fit
    coefficients, error = minimax(f, low, high(mp.mpf(farthest)) if callable(high) else high, degree, weight)
    lines, line = [], "   "
    for c in coefficients:
        number = f" {mp.nstr(c, digits)}{'f' if digits < 12 else ''},"
        if len(line + number) > 110:
            lines.append(line)
            line = "   "
        line += number
    body = "\n".join([*lines, line])
    return f"/* {f.__doc__} Error {mp.nstr(error, 2)}. */\nstatic const real {name}_TAIL[] = {{\n{body}\n}};"


if __name__ == "__main__":
    print("/* Written by tools/polynomials.py, which says how: change it there. */")
    print('#ifndef NNC_POLYNOMIALS_H\n#define NNC_POLYNOMIALS_H\n#include "simd.h"\n\n#ifdef NNC_FLOAT64')
    print(table("EXP", EXP, 9, 19), table("LOG", LOG, 6, 19), table("NORMAL", NORMAL, 22, 19, 39), sep="\n")
    print("#else")
    print(table("EXP", EXP, 4, 10), table("LOG", LOG, 2, 10), table("NORMAL", NORMAL, 9, 10, 14), sep="\n")
    print("#endif\n")
    for name in ("EXP", "LOG", "NORMAL"):
        print(f"enum {{ {name}_TERMS = sizeof {name}_TAIL / sizeof(real) }};")
    print("\n#endif")
